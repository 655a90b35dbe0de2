//! Keys: what CURVE peers are known by, and prove that they are (RFC 26; as text RFC 32).

use std::{fmt, str::FromStr};

use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use crate::{
    cipher,
    entropy::{Entropy, EntropyError},
    z85::{self, Z85Error},
};

/// The public half of a key pair: others know its holder by it
///
/// As text it is Z85, 40 characters.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CurvePublicKey([u8; KEY_LEN]);

/// The secret half of a key pair
///
/// Wiped when dropped, never shown, and compared without telling where two differ.
#[derive(Clone)]
pub struct CurveSecretKey(Zeroizing<[u8; KEY_LEN]>);

impl CurvePublicKey {
    /// The key of these octets; any will do, though with some no agreement can be reached
    pub const fn from_octets(octets: [u8; KEY_LEN]) -> Self {
        Self(octets)
    }

    /// The key itself
    pub const fn as_octets(&self) -> &[u8; KEY_LEN] {
        &self.0
    }
}

impl fmt::Display for CurvePublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&z85::encode(&self.0).unwrap_or_default())
    }
}

impl fmt::Debug for CurvePublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CurvePublicKey({self})")
    }
}

/// Takes Z85
impl FromStr for CurvePublicKey {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<Self, KeyError> {
        read_key(text).map(|octets| Self(*octets))
    }
}

impl CurveSecretKey {
    /// The key of these octets; whoever calls wipes his own copy
    pub fn from_octets(octets: [u8; KEY_LEN]) -> Self {
        Self(Zeroizing::new(octets))
    }

    /// A new key
    ///
    /// # Errors
    /// When no randomness is to be had.
    pub fn generate(entropy: &dyn Entropy) -> Result<Self, EntropyError> {
        let mut octets = Zeroizing::new([0; KEY_LEN]);
        entropy.fill(&mut octets[..])?;
        Ok(Self(octets))
    }

    /// The key itself: mind where it goes
    pub fn as_octets(&self) -> &[u8; KEY_LEN] {
        &self.0
    }

    /// The key as Z85, 40 characters, wiped when dropped
    pub fn to_z85(&self) -> Zeroizing<String> {
        Zeroizing::new(z85::encode(&self.0[..]).unwrap_or_default())
    }

    /// The public half that belongs to it
    pub fn public(&self) -> CurvePublicKey {
        CurvePublicKey(cipher::public_of(&self.0))
    }
}

/// Takes as long for any two keys
impl PartialEq for CurveSecretKey {
    fn eq(&self, other: &Self) -> bool {
        self.0.ct_eq(&other.0[..]).into()
    }
}

impl Eq for CurveSecretKey {}

impl fmt::Debug for CurveSecretKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CurveSecretKey(…)")
    }
}

/// Takes Z85
impl FromStr for CurveSecretKey {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<Self, KeyError> {
        read_key(text).map(Self)
    }
}

/// Why text is no key; says nothing of what the text was
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum KeyError {
    /// A key has 40 characters
    #[error("a key has 40 characters of Z85, this text has {octets}")]
    Length {
        /// Octets of the text
        octets: usize,
    },
    /// Not Z85
    #[error("not a key in Z85: {0}")]
    Text(#[from] Z85Error),
}

fn read_key(text: &str) -> Result<Zeroizing<[u8; KEY_LEN]>, KeyError> {
    let wrong_length = KeyError::Length { octets: text.len() };
    if text.len() != KEY_TEXT_LEN {
        return Err(wrong_length);
    }
    let octets = z85::decode(text)?;
    let mut key = Zeroizing::new([0; KEY_LEN]);
    key.copy_from_slice(octets.get(..KEY_LEN).ok_or(wrong_length)?);
    Ok(key)
}

/// Octets of a key of either kind
pub const KEY_LEN: usize = 32;
const KEY_TEXT_LEN: usize = 40;

#[cfg(test)]
mod tests {
    use super::*;

    /// From libzmq's documentation of `zmq_curve`: the keys of its examples
    const PUBLIC: &str = "rq:rM>}U?@Lns47E1%kR.o@n%FcmmsL/@{H8]yf7";
    const SECRET: &str = "JTKVSB%%)wK0E.X)V>+}o?pNmC{O&4W4b!Ni{Lh6";

    #[test]
    fn a_pair_that_everybody_knows() {
        let secret: CurveSecretKey = SECRET.parse().unwrap();
        assert_eq!(secret.public().to_string(), PUBLIC);
        assert_eq!(secret.to_z85().as_str(), SECRET);
        assert_eq!(PUBLIC.parse(), Ok(secret.public()));
        assert_eq!(CurvePublicKey::from_octets(*secret.public().as_octets()), secret.public());
    }

    #[test]
    fn secrets_are_not_shown() {
        let secret: CurveSecretKey = SECRET.parse().unwrap();
        assert_eq!(format!("{secret:?}"), "CurveSecretKey(…)");
        assert_eq!(secret, secret.clone());
        assert_ne!(secret, CurveSecretKey::from_octets([7; 32]));
    }

    #[test]
    fn what_is_no_key_is_refused() {
        assert_eq!("abc".parse::<CurvePublicKey>(), Err(KeyError::Length { octets: 3 }));
        let spaced = format!(" {}", &PUBLIC[1..]);
        assert_eq!(spaced.parse::<CurveSecretKey>(), Err(KeyError::Text(Z85Error::Character { at: 0 })));
    }

    #[derive(Debug)]
    struct Dry;

    impl Entropy for Dry {
        fn fill(&self, _: &mut [u8]) -> Result<(), EntropyError> {
            Err(EntropyError::new("dry"))
        }
    }

    #[test]
    fn no_randomness_no_key() {
        let error = CurveSecretKey::generate(&Dry).unwrap_err();
        assert_eq!(error.to_string(), "no randomness was to be had: dry");
    }
}

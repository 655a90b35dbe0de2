//! The name of a service: 1 to 255 octets, of whatever kind.

use std::borrow::Borrow;
use std::fmt;

use bytes::Bytes;

use super::Malformed;

/// The name of a service
///
/// RFC 7 calls it a printable string and compares octets; so do we, and show what can't be printed as `\x..`.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ServiceName(Bytes);

/// Why octets are not the name of a service
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ServiceNameError {
    /// There are none
    #[error("the name of a service can't be empty")]
    Empty,
    /// There are too many
    #[error("the name of a service has at most {SERVICE_NAME_LIMIT} octets, not {octets}")]
    TooLong {
        /// How many there are
        octets: usize,
    },
}

impl ServiceName {
    /// The name that these octets are
    ///
    /// # Errors
    /// When there are none or more than [`SERVICE_NAME_LIMIT`].
    pub fn new(octets: impl Into<Bytes>) -> Result<Self, ServiceNameError> {
        let octets = octets.into();
        match octets.len() {
            0 => Err(ServiceNameError::Empty),
            octets @ 256.. => Err(ServiceNameError::TooLong { octets }),
            _ => Ok(Self(octets)),
        }
    }

    /// Its octets
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// Its octets, shared
    #[must_use]
    pub fn bytes(&self) -> &Bytes {
        &self.0
    }

    /// Its octets
    #[must_use]
    pub fn into_bytes(self) -> Bytes {
        self.0
    }

    /// A copy that holds on to nothing but its own octets, for whoever keeps it longer than the message it came in
    #[must_use]
    pub fn detached(&self) -> Self {
        Self(Bytes::copy_from_slice(&self.0))
    }
}

/// So that what can't fail and what can are taken alike
impl From<std::convert::Infallible> for ServiceNameError {
    fn from(never: std::convert::Infallible) -> Self {
        match never {}
    }
}

impl From<ServiceNameError> for Malformed {
    fn from(error: ServiceNameError) -> Self {
        match error {
            ServiceNameError::Empty => Self::NoService,
            ServiceNameError::TooLong { .. } => Self::ServiceTooLong,
        }
    }
}

impl TryFrom<&str> for ServiceName {
    type Error = ServiceNameError;

    fn try_from(name: &str) -> Result<Self, ServiceNameError> {
        Self::new(Bytes::copy_from_slice(name.as_bytes()))
    }
}

impl TryFrom<String> for ServiceName {
    type Error = ServiceNameError;

    fn try_from(name: String) -> Result<Self, ServiceNameError> {
        Self::new(name)
    }
}

impl TryFrom<&String> for ServiceName {
    type Error = ServiceNameError;

    fn try_from(name: &String) -> Result<Self, ServiceNameError> {
        name.as_str().try_into()
    }
}

impl From<&ServiceName> for ServiceName {
    fn from(name: &ServiceName) -> Self {
        name.clone()
    }
}

impl std::str::FromStr for ServiceName {
    type Err = ServiceNameError;

    fn from_str(name: &str) -> Result<Self, ServiceNameError> {
        name.try_into()
    }
}

impl Borrow<[u8]> for ServiceName {
    fn borrow(&self) -> &[u8] {
        &self.0
    }
}

impl AsRef<[u8]> for ServiceName {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Display for ServiceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        escaped(&self.0).fmt(f)
    }
}

impl fmt::Debug for ServiceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{self}\"")
    }
}

/// As text, escaped where it has to be
impl serde::Serialize for ServiceName {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// Octets as text: UTF-8 as it is, control characters, backslashes and all else as `\x..`, so that no two look alike
pub fn escaped(octets: &[u8]) -> impl fmt::Display + '_ {
    Escaped(octets)
}

struct Escaped<'a>(&'a [u8]);

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        use fmt::Write;
        for chunk in self.0.utf8_chunks() {
            for character in chunk.valid().chars() {
                match character {
                    '\\' => f.write_str("\\x5c")?,
                    control if control.is_control() => {
                        let mut octets = [0; 4];
                        control.encode_utf8(&mut octets).bytes().try_for_each(|octet| write!(f, "\\x{octet:02x}"))?;
                    }
                    plain => f.write_char(plain)?,
                }
            }
            chunk.invalid().iter().try_for_each(|octet| write!(f, "\\x{octet:02x}"))?;
        }
        Ok(())
    }
}

/// Octets of the longest name; what fits a zproto string, and more than any specification asks
pub const SERVICE_NAME_LIMIT: usize = 255;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn holds_1_to_255_octets_of_any_kind() {
        assert_eq!(ServiceName::new(""), Err(ServiceNameError::Empty));
        assert_eq!(ServiceName::new(vec![b'a'; 256]), Err(ServiceNameError::TooLong { octets: 256 }));
        assert_eq!(ServiceName::new(vec![0xff; 255]).unwrap().as_bytes(), [0xff; 255]);
        assert_eq!("echo".parse(), ServiceName::new("echo"));
    }

    #[test]
    fn no_two_look_alike() {
        let shown = |octets: &'static [u8]| ServiceName::new(octets).unwrap().to_string();
        assert_eq!(shown("küche.licht".as_bytes()), "küche.licht");
        assert_eq!(shown(b"a\xffb\0\n"), "a\\xffb\\x00\\x0a");
        assert_eq!(shown(b"a\\xff"), "a\\x5cxff");
        assert_eq!(serde_json::to_string(&ServiceName::new(&b"\xfe"[..]).unwrap()).unwrap(), r#""\\xfe""#);
    }
}

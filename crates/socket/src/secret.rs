//! Octets that nobody may see: passwords.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

/// Octets that are wiped when the last copy is dropped, never shown, and compared without telling where two differ
///
/// Cheap to clone: all clones are one. Empty by default, which stands for none.
#[derive(Clone, Default)]
pub struct Secret(Arc<Zeroizing<Vec<u8>>>);

impl Secret {
    /// The octets themselves: mind where they go
    #[must_use]
    pub fn as_octets(&self) -> &[u8] {
        &self.0
    }

    /// Whether there is none
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl From<Vec<u8>> for Secret {
    fn from(octets: Vec<u8>) -> Self {
        Self(Arc::new(Zeroizing::new(octets)))
    }
}

impl From<String> for Secret {
    fn from(text: String) -> Self {
        text.into_bytes().into()
    }
}

impl From<&str> for Secret {
    fn from(text: &str) -> Self {
        text.as_bytes().to_vec().into()
    }
}

/// Copies them; what is left in the buffer is the caller's to wipe
impl From<Bytes> for Secret {
    fn from(octets: Bytes) -> Self {
        octets.to_vec().into()
    }
}

impl PartialEq for Secret {
    fn eq(&self, other: &Self) -> bool {
        self.as_octets().ct_eq(other.as_octets()).into()
    }
}

impl Eq for Secret {}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.is_empty() { "" } else { SET })
    }
}

/// What is shown in place of a secret
pub(crate) const SET: &str = "(set)";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_compared_and_never_shown() {
        let secret = Secret::from("wonder");
        assert_eq!(secret, Secret::from(Bytes::from("wonder")));
        assert_ne!(secret, Secret::from("wander".to_owned()));
        assert_eq!((format!("{secret:?}"), format!("{:?}", Secret::default())), ("(set)".to_owned(), String::new()));
    }
}

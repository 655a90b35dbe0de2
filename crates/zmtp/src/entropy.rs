//! Entropy: randomness, which the owner provides as it provides octets and instants.

use std::fmt;

/// Where randomness comes from; the core has none of its own
///
/// What it gives becomes keys and nonces, so nobody may be able to guess it: the operating system's generator, or in
/// tests a fixed sequence.
pub trait Entropy: fmt::Debug + Send + Sync {
    /// Fills `octets` with randomness
    ///
    /// # Errors
    /// When there is none to be had; whatever it was for does not happen then.
    fn fill(&self, octets: &mut [u8]) -> Result<(), EntropyError>;
}

/// No randomness was to be had, with the cause
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no randomness was to be had: {cause}")]
pub struct EntropyError {
    cause: String,
}

impl EntropyError {
    /// With the cause as text
    pub fn new(cause: impl fmt::Display) -> Self {
        Self { cause: cause.to_string() }
    }
}

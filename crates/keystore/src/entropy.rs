//! Randomness from the operating system.

use tidings_zmtp::{Entropy, EntropyError};

/// The operating system's generator: what keys and nonces are made of
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemEntropy;

impl Entropy for SystemEntropy {
    fn fill(&self, octets: &mut [u8]) -> Result<(), EntropyError> {
        getrandom::fill(octets).map_err(EntropyError::new)
    }
}

//! Sealing: the messages of CURVE, each frame in a box of its own (RFC 26, "The MESSAGE Command").
//!
//! `07 MESSAGE`, a counter, and a box of one octet of flags and the frame's body. Outside stands a frame without any
//! flags: whether more follows, or that the body is a command, is said inside (libzmq's form).

use crate::cipher::{MAC_LEN, SharedKey};

/// One connection's key and counters
#[derive(Debug)]
pub(crate) struct Sealing {
    key: SharedKey,
    side: Side,
    /// The next to be used
    next: Option<u64>,
    /// The last one heard
    heard: u64,
}

/// Who we are, which the nonces tell
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    Client,
    Server,
}

impl Sealing {
    pub(super) fn new(key: SharedKey, side: Side, next: u64, heard: u64) -> Self {
        Self { key, side, next: Some(next), heard }
    }
}

/// A nonce that counts
#[inline]
pub(super) fn short_nonce(prefix: &[u8; 16], counter: u64) -> [u8; 24] {
    let mut nonce = [0; 24];
    nonce[..16].copy_from_slice(prefix);
    nonce[16..].copy_from_slice(&counter.to_be_bytes());
    nonce
}

/// Octets that a frame's body grows by
pub(crate) const SEALED_OVERHEAD: usize = PREFIX.len() + 8 + MAC_LEN + 1;
const PREFIX: &[u8; 8] = b"\x07MESSAGE";

//! Tokens: what a worker sends back with its reply, so that the broker knows to which request.
//!
//! Eight octets: a number that can't be foreseen, and the request's place, hidden behind it. A token is good for the
//! worker it was given to and as long as that owes an answer.

use std::hash::Hasher;

use bytes::{Bytes, BytesMut};

use crate::wire::TOKEN_LEN;

pub(super) struct Tokens {
    seed: u64,
    made: u64,
    /// Tokens are cut from a larger piece, which costs less than an allocation each
    piece: BytesMut,
}

impl Tokens {
    pub(super) fn new(seed: u64) -> Self {
        Self { seed, made: 0, piece: BytesMut::new() }
    }

    /// A token for a place: whole, and the number in it that changes
    pub(super) fn make(&mut self, index: u32) -> (u64, u32) {
        self.made += 1;
        let mut hasher = std::hash::DefaultHasher::new();
        hasher.write_u64(self.seed);
        hasher.write_u64(self.made);
        let secret = (hasher.finish() >> 32) as u32;
        (whole(index, secret), secret)
    }

    /// The frame that it travels as
    pub(super) fn frame(&mut self, token: u64) -> Bytes {
        if self.piece.len() < TOKEN_LEN {
            self.piece = BytesMut::zeroed(PIECE);
        }
        if let Some(place) = self.piece.get_mut(..TOKEN_LEN) {
            place.copy_from_slice(&token.to_be_bytes());
        }
        self.piece.split_to(TOKEN_LEN).freeze()
    }
}

/// The token of a place with that number in it
pub(super) fn whole(index: u32, secret: u32) -> u64 {
    u64::from(secret) << 32 | u64::from(index ^ secret)
}

/// Reads a token: the number in it and the place
pub(super) fn read(token: u64) -> (u32, u32) {
    let secret = (token >> 32) as u32;
    (secret, token as u32 ^ secret)
}

/// Reads the frame
pub(super) fn from_frame(frame: &[u8]) -> Option<u64> {
    frame.try_into().ok().map(u64::from_be_bytes)
}

/// Tokens for 512 requests
const PIECE: usize = 4096;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn leads_back_to_its_place_and_is_never_the_same() {
        let mut tokens = Tokens::new(7);
        let mut seen = std::collections::HashSet::new();
        for index in [0, 1, 1, 1, u32::MAX - 1].into_iter().cycle().take(2000) {
            let (token, secret) = tokens.make(index);
            let frame = tokens.frame(token);
            assert_eq!(from_frame(&frame), Some(token));
            assert_eq!(read(token), (secret, index));
            assert!(seen.insert(token));
        }
        assert_eq!(from_frame(b"1234567"), None);
    }
}

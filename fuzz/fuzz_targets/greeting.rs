//! Greetings in any pieces: the same is heard, with bounded input waiting.
//!
//! Input: one octet for the length of the pieces, then the stream.
#![no_main]

use bytes::BytesMut;
use libfuzzer_sys::fuzz_target;
use tidings_zmtp::{Greeting, GreetingReader, Heard, Opening};

fn heard(octets: &[u8], piece: usize) -> (Vec<Heard>, BytesMut) {
    let (mut reader, mut input, mut all) = (GreetingReader::new(), BytesMut::new(), Vec::new());
    for piece in octets.chunks(piece) {
        input.extend_from_slice(piece);
        while let Some(heard) = reader.read(&mut input) {
            all.push(heard);
        }
        let opened = all.iter().any(|heard| matches!(heard, Heard::Opening(_)));
        assert!(opened || input.len() < Greeting::LEN, "at most a greeting waits");
    }
    (all, input)
}

fuzz_target!(|data: &[u8]| {
    let Some((&piece, octets)) = data.split_first() else {
        return;
    };
    let whole = heard(octets, octets.len().max(1));
    assert_eq!(whole, heard(octets, usize::from(piece).max(1)));
    assert!(whole.0.len() <= 3);
    if let Some(Heard::Opening(Opening::Modern { greeting, .. })) = whole.0.last() {
        let again = heard(&greeting.encode(octets.len()), Greeting::LEN);
        assert_eq!(again.0.last(), whole.0.last(), "a greeting leads back");
        assert!(again.1.is_empty());
    }
});

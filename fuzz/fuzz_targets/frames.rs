//! Frame headers in both framings: ceilings hold, prefixes ask for more, headers lead back.
//!
//! Input: two octets for the ceiling, then the octets of a header.
#![no_main]

use bytes::BytesMut;
use libfuzzer_sys::fuzz_target;
use tidings_zmtp::{FrameError, FrameHeader, Framing};

fuzz_target!(|data: &[u8]| {
    let [high, low, octets @ ..] = data else {
        return;
    };
    // From nothing to all that 64 bits can say, in steps that hit the edges.
    let ceiling = match high {
        0xff => u64::MAX >> (low % 64),
        _ => u64::from(u16::from_be_bytes([*high, *low])),
    };
    for framing in [Framing::V1, Framing::V2] {
        match FrameHeader::decode(framing, octets, ceiling) {
            Ok(Some((header, taken))) => {
                assert!(header.body_len <= ceiling && taken <= 10 && taken <= octets.len());
                assert_eq!(FrameHeader::decode(framing, &octets[..taken - 1], ceiling), Ok(None));
                let mut encoded = BytesMut::new();
                header.encode(framing, &mut encoded);
                assert!(encoded.len() <= taken, "the shortest form is written");
                let again = FrameHeader::decode(framing, &encoded, ceiling);
                assert_eq!(again, Ok(Some((header, encoded.len()))));
            }
            Ok(None) => assert!(octets.len() < 10),
            Err(FrameError::TooLong { octets, ceiling: told }) => assert!(octets > ceiling && told == ceiling),
            Err(_) => assert_eq!(framing, Framing::V1),
        }
    }
});

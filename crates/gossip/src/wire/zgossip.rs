//! ZGP 1, the wire of CZMQ's zgossip: five messages of one frame each.
//!
//! `AA A0`, id (1 octet), version (1 octet, always 1); PUBLISH goes on with key (length octet and text), value (length of
//! 4 octets and text) and a time to live in milliseconds (4 octets). Numbers are big-endian. No other file reads or writes
//! these octets.
//!
//! A CZMQ node whose reader fails stops for good, so [`decode`] is as strict as that reader and [`encode`] writes nothing
//! that it would choke on. It takes octets behind the last field, and so do we. Its strings are C's: text with a NUL would
//! arrive as another, shorter text, which is why [`Unspeakable`] tells of it and nobody sends it.

use bytes::{BufMut, Bytes, BytesMut};
use tidings_zmtp::Message;

/// One message of ZGP
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ZgossipMessage {
    /// A client is there and wants everything that the server has
    Hello,
    /// A tuple
    Publish {
        /// Its name, of at most 255 octets
        key: Bytes,
        /// What it says
        value: Bytes,
        /// How many milliseconds it lives; 0 is for ever. CZMQ sends 0, or whatever it received last, and never reads it
        ttl: u32,
    },
    /// A client is still there
    Ping,
    /// The server heard PING
    Pong,
    /// The server doesn't know the client, or not this message in its state
    Invalid,
}

impl ZgossipMessage {
    /// Its name in the protocol's grammar
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Hello => "HELLO",
            Self::Publish { .. } => "PUBLISH",
            Self::Ping => "PING",
            Self::Pong => "PONG",
            Self::Invalid => "INVALID",
        }
    }

    const fn id(&self) -> u8 {
        match self {
            Self::Hello => HELLO,
            Self::Publish { .. } => PUBLISH,
            Self::Ping => PING,
            Self::Pong => PONG,
            Self::Invalid => INVALID,
        }
    }
}

/// Why a message is none of ZGP; each cause stops a CZMQ node that is sent it
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
#[non_exhaustive]
pub enum Malformed {
    /// The message has no frame, or an empty one
    #[error("the message is empty; ZGP's begin with AA A0")]
    Empty,
    /// More than one frame
    #[error("the message has more than one frame; ZGP's have one")]
    ManyFrames,
    /// The first octets are not the protocol's
    #[error("the first octets are not AA A0; the peer does not speak ZGP")]
    Signature,
    /// The id is none of the five
    #[error("the id is none of 1 to 5")]
    UnknownId,
    /// Another version than 1
    #[error("the version is not 1, the only one there is")]
    Version,
    /// The frame ends inside its header
    #[error("the frame ends before its id and version")]
    ShortHeader,
    /// The key's length goes beyond the frame
    #[error("the key is longer than the frame")]
    ShortKey,
    /// The value's length goes beyond the frame
    #[error("the value is longer than the frame")]
    ShortValue,
    /// There is no room for the time to live
    #[error("the frame ends before the time to live")]
    ShortTtl,
}

impl Malformed {
    /// All causes
    pub const ALL: [Self; 9] = [
        Self::Empty,
        Self::ManyFrames,
        Self::Signature,
        Self::UnknownId,
        Self::Version,
        Self::ShortHeader,
        Self::ShortKey,
        Self::ShortValue,
        Self::ShortTtl,
    ];

    /// Its name in counters and events; it doesn't change from release to release
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Empty => "zgp-empty",
            Self::ManyFrames => "zgp-many-frames",
            Self::Signature => "zgp-signature",
            Self::UnknownId => "zgp-unknown-id",
            Self::Version => "zgp-version",
            Self::ShortHeader => "zgp-short-header",
            Self::ShortKey => "zgp-short-key",
            Self::ShortValue => "zgp-short-value",
            Self::ShortTtl => "zgp-short-ttl",
        }
    }
}

/// Why a tuple can't be said in ZGP
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
#[non_exhaustive]
pub enum Unspeakable {
    /// The key has more than 255 octets: CZMQ cuts such keys, and two become one
    #[error("ZGP's keys have at most 255 octets")]
    LongKey,
    /// The value's length doesn't fit its field
    #[error("ZGP's values have less than 2^32 octets")]
    LongValue,
    /// A NUL ends a string at a CZMQ node, which would store and spread another tuple
    #[error("CZMQ's strings end at the first NUL, so a tuple with one in its key or value can't be told to it")]
    Nul,
}

/// Reads a message as CZMQ's reader does
///
/// Key and value are slices of the frame: whoever keeps them for long copies them.
///
/// # Errors
/// What a CZMQ node would stop over, by cause.
pub fn decode(message: &Message) -> Result<ZgossipMessage, Malformed> {
    let mut frames = message.clone().into_frames().into_iter();
    let frame = frames.next().unwrap_or_default();
    if frames.next().is_some() {
        return Err(Malformed::ManyFrames);
    }
    decode_frame(&frame)
}

/// Reads the one frame of a message
///
/// # Errors
/// As [`decode`].
pub fn decode_frame(frame: &Bytes) -> Result<ZgossipMessage, Malformed> {
    if frame.is_empty() {
        return Err(Malformed::Empty);
    }
    let (&signature, rest) = frame.split_first_chunk::<2>().ok_or(Malformed::ShortHeader)?;
    if signature != SIGNATURE {
        return Err(Malformed::Signature);
    }
    let (&id, rest) = rest.split_first().ok_or(Malformed::ShortHeader)?;
    if !(HELLO..=INVALID).contains(&id) {
        return Err(Malformed::UnknownId);
    }
    let (&version, rest) = rest.split_first().ok_or(Malformed::ShortHeader)?;
    if version != VERSION {
        return Err(Malformed::Version);
    }
    Ok(match id {
        HELLO => ZgossipMessage::Hello,
        PING => ZgossipMessage::Ping,
        PONG => ZgossipMessage::Pong,
        INVALID => ZgossipMessage::Invalid,
        _ => {
            let (&len, rest) = rest.split_first().ok_or(Malformed::ShortKey)?;
            let (key, rest) = rest.split_at_checked(len.into()).ok_or(Malformed::ShortKey)?;
            let (&len, rest) = rest.split_first_chunk().ok_or(Malformed::ShortValue)?;
            let len = usize::try_from(u32::from_be_bytes(len)).map_err(|_| Malformed::ShortValue)?;
            let (value, rest) = rest.split_at_checked(len).ok_or(Malformed::ShortValue)?;
            let ttl = *rest.first_chunk().ok_or(Malformed::ShortTtl)?;
            ZgossipMessage::Publish {
                key: frame.slice_ref(key),
                value: frame.slice_ref(value),
                ttl: u32::from_be_bytes(ttl),
            }
        }
    })
}

/// Whether a tuple can be said in ZGP
///
/// # Errors
/// Why not.
pub fn check_tuple(key: &[u8], value: &[u8]) -> Result<(), Unspeakable> {
    if key.len() > MAX_KEY {
        return Err(Unspeakable::LongKey);
    }
    if u32::try_from(value.len()).is_err() {
        return Err(Unspeakable::LongValue);
    }
    if key.contains(&0) || value.contains(&0) {
        return Err(Unspeakable::Nul);
    }
    Ok(())
}

/// Writes a message, as one frame
///
/// # Errors
/// If it is a PUBLISH of a tuple that [`check_tuple`] refuses.
pub fn encode(message: &ZgossipMessage) -> Result<Bytes, Unspeakable> {
    let header = [SIGNATURE[0], SIGNATURE[1], message.id(), VERSION];
    let ZgossipMessage::Publish { key, value, ttl } = message else { return Ok(Bytes::copy_from_slice(&header)) };
    check_tuple(key, value)?;
    let key_len = u8::try_from(key.len()).map_err(|_| Unspeakable::LongKey)?;
    let value_len = u32::try_from(value.len()).map_err(|_| Unspeakable::LongValue)?;
    let mut into = BytesMut::with_capacity(header.len() + 9 + key.len() + value.len());
    into.put_slice(&header);
    into.put_u8(key_len);
    into.put_slice(key);
    into.put_u32(value_len);
    into.put_slice(value);
    into.put_u32(*ttl);
    Ok(into.freeze())
}

/// HELLO as it is on the wire; it and the next three have no fields
pub const HELLO_FRAME: Bytes = Bytes::from_static(&[0xAA, 0xA0, HELLO, VERSION]);
/// PING as it is on the wire
pub const PING_FRAME: Bytes = Bytes::from_static(&[0xAA, 0xA0, PING, VERSION]);
/// PONG as it is on the wire
pub const PONG_FRAME: Bytes = Bytes::from_static(&[0xAA, 0xA0, PONG, VERSION]);
/// INVALID as it is on the wire
pub const INVALID_FRAME: Bytes = Bytes::from_static(&[0xAA, 0xA0, INVALID, VERSION]);

/// The longest key that a length octet can tell of
pub const MAX_KEY: usize = 255;

const SIGNATURE: [u8; 2] = [0xAA, 0xA0];
const VERSION: u8 = 1;
const HELLO: u8 = 1;
const PUBLISH: u8 = 2;
const PING: u8 = 3;
const PONG: u8 = 4;
const INVALID: u8 = 5;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn octets(hex: &str) -> Bytes {
        let digits: Vec<u8> = hex.bytes().filter(u8::is_ascii_hexdigit).collect();
        digits.chunks(2).map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap()).collect()
    }

    fn publish(key: &str, value: &str, ttl: u32) -> ZgossipMessage {
        ZgossipMessage::Publish { key: Bytes::copy_from_slice(key.as_bytes()), value: value.to_owned().into(), ttl }
    }

    /// What CZMQ 4.2.1 was seen to write
    fn golden() -> [(Bytes, ZgossipMessage); 6] {
        [
            (octets("aa a0 01 01"), ZgossipMessage::Hello),
            (octets("aa a0 03 01"), ZgossipMessage::Ping),
            (octets("aa a0 04 01"), ZgossipMessage::Pong),
            (octets("aa a0 05 01"), ZgossipMessage::Invalid),
            (octets("aa a0 02 01 02 6b31 00000002 7631 00000000"), publish("k1", "v1", 0)),
            (
                octets("aa a0 02 01 10 696e70726f633a2f2f616c7068612d31 00000008 7365727669636531 00000000"),
                publish("inproc://alpha-1", "service1", 0),
            ),
        ]
    }

    #[test]
    fn the_octets_are_those_of_czmq() {
        for (frame, message) in golden() {
            assert_eq!(decode_frame(&frame).as_ref(), Ok(&message));
            assert_eq!(encode(&message).unwrap(), frame, "{}", message.name());
        }
        for (constant, message) in [
            (HELLO_FRAME, ZgossipMessage::Hello),
            (PING_FRAME, ZgossipMessage::Ping),
            (PONG_FRAME, ZgossipMessage::Pong),
            (INVALID_FRAME, ZgossipMessage::Invalid),
        ] {
            assert_eq!(encode(&message).unwrap(), constant);
        }
        assert_eq!(encode(&publish("k", "", 0x0102_0304)).unwrap(), octets("aa a0 02 01 01 6b 00000000 01020304"));
    }

    #[test]
    fn octets_behind_the_last_field_are_ignored_as_czmq_does() {
        for (frame, message) in golden() {
            let longer: Bytes = [&frame[..], b"and more"].concat().into();
            assert_eq!(decode_frame(&longer), Ok(message));
        }
    }

    #[test]
    fn what_stops_czmq_is_refused_by_cause() {
        let of = |frame: &str| decode(&Message::from(octets(frame)));
        assert_eq!(decode(&Message::from_frames(smallvec::smallvec![])), Err(Malformed::Empty));
        assert_eq!(decode(&Message::from(Bytes::new())), Err(Malformed::Empty));
        assert_eq!(of("aa a1 01 01"), Err(Malformed::Signature));
        assert_eq!(of("ab a0 01 01"), Err(Malformed::Signature));
        assert_eq!(of("aa a0 00 01"), Err(Malformed::UnknownId));
        assert_eq!(of("aa a0 06 01"), Err(Malformed::UnknownId));
        assert_eq!(of("aa a0 01 02"), Err(Malformed::Version));
        assert_eq!(of("aa a0 03 00"), Err(Malformed::Version));
        for short in ["aa", "aa a0", "aa a0 01"] {
            assert_eq!(of(short), Err(Malformed::ShortHeader), "{short}");
        }
        for short in ["aa a0 02 01", "aa a0 02 01 02", "aa a0 02 01 02 6b"] {
            assert_eq!(of(short), Err(Malformed::ShortKey), "{short}");
        }
        for short in ["aa a0 02 01 01 6b", "aa a0 02 01 01 6b 000000", "aa a0 02 01 01 6b ffffffff 76 00000000"] {
            assert_eq!(of(short), Err(Malformed::ShortValue), "{short}");
        }
        for short in ["aa a0 02 01 01 6b 00000001 76", "aa a0 02 01 01 6b 00000001 76 000000"] {
            assert_eq!(of(short), Err(Malformed::ShortTtl), "{short}");
        }
        let two = Message::multipart([PING_FRAME, Bytes::from_static(b"extra")]);
        assert_eq!(decode(&two), Err(Malformed::ManyFrames));
    }

    #[test]
    fn names_are_distinct() {
        let names: std::collections::HashSet<_> = Malformed::ALL.iter().map(|cause| cause.name()).collect();
        assert_eq!(names.len(), Malformed::ALL.len());
    }

    #[test]
    fn nothing_is_written_that_czmq_would_read_as_something_else() {
        let long = "k".repeat(256);
        assert_eq!(encode(&publish(&long, "v", 0)), Err(Unspeakable::LongKey));
        assert_eq!(encode(&publish(&long[1..], "v", 0)).unwrap()[4], 255);
        assert_eq!(encode(&publish("a\0b", "v", 0)), Err(Unspeakable::Nul));
        assert_eq!(encode(&publish("k", "v\0", 0)), Err(Unspeakable::Nul));
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(
            key in proptest::collection::vec(1u8.., 0..=255), value in proptest::collection::vec(1u8.., 0..2000), ttl: u32,
        ) {
            let message = ZgossipMessage::Publish { key: key.into(), value: value.into(), ttl };
            prop_assert_eq!(decode_frame(&encode(&message).unwrap()), Ok(message));
        }

        #[test]
        fn any_octets_are_read_or_refused(
            octets in proptest::collection::vec(any::<u8>(), 0..64), id in 0u8..8, proper: bool,
        ) {
            let frame: Bytes = match proper {
                true => [&[0xAA, 0xA0, id, 1][..], &octets].concat().into(),
                false => octets.into(),
            };
            if let Ok(ZgossipMessage::Publish { key, value, .. }) = decode_frame(&frame) {
                prop_assert!(key.len() + value.len() + 13 <= frame.len());
            }
        }
    }
}

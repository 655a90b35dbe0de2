//! The options frame of our own wire: tag, length, value, one after the other.
//!
//! A tag from 80 (hexadecimal) on may be ignored by whoever doesn't know it; any other unknown tag makes the frame
//! malformed, so that nothing that matters is overlooked.

use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};

use super::{Malformed, milliseconds};

/// How a request is to be treated
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestOptions {
    /// How much time is left; never a point in time, since clocks differ
    pub deadline: Option<Duration>,
    /// The same key on the same service is the same request, and answered once: 1 to 255 octets
    pub key: Option<Bytes>,
    /// Whether it may be given to another worker when the first died over it
    pub repeatable: bool,
    /// Which try it is, from 1; said to workers only
    pub attempt: u32,
}

/// No deadline, no key, repeatable, first try
impl Default for RequestOptions {
    fn default() -> Self {
        Self { deadline: None, key: None, repeatable: true, attempt: 1 }
    }
}

/// What a worker says of itself with READY
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReadyOptions {
    /// How many requests it takes at once, from 1
    pub concurrency: u32,
    /// How often it sends something; the broker's own interval if it doesn't say
    pub heartbeat: Option<Duration>,
}

/// One request at a time
impl Default for ReadyOptions {
    fn default() -> Self {
        Self { concurrency: 1, heartbeat: None }
    }
}

impl RequestOptions {
    /// The frame; a key of more than 255 octets is cut, which callers have to prevent
    pub(super) fn encode(&self) -> Bytes {
        if self.deadline.is_none() && self.key.is_none() && self.repeatable && self.attempt <= 1 {
            return Bytes::new();
        }
        let mut into = BytesMut::new();
        if let Some(deadline) = self.deadline {
            put_number(&mut into, DEADLINE, milliseconds(deadline));
        }
        if let Some(key) = &self.key {
            let key = key.get(..VALUE_LIMIT).unwrap_or(key);
            into.put_slice(&[KEY, key.len() as u8]);
            into.put_slice(key);
        }
        if !self.repeatable {
            into.put_slice(&[FLAGS, 1, NOT_REPEATABLE]);
        }
        if self.attempt > 1 {
            put_number(&mut into, ATTEMPT, self.attempt);
        }
        into.freeze()
    }

    pub(super) fn decode(frame: &Bytes) -> Result<Self, Malformed> {
        let mut options = Self::default();
        read(frame, |tag, value| {
            match tag {
                DEADLINE => options.deadline = Some(Duration::from_millis(number(value)?.into())),
                KEY if !value.is_empty() => options.key = Some(frame.slice_ref(value)),
                FLAGS => match *value {
                    [flags] if flags & !NOT_REPEATABLE == 0 => options.repeatable = flags & NOT_REPEATABLE == 0,
                    _ => return Some(false),
                },
                ATTEMPT => options.attempt = number(value).filter(|attempt| *attempt > 0)?,
                _ => return Some(false),
            }
            Some(true)
        })?;
        Ok(options)
    }
}

impl ReadyOptions {
    pub(super) fn encode(&self) -> Bytes {
        let mut into = BytesMut::new();
        if self.concurrency != 1 {
            put_number(&mut into, CONCURRENCY, self.concurrency);
        }
        if let Some(heartbeat) = self.heartbeat {
            put_number(&mut into, HEARTBEAT, milliseconds(heartbeat));
        }
        into.freeze()
    }

    pub(super) fn decode(frame: &Bytes) -> Result<Self, Malformed> {
        let mut options = Self::default();
        read(frame, |tag, value| {
            match tag {
                CONCURRENCY => options.concurrency = number(value).filter(|concurrency| *concurrency > 0)?,
                HEARTBEAT => {
                    let interval = number(value).filter(|interval| *interval > 0)?;
                    options.heartbeat = Some(Duration::from_millis(interval.into()));
                }
                _ => return Some(false),
            }
            Some(true)
        })?;
        Ok(options)
    }
}

/// Goes through a frame; `take` tells whether it knows the tag, `None` that the value is wrong
fn read<'a>(frame: &'a [u8], mut take: impl FnMut(u8, &'a [u8]) -> Option<bool>) -> Result<(), Malformed> {
    let (mut rest, mut seen) = (frame, 0u128);
    while let Some((&tag, after)) = rest.split_first() {
        let (&len, after) = after.split_first().ok_or(Malformed::BadOptions)?;
        let (value, after) = after.split_at_checked(len.into()).ok_or(Malformed::BadOptions)?;
        if tag < IGNORABLE {
            let bit = 1u128 << tag;
            if seen & bit != 0 || !take(tag, value).unwrap_or(false) {
                return Err(Malformed::BadOptions);
            }
            seen |= bit;
        }
        rest = after;
    }
    Ok(())
}

fn number(value: &[u8]) -> Option<u32> {
    value.try_into().ok().map(u32::from_be_bytes)
}

fn put_number(into: &mut BytesMut, tag: u8, number: u32) {
    into.put_slice(&[tag, 4]);
    into.put_u32(number);
}

/// Milliseconds that are left, in 4 octets
const DEADLINE: u8 = 1;
/// An idempotency key
const KEY: u8 = 2;
/// Bits, in one octet
const FLAGS: u8 = 3;
/// Requests at once, in 4 octets
const CONCURRENCY: u8 = 4;
/// Tries, in 4 octets
const ATTEMPT: u8 = 5;
/// Milliseconds between heartbeats, in 4 octets
const HEARTBEAT: u8 = 6;
/// Tags from here on may be ignored
const IGNORABLE: u8 = 0x80;
/// A bit of the flags
const NOT_REPEATABLE: u8 = 1;
const VALUE_LIMIT: usize = 255;

#[cfg(test)]
mod tests {
    use super::*;

    fn request(frame: &'static [u8]) -> Result<RequestOptions, Malformed> {
        RequestOptions::decode(&Bytes::from_static(frame))
    }

    #[test]
    fn all_options_lead_back() {
        let options = RequestOptions {
            deadline: Some(Duration::from_millis(2500)),
            key: Some("k1".into()),
            repeatable: false,
            attempt: 3,
        };
        let frame = options.encode();
        assert_eq!(frame[..], *b"\x01\x04\x00\x00\x09\xc4\x02\x02k1\x03\x01\x01\x05\x04\x00\x00\x00\x03");
        assert_eq!(RequestOptions::decode(&frame), Ok(options));
        assert_eq!(RequestOptions::default().encode(), "");
        assert_eq!(request(b""), Ok(RequestOptions::default()));
        let ready = ReadyOptions { concurrency: 64, heartbeat: Some(Duration::from_millis(250)) };
        assert_eq!(ready.encode()[..], *b"\x04\x04\x00\x00\x00\x40\x06\x04\x00\x00\x00\xfa");
        assert_eq!(ReadyOptions::decode(&ready.encode()), Ok(ready));
    }

    #[test]
    fn what_may_be_ignored_is_and_nothing_else() {
        assert_eq!(request(b"\x80\x00\xff\x03abc"), Ok(RequestOptions::default()));
        for wrong in [
            &b"\x01"[..],
            b"\x01\x04\x00\x00\x00",
            b"\x01\x03\x00\x00\x00",
            b"\x07\x00",
            b"\x02\x00",
            b"\x03\x01\x02",
            b"\x03\x02\x00\x00",
            b"\x04\x04\x00\x00\x00\x01",
            b"\x05\x04\x00\x00\x00\x00",
            b"\x03\x01\x00\x03\x01\x00",
            b"\x80",
        ] {
            assert_eq!(request(wrong), Err(Malformed::BadOptions), "{wrong:?}");
        }
        for wrong in [&b"\x04\x04\x00\x00\x00\x00"[..], b"\x06\x04\x00\x00\x00\x00", b"\x01\x04\x00\x00\x00\x01"] {
            assert_eq!(ReadyOptions::decode(&Bytes::from_static(wrong)), Err(Malformed::BadOptions), "{wrong:?}");
        }
    }

    #[test]
    fn a_deadline_never_turns_into_none() {
        let options = RequestOptions { deadline: Some(Duration::from_nanos(1)), ..Default::default() };
        assert_eq!(RequestOptions::decode(&options.encode()).unwrap().deadline, Some(Duration::from_millis(1)));
        let options = RequestOptions { deadline: Some(Duration::MAX), ..Default::default() };
        let longest = Duration::from_millis(u32::MAX.into());
        assert_eq!(RequestOptions::decode(&options.encode()).unwrap().deadline, Some(longest));
    }
}

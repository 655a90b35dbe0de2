//! Frame headers: the flags and the size that precede every frame body.
//!
//! Grammar: RFC 23, "Framing", and RFC 15 for 2.0; RFC 13, "Framing", for 1.0. No other file reads or writes
//! these octets.

use bytes::BufMut;

/// What a header says about the body that follows
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrameHeader {
    /// Another frame of the same message follows
    ///
    /// RFC 23 wants zero on commands. What the wire says is reported here; like libzmq, a connection ignores it.
    pub more: bool,
    /// The body is a command, not part of a message; always false in 1.0
    pub command: bool,
    /// Octets of the body, the header not counted
    pub body_len: u64,
}

/// How frames are laid out
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// ZMTP 1.0: length, then flags (RFC 13)
    V1,
    /// ZMTP 2.0 and 3.x: flags, then size (RFC 15, 23, 37)
    V2,
}

impl FrameHeader {
    /// Reads a header from the front of `octets`, and says how many octets it took
    ///
    /// `None` asks for more input. `ceiling` is the longest body a peer may make us buffer. Reserved flag bits
    /// are ignored, as libzmq does.
    ///
    /// # Errors
    /// When the body would exceed `ceiling`, or a 1.0 length is zero; the stream is lost then.
    #[inline]
    pub fn decode(framing: Framing, octets: &[u8], ceiling: u64) -> Result<Option<(Self, usize)>, FrameError> {
        let header = match framing {
            Framing::V2 => match *octets {
                [flags, size, ..] if flags & LONG == 0 => Some((Self::from_flags(flags, size.into()), 2)),
                [flags, a, b, c, d, e, f, g, h, ..] if flags & LONG != 0 => {
                    let size = u64::from_be_bytes([a, b, c, d, e, f, g, h]);
                    Some((Self::from_flags(flags, size), 9))
                }
                _ => None,
            },
            Framing::V1 => match *octets {
                [ESCAPE, a, b, c, d, e, f, g, h, flags, ..] => {
                    let length = u64::from_be_bytes([a, b, c, d, e, f, g, h]);
                    Some((Self::from_length(flags, length)?, 10))
                }
                [ESCAPE, ..] => None,
                // The length counts the flags octet, so zero can't be (RFC 13).
                [0, ..] => return Err(FrameError::ZeroLength),
                [length, flags, ..] => Some((Self::from_length(flags, length.into())?, 2)),
                _ => None,
            },
        };
        match header {
            Some((header, _)) if header.body_len > ceiling => {
                Err(FrameError::TooLong { octets: header.body_len, ceiling })
            }
            header => Ok(header),
        }
    }

    /// Writes the header at the end of `into`, in the shortest form that the framing has
    ///
    /// In 1.0 framing `command` is lost: that version has none.
    #[inline(always)]
    pub fn encode(&self, framing: Framing, into: &mut impl BufMut) {
        let more = if self.more { MORE } else { 0 };
        match framing {
            Framing::V2 => {
                let flags = more | if self.command { COMMAND } else { 0 };
                match u8::try_from(self.body_len) {
                    Ok(size) => into.put_slice(&[flags, size]),
                    Err(_) => {
                        into.put_u8(flags | LONG);
                        into.put_u64(self.body_len);
                    }
                }
            }
            Framing::V1 => {
                let length = self.body_len.saturating_add(1);
                match u8::try_from(length) {
                    Ok(length) if length < ESCAPE => into.put_slice(&[length, more]),
                    _ => {
                        into.put_u8(ESCAPE);
                        into.put_u64(length);
                        into.put_u8(more);
                    }
                }
            }
        }
    }

    fn from_flags(flags: u8, body_len: u64) -> Self {
        Self { more: flags & MORE != 0, command: flags & COMMAND != 0, body_len }
    }

    fn from_length(flags: u8, length: u64) -> Result<Self, FrameError> {
        let body_len = length.checked_sub(1).ok_or(FrameError::ZeroLength)?;
        Ok(Self { more: flags & MORE != 0, command: false, body_len })
    }
}

/// Why a header can't be accepted
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FrameError {
    /// The body is longer than the receiver allows
    #[error("frame of {octets} octets exceeds the ceiling of {ceiling}")]
    TooLong {
        /// Octets of the body as announced
        octets: u64,
        /// The most that is accepted
        ceiling: u64,
    },
    /// A 1.0 frame of length zero, which can't hold its own flags
    #[error("1.0 frame of length zero")]
    ZeroLength,
}

const MORE: u8 = 0x01;
const LONG: u8 = 0x02;
const COMMAND: u8 = 0x04;
/// First octet of a 1.0 header with an eight-octet length
const ESCAPE: u8 = 0xff;

#[cfg(test)]
mod tests {
    use bytes::BytesMut;

    use super::*;

    const FRAMINGS: [Framing; 2] = [Framing::V1, Framing::V2];

    fn encoded(framing: Framing, header: FrameHeader) -> BytesMut {
        let mut octets = BytesMut::new();
        header.encode(framing, &mut octets);
        octets
    }

    #[test]
    fn headers_lead_back_and_every_prefix_asks_for_more() {
        for framing in FRAMINGS {
            for body_len in [0, 1, 252, 253, 254, 255, 256, 65_535, 65_536, (1 << 63) - 1] {
                for more in [false, true] {
                    let header = FrameHeader { more, command: false, body_len };
                    let octets = encoded(framing, header);
                    let decoded = FrameHeader::decode(framing, &octets, u64::MAX);
                    assert_eq!(decoded, Ok(Some((header, octets.len()))), "{framing:?}");
                    for cut in 0..octets.len() {
                        assert_eq!(FrameHeader::decode(framing, &octets[..cut], u64::MAX), Ok(None), "{framing:?}");
                    }
                }
            }
        }
    }

    #[test]
    fn golden_headers() {
        let data = |more, body_len| FrameHeader { more, command: false, body_len };
        assert_eq!(encoded(Framing::V2, data(true, 0))[..], [1, 0]);
        assert_eq!(encoded(Framing::V2, data(false, 255))[..], [0, 255]);
        assert_eq!(encoded(Framing::V2, data(false, 256))[..], [2, 0, 0, 0, 0, 0, 0, 1, 0]);
        let command = FrameHeader { more: false, command: true, body_len: 5 };
        assert_eq!(encoded(Framing::V2, command)[..], [4, 5]);
        assert_eq!(encoded(Framing::V1, data(false, 0))[..], [1, 0]);
        assert_eq!(encoded(Framing::V1, data(true, 253))[..], [254, 1]);
        assert_eq!(encoded(Framing::V1, data(false, 254))[..], [255, 0, 0, 0, 0, 0, 0, 0, 255, 0]);
    }

    #[test]
    fn reserved_flags_are_ignored() {
        let decoded = FrameHeader::decode(Framing::V2, &[0xf9, 3], 10);
        assert_eq!(decoded, Ok(Some((FrameHeader { more: true, command: false, body_len: 3 }, 2))));
        let decoded = FrameHeader::decode(Framing::V1, &[4, 0x7e], 10);
        assert_eq!(decoded, Ok(Some((FrameHeader { more: false, command: false, body_len: 3 }, 2))));
    }

    #[test]
    fn zero_and_excess_are_refused() {
        assert_eq!(FrameHeader::decode(Framing::V1, &[0], 10), Err(FrameError::ZeroLength));
        assert_eq!(
            FrameHeader::decode(Framing::V1, &[255, 0, 0, 0, 0, 0, 0, 0, 0, 0], 10),
            Err(FrameError::ZeroLength)
        );
        assert!(matches!(FrameHeader::decode(Framing::V2, &[0, 10], 10), Ok(Some(_))));
        let error = FrameHeader::decode(Framing::V2, &[0, 11], 10);
        assert_eq!(error, Err(FrameError::TooLong { octets: 11, ceiling: 10 }));
        let error = FrameHeader::decode(Framing::V2, &[2, 255, 255, 255, 255, 255, 255, 255, 255], (1 << 63) - 1);
        assert_eq!(error, Err(FrameError::TooLong { octets: u64::MAX, ceiling: (1 << 63) - 1 }));
    }
}

//! Commands: what two connections say to each other beside the messages.
//!
//! Grammar: RFC 37, "Commands", and RFC 23 for READY and ERROR.

use bytes::{BufMut, BytesMut};

use crate::{
    frame::{FrameHeader, Framing},
    properties::{MetadataError, Properties},
};

/// A command's name and data
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Command<'a> {
    /// The handshake is done as far as the sender is concerned (RFC 23, "The NULL Security Mechanism")
    Ready(Properties),
    /// The sender refuses and will close; the reason has at most 255 octets
    Error(&'a [u8]),
    /// Asks for a PONG (RFC 37, "Connection Heartbeating")
    Ping {
        /// Tenths of a second of silence after which the sender may be taken for dead; 0 for no such promise
        ttl: u16,
        /// To be sent back; cut to [`CONTEXT_LIMIT`] octets
        context: &'a [u8],
    },
    /// Answers a PING with its context
    Pong {
        /// What the PING said; cut to [`CONTEXT_LIMIT`] octets
        context: &'a [u8],
    },
    /// Asks for messages that begin so (RFC 37, "The SUBSCRIBE command")
    Subscribe(&'a [u8]),
    /// Takes a subscription back
    Cancel(&'a [u8]),
    /// A DISH asks for the messages of a group (RFC 48)
    Join(&'a [u8]),
    /// Takes a JOIN back
    Leave(&'a [u8]),
    /// A command of a later protocol or another mechanism
    Unknown {
        /// Its name, of whatever octets
        name: &'a [u8],
    },
}

impl<'a> Command<'a> {
    /// Reads a command from the body of a command frame
    ///
    /// Leniencies are libzmq's: contexts are cut, an ERROR whose reason is cut short keeps what there is.
    ///
    /// # Errors
    /// When the name or data of a known command ends beyond the body.
    pub fn parse(body: &'a [u8]) -> Result<Self, CommandError> {
        let (&name_len, rest) = body.split_first().ok_or(CommandError::Name)?;
        let (name, data) = rest.split_at_checked(name_len.into()).ok_or(CommandError::Name)?;
        Ok(match name {
            READY => Self::Ready(Properties::decode(data).map_err(CommandError::Metadata)?),
            ERROR => match data.split_first() {
                Some((&len, reason)) => Self::Error(reason.get(..len.into()).unwrap_or(reason)),
                None => Self::Error(&[]),
            },
            PING => match *data {
                [high, low, ref context @ ..] => {
                    Self::Ping { ttl: u16::from_be_bytes([high, low]), context: cut(context, CONTEXT_LIMIT) }
                }
                _ => return Err(CommandError::Ping),
            },
            PONG => Self::Pong { context: cut(data, CONTEXT_LIMIT) },
            SUBSCRIBE => Self::Subscribe(data),
            CANCEL => Self::Cancel(data),
            JOIN => Self::Join(data),
            LEAVE => Self::Leave(data),
            name => Self::Unknown { name },
        })
    }

    /// Writes the whole command frame, header and body, at the end of `into`
    ///
    /// Reasons and names are cut to 255 octets, contexts to [`CONTEXT_LIMIT`].
    pub fn encode(&self, into: &mut BytesMut) {
        match self {
            Self::Ready(properties) => {
                frame(into, READY, properties.encoded_len());
                properties.encode(into);
            }
            Self::Error(reason) => {
                let reason = cut(reason, 255);
                frame(into, ERROR, 1 + reason.len());
                into.put_u8(reason.len() as u8);
                into.put_slice(reason);
            }
            Self::Ping { ttl, context } => {
                let context = cut(context, CONTEXT_LIMIT);
                frame(into, PING, 2 + context.len());
                into.put_u16(*ttl);
                into.put_slice(context);
            }
            Self::Pong { context } => {
                let context = cut(context, CONTEXT_LIMIT);
                frame(into, PONG, context.len());
                into.put_slice(context);
            }
            Self::Subscribe(topic) => {
                frame(into, SUBSCRIBE, topic.len());
                into.put_slice(topic);
            }
            Self::Cancel(topic) => {
                frame(into, CANCEL, topic.len());
                into.put_slice(topic);
            }
            Self::Join(group) => {
                frame(into, JOIN, group.len());
                into.put_slice(group);
            }
            Self::Leave(group) => {
                frame(into, LEAVE, group.len());
                into.put_slice(group);
            }
            Self::Unknown { name } => frame(into, cut(name, 255), 0),
        }
    }
}

/// Why a command can't be read
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CommandError {
    /// The body ends before the name does
    #[error("the command's name ends beyond its body")]
    Name,
    /// A PING without its two octets of TTL
    #[error("a PING without its TTL")]
    Ping,
    /// The metadata of READY can't be read
    #[error("READY: {0}")]
    Metadata(MetadataError),
}

/// Octets of context in PING and PONG (RFC 37, "Connection Heartbeating")
pub const CONTEXT_LIMIT: usize = 16;

/// Writes a frame header and a command's name in front of `data_len` octets of data
pub(crate) fn frame(into: &mut BytesMut, name: &[u8], data_len: usize) {
    let body_len = 1 + name.len() + data_len;
    into.reserve(9 + body_len);
    FrameHeader { more: false, command: true, body_len: body_len as u64 }.encode(Framing::V2, into);
    into.put_u8(name.len() as u8);
    into.put_slice(name);
}

fn cut(octets: &[u8], limit: usize) -> &[u8] {
    octets.get(..limit).unwrap_or(octets)
}

const READY: &[u8] = b"READY";
const ERROR: &[u8] = b"ERROR";
const PING: &[u8] = b"PING";
const PONG: &[u8] = b"PONG";
const SUBSCRIBE: &[u8] = b"SUBSCRIBE";
const CANCEL: &[u8] = b"CANCEL";
const JOIN: &[u8] = b"JOIN";
const LEAVE: &[u8] = b"LEAVE";

#[cfg(test)]
mod tests {
    use super::*;

    fn encoded(command: &Command<'_>) -> Vec<u8> {
        let mut octets = BytesMut::new();
        command.encode(&mut octets);
        octets.to_vec()
    }

    fn ready(entries: &[(&str, &'static str)]) -> Command<'static> {
        let mut properties = Properties::new();
        for (name, value) in entries {
            properties.insert(*name, *value).unwrap();
        }
        Command::Ready(properties)
    }

    #[test]
    fn golden_octets_both_ways() {
        let golden: [(Command<'_>, &[u8]); 10] = [
            (
                ready(&[("Socket-Type", "DEALER"), ("Identity", "BOB")]),
                b"\x04\x2c\x05READY\x0bSocket-Type\0\0\0\x06DEALER\x08Identity\0\0\0\x03BOB",
            ),
            (ready(&[("Socket-Type", "PUB")]), b"\x04\x19\x05READY\x0bSocket-Type\0\0\0\x03PUB"),
            (Command::Error(b"400"), b"\x04\x0a\x05ERROR\x03400"),
            (Command::Ping { ttl: 25, context: b"" }, b"\x04\x07\x04PING\0\x19"),
            (Command::Pong { context: b"ctx1" }, b"\x04\x09\x04PONGctx1"),
            (Command::Subscribe(b"A"), b"\x04\x0b\x09SUBSCRIBEA"),
            (Command::Subscribe(b""), b"\x04\x0a\x09SUBSCRIBE"),
            (Command::Cancel(b"A"), b"\x04\x08\x06CANCELA"),
            (Command::Join(b"tv"), b"\x04\x07\x04JOINtv"),
            (Command::Leave(b"tv"), b"\x04\x08\x05LEAVEtv"),
        ];
        for (command, octets) in golden {
            assert_eq!(encoded(&command), octets, "{command:?}");
            assert_eq!(Command::parse(&octets[2..]), Ok(command));
        }
    }

    #[test]
    fn a_long_topic_takes_the_long_form() {
        let topic = [b't'; 246];
        let octets = encoded(&Command::Subscribe(&topic));
        assert_eq!(octets[..9], [6, 0, 0, 0, 0, 0, 0, 1, 0]);
        assert_eq!(Command::parse(&octets[9..]), Ok(Command::Subscribe(&topic)));
        assert_eq!(encoded(&Command::Subscribe(&topic[1..]))[..2], [4, 255]);
    }

    #[test]
    fn contexts_are_cut() {
        let parsed = Command::parse(b"\x04PING\0\x010123456789abcdefghi");
        assert_eq!(parsed, Ok(Command::Ping { ttl: 1, context: b"0123456789abcdef" }));
        let parsed = Command::parse(b"\x04PONG0123456789abcdefghi");
        assert_eq!(parsed, Ok(Command::Pong { context: b"0123456789abcdef" }));
        assert_eq!(encoded(&Command::Pong { context: &[7; 40] }).len(), 2 + 5 + CONTEXT_LIMIT);
    }

    #[test]
    fn what_ends_too_early_is_refused() {
        for body in [&b""[..], b"\x05", b"\x05READ"] {
            assert_eq!(Command::parse(body), Err(CommandError::Name), "{body:?}");
        }
        for body in [&b"\x04PING"[..], b"\x04PING\0"] {
            assert_eq!(Command::parse(body), Err(CommandError::Ping), "{body:?}");
        }
        let stray = Command::parse(b"\x05READY\x01");
        assert_eq!(stray, Err(CommandError::Metadata(MetadataError::Truncated { offset: 0 })));
        assert_eq!(
            Command::parse(b"\x05ERROR\x09abc"),
            Ok(Command::Error(b"abc")),
            "a reason is kept as far as it goes"
        );
        assert_eq!(Command::parse(b"\x05HELLO?"), Ok(Command::Unknown { name: b"HELLO" }));
        assert_eq!(Command::parse(b"\0"), Ok(Command::Unknown { name: b"" }));
    }
}

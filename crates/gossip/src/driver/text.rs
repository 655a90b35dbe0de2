//! Text commands: multipart messages whose first frame is a word in capitals.
//!
//! A node answers these on its ROUTER to whoever may ask, and an [`Actor`](crate::actor::Actor) on its pipe. ZGP and our own wire begin
//! with `AA`, so that nothing is mistaken for anything else.
//!
//! | command | replies |
//! |---|---|
//! | `GET` key | `VALUE` key value, or `NONE` key |
//! | `LIST` prefix | `TUPLE` key value for each, in the order of keys, then `END` count |
//! | `WATCH` prefix | as LIST, then `PUT` key value and `REMOVED` key cause as it happens; `MISSED` count when the reader was too slow, and then as LIST again |
//! | `PUBLISH` key value \[ttl\] | `PUBLISHED` key |
//! | `UNPUBLISH` key | `UNPUBLISHED` key, or `NONE` key |
//! | `STATUS` | `STATUS` count json |
//! | `PEERS`, `MEMBERS`, `GRAPH` | the same word and json |
//! | anything else, or what is not allowed | `ERROR` text |
//!
//! `LONG` as one more frame of GET, LIST and WATCH adds three frames to each tuple: its owner; what remains of its life, in
//! milliseconds, or `permanent`, or `session`; and its stamp, in microseconds since 1970. A ttl is a number of milliseconds, or
//! one with a unit, as `30s`; 0 is permanent. `session` is as long as the life of the node that is asked.

use std::time::Duration;

use bytes::Bytes;
use tidings_zmtp::Message;

use super::permit::Access;
use super::watch::Change;
use crate::record::{Lifetime, Tuple};

/// A text command
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Command {
    Get { key: Bytes, is_long: bool },
    List { prefix: Bytes, is_long: bool },
    Watch { prefix: Bytes, is_long: bool },
    Publish { key: Bytes, value: Bytes, lifetime: Lifetime },
    Unpublish { key: Bytes },
    Status,
    Peers,
    Members,
    Graph,
}

impl Command {
    /// Reads one from the frames of a message
    ///
    /// # Errors
    /// What to tell the sender.
    pub(crate) fn parse(frames: &[Bytes]) -> Result<Self, String> {
        let (word, rest) = frames.split_first().ok_or("an empty message is no command")?;
        let is_long = |more: &[Bytes]| match more {
            [] => Ok(false),
            [word] if word == "LONG" => Ok(true),
            _ => Err(format!("{}: the frames after the key may be LONG, and no more", word.escape_ascii())),
        };
        match (&word[..], rest) {
            (b"GET", [key, more @ ..]) => Ok(Self::Get { key: key.clone(), is_long: is_long(more)? }),
            (b"LIST", [prefix, more @ ..]) => Ok(Self::List { prefix: prefix.clone(), is_long: is_long(more)? }),
            (b"WATCH", [prefix, more @ ..]) => Ok(Self::Watch { prefix: prefix.clone(), is_long: is_long(more)? }),
            (b"LIST", []) => Ok(Self::List { prefix: Bytes::new(), is_long: false }),
            (b"WATCH", []) => Ok(Self::Watch { prefix: Bytes::new(), is_long: false }),
            (b"PUBLISH", [key, value]) => {
                Ok(Self::Publish { key: key.clone(), value: value.clone(), lifetime: Lifetime::Permanent })
            }
            (b"PUBLISH", [key, value, ttl]) => {
                Ok(Self::Publish { key: key.clone(), value: value.clone(), lifetime: lifetime_of(ttl)? })
            }
            (b"UNPUBLISH", [key]) => Ok(Self::Unpublish { key: key.clone() }),
            (b"STATUS", []) => Ok(Self::Status),
            (b"PEERS", []) => Ok(Self::Peers),
            (b"MEMBERS", []) => Ok(Self::Members),
            (b"GRAPH", []) => Ok(Self::Graph),
            (word, rest) => match USAGE.iter().find(|(known, _)| known.as_bytes() == word) {
                Some((_, usage)) => Err(format!("{usage}; {} frames came", rest.len() + 1)),
                None => Err(format!("there is no command {}", shown(word))),
            },
        }
    }

    /// What somebody has to be allowed to do who asks this, and with which key
    pub(crate) fn access(&self) -> (Access, &[u8]) {
        match self {
            Self::Get { key, .. } => (Access::Read, key),
            Self::List { prefix, .. } | Self::Watch { prefix, .. } => (Access::List, prefix),
            Self::Publish { key, .. } | Self::Unpublish { key } => (Access::Write, key),
            Self::Status | Self::Peers | Self::Members | Self::Graph => (Access::Inspect, b""),
        }
    }
}

/// Whether a message is a text command: its first octet is a capital letter of ASCII
pub(crate) fn is_command(first: &[u8]) -> bool {
    first.first().is_some_and(u8::is_ascii_uppercase)
}

/// A message of these frames
pub(crate) fn message<const N: usize>(frames: [Bytes; N]) -> Message {
    Message::multipart(frames)
}

/// A word of ours
pub(crate) fn word(word: &'static str) -> Bytes {
    Bytes::from_static(word.as_bytes())
}

/// `ERROR` and why
pub(crate) fn error(why: impl Into<String>) -> Message {
    message([word("ERROR"), Bytes::from(why.into())])
}

/// A tuple in a reply that begins with this word
pub(crate) fn tuple(first: &'static str, tuple: &Tuple, is_long: bool) -> Message {
    let mut message = message([word(first), tuple.key.clone(), tuple.value.clone()]);
    if is_long {
        message.push_back(Bytes::from(tuple.dot.owner.to_string()));
        message.push_back(Bytes::from(life(tuple)));
        message.push_back(Bytes::from(tuple.stamp.0.to_string()));
    }
    message
}

/// What a watch is told; `counted` is how many tuples were told since it began, or began anew
pub(crate) fn change(change: &Change, counted: &mut Option<u64>, is_long: bool) -> Message {
    match change {
        Change::Put { tuple: of, .. } => match counted {
            Some(count) => {
                *count += 1;
                tuple("TUPLE", of, is_long)
            }
            None => tuple("PUT", of, is_long),
        },
        Change::Removed { key, cause } => message([word("REMOVED"), key.clone(), word(cause.name())]),
        Change::Current => message([word("END"), Bytes::from(counted.take().unwrap_or_default().to_string())]),
        Change::Missed { count } => {
            *counted = Some(0);
            message([word("MISSED"), Bytes::from(count.to_string())])
        }
    }
}

/// What remains of a tuple's life
fn life(tuple: &Tuple) -> String {
    match tuple.lifetime {
        Lifetime::Permanent => "permanent".to_owned(),
        Lifetime::Session => "session".to_owned(),
        Lifetime::Ttl(ttl) => tuple.remaining.unwrap_or(ttl).as_millis().to_string(),
    }
}

/// What a peer sent, as errors and logs repeat it
pub(crate) fn shown(octets: &[u8]) -> String {
    match octets.get(..LONGEST_SHOWN) {
        Some(first) if first.len() < octets.len() => format!("{}…", first.escape_ascii()),
        _ => octets.escape_ascii().to_string(),
    }
}

/// A ttl as people write it
pub(crate) fn lifetime_of(text: &[u8]) -> Result<Lifetime, String> {
    let wrong = || format!("'{}' is no ttl: write milliseconds, or a number and ms, s, m, h or d", shown(text));
    let text = std::str::from_utf8(text).map_err(|_| wrong())?.trim();
    if text == "session" {
        return Ok(Lifetime::Session);
    }
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let scale = match text.get(digits.len()..).unwrap_or_default() {
        "" | "ms" => 1,
        "s" => 1000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return Err(wrong()),
    };
    let ms = digits.trim_end().parse::<u64>().ok().and_then(|number| number.checked_mul(scale)).ok_or_else(wrong)?;
    match ms {
        0 => Ok(Lifetime::Permanent),
        ms if ms <= LONGEST_TTL => Ok(Lifetime::Ttl(Duration::from_millis(ms))),
        _ => Err(format!("a ttl is at most {LONGEST_TTL} ms, some 49 days (ZGP has four octets for it)")),
    }
}

/// The ttl of ZGP is number-4
const LONGEST_TTL: u64 = u32::MAX as u64;
/// Octets: a key of the usual length, and not all of the longest
const LONGEST_SHOWN: usize = 64;
const USAGE: &[(&str, &str)] = &[
    ("GET", "GET takes a key"),
    ("LIST", "LIST takes a prefix"),
    ("WATCH", "WATCH takes a prefix"),
    ("PUBLISH", "PUBLISH takes a key, a value, and perhaps a ttl"),
    ("UNPUBLISH", "UNPUBLISH takes a key"),
    ("STATUS", "STATUS takes nothing"),
    ("PEERS", "PEERS takes nothing"),
    ("MEMBERS", "MEMBERS takes nothing"),
    ("GRAPH", "GRAPH takes nothing"),
];

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parse(frames: &[&'static str]) -> Result<Command, String> {
        let frames: Vec<Bytes> = frames.iter().map(|frame| word(frame)).collect();
        Command::parse(&frames)
    }

    #[test]
    fn commands_are_read_and_what_is_wrong_is_said() {
        let key = || Bytes::from_static(b"k");
        assert_eq!(parse(&["GET", "k"]), Ok(Command::Get { key: key(), is_long: false }));
        assert_eq!(parse(&["LIST", "k", "LONG"]), Ok(Command::List { prefix: key(), is_long: true }));
        assert_eq!(parse(&["WATCH"]), Ok(Command::Watch { prefix: Bytes::new(), is_long: false }));
        assert_eq!(
            parse(&["PUBLISH", "k", "v", "30s"]),
            Ok(Command::Publish {
                key: key(),
                value: Bytes::from_static(b"v"),
                lifetime: Lifetime::Ttl(Duration::from_secs(30))
            })
        );
        for (frames, expected) in [
            (&[][..], "an empty message"),
            (&["GET"], "GET takes a key; 1 frames came"),
            (&["GET", "k", "SHORT"], "may be LONG"),
            (&["PUBLISH", "k"], "PUBLISH takes a key, a value"),
            (&["PUBLISH", "k", "v", "soon"], "'soon' is no ttl"),
            (&["STATUS", "k"], "STATUS takes nothing; 2 frames came"),
            (&["BIND", "tcp://*:1"], "there is no command BIND"),
            (&["$TERM"], "there is no command $TERM"),
        ] {
            let error = parse(frames).unwrap_err();
            assert!(error.contains(expected), "{frames:?}: {error}");
        }
    }

    proptest! {
        #[test]
        fn no_command_is_too_odd(
            word in "[A-Z]{0,9}|GET|LIST|WATCH|PUBLISH|UNPUBLISH|STATUS",
            frames in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 0..5),
        ) {
            let mut all = vec![Bytes::from(word)];
            all.extend(frames.into_iter().map(Bytes::from));
            match Command::parse(&all) {
                Ok(command) => drop(command.access()),
                Err(why) => prop_assert!(why.len() < 300 && !why.contains(char::is_control), "{why}"),
            }
        }
    }

    #[test]
    fn a_ttl_has_a_unit_or_is_in_milliseconds() {
        for (text, ms) in [("250", 250), ("30s", 30_000), ("2m", 120_000), ("1h", 3_600_000), ("1d", 86_400_000)] {
            assert_eq!(lifetime_of(text.as_bytes()), Ok(Lifetime::Ttl(Duration::from_millis(ms))), "{text}");
        }
        assert_eq!(lifetime_of(b"0"), Ok(Lifetime::Permanent));
        assert_eq!(lifetime_of(b"session"), Ok(Lifetime::Session));
        for wrong in ["", "-1", "1.5s", "s", "4294967296", "99999999999999999999d", "1w"] {
            assert!(lifetime_of(wrong.as_bytes()).is_err(), "{wrong}");
        }
    }
}

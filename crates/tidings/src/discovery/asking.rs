//! A running node, asked by text commands over a DEALER: the one reader and writer of these on our side.
//!
//! Nothing is sent before the handshake has told that the peer is a node of ours: a text command is malformed to CZMQ's
//! zgossip, and stops it.

use std::fmt;

use bytes::Bytes;
use serde_json::Value;
use tidings::{ConnectError, Context, Endpoint, Message, Options, Peer, Socket, SocketType};

/// A connection to a node that answers text commands
pub(crate) struct Asker {
    socket: Socket,
}

/// What a node says
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Answer {
    /// It is published, or is so no longer
    Done,
    /// A tuple: asked for, listed, or put just now
    Tuple(Told),
    /// There is no such tuple
    None(Bytes),
    /// All that there is has been listed
    End,
    /// A tuple that is watched has a new value
    Put(Told),
    /// A tuple that is watched is gone
    Removed { key: Bytes, cause: String },
    /// What is watched came too fast: it is listed anew
    Missed,
    /// What a node tells of itself and its network
    Look(Value),
}

/// A tuple, and what is known about it
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Told {
    pub(crate) key: Bytes,
    pub(crate) value: Bytes,
    pub(crate) about: About,
}

/// What is told of a tuple to who asks with `LONG`
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct About {
    /// Whose it is, 16 hexadecimal digits
    pub(crate) owner: Option<String>,
    pub(crate) life: Life,
    /// When it was written, in microseconds since 1970 by its owner's clock
    pub(crate) stamp_us: Option<u64>,
}

/// How long a tuple lives
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) enum Life {
    #[default]
    Unknown,
    Permanent,
    /// As long as its owner
    Session,
    /// So many milliseconds more
    Left(u64),
}

impl About {
    fn read(frames: &[Bytes]) -> Self {
        let text = |place: usize| frames.get(place).and_then(|frame| std::str::from_utf8(frame).ok());
        let life = match text(1) {
            Some("permanent") => Life::Permanent,
            Some("session") => Life::Session,
            Some(left) => left.parse().map_or(Life::Unknown, Life::Left),
            None => Life::Unknown,
        };
        let stamp_us = text(2).and_then(|stamp| stamp.parse().ok());
        Self { owner: text(0).filter(|owner| !owner.is_empty()).map(str::to_owned), life, stamp_us }
    }
}

/// Why there is no answer
#[derive(Clone, Debug)]
pub(crate) enum AskError {
    /// Not connected
    Connect(ConnectError),
    /// What is there can't be asked
    Foreign(Foreign),
    /// The connection is lost
    Lost,
    /// It said no, and why
    Refused(String),
    /// It said something else than an answer
    Unexpected(String),
}

/// What is there instead of a node of ours
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Foreign {
    /// A ROUTER without a word of itself: what a zgossip node of CZMQ looks like
    Zgossip,
    /// The broker of services
    Broker,
}

impl Asker {
    /// Connects, and sees that a node of ours is there
    ///
    /// # Errors
    /// No connection, or somebody else.
    ///
    /// # Cancel safety
    /// Dropped, nothing stays connected.
    pub(crate) async fn open(context: &Context, endpoint: &Endpoint, options: Options) -> Result<Self, AskError> {
        // A command must not wait in a queue for whoever comes next
        let socket = context.socket_with(SocketType::Dealer, options.immediate(true));
        let socket = socket.map_err(|error| AskError::Unexpected(error.to_string()))?;
        let options = socket.options();
        let connecting =
            socket.connect_with(endpoint, options).map_err(|error| AskError::Unexpected(error.to_string()))?;
        let peer = connecting.await.map_err(AskError::Connect)?;
        match foreign(&peer) {
            Some(foreign) => Err(AskError::Foreign(foreign)),
            None => Ok(Self { socket }),
        }
    }

    /// Sends a command
    ///
    /// # Errors
    /// The connection is lost.
    pub(crate) async fn send<F: Into<Bytes>>(&self, frames: impl IntoIterator<Item = F>) -> Result<(), AskError> {
        let message = Message::multipart(frames.into_iter().map(Into::into));
        tokio::select! {
            sent = self.socket.send(message) => sent.map_err(|_| AskError::Lost),
            () = self.socket.deserted() => Err(AskError::Lost),
        }
    }

    /// The next answer
    ///
    /// # Errors
    /// The connection is lost, or the node said no.
    ///
    /// # Cancel safety
    /// Safe: no answer is lost.
    pub(crate) async fn next(&self) -> Result<Answer, AskError> {
        let message = tokio::select! {
            biased;
            message = self.socket.recv() => message.map_err(|_| AskError::Lost)?,
            () = self.socket.deserted() => return Err(AskError::Lost),
        };
        Answer::read(message)
    }
}

impl Drop for Asker {
    /// The peer is to know at once
    fn drop(&mut self) {
        let socket = self.socket.clone();
        tokio::spawn(async move { socket.close(std::time::Duration::ZERO).await });
    }
}

impl Answer {
    fn read(message: Message) -> Result<Self, AskError> {
        let frames = message.into_frames().to_vec();
        let words = || {
            let shown =
                |frame: &Bytes| frame.get(..frame.len().min(SHOWN)).unwrap_or_default().escape_ascii().to_string();
            let words: Vec<String> = frames.iter().take(4).map(shown).collect();
            AskError::Unexpected(words.join(" "))
        };
        let told = |key: &Bytes, value: &Bytes, rest: &[Bytes]| Told {
            key: key.clone(),
            value: value.clone(),
            about: About::read(rest),
        };
        match &frames[..] {
            [word, rest @ ..] => match (&word[..], rest) {
                (b"PUBLISHED" | b"UNPUBLISHED", [_]) => Ok(Self::Done),
                (b"VALUE" | b"TUPLE", [key, value, rest @ ..]) => Ok(Self::Tuple(told(key, value, rest))),
                (b"NONE", [key, ..]) => Ok(Self::None(key.clone())),
                (b"END", _) => Ok(Self::End),
                (b"PUT", [key, value, rest @ ..]) => Ok(Self::Put(told(key, value, rest))),
                (b"REMOVED", [key, rest @ ..]) => {
                    let cause =
                        rest.first().map(|cause| String::from_utf8_lossy(cause).into_owned()).unwrap_or_default();
                    Ok(Self::Removed { key: key.clone(), cause })
                }
                (b"MISSED", _) => Ok(Self::Missed),
                // What the original says is a number; ours adds an object
                (b"STATUS", [_, object]) | (b"PEERS" | b"MEMBERS" | b"GRAPH", [object]) => {
                    serde_json::from_slice(object).map(Self::Look).map_err(|_| words())
                }
                (b"ERROR", [text]) => Err(AskError::Refused(String::from_utf8_lossy(text).into_owned())),
                _ => Err(words()),
            },
            [] => Err(words()),
        }
    }
}

/// Who is there, if it is no node of ours
fn foreign(peer: &Peer) -> Option<Foreign> {
    if peer.properties.value(PROPERTY).is_some() {
        None
    } else if peer.properties.value("X-Majordomo").is_some() {
        Some(Foreign::Broker)
    } else {
        Some(Foreign::Zgossip)
    }
}

impl fmt::Display for AskError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Connect(error) => error.fmt(f),
            Self::Foreign(Foreign::Zgossip) => f.write_str("it is no node of tidings"),
            Self::Foreign(Foreign::Broker) => f.write_str("it is a broker of services"),
            Self::Lost => f.write_str("the connection is lost"),
            Self::Refused(why) => f.write_str(why),
            Self::Unexpected(what) => write!(f, "it said \"{what}\""),
        }
    }
}

/// What a node of ours says of itself in its handshake
const PROPERTY: &str = "X-Gossip";

/// Octets of a frame that are quoted
const SHOWN: usize = 40;

#[cfg(test)]
mod tests {
    use super::*;

    fn read(frames: &[&'static str]) -> Result<Answer, String> {
        Answer::read(Message::multipart(frames.iter().copied().map(Bytes::from))).map_err(|error| error.to_string())
    }

    #[test]
    fn answers_are_told_apart() {
        let told = |about| Told { key: "k".into(), value: "v".into(), about };
        let owned = |life, stamp_us| About { owner: Some("0a".to_owned()), life, stamp_us };
        assert_eq!(read(&["VALUE", "k", "v", "0a", "session"]), Ok(Answer::Tuple(told(owned(Life::Session, None)))));
        assert_eq!(read(&["TUPLE", "k", "v"]), Ok(Answer::Tuple(told(About::default()))));
        assert_eq!(read(&["PUT", "k", "v", "0a", "250", "7"]), Ok(Answer::Put(told(owned(Life::Left(250), Some(7))))));
        assert_eq!(read(&["PUT", "k", "v", "0a", "?", "x"]), Ok(Answer::Put(told(owned(Life::Unknown, None)))));
        assert_eq!(read(&["PUBLISHED", "k"]), Ok(Answer::Done));
        assert_eq!(read(&["UNPUBLISHED", "k"]), Ok(Answer::Done));
        assert_eq!(read(&["NONE", "k"]), Ok(Answer::None("k".into())));
        assert_eq!(read(&["END", "3"]), Ok(Answer::End));
        assert_eq!(
            read(&["REMOVED", "k", "expired"]),
            Ok(Answer::Removed { key: "k".into(), cause: "expired".into() })
        );
        assert_eq!(read(&["STATUS", "2", "{}"]), Ok(Answer::Look(serde_json::json!({}))));
    }

    #[test]
    fn refusals_and_nonsense_are_errors_in_words() {
        assert_eq!(read(&["ERROR", "you may not"]), Err("you may not".to_owned()));
        for frames in [&["PEERS", "{"][..], &["VALUE", "k"], &["\u{7}"], &[""], &["STATUS", "3"]] {
            assert!(read(frames).unwrap_err().starts_with("it said"), "{frames:?}");
        }
    }
}

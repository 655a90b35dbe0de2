//! The octets of every wire that bears the name Majordomo, both directions: no state, no clock.
//!
//! A broker tells the wires apart by the first frames ([`decode`]) and answers on the same one; a client or worker speaks
//! one wire for a whole conversation. What is said is the same everywhere: [`ClientCommand`], [`ClientReply`],
//! [`WorkerCommand`], [`WorkerOrder`]. What a wire has no word for is [`NotOnThisWire`].
//!
//! | wire | first frames of a request | specification |
//! |---|---|---|
//! | [`Mdp01`](Wire::Mdp01) | empty, `MDPC01`, service | RFC 7 |
//! | [`Domogik`](Wire::Domogik) | empty, `MDPC01`, service, seconds or `None`, action, JSON object | domogik-mq |
//! | [`Mdp02`](Wire::Mdp02) | `MDPC02`, 1, service | RFC 18 |
//! | [`Majortomo`](Wire::Majortomo) | empty, `MDPC02`, 2, service | majortomo 0.2 |
//! | [`Zproto`](Wire::Zproto) | `AA A4` and what follows, in one frame | zeromq/majordomo |
//! | [`Tidings`](Wire::Tidings) | `MDPCT1`, 1, id, service, options | ours |

use bytes::Bytes;
use smallvec::SmallVec;
use tidings_zmtp::Message;

mod classic;
pub mod domogik;
mod malformed;
pub use malformed::{Malformed, NotOnThisWire, Rejected};
mod options;
pub use options::{ReadyOptions, RequestOptions};
mod return_path;
pub use return_path::{PATH_LIMIT, ReturnPath};
mod service_name;
pub use service_name::{SERVICE_NAME_LIMIT, ServiceName, ServiceNameError, escaped};
mod status;
pub use status::Status;
mod tidings;
pub use tidings::{TIDINGS_PROPERTY, TIDINGS_PROPERTY_VALUE, TOKEN_LEN};
mod zproto;

#[cfg(test)]
mod tests;

use std::time::Duration;

/// The frames of a request or reply behind everything that the protocol puts in front
pub type Body = SmallVec<[Bytes; 2]>;

/// Which wire a peer speaks
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Wire {
    /// MDP 0.1 (RFC 7): one reply to a request
    Mdp01,
    /// MDP 0.1 as Domogik's clients speak it, with a timeout in front of action and JSON; their workers speak 0.1
    Domogik,
    /// MDP 0.2 as RFC 18 has it: no empty frame in front, partial replies
    Mdp02,
    /// MDP 0.2 as majortomo speaks it: an empty frame in front, other client codes, no service in replies
    Majortomo,
    /// MDP 0.2 as zeromq/majordomo speaks it: one zproto frame in front
    Zproto,
    /// Our own: numbered requests, deadlines, keys, cancellation, refusals with a status
    Tidings,
}

impl Wire {
    /// All there are
    pub const ALL: [Self; 6] = [Self::Mdp01, Self::Domogik, Self::Mdp02, Self::Majortomo, Self::Zproto, Self::Tidings];

    /// Its name in configuration, logs and metrics
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Mdp01 => "mdp-0.1",
            Self::Domogik => "domogik",
            Self::Mdp02 => "mdp-0.2",
            Self::Majortomo => "majortomo",
            Self::Zproto => "zproto",
            Self::Tidings => "tidings",
        }
    }

    /// The wire of a [`name`](Self::name)
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|wire| wire.name() == name)
    }

    /// Whether requests are numbered, so that several of one client may be under way and each be refused with a status
    #[must_use]
    pub const fn is_numbered(self) -> bool {
        matches!(self, Self::Tidings)
    }

    /// Whether a request may have partial replies in front of its final one
    #[must_use]
    pub const fn has_partial_replies(self) -> bool {
        !matches!(self, Self::Mdp01 | Self::Domogik)
    }
}

impl std::fmt::Display for Wire {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

/// Which side of a broker a peer is on
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Role {
    /// It asks
    Client,
    /// It answers
    Worker,
}

/// What a client says to a broker
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ClientCommand {
    /// A request for a service
    Request {
        /// The client's number for it, which replies bear; 0 on wires that have none
        id: u64,
        /// The service
        service: ServiceName,
        /// How it is to be treated
        options: RequestOptions,
        /// What is asked
        body: Body,
    },
    /// The request is wanted no longer; nothing more comes for it
    Cancel {
        /// The client's number for it
        id: u64,
    },
}

/// What a broker says to a client
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ClientReply {
    /// A part of the reply; more follows
    Partial {
        /// The client's number for the request; 0 on wires that have none
        id: u64,
        /// The service; empty where the wire doesn't repeat it
        service: Bytes,
        /// The part
        body: Body,
    },
    /// The reply, or the last of its parts
    Final {
        /// The client's number for the request; 0 on wires that have none
        id: u64,
        /// The service; empty where the wire doesn't repeat it
        service: Bytes,
        /// The reply
        body: Body,
    },
    /// There will be no reply
    Refused {
        /// The client's number for the request
        id: u64,
        /// Why
        status: Status,
        /// Why, in words; UTF-8 from our own broker, but a worker may have made it
        text: Bytes,
    },
}

/// What a worker says to a broker
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WorkerCommand {
    /// It takes requests for a service from now on
    Ready {
        /// The service
        service: ServiceName,
        /// How many requests it takes at once, and how often it is heard from
        options: ReadyOptions,
    },
    /// A part of a reply; more follows
    Partial {
        /// The request, as [`WorkerOrder::Request`] named it
        token: Bytes,
        /// The part
        body: Body,
    },
    /// A reply, or the last of its parts
    Final {
        /// The request, as [`WorkerOrder::Request`] named it
        token: Bytes,
        /// The reply
        body: Body,
    },
    /// The handler failed or will not; ends a request as [`Final`](Self::Final) does
    Refused {
        /// The request, as [`WorkerOrder::Request`] named it
        token: Bytes,
        /// Why
        status: Status,
        /// Why, in words
        text: Bytes,
    },
    /// It is alive
    Heartbeat,
    /// It takes no more and hands back what it has not answered
    Disconnect,
    /// It takes no more, answers what it has and then disconnects
    Draining,
}

/// What a broker says to a worker
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WorkerOrder {
    /// Answer this
    Request {
        /// What to send back with the reply, unchanged; on classic wires it travels as the client's address
        token: Bytes,
        /// How long there is for it, and whether it was tried before
        options: RequestOptions,
        /// What is asked
        body: Body,
    },
    /// The broker is alive
    Heartbeat,
    /// The conversation is over: close the socket; a new one may be begun
    Disconnect,
    /// The reply isn't wanted any longer
    ///
    /// The worker's place stays taken until the worker ends the request all the same, with
    /// [`Final`](WorkerCommand::Final) or with [`Refused`](WorkerCommand::Refused) and [`Status::CANCELLED`].
    Cancel {
        /// The request
        token: Bytes,
    },
    /// Finish what you have, then disconnect and don't come back
    Drain,
}

/// What a broker received, and where an answer goes
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Incoming {
    /// The wire it came on
    pub wire: Wire,
    /// What stands in front of replies to it; never anything for workers
    pub path: ReturnPath,
    /// What it says
    pub command: Command,
}

/// What a broker hears
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// From a client
    Client(ClientCommand),
    /// From a worker
    Worker(WorkerCommand),
}

/// Reads what a broker received, on whichever wire, without the routing id of the connection
///
/// # Errors
/// [`Rejected`]: why it is none of the wires' commands, and as far as can be told whose.
pub fn decode(message: Message) -> Result<Incoming, Rejected> {
    let frames = message.into_frames();
    let first = frames.first().map_or(&[][..], |frame| frame);
    match first {
        tidings::CLIENT_HEADER => tidings::decode_client_command(frames),
        tidings::WORKER_HEADER => tidings::decode_worker_command(frames),
        [zproto::SIGNATURE_0, zproto::SIGNATURE_1, ..] => zproto::decode_command(frames),
        _ => classic::decode_command(frames),
    }
}

impl ClientReply {
    /// The message with which a broker says it, without the routing id of the connection
    ///
    /// # Errors
    /// Only our own wire can refuse, and 0.1 has no partial replies.
    pub fn encode(self, wire: Wire, path: &ReturnPath) -> Result<Message, NotOnThisWire> {
        match wire {
            Wire::Tidings => Ok(tidings::encode_client_reply(self)),
            Wire::Zproto => zproto::encode_client_reply(self),
            _ => classic::encode_client_reply(self, wire, path),
        }
    }

    /// Reads what a client received
    ///
    /// # Errors
    /// What is wrong with it; the broker at the other end is none, or speaks another wire.
    pub fn decode(message: Message, wire: Wire) -> Result<Self, Malformed> {
        let frames = message.into_frames();
        match wire {
            Wire::Tidings => tidings::decode_client_reply(frames),
            Wire::Zproto => zproto::decode_client_reply(frames),
            _ => classic::decode_client_reply(frames, wire),
        }
    }
}

impl WorkerOrder {
    /// The message with which a broker says it, without the routing id of the connection
    ///
    /// # Errors
    /// Only our own wire can cancel and drain.
    pub fn encode(self, wire: Wire) -> Result<Message, NotOnThisWire> {
        match wire {
            Wire::Tidings => Ok(tidings::encode_worker_order(self)),
            Wire::Zproto => zproto::encode_worker_order(self),
            _ => classic::encode_worker_order(self, wire),
        }
    }

    /// Reads what a worker received
    ///
    /// # Errors
    /// What is wrong with it; the broker at the other end is none, or speaks another wire.
    pub fn decode(message: Message, wire: Wire) -> Result<Self, Malformed> {
        let frames = message.into_frames();
        match wire {
            Wire::Tidings => tidings::decode_worker_order(frames),
            Wire::Zproto => zproto::decode_worker_order(frames),
            _ => classic::decode_worker_order(frames, wire),
        }
    }
}

impl ClientCommand {
    /// The message with which a client says it over a DEALER
    ///
    /// Options that a wire can't carry are left out: all of them but Domogik's deadline, except on our own.
    ///
    /// # Errors
    /// Only our own wire can cancel.
    pub fn encode(self, wire: Wire) -> Result<Message, NotOnThisWire> {
        match wire {
            Wire::Tidings => Ok(tidings::encode_client_command(self)),
            Wire::Zproto => zproto::encode_client_command(self),
            _ => classic::encode_client_command(self, wire),
        }
    }
}

impl WorkerCommand {
    /// The message with which a worker says it over a DEALER
    ///
    /// Options of READY are left out where a wire can't carry them: everywhere but on our own.
    ///
    /// # Errors
    /// Only our own wire can refuse and announce an end, and 0.1 has no partial replies.
    pub fn encode(self, wire: Wire) -> Result<Message, NotOnThisWire> {
        match wire {
            Wire::Tidings => Ok(tidings::encode_worker_command(self)),
            Wire::Zproto => zproto::encode_worker_command(self),
            _ => classic::encode_worker_command(self, wire),
        }
    }
}

/// A length of time as the milliseconds of an option; part of one counts whole, so that it never turns into none
fn milliseconds(time: Duration) -> u32 {
    u32::try_from(time.as_nanos().div_ceil(1_000_000)).unwrap_or(u32::MAX)
}

/// Puts `header` in front of `body`
fn in_front<const N: usize>(header: [Bytes; N], mut body: Body) -> Message {
    body.insert_many(0, header);
    Message::from_frames(body)
}

/// Takes away the first `count` frames
fn behind(mut frames: Body, count: usize) -> Body {
    frames.drain(..count.min(frames.len()));
    frames
}

/// Moves a frame out, and leaves an empty one; an empty one too where there is none
fn take(frames: &mut Body, index: usize) -> Bytes {
    frames.get_mut(index).map(std::mem::take).unwrap_or_default()
}

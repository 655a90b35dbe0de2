//! Why a request has no reply, and what to do then.

use std::convert::Infallible;
use std::time::Duration;

use tidings_socket::EndpointError;

use crate::message::MessageError;
use crate::wire::{ServiceNameError, Status};

/// Why a request has no reply
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RequestError {
    /// The broker or a worker says no; [`Status`] tells whether to try again, and the text why
    #[error("refused: {status}{}", spoken(*status, text))]
    Refused {
        /// Why, by its number
        status: Status,
        /// Why, in the words of who refused
        text: String,
    },
    /// Its time was over first; if it was sent it may have been executed: ask again with the same key, or look
    #[error("no reply within {after:?}{}", if *sent { "" } else { ": no conversation with the broker could take the request" })]
    DeadlinePassed {
        /// The time it had
        after: Duration,
        /// Whether it was sent
        sent: bool,
    },
    /// The connection was lost and the request may not be sent again: it may have been executed; look before asking again
    #[error("the connection to the broker was lost, and the request may not be repeated")]
    ConnectionLost,
    /// The broker doesn't let us in, or we not it: somebody has to change keys, rules or the endpoint first
    #[error("the broker can't be used: {reason}")]
    Unreachable {
        /// Why
        reason: String,
    },
    /// As many requests are under way as may be: wait for some to end, or raise `max_in_flight`
    #[error("{most} requests are under way, the most there may be")]
    TooManyInFlight {
        /// The bound
        most: usize,
    },
    /// More parts of the reply came than were taken in time: take them as they come, or raise `max_parts`
    #[error("{parts} parts of the reply with {octets} octets wait to be taken, more than may")]
    TooManyParts {
        /// How many waited
        parts: usize,
        /// Their octets, with the one that was too much
        octets: usize,
    },
    /// The service can't be called that; nothing was sent
    #[error(transparent)]
    Service(#[from] ServiceNameError),
    /// An idempotency key has 1 to 255 octets; nothing was sent
    #[error("an idempotency key has 1 to 255 octets, not {octets}")]
    Key {
        /// How many it has
        octets: usize,
    },
    /// The reply is none of the form that was expected; the service speaks another language than action and JSON
    #[error("the reply can't be read: {0}")]
    Reply(#[from] MessageError),
    /// The broker's answer to a question about itself is none; it may be of another make
    #[error("the broker's answer can't be read: {0}")]
    Answer(String),
    /// The client is closed
    #[error("the client is closed")]
    Closed,
}

impl RequestError {
    /// The status with which broker or worker refused
    #[must_use]
    pub fn status(&self) -> Option<Status> {
        match self {
            Self::Refused { status, .. } => Some(*status),
            _ => None,
        }
    }
}

/// The words of whoever refused, unless they say no more than the status does
fn spoken(status: Status, text: &str) -> String {
    if text.is_empty() || text == status.words() { String::new() } else { format!(": {text}") }
}

impl From<Infallible> for RequestError {
    fn from(never: Infallible) -> Self {
        match never {}
    }
}

/// Why there is no client
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// The text is no endpoint to connect to; the message says what would be one
    #[error(transparent)]
    Endpoint(#[from] EndpointError),
    /// The broker doesn't let us in, or we not it: somebody has to change keys, rules or the endpoint first
    #[error("the broker can't be used: {reason}")]
    Unreachable {
        /// Why
        reason: String,
    },
    /// No broker answered in time; `Client::new` would have gone on trying
    #[error("no conversation with a broker at {endpoint} within {after:?}")]
    TimedOut {
        /// The endpoint
        endpoint: String,
        /// The time there was
        after: Duration,
    },
}

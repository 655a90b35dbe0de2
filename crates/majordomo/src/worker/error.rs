//! What a handler may come to besides a reply, and why there is no worker.

use std::fmt;

use tidings_socket::EndpointError;
use tidings_zmtp::Message as Frames;

use crate::wire::{Body, NotOnThisWire, ServiceNameError, Status};

/// A handler's no, with a status and words for the client
///
/// Any error becomes one by `?`, with status 500 and its own words; choose others with [`new`](Self::new). Wires that can't
/// refuse get a reply of two frames instead, the three digits and the words, as MMI and Titanic answer.
#[derive(Clone, PartialEq, Eq)]
pub struct Failure {
    status: Status,
    text: String,
    reply: Option<Box<Frames>>,
}

impl Failure {
    /// A failure with this status: 400 and the like where the request is wrong, 500 and the like where the worker is
    #[must_use]
    pub fn new(status: Status, text: impl Into<String>) -> Self {
        Self { status, text: text.into(), reply: None }
    }

    /// What clients get on wires that can't refuse, instead of digits and words
    #[must_use]
    pub fn with_reply(mut self, reply: impl Into<Frames>) -> Self {
        self.reply = Some(Box::new(reply.into()));
        self
    }

    /// Its status
    #[must_use]
    pub fn status(&self) -> Status {
        self.status
    }

    /// Its words
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    pub(super) fn into_body(self) -> Body {
        let digits = self.status.digits();
        match self.reply {
            Some(reply) => reply.into_frames(),
            None => Frames::multipart([digits.to_vec(), self.text.into_bytes()]).into_frames(),
        }
    }
}

impl fmt::Debug for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Failure").field("status", &self.status).field("text", &self.text).finish_non_exhaustive()
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.status, self.text)
    }
}

impl<E: std::error::Error> From<E> for Failure {
    fn from(error: E) -> Self {
        Self::new(Status::WORKER_FAILED, error.to_string())
    }
}

/// Why a part of a reply was not sent
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PartialError {
    /// Nobody waits for it any longer: stop
    #[error("nobody waits for the reply any longer")]
    Gone,
    /// The broker's wire has no parts: send everything at the end
    #[error(transparent)]
    NotOnThisWire(NotOnThisWire),
}

/// Why there is no worker
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServeError {
    /// The text is no endpoint to connect to; the message says what would be one
    #[error(transparent)]
    Endpoint(#[from] EndpointError),
    /// A service can't be called that
    #[error(transparent)]
    Service(#[from] ServiceNameError),
}

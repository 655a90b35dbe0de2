//! What answers requests: a trait, and closures that have it.

use std::future::Future;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use bytes::Bytes;
use tidings_zmtp::Message as Frames;
use tokio_util::sync::CancellationToken;

use super::error::{Failure, PartialError};
use super::jobs::{JobId, NewJob};
use super::{Link, now};
use crate::message::{Message, MessageError};
use crate::wire::ServiceName;

/// Answers requests, several at a time if the worker takes several
///
/// Requests that come together are begun one after the other in one task; a handler that waits goes on in a task of its own, and so
/// do all from their beginning where handlers compute for more than some microseconds. Heartbeats go on meanwhile. A handler that panics has its request refused
/// with 500, and the worker goes on. Closures from a [`Request`] to a future are handlers; for work that blocks or computes
/// for long there is [`blocking`].
pub trait Handler: Send + Sync + 'static {
    /// Answers a request
    ///
    /// It runs to its end even when nobody waits any longer: [`Request::cancelled`] tells.
    fn handle(&self, request: Request) -> impl Future<Output = Result<Frames, Failure>> + Send;
}

impl<F, Answer, Reply> Handler for F
where
    F: Fn(Request) -> Answer + Send + Sync + 'static,
    Answer: Future<Output = Result<Reply, Failure>> + Send,
    Reply: Into<Frames>,
{
    async fn handle(&self, request: Request) -> Result<Frames, Failure> {
        self(request).await.map(Into::into)
    }
}

/// A handler that may block: each request on a thread that is there for that
///
/// The worker's `concurrency` bounds the threads. On our own wire several requests can be handled at once, elsewhere one.
pub fn blocking<F, Reply>(handler: F) -> impl Handler
where
    F: Fn(Request) -> Result<Reply, Failure> + Send + Sync + 'static,
    Reply: Into<Frames>,
{
    Blocking(Arc::new(move |request| handler(request).map(Into::into)))
}

type BlockingHandler = dyn Fn(Request) -> Result<Frames, Failure> + Send + Sync;

struct Blocking(Arc<BlockingHandler>);

impl Handler for Blocking {
    async fn handle(&self, request: Request) -> Result<Frames, Failure> {
        let handler = self.0.clone();
        match tokio::task::spawn_blocking(move || handler(request)).await {
            Ok(result) => result,
            Err(error) => match error.try_into_panic() {
                Ok(panic) => std::panic::resume_unwind(panic),
                Err(error) => Err(error.into()),
            },
        }
    }
}

/// A request, as a handler gets it
#[derive(Debug)]
pub struct Request {
    body: Frames,
    id: JobId,
    deadline: Option<Instant>,
    attempt: u32,
    key: Option<Bytes>,
    takes_parts: bool,
    token: OnceLock<CancellationToken>,
    link: Arc<Link>,
}

impl Request {
    pub(super) fn new(job: NewJob, link: Arc<Link>) -> Self {
        let NewJob { id, body, deadline, attempt, key, takes_parts } = job;
        let body = Frames::from_frames(body);
        Self { body, id, deadline, attempt, key, takes_parts, token: OnceLock::new(), link }
    }

    pub(super) fn id(&self) -> JobId {
        self.id
    }

    pub(super) fn link(&self) -> Arc<Link> {
        self.link.clone()
    }

    /// What is asked
    #[must_use]
    pub fn body(&self) -> &Frames {
        &self.body
    }

    /// What is asked, without a copy
    #[must_use]
    pub fn into_body(self) -> Frames {
        self.body
    }

    /// What is asked, as an action with its data
    ///
    /// # Errors
    /// It is none.
    pub fn message(&self) -> Result<Message, MessageError> {
        Message::decode(&self.body)
    }

    /// The service that is asked
    #[must_use]
    pub fn service(&self) -> &ServiceName {
        &self.link.service
    }

    /// How much time is left for it; `None` if nobody said. Nothing is left when it has passed.
    #[must_use]
    pub fn remaining(&self) -> Option<Duration> {
        self.deadline.map(|deadline| deadline.saturating_duration_since(now()))
    }

    /// Which try it is, from 1: beyond that another worker may have done part of it. Brokers other than ours say 1 always.
    #[must_use]
    pub fn attempt(&self) -> u32 {
        self.attempt
    }

    /// The idempotency key that the client gave; brokers other than ours pass none on
    #[must_use]
    pub fn key(&self) -> Option<&Bytes> {
        self.key.as_ref()
    }

    /// Tells when nobody waits for the reply any longer: the client took the request back, its time is over, or the
    /// conversation that it came in
    ///
    /// Await [`CancellationToken::cancelled`], or look at [`CancellationToken::is_cancelled`] now and then.
    #[must_use]
    pub fn cancelled(&self) -> &CancellationToken {
        self.token.get_or_init(|| self.link.token(self.id))
    }

    /// Whether the broker's wire has replies in parts
    #[must_use]
    pub fn takes_parts(&self) -> bool {
        self.takes_parts
    }

    /// Sends a part of the reply; what the handler returns is the last one
    ///
    /// Waits while the connection can't take more.
    ///
    /// # Errors
    /// [`PartialError`].
    ///
    /// # Cancel safety
    /// Safe: when dropped before it completes, the part was not sent.
    pub async fn partial(&self, part: impl Into<Frames>) -> Result<(), PartialError> {
        self.link.partial(self.id, part.into()).await
    }

    /// As [`partial`](Self::partial), for handlers that block
    ///
    /// # Errors
    /// As `partial`.
    pub fn partial_blocking(&self, part: impl Into<Frames>) -> Result<(), PartialError> {
        tidings_socket::block_on(self.partial(part), None).unwrap_or(Err(PartialError::Gone))
    }
}

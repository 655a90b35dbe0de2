//! One request: how it is made, awaited, and given up.

use std::fmt;
use std::future::{IntoFuture, poll_fn};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use tidings_socket::block_on;
use tidings_zmtp::Message as Frames;

use super::error::RequestError;
use super::requests::{NewRequest, RequestId};
use super::{Client, now};
use crate::message::{Message, MessageError};
use crate::wire::{RequestOptions, ServiceName};

/// A request that is not sent yet: await it, or take its reply in [`parts`](Self::parts)
#[must_use = "nothing is sent before this is awaited"]
#[derive(Debug)]
pub struct Call {
    client: Client,
    service: Result<ServiceName, RequestError>,
    body: Frames,
    options: RequestOptions,
}

/// What a service answered
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Reply {
    /// The reply, or the last of its parts
    pub body: Frames,
    /// The parts that came before it; mostly none
    pub parts: Vec<Frames>,
}

/// A part of a reply
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Part {
    /// More follows
    Partial(Frames),
    /// The last one
    Final(Frames),
}

impl Reply {
    /// The reply as an action with its data
    ///
    /// # Errors
    /// It is none.
    pub fn message(&self) -> Result<Message, MessageError> {
        Message::decode(&self.body)
    }
}

impl Call {
    pub(super) fn new(
        client: Client,
        service: Result<ServiceName, RequestError>,
        body: Frames,
        deadline: Option<Duration>,
    ) -> Self {
        Self { client, service, body, options: RequestOptions { deadline, ..RequestOptions::default() } }
    }

    /// How long it may take from when it is first polled, waiting for a connection included
    ///
    /// On our own wire it travels along: worker and broker know how much time is left, and nobody goes on when it is over.
    pub fn deadline(mut self, time: Duration) -> Self {
        self.options.deadline = Some(time);
        self
    }

    /// It may take as long as it does, whatever the client's `timeout` is
    pub fn no_deadline(mut self) -> Self {
        self.options.deadline = None;
        self
    }

    /// An idempotency key of 1 to 255 octets: a second request of the same service and key is answered from the first one's
    /// reply. Only our own wire carries it.
    pub fn key(mut self, key: impl Into<Bytes>) -> Self {
        self.options.key = Some(key.into());
        self
    }

    /// It is sent once: neither this client after a lost connection nor the broker after a worker's death repeats it
    ///
    /// The broker hears of that only on our own wire.
    pub fn not_repeatable(mut self) -> Self {
        self.options.repeatable = false;
        self
    }

    /// Takes the reply part by part, as it comes
    pub fn parts(self) -> Parts {
        Parts { call: Calling { state: CallState::New(self) } }
    }

    /// Waits for the reply on a thread without a runtime
    ///
    /// # Errors
    /// [`RequestError`].
    pub fn blocking(self) -> Result<Reply, RequestError> {
        block_on(self.into_future(), None).unwrap_or(Err(RequestError::Closed))
    }
}

impl IntoFuture for Call {
    type Output = Result<Reply, RequestError>;
    type IntoFuture = Calling;

    fn into_future(self) -> Calling {
        Calling { state: CallState::New(self) }
    }
}

/// A request under way: await it
///
/// It is sent when it is first polled, by the task that polls it. Dropped before it completes, it is taken back: on our own
/// wire the broker is told, and through it the worker.
#[must_use = "nothing is sent before this is awaited"]
pub struct Calling {
    state: CallState,
}

enum CallState {
    New(Call),
    Sent(Client, RequestId),
    Done,
}

impl Future for Calling {
    type Output = Result<Reply, RequestError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        if let Err(error) = this.start(cx) {
            return Poll::Ready(Err(error));
        }
        let CallState::Sent(client, id) = &this.state else { return Poll::Pending };
        let outcome = {
            let mut state = client.shared().lock();
            let Some(outcome) = state.requests.take_outcome(*id) else {
                state.set_waker(*id, cx.waker());
                return Poll::Pending;
            };
            outcome
        };
        this.state = CallState::Done;
        let parts = outcome.parts.into_iter().map(Frames::from_frames).collect();
        Poll::Ready(outcome.result.map(|body| Reply { body: Frames::from_frames(body), parts }))
    }
}

impl Calling {
    /// Sends the request if that has not been done
    fn start(&mut self, cx: &Context<'_>) -> Result<(), RequestError> {
        if !matches!(self.state, CallState::New(_)) {
            return Ok(());
        }
        let CallState::New(call) = std::mem::replace(&mut self.state, CallState::Done) else { return Ok(()) };
        let Call { client, service, body, options } = call;
        let request = NewRequest { service: service?, body: body.into_frames(), options };
        let id = client.shared().change(|state| {
            let id = state.requests.request(now(), request)?;
            state.set_waker(id, cx.waker());
            Ok::<_, RequestError>(id)
        })?;
        self.state = CallState::Sent(client, id);
        Ok(())
    }
}

impl Drop for Calling {
    fn drop(&mut self) {
        if let CallState::Sent(client, id) = &self.state {
            let waker = client.shared().change(|state| {
                state.requests.cancel(now(), *id);
                state.wakers.get_mut(id.index()).and_then(Option::take)
            });
            drop(waker);
        }
    }
}

impl fmt::Debug for Calling {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = match &self.state {
            CallState::New(_) => "new",
            CallState::Sent(..) => "sent",
            CallState::Done => "done",
        };
        f.debug_struct("Calling").field("state", &state).finish_non_exhaustive()
    }
}

/// The parts of a reply, as they come
///
/// Dropped before the last one, the request is taken back. Parts that came and were not taken yet are bounded by the
/// client's `max_parts`. A request of which a part was taken is not sent again when the connection is lost.
#[derive(Debug)]
#[must_use = "nothing is sent before the first part is awaited"]
pub struct Parts {
    call: Calling,
}

impl Parts {
    /// The next part; `None` after the last one, and after an error
    ///
    /// # Errors
    /// [`RequestError`].
    ///
    /// # Cancel safety
    /// Safe: a part is taken only when it is returned, and the request goes on for as long as this lives.
    pub async fn next(&mut self) -> Option<Result<Part, RequestError>> {
        poll_fn(|cx| self.poll_next(cx)).await
    }

    /// As [`next`](Self::next), for threads without a runtime
    pub fn next_blocking(&mut self) -> Option<Result<Part, RequestError>> {
        block_on(self.next(), None).flatten()
    }

    /// As [`next`](Self::next), for whoever polls
    pub fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Part, RequestError>>> {
        if let Err(error) = self.call.start(cx) {
            return Poll::Ready(Some(Err(error)));
        }
        let CallState::Sent(client, id) = &self.call.state else { return Poll::Ready(None) };
        let outcome = {
            let mut state = client.shared().lock();
            if let Some(part) = state.requests.take_part(*id) {
                return Poll::Ready(Some(Ok(Part::Partial(Frames::from_frames(part)))));
            }
            let Some(outcome) = state.requests.take_outcome(*id) else {
                state.set_waker(*id, cx.waker());
                return Poll::Pending;
            };
            outcome
        };
        self.call.state = CallState::Done;
        Poll::Ready(Some(outcome.result.map(|body| Part::Final(Frames::from_frames(body)))))
    }
}

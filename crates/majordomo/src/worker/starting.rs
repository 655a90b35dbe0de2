//! How handlers are begun: those of requests that came together in one task, until they have to wait.
//!
//! Most handlers answer without waiting for anything. A task for each costs more than they do, and so does sending each
//! reply by itself. Which handlers compute for long is seen by the first that does: then each has its own task at once.

use std::future::poll_fn;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::Poll;
use std::time::{Duration, Instant};

use tidings_zmtp::Message as Frames;

use super::error::Failure;
use super::handler::{Handler, Request};
use crate::wire::Status;

/// A task with handlers in it
pub(super) type Handling = Pin<Box<dyn Future<Output = ()> + Send>>;

/// How long handlers have taken
#[derive(Debug, Default)]
pub(super) struct Pace {
    /// Requests that are still to have tasks of their own from their beginning
    slow: AtomicU32,
}

/// Begins the handlers of requests that came together
pub(super) fn start<H: Handler>(
    handler: &Arc<H>,
    mut requests: Vec<Request>,
    spawn: &(impl Fn(Handling) + Clone + Send + 'static),
) {
    let Some(link) = requests.first().map(Request::link) else { return };
    let many = u32::try_from(requests.len()).unwrap_or(u32::MAX);
    let is_slow = |slow: u32| (slow > 0).then(|| slow.saturating_sub(many));
    if many == 1 || link.pace.slow.fetch_update(Ordering::Relaxed, Ordering::Relaxed, is_slow).is_ok() {
        return requests.into_iter().for_each(|request| spawn(Box::pin(run(handler.clone(), request))));
    }
    let (handler, spawn) = (handler.clone(), spawn.clone());
    spawn.clone()(Box::pin(async move {
        let mut done = Vec::with_capacity(requests.len());
        let mut requests = requests.drain(..);
        let mut began = Instant::now();
        for request in requests.by_ref() {
            let id = request.id();
            let mut handling = Box::pin(handle(handler.clone(), request));
            let polled = poll_fn(|cx| Poll::Ready(handling.as_mut().poll(cx))).await;
            match polled {
                Poll::Ready(result) => done.push((id, result)),
                Poll::Pending => {
                    let link = link.clone();
                    spawn(Box::pin(async move {
                        let result = handling.await;
                        link.finish([(id, result)]).await;
                    }));
                }
            }
            let now = Instant::now();
            if now - std::mem::replace(&mut began, now) > LONG {
                link.pace.slow.store(SLOW, Ordering::Relaxed);
                break;
            }
        }
        requests.for_each(|request| spawn(Box::pin(run(handler.clone(), request))));
        if !done.is_empty() {
            link.finish(done).await;
        }
    }));
}

/// One request from its beginning to its end
async fn run<H: Handler>(handler: Arc<H>, request: Request) {
    let (link, id) = (request.link(), request.id());
    let result = handle(handler, request).await;
    link.finish([(id, result)]).await;
}

/// What a handler comes to; a panic is a refusal
async fn handle<H: Handler>(handler: Arc<H>, request: Request) -> Result<Frames, Failure> {
    let link = request.link();
    // Also what it does before its first await, and what it drops at the end, belongs to it
    let mut handling = std::pin::pin!(async { handler.handle(request).await });
    poll_fn(|cx| match catch_unwind(AssertUnwindSafe(|| handling.as_mut().poll(cx))) {
        Ok(polled) => polled,
        Err(_) => {
            tracing::error!(service = %link.service, "a handler panicked; its request is refused");
            Poll::Ready(Err(Failure::new(Status::WORKER_FAILED, "the handler panicked")))
        }
    })
    .await
}

/// A handler that takes longer, up to where it waits, keeps others from beginning
const LONG: Duration = Duration::from_micros(20);

/// Requests that have tasks of their own after one such
const SLOW: u32 = 1024;

//! What is under way: a future, or for callers without a runtime, something to wait for.

use std::fmt;
use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::Thread;

use crate::StoreError;

/// The outcome of an operation on a store, to be awaited, or waited for
///
/// Nothing happens before it is. Once it has been polled, dropping it withdraws nothing: the operation may be done or not.
#[must_use = "nothing happens before it is awaited, or waited for"]
pub struct Pending<T> {
    future: Pin<Box<dyn Future<Output = Result<T, StoreError>> + Send>>,
}

impl<T> Pending<T> {
    pub(crate) fn new(future: impl Future<Output = Result<T, StoreError>> + Send + 'static) -> Self {
        Self { future: Box::pin(future) }
    }

    /// Blocks this thread until it is there; needs no runtime, and has no place in a task of one
    ///
    /// # Errors
    /// As the operation has them.
    pub fn wait(self) -> Result<T, StoreError> {
        block_on(self)
    }
}

impl<T> Future for Pending<T> {
    type Output = Result<T, StoreError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        self.future.as_mut().poll(context)
    }
}

impl<T> fmt::Debug for Pending<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pending").finish_non_exhaustive()
    }
}

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

fn block_on<F: Future>(future: F) -> F::Output {
    let mut future = pin!(future);
    let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
    loop {
        if let Poll::Ready(outcome) = future.as_mut().poll(&mut Context::from_waker(&waker)) {
            return outcome;
        }
        std::thread::park();
    }
}

//! Waiting for a future on a plain thread.

use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

/// Runs a future on this thread until it is done, or until the deadline has passed: then `None`
///
/// The future must not need a runtime's timers; others may wake it from anywhere.
pub fn block_on<T>(future: impl Future<Output = T>, deadline: Option<Duration>) -> Option<T> {
    let until = deadline.and_then(|deadline| Instant::now().checked_add(deadline));
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let mut context = Context::from_waker(&waker);
    let mut future = pin!(future);
    loop {
        if let Poll::Ready(value) = future.as_mut().poll(&mut context) {
            return Some(value);
        }
        match until {
            None => thread::park(),
            Some(until) => {
                let left = until.saturating_duration_since(Instant::now());
                if left.is_zero() {
                    return None;
                }
                thread::park_timeout(left);
            }
        }
    }
}

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.0.unpark();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_from_another_thread_arrives() {
        let (sender, receiver) = tokio::sync::oneshot::channel();
        let sending = thread::spawn(move || sender.send(7));
        assert_eq!(block_on(receiver, None), Some(Ok(7)));
        sending.join().unwrap().unwrap();
    }

    #[test]
    fn a_deadline_ends_the_wait() {
        assert_eq!(block_on(std::future::pending::<()>(), Some(Duration::from_millis(5))), None);
    }
}

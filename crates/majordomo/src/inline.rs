//! A future that runs right where it is woken.
//!
//! A reply is for a task that waits. To receive it in a task of our own would make two wake-ups of one, and as many hops
//! from thread to thread. What is run here is polled by whoever wakes it, which for a socket is the task of the
//! connection that brought messages. So it must be short, never block, and hold no lock that a waker's caller may hold.

use std::pin::Pin;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Wake, Waker};

/// Polls the future now, and again wherever it is woken, until it ends
pub(crate) fn run(future: impl Future<Output = ()> + Send + 'static) {
    let inline = Inline { state: AtomicU8::new(IDLE), future: Mutex::new(Some(Box::pin(future))) };
    Arc::new(inline).wake();
}

struct Inline {
    state: AtomicU8,
    /// Only who has set the state to `RUNNING` locks it
    future: Mutex<Option<Pin<Box<dyn Future<Output = ()> + Send>>>>,
}

impl Wake for Inline {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        let woken = |state| Some(if state == IDLE { RUNNING } else { RUNNING_AND_WOKEN });
        // Who polls it now will do so once more
        if self.state.fetch_update(Ordering::AcqRel, Ordering::Acquire, woken) != Ok(IDLE) {
            return;
        }
        let waker = Waker::from(self.clone());
        let mut context = Context::from_waker(&waker);
        let mut slot = self.future.lock().unwrap_or_else(PoisonError::into_inner);
        while let Some(future) = slot.as_mut() {
            if future.as_mut().poll(&mut context).is_ready() {
                // The state stays as it is: nothing wakes it any more
                *slot = None;
            } else if self.state.compare_exchange(RUNNING, IDLE, Ordering::AcqRel, Ordering::Acquire).is_ok() {
                return;
            } else {
                self.state.store(RUNNING, Ordering::Release);
            }
        }
    }
}

const IDLE: u8 = 0;
const RUNNING: u8 = 1;
const RUNNING_AND_WOKEN: u8 = 2;

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;
    use std::task::Poll;
    use std::thread;

    use tokio::sync::mpsc;

    use super::*;

    #[test]
    fn runs_where_it_is_woken() {
        let (sender, mut receiver) = mpsc::unbounded_channel();
        let (told, said) = std::sync::mpsc::channel();
        run(async move {
            while let Some(number) = receiver.recv().await {
                told.send((number, thread::current().id())).unwrap();
            }
        });
        sender.send(1).unwrap();
        assert_eq!(said.try_recv(), Ok((1, thread::current().id())), "it ran before send returned");
        let other = thread::spawn(move || {
            sender.send(2).unwrap();
            thread::current().id()
        });
        let other = other.join().unwrap();
        assert_eq!(said.try_recv(), Ok((2, other)));
        assert!(said.recv().is_err(), "it ended with its channel");
    }

    #[test]
    fn no_wake_is_lost_or_run_twice_at_once() {
        const THREADS: usize = 4;
        const WAKES: usize = 2000;
        let (polls, inside) = (Arc::new(AtomicUsize::new(0)), AtomicUsize::new(0));
        let (given, waker) = std::sync::mpsc::channel::<Waker>();
        let (counted, wanted) = (polls.clone(), Arc::new(AtomicUsize::new(0)));
        let seen = wanted.clone();
        let mut given = Some(given);
        run(std::future::poll_fn(move |cx| {
            assert_eq!(inside.fetch_add(1, Ordering::SeqCst), 0);
            if let Some(given) = given.take() {
                given.send(cx.waker().clone()).unwrap();
            }
            counted.store(seen.load(Ordering::SeqCst), Ordering::SeqCst);
            inside.fetch_sub(1, Ordering::SeqCst);
            Poll::Pending
        }));
        let waker = waker.recv().unwrap();
        thread::scope(|scope| {
            for _ in 0..THREADS {
                scope.spawn(|| {
                    for _ in 0..WAKES {
                        wanted.fetch_add(1, Ordering::SeqCst);
                        waker.wake_by_ref();
                    }
                });
            }
        });
        assert_eq!(polls.load(Ordering::SeqCst), THREADS * WAKES, "the last poll saw what the last wake was for");
    }

    #[test]
    fn a_future_that_wakes_itself_goes_on() {
        let polls = Arc::new(AtomicUsize::new(0));
        let counted = polls.clone();
        run(std::future::poll_fn(move |cx| {
            cx.waker().wake_by_ref();
            if counted.fetch_add(1, Ordering::SeqCst) == 9 { Poll::Ready(()) } else { Poll::Pending }
        }));
        assert_eq!(polls.load(Ordering::SeqCst), 10);
    }
}

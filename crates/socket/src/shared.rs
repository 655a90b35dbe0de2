//! What the handles of a socket and the tasks of its connections share: the state, its lock, and whom to wake.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tidings_transport::Endpoint;
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

use crate::context::Context;
use crate::dialer::Outcome;
use crate::events::EventKind;
use crate::pipe::PipeKey;
use crate::security::Terms;
use crate::state::{Phase, Reporter, State};

/// One socket, as its handles and tasks see it
#[derive(Debug)]
pub(crate) struct Shared {
    state: Mutex<State>,
    /// A message can be received
    pub(crate) readable: Notify,
    /// A pipe has room again
    pub(crate) writable: Notify,
    /// Peers, subscriptions, tasks or the phase changed
    pub(crate) changed: Notify,
    pub(crate) reporter: Reporter,
    pub(crate) context: Context,
    endpoints: Mutex<Endpoints>,
    tasks: AtomicUsize,
    /// Tasks that wait in a receive
    pub(crate) receivers_waiting: AtomicUsize,
    /// Listeners that wait for descriptors
    pub(crate) paused_listeners: AtomicUsize,
}

/// Where a socket is bound and connected
#[derive(Debug, Default)]
pub(crate) struct Endpoints {
    pub(crate) bound: Vec<Bound>,
    pub(crate) dialed: Vec<Dialed>,
    next_number: u64,
}

impl Endpoints {
    /// Tells one bind or connect from another to the same endpoint
    pub(crate) fn number(&mut self) -> u64 {
        self.next_number += 1;
        self.next_number
    }
}

/// A bound endpoint
#[derive(Debug)]
pub(crate) struct Bound {
    pub(crate) number: u64,
    /// As it was given
    pub(crate) wanted: Endpoint,
    /// With the real port or path, once it listens
    pub(crate) actual: Option<Endpoint>,
    pub(crate) stop: CancellationToken,
    pub(crate) terms: Arc<Terms>,
}

/// An endpoint that is connected to
#[derive(Debug)]
pub(crate) struct Dialed {
    pub(crate) number: u64,
    pub(crate) endpoint: Endpoint,
    pub(crate) key: Option<PipeKey>,
    pub(crate) stop: CancellationToken,
    pub(crate) outcome: watch::Receiver<Option<Outcome>>,
    pub(crate) terms: Arc<Terms>,
}

impl Shared {
    pub(crate) fn new(state: State, reporter: Reporter, context: Context) -> Self {
        Self {
            state: Mutex::new(state),
            readable: Notify::new(),
            writable: Notify::new(),
            changed: Notify::new(),
            reporter,
            context,
            endpoints: Mutex::default(),
            tasks: AtomicUsize::new(0),
            receivers_waiting: AtomicUsize::new(0),
            paused_listeners: AtomicUsize::new(0),
        }
    }

    /// Works on the state under its lock, then wakes whoever that concerns
    pub(crate) fn with<R>(&self, work: impl FnOnce(&mut State) -> R) -> R {
        let mut state = lock(&self.state);
        let result = work(&mut state);
        let signals = &mut state.signals;
        if !(signals.readable | signals.writable | signals.changed | signals.closing) && signals.links.is_empty() {
            return result;
        }
        let signals = std::mem::take(signals);
        drop(state);
        if signals.closing {
            self.readable.notify_waiters();
        }
        if signals.readable {
            self.readable.notify_one();
        }
        if signals.writable | signals.closing {
            self.writable.notify_waiters();
        }
        if signals.changed | signals.closing {
            self.changed.notify_waiters();
        }
        signals.links.into_iter().for_each(|link| link.pump());
        result
    }

    pub(crate) fn endpoints(&self) -> MutexGuard<'_, Endpoints> {
        lock(&self.endpoints)
    }

    pub(crate) fn phase(&self) -> Phase {
        self.with(|state| state.phase)
    }

    /// Says something about an endpoint
    pub(crate) fn say(&self, endpoint: &str, kind: impl FnOnce() -> EventKind) {
        self.reporter.say(None, Some(endpoint), None, kind);
    }

    /// Runs a task of this socket; closing waits for all of them
    pub(crate) fn spawn(self: &Arc<Self>, task: impl Future<Output = ()> + Send + 'static) {
        let running = Running::new(self.clone());
        self.context.spawn(async move {
            task.await;
            drop(running);
        });
    }

    /// Tasks that still run
    pub(crate) fn tasks(&self) -> usize {
        self.tasks.load(Ordering::Acquire)
    }

    /// Stops listening and dialling; connections drain
    pub(crate) fn begin_close(&self) {
        // First: an inproc peer that finds this socket closing looks for the name again
        self.context.names().unbind_all(self);
        self.with(State::begin_close);
        let unsent = self.with(|state| state.unsent());
        self.context.names().stop_all_waiting(self, &unsent);
        let endpoints = self.endpoints();
        endpoints.bound.iter().for_each(|bound| bound.stop.cancel());
        for dialed in &endpoints.dialed {
            if !dialed.key.is_some_and(|key| unsent.contains(&key)) {
                dialed.stop.cancel();
            }
        }
    }

    /// Ends everything now
    pub(crate) fn end_close(&self) {
        self.context.names().stop_all_waiting(self, &[]);
        self.endpoints().dialed.iter().for_each(|dialed| dialed.stop.cancel());
        if self.with(State::end_close) {
            self.reporter.say(None, None, None, || EventKind::Closed);
        }
    }

    /// Whether nothing is left to be written, or nobody is left to write it
    pub(crate) fn is_drained(&self) -> bool {
        self.tasks() == 0 && !self.with(|state| state.has_unsent_local())
    }

    /// Ends when nothing is left to be written, or nobody is left to write it
    pub(crate) async fn drained(&self) {
        loop {
            let changed = self.changed.notified();
            if self.is_drained() {
                return;
            }
            changed.await;
        }
    }
}

/// Counts a task for as long as it lives, also if it is dropped with its runtime
#[derive(Debug)]
struct Running(Arc<Shared>);

impl Running {
    fn new(shared: Arc<Shared>) -> Self {
        shared.tasks.fetch_add(1, Ordering::AcqRel);
        Self(shared)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.0.tasks.fetch_sub(1, Ordering::AcqRel);
        self.0.changed.notify_waiters();
    }
}

/// Locks even if a thread panicked with the lock held: every change of the state is whole when it can unwind
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

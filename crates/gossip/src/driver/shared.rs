//! What a node's loop, the tasks of its connections and its handles share.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tidings_socket::{Context, Endpoint, Socket};
use tokio::sync::{Notify, mpsc, watch};

use super::house::House;
use super::options::{ConnectOptions, Terms};
use super::remote::{Dialling, Outcome, Remote, Stop};
use super::watch::Queue;
use crate::node::Node;
use crate::record::Tuple;

/// What loop, tasks and handles share
pub(crate) struct Shared {
    pub(super) context: Context,
    pub(super) router: Socket,
    pub(super) terms: Terms,
    /// Locked for a batch of messages, never while waiting
    pub(super) house: Mutex<House>,
    /// Somebody did something with the node
    pub(super) touched: Notify,
    pub(super) stop: Mutex<Option<Instant>>,
    /// Given to the tasks of dialled connections; taken away when the node ends
    pub(super) running: Mutex<Option<mpsc::Sender<()>>>,
}

impl Shared {
    pub(super) fn house(&self) -> MutexGuard<'_, House> {
        self.house.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Does something with the node; what comes of it is told at once and sent soon
    pub(crate) fn with<T>(&self, act: impl FnOnce(&mut House, Instant) -> T) -> T {
        let done = {
            let (mut house, now) = (self.house(), now());
            let done = act(&mut house, now);
            house.tell(now);
            done
        };
        self.touched.notify_one();
        done
    }

    /// Does something that makes nothing to send
    pub(super) fn with_house<T>(&self, act: impl FnOnce(&mut House, Instant) -> T) -> T {
        act(&mut self.house(), now())
    }

    pub(super) fn look<T>(&self, look: impl FnOnce(&Node, Instant) -> T) -> T {
        look(&self.house().node, now())
    }

    /// The first tuple behind a key, of those under a prefix
    pub(crate) fn tuple_after(&self, prefix: &[u8], after: Option<&[u8]>) -> Option<Tuple> {
        self.look(|node, now| node.tuples_after(now, prefix, after).next())
    }

    /// Adds a watch
    pub(crate) fn enter(&self, queue: &Arc<Queue>) {
        self.with_house(|house, now| house.watch(now, queue));
    }

    pub(crate) fn refill(&self, queue: &Queue) {
        self.with_house(|house, now| house.refill(now, queue));
    }

    /// Connects to an endpoint, unless that was done already or the node is over
    pub(super) fn connect(
        self: &Arc<Self>,
        endpoint: Endpoint,
        how: ConnectOptions,
        explicit: bool,
    ) -> Option<watch::Receiver<Option<Outcome>>> {
        let running = self.running.lock().unwrap_or_else(PoisonError::into_inner).clone()?;
        let (outcome, told) = watch::channel(None);
        let (stop, name) = (Arc::new(Stop::default()), endpoint.to_string());
        let number = {
            let mut house = self.house();
            if house.is_over {
                return None;
            }
            if let Some(known) = house.remotes.get(&name) {
                // One that the node made itself gives way to one that was asked for
                if !explicit || known.explicit {
                    return None;
                }
                known.stop.stop();
            }
            let number = house.next_remote();
            house.remotes.insert(name, Remote { stop: stop.clone(), number, explicit });
            number
        };
        let dialling = Dialling { shared: self.clone(), endpoint, how, explicit, number, stop, outcome, running };
        self.context.spawn(dialling.run());
        Some(told)
    }

    pub(super) fn stop(&self, deadline: Duration) {
        let until = now() + deadline;
        let mut stop = self.stop.lock().unwrap_or_else(PoisonError::into_inner);
        if stop.is_none() {
            self.house().node.leave(now());
        }
        *stop = Some(stop.map_or(until, |before| before.min(until)));
        drop(stop);
        self.touched.notify_one();
    }

    pub(super) fn stop_at(&self) -> Option<Instant> {
        *self.stop.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared").finish_non_exhaustive()
    }
}

/// The runtime's time, which tests may hold still
pub(crate) fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

/// A number that nobody outside can foresee
pub(super) fn random() -> u64 {
    std::hash::BuildHasher::hash_one(&std::hash::RandomState::new(), 0)
}

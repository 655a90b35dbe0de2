//! Titanic beside a running server: a task that carries what the broker, the store and time have for it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tidings_store::Store;
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, sleep_until, timeout};

use super::{Titanic, TitanicStats};
use crate::server::{Locals, Server};

/// Durable requests that are served beside a [`Server`]
///
/// Cheap to clone; they end with the server, not when handles are dropped.
#[derive(Clone, Debug)]
pub struct DurableRequests {
    shared: Arc<Shared>,
    ended: watch::Receiver<bool>,
    store: Store,
}

/// The broker has as many services or workers as it may have, or stops
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the broker has no room for the services titanic.request, titanic.reply and titanic.close")]
pub struct NoRoom;

#[derive(Debug, Default)]
struct Shared {
    stats: Mutex<TitanicStats>,
    is_stopping: AtomicBool,
    is_idle: AtomicBool,
    /// To the task: it is to stop
    stop: Notify,
    /// From the task: it has become idle
    idle: Notify,
}

impl Titanic {
    /// Serves durable requests beside `server`, whose local messages these are; belongs in a tokio runtime
    ///
    /// What the store has from an earlier time is gone on with at once.
    ///
    /// # Errors
    /// [`NoRoom`].
    pub fn serve(mut self, server: Server, locals: Locals) -> Result<DurableRequests, NoRoom> {
        if !server.with(|broker, now| self.attach(broker, now)) {
            return Err(NoRoom);
        }
        let shared = Arc::new(Shared::default());
        let (end, ended) = watch::channel(false);
        let requests = DurableRequests { shared: Arc::clone(&shared), ended, store: self.store.clone() };
        tokio::spawn(async move {
            let store = self.store.clone();
            run(self, server, locals, &shared).await;
            // It blocks for as long as the disk takes
            let _closed = tokio::task::spawn_blocking(move || store.close()).await;
            end.send_replace(true);
        });
        Ok(requests)
    }
}

impl DurableRequests {
    /// What was done
    #[must_use]
    pub fn stats(&self) -> TitanicStats {
        *self.shared.stats.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Where they are kept
    #[must_use]
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// Hands out nothing more; what is under way goes on as long as the server does
    pub fn begin_stop(&self) {
        self.shared.is_stopping.store(true, Ordering::Release);
        self.shared.stop.notify_one();
    }

    /// Hands out nothing more and waits for what is under way, for so long; whether all of it came to an end
    ///
    /// To be called before the server stops. Requests are still taken and stored until then, and what is left is executed
    /// when the store is opened again.
    ///
    /// # Cancel safety
    /// It stops all the same.
    pub async fn stop(&self, deadline: Duration) -> bool {
        self.begin_stop();
        let idle = async {
            loop {
                let idle = self.shared.idle.notified();
                if self.shared.is_idle.load(Ordering::Acquire) || *self.ended.borrow() {
                    return;
                }
                idle.await;
            }
        };
        timeout(deadline, idle).await.is_ok()
    }

    /// Waits until the server has ended and the store is closed
    ///
    /// # Cancel safety
    /// Safe: it only waits.
    pub async fn ended(&self) {
        let mut ended = self.ended.clone();
        // An error means that the runtime was shut down with the task in it
        let _ended = ended.wait_for(|ended| *ended).await;
    }
}

async fn run(mut titanic: Titanic, server: Server, mut locals: Locals, shared: &Shared) {
    let sleep = sleep_until(Instant::now());
    tokio::pin!(sleep);
    loop {
        let wake_at = titanic.poll_timeout().map(Instant::from_std);
        if let Some(wake_at) = wake_at
            && wake_at != sleep.deadline()
        {
            sleep.as_mut().reset(wake_at);
        }
        let (mut local, mut outcome) = (None, None);
        tokio::select! {
            next = locals.next() => match next {
                Some(next) => local = Some(next),
                None => break,
            },
            next = titanic.outcome() => outcome = Some(next),
            () = &mut sleep, if wake_at.is_some() => {}
            () = shared.stop.notified() => {}
        }
        if shared.is_stopping.load(Ordering::Acquire) {
            titanic.begin_stop();
        }
        // All that is there, under one lock; but not so much that the broker's loop has to wait
        server.with(|broker, now| {
            for _ in 0..BATCH {
                local = local.take().or_else(|| locals.try_next());
                outcome = outcome.take().or_else(|| titanic.try_outcome());
                if local.is_none() && outcome.is_none() {
                    break;
                }
                if let Some(local) = local.take() {
                    // Nobody else is in this process
                    let _nobodys = titanic.take_local(broker, now, local);
                }
                if let Some(outcome) = outcome.take() {
                    titanic.take_outcome(broker, now, outcome);
                }
            }
            titanic.finish_turn(broker, now);
            if titanic.poll_timeout().is_some_and(|next| next <= now) {
                titanic.handle_timeout(broker, now);
            }
        });
        shared.tell(&titanic);
    }
    // What the broker's end gave back is written down; where that fails, the store puts it back when it is opened
    titanic.begin_stop();
    let last_writes = async {
        while !titanic.is_idle() {
            let outcome = titanic.outcome().await;
            server.with(|broker, now| titanic.handle_outcome(broker, now, outcome));
        }
    };
    if timeout(LAST_WRITES, last_writes).await.is_err() {
        tracing::warn!("some results of durable requests were not written in time: those requests will be tried again");
    }
    shared.tell(&titanic);
}

impl Shared {
    fn tell(&self, titanic: &Titanic) {
        *self.stats.lock().unwrap_or_else(PoisonError::into_inner) = titanic.stats();
        let is_idle = titanic.is_idle();
        self.is_idle.store(is_idle, Ordering::Release);
        if is_idle {
            self.idle.notify_waiters();
        }
    }
}

/// Longest wait for the store when the broker has ended
const LAST_WRITES: Duration = Duration::from_secs(2);

/// What is handled under one lock
const BATCH: usize = 256;

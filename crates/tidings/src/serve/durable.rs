//! Durable requests: the store, Titanic beside the broker, and the loop between the two.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tidings_majordomo::server::Locals;
use tidings_majordomo::{Server, Titanic, TitanicConfig, TitanicStats};
use tidings_store::{Store, StoreError, StoreOptions, StoreStats};
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio::time::{sleep_until, timeout};

use crate::cli::{Exit, Failure};
use crate::config::{Octets, Settings, store_directory};

/// Durable requests while the daemon runs
pub(super) struct Durable {
    view: DurableView,
    stop: Arc<Notify>,
    task: JoinHandle<()>,
}

/// What the page knows them by
#[derive(Clone)]
pub(super) struct DurableView {
    store: Store,
    stats: Arc<Mutex<TitanicStats>>,
}

/// The store as it was a moment ago, and what was done
pub(super) struct Stored {
    pub(super) store: Option<StoreStats>,
    pub(super) done: TitanicStats,
}

impl Durable {
    /// Opens the store, registers the services with the broker, and goes on with what was stored
    ///
    /// # Errors
    /// The store can't be used: what to do about it.
    pub(super) async fn start(settings: &Settings, server: &Server, locals: Locals) -> Result<Self, Failure> {
        let directory = store_directory(settings.store_directory.value.0.clone())?;
        let (Octets(max_octets), ttl) = (settings.store_max_octets.value, settings.store_ttl.value);
        let options = StoreOptions::default()
            .durability(settings.store_durability.value)
            .max_octets(max_octets)
            .keep_results(ttl);
        let opened = tokio::task::spawn_blocking(move || Store::open(directory, options)).await;
        let opened = opened.map_err(|error| Failure::new(Exit::Usage, "store", error))?;
        let store = opened.map_err(|error| unusable(&error))?;
        tracing::info!(
            directory = %store.directory().display(), durability = %store.durability(), put_back = store.released(),
            "durable requests are kept"
        );
        let mut titanic = Titanic::new(store.clone(), TitanicConfig::default().ttl(Some(ttl)));
        if !server.with(|broker, now| titanic.attach(broker, now)) {
            return Err(Failure::new(
                Exit::Usage,
                "broker",
                "the broker has no room for the services of durable requests",
            ));
        }
        let (stop, stats) = (Arc::new(Notify::new()), Arc::default());
        let task = tokio::spawn(run(titanic, server.clone(), locals, Arc::clone(&stop), Arc::clone(&stats)));
        Ok(Self { view: DurableView { store, stats }, stop, task })
    }

    pub(super) fn view(&self) -> DurableView {
        self.view.clone()
    }

    /// Hands out nothing more; what is under way goes on as long as the broker does
    pub(super) fn begin_stop(&self) {
        self.stop.notify_one();
    }

    /// Writes the last results, once the broker has ended, and closes the store
    pub(super) async fn stop(self) {
        if self.task.await.is_err() {
            tracing::error!("the loop of durable requests ended on its own; what was acknowledged is stored");
        }
        let store = self.view.store;
        tokio::task::spawn_blocking(move || store.close()).await.ok();
    }
}

impl DurableView {
    /// Whether the store takes anything
    pub(super) fn is_open(&self) -> bool {
        self.store.is_open()
    }

    /// The figures; the store has a moment to say its own
    pub(super) async fn stored(&self) -> Stored {
        let store = timeout(PATIENCE, self.store.stats()).await.ok().and_then(Result::ok);
        Stored { store, done: *self.stats.lock().unwrap_or_else(PoisonError::into_inner) }
    }
}

impl Stored {
    /// Entries in all queues: waiting, at workers, with a result, given up
    pub(super) fn entries(&self) -> [(&'static str, u64); 4] {
        let queues = || self.store.iter().flat_map(|store| &store.queues);
        [
            ("waiting", queues().map(|queue| queue.waiting).sum()),
            ("leased", queues().map(|queue| queue.leased).sum()),
            ("done", queues().map(|queue| queue.done).sum()),
            ("dead", queues().map(|queue| queue.dead).sum()),
        ]
    }

    /// For `/status.json`
    pub(super) fn to_json(&self) -> Value {
        let entries: serde_json::Map<String, Value> =
            self.entries().into_iter().map(|(name, count)| (name.to_owned(), count.into())).collect();
        json!({
            "entries": entries,
            "octets": self.store.as_ref().map(|store| store.octets),
            "max_octets": self.store.as_ref().map(|store| store.max_octets),
            "done": self.done,
        })
    }
}

async fn run(
    mut titanic: Titanic,
    server: Server,
    mut locals: Locals,
    stop: Arc<Notify>,
    stats: Arc<Mutex<TitanicStats>>,
) {
    loop {
        let wake_at = titanic.poll_timeout();
        tokio::select! {
            local = locals.next() => {
                // The broker has ended
                let Some(local) = local else { break };
                server.with(|broker, now| {
                    // What is not Titanic's is nobody's: it alone lives here
                    titanic.handle_local(broker, now, local);
                    for local in std::iter::from_fn(|| locals.try_next()).take(BATCH) {
                        titanic.handle_local(broker, now, local);
                    }
                });
            }
            outcome = titanic.outcome() => server.with(|broker, now| {
                titanic.handle_outcome(broker, now, outcome);
                for _ in 0..BATCH {
                    let Some(outcome) = titanic.try_outcome() else { break };
                    titanic.handle_outcome(broker, now, outcome);
                }
            }),
            () = wake(wake_at) => server.with(|broker, now| titanic.handle_timeout(broker, now)),
            () = stop.notified() => titanic.begin_stop(),
        }
        *stats.lock().unwrap_or_else(PoisonError::into_inner) = titanic.stats();
    }
    titanic.begin_stop();
    let last_writes = async {
        while !titanic.is_idle() {
            let outcome = titanic.outcome().await;
            server.with(|broker, now| titanic.handle_outcome(broker, now, outcome));
        }
    };
    if timeout(PATIENCE, last_writes).await.is_err() {
        tracing::warn!("some results of durable requests were not written in time: those requests will be tried again");
    }
}

async fn wake(at: Option<Instant>) {
    match at {
        Some(at) => sleep_until(at.into()).await,
        None => std::future::pending().await,
    }
}

fn unusable(error: &StoreError) -> Failure {
    const ELSEWHERE: &str = "name another directory with --store DIRECTORY (store.directory), or do without durable \
                             requests: --set service.durable=false";
    match error {
        StoreError::Damaged { .. } => Failure::new(Exit::Data, "store", error),
        // The error says what to do itself
        StoreError::TooNew { .. } => Failure::new(Exit::Usage, "store", error),
        _ => Failure::new(Exit::Usage, "store", error).hint(ELSEWHERE),
    }
}

/// What is handled at once: the broker must not wait for more
const BATCH: usize = 256;

/// Longest wait for the store where nobody's request depends on it
const PATIENCE: Duration = Duration::from_secs(2);

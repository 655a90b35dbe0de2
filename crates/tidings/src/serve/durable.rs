//! Durable requests: the store, and Titanic beside the broker.

use std::time::Duration;

use serde_json::{Value, json};
use tidings_majordomo::server::Locals;
use tidings_majordomo::{DurableRequests, Server, Titanic, TitanicConfig, TitanicStats};
use tidings_store::{Store, StoreError, StoreOptions, StoreStats};
use tokio::time::timeout;

use crate::cli::{Exit, Failure};
use crate::config::{Octets, Settings, store_directory};

/// Durable requests while the daemon runs
#[derive(Clone)]
pub(super) struct Durable(DurableRequests);

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
        let titanic = Titanic::new(store, TitanicConfig::default().ttl(Some(ttl)));
        let served = titanic.serve(server.clone(), locals);
        served.map(Self).map_err(|error| Failure::new(Exit::Usage, "broker", error))
    }

    /// Hands out nothing more; what is under way goes on as long as the broker does
    pub(super) fn begin_stop(&self) {
        self.0.begin_stop();
    }

    /// Waits until the last results are written, once the broker has ended, and the store is closed
    pub(super) async fn ended(&self) {
        self.0.ended().await;
    }

    /// Whether the store takes anything
    pub(super) fn is_open(&self) -> bool {
        self.0.store().is_open()
    }

    /// The figures; the store has a moment to say its own
    pub(super) async fn stored(&self) -> Stored {
        let store = timeout(PATIENCE, self.0.store().stats()).await.ok().and_then(Result::ok);
        Stored { store, done: self.0.stats() }
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

/// Longest wait for the store where nobody's request depends on it
const PATIENCE: Duration = Duration::from_secs(2);

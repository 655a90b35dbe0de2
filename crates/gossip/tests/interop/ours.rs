//! A node of ours, and what it has told so far.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use anyhow::{Result, anyhow, ensure};
use bytes::Bytes;
use tidings_gossip::driver::{Change, Gossip};
use tidings_gossip::{Event, NodeConfig};
use tidings_socket::Context;
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::waiting::{PATIENCE, within};

pub(crate) struct Ours {
    node: Gossip,
    told: Arc<Mutex<Told>>,
    /// Wakes whoever waits for something to be told
    changed: watch::Receiver<()>,
    /// Ends with the test
    _listening: JoinSet<()>,
}

/// In the order in which it was told
#[derive(Debug, Default)]
struct Told {
    puts: Vec<(Bytes, Bytes)>,
    contested: Vec<Bytes>,
    /// Links that ended
    ended: u64,
}

impl Ours {
    pub(crate) async fn start(name: &str) -> Result<Self> {
        Self::start_with(name, |_| {}).await
    }

    /// With another configuration
    pub(crate) async fn start_with(name: &str, configure: impl FnOnce(&mut NodeConfig)) -> Result<Self> {
        let mut config = NodeConfig { name: name.to_owned(), ..NodeConfig::default() };
        configure(&mut config);
        let node = Gossip::builder(&Context::new()).config(config).start()?;
        let told = Arc::new(Mutex::new(Told::default()));
        let (changes, changed) = watch::channel(());
        let mut listening = JoinSet::new();
        let (mut tuples, mut events) = (node.watch(""), node.events());
        let hears = told.clone();
        listening.spawn(async move {
            loop {
                tokio::select! {
                    change = tuples.next() => match change {
                        Some(Change::Put { tuple, .. }) => lock(&hears).puts.push((tuple.key, tuple.value)),
                        Some(_) => {}
                        None => return,
                    },
                    event = events.next() => match event {
                        Some(Event::Contested { key, .. }) => lock(&hears).contested.push(key),
                        Some(Event::Link(change)) if change.state.is_err() => lock(&hears).ended += 1,
                        Some(_) => {}
                        None => return,
                    },
                }
                changes.send_replace(());
            }
        });
        Ok(Self { node, told, changed, _listening: listening })
    }

    pub(crate) async fn bind(&self, endpoint: &str) -> Result<String> {
        Ok(within(PATIENCE, "our node is bound", self.node.bind(endpoint)).await??.to_string())
    }

    /// Connects, now or as soon as somebody is there
    pub(crate) fn connect(&self, endpoint: &str) -> Result<()> {
        self.node.connect(endpoint)?;
        Ok(())
    }

    pub(crate) async fn put(&self, key: &[u8], value: &[u8]) -> Result<()> {
        self.node.put(Bytes::copy_from_slice(key), Bytes::copy_from_slice(value)).await?;
        Ok(())
    }

    pub(crate) fn value(&self, key: &[u8]) -> Option<Bytes> {
        self.node.get(key).map(|tuple| tuple.value)
    }

    pub(crate) fn table(&self) -> BTreeMap<Bytes, Bytes> {
        self.node.list("").into_iter().map(|tuple| (tuple.key, tuple.value)).collect()
    }

    /// What it told its application, as CZMQ's actor does
    pub(crate) fn log(&self) -> Vec<String> {
        let line = |(key, value): &(Bytes, Bytes)| {
            format!("DELIVER {} {}", String::from_utf8_lossy(key), String::from_utf8_lossy(value))
        };
        lock(&self.told).puts.iter().map(line).collect()
    }

    /// How many values it told of
    pub(crate) fn puts(&self) -> usize {
        lock(&self.told).puts.len()
    }

    pub(crate) fn frames_out(&self) -> u64 {
        self.node.stats().frames_out
    }

    /// How much it refused, of whatever cause, and how many links ended
    pub(crate) fn refused(&self) -> u64 {
        let refused: u64 = self.node.stats().refusals.iter().map(|(_, count)| count).sum();
        refused + lock(&self.told).ended
    }

    pub(crate) async fn until_tuples(&self, count: usize) -> Result<()> {
        let outcome = self.until("it has all tuples", |_| self.node.len() >= count).await;
        outcome.map_err(|error| anyhow!("{error} ({} of {count})", self.node.len()))
    }

    /// Waits until it has told of so many values
    pub(crate) async fn until_told(&self, count: usize) -> Result<()> {
        self.until("it tells of all tuples", |told| told.puts.len() >= count).await
    }

    pub(crate) async fn until_value(&self, key: &[u8], value: &[u8]) -> Result<()> {
        self.until("it has the value", |_| self.value(key).is_some_and(|known| known == value)).await
    }

    pub(crate) async fn until_contested(&self, key: &str) -> Result<()> {
        self.until("it says that the key is contested", |told| told.contested.iter().any(|one| one == key)).await
    }

    pub(crate) async fn until_refused(&self, count: u64) -> Result<()> {
        // At most one event of a cause comes in a second, so that counters are asked for
        let mut often = tokio::time::interval(Duration::from_millis(5));
        let looking = async {
            while self.refused() < count {
                often.tick().await;
            }
        };
        within(PATIENCE, "it refuses something", looking).await
    }

    /// Waits until it has so many links
    pub(crate) async fn until_links(&self, count: usize) -> Result<()> {
        self.until("it has other links", |_| self.node.peers().len() == count).await
    }

    async fn until(&self, what: &str, is_so: impl Fn(&Told) -> bool) -> Result<()> {
        let mut changed = self.changed.clone();
        let waiting = async {
            loop {
                changed.mark_unchanged();
                if is_so(&lock(&self.told)) {
                    return true;
                }
                if changed.changed().await.is_err() {
                    return is_so(&lock(&self.told));
                }
            }
        };
        ensure!(within(PATIENCE, what, waiting).await?, "our node ended before {what}");
        Ok(())
    }

    /// Says goodbye and ends
    pub(crate) async fn stop(self) -> Result<()> {
        within(PATIENCE, "our node stops", self.node.stop(PATIENCE)).await?;
        Ok(())
    }
}

fn lock(told: &Mutex<Told>) -> MutexGuard<'_, Told> {
    told.lock().unwrap()
}

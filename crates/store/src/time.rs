//! Time that survives a restart: wall-clock milliseconds, from a clock that is passed in.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// A moment: milliseconds since 1970-01-01T00:00:00Z
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(u64);

impl Timestamp {
    /// The moment so many milliseconds after the epoch
    pub const fn from_millis(millis: u64) -> Self {
        Self(millis)
    }

    /// Milliseconds since the epoch
    pub const fn as_millis(self) -> u64 {
        self.0
    }

    /// How long after `earlier` this is; nothing if it is before
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }

    /// This moment and so much later, at most the last one that a file can hold
    #[must_use]
    pub fn after(self, wait: Duration) -> Self {
        let millis = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX);
        Self(self.0.saturating_add(millis).min(LAST))
    }

    pub(crate) fn column(self) -> i64 {
        i64::try_from(self.0).unwrap_or(i64::MAX)
    }

    pub(crate) fn from_column(column: i64) -> Self {
        Self(u64::try_from(column).unwrap_or(0))
    }
}

impl fmt::Display for Timestamp {
    /// Seconds since the epoch, with milliseconds
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:03}", self.0 / 1000, self.0 % 1000)
    }
}

/// Where a store takes its time from
///
/// A store never lets time run backwards: it goes on from the latest moment that its file has seen, so that leases,
/// waits and lifetimes still end after the system's clock was set back. A clock that is more than a day ahead of that
/// moment when the store is opened is not believed for ten minutes: no lifetime ends by it until then.
pub trait Clock: Send + Sync + 'static {
    /// The present moment
    fn now(&self) -> Timestamp;
}

/// A clock that goes on from where the store's file is
pub(crate) struct Onwards {
    clock: Arc<dyn Clock>,
    /// Milliseconds that it is behind the store
    behind: AtomicU64,
}

impl Onwards {
    pub(crate) fn new(clock: Arc<dyn Clock>) -> Self {
        Self { clock, behind: AtomicU64::new(0) }
    }

    /// The store has seen this moment: if it is later than this clock's, time goes on from there
    pub(crate) fn go_on_from(&self, seen: Timestamp) {
        let behind = u64::try_from(seen.since(self.clock.now()).as_millis()).unwrap_or(u64::MAX);
        self.behind.fetch_max(behind, Ordering::AcqRel);
    }
}

impl Clock for Onwards {
    fn now(&self) -> Timestamp {
        self.clock.now().after(Duration::from_millis(self.behind.load(Ordering::Acquire)))
    }
}

/// The system's time when it was made, and from then on its monotonic clock
///
/// A clock that is set while the program runs lengthens no lease and ends none.
#[derive(Debug)]
pub struct SystemClock {
    origin: Timestamp,
    started: Instant,
}

impl SystemClock {
    /// Reads the system's time
    pub fn new() -> Self {
        let origin = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self { origin: Timestamp::default().after(origin), started: Instant::now() }
    }
}

impl Default for SystemClock {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        self.origin.after(self.started.elapsed())
    }
}

/// A clock that stands until it is moved, for simulations and tests
#[derive(Clone, Debug, Default)]
pub struct ManualClock(Arc<AtomicU64>);

impl ManualClock {
    /// A clock that stands at `start`
    pub fn new(start: Timestamp) -> Self {
        Self(Arc::new(AtomicU64::new(start.as_millis())))
    }

    /// Moves it, and all its clones, forwards
    pub fn advance(&self, by: Duration) {
        let now = self.now().after(by);
        self.set(now);
    }

    /// Moves it, and all its clones, to a moment, which may be an earlier one
    pub fn set(&self, to: Timestamp) {
        self.0.store(to.as_millis(), Ordering::SeqCst);
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_millis(self.0.load(Ordering::SeqCst))
    }
}

/// The last moment that an SQLite integer holds
const LAST: u64 = i64::MAX as u64;

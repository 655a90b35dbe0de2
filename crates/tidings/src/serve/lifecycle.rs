//! Counts and logs the lifecycle events of all sockets.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tidings::{Context, Event, EventKind};

/// Counts since the start; its label sets are the events' and reasons' own names, and so bounded
#[derive(Clone, Debug, Default)]
pub(super) struct Counts {
    /// By the event's name
    pub(super) events: BTreeMap<&'static str, u64>,
    /// Handshakes that failed, by reason
    pub(super) handshake_failures: BTreeMap<&'static str, u64>,
    /// Connections that ended, by reason
    pub(super) disconnects: BTreeMap<&'static str, u64>,
}

/// Watches in a task of its own
#[derive(Clone, Debug, Default)]
pub(super) struct Lifecycle {
    counts: Arc<Mutex<Counts>>,
}

impl Lifecycle {
    /// Starts to watch; must come before the sockets of the context do anything
    pub(super) fn watch(context: &Context) -> Self {
        let lifecycle = Self::default();
        let counts = Arc::clone(&lifecycle.counts);
        let mut events = context.events();
        tokio::spawn(async move {
            let mut budget = LineBudget::new(Instant::now());
            while let Some(event) = events.next().await {
                counts.lock().unwrap_or_else(PoisonError::into_inner).note(&event);
                log(&event, &mut budget);
            }
        });
        lifecycle
    }

    /// The counts so far
    pub(super) fn counts(&self) -> Counts {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Counts {
    fn note(&mut self, event: &Event) {
        *self.events.entry(event.kind.name()).or_default() += 1;
        match &event.kind {
            EventKind::HandshakeFailed { reason, .. } => *self.handshake_failures.entry(reason).or_default() += 1,
            EventKind::Disconnected { reason, .. } => *self.disconnects.entry(reason).or_default() += 1,
            _ => {}
        }
    }
}

fn log(event: &Event, budget: &mut LineBudget) {
    match event.kind {
        EventKind::AcceptPaused { .. }
        | EventKind::AcceptResumed
        | EventKind::AcceptFailed { .. }
        | EventKind::CertificateEnds { .. }
        | EventKind::Denied { .. }
        | EventKind::Malformed { .. }
        | EventKind::Refused { .. }
        | EventKind::HandshakeFailed { .. }
        | EventKind::Slow { .. }
        | EventKind::Dropped { .. }
        | EventKind::DuplicateRoutingId { .. }
        | EventKind::Missed { .. } => {
            let (allowed, withheld) = budget.take(Instant::now());
            if withheld > 0 {
                tracing::warn!(lines = withheld, "more of the kind happened; the metrics count them all");
            }
            if allowed {
                tracing::warn!(event = event.kind.name(), "{event}");
            }
        }
        _ => tracing::debug!(event = event.kind.name(), "{event}"),
    }
}

/// Bounds how many lines strangers can make us write
#[derive(Debug)]
pub(super) struct LineBudget {
    second: Instant,
    written: u32,
    withheld: u64,
}

impl LineBudget {
    pub(super) fn new(now: Instant) -> Self {
        Self { second: now, written: 0, withheld: 0 }
    }

    /// Whether a line may be written, and how many were withheld in the second that has just ended
    pub(super) fn take(&mut self, now: Instant) -> (bool, u64) {
        let mut withheld = 0;
        if now.duration_since(self.second) >= Duration::from_secs(1) {
            withheld = std::mem::take(&mut self.withheld);
            self.second = now;
            self.written = 0;
        }
        if self.written < LINES_PER_SECOND {
            self.written += 1;
            (true, withheld)
        } else {
            self.withheld += 1;
            (false, withheld)
        }
    }
}

/// Enough to see what goes on, little enough that a port scan fills no disk
const LINES_PER_SECOND: u32 = 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_is_cut_and_counted() {
        let start = Instant::now();
        let mut budget = LineBudget::new(start);
        let written = (0..100).filter(|_| budget.take(start).0).count();
        assert_eq!(written, 20);
        assert_eq!(budget.take(start + Duration::from_secs(1)), (true, 80));
        assert_eq!(budget.take(start + Duration::from_secs(1)), (true, 0));
    }
}

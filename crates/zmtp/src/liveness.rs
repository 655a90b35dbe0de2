//! Liveness: when to PING, and when silence means that the peer is gone.
//!
//! RFC 37, "Connection Heartbeating". Deadlines that the peer's silence lets pass are suspended while our own side
//! has stopped reading: what isn't read can't be heard.

use std::time::{Duration, Instant};

use crate::{close_reason::CloseReason, config::Heartbeat};

#[derive(Debug)]
pub(crate) struct Liveness {
    heartbeat: Heartbeat,
    reading: bool,
    ping_due: Option<Instant>,
    /// A PING was sent, and nothing heard since
    asked: bool,
    answer_due: Option<Instant>,
    /// What the peer's last PING promised
    peer_ttl: Option<Duration>,
    ttl_due: Option<Instant>,
}

/// What a deadline that passed calls for
#[derive(Debug, PartialEq)]
pub(crate) enum Verdict {
    Nothing,
    Ping,
    Gone(CloseReason),
}

impl Liveness {
    /// Begins when the handshake is done; `pings` says whether the peer knows PING
    pub(crate) fn new(heartbeat: Heartbeat, pings: bool, reading: bool, now: Instant) -> Self {
        let heartbeat = if pings { heartbeat } else { Heartbeat::default() };
        let ping_due = heartbeat.interval.and_then(|interval| now.checked_add(interval));
        Self { heartbeat, reading, ping_due, asked: false, answer_due: None, peer_ttl: None, ttl_due: None }
    }

    /// Octets arrived, of whatever kind: any traffic counts
    pub(crate) fn on_heard(&mut self, now: Instant) {
        self.asked = false;
        self.answer_due = None;
        self.restart_ttl(now);
    }

    /// A PING arrived, with a TTL in tenths of a second; zero takes an earlier promise back
    ///
    /// The full range counts: libzmq's own arithmetic wraps at 65.5 s.
    pub(crate) fn on_ping(&mut self, now: Instant, ttl: u16) {
        self.peer_ttl = (ttl > 0).then(|| Duration::from_millis(u64::from(ttl) * 100));
        self.restart_ttl(now);
    }

    pub(crate) fn set_reading(&mut self, now: Instant, reading: bool) {
        self.reading = reading;
        self.answer_due = None;
        if self.asked {
            self.expect_answer(now);
        }
        self.restart_ttl(now);
    }

    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        [self.ping_due, self.answer_due, self.ttl_due].into_iter().flatten().min()
    }

    pub(crate) fn handle_timeout(&mut self, now: Instant) -> Verdict {
        let passed = |due: Option<Instant>| due.is_some_and(|due| due <= now);
        if passed(self.answer_due) {
            return Verdict::Gone(CloseReason::HeartbeatTimedOut { after: self.patience() });
        }
        if let (true, Some(after)) = (passed(self.ttl_due), self.peer_ttl) {
            return Verdict::Gone(CloseReason::TtlExpired { after });
        }
        if passed(self.ping_due) {
            // Counted from now: after a long sleep one PING is due, not all that were missed.
            self.ping_due = self.heartbeat.interval.and_then(|interval| now.checked_add(interval.max(SHORTEST)));
            if !self.asked {
                self.asked = true;
                self.expect_answer(now);
            }
            return Verdict::Ping;
        }
        Verdict::Nothing
    }

    /// Our own TTL as PING has it: tenths of a second, rounded up so that we promise no more than we keep
    pub(crate) fn own_ttl(&self) -> u16 {
        u16::try_from(self.heartbeat.ttl.as_millis().div_ceil(100)).unwrap_or(u16::MAX)
    }

    fn patience(&self) -> Duration {
        self.heartbeat.timeout.or(self.heartbeat.interval).unwrap_or_default()
    }

    fn expect_answer(&mut self, now: Instant) {
        self.answer_due = if self.reading { now.checked_add(self.patience()) } else { None };
    }

    fn restart_ttl(&mut self, now: Instant) {
        self.ttl_due = self.peer_ttl.filter(|_| self.reading).and_then(|ttl| now.checked_add(ttl));
    }
}

/// Between two PINGs at least, so that an interval of zero doesn't keep the driver spinning
const SHORTEST: Duration = Duration::from_millis(1);

//! What a broker tells of what happens: for logs, never for deciding anything.

use std::collections::VecDeque;

use super::{Counter, LocalWorkerId, PeerKey};
use crate::wire::{Malformed, ServiceName, Status, Wire};

/// Who works
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum WorkerAt {
    /// At the end of a connection
    Peer(PeerKey),
    /// In the broker's own process
    Local(LocalWorkerId),
}

/// Why a worker is one no longer
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Departure {
    /// Nothing was heard from it for too long
    Silent,
    /// Its connection ended
    Gone,
    /// It said DISCONNECT
    Disconnected,
    /// It sent READY a second time
    ReadyTwice,
    /// It replied to what it was not asked
    ReplyUnknown,
    /// It sent what can't be read
    Malformed,
    /// It was told to drain and has nothing left
    Drained,
    /// Its service is the broker's own now
    Reserved,
    /// The broker stops
    Stopped,
}

impl Departure {
    /// Its name in logs
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Silent => "silent",
            Self::Gone => "gone",
            Self::Disconnected => "disconnected",
            Self::ReadyTwice => "ready-twice",
            Self::ReplyUnknown => "reply-unknown",
            Self::Malformed => "malformed",
            Self::Drained => "drained",
            Self::Reserved => "reserved",
            Self::Stopped => "stopped",
        }
    }

    pub(super) const fn counter(self) -> Counter {
        match self {
            Self::Silent => Counter::WorkerSilent,
            Self::Gone => Counter::WorkerGone,
            Self::Disconnected => Counter::WorkerDisconnected,
            _ => Counter::WorkerDismissed,
        }
    }

    /// Whether the worker is sent DISCONNECT
    pub(super) const fn is_said(self) -> bool {
        !matches!(self, Self::Silent | Self::Gone | Self::Disconnected)
    }
}

/// Something that happened in a broker
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum BrokerEvent {
    /// A worker registered
    WorkerReady {
        /// Who
        worker: WorkerAt,
        /// For which service
        service: ServiceName,
        /// How many requests it takes at once
        concurrency: u32,
        /// On which wire; `None` for one in the same process
        wire: Option<Wire>,
    },
    /// A worker is one no longer
    WorkerLeft {
        /// Who
        worker: WorkerAt,
        /// Of which service
        service: ServiceName,
        /// Why
        why: Departure,
        /// Requests that it left behind unanswered
        unanswered: usize,
    },
    /// A worker was not let in
    WorkerTurnedAway {
        /// Who
        peer: PeerKey,
        /// For which service
        service: ServiceName,
        /// Why: `ready-reserved`, `ready-not-permitted`, …
        why: Counter,
    },
    /// A service has its first worker
    ServiceUp {
        /// Which
        service: ServiceName,
    },
    /// A service has lost its last worker
    ServiceDown {
        /// Which
        service: ServiceName,
        /// Requests that wait for it all the same
        waiting: usize,
    },
    /// A request was refused
    RequestRefused {
        /// Whose; `None` for a client in the same process
        client: Option<PeerKey>,
        /// For which service
        service: ServiceName,
        /// Why
        status: Status,
        /// Why, as it is counted
        why: Counter,
        /// Whether the client's wire has a word for it, so that it was told
        is_told: bool,
    },
    /// A request's time was over
    RequestExpired {
        /// Whose; `None` for a client in the same process
        client: Option<PeerKey>,
        /// For which service
        service: ServiceName,
        /// Whether a worker had it
        was_running: bool,
        /// Whether the client's wire has a word for it, so that it was told
        is_told: bool,
    },
    /// A request was given back to its queue because its worker was gone
    RequestRetried {
        /// For which service
        service: ServiceName,
        /// How often it was tried before
        attempts: u32,
    },
    /// A message was no command of any wire
    MalformedMessage {
        /// Whose
        peer: PeerKey,
        /// What is wrong with it
        cause: Malformed,
    },
    /// A worker's command came from a peer that is none
    Stranger {
        /// Who
        peer: PeerKey,
    },
    /// A client's connection took no reply: it reads too slowly and counts as gone
    SlowClient {
        /// Whose
        peer: PeerKey,
    },
    /// A service that was told to drain has no worker any more
    ServiceDrained {
        /// Which
        service: ServiceName,
    },
}

/// Events that wait to be fetched, up to a bound
#[derive(Debug, Default)]
pub(super) struct Events {
    waiting: VecDeque<BrokerEvent>,
    most: usize,
}

impl Events {
    pub(super) fn new(most: usize) -> Self {
        Self { waiting: VecDeque::new(), most }
    }

    pub(super) fn has_room(&self) -> bool {
        self.waiting.len() < self.most
    }

    pub(super) fn push(&mut self, event: BrokerEvent) {
        self.waiting.push_back(event);
    }

    pub(super) fn pop(&mut self) -> Option<BrokerEvent> {
        self.waiting.pop_front()
    }
}

//! What a broker counts: one table of names.

use crate::wire::{Malformed, Status};

macro_rules! counters {
    ($($(#[doc = $doc:literal])+ $variant:ident $name:literal;)+) => {
        /// Something that is counted
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum Counter {
            $($(#[doc = $doc])+ $variant,)+
        }

        impl Counter {
            /// All of them, in the order of their numbers
            pub const ALL: &'static [Self] = &[$(Self::$variant,)+];

            /// Its name in metrics, events and `mmi.stats`
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)+ }
            }

            /// What it counts, in a sentence
            #[must_use]
            pub const fn doc(self) -> &'static str {
                match self { $(Self::$variant => concat!($($doc),+),)+ }
            }
        }
    };
}

counters! {
    /// Requests that came in, of whatever fate
    Requests "requests";
    /// Requests that ended in a reply
    Replies "replies";
    /// Partial replies that were passed on
    PartialReplies "partial-replies";
    /// Requests that ended in a refusal; also counted by status
    Refused "refused";
    /// Requests whose time was over before there was a reply
    Expired "expired";
    /// Requests that their clients took back
    Cancelled "cancelled";
    /// Requests whose clients went away before there was a reply
    ClientGone "client-gone";
    /// Requests that were given to another worker after theirs was gone
    Retried "retried";
    /// Requests that a broker's own commands (MMI) answered
    Mmi "mmi";
    /// Replies that came after the request's time was over
    LateReply "late-reply";
    /// Replies for clients that were gone
    ReplyToGoneClient "reply-to-gone-client";
    /// Replies to requests that were taken back
    ReplyAfterCancel "reply-after-cancel";
    /// Replies with a token that is not one of the worker's requests
    ReplyUnknown "reply-unknown";
    /// Partial replies for clients whose wire has none
    PartialUnsupported "partial-unsupported";
    /// Commands of workers that never registered
    Stranger "stranger";
    /// Commands that came after DISCONNECT was said
    AfterDisconnect "after-disconnect";
    /// Workers that sent READY a second time
    ReadyTwice "ready-twice";
    /// Workers that sent READY for a service of the broker itself
    ReadyReserved "ready-reserved";
    /// Workers that may not work for their service
    ReadyNotPermitted "ready-not-permitted";
    /// Workers that were one too many, or whose service was
    ReadyNoRoom "ready-no-room";
    /// Workers that sent READY for a service that drains, or a broker that stops
    ReadyDraining "ready-draining";
    /// Messages that are no command of any wire; also counted by cause
    Malformed "malformed";
    /// Requests of clients that may not call the service
    NotPermitted "not-permitted";
    /// Requests for a service that has no worker, refused
    NoSuchService "no-such-service";
    /// Requests one too many for the queue of their service
    QueueFull "queue-full";
    /// Requests whose octets were too many for the queue of their service
    QueueOctets "queue-octets";
    /// Requests whose octets were too many for the broker
    TotalOctets "total-octets";
    /// Requests one too many for the broker
    TooManyRequests "too-many-requests";
    /// Requests for a service that was one too many
    TooManyServices "too-many-services";
    /// Requests that were refused because a worker's service took the place of theirs
    ServicePushedOut "service-pushed-out";
    /// Requests that were one too many of their client
    TooManyOfClient "too-many-of-client";
    /// Requests with too large a body
    TooLarge "too-large";
    /// Requests for a service that drains, or a broker that stops
    Draining "draining";
    /// Requests with the number of one that is under way on the same connection
    DuplicateId "duplicate-id";
    /// Cancellations of requests that are not under way
    CancelUnknown "cancel-unknown";
    /// Requests whose worker was gone and that may not be given to another
    NotRepeated "not-repeated";
    /// Requests that had as many workers die over them as are allowed
    OutOfAttempts "out-of-attempts";
    /// Requests whose worker was gone and whose service got no other in time
    NoWorkerLeft "no-worker-left";
    /// Requests that their worker refused
    WorkerRefused "worker-refused";
    /// Requests that joined one with the same idempotency key
    KeyJoined "key-joined";
    /// Requests answered with the reply to an earlier one with the same idempotency key
    KeyReplayed "key-replayed";
    /// Requests with the idempotency key of another request
    KeyConflict "key-conflict";
    /// Requests with an idempotency key that there was no room for
    KeysFull "keys-full";
    /// Replies given up before their time to make room for other keys
    KeyEvicted "key-evicted";
    /// Replies too large to be kept for repeated requests
    KeyTooLarge "key-too-large";
    /// Workers that registered
    WorkerReady "worker-ready";
    /// Workers that were silent for too long
    WorkerSilent "worker-silent";
    /// Workers whose connection ended
    WorkerGone "worker-gone";
    /// Workers that said DISCONNECT
    WorkerDisconnected "worker-disconnected";
    /// Workers that were told to go: they misbehaved, drained or the broker stopped
    WorkerDismissed "worker-dismissed";
    /// Requests that a worker's connection would not take, given back to the queue
    RequestUnsent "request-unsent";
    /// Replies that a client's connection would not take: it reads too slowly
    SlowClient "slow-client";
    /// Replies whose client went away before they were handed over
    ReplyUnsent "reply-unsent";
    /// Heartbeats and other orders that a worker's connection would not take
    OrderUnsent "order-unsent";
    /// Events that nobody fetched in time
    EventsDropped "events-dropped";
}

/// The numbers themselves
#[derive(Clone, Debug)]
pub(super) struct Counters {
    counts: [u64; Counter::ALL.len()],
    malformed: [u64; Malformed::ALL.len()],
    pub(super) refused: Refusals,
}

impl Default for Counters {
    fn default() -> Self {
        Self { counts: [0; Counter::ALL.len()], malformed: [0; Malformed::ALL.len()], refused: Refusals::default() }
    }
}

impl Counters {
    #[inline]
    pub(super) fn count(&mut self, counter: Counter) {
        if let Some(count) = self.counts.get_mut(counter as usize) {
            *count += 1;
        }
    }

    pub(super) fn count_malformed(&mut self, cause: Malformed) {
        self.count(Counter::Malformed);
        if let Some(count) = self.malformed.get_mut(cause as usize) {
            *count += 1;
        }
    }

    pub(super) fn value(&self, counter: Counter) -> u64 {
        self.counts.get(counter as usize).copied().unwrap_or_default()
    }

    pub(super) fn malformed(&self) -> impl Iterator<Item = (Malformed, u64)> {
        Malformed::ALL.into_iter().zip(self.malformed)
    }
}

/// Refusals by status: those a broker gives itself, and all others together
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Refusals {
    known: [u64; Status::ALL.len()],
    other: u64,
}

impl Refusals {
    pub(super) fn count(&mut self, status: Status) {
        let place = Status::ALL.iter().position(|known| *known == status);
        match place.and_then(|place| self.known.get_mut(place)) {
            Some(count) => *count += 1,
            None => self.other += 1,
        }
    }

    /// How many there were with that status, if it is one that a broker gives itself
    #[must_use]
    pub fn of(&self, status: Status) -> u64 {
        let place = Status::ALL.iter().position(|known| *known == status);
        place.and_then(|place| self.known.get(place)).copied().unwrap_or_default()
    }

    /// How many there were with a status that only workers give
    #[must_use]
    pub fn other(&self) -> u64 {
        self.other
    }

    /// How many there were
    #[must_use]
    pub fn total(&self) -> u64 {
        self.known.iter().sum::<u64>() + self.other
    }

    /// The statuses that occurred, and how often
    pub fn iter(&self) -> impl Iterator<Item = (Status, u64)> + '_ {
        Status::ALL.into_iter().zip(self.known).filter(|(_, count)| *count > 0)
    }
}

/// A map from status to number, `other` for what only workers give
impl serde::Serialize for Refusals {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        use serde::ser::SerializeMap;
        let mut map = serializer.serialize_map(None)?;
        for (status, count) in self.iter() {
            map.serialize_entry(&status.code().to_string(), &count)?;
        }
        if self.other > 0 {
            map.serialize_entry("other", &self.other)?;
        }
        map.end()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn names_are_unique_and_places_their_own() {
        let names: HashSet<_> = Counter::ALL.iter().map(|counter| counter.name()).collect();
        assert_eq!(names.len(), Counter::ALL.len());
        let mut counters = Counters::default();
        for (place, counter) in Counter::ALL.iter().enumerate() {
            assert_eq!(*counter as usize, place);
            assert!(!counter.doc().is_empty());
            counters.count(*counter);
            assert_eq!(counters.value(*counter), 1);
        }
        for (place, cause) in Malformed::ALL.into_iter().enumerate() {
            assert_eq!(cause as usize, place, "{}", cause.name());
        }
    }

    #[test]
    fn refusals_are_told_apart() {
        let mut refusals = Refusals::default();
        refusals.count(Status::NO_SUCH_SERVICE);
        refusals.count(Status::new(418).unwrap());
        assert_eq!((refusals.of(Status::NO_SUCH_SERVICE), refusals.other(), refusals.total()), (1, 1, 2));
        assert_eq!(serde_json::to_string(&refusals).unwrap(), r#"{"404":1,"other":1}"#);
    }
}

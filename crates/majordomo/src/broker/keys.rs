//! Idempotency keys: the same key of the same principal on the same service is the same request, executed once and answered
//! as often as it is asked.
//!
//! While it is executed, a repeated request joins it; afterwards it gets the reply that is kept, partial ones included, for
//! a bounded time and in bounded room. Only replies are kept: what was refused may be tried anew.

use std::collections::{HashMap, VecDeque};
use std::hash::Hasher;
use std::time::Instant;

use bytes::Bytes;
use slab::Slab;

use super::counters::Counter;
use super::kept::{self, Kept};
use super::list::{Link, List};
use super::requests::{Asker, Held, Place, Refusal, Request};
use super::{Broker, Timer};
use crate::wire::{Body, RequestOptions, ServiceName, Status};

/// The keys of all services
pub(super) struct Keys {
    /// By which bodies are told apart, so that nobody can make two that are taken for one
    seed: u64,
    entries: Slab<Entry>,
    // Clients choose these, so the hash is keyed (std's is)
    by_name: HashMap<Box<[u8]>, u32>,
    /// Entries with a reply, the oldest first, and when their time is over
    done: VecDeque<(Instant, u32, u64)>,
    octets: usize,
    next_serial: u64,
}

struct Entry {
    /// Principal, service and key
    name: Box<[u8]>,
    key: Bytes,
    serial: u64,
    /// By which another body under the same key is told
    fingerprint: u64,
    state: State,
    /// Partial replies so far
    parts: Vec<Kept>,
    octets: usize,
    /// Requests that wait for the same reply
    joiners: List,
    /// Whether the reply is too large to be kept, so that nobody can join any more
    is_too_large: bool,
}

enum State {
    Executing(u32),
    Done(Kept),
}

impl Keys {
    pub(super) fn new(seed: u64) -> Self {
        let (entries, by_name, done) = Default::default();
        Self { seed, entries, by_name, done, octets: 0, next_serial: 0 }
    }

    fn find(&self, name: &[u8]) -> Option<u32> {
        self.by_name.get(name).copied()
    }

    fn insert(&mut self, name: Box<[u8]>, key: &Bytes, fingerprint: u64) -> u32 {
        self.next_serial += 1;
        let octets = octets_of(&name);
        self.octets += octets;
        let entry = Entry {
            name: name.clone(),
            key: Bytes::copy_from_slice(key),
            serial: self.next_serial,
            fingerprint,
            state: State::Executing(u32::MAX),
            parts: Vec::new(),
            octets,
            joiners: List::default(),
            is_too_large: false,
        };
        let index = self.entries.insert(entry) as u32;
        self.by_name.insert(name, index);
        index
    }

    fn remove(&mut self, index: u32) {
        if let Some(entry) = self.entries.try_remove(index as usize) {
            self.by_name.remove(&entry.name);
            self.octets -= entry.octets;
        }
    }

    /// Keeps nothing of a reply that is too large, neither what there is nor what comes
    fn give_up_reply(&mut self, index: u32) {
        let Some(entry) = self.entries.get_mut(index as usize) else { return };
        entry.is_too_large = true;
        entry.parts = Vec::new();
        let without = octets_of(&entry.name);
        self.octets -= entry.octets - without;
        entry.octets = without;
    }

    /// Gives up the reply that is kept for longest
    fn evict(&mut self) -> bool {
        while let Some((_, index, serial)) = self.done.pop_front() {
            if self.entries.get(index as usize).is_some_and(|entry| entry.serial == serial) {
                self.remove(index);
                return true;
            }
        }
        false
    }

    /// How many there are
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    /// Octets of keys and replies
    pub(super) fn octets(&self) -> usize {
        self.octets
    }

    pub(super) fn name(&self, index: u32) -> Option<Bytes> {
        self.entries.get(index as usize).map(|entry| entry.key.clone())
    }

    pub(super) fn has_joiners(&self, index: u32) -> bool {
        self.first_joiner(index).is_some()
    }

    pub(super) fn first_joiner(&self, index: u32) -> Option<u32> {
        self.entries.get(index as usize).and_then(|entry| entry.joiners.front())
    }

    /// The request that is executed for all
    pub(super) fn executing(&self, index: u32) -> Option<u32> {
        match self.entries.get(index as usize)?.state {
            State::Executing(request) => Some(request),
            State::Done(_) => None,
        }
    }

    /// What has to be true of keys at any time
    pub(super) fn check(&self, requests: &Slab<Request>) -> Result<(), String> {
        let octets: usize = self.entries.iter().map(|(_, entry)| entry.octets).sum();
        if octets != self.octets || self.entries.len() != self.by_name.len() {
            return Err(format!("{octets} octets of {} keys, not {}", self.entries.len(), self.octets));
        }
        for (index, entry) in &self.entries {
            let is_sound = match &entry.state {
                State::Executing(request) => {
                    requests.get(*request as usize).is_some_and(|request| request.key == Some(index as u32))
                }
                State::Done(_) => entry.joiners.is_empty(),
            };
            if !is_sound {
                return Err(format!("key {index} stands for nothing"));
            }
        }
        Ok(())
    }

    /// A request waits with others no longer
    pub(super) fn part(&mut self, index: u32, requests: &mut Slab<Request>, request: u32) {
        if let Some(entry) = self.entries.get_mut(index as usize) {
            entry.joiners.remove(requests, request);
        }
    }
}

impl Broker {
    #[expect(clippy::too_many_arguments, reason = "they are what a request is")]
    pub(super) fn handle_keyed_request(
        &mut self,
        now: Instant,
        asker: Asker,
        name: ServiceName,
        found: Option<(u32, u64)>,
        options: RequestOptions,
        key: Bytes,
        body: Body,
    ) {
        let key_name = name_of(self.principal(&asker), &name, &key);
        if let Some(index) = self.keys.find(&key_name) {
            return self.repeat(now, asker, &name, index, &options, &body);
        }
        while self.keys.len() >= self.config.max_keys || self.keys.octets >= self.config.max_key_octets {
            if !self.keys.evict() {
                let refusal = Refusal { status: Status::UNAVAILABLE, why: Counter::KeysFull };
                return self.refuse_unplaced(&asker, &name, refusal);
            }
            self.counters.count(Counter::KeyEvicted);
        }
        let entry = self.keys.insert(key_name, &key, fingerprint(self.keys.seed, &body));
        let octets = kept::octets(&body);
        match self.place(now, asker, &name, found, &options, Some(entry), body, octets) {
            Ok(request) => {
                if let Some(entry) = self.keys.entries.get_mut(entry as usize) {
                    entry.state = State::Executing(request);
                }
            }
            Err((asker, refusal)) => {
                self.keys.remove(entry);
                self.refuse_unplaced(&asker, &name, refusal);
            }
        }
    }

    /// A request whose key is known
    fn repeat(
        &mut self,
        now: Instant,
        asker: Asker,
        name: &ServiceName,
        index: u32,
        options: &RequestOptions,
        body: &Body,
    ) {
        let Some(entry) = self.keys.entries.get(index as usize) else { return };
        let no_room = |why| Refusal { status: Status::UNAVAILABLE, why };
        let octets = asker.octets();
        let refusal = if entry.fingerprint != fingerprint(self.keys.seed, body) {
            Some(Refusal { status: Status::KEY_IN_USE, why: Counter::KeyConflict })
        } else if entry.is_too_large {
            Some(no_room(Counter::KeyTooLarge))
        } else if self.requests.len() >= self.config.max_requests {
            Some(no_room(Counter::TooManyRequests))
        } else if self.octets + octets > self.config.max_total_octets {
            Some(no_room(Counter::TotalOctets))
        } else {
            None
        };
        if let Some(refusal) = refusal {
            return self.refuse_unplaced(&asker, name, refusal);
        }
        let parts: Vec<Body> = entry.parts.iter().map(Kept::unpack).collect();
        let last = match &entry.state {
            State::Done(last) => Some(last.unpack()),
            State::Executing(_) => None,
        };
        let executing = self.keys.executing(index);
        if let Some((_, service)) = self.services.find_mut(name) {
            service.counts.requests += 1;
            service.counts.replies += u64::from(last.is_some());
        }
        let has_partial = !parts.is_empty();
        for part in parts {
            self.send_reply(&asker, name.bytes().clone(), false, part);
        }
        if let Some(last) = last {
            self.counters.count(Counter::KeyReplayed);
            self.counters.count(Counter::Replies);
            return self.send_reply(&asker, name.bytes().clone(), true, last);
        }
        self.counters.count(Counter::KeyJoined);
        let Some(executing) = executing.and_then(|executing| self.requests.get_mut(executing as usize)) else { return };
        // What one of them forbids is not done for the others
        executing.is_repeatable &= options.repeatable;
        let place = executing.place;
        let deadline = options.deadline.map(|left| now + left.min(self.config.max_deadline));
        let age = now + self.config.request_age;
        let joiner = Request {
            asker,
            of_client: Link::default(),
            place: Place::Joined(index),
            link: Link::default(),
            service: executing.service,
            number: 0,
            body: Held::Spent,
            octets,
            deadline,
            given_until: None,
            timer: None,
            arrived: now,
            key: None,
            is_repeatable: options.repeatable,
            has_partial,
            attempts: 0,
            secret: 0,
        };
        let joiner = self.insert(joiner);
        if let Some(entry) = self.keys.entries.get_mut(index as usize) {
            entry.joiners.push_back(&mut self.requests, joiner);
        }
        if let Place::Worker(worker) = place {
            self.excuse(worker, deadline.unwrap_or(age));
        }
        self.set_request_timer(joiner, deadline.or((place == Place::Queue).then_some(age)));
    }

    /// Whose keys those of a client are
    fn principal(&self, asker: &Asker) -> Principal<'_> {
        match asker {
            Asker::Peer { peer, .. } => {
                Principal::User(self.peers.get(*peer as usize).map_or(&[], |peer| &peer.principal))
            }
            Asker::Local(_) | Asker::Nobody(_) => Principal::Ourselves,
        }
    }

    /// A part of the reply came: all that joined get it, and those that will
    pub(super) fn share_part(&mut self, index: u32, body: &Body) {
        let part = Kept::pack(body);
        let is_kept = self.keep_octets(index, part.octets());
        let Some(entry) = self.keys.entries.get_mut(index as usize) else { return };
        if is_kept {
            entry.parts.push(part);
        }
        let mut next = entry.joiners.front();
        while let Some(joiner) = next {
            next = self.requests.get(joiner as usize).and_then(|request| request.link.next());
            self.answer_partly(joiner, body.clone());
        }
    }

    /// The reply came: all that joined get it, and those that repeat the request until its time is over
    pub(super) fn share_reply(&mut self, now: Instant, index: u32, body: &Body) {
        while let Some(joiner) = self.keys.first_joiner(index) {
            self.answer(now, joiner, body.clone());
            self.discard(joiner);
        }
        let last = Kept::pack(body);
        let is_kept = self.keep_octets(index, last.octets());
        let Some(entry) = self.keys.entries.get_mut(index as usize) else { return };
        if !is_kept {
            self.counters.count(Counter::KeyTooLarge);
            return self.keys.remove(index);
        }
        entry.state = State::Done(last);
        let (ends, serial) = (now + self.config.key_ttl, entry.serial);
        self.keys.done.push_back((ends, index, serial));
        if self.keys_timer.is_none() {
            self.keys_timer = Some((self.timers.insert(ends, Timer::Keys), ends));
        }
    }

    /// Makes room for so many octets more of an entry, or gives up keeping its reply; whether they may be kept
    fn keep_octets(&mut self, index: u32, octets: usize) -> bool {
        let Some(entry) = self.keys.entries.get_mut(index as usize).filter(|entry| !entry.is_too_large) else {
            return false;
        };
        // Not at the expense of others
        if entry.octets + octets > self.config.max_key_octets / LARGEST_SHARE {
            self.keys.give_up_reply(index);
            return false;
        }
        while self.keys.octets + octets > self.config.max_key_octets {
            if !self.keys.evict() {
                // All others are under way, too
                self.keys.give_up_reply(index);
                return false;
            }
            self.counters.count(Counter::KeyEvicted);
        }
        let Some(entry) = self.keys.entries.get_mut(index as usize) else { return false };
        entry.octets += octets;
        self.keys.octets += octets;
        true
    }

    /// The key stands for nothing any more
    pub(super) fn forget_key(&mut self, index: u32) {
        self.keys.remove(index);
    }

    /// Those that joined a request that waits again wait for a bounded time
    pub(super) fn limit_joiners(&mut self, index: u32, until: Instant) {
        let mut next = self.keys.first_joiner(index);
        while let Some(joiner) = next {
            let Some(request) = self.requests.get(joiner as usize) else { return };
            next = request.link.next();
            if request.timer.is_none() {
                self.set_request_timer(joiner, Some(until));
            }
        }
    }

    pub(super) fn on_keys_timer(&mut self, now: Instant) {
        self.keys_timer = None;
        while let Some((ends, index, serial)) = self.keys.done.front().copied() {
            if ends > now {
                self.keys_timer = Some((self.timers.insert(ends, Timer::Keys), ends));
                return;
            }
            self.keys.done.pop_front();
            if self.keys.entries.get(index as usize).is_some_and(|entry| entry.serial == serial) {
                self.keys.remove(index);
            }
        }
    }
}

/// Whose a key is: clients of the same principal share theirs
enum Principal<'a> {
    /// Whom the driver names, or anybody
    User(&'a [u8]),
    /// Clients in the same process
    Ourselves,
}

/// Nothing of it can be taken for another part of it
fn name_of(principal: Principal<'_>, service: &ServiceName, key: &[u8]) -> Box<[u8]> {
    let (kind, user) = match principal {
        Principal::Ourselves => (0, &[][..]),
        Principal::User(user) => (1, user),
    };
    let service = service.as_bytes();
    let user_len = (user.len() as u64).to_be_bytes();
    // A service's name has at most 255 octets
    [&[kind][..], &user_len, user, &[service.len() as u8], service, key].concat().into()
}

/// What a key counts for without a reply: its name is there twice
fn octets_of(name: &[u8]) -> usize {
    2 * name.len() + size_of::<Entry>()
}

fn fingerprint(seed: u64, body: &Body) -> u64 {
    let mut hasher = std::hash::DefaultHasher::new();
    hasher.write_u64(seed);
    for frame in body {
        hasher.write_usize(frame.len());
        hasher.write(frame);
    }
    hasher.finish()
}

/// The part of all room that one reply may take
const LARGEST_SHARE: usize = 8;

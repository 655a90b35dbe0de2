//! Links with nodes that speak ZGP: the machine of the original, both sides of it.
//!
//! What the node calls, all on [`Node`](super::Node):
//! - `zgossip_link_up(now, link)`, `zgossip_link_down(now, link)`: the link is in `self.links` then, and still;
//! - `handle_zgossip(now, link, message)`: whatever came on a link whose wire is `ZGossip`;
//! - `zgossip_changed(now, key, before)`: the visible value of a key is another, is gone, or has a new time to live, whoever caused
//!   it; never for reserved keys;
//! - `zgossip_writable(now, link)`: the socket takes frames again;
//! - `zgossip_turn(now)`: the turn ends (input is drained): what is dirty may be sent now. Called before transmits are given out;
//! - `zgossip_timeout(now)` and `zgossip_next()`: its timers.
//!
//! A peer is sent the value that a key has, not each that it had: what is to be sent is a set of keys, and a place in the table
//! from which all the rest follows. So a slow peer costs no memory, and gets the latest. What it has is remembered by hashes
//! (`held.rs`), for nothing is sent that a peer has, and an echo is no write.
//!
//! A value that a peer sends becomes a write of this node's, unless it is old: one that this node saw overwritten or deleted
//! comes back from peers that were away, or were given their tuples again by others. Such a peer is told what the key has now.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque};
use std::time::{Duration, Instant};

use bytes::{BufMut, Bytes, BytesMut};
use tidings_zmtp::Message;

use super::settle::{Past, Verdict};
use super::{Node, Origin, PutError};
use crate::config::{LinkId, Side};
use crate::event::{HangUp, Refusal};
use crate::record::Lifetime;
use crate::table::{is_reserved, key_hash, value_hash};
use crate::wire::zgossip::{HELLO_FRAME, ZgossipMessage, decode, encode};

mod held;
mod machine;
#[cfg(test)]
mod tests;

use held::{ECHO_TIME, Heard, Held};
use machine::{Machine, Step, Steps};

/// What is remembered of all ZGP links
#[derive(Default)]
pub(super) struct ZGossip {
    peers: BTreeMap<LinkId, Peer>,
    /// Those that something may be sent to
    ready: BTreeSet<LinkId>,
    timers: BTreeSet<(Instant, LinkId)>,
    /// Values that keys had
    past: Past,
    /// When what was deferred is to be decided
    deferred: BTreeSet<(Instant, LinkId, u64)>,
    /// Tuples that can't be said in ZGP and were not sent
    withheld: u64,
    last_turn: Option<Instant>,
}

/// One link
struct Peer {
    machine: Machine,
    held: Held,
    /// Keys whose values have changed, in that order
    dirty: VecDeque<Bytes>,
    is_dirty: HashSet<u64>,
    replay: Option<Replay>,
    /// Keys that are known because of this peer, and their octets
    introduced: HashMap<u64, usize>,
    introduced_octets: usize,
    timer: Option<Instant>,
    /// Whether it sends back what it takes, as CZMQ does
    does_echo: bool,
    /// Until when what it says may be what it has had for long: it was greeted a moment ago, and hasn't paused since
    replays_until: Option<Instant>,
    /// What it said and may have said too late, or too early, by key
    deferred: HashMap<u64, Deferred>,
    deferred_octets: usize,
}

/// A value that may become a write
struct Deferred {
    key: Bytes,
    value: Bytes,
    until: Instant,
}

/// How far the table was sent
enum Replay {
    FromStart,
    After(Bytes),
}

impl Node {
    pub(super) fn zgossip_link_up(&mut self, now: Instant, link: LinkId) {
        let Some(side) = self.links.get(&link).map(|link| link.info.side) else { return };
        let machine = match side {
            Side::Server => Machine::server(now, self.config.server_timeout),
            Side::Remote => Machine::client(now, self.config.ping_interval),
        };
        self.zgossip.peers.insert(link, Peer::new(machine, side));
        self.zgossip_step(now, link, |machine| machine.handle_timeout(now));
    }

    pub(super) fn zgossip_link_down(&mut self, _now: Instant, link: LinkId) {
        if let Some(peer) = self.zgossip.peers.remove(&link) {
            self.zgossip.ready.remove(&link);
            if let Some(at) = peer.timer {
                self.zgossip.timers.remove(&(at, link));
            }
            for (number, deferred) in peer.deferred {
                self.zgossip.deferred.remove(&(deferred.until, link, number));
            }
        }
    }

    pub(super) fn handle_zgossip(&mut self, now: Instant, link: LinkId, message: Message) {
        let server_timeout = self.config.server_timeout;
        let decoded = decode(&message);
        self.zgossip_step(now, link, |machine| match decoded {
            Ok(message) => machine.handle(now, message, server_timeout),
            Err(cause) => machine.handle_malformed(cause),
        });
    }

    pub(super) fn zgossip_changed(&mut self, now: Instant, key: &Bytes, before: Option<&Bytes>) {
        let (number, remember) = (key_hash(key), self.config.tombstone_time);
        let (former, hash) =
            (before.map(|before| value_hash(before)), self.table.value(key).map(|value| value_hash(value)));
        // CZMQ takes no notice of a new time to live, and pays no more than the frame; who reads it has to be told
        let is_refreshed = former == hash;
        if let Some(former) = former.filter(|_| !is_refreshed) {
            self.zgossip.past.on_value(now, number, former, remember);
        }
        let Some(hash) = hash else {
            for peer in self.zgossip.peers.values_mut() {
                peer.forget_introduced(number);
                // It keeps the value, but who would remember all that ever was
                peer.held.forget(number);
            }
            return;
        };
        let mut steps = Vec::new();
        for (link, peer) in &mut self.zgossip.peers {
            let news = peer.machine.handle_news();
            if !news.is_empty() {
                steps.push((*link, news));
            }
            if is_refreshed {
                peer.held.forget(number);
            }
            if peer.held.has(number) != Some(hash) {
                peer.mark(key, number);
                self.zgossip.ready.insert(*link);
            }
        }
        for (link, news) in steps {
            self.zgossip_step(now, link, |_| news);
        }
    }

    pub(super) fn zgossip_writable(&mut self, _now: Instant, link: LinkId) {
        if self.zgossip.peers.contains_key(&link) {
            self.zgossip.ready.insert(link);
        }
    }

    pub(super) fn zgossip_turn(&mut self, now: Instant) {
        self.zgossip.last_turn = Some(now);
        for link in std::mem::take(&mut self.zgossip.ready) {
            if !self.is_blocked(link) && self.zgossip_flush(now, link) {
                self.zgossip.ready.insert(link);
            }
        }
    }

    pub(super) fn zgossip_timeout(&mut self, now: Instant) {
        while let Some((_, link)) = self.zgossip.timers.first().copied().filter(|(at, _)| *at <= now) {
            self.zgossip.timers.pop_first();
            if let Some(peer) = self.zgossip.peers.get_mut(&link) {
                peer.timer = None;
            }
            self.zgossip_step(now, link, |machine| machine.handle_timeout(now));
        }
        while let Some((_, link, number)) = self.zgossip.deferred.first().copied().filter(|(at, ..)| *at <= now) {
            self.zgossip.deferred.pop_first();
            self.zgossip_decide(now, link, number);
        }
        self.settle.handle_timeout(now);
        while let Some(event) = self.settle.poll() {
            self.tell(event);
        }
        while let Some(key) = self.settle.poll_repeat() {
            self.zgossip_mark_all(&key);
        }
    }

    pub(super) fn zgossip_next(&self) -> Option<Instant> {
        // What a turn left over goes on in the next
        let left = self.zgossip.last_turn.filter(|_| !self.zgossip.ready.is_empty());
        let timer = self.zgossip.timers.first().map(|(at, _)| *at);
        let deferred = self.zgossip.deferred.first().map(|(at, ..)| *at);
        [left, timer, deferred, self.settle.next()].into_iter().flatten().min()
    }

    /// The state of a link's machine, `start` or `connected`
    pub(super) fn zgossip_role(&self, link: LinkId) -> &'static str {
        self.zgossip.peers.get(&link).map_or("start", |peer| peer.machine.name())
    }

    /// Tuples that can't be said in ZGP, for a NUL in them, and so were not sent
    pub(super) fn zgossip_withheld(&self) -> u64 {
        self.zgossip.withheld
    }

    /// Has a link's machine do something, and does what it wants
    fn zgossip_step(&mut self, now: Instant, link: LinkId, step: impl FnOnce(&mut Machine) -> Steps) {
        let Some(peer) = self.zgossip.peers.get_mut(&link) else { return };
        for step in step(&mut peer.machine) {
            match step {
                Step::Send(frame) => self.zgossip_send(now, link, frame),
                Step::Replay => {
                    if let Some(peer) = self.zgossip.peers.get_mut(&link) {
                        peer.replays_until = Some(now + REPLAY_TIME);
                    }
                    self.zgossip_replay(link, |held| *held = Held::default());
                }
                Step::Repeat => self.zgossip_replay(link, Held::on_lost),
                Step::Take { key, value } => self.zgossip_take(now, link, &key, &value),
                Step::Refuse(cause) => self.refuse(now, link, cause),
                Step::HangUp => self.hang_up(link, HangUp::Malformed),
            }
        }
        let Some(peer) = self.zgossip.peers.get_mut(&link) else { return };
        let Some(at) = peer.machine.poll_timeout() else { return };
        // A timer that comes too early looks again
        if peer.timer.is_none_or(|timer| at < timer) {
            if let Some(timer) = peer.timer.replace(at) {
                self.zgossip.timers.remove(&(timer, link));
            }
            self.zgossip.timers.insert((at, link));
        }
    }

    fn zgossip_send(&mut self, now: Instant, link: LinkId, frame: Bytes) {
        // To a peer that reads nothing an answer is of no use; without HELLO nothing would come after it
        if self.is_blocked(link) && frame != HELLO_FRAME {
            return;
        }
        if let Some(peer) = self.zgossip.peers.get_mut(&link) {
            peer.machine.on_sent(now);
        }
        self.send(link, frame);
    }

    fn zgossip_replay(&mut self, link: LinkId, forget: impl FnOnce(&mut Held)) {
        let Some(peer) = self.zgossip.peers.get_mut(&link) else { return };
        forget(&mut peer.held);
        peer.dirty.clear();
        peer.is_dirty.clear();
        peer.replay = Some(Replay::FromStart);
        self.zgossip.ready.insert(link);
    }

    /// A peer has published a tuple
    fn zgossip_take(&mut self, now: Instant, link: LinkId, key: &Bytes, value: &Bytes) {
        self.zgossip_judge(now, link, key, value);
        // What a peer has of keys that are nowhere here is not remembered: it could say any number of them
        if self.table.value(key).is_none()
            && let Some(peer) = self.zgossip.peers.get_mut(&link)
        {
            peer.held.forget(key_hash(key));
        }
    }

    fn zgossip_judge(&mut self, now: Instant, link: LinkId, key: &Bytes, value: &Bytes) {
        if is_reserved(key) {
            return self.refuse(now, link, Refusal::ReservedKey);
        }
        if value.len() > self.config.quotas.max_value {
            return self.refuse(now, link, Refusal::Oversized);
        }
        let (number, hash) = (key_hash(key), value_hash(value));
        let Some(peer) = self.zgossip.peers.get_mut(&link) else { return };
        let knows = peer.held.knows(now, number);
        let heard = peer.held.on_heard(now, number, hash);
        let is_crossing = peer.held.is_in_flight(now, number);
        if heard == Heard::Echo {
            peer.does_echo = true;
            if !is_crossing {
                self.zgossip_undefer(link, number);
            }
            return;
        }
        let does_echo = peer.does_echo;
        peer.replays_until = peer.replays_until.filter(|until| *until > now).map(|until| until.max(now + REPLAY_PAUSE));
        // A node that has just begun can't know what is old
        let is_replayed = peer.replays_until.is_some() && self.clock.age(now) < FRESH_TIME;
        self.zgossip_undefer(link, number);
        let is_old = self.zgossip.past.had(number, hash);
        let Some(current) = self.table.value(key).cloned() else {
            if is_old || self.table.dead_value(key) == Some(hash) {
                return self.refuse(now, link, Refusal::Deleted);
            }
            return match (is_replayed, self.table.stamp(key)) {
                (false, _) => self.zgossip_write(now, link, key, value, Origin::Relay),
                (true, None) => self.zgossip_write(now, link, key, value, Origin::Replay),
                (true, Some(_)) => self.refuse(now, link, Refusal::Deleted),
            };
        };
        if current == *value {
            return;
        }
        let current_hash = value_hash(&current);
        if is_crossing && does_echo && self.zgossip_defer(link, key, value, now + ECHO_TIME) {
            return;
        }
        let is_ours = self.table.holder(key).is_some_and(|(life, _)| life == self.own);
        let is_stale = (is_old && knows != Some(current_hash)) || (is_replayed && !is_ours);
        match self.settle.on_value(now, key, (value, hash), (&current, current_hash)) {
            // Whoever goes on saying so makes the key a contested one, and is corrected at a rate that has a bound
            Verdict::Take if is_stale => {
                self.refuse(now, link, Refusal::Stale);
                self.zgossip_mark(link, key, number);
            }
            Verdict::Take => {
                let changed = self.zgossip.past.changed(number).filter(|_| is_old);
                // Not in step with a node on the other side of the peer, or both would take the other's value for ever
                let rest = self.random.around(REST_TIME);
                let rests_at = changed.map(|at| at + rest).into_iter().chain(self.relay_end(now, key)).max();
                let rests_at = rests_at.filter(|at| *at > now);
                if !rests_at.is_some_and(|at| self.zgossip_defer(link, key, value, at)) {
                    self.zgossip_write(now, link, key, value, Origin::Relay);
                }
            }
            Verdict::Hold => self.refuse(now, link, Refusal::Contested),
            Verdict::Contested(winner) => {
                while let Some(event) = self.settle.poll() {
                    self.tell(event);
                }
                self.refuse(now, link, Refusal::Contested);
                if winner == current {
                    self.zgossip_mark_all(key);
                } else {
                    self.zgossip_write(now, link, key, &winner, Origin::Local);
                }
            }
        }
    }

    /// Puts off what a peer said until it is seen whether it was its last word; `false` if too much is put off already
    ///
    /// What crosses a value of ours on the way is overwritten by it at the peer, whose echo tells so. And what is back a moment after
    /// it was overwritten is most often on a detour, with the newer value behind it.
    fn zgossip_defer(&mut self, link: LinkId, key: &Bytes, value: &Bytes, until: Instant) -> bool {
        let Some(peer) = self.zgossip.peers.get_mut(&link) else { return false };
        let octets = key.len() + value.len();
        if peer.deferred.len() >= MAX_DEFERRED || peer.deferred_octets + octets > MAX_DEFERRED_OCTETS {
            return false;
        }
        let (key, value) = copy_of(key, value);
        let number = key_hash(&key);
        peer.deferred_octets += octets;
        peer.deferred.insert(number, Deferred { key, value, until });
        self.zgossip.deferred.insert((until, link, number));
        true
    }

    fn zgossip_undefer(&mut self, link: LinkId, number: u64) -> Option<Deferred> {
        let peer = self.zgossip.peers.get_mut(&link)?;
        let deferred = peer.deferred.remove(&number)?;
        peer.deferred_octets -= deferred.key.len() + deferred.value.len();
        self.zgossip.deferred.remove(&(deferred.until, link, number));
        Some(deferred)
    }

    /// It was the peer's last word, and nothing came of ours: it is a write
    fn zgossip_decide(&mut self, now: Instant, link: LinkId, number: u64) {
        let Some(Deferred { key, value, .. }) = self.zgossip_undefer(link, number) else { return };
        let Some(peer) = self.zgossip.peers.get_mut(&link) else { return };
        // Something newer of ours is on its way
        let is_overwritten = peer.held.is_in_flight(now, number);
        if self.settle.is_held(&key, value_hash(&value)) {
            return self.refuse(now, link, Refusal::Contested);
        }
        if !is_overwritten && self.table.value(&key).is_some_and(|current| *current != value) {
            self.zgossip_write(now, link, &key, &value, Origin::Local);
        }
    }

    /// Makes a peer's value a write of this node
    fn zgossip_write(&mut self, now: Instant, link: LinkId, key: &Bytes, value: &Bytes, origin: Origin) {
        let quotas = &self.config.quotas;
        let Some(peer) = self.zgossip.peers.get_mut(&link) else { return };
        let (number, octets) = (key_hash(key), key.len() + value.len());
        let replaced = peer.introduced.get(&number).copied();
        if replaced.is_none() && peer.introduced.len() >= quotas.max_tuples_per_owner {
            return self.refuse(now, link, Refusal::KeyQuota);
        }
        if peer.introduced_octets - replaced.unwrap_or(0) + octets > quotas.max_octets_per_owner {
            return self.refuse(now, link, Refusal::OctetQuota);
        }
        // A quarter is left for what is put here
        let (tuples, held) = self.table.totals_of(self.own);
        let share = |most: usize| most - most / 4;
        if self.table.value(key).is_none() && tuples >= share(quotas.max_tuples_per_owner) {
            return self.refuse(now, link, Refusal::KeyQuota);
        }
        if held - replaced.unwrap_or(0).min(held) + octets > share(quotas.max_octets_per_owner) {
            return self.refuse(now, link, Refusal::OctetQuota);
        }
        match self.write(now, key.clone(), value.clone(), Lifetime::Permanent, origin) {
            Ok(_) => {
                let Some(peer) = self.zgossip.peers.get_mut(&link) else { return };
                peer.forget_introduced(number);
                peer.introduced.insert(number, octets);
                peer.introduced_octets += octets;
            }
            Err(PutError::Quota("octets")) => self.refuse(now, link, Refusal::OctetQuota),
            Err(PutError::Quota(_)) => self.refuse(now, link, Refusal::KeyQuota),
            Err(PutError::KeyTooLong(_) | PutError::ValueTooLong { .. }) => self.refuse(now, link, Refusal::Oversized),
            Err(PutError::Reserved) => self.refuse(now, link, Refusal::ReservedKey),
            Err(PutError::Left) => self.refuse(now, link, Refusal::OutOfState),
        }
    }

    fn zgossip_mark(&mut self, link: LinkId, key: &Bytes, number: u64) {
        if let Some(peer) = self.zgossip.peers.get_mut(&link) {
            peer.mark(key, number);
            self.zgossip.ready.insert(link);
        }
    }

    /// Peers that have another value of a key are to be sent the one that it has
    fn zgossip_mark_all(&mut self, key: &Bytes) {
        let number = key_hash(key);
        for (link, peer) in &mut self.zgossip.peers {
            peer.mark(key, number);
            self.zgossip.ready.insert(*link);
        }
    }

    /// Sends a peer some of what it hasn't got; whether there may be more
    fn zgossip_flush(&mut self, now: Instant, link: LinkId) -> bool {
        let mut budget = TURN_OCTETS;
        while budget > 0 {
            let Some(peer) = self.zgossip.peers.get_mut(&link) else { return false };
            if !peer.machine.is_connected() {
                return false;
            }
            let (key, is_news) = match (peer.dirty.pop_front(), &peer.replay) {
                (Some(key), _) => {
                    peer.is_dirty.remove(&key_hash(&key));
                    (key, true)
                }
                (None, None) => return false,
                (None, Some(replay)) => {
                    let after = if let Replay::After(key) = replay { Some(key) } else { None };
                    let key = self.table.visible_after(after).next().map(|(key, _)| key.clone());
                    peer.replay = key.clone().map(Replay::After);
                    let Some(key) = key else { return false };
                    (key, false)
                }
            };
            // Looking costs something, too
            budget = budget.saturating_sub(LOOK_OCTETS + self.zgossip_publish(now, link, key, is_news));
        }
        true
    }

    /// Sends a peer what a key has, if it hasn't got it; how many octets
    fn zgossip_publish(&mut self, now: Instant, link: LinkId, key: Bytes, is_news: bool) -> usize {
        let Some(peer) = self.zgossip.peers.get_mut(&link) else { return 0 };
        let Some(tuple) = self.table.tuple(now, &key) else { return 0 };
        let (number, hash) = (key_hash(&key), value_hash(&tuple.value));
        if peer.held.has(number) == Some(hash) {
            return 0;
        }
        let ttl = match tuple.lifetime {
            Lifetime::Permanent => Duration::ZERO,
            Lifetime::Ttl(given) => tuple.remaining.unwrap_or(given).max(Duration::from_millis(1)),
            Lifetime::Session => SESSION_TTL,
        };
        let ttl = u32::try_from(ttl.as_millis()).unwrap_or(u32::MAX);
        let Ok(frame) = encode(&ZgossipMessage::Publish { key, value: tuple.value, ttl }) else {
            self.zgossip.withheld += 1;
            return 0;
        };
        peer.held.on_sent(now, number, hash, is_news);
        peer.machine.on_sent(now);
        let octets = frame.len();
        self.send(link, frame);
        octets
    }
}

impl Peer {
    fn new(machine: Machine, side: Side) -> Self {
        Self {
            // A client need be no node: it may only send and listen
            does_echo: side == Side::Remote,
            replays_until: None,
            deferred: HashMap::new(),
            deferred_octets: 0,
            machine,
            held: Held::default(),
            dirty: VecDeque::new(),
            is_dirty: HashSet::new(),
            replay: None,
            introduced: HashMap::new(),
            introduced_octets: 0,
            timer: None,
        }
    }

    /// A key may have to be sent
    fn mark(&mut self, key: &Bytes, number: u64) {
        // What the replay comes to, or all of it once the peer is connected, needn't be remembered
        let is_to_come = match &self.replay {
            Some(Replay::FromStart) => true,
            Some(Replay::After(last)) => key > last,
            None => false,
        };
        if self.machine.is_connected() && !is_to_come && self.is_dirty.insert(number) {
            // Not a slice of all that it came with
            self.dirty.push_back(Bytes::copy_from_slice(key));
        }
    }

    fn forget_introduced(&mut self, number: u64) {
        if let Some(octets) = self.introduced.remove(&number) {
            self.introduced_octets -= octets;
        }
    }
}

/// What came is a slice of all that was read with it, which it would keep
fn copy_of(key: &[u8], value: &[u8]) -> (Bytes, Bytes) {
    let mut both = BytesMut::with_capacity(key.len() + value.len());
    both.put_slice(key);
    both.put_slice(value);
    let mut value = both.freeze();
    let key = value.split_to(key.len());
    (key, value)
}

/// Octets for one peer in one turn; what is left follows in the next
const TURN_OCTETS: usize = 256 << 10;
/// What a key costs of that even if there is nothing to send
const LOOK_OCTETS: usize = 16;
/// A value that comes back within this time after it was overwritten is taken if it is still the peer's at the end of it
const REST_TIME: Duration = Duration::from_millis(300);
/// So long after HELLO a peer says what it had before, and for longer if it has much to say
const REPLAY_TIME: Duration = Duration::from_secs(2);
const REPLAY_PAUSE: Duration = Duration::from_millis(500);
/// For so long after its start a node takes what others know for newer than what peers had before
const FRESH_TIME: Duration = Duration::from_secs(30);
/// Values of one peer that may wait for that, and their octets
const MAX_DEFERRED: usize = 4096;
const MAX_DEFERRED_OCTETS: usize = 16 << 20;
/// The time to live of a tuple that lives as long as its owner, for whoever reads it
const SESSION_TTL: Duration = Duration::from_secs(30);

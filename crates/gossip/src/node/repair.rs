//! How what was lost is found: HELLO, digests, and the exchange that follows when they differ.
//!
//! A DIGEST is sent on each active link at intervals, which double while nothing changes, rarely on resting ones, and with each HELLO. Where
//! roots differ for longer than changes are on their way, one end answers with what it knows of each life, or of
//! those in buckets that differ if there are many. The other asks for what it lacks, gives or announces what the first lacks, and says
//! what lives where only deaths differ. There is one exchange at a time on a link, each has a bound, and a peer with which
//! exchanges come to nothing has fewer of them.

use std::time::{Duration, Instant};

use super::spread::ON_ITS_WAY;
use super::{BYE_DUPLICATE, Node};
use crate::config::{LinkId, Side};
use crate::context::Ranges;
use crate::event::{HangUp, Refusal, RemovalCause};
use crate::record::{NodeId, Stamp};
use crate::table::{LifeIndex, bucket_of};
use crate::wire::tidings::{self, Digest, Hello, Incoming, LifeEntry, LifeRanges, Live, Mask};

impl Node {
    /// A message of our own wire
    pub(super) fn handle_tidings(&mut self, now: Instant, link: LinkId, frame: &[u8]) {
        let incoming = match tidings::decode(frame) {
            Ok(incoming) => incoming,
            Err(malformed) => return self.on_malformed(now, link, malformed.refusal()),
        };
        let Some(of) = self.links.get_mut(&link) else { return };
        // What RECORDS holds is only read later
        if !matches!(incoming, Incoming::Records { .. }) {
            of.malformed = 0;
        }
        let is_ready = of.peer.is_some();
        if !is_ready && !matches!(incoming, Incoming::Hello(_) | Incoming::Bye { .. }) {
            // HELLO was lost, or the peer is confused: it says HELLO until it has ours
            self.refuse(now, link, Refusal::OutOfState);
            return;
        }
        self.members.on_heard(now, link);
        let cost = match &incoming {
            Incoming::Hello(_) | Incoming::Buckets(_) | Incoming::Owners { .. } => COSTLY,
            Incoming::Live(_) => 1,
            _ => 0,
        };
        if cost > 0 && !self.links.get_mut(&link).is_some_and(|link| link.afford(now, cost)) {
            self.refuse(now, link, Refusal::Flood);
            return;
        }
        match incoming {
            Incoming::Hello(hello) => self.handle_hello(now, link, hello),
            Incoming::Digest(digest) => self.handle_digest(now, link, digest, false),
            Incoming::Buckets(sums) => self.handle_buckets(now, link, &sums),
            Incoming::Owners { mask, entries } => self.handle_owners(now, link, mask, entries),
            Incoming::Have { is_late, lives } => self.handle_have(now, link, is_late, lives),
            Incoming::Want { graft, lives } => self.handle_want(now, link, graft, lives),
            Incoming::Records { is_pushed, has_more, records } => {
                self.handle_records(now, link, is_pushed, has_more, records);
            }
            Incoming::Live(live) => self.handle_live(now, link, live),
            Incoming::Prune => self.handle_prune(link),
            Incoming::Ping(nonce) => self.members.on_ping(now, link, nonce),
            Incoming::Ack(nonce) => {
                if let Some(of) = self.links.get_mut(&link) {
                    of.note_ack(now, nonce);
                }
                self.members.on_ack(now, link, nonce);
            }
            Incoming::Status(mut updates) => {
                let of = self.links.get(&link).filter(|of| of.info.is_leaf);
                if let Some(leaf) = of.and_then(|of| of.peer.as_ref()).map(|peer| peer.id) {
                    updates.retain(|update| update.id == leaf);
                }
                for _ in 0..self.members.on_status(now, link, updates) {
                    self.refuse(now, link, Refusal::LyingDigest);
                }
            }
            Incoming::Shuffle(samples) => self.view.on_shuffle(now, link, samples),
            Incoming::Probe { is_vouched: false, about } => self.members.on_probe(now, link, about),
            Incoming::Probe { is_vouched: true, about } => self.members.on_vouch(now, link, about),
            Incoming::Bye { reason: _, samples } => {
                self.view.on_samples(now, samples);
                if let Some(of) = self.links.get_mut(&link) {
                    of.said_goodbye = true;
                }
                self.hang_up(link, HangUp::Left);
            }
        }
    }

    /// The first thing that is said on a link
    pub(super) fn greet(&mut self, now: Instant, link: LinkId) {
        self.consider_active(now, link);
        self.send_hello(now, link);
    }

    pub(super) fn send_hello(&mut self, now: Instant, link: LinkId) {
        let Some(of) = self.links.get(&link) else { return };
        let hello = Hello {
            id: self.identity.id,
            incarnation: self.identity.incarnation,
            has_yours: of.peer.is_some(),
            name: self.config.name.clone(),
            endpoints: self.reserved.endpoints.clone(),
            digest: self.own_digest(now, link),
        };
        if let Some(of) = self.links.get_mut(&link) {
            of.greeted_with = Some(hello.digest.root);
        }
        self.send(link, tidings::hello(&hello));
    }

    fn handle_hello(&mut self, now: Instant, link: LinkId, hello: Hello) {
        let Hello { id, incarnation, has_yours, name, endpoints, digest } = hello;
        let Some(of) = self.links.get(&link) else { return };
        if id == self.identity.id {
            self.refuse(now, link, Refusal::ForgedId);
            return self.hang_up(link, HangUp::SameId);
        }
        if of.info.key.is_some_and(|key| NodeId::of_key(&key) != id)
            || of.peer.as_ref().is_some_and(|peer| peer.id != id)
        {
            self.refuse(now, link, Refusal::ForgedId);
            return self.hang_up(link, HangUp::ForgedId);
        }
        let (was_known, explicit, side) = (of.peer.is_some(), of.info.explicit, of.info.side);
        let greeted_with = of.greeted_with;
        // First what time it is there: to a clock that was never set every life of others is in the future
        let _ = self.take_stamp(now, link, digest.clock);
        if !self.clock.is_plausible(now, incarnation) {
            self.refuse(now, link, Refusal::ClockLift);
            return self.hang_up(link, HangUp::ForgedId);
        }
        let is_double = self
            .links
            .iter()
            .any(|(other, of)| *other != link && of.is_ready() && of.peer.as_ref().is_some_and(|peer| peer.id == id));
        if is_double && !was_known && !explicit && side == Side::Remote {
            self.refuse(now, link, Refusal::Duplicate);
            self.send(link, tidings::bye(BYE_DUPLICATE, &[]));
            return self.hang_up(link, HangUp::Duplicate);
        }
        if let Some(of) = self.links.get_mut(&link) {
            of.peer_wants = digest.wants_active;
            of.digest_at = now + self.random.around(self.config.digest_interval);
            of.peer = Some(super::link::Peer { id, name: name.clone() });
        }
        if !was_known {
            self.tell_link(link, Ok(()));
            self.reserved.note_links(now);
            let nonce = self.random.next();
            self.send_ping(now, link, nonce);
            self.members.on_link_up(now, link, id, incarnation);
            self.view.on_link_up(now, link, id, &endpoints, explicit);
        } else if !has_yours {
            // Ours was lost
            self.send_hello(now, link);
        }
        self.members.on_member(now, id, incarnation, &name, &endpoints);
        // Over a new link nothing is on its way yet. One of both ends begins, or the one that has said what is not so any more
        let is_urgent = !was_known && (id < self.identity.id || greeted_with != Some(self.table.root()));
        self.handle_digest(now, link, digest, is_urgent);
    }

    fn own_digest(&self, now: Instant, link: LinkId) -> Digest {
        Digest {
            wants_active: self.links.get(&link).is_some_and(|link| link.wants_active),
            root: self.table.root(),
            lives: self.table.life_count() as u64,
            clock: self.clock.read(now),
            members: self.members.root(),
        }
    }

    /// Something has changed: a digest follows when that should have arrived everywhere, but not more often than at intervals
    pub(super) fn hurry_digest(&mut self, now: Instant, link: LinkId) {
        let soon = now + self.random.around(ON_ITS_WAY);
        let interval = self.random.around(self.config.digest_interval);
        let Some(of) = self.links.get_mut(&link) else { return };
        of.digest_interval = self.config.digest_interval;
        let earliest = of.digest_sent.map_or(soon, |sent| soon.max(sent + interval));
        of.digest_at = of.digest_at.min(earliest);
    }

    /// Sends digests that are due, or HELLO where the peer's hasn't come
    pub(super) fn send_due_digests(&mut self, now: Instant) {
        let due = self
            .links
            .iter()
            .filter(|(_, link)| link.is_tidings() && !link.is_ending && !link.is_blocked && link.digest_at <= now);
        let due = due.map(|(id, _)| *id).collect::<Vec<_>>();
        if !due.is_empty() {
            self.choose_active(now);
        }
        for link in due {
            let jitter = self.random.around(Duration::from_secs(1)).as_secs_f64();
            let (active, resting) = (self.config.digest_interval, self.config.resting_interval);
            let Some(of) = self.links.get_mut(&link) else { continue };
            of.known.forget_old(now);
            let interval = if of.is_active() || of.peer.is_none() { of.digest_interval } else { resting };
            of.digest_at = now + interval.mul_f64(jitter);
            of.digest_interval = (of.digest_interval * 2).min(active * 8);
            if of.peer.is_some() {
                of.digest_sent = Some(now);
                let frame = tidings::digest(&self.own_digest(now, link));
                self.stats.octets_digest += frame.len() as u64;
                self.send(link, frame);
            } else {
                self.send_hello(now, link);
            }
        }
    }

    fn handle_digest(&mut self, now: Instant, link: LinkId, digest: Digest, is_urgent: bool) {
        if self.take_stamp(now, link, digest.clock).is_err() {
            self.refuse(now, link, Refusal::ClockLift);
        }
        let (own_root, lives) = (self.table.root(), self.table.life_count() as u64);
        let is_busy = self.spread.changed_at.is_some_and(|at| now.saturating_duration_since(at) < ON_ITS_WAY)
            || !self.asks.is_empty();
        let is_status_due = digest.members != self.members.root();
        let pause = self.config.digest_interval;
        let next = now + self.random.around(self.config.digest_interval);
        let Some(of) = self.links.get_mut(&link) else { return };
        of.peer_wants = digest.wants_active;
        let is_recent = of.status_at.is_some_and(|at| now.saturating_duration_since(at) < pause);
        if is_status_due && !is_recent {
            of.status_at = Some(now);
            let updates = self.members.snapshot();
            self.send_status(link, &updates);
        }
        let Some(of) = self.links.get_mut(&link) else { return };
        if digest.root == own_root {
            (of.exchange, of.differs_since, of.fruitless, of.next_exchange) = (None, None, 0, None);
            of.digest_sent = Some(now + pause / 4);
            // One of both ends is enough, while all is well
            let interval = of.digest_interval.mul_f64(1.25);
            if of.is_active() && of.digest_at > now {
                of.digest_at = of.digest_at.max(now + interval);
            }
            return;
        }
        // What is to be repaired is looked at often until it is
        of.digest_interval = pause;
        of.digest_at = of.digest_at.min(next);
        if of.exchange.is_some_and(|until| until > now) || of.next_exchange.is_some_and(|at| at > now) || of.is_blocked
        {
            return;
        }
        let since = *of.differs_since.get_or_insert(now);
        if is_busy && !is_urgent && now.saturating_duration_since(since) < LONGEST_WAIT {
            // It may well be on its way: look again soon
            of.digest_at = of.digest_at.min(now + ON_ITS_WAY);
            return;
        }
        of.differs_since = None;
        of.exchange = Some(now + self.config.want_timeout * 2);
        if lives.max(digest.lives) > MANY_LIVES {
            let frame = tidings::buckets(self.table.buckets());
            self.send(link, frame);
        } else {
            self.send_owners(now, link, &Mask::ALL);
        }
    }

    fn handle_buckets(&mut self, now: Instant, link: LinkId, sums: &[u64; 256]) {
        let own = self.table.buckets();
        let differing = (0..=255_u8).filter(|bucket| own.get(usize::from(*bucket)) != sums.get(usize::from(*bucket)));
        let mut differing = differing.collect::<Vec<_>>();
        // Not always the same ones first, if there are more than one message holds
        if !differing.is_empty() {
            let first = self.random.below(differing.len());
            differing.rotate_left(first);
        }
        let counts = self.table.lives_by_bucket();
        let (mut mask, mut left) = (Mask::NONE, tidings::MOST_LIVES);
        for bucket in differing {
            let count = counts.get(usize::from(bucket)).copied().unwrap_or(0);
            if count > left {
                continue;
            }
            left -= count;
            mask.add(bucket);
        }
        if mask != Mask::NONE {
            self.send_owners(now, link, &mask);
        }
    }

    fn send_owners(&mut self, now: Instant, link: LinkId, mask: &Mask) {
        let entries = self.table.life_entries(mask, self.clock.read(now));
        if let Some(of) = self.links.get_mut(&link) {
            of.exchange = Some(now + self.config.want_timeout * 2);
        }
        self.send(link, tidings::owners(mask, &entries));
    }

    /// What the peer knows: both ends get what they lack
    fn handle_owners(&mut self, now: Instant, link: LinkId, mask: Mask, entries: Vec<LifeEntry>) {
        // A leaf is told what it lacks, and asked for what is its own
        let leaf =
            self.links.get(&link).filter(|of| of.info.is_leaf).and_then(|of| of.peer.as_ref()).map(|peer| peer.id);
        let (mut wanted, mut lacking, mut deaths) = (Vec::new(), Vec::<(LifeIndex, Ranges)>::new(), Vec::new());
        let mut spoken = std::collections::BTreeSet::new();
        // A little sooner than lives are forgotten, so that none is learnt again meanwhile
        let context_time = self.config.context_time.as_secs() / 8 * 7;
        let mut has_old = false;
        let clock = self.clock.read(now).0;
        for entry in entries {
            let name = (entry.owner, entry.incarnation);
            if !mask.has(bucket_of(entry.owner)) {
                continue;
            }
            spoken.insert(name);
            if self.is_own(name) && entry.seen.greatest() > self.own_seq {
                self.on_forged(now, link, Stamp(0));
                continue;
            }
            let life = match self.table.find_life(entry.owner, entry.incarnation) {
                Some(life) => life,
                // What is dead and old was forgotten here, or will be there
                None if entry.live_count == 0 && entry.age >= context_time => {
                    has_old = true;
                    continue;
                }
                None if leaf.is_some_and(|leaf| leaf != entry.owner) => continue,
                None if !self.may_live(now, link, name) => continue,
                None => match self.table.open_life(entry.owner, entry.incarnation) {
                    Ok(life) => life,
                    Err(cause) => {
                        self.refuse(now, link, cause);
                        continue;
                    }
                },
            };
            self.table.note_stamp(life, Stamp(clock.saturating_sub(entry.age.saturating_mul(1_000_000))));
            let Some(seen) = self.table.seen(life) else { continue };
            let (missing, lacks) = (entry.seen.without(seen), seen.without(&entry.seen));
            if missing.is_empty() && lacks.is_empty() {
                let own = self.table.life_entry(life, Stamp(0));
                if own.is_some_and(|own| own.live_hash != entry.live_hash) {
                    deaths.push(life);
                }
            }
            if !missing.is_empty() && leaf.is_none_or(|leaf| leaf == entry.owner) {
                self.note_known(now, link, name, &missing);
                wanted.push(LifeRanges { owner: entry.owner, incarnation: entry.incarnation, ranges: missing });
            }
            if !lacks.is_empty() {
                lacking.push((life, lacks));
            }
        }
        for own in self.table.life_entries(&mask, self.clock.read(now)) {
            if spoken.contains(&(own.owner, own.incarnation)) {
                continue;
            }
            if own.live_count == 0 && own.age >= context_time {
                has_old = true;
            } else if let Some(life) = self.table.find_life(own.owner, own.incarnation) {
                lacking.push((life, own.seen));
            }
        }
        let is_lie = wanted.is_empty() && lacking.is_empty() && deaths.is_empty() && !has_old;
        let differences = self.hash_of(&lacking, &deaths);
        let is_asking = self.ask(now, link, wanted, false);
        self.note_exchange(now, link, is_asking, differences, is_lie);
        if !lacking.is_empty() {
            if self.exceeds(now, &lacking, DIRECT_LIMIT) {
                self.send_have(link, &lacking, false);
            } else if let (Some(frame), sent) = self.encode_records(now, &lacking, DIRECT_LIMIT * 2, false) {
                self.note_sent(now, link, &sent);
                self.send(link, frame);
            }
        }
        for life in deaths.into_iter().take(MOST_DEATHS) {
            self.send_live(now, link, life, false);
        }
    }

    fn note_known(&mut self, now: Instant, link: LinkId, name: (NodeId, crate::record::Incarnation), ranges: &Ranges) {
        if let Some(of) = self.links.get_mut(&link) {
            of.known.add(now, name, ranges);
        }
    }

    /// What the peer lacks, and where only deaths differ, as a number; 0 for nothing
    fn hash_of(&self, lacking: &[(LifeIndex, Ranges)], deaths: &[LifeIndex]) -> u64 {
        use std::hash::{BuildHasher, Hash, Hasher};
        if lacking.is_empty() && deaths.is_empty() {
            return 0;
        }
        let mut hasher = foldhash::fast::FixedState::default().build_hasher();
        for (life, ranges) in lacking {
            (self.table.life_name(*life), ranges).hash(&mut hasher);
        }
        for life in deaths {
            self.table.life_entry(*life, Stamp(0)).map(|entry| (entry.owner, entry.live_hash)).hash(&mut hasher);
        }
        hasher.finish() | 1
    }

    /// An exchange after which nothing is asked for, and in which the peer lacks what it lacked before, comes to nothing: perhaps
    /// a quota refuses it
    fn note_exchange(&mut self, now: Instant, link: LinkId, is_asking: bool, differences: u64, is_lie: bool) {
        let interval = self.config.digest_interval;
        let Some(of) = self.links.get_mut(&link) else { return };
        of.exchange = Some(now + self.config.want_timeout);
        let differed = std::mem::replace(&mut of.differences, differences);
        if is_asking || (differences != 0 && differences != differed) {
            of.fruitless = 0;
            self.stats.repairs += 1;
            return;
        }
        of.fruitless = (of.fruitless + 1).min(16);
        of.next_exchange = Some(now + (interval * (1 << of.fruitless.min(6))).min(LONGEST_PAUSE));
        if of.fruitless >= 3 && is_lie {
            self.refuse(now, link, Refusal::LyingDigest);
        }
    }

    fn send_live(&mut self, now: Instant, link: LinkId, life: LifeIndex, is_answer: bool) {
        // It takes a few octets to ask for it
        let cost = 1 + u32::try_from(self.table.entries_of(life) / LIVE_OF_COST).unwrap_or(u32::MAX);
        if !self.links.get_mut(&link).is_some_and(|link| link.afford(now, cost)) {
            return self.refuse(now, link, Refusal::Flood);
        }
        let (owner, incarnation) = self.table.life_name(life);
        for (seen, live) in self.table.live(life, tidings::MOST_LIVE_RANGES) {
            self.send(link, tidings::live(&Live { is_answer, owner, incarnation, seen, live }));
        }
    }

    /// Which of a life's writes live at the peer: what both have seen and is dead there is dead here
    fn handle_live(&mut self, now: Instant, link: LinkId, live: Live) {
        if !self.may_speak_of(now, link, live.owner) {
            return;
        }
        let Some(life) = self.table.find_life(live.owner, live.incarnation) else { return };
        let Some(seen) = self.table.seen(life).map(|seen| seen.common(&live.seen)) else { return };
        let ours = self.table.live_among(life, &seen);
        let dead_there = ours.without(&live.live);
        let dead_here = live.live.common(&seen).without(&ours);
        if self.is_own((live.owner, live.incarnation)) {
            self.write_sessions_again(now, &dead_there);
        }
        for seq in dead_there.iter().flat_map(|(first, last)| first..=last) {
            self.table.bury(life, seq, RemovalCause::Superseded);
        }
        self.process_changes(now);
        if !live.is_answer && !dead_here.is_empty() && !self.is_blocked(link) {
            self.send_live(now, link, life, true);
        }
    }
}

/// Writes that LIVE speaks of at the cost of one
const LIVE_OF_COST: usize = 256;
/// What HELLO, BUCKETS and OWNERS cost of the budget of a second: they are answered with all that is known
const COSTLY: u32 = 50;
/// More lives than this are compared by buckets first
const MANY_LIVES: u64 = 128;
/// How long digests may differ while changes are on their way, until that is looked into
const LONGEST_WAIT: Duration = Duration::from_secs(2);
/// The longest pause between exchanges that come to nothing
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// What a peer lacks is sent at once if it has no more octets
const DIRECT_LIMIT: usize = 1024;
/// Lives whose deaths are compared in one exchange
const MOST_DEATHS: usize = 64;

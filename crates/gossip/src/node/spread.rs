//! How what is new reaches the others.
//!
//! All that became known in one turn is sent on together, and turns that follow each other within 2 to 4 ms are one. Over a link of the tree it
//! is pushed, if it isn't much; over one that is not proven yet only if it is little, and announced else; over a lazy link it is
//! announced when nothing new has come for a moment, without what the peer has by then. Who hears an announcement of something unknown
//! asks for it, from one peer at a time, and if it came so late wants to be pushed to by that one from then on. Who is pushed what it
//! has already, more than three times in eight, takes that back. Each end decides for what it gets: with many writers a link may be of
//! use in one direction alone, and in a ring all links are, though each is of none to some writer. So a write crosses the network
//! along a tree, about once to each node, while the other links carry numbers alone and are there when one of the tree breaks.
//!
//! Each node wants some of its links active, chosen at random; the others rest and exchange digests alone.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::records::record_size;
use super::{Node, Role};
use crate::config::LinkId;
use crate::context::Ranges;
use crate::table::LifeIndex;
use crate::wire::tidings::{self, LifeRanges};

/// What is to be spread
#[derive(Default)]
pub(super) struct Spread {
    /// What became known in this turn, and from where
    fresh: Vec<Fresh>,
    /// What became known since lazy links were told
    pending: BTreeMap<LifeIndex, Ranges>,
    /// When that is, and when at the latest if there is always more
    announce_at: Option<Instant>,
    announce_by: Option<Instant>,
    /// When changes were sent last, and when those that wait are
    sent_at: Option<Instant>,
    send_at: Option<Instant>,
    /// When something became known last
    pub(super) changed_at: Option<Instant>,
    /// When a link was taken from the tree last
    pub(super) pruned_at: Option<Instant>,
}

/// Some writes of one life
type Known = (LifeIndex, Ranges);

struct Fresh {
    life: LifeIndex,
    first: u64,
    last: u64,
    from: Option<LinkId>,
}

impl Spread {
    /// These writes are known now
    pub(super) fn note_new(&mut self, life: LifeIndex, first: u64, last: u64, from: Option<LinkId>) {
        if let Some(fresh) = self.fresh.last_mut()
            && (fresh.life, fresh.from) == (life, from)
            && fresh.last.checked_add(1) == Some(first)
        {
            fresh.last = last;
            return;
        }
        self.fresh.push(Fresh { life, first, last, from });
    }

    pub(super) fn next(&self) -> Option<Instant> {
        self.announce_at.into_iter().chain(self.send_at).min()
    }
}

impl Node {
    /// Sends what became known in this turn
    pub(super) fn spread_turn(&mut self, now: Instant) {
        if self.spread.fresh.is_empty() {
            return;
        }
        self.spread.changed_at = Some(now);
        // The first change goes at once, what comes right behind it together
        let links = self.links.values().filter(|link| link.is_active()).count();
        let pace = (PACE * u32::try_from(links).unwrap_or(u32::MAX)).clamp(PACE * 2, PACE * 4);
        let earliest = self.spread.sent_at.map_or(now, |sent| sent + pace);
        if earliest > now {
            self.spread.send_at = Some(earliest);
            return;
        }
        (self.spread.sent_at, self.spread.send_at) = (Some(now), None);
        let fresh = std::mem::take(&mut self.spread.fresh);
        let links = self.links.iter().filter(|(_, link)| link.is_active());
        let links = links.map(|(id, link)| (*id, link.role, link.allowance)).collect::<Vec<_>>();
        let mut has_lazy = false;
        // Most links get the same
        let mut last: Option<(Vec<Known>, Vec<Bytes>)> = None;
        let mut new = BTreeMap::<LifeIndex, Ranges>::new();
        for one in &fresh {
            new.entry(one.life).or_default().insert_range(one.first, one.last);
        }
        for (id, role, allowance) in links {
            self.hurry_digest(now, id);
            if role == Role::Lazy {
                has_lazy = true;
                continue;
            }
            let lives = self.unknown_to(id, &new);
            if lives.is_empty() {
                continue;
            }
            if self.is_blocked(id) {
                if let Some(link) = self.links.get_mut(&id) {
                    link.is_stale = true;
                }
                continue;
            }
            if self.exceeds(now, &lives, allowance) {
                self.send_have(id, &lives, false);
                if let Some(link) = self.links.get_mut(&id) {
                    link.note_offered(lives.iter().map(|(_, ranges)| ranges.count()).sum());
                }
                continue;
            }
            let frames = match last.take() {
                Some((same, frames)) if same == lives => frames,
                _ => self.encode_all(now, &lives),
            };
            for frame in &frames {
                self.send(id, frame.clone());
            }
            self.note_sent(now, id, &lives);
            if let Some(link) = self.links.get_mut(&id) {
                link.pushed_since.get_or_insert(now);
            }
            last = Some((lives, frames));
        }
        if has_lazy {
            for (life, ranges) in new {
                self.spread.pending.entry(life).or_default().extend(&ranges);
            }
        }
        if !self.links.is_empty() {
            // Of two ends of a link the later one needn't say what the other has said
            let jitter = 0.5 + self.random.below(1 << 16) as f64 / f64::from(1 << 16);
            let longest = self.config.announce_interval;
            let by = *self.spread.announce_by.get_or_insert(now + longest.mul_f64(jitter));
            let at = now + self.announce_pause().mul_f64(jitter);
            self.spread.announce_at = Some(at.min(by));
        }
    }

    /// How long nothing new has to come until lazy links are told: what is on its way along the tree should have arrived
    pub(super) fn announce_pause(&self) -> Duration {
        let longest = self.config.announce_interval;
        let links = self.links.values().filter(|link| link.is_active());
        let slowest = links.map(|link| link.round_trip.unwrap_or(longest)).max().unwrap_or(longest);
        (slowest * ROUND_TRIPS).clamp(SHORTEST_PAUSE.min(longest), longest)
    }

    /// Tells lazy links what they may not know yet
    pub(super) fn announce(&mut self, now: Instant) {
        if self.spread.announce_at.is_none_or(|at| at > now) {
            return;
        }
        (self.spread.announce_at, self.spread.announce_by) = (None, None);
        let pending = std::mem::take(&mut self.spread.pending);
        let trial = self.config.announce_interval;
        let links = self.links.iter().filter(|(_, link)| link.is_active()).map(|(id, link)| (*id, link.role));
        for (id, role) in links.collect::<Vec<_>>() {
            if let Some(link) = self.links.get_mut(&id) {
                link.known.forget_old(now);
                if link.pushed_since.is_some_and(|since| now.saturating_duration_since(since) >= trial) {
                    // No PRUNE came
                    link.pushed_since = None;
                    if role == Role::Unproven {
                        link.set_role(Role::Tree);
                    } else if role == Role::Tree {
                        link.allowance = (link.allowance * 2).min(super::link::ALLOWANCE_MOST);
                    }
                }
            }
            if role != Role::Lazy {
                continue;
            }
            let lives = self.unknown_to(id, &pending);
            if !lives.is_empty() {
                if self.is_blocked(id) {
                    if let Some(link) = self.links.get_mut(&id) {
                        link.is_stale = true;
                    }
                } else {
                    self.send_have(id, &lives, true);
                }
            }
        }
    }

    /// A link that is lazy won't be any more: what it would have been told later it is told now
    pub(super) fn announce_pending(&mut self, link: LinkId) {
        if self.links.get(&link).is_none_or(|link| link.role != Role::Lazy || !link.is_active()) {
            return;
        }
        let pending = std::mem::take(&mut self.spread.pending);
        let lives = self.unknown_to(link, &pending);
        self.spread.pending = pending;
        if !lives.is_empty() {
            self.send_have(link, &lives, false);
        }
    }

    /// Lives were forgotten, and others may get their numbers
    pub(super) fn forget_pending(&mut self) {
        let table = &self.table;
        self.spread.pending.retain(|life, _| table.seen(*life).is_some());
    }

    /// HAVE came: what is missing is asked for
    pub(super) fn handle_have(&mut self, now: Instant, link: LinkId, is_late: bool, lives: Vec<LifeRanges>) {
        let mut missing = Vec::with_capacity(lives.len());
        for life in lives {
            let name = (life.owner, life.incarnation);
            if self.is_own(name) {
                if life.ranges.greatest() > self.own_seq {
                    self.on_forged(now, link, crate::record::Stamp(0));
                }
                continue;
            }
            if !self.may_speak_of(now, link, name.0) || !self.may_live(now, link, name) {
                continue;
            }
            if let Some(of) = self.links.get_mut(&link) {
                of.known.add(now, name, &life.ranges);
            }
            missing.push(life);
        }
        // What was pushed nowhere near is a gap in the tree; what is only too much to be pushed isn't
        self.ask(now, link, missing, is_late);
    }

    /// PRUNE came: the peer gets changes elsewhere
    pub(super) fn handle_prune(&mut self, link: LinkId) {
        if let Some(of) = self.links.get_mut(&link) {
            of.set_role(Role::Lazy);
        }
    }

    /// Chooses links that this node wants to be active, as long as it has too few; which ones is chance, so that what is
    /// active joins all
    pub(super) fn choose_active(&mut self, now: Instant) {
        let active = self.links.values().filter(|link| link.is_active()).count();
        let idle = self.links.iter().filter(|(_, link)| link.is_ready() && !link.is_active());
        let mut idle = idle.map(|(id, _)| *id).collect::<Vec<_>>();
        for _ in active..self.config.fan_out {
            if idle.is_empty() {
                return;
            }
            let chosen = idle.swap_remove(self.random.below(idle.len()));
            self.want_active(now, chosen, true);
        }
    }

    /// A link is up: it is wanted, perhaps in the place of another, so that each has the same chance
    pub(super) fn consider_active(&mut self, now: Instant, link: LinkId) {
        let wanted = self.links.iter().filter(|(_, link)| link.wants_active).map(|(id, _)| *id).collect::<Vec<_>>();
        let others = self.links.values().filter(|link| link.is_active() && !link.wants_active).count();
        // Half of them, as others want as many from here; what is missing then is chosen later
        let most = self.config.fan_out.div_ceil(2);
        if wanted.len() < most && wanted.len() + others < self.config.fan_out {
            self.want_active(now, link, true);
            return;
        }
        let all = self.links.values().filter(|link| link.is_tidings()).count();
        let place = self.random.below(all);
        if let Some(other) = wanted.get(place) {
            self.want_active(now, *other, false);
            self.want_active(now, link, true);
        }
    }

    pub(super) fn want_active(&mut self, now: Instant, link: LinkId, wants: bool) {
        self.announce_pending(link);
        let Some(of) = self.links.get_mut(&link) else { return };
        if of.wants_active == wants {
            return;
        }
        of.wants_active = wants;
        of.set_role(Role::Unproven);
        // The peer learns it from the next DIGEST
        of.digest_interval = self.config.digest_interval;
        if of.is_ready() {
            of.digest_at = now;
        }
    }

    /// What of this a peer isn't known to have
    fn unknown_to(&self, link: LinkId, new: &BTreeMap<LifeIndex, Ranges>) -> Vec<Known> {
        let Some(of) = self.links.get(&link) else { return Vec::new() };
        let unknown = new.iter().map(|(life, ranges)| {
            let mut ranges = ranges.clone();
            of.known.subtract_from(self.table.life_name(*life), &mut ranges);
            (*life, ranges)
        });
        unknown.filter(|(_, ranges)| !ranges.is_empty()).collect()
    }

    /// Whether these records have more octets
    pub(super) fn exceeds(&self, now: Instant, lives: &[Known], allowance: usize) -> bool {
        let mut left = allowance;
        lives.iter().any(|(life, ranges)| {
            self.table.records(now, *life, ranges).any(|record| {
                let size = record_size(&record);
                let is_over = size > left;
                left = left.saturating_sub(size);
                is_over
            })
        })
    }

    /// All of it as pushed RECORDS
    fn encode_all(&mut self, now: Instant, lives: &[Known]) -> Vec<Bytes> {
        let mut frames = Vec::new();
        let mut left = lives.to_vec();
        while !left.is_empty() {
            let (frame, sent) = self.encode_records(now, &left, PUSH_LIMIT, true);
            let Some(frame) = frame else { break };
            frames.push(frame);
            for (life, ranges) in &mut left {
                if let Some((_, sent)) = sent.iter().find(|(other, _)| other == life) {
                    ranges.subtract(sent);
                }
            }
            left.retain(|(_, ranges)| !ranges.is_empty());
        }
        frames
    }

    pub(super) fn send_have(&mut self, link: LinkId, lives: &[Known], is_late: bool) {
        let names = lives.iter().map(|(life, ranges)| {
            let (owner, incarnation) = self.table.life_name(*life);
            LifeRanges { owner, incarnation, ranges: ranges.clone() }
        });
        let names = names.collect::<Vec<_>>();
        for lives in names.chunks(tidings::MOST_LIVES) {
            self.send(link, tidings::have(is_late, lives));
        }
    }
}

/// Changes are sent on at most so often, for each active link, of which two to four count: where many come one after the other, a frame
/// with many costs less than many frames
const PACE: Duration = Duration::from_millis(1);
/// What is on its way along the tree has arrived after about so many round trips of the slowest link
const ROUND_TRIPS: u32 = 16;
/// Longer than processors of busy machines need for what came together
const SHORTEST_PAUSE: Duration = Duration::from_millis(8);
/// Octets of one pushed RECORDS, unless one record has more
const PUSH_LIMIT: usize = 64 << 10;
/// How long what was changed last counts as on its way
pub(super) const ON_ITS_WAY: Duration = Duration::from_millis(300);

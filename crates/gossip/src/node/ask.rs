//! What was asked for and hasn't come yet.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Instant;

use super::Node;
use super::link::Role;
use crate::config::LinkId;
use crate::context::Ranges;
use crate::event::Refusal;
use crate::record::{Incarnation, NodeId};
use crate::wire::tidings::{self, LifeRanges};

type LifeName = (NodeId, Incarnation);

/// All that was asked for, in the order of when it should be there
#[derive(Default)]
pub(super) struct Asks {
    queue: VecDeque<Ask>,
    /// How many of them are of each link
    counts: BTreeMap<LinkId, usize>,
    open: BTreeMap<LifeName, Ranges>,
    /// What was refused when it came, and until when it isn't asked for
    declined: BTreeMap<LifeName, (Ranges, Instant)>,
    /// When those whose time is over may be looked for again
    sweep_at: Option<Instant>,
}

struct Ask {
    link: LinkId,
    life: LifeName,
    ranges: Ranges,
    graft: bool,
    at: Instant,
    tries: u8,
    /// How many were missing when it was looked at last, and since when it is so many
    missing: u64,
    since: Instant,
}

impl Asks {
    /// When the oldest should be there
    pub(super) fn next(&self) -> Option<Instant> {
        self.queue.front().map(|ask| ask.at)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.open.is_empty()
    }

    fn push(&mut self, ask: Ask) {
        *self.counts.entry(ask.link).or_default() += 1;
        self.queue.push_back(ask);
    }

    fn pop(&mut self) -> Option<Ask> {
        let ask = self.queue.pop_front()?;
        if let Some(count) = self.counts.get_mut(&ask.link) {
            *count -= 1;
            if *count == 0 {
                self.counts.remove(&ask.link);
            }
        }
        Some(ask)
    }

    /// Whether a link may be asked for more
    fn has_room(&self, link: LinkId) -> bool {
        // One that announces what isn't there leaves half of it to the others
        self.queue.len() < MOST_ASKS && self.counts.get(&link).is_none_or(|count| *count < MOST_ASKS / 2)
    }

    /// Something came, or is not wanted any more
    pub(super) fn on_seen(&mut self, life: LifeName, ranges: &Ranges) {
        if let Some(open) = self.open.get_mut(&life) {
            open.subtract(ranges);
            if open.is_empty() {
                self.open.remove(&life);
            }
        }
        while let Some(front) = self.queue.front() {
            let is_open = self.open.get(&front.life).is_some_and(|open| !open.common(&front.ranges).is_empty());
            if is_open {
                break;
            }
            self.pop();
        }
    }

    /// What came was not taken: it isn't asked for again so soon
    pub(super) fn decline(&mut self, now: Instant, life: LifeName, ranges: &Ranges) {
        self.on_seen(life, ranges);
        if self.declined.len() >= MOST_DECLINED && self.sweep_at.is_none_or(|at| at <= now) {
            self.sweep_at = Some(now + SWEEP);
            self.declined.retain(|_, (_, until)| *until > now);
        }
        if self.declined.len() < MOST_DECLINED || self.declined.contains_key(&life) {
            let (declined, until) = self.declined.entry(life).or_insert_with(|| (Ranges::new(), now));
            if *until <= now {
                *declined = Ranges::new();
            }
            declined.extend(ranges);
            declined.truncate(MOST_RANGES);
            *until = now + DECLINED;
        }
    }
}

impl Node {
    /// Asks a peer for what is missing of these, and wasn't asked for elsewhere; whether anything is missing that may come
    pub(super) fn ask(&mut self, now: Instant, link: LinkId, lives: Vec<LifeRanges>, graft: bool) -> bool {
        if self.links.get(&link).is_none_or(|link| link.is_distrusted(now) || link.is_blocked) {
            return false;
        }
        let (mut wanted, mut is_missing) = (Vec::new(), false);
        for LifeRanges { owner, incarnation, mut ranges } in lives {
            let life = (owner, incarnation);
            if self.is_own(life) {
                continue;
            }
            if let Some(seen) = self.table.find_life(owner, incarnation).and_then(|life| self.table.seen(life)) {
                ranges.subtract(seen);
            }
            if let Some((declined, until)) = self.asks.declined.get(&life)
                && *until > now
            {
                ranges.subtract(declined);
            }
            is_missing |= !ranges.is_empty();
            let open = self.asks.open.get(&life);
            if open.is_some_and(|open| open.range_count() >= MOST_OPEN) {
                continue;
            }
            if let Some(open) = open {
                ranges.subtract(open);
            }
            ranges.truncate(MOST_RANGES);
            if !ranges.is_empty() && self.asks.has_room(link) {
                self.asks.open.entry(life).or_default().extend(&ranges);
                let at = now + self.config.want_timeout;
                let missing = ranges.count();
                self.asks.push(Ask { link, life, ranges: ranges.clone(), graft, at, tries: 1, missing, since: now });
                wanted.push(LifeRanges { owner, incarnation, ranges });
            }
        }
        self.send_want(link, &wanted, graft);
        is_missing
    }

    /// What was asked for and didn't come is asked for elsewhere, where somebody has it
    pub(super) fn ask_again(&mut self, now: Instant) {
        let mut again: BTreeMap<(LinkId, bool), Vec<LifeRanges>> = BTreeMap::new();
        // One lost message is one thing, however much was asked for in it
        let mut silent = BTreeSet::new();
        while let Some(ask) = self.asks.queue.front() {
            if ask.at > now {
                break;
            }
            let Some(mut ask) = self.asks.pop() else { break };
            let Some(missing) = self.asks.open.get(&ask.life).map(|open| open.common(&ask.ranges)) else { continue };
            if missing.is_empty() {
                continue;
            }
            let timeout = self.config.want_timeout;
            if let Some(link) = self.links.get_mut(&ask.link) {
                let left = missing.count();
                if left < ask.missing {
                    (ask.missing, ask.since) = (left, now);
                }
                // A large answer is on its way; but something of this has to come at last
                let is_given = now.saturating_duration_since(ask.since) < LONGEST_ANSWER;
                if let Some(progress) = link.progress
                    && progress + timeout > now
                {
                    if is_given {
                        ask.at = progress + timeout;
                        self.asks.push(ask);
                        continue;
                    }
                    link.unanswered = MOST_UNANSWERED;
                }
                silent.insert(ask.link);
            }
            let other = self.find_other(now, &ask, &missing);
            match other {
                Some((link, ranges)) if ask.tries < MOST_TRIES => {
                    // What the other hasn't is found by a digest
                    let gone = missing.without(&ranges);
                    self.asks.on_seen(ask.life, &gone);
                    let (owner, incarnation) = ask.life;
                    again.entry((link, ask.graft)).or_default().push(LifeRanges {
                        owner,
                        incarnation,
                        ranges: ranges.clone(),
                    });
                    let (at, missing) = (now + timeout, ranges.count());
                    self.asks.push(Ask { link, ranges, at, tries: ask.tries + 1, missing, since: now, ..ask });
                }
                _ => self.asks.on_seen(ask.life, &missing),
            }
        }
        for id in silent {
            self.stats.want_timeouts += 1;
            let Some(link) = self.links.get_mut(&id) else { continue };
            if now.saturating_duration_since(link.heard_at) > SILENCE {
                continue;
            }
            link.unanswered += 1;
            if link.unanswered >= MOST_UNANSWERED {
                link.unanswered = 0;
                link.distrusted_until = Some(now + DISTRUST);
                self.refuse(now, id, Refusal::LyingDigest);
            }
        }
        for ((link, graft), lives) in again {
            self.send_want(link, &lives, graft);
        }
    }

    /// More is where this came from: the rest of what was asked for there is asked for anew
    pub(super) fn ask_for_more(&mut self, now: Instant, link: LinkId) {
        let mut wanted = Vec::new();
        let mut graft = false;
        for ask in self.asks.queue.iter_mut().filter(|ask| ask.link == link) {
            let Some(missing) = self.asks.open.get(&ask.life).map(|open| open.common(&ask.ranges)) else { continue };
            if !missing.is_empty() {
                graft |= ask.graft;
                let (owner, incarnation) = ask.life;
                wanted.push(LifeRanges { owner, incarnation, ranges: missing });
            }
        }
        self.send_want(link, &wanted, graft);
        let _ = now;
    }

    fn send_want(&mut self, link: LinkId, wanted: &[LifeRanges], graft: bool) {
        if wanted.is_empty() {
            return;
        }
        if graft && let Some(of) = self.links.get_mut(&link) {
            of.expect_pushes();
        }
        for lives in wanted.chunks(tidings::MOST_LIVES) {
            self.stats.wants += 1;
            self.send(link, tidings::want(graft, lives));
        }
    }

    /// The link becomes one of the tree
    pub(super) fn graft(&mut self, link: LinkId) {
        if let Some(of) = self.links.get_mut(&link)
            && of.is_active()
            && of.role != Role::Tree
        {
            self.announce_pending(link);
            if let Some(of) = self.links.get_mut(&link) {
                of.set_role(Role::Tree);
            }
            self.stats.grafts += 1;
        }
    }

    /// Another link whose peer has some of what is missing; the same if there is no other
    fn find_other(&self, now: Instant, ask: &Ask, missing: &Ranges) -> Option<(LinkId, Ranges)> {
        let behind = self.links.range(ask.link..).skip_while(|(id, _)| **id == ask.link);
        let others = behind.chain(self.links.range(..=ask.link));
        others
            .filter(|(_, link)| link.is_ready() && !link.is_blocked && !link.is_distrusted(now))
            .map(|(id, link)| (*id, link.known.common(ask.life, missing)))
            .find(|(_, known)| !known.is_empty())
    }

    pub(super) fn is_own(&self, life: LifeName) -> bool {
        life == (self.identity.id, self.identity.incarnation)
    }
}

/// Ranges of one life in a WANT
const MOST_RANGES: usize = 64;
/// Things asked for at once; the rest is found by digests
const MOST_ASKS: usize = 8192;
/// Ranges of one life that may be asked for at once
const MOST_OPEN: usize = 1024;
/// How long a peer that gives other things may take to give something of what it was asked for: 256 MiB at 2 MiB a second
const LONGEST_ANSWER: std::time::Duration = std::time::Duration::from_secs(120);
/// How often the same is asked for, before it is left to digests
const MOST_TRIES: u8 = 4;
/// Things that one link has announced and didn't give, in a row, until nothing is asked of it for a time
const MOST_UNANSWERED: u32 = 16;
/// Who hasn't said anything for so long can't be reached, which is the members' matter
const SILENCE: std::time::Duration = std::time::Duration::from_secs(2);
const DISTRUST: std::time::Duration = std::time::Duration::from_secs(60);
const DECLINED: std::time::Duration = std::time::Duration::from_secs(60);
const MOST_DECLINED: usize = 1024;
const SWEEP: std::time::Duration = std::time::Duration::from_secs(1);

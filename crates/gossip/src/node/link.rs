//! What a node remembers of one link.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use bytes::Bytes;

use crate::config::{LinkInfo, Wire};
use crate::context::Ranges;
use crate::record::{Incarnation, NodeId};

/// One link
pub(super) struct Link {
    pub(super) info: LinkInfo,
    /// Who is at the other end, once it said HELLO
    pub(super) peer: Option<Peer>,
    /// Whether the socket took no more; frames wait in `backlog` until it does
    pub(super) is_blocked: bool,
    /// Since when nothing was taken, if something was tried meanwhile
    pub(super) blocked_since: Option<Instant>,
    /// A frame was given out, and has not come back so far
    pub(super) has_sent: bool,
    pub(super) backlog: VecDeque<Bytes>,
    /// Whether something was left out while it was blocked
    pub(super) is_stale: bool,
    /// Whether a hang-up was asked for
    pub(super) is_ending: bool,
    pub(super) said_goodbye: bool,
    pub(super) counts: Counts,
    /// What it is for what this node sends; the peer says, by PRUNE and WANT
    pub(super) role: Role,
    /// Whether the peer was told to announce, and not to push
    pub(super) is_pruned: bool,
    /// Records that were pushed over it and were new, and those that were not; both fade
    news: u32,
    dups: u32,
    /// Whether this node wants changes to go over it
    pub(super) wants_active: bool,
    /// Whether the peer does
    pub(super) peer_wants: bool,
    /// How many octets of a turn's records are pushed rather than announced
    pub(super) allowance: usize,
    /// Records that were announced since it was last doubled, and those of them that were asked for; both fade
    offered: u64,
    wanted: u64,
    /// Since when pushes haven't been answered by PRUNE
    pub(super) pushed_since: Option<Instant>,
    /// When the peer was last told to push no more
    pub(super) pruned_at: Option<Instant>,
    /// What the peer has, of what is new
    pub(super) known: Known,
    /// When the next DIGEST (or HELLO, before the peer's came) is sent, and how long after the one before
    pub(super) digest_at: Instant,
    pub(super) digest_interval: Duration,
    /// When the last one was sent, or came and was equal
    pub(super) digest_sent: Option<Instant>,
    /// The root that the last HELLO had
    pub(super) greeted_with: Option<u64>,
    /// Until when an exchange is under way
    pub(super) exchange: Option<Instant>,
    /// Since when the peer's digests differ
    pub(super) differs_since: Option<Instant>,
    /// How many exchanges in a row have found nothing, and until when there is no other
    pub(super) fruitless: u32,
    pub(super) next_exchange: Option<Instant>,
    /// What the peer lacked in the last exchange
    pub(super) differences: u64,
    /// How many things in a row were asked for in vain, and until when nothing is
    pub(super) unanswered: u32,
    /// When something came last: who says nothing at all for a while isn't lying
    pub(super) heard_at: Instant,
    pub(super) distrusted_until: Option<Instant>,
    /// When records came last
    pub(super) progress: Option<Instant>,
    /// How many messages in a row couldn't be read
    pub(super) malformed: u32,
    /// What was answered in this second, of a budget
    spent: Option<(Instant, u32)>,
    /// Large lifts of the clock: since when they are counted, and how many
    pub(super) lifts: Option<(Instant, u32)>,
    /// When the members' STATUS was sent last because digests differed
    pub(super) status_at: Option<Instant>,
    /// The last PING, and when it was sent
    pinged: Option<(u64, Instant)>,
    /// How long messages take there and back, smoothed; quick to fall and slow to rise
    pub(super) round_trip: Option<Duration>,
}

/// Who is at the other end
pub(super) struct Peer {
    pub(super) id: NodeId,
    pub(super) name: String,
}

/// What an active link is for the spreading
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    /// Not tried yet: little is pushed, much is announced at once
    Unproven,
    /// It has brought what was new: changes are pushed
    Tree,
    /// Others are quicker: changes are announced, later
    Lazy,
}

/// What went over a link
#[derive(Default)]
pub(super) struct Counts {
    pub(super) frames_in: u64,
    pub(super) octets_in: u64,
    pub(super) frames_out: u64,
    pub(super) octets_out: u64,
    pub(super) refused: u64,
}

impl Link {
    /// Since when its socket has taken nothing
    pub(super) fn stuck_since(&self) -> Option<Instant> {
        self.blocked_since.filter(|_| self.is_blocked)
    }

    pub(super) fn new(info: LinkInfo, now: Instant, interval: Duration) -> Self {
        Self {
            info,
            peer: None,
            is_blocked: false,
            blocked_since: None,
            has_sent: false,
            backlog: VecDeque::new(),
            is_stale: false,
            is_ending: false,
            said_goodbye: false,
            counts: Counts::default(),
            role: Role::Unproven,
            is_pruned: false,
            news: CREDIT_UNPROVEN,
            dups: 0,
            wants_active: false,
            peer_wants: false,
            allowance: ALLOWANCE_UNPROVEN,
            offered: 0,
            wanted: 0,
            pushed_since: None,
            pruned_at: None,
            known: Known::default(),
            digest_at: now + interval,
            digest_interval: interval,
            digest_sent: None,
            greeted_with: None,
            exchange: None,
            differs_since: None,
            fruitless: 0,
            next_exchange: None,
            differences: 0,
            unanswered: 0,
            heard_at: now,
            distrusted_until: None,
            progress: None,
            malformed: 0,
            spent: None,
            lifts: None,
            status_at: None,
            pinged: None,
            round_trip: None,
        }
    }

    /// Whether it is to a node of ours that has said HELLO
    pub(super) fn is_ready(&self) -> bool {
        self.peer.is_some() && !self.is_ending
    }

    /// Whether changes go over it
    pub(super) fn is_active(&self) -> bool {
        self.is_ready() && (self.wants_active || self.peer_wants)
    }

    pub(super) fn is_tidings(&self) -> bool {
        self.info.wire == Wire::Tidings
    }

    pub(super) fn set_role(&mut self, role: Role) {
        if self.role != role {
            self.role = role;
            (self.pushed_since, self.offered, self.wanted) = (None, 0, 0);
            self.allowance = if role == Role::Tree { ALLOWANCE_TREE } else { ALLOWANCE_UNPROVEN };
        }
    }

    /// A push came; whether pushes over it have mostly been in vain
    pub(super) fn weigh(&mut self, new: u64, old: u64) -> bool {
        let count = |number: u64| u32::try_from(number).unwrap_or(u32::MAX);
        self.news = self.news.saturating_add(count(new));
        self.dups = self.dups.saturating_add(count(old));
        let is_vain = self.dups.saturating_mul(5) > self.news.saturating_mul(3);
        while self.news.saturating_add(self.dups) > REMEMBERED_PUSHES {
            (self.news, self.dups) = (self.news / 2, self.dups / 2);
        }
        is_vain
    }

    /// It is one of the tree again, and gets some time to be worth it
    pub(super) fn expect_pushes(&mut self) {
        (self.is_pruned, self.news, self.dups) = (false, CREDIT, 0);
    }

    /// So many records were announced that were too much to be pushed
    pub(super) fn note_offered(&mut self, count: u64) {
        if self.offered > OFFERED {
            (self.offered, self.wanted) = (self.offered / 2, self.wanted / 2);
        }
        self.offered += count;
    }

    /// So many of them were asked for. Where nearly all are, announcing them is a detour
    pub(super) fn note_wanted(&mut self, count: u64) {
        self.wanted += count;
        if self.offered >= FEW_OFFERED && self.wanted * 4 >= self.offered * 3 {
            self.allowance = (self.allowance * 2).min(ALLOWANCE_MOST);
            (self.offered, self.wanted) = (0, 0);
        }
    }

    pub(super) fn note_ping(&mut self, now: Instant, nonce: u64) {
        self.pinged = Some((nonce, now));
    }

    pub(super) fn note_ack(&mut self, now: Instant, nonce: u64) {
        let Some((_, sent)) = self.pinged.take_if(|(pinged, _)| *pinged == nonce) else { return };
        let sample = now.saturating_duration_since(sent);
        self.round_trip = Some(self.round_trip.map_or(sample, |smoothed| sample.min((smoothed * 7 + sample) / 8)));
    }

    /// Whether the peer may have so much work done in this second
    pub(super) fn afford(&mut self, now: Instant, cost: u32) -> bool {
        let (since, spent) = self.spent.get_or_insert((now, 0));
        if now.saturating_duration_since(*since) >= Duration::from_secs(1) {
            (*since, *spent) = (now, 0);
        }
        *spent = spent.saturating_add(cost);
        *spent <= BUDGET
    }

    pub(super) fn is_distrusted(&self, now: Instant) -> bool {
        self.distrusted_until.is_some_and(|until| until > now)
    }
}

/// What a peer is known to have of what has changed lately, in two generations, of which the older is forgotten
#[derive(Default)]
pub(super) struct Known {
    generations: [BTreeMap<(NodeId, Incarnation), Ranges>; 2],
    turned: Option<Instant>,
}

impl Known {
    pub(super) fn add(&mut self, now: Instant, life: (NodeId, Incarnation), ranges: &Ranges) {
        let [young, old] = &mut self.generations;
        let turned = *self.turned.get_or_insert(now);
        if now.saturating_duration_since(turned) >= REMEMBERED || young.len() >= MOST_KNOWN {
            *old = std::mem::take(young);
            self.turned = Some(now);
        }
        let known = young.entry(life).or_default();
        known.extend(ranges);
        known.truncate(MOST_KNOWN_RANGES);
    }

    /// Takes what is known away from these
    pub(super) fn subtract_from(&self, life: (NodeId, Incarnation), ranges: &mut Ranges) {
        for known in self.generations.iter().filter_map(|generation| generation.get(&life)) {
            ranges.subtract(known);
        }
    }

    /// Whether the peer has some of these
    pub(super) fn has_some_of(&self, life: (NodeId, Incarnation), ranges: &Ranges) -> bool {
        self.generations.iter().filter_map(|generation| generation.get(&life)).any(|known| known.meets(ranges))
    }

    /// Which of these the peer has
    pub(super) fn common(&self, life: (NodeId, Incarnation), ranges: &Ranges) -> Ranges {
        let mut both = Ranges::new();
        for known in self.generations.iter().filter_map(|generation| generation.get(&life)) {
            both.extend(&known.common(ranges));
        }
        both
    }

    pub(super) fn forget_old(&mut self, now: Instant) {
        let Some(turned) = self.turned else { return };
        if now.saturating_duration_since(turned) >= REMEMBERED * 2 {
            *self = Self::default();
        } else if now.saturating_duration_since(turned) >= REMEMBERED {
            let [young, old] = &mut self.generations;
            *old = std::mem::take(young);
            self.turned = Some(now);
        }
    }
}

/// Pushed on an unproven link: what costs no more than announcing it and being asked for it
pub(super) const ALLOWANCE_UNPROVEN: usize = 512;
/// Pushed at first on a link of the tree; twice as much with each push that wasn't in vain
pub(super) const ALLOWANCE_TREE: usize = 1024;
/// Pushed at most
pub(super) const ALLOWANCE_MOST: usize = 64 << 10;
/// Over so many records it is weighed whether pushes are in vain
const REMEMBERED_PUSHES: u32 = 256;
/// So many records in vain are forgiven a link that was asked to push again
const CREDIT: u32 = 24;
/// So many records have to have been announced until it is weighed how many were asked for, and over so many
const FEW_OFFERED: u64 = 8;
const OFFERED: u64 = 256;
/// And a new one
const CREDIT_UNPROVEN: u32 = 6;
/// Work of one second, in units of a small answer
const BUDGET: u32 = 2000;
/// How long a generation of what peers know is the younger
const REMEMBERED: Duration = Duration::from_secs(5);
/// Lives in one generation
const MOST_KNOWN: usize = 4096;
const MOST_KNOWN_RANGES: usize = 128;

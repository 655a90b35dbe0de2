//! Who is up, suspect and gone: a detector in the manner of SWIM, with Lifeguard's doubt of itself.
//!
//! Pure state: the node calls it and then collects [`Output`]s with `poll()` until there are none. It is called with
//! - `on_link_up(now, link, id, incarnation)` when HELLO of a link with a node of ours came, `on_link_down(now, link, said_goodbye)`;
//! - `on_heard(now, link)` for each message of such a link;
//! - `on_ping`, `on_ack`, `on_status`, `on_probe`, `on_vouch`: those messages;
//! - `on_member(now, id, incarnation, name, endpoints)`: its `$tidings/node/` record is live in the table, or it said HELLO; and
//!   `on_neighbours(now, id, incarnation, neighbours)`: so is its `$tidings/links/` record; `on_member_dead(now, id)`: its record is dead;
//! - `handle_timeout(now)` when `next()` says.
//!
//! `root()` goes into each DIGEST; a peer whose root differs is sent `snapshot()` as STATUS.
//!
//! A node watches those at the other ends of its links, and only those (`watch.rs`): a neighbour that is silent is sent PING,
//! then others are asked whether they hear it, then it is suspected, and everybody is told. Whoever is suspected hears of it
//! from any neighbour that it still has and contradicts with a greater refutation; if it doesn't in time, it is gone, as
//! each node finds for itself. Between two beliefs of one life the greater (refutation, status) wins everywhere.
//!
//! Who has no neighbour left is watched by nobody, and what is beyond a lost node can't be heard: such members are found by
//! who is whose neighbour (`reach.rs`).

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::{Duration, Instant};

use smallvec::SmallVec;

use crate::config::{Identity, LinkId, NodeConfig, Presence};
use crate::event::{Health, Member, MemberChange, MemberStatus};
use crate::record::{Incarnation, NodeId};
use crate::wire::tidings::StatusUpdate;

mod reach;
#[cfg(test)]
mod tests;
mod watch;
use watch::Watch;

/// What the members' part wants done
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Output {
    /// PING on a link
    Ping(LinkId, u64),
    /// ACK on a link
    Ack(LinkId, u64),
    /// PROBE: does the peer hear this one?
    Probe(LinkId, NodeId),
    /// The answer, when it does
    Vouch(LinkId, NodeId),
    /// STATUS on one link
    Status(LinkId, Vec<StatusUpdate>),
    /// STATUS on every active link but this one
    Flood(Vec<StatusUpdate>, Option<LinkId>),
    /// Session tuples of an owner are hidden from now on, or shown again
    Present(NodeId, Incarnation, bool),
    /// The member is forgotten: its Session tuples are dead
    Dead(NodeId, Incarnation),
    /// Somebody knows more of this node than it has said: another life begins, after this one
    Reborn(Incarnation),
    /// An event
    Changed(MemberChange),
}

/// All members
pub(super) struct Members {
    presence: Presence,
    probe_interval: Duration,
    probe_timeout: Duration,
    suspicion: Duration,
    forget_after: Duration,
    max_members: usize,
    identity: Identity,
    name: String,
    endpoints: Vec<String>,
    started: Instant,
    refutation: u64,
    has_left: bool,
    members: BTreeMap<NodeId, Belief>,
    /// How many of them are neither gone nor forgotten
    alive: usize,
    root: u64,
    links: BTreeMap<LinkId, NodeId>,
    watches: BTreeMap<NodeId, Watch>,
    timers: BTreeSet<(Instant, Timer)>,
    health: u8,
    /// Until then nobody is accused: this node was late itself, and has to hear what waits for it
    grace_until: Instant,
    nonce: u64,
    /// When its health was last found to be better
    recovered_at: Instant,
    /// When it last blamed itself for an answer that didn't come
    doubted_at: Instant,
    /// When it is next seen to who can be reached at all
    survey_at: Option<Instant>,
    outputs: VecDeque<Output>,
}

/// What is believed of a member
struct Belief {
    incarnation: Incarnation,
    refutation: u64,
    status: MemberStatus,
    since: Instant,
    name: String,
    endpoints: Vec<String>,
    accuser: Option<NodeId>,
    /// While it is suspect
    suspicion: Option<Suspicion>,
    /// While it is gone: when it is forgotten
    forget_at: Option<Instant>,
    /// This node can't reach it, whatever others can: a belief that isn't shared
    is_out_of_reach: bool,
    /// Its record is dead, though nobody has said that it is gone
    is_unrecorded: bool,
    /// Its neighbours, if it has told
    neighbours: Option<Vec<NodeId>>,
    /// When it was last told that it is taken for dead or dying
    told_at: Option<Instant>,
}

struct Suspicion {
    since: Instant,
    ends: Instant,
    /// The first few, each independent of the others
    accusers: SmallVec<[NodeId; MAX_ACCUSERS]>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Timer {
    /// A neighbour is to be sent PING, or has not answered
    Watch(NodeId),
    /// A suspect has had its time
    Suspicion(NodeId),
    /// A member was gone for long
    Forget(NodeId),
    /// Members came or went a while ago: some may be out of reach
    Survey,
}

impl Members {
    pub(super) fn new(config: &NodeConfig, identity: Identity, now: Instant) -> Self {
        Self {
            presence: config.presence,
            probe_interval: config.probe_interval,
            probe_timeout: config.probe_timeout,
            suspicion: config.suspicion,
            forget_after: config.forget_after,
            max_members: config.quotas.max_owners,
            identity,
            name: config.name.clone(),
            endpoints: Vec::new(),
            started: now,
            refutation: 0,
            has_left: false,
            members: BTreeMap::new(),
            alive: 0,
            root: 0,
            links: BTreeMap::new(),
            watches: BTreeMap::new(),
            timers: BTreeSet::new(),
            health: 0,
            grace_until: now,
            nonce: 0,
            recovered_at: now,
            doubted_at: now,
            survey_at: None,
            outputs: VecDeque::new(),
        }
    }

    /// `endpoints` and `name` as the member itself gives them
    pub(super) fn on_member(
        &mut self,
        now: Instant,
        id: NodeId,
        incarnation: Incarnation,
        name: &str,
        endpoints: &[String],
    ) {
        if id == self.identity.id {
            name.clone_into(&mut self.name);
            self.endpoints = endpoints.to_vec();
        }
        if !self.on_life(now, id, incarnation) {
            return;
        }
        if let Some(belief) = self.members.get_mut(&id) {
            name.clone_into(&mut belief.name);
            belief.endpoints = endpoints.to_vec();
            if belief.is_unrecorded {
                let previous = belief.shown();
                belief.is_unrecorded = false;
                if let Some(at) = belief.forget_at.take_if(|_| !is_out(belief.status)) {
                    self.timers.remove(&(at, Timer::Forget(id)));
                }
                self.show(now, id, previous);
            }
        }
    }

    /// Its record is dead: it is over for others, who say no more of it. If it goes on, it writes it again
    pub(super) fn on_member_dead(&mut self, now: Instant, id: NodeId) {
        if self.watches.contains_key(&id) {
            return;
        }
        let Some(belief) = self.members.get_mut(&id).filter(|belief| !belief.is_out()) else { return };
        let previous = belief.shown();
        belief.is_unrecorded = true;
        if belief.forget_at.is_none() {
            belief.forget_at = Some(now + self.forget_after);
            self.timers.insert((now + self.forget_after, Timer::Forget(id)));
        }
        self.show(now, id, previous);
    }

    /// How many of the updates were lies
    pub(super) fn on_status(&mut self, now: Instant, link: LinkId, updates: Vec<StatusUpdate>) -> usize {
        let (mut news, mut corrections) = (Vec::new(), Vec::new());
        let mut lies = 0;
        for update in updates {
            if !self.is_plausible(&update) {
                lies += 1;
            } else if let Some(correction) = self.correction(&update) {
                corrections.push(correction);
            } else if update.id == self.identity.id {
                self.refute(update);
            } else if self.believe(now, update) {
                news.push(update);
            }
        }
        // With `Links` nobody is told of what is no neighbour's
        if !news.is_empty() && self.presence == Presence::All {
            self.outputs.push_back(Output::Flood(news, Some(link)));
        }
        // What has overcome it was lost on its way there
        if !corrections.is_empty() {
            self.outputs.push_back(Output::Status(link, corrections));
        }
        lies
    }

    /// What this node says of itself, if somebody knows less of it. Of others each says nothing: who is wrong about them hears it of them,
    /// and all who hear news late would answer them
    fn correction(&self, update: &StatusUpdate) -> Option<StatusUpdate> {
        let own = self.own();
        let is_old = (update.id, update.incarnation) == (own.id, own.incarnation) && update.refutation < own.refutation;
        is_old.then_some(own)
    }

    pub(super) fn handle_timeout(&mut self, now: Instant) {
        if let Some((due, _)) = self.timers.first().filter(|(due, _)| *due <= now)
            && now.duration_since(*due) > self.probe_timeout / 2
        {
            self.on_late(now, now.duration_since(*due));
        }
        while let Some((_, timer)) = self.timers.first().copied().filter(|(due, _)| *due <= now) {
            self.timers.pop_first();
            match timer {
                Timer::Watch(id) => self.on_watch_timer(now, id),
                Timer::Suspicion(id) => self.on_suspicion_timer(now, id),
                Timer::Forget(id) => self.on_forget_timer(now, id),
                Timer::Survey => self.survey(now),
            }
        }
    }

    pub(super) fn next(&self) -> Option<Instant> {
        self.timers.first().map(|(at, _)| *at)
    }

    pub(super) fn poll(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// A digest of all that is believed: equal where the same is
    ///
    /// Members that are up and were never accused are left out: their records tell of them. With `Links` it is 0, as each
    /// node knows other members.
    pub(super) fn root(&self) -> u64 {
        match self.presence {
            Presence::All => self.root.wrapping_add(self.own().mix()),
            Presence::Links => 0,
        }
    }

    /// All that `root` is made of
    pub(super) fn snapshot(&self) -> Vec<StatusUpdate> {
        if self.presence == Presence::Links {
            return Vec::new();
        }
        let others = self.members.iter().map(|(id, belief)| belief.update(*id, belief.status));
        others.chain([self.own()]).filter(is_said).collect()
    }

    pub(super) fn list(&self, now: Instant) -> Vec<Member> {
        let own = Member {
            id: self.identity.id,
            incarnation: self.identity.incarnation,
            name: self.name.clone(),
            endpoints: self.endpoints.clone(),
            status: self.own().status,
            since: now.saturating_duration_since(self.started),
            is_neighbour: false,
        };
        let others = self.members.iter().filter(|(_, belief)| belief.status != MemberStatus::Forgotten);
        let others = others.map(|(id, belief)| Member {
            id: *id,
            incarnation: belief.incarnation,
            name: belief.name.clone(),
            endpoints: belief.endpoints.clone(),
            status: belief.shown(),
            since: now.saturating_duration_since(belief.since),
            is_neighbour: self.watches.get(id).is_some_and(|watch| !watch.links.is_empty()),
        });
        let mut all: Vec<Member> = others.chain([own]).collect();
        all.sort_by_key(|member| member.id);
        all
    }

    pub(super) fn health(&self) -> Health {
        Health(self.health)
    }

    /// This node begins another life, as somebody else has written in the name of the one before
    pub(super) fn on_rebirth(&mut self, now: Instant, incarnation: Incarnation) {
        self.identity.incarnation = incarnation;
        (self.refutation, self.started) = (0, now);
    }

    /// This node leaves: Left is flooded
    pub(super) fn leave(&mut self, _now: Instant) {
        if !self.has_left {
            self.has_left = true;
            self.refutation += 1;
            self.outputs.push_back(Output::Flood(vec![self.own()], None));
        }
    }

    /// What this node says of itself
    fn own(&self) -> StatusUpdate {
        let Identity { id, incarnation } = self.identity;
        let status = if self.has_left { MemberStatus::Left } else { MemberStatus::Up };
        StatusUpdate { id, incarnation, refutation: self.refutation, status, accuser: id }
    }

    /// Somebody says of this node what isn't true
    fn refute(&mut self, update: StatusUpdate) {
        let has_more = (update.incarnation, update.refutation) > (self.identity.incarnation, self.refutation);
        if has_more && !self.has_left {
            // It is a lie, or was said by a life whose clock was ahead: only a later one is beyond it
            self.outputs.push_back(Output::Reborn(update.incarnation));
        }
        let is_of_this_life = update.incarnation == self.identity.incarnation;
        let is_contradicted = update.status == MemberStatus::Up || update.refutation < self.refutation;
        if !is_of_this_life || is_contradicted || self.has_left {
            return;
        }
        self.refutation = update.refutation + 1;
        self.doubt();
        self.outputs.push_back(Output::Flood(vec![self.own()], None));
    }

    /// There is this life of a member; `false` if it is known to be over, or to be one too many
    fn on_life(&mut self, now: Instant, id: NodeId, incarnation: Incarnation) -> bool {
        if id == self.identity.id {
            return false;
        }
        let is_full = self.members.len() >= self.max_members;
        match self.members.get_mut(&id) {
            Some(belief) if incarnation < belief.incarnation => return false,
            Some(belief) if incarnation == belief.incarnation => return true,
            Some(belief) => {
                let previous = belief.shown();
                self.root = self.root.wrapping_sub(belief.update(id, belief.status).mix());
                self.alive -= usize::from(!belief.is_out());
                if let Some(at) = belief.forget_at {
                    self.timers.remove(&(at, Timer::Forget(id)));
                }
                if let Some(suspicion) = &belief.suspicion {
                    self.timers.remove(&(suspicion.ends, Timer::Suspicion(id)));
                }
                *belief = Belief {
                    name: std::mem::take(&mut belief.name),
                    endpoints: std::mem::take(&mut belief.endpoints),
                    ..Belief::new(now, incarnation)
                };
                self.tell(id, Some(previous));
            }
            None if is_full => return false,
            None => {
                self.members.insert(id, Belief::new(now, incarnation));
                self.tell(id, None);
            }
        }
        self.alive += 1;
        self.outputs.push_back(Output::Present(id, incarnation, true));
        true
    }

    fn is_plausible(&self, update: &StatusUpdate) -> bool {
        let limit = if update.status == MemberStatus::Up { MAX_REFUTATION + 1 } else { MAX_REFUTATION };
        update.refutation <= limit && update.status != MemberStatus::Forgotten
    }

    /// Takes what somebody says of another, if it is of the life that is known and greater than what is believed; whether it
    /// was news
    ///
    /// That there is another life is learnt from its record or its own HELLO, never from hearsay.
    fn believe(&mut self, now: Instant, update: StatusUpdate) -> bool {
        let Some(belief) = self.members.get_mut(&update.id) else { return false };
        if belief.incarnation != update.incarnation {
            return false;
        }
        let believed = (belief.refutation, rank(belief.status));
        let said = (update.refutation, rank(update.status));
        if said < believed {
            return false;
        }
        if said == believed {
            let Some(suspicion) = &mut belief.suspicion else { return false };
            if suspicion.accusers.contains(&update.accuser) || suspicion.accusers.len() == MAX_ACCUSERS {
                return false;
            }
            suspicion.accusers.push(update.accuser);
            self.arm_suspicion(now, update.id);
            return true;
        }
        let (previous, was_out) = (belief.shown(), belief.is_out());
        self.root = self.root.wrapping_sub(belief.update(update.id, belief.status).mix()).wrapping_add(update.mix());
        if let Some(suspicion) = belief.suspicion.take() {
            self.timers.remove(&(suspicion.ends, Timer::Suspicion(update.id)));
        }
        (belief.refutation, belief.status) = (update.refutation, update.status);
        (belief.accuser, belief.told_at) = (None, None);
        if update.status == MemberStatus::Up {
            belief.is_out_of_reach = false;
        } else {
            belief.accuser = Some(update.accuser);
        }
        let is_out = belief.is_out();
        match (was_out, is_out) {
            (false, true) => {
                self.alive -= 1;
                self.plan_survey(now);
            }
            (true, false) => self.alive += 1,
            _ => {}
        }
        let Some(belief) = self.members.get_mut(&update.id) else { return true };
        if let Some(at) = belief.forget_at.take() {
            self.timers.remove(&(at, Timer::Forget(update.id)));
        }
        if is_out {
            belief.forget_at = Some(now + self.forget_after);
            self.timers.insert((now + self.forget_after, Timer::Forget(update.id)));
        }
        if update.status == MemberStatus::Suspect {
            let accusers = [update.accuser].into_iter().collect();
            belief.suspicion = Some(Suspicion { since: now, ends: now, accusers });
            self.arm_suspicion(now, update.id);
        }
        self.on_believed(now, update.id, previous);
        true
    }

    /// What is shown of a member may be another now
    fn on_believed(&mut self, now: Instant, id: NodeId, previous: MemberStatus) {
        let Some(belief) = self.members.get_mut(&id) else { return };
        let shown = belief.shown();
        if shown == previous {
            return;
        }
        belief.since = now;
        let (is_out, was_out) = (is_out(shown), is_out(previous));
        if is_out != was_out {
            self.outputs.push_back(Output::Present(id, belief.incarnation, !is_out));
        }
        self.tell(id, Some(previous));
    }

    /// Tells what is shown of a member now, if that is another; what lives as long as it stays as it is
    fn show(&mut self, now: Instant, id: NodeId, previous: MemberStatus) {
        if let Some(belief) = self.members.get_mut(&id).filter(|belief| belief.shown() != previous) {
            belief.since = now;
            self.tell(id, Some(previous));
        }
    }

    fn tell(&mut self, id: NodeId, previous: Option<MemberStatus>) {
        let Some(belief) = self.members.get(&id) else { return };
        self.outputs.push_back(Output::Changed(MemberChange {
            id,
            incarnation: belief.incarnation,
            name: belief.name.clone(),
            status: belief.shown(),
            previous,
            accuser: belief.accuser.filter(|accuser| *accuser != self.identity.id),
        }));
    }

    /// When a suspect has had its time: 5 s, more in large networks and if this node is not well, down to half of it as
    /// others accuse it too
    fn arm_suspicion(&mut self, now: Instant, id: NodeId) {
        let nodes = (self.alive + 1) as f64;
        let base = self.suspicion.mul_f64(nodes.log10().max(1.0)) * (1 + u32::from(self.health));
        let Some(suspicion) = self.members.get_mut(&id).and_then(|belief| belief.suspicion.as_mut()) else { return };
        let others = suspicion.accusers.len().saturating_sub(1) as f64;
        let share = 1.0 - 0.5 * (others + 1.0).ln() / (MAX_ACCUSERS as f64).ln();
        self.timers.remove(&(suspicion.ends, Timer::Suspicion(id)));
        suspicion.ends = (suspicion.since + base.mul_f64(share)).max(now);
        self.timers.insert((suspicion.ends, Timer::Suspicion(id)));
    }

    fn on_suspicion_timer(&mut self, now: Instant, id: NodeId) {
        if now < self.grace_until {
            if let Some(suspicion) = self.members.get_mut(&id).and_then(|belief| belief.suspicion.as_mut()) {
                suspicion.ends = self.grace_until;
                self.timers.insert((self.grace_until, Timer::Suspicion(id)));
            }
            return;
        }
        let Some(belief) = self.members.get(&id).filter(|belief| belief.suspicion.is_some()) else { return };
        let accuser = belief.accuser.unwrap_or(self.identity.id);
        let update = StatusUpdate { accuser, ..belief.update(id, MemberStatus::Gone) };
        if self.believe(now, update) {
            self.flood(update);
        }
    }

    fn on_forget_timer(&mut self, now: Instant, id: NodeId) {
        let Some(belief) = self.members.get_mut(&id) else { return };
        belief.forget_at = None;
        let previous = belief.shown();
        self.alive -= usize::from(!belief.is_out());
        if let Some(suspicion) = belief.suspicion.take() {
            self.timers.remove(&(suspicion.ends, Timer::Suspicion(id)));
        }
        self.root = self.root.wrapping_sub(belief.update(id, belief.status).mix());
        belief.status = MemberStatus::Forgotten;
        (belief.is_out_of_reach, belief.is_unrecorded) = (false, false);
        self.outputs.push_back(Output::Dead(id, belief.incarnation));
        self.on_believed(now, id, previous);
        // With a link it may still wake up, and has to be told then
        if self.watches.get(&id).is_some_and(|watch| watch.links.is_empty()) {
            self.unwatch(id);
        }
        // Its refutation is remembered for a while, in case that it comes back to life; not those of very many
        if self.members.len() > self.alive + MAX_FORGOTTEN
            && let Some(oldest) = self
                .members
                .iter()
                .filter(|(_, belief)| belief.status == MemberStatus::Forgotten)
                .min_by_key(|(_, belief)| belief.since)
                .map(|(id, _)| *id)
        {
            self.members.remove(&oldest);
        }
    }

    fn flood(&mut self, update: StatusUpdate) {
        self.outputs.push_back(Output::Flood(vec![update], None));
    }

    /// This node was late itself: whatever others have said meanwhile still waits to be read
    fn on_late(&mut self, now: Instant, by: Duration) {
        let times = by.as_millis() / self.probe_timeout.as_millis().max(1);
        for _ in 0..times.clamp(1, 4) {
            self.doubt();
        }
        self.grace_until = now + self.probe_timeout * (1 + u32::from(self.health));
    }

    fn doubt(&mut self) {
        self.health = (self.health + 1).min(MAX_HEALTH);
    }
}

impl Belief {
    fn new(now: Instant, incarnation: Incarnation) -> Self {
        Self {
            incarnation,
            refutation: 0,
            status: MemberStatus::Up,
            since: now,
            name: String::new(),
            endpoints: Vec::new(),
            accuser: None,
            suspicion: None,
            forget_at: None,
            is_out_of_reach: false,
            is_unrecorded: false,
            neighbours: None,
            told_at: None,
        }
    }

    fn shown(&self) -> MemberStatus {
        if (self.is_out_of_reach || self.is_unrecorded) && !self.is_out() { MemberStatus::Gone } else { self.status }
    }

    /// Whether it is believed, together with the others, that it isn't there
    fn is_out(&self) -> bool {
        is_out(self.status)
    }

    fn update(&self, id: NodeId, status: MemberStatus) -> StatusUpdate {
        let accuser = self.accuser.unwrap_or(id);
        StatusUpdate { id, incarnation: self.incarnation, refutation: self.refutation, status, accuser }
    }
}

impl StatusUpdate {
    /// What it adds to the root; nothing if it says no more than that there is such a member
    fn mix(&self) -> u64 {
        if !is_said(self) {
            return 0;
        }
        let words = [self.id.0, self.incarnation.0, self.refutation, u64::from(rank(self.status))];
        words.into_iter().fold(0x9E37_79B9_7F4A_7C15, |hash, word| {
            let hash = (hash ^ word).wrapping_mul(0xBF58_476D_1CE4_E5B9);
            (hash ^ (hash >> 29)).wrapping_mul(0x94D0_49BB_1331_11EB)
        })
    }
}

fn is_said(update: &StatusUpdate) -> bool {
    update.status != MemberStatus::Forgotten && (update.status != MemberStatus::Up || update.refutation > 0)
}

fn is_out(status: MemberStatus) -> bool {
    matches!(status, MemberStatus::Gone | MemberStatus::Left | MemberStatus::Forgotten)
}

/// Of two beliefs with the same refutation the one of the greater rank wins everywhere
fn rank(status: MemberStatus) -> u8 {
    match status {
        MemberStatus::Up => 0,
        MemberStatus::Suspect => 1,
        MemberStatus::Gone => 2,
        MemberStatus::Left => 3,
        MemberStatus::Forgotten => 4,
    }
}

/// Lifeguard's greatest multiplier
const MAX_HEALTH: u8 = 8;
/// Accusers that count; with all of them a suspect has half the time
const MAX_ACCUSERS: usize = 4;
/// Accusations with a greater refutation are lies; one more can always be said against them
const MAX_REFUTATION: u64 = 1 << 40;
/// Forgotten members whose refutations are remembered
const MAX_FORGOTTEN: usize = 10_000;

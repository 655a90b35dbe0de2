//! The watch over one neighbour: when it is sent PING, when others are asked about it, and when it is accused.

use std::time::{Duration, Instant};

use smallvec::SmallVec;

use super::{Belief, Members, Output, Timer};
use crate::config::LinkId;
use crate::event::MemberStatus;
use crate::record::{Incarnation, NodeId};
use crate::wire::tidings::StatusUpdate;

/// A node at the other end of a link, or of one that was lost a moment ago
pub(super) struct Watch {
    pub(super) links: SmallVec<[LinkId; 1]>,
    heard_at: Instant,
    /// How long it was silent of late, on the average
    gap: Duration,
    state: State,
    timer: Instant,
    /// How often its silence was put down to this node itself, in a row
    doubts: u8,
    /// Who asked about it while it was silent
    asked_by: SmallVec<[LinkId; 2]>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum State {
    /// It was heard, and is sent PING when it is silent for a while
    Quiet,
    /// It was not: what was done about it has until then to help
    Silent { since: Instant, until: Instant, step: Step },
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Step {
    /// It was sent PING with this number, and so many before it
    Pinged(u64, u8),
    /// Its last link was lost without a goodbye, or it was accused already: it may come back
    Lost,
    /// Others were asked about it
    Asked,
}

impl Members {
    pub(in crate::node) fn on_link_up(&mut self, now: Instant, link: LinkId, id: NodeId, incarnation: Incarnation) {
        if id == self.identity.id {
            return;
        }
        self.on_life(now, id, incarnation);
        self.links.insert(link, id);
        let interval = self.ping_interval();
        let watch = self.watches.entry(id).or_insert_with(|| Watch {
            links: SmallVec::new(),
            heard_at: now,
            gap: Duration::ZERO,
            state: State::Quiet,
            timer: now,
            doubts: 0,
            asked_by: SmallVec::new(),
        });
        if !watch.links.contains(&link) {
            watch.links.push(link);
        }
        self.arm_watch(id, now + interval);
        self.on_heard(now, link);
    }

    pub(in crate::node) fn on_link_down(&mut self, now: Instant, link: LinkId, said_goodbye: bool) {
        let Some(id) = self.links.remove(&link) else { return };
        let Some(watch) = self.watches.get_mut(&id) else { return };
        watch.links.retain(|other| *other != link);
        for watch in self.watches.values_mut() {
            watch.asked_by.retain(|other| *other != link);
        }
        let until = now + self.stretched(RETURN_TIME);
        let Some(watch) = self.watches.get_mut(&id) else { return };
        if !watch.links.is_empty() {
            return;
        }
        if said_goodbye || self.members.get(&id).is_none_or(Belief::is_out) {
            self.unwatch(id);
            return;
        }
        watch.state = State::Silent { since: watch.state.since().unwrap_or(now), until, step: Step::Lost };
        self.arm_watch(id, until);
    }

    pub(in crate::node) fn on_heard(&mut self, now: Instant, link: LinkId) {
        let Some(id) = self.links.get(&link).copied() else { return };
        let Some(watch) = self.watches.get_mut(&id) else { return };
        let gap = now.saturating_duration_since(watch.heard_at);
        watch.gap = (watch.gap * 7 + gap) / 8;
        (watch.heard_at, watch.state, watch.doubts) = (now, State::Quiet, 0);
        for asker in std::mem::take(&mut watch.asked_by) {
            self.outputs.push_back(Output::Vouch(asker, id));
        }
        self.on_sign_of_life(now, id, Some(link));
    }

    pub(in crate::node) fn on_ping(&mut self, now: Instant, link: LinkId, nonce: u64) {
        self.on_heard(now, link);
        self.outputs.push_back(Output::Ack(link, nonce));
    }

    pub(in crate::node) fn on_ack(&mut self, now: Instant, link: LinkId, nonce: u64) {
        let watch = self.links.get(&link).and_then(|id| self.watches.get(id));
        if watch.is_some_and(
            |watch| matches!(watch.state, State::Silent { step: Step::Pinged(sent, _), .. } if sent == nonce),
        ) {
            self.recover(now);
        }
        self.on_heard(now, link);
    }

    /// A neighbour asks whether this node hears another
    pub(in crate::node) fn on_probe(&mut self, now: Instant, link: LinkId, about: NodeId) {
        self.on_heard(now, link);
        let fresh = self.probe_interval;
        let Some(watch) = self.watches.get_mut(&about).filter(|watch| !watch.links.is_empty()) else { return };
        if now.saturating_duration_since(watch.heard_at) < fresh {
            self.outputs.push_back(Output::Vouch(link, about));
            return;
        }
        if !watch.asked_by.contains(&link) && watch.asked_by.len() < MAX_ASKERS {
            watch.asked_by.push(link);
        }
        if watch.state == State::Quiet {
            self.ping(now, about);
        }
    }

    /// A neighbour hears the one that it was asked about
    pub(in crate::node) fn on_vouch(&mut self, now: Instant, link: LinkId, about: NodeId) {
        self.on_heard(now, link);
        let Some(watch) = self.watches.get_mut(&about) else { return };
        if !matches!(watch.state, State::Silent { step: Step::Asked, .. }) {
            return;
        }
        (watch.heard_at, watch.state, watch.doubts) = (now, State::Quiet, 0);
        if watch.links.is_empty() {
            // It is somebody else's neighbour now
            self.unwatch(about);
        }
        self.on_sign_of_life(now, about, None);
    }

    pub(super) fn on_watch_timer(&mut self, now: Instant, id: NodeId) {
        let interval = self.ping_interval();
        let is_out = self.members.get(&id).is_none_or(Belief::is_out);
        let Some(watch) = self.watches.get(&id) else { return };
        match watch.state {
            _ if watch.links.is_empty() && is_out => self.unwatch(id),
            State::Quiet => {
                let due = watch.heard_at + (watch.gap * 4).clamp(self.probe_interval.min(interval), interval);
                if now < due {
                    self.recover(now);
                    return self.arm_watch(id, due);
                }
                self.ping(now, id);
            }
            State::Silent { until, .. } if now < until => self.arm_watch(id, until),
            State::Silent { .. } if now < self.grace_until => self.arm_watch(id, self.grace_until),
            State::Silent { step: Step::Pinged(_, tries), .. } if tries < MAX_TRIES => self.ping(now, id),
            State::Silent { since, step: Step::Pinged(..), .. } => {
                if !is_out && now.saturating_duration_since(self.doubted_at) >= self.probe_interval * RECOVERY {
                    self.doubted_at = now;
                    self.doubt();
                }
                if !self.is_own_fault(now, id) {
                    self.ask_others(now, id, since);
                }
            }
            State::Silent { since, step: Step::Lost, .. } => self.ask_others(now, id, since),
            State::Silent { since, step: Step::Asked, .. } => {
                if !self.is_own_fault(now, id) {
                    self.accuse(now, id, since);
                }
            }
        }
    }

    /// Sends PING to a neighbour that was silent for a while
    fn ping(&mut self, now: Instant, id: NodeId) {
        self.nonce += 1;
        let (nonce, until) = (self.nonce, now + self.stretched(self.probe_timeout));
        let Some(watch) = self.watches.get_mut(&id) else { return };
        let since = watch.state.since().unwrap_or(now);
        let tries = match watch.state {
            State::Silent { step: Step::Pinged(_, tries), .. } if tries < MAX_TRIES => tries + 1,
            _ => 0,
        };
        watch.state = State::Silent { since, until, step: Step::Pinged(nonce, tries) };
        let turn = usize::try_from(nonce).unwrap_or_default().checked_rem(watch.links.len());
        if let Some(link) = turn.and_then(|turn| watch.links.get(turn)) {
            self.outputs.push_back(Output::Ping(*link, nonce));
        }
        self.arm_watch(id, until);
    }

    /// Asks up to three other neighbours whether they hear this one
    fn ask_others(&mut self, now: Instant, id: NodeId, since: Instant) {
        let until = now + self.stretched(self.probe_timeout) * 2;
        let others: Vec<LinkId> = self
            .watches
            .iter()
            .filter(|(other, _)| **other != id)
            .filter_map(|(_, watch)| watch.links.first())
            .copied()
            .collect();
        self.nonce += 1;
        let first = usize::try_from(self.nonce).unwrap_or_default().checked_rem(others.len()).unwrap_or_default();
        for link in others.iter().cycle().skip(first).take(others.len().min(ASKED)) {
            self.outputs.push_back(Output::Probe(*link, id));
        }
        if let Some(watch) = self.watches.get_mut(&id) {
            watch.state = State::Silent { since, until, step: Step::Asked };
            if let Some(link) = watch.links.first() {
                self.outputs.push_back(Output::Ping(*link, self.nonce));
            }
            self.arm_watch(id, until);
        }
    }

    /// Whether it is likelier that this node hears nothing: most of its neighbours are silent at once. Then it tries again
    fn is_own_fault(&mut self, now: Instant, id: NodeId) -> bool {
        let linked = self.watches.values().filter(|watch| !watch.links.is_empty());
        let (linked, silent) = linked.fold((0, 0), |(linked, silent), watch| {
            (linked + 1, silent + usize::from(matches!(watch.state, State::Silent { .. })))
        });
        if silent < 2 || silent * 2 <= linked {
            return false;
        }
        match self.watches.get_mut(&id) {
            Some(watch) if watch.doubts < MAX_DOUBTS => watch.doubts += 1,
            _ => return false,
        }
        self.ping(now, id);
        true
    }

    /// Nobody hears a neighbour: everybody is told, unless this node is itself the one that is cut off
    fn accuse(&mut self, now: Instant, id: NodeId, since: Instant) {
        let interval = self.ping_interval();
        let fresh = interval * 2 + self.stretched(self.probe_timeout) * 3;
        let is_heard = |watch: &Watch| !watch.links.is_empty() && now.saturating_duration_since(watch.heard_at) < fresh;
        let in_company = self.watches.iter().any(|(other, watch)| *other != id && is_heard(watch));
        let Some(belief) = self.members.get_mut(&id) else { return self.unwatch(id) };
        if in_company {
            let accuser = self.identity.id;
            let update = StatusUpdate { accuser, ..belief.update(id, MemberStatus::Suspect) };
            if self.believe(now, update) {
                self.flood(update);
            }
        } else if now.saturating_duration_since(since) >= self.suspicion * ISOLATED_FACTOR && !belief.is_out_of_reach {
            let previous = belief.shown();
            belief.is_out_of_reach = true;
            self.on_believed(now, id, previous);
        }
        let is_out = self.members.get(&id).is_none_or(|belief| belief.shown() == MemberStatus::Gone);
        let Some(watch) = self.watches.get_mut(&id) else { return };
        if watch.links.is_empty() && (in_company || is_out) {
            return self.unwatch(id);
        }
        let until = now + interval;
        watch.state = State::Silent { since, until, step: Step::Lost };
        if let Some(link) = watch.links.first() {
            self.nonce += 1;
            self.outputs.push_back(Output::Ping(*link, self.nonce));
        }
        self.arm_watch(id, until);
    }

    /// A member was heard, by this node or one that it asked
    fn on_sign_of_life(&mut self, now: Instant, id: NodeId, link: Option<LinkId>) {
        let Some(belief) = self.members.get_mut(&id) else { return };
        if belief.is_out_of_reach {
            let previous = belief.shown();
            belief.is_out_of_reach = false;
            self.on_believed(now, id, previous);
        }
        let Some(belief) = self.members.get_mut(&id) else { return };
        // Only the member itself can contradict, and only if it hears of it
        if let Some(link) = link
            && matches!(belief.status, MemberStatus::Suspect | MemberStatus::Gone | MemberStatus::Forgotten)
            && belief.told_at.is_none_or(|at| now.saturating_duration_since(at) >= self.probe_interval)
        {
            belief.told_at = Some(now);
            let update = belief.update(id, belief.status);
            self.outputs.push_back(Output::Status(link, vec![update]));
        }
    }

    pub(super) fn unwatch(&mut self, id: NodeId) {
        if let Some(watch) = self.watches.remove(&id) {
            self.timers.remove(&(watch.timer, Timer::Watch(id)));
            self.links.retain(|_, other| *other != id);
        }
    }

    fn arm_watch(&mut self, id: NodeId, at: Instant) {
        if let Some(watch) = self.watches.get_mut(&id) {
            self.timers.remove(&(watch.timer, Timer::Watch(id)));
            watch.timer = at;
            self.timers.insert((at, Timer::Watch(id)));
        }
    }

    /// How long a neighbour may be silent before it is sent PING: the more neighbours, the longer, so that the cost doesn't
    /// grow with their number. Those who have few ask those who have many
    fn ping_interval(&self) -> Duration {
        let neighbours = u32::try_from(self.watches.len()).unwrap_or(u32::MAX);
        self.probe_interval * neighbours.max(NEIGHBOURS) / NEIGHBOURS
    }

    /// Lifeguard: a node that isn't well itself is patient
    fn stretched(&self, time: Duration) -> Duration {
        time * (1 + u32::from(self.health))
    }

    /// A neighbour is heard as it should be: this node is a bit better, now and then
    fn recover(&mut self, now: Instant) {
        if now.saturating_duration_since(self.recovered_at) >= self.probe_interval * RECOVERY {
            self.recovered_at = now;
            self.health = self.health.saturating_sub(1);
        }
    }
}

impl State {
    fn since(&self) -> Option<Instant> {
        match self {
            Self::Quiet => None,
            Self::Silent { since, .. } => Some(*since),
        }
    }
}

/// How long a neighbour may take to come back after its link was lost
const RETURN_TIME: Duration = Duration::from_secs(1);
/// How often PING is sent once more before others are asked: a network may lose some
const MAX_TRIES: u8 = 2;
/// Neighbours that are asked about a silent one
const ASKED: usize = 3;
/// Neighbours whose question is remembered until the one that it is about is heard
const MAX_ASKERS: usize = 16;
/// Up to so many neighbours are each sent PING at the full rate
const NEIGHBOURS: u32 = 8;
/// One step of health takes so many probe intervals: a node that is late now and then stays wary in between
const RECOVERY: u32 = 3;
/// How often in a row a neighbour's silence is put down to this node itself
const MAX_DOUBTS: u8 = 3;
/// A node that hears nobody takes a lost neighbour for gone after so many times `suspicion`, and keeps that to itself
const ISOLATED_FACTOR: u32 = 6;

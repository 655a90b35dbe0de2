//! Who can be reached at all, as far as nodes have told who their neighbours are.
//!
//! Neighbours watch each other. A node whose neighbours are all lost in one moment is watched by nobody, and those beyond a
//! lost node can't be heard, nor contradict. So some time after members were lost, each node follows the links that the
//! others' `$tidings/links/` records tell of. Whom it doesn't come to is gone as far as it is concerned. It says so to nobody:
//! elsewhere that may look otherwise.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use super::{Members, Timer};
use crate::config::Presence;
use crate::record::{Incarnation, NodeId};

impl Members {
    /// A member tells who its neighbours are
    pub(in crate::node) fn on_neighbours(
        &mut self,
        now: Instant,
        id: NodeId,
        incarnation: Incarnation,
        all: Vec<NodeId>,
    ) {
        let Some(belief) = self.members.get_mut(&id).filter(|belief| belief.incarnation == incarnation) else { return };
        belief.neighbours = Some(all);
        if self.members.values().any(|belief| belief.is_out_of_reach) {
            self.plan_survey(now);
        }
    }

    /// Looks at who can be reached once what has happened should be known everywhere
    pub(super) fn plan_survey(&mut self, now: Instant) {
        if self.survey_at.is_none() && self.presence == Presence::All {
            let at = now + (self.suspicion * SURVEY_FACTOR).max(LEAST_PAUSE);
            self.survey_at = Some(at);
            self.timers.insert((at, Timer::Survey));
        }
    }

    pub(super) fn survey(&mut self, now: Instant) {
        self.survey_at = None;
        let linked = self.watches.iter().filter(|(_, watch)| !watch.links.is_empty()).map(|(id, _)| *id);
        let mut queue: Vec<NodeId> = linked.collect();
        // Whoever is alone may be the one that is lost
        if queue.is_empty() {
            return;
        }
        let mut links: BTreeMap<NodeId, Vec<NodeId>> = BTreeMap::new();
        for (id, belief) in self.members.iter().filter(|(_, belief)| !belief.is_out()) {
            for other in belief.neighbours.iter().flatten() {
                links.entry(*id).or_default().push(*other);
                links.entry(*other).or_default().push(*id);
            }
        }
        let mut reached: BTreeSet<NodeId> = queue.iter().copied().collect();
        while let Some(id) = queue.pop() {
            if self.members.get(&id).is_none_or(super::Belief::is_out) {
                continue;
            }
            let next = links.get(&id).into_iter().flatten().copied();
            queue.extend(next.filter(|other| *other != self.identity.id && reached.insert(*other)));
        }
        // A lost neighbour is the watch's matter
        let changed = self.members.iter().filter(|(id, belief)| {
            let is_judged = belief.neighbours.is_some() && !belief.is_out() && !self.watches.contains_key(id);
            is_judged && belief.is_out_of_reach == reached.contains(id)
        });
        for id in changed.map(|(id, _)| *id).collect::<Vec<_>>() {
            if let Some(belief) = self.members.get_mut(&id) {
                let previous = belief.shown();
                belief.is_out_of_reach = !belief.is_out_of_reach;
                self.on_believed(now, id, previous);
            }
        }
    }
}

/// How many times the time from suspect to gone it takes until all others tell of their links as they are now
const SURVEY_FACTOR: u32 = 6;
/// Nodes tell of their links every ten seconds at most
const LEAST_PAUSE: Duration = Duration::from_secs(20);

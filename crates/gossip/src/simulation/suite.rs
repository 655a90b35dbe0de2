//! Every scenario that there is, for networks of one size and smaller ones.

use std::num::NonZero;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use super::scenario::{Outcome, Plan, Progress, run};
use super::setup::Setup;
use super::topology::Topology;

/// One run of the suite
#[derive(Clone, Debug)]
pub struct Case {
    /// What network
    pub setup: Setup,
    /// What happens in it
    pub plan: Plan,
}

impl Case {
    /// What tells it from others of the suite
    #[must_use]
    pub fn name(&self) -> String {
        let Setup { nodes, topology, link, .. } = &self.setup;
        let loss = if link.loss > 0.0 { format!(", {} % loss", round(link.loss * 100.0)) } else { String::new() };
        format!("{nodes} nodes, {topology}{loss}")
    }
}

/// The scenarios: how the cost grows with the size, what loss does, everything that goes wrong, every shape of network
#[must_use]
pub fn suite(base: &Setup) -> Vec<Case> {
    let nodes = base.nodes;
    let mesh = Topology::Mesh(match base.topology {
        Topology::Mesh(degree) => degree,
        _ => Topology::DEGREE,
    });
    let network = |nodes: usize, topology: Topology, loss: f64| {
        let mut setup = Setup { nodes: nodes.max(2), topology, ..base.clone() };
        setup.link.loss = loss;
        setup
    };
    let few = Plan { conflict: 10.min(nodes), limit: Duration::from_secs(300), ..Plan::default() };
    let everything = Plan {
        load: 10.0,
        partition: Some(Duration::from_secs(60)),
        restart_half: true,
        churn: (nodes as f64 / 10.0).clamp(6.0, 600.0),
        ..few.clone()
    };
    let mut cases = Vec::new();
    for part in [100, 10] {
        if nodes / part >= 10 {
            cases.push(Case { setup: network(nodes / part, mesh, 0.0), plan: few.clone() });
            cases.push(Case { setup: network(nodes / part, mesh, 0.05), plan: few.clone() });
        }
    }
    cases.push(Case { setup: network(nodes, mesh, 0.0), plan: everything.clone() });
    cases.push(Case { setup: network(nodes, mesh, 0.05), plan: everything });
    cases.push(Case { setup: network(nodes, mesh, 0.2), plan: few.clone() });
    cases.push(Case { setup: network(nodes, Topology::Overlay, 0.05), plan: few.clone() });
    for (topology, most) in [(Topology::Ring, 200), (Topology::Star, 1000), (Topology::Full, 100)] {
        cases.push(Case { setup: network(nodes.min(most), topology, 0.05), plan: few.clone() });
    }
    cases
}

/// Runs all cases, as many at once as there are processors, and gives their outcomes in the order of the cases
///
/// `tell` hears of progress, with the number of the case; and of each case that is over, with `None`.
pub fn run_all(cases: &[Case], tell: &(dyn Fn(usize, Option<&Progress>) + Sync)) -> Vec<Outcome> {
    let next = AtomicUsize::new(0);
    let outcomes = Mutex::new(Vec::new());
    let work = || {
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            let Some(case) = cases.get(cases.len().wrapping_sub(number + 1)) else { return };
            // The largest come last in the list, and are begun first
            let number = cases.len() - number - 1;
            let outcome = run(&case.setup, &case.plan, &mut |progress| tell(number, Some(progress)));
            tell(number, None);
            if let Ok(mut outcomes) = outcomes.lock() {
                outcomes.push((number, outcome));
            }
        }
    };
    thread::scope(|scope| {
        for _ in 1..thread::available_parallelism().map_or(1, NonZero::get).min(cases.len()) {
            scope.spawn(work);
        }
        work();
    });
    let mut outcomes = outcomes.into_inner().unwrap_or_default();
    outcomes.sort_by_key(|(number, _)| *number);
    outcomes.into_iter().map(|(_, outcome)| outcome).collect()
}

fn round(number: f64) -> f64 {
    (number * 100.0).round() / 100.0
}

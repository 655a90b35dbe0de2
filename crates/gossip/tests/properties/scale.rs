//! Networks of hundreds and of a thousand nodes: how many rounds a change takes, and what it costs each node.

use std::time::Duration;

use tidings_gossip::Presence;
use tidings_gossip::simulation::{Outcome, Plan, Setup, Topology, report, run};

fn simulated(setup: &Setup, plan: &Plan) -> Outcome {
    let outcome = run(setup, plan, &mut |_| {});
    let outcomes = std::slice::from_ref(&outcome);
    println!("{}\n{}", report::spreading(outcomes).to_text(), report::costs(outcomes).to_text());
    assert!(outcome.settled, "all agree before anything is measured");
    outcome
}

/// The measure: 1,000 nodes at 5 % loss converge within 10 rounds
#[test]
fn a_thousand_nodes_know_within_ten_rounds_though_messages_are_lost() {
    let mut setup = Setup::new(1000, Topology::Mesh(6), 1);
    setup.link.loss = 0.05;
    setup.presence = Some(Presence::Links);
    let plan = Plan { changes: 2, tuples: 10, rest_rounds: 8, ..Plan::default() };
    let outcome = simulated(&setup, &plan);
    let slowest = outcome.phases[0].slowest[2].expect("all know every change");
    let rounds = slowest / outcome.round_seconds;
    assert!(rounds <= 10.0, "{rounds} rounds");
}

/// The measure: the cost of a change for each node grows no faster than the logarithm of their number
#[test]
fn a_change_costs_each_node_no_more_than_the_logarithm_of_their_number() {
    let costs: Vec<(f64, f64, f64)> = [50, 200, 800]
        .into_iter()
        .map(|nodes| {
            let mut setup = Setup::new(nodes, Topology::Mesh(6), 2);
            setup.presence = Some(Presence::Links);
            let plan = Plan { changes: 4, tuples: 10, rest_rounds: 8, ..Plan::default() };
            let cost = simulated(&setup, &plan).phases[0].per_change.expect("changes were counted");
            ((nodes as f64).ln(), cost.messages, cost.octets)
        })
        .collect();
    let first = costs[0];
    for (logarithm, messages, octets) in &costs[1..] {
        let allowed = logarithm / first.0;
        assert!(messages / first.1 <= allowed * NOISE, "{costs:?}");
        assert!(octets / first.2 <= allowed * NOISE, "{costs:?}");
    }
}

#[test]
fn the_same_seed_gives_the_same_run() {
    let outcome = |seed| {
        let mut setup = Setup::new(30, Topology::Mesh(4), seed);
        setup.link.loss = 0.1;
        let plan = Plan {
            changes: 3,
            tuples: 10,
            conflict: 3,
            partition: Some(Duration::from_secs(20)),
            restart_half: true,
            churn: 20.0,
            rest_rounds: 8,
            ..Plan::default()
        };
        let mut outcome = run(&setup, &plan, &mut |_| {});
        outcome.took_seconds = 0.0;
        serde_json::to_string(&outcome).unwrap()
    };
    assert_eq!(outcome(5), outcome(5));
    assert_ne!(outcome(5), outcome(6));
}

/// Every phase of the command comes to agreement, in every shape of network
#[test]
fn every_shape_recovers_from_everything() {
    for topology in [Topology::Ring, Topology::Star, Topology::Mesh(4), Topology::Full, Topology::Overlay] {
        let mut setup = Setup::new(16, topology, 3);
        setup.link.loss = 0.05;
        let plan = Plan {
            changes: 4,
            tuples: 20,
            load: 5.0,
            conflict: 6,
            partition: Some(Duration::from_secs(30)),
            restart_half: true,
            churn: 20.0,
            rest_rounds: 8,
            ..Plan::default()
        };
        let outcome = simulated(&setup, &plan);
        for phase in &outcome.phases {
            assert!(phase.complete, "{topology}: {phase:?}");
        }
    }
}

/// Measured figures scatter by so much
const NOISE: f64 = 1.1;

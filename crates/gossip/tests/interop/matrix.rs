//! Mixed networks of every form: rings, stars and meshes over tcp, ipc and, among CZMQ's nodes, inproc, with ours as clients
//! and as servers; prints the table.

use std::env;
use std::fs;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};

use crate::network::Whose::{Ours, Theirs};
use crate::network::{Network, Plan, Transport, name};
use crate::table::{Row, Table};

#[tokio::test(flavor = "multi_thread")]
async fn matrix_of_mixed_networks() -> Result<()> {
    let mut table = Table::default();
    for (network, plan) in plans() {
        match converges(plan).await {
            // Skipped, and somebody was told
            Ok(None) => {}
            Ok(Some(row)) => table.enter(&network, Ok(row)),
            Err(error) => table.enter(&network, Err(format!("{error:#}"))),
        }
    }
    if table.len() == 0 {
        return Ok(());
    }
    println!("{table}");
    if let Some(path) = env::var_os("TIDINGS_GOSSIP_TABLE") {
        fs::write(&path, table.to_string()).with_context(|| format!("can't write {}", path.display()))?;
    }
    let failures = table.failures();
    ensure!(failures.is_empty(), "{}", failures.join("\n"));
    Ok(())
}

fn plans() -> Vec<(String, Plan)> {
    let mut plans = Vec::new();
    for (transport, over) in [(Transport::Tcp, "tcp"), (Transport::Ipc, "ipc")] {
        let in_turn = vec![Ours, Theirs, Ours, Theirs, Ours, Theirs];
        let in_pairs = vec![Ours, Theirs, Theirs, Ours, Theirs, Theirs];
        let around_ours = vec![Ours, Theirs, Theirs, Theirs, Ours, Ours];
        let around_theirs = vec![Theirs, Ours, Ours, Ours, Theirs, Theirs];
        let mixed = vec![Ours, Theirs, Theirs, Ours, Theirs, Ours, Ours, Theirs];
        plans.extend([
            (format!("star over {over}, our hub serves"), Plan::star(around_ours, transport)),
            (format!("star over {over}, CZMQ's hub serves"), Plan::star(around_theirs, transport)),
            (format!("ring over {over}, each serves, in turn"), Plan::ring(in_turn, transport)),
            (format!("ring over {over}, each serves, CZMQ in pairs"), Plan::ring(in_pairs.clone(), transport)),
            (format!("ring over {over}, CZMQ's pairs over inproc"), Plan::ring(in_pairs, transport).over_inproc()),
            (format!("mesh over {over}, each serves"), Plan::mesh(mixed.clone(), transport)),
            (format!("mesh over {over}, CZMQ's links over inproc"), Plan::mesh(mixed, transport).over_inproc()),
        ]);
    }
    plans
}

/// Has every node publish, waits until all have all, twice: CZMQ's nodes forget clients after a second without news
async fn converges(plan: Plan) -> Result<Option<Row>> {
    let Some(mut network) = Network::start(plan).await? else { return Ok(None) };
    let nodes = network.plan.nodes.len();
    let each = if env::var_os("TIDINGS_INTEROP_ALL").is_some() { 1000 } else { 50 };
    let began = Instant::now();
    for place in 0..nodes {
        network.publish_many(place, &name(place), each, 40).await?;
    }
    network.until_tuples(nodes * each).await?;
    let took = began.elapsed();
    network.agree().await?;

    let theirs: Vec<usize> = network.plan.theirs().collect();
    let first = *theirs.first().context("none of CZMQ's nodes is there")?;
    network.czmq.until_quiet(&name(first), Duration::from_millis(1200)).await?;
    for place in 0..nodes {
        network.publish(place, format!("late-{place}"), "news").await?;
    }
    let tuples = nodes * (each + 1);
    network.until_tuples(tuples).await?;
    ensure!(network.agree().await?.len() == tuples);

    let mut deliveries = 0;
    for place in &theirs {
        deliveries += network.czmq.delivered(&name(*place)).await?.deliveries;
    }
    let alive = network.alive(tuples).await?;
    Ok(Some(Row {
        ours: network.plan.ours().count(),
        theirs: theirs.len(),
        tuples,
        took,
        deliveries: deliveries as f64 / (theirs.len() * tuples) as f64,
        alive,
    }))
}

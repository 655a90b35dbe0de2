//! Two of CZMQ's nodes that write one key: the values that would chase each other for ever come to rest at ours.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use crate::network::Whose::{Ours, Theirs};
use crate::network::{Network, Plan, Transport, name};
use crate::waiting::PATIENCE;

/// Ours is the only way from one to the other
#[tokio::test(flavor = "multi_thread")]
async fn writers_at_our_hub_agree() -> Result<()> {
    for transport in [Transport::Tcp, Transport::Ipc] {
        settles(Plan::star(vec![Ours, Theirs, Theirs, Theirs], transport)).await?;
    }
    Ok(())
}

/// Ours are between any two of them
#[tokio::test(flavor = "multi_thread")]
async fn writers_around_a_ring_agree() -> Result<()> {
    settles(Plan::ring(vec![Ours, Theirs, Ours, Theirs, Ours, Theirs], Transport::Tcp)).await
}

/// Ours is the client of all
#[tokio::test(flavor = "multi_thread")]
async fn writers_that_we_connect_to_agree() -> Result<()> {
    let mut plan = Plan::star(vec![Ours, Theirs, Theirs, Theirs], Transport::Tcp);
    plan.links.iter_mut().for_each(|link| *link = (link.1, link.0));
    settles(plan).await
}

/// Every one of CZMQ's nodes writes the same key at the same time, again and again; then all have the same and nothing moves
async fn settles(plan: Plan) -> Result<()> {
    let Some(mut network) = Network::start(plan).await? else { return Ok(()) };
    let theirs: Vec<usize> = network.plan.theirs().collect();
    for place in &theirs {
        network.publish(*place, name(*place), "is there").await?;
    }
    network.until_tuples(theirs.len()).await?;
    for round in 0..20 {
        for place in &theirs {
            network.publish(*place, "contested", format!("{round} of {place}")).await?;
        }
    }
    network.until_tuples(theirs.len() + 1).await?;
    // A value that came back may wait a second for what is behind it
    let deadline = Instant::now() + 2 * PATIENCE;
    while let Err(error) = network.agree().await {
        ensure!(Instant::now() < deadline, "{error:#}");
        network.czmq.run_for(&name(theirs[0]), Duration::from_millis(50)).await?;
    }
    for place in &theirs {
        network.czmq.until_quiet(&name(*place), QUIET).await?;
    }
    network.agree().await?;
    // Each value at most a few times: without an end there would be ten thousands a second
    for place in &theirs {
        let delivered = network.czmq.delivered(&name(*place)).await?;
        ensure!(delivered.deliveries < 1000, "{delivered:?} at {place}");
    }
    network.alive(theirs.len() + 1).await.map(drop)
}

/// Two of them have a link that is none of our business and on which the values never rest: ours holds one, says so, and
/// does not pass them on for ever
#[tokio::test(flavor = "multi_thread")]
async fn a_link_without_rest_is_not_carried_on() -> Result<()> {
    without_rest(1).await?;
    without_rest(20).await
}

async fn without_rest(writes: usize) -> Result<()> {
    let Some(mut network) = Network::start(Plan::ring(vec![Ours, Theirs, Theirs], Transport::Tcp)).await? else {
        return Ok(());
    };
    network.publish(1, "first", "is there").await?;
    network.until_tuples(1).await?;
    // Until they do chase each other, which takes two writes at the same time; each adds a value that circulates
    let mut round = 0;
    loop {
        ensure!(round < 50, "CZMQ's nodes agree");
        for _ in 0..writes {
            network.publish(1, "contested", format!("{round} of the one")).await?;
            network.publish(2, "contested", format!("{round} of the other")).await?;
            round += 1;
        }
        let before = network.czmq.delivered(&name(1)).await?.deliveries;
        if network.czmq.run_for(&name(1), Duration::from_millis(50)).await?.deliveries > before + 500 {
            break;
        }
    }
    let node = network.node(0)?;
    node.until_contested("contested").await?;
    network.czmq.run_for(&name(1), Duration::from_millis(500)).await?;
    let (node_puts, node_frames) = (network.node(0)?.puts(), network.node(0)?.frames_out());
    let before = network.czmq.delivered(&name(1)).await?.deliveries;
    let after = network.czmq.run_for(&name(1), Duration::from_millis(1000)).await?.deliveries;
    let node = network.node(0)?;
    let (puts, frames) = (node.puts() - node_puts, node.frames_out() - node_frames);
    ensure!(after - before > 1000, "theirs came to rest");
    // Values that were not heard here before, perhaps; PINGs, and corrections at a bounded rate
    ensure!(puts <= 2, "it told its application {puts} more values");
    ensure!(frames < 50, "it sent {frames} frames in a second, while {} were delivered there", after - before);
    // Both answer, busy as they are, and what is new still comes through
    network.publish(0, "new", "of ours").await?;
    network.until_value("new", "of ours").await?;
    network.alive(3).await.map(drop)
}

/// Longer than anything that is on its way takes
const QUIET: Duration = Duration::from_millis(400);

//! Nodes that end and come back where they were: what they had comes back to them, from either side.

use std::time::Duration;

use anyhow::{Result, ensure};

use crate::czmq::Czmq;
use crate::network::Whose::{Ours, Theirs};
use crate::network::{Network, Plan, Transport, name};
use crate::ours::Ours as Node;

/// Each node of a network in turn: a hub, servers and clients of either side
#[tokio::test(flavor = "multi_thread")]
async fn each_node_in_turn() -> Result<()> {
    let star = |hub, transport| Plan::star(vec![hub, Ours, Theirs], transport);
    for plan in [
        star(Ours, Transport::Tcp),
        star(Theirs, Transport::Tcp),
        star(Ours, Transport::Ipc),
        star(Theirs, Transport::Ipc),
        Plan::ring(vec![Ours, Theirs, Ours, Theirs], Transport::Tcp),
        Plan::ring(vec![Ours, Theirs, Ours, Theirs], Transport::Ipc),
    ] {
        restarts(plan).await?;
    }
    Ok(())
}

async fn restarts(plan: Plan) -> Result<()> {
    let Some(mut network) = Network::start(plan).await? else { return Ok(()) };
    let nodes = network.plan.nodes.len();
    for place in 0..nodes {
        network.publish(place, name(place), "before").await?;
    }
    network.until_tuples(nodes).await?;
    for place in 0..nodes {
        network.end_node(place).await?;
        // Those that stay go on meanwhile
        let other = (place + 1) % nodes;
        network.publish(other, format!("while {place} is away"), "news").await?;
        network.start_node(place).await?;
        network.connect_node(place).await?;
        network.publish(place, format!("of {place}, again"), "news").await?;
        network.until_tuples(nodes + 2 * (place + 1)).await?;
    }
    network.agree().await?;
    network.alive(3 * nodes).await.map(drop)
}

/// CZMQ's whole process is killed, and another has its endpoint: our client and our server have all that it needs to know
#[tokio::test(flavor = "multi_thread")]
async fn a_killed_process() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let endpoint = |of: &str| format!("ipc://{}/{of}", folder.path().display());
    let (client, server) = (Node::start("client").await?, Node::start("server").await?);
    server.bind(&endpoint("server")).await?;
    let mut tuples = 0;
    for life in 0..3 {
        let Some(mut czmq) = Czmq::start().await? else { return Ok(()) };
        czmq.node("middle", None).await?;
        czmq.bind("middle", &endpoint("middle")).await?;
        czmq.connect("middle", &endpoint("server")).await?;
        if life == 0 {
            client.connect(&endpoint("middle"))?;
        }
        client.put(format!("client-{life}").as_bytes(), b"value").await?;
        server.put(format!("server-{life}").as_bytes(), b"value").await?;
        czmq.publish("middle", format!("middle-{life}"), "value").await?;
        tuples += 3;
        czmq.until_tuples("middle", tuples).await?;
        client.until_tuples(tuples).await?;
        server.until_tuples(tuples).await?;
        ensure!(client.table() == server.table());
        ensure!(czmq.status("middle").await? == tuples);
        czmq.until_quiet("middle", Duration::from_millis(50)).await?;
        czmq.kill().await?;
    }
    client.stop().await?;
    server.stop().await
}

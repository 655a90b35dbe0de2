//! Many tuples, long keys, large values, and every octet that there is.

use anyhow::{Result, ensure};

use crate::network::Whose::{Ours, Theirs};
use crate::network::{Network, Plan, Transport, name};

#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_tuples() -> Result<()> {
    for transport in [Transport::Tcp, Transport::Ipc] {
        let Some(mut network) = Network::start(Plan::ring(vec![Ours, Theirs, Ours, Theirs], transport)).await? else {
            return Ok(());
        };
        for place in 0..4 {
            network.publish_many(place, &name(place), 2500, 60).await?;
        }
        network.until_tuples(10_000).await?;
        ensure!(network.agree().await?.len() == 10_000);
        for place in [1, 3] {
            let delivered = network.czmq.delivered(&name(place)).await?;
            ensure!(delivered.deliveries == 10_000, "{delivered:?} at {place}");
        }
        network.alive(10_000).await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn long_keys_and_large_values() -> Result<()> {
    let mebibyte = vec![b'v'; 1 << 20];
    for transport in [Transport::Tcp, Transport::Ipc] {
        let Some(mut network) = Network::start(Plan::ring(vec![Ours, Theirs, Ours, Theirs], transport)).await? else {
            return Ok(());
        };
        for place in 0..4 {
            let key = format!("{place}{}", "k".repeat(254));
            ensure!(key.len() == 255);
            network.publish(place, &key, &mebibyte).await?;
            network.until_value(&key, &mebibyte).await?;
            // And gone again from memory, as far as that goes
            network.publish(place, &key, "small").await?;
            network.until_value(&key, "small").await?;
        }
        network.publish(0, "", "of the empty key").await?;
        network.publish(1, "empty value", "").await?;
        network.until_tuples(6).await?;
        network.agree().await?;
        network.alive(6).await?;
    }
    Ok(())
}

/// All but 0, where CZMQ's texts end
#[tokio::test(flavor = "multi_thread")]
async fn octets_of_every_kind() -> Result<()> {
    let Some(mut network) = Network::start(Plan::ring(vec![Ours, Theirs, Ours, Theirs], Transport::Tcp)).await? else {
        return Ok(());
    };
    let all: Vec<u8> = (1..=255).collect();
    for place in 0..4 {
        let key: Vec<u8> = all.iter().copied().cycle().skip(place).take(255).collect();
        network.publish(place, &key, &all).await?;
        network.until_value(&key, &all).await?;
    }
    network.agree().await?;
    network.alive(4).await.map(drop)
}

/// CZMQ would cut keys and values at their first 0 and pass on another tuple: it isn't told of such, all others are
#[tokio::test(flavor = "multi_thread")]
async fn an_octet_of_zero_does_no_harm() -> Result<()> {
    let Some(mut network) = Network::start(Plan::star(vec![Ours, Theirs, Ours, Theirs], Transport::Tcp)).await? else {
        return Ok(());
    };
    network.publish(0, "key", b"before\0behind").await?;
    network.publish(0, b"cut\0key", "value").await?;
    network.publish(2, "last", "one").await?;
    network.until_value("last", "one").await?;
    for place in [0, 2] {
        network.node(place)?.until_value(b"key", b"before\0behind").await?;
        network.node(place)?.until_value(b"cut\0key", b"value").await?;
    }
    for place in [1, 3] {
        let delivered = network.czmq.until_quiet(&name(place), std::time::Duration::from_millis(100)).await?;
        ensure!(delivered.deliveries == 1, "{delivered:?} at {place}");
    }
    network.alive(1).await.map(drop)
}

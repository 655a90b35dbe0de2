//! Gossip: one node publishes a tuple, another one that joined its network has it.
//!
//! Without arguments both run here. With `publisher ENDPOINT` or `reader ENDPOINT` one does, and the other may be
//! `tidings gossip`, or any node of ours or of CZMQ's zgossip.

use std::time::Duration;

use anyhow::{Result, bail};
use tidings::Context;
use tidings::gossip::driver::{Change, Gossip};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let context = Context::new();
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [] => {
            let (publisher, endpoint) = publisher(&context, "tcp://127.0.0.1:*").await?;
            reader(&context, &endpoint).await?;
            publisher.stop(Duration::from_secs(1)).await;
            Ok(())
        }
        ["publisher", endpoint] => {
            let (publisher, endpoint) = publisher(&context, endpoint).await?;
            eprintln!("listening on {endpoint}");
            publisher.ended().await;
            Ok(())
        }
        ["reader", endpoint] => reader(&context, endpoint).await,
        _ => bail!("usage: gossip [publisher|reader ENDPOINT]"),
    }
}

async fn publisher(context: &Context, endpoint: &str) -> Result<(Gossip, String)> {
    let node = Gossip::builder(context).name("publisher").start()?;
    node.put("config/rate", "10").await?;
    println!("Published config/rate");
    let endpoint = node.bind(endpoint).await?;
    Ok((node, endpoint.to_string()))
}

/// What is there already comes first, and then whatever changes
async fn reader(context: &Context, endpoint: &str) -> Result<()> {
    let node = Gossip::builder(context).name("reader").start()?;
    node.connect(endpoint)?.await?;
    let mut watch = node.watch("config/");
    while let Some(change) = watch.next().await {
        if let Change::Put { tuple, .. } = change {
            println!("{} is {}", tuple.key.escape_ascii(), tuple.value.escape_ascii());
            break;
        }
    }
    node.stop(Duration::from_secs(1)).await;
    Ok(())
}

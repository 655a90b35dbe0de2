//! Exclusive pair: two PAIR sockets talk with each other, and with nobody else.
//!
//! Without arguments both ends run here. With `left ENDPOINT` (binds) or `right ENDPOINT`
//! (connects) one does, and the other may be anything that speaks ZeroMQ.

use std::time::Duration;

use anyhow::{Result, bail};
use tidings::{Context, Message, PairSocket};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let context = Context::new();
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [] => {
            let (left, endpoint) = listen(&context, "tcp://127.0.0.1:*").await?;
            tokio::try_join!(tick(&left), tock(&context, &endpoint))?;
            Ok(())
        }
        ["left", endpoint] => {
            let (left, endpoint) = listen(&context, endpoint).await?;
            eprintln!("listening on {endpoint}");
            tick(&left).await
        }
        ["right", endpoint] => tock(&context, endpoint).await,
        _ => bail!("usage: exclusive_pair [left|right ENDPOINT]"),
    }
}

async fn listen(context: &Context, endpoint: &str) -> Result<(PairSocket, String)> {
    let left = PairSocket::new(context)?;
    let endpoint = left.bind(endpoint)?.await?;
    Ok((left, endpoint.to_string()))
}

/// The left end: waits for its peer, speaks first
async fn tick(left: &PairSocket) -> Result<()> {
    for number in 0..ROUNDS {
        left.send(format!("tick {number}").into()).await?;
        println!("Left received: {}", text(&left.recv().await?));
    }
    Ok(())
}

/// The right end: answers
async fn tock(context: &Context, endpoint: &str) -> Result<()> {
    let right = PairSocket::new(context)?;
    right.connect(endpoint)?.await?;
    for number in 0..ROUNDS {
        println!("Right received: {}", text(&right.recv().await?));
        right.send(format!("tock {number}").into()).await?;
    }
    right.close(Duration::from_secs(5)).await;
    Ok(())
}

fn text(message: &Message) -> String {
    String::from_utf8_lossy(message.first()).into_owned()
}

const ROUNDS: usize = 3;

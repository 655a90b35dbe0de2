//! Asynchronous request/reply: a DEALER sends without waiting, a ROUTER answers whom and when it likes.
//!
//! Without arguments both ends run here. With `server ENDPOINT` or `client ENDPOINT` one does, and
//! the other may be anything that speaks ZeroMQ.

use std::time::Duration;

use anyhow::{Result, bail};
use tidings::{Bytes, Context, DealerSocket, Message, Options, RouterSocket};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let context = Context::new();
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [] => {
            let (server, endpoint) = listen(&context, "tcp://127.0.0.1:*").await?;
            tokio::select! {
                served = serve(&server) => served,
                asked = ask(&context, &endpoint) => asked,
            }
        }
        ["server", endpoint] => {
            let (server, endpoint) = listen(&context, endpoint).await?;
            eprintln!("listening on {endpoint}");
            serve(&server).await
        }
        ["client", endpoint] => ask(&context, endpoint).await,
        _ => bail!("usage: async_request_reply [server|client ENDPOINT]"),
    }
}

async fn listen(context: &Context, endpoint: &str) -> Result<(RouterSocket, String)> {
    let server = RouterSocket::new(context)?;
    let endpoint = server.bind(endpoint)?.await?;
    Ok((server, endpoint.to_string()))
}

/// Takes five requests before it answers, and the last one comes first
async fn serve(server: &RouterSocket) -> Result<()> {
    let mut waiting: Vec<(Bytes, Bytes)> = Vec::new();
    loop {
        // The routing id of the peer stands in front of what it sent
        let request = server.recv().await?;
        let frames = request.into_frames();
        let [peer, .., number] = &frames[..] else { continue };
        println!("Received request {} from {}", text(number), text(peer));
        waiting.push((peer.clone(), number.clone()));
        if waiting.len() < REQUESTS {
            continue;
        }
        while let Some((peer, number)) = waiting.pop() {
            // And the same id, in front of an answer, says where that goes
            server.send(Message::multipart([peer, number, Bytes::from("World")])).await?;
        }
    }
}

async fn ask(context: &Context, endpoint: &str) -> Result<()> {
    let client = DealerSocket::with_options(context, Options::new().routing_id(Bytes::from("client-1")))?;
    client.connect(endpoint)?.await?;
    for number in 0..REQUESTS {
        println!("Sending request {number} ...");
        client.send(Message::multipart([number.to_string()])).await?;
    }
    for _ in 0..REQUESTS {
        let reply = tokio::time::timeout(Duration::from_secs(5), client.recv()).await??;
        let [number, answer] = &reply.into_frames()[..] else { bail!("a reply is a number and an answer") };
        println!("Received reply {} [ {} ]", text(number), text(answer));
    }
    Ok(())
}

fn text(frame: &[u8]) -> String {
    String::from_utf8_lossy(frame).into_owned()
}

const REQUESTS: usize = 5;

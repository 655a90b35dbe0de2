//! Synchronous request/reply: a REQ asks, a REP answers, in turns.
//!
//! Without arguments both ends run here. With `server ENDPOINT` or `client ENDPOINT` one does, and
//! the other may be anything that speaks ZeroMQ.

use std::time::Duration;

use anyhow::{Result, bail};
use tidings::{Context, Message, RepSocket, ReqSocket};

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
        _ => bail!("usage: request_reply [server|client ENDPOINT]"),
    }
}

/// Binds a REP, and says where: `*` as the port has the system choose one
async fn listen(context: &Context, endpoint: &str) -> Result<(RepSocket, String)> {
    let server = RepSocket::new(context)?;
    let endpoint = server.bind(endpoint)?.await?;
    Ok((server, endpoint.to_string()))
}

async fn serve(server: &RepSocket) -> Result<()> {
    loop {
        let request = server.recv().await?;
        println!("Received request: {}", text(&request));
        server.send("World".into()).await?;
    }
}

async fn ask(context: &Context, endpoint: &str) -> Result<()> {
    let client = ReqSocket::new(context)?;
    client.connect(endpoint)?.await?;
    for number in 0..10 {
        println!("Sending request {number} ...");
        // A request of its own with a deadline: a server that dies does not leave the socket stuck
        let reply = client.request("Hello".into(), Duration::from_secs(5)).await?;
        println!("Received reply {number} [ {} ]", text(&reply));
    }
    Ok(())
}

fn text(message: &Message) -> String {
    String::from_utf8_lossy(message.first()).into_owned()
}

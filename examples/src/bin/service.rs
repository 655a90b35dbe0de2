//! A service: a worker answers an action, a client asks for it by the service's name, a broker is between them.
//!
//! Without arguments all three run here. With `broker ENDPOINT`, `worker ENDPOINT` or `client ENDPOINT` one does, and
//! the others may be anything that speaks the Majordomo Protocol; `tidings serve` is a broker too.

use anyhow::{Result, bail};
use serde_json::json;
use tidings::majordomo::broker::BrokerConfig;
use tidings::majordomo::{Actions, Client, ClientOptions, Failure, Message, Server, Worker};
use tidings::{Context, RouterSocket};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let context = Context::new();
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [] => {
            let (_broker, endpoint) = broker(&context, "tcp://127.0.0.1:*").await?;
            let worker = worker(&context, &endpoint)?;
            worker.ready().await;
            client(&context, &endpoint).await
        }
        ["broker", endpoint] => {
            let (broker, endpoint) = broker(&context, endpoint).await?;
            eprintln!("listening on {endpoint}");
            broker.ended().await;
            Ok(())
        }
        ["worker", endpoint] => {
            let worker = worker(&context, endpoint)?;
            worker.ready().await;
            eprintln!("ready");
            worker.ended().await;
            Ok(())
        }
        ["client", endpoint] => client(&context, endpoint).await,
        _ => bail!("usage: service [broker|worker|client ENDPOINT]"),
    }
}

async fn broker(context: &Context, endpoint: &str) -> Result<(Server, String)> {
    let socket = RouterSocket::new(context)?;
    let broker = Server::start(socket.clone(), BrokerConfig::default());
    let endpoint = socket.bind(endpoint)?.await?;
    Ok((broker, endpoint.to_string()))
}

/// An action with data comes in, a result action with data goes out
fn worker(context: &Context, endpoint: &str) -> Result<Worker> {
    let actions = Actions::new().on("foo.this.do", async |message: Message| {
        println!("Received request: {message}");
        let value = message.value("a_key").cloned();
        Ok::<_, Failure>(("foo.this.result", json!({"another_key": value})))
    });
    Ok(Worker::builder(context, endpoint, "test_rep").serve(actions)?)
}

async fn client(context: &Context, endpoint: &str) -> Result<()> {
    let client = Client::connect(context, endpoint, ClientOptions::default()).await?;
    let request = Message::new("foo.this.do", json!({"a_key": "a value"}));
    let answer = client.ask("test_rep", &request).await?;
    println!("Received reply: {answer}");
    Ok(())
}

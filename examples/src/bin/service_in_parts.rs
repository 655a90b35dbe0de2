//! A service whose replies come in parts, and which stops when nobody wants more of them.
//!
//! Without arguments broker, worker and client run here. With `worker ENDPOINT` or `client ENDPOINT` one of the ends does;
//! the broker is `service broker ENDPOINT` or `tidings serve`.

use anyhow::{Result, bail};
use tidings::majordomo::broker::BrokerConfig;
use tidings::majordomo::wire::Status;
use tidings::majordomo::{Client, ClientOptions, Failure, Part, Request, Server, Worker};
use tidings::{Context, Message, RouterSocket};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let context = Context::new();
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [] => {
            let socket = RouterSocket::new(&context)?;
            let _broker = Server::start(socket.clone(), BrokerConfig::default());
            let endpoint = socket.bind("tcp://127.0.0.1:*")?.await?.to_string();
            let worker = worker(&context, &endpoint)?;
            worker.ready().await;
            client(&context, &endpoint).await?;
            // The request that was taken back ends here, too
            worker.stop(std::time::Duration::from_secs(5)).await;
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
        _ => bail!("usage: service_in_parts [worker|client ENDPOINT]"),
    }
}

/// Counts down from the number it is asked for
fn worker(context: &Context, endpoint: &str) -> Result<Worker> {
    let countdown = async |request: Request| {
        let from: u64 = text(request.body()).parse()?;
        for number in (1..=from).rev() {
            if request.partial(number.to_string()).await.is_err() {
                println!("Nobody counts along from {from} any more");
                return Err(Failure::new(Status::CANCELLED, "nobody waits"));
            }
        }
        Ok("lift-off")
    };
    Ok(Worker::builder(context, endpoint, "countdown").concurrency(4).serve(countdown)?)
}

async fn client(context: &Context, endpoint: &str) -> Result<()> {
    let client = Client::connect(context, endpoint, ClientOptions::default()).await?;
    let mut parts = client.request("countdown", "3").parts();
    while let Some(part) = parts.next().await {
        match part? {
            Part::Partial(number) => println!("{} ...", text(&number)),
            Part::Final(word) => println!("{}", text(&word)),
        }
    }
    // Nobody waits for the end of this one: dropping it tells the worker
    let mut parts = client.request("countdown", "1000000000").parts();
    if let Some(part) = parts.next().await {
        part?;
        println!("That would take too long");
    }
    Ok(())
}

fn text(message: &Message) -> String {
    String::from_utf8_lossy(message.first()).into_owned()
}

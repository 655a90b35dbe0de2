//! Push/pull: a ventilator deals out tasks, workers do them, a sink collects the results.
//!
//! Without arguments all of them run here, with two workers. With arguments one part does:
//! `ventilator ENDPOINT`, `worker VENTILATOR SINK`, `sink ENDPOINT`.

use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use tidings::{Context, Message, PullSocket, PushSocket};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let context = Context::new();
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [] => {
            let (ventilator, tasks) = ventilator(&context, "tcp://127.0.0.1:*").await?;
            let (sink, results) = sink(&context, "tcp://127.0.0.1:*").await?;
            tokio::try_join!(
                deal(&ventilator),
                work(&context, &tasks, &results),
                work(&context, &tasks, &results),
                collect(&sink),
            )?;
            Ok(())
        }
        ["ventilator", endpoint] => {
            let (ventilator, endpoint) = ventilator(&context, endpoint).await?;
            eprintln!("listening on {endpoint}");
            deal(&ventilator).await
        }
        ["worker", tasks, results] => work(&context, tasks, results).await,
        ["sink", endpoint] => {
            let (sink, endpoint) = sink(&context, endpoint).await?;
            eprintln!("listening on {endpoint}");
            collect(&sink).await
        }
        _ => bail!("usage: push_pull [ventilator ENDPOINT | worker VENTILATOR SINK | sink ENDPOINT]"),
    }
}

async fn ventilator(context: &Context, endpoint: &str) -> Result<(PushSocket, String)> {
    let ventilator = PushSocket::new(context)?;
    let endpoint = ventilator.bind(endpoint)?.await?;
    Ok((ventilator, endpoint.to_string()))
}

async fn sink(context: &Context, endpoint: &str) -> Result<(PullSocket, String)> {
    let sink = PullSocket::new(context)?;
    let endpoint = sink.bind(endpoint)?.await?;
    Ok((sink, endpoint.to_string()))
}

/// Deals out the tasks when both workers are there, then an empty message to each: the end
async fn deal(ventilator: &PushSocket) -> Result<()> {
    ventilator.ready(WORKERS, Duration::from_secs(60)).await?;
    for task in 0..TASKS {
        ventilator.send(task.to_string().into()).await?;
    }
    // A PUSH deals in turn (RFC 30), so every worker gets one of these
    for _ in 0..WORKERS {
        ventilator.send(Message::from("")).await?;
    }
    println!("Sent {TASKS} tasks to {WORKERS} workers");
    ventilator.close(Duration::from_secs(5)).await;
    Ok(())
}

/// Squares numbers
async fn work(context: &Context, tasks: &str, results: &str) -> Result<()> {
    let (pull, push) = (PullSocket::new(context)?, PushSocket::new(context)?);
    push.connect(results)?.await?;
    pull.connect(tasks)?.await?;
    let mut done = 0;
    loop {
        let task = pull.recv().await?;
        if task.first().is_empty() {
            break;
        }
        let number = number(&task)?;
        push.send((number * number).to_string().into()).await?;
        done += 1;
    }
    println!("Did {done} tasks");
    push.close(Duration::from_secs(5)).await;
    Ok(())
}

async fn collect(sink: &PullSocket) -> Result<()> {
    let mut sum = 0;
    for _ in 0..TASKS {
        sum += number(&sink.recv().await?)?;
    }
    println!("Received {TASKS} results, their sum is {sum}");
    Ok(())
}

fn number(message: &Message) -> Result<u64> {
    let text = std::str::from_utf8(message.first())?;
    text.parse().with_context(|| format!("{text:?} is not a number"))
}

const WORKERS: usize = 2;
const TASKS: usize = 100;

//! Requests that the broker keeps on disk: `svc call --durable` and `svc reply` (RFC 9, Titanic).

use std::time::{Duration, Instant};

use bytes::Bytes;
use clap::Args;
use tidings::Message;
use tidings_majordomo::titanic::client::Progress;
use tidings_majordomo::wire::Status;
use tidings_majordomo::{Client, DurableError};
use uuid::Uuid;

use super::broker::{BrokerArgs, Link};
use super::call::{ReplyOutput, waited};
use crate::cli::output::escape;
use crate::cli::units::{self, display_about};
use crate::cli::{Exit, Failure, Talk};

/// What `svc reply` is given
#[derive(Args, Debug)]
pub(crate) struct ReplyArgs {
    #[command(flatten)]
    broker: BrokerArgs,
    /// The UUID that `svc call --durable` said
    #[arg(value_parser = uuid)]
    uuid: Uuid,
    /// Longest wait for the reply; then the exit code is 5; 0 only looks
    #[arg(long, value_name = "DURATION", value_parser = units::duration, default_value = "10s")]
    timeout: Duration,
    /// Leave request and reply with the broker, so that the reply can be fetched again
    #[arg(long)]
    keep: bool,
    /// Show frames as they are, also if they are action and JSON
    #[arg(long)]
    raw: bool,
    #[command(flatten)]
    output: ReplyOutput,
}

/// `tidings svc reply`
///
/// # Errors
/// No broker (3), no such request (1), no reply in time (5).
pub(super) async fn run(args: ReplyArgs, talk: Talk) -> Result<(), Failure> {
    let begun = Instant::now();
    let link = args.broker.link(talk).await?;
    let client = args.broker.client(&link).await?;
    let reply = tokio::select! {
        biased;
        reply = fetch(&client, &link, args.uuid, args.timeout) => reply?,
        _ = link.stop.stopped() => return Err(Failure::new(Exit::Partial, "stopped", "stopped while waiting for the reply")),
    };
    let printed = args.output.printer("titanic.reply", args.raw, talk).print(&reply, false, begun.elapsed())?;
    if printed && !args.keep { close(&client, &link, args.uuid).await } else { Ok(()) }
}

/// Hands a request over; when this returns it is kept, and bears the UUID
///
/// # Errors
/// Refused, or no answer.
pub(super) async fn submit(
    client: &Client,
    link: &Link,
    service: &str,
    body: Message,
    key: Option<&str>,
) -> Result<Uuid, Failure> {
    let key = key.map(|key| Bytes::copy_from_slice(key.as_bytes()));
    client.durable().submit(service, body, key).await.map_err(|error| failed(link, service, None, error))
}

/// Waits until the reply is there, asking ever more rarely
///
/// # Errors
/// Nobody knows the request (1), the time is over (5), refused (4).
pub(super) async fn fetch(client: &Client, link: &Link, uuid: Uuid, timeout: Duration) -> Result<Message, Failure> {
    let begun = Instant::now();
    let durable = client.durable();
    let waiting = async {
        match timeout.is_zero() {
            // To look is no wait
            true => match durable.progress(uuid).await? {
                Progress::Done(reply) => Ok(reply),
                Progress::Pending(_) => Err(DurableError::DeadlinePassed(timeout)),
            },
            false => durable.wait(uuid, timeout).await,
        }
    };
    tokio::pin!(waiting);
    let mut tick = tokio::time::interval(PROGRESS);
    let waited = loop {
        tokio::select! {
            biased;
            waited = &mut waiting => break waited,
            _ = tick.tick() => link.talk.progress(format_args!("{}: waiting for {}", uuid.simple(), waited(begun))),
        }
    };
    link.talk.progress_done();
    match waited {
        Err(error @ DurableError::DeadlinePassed(_)) => {
            // Nothing waits for that any longer, so it must not take long
            let last = tokio::time::timeout(LAST_LOOK, durable.progress(uuid)).await;
            let mut failure = failed(link, "titanic.reply", Some(uuid), error);
            if let Ok(Ok(Progress::Pending(text))) = last {
                failure.message = format!("{} ({})", failure.message, escape(text.as_bytes()));
            }
            Err(failure)
        }
        waited => waited.map_err(|error| failed(link, "titanic.reply", Some(uuid), error)),
    }
}

/// Has the broker forget request and reply
///
/// # Errors
/// No answer.
pub(super) async fn close(client: &Client, link: &Link, uuid: Uuid) -> Result<(), Failure> {
    client.durable().close(uuid).await.map_err(|error| failed(link, "titanic.close", Some(uuid), error))
}

fn failed(link: &Link, service: &str, uuid: Option<Uuid>, error: DurableError) -> Failure {
    let id = uuid.map(|uuid| uuid.simple().to_string()).unwrap_or_default();
    match error {
        DurableError::Request(error) => {
            let none = error.status() == Some(Status::NO_SUCH_SERVICE);
            let failure = link.unanswered(service, error);
            match none {
                true => failure.hint("the broker keeps no requests: `service.durable = true` has it do so"),
                false => failure,
            }
        }
        DurableError::Refused(text) if uuid.is_some() => {
            Failure::new(Exit::Negative, "unknown-uuid", format!("{id}: {}", escape(text.as_bytes())))
                .hint("it was closed, its time is over, or another broker has it")
        }
        DurableError::Failed(text) if uuid.is_some() => {
            Failure::new(Exit::Refused, "no-reply", format!("{id} will have no reply: {}", escape(text.as_bytes())))
                .hint("`tidings queue dead` shows why, and can have it tried again")
        }
        DurableError::DeadlinePassed(after) => {
            let message = format!("{id}: no reply within {}", display_about(after));
            Failure::new(Exit::Deadline, "deadline", message)
                .hint(format!("the request goes on; `tidings svc reply {id}` fetches its reply"))
        }
        error => Failure::new(Exit::Refused, "refused", format!("{service}: {}", escape(error.to_string().as_bytes()))),
    }
}

fn uuid(text: &str) -> Result<Uuid, String> {
    text.parse().map_err(|_| format!("'{text}' is no UUID of 32 hexadecimal digits"))
}

/// Longest look at why there is no reply yet
const LAST_LOOK: Duration = Duration::from_secs(1);

/// How often progress is said
const PROGRESS: Duration = Duration::from_secs(1);

pub(super) const EXAMPLES: &str = "\
Examples:
  tidings svc reply 019352a7f2b07cc3a1d90d3c5a4ef001
  tidings svc reply 019352a7f2b07cc3a1d90d3c5a4ef001 --timeout 0 || echo 'not yet'
  tidings svc reply 019352a7f2b07cc3a1d90d3c5a4ef001 --keep --json | jq .data";

//! Requests that the broker keeps on disk: `svc call --durable` and `svc reply` (RFC 9, Titanic).

use std::time::{Duration, Instant};

use bytes::Bytes;
use clap::Args;
use tidings::Message;
use tidings_majordomo::Client;
use tidings_majordomo::wire::Status;
use tokio::time::sleep;

use super::broker::{BrokerArgs, Link};
use super::call::{ReplyOutput, waited};
use crate::cli::output::escape;
use crate::cli::units::{self, display_duration};
use crate::cli::{Exit, Failure, Talk};

/// What `svc reply` is given
#[derive(Args, Debug)]
pub(crate) struct ReplyArgs {
    #[command(flatten)]
    broker: BrokerArgs,
    /// The UUID that `svc call --durable` said
    uuid: String,
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
    let link = args.broker.link(talk)?;
    let client = args.broker.client(&link).await?;
    let reply = tokio::select! {
        biased;
        reply = fetch(&client, &link, &args.uuid, args.timeout) => reply?,
        _ = link.stop.stopped() => return Err(Failure::new(Exit::Partial, "stopped", "stopped while waiting for the reply")),
    };
    let printed = args.output.printer("titanic.reply", args.raw, talk).print(&reply, false, begun.elapsed())?;
    if printed && !args.keep { close(&client, &link, &args.uuid).await } else { Ok(()) }
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
    timeout: Duration,
) -> Result<String, Failure> {
    let frames = std::iter::once(Bytes::copy_from_slice(service.as_bytes())).chain(body.into_frames());
    let answer = ask(client, link, REQUEST, Message::multipart(frames), timeout).await?;
    match (status_of(&answer), answer.frame(1)) {
        (Some(200), Some(uuid)) => Ok(escape(uuid)),
        _ => Err(unexpected(REQUEST, &answer)),
    }
}

/// Waits until the reply is there, asking ever more rarely
///
/// # Errors
/// Nobody knows the request (1), the time is over (5), refused (4).
pub(super) async fn fetch(client: &Client, link: &Link, uuid: &str, timeout: Duration) -> Result<Message, Failure> {
    let begun = Instant::now();
    let mut pause = FIRST_PAUSE;
    loop {
        let answer = ask(client, link, REPLY, Message::from(uuid.to_owned()), ANSWER).await?;
        match status_of(&answer) {
            Some(200) => {
                link.talk.progress_done();
                return Ok(answer.into_frames().into_iter().skip(1).collect());
            }
            Some(300) => {}
            Some(400) => {
                return Err(Failure::new(
                    Exit::Negative,
                    "unknown-uuid",
                    format!("the broker knows no request {uuid}"),
                )
                .hint("it was closed, its time is over, or another broker has it"));
            }
            _ => return Err(unexpected(REPLY, &answer)),
        }
        let left = timeout.saturating_sub(begun.elapsed());
        if left.is_zero() {
            link.talk.progress_done();
            let message = format!("{uuid}: no reply within {}", display_duration(timeout));
            return Err(Failure::new(Exit::Deadline, "deadline", message)
                .hint(format!("the request goes on; `tidings svc reply {uuid}` fetches its reply")));
        }
        link.talk.progress(format_args!("{uuid}: waiting for {}", waited(begun)));
        sleep(pause.min(left)).await;
        pause = (pause * 2).min(LAST_PAUSE);
    }
}

/// Has the broker forget request and reply
///
/// # Errors
/// No answer.
pub(super) async fn close(client: &Client, link: &Link, uuid: &str) -> Result<(), Failure> {
    let answer = ask(client, link, CLOSE, Message::from(uuid.to_owned()), ANSWER).await?;
    match status_of(&answer) {
        Some(200) => Ok(()),
        _ => Err(unexpected(CLOSE, &answer)),
    }
}

async fn ask(
    client: &Client,
    link: &Link,
    service: &'static str,
    body: Message,
    timeout: Duration,
) -> Result<Message, Failure> {
    let reply = client.request(service, body).deadline(timeout).await;
    reply.map(|reply| reply.body).map_err(|error| {
        let none = error.status() == Some(Status::NO_SUCH_SERVICE);
        let failure = link.unanswered(service, error);
        match none {
            true => failure.hint("the broker keeps no requests: `service.durable = true` has it do so"),
            false => failure,
        }
    })
}

/// The three digits in front, whatever text follows
fn status_of(answer: &Message) -> Option<u16> {
    answer.first().get(..3).and_then(Status::from_digits).map(Status::code)
}

fn unexpected(service: &str, answer: &Message) -> Failure {
    Failure::new(Exit::Refused, "refused", format!("{service}: {}", escape(answer.first())))
}

/// Takes requests
const REQUEST: &str = "titanic.request";
/// Gives replies
const REPLY: &str = "titanic.reply";
/// Forgets both
const CLOSE: &str = "titanic.close";

/// The first pause between two questions for a reply, which doubles up to the last
const FIRST_PAUSE: Duration = Duration::from_millis(20);
const LAST_PAUSE: Duration = Duration::from_secs(1);

/// Longest wait for an answer of the broker itself
const ANSWER: Duration = Duration::from_secs(10);

pub(super) const EXAMPLES: &str = "\
Examples:
  tidings svc reply 019352a7f2b07cc3a1d90d3c5a4ef001
  tidings svc reply 019352a7f2b07cc3a1d90d3c5a4ef001 --timeout 0 || echo 'not yet'
  tidings svc reply 019352a7f2b07cc3a1d90d3c5a4ef001 --keep --json | jq .data";

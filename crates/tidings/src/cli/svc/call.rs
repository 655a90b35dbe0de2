//! `svc call`: ask a service, and print its answer.

use std::time::{Duration, Instant};

use bytes::Bytes;
use clap::Args;
use serde_json::{Value, json};
use tidings::Message;
use tidings_majordomo::{Client, Part, RequestError};

use super::broker::{BrokerArgs, Link};
use super::durable;
use super::latency::{Latencies, display_short};
use crate::cli::frames::{FirstFrame, FrameSyntax};
use crate::cli::output::{Output, Printer, json_frame};
use crate::cli::template::FrameTemplate;
use crate::cli::units::{self, display_duration};
use crate::cli::{Exit, Failure, Talk, json, printed};

/// What `svc call` is given
#[derive(Args, Debug)]
pub(crate) struct CallArgs {
    #[command(flatten)]
    broker: BrokerArgs,
    /// The service
    service: String,
    /// The action, then its data as JSON ({} if not given) or @FILE; with --raw the frames of the request. In both,
    /// {{seq}}, {{time}}, {{unix}} and {{uuid}} are filled in
    #[arg(value_name = "ACTION [JSON]", required = true)]
    content: Vec<String>,
    /// Send the frames as they are, whatever they mean to the service
    #[arg(long)]
    raw: bool,
    /// With --raw: frames are hexadecimal digits
    #[arg(long, requires = "raw")]
    hex: bool,
    /// Send {{…}} as it is
    #[arg(long)]
    no_template: bool,
    /// Longest wait for the reply; then the exit code is 5
    #[arg(long, value_name = "DURATION", value_parser = units::duration, default_value = "10s")]
    timeout: Duration,
    /// A second request with the same key is answered with the reply to the first one, for five minutes; with --durable
    /// for as long as the broker keeps it (`store.ttl`)
    #[arg(long, value_name = "KEY")]
    idempotency_key: Option<String>,
    /// Give it to one worker at most, also if that one dies
    #[arg(long, conflicts_with = "durable")]
    not_repeatable: bool,
    /// Ask N times and print how long it took, rather than the replies
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    repeat: Option<u64>,
    /// With --repeat: ask so many times at once
    #[arg(long, value_name = "N", requires = "repeat", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    parallel: u32,
    /// Have the broker keep the request on disk until it is answered, and wait for the reply; stderr tells its UUID
    #[arg(long, conflicts_with = "repeat")]
    durable: bool,
    /// With --durable: print the UUID and end; `tidings svc reply UUID` fetches the reply
    #[arg(long, requires = "durable")]
    submit_only: bool,
    #[command(flatten)]
    output: ReplyOutput,
}

/// How a reply is printed
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "What arrives")]
pub(super) struct ReplyOutput {
    /// How replies are printed; --json is --output json, an object for each
    #[arg(long, value_enum, value_name = "FORM")]
    output: Option<Output>,
    /// What separates the frames of a reply (default: a space); \t is a tab
    #[arg(long, short, value_name = "TEXT")]
    delimiter: Option<String>,
}

/// What is sent, filled in anew for each request
struct Question {
    frames: Vec<FrameTemplate>,
}

/// `tidings svc call`
///
/// # Errors
/// No broker (3), refused (4), no reply in time (5), some of many without a reply (6).
pub(super) async fn run(args: CallArgs, talk: Talk) -> Result<(), Failure> {
    let question = Question::new(&args)?;
    let link = args.broker.link(talk).await?;
    let begun = Instant::now();
    let client = args.broker.client_within(&link, args.timeout).await?;
    let done = match (args.durable, args.repeat) {
        (true, _) => durable_call(&client, &link, &question, &args, begun).await,
        (false, None) => call_once(&client, &link, &question, &args, begun).await,
        (false, Some(times)) => call_often(&client, &link, &question, &args, times).await,
    };
    client.close();
    done
}

impl Question {
    /// Reads arguments and files, and checks what is to be JSON
    fn new(args: &CallArgs) -> Result<Self, Failure> {
        let syntax = FrameSyntax { hex: args.hex, no_template: args.no_template, ..FrameSyntax::default() };
        let mut frames = Vec::new();
        for (index, text) in args.content.iter().enumerate() {
            frames.push(syntax.argument(index, text)?);
        }
        if !args.raw {
            if let [_, _, more @ ..] = &frames[..]
                && !more.is_empty()
            {
                return Err(Failure::usage(format!("an action has one JSON value, not {}", more.len() + 1)).hint(
                    "put the JSON in quotes, so that the shell does not split it; or send plain frames with --raw",
                ));
            }
            match frames.get(1).map(|data| data.fill(0)) {
                None => frames.push(FrameTemplate::literal(Bytes::from_static(b"{}"))),
                Some(data) => match std::str::from_utf8(&data) {
                    Ok(text) => json::check("the data", text)?,
                    Err(error) => return Err(Failure::usage(format!("the data is not JSON: {error}"))),
                },
            }
        }
        Ok(Self { frames })
    }

    fn fill(&self, seq: u64) -> Message {
        Message::multipart(self.frames.iter().map(|frame| frame.fill(seq)))
    }
}

async fn call_once(
    client: &Client,
    link: &Link,
    question: &Question,
    args: &CallArgs,
    began: Instant,
) -> Result<(), Failure> {
    let begun = Instant::now();
    let left = args.timeout.saturating_sub(began.elapsed()).max(LEAST);
    let mut printer = args.output.printer(&args.service, args.raw, link.talk);
    let mut parts = request(client, args, left, question.fill(0)).parts();
    loop {
        let part = tokio::select! {
            biased;
            part = parts.next() => part,
            _ = link.stop.stopped() => return Err(stopped()),
        };
        let part = part.unwrap_or(Err(RequestError::Closed)).map_err(|error| match error {
            // Of which a little went into connecting
            RequestError::DeadlinePassed { sent, .. } => RequestError::DeadlinePassed { after: args.timeout, sent },
            error => error,
        });
        let part = part.map_err(|error| link.unanswered(&args.service, error))?;
        let is_last = matches!(part, Part::Final(_));
        let (Part::Partial(body) | Part::Final(body)) = &part;
        if !printer.print(body, !is_last, begun.elapsed())? || is_last {
            link.talk.detail(format_args!("answered in {}", display_short(begun.elapsed())));
            return Ok(());
        }
    }
}

/// Asks again and again; a failed request does not stop the others, unless nothing can come of them
async fn call_often(
    client: &Client,
    link: &Link,
    question: &Question,
    args: &CallArgs,
    times: u64,
) -> Result<(), Failure> {
    let mut latencies = Latencies::new()?;
    let (mut asked, mut failed) = (0, 0);
    let mut first_failure: Option<Failure> = None;
    let mut under_way = tokio::task::JoinSet::new();
    let begun = Instant::now();
    let mut stopped = false;
    while asked < times || !under_way.is_empty() {
        while !stopped && asked < times && under_way.len() < args.parallel as usize {
            let call = request(client, args, args.timeout, question.fill(asked));
            asked += 1;
            under_way.spawn(async move {
                let sent = Instant::now();
                (call.await, sent.elapsed())
            });
        }
        let done = tokio::select! {
            biased;
            done = under_way.join_next() => done,
            _ = link.stop.stopped(), if !stopped => {
                stopped = true;
                under_way.abort_all();
                continue;
            }
        };
        match done {
            Some(Ok((Ok(_), latency))) => latencies.note(latency),
            Some(Ok((Err(error), _))) => {
                failed += 1;
                first_failure.get_or_insert_with(|| link.unanswered(&args.service, error));
            }
            Some(Err(_)) => failed += 1,
            None => break,
        }
    }
    let elapsed = begun.elapsed();
    let answered = asked - failed;
    if answered > 0 {
        let figures = match link.talk.json {
            true => {
                let mut object = latencies.to_json(failed, elapsed);
                object["ok"] = Value::from(failed == 0 && !stopped);
                object["service"] = Value::from(args.service.as_str());
                object.to_string()
            }
            false => latencies.table(failed, elapsed),
        };
        printed(link.talk.data(figures))?;
    }
    match first_failure {
        _ if stopped => {
            Err(Failure::new(Exit::Partial, "stopped", format!("stopped after {answered} of {times} requests")))
        }
        Some(failure) if answered > 0 => {
            let message = format!("{failed} of {times} requests failed; the first: {}", failure.message);
            Err(Failure { exit: Exit::Partial, code: "partial", message, ..failure })
        }
        Some(failure) => Err(failure),
        None => Ok(()),
    }
}

fn request(client: &Client, args: &CallArgs, time: Duration, body: Message) -> tidings_majordomo::Call {
    let mut call = client.request(args.service.as_str(), body).deadline(time);
    if let Some(key) = &args.idempotency_key {
        call = call.key(key.clone());
    }
    if args.not_repeatable { call.not_repeatable() } else { call }
}

async fn durable_call(
    client: &Client,
    link: &Link,
    question: &Question,
    args: &CallArgs,
    begun: Instant,
) -> Result<(), Failure> {
    let key = args.idempotency_key.as_deref();
    let submitted = durable::submit(client, link, &args.service, question.fill(0), key);
    let id = tokio::select! {
        biased;
        id = submitted => id?,
        _ = link.stop.stopped() => return Err(stopped()),
    };
    let uuid = id.simple().to_string();
    if args.submit_only {
        let line = match link.talk.json {
            true => json!({ "ok": true, "service": args.service, "uuid": uuid }).to_string(),
            false => uuid,
        };
        return printed(link.talk.data(line)).map(|_| ());
    }
    link.talk.say(format_args!("stored as {uuid}; `tidings svc reply {uuid}` fetches the reply later"));
    let fetched = durable::fetch(client, link, id, args.timeout.saturating_sub(begun.elapsed()));
    let reply = tokio::select! {
        biased;
        reply = fetched => reply?,
        _ = link.stop.stopped() => {
            return Err(stopped().hint(format!("the request goes on; `tidings svc reply {uuid}` fetches its reply")));
        }
    };
    let printed = args.output.printer(&args.service, args.raw, link.talk).print(&reply, false, begun.elapsed())?;
    // Whoever has not read it may fetch it again, and whoever asks with the same key is to get the same; then its time ends it
    match printed && key.is_none() {
        true => durable::close(client, link, id).await,
        false => Ok(()),
    }
}

impl ReplyOutput {
    /// Prints replies of a service
    pub(super) fn printer(&self, service: &str, raw: bool, talk: Talk) -> ReplyPrinter {
        let usual = if talk.json { Output::Json } else { Output::Text };
        let output = self.output.unwrap_or(usual);
        let delimiter = self.delimiter.as_deref().map(|text| text.replace("\\t", "\t"));
        ReplyPrinter {
            service: service.to_owned(),
            raw,
            is_json: output == Output::Json,
            printer: Printer::new(output, delimiter.as_deref(), FirstFrame::Plain),
            talk,
        }
    }
}

/// Prints the replies of a service
pub(super) struct ReplyPrinter {
    service: String,
    raw: bool,
    is_json: bool,
    printer: Printer,
    talk: Talk,
}

impl ReplyPrinter {
    /// Prints a reply, or a part of it; whether anybody reads on
    ///
    /// # Errors
    /// When it can't be written.
    pub(super) fn print(&mut self, body: &Message, is_part: bool, after: Duration) -> Result<bool, Failure> {
        if !self.is_json {
            return printed(self.printer.print(body));
        }
        let mut object = match tidings_majordomo::Message::decode(body) {
            Ok(message) if !self.raw => json!({ "action": message.action, "data": message.data }),
            _ => json!({ "frames": body.frames().map(json_frame).collect::<Vec<Value>>() }),
        };
        object["ok"] = Value::from(true);
        object["service"] = Value::from(self.service.as_str());
        object["seconds"] = Value::from(after.as_secs_f64());
        if is_part {
            object["partial"] = Value::from(true);
        }
        printed(self.talk.data(object))
    }
}

fn stopped() -> Failure {
    Failure::new(Exit::Partial, "stopped", "stopped while waiting for the reply")
}

/// What is left for a request at least when connecting took all the time
const LEAST: Duration = Duration::from_millis(1);

/// Says how long was waited, for progress
pub(super) fn waited(begun: Instant) -> String {
    display_duration(Duration::from_secs(begun.elapsed().as_secs().max(1)))
}

pub(super) const EXAMPLES: &str = "\
Examples:
  tidings svc call dbmanager config.get '{\"id\": \"diskfree\"}'
  tidings svc call dbmanager config.get @question.json --timeout 2s --json | jq .data
  tidings svc call upper --raw hello                    frames rather than action and JSON
  tidings svc call echo ping --repeat 10000 --parallel 64
  tidings svc call billing charge '{\"cents\": 250}' --idempotency-key order-17 --not-repeatable
  tidings svc call reports make '{}' --durable --timeout 10m
  tidings svc call manager plugin.list --wire domogik -e tcp://127.0.0.1:40410";

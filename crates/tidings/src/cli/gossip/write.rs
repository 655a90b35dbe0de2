//! `gossip put` and `gossip rm`.

use std::io::Read as _;
use std::time::Duration;

use bytes::Bytes;
use clap::Args;
use serde_json::json;

use super::node::{Node, NodeArgs, stopped};
use crate::cli::frames::FrameSyntax;
use crate::cli::output::{escape, json_frame};
use crate::cli::units::{self, display_duration};
use crate::cli::{Exit, Failure, Talk, printed};
use crate::discovery::Answer;

/// What `gossip put` is given
#[derive(Args, Debug)]
pub(crate) struct PutArgs {
    /// The key, of up to 255 octets; by custom words with / between them
    #[arg(id = "tuple-key", value_name = "KEY")]
    key: String,
    /// The value; @FILE is a file's content, @@ begins a value with @
    #[arg(required_unless_present = "stdin", allow_negative_numbers = true)]
    value: Option<String>,
    /// The value is all of stdin
    #[arg(long, conflicts_with_all = ["value", "hex"])]
    stdin: bool,
    /// The value is hexadecimal digits
    #[arg(long)]
    hex: bool,
    /// It ends after DURATION, unless it is put again before
    #[arg(long, value_name = "DURATION", value_parser = units::duration)]
    ttl: Option<Duration>,
    /// It lives as long as the node that is asked: gone with it, there again when it comes back, and over when it starts anew
    #[arg(long, conflicts_with = "ttl")]
    session: bool,
    /// Stay, and put it again before it ends; at Ctrl-C it is removed. Without --ttl it has 10s
    #[arg(long, conflicts_with = "session")]
    hold: bool,
    #[command(flatten)]
    node: NodeArgs,
}

/// What `gossip rm` is given
#[derive(Args, Debug)]
pub(crate) struct RemoveArgs {
    /// The key
    #[arg(id = "tuple-key", value_name = "KEY")]
    key: String,
    #[command(flatten)]
    node: NodeArgs,
}

/// `tidings gossip put`
///
/// # Errors
/// No node (3), refused (4), no answer (5).
pub(super) async fn put(args: PutArgs, talk: Talk) -> Result<(), Failure> {
    let key = key(&args.key)?;
    let value = value(&args)?;
    let ttl = args.ttl.or(args.hold.then_some(HELD));
    if ttl.is_some_and(|ttl| ttl < Duration::from_millis(1) || ttl > LONGEST) {
        return Err(Failure::usage(format!("--ttl {} is no time to live", display_duration(ttl.unwrap_or_default())))
            .hint("write 1ms to 49d, such as 30s; without --ttl it stays until it is removed"));
    }
    let lifetime = match ttl {
        Some(ttl) => ttl.as_millis().to_string(),
        None if args.session => "session".to_owned(),
        None => "0".to_owned(),
    };
    let node = args.node.open(talk).await?;
    let octets = value.len();
    let request = [Bytes::from_static(b"PUBLISH"), key.clone(), value, lifetime.into()];
    done(&node, &node.ask(request.clone()).await.map_err(|failure| hung_up(failure, octets))?)?;
    if talk.json && !printed(talk.data(json!({ "ok": true, "key": json_frame(&key) })))? {
        return Ok(());
    }
    match (args.hold, ttl) {
        (true, Some(ttl)) => hold(node, request, &key, ttl).await,
        _ => Ok(()),
    }
}

/// Puts it again and again, until it is time to stop, and then removes it
async fn hold(mut node: Node, request: [Bytes; 4], key: &Bytes, ttl: Duration) -> Result<(), Failure> {
    let talk = node.place.talk;
    talk.say(format_args!("holding '{}' (Ctrl-C removes it)", escape(key)));
    loop {
        tokio::select! {
            biased;
            _ = node.place.stop.stopped() => break,
            () = tokio::time::sleep(ttl / 3) => {}
        }
        // The signal may come while it is asked, too
        match node.ask(request.clone()).await {
            Ok(answer) => done(&node, &answer)?,
            Err(failure) if failure.code == "stopped" => break,
            Err(failure) if failure.exit == Exit::Connect => {
                talk.say(format_args!("{}; trying again", failure.message));
                // Nobody there: its time goes on
                match node.reopen().await {
                    Err(failure) if failure.code == "stopped" => return Err(stopped()),
                    Ok(()) | Err(_) => {}
                }
            }
            Err(failure) => return Err(failure),
        }
    }
    node.send([Bytes::from_static(b"UNPUBLISH"), key.clone()]).await?;
    // Whoever removed it before had the same in mind
    match tokio::time::timeout(LAST_ANSWER, node.next()).await {
        Ok(answer) => answer.map(drop).map_err(|error| node.place.failure(&error)),
        Err(_) => Err(Failure::new(Exit::Deadline, "deadline", "the node did not say that it removed it")),
    }
}

/// `tidings gossip rm`
///
/// # Errors
/// No such key (1), no node (3), refused (4), no answer (5).
pub(super) async fn rm(args: RemoveArgs, talk: Talk) -> Result<(), Failure> {
    let key = key(&args.key)?;
    let node = args.node.open(talk).await?;
    match node.ask([Bytes::from_static(b"UNPUBLISH"), key.clone()]).await? {
        Answer::Done => {}
        Answer::None(_) => return Err(no_such_key(&key)),
        other => return Err(node.unexpected(&other)),
    }
    match talk.json {
        true => printed(talk.data(json!({ "ok": true, "key": json_frame(&key) }))).map(drop),
        false => Ok(()),
    }
}

/// A node reads nothing that is much larger than the largest value: it hangs up, and doesn't say why
fn hung_up(failure: Failure, octets: usize) -> Failure {
    match failure.code {
        "lost" if octets > USUAL_MOST => {
            Failure::new(Exit::Refused, "too-large", format!("the node hung up on a value of {octets} octets"))
                .hint("`gossip.max-value` of the node allows no more, 4MiB unless it is configured")
        }
        _ => failure,
    }
}

fn done(node: &Node, answer: &Answer) -> Result<(), Failure> {
    match answer {
        Answer::Done => Ok(()),
        other => Err(node.unexpected(other)),
    }
}

/// A key as it was typed
///
/// # Errors
/// It is none.
pub(super) fn key(text: &str) -> Result<Bytes, Failure> {
    match text.len() {
        0 => Err(Failure::usage("the key is empty").hint("write a name, such as config/rate")),
        1..=LONGEST_KEY => Ok(Bytes::copy_from_slice(text.as_bytes())),
        len => Err(Failure::usage(format!("the key has {len} octets, of at most {LONGEST_KEY}"))),
    }
}

pub(super) fn no_such_key(key: &Bytes) -> Failure {
    Failure::new(Exit::Negative, "no-such-key", format!("'{}' has no value", escape(key)))
        .hint("`tidings gossip ls` lists the keys that have")
}

fn value(args: &PutArgs) -> Result<Bytes, Failure> {
    match &args.value {
        Some(text) => {
            let syntax = FrameSyntax { hex: args.hex, no_template: true, ..FrameSyntax::default() };
            Ok(syntax.argument(0, text)?.fill(0))
        }
        None => {
            let mut octets = Vec::new();
            let read = std::io::stdin().take(MOST_STDIN + 1).read_to_end(&mut octets);
            read.map_err(|error| Failure::usage(format!("can't read stdin: {error}")))?;
            if octets.len() as u64 > MOST_STDIN {
                return Err(Failure::usage(format!("stdin has more than {} MiB", MOST_STDIN >> 20)));
            }
            Ok(octets.into())
        }
    }
}

/// ZGP's string
const LONGEST_KEY: usize = 255;

/// ZGP's ttl has four octets of milliseconds
const LONGEST: Duration = Duration::from_secs(49 * 86_400);

/// More than any node takes
const MOST_STDIN: u64 = 256 << 20;

/// What `gossip.max-value` is where nobody set it
const USUAL_MOST: usize = 4 << 20;

/// The time to live of what is held
const HELD: Duration = Duration::from_secs(10);

const LAST_ANSWER: Duration = Duration::from_secs(2);

pub(super) const PUT: &str = "\
Examples:
  tidings gossip put config/rate 10
  tidings gossip put config/motd @/etc/motd
  tidings gossip put here/$HOSTNAME up --ttl 30s     ends by itself
  tidings gossip put job/42 running --hold           as long as this command runs
  tidings gossip put endpoint/db/$HOSTNAME tcp://192.0.2.7:5432 --session";

pub(super) const RM: &str = "\
Examples:
  tidings gossip rm config/rate";

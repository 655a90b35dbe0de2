//! `tidings event`: publish and print events through the forwarder that `tidings serve` hosts.
//!
//! An event is a message of two frames or more: the topic, then the content. Who publishes does so
//! with an XPUB socket: it sees the subscriptions that the forwarder passes upstream, and so knows
//! whether anybody listens, where a PUB socket would have to sleep and hope.

mod domogik;

use std::time::Duration;

use clap::{Args, Subcommand};
use tidings::{Message, SocketType};
use tokio::time::Instant;

use super::frames::{FirstFrame, FrameSyntax};
use super::output::Output;
use super::security::SecurityArgs;
use super::sock::{Opening, Outgoing, Pace, SendingArgs, Session, SocketArgs, Tally, block_on, receive_with};
use super::units;
use super::{Exit, Failure, Talk};
use crate::discovery::DiscoveryArgs;

/// The verbs
#[derive(Debug, Subcommand)]
pub(crate) enum Event {
    /// Publish an event
    #[command(after_help = PUB)]
    Pub(PublishArgs),
    /// Print events as they come
    #[command(after_help = SUB)]
    Sub(SubscribeArgs),
}

/// What `event pub` is given
#[derive(Args, Debug)]
pub(crate) struct PublishArgs {
    /// The topic, by whose beginning subscribers choose; with --domogik the category
    topic: String,
    /// In Domogik's form: the topic gets timestamp and version, and the one frame is JSON ({} if not given)
    #[arg(long, conflicts_with_all = ["hex", "delimiter"])]
    domogik: bool,
    #[command(flatten)]
    sending: SendingArgs,
    /// Where the forwarder takes events in, or gossip:NAME, wherever that is announced to be; repeatable
    #[arg(
        long,
        short,
        value_name = "ENDPOINT",
        env = "TIDINGS_EVENTS_IN",
        value_delimiter = ',',
        default_value = "tcp://127.0.0.1:4831"
    )]
    endpoint: Vec<String>,
    /// Publish N events
    #[arg(long, short = 'n', value_name = "N")]
    count: Option<u64>,
    /// Wait until N forwarders or direct subscribers have asked for the topic; a forwarder counts
    /// as one, however many stand behind it
    #[arg(long, value_name = "N", default_value_t = 0)]
    wait_subs: usize,
    /// If nobody subscribes to the topic, end with exit code 1
    #[arg(long)]
    require_subscriber: bool,
    /// Longest wait for the connection, and for --wait-subs
    #[arg(long, value_name = "DURATION", value_parser = units::duration, default_value = "5s")]
    timeout: Duration,
    /// At the end, longest wait for what was sent to leave; then the exit code is 6
    #[arg(long, value_name = "DURATION", value_parser = units::duration, default_value = "5s")]
    linger: Duration,
    /// Set a socket option; repeatable
    #[arg(long = "option", short, value_name = "NAME=VALUE")]
    options: Vec<String>,
    /// With --stdin, what separates the frames of one line
    #[arg(long, short, value_name = "TEXT")]
    delimiter: Option<String>,
    /// Say on stderr what happens to connections; JSON lines with --json
    #[arg(long)]
    events: bool,
    #[command(flatten)]
    discovery: DiscoveryArgs,
    #[command(flatten)]
    security: SecurityArgs,
}

/// What `event sub` is given
#[derive(Args, Debug)]
pub(crate) struct SubscribeArgs {
    /// Events whose topic begins with TOPIC; all if none is given
    #[arg(value_name = "TOPIC")]
    topics: Vec<String>,
    /// Where the forwarder gives events out, or gossip:NAME, wherever that is announced to be; repeatable
    #[arg(
        long,
        short,
        value_name = "ENDPOINT",
        env = "TIDINGS_EVENTS_OUT",
        value_delimiter = ',',
        default_value = "tcp://127.0.0.1:4832"
    )]
    endpoint: Vec<String>,
    /// End after N events
    #[arg(long, short = 'n', value_name = "N")]
    count: Option<u64>,
    /// Longest wait for the next event; then the exit code is 5
    #[arg(long, value_name = "DURATION", value_parser = units::duration)]
    timeout: Option<Duration>,
    /// End after DURATION, whatever came until then
    #[arg(long = "for", value_name = "DURATION", value_parser = units::duration)]
    run_for: Option<Duration>,
    /// In Domogik's form: category and JSON content; other messages are passed over and counted
    #[arg(long, conflicts_with_all = ["output", "delimiter"])]
    domogik: bool,
    /// How events are printed; --json is --output json
    #[arg(long, value_enum, value_name = "FORM")]
    output: Option<Output>,
    /// What separates frames in the output (default: a space); \t is a tab
    #[arg(long, short, value_name = "TEXT")]
    delimiter: Option<String>,
    /// Set a socket option; repeatable
    #[arg(long = "option", short, value_name = "NAME=VALUE")]
    options: Vec<String>,
    /// Say on stderr what happens to connections; JSON lines with --json
    #[arg(long)]
    events: bool,
    #[command(flatten)]
    discovery: DiscoveryArgs,
    #[command(flatten)]
    security: SecurityArgs,
}

/// Does what an `event` command says
///
/// # Errors
/// With the exit code that fits.
pub(crate) fn run(event: Event, talk: Talk) -> Result<(), Failure> {
    block_on(async {
        match event {
            Event::Pub(args) => publish(args, talk).await,
            Event::Sub(args) => subscribe(args, talk).await,
        }
    })
}

async fn publish(mut args: PublishArgs, talk: Talk) -> Result<(), Failure> {
    let topic = if args.domogik { domogik::topic(&args.topic)? } else { args.topic.clone() };
    if args.sending.frames.is_empty() && args.sending.file.is_empty() && !args.sending.stdin {
        // An event without content is still two frames, so that subscribers need not count
        args.sending.frames.push(if args.domogik { "{}".to_owned() } else { String::new() });
    }
    let pace: Pace = args.sending.pace(args.count);
    let syntax = FrameSyntax {
        hex: args.sending.hex,
        no_template: args.sending.no_template,
        delimiter: args.delimiter.clone(),
        first: FirstFrame::Plain,
    };
    let outgoing = Outgoing::new(&args.sending, syntax, pace)?;
    let mut outgoing = match args.domogik {
        true => {
            let category = args.topic.clone();
            outgoing.shaped(move |content| domogik::event(&category, content))?
        }
        false => outgoing.below(topic.clone().into()),
    };
    let socket_args = SocketArgs {
        connect: args.endpoint.clone(),
        options: args.options.clone(),
        wait_peers: 0,
        timeout: Some(args.timeout),
        linger: args.linger,
        events: args.events,
        discovery: args.discovery.clone(),
        security: args.security.clone(),
        ..SocketArgs::default()
    };
    let session = Session::open(Opening::new(SocketType::Xpub, &socket_args).waiting_flag("--wait-subs"), talk).await?;
    let listened = session.watch.first_handshake();
    if session.attend("connection to the forwarder", Some(args.timeout), listened).await?.is_none() {
        let stopped = Some(session.stop.stopped().await);
        return session.finish_sending(Ok(Tally { stopped, wanted: outgoing.count(), ..Tally::default() })).await;
    }
    let subscribers = listeners(&session, topic.as_bytes(), &args).await?;
    if subscribers == 0 {
        let nobody = format!("nobody subscribes to '{}'", args.topic);
        if args.require_subscriber {
            return Err(
                Failure::new(Exit::Negative, "no-subscriber", nobody).hint("--wait-subs 1 waits for a subscriber")
            );
        }
        talk.say(nobody);
    }
    let done = tokio::select! {
        biased;
        done = session.send_all(&mut outgoing) => done,
        failure = read_on(&session) => Err(failure),
    };
    session.finish_sending(done).await
}

/// Takes further subscriptions off the queue: left there, they would fill it, reading would pause
/// (RFC 29 has XPUB hand them to the application), and later subscribers would get nothing
async fn read_on(session: &Session) -> Failure {
    loop {
        if let Err(error) = session.socket.recv().await {
            return Failure::new(Exit::Partial, "receive", error);
        }
    }
}

/// Counts those who asked for the topic: until `--wait-subs` have, or, without it, for a moment
async fn listeners(session: &Session, topic: &[u8], args: &PublishArgs) -> Result<usize, Failure> {
    let wanted = args.wait_subs.max(1);
    let limit = if args.wait_subs > 0 { args.timeout } else { GRACE.min(args.timeout) };
    let deadline = Instant::now() + limit;
    let mut found = 0;
    while found < wanted {
        let subscription = tokio::select! {
            biased;
            subscription = session.socket.recv() => subscription,
            _ = session.stop.stopped() => {
                return Err(Failure::new(Exit::Partial, "stopped", "stopped while waiting for subscribers"));
            }
            () = tokio::time::sleep_until(deadline) => break,
        };
        let subscription = subscription.map_err(|error| Failure::new(Exit::Partial, "receive", error))?;
        found = found.saturating_add_signed(asks_for(&subscription, topic));
    }
    if found < args.wait_subs {
        let text = format!(
            "{found} of {} subscribed to '{}' within {}",
            args.wait_subs,
            args.topic,
            units::display_duration(limit)
        );
        return Err(Failure::new(Exit::Deadline, "deadline", text).hint("--timeout DURATION waits longer"));
    }
    Ok(found)
}

/// 1 for a subscription that matches the topic, -1 for its end, else 0 (RFC 29, "XPUB": the first
/// octet of the message is 1 or 0, the rest is the beginning of the topics)
fn asks_for(message: &Message, topic: &[u8]) -> isize {
    match message.first().split_first() {
        Some((1, prefix)) if topic.starts_with(prefix) => 1,
        Some((0, prefix)) if topic.starts_with(prefix) => -1,
        _ => 0,
    }
}

async fn subscribe(args: SubscribeArgs, talk: Talk) -> Result<(), Failure> {
    let everything = vec![String::new()];
    let topics = if args.topics.is_empty() { everything } else { args.topics };
    let socket_args = SocketArgs {
        connect: args.endpoint,
        options: args.options,
        count: args.count,
        timeout: args.timeout,
        run_for: args.run_for,
        delimiter: args.delimiter,
        events: args.events,
        discovery: args.discovery.clone(),
        security: args.security.clone(),
        ..SocketArgs::default()
    };
    if args.domogik {
        let session = Session::open(Opening::new(SocketType::Sub, &socket_args).topics(&topics), talk).await?;
        let done = domogik::print(&session, args.count).await;
        return session.finish(done).await;
    }
    receive_with(SocketType::Sub, &socket_args, args.output, &topics, talk).await
}

/// How long a publisher looks for subscriptions that nobody promised: the forwarder sends those it
/// knows right behind its handshake, so this only has to cover a round trip on a busy machine
const GRACE: Duration = Duration::from_millis(300);

/// Examples of the noun
pub(crate) const EXAMPLES: &str = "\
Examples:
  tidings event sub                               print all events
  tidings event pub weather 'rain, 12 degrees'    publish one";

const PUB: &str = "\
Examples:
  tidings event pub weather 'rain, 12 degrees'
  tidings event pub deploy done --require-subscriber     exit code 1 if nobody listens
  tidings event pub clock '{{time}}' --interval 1s
  tidings event pub --domogik device.update '{\"id\": 1}'  as Domogik's programs expect it
  tail -f app.log | tidings event pub log --stdin";

const SUB: &str = "\
Examples:
  tidings event sub
  tidings event sub weather clock
  tidings event sub deploy --count 1 --timeout 10m && echo deployed
  tidings event sub --domogik device                     Domogik's events: category and content
  tidings event sub --json | jq .frames";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn subscriptions_match_by_their_beginning() {
        for (frame, expected) in [
            (&b"\x01wea"[..], 1),
            (b"\x01", 1),
            (b"\x00weather", -1),
            (b"\x01weather!", 0),
            (b"\x02weather", 0),
            (b"", 0),
        ] {
            assert_eq!(asks_for(&Message::copy_from(frame), b"weather"), expected, "{frame:?}");
        }
    }
}

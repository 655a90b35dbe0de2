//! `sock proxy`: pass messages between two sockets, steered while it runs.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use serde_json::json;
use tidings::{Context, Flow, Options, Proxy, ProxyHandle, ProxyState, ProxyStatistics, Socket, SocketType};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::task::JoinSet;

use super::session::{Attaching, NAME_LIMIT, set_options};
use super::stop::Stop;
use super::watch::Watch;
use crate::cli::input::Lines;
use crate::cli::security::{Security, SecurityArgs};
use crate::cli::units;
use crate::cli::{Exit, Failure, Talk, nearest, printed};
use crate::discovery::DiscoveryArgs;

/// What `sock proxy` is given
#[derive(Args, Debug)]
pub(crate) struct ProxyArgs {
    /// The side where clients, publishers or pushers are: TYPE@ENDPOINT listens, TYPE+ENDPOINT
    /// connects; more endpoints follow after commas, each with its @ or +
    #[arg(value_name = "FRONTEND")]
    frontend: String,
    /// The side where workers, subscribers or pullers are, in the same form
    #[arg(value_name = "BACKEND")]
    backend: String,
    /// Send a copy of every message to this socket (PUSH, PUB, DEALER or PAIR), in the same form
    #[arg(long, value_name = "SOCKET")]
    capture: Option<String>,
    /// Set an option of the frontend; repeatable
    #[arg(long, value_name = "NAME=VALUE")]
    frontend_option: Vec<String>,
    /// Set an option of the backend; repeatable
    #[arg(long, value_name = "NAME=VALUE")]
    backend_option: Vec<String>,
    /// Encrypt and authenticate the frontend with the keys in DIRECTORY, which `tidings key` makes
    #[arg(long, value_name = "DIRECTORY")]
    frontend_keys: Option<PathBuf>,
    /// The same for the backend
    #[arg(long, value_name = "DIRECTORY")]
    backend_keys: Option<PathBuf>,
    /// Print statistics this often, one line each
    #[arg(long, value_name = "DURATION", value_parser = units::duration)]
    stats: Option<Duration>,
    /// Read commands from stdin: pause, resume, stats, terminate
    #[arg(long)]
    steer: bool,
    /// Say on stderr what happens to connections; JSON lines with --json
    #[arg(long)]
    events: bool,
    /// End after DURATION
    #[arg(long = "for", value_name = "DURATION", value_parser = units::duration)]
    run_for: Option<Duration>,
    /// At the end, longest wait for queued messages to leave; then the exit code is 6
    #[arg(long, value_name = "DURATION", value_parser = units::duration, default_value = "5s")]
    linger: Duration,
    #[command(flatten)]
    discovery: DiscoveryArgs,
}

/// How a side's socket is opened
struct Terms<'a> {
    options: &'a [String],
    security: &'a Security,
    discovery: &'a DiscoveryArgs,
    linger: Duration,
    talk: Talk,
}

/// A side of the proxy as it is written: `xsub@tcp://127.0.0.1:5556,+tcp://127.0.0.1:5557`
#[derive(Clone, Debug, Eq, PartialEq)]
struct Side {
    socket_type: SocketType,
    bind: Vec<String>,
    connect: Vec<String>,
}

/// Runs the proxy until it is terminated
///
/// # Errors
/// Sides that are none or do not fit together (2), endpoints that can't be listened on (3),
/// messages that could not be delivered at the end (6).
pub(crate) async fn run(args: ProxyArgs, talk: Talk) -> Result<(), Failure> {
    let frontend = Side::parse(&args.frontend)?;
    let backend = Side::parse(&args.backend)?;
    let capture = args.capture.as_deref().map(Side::parse).transpose()?;
    let stop = Stop::listen(args.run_for)?;
    let mut steering = Steering::new(args.steer)?;
    // A context each: who is let in on one side need not be on the other
    let contexts = [Context::new(), Context::new()];
    contexts.iter().for_each(|context| drop(Watch::start(context, args.events, false, talk)));
    let keys = |keys: Option<PathBuf>| SecurityArgs { keys, ..SecurityArgs::default() }.read();
    let (frontend_keys, backend_keys) = (keys(args.frontend_keys)?, keys(args.backend_keys)?);
    let terms = |options, security| Terms { options, security, discovery: &args.discovery, linger: args.linger, talk };
    let opened = async {
        let (frontend, front_movers) =
            frontend.open(&contexts[0], &terms(&args.frontend_option, &frontend_keys)).await?;
        let (backend, back_movers) = backend.open(&contexts[1], &terms(&args.backend_option, &backend_keys)).await?;
        let capture = match capture {
            Some(capture) => Some(capture.open(&contexts[1], &terms(&[], &Security::None)).await?),
            None => None,
        };
        Ok::<_, Failure>((frontend, backend, capture, (front_movers, back_movers)))
    };
    let (frontend, backend, capture, _movers) = tokio::select! {
        biased;
        opened = opened => opened?,
        _ = stop.stopped() => return Err(Failure::new(Exit::Partial, "stopped", "stopped while looking for a peer")),
    };
    let sides = [frontend.clone(), backend.clone()];
    let mut proxy = Proxy::new(frontend, backend);
    let mut _capture_movers = None;
    if let Some((capture, movers)) = capture {
        proxy = proxy.capture(capture);
        _capture_movers = Some(movers);
    }
    subscribe_for(&sides)?;
    let handle = proxy.spawn().map_err(|error| Failure::new(Exit::Usage, "proxy", error))?;
    talk.say("running: SIGUSR1 pauses and resumes, SIGUSR2 prints statistics, SIGTERM ends");
    let steered = steering.steer(args.stats, &handle, &stop, talk).await;
    handle.terminate();
    let statistics = handle.join().await;
    let closing = async { tokio::join!(contexts[0].close(args.linger), contexts[1].close(args.linger)) };
    let report = tokio::select! {
        report = closing => Some(report),
        _ = stop.abandoned() => None,
    };
    steered?;
    print_statistics(&statistics, talk)?;
    match report {
        Some((front, back)) if front.is_complete() && back.is_complete() => Ok(()),
        _ => Err(Failure::new(Exit::Partial, "undelivered", "not every message could be delivered before the end")
            .hint("--linger DURATION waits longer")),
    }
}

/// Subscribes to everything where no subscription could come from the other side, and nothing would ever pass
fn subscribe_for([frontend, backend]: &[Socket; 2]) -> Result<(), Failure> {
    for (side, other) in [(frontend, backend), (backend, frontend)] {
        let alone = match side.socket_type() {
            SocketType::Sub => true,
            // An XSUB sends what the other side receives; a PUB or PUSH receives nothing
            SocketType::Xsub => matches!(other.socket_type(), SocketType::Pub | SocketType::Push),
            _ => false,
        };
        if alone {
            side.subscribe("").map_err(Failure::usage)?;
        }
    }
    Ok(())
}

/// Where commands come from while the proxy runs; ready before anybody is told of them
struct Steering {
    toggle: Signal,
    show: Signal,
    lines: Option<Lines>,
}

impl Steering {
    fn new(read_stdin: bool) -> Result<Self, Failure> {
        let lines = match read_stdin {
            true => Some(Lines::of_stdin().map_err(|error| Failure::new(Exit::Usage, "system", error))?),
            false => None,
        };
        Ok(Self { toggle: listen(SignalKind::user_defined1())?, show: listen(SignalKind::user_defined2())?, lines })
    }

    /// Obeys until the end is asked for
    async fn steer(
        &mut self,
        stats: Option<Duration>,
        handle: &ProxyHandle,
        stop: &Stop,
        talk: Talk,
    ) -> Result<(), Failure> {
        let mut ticks = stats.map(|every| {
            let every = every.max(Duration::from_millis(1));
            tokio::time::interval_at(tokio::time::Instant::now() + every, every)
        });
        loop {
            let tick = async {
                match &mut ticks {
                    Some(ticks) => ticks.tick().await,
                    None => std::future::pending().await,
                }
            };
            let line = async {
                match &mut self.lines {
                    Some(lines) => lines.next().await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                _ = stop.stopped() => return Ok(()),
                _ = self.toggle.recv() => match handle.statistics().state {
                    ProxyState::Paused => resume(handle, talk),
                    _ => pause(handle, talk),
                },
                _ = self.show.recv() => print_statistics(&handle.statistics(), talk)?,
                _ = tick => print_statistics(&handle.statistics(), talk)?,
                line = line => match line {
                    Some(Ok(line)) => match String::from_utf8_lossy(&line).trim() {
                        "pause" => pause(handle, talk),
                        "resume" => resume(handle, talk),
                        "stats" => print_statistics(&handle.statistics(), talk)?,
                        "terminate" => return Ok(()),
                        "" => {}
                        unknown => talk.say(unknown_command(unknown)),
                    },
                    // Whoever steered has gone; the proxy goes on until a signal
                    Some(Err(_)) | None => self.lines = None,
                },
            }
        }
    }
}

fn pause(handle: &ProxyHandle, talk: Talk) {
    handle.pause();
    talk.say("paused");
}

fn resume(handle: &ProxyHandle, talk: Talk) {
    handle.resume();
    talk.say("resumed");
}

fn unknown_command(word: &str) -> String {
    const COMMANDS: [&str; 4] = ["pause", "resume", "stats", "terminate"];
    match nearest(word, COMMANDS) {
        Some(near) => format!("there is no command '{word}'; did you mean '{near}'?"),
        None => format!("there is no command '{word}'; there are {}", COMMANDS.join(", ")),
    }
}

fn print_statistics(statistics: &ProxyStatistics, talk: Talk) -> Result<(), Failure> {
    let state = match statistics.state {
        ProxyState::Running => "running",
        ProxyState::Paused => "paused",
        _ => "terminated",
    };
    let flow = |flow: &Flow| json!({ "messages": flow.messages, "octets": flow.octets, "refused": flow.refused });
    let (forward, back) = (&statistics.forward, &statistics.back);
    let line = match talk.json {
        true => json!({
            "state": state, "forward": flow(forward), "back": flow(back), "uncaptured": statistics.uncaptured,
        })
        .to_string(),
        false => format!(
            "{state}: to the backend {} messages, {} octets, {} refused; to the frontend {}, {}, {}",
            forward.messages, forward.octets, forward.refused, back.messages, back.octets, back.refused,
        ),
    };
    printed(talk.data(line)).map(|_| ())
}

fn listen(kind: SignalKind) -> Result<Signal, Failure> {
    signal(kind).map_err(|error| Failure::new(Exit::Usage, "system", format!("can't receive signals: {error}")))
}

impl Side {
    fn parse(text: &str) -> Result<Self, Failure> {
        let wrong = |what: String| {
            Failure::usage(format!("'{text}' is not a socket: {what}"))
                .hint("write TYPE@ENDPOINT to listen or TYPE+ENDPOINT to connect, such as xsub@tcp://127.0.0.1:5556")
        };
        let split = text.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(text.len());
        let (name, mut rest) = text.split_at(split);
        let socket_type = TYPES.into_iter().find(|known| known.name().eq_ignore_ascii_case(name)).ok_or_else(|| {
            match nearest(name, TYPES.iter().map(|known| known.name())) {
                Some(near) => wrong(format!("there is no type '{name}'; did you mean '{}'?", near.to_lowercase())),
                None => wrong(format!("there is no type '{name}'")),
            }
        })?;
        let mut side = Self { socket_type, bind: Vec::new(), connect: Vec::new() };
        while !rest.is_empty() {
            // A comma ends an endpoint only before the sign of the next one: paths may have commas
            let end = [",@", ",+", ",>"].iter().filter_map(|sign| rest.find(sign)).min().unwrap_or(rest.len());
            let (item, after) = rest.split_at(end);
            rest = after.strip_prefix(',').unwrap_or(after);
            if let Some(endpoint) = item.strip_prefix('@') {
                side.bind.push(endpoint.to_owned());
            } else if let Some(endpoint) = item.strip_prefix(['+', '>']) {
                side.connect.push(endpoint.to_owned());
            } else {
                return Err(wrong(format!("'{item}' begins with neither @ nor +")));
            }
        }
        if side.bind.is_empty() && side.connect.is_empty() {
            return Err(wrong("it names no endpoint".to_owned()));
        }
        Ok(side)
    }

    /// Opens the socket; its connections by name move as long as the set is there
    async fn open(&self, context: &Context, terms: &Terms<'_>) -> Result<(Socket, JoinSet<()>), Failure> {
        if let Some(authenticator) = terms.security.authenticator() {
            context.set_authenticator(Some(authenticator));
        }
        let mut settings = Options::of(self.socket_type).linger(Some(terms.linger));
        set_options(&mut settings, terms.options)?;
        let socket = context
            .socket_with(self.socket_type, settings)
            .map_err(|error| Failure::new(Exit::Usage, "socket", error))?;
        let attaching = Attaching {
            bind: &self.bind,
            connect: &self.connect,
            security: terms.security,
            discovery: terms.discovery,
        };
        let (_, movers) = attaching.attach(&socket, NAME_LIMIT, terms.talk).await?;
        Ok((socket, movers))
    }
}

const TYPES: [SocketType; 12] = [
    SocketType::Req,
    SocketType::Rep,
    SocketType::Dealer,
    SocketType::Router,
    SocketType::Pub,
    SocketType::Sub,
    SocketType::Xpub,
    SocketType::Xsub,
    SocketType::Push,
    SocketType::Pull,
    SocketType::Pair,
    SocketType::Stream,
];

/// Examples of the command
pub(crate) const EXAMPLES: &str = "\
Examples:
  tidings sock proxy xsub@tcp://127.0.0.1:5556 xpub@tcp://127.0.0.1:5557      events
  tidings sock proxy router@tcp://127.0.0.1:5555 dealer@ipc:///run/workers    requests
  tidings sock proxy pull@tcp://127.0.0.1:5558 push+tcp://127.0.0.1:5559 --stats 1s
  echo pause | tidings sock proxy xsub@tcp://127.0.0.1:5556 xpub@tcp://127.0.0.1:5557 --steer";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_sides() {
        let side = Side::parse("xsub@tcp://127.0.0.1:1,+tcp://127.0.0.1:2,@ipc://a,b").unwrap();
        assert_eq!(side.socket_type, SocketType::Xsub);
        assert_eq!(side.bind, ["tcp://127.0.0.1:1", "ipc://a,b"]);
        assert_eq!(side.connect, ["tcp://127.0.0.1:2"]);
    }

    #[test]
    fn refuses_what_is_no_side() {
        for (text, said) in [
            ("xsubb@tcp://a:1", "did you mean 'xsub'?"),
            ("xsub", "names no endpoint"),
            ("xsub=tcp://a:1", "neither @ nor +"),
        ] {
            let failure = Side::parse(text).unwrap_err();
            assert!(failure.message.contains(said), "{failure}");
        }
    }
}

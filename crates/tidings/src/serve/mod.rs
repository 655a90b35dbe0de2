//! `tidings serve`: the daemon. It hosts the service broker, the event forwarder, a gossip node, and a page that tells how
//! they are doing.

mod access;
mod connections;
mod descriptors;
mod durable;
mod forwarder;
mod gossip;
mod http;
mod keys;
mod lifecycle;
mod log;
mod metrics;
mod notify;
mod reload;
mod services;
mod side;
mod status;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::Args;
use serde_json::json;
use tidings::Context;
use tokio::signal::unix::{Signal, SignalKind, signal};

use self::forwarder::Forwarder;
use self::gossip::{GossipNode, Served};
use self::http::Page;
use self::keys::{NodeKeys, WARN_AGAIN};
use self::lifecycle::Lifecycle;
use self::log::LogControl;
use self::services::Services;
use self::status::{Health, State};
use crate::cli::{Exit, Failure, Talk};
use crate::config::{LogFormat, LogLevel, Settings, Sources};

/// Host the service broker, the event forwarder, a gossip node, and a page with health and metrics
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct ServeArgs {
    /// The configuration; without it everything listens on loopback with its defaults
    #[arg(long, short, value_name = "FILE", env = "TIDINGS_CONFIG")]
    config: Option<PathBuf>,
    /// Where clients and workers of services connect (service.listen); repeatable
    #[arg(long, value_name = "ENDPOINT")]
    service: Vec<String>,
    /// Where durable requests are kept (store.directory)
    #[arg(long, value_name = "DIRECTORY")]
    store: Option<PathBuf>,
    /// Where publishers connect (events.in); repeatable
    #[arg(long, value_name = "ENDPOINT")]
    events_in: Vec<String>,
    /// Where subscribers connect (events.out); repeatable
    #[arg(long, value_name = "ENDPOINT")]
    events_out: Vec<String>,
    /// Where gossip nodes and `tidings gossip` connect (gossip.listen); repeatable
    #[arg(long, value_name = "ENDPOINT")]
    gossip: Vec<String>,
    /// A gossip node to connect to, whose network this one joins (gossip.connect); repeatable
    #[arg(long, value_name = "ENDPOINT")]
    join: Vec<String>,
    /// What the gossip node is called (gossip.name); the host's name if not given
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// Have others find what is served here as gossip:NAME (gossip.announce)
    #[arg(long)]
    announce: bool,
    /// Where the page listens (http.listen)
    #[arg(long, value_name = "ADDRESS")]
    http: Option<String>,
    /// The keystore that `tidings key` makes (security.keys): listeners beyond this host take CURVE with it
    #[arg(long, value_name = "DIRECTORY")]
    keys: Option<PathBuf>,
    /// How much is logged (log.level)
    #[arg(long, value_enum, value_name = "LEVEL")]
    log_level: Option<LogLevel>,
    /// How log lines look (log.format)
    #[arg(long, value_enum, value_name = "FORMAT")]
    log_format: Option<LogFormat>,
    /// Set any key of the configuration; `tidings check --print` lists them; repeatable
    #[arg(long = "set", value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// Write a line end to this pipe when everything listens, as s6 and scripts like it
    #[arg(long, value_name = "FD")]
    ready_fd: Option<u32>,
}

/// `tidings serve`
///
/// # Errors
/// A wrong configuration (2), or what can't be listened on (3).
pub(crate) fn run(args: ServeArgs, talk: Talk) -> Result<(), Failure> {
    let sources = sources(&args)?;
    let settings = sources.load()?;
    let log = LogControl::start(settings.log_level.value, settings.log_format.value, talk);
    descriptors::raise();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::new(Exit::Usage, "system", format!("can't start: {error}")))?;
    let served = runtime.block_on(serve(settings, &sources, args.ready_fd, &log, talk));
    runtime.shutdown_timeout(LAST_BREATH);
    served
}

fn sources(args: &ServeArgs) -> Result<Sources, Failure> {
    let mut sources = Sources::new(args.config.clone());
    if !args.service.is_empty() {
        sources.flag("--service", "service.listen", args.service.join(","));
    }
    if let Some(directory) = &args.store {
        sources.flag("--store", "store.directory", directory.display().to_string());
    }
    if !args.events_in.is_empty() {
        sources.flag("--events-in", "events.in", args.events_in.join(","));
    }
    if !args.events_out.is_empty() {
        sources.flag("--events-out", "events.out", args.events_out.join(","));
    }
    if !args.gossip.is_empty() {
        sources.flag("--gossip", "gossip.listen", args.gossip.join(","));
    }
    if !args.join.is_empty() {
        sources.flag("--join", "gossip.connect", args.join.join(","));
    }
    if let Some(name) = &args.name {
        sources.flag("--name", "gossip.name", name);
    }
    if args.announce {
        sources.flag("--announce", "gossip.announce", "true");
    }
    if let Some(address) = &args.http {
        sources.flag("--http", "http.listen", address);
    }
    if let Some(directory) = &args.keys {
        sources.flag("--keys", "security.keys", directory.display().to_string());
    }
    if let Some(level) = args.log_level {
        sources.flag("--log-level", "log.level", level.word());
    }
    if let Some(format) = args.log_format {
        sources.flag("--log-format", "log.format", format.to_string());
    }
    for text in &args.set {
        let (key, value) = text.split_once('=').ok_or_else(|| {
            Failure::usage(format!("'{text}' sets nothing"))
                .hint("write --set KEY=VALUE, such as --set events.send-hwm=5000")
        })?;
        sources.flag("--set", key.trim(), value.trim());
    }
    Ok(sources)
}

async fn serve(
    settings: Settings,
    sources: &Sources,
    ready_fd: Option<u32>,
    log: &LogControl,
    talk: Talk,
) -> Result<(), Failure> {
    let mut signals = Signals::listen()?;
    settings.surprises().iter().for_each(|surprise| tracing::warn!("{surprise}"));
    let context = Context::new();
    let health = Arc::new(Health::new(Lifecycle::watch(&context)));
    let (keys, _watch) = NodeKeys::start(&context, &settings)?.unzip();
    if let Some(keys) = &keys {
        health.keeps(keys.clone());
    }
    // First, since the others look names up in it
    let gossip = match settings.gossip_enabled.value {
        true => Some(GossipNode::start(&context, &settings, keys.as_ref(), &health).await?),
        false => None,
    };
    let names = gossip.as_ref().map(GossipNode::gossip);
    let forwarder = match settings.events_enabled.value {
        true => Some(Forwarder::start(&context, &settings, keys.as_ref(), &health, names).await?),
        false => None,
    };
    let services = match settings.service_enabled.value {
        true => Some(Services::start(&context, &settings, keys.as_ref(), &health).await?),
        false => None,
    };
    let mut parts = Parts { forwarder, services, gossip };
    parts.announce(&settings).await;
    let page = match settings.http_enabled.value {
        true => Some(Page::start(settings.http_listen.value, Arc::clone(&health)).await?),
        false => None,
    };
    health.listens(&parts, page.as_ref());
    health.enter(State::Ready);
    announce(&health, settings.log_format.value, talk)?;
    notify::ready(ready_fd)?;

    let mut settings = settings;
    let mut warn_again = tokio::time::interval(WARN_AGAIN);
    // The first comes at once, and has been said
    warn_again.tick().await;
    loop {
        let ended = async {
            match &parts.forwarder {
                Some(forwarder) => forwarder.ended().await,
                None => std::future::pending().await,
            }
        };
        let broker_ended = async {
            match &parts.services {
                Some(services) => services.ended().await,
                None => std::future::pending().await,
            }
        };
        let node_ended = async {
            match &parts.gossip {
                Some(gossip) => gossip.ended().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            _ = signals.terminate.recv() => break,
            _ = signals.interrupt.recv() => break,
            _ = signals.hangup.recv() => {
                notify::reloading();
                let keys_good = keys.as_ref().is_none_or(NodeKeys::reload);
                let applied = reload::reload(&mut settings, sources, &mut parts, log).await && keys_good;
                parts.announce(&settings).await;
                health.reloaded(applied);
                health.listens(&parts, page.as_ref());
                notify::reloaded();
                tracing::info!(applied, "reload finished");
            }
            _ = warn_again.tick() => {
                if let Some(keys) = &keys {
                    keys.warn_of_ends();
                }
            }
            _ = signals.user.recv() => tracing::info!(status = %health.status().await, "state"),
            () = ended => return Err(ended_on_its_own(&health, "forwarder", "the event forwarder")),
            () = node_ended => return Err(ended_on_its_own(&health, "gossip", "the gossip node")),
            () = broker_ended => return Err(ended_on_its_own(&health, "broker", "the service broker")),
        }
    }
    drain(&context, parts, page, &health, settings.shutdown_deadline.value, talk).await
}

/// What others connect to
struct Parts {
    forwarder: Option<Forwarder>,
    services: Option<Services>,
    gossip: Option<GossipNode>,
}

impl Parts {
    /// Tells the gossip node what is served, and where
    async fn announce(&mut self, settings: &Settings) {
        let Some(gossip) = &mut self.gossip else { return };
        let services = self.services.iter().flat_map(Services::endpoints).cloned().collect();
        let events = |wanted: &str| {
            let all = self.forwarder.iter().flat_map(Forwarder::listeners);
            all.filter(|(name, _)| *name == wanted).map(|(_, endpoint)| endpoint.clone()).collect()
        };
        let served: Vec<Served> =
            vec![("services", services), ("events-in", events("events.in")), ("events-out", events("events.out"))];
        gossip.announce(settings, served).await;
    }
}

fn ended_on_its_own(health: &Health, code: &'static str, what: &str) -> Failure {
    health.enter(State::Draining);
    Failure::new(Exit::Partial, code, format!("{what} ended on its own"))
        .hint("this is a bug: please report it with the log")
}

/// Stops taking in, delivers what is queued within the deadline, and ends
async fn drain(
    context: &Context,
    parts: Parts,
    page: Option<Page>,
    health: &Health,
    deadline: Duration,
    talk: Talk,
) -> Result<(), Failure> {
    notify::stopping();
    health.enter(State::Draining);
    tracing::info!(deadline = ?deadline, "draining");
    let begun = Instant::now();
    let answering = async {
        match parts.services {
            Some(services) => services.stop(deadline).await,
            None => 0,
        }
    };
    let forwarding = async {
        if let Some(forwarder) = parts.forwarder {
            forwarder.stop().await;
        }
    };
    // At once, so that nobody new finds the way to what is about to end
    let leaving = async {
        if let Some(gossip) = parts.gossip {
            gossip.stop(deadline).await;
        }
    };
    // What is queued for subscribers leaves meanwhile
    let (unanswered, (), ()) = tokio::join!(answering, forwarding, leaving);
    let report = context.close(deadline.saturating_sub(begun.elapsed())).await;
    for unflushed in &report.unflushed {
        tracing::warn!(
            endpoint = %unflushed.endpoint, messages = unflushed.messages, octets = unflushed.octets,
            "not delivered before the deadline"
        );
    }
    if let Some(page) = page {
        page.stop().await;
    }
    if talk.json {
        let unflushed: u64 = report.unflushed.iter().map(|unflushed| unflushed.messages).sum();
        say_json(
            talk,
            &json!({ "ok": true, "event": "stopped", "flushed": report.flushed, "unflushed": unflushed, "unanswered": unanswered }),
        )?;
    }
    tracing::info!("ended");
    Ok(())
}

/// Says where everything listens, and how to try it
fn announce(health: &Health, format: LogFormat, talk: Talk) -> Result<(), Failure> {
    let listeners = health.listeners();
    if talk.json {
        let listeners: Vec<_> =
            listeners.iter().map(|listener| json!({ "name": listener.name, "endpoint": listener.endpoint })).collect();
        say_json(talk, &json!({ "ok": true, "event": "ready", "pid": std::process::id(), "listeners": listeners }))?;
    }
    if format == LogFormat::Json {
        for listener in &listeners {
            tracing::info!(name = listener.name, endpoint = %listener.endpoint, "listening");
        }
        tracing::info!(version = env!("CARGO_PKG_VERSION"), descriptors = descriptors::limit(), "ready");
        return Ok(());
    }
    talk.say(format_args!("tidings {} is ready", env!("CARGO_PKG_VERSION")));
    let width = listeners.iter().map(|listener| listener.endpoint.len()).max().unwrap_or_default();
    for listener in &listeners {
        talk.say(format_args!("  {:<11} {:<width$}  {}", listener.name, listener.endpoint, listener.purpose));
    }
    talk.say(format_args!(
        "  {:<11} {:<width$}  most files and connections at once",
        "descriptors",
        descriptors::limit()
    ));
    let of = |name| listeners.iter().find(|listener| listener.name == name).map(|listener| listener.endpoint.as_str());
    let flag = |endpoint: &str, usual: &str| match endpoint == usual {
        true => String::new(),
        false => format!(" --endpoint {endpoint}"),
    };
    if let Some(service) = of("service") {
        let flag = flag(service, "tcp://127.0.0.1:4830");
        talk.say("try, in two other shells:");
        talk.say(format_args!("  tidings svc work upper{flag} -- tr a-z A-Z"));
        talk.say(format_args!("  tidings svc call upper --raw hello{flag}"));
    }
    if let (Some(inlet), Some(outlet)) = (of("events.in"), of("events.out")) {
        talk.say(if of("service").is_some() { "or:" } else { "try, in two other shells:" });
        talk.say(format_args!("  tidings event sub{}", flag(outlet, "tcp://127.0.0.1:4832")));
        talk.say(format_args!("  tidings event pub hello world{}", flag(inlet, "tcp://127.0.0.1:4831")));
    }
    if let Some(gossip) = of("gossip") {
        let is_first = of("service").is_none() && of("events.in").is_none();
        talk.say(if is_first { "try, in another shell:" } else { "or:" });
        talk.say(format_args!("  tidings gossip put hello world{}", flag(gossip, "tcp://127.0.0.1:4833")));
    }
    Ok(())
}

fn say_json(talk: Talk, object: &serde_json::Value) -> Result<(), Failure> {
    match talk.data(object) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
            Err(Failure::new(Exit::Data, "output", format!("can't write to standard output: {error}")))
        }
        // A daemon outlives whoever read its first line
        _ => Ok(()),
    }
}

struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
    user: Signal,
}

impl Signals {
    fn listen() -> Result<Self, Failure> {
        let listen = |kind| {
            signal(kind).map_err(|error| Failure::new(Exit::Usage, "system", format!("can't receive signals: {error}")))
        };
        Ok(Self {
            terminate: listen(SignalKind::terminate())?,
            interrupt: listen(SignalKind::interrupt())?,
            hangup: listen(SignalKind::hangup())?,
            user: listen(SignalKind::user_defined1())?,
        })
    }
}

/// What is left running at the very end gets this long: nothing of worth is
const LAST_BREATH: Duration = Duration::from_millis(100);

const EXAMPLES: &str = "\
Examples:
  tidings serve                             services 4830, events 4831 and 4832, gossip 4833, page 4839
  tidings serve -c tidings.toml
  tidings serve --set events.send-hwm=5000 --log-format json
  tidings serve --join tcp://192.0.2.1:4833 --keys node-keys --announce    a node of a network
  tidings serve --keys hub-keys --events-in 'tcp://*:4831' --events-out 'tcp://*:4832'    with CURVE
  tidings serve --events-in 'tcp://127.0.0.1:*' --events-out 'tcp://127.0.0.1:*' --http 127.0.0.1:0 \\
    --service 'tcp://127.0.0.1:*' --gossip 'tcp://127.0.0.1:*'";

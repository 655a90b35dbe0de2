//! The task of an actor: takes commands in order, and follows its configuration's file.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use tidings_keystore::{Certificate, Property};
use tidings_socket::{CurvePublicKey, CurveSecretKey, Endpoint, Options};
use tokio::sync::mpsc;
use zeroize::Zeroize as _;

use super::configuration::Configuration;
use super::pipe::Pipe;
use crate::driver::text::{Command, error, message, shown, word};
use crate::driver::{ConnectOptions, Entry, Gossip, GossipBuilder, LinkError, reply};

pub(super) struct Engine {
    builder: GossipBuilder,
    prefix: String,
    pipe: Arc<Pipe>,
    /// None before a command needs it, so that its keys can be set first
    node: Option<Gossip>,
    /// Whether the node has had an endpoint: then it is what it is
    is_linked: bool,
    /// What PORT tells
    port: i32,
    security: Security,
    configuration: Configuration,
    /// What the configuration had bound
    bound: Vec<Endpoint>,
}

/// What holds for endpoints that are bound and connected from now on
#[derive(Debug, Default)]
struct Security {
    public_key: Option<CurvePublicKey>,
    secret_key: Option<CurveSecretKey>,
    zap_domain: Option<String>,
    is_plain: bool,
}

/// Whether an actor goes on
#[derive(PartialEq)]
enum Next {
    GoesOn,
    Ends,
}

impl Engine {
    pub(super) fn new(builder: GossipBuilder, prefix: String, pipe: Arc<Pipe>) -> Self {
        Self {
            builder,
            prefix,
            pipe,
            node: None,
            is_linked: false,
            port: 0,
            security: Security::default(),
            configuration: Configuration::default(),
            bound: Vec::new(),
        }
    }

    /// Until `$TERM`, or nobody can send commands any more
    pub(super) async fn run(mut self, mut commands: mpsc::Receiver<Vec<Bytes>>) {
        let mut look = tokio::time::interval(LOOK_EVERY);
        look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            let can_go_on = async {
                self.pipe.has_room().await;
                commands.recv().await
            };
            tokio::select! {
                biased;
                command = can_go_on => {
                    let Some(frames) = command else { break };
                    if self.handle(frames).await == Next::Ends {
                        break;
                    }
                }
                _ = look.tick() => self.follow().await,
            }
        }
        if let Some(node) = self.node.take() {
            node.stop(FAREWELL).await;
        }
        self.pipe.main().end();
    }

    async fn handle(&mut self, frames: Vec<Bytes>) -> Next {
        let words: Vec<&[u8]> = frames.iter().map(|frame| &frame[..]).collect();
        self.trace(words.first().copied().unwrap_or_default());
        match words[..] {
            [b"BIND", endpoint] => self.port = self.bind(&text(endpoint)).await,
            [b"PORT", ..] => self.reply([word("PORT"), Bytes::from(self.port.to_string())]),
            [b"CONNECT", endpoint] => self.connect(&text(endpoint), None),
            [b"CONNECT", endpoint, key, ..] => self.connect(&text(endpoint), Some(&text(key))),
            [b"PUBLISH", ..] => self.publish(&frames),
            [b"STATUS", ..] => self.count(),
            [b"SET", path, value, ..] => self.set(&text(path), &text(value)),
            [b"LOAD" | b"CONFIGURE", file, ..] => self.load(&text(file)).await,
            [b"SAVE", file, ..] => self.save(&text(file)),
            [b"VERBOSE", ..] => self.pipe.is_verbose.store(true, Ordering::Relaxed),
            [b"SET PUBLICKEY", key, ..] => match text(key).parse() {
                Ok(key) => self.security.public_key = Some(key),
                Err(why) => self.warn("SET PUBLICKEY", &why),
            },
            [b"SET SECRETKEY", key, ..] => {
                let key = std::str::from_utf8(key).unwrap_or_default().parse::<CurveSecretKey>();
                wipe(frames);
                match key {
                    Ok(key) => self.take_key(key).await,
                    Err(why) => self.warn("SET SECRETKEY", &why),
                }
            }
            [b"ZAP DOMAIN", domain, ..] => self.security.zap_domain = Some(text(domain)),
            [b"$TERM", ..] => return Next::Ends,
            [b"UNPUBLISH" | b"GET" | b"LIST" | b"WATCH" | b"PEERS" | b"MEMBERS" | b"GRAPH", ..] => self.answer(&frames),
            [
                b"BIND" | b"CONNECT" | b"SET" | b"LOAD" | b"CONFIGURE" | b"SAVE" | b"SET PUBLICKEY" | b"SET SECRETKEY"
                | b"ZAP DOMAIN",
                ..,
            ] => self.refuse("the command has too few frames, or too many", &frames),
            _ => self.refuse("there is no such command", &frames),
        }
        Next::GoesOn
    }

    // ---- Commands of the original ----

    /// Listens; what PORT tells of it
    async fn bind(&mut self, endpoint: &str) -> i32 {
        let Some(node) = self.linked() else { return FAILED };
        match node.bind_with(endpoint, self.security.of_bind()).await {
            Ok(actual) => port_of(&actual),
            Err(why) => {
                self.warn("BIND", &why);
                FAILED
            }
        }
    }

    fn connect(&mut self, endpoint: &str, server_key: Option<&str>) {
        let mut how = ConnectOptions::default();
        if let Some(key) = server_key.filter(|key| !key.is_empty()) {
            let key: CurvePublicKey = match key.parse() {
                Ok(key) => key,
                Err(why) => return self.warn("CONNECT: the server's key", &why),
            };
            how = how.server_key(key).options(self.security.of_connect());
        }
        let Some(node) = self.linked() else { return };
        match node.connect_with(endpoint, how) {
            Ok(_) => {}
            // The original says HELLO and all tuples again, is told INVALID, and says it once more; here all is known there
            Err(LinkError::Known(_)) => tracing::debug!(actor = %self.prefix, endpoint, "connected already"),
            Err(why) => self.warn("CONNECT", &why),
        }
    }

    fn publish(&mut self, frames: &[Bytes]) {
        let (key, value, lifetime) = match Command::parse(frames) {
            Ok(Command::Publish { key, value, lifetime }) => (key, value, lifetime),
            Ok(_) => return,
            Err(why) => return self.pipe.reply(error(why)),
        };
        let Some(node) = self.node() else { return };
        if let Err(why) = node.shared().with(|house, now| house.put(now, key, value, lifetime)) {
            self.warn("PUBLISH", &why);
            self.pipe.reply(error(why.to_string()));
        }
    }

    /// STATUS: what was delivered before comes before it
    fn count(&mut self) {
        let Some(node) = self.node() else { return };
        let pipe = self.pipe.clone();
        node.shared().with(|house, now| {
            house.tell(now);
            pipe.reply(message([word("STATUS"), Bytes::from(house.len().to_string())]));
        });
    }

    fn set(&mut self, path: &str, value: &str) {
        if let Err(why) = self.configuration.set(path, value) {
            return self.warn("SET", &why);
        }
        if path == "server/animate" {
            tracing::warn!(actor = %self.prefix, "'server/animate' is deprecated: send VERBOSE");
            self.pipe.is_verbose.store(value == "1", Ordering::Relaxed);
        }
        self.apply_globals();
    }

    async fn load(&mut self, file: &str) {
        if let Err(why) = self.configuration.load(Path::new(file)) {
            self.warn("LOAD", &why);
        }
        self.apply().await;
    }

    fn save(&mut self, file: &str) {
        if let Err(why) = self.configuration.save(Path::new(file)) {
            self.warn("SAVE", &why);
        }
    }

    /// The configuration's file is another
    async fn follow(&mut self) {
        match self.configuration.reload() {
            None => {}
            Some(Ok(())) => {
                let file = self.configuration.path().map(|path| path.display().to_string()).unwrap_or_default();
                tracing::info!(actor = %self.prefix, file, "the configuration was loaded again");
                self.apply().await;
            }
            Some(Err(why)) => self.warn("a changed configuration is not taken", &why),
        }
    }

    // ---- Configuration ----

    /// Does what the configuration says, in its order
    async fn apply(&mut self) {
        self.apply_globals();
        let sections: Vec<Property> = self.configuration.sections().to_vec();
        for section in &sections {
            let child = |name: &str| section.children.iter().find(|child| child.name == name).map(|child| &child.value);
            match &section.name[..] {
                "echo" => tracing::info!(actor = %self.prefix, "{}", section.value),
                "bind" => match child("endpoint").map(|text| text.parse::<Endpoint>()) {
                    Some(Ok(endpoint)) => self.bind_once(endpoint).await,
                    Some(Err(why)) => self.warn("zgossip/bind/endpoint", &why),
                    None => self.warn("zgossip/bind", &"it has no endpoint"),
                },
                "security" => {
                    let mechanism = child("mechanism").map_or("null", |text| &text[..]);
                    let (domain, secret_key) = (child("domain"), child("secret-key"));
                    if let Some(domain) = domain {
                        self.security.zap_domain = Some(domain.clone());
                    }
                    tracing::info!(actor = %self.prefix, mechanism, "security of what is bound from now on");
                    match mechanism {
                        "null" => self.security.is_plain = false,
                        "plain" => self.security.is_plain = true,
                        "curve" => {
                            self.security.is_plain = false;
                            self.load_key(secret_key.map_or("", |text| &text[..])).await;
                        }
                        _ => self.warn("zgossip/security/mechanism", &"it is none of null, plain and curve"),
                    }
                }
                _ => {}
            }
        }
    }

    /// A file that is applied again binds nothing twice
    async fn bind_once(&mut self, endpoint: Endpoint) {
        let Some(node) = self.linked() else { return };
        if self.bound.contains(&endpoint) {
            return;
        }
        match node.bind_with(&endpoint, self.security.of_bind()).await {
            Ok(_) => self.bound.push(endpoint),
            Err(why) => self.warn("zgossip/bind/endpoint", &why),
        }
    }

    async fn load_key(&mut self, file: &str) {
        let secret_key = Certificate::load(file).map(|certificate| certificate.secret_key.clone());
        match secret_key {
            Ok(Some(key)) => self.take_key(key).await,
            Ok(None) => self.warn("zgossip/security/secret-key", &format!("{file} has no secret twin {file}_secret")),
            Err(why) => self.warn("zgossip/security/secret-key", &why),
        }
    }

    fn apply_globals(&mut self) {
        let timeout = self.configuration.server_timeout();
        self.pipe.is_verbose.fetch_or(self.configuration.is_verbose(), Ordering::Relaxed);
        if let Some(node) = &self.node {
            node.set_server_timeout(timeout);
        }
    }

    // ---- The node ----

    /// A CURVE key, which makes the node what it is
    async fn take_key(&mut self, secret_key: CurveSecretKey) {
        self.security.secret_key = Some(secret_key);
        // Nobody knows the node yet: it becomes the one of this key
        let Some(node) = self.node.take_if(|_| !self.is_linked) else { return };
        let tuples = node.list("");
        node.stop(Duration::ZERO).await;
        let Some(node) = self.start() else { return };
        for tuple in tuples {
            let written = node.put_with(tuple.key, tuple.value, tuple.lifetime).await;
            if let Err(why) = written {
                self.warn("SET SECRETKEY", &why);
            }
        }
        // What was delivered is not delivered again
        node.shared().enter(self.pipe.main());
        self.pipe.watches().iter().for_each(|queue| node.shared().enter(queue));
        self.node = Some(node);
    }

    fn start(&mut self) -> Option<Gossip> {
        let builder = match &self.security.secret_key {
            Some(key) => self.builder.clone().curve(key.clone()),
            None => self.builder.clone(),
        };
        match builder.start() {
            Ok(node) => {
                node.set_server_timeout(self.configuration.server_timeout());
                self.pipe.set_node(Some(node.shared().clone()));
                Some(node)
            }
            Err(why) => {
                self.warn("starting the node", &why);
                None
            }
        }
    }

    /// The node, which begins when it is needed first
    fn node(&mut self) -> Option<Gossip> {
        if self.node.is_none() {
            let node = self.start()?;
            node.shared().enter(self.pipe.main());
            self.node = Some(node);
        }
        self.node.clone()
    }

    /// The node, which others are going to know
    fn linked(&mut self) -> Option<Gossip> {
        let node = self.node()?;
        self.is_linked = true;
        Some(node)
    }

    // ---- Commands of ours ----

    fn answer(&mut self, frames: &[Bytes]) {
        let command = match Command::parse(frames) {
            Ok(command) => command,
            Err(why) => return self.pipe.reply(error(why)),
        };
        let Some(node) = self.node() else { return };
        match command {
            Command::List { prefix, is_long } => self.pipe.main().reply(Entry::List { prefix, is_long }),
            Command::Watch { prefix, is_long } => match self.pipe.watch(prefix, is_long) {
                Some(queue) => {
                    node.shared().enter(&queue);
                    queue.told().notify_one();
                }
                None => self.pipe.reply(error("the actor has as many watches as it may")),
            },
            command => {
                let pipe = self.pipe.clone();
                node.shared().with(|house, now| {
                    let reply = reply(house, now, command);
                    house.tell(now);
                    pipe.reply(reply);
                });
            }
        }
    }

    fn refuse(&self, why: &str, frames: &[Bytes]) {
        let first = shown_word(frames.first().map_or(&[][..], |first| first));
        tracing::error!(actor = %self.prefix, command = %first, why);
        self.pipe.reply(error(format!("{first}: {why}")));
    }

    fn reply<const N: usize>(&self, frames: [Bytes; N]) {
        self.pipe.reply(message(frames));
    }

    fn trace(&self, command: &[u8]) {
        let command = shown_word(command);
        match self.pipe.is_verbose.load(Ordering::Relaxed) {
            true => tracing::info!(actor = %self.prefix, %command, "command"),
            false => tracing::debug!(actor = %self.prefix, %command, "command"),
        }
    }

    fn warn(&self, what: &str, why: &dyn std::fmt::Display) {
        tracing::warn!(actor = %self.prefix, what, why = %why);
    }
}

impl Security {
    fn of_bind(&self) -> Options {
        let options = Options::new();
        match &self.secret_key {
            _ if self.is_plain => options.plain_server(true).zap_domain(self.zap_domain.clone().unwrap_or_default()),
            Some(secret) => {
                let domain = self.zap_domain.clone().unwrap_or_else(|| GLOBAL.to_owned());
                let public = self.public_key.filter(|public| *public == secret.public());
                options
                    .curve_server(true)
                    .curve_secret_key(Some(secret.clone()))
                    .curve_public_key(public)
                    .zap_domain(domain)
            }
            None => options,
        }
    }

    fn of_connect(&self) -> Options {
        Options::new().curve_secret_key(self.secret_key.clone())
    }
}

/// The TCP port; 0 where there is none
fn port_of(endpoint: &Endpoint) -> i32 {
    match endpoint {
        Endpoint::Tcp(_) | Endpoint::Tls(_) => {
            let text = endpoint.to_string();
            text.rsplit_once(':').and_then(|(_, port)| port.parse().ok()).unwrap_or_default()
        }
        _ => 0,
    }
}

fn text(frame: &[u8]) -> String {
    String::from_utf8_lossy(frame).into_owned()
}

/// The first frame of a command; a key that somebody put into it by mistake is left out
fn shown_word(first: &[u8]) -> String {
    match first.starts_with(SECRET) {
        true => shown(SECRET),
        false => shown(first),
    }
}

/// Leaves nothing of a secret in memory that is ours alone
fn wipe(frames: Vec<Bytes>) {
    for frame in frames {
        if let Ok(mut octets) = frame.try_into_mut() {
            octets.as_mut().zeroize();
        }
    }
}

const SECRET: &[u8] = b"SET SECRETKEY";
/// What PORT tells of a BIND that failed
const FAILED: i32 = -1;
/// The ZAP domain of the original where none is set
const GLOBAL: &str = "global";
/// How often the configuration's file is looked at, as the original does
const LOOK_EVERY: Duration = Duration::from_secs(1);
const FAREWELL: Duration = Duration::from_secs(1);

//! The table of settings: one row per key feeds file, environment, flags, `check --print`, the
//! comparison at a reload, and the typed fields the daemon reads.

use std::fmt;
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::time::Duration;

use clap::ValueEnum;
use tidings::{Endpoint, Overflow};
use tidings_store::Durability;
use toml::Spanned;
use toml::de::DeValue;

use super::values::{SettingValue, TextError, Wrong};
use super::{AccessRule, Connection, HttpListener, Listener, Octets, Origin, Protection, Roles, Target};
use crate::cli::units;

/// A value and where it comes from
#[derive(Clone, Debug)]
pub(crate) struct Setting<T> {
    pub(crate) value: T,
    pub(crate) origin: Origin,
}

/// A setting as text, for people
#[derive(Clone, Debug)]
pub(crate) struct SettingRow {
    /// `section.name`
    pub(crate) key: &'static str,
    /// The value as it stands in TOML
    pub(crate) value: String,
    pub(crate) origin: Origin,
    /// Whether a reload applies it; if not, it takes a restart
    pub(crate) live: bool,
    pub(crate) doc: &'static str,
}

macro_rules! settings {
    ($($(#[doc = $doc:literal])+ $field:ident: $type:ty = $default:expr, $key:literal, $live:literal;)+) => {
        /// Every setting, resolved
        #[derive(Clone, Debug)]
        pub(crate) struct Settings {
            $($(#[doc = $doc])+ pub(crate) $field: Setting<$type>,)+
        }

        /// All keys, in the order of the table
        pub(crate) static KEYS: &[&str] = &[$($key),+];

        impl Default for Settings {
            fn default() -> Self {
                Self { $($field: Setting { value: $default, origin: Origin::Default },)+ }
            }
        }

        impl Settings {
            /// Sets a key from the file; `None` if there is no such key
            pub(crate) fn assign_toml(
                &mut self, key: &str, value: &Spanned<DeValue<'_>>, origin: Origin,
            ) -> Option<Result<(), Vec<Wrong>>> {
                match key {
                    $($key => Some(<$type>::from_toml(value).map(|value| self.$field = Setting { value, origin })),)+
                    _ => None,
                }
            }

            /// Sets a key from a variable or a flag; `None` if there is no such key
            pub(crate) fn assign_text(
                &mut self, key: &str, text: &str, origin: Origin,
            ) -> Option<Result<(), TextError>> {
                match key {
                    $($key => Some(<$type>::from_text(text).map(|value| self.$field = Setting { value, origin })),)+
                    _ => None,
                }
            }

            /// Takes from the running settings those that only a restart can change
            pub(crate) fn keep_until_restart(&mut self, running: &Self) {
                $(if !$live {
                    self.$field = running.$field.clone();
                })+
            }

            /// All settings as text, in the order of the table
            pub(crate) fn rows(&self) -> Vec<SettingRow> {
                vec![$(SettingRow {
                    key: $key,
                    value: self.$field.value.to_toml(),
                    origin: self.$field.origin.clone(),
                    live: $live,
                    doc: concat!($($doc),+).trim_ascii(),
                }),+]
            }
        }
    };
}

settings! {
    /// Whether the service broker runs
    service_enabled: bool = true, "service.enabled", false;
    /// Where clients and workers connect: a list of endpoints, or of { endpoint, curve, tls, allow-plaintext }
    service_listen: Vec<Listener> = local(4830), "service.listen", true;
    /// How often broker and worker tell each other that they are there
    service_heartbeat_interval: Duration = Duration::from_secs(1), "service.heartbeat-interval", false;
    /// How many of these may stay out before a silent worker is gone
    service_liveness: NonZeroU32 = count(4), "service.liveness", false;
    /// Longest wait of a request without a deadline of its own; and longest silence of a worker that is at work and, as
    /// older ones do, says nothing meanwhile
    service_request_age: Duration = Duration::from_secs(60), "service.request-age", false;
    /// How long a service whose workers are gone, and any service after a start, is waited for before clients hear 404
    service_absence: Duration = Duration::from_secs(6), "service.absence", false;
    /// Most requests that wait for one service; the next is refused with 503
    service_max_waiting: u32 = 10_000, "service.max-waiting", false;
    /// Most octets that wait for one service
    service_max_waiting_octets: Octets = Octets(64 << 20), "service.max-waiting-octets", false;
    /// How many workers may die over one request before it is given up with 502
    service_max_attempts: NonZeroU32 = count(3), "service.max-attempts", false;
    /// Who may call which service: a list of "ROLE SERVICE", where ROLE is one of the keystore's, anonymous, or * for
    /// everybody, and a * at the end of SERVICE stands for any ending; with neither this nor service.work everybody that was
    /// let in may, and once there is one rule only what a rule allows is allowed
    service_call: Vec<AccessRule> = Vec::new(), "service.call", true;
    /// Who may offer which service, likewise
    service_work: Vec<AccessRule> = Vec::new(), "service.work", true;
    /// Whether durable requests are taken (titanic.request), which are kept in the store
    service_durable: bool = true, "service.durable", false;
    /// Where the store is; empty: the state directory ($STATE_DIRECTORY, ~/.local/state/tidings, /var/lib/tidings)
    store_directory: Directory = Directory::default(), "store.directory", false;
    /// When a request counts as stored: "fsync" (it is on the disk), "interval:200ms" (it will be by then), "memory" (the
    /// operating system has it)
    store_durability: Durability = Durability::Fsync, "store.durability", false;
    /// Most octets that the store holds; then requests are refused until some are done
    store_max_octets: Octets = Octets(4 << 30), "store.max-octets", false;
    /// How long a request, and then its reply, is kept for whoever asks
    store_ttl: Duration = Duration::from_secs(7 * 24 * 3600), "store.ttl", false;
    /// Whether the event forwarder runs
    events_enabled: bool = true, "events.enabled", false;
    /// Where publishers connect: a list of endpoints, or of { endpoint, curve, tls, allow-plaintext }
    events_in: Vec<Listener> = local(4831), "events.in", true;
    /// Where subscribers connect
    events_out: Vec<Listener> = local(4832), "events.out", true;
    /// Publishers that listen themselves, and that the forwarder connects to: a list of endpoints, of gossip:NAME (all that
    /// announce it), or of { endpoint, server-key, allow-plaintext }. Two forwarders must not connect to each other
    events_connect: Vec<Connection> = Vec::new(), "events.connect", true;
    /// Most messages held for a publisher's connection that the forwarder has not taken yet
    events_recv_hwm: u32 = 1000, "events.recv-hwm", true;
    /// Most messages held for each subscriber; 0 is without limit
    events_send_hwm: u32 = 1000, "events.send-hwm", true;
    /// What happens when a subscriber's queue is full: drop-new, drop-old, latest, block, disconnect
    events_overflow: Overflow = Overflow::DropNew, "events.overflow", true;
    /// Whether the gossip node runs: names and values that all nodes of a network know
    gossip_enabled: bool = true, "gossip.enabled", false;
    /// Where other nodes, CZMQ's zgossip among them, and `tidings gossip` connect
    gossip_listen: Vec<Listener> = local(4833), "gossip.listen", true;
    /// Nodes that this one connects to; one of a network is enough: a list of endpoints, of gossip:NAME, or of
    /// { endpoint, server-key, allow-plaintext }
    gossip_connect: Vec<Connection> = Vec::new(), "gossip.connect", true;
    /// What the node is called, for people and in what it announces; empty: the host's name
    gossip_name: String = String::new(), "gossip.name", false;
    /// Who the node is, 16 hexadecimal digits; empty: by its key where keys are configured, else drawn once and kept in
    /// gossip.directory; "random": another one at each start
    gossip_id: String = String::new(), "gossip.id", false;
    /// Where the node keeps who it is; empty: gossip in the state directory
    gossip_directory: Directory = Directory::default(), "gossip.directory", false;
    /// Whether the node announces where its services, events and the rest are, so that others find them as gossip:NAME
    gossip_announce: bool = false, "gossip.announce", true;
    /// The host name or address that others reach this host by, for what is announced; empty: the address that listeners
    /// say, or where they listen on all of them, that of the way to the outside
    gossip_advertise: String = String::new(), "gossip.advertise", true;
    /// To how many neighbours a change is sent on at once
    gossip_fan_out: NonZeroU32 = count(4), "gossip.fan-out", false;
    /// How often neighbours compare what they know, while anything changes; eight times as long at rest
    gossip_interval: Duration = Duration::from_secs(1), "gossip.interval", false;
    /// Which nodes are watched whether they are up: "all", or "links": neighbours only, for very large networks; there is
    /// then no `tidings gossip graph`
    gossip_presence: PresenceScope = PresenceScope::All, "gossip.presence", false;
    /// Whether the node finds itself neighbours beyond those of gossip.connect, so that the network holds together when
    /// some of these go
    gossip_overlay: bool = false, "gossip.overlay", false;
    /// After how much silence a connected peer of zgossip is forgotten; 0: never, unless its connection ends
    gossip_server_timeout: Duration = Duration::ZERO, "gossip.server-timeout", true;
    /// Most tuples that the node holds; those beyond are refused and counted
    gossip_max_tuples: NonZeroU32 = count(1_000_000), "gossip.max-tuples", false;
    /// Most octets of all of them
    gossip_max_octets: Octets = Octets(256 << 20), "gossip.max-octets", false;
    /// Most octets of one value
    gossip_max_value: Octets = Octets(4 << 20), "gossip.max-value", false;
    /// Most tuples, of those, that one node, or one peer that speaks zgossip, may bring in
    gossip_max_tuples_per_owner: NonZeroU32 = count(100_000), "gossip.max-tuples-per-owner", false;
    /// Most octets, of those, that one node, or one peer that speaks zgossip, may bring in
    gossip_max_octets_per_owner: Octets = Octets(64 << 20), "gossip.max-octets-per-owner", false;
    /// Who may publish and remove which keys by `tidings gossip` or as a peer that speaks zgossip: a list of "ROLE KEY", where
    /// ROLE is one of the keystore's, anonymous, or *, and a * at the end of KEY stands for any ending; without a rule
    /// everybody that was let in may
    gossip_publish: Vec<AccessRule> = Vec::new(), "gossip.publish", true;
    /// Who may ask for which keys by `tidings gossip`, likewise
    gossip_read: Vec<AccessRule> = Vec::new(), "gossip.read", true;
    /// Which roles may take part as nodes, which know everything and pass on what others publish; empty: everybody that was
    /// let in
    gossip_join: Roles = Roles::default(), "gossip.join", true;
    /// Which of these roles are believed what they pass on; a node of another role may publish as itself alone, and speak for
    /// nobody else. Empty: every node
    gossip_relay: Roles = Roles::default(), "gossip.relay", true;
    /// Whether the page with health, readiness and metrics runs
    http_enabled: bool = true, "http.enabled", false;
    /// Where the page listens
    http_listen: HttpListener = HttpListener {
        address: std::net::SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 4839),
        allow_plaintext: false,
    }, "http.listen", false;
    /// The keystore that `tidings key` makes: listeners beyond this host then take CURVE, and only trusted keys
    security_keys: Directory = Directory::default(), "security.keys", false;
    /// Which of the keystore's own keys is this node's; empty: the only one
    security_key: String = String::new(), "security.key", false;
    /// How much is said: error, warn, info, debug, trace
    log_level: LogLevel = LogLevel::Info, "log.level", true;
    /// How it is said: text, json
    log_format: LogFormat = LogFormat::Text, "log.format", false;
    /// Longest time between SIGTERM and the end, spent on delivering what is queued
    shutdown_deadline: Duration = Duration::from_secs(5), "shutdown.deadline", true;
}

/// The sections of the file
pub(crate) static SECTIONS: &[&str] = &["service", "store", "events", "gossip", "http", "security", "log", "shutdown"];

/// A directory, or none: empty text
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) struct Directory(pub(crate) Option<PathBuf>);

impl Settings {
    /// What no daemon can work with, though each value is one of its type: the key, whence it is, what is wrong, and what
    /// to write
    pub(crate) fn unworkable(&self) -> Vec<(&'static str, &Origin, String, &'static str)> {
        let mut found = Vec::new();
        let interval = &self.service_heartbeat_interval;
        if interval.value < SHORTEST_INTERVAL {
            let message = format!("{} is too short", units::display_duration(interval.value));
            found.push(("service.heartbeat-interval", &interval.origin, message, "write 10ms or more, such as \"1s\""));
        }
        let interval = &self.gossip_interval;
        if interval.value < SHORTEST_INTERVAL {
            let message = format!("{} is too short", units::display_duration(interval.value));
            found.push(("gossip.interval", &interval.origin, message, "write 10ms or more, such as \"1s\""));
        }
        let id = &self.gossip_id;
        let is_id = |text: &str| text.len() == 16 && u64::from_str_radix(text, 16).is_ok_and(|id| id != 0);
        if !id.value.is_empty() && id.value != RANDOM_ID && !is_id(&id.value) {
            let message = format!("'{}' is no node's id", id.value);
            found.push(("gossip.id", &id.origin, message, "write 16 hexadecimal digits, or random, or nothing"));
        }
        let name = &self.gossip_name;
        if name.value.len() > LONGEST_NAME
            || name.value.contains(|c: char| c.is_control() || c.is_whitespace() || c == '/')
        {
            let message = format!("'{}' is no name for a node", name.value);
            found.push(("gossip.name", &name.origin, message, "write up to 64 octets without blanks and /"));
        }
        let advertise = &self.gossip_advertise;
        let reads = format!("tcp://{}:1", advertise.value)
            .parse()
            .is_ok_and(|endpoint: Endpoint| endpoint.for_connect().is_ok());
        if !advertise.value.is_empty() && !reads {
            let message = format!("'{}' is no host", advertise.value);
            let hint = "write a name or an address without a port, such as \"hub.example.org\" or \"[2001:db8::1]\"";
            found.push(("gossip.advertise", &advertise.origin, message, hint));
        }
        for (key, setting) in [("service.request-age", &self.service_request_age), ("store.ttl", &self.store_ttl)] {
            if setting.value < SHORTEST_LIFE {
                let message = format!("{} would end everything at once", units::display_duration(setting.value));
                found.push((key, &setting.origin, message, "write 10ms or more, such as \"60s\" or \"7d\""));
            }
        }
        let waiting = &self.service_max_waiting;
        if waiting.value == 0 {
            let message = "with 0 nothing could ever wait".to_owned();
            found.push(("service.max-waiting", &waiting.origin, message, "write 1 or more"));
        }
        let sizes = [
            ("service.max-waiting-octets", &self.service_max_waiting_octets),
            ("store.max-octets", &self.store_max_octets),
            ("gossip.max-octets", &self.gossip_max_octets),
            ("gossip.max-value", &self.gossip_max_value),
            ("gossip.max-octets-per-owner", &self.gossip_max_octets_per_owner),
        ];
        for (key, setting) in sizes {
            if setting.value.0 == 0 {
                let message = "0 would refuse everything".to_owned();
                found.push((key, &setting.origin, message, "write a size, such as \"64MiB\""));
            }
        }
        found
    }

    /// What works and is perhaps not what was meant, in a sentence each
    pub(crate) fn surprises(&self) -> Vec<&'static str> {
        let mut found = Vec::new();
        let (call, work) = (&self.service_call.value, &self.service_work.value);
        match (call.is_empty(), work.is_empty()) {
            _ if !self.service_enabled.value => {}
            (false, true) => found.push("service.call has rules and service.work has none: nobody may offer a service"),
            (true, false) => found.push("service.work has rules and service.call has none: nobody may call a service"),
            _ => {}
        }
        if self.gossip_announce.value && !self.gossip_enabled.value {
            found.push("gossip.announce is true and gossip.enabled is false: nothing is announced");
        }
        let has_rules = !(self.gossip_publish.value.is_empty() && self.gossip_read.value.is_empty());
        if self.gossip_enabled.value && has_rules && self.gossip_join.value.0.is_empty() {
            found.push(
                "gossip.publish or gossip.read has rules and gossip.join names no role: whoever was let in may be a node, \
                 and these rules do not bind nodes",
            );
        }
        let named = |connection: &Connection| matches!(connection.target, Target::Named(_));
        if !self.gossip_enabled.value && self.events_connect.value.iter().any(named) {
            found.push("events.connect has a gossip:NAME and gossip.enabled is false: it is never found");
        }
        let anywhere = |connection: &Connection| matches!(connection.target, Target::Address(_));
        if self.gossip_connect.value.iter().any(named) && !self.gossip_connect.value.iter().any(anywhere) {
            found.push(
                "gossip.connect has names only: somebody else has to connect to this node before it can find them",
            );
        }
        found
    }

    /// Listeners and connections that nothing protects though they must be: their key, place in the file, and what is wrong
    pub(crate) fn unprotected(&self) -> Vec<(&'static str, &Origin, Wrong)> {
        let keys = self.security_keys.value.0.is_some();
        let mut found = Vec::new();
        let listening = [
            ("service.listen", &self.service_listen, &self.service_enabled),
            ("events.in", &self.events_in, &self.events_enabled),
            ("events.out", &self.events_out, &self.events_enabled),
            ("gossip.listen", &self.gossip_listen, &self.gossip_enabled),
        ];
        for (key, setting, enabled) in listening {
            if !enabled.value {
                continue;
            }
            for listener in &setting.value {
                if let Err((message, hint)) = listener.protected(keys) {
                    let span = listener.span.clone().unwrap_or_default();
                    found.push((key, &setting.origin, Wrong { span, message, hint }));
                }
            }
        }
        let connecting = [
            ("events.connect", &self.events_connect, &self.events_enabled),
            ("gossip.connect", &self.gossip_connect, &self.gossip_enabled),
        ];
        for (key, setting, enabled) in connecting {
            for connection in setting.value.iter().filter(|_| enabled.value) {
                if let Err((message, hint)) = connection.check(keys) {
                    let span = connection.span.clone().unwrap_or_default();
                    found.push((key, &setting.origin, Wrong { span, message, hint }));
                }
            }
        }
        found
    }
}

/// Which nodes the gossip node watches
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, ValueEnum)]
pub(crate) enum PresenceScope {
    #[default]
    All,
    Links,
}

/// How much is logged
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, ValueEnum)]
pub(crate) enum LogLevel {
    Error,
    Warn,
    #[default]
    Info,
    Debug,
    Trace,
}

/// How log lines look
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, ValueEnum)]
pub(crate) enum LogFormat {
    /// For people
    #[default]
    Text,
    /// One object per line
    Json,
}

impl LogLevel {
    /// The word in the file
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warn => "warn",
            Self::Info => "info",
            Self::Debug => "debug",
            Self::Trace => "trace",
        }
    }
}

impl fmt::Display for PresenceScope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::All => "all",
            Self::Links => "links",
        })
    }
}

impl fmt::Display for LogFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Text => "text",
            Self::Json => "json",
        })
    }
}

/// Beats closer than this would be most of the traffic
const SHORTEST_INTERVAL: Duration = Duration::from_millis(10);

/// `gossip.id` of a node that is another one at each start
pub(crate) const RANDOM_ID: &str = "random";

/// Part of keys, which have 255 octets in all
const LONGEST_NAME: usize = 64;

/// What lives shorter has no chance to be handled
const SHORTEST_LIFE: Duration = Duration::from_millis(10);

/// A default that is a count; none of them is 0
const fn count(count: u32) -> NonZeroU32 {
    match NonZeroU32::new(count) {
        Some(count) => count,
        None => NonZeroU32::MIN,
    }
}

fn local(port: u16) -> Vec<Listener> {
    let endpoint = format!("tcp://127.0.0.1:{port}");
    vec![Listener { endpoint, protection: Protection::Usual, span: None }]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_lies_in_a_section_and_every_section_has_keys() {
        for key in KEYS {
            assert!(SECTIONS.iter().any(|section| key.starts_with(&format!("{section}."))), "{key}");
        }
        for section in SECTIONS {
            assert!(KEYS.iter().any(|key| key.starts_with(&format!("{section}."))), "{section}");
        }
    }

    #[test]
    fn rules_that_nodes_need_not_keep_are_told() {
        let surprises = |join: &str| {
            let mut sources = crate::config::Sources::default();
            sources.flag("--set", "gossip.publish", "operator config/*");
            sources.flag("--set", "gossip.join", join);
            sources.load().unwrap().surprises()
        };
        assert!(surprises("").iter().any(|surprise| surprise.contains("do not bind nodes")), "{:?}", surprises(""));
        assert_eq!(surprises("node"), [""; 0]);
    }

    #[test]
    fn what_is_printed_reads_back() {
        let text: String =
            Settings::default().rows().iter().map(|row| format!("{} = {}\n", row.key, row.value)).collect();
        let root = toml::de::DeTable::parse(&text).unwrap();
        let mut settings = Settings::default();
        for (section, table) in root.get_ref() {
            for (key, value) in table.get_ref().as_table().unwrap() {
                let key = format!("{}.{}", section.get_ref(), key.get_ref());
                settings.assign_toml(&key, value, Origin::Default).unwrap().unwrap();
            }
        }
        let printed: Vec<String> = settings.rows().into_iter().map(|row| row.value).collect();
        let defaults: Vec<String> = Settings::default().rows().into_iter().map(|row| row.value).collect();
        assert_eq!(printed, defaults);
    }
}

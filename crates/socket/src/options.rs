//! Socket options: one table, from which setters, names, C numbers, texts and documents come.
//!
//! A row says everything about an option once: field, type, default, `zmq.h` name and number, unit
//! and document. [`OPTIONS`] is that table for programs to print; [`Options`] holds the values.
//! Where an option takes effect is said in ARCHITECTURE.md.

use std::fmt;
use std::time::Duration;

use bytes::Bytes;
use tidings_zmtp::{Config, CurvePublicKey, CurveSecretKey, Heartbeat, KEY_LEN, Properties, SocketType, Version, z85};
use zeroize::Zeroizing;

use crate::patterns::multipart;
use crate::secret::{SET, Secret};
use crate::suggest::nearest;

/// What kind of value an option takes
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum OptionKind {
    /// A whole number
    Number,
    /// `1`/`0`, also `true`/`false`, `on`/`off`, `yes`/`no`
    Flag,
    /// A length of time; bare numbers are milliseconds, `250ms`, `5s`, `2m` and `1h` are understood
    Duration,
    /// Octets: text, or `0x` and hexadecimal digits
    Octets,
    /// A word or a text with a form of its own, which the document gives
    Text,
    /// A CURVE key: 40 characters of Z85, or 32 octets as they are or as `0x` and hexadecimal digits
    Key,
    /// As octets or a key, and never shown: `(set)` stands for it
    Secret,
}

/// The value of an option, as it is shown and as C passes it
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum OptionValue {
    /// Whole numbers, flags and durations, with libzmq's sentinels (`-1` for "no limit" or "forever")
    Number(i64),
    /// Octets, such as a routing id
    Octets(Bytes),
    /// A word or text
    Text(String),
}

impl fmt::Display for OptionValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(number) => write!(f, "{number}"),
            Self::Octets(octets) => match std::str::from_utf8(octets) {
                // Only what `Options::set` reads back as these octets is shown as text
                Ok(text) if !text.contains(char::is_control) && text.trim() == text && !text.starts_with("0x") => {
                    f.write_str(text)
                }
                _ => {
                    f.write_str("0x")?;
                    octets.iter().try_for_each(|octet| write!(f, "{octet:02x}"))
                }
            },
            Self::Text(text) => f.write_str(text),
        }
    }
}

/// One row of the option table
#[derive(Debug)]
#[non_exhaustive]
pub struct OptionRow {
    /// The name used everywhere in tidings, as `send_hwm`
    pub name: &'static str,
    /// The name in `zmq.h`, as `ZMQ_SNDHWM`; empty for an option of our own
    pub c_name: &'static str,
    /// The number in `zmq.h`; options of our own start at 20,000
    pub number: i32,
    /// What kind of value it takes
    pub kind: OptionKind,
    /// The unit of the value: `messages`, `octets`, `ms`, …; empty where there is none
    pub unit: &'static str,
    /// The default, as text that [`Options::set`] takes
    pub default: &'static str,
    /// What it does, in a sentence or two
    pub doc: &'static str,
    set: fn(&mut Options, OptionValue) -> Result<(), &'static str>,
    value: fn(&Options) -> OptionValue,
    parse: fn(&str) -> Result<OptionValue, &'static str>,
}

impl OptionRow {
    /// A value as an error may repeat it
    fn told(&self, text: &str) -> String {
        match self.kind {
            OptionKind::Secret => "(not shown)".to_owned(),
            _ => text.to_owned(),
        }
    }
}

/// What to do with a message for a peer whose queue is full
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Overflow {
    /// Wait for room: `try_send` says `WouldBlock`
    Block,
    /// Drop the message being sent, for that peer, and count it
    DropNew,
    /// Drop the oldest waiting message and queue the new one
    DropOld,
    /// Keep only the newest message
    Latest,
    /// Close the connection to the peer that can't keep up
    Disconnect,
}

impl Overflow {
    const WORDS: [(&'static str, Self); 5] = [
        ("block", Self::Block),
        ("drop-new", Self::DropNew),
        ("drop-old", Self::DropOld),
        ("latest", Self::Latest),
        ("disconnect", Self::Disconnect),
    ];

    /// The policy that libzmq has built in for a socket type
    ///
    /// PUB, XPUB, XSUB, ROUTER and RADIO drop the new message, all others wait (RFC 28-31, 48).
    #[must_use]
    pub fn of(socket_type: SocketType) -> Self {
        match socket_type {
            SocketType::Pub | SocketType::Xpub | SocketType::Router | SocketType::Xsub | SocketType::Radio => {
                Self::DropNew
            }
            _ => Self::Block,
        }
    }
}

impl fmt::Display for Overflow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = Self::WORDS.iter().find(|(_, policy)| policy == self);
        f.write_str(word.map_or("", |(word, _)| word))
    }
}

impl std::str::FromStr for Overflow {
    type Err = OptionError;

    fn from_str(text: &str) -> Result<Self, OptionError> {
        let found = Self::WORDS.iter().find(|(word, _)| word.eq_ignore_ascii_case(text));
        found.map(|(_, policy)| *policy).ok_or_else(|| OptionError::Value {
            name: "overflow",
            value: text.to_owned(),
            legal: overflow::LEGAL,
        })
    }
}

/// Why an option could not be read or set
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum OptionError {
    /// No option has this name; the nearest one is suggested
    #[error("no socket option is called '{name}'{}", suggestion.map(|near| format!("; did you mean '{near}'?")).unwrap_or_default())]
    Unknown {
        /// The name as it was given
        name: String,
        /// The name in the table that is most like it
        suggestion: Option<&'static str>,
    },
    /// The value isn't one that the option takes
    #[error("option {name} can't be '{value}': it takes {legal}")]
    Value {
        /// The option
        name: &'static str,
        /// The value as it was given
        value: String,
        /// What would be legal
        legal: &'static str,
    },
}

macro_rules! options {
    ($($(#[doc = $doc:literal])+ $field:ident: $type:ty = $default:expr, $codec:ident, $c_name:literal $number:literal, $unit:literal, $shown:literal;)+) => {
        /// The options of a socket
        ///
        /// Setters are named like the rows of [`OPTIONS`] and can be chained. Values take effect on
        /// connections made from then on; queue bounds and policies also on those that exist.
        #[derive(Clone, Debug, PartialEq)]
        pub struct Options {
            $(pub(crate) $field: $type,)+
        }

        impl Default for Options {
            fn default() -> Self {
                Self { $($field: $default,)+ }
            }
        }

        impl Options {
            $(
                $(#[doc = $doc])+
                #[doc = ""]
                #[doc = concat!("Unit: ", $unit, ". Default: ", $shown, ".")]
                #[must_use]
                pub fn $field(mut self, $field: $type) -> Self {
                    self.$field = $field;
                    self
                }
            )+
        }

        /// Every option, in one table
        pub static OPTIONS: &[OptionRow] = &[
            $(OptionRow {
                name: stringify!($field),
                c_name: $c_name,
                number: $number,
                kind: $codec::KIND,
                unit: $unit,
                default: $shown,
                doc: concat!($($doc),+).trim_ascii_start(),
                set: |options, value| {
                    options.$field = $codec::read(value)?;
                    Ok(())
                },
                value: |options| $codec::show(&options.$field),
                parse: $codec::parse,
            },)+
        ];
    };
}

options! {
    /// Most messages that wait to be sent to one peer; 0 means no limit. What happens then is the overflow policy's.
    send_hwm: u32 = 1000, count, "ZMQ_SNDHWM" 23, "messages", "1000";
    /// Most messages from one peer that wait to be received; 0 means no limit. Then reading from that peer pauses.
    recv_hwm: u32 = 1000, count, "ZMQ_RCVHWM" 24, "messages", "1000";
    /// Most octets that wait to be sent to one peer; 0 means no limit. One message is always let in.
    send_hwm_octets: u64 = 268_435_456, size, "" 20_001, "octets", "268435456";
    /// Most octets from one peer that wait to be received; 0 means no limit. Then reading from that peer pauses.
    recv_hwm_octets: u64 = 268_435_456, size, "" 20_002, "octets", "268435456";
    /// What happens to a message for a peer whose queue is full: default (as libzmq does for the socket type), block, drop-new, drop-old, latest or disconnect. A REQ always waits.
    overflow: Option<Overflow> = None, overflow, "" 20_003, "", "default";
    /// How long a closed socket goes on sending what is queued; -1 means until all is sent, 0 drops it at once. SUB, XSUB and DISH always start with 0.
    linger: Option<Duration> = None, forever, "ZMQ_LINGER" 17, "ms", "-1";
    /// How long a send waits for room; -1 means for ever, 0 not at all.
    send_timeout: Option<Duration> = None, forever, "ZMQ_SNDTIMEO" 28, "ms", "-1";
    /// How long a receive waits for a message; -1 means for ever, 0 not at all.
    recv_timeout: Option<Duration> = None, forever, "ZMQ_RCVTIMEO" 27, "ms", "-1";
    /// Wait before a lost or failed connection is tried again; -1 means never. Every wait is drawn at random so that many clients don't return together.
    reconnect_interval: Option<Duration> = Some(Duration::from_millis(100)), never, "ZMQ_RECONNECT_IVL" 18, "ms", "100";
    /// Ceiling up to which the wait doubles with every failed try; 0 means it does not grow.
    reconnect_interval_max: Duration = Duration::ZERO, plain, "ZMQ_RECONNECT_IVL_MAX" 21, "ms", "0";
    /// Longest time from the transport's connection to the end of the ZMTP handshake; 0 means no limit.
    handshake_interval: Option<Duration> = Some(Duration::from_secs(30)), unless_zero, "ZMQ_HANDSHAKE_IVL" 66, "ms", "30000";
    /// Longest time one connection attempt may take; 0 leaves it to the operating system.
    connect_timeout: Option<Duration> = None, unless_zero, "ZMQ_CONNECT_TIMEOUT" 79, "ms", "0";
    /// Longest time that sent octets may stay unacknowledged before TCP gives the connection up; 0 leaves it to the operating system.
    tcp_max_retransmit: Option<Duration> = None, unless_zero, "ZMQ_TCP_MAXRT" 80, "ms", "0";
    /// Time between heartbeats (ZMTP PING) on a connection; 0 sends none.
    heartbeat_interval: Option<Duration> = None, unless_zero, "ZMQ_HEARTBEAT_IVL" 75, "ms", "0";
    /// How long the peer may keep a connection on which it hears nothing from us, told to it in every PING; 0 tells it nothing. Sent in tenths of a second.
    heartbeat_ttl: Duration = Duration::ZERO, ttl, "ZMQ_HEARTBEAT_TTL" 76, "ms", "0";
    /// How long after a PING silence closes the connection; -1 means as long as heartbeat_interval.
    heartbeat_timeout: Option<Duration> = None, forever, "ZMQ_HEARTBEAT_TIMEOUT" 77, "ms", "-1";
    /// Largest frame that a peer may send; a longer one closes its connection. -1 means 2147483647.
    max_message_size: Option<u64> = None, unlimited, "ZMQ_MAXMSGSIZE" 22, "octets", "-1";
    /// Most frames that one message of a peer may have; one more closes its connection.
    max_message_frames: u32 = 65_536, positive, "" 20_004, "frames", "65536";
    /// PUB, XPUB and RADIO: most subscriptions or groups that one peer may hold; one more closes its connection.
    max_subscriptions: u32 = 1_048_576, positive, "" 20_005, "subscriptions", "1048576";
    /// PUB, XPUB and RADIO: most octets that the topics or groups of one peer may have together; beyond them its connection is closed. 0 means no limit.
    max_subscription_octets: u64 = 67_108_864, size, "" 20_006, "octets", "67108864";
    /// Oldest version of ZMTP that a peer may speak: 1.0, 2.0, 3.0 or 3.1. Version 1.0 has no signature, so that any octets may pass for it; 2.0 or later keeps such peers out.
    oldest_version: Version = Version::V1_0, version, "" 20_007, "", "1.0";
    /// Queue messages only for peers whose connection is complete, and drop the queue when it is lost.
    immediate: bool = false, flag, "ZMQ_IMMEDIATE" 39, "", "0";
    /// Keep only the newest message in each queue, in and out. For PUSH, PULL, PUB, SUB and DEALER with one-frame messages.
    conflate: bool = false, flag, "ZMQ_CONFLATE" 54, "", "0";
    /// The name under which a ROUTER knows this socket, 1 to 255 octets not starting with 00; empty lets the ROUTER choose.
    routing_id: Bytes = Bytes::new(), routing_id, "ZMQ_ROUTING_ID" 5, "", "";
    /// ROUTER: a message for an unknown peer is an error, and one for a full peer waits, instead of being dropped.
    router_mandatory: bool = false, flag, "ZMQ_ROUTER_MANDATORY" 33, "", "0";
    /// ROUTER: a newcomer with the routing id of a connected peer takes its place, instead of being ignored.
    router_handover: bool = false, flag, "ZMQ_ROUTER_HANDOVER" 56, "", "0";
    /// ROUTER: an empty message from a peer's id when it connects (1), when it disconnects (2), or both (3).
    router_notify: u8 = 0, notify, "ZMQ_ROUTER_NOTIFY" 97, "", "0";
    /// Send an empty message to each new peer, so that a ROUTER there knows of this socket. REQ, DEALER and ROUTER.
    probe_router: bool = false, flag, "ZMQ_PROBE_ROUTER" 51, "", "0";
    /// REQ: put a number in front of each request and take only the reply that carries it.
    req_correlate: bool = false, flag, "ZMQ_REQ_CORRELATE" 52, "", "0";
    /// REQ: a new request may be sent before the last one was answered; the old reply is then dropped.
    req_relaxed: bool = false, flag, "ZMQ_REQ_RELAXED" 53, "", "0";
    /// XPUB: hand over every subscription, also repeated ones.
    xpub_verbose: bool = false, flag, "ZMQ_XPUB_VERBOSE" 40, "", "0";
    /// XPUB: hand over every subscription and every cancellation, also repeated ones.
    xpub_verboser: bool = false, flag, "ZMQ_XPUB_VERBOSER" 78, "", "0";
    /// XPUB: the application decides on each subscription with subscribe and unsubscribe.
    xpub_manual: bool = false, flag, "ZMQ_XPUB_MANUAL" 71, "", "0";
    /// PUB and XPUB: wait for room instead of dropping; the same as overflow=block.
    xpub_nodrop: bool = false, flag, "ZMQ_XPUB_NODROP" 69, "", "0";
    /// XPUB and PUB: the first message that each new subscriber gets; empty sends none.
    xpub_welcome_message: Bytes = Bytes::new(), octets, "ZMQ_XPUB_WELCOME_MSG" 72, "", "";
    /// PUB, XPUB and SUB: send and take what does not match a subscription. Set it on both ends.
    invert_matching: bool = false, flag, "ZMQ_INVERT_MATCHING" 74, "", "0";
    /// STREAM: hand over an empty message when a peer connects or disconnects.
    stream_notify: bool = true, flag, "ZMQ_STREAM_NOTIFY" 73, "", "1";
    /// TCP keepalive: -1 leaves the system's setting, 0 turns it off, 1 on.
    tcp_keepalive: i32 = -1, keepalive, "ZMQ_TCP_KEEPALIVE" 34, "", "-1";
    /// TCP keepalive probes without an answer before the connection is given up; -1 leaves the system's setting.
    tcp_keepalive_count: i32 = -1, or_system, "ZMQ_TCP_KEEPALIVE_CNT" 35, "probes", "-1";
    /// Idle time before the first TCP keepalive probe; -1 leaves the system's setting.
    tcp_keepalive_idle: i32 = -1, or_system, "ZMQ_TCP_KEEPALIVE_IDLE" 36, "s", "-1";
    /// Time between TCP keepalive probes; -1 leaves the system's setting.
    tcp_keepalive_interval: i32 = -1, or_system, "ZMQ_TCP_KEEPALIVE_INTVL" 37, "s", "-1";
    /// Connections that the system completes before they are accepted.
    backlog: u32 = 100, positive, "ZMQ_BACKLOG" 19, "connections", "100";
    /// The kernel's send buffer; -1 leaves the system's setting.
    send_buffer: i32 = -1, or_system, "ZMQ_SNDBUF" 11, "octets", "-1";
    /// The kernel's receive buffer; -1 leaves the system's setting.
    recv_buffer: i32 = -1, or_system, "ZMQ_RCVBUF" 12, "octets", "-1";
    /// The type-of-service octet of outgoing IP packets.
    tos: u8 = 0, tos, "ZMQ_TOS" 57, "", "0";
    /// Use IPv6 as well: names may resolve to IPv6 addresses and `*` listens on both families.
    ipv6: bool = false, flag, "ZMQ_IPV6" 42, "", "0";
    /// Send and receive through this network interface only; empty means any.
    bind_to_device: String = String::new(), text, "ZMQ_BINDTODEVICE" 92, "", "";
    /// Metadata sent in the handshake, as X-Key:value; several are separated by a new line.
    metadata: String = String::new(), metadata, "ZMQ_METADATA" 95, "", "";
    /// Asks peers for a name and a password (PLAIN), and an authenticator whether to let them in; without one nobody is. PLAIN does not encrypt.
    plain_server: bool = false, flag, "ZMQ_PLAIN_SERVER" 44, "", "0";
    /// The name shown to a PLAIN server, up to 255 octets; this or plain_password selects PLAIN.
    plain_username: Bytes = Bytes::new(), credential, "ZMQ_PLAIN_USERNAME" 45, "", "";
    /// The password shown to a PLAIN server, up to 255 octets, in clear unless the transport encrypts.
    plain_password: Secret = Secret::default(), secret, "ZMQ_PLAIN_PASSWORD" 46, "", "";
    /// Lets peers in that know the public half of curve_secret_key (CURVE), and encrypts. Which of them: an authenticator says, or else all.
    curve_server: bool = false, flag, "ZMQ_CURVE_SERVER" 47, "", "0";
    /// The public half of curve_secret_key. It need not be given; if it is, it must be that.
    curve_public_key: Option<CurvePublicKey> = None, public_key, "ZMQ_CURVE_PUBLICKEY" 48, "", "";
    /// This side's own key for CURVE. Servers and clients both need one.
    curve_secret_key: Option<CurveSecretKey> = None, secret_key, "ZMQ_CURVE_SECRETKEY" 49, "", "";
    /// The public key of the CURVE server to connect to; this selects CURVE as a client.
    curve_server_key: Option<CurvePublicKey> = None, public_key, "ZMQ_CURVE_SERVERKEY" 50, "", "";
    /// What authenticators (ZAP) are told this endpoint belongs to, up to 255 octets. With NULL they are asked only if it is set, and peers before ZMTP 3.0 are then refused.
    zap_domain: String = String::new(), domain, "ZMQ_ZAP_DOMAIN" 55, "", "";
    /// Refuse peers when there is no authenticator to ask, instead of letting them in. PLAIN does so always.
    zap_enforce_domain: bool = false, flag, "ZMQ_ZAP_ENFORCE_DOMAIN" 93, "", "0";
    /// Wait before an endpoint is tried again that refused us for who we are, or keeps closing during the handshake; drawn at random between half and all of it. -1 means never.
    refused_retry_interval: Option<Duration> = Some(Duration::from_secs(60)), never, "" 20_008, "ms", "60000";
    /// Most connections of one listener whose handshake is not done; of more the oldest is closed, so that who says nothing keeps nobody out.
    max_handshakes: u32 = 4096, positive, "" 20_009, "connections", "4096";
    /// tls: and unix+tls: endpoints: the file with this side's certificate and those that lead to its authority (PEM). Listeners need one. Read again when it changes.
    tls_certificate: String = String::new(), text, "" 20_010, "", "";
    /// The file with the key of tls_certificate (PEM).
    tls_key: String = String::new(), text, "" 20_011, "", "";
    /// The files with the certificates of the authorities that a peer's certificate must come from (PEM), one a line; without any, a client needs tls_pin.
    tls_authority: String = String::new(), text, "" 20_012, "", "";
    /// TLS listeners: let only peers in that show a certificate of tls_authority or tls_pin. Where one of those is set that is so anyway.
    tls_require_certificate: bool = false, flag, "" 20_013, "", "0";
    /// The name that the peer's certificate must have, where it isn't the host of the endpoint.
    tls_peer_name: String = String::new(), text, "" 20_014, "", "";
    /// SHA-256 of the public key (SubjectPublicKeyInfo) that the peer's certificate must have, 64 hexadecimal digits; several may be given, one a line.
    tls_pin: String = String::new(), pins, "" 20_015, "", "";
    /// Routers that a multicast datagram may pass (its time to live).
    multicast_hops: u8 = 1, tos, "ZMQ_MULTICAST_HOPS" 25, "", "1";
    /// Whether this machine gets the multicast datagrams that it sends.
    multicast_loop: bool = true, flag, "ZMQ_MULTICAST_LOOP" 96, "", "1";
}

impl Options {
    /// Default options: libzmq's, besides bounds in octets that it does not have
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The options that a fresh socket of a type has: SUB, XSUB and DISH do not linger
    #[must_use]
    pub fn of(socket_type: SocketType) -> Self {
        match socket_type {
            SocketType::Sub | SocketType::Xsub | SocketType::Dish => Self::new().linger(Some(Duration::ZERO)),
            _ => Self::new(),
        }
    }

    /// Sets an option by its name here or in `zmq.h`, from text
    ///
    /// `send_hwm`, `sndhwm`, `ZMQ_SNDHWM` and `send-hwm` name the same row.
    ///
    /// # Errors
    /// [`OptionError::Unknown`] names the nearest right name, [`OptionError::Value`] what is legal.
    pub fn set(&mut self, name: &str, text: &str) -> Result<(), OptionError> {
        let row = row_named(name)?;
        let bad = |legal| OptionError::Value { name: row.name, value: row.told(text), legal };
        let value = (row.parse)(text.trim()).map_err(bad)?;
        (row.set)(self, value).map_err(bad)
    }

    /// Sets an option by its number in `zmq.h`
    ///
    /// # Errors
    /// As [`Options::set`].
    pub fn set_number(&mut self, number: i32, value: OptionValue) -> Result<(), OptionError> {
        let row = OPTIONS.iter().find(|row| row.number == number);
        let row = row.ok_or_else(|| OptionError::Unknown { name: number.to_string(), suggestion: None })?;
        let shown = row.told(&value.to_string());
        (row.set)(self, value).map_err(|legal| OptionError::Value { name: row.name, value: shown, legal })
    }

    /// The value of an option, by any of its names
    ///
    /// # Errors
    /// [`OptionError::Unknown`] when no option has that name.
    pub fn value(&self, name: &str) -> Result<OptionValue, OptionError> {
        Ok((row_named(name)?.value)(self))
    }

    /// The overflow policy in force for a socket type
    #[must_use]
    pub(crate) fn overflow_for(&self, socket_type: SocketType) -> Overflow {
        let conflates = matches!(
            socket_type,
            SocketType::Push | SocketType::Pull | SocketType::Pub | SocketType::Sub | SocketType::Dealer
        );
        match (self.overflow, socket_type) {
            _ if self.conflate && conflates => Overflow::Latest,
            // A request dropped behind the application's back is a reply waited for in vain
            (_, SocketType::Req) => Overflow::Block,
            (Some(policy), _) => policy,
            (None, SocketType::Pub | SocketType::Xpub) if self.xpub_nodrop => Overflow::Block,
            (None, SocketType::Router) if self.router_mandatory => Overflow::Block,
            (None, _) => Overflow::of(socket_type),
        }
    }

    /// The properties in `metadata`, which peers are told
    pub(crate) fn announced(&self) -> Properties {
        let mut properties = Properties::new();
        for line in self.metadata.lines() {
            if let Some((name, value)) = line.split_once(':') {
                // The table's codec has checked the names
                properties.insert(name.trim(), Bytes::copy_from_slice(value.trim().as_bytes())).ok();
            }
        }
        properties
    }

    /// What the ZMTP connection of a socket with these options is told
    pub(crate) fn zmtp_config(&self, socket_type: SocketType) -> Config {
        let mut properties = self.announced();
        if multipart::concerns(socket_type) {
            properties.insert(multipart::PROPERTY, "1").ok();
        }
        let mut config = Config::new(socket_type)
            .routing_id(self.routing_id.clone())
            .properties(properties)
            .oldest_version(self.oldest_version)
            .handshake_timeout(self.handshake_interval)
            .heartbeat(Heartbeat {
                interval: self.heartbeat_interval,
                timeout: self.heartbeat_timeout,
                ttl: self.heartbeat_ttl,
            })
            .max_frames_per_message(self.max_message_frames as usize);
        if let Some(limit) = self.max_message_size {
            config = config.max_frame(limit);
        }
        config
    }

    /// What datagrams of a socket with these options go by
    pub(crate) fn datagram_options(&self) -> tidings_transport::DatagramOptions {
        tidings_transport::DatagramOptions::default()
            .multicast_hops(self.multicast_hops)
            .multicast_loop(self.multicast_loop)
            .ipv6(self.ipv6)
            .tos(u32::from(self.tos))
            .send_buffer(usize::try_from(self.send_buffer).ok())
            .receive_buffer(usize::try_from(self.recv_buffer).ok())
            .bind_to_device(Some(self.bind_to_device.clone()).filter(|name| !name.is_empty()))
    }

    /// What the transport of a socket with these options is told
    pub(crate) fn stream_options(&self) -> tidings_transport::StreamOptions {
        let seconds = |value: i32| u64::try_from(value).ok().filter(|s| *s > 0).map(Duration::from_secs);
        tidings_transport::StreamOptions::default()
            .keepalive(match self.tcp_keepalive {
                0 => Some(false),
                1 => Some(true),
                _ => None,
            })
            .keepalive_idle(seconds(self.tcp_keepalive_idle))
            .keepalive_interval(seconds(self.tcp_keepalive_interval))
            .keepalive_count(u32::try_from(self.tcp_keepalive_count).ok().filter(|n| *n > 0))
            .tos(u32::from(self.tos))
            .send_buffer(usize::try_from(self.send_buffer).ok())
            .receive_buffer(usize::try_from(self.recv_buffer).ok())
            .backlog(self.backlog)
            .ipv6(self.ipv6)
            .bind_to_device(Some(self.bind_to_device.clone()).filter(|name| !name.is_empty()))
            .connect_timeout(self.connect_timeout)
            .max_retransmit(self.tcp_max_retransmit)
    }
}

fn row_named(name: &str) -> Result<&'static OptionRow, OptionError> {
    let wanted = name.trim().to_ascii_lowercase().replace('-', "_");
    let short = wanted.strip_prefix("zmq_").unwrap_or(&wanted);
    let found = OPTIONS.iter().find(|row| {
        row.name == short || row.c_name.strip_prefix("ZMQ_").is_some_and(|c| c.eq_ignore_ascii_case(short))
    });
    found.ok_or_else(|| {
        let names = OPTIONS
            .iter()
            .flat_map(|row| [(row.name, row.name), (row.c_name.strip_prefix("ZMQ_").unwrap_or(row.name), row.name)]);
        OptionError::Unknown { name: name.to_owned(), suggestion: nearest(short, names) }
    })
}

/// Defines how one kind of value is parsed, checked and shown
macro_rules! codec {
    ($name:ident: $type:ty, $kind:ident, $legal:literal, $parse:expr, $read:expr, $show:expr) => {
        mod $name {
            use super::*;
            pub(super) const KIND: OptionKind = OptionKind::$kind;
            pub(super) const LEGAL: &str = $legal;
            pub(super) fn parse(text: &str) -> Result<OptionValue, &'static str> {
                let parse: fn(&str) -> Option<OptionValue> = $parse;
                parse(text).ok_or(LEGAL)
            }
            pub(super) fn read(value: OptionValue) -> Result<$type, &'static str> {
                let read: fn(OptionValue) -> Option<$type> = $read;
                read(value).ok_or(LEGAL)
            }
            #[allow(clippy::ptr_arg, reason = "one shape for every codec")]
            pub(super) fn show(value: &$type) -> OptionValue {
                let show: fn(&$type) -> OptionValue = $show;
                show(value)
            }
        }
    };
}

codec!(count: u32, Number, "a whole number from 0 to 2147483647", number, |v| from_int(v, 0, i64::from(i32::MAX)), |v| OptionValue::Number(i64::from(*v)));
codec!(positive: u32, Number, "a whole number from 1 to 2147483647", number, |v| from_int(v, 1, i64::from(i32::MAX)), |v| OptionValue::Number(i64::from(*v)));
codec!(size: u64, Number, "a number of octets, 0 or more", number, |v| from_int(v, 0, i64::MAX), |v| OptionValue::Number(i64::try_from(*v).unwrap_or(i64::MAX)));
codec!(tos: u8, Number, "a whole number from 0 to 255", number, |v| from_int(v, 0, 255), |v| OptionValue::Number(i64::from(*v)));
codec!(notify: u8, Number, "0, 1 (connect), 2 (disconnect) or 3 (both)", number, |v| from_int(v, 0, 3), |v| OptionValue::Number(i64::from(*v)));
codec!(keepalive: i32, Number, "-1, 0 or 1", number, |v| from_int(v, -1, 1), |v| OptionValue::Number(i64::from(*v)));
codec!(or_system: i32, Number, "-1 or a whole number up to 2147483647", number, |v| from_int(v, -1, i64::from(i32::MAX)), |v| OptionValue::Number(i64::from(*v)));
codec!(unlimited: Option<u64>, Number, "-1 or a number of octets", number,
    |v| from_int(v, -1, i64::MAX).map(|n: i64| u64::try_from(n).ok()),
    |v| OptionValue::Number(v.map_or(-1, |n| i64::try_from(n).unwrap_or(i64::MAX))));
codec!(flag: bool, Flag, "1 or 0", parse_flag, |v| from_int(v, 0, 1).map(|n: i64| n == 1), |v| OptionValue::Number(i64::from(*v)));
codec!(plain: Duration, Duration, "a duration such as 250ms, 5s or a number of milliseconds", duration, |v| millis(v, 0).map(Option::unwrap_or_default), |v| in_millis(Some(*v), 0));
codec!(ttl: Duration, Duration, "a duration from 0 to 6553599 ms", duration, |v| millis(v, 0).map(Option::unwrap_or_default).filter(|d| d.as_millis() <= 6_553_599), |v| in_millis(Some(*v), 0));
codec!(forever: Option<Duration>, Duration, "-1 or a duration such as 250ms, 5s or a number of milliseconds", duration, |v| millis(v, -1), |v| in_millis(*v, -1));
codec!(never: Option<Duration>, Duration, "-1 or a duration such as 250ms, 5s or a number of milliseconds", duration,
    // libzmq: a wait of zero or less never reconnects
    |v| millis(v, -1).map(|wait| wait.filter(|wait| !wait.is_zero())), |v| in_millis(*v, -1));
codec!(unless_zero: Option<Duration>, Duration, "0 or a duration such as 250ms, 5s or a number of milliseconds", duration,
    |v| millis(v, 0).map(|wait| wait.filter(|wait| !wait.is_zero())), |v| in_millis(*v, 0));
codec!(octets: Bytes, Octets, "text, or 0x and hexadecimal digits", parse_octets, from_octets, |v| OptionValue::Octets(v.clone()));
codec!(routing_id: Bytes, Octets, "up to 255 octets, the first not 00, as text or 0x and hexadecimal digits", parse_octets,
    // RFC 28: ids that start with a zero octet are the ROUTER's own
    |v| from_octets(v).filter(|id| id.len() <= 255 && id.first() != Some(&0)), |v| OptionValue::Octets(v.clone()));
codec!(credential: Bytes, Octets, "up to 255 octets, as text or 0x and hexadecimal digits", parse_octets,
    |v| from_octets(v).filter(|octets| octets.len() <= CREDENTIAL_LIMIT), |v| OptionValue::Octets(v.clone()));
codec!(secret: Secret, Secret, "up to 255 octets, as text or 0x and hexadecimal digits", parse_octets,
    |v| from_octets(v).filter(|octets| octets.len() <= CREDENTIAL_LIMIT && octets != SET).map(Secret::from),
    |v| shown_secret(!v.is_empty()));
codec!(public_key: Option<CurvePublicKey>, Key, "a key: 40 characters of Z85, or 32 octets", parse_key,
    |v| from_key(v).map(|key| key.map(|octets| CurvePublicKey::from_octets(*octets))),
    |v| OptionValue::Text(v.map_or_else(String::new, |key| key.to_string())));
codec!(secret_key: Option<CurveSecretKey>, Secret, "a key: 40 characters of Z85, or 32 octets", parse_key,
    |v| from_key(v).map(|key| key.map(|octets| CurveSecretKey::from_octets(*octets))),
    |v| shown_secret(v.is_some()));
codec!(domain: String, Text, "a text of up to 255 octets", |text| Some(OptionValue::Text(text.to_owned())),
    |v| from_text(v).filter(|text| text.len() <= CREDENTIAL_LIMIT), |v| OptionValue::Text(v.clone()));
codec!(pins: String, Text, "lines of 64 hexadecimal digits", |text| Some(OptionValue::Text(text.to_owned())),
    |v| from_text(v).filter(|text| text.lines().all(|line| read_pin(line).is_some())), |v| OptionValue::Text(v.clone()));
codec!(text: String, Text, "a text", |text| Some(OptionValue::Text(text.to_owned())), from_text, |v| OptionValue::Text(v.clone()));
codec!(metadata: String, Text, "lines of X-Key:value, the key of letters, digits and - _ . +", |text| Some(OptionValue::Text(text.to_owned())),
    |v| from_text(v).filter(|text| text.lines().all(is_property)), |v| OptionValue::Text(v.clone()));
codec!(version: Version, Text, "1.0, 2.0, 3.0 or 3.1", |text| Some(OptionValue::Text(text.to_owned())),
    |v| {
        let text = from_text(v)?;
        [Version::V1_0, Version::V2_0, Version::V3_0, Version::V3_1].into_iter().find(|version| written(*version) == text)
    },
    |v| OptionValue::Text(written(*v)));
codec!(overflow: Option<Overflow>, Text, "default, block, drop-new, drop-old, latest or disconnect", |text| Some(OptionValue::Text(text.to_ascii_lowercase())),
    |v| match from_text(v)?.as_str() {
        "default" => Some(None),
        word => Overflow::WORDS.iter().find(|(name, _)| *name == word).map(|(_, policy)| Some(*policy)),
    },
    |v| OptionValue::Text(v.map_or_else(|| "default".to_owned(), |policy| policy.to_string())));

fn number(text: &str) -> Option<OptionValue> {
    text.replace('_', "").parse().ok().map(OptionValue::Number)
}

fn parse_flag(text: &str) -> Option<OptionValue> {
    let on = ["1", "true", "on", "yes"].iter().any(|word| text.eq_ignore_ascii_case(word));
    let off = ["0", "false", "off", "no"].iter().any(|word| text.eq_ignore_ascii_case(word));
    (on || off).then_some(OptionValue::Number(i64::from(on)))
}

fn duration(text: &str) -> Option<OptionValue> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let scale = match text.get(digits.len()..)?.to_ascii_lowercase().as_str() {
        "" | "ms" => 1.0,
        "s" => 1_000.0,
        "m" | "min" => 60_000.0,
        "h" => 3_600_000.0,
        _ => return None,
    };
    let value: f64 = digits.trim().parse().ok()?;
    let ms = value * scale;
    (ms.is_finite() && ms.abs() <= f64::from(i32::MAX)).then_some(OptionValue::Number(ms.round() as i64))
}

fn parse_octets(text: &str) -> Option<OptionValue> {
    let Some(digits) = text.strip_prefix("0x") else {
        return Some(OptionValue::Octets(Bytes::copy_from_slice(text.as_bytes())));
    };
    if !digits.is_ascii() || digits.len() % 2 != 0 {
        return None;
    }
    let octets = digits.as_bytes().chunks(2).map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok());
    octets.collect::<Option<Vec<u8>>>().map(|octets| OptionValue::Octets(octets.into()))
}

/// Z85 may begin as hexadecimal digits do: its length tells
fn parse_key(text: &str) -> Option<OptionValue> {
    match text.len() {
        KEY_TEXT_LEN => Some(OptionValue::Text(text.to_owned())),
        _ => parse_octets(text),
    }
}

/// A key in one of the forms that libzmq takes: 32 octets, 40 characters of Z85, or those with a zero octet behind;
/// nothing stands for none
fn from_key(value: OptionValue) -> Option<Option<Zeroizing<[u8; KEY_LEN]>>> {
    let octets = from_octets(value)?;
    let mut key = Zeroizing::new([0; KEY_LEN]);
    match (octets.len(), octets.split_last()) {
        (0, _) => return Some(None),
        (KEY_LEN, _) => key.copy_from_slice(&octets),
        (KEY_TEXT_LEN, _) => key.copy_from_slice(z85::decode(str::from_utf8(&octets).ok()?).ok()?.get(..KEY_LEN)?),
        (KEY_AND_NUL, Some((0, text))) => {
            key.copy_from_slice(z85::decode(str::from_utf8(text).ok()?).ok()?.get(..KEY_LEN)?);
        }
        _ => return None,
    }
    Some(Some(key))
}

/// SHA-256 in hexadecimal digits, colons between them or not
pub(crate) fn read_pin(line: &str) -> Option<[u8; 32]> {
    let digits: String = line.trim().chars().filter(|c| *c != ':').collect();
    match parse_octets(&format!("0x{digits}"))? {
        OptionValue::Octets(octets) => octets.as_ref().try_into().ok(),
        _ => None,
    }
}

fn shown_secret(is_set: bool) -> OptionValue {
    OptionValue::Text(if is_set { SET.to_owned() } else { String::new() })
}

fn from_int<T: TryFrom<i64>>(value: OptionValue, least: i64, most: i64) -> Option<T> {
    match value {
        OptionValue::Number(n) if (least..=most).contains(&n) => T::try_from(n).ok(),
        _ => None,
    }
}

fn from_octets(value: OptionValue) -> Option<Bytes> {
    match value {
        OptionValue::Octets(octets) => Some(octets),
        OptionValue::Text(text) => Some(text.into()),
        OptionValue::Number(_) => None,
    }
}

fn from_text(value: OptionValue) -> Option<String> {
    match value {
        OptionValue::Text(text) => Some(text),
        OptionValue::Octets(octets) => String::from_utf8(octets.into()).ok(),
        OptionValue::Number(_) => None,
    }
}

/// A duration out of milliseconds; `none` is the number that stands for `None`
fn millis(value: OptionValue, none: i64) -> Option<Option<Duration>> {
    let ms: i64 = from_int(value, none.min(0), i64::from(i32::MAX))?;
    Some(u64::try_from(ms).ok().map(Duration::from_millis))
}

fn in_millis(value: Option<Duration>, none: i64) -> OptionValue {
    OptionValue::Number(value.map_or(none, |d| i64::try_from(d.as_millis()).unwrap_or(i64::MAX)))
}

fn written(version: Version) -> String {
    let (major, minor) = version.numbers();
    format!("{major}.{minor}")
}

/// Application properties begin with `X-` (RFC 37, "Metadata")
fn is_property(line: &str) -> bool {
    line.split_once(':').is_some_and(|(name, _)| {
        let name = name.trim();
        let rest = name.strip_prefix("X-").or_else(|| name.strip_prefix("x-"));
        rest.is_some_and(|rest| {
            !rest.is_empty()
                && name.len() <= 255
                && rest.bytes().all(|c| c.is_ascii_alphanumeric() || b"-_.+".contains(&c))
        })
    })
}

/// Octets that names and passwords may have (RFC 24), and the strings of ZAP (RFC 27)
const CREDENTIAL_LIMIT: usize = 255;
const KEY_TEXT_LEN: usize = 40;
const KEY_AND_NUL: usize = KEY_TEXT_LEN + 1;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_default_is_what_its_row_says() {
        let defaults = Options::new();
        for row in OPTIONS {
            assert_eq!((row.value)(&defaults).to_string(), row.default, "{}", row.name);
            let mut again = Options::new();
            again.set(row.name, row.default).unwrap_or_else(|error| panic!("{error}"));
            assert_eq!(again, defaults, "{}", row.name);
            assert!(row.doc.ends_with('.'), "{}", row.name);
        }
    }

    #[test]
    fn names_and_numbers_are_unique() {
        for (i, row) in OPTIONS.iter().enumerate() {
            for other in OPTIONS.iter().skip(i + 1) {
                assert_ne!(row.name, other.name);
                assert_ne!(row.number, other.number, "{} and {}", row.name, other.name);
            }
        }
    }

    #[test]
    fn an_option_answers_to_each_of_its_names() {
        for name in ["send_hwm", "sndhwm", "ZMQ_SNDHWM", "Send-HWM"] {
            let mut options = Options::new();
            options.set(name, "17").unwrap();
            assert_eq!(options.send_hwm, 17, "{name}");
        }
    }

    #[test]
    fn a_wrong_name_gets_the_nearest_right_one() {
        let error = Options::new().set("sndhmw", "1").unwrap_err();
        assert_eq!(error.to_string(), "no socket option is called 'sndhmw'; did you mean 'send_hwm'?");
        let error = Options::new().set("zzz", "1").unwrap_err();
        assert_eq!(error.to_string(), "no socket option is called 'zzz'");
    }

    #[test]
    fn a_wrong_value_says_what_is_legal() {
        for (name, value) in [
            ("send_hwm", "-1"),
            ("send_hwm", "many"),
            ("linger", "-2"),
            ("linger", "5 parsecs"),
            ("routing_id", "0x00ff"),
            ("immediate", "maybe"),
            ("overflow", "explode"),
            ("metadata", "Key:value"),
            ("heartbeat_ttl", "6553600"),
            ("tcp_keepalive", "2"),
        ] {
            let error = Options::new().set(name, value).unwrap_err().to_string();
            assert!(error.starts_with(&format!("option {name} can't be '{value}': it takes ")), "{error}");
        }
    }

    #[test]
    fn octets_are_shown_as_they_can_be_set() {
        for octets in [&b" padded"[..], b"tail ", b"0x41", b"\x01", b"plain", b""] {
            let options = Options::new().xpub_welcome_message(Bytes::copy_from_slice(octets));
            let shown = options.value("xpub_welcome_message").unwrap().to_string();
            let mut again = Options::new();
            again.set("xpub_welcome_message", &shown).unwrap();
            assert_eq!(again.xpub_welcome_message, octets, "{shown}");
        }
    }

    /// From libzmq's documentation of `zmq_curve`
    const PUBLIC: &str = "rq:rM>}U?@Lns47E1%kR.o@n%FcmmsL/@{H8]yf7";
    const SECRET: &str = "JTKVSB%%)wK0E.X)V>+}o?pNmC{O&4W4b!Ni{Lh6";

    #[test]
    fn keys_are_taken_in_every_form_of_libzmqs() {
        let key: CurvePublicKey = PUBLIC.parse().unwrap();
        let hex = key.as_octets().iter().fold("0x".to_owned(), |text, octet| format!("{text}{octet:02x}"));
        for text in [PUBLIC, &hex] {
            let mut options = Options::new();
            options.set("curve_serverkey", text).unwrap();
            assert_eq!(options.curve_server_key, Some(key));
            assert_eq!(options.value("curve_server_key").unwrap().to_string(), PUBLIC);
        }
        let with_nul = [PUBLIC.as_bytes(), b"\0"].concat();
        for octets in [&key.as_octets()[..], PUBLIC.as_bytes(), &with_nul] {
            let mut options = Options::new();
            options.set_number(50, OptionValue::Octets(Bytes::copy_from_slice(octets))).unwrap();
            assert_eq!(options.curve_server_key, Some(key));
            options.set("curve_server_key", "").unwrap();
            assert_eq!(options.curve_server_key, None);
        }
        for wrong in [&with_nul[1..], b"short", &[0; 33], &[b' '; 40], &[b'#'; 40]] {
            let value = OptionValue::Octets(Bytes::copy_from_slice(wrong));
            assert!(Options::new().set_number(48, value).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn secrets_are_shown_nowhere() {
        let mut options = Options::new();
        options.set("curve_secret_key", SECRET).unwrap();
        options.set("plain_password", "wonderland").unwrap();
        let everything = OPTIONS.iter().map(|row| (row.value)(&options).to_string()).collect::<Vec<_>>().join(" ");
        let shown = format!("{everything} {options:?} {}", options.value("plain_password").unwrap());
        assert!(!shown.contains("wonderland") && !shown.contains("JTKVSB"), "{shown}");
        assert_eq!(everything.matches("(set)").count(), 2);
        let wrong = [("curve_secret_key", &SECRET[1..]), ("plain_password", "(set)")];
        for (name, value) in wrong {
            let error = options.set(name, value).unwrap_err().to_string();
            assert!(error.contains("can't be '(not shown)'"), "{error}");
        }
        let long = OptionValue::Octets(Bytes::from(vec![b'x'; 256]));
        let error = options.set_number(46, long).unwrap_err().to_string();
        assert!(!error.contains("xx"), "{error}");
        for name in ["curve_secret_key", "plain_password"] {
            options.set(name, "").unwrap();
        }
        assert_eq!(options, Options::new());
    }

    #[test]
    fn pins_are_sha_256() {
        let pin = "AB:".repeat(31) + "cd";
        let mut options = Options::new();
        options.set("tls_pin", &format!("{pin}\n{}", "00".repeat(32))).unwrap();
        assert_eq!(read_pin(&pin).unwrap()[30..], [0xab, 0xcd]);
        for wrong in ["00", "zz", &"0".repeat(63)] {
            assert!(options.set("tls_pin", wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn durations_take_units() {
        let mut options = Options::new();
        for (text, ms) in [("250", 250), ("250ms", 250), ("1.5s", 1500), ("2m", 120_000)] {
            options.set("linger", text).unwrap();
            assert_eq!(options.linger, Some(Duration::from_millis(ms)), "{text}");
        }
        options.set("linger", "-1").unwrap();
        assert_eq!(options.linger, None);
        options.set("reconnect_interval", "0").unwrap();
        assert_eq!(options.reconnect_interval, None, "zero or less never reconnects");
    }

    #[test]
    fn policies_follow_the_type_unless_named() {
        let options = Options::new();
        assert_eq!(options.overflow_for(SocketType::Push), Overflow::Block);
        assert_eq!(options.overflow_for(SocketType::Pub), Overflow::DropNew);
        assert_eq!(options.clone().xpub_nodrop(true).overflow_for(SocketType::Pub), Overflow::Block);
        assert_eq!(options.clone().router_mandatory(true).overflow_for(SocketType::Router), Overflow::Block);
        assert_eq!(options.clone().conflate(true).overflow_for(SocketType::Push), Overflow::Latest);
        assert_eq!(options.overflow(Some(Overflow::DropOld)).overflow_for(SocketType::Push), Overflow::DropOld);
    }
}

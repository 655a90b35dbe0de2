//! What a connection is told before it begins.

use std::time::Duration;

use bytes::Bytes;

use crate::{
    greeting::Version, mechanism::MechanismConfig, message::SHORT, properties::Properties, socket_type::SocketType,
};

/// How a connection presents itself, and what it accepts from its peer
#[derive(Clone, Debug)]
pub struct Config {
    pub(crate) socket_type: SocketType,
    pub(crate) routing_id: Bytes,
    pub(crate) properties: Properties,
    pub(crate) mechanism: MechanismConfig,
    pub(crate) authenticate: bool,
    pub(crate) oldest_version: Version,
    pub(crate) handshake_timeout: Option<Duration>,
    pub(crate) heartbeat: Heartbeat,
    pub(crate) max_frame: u64,
    pub(crate) max_frames_per_message: usize,
    pub(crate) max_message: u64,
}

/// How silence is noticed (RFC 37, "Connection Heartbeating")
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Heartbeat {
    /// Between two PINGs; `None`, the default, for none
    pub interval: Option<Duration>,
    /// Silence after a PING that means the peer is gone; `None`, the default, for the interval
    pub timeout: Option<Duration>,
    /// Silence after which the peer shall take us for gone, rounded up to tenths of a second, 6,553.5 s at most;
    /// zero, the default, for no such request
    pub ttl: Duration,
}

impl Config {
    /// The configuration of a socket of that type, all else at its default
    pub fn new(socket_type: SocketType) -> Self {
        Self {
            socket_type,
            routing_id: Bytes::new(),
            properties: Properties::new(),
            mechanism: MechanismConfig::default(),
            authenticate: false,
            oldest_version: Version::V1_0,
            handshake_timeout: Some(Duration::from_secs(30)),
            heartbeat: Heartbeat::default(),
            max_frame: MAX_OCTETS,
            max_frames_per_message: 65_536,
            max_message: MAX_OCTETS,
        }
    }

    /// The type of socket we are
    pub fn socket_type(mut self, socket_type: SocketType) -> Self {
        self.socket_type = socket_type;
        self
    }

    /// The name a ROUTER shall know us by; empty, the default, lets it choose
    ///
    /// At most [`ROUTING_ID_LIMIT`] octets, the first not zero; peers refuse longer ones.
    pub fn routing_id(mut self, routing_id: impl Into<Bytes>) -> Self {
        self.routing_id = routing_id.into();
        self
    }

    /// Further properties for READY, behind Socket-Type and Identity; their names should begin with `X-`
    ///
    /// Peers of 3.0 and later see them. None by default.
    pub fn properties(mut self, properties: Properties) -> Self {
        self.properties = properties;
        self
    }

    /// The security handshake; NULL by default
    pub fn mechanism(mut self, mechanism: MechanismConfig) -> Self {
        self.mechanism = mechanism;
        self
    }

    /// Whether the owner is asked before a peer is let in; false by default
    ///
    /// Holds for NULL, on whichever side it is set, and for CURVE servers: they say
    /// [`Event::Authenticate`](crate::Event::Authenticate). A PLAIN server always asks, clients of PLAIN and CURVE never
    /// do. Peers of 1.0 and 2.0 are refused then: they have no place for it.
    pub fn authenticate(mut self, authenticate: bool) -> Self {
        self.authenticate = authenticate;
        self
    }

    /// The oldest protocol version spoken; 1.0 by default, as libzmq does
    ///
    /// Mind that 1.0 has no signature: to it any octets are a peer, an HTTP request too. From 3.0 on the greeting
    /// goes out at once and not in stages, which saves the handshake a trip.
    pub fn oldest_version(mut self, version: Version) -> Self {
        self.oldest_version = version;
        self
    }

    /// How long the handshake may take; 30 s by default (libzmq's `HANDSHAKE_IVL`), `None` for ever
    pub fn handshake_timeout(mut self, timeout: impl Into<Option<Duration>>) -> Self {
        self.handshake_timeout = timeout.into();
        self
    }

    /// How silence is noticed; not at all by default
    pub fn heartbeat(mut self, heartbeat: Heartbeat) -> Self {
        self.heartbeat = heartbeat;
        self
    }

    /// The longest frame accepted, in octets; 2^31-1 by default (libzmq's `MAX_MSGSZ`)
    ///
    /// A longer one closes the connection before any of it is buffered.
    pub fn max_frame(mut self, octets: u64) -> Self {
        self.max_frame = octets;
        self
    }

    /// The most frames of one message accepted; 65,536 by default
    pub fn max_frames_per_message(mut self, frames: usize) -> Self {
        self.max_frames_per_message = frames;
        self
    }

    /// The most octets accepted in all frames of one message; 2^31-1 by default
    pub fn max_message(mut self, octets: u64) -> Self {
        self.max_message = octets;
        self
    }

    /// Whether the bounds let every message of one short frame in
    pub(crate) fn takes_short(&self) -> bool {
        let short = SHORT as u64;
        self.max_frame >= short && self.max_message >= short && self.max_frames_per_message > 0
    }

    /// Whether the greeting needs no stages, since nobody is to be met who would take the rest of it for frames
    pub(crate) fn greets_at_once(&self) -> bool {
        self.version_floor() >= Version::V3_0
    }

    /// The oldest version that may be spoken: a peer must not talk us out of our mechanism
    pub(crate) fn version_floor(&self) -> Version {
        match self.mechanism {
            MechanismConfig::Null if !self.authenticate => self.oldest_version,
            _ => self.oldest_version.max(Version::V3_0),
        }
    }
}

/// Octets of the longest routing id (RFC 23, "The Identity Property")
pub const ROUTING_ID_LIMIT: usize = 255;

/// What libzmq's context allows by default (`ZMQ_MAX_MSGSZ`)
const MAX_OCTETS: u64 = i32::MAX as u64;

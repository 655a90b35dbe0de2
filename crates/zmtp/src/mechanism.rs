//! Security mechanisms: the handshake between the greeting and the messages.
//!
//! Each mechanism has a state for each thing it may await. A state is consumed by what arrives, so that none is
//! left half done.

use bytes::BytesMut;

use crate::{
    close_reason::{CloseReason, printable},
    command::Command,
    config::Config,
    properties::Properties,
};

/// Which security mechanism a connection uses; both sides must use the same
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum MechanismConfig {
    /// No authentication, no encryption (RFC 23, "The NULL Security Mechanism")
    #[default]
    Null,
}

impl MechanismConfig {
    /// The name in the greeting
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Null => "NULL",
        }
    }

    /// The name as the greeting has it
    pub(crate) fn padded_name(&self) -> [u8; 20] {
        let mut padded = [0; 20];
        padded.iter_mut().zip(self.name().bytes()).for_each(|(to, from)| *to = from);
        padded
    }
}

/// A handshake under way
#[derive(Debug)]
pub(crate) enum Mechanism {
    Null(NullAwaitsReady),
}

/// What a handshake command led to
#[derive(Debug)]
pub(crate) enum Step {
    /// Both sides are done; these are the peer's properties
    Done(Properties),
}

impl Mechanism {
    /// Begins the handshake; what is to be said first goes to `transmit`
    pub(crate) fn start(config: &Config, transmit: &mut BytesMut) -> Self {
        match config.mechanism {
            MechanismConfig::Null => Self::Null(NullAwaitsReady::start(config, transmit)),
        }
    }

    /// Goes on with the body of a handshake frame
    pub(crate) fn handle(self, body: &[u8]) -> Result<Step, CloseReason> {
        match self {
            Self::Null(state) => state.handle(body),
        }
    }
}

/// NULL: our READY was sent, the peer's is due
#[derive(Debug)]
pub(crate) struct NullAwaitsReady;

impl NullAwaitsReady {
    /// Sends READY without waiting for the peer's
    ///
    /// RFC 37 lets the binding side wait, but when both sides do nothing ever happens; libzmq doesn't wait.
    fn start(config: &Config, transmit: &mut BytesMut) -> Self {
        Command::Ready(own_properties(config)).encode(transmit);
        Self
    }

    fn handle(self, body: &[u8]) -> Result<Step, CloseReason> {
        match Command::parse(body)? {
            Command::Ready(properties) => Ok(Step::Done(properties)),
            Command::Error(reason) => Err(CloseReason::ErrorReceived { reason: printable(reason) }),
            Command::Ping { .. } => Err(unexpected(b"PING")),
            Command::Pong { .. } => Err(unexpected(b"PONG")),
            Command::Subscribe(_) => Err(unexpected(b"SUBSCRIBE")),
            Command::Cancel(_) => Err(unexpected(b"CANCEL")),
            Command::Join(_) => Err(unexpected(b"JOIN")),
            Command::Leave(_) => Err(unexpected(b"LEAVE")),
            Command::Unknown { name } => Err(unexpected(name)),
        }
    }
}

fn unexpected(name: &[u8]) -> CloseReason {
    CloseReason::UnexpectedCommand { name: printable(name) }
}

/// What we tell of ourselves (RFC 23, "Metadata"), in the order of libzmq
fn own_properties(config: &Config) -> Properties {
    let mut properties = Properties::new();
    let kind = config.socket_type;
    let own = [
        ("Socket-Type", Some(kind.name().into())),
        ("Identity", kind.announces_routing_id().then(|| config.routing_id.clone())),
    ];
    let extra = config.properties.iter().map(|(name, value)| (name, Some(value.clone())));
    for (name, value) in own.into_iter().chain(extra) {
        // What can't be said is left out: names and values were checked when the configuration was made.
        if let (Some(value), None) = (value, properties.value(name)) {
            let _ = properties.insert(name, value);
        }
    }
    properties
}

/// Octets of the longest handshake command that a peer may send
///
/// Ours to choose: enough for any metadata seen, and what an unknown peer may make us hold at most.
pub const HANDSHAKE_COMMAND_CEILING: u64 = 65_536;

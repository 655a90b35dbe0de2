//! Security mechanisms: the handshake between the greeting and the messages.
//!
//! Each mechanism has a state for each thing it may await. A state is consumed by what arrives, so that none is
//! left half done.

mod curve;
mod null;
mod plain;
mod sealing;

use bytes::{Bytes, BytesMut};

pub(crate) use self::sealing::{SEALED_OVERHEAD, Sealing};
pub use self::{
    curve::{CurveClient, CurveServer},
    plain::{CredentialTooLong, PlainClient},
};
use crate::{
    auth::Credentials,
    close_reason::{CloseReason, printable},
    command::CommandError,
    config::Config,
    properties::Properties,
};

/// Which security mechanism a connection uses; both sides must use the same
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub enum MechanismConfig {
    /// No encryption, and no authentication beyond where the peer comes from (RFC 23, "The NULL Security Mechanism")
    #[default]
    Null,
    /// Shows a name and a password, in clear (RFC 24)
    PlainClient(PlainClient),
    /// Asks for a name and a password, and the owner whether to let the peer in (RFC 24)
    PlainServer,
    /// Encrypts, and proves to hold a key (RFC 26)
    CurveClient(CurveClient),
    /// Encrypts for clients that know our key (RFC 26)
    CurveServer(CurveServer),
}

impl MechanismConfig {
    /// The name in the greeting
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Null => "NULL",
            Self::PlainClient(_) | Self::PlainServer => "PLAIN",
            Self::CurveClient(_) | Self::CurveServer(_) => "CURVE",
        }
    }

    /// Whether this is the side that lets the other in; with NULL there is none
    pub const fn is_server(&self) -> bool {
        matches!(self, Self::PlainServer | Self::CurveServer(_))
    }

    /// The name as the greeting has it
    pub(crate) fn padded_name(&self) -> [u8; 20] {
        let mut padded = [0; 20];
        padded.iter_mut().zip(self.name().bytes()).for_each(|(to, from)| *to = from);
        padded
    }
}

/// A handshake under way, by what it awaits
#[derive(Debug)]
pub(crate) enum Mechanism {
    NullAwaitsVerdict(null::AwaitsVerdict),
    NullAwaitsReady(null::AwaitsReady),
    PlainAwaitsHello(plain::AwaitsHello),
    PlainAwaitsVerdict(plain::AwaitsVerdict),
    PlainAwaitsInitiate(plain::AwaitsInitiate),
    PlainAwaitsWelcome(plain::AwaitsWelcome),
    PlainAwaitsReady(plain::AwaitsReady),
    CurveAwaitsHello(curve::AwaitsHello),
    CurveAwaitsInitiate(curve::AwaitsInitiate),
    CurveAwaitsVerdict(Box<curve::AwaitsVerdict>),
    CurveAwaitsWelcome(Box<curve::AwaitsWelcome>),
    CurveAwaitsReady(Box<curve::AwaitsReady>),
}

/// What the owner knows of a peer that it let in
#[derive(Debug, Default)]
pub(crate) struct Admission {
    pub(crate) user_id: Bytes,
    pub(crate) metadata: Properties,
}

/// What a handshake command, or the owner's verdict, led to
#[derive(Debug)]
pub(crate) enum Step {
    /// Something else is awaited
    Await(Mechanism),
    /// The owner is to be asked
    Ask(Credentials, Mechanism),
    /// Both sides are done
    Done(Box<Outcome>),
}

/// What a handshake ends with
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    /// What the peer told of itself
    pub(crate) properties: Properties,
    pub(crate) admission: Admission,
    /// What is still to be said, if the peer's properties fit
    pub(crate) last_word: BytesMut,
    /// How messages are sealed, where they are
    pub(crate) sealing: Option<Box<Sealing>>,
}

impl Mechanism {
    /// Begins the handshake; what is to be said first goes to `transmit`
    pub(crate) fn start(config: &Config, transmit: &mut BytesMut) -> Result<Step, CloseReason> {
        Ok(match &config.mechanism {
            MechanismConfig::Null => null::start(config, transmit),
            MechanismConfig::PlainClient(client) => Step::Await(client.start(transmit)),
            MechanismConfig::PlainServer => Step::Await(Self::PlainAwaitsHello(plain::AwaitsHello)),
            MechanismConfig::CurveClient(client) => Step::Await(client.start(transmit)?),
            MechanismConfig::CurveServer(_) => Step::Await(Self::CurveAwaitsHello(curve::AwaitsHello)),
        })
    }

    /// Goes on with the body of a handshake frame, which may be decrypted where it lies
    pub(crate) fn handle(self, config: &Config, body: &mut [u8], transmit: &mut BytesMut) -> Result<Step, CloseReason> {
        match (self, &config.mechanism) {
            (Self::NullAwaitsReady(state), _) => state.handle(body),
            (Self::PlainAwaitsHello(state), _) => state.handle(body),
            (Self::PlainAwaitsInitiate(state), _) => state.handle(config, body),
            (Self::PlainAwaitsWelcome(state), _) => state.handle(config, body, transmit),
            (Self::PlainAwaitsReady(state), _) => state.handle(body),
            (Self::CurveAwaitsHello(state), MechanismConfig::CurveServer(server)) => {
                state.handle(server, body, transmit)
            }
            (Self::CurveAwaitsInitiate(state), MechanismConfig::CurveServer(server)) => {
                state.handle(server, config, body)
            }
            (Self::CurveAwaitsWelcome(state), MechanismConfig::CurveClient(client)) => {
                state.handle(client, config, body, transmit)
            }
            (Self::CurveAwaitsReady(state), _) => state.handle(body),
            // Nothing is read while a verdict is due, and a mechanism never changes: this is never reached.
            (state, _) => Ok(Step::Await(state)),
        }
    }

    /// Goes on with a peer that the owner lets in
    pub(crate) fn admit(
        self,
        config: &Config,
        admission: Admission,
        transmit: &mut BytesMut,
    ) -> Result<Step, CloseReason> {
        Ok(match self {
            Self::NullAwaitsVerdict(state) => Step::Await(state.admit(config, admission, transmit)),
            Self::PlainAwaitsVerdict(state) => Step::Await(state.admit(admission, transmit)),
            Self::CurveAwaitsVerdict(state) => state.admit(config, admission),
            state => Step::Await(state),
        })
    }

    /// Whether the owner's verdict is awaited, and nothing that the peer says
    pub(crate) fn awaits_verdict(&self) -> bool {
        matches!(self, Self::NullAwaitsVerdict(_) | Self::PlainAwaitsVerdict(_) | Self::CurveAwaitsVerdict(_))
    }

    /// Octets of the longest command that may come next: a longer one is refused before it is held
    pub(crate) fn ceiling(&self) -> u64 {
        match self {
            Self::PlainAwaitsHello(_) => plain::LONGEST_HELLO,
            Self::CurveAwaitsHello(_) => curve::HELLO_LEN as u64,
            Self::PlainAwaitsWelcome(_) | Self::CurveAwaitsWelcome(_) => LONGEST_ERROR,
            _ => HANDSHAKE_COMMAND_CEILING,
        }
    }
}

/// The data of the command of that name, or why it is none
fn expect<'a>(due: &'static str, body: &'a mut [u8]) -> Result<&'a mut [u8], CloseReason> {
    let (&mut name_len, rest) = body.split_first_mut().ok_or(CommandError::Name)?;
    let (name, data) = rest.split_at_mut_checked(name_len.into()).ok_or(CommandError::Name)?;
    match &*name {
        name if name == due.as_bytes() => Ok(data),
        b"ERROR" => Err(refusal(data)),
        name => Err(CloseReason::UnexpectedCommand { name: printable(name), due }),
    }
}

/// What ERROR says; as with libzmq a reason that is cut short keeps what there is
fn refusal(data: &[u8]) -> CloseReason {
    let (&len, reason) = data.split_first().unwrap_or((&0, &[]));
    CloseReason::ErrorReceived { reason: printable(reason.get(..len.into()).unwrap_or(reason)) }
}

fn metadata(octets: &[u8]) -> Result<Properties, CloseReason> {
    Properties::decode(octets).map_err(CloseReason::MalformedMetadata)
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
/// `05 ERROR`, and a reason with its length
const LONGEST_ERROR: u64 = 6 + 1 + 255;

//! `tidings doctor`: why a connection comes up or does not, in words.
//!
//! It goes the way of any client, one step at a time: name, transport, TLS, greeting, mechanism, handshake. It
//! reads what the peer says with its own eyes, so that it can tell what is there when it is not ZeroMQ.

mod examination;
mod findings;

use std::time::Duration;

use clap::Args;
use tidings::{Endpoint, SocketType};

use self::examination::Examination;
use self::findings::{Findings, Verdict};
use super::security::SecurityArgs;
use super::sock::block_on;
use super::{Exit, Failure, Talk, printed, units};
use crate::discovery::DiscoveryArgs;

/// Explain why a connection to an endpoint comes up or does not
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct DoctorArgs {
    /// Where a client would connect, such as tcp://192.0.2.1:5555, or gossip:NAME
    #[arg(value_name = "ENDPOINT")]
    endpoint: String,
    /// Introduce ourselves as a socket of this type, and so go to the end of the handshake; without it the doctor
    /// looks but never joins in, so that no message can be handed to it
    #[arg(long = "as", value_name = "TYPE")]
    socket_type: Option<SocketType>,
    /// Longest wait for each step
    #[arg(long, value_name = "DURATION", value_parser = units::duration, default_value = "5s")]
    timeout: Duration,
    #[command(flatten)]
    discovery: DiscoveryArgs,
    #[command(flatten)]
    security: SecurityArgs,
}

/// `tidings doctor ENDPOINT`
///
/// # Errors
/// What is wrong with the endpoint (2), with the way there (3), or between the two (4, 5).
pub(crate) fn run(args: &DoctorArgs, talk: Talk) -> Result<(), Failure> {
    block_on(async {
        let security = args.security.read()?;
        let endpoint = args.discovery.find(&args.endpoint, &security, args.timeout, talk).await?.endpoint;
        endpoint.for_connect().map_err(Failure::usage)?;
        if let Some(notice) = Endpoint::notice(&args.endpoint) {
            talk.say(notice);
        }
        let examination = Examination::new(&endpoint, args.socket_type, args.timeout, &args.security)?;
        report(&examination.run().await, talk)
    })
}

fn report(findings: &Findings, talk: Talk) -> Result<(), Failure> {
    let text = if talk.json { findings.to_json().to_string() } else { findings.to_string() };
    printed(talk.data(text.trim_end()))?;
    match findings.verdict.exit() {
        None => Ok(()),
        // All was said above
        Some(exit) => Err(Failure::new(exit, findings.verdict.name(), "")),
    }
}

impl Verdict {
    /// The exit code; `None` when all is well
    fn exit(self) -> Option<Exit> {
        match self {
            Self::Fine => None,
            Self::Unresolvable | Self::Unreachable => Some(Exit::Connect),
            Self::Silent => Some(Exit::Deadline),
            Self::NoConnection => Some(Exit::Negative),
            Self::NotZeromq
            | Self::OtherVersion
            | Self::OtherMechanism
            | Self::WrongServerKey
            | Self::Tls
            | Self::Refused
            | Self::IncompatibleType
            | Self::Closed => Some(Exit::Refused),
        }
    }
}

const EXAMPLES: &str = "\
Examples:
  tidings doctor tcp://192.0.2.1:5555
  tidings doctor tcp://192.0.2.1:5555 --as push          to the end of the handshake
  tidings doctor tcp://192.0.2.1:4831 --keys node-keys   with CURVE
  tidings doctor tls://hub.example.org:4831 --json | jq -r .verdict";

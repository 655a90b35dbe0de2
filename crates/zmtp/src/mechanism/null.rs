//! NULL: both sides say READY, and that is all (RFC 23, "The NULL Security Mechanism").

use bytes::BytesMut;

use super::{Admission, Mechanism, Outcome, Step, own_properties};
use crate::{
    auth::Credentials,
    close_reason::{CloseReason, printable},
    command::Command,
    config::Config,
};

/// Says READY, or asks the owner first
///
/// RFC 37 lets the binding side wait for the other's READY, but when both sides do nothing ever happens; libzmq
/// doesn't wait. Where the owner is asked, our READY waits for his verdict (RFC 27).
pub(super) fn start(config: &Config, transmit: &mut BytesMut) -> Step {
    match config.authenticate {
        true => Step::Ask(Credentials::Null, Mechanism::NullAwaitsVerdict(AwaitsVerdict)),
        false => Step::Await(AwaitsVerdict.admit(config, Admission::default(), transmit)),
    }
}

/// Nothing was said yet
#[derive(Debug)]
pub(crate) struct AwaitsVerdict;

impl AwaitsVerdict {
    pub(super) fn admit(self, config: &Config, admission: Admission, transmit: &mut BytesMut) -> Mechanism {
        Command::Ready(own_properties(config)).encode(transmit);
        Mechanism::NullAwaitsReady(AwaitsReady { admission })
    }
}

/// Our READY was sent, the peer's is due
#[derive(Debug)]
pub(crate) struct AwaitsReady {
    admission: Admission,
}

impl AwaitsReady {
    pub(super) fn handle(self, body: &[u8]) -> Result<Step, CloseReason> {
        let unexpected = |name: &[u8]| CloseReason::UnexpectedCommand { name: printable(name), due: "READY" };
        match Command::parse(body)? {
            Command::Ready(properties) => {
                Ok(Step::Done(Box::new(Outcome { properties, admission: self.admission, ..Outcome::default() })))
            }
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

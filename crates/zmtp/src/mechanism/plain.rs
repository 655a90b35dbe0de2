//! PLAIN: the client shows a name and a password, in clear (RFC 24).
//!
//! The grammar is that of the RFC's formal part and of libzmq: names and values behind one octet of length.

use std::{fmt, sync::Arc};

use bytes::{BufMut, Bytes, BytesMut};
use zeroize::{Zeroize, Zeroizing};

use super::{Admission, Mechanism, Outcome, Step, expect, metadata, own_properties, refusal};
use crate::{
    auth::Credentials,
    close_reason::CloseReason,
    command::{Command, frame},
    config::Config,
};

/// What a PLAIN client shows
#[derive(Clone)]
pub struct PlainClient {
    shown: Arc<Shown>,
}

struct Shown {
    username: Bytes,
    password: Zeroizing<Vec<u8>>,
}

impl PlainClient {
    /// Shows these, of whatever octets
    ///
    /// # Errors
    /// When one of them has more than 255 octets.
    pub fn new(username: impl Into<Bytes>, password: impl Into<Vec<u8>>) -> Result<Self, CredentialTooLong> {
        let (username, password) = (username.into(), Zeroizing::new(password.into()));
        match username.len().max(password.len()) {
            ..=CREDENTIAL_LIMIT => Ok(Self { shown: Arc::new(Shown { username, password }) }),
            octets => Err(CredentialTooLong { octets }),
        }
    }

    pub(super) fn start(&self, transmit: &mut BytesMut) -> Mechanism {
        let Shown { username, password } = &*self.shown;
        frame(transmit, b"HELLO", 2 + username.len() + password.len());
        for credential in [&username[..], &password[..]] {
            // `new` let no more in than fit the length.
            transmit.put_u8(credential.len() as u8);
            transmit.put_slice(credential);
        }
        Mechanism::PlainAwaitsWelcome(AwaitsWelcome)
    }
}

/// Without the password
impl fmt::Debug for PlainClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PlainClient {{ username: {:?}, password: … }}", self.shown.username)
    }
}

/// A name or password has more octets than PLAIN has room for
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a user name or password of {octets} octets, where PLAIN has room for 255")]
pub struct CredentialTooLong {
    /// Octets of the longer one
    pub octets: usize,
}

/// Server: the client is to show its credentials
#[derive(Debug)]
pub(crate) struct AwaitsHello;

impl AwaitsHello {
    pub(super) fn handle(self, body: &mut [u8]) -> Result<Step, CloseReason> {
        let octets = body.len();
        let data = expect("HELLO", body)?;
        let read = |data: &[u8]| {
            let (username, rest) = counted(data)?;
            let (password, []) = counted(rest)? else { return None };
            let username = Bytes::copy_from_slice(username);
            Some(Credentials::Plain { username, password: Zeroizing::new(password.to_vec()) })
        };
        let credentials = read(data);
        data.zeroize();
        match credentials {
            Some(credentials) => Ok(Step::Ask(credentials, Mechanism::PlainAwaitsVerdict(AwaitsVerdict))),
            None => Err(CloseReason::WrongSize { command: "HELLO", octets }),
        }
    }
}

/// Server: the owner is to say what it thinks of the credentials
#[derive(Debug)]
pub(crate) struct AwaitsVerdict;

impl AwaitsVerdict {
    pub(super) fn admit(self, admission: Admission, transmit: &mut BytesMut) -> Mechanism {
        frame(transmit, b"WELCOME", 0);
        Mechanism::PlainAwaitsInitiate(AwaitsInitiate { admission })
    }
}

/// Server: WELCOME was said, the client is to tell of itself
#[derive(Debug)]
pub(crate) struct AwaitsInitiate {
    admission: Admission,
}

impl AwaitsInitiate {
    pub(super) fn handle(self, config: &Config, body: &mut [u8]) -> Result<Step, CloseReason> {
        let properties = metadata(expect("INITIATE", body)?)?;
        let mut last_word = BytesMut::new();
        Command::Ready(own_properties(config)).encode(&mut last_word);
        Ok(Step::Done(Box::new(Outcome { properties, admission: self.admission, last_word, sealing: None })))
    }
}

/// Client: the credentials were shown
#[derive(Debug)]
pub(crate) struct AwaitsWelcome;

impl AwaitsWelcome {
    pub(super) fn handle(self, config: &Config, body: &mut [u8], transmit: &mut BytesMut) -> Result<Step, CloseReason> {
        let octets = body.len();
        let [] = expect_or_misspelt("WELCOME", body)? else {
            return Err(CloseReason::WrongSize { command: "WELCOME", octets });
        };
        let properties = own_properties(config);
        frame(transmit, b"INITIATE", properties.encoded_len());
        properties.encode(transmit);
        Ok(Step::Await(Mechanism::PlainAwaitsReady(AwaitsReady)))
    }
}

/// Client: the server is to tell of itself
#[derive(Debug)]
pub(crate) struct AwaitsReady;

impl AwaitsReady {
    pub(super) fn handle(self, body: &mut [u8]) -> Result<Step, CloseReason> {
        let properties = metadata(expect_or_misspelt("READY", body)?)?;
        Ok(Step::Done(Box::new(Outcome { properties, ..Outcome::default() })))
    }
}

/// As [`expect`], but takes libzmq's PLAIN servers at what they mean: they say `^RROR` without a length for `05 ERROR`
fn expect_or_misspelt<'a>(due: &'static str, body: &'a mut [u8]) -> Result<&'a mut [u8], CloseReason> {
    match body.strip_prefix(b"^RROR") {
        Some(reason) => Err(refusal(reason)),
        None => expect(due, body),
    }
}

/// Octets behind one of length, and what comes behind them
fn counted(octets: &[u8]) -> Option<(&[u8], &[u8])> {
    let (&len, rest) = octets.split_first()?;
    rest.split_at_checked(len.into())
}

/// Octets of the longest user name or password
const CREDENTIAL_LIMIT: usize = 255;
/// `05 HELLO`, and twice as much as a length lets in
pub(super) const LONGEST_HELLO: u64 = 6 + 2 * (1 + CREDENTIAL_LIMIT as u64);

//! Authentication: who is asked whether a peer may come in, and what.

use std::fmt;
use std::net::IpAddr;
use std::pin::Pin;

use tidings_transport::{PeerAddress, TlsPeer};
use tidings_zmtp::{AuthVerdict, Credentials, DenyCode};

use crate::context::Context;
use crate::security::Security;
use crate::zap;

/// Decides who may come in, for all sockets of a [`Context`]
///
/// Asked during the handshake of every connection to a PLAIN or CURVE server, and of NULL connections where the
/// endpoint has a `zap_domain`. It runs on the connection's task: it must answer at once, from memory.
pub trait Authenticator: fmt::Debug + Send + Sync {
    /// Whether this peer may come in, and as whom
    fn authenticate(&self, request: &AuthRequest<'_>) -> AuthVerdict;
}

/// What is known of a peer that wants to come in
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct AuthRequest<'a> {
    /// The option `zap_domain` of the endpoint; may be empty
    pub domain: &'a str,
    /// Where the peer comes from: its IP address without the port, `ipc:uid=0:pid=1` for a local one, or empty
    pub address: &'a str,
    /// Its IP address, where it has one
    pub ip: Option<IpAddr>,
    /// The routing id of the socket that it connects to, as libzmq's ZAP requests have it; mostly empty
    pub routing_id: &'a [u8],
    /// What it shows of itself
    pub credentials: &'a Credentials,
    /// What TLS has found out about it, its certificate foremost, where there is TLS
    pub tls: Option<&'a TlsPeer>,
}

impl<'a> AuthRequest<'a> {
    /// A request with these credentials, from nowhere in particular; the fields can be set
    #[must_use]
    pub fn new(credentials: &'a Credentials) -> Self {
        Self { domain: "", address: "", ip: None, routing_id: &[], credentials, tls: None }
    }
}

/// What came of asking
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) verdict: AuthVerdict,
    /// Why nobody really decided, by the stable name of the reason
    pub(crate) defect: Option<&'static str>,
}

/// An answer, or the wait for one
pub(crate) enum Asked {
    Answered(Answer),
    Waits(Waiting),
}

/// An external handler is at it
pub(crate) type Waiting = Pin<Box<dyn Future<Output = Answer> + Send>>;

impl Answer {
    /// Refused since the one who should have decided did not
    pub(crate) fn defect(name: &'static str) -> Self {
        let reason = zap::explain(name).to_owned();
        Self { verdict: AuthVerdict::Deny { code: DenyCode::Internal, reason }, defect: Some(name) }
    }
}

/// The peer in question
#[derive(Clone, Copy, Debug)]
pub(crate) struct Candidate<'a> {
    pub(crate) peer: PeerAddress,
    /// As libzmq has it in requests
    pub(crate) zap_address: &'a str,
    pub(crate) routing_id: &'a [u8],
    pub(crate) credentials: &'a Credentials,
    pub(crate) tls: Option<&'a TlsPeer>,
}

/// Asks whoever decides in this context: an external handler if one is bound, else the authenticator, else the options
pub(crate) fn ask(context: &Context, security: &Security, candidate: Candidate<'_>) -> Asked {
    if let Some(handler) = context.zap_handler() {
        let request = zap::Request {
            domain: security.zap_domain.clone(),
            address: candidate.zap_address.to_owned(),
            routing_id: candidate.routing_id.to_vec(),
            credentials: candidate.credentials.clone(),
        };
        return Asked::Waits(Box::pin(zap::ask(context.clone(), handler, request)));
    }
    let Some(authenticator) = context.authenticator() else {
        return Asked::Answered(match security.fails_closed() {
            true => Answer::defect(zap::NO_AUTHENTICATOR),
            // CURVE without anybody to ask encrypts, and lets every key in, as libzmq does
            false => Answer { verdict: AuthVerdict::allow(), defect: None },
        });
    };
    let (address, ip) = match candidate.peer {
        PeerAddress::Tcp(address) => (address.ip().to_string(), Some(address.ip())),
        PeerAddress::Ipc { pid, uid } => {
            let part = |name: &str, number: Option<String>| number.map(|n| format!(":{name}={n}")).unwrap_or_default();
            let (uid, pid) = (uid.map(|uid| uid.to_string()), pid.map(|pid| pid.to_string()));
            (format!("ipc{}{}", part("uid", uid), part("pid", pid)), None)
        }
        _ => (String::new(), None),
    };
    let request = AuthRequest {
        domain: &security.zap_domain,
        address: &address,
        ip,
        routing_id: candidate.routing_id,
        credentials: candidate.credentials,
        tls: candidate.tls,
    };
    Asked::Answered(Answer { verdict: authenticator.authenticate(&request), defect: None })
}

//! The ZAP handler of the process (RFC 27): asked by the sockets of a context, in memory, about every peer.
//!
//! Differences to CZMQ's `zauth`: addresses are ranges, and a denied one stays denied beside an allow list; the user id
//! of a CURVE peer is the name that we gave to its key, not the key; NULL peers from other hosts are refused
//! unless the policy lets them in; domains have rules.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Instant, SystemTime};

use bytes::Bytes;
use tidings_socket::{AuthRequest, AuthVerdict, Authenticator, Credentials, DenyCode};

use crate::judge::{Caller, Claim, ClientCertificate, Judgement, Refusal};
use crate::keystore::Shared;

/// Lets peers in by the keys and rules of a [`Keystore`](crate::Keystore)
///
/// An answer takes a microsecond or so with ten thousand keys: one look into a hash table. Hashed passwords
/// take longer the first time, and only so many of them are calculated in a second.
pub struct KeystoreAuthenticator {
    shared: Arc<Shared>,
}

/// How many were let in, and how many refused for which reason
#[derive(Debug, Default)]
pub(crate) struct Counts {
    admitted: AtomicU64,
    refused: [AtomicU64; Refusal::ALL.len()],
}

impl KeystoreAuthenticator {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }

    /// How many peers were let in since the start
    pub fn admitted(&self) -> u64 {
        self.shared.counts.admitted.load(Ordering::Relaxed)
    }

    /// How many peers were refused since the start, by [the reason's name](Refusal::name); all reasons, also those of zero
    pub fn refused(&self) -> BTreeMap<&'static str, u64> {
        let counts = self.shared.counts.refused.iter().map(|count| count.load(Ordering::Relaxed));
        Refusal::ALL.into_iter().map(Refusal::name).zip(counts).collect()
    }

    /// What to answer to a peer that wants to come in: the trait of the sockets asks this, and whoever drives
    /// connections alone may
    ///
    /// `ip` is `None` where there is no address (ipc, inproc); `certificate` is that of the TLS beneath, already checked
    /// against its authorities. The reason of a refusal is for our log: the peer learns the code.
    pub fn verdict(
        &self,
        domain: &str,
        ip: Option<IpAddr>,
        credentials: &Credentials,
        certificate: Option<ClientCertificate<'_>>,
    ) -> AuthVerdict {
        let claim = match credentials {
            Credentials::Null => Claim::Null,
            Credentials::Plain { username, password } => Claim::Plain { username, password },
            Credentials::Curve { public_key } => Claim::Curve(public_key),
            other => Claim::Other(other.mechanism()),
        };
        match self.judge(SystemTime::now(), Instant::now(), &Caller { domain, ip, claim, certificate }) {
            Judgement::Admitted { user, properties } => {
                AuthVerdict::Allow { user_id: Bytes::from(user), metadata: properties }
            }
            Judgement::Refused { refusal, words } => {
                // "Busy" ends by itself; all else stays so until somebody changes the keystore (RFC 27, "Status Codes")
                let code = if refusal == Refusal::Busy { DenyCode::Temporary } else { DenyCode::Denied };
                AuthVerdict::Deny { code, reason: format!("{}: {words}", refusal.name()) }
            }
        }
    }

    pub(crate) fn judge(&self, now: SystemTime, instant: Instant, caller: &Caller<'_>) -> Judgement {
        let judgement = self.shared.keys.load().judge(now, instant, &self.shared.passwords, caller);
        let counter = match &judgement {
            Judgement::Admitted { .. } => Some(&self.shared.counts.admitted),
            Judgement::Refused { refusal, .. } => {
                let place = Refusal::ALL.iter().position(|known| known == refusal);
                place.and_then(|place| self.shared.counts.refused.get(place))
            }
        };
        if let Some(counter) = counter {
            counter.fetch_add(1, Ordering::Relaxed);
        }
        judgement
    }
}

impl Authenticator for KeystoreAuthenticator {
    fn authenticate(&self, request: &AuthRequest<'_>) -> AuthVerdict {
        let certificate = request.tls.and_then(|tls| tls.certificate.as_ref()).map(Into::into);
        self.verdict(request.domain, request.ip, request.credentials, certificate)
    }
}

impl fmt::Debug for KeystoreAuthenticator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeystoreAuthenticator").field("directory", &self.shared.directory).finish_non_exhaustive()
    }
}

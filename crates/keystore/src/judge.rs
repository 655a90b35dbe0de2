//! Who is let in, as what, or why not: a decision on one set of keys at one time, with nothing else behind it.
//!
//! The order of the questions: the address, the domain's address and mechanism, who it is, may that one come from
//! there, may that one enter the domain. The peer learns the code alone; the words are for our log.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Instant, SystemTime};

use tidings_socket::{CurvePublicKey, Properties};
use tidings_transport::PeerCertificate;

use crate::Fingerprint;
use crate::access::Anonymous;
use crate::addresses::{AddressRules, AddressVerdict};
use crate::date::{display_date, display_expiry};
use crate::keyset::{KeySet, Standing, properties};
use crate::password::{Attempt, Passwords};

/// Somebody who wants to come in
#[derive(Clone, Copy, Debug)]
pub(crate) struct Caller<'a> {
    pub(crate) domain: &'a str,
    /// `None` for ipc and inproc
    pub(crate) ip: Option<IpAddr>,
    pub(crate) claim: Claim<'a>,
    /// The client certificate of the TLS beneath, which TLS has checked against its authorities
    pub(crate) certificate: Option<ClientCertificate<'a>>,
}

/// What the mechanism has proved or brought
#[derive(Clone, Copy)]
pub(crate) enum Claim<'a> {
    Null,
    Plain {
        username: &'a [u8],
        password: &'a [u8],
    },
    Curve(&'a CurvePublicKey),
    /// A mechanism that we know nothing of
    Other(&'static str),
}

impl std::fmt::Debug for Claim<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.mechanism())
    }
}

/// What the keystore asks of a TLS client certificate
#[derive(Clone, Copy, Debug)]
pub struct ClientCertificate<'a> {
    /// The common name of its subject
    pub common_name: Option<&'a str>,
    /// The SHA-256 of its DER form
    pub fingerprint: Fingerprint,
    /// To when it is good
    pub not_after: SystemTime,
}

impl<'a> From<&'a PeerCertificate> for ClientCertificate<'a> {
    fn from(certificate: &'a PeerCertificate) -> Self {
        Self {
            common_name: certificate.common_name.as_deref(),
            fingerprint: Fingerprint::from_octets(certificate.fingerprint),
            not_after: certificate.not_after,
        }
    }
}

impl Claim<'_> {
    fn mechanism(&self) -> &'static str {
        match self {
            Self::Null => "NULL",
            Self::Plain { .. } => "PLAIN",
            Self::Curve(_) => "CURVE",
            Self::Other(name) => name,
        }
    }
}

/// What comes of it
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Judgement {
    /// Let in, with a user id (empty for somebody without a name) and metadata
    Admitted { user: String, properties: Properties },
    /// Not let in: why, in a word and in words
    Refused { refusal: Refusal, words: String },
}

/// Why somebody is not let in
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
#[non_exhaustive]
pub enum Refusal {
    /// The address is in a denied range
    AddressDenied,
    /// There are allowed ranges, and the address is in none
    AddressNotAllowed,
    /// The domain asks for another mechanism
    Mechanism,
    /// The domain is for other names and roles
    NotAMember,
    /// A NULL peer, where those are not let in
    Anonymous,
    /// No such PLAIN user
    UnknownUser,
    /// A PLAIN user's password is wrong
    WrongPassword,
    /// Too many passwords are being tried; the only refusal that ends by itself
    Busy,
    /// A CURVE key that is in no file
    UnknownKey,
    /// A key that we trusted until its end
    Expired,
    /// A key that we trust no longer
    Revoked,
    /// A TLS client certificate that no rule names
    UnknownCertificate,
    /// A TLS client certificate after its end
    CertificateExpired,
    /// A mechanism that the keystore knows nothing of
    Unsupported,
}

impl Refusal {
    /// All of them, for tables and counters
    pub const ALL: [Self; 14] = [
        Self::AddressDenied,
        Self::AddressNotAllowed,
        Self::Mechanism,
        Self::NotAMember,
        Self::Anonymous,
        Self::UnknownUser,
        Self::WrongPassword,
        Self::Busy,
        Self::UnknownKey,
        Self::Expired,
        Self::Revoked,
        Self::UnknownCertificate,
        Self::CertificateExpired,
        Self::Unsupported,
    ];

    /// A stable name, for metrics and programs
    pub fn name(self) -> &'static str {
        match self {
            Self::AddressDenied => "address-denied",
            Self::AddressNotAllowed => "address-not-allowed",
            Self::Mechanism => "mechanism",
            Self::NotAMember => "not-a-member",
            Self::Anonymous => "anonymous",
            Self::UnknownUser => "unknown-user",
            Self::WrongPassword => "wrong-password",
            Self::Busy => "busy",
            Self::UnknownKey => "unknown-key",
            Self::Expired => "expired",
            Self::Revoked => "revoked",
            Self::UnknownCertificate => "unknown-certificate",
            Self::CertificateExpired => "certificate-expired",
            Self::Unsupported => "unsupported",
        }
    }
}

/// Somebody whom we know by name, or by nothing
struct Identity<'a> {
    name: &'a str,
    roles: &'a [String],
    properties: Properties,
}

type Refused = (Refusal, String);

impl KeySet {
    /// Judges one caller
    pub(crate) fn judge(
        &self,
        now: SystemTime,
        instant: Instant,
        passwords: &Passwords,
        caller: &Caller<'_>,
    ) -> Judgement {
        match self.admit(now, instant, passwords, caller) {
            Ok(identity) => Judgement::Admitted { user: identity.name.to_owned(), properties: identity.properties },
            Err((refusal, words)) => Judgement::Refused { refusal, words },
        }
    }

    fn admit<'a>(
        &'a self,
        now: SystemTime,
        instant: Instant,
        passwords: &Passwords,
        caller: &Caller<'a>,
    ) -> Result<Identity<'a>, Refused> {
        check_address(&self.access.addresses, caller.ip, "[addresses]")?;
        let domain = self.access.domains.get(caller.domain);
        // NULL inside of TLS with a certificate says who it is
        let mechanism = match (caller.claim, caller.certificate) {
            (Claim::Null, Some(_)) => "TLS",
            (claim, _) => claim.mechanism(),
        };
        if let Some(domain) = domain {
            check_address(&domain.addresses, caller.ip, &format!("[domains.{}]", caller.domain))?;
            if let Some(mechanisms) = &domain.mechanisms
                && !mechanisms.iter().any(|known| known == mechanism)
            {
                let words =
                    format!("the domain '{}' asks for {}, not {mechanism}", caller.domain, mechanisms.join(" or "));
                return Err((Refusal::Mechanism, words));
            }
        }
        let identity = match (caller.claim, caller.certificate) {
            (Claim::Null, Some(certificate)) => self.by_certificate(now, &certificate)?,
            (Claim::Null, None) => self.anonymous(caller.ip)?,
            (Claim::Plain { username, password }, _) => self.by_password(instant, passwords, username, password)?,
            (Claim::Curve(key), _) => self.by_key(now, key)?,
            (Claim::Other(name), _) => {
                return Err((Refusal::Unsupported, format!("the keystore has no rules for the mechanism {name}")));
            }
        };
        if let Some(rule) = self.access.keys.get(identity.name) {
            check_address(&rule.addresses, caller.ip, &format!("[keys.{}]", identity.name))?;
        }
        if let Some(members) = domain.and_then(|domain| domain.members.as_ref()) {
            let named = !identity.name.is_empty() && members.names.iter().any(|name| name == identity.name);
            if !named && !members.roles.iter().any(|role| identity.roles.contains(role)) {
                let who = if identity.name.is_empty() { "somebody without a name" } else { identity.name };
                let words =
                    format!("{who} is not let into the domain '{}': neither name nor role is listed", caller.domain);
                return Err((Refusal::NotAMember, words));
            }
        }
        Ok(identity)
    }

    fn anonymous(&self, ip: Option<IpAddr>) -> Result<Identity<'_>, Refused> {
        let local = ip.is_none_or(|ip| ip.to_canonical().is_loopback());
        match self.access.policy.anonymous {
            Anonymous::Allow => Ok(nobody()),
            Anonymous::Local if local => Ok(nobody()),
            _ => {
                Err((Refusal::Anonymous, "it does not say who it is: use CURVE, or TLS with a certificate".to_owned()))
            }
        }
    }

    fn by_password(
        &self,
        instant: Instant,
        passwords: &Passwords,
        username: &[u8],
        password: &[u8],
    ) -> Result<Identity<'_>, Refused> {
        // No name in TOML has octets that are no UTF-8
        let user = std::str::from_utf8(username).ok().and_then(|name| self.access.users.get_key_value(name));
        let stored = user.map(|(_, user)| &user.password);
        let name = user.map(|(name, _)| name.as_str()).unwrap_or_default();
        let shown = username.escape_ascii();
        match (passwords.check(instant, name, stored, self.access.hashed, password), user) {
            (Attempt::Right, Some((name, user))) => {
                Ok(Identity { name, roles: &user.roles, properties: properties(name, &user.roles, &[]) })
            }
            (Attempt::Busy, _) => {
                Err((Refusal::Busy, format!("too many passwords are being tried; that of the user '{shown}' was not")))
            }
            (_, Some(_)) => Err((Refusal::WrongPassword, format!("the password of the user '{shown}' is wrong"))),
            (_, None) => Err((Refusal::UnknownUser, format!("there is no user '{shown}' in access.toml"))),
        }
    }

    fn by_key(&self, now: SystemTime, key: &CurvePublicKey) -> Result<Identity<'_>, Refused> {
        match self.by_key.get(key) {
            Some(Standing::Trusted(trusted)) => match trusted.expires {
                Some(expires) if expires <= now => Err((
                    Refusal::Expired,
                    format!(
                        "the key of '{}' {} ({})",
                        trusted.name,
                        display_expiry(expires, now),
                        display_date(expires)
                    ),
                )),
                _ => Ok(Identity {
                    name: trusted.name.as_str(),
                    roles: &trusted.roles,
                    properties: trusted.properties.clone(),
                }),
            },
            Some(Standing::Revoked(revoked)) => {
                let (on, reason) = (display_date(revoked.revocation.on), &revoked.revocation.reason);
                Err((Refusal::Revoked, format!("the key of '{}' was revoked on {on}: {reason}", revoked.name)))
            }
            None if self.access.policy.unknown_keys => Ok(nobody()),
            None => {
                let words = Fingerprint::of(key.as_octets()).words();
                let advice = format!("if it is known to you, run  tidings key trust '{key}' --name NAME");
                Err((Refusal::UnknownKey, format!("nobody has trusted the key {key} ({words}); {advice}")))
            }
        }
    }

    fn by_certificate(&self, now: SystemTime, certificate: &ClientCertificate<'_>) -> Result<Identity<'_>, Refused> {
        let common_name = certificate.common_name.unwrap_or_default();
        let shown = common_name.escape_debug();
        let revoked = self.revoked_certificates.iter().find(|revoked| revoked.fingerprint == certificate.fingerprint);
        if let Some(revoked) = revoked {
            let words = format!("the certificate of '{shown}' was revoked: it is {}", revoked.path.display());
            return Err((Refusal::Revoked, words));
        }
        if certificate.not_after <= now {
            let words = format!("the certificate of '{shown}' {}", display_expiry(certificate.not_after, now));
            return Err((Refusal::CertificateExpired, words));
        }
        let holder = self.holders.get(&certificate.fingerprint).or_else(|| self.holders_by_name.get(common_name));
        match holder.map(Arc::as_ref) {
            Some(holder) => {
                Ok(Identity { name: holder.name.as_str(), roles: &holder.roles, properties: holder.properties.clone() })
            }
            None if self.access.policy.unknown_certificates => Ok(nobody()),
            None => {
                let words = format!(
                    "no rule names the certificate of '{shown}' (SHA-256 {}); write [tls.NAME] with its fingerprint into \
                     access.toml, or run  tidings key trust FILE.crt --name NAME",
                    certificate.fingerprint
                );
                Err((Refusal::UnknownCertificate, words))
            }
        }
    }
}

fn check_address(rules: &AddressRules, ip: Option<IpAddr>, place: &str) -> Result<(), Refused> {
    // Without an address it is a process on this host, which file permissions let in
    let Some(ip) = ip else { return Ok(()) };
    match rules.judge(ip) {
        AddressVerdict::Allowed => Ok(()),
        AddressVerdict::Denied(range) => {
            Err((Refusal::AddressDenied, format!("{ip} is in {range}, which {place} denies")))
        }
        AddressVerdict::NotAllowed => {
            Err((Refusal::AddressNotAllowed, format!("{ip} is in no range that {place} allows")))
        }
    }
}

/// Somebody without a name
fn nobody<'a>() -> Identity<'a> {
    Identity { name: "", roles: &[], properties: Properties::new() }
}

#[cfg(test)]
mod tests;

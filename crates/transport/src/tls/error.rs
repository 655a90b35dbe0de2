//! Why a TLS handshake or connection failed, named, with what to do about it.

use std::error::Error as StdError;
use std::fmt;
use std::io;

use rustls::{AlertDescription, CertificateError, Error, InvalidMessage, PeerIncompatible};

/// Why there is no TLS connection, or no longer one
///
/// What the peer's certificate lacks is told by the side that looked at it; the peer itself learns of it as
/// [`Refused`](Self::Refused), with the alert of RFC 8446, section 6, as its only explanation.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TlsError {
    /// The peer's certificate, or one above it, is no longer valid: renew it there, or set this machine's clock
    #[error("the peer's certificate has expired; renew it at the peer, or check this machine's clock")]
    Expired,

    /// The peer's certificate, or one above it, is not valid yet: one of the two clocks is wrong
    #[error("the peer's certificate is not valid yet; check the clocks of both machines")]
    NotYetValid,

    /// The peer's certificate is for other names: connect by one of those, or set the name to expect
    #[error(
        "the peer's certificate is for {presented}, not for {expected}; connect by a name it has, or set tls_peer_name to one"
    )]
    WrongName {
        /// The name that was asked for
        expected: String,
        /// The names that the certificate has, one after the other
        presented: String,
    },

    /// No authority that is trusted here issued the peer's certificate
    #[error(
        "no authority trusted here issued the peer's certificate; add its authority to tls_authority, or have the peer \
         send the intermediate certificates too"
    )]
    UnknownAuthority,

    /// The peer's key is not one of those pinned: another peer, or one with a new key
    #[error("the peer's key is not pinned here; if it is the right peer, add to tls_pin: {public_key}")]
    PinMismatch {
        /// The SHA-256 of the SubjectPublicKeyInfo it came with, in hexadecimal digits
        public_key: String,
    },

    /// The peer has no certificate, and here it needs one
    #[error("the peer sent no certificate and here it needs one; set tls_certificate and tls_key at the peer")]
    NoCertificate,

    /// The peer's certificate can't be used at all
    #[error("the peer's certificate can't be used: {reason}")]
    BadCertificate {
        /// What is wrong with it, and what to do
        reason: String,
    },

    /// The peer ended the handshake with an alert (RFC 8446, section 6): the reason is at its side
    #[error("the peer refused: {alert}; {}", alert_advice(.alert))]
    Refused {
        /// The alert's name, as the RFC writes it
        alert: String,
    },

    /// What came is not TLS
    #[error("the peer does not speak TLS: {found}")]
    NotTls {
        /// What it looks like, and what to do
        found: &'static str,
    },

    /// The two sides have no version of TLS in common
    #[error(
        "the peer has no version of TLS that is allowed here; this side speaks TLS 1.2 and 1.3 unless set otherwise"
    )]
    Version,

    /// The connection ended during the handshake; trying again may help
    #[error(
        "the peer closed the connection during the TLS handshake ({reason}); check that it listens with TLS, and try again"
    )]
    Closed {
        /// What the system said
        reason: String,
    },

    /// The settings don't allow a connection: nothing was sent
    #[error("{reason}")]
    Settings {
        /// What to set
        reason: String,
    },

    /// Anything else that the TLS library refuses: octets that were altered on the way, or a peer that breaks the rules
    #[error("TLS failed: {reason}; trying again helps only if the network altered the octets")]
    Failed {
        /// The library's explanation
        reason: String,
    },
}

impl TlsError {
    /// Its name, for counters, events and tests; never changes
    pub fn name(&self) -> &'static str {
        match self {
            Self::Expired => "tls-expired",
            Self::NotYetValid => "tls-not-yet-valid",
            Self::WrongName { .. } => "tls-wrong-name",
            Self::UnknownAuthority => "tls-unknown-authority",
            Self::PinMismatch { .. } => "tls-pin-mismatch",
            Self::NoCertificate => "tls-no-certificate",
            Self::BadCertificate { .. } => "tls-bad-certificate",
            Self::Refused { .. } => "tls-refused",
            Self::NotTls { .. } => "tls-not-tls",
            Self::Version => "tls-version",
            Self::Closed { .. } => "tls-closed",
            Self::Settings { .. } => "tls-settings",
            Self::Failed { .. } => "tls-failed",
        }
    }

    /// Whether trying again is of no use until somebody changes a certificate, a key or a setting
    pub fn is_definite(&self) -> bool {
        match self {
            Self::Closed { .. } | Self::Failed { .. } => false,
            // These the peer says of itself, or of a moment
            Self::Refused { alert } => !matches!(alert.as_str(), "internal_error" | "user_canceled" | "bad_record_mac"),
            _ => true,
        }
    }

    /// The TLS failure that an error of reading or writing stands for, if it is one
    ///
    /// With TLS 1.3 a client is through its handshake before the server has looked at its certificate: a refusal for
    /// that comes with the first read (RFC 8446, section 4.4.2.4, and appendix E.1).
    pub fn of(error: &io::Error) -> Option<&Self> {
        error.get_ref()?.downcast_ref()
    }

    /// What `error` of the handshake, or of traffic, means; `first` are the first octets that came
    pub(super) fn from_io(error: &io::Error, first: &[u8]) -> Self {
        match error.get_ref().and_then(|inner| inner.downcast_ref::<Error>()) {
            Some(error) => Self::from_rustls(error, first),
            None if !looks_like_tls(first) => Self::NotTls { found: what_it_is(first) },
            None => Self::Closed { reason: error.to_string() },
        }
    }

    fn from_rustls(error: &Error, first: &[u8]) -> Self {
        match error {
            Error::InvalidCertificate(error) => Self::from_certificate(error),
            Error::NoCertificatesPresented => Self::NoCertificate,
            Error::AlertReceived(AlertDescription::ProtocolVersion) => Self::Version,
            Error::AlertReceived(alert) => Self::Refused { alert: alert_name(*alert) },
            Error::PeerIncompatible(
                PeerIncompatible::ServerDoesNotSupportTls12Or13
                | PeerIncompatible::ServerTlsVersionIsDisabledByOurConfig
                | PeerIncompatible::SupportedVersionsExtensionRequired
                | PeerIncompatible::Tls12NotOffered
                | PeerIncompatible::Tls12NotOfferedOrEnabled,
            ) => Self::Version,
            Error::InvalidMessage(InvalidMessage::UnknownProtocolVersion) if looks_like_tls(first) => Self::Version,
            Error::InvalidMessage(_) if !looks_like_tls(first) => Self::NotTls { found: what_it_is(first) },
            other => Self::Failed { reason: other.to_string() },
        }
    }

    fn from_certificate(error: &CertificateError) -> Self {
        match error {
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => Self::Expired,
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => Self::NotYetValid,
            CertificateError::UnknownIssuer => Self::UnknownAuthority,
            CertificateError::NotValidForName => {
                Self::WrongName { expected: "the name asked for".to_owned(), presented: "other names".to_owned() }
            }
            CertificateError::NotValidForNameContext { expected, presented } => {
                let presented = match presented.as_slice() {
                    [] => "no name at all".to_owned(),
                    names => names.join(", "),
                };
                Self::WrongName { expected: expected.to_str().into_owned(), presented }
            }
            CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. } => Self::BadCertificate {
                reason: "its extended key usage is for another purpose; issue it for serverAuth and clientAuth"
                    .to_owned(),
            },
            CertificateError::Other(other) => match other.0.downcast_ref::<Verdict>() {
                Some(Verdict(error)) => error.clone(),
                None => Self::BadCertificate { reason: other.0.to_string() },
            },
            other => Self::BadCertificate { reason: other.to_string() },
        }
    }
}

/// A verdict of our own verifier, on its way through rustls
#[derive(Debug)]
pub(super) struct Verdict(pub(super) TlsError);

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl StdError for Verdict {}

/// Whether `first` can be the beginning of a TLS record (RFC 8446, section 5.1): its type and the major version
fn looks_like_tls(first: &[u8]) -> bool {
    match first {
        [] => true,
        [kind] => (20..=23).contains(kind),
        [kind, major, ..] => (20..=23).contains(kind) && *major == 3,
    }
}

/// What octets that are not TLS look like
fn what_it_is(first: &[u8]) -> &'static str {
    const HTTP: [&[u8]; 7] = [b"HTTP/", b"GET ", b"POST ", b"PUT ", b"HEAD ", b"OPTIO", b"CONNE"];
    match first {
        // ZMTP's signature: 0xff, eight octets of padding or length, 0x7f (RFC 23, "Greeting")
        [0xff, ..] => "it speaks plain ZMTP; give it a tls endpoint, or use tcp (or ipc) here",
        _ if HTTP.iter().any(|start| first.starts_with(start)) => "it speaks HTTP without TLS; check the port",
        [b'S', b'S', b'H', ..] => "it speaks SSH; check the port",
        _ => "check the port, and that the peer's endpoint begins with tls or unix+tls",
    }
}

/// The name that RFC 8446, section 6, and its forerunners give an alert
fn alert_name(alert: AlertDescription) -> String {
    let name = match alert {
        AlertDescription::UnknownCA => "unknown_ca",
        AlertDescription::UnknownPSKIdentity => "unknown_psk_identity",
        AlertDescription::UnrecognisedName => "unrecognized_name",
        AlertDescription::BadRecordMac => "bad_record_mac",
        AlertDescription::Unknown(number) => return format!("alert {number}"),
        other => return snake(&format!("{other:?}")),
    };
    name.to_owned()
}

/// `CertificateExpired` as `certificate_expired`
fn snake(camel: &str) -> String {
    let mut snake = String::with_capacity(camel.len() + 4);
    for letter in camel.chars() {
        if letter.is_ascii_uppercase() && !snake.is_empty() {
            snake.push('_');
        }
        snake.push(letter.to_ascii_lowercase());
    }
    snake
}

fn alert_advice(alert: &str) -> &'static str {
    match alert {
        "certificate_required" | "no_certificate" => {
            "it wants a certificate from this side: set tls_certificate and tls_key"
        }
        "unknown_ca" => "it does not trust the authority of this side's certificate: add that authority there",
        "certificate_expired" => "this side's certificate is expired or not valid yet: renew it, or check the clocks",
        "certificate_revoked" => "this side's certificate was revoked: get a new one",
        "bad_certificate" | "certificate_unknown" | "unsupported_certificate" | "access_denied" => {
            "it does not accept this side's certificate: look in its log for the reason"
        }
        "unrecognized_name" => "it has no certificate for that name: check the host, or set tls_peer_name",
        "handshake_failure" | "insufficient_security" => {
            "no cipher or key type in common, or it wants a certificate that was not sent: look in its log"
        }
        _ => "look in its log for the reason",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn octets_of_other_protocols_are_told_apart() {
        for (first, start) in [
            (&b"\xff\0\0\0\0\0\0\0\x01\x7f"[..], "it speaks plain ZMTP"),
            (b"GET / HTTP/1.1\r\n", "it speaks HTTP"),
            (b"HTTP/1.1 400 Bad Request", "it speaks HTTP"),
            (b"SSH-2.0-", "it speaks SSH"),
            (b"hello", "check the port"),
        ] {
            assert!(!looks_like_tls(first));
            assert!(what_it_is(first).starts_with(start), "{first:?}");
        }
        assert!(looks_like_tls(b"\x16\x03\x01\x02\0"));
        assert!(looks_like_tls(b"\x15\x03\x03\0\x02"));
    }

    #[test]
    fn alerts_have_the_names_of_the_rfc() {
        for (alert, name) in [
            (AlertDescription::UnknownCA, "unknown_ca"),
            (AlertDescription::CertificateRequired, "certificate_required"),
            (AlertDescription::HandshakeFailure, "handshake_failure"),
            (AlertDescription::Unknown(200), "alert 200"),
        ] {
            assert_eq!(alert_name(alert), name);
        }
    }

    #[test]
    fn a_lost_connection_may_be_tried_again_and_a_refusal_may_not() {
        let refused = |alert: &str| TlsError::Refused { alert: alert.to_owned() };
        assert!(refused("unknown_ca").is_definite());
        assert!(!refused("internal_error").is_definite());
        assert!(!TlsError::Closed { reason: String::new() }.is_definite());
        assert!(TlsError::Version.is_definite());
        assert!(refused("certificate_required").to_string().ends_with("set tls_certificate and tls_key"));
    }
}

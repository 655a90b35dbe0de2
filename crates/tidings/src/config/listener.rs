//! Where the daemon listens, and the rule that it listens to its own host only unless told so.
//!
//! Design, "Security": a listener on anything but loopback, ipc or inproc that has neither CURVE nor
//! TLS refuses to start unless `allow-plaintext = true` stands on that listener.

use std::fmt;
use std::net::SocketAddr;
use std::ops::Range;

use tidings::{Endpoint, EndpointError};

use crate::discovery::Name;

/// An endpoint the daemon binds
#[derive(Clone, Debug)]
pub(crate) struct Listener {
    pub(crate) endpoint: String,
    pub(crate) protection: Protection,
    /// Where it stands in the file
    pub(crate) span: Option<Range<usize>>,
}

/// Who may read and who may come in, as a listener says it
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) enum Protection {
    /// What `[security]` says: CURVE with the own key where keys are configured and the listener reaches
    /// beyond this host; nothing on loopback, ipc and inproc; for `tls://` the keystore's certificate
    #[default]
    Usual,
    /// `allow-plaintext = true`
    Plaintext,
    /// `curve = true`, or `curve = "NAME"` for one of several own keys
    Curve(Option<String>),
    /// `tls = "NAME"`: one of several certificates, for `tls://` and `unix+tls://`
    Tls(String),
}

impl Listener {
    /// Checks the endpoint and that the protection fits it
    ///
    /// # Errors
    /// What is wrong, and what to write instead.
    pub(crate) fn new(endpoint: &str, protection: Protection) -> Result<Self, (String, Option<String>)> {
        if Name::read(endpoint).is_some() {
            return Err((
                format!("'{endpoint}' is a name to connect to; nothing can listen on it"),
                Some("write tcp://ADDRESS:PORT; with gossip.announce = true others find it by its name".to_owned()),
            ));
        }
        let parsed: Endpoint = endpoint.parse().map_err(|error: EndpointError| (error.to_string(), None))?;
        parsed.for_bind().map_err(|error| (error.to_string(), None))?;
        if matches!(parsed, Endpoint::Inproc(_)) {
            return Err((
                format!("'{endpoint}' joins sockets within one process, so that no other program could connect"),
                Some("write tcp://127.0.0.1:PORT, or ipc:///PATH for programs of this host".to_owned()),
            ));
        }
        match &protection {
            Protection::Tls(_) if !parsed.is_encrypted() => Err((
                format!("'{endpoint}' has no TLS, so it takes no certificate"),
                Some("write tls://… in place of tcp://…, or curve = true for CURVE".to_owned()),
            )),
            _ => Ok(Self { endpoint: endpoint.to_owned(), protection, span: None }),
        }
    }

    /// The form of environment variables and flags: `ENDPOINT`, or `ENDPOINT` and `allow-plaintext`, `curve`,
    /// `curve=NAME` or `tls=NAME`
    ///
    /// # Errors
    /// As [`Listener::new`].
    pub(crate) fn from_text(text: &str) -> Result<Self, (String, Option<String>)> {
        let Some((endpoint, word)) = text.trim().split_once(char::is_whitespace) else {
            return Self::new(text.trim(), Protection::Usual);
        };
        let protection = match word.trim().split_once('=') {
            None if word.trim() == ALLOW => Protection::Plaintext,
            None if word.trim() == "curve" => Protection::Curve(None),
            Some(("curve", name)) if !name.is_empty() => Protection::Curve(Some(name.to_owned())),
            Some(("tls", name)) if !name.is_empty() => Protection::Tls(name.to_owned()),
            _ => {
                return Err((
                    format!("'{}' after an endpoint is not understood", word.trim()),
                    Some(format!("'{ALLOW}', 'curve', 'curve=KEY' or 'tls=CERTIFICATE' may follow it")),
                ));
            }
        };
        Self::new(endpoint, protection)
    }

    /// What protects it where keys are, or are not, configured
    ///
    /// # Errors
    /// Nothing does though other hosts reach it, or what should has no keys; and the line to add.
    pub(crate) fn protected(&self, keys: bool) -> Result<Protected<'_>, (String, Option<String>)> {
        let endpoint = &self.endpoint;
        let Ok(parsed) = endpoint.parse::<Endpoint>() else {
            return Ok(Protected::Plaintext);
        };
        let local = parsed.is_loopback_or_local();
        let keyless = |what: &str| {
            Err((
                format!("'{endpoint}' needs {what}, and no keys are configured"),
                Some(format!("{NEW_KEYS}, and {SET_KEYS}")),
            ))
        };
        match &self.protection {
            Protection::Curve(_) if !keys => keyless("a CURVE key"),
            Protection::Curve(name) => Ok(Protected::Curve(name.as_deref())),
            Protection::Tls(_) | Protection::Usual if parsed.is_encrypted() && !keys => keyless("a certificate"),
            Protection::Tls(name) => Ok(Protected::Tls(Some(name))),
            Protection::Usual if parsed.is_encrypted() => Ok(Protected::Tls(None)),
            Protection::Plaintext => Ok(Protected::Plaintext),
            Protection::Usual if local => Ok(Protected::Plaintext),
            Protection::Usual if keys => Ok(Protected::Curve(None)),
            Protection::Usual => Err((
                format!("'{endpoint}' can be reached from other hosts, and this listener does not encrypt"),
                Some(format!(
                    "{NEW_KEYS}, and {SET_KEYS}: it then takes CURVE; or, if the network is trusted, write \
                     {{ endpoint = \"{endpoint}\", allow-plaintext = true }}"
                )),
            )),
        }
    }
}

/// What protects a listener, all settings considered; names are those of own keys and certificates
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Protected<'a> {
    Plaintext,
    Curve(Option<&'a str>),
    Tls(Option<&'a str>),
}

impl PartialEq for Listener {
    /// Where it stands does not matter
    fn eq(&self, other: &Self) -> bool {
        self.endpoint == other.endpoint && self.protection == other.protection
    }
}

impl Eq for Listener {}

impl fmt::Display for Listener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let endpoint = &self.endpoint;
        match &self.protection {
            Protection::Usual => write!(f, "{endpoint:?}"),
            Protection::Plaintext => write!(f, "{{ endpoint = {endpoint:?}, {ALLOW} = true }}"),
            Protection::Curve(None) => write!(f, "{{ endpoint = {endpoint:?}, curve = true }}"),
            Protection::Curve(Some(name)) => write!(f, "{{ endpoint = {endpoint:?}, curve = {name:?} }}"),
            Protection::Tls(name) => write!(f, "{{ endpoint = {endpoint:?}, tls = {name:?} }}"),
        }
    }
}

/// The address of the HTTP page
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct HttpListener {
    pub(crate) address: SocketAddr,
    pub(crate) allow_plaintext: bool,
}

impl HttpListener {
    /// Checks that the address is one, and reaches no further than this host or is allowed to
    ///
    /// # Errors
    /// What is wrong, and what to write instead.
    pub(crate) fn new(address: &str, allow_plaintext: bool) -> Result<Self, (String, Option<String>)> {
        let address: SocketAddr = address.parse().map_err(|_| {
            let hint = "write ADDRESS:PORT, such as 127.0.0.1:4839, [::1]:4839, or 127.0.0.1:0 for any free port";
            (format!("'{address}' is not an IP address and port"), Some(hint.to_owned()))
        })?;
        if !allow_plaintext && !address.ip().is_loopback() {
            return Err((
                format!("'{address}' can be reached from other hosts, and this page has neither encryption nor login"),
                Some(format!(
                    "listen on 127.0.0.1:{}, or, if the network is trusted, write \
                     {{ address = \"{address}\", allow-plaintext = true }}",
                    address.port()
                )),
            ));
        }
        Ok(Self { address, allow_plaintext })
    }
}

impl fmt::Display for HttpListener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.allow_plaintext {
            false => write!(f, "\"{}\"", self.address),
            true => write!(f, "{{ address = \"{}\", allow-plaintext = true }}", self.address),
        }
    }
}

const ALLOW: &str = "allow-plaintext";
const NEW_KEYS: &str = "make keys with `tidings key new --pair HUB NODE`";
const SET_KEYS: &str = "add `keys = \"DIRECTORY\"` below a line [security], or --keys DIRECTORY";

#[cfg(test)]
mod tests {
    use super::*;

    fn usual(endpoint: &str) -> Listener {
        Listener::new(endpoint, Protection::Usual).unwrap()
    }

    #[test]
    fn only_this_host_unless_protected_or_allowed() {
        for local in ["tcp://127.0.0.1:1", "tcp://[::1]:1", "tcp://127.9.9.9:*", "tcp://localhost:1", "ipc:///tmp/x"] {
            assert_eq!(usual(local).protected(false), Ok(Protected::Plaintext), "{local}");
            assert_eq!(usual(local).protected(true), Ok(Protected::Plaintext), "{local}");
        }
        for open in ["tcp://*:1", "tcp://0.0.0.0:1", "tcp://[::]:1", "tcp://192.0.2.1:1", "tcp://eth0:1"] {
            let (message, hint) = usual(open).protected(false).map(|_| ()).unwrap_err();
            assert!(message.contains(open), "{message}");
            let hint = hint.unwrap();
            assert!(hint.contains("allow-plaintext = true") && hint.contains("[security]"), "{hint}");
            assert_eq!(usual(open).protected(true), Ok(Protected::Curve(None)), "{open}");
            let allowed = Listener::new(open, Protection::Plaintext).unwrap();
            assert_eq!(allowed.protected(false), Ok(Protected::Plaintext), "{open}");
        }
    }

    #[test]
    fn what_asks_for_keys_is_refused_without() {
        let curve = Listener::from_text("tcp://127.0.0.1:1 curve=hub").unwrap();
        assert!(curve.protected(false).is_err());
        assert_eq!(curve.protected(true), Ok(Protected::Curve(Some("hub"))));
        assert!(usual("tls://127.0.0.1:1").protected(false).is_err());
        assert_eq!(usual("tls://*:1").protected(true), Ok(Protected::Tls(None)));
        assert!(Listener::new("tcp://*:1", Protection::Tls("hub".into())).is_err());
    }

    #[test]
    fn the_text_form_says_the_same() {
        for text in
            ["tcp://*:1", "tcp://*:1 allow-plaintext", "tcp://*:1 curve", "tcp://*:1 curve=a", "tls://*:1 tls=b"]
        {
            let listener = Listener::from_text(text).unwrap();
            assert!(listener.to_string().contains("*:1"), "{listener}");
        }
        assert!(Listener::from_text("tcp://*:1 please").is_err());
        assert!(Listener::from_text("tcp://*:1 curve=").is_err());
    }

    #[test]
    fn the_page_stays_on_loopback() {
        assert!(HttpListener::new("127.0.0.1:0", false).is_ok());
        assert!(HttpListener::new("0.0.0.0:80", false).is_err());
        assert!(HttpListener::new("0.0.0.0:80", true).is_ok());
        assert!(HttpListener::new("localhost:80", false).is_err());
    }
}

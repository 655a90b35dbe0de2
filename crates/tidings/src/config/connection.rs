//! Where the daemon connects to: an address, or a name whose address gossip knows; and what protects the way there.

use std::fmt;
use std::ops::Range;

use tidings::{Endpoint, EndpointError};

use super::values::TextError;
use crate::discovery::Name;

/// An endpoint that the daemon connects to
#[derive(Clone, Debug)]
pub(crate) struct Connection {
    pub(crate) target: Target,
    pub(crate) trust: Trust,
    /// Where it stands in the file
    pub(crate) span: Option<Range<usize>>,
}

/// Where to
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Target {
    Address(String),
    /// `gossip:NAME`: wherever that is announced to be
    Named(Name),
}

/// Whom to believe at the other end, as a connection says it
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) enum Trust {
    /// What `[security]` says: CURVE where keys are configured and the way leaves this host, with the only trusted key or
    /// the one of a hub; the authorities of the keystore for `tls://`
    #[default]
    Usual,
    /// `allow-plaintext = true`
    Plaintext,
    /// `server-key = "NAME"`: one of several trusted keys, or its 40 characters
    Key(String),
}

/// What protects a connection, all settings considered
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Secured<'a> {
    Plaintext,
    /// With the keystore, and the key that the other end must have, if it is named
    Keys(Option<&'a str>),
}

impl Connection {
    /// Checks the endpoint
    ///
    /// # Errors
    /// What is wrong, and what to write instead.
    pub(crate) fn new(text: &str, trust: Trust) -> Result<Self, TextError> {
        let target = match Name::read(text) {
            Some(name) => Target::Named(name?),
            None => {
                let parsed: Endpoint = text.parse().map_err(|error: EndpointError| (error.to_string(), None))?;
                parsed.for_connect().map_err(|error| (error.to_string(), None))?;
                if matches!(parsed, Endpoint::Inproc(_) | Endpoint::Udp(_)) {
                    let hint = "write tcp://HOST:PORT, tls://HOST:PORT, ipc:///PATH, or gossip:NAME".to_owned();
                    return Err((format!("'{text}' leads to no other program's connection"), Some(hint)));
                }
                Target::Address(text.to_owned())
            }
        };
        Ok(Self { target, trust, span: None })
    }

    /// The form of environment variables and flags: `ENDPOINT`, or `ENDPOINT` and `allow-plaintext` or `server-key=NAME`
    ///
    /// # Errors
    /// As [`Connection::new`].
    pub(crate) fn from_text(text: &str) -> Result<Self, TextError> {
        let Some((endpoint, word)) = text.trim().split_once(char::is_whitespace) else {
            return Self::new(text.trim(), Trust::Usual);
        };
        let trust = match word.trim().split_once('=') {
            None if word.trim() == ALLOW => Trust::Plaintext,
            Some(("server-key", name)) if !name.is_empty() => Trust::Key(name.to_owned()),
            _ => {
                return Err((
                    format!("'{}' after an endpoint is not understood", word.trim()),
                    Some(format!("'{ALLOW}' or 'server-key=NAME' may follow it")),
                ));
            }
        };
        Self::new(endpoint, trust)
    }

    /// What protects the way to an address where keys are, or are not, configured; for a name it is asked when the address
    /// is known
    ///
    /// # Errors
    /// Nothing does though it leaves this host, or what should has no keys; and the line to add.
    pub(crate) fn secured(&self, endpoint: &Endpoint, keys: bool) -> Result<Secured<'_>, TextError> {
        let keyless = |what: &str| {
            Err((
                format!("'{endpoint}' needs {what}, and no keys are configured"),
                Some("make keys with `tidings key new --pair HUB NODE`, and add `keys = \"DIRECTORY\"` below a line [security]".to_owned()),
            ))
        };
        match &self.trust {
            Trust::Key(_) if !keys => keyless("a key"),
            Trust::Key(name) => Ok(Secured::Keys(Some(name))),
            Trust::Plaintext if endpoint.is_encrypted() => Ok(Secured::Keys(None)),
            Trust::Plaintext => Ok(Secured::Plaintext),
            Trust::Usual if endpoint.is_encrypted() && !keys => keyless("an authority for its certificate"),
            Trust::Usual if endpoint.is_encrypted() => Ok(Secured::Keys(None)),
            Trust::Usual if endpoint.is_loopback_or_local() => Ok(Secured::Plaintext),
            Trust::Usual if keys => Ok(Secured::Keys(None)),
            Trust::Usual => Err((
                format!("'{endpoint}' is on another host, and this connection does not encrypt"),
                Some(format!(
                    "make keys with `tidings key new --pair HUB NODE`, and add `keys = \"DIRECTORY\"` below a line \
                     [security]: it then speaks CURVE; or, if the network is trusted, write \
                     {{ endpoint = \"{}\", {ALLOW} = true }}",
                    self.target
                )),
            )),
        }
    }

    /// What is wrong with it before anything is connected
    ///
    /// # Errors
    /// As [`secured`](Self::secured); of a name nothing is known yet.
    pub(crate) fn check(&self, keys: bool) -> Result<(), TextError> {
        match &self.target {
            Target::Address(text) => match text.parse::<Endpoint>() {
                Ok(endpoint) => self.secured(&endpoint, keys).map(drop),
                Err(error) => Err((error.to_string(), None)),
            },
            Target::Named(_) if !keys && matches!(self.trust, Trust::Key(_)) => Err((
                format!("'{}' has a server-key, and no keys are configured", self.target),
                Some("add `keys = \"DIRECTORY\"` below a line [security]".to_owned()),
            )),
            Target::Named(_) => Ok(()),
        }
    }
}

impl PartialEq for Connection {
    /// Where it stands does not matter
    fn eq(&self, other: &Self) -> bool {
        self.target == other.target && self.trust == other.trust
    }
}

impl Eq for Connection {}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(text) => f.write_str(text),
            Self::Named(name) => name.fmt(f),
        }
    }
}

impl fmt::Display for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let target = self.target.to_string();
        match &self.trust {
            Trust::Usual => write!(f, "{target:?}"),
            Trust::Plaintext => write!(f, "{{ endpoint = {target:?}, {ALLOW} = true }}"),
            Trust::Key(name) => write!(f, "{{ endpoint = {target:?}, server-key = {name:?} }}"),
        }
    }
}

const ALLOW: &str = "allow-plaintext";

#[cfg(test)]
mod tests {
    use super::*;

    fn secured(text: &str, keys: bool) -> Result<(), String> {
        Connection::from_text(text).unwrap().check(keys).map_err(|(message, _)| message)
    }

    #[test]
    fn what_leaves_this_host_is_protected_or_allowed() {
        for local in ["tcp://127.0.0.1:4833", "ipc:///run/x", "tcp://localhost:1", "gossip:gossip"] {
            assert_eq!(secured(local, false), Ok(()), "{local}");
        }
        assert!(secured("tcp://hub:4833", false).unwrap_err().contains("does not encrypt"));
        assert!(secured("tls://hub:4833", false).is_err() && secured("tls://hub:4833", true).is_ok());
        assert!(secured("tcp://hub:4833", true).is_ok() && secured("tcp://hub:4833 allow-plaintext", false).is_ok());
        assert!(secured("tcp://hub:4833 server-key=hub", false).is_err());
        let connection = Connection::from_text("tcp://hub:4833 server-key=hub").unwrap();
        let endpoint = "tcp://hub:4833".parse().unwrap();
        assert_eq!(connection.secured(&endpoint, true), Ok(Secured::Keys(Some("hub"))));
    }

    #[test]
    fn what_is_no_way_to_another_program_is_refused() {
        for text in
            ["inproc://x", "tcp://*:1", "tcp:/x", "gossip:", "gossip:a b", "tcp://a:1 please", "udp://127.0.0.1:1"]
        {
            assert!(Connection::from_text(text).is_err(), "{text}");
        }
    }

    #[test]
    fn it_is_printed_as_it_stands_in_a_file() {
        for (text, shown) in [
            ("gossip:services", "\"gossip:services\""),
            ("tcp://a:1 allow-plaintext", "{ endpoint = \"tcp://a:1\", allow-plaintext = true }"),
            ("tcp://a:1 server-key=hub", "{ endpoint = \"tcp://a:1\", server-key = \"hub\" }"),
        ] {
            assert_eq!(Connection::from_text(text).unwrap().to_string(), shown);
        }
    }
}

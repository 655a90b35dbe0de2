//! Where the daemon listens, and the rule that it listens to its own host only unless told so.
//!
//! Design, "Security": a listener on anything but loopback, ipc or inproc that has no encryption
//! refuses to start unless `allow-plaintext = true` stands on that listener.

use std::fmt;
use std::net::SocketAddr;

use tidings::{Endpoint, EndpointError};

/// An endpoint the daemon binds
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Listener {
    pub(crate) endpoint: String,
    pub(crate) allow_plaintext: bool,
}

impl Listener {
    /// Checks the endpoint, and that it reaches no further than this host or is allowed to
    ///
    /// # Errors
    /// What is wrong, and what to write instead.
    pub(crate) fn new(endpoint: &str, allow_plaintext: bool) -> Result<Self, (String, Option<String>)> {
        let parsed: Endpoint = endpoint.parse().map_err(|error: EndpointError| (error.to_string(), None))?;
        parsed.for_bind().map_err(|error| (error.to_string(), None))?;
        if !allow_plaintext && !parsed.is_loopback_or_local() {
            return Err((
                format!("'{endpoint}' can be reached from other hosts, and this listener does not encrypt"),
                Some(format!(
                    "listen on tcp://127.0.0.1:…, or, if the network is trusted, write \
                     {{ endpoint = \"{endpoint}\", allow-plaintext = true }}"
                )),
            ));
        }
        Ok(Self { endpoint: endpoint.to_owned(), allow_plaintext })
    }

    /// The form of environment variables and flags: `ENDPOINT` or `ENDPOINT allow-plaintext`
    ///
    /// # Errors
    /// As [`Listener::new`].
    pub(crate) fn from_text(text: &str) -> Result<Self, (String, Option<String>)> {
        match text.trim().split_once(char::is_whitespace) {
            None => Self::new(text.trim(), false),
            Some((endpoint, word)) if word.trim() == ALLOW => Self::new(endpoint, true),
            Some((_, word)) => Err((
                format!("'{}' after an endpoint is not understood", word.trim()),
                Some(format!("only '{ALLOW}' may follow it")),
            )),
        }
    }
}

impl fmt::Display for Listener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.allow_plaintext {
            false => write!(f, "{:?}", self.endpoint),
            true => write!(f, "{{ endpoint = {:?}, allow-plaintext = true }}", self.endpoint),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_this_host_unless_allowed() {
        for local in [
            "tcp://127.0.0.1:1",
            "tcp://[::1]:1",
            "tcp://127.9.9.9:*",
            "tcp://localhost:1",
            "ipc:///tmp/x",
            "inproc://x",
        ] {
            assert!(Listener::new(local, false).is_ok(), "{local}");
        }
        for open in ["tcp://*:1", "tcp://0.0.0.0:1", "tcp://[::]:1", "tcp://192.0.2.1:1", "tcp://eth0:1"] {
            let (message, hint) = Listener::new(open, false).unwrap_err();
            assert!(message.contains(open), "{message}");
            assert!(hint.unwrap().contains("allow-plaintext = true"));
            assert!(Listener::new(open, true).is_ok(), "{open}");
        }
    }

    #[test]
    fn the_text_form_can_allow_too() {
        assert!(Listener::from_text("tcp://*:1 allow-plaintext").unwrap().allow_plaintext);
        assert!(Listener::from_text("tcp://*:1 please").is_err());
    }

    #[test]
    fn the_page_stays_on_loopback() {
        assert!(HttpListener::new("127.0.0.1:0", false).is_ok());
        assert!(HttpListener::new("0.0.0.0:80", false).is_err());
        assert!(HttpListener::new("0.0.0.0:80", true).is_ok());
        assert!(HttpListener::new("localhost:80", false).is_err());
    }
}

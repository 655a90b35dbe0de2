//! What can be wrong with the text of an endpoint, or with an endpoint for the use it is put to.

/// An endpoint that can't be used, and how to write it instead
///
/// All of these are the caller's to mend: trying the same endpoint again fails the same way. Texts longer than
/// 160 characters are shown shortened.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EndpointError {
    /// There is no text at all
    #[error("the endpoint is empty; write one such as tcp://127.0.0.1:5555")]
    Empty,

    /// A space, tab or line end where none can stand
    #[error("{text:?} has a space in it; remove it")]
    Space {
        /// The endpoint as it was written
        text: String,
    },

    /// No `scheme://` in front
    #[error("{text:?} has no scheme; {}", instead(.suggestion.as_deref()))]
    NoScheme {
        /// The endpoint as it was written
        text: String,
        /// What was probably meant
        suggestion: Option<String>,
    },

    /// A scheme that is not spoken here
    #[error("{text:?}: there is no scheme {scheme:?}; {}", instead(.suggestion.as_deref()))]
    UnknownScheme {
        /// The endpoint as it was written
        text: String,
        /// The word in front of `://`
        scheme: String,
        /// What was probably meant
        suggestion: Option<String>,
    },

    /// Nothing stands where the host belongs
    #[error("{text:?} has no host; use * to bind to all interfaces, or 127.0.0.1 to stay on this machine")]
    EmptyHost {
        /// The endpoint as it was written
        text: String,
    },

    /// A host that is neither an address nor a name
    #[error("{text:?}: {host:?} is not a host: {reason}")]
    Host {
        /// The endpoint as it was written
        text: String,
        /// The part that was taken for the host
        host: String,
        /// What is wrong with it
        reason: &'static str,
    },

    /// An IPv6 address outside brackets, where its colons can't be told from the port's
    #[error("{text:?}: an IPv6 address stands in brackets; write {suggestion}")]
    BareIpv6 {
        /// The endpoint as it was written
        text: String,
        /// The same address in brackets, with a port
        suggestion: String,
    },

    /// No port behind a host
    #[error("{text:?} has no port after {host:?}; add one, as in {host}:5555, or {host}:* to let the system choose")]
    MissingPort {
        /// The endpoint as it was written
        text: String,
        /// The host that lacks one
        host: String,
    },

    /// A port that is not a number from 0 to 65535
    #[error("{text:?}: {port:?} is not a port; write a number from 1 to 65535, or * to let the system choose")]
    Port {
        /// The endpoint as it was written
        text: String,
        /// What stands behind the last colon
        port: String,
    },

    /// More than one `;`
    #[error("{text:?} has more than one ';'; write tcp://source:port;host:port or udp://interface;host:port")]
    ManySources {
        /// The endpoint as it was written
        text: String,
    },

    /// A path or abstract name that no socket can have
    #[error("{text:?}: {reason}")]
    Path {
        /// The endpoint as it was written
        text: String,
        /// What is wrong with it
        reason: &'static str,
    },

    /// A path or abstract name that doesn't fit a socket address
    #[error(
        "{text:?}: the path is {length} octets long and the system takes {limit}; \
         use a shorter one, or a path relative to the working directory"
    )]
    PathTooLong {
        /// The endpoint as it was written
        text: String,
        /// Octets in the path, the `@` of an abstract name included
        length: usize,
        /// The most that fit
        limit: usize,
    },

    /// An inproc name that is empty, too long or ends in a space
    #[error("{text:?}: an inproc name {reason}")]
    InprocName {
        /// The endpoint as it was written
        text: String,
        /// The rule it breaks
        reason: &'static str,
    },

    /// A wildcard where one certain peer must be named; the endpoint is fine for `bind`
    #[error("{endpoint} can be bound but not connected to: its {part} is a wildcard; write for instance {suggestion}")]
    WildcardConnect {
        /// The endpoint in its canonical form
        endpoint: String,
        /// "host", "port" or "path"
        part: &'static str,
        /// An endpoint that can be connected to
        suggestion: String,
    },

    /// A source address in an endpoint to bind; the endpoint is fine for `connect`
    #[error("{endpoint} can be connected to but not bound: it has a source address; write {suggestion}")]
    SourceBind {
        /// The endpoint in its canonical form
        endpoint: String,
        /// The same endpoint without its source
        suggestion: String,
    },
}

/// At most 160 characters of `text`, so that an error never carries more of a bad input than a person reads
pub(crate) fn shortened(text: &str) -> String {
    match text.char_indices().nth(SHOWN) {
        None => text.to_owned(),
        Some((end, _)) => format!("{}…", text.get(..end).unwrap_or_default()),
    }
}

fn instead(suggestion: Option<&str>) -> String {
    match suggestion {
        Some(suggestion) => format!("did you mean {suggestion}?"),
        None => "use tcp://host:port, tls://host:port, udp://host:port, ipc://path or inproc://name".to_owned(),
    }
}

const SHOWN: usize = 160;

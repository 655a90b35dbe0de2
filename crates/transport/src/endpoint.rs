//! Endpoints: the addresses that sockets bind and connect to, parsed and printed in this one place.
//!
//! The grammar is libzmq's (zmq_tcp(7), zmq_ipc(7), zmq_inproc(7), zmq_udp(7)), stricter where a mistake would only
//! show later: an IPv6 address stands in brackets, and a host made of digits and dots is a whole IPv4 address. To it
//! come `tls` and `unix+tls`, and the words of older programs for the same things: `ssl`, `unix` and `unix+ssl`.

use std::borrow::Cow;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::num::NonZeroU16;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use crate::endpoint_error::{EndpointError, shortened};

/// Where a socket binds or connects, such as `tcp://127.0.0.1:5555`
///
/// Text becomes an endpoint with [`str::parse`]; `Display` prints the canonical form, and what was parsed prints to
/// text that parses to an equal endpoint. The fields are public: an endpoint put together by hand is checked by
/// [`for_bind`](Self::for_bind) and [`for_connect`](Self::for_connect), not before.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Endpoint {
    /// `tcp://host:port`: another machine, or this one through its network
    Tcp(TcpEndpoint),
    /// `ipc://path`: another process on this machine
    Ipc(IpcEndpoint),
    /// `inproc://name`: another socket in this process
    Inproc(InprocName),
    /// `tls://host:port`: as tcp, inside TLS; also written `ssl://`
    Tls(TcpEndpoint),
    /// `unix+tls://path`: as ipc, inside TLS; also written `unix+ssl://`
    IpcTls(IpcEndpoint),
    /// `udp://host:port`: datagrams, to one host or to a multicast group
    Udp(UdpEndpoint),
}

impl Endpoint {
    /// The word in front of `://`
    pub fn scheme(&self) -> &'static str {
        match self {
            Self::Tcp(_) => TCP,
            Self::Ipc(_) => IPC,
            Self::Inproc(_) => INPROC,
            Self::Tls(_) => TLS,
            Self::IpcTls(_) => UNIX_TLS,
            Self::Udp(_) => UDP,
        }
    }

    /// Whether no octet to or from it can leave this machine
    ///
    /// True for `ipc`, `inproc`, `127.0.0.0/8`, `::1` and the name `localhost`. False for every other name, be it that
    /// of a loopback interface: what a name stands for is only known once it is resolved, so ask again with
    /// [`Listener::local_endpoint`](crate::Listener::local_endpoint). A multicast group is local on a loopback
    /// interface that is given by its address.
    pub fn is_loopback_or_local(&self) -> bool {
        match self {
            Self::Tcp(tcp) | Self::Tls(tcp) => tcp.host.is_loopback(),
            Self::Ipc(_) | Self::IpcTls(_) | Self::Inproc(_) => true,
            Self::Udp(udp) if udp.is_multicast() => {
                udp.interface.as_ref().is_some_and(|interface| interface.is_loopback())
            }
            Self::Udp(udp) => udp.host.is_loopback(),
        }
    }

    /// Whether the transport itself encrypts: `tls` and `unix+tls`
    pub fn is_encrypted(&self) -> bool {
        matches!(self, Self::Tls(_) | Self::IpcTls(_))
    }

    /// Whether it names a group of hosts (RFC 1112, RFC 4291) and not one
    pub fn is_multicast(&self) -> bool {
        matches!(self, Self::Udp(udp) if udp.is_multicast())
    }

    /// What to tell a person who wrote an endpoint in the words of an older program; `None` where there is nothing to say
    pub fn notice(text: &str) -> Option<&'static str> {
        match text.split_once("://")?.0 {
            SSL => Some("ssl:// is read as tls://: SSLv3 is gone, what is spoken is TLS 1.2 or 1.3"),
            UNIX_SSL => Some("unix+ssl:// is read as unix+tls://: SSLv3 is gone, what is spoken is TLS 1.2 or 1.3"),
            _ => None,
        }
    }

    /// Checks that one certain peer is named
    ///
    /// # Errors
    /// [`EndpointError::WildcardConnect`] for a wildcard host, port or path; for an endpoint put together by hand also
    /// whatever parsing its text would have said.
    pub fn for_connect(&self) -> Result<(), EndpointError> {
        self.check()?;
        let wildcard = |part, suggestion| {
            Err(EndpointError::WildcardConnect { endpoint: shortened(&self.to_string()), part, suggestion })
        };
        let scheme = self.scheme();
        match self {
            Self::Tcp(TcpEndpoint { host, port, .. })
            | Self::Tls(TcpEndpoint { host, port, .. })
            | Self::Udp(UdpEndpoint { host, port, .. }) => match (host, port) {
                (Host::Any, Port::Ephemeral) => wildcard("host", format!("{scheme}://127.0.0.1:5555")),
                (Host::Any, Port::Number(number)) => wildcard("host", format!("{scheme}://127.0.0.1:{number}")),
                (host, Port::Ephemeral) => wildcard("port", format!("{scheme}://{host}:5555")),
                (_, Port::Number(_)) => Ok(()),
            },
            Self::Ipc(IpcEndpoint::Wildcard) | Self::IpcTls(IpcEndpoint::Wildcard) => {
                wildcard("path", "the endpoint that bind reported".to_owned())
            }
            Self::Ipc(_) | Self::IpcTls(_) | Self::Inproc(_) => Ok(()),
        }
    }

    /// Checks that it can be listened on
    ///
    /// # Errors
    /// [`EndpointError::SourceBind`] for a source address, which only a connection has; for an endpoint put together
    /// by hand also whatever parsing its text would have said.
    pub fn for_bind(&self) -> Result<(), EndpointError> {
        self.check()?;
        match self {
            Self::Tcp(tcp) | Self::Tls(tcp) if tcp.source.is_some() => Err(EndpointError::SourceBind {
                endpoint: shortened(&self.to_string()),
                suggestion: format!("{}://{}:{}", self.scheme(), tcp.host, tcp.port),
            }),
            _ => Ok(()),
        }
    }

    /// The rules of parsing, for endpoints whose parts were put together by hand
    fn check(&self) -> Result<(), EndpointError> {
        match self {
            Self::Tcp(tcp) | Self::Tls(tcp) => {
                let source = tcp.source.as_ref().map(|source| &source.host);
                self.check_hosts(std::iter::once(&tcp.host).chain(source))
            }
            Self::Udp(udp) => self.check_hosts(std::iter::once(&udp.host).chain(udp.interface.as_deref())),
            Self::Ipc(ipc) | Self::IpcTls(ipc) => ipc.check(self.scheme()),
            Self::Inproc(_) => Ok(()),
        }
    }

    fn check_hosts<'a>(&self, hosts: impl Iterator<Item = &'a Host>) -> Result<(), EndpointError> {
        for host in hosts {
            let fault = match host {
                Host::Name(name) => name_fault(name),
                Host::Scoped { zone, .. } => zone_fault(zone),
                Host::Any | Host::Ip(_) => None,
            };
            if let Some(reason) = fault {
                let text = shortened(&self.to_string());
                return Err(EndpointError::Host { text, host: shortened(&host.to_string()), reason });
            }
        }
        Ok(())
    }
}

impl FromStr for Endpoint {
    type Err = EndpointError;

    fn from_str(text: &str) -> Result<Self, EndpointError> {
        if text.is_empty() {
            return Err(EndpointError::Empty);
        }
        if text.trim() != text {
            return Err(EndpointError::Space { text: shortened(text) });
        }
        let Some((scheme, rest)) = text.split_once("://") else {
            return Err(EndpointError::NoScheme { text: shortened(text), suggestion: with_scheme(text) });
        };
        match scheme {
            TCP => TcpEndpoint::parse(text, rest).map(Self::Tcp),
            TLS | SSL => TcpEndpoint::parse(text, rest).map(Self::Tls),
            UDP => UdpEndpoint::parse(text, rest).map(Self::Udp),
            IPC => IpcEndpoint::parse(text, rest).map(Self::Ipc),
            UNIX => IpcEndpoint::parse_unix(text, rest).map(Self::Ipc),
            UNIX_TLS | UNIX_SSL => IpcEndpoint::parse_unix(text, rest).map(Self::IpcTls),
            INPROC => InprocName::new(rest).map(Self::Inproc),
            _ => Err(EndpointError::UnknownScheme {
                text: shortened(text),
                scheme: shortened(scheme),
                suggestion: nearest_scheme(scheme).map(|nearest| shortened(&format!("{nearest}://{rest}"))),
            }),
        }
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://", self.scheme())?;
        match self {
            Self::Tcp(tcp) | Self::Tls(tcp) => tcp.fmt(f),
            Self::Ipc(ipc) | Self::IpcTls(ipc) => ipc.fmt(f),
            Self::Udp(udp) => udp.fmt(f),
            Self::Inproc(name) => name.fmt(f),
        }
    }
}

/// A tcp address: `[source;]host:port`
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct TcpEndpoint {
    /// The local address a connection leaves from; the system's choice if `None`. Not for `bind`.
    ///
    /// Boxed, for it is rare, and endpoints travel in every error.
    pub source: Option<Box<HostPort>>,
    /// Who to connect to, or which local address to listen on
    pub host: Host,
    /// The port of that host
    pub port: Port,
}

impl TcpEndpoint {
    fn parse(text: &str, rest: &str) -> Result<Self, EndpointError> {
        if rest.contains(char::is_whitespace) {
            return Err(EndpointError::Space { text: shortened(text) });
        }
        let (source, destination) = match rest.split_once(';') {
            None => (None, rest),
            Some((_, destination)) if destination.contains(';') => {
                return Err(EndpointError::ManySources { text: shortened(text) });
            }
            Some((source, destination)) => (Some(Box::new(HostPort::parse(text, source)?)), destination),
        };
        let HostPort { host, port } = HostPort::parse(text, destination)?;
        Ok(Self { source, host, port })
    }
}

impl fmt::Display for TcpEndpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(source) = &self.source {
            write!(f, "{source};")?;
        }
        write!(f, "{}:{}", self.host, self.port)
    }
}

impl From<SocketAddr> for TcpEndpoint {
    fn from(address: SocketAddr) -> Self {
        let host = match address {
            SocketAddr::V6(v6) if v6.scope_id() != 0 => {
                Host::Scoped { address: *v6.ip(), zone: v6.scope_id().to_string() }
            }
            SocketAddr::V4(_) | SocketAddr::V6(_) => Host::Ip(address.ip()),
        };
        let port = NonZeroU16::new(address.port()).map_or(Port::Ephemeral, Port::Number);
        Self { source: None, host, port }
    }
}

/// A udp address: `[interface;]host:port`
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct UdpEndpoint {
    /// Through which interface a group is joined and sent to, by name or address; the system's choice if `None`
    ///
    /// Where one host is connected to, the address that datagrams leave from.
    pub interface: Option<Box<Host>>,
    /// Who to send to, which group to join, or which local address to receive on
    pub host: Host,
    /// The port of that host
    pub port: Port,
}

impl UdpEndpoint {
    /// Whether the host is a multicast group (RFC 1112, RFC 4291 section 2.7)
    pub fn is_multicast(&self) -> bool {
        match &self.host {
            // An IPv4 group dressed as IPv6 is one on the wire
            Host::Ip(address) => address.to_canonical().is_multicast(),
            Host::Scoped { address, .. } => address.is_multicast(),
            Host::Any | Host::Name(_) => false,
        }
    }

    fn parse(text: &str, rest: &str) -> Result<Self, EndpointError> {
        if rest.contains(char::is_whitespace) {
            return Err(EndpointError::Space { text: shortened(text) });
        }
        let (interface, destination) = match rest.split_once(';') {
            None => (None, rest),
            Some((_, destination)) if destination.contains(';') => {
                return Err(EndpointError::ManySources { text: shortened(text) });
            }
            Some((interface, destination)) => (Some(Box::new(Self::parse_interface(text, interface)?)), destination),
        };
        let HostPort { host, port } = HostPort::parse(text, destination)?;
        Ok(Self { interface, host, port })
    }

    /// An interface has no port: `eth0`, `192.0.2.1`, `[fe80::1%eth0]`
    fn parse_interface(text: &str, interface: &str) -> Result<Host, EndpointError> {
        match interface.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            Some(inside) => Host::parse_brackets(text, inside),
            None if interface.contains(':') => Err(EndpointError::Host {
                text: shortened(text),
                host: shortened(interface),
                reason: "in front of ';' stands an interface, without a port",
            }),
            None => Host::parse(text, interface),
        }
    }
}

impl fmt::Display for UdpEndpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(interface) = &self.interface {
            write!(f, "{interface};")?;
        }
        write!(f, "{}:{}", self.host, self.port)
    }
}

impl From<SocketAddr> for UdpEndpoint {
    fn from(address: SocketAddr) -> Self {
        let TcpEndpoint { host, port, .. } = address.into();
        Self { interface: None, host, port }
    }
}

/// A host and a port, as `host:port`
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct HostPort {
    /// The host
    pub host: Host,
    /// Its port
    pub port: Port,
}

impl HostPort {
    fn parse(text: &str, part: &str) -> Result<Self, EndpointError> {
        let missing_port = |host: &str| EndpointError::MissingPort { text: shortened(text), host: shortened(host) };
        if part.is_empty() {
            return Err(EndpointError::EmptyHost { text: shortened(text) });
        }
        let (host, port) = if let Some(bracketed) = part.strip_prefix('[') {
            let Some((inside, behind)) = bracketed.split_once(']') else {
                let reason = "its bracket is never closed";
                return Err(EndpointError::Host { text: shortened(text), host: shortened(part), reason });
            };
            let host = Host::parse_brackets(text, inside)?;
            match behind.strip_prefix(':') {
                Some(port) => (host, port),
                None => return Err(missing_port(&host.to_string())),
            }
        } else {
            if part.parse::<Ipv6Addr>().is_ok() || part.rsplit_once(':').is_some_and(|(host, _)| host.contains(':')) {
                return Err(bare_ipv6(text, part));
            }
            match part.rsplit_once(':') {
                Some((host, port)) => (Host::parse(text, host)?, port),
                None => return Err(missing_port(part)),
            }
        };
        if port.is_empty() {
            return Err(missing_port(&host.to_string()));
        }
        Ok(Self { host, port: Port::parse(text, port)? })
    }
}

impl fmt::Display for HostPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.host, self.port)
    }
}

/// The host of a tcp endpoint
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Host {
    /// `*`: every local address
    Any,
    /// An address; IPv6 is written in brackets
    Ip(IpAddr),
    /// `[fe80::1%eth0]`: an IPv6 address that is only unique on one link
    Scoped {
        /// The address
        address: Ipv6Addr,
        /// The link: an interface's name or number
        zone: String,
    },
    /// A DNS name, or the name of a local interface; which of them is decided each time it is resolved
    Name(String),
}

impl Host {
    fn parse(text: &str, host: &str) -> Result<Self, EndpointError> {
        if host.is_empty() {
            return Err(EndpointError::EmptyHost { text: shortened(text) });
        }
        if host == "*" {
            return Ok(Self::Any);
        }
        if let Ok(address) = host.parse::<Ipv4Addr>() {
            return Ok(Self::Ip(address.into()));
        }
        match name_fault(host) {
            None => Ok(Self::Name(host.to_owned())),
            Some(reason) => Err(EndpointError::Host { text: shortened(text), host: shortened(host), reason }),
        }
    }

    /// What stands between brackets: an IPv6 address, perhaps with a zone
    fn parse_brackets(text: &str, inside: &str) -> Result<Self, EndpointError> {
        let (address, zone) = match inside.split_once('%') {
            None => (inside, None),
            Some((address, zone)) => (address, Some(zone)),
        };
        let wrong = |reason| EndpointError::Host { text: shortened(text), host: shortened(inside), reason };
        let Ok(address) = address.parse::<Ipv6Addr>() else {
            return Err(wrong("brackets hold an IPv6 address, and nothing else needs them"));
        };
        match zone {
            None => Ok(Self::Ip(address.into())),
            Some(zone) => match zone_fault(zone) {
                None => Ok(Self::Scoped { address, zone: zone.to_owned() }),
                Some(reason) => Err(wrong(reason)),
            },
        }
    }

    fn is_loopback(&self) -> bool {
        match self {
            Self::Any => false,
            Self::Ip(address) => address.to_canonical().is_loopback(),
            Self::Scoped { address, .. } => address.is_loopback(),
            Self::Name(name) => name.eq_ignore_ascii_case("localhost"),
        }
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any => f.write_str("*"),
            Self::Ip(IpAddr::V4(address)) => address.fmt(f),
            Self::Ip(IpAddr::V6(address)) => write!(f, "[{address}]"),
            Self::Scoped { address, zone } => write!(f, "[{address}%{zone}]"),
            Self::Name(name) => f.write_str(name),
        }
    }
}

/// The port of a tcp endpoint
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Port {
    /// `*` or `0`: any that is free
    Ephemeral,
    /// This one
    Number(NonZeroU16),
}

impl Port {
    /// The number for the system's calls, where 0 asks for any that is free
    pub fn number(self) -> u16 {
        match self {
            Self::Ephemeral => 0,
            Self::Number(number) => number.get(),
        }
    }

    fn parse(text: &str, port: &str) -> Result<Self, EndpointError> {
        if port == "*" {
            return Ok(Self::Ephemeral);
        }
        // Rust's parser would also take a plus sign
        let number = if port.bytes().all(|digit| digit.is_ascii_digit()) { port.parse::<u16>().ok() } else { None };
        match number {
            Some(number) => Ok(NonZeroU16::new(number).map_or(Self::Ephemeral, Self::Number)),
            None => Err(EndpointError::Port { text: shortened(text), port: shortened(port) }),
        }
    }
}

impl fmt::Display for Port {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ephemeral => f.write_str("*"),
            Self::Number(number) => number.fmt(f),
        }
    }
}

/// An ipc address: a path, an abstract name, or a path to be made up
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum IpcEndpoint {
    /// `ipc://path`: a socket file; relative to the working directory unless it starts with `/`
    Path(PathBuf),
    /// `ipc://@name`: a name in Linux's abstract namespace, which leaves no file behind and needs no permission
    Abstract(Vec<u8>),
    /// `ipc://*`: a fresh path in the directory for temporary files, chosen when bound
    Wildcard,
}

impl IpcEndpoint {
    fn parse(text: &str, rest: &str) -> Result<Self, EndpointError> {
        let endpoint = match rest.strip_prefix('@') {
            _ if rest == "*" => Self::Wildcard,
            Some(name) => Self::Abstract(name.as_bytes().to_vec()),
            // A path that ends in a directory would lose its last sign of that below
            None if rest.ends_with('/') || rest.ends_with("/.") => {
                return Err(EndpointError::Path { text: shortened(text), reason: NOT_A_FILE });
            }
            // One spelling for equal paths: no doubled separators, no "." in the middle
            None => Self::Path(Path::new(rest).components().collect()),
        };
        match endpoint.fault() {
            None => Ok(endpoint),
            Some(fault) => Err(fault.describe(text)),
        }
    }

    /// The form of pyroute2 and others: an abstract name begins with a NUL, which shells and files write as `\x00`
    fn parse_unix(text: &str, rest: &str) -> Result<Self, EndpointError> {
        match rest.strip_prefix('\0').or_else(|| rest.strip_prefix("\\x00")) {
            Some(name) => Self::parse(text, &format!("@{name}")),
            None => Self::parse(text, rest),
        }
    }

    fn check(&self, scheme: &str) -> Result<(), EndpointError> {
        match self.fault() {
            None => Ok(()),
            Some(fault) => Err(fault.describe(&format!("{scheme}://{self}"))),
        }
    }

    fn fault(&self) -> Option<PathFault> {
        let length = match self {
            Self::Wildcard => return None,
            Self::Abstract(name) if name.is_empty() => {
                return Some(PathFault::Wrong("the name after @ is missing"));
            }
            Self::Abstract(name) if name.contains(&0) => return Some(PathFault::Wrong(NUL)),
            // libzmq counts the @ too, and a name it can't reach is of no use
            Self::Abstract(name) => name.len() + 1,
            Self::Path(path) => {
                let octets = path.as_os_str().as_encoded_bytes();
                if octets.is_empty() {
                    return Some(PathFault::Wrong(
                        "the path is missing; write ipc:///run/name, or ipc://* for a fresh one",
                    ));
                }
                if octets.contains(&0) {
                    return Some(PathFault::Wrong(NUL));
                }
                if path.file_name().is_none() {
                    return Some(PathFault::Wrong(NOT_A_FILE));
                }
                octets.len()
            }
        };
        (length > PATH_LIMIT).then_some(PathFault::Long(length))
    }
}

impl fmt::Display for IpcEndpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Path(path) => path.display().fmt(f),
            Self::Abstract(name) => write!(f, "@{}", String::from_utf8_lossy(name)),
            Self::Wildcard => f.write_str("*"),
        }
    }
}

/// The name of an inproc endpoint: 1 to 256 octets that don't begin or end in a space
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct InprocName(String);

impl InprocName {
    /// Checks and takes a name
    ///
    /// # Errors
    /// [`EndpointError::InprocName`] says which rule it breaks.
    pub fn new(name: impl Into<String>) -> Result<Self, EndpointError> {
        let name = name.into();
        let reason = if name.is_empty() {
            "can't be empty; write for instance inproc://work"
        } else if name.len() > INPROC_NAME_LIMIT {
            "is at most 256 octets long; use a shorter one"
        } else if name.trim() != name {
            "can't begin or end in a space; remove it"
        } else {
            return Ok(Self(name));
        };
        Err(EndpointError::InprocName { text: shortened(&format!("{INPROC}://{name}")), reason })
    }

    /// The name, without `inproc://`
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for InprocName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Why no socket can have this path or abstract name
enum PathFault {
    Wrong(&'static str),
    Long(usize),
}

impl PathFault {
    fn describe(self, text: &str) -> EndpointError {
        let text = shortened(text);
        match self {
            Self::Wrong(reason) => EndpointError::Path { text, reason },
            Self::Long(length) => EndpointError::PathTooLong { text, length, limit: PATH_LIMIT },
        }
    }
}

/// Why this can be neither a DNS name nor an interface's
///
/// Interface names may hold nearly anything; what is refused here is what a mistyped endpoint looks like.
fn name_fault(name: &str) -> Option<&'static str> {
    let digits_and_dots = |name: &str| name.bytes().all(|octet| octet.is_ascii_digit() || octet == b'.');
    if name.is_empty() {
        Some("it is empty")
    } else if name.contains('*') {
        Some("* stands alone, for all interfaces")
    } else if name.contains('@') {
        Some("an endpoint has no user name in it")
    } else if name.contains('/') {
        Some("a host and port have no path behind them; remove the '/'")
    } else if !name.is_ascii() {
        Some("names outside ASCII are written in their xn-- form")
    } else if digits_and_dots(name) {
        // The system's resolver would read "127.1" or "2130706433" as some address, rarely the one that was meant
        Some("an IPv4 address is four numbers from 0 to 255")
    } else if !name.bytes().all(|octet| octet.is_ascii_alphanumeric() || NAME_PUNCTUATION.contains(&octet)) {
        Some("a name is made of letters, digits, '-', '_' and '.'")
    } else if name.len() > DNS_NAME_LIMIT {
        Some("a name is at most 253 characters long")
    } else {
        None
    }
}

/// Why this can't be the zone of a scoped address
fn zone_fault(zone: &str) -> Option<&'static str> {
    if zone.is_empty() {
        Some("the zone after % is missing; write an interface such as %eth0")
    } else if zone.bytes().all(|octet| octet.is_ascii_digit()) {
        zone.parse::<u32>().is_err().then_some("the zone after % is larger than any interface's number")
    } else if zone.len() > INTERFACE_NAME_LIMIT {
        Some("the zone after % is longer than any interface's name")
    } else if !zone.bytes().all(|octet| octet.is_ascii_alphanumeric() || NAME_PUNCTUATION.contains(&octet)) {
        Some("the zone after % is an interface's name or number")
    } else {
        None
    }
}

fn bare_ipv6(text: &str, part: &str) -> EndpointError {
    let scheme = text.split_once("://").map_or(TCP, |(scheme, _)| scheme);
    let is_address = |host: &str| host.parse::<Ipv6Addr>().is_ok();
    let suggestion = match part.rsplit_once(':') {
        // "::1:5555" is itself an address, but its writer meant a port
        Some((host, port)) if is_address(host) => format!("{scheme}://[{host}]:{port}"),
        _ if is_address(part) => format!("{scheme}://[{part}]:5555"),
        _ => {
            let host = part.rsplit_once(':').map_or(part, |(host, _)| host);
            let reason = "only an IPv6 address has colons, and it stands in brackets";
            return EndpointError::Host { text: shortened(text), host: shortened(host), reason };
        }
    };
    EndpointError::BareIpv6 { text: shortened(text), suggestion }
}

/// What a text without `://` was probably meant to be
fn with_scheme(text: &str) -> Option<String> {
    let guess = if let Some(rest) = text.strip_prefix("tcp:") {
        Cow::from(format!("{TCP}://{}", rest.trim_start_matches('/')))
    } else if let Some((scheme, rest)) = text.split_once(':').filter(|(scheme, _)| SCHEMES.contains(scheme)) {
        // One slash begins a path here
        Cow::from(format!("{scheme}://{rest}"))
    } else if text.starts_with(['/', '.', '@']) {
        Cow::from(format!("{IPC}://{text}"))
    } else if text.contains(':') {
        Cow::from(format!("{TCP}://{text}"))
    } else {
        return None;
    };
    Endpoint::from_str(&guess).is_ok().then(|| shortened(&guess))
}

/// The scheme that was probably meant
fn nearest_scheme(wrong: &str) -> Option<&'static str> {
    let wrong = wrong.to_ascii_lowercase();
    // Names that other programs give to the same things
    match wrong.as_str() {
        "tcp4" | "tcp6" => return Some(TCP),
        "tcps" | "tcp+tls" | "zmqs" => return Some(TLS),
        "udp4" | "udp6" => return Some(UDP),
        "ipc+tls" => return Some(UNIX_TLS),
        _ => {}
    }
    SCHEMES
        .into_iter()
        .map(|scheme| (strsim::osa_distance(&wrong, scheme), scheme))
        .filter(|(distance, scheme)| *distance * 3 <= scheme.len())
        // "tpc" is as near to ipc as to tcp, but letters are swapped more often than mistaken
        .min_by_key(|(distance, scheme)| (*distance, letters(scheme) != letters(&wrong)))
        .map(|(_, scheme)| scheme)
}

fn letters(word: &str) -> Vec<u8> {
    let mut letters = word.as_bytes().to_vec();
    letters.sort_unstable();
    letters
}

const TCP: &str = "tcp";
const IPC: &str = "ipc";
const INPROC: &str = "inproc";
const TLS: &str = "tls";
const UNIX_TLS: &str = "unix+tls";
const UDP: &str = "udp";
/// What older programs call `tls`, `ipc` and `unix+tls`
const SSL: &str = "ssl";
const UNIX: &str = "unix";
const UNIX_SSL: &str = "unix+ssl";
const SCHEMES: [&str; 9] = [TCP, IPC, INPROC, TLS, UDP, UNIX, UNIX_TLS, SSL, UNIX_SSL];

/// Characters besides letters and digits in the names of hosts and interfaces (`br-lan`, `eth0.100`, `wg_home`)
const NAME_PUNCTUATION: &[u8] = b"-_.";

/// RFC 1035, section 2.3.4, without the octets for the root label
const DNS_NAME_LIMIT: usize = 253;

/// `IFNAMSIZ` of Linux and the BSDs, without its NUL
const INTERFACE_NAME_LIMIT: usize = 15;

/// zmq_inproc(7): a name has at most 256 characters
const INPROC_NAME_LIMIT: usize = 256;

/// The size of `sun_path`, without its NUL: unix(7) on Linux, sys/un.h elsewhere
#[cfg(any(target_os = "linux", target_os = "android"))]
const PATH_LIMIT: usize = 107;
#[cfg(not(any(target_os = "linux", target_os = "android")))]
const PATH_LIMIT: usize = 103;

const NUL: &str = "a path can't hold a NUL octet";
const NOT_A_FILE: &str = "the path names a directory; add a file name";

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parse(text: &str) -> Endpoint {
        text.parse().unwrap()
    }

    #[test]
    fn every_form_prints_as_it_is_written() {
        for text in [
            "tcp://127.0.0.1:5555",
            "tcp://*:5555",
            "tcp://*:*",
            "tcp://[::1]:65535",
            "tcp://[fe80::1%eth0]:5555",
            "tcp://[fe80::1%3]:5555",
            "tcp://example.org:1",
            "tcp://example.org.:1",
            "tcp://eth0.100:5555",
            "tcp://br-lan:5555",
            "tcp://192.168.1.17:5555;192.168.1.1:5556",
            "tcp://eth0:*;[2001:db8::1]:5555",
            "ipc:///run/tidings/events",
            "ipc://relative/path",
            "ipc://./@not-abstract",
            "ipc://../up",
            "ipc:///path with spaces/and:colons",
            "ipc://@abstract name",
            "ipc://*",
            "inproc://work",
            "inproc://#1:a/b",
            "tls://hub.example.org:4831",
            "tls://*:*",
            "tls://eth0:*;hub:1",
            "unix+tls:///run/tidings/events",
            "unix+tls://@abstract name",
            "unix+tls://*",
            "udp://127.0.0.1:5555",
            "udp://239.0.0.1:5555",
            "udp://eth0;239.0.0.1:5555",
            "udp://192.168.1.17;239.0.0.1:5555",
            "udp://[fe80::1%eth0];[ff02::7]:5555",
            "udp://*:5555",
        ] {
            assert_eq!(parse(text).to_string(), text);
        }
    }

    #[test]
    fn equal_endpoints_print_alike() {
        for (written, canonical) in [
            ("tcp://127.0.0.1:0", "tcp://127.0.0.1:*"),
            ("tcp://127.0.0.1:05555", "tcp://127.0.0.1:5555"),
            ("tcp://[0:0:0:0:0:0:0:1]:5555", "tcp://[::1]:5555"),
            ("tcp://[2001:DB8::A]:5555", "tcp://[2001:db8::a]:5555"),
            ("ipc:////run//tidings/./events", "ipc:///run/tidings/events"),
            ("ipc://./events", "ipc://./events"),
            ("ssl://hub:1", "tls://hub:1"),
            ("unix:///run/x", "ipc:///run/x"),
            ("unix://run/x", "ipc://run/x"),
            ("unix://\0name", "ipc://@name"),
            ("unix://\\x00name", "ipc://@name"),
            ("unix+ssl://\\x00name", "unix+tls://@name"),
            ("unix+tls://run/x", "unix+tls://run/x"),
        ] {
            assert_eq!(parse(written).to_string(), canonical);
            assert_eq!(parse(written), parse(canonical));
        }
    }

    #[test]
    fn the_parts_are_told_apart() {
        let number = |port| Port::Number(NonZeroU16::new(port).unwrap());
        assert_eq!(
            parse("tcp://eth0:*;[fe80::1%eth0]:5555"),
            Endpoint::Tcp(TcpEndpoint {
                source: Some(Box::new(HostPort { host: Host::Name("eth0".to_owned()), port: Port::Ephemeral })),
                host: Host::Scoped { address: "fe80::1".parse().unwrap(), zone: "eth0".to_owned() },
                port: number(5555),
            })
        );
        assert_eq!(parse("ipc://@a b"), Endpoint::Ipc(IpcEndpoint::Abstract(b"a b".to_vec())));
        assert_eq!(parse("ipc://a@b"), Endpoint::Ipc(IpcEndpoint::Path("a@b".into())));
        assert_eq!(parse("inproc://*").scheme(), "inproc");
        assert_eq!(number(7).number(), 7);
        assert_eq!(Port::Ephemeral.number(), 0);
    }

    #[test]
    fn each_mistake_is_named_with_its_mending() {
        for (text, message) in [
            ("", "the endpoint is empty; write one such as tcp://127.0.0.1:5555"),
            (" tcp://a:1", r#"" tcp://a:1" has a space in it; remove it"#),
            ("tcp://a:1\n", r#""tcp://a:1\n" has a space in it; remove it"#),
            ("tcp://a b:1", r#""tcp://a b:1" has a space in it; remove it"#),
            ("inproc://a ", r#""inproc://a " has a space in it; remove it"#),
            (
                "nonsense",
                r#""nonsense" has no scheme; use tcp://host:port, tls://host:port, udp://host:port, ipc://path or inproc://name"#,
            ),
            ("localhost:5555", r#""localhost:5555" has no scheme; did you mean tcp://localhost:5555?"#),
            ("*:5555", r#""*:5555" has no scheme; did you mean tcp://*:5555?"#),
            ("tcp:localhost:5555", r#""tcp:localhost:5555" has no scheme; did you mean tcp://localhost:5555?"#),
            ("tcp:/localhost:5555", r#""tcp:/localhost:5555" has no scheme; did you mean tcp://localhost:5555?"#),
            ("ipc:/run/x", r#""ipc:/run/x" has no scheme; did you mean ipc:///run/x?"#),
            ("/run/x", r#""/run/x" has no scheme; did you mean ipc:///run/x?"#),
            ("tpc://a:1", r#""tpc://a:1": there is no scheme "tpc"; did you mean tcp://a:1?"#),
            ("TCP://a:1", r#""TCP://a:1": there is no scheme "TCP"; did you mean tcp://a:1?"#),
            ("icp://x", r#""icp://x": there is no scheme "icp"; did you mean ipc://x?"#),
            ("unx:///run/x", r#""unx:///run/x": there is no scheme "unx"; did you mean unix:///run/x?"#),
            ("tsl://a:1", r#""tsl://a:1": there is no scheme "tsl"; did you mean tls://a:1?"#),
            ("upd://a:1", r#""upd://a:1": there is no scheme "upd"; did you mean udp://a:1?"#),
            ("unix+tsl://a", r#""unix+tsl://a": there is no scheme "unix+tsl"; did you mean unix+tls://a?"#),
            (
                "udp://eth0:1;239.0.0.1:1",
                r#""udp://eth0:1;239.0.0.1:1": "eth0:1" is not a host: in front of ';' stands an interface, without a port"#,
            ),
            ("unix://a\0b", r#""unix://a\0b": a path can't hold a NUL octet"#),
            ("inprc://x", r#""inprc://x": there is no scheme "inprc"; did you mean inproc://x?"#),
            (
                "http://a:1",
                r#""http://a:1": there is no scheme "http"; use tcp://host:port, tls://host:port, udp://host:port, ipc://path or inproc://name"#,
            ),
            (
                "://a:1",
                r#""://a:1": there is no scheme ""; use tcp://host:port, tls://host:port, udp://host:port, ipc://path or inproc://name"#,
            ),
            (
                "tcp://",
                r#""tcp://" has no host; use * to bind to all interfaces, or 127.0.0.1 to stay on this machine"#,
            ),
            (
                "tcp://:5555",
                r#""tcp://:5555" has no host; use * to bind to all interfaces, or 127.0.0.1 to stay on this machine"#,
            ),
            (
                "tcp://;a:1",
                r#""tcp://;a:1" has no host; use * to bind to all interfaces, or 127.0.0.1 to stay on this machine"#,
            ),
            (
                "tcp://localhost",
                r#""tcp://localhost" has no port after "localhost"; add one, as in localhost:5555, or localhost:* to let the system choose"#,
            ),
            (
                "tcp://localhost:",
                r#""tcp://localhost:" has no port after "localhost"; add one, as in localhost:5555, or localhost:* to let the system choose"#,
            ),
            (
                "tcp://[::1]",
                r#""tcp://[::1]" has no port after "[::1]"; add one, as in [::1]:5555, or [::1]:* to let the system choose"#,
            ),
            (
                "tcp://eth0;a:1",
                r#""tcp://eth0;a:1" has no port after "eth0"; add one, as in eth0:5555, or eth0:* to let the system choose"#,
            ),
            (
                "tcp://a:65536",
                r#""tcp://a:65536": "65536" is not a port; write a number from 1 to 65535, or * to let the system choose"#,
            ),
            (
                "tcp://a:+1",
                r#""tcp://a:+1": "+1" is not a port; write a number from 1 to 65535, or * to let the system choose"#,
            ),
            (
                "tcp://a:http",
                r#""tcp://a:http": "http" is not a port; write a number from 1 to 65535, or * to let the system choose"#,
            ),
            (
                "tcp://a:5555/",
                r#""tcp://a:5555/": "5555/" is not a port; write a number from 1 to 65535, or * to let the system choose"#,
            ),
            ("tcp://::1:5555", r#""tcp://::1:5555": an IPv6 address stands in brackets; write tcp://[::1]:5555"#),
            ("tcp://::1", r#""tcp://::1": an IPv6 address stands in brackets; write tcp://[::1]:5555"#),
            ("tcp://fe80::1:*", r#""tcp://fe80::1:*": an IPv6 address stands in brackets; write tcp://[fe80::1]:*"#),
            (
                "tcp://a:b:1",
                r#""tcp://a:b:1": "a:b" is not a host: only an IPv6 address has colons, and it stands in brackets"#,
            ),
            ("tcp://[::1:5555", r#""tcp://[::1:5555": "[::1:5555" is not a host: its bracket is never closed"#),
            (
                "tcp://[1.2.3.4]:1",
                r#""tcp://[1.2.3.4]:1": "1.2.3.4" is not a host: brackets hold an IPv6 address, and nothing else needs them"#,
            ),
            (
                "tcp://[[::1]:1",
                r#""tcp://[[::1]:1": "[::1" is not a host: brackets hold an IPv6 address, and nothing else needs them"#,
            ),
            (
                "tcp://[::1]5555",
                r#""tcp://[::1]5555" has no port after "[::1]"; add one, as in [::1]:5555, or [::1]:* to let the system choose"#,
            ),
            (
                "tcp://[fe80::1%]:1",
                r#""tcp://[fe80::1%]:1": "fe80::1%" is not a host: the zone after % is missing; write an interface such as %eth0"#,
            ),
            (
                "tcp://[fe80::1%4294967296]:1",
                r#""tcp://[fe80::1%4294967296]:1": "fe80::1%4294967296" is not a host: the zone after % is larger than any interface's number"#,
            ),
            (
                "tcp://[fe80::1%sixteen-letters-]:1",
                r#""tcp://[fe80::1%sixteen-letters-]:1": "fe80::1%sixteen-letters-" is not a host: the zone after % is longer than any interface's name"#,
            ),
            (
                "tcp://256.1.1.1:1",
                r#""tcp://256.1.1.1:1": "256.1.1.1" is not a host: an IPv4 address is four numbers from 0 to 255"#,
            ),
            (
                "tcp://127.1:1",
                r#""tcp://127.1:1": "127.1" is not a host: an IPv4 address is four numbers from 0 to 255"#,
            ),
            (
                "tcp://*.example.org:1",
                r#""tcp://*.example.org:1": "*.example.org" is not a host: * stands alone, for all interfaces"#,
            ),
            ("tcp://me@host:1", r#""tcp://me@host:1": "me@host" is not a host: an endpoint has no user name in it"#),
            (
                "tcp:///run/x:1",
                r#""tcp:///run/x:1": "/run/x" is not a host: a host and port have no path behind them; remove the '/'"#,
            ),
            (
                "tcp://bücher.example:1",
                r#""tcp://bücher.example:1": "bücher.example" is not a host: names outside ASCII are written in their xn-- form"#,
            ),
            (
                "tcp://a,b:1",
                r#""tcp://a,b:1": "a,b" is not a host: a name is made of letters, digits, '-', '_' and '.'"#,
            ),
            (
                "tcp://a:1;b:1;c:1",
                r#""tcp://a:1;b:1;c:1" has more than one ';'; write tcp://source:port;host:port or udp://interface;host:port"#,
            ),
            ("ipc://", r#""ipc://": the path is missing; write ipc:///run/name, or ipc://* for a fresh one"#),
            ("ipc://@", r#""ipc://@": the name after @ is missing"#),
            ("ipc:///run/", r#""ipc:///run/": the path names a directory; add a file name"#),
            ("ipc:///run/.", r#""ipc:///run/.": the path names a directory; add a file name"#),
            ("ipc://..", r#""ipc://..": the path names a directory; add a file name"#),
            ("ipc://.", r#""ipc://.": the path names a directory; add a file name"#),
            ("ipc://a\0b", r#""ipc://a\0b": a path can't hold a NUL octet"#),
            ("ipc://@a\0b", r#""ipc://@a\0b": a path can't hold a NUL octet"#),
            ("inproc://", r#""inproc://": an inproc name can't be empty; write for instance inproc://work"#),
            ("inproc:// a", r#""inproc:// a": an inproc name can't begin or end in a space; remove it"#),
        ] {
            assert_eq!(text.parse::<Endpoint>().unwrap_err().to_string(), message);
        }
    }

    #[test]
    fn the_longest_that_fits_is_taken_and_one_more_is_not() {
        let path = |length: usize| format!("ipc:///{}", "p".repeat(length - 1)).parse::<Endpoint>();
        assert!(path(PATH_LIMIT).is_ok());
        let error = path(PATH_LIMIT + 1).unwrap_err().to_string();
        let end = format!(
            "the path is {} octets long and the system takes {PATH_LIMIT}; use a shorter one, or a path relative to \
             the working directory",
            PATH_LIMIT + 1
        );
        assert!(error.ends_with(&end), "{error}");

        let name = |length: usize| format!("ipc://@{}", "n".repeat(length)).parse::<Endpoint>();
        assert!(name(PATH_LIMIT - 1).is_ok());
        assert!(matches!(name(PATH_LIMIT), Err(EndpointError::PathTooLong { .. })));

        let inproc = |length: usize| format!("inproc://{}", "n".repeat(length)).parse::<Endpoint>();
        assert!(inproc(256).is_ok());
        assert!(matches!(inproc(257), Err(EndpointError::InprocName { .. })));

        let host = |length: usize| format!("tcp://{}:1", "h".repeat(length)).parse::<Endpoint>();
        assert!(host(253).is_ok());
        assert!(matches!(host(254), Err(EndpointError::Host { .. })));
    }

    #[test]
    fn an_error_carries_no_more_of_a_long_text_than_a_person_reads() {
        let error = format!("tcp://{}", "ü".repeat(100_000)).parse::<Endpoint>().unwrap_err();
        assert!(error.to_string().chars().count() < 1000);
    }

    #[test]
    fn wildcards_are_for_bind_and_sources_for_connect() {
        for (text, message) in [
            (
                "tcp://*:5555",
                "tcp://*:5555 can be bound but not connected to: its host is a wildcard; write for instance tcp://127.0.0.1:5555",
            ),
            (
                "tcp://*:*",
                "tcp://*:* can be bound but not connected to: its host is a wildcard; write for instance tcp://127.0.0.1:5555",
            ),
            (
                "tcp://a:*",
                "tcp://a:* can be bound but not connected to: its port is a wildcard; write for instance tcp://a:5555",
            ),
            (
                "ipc://*",
                "ipc://* can be bound but not connected to: its path is a wildcard; write for instance the endpoint that bind reported",
            ),
        ] {
            assert_eq!(parse(text).for_bind(), Ok(()));
            assert_eq!(parse(text).for_connect().unwrap_err().to_string(), message);
        }
        let with_source = parse("tcp://*:*;a:1");
        assert_eq!(with_source.for_connect(), Ok(()));
        assert_eq!(
            with_source.for_bind().unwrap_err().to_string(),
            "tcp://*:*;a:1 can be connected to but not bound: it has a source address; write tcp://a:1"
        );
    }

    #[test]
    fn endpoints_put_together_by_hand_are_checked_before_use() {
        let name = |host: &str| {
            let host = Host::Name(host.to_owned());
            Endpoint::Tcp(TcpEndpoint { source: None, host, port: Port::Number(NonZeroU16::MIN) })
        };
        assert_eq!(name("fine").for_connect(), Ok(()));
        assert!(matches!(name("a b").for_connect(), Err(EndpointError::Host { .. })));
        assert!(matches!(name("").for_bind(), Err(EndpointError::Host { .. })));
        let path = |path: String| Endpoint::Ipc(IpcEndpoint::Path(path.into()));
        assert!(matches!(path("p".repeat(200)).for_bind(), Err(EndpointError::PathTooLong { .. })));
        assert!(matches!(path(String::new()).for_connect(), Err(EndpointError::Path { .. })));
    }

    #[test]
    fn local_is_what_never_leaves_the_machine() {
        for (text, local) in [
            ("tcp://127.0.0.1:1", true),
            ("tcp://127.255.0.9:1", true),
            ("tcp://[::1]:1", true),
            ("tcp://[::ffff:127.0.0.1]:1", true),
            ("tcp://LocalHost:1", true),
            ("ipc://x", true),
            ("inproc://x", true),
            ("tcp://*:1", false),
            ("tcp://0.0.0.0:1", false),
            ("tcp://[::]:1", false),
            ("tcp://lo:1", false),
            ("tcp://localhost.example.org:1", false),
            ("tcp://128.0.0.1:1", false),
            ("tls://127.0.0.1:1", true),
            ("tls://*:1", false),
            ("unix+tls://x", true),
            ("udp://127.0.0.1:1", true),
            ("udp://239.0.0.1:1", false),
            ("udp://127.0.0.1;239.0.0.1:1", true),
            ("udp://eth0;239.0.0.1:1", false),
        ] {
            assert_eq!(parse(text).is_loopback_or_local(), local, "{text}");
        }
    }

    #[test]
    fn old_words_come_with_a_notice() {
        assert!(Endpoint::notice("ssl://a:1").is_some_and(|notice| notice.contains("SSLv3 is gone")));
        assert!(Endpoint::notice("unix+ssl://a").is_some_and(|notice| notice.contains("unix+tls")));
        assert_eq!(Endpoint::notice("tls://a:1"), None);
        assert_eq!(Endpoint::notice("nonsense"), None);
    }

    #[test]
    fn groups_and_encryption_are_told_apart() {
        for (text, multicast, encrypted) in [
            ("udp://239.0.0.1:1", true, false),
            ("udp://[ff02::1]:1", true, false),
            ("udp://[::ffff:239.0.0.1]:1", true, false),
            ("udp://192.0.2.1:1", false, false),
            ("tls://a:1", false, true),
            ("unix+tls://a", false, true),
            ("tcp://239.0.0.1:1", false, false),
        ] {
            let endpoint = parse(text);
            assert_eq!((endpoint.is_multicast(), endpoint.is_encrypted()), (multicast, encrypted), "{text}");
        }
        assert!(parse("udp://*:1").for_connect().is_err());
        assert!(parse("tls://*:1").for_connect().is_err());
        assert!(parse("tls://a:1;b:1").for_bind().is_err());
    }

    fn any_port() -> impl Strategy<Value = Port> {
        any::<u16>().prop_map(|port| NonZeroU16::new(port).map_or(Port::Ephemeral, Port::Number))
    }

    fn any_host() -> impl Strategy<Value = Host> {
        prop_oneof![
            Just(Host::Any),
            any::<IpAddr>().prop_map(Host::Ip),
            (any::<Ipv6Addr>(), "[a-z][a-z0-9._-]{0,14}|[0-9]{1,9}")
                .prop_map(|(address, zone)| Host::Scoped { address, zone }),
            "[a-zA-Z_][a-zA-Z0-9._-]{0,80}".prop_map(Host::Name),
        ]
    }

    fn any_endpoint() -> impl Strategy<Value = Endpoint> {
        let host_port = (any_host(), any_port()).prop_map(|(host, port)| HostPort { host, port });
        prop_oneof![
            (proptest::option::of(host_port), any_host(), any_port(), any::<bool>()).prop_map(
                |(source, host, port, tls)| {
                    let tcp = TcpEndpoint { source: source.map(Box::new), host, port };
                    if tls { Endpoint::Tls(tcp) } else { Endpoint::Tcp(tcp) }
                }
            ),
            (proptest::option::of(any_host()), any_host(), any_port()).prop_map(|(interface, host, port)| {
                Endpoint::Udp(UdpEndpoint { interface: interface.map(Box::new), host, port })
            }),
            "(/|\\./)?[a-z][a-z :;@]{0,20}[a-z]".prop_map(|path| Endpoint::IpcTls(IpcEndpoint::Path(path.into()))),
            "(/|\\./|\\.\\./)?[a-z][a-z :;@*é]{0,20}[a-z](/[a-z *@]{0,20}[a-z.]?x){0,2}"
                .prop_map(|path| Endpoint::Ipc(IpcEndpoint::Path(path.into()))),
            "[a-z@*/é]([ -~]{0,60}[!-~])?".prop_map(|name| Endpoint::Ipc(IpcEndpoint::Abstract(name.into_bytes()))),
            Just(Endpoint::Ipc(IpcEndpoint::Wildcard)),
            "[!-~é]([ -~é]{0,60}[!-~é])?".prop_map(|name| Endpoint::Inproc(InprocName::new(name).unwrap())),
        ]
    }

    proptest! {
        #[test]
        fn what_is_printed_parses_to_the_same(endpoint in any_endpoint()) {
            prop_assert_eq!(endpoint.to_string().parse::<Endpoint>(), Ok(endpoint));
        }

        #[test]
        fn any_text_is_an_endpoint_or_an_error(text in any::<String>()) {
            check_any_text(&text)?;
        }

        #[test]
        fn nearly_right_texts_too(
            text in "(tcp|ipc|inproc|tpc|tls|ssl|udp|unix|unix\\+tls|)(://|:|)([\\[\\]:;%*@. 019a\\-/é]|::1|127\\.0\\.0\\.1|eth0){0,12}"
        ) {
            check_any_text(&text)?;
        }
    }

    fn check_any_text(text: &str) -> Result<(), TestCaseError> {
        match text.parse::<Endpoint>() {
            Ok(endpoint) => {
                let printed = endpoint.to_string();
                let again = printed.parse::<Endpoint>();
                prop_assert_eq!(again.as_ref().map(ToString::to_string), Ok(printed));
                prop_assert_eq!(again, Ok(endpoint));
            }
            Err(error) => prop_assert!(!error.to_string().is_empty()),
        }
        Ok(())
    }
}

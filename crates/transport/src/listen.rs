//! Listening: streams from whoever connects to an endpoint.

use std::fmt;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::net::TcpListener;
#[cfg(unix)]
use tokio::net::UnixListener;

use crate::endpoint::{Endpoint, Host, TcpEndpoint};
use crate::endpoint_error::EndpointError;
use crate::interface;
#[cfg(unix)]
use crate::ipc::{self, SocketFile};
use crate::options::StreamOptions;
use crate::resolve;
use crate::socket::{self, SocketError};
use crate::stream::{PeerAddress, Stream};
use crate::system_error::{
    is_no_such_family, is_out_of_descriptors, is_out_of_descriptors_in_accept, is_transient_in_accept,
};
use crate::tls::{TlsSettings, TlsStream, Wire};

/// Starts to listen on `endpoint`
///
/// Connections are taken from the moment this returns, and wait in the backlog until accepted. A name is an interface's
/// if there is one called so, or else looked up; the first of its addresses that can be bound is the one. A socket file
/// that nobody listens on any more is replaced; anything else at its path is left alone.
///
/// Streams of a tls endpoint come before their TLS handshake: await [`Stream::handshake`] for each, away from the
/// accepting task.
///
/// Must be called on a tokio runtime with its I/O and time drivers on.
///
/// # Errors
/// See [`ListenError`].
///
/// # Cancel safety
/// Dropping the future leaves nothing behind: no listener, and no file.
pub async fn listen(endpoint: &Endpoint, options: &StreamOptions) -> Result<Listener, ListenError> {
    endpoint.for_bind()?;
    match endpoint {
        Endpoint::Tcp(tcp) => listen_tcp(tcp, endpoint, options, None).await,
        Endpoint::Tls(tcp) => listen_tcp(tcp, endpoint, options, Some(tls_server(endpoint, options)?)).await,
        #[cfg(unix)]
        Endpoint::Ipc(ipc) => {
            let (file, listener, bound) = ipc::listen(ipc, endpoint, options).await?;
            Ok(Listener { file, incoming: Incoming::Unix(listener), endpoint: Endpoint::Ipc(bound), tls: None })
        }
        #[cfg(unix)]
        Endpoint::IpcTls(ipc) => {
            let tls = Some(tls_server(endpoint, options)?);
            let (file, listener, bound) = ipc::listen(ipc, endpoint, options).await?;
            Ok(Listener { file, incoming: Incoming::Unix(listener), endpoint: Endpoint::IpcTls(bound), tls })
        }
        #[cfg(not(unix))]
        Endpoint::Ipc(_) | Endpoint::IpcTls(_) => Err(ListenError::Unsupported { endpoint: endpoint.to_string() }),
        Endpoint::Inproc(_) | Endpoint::Udp(_) => Err(ListenError::Unsupported { endpoint: endpoint.to_string() }),
    }
}

/// A bound endpoint, and the connections that come in on it
///
/// Dropping it refuses those not yet accepted, and removes the socket file if it is still the one made here.
#[derive(Debug)]
pub struct Listener {
    /// Dropped before `incoming`: while the socket is open nobody takes its file for a stale one, and the file's number
    /// can't be given to another file
    #[cfg(unix)]
    #[expect(dead_code, reason = "held for what its drop does")]
    file: Option<SocketFile>,
    incoming: Incoming,
    endpoint: Endpoint,
    /// What a tls endpoint shows to those who connect
    tls: Option<Arc<TlsSettings>>,
}

impl Listener {
    /// Where it listens: with the real address, port or path in place of names and wildcards
    pub fn local_endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// The next connection
    ///
    /// # Errors
    /// See [`AcceptError`], which says whether to go on.
    ///
    /// # Cancel safety
    /// Dropping the future loses nothing: the connection stays in the backlog. Several tasks may wait at once.
    pub async fn accept(&self) -> Result<Stream, AcceptError> {
        self.accept_from().await.map(|(stream, _)| stream)
    }

    /// The next connection, and who it is from, which [`Stream::peer_address`] would have to ask the system for
    ///
    /// # Errors
    /// As [`accept`](Self::accept).
    ///
    /// # Cancel safety
    /// As [`accept`](Self::accept).
    pub async fn accept_from(&self) -> Result<(Stream, PeerAddress), AcceptError> {
        Ok(match &self.incoming {
            Incoming::Tcp(listener) => {
                let (stream, address) = listener.accept().await?;
                (self.stream(Wire::Tcp(stream)), PeerAddress::from(address))
            }
            #[cfg(unix)]
            Incoming::Unix(listener) => {
                let stream = self.stream(Wire::Unix(listener.accept().await?.0));
                let address = stream.peer_address();
                (stream, address)
            }
        })
    }

    /// The next connection, if there is one; only the last task that asked is woken for the next
    ///
    /// # Errors
    /// As [`accept`](Self::accept).
    pub fn poll_accept(&self, cx: &mut Context<'_>) -> Poll<Result<Stream, AcceptError>> {
        let accepted = match &self.incoming {
            Incoming::Tcp(listener) => {
                ready!(listener.poll_accept(cx)).map(|(stream, _)| self.stream(Wire::Tcp(stream)))
            }
            #[cfg(unix)]
            Incoming::Unix(listener) => {
                ready!(listener.poll_accept(cx)).map(|(stream, _)| self.stream(Wire::Unix(stream)))
            }
        };
        Poll::Ready(accepted.map_err(AcceptError::from))
    }

    fn stream(&self, wire: Wire) -> Stream {
        match (&self.tls, wire) {
            (Some(settings), wire) => Stream::Tls(Box::new(TlsStream::server(wire, settings.clone()))),
            (None, Wire::Tcp(stream)) => Stream::Tcp(stream),
            #[cfg(unix)]
            (None, Wire::Unix(stream)) => Stream::Unix(stream),
        }
    }
}

#[derive(Debug)]
enum Incoming {
    Tcp(TcpListener),
    #[cfg(unix)]
    Unix(UnixListener),
}

/// Why a connection couldn't be accepted, and so what to do
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AcceptError {
    /// No descriptor or memory is left: pause accepting until some connection ends, or for a moment. Nothing is lost
    /// meanwhile, the backlog holds who waits; accepting at once again would fail at once again
    #[error("no descriptor is left to accept a connection: {0}; close some or raise the limit (ulimit -n)")]
    OutOfDescriptors(#[source] io::Error),
    /// That one connection was lost before it was accepted: accept the next
    #[error("a connection was lost before it was accepted: {0}; others are not affected")]
    Transient(#[source] io::Error),
    /// The listener itself is of no use any more: drop it and listen anew
    #[error("the listener failed: {0}; listen again")]
    Fatal(#[source] io::Error),
}

impl From<io::Error> for AcceptError {
    fn from(error: io::Error) -> Self {
        if is_out_of_descriptors_in_accept(&error) {
            Self::OutOfDescriptors(error)
        } else if is_transient_in_accept(&error) {
            Self::Transient(error)
        } else {
            Self::Fatal(error)
        }
    }
}

/// Why nothing listens
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ListenError {
    /// The endpoint can't be bound; write another
    #[error(transparent)]
    Endpoint(#[from] EndpointError),

    /// No byte stream comes from there on this system; write another endpoint
    #[error("{endpoint} does not carry byte streams on this system; use tcp")]
    Unsupported {
        /// The endpoint in its canonical form
        endpoint: String,
    },

    /// The system refused an option; change or leave it out
    #[error("the system refused the option {option}: {source}; change it or leave it out")]
    Option {
        /// The option of [`StreamOptions`]
        option: &'static str,
        /// What the system said
        source: io::Error,
    },

    /// The TLS settings are missing or don't fit; set what the message says
    #[error("can't listen on {endpoint}: {reason}")]
    Tls {
        /// The endpoint in its canonical form
        endpoint: String,
        /// What is wrong, and which option to set
        reason: &'static str,
    },

    /// The host is neither a usable interface nor a name that resolves
    #[error("can't bind to {host}: {source}; interfaces here: {}", Listed(.interfaces))]
    Resolve {
        /// The host as the endpoint names it
        host: String,
        /// What the resolver said
        source: io::Error,
        /// The interfaces that could have been meant
        interfaces: Vec<String>,
    },

    /// Somebody listens there already
    #[error("another process is listening on {endpoint}, or this one is; stop it or choose another endpoint")]
    InUse {
        /// The endpoint in its canonical form
        endpoint: String,
    },

    /// The address belongs to no interface of this machine
    #[error("{endpoint} is not an address of this machine; use one that is, or * to bind to all interfaces")]
    NotLocal {
        /// The endpoint in its canonical form
        endpoint: String,
    },

    /// This user may not listen there
    #[error("no permission to listen on {endpoint}: {source}; {}", permission_advice(.endpoint))]
    Permission {
        /// The endpoint in its canonical form
        endpoint: String,
        /// What the system said
        source: io::Error,
    },

    /// Something that is no socket stands at the path; it was left alone
    #[error("{} exists and is not a socket; remove it yourself or choose another path", path.display())]
    NotASocket {
        /// The path
        path: PathBuf,
    },

    /// The directory that the socket file belongs in doesn't exist
    #[error("the directory {} does not exist; create it or choose another path", directory.display())]
    NoDirectory {
        /// The directory
        directory: PathBuf,
    },

    /// Another process kept the directory locked; sockets are bound in turn there, so that no live one is replaced
    #[error("another process kept {} locked for {waited:?}; end it (fuser names it) or choose another directory", directory.display())]
    Locked {
        /// The directory
        directory: PathBuf,
        /// How long it was waited for
        waited: Duration,
    },

    /// The system refused for another reason
    #[error("can't listen on {endpoint}: {}", Attempts(.attempts))]
    Bind {
        /// The endpoint in its canonical form
        endpoint: String,
        /// Each address that was tried, and what came of it
        attempts: Vec<(SocketAddr, io::Error)>,
    },

    /// The system refused a local socket for another reason
    #[error("can't listen on {endpoint}: {source}")]
    Ipc {
        /// The endpoint in its canonical form
        endpoint: String,
        /// What the system said
        source: io::Error,
    },

    /// No descriptor or memory was left for a socket
    #[error("no descriptor is left to listen: {0}; close some or raise the limit (ulimit -n)")]
    OutOfDescriptors(#[source] io::Error),
}

impl ListenError {
    /// Whether the process or the machine ran out of descriptors or kernel memory, at whatever step
    pub fn is_out_of_descriptors(&self) -> bool {
        match self {
            Self::OutOfDescriptors(_) => true,
            Self::Resolve { source, .. } => is_out_of_descriptors(source),
            _ => false,
        }
    }
}

/// The settings to show to those who connect
fn tls_server(endpoint: &Endpoint, options: &StreamOptions) -> Result<Arc<TlsSettings>, ListenError> {
    let reason = match &options.tls {
        Some(settings) if !settings.is_client() => return Ok(settings.clone()),
        Some(_) => "its TLS settings are for connecting; make some for listening",
        None => "it needs a certificate; set tls_certificate and tls_key",
    };
    Err(ListenError::Tls { endpoint: endpoint.to_string(), reason })
}

async fn listen_tcp(
    tcp: &TcpEndpoint,
    endpoint: &Endpoint,
    options: &StreamOptions,
    tls: Option<Arc<TlsSettings>>,
) -> Result<Listener, ListenError> {
    let addresses = resolve::local_addresses(&tcp.host, tcp.port.number(), options.ipv6).await.map_err(|source| {
        ListenError::Resolve { host: tcp.host.to_string(), source, interfaces: interface::names() }
    })?;
    let mut attempts = Vec::new();
    for address in addresses {
        let bound = match bind_tcp(address, options) {
            // A machine without IPv6 still has all its IPv4 addresses, as libzmq has it
            Err(SocketError::System(error))
                if tcp.host == Host::Any && address.is_ipv6() && is_no_such_family(&error) =>
            {
                bind_tcp(SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), address.port()), options)
            }
            bound => bound,
        };
        match bound {
            Ok((listener, local)) => {
                let mut local = TcpEndpoint::from(local);
                if let Host::Scoped { .. } = tcp.host {
                    // With the zone as it was written, rather than its number
                    local.host = tcp.host.clone();
                }
                return Ok(Listener {
                    #[cfg(unix)]
                    file: None,
                    incoming: Incoming::Tcp(listener),
                    endpoint: if tls.is_some() { Endpoint::Tls(local) } else { Endpoint::Tcp(local) },
                    tls,
                });
            }
            Err(SocketError::Option { option, source }) => {
                return Err(ListenError::Option { option, source });
            }
            Err(SocketError::System(error)) if is_out_of_descriptors(&error) => {
                return Err(ListenError::OutOfDescriptors(error));
            }
            Err(SocketError::System(error)) => attempts.push((address, error)),
        }
    }
    Err(refusal(endpoint, attempts))
}

fn bind_tcp(address: SocketAddr, options: &StreamOptions) -> Result<(TcpListener, SocketAddr), SocketError> {
    let socket = socket::tcp(address, options)?;
    // As libzmq does: a restarted server gets its port back while old connections linger in TIME_WAIT. Two live
    // listeners still exclude each other on unix; on Windows they would not.
    #[cfg(unix)]
    socket.set_reuse_address(true).map_err(SocketError::System)?;
    socket.bind(&address.into()).map_err(SocketError::System)?;
    socket.listen(socket::backlog(options)).map_err(SocketError::System)?;
    // What is set on a listening socket its connections have from the start (tcp(7)), so nothing is set at accept
    let listener = TcpListener::from_std(socket.into()).map_err(SocketError::System)?;
    let local = listener.local_addr().map_err(SocketError::System)?;
    Ok((listener, local))
}

/// The error that fits when no address could be bound
fn refusal(endpoint: &Endpoint, mut attempts: Vec<(SocketAddr, io::Error)>) -> ListenError {
    let all = |kind| attempts.iter().all(|(_, error)| error.kind() == kind);
    let text = endpoint.to_string();
    if all(io::ErrorKind::AddrInUse) {
        ListenError::InUse { endpoint: text }
    } else if all(io::ErrorKind::AddrNotAvailable) {
        ListenError::NotLocal { endpoint: text }
    } else if all(io::ErrorKind::PermissionDenied)
        && let Some((_, source)) = attempts.pop()
    {
        ListenError::Permission { endpoint: text, source }
    } else {
        ListenError::Bind { endpoint: text, attempts }
    }
}

fn permission_advice(endpoint: &str) -> &'static str {
    match endpoint.starts_with("tcp:") || endpoint.starts_with("tls:") {
        true => "ports below 1024 need a privilege (CAP_NET_BIND_SERVICE): choose a higher one",
        false => "the user needs to write to the directory, and to own a stale file that is in the way",
    }
}

struct Attempts<'a>(&'a [(SocketAddr, io::Error)]);

impl fmt::Display for Attempts<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, (address, error)) in self.0.iter().enumerate() {
            write!(f, "{}{address}: {error}", if n == 0 { "" } else { ", " })?;
        }
        Ok(())
    }
}

struct Listed<'a>(&'a [String]);

impl fmt::Display for Listed<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            [] => f.write_str("none"),
            names => f.write_str(&names.join(", ")),
        }
    }
}

#[cfg(test)]
mod tests {
    use rustix::io::Errno;

    use super::*;

    fn system(errno: Errno) -> io::Error {
        io::Error::from_raw_os_error(errno.raw_os_error())
    }

    fn endpoint(text: &str) -> Endpoint {
        text.parse().unwrap()
    }

    fn refused(text: &str, errors: &[Errno]) -> String {
        let address = SocketAddr::from(([127, 0, 0, 1], 80));
        let attempts = errors.iter().map(|errno| (address, system(*errno))).collect();
        refusal(&endpoint(text), attempts).to_string()
    }

    #[test]
    fn accept_errors_say_whether_to_pause_go_on_or_stop() {
        for errno in [Errno::MFILE, Errno::NFILE, Errno::NOMEM, Errno::NOBUFS, Errno::NOSPC] {
            assert!(matches!(AcceptError::from(system(errno)), AcceptError::OutOfDescriptors(_)), "{errno}");
        }
        for errno in [Errno::CONNABORTED, Errno::INTR, Errno::PROTO, Errno::PERM, Errno::NETDOWN, Errno::HOSTUNREACH] {
            assert!(matches!(AcceptError::from(system(errno)), AcceptError::Transient(_)), "{errno}");
        }
        for errno in [Errno::BADF, Errno::INVAL, Errno::NOTSOCK] {
            assert!(matches!(AcceptError::from(system(errno)), AcceptError::Fatal(_)), "{errno}");
        }
    }

    #[test]
    fn a_refused_port_says_what_to_do() {
        assert_eq!(
            refused("tcp://127.0.0.1:80", &[Errno::ADDRINUSE]),
            "another process is listening on tcp://127.0.0.1:80, or this one is; stop it or choose another endpoint"
        );
        assert_eq!(
            refused("tcp://127.0.0.1:80", &[Errno::ACCESS]),
            "no permission to listen on tcp://127.0.0.1:80: Permission denied (os error 13); ports below 1024 need a \
             privilege (CAP_NET_BIND_SERVICE): choose a higher one"
        );
        assert_eq!(
            refused("tcp://127.0.0.1:80", &[Errno::ADDRNOTAVAIL]),
            "tcp://127.0.0.1:80 is not an address of this machine; use one that is, or * to bind to all interfaces"
        );
    }

    #[test]
    fn causes_that_differ_are_all_told() {
        assert_eq!(
            refused("tcp://web:80", &[Errno::ADDRINUSE, Errno::ACCESS]),
            "can't listen on tcp://web:80: 127.0.0.1:80: Address already in use (os error 98), 127.0.0.1:80: \
             Permission denied (os error 13)"
        );
    }
}

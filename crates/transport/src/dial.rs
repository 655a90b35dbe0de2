//! Dialling: one connection to an endpoint, or why there is none.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use rustls_pki_types::ServerName;
#[cfg(unix)]
use tokio::net::UnixStream;
use tokio::net::{TcpSocket, TcpStream};

use crate::attempt::{first_to_connect, interleaved};
#[cfg(unix)]
use crate::endpoint::IpcEndpoint;
use crate::endpoint::{Endpoint, Host, TcpEndpoint};
use crate::endpoint_error::EndpointError;
use crate::options::StreamOptions;
use crate::resolve;
use crate::socket::{self, SocketError};
use crate::stream::Stream;
use crate::system_error::is_out_of_descriptors;
use crate::tls::{TlsSettings, TlsStream, Wire};

/// Connects to `endpoint`
///
/// A name is resolved anew at each call, on a thread of its own, and every address it has is tried: the next one starts
/// when the last one failed or has been quiet for 250 ms (RFC 8305), and the first to connect wins. The source address,
/// if the endpoint has one, is bound first.
///
/// A stream of a tls endpoint comes before its TLS handshake: await [`Stream::handshake`].
///
/// Must be called on a tokio runtime with its I/O and time drivers on.
///
/// # Errors
/// See [`DialError`]. All but `Endpoint`, `Unsupported`, `Option` and `Tls` may pass by themselves: dial again later.
///
/// # Cancel safety
/// Dropping the future closes whatever was under way. A lookup that was started ends by itself, and later calls for the
/// same name share its answer while it lasts.
pub async fn dial(endpoint: &Endpoint, options: &StreamOptions) -> Result<Stream, DialError> {
    endpoint.for_connect()?;
    let connected = async {
        match endpoint {
            Endpoint::Tcp(tcp) => dial_tcp(tcp, options).await.map(Stream::Tcp),
            #[cfg(unix)]
            Endpoint::Ipc(ipc) => dial_ipc(ipc, endpoint, options).await.map(Stream::Unix),
            #[cfg(not(unix))]
            Endpoint::Ipc(_) => Err(DialError::Unsupported { endpoint: endpoint.to_string() }),
            Endpoint::Tls(tcp) => {
                let (settings, name) = tls_client(endpoint, Some(&tcp.host), options)?;
                let wire = dial_tcp(tcp, options).await.map(Wire::Tcp)?;
                Ok(Stream::Tls(Box::new(TlsStream::client(wire, settings, name))))
            }
            #[cfg(unix)]
            Endpoint::IpcTls(ipc) => {
                let (settings, name) = tls_client(endpoint, None, options)?;
                let wire = dial_ipc(ipc, endpoint, options).await.map(Wire::Unix)?;
                Ok(Stream::Tls(Box::new(TlsStream::client(wire, settings, name))))
            }
            #[cfg(not(unix))]
            Endpoint::IpcTls(_) => Err(DialError::Unsupported { endpoint: endpoint.to_string() }),
            Endpoint::Inproc(_) | Endpoint::Udp(_) => Err(DialError::Unsupported { endpoint: endpoint.to_string() }),
        }
    };
    match options.connect_timeout {
        None => connected.await,
        Some(after) => match tokio::time::timeout(after, connected).await {
            Ok(outcome) => outcome,
            Err(_) => Err(DialError::TimedOut { endpoint: endpoint.to_string(), after }),
        },
    }
}

/// Why there is no connection
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DialError {
    /// The endpoint can't be connected to; write another
    #[error(transparent)]
    Endpoint(#[from] EndpointError),

    /// No byte stream leads there from this system; write another endpoint
    #[error("{endpoint} is not reached by a byte stream on this system; use tcp")]
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
    #[error("can't connect to {endpoint}: {reason}")]
    Tls {
        /// The endpoint in its canonical form
        endpoint: String,
        /// What is wrong, and which option to set
        reason: String,
    },

    /// The host has no usable address, for now; dialling again asks again
    #[error("can't resolve {host}: {source}; check its spelling and the name server")]
    Resolve {
        /// The host, or the source host, as the endpoint names it
        host: String,
        /// What the resolver said
        source: io::Error,
    },

    /// Every address was tried and none took the connection; dialling again may find one that does
    #[error("can't connect: {}", Attempts(.attempts))]
    Connect {
        /// Each address that was tried, and what came of it
        attempts: Vec<(SocketAddr, io::Error)>,
    },

    /// The local socket couldn't be connected to; dialling again may succeed once somebody listens there
    #[error("can't connect to {endpoint}: {source}; {}", ipc_advice(.source))]
    Ipc {
        /// The endpoint in its canonical form
        endpoint: String,
        /// What the system said
        source: io::Error,
    },

    /// No answer within the connect timeout; dialling again may find one
    #[error(
        "no connection to {endpoint} within {after:?}; check that the host is up and no firewall drops its packets"
    )]
    TimedOut {
        /// The endpoint in its canonical form
        endpoint: String,
        /// The connect timeout
        after: Duration,
    },

    /// No descriptor or memory was left for a socket; close some connections or raise the limit, then dial again
    #[error("no descriptor is left for a connection: {0}; close some or raise the limit (ulimit -n)")]
    OutOfDescriptors(#[source] io::Error),
}

impl DialError {
    /// Whether the process or the machine ran out of descriptors or kernel memory, at whatever step
    pub fn is_out_of_descriptors(&self) -> bool {
        match self {
            Self::OutOfDescriptors(_) => true,
            Self::Resolve { source, .. } | Self::Ipc { source, .. } => is_out_of_descriptors(source),
            Self::Connect { attempts } => attempts.iter().any(|(_, error)| is_out_of_descriptors(error)),
            Self::Endpoint(_)
            | Self::Unsupported { .. }
            | Self::Option { .. }
            | Self::Tls { .. }
            | Self::TimedOut { .. } => false,
        }
    }
}

async fn dial_tcp(tcp: &TcpEndpoint, options: &StreamOptions) -> Result<TcpStream, DialError> {
    let unresolved = |host: &Host| {
        let host = host.to_string();
        move |source| DialError::Resolve { host, source }
    };
    let sources = match &tcp.source {
        None => None,
        Some(source) => Some(
            resolve::source_addresses(&source.host, source.port.number(), options.ipv6)
                .await
                .map_err(unresolved(&source.host))?,
        ),
    };
    let addresses =
        resolve::remote_addresses(&tcp.host, tcp.port.number(), options.ipv6).await.map_err(unresolved(&tcp.host))?;

    connect_any(addresses, sources.as_deref(), options).await
}

/// The first of `addresses` to connect, leaving from one of `sources`
async fn connect_any(
    addresses: Vec<SocketAddr>,
    sources: Option<&[SocketAddr]>,
    options: &StreamOptions,
) -> Result<TcpStream, DialError> {
    let connect = |address| connect_tcp(address, sources, options);
    let failed = match first_to_connect(interleaved(addresses), connect).await {
        Ok(stream) => return Ok(stream),
        Err(failed) => failed,
    };
    let mut attempts = Vec::with_capacity(failed.len());
    for (address, error) in failed {
        match error {
            SocketError::Option { option, source } => {
                return Err(DialError::Option { option, source });
            }
            SocketError::System(error) if is_out_of_descriptors(&error) => {
                return Err(DialError::OutOfDescriptors(error));
            }
            SocketError::System(error) => attempts.push((address, error)),
        }
    }
    Err(DialError::Connect { attempts })
}

/// One attempt, leaving from the first of `sources` that is of the same IP version
async fn connect_tcp(
    address: SocketAddr,
    sources: Option<&[SocketAddr]>,
    options: &StreamOptions,
) -> Result<TcpStream, SocketError> {
    let socket = socket::tcp(address, options)?;
    if let Some(sources) = sources {
        let Some(from) = sources.iter().find(|from| from.is_ipv6() == address.is_ipv6()) else {
            return Err(SocketError::System(io::Error::new(
                io::ErrorKind::AddrNotAvailable,
                "the source address is of the other IP version",
            )));
        };
        // As libzmq does: one source port may serve connections to several servers
        socket.set_reuse_address(true).map_err(SocketError::System)?;
        socket.bind(&(*from).into()).map_err(|error| {
            SocketError::System(io::Error::new(error.kind(), format!("can't leave from {from}: {error}")))
        })?;
    }
    let socket = TcpSocket::from_std_stream(socket.into());
    let stream = socket.connect(address).await.map_err(SocketError::System)?;
    // A port that nobody listens on may be the one the system picked for our own end: then the two meet (RFC 9293,
    // section 3.5, simultaneous open), and a later bind of that port would fail for as long as we hold it
    let is_itself = || stream.peer_addr().is_ok_and(|peer| stream.local_addr().is_ok_and(|local| local == peer));
    // Mostly the ports tell them apart, and one question will do
    match stream.local_addr() {
        Ok(local) if local.port() == address.port() && is_itself() => Err(SocketError::System(io::Error::new(
            io::ErrorKind::ConnectionRefused,
            "only this connection itself is there",
        ))),
        _ => Ok(stream),
    }
}

/// The settings to connect by, and the name to find in the server's certificate
fn tls_client(
    endpoint: &Endpoint,
    host: Option<&Host>,
    options: &StreamOptions,
) -> Result<(Arc<TlsSettings>, ServerName<'static>), DialError> {
    let wrong = |reason: String| DialError::Tls { endpoint: endpoint.to_string(), reason };
    let settings = match &options.tls {
        Some(settings) if settings.is_client() => settings.clone(),
        Some(_) => return Err(wrong("its TLS settings are for listening; make some for connecting".to_owned())),
        None => {
            let advice = "it needs to know which server to trust; set tls_authority or tls_pin";
            return Err(wrong(advice.to_owned()));
        }
    };
    let host = host.and_then(|host| match host {
        Host::Any => None,
        Host::Ip(address) => Some(address.to_string()),
        Host::Scoped { address, .. } => Some(address.to_string()),
        Host::Name(name) => Some(name.clone()),
    });
    let name = settings.server_name(host.as_deref()).map_err(wrong)?;
    Ok((settings, name))
}

#[cfg(unix)]
async fn dial_ipc(ipc: &IpcEndpoint, endpoint: &Endpoint, options: &StreamOptions) -> Result<UnixStream, DialError> {
    use crate::ipc;

    let failed = |source| match is_out_of_descriptors(&source) {
        true => DialError::OutOfDescriptors(source),
        false => DialError::Ipc { endpoint: endpoint.to_string(), source },
    };
    let Some(address) = ipc::address(ipc).map_err(failed)? else {
        return Err(DialError::Unsupported { endpoint: endpoint.to_string() });
    };
    let socket = socket::local(options).map_err(|error| match error {
        SocketError::Option { option, source } => DialError::Option { option, source },
        SocketError::System(source) => failed(source),
    })?;
    // Over a local socket this is done or refused at once, never under way
    socket.connect(&address).map_err(failed)?;
    UnixStream::from_std(socket.into()).map_err(failed)
}

fn ipc_advice(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::NotFound => "nothing is bound there; start the program that binds it, or check the path",
        io::ErrorKind::ConnectionRefused => "no process listens there any more; start the program that binds it",
        io::ErrorKind::PermissionDenied => "this user may not write to the socket or enter its directory",
        io::ErrorKind::WouldBlock => "its backlog is full; try again, or give the listener a longer one",
        _ => "check the path",
    }
}

/// "address: cause" for each, and what to do about it
struct Attempts<'a>(&'a [(SocketAddr, io::Error)]);

impl fmt::Display for Attempts<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, (address, error)) in self.0.iter().enumerate() {
            let separator = if n == 0 { "" } else { ", " };
            write!(f, "{separator}{address}: {error}")?;
        }
        let refused = |(_, error): &(SocketAddr, io::Error)| error.kind() == io::ErrorKind::ConnectionRefused;
        match self.0.iter().all(refused) {
            true => f.write_str("; nothing listens there: start the program that binds it, or check the port"),
            false => f.write_str("; check the address, the route to it and its firewall"),
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    /// An address of this machine that nobody listens on: the socket holds the port and never listens
    fn deaf(address: &str) -> (socket2::Socket, SocketAddr) {
        let address: SocketAddr = address.parse().unwrap();
        let socket = socket2::Socket::new(socket2::Domain::for_address(address), socket2::Type::STREAM, None).unwrap();
        socket.bind(&address.into()).unwrap();
        let bound = socket.local_addr().unwrap().as_socket().unwrap();
        (socket, bound)
    }

    #[tokio::test]
    async fn the_one_address_that_listens_is_found() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let open = listener.local_addr().unwrap();
        let (_held, closed) = deaf("127.0.0.1:0");
        let mut addresses = vec![closed, open];
        match std::net::TcpListener::bind("[::1]:0") {
            Ok(_) => {
                let (_held, closed) = deaf("[::1]:0");
                addresses.insert(0, closed);
            }
            Err(error) => println!("IPv6 part skipped: this machine has no ::1 ({error})"),
        }
        let stream = connect_any(addresses, None, &StreamOptions::default()).await.unwrap();
        assert_eq!(stream.peer_addr().unwrap(), open);
    }

    #[tokio::test]
    async fn every_address_is_named_when_none_connects() {
        let (_a, first) = deaf("127.0.0.1:0");
        let (_b, second) = deaf("127.0.0.2:0");
        let error = connect_any(vec![first, second], None, &StreamOptions::default()).await.unwrap_err();
        let refused = "Connection refused (os error 111)";
        assert_eq!(
            error.to_string(),
            format!(
                "can't connect: {first}: {refused}, {second}: {refused}; nothing listens there: start the program that \
                 binds it, or check the port"
            )
        );
        assert!(!error.is_out_of_descriptors());
    }

    #[tokio::test]
    async fn a_source_of_the_other_family_is_an_error_for_that_address_alone() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let open = listener.local_addr().unwrap();
        let sources: [SocketAddr; 1] = ["[::1]:0".parse().unwrap()];
        let error = connect_any(vec![open], Some(&sources), &StreamOptions::default()).await.unwrap_err();
        assert!(error.to_string().contains("the source address is of the other IP version"), "{error}");
    }

    #[tokio::test]
    async fn a_connection_to_itself_is_refused() {
        // Two sockets may share a port while neither listens: the first keeps it from others, the second dials itself
        let (held, address) = deaf("127.0.0.1:0");
        held.set_reuse_address(true).unwrap();
        let error = connect_any(vec![address], Some(&[address]), &StreamOptions::default()).await.unwrap_err();
        assert!(error.to_string().contains("only this connection itself is there"), "{error}");
    }
}

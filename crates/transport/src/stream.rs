//! A connected stream of octets, whatever carries it.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
#[cfg(unix)]
use tokio::net::UnixStream;

use crate::endpoint::Endpoint;
#[cfg(unix)]
use crate::endpoint::IpcEndpoint;
use crate::tls::{TlsError, TlsPeer, TlsStream, Wire};

/// One connection to a peer: octets in both directions, in order
///
/// Reads and writes are those of tokio's streams, vectored writes included. Shutting down (`AsyncWrite`) ends the
/// writing half: the peer reads to the end, and can still answer.
#[derive(Debug)]
#[non_exhaustive]
pub enum Stream {
    /// Over tcp
    Tcp(TcpStream),
    /// Over a local socket
    #[cfg(unix)]
    Unix(UnixStream),
    /// TLS over either of them; its [`handshake`](Self::handshake) comes before any reading or writing
    Tls(Box<TlsStream>),
}

impl Stream {
    /// Makes the stream ready for octets: with TLS by its handshake, otherwise at once
    ///
    /// `None` for a stream without TLS. Every stream of a tls endpoint, dialled or accepted, needs this first, and it
    /// waits for the peer without end: the caller sets the deadline.
    ///
    /// # Errors
    /// See [`TlsError`]. The stream is of no more use.
    ///
    /// # Cancel safety
    /// None: after dropping the future drop the stream.
    pub async fn handshake(&mut self) -> Result<Option<TlsPeer>, TlsError> {
        match self {
            Self::Tcp(_) => Ok(None),
            #[cfg(unix)]
            Self::Unix(_) => Ok(None),
            Self::Tls(stream) => stream.handshake().await.map(Some),
        }
    }

    /// Whether octets that were taken from the writer have yet to reach the kernel; `poll_flush` goes on with them
    ///
    /// Only ever true with TLS. Reading may make it true as well: some of what the peer sends is answered.
    pub fn needs_flush(&self) -> bool {
        match self {
            Self::Tcp(_) => false,
            #[cfg(unix)]
            Self::Unix(_) => false,
            Self::Tls(stream) => stream.needs_flush(),
        }
    }

    /// Who is at the other end, as far as the system says
    pub fn peer_address(&self) -> PeerAddress {
        match self {
            Self::Tcp(stream) => tcp_peer(stream),
            #[cfg(unix)]
            Self::Unix(stream) => unix_peer(stream),
            Self::Tls(stream) => match stream.wire() {
                Some(Wire::Tcp(stream)) => tcp_peer(stream),
                #[cfg(unix)]
                Some(Wire::Unix(stream)) => unix_peer(stream),
                None => PeerAddress::Unknown,
            },
        }
    }

    /// This end's address, as an endpoint
    ///
    /// `None` for the dialling end of an ipc stream, which has none, and for a stream that the system has already
    /// torn down.
    pub fn local_address(&self) -> Option<Endpoint> {
        match self {
            Self::Tcp(stream) => Some(Endpoint::Tcp(plain(stream.local_addr().ok()?).into())),
            #[cfg(unix)]
            Self::Unix(stream) => unix_local(stream).map(Endpoint::Ipc),
            Self::Tls(stream) => match stream.wire()? {
                Wire::Tcp(stream) => Some(Endpoint::Tls(plain(stream.local_addr().ok()?).into())),
                #[cfg(unix)]
                Wire::Unix(stream) => unix_local(stream).map(Endpoint::IpcTls),
            },
        }
    }
}

fn tcp_peer(stream: &TcpStream) -> PeerAddress {
    stream.peer_addr().map_or(PeerAddress::Unknown, PeerAddress::from)
}

#[cfg(unix)]
fn unix_peer(stream: &UnixStream) -> PeerAddress {
    match stream.peer_cred() {
        Ok(credentials) => PeerAddress::Ipc { pid: credentials.pid(), uid: Some(credentials.uid()) },
        Err(_) => PeerAddress::Ipc { pid: None, uid: None },
    }
}

#[cfg(unix)]
fn unix_local(stream: &UnixStream) -> Option<IpcEndpoint> {
    let address: std::os::unix::net::SocketAddr = stream.local_addr().ok()?.into();
    if let Some(path) = address.as_pathname() {
        return Some(IpcEndpoint::Path(path.to_owned()));
    }
    #[cfg(any(target_os = "linux", target_os = "android"))]
    {
        use std::os::linux::net::SocketAddrExt;
        if let Some(name) = address.as_abstract_name() {
            return Some(IpcEndpoint::Abstract(name.to_vec()));
        }
    }
    None
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_read(cx, buf),
            #[cfg(unix)]
            Self::Unix(stream) => Pin::new(stream).poll_read(cx, buf),
            Self::Tls(stream) => Pin::new(stream.as_mut()).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_write(cx, buf),
            #[cfg(unix)]
            Self::Unix(stream) => Pin::new(stream).poll_write(cx, buf),
            Self::Tls(stream) => Pin::new(stream.as_mut()).poll_write(cx, buf),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
            #[cfg(unix)]
            Self::Unix(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
            Self::Tls(stream) => Pin::new(stream.as_mut()).poll_write_vectored(cx, bufs),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Tcp(stream) => stream.is_write_vectored(),
            #[cfg(unix)]
            Self::Unix(stream) => stream.is_write_vectored(),
            Self::Tls(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_flush(cx),
            #[cfg(unix)]
            Self::Unix(stream) => Pin::new(stream).poll_flush(cx),
            Self::Tls(stream) => Pin::new(stream.as_mut()).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_shutdown(cx),
            #[cfg(unix)]
            Self::Unix(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Tls(stream) => Pin::new(stream.as_mut()).poll_shutdown(cx),
        }
    }
}

/// Who is at the other end of a stream
///
/// Prints as `127.0.0.1:34567`, or `ipc pid 123 uid 0`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum PeerAddress {
    /// A tcp peer; an IPv4 peer of a listener for both families is given as IPv4
    Tcp(SocketAddr),
    /// A process on this machine, as the kernel saw it when it connected or listened
    Ipc {
        /// Its process id, where the system tells
        pid: Option<i32>,
        /// The user it ran as, where the system tells
        uid: Option<u32>,
    },
    /// The connection ended before its address could be read
    Unknown,
}

impl From<SocketAddr> for PeerAddress {
    fn from(address: SocketAddr) -> Self {
        Self::Tcp(plain(address))
    }
}

impl fmt::Display for PeerAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Ipc { pid, uid } => {
                f.write_str("ipc")?;
                if let Some(pid) = pid {
                    write!(f, " pid {pid}")?;
                }
                if let Some(uid) = uid {
                    write!(f, " uid {uid}")?;
                }
                Ok(())
            }
            Self::Unknown => f.write_str("unknown (already disconnected)"),
        }
    }
}

/// An IPv4 address that arrived dressed as IPv6, undressed
pub(crate) fn plain(address: SocketAddr) -> SocketAddr {
    match address {
        SocketAddr::V6(v6) if v6.ip().to_ipv4_mapped().is_some() => SocketAddr::new(v6.ip().to_canonical(), v6.port()),
        SocketAddr::V4(_) | SocketAddr::V6(_) => address,
    }
}

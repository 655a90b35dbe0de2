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
}

impl Stream {
    /// Who is at the other end, as far as the system says
    pub fn peer_address(&self) -> PeerAddress {
        match self {
            Self::Tcp(stream) => stream.peer_addr().map_or(PeerAddress::Unknown, PeerAddress::from),
            #[cfg(unix)]
            Self::Unix(stream) => match stream.peer_cred() {
                Ok(credentials) => PeerAddress::Ipc { pid: credentials.pid(), uid: Some(credentials.uid()) },
                Err(_) => PeerAddress::Ipc { pid: None, uid: None },
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
            Self::Unix(stream) => {
                let address: std::os::unix::net::SocketAddr = stream.local_addr().ok()?.into();
                if let Some(path) = address.as_pathname() {
                    return Some(Endpoint::Ipc(IpcEndpoint::Path(path.to_owned())));
                }
                #[cfg(any(target_os = "linux", target_os = "android"))]
                {
                    use std::os::linux::net::SocketAddrExt;
                    if let Some(name) = address.as_abstract_name() {
                        return Some(Endpoint::Ipc(IpcEndpoint::Abstract(name.to_vec())));
                    }
                }
                None
            }
        }
    }
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_read(cx, buf),
            #[cfg(unix)]
            Self::Unix(stream) => Pin::new(stream).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_write(cx, buf),
            #[cfg(unix)]
            Self::Unix(stream) => Pin::new(stream).poll_write(cx, buf),
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
        }
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Tcp(stream) => stream.is_write_vectored(),
            #[cfg(unix)]
            Self::Unix(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_flush(cx),
            #[cfg(unix)]
            Self::Unix(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_shutdown(cx),
            #[cfg(unix)]
            Self::Unix(stream) => Pin::new(stream).poll_shutdown(cx),
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
fn plain(address: SocketAddr) -> SocketAddr {
    match address {
        SocketAddr::V6(v6) if v6.ip().to_ipv4_mapped().is_some() => SocketAddr::new(v6.ip().to_canonical(), v6.port()),
        SocketAddr::V4(_) | SocketAddr::V6(_) => address,
    }
}

//! A TLS stream: first the handshake, then octets.

use std::fmt;
use std::io::{self, IoSlice, Read};
use std::mem;
use std::ops::DerefMut;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, SystemTime};

use rustls::{CommonState, ConnectionCommon, ProtocolVersion};
use rustls_pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::TcpStream;
#[cfg(unix)]
use tokio::net::UnixStream;
use tokio::time::timeout;
use tokio_rustls::{TlsAcceptor, TlsConnector};

use super::certificate::PeerCertificate;
use super::error::TlsError;
use super::settings::{TlsConfig, TlsSettings};

/// One end of a TLS connection, before or after its handshake
///
/// Reading or writing before [`Stream::handshake`](crate::Stream::handshake) is done fails with
/// [`io::ErrorKind::NotConnected`]. Afterwards an error that TLS has a name for carries a [`TlsError`] (see
/// [`TlsError::of`]); the end of the octets without the peer's farewell (close_notify) is
/// [`io::ErrorKind::UnexpectedEof`]. Written slices are gathered into records of up to 16 KiB, and up to 128 KiB of
/// records wait when the kernel takes no more: then `needs_flush` is true, and `poll_flush` goes on with them.
pub struct TlsStream {
    state: State,
}

#[expect(clippy::large_enum_variant, reason = "a stream is boxed as a whole, and open for most of its life")]
enum State {
    /// Connected, nothing said yet
    Waiting { carrier: Carrier, side: Side },
    /// The handshake's future holds the connection, or was dropped with it
    Shaking,
    /// The handshake is done
    Open(tokio_rustls::TlsStream<Carrier>),
    /// The handshake failed; kept for its addresses alone
    Failed(Carrier),
}

enum Side {
    Client { settings: Arc<TlsSettings>, name: ServerName<'static> },
    Server { settings: Arc<TlsSettings> },
}

/// What the handshake told of the peer
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct TlsPeer {
    /// `TLS 1.2` or `TLS 1.3`
    pub version: &'static str,
    /// The cipher suite, by the library's name for it
    pub cipher: String,
    /// The peer's own certificate, verified; `None` for a client that showed none
    pub certificate: Option<PeerCertificate>,
}

impl TlsStream {
    pub(crate) fn client(wire: Wire, settings: Arc<TlsSettings>, name: ServerName<'static>) -> Self {
        Self { state: State::Waiting { carrier: Carrier::new(wire), side: Side::Client { settings, name } } }
    }

    pub(crate) fn server(wire: Wire, settings: Arc<TlsSettings>) -> Self {
        Self { state: State::Waiting { carrier: Carrier::new(wire), side: Side::Server { settings } } }
    }

    /// What carries the octets; `None` once a handshake was given up half way
    pub(crate) fn wire(&self) -> Option<&Wire> {
        match &self.state {
            State::Waiting { carrier, .. } | State::Failed(carrier) => Some(&carrier.wire),
            State::Open(stream) => Some(&stream.get_ref().0.wire),
            State::Shaking => None,
        }
    }

    /// Whether octets that were taken from the writer have yet to reach the kernel
    pub(crate) fn needs_flush(&self) -> bool {
        matches!(&self.state, State::Open(stream) if stream.get_ref().1.wants_write())
    }

    pub(crate) async fn handshake(&mut self) -> Result<TlsPeer, TlsError> {
        let (carrier, side) = match mem::replace(&mut self.state, State::Shaking) {
            State::Waiting { carrier, side } => (carrier, side),
            other => {
                self.state = other;
                return match &self.state {
                    State::Open(stream) => peer(stream.get_ref().1),
                    _ => Err(TlsError::Closed { reason: "an earlier handshake was given up or failed".to_owned() }),
                };
            }
        };
        let shaken = match side {
            Side::Client { settings, name } => match settings.config() {
                TlsConfig::Client(config) => TlsConnector::from(config)
                    .connect_with(name, carrier, |session| session.set_buffer_limit(Some(BUFFER_LIMIT)))
                    .into_fallible()
                    .await
                    .map(tokio_rustls::TlsStream::Client),
                TlsConfig::Server(_) => return self.misused(carrier),
            },
            Side::Server { settings } => match settings.config() {
                TlsConfig::Server(config) => TlsAcceptor::from(config)
                    .accept_with(carrier, |session| session.set_buffer_limit(Some(BUFFER_LIMIT)))
                    .into_fallible()
                    .await
                    .map(tokio_rustls::TlsStream::Server),
                TlsConfig::Client(_) => return self.misused(carrier),
            },
        };
        match shaken {
            Ok(stream) => {
                // Who is refused after all, say by a certificate that has ended since its session began, gets no stream
                let peer = peer(stream.get_ref().1)?;
                self.state = State::Open(stream);
                Ok(peer)
            }
            Err((error, mut carrier)) => {
                let refusal = TlsError::from_io(&error, carrier.first());
                if !matches!(refusal, TlsError::Closed { .. } | TlsError::Refused { .. }) {
                    carrier.linger().await;
                }
                self.state = State::Failed(carrier);
                Err(refusal)
            }
        }
    }

    fn misused(&mut self, carrier: Carrier) -> Result<TlsPeer, TlsError> {
        self.state = State::Failed(carrier);
        Err(TlsError::Settings { reason: "the TLS settings are for the other side of a connection".to_owned() })
    }

    fn open(&mut self) -> io::Result<&mut tokio_rustls::TlsStream<Carrier>> {
        match &mut self.state {
            State::Open(stream) => Ok(stream),
            _ => {
                Err(io::Error::new(io::ErrorKind::NotConnected, "the TLS handshake is not done; await handshake first"))
            }
        }
    }
}

impl fmt::Debug for TlsStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = match &self.state {
            State::Waiting { side: Side::Client { .. }, .. } => "client before its handshake",
            State::Waiting { side: Side::Server { .. }, .. } => "server before its handshake",
            State::Shaking => "given up during the handshake",
            State::Open(_) => "open",
            State::Failed(_) => "failed",
        };
        f.debug_struct("TlsStream").field("state", &state).field("wire", &self.wire()).finish()
    }
}

impl AsyncRead for TlsStream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(self.get_mut().open()?).poll_read(cx, buf).map_err(named)
    }
}

impl AsyncWrite for TlsStream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let stream = self.get_mut().open()?;
        let written = ready!(Pin::new(&mut *stream).poll_write(cx, buf));
        Poll::Ready(written.map_err(|error| explained(stream, cx, error)))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let stream = self.get_mut().open()?;
        let written = ready!(Pin::new(&mut *stream).poll_write_vectored(cx, bufs));
        Poll::Ready(written.map_err(|error| explained(stream, cx, error)))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let stream = self.get_mut().open()?;
        let flushed = ready!(Pin::new(&mut *stream).poll_flush(cx));
        Poll::Ready(flushed.map_err(|error| explained(stream, cx, error)))
    }

    /// Says farewell (close_notify) once all is written, and ends the writing half
    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().state {
            State::Open(stream) => Pin::new(stream).poll_shutdown(cx).map_err(named),
            State::Waiting { carrier, .. } | State::Failed(carrier) => Pin::new(carrier).poll_shutdown(cx),
            State::Shaking => Poll::Ready(Ok(())),
        }
    }
}

/// What the handshake told
fn peer(session: &CommonState) -> Result<TlsPeer, TlsError> {
    let certificate = match session.peer_certificates().and_then(|chain| chain.first()) {
        None => None,
        Some(leaf) => Some(PeerCertificate::read(leaf).map_err(|reason| TlsError::BadCertificate { reason })?),
    };
    // A resumed session was verified when it began, and may outlive the certificate
    if certificate.as_ref().is_some_and(|certificate| certificate.not_after < SystemTime::now()) {
        return Err(TlsError::Expired);
    }
    Ok(TlsPeer {
        version: match session.protocol_version() {
            Some(ProtocolVersion::TLSv1_3) => "TLS 1.3",
            _ => "TLS 1.2",
        },
        cipher: session.negotiated_cipher_suite().map_or_else(String::new, |suite| format!("{:?}", suite.suite())),
        certificate,
    })
}

/// An error of the library as a [`TlsError`], others as they are
fn named(error: io::Error) -> io::Error {
    match error.get_ref().is_some_and(|inner| inner.is::<rustls::Error>()) {
        true => io::Error::new(error.kind(), TlsError::from_io(&error, &[])),
        false => error,
    }
}

/// Why writing failed: a peer that refuses closes at once, and its alert may be waiting to be read
fn explained(stream: &mut tokio_rustls::TlsStream<Carrier>, cx: &mut Context<'_>, error: io::Error) -> io::Error {
    if !matches!(error.kind(), io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset) {
        return named(error);
    }
    let alert = match stream {
        tokio_rustls::TlsStream::Client(stream) => {
            let (carrier, session) = stream.get_mut();
            alert_waiting(carrier, session, cx)
        }
        tokio_rustls::TlsStream::Server(stream) => {
            let (carrier, session) = stream.get_mut();
            alert_waiting(carrier, session, cx)
        }
    };
    match alert {
        Some(alert) => named(io::Error::new(error.kind(), alert)),
        None => error,
    }
}

/// Reads on until an alert, an end, or octets that the owner has to take first
fn alert_waiting<S>(
    carrier: &mut Carrier,
    session: &mut impl DerefMut<Target = ConnectionCommon<S>>,
    cx: &mut Context<'_>,
) -> Option<rustls::Error>
where
    S: rustls::SideData,
{
    while session.wants_read() {
        match session.read_tls(&mut Blocking { carrier, cx }) {
            Ok(0) | Err(_) => break,
            Ok(_) => {
                if let Err(error) = session.process_new_packets() {
                    return Some(error);
                }
            }
        }
    }
    None
}

/// Reading as rustls wants it: what would wait is an error
struct Blocking<'a, 'b> {
    carrier: &'a mut Carrier,
    cx: &'a mut Context<'b>,
}

impl Read for Blocking<'_, '_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let mut buf = ReadBuf::new(buf);
        match Pin::new(&mut *self.carrier).poll_read(self.cx, &mut buf) {
            Poll::Ready(result) => result.map(|()| buf.filled().len()),
            Poll::Pending => Err(io::ErrorKind::WouldBlock.into()),
        }
    }
}

/// The stream that records travel on
#[derive(Debug)]
pub(crate) enum Wire {
    Tcp(TcpStream),
    #[cfg(unix)]
    Unix(UnixStream),
}

/// A wire that remembers the first octets which came: they tell what the peer speaks if it isn't TLS
#[derive(Debug)]
struct Carrier {
    wire: Wire,
    first: [u8; FIRST],
    remembered: usize,
}

impl Carrier {
    fn new(wire: Wire) -> Self {
        Self { wire, first: [0; FIRST], remembered: 0 }
    }

    fn first(&self) -> &[u8] {
        self.first.get(..self.remembered).unwrap_or_default()
    }

    fn remember(&mut self, octets: &[u8]) {
        let free = self.first.get_mut(self.remembered..).unwrap_or_default();
        let count = free.len().min(octets.len());
        free[..count].copy_from_slice(&octets[..count]);
        self.remembered += count;
    }

    /// Lets the peer read the alert: closing while its octets wait unread would reset the connection (RFC 9293, section
    /// 3.6.1), and the alert could be lost
    async fn linger(&mut self) {
        let farewell = async {
            self.shutdown().await?;
            let mut unread = [0; 1024];
            let mut left = LINGER_OCTETS;
            while left > 0 {
                match self.read(&mut unread).await? {
                    0 => break,
                    count => left = left.saturating_sub(count),
                }
            }
            io::Result::Ok(())
        };
        // The refusal stands, whether or not the peer heard of it
        let _ = timeout(LINGER, farewell).await;
    }
}

impl AsyncRead for Carrier {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buf.filled().len();
        ready!(match &mut this.wire {
            Wire::Tcp(stream) => Pin::new(stream).poll_read(cx, buf),
            #[cfg(unix)]
            Wire::Unix(stream) => Pin::new(stream).poll_read(cx, buf),
        })?;
        if this.remembered < FIRST {
            this.remember(buf.filled().get(before..).unwrap_or_default());
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Carrier {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match &mut self.get_mut().wire {
            Wire::Tcp(stream) => Pin::new(stream).poll_write(cx, buf),
            #[cfg(unix)]
            Wire::Unix(stream) => Pin::new(stream).poll_write(cx, buf),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match &mut self.get_mut().wire {
            Wire::Tcp(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
            #[cfg(unix)]
            Wire::Unix(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match &self.wire {
            Wire::Tcp(stream) => stream.is_write_vectored(),
            #[cfg(unix)]
            Wire::Unix(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        // The kernel has it already
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().wire {
            Wire::Tcp(stream) => Pin::new(stream).poll_shutdown(cx),
            #[cfg(unix)]
            Wire::Unix(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}

/// How many of the first octets are remembered: enough to tell protocols apart
const FIRST: usize = 8;

/// How many octets of records wait for the kernel; rustls's own default is half as much
const BUFFER_LIMIT: usize = 512 * 1024;

/// How long a refused peer may take to read why; not measured
const LINGER: Duration = Duration::from_secs(1);

/// How much a refused peer may still send meanwhile
const LINGER_OCTETS: usize = 64 * 1024;

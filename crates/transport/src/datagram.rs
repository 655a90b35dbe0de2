//! Datagrams: single packets to one host or to a multicast group, over udp.
//!
//! Nothing here waits for an answer or knows whether anybody listens: a datagram may be lost, doubled or overtaken, and
//! nobody learns of it. What of a datagram means what is decided above.

use std::io::{self, IoSliceMut};
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::net::{RecvAncillaryBuffer, RecvFlags, ReturnFlags, recvmsg};
use socket2::{SockRef, Socket};
use tokio::io::Interest;
use tokio::net::UdpSocket;

use crate::datagram_error::{DatagramError, shown};
use crate::datagram_options::DatagramOptions;
use crate::endpoint::{Endpoint, Host, UdpEndpoint};
use crate::multicast::{Link, group_of, only_what_it_joined};
use crate::resolve;
use crate::socket::{self, SocketError};
use crate::stream::plain;

/// Packets to, or from, a udp endpoint
///
/// Several tasks may send and receive at the same time.
#[derive(Debug)]
pub struct Datagrams {
    socket: UdpSocket,
    endpoint: UdpEndpoint,
    connected: bool,
    /// The most that a datagram of its IP version can have
    most: usize,
    /// Headers in front of each, if it must fit one packet
    unfragmented: Option<usize>,
    refusals: AtomicU64,
}

impl Datagrams {
    /// Receives what is sent to `endpoint`: an address of this machine, or a multicast group, which is joined
    ///
    /// A group is joined on the endpoint's interface, or on the one the system prefers. Several programs may receive it
    /// side by side, and each gets what is sent to that group and port alone; on Linux only if it comes by that
    /// interface. An interface in front of the host `*` stands for the address of that interface.
    ///
    /// Must be called on a tokio runtime with its I/O driver on.
    ///
    /// # Errors
    /// See [`DatagramError`].
    ///
    /// # Cancel safety
    /// Dropping the future leaves nothing behind.
    pub async fn bind(endpoint: &UdpEndpoint, options: &DatagramOptions) -> Result<Self, DatagramError> {
        Endpoint::Udp(endpoint.clone()).for_bind()?;
        if let Some(group) = group_of(endpoint) {
            return Self::bind_group(endpoint, group, options);
        }
        let host = match (endpoint.interface.as_deref(), &endpoint.host) {
            (Some(interface), Host::Any) => interface,
            (None | Some(Host::Any), host) => host,
            (Some(interface), _) => {
                let why = "only a group or * is received through an interface; leave out what stands before the ';'";
                return Err(unusable(interface)(io::Error::new(io::ErrorKind::InvalidInput, why)));
            }
        };
        let addresses = resolve::local_addresses(host, endpoint.port.number(), options.ipv6).await;
        let addresses = addresses.map_err(|source| DatagramError::Resolve { host: host.to_string(), source })?;
        first_of(endpoint, addresses, |address| {
            let socket = socket::udp(address, options)?;
            if address.is_ipv6() {
                // Both families on one socket only if the ipv6 option says so, whatever the system's default is
                socket.set_only_v6(!(*host == Host::Any && options.ipv6)).map_err(SocketError::System)?;
            }
            socket.bind(&address.into()).map_err(SocketError::System)?;
            let socket = UdpSocket::from_std(socket.into()).map_err(SocketError::System)?;
            let mut bound = UdpEndpoint::from(socket.local_addr().map_err(SocketError::System)?);
            if let Host::Scoped { .. } = host {
                // With the zone as it was written, rather than its number
                bound.host = host.clone();
            }
            Ok(Self::new(socket, bound, false, address.ip(), options))
        })
    }

    fn bind_group(endpoint: &UdpEndpoint, group: IpAddr, options: &DatagramOptions) -> Result<Self, DatagramError> {
        let link = Link::of(endpoint, group).map_err(unusable_for(endpoint))?;
        let address = link.address(group, endpoint.port);
        let open = || {
            let socket = socket::udp(address, options)?;
            set_shared(&socket).map_err(SocketError::System)?;
            only_what_it_joined(&socket, group).map_err(SocketError::System)?;
            // To the group itself, so that nothing else that is sent to the port arrives
            socket.bind(&address.into()).map_err(SocketError::System)?;
            let socket = UdpSocket::from_std(socket.into()).map_err(SocketError::System)?;
            let port = UdpEndpoint::from(socket.local_addr().map_err(SocketError::System)?).port;
            Ok((socket, port))
        };
        let (socket, port) = open().map_err(|error| DatagramError::opening(endpoint, error))?;
        link.join(&SockRef::from(&socket), group).map_err(unusable_for(endpoint))?;
        let bound = UdpEndpoint { port, ..endpoint.clone() };
        Ok(Self::new(socket, bound, false, group, options))
    }

    /// Sends to `endpoint`: a host, or a multicast group, through the endpoint's interface if it has one
    ///
    /// Nothing is sent yet, and nobody need be there. Of the addresses of a name the first that the system knows a way
    /// to is taken. Must be called on a tokio runtime with its I/O driver on.
    ///
    /// # Errors
    /// See [`DatagramError`].
    ///
    /// # Cancel safety
    /// Dropping the future leaves nothing behind.
    pub async fn connect(endpoint: &UdpEndpoint, options: &DatagramOptions) -> Result<Self, DatagramError> {
        Endpoint::Udp(endpoint.clone()).for_connect()?;
        if let Some(group) = group_of(endpoint) {
            let link = Link::of(endpoint, group).map_err(unusable_for(endpoint))?;
            let address = link.address(group, endpoint.port);
            let socket = socket::udp(address, options).map_err(|error| DatagramError::opening(endpoint, error))?;
            link.send_through(&socket).map_err(unusable_for(endpoint))?;
            let socket = connected(socket, address).map_err(|error| DatagramError::opening(endpoint, error))?;
            return Ok(Self::new(socket, endpoint.clone(), true, group, options));
        }
        let addresses = resolve::remote_addresses(&endpoint.host, endpoint.port.number(), options.ipv6).await;
        let addresses =
            addresses.map_err(|source| DatagramError::Resolve { host: endpoint.host.to_string(), source })?;
        let sources = match endpoint.interface.as_deref() {
            None | Some(Host::Any) => None,
            Some(interface) => {
                let ipv6 = addresses.iter().any(SocketAddr::is_ipv6);
                Some(resolve::source_addresses(interface, 0, ipv6).await.map_err(unusable_for(endpoint))?)
            }
        };
        first_of(endpoint, addresses, |address| {
            let socket = socket::udp(address, options)?;
            if let Some(sources) = &sources {
                let Some(from) = sources.iter().find(|from| from.is_ipv6() == address.is_ipv6()) else {
                    let why = "the interface has no address of the destination's IP version";
                    return Err(SocketError::System(io::Error::other(why)));
                };
                socket.bind(&(*from).into()).map_err(|error| {
                    SocketError::System(io::Error::other(format!("can't leave from {from}: {error}")))
                })?;
            }
            Ok(Self::new(connected(socket, address)?, endpoint.clone(), true, address.ip(), options))
        })
    }

    fn new(
        socket: UdpSocket,
        endpoint: UdpEndpoint,
        connected: bool,
        address: IpAddr,
        options: &DatagramOptions,
    ) -> Self {
        let (most, headers) = match address {
            IpAddr::V4(_) => (MOST_IPV4, HEADERS_IPV4),
            IpAddr::V6(_) => (MOST_IPV6, HEADERS_IPV6),
        };
        let unfragmented = (connected && !options.fragment).then_some(headers);
        Self { socket, endpoint, connected, most, unfragmented, refusals: AtomicU64::new(0) }
    }

    /// Where it receives, with the real address and port, or where it sends to
    pub fn endpoint(&self) -> &UdpEndpoint {
        &self.endpoint
    }

    /// Octets of the largest datagram that can be sent now: 65,507 over IPv4, 65,527 over IPv6
    ///
    /// Larger than the packets of the path (mostly 1,500 octets with 28 or 48 of headers) they travel in fragments, of
    /// which all must arrive. Where [fragments are not wanted](DatagramOptions::fragment) it is what fits one packet,
    /// as far as the system knows the path: that shrinks when a router says so.
    pub fn max_payload(&self) -> usize {
        match self.unfragmented {
            None => self.most,
            Some(headers) => self.packet().map_or(self.most, |packet| packet.saturating_sub(headers).min(self.most)),
        }
    }

    /// How often the host said that nobody receives there
    pub fn refusals(&self) -> u64 {
        self.refusals.load(Ordering::Relaxed)
    }

    /// Sends one datagram, which may be empty, waiting for room in the system's buffer
    ///
    /// Success says that it left, not that it arrived. That nobody received an earlier one is counted in
    /// [`refusals`](Self::refusals), and is no error of this one.
    ///
    /// # Errors
    /// [`DatagramError::TooLarge`], `NoDestination` or `System`. Nothing was sent then, and the next datagram may go
    /// through.
    ///
    /// # Cancel safety
    /// Safe: it was sent, whole, or not at all.
    pub async fn send(&self, payload: &[u8]) -> Result<(), DatagramError> {
        self.check(payload)?;
        let mut outcome = self.socket.send(payload).await;
        for _ in 0..REPORTS {
            if !self.is_about_an_earlier_one(&outcome) {
                break;
            }
            outcome = self.socket.send(payload).await;
        }
        self.sent(payload, outcome)
    }

    /// Receives one datagram into `into`, and says how many octets it has, perhaps none, and who sent it
    ///
    /// Give it [`LARGEST`](Self::LARGEST) octets, and nothing is ever lost for lack of room.
    ///
    /// # Errors
    /// [`DatagramError::Truncated`] if it had more than there was room for, or [`DatagramError::System`]; those of
    /// single packets pass by themselves.
    ///
    /// # Cancel safety
    /// Safe: a datagram is taken only when this completes. Each goes to one of those that wait.
    pub async fn recv_from(&self, into: &mut [u8]) -> Result<(usize, SocketAddr), DatagramError> {
        loop {
            match self.socket.async_io(Interest::READABLE, || self.receive(into)).await {
                Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
                    self.refusals.fetch_add(1, Ordering::Relaxed);
                }
                Err(error) => return Err(DatagramError::of(&self.endpoint, error)),
                Ok(Received { octets, from, whole: true }) => return Ok((octets, from)),
                Ok(Received { octets, from, whole: false }) => {
                    return Err(DatagramError::Truncated {
                        from,
                        octets: octets.max(into.len() + 1),
                        room: into.len(),
                    });
                }
            }
        }
    }

    /// Octets of the largest datagram that can arrive
    pub const LARGEST: usize = 65_535;

    fn receive(&self, into: &mut [u8]) -> io::Result<Received> {
        // On Linux the answer is then the datagram's own length, whatever the room
        #[cfg(any(target_os = "linux", target_os = "android"))]
        let flags = RecvFlags::TRUNC;
        #[cfg(not(any(target_os = "linux", target_os = "android")))]
        let flags = RecvFlags::empty();
        let mut room = [IoSliceMut::new(into)];
        let message = recvmsg(&self.socket, &mut room, &mut RecvAncillaryBuffer::default(), flags)?;
        let from = message.address.and_then(|address| SocketAddr::try_from(address).ok());
        let from = from.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "a datagram without a sender"))?;
        let whole = !message.flags.contains(ReturnFlags::TRUNC);
        Ok(Received { octets: message.bytes, from: plain(from), whole })
    }

    fn check(&self, payload: &[u8]) -> Result<(), DatagramError> {
        if !self.connected {
            return Err(DatagramError::NoDestination { endpoint: shown(&self.endpoint) });
        }
        let (octets, most) = (payload.len(), self.max_payload());
        match octets > most {
            true => Err(DatagramError::TooLarge { octets, most }),
            false => Ok(()),
        }
    }

    /// Whether the system only passed on what became of another datagram, and this one has not been sent
    fn is_about_an_earlier_one(&self, outcome: &io::Result<usize>) -> bool {
        let refused = matches!(outcome, Err(error) if error.kind() == io::ErrorKind::ConnectionRefused);
        if refused {
            self.refusals.fetch_add(1, Ordering::Relaxed);
        }
        refused
    }

    fn sent(&self, payload: &[u8], outcome: io::Result<usize>) -> Result<(), DatagramError> {
        match outcome {
            Ok(_) => Ok(()),
            Err(error) if error.raw_os_error() == Some(rustix::io::Errno::MSGSIZE.raw_os_error()) => {
                // The system learned of a smaller packet since we asked, or knows a limit that it doesn't tell
                let octets = payload.len();
                Err(DatagramError::TooLarge { octets, most: self.max_payload().min(octets.saturating_sub(1)) })
            }
            Err(error) => Err(DatagramError::of(&self.endpoint, error)),
        }
    }

    /// The largest packet on the path, headers included, as far as the system knows (`IP_MTU`, `IPV6_MTU`)
    #[cfg(any(target_os = "linux", target_os = "android"))]
    fn packet(&self) -> Option<usize> {
        let packet = match self.most {
            MOST_IPV4 => rustix::net::sockopt::ip_mtu(&self.socket),
            _ => rustix::net::sockopt::ipv6_mtu(&self.socket),
        };
        usize::try_from(packet.ok()?).ok()
    }

    #[cfg(not(any(target_os = "linux", target_os = "android")))]
    fn packet(&self) -> Option<usize> {
        None
    }
}

#[cfg(unix)]
impl std::os::fd::AsFd for Datagrams {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

struct Received {
    octets: usize,
    from: SocketAddr,
    whole: bool,
}

/// What the first address yields that `open` succeeds for, or the last error
fn first_of<T>(
    endpoint: &UdpEndpoint,
    addresses: Vec<SocketAddr>,
    open: impl Fn(SocketAddr) -> Result<T, SocketError>,
) -> Result<T, DatagramError> {
    let mut failed = SocketError::System(io::ErrorKind::AddrNotAvailable.into());
    for address in addresses {
        match open(address) {
            Ok(opened) => return Ok(opened),
            Err(error) => failed = error,
        }
    }
    Err(DatagramError::opening(endpoint, failed))
}

/// Sends nothing: the system notes the address and looks for a way, and tells when the host says that nobody is there
fn connected(socket: Socket, address: SocketAddr) -> Result<UdpSocket, SocketError> {
    socket.connect(&address.into()).map_err(SocketError::System)?;
    UdpSocket::from_std(socket.into()).map_err(SocketError::System)
}

/// Everybody in the group gets every packet
fn set_shared(socket: &Socket) -> io::Result<()> {
    socket.set_reuse_address(true)?;
    // Where SO_REUSEADDR alone does not let two members in
    #[cfg(all(unix, not(any(target_os = "linux", target_os = "android"))))]
    socket.set_reuse_port(true)?;
    Ok(())
}

fn unusable(interface: &Host) -> impl FnOnce(io::Error) -> DatagramError {
    let interface = interface.to_string();
    move |source| DatagramError::Interface { interface, source }
}

fn unusable_for(endpoint: &UdpEndpoint) -> impl FnOnce(io::Error) -> DatagramError {
    let interface = match (endpoint.interface.as_deref(), &endpoint.host) {
        (Some(interface), _) => interface.to_string(),
        (None, Host::Scoped { zone, .. }) => zone.clone(),
        (None, _) => "that the system would choose".to_owned(),
    };
    move |source| DatagramError::Interface { interface, source }
}

/// What is left of 65,535 octets behind the headers (RFC 768, RFC 791); an IPv6 packet's own header does not count
/// (RFC 8200, section 3)
const MOST_IPV4: usize = 65_535 - HEADERS_IPV4;
const MOST_IPV6: usize = 65_535 - 8;

/// Without IP options or extension headers, which nothing here sets
const HEADERS_IPV4: usize = 20 + 8;
const HEADERS_IPV6: usize = 40 + 8;

/// How many reports of earlier datagrams are read before one is given up; the system keeps one at a time
const REPORTS: usize = 3;

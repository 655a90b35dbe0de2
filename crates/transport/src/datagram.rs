//! Datagrams: single packets to one host or to a multicast group, over udp.
//!
//! Nothing here waits for an answer or knows whether anybody listens. What of a datagram means what is decided above.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering};

use socket2::{Domain, InterfaceIndexOrAddress, Protocol, Socket, Type};
use tokio::net::UdpSocket;

use crate::endpoint::{Endpoint, Host, UdpEndpoint};
use crate::endpoint_error::EndpointError;
use crate::interface;
use crate::resolve;
use crate::system_error::is_out_of_descriptors;

/// Packets to, or from, a udp endpoint
///
/// Several tasks may send and receive at the same time.
#[derive(Debug)]
pub struct Datagrams {
    socket: UdpSocket,
    endpoint: UdpEndpoint,
    most: usize,
    refusals: AtomicU64,
}

impl Datagrams {
    /// Receives what is sent to `endpoint`: an address of this machine, or a multicast group, which is joined
    ///
    /// A group is joined on the endpoint's interface, or on the one the system prefers, and several programs may receive
    /// it side by side. Must be called on a tokio runtime with its I/O driver on.
    ///
    /// # Errors
    /// See [`DatagramError`].
    ///
    /// # Cancel safety
    /// Dropping the future leaves nothing behind.
    pub async fn bind(endpoint: &UdpEndpoint, options: &DatagramOptions) -> Result<Self, DatagramError> {
        Endpoint::Udp(endpoint.clone()).for_bind()?;
        let ipv6 = options.ipv6 || matches!(endpoint.host, Host::Scoped { .. } | Host::Ip(IpAddr::V6(_)));
        let addresses = resolve::local_addresses(&endpoint.host, endpoint.port.number(), ipv6).await;
        let address = first(&endpoint.host, addresses)?;
        let system = |source| DatagramError::of(endpoint, source);
        let socket = open(address, options).map_err(system)?;
        if address.is_ipv6() {
            socket.set_only_v6(!(endpoint.host == Host::Any && options.ipv6)).map_err(system)?;
        }
        if endpoint.is_multicast() {
            // Everybody in the group gets every packet
            socket.set_reuse_address(true).map_err(system)?;
            socket.bind(&address.into()).map_err(system)?;
            join(&socket, address.ip(), endpoint)?;
        } else {
            socket.bind(&address.into()).map_err(system)?;
        }
        let socket = UdpSocket::from_std(socket.into()).map_err(system)?;
        let mut bound = UdpEndpoint::from(socket.local_addr().map_err(system)?);
        bound.interface.clone_from(&endpoint.interface);
        Ok(Self { socket, endpoint: bound, most: most_payload(address.ip()), refusals: AtomicU64::new(0) })
    }

    /// Sends to `endpoint`: a host, or a multicast group through the endpoint's interface
    ///
    /// Nothing is sent yet, and nobody need be there. Must be called on a tokio runtime with its I/O driver on.
    ///
    /// # Errors
    /// See [`DatagramError`].
    ///
    /// # Cancel safety
    /// Dropping the future leaves nothing behind.
    pub async fn connect(endpoint: &UdpEndpoint, options: &DatagramOptions) -> Result<Self, DatagramError> {
        Endpoint::Udp(endpoint.clone()).for_connect()?;
        let ipv6 = options.ipv6 || matches!(endpoint.host, Host::Scoped { .. } | Host::Ip(IpAddr::V6(_)));
        let addresses = resolve::remote_addresses(&endpoint.host, endpoint.port.number(), ipv6).await;
        let address = first(&endpoint.host, addresses)?;
        let system = |source| DatagramError::of(endpoint, source);
        let socket = open(address, options).map_err(system)?;
        if endpoint.is_multicast() {
            send_through(&socket, address.ip(), endpoint, options)?;
        } else if let Some(interface) = &endpoint.interface {
            let local = resolve::local_addresses(interface, 0, address.is_ipv6()).await.map_err(unusable(interface))?;
            let from = local.into_iter().find(|from| from.is_ipv4() == address.is_ipv4());
            let from = from.ok_or_else(|| unusable(interface)(io::ErrorKind::AddrNotAvailable.into()))?;
            socket.bind(&from.into()).map_err(unusable(interface))?;
        }
        // So that the system tells when the host says that nobody is there (ICMP)
        socket.connect(&address.into()).map_err(system)?;
        let socket = UdpSocket::from_std(socket.into()).map_err(system)?;
        Ok(Self { socket, endpoint: endpoint.clone(), most: most_payload(address.ip()), refusals: AtomicU64::new(0) })
    }

    /// Where it receives, with the real address and port, or where it sends to
    pub fn endpoint(&self) -> &UdpEndpoint {
        &self.endpoint
    }

    /// Octets of the largest datagram that can be sent: 65,507 over IPv4, 65,527 over IPv6
    ///
    /// Larger than the packets of the path (mostly 1,500 octets with 28 or 48 of headers) they travel in fragments, of
    /// which all must arrive.
    pub fn max_payload(&self) -> usize {
        self.most
    }

    /// How often the host said that nobody receives there
    pub fn refusals(&self) -> u64 {
        self.refusals.load(Ordering::Relaxed)
    }

    /// Sends one datagram, waiting for room in the system's buffer
    ///
    /// Success says that it left, not that it arrived.
    ///
    /// # Errors
    /// [`DatagramError::TooLarge`] before anything is sent, or [`DatagramError::System`].
    ///
    /// # Cancel safety
    /// Safe: it was sent, whole, or not at all.
    pub async fn send(&self, payload: &[u8]) -> Result<(), DatagramError> {
        self.check(payload)?;
        match self.socket.send(payload).await {
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
                // That was the answer to an earlier one, and this one has not been sent
                self.refusals.fetch_add(1, Ordering::Relaxed);
                self.sent(payload, self.socket.send(payload).await)
            }
            outcome => self.sent(payload, outcome),
        }
    }

    /// Receives one datagram into `into`, and says how many octets it has and who sent it
    ///
    /// Give it [`LARGEST`](Self::LARGEST) octets: of a longer datagram the rest would be lost.
    ///
    /// # Errors
    /// [`DatagramError::System`]; those of single packets pass by themselves.
    ///
    /// # Cancel safety
    /// Safe: a datagram is taken only when this completes.
    pub async fn recv_from(&self, into: &mut [u8]) -> Result<(usize, SocketAddr), DatagramError> {
        loop {
            match self.socket.recv_from(into).await {
                Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
                    self.refusals.fetch_add(1, Ordering::Relaxed);
                }
                Err(error) => return Err(DatagramError::of(&self.endpoint, error)),
                Ok(received) => return Ok(received),
            }
        }
    }

    /// Octets of the largest datagram that can arrive
    pub const LARGEST: usize = 65_535;

    fn check(&self, payload: &[u8]) -> Result<(), DatagramError> {
        match payload.len() > self.most {
            true => Err(DatagramError::TooLarge { octets: payload.len(), most: self.most }),
            false => Ok(()),
        }
    }

    fn sent(&self, payload: &[u8], outcome: io::Result<usize>) -> Result<(), DatagramError> {
        match outcome {
            Ok(_) => Ok(()),
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
                self.refusals.fetch_add(1, Ordering::Relaxed);
                Ok(())
            }
            Err(error) if error.raw_os_error() == Some(rustix::io::Errno::MSGSIZE.raw_os_error()) => {
                Err(DatagramError::TooLarge { octets: payload.len(), most: payload.len().saturating_sub(1) })
            }
            Err(error) => Err(DatagramError::of(&self.endpoint, error)),
        }
    }
}

/// How datagrams are sent and received; setters chain
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DatagramOptions {
    multicast_hops: u8,
    multicast_loop: bool,
    ipv6: bool,
    tos: u32,
    send_buffer: Option<usize>,
    receive_buffer: Option<usize>,
}

impl Default for DatagramOptions {
    fn default() -> Self {
        Self { multicast_hops: 1, multicast_loop: true, ipv6: false, tos: 0, send_buffer: None, receive_buffer: None }
    }
}

impl DatagramOptions {
    /// How many routers a packet to a group may pass (`IP_MULTICAST_TTL`); default 1, the network we are on
    #[must_use]
    pub fn multicast_hops(mut self, hops: u8) -> Self {
        self.multicast_hops = hops;
        self
    }

    /// Whether members of the group on this machine get our packets too (`IP_MULTICAST_LOOP`); default true
    #[must_use]
    pub fn multicast_loop(mut self, on: bool) -> Self {
        self.multicast_loop = on;
        self
    }

    /// Whether names may stand for IPv6 addresses, and `*` for both families; default false
    #[must_use]
    pub fn ipv6(mut self, on: bool) -> Self {
        self.ipv6 = on;
        self
    }

    /// The type-of-service octet of outgoing packets (`IP_TOS`, `IPV6_TCLASS`), 0 to 255; default 0, the system's
    #[must_use]
    pub fn tos(mut self, tos: u32) -> Self {
        self.tos = tos;
        self
    }

    /// The system's buffer for what is to be sent, in octets (`SO_SNDBUF`); default `None`, the system's own
    #[must_use]
    pub fn send_buffer(mut self, octets: Option<usize>) -> Self {
        self.send_buffer = octets;
        self
    }

    /// The system's buffer for what has arrived, in octets (`SO_RCVBUF`); default `None`, the system's own
    ///
    /// What finds it full is dropped by the system.
    #[must_use]
    pub fn receive_buffer(mut self, octets: Option<usize>) -> Self {
        self.receive_buffer = octets;
        self
    }
}

/// Why datagrams can't be sent or received
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DatagramError {
    /// The endpoint can't be used so; write another
    #[error(transparent)]
    Endpoint(#[from] EndpointError),
    /// The host has no usable address, for now
    #[error("can't resolve {host}: {source}; check its spelling and the name server")]
    Resolve {
        /// The host as the endpoint names it
        host: String,
        /// What the resolver said
        source: io::Error,
    },
    /// The interface can't be used for this; name another in front of the `;`
    #[error("can't use the interface {interface}: {source}; interfaces here: {}", interface::names().join(", "))]
    Interface {
        /// The interface as the endpoint names it
        interface: String,
        /// What the system said
        source: io::Error,
    },
    /// The datagram is larger than any that can be sent there; split it, or use tcp
    #[error("a datagram of {octets} octets is larger than the {most} that can be sent there; split it or use tcp")]
    TooLarge {
        /// Octets of the datagram
        octets: usize,
        /// The most that can be sent
        most: usize,
    },
    /// The system refused
    #[error("udp to or from {endpoint}: {source}")]
    System {
        /// The endpoint in its canonical form
        endpoint: String,
        /// What the system said
        source: io::Error,
    },
    /// No descriptor or memory was left; close some connections or raise the limit
    #[error("no descriptor is left for datagrams: {0}; close some or raise the limit (ulimit -n)")]
    OutOfDescriptors(#[source] io::Error),
}

impl DatagramError {
    fn of(endpoint: &UdpEndpoint, source: io::Error) -> Self {
        match is_out_of_descriptors(&source) {
            true => Self::OutOfDescriptors(source),
            false => Self::System { endpoint: format!("udp://{endpoint}"), source },
        }
    }
}

fn first(host: &Host, addresses: io::Result<Vec<SocketAddr>>) -> Result<SocketAddr, DatagramError> {
    let resolve = |source| DatagramError::Resolve { host: host.to_string(), source };
    let addresses = addresses.map_err(resolve)?;
    addresses.into_iter().next().ok_or_else(|| resolve(io::ErrorKind::AddrNotAvailable.into()))
}

fn unusable(interface: &Host) -> impl Fn(io::Error) -> DatagramError {
    let interface = interface.to_string();
    move |source| DatagramError::Interface { interface: interface.clone(), source }
}

fn open(address: SocketAddr, options: &DatagramOptions) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
    socket.set_nonblocking(true)?;
    if let Some(octets) = options.send_buffer {
        socket.set_send_buffer_size(octets)?;
    }
    if let Some(octets) = options.receive_buffer {
        socket.set_recv_buffer_size(octets)?;
    }
    if options.tos != 0 {
        match address {
            SocketAddr::V4(_) => socket.set_tos_v4(options.tos)?,
            SocketAddr::V6(_) => socket.set_tclass_v6(options.tos)?,
        }
    }
    Ok(socket)
}

/// Joins a group on the endpoint's interface (RFC 1112; RFC 3493, section 5.2)
fn join(socket: &Socket, group: IpAddr, endpoint: &UdpEndpoint) -> Result<(), DatagramError> {
    let joined = match group {
        IpAddr::V4(group) => interface_v4(endpoint).and_then(|on| socket.join_multicast_v4_n(&group, &on)),
        IpAddr::V6(group) => interface_v6(endpoint).and_then(|on| socket.join_multicast_v6(&group, on)),
    };
    joined.map_err(|source| match &endpoint.interface {
        Some(interface) => unusable(interface)(source),
        None => DatagramError::of(endpoint, source),
    })
}

/// Has packets to a group leave through the endpoint's interface
fn send_through(
    socket: &Socket,
    group: IpAddr,
    endpoint: &UdpEndpoint,
    options: &DatagramOptions,
) -> Result<(), DatagramError> {
    let chosen = match group {
        IpAddr::V4(_) => {
            let chosen = match &endpoint.interface {
                None => Ok(()),
                Some(_) => address_v4(endpoint).and_then(|address| socket.set_multicast_if_v4(&address)),
            };
            chosen
                .and_then(|()| socket.set_multicast_ttl_v4(options.multicast_hops.into()))
                .and_then(|()| socket.set_multicast_loop_v4(options.multicast_loop))
        }
        IpAddr::V6(_) => interface_v6(endpoint)
            .and_then(|index| if index == 0 { Ok(()) } else { socket.set_multicast_if_v6(index) })
            .and_then(|()| socket.set_multicast_hops_v6(options.multicast_hops.into()))
            .and_then(|()| socket.set_multicast_loop_v6(options.multicast_loop)),
    };
    chosen.map_err(|source| match &endpoint.interface {
        Some(interface) => unusable(interface)(source),
        None => DatagramError::of(endpoint, source),
    })
}

fn interface_v4(endpoint: &UdpEndpoint) -> io::Result<InterfaceIndexOrAddress> {
    match endpoint.interface.as_deref() {
        None => Ok(InterfaceIndexOrAddress::Address(Ipv4Addr::UNSPECIFIED)),
        Some(Host::Name(name)) => interface::index(name).map(InterfaceIndexOrAddress::Index),
        Some(_) => address_v4(endpoint).map(InterfaceIndexOrAddress::Address),
    }
}

fn address_v4(endpoint: &UdpEndpoint) -> io::Result<Ipv4Addr> {
    let none = || io::Error::new(io::ErrorKind::AddrNotAvailable, "it has no IPv4 address");
    match endpoint.interface.as_deref() {
        None | Some(Host::Any) => Ok(Ipv4Addr::UNSPECIFIED),
        Some(Host::Ip(IpAddr::V4(address))) => Ok(*address),
        Some(Host::Name(name)) => {
            let addresses = interface::addresses(name, 0, false)?.ok_or_else(none)?;
            addresses
                .iter()
                .find_map(|address| match address.ip() {
                    IpAddr::V4(address) => Some(address),
                    IpAddr::V6(_) => None,
                })
                .ok_or_else(none)
        }
        Some(_) => Err(none()),
    }
}

/// The number of the endpoint's interface; 0 leaves the choice to the system
fn interface_v6(endpoint: &UdpEndpoint) -> io::Result<u32> {
    let zone = |host: &Host| match host {
        Host::Scoped { zone, .. } => interface::index(zone),
        Host::Name(name) => interface::index(name),
        Host::Any => Ok(0),
        Host::Ip(_) => Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "name the interface of an IPv6 group, as in eth0;[ff02::1]",
        )),
    };
    match (&endpoint.interface, &endpoint.host) {
        (Some(interface), _) => zone(interface),
        (None, host @ Host::Scoped { .. }) => zone(host),
        (None, _) => Ok(0),
    }
}

/// What is left of an IP packet of 65,535 octets behind the headers; an IPv6 packet's own header does not count
fn most_payload(address: IpAddr) -> usize {
    match address {
        IpAddr::V4(_) => 65_535 - 20 - 8,
        IpAddr::V6(_) => 65_535 - 8,
    }
}

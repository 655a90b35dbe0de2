//! The settings of a datagram socket.

/// How datagrams are sent and received, for [`Datagrams`](crate::Datagrams)
///
/// Each setter takes and returns the options, so that they chain.
///
/// ```
/// # use tidings_transport::DatagramOptions;
/// let options = DatagramOptions::default().multicast_hops(4).multicast_loop(false);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DatagramOptions {
    pub(crate) multicast_hops: u8,
    pub(crate) multicast_loop: bool,
    pub(crate) fragment: bool,
    pub(crate) tos: u32,
    pub(crate) send_buffer: Option<usize>,
    pub(crate) receive_buffer: Option<usize>,
    pub(crate) ipv6: bool,
    pub(crate) bind_to_device: Option<String>,
}

impl DatagramOptions {
    /// Over how many routers a multicast datagram may go, plus one (`IP_MULTICAST_TTL`, `IPV6_MULTICAST_HOPS`)
    ///
    /// Default: 1, as libzmq's: it stays on the link. 0 keeps it on this machine. No effect on datagrams to one host.
    #[must_use]
    pub fn multicast_hops(mut self, hops: u8) -> Self {
        self.multicast_hops = hops;
        self
    }

    /// Whether multicast datagrams also reach the members on this machine (`IP_MULTICAST_LOOP`, `IPV6_MULTICAST_LOOP`)
    ///
    /// Default: true, as libzmq's. On Linux it is the sender's setting that counts.
    #[must_use]
    pub fn multicast_loop(mut self, on: bool) -> Self {
        self.multicast_loop = on;
        self
    }

    /// Whether a datagram larger than the path's packets may be sent in pieces, which the receiving system joins
    ///
    /// Default: true, as the system's: a datagram may then have up to 65,507 octets over IPv4 and 65,527 over IPv6, and
    /// is lost if one of its pieces is. When false (`IP_PMTUDISC_DO`, Linux only), what is larger than the smallest
    /// packet known on the path is refused before it is sent. Elsewhere false is an error when the socket is made.
    #[must_use]
    pub fn fragment(mut self, on: bool) -> Self {
        self.fragment = on;
        self
    }

    /// The type-of-service octet of outgoing packets (`IP_TOS`, and `IPV6_TCLASS` on IPv6), 0 to 255
    ///
    /// Default: 0, which leaves the system's. Routers may honour it or not.
    #[must_use]
    pub fn tos(mut self, tos: u32) -> Self {
        self.tos = tos;
        self
    }

    /// The kernel's send buffer, in octets (`SO_SNDBUF`)
    ///
    /// Default: `None`, the system's (Linux: `net.core.wmem_default`). Linux doubles the figure for its own
    /// book-keeping and caps it at `net.core.wmem_max`.
    #[must_use]
    pub fn send_buffer(mut self, octets: Option<usize>) -> Self {
        self.send_buffer = octets;
        self
    }

    /// The kernel's receive buffer, in octets (`SO_RCVBUF`)
    ///
    /// Default: `None`, the system's (Linux: `net.core.rmem_default`). Datagrams that come while it is full are lost.
    #[must_use]
    pub fn receive_buffer(mut self, octets: Option<usize>) -> Self {
        self.receive_buffer = octets;
        self
    }

    /// Whether names stand for IPv6 addresses too, and `*` for both families
    ///
    /// Default: false, as libzmq's. An address written as IPv6 always works.
    #[must_use]
    pub fn ipv6(mut self, on: bool) -> Self {
        self.ipv6 = on;
        self
    }

    /// The one interface that packets enter and leave by (`SO_BINDTODEVICE`); Linux only
    ///
    /// Default: `None`, any. The interface of a multicast group is rather named in the endpoint. Elsewhere setting it
    /// is an error when the socket is made.
    #[must_use]
    pub fn bind_to_device(mut self, interface: Option<String>) -> Self {
        self.bind_to_device = interface;
        self
    }
}

impl Default for DatagramOptions {
    fn default() -> Self {
        Self {
            multicast_hops: 1,
            multicast_loop: true,
            fragment: true,
            tos: 0,
            send_buffer: None,
            receive_buffer: None,
            ipv6: false,
            bind_to_device: None,
        }
    }
}

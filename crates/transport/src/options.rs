//! The settings of the byte stream beneath a connection.

use std::sync::Arc;
use std::time::Duration;

use crate::tls::TlsSettings;

/// How streams are opened, for [`dial`](crate::dial) and [`listen`](crate::listen)
///
/// Each setter takes and returns the options, so that they chain. What an option says of tcp has no effect on ipc;
/// buffers, backlog and the connect timeout apply to both. `TCP_NODELAY` is always set: a message is sent when it is
/// ready, and gathering small ones is done above.
///
/// ```
/// # use std::time::Duration;
/// # use tidings_transport::StreamOptions;
/// let options = StreamOptions::default().keepalive(Some(true)).keepalive_idle(Some(Duration::from_secs(60)));
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamOptions {
    pub(crate) keepalive: Option<bool>,
    pub(crate) keepalive_idle: Option<Duration>,
    pub(crate) keepalive_interval: Option<Duration>,
    pub(crate) keepalive_count: Option<u32>,
    pub(crate) tos: u32,
    pub(crate) send_buffer: Option<usize>,
    pub(crate) receive_buffer: Option<usize>,
    pub(crate) backlog: u32,
    pub(crate) ipv6: bool,
    pub(crate) bind_to_device: Option<String>,
    pub(crate) connect_timeout: Option<Duration>,
    pub(crate) max_retransmit: Option<Duration>,
    pub(crate) tls: Option<Arc<TlsSettings>>,
}

impl StreamOptions {
    /// Whether the system probes an idle tcp peer (`SO_KEEPALIVE`)
    ///
    /// Default: `None`, the system's own setting (off, unless changed). Finds peers that vanished without a word, at
    /// the cost of an empty packet per idle interval. ZMTP heartbeats find them sooner, and a peer that hangs too.
    pub fn keepalive(mut self, on: Option<bool>) -> Self {
        self.keepalive = on;
        self
    }

    /// How long a tcp peer is silent before the first probe (`TCP_KEEPIDLE`), in whole seconds
    ///
    /// Default: `None`, the system's (Linux: 2 hours). No effect unless [`keepalive`](Self::keepalive) is on.
    pub fn keepalive_idle(mut self, idle: Option<Duration>) -> Self {
        self.keepalive_idle = idle;
        self
    }

    /// The time between probes that go unanswered (`TCP_KEEPINTVL`), in whole seconds
    ///
    /// Default: `None`, the system's (Linux: 75 s). No effect unless [`keepalive`](Self::keepalive) is on.
    pub fn keepalive_interval(mut self, interval: Option<Duration>) -> Self {
        self.keepalive_interval = interval;
        self
    }

    /// How many unanswered probes end the connection (`TCP_KEEPCNT`)
    ///
    /// Default: `None`, the system's (Linux: 9). No effect unless [`keepalive`](Self::keepalive) is on.
    pub fn keepalive_count(mut self, count: Option<u32>) -> Self {
        self.keepalive_count = count;
        self
    }

    /// The type-of-service octet of outgoing packets (`IP_TOS`, and `IPV6_TCLASS` on IPv6), 0 to 255
    ///
    /// Default: 0, which leaves the system's. Routers may honour it or not.
    pub fn tos(mut self, tos: u32) -> Self {
        self.tos = tos;
        self
    }

    /// The kernel's send buffer, in octets (`SO_SNDBUF`)
    ///
    /// Default: `None`, the system's, which for tcp grows and shrinks by need; setting it turns that off. Linux doubles
    /// the figure for its own book-keeping and caps it at `net.core.wmem_max`.
    pub fn send_buffer(mut self, octets: Option<usize>) -> Self {
        self.send_buffer = octets;
        self
    }

    /// The kernel's receive buffer, in octets (`SO_RCVBUF`)
    ///
    /// Default: `None`, the system's, which for tcp grows and shrinks by need; setting it turns that off. Linux doubles
    /// the figure for its own book-keeping and caps it at `net.core.rmem_max`.
    pub fn receive_buffer(mut self, octets: Option<usize>) -> Self {
        self.receive_buffer = octets;
        self
    }

    /// How many connections may wait to be accepted
    ///
    /// Default: 100, as libzmq's. The system caps it (Linux: `net.core.somaxconn`). What comes when all places are
    /// taken tries again by itself over tcp, and is told so over ipc.
    pub fn backlog(mut self, connections: u32) -> Self {
        self.backlog = connections;
        self
    }

    /// Whether names stand for IPv6 addresses too, and `*` for both families
    ///
    /// Default: false, as libzmq's: names resolve to IPv4 addresses alone, and `*` is `0.0.0.0`. When true, `*` is
    /// `[::]` and takes IPv4 as well. An address written as IPv6 always works.
    pub fn ipv6(mut self, on: bool) -> Self {
        self.ipv6 = on;
        self
    }

    /// The one interface that tcp packets enter and leave by (`SO_BINDTODEVICE`); Linux only
    ///
    /// Default: `None`, any. Unlike an interface's name in an endpoint this holds when its addresses change, and needs
    /// `CAP_NET_RAW` before Linux 5.7. Elsewhere setting it is an error when dialling or listening.
    pub fn bind_to_device(mut self, interface: Option<String>) -> Self {
        self.bind_to_device = interface;
        self
    }

    /// How long one [`dial`](crate::dial) may take, resolving included
    ///
    /// Default: `None`, the system's patience (Linux: about two minutes for each silent address).
    pub fn connect_timeout(mut self, timeout: Option<Duration>) -> Self {
        self.connect_timeout = timeout;
        self
    }

    /// How long sent octets may go unacknowledged before the connection ends (`TCP_USER_TIMEOUT`), in milliseconds;
    /// the option that ZeroMQ calls `TCP_MAXRT`; Linux only
    ///
    /// Default: `None`, the system's (Linux: about 15 minutes). Elsewhere setting it is an error when dialling or
    /// listening.
    pub fn max_retransmit(mut self, timeout: Option<Duration>) -> Self {
        self.max_retransmit = timeout;
        self
    }

    /// What tls endpoints go by, over tcp and over local sockets: [`TlsSettings::client`] for
    /// [`dial`](crate::dial), [`TlsSettings::server`] for [`listen`](crate::listen)
    ///
    /// Default: `None`, with which a tls endpoint can be neither dialled nor listened on. No effect on others.
    pub fn tls(mut self, settings: Option<Arc<TlsSettings>>) -> Self {
        self.tls = settings;
        self
    }
}

impl Default for StreamOptions {
    fn default() -> Self {
        Self {
            keepalive: None,
            keepalive_idle: None,
            keepalive_interval: None,
            keepalive_count: None,
            tos: 0,
            send_buffer: None,
            receive_buffer: None,
            backlog: 100,
            ipv6: false,
            bind_to_device: None,
            connect_timeout: None,
            max_retransmit: None,
            tls: None,
        }
    }
}

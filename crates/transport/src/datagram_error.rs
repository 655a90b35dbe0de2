//! Why datagrams can't be sent or received.

use std::io;
use std::net::SocketAddr;

use crate::endpoint::UdpEndpoint;
use crate::endpoint_error::EndpointError;
use crate::interface;
use crate::socket::SocketError;
use crate::system_error::is_out_of_descriptors;

/// Why datagrams can't be sent or received
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DatagramError {
    /// The endpoint can't be used so; write another
    #[error(transparent)]
    Endpoint(#[from] EndpointError),

    /// The system refused an option; change or leave it out
    #[error("the system refused the option {option}: {source}; change it or leave it out")]
    Option {
        /// The option of [`DatagramOptions`](crate::DatagramOptions)
        option: &'static str,
        /// What the system said
        source: io::Error,
    },

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
        /// What the system said, or why it does not fit
        source: io::Error,
    },

    /// Somebody receives there already; only a group can have several receivers on one machine
    #[error("another process receives at {endpoint}, or this one does; stop it or choose another endpoint")]
    InUse {
        /// The endpoint in its canonical form
        endpoint: String,
    },

    /// The address belongs to no interface of this machine
    #[error("{endpoint} is not an address of this machine; use one that is, or * to receive on all interfaces")]
    NotLocal {
        /// The endpoint in its canonical form
        endpoint: String,
    },

    /// The datagram is larger than any that can be sent there; split it, or use tcp. Nothing was sent
    #[error("a datagram of {octets} octets is larger than the {most} that can be sent there; split it or use tcp")]
    TooLarge {
        /// Octets of the datagram
        octets: usize,
        /// The most that can be sent
        most: usize,
    },

    /// A datagram arrived that the buffer was too short for, and is lost; the next may fit
    #[error("a datagram of {octets} octets from {from} is lost: there was room for {room}")]
    Truncated {
        /// Who sent it
        from: SocketAddr,
        /// Octets of the datagram; where the system doesn't tell, one more than there was room for
        octets: usize,
        /// Octets of the buffer
        room: usize,
    },

    /// It was bound, so there is nobody to send to; connect another
    #[error("{endpoint} only receives datagrams; connect to a destination to send some")]
    NoDestination {
        /// The endpoint in its canonical form
        endpoint: String,
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
    /// While datagrams go to and fro
    pub(crate) fn of(endpoint: &UdpEndpoint, source: io::Error) -> Self {
        match is_out_of_descriptors(&source) {
            true => Self::OutOfDescriptors(source),
            false => Self::System { endpoint: shown(endpoint), source },
        }
    }

    /// While a socket is made
    pub(crate) fn opening(endpoint: &UdpEndpoint, error: SocketError) -> Self {
        match error {
            SocketError::Option { option, source } => Self::Option { option, source },
            SocketError::System(source) => match source.kind() {
                io::ErrorKind::AddrInUse => Self::InUse { endpoint: shown(endpoint) },
                io::ErrorKind::AddrNotAvailable => Self::NotLocal { endpoint: shown(endpoint) },
                _ => Self::of(endpoint, source),
            },
        }
    }
}

pub(crate) fn shown(endpoint: &UdpEndpoint) -> String {
    format!("udp://{endpoint}")
}

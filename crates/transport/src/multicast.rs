//! The interface that a multicast group is joined on, or sent to through.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV6};

use socket2::{InterfaceIndexOrAddress, Socket};

use crate::endpoint::{Host, Port, UdpEndpoint};
use crate::interface;

/// The group that an endpoint names, if it names one
pub(crate) fn group_of(endpoint: &UdpEndpoint) -> Option<IpAddr> {
    let address = match endpoint.host {
        Host::Ip(address) => address.to_canonical(),
        Host::Scoped { address, .. } => address.into(),
        Host::Any | Host::Name(_) => return None,
    };
    address.is_multicast().then_some(address)
}

/// A link of this machine, as the calls for one IP version name it
#[derive(Clone, Copy, Debug)]
pub(crate) enum Link {
    /// IPv4 takes an address for either call, and for joining the more exact number too
    V4 { index: Option<u32>, address: Option<Ipv4Addr> },
    /// 0 for the system's choice
    V6 { index: u32 },
}

impl Link {
    /// The link to reach `group` by, as the endpoint says; the system's choice if it says nothing
    pub(crate) fn of(endpoint: &UdpEndpoint, group: IpAddr) -> io::Result<Self> {
        let interface = endpoint.interface.as_deref().filter(|interface| **interface != Host::Any);
        match group {
            IpAddr::V4(_) => match interface {
                None => Ok(Self::V4 { index: None, address: None }),
                // The system finds the interface by any address it answers to, 127.0.0.9 included
                Some(Host::Ip(IpAddr::V4(address))) => Ok(Self::V4 { index: None, address: Some(*address) }),
                Some(Host::Name(name)) => {
                    let index = interface::index(name)?;
                    Ok(Self::V4 { index: Some(index), address: Some(ipv4_address(name)?) })
                }
                Some(_) => Err(unfit("its address is of the other IP version than the group")),
            },
            IpAddr::V6(_) => {
                let named = match interface {
                    None => None,
                    Some(Host::Name(name) | Host::Scoped { zone: name, .. }) => Some(interface::index(name)?),
                    Some(Host::Ip(address @ IpAddr::V6(_))) => match interface::index_of(*address)? {
                        Some(index) => Some(index),
                        None => return Err(unfit("no interface here has that address")),
                    },
                    Some(_) => return Err(unfit("its address is of the other IP version than the group")),
                };
                let zone = match &endpoint.host {
                    Host::Scoped { zone, .. } => Some(interface::index(zone)?),
                    _ => None,
                };
                match (named, zone) {
                    (Some(named), Some(zone)) if named != zone => {
                        Err(unfit("the group's own zone is another interface"))
                    }
                    (named, zone) => Ok(Self::V6 { index: named.or(zone).unwrap_or(0) }),
                }
            }
        }
    }

    /// The group's address on this link
    pub(crate) fn address(self, group: IpAddr, port: Port) -> SocketAddr {
        match (group, self) {
            (IpAddr::V6(group), Self::V6 { index }) => SocketAddrV6::new(group, port.number(), 0, index).into(),
            _ => SocketAddr::new(group, port.number()),
        }
    }

    /// Has the system hand over what comes for `group` on this link (RFC 1112; RFC 3493, section 5.2)
    pub(crate) fn join(self, socket: &Socket, group: IpAddr) -> io::Result<()> {
        match (group, self) {
            (IpAddr::V4(group), Self::V4 { index: Some(index), .. }) => {
                socket.join_multicast_v4_n(&group, &InterfaceIndexOrAddress::Index(index))
            }
            (IpAddr::V4(group), Self::V4 { address, .. }) => {
                let address = address.unwrap_or(Ipv4Addr::UNSPECIFIED);
                socket.join_multicast_v4_n(&group, &InterfaceIndexOrAddress::Address(address))
            }
            (IpAddr::V6(group), Self::V6 { index }) => socket.join_multicast_v6(&group, index),
            _ => Err(unfit("the interface and the group are of different IP versions")),
        }
    }

    /// Has what is sent to groups leave by this link
    pub(crate) fn send_through(self, socket: &Socket) -> io::Result<()> {
        match self {
            Self::V4 { address: Some(address), .. } => socket.set_multicast_if_v4(&address),
            Self::V6 { index } if index != 0 => socket.set_multicast_if_v6(index),
            Self::V4 { .. } | Self::V6 { .. } => Ok(()),
        }
    }
}

/// Hands over only what comes by a link that this socket itself joined the group on
///
/// Otherwise Linux hands over whatever any process of this machine joined the group for, by whatever interface it
/// comes: an endpoint on loopback would hear the network.
#[cfg(any(target_os = "linux", target_os = "android"))]
pub(crate) fn only_what_it_joined(socket: &Socket, group: IpAddr) -> io::Result<()> {
    match group {
        IpAddr::V4(_) => socket.set_multicast_all_v4(false),
        IpAddr::V6(_) => socket.set_multicast_all_v6(false),
    }
}

#[cfg(not(any(target_os = "linux", target_os = "android")))]
pub(crate) fn only_what_it_joined(_socket: &Socket, _group: IpAddr) -> io::Result<()> {
    Ok(())
}

fn ipv4_address(name: &str) -> io::Result<Ipv4Addr> {
    let addresses = interface::addresses(name, 0, false)?.unwrap_or_default();
    let first = addresses.iter().find_map(|address| match address.ip() {
        IpAddr::V4(address) => Some(address),
        IpAddr::V6(_) => None,
    });
    first.ok_or_else(|| unfit("it has no IPv4 address, and the group is an IPv4 one"))
}

fn unfit(why: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::AddrNotAvailable, why)
}

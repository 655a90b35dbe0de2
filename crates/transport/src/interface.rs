//! The addresses of this machine's network interfaces.

use std::io;
use std::net::{IpAddr, SocketAddr, SocketAddrV6};

/// The addresses of the interface called `name`, IPv4 first; `None` if there is no such interface
///
/// Their ports are `port`. IPv6 addresses are left out unless `ipv6`.
pub(crate) fn addresses(name: &str, port: u16, ipv6: bool) -> io::Result<Option<Vec<SocketAddr>>> {
    let mut known = false;
    let mut found = Vec::new();
    for interface in nix::ifaddrs::getifaddrs()? {
        if interface.interface_name != name {
            continue;
        }
        known = true;
        let Some(address) = interface.address else {
            continue;
        };
        if let Some(v4) = address.as_sockaddr_in() {
            found.push(SocketAddr::new(IpAddr::V4(v4.ip()), port));
        } else if let Some(v6) = address.as_sockaddr_in6().filter(|_| ipv6) {
            found.push(SocketAddrV6::new(v6.ip(), port, 0, v6.scope_id()).into());
        }
    }
    found.sort_by_key(SocketAddr::is_ipv6);
    Ok(known.then_some(found))
}

/// The number of the interface that has `address`
pub(crate) fn index_of(address: IpAddr) -> io::Result<Option<u32>> {
    for interface in nix::ifaddrs::getifaddrs()? {
        let Some(found) = interface.address else {
            continue;
        };
        let ipv4 = found.as_sockaddr_in().map(|v4| IpAddr::V4(v4.ip()));
        let ipv6 = found.as_sockaddr_in6().map(|v6| IpAddr::V6(v6.ip()));
        if ipv4.or(ipv6) == Some(address) {
            return index(&interface.interface_name).map(Some);
        }
    }
    Ok(None)
}

/// The names of all interfaces, for an error to list
pub(crate) fn names() -> Vec<String> {
    let mut names: Vec<String> = nix::ifaddrs::getifaddrs()
        .map(|all| all.map(|interface| interface.interface_name).collect())
        .unwrap_or_default();
    names.sort();
    names.dedup();
    names
}

/// The number of an interface given by number or name, as IPv6 scopes need it
pub(crate) fn index(zone: &str) -> io::Result<u32> {
    match zone.parse() {
        Ok(index) => Ok(index),
        Err(_) => Ok(nix::net::if_::if_nametoindex(zone)?),
    }
}

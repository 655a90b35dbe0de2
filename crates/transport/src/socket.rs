//! Sockets with their options set, before they connect or listen.

use std::io;
use std::net::SocketAddr;

use socket2::{Domain, Protocol, Socket, TcpKeepalive, Type};

use crate::datagram_options::DatagramOptions;
use crate::options::StreamOptions;

/// Why no socket came to be
#[derive(Debug)]
pub(crate) enum SocketError {
    /// The system refused an option
    Option { option: &'static str, source: io::Error },
    /// The system refused anything else
    System(io::Error),
}

/// A non-blocking tcp socket of the family of `address`, all options set
pub(crate) fn tcp(address: SocketAddr, options: &StreamOptions) -> Result<Socket, SocketError> {
    let socket = stream(Domain::for_address(address), Some(Protocol::TCP))?;
    socket.set_tcp_nodelay(true).map_err(refused("TCP_NODELAY"))?;
    if address.is_ipv6() {
        // Both families on one socket only if the ipv6 option says so, whatever the system's default is
        socket.set_only_v6(!options.ipv6).map_err(refused("IPV6_V6ONLY"))?;
    }
    set_buffers(&socket, options)?;
    set_keepalive(&socket, options)?;
    if options.tos != 0 {
        match address {
            SocketAddr::V4(_) => socket.set_tos_v4(options.tos).map_err(refused("tos"))?,
            SocketAddr::V6(_) => {
                socket.set_tclass_v6(options.tos).map_err(refused("tos"))?;
                if options.ipv6 {
                    // For IPv4 peers of the same socket
                    socket.set_tos_v4(options.tos).map_err(refused("tos"))?;
                }
            }
        }
    }
    if let Some(timeout) = options.max_retransmit {
        set_max_retransmit(&socket, timeout).map_err(refused("max_retransmit"))?;
    }
    if let Some(interface) = &options.bind_to_device {
        bind_to_device(&socket, interface).map_err(refused("bind_to_device"))?;
    }
    Ok(socket)
}

/// A non-blocking local socket, its buffers set
#[cfg(unix)]
pub(crate) fn local(options: &StreamOptions) -> Result<Socket, SocketError> {
    let socket = stream(Domain::UNIX, None)?;
    set_buffers(&socket, options)?;
    Ok(socket)
}

/// A non-blocking datagram socket of the family of `address`, all options set
pub(crate) fn udp(address: SocketAddr, options: &DatagramOptions) -> Result<Socket, SocketError> {
    let socket = open(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
    let hops = u32::from(options.multicast_hops);
    match address {
        SocketAddr::V4(_) => {
            socket.set_multicast_ttl_v4(hops).map_err(refused("multicast_hops"))?;
            socket.set_multicast_loop_v4(options.multicast_loop).map_err(refused("multicast_loop"))?;
        }
        SocketAddr::V6(_) => {
            socket.set_multicast_hops_v6(hops).map_err(refused("multicast_hops"))?;
            socket.set_multicast_loop_v6(options.multicast_loop).map_err(refused("multicast_loop"))?;
        }
    }
    if !options.fragment {
        set_no_fragments(&socket, address).map_err(refused("fragment"))?;
    }
    if options.tos != 0 {
        match address {
            SocketAddr::V4(_) => socket.set_tos_v4(options.tos).map_err(refused("tos"))?,
            SocketAddr::V6(_) => socket.set_tclass_v6(options.tos).map_err(refused("tos"))?,
        }
    }
    if let Some(octets) = options.send_buffer {
        socket.set_send_buffer_size(octets).map_err(refused("send_buffer"))?;
    }
    if let Some(octets) = options.receive_buffer {
        socket.set_recv_buffer_size(octets).map_err(refused("receive_buffer"))?;
    }
    if let Some(interface) = &options.bind_to_device {
        bind_to_device(&socket, interface).map_err(refused("bind_to_device"))?;
    }
    Ok(socket)
}

fn stream(domain: Domain, protocol: Option<Protocol>) -> Result<Socket, SocketError> {
    open(domain, Type::STREAM, protocol)
}

/// A non-blocking socket, on Linux in one call to the system
fn open(domain: Domain, kind: Type, protocol: Option<Protocol>) -> Result<Socket, SocketError> {
    #[cfg(any(target_os = "linux", target_os = "android"))]
    let socket = Socket::new(domain, kind.nonblocking(), protocol).map_err(SocketError::System)?;
    #[cfg(not(any(target_os = "linux", target_os = "android")))]
    let socket = {
        let socket = Socket::new(domain, kind, protocol).map_err(SocketError::System)?;
        socket.set_nonblocking(true).map_err(SocketError::System)?;
        socket
    };
    Ok(socket)
}

/// The backlog as the system's call wants it
pub(crate) fn backlog(options: &StreamOptions) -> i32 {
    i32::try_from(options.backlog).unwrap_or(i32::MAX)
}

fn set_buffers(socket: &Socket, options: &StreamOptions) -> Result<(), SocketError> {
    if let Some(octets) = options.send_buffer {
        socket.set_send_buffer_size(octets).map_err(refused("send_buffer"))?;
    }
    if let Some(octets) = options.receive_buffer {
        socket.set_recv_buffer_size(octets).map_err(refused("receive_buffer"))?;
    }
    Ok(())
}

fn set_keepalive(socket: &Socket, options: &StreamOptions) -> Result<(), SocketError> {
    let Some(on) = options.keepalive else {
        return Ok(());
    };
    socket.set_keepalive(on).map_err(refused("keepalive"))?;
    if !on {
        return Ok(());
    }
    if let Some(idle) = options.keepalive_idle {
        socket.set_tcp_keepalive(&TcpKeepalive::new().with_time(idle)).map_err(refused("keepalive_idle"))?;
    }
    if let Some(interval) = options.keepalive_interval {
        let keepalive = TcpKeepalive::new().with_interval(interval);
        socket.set_tcp_keepalive(&keepalive).map_err(refused("keepalive_interval"))?;
    }
    if let Some(count) = options.keepalive_count {
        socket.set_tcp_keepalive(&TcpKeepalive::new().with_retries(count)).map_err(refused("keepalive_count"))?;
    }
    Ok(())
}

#[cfg(any(target_os = "linux", target_os = "android"))]
fn set_max_retransmit(socket: &Socket, timeout: std::time::Duration) -> io::Result<()> {
    socket.set_tcp_user_timeout(Some(timeout))
}

#[cfg(any(target_os = "linux", target_os = "android"))]
fn bind_to_device(socket: &Socket, interface: &str) -> io::Result<()> {
    socket.bind_device(Some(interface.as_bytes()))
}

#[cfg(any(target_os = "linux", target_os = "android"))]
fn set_no_fragments(socket: &Socket, address: SocketAddr) -> io::Result<()> {
    use rustix::net::sockopt::{self, Ipv4PathMtuDiscovery, Ipv6PathMtuDiscovery};
    match address {
        SocketAddr::V4(_) => sockopt::set_ip_mtu_discover(socket, Ipv4PathMtuDiscovery::DO)?,
        SocketAddr::V6(_) => sockopt::set_ipv6_mtu_discover(socket, Ipv6PathMtuDiscovery::DO)?,
    }
    Ok(())
}

#[cfg(not(any(target_os = "linux", target_os = "android")))]
fn set_no_fragments(_socket: &Socket, _address: SocketAddr) -> io::Result<()> {
    Err(io::Error::new(io::ErrorKind::Unsupported, "only Linux has it"))
}

#[cfg(not(any(target_os = "linux", target_os = "android")))]
fn set_max_retransmit(_socket: &Socket, _timeout: std::time::Duration) -> io::Result<()> {
    Err(io::Error::new(io::ErrorKind::Unsupported, "only Linux has it"))
}

#[cfg(not(any(target_os = "linux", target_os = "android")))]
fn bind_to_device(_socket: &Socket, _interface: &str) -> io::Result<()> {
    Err(io::Error::new(io::ErrorKind::Unsupported, "only Linux has it; bind to the interface's address instead"))
}

fn refused(option: &'static str) -> impl FnOnce(io::Error) -> SocketError {
    move |source| SocketError::Option { option, source }
}

//! Endpoints and the streams behind them: tcp and ipc alike as one file descriptor.

use std::fmt;
use std::fs;
use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;

use anyhow::{Context as _, Result, bail};
use rustix::io::Errno;
use rustix::net::{self, AddressFamily, RecvFlags, SendFlags, SocketAddrUnix, SocketFlags, SocketType, sockopt};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// `tcp://ADDRESS:PORT` (with `*` for any) or `ipc://PATH`
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Endpoint {
    Tcp(SocketAddr),
    Ipc(PathBuf),
}

impl Endpoint {
    pub(crate) fn parse(text: &str) -> Result<Self> {
        if let Some(path) = text.strip_prefix("ipc://") {
            return Ok(Self::Ipc(path.into()));
        }
        let Some((host, port)) = text.strip_prefix("tcp://").and_then(|rest| rest.rsplit_once(':')) else {
            bail!("neither tcp://ADDRESS:PORT nor ipc://PATH");
        };
        let host = match host.trim_matches(['[', ']']) {
            "*" => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            "localhost" => IpAddr::V4(Ipv4Addr::LOCALHOST),
            host => host.parse().with_context(|| format!("{host} is not an IP address"))?,
        };
        let port = if port == "*" { 0 } else { port.parse().with_context(|| format!("{port} is not a port"))? };
        Ok(Self::Tcp(SocketAddr::new(host, port)))
    }

    /// Binds and listens; the listener knows the port that was chosen
    pub(crate) fn listen(&self) -> Result<Listener> {
        let fd = self.socket(SocketFlags::NONBLOCK)?;
        let bound = match self {
            Self::Tcp(address) => {
                sockopt::set_socket_reuseaddr(&fd, true)?;
                net::bind(&fd, address).and_then(|()| net::getsockname(&fd)).and_then(|name| {
                    let address = SocketAddr::try_from(name)?;
                    Ok(Self::Tcp(address))
                })
            }
            Self::Ipc(path) => {
                // What a program that was killed left behind
                let _ = fs::remove_file(path);
                SocketAddrUnix::new(path).and_then(|name| net::bind(&fd, &name)).map(|()| self.clone())
            }
        };
        let endpoint = bound.with_context(|| format!("binding {self}"))?;
        net::listen(&fd, BACKLOG).with_context(|| format!("listening on {endpoint}"))?;
        crate::print(&format!("listening {endpoint}"))?;
        Ok(Listener { fd, endpoint })
    }

    /// Connects and waits for it
    pub(crate) fn connect(&self) -> Result<Stream> {
        let fd = self.socket(SocketFlags::empty())?;
        self.connect_socket(&fd).with_context(|| format!("connecting to {self}"))?;
        Stream::new(fd, self.is_tcp())
    }

    /// Begins connecting without waiting for the peer; the stream does not block
    ///
    /// `number` counts the connections of this process to the same endpoint.
    pub(crate) fn begin_connect(&self, number: usize) -> Result<Stream> {
        let connecting = || format!("connecting to {self} (connection {})", number + 1);
        match self {
            Self::Tcp(address) => {
                let fd = self.socket(SocketFlags::NONBLOCK)?;
                // One source address has 28,000 ports by default, so later connections come from the next ones
                let next = u8::try_from(number / CONNECTIONS_PER_SOURCE).context("too many connections")?;
                if next > 0 && address.ip() == IpAddr::V4(Ipv4Addr::LOCALHOST) {
                    let source = Ipv4Addr::new(127, 0, 0, 1 + next);
                    net::bind(&fd, &SocketAddr::new(source.into(), 0)).with_context(connecting)?;
                }
                match self.connect_socket(&fd) {
                    Ok(()) | Err(Errno::INPROGRESS) => Stream::new(fd, true),
                    Err(error) => Err(error).with_context(connecting),
                }
            }
            // A full backlog would be an error and not a wait, so this one blocks
            Self::Ipc(_) => {
                let fd = self.socket(SocketFlags::empty())?;
                self.connect_socket(&fd).with_context(connecting)?;
                let stream = Stream::new(fd, false)?;
                stream.set_nonblocking(true)?;
                Ok(stream)
            }
        }
    }

    pub(crate) fn is_tcp(&self) -> bool {
        matches!(self, Self::Tcp(_))
    }

    fn socket(&self, flags: SocketFlags) -> Result<OwnedFd> {
        let family = match self {
            Self::Tcp(SocketAddr::V4(_)) => AddressFamily::INET,
            Self::Tcp(SocketAddr::V6(_)) => AddressFamily::INET6,
            Self::Ipc(_) => AddressFamily::UNIX,
        };
        net::socket_with(family, SocketType::STREAM, flags | SocketFlags::CLOEXEC, None)
            .context("opening a socket; is the limit of open files too low?")
    }

    fn connect_socket(&self, fd: &OwnedFd) -> Result<(), Errno> {
        match self {
            Self::Tcp(address) => net::connect(fd, address),
            Self::Ipc(path) => net::connect(fd, &SocketAddrUnix::new(path)?),
        }
    }
}

/// The longest queue the kernel's default `net.core.somaxconn` allows
const BACKLOG: i32 = 4096;

const CONNECTIONS_PER_SOURCE: usize = 20_000;

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => write!(f, "tcp://{address}"),
            Self::Ipc(path) => write!(f, "ipc://{}", path.display()),
        }
    }
}

/// A listening socket, which does not block; an ipc path goes away with it
pub(crate) struct Listener {
    fd: OwnedFd,
    endpoint: Endpoint,
}

impl Listener {
    pub(crate) fn is_tcp(&self) -> bool {
        self.endpoint.is_tcp()
    }

    pub(crate) fn set_nonblocking(&self, nonblocking: bool) -> io::Result<()> {
        Ok(rustix::io::ioctl_fionbio(&self.fd, nonblocking)?)
    }

    /// The same socket for tokio to listen on
    pub(crate) fn duplicate(&self) -> io::Result<OwnedFd> {
        self.fd.try_clone()
    }

    /// The next connection, or `None` where nobody is waiting
    pub(crate) fn accept(&self, nonblocking: bool) -> Result<Option<Stream>> {
        let nonblocking = if nonblocking { SocketFlags::NONBLOCK } else { SocketFlags::empty() };
        match net::accept_with(&self.fd, SocketFlags::CLOEXEC | nonblocking) {
            Ok(fd) => Ok(Some(Stream::new(fd, self.is_tcp())?)),
            Err(Errno::AGAIN) => Ok(None),
            Err(error) => Err(error).with_context(|| format!("accepting on {}", self.endpoint)),
        }
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        if let Endpoint::Ipc(path) = &self.endpoint {
            let _ = fs::remove_file(path);
        }
    }
}

/// One connection, with nothing between the caller and the system calls
pub(crate) struct Stream {
    fd: OwnedFd,
}

impl Stream {
    fn new(fd: OwnedFd, tcp: bool) -> Result<Self> {
        if tcp {
            sockopt::set_tcp_nodelay(&fd, true).context("setting TCP_NODELAY")?;
        }
        Ok(Self { fd })
    }

    pub(crate) fn set_nonblocking(&self, nonblocking: bool) -> io::Result<()> {
        Ok(rustix::io::ioctl_fionbio(&self.fd, nonblocking)?)
    }

    /// Says that nothing more will be written
    pub(crate) fn finish(&self) -> io::Result<()> {
        Ok(net::shutdown(&self.fd, net::Shutdown::Write)?)
    }

    pub(crate) fn recv(&self, buffer: &mut [u8]) -> Result<usize, Errno> {
        net::recv(&self.fd, buffer, RecvFlags::empty()).map(|(_, read)| read)
    }

    pub(crate) fn send(&self, octets: &[u8]) -> Result<usize, Errno> {
        net::send(&self.fd, octets, SendFlags::NOSIGNAL)
    }

    pub(crate) fn into_fd(self) -> OwnedFd {
        self.fd
    }
}

impl AsFd for Stream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl Read for Stream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        Ok(self.recv(buffer)?)
    }
}

impl Write for Stream {
    fn write(&mut self, octets: &[u8]) -> io::Result<usize> {
        Ok(self.send(octets)?)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Lets this process open as many files as it may, and checks that `needed` connections fit
pub(crate) fn allow_connections(needed: usize) -> Result<()> {
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum })
        .context("raising the limit of open files")?;
    match limit.maximum {
        Some(maximum) if maximum < needed as u64 + SPARE_FILES => {
            bail!("{needed} connections need more open files than the hard limit of {maximum}; raise it (ulimit -Hn)")
        }
        _ => Ok(()),
    }
}

/// The standard streams, epoll and what the runtime holds
const SPARE_FILES: u64 = 16;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_print_as_they_are_read() {
        for text in ["tcp://127.0.0.1:5555", "tcp://[::1]:5555", "ipc:///run/bench"] {
            assert_eq!(Endpoint::parse(text).unwrap().to_string(), text);
        }
        assert_eq!(Endpoint::parse("tcp://*:*").unwrap().to_string(), "tcp://0.0.0.0:0");
        assert!(Endpoint::parse("tcp://127.0.0.1").is_err());
        assert!(Endpoint::parse("inproc://x").is_err());
    }
}

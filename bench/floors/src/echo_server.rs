//! `echo-server` and `accept-server`: the raw floors under REP and ROUTER, and under taking connections in.

use std::io::{self, Read as _, Write as _};
use std::os::fd::AsFd as _;

use anyhow::{Context as _, Result, bail};
use rustix::io::Errno;
use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::task::JoinSet;

use crate::endpoint::{Listener, Stream, allow_connections};
use crate::keys::{Keys, Usage};
use crate::measure::{Measured, with};
use crate::poll::{Interest, Poll};

/// Echoes until the last connection is closed
pub(crate) fn echo_server(mut keys: Keys) -> Result<Value> {
    let endpoint = keys.endpoint()?;
    let kind = keys.choice("kind", &["blocking", "tokio", "epoll"])?;
    let size = keys.number_if_given("size")?;
    keys.finish()?;
    match (kind, size) {
        // No framing: what has come goes back
        ("epoll", _) => epoll(&endpoint.listen()?),
        (_, None) => Err(Usage(format!("kind={kind} reads whole blocks: size=… is missing")).into()),
        ("tokio", Some(size)) => {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
            runtime.block_on(asynchronous(endpoint.listen()?, size))
        }
        (_, Some(size)) => blocking(endpoint.listen()?, size),
    }
}

/// Takes connections in, answers each octet, and keeps them until the other side closes
pub(crate) fn accept_server(mut keys: Keys) -> Result<Value> {
    let endpoint = keys.endpoint()?;
    keys.finish()?;
    // The same loop: an octet is as good an echo as any
    epoll(&endpoint.listen()?)
}

fn blocking(listener: Listener, size: usize) -> Result<Value> {
    listener.set_nonblocking(false)?;
    let mut stream = listener.accept(false)?.context("no connection came")?;
    let measured = Measured::begin();
    let mut block = vec![0; size];
    let mut messages = 0;
    while whole_block(stream.read_exact(&mut block))? {
        stream.write_all(&block).context("writing")?;
        messages += 1;
    }
    Ok(measured.end().report(messages, messages as f64))
}

async fn asynchronous(listener: Listener, size: usize) -> Result<Value> {
    let accepting = Accepting::new(&listener)?;
    let mut echoes = JoinSet::new();
    let mut measured = None;
    let mut messages = 0;
    loop {
        tokio::select! {
            accepted = accepting.accept() => {
                measured.get_or_insert_with(Measured::begin);
                match accepted.context("accepting")? {
                    Accepted::Tcp(stream) => echoes.spawn(echo(stream, size)),
                    Accepted::Ipc(stream) => echoes.spawn(echo(stream, size)),
                };
            }
            Some(echoed) = echoes.join_next() => {
                messages += echoed.context("an echo task ended early")??;
                if echoes.is_empty() {
                    break;
                }
            }
        }
    }
    let measured = measured.context("no connection came")?;
    Ok(measured.end().report(messages, messages as f64))
}

enum Accepting {
    Tcp(tokio::net::TcpListener),
    Ipc(tokio::net::UnixListener),
}

enum Accepted {
    Tcp(tokio::net::TcpStream),
    Ipc(tokio::net::UnixStream),
}

impl Accepting {
    fn new(listener: &Listener) -> Result<Self> {
        let fd = listener.duplicate().context("listening on a runtime")?;
        Ok(if listener.is_tcp() {
            Self::Tcp(tokio::net::TcpListener::from_std(fd.into())?)
        } else {
            Self::Ipc(tokio::net::UnixListener::from_std(fd.into())?)
        })
    }

    async fn accept(&self) -> io::Result<Accepted> {
        match self {
            Self::Tcp(listener) => {
                let (stream, _) = listener.accept().await?;
                stream.set_nodelay(true)?;
                Ok(Accepted::Tcp(stream))
            }
            Self::Ipc(listener) => Ok(Accepted::Ipc(listener.accept().await?.0)),
        }
    }
}

async fn echo(mut stream: impl AsyncRead + AsyncWrite + Unpin, size: usize) -> Result<usize> {
    let mut block = vec![0; size];
    let mut messages = 0;
    while whole_block(stream.read_exact(&mut block).await)? {
        stream.write_all(&block).await.context("writing")?;
        messages += 1;
    }
    Ok(messages)
}

/// Whether a block came, or the other side closed; in the middle of a block is no place to close
fn whole_block<T>(read: io::Result<T>) -> Result<bool> {
    match read {
        Ok(_) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
        Err(error) if error.kind() == io::ErrorKind::ConnectionReset => Ok(false),
        Err(error) => Err(error).context("reading"),
    }
}

struct Connection {
    stream: Stream,
    /// What did not fit when it was written; nothing more is read until it is gone
    unwritten: Vec<u8>,
}

fn epoll(listener: &Listener) -> Result<Value> {
    allow_connections(0)?;
    let mut poll = Poll::new()?;
    poll.add(listener.as_fd(), LISTENER, Interest::Read)?;
    let mut connections: Vec<Option<Connection>> = Vec::new();
    let mut buffer = vec![0; READ];
    let (mut open, mut most, mut messages, mut octets) = (0, 0, 0, 0);
    let mut measured = None;
    while measured.is_none() || open > 0 {
        for at in 0..poll.wait()? {
            let ready = poll.ready(at);
            if ready.token == LISTENER {
                while let Some(stream) = listener.accept(true)? {
                    measured.get_or_insert_with(Measured::begin);
                    poll.add(&stream, connections.len(), Interest::Read)?;
                    connections.push(Some(Connection { stream, unwritten: Vec::new() }));
                    open += 1;
                    most = most.max(open);
                }
                continue;
            }
            let Some(connection) = &mut connections[ready.token] else { continue };
            if ready.writable && !connection.flush(&poll, ready.token)? {
                continue;
            }
            if !ready.readable {
                continue;
            }
            let read = match connection.stream.recv(&mut buffer) {
                Ok(0) | Err(Errno::CONNRESET) => {
                    connections[ready.token] = None;
                    open -= 1;
                    continue;
                }
                Ok(read) => read,
                Err(Errno::AGAIN) => continue,
                Err(error) => return Err(error).context("reading"),
            };
            connection.write(&buffer[..read], &poll, ready.token)?;
            messages += 1;
            octets += read;
        }
    }
    let measured = measured.context("no connection came")?;
    Ok(with(measured.end().report(messages, messages as f64), json!({ "connections": most, "octets": octets })))
}

impl Connection {
    fn write(&mut self, octets: &[u8], poll: &Poll, token: usize) -> Result<()> {
        let written = match self.stream.send(octets) {
            Ok(written) => written,
            Err(Errno::AGAIN) => 0,
            Err(error) => return Err(error).context("writing"),
        };
        if written < octets.len() {
            self.unwritten.extend_from_slice(&octets[written..]);
            poll.modify(&self.stream, token, Interest::Write)?;
        }
        Ok(())
    }

    /// Writes what is left over; whether all of it is out
    fn flush(&mut self, poll: &Poll, token: usize) -> Result<bool> {
        match self.stream.send(&self.unwritten) {
            Ok(written) => drop(self.unwritten.drain(..written)),
            Err(Errno::AGAIN) => {}
            Err(error) => bail!("writing: {error}"),
        }
        if self.unwritten.is_empty() {
            poll.modify(&self.stream, token, Interest::Read)?;
        }
        Ok(self.unwritten.is_empty())
    }
}

const LISTENER: usize = usize::MAX;
/// The same room as the load of `dealers` has
const READ: usize = 256 * 1024;

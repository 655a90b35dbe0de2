//! Opening many connections at once: 64 on their way at a time, each through its whole handshake.

use std::mem;

use anyhow::{Context as _, Result, bail};
use rustix::io::Errno;

use crate::endpoint::{Endpoint, Stream};
use crate::poll::{Interest, Poll};
use crate::zmtp;

/// What is exchanged before a connection counts as open
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Handshake {
    /// Greeting and READY, as a DEALER with NULL
    Zmtp,
    /// One octet each way
    Octet,
}

/// More than 100 would overrun the backlog that libzmq listens with by default
const ON_THEIR_WAY: usize = 64;

/// Opens `count` connections, and returns them, not blocking, when the last one is open
///
/// `poll` must be new; whoever goes on with the connections takes another one.
pub(crate) fn open(endpoint: &Endpoint, count: usize, handshake: Handshake) -> Result<Vec<Stream>> {
    let mut opening =
        Opening { endpoint, handshake, poll: Poll::new()?, connections: Vec::with_capacity(count), open: 0 };
    while opening.connections.len() < count.min(ON_THEIR_WAY) {
        opening.begin()?;
    }
    while opening.open < count {
        for at in 0..opening.poll.wait()? {
            let number = opening.poll.ready(at).token;
            opening.advance(number).with_context(|| format!("opening connection {} of {count}", number + 1))?;
        }
        while opening.connections.len() < count.min(opening.open + ON_THEIR_WAY) {
            opening.begin()?;
        }
    }
    Ok(opening.connections.into_iter().map(|connection| connection.stream).collect())
}

struct Opening<'a> {
    endpoint: &'a Endpoint,
    handshake: Handshake,
    poll: Poll,
    connections: Vec<Connection>,
    open: usize,
}

struct Connection {
    stream: Stream,
    state: State,
}

enum State {
    /// Nothing could be sent yet
    Connecting,
    /// Greeting sent; what has come of the peer's, and possibly more
    Greeting(Vec<u8>),
    /// READY sent
    Ready(Vec<u8>),
    /// One octet sent
    Octet,
    Open,
}

impl Opening<'_> {
    fn begin(&mut self) -> Result<()> {
        let number = self.connections.len();
        let stream = self.endpoint.begin_connect(number)?;
        self.connections.push(Connection { stream, state: State::Connecting });
        // On loopback the connection is there already, which saves a wait; else it is told when it is writable
        self.greet(number)?;
        let connection = &self.connections[number];
        let interest = match connection.state {
            State::Connecting => Interest::Write,
            _ => Interest::Read,
        };
        self.poll.add(&connection.stream, number, interest)
    }

    /// Sends what comes first, where the connection is there
    fn greet(&mut self, number: usize) -> Result<()> {
        let connection = &mut self.connections[number];
        let (first, next): (&[u8], State) = match self.handshake {
            Handshake::Zmtp => (&zmtp::OPENING, State::Greeting(Vec::new())),
            Handshake::Octet => (b"?", State::Octet),
        };
        match send_whole(&connection.stream, first) {
            Ok(true) => connection.state = next,
            Ok(false) => {}
            Err(error) => return Err(error).with_context(|| format!("connecting to {}", self.endpoint)),
        }
        Ok(())
    }

    fn advance(&mut self, number: usize) -> Result<()> {
        if matches!(self.connections[number].state, State::Connecting) {
            self.greet(number)?;
            let connection = &self.connections[number];
            if !matches!(connection.state, State::Connecting) {
                self.poll.modify(&connection.stream, number, Interest::Read)?;
            }
            return Ok(());
        }
        let connection = &mut self.connections[number];
        let mut buffer = [0; 512];
        let read = match connection.stream.recv(&mut buffer) {
            Ok(0) => bail!("the server closed the connection"),
            Ok(read) => &buffer[..read],
            Err(Errno::AGAIN) => return Ok(()),
            Err(error) => return Err(error).context("reading"),
        };
        connection.state = match mem::replace(&mut connection.state, State::Open) {
            State::Greeting(mut octets) => {
                octets.extend_from_slice(read);
                match octets.split_first_chunk() {
                    None => State::Greeting(octets),
                    Some((greeting, rest)) => {
                        zmtp::check_greeting(greeting)?;
                        await_ready(rest.to_vec())?
                    }
                }
            }
            State::Ready(mut octets) => {
                octets.extend_from_slice(read);
                await_ready(octets)?
            }
            State::Octet if read.len() == 1 => State::Open,
            State::Octet | State::Open | State::Connecting => {
                bail!("{} octets came that nobody asked for", read.len())
            }
        };
        if matches!(connection.state, State::Open) {
            self.open += 1;
        }
        Ok(())
    }
}

fn await_ready(octets: Vec<u8>) -> Result<State> {
    match zmtp::check_ready(&octets)? {
        None => Ok(State::Ready(octets)),
        Some(end) if end == octets.len() => Ok(State::Open),
        Some(end) => bail!("{} octets came right after READY, before anything was asked", octets.len() - end),
    }
}

/// Sends `octets`, or says that the connection is not there yet; they are few enough to fit an empty buffer
fn send_whole(stream: &Stream, octets: &[u8]) -> Result<bool> {
    match stream.send(octets) {
        Ok(sent) if sent == octets.len() => Ok(true),
        Ok(sent) => bail!("only {sent} of {} octets fit", octets.len()),
        Err(Errno::AGAIN | Errno::NOTCONN) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

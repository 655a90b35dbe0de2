//! `dealers`: many connections that each keep requests in flight, from one thread.
//!
//! Lean enough never to be what is measured: one read and one write per readable connection, octets
//! counted and not copied, all requests written from one shared buffer.

use std::collections::VecDeque;
use std::time::Instant;

use anyhow::{Context as _, Result, bail};
use rustix::io::Errno;
use serde_json::{Value, json};

use crate::endpoint::{Stream, allow_connections};
use crate::keys::{Keys, Usage};
use crate::measure::{Latencies, Measured, with};
use crate::opening::{self, Handshake};
use crate::poll::{Interest, Poll};
use crate::zmtp;

/// Keeps `inflight` requests on each of `connections` going until `count` echoes are measured
pub(crate) fn dealers(mut keys: Keys) -> Result<Value> {
    let endpoint = keys.endpoint()?;
    let connections = keys.number("connections")?;
    let inflight = keys.number("inflight")?;
    let size = keys.number("size")?;
    let count = keys.number("count")?;
    let zmtp = keys.choice("wire", &["zmtp", "raw"])? == "zmtp";
    keys.finish()?;
    if count < 2 {
        return Err(Usage("count must be at least 2, as the clock starts with an echo".into()).into());
    }
    allow_connections(connections)?;

    let streams = if zmtp {
        opening::open(&endpoint, connections, Handshake::Zmtp)?
    } else {
        // Nothing to exchange first, and the first block goes out as soon as there is a connection
        (0..connections).map(|number| endpoint.begin_connect(number)).collect::<Result<_>>()?
    };
    let mut load = Load::new(streams, inflight, size, zmtp)?;
    let report = load.run(count)?;
    if zmtp {
        load.send_end()?;
    }
    Ok(with(report, json!({ "connections": connections, "inflight": inflight })))
}

struct Load {
    connections: Vec<Connection>,
    poll: Poll,
    inflight: usize,
    size: usize,
    /// The same request over and over: what a connection owes is always a stretch of this
    requests: Vec<u8>,
    request_len: usize,
    buffer: Vec<u8>,
    began: Instant,
}

struct Connection {
    stream: Stream,
    incoming: Incoming,
    /// When each outstanding request was due to be sent, in nanoseconds since the load began
    sent: VecDeque<u64>,
    /// Octets of requests still to be written, and how much of the first of them is out already
    owed: usize,
    written_of_first: usize,
    awaits_room: bool,
}

enum Incoming {
    Zmtp(zmtp::Counter),
    /// Octets of a block that has come in part
    Raw(usize),
}

impl Load {
    fn new(streams: Vec<Stream>, inflight: usize, size: usize, zmtp: bool) -> Result<Self> {
        // A raw block has as many octets as a frame has with the header of a short one
        let request = if zmtp { zmtp::message(&vec![b'x'; size]) } else { vec![b'x'; size + 2] };
        let poll = Poll::new()?;
        let mut connections = Vec::with_capacity(streams.len());
        for (number, stream) in streams.into_iter().enumerate() {
            poll.add(&stream, number, Interest::Read)?;
            connections.push(Connection {
                stream,
                incoming: if zmtp { Incoming::Zmtp(zmtp::Counter::default()) } else { Incoming::Raw(0) },
                sent: VecDeque::with_capacity(inflight),
                owed: 0,
                written_of_first: 0,
                awaits_room: false,
            });
        }
        // Two at least, so that a write may start anywhere within the first
        let repeats = (WRITE / request.len()).clamp(2, inflight.max(2));
        Ok(Self {
            connections,
            poll,
            inflight,
            size,
            requests: request.repeat(repeats),
            request_len: request.len(),
            buffer: vec![0; READ],
            began: Instant::now(),
        })
    }

    /// Warms up for a tenth of `count`, measures `count` echoes, and takes in what is still outstanding
    fn run(&mut self, count: usize) -> Result<Value> {
        let warm_up = (count / 10).max(1);
        let mut latencies = Latencies::with_room_for(count);
        let mut measured = None;
        let mut report = None;
        let mut echoed = 0;
        self.began = Instant::now();
        for number in 0..self.connections.len() {
            self.ask(number, self.inflight, 0)?;
        }
        let mut outstanding = self.connections.len() * self.inflight;
        while outstanding > 0 {
            for at in 0..self.poll.wait()? {
                let ready = self.poll.ready(at);
                if ready.writable {
                    self.write(ready.token)?;
                }
                if !ready.readable {
                    continue;
                }
                let echoes = self.read(ready.token)?;
                if echoes == 0 {
                    continue;
                }
                let now = self.began.elapsed().as_nanos() as u64;
                let sent = &mut self.connections[ready.token].sent;
                if sent.len() < echoes {
                    bail!("more came back than was sent on connection {}", ready.token + 1);
                }
                for asked in sent.drain(..echoes) {
                    if measured.is_some() && report.is_none() {
                        latencies.add_nanoseconds(now - asked);
                    }
                    echoed += 1;
                    if echoed == warm_up {
                        measured = Some(Measured::begin());
                    }
                    if echoed == warm_up + count {
                        report = measured.as_ref().map(|measured| measured.end().report(count, count as f64));
                    }
                }
                // All connections stay busy until the last echo is measured
                if report.is_none() {
                    self.ask(ready.token, echoes, now)?;
                } else {
                    outstanding -= echoes;
                }
            }
        }
        let report = report.context("the load ended before its echoes were there")?;
        Ok(with(report, latencies.report()))
    }

    /// Sends `requests` more on connection `number`; what does not fit follows when there is room
    fn ask(&mut self, number: usize, requests: usize, now: u64) -> Result<()> {
        let connection = &mut self.connections[number];
        connection.sent.extend(std::iter::repeat_n(now, requests));
        connection.owed += requests * self.request_len;
        if connection.awaits_room { Ok(()) } else { self.write(number) }
    }

    fn write(&mut self, number: usize) -> Result<()> {
        let connection = &mut self.connections[number];
        while connection.owed > 0 {
            let start = connection.written_of_first;
            let stretch = &self.requests[start..self.requests.len().min(start + connection.owed)];
            match connection.stream.send(stretch) {
                Ok(written) => {
                    connection.owed -= written;
                    connection.written_of_first = (start + written) % self.request_len;
                    if written < stretch.len() {
                        break;
                    }
                }
                Err(Errno::AGAIN) => break,
                Err(error) => return Err(error).with_context(|| format!("writing to connection {}", number + 1)),
            }
        }
        let awaits_room = connection.owed > 0;
        if awaits_room != connection.awaits_room {
            connection.awaits_room = awaits_room;
            let interest = if awaits_room { Interest::ReadAndWrite } else { Interest::Read };
            self.poll.modify(&connection.stream, number, interest)?;
        }
        Ok(())
    }

    /// Reads once; how many echoes are complete with it
    fn read(&mut self, number: usize) -> Result<usize> {
        let connection = &mut self.connections[number];
        let read = match connection.stream.recv(&mut self.buffer) {
            Ok(0) => bail!("the server closed connection {}", number + 1),
            Ok(read) => read,
            Err(Errno::AGAIN) => return Ok(0),
            Err(error) => return Err(error).with_context(|| format!("reading from connection {}", number + 1)),
        };
        match &mut connection.incoming {
            Incoming::Zmtp(counter) => counter.count(&self.buffer[..read], self.size as u64),
            Incoming::Raw(part) => {
                let octets = *part + read;
                *part = octets % self.request_len;
                Ok(octets / self.request_len)
            }
        }
    }

    /// Tells the server that this was all, and waits until it says so too
    fn send_end(&mut self) -> Result<()> {
        let stream = &mut self.connections[0].stream;
        stream.set_nonblocking(false)?;
        std::io::Write::write_all(stream, &zmtp::message(b"END")).context("sending END")?;
        match &zmtp::read_message(stream).context("waiting for the echo of END")?[..] {
            b"END" => Ok(()),
            other => bail!("{:?} came back for END", other.escape_ascii().to_string()),
        }
    }
}

/// Room for what a socket has at once; longer bodies take more than one read
const READ: usize = 256 * 1024;
/// As much as is written at once, where that many are in flight
const WRITE: usize = 256 * 1024;

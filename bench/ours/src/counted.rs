//! What `cargo xtask bench instructions` runs under callgrind: both ends on one thread, and as little else as can be.
//!
//! Messages pass in bursts, as they do under load, except where the pattern is lockstep. What is counted is the
//! difference of two runs that pass a different number of messages, so that making sockets and connections
//! does not matter.

use std::hint::black_box;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use bytes::BytesMut;
use tidings_socket::{Context, Message, Options, Socket, SocketType};
use tidings_zmtp::{
    Config, Connection, CurveClient, CurveSecretKey, CurveServer, Entropy, EntropyError, MechanismConfig, WriteQueue,
};

use crate::arguments::{Arguments, Usage};
use crate::measure::check;
use crate::on_runtime;

/// `work=encode|decode|seal|seal-open size count`, `work=handshake|curve-handshake count`, or
/// `work=PATTERN over=inproc|tcp size count [batch=yes] [mechanism=curve]`
pub(crate) fn run(mut arguments: Arguments) -> Result<()> {
    let work: String = arguments.needed("work")?;
    let count: usize = arguments.needed("count")?;
    let size: usize = arguments.or("size", 0)?;
    let over: Option<String> = arguments.optional("over")?;
    let is_batch = arguments.or("batch", "no".to_owned())? == "yes";
    let has_curve = arguments.or("mechanism", "null".to_owned())? == "curve";
    arguments.finish()?;
    let keys = has_curve.then(Keys::new).transpose()?;
    let endpoint = match over.as_deref() {
        Some("tcp") => "tcp://127.0.0.1:*",
        Some("inproc") => "inproc://counted",
        Some(other) => bail!(Usage(format!("over={other} is neither inproc nor tcp"))),
        None => "",
    };
    match work.as_str() {
        "encode" => encode(size, count),
        "decode" => decode(size, count)?,
        "seal" => seal(size, count)?,
        "seal-open" => seal_open(size, count)?,
        "handshake" | "curve-handshake" => {
            let keys = (work == "curve-handshake").then(Keys::new).transpose()?;
            for _ in 0..count {
                black_box(Codecs::handshaken(keys.as_ref())?);
            }
        }
        "push-pull" => {
            let ends = [SocketType::Push, SocketType::Pull];
            on_runtime(async move { Ends::new(endpoint, ends, keys).await?.one_way(size, count, is_batch).await })?;
        }
        "pub-sub" => {
            let ends = [SocketType::Pub, SocketType::Sub];
            on_runtime(async move { Ends::new(endpoint, ends, keys).await?.one_way(size, count, is_batch).await })?;
        }
        "pair" => {
            let ends = [SocketType::Pair, SocketType::Pair];
            on_runtime(async move { Ends::new(endpoint, ends, keys).await?.one_way(size, count, is_batch).await })?;
        }
        "dealer-router" => {
            let ends = [SocketType::Dealer, SocketType::Router];
            on_runtime(async move { Ends::new(endpoint, ends, keys).await?.there_and_back(size, count, BURST).await })?;
        }
        "req-rep" => {
            let ends = [SocketType::Req, SocketType::Rep];
            on_runtime(async move { Ends::new(endpoint, ends, keys).await?.there_and_back(size, count, 1).await })?;
        }
        _ => bail!(Usage(format!("there is no work={work}"))),
    }
    Ok(())
}

fn encode(size: usize, count: usize) {
    let message = Message::copy_from(&vec![b'x'; size]);
    let mut queue = WriteQueue::new();
    for _ in 0..count / BURST {
        for _ in 0..BURST {
            black_box(queue.push(&[], black_box(&message)));
        }
        queue.advance(usize::MAX);
    }
}

fn decode(size: usize, count: usize) -> Result<()> {
    let mut ends = Codecs::handshaken(None)?;
    // A message again and again, as it lies on the wire
    let mut wire = Vec::new();
    write_out(&mut burst(size), &mut wire);
    for _ in 0..count / BURST {
        ends.decode(&wire, size)?;
    }
    Ok(())
}

/// What CURVE makes of an encoded message for a peer
fn seal(size: usize, count: usize) -> Result<()> {
    let mut ends = Codecs::handshaken(Some(&Keys::new()?))?;
    let queue = burst(size);
    let mut sealed = WriteQueue::new();
    for _ in 0..count / BURST {
        ends.push.seal(black_box(&queue), &mut sealed, usize::MAX);
        if sealed.advance(usize::MAX) != BURST {
            bail!("not all messages were sealed");
        }
    }
    Ok(())
}

/// Sealing, writing out and opening: a sealed message can't be opened twice
fn seal_open(size: usize, count: usize) -> Result<()> {
    let mut ends = Codecs::handshaken(Some(&Keys::new()?))?;
    let queue = burst(size);
    let (mut sealed, mut wire) = (WriteQueue::new(), Vec::new());
    for _ in 0..count / BURST {
        ends.push.seal(&queue, &mut sealed, usize::MAX);
        wire.clear();
        write_out(&mut sealed, &mut wire);
        ends.decode(&wire, size)?;
    }
    Ok(())
}

/// As many messages as a burst has, encoded
fn burst(size: usize) -> WriteQueue {
    let mut queue = WriteQueue::new();
    for _ in 0..BURST {
        queue.push(&[], &Message::copy_from(&vec![b'x'; size]));
    }
    queue
}

fn write_out(queue: &mut WriteQueue, wire: &mut Vec<u8>) {
    while !queue.is_empty() {
        let mut slices = [std::io::IoSlice::new(&[]); 16];
        let filled = queue.slices(&mut slices);
        let before = wire.len();
        slices.iter().take(filled).for_each(|slice| wire.extend_from_slice(slice));
        queue.advance(wire.len() - before);
    }
}

/// Both ends of a connection, with no byte stream between them
struct Codecs {
    push: Connection,
    pull: Connection,
    input: BytesMut,
    now: Instant,
}

impl Codecs {
    /// After greeting and handshake, by NULL or, with keys, by CURVE
    fn handshaken(keys: Option<&Keys>) -> Result<Self> {
        let now = Instant::now();
        let (mut push, mut pull) = (Config::new(SocketType::Push), Config::new(SocketType::Pull));
        if let Some(keys) = keys {
            let client = CurveClient::new(keys.client.clone(), keys.server.public(), Arc::new(Counted::default()));
            push = push.mechanism(MechanismConfig::CurveClient(client));
            let server = CurveServer::new(keys.server.clone(), Arc::new(Counted::default()));
            pull = pull.mechanism(MechanismConfig::CurveServer(server));
        }
        let (push, pull) = (Connection::new(push, now), Connection::new(pull, now));
        let mut ends = Self { push, pull, input: BytesMut::new(), now };
        let mut back = BytesMut::new();
        for _ in 0..LONGEST_HANDSHAKE {
            while let Some(octets) = ends.push.poll_transmit() {
                ends.input.extend_from_slice(&octets);
            }
            while let Some(octets) = ends.pull.poll_transmit() {
                back.extend_from_slice(&octets);
            }
            ends.pull.handle_input(now, &mut ends.input, BURST);
            ends.push.handle_input(now, &mut back, BURST);
            if ends.push.is_handshaken() && ends.pull.is_handshaken() {
                return Ok(ends);
            }
        }
        bail!("the handshake came to no end")
    }

    /// Has the PULL take a burst off the wire
    fn decode(&mut self, wire: &[u8], size: usize) -> Result<()> {
        self.input.extend_from_slice(wire);
        let mut decoded = 0;
        // What is too long to be copied comes one by one
        while !self.input.is_empty() && decoded < BURST {
            self.pull.handle_input(self.now, &mut self.input, BURST);
            for message in self.pull.messages().drain(..) {
                check(&message, size)?;
                decoded += 1;
            }
        }
        if decoded != BURST {
            bail!("{decoded} messages were decoded where {BURST} were encoded");
        }
        Ok(())
    }
}

/// Keys that are the same in every run, so that the counts are too
struct Keys {
    server: CurveSecretKey,
    client: CurveSecretKey,
}

impl Keys {
    fn new() -> Result<Self> {
        let entropy = Counted::default();
        let key = || CurveSecretKey::generate(&entropy).context("making a key");
        Ok(Self { server: key()?, client: key()? })
    }
}

/// Numbers in place of randomness: what is counted must not differ from run to run
#[derive(Debug, Default)]
struct Counted(AtomicU64);

impl Entropy for Counted {
    fn fill(&self, octets: &mut [u8]) -> Result<(), EntropyError> {
        for chunk in octets.chunks_mut(8) {
            let number = self.0.fetch_add(1, Ordering::Relaxed).wrapping_mul(0x9e37_79b9_7f4a_7c15);
            chunk.copy_from_slice(&number.to_le_bytes()[..chunk.len()]);
        }
        Ok(())
    }
}

/// A socket that sends and the one that it sends to
struct Ends {
    from: Socket,
    to: Socket,
}

impl Ends {
    async fn new(endpoint: &str, [from, to]: [SocketType; 2], keys: Option<Keys>) -> Result<Self> {
        let context = Context::new();
        let (mut client, mut server) = (Options::of(from), Options::of(to));
        if let Some(keys) = keys {
            client.set("curve_secret_key", &keys.client.to_z85())?;
            client.set("curve_server_key", &keys.server.public().to_string())?;
            server.set("curve_secret_key", &keys.server.to_z85())?;
            server.set("curve_server", "1")?;
        }
        let (from, to) = (context.socket_with(from, client)?, context.socket_with(to, server)?);
        if to.socket_type() == SocketType::Sub {
            to.subscribe("")?;
        }
        from.connect(to.bind(endpoint)?.await?)?.await?;
        from.ready(1, Duration::from_secs(60)).await?;
        Ok(Self { from, to })
    }

    async fn one_way(&self, size: usize, count: usize, is_batch: bool) -> Result<()> {
        let body = vec![b'x'; size];
        let mut batch = Vec::with_capacity(BURST);
        for _ in 0..count / BURST {
            if is_batch {
                batch.extend((0..BURST).map(|_| Message::copy_from(&body)));
                while !batch.is_empty() {
                    self.from.send_many(&mut batch).await?;
                }
                let mut left = BURST;
                while left > 0 {
                    left -= self.to.recv_many(&mut batch, left).await?;
                    for message in batch.drain(..) {
                        check(&message, size)?;
                    }
                }
            } else {
                for _ in 0..BURST {
                    self.from.send(Message::copy_from(&body)).await?;
                }
                for _ in 0..BURST {
                    check(&self.to.recv().await?, size)?;
                }
            }
        }
        Ok(())
    }

    async fn there_and_back(&self, size: usize, count: usize, burst: usize) -> Result<()> {
        let body = vec![b'x'; size];
        for _ in 0..count / burst {
            for _ in 0..burst {
                self.from.send(Message::copy_from(&body)).await?;
            }
            for _ in 0..burst {
                let message = self.to.recv().await?;
                self.to.send(message).await?;
            }
            for _ in 0..burst {
                check(&self.from.recv().await?, size)?;
            }
        }
        Ok(())
    }
}

/// More than any handshake has steps
const LONGEST_HANDSHAKE: usize = 10;

/// Messages under way at a time: fewer than a queue takes, enough to share what a wake-up costs
const BURST: usize = 100;

//! What `cargo xtask bench instructions` runs under callgrind: both ends on one thread, and as little else as can be.
//!
//! Messages pass in bursts, as they do under load, except where the pattern is lockstep. What is counted is the
//! difference of two runs that pass a different number of messages, so that making sockets and connections
//! does not matter.

use std::hint::black_box;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use bytes::BytesMut;
use tidings_socket::{Context, Message, Socket, SocketType};
use tidings_zmtp::{Config, Connection, WriteQueue};

use crate::arguments::{Arguments, Usage};
use crate::measure::check;
use crate::on_runtime;

/// `work=encode|decode size count`, or `work=PATTERN over=inproc|tcp size count [batch=yes]`
pub(crate) fn run(mut arguments: Arguments) -> Result<()> {
    let work: String = arguments.needed("work")?;
    let size: usize = arguments.needed("size")?;
    let count: usize = arguments.needed("count")?;
    let over: Option<String> = arguments.optional("over")?;
    let is_batch = arguments.or("batch", "no".to_owned())? == "yes";
    arguments.finish()?;
    let endpoint = match over.as_deref() {
        Some("tcp") => "tcp://127.0.0.1:*",
        Some("inproc") => "inproc://counted",
        Some(other) => bail!(Usage(format!("over={other} is neither inproc nor tcp"))),
        None => "",
    };
    match work.as_str() {
        "encode" => encode(size, count),
        "decode" => decode(size, count)?,
        "push-pull" => {
            let ends = [SocketType::Push, SocketType::Pull];
            on_runtime(async move { Ends::new(endpoint, ends).await?.one_way(size, count, is_batch).await })?;
        }
        "pub-sub" => {
            let ends = [SocketType::Pub, SocketType::Sub];
            on_runtime(async move { Ends::new(endpoint, ends).await?.one_way(size, count, is_batch).await })?;
        }
        "pair" => {
            let ends = [SocketType::Pair, SocketType::Pair];
            on_runtime(async move { Ends::new(endpoint, ends).await?.one_way(size, count, is_batch).await })?;
        }
        "dealer-router" => {
            let ends = [SocketType::Dealer, SocketType::Router];
            on_runtime(async move { Ends::new(endpoint, ends).await?.there_and_back(size, count, BURST).await })?;
        }
        "req-rep" => {
            let ends = [SocketType::Req, SocketType::Rep];
            on_runtime(async move { Ends::new(endpoint, ends).await?.there_and_back(size, count, 1).await })?;
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
    let now = Instant::now();
    let mut connection = Connection::new(Config::new(SocketType::Pull), now);
    let mut peer = Connection::new(Config::new(SocketType::Push), now);
    let (mut input, mut back) = (BytesMut::new(), BytesMut::new());
    while !(connection.is_handshaken() && peer.is_handshaken()) {
        while let Some(octets) = peer.poll_transmit() {
            input.extend_from_slice(&octets);
        }
        while let Some(octets) = connection.poll_transmit() {
            back.extend_from_slice(&octets);
        }
        connection.handle_input(now, &mut input, BURST);
        peer.handle_input(now, &mut back, BURST);
    }
    // A message again and again, as it lies on the wire
    let mut queue = WriteQueue::new();
    for _ in 0..BURST {
        queue.push(&[], &Message::copy_from(&vec![b'x'; size]));
    }
    let mut wire = Vec::new();
    while !queue.is_empty() {
        let mut slices = [std::io::IoSlice::new(&[]); 16];
        let filled = queue.slices(&mut slices);
        let before = wire.len();
        slices.iter().take(filled).for_each(|slice| wire.extend_from_slice(slice));
        let written = wire.len() - before;
        queue.advance(written);
    }
    for _ in 0..count / BURST {
        input.extend_from_slice(&wire);
        connection.handle_input(now, &mut input, BURST);
        let mut decoded = 0;
        for message in connection.messages().drain(..) {
            check(&message, size)?;
            decoded += 1;
        }
        if decoded != BURST {
            bail!("{decoded} messages were decoded where {BURST} were encoded");
        }
    }
    Ok(())
}

/// A socket that sends and the one that it sends to
struct Ends {
    from: Socket,
    to: Socket,
}

impl Ends {
    async fn new(endpoint: &str, [from, to]: [SocketType; 2]) -> Result<Self> {
        let context = Context::new();
        let (from, to) = (context.socket(from)?, context.socket(to)?);
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

/// Messages under way at a time: fewer than a queue takes, enough to share what a wake-up costs
const BURST: usize = 100;

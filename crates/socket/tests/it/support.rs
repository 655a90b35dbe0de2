//! What the scenarios share: endpoints of each transport, linked sockets, deadlines, and raw peers.

use std::fmt::Display;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tidings_socket::{Context, Endpoint, Event, EventStream, Message, Options, Socket, SocketType};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Every scenario that doesn't need octets on a wire runs over these
pub(crate) const TRANSPORTS: [&str; 3] = ["tcp", "ipc", "inproc"];

/// A fresh endpoint to bind
pub(crate) fn endpoint(transport: &str) -> String {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    match transport {
        "tcp" => "tcp://127.0.0.1:*".to_owned(),
        "ipc" => format!("ipc://@tidings-it-{}-{number}", std::process::id()),
        _ => format!("inproc://it-{number}"),
    }
}

/// An endpoint where nobody listens, and that can be bound later
pub(crate) async fn free_endpoint(context: &Context, transport: &str) -> Endpoint {
    if transport != "tcp" {
        return endpoint(transport).parse().unwrap();
    }
    // An address of its own, so that nobody gets the port meanwhile
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let holder = socket(context, SocketType::Pair);
    let any = format!("tcp://127.77.{}.{}:*", number / 250, number % 250 + 1);
    let at = soon("bind", holder.bind(any).unwrap()).await.unwrap();
    holder.close(LONG).await;
    at
}

pub(crate) fn socket(context: &Context, socket_type: SocketType) -> Socket {
    context.socket(socket_type).unwrap()
}

pub(crate) fn socket_with(context: &Context, socket_type: SocketType, options: Options) -> Socket {
    context.socket_with(socket_type, options).unwrap()
}

pub(crate) async fn bind(socket: &Socket, transport: &str) -> Endpoint {
    soon("bind", socket.bind(endpoint(transport)).unwrap()).await.unwrap()
}

/// Connects, and waits until messages can flow both ways
pub(crate) async fn connect(client: &Socket, server: &Socket, at: &Endpoint) {
    let peers = connected(server);
    soon("connect", client.connect(at).unwrap()).await.unwrap();
    eventually("the bound side knows its peer", || connected(server) > peers).await;
}

/// Binds one socket and connects the other
pub(crate) async fn link(transport: &str, server: &Socket, client: &Socket) -> Endpoint {
    let at = bind(server, transport).await;
    connect(client, server, &at).await;
    at
}

/// How many peers are connected
pub(crate) fn connected(socket: &Socket) -> usize {
    socket.stats().peers.iter().filter(|peer| peer.connected).count()
}

/// What must happen, or the test fails and says what did not
pub(crate) async fn soon<T>(what: impl Display, future: impl IntoFuture<Output = T>) -> T {
    match tokio::time::timeout(LONG, future).await {
        Ok(value) => value,
        Err(_) => panic!("not within {LONG:?}: {what}"),
    }
}

/// Looks until a condition holds: for what no event tells
pub(crate) async fn eventually(what: impl Display, mut holds: impl FnMut() -> bool) {
    let until = std::time::Instant::now() + LONG;
    while !holds() {
        assert!(std::time::Instant::now() < until, "not within {LONG:?}: {what}");
        tokio::task::yield_now().await;
    }
}

pub(crate) async fn receive(socket: &Socket, what: impl Display) -> String {
    let received = soon(&what, socket.recv()).await;
    text(&received.unwrap_or_else(|error| panic!("{what}: {error}")))
}

/// Everything that is there without waiting
pub(crate) fn receive_all(socket: &Socket) -> Vec<String> {
    std::iter::from_fn(|| socket.try_recv().ok().map(|message| text(&message))).collect()
}

/// `count` messages, waiting for each
pub(crate) async fn receive_many(socket: &Socket, count: usize, what: impl Display) -> Vec<String> {
    let mut all = Vec::new();
    for _ in 0..count {
        all.push(receive(socket, format!("{what}, after {all:?}")).await);
    }
    all
}

pub(crate) async fn send(socket: &Socket, frames: &str) {
    soon("send", socket.send(message(frames))).await.unwrap_or_else(|error| panic!("sending {frames}: {error}"));
}

/// A message of the frames between the bars
pub(crate) fn message(frames: &str) -> Message {
    frames.split('|').map(str::to_owned).collect()
}

/// A message's frames with bars between them; hexadecimal where it isn't text
pub(crate) fn text(message: &Message) -> String {
    let frame = |frame: &[u8]| match std::str::from_utf8(frame) {
        Ok(text) if !text.chars().any(char::is_control) => text.to_owned(),
        _ => frame.iter().map(|octet| format!("{octet:02x}")).collect(),
    };
    message.frames().map(frame).collect::<Vec<_>>().join("|")
}

/// Reads events up to one of this name, which must come; returns it
pub(crate) async fn event(events: &mut EventStream, name: &str) -> Event {
    let mut seen = Vec::new();
    loop {
        let event = match tokio::time::timeout(LONG, events.next()).await {
            Ok(Some(event)) => event,
            Ok(None) => panic!("the events ended before '{name}'; there were {seen:?}"),
            Err(_) => panic!("no event '{name}' within {LONG:?}; there were {seen:?}"),
        };
        if event.kind.name() == name {
            return event;
        }
        seen.push(event.kind.name());
    }
}

/// The names of the next events, exactly that many
pub(crate) async fn event_names(events: &mut EventStream, count: usize) -> Vec<&'static str> {
    let mut names = Vec::new();
    while names.len() < count {
        match tokio::time::timeout(LONG, events.next()).await {
            Ok(Some(event)) => names.push(event.kind.name()),
            _ => panic!("only {names:?} where {count} events were due"),
        }
    }
    names
}

/// A peer without a library: octets over TCP
#[derive(Debug)]
pub(crate) struct RawPeer {
    pub(crate) stream: TcpStream,
}

impl RawPeer {
    pub(crate) async fn connect(at: &Endpoint) -> Self {
        let stream = soon("a raw connection", TcpStream::connect(address(at))).await.unwrap();
        Self { stream }
    }

    /// A peer that has done the handshake as this type of socket
    pub(crate) async fn handshaken(at: &Endpoint, socket_type: &str) -> Self {
        let mut peer = Self::connect(at).await;
        peer.write(&opening(socket_type)).await;
        let mut greeting = [0; 64];
        soon("the greeting", peer.stream.read_exact(&mut greeting)).await.unwrap();
        let mut header = [0; 2];
        soon("READY", peer.stream.read_exact(&mut header)).await.unwrap();
        let mut ready = vec![0; usize::from(header[1])];
        soon("READY", peer.stream.read_exact(&mut ready)).await.unwrap();
        peer
    }

    /// Writes what the other side takes; it may have closed
    pub(crate) async fn write(&mut self, octets: &[u8]) {
        soon("a raw write", self.stream.write_all(octets)).await.ok();
    }

    /// Reads until the other side closes
    pub(crate) async fn read_to_end(&mut self) -> Vec<u8> {
        let mut octets = Vec::new();
        soon("the other side's close", self.stream.read_to_end(&mut octets)).await.ok();
        octets
    }
}

/// A bound socket, with a well-behaved peer whose messages must keep coming
#[derive(Debug)]
pub(crate) struct Victim {
    pub(crate) pull: Socket,
    pub(crate) good: Socket,
    pub(crate) at: Endpoint,
    sent: usize,
}

impl Victim {
    pub(crate) async fn new(options: Options) -> Self {
        let context = Context::new();
        let (pull, good) = (socket_with(&context, SocketType::Pull, options), socket(&context, SocketType::Push));
        let at = link("tcp", &pull, &good).await;
        Self { pull, good, at, sent: 0 }
    }

    /// The good peer notices nothing
    pub(crate) async fn still_serves(&mut self, label: &str) {
        self.sent += 1;
        send(&self.good, &self.sent.to_string()).await;
        assert_eq!(receive(&self.pull, label).await, self.sent.to_string(), "{label}");
        assert_eq!(connected(&self.good), 1, "{label}");
        assert_eq!(self.good.stats().closes.len(), 0, "{label}");
    }

    pub(crate) fn closes(&self, reason: &str) -> u64 {
        self.pull.stats().closes.get(reason).copied().unwrap_or_default()
    }
}

pub(crate) fn address(at: &Endpoint) -> SocketAddr {
    at.to_string().trim_start_matches("tcp://").parse().unwrap()
}

/// Greeting and READY of a ZMTP 3.1 peer
pub(crate) fn opening(socket_type: &str) -> Vec<u8> {
    let mut octets = b"\xff\0\0\0\0\0\0\0\x01\x7f\x03\x01NULL".to_vec();
    octets.resize(64, 0);
    octets.extend(ready(socket_type));
    octets
}

/// READY with a socket type
pub(crate) fn ready(socket_type: &str) -> Vec<u8> {
    let mut body = b"\x05READY\x0bSocket-Type\0\0\0".to_vec();
    body.push(u8::try_from(socket_type.len()).unwrap());
    body.extend(socket_type.bytes());
    let mut frame = vec![4, u8::try_from(body.len()).unwrap()];
    frame.extend(body);
    frame
}

/// A short frame
pub(crate) fn frame(flags: u8, body: &[u8]) -> Vec<u8> {
    let mut octets = vec![flags, u8::try_from(body.len()).unwrap()];
    octets.extend_from_slice(body);
    octets
}

/// Long enough for whatever is to happen, on a machine that has other things to do
pub(crate) const LONG: Duration = Duration::from_secs(20);

//! Every legal pair of socket types, over tcp and ipc, with either side bound.
//!
//! A cell opens a socket on each side and lets them exchange the same messages in both directions,
//! where the pattern has both: one frame and several, empty frames, 255 and 256 octets (where the
//! short form of a frame header ends) and 10 MiB. All cells are run, then the table is printed.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use bytes::Bytes;
use serde_json::{Value, json};
use tidings_socket::{Context, Message, Options, Socket, SocketType};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use SocketType::*;

use crate::guard;
use crate::peer::{Peer, encode, fill};
use crate::table::Table;
use crate::waiting::{PATIENCE, expect, recv, send, within};
use crate::way::{Side, Transport, Way};

/// Ours and libzmq's (RFC 23, "The Socket-Type Property"; RFC 28 to 31)
const PAIRS: [(SocketType, SocketType); 21] = [
    (Pair, Pair),
    (Pub, Sub),
    (Pub, Xsub),
    (Xpub, Sub),
    (Xpub, Xsub),
    (Sub, Pub),
    (Sub, Xpub),
    (Xsub, Pub),
    (Xsub, Xpub),
    (Req, Rep),
    (Req, Router),
    (Rep, Req),
    (Rep, Dealer),
    (Dealer, Rep),
    (Dealer, Dealer),
    (Dealer, Router),
    (Router, Req),
    (Router, Dealer),
    (Router, Router),
    (Push, Pull),
    (Pull, Push),
];

/// Legal, but spoken by no libzmq that installs: the later types are behind its draft API (RFC 41, 48, 49, 51, 52)
///
/// pyzmq's wheels and Debian's packages are built without it: such a libzmq makes sockets of these types, and aborts
/// its process ("socket_type_ < names_count" in mechanism.cpp) as soon as one shakes hands. What these pairs have on
/// the wire is checked octet by octet in `tests/it/later.rs` and `tests/it/radio.rs`.
const UNSPOKEN: [(SocketType, SocketType); 8] = [
    (Client, Server),
    (Server, Client),
    (Radio, Dish),
    (Dish, Radio),
    (Gather, Scatter),
    (Scatter, Gather),
    (SocketType::Peer, SocketType::Peer),
    (Channel, Channel),
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_legal_pair_of_socket_types_exchanges_messages() -> Result<()> {
    let Some(first) = Peer::start().await? else { return Ok(()) };
    drop(first);
    let columns = tokio::try_join!(column(Way::ALL[0]), column(Way::ALL[1]), column(Way::ALL[2]), column(Way::ALL[3]))?;
    let [a, b, c, d, e, f] = Way::SECURED;
    let secured = tokio::try_join!(column(a), column(b), column(c), column(d), column(e), column(f))?;
    let secured = [secured.0, secured.1, secured.2, secured.3, secured.4, secured.5].into_iter().flatten();
    let mut table = Table::default();
    for (pair, way, outcome) in [columns.0, columns.1, columns.2, columns.3].into_iter().flatten().chain(secured) {
        table.enter(&pair, way, outcome);
    }
    println!("{table}");
    if let Some(path) = std::env::var_os("TIDINGS_INTEROP_TABLE") {
        std::fs::write(&path, table.to_string()).with_context(|| format!("can't write {}", path.display()))?;
    }
    let failures = table.failures();
    ensure!(failures.is_empty(), "{} of {} cells failed:\n{}", failures.len(), table.len(), failures.join("\n"));
    Ok(())
}

#[test]
fn no_legal_pair_is_left_out() {
    for ours in SocketType::ALL {
        for theirs in SocketType::ALL {
            let listed = PAIRS.iter().chain(&UNSPOKEN).filter(|pair| **pair == (ours, theirs)).count();
            assert_eq!(usize::from(ours.accepts(theirs)), listed, "{ours}-{theirs}");
        }
    }
}

type Cell = (String, Way, Result<Duration, String>);

/// All cells of one way, one after the other
async fn column(way: Way) -> Result<Vec<Cell>> {
    let mut peer = Peer::start().await?.context("pyzmq was there a moment ago")?;
    guard::post(&mut peer).await?;
    let mut cells = Vec::new();
    for (ours, theirs) in PAIRS {
        let begun = Instant::now();
        let outcome = within(CELL_TIME, "the cell", Conversation { ours, theirs, way }.run(&mut peer)).await.flatten();
        peer = enter(&mut cells, format!("{ours}-{theirs}"), way, begun, outcome, peer).await?;
    }
    // STREAM has no framing, so its messages are compared as one flow of octets; libzmq has it over tcp only
    if way.transport == Transport::Tcp {
        let begun = Instant::now();
        let outcome = within(CELL_TIME, "the cell", stream_and_stream(way, &mut peer)).await.flatten();
        peer = enter(&mut cells, "STREAM-STREAM".to_owned(), way, begun, outcome, peer).await?;
        let begun = Instant::now();
        let outcome = within(CELL_TIME, "the cell", stream_and_plain_tcp(way)).await.flatten();
        enter(&mut cells, "STREAM-plain TCP".to_owned(), way, begun, outcome, peer).await?;
    }
    Ok(cells)
}

/// Notes a cell; a peer whose cell failed may be in the middle of anything, so another takes its place
async fn enter(
    cells: &mut Vec<Cell>,
    pair: String,
    way: Way,
    begun: Instant,
    outcome: Result<()>,
    peer: Peer,
) -> Result<Peer> {
    let failed = outcome.is_err();
    cells.push((pair, way, outcome.map(|()| begun.elapsed()).map_err(|error| format!("{error:#}"))));
    if !failed {
        return Ok(peer);
    }
    let mut peer = peer.restart().await?;
    guard::post(&mut peer).await?;
    Ok(peer)
}

/// One cell
#[derive(Clone, Copy)]
struct Conversation {
    ours: SocketType,
    theirs: SocketType,
    way: Way,
}

impl Conversation {
    async fn run(self, peer: &mut Peer) -> Result<()> {
        let Self { ours, theirs, way } = self;
        let context = Context::new();
        let mut options = Options::of(ours);
        if matches!(ours, Req | Dealer | Router) {
            options = options.routing_id(Bytes::from(OUR_ID));
        }
        let options = guard::ours(&context, options.router_mandatory(true), way, theirs, &peer.directory())?;
        let socket = context.socket_with(ours, options)?;
        let id = peer.open(theirs.name(), guard::theirs(their_options(theirs), way, theirs)).await?;
        if ours == Sub || ours == Xsub {
            socket.subscribe("")?;
        }
        if theirs == Sub {
            peer.subscribe(&id, b"").await?;
        }
        if theirs == Xsub {
            peer.send(&id, &[[1]]).await?;
        }
        way.join(&socket, peer, &id).await?;
        within(PATIENCE, "ready", socket.ready(1, PATIENCE)).await??;
        if ours == Xpub {
            expect(&socket, [&[1]]).await.context("the subscription")?;
        }
        if theirs == Xpub {
            peer.expect(&id, [&[1]]).await.context("the subscription")?;
        }
        if theirs == Pub {
            // A libzmq PUB can't tell when it has our subscription
            peer.repeat(&id, BEACON, 5).await?;
            expect(&socket, [BEACON]).await?;
            peer.stop(&id).await?;
        }
        for body in bodies() {
            self.exchange(&socket, peer, &id, &body).await?;
        }
        self.exchange_large(&socket, peer, &id).await.context("10 MiB")?;
        peer.close(&id).await?;
        let report = socket.close(PATIENCE).await;
        ensure!(report.is_complete(), "not flushed: {report:?}");
        Ok(())
    }

    /// The same message there and back, as far as the pattern goes
    async fn exchange(self, socket: &Socket, peer: &mut Peer, id: &str, body: &[Bytes]) -> Result<()> {
        for from in self.turns() {
            match from {
                Side::Ours => {
                    send(socket, Message::multipart(self.our_envelope().into_iter().chain(body.iter().cloned())))
                        .await?;
                    let received = peer.recv(id).await?;
                    ensure!(received == self.framed(self.their_envelope(), body), "libzmq's received {received:?}");
                }
                Side::Theirs => {
                    peer.send(id, &self.framed(self.their_envelope(), body)).await?;
                    let received = self.recv(socket).await?;
                    ensure!(received == self.framed(self.our_envelope(), body), "ours received {received:?}");
                }
            }
        }
        Ok(())
    }

    async fn exchange_large(self, socket: &Socket, peer: &mut Peer, id: &str) -> Result<()> {
        let upstream = matches!((self.ours, self.theirs), (Xpub, Xsub) | (Xsub, Xpub));
        if upstream {
            // libzmq takes any frame to an XPUB that begins with 0 or 1 for a subscription, so no digest here
            return self.exchange(socket, peer, id, &[Bytes::from(vec![b'z'; LARGE])]).await;
        }
        let large = Bytes::from(fill(LARGE));
        let marker = Bytes::from("large");
        for from in self.turns() {
            match from {
                Side::Ours => {
                    let body = [marker.clone(), large.clone()];
                    send(socket, Message::multipart(self.framed(self.our_envelope(), &body))).await?;
                    let answer = peer.tell(json!({"op": "digest", "id": id, "timeout": 15_000})).await?;
                    let frames = answer["frames"].as_array().context("no frames")?;
                    ensure!(frames.len() == self.their_envelope().len() + 2, "{} frames", frames.len());
                    ensure!(frames.last() == Some(&json!({"length": LARGE, "sha256": LARGE_SHA256})), "{answer}");
                }
                Side::Theirs => {
                    let prefix: Vec<String> = self
                        .framed(self.their_envelope(), std::slice::from_ref(&marker))
                        .iter()
                        .map(|f| encode(f))
                        .collect();
                    let answer = peer
                        .tell(
                            json!({"op": "send_fill", "id": id, "length": LARGE, "prefix": prefix, "timeout": 15_000}),
                        )
                        .await?;
                    ensure!(answer["sha256"] == LARGE_SHA256, "the driver fills otherwise: {answer}");
                    let received = self.recv(socket).await?;
                    ensure!(
                        received == self.framed(self.our_envelope(), &[marker.clone(), large.clone()]),
                        "it differs"
                    );
                }
            }
        }
        Ok(())
    }

    async fn recv(self, socket: &Socket) -> Result<Vec<Bytes>> {
        loop {
            let received = recv(socket).await?;
            if self.theirs != Pub || received != [BEACON] {
                return Ok(received);
            }
        }
    }

    /// Who sends, in order
    fn turns(self) -> Vec<Side> {
        let mut turns = Vec::new();
        if sends_to(self.ours, self.theirs) {
            turns.push(Side::Ours);
        }
        if sends_to(self.theirs, self.ours) {
            turns.push(Side::Theirs);
        }
        if self.ours == Rep || self.theirs == Req {
            turns.reverse();
        }
        turns
    }

    fn our_envelope(self) -> Vec<Bytes> {
        envelope(self.ours, self.theirs, THEIR_ID)
    }

    fn their_envelope(self) -> Vec<Bytes> {
        envelope(self.theirs, self.ours, OUR_ID)
    }

    fn framed(self, envelope: Vec<Bytes>, body: &[Bytes]) -> Vec<Bytes> {
        envelope.into_iter().chain(body.iter().cloned()).collect()
    }
}

/// What the application at `near` has in front of a body that it exchanges with `far`
fn envelope(near: SocketType, far: SocketType, far_id: &'static [u8]) -> Vec<Bytes> {
    match (near, far) {
        (Router, Req) => vec![Bytes::from_static(far_id), Bytes::new()],
        (Router, _) => vec![Bytes::from_static(far_id)],
        (Dealer, Rep) => vec![Bytes::new()],
        _ => Vec::new(),
    }
}

fn sends_to(near: SocketType, far: SocketType) -> bool {
    // RFC 29: a PUB discards what comes from an XSUB
    !matches!((near, far), (Sub | Pull, _) | (Xsub, Pub))
}

fn their_options(theirs: SocketType) -> Value {
    match theirs {
        Req | Dealer => json!({"ROUTING_ID": encode(THEIR_ID)}),
        Router => json!({"ROUTING_ID": encode(THEIR_ID), "ROUTER_MANDATORY": 1}),
        _ => json!({}),
    }
}

/// No frame begins with 0 or 1: libzmq's XPUB would take it for a subscription
fn bodies() -> Vec<Vec<Bytes>> {
    let long = |length| Bytes::from(vec![b'x'; length]);
    vec![
        vec![Bytes::from("hello")],
        vec![Bytes::from("a"), Bytes::from("bc"), Bytes::from("def")],
        vec![Bytes::new()],
        vec![Bytes::new(), Bytes::from("between"), Bytes::new()],
        vec![long(255)],
        vec![long(256)],
        vec![long(256), Bytes::new(), long(255)],
    ]
}

// ---- STREAM ----

/// Our STREAM and libzmq's: both give each other a first empty message, then octets
async fn stream_and_stream(way: Way, peer: &mut Peer) -> Result<()> {
    let context = Context::new();
    let socket = context.socket(Stream)?;
    let id = peer.open("STREAM", json!({})).await?;
    let endpoint = way.transport.fresh_endpoint(peer);
    match way.binds {
        Side::Ours => {
            let endpoint = within(PATIENCE, "our bind", socket.bind(endpoint)?).await??;
            peer.connect(&id, &endpoint.to_string()).await?;
        }
        Side::Theirs => {
            let endpoint = peer.bind(&id, &endpoint).await?;
            within(PATIENCE, "our connect", socket.connect(endpoint)?).await??;
        }
    }
    let ours = introduced(recv(&socket).await?)?;
    let theirs = introduced(peer.recv(&id).await?)?;
    for octets in flows() {
        send(&socket, Message::multipart([ours.clone(), octets.clone()])).await?;
        let mut arrived = Vec::new();
        while arrived.len() < octets.len() {
            let [from, part] = <[Bytes; 2]>::try_from(peer.recv(&id).await?).ok().context("not two frames")?;
            ensure!(from == theirs, "from {from:?}");
            arrived.extend_from_slice(&part);
        }
        ensure!(arrived == octets, "libzmq's received other octets, {} of {}", arrived.len(), octets.len());
        let command = json!({"op": "send_fill", "id": id, "length": octets.len(), "via": encode(&theirs)});
        peer.tell(command).await?;
        ensure!(gather(&socket, &ours, octets.len()).await? == octets, "ours received other octets");
    }
    // An empty message closes the connection, and the other side is told by an empty one
    send(&socket, Message::multipart([ours, Bytes::new()])).await?;
    ensure!(peer.recv(&id).await? == [theirs, Bytes::new()], "libzmq's was told otherwise");
    peer.close(&id).await
}

async fn stream_and_plain_tcp(way: Way) -> Result<()> {
    let context = Context::new();
    let socket = context.socket(Stream)?;
    let mut plain = match way.binds {
        Side::Ours => {
            let endpoint = within(PATIENCE, "our bind", socket.bind("tcp://127.0.0.1:*")?).await??.to_string();
            TcpStream::connect(endpoint.trim_start_matches("tcp://")).await?
        }
        Side::Theirs => {
            let listener = TcpListener::bind("127.0.0.1:0").await?;
            let connecting = socket.connect(format!("tcp://{}", listener.local_addr()?))?;
            let (plain, _) = within(PATIENCE, "our connect", listener.accept()).await??;
            within(PATIENCE, "our connect", connecting).await??;
            plain
        }
    };
    let peer = introduced(recv(&socket).await?)?;
    for octets in flows() {
        let (near, far) = plain.split();
        let (mut near, mut far) = (near, far);
        let mut arrived = vec![0; octets.len()];
        send(&socket, Message::multipart([peer.clone(), octets.clone()])).await?;
        within(PATIENCE, "the plain socket reads", near.read_exact(&mut arrived)).await??;
        ensure!(arrived == octets, "the plain socket read other octets");
        let (written, gathered) = tokio::join!(far.write_all(&octets), gather(&socket, &peer, octets.len()));
        written?;
        ensure!(gathered? == octets, "ours received other octets");
    }
    drop(plain);
    ensure!(recv(&socket).await? == [peer, Bytes::new()], "ours was told otherwise");
    Ok(())
}

/// The id in a STREAM's first message from a peer
fn introduced(frames: Vec<Bytes>) -> Result<Bytes> {
    match <[Bytes; 2]>::try_from(frames) {
        Ok([id, nothing]) if id.len() == 5 && nothing.is_empty() => Ok(id),
        other => anyhow::bail!("not an introduction: {other:?}"),
    }
}

async fn gather(socket: &Socket, from: &Bytes, length: usize) -> Result<Vec<u8>> {
    let mut arrived = Vec::new();
    while arrived.len() < length {
        let [id, part] = <[Bytes; 2]>::try_from(recv(socket).await?).ok().context("not two frames")?;
        ensure!(id == *from, "from {id:?}");
        arrived.extend_from_slice(&part);
    }
    Ok(arrived)
}

fn flows() -> [Bytes; 4] {
    [1, 255, 256, LARGE].map(|length| Bytes::from(fill(length)))
}

const OUR_ID: &[u8] = b"ours";
const THEIR_ID: &[u8] = b"theirs";
const BEACON: &[u8] = b"beacon";
const CELL_TIME: Duration = Duration::from_secs(20);
const LARGE: usize = 10 * 1024 * 1024;
/// Of the driver's filling of that length; compared with the driver's own word for it
const LARGE_SHA256: &str = "44f9296993796e201208c6c245b9515d36b62c87d0be4459ff347bfa054cd527";

//! What peers can make a process hold: as much as the bounds say, however many they are.
//!
//! Memory is the whole process's, so these tests have a binary of their own and run one at a time.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that can't go on fails")]

use std::net::SocketAddr;
use std::time::Duration;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tidings_socket::SocketType::Pull;
use tidings_socket::{Context, Endpoint, Options};
use tokio::io::AsyncReadExt;
use tokio::net::{TcpSocket, TcpStream};
use tokio::sync::Mutex;

#[path = "it/support.rs"]
#[allow(dead_code, reason = "shared with another binary, which uses the rest")]
mod support;

use support::*;

static ALONE: Mutex<()> = Mutex::const_new(());

#[tokio::test]
async fn a_flood_of_pings_is_answered_within_bounds() {
    let _alone = ALONE.lock().await;
    let mut victim = Victim::new(Options::new()).await;
    let mut peer = RawPeer::handshaken(&victim.at, "PUSH").await;
    let ping = frame(4, b"\x04PING\0\0context-of-16-oc");
    let before = resident();
    // It never reads the answers
    let flood = async {
        for _ in 0..200 {
            peer.write(&ping.repeat(1000)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(2), flood).await.ok();
    assert!(resident() < before + (16 << 20), "{} to {} octets", before, resident());
    victim.still_serves("in the flood").await;
}

#[tokio::test]
async fn a_peer_that_sends_endlessly_fills_its_queue_and_no_more() {
    let _alone = ALONE.lock().await;
    let context = Context::new();
    let pull = socket_with(&context, Pull, Options::new().recv_hwm(100));
    let at = bind(&pull, "tcp").await;
    let mut peer = RawPeer::handshaken(&at, "PUSH").await;
    eventually("the peer is known", || connected(&pull) == 1).await;
    let before = resident();
    let message = [&[2, 0, 0, 0, 0, 0, 0, 0x10, 0][..], &[b'x'; 4096]].concat();
    let flood = async {
        loop {
            peer.write(&message.repeat(100)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(1), flood).await.ok();
    let stats = pull.stats();
    assert_eq!(stats.peers[0].queued_in, 100);
    assert!(resident() < before + (24 << 20), "{} to {} octets", before, resident());
}

#[tokio::test]
async fn a_large_frame_takes_memory_as_it_comes_not_as_it_was_announced() {
    let _alone = ALONE.lock().await;
    let mut victim = Victim::new(Options::new()).await;
    let before = resident();
    let mut peers = Vec::new();
    for _ in 0..20 {
        let mut peer = RawPeer::handshaken(&victim.at, "PUSH").await;
        peer.write(&[2, 0, 0, 0, 0, 0x7f, 255, 255, 255]).await;
        peer.write(&[0; 1000]).await;
        peers.push(peer);
    }
    victim.still_serves("while they hold their breath").await;
    assert!(resident() < before + (32 << 20), "{} to {} octets", before, resident());
}

/// As many as descriptors allow, up to 10,000: both ends are in this process
#[tokio::test]
async fn thousands_that_say_nothing() {
    let _alone = ALONE.lock().await;
    let limit = getrlimit(Resource::Nofile);
    let wanted = limit.maximum.unwrap_or(21_000);
    setrlimit(Resource::Nofile, Rlimit { current: Some(wanted), maximum: limit.maximum }).unwrap();
    let count = usize::try_from(wanted.saturating_sub(100) / 2).unwrap().min(10_000);
    println!("{count} connections");

    let mut victim = Victim::new(Options::new().backlog(4096).max_handshakes(20_000)).await;
    let before = resident();
    let mut silent = Vec::with_capacity(count);
    for number in 0..count {
        silent.push(dial(&victim.at, number).await);
        if number % 500 == 0 {
            victim.still_serves(&format!("with {number}")).await;
        }
    }
    // Each is sent the signature when it was accepted
    for peer in &mut silent {
        let mut signature = [0; 10];
        soon("a signature", peer.read_exact(&mut signature)).await.unwrap();
    }
    let each = (resident() - before.min(resident())) / count;
    println!("{each} octets for each");
    assert!(each < 16 * 1024, "{each} octets for each");
    victim.still_serves("with all of them").await;
    drop(silent);
    eventually("they are all gone", || {
        victim.closes("peer-closed") + victim.closes("transport-failed") == count as u64
    })
    .await;
    victim.still_serves("after all of them").await;
}

/// Neither a connection that waits nor a frame that was begun holds a buffer to read into
#[tokio::test]
async fn a_thousand_that_stop_in_a_frame() {
    let _alone = ALONE.lock().await;
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit }).unwrap();
    let mut victim = Victim::new(Options::new().backlog(4096)).await;
    victim.still_serves("alone").await;
    let before = resident();
    let mut peers = Vec::with_capacity(1000);
    for _ in 0..1000 {
        let mut peer = RawPeer::handshaken(&victim.at, "PUSH").await;
        peer.write(&[0, 100, b'x']).await;
        peers.push(peer);
    }
    victim.still_serves("with all of them").await;
    let each = (resident() - before.min(resident())) / peers.len();
    println!("{each} octets for each");
    assert!(each < 8 * 1024, "{each} octets for each");
}

/// Connects from one of several loopback addresses, since one alone has fewer ports than are needed
async fn dial(at: &Endpoint, number: usize) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    let from: SocketAddr = format!("127.0.1.{}:0", number / 4000 + 1).parse().unwrap();
    socket.bind(from).unwrap();
    soon("a raw connection", socket.connect(address(at))).await.unwrap()
}

/// Octets of memory that this process holds
fn resident() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<usize>().unwrap() * 1024
}

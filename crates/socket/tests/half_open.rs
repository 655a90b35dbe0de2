//! Ten thousand peers that begin a handshake and say no more: memory is bounded, and honest clients get in.
//!
//! Memory and descriptors are the whole process's, so this is one test in a binary of its own.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that can't go on fails")]

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tidings_socket::SocketType::{Pull, Push};
use tidings_socket::{Context, CurvePublicKey, CurveSecretKey, Endpoint, Options, SystemEntropy};
use tidings_zmtp::{Config, Connection, CurveClient, MechanismConfig};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};

#[path = "it/support.rs"]
#[allow(dead_code, reason = "shared with another binary, which uses the rest")]
mod support;

use support::*;

/// What is not handshaken is bounded, whatever its number, and who means it gets in
#[tokio::test]
async fn ten_thousand_half_open_handshakes() {
    const COUNT: usize = 10_000;
    let limit = getrlimit(Resource::Nofile);
    let wanted = limit.maximum.unwrap_or(20_000);
    assert!(wanted >= 15_000, "{wanted} descriptors are not enough for both ends");
    setrlimit(Resource::Nofile, Rlimit { current: Some(wanted), maximum: limit.maximum }).unwrap();
    let key = || CurveSecretKey::generate(&SystemEntropy).unwrap();
    let (own, server) = (key(), key());
    let curve = Options::new().curve_secret_key(Some(own.clone())).curve_server_key(Some(server.public()));
    let curve_server = Options::new().curve_server(true).curve_secret_key(Some(server.clone()));
    // Upper bounds: the second round's counts what the first one's memory has become
    let before = resident();
    for (label, options, honest) in [("NULL", Options::new(), Options::new()), ("CURVE", curve_server, curve)] {
        let context = Context::new();
        let pull = socket_with(&context, Pull, options.backlog(4096));
        let at = bind(&pull, "tcp").await;
        let (mut most, mut peak) = (Duration::ZERO, 0);
        let mut silent = Vec::with_capacity(COUNT);
        for number in 0..COUNT {
            let mut stream = dial(&at, number).await;
            if label == "CURVE" {
                hello(&mut stream, &own, server.public()).await;
            }
            silent.push(stream);
            if number % 500 == 499 {
                let push = socket_with(&context, Push, honest.clone());
                let begun = std::time::Instant::now();
                soon(format!("{label}: an honest client with {number}"), push.connect(&at).unwrap()).await.unwrap();
                most = most.max(begun.elapsed());
                send(&push, "honest").await;
                assert_eq!(receive(&pull, label).await, "honest");
                peak = peak.max(resident());
            }
        }
        let closed = pull.stats().closes.get("too-many-handshakes").copied().unwrap_or_default();
        let held = COUNT as u64 - closed;
        assert!((4000..=4096).contains(&held), "{label}: {held} are held");
        let each = peak.saturating_sub(before) / 4096;
        println!(
            "{label}: {held} of {COUNT} half-open are held, {each} octets for each, honest clients in after {most:?} at most"
        );
        assert!(each < 24 * 1024, "{label}: {each} octets for each");
        assert!(most < Duration::from_secs(5), "{label}: {most:?}");
    }
}

/// As a CURVE client does, up to its HELLO: the server has made its keys and waits for INITIATE
async fn hello(stream: &mut TcpStream, own: &CurveSecretKey, server: CurvePublicKey) {
    let mechanism = MechanismConfig::CurveClient(CurveClient::new(own.clone(), server, Arc::new(SystemEntropy)));
    let now = std::time::Instant::now();
    let mut client = Connection::new(Config::new(Push).mechanism(mechanism), now);
    let mut heard = BytesMut::new();
    for expected in [64, 170] {
        if let Some(octets) = client.poll_transmit() {
            soon("a raw write", stream.write_all(&octets)).await.unwrap();
        }
        while heard.len() < expected {
            soon("the server's part", stream.read_buf(&mut heard)).await.unwrap();
        }
        if expected == 64 {
            client.handle_input(now, &mut heard, 0);
            heard.clear();
        }
    }
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

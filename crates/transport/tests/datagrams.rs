//! Datagrams on loopback, to one host and to groups.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a helper of tests fails the test")]

use std::time::Duration;

use tidings_transport::{DatagramError, DatagramOptions, Datagrams, Endpoint, UdpEndpoint};
use tokio::time::timeout;

fn udp(text: &str) -> UdpEndpoint {
    match text.parse() {
        Ok(Endpoint::Udp(udp)) => udp,
        other => panic!("{text}: {other:?}"),
    }
}

async fn received(datagrams: &Datagrams) -> Vec<u8> {
    let mut buffer = vec![0; Datagrams::LARGEST];
    let (length, _) =
        timeout(PATIENCE, datagrams.recv_from(&mut buffer)).await.expect("it arrives").expect("it is whole");
    buffer.truncate(length);
    buffer
}

async fn pair(bound: &str) -> (Datagrams, Datagrams) {
    let options = DatagramOptions::default();
    let receiver = Datagrams::bind(&udp(bound), &options).await.unwrap();
    let sender = Datagrams::connect(receiver.endpoint(), &options).await.unwrap();
    (sender, receiver)
}

#[tokio::test]
async fn what_is_sent_arrives_packet_by_packet() {
    let (sender, receiver) = pair("udp://127.0.0.1:*").await;
    for payload in [&b"\x02tvHELLO"[..], b"", &[7; 8192], &[8; 65_507]] {
        sender.send(payload).await.unwrap();
        assert_eq!(received(&receiver).await, payload, "{} octets", payload.len());
    }
}

#[tokio::test]
async fn what_is_too_large_is_refused_with_its_limit() {
    let (sender, receiver) = pair("udp://127.0.0.1:*").await;
    let error = sender.send(&vec![0; 65_508]).await.unwrap_err();
    assert!(matches!(error, DatagramError::TooLarge { octets: 65_508, most: 65_507 }), "{error}");
    assert!(error.to_string().contains("65508") && error.to_string().contains("65507"), "{error}");
    sender.send(b"next").await.unwrap();
    assert_eq!(received(&receiver).await, b"next");
}

#[tokio::test]
async fn a_group_reaches_all_its_members_on_the_interface() {
    let options = DatagramOptions::default();
    let first =
        Datagrams::bind(&udp("udp://127.0.0.1;239.255.77.1:*"), &options).await.expect("loopback carries groups");
    let second = Datagrams::bind(first.endpoint(), &options).await.unwrap();
    assert!(first.endpoint().is_multicast());
    let sender = Datagrams::connect(first.endpoint(), &options.clone().multicast_hops(0)).await.unwrap();
    sender.send(b"to all").await.unwrap();
    for member in [&first, &second] {
        assert_eq!(received(member).await, b"to all");
    }
    let by_name = Datagrams::bind(&udp("udp://lo;239.255.77.2:*"), &options).await.unwrap();
    let sender = Datagrams::connect(by_name.endpoint(), &options).await.unwrap();
    sender.send(b"by name").await.unwrap();
    assert_eq!(received(&by_name).await, b"by name");
}

/// An address of this machine on a real interface: `lo` hands everything back, whatever the option says
fn real_address() -> Option<std::net::IpAddr> {
    let socket = std::net::UdpSocket::bind("0.0.0.0:0").ok()?;
    // Nothing is sent: the system only looks up its way (192.0.2.1 is for documents, RFC 5737)
    socket.connect("192.0.2.1:9").ok()?;
    Some(socket.local_addr().ok()?.ip()).filter(|address| !address.is_loopback() && !address.is_unspecified())
}

#[tokio::test]
async fn without_loop_the_own_machine_hears_nothing() {
    let Some(address) = real_address() else {
        return println!("left out: this machine has no interface but loopback");
    };
    // Zero hops: no packet leaves the machine
    let options = DatagramOptions::default().multicast_hops(0);
    let member = Datagrams::bind(&udp(&format!("udp://{address};239.255.77.3:*")), &options).await.unwrap();
    let quiet = Datagrams::connect(member.endpoint(), &options.clone().multicast_loop(false)).await.unwrap();
    let loud = Datagrams::connect(member.endpoint(), &options).await.unwrap();
    quiet.send(b"unheard").await.unwrap();
    loud.send(b"heard").await.unwrap();
    assert_eq!(received(&member).await, b"heard", "the first one did not arrive before it");
}

#[tokio::test]
async fn over_ipv6_too() {
    let options = DatagramOptions::default();
    let receiver = match Datagrams::bind(&udp("udp://[::1]:*"), &options).await {
        Ok(receiver) => receiver,
        Err(error) => return println!("left out, this machine has no IPv6: {error}"),
    };
    let sender = Datagrams::connect(receiver.endpoint(), &options).await.unwrap();
    assert_eq!(sender.max_payload(), 65_527);
    sender.send(b"six").await.unwrap();
    assert_eq!(received(&receiver).await, b"six");
}

#[tokio::test]
async fn a_host_that_says_nobody_is_there_is_counted() {
    let (sender, receiver) = pair("udp://127.0.0.1:*").await;
    drop(receiver);
    timeout(PATIENCE, async {
        while sender.refusals() == 0 {
            sender.send(b"anybody?").await.unwrap();
        }
    })
    .await
    .expect("loopback answers at once");
}

#[tokio::test]
async fn what_can_not_be_used_says_why() {
    let options = DatagramOptions::default();
    let error = Datagrams::bind(&udp("udp://no-such-interface;239.0.0.1:*"), &options).await.unwrap_err();
    assert!(matches!(error, DatagramError::Interface { .. }) && error.to_string().contains("lo"), "{error}");
    let error = Datagrams::connect(&udp("udp://*:1"), &options).await.unwrap_err();
    assert!(matches!(error, DatagramError::Endpoint(_)), "{error}");
    let taken = Datagrams::bind(&udp("udp://127.0.0.1:*"), &options).await.unwrap();
    let error = Datagrams::bind(taken.endpoint(), &options).await.unwrap_err();
    assert!(matches!(error, DatagramError::System { .. }), "{error}");
}

/// Longer than any packet takes on loopback, shorter than a person's
const PATIENCE: Duration = Duration::from_secs(10);

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
    let first = Datagrams::bind(&udp("udp://127.0.0.1;239.255.77.1:*"), &options).await.expect(LO);
    let second = Datagrams::bind(first.endpoint(), &options).await.unwrap();
    assert!(first.endpoint().is_multicast());
    let sender = Datagrams::connect(first.endpoint(), &options.clone().multicast_hops(0)).await.unwrap();
    sender.send(b"to all").await.unwrap();
    for member in [&first, &second] {
        assert_eq!(received(member).await, b"to all");
    }
    let dressed = first.endpoint().to_string().replace("239.255.77.1", "[::ffff:239.255.77.1]");
    let third = Datagrams::bind(&udp(&format!("udp://{dressed}")), &options).await.unwrap();
    sender.send(b"dressed as IPv6").await.unwrap();
    assert_eq!(received(&third).await, b"dressed as IPv6");
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
    assert!(matches!(error, DatagramError::InUse { .. }), "{error}");
    // 203.0.113.0/24 is for documents (RFC 5737), no machine has it
    let error = Datagrams::bind(&udp("udp://203.0.113.9:*"), &options).await.unwrap_err();
    assert!(matches!(error, DatagramError::NotLocal { .. }), "{error}");
    let error = Datagrams::connect(&udp("udp://203.0.113.9;127.0.0.1:9"), &options).await.unwrap_err();
    assert!(error.to_string().contains("can't leave from 203.0.113.9:0"), "{error}");
    for contradiction in ["udp://127.0.0.1;[ff02::1]:*", "udp://[::1];239.255.77.1:*", "udp://lo;127.0.0.1:*"] {
        let error = Datagrams::bind(&udp(contradiction), &options).await.unwrap_err();
        assert!(matches!(error, DatagramError::Interface { .. }), "{contradiction}: {error}");
    }
    let error = taken.send(b"to whom?").await.unwrap_err();
    assert!(matches!(error, DatagramError::NoDestination { .. }), "{error}");
}

#[tokio::test]
async fn what_does_not_fit_the_buffer_is_told() {
    let (sender, receiver) = pair("udp://127.0.0.1:*").await;
    for payload in [&[1; 9][..], &[2; 8], b""] {
        sender.send(payload).await.unwrap();
    }
    let mut short = [0; 8];
    let error = timeout(PATIENCE, receiver.recv_from(&mut short)).await.unwrap().unwrap_err();
    let DatagramError::Truncated { octets: 9, room: 8, from } = error else { panic!("{error}") };
    let (length, second) = timeout(PATIENCE, receiver.recv_from(&mut short)).await.unwrap().unwrap();
    assert_eq!((length, short, second), (8, [2; 8], from));
    assert_eq!(timeout(PATIENCE, receiver.recv_from(&mut [])).await.unwrap().unwrap(), (0, from));
}

#[tokio::test]
async fn without_fragments_the_path_says_how_much_fits() {
    let options = DatagramOptions::default().fragment(false);
    for (bound, longest, headers) in [("udp://127.0.0.1:*", 65_507, 28), ("udp://[::1]:*", 65_527, 48)] {
        let Ok(receiver) = Datagrams::bind(&udp(bound), &options).await else {
            println!("{bound} left out: this machine doesn't have it");
            continue;
        };
        let sender = Datagrams::connect(receiver.endpoint(), &options).await.unwrap();
        let fits = sender.max_payload();
        assert!(fits <= longest, "{bound}: {fits}");
        if let Some(mtu) = loopback_mtu() {
            assert_eq!(fits, (mtu - headers).min(longest), "{bound}");
        }
        let error = sender.send(&vec![0; fits + 1]).await.unwrap_err();
        assert!(
            matches!(error, DatagramError::TooLarge { octets, most } if octets == fits + 1 && most == fits),
            "{error}"
        );
        sender.send(&vec![3; fits]).await.unwrap();
        assert_eq!(received(&receiver).await.len(), fits);
    }
}

fn loopback_mtu() -> Option<usize> {
    std::fs::read_to_string("/sys/class/net/lo/mtu").ok()?.trim().parse().ok()
}

#[tokio::test]
async fn options_reach_the_socket() {
    let options =
        DatagramOptions::default().multicast_hops(7).multicast_loop(false).tos(0x20).send_buffer(Some(40_000));
    let options = options.receive_buffer(Some(50_000));
    let sender = Datagrams::connect(&udp("udp://127.0.0.1;239.255.77.4:9"), &options).await.unwrap();
    let socket = socket2::SockRef::from(&sender);
    assert_eq!(socket.multicast_ttl_v4().unwrap(), 7);
    assert!(!socket.multicast_loop_v4().unwrap());
    assert_eq!(socket.tos_v4().unwrap(), 0x20);
    assert_eq!(socket.multicast_if_v4().unwrap().to_string(), "127.0.0.1");
    // Linux answers with the double (socket(7))
    assert_eq!(socket.send_buffer_size().unwrap(), 80_000);
    assert_eq!(socket.recv_buffer_size().unwrap(), 100_000);
    let default =
        Datagrams::connect(&udp("udp://127.0.0.1;239.255.77.4:9"), &DatagramOptions::default()).await.unwrap();
    let socket = socket2::SockRef::from(&default);
    assert_eq!((socket.multicast_ttl_v4().unwrap(), socket.multicast_loop_v4().unwrap()), (1, true));
}

#[tokio::test]
async fn an_interface_in_front_of_any_host_is_its_address() {
    let options = DatagramOptions::default();
    let receiver = Datagrams::bind(&udp("udp://lo;*:*"), &options).await.unwrap();
    assert!(Endpoint::Udp(receiver.endpoint().clone()).is_loopback_or_local(), "{:?}", receiver.endpoint());
    let mut from_nine = receiver.endpoint().clone();
    from_nine.interface = udp("udp://127.0.0.9;*:1").interface;
    let sender = Datagrams::connect(&from_nine, &options).await.unwrap();
    sender.send(b"whence").await.unwrap();
    let mut buffer = [0; 16];
    let (length, from) = timeout(PATIENCE, receiver.recv_from(&mut buffer)).await.unwrap().unwrap();
    assert_eq!((&buffer[..length], from.ip().to_string().as_str()), (&b"whence"[..], "127.0.0.9"));
}

/// Somebody else's membership on a real interface does not open the group for a member on loopback
#[tokio::test]
async fn a_member_on_loopback_hears_no_other_interface() {
    let Some(address) = real_address() else {
        return println!("left out: this machine has no interface but loopback");
    };
    let options = DatagramOptions::default().multicast_hops(0);
    let inside = Datagrams::bind(&udp("udp://127.0.0.1;239.255.77.5:*"), &options).await.unwrap();
    let mut on_the_network = inside.endpoint().clone();
    on_the_network.interface = udp(&format!("udp://{address};*:1")).interface;
    let outside = Datagrams::bind(&on_the_network, &options).await.unwrap();
    Datagrams::connect(&on_the_network, &options).await.unwrap().send(b"from the network").await.unwrap();
    assert_eq!(received(&outside).await, b"from the network");
    Datagrams::connect(inside.endpoint(), &options).await.unwrap().send(b"from within").await.unwrap();
    assert_eq!(received(&inside).await, b"from within");
}

/// What goes to the port but not to the group stays away
#[tokio::test]
async fn a_member_hears_its_group_alone() {
    let options = DatagramOptions::default();
    let member = Datagrams::bind(&udp("udp://lo;239.255.77.6:*"), &options).await.unwrap();
    let port = member.endpoint().port;
    let other = Datagrams::bind(&udp(&format!("udp://lo;239.255.77.7:{port}")), &options).await.unwrap();
    Datagrams::connect(other.endpoint(), &options).await.unwrap().send(b"to the other").await.unwrap();
    assert_eq!(received(&other).await, b"to the other");
    let direct = Datagrams::connect(&udp(&format!("udp://127.0.0.1:{port}")), &options).await.unwrap();
    direct.send(b"to the port").await.unwrap();
    Datagrams::connect(member.endpoint(), &options).await.unwrap().send(b"to the group").await.unwrap();
    assert_eq!(received(&member).await, b"to the group");
}

/// On an interface that has a way to groups of IPv6, which loopback mostly hasn't; ff01 never leaves it (RFC 4291)
#[tokio::test]
async fn groups_of_ipv6_too() {
    let options = DatagramOptions::default();
    let names = std::fs::read_dir("/sys/class/net").into_iter().flatten().flatten();
    let mut refusals = Vec::new();
    for name in names.map(|entry| entry.file_name().into_string().unwrap()) {
        let zoned = udp(&format!("udp://[ff01::77:1%{name}]:*"));
        let in_front = udp(&format!("udp://{name};[ff01::77:2]:*"));
        for endpoint in [zoned, in_front] {
            let member = match Datagrams::bind(&endpoint, &options).await {
                Ok(member) => member,
                Err(error) => {
                    refusals.push(error);
                    continue;
                }
            };
            match Datagrams::connect(member.endpoint(), &options).await {
                Ok(sender) => {
                    sender.send(b"six").await.unwrap();
                    assert_eq!(received(&member).await, b"six", "{endpoint}");
                }
                Err(error) => refusals.push(error),
            }
        }
    }
    println!("interfaces without: {refusals:?}");
}

/// Why a machine may fail here
const LO: &str =
    "Linux joins groups of IPv4 on 127.0.0.1 unless IP multicast is left out of the kernel (CONFIG_IP_MULTICAST)";

/// Longer than any packet takes on loopback, shorter than a person's
const PATIENCE: Duration = Duration::from_secs(10);

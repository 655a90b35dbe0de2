//! tcp: addresses, names, interfaces, wildcards, sources, timeouts.

use std::future::poll_fn;
use std::time::Duration;

use tidings_transport::{DialError, Endpoint, Host, ListenError, PeerAddress, Port, StreamOptions};
use tokio::time::Instant;

use crate::{assert_connected, connect, dial, endpoint, has_ipv6, listen};

fn port(endpoint: &Endpoint) -> u16 {
    let Endpoint::Tcp(tcp) = endpoint else { panic!("{endpoint} is not tcp") };
    assert_ne!(tcp.port, Port::Ephemeral);
    tcp.port.number()
}

#[tokio::test]
async fn an_ephemeral_port_is_reported_and_reached() {
    for text in ["tcp://127.0.0.1:*", "tcp://127.0.0.1:0"] {
        let listener = listen(text).await.unwrap();
        assert_eq!(
            listener.local_endpoint().to_string(),
            format!("tcp://127.0.0.1:{}", port(listener.local_endpoint()))
        );
        assert_connected(connect(&listener).await).await;
    }
}

#[tokio::test]
async fn both_ends_know_each_others_address() {
    let listener = listen("tcp://127.0.0.1:*").await.unwrap();
    let (near, far) = connect(&listener).await;
    assert_eq!(far.local_address().as_ref(), Some(listener.local_endpoint()));
    let PeerAddress::Tcp(peer) = far.peer_address() else { panic!("{:?}", far.peer_address()) };
    assert_eq!(near.local_address(), Some(endpoint(&format!("tcp://{peer}"))));
    assert_eq!(near.peer_address().to_string(), format!("127.0.0.1:{}", port(listener.local_endpoint())));
}

#[tokio::test]
async fn polling_accepts_as_awaiting_does() {
    let listener = listen("tcp://127.0.0.1:*").await.unwrap();
    let text = listener.local_endpoint().to_string();
    let near = dial(&text).await.unwrap();
    let far = poll_fn(|cx| listener.poll_accept(cx)).await.unwrap();
    assert_connected((near, far)).await;
}

#[tokio::test]
async fn a_wildcard_host_is_every_ipv4_address() {
    let listener = listen("tcp://*:*").await.unwrap();
    let port = port(listener.local_endpoint());
    assert_eq!(listener.local_endpoint().to_string(), format!("tcp://0.0.0.0:{port}"));
    for host in ["127.0.0.1", "127.0.0.9", "localhost"] {
        let text = format!("tcp://{host}:{port}");
        let near = dial(&text).await.unwrap();
        let far = listener.accept().await.unwrap();
        assert_connected((near, far)).await;
    }
    assert!(matches!(dial(&format!("tcp://[::1]:{port}")).await, Err(DialError::Connect { .. })));
}

#[tokio::test]
async fn a_wildcard_host_is_both_families_with_ipv6_on() {
    if !has_ipv6() {
        return;
    }
    let options = StreamOptions::default().ipv6(true);
    let listener = tidings_transport::listen(&endpoint("tcp://*:*"), &options).await.unwrap();
    let port = port(listener.local_endpoint());
    assert_eq!(listener.local_endpoint().to_string(), format!("tcp://[::]:{port}"));
    for host in ["127.0.0.1", "[::1]"] {
        let text = format!("tcp://{host}:{port}");
        let near = dial(&text).await.unwrap();
        let far = listener.accept().await.unwrap();
        // An IPv4 peer is shown as one
        let shown = far.peer_address().to_string();
        assert!(shown.starts_with(&format!("{host}:")), "{shown}");
        assert_connected((near, far)).await;
    }
}

#[tokio::test]
async fn an_ipv6_address_works_without_the_ipv6_option() {
    if !has_ipv6() {
        return;
    }
    let listener = listen("tcp://[::1]:*").await.unwrap();
    assert!(listener.local_endpoint().is_loopback_or_local());
    assert_connected(connect(&listener).await).await;
}

#[tokio::test]
async fn a_name_is_tried_in_both_families_with_ipv6_on() {
    let listener = listen("tcp://127.0.0.1:*").await.unwrap();
    let text = format!("tcp://localhost:{}", port(listener.local_endpoint()));
    let options = StreamOptions::default().ipv6(true);
    let target = endpoint(&text);
    let near = tidings_transport::dial(&target, &options).await.unwrap();
    let far = listener.accept().await.unwrap();
    assert_connected((near, far)).await;
}

#[tokio::test]
async fn an_interface_name_is_its_address() {
    for host in ["lo", "localhost"] {
        let listener = listen(&format!("tcp://{host}:*")).await.unwrap();
        let Endpoint::Tcp(tcp) = listener.local_endpoint() else { panic!() };
        assert_eq!(tcp.host, Host::Ip([127, 0, 0, 1].into()), "{host}");
        assert!(listener.local_endpoint().is_loopback_or_local());
        assert_connected(connect(&listener).await).await;
    }
}

#[tokio::test]
async fn a_host_that_is_neither_interface_nor_name_lists_the_interfaces() {
    // A label of 64 letters is one too many for any name server (RFC 1035, section 2.3.4), so none is asked
    let unknown = "x".repeat(64);
    let error = listen(&format!("tcp://{unknown}:*")).await.unwrap_err();
    let ListenError::Resolve { host, interfaces, .. } = &error else { panic!("{error:?}") };
    assert_eq!(*host, unknown);
    assert!(interfaces.contains(&"lo".to_owned()));
    assert!(error.to_string().starts_with(&format!("can't bind to {unknown}: ")), "{error}");
}

#[tokio::test]
async fn a_source_address_is_where_the_connection_comes_from() {
    let listener = listen("tcp://127.0.0.1:*").await.unwrap();
    let port = port(listener.local_endpoint());
    for (source, from) in [("127.0.0.5:*", "127.0.0.5:"), ("lo:*", "127.0.0.1:"), ("*:*", "127.0.0.1:")] {
        let text = format!("tcp://{source};127.0.0.1:{port}");
        let near = dial(&text).await.unwrap();
        let far = listener.accept().await.unwrap();
        let shown = far.peer_address().to_string();
        assert!(shown.starts_with(from), "{source}: {shown}");
        assert_connected((near, far)).await;
    }
}

#[tokio::test]
async fn a_source_port_is_shared_by_connections_to_several_servers() {
    let first = listen("tcp://127.0.0.1:*").await.unwrap();
    let second = listen("tcp://127.0.0.1:*").await.unwrap();
    let (near, far) = connect(&first).await;
    let Some(Endpoint::Tcp(local)) = near.local_address() else { panic!() };
    drop((near, far));
    let to = |server: &tidings_transport::Listener| {
        format!("tcp://127.0.0.7:{};127.0.0.1:{}", local.port, port(server.local_endpoint()))
    };
    let _one = dial(&to(&first)).await.unwrap();
    let _two = dial(&to(&second)).await.unwrap();
}

#[tokio::test]
async fn a_foreign_source_or_bind_address_is_named() {
    let listener = listen("tcp://127.0.0.1:*").await.unwrap();
    // 192.0.2.0/24 and 203.0.113.0/24 are for documentation (RFC 5737); no machine here has the latter
    let text = format!("tcp://203.0.113.9:*;127.0.0.1:{}", port(listener.local_endpoint()));
    let error = dial(&text).await.unwrap_err().to_string();
    assert!(error.contains("can't leave from 203.0.113.9:0"), "{error}");

    let error = listen("tcp://203.0.113.9:5555").await.unwrap_err();
    assert!(matches!(error, ListenError::NotLocal { .. }), "{error:?}");
}

#[tokio::test]
async fn a_taken_port_is_refused() {
    // An address that no other test takes ports of
    let listener = listen("tcp://127.0.0.21:*").await.unwrap();
    let text = listener.local_endpoint().to_string();
    let error = listen(&text).await.unwrap_err();
    assert!(matches!(&error, ListenError::InUse { endpoint } if *endpoint == text), "{error:?}");
    drop(listener);
    listen(&text).await.unwrap();
}

#[tokio::test]
async fn a_port_is_free_again_while_its_old_connections_linger() {
    // An address that no other test takes ports of
    let listener = listen("tcp://127.0.0.22:*").await.unwrap();
    let text = listener.local_endpoint().to_string();
    let (near, far) = connect(&listener).await;
    // The accepting end closes first, so TIME_WAIT is on the listener's port
    drop(far);
    drop(listener);
    drop(near);
    listen(&text).await.unwrap();
}

#[tokio::test]
async fn nobody_there_is_refused_with_the_address() {
    // Bound but never listening, so that nobody else gets the port meanwhile
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    socket.bind(&std::net::SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
    let address = socket.local_addr().unwrap().as_socket().unwrap().to_string();
    let error = dial(&format!("tcp://{address}")).await.unwrap_err();
    let DialError::Connect { attempts } = &error else { panic!("{error:?}") };
    assert_eq!(attempts.len(), 1);
    assert_eq!(attempts[0].0.to_string(), address);
    assert_eq!(attempts[0].1.kind(), std::io::ErrorKind::ConnectionRefused);
}

#[tokio::test]
async fn wildcards_are_not_dialled_nor_sources_bound() {
    assert!(matches!(dial("tcp://*:5555").await, Err(DialError::Endpoint(_))));
    assert!(matches!(dial("tcp://127.0.0.1:*").await, Err(DialError::Endpoint(_))));
    assert!(matches!(listen("tcp://127.0.0.1:*;127.0.0.1:5555").await, Err(ListenError::Endpoint(_))));
    assert!(matches!(dial("inproc://a").await, Err(DialError::Unsupported { .. })));
    assert!(matches!(listen("inproc://a").await, Err(ListenError::Unsupported { .. })));
}

/// The clock is virtual: it jumps when nothing but a timer is left to wait for
#[tokio::test(start_paused = true)]
async fn a_listener_that_takes_nobody_is_given_up_on_time() {
    let no_backlog = StreamOptions::default().backlog(0);
    let full = tidings_transport::listen(&endpoint("tcp://127.0.0.1:*"), &no_backlog).await.unwrap();
    let timeout = Duration::from_secs(30);
    let options = StreamOptions::default().connect_timeout(Some(timeout));
    let mut waiting = Vec::new();
    let error = loop {
        assert!(waiting.len() < 64, "the backlog never fills");
        let begun = Instant::now();
        match tidings_transport::dial(full.local_endpoint(), &options).await {
            Ok(stream) => waiting.push(stream),
            Err(error) => {
                assert_eq!(begun.elapsed().as_secs(), timeout.as_secs());
                break error;
            }
        }
    };
    assert!(!waiting.is_empty(), "the first connection fits");
    assert!(matches!(error, DialError::TimedOut { after, .. } if after == timeout), "{error:?}");
}

#[tokio::test]
async fn an_abandoned_accept_loses_no_connection() {
    let listener = listen("tcp://127.0.0.1:*").await.unwrap();
    {
        let mut accept = std::pin::pin!(listener.accept());
        assert!(poll_fn(|cx| std::task::Poll::Ready(accept.as_mut().poll(cx).is_pending())).await);
    }
    assert_connected(connect(&listener).await).await;
}

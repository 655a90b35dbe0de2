//! Options as the system has them: set through `StreamOptions`, read back from the sockets of both ends.

use std::time::Duration;

use socket2::SockRef;
use tidings_transport::{DialError, ListenError, Stream, StreamOptions};

use crate::{endpoint, has_ipv6, listen};

async fn both_ends(text: &str, options: &StreamOptions) -> [Stream; 2] {
    let listener = tidings_transport::listen(&endpoint(text), options).await.unwrap();
    let target = listener.local_endpoint().clone();
    let near = tidings_transport::dial(&target, options).await.unwrap();
    [near, listener.accept().await.unwrap()]
}

fn socket(stream: &Stream) -> SockRef<'_> {
    match stream {
        Stream::Tcp(stream) => SockRef::from(stream),
        Stream::Unix(stream) => SockRef::from(stream),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn nagle_is_always_off_and_the_rest_is_the_systems() {
    for stream in both_ends("tcp://127.0.0.1:*", &StreamOptions::default()).await {
        let socket = socket(&stream);
        assert!(socket.tcp_nodelay().unwrap());
        assert!(!socket.keepalive().unwrap());
        assert_eq!(socket.tos_v4().unwrap(), 0);
        assert_eq!(socket.tcp_user_timeout().unwrap(), None);
    }
}

#[tokio::test]
async fn every_option_reaches_both_ends() {
    let options = StreamOptions::default()
        .keepalive(Some(true))
        .keepalive_idle(Some(Duration::from_secs(61)))
        .keepalive_interval(Some(Duration::from_secs(7)))
        .keepalive_count(Some(3))
        .tos(0x20)
        .send_buffer(Some(40_000))
        .receive_buffer(Some(50_000))
        .max_retransmit(Some(Duration::from_millis(12_345)));
    for stream in both_ends("tcp://127.0.0.1:*", &options).await {
        let socket = socket(&stream);
        assert!(socket.tcp_nodelay().unwrap());
        assert!(socket.keepalive().unwrap());
        assert_eq!(socket.tcp_keepalive_time().unwrap().as_secs(), 61);
        assert_eq!(socket.tcp_keepalive_interval().unwrap().as_secs(), 7);
        assert_eq!(socket.tcp_keepalive_retries().unwrap(), 3);
        assert_eq!(socket.tos_v4().unwrap(), 0x20);
        // Linux answers with the double (socket(7))
        assert_eq!(socket.send_buffer_size().unwrap(), 80_000);
        assert_eq!(socket.recv_buffer_size().unwrap(), 100_000);
        assert_eq!(socket.tcp_user_timeout().unwrap(), Some(Duration::from_millis(12_345)));
    }
}

#[tokio::test]
async fn keepalive_figures_wait_for_keepalive() {
    let options = StreamOptions::default().keepalive(Some(false)).keepalive_idle(Some(Duration::from_secs(61)));
    for stream in both_ends("tcp://127.0.0.1:*", &options).await {
        assert!(!socket(&stream).keepalive().unwrap());
        assert_ne!(socket(&stream).tcp_keepalive_time().unwrap().as_secs(), 61);
    }
}

#[tokio::test]
async fn the_type_of_service_has_another_name_on_ipv6() {
    if !has_ipv6() {
        return;
    }
    for stream in both_ends("tcp://[::1]:*", &StreamOptions::default().tos(0x20)).await {
        assert_eq!(socket(&stream).tclass_v6().unwrap(), 0x20);
    }
}

#[tokio::test]
async fn a_local_socket_takes_the_buffers() {
    let options = StreamOptions::default().send_buffer(Some(40_000)).receive_buffer(Some(50_000));
    let [near, _] = both_ends("ipc://*", &options).await;
    assert_eq!(socket(&near).send_buffer_size().unwrap(), 80_000);
    assert_eq!(socket(&near).recv_buffer_size().unwrap(), 100_000);
}

#[tokio::test]
async fn a_device_is_bound_to_or_named_in_the_error() {
    let options = StreamOptions::default().bind_to_device(Some("lo".to_owned()));
    for stream in both_ends("tcp://127.0.0.1:*", &options).await {
        assert_eq!(socket(&stream).device().unwrap().as_deref(), Some(b"lo".as_slice()));
    }

    let options = StreamOptions::default().bind_to_device(Some("nosuch0".to_owned()));
    let refused =
        "the system refused the option bind_to_device: No such device (os error 19); change it or leave it out";
    let error = tidings_transport::listen(&endpoint("tcp://127.0.0.1:*"), &options).await.unwrap_err();
    assert!(matches!(error, ListenError::Option { option: "bind_to_device", .. }));
    assert_eq!(error.to_string(), refused);
    let listener = listen("tcp://127.0.0.1:*").await.unwrap();
    let error = tidings_transport::dial(listener.local_endpoint(), &options).await.unwrap_err();
    assert!(matches!(error, DialError::Option { option: "bind_to_device", .. }));
    assert_eq!(error.to_string(), refused);
}

//! STREAM against plain TCP programs.

use tidings_socket::SocketType::Stream;
use tidings_socket::{Bytes, Context, Message, Options, SendFailure, Socket};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::support::*;

#[tokio::test]
async fn a_plain_client_comes_talks_and_goes() {
    let context = Context::new();
    let stream = socket(&context, Stream);
    let at = bind(&stream, "tcp").await;
    let mut client = TcpStream::connect(address(&at)).await.unwrap();
    let (id, greeting) = part(&stream, "the connection").await;
    assert_eq!(greeting, "", "an empty message tells of the connection");

    client.write_all(b"GET /").await.unwrap();
    assert_eq!(part(&stream, "octets").await, (id.clone(), "GET /".to_owned()));

    stream.try_send(Message::multipart([id.clone(), "200 ".into()])).unwrap();
    stream.try_send(Message::multipart([id.clone(), "OK".into()])).unwrap();
    // An empty message closes the connection, behind what was sent before
    stream.try_send(Message::multipart([id.clone(), Bytes::new()])).unwrap();
    let mut answer = String::new();
    soon("the answer and the end", client.read_to_string(&mut answer)).await.unwrap();
    assert_eq!(answer, "200 OK");
    drop(client);
    assert_eq!(part(&stream, "the end").await, (id.clone(), String::new()));
    let error = stream.try_send(Message::multipart([id, "too late".into()])).unwrap_err();
    assert_eq!(error.reason, SendFailure::Unroutable);
}

#[tokio::test]
async fn it_connects_to_a_plain_server_again_and_again() {
    let server = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = format!("tcp://{}", server.local_addr().unwrap());
    let context = Context::new();
    let stream = socket(&context, Stream);
    let connecting = stream.connect_as(&at, "upstream").unwrap();
    for round in 0..2 {
        let (mut peer, _) = soon("a connection", server.accept()).await.unwrap();
        assert_eq!(receive(&stream, "connected").await, "upstream|", "round {round}");
        stream.try_send(message("upstream|hello")).unwrap();
        let mut heard = [0; 5];
        soon("the octets", peer.read_exact(&mut heard)).await.unwrap();
        assert_eq!(&heard, b"hello");
        peer.write_all(b"hi").await.unwrap();
        drop(peer);
        assert_eq!(receive(&stream, "the answer").await, "upstream|hi");
        assert_eq!(receive(&stream, "disconnected").await, "upstream|", "round {round}");
    }
    soon("the outcome", connecting).await.unwrap();
}

#[tokio::test]
async fn it_need_not_tell_who_comes_and_goes() {
    let context = Context::new();
    let stream = socket_with(&context, Stream, Options::new().stream_notify(false));
    let at = bind(&stream, "tcp").await;
    let mut client = TcpStream::connect(address(&at)).await.unwrap();
    client.write_all(b"data").await.unwrap();
    drop(client);
    assert_eq!(part(&stream, "octets").await.1, "data");
    eventually("the peer is gone", || connected(&stream) == 0).await;
    assert!(stream.try_recv().is_err());
}

#[tokio::test]
async fn many_octets_arrive_in_order() {
    let context = Context::new();
    let stream = socket_with(&context, Stream, Options::new().recv_hwm(3).stream_notify(false));
    let at = bind(&stream, "tcp").await;
    let octets: Vec<u8> = (0..4_000_000u32).map(|n| (n % 251) as u8).collect();
    let sent = octets.clone();
    let client = tokio::spawn(async move {
        let mut client = TcpStream::connect(address(&at)).await.unwrap();
        client.write_all(&sent).await.unwrap();
    });
    let mut heard = Vec::new();
    while heard.len() < octets.len() {
        let message = soon("more octets", stream.recv()).await.unwrap();
        heard.extend_from_slice(message.frame(1).unwrap());
    }
    assert!(heard == octets);
    client.await.unwrap();
}

async fn part(stream: &Socket, what: &str) -> (Bytes, String) {
    let mut message = soon(what, stream.recv()).await.unwrap();
    let id = message.pop_front().unwrap();
    (id, text(&message))
}

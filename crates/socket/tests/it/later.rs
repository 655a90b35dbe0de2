//! CLIENT and SERVER, PEER, SCATTER and GATHER, CHANNEL (RFC 41, 49, 51, 52).

use std::collections::BTreeSet;

use tidings_socket::SocketType::{self, Channel, Client, Dish, Gather, Peer, Radio, Scatter, Server};
use tidings_socket::{
    ClientSocket, ConnectError, Context, Message, Options, PeerSocket, RecvError, SendFailure, ServerSocket,
};
use tokio::io::AsyncReadExt;
use tokio::net::TcpListener;

use crate::support::*;

#[tokio::test]
async fn each_pair_talks_whoever_connects() {
    for transport in TRANSPORTS {
        for (binds, connects) in
            [(Server, Client), (Client, Server), (Gather, Scatter), (Scatter, Gather), (Peer, Peer), (Channel, Channel)]
        {
            let label = format!("{connects} to {binds} over {transport}");
            let context = Context::new();
            let (server, client) = (socket(&context, binds), socket(&context, connects));
            link(transport, &server, &client).await;
            // Whoever may begin without an id
            let (asks, answers) = match (binds, connects) {
                (Client | Scatter | Channel, _) => (&server, &client),
                _ => (&client, &server),
            };
            for body in ["one frame", "", "several|frames||of ours", &"long".repeat(100)] {
                match asks.socket_type() {
                    Peer => {
                        let id = only_id(asks);
                        soon(&label, asks.send(with_id(id, message(body)))).await.unwrap();
                    }
                    _ => send(asks, body).await,
                }
                let mut received = soon(&label, answers.recv()).await.unwrap();
                let id = matches!(answers.socket_type(), Server | Peer).then(|| received.pop_front().unwrap());
                assert_eq!(text(&received), body, "{label}");
                if let Some(id) = &id {
                    received.push_front(id.clone());
                }
                if answers.socket_type() == Gather {
                    continue;
                }
                soon(&label, answers.send(received)).await.unwrap();
                let mut reply = soon(&label, asks.recv()).await.unwrap();
                if asks.socket_type() == Peer {
                    reply.pop_front().unwrap();
                }
                assert_eq!(text(&reply), body, "{label}");
            }
        }
    }
}

#[tokio::test]
async fn a_server_numbers_its_clients() {
    for transport in TRANSPORTS {
        let context = Context::new();
        let server = ServerSocket::new(&context).unwrap();
        let at = bind(server.as_socket(), transport).await;
        let mut clients = Vec::new();
        let mut ids = Vec::new();
        for number in 0..4 {
            let client = ClientSocket::new(&context).unwrap();
            connect(client.as_socket(), server.as_socket(), &at).await;
            send(client.as_socket(), &number.to_string()).await;
            let (id, body) = soon(transport, server.recv_from()).await.unwrap();
            assert_eq!(text(&body), number.to_string());
            ids.push(id);
            clients.push(client);
        }
        assert!(!ids.contains(&0), "{transport}: {ids:?}");
        assert_eq!(ids.iter().collect::<BTreeSet<_>>().len(), 4, "{transport}: {ids:?}");
        let next = |id: u32| if id == u32::MAX { 1 } else { id + 1 };
        assert!(ids.windows(2).all(|pair| pair[1] == next(pair[0])), "{transport}: {ids:?}");
        for (number, id) in ids.iter().enumerate().rev() {
            server.send_to(*id, format!("to {number}").into()).await.unwrap();
        }
        for (number, client) in clients.iter().enumerate() {
            assert_eq!(receive(client.as_socket(), transport).await, format!("to {number}"));
            assert!(client.try_recv().is_err(), "{transport}: nobody else's");
        }
    }
}

#[tokio::test]
async fn an_unknown_id_is_an_error_and_hands_the_message_back() {
    for transport in TRANSPORTS {
        let context = Context::new();
        let server = ServerSocket::new(&context).unwrap();
        let client = ClientSocket::new(&context).unwrap();
        link(transport, server.as_socket(), client.as_socket()).await;
        send(client.as_socket(), "hello").await;
        let (id, _) = soon(transport, server.recv_from()).await.unwrap();
        for wrong in [0, id.wrapping_add(1), id.wrapping_sub(1)] {
            let error = server.try_send_to(wrong, "lost?".into()).unwrap_err();
            assert_eq!(error.reason, SendFailure::Unroutable, "{transport}");
            assert_eq!(text(&error.message), "lost?", "{transport}: without the id");
            assert_eq!(server.send_to(wrong, "lost?".into()).await.unwrap_err().reason, SendFailure::Unroutable);
        }
        for malformed in [Message::from("no id"), message("three|body"), message("fives|body"), with_id_only(id)] {
            let whole = malformed.clone();
            let error = server.as_socket().try_send(malformed).unwrap_err();
            assert!(matches!(error.reason, SendFailure::Invalid(_)), "{transport}: {error}");
            assert_eq!(error.message, whole, "{transport}");
        }
        client.close(LONG).await;
        eventually(transport, || connected(server.as_socket()) == 0).await;
        assert_eq!(server.try_send_to(id, "gone".into()).unwrap_err().reason, SendFailure::Unroutable);
    }
}

#[tokio::test]
async fn a_client_that_comes_again_has_a_new_id() {
    for transport in TRANSPORTS {
        let context = Context::new();
        let at = free_endpoint(&context, transport).await;
        let server = ServerSocket::new(&context).unwrap();
        soon(transport, server.bind(&at).unwrap()).await.unwrap();
        let client = ClientSocket::with_options(&context, quick()).unwrap();
        connect(client.as_socket(), server.as_socket(), &at).await;
        send(client.as_socket(), "first").await;
        let (old, _) = soon(transport, server.recv_from()).await.unwrap();

        client.disconnect(&at).unwrap();
        eventually(transport, || connected(server.as_socket()) == 0).await;
        connect(client.as_socket(), server.as_socket(), &at).await;
        send(client.as_socket(), "again").await;
        let (new, _) = soon(transport, server.recv_from()).await.unwrap();
        assert_ne!(old, new, "{transport}");
        assert_eq!(server.try_send_to(old, "stale".into()).unwrap_err().reason, SendFailure::Unroutable);
        server.send_to(new, "fresh".into()).await.unwrap();
        assert_eq!(receive(client.as_socket(), transport).await, "fresh");
    }
}

#[tokio::test]
async fn a_peer_that_was_connected_to_keeps_its_id() {
    for transport in TRANSPORTS {
        let context = Context::new();
        let at = free_endpoint(&context, transport).await;
        let here = PeerSocket::with_options(&context, quick()).unwrap();
        let connecting = here.connect_peer(&at).unwrap();
        let there = PeerSocket::new(&context).unwrap();
        soon(transport, there.bind(&at).unwrap()).await.unwrap();
        let id = soon(transport, connecting).await.unwrap();
        here.send_to(id, "to the first".into()).await.unwrap();
        let (back, body) = soon(transport, there.recv_from()).await.unwrap();
        assert_eq!(text(&body), "to the first");
        there.send_to(back, "from the first".into()).await.unwrap();
        assert_eq!(soon(transport, here.recv_from()).await.unwrap(), (id, Message::from("from the first")));

        there.close(LONG).await;
        eventually(transport, || connected(here.as_socket()) == 0).await;
        here.send_to(id, "waits for the next".into()).await.unwrap();
        let next = PeerSocket::new(&context).unwrap();
        soon(transport, next.bind(&at).unwrap()).await.unwrap();
        let (back, body) = soon(transport, next.recv_from()).await.unwrap();
        assert_eq!(text(&body), "waits for the next", "{transport}");
        next.send_to(back, "from the next".into()).await.unwrap();
        assert_eq!(soon(transport, here.recv_from()).await.unwrap(), (id, Message::from("from the next")));

        here.disconnect(&at).unwrap();
        eventually(transport, || here.stats().peers.is_empty()).await;
        assert_eq!(here.try_send_to(id, "nobody".into()).unwrap_err().reason, SendFailure::Unroutable);
    }
}

#[test]
fn ids_work_from_threads_without_a_runtime() {
    let context = Context::builder().build().unwrap();
    let (here, there) = (PeerSocket::new(&context).unwrap(), PeerSocket::new(&context).unwrap());
    let at = there.bind("tcp://127.0.0.1:*").unwrap().blocking().unwrap();
    let id = here.connect_peer(at).unwrap().blocking(LONG).unwrap();
    here.send_to_blocking(id, "hello".into()).unwrap();
    let (back, body) = there.recv_from_blocking().unwrap();
    there.send_to_blocking(back, body).unwrap();
    assert_eq!(here.recv_from_blocking().unwrap(), (id, "hello".into()));
    assert!(matches!(here.try_recv_from(), Err(RecvError::WouldBlock)));
    let nowhere = here.connect_peer("tcp://127.0.0.1:1").unwrap().blocking(std::time::Duration::from_millis(1));
    assert!(matches!(nowhere, Err(ConnectError::TimedOut { .. })), "{nowhere:?}");
}

#[tokio::test]
async fn a_full_peer_waits_and_does_not_hold_up_another() {
    let context = Context::new();
    let marks = Options::new().send_hwm(2).recv_hwm(2);
    let server = ServerSocket::with_options(&context, marks.clone()).unwrap();
    let at = bind(server.as_socket(), "inproc").await;
    let mut clients = Vec::new();
    for _ in 0..2 {
        let client = ClientSocket::with_options(&context, marks.clone()).unwrap();
        connect(client.as_socket(), server.as_socket(), &at).await;
        send(client.as_socket(), "hello").await;
        clients.push((soon("hello", server.recv_from()).await.unwrap().0, client));
    }
    let [(full, slow), (free, quick)] = &clients[..] else { unreachable!() };
    let mut queued = 0;
    while server.try_send_to(*full, queued.to_string().into()).is_ok() {
        queued += 1;
        assert!(queued < 10, "both marks add up to four");
    }
    assert_eq!(queued, 4);
    server.try_send_to(*free, "past it".into()).unwrap();
    assert_eq!(receive(quick.as_socket(), "the free one").await, "past it");
    let waiting = tokio::spawn({
        let (server, full) = (server.clone(), *full);
        async move { server.send_to(full, "waited".into()).await }
    });
    for number in 0..queued {
        assert_eq!(receive(slow.as_socket(), "the slow one").await, number.to_string());
    }
    soon("the one that waited", waiting).await.unwrap().unwrap();
    assert_eq!(receive(slow.as_socket(), "the slow one").await, "waited");
    assert_eq!(server.stats().dropped, 0);
}

#[tokio::test]
async fn scatter_and_client_deal_in_turn() {
    for transport in TRANSPORTS {
        for (sends, receives) in [(Scatter, Gather), (Client, Server)] {
            let label = format!("{sends} over {transport}");
            let context = Context::new();
            let sender = socket(&context, sends);
            let at = bind(&sender, transport).await;
            let mut receivers = Vec::new();
            for _ in 0..3 {
                let receiver = socket(&context, receives);
                connect(&receiver, &sender, &at).await;
                receivers.push(receiver);
            }
            for number in 0..9 {
                // Whether of one frame or of two, each takes its turn
                send(&sender, ["0", "1|x", "2"][number % 3]).await;
            }
            for (place, receiver) in receivers.iter().enumerate() {
                for mut message in receive_whole(receiver, 3, &label).await {
                    if receives == Server {
                        message.pop_front();
                    }
                    assert_eq!(message.first(), place.to_string().as_bytes(), "{label}");
                }
            }
        }
    }
}

#[tokio::test]
async fn a_channel_has_one_peer() {
    for transport in ["tcp", "ipc"] {
        let context = Context::new();
        let (server, first, second) = (socket(&context, Channel), socket(&context, Channel), socket(&context, Channel));
        let at = link(transport, &server, &first).await;
        let mut events = server.events();
        second.connect(&at).unwrap();
        let failed = event(&mut events, "handshake-failed").await;
        assert!(failed.to_string().contains("has its one peer already"), "{failed}");
        send(&first, "still here").await;
        assert_eq!(receive(&server, transport).await, "still here");
    }
}

#[tokio::test]
async fn what_a_type_does_not_do_it_says() {
    let context = Context::new();
    for (socket_type, word) in [(Gather, "a GATHER socket only receives"), (Dish, "a DISH socket only receives")] {
        let error = socket(&context, socket_type).try_send(message("group|body")).unwrap_err();
        assert_eq!(error.reason, SendFailure::NotSupported(word));
    }
    for (socket_type, word) in [(Scatter, "a SCATTER socket only sends"), (Radio, "a RADIO socket only sends")] {
        assert_eq!(socket(&context, socket_type).try_recv().unwrap_err(), RecvError::NotSupported(word));
    }
    for socket_type in SocketType::ALL.into_iter().filter(|socket_type| *socket_type != Dish) {
        let error = socket(&context, socket_type).join("tv").unwrap_err();
        assert_eq!(error.to_string(), "only a DISH joins groups", "{socket_type}");
    }
}

// What is on the wire, and peers that are not ours

#[tokio::test]
async fn nothing_of_an_id_is_on_the_wire() {
    let context = Context::new();
    let server = ServerSocket::new(&context).unwrap();
    let at = bind(server.as_socket(), "tcp").await;
    let mut client = RawPeer::handshaken(&at, "CLIENT").await;
    client.write(&frame(0, b"ask")).await;
    let (id, body) = soon("the question", server.recv_from()).await.unwrap();
    assert_eq!(text(&body), "ask");
    server.send_to(id, "tell".into()).await.unwrap();
    let mut answer = [0; 6];
    soon("the answer", client.stream.read_exact(&mut answer)).await.unwrap();
    assert_eq!(&answer, b"\x00\x04tell");
}

#[tokio::test]
async fn ready_says_that_several_frames_are_taken() {
    for (socket_type, peer, says) in [
        (Client, "SERVER", true),
        (Server, "CLIENT", true),
        (Scatter, "GATHER", true),
        (Gather, "SCATTER", true),
        (Peer, "PEER", true),
        (Channel, "CHANNEL", true),
        (Radio, "DISH", false),
        (SocketType::Pair, "PAIR", false),
    ] {
        let context = Context::new();
        let socket = socket(&context, socket_type);
        let at = bind(&socket, "tcp").await;
        let mut raw = RawPeer::connect(&at).await;
        let told = shake(&mut raw, &opening(peer)).await;
        let name = socket_type.name();
        let mut expected = [&b"\x05READY\x0bSocket-Type\0\0\0"[..], &[name.len() as u8], name.as_bytes()].concat();
        if says {
            expected.extend(b"\x0bX-Multipart\0\0\0\x011");
        }
        assert_eq!(told, expected, "{socket_type}");
    }
}

#[tokio::test]
async fn several_frames_are_not_sent_where_they_would_be_dropped() {
    for (socket_type, peer) in
        [(Client, "SERVER"), (Server, "CLIENT"), (Scatter, "GATHER"), (Peer, "PEER"), (Channel, "CHANNEL")]
    {
        let context = Context::new();
        let sender = socket(&context, socket_type);
        let at = bind(&sender, "tcp").await;
        let mut raw = RawPeer::handshaken(&at, peer).await;
        eventually(socket_type, || connected(&sender) == 1).await;
        let to_it = |body: &str| match socket_type {
            Server | Peer => with_id(only_id(&sender), message(body)),
            _ => message(body),
        };
        let whole = to_it("two|frames");
        for error in [sender.try_send(whole.clone()).unwrap_err(), sender.send(whole.clone()).await.unwrap_err()] {
            assert!(error.to_string().contains("takes messages of one frame only"), "{socket_type}: {error}");
            assert!(matches!(error.reason, SendFailure::Invalid(_)), "{socket_type}");
            assert_eq!(error.message, whole, "{socket_type}: whole as it was");
        }
        sender.send(to_it("one")).await.unwrap();
        let mut octets = [0; 5];
        soon(socket_type, raw.stream.read_exact(&mut octets)).await.unwrap();
        assert_eq!(&octets, b"\x00\x03one", "{socket_type}");
    }
}

#[tokio::test]
async fn several_frames_go_round_those_who_take_them() {
    for sends in [Client, Scatter] {
        let (ours, theirs) = if sends == Client { (Server, "SERVER") } else { (Gather, "GATHER") };
        let context = Context::new();
        let sender = socket(&context, sends);
        let at = bind(&sender, "tcp").await;
        let mut raw = RawPeer::handshaken(&at, theirs).await;
        let receiver = socket(&context, ours);
        connect(&receiver, &sender, &at).await;
        eventually(sends, || connected(&sender) == 2).await;
        for _ in 0..5 {
            send(&sender, "two|frames").await;
        }
        for mut message in receive_whole(&receiver, 5, sends.name()).await {
            if ours == Server {
                message.pop_front();
            }
            assert_eq!(text(&message), "two|frames", "{sends}");
        }
        // One frame goes to both in turn
        send(&sender, "1").await;
        send(&sender, "1").await;
        let mut octets = [0; 3];
        soon(sends, raw.stream.read_exact(&mut octets)).await.unwrap();
        assert_eq!(&octets, b"\x00\x011", "{sends}");
    }
}

#[tokio::test]
async fn several_frames_wait_until_it_is_known_who_takes_them() {
    for (socket_type, peer) in [(Client, "SERVER"), (Channel, "CHANNEL")] {
        let context = Context::new();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let sender = socket(&context, socket_type);
        sender.connect(format!("tcp://{}", listener.local_addr().unwrap())).unwrap();
        sender.try_send("one".into()).unwrap();
        let error = sender.try_send(message("two|frames")).unwrap_err();
        assert_eq!(error.reason, SendFailure::WouldBlock, "{socket_type}");
        let waiting = tokio::spawn({
            let sender = sender.clone();
            async move { sender.send(message("two|frames")).await }
        });
        let (stream, _) = soon(socket_type, listener.accept()).await.unwrap();
        let mut raw = RawPeer { stream };
        shake(&mut raw, &multipart_opening(peer)).await;
        let mut octets = [0; 18];
        soon(socket_type, raw.stream.read_exact(&mut octets)).await.unwrap();
        assert_eq!(&octets, b"\x00\x03one\x01\x03two\x00\x06frames", "{socket_type}");
        soon(socket_type, waiting).await.unwrap().unwrap();
    }
}

#[tokio::test]
async fn what_waits_for_a_peer_that_no_longer_takes_it_is_dropped_and_counted() {
    let context = Context::new();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let client = socket_with(&context, Client, quick());
    let mut events = client.events();
    client.connect(format!("tcp://{}", listener.local_addr().unwrap())).unwrap();
    let (stream, _) = soon("the first connection", listener.accept()).await.unwrap();
    let mut first = RawPeer { stream };
    shake(&mut first, &multipart_opening("SERVER")).await;
    event(&mut events, "handshaken").await;
    drop(first);
    event(&mut events, "disconnected").await;
    for frames in ["one", "two|frames", "three"] {
        client.try_send(message(frames)).unwrap();
    }
    let (stream, _) = soon("the second connection", listener.accept()).await.unwrap();
    let mut second = RawPeer { stream };
    shake(&mut second, &opening("SERVER")).await;
    let mut octets = [0; 12];
    soon("what is left", second.stream.read_exact(&mut octets)).await.unwrap();
    assert_eq!(&octets, b"\x00\x03one\x00\x05three");
    let dropped = event(&mut events, "dropped").await;
    assert!(dropped.to_string().contains("1 messages, 1 in all"), "{dropped}");
    assert_eq!((client.stats().dropped, client.stats().sent), (1, 3));
    assert!(client.close(LONG).await.is_complete());
}

/// As this library's own peers open a connection
fn multipart_opening(socket_type: &str) -> Vec<u8> {
    let mut octets = opening(socket_type)[..64].to_vec();
    let plain = ready(socket_type);
    octets.extend(frame(4, &[&plain[2..], b"\x0bX-Multipart\0\0\0\x011"].concat()));
    octets
}

/// Says this, and reads the other side's greeting and READY, of which the body is returned
async fn shake(peer: &mut RawPeer, octets: &[u8]) -> Vec<u8> {
    peer.write(octets).await;
    let mut start = [0; 66];
    soon("greeting and READY", peer.stream.read_exact(&mut start)).await.unwrap();
    let mut ready = vec![0; usize::from(start[65])];
    soon("READY", peer.stream.read_exact(&mut ready)).await.unwrap();
    ready
}

async fn receive_whole(socket: &tidings_socket::Socket, count: usize, label: &str) -> Vec<Message> {
    let mut all = Vec::new();
    while all.len() < count {
        soon(label, socket.recv_many(&mut all, count)).await.unwrap();
    }
    all
}

/// The id of the one peer, as the figures show it
fn only_id(socket: &tidings_socket::Socket) -> u32 {
    let stats = socket.stats();
    let shown = &stats.peers[0].routing_id;
    u32::from_str_radix(shown.trim_start_matches("0x"), 16).unwrap_or_else(|_| {
        // Four octets that happen to be text are shown as that
        u32::from_be_bytes(shown.as_bytes().try_into().unwrap())
    })
}

fn with_id(id: u32, mut message: Message) -> Message {
    message.push_front(id.to_be_bytes().to_vec());
    message
}

fn with_id_only(id: u32) -> Message {
    Message::from(id.to_be_bytes().to_vec())
}

fn quick() -> Options {
    Options::new().reconnect_interval(Some(std::time::Duration::from_millis(10)))
}

//! A running broker, and raw sockets that speak every wire to it at once.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "it is a test")]

use std::time::Duration;

use tidings_majordomo::Server;
use tidings_majordomo::broker::{Access, BrokerConfig, Counter, Local, LocalReply};
use tidings_majordomo::wire::{
    Body, ClientCommand, ClientReply, ReadyOptions, RequestOptions, ServiceName, Status, TIDINGS_PROPERTY,
    TIDINGS_PROPERTY_VALUE, Wire, WorkerCommand, WorkerOrder,
};
use tidings_socket::{Bytes, Context, DealerSocket, Message, Options, ReqSocket, RouterSocket, Socket, SocketType};

const DEADLINE: Duration = Duration::from_secs(20);

struct Stage {
    context: Context,
    server: Server,
    endpoint: String,
}

async fn stage(config: BrokerConfig) -> Stage {
    let context = Context::new();
    let socket = RouterSocket::new(&context).unwrap();
    let server = Server::start(socket.clone(), config);
    let endpoint = socket.bind("tcp://127.0.0.1:*").unwrap().await.unwrap().to_string();
    Stage { context, server, endpoint }
}

impl Stage {
    fn dealer(&self) -> Socket {
        let socket: Socket = DealerSocket::new(&self.context).unwrap().into();
        socket.connect(&self.endpoint[..]).unwrap();
        socket
    }

    /// A worker that echoes until it is dropped, once the broker knows it
    async fn echo(&self, wire: Wire, service: &str) -> tokio::task::JoinHandle<()> {
        let socket = self.dealer();
        let before = self.workers(service);
        socket.send(ready(wire, service)).await.unwrap();
        while self.workers(service) == before {
            tokio::task::yield_now().await;
        }
        tokio::spawn(async move {
            while let Ok(message) = socket.recv().await {
                if let Ok(WorkerOrder::Request { token, body, .. }) = WorkerOrder::decode(message, wire) {
                    socket.send(WorkerCommand::Final { token, body }.encode(wire).unwrap()).await.unwrap();
                }
            }
        })
    }

    fn workers(&self, service: &str) -> usize {
        self.server.workers(Some(&name(service))).len()
    }

    async fn counted(&self, counter: Counter, wanted: u64) {
        while self.server.stats().counters[counter.name()] < wanted {
            tokio::task::yield_now().await;
        }
    }
}

fn name(service: &str) -> ServiceName {
    service.parse().unwrap()
}

fn ready(wire: Wire, service: &str) -> Message {
    let options = ReadyOptions::default();
    WorkerCommand::Ready { service: name(service), options }.encode(wire).unwrap()
}

fn request(wire: Wire, id: u64, service: &str, frames: &[&'static str]) -> Message {
    let body: Body = frames.iter().map(|frame| Bytes::from_static(frame.as_bytes())).collect();
    let command = ClientCommand::Request { id, service: name(service), options: RequestOptions::default(), body };
    command.encode(wire).unwrap()
}

async fn recv(socket: &Socket) -> Message {
    tokio::time::timeout(DEADLINE, socket.recv()).await.expect("in time").unwrap()
}

async fn in_time<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(DEADLINE, future).await.expect("in time")
}

#[tokio::test]
async fn all_wires_at_once_on_one_socket() {
    in_time(async {
        let stage = stage(BrokerConfig::default()).await;
        let mut workers = Vec::new();
        for wire in Wire::ALL {
            // One service that all of them work for, and one each
            workers.push(stage.echo(wire, "all").await);
            workers.push(stage.echo(wire, wire.name()).await);
        }
        let clients: Vec<_> = Wire::ALL.into_iter().map(|wire| (wire, stage.dealer())).collect();
        for round in 0..12 {
            for (wire, client) in &clients {
                let service = if round % 2 == 0 { "all" } else { Wire::ALL[round / 2].name() };
                client.send(request(*wire, 7, service, &["act", "{}"])).await.unwrap();
            }
            for (wire, client) in &clients {
                let reply = ClientReply::decode(recv(client).await, *wire).unwrap();
                let ClientReply::Final { body, .. } = reply else { panic!("{wire} {reply:?}") };
                assert_eq!(body[..], ["act", "{}"], "{wire}");
            }
        }
        // REQ has its empty frame from itself
        let req = ReqSocket::new(&stage.context).unwrap();
        req.connect(&stage.endpoint[..]).unwrap();
        req.send(Message::multipart(["MDPC01", "all", "hi"])).await.unwrap();
        assert_eq!(recv(req.as_socket()).await, Message::multipart(["MDPC01", "all", "hi"]));
        let stats = stage.server.stats();
        assert_eq!((stats.counters["replies"], stats.workers), (73, 12));
        workers.iter().for_each(tokio::task::JoinHandle::abort);
    })
    .await;
}

#[tokio::test]
async fn the_socket_says_that_our_wire_is_spoken() {
    let stage = stage(BrokerConfig::default()).await;
    let socket = stage.context.socket_with(SocketType::Dealer, Options::default()).unwrap();
    let peer = in_time(socket.connect(&stage.endpoint[..]).unwrap().into_future()).await.unwrap();
    assert_eq!(peer.properties.value(TIDINGS_PROPERTY).unwrap(), TIDINGS_PROPERTY_VALUE);
}

#[tokio::test]
async fn a_worker_that_vanishes_is_gone_at_once_and_its_request_is_not() {
    in_time(async {
        let stage = stage(BrokerConfig::default()).await;
        let dying = stage.dealer();
        dying.send(ready(Wire::Mdp01, "echo")).await.unwrap();
        let client = stage.dealer();
        stage.counted(Counter::WorkerReady, 1).await;
        client.send(request(Wire::Mdp01, 0, "echo", &["hi"])).await.unwrap();
        recv(&dying).await;
        drop(dying);
        stage.counted(Counter::WorkerGone, 1).await;
        let worker = stage.echo(Wire::Mdp02, "echo").await;
        assert_eq!(recv(&client).await, Message::multipart(["", "MDPC01", "echo", "hi"]));
        worker.abort();
    })
    .await;
}

#[tokio::test]
async fn a_client_that_vanishes_takes_its_requests_along() {
    in_time(async {
        let stage = stage(BrokerConfig::default()).await;
        let client = stage.dealer();
        for _ in 0..3 {
            client.send(request(Wire::Mdp01, 0, "nobody", &["hi"])).await.unwrap();
        }
        stage.counted(Counter::Requests, 3).await;
        drop(client);
        stage.counted(Counter::ClientGone, 3).await;
        assert_eq!(stage.server.stats().requests, 0);
    })
    .await;
}

#[tokio::test]
async fn a_client_that_does_not_read_is_counted_and_harms_nobody() {
    in_time(async {
        let stage = stage(BrokerConfig::default()).await;
        let worker = stage.echo(Wire::Tidings, "echo").await;
        let deaf = stage.context.socket_with(SocketType::Dealer, Options::default().recv_hwm(1)).unwrap();
        deaf.connect(&stage.endpoint[..]).unwrap();
        let large = "x".repeat(1 << 20).leak();
        let mut sent = 0;
        while stage.server.stats().counters["slow-client"] == 0 {
            deaf.send(request(Wire::Mdp02, 0, "echo", &[large])).await.unwrap();
            sent += 1;
            stage.counted(Counter::Replies, sent).await;
        }
        let client = stage.dealer();
        client.send(request(Wire::Mdp01, 0, "echo", &["hi"])).await.unwrap();
        assert_eq!(recv(&client).await, Message::multipart(["", "MDPC01", "echo", "hi"]));
        worker.abort();
    })
    .await;
}

#[tokio::test]
async fn clients_that_do_not_read_are_bounded_all_together() {
    in_time(async {
        let stage = stage(BrokerConfig { max_unsent_octets: 8 << 20, ..BrokerConfig::default() }).await;
        let worker = stage.echo(Wire::Tidings, "echo").await;
        let deaf: Vec<_> = (0..3)
            .map(|_| {
                let deaf = stage.context.socket_with(SocketType::Dealer, Options::default().recv_hwm(1)).unwrap();
                deaf.connect(&stage.endpoint[..]).unwrap();
                deaf
            })
            .collect();
        let large = "x".repeat(1 << 20).leak();
        let mut sent = 0;
        // The first gets twice as much as the others
        for turn in [0, 0, 1, 2].into_iter().cycle() {
            if stage.server.stats().counters["slow-client"] > 0 {
                break;
            }
            deaf[turn].send(request(Wire::Mdp02, 0, "echo", &[large])).await.unwrap();
            sent += 1;
            stage.counted(Counter::Replies, sent).await;
        }
        assert!(sent < 100, "one alone would have been let have 64 MiB, and this is what all had: {sent}");
        // It was one of them, and the others go on
        assert_eq!(stage.server.stats().counters["slow-client"], 1);
        for deaf in &deaf[1..] {
            deaf.send(request(Wire::Mdp02, 0, "echo", &["small"])).await.unwrap();
            sent += 1;
            stage.counted(Counter::Replies, sent).await;
        }
        let client = stage.dealer();
        client.send(request(Wire::Mdp01, 0, "echo", &["hi"])).await.unwrap();
        assert_eq!(recv(&client).await, Message::multipart(["", "MDPC01", "echo", "hi"]));
        worker.abort();
    })
    .await;
}

#[tokio::test]
async fn permission_is_asked_with_what_is_known_of_the_connection() {
    in_time(async {
        let context = Context::new();
        let socket = RouterSocket::new(&context).unwrap();
        let (server, _locals) = Server::builder(socket.clone(), BrokerConfig::default())
            .permit(|origin, access, service| {
                origin.address.starts_with("127.0.0.1") && access != Access::Work && service.as_bytes() != b"secret"
            })
            .start();
        let endpoint = socket.bind("tcp://127.0.0.1:*").unwrap().await.unwrap().to_string();
        let stage = Stage { context, server, endpoint };
        let (worker, client) = (stage.dealer(), stage.dealer());
        worker.send(ready(Wire::Mdp02, "echo")).await.unwrap();
        assert_eq!(WorkerOrder::decode(recv(&worker).await, Wire::Mdp02), Ok(WorkerOrder::Disconnect));
        client.send(request(Wire::Tidings, 1, "secret", &["hi"])).await.unwrap();
        let reply = ClientReply::decode(recv(&client).await, Wire::Tidings).unwrap();
        assert!(matches!(reply, ClientReply::Refused { status: Status::NOT_PERMITTED, .. }), "{reply:?}");
    })
    .await;
}

#[tokio::test]
async fn workers_and_clients_in_the_same_process() {
    in_time(async {
        let context = Context::new();
        let socket = RouterSocket::new(&context).unwrap();
        let (server, mut locals) = Server::builder(socket.clone(), BrokerConfig::default()).start();
        let endpoint = socket.bind("tcp://127.0.0.1:*").unwrap().await.unwrap().to_string();
        let worker = server.with(|broker, now| broker.add_local_worker(now, &name("inside"), 1)).unwrap();
        let stage = Stage { context, server, endpoint };
        let client = stage.dealer();
        client.send(request(Wire::Mdp01, 0, "inside", &["hi"])).await.unwrap();
        let Some(Local::Request { token, body, .. }) = locals.next().await else { panic!() };
        stage.server.with(|broker, now| broker.local_reply(now, worker, token, LocalReply::Final(body)));
        assert_eq!(recv(&client).await, Message::multipart(["", "MDPC01", "inside", "hi"]));

        let echo = stage.echo(Wire::Mdp01, "outside").await;
        let body: Body = [Bytes::from("there")].into_iter().collect();
        let asked = stage
            .server
            .with(|broker, now| broker.local_request(now, &name("outside"), RequestOptions::default(), body.clone()));
        assert_eq!(locals.next().await, Some(Local::Final { request: asked, body }));
        echo.abort();
    })
    .await;
}

#[tokio::test]
async fn it_stops_in_good_order() {
    in_time(async {
        let stage = stage(BrokerConfig::default()).await;
        let (worker, client) = (stage.dealer(), stage.dealer());
        worker.send(ready(Wire::Mdp01, "echo")).await.unwrap();
        stage.counted(Counter::WorkerReady, 1).await;
        client.send(request(Wire::Tidings, 1, "echo", &["hi"])).await.unwrap();
        let Ok(WorkerOrder::Request { token, body, .. }) = WorkerOrder::decode(recv(&worker).await, Wire::Mdp01) else {
            panic!()
        };
        let server = stage.server.clone();
        let stopping = tokio::spawn(async move { server.stop(DEADLINE).await });
        // It takes no more, but what it has comes to its end
        while stage.server.with(|broker, _| !broker.is_stopping()) {
            tokio::task::yield_now().await;
        }
        client.send(request(Wire::Tidings, 2, "echo", &["hi"])).await.unwrap();
        let reply = ClientReply::decode(recv(&client).await, Wire::Tidings).unwrap();
        assert!(matches!(reply, ClientReply::Refused { id: 2, status: Status::UNAVAILABLE, .. }), "{reply:?}");
        worker.send(WorkerCommand::Final { token, body }.encode(Wire::Mdp01).unwrap()).await.unwrap();
        assert!(matches!(
            ClientReply::decode(recv(&client).await, Wire::Tidings),
            Ok(ClientReply::Final { id: 1, .. })
        ));
        assert_eq!(WorkerOrder::decode(recv(&worker).await, Wire::Mdp01), Ok(WorkerOrder::Disconnect));
        let report = stopping.await.unwrap();
        assert!(report.is_complete() && report.workers == 1, "{report:?}");
        assert_eq!(stage.server.ended().await, report);
    })
    .await;
}

#[tokio::test]
async fn what_is_not_answered_at_the_deadline_is_refused_and_reported() {
    in_time(async {
        let stage = stage(BrokerConfig::default()).await;
        let (worker, client) = (stage.dealer(), stage.dealer());
        worker.send(ready(Wire::Mdp01, "echo")).await.unwrap();
        stage.counted(Counter::WorkerReady, 1).await;
        client.send(request(Wire::Tidings, 1, "echo", &["hi"])).await.unwrap();
        recv(&worker).await;
        let report = stage.server.stop(Duration::from_millis(10)).await;
        assert_eq!((report.unanswered, report.workers), (1, 1));
        let reply = ClientReply::decode(recv(&client).await, Wire::Tidings).unwrap();
        assert!(matches!(reply, ClientReply::Refused { id: 1, status: Status::UNAVAILABLE, .. }), "{reply:?}");
        assert_eq!(WorkerOrder::decode(recv(&worker).await, Wire::Mdp01), Ok(WorkerOrder::Disconnect));
    })
    .await;
}

#[tokio::test]
async fn it_ends_with_its_socket() {
    let context = Context::new();
    let socket = RouterSocket::new(&context).unwrap();
    let server = Server::start(socket.clone(), BrokerConfig::default());
    socket.close(Duration::ZERO).await;
    assert!(in_time(server.ended()).await.is_complete());
}

#[tokio::test]
async fn a_client_that_reads_too_slowly_sees_its_connection_end_and_no_hole() {
    in_time(async {
        let stage = stage(BrokerConfig::default()).await;
        let worker = stage.dealer();
        worker.send(ready(Wire::Tidings, "parts")).await.unwrap();
        stage.counted(Counter::WorkerReady, 1).await;
        let slow = stage.context.socket_with(SocketType::Dealer, Options::default().recv_hwm(1)).unwrap();
        slow.connect(&stage.endpoint[..]).unwrap();
        slow.send(request(Wire::Mdp02, 0, "parts", &["hi"])).await.unwrap();
        let mut token = None;
        while token.is_none() {
            if let Ok(WorkerOrder::Request { token: of, .. }) = WorkerOrder::decode(recv(&worker).await, Wire::Tidings)
            {
                token = Some(of);
            }
        }
        let token = token.unwrap();
        let mut parts = 0_u64;
        while stage.server.stats().counters["slow-client"] == 0 {
            let text = format!("{parts:08}{}", "x".repeat(1 << 20));
            let body: Body = [Bytes::from(text)].into_iter().collect();
            worker
                .send(WorkerCommand::Partial { token: token.clone(), body }.encode(Wire::Tidings).unwrap())
                .await
                .unwrap();
            parts += 1;
            while stage.server.stats().counters["partial-replies"]
                + stage.server.stats().counters["reply-to-gone-client"]
                < parts
            {
                tokio::task::yield_now().await;
            }
        }
        let body: Body = [Bytes::from("the end")].into_iter().collect();
        worker.send(WorkerCommand::Final { token, body }.encode(Wire::Tidings).unwrap()).await.unwrap();
        stage.counted(Counter::ReplyToGoneClient, 1).await;
        // It takes up reading: what it hears are the first parts, then that its connection has ended
        let mut heard = 0_u64;
        let mut hear = |message| match ClientReply::decode(message, Wire::Mdp02).unwrap() {
            ClientReply::Partial { body, .. } => {
                assert_eq!(body[0][..8], *format!("{heard:08}").as_bytes());
                heard += 1;
                false
            }
            ClientReply::Final { body, .. } => {
                assert_eq!(body[0], "again");
                true
            }
            reply => panic!("{reply:?}"),
        };
        while slow.stats().closes.is_empty() {
            match slow.try_recv() {
                Ok(message) => assert!(!hear(message)),
                Err(_) => tokio::task::yield_now().await,
            }
        }
        let echo = stage.echo(Wire::Tidings, "echo").await;
        slow.send(request(Wire::Mdp02, 0, "echo", &["again"])).await.unwrap();
        while !hear(recv(&slow).await) {}
        assert!(heard < parts, "{heard} of {parts} parts");
        echo.abort();
    })
    .await;
}

#[tokio::test]
async fn an_empty_message_is_malformed_and_no_end() {
    in_time(async {
        let stage = stage(BrokerConfig::default()).await;
        let worker = stage.echo(Wire::Mdp01, "echo").await;
        let client = stage.dealer();
        client.send(request(Wire::Tidings, 1, "echo", &["hi"])).await.unwrap();
        client.send(Message::default()).await.unwrap();
        stage.counted(Counter::Malformed, 1).await;
        let reply = ClientReply::decode(recv(&client).await, Wire::Tidings).unwrap();
        assert!(matches!(reply, ClientReply::Final { id: 1, .. }), "{reply:?}");
        assert_eq!(stage.server.stats().counters["client-gone"], 0);
        // Nor is a worker gone that says nothing
        let silent = stage.dealer();
        silent.send(ready(Wire::Tidings, "mute")).await.unwrap();
        stage.counted(Counter::WorkerReady, 2).await;
        silent.send(Message::default()).await.unwrap();
        stage.counted(Counter::Malformed, 2).await;
        assert_eq!((stage.workers("mute"), stage.server.stats().counters["worker-gone"]), (1, 0));
        worker.abort();
    })
    .await;
}

//! Durable requests over real sockets: a server with a store, clients and workers of ours, and a plain MDP 0.1 client.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that can't go on has failed")]

mod killed;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tidings_majordomo::broker::BrokerConfig;
use tidings_majordomo::titanic::client::Progress;
use tidings_majordomo::{
    Client, ClientOptions, DurableError, DurableRequests, Failure, Request, Server, Titanic, TitanicConfig, Worker,
};
use tidings_socket::{Context, Message, ReqSocket, RouterSocket};
use tidings_store::{Backoff, Store, StoreOptions};
use tokio::sync::Notify;

const DEADLINE: Duration = Duration::from_secs(30);

struct Stage {
    context: Context,
    server: Server,
    durable: DurableRequests,
    endpoint: String,
}

impl Stage {
    async fn new(directory: &Path, endpoint: &str) -> Self {
        let context = Context::new();
        let socket = RouterSocket::new(&context).unwrap();
        let (server, locals) = Server::builder(socket.clone(), BrokerConfig::default()).start();
        let backoff = Backoff { first: Duration::from_millis(20), longest: Duration::from_millis(200) };
        let store = Store::open(directory, StoreOptions::default().backoff(backoff)).unwrap();
        let durable = Titanic::new(store, TitanicConfig::default()).serve(server.clone(), locals).unwrap();
        let endpoint = socket.bind(endpoint).unwrap().await.unwrap().to_string();
        Self { context, server, durable, endpoint }
    }

    async fn client(&self) -> Client {
        let options = ClientOptions::default().timeout(Some(DEADLINE));
        Client::connect(&self.context, &self.endpoint[..], options).await.unwrap()
    }

    async fn stop(self) {
        self.durable.stop(DEADLINE).await;
        self.server.stop(DEADLINE).await;
        self.durable.ended().await;
    }
}

async fn shout(request: Request) -> Result<Message, Failure> {
    Ok(Message::from(String::from_utf8_lossy(request.body().first()).to_uppercase()))
}

#[tokio::test]
async fn a_request_outlives_the_broker() {
    let directory = tempfile::tempdir().unwrap();
    let stage = Stage::new(directory.path(), "tcp://127.0.0.1:*").await;
    let durable = stage.client().await.durable();
    let id = durable.submit("shout", "hello", None).await.unwrap();
    assert!(matches!(durable.progress(id).await.unwrap(), Progress::Pending(_)));
    let short = durable.wait(id, Duration::from_millis(50)).await;
    assert!(matches!(short, Err(DurableError::DeadlinePassed(_))), "{short:?}");
    stage.stop().await;

    let stage = Stage::new(directory.path(), "tcp://127.0.0.1:*").await;
    let durable = stage.client().await.durable();
    let worker = Worker::builder(&stage.context, &stage.endpoint[..], "shout").serve(shout).unwrap();
    let reply = durable.wait(id, DEADLINE).await.unwrap();
    assert_eq!(reply.first(), b"HELLO");
    // As often as anybody asks, until it is closed
    assert_eq!(durable.progress(id).await.unwrap(), Progress::Done(reply));
    durable.close(id).await.unwrap();
    durable.close(id).await.unwrap();
    let closed = durable.progress(id).await;
    assert!(matches!(closed, Err(DurableError::Refused(_))), "{closed:?}");
    worker.stop(DEADLINE).await;
    stage.stop().await;
}

#[tokio::test]
async fn a_key_is_one_request_for_any_client() {
    let directory = tempfile::tempdir().unwrap();
    let stage = Stage::new(directory.path(), "tcp://127.0.0.1:*").await;
    let (one, two) = (stage.client().await.durable(), stage.client().await.durable());
    let first = one.submit("shout", "pay", Some("invoice 7".into())).await.unwrap();
    assert_eq!(two.submit("shout", "pay", Some("invoice 7".into())).await.unwrap(), first);
    assert!(two.submit("shout", "pay more", Some("invoice 7".into())).await.is_err());
    assert_ne!(two.submit("shout", "pay", None).await.unwrap(), first);
    stage.stop().await;
}

#[tokio::test]
async fn a_plain_client_of_rfc_7_and_9_is_served() {
    let directory = tempfile::tempdir().unwrap();
    let stage = Stage::new(directory.path(), "tcp://127.0.0.1:*").await;
    let client = ReqSocket::new(&stage.context).unwrap();
    client.connect(&stage.endpoint[..]).unwrap();
    let ask = async |service: &'static str, body: &[&[u8]]| {
        let frames = [b"MDPC01", service.as_bytes()].into_iter().chain(body.iter().copied());
        client.send(Message::multipart(frames.map(<[u8]>::to_vec))).await.unwrap();
        let reply = client.recv().await.unwrap();
        let frames: Vec<Vec<u8>> = reply.frames().map(<[u8]>::to_vec).collect();
        assert_eq!(frames[..2], [b"MDPC01".to_vec(), service.as_bytes().to_vec()]);
        frames[2..].to_vec()
    };
    let stored = ask("titanic.request", &[b"shout", b"hello"]).await;
    assert_eq!((stored.len(), &stored[0][..], stored[1].len()), (2, &b"200"[..], 32));
    assert!(ask("titanic.reply", &[&stored[1]]).await[0].starts_with(b"300"));
    let worker = Worker::builder(&stage.context, &stage.endpoint[..], "shout").serve(shout).unwrap();
    let reply = loop {
        let reply = ask("titanic.reply", &[&stored[1]]).await;
        if !reply[0].starts_with(b"300") {
            break reply;
        }
    };
    assert_eq!(reply, [b"200".to_vec(), b"HELLO".to_vec()]);
    assert_eq!(ask("titanic.close", &[&stored[1]]).await, [b"200".to_vec()]);
    assert!(ask("titanic.reply", &[&stored[1]]).await[0].starts_with(b"400"));
    worker.stop(DEADLINE).await;
    stage.stop().await;
}

#[tokio::test]
async fn a_stop_waits_for_what_is_under_way() {
    let directory = tempfile::tempdir().unwrap();
    let stage = Stage::new(directory.path(), "tcp://127.0.0.1:*").await;
    let durable = stage.client().await.durable();
    let (begun, go, done) = (Arc::new(Notify::new()), Arc::new(Notify::new()), Arc::new(AtomicBool::new(false)));
    let handler = {
        let (begun, go, done) = (begun.clone(), go.clone(), done.clone());
        move |request: Request| {
            let (begun, go, done) = (begun.clone(), go.clone(), done.clone());
            async move {
                begun.notify_one();
                go.notified().await;
                done.store(true, Ordering::SeqCst);
                shout(request).await
            }
        }
    };
    let worker = Worker::builder(&stage.context, &stage.endpoint[..], "shout").serve(handler).unwrap();
    let id = durable.submit("shout", "hello", None).await.unwrap();
    begun.notified().await;
    let requests = stage.durable.clone();
    let stopping = tokio::spawn(async move { requests.stop(DEADLINE).await });
    go.notify_one();
    assert!(stopping.await.unwrap() && done.load(Ordering::SeqCst));
    assert_eq!(durable.wait(id, DEADLINE).await.unwrap().first(), b"HELLO");
    assert_eq!(stage.durable.stats().completed, 1);
    worker.stop(DEADLINE).await;
    stage.stop().await;
}

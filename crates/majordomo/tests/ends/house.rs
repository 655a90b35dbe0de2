//! Client and worker with the real broker between them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use serde_json::json;
use tidings_majordomo::broker::{Access, BrokerConfig};
use tidings_majordomo::wire::{Status, Wire};
use tidings_majordomo::worker::{EndReason, blocking};
use tidings_majordomo::{
    Actions, BlockingClient, Client, ClientOptions, Failure, Handler, Message, Part, Request, RequestError, Server,
    Worker,
};
use tidings_socket::{Context, Message as Frames, RouterSocket};
use tokio::sync::mpsc;

use crate::scripted::DEADLINE;

struct House {
    context: Context,
    server: Server,
    endpoint: String,
}

impl House {
    async fn new() -> Self {
        Self::on(&Context::new(), "tcp://127.0.0.1:*").await
    }

    async fn on(context: &Context, endpoint: &str) -> Self {
        let socket = RouterSocket::new(context).unwrap();
        let (server, _) = Server::builder(socket.clone(), BrokerConfig::default())
            .permit(|_, access, service| access != Access::Administer || service.as_bytes() == b"echo")
            .start();
        let endpoint = socket.bind(endpoint).unwrap().await.unwrap().to_string();
        Self { context: context.clone(), server, endpoint }
    }

    async fn client(&self) -> Client {
        Client::connect(&self.context, &self.endpoint, options()).await.unwrap()
    }

    /// A worker that the broker knows
    async fn worker(&self, service: &str, concurrency: u32, handler: impl Handler) -> Worker {
        let before = self.known(service);
        let worker = Worker::builder(&self.context, &self.endpoint, service)
            .concurrency(concurrency)
            .reconnect(Duration::from_millis(1), Duration::from_millis(20))
            .serve(handler)
            .unwrap();
        self.knows(service, before + 1).await;
        assert_eq!(worker.wire(), Some(Wire::Tidings));
        worker
    }

    fn known(&self, service: &str) -> usize {
        self.server.workers(Some(&service.parse().unwrap())).len()
    }

    async fn knows(&self, service: &str, workers: usize) {
        let known = async {
            while self.known(service) != workers {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(DEADLINE, known).await.expect("the broker never knew");
    }
}

fn options() -> ClientOptions {
    ClientOptions::default().timeout(Some(DEADLINE)).reconnect(Duration::from_millis(1), Duration::from_millis(20))
}

async fn echo(request: Request) -> Result<Frames, Failure> {
    Ok(request.into_body())
}

/// A handler that tells of each request and waits to be told its end
fn held() -> (impl Handler, mpsc::UnboundedReceiver<(Request, tokio::sync::oneshot::Sender<&'static str>)>) {
    let (tell, told) = mpsc::unbounded_channel();
    let handler = move |request: Request| {
        let (answer, answered) = tokio::sync::oneshot::channel();
        tell.send((request, answer)).ok();
        async move { answered.await.map_err(Failure::from) }
    };
    (handler, told)
}

#[tokio::test]
async fn many_clients_and_workers_find_each_other() {
    let house = House::new().await;
    let mut workers = Vec::new();
    for concurrency in [1, 4, 16] {
        workers.push(house.worker("echo", concurrency, echo).await);
    }
    let clients = [house.client().await, house.client().await];
    let mut asking = Vec::new();
    for number in 0..600 {
        let client = clients[number % 2].clone();
        asking.push(tokio::spawn(client.request("echo", number.to_string()).into_future()));
    }
    for (number, asking) in asking.into_iter().enumerate() {
        assert_eq!(asking.await.unwrap().unwrap().body, number.to_string().into());
    }
    let handled: u64 = workers.iter().map(|worker| worker.stats().replies).sum();
    assert_eq!(handled, 600);
    assert_eq!((clients[0].counts().replies, clients[1].counts().replies), (300, 300));
}

#[tokio::test]
async fn the_seed_s_exchange() {
    let house = House::new().await;
    let configuration = Actions::new().on("config.get", async |message: Message| {
        let id = message.value("id").cloned().unwrap_or_default();
        Ok::<_, Failure>(("config.result", json!({"id": id, "value": 7})))
    });
    let _worker = house.worker("dbmanager", 1, configuration).await;
    let client = house.client().await;
    let request = Message::new("config.get", json!({"id": "diskfree"}));
    let answer = client.ask("dbmanager", &request).await.unwrap();
    assert_eq!(answer, Message::new("config.result", json!({"id": "diskfree", "value": 7})));
    let error = client.ask("dbmanager", &Message::new("config.set", json!({}))).await.unwrap_err();
    assert_eq!(error.to_string(), "refused: 501 not implemented: no action config.set");
    let error = client.request("dbmanager", "not an action").await.unwrap_err();
    assert_eq!(error.status(), Some(Status::MALFORMED));
}

#[tokio::test]
async fn an_unknown_service_is_told_at_once() {
    let house = House::new().await;
    let error = house.client().await.request("nobody", "x").no_deadline().await.unwrap_err();
    assert_eq!(error.status(), Some(Status::NO_SUCH_SERVICE), "{error}");
}

#[tokio::test]
async fn a_dead_worker_s_request_goes_to_another_unless_that_may_not_be() {
    let house = House::new().await;
    let (handler, mut first) = held();
    let dying = house.worker("echo", 2, handler).await;
    let client = house.client().await;
    let asking = tokio::spawn(client.request("echo", "x").into_future());
    let once = tokio::spawn(client.request("echo", "once").not_repeatable().into_future());
    let mut taken = vec![first.recv().await.unwrap(), first.recv().await.unwrap()];
    assert!(taken.iter().all(|(request, _)| request.attempt() == 1));
    let (handler, mut second) = held();
    let _other = house.worker("echo", 1, handler).await;
    drop(dying);
    let (request, answer) = second.recv().await.unwrap();
    assert_eq!((request.body().first(), request.attempt()), (&b"x"[..], 2));
    answer.send("done").unwrap();
    assert_eq!(asking.await.unwrap().unwrap().body, "done".into());
    let error = once.await.unwrap().unwrap_err();
    assert_eq!(error.status(), Some(Status::WORKER_GONE), "{error}");
    let (request, _) = taken.pop().unwrap();
    assert!(request.cancelled().is_cancelled(), "who is dropped tells its handlers");
}

#[tokio::test]
async fn a_key_is_answered_once() {
    let house = House::new().await;
    let runs = Arc::new(AtomicU32::new(0));
    let counted = runs.clone();
    let (handler, mut held) = held();
    let handler = Arc::new(handler);
    let _worker = house
        .worker("bank", 4, move |request: Request| {
            counted.fetch_add(1, Ordering::SeqCst);
            let handler = handler.clone();
            async move { handler.handle(request).await }
        })
        .await;
    let client = house.client().await;
    let [first, second] = [(), ()].map(|()| tokio::spawn(client.request("bank", "pay").key("k1").into_future()));
    let (_request, answer) = held.recv().await.unwrap();
    answer.send("paid").unwrap();
    assert_eq!(first.await.unwrap().unwrap().body, "paid".into());
    assert_eq!(second.await.unwrap().unwrap().body, "paid".into());
    assert_eq!(client.request("bank", "pay").key("k1").await.unwrap().body, "paid".into());
    assert_eq!(runs.load(Ordering::SeqCst), 1);
    let error = client.request("bank", "pay more").key("k1").await.unwrap_err();
    assert_eq!(error.status(), Some(Status::KEY_IN_USE), "{error}");
}

#[tokio::test]
async fn giving_up_reaches_the_handler_and_frees_its_place() {
    let house = House::new().await;
    let (handler, mut told) = held();
    let worker = house.worker("slow", 1, handler).await;
    let client = house.client().await;
    let asking = tokio::spawn(client.request("slow", "x").into_future());
    let (request, answer) = told.recv().await.unwrap();
    asking.abort();
    request.cancelled().cancelled().await;
    answer.send("too late").unwrap();
    // Its time is over: told to the caller, and to the handler
    let asking = tokio::spawn(client.request("slow", "y").deadline(Duration::from_millis(50)).into_future());
    let (request, answer) = told.recv().await.unwrap();
    assert!(request.remaining().unwrap() <= Duration::from_millis(50));
    let error = asking.await.unwrap().unwrap_err();
    assert!(matches!(error, RequestError::DeadlinePassed { sent: true, .. }), "{error}");
    request.cancelled().cancelled().await;
    answer.send("too late").unwrap();
    let asking = tokio::spawn(client.request("slow", "z").into_future());
    let (_request, answer) = told.recv().await.unwrap();
    answer.send("in time").unwrap();
    assert_eq!(asking.await.unwrap().unwrap().body, "in time".into());
    assert_eq!((worker.stats().cancelled, client.counts().cancelled, client.counts().expired), (2, 1, 1));
}

#[tokio::test]
async fn failures_and_panics_are_told_and_the_worker_goes_on() {
    let house = House::new().await;
    let handler = async |request: Request| match request.body().first() {
        b"panic" => panic!("the test's panic"),
        b"fail" => Err(Failure::new(Status::new(418).unwrap(), "a teapot")),
        _ => Ok("good"),
    };
    let _worker = house.worker("echo", 1, handler).await;
    let client = house.client().await;
    let mut said = BTreeMap::new();
    for body in ["panic", "fail", "good"] {
        let told = match client.request("echo", body).await {
            Ok(reply) => String::from_utf8_lossy(reply.body.first()).into_owned(),
            Err(error) => error.to_string(),
        };
        said.insert(body, told);
    }
    assert_eq!(said["panic"], "refused: 500 worker failed: the handler panicked");
    assert_eq!(said["fail"], "refused: 418 refused: a teapot");
    assert_eq!(said["good"], "good");
}

#[tokio::test]
async fn replies_come_in_parts() {
    let house = House::new().await;
    let handler = async |request: Request| {
        let count: u32 = std::str::from_utf8(request.body().first())?.parse()?;
        for number in 0..count {
            request.partial(number.to_string()).await?;
        }
        Ok("done")
    };
    let _worker = house.worker("list", 1, handler).await;
    let client = house.client().await;
    let mut parts = client.request("list", "1000").parts();
    for number in 0..1000 {
        assert_eq!(parts.next().await.unwrap().unwrap(), Part::Partial(number.to_string().into()));
    }
    assert_eq!(parts.next().await.unwrap().unwrap(), Part::Final("done".into()));
    let reply = client.request("list", "3").await.unwrap();
    assert_eq!((reply.parts.len(), reply.body), (3, "done".into()));
}

#[tokio::test]
async fn the_broker_tells_of_itself() {
    let house = House::new().await;
    let client = house.client().await;
    assert_eq!(client.services().await.unwrap(), Vec::<String>::new());
    assert_eq!(client.ping("echo").await.unwrap(), None);
    let _workers = [house.worker("echo", 2, echo).await, house.worker("echo", 1, echo).await];
    let _other = house.worker("a.b", 1, echo).await;
    assert_eq!(client.services().await.unwrap(), ["a.b", "echo"]);
    assert!(client.ping("echo").await.unwrap().is_some());
    let workers = client.workers().await.unwrap();
    assert!(workers.to_string().contains("echo"), "{workers}");
    assert!(client.stats().await.unwrap().is_object());
}

#[tokio::test]
async fn a_service_is_drained_by_whoever_may() {
    let house = House::new().await;
    let (handler, mut told) = held();
    let worker = house.worker("echo", 1, handler).await;
    let _other = house.worker("other", 1, echo).await;
    let client = house.client().await;
    let asking = tokio::spawn(client.request("echo", "x").into_future());
    let (_request, answer) = told.recv().await.unwrap();
    let error = client.drain("other").await.unwrap_err();
    assert_eq!(error.status(), Some(Status::NOT_PERMITTED), "{error}");
    client.drain("echo").await.unwrap();
    answer.send("finished").unwrap();
    assert_eq!(asking.await.unwrap().unwrap().body, "finished".into());
    assert_eq!(worker.ended().await.reason, EndReason::Drained);
    house.knows("echo", 0).await;
}

#[tokio::test]
async fn a_stopped_worker_finishes_and_loses_nothing() {
    let house = House::new().await;
    let (handler, mut told) = held();
    let stopping = house.worker("echo", 1, handler).await;
    let client = house.client().await;
    let asking = tokio::spawn(client.request("echo", "x").into_future());
    let waiting = tokio::spawn(client.request("echo", "y").into_future());
    let (_request, answer) = told.recv().await.unwrap();
    let ended = tokio::spawn(async move { stopping.stop(DEADLINE).await });
    // What waits is for the next worker
    let _next = house.worker("echo", 1, echo).await;
    assert_eq!(waiting.await.unwrap().unwrap().body, "y".into());
    answer.send("finished").unwrap();
    assert_eq!(asking.await.unwrap().unwrap().body, "finished".into());
    assert_eq!(ended.await.unwrap().abandoned, 0);
}

#[tokio::test]
async fn all_come_back_to_a_restarted_broker() {
    let house = House::new().await;
    let (handler, mut told) = held();
    let worker = house.worker("echo", 1, handler).await;
    let client = house.client().await;
    let asking = tokio::spawn(client.request("echo", "x").into_future());
    let (request, _answer) = told.recv().await.unwrap();
    // Gone without a word, and back at the same place
    house.server.stop(Duration::ZERO).await;
    request.cancelled().cancelled().await;
    drop((request, _answer));
    let house = House::on(&house.context, &house.endpoint).await;
    let answered = async {
        loop {
            let (request, answer) = told.recv().await.unwrap();
            if !request.cancelled().is_cancelled() {
                answer.send("again").unwrap();
            }
        }
    };
    let reply = tokio::select! {
        reply = asking => reply.unwrap(),
        () = answered => unreachable!(),
    };
    match reply {
        Ok(reply) => assert_eq!(reply.body, "again".into()),
        // Who asks a broker that is being stopped, or one that no worker has come back to yet, is told so
        Err(error) => {
            assert!(matches!(error.status(), Some(Status::UNAVAILABLE | Status::NO_SUCH_SERVICE)), "{error}")
        }
    }
    house.knows("echo", 1).await;
    assert_eq!(worker.stats().conversations, 2);
    let asking = tokio::spawn(client.request("echo", "z").into_future());
    let (_request, answer) = told.recv().await.unwrap();
    answer.send("as before").unwrap();
    assert_eq!(asking.await.unwrap().unwrap().body, "as before".into());
}

#[test]
fn neither_end_needs_a_runtime() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let house = runtime.block_on(House::new());
    let context = Context::builder().build().unwrap();
    let doubling = blocking(|request: Request| {
        let number: u32 = std::str::from_utf8(request.body().first())?.parse()?;
        Ok(format!("{}", number * 2))
    });
    let worker = Worker::builder(&context, &house.endpoint, "double").concurrency(4).serve(doubling).unwrap();
    assert!(worker.ready_blocking());
    let client = BlockingClient::connect(&context, &house.endpoint, options()).unwrap();
    let threads: Vec<_> = (0..4u32)
        .map(|thread| {
            let client = client.clone();
            std::thread::spawn(move || {
                for number in (thread * 100)..(thread * 100 + 50) {
                    let reply = client.request("double", number.to_string()).unwrap();
                    assert_eq!(reply.body, (number * 2).to_string().into());
                }
            })
        })
        .collect();
    threads.into_iter().for_each(|thread| thread.join().unwrap());
    assert_eq!(client.services().unwrap(), ["double"]);
    assert!(client.ping("double").unwrap().is_some());
    let error = client.request("double", "x").unwrap_err();
    assert_eq!(error.to_string(), "refused: 500 worker failed: invalid digit found in string");
    assert_eq!(worker.stop_blocking(DEADLINE).reason, EndReason::Stopped);
    assert!(matches!(client.request("double", "1"), Err(RequestError::Refused { .. })));
}

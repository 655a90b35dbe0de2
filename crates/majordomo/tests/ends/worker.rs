//! Workers on a connection.

use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use tidings_majordomo::wire::{RequestOptions, Status, Wire, WorkerCommand, WorkerOrder};
use tidings_majordomo::worker::{EndReason, blocking};
use tidings_majordomo::{Actions, Failure, Message, PartialError, Request, ServeError, Worker, WorkerBuilder};
use tidings_socket::{Context, Message as Frames};
use tokio::sync::{mpsc, oneshot};

use crate::scripted::{DEADLINE, Heard, Scripted};

fn builder(context: &Context, broker: &Scripted) -> WorkerBuilder {
    // The broker of these tests sends no heartbeats by itself
    let builder = Worker::builder(context, &broker.endpoint, "echo").silence(DEADLINE);
    builder.reconnect(Duration::from_millis(1), Duration::from_millis(20))
}

async fn echo(request: Request) -> Result<Frames, Failure> {
    Ok(request.into_body())
}

/// A broker, and what a worker of it said first
async fn ours(worker: impl FnOnce(WorkerBuilder) -> Worker) -> (Scripted, Worker, Heard) {
    let context = Context::new();
    let broker = Scripted::ours(&context).await;
    let worker = worker(builder(&context, &broker));
    let ready = broker.hear().await;
    assert!(ready.is_ready());
    broker.order(&ready, WorkerOrder::Heartbeat).await;
    (broker, worker, ready)
}

async fn final_reply(broker: &Scripted, of: &'static str) -> Vec<u8> {
    let heard = broker.hear_more().await;
    match heard.worker() {
        WorkerCommand::Final { token, body } if token == of => body[0].to_vec(),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn the_wire_is_agreed_in_the_handshake() {
    let (broker, worker, ready) = ours(|builder| builder.concurrency(3).serve(echo).unwrap()).await;
    assert!(worker.ready().await && worker.wire() == Some(Wire::Tidings));
    let WorkerCommand::Ready { service, options } = ready.worker() else { panic!() };
    assert_eq!((service.to_string().as_str(), options.concurrency), ("echo", 3));
    broker.ask(&ready, "00000001", "hi").await;
    assert_eq!(final_reply(&broker, "00000001").await, b"hi");
    let context = Context::new();
    let broker = Scripted::foreign(&context).await;
    for wire in [Wire::Mdp01, Wire::Mdp02, Wire::Majortomo, Wire::Zproto] {
        let _worker = builder(&context, &broker).wire(wire).serve(echo).unwrap();
        let ready = broker.hear_more().await;
        assert!(ready.is_ready() && ready.wire() == wire);
        broker.ask(&ready, "client", "hi").await;
        assert_eq!(final_reply(&broker, "client").await, b"hi");
        drop(_worker);
        assert_eq!(broker.hear_more().await.worker(), &WorkerCommand::Disconnect);
    }
}

#[tokio::test]
async fn handlers_run_at_the_same_time() {
    let meeting = Arc::new(tokio::sync::Barrier::new(3));
    let handler = move |request: Request| {
        let meeting = meeting.clone();
        async move {
            meeting.wait().await;
            Ok::<_, Failure>(request.into_body())
        }
    };
    let (broker, worker, ready) = ours(|builder| builder.concurrency(3).serve(handler).unwrap()).await;
    for token in ["00000001", "00000002", "00000003"] {
        broker.ask(&ready, token, token).await;
    }
    for _ in 0..3 {
        assert!(matches!(broker.hear_more().await.worker(), WorkerCommand::Final { .. }));
    }
    assert_eq!((worker.stats().requests, worker.stats().replies, worker.stats().running), (3, 3, 0));
}

#[tokio::test]
async fn requests_that_come_together_hold_each_other_up_in_nothing() {
    const ROUNDS: u64 = 12;
    let released = Arc::new(tokio::sync::Semaphore::new(0));
    let waiting = released.clone();
    let handler = move |request: Request| {
        let released = waiting.clone();
        async move {
            match request.body().first() {
                b"panic" => panic!("the test's panic"),
                b"wait" => drop(released.acquire().await?),
                // Longer than others are to be kept from beginning
                b"compute" => {
                    let began = std::time::Instant::now();
                    while began.elapsed() < Duration::from_micros(200) {}
                }
                _ => {}
            }
            Ok::<_, Failure>(request.into_body())
        }
    };
    let (broker, worker, ready) = ours(|builder| builder.concurrency(100).serve(handler).unwrap()).await;
    for round in 0..ROUNDS {
        // All of a round leave at once, as the test's task does not give way between them
        for (place, body) in ["now", "wait", "panic", "now", "compute", "wait", "now"].into_iter().enumerate() {
            let token: &'static str = format!("{:08}", round * 10 + place as u64).leak();
            broker.ask(&ready, token, body).await;
        }
    }
    let mut told = std::collections::BTreeMap::<String, u64>::new();
    let mut hear = async |many: u64| {
        for _ in 0..many {
            let heard = broker.hear_more().await;
            let said = match heard.worker() {
                WorkerCommand::Final { body, .. } => String::from_utf8_lossy(&body[0]).into_owned(),
                WorkerCommand::Refused { text, .. } => String::from_utf8_lossy(text).into_owned(),
                other => panic!("{other:?}"),
            };
            *told.entry(said).or_default() += 1;
        }
        told.clone()
    };
    let at_once = hear(ROUNDS * 5).await;
    let expected = [("compute", ROUNDS), ("now", 3 * ROUNDS), ("the handler panicked", ROUNDS)];
    assert_eq!(at_once, expected.map(|(said, times)| (said.to_owned(), times)).into());
    released.add_permits(1);
    assert_eq!(hear(ROUNDS * 2).await["wait"], 2 * ROUNDS);
    assert_eq!(worker.stats().running, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn no_farewell_overtakes_a_reply() {
    const REQUESTS: usize = 16;
    let context = Context::new();
    let broker = Scripted::ours(&context).await;
    for _ in 0..40 {
        let released = Arc::new(tokio::sync::Semaphore::new(0));
        let waiting = released.clone();
        let handler = move |request: Request| {
            let released = waiting.clone();
            async move {
                released.acquire().await?.forget();
                Ok::<_, Failure>(request.into_body())
            }
        };
        let worker = builder(&context, &broker).concurrency(REQUESTS as u32).serve(handler).unwrap();
        let ready = broker.hear_more().await;
        assert!(ready.is_ready());
        broker.order(&ready, WorkerOrder::Heartbeat).await;
        for place in 0..REQUESTS {
            broker.ask(&ready, format!("{place:08}").leak(), "x").await;
        }
        while worker.stats().running < REQUESTS {
            tokio::task::yield_now().await;
        }
        worker.drain();
        released.add_permits(REQUESTS);
        assert!(matches!(broker.hear_more().await.worker(), WorkerCommand::Draining));
        for _ in 0..REQUESTS {
            let heard = broker.hear_more().await;
            assert!(matches!(heard.worker(), WorkerCommand::Final { .. }), "{heard:?}");
        }
        assert_eq!(broker.hear_more().await.worker(), &WorkerCommand::Disconnect);
        assert_eq!(worker.ended().await.abandoned, 0);
    }
}

#[tokio::test]
async fn a_panic_is_a_refusal_and_the_worker_goes_on() {
    let handler = async |request: Request| {
        assert_ne!(request.body().first(), b"poison", "the test's panic");
        Ok::<_, Failure>(request.into_body())
    };
    let (broker, worker, ready) = ours(|builder| builder.serve(handler).unwrap()).await;
    broker.ask(&ready, "00000001", "poison").await;
    let heard = broker.hear_more().await;
    let WorkerCommand::Refused { status, text, .. } = heard.worker() else { panic!("{heard:?}") };
    assert_eq!((*status, &text[..]), (Status::WORKER_FAILED, &b"the handler panicked"[..]));
    broker.ask(&ready, "00000002", "good").await;
    assert_eq!(final_reply(&broker, "00000002").await, b"good");
    assert_eq!(worker.stats().failed, 1);
}

#[tokio::test]
async fn errors_are_refusals_with_their_words() {
    let handler = async |request: Request| {
        let text = std::str::from_utf8(request.body().first())?;
        match text.parse::<u32>()? {
            0 => Err(Failure::new(Status::MALFORMED, "not zero")),
            number => Ok(number.to_string()),
        }
    };
    let (broker, _worker, ready) = ours(|builder| builder.serve(handler).unwrap()).await;
    for (body, status, words) in
        [("0", Status::MALFORMED, "not zero"), ("x", Status::WORKER_FAILED, "invalid digit found in string")]
    {
        broker.ask(&ready, "00000001", body).await;
        let heard = broker.hear_more().await;
        let WorkerCommand::Refused { status: said, text, .. } = heard.worker() else { panic!("{heard:?}") };
        assert_eq!((*said, &text[..]), (status, words.as_bytes()));
    }
}

#[tokio::test]
async fn heartbeats_go_out_while_a_handler_blocks() {
    let (release, released) = std::sync::mpsc::channel::<()>();
    let released = std::sync::Mutex::new(released);
    let handler = blocking(move |request: Request| {
        released.lock().unwrap().recv().unwrap();
        Ok(request.into_body())
    });
    let beats = Duration::from_millis(20);
    let (broker, _worker, ready) = ours(|builder| builder.heartbeat_interval(beats).serve(handler).unwrap()).await;
    broker.ask(&ready, "00000001", "x").await;
    for _ in 0..5 {
        assert_eq!(broker.hear().await.worker(), &WorkerCommand::Heartbeat);
        broker.order(&ready, WorkerOrder::Heartbeat).await;
    }
    release.send(()).unwrap();
    assert_eq!(final_reply(&broker, "00000001").await, b"x");
}

#[tokio::test]
async fn a_blocking_handler_that_panics_is_a_refusal_too() {
    let handler = blocking(|request: Request| match request.body().first() {
        b"poison" => panic!("the test's panic"),
        _ => Ok("good"),
    });
    let (broker, _worker, ready) = ours(|builder| builder.serve(handler).unwrap()).await;
    broker.ask(&ready, "00000001", "poison").await;
    let heard = broker.hear_more().await;
    assert!(matches!(heard.worker(), WorkerCommand::Refused { status: Status::WORKER_FAILED, .. }), "{heard:?}");
    broker.ask(&ready, "00000002", "x").await;
    assert_eq!(final_reply(&broker, "00000002").await, b"good");
}

#[tokio::test]
async fn parts_come_before_the_reply_and_stop_when_nobody_waits() {
    let (tell, mut told) = mpsc::unbounded_channel();
    let handler = move |request: Request| {
        let tell = tell.clone();
        async move {
            request.partial("1").await?;
            request.partial("2").await?;
            if request.body().first() == b"long" {
                request.cancelled().cancelled().await;
                tell.send(request.partial("3").await).unwrap();
                return Err(Failure::new(Status::CANCELLED, "as you wish"));
            }
            Ok("3")
        }
    };
    let (broker, _worker, ready) = ours(|builder| builder.serve(handler).unwrap()).await;
    broker.ask(&ready, "00000001", "short").await;
    for part in ["1", "2"] {
        let heard = broker.hear_more().await;
        let WorkerCommand::Partial { body, .. } = heard.worker() else { panic!("{heard:?}") };
        assert_eq!(body[0], part);
    }
    assert_eq!(final_reply(&broker, "00000001").await, b"3");
    broker.ask(&ready, "00000002", "long").await;
    broker.hear_more().await;
    broker.hear_more().await;
    broker.order(&ready, WorkerOrder::Cancel { token: "00000002".into() }).await;
    assert_eq!(told.recv().await, Some(Err(PartialError::Gone)));
    let heard = broker.hear_more().await;
    assert!(matches!(heard.worker(), WorkerCommand::Refused { status: Status::CANCELLED, .. }), "{heard:?}");
}

#[tokio::test]
async fn parts_wait_for_a_broker_that_does_not_read() {
    let sent = Arc::new(std::sync::atomic::AtomicU32::new(0));
    let counted = sent.clone();
    let handler = move |request: Request| {
        let sent = counted.clone();
        async move {
            // Far more than the system's buffers hold
            for _ in 0..4096 {
                request.partial(vec![0; 64 << 10]).await?;
                sent.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
            }
            Ok("done")
        }
    };
    let narrow = tidings_socket::Options::new().send_hwm(4).recv_hwm(4);
    let context = Context::new();
    let broker = Scripted::bind_with(&context, "tcp://127.0.0.1:*", narrow.clone()).await;
    let worker = builder(&context, &broker).wire(Wire::Tidings).socket(narrow).serve(handler).unwrap();
    let ready = broker.hear().await;
    broker.ask(&ready, "00000001", "x").await;
    // Nobody reads: it gets as far as there is room between them, and no further however often it gets its turn
    let mut before = 0;
    let mut idle_turns = 0;
    while idle_turns < 2000 && before < 4096 {
        tokio::task::yield_now().await;
        let now = sent.load(std::sync::atomic::Ordering::SeqCst);
        idle_turns = if now == before && now > 0 { idle_turns + 1 } else { 0 };
        before = now;
    }
    assert!(before < 4096, "nothing held it up");
    let mut parts = 0;
    while let WorkerCommand::Partial { .. } = broker.hear_more().await.worker() {
        parts += 1;
    }
    assert_eq!((parts, worker.stats().partials), (4096, 4096));
}

#[tokio::test]
async fn a_handler_knows_deadline_attempt_and_key() {
    let (tell, mut told) = mpsc::unbounded_channel();
    let handler = move |request: Request| {
        let tell = tell.clone();
        async move {
            let seen = (request.remaining(), request.attempt(), request.key().cloned(), request.service().to_string());
            request.cancelled().cancelled().await;
            tell.send(seen).unwrap();
            Ok::<_, Failure>("too late")
        }
    };
    let (broker, _worker, ready) = ours(|builder| builder.serve(handler).unwrap()).await;
    let options = RequestOptions {
        deadline: Some(Duration::from_millis(100)),
        key: Some("k".into()),
        attempt: 2,
        ..RequestOptions::default()
    };
    broker.ask_with(&ready, "00000001", "x", options).await;
    let (remaining, attempt, key, service) = told.recv().await.unwrap();
    assert!(remaining.unwrap() <= Duration::from_millis(100));
    assert_eq!((attempt, key.as_deref(), service.as_str()), (2, Some(&b"k"[..]), "echo"));
    assert_eq!(final_reply(&broker, "00000001").await, b"too late", "the place is given back");
}

#[tokio::test]
async fn a_restarted_broker_is_told_ready_again() {
    let context = Context::new();
    let broker = Scripted::ours(&context).await;
    let worker = builder(&context, &broker).serve(echo).unwrap();
    assert!(broker.hear().await.is_ready());
    let endpoint = broker.endpoint.clone();
    broker.die().await;
    let broker = Scripted::bind(&context, &endpoint, true).await;
    let ready = broker.hear_more().await;
    assert!(ready.is_ready());
    broker.ask(&ready, "00000001", "x").await;
    assert_eq!(final_reply(&broker, "00000001").await, b"x");
    assert_eq!(worker.stats().conversations, 2);
    assert_eq!(worker.last_loss().unwrap().name(), "connection-lost");
}

#[tokio::test]
async fn disconnect_and_silence_mean_a_new_socket_and_ready_again() {
    let context = Context::new();
    let broker = Scripted::ours(&context).await;
    let worker = builder(&context, &broker).silence(Duration::from_millis(80)).serve(echo).unwrap();
    let first = broker.hear().await;
    broker.order(&first, WorkerOrder::Disconnect).await;
    let second = loop {
        let heard = broker.hear_more().await;
        if heard.is_ready() {
            break heard;
        }
    };
    assert_ne!(first.peer, second.peer, "RFC 7: a new socket");
    // Nothing is said to it from here on
    let said = broker.hear_more().await;
    assert_eq!((said.worker(), &said.peer), (&WorkerCommand::Disconnect, &second.peer));
    assert!(broker.hear_more().await.is_ready());
    assert_eq!(worker.last_loss().unwrap().name(), "silent");
}

#[tokio::test]
async fn stopping_finishes_what_it_has() {
    let (tell, mut told) = mpsc::unbounded_channel::<oneshot::Sender<()>>();
    let handler = move |request: Request| {
        let (release, released) = oneshot::channel();
        tell.send(release).unwrap();
        async move {
            released.await.ok();
            Ok::<_, Failure>(request.into_body())
        }
    };
    let (broker, worker, ready) = ours(|builder| builder.serve(handler).unwrap()).await;
    broker.ask(&ready, "00000001", "x").await;
    let release = told.recv().await.unwrap();
    let stopping = tokio::spawn(async move { worker.stop(DEADLINE).await });
    assert_eq!(broker.hear_more().await.worker(), &WorkerCommand::Draining);
    release.send(()).unwrap();
    assert_eq!(final_reply(&broker, "00000001").await, b"x");
    assert_eq!(broker.hear_more().await.worker(), &WorkerCommand::Disconnect);
    let report = stopping.await.unwrap();
    assert_eq!((report.reason, report.abandoned), (EndReason::Stopped, 0));
    tokio::time::timeout(DEADLINE, broker.socket.as_socket().deserted()).await.unwrap();
}

#[tokio::test]
async fn at_its_deadline_stopping_hands_back_what_is_left() {
    let (tell, mut told) = mpsc::unbounded_channel();
    let handler = move |request: Request| {
        let tell = tell.clone();
        async move {
            request.cancelled().cancelled().await;
            tell.send(()).unwrap();
            Ok::<_, Failure>("late")
        }
    };
    let (broker, worker, ready) = ours(|builder| builder.serve(handler).unwrap()).await;
    broker.ask(&ready, "00000001", "x").await;
    while worker.stats().running == 0 {
        tokio::task::yield_now().await;
    }
    let report = worker.stop(Duration::from_millis(20)).await;
    assert_eq!((report.reason, report.abandoned), (EndReason::Stopped, 1));
    assert_eq!(broker.hear_more().await.worker(), &WorkerCommand::Draining);
    assert_eq!(broker.hear_more().await.worker(), &WorkerCommand::Disconnect);
    assert_eq!(told.recv().await, Some(()), "the handler is told");
}

#[tokio::test]
async fn the_broker_can_end_it() {
    let (broker, worker, ready) = ours(|builder| builder.serve(echo).unwrap()).await;
    broker.order(&ready, WorkerOrder::Drain).await;
    assert_eq!(broker.hear_more().await.worker(), &WorkerCommand::Disconnect);
    assert_eq!(worker.ended().await.reason, EndReason::Drained);
    assert!(!worker.ready().await);
}

#[tokio::test]
async fn dropping_hands_back() {
    let (broker, worker, _ready) = ours(|builder| builder.serve(echo).unwrap()).await;
    drop(worker);
    assert_eq!(broker.hear_more().await.worker(), &WorkerCommand::Disconnect);
    tokio::time::timeout(DEADLINE, broker.socket.as_socket().deserted()).await.unwrap();
}

#[tokio::test]
async fn actions_have_handlers_of_their_own() {
    let actions = Actions::new()
        .on("foo.this.do", async |message: Message| {
            let value = message.value("a_key").cloned().unwrap_or_default();
            Ok::<_, Failure>(("foo.this.result", json!({"another_key": value})))
        })
        .on("fail", async |_: Message| Err::<Message, _>(Failure::new(Status::MALFORMED, "as asked")));
    let context = Context::new();
    let broker = Scripted::foreign(&context).await;
    let _worker = builder(&context, &broker).serve(actions).unwrap();
    let ready = broker.hear_more().await;
    let answers = [
        (Message::new("foo.this.do", json!({"a_key": 7})), Message::new("foo.this.result", json!({"another_key": 7}))),
        (
            Message::new("foo.that.do", json!({})),
            Message::new("error", json!({"status": 501, "text": "no action foo.that.do"})),
        ),
        (Message::new("fail", json!({})), Message::new("error", json!({"status": 400, "text": "as asked"}))),
    ];
    for (request, answer) in answers {
        let body = request.encode().into_frames();
        broker
            .order(&ready, WorkerOrder::Request { token: "c".into(), options: RequestOptions::default(), body })
            .await;
        let heard = broker.hear_more().await;
        let WorkerCommand::Final { body, .. } = heard.worker() else { panic!("{heard:?}") };
        assert_eq!(Message::decode(&Frames::from_frames(body.clone())).unwrap(), answer);
    }
}

#[test]
fn a_worker_needs_no_runtime_of_its_caller() {
    let context = Context::builder().build().unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let broker = runtime.block_on(Scripted::ours(&context));
    let worker = builder(&context, &broker).serve(blocking(|request: Request| Ok(request.into_body()))).unwrap();
    let ready = runtime.block_on(async {
        let ready = broker.hear().await;
        broker.order(&ready, WorkerOrder::Heartbeat).await;
        ready
    });
    // The context's own thread receives it
    assert!(worker.ready_blocking());
    runtime.block_on(async {
        broker.ask(&ready, "00000001", "x").await;
        assert_eq!(final_reply(&broker, "00000001").await, b"x");
    });
    assert_eq!(worker.stop_blocking(DEADLINE).abandoned, 0);
}

#[test]
fn what_can_t_be_a_worker_is_said() {
    let context = Context::builder().build().unwrap();
    let error = Worker::builder(&context, "tcp://nowhere", "echo").serve(echo).unwrap_err();
    assert!(matches!(error, ServeError::Endpoint(_)), "{error}");
    let error = Worker::builder(&context, "tcp://127.0.0.1:1", "").serve(echo).unwrap_err();
    assert_eq!(error.to_string(), "the name of a service can't be empty");
}

//! A broker that is killed under durable load, again and again: nothing that was acknowledged is lost, nothing is
//! answered twice differently.

use std::collections::HashMap;
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tidings_majordomo::titanic::client::Progress;
use tidings_majordomo::{Client, ClientOptions, DurableError, Failure, Request, Worker};
use tidings_socket::{Context, Message};
use tidings_store::{Inspector, Uuid};

use crate::Stage;

/// Where the child finds its store
const STORE: &str = "TIDINGS_TEST_STORE";
/// Where it listens
const ENDPOINT: &str = "TIDINGS_TEST_ENDPOINT";
/// The child says so when it listens
const LISTENS: &str = "listens at ";

/// Not a test: the process that is killed
#[tokio::test]
#[ignore = "the other end of the test of this file"]
async fn broker() {
    let (Some(store), Ok(endpoint)) = (std::env::var_os(STORE), std::env::var(ENDPOINT)) else { return };
    let stage = Stage::new(Path::new(&store), &endpoint).await;
    println!("\n{LISTENS}{}", stage.endpoint);
    stage.server.ended().await;
}

fn spawn(store: &Path, endpoint: &str) -> (Child, String) {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "killed::broker", "--ignored", "--nocapture"]).env(STORE, store).env(ENDPOINT, endpoint);
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let listens = loop {
        let line = lines.next().expect("the broker ended").unwrap();
        if let Some(endpoint) = line.strip_prefix(LISTENS) {
            break endpoint.to_owned();
        }
    };
    (child, listens)
}

/// What was acknowledged, by id: what was asked, and what was answered if anything was
type Known = Arc<Mutex<HashMap<Uuid, (String, Option<String>)>>>;

/// The program's own test does it fifty times
const ROUNDS: usize = 10;
const CLIENTS: usize = 4;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broker_that_is_killed_again_and_again_loses_nothing_and_answers_nothing_twice() {
    let directory = tempfile::tempdir().unwrap();
    let context = Context::new();
    let (mut child, endpoint) = spawn(directory.path(), "tcp://127.0.0.1:*");
    let executions = Arc::new(AtomicUsize::new(0));
    // Each execution answers something else, so that a second answer would be seen
    let handler = {
        let executions = executions.clone();
        move |request: Request| {
            let number = executions.fetch_add(1, Ordering::SeqCst);
            async move {
                let asked = String::from_utf8_lossy(request.body().first()).into_owned();
                Ok::<_, Failure>(Message::from(format!("{asked} by {number}")))
            }
        }
    };
    let quick = Duration::from_millis(10);
    let worker = Worker::builder(&context, &endpoint[..], "work").concurrency(8).reconnect(quick, quick * 5);
    let worker = worker.serve(handler).unwrap();
    let known: Known = Arc::default();
    let stop = Arc::new(AtomicBool::new(false));
    let acknowledged = Arc::new(AtomicUsize::new(0));
    let mut clients = Vec::new();
    for client in 0..CLIENTS {
        let options = ClientOptions::default().timeout(Some(Duration::from_secs(30))).reconnect(quick, quick * 5);
        let durable = Client::new(&context, &endpoint[..], options).unwrap().durable();
        let (known, stop, acknowledged) = (known.clone(), stop.clone(), acknowledged.clone());
        clients.push(tokio::spawn(async move {
            for number in 0_usize.. {
                if stop.load(Ordering::SeqCst) {
                    return;
                }
                let asked = format!("{client}/{number}");
                // Tried until it is acknowledged: the key makes it the same request
                let id = loop {
                    match durable.submit("work", asked.clone(), Some(format!("key {asked}").into())).await {
                        Ok(id) => break id,
                        Err(DurableError::Request(_) | DurableError::Failed(_)) => {}
                        Err(error) => panic!("{asked}: {error}"),
                    }
                };
                let again = known.lock().unwrap().insert(id, (asked.clone(), None));
                assert!(again.is_none(), "{asked} has the id of {again:?}");
                acknowledged.fetch_add(1, Ordering::SeqCst);
                // Half of them are asked for at once, and so some results are known before a kill
                if number % 2 == 0
                    && let Ok(Progress::Done(reply)) = durable.progress(id).await
                {
                    let reply = String::from_utf8_lossy(reply.first()).into_owned();
                    known.lock().unwrap().get_mut(&id).unwrap().1 = Some(reply);
                }
            }
        }));
    }
    for round in 0..ROUNDS {
        // Under load: some more acknowledgements than last time, and not at the same point
        let wanted = acknowledged.load(Ordering::SeqCst) + 5 + round * 7 % 40;
        while acknowledged.load(Ordering::SeqCst) < wanted {
            tokio::task::yield_now().await;
            assert!(child.try_wait().unwrap().is_none(), "the broker ended by itself");
        }
        // SIGKILL
        child.kill().unwrap();
        child.wait().unwrap();
        (child, _) = spawn(directory.path(), &endpoint);
    }
    stop.store(true, Ordering::SeqCst);
    for client in clients {
        client.await.unwrap();
    }
    let options = ClientOptions::default().timeout(Some(Duration::from_secs(30)));
    let durable = Client::connect(&context, &endpoint[..], options).await.unwrap().durable();
    let known = known.lock().unwrap().clone();
    let mut answered_before = 0;
    for (id, (asked, answered)) in &known {
        let reply = durable.wait(*id, Duration::from_secs(30)).await;
        let reply = reply.unwrap_or_else(|error| panic!("{asked} was acknowledged as {id} and is lost: {error}"));
        let reply = String::from_utf8_lossy(reply.first()).into_owned();
        assert!(reply.starts_with(&format!("{asked} by ")), "{asked}: {reply}");
        if let Some(answered) = answered {
            assert_eq!(&reply, answered, "{asked} was answered twice");
            answered_before += 1;
        }
        // And it stays so
        let Progress::Done(again) = durable.progress(*id).await.unwrap() else { panic!("{asked} is pending again") };
        assert_eq!(again.first(), reply.as_bytes());
    }
    assert!(answered_before > 0 && known.len() >= ROUNDS * 5);
    child.kill().unwrap();
    child.wait().unwrap();
    let inspector = Inspector::open(directory.path()).unwrap();
    let report = inspector.fsck(|_| {}).unwrap();
    assert!(report.is_clean(), "{:?}", report.problems);
    // No second copy of any: what is stored is what was acknowledged, and at most one more for each client
    let stored = inspector.queue(b"work").unwrap().unwrap();
    assert!(stored.done as usize >= known.len() && stored.done as usize <= known.len() + CLIENTS, "{stored:?}");
    println!(
        "{ROUNDS} kills, {} requests acknowledged, {} executions, {answered_before} answers compared across kills",
        known.len(),
        executions.load(Ordering::SeqCst)
    );
    worker.stop(Duration::from_secs(1)).await;
}

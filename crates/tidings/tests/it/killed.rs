//! `tidings serve` killed fifty times under durable load: nothing that was acknowledged is lost, and nothing is
//! answered twice differently to the same id.

use std::collections::HashMap;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tidings::{Context, Message};
use tidings_majordomo::titanic::client::Progress;
use tidings_majordomo::{Client, ClientOptions, DurableError, Failure, Request, Worker};
use tidings_store::{Inspector, Uuid};

use crate::daemon::Daemon;
use crate::process::{DEADLINE, run, tidings};

const KILLS: usize = 50;
const CLIENTS: usize = 4;
const QUICK: Duration = Duration::from_millis(10);

fn serve(store: &Path, service: &str) -> Daemon {
    let store = store.to_str().unwrap();
    let only_services = ["--set", "events.enabled=false", "--set", "gossip.enabled=false", "--http", "127.0.0.1:0"];
    Daemon::ready(tidings(&[&["serve", "--json", "--service", service, "--store", store], &only_services[..]].concat()))
}

/// What was acknowledged, by id: what was asked, and what was answered if anything was
type Known = Arc<Mutex<HashMap<Uuid, (String, Option<String>)>>>;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fifty_kills_lose_nothing_and_no_id_has_two_answers() {
    let directory = tempfile::tempdir().unwrap();
    let store = directory.path().join("store");
    let mut daemon = serve(&store, "tcp://127.0.0.1:*");
    let (context, endpoint) = (Context::new(), daemon.service.clone());
    // Each execution answers something else, so that a second answer would be seen
    let executions = Arc::new(AtomicUsize::new(0));
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
    let worker = Worker::builder(&context, &endpoint[..], "work").concurrency(8).reconnect(QUICK, QUICK * 5);
    let worker = worker.serve(handler).unwrap();
    let (known, stop) = (Known::default(), Arc::new(AtomicBool::new(false)));
    let acknowledged = Arc::new(AtomicUsize::new(0));
    let mut clients = Vec::new();
    for client in 0..CLIENTS {
        let options = ClientOptions::default().timeout(Some(DEADLINE)).reconnect(QUICK, QUICK * 5);
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
                // Half of them are asked for at once, so that some results are known before a kill
                if number % 2 == 0
                    && let Ok(Progress::Done(reply)) = durable.progress(id).await
                {
                    let reply = String::from_utf8_lossy(reply.first()).into_owned();
                    known.lock().unwrap().get_mut(&id).unwrap().1 = Some(reply);
                }
            }
        }));
    }
    for kill in 0..KILLS {
        // Never at the same point, and always in the middle
        let wanted = acknowledged.load(Ordering::SeqCst) + 5 + kill * 7 % 40;
        let begun = Instant::now();
        while acknowledged.load(Ordering::SeqCst) < wanted {
            tokio::task::yield_now().await;
            assert!(begun.elapsed() < DEADLINE * 2, "no acknowledgements any more");
        }
        // SIGKILL
        drop(daemon);
        daemon = serve(&store, &endpoint);
    }
    stop.store(true, Ordering::SeqCst);
    for client in clients {
        client.await.unwrap();
    }
    let options = ClientOptions::default().timeout(Some(DEADLINE));
    let durable = Client::connect(&context, &endpoint[..], options).await.unwrap().durable();
    let known = known.lock().unwrap().clone();
    let mut compared = 0;
    for (id, (asked, answered)) in &known {
        let reply = durable.wait(*id, DEADLINE).await;
        let reply = reply.unwrap_or_else(|error| panic!("{asked} was acknowledged as {id} and is lost: {error}"));
        let reply = String::from_utf8_lossy(reply.first()).into_owned();
        assert!(reply.starts_with(&format!("{asked} by ")), "{asked}: {reply}");
        if let Some(answered) = answered {
            assert_eq!(&reply, answered, "{asked} was answered twice");
            compared += 1;
        }
    }
    assert!(compared > 0 && known.len() >= KILLS * 5);
    drop(daemon);
    // No second copy of any: what is stored is what was acknowledged, and at most one more for each client
    let stored = Inspector::open(&store).unwrap().queue(b"work").unwrap().unwrap();
    assert!(stored.done as usize >= known.len() && stored.done as usize <= known.len() + CLIENTS, "{stored:?}");
    let fsck = run(&["queue", "fsck", "--store", store.to_str().unwrap()]);
    assert_eq!(fsck.code, Some(0), "{:?} {}", fsck.out, fsck.err);
    println!(
        "{KILLS} kills, {} requests acknowledged, {} executions, {compared} answers compared with earlier ones",
        known.len(),
        executions.load(Ordering::SeqCst)
    );
    worker.stop(Duration::from_secs(1)).await;
}

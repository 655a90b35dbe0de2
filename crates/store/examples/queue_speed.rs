//! Measures a store: entries stored and settled a second, in every durability, beside the bare append and sync.
//!
//! ```console
//! $ cargo run --release -p tidings-store --example queue_speed -- [DIRECTORY] [SECONDS] [WORD]
//! ```
//!
//! With a word only lines whose name has it are measured.
//!
//! The floor writes the same octets to a file and syncs it, batched as well as the store batches them; no store that
//! syncs can be faster.

#![allow(clippy::unwrap_used, reason = "a measurement that fails has nothing better to do")]

use std::fs::File;
use std::io::Write as _;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use tidings_store::{NewEntry, Queue, Store, StoreOptions};

const BODY: usize = 256;

fn main() {
    let mut arguments = std::env::args().skip(1);
    let parent = arguments.next().unwrap_or_else(|| ".".to_owned());
    let seconds: f64 = arguments.next().and_then(|text| text.parse().ok()).unwrap_or(3.0);
    let time = Duration::from_secs_f64(seconds);
    let word = arguments.next().unwrap_or_default();
    let wanted = |what: &str| what.contains(&word);
    println!("{:<34} {:>9} {:>12} {:>10} {:>10} {:>10}", "", "producers", "per second", "p50", "p99", "max");
    for producers in [1, 16, 256] {
        let what = "append + fdatasync (the floor)";
        if wanted(what) {
            let directory = tempfile::tempdir_in(&parent).unwrap();
            print(what, producers, &floor(directory.path(), producers, time));
        }
    }
    for durability in ["fsync", "interval:200ms", "memory"] {
        for producers in [1, 16, 256] {
            let what = format!("enqueue, {durability}");
            if wanted(&what) {
                let directory = tempfile::tempdir_in(&parent).unwrap();
                let store = open(directory.path(), durability);
                let queue = store.queue("bench").unwrap();
                print(&what, producers, &enqueues(&queue, producers, time));
            }
        }
    }
    for durability in ["fsync", "memory"] {
        if !wanted(&format!("lease of 256, {durability}")) {
            continue;
        }
        let directory = tempfile::tempdir_in(&parent).unwrap();
        let store = open(directory.path(), durability);
        let queue = store.queue("bench").unwrap();
        let started = Instant::now();
        let mut stored = 0;
        while started.elapsed() < time {
            let batch = (0..256).map(|_| NewEntry::new([vec![b'x'; BODY]])).collect();
            stored += queue.enqueue_many(batch).wait().unwrap().len();
        }
        say(&format!("enqueue_many of 256, {durability}"), 1, stored as f64 / started.elapsed().as_secs_f64());
        let (mut leasing, mut acking) = (Duration::ZERO, Duration::ZERO);
        let mut settled = 0;
        loop {
            let started = Instant::now();
            let leased = queue.lease(256, Duration::from_secs(60)).wait().unwrap().entries;
            leasing += started.elapsed();
            if leased.is_empty() || leasing + acking > time * 2 {
                break;
            }
            let tickets: Vec<_> = leased.iter().map(|entry| entry.ticket).collect();
            let started = Instant::now();
            settled += queue.ack_many(tickets).wait().unwrap().len();
            acking += started.elapsed();
        }
        say(&format!("lease of 256, {durability}"), 1, settled as f64 / leasing.as_secs_f64());
        say(&format!("ack_many of 256, {durability}"), 1, settled as f64 / acking.as_secs_f64());
    }
    for durability in ["fsync", "memory"] {
        for producers in [1, 16, 256] {
            let what = format!("enqueue, lease, complete, {durability}");
            if wanted(&what) {
                let directory = tempfile::tempdir_in(&parent).unwrap();
                let store = open(directory.path(), durability);
                print(&what, producers, &lives(&store, producers, time));
            }
        }
    }
}

fn open(directory: &Path, durability: &str) -> Store {
    Store::open(directory, StoreOptions::default().durability(durability.parse().unwrap()).max_octets(64 << 30))
        .unwrap()
}

struct Outcome {
    rate: f64,
    waits: Vec<u32>,
}

/// Closed-loop producers: each waits for its acknowledgement before it stores the next
fn enqueues(queue: &Queue, producers: usize, time: Duration) -> Outcome {
    let queue = queue.clone();
    closed_loop(producers, time, move || {
        let queue = queue.clone();
        async move {
            queue.enqueue(NewEntry::new([vec![b'x'; BODY]])).await.unwrap();
        }
    })
}

/// A durable request's way: stored, handed out, its result stored
fn lives(store: &Store, producers: usize, time: Duration) -> Outcome {
    let queue = store.queue("bench").unwrap();
    closed_loop(producers, time, move || {
        let queue = queue.clone();
        async move {
            queue.enqueue(NewEntry::new([vec![b'x'; BODY]])).await.unwrap();
            for held in queue.lease(1, Duration::from_secs(60)).await.unwrap().entries {
                queue.complete(held.ticket, &held.body).await.unwrap();
            }
        }
    })
}

fn closed_loop<F>(producers: usize, time: Duration, once: impl Fn() -> F + Send + Clone + 'static) -> Outcome
where
    F: Future<Output = ()> + Send,
{
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let started = Instant::now();
    let waits = runtime.block_on(async {
        let tasks: Vec<_> = (0..producers)
            .map(|_| {
                let once = once.clone();
                tokio::spawn(async move {
                    let mut waits = Vec::new();
                    while started.elapsed() < time {
                        let begun = Instant::now();
                        once().await;
                        waits.push(begun.elapsed().as_nanos() as u32);
                    }
                    waits
                })
            })
            .collect();
        let mut all = Vec::new();
        for task in tasks {
            all.extend(task.await.unwrap());
        }
        all
    });
    Outcome { rate: waits.len() as f64 / started.elapsed().as_secs_f64(), waits }
}

/// The same producers before a thread that appends what has gathered, syncs and answers
fn floor(directory: &Path, producers: usize, time: Duration) -> Outcome {
    let (jobs, inbox): (SyncSender<mpsc::Sender<()>>, Receiver<_>) = sync_channel(producers);
    let mut file = File::create(directory.join("log")).unwrap();
    let writer = std::thread::spawn(move || {
        let mut octets = Vec::new();
        while let Ok(first) = inbox.recv() {
            let mut batch = vec![first];
            batch.extend(inbox.try_iter());
            octets.resize(batch.len() * (BODY + 16), b'x');
            file.write_all(&octets).unwrap();
            file.sync_data().unwrap();
            for reply in batch {
                let _gone = reply.send(());
            }
        }
    });
    // Each thread plays many producers: it has that many under way
    let threads = producers.min(4);
    let (stop, count) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let started = Instant::now();
    let running: Vec<_> = (0..threads)
        .map(|_| {
            let (jobs, stop, count, each) = (jobs.clone(), Arc::clone(&stop), Arc::clone(&count), producers / threads);
            std::thread::spawn(move || {
                let (reply, told) = mpsc::channel();
                for _ in 0..each {
                    jobs.send(reply.clone()).unwrap();
                }
                let mut waits = Vec::new();
                while !stop.load(Ordering::Relaxed) {
                    let begun = Instant::now();
                    told.recv().unwrap();
                    count.fetch_add(1, Ordering::Relaxed);
                    jobs.send(reply.clone()).unwrap();
                    waits.push(begun.elapsed().as_nanos() as u32);
                }
                waits
            })
        })
        .collect();
    drop(jobs);
    std::thread::sleep(time);
    let rate = count.load(Ordering::Relaxed) as f64 / started.elapsed().as_secs_f64();
    stop.store(true, Ordering::Relaxed);
    let mut waits = Vec::new();
    for thread in running {
        waits.extend(thread.join().unwrap());
    }
    writer.join().unwrap();
    // Only with one under way is a wait that of one job
    if producers > threads {
        waits.clear();
    }
    Outcome { rate, waits }
}

fn print(what: &str, producers: usize, outcome: &Outcome) {
    let mut waits = outcome.waits.clone();
    waits.sort_unstable();
    let at = |part: f64| match waits.len() {
        0 => "-".to_owned(),
        len => format!("{:.3} ms", f64::from(waits[((len - 1) as f64 * part) as usize]) / 1e6),
    };
    println!("{what:<34} {producers:>9} {:>12.0} {:>10} {:>10} {:>10}", outcome.rate, at(0.5), at(0.99), at(1.0));
}

fn say(what: &str, producers: usize, rate: f64) {
    println!("{what:<34} {producers:>9} {rate:>12.0}");
}

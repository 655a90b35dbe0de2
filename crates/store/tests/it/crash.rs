//! A process that is killed while it stores: what it said was stored is there.

use std::collections::HashSet;
use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;

use bytes::Bytes;
use tidings_store::{Durability, Found, NewEntry, Store, StoreOptions, Uuid};

use crate::secs;

/// Where the child finds its store; without it the test below is nobody's child
const STORE: &str = "TIDINGS_TEST_STORE";

/// Not a test: the process that is killed
#[test]
#[ignore = "the other end of the tests of this file"]
fn child() {
    let Some(directory) = std::env::var_os(STORE) else { return };
    let store = Store::open(directory, StoreOptions::default()).unwrap();
    let out = Mutex::new(std::io::stdout());
    let say = |what: &str, id: Uuid| {
        let mut out = out.lock().unwrap();
        writeln!(out, "{what} {id}").unwrap();
        out.flush().unwrap();
    };
    std::thread::scope(|scope| {
        for producer in 0..4_u32 {
            let queue = store.queue("work").unwrap();
            scope.spawn(move || {
                for number in 0_u32.. {
                    let large = if number % 50 == 0 { 9000 } else { 40 };
                    let new = NewEntry::new([vec![producer as u8; large]]);
                    let stored = queue.enqueue(new).wait().unwrap();
                    assert_eq!(stored.durability, Durability::Fsync);
                    say("stored", stored.id);
                }
            });
        }
        let queue = store.queue("work").unwrap();
        scope.spawn(move || {
            loop {
                for (number, held) in queue.lease(5, secs(3600)).wait().unwrap().entries.into_iter().enumerate() {
                    if number % 2 == 0 {
                        queue.ack(held.ticket).wait().unwrap();
                        say("gone", held.id);
                    } else {
                        let result = Bytes::copy_from_slice(held.id.as_bytes());
                        queue.complete(held.ticket, &[result]).wait().unwrap();
                        say("done", held.id);
                    }
                }
            }
        });
    });
}

fn spawn(directory: &std::path::Path) -> Child {
    let mut child = Command::new(std::env::current_exe().unwrap());
    child.args(["--exact", "crash::child", "--ignored", "--nocapture"]).env(STORE, directory);
    child.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap()
}

#[test]
fn a_killed_process_loses_nothing_that_it_acknowledged() {
    let directory = tempfile::tempdir().unwrap();
    let (mut stored, mut gone, mut done) = (HashSet::new(), HashSet::new(), HashSet::new());
    for round in 0..10_usize {
        let mut child = spawn(directory.path());
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut note = |line: std::io::Result<String>| {
            let line = line.unwrap();
            // The harness talks on the same line as the first of them
            let mut words = line.split(' ').rev();
            let id = words.next().and_then(|id| id.parse::<Uuid>().ok());
            match (words.next(), id) {
                (Some("stored"), Some(id)) => stored.insert(id),
                (Some("gone"), Some(id)) => gone.insert(id),
                (Some("done"), Some(id)) => done.insert(id),
                _ => return 0,
            };
            1
        };
        let mut heard = 0;
        while heard < 150 + round * 37 {
            heard += note(lines.next().expect("the child ended by itself"));
        }
        // SIGKILL
        child.kill().unwrap();
        child.wait().unwrap();
        // What it had said by then, and nobody had read
        while lines.next().is_some_and(|line| note(line) < 2) {}

        let store = Store::open(directory.path(), StoreOptions::default()).unwrap();
        let report = store.inspect().unwrap().fsck(|_| {}).unwrap();
        assert!(report.is_clean(), "round {round}: {:?}", report.problems);
        let queue = store.queue("work").unwrap();
        let mut unheard = 0;
        for id in &stored {
            match store.find(*id).wait().unwrap() {
                Found::Pending { .. } => {
                    assert!(!done.contains(id) && !gone.contains(id), "round {round}: {id} came back")
                }
                Found::Done { result, .. } => assert_eq!(result, [Bytes::copy_from_slice(id.as_bytes())]),
                Found::Unknown => {
                    assert!(!done.contains(id), "round {round}: the result of {id} is lost");
                    // It may have been acknowledged with nobody left to hear of it: at most what one lease held
                    unheard += usize::from(!gone.contains(id));
                }
                dead => panic!("round {round}: {dead:?}"),
            }
        }
        assert!(unheard <= round + 1, "round {round}: {unheard} of {} are lost", stored.len());
        assert_eq!(queue.stats().wait().unwrap().leased, 0);
    }
    assert!(!gone.is_empty() && !done.is_empty());
}

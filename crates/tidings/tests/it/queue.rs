//! `tidings queue`: stores with something in each state, whole and damaged, beside an owner and without one.

use std::path::Path;
use std::time::Duration;

use serde_json::Value;
use tidings_store::{Cause, NewEntry, Retry, State, Store, StoreOptions};

use crate::process::{Done, run};

const LEASE: Duration = Duration::from_secs(3600);

/// Three queues; of `work`, 1 is done, 2 is dead, 3 is leased while the owner lives, 4 waits for a while, 5 and 6 wait
fn furnish(directory: &Path) -> Store {
    let store = Store::open(directory, StoreOptions::default()).unwrap();
    let queue = store.queue("work").unwrap();
    for body in ["done", "dead", "leased", "tried"] {
        queue.enqueue(NewEntry::new([body]).max_attempts(5)).wait().unwrap();
    }
    let held = queue.lease(4, LEASE).wait().unwrap().entries;
    queue.complete(held[0].ticket, &["the result".into()]).wait().unwrap();
    queue.nak(held[1].ticket, Retry::Never, "422 refused: nonsense\u{7}").wait().unwrap();
    queue.nak(held[3].ticket, Retry::After(LEASE), "502 worker gone").wait().unwrap();
    queue.enqueue(NewEntry::new(["waits".to_owned(), "x".repeat(100)]).key("k 5")).wait().unwrap();
    queue.enqueue(NewEntry::new([vec![0xff, 0x00]])).wait().unwrap();
    let other = store.queue("other").unwrap();
    other.enqueue(NewEntry::new(["7"])).wait().unwrap();
    store
}

fn queue(directory: &Path, args: &[&str]) -> Done {
    let (verb, rest) = args.split_first().unwrap();
    let mut all = vec!["queue", verb, "--store", directory.to_str().unwrap()];
    all.extend(rest);
    run(&all)
}

fn json(directory: &Path, args: &[&str]) -> Value {
    let done = queue(directory, &[args, &["--json"]].concat());
    assert_eq!(done.out.len(), 1, "{args:?}: {:?} {}", done.out, done.err);
    serde_json::from_str(&done.out[0]).unwrap()
}

fn words(line: &str) -> Vec<&str> {
    line.split_whitespace().collect()
}

#[test]
fn queues_are_listed_and_shown_while_their_owner_runs() {
    let directory = tempfile::tempdir().unwrap();
    let _store = furnish(directory.path());
    let done = queue(directory.path(), &["ls"]);
    assert_eq!((done.code, done.out.len()), (Some(0), 3), "{}", done.err);
    assert!(done.out[0].starts_with("QUEUE  WAITING  LEASED  DONE  DEAD"), "{}", done.out[0]);
    assert_eq!(words(&done.out[1])[..5], ["other", "1", "0", "0", "0"]);
    assert_eq!(words(&done.out[2])[..5], ["work", "3", "1", "1", "1"]);
    assert_eq!(words(&done.out[2]).last(), Some(&"now"));
    let all = json(directory.path(), &["ls"]);
    assert_eq!((&all["ok"], &all["queues"][1]["dead"]), (&Value::from(true), &Value::from(1)));

    let shown = queue(directory.path(), &["show", "work"]);
    assert!(
        shown.out.iter().any(|line| line.starts_with("waiting") && line.contains("3, the oldest for")),
        "{shown:?}"
    );
    let shown = queue(directory.path(), &["show", "work", "1"]);
    assert!(shown.out.iter().any(|line| words(line) == ["result", "the", "result"]), "{shown:?}");
    let id = json(directory.path(), &["show", "work", "5"])["entry"]["id"].as_str().unwrap().to_owned();
    for form in [id.clone(), id.replace('-', "").to_uppercase()] {
        let entry = &json(directory.path(), &["show", "work", &form])["entry"];
        assert_eq!((&entry["entry"], &entry["key"], &entry["body"][0]), (&5.into(), &"k 5".into(), &"waits".into()));
    }
    // What is no text is said as octets, and what would upset a terminal is not sent there
    assert_eq!(json(directory.path(), &["show", "work", "6"])["entry"]["body"][0]["hex"], "ff00");
    assert!(queue(directory.path(), &["show", "work", "2"]).out.iter().any(|line| line.contains("nonsense\\x07")));
}

#[test]
fn what_is_not_there_is_a_negative_answer() {
    let directory = tempfile::tempdir().unwrap();
    drop(furnish(directory.path()));
    for (args, code, part) in [
        (&["show", "wrok"][..], 1, "did you mean 'work'?"),
        (&["show", "work", "99"], 1, "'work' has no entry 99"),
        (&["explain", "work", "7"], 1, "it is in 'other'"),
        (&["peek", "nothing"], 1, "there is no queue"),
        (&["explain", "work", "x"], 2, "write its number or its UUID"),
        (&["peek", "work", "--state", "waitin"], 2, "did you mean 'waiting'?"),
        (&["purge", "work"], 2, "--state"),
        (&["purge", "work", "--state", "dead"], 2, "say --yes"),
        (&["dead", "work", "--requeue", "5"], 1, "it is waiting"),
    ] {
        let done = queue(directory.path(), args);
        assert_eq!(done.code, Some(code), "{args:?}: {}", done.err);
        assert!(done.err.contains(part) && done.out.is_empty(), "{args:?}: {} {:?}", done.err, done.out);
    }
    let missing = directory.path().join("nowhere");
    let done = queue(&missing, &["ls"]);
    assert_eq!(done.code, Some(2));
    assert!(done.err.contains("there is no store at") && !missing.exists(), "{}", done.err);
    let refused = json(&missing, &["ls"]);
    assert_eq!((&refused["ok"], &refused["error"]["code"]), (&Value::from(false), &Value::from("no-store")));
}

#[test]
fn the_configuration_says_where_the_store_is() {
    let directory = tempfile::tempdir().unwrap();
    let store = directory.path().join("kept here");
    drop(furnish(&store));
    let file = directory.path().join("tidings.toml");
    std::fs::write(&file, format!("[store]\ndirectory = {:?}\n", store.to_str().unwrap())).unwrap();
    let done = run(&["queue", "ls", "--config", file.to_str().unwrap()]);
    assert_eq!((done.code, done.out.len()), (Some(0), 3), "{}", done.err);
}

#[test]
fn entries_are_printed_without_being_taken() {
    let directory = tempfile::tempdir().unwrap();
    let store = furnish(directory.path());
    let done = queue(directory.path(), &["peek", "work", "-n", "5"]);
    assert_eq!(done.out.len(), 6, "{:?}", done.out);
    assert_eq!(words(&done.out[1])[..3], ["1", "done", "1/5"]);
    assert_eq!(words(&done.out[3])[..3], ["3", "leased", "1/5"]);
    assert!(done.out[5].contains("waits | xxx") && done.out[5].ends_with("… (105 octets)"), "{}", done.out[5]);
    assert!(done.err.contains("5 of 6") && done.err.contains("--after 5"), "{}", done.err);
    let whole = queue(directory.path(), &["peek", "work", "--after", "4", "-n", "1", "--whole"]);
    assert!(whole.out[1].ends_with(&"x".repeat(100)), "{:?}", whole.out);
    let waiting = queue(directory.path(), &["peek", "work", "--state", "waiting", "--json"]);
    let seqs: Vec<Value> =
        waiting.out.iter().map(|line| serde_json::from_str::<Value>(line).unwrap()["entry"].clone()).collect();
    assert_eq!(seqs, [4, 5, 6]);
    assert_eq!(store.queue("work").unwrap().stats().wait().unwrap().waiting, 3);
}

#[test]
fn every_state_is_explained() {
    let directory = tempfile::tempdir().unwrap();
    let _store = furnish(directory.path());
    for (entry, parts) in [
        ("1", &["is done", "its result is kept"][..]),
        ("2", &["is dead", "because it was refused for good", "nonsense"]),
        ("3", &["is leased", "attempt 1 of 5", "the lease ends in 59 min"]),
        ("4", &["is waiting", "since attempt 1 of 5 failed", "502 worker gone"]),
        ("5", &["is waiting", "It is due, as attempt 1 of 10", "tidings svc ping work"]),
    ] {
        let done = queue(directory.path(), &["explain", "work", entry]);
        assert_eq!(done.code, Some(0), "{}", done.err);
        let text = done.out.join("\n");
        parts.iter().for_each(|part| assert!(text.contains(part), "{entry}: no '{part}' in {text}"));
    }
    let why = json(directory.path(), &["explain", "work", "5"]);
    assert_eq!((&why["due"], why["why"].as_array().unwrap().len()), (&Value::from(true), 1));
}

#[test]
fn dead_letters_are_put_back_and_entries_deleted_while_their_owner_runs() {
    let directory = tempfile::tempdir().unwrap();
    let store = furnish(directory.path());
    let dead = queue(directory.path(), &["dead"]);
    assert_eq!(dead.out.len(), 2, "{:?}", dead.out);
    for part in ["work", "refused", "1/5", "nonsense"] {
        assert!(dead.out[1].contains(part), "{part}: {}", dead.out[1]);
    }
    assert_eq!(json(directory.path(), &["dead", "work"])["dead"][0]["cause"], "refused");
    assert_eq!(json(directory.path(), &["dead", "work", "--requeue", "2"])["requeued"], 1);
    assert_eq!(json(directory.path(), &["dead", "work", "--requeue"])["requeued"], 0);
    assert!(queue(directory.path(), &["dead", "work"]).err.contains("no dead letters"));
    // Its owner hands it out
    let leased = store.queue("work").unwrap().lease(1, LEASE).wait().unwrap().entries;
    assert_eq!((leased[0].seq(), leased[0].attempt()), (2, 1));

    assert_eq!(json(directory.path(), &["purge", "work", "--entry", "1", "--yes"])["purged"], 1);
    let purged = json(directory.path(), &["purge", "work", "--state", "waiting", "--state", "dead", "--yes"]);
    assert_eq!((&purged["purged"], &purged["by_state"]["waiting"]), (&Value::from(3), &Value::from(3)));
    let done = queue(directory.path(), &["purge", "other", "--state", "waiting", "--yes"]);
    assert!(done.err.contains("1 entry of 'other' deleted") && done.out.is_empty(), "{done:?}");
    assert_eq!(store.stats().wait().unwrap().entries, 2);
}

#[test]
fn a_store_is_examined_and_put_right() {
    let directory = tempfile::tempdir().unwrap();
    let store = furnish(directory.path());
    let done = queue(directory.path(), &["fsck"]);
    assert_eq!(done.code, Some(0), "{}", done.err);
    assert!(done.err.contains("sound: 7 entries"), "{}", done.err);
    let done = queue(directory.path(), &["fsck", "--repair"]);
    assert_eq!(done.code, Some(4));
    assert!(done.err.contains("stop the daemon first"), "{}", done.err);
    drop(store);
    assert_eq!(json(directory.path(), &["fsck", "--repair"])["ok"], true);

    // Octets of one body go bad, where it lies in the file
    let file = directory.path().join("queue.db");
    let mut octets = std::fs::read(&file).unwrap();
    let at = octets.windows(9).position(|window| window == b"\0\0\0\x05waits").unwrap();
    octets[at + 6] ^= 0x20;
    std::fs::write(&file, octets).unwrap();
    let done = queue(directory.path(), &["fsck"]);
    assert_eq!(done.code, Some(7));
    assert_eq!(done.out, ["checksum: entry 5 is not what was stored"]);
    assert!(done.err.contains("tidings queue fsck --repair"), "{}", done.err);
    assert!(queue(directory.path(), &["peek", "work", "--after", "4"]).out[1].contains("damaged"));
    let found = json(directory.path(), &["fsck"]);
    assert_eq!((&found["ok"], &found["found"][0]["kind"]), (&Value::from(false), &Value::from("checksum")));
    let done = queue(directory.path(), &["fsck", "--repair"]);
    assert_eq!(done.code, Some(0), "{}", done.err);
    assert!(done.err.contains("now dead letters: 1"), "{}", done.err);
    assert_eq!(json(directory.path(), &["dead", "work"])["dead"][1]["cause"], "damaged");

    // A page is lost altogether
    let mut octets = std::fs::read(&file).unwrap();
    octets[3 * 4096..4 * 4096].fill(0x5a);
    std::fs::write(&file, octets).unwrap();
    let done = queue(directory.path(), &["fsck"]);
    assert_eq!(done.code, Some(7), "{}", done.err);
    let done = queue(directory.path(), &["fsck", "--repair"]);
    assert_eq!(done.code, Some(0), "{}", done.err);
    assert!(done.err.contains("the damaged one is kept"), "{}", done.err);
    // And what is no database at all is said to be none
    std::fs::write(&file, vec![b'?'; 10_000]).unwrap();
    let done = queue(directory.path(), &["ls"]);
    assert_eq!(done.code, Some(7));
    assert!(done.err.contains("queue.db is damaged") && done.err.contains("tidings queue fsck"), "{}", done.err);
}

#[test]
fn the_book_has_every_state_and_cause_and_every_verb() {
    let page =
        std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/src/queues-on-disk.md")).unwrap();
    let names = State::ALL.map(State::name).into_iter().chain(Cause::ALL.map(Cause::name));
    for name in names {
        assert!(page.contains(&format!("\n| `{name}` |")), "queues-on-disk.md does not explain {name}");
    }
    for verb in ["ls", "peek", "show", "explain", "dead", "purge", "fsck"] {
        assert!(page.contains(&format!("$ tidings queue {verb}")), "queues-on-disk.md does not show `queue {verb}`");
    }
    let directory = tempfile::tempdir().unwrap();
    let _store = furnish(directory.path());
    let head = &queue(directory.path(), &["ls"]).out[0];
    let shown = page.lines().find(|line| line.starts_with("QUEUE ")).unwrap();
    assert_eq!(words(shown), words(head));
}

#[test]
fn a_name_of_any_octets_is_written_as_it_is_listed() {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(directory.path(), StoreOptions::default().max_attempts(1)).unwrap();
    let odd = store.queue(vec![b'w', 0xff, 0x00]).unwrap();
    for body in ["1", "2"] {
        odd.enqueue(NewEntry::new([body])).wait().unwrap();
    }
    let held = odd.lease(1, LEASE).wait().unwrap().entries.remove(0);
    odd.nak(held.ticket, Retry::Never, "no").wait().unwrap();
    let listed = queue(directory.path(), &["ls"]);
    let name = words(&listed.out[1])[0].to_owned();
    for (args, said) in [
        (&["show", &name][..], "waiting"),
        (&["show", &name, "1"], "state"),
        (&["peek", &name], "2"),
        (&["explain", &name, "2"], "It is due"),
        (&["dead", &name], "no"),
        (&["dead", &name, "--requeue"], "1 dead letter"),
        (&["purge", &name, "--entry", "1", "--yes"], "1 entry"),
        (&["fsck"], "sound"),
    ] {
        let done = queue(directory.path(), args);
        let all = format!("{:?} {}", done.out, done.err);
        assert!(done.code == Some(0) && all.contains(said), "{args:?}: {all}");
    }
    assert_eq!(odd.stats().wait().unwrap().waiting, 1);
}

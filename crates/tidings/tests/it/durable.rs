//! Requests that the daemon keeps on disk.

use rustix::process::Signal;
use serde_json::Value;

use crate::daemon::{Daemon, SERVE};
use crate::process::{Done, Process, run, tidings};

fn svc(daemon: &Daemon, args: &[&str]) -> Done {
    run(&[&["svc"], args, &["-e", &daemon.service]].concat())
}

/// A worker that answers in capitals
fn upper(daemon: &Daemon) -> Process {
    let mut worker = tidings(&["svc", "work", "upper", "-e", &daemon.service, "--", "tr", "a-z", "A-Z"]);
    worker.said("ready for 'upper'");
    worker
}

fn submit(daemon: &Daemon, text: &str, more: &[&str]) -> String {
    let done = svc(daemon, &[&["call", "upper", "--raw", text, "--durable", "--submit-only"], more].concat());
    assert_eq!((done.code, done.out.len()), (Some(0), 1), "{}", done.err);
    done.out[0].clone()
}

#[test]
fn a_request_is_kept_until_its_reply_is_fetched() {
    let directory = tempfile::tempdir().unwrap();
    let daemon = Daemon::durable(&directory.path().join("store"));
    // Nobody is there to answer
    let uuid = submit(&daemon, "hello", &[]);
    assert!(uuid.len() == 32 && uuid.chars().all(|digit| digit.is_ascii_hexdigit()), "{uuid}");
    let early = svc(&daemon, &["reply", &uuid, "--timeout", "0"]);
    assert_eq!(early.code, Some(5), "{}", early.err);
    assert!(early.err.contains(&uuid) && early.err.contains("tidings svc reply"), "{}", early.err);
    assert_eq!(daemon.metric("tidings_store_entries{state=\"waiting\"}"), Some(1));

    let _worker = upper(&daemon);
    let kept = svc(&daemon, &["reply", &uuid, "--keep", "--timeout", "20s"]);
    assert_eq!(kept.out, ["HELLO"], "{}", kept.err);
    let object: Value = serde_json::from_str(&svc(&daemon, &["reply", &uuid, "--json"]).out[0]).unwrap();
    assert_eq!(object["frames"], serde_json::json!(["HELLO"]));
    let gone = svc(&daemon, &["reply", &uuid]);
    assert_eq!(gone.code, Some(1), "{}", gone.err);
    assert_eq!(daemon.metric("tidings_store_entries{state=\"done\"}"), Some(0));

    let call = svc(&daemon, &["call", "upper", "--raw", "at once", "--durable", "--timeout", "20s"]);
    assert_eq!(call.out, ["AT ONCE"], "{}", call.err);
    assert!(call.err.contains("stored as "), "{}", call.err);
    let status: Value = serde_json::from_str(&daemon.get("/status.json").1).unwrap();
    assert_eq!(
        (&status["durable"]["done"]["stored"], &status["durable"]["done"]["closed"]),
        (&2.into(), &2.into()),
        "{status}"
    );
    assert_eq!(daemon.metric("tidings_durable_total{name=\"stored\"}"), Some(2));
}

#[test]
fn what_was_acknowledged_outlives_the_daemon() {
    let directory = tempfile::tempdir().unwrap();
    let store = directory.path().join("store");
    let daemon = Daemon::durable(&store);
    let uuid = submit(&daemon, "hello", &["--idempotency-key", "order-17"]);
    daemon.process.signal(Signal::KILL);
    assert_eq!(daemon.process.finish().code, None);

    let daemon = Daemon::durable(&store);
    assert_eq!(submit(&daemon, "hello", &["--idempotency-key", "order-17"]), uuid, "the same key is the same request");
    let _worker = upper(&daemon);
    let reply = svc(&daemon, &["reply", &uuid, "--timeout", "20s", "--keep"]);
    assert_eq!(reply.out, ["HELLO"], "{}", reply.err);
    daemon.process.signal(Signal::TERM);
    assert_eq!(daemon.process.finish().code, Some(0));

    let daemon = Daemon::durable(&store);
    let reply = svc(&daemon, &["reply", &uuid]);
    assert_eq!(reply.out, ["HELLO"], "{}", reply.err);
}

#[test]
fn the_same_key_has_the_same_reply() {
    let directory = tempfile::tempdir().unwrap();
    let daemon = Daemon::durable(&directory.path().join("store"));
    let _worker = upper(&daemon);
    let call = |text: &str| {
        let key = ["--durable", "--idempotency-key", "order-17", "--timeout", "20s"];
        svc(&daemon, &[&["call", "upper", "--raw", text], &key[..]].concat())
    };
    for _ in 0..2 {
        let done = call("once");
        assert_eq!((done.code, &done.out[..]), (Some(0), &["ONCE".to_owned()][..]), "{}", done.err);
    }
    assert_eq!(daemon.metric("tidings_durable_total{name=\"closed\"}"), Some(0));
}

#[test]
fn why_a_request_has_no_reply_yet_is_said() {
    let directory = tempfile::tempdir().unwrap();
    let daemon = Daemon::durable(&directory.path().join("store"));
    let uuid = submit(&daemon, "hello", &[]);
    let waits = svc(&daemon, &["reply", &uuid, "--timeout", "0"]);
    assert!(waits.code == Some(5) && waits.err.contains("it waits"), "{}", waits.err);
    let mut worker =
        tidings(&["svc", "work", "upper", "-e", &daemon.service, "--", "sh", "-c", "echo no disk >&2; exit 3"]);
    worker.said("no disk");
    let failing = svc(&daemon, &["reply", &uuid, "--timeout", "2s"]);
    assert_eq!(failing.code, Some(5), "{}", failing.err);
    assert!(failing.err.contains("500 worker failed") && failing.err.contains("no disk"), "{}", failing.err);
}

#[test]
fn nobody_drains_or_takes_the_services_of_durable_requests() {
    let directory = tempfile::tempdir().unwrap();
    let daemon = Daemon::durable(&directory.path().join("store"));
    let drained = svc(&daemon, &["drain", "titanic.request"]);
    assert_eq!(drained.code, Some(4), "{}", drained.err);
    submit(&daemon, "hello", &[]);
    let without = Daemon::start(&[]);
    let stranger = tidings(&["svc", "work", "titanic.request", "-e", &without.service, "--", "cat"]).finish();
    assert_eq!(stranger.code, Some(4), "{}", stranger.err);
}

#[test]
fn a_store_has_one_owner() {
    let directory = tempfile::tempdir().unwrap();
    let store = directory.path().join("store");
    let _daemon = Daemon::durable(&store);
    let mut args = SERVE.to_vec();
    args.extend(["--set", "service.durable=true", "--store", store.to_str().unwrap()]);
    let second = run(&args);
    assert_eq!(second.code, Some(2), "{}", second.err);
    for part in [store.to_str().unwrap(), "in use by process", "--store", "service.durable=false"] {
        assert!(second.err.contains(part), "{part}: {}", second.err);
    }
    let nowhere = directory.path().join("file");
    std::fs::write(&nowhere, "").unwrap();
    *args.last_mut().unwrap() = nowhere.to_str().unwrap();
    let wrong = run(&args);
    assert_eq!(wrong.code, Some(2), "{}", wrong.err);
    assert!(wrong.err.contains(nowhere.to_str().unwrap()), "{}", wrong.err);
}

#[test]
fn without_a_store_durable_requests_are_refused_with_the_reason() {
    let daemon = Daemon::start(&[]);
    let refused = svc(&daemon, &["call", "upper", "--raw", "x", "--durable"]);
    assert_eq!(refused.code, Some(4), "{}", refused.err);
    assert!(refused.err.contains("service.durable = true"), "{}", refused.err);
    let wrong = svc(&daemon, &["reply", "nonsense"]);
    assert_eq!(wrong.code, Some(2), "{}", wrong.err);
    assert!(wrong.err.contains("32 hexadecimal digits"), "{}", wrong.err);
}

#[test]
fn the_state_directory_is_used_where_none_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let mut args = SERVE.to_vec();
    args.extend(["--set", "service.durable=true", "--json"]);
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_tidings"));
    let daemon = Daemon::ready(crate::process::start(command.args(args).env("STATE_DIRECTORY", directory.path())));
    submit(&daemon, "x", &[]);
    assert!(directory.path().join("store").is_dir());
}

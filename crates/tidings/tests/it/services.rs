//! Services: the broker in the daemon, commands as workers, calls of every kind.

use std::fs;
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::mpsc::channel;
use std::time::Instant;

use rustix::process::Signal;
use serde_json::Value;

use crate::daemon::Daemon;
use crate::process::{DEADLINE, Done, Process, run, tidings};

/// A worker that has registered
fn work(daemon: &Daemon, service: &str, more: &[&str]) -> Process {
    let mut worker = tidings(&[&["svc", "work", service, "-e", &daemon.service], more].concat());
    worker.said(&format!("ready for '{service}'"));
    worker
}

fn svc(daemon: &Daemon, args: &[&str]) -> Done {
    run(&[&["svc"], args, &["-e", &daemon.service]].concat())
}

fn json(done: &Done) -> Value {
    assert_eq!(done.code, Some(0), "{}", done.err);
    serde_json::from_str(&done.out.join("\n")).unwrap()
}

/// A pipe with a name: whoever opens an end of it waits for the other
fn pipe(directory: &Path, name: &str) -> PathBuf {
    let path = directory.join(name);
    assert!(Command::new("mkfifo").arg(&path).status().unwrap().success());
    path
}

/// All that is written to a pipe until the last writer is gone
fn read_pipe(path: PathBuf) -> String {
    let (sender, receiver) = channel();
    std::thread::spawn(move || {
        let mut text = String::new();
        fs::File::open(path).unwrap().read_to_string(&mut text).unwrap();
        sender.send(text).ok();
    });
    receiver.recv_timeout(DEADLINE).expect("the pipe's writers end")
}

fn write_pipe(path: &Path, text: &str) {
    fs::OpenOptions::new().write(true).open(path).unwrap().write_all(text.as_bytes()).unwrap();
}

/// Asks again and again, as each answer takes a moment, until it is so
fn until(mut is_so: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !is_so() {
        assert!(begun.elapsed() < DEADLINE, "it does not come to that");
    }
}

#[test]
fn a_command_answers_for_a_service() {
    let daemon = Daemon::start(&[]);
    let _upper = work(&daemon, "upper", &["--", "tr", "a-z", "A-Z"]);
    let reply = svc(&daemon, &["call", "upper", "--raw", "hello"]);
    assert_eq!((reply.code, &reply.out[..]), (Some(0), &["HELLO".to_owned()][..]), "{}", reply.err);

    let _db = work(&daemon, "db", &["--reply-action", "config.result", "--", "cat"]);
    let reply = svc(&daemon, &["call", "db", "config.get", "{\"id\": 1.0}"]);
    assert_eq!(reply.out, ["config.result {\"id\": 1.0}"], "{}", reply.err);
    let object = json(&svc(&daemon, &["call", "db", "config.get", "--json"]));
    assert_eq!((&object["ok"], &object["action"]), (&true.into(), &"config.result".into()), "{object}");
    assert_eq!(object["data"], serde_json::json!({}), "no data is an empty object");
    assert!(object["seconds"].as_f64().unwrap() > 0.0);

    let _env =
        work(&daemon, "env", &["--", "sh", "-c", "echo \"\\\"$TIDINGS_ACTION/$TIDINGS_SERVICE/$TIDINGS_ATTEMPT\\\"\""]);
    let object = json(&svc(&daemon, &["call", "env", "a.b", "{}", "--json"]));
    assert_eq!(object["data"], "a.b/env/1");
}

#[test]
fn old_clients_are_answered_on_the_same_port() {
    let daemon = Daemon::start(&[]);
    let _upper = work(&daemon, "upper", &["--", "tr", "a-z", "A-Z"]);
    let req = ["sock", "req", "-c", &daemon.service, "--timeout", "20s"];
    let reply = run(&[&req[..], &["MDPC01", "upper", "hello"]].concat());
    assert_eq!(reply.out, ["MDPC01 upper HELLO"], "{}", reply.err);
    // Domogik's client: seconds in front of action and data
    let reply = run(&[&req[..], &["MDPC01", "upper", "10", "a.b", "{\"x\": \"y\"}"]].concat());
    assert_eq!(reply.out, ["MDPC01 upper a.b {\"X\": \"Y\"}"], "{}", reply.err);
    let reply = run(&[&req[..], &["MDPC01", "mmi.services", "None"]].concat());
    assert_eq!(reply.out, ["MDPC01 mmi.services upper"], "{}", reply.err);
    for wire in ["mdp-0.1", "domogik", "mdp-0.2", "majortomo", "zproto"] {
        // The broker says that it speaks ours; a client that is told another name takes ours all the same
        let reply = svc(&daemon, &["call", "upper", "a.b", "{\"x\": \"y\"}", "--wire", wire]);
        assert_eq!(reply.out, ["a.b {\"X\": \"Y\"}"], "{wire}: {}", reply.err);
    }
}

#[test]
fn a_command_that_fails_refuses_with_its_last_words() {
    let daemon = Daemon::start(&[]);
    let _worker = work(&daemon, "bad", &["--", "sh", "-c", "echo first >&2; echo 'no disk' >&2; exit 7"]);
    let failed = svc(&daemon, &["call", "bad", "do", "{}"]);
    assert_eq!(failed.code, Some(4), "{}", failed.err);
    assert!(
        failed.err.contains("500 worker failed") && failed.err.contains("exit status: 7: no disk"),
        "{}",
        failed.err
    );
    let failed = svc(&daemon, &["call", "bad", "do", "{}", "--json"]);
    let object: Value = serde_json::from_str(&failed.out[0]).unwrap();
    assert_eq!((&object["ok"], &object["error"]["code"]), (&false.into(), &"worker-failed".into()));
    let _chatty = work(&daemon, "chatty", &["--", "echo", "not json"]);
    let failed = svc(&daemon, &["call", "chatty", "do", "{}"]);
    assert!(failed.err.contains("the command's output is not JSON"), "{}", failed.err);
    let _missing = work(&daemon, "missing", &["--", "/no/such/program"]);
    let failed = svc(&daemon, &["call", "missing", "--raw", "x"]);
    assert!(failed.err.contains("/no/such/program can't be started"), "{}", failed.err);
}

#[test]
fn what_a_worker_says_does_not_reach_the_terminal_as_it_is() {
    let daemon = Daemon::start(&[]);
    let script = r#"read -r line; printf '{"id":1,"error":"\\u001b[31mred\\n  hint: rm -rf /\\u0007"}\n'; cat"#;
    let _worker = work(&daemon, "rude", &["--jsonl", "--", "sh", "-c", script]);
    let failed = svc(&daemon, &["call", "rude", "--raw", "x"]);
    assert_eq!(failed.code, Some(4), "{}", failed.err);
    assert!(failed.err.contains("\\x1b[31mred\\n  hint: rm -rf /\\x07"), "{:?}", failed.err);
    assert!(failed.err.chars().all(|c| c == '\n' || !c.is_control()), "{:?}", failed.err);
}

#[test]
fn a_worker_that_is_started_anew_is_waited_for() {
    let daemon = Daemon::start(&[]);
    let worker = work(&daemon, "upper", &["--", "tr", "a-z", "A-Z"]);
    worker.signal(Signal::TERM);
    assert_eq!(worker.finish().code, Some(0));
    assert_eq!(svc(&daemon, &["ping", "upper"]).code, Some(1));
    let call = tidings(&["svc", "call", "upper", "--raw", "hello", "--timeout", "20s", "-e", &daemon.service]);
    until(|| json(&svc(&daemon, &["show", "upper", "--json"]))["service"]["waiting"] == 1);
    let _worker = work(&daemon, "upper", &["--", "tr", "a-z", "A-Z"]);
    let done = call.finish();
    assert_eq!((done.code, &done.out[..]), (Some(0), &["HELLO".to_owned()][..]), "{}", done.err);
}

#[test]
fn what_is_not_there_is_said_at_once() {
    let daemon = Daemon::start(&["--set", "service.request-age=1h"]);
    let none = svc(&daemon, &["call", "nobody", "do", "{}", "--timeout", "20s"]);
    assert_eq!(none.code, Some(4), "{}", none.err);
    assert!(none.err.contains("404 no such service") && none.err.contains("tidings svc work"), "{}", none.err);
    assert_eq!(svc(&daemon, &["ping", "nobody"]).code, Some(1));
    assert_eq!(svc(&daemon, &["drain", "nobody"]).code, Some(1));
    let _worker = work(&daemon, "dbmanager", &["--", "cat"]);
    let near = svc(&daemon, &["show", "dbmanger"]);
    assert_eq!(near.code, Some(1), "{}", near.err);
    assert!(near.err.contains("did you mean 'dbmanager'?"), "{}", near.err);

    let endpoint = daemon.service.clone();
    drop(daemon);
    for args in [&["call", "x", "y"][..], &["ls"], &["ping", "x"], &["stats"]] {
        let absent = run(&[&["svc"], args, &["-e", &endpoint, "--connect-timeout", "300ms"]].concat());
        assert_eq!(absent.code, Some(3), "{args:?}: {}", absent.err);
        assert!(absent.err.contains(&endpoint) && absent.err.contains("tidings serve"), "{args:?}: {}", absent.err);
    }
}

#[test]
fn what_accepts_and_says_nothing_is_no_broker() {
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = format!("tcp://{}", silent.local_addr().unwrap());
    // Its time bounds the connection, too
    let call = run(&["svc", "call", "x", "y", "--timeout", "300ms", "--connect-timeout", "1h", "-e", &endpoint]);
    let list = run(&["svc", "ls", "--connect-timeout", "300ms", "-e", &endpoint]);
    for done in [call, list] {
        assert_eq!(done.code, Some(3), "{}", done.err);
        assert!(done.err.contains(&endpoint) && done.err.contains("within 300ms"), "{}", done.err);
        assert!(done.err.contains("tidings doctor") && !done.err.contains("tidings serve"), "{}", done.err);
    }
}

#[test]
fn figures_are_watched_beyond_a_restart_of_the_broker() {
    let directory = tempfile::tempdir().unwrap();
    let endpoint = format!("ipc://{}/broker", directory.path().display());
    let serve = || {
        let place = format!("service.listen={endpoint}");
        Daemon::start(&["--set", &place])
    };
    let daemon = serve();
    let mut watch =
        tidings(&["svc", "stats", "--watch", "10ms", "--json", "-e", &endpoint, "--connect-timeout", "300ms"]);
    assert!(watch.line().contains("counters"));
    drop(daemon);
    watch.said("no answer");
    let daemon = serve();
    let _worker = work(&daemon, "echo", &["--", "cat"]);
    // Only the new one has a worker
    until(|| serde_json::from_str::<Value>(&watch.line()).unwrap()["broker"]["workers"] == 1);
    watch.signal(Signal::INT);
    assert_eq!(watch.finish().code, Some(0));
}

#[test]
fn wrong_usage_is_told_before_anything_is_sent() {
    for (args, parts) in [
        (&["call", "db", "get", "{\"id\": 1 2}"][..], &["line 1, column 10", "^"][..]),
        (&["call", "db", "get", "{id: 1}"], &["not JSON", "double quotes"]),
        (&["call", "db", "get", "{}", "{}"], &["one JSON value", "--raw"]),
        (&["call", "db"], &["ACTION"]),
        (&["call", "db", "get", "--wire", "mdp"], &["mdp-0.1", "majortomo"]),
        (&["call", "db", "get", "-e", "tpc://x"], &["tpc://x"]),
        (&["call", "db", "get", "--timeout", "5"], &["5s"]),
        (&["call", "db", "@/no/such"], &["/no/such"]),
        (&["work", "db"], &["COMMAND"]),
        (&["work", "db", "--concurrency", "0", "--", "cat"], &["0"]),
        (&["work", "mmi.service", "--", "cat"], &["mmi.service", "themselves"]),
        (&["stats", "--watch", "0s"], &["500ms"]),
    ] {
        let done = run(&[&["svc"], args].concat());
        assert_eq!(done.code, Some(2), "{args:?}: {}", done.err);
        for part in parts {
            assert!(done.err.contains(part), "{args:?} does not say {part}: {}", done.err);
        }
    }
}

#[test]
fn a_deadline_ends_the_request_and_kills_the_command_with_its_children() {
    let daemon = Daemon::start(&[]);
    let directory = tempfile::tempdir().unwrap();
    let alive = pipe(directory.path(), "alive");
    let script = format!("exec 9>{}; echo begun >&9; sleep 1000 & sleep 1000", alive.display());
    let _worker = work(&daemon, "slow", &["--", "sh", "-c", &script]);
    let call = tidings(&["svc", "call", "slow", "do", "{}", "--timeout", "1s", "-e", &daemon.service]);
    // It ends when the last process that holds it is dead
    assert_eq!(read_pipe(alive), "begun\n");
    let late = call.finish();
    assert_eq!(late.code, Some(5), "{}", late.err);
    assert!(late.err.contains("slow: no reply within 1s\n") || late.err.contains("504"), "{}", late.err);
}

#[test]
fn a_client_that_leaves_takes_its_request_back() {
    let daemon = Daemon::start(&[]);
    let directory = tempfile::tempdir().unwrap();
    let (begun, alive) = (pipe(directory.path(), "begun"), pipe(directory.path(), "alive"));
    let script = format!("exec 9>{}; echo begun > {}; sleep 1000", alive.display(), begun.display());
    let _worker = work(&daemon, "slow", &["--", "sh", "-c", &script]);
    let call = tidings(&["svc", "call", "slow", "do", "{}", "--timeout", "1h", "-e", &daemon.service]);
    let ended = std::thread::spawn(move || read_pipe(alive));
    assert_eq!(read_pipe(begun), "begun\n");
    call.signal(Signal::INT);
    assert_eq!(call.finish().code, Some(6));
    assert_eq!(ended.join().unwrap(), "");
}

#[test]
fn a_worker_that_stops_finishes_what_it_has() {
    let daemon = Daemon::start(&[]);
    let directory = tempfile::tempdir().unwrap();
    let (begun, go) = (pipe(directory.path(), "begun"), pipe(directory.path(), "go"));
    let script = format!("echo x > {}; cat {}", begun.display(), go.display());
    let worker = work(&daemon, "patient", &["--", "sh", "-c", &script]);
    let mut call = tidings(&["svc", "call", "patient", "--raw", "x", "--timeout", "20s", "-e", &daemon.service]);
    read_pipe(begun);
    worker.signal(Signal::TERM);
    // The broker knows before the command is let go
    until(|| json(&svc(&daemon, &["show", "patient", "--json"]))["workers"][0]["leaving"] == true);
    write_pipe(&go, "done");
    assert_eq!(call.line(), "done");
    let ended = worker.finish();
    assert_eq!(ended.code, Some(0), "{}", ended.err);
    assert!(ended.err.contains("1 request answered"), "{}", ended.err);
}

#[test]
fn a_request_outlives_its_worker_unless_it_must_not_be_repeated() {
    let daemon = Daemon::start(&[]);
    let directory = tempfile::tempdir().unwrap();
    let pipes = ["begun", "go", "begun2", "go2"].map(|name| pipe(directory.path(), name));
    let [begun, go, begun2, go2] = &pipes;
    let script = |begun: &Path, go: &Path| format!("echo x > {}; cat {}", begun.display(), go.display());
    let call = |more: &[&str]| {
        tidings(&[&["svc", "call", "frail", "--raw", "x", "--timeout", "20s", "-e", &daemon.service], more].concat())
    };
    let mut first = work(&daemon, "frail", &["--", "sh", "-c", &script(begun, go)]);
    let call_once = call(&["--not-repeatable"]);
    read_pipe(begun.clone());
    first.signal(Signal::KILL);
    let once = call_once.finish();
    assert_eq!(once.code, Some(4), "{}", once.err);
    assert!(once.err.contains("502 worker gone"), "{}", once.err);
    // The command is an orphan now, and waits for this
    write_pipe(go, "late");

    first = work(&daemon, "frail", &["--", "sh", "-c", &script(begun2, go2)]);
    let mut call_again = call(&[]);
    read_pipe(begun2.clone());
    first.signal(Signal::KILL);
    let _second = work(&daemon, "frail", &["--", "sh", "-c", "echo again $TIDINGS_ATTEMPT"]);
    assert_eq!(call_again.line(), "again 2");
    write_pipe(go2, "late");
}

#[test]
fn a_worker_ends_after_so_many_requests() {
    let daemon = Daemon::start(&[]);
    let worker = work(&daemon, "twice", &["-n", "2", "--raw", "--keep-newline", "--", "cat"]);
    let reply = svc(&daemon, &["call", "twice", "a.b", "{}"]);
    assert_eq!(reply.out, ["a.b\\n{}"], "both frames as lines: {}", reply.err);
    let object = json(&svc(&daemon, &["call", "twice", "--raw", "x\n", "--json"]));
    assert_eq!(object["frames"], serde_json::json!(["x\n"]));
    let ended = worker.finish();
    assert_eq!(ended.code, Some(0), "{}", ended.err);
    assert!(ended.err.contains("2 requests answered"), "{}", ended.err);
}

#[test]
fn a_service_is_drained_from_afar() {
    let daemon = Daemon::start(&[]);
    let worker = work(&daemon, "echo", &["--", "cat"]);
    let drained = svc(&daemon, &["drain", "echo"]);
    assert_eq!(drained.code, Some(0), "{}", drained.err);
    let ended = worker.finish();
    assert_eq!(ended.code, Some(0), "{}", ended.err);
    assert!(ended.err.contains("drained 'echo'"), "{}", ended.err);
    assert_eq!(svc(&daemon, &["ping", "echo"]).code, Some(1));
}

#[test]
fn the_daemon_waits_for_requests_under_way_when_it_ends() {
    let daemon = Daemon::start(&["--set", "shutdown.deadline=20s"]);
    let directory = tempfile::tempdir().unwrap();
    let (begun, go) = (pipe(directory.path(), "begun"), pipe(directory.path(), "go"));
    let script = format!("echo x > {}; cat {}", begun.display(), go.display());
    let _worker = work(&daemon, "patient", &["--", "sh", "-c", &script]);
    let mut call = tidings(&["svc", "call", "patient", "--raw", "x", "--timeout", "20s", "-e", &daemon.service]);
    read_pipe(begun);
    daemon.process.signal(Signal::TERM);
    until(|| daemon.get("/readyz").0 == 503);
    let refused = svc(&daemon, &["call", "patient", "--raw", "x", "--timeout", "20s"]);
    assert!(matches!(refused.code, Some(3 | 4)), "{:?} {}", refused.code, refused.err);
    write_pipe(&go, "done");
    assert_eq!(call.line(), "done");
    assert_eq!(call.finish().code, Some(0));
    let done = daemon.process.finish();
    assert_eq!(done.code, Some(0), "{}", done.err);
}

#[test]
fn one_process_speaks_json_lines_for_many_requests() {
    let daemon = Daemon::start(&[]);
    // Two at once, and the second is answered first
    let script = r#"read -r one; read -r two
        for line in "$two" "$one"; do
            id=$(echo "$line" | sed 's/{"id":\([0-9]*\),.*/\1/')
            echo '{"id":'$id',"partial":true,"frames":["part"]}'
            echo '{"id":'$id',"data":['$id']}'
        done
        read -r three
        echo '{"id":3,"error":"no such thing","status":404}'
        cat > /dev/null"#;
    let _worker = work(&daemon, "lines", &["--jsonl", "--concurrency", "2", "--", "sh", "-c", script]);
    let call = || tidings(&["svc", "call", "lines", "count", "{}", "--timeout", "20s", "-e", &daemon.service]);
    let (mut first, mut second) = (call(), call());
    let mut ids = Vec::new();
    for call in [&mut first, &mut second] {
        assert_eq!(call.line(), "part");
        ids.push(call.line());
    }
    ids.sort();
    assert_eq!(ids, ["count [1]", "count [2]"]);
    let refused = call().finish();
    assert_eq!(refused.code, Some(4), "{}", refused.err);
    assert!(refused.err.contains("404") && refused.err.contains("no such thing"), "{}", refused.err);
}

#[test]
fn a_command_that_says_more_and_more_does_not_outlive_a_second_signal() {
    let daemon = Daemon::start(&[]);
    let script = r#"while :; do echo '{"x":1}'; sleep 0.2; done"#;
    let mut worker = work(&daemon, "chatty", &["--jsonl", "--", "sh", "-c", script]);
    let call = tidings(&["svc", "call", "chatty", "--raw", "x", "--timeout", "20s", "-e", &daemon.service]);
    worker.said("not understood");
    call.signal(Signal::INT);
    assert_eq!(call.finish().code, Some(6));
    worker.signal(Signal::INT);
    until(|| json(&svc(&daemon, &["ls", "--json"]))["services"][0]["workers"] == 0);
    worker.signal(Signal::INT);
    let ended = worker.finish();
    assert_eq!(ended.code, Some(0), "everything was finished: {}", ended.err);
}

#[test]
fn many_requests_are_told_in_figures() {
    let daemon = Daemon::start(&[]);
    let echo = r#"while read -r line; do printf '%s\n' "$line" | sed -e 's/"service":"s",//' -e 's/,"attempt":1//' -e 's/,"deadline_ms":[0-9]*//'; done"#;
    let _worker = work(&daemon, "s", &["--jsonl", "--concurrency", "4", "--", "sh", "-c", echo]);
    let table = svc(&daemon, &["call", "s", "--raw", "{{seq}}", "--repeat", "20", "--parallel", "4"]);
    assert_eq!(table.code, Some(0), "{}", table.err);
    assert!(table.out[0].starts_with("20 requests answered in "), "{:?}", table.out);
    assert!(table.out[1].contains("P50") && table.out[1].contains("P99"), "{:?}", table.out);
    let object = json(&svc(&daemon, &["call", "s", "--raw", "x", "--repeat", "5", "--json"]));
    assert_eq!((&object["answered"], &object["failed"]), (&5.into(), &0.into()));
    assert!(object["latency_microseconds"]["p99"].as_f64().unwrap() > 0.0);
    let none = svc(&daemon, &["call", "nobody", "--raw", "x", "--repeat", "5"]);
    assert_eq!(none.code, Some(4), "{}", none.err);
}

#[test]
fn a_key_makes_two_requests_one() {
    let daemon = Daemon::start(&[]);
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("count");
    let script = format!("echo x >> {0}; wc -l < {0}", file.display());
    let _worker = work(&daemon, "count", &["--", "sh", "-c", &script]);
    let call = |key: &str| svc(&daemon, &["call", "count", "--raw", "x", "--idempotency-key", key]).out;
    assert_eq!(call("a"), ["1"]);
    assert_eq!(call("a"), ["1"]);
    assert_eq!(call("b"), ["2"]);
}

#[test]
fn what_the_broker_knows_is_shown_in_every_way() {
    let daemon = Daemon::start(&[]);
    let _worker = work(&daemon, "echo", &["--concurrency", "2", "--", "cat"]);
    for _ in 0..3 {
        assert_eq!(svc(&daemon, &["call", "echo", "--raw", "x"]).code, Some(0));
    }
    assert_eq!(svc(&daemon, &["call", "nobody", "--raw", "x"]).code, Some(4));
    let table = svc(&daemon, &["ls"]);
    assert!(
        table.out[0].starts_with("SERVICE") && table.out.iter().any(|line| line.starts_with("echo")),
        "{:?}",
        table.out
    );
    let listed = json(&svc(&daemon, &["ls", "--json"]));
    let echo = listed["services"].as_array().unwrap().iter().find(|service| service["service"] == "echo").unwrap();
    assert_eq!((&echo["workers"], &echo["replies"]), (&1.into(), &3.into()));
    let shown = json(&svc(&daemon, &["show", "echo", "--json"]));
    assert_eq!(
        (&shown["workers"][0]["concurrency"], &shown["workers"][0]["answered"]),
        (&2.into(), &3.into()),
        "{shown}"
    );
    let text = svc(&daemon, &["show", "echo"]).out.join("\n");
    assert!(text.contains("replies      3") && text.contains("tidings"), "{text}");
    let stats = json(&svc(&daemon, &["stats", "--json"]));
    assert_eq!(stats["broker"]["refused"]["404"], 1, "{stats}");
    let text = svc(&daemon, &["stats"]).out.join("\n");
    assert!(text.contains("no-such-service") && text.contains("echo"), "{text}");
    let mut watch = tidings(&["svc", "stats", "--watch", "10ms", "--json", "-e", &daemon.service]);
    assert!(watch.line().contains("counters") && watch.line().contains("counters"));
    watch.signal(Signal::INT);
    assert_eq!(watch.finish().code, Some(0));
    assert!(json(&svc(&daemon, &["ping", "echo", "--json"]))["microseconds"].as_f64().unwrap() > 0.0);

    let (_, page) = daemon.get("/metrics");
    for sample in [
        "tidings_service_requests_total{service=\"echo\"} 3\n",
        "tidings_service_replies_total{service=\"echo\"} 3\n",
        "tidings_service_workers{service=\"echo\"} 1\n",
        "tidings_service_latency_seconds_bucket{service=\"echo\",le=\"+Inf\"} 3\n",
        "tidings_service_latency_seconds_count{service=\"echo\"} 3\n",
        "tidings_broker_total{name=\"no-such-service\"} 1\n",
        "tidings_messages_received_total{socket=\"service\"}",
    ] {
        assert!(page.contains(sample), "no {sample} in\n{page}");
    }
    let status: Value = serde_json::from_str(&daemon.get("/status.json").1).unwrap();
    let services = status["services"]["services"].as_array().unwrap();
    assert!(services.iter().any(|service| service["service"] == "echo" && service["replies"] == 3), "{status}");
}

#[test]
fn rules_say_who_may_and_a_reload_changes_them() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("tidings.toml");
    let second = format!("ipc://{}/second", directory.path().display());
    let write = |listen: &str, rules: &str| {
        let text = format!(
            "[service]\nlisten = [\"tcp://127.0.0.1:*\"{listen}]\ndurable = false\n{rules}\n[events]\nenabled = false\n\
             [gossip]\nenabled = false\n[http]\nlisten = \"127.0.0.1:0\"\n"
        );
        fs::write(&file, text).unwrap();
    };
    write("", "call = [\"anonymous echo\", \"operator *\"]\nwork = [\"anonymous echo\"]");
    let mut daemon = Daemon::ready(tidings(&["serve", "--json", "-c", file.to_str().unwrap()]));
    let _worker = work(&daemon, "echo", &["--", "cat"]);
    let call = |daemon: &Daemon, service: &str| svc(daemon, &["call", service, "--raw", "x", "--timeout", "20s"]);
    assert_eq!(call(&daemon, "echo").code, Some(0));
    let refused = call(&daemon, "other");
    assert_eq!(refused.code, Some(4), "{}", refused.err);
    assert!(refused.err.contains("403 not permitted") && refused.err.contains("service.call"), "{}", refused.err);
    assert_eq!(svc(&daemon, &["drain", "echo"]).code, Some(4));
    daemon.process.said("not-permitted");
    let turned_away = tidings(&["svc", "work", "other", "-e", &daemon.service, "--", "cat"]).finish();
    assert_eq!(turned_away.code, Some(4), "{}", turned_away.err);
    assert!(turned_away.err.contains("service.work"), "{}", turned_away.err);

    // Rules of one kind leave nothing else open, and that is said
    write("", "work = [\"anonymous echo\"]");
    let checked = run(&["check", file.to_str().unwrap()]);
    assert!(checked.code == Some(0) && checked.err.contains("nobody may call a service"), "{}", checked.err);
    daemon.process.signal(Signal::HUP);
    daemon.process.said("nobody may call a service");
    daemon.process.said("reload finished");
    assert_eq!(call(&daemon, "echo").code, Some(4));

    write(&format!(", \"{second}\""), "");
    daemon.process.signal(Signal::HUP);
    daemon.process.said("reload finished");
    let refused = call(&daemon, "other");
    assert!(refused.err.contains("404 no such service"), "{}", refused.err);
    let other = run(&["svc", "call", "echo", "--raw", "x", "-e", &second]);
    assert_eq!(other.out, ["x"], "{}", other.err);
    assert_eq!(svc(&daemon, &["drain", "echo"]).code, Some(0));
}

#[test]
fn beyond_this_host_keys_and_roles_decide() {
    let directory = tempfile::tempdir().unwrap();
    let home = directory.path();
    let in_home =
        |args: &[&str]| crate::process::start(Command::new(env!("CARGO_BIN_EXE_tidings")).args(args).current_dir(home));
    let made = in_home(&["key", "new", "--pair", "hub", "node", "--roles", "operator"]).finish();
    assert_eq!(made.code, Some(0), "{}", made.err);
    let mut process = in_home(&[
        "serve",
        "--service",
        "tcp://0.0.0.0:*",
        "--set",
        "events.enabled=false",
        "--set",
        "gossip.enabled=false",
        "--set",
        "service.durable=false",
        "--http",
        "127.0.0.1:0",
        "--keys",
        "hub-keys",
        "--json",
        "--set",
        "service.call=operator *",
        "--set",
        "service.work=operator *",
    ]);
    let ready: Value = serde_json::from_str(&process.line()).unwrap();
    let endpoint = ready["listeners"][0]["endpoint"].as_str().unwrap().replace("0.0.0.0", "127.0.0.1");
    let mut worker = in_home(&["svc", "work", "echo", "-e", &endpoint, "--keys", "node-keys", "--", "cat"]);
    worker.said("ready for 'echo'");
    let call =
        |more: &[&str]| in_home(&[&["svc", "call", "echo", "--raw", "x", "-e", &endpoint], more].concat()).finish();
    let answered = call(&["--keys", "node-keys"]);
    assert_eq!(answered.out, ["x"], "{}", answered.err);
    let in_clear = call(&[]);
    assert_eq!(in_clear.code, Some(4), "{}", in_clear.err);
    assert!(in_clear.err.contains("CURVE") || in_clear.err.contains("keys"), "{}", in_clear.err);
}

/// The first block of this language in the chapter on services
fn block(language: &str) -> String {
    let page = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/src/services.md")).unwrap();
    let block = page.split(&format!("```{language}\n")).nth(1).and_then(|rest| rest.split("```").next());
    block.expect("the block is there").to_owned()
}

#[test]
fn the_book_has_every_status_and_its_rules_and_worker_are_right() {
    let page = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/src/services.md")).unwrap();
    for status in tidings::majordomo::wire::Status::ALL {
        assert!(page.contains(&format!("| {} |", status.code())), "services.md does not explain {status}");
    }
    let directory = tempfile::tempdir().unwrap();
    let rules = directory.path().join("tidings.toml");
    let toml = page
        .split("```toml\n")
        .map(|rest| rest.split("```").next().unwrap())
        .find(|block| block.starts_with("[service]"));
    fs::write(&rules, format!("{}\n[security]\nkeys = \"keys\"\n", toml.unwrap())).unwrap();
    let checked = run(&["check", rules.to_str().unwrap()]);
    assert_eq!(checked.code, Some(0), "{}", checked.err);

    let daemon = Daemon::start(&[]);
    let program = directory.path().join("worker.py");
    fs::write(&program, block("python")).unwrap();
    let _worker = work(&daemon, "dbmanager", &["--jsonl", "--", "python3", program.to_str().unwrap()]);
    let reply = svc(&daemon, &["call", "dbmanager", "config.get", "{}"]);
    assert_eq!(reply.out, ["config.result {\"value\": 21.5}"], "{}", reply.err);
}

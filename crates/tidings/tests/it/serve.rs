//! The daemon: events through it, its page, its signals.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::process::Command;

use rustix::process::Signal;
use serde_json::Value;

use crate::daemon::{Daemon, SERVE};
use crate::process::{DEADLINE, run, start, tidings};

#[test]
fn events_pass_through_and_are_counted() {
    let daemon = Daemon::start(&[]);
    let mut subscriber =
        tidings(&["event", "sub", "wea", "--endpoint", &daemon.outlet, "--count", "2", "--timeout", "20s"]);
    let first = run(&[
        "event",
        "pub",
        "weather",
        "rain, 12 degrees",
        "--endpoint",
        &daemon.inlet,
        "--wait-subs",
        "1",
        "--timeout",
        "20s",
    ]);
    assert_eq!(first.code, Some(0), "{}", first.err);
    let second = run(&["event", "pub", "weather", "sun", "--endpoint", &daemon.inlet, "--require-subscriber"]);
    assert_eq!(second.code, Some(0), "{}", second.err);
    assert_eq!(subscriber.line(), "weather rain, 12 degrees");
    assert_eq!(subscriber.line(), "weather sun");
    assert_eq!(subscriber.finish().code, Some(0));
    assert_eq!(daemon.metric("tidings_messages_received_total{socket=\"events.in\"}"), Some(2));
    assert_eq!(daemon.metric("tidings_messages_sent_total{socket=\"events.out\"}"), Some(2));
}

#[test]
fn an_event_that_nobody_wants_ends_quickly_and_says_so() {
    let daemon = Daemon::start(&[]);
    let plain = run(&["event", "pub", "weather", "sun", "--endpoint", &daemon.inlet]);
    assert_eq!(plain.code, Some(0), "{}", plain.err);
    assert!(plain.err.contains("nobody subscribes to 'weather'"), "{}", plain.err);
    let required = run(&["event", "pub", "weather", "sun", "--endpoint", &daemon.inlet, "--require-subscriber"]);
    assert_eq!(required.code, Some(1), "{}", required.err);
}

#[test]
fn a_publisher_that_stays_serves_those_who_come_after_thousands_of_subscriptions() {
    let daemon = Daemon::start(&[]);
    let mut publisher = tidings(&["event", "pub", "t", "--stdin", "--endpoint", &daemon.inlet]);
    publisher.said("nobody subscribes");
    // More changes than the publisher's queue holds
    let mut many =
        tidings(&["sock", "xsub", "-c", &daemon.outlet, "--hex", "--stdin", "--until-eof", "--idle", "100ms"]);
    for n in 0..3000 {
        many.tell(&format!("01{n:08x}"));
    }
    assert_eq!(many.finish().code, Some(0));
    let mut subscriber = tidings(&["event", "sub", "t", "--endpoint", &daemon.outlet, "-n", "1", "--timeout", "20s"]);
    let other =
        run(&["event", "pub", "t", "first", "--endpoint", &daemon.inlet, "--wait-subs", "1", "--timeout", "20s"]);
    assert_eq!(other.code, Some(0), "{}", other.err);
    assert_eq!(subscriber.line(), "t first");
    let mut subscriber = tidings(&["event", "sub", "t", "--endpoint", &daemon.outlet, "--timeout", "20s"]);
    // Until the subscription has come through, lines go to nobody: say them until one arrives
    let (arrived, going_on) = std::sync::mpsc::channel::<()>();
    std::thread::scope(|scope| {
        // Dropped at the end of this scope, be it a panic: the thread ends with it
        let arrived = arrived;
        let publisher = &mut publisher;
        scope.spawn(move || {
            let pause = std::time::Duration::from_millis(20);
            while going_on.recv_timeout(pause) == Err(std::sync::mpsc::RecvTimeoutError::Timeout) {
                publisher.tell("late");
            }
        });
        assert_eq!(subscriber.line(), "t late");
        drop(arrived);
    });
}

#[test]
fn the_environment_names_the_forwarder() {
    let daemon = Daemon::start(&[]);
    let mut subscriber = start(
        Command::new(env!("CARGO_BIN_EXE_tidings"))
            .args(["event", "sub", "-n", "1"])
            .env("TIDINGS_EVENTS_OUT", &daemon.outlet),
    );
    let published = start(
        Command::new(env!("CARGO_BIN_EXE_tidings"))
            .args(["event", "pub", "t", "x", "--wait-subs", "1", "--timeout", "20s"])
            .env("TIDINGS_EVENTS_IN", &daemon.inlet),
    );
    assert_eq!(published.finish().code, Some(0));
    assert_eq!(subscriber.line(), "t x");
}

#[test]
fn no_forwarder_is_a_failed_connection() {
    let daemon = Daemon::start(&[]);
    let gone = daemon.inlet.clone();
    drop(daemon);
    let published = run(&["event", "pub", "t", "x", "--endpoint", &gone, "--timeout", "500ms"]);
    assert_eq!(published.code, Some(3), "{}", published.err);
}

#[test]
fn the_page_answers() {
    let daemon = Daemon::start(&[]);
    assert_eq!(daemon.get("/healthz"), (200, "alive\n".to_owned()));
    assert_eq!(daemon.get("/readyz"), (200, "ready\n".to_owned()));
    let (code, page) = daemon.get("/");
    assert!(code == 200 && page.starts_with("<!doctype html>"), "{page}");
    let (code, status) = daemon.get("/status.json");
    let status: Value = serde_json::from_str(&status).unwrap();
    assert_eq!((code, &status["state"]), (200, &Value::from("ready")));
    assert_eq!(status["sockets"].as_array().unwrap().len(), 3);
    assert_eq!(daemon.get("/nothing").0, 404);
    assert_eq!(daemon.metric("tidings_ready"), Some(1));
    assert!(daemon.metric("tidings_descriptors_limit").unwrap() > 0);
}

#[test]
fn a_connection_that_talks_nonsense_is_counted_and_harms_nobody() {
    let daemon = Daemon::start(&[]);
    let mut stranger = TcpStream::connect(daemon.inlet.strip_prefix("tcp://").unwrap()).unwrap();
    stranger.set_read_timeout(Some(DEADLINE)).unwrap();
    stranger.write_all(&[0xff, 0, 0, 0, 0, 0, 0, 0, 0, 0x7f, 3, 0]).unwrap();
    stranger.write_all(&[b'x'; 200]).unwrap();
    // It is closed when this ends, by end of stream or reset
    let mut answer = Vec::new();
    stranger.read_to_end(&mut answer).ok();
    let mut subscriber = tidings(&["event", "sub", "--endpoint", &daemon.outlet, "-n", "1", "--timeout", "20s"]);
    let published =
        run(&["event", "pub", "t", "x", "--endpoint", &daemon.inlet, "--wait-subs", "1", "--timeout", "20s"]);
    assert_eq!(published.code, Some(0), "{}", published.err);
    assert_eq!(subscriber.line(), "t x");
    assert_eq!(daemon.metric("tidings_handshake_failures_total{reason="), Some(1));
    let (_, page) = daemon.get("/metrics");
    assert!(page.contains("tidings_connections_closed_total{socket=\"events.in\",reason="), "{page}");
}

#[test]
fn it_ends_well_on_sigterm_and_sigint() {
    for signal in [Signal::TERM, Signal::INT] {
        let daemon = Daemon::start(&[]);
        daemon.process.signal(signal);
        let done = daemon.process.finish();
        assert_eq!(done.code, Some(0), "{}", done.err);
        let last: Value = serde_json::from_str(done.out.last().unwrap()).unwrap();
        assert_eq!(last["event"], "stopped");
    }
}

#[test]
fn without_json_it_prints_where_it_listens_and_how_to_try_it() {
    let mut daemon = tidings(&SERVE);
    daemon.said("is ready");
    let line = daemon.said("service");
    assert!(line.contains("tcp://127.0.0.1:"), "{line}");
    let line = daemon.said("events.in");
    assert!(line.contains("tcp://127.0.0.1:"), "{line}");
    daemon.said("tidings event pub hello world --endpoint tcp://127.0.0.1:");
    daemon.signal(Signal::TERM);
    assert_eq!(daemon.finish().code, Some(0));
}

#[test]
fn a_reload_applies_all_or_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("tidings.toml");
    let write = |out: &str, more: &str| {
        let text = format!(
            "[service]\nenabled = false\n[events]\nin = [\"tcp://127.0.0.1:*\"]\nout = [{out}]\n{more}\n[gossip]\nenabled = false\n[http]\nlisten = \"127.0.0.1:0\"\n"
        );
        std::fs::write(&file, text).unwrap();
    };
    write("\"tcp://127.0.0.1:*\"", "");
    let mut daemon = Daemon::ready(tidings(&["serve", "--json", "-c", file.to_str().unwrap()]));

    let second = format!("ipc://{}/out", directory.path().display());
    write(&format!("\"tcp://127.0.0.1:*\", \"{second}\""), "send-hwm = 5");
    daemon.process.signal(Signal::HUP);
    daemon.process.said("events.send-hwm");
    daemon.process.said("reload finished");
    assert_eq!(daemon.metric("tidings_reloads_total{result=\"applied\"}"), Some(1));
    let mut subscriber = tidings(&["event", "sub", "--endpoint", &second, "-n", "1", "--timeout", "20s"]);
    let published =
        run(&["event", "pub", "t", "x", "--endpoint", &daemon.inlet, "--wait-subs", "1", "--timeout", "20s"]);
    assert_eq!(published.code, Some(0), "{}", published.err);
    assert_eq!(subscriber.line(), "t x");

    write("\"tcp://127.0.0.1:*\"", "send-hvm = 6");
    daemon.process.signal(Signal::HUP);
    let refusal = daemon.process.said("reload refused");
    assert!(refusal.contains("nothing has changed"), "{refusal}");
    daemon.process.said("did you mean 'send-hwm'?");

    // An endpoint that can't be bound: a directory that does not exist
    write("\"tcp://127.0.0.1:*\", \"ipc:///no/such/directory/s\"", "send-hwm = 7");
    daemon.process.signal(Signal::HUP);
    daemon.process.said("reload refused");
    daemon.process.said("reload finished");
    // The second endpoint still works, as before
    let mut subscriber = tidings(&["event", "sub", "--endpoint", &second, "-n", "1", "--timeout", "20s"]);
    let published =
        run(&["event", "pub", "t", "y", "--endpoint", &daemon.inlet, "--wait-subs", "1", "--timeout", "20s"]);
    assert_eq!(published.code, Some(0), "{}", published.err);
    assert_eq!(subscriber.line(), "t y");
    assert_eq!(daemon.metric("tidings_reloads_total{result=\"refused\"}"), Some(2));
    assert_eq!(daemon.get("/readyz").0, 200);
}

#[test]
fn a_port_in_use_is_named_with_a_way_out() {
    let daemon = Daemon::start(&[]);
    let port = daemon.inlet.rsplit_once(':').unwrap().1;
    let with = |flag: &str, value: &str| {
        let mut args = SERVE;
        let place = args.iter().position(|arg| *arg == flag).unwrap();
        args[place + 1] = value;
        run(&args)
    };
    let second = with("--events-in", &daemon.inlet);
    assert_eq!(second.code, Some(3), "{}", second.err);
    for part in [port, "events.in", "--events-in"] {
        assert!(second.err.contains(part), "{part}: {}", second.err);
    }
    let second = with("--service", &daemon.service);
    assert_eq!(second.code, Some(3), "{}", second.err);
    for part in [daemon.service.rsplit_once(':').unwrap().1, "service.listen", "--service"] {
        assert!(second.err.contains(part), "{part}: {}", second.err);
    }
    let second = with("--http", &daemon.http);
    assert_eq!(second.code, Some(3), "{}", second.err);
    for part in [daemon.http.rsplit_once(':').unwrap().1, "http.listen", "--http"] {
        assert!(second.err.contains(part), "{part}: {}", second.err);
    }
}

#[test]
fn a_listener_beyond_this_host_is_refused_unless_allowed() {
    let refused = run(&["serve", "--events-in", "tcp://0.0.0.0:*"]);
    assert_eq!(refused.code, Some(2), "{}", refused.err);
    assert!(refused.err.contains("allow-plaintext = true"), "{}", refused.err);
}

#[test]
fn readiness_is_written_to_a_pipe() {
    let program = env!("CARGO_BIN_EXE_tidings");
    let serve = SERVE.map(|arg| format!("'{arg}'")).join(" ");
    // The shell makes the pipe; `head` ends when the line end has come, and the daemon is killed with the guard
    let script = format!(
        "{{ '{program}' {serve} --quiet --ready-fd 3 3>&1 >/dev/null & \
         echo $! >&4; wait; }} 4>&2 | head -c 1 | od -An -c"
    );
    let mut shell = start(Command::new("sh").args(["-c", &script]));
    let pid: i32 = shell.said("").trim().parse().unwrap();
    let line = shell.line();
    rustix::process::kill_process(rustix::process::Pid::from_raw(pid).unwrap(), Signal::TERM).unwrap();
    assert_eq!(line.trim(), "\\n");
    assert_eq!(shell.finish().code, Some(0));
}

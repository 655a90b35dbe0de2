//! From nothing to an encrypted pair; who is refused, and what both sides and the doctor say of it.

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::process::{Done, Process, run, start};

/// Starts `tidings` in a directory
fn tidings_in(directory: &Path, args: &[&str]) -> Process {
    start(Command::new(env!("CARGO_BIN_EXE_tidings")).args(args).current_dir(directory))
}

fn run_in(directory: &Path, args: &[&str]) -> Done {
    tidings_in(directory, args).finish()
}

/// A hub and a node that trust each other, in `hub-keys` and `node-keys`
fn pair() -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    let made = run_in(directory.path(), &["key", "new", "--pair", "hub", "node", "--tls", "localhost"]);
    assert_eq!(made.code, Some(0), "{}", made.err);
    directory
}

fn doctor(directory: &Path, args: &[&str]) -> (Option<i32>, Value) {
    let usual: &[&str] = if args.contains(&"--timeout") { &[] } else { &["--timeout", "5s"] };
    let done = run_in(directory, &[&["doctor", "--json"], usual, args].concat());
    (done.code, serde_json::from_str(&done.out.join("\n")).unwrap_or_else(|_| panic!("{done:?}")))
}

/// The endpoint of a listener that says these octets to whoever spoke and stays, or else closes at once
fn answering(octets: Option<&[u8]>) -> String {
    use std::io::{Read as _, Write as _};
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = format!("tcp://{}", listener.local_addr().unwrap());
    let octets = octets.map(<[u8]>::to_vec);
    std::thread::spawn(move || {
        let mut kept = Vec::new();
        for stream in listener.incoming() {
            let (Ok(mut stream), Some(octets)) = (stream, &octets) else { continue };
            if stream.read(&mut [0; 64]).is_ok_and(|count| count > 0) {
                stream.write_all(octets).ok();
                kept.push(stream);
            }
        }
    });
    endpoint
}

#[test]
fn three_commands_from_nothing_to_a_private_conversation() {
    let directory = tempfile::tempdir().unwrap();
    let home = directory.path();
    let made = run_in(home, &["key", "new", "--pair", "hub", "node"]);
    assert_eq!(made.code, Some(0), "{}", made.err);
    let mut hub =
        tidings_in(home, &["sock", "pull", "--keys", "hub-keys", "-b", "tcp://127.0.0.1:*", "-n", "1", "--events"]);
    let endpoint = hub.endpoint();
    let node = run_in(home, &["sock", "push", "--keys", "node-keys", "-c", &endpoint, "hello, in private"]);
    assert_eq!(node.code, Some(0), "{}", node.err);
    assert_eq!(hub.line(), "hello, in private");
    let done = hub.finish();
    assert_eq!(done.code, Some(0));
    assert!(done.err.contains("CURVE"), "the handshake says what protects it: {}", done.err);
}

#[test]
fn over_tls_the_same() {
    let directory = pair();
    let home = directory.path();
    let mut hub =
        tidings_in(home, &["sock", "rep", "--keys", "hub-keys", "-b", "tls://127.0.0.1:*", "--echo", "-n", "1"]);
    let endpoint = hub.endpoint().replace("127.0.0.1", "localhost");
    let node = run_in(home, &["sock", "req", "--keys", "node-keys", "-c", &endpoint, "hello"]);
    assert_eq!((node.code, node.out), (Some(0), vec!["hello".to_owned()]), "{}", node.err);
    assert_eq!(hub.finish().code, Some(0));

    // A certificate of the hub's own authority does not open for whom the hub has revoked
    let revoked = run_in(home, &["key", "revoke", "node", "--keys", "hub-keys"]);
    assert_eq!(revoked.code, Some(0), "{}", revoked.err);
    let mut hub =
        tidings_in(home, &["sock", "rep", "--keys", "hub-keys", "-b", "tls://127.0.0.1:*", "--echo", "--events"]);
    let endpoint = hub.endpoint().replace("127.0.0.1", "localhost");
    let node = run_in(home, &["sock", "req", "--keys", "node-keys", "-c", &endpoint, "hello"]);
    assert_eq!(node.code, Some(4), "{}", node.err);
    assert!(hub.said("denied").contains("revoked"));
    let (code, found) = doctor(home, &[&endpoint, "--keys", "node-keys"]);
    assert_eq!((code, found["verdict"].as_str()), (Some(4), Some("refused")), "{found}");
}

#[test]
fn a_stranger_is_refused_at_once_and_both_sides_say_so() {
    let directory = pair();
    let home = directory.path();
    let made = run_in(home, &["key", "new", "--pair", "elsewhere", "stranger"]);
    assert_eq!(made.code, Some(0), "{}", made.err);
    // It knows the hub's key, as anybody may; the hub does not know it
    let trusted = run_in(
        home,
        &[
            "key",
            "trust",
            "hub-keys/curve/hub.key",
            "--name",
            "hub",
            "--roles",
            "hub",
            "--yes",
            "--keys",
            "stranger-keys",
        ],
    );
    assert_eq!(trusted.code, Some(0), "{}", trusted.err);
    let mut hub = tidings_in(home, &["sock", "pull", "--keys", "hub-keys", "-b", "tcp://127.0.0.1:*", "--events"]);
    let endpoint = hub.endpoint();
    let knock = ["sock", "push", "--keys", "stranger-keys", "--server-key", "hub", "-c", &endpoint, "let me in"];
    let stranger = run_in(home, &knock);
    assert_eq!(stranger.code, Some(4), "{}", stranger.err);
    assert!(stranger.err.contains("400"), "{}", stranger.err);
    assert!(hub.said("denied").contains("400"));

    let (code, found) = doctor(home, &[&endpoint, "--keys", "stranger-keys", "--server-key", "hub"]);
    assert_eq!((code, found["verdict"].as_str()), (Some(4), Some("refused")), "{found}");
}

#[test]
fn a_revoked_key_no_longer_opens() {
    let directory = pair();
    let home = directory.path();
    let revoked = run_in(home, &["key", "revoke", "node", "--keys", "hub-keys"]);
    assert_eq!(revoked.code, Some(0), "{}", revoked.err);
    let mut hub = tidings_in(home, &["sock", "pull", "--keys", "hub-keys", "-b", "tcp://127.0.0.1:*", "--events"]);
    let endpoint = hub.endpoint();
    let node = run_in(home, &["sock", "push", "--keys", "node-keys", "-c", &endpoint, "still me"]);
    assert_eq!(node.code, Some(4), "{}", node.err);
    assert!(hub.said("denied").contains("revoked"), "the hub says why");
}

#[test]
fn the_doctor_tells_each_trouble_from_the_others() {
    let directory = pair();
    let home = directory.path();
    let mut plain = tidings_in(home, &["sock", "pull", "-b", "tcp://127.0.0.1:*"]);
    let plain_endpoint = plain.endpoint();
    let mut curve = tidings_in(home, &["sock", "pull", "--keys", "hub-keys", "-b", "tcp://127.0.0.1:*"]);
    let curve_endpoint = curve.endpoint();

    let nobody = TcpListener::bind("127.0.0.1:0").unwrap();
    let free = format!("tcp://{}", nobody.local_addr().unwrap());
    drop(nobody);
    let web = answering(Some(b"HTTP/1.1 400 Bad Request\r\n\r\n"));
    // A signature, and revision 0 behind it: too old for any mechanism
    let old = answering(Some(&[0xff, 0, 0, 0, 0, 0, 0, 0, 1, 0x7f, 0, 5]));
    // A greeting of ZMTP 3.0 with NULL, and no READY behind it
    let mut greeting = [0; 64];
    greeting[0] = 0xff;
    greeting[9] = 0x7f;
    greeting[10] = 3;
    greeting[12..16].copy_from_slice(b"NULL");
    let silent = answering(Some(&greeting));
    let door = answering(None);
    let no_tls = web.replace("tcp:", "tls:");
    let node = ["--keys", "node-keys"];
    // The node's own key for the hub's: what a mistaken --server-key amounts to
    let wrong = fs::read_to_string(home.join("node-keys/curve/node.key")).unwrap();
    let wrong =
        wrong.lines().find_map(|line| line.trim().strip_prefix("public-key = ")).unwrap().trim_matches('"').to_owned();

    for (args, code, verdict) in [
        (vec![plain_endpoint.as_str()], Some(0), "fine"),
        (vec![plain_endpoint.as_str(), "--as", "push"], Some(0), "fine"),
        (vec![plain_endpoint.as_str(), "--as", "sub"], Some(4), "incompatible-type"),
        (vec![plain_endpoint.as_str(), node[0], node[1]], Some(4), "other-mechanism"),
        (vec![curve_endpoint.as_str()], Some(4), "other-mechanism"),
        (vec![curve_endpoint.as_str(), "--as", "push", node[0], node[1]], Some(0), "fine"),
        (vec![curve_endpoint.as_str(), node[0], node[1], "--server-key", wrong.as_str()], Some(4), "wrong-server-key"),
        (vec![free.as_str()], Some(3), "unreachable"),
        (vec!["tcp://no-such-host.invalid:1"], Some(3), "unresolvable"),
        (vec![web.as_str()], Some(4), "not-zeromq"),
        (vec![no_tls.as_str(), node[0], node[1]], Some(4), "tls"),
        (vec![old.as_str()], Some(4), "other-version"),
        (vec![silent.as_str(), "--timeout", "200ms"], Some(5), "silent"),
        (vec![door.as_str()], Some(4), "closed"),
        (vec!["udp://127.0.0.1:1"], Some(1), "no-connection"),
    ] {
        let (found_code, found) = doctor(home, &args);
        assert_eq!((found_code, found["verdict"].as_str()), (code, Some(verdict)), "{args:?}: {found}");
        assert_eq!(found["ok"], verdict == "fine");
    }
}

#[test]
fn the_daemon_listens_beyond_this_host_with_keys_alone() {
    let directory = pair();
    let home = directory.path();
    let refused = run_in(home, &["serve", "--events-in", "tcp://0.0.0.0:*", "--http", "127.0.0.1:0"]);
    assert_eq!(refused.code, Some(2), "{}", refused.err);
    for part in ["tcp://0.0.0.0:*", "[security]", "keys =", "allow-plaintext = true", "tidings key new"] {
        assert!(refused.err.contains(part), "{part}: {}", refused.err);
    }
    let any = "tcp://0.0.0.0:*";
    let serve = [
        "serve",
        "--set",
        "service.enabled=false",
        "--set",
        "gossip.enabled=false",
        "--events-in",
        any,
        "--events-out",
        any,
        "--http",
        "127.0.0.1:0",
        "--json",
        "--keys",
        "hub-keys",
    ];
    let mut daemon = tidings_in(home, &serve);
    let ready: Value = serde_json::from_str(&daemon.line()).unwrap();
    let endpoint = |name: &str| {
        let listeners = ready["listeners"].as_array().unwrap();
        let listener = listeners.iter().find(|listener| listener["name"] == name).unwrap();
        listener["endpoint"].as_str().unwrap().replace("0.0.0.0", "127.0.0.1")
    };
    let (inlet, outlet) = (endpoint("events.in"), endpoint("events.out"));
    let mut subscriber =
        tidings_in(home, &["event", "sub", "-e", &outlet, "--keys", "node-keys", "-n", "1", "--timeout", "20s"]);
    let published = run_in(
        home,
        &[
            "event",
            "pub",
            "weather",
            "rain",
            "-e",
            &inlet,
            "--keys",
            "node-keys",
            "--wait-subs",
            "1",
            "--timeout",
            "20s",
        ],
    );
    assert_eq!(published.code, Some(0), "{}", published.err);
    assert_eq!(subscriber.line(), "weather rain");
    let in_clear = run_in(home, &["event", "pub", "weather", "sun", "-e", &inlet]);
    assert_eq!(in_clear.code, Some(4), "{}", in_clear.err);
    assert!(in_clear.err.contains("CURVE"), "{}", in_clear.err);
}

#[test]
fn a_password_opens_what_asks_for_one() {
    let directory = tempfile::tempdir().unwrap();
    let home = directory.path();
    let made = run_in(home, &["key", "new", "hub", "--keys", "hub-keys"]);
    assert_eq!(made.code, Some(0), "{}", made.err);
    let mut hashed = tidings_in(home, &["key", "password", "admin"]);
    hashed.tell("secret");
    let hashed = hashed.finish();
    assert_eq!(hashed.code, Some(0), "{}", hashed.err);
    let access = home.join("hub-keys/access.toml");
    fs::write(&access, hashed.out.join("\n")).unwrap();
    fs::set_permissions(&access, fs::Permissions::from_mode(0o600)).unwrap();
    fs::write(home.join("right"), "secret\n").unwrap();
    fs::write(home.join("wrong"), "guess\n").unwrap();
    let mut hub =
        tidings_in(home, &["sock", "pull", "--keys", "hub-keys", "-o", "plain_server=1", "-b", "tcp://127.0.0.1:*"]);
    let endpoint = hub.endpoint();
    let push = |file: &str| {
        let who = ["--plain-user", "admin", "--plain-password-file", file];
        run_in(home, &[&["sock", "push", "-c", &endpoint, "hello"], &who[..]].concat())
    };
    assert_eq!(push("right").code, Some(0));
    assert_eq!(hub.line(), "hello");
    let refused = push("wrong");
    assert_eq!(refused.code, Some(4), "{}", refused.err);
    assert!(!refused.err.contains("guess"), "no password is repeated: {}", refused.err);
}

#[test]
fn what_is_missing_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let no_keys = run_in(directory.path(), &["sock", "pull", "--keys", "nowhere", "-b", "tcp://127.0.0.1:*"]);
    assert_eq!(no_keys.code, Some(2), "{}", no_keys.err);
    assert!(no_keys.err.contains("nowhere") && no_keys.err.contains("tidings key new --pair"), "{}", no_keys.err);
    let alone = run(&["sock", "push", "-c", "tcp://127.0.0.1:1", "--server-key", "hub", "x"]);
    assert_eq!(alone.code, Some(2), "{}", alone.err);
    assert!(alone.err.contains("--keys"), "{}", alone.err);
}

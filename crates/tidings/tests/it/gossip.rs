//! Gossip: the node in the daemon, and `gossip` in all its verbs.

use std::path::Path;
use std::process::Command;
use std::time::Instant;

use rustix::process::Signal;
use serde_json::Value;

use crate::daemon::Daemon;
use crate::process::{DEADLINE, Done, Process, run, start, tidings};

/// A daemon that hosts nothing but a gossip node
pub(crate) fn node(name: &str, more: &[&str]) -> Daemon {
    Daemon::start(
        &[&["--set", "service.enabled=false", "--set", "events.enabled=false", "--name", name], more].concat(),
    )
}

pub(crate) fn gossip(daemon: &Daemon, args: &[&str]) -> Done {
    run(&[&["gossip"], args, &["--gossip", &daemon.gossip]].concat())
}

pub(crate) fn watch(daemon: &Daemon, args: &[&str]) -> Process {
    tidings(&[&["gossip", "watch"], args, &["--gossip", &daemon.gossip]].concat())
}

pub(crate) fn put(daemon: &Daemon, args: &[&str]) {
    let done = gossip(daemon, &[&["put"], args].concat());
    assert_eq!((done.code, &done.out[..]), (Some(0), &[][..]), "{}", done.err);
}

fn json(done: &Done) -> Value {
    assert_eq!(done.code, Some(0), "{}", done.err);
    serde_json::from_str(&done.out.join("\n")).unwrap()
}

/// Asks again and again, as each answer takes a moment, until it is so
pub(crate) fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !is_so() {
        assert!(begun.elapsed() < DEADLINE, "it does not come to that: {what}");
    }
}

/// Status of a member, as a node sees it
fn status_of(daemon: &Daemon, name: &str) -> String {
    let object = json(&gossip(daemon, &["members", "--json"]));
    let members = object["members"].as_array().unwrap();
    let member = members.iter().find(|member| member["name"] == name);
    member.map_or_else(String::new, |member| member["status"].as_str().unwrap().to_owned())
}

#[test]
fn a_key_is_put_got_listed_and_removed() {
    let alpha = node("alpha", &[]);
    let nothing = gossip(&alpha, &["get", "config/rate"]);
    assert_eq!(nothing.code, Some(1), "{}", nothing.err);
    assert!(nothing.err.contains("'config/rate' has no value"), "{}", nothing.err);
    put(&alpha, &["config/rate", "10"]);
    put(&alpha, &["config/name", "a\nb"]);
    put(&alpha, &["negative", "-5"]);
    assert_eq!(gossip(&alpha, &["rm", "negative"]).code, Some(0));
    put(&alpha, &["other", "00ff", "--hex"]);
    assert_eq!(gossip(&alpha, &["get", "config/rate"]).out, ["10"]);
    assert_eq!(gossip(&alpha, &["get", "config/name"]).out, ["a\\nb"]);
    let object = json(&gossip(&alpha, &["get", "other", "--json"]));
    assert_eq!((&object["value"]["hex"], &object["owner-name"]), (&"00ff".into(), &"alpha".into()), "{object}");
    assert_eq!(object["lifetime"], "permanent");

    let listed = gossip(&alpha, &["ls", "config/"]);
    assert_eq!(listed.out, ["KEY          VALUE", "config/name  a\\nb", "config/rate  10"], "{}", listed.err);
    let long = gossip(&alpha, &["ls", "--long"]);
    assert_eq!(long.out.len(), 4, "{:?}", long.out);
    assert!(long.out[2].contains("alpha"), "{:?}", long.out);
    let object = json(&gossip(&alpha, &["ls", "--json"]));
    assert_eq!(object["tuples"].as_array().unwrap().len(), 3);
    // The nodes' own keys are nobody else's
    let refused = gossip(&alpha, &["put", "$tidings/x", "1"]);
    assert_eq!(refused.code, Some(4), "{}", refused.err);
    assert!(refused.err.contains("reserved"), "{}", refused.err);

    let removed = gossip(&alpha, &["rm", "config/rate"]);
    assert_eq!(removed.code, Some(0), "{}", removed.err);
    assert_eq!(gossip(&alpha, &["rm", "config/rate"]).code, Some(1));
    assert_eq!(gossip(&alpha, &["get", "config/rate"]).code, Some(1));
    let status = json(&gossip(&alpha, &["status", "--json"]));
    assert_eq!(
        (&status["node"]["name"], &status["node"]["figures"]["tuples"]),
        (&"alpha".into(), &2.into()),
        "{status}"
    );
    let text = gossip(&alpha, &["status"]).out.join("\n");
    assert!(text.contains("alpha") && text.contains("tuples"), "{text}");
}

#[test]
fn values_come_from_files_and_from_stdin_and_bad_ones_are_told() {
    let alpha = node("alpha", &["--set", "gossip.max-value=1KiB"]);
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("value");
    std::fs::write(&file, "from a file").unwrap();
    put(&alpha, &["a", &format!("@{}", file.display())]);
    assert_eq!(gossip(&alpha, &["get", "a"]).out, ["from a file"]);
    let mut writer = tidings(&["gossip", "put", "b", "--stdin", "--gossip", &alpha.gossip]);
    writer.tell("from stdin");
    assert_eq!(writer.finish().code, Some(0));
    assert_eq!(gossip(&alpha, &["get", "b", "--raw"]).out, ["from stdin"]);
    let large = directory.path().join("large");
    std::fs::write(&large, vec![b'x'; 6 << 20]).unwrap();
    let large = format!("@{}", large.display());
    let long = "x".repeat(256);
    for (args, code, part) in [
        (&["put", "", "x"][..], 2, "the key is empty"),
        (&["put", &long, "x"], 2, "256 octets, of at most 255"),
        (&["put", "c", "x", "--ttl", "5"], 2, "not a duration"),
        (&["put", "c", "x", "--ttl", "0"], 2, "no time to live"),
        (&["put", "c", "x", "--ttl", "5s", "--session"], 2, "cannot be used with"),
        (&["put", "c"], 2, "required"),
        (&["put", "c", &"y".repeat(1025)], 4, "gossip.max-value"),
        // So large that the node doesn't even read it
        (&["put", "c", &large], 4, "gossip.max-value"),
        (&["get", "c", "--wait", "10ms"], 5, "has no value after"),
    ] {
        let done = gossip(&alpha, args);
        assert_eq!(done.code, Some(code), "{args:?}: {}", done.err);
        assert!(done.err.contains(part), "{args:?}: {}", done.err);
    }
}

#[test]
fn what_changes_is_watched() {
    let alpha = node("alpha", &[]);
    put(&alpha, &["config/rate", "10"]);
    put(&alpha, &["other", "x"]);
    let mut watching = watch(&alpha, &["config/"]);
    assert_eq!(watching.line(), "put config/rate 10");
    put(&alpha, &["config/rate", "11"]);
    assert_eq!(watching.line(), "put config/rate 11");
    put(&alpha, &["config/limit", "5", "--ttl", "300ms"]);
    assert_eq!(watching.line(), "put config/limit 5");
    assert_eq!(watching.line(), "removed config/limit (expired)");
    gossip(&alpha, &["rm", "config/rate"]);
    assert_eq!(watching.line(), "removed config/rate (deleted)");
    watching.signal(Signal::INT);
    assert_eq!(watching.finish().code, Some(0));

    // As objects, and only what is new
    let mut watching = watch(&alpha, &["--new", "--json", "-n", "2", "-v"]);
    watching.said("that is all there is");
    put(&alpha, &["job/1", "running"]);
    let object: Value = serde_json::from_str(&watching.line()).unwrap();
    assert_eq!(
        (&object["event"], &object["key"], &object["value"]),
        (&"put".into(), &"job/1".into(), &"running".into())
    );
    gossip(&alpha, &["rm", "job/1"]);
    let object: Value = serde_json::from_str(&watching.line()).unwrap();
    assert_eq!((&object["event"], &object["cause"]), (&"removed".into(), &"deleted".into()), "{object}");
    assert_eq!(watching.finish().code, Some(0));
    let short = watch(&alpha, &["-n", "9", "--for", "10ms"]).finish();
    assert_eq!(short.code, Some(0), "{}", short.err);
}

#[test]
fn a_watch_goes_on_when_the_node_comes_back() {
    let directory = tempfile::tempdir().unwrap();
    let at = format!("ipc://{}/gossip", directory.path().display());
    let start = || {
        let mut serve = vec!["serve", "--json", "--gossip", &at, "--http", "127.0.0.1:0", "--set", "gossip.id=random"];
        serve.extend(["--set", "service.enabled=false", "--set", "events.enabled=false"]);
        Daemon::ready(tidings(&serve))
    };
    let first = start();
    put(&first, &["config/rate", "10"]);
    put(&first, &["config/limit", "5"]);
    let mut watching = watch(&first, &["config/"]);
    assert_eq!([watching.line(), watching.line()], ["put config/limit 5", "put config/rate 10"]);
    first.process.signal(Signal::TERM);
    watching.said("is lost; trying again");
    assert_eq!(first.process.finish().code, Some(0));
    let second = start();
    // A node alone forgets with its process; what is there no longer is told
    assert_eq!(
        [watching.line(), watching.line()],
        ["removed config/limit (meanwhile)", "removed config/rate (meanwhile)"]
    );
    put(&second, &["config/rate", "11"]);
    assert_eq!(watching.line(), "put config/rate 11");
    watching.signal(Signal::INT);
    assert_eq!(watching.finish().code, Some(0));
}

#[test]
fn what_is_held_goes_with_who_holds_it() {
    let alpha = node("alpha", &[]);
    let mut watching = watch(&alpha, &["job/", "-v"]);
    watching.said("nothing is there yet");
    let mut holder =
        tidings(&["gossip", "put", "job/42", "running", "--hold", "--ttl", "600ms", "--gossip", &alpha.gossip]);
    holder.said("holding 'job/42'");
    assert_eq!(watching.line(), "put job/42 running");
    // Longer than its time to live
    let waited = gossip(&alpha, &["get", "nothing", "--wait", "1200ms"]);
    assert_eq!(waited.code, Some(5), "{}", waited.err);
    assert_eq!(gossip(&alpha, &["get", "job/42"]).out, ["running"]);
    holder.signal(Signal::INT);
    let done = holder.finish();
    assert_eq!(done.code, Some(0), "{}", done.err);
    assert_eq!(watching.line(), "removed job/42 (deleted)");
}

#[test]
fn nodes_agree_and_know_of_each_other() {
    let alpha = node("alpha", &[]);
    let beta = node("beta", &["--join", &alpha.gossip]);
    let gamma = node("gamma", &["--join", &beta.gossip]);
    let mut watching = watch(&gamma, &["config/"]);
    put(&alpha, &["config/rate", "10"]);
    assert_eq!(watching.line(), "put config/rate 10");
    put(&gamma, &["config/rate", "11"]);
    assert_eq!(watching.line(), "put config/rate 11");
    until("alpha has gamma's value", || gossip(&alpha, &["get", "config/rate"]).out == ["11"]);
    gossip(&beta, &["rm", "config/rate"]);
    assert_eq!(watching.line(), "removed config/rate (deleted)");
    for name in ["alpha", "beta", "gamma"] {
        until(name, || [&alpha, &beta, &gamma].iter().all(|node| status_of(node, name) == "up"));
    }
    let peers = json(&gossip(&beta, &["peers", "--json"]));
    assert_eq!(peers["peers"].as_array().unwrap().len(), 2, "{peers}");
    let table = gossip(&beta, &["peers"]).out;
    assert!(table.iter().any(|line| line.starts_with("alpha") && line.contains("tidings")), "{table:?}");
    let members = gossip(&beta, &["members"]).out;
    assert!(members.iter().any(|line| line.starts_with("beta *")), "{members:?}");

    // The nodes' own keys are listed when asked for
    let own = gossip(&beta, &["ls", "$tidings/node/"]);
    assert_eq!(own.out.iter().filter(|line| line.starts_with("$tidings/node/")).count(), 3, "{own:?}");
    assert_eq!(gossip(&beta, &["ls"]).out, [""; 0]);

    // The picture has all three, and who is connected with whom
    until("the graph is known", || {
        let text = gossip(&alpha, &["graph", "--form", "text"]).out.join("\n");
        text.contains("alpha *") && text.matches("gamma").count() == 2
    });
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("network.svg");
    let drawn = gossip(&alpha, &["graph", "-o", file.to_str().unwrap()]);
    assert_eq!(drawn.code, Some(0), "{}", drawn.err);
    assert!(drawn.err.contains("3 nodes, 2 links"), "{}", drawn.err);
    let svg = std::fs::read_to_string(&file).unwrap();
    assert!(svg.starts_with("<svg") && svg.matches("class=\"name\"").count() == 3, "{svg}");

    // A node that is told to end says goodbye, and is not taken for dead
    gamma.process.signal(Signal::TERM);
    assert_eq!(gamma.process.finish().code, Some(0));
    until("gamma has left", || status_of(&alpha, "gamma") == "left");
}

#[test]
fn a_node_that_dies_is_found_gone_and_takes_its_sessions_along() {
    let alpha = node("alpha", &["--set", "gossip.interval=100ms"]);
    let beta = node("beta", &["--set", "gossip.interval=100ms", "--join", &alpha.gossip]);
    put(&beta, &["endpoint/db/beta", "tcp://192.0.2.1:1", "--session"]);
    put(&beta, &["config/rate", "10"]);
    // A node that hears from nobody accuses nobody: there has to be a third one
    let _gamma = node("gamma", &["--set", "gossip.interval=100ms", "--join", &alpha.gossip]);
    until("gamma is up", || status_of(&alpha, "gamma") == "up");
    let mut watching = watch(&alpha, &[]);
    let mut seen = [watching.line(), watching.line()];
    seen.sort();
    assert_eq!(seen, ["put config/rate 10", "put endpoint/db/beta tcp://192.0.2.1:1"]);
    until("beta is up", || status_of(&alpha, "beta") == "up");
    beta.process.signal(Signal::KILL);
    assert_eq!(watching.line(), "removed endpoint/db/beta (owner-gone)");
    until("beta is gone", || status_of(&alpha, "beta") == "gone");
    assert_eq!(gossip(&alpha, &["get", "config/rate"]).out, ["10"]);
    drop(beta);
}

#[test]
fn a_node_is_the_same_after_a_restart() {
    let directory = tempfile::tempdir().unwrap();
    let state = format!("gossip.directory={}", directory.path().display());
    let id = |daemon: &Daemon| json(&gossip(daemon, &["status", "--json"]))["node"]["id"].clone();
    let keeps = ["--set", "gossip.id=", "--set", &state];
    let mut first = node("alpha", &keeps);
    let known = id(&first);
    let mut second = node("alpha", &keeps);
    second.process.said("another node has its identity there");
    assert_ne!(id(&second), known);
    first.process.signal(Signal::TERM);
    first.process.said("said goodbye");
    assert_eq!(first.process.finish().code, Some(0));
    assert_eq!(id(&node("alpha", &keeps)), known);
    assert_eq!(id(&node("alpha", &["--set", "gossip.id=00000000000000ab"])), "00000000000000ab");
}

#[test]
fn who_is_not_there_or_can_not_be_asked_is_told() {
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let nobody = format!("tcp://127.0.0.1:{port}");
    let done = run(&["gossip", "ls", "--gossip", &nobody, "--connect-timeout", "300ms"]);
    assert_eq!(done.code, Some(3), "{}", done.err);
    assert!(done.err.contains("tidings serve") && done.err.contains(&nobody), "{}", done.err);
    let object: Value = serde_json::from_str(
        &run(&["gossip", "get", "x", "--gossip", &nobody, "--connect-timeout", "300ms", "--json"]).out[0],
    )
    .unwrap();
    assert_eq!((&object["ok"], &object["error"]["code"]), (&false.into(), &"connect".into()), "{object}");
    // A ROUTER that says nothing of itself is what zgossip looks like: it is told nothing that could stop it
    let mut router = tidings(&["sock", "router", "-b", "tcp://127.0.0.1:*", "--events"]);
    let endpoint = router.endpoint();
    for args in [&["ls"][..], &["put", "a", "b"], &["status"], &["watch"], &["graph"]] {
        let done = run(&[&["gossip"], args, &["--gossip", &endpoint]].concat());
        assert_eq!(done.code, Some(4), "{args:?}: {}", done.err);
        assert!(done.err.contains("--join"), "{args:?}: {}", done.err);
    }
    router.signal(Signal::INT);
    assert_eq!(router.finish().out, [""; 0]);
    let daemon = Daemon::start(&["--set", "events.enabled=false"]);
    let done = run(&["gossip", "ls", "--gossip", &daemon.service]);
    assert_eq!(done.code, Some(4), "{}", done.err);
    assert!(done.err.contains("broker of services"), "{}", done.err);
    let done = run(&["gossip", "ls", "--gossip", "gossip:gossip"]);
    assert_eq!(done.code, Some(2), "{}", done.err);
}

/// ZGP 1, octet for octet (the sheet's examples): a peer that knows nothing else
#[test]
fn a_peer_of_zgossip_is_a_client_like_any() {
    let alpha = node("alpha", &[]);
    put(&alpha, &["k1", "v1"]);
    let mut watching = watch(&alpha, &[]);
    assert_eq!(watching.line(), "put k1 v1");
    let mut peer =
        tidings(&["sock", "dealer", "-c", &alpha.gossip, "--stdin", "--hex", "--output", "hex", "--linger", "0"]);
    peer.tell("aaa00101");
    assert_eq!(peer.line(), "aaa00201026b310000000276310000000 0".replace(' ', ""));
    peer.tell("aaa00301");
    assert_eq!(peer.line(), "aaa00401");
    peer.tell("aaa00201026b32000000027632000000 00".replace(' ', "").as_str());
    assert_eq!(watching.line(), "put k2 v2");
    // What stops a node of CZMQ is answered INVALID, and the node goes on
    peer.tell("aaa10101");
    until("INVALID", || peer.line() == "aaa00501");
    assert_eq!(gossip(&alpha, &["get", "k2"]).out, ["v2"]);
    until("it is counted", || alpha.metric("tidings_gossip_refused_total").is_some_and(|count| count > 0));
}

#[test]
fn a_network_is_joined_to_listen() {
    let alpha = node("alpha", &[]);
    put(&alpha, &["config/rate", "10"]);
    let listed = run(&["gossip", "ls", "--join", &alpha.gossip, "--settle", "500ms"]);
    assert_eq!(listed.out, ["KEY          VALUE", "config/rate  10"], "{}", listed.err);
    let got = run(&["gossip", "get", "config/rate", "--join", &alpha.gossip]);
    assert_eq!(got.out, ["10"], "{}", got.err);
    let none = run(&["gossip", "get", "config/nothing", "--join", &alpha.gossip, "--settle", "300ms"]);
    assert_eq!(none.code, Some(1), "{}", none.err);
    let mut watching = tidings(&["gossip", "watch", "config/", "--join", &alpha.gossip]);
    assert_eq!(watching.line(), "put config/rate 10");
    put(&alpha, &["config/rate", "11"]);
    assert_eq!(watching.line(), "put config/rate 11");
    watching.signal(Signal::INT);
    assert_eq!(watching.finish().code, Some(0));
}

#[test]
fn rules_say_who_may_publish_and_read_and_a_reload_changes_them() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("tidings.toml");
    let write = |rules: &str| {
        let text = format!(
            "[service]\nenabled = false\n[events]\nenabled = false\n[http]\nenabled = false\n\
             [gossip]\nname = \"alpha\"\nid = \"random\"\nlisten = [\"tcp://127.0.0.1:*\"]\n{rules}\n"
        );
        std::fs::write(&file, text).unwrap();
    };
    write("publish = [\"anonymous status/*\"]\nread = [\"anonymous status/*\"]\njoin = [\"node\"]");
    let mut alpha = Daemon::ready(tidings(&["serve", "--json", "-c", file.to_str().unwrap()]));
    put(&alpha, &["status/me", "up"]);
    for args in
        [&["put", "config/rate", "10"][..], &["rm", "config/rate"], &["ls"], &["get", "config/rate"], &["members"]]
    {
        let refused = gossip(&alpha, args);
        assert_eq!(refused.code, Some(4), "{args:?}: {}", refused.err);
        assert!(
            refused.err.contains("you may not") && refused.err.contains("gossip.publish"),
            "{args:?}: {}",
            refused.err
        );
    }
    assert_eq!(gossip(&alpha, &["ls", "status/"]).out.len(), 2);
    // A node without the role does not get in, and a reload lets it
    let beta = node("beta", &["--join", &alpha.gossip]);
    alpha.process.said("not-permitted");
    write("");
    alpha.process.signal(Signal::HUP);
    alpha.process.said("reload finished");
    put(&alpha, &["config/rate", "10"]);
    until("beta was let in", || gossip(&beta, &["get", "config/rate"]).out == ["10"]);
}

#[test]
fn a_configuration_of_zgossip_is_taken_over() {
    let directory = tempfile::tempdir().unwrap();
    let (old, new) = (directory.path().join("zgossip.cfg"), directory.path().join("tidings.toml"));
    let text = "server\n    timeout = 10000\n    verbose = 1\nzgossip\n    echo = \"I: starting\"\n    bind\n        endpoint = tcp://127.0.0.1:*\n";
    std::fs::write(&old, text).unwrap();
    let done = run(&["import", "zpl", old.to_str().unwrap(), "-o", new.to_str().unwrap()]);
    assert_eq!(done.code, Some(0), "{}", done.err);
    assert_eq!(run(&["check", new.to_str().unwrap()]).code, Some(0));
    let taken = Daemon::ready(tidings(&[
        "serve",
        "--json",
        "-c",
        new.to_str().unwrap(),
        "--http",
        "127.0.0.1:0",
        "--set",
        "gossip.id=random",
    ]));
    put(&taken, &["config/rate", "10"]);
    assert!(taken.service.is_empty() && taken.inlet.is_empty());
    std::fs::write(&old, "server\n    timeout = soon\n").unwrap();
    let wrong = run(&["import", "zpl", old.to_str().unwrap(), "--json"]);
    assert_eq!(wrong.code, Some(2), "{}", wrong.err);
    let object: Value = serde_json::from_str(&wrong.out[0]).unwrap();
    assert_eq!((&object["problems"][0]["line"], &object["problems"][0]["column"]), (&2.into(), &5.into()), "{object}");
}

#[test]
fn page_and_metrics_tell_of_the_node() {
    let alpha = node("alpha", &[]);
    let _beta = node("beta", &["--join", &alpha.gossip]);
    put(&alpha, &["config/rate", "10"]);
    until("beta is up", || status_of(&alpha, "beta") == "up");
    let status: Value = serde_json::from_str(&alpha.get("/status.json").1).unwrap();
    let node = &status["gossip"];
    assert_eq!((&node["node"]["name"], &node["by-status"]["up"]), (&"alpha".into(), &2.into()), "{node}");
    assert_eq!(node["members"].as_array().unwrap().len(), 2);
    assert_eq!(alpha.metric("tidings_gossip_tuples"), Some(1));
    assert_eq!(alpha.metric("tidings_gossip_members{status=\"up\"}"), Some(2));
    assert_eq!(alpha.metric("tidings_gossip_links{wire=\"tidings\"}"), Some(1));
    assert!(alpha.metric("tidings_gossip_messages_total{direction=\"in\"}").unwrap() > 0);
    assert!(alpha.metric("tidings_gossip_driver_total{name=\"commands\"}").unwrap() > 0);
    assert!(alpha.get("/").1.contains("id=\"gossip-part\""));
}

/// `tidings` in a directory
fn in_home(home: &Path, args: &[&str]) -> Process {
    start(Command::new(env!("CARGO_BIN_EXE_tidings")).args(args).current_dir(home))
}

#[test]
fn beyond_this_host_nodes_know_each_other_by_their_keys() {
    let directory = tempfile::tempdir().unwrap();
    let home = directory.path();
    let made = in_home(home, &["key", "new", "--pair", "hub", "node"]).finish();
    assert_eq!(made.code, Some(0), "{}", made.err);
    let refused = in_home(home, &["serve", "--gossip", "tcp://0.0.0.0:*"]).finish();
    assert_eq!(refused.code, Some(2), "{}", refused.err);
    assert!(refused.err.contains("gossip.listen") && refused.err.contains("allow-plaintext"), "{}", refused.err);
    let refused = in_home(home, &["serve", "--join", "tcp://192.0.2.1:4833"]).finish();
    assert_eq!(refused.code, Some(2), "{}", refused.err);
    assert!(refused.err.contains("gossip.connect") && refused.err.contains("on another host"), "{}", refused.err);

    let second = in_home(home, &["key", "new", "second", "--keys", "hub-keys"]).finish();
    assert_eq!(second.code, Some(0), "{}", second.err);
    let other_key =
        ["serve", "--keys", "hub-keys", "--set", "security.key=hub", "--gossip", "tcp://127.0.0.1:* curve=second"];
    let refused = in_home(home, &[&other_key[..], &["--http", "127.0.0.1:0"]].concat()).finish();
    assert_eq!(refused.code, Some(2), "{}", refused.err);
    assert!(refused.err.contains("a node has one key"), "{}", refused.err);
    std::fs::remove_dir_all(home.join("hub-keys")).unwrap();
    std::fs::remove_dir_all(home.join("node-keys")).unwrap();
    assert_eq!(in_home(home, &["key", "new", "--pair", "hub", "node"]).finish().code, Some(0));

    let serve = |name: &str, keys: &str, more: &[&str]| {
        let usual = ["serve", "--json", "--set", "service.enabled=false", "--set", "events.enabled=false", "--http"];
        let state = format!("gossip.directory={name}-state");
        let own = ["127.0.0.1:0", "--name", name, "--keys", keys, "--set", &state];
        Daemon::ready(in_home(home, &[&usual[..], &own, more].concat()))
    };
    let hub = serve("hub", "hub-keys", &["--gossip", "tcp://0.0.0.0:*"]);
    let at = hub.gossip.replace("0.0.0.0", "127.0.0.1");
    assert_eq!(
        in_home(home, &["gossip", "put", "endpoint/hub/x", &at, "--gossip", &at, "--keys", "node-keys"]).finish().code,
        Some(0)
    );
    let trusting = format!("gossip.connect={at} server-key=hub");
    let other = serve("other", "node-keys", &["--gossip", "tcp://127.0.0.1:*", "--set", &trusting]);
    put(&other, &["config/rate", "10"]);
    let got = in_home(home, &["gossip", "get", "config/rate", "--wait", "20s", "--gossip", &at, "--keys", "node-keys"])
        .finish();
    assert_eq!(got.out, ["10"], "{}", got.err);
    let in_clear = run(&["gossip", "get", "config/rate", "--gossip", &at]);
    assert_eq!(in_clear.code, Some(4), "{}", in_clear.err);
    // A name is looked up in the clear on this host, and with the keys where that does not go
    for node in [&other.gossip, &at] {
        let found = ["doctor", "gossip:hub", "--gossip", node, "--keys", "node-keys", "--as", "dealer"];
        let done = in_home(home, &found).finish();
        assert_eq!(done.code, Some(0), "{} {:?}", done.err, done.out);
    }
    // Whoever has a key is who it says: the id is the key's
    let asked = in_home(home, &["gossip", "status", "--json", "--gossip", &at, "--keys", "node-keys"]).finish();
    let id = json(&asked)["node"]["id"].as_str().unwrap().to_owned();
    until("the other knows the hub", || {
        let members = json(&gossip(&other, &["members", "--json"]));
        members["members"].as_array().unwrap().iter().any(|member| member["id"] == id.as_str())
    });
}

//! Names in place of addresses: announced by daemons, found by daemons and commands, and moved when they move.

use rustix::process::Signal;
use serde_json::Value;

use crate::daemon::Daemon;
use crate::gossip::{gossip, node, put, until};
use crate::process::{run, tidings};

#[test]
fn services_are_found_by_their_name_and_followed_when_they_move() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("hub.toml");
    let write = |listen: &str| {
        let text = format!(
            "[service]\nlisten = [\"{listen}\"]\ndurable = false\n[events]\nenabled = false\n[http]\nenabled = false\n\
             [gossip]\nname = \"hub\"\nid = \"random\"\nlisten = [\"tcp://127.0.0.1:*\"]\nannounce = true\n"
        );
        std::fs::write(&file, text).unwrap();
    };
    write("tcp://127.0.0.1:*");
    let mut hub = Daemon::ready(tidings(&["serve", "--json", "-c", file.to_str().unwrap()]));
    let spoke = node("spoke", &["--join", &hub.gossip]);
    let announced = gossip(&spoke, &["get", "endpoint/services/hub", "--wait", "20s"]);
    assert_eq!(announced.out, [hub.service.as_str()], "{}", announced.err);

    let by_name = ["-e", "gossip:services", "--gossip", &spoke.gossip];
    let mut worker = tidings(&[&["svc", "work", "upper"], &by_name[..], &["--", "tr", "a-z", "A-Z"]].concat());
    let line = worker.said("ready for 'upper'");
    assert!(line.contains(&hub.service), "{line}");
    let call = || run(&[&["svc", "call", "upper", "--raw", "hello"], &by_name[..]].concat());
    let reply = call();
    assert_eq!(reply.out, ["HELLO"], "{}", reply.err);

    // The broker listens elsewhere now; who found it by its name goes along
    let elsewhere = format!("ipc://{}/services", directory.path().display());
    write(&elsewhere);
    hub.process.signal(Signal::HUP);
    hub.process.said("reload finished");
    worker.said("gossip:services is at ipc://");
    let line = worker.said("ready for 'upper'");
    assert!(line.contains(&elsewhere), "{line}");
    until("the call goes there, too", || call().out == ["HELLO"]);
    worker.signal(Signal::INT);
    let done = worker.finish();
    assert_eq!(done.code, Some(0), "{}", done.err);

    // Whoever ends takes its announcements along
    hub.process.signal(Signal::TERM);
    assert_eq!(hub.process.finish().code, Some(0));
    until("nobody announces services", || gossip(&spoke, &["get", "endpoint/services/hub"]).code == Some(1));
    let lost = run(&[&["svc", "ls", "--connect-timeout", "1500ms"], &by_name[..]].concat());
    assert_eq!(lost.code, Some(5), "{}", lost.err);
    for part in ["waiting for gossip:services", "nobody has announced it", "tidings gossip ls endpoint/"] {
        assert!(lost.err.contains(part), "no {part} in {}", lost.err);
    }
}

#[test]
fn events_and_sockets_are_found_by_their_names() {
    let hub = Daemon::start(&["--name", "hub", "--announce"]);
    let all = gossip(&hub, &["ls", "endpoint/"]).out.join("\n");
    for (name, endpoint) in
        [("services", &hub.service), ("events-in", &hub.inlet), ("events-out", &hub.outlet), ("gossip", &hub.gossip)]
    {
        let line = all.lines().find(|line| line.starts_with(&format!("endpoint/{name}/hub ")));
        assert!(line.is_some_and(|line| line.ends_with(endpoint.as_str())), "{name}: {all}");
    }
    let found = ["--gossip", &hub.gossip];
    let mut subscriber =
        tidings(&[&["event", "sub", "weather", "-n", "1", "-e", "gossip:events-out"], &found[..]].concat());
    let published = run(&[
        &["event", "pub", "weather", "rain", "--wait-subs", "1", "--timeout", "20s", "-e", "gossip:events-in"],
        &found[..],
    ]
    .concat());
    assert_eq!(published.code, Some(0), "{}", published.err);
    assert_eq!(subscriber.line(), "weather rain");
    assert_eq!(subscriber.finish().code, Some(0));

    // Any socket, by a name that anybody gave; and it moves
    let mut first = tidings(&["sock", "rep", "-b", "tcp://127.0.0.1:*", "--reply", "first"]);
    let mut second = tidings(&["sock", "rep", "-b", "tcp://127.0.0.1:*", "--reply", "second"]);
    let (one, other) = (first.endpoint(), second.endpoint());
    put(&hub, &["endpoint/oracle/one", &one]);
    let ask = |more: &[&str]| {
        run(&[&["sock", "req", "-c", "gossip:oracle", "x", "--timeout", "20s"], &found[..], more].concat())
    };
    assert_eq!(ask(&[]).out, ["first"]);
    let mut asking =
        tidings(&[&["sock", "req", "-c", "gossip:oracle", "--stdin", "--timeout", "20s"], &found[..]].concat());
    asking.tell("x");
    assert_eq!(asking.line(), "first");
    put(&hub, &["endpoint/oracle/one", &other]);
    asking.said("gossip:oracle is at");
    asking.tell("x");
    assert_eq!(asking.line(), "second");
    asking.end_input();
    assert_eq!(asking.finish().code, Some(0));
    let doctor = run(&[&["doctor", "gossip:oracle", "--as", "req"], &found[..]].concat());
    assert_eq!(doctor.code, Some(0), "{}", doctor.err);
    assert!(doctor.out[0].contains(&other), "{:?}", doctor.out);
    // Older networks name their endpoints without our custom
    put(&hub, &["mlm-server", &one]);
    let reply = run(&[&["sock", "req", "-c", "gossip:mlm-server", "x", "--timeout", "20s"], &found[..]].concat());
    assert_eq!(reply.out, ["first"], "{}", reply.err);
}

#[test]
fn what_is_missing_or_no_address_is_said() {
    let hub = node("hub", &[]);
    put(&hub, &["endpoint/broken/hub", "nonsense"]);
    let found = ["--gossip", &hub.gossip];
    let ask = |name: &str| run(&[&["sock", "req", "-c", name, "x", "--timeout", "1200ms"], &found[..]].concat());
    let missing = ask("gossip:nothing");
    assert_eq!(missing.code, Some(5), "{}", missing.err);
    assert!(missing.err.contains("nobody has announced it to the node at"), "{}", missing.err);
    let broken = ask("gossip:broken");
    assert_eq!(broken.code, Some(5), "{}", broken.err);
    assert!(broken.err.contains("'endpoint/broken/hub' has no address"), "{}", broken.err);
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let nobody = format!("tcp://127.0.0.1:{port}");
    let done = run(&["svc", "ls", "-e", "gossip:services", "--gossip", &nobody, "--connect-timeout", "1200ms"]);
    assert_eq!(done.code, Some(3), "{}", done.err);
    assert!(done.err.contains(&nobody) && done.err.contains("tidings serve"), "{}", done.err);
    // Rules may let a name be looked up, and no more; or not that
    let ruled = node("ruled", &["--set", "gossip.read=* endpoint/*"]);
    put(&ruled, &["endpoint/here/ruled", &ruled.gossip]);
    let found = run(&["doctor", "gossip:here", "--gossip", &ruled.gossip]);
    assert_eq!(found.code, Some(0), "{} {:?}", found.err, found.out);
    let closed = node("closed", &["--set", "gossip.read=operator *"]);
    let refused = run(&["doctor", "gossip:here", "--gossip", &closed.gossip, "--timeout", "1200ms"]);
    assert_eq!(refused.code, Some(4), "{}", refused.err);
    assert!(refused.err.contains("you may not read"), "{}", refused.err);
    for (name, part) in [("gossip://services", "no // before it"), ("gossip:", "missing"), ("gossip:a b", "blanks")] {
        let done = ask(name);
        assert_eq!(done.code, Some(2), "{}", done.err);
        assert!(done.err.contains(part), "{}", done.err);
    }
    let listening = run(&["sock", "rep", "-b", "gossip:services", "--echo"]);
    assert_eq!(listening.code, Some(2), "{}", listening.err);
    assert!(listening.err.contains("nothing can listen on it"), "{}", listening.err);
}

#[test]
fn a_daemon_finds_publishers_and_nodes_by_their_names() {
    let north = Daemon::start(&["--name", "north", "--announce"]);
    let middle = node("middle", &["--join", &north.gossip]);
    // By the name of a node that it learns of from another: north and south are connected then
    let south = Daemon::start(&[
        "--name",
        "south",
        "--join",
        &format!("{},gossip:gossip/north", middle.gossip),
        "--set",
        "events.connect=gossip:events-out",
    ]);
    let peers =
        |daemon: &Daemon| -> Value { serde_json::from_str(&gossip(daemon, &["peers", "--json"]).out[0]).unwrap() };
    until("south is connected with both", || {
        peers(&south)["peers"].as_array().unwrap().iter().filter(|peer| peer["side"] == "remote").count() == 2
    });
    let mut subscriber = tidings(&["event", "sub", "weather", "-n", "1", "-e", &south.outlet]);
    let published =
        run(&["event", "pub", "weather", "rain", "--wait-subs", "1", "--timeout", "20s", "-e", &north.inlet]);
    assert_eq!(published.code, Some(0), "{}", published.err);
    assert_eq!(subscriber.line(), "weather rain");
    assert_eq!(subscriber.finish().code, Some(0));
}

#[test]
fn an_announcement_that_somebody_removes_is_made_again_and_one_of_the_same_name_is_told() {
    let mut hub = node("hub", &["--announce"]);
    let own = || gossip(&hub, &["get", "endpoint/gossip/hub"]).out;
    assert_eq!(own(), [hub.gossip.as_str()]);
    assert_eq!(gossip(&hub, &["rm", "endpoint/gossip/hub"]).code, Some(0));
    until("it is announced again", || own() == [hub.gossip.as_str()]);
    let twin = node("hub", &["--announce", "--join", &hub.gossip]);
    hub.process.said("another node announces the same");
    twin.process.signal(Signal::TERM);
    assert_eq!(twin.process.finish().code, Some(0));
    let again = || gossip(&hub, &["get", "endpoint/gossip/hub"]).out;
    until("it is announced again", || again() == [hub.gossip.as_str()]);
}

#[test]
fn what_only_this_host_reaches_is_not_announced_to_others() {
    // A listener that others reach, without keys as the network is trusted; the services are on loopback
    let hub = Daemon::start(&[
        "--name",
        "hub",
        "--announce",
        "--set",
        "gossip.advertise=hub.example.org",
        "--set",
        "gossip.listen=tcp://0.0.0.0:* allow-plaintext",
    ]);
    let at = hub.gossip.replace("0.0.0.0", "127.0.0.1");
    let port = at.rsplit_once(':').unwrap().1.to_owned();
    let listed = run(&["gossip", "ls", "endpoint/", "--gossip", &at]);
    assert_eq!(listed.out.len(), 2, "{listed:?}");
    assert!(listed.out[1].ends_with(&format!("tcp://hub.example.org:{port}")), "{listed:?}");
}

//! The book's three nodes (docs/src/gossip.md), run as it says: its files, its commands, on ports of their own.

use std::path::{Path, PathBuf};

use rustix::process::Signal;

use crate::daemon::Daemon;
use crate::gossip::{gossip, until};
use crate::process::{run, tidings};

/// The file that the book calls so, with other ports: whatever listens takes any, what connects has those that came of it
fn file(directory: &Path, name: &str, connects: &[(&str, &str)]) -> PathBuf {
    let book = include_str!("../../../../docs/src/gossip.md");
    let begin = format!("```toml {name}\n");
    let text = book.split_once(&begin).unwrap_or_else(|| panic!("the book has no {name}")).1;
    let text = text.split_once("\n```").unwrap().0;
    let mut lines: Vec<String> = Vec::new();
    for line in text.lines() {
        let mut line = line.to_owned();
        if line.starts_with("connect = ") {
            for (written, real) in connects {
                assert!(
                    !written.starts_with("tcp:") || !line.contains("tcp:") || line.contains(written),
                    "{name}: {line}"
                );
                line = line.replace(written, real);
            }
        } else if let Some((before, _)) = line.split_once("tcp://127.0.0.1:") {
            line = format!("{before}tcp://127.0.0.1:*\"]");
        }
        if line == "[gossip]" {
            line.push_str("\nid = \"random\"");
        }
        lines.push(line);
    }
    let path = directory.join(name);
    let mut text = lines.join("\n");
    if !text.contains("[http]") {
        text.push_str("\n[http]\nenabled = false\n");
    }
    if !text.contains("[events]") {
        text.push_str("\n[events]\nin = [\"tcp://127.0.0.1:*\"]\nout = [\"tcp://127.0.0.1:*\"]\n");
    }
    std::fs::write(&path, text.replace("[service]\nlisten", "[service]\ndurable = false\nlisten")).unwrap();
    path
}

fn serve(path: &Path) -> Daemon {
    Daemon::ready(tidings(&["serve", "--json", "-c", path.to_str().unwrap()]))
}

#[test]
fn three_nodes_find_each_others_services_by_name() {
    let directory = tempfile::tempdir().unwrap();
    let hub_file = file(directory.path(), "hub.toml", &[]);
    let mut hub = serve(&hub_file);
    let north = serve(&file(directory.path(), "north.toml", &[("tcp://127.0.0.1:4833", &hub.gossip)]));
    let south = serve(&file(directory.path(), "south.toml", &[("tcp://127.0.0.1:4933", &north.gossip)]));

    let mut worker = tidings(&[
        "svc",
        "work",
        "upper",
        "-e",
        "gossip:services",
        "--gossip",
        &north.gossip,
        "--",
        "tr",
        "a-z",
        "A-Z",
    ]);
    worker.said("ready for 'upper'");
    let call = || run(&["svc", "call", "upper", "--raw", "hello", "-e", "gossip:services", "--gossip", &south.gossip]);
    let reply = call();
    assert_eq!(reply.out, ["HELLO"], "{}", reply.err);

    // South collects the events of north, and of the hub
    let mut subscriber = tidings(&["event", "sub", "weather", "-n", "2", "-e", &south.outlet]);
    for from in ["north", "hub"] {
        let at = format!("gossip:events-in/{from}");
        let published = run(&[
            "event",
            "pub",
            "weather",
            from,
            "--wait-subs",
            "1",
            "--timeout",
            "20s",
            "-e",
            &at,
            "--gossip",
            &south.gossip,
        ]);
        assert_eq!(published.code, Some(0), "{}", published.err);
        assert_eq!(subscriber.line(), format!("weather {from}"));
    }
    assert_eq!(subscriber.finish().code, Some(0));

    // South was told of north only, and has found the hub
    until("south is connected with the hub", || {
        let peers = gossip(&south, &["peers"]).out;
        peers.iter().any(|line| line.starts_with("hub")) && peers.iter().any(|line| line.starts_with("north"))
    });

    // The broker moves: the worker goes along, and so does the next call
    let elsewhere = format!("ipc://{}/services", directory.path().display());
    let text = std::fs::read_to_string(&hub_file).unwrap();
    let (before, after) = text.split_once("listen = [\"tcp://127.0.0.1:*\"]").unwrap();
    std::fs::write(&hub_file, format!("{before}listen = [\"{elsewhere}\"]{after}")).unwrap();
    hub.process.signal(Signal::HUP);
    hub.process.said("reload finished");
    worker.said("gossip:services is at ipc://");
    worker.said("ready for 'upper'");
    until("the call goes there", || call().out == ["HELLO"]);
}

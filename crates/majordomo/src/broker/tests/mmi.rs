//! What the broker answers itself.

use tidings_zmtp::Message;

use std::time::Duration;

use super::super::*;
use super::stage::*;
use crate::wire::{ClientReply, Wire, domogik};

fn answer(stage: &mut Stage, wire: Wire, command: &str, about: &str) -> String {
    let client = stage.peer(wire);
    stage.ask(client, 1, command, no_options(), about);
    let mut answers = stage.answers(client);
    assert_eq!(answers.len(), 1, "{command}");
    answers.remove(0).1
}

#[test]
fn mmi_service_tells_whether_there_is_a_worker() {
    for wire in Wire::ALL {
        let mut stage = Stage::new();
        assert_eq!(answer(&mut stage, wire, "mmi.service", "echo"), "404");
        let worker = stage.worker(Wire::Mdp01, "echo", 1);
        assert_eq!(answer(&mut stage, wire, "mmi.service", "echo"), "200", "{wire}");
        assert_eq!(answer(&mut stage, wire, "mmi.service", "ech"), "404", "not by substring");
        stage.leave(worker);
        assert_eq!(answer(&mut stage, wire, "mmi.service", "echo"), "404");
        assert_eq!(answer(&mut stage, wire, "mmi.nothing", "echo"), "501");
        assert_eq!(answer(&mut stage, wire, "mmi.", "echo"), "501");
    }
}

#[test]
fn the_reply_bears_the_name_of_the_command() {
    let mut stage = Stage::new();
    let client = stage.peer(Wire::Mdp01);
    stage.ask(client, 0, "mmi.service", no_options(), "echo");
    assert_eq!(stage.messages(client), [Message::multipart(["", "MDPC01", "mmi.service", "404"])]);
    // Nothing to ask about is nothing that exists
    stage.say(client, Message::multipart(["", "MDPC01", "mmi.service"]));
    assert_eq!(stage.messages(client), [Message::multipart(["", "MDPC01", "mmi.service", "404"])]);
}

#[test]
fn domogik_lists_services_in_one_frame() {
    let mut stage = Stage::new();
    for service in ["rest", "dbmanager", "rest", "manager"] {
        stage.worker(Wire::Mdp01, service, 1);
    }
    let client = stage.peer(Wire::Domogik);
    for timeout in [None, Some(secs(10))] {
        let timeout = domogik::timeout_frame(timeout);
        let frames = [Bytes::new(), "MDPC01".into(), "mmi.services".into(), timeout.clone(), "".into(), "{}".into()];
        stage.say(client, Message::multipart(frames));
        let reply = Message::multipart(["", "MDPC01", "mmi.services", "dbmanager, manager, rest"]);
        assert_eq!(stage.messages(client), [reply]);
        let frames = [Bytes::new(), "MDPC01".into(), "mmi.service".into(), timeout, "rest".into()];
        stage.say(client, Message::multipart(frames));
        assert_eq!(stage.messages(client), [Message::multipart(["", "MDPC01", "mmi.service", "200"])]);
    }
}

#[test]
fn workers_and_stats_are_json() {
    let mut stage = Stage::new();
    let (worker, client) = (stage.worker(Wire::Mdp02, "echo", 1), stage.peer(Wire::Mdp01));
    stage.worker(Wire::Tidings, "other", 8);
    stage.ask(client, 0, "echo", no_options(), "hi");
    let (token, _) = stage.given(worker);
    stage.ask(client, 0, "echo", no_options(), "waits");
    stage.wait(Duration::from_millis(100));
    stage.answer(worker, &token, "there");

    let workers: serde_json::Value =
        serde_json::from_str(&answer(&mut stage, Wire::Mdp01, "mmi.workers", "echo")).unwrap();
    let [worker] = &workers.as_array().unwrap()[..] else { panic!("{workers}") };
    assert_eq!((&worker["service"], &worker["wire"]), (&"echo".into(), &"mdp-0.2".into()));
    assert_eq!((&worker["running"], &worker["answered"], &worker["given"]), (&1.into(), &1.into(), &2.into()));

    let stats: serde_json::Value =
        serde_json::from_str(&answer(&mut stage, Wire::Tidings, "mmi.stats", "echo")).unwrap();
    let [service] = &stats["services"].as_array().unwrap()[..] else { panic!("{stats}") };
    assert_eq!((&service["requests"], &service["replies"]), (&2.into(), &1.into()));
    let p50 = service["latency"]["p50-us"].as_u64().unwrap();
    assert!((100_000..=125_000).contains(&p50), "{p50}");
    assert_eq!(stats["counters"]["worker-ready"], 2);
    assert_eq!(stats["workers"], 2);
    // Nothing in front: all of them
    stage.say(client, Message::multipart(["", "MDPC01", "mmi.workers"]));
    let message = stage.messages(client).pop().unwrap();
    let all: serde_json::Value = serde_json::from_slice(message.frame(3).unwrap()).unwrap();
    assert_eq!(all.as_array().unwrap().len(), 2);
}

#[test]
fn draining_is_for_those_who_may() {
    let mut stage = Stage::new();
    let worker = stage.worker(Wire::Tidings, "echo", 1);
    assert_eq!(answer(&mut stage, Wire::Tidings, "mmi.drain", "echo"), "403", "nobody said who may");
    stage.broker.set_permit(Box::new(|_, access, service: &ServiceName| {
        access != Access::Administer || service.as_bytes() == b"echo"
    }));
    assert_eq!(answer(&mut stage, Wire::Mdp01, "mmi.drain", "echo"), "501", "only on our own wire");
    assert_eq!(answer(&mut stage, Wire::Tidings, "mmi.drain", "other"), "403");
    assert_eq!(stage.orders(worker), []);
    assert_eq!(answer(&mut stage, Wire::Tidings, "mmi.drain", "echo"), "200");
    assert_eq!(stage.orders(worker), [WorkerOrder::Drain]);
    stage.leave(worker);
    assert_eq!(answer(&mut stage, Wire::Tidings, "mmi.drain", "echo"), "404");
    stage.broker.set_permit(Box::new(|_, _, _: &ServiceName| false));
    assert_eq!(answer(&mut stage, Wire::Tidings, "mmi.stats", ""), "403");
}

#[test]
fn a_service_that_drains_is_none_to_ask() {
    let mut stage = Stage::new();
    let (worker, client) = (stage.worker(Wire::Tidings, "echo", 1), stage.peer(Wire::Tidings));
    stage.ask(client, 1, "echo", no_options(), "hi");
    stage.given(worker);
    let now = stage.now();
    stage.broker.drain(now, &name("echo"));
    assert_eq!(answer(&mut stage, Wire::Mdp01, "mmi.service", "echo"), "404");
    assert_eq!(answer(&mut stage, Wire::Mdp01, "mmi.services", ""), "");
}

#[test]
fn large_answers_are_made_once_in_a_while() {
    let mut stage = Stage::new();
    let workers: Vec<_> =
        (0..2000).map(|number| stage.worker(Wire::Mdp01, &format!("a-service-{number:030}"), 1)).collect();
    for command in ["mmi.stats", "mmi.workers", "mmi.services"] {
        let mut texts = |about: &str| {
            let client = stage.peer(Wire::Tidings);
            (1..=2).for_each(|id| stage.ask(client, id, command, no_options(), about));
            stage.wait(Duration::from_millis(200));
            stage.ask(client, 3, command, no_options(), about);
            let texts: Vec<Bytes> = stage
                .replies(client)
                .into_iter()
                .map(|reply| match reply {
                    ClientReply::Final { body, .. } => body[0].clone(),
                    reply => panic!("{reply:?}"),
                })
                .collect();
            texts
        };
        let all = texts("");
        assert!(all[0].len() > 64 * 1024, "{command} {}", all[0].len());
        assert_eq!(all[0].as_ptr(), all[1].as_ptr(), "{command} is made twice");
        assert_ne!(all[0].as_ptr(), all[2].as_ptr(), "{command} is old");
        if command != "mmi.services" {
            // One service costs what one service costs, and is always new
            let one = texts(&format!("a-service-{:030}", 7));
            assert!(one[0].len() < 8 * 1024, "{command} {}", one[0].len());
        }
        workers.iter().for_each(|worker| stage.beat(*worker));
    }
}

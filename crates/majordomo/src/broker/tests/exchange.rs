//! Requests, replies, and what comes between.

use std::time::Duration;

use super::super::*;
use super::stage::*;
use crate::wire::{ClientReply, RequestOptions, Wire, WorkerCommand};

#[test]
fn every_wire_talks_to_every_other() {
    for client_wire in Wire::ALL {
        for worker_wire in Wire::ALL {
            let mut stage = Stage::new();
            let worker = stage.worker(worker_wire, "echo", 1);
            let client = stage.peer(client_wire);
            let id = if client_wire.is_numbered() { 7 } else { 0 };
            stage.ask(client, id, "echo", no_options(), "hi");
            let (token, text) = stage.given(worker);
            let shown = if client_wire == Wire::Domogik { "None" } else { "hi" };
            assert_eq!(text, shown, "{client_wire} {worker_wire}: one frame is no action with JSON");
            stage.answer(worker, &token, "there");
            assert_eq!(stage.answers(client), [(id, "there".to_owned())], "{client_wire} {worker_wire}");
            assert!(stage.is_at_rest());
        }
    }
}

#[test]
fn a_queue_is_dispatched_after_every_change() {
    let mut stage = Stage::new();
    let client = stage.peer(Wire::Mdp01);
    for text in ["1", "2", "3"] {
        stage.ask(client, 0, "echo", no_options(), text);
    }
    // A worker comes
    let first = stage.worker(Wire::Mdp01, "echo", 1);
    let (token, text) = stage.given(first);
    assert_eq!(text, "1");
    // Another comes
    let second = stage.worker(Wire::Mdp02, "echo", 1);
    let (_, text) = stage.given(second);
    assert_eq!(text, "2");
    // A reply
    stage.answer(first, &token, "one");
    let (token, text) = stage.given(first);
    assert_eq!(text, "3");
    // A death
    stage.leave(second);
    assert_eq!(stage.orders(first), []);
    stage.answer(first, &token, "three");
    let (token, text) = stage.given(first);
    assert_eq!(text, "2");
    stage.answer(first, &token, "two");
    let answers: Vec<_> = stage.answers(client).into_iter().map(|(_, text)| text).collect();
    assert_eq!(answers, ["one", "three", "two"]);
    assert!(stage.is_at_rest());
}

#[test]
fn the_worker_unused_for_longest_is_next() {
    let mut stage = Stage::new();
    let workers: Vec<_> = (0..3).map(|_| stage.worker(Wire::Mdp01, "echo", 1)).collect();
    let client = stage.peer(Wire::Mdp02);
    for round in 0..6 {
        stage.ask(client, 0, "echo", no_options(), "hi");
        let worker = workers[round % 3];
        let (token, _) = stage.given(worker);
        stage.answer(worker, &token, "there");
    }
    assert_eq!(stage.answers(client).len(), 6);
}

#[test]
fn the_worker_with_fewest_requests_is_next_and_none_has_too_many() {
    let mut stage = Stage::new();
    let (wide, narrow) = (stage.worker(Wire::Tidings, "echo", 3), stage.worker(Wire::Tidings, "echo", 2));
    let client = stage.peer(Wire::Tidings);
    (0..7).for_each(|id| stage.ask(client, id, "echo", no_options(), &id.to_string()));
    let texts = |orders: Vec<WorkerOrder>| -> Vec<String> {
        let text = |order| match order {
            WorkerOrder::Request { body, .. } => String::from_utf8(body[0].to_vec()).unwrap(),
            other => panic!("{other:?}"),
        };
        orders.into_iter().map(text).collect()
    };
    assert_eq!(texts(stage.orders(wide)), ["0", "2", "4"]);
    assert_eq!(texts(stage.orders(narrow)), ["1", "3"]);
    let service = stage.service("echo");
    assert_eq!((service.running, service.waiting, service.idle), (5, 2, 0));
}

#[test]
fn least_recently_used_can_be_had_for_all() {
    let config = BrokerConfig { balance: Balance::LeastRecentlyUsed, ..config() };
    let mut stage = Stage::with(config);
    let (one, other) = (stage.worker(Wire::Tidings, "echo", 5), stage.worker(Wire::Tidings, "echo", 5));
    let client = stage.peer(Wire::Tidings);
    stage.ask(client, 1, "echo", no_options(), "1");
    let (token, _) = stage.given(one);
    stage.ask(client, 2, "echo", no_options(), "2");
    stage.given(other);
    stage.answer(one, &token, "one");
    // `one` has fewer, but was used later: its reply put it last
    stage.ask(client, 3, "echo", no_options(), "3");
    assert_eq!(stage.given(other).1, "3");
}

#[test]
fn partial_replies_come_in_order_and_the_last_ends_it() {
    for wire in [Wire::Mdp02, Wire::Majortomo, Wire::Zproto, Wire::Tidings] {
        let mut stage = Stage::new();
        let (worker, client) = (stage.worker(wire, "count", 1), stage.peer(wire));
        stage.ask(client, 0, "count", no_options(), "2");
        let (token, _) = stage.given(worker);
        for text in ["a", "b"] {
            stage.work(worker, WorkerCommand::Partial { token: token.clone(), body: body(text) });
        }
        stage.answer(worker, &token, "c");
        let texts: Vec<_> = stage.answers(client).into_iter().map(|(_, text)| text).collect();
        assert_eq!(texts, ["a..", "b..", "c"], "{wire}");
        // Nothing after the last: the worker has no such request any more
        stage.work(worker, WorkerCommand::Partial { token, body: body("d") });
        assert_eq!(stage.answers(client), []);
        assert_eq!(stage.orders(worker), [WorkerOrder::Disconnect]);
        assert_eq!(stage.counted(Counter::ReplyUnknown), 1);
    }
}

#[test]
fn partial_replies_for_a_wire_that_has_none_are_counted() {
    let mut stage = Stage::new();
    let (worker, client) = (stage.worker(Wire::Mdp02, "count", 1), stage.peer(Wire::Mdp01));
    stage.ask(client, 0, "count", no_options(), "2");
    let (token, _) = stage.given(worker);
    stage.work(worker, WorkerCommand::Partial { token: token.clone(), body: body("a") });
    stage.answer(worker, &token, "b");
    assert_eq!(stage.answers(client), [(0, "b".to_owned())]);
    assert_eq!(stage.counted(Counter::PartialUnsupported), 1);
}

#[test]
fn an_unknown_service_is_404_at_once_for_whoever_understands() {
    let mut stage = Stage::new();
    let (ours, plain) = (stage.peer(Wire::Tidings), stage.peer(Wire::Mdp01));
    stage.ask(ours, 1, "nobody", no_options(), "hi");
    assert_eq!(stage.answers(ours), [(1, "404".to_owned())]);
    // RFC 7: queue, and expire
    stage.ask(plain, 0, "nobody", no_options(), "hi");
    assert_eq!(stage.broker.outstanding(), 1);
    stage.wait(secs(59));
    assert_eq!((stage.broker.outstanding(), stage.counted(Counter::Expired)), (1, 0));
    stage.wait(secs(2));
    assert_eq!(stage.answers(plain), []);
    assert_eq!(stage.counted(Counter::Expired), 1);
    assert!(stage.is_at_rest());
    assert_eq!(stage.broker.stats(stage.now()).services.len(), 0);
}

#[test]
fn a_domogik_client_waits_for_its_own_time() {
    let mut stage = Stage::new();
    let client = stage.peer(Wire::Domogik);
    let command = ClientCommand::Request {
        id: 0,
        service: name("dbmanager"),
        options: in_time(secs(10)),
        body: ["config.get", "{}"].map(Bytes::from).into_iter().collect(),
    };
    let message = command.encode(Wire::Domogik).unwrap();
    stage.say(client, message.clone());
    stage.wait(secs(9));
    assert_eq!(stage.broker.outstanding(), 1);
    // In time, the worker gets action and data, with nothing in front
    let worker = stage.worker(Wire::Mdp01, "dbmanager", 1);
    let orders = stage.orders(worker);
    let [WorkerOrder::Request { body, .. }] = &orders[..] else { panic!("{orders:?}") };
    assert_eq!(body[..], ["config.get", "{}"]);
    // Too late
    stage.say(client, message);
    stage.wait(secs(11));
    assert_eq!((stage.broker.outstanding(), stage.counted(Counter::Expired)), (0, 2));
}

#[test]
fn workers_of_a_broker_that_was_just_started_have_a_moment_to_come_back() {
    let mut stage = Stage::just_started(config());
    let client = stage.peer(Wire::Tidings);
    stage.ask(client, 1, "echo", no_options(), "hi");
    stage.ask(client, 2, "nobody", no_options(), "hi");
    stage.wait(Duration::from_millis(900));
    assert_eq!(stage.answers(client), []);
    let worker = stage.worker(Wire::Tidings, "echo", 1);
    let (token, _) = stage.given(worker);
    stage.answer(worker, &token, "there");
    stage.wait(Duration::from_millis(200));
    assert_eq!(stage.answers(client), [(1, "there".to_owned()), (2, "404".to_owned())]);
    assert!(stage.is_at_rest());
}

#[test]
fn a_service_that_lost_its_last_worker_is_one_for_a_moment() {
    let mut stage = Stage::new();
    let (worker, client) = (stage.worker(Wire::Tidings, "echo", 1), stage.peer(Wire::Tidings));
    let plain = stage.peer(Wire::Mdp01);
    stage.ask(client, 1, "echo", no_options(), "1");
    stage.leave(worker);
    stage.ask(client, 2, "echo", no_options(), "2");
    stage.ask(plain, 0, "echo", no_options(), "3");
    stage.wait(Duration::from_millis(900));
    assert_eq!(stage.broker.outstanding(), 3);
    stage.wait(Duration::from_millis(200));
    // The first may have been executed, at least in part
    assert_eq!(stage.answers(client), [(1, "502".to_owned()), (2, "404".to_owned())]);
    assert_eq!((stage.counted(Counter::NoWorkerLeft), stage.counted(Counter::NoSuchService)), (1, 1));
    assert_eq!(stage.broker.outstanding(), 1, "a plain client can't be told");
    stage.ask(client, 3, "echo", no_options(), "4");
    assert_eq!(stage.answers(client), [(3, "404".to_owned())]);
    let worker = stage.worker(Wire::Tidings, "echo", 1);
    assert_eq!(stage.given(worker).1, "3");
}

#[test]
fn a_worker_that_is_started_anew_is_waited_for() {
    let mut stage = Stage::with(BrokerConfig::default());
    stage.wait(secs(10));
    let (worker, client) = (stage.worker(Wire::Tidings, "echo", 1), stage.peer(Wire::Tidings));
    stage.ask(client, 1, "echo", no_options(), "executing");
    stage.given(worker);
    stage.leave(worker);
    stage.ask(client, 2, "echo", in_time(secs(10)), "new");
    stage.ask(client, 3, "nobody", in_time(secs(10)), "hi");
    assert_eq!(stage.answers(client), [(3, "404".to_owned())], "never seen by a broker that has run for long");
    // Our workers wait up to 5 s between attempts
    stage.wait(secs(5));
    let worker = stage.worker(Wire::Tidings, "echo", 2);
    let orders = stage.orders(worker);
    let given = orders.iter().filter(|order| matches!(order, WorkerOrder::Request { .. })).count();
    assert_eq!((given, stage.answers(client)), (2, Vec::new()), "{orders:?}");
}

#[test]
fn a_client_hears_that_nobody_came_before_it_gives_up() {
    let mut stage = Stage::just_started(BrokerConfig::default());
    let client = stage.peer(Wire::Tidings);
    stage.ask(client, 1, "nobody", in_time(secs(2)), "hi");
    stage.ask(client, 2, "late", in_time(secs(4)), "hi");
    stage.ask(client, 3, "nobody", in_time(secs(20)), "hi");
    stage.wait(Duration::from_millis(1499));
    assert_eq!(stage.answers(client), []);
    stage.wait(Duration::from_millis(2));
    assert_eq!(stage.answers(client), [(1, "404".to_owned())]);
    // A request that is with a worker by then has all its time
    let worker = stage.worker(Wire::Tidings, "late", 1);
    let (token, _) = stage.given(worker);
    stage.wait_beating(Duration::from_millis(2300), &[worker]);
    stage.answer(worker, &token, "there");
    assert_eq!(stage.answers(client), [(2, "there".to_owned())]);
    stage.wait_beating(secs(3), &[worker]);
    assert_eq!(stage.answers(client), [(3, "404".to_owned())]);
    assert!(stage.is_at_rest());
}

#[test]
fn a_deadline_travels_and_a_late_reply_is_dropped_and_counted() {
    let mut stage = Stage::new();
    let (worker, client) = (stage.worker(Wire::Tidings, "echo", 1), stage.peer(Wire::Tidings));
    stage.ask(client, 1, "echo", in_time(secs(5)), "hi");
    stage.ask(client, 2, "echo", in_time(secs(8)), "waits");
    let (token, _, options) = stage.given_with_options(worker);
    assert_eq!(options.deadline, Some(secs(5)));
    stage.wait_beating(secs(5), &[worker]);
    stage.wait(Duration::from_millis(10));
    assert_eq!(stage.answers(client), [(1, "504".to_owned())]);
    assert_eq!(stage.orders(worker), [WorkerOrder::Cancel { token: token.clone() }]);
    // Its place is taken until it answers
    assert_eq!(stage.service("echo").waiting, 1);
    stage.answer(worker, &token, "late");
    assert_eq!(stage.answers(client), []);
    assert_eq!((stage.counted(Counter::LateReply), stage.service("echo").late), (1, 1));
    let (_, text, options) = stage.given_with_options(worker);
    assert_eq!(text, "waits");
    assert!(options.deadline.unwrap() <= secs(3), "{options:?}");
    stage.ask(client, 3, "echo", in_time(Duration::ZERO), "no time at all");
    stage.wait(Duration::from_millis(5));
    assert_eq!(stage.answers(client), [(3, "504".to_owned())]);
}

#[test]
fn cancellation_reaches_the_worker() {
    let mut stage = Stage::new();
    let (worker, client) = (stage.worker(Wire::Tidings, "echo", 1), stage.peer(Wire::Tidings));
    stage.ask(client, 1, "echo", no_options(), "runs");
    stage.ask(client, 2, "echo", no_options(), "waits");
    let (token, _) = stage.given(worker);
    stage.cancel(client, 2);
    assert_eq!(stage.service("echo").waiting, 0);
    stage.cancel(client, 1);
    assert_eq!(stage.orders(worker), [WorkerOrder::Cancel { token: token.clone() }]);
    stage.work(worker, WorkerCommand::Refused { token, status: Status::CANCELLED, text: Bytes::new() });
    assert_eq!(stage.answers(client), []);
    assert_eq!((stage.counted(Counter::Cancelled), stage.counted(Counter::ReplyAfterCancel)), (2, 1));
    stage.cancel(client, 9);
    assert_eq!(stage.counted(Counter::CancelUnknown), 1);
    assert!(stage.is_at_rest());
    assert_eq!(stage.service("echo").idle, 1);
}

#[test]
fn a_worker_may_refuse() {
    let mut stage = Stage::new();
    let worker = stage.worker(Wire::Tidings, "echo", 1);
    let (client, plain) = (stage.peer(Wire::Tidings), stage.peer(Wire::Mdp02));
    for actor in [client, plain] {
        stage.ask(actor, 1, "echo", no_options(), "hi");
        let (token, _) = stage.given(worker);
        let refused = WorkerCommand::Refused { token, status: Status::WORKER_FAILED, text: "no disk".into() };
        stage.work(worker, refused);
    }
    let text = "no disk".into();
    assert_eq!(stage.replies(client), [ClientReply::Refused { id: 1, status: Status::WORKER_FAILED, text }]);
    assert_eq!(stage.replies(plain), [], "it has no word for it");
    assert_eq!(stage.service("echo").refused.of(Status::WORKER_FAILED), 2);
    let told: Vec<_> = stage
        .events()
        .into_iter()
        .filter_map(|event| match event {
            BrokerEvent::RequestRefused { is_told, .. } => Some(is_told),
            _ => None,
        })
        .collect();
    assert_eq!(told, [true, false]);
    assert!(stage.is_at_rest());
}

#[test]
fn what_a_dead_worker_had_goes_to_another_first() {
    let mut stage = Stage::new();
    let dying = stage.worker(Wire::Tidings, "echo", 2);
    let client = stage.peer(Wire::Tidings);
    (1..=4).for_each(|id| stage.ask(client, id, "echo", no_options(), &id.to_string()));
    let heir = stage.worker(Wire::Tidings, "echo", 4);
    stage.messages(heir);
    let second = stage.worker(Wire::Tidings, "echo", 8);
    stage.leave(dying);
    let given: Vec<_> = stage
        .orders(heir)
        .into_iter()
        .chain(stage.orders(second))
        .map(|order| match order {
            WorkerOrder::Request { body, options, .. } => {
                (String::from_utf8(body[0].to_vec()).unwrap(), options.attempt)
            }
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(given, [("1".to_owned(), 2), ("2".to_owned(), 2)]);
    assert_eq!((stage.counted(Counter::Retried), stage.service("echo").retried), (2, 2));
}

#[test]
fn a_request_that_may_not_be_repeated_is_502() {
    let mut stage = Stage::new();
    let client = stage.peer(Wire::Tidings);
    let worker = stage.worker(Wire::Mdp01, "echo", 1);
    stage.ask(client, 1, "echo", once(), "hi");
    stage.given(worker);
    stage.worker(Wire::Mdp01, "echo", 1);
    stage.leave(worker);
    assert_eq!(stage.answers(client), [(1, "502".to_owned())]);
    assert_eq!(stage.counted(Counter::NotRepeated), 1);
    assert!(stage.is_at_rest());
}

#[test]
fn a_request_with_a_part_of_its_reply_is_not_begun_anew() {
    let mut stage = Stage::new();
    let client = stage.peer(Wire::Tidings);
    let worker = stage.worker(Wire::Tidings, "count", 1);
    stage.ask(client, 1, "count", no_options(), "hi");
    let (token, _) = stage.given(worker);
    stage.work(worker, WorkerCommand::Partial { token, body: body("a") });
    stage.worker(Wire::Tidings, "count", 1);
    stage.leave(worker);
    assert_eq!(stage.answers(client), [(1, "a..".to_owned()), (1, "502".to_owned())]);
}

#[test]
fn a_request_that_kills_its_workers_ends() {
    let mut stage = Stage::new();
    let client = stage.peer(Wire::Tidings);
    let mut workers: Vec<_> = (0..3).map(|_| stage.worker(Wire::Mdp01, "echo", 1)).collect();
    stage.worker(Wire::Tidings, "other", 1);
    stage.ask(client, 1, "echo", no_options(), "poison");
    for attempt in 1..=3 {
        let worker = workers.remove(0);
        assert_eq!(stage.given(worker).1, "poison", "{attempt}");
        stage.leave(worker);
    }
    assert_eq!(stage.answers(client), [(1, "502".to_owned())]);
    assert_eq!((stage.counted(Counter::OutOfAttempts), stage.counted(Counter::Retried)), (1, 2));
    assert!(stage.is_at_rest());
}

#[test]
fn a_worker_that_disconnects_hands_back_what_it_has() {
    let mut stage = Stage::new();
    let client = stage.peer(Wire::Mdp02);
    let (leaving, staying) = (stage.worker(Wire::Mdp02, "echo", 1), stage.worker(Wire::Mdp02, "echo", 1));
    stage.ask(client, 0, "echo", no_options(), "hi");
    stage.given(leaving);
    stage.work(leaving, WorkerCommand::Disconnect);
    assert_eq!(stage.orders(leaving), [], "nothing more is sent to it");
    let (token, _) = stage.given(staying);
    stage.answer(staying, &token, "there");
    assert_eq!(stage.answers(client), [(0, "there".to_owned())]);
}

#[test]
fn replies_for_clients_that_are_gone_are_counted() {
    let mut stage = Stage::new();
    let (plain, ours) = (stage.worker(Wire::Mdp01, "a", 1), stage.worker(Wire::Tidings, "b", 1));
    let client = stage.peer(Wire::Mdp01);
    for service in ["a", "b", "a"] {
        stage.ask(client, 0, service, no_options(), "hi");
    }
    let ((first, _), (second, _)) = (stage.given(plain), stage.given(ours));
    stage.leave(client);
    assert_eq!(stage.counted(Counter::ClientGone), 3);
    assert_eq!(stage.orders(plain), [], "0.1 has no word for it; what waited was dropped");
    assert_eq!(stage.orders(ours), [WorkerOrder::Cancel { token: second.clone() }]);
    stage.answer(plain, &first, "late");
    stage.answer(ours, &second, "late");
    assert_eq!(stage.counted(Counter::ReplyToGoneClient), 2);
    assert!(stage.is_at_rest());
    assert_eq!((stage.service("a").idle, stage.service("b").idle), (1, 1));
}

#[test]
fn the_same_number_twice_is_the_same_request() {
    let mut stage = Stage::new();
    let (worker, client) = (stage.worker(Wire::Tidings, "echo", 2), stage.peer(Wire::Tidings));
    stage.ask(client, 1, "echo", no_options(), "hi");
    stage.ask(client, 1, "echo", no_options(), "hi");
    let (token, _) = stage.given(worker);
    stage.answer(worker, &token, "there");
    assert_eq!(stage.answers(client), [(1, "there".to_owned())]);
    assert_eq!(stage.counted(Counter::DuplicateId), 1);
    // Another connection has numbers of its own
    let other = stage.peer(Wire::Tidings);
    stage.ask(client, 2, "echo", no_options(), "a");
    stage.ask(other, 2, "echo", no_options(), "b");
    assert_eq!(stage.service("echo").running, 2);
}

#[test]
fn a_reply_that_can_not_be_sent_is_counted() {
    let mut stage = Stage::new();
    let (worker, client) = (stage.worker(Wire::Mdp01, "echo", 1), stage.peer(Wire::Mdp01));
    let now = stage.now();
    stage.broker.handle_unsent(now, client.peer, TransmitKind::Reply, Unsent::Full);
    assert_eq!(stage.counted(Counter::SlowClient), 1);
    stage.ask(client, 0, "echo", no_options(), "hi");
    stage.broker.handle_unsent(now, client.peer, TransmitKind::Reply, Unsent::Gone);
    assert_eq!((stage.counted(Counter::ReplyUnsent), stage.counted(Counter::ClientGone)), (1, 1));
    stage.broker.handle_unsent(now, worker.peer, TransmitKind::Heartbeat, Unsent::Full);
    assert_eq!(stage.counted(Counter::OrderUnsent), 1);
}

#[test]
fn a_request_that_can_not_be_sent_goes_to_another_worker() {
    let mut stage = Stage::new();
    let client = stage.peer(Wire::Tidings);
    let (full, other) = (stage.worker(Wire::Mdp01, "echo", 1), stage.worker(Wire::Mdp01, "echo", 1));
    let options = RequestOptions::default();
    let command = ClientCommand::Request { id: 1, service: name("echo"), options, body: body("hi") };
    let now = stage.now();
    stage.broker.handle_message(now, client.peer, command.encode(Wire::Tidings).unwrap());
    let transmit = stage.broker.poll_transmit().unwrap();
    assert_eq!(transmit.to, full.peer);
    stage.broker.handle_unsent(now, transmit.to, transmit.kind, Unsent::Full);
    let (token, _) = stage.given(other);
    // The one whose connection is full gets nothing until it is heard from
    stage.ask(client, 2, "echo", no_options(), "next");
    assert_eq!(stage.orders(full), []);
    stage.beat(full);
    assert_eq!(stage.given(full).1, "next");
    stage.answer(other, &token, "there");
    assert_eq!(stage.answers(client), [(1, "there".to_owned())]);
    assert_eq!((stage.counted(Counter::RequestUnsent), stage.counted(Counter::Retried)), (1, 0));
}

#[test]
fn a_request_that_can_not_be_sent_and_that_nobody_wants_is_not_kept() {
    let mut stage = Stage::new();
    let (worker, client) = (stage.worker(Wire::Tidings, "echo", 1), stage.peer(Wire::Tidings));
    let options = keyed("k");
    let command = ClientCommand::Request { id: 1, service: name("echo"), options, body: body("hi") };
    let now = stage.now();
    stage.broker.handle_message(now, client.peer, command.encode(Wire::Tidings).unwrap());
    let transmit = stage.broker.poll_transmit().unwrap();
    stage.broker.handle_gone(now, client.peer);
    stage.broker.handle_unsent(now, worker.peer, transmit.kind, Unsent::Full);
    assert_eq!(stage.broker.waiting(&name("echo")), 0);
    assert!(stage.is_at_rest());
}

#[test]
fn a_service_runs_dry() {
    let mut stage = Stage::new();
    let (ours, plain) = (stage.worker(Wire::Tidings, "echo", 1), stage.worker(Wire::Mdp01, "echo", 1));
    let client = stage.peer(Wire::Tidings);
    (1..=3).for_each(|id| stage.ask(client, id, "echo", no_options(), &id.to_string()));
    let ((first, _), (second, _)) = (stage.given(ours), stage.given(plain));
    let now = stage.now();
    assert!(stage.broker.drain(now, &name("echo")));
    stage.ask(client, 4, "echo", no_options(), "too late");
    assert_eq!(stage.answers(client), [(4, "503".to_owned())]);
    // What waits is still given out
    stage.answer(ours, &first, "one");
    let orders = stage.orders(ours);
    let [WorkerOrder::Request { token: third, .. }, WorkerOrder::Drain] = &orders[..] else { panic!("{orders:?}") };
    stage.answer(plain, &second, "two");
    assert_eq!(stage.orders(plain), [WorkerOrder::Disconnect], "0.1 has no other word");
    stage.answer(ours, third, "three");
    stage.work(ours, WorkerCommand::Disconnect);
    assert_eq!(stage.answers(client).len(), 3);
    assert!(stage.events().contains(&BrokerEvent::ServiceDrained { service: name("echo") }));
    // Then it is a service like any other
    let next = stage.worker(Wire::Tidings, "echo", 1);
    stage.ask(client, 5, "echo", no_options(), "again");
    assert_eq!(stage.given(next).1, "again");
    assert!(!stage.broker.drain(now, &name("nobody")));
}

#[test]
fn a_worker_that_drains_by_itself_finishes_what_it_has() {
    let mut stage = Stage::new();
    let (worker, client) = (stage.worker(Wire::Tidings, "echo", 2), stage.peer(Wire::Tidings));
    stage.ask(client, 1, "echo", no_options(), "1");
    let (token, _) = stage.given(worker);
    stage.work(worker, WorkerCommand::Draining);
    stage.ask(client, 2, "echo", no_options(), "2");
    assert_eq!(stage.orders(worker), []);
    stage.answer(worker, &token, "one");
    let heir = stage.worker(Wire::Tidings, "echo", 2);
    assert_eq!(stage.given(heir).1, "2");
    assert_eq!(stage.answers(client), [(1, "one".to_owned())]);
}

#[test]
fn a_broker_stops_in_good_order() {
    let mut stage = Stage::new();
    let worker = stage.worker(Wire::Tidings, "echo", 1);
    let (client, plain) = (stage.peer(Wire::Tidings), stage.peer(Wire::Mdp01));
    stage.ask(client, 1, "echo", no_options(), "1");
    stage.ask(client, 2, "echo", no_options(), "2");
    let now = stage.now();
    stage.broker.begin_stop(now);
    stage.ask(client, 3, "echo", no_options(), "3");
    stage.ask(plain, 0, "echo", no_options(), "4");
    assert_eq!(stage.answers(client), [(3, "503".to_owned())]);
    let late = stage.worker(Wire::Tidings, "echo", 1);
    assert_eq!(stage.orders(late), [WorkerOrder::Disconnect]);
    let (token, _) = stage.given(worker);
    stage.answer(worker, &token, "one");
    assert_eq!(stage.broker.outstanding(), 1);
    let now = stage.now();
    stage.broker.finish_stop(now);
    assert_eq!(stage.answers(client), [(1, "one".to_owned()), (2, "503".to_owned())]);
    let orders = stage.orders(worker);
    assert!(
        matches!(&orders[..], [WorkerOrder::Request { .. }, WorkerOrder::Cancel { .. }, WorkerOrder::Disconnect]),
        "{orders:?}"
    );
    assert!(stage.is_at_rest());
    assert_eq!(stage.broker.stats(now).workers, 0);
}

#[test]
fn draining_ten_thousand_idle_workers_takes_little_stack() {
    for wire in [Wire::Mdp01, Wire::Tidings] {
        let mut stage = Stage::new();
        let workers: Vec<_> = (0..10_000).map(|_| stage.worker(wire, "echo", 1)).collect();
        workers.iter().for_each(|worker| drop(stage.messages(*worker)));
        let now = stage.now();
        let draining = |broker: &mut Broker| broker.drain(now, &name("echo"));
        let drained = std::thread::scope(|scope| {
            let small = std::thread::Builder::new().stack_size(256 * 1024);
            small.spawn_scoped(scope, || draining(&mut stage.broker)).unwrap().join().unwrap()
        });
        assert!(drained);
        let word = if wire.is_numbered() { WorkerOrder::Drain } else { WorkerOrder::Disconnect };
        workers.iter().for_each(|worker| assert_eq!(stage.orders(*worker), std::slice::from_ref(&word)));
        stage.broker.check().unwrap();
        let left = stage.broker.worker_count();
        assert_eq!(left, if wire.is_numbered() { workers.len() } else { 0 });
    }
}

#[test]
fn a_client_that_takes_no_part_gets_no_end_either() {
    for wire in [Wire::Tidings, Wire::Mdp02] {
        let mut stage = Stage::new();
        let (worker, client) = (stage.worker(Wire::Tidings, "echo", 1), stage.peer(wire));
        stage.ask(client, 1, "echo", no_options(), "hi");
        let (token, _) = stage.given(worker);
        stage.work(worker, WorkerCommand::Partial { token: token.clone(), body: body("first") });
        stage.answers(client);
        let now = stage.now();
        let part = WorkerCommand::Partial { token: token.clone(), body: body("second") };
        stage.broker.handle_message(now, worker.peer, part.encode(worker.wire).unwrap());
        let transmit = stage.broker.poll_transmit().unwrap();
        stage.broker.handle_unsent(now, transmit.to, transmit.kind, Unsent::Full);
        // The worker need not go on, and what it says all the same would look whole
        assert_eq!(stage.orders(worker), [WorkerOrder::Cancel { token: token.clone() }]);
        stage.answer(worker, &token, "last");
        assert_eq!(stage.answers(client), []);
        assert_eq!((stage.counted(Counter::SlowClient), stage.counted(Counter::ClientGone)), (1, 1));
        assert!(stage.events().contains(&BrokerEvent::SlowClient { peer: client.peer }));
        assert!(stage.is_at_rest());
    }
}

#[test]
fn a_service_is_drained_when_nothing_waits_for_whatever_reason() {
    for how in ["cancelled", "expired", "gone"] {
        let mut stage = Stage::new();
        let worker = stage.worker(Wire::Tidings, "echo", 1);
        let (busy, client) = (stage.peer(Wire::Tidings), stage.peer(Wire::Tidings));
        stage.ask(busy, 1, "echo", no_options(), "1");
        stage.ask(client, 2, "echo", in_time(secs(1)), "2");
        stage.given(worker);
        let now = stage.now();
        stage.broker.drain(now, &name("echo"));
        match how {
            "cancelled" => stage.cancel(client, 2),
            "expired" => stage.wait(secs(2)),
            _ => stage.leave(client),
        }
        assert_eq!(stage.orders(worker), [WorkerOrder::Drain], "{how}");
    }
}

#[test]
fn a_request_said_twice_is_ended_by_nothing_else() {
    let mut stage = Stage::with(BrokerConfig { max_per_client: 1, max_body: 100, ..Default::default() });
    let (worker, client) = (stage.worker(Wire::Tidings, "echo", 1), stage.peer(Wire::Tidings));
    stage.ask(client, 1, "echo", no_options(), "hi");
    let (token, _) = stage.given(worker);
    stage.ask(client, 1, "echo", no_options(), "hi");
    stage.ask(client, 1, "echo", no_options(), &"x".repeat(200));
    stage.ask(client, 1, "nothing", no_options(), "hi");
    stage.ask(client, 1, "mmi.service", no_options(), "echo");
    assert_eq!(stage.answers(client), []);
    assert_eq!(stage.counted(Counter::DuplicateId), 4);
    stage.answer(worker, &token, "there");
    assert_eq!(stage.answers(client), [(1, "there".to_owned())]);
    stage.broker.check().unwrap();
}

#[test]
fn a_refusal_at_the_deadline_is_the_deadline() {
    for (after, status, said, expired) in
        [(1000, 500, "504", 1), (995, 499, "504", 1), (995, 504, "504", 1), (995, 500, "500", 0), (500, 499, "499", 0)]
    {
        let mut stage = Stage::new();
        let (worker, client) = (stage.worker(Wire::Tidings, "echo", 1), stage.peer(Wire::Tidings));
        stage.ask(client, 1, "echo", in_time(secs(1)), "hi");
        let (token, _) = stage.given(worker);
        stage.wait(std::time::Duration::from_millis(after));
        let status = Status::new(status).unwrap();
        stage.work(worker, WorkerCommand::Refused { token, status, text: "no".into() });
        assert_eq!(stage.answers(client), [(1, said.to_owned())], "{status} after {after}");
        assert_eq!(stage.counted(Counter::Expired), expired);
        // It need not be told to stop when it has
        assert_eq!(stage.orders(worker).len(), usize::from(after == 1000));
        assert!(stage.is_at_rest());
        // Its place is free
        stage.ask(client, 2, "echo", no_options(), "next");
        stage.given(worker);
    }
}

#[test]
fn what_can_not_be_sent_goes_back_in_order() {
    let mut stage = Stage::new();
    let (worker, client) = (stage.worker(Wire::Tidings, "echo", 5), stage.peer(Wire::Tidings));
    let now = stage.now();
    for id in 1..=4u64 {
        let (options, text) = (no_options(), id.to_string());
        let command = ClientCommand::Request { id, service: name("echo"), options, body: body(&text) };
        stage.broker.handle_message(now, client.peer, command.encode(Wire::Tidings).unwrap());
    }
    let sent: Vec<_> = std::iter::from_fn(|| stage.broker.poll_transmit()).collect();
    for transmit in sent.into_iter().filter(|transmit| matches!(transmit.kind, TransmitKind::Request(_))) {
        stage.broker.handle_unsent(now, transmit.to, transmit.kind, Unsent::Full);
        stage.broker.check().unwrap();
    }
    stage.beat(worker);
    let texts: Vec<_> = stage
        .orders(worker)
        .into_iter()
        .map(|order| match order {
            WorkerOrder::Request { body, .. } => body[0].clone(),
            order => panic!("{order:?}"),
        })
        .collect();
    assert_eq!(texts, ["1", "2", "3", "4"]);
}

#[test]
fn a_broker_that_stops_waits_for_nobody_who_can_not_be_served() {
    let mut stage = Stage::new();
    let (worker, busy) = (stage.worker(Wire::Tidings, "echo", 1), stage.worker(Wire::Tidings, "slow", 1));
    let (client, plain) = (stage.peer(Wire::Tidings), stage.peer(Wire::Mdp01));
    stage.ask(client, 1, "echo", no_options(), "1");
    stage.ask(client, 2, "echo", no_options(), "2");
    stage.ask(client, 3, "slow", no_options(), "3");
    stage.ask(plain, 0, "nobody", no_options(), "4");
    let now = stage.now();
    stage.broker.begin_stop(now);
    assert_eq!(stage.broker.outstanding(), 3, "nobody works for the last one, and nobody will");
    stage.leave(worker);
    assert_eq!(stage.answers(client), [(1, "503".to_owned()), (2, "503".to_owned())]);
    let (token, _) = stage.given(busy);
    stage.answer(busy, &token, "3");
    assert_eq!(stage.broker.outstanding(), 0);
    stage.broker.check().unwrap();
}

//! Idempotency keys: executed once, answered as often as asked.

use super::super::*;
use super::stage::*;
use crate::wire::{RequestOptions, Wire, WorkerCommand};

#[test]
fn a_repeated_request_is_answered_from_the_first_reply() {
    let mut stage = Stage::new();
    let (worker, client) = (stage.worker(Wire::Tidings, "pay", 2), stage.peer(Wire::Tidings));
    stage.ask(client, 1, "pay", keyed("k"), "5 euros");
    let (token, _, options) = stage.given_with_options(worker);
    assert_eq!(options.key.unwrap(), "k");
    stage.work(worker, WorkerCommand::Partial { token: token.clone(), body: body("half") });
    stage.answer(worker, &token, "paid");
    // From another connection too
    let again = stage.peer(Wire::Tidings);
    stage.ask(again, 9, "pay", keyed("k"), "5 euros");
    assert_eq!(stage.orders(worker), []);
    assert_eq!(stage.answers(client), [(1, "half..".to_owned()), (1, "paid".to_owned())]);
    assert_eq!(stage.answers(again), [(9, "half..".to_owned()), (9, "paid".to_owned())]);
    assert_eq!((stage.counted(Counter::KeyReplayed), stage.counted(Counter::Replies)), (1, 2));
    // Another service, another request
    let other = stage.worker(Wire::Tidings, "repay", 1);
    stage.ask(client, 2, "repay", keyed("k"), "5 euros");
    stage.given(other);
    // The worker need not even be there
    stage.leave(worker);
    stage.wait(secs(10));
    stage.ask(again, 10, "pay", keyed("k"), "5 euros");
    assert_eq!(stage.answers(again).len(), 2);
}

#[test]
fn a_request_joins_the_one_that_is_under_way() {
    let mut stage = Stage::new();
    let (worker, client, other) =
        (stage.worker(Wire::Tidings, "pay", 2), stage.peer(Wire::Tidings), stage.peer(Wire::Tidings));
    stage.ask(client, 1, "pay", keyed("k"), "5");
    let (token, _) = stage.given(worker);
    stage.work(worker, WorkerCommand::Partial { token: token.clone(), body: body("half") });
    stage.ask(other, 2, "pay", keyed("k"), "5");
    stage.work(worker, WorkerCommand::Partial { token: token.clone(), body: body("more") });
    assert_eq!(stage.orders(worker), []);
    stage.answer(worker, &token, "paid");
    for (actor, id) in [(client, 1), (other, 2)] {
        let texts = ["half..", "more..", "paid"].map(|text| (id, text.to_owned()));
        assert_eq!(stage.answers(actor), texts);
    }
    assert_eq!(stage.counted(Counter::KeyJoined), 1);
    assert!(stage.is_at_rest());
}

#[test]
fn a_client_that_comes_back_finds_its_request_running() {
    let mut stage = Stage::new();
    let (worker, client) = (stage.worker(Wire::Tidings, "pay", 1), stage.peer(Wire::Tidings));
    stage.ask(client, 1, "pay", keyed("k"), "5");
    let (token, _) = stage.given(worker);
    stage.leave(client);
    assert_eq!(stage.orders(worker), [], "it is not taken back: the client may come again");
    let again = stage.peer(Wire::Tidings);
    stage.ask(again, 1, "pay", keyed("k"), "5");
    stage.answer(worker, &token, "paid");
    assert_eq!(stage.answers(again), [(1, "paid".to_owned())]);
    assert_eq!(stage.orders(worker), []);
    assert!(stage.is_at_rest());
}

#[test]
fn a_client_that_comes_back_late_finds_the_reply() {
    let mut stage = Stage::new();
    let (worker, client) = (stage.worker(Wire::Tidings, "pay", 1), stage.peer(Wire::Tidings));
    stage.ask(client, 1, "pay", RequestOptions { deadline: Some(secs(1)), ..keyed("k") }, "5");
    let (token, _) = stage.given(worker);
    stage.wait_beating(secs(2), &[worker]);
    assert_eq!(stage.answers(client), [(1, "504".to_owned())]);
    stage.answer(worker, &token, "paid");
    assert_eq!(stage.counted(Counter::LateReply), 1);
    stage.ask(client, 2, "pay", keyed("k"), "5");
    assert_eq!(stage.answers(client), [(2, "paid".to_owned())]);
}

#[test]
fn the_first_may_leave_those_that_joined() {
    for at_worker in [true, false] {
        let mut stage = Stage::new();
        let busy = stage.peer(Wire::Mdp01);
        let (worker, client, other) =
            (stage.worker(Wire::Tidings, "pay", 1), stage.peer(Wire::Tidings), stage.peer(Wire::Tidings));
        let mut blocker = None;
        if !at_worker {
            stage.ask(busy, 0, "pay", no_options(), "busy");
            blocker = Some(stage.given(worker).0);
        }
        stage.ask(client, 1, "pay", keyed("k"), "5");
        stage.ask(other, 2, "pay", keyed("k"), "5");
        stage.cancel(client, 1);
        if let Some(blocker) = blocker {
            stage.answer(worker, &blocker, "done");
        }
        let (token, text) = stage.given(worker);
        assert_eq!(text, "5");
        stage.answer(worker, &token, "paid");
        assert_eq!((stage.answers(client), stage.answers(other)), (vec![], vec![(2, "paid".to_owned())]));
        assert!(stage.is_at_rest(), "{at_worker}");
    }
}

#[test]
fn when_all_have_left_it_is_not_executed() {
    let mut stage = Stage::new();
    let (worker, client, other) =
        (stage.worker(Wire::Mdp01, "pay", 1), stage.peer(Wire::Tidings), stage.peer(Wire::Tidings));
    stage.ask(client, 1, "pay", no_options(), "busy");
    let (token, _) = stage.given(worker);
    stage.ask(client, 2, "pay", keyed("k"), "5");
    stage.ask(other, 3, "pay", keyed("k"), "5");
    stage.leave(client);
    stage.leave(other);
    stage.answer(worker, &token, "done");
    assert_eq!(stage.orders(worker), []);
    assert!(stage.is_at_rest());
    assert_eq!(stage.broker.stats(stage.now()).keys, 0);
}

#[test]
fn those_that_joined_share_the_end() {
    let mut stage = Stage::new();
    let (worker, client, other) =
        (stage.worker(Wire::Tidings, "pay", 1), stage.peer(Wire::Tidings), stage.peer(Wire::Tidings));
    let options = || RequestOptions { repeatable: false, ..keyed("k") };
    stage.ask(client, 1, "pay", options(), "5");
    stage.ask(other, 2, "pay", options(), "5");
    stage.leave(worker);
    assert_eq!(
        (stage.answers(client), stage.answers(other)),
        (vec![(1, "502".to_owned())], vec![(2, "502".to_owned())])
    );
    assert!(stage.is_at_rest());
    // What was refused may be tried anew
    let worker = stage.worker(Wire::Tidings, "pay", 1);
    stage.ask(client, 3, "pay", options(), "5");
    stage.given(worker);
}

#[test]
fn a_worker_dies_and_those_that_joined_wait_on() {
    let mut stage = Stage::new();
    let (worker, client, other) =
        (stage.worker(Wire::Tidings, "pay", 1), stage.peer(Wire::Tidings), stage.peer(Wire::Tidings));
    stage.ask(client, 1, "pay", keyed("k"), "5");
    stage.ask(other, 2, "pay", keyed("k"), "5");
    stage.leave(client);
    stage.leave(worker);
    let heir = stage.worker(Wire::Tidings, "pay", 1);
    let (token, _) = stage.given(heir);
    stage.answer(heir, &token, "paid");
    assert_eq!(stage.answers(other), [(2, "paid".to_owned())]);
    assert!(stage.is_at_rest());
}

#[test]
fn a_key_stands_for_one_request() {
    let mut stage = Stage::new();
    let (worker, client) = (stage.worker(Wire::Tidings, "pay", 1), stage.peer(Wire::Tidings));
    stage.ask(client, 1, "pay", keyed("k"), "5");
    stage.ask(client, 2, "pay", keyed("k"), "6");
    assert_eq!(stage.answers(client), [(2, "409".to_owned())]);
    let (token, _) = stage.given(worker);
    stage.answer(worker, &token, "paid");
    stage.ask(client, 3, "pay", keyed("k"), "6");
    assert_eq!(stage.answers(client), [(1, "paid".to_owned()), (3, "409".to_owned())]);
    assert_eq!(stage.counted(Counter::KeyConflict), 2);
}

#[test]
fn a_key_is_forgotten_in_time() {
    let mut stage = Stage::new();
    let (worker, client) = (stage.worker(Wire::Mdp01, "pay", 1), stage.peer(Wire::Tidings));
    stage.ask(client, 1, "pay", keyed("k"), "5");
    let (token, _) = stage.given(worker);
    stage.answer(worker, &token, "paid");
    assert_eq!(stage.broker.stats(stage.now()).keys, 1);
    stage.wait_beating(secs(299), &[worker]);
    assert_eq!(stage.broker.stats(stage.now()).keys, 1);
    stage.wait_beating(secs(2), &[worker]);
    let stats = stage.broker.stats(stage.now());
    assert_eq!((stats.keys, stats.key_octets), (0, 0));
    stage.ask(client, 2, "pay", keyed("k"), "5");
    stage.given(worker);
}

#[test]
fn keys_are_bounded() {
    let config = BrokerConfig { max_keys: 10, max_key_octets: 100_000, ..config() };
    let mut stage = Stage::with(config);
    let (worker, client) = (stage.worker(Wire::Tidings, "pay", 20), stage.peer(Wire::Tidings));
    let key = |number: u64| RequestOptions { key: Some(number.to_string().into()), ..Default::default() };
    for id in 0..100 {
        stage.ask(client, id, "pay", key(id), "5");
        let (token, _) = stage.given(worker);
        stage.answer(worker, &token, "paid");
    }
    let stats = stage.broker.stats(stage.now());
    assert_eq!((stats.keys, stage.counted(Counter::KeyEvicted)), (10, 90));
    // Those under way are not given up
    (100..111).for_each(|id| stage.ask(client, id, "pay", key(id), "5"));
    assert_eq!(stage.counted(Counter::KeysFull), 1);
    assert_eq!(stage.answers(client).last(), Some(&(110, "503".to_owned())));
    // A reply too large to be kept is delivered, and nothing else
    let orders = stage.orders(worker);
    let WorkerOrder::Request { token, .. } = &orders[0] else { panic!() };
    stage.answer(worker, token, &"x".repeat(20_000));
    assert_eq!(stage.answers(client).last().unwrap().1.len(), 20_000);
    assert_eq!((stage.counted(Counter::KeyTooLarge), stage.broker.stats(stage.now()).keys), (1, 9));
}

fn for_time(key: &'static str, deadline: u64) -> RequestOptions {
    RequestOptions { deadline: Some(secs(deadline)), ..keyed(key) }
}

/// A client asks for what others ask for, too, and leaves at once
fn asked_by_one_who_leaves(stage: &mut Stage) -> Actor {
    let client = stage.peer(Wire::Tidings);
    stage.ask(client, 1, "pay", keyed("k"), "5");
    client
}

#[test]
fn a_stream_that_is_too_large_costs_no_other_key_its_reply() {
    let mut stage = Stage::with(BrokerConfig { max_key_octets: 100_000, ..Default::default() });
    let (worker, client) = (stage.worker(Wire::Tidings, "pay", 2), stage.peer(Wire::Tidings));
    stage.ask(client, 1, "pay", keyed("small"), "5");
    let (token, _) = stage.given(worker);
    stage.answer(worker, &token, "paid");
    stage.ask(client, 2, "pay", keyed("large"), "5");
    let (token, _) = stage.given(worker);
    for _ in 0..100 {
        stage.work(worker, WorkerCommand::Partial { token: token.clone(), body: body(&"x".repeat(5000)) });
    }
    let stats = stage.broker.stats(stage.now());
    assert!(stats.key_octets < 1000, "{} octets", stats.key_octets);
    assert_eq!(stage.counted(Counter::KeyEvicted), 0);
    stage.answers(client);
    // The small one's reply is there still, and there is room for another
    stage.ask(client, 3, "pay", keyed("small"), "5");
    assert_eq!(stage.answers(client), [(3, "paid".to_owned())]);
    stage.ask(client, 4, "pay", keyed("another"), "5");
    stage.given(worker);
    stage.answer(worker, &token, "paid");
    assert_eq!((stage.counted(Counter::KeyTooLarge), stage.broker.stats(stage.now()).keys), (1, 2));
}

#[test]
fn nobody_gets_a_part_twice_when_the_first_has_left() {
    let mut stage = Stage::new();
    let worker = stage.worker(Wire::Tidings, "pay", 1);
    let client = asked_by_one_who_leaves(&mut stage);
    let joiner = stage.peer(Wire::Tidings);
    stage.ask(joiner, 2, "pay", keyed("k"), "5");
    stage.leave(client);
    let (token, _) = stage.given(worker);
    stage.work(worker, WorkerCommand::Partial { token, body: body("half") });
    let heir = stage.worker(Wire::Tidings, "pay", 1);
    stage.leave(worker);
    assert_eq!(stage.orders(heir), [], "it would begin anew");
    assert_eq!(stage.answers(joiner), [(2, "half..".to_owned()), (2, "502".to_owned())]);
}

#[test]
fn a_worker_has_as_much_time_as_the_most_patient_gives() {
    for (first, second, given) in [(Some(1), Some(10), Some(10)), (Some(10), Some(1), Some(10)), (Some(1), None, None)]
    {
        let options = |time: Option<u64>| RequestOptions { deadline: time.map(secs), ..keyed("k") };
        for wire in [Wire::Tidings, Wire::Mdp01] {
            let mut stage = Stage::new();
            let (worker, busy) = (stage.worker(wire, "pay", 1), stage.peer(Wire::Mdp01));
            stage.ask(busy, 0, "pay", no_options(), "busy");
            let (blocker, _) = stage.given(worker);
            let (client, joiner) = (stage.peer(Wire::Tidings), stage.peer(Wire::Tidings));
            stage.ask(client, 1, "pay", options(first), "5");
            stage.ask(joiner, 2, "pay", options(second), "5");
            stage.answer(worker, &blocker, "done");
            let (token, _, told) = stage.given_with_options(worker);
            if wire.is_numbered() {
                assert_eq!(told.deadline, given.map(secs));
            }
            // A classic one may be silent as long
            let mostly = secs(given.unwrap_or(60) - 1);
            match wire.is_numbered() {
                true => stage.wait_beating(mostly, &[worker]),
                false => stage.wait(mostly),
            }
            assert_eq!(stage.service("pay").workers, 1);
            stage.answer(worker, &token, "paid");
            let patient = if first == given { (client, 1) } else { (joiner, 2) };
            assert_eq!(stage.answers(patient.0), [(patient.1, "paid".to_owned())]);
        }
    }
}

#[test]
fn one_who_joins_late_is_not_bound_by_the_time_of_the_first() {
    for status in [Status::CANCELLED, Status::DEADLINE_PASSED, Status::WORKER_FAILED] {
        let mut stage = Stage::new();
        let worker = stage.worker(Wire::Tidings, "pay", 1);
        let (client, joiner, hasty) = (stage.peer(Wire::Tidings), stage.peer(Wire::Tidings), stage.peer(Wire::Tidings));
        stage.ask(client, 1, "pay", for_time("k", 2), "5");
        let (token, _) = stage.given(worker);
        stage.ask(joiner, 2, "pay", for_time("k", 10), "5");
        stage.ask(hasty, 3, "pay", for_time("k", 1), "5");
        stage.wait_beating(secs(2), &[worker]);
        stage.work(worker, WorkerCommand::Refused { token, status, text: Bytes::new() });
        assert_eq!(stage.answers(client), [(1, "504".to_owned())]);
        assert_eq!(stage.answers(hasty), [(3, "504".to_owned())]);
        // It is tried again, with the time that is left
        let (token, _, options) = stage.given_with_options(worker);
        assert_eq!((options.deadline, options.attempt), (Some(secs(8)), 2));
        stage.answer(worker, &token, "paid");
        assert_eq!(stage.answers(joiner), [(2, "paid".to_owned())]);
        assert!(stage.is_at_rest());
    }
}

#[test]
fn a_classic_worker_may_be_silent_for_one_who_joins_late() {
    let mut stage = Stage::new();
    let (worker, client, joiner) =
        (stage.worker(Wire::Mdp01, "pay", 1), stage.peer(Wire::Tidings), stage.peer(Wire::Tidings));
    stage.ask(client, 1, "pay", for_time("k", 2), "5");
    let (token, _) = stage.given(worker);
    stage.ask(joiner, 2, "pay", for_time("k", 20), "5");
    stage.wait(secs(19));
    stage.answer(worker, &token, "paid");
    assert_eq!(stage.answers(joiner), [(2, "paid".to_owned())]);
}

#[test]
fn what_one_of_them_forbids_is_not_done_for_others() {
    let mut stage = Stage::new();
    let (worker, heir) = (stage.worker(Wire::Tidings, "pay", 1), stage.worker(Wire::Tidings, "pay", 1));
    let (client, joiner) = (stage.peer(Wire::Tidings), stage.peer(Wire::Tidings));
    stage.ask(client, 1, "pay", keyed("k"), "5");
    stage.ask(joiner, 2, "pay", RequestOptions { repeatable: false, ..keyed("k") }, "5");
    stage.leave(worker);
    assert_eq!(stage.orders(heir), []);
    assert_eq!(stage.answers(client), [(1, "502".to_owned())]);
    assert_eq!(stage.answers(joiner), [(2, "502".to_owned())]);
}

#[test]
fn a_key_is_its_principals_own() {
    let mut stage = Stage::new();
    let worker = stage.worker(Wire::Tidings, "pay", 10);
    let [ann, ann_again, bob, anybody, somebody] = [(); 5].map(|()| stage.peer(Wire::Tidings));
    for (peer, principal) in [(ann, "ann"), (ann_again, "ann"), (bob, "bob")] {
        stage.broker.identify(peer.peer, principal.into());
    }
    for (id, client, reply) in [(1, ann, "hers"), (2, bob, "his"), (3, anybody, "anybody's")] {
        stage.ask(client, id, "pay", keyed("k"), "5");
        let (token, _) = stage.given(worker);
        stage.answer(worker, &token, reply);
        assert_eq!(stage.answers(client), [(id, reply.to_owned())]);
    }
    for (client, reply) in [(ann_again, "hers"), (somebody, "anybody's")] {
        stage.ask(client, 4, "pay", keyed("k"), "5");
        assert_eq!(stage.answers(client), [(4, reply.to_owned())]);
    }
    // Nor does a client in the same process share anybody's
    let now = stage.now();
    stage.broker.local_request(now, &name("pay"), keyed("k"), body("5"));
    stage.given(worker);
}

#[test]
fn a_shared_request_that_can_not_be_sent_ends_or_waits_for_those_who_joined() {
    for repeatable in [true, false] {
        let mut stage = Stage::new();
        let worker = stage.worker(Wire::Tidings, "pay", 1);
        let (client, joiner) = (stage.peer(Wire::Tidings), stage.peer(Wire::Tidings));
        let options = || RequestOptions { repeatable, ..keyed("k") };
        let now = stage.now();
        let mut ask = |client: Actor, id| {
            let command = ClientCommand::Request { id, service: name("pay"), options: options(), body: body("5") };
            stage.broker.handle_message(now, client.peer, command.encode(Wire::Tidings).unwrap());
        };
        ask(client, 1);
        ask(joiner, 2);
        let transmits: Vec<_> = std::iter::from_fn(|| stage.broker.poll_transmit()).collect();
        let request = transmits.into_iter().find(|transmit| matches!(transmit.kind, TransmitKind::Request(_))).unwrap();
        stage.broker.handle_gone(now, client.peer);
        stage.broker.handle_unsent(now, worker.peer, request.kind, Unsent::Full);
        stage.broker.check().unwrap();
        stage.wait_beating(secs(1), &[worker]);
        if repeatable {
            let (token, _) = stage.given(worker);
            stage.answer(worker, &token, "paid");
            assert_eq!(stage.answers(joiner), [(2, "paid".to_owned())]);
        } else {
            assert_eq!(stage.answers(joiner), [(2, "503".to_owned())]);
        }
        assert!(stage.is_at_rest());
    }
}

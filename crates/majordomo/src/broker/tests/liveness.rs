//! Who lives, who is dead, and how long one may be silent.

use std::time::Duration;

use super::super::*;
use super::stage::*;
use crate::wire::{ReadyOptions, Wire, WorkerCommand};

#[test]
fn a_silent_worker_is_dead_after_four_intervals() {
    for wire in Wire::ALL {
        let mut stage = Stage::new();
        let worker = stage.worker(wire, "echo", 1);
        // One says to a worker of ours that it is registered
        assert_eq!(stage.messages(worker).len(), usize::from(wire.is_numbered()), "{wire}");
        stage.wait(Duration::from_millis(3900));
        assert_eq!(stage.service("echo").workers, 1, "{wire}");
        stage.wait(Duration::from_millis(200));
        assert_eq!(stage.service("echo").workers, 0, "{wire}");
        // It was sent heartbeats until then, and no DISCONNECT: it is dead
        assert_eq!(stage.messages(worker).len(), 3, "{wire}");
        let why = Departure::Silent;
        let left = stage
            .events()
            .into_iter()
            .filter(|event| matches!(event, BrokerEvent::WorkerLeft { why: found, .. } if *found == why));
        assert_eq!(left.count(), 1);
        // When it speaks again it has to begin anew, and is told so once
        stage.beat(worker);
        assert_eq!(stage.orders(worker), [WorkerOrder::Disconnect], "{wire}");
        stage.beat(worker);
        stage.beat(worker);
        assert_eq!(stage.orders(worker), []);
        assert_eq!(stage.counted(Counter::AfterDisconnect), 2);
    }
}

#[test]
fn heartbeats_both_ways_keep_a_worker() {
    let mut stage = Stage::new();
    let worker = stage.worker(Wire::Mdp01, "echo", 1);
    stage.wait_beating(secs(60), &[worker]);
    assert_eq!(stage.service("echo").workers, 1);
    let beats = stage.messages(worker).len();
    assert!((58..=60).contains(&beats), "{beats}");
}

#[test]
fn a_worker_that_is_given_work_needs_no_heartbeat() {
    let mut stage = Stage::new();
    let (worker, client) = (stage.worker(Wire::Mdp01, "echo", 1), stage.peer(Wire::Mdp01));
    for _ in 0..100 {
        stage.wait(Duration::from_millis(100));
        stage.ask(client, 0, "echo", no_options(), "hi");
        let messages = stage.messages(worker);
        assert_eq!(messages.len(), 1, "a request, and no heartbeat while other traffic flows");
        let Ok(WorkerOrder::Request { token, .. }) = WorkerOrder::decode(messages[0].clone(), Wire::Mdp01) else {
            panic!("{messages:?}");
        };
        stage.answer(worker, &token, "there");
    }
}

#[test]
fn a_worker_says_how_often_it_beats() {
    let mut stage = Stage::new();
    let worker = stage.peer(Wire::Tidings);
    let options = ReadyOptions { concurrency: 1, heartbeat: Some(Duration::from_millis(100)) };
    stage.work(worker, WorkerCommand::Ready { service: name("echo"), options });
    stage.wait(Duration::from_millis(390));
    assert_eq!(stage.messages(worker).len(), 4);
    assert_eq!(stage.service("echo").workers, 1);
    stage.wait(Duration::from_millis(20));
    assert_eq!(stage.service("echo").workers, 0);
}

#[test]
fn a_classic_worker_may_be_silent_while_it_works() {
    for (wire, options, patience) in [
        (Wire::Mdp01, no_options(), secs(60)),
        (Wire::Mdp02, in_time(secs(20)), secs(20)),
        (Wire::Majortomo, in_time(secs(100)), secs(100)),
    ] {
        let mut stage = Stage::new();
        let (worker, client) = (stage.worker(wire, "slow", 1), stage.peer(Wire::Tidings));
        stage.ask(client, 1, "slow", options, "hi");
        let (token, _) = stage.given(worker);
        stage.wait(patience);
        assert_eq!(stage.service("slow").workers, 1, "{wire}");
        // It was sent heartbeats all the time
        assert!(stage.messages(worker).len() as u64 >= patience.as_secs() - 2);
        // Then the countdown begins
        stage.wait(Duration::from_millis(3900));
        assert_eq!(stage.service("slow").workers, 1);
        let mut other = stage.peer(wire);
        other.peer = worker.peer;
        stage.wait(Duration::from_millis(300));
        assert_eq!(stage.service("slow").workers, 0, "{wire}");
        stage.answer(other, &token, "too late");
        assert_eq!(stage.orders(other), [WorkerOrder::Disconnect]);
    }
}

#[test]
fn a_classic_worker_that_answers_is_expected_to_beat_again() {
    let mut stage = Stage::new();
    let (worker, client) = (stage.worker(Wire::Mdp01, "slow", 1), stage.peer(Wire::Mdp01));
    stage.ask(client, 0, "slow", no_options(), "hi");
    let (token, _) = stage.given(worker);
    stage.wait(secs(30));
    stage.answer(worker, &token, "there");
    assert_eq!(stage.answers(client).len(), 1);
    stage.wait(Duration::from_millis(3900));
    assert_eq!(stage.service("slow").workers, 1);
    stage.wait(Duration::from_millis(200));
    assert_eq!(stage.service("slow").workers, 0);
}

#[test]
fn a_worker_of_ours_beats_while_it_works_or_is_dead() {
    let mut stage = Stage::new();
    let (worker, client) = (stage.worker(Wire::Tidings, "slow", 1), stage.peer(Wire::Tidings));
    stage.ask(client, 1, "slow", no_options(), "hi");
    stage.wait_beating(secs(300), &[worker]);
    assert_eq!(stage.service("slow").running, 1, "how long a job takes is another thing");
    stage.wait(secs(5));
    assert_eq!(stage.service("slow").workers, 0);
    assert_eq!(stage.counted(Counter::WorkerSilent), 1);
}

#[test]
fn a_lost_connection_is_death_at_once() {
    let mut stage = Stage::new();
    let worker = stage.worker(Wire::Mdp01, "echo", 1);
    stage.leave(worker);
    assert_eq!(stage.service("echo").workers, 0);
    assert_eq!(stage.counted(Counter::WorkerGone), 1);
    let services: Vec<_> = stage.events();
    assert!(services.contains(&BrokerEvent::ServiceUp { service: name("echo") }));
    assert!(services.contains(&BrokerEvent::ServiceDown { service: name("echo"), waiting: 0 }));
}

#[test]
fn a_broker_that_slept_does_not_expire_who_spoke_meanwhile() {
    // As after a laptop's sleep: messages are read before timers run
    let mut stage = Stage::new();
    let worker = stage.worker(Wire::Tidings, "echo", 1);
    let later = stage.now() + secs(3600);
    stage.broker.handle_message(later, worker.peer, WorkerCommand::Heartbeat.encode(Wire::Tidings).unwrap());
    stage.broker.handle_timeout(later);
    assert_eq!(stage.service("echo").workers, 1);
}

#[test]
fn workers_are_not_dead_because_the_broker_was() {
    let mut stage = Stage::new();
    let (worker, dead) = (stage.worker(Wire::Mdp01, "echo", 1), stage.worker(Wire::Mdp01, "echo", 1));
    stage.wait_beating(secs(1), &[worker, dead]);
    // It is stopped: what workers say waits in the sockets
    stage.pause(secs(10));
    assert_eq!(stage.service("echo").workers, 2);
    stage.wait_beating(secs(3), &[worker]);
    assert_eq!(stage.service("echo").workers, 2);
    stage.wait_beating(secs(2), &[worker]);
    assert_eq!(stage.service("echo").workers, 1, "the other one did not come back with it");
    // One that is always late finds the dead all the same
    stage.pause(secs(3));
    stage.pause(secs(10));
    assert_eq!(stage.service("echo").workers, 0);
}

//! Every bound, and what happens at it.

use super::super::*;
use super::stage::*;
use crate::wire::{Wire, WorkerCommand};

fn with(change: impl FnOnce(&mut BrokerConfig)) -> Stage {
    let mut config = config();
    change(&mut config);
    Stage::with(config)
}

/// A service that exists, and whose worker is busy
fn busy(stage: &mut Stage) -> Actor {
    let (worker, client) = (stage.worker(Wire::Mdp01, "echo", 1), stage.peer(Wire::Tidings));
    stage.ask(client, 1, "echo", no_options(), "hi");
    worker
}

fn refused(stage: &mut Stage, status: &str, why: Counter) {
    let (client, plain) = (stage.peer(Wire::Tidings), stage.peer(Wire::Mdp01));
    stage.ask(client, 1, "echo", no_options(), "0123456789");
    assert_eq!(stage.answers(client), [(1, status.to_owned())]);
    stage.ask(plain, 0, "echo", no_options(), "0123456789");
    assert_eq!(stage.answers(plain), []);
    assert_eq!(stage.counted(why), 2);
    let told: Vec<_> = stage
        .events()
        .into_iter()
        .filter_map(|event| match event {
            BrokerEvent::RequestRefused { why: found, is_told, .. } if found == why => Some(is_told),
            _ => None,
        })
        .collect();
    assert_eq!(told, [true, false]);
}

#[test]
fn waiting_requests_of_a_service() {
    let mut stage = with(|config| config.max_waiting = 2);
    busy(&mut stage);
    for _ in 0..2 {
        let client = stage.peer(Wire::Mdp01);
        stage.ask(client, 0, "echo", no_options(), "hi");
    }
    refused(&mut stage, "503", Counter::QueueFull);
    assert_eq!(stage.service("echo").waiting, 2);
    assert_eq!(stage.service("echo").refused.of(Status::UNAVAILABLE), 2);
}

#[test]
fn octets_that_wait_for_a_service() {
    let mut stage = with(|config| config.max_waiting_octets = 300);
    busy(&mut stage);
    let client = stage.peer(Wire::Mdp01);
    stage.ask(client, 0, "echo", no_options(), "0123456789");
    assert_eq!(stage.service("echo").waiting_octets, 270);
    refused(&mut stage, "503", Counter::QueueOctets);
}

#[test]
fn octets_in_all() {
    let mut stage = with(|config| config.max_total_octets = 540);
    busy(&mut stage);
    let client = stage.peer(Wire::Mdp01);
    stage.worker(Wire::Mdp01, "other", 1);
    stage.ask(client, 0, "other", no_options(), "01234");
    refused(&mut stage, "503", Counter::TotalOctets);
}

#[test]
fn requests_in_all() {
    let mut stage = with(|config| config.max_requests = 1);
    busy(&mut stage);
    refused(&mut stage, "503", Counter::TooManyRequests);
}

#[test]
fn requests_of_a_client() {
    let mut stage = with(|config| config.max_per_client = 2);
    let (worker, client) = (stage.worker(Wire::Mdp01, "echo", 1), stage.peer(Wire::Tidings));
    (1..=3).for_each(|id| stage.ask(client, id, "echo", no_options(), "hi"));
    assert_eq!(stage.answers(client), [(3, "429".to_owned())]);
    let (token, _) = stage.given(worker);
    stage.answer(worker, &token, "there");
    stage.ask(client, 4, "echo", no_options(), "hi");
    assert_eq!(stage.answers(client), [(1, "there".to_owned())]);
    assert_eq!(stage.counted(Counter::TooManyOfClient), 1);
}

#[test]
fn octets_of_a_request() {
    let mut stage = with(|config| config.max_body = 10);
    stage.worker(Wire::Mdp01, "echo", 1);
    refused(&mut stage, "413", Counter::TooLarge);
}

#[test]
fn a_million_service_names() {
    let mut stage = with(|config| config.max_services = 100);
    let (plain, ours) = (stage.peer(Wire::Mdp01), stage.peer(Wire::Tidings));
    let now = stage.now();
    for number in 0..1_000_000u32 {
        let actor = if number % 2 == 0 { plain } else { ours };
        let service = ServiceName::new(number.to_be_bytes().to_vec()).unwrap();
        let command = ClientCommand::Request { id: number.into(), service, options: no_options(), body: body("hi") };
        stage.broker.handle_message(now, actor.peer, command.encode(actor.wire).unwrap());
        while stage.broker.poll_transmit().is_some() {}
    }
    let stats = stage.broker.stats(now);
    assert_eq!((stats.services.len(), stats.requests), (100, 100));
    assert_eq!(stage.counted(Counter::TooManyServices), 500_000 - 100);
    assert_eq!(stage.counted(Counter::NoSuchService), 500_000);
    stage.wait(secs(61));
    assert!(stage.is_at_rest());
    assert_eq!(stage.broker.stats(stage.now()).services.len(), 0);
}

#[test]
fn workers_for_a_million_services_leave_bounded_memory() {
    let mut stage = with(|config| config.max_services = 100);
    for number in 0..10_000 {
        let worker = stage.worker(Wire::Mdp01, &number.to_string(), 1);
        stage.leave(worker);
    }
    let stats = stage.broker.stats(stage.now());
    assert_eq!((stats.services.len(), stats.workers, stats.peers), (100, 0, 0));
    // The last ones are remembered with their counters, and give way to new ones
    assert!(stats.services.iter().any(|service| service.service == name("9999")));
    let workers: Vec<_> = (0..101).map(|number| stage.worker(Wire::Mdp01, &format!("s{number}"), 1)).collect();
    assert_eq!(stage.orders(workers[99]), []);
    assert_eq!(stage.orders(workers[100]), [WorkerOrder::Disconnect]);
    assert_eq!(stage.counted(Counter::ReadyNoRoom), 1);
}

#[test]
fn workers() {
    let mut stage = with(|config| config.max_workers = 1);
    stage.worker(Wire::Mdp01, "echo", 1);
    let second = stage.worker(Wire::Mdp01, "echo", 1);
    assert_eq!(stage.orders(second), [WorkerOrder::Disconnect]);
    assert_eq!(stage.counted(Counter::ReadyNoRoom), 1);
}

#[test]
fn requests_at_once_of_a_worker() {
    let mut stage = with(|config| config.max_concurrency = 3);
    let (worker, client) = (stage.worker(Wire::Tidings, "echo", u32::MAX), stage.peer(Wire::Tidings));
    (0..5).for_each(|id| stage.ask(client, id, "echo", no_options(), "hi"));
    assert_eq!(stage.orders(worker).len(), 3);
}

#[test]
fn deadlines() {
    let mut stage = with(|config| config.max_deadline = secs(10));
    busy(&mut stage);
    let client = stage.peer(Wire::Tidings);
    stage.ask(client, 1, "echo", in_time(secs(1000)), "hi");
    stage.wait(secs(11));
    assert_eq!(stage.answers(client), [(1, "504".to_owned())]);
}

#[test]
fn events() {
    let mut stage = with(|config| config.max_events = 10);
    let client = stage.peer(Wire::Mdp01);
    (0..20).for_each(|_| stage.say(client, tidings_zmtp::Message::default()));
    assert_eq!((stage.events().len(), stage.counted(Counter::EventsDropped)), (10, 10));
}

#[test]
fn a_small_request_that_waits_keeps_no_large_buffer() {
    let mut stage = Stage::new();
    busy(&mut stage);
    let client = stage.peer(Wire::Mdp01);
    let buffer = Bytes::from(vec![b'x'; 100_000]);
    let frames = [Bytes::new(), "MDPC01".into(), "echo".into(), buffer.slice(..10)];
    stage.say(client, tidings_zmtp::Message::multipart(frames));
    assert_eq!(stage.service("echo").waiting, 1);
    assert!(buffer.try_into_mut().is_ok(), "nobody else holds on to it");
}

#[test]
fn what_is_taken_back_leaves_nothing_behind() {
    let mut stage = Stage::new();
    busy(&mut stage);
    let before = stage.broker.stats(stage.now());
    let client = stage.peer(Wire::Tidings);
    for id in 0..100_000 {
        stage.ask(client, id, "echo", in_time(secs(3600)), "hi");
        stage.cancel(client, id);
    }
    let after = stage.broker.stats(stage.now());
    assert_eq!((after.requests, after.octets), (before.requests, before.octets));
    assert!(stage.broker.requests.capacity() < 1000 && stage.broker.by_client_id.capacity() < 1000);
}

#[test]
fn a_worker_that_never_answers_holds_no_bodies_of_requests_that_ended() {
    let mut stage = Stage::new();
    let (worker, client) = (stage.worker(Wire::Tidings, "hole", 100), stage.peer(Wire::Tidings));
    (0..100).for_each(|id| stage.ask(client, id, "hole", in_time(secs(1)), "0123456789"));
    stage.wait_beating(secs(2), &[worker]);
    let stats = stage.broker.stats(stage.now());
    assert_eq!((stats.outstanding, stats.requests, stats.octets), (0, 100, 100 * 256));
    stage.work(worker, WorkerCommand::Disconnect);
    assert!(stage.is_at_rest());
}

#[test]
fn one_client_leaves_room_in_a_queue_for_others() {
    let mut stage = with(|config| config.max_waiting = 10);
    busy(&mut stage);
    let (greedy, other) = (stage.peer(Wire::Tidings), stage.peer(Wire::Tidings));
    (1..=7).for_each(|id| stage.ask(greedy, id, "echo", no_options(), "hi"));
    assert_eq!(stage.answers(greedy), [(6, "429".to_owned()), (7, "429".to_owned())]);
    (1..=5).for_each(|id| stage.ask(other, id, "echo", no_options(), "hi"));
    assert_eq!(stage.answers(other), []);
    assert_eq!((stage.service("echo").waiting, stage.counted(Counter::TooManyOfClient)), (10, 2));
}

#[test]
fn the_way_back_to_a_client_counts() {
    let mut stage = with(|config| config.max_waiting_octets = 10_000);
    busy(&mut stage);
    let client = stage.peer(Wire::Mdp01);
    let id = Bytes::from(vec![b'x'; 255]);
    let frames = std::iter::repeat_n(id, 8).chain(["", "MDPC01", "echo", "hi"].map(Bytes::from));
    let request = tidings_zmtp::Message::multipart(frames);
    stage.say(client, request.clone());
    let octets = stage.service("echo").waiting_octets;
    assert!((8 * 255 + 256..3000).contains(&octets), "{octets}");
    (0..4).for_each(|_| stage.say(client, request.clone()));
    assert_eq!((stage.service("echo").waiting, stage.counted(Counter::QueueOctets)), (3, 2));
    stage.leave(client);
    assert_eq!(stage.service("echo").waiting_octets, 0);
    stage.broker.check().unwrap();
}

#[test]
fn names_without_workers_leave_room_for_those_with_workers() {
    let mut stage = with(|config| config.max_services = 200);
    let clients: Vec<_> = (0..3).map(|_| stage.peer(Wire::Mdp01)).collect();
    for client in &clients {
        for number in 0..150 {
            stage.ask(*client, 0, &format!("{}.{number}", client.peer.0), no_options(), "hi");
        }
    }
    // Each of them has its share, and no more
    assert_eq!(stage.counted(Counter::TooManyServices), 50 + 50 + 150);
    assert_eq!(stage.broker.stats(stage.now()).services.len(), 200);
    // A worker's service takes the place of the oldest name that nobody ever worked for
    let worker = stage.worker(Wire::Mdp01, "echo", 1);
    assert_eq!(stage.orders(worker), []);
    assert_eq!((stage.service("echo").workers, stage.counted(Counter::ReadyNoRoom)), (1, 0));
    assert_eq!((stage.counted(Counter::ServicePushedOut), stage.counted(Counter::Refused)), (1, 251));
    stage.broker.check().unwrap();
    // Whoever leaves makes room, and may ask anew
    clients.iter().for_each(|client| stage.leave(*client));
    assert_eq!(stage.broker.stats(stage.now()).services.len(), 1);
    let client = stage.peer(Wire::Mdp01);
    (0..150).for_each(|number| stage.ask(client, 0, &number.to_string(), no_options(), "hi"));
    assert_eq!(stage.broker.stats(stage.now()).services.len(), 101);
    stage.wait(secs(61));
    (0..150).for_each(|number| stage.ask(client, 0, &number.to_string(), no_options(), "hi"));
    assert_eq!(stage.broker.waiting(&name("99")), 1);
}

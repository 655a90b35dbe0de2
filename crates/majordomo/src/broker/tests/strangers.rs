//! Those who misbehave: answered or dropped as RFC 7 says, and counted.

use tidings_zmtp::Message;

use super::super::*;
use super::stage::*;
use crate::wire::{Malformed, Wire, WorkerCommand};

#[test]
fn ready_twice_is_answered_with_disconnect_and_then_nothing() {
    for wire in Wire::ALL {
        let mut stage = Stage::new();
        let (worker, client) = (stage.worker(wire, "echo", 1), stage.peer(Wire::Mdp01));
        stage.ask(client, 0, "echo", no_options(), "hi");
        stage.given(worker);
        stage.ready(worker, "echo", 1);
        assert_eq!(stage.orders(worker), [WorkerOrder::Disconnect], "{wire}");
        stage.ready(worker, "echo", 1);
        stage.beat(worker);
        assert_eq!(stage.orders(worker), [], "{wire}");
        assert_eq!(stage.counted(Counter::ReadyTwice), 1);
        assert_eq!((stage.service("echo").workers, stage.service("echo").waiting), (0, 1), "what it had is not lost");
    }
}

#[test]
fn ready_for_mmi_is_answered_with_disconnect() {
    for wire in Wire::ALL {
        let mut stage = Stage::new();
        let worker = stage.worker(wire, "mmi.service", 1);
        assert_eq!(stage.orders(worker), [WorkerOrder::Disconnect], "{wire}");
        assert_eq!(stage.counted(Counter::ReadyReserved), 1);
        let turned_away = BrokerEvent::WorkerTurnedAway {
            peer: worker.peer,
            service: name("mmi.service"),
            why: Counter::ReadyReserved,
        };
        assert_eq!(stage.events(), [turned_away]);
    }
}

#[test]
fn replies_and_heartbeats_of_strangers_are_answered_with_one_disconnect() {
    for wire in Wire::ALL {
        let mut stage = Stage::new();
        let stranger = stage.peer(wire);
        stage.work(stranger, WorkerCommand::Final { token: "12345678".into(), body: body("hi") });
        assert_eq!(stage.orders(stranger), [WorkerOrder::Disconnect], "{wire}");
        stage.beat(stranger);
        stage.ready(stranger, "echo", 1);
        assert_eq!(stage.orders(stranger), [], "{wire}");
        assert_eq!((stage.counted(Counter::Stranger), stage.counted(Counter::AfterDisconnect)), (1, 2));
        assert_eq!(stage.events(), [BrokerEvent::Stranger { peer: stranger.peer }]);
    }
}

#[test]
fn disconnect_is_allowed_before_ready() {
    let mut stage = Stage::new();
    let stranger = stage.peer(Wire::Mdp01);
    stage.work(stranger, WorkerCommand::Disconnect);
    assert_eq!(stage.orders(stranger), []);
    assert_eq!(stage.counted(Counter::Stranger), 0);
}

#[test]
fn a_reply_to_the_request_of_another_worker_is_refused() {
    let mut stage = Stage::new();
    let (honest, thief) = (stage.worker(Wire::Mdp01, "echo", 1), stage.worker(Wire::Mdp02, "echo", 1));
    let client = stage.peer(Wire::Mdp01);
    stage.ask(client, 0, "echo", no_options(), "hi");
    let (token, _) = stage.given(honest);
    stage.answer(thief, &token, "stolen");
    assert_eq!(stage.orders(thief), [WorkerOrder::Disconnect]);
    assert_eq!(stage.answers(client), []);
    stage.answer(honest, &token, "there");
    assert_eq!(stage.answers(client), [(0, "there".to_owned())]);
    // Answered a second time
    stage.answer(honest, &token, "there");
    assert_eq!(stage.orders(honest), [WorkerOrder::Disconnect]);
    assert_eq!((stage.answers(client), stage.counted(Counter::ReplyUnknown)), (vec![], 2));
}

#[test]
fn a_malformed_command_costs_a_worker_its_place_and_a_client_nothing() {
    let mut stage = Stage::new();
    let (worker, client) = (stage.worker(Wire::Mdp01, "echo", 1), stage.peer(Wire::Mdp01));
    stage.say(worker, Message::multipart(["", "MDPW01", "\x09"]));
    assert_eq!(stage.orders(worker), [WorkerOrder::Disconnect]);
    stage.say(client, Message::multipart(["", "MDPC01"]));
    stage.say(client, Message::multipart(["what", "is", "this"]));
    stage.say(client, Message::default());
    assert_eq!(stage.messages(client), []);
    let malformed = stage.broker.stats(stage.now()).malformed;
    assert_eq!(malformed[Malformed::UnknownCommand.name()], 1);
    assert_eq!(malformed[Malformed::NoService.name()], 1);
    assert_eq!(malformed[Malformed::UnknownHeader.name()], 2);
    assert_eq!(stage.counted(Counter::Malformed), 4);
    stage.worker(Wire::Mdp01, "echo", 1);
    stage.ask(client, 0, "echo", no_options(), "hi");
    assert_eq!(stage.service("echo").running, 1);
}

#[test]
fn a_malformed_request_on_our_own_wire_is_400() {
    let mut stage = Stage::new();
    let client = stage.peer(Wire::Tidings);
    stage.say(client, Message::multipart(["MDPCT1", "\x01", "\0\0\0\0\0\0\0\x05", "echo", "\x01", "hi"]));
    assert_eq!(stage.answers(client), [(5, "400".to_owned())]);
}

#[test]
fn a_worker_can_not_change_its_wire() {
    let mut stage = Stage::new();
    let mut worker = stage.worker(Wire::Mdp01, "echo", 1);
    worker.wire = Wire::Mdp02;
    stage.beat(worker);
    worker.wire = Wire::Mdp01;
    assert_eq!(stage.orders(worker), [WorkerOrder::Disconnect]);
}

#[test]
fn service_names_of_any_octets_are_names_like_others() {
    let mut stage = Stage::new();
    for octets in [vec![0xff; 255], vec![0], b"\xc3\x28".to_vec()] {
        let service = ServiceName::new(octets).unwrap();
        let (worker, client) = (stage.peer(Wire::Mdp01), stage.peer(Wire::Mdp01));
        stage.work(worker, WorkerCommand::Ready { service: service.clone(), options: Default::default() });
        let options = no_options();
        let command = ClientCommand::Request { id: 0, service: service.clone(), options, body: body("hi") };
        stage.say(client, command.encode(Wire::Mdp01).unwrap());
        let (token, _) = stage.given(worker);
        stage.answer(worker, &token, "there");
        assert_eq!(stage.messages(client)[0].frame(2), Some(service.as_bytes()));
    }
    // And are shown so that they can be read
    let stats = serde_json::to_string(&stage.broker.stats(stage.now())).unwrap();
    assert!(stats.contains(r#""service":"\\xc3(""#), "{stats}");
}

#[test]
fn who_may_not_is_told_if_there_is_a_word_for_it() {
    let mut stage = Stage::new();
    let (worker, client, plain) = (stage.peer(Wire::Mdp01), stage.peer(Wire::Tidings), stage.peer(Wire::Mdp01));
    let asked = std::sync::Arc::new(std::sync::Mutex::new(Vec::new()));
    let (log, intruder) = (asked.clone(), worker.peer);
    stage.broker.set_permit(Box::new(move |peer, access, service: &ServiceName| {
        log.lock().unwrap().push((peer, access, service.to_string()));
        !(access == Access::Work && peer == intruder || access == Access::Call && service.as_bytes() == b"secret")
    }));
    stage.ready(worker, "echo", 1);
    assert_eq!(stage.orders(worker), [WorkerOrder::Disconnect]);
    assert_eq!(stage.counted(Counter::ReadyNotPermitted), 1);
    let good = stage.worker(Wire::Mdp01, "echo", 1);
    stage.ask(client, 1, "secret", no_options(), "hi");
    stage.ask(plain, 0, "secret", no_options(), "hi");
    assert_eq!((stage.answers(client), stage.answers(plain)), (vec![(1, "403".to_owned())], vec![]));
    assert_eq!(stage.counted(Counter::NotPermitted), 2);
    // Asked once for a peer and a service
    asked.lock().unwrap().clear();
    for id in 2..10 {
        stage.ask(client, id, "echo", no_options(), "hi");
        let (token, _) = stage.given(good);
        stage.answer(good, &token, "there");
    }
    assert_eq!(*asked.lock().unwrap(), [(client.peer, Access::Call, "echo".to_owned())]);
    stage.broker.forget_permits();
    stage.ask(client, 20, "echo", no_options(), "hi");
    assert_eq!(asked.lock().unwrap().len(), 2);
}

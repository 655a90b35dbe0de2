//! Workers and clients in the broker's own process.

use super::super::*;
use super::stage::*;
use crate::wire::{RequestOptions, Wire};

#[test]
fn a_local_worker_answers_peers() {
    let mut stage = Stage::new();
    let now = stage.now();
    let worker = stage.broker.add_local_worker(now, &name("titanic.request"), 2).unwrap();
    let client = stage.peer(Wire::Mdp01);
    (0..3).for_each(|_| stage.ask(client, 0, "titanic.request", no_options(), "hi"));
    let locals = stage.locals();
    let tokens: Vec<_> = locals
        .iter()
        .map(|local| match local {
            Local::Request { worker: of, token, service, body: asked, .. } => {
                assert_eq!((of, service, asked), (&worker, &name("titanic.request"), &body("hi")));
                *token
            }
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(tokens.len(), 2, "no more than it takes");
    assert!(stage.broker.local_reply(now, worker, tokens[0], LocalReply::Final(body("there"))));
    assert!(!stage.broker.local_reply(now, worker, tokens[0], LocalReply::Final(body("twice"))));
    assert_eq!(stage.answers(client), [(0, "there".to_owned())]);
    assert_eq!(stage.locals().len(), 1);
    // It needs no heartbeats
    stage.wait(secs(30));
    assert_eq!(stage.service("titanic.request").workers, 1);
    stage.broker.remove_local_worker(now, worker);
    assert_eq!((stage.service("titanic.request").workers, stage.service("titanic.request").waiting), (0, 2));
}

#[test]
fn the_service_of_a_local_worker_is_reserved() {
    let mut stage = Stage::new();
    let now = stage.now();
    let early = stage.worker(Wire::Mdp01, "titanic.reply", 1);
    stage.broker.add_local_worker(now, &name("titanic.reply"), 1).unwrap();
    assert_eq!(stage.orders(early), [WorkerOrder::Disconnect]);
    let late = stage.worker(Wire::Mdp01, "titanic.reply", 1);
    assert_eq!(stage.orders(late), [WorkerOrder::Disconnect]);
    assert_eq!(stage.counted(Counter::ReadyReserved), 2);
}

#[test]
fn a_local_client_is_answered_refused_and_may_cancel() {
    let mut stage = Stage::new();
    let now = stage.now();
    let refused = stage.broker.local_request(now, &name("nobody"), RequestOptions::default(), body("hi"));
    let locals = stage.locals();
    assert!(
        matches!(&locals[..], [Local::Refused { request, status: Status::NO_SUCH_SERVICE, .. }] if *request == refused),
        "{locals:?}"
    );
    let worker = stage.worker(Wire::Tidings, "echo", 2);
    let asked = stage.broker.local_request(now, &name("echo"), RequestOptions::default(), body("hi"));
    let (token, _) = stage.given(worker);
    stage.answer(worker, &token, "there");
    assert_eq!(stage.locals(), [Local::Final { request: asked, body: body("there") }]);
    let asked = stage.broker.local_request(now, &name("echo"), RequestOptions::default(), body("hi"));
    let (token, _) = stage.given(worker);
    stage.broker.cancel_local_request(now, asked);
    assert_eq!(stage.orders(worker), [WorkerOrder::Cancel { token }]);
    assert_eq!(stage.locals(), []);
}

#[test]
fn a_local_client_may_call_a_local_worker() {
    let mut stage = Stage::new();
    let now = stage.now();
    let worker = stage.broker.add_local_worker(now, &name("inside"), 1).unwrap();
    let asked = stage.broker.local_request(now, &name("inside"), in_time(secs(1)), body("hi"));
    let locals = stage.locals();
    let [Local::Request { token, options, .. }] = &locals[..] else { panic!("{locals:?}") };
    assert_eq!(options.deadline, Some(secs(1)));
    stage.wait(secs(2));
    let cancel = Local::Cancel { worker, token: *token };
    let locals = stage.locals();
    assert!(
        matches!(&locals[..], [Local::Refused { request, status: Status::DEADLINE_PASSED, .. }, second]
            if *request == asked && *second == cancel),
        "{locals:?}"
    );
    assert!(stage.broker.local_reply(now, worker, *token, LocalReply::Final(body("late"))));
    assert!(stage.is_at_rest());
}

#[test]
fn what_is_reserved_is_neither_drained_nor_taken_over() {
    let mut stage = Stage::new();
    let now = stage.now();
    stage.broker.set_permit(Box::new(|_, _, _: &ServiceName| true));
    stage.broker.reserve("titanic.");
    let client = stage.peer(Wire::Tidings);
    for service in ["titanic.request", "inside"] {
        let worker = stage.broker.add_local_worker(now, &name(service), 1).unwrap();
        assert!(!stage.broker.drain(now, &name(service)));
        stage.ask(client, 1, "mmi.drain", no_options(), service);
        assert_eq!(stage.answers(client), [(1, "403".to_owned())], "{service}");
        stage.broker.remove_local_worker(now, worker);
    }
    // Also while nobody works for it, and if nobody ever did
    for service in ["titanic.request", "inside", "titanic.other"] {
        let stranger = stage.worker(Wire::Tidings, service, 1);
        assert_eq!(stage.orders(stranger), [WorkerOrder::Disconnect], "{service}");
    }
    assert_eq!(stage.counted(Counter::ReadyReserved), 3);
    assert!(stage.broker.add_local_worker(now, &name("titanic.request"), 1).is_some());
    let free = stage.worker(Wire::Tidings, "titanic", 1);
    assert_ne!(stage.orders(free), [WorkerOrder::Disconnect]);
}

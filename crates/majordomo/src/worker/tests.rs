//! The worker's state on a virtual clock, against a broker that says what the test has it say.

use std::time::Duration;

use bytes::Bytes;
use smallvec::smallvec;
use testkit::Clock;

use super::*;
use crate::wire::{Body, Command, RequestOptions, Status, WorkerCommand, WorkerOrder, decode};

const MS: Duration = Duration::from_millis(1);

struct Test {
    clock: Clock,
    jobs: Jobs,
}

impl Test {
    fn new(concurrency: u32) -> Self {
        let config = JobsConfig { concurrency, ..JobsConfig::new("echo".parse().unwrap()) };
        Self { clock: Clock::new(), jobs: Jobs::new(config, 7) }
    }

    /// A conversation is open, and READY was said
    fn open(wire: Wire, concurrency: u32) -> (Self, ConversationId) {
        let mut test = Self::new(concurrency);
        test.jobs = Jobs::new(JobsConfig { wire, concurrency, ..JobsConfig::new("echo".parse().unwrap()) }, 7);
        let id = test.opened(None);
        assert!(matches!(test.said()[..], [WorkerCommand::Ready { .. }]));
        if wire.is_numbered() {
            test.order(id, WorkerOrder::Heartbeat);
        }
        assert!(matches!(test.events()[..], [JobEvent::Ready(said)] if said == wire));
        (test, id)
    }

    fn opened(&mut self, announced: Option<Wire>) -> ConversationId {
        let Some(Action::Open(id)) = self.jobs.poll_action() else { panic!("nothing is to be opened") };
        self.jobs.handle_open(self.clock.now(), id, announced);
        id
    }

    fn said(&mut self) -> Vec<WorkerCommand> {
        let sent = std::iter::from_fn(|| self.jobs.poll_transmit());
        let read = sent.map(|outgoing| match decode(outgoing.message).unwrap().command {
            Command::Worker(command) => command,
            other => panic!("{other:?}"),
        });
        read.collect()
    }

    fn events(&mut self) -> Vec<JobEvent> {
        std::iter::from_fn(|| self.jobs.poll_event()).collect()
    }

    fn order(&mut self, conversation: ConversationId, order: WorkerOrder) {
        let wire = self.jobs.wire().unwrap();
        self.jobs.handle_message(self.clock.now(), conversation, order.encode(wire).unwrap());
    }

    fn request(&mut self, conversation: ConversationId, token: &'static str) {
        self.request_with(conversation, token, RequestOptions::default());
    }

    fn request_with(&mut self, conversation: ConversationId, token: &'static str, options: RequestOptions) {
        self.order(conversation, WorkerOrder::Request { token: token.into(), options, body: smallvec!["x".into()] });
    }

    /// The one job that a handler is to begin
    fn started(&mut self) -> NewJob {
        let mut events = self.events();
        let Some(JobEvent::Start(job)) = events.pop() else { panic!("nothing is to be begun") };
        assert!(events.is_empty(), "{events:?}");
        job
    }

    fn done(&mut self, job: JobId, reply: &'static str) {
        self.jobs.handle_done(self.clock.now(), job, Ok(smallvec![reply.into()]));
    }

    fn advance(&mut self) -> Duration {
        let before = self.clock.elapsed();
        self.clock.advance_to(self.jobs.poll_timeout().expect("nothing is due"));
        self.jobs.handle_timeout(self.clock.now());
        self.clock.elapsed() - before
    }

    /// Goes on until something other than heartbeats is said or happens
    fn run(&mut self, most: Duration) -> Vec<JobEvent> {
        let end = self.clock.now() + most;
        while self.jobs.poll_timeout().is_some_and(|due| due <= end) {
            self.advance();
            let said = self.said();
            let events = self.events();
            if !events.is_empty() {
                return events;
            }
            assert!(said.iter().all(|command| *command == WorkerCommand::Heartbeat), "{said:?}");
        }
        self.clock.advance_to(end);
        Vec::new()
    }
}

fn token(text: &'static str) -> Bytes {
    text.into()
}

fn reply(text: &'static str) -> Body {
    smallvec![text.into()]
}

#[test]
fn ready_comes_first_and_says_what_it_can() {
    let mut test = Test::new(8);
    test.opened(Some(Wire::Tidings));
    let said = test.said();
    let [WorkerCommand::Ready { service, options }] = &said[..] else { panic!("{said:?}") };
    assert_eq!((service.to_string().as_str(), options.concurrency, options.heartbeat), ("echo", 8, Some(1000 * MS)));
}

#[test]
fn our_broker_says_that_it_has_registered_the_worker() {
    let mut test = Test::new(1);
    let first = test.opened(Some(Wire::Tidings));
    test.order(first, WorkerOrder::Disconnect);
    assert!(matches!(test.events()[..], [JobEvent::Lost(Loss::Disconnected)]), "it was turned away");
    test.jobs.poll_action();
    test.advance();
    let second = test.opened(Some(Wire::Tidings));
    assert!(test.events().is_empty() && !test.jobs.is_registered());
    test.order(second, WorkerOrder::Heartbeat);
    test.order(second, WorkerOrder::Heartbeat);
    assert!(matches!(test.events()[..], [JobEvent::Ready(Wire::Tidings)]));
    assert!(test.jobs.is_registered());
}

#[test]
fn every_wire_carries_a_request_and_its_reply() {
    for wire in [Wire::Mdp01, Wire::Mdp02, Wire::Majortomo, Wire::Zproto, Wire::Tidings, Wire::Domogik] {
        let (mut test, id) = Test::open(wire, 1);
        test.request(id, "12345678");
        let job = test.started();
        assert_eq!((&job.body[0][..], job.takes_parts), (&b"x"[..], wire.has_partial_replies()));
        test.done(job.id, "y");
        assert_eq!(test.said(), [WorkerCommand::Final { token: token("12345678"), body: reply("y") }], "{wire}");
    }
}

#[test]
fn heartbeats_fill_the_gaps_only() {
    let (mut test, id) = Test::open(Wire::Tidings, 1);
    assert_eq!(test.advance(), 1000 * MS);
    assert_eq!(test.said(), [WorkerCommand::Heartbeat]);
    test.clock.advance(600 * MS);
    test.request(id, "12345678");
    let job = test.started();
    test.done(job.id, "y");
    test.said();
    assert_eq!(test.advance(), 1000 * MS, "a reply is as good as a heartbeat");
    assert_eq!(test.said(), [WorkerCommand::Heartbeat]);
}

#[test]
fn heartbeats_go_on_while_a_handler_works() {
    for wire in [Wire::Tidings, Wire::Mdp01] {
        let (mut test, id) = Test::open(wire, 1);
        test.request(id, "12345678");
        test.started();
        let mut beats = 0;
        for _ in 0..20 {
            test.advance();
            beats += test.said().iter().filter(|command| **command == WorkerCommand::Heartbeat).count();
            test.order(id, WorkerOrder::Heartbeat);
        }
        assert!(beats >= 19, "{beats} on {wire}");
    }
}

#[test]
fn a_silent_broker_is_left_for_a_new_conversation() {
    let (mut test, id) = Test::open(Wire::Tidings, 1);
    let events = test.run(10_000 * MS);
    assert!(matches!(events[..], [JobEvent::Lost(Loss::Silent(_))]), "{events:?}");
    assert_eq!(test.clock.elapsed(), 4000 * MS);
    assert_eq!(test.jobs.poll_action(), Some(Action::Close(id)));
    let wait = test.advance();
    assert!((50 * MS..=100 * MS).contains(&wait), "{wait:?}");
    test.opened(Some(Wire::Tidings));
    assert!(matches!(test.said()[..], [WorkerCommand::Ready { .. }]), "READY again");
}

#[test]
fn brokers_of_other_makes_may_be_silent_for_longer() {
    let (mut test, _) = Test::open(Wire::Majortomo, 1);
    assert!(matches!(test.run(60_000 * MS)[..], [JobEvent::Lost(Loss::Silent(_))]));
    assert_eq!(test.clock.elapsed(), 10_000 * MS);
}

#[test]
fn a_broker_that_is_silent_while_a_handler_works_is_not_dead() {
    // majortomo's broker and Domogik's send no heartbeats to a busy worker
    let (mut test, id) = Test::open(Wire::Mdp01, 1);
    test.request(id, "client");
    let job = test.started();
    assert!(test.run(600_000 * MS).is_empty());
    test.done(job.id, "y");
    assert_eq!(test.said().len(), 1);
    let before = test.clock.elapsed();
    assert!(matches!(test.run(60_000 * MS)[..], [JobEvent::Lost(Loss::Silent(_))]));
    assert_eq!(test.clock.elapsed() - before, 10_000 * MS, "the countdown begins with the reply");
    // Ours does
    let (mut test, id) = Test::open(Wire::Tidings, 1);
    test.request(id, "12345678");
    test.started();
    let events = test.run(600_000 * MS);
    assert!(matches!(events[..], [JobEvent::Cancel { cause: CancelCause::Lost, .. }, JobEvent::Lost(_)]), "{events:?}");
}

#[test]
fn who_was_asleep_does_not_take_the_broker_for_dead_at_once() {
    let (mut test, id) = Test::open(Wire::Tidings, 1);
    test.clock.advance(3_600_000 * MS);
    test.jobs.handle_timeout(test.clock.now());
    assert!(test.events().is_empty());
    test.order(id, WorkerOrder::Heartbeat);
    assert!(test.run(3900 * MS).is_empty());
    assert!(matches!(test.run(200 * MS)[..], [JobEvent::Lost(Loss::Silent(_))]));
}

#[test]
fn disconnect_means_a_new_conversation_and_nothing_more_in_this_one() {
    let (mut test, id) = Test::open(Wire::Mdp01, 1);
    test.request(id, "client");
    let job = test.started();
    test.order(id, WorkerOrder::Disconnect);
    let events = test.events();
    let [JobEvent::Cancel { job: cancelled, cause: CancelCause::Lost }, JobEvent::Lost(Loss::Disconnected)] =
        &events[..]
    else {
        panic!("{events:?}")
    };
    assert_eq!(*cancelled, job.id);
    assert_eq!(test.jobs.poll_action(), Some(Action::Close(id)));
    test.done(job.id, "y");
    assert_eq!((test.said(), test.jobs.counts().lost), (vec![], 1));
    test.advance();
    test.opened(None);
    assert!(matches!(test.said()[..], [WorkerCommand::Ready { .. }]));
}

#[test]
fn a_broker_that_always_disconnects_is_asked_less_and_less_often() {
    let (mut test, mut id) = Test::open(Wire::Mdp01, 1);
    let mut waits = Vec::new();
    for _ in 0..8 {
        test.order(id, WorkerOrder::Disconnect);
        test.jobs.poll_action();
        waits.push(test.advance());
        id = test.opened(None);
    }
    assert!(waits[7] >= 2500 * MS, "{waits:?}");
}

#[test]
fn several_run_at_once_up_to_the_declared_number() {
    let (mut test, id) = Test::open(Wire::Tidings, 2);
    for token in ["00000001", "00000002", "00000003"] {
        test.request(id, token);
    }
    let events = test.events();
    let [JobEvent::Start(one), JobEvent::Start(_)] = &events[..] else { panic!("{events:?}") };
    assert_eq!(test.jobs.counts().running, 2);
    test.done(one.id, "y");
    assert_eq!(test.said().len(), 1);
    test.started();
}

#[test]
fn far_more_than_the_declared_number_are_refused() {
    let (mut test, id) = Test::open(Wire::Tidings, 1);
    for _ in 0..40 {
        test.request(id, "12345678");
    }
    let said = test.said();
    let is_refusal = |command: &WorkerCommand| matches!(command, WorkerCommand::Refused { status, .. } if *status == Status::UNAVAILABLE);
    assert_eq!((said.len(), said.iter().all(is_refusal)), (40 - 17, true), "{said:?}");
    assert_eq!(test.jobs.counts().excess, 40 - 17);
}

#[test]
fn handlers_of_a_conversation_before_keep_their_places() {
    let (mut test, id) = Test::open(Wire::Tidings, 1);
    test.request(id, "00000001");
    let old = test.started();
    test.order(id, WorkerOrder::Disconnect);
    test.events();
    test.jobs.poll_action();
    test.advance();
    let next = test.opened(None);
    test.said();
    test.events();
    test.request(next, "00000002");
    let events = test.events();
    assert!(matches!(events[..], [JobEvent::Ready(_)]), "one at a time was declared, and one still runs: {events:?}");
    test.done(old.id, "late");
    let new = test.started();
    assert_eq!(test.said(), [], "the old reply has no conversation any more");
    test.done(new.id, "y");
    assert_eq!(test.said().len(), 1);
}

#[test]
fn cancel_reaches_the_handler_and_the_place_is_given_back() {
    let (mut test, id) = Test::open(Wire::Tidings, 1);
    test.request(id, "00000001");
    let job = test.started();
    test.request(id, "00000002");
    test.order(id, WorkerOrder::Cancel { token: token("00000001") });
    test.order(id, WorkerOrder::Cancel { token: token("00000001") });
    let events = test.events();
    assert!(matches!(events[..], [JobEvent::Cancel { cause: CancelCause::Client, .. }]), "{events:?}");
    assert_eq!(test.jobs.partial(test.clock.now(), job.id, reply("p")).unwrap_err(), PartialError::Gone);
    // What no handler has yet is refused at once
    test.order(id, WorkerOrder::Cancel { token: token("00000002") });
    let said = test.said();
    let [WorkerCommand::Refused { token: refused, status: Status::CANCELLED, .. }] = &said[..] else {
        panic!("{said:?}")
    };
    assert_eq!(refused, "00000002");
    test.jobs.handle_done(test.clock.now(), job.id, Err(Failure::new(Status::CANCELLED, "")));
    assert!(matches!(test.said()[..], [WorkerCommand::Refused { status: Status::CANCELLED, .. }]));
    assert_eq!((test.jobs.counts().cancelled, test.jobs.counts().running), (2, 0));
}

#[test]
fn a_handler_is_told_when_the_time_is_over() {
    let (mut test, id) = Test::open(Wire::Tidings, 1);
    let options = |ms| RequestOptions { deadline: Some(ms * MS), ..RequestOptions::default() };
    test.request_with(id, "00000001", options(300));
    let job = test.started();
    assert_eq!(job.deadline, Some(test.clock.now() + 300 * MS));
    test.request_with(id, "00000002", options(200));
    assert_eq!(test.advance(), 200 * MS);
    assert!(matches!(test.said()[..], [WorkerCommand::Refused { status: Status::DEADLINE_PASSED, .. }]));
    assert_eq!(test.advance(), 100 * MS);
    let events = test.events();
    assert!(matches!(events[..], [JobEvent::Cancel { cause: CancelCause::Deadline, .. }]), "{events:?}");
}

#[test]
fn what_ends_at_its_deadline_is_told_so_and_not_as_taken_back() {
    for (is_late, expected) in [(true, Status::DEADLINE_PASSED), (false, Status::CANCELLED)] {
        let (mut test, id) = Test::open(Wire::Tidings, 1);
        let options = RequestOptions { deadline: Some(300 * MS), ..RequestOptions::default() };
        test.request_with(id, "00000001", options);
        let job = test.started();
        match is_late {
            true => drop(test.advance()),
            false => test.order(id, WorkerOrder::Cancel { token: token("00000001") }),
        }
        // A handler hears that it is to stop, and not why
        test.jobs.handle_done(test.clock.now(), job.id, Err(Failure::new(Status::CANCELLED, "")));
        let said = test.said();
        assert!(matches!(&said[..], [WorkerCommand::Refused { status, .. }] if *status == expected), "{said:?}");
    }
}

#[test]
fn failures_are_refusals_or_replies_of_digits_and_words() {
    let fail = |wire| {
        let (mut test, id) = Test::open(wire, 1);
        test.request(id, "00000001");
        let job = test.started();
        test.jobs.handle_done(test.clock.now(), job.id, Err(Failure::new(Status::MALFORMED, "no such id")));
        assert_eq!(test.jobs.counts().failed, 1);
        test.said().remove(0)
    };
    let token = token("00000001");
    let refused = WorkerCommand::Refused { token: token.clone(), status: Status::MALFORMED, text: "no such id".into() };
    assert_eq!(fail(Wire::Tidings), refused);
    assert_eq!(fail(Wire::Mdp01), WorkerCommand::Final { token, body: smallvec!["400".into(), "no such id".into()] });
}

#[test]
fn parts_go_out_where_the_wire_has_them() {
    let (mut test, id) = Test::open(Wire::Mdp02, 1);
    test.request(id, "client");
    let job = test.started();
    let Outgoing { message, .. } = test.jobs.partial(test.clock.now(), job.id, reply("p")).unwrap();
    let Command::Worker(WorkerCommand::Partial { token: of, body }) = decode(message).unwrap().command else {
        panic!()
    };
    assert_eq!((of, body), (token("client"), reply("p")));
    let (mut test, id) = Test::open(Wire::Mdp01, 1);
    test.request(id, "client");
    let job = test.started();
    let error = test.jobs.partial(test.clock.now(), job.id, reply("p")).unwrap_err();
    assert!(matches!(error, PartialError::NotOnThisWire(_)), "{error}");
}

#[test]
fn stopping_finishes_what_it_has() {
    let (mut test, id) = Test::open(Wire::Tidings, 1);
    test.request(id, "00000001");
    let job = test.started();
    test.jobs.stop(test.clock.now());
    assert_eq!(test.said(), [WorkerCommand::Draining]);
    // One that was on its way already is answered too
    test.request(id, "00000002");
    test.done(job.id, "1");
    let second = test.started();
    assert_eq!(test.said().len(), 1);
    test.done(second.id, "2");
    assert!(matches!(test.said()[..], [WorkerCommand::Final { .. }, WorkerCommand::Disconnect]));
    assert!(matches!(test.events()[..], [JobEvent::Ended(EndReason::Stopped)]));
    assert_eq!(test.jobs.poll_action(), Some(Action::Close(id)));
    assert!(test.jobs.has_ended() && test.jobs.poll_timeout().is_none());
}

#[test]
fn other_wires_have_no_word_for_draining() {
    let (mut test, id) = Test::open(Wire::Mdp01, 1);
    test.request(id, "client");
    let job = test.started();
    test.jobs.stop(test.clock.now());
    assert_eq!(test.said(), []);
    test.done(job.id, "1");
    assert!(matches!(test.said()[..], [WorkerCommand::Final { .. }, WorkerCommand::Disconnect]));
    assert!(test.jobs.has_ended());
}

#[test]
fn the_broker_can_have_it_finish_and_not_come_back() {
    let (mut test, id) = Test::open(Wire::Tidings, 1);
    test.request(id, "00000001");
    let job = test.started();
    test.order(id, WorkerOrder::Drain);
    assert!(test.said().is_empty() && !test.jobs.has_ended());
    test.done(job.id, "1");
    assert!(matches!(test.said()[..], [WorkerCommand::Final { .. }, WorkerCommand::Disconnect]));
    assert!(matches!(test.events()[..], [JobEvent::Ended(EndReason::Drained)]));
    // Also when the connection goes first
    let (mut test, id) = Test::open(Wire::Tidings, 1);
    test.request(id, "00000001");
    test.started();
    test.order(id, WorkerOrder::Drain);
    test.jobs.handle_lost(test.clock.now(), id, Loss::Connection("gone".into()));
    assert!(matches!(test.events()[..], [JobEvent::Cancel { .. }, JobEvent::Ended(EndReason::Drained)]));
}

#[test]
fn abandoning_hands_back_what_it_has() {
    let (mut test, id) = Test::open(Wire::Tidings, 1);
    test.request(id, "00000001");
    let job = test.started();
    test.request(id, "00000002");
    test.jobs.abandon(test.clock.now());
    assert_eq!(test.said(), [WorkerCommand::Disconnect]);
    let events = test.events();
    let [JobEvent::Cancel { cause: CancelCause::Stopped, .. }, JobEvent::Ended(EndReason::Stopped)] = &events[..]
    else {
        panic!("{events:?}")
    };
    test.done(job.id, "late");
    assert_eq!((test.said(), test.jobs.counts().lost, test.jobs.counts().running), (vec![], 1, 0));
}

#[test]
fn a_worker_without_a_conversation_stops_at_once() {
    let mut test = Test::new(1);
    let Some(Action::Open(id)) = test.jobs.poll_action() else { panic!("nothing is to be opened") };
    test.jobs.stop(test.clock.now());
    assert!(matches!(test.events()[..], [JobEvent::Ended(EndReason::Stopped)]));
    assert_eq!(test.jobs.poll_action(), Some(Action::Close(id)));
    test.jobs.handle_open(test.clock.now(), id, None);
    assert_eq!(test.said(), []);
}

#[test]
fn what_can_t_be_read_is_counted_and_is_no_heartbeat() {
    let (mut test, id) = Test::open(Wire::Tidings, 1);
    test.clock.advance(3999 * MS);
    test.jobs.handle_message(test.clock.now(), id, "nonsense".into());
    test.jobs.handle_message(test.clock.now(), ConversationId(99), "nonsense".into());
    assert_eq!(test.jobs.counts().malformed, 1);
    assert!(matches!(test.run(10 * MS)[..], [JobEvent::Lost(Loss::Silent(_))]));
}

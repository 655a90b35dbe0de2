//! The client's state on a virtual clock, against a broker that says what the test has it say.

use std::time::Duration;

use smallvec::smallvec;
use testkit::Clock;
use tidings_zmtp::Message as Frames;

use super::*;
use crate::wire::{Body, Command, RequestOptions, ReturnPath, Status, decode};
use crate::wire::{ClientCommand, ClientReply};

const MS: Duration = Duration::from_millis(1);

struct Test {
    clock: Clock,
    requests: Requests,
}

/// What a broker sees of a request
#[derive(Debug)]
struct Seen {
    conversation: ConversationId,
    wire: Wire,
    path: ReturnPath,
    id: u64,
    service: String,
    options: RequestOptions,
    body: Body,
}

impl Test {
    fn new() -> Self {
        Self::with(RequestsConfig::default())
    }

    fn with(config: RequestsConfig) -> Self {
        Self { clock: Clock::new(), requests: Requests::new(config, 7) }
    }

    /// A conversation is open; on our own wire if that is announced
    fn open(announced: Option<Wire>, config: RequestsConfig) -> (Self, ConversationId) {
        let mut test = Self::with(config);
        let id = test.opened(announced);
        (test, id)
    }

    fn ours() -> (Self, ConversationId) {
        Self::open(Some(Wire::Tidings), RequestsConfig::default())
    }

    /// The driver opens what the state asks for
    fn opened(&mut self, announced: Option<Wire>) -> ConversationId {
        let Some(Action::Open(id)) = self.requests.poll_action() else { panic!("nothing is to be opened") };
        self.requests.handle_open(self.clock.now(), id, announced);
        id
    }

    fn request(&mut self, body: &'static str) -> RequestId {
        self.request_with(body, |_| ()).unwrap()
    }

    fn request_with(
        &mut self,
        body: &'static str,
        change: impl FnOnce(&mut RequestOptions),
    ) -> Result<RequestId, RequestError> {
        let mut options = RequestOptions { deadline: Some(1000 * MS), ..RequestOptions::default() };
        change(&mut options);
        let request = NewRequest { service: "echo".parse().unwrap(), body: smallvec![body.into()], options };
        self.requests.request(self.clock.now(), request)
    }

    /// The requests that the broker gets now
    fn seen(&mut self) -> Vec<Seen> {
        let sent = std::iter::from_fn(|| self.requests.poll_transmit());
        let read = sent.map(|Outgoing { conversation, message }| {
            let incoming = decode(message).unwrap();
            let Command::Client(ClientCommand::Request { id, service, options, body }) = incoming.command else {
                panic!("{incoming:?} is no request")
            };
            let (wire, path) = (incoming.wire, incoming.path);
            Seen { conversation, wire, path, id, service: service.to_string(), options, body }
        });
        read.collect()
    }

    fn seen_one(&mut self) -> Seen {
        let mut seen = self.seen();
        assert_eq!(seen.len(), 1, "{seen:?}");
        seen.remove(0)
    }

    /// The numbers that the broker is told to forget now
    fn cancels(&mut self) -> Vec<u64> {
        let sent = std::iter::from_fn(|| self.requests.poll_transmit());
        let read = sent.map(|outgoing| match decode(outgoing.message).unwrap().command {
            Command::Client(ClientCommand::Cancel { id }) => id,
            other => panic!("{other:?} is no CANCEL"),
        });
        read.collect()
    }

    fn say(&mut self, to: &Seen, reply: ClientReply) {
        let message = reply.encode(to.wire, &to.path).unwrap();
        self.requests.handle_message(self.clock.now(), to.conversation, message);
    }

    fn answer(&mut self, to: &Seen, body: &'static str) {
        let reply = ClientReply::Final { id: to.id, service: to.service.clone().into(), body: smallvec![body.into()] };
        self.say(to, reply);
    }

    fn part(&mut self, to: &Seen, body: &'static str) {
        let service = to.service.clone().into();
        self.say(to, ClientReply::Partial { id: to.id, service, body: smallvec![body.into()] });
    }

    fn lose(&mut self, conversation: ConversationId) {
        let loss = Loss::Connection("gone".into());
        self.requests.handle_lost(self.clock.now(), conversation, &loss);
        assert_eq!(self.requests.poll_action(), Some(Action::Close(conversation)));
    }

    /// Goes to the next deadline of the state
    fn advance(&mut self) -> Duration {
        let before = self.clock.elapsed();
        self.clock.advance_to(self.requests.poll_timeout().expect("nothing is due"));
        self.requests.handle_timeout(self.clock.now());
        self.clock.elapsed() - before
    }

    fn pass(&mut self, time: Duration) {
        self.clock.advance(time);
        self.requests.handle_timeout(self.clock.now());
    }

    fn result(&mut self, id: RequestId) -> Option<Result<String, RequestError>> {
        let text = |body: Body| body.iter().map(|frame| String::from_utf8_lossy(frame).into_owned()).collect();
        Some(self.requests.take_outcome(id)?.result.map(text))
    }

    fn reply(&mut self, id: RequestId) -> String {
        self.result(id).expect("no outcome yet").unwrap()
    }

    fn error(&mut self, id: RequestId) -> RequestError {
        self.result(id).expect("no outcome yet").unwrap_err()
    }
}

#[test]
fn requests_wait_for_the_first_conversation_and_keep_their_order() {
    let mut test = Test::new();
    let ids = ["a", "b", "c"].map(|body| test.request(body));
    assert_eq!(test.seen().len(), 0);
    assert_eq!(test.requests.counts().waiting, 3);
    test.opened(Some(Wire::Tidings));
    let seen = test.seen();
    assert_eq!(seen.iter().map(|seen| &seen.body[0][..]).collect::<Vec<_>>(), [b"a", b"b", b"c"]);
    // In any order: our wire numbers them
    for (seen, body) in seen.iter().zip(["A", "B", "C"]).rev() {
        test.answer(seen, body);
    }
    assert_eq!(std::iter::from_fn(|| test.requests.poll_news()).collect::<Vec<_>>(), [ids[2], ids[1], ids[0]]);
    assert_eq!(ids.map(|id| test.reply(id)), ["A", "B", "C"]);
    let counts = test.requests.counts();
    assert_eq!((counts.requests, counts.replies, counts.in_flight), (3, 3, 0));
}

#[test]
fn every_wire_carries_a_request_and_its_reply() {
    for wire in Wire::ALL {
        let (mut test, conversation) = Test::open(None, RequestsConfig { wire, ..RequestsConfig::default() });
        let id = test.request_with("x", |_| ()).unwrap();
        let seen = test.seen_one();
        // Domogik's is told from 0.1 by action and data behind the timeout, which a body of one frame is not
        let is_domogik = wire == Wire::Domogik;
        assert_eq!(seen.wire, if is_domogik { Wire::Mdp01 } else { wire });
        assert_eq!((seen.conversation, seen.service.as_str()), (conversation, "echo"));
        test.answer(&seen, "y");
        assert_eq!(test.reply(id), "y", "{wire}");
    }
}

#[test]
fn time_waited_is_taken_off_what_the_broker_is_told() {
    let mut test = Test::new();
    test.request("x");
    test.pass(300 * MS);
    test.opened(Some(Wire::Tidings));
    assert_eq!(test.seen_one().options.deadline, Some(700 * MS));
}

#[test]
fn domogik_s_broker_is_told_the_time_as_seconds() {
    let config = RequestsConfig { wire: Wire::Domogik, ..RequestsConfig::default() };
    let (mut test, _) = Test::open(None, config);
    let body: Body = smallvec!["config.get".into(), "{}".into()];
    let options = RequestOptions { deadline: Some(2500 * MS), ..RequestOptions::default() };
    let request = NewRequest { service: "dbmanager".parse().unwrap(), body, options };
    test.requests.request(test.clock.now(), request).unwrap();
    let sent = test.requests.poll_transmit().unwrap().message;
    assert_eq!(sent, Frames::multipart(["", "MDPC01", "dbmanager", "2.5", "config.get", "{}"]));
}

#[test]
fn a_deadline_ends_a_request_and_a_late_reply_is_counted() {
    let (mut test, _) = Test::ours();
    let id = test.request("x");
    let seen = test.seen_one();
    assert_eq!(test.advance(), 1000 * MS);
    let error = test.error(id);
    assert!(matches!(error, RequestError::DeadlinePassed { sent: true, .. }), "{error}");
    assert_eq!(test.requests.poll_timeout(), None);
    test.answer(&seen, "late");
    let counts = test.requests.counts();
    assert_eq!((counts.late_replies, counts.expired, counts.replies), (1, 1, 0));
    assert!(test.cancels().is_empty(), "the broker has the deadline itself");
}

#[test]
fn a_deadline_passes_without_a_broker_too() {
    let mut test = Test::new();
    let id = test.request("x");
    test.advance();
    let error = test.error(id);
    assert!(matches!(error, RequestError::DeadlinePassed { sent: false, .. }), "{error}");
    test.opened(Some(Wire::Tidings));
    assert!(test.seen().is_empty(), "what was given up is not sent later");
}

#[test]
fn a_cancelled_request_is_taken_back_if_it_was_sent() {
    let (mut test, _) = Test::ours();
    let sent = test.request("x");
    let seen = test.seen_one();
    test.requests.cancel(test.clock.now(), sent);
    assert_eq!(test.cancels(), [seen.id]);
    test.answer(&seen, "late");
    assert_eq!((test.requests.counts().late_replies, test.requests.counts().in_flight), (1, 0));
    let done = test.request("y");
    let seen = test.seen_one();
    test.answer(&seen, "z");
    test.requests.cancel(test.clock.now(), done);
    assert!(test.cancels().is_empty(), "it has been answered");
    assert_eq!(test.requests.counts().cancelled, 1);
}

#[test]
fn what_is_given_up_while_it_waits_takes_no_memory() {
    let mut test = Test::new();
    for _ in 0..10_000 {
        let id = test.request("x");
        test.requests.cancel(test.clock.now(), id);
    }
    assert!(format!("{:?}", test.requests).len() < 20_000);
    test.opened(Some(Wire::Tidings));
    assert!(test.seen().is_empty());
}

#[test]
fn a_refusal_tells_status_and_text() {
    let (mut test, _) = Test::ours();
    let id = test.request("x");
    let seen = test.seen_one();
    test.say(&seen, ClientReply::Refused { id: seen.id, status: Status::NO_SUCH_SERVICE, text: "no echo".into() });
    let error = test.error(id);
    assert_eq!(error.to_string(), "refused: 404 no such service: no echo");
    assert_eq!(error.status(), Some(Status::NO_SUCH_SERVICE));
}

#[test]
fn what_is_unanswered_is_sent_again_in_the_next_conversation() {
    let (mut test, first) = Test::ours();
    let ids = ["a", "b"].map(|body| test.request(body));
    let once = test.request_with("c", |options| options.repeatable = false).unwrap();
    assert_eq!(test.seen().len(), 3);
    test.lose(first);
    let error = test.error(once);
    assert!(matches!(error, RequestError::ConnectionLost), "{error}");
    let later = test.request("d");
    let wait = test.advance();
    assert!((50 * MS..=100 * MS).contains(&wait), "{wait:?}");
    test.opened(Some(Wire::Tidings));
    let seen = test.seen();
    assert_eq!(seen.iter().map(|seen| &seen.body[0][..]).collect::<Vec<_>>(), [b"a", b"b", b"d"]);
    let left = seen[0].options.deadline.unwrap();
    assert!(left >= 1000 * MS - wait && left < 1001 * MS - wait, "{left:?}");
    seen.iter().for_each(|seen| test.answer(seen, "ok"));
    for id in [ids[0], ids[1], later] {
        assert_eq!(test.reply(id), "ok");
    }
    assert_eq!(test.requests.counts().resent, 2);
    test.requests.handle_message(test.clock.now(), first, Frames::from("late"));
    assert_eq!(test.requests.counts().malformed, 0, "a conversation that is over says nothing any more");
}

#[test]
fn conversations_that_fail_are_tried_less_and_less_often() {
    let mut test = Test::new();
    let mut waits = Vec::new();
    for _ in 0..8 {
        let Some(Action::Open(id)) = test.requests.poll_action() else { panic!("nothing is to be opened") };
        test.lose(id);
        waits.push(test.advance());
    }
    assert!(waits[0] <= 100 * MS && waits[2] > waits[0] && waits[7] >= 2500 * MS, "{waits:?}");
    assert!(waits.iter().all(|wait| *wait <= 5000 * MS), "{waits:?}");
    let id = test.opened(Some(Wire::Tidings));
    let request = test.request("x");
    let seen = test.seen_one();
    test.answer(&seen, "y");
    test.reply(request);
    test.lose(id);
    assert!(test.advance() <= 100 * MS, "after a good conversation the wait is short again");
}

#[test]
fn a_broker_that_takes_us_and_drops_us_is_not_asked_in_a_hurry() {
    let mut test = Test::new();
    let mut waits = Vec::new();
    for _ in 0..8 {
        let id = test.opened(Some(Wire::Tidings));
        test.lose(id);
        waits.push(test.advance());
    }
    assert!(waits[7] >= 2500 * MS, "{waits:?}");
}

#[test]
fn a_refused_connection_fails_requests_at_once() {
    let mut test = Test::new();
    let id = test.request("x");
    let Some(Action::Open(conversation)) = test.requests.poll_action() else { panic!("nothing is to be opened") };
    test.requests.handle_lost(test.clock.now(), conversation, &Loss::Refused("wrong key".into()));
    assert_eq!(test.error(id).to_string(), "the broker can't be used: wrong key");
    let error = test.request_with("y", |_| ()).unwrap_err();
    assert!(matches!(error, RequestError::Unreachable { .. }), "{error}");
    test.requests.poll_action();
    let wait = test.advance();
    assert!((30_000 * MS..=60_000 * MS).contains(&wait), "{wait:?}");
    test.opened(Some(Wire::Tidings));
    test.request("z");
    assert_eq!(test.seen().len(), 1, "once it lets us in all is well");
}

#[test]
fn no_more_are_under_way_than_may_be() {
    let (mut test, _) = Test::open(Some(Wire::Tidings), RequestsConfig { max_in_flight: 2, ..Default::default() });
    let first = test.request("a");
    test.request("b");
    let error = test.request_with("c", |_| ()).unwrap_err();
    assert!(matches!(error, RequestError::TooManyInFlight { most: 2 }), "{error}");
    let seen = test.seen();
    test.answer(&seen[0], "A");
    test.reply(first);
    test.request("d");
}

#[test]
fn a_key_has_1_to_255_octets() {
    let (mut test, _) = Test::ours();
    for octets in [0, 256] {
        let error = test.request_with("x", |options| options.key = Some(vec![b'k'; octets].into())).unwrap_err();
        assert!(matches!(error, RequestError::Key { octets: said } if said == octets), "{error}");
    }
    test.request_with("x", |options| options.key = Some(vec![b'k'; 255].into())).unwrap();
    assert_eq!(test.seen_one().options.key.unwrap().len(), 255);
}

#[test]
fn parts_come_one_by_one_and_before_the_last() {
    let (mut test, _) = Test::ours();
    let id = test.request("x");
    let seen = test.seen_one();
    test.part(&seen, "1");
    assert_eq!(test.requests.poll_news(), Some(id));
    assert_eq!(test.requests.take_part(id).unwrap()[0], "1");
    test.part(&seen, "2");
    test.answer(&seen, "3");
    assert_eq!(test.requests.poll_news(), Some(id));
    assert_eq!(test.requests.poll_news(), None, "one wake-up for both");
    let outcome = test.requests.take_outcome(id).unwrap();
    assert_eq!((outcome.parts.len(), &outcome.result.unwrap()[0][..]), (1, &b"3"[..]));
}

#[test]
fn parts_that_nobody_takes_end_the_request() {
    let (mut test, _) = Test::open(Some(Wire::Tidings), RequestsConfig { max_parts: 2, ..Default::default() });
    let id = test.request("x");
    let seen = test.seen_one();
    ["1", "2", "3"].iter().for_each(|part| test.part(&seen, part));
    assert!(matches!(test.error(id), RequestError::TooManyParts { parts: 2, octets: 3 }));
    assert_eq!(test.cancels(), [seen.id]);
    let (mut test, _) = Test::open(Some(Wire::Tidings), RequestsConfig { max_part_octets: 1, ..Default::default() });
    let id = test.request("x");
    let seen = test.seen_one();
    ["1", "2"].iter().for_each(|part| test.part(&seen, part));
    assert!(matches!(test.error(id), RequestError::TooManyParts { parts: 1, octets: 2 }));
}

#[test]
fn parts_come_anew_with_a_repeated_request_unless_one_was_taken() {
    let (mut test, conversation) = Test::ours();
    let [fresh, begun] = ["a", "b"].map(|body| test.request(body));
    let seen = test.seen();
    test.part(&seen[0], "1");
    test.part(&seen[1], "1");
    test.requests.take_part(begun);
    test.lose(conversation);
    assert!(matches!(test.error(begun), RequestError::ConnectionLost));
    test.advance();
    test.opened(Some(Wire::Tidings));
    let seen = test.seen_one();
    test.part(&seen, "1");
    test.answer(&seen, "2");
    assert_eq!(test.requests.take_outcome(fresh).unwrap().parts.len(), 1);
}

#[test]
fn without_numbers_a_conversation_has_one_request_at_a_time() {
    let (mut test, first) = Test::open(None, RequestsConfig { max_conversations: 2, ..Default::default() });
    let ids = ["a", "b", "c"].map(|body| test.request(body));
    let seen = test.seen_one();
    assert_eq!((seen.conversation, seen.wire), (first, Wire::Mdp01));
    let second = test.opened(None);
    let other = test.seen_one();
    assert_eq!(other.conversation, second);
    assert_eq!(test.requests.poll_action(), None, "two conversations are the most");
    test.answer(&other, "B");
    assert_eq!(test.reply(ids[1]), "B");
    let third = test.seen_one();
    assert_eq!((third.conversation, &third.body[0][..]), (second, &b"c"[..]));
    test.answer(&third, "C");
    test.answer(&seen, "A");
    assert_eq!((test.reply(ids[0]), test.reply(ids[2])), ("A".into(), "C".into()));
}

#[test]
fn without_numbers_who_gives_up_begins_a_new_conversation() {
    let (mut test, first) = Test::open(None, RequestsConfig { max_conversations: 1, ..Default::default() });
    let [given_up, next] = ["a", "b"].map(|body| test.request(body));
    let seen = test.seen_one();
    test.requests.cancel(test.clock.now(), given_up);
    assert_eq!(test.requests.poll_action(), Some(Action::Close(first)));
    test.opened(None);
    let second = test.seen_one();
    // The old request's answer must not pass for the new one's
    test.answer(&seen, "A");
    assert!(test.result(next).is_none());
    test.answer(&second, "B");
    assert_eq!(test.reply(next), "B");
    let timed_out = test.request("c");
    let third = test.seen_one();
    test.advance();
    assert!(matches!(test.error(timed_out), RequestError::DeadlinePassed { sent: true, .. }));
    assert_eq!(test.requests.poll_action(), Some(Action::Close(third.conversation)));
    assert!(matches!(test.requests.poll_action(), Some(Action::Open(_))));
}

#[test]
fn a_reply_of_another_service_is_not_taken() {
    let (mut test, conversation) = Test::open(None, RequestsConfig::default());
    let id = test.request("a");
    test.seen_one();
    let stray = Frames::multipart(["", "MDPC01", "other", "x"]);
    test.requests.handle_message(test.clock.now(), conversation, stray);
    assert!(test.result(id).is_none());
    assert_eq!(test.requests.counts().late_replies, 1);
}

#[test]
fn what_can_t_be_read_is_counted() {
    let (mut test, conversation) = Test::ours();
    for nonsense in ["", "MDPC02", "MDPCT1"] {
        test.requests.handle_message(test.clock.now(), conversation, nonsense.into());
    }
    assert_eq!(test.requests.counts().malformed, 3);
}

#[test]
fn spare_conversations_are_not_begun_anew_for_nothing() {
    let (mut test, first) = Test::open(None, RequestsConfig { max_conversations: 4, ..Default::default() });
    let ids = ["a", "b"].map(|body| test.request(body));
    let second = test.opened(None);
    assert_eq!(test.seen().len(), 2);
    test.lose(second);
    test.lose(first);
    test.advance();
    let again = test.opened(None);
    let seen = test.seen_one();
    assert_eq!(seen.conversation, again);
    test.answer(&seen, "A");
    assert_eq!(test.reply(ids[0]), "A");
}

#[test]
fn closing_ends_everything() {
    let (mut test, conversation) = Test::ours();
    let id = test.request("x");
    let seen = test.seen_one();
    test.requests.close();
    assert!(matches!(test.error(id), RequestError::Closed));
    assert_eq!(test.cancels(), [seen.id]);
    assert_eq!(test.requests.poll_action(), Some(Action::Close(conversation)));
    assert!(matches!(test.request_with("y", |_| ()), Err(RequestError::Closed)));
    assert_eq!(test.requests.poll_timeout(), None);
}

#[test]
fn a_place_used_again_is_another_request() {
    let (mut test, _) = Test::ours();
    let first = test.request("a");
    let old = test.seen_one();
    test.requests.cancel(test.clock.now(), first);
    test.cancels();
    let second = test.request("b");
    assert_eq!(first.index(), second.index());
    test.answer(&old, "A");
    assert!(test.result(second).is_none() && test.result(first).is_none());
    let seen = test.seen_one();
    test.answer(&seen, "B");
    assert_eq!(test.reply(second), "B");
}

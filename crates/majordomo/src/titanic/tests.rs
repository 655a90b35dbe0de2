//! Titanic beside a broker without sockets: a real store under a clock that stands, and workers of our own wire.

use std::collections::HashMap;
use std::sync::Arc;

use tempfile::TempDir;
use tidings_store::{Backoff, Durability, EntryKey, ManualClock, State, StoreOptions, Timestamp};

use super::*;
use crate::broker::{BrokerConfig, Transmit};
use crate::wire::{ClientCommand, ClientReply, ReadyOptions, Wire, WorkerCommand, WorkerOrder};

struct Stage {
    broker: Broker,
    titanic: Titanic,
    now: Instant,
    clock: ManualClock,
    config: TitanicConfig,
    options: StoreOptions,
    directory: TempDir,
    replies: HashMap<LocalRequestId, Local>,
    orders: VecDeque<(PeerKey, Bytes, Body)>,
    /// What clients of our wire were answered
    answers: Vec<(PeerKey, String)>,
    next_peer: u64,
}

fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn name(service: &str) -> ServiceName {
    ServiceName::new(Bytes::copy_from_slice(service.as_bytes())).unwrap()
}

fn frames(texts: &[&str]) -> Body {
    texts.iter().map(|text| Bytes::copy_from_slice(text.as_bytes())).collect()
}

fn said(body: &Body) -> String {
    body.iter().map(|frame| String::from_utf8_lossy(frame)).collect::<Vec<_>>().join("|")
}

impl Stage {
    async fn new() -> Self {
        let backoff = Backoff { first: secs(1), longest: secs(60) };
        Self::with(TitanicConfig::default(), StoreOptions::default().backoff(backoff).max_attempts(3)).await
    }

    async fn with(config: TitanicConfig, options: StoreOptions) -> Self {
        let options = options.durability(Durability::Memory);
        let (directory, clock) = (tempfile::tempdir().unwrap(), ManualClock::new(Timestamp::from_millis(1 << 40)));
        let now = Instant::now();
        let (broker, titanic) = begin(&directory, &clock, &config, &options, now);
        let (replies, orders) = (HashMap::new(), VecDeque::new());
        let answers = Vec::new();
        let mut stage =
            Self { broker, titanic, now, clock, config, options, directory, replies, orders, answers, next_peer: 1 };
        stage.settle().await;
        stage
    }

    /// The process ends without a word, and another begins
    async fn restart(&mut self) {
        self.titanic.store.close();
        (self.broker, self.titanic) = begin(&self.directory, &self.clock, &self.config, &self.options, self.now);
        self.orders.clear();
        self.replies.clear();
        self.settle().await;
    }

    /// Until nothing happens any more but by time
    async fn settle(&mut self) {
        loop {
            while let Some(local) = self.broker.poll_local() {
                let Some(other) = self.titanic.handle_local(&mut self.broker, self.now, local) else { continue };
                if let Local::Final { request, .. } | Local::Refused { request, .. } = &other {
                    self.replies.insert(*request, other);
                }
            }
            while let Some(Transmit { to, message, .. }) = self.broker.poll_transmit() {
                if let Ok(WorkerOrder::Request { token, body, .. }) =
                    WorkerOrder::decode(message.clone(), Wire::Tidings)
                {
                    self.orders.push_back((to, token, body));
                } else if let Ok(ClientReply::Final { body, .. }) = ClientReply::decode(message, Wire::Tidings) {
                    self.answers.push((to, said(&body)));
                }
            }
            if self.titanic.pending == 0 {
                return;
            }
            let outcome = self.titanic.outcome().await;
            self.titanic.handle_outcome(&mut self.broker, self.now, outcome);
        }
    }

    async fn pass(&mut self, time: Duration) {
        let until = self.now + time;
        loop {
            let next = [self.broker.poll_timeout(), self.titanic.poll_timeout()].into_iter().flatten().min();
            let next = next.unwrap_or(until).clamp(self.now, until);
            self.clock.advance(next - self.now);
            self.now = next;
            for peer in 1..self.next_peer {
                // Workers live
                self.say(PeerKey(peer), WorkerCommand::Heartbeat);
            }
            self.broker.handle_timeout(self.now);
            self.titanic.handle_timeout(&mut self.broker, self.now);
            self.settle().await;
            if self.now >= until {
                return;
            }
        }
    }

    fn say(&mut self, peer: PeerKey, command: WorkerCommand) {
        self.broker.handle_message(self.now, peer, command.encode(Wire::Tidings).unwrap());
    }

    async fn worker(&mut self, service: &str, concurrency: u32) -> PeerKey {
        let peer = PeerKey(self.next_peer);
        self.next_peer += 1;
        self.say(
            peer,
            WorkerCommand::Ready { service: name(service), options: ReadyOptions { concurrency, heartbeat: None } },
        );
        self.settle().await;
        peer
    }

    async fn ask(&mut self, service: &str, options: RequestOptions, body: Body) -> Local {
        let request = self.broker.local_request(self.now, &name(service), options, body);
        self.settle().await;
        self.replies.remove(&request).expect("an answer")
    }

    async fn call(&mut self, service: &str, body: &[&str]) -> String {
        match self.ask(service, RequestOptions::default(), frames(body)).await {
            Local::Final { body, .. } => said(&body),
            other => panic!("{other:?}"),
        }
    }

    async fn submit(&mut self, body: &[&str]) -> String {
        let answer = self.call(REQUEST, body).await;
        let id = answer.strip_prefix("200|").unwrap_or_else(|| panic!("{answer}"));
        id.to_owned()
    }

    async fn reply(&mut self, id: &str) -> String {
        self.call(REPLY, &[id]).await
    }

    /// What a worker was given last, first come first
    fn order(&mut self) -> Option<(PeerKey, Bytes, String)> {
        self.orders.pop_front().map(|(peer, token, body)| (peer, token, said(&body)))
    }

    async fn answer(&mut self, peer: PeerKey, token: Bytes, body: &[&str]) {
        self.say(peer, WorkerCommand::Final { token, body: frames(body) });
        self.settle().await;
    }

    async fn refuse(&mut self, peer: PeerKey, token: Bytes, status: u16, text: &'static str) {
        let status = Status::new(status).unwrap();
        self.say(peer, WorkerCommand::Refused { token, status, text: text.into() });
        self.settle().await;
    }
}

fn begin(
    directory: &TempDir,
    clock: &ManualClock,
    config: &TitanicConfig,
    options: &StoreOptions,
    now: Instant,
) -> (Broker, Titanic) {
    let store = Store::open_with(directory.path(), options.clone(), Arc::new(clock.clone())).unwrap();
    let mut broker = Broker::new(BrokerConfig::default(), 7, now);
    let mut titanic = Titanic::new(store, config.clone());
    assert!(titanic.attach(&mut broker, now));
    (broker, titanic)
}

#[tokio::test]
async fn a_request_is_stored_executed_answered_and_closed() {
    let mut stage = Stage::new().await;
    let id = stage.submit(&["echo", "hello", "world"]).await;
    assert_eq!(id.len(), 32);
    assert!(stage.reply(&id).await.starts_with("300"));
    let worker = stage.worker("echo", 1).await;
    let (peer, token, body) = stage.order().unwrap();
    assert_eq!((peer, body.as_str()), (worker, "hello|world"));
    assert!(stage.reply(&id).await.starts_with("300 attempt 1"));
    stage.answer(worker, token, &["HELLO", "WORLD"]).await;
    // As often as wanted, and in either case
    assert_eq!(stage.reply(&id).await, "200|HELLO|WORLD");
    assert_eq!(stage.reply(&id.to_lowercase()).await, "200|HELLO|WORLD");
    assert_eq!(stage.call(CLOSE, &[&id]).await, "200");
    assert_eq!(stage.call(CLOSE, &[&id]).await, "200");
    assert!(stage.reply(&id).await.starts_with("400"));
    let stats = stage.titanic.stats();
    assert_eq!((stats.stored, stats.attempts, stats.completed, stats.closed), (1, 1, 1, 1));
}

#[tokio::test]
async fn a_key_makes_it_the_same_request() {
    let mut stage = Stage::new().await;
    let keyed = || RequestOptions { key: Some(Bytes::from("k")), ..RequestOptions::default() };
    let mut ids = Vec::new();
    for round in 0..3 {
        match stage.ask(REQUEST, keyed(), frames(&["echo", "x"])).await {
            Local::Final { body, .. } => ids.push(said(&body)),
            other => panic!("{other:?}"),
        }
        // The broker's memory of keys is short, the store's is not
        stage.pass(secs(400)).await;
        if round == 1 {
            stage.restart().await;
        }
    }
    assert!(ids[0].starts_with("200|") && ids.iter().all(|id| *id == ids[0]), "{ids:?}");
    match stage.ask(REQUEST, keyed(), frames(&["echo", "y"])).await {
        Local::Final { body, .. } => assert_no_id(&said(&body)),
        Local::Refused { status, .. } => assert_eq!(status, Status::KEY_IN_USE),
        other => panic!("{other:?}"),
    }
    stage.worker("echo", 9).await;
    assert!(stage.order().is_some() && stage.order().is_none());
}

fn assert_no_id(said: &str) {
    assert!(said.starts_with("400 the key"), "{said}");
    assert!(said.split_whitespace().all(|word| answer::read_id(word.as_bytes()).is_none()), "{said}");
}

#[tokio::test]
async fn a_key_is_its_principals_own() {
    let mut stage = Stage::new().await;
    let (anna, bert) = (PeerKey(901), PeerKey(902));
    stage.broker.identify(anna, Bytes::from("user:anna"));
    stage.broker.identify(bert, Bytes::from("user:bert"));
    let mut ids = Vec::new();
    for (number, client) in [anna, bert, anna].into_iter().enumerate() {
        let options = RequestOptions { key: Some(Bytes::from("k")), ..RequestOptions::default() };
        let service = name(REQUEST);
        let command = ClientCommand::Request { id: number as u64, service, options, body: frames(&["echo", "x"]) };
        stage.broker.handle_message(stage.now, client, command.encode(Wire::Tidings).unwrap());
        stage.settle().await;
        let (to, said) = stage.answers.pop().unwrap();
        assert_eq!(to, client);
        ids.push(said);
        // Until the broker's own memory of keys is over
        stage.pass(secs(400)).await;
    }
    assert!(ids[0].starts_with("200|") && ids[0] != ids[1] && ids[0] == ids[2], "{ids:?}");
}

#[tokio::test]
async fn nothing_is_done_for_a_service_without_workers() {
    let mut stage = Stage::new().await;
    let id = stage.submit(&["echo", "x"]).await;
    let before = stage.titanic.store.stats().await.unwrap().operations;
    stage.pass(secs(30)).await;
    let operations = stage.titanic.store.stats().await.unwrap().operations - before;
    assert!(operations <= 1, "{operations} operations while nothing could be done");
    assert_eq!(stage.titanic.stats().attempts, 0);
    stage.worker("echo", 1).await;
    assert!(stage.order().is_some(), "a worker's coming is told");
    assert!(stage.reply(&id).await.starts_with("300"));
}

#[tokio::test]
async fn workers_are_given_no_more_than_they_take_at_once() {
    let mut stage = Stage::new().await;
    let mut ids = Vec::new();
    for number in 0..7 {
        ids.push(stage.submit(&["echo", &number.to_string()]).await);
    }
    let (one, two) = (stage.worker("echo", 2).await, stage.worker("echo", 1).await);
    let mut held: Vec<_> = std::iter::from_fn(|| stage.order()).collect();
    assert_eq!(held.len(), 3);
    let mut most = 3;
    for _ in 0..7 {
        let (peer, token, body) = held.remove(0);
        assert!(peer == one || peer == two);
        stage.answer(peer, token, &[&format!("did {body}")]).await;
        held.extend(std::iter::from_fn(|| stage.order()));
        most = most.max(held.len());
    }
    assert!(most <= 3 && held.is_empty());
    for (number, id) in ids.iter().enumerate() {
        assert_eq!(stage.reply(id).await, format!("200|did {number}"));
    }
    // Nothing is left of the service's runner once the last lease would have ended
    stage.pass(secs(200)).await;
    assert!(stage.titanic.runners.is_empty() && stage.titanic.timers.is_empty());
}

#[tokio::test]
async fn what_fails_is_tried_again_later_and_given_up_in_the_end() {
    let mut stage = Stage::new().await;
    let worker = stage.worker("echo", 1).await;
    let id = stage.submit(&["echo", "x"]).await;
    for wait in [1, 2] {
        let (peer, token, _) = stage.order().unwrap();
        assert_eq!(peer, worker);
        stage.refuse(peer, token, 500, "no luck").await;
        assert!(stage.order().is_none());
        stage.pass(secs(wait) - Duration::from_millis(1)).await;
        assert!(stage.order().is_none());
        stage.pass(Duration::from_millis(2)).await;
    }
    let (peer, token, _) = stage.order().unwrap();
    stage.refuse(peer, token, 500, "no luck at all").await;
    let said = stage.reply(&id).await;
    assert!(said.starts_with("500 a dead letter") && said.contains("no luck at all"), "{said}");
    stage.pass(secs(1000)).await;
    assert!(stage.order().is_none());
    // An operator puts it back
    let inspector = stage.titanic.store.inspect().unwrap();
    assert_eq!(inspector.requeue(b"echo", |_| {}).unwrap(), 1);
    let outside = stage.titanic.outcome().await;
    stage.titanic.handle_outcome(&mut stage.broker, stage.now, outside);
    stage.settle().await;
    let (peer, token, _) = stage.order().unwrap();
    stage.answer(peer, token, &["at last"]).await;
    assert_eq!(stage.reply(&id).await, "200|at last");
}

#[tokio::test]
async fn what_a_worker_refuses_counts_whatever_its_status() {
    let mut stage = Stage::new().await;
    stage.worker("echo", 1).await;
    for status in [404, 422, 499] {
        let id = stage.submit(&["echo", "x"]).await;
        let (peer, token, _) = stage.order().unwrap();
        stage.refuse(peer, token, status, "nonsense").await;
        let said = stage.reply(&id).await;
        assert!(said.starts_with("500 a dead letter") && said.contains(&status.to_string()), "{said}");
        stage.pass(secs(1000)).await;
        assert!(stage.order().is_none());
    }
    for status in [429, 500, 503, 504] {
        let id = stage.submit(&["echo", "x"]).await;
        for _ in 0..3 {
            let (peer, token, _) = stage.order().unwrap();
            stage.refuse(peer, token, status, "not now").await;
            stage.pass(secs(4)).await;
        }
        let said = stage.reply(&id).await;
        assert!(said.starts_with("500 a dead letter") && said.contains("not now"), "{said}");
        stage.pass(secs(1000)).await;
        assert!(stage.order().is_none());
    }
}

#[tokio::test]
async fn what_the_broker_could_not_do_yet_costs_no_attempt() {
    let config = TitanicConfig::default().time_limit(Some(secs(10)));
    let mut stage = Stage::with(config, StoreOptions::default().max_attempts(2)).await;
    let worker = stage.worker("echo", 1).await;
    // Somebody else keeps the worker busy, who is in no hurry
    let patient = RequestOptions { deadline: Some(secs(1000)), ..RequestOptions::default() };
    stage.broker.local_request(stage.now, &name("echo"), patient, frames(&["long"]));
    stage.settle().await;
    let (_, busy, body) = stage.order().unwrap();
    assert_eq!(body, "long");
    let id = stage.submit(&["echo", "x"]).await;
    stage.pass(secs(100)).await;
    assert!(stage.order().is_none());
    stage.answer(worker, busy, &["done"]).await;
    stage.pass(secs(2)).await;
    let (peer, token, body) = stage.order().unwrap();
    assert_eq!(body, "x");
    stage.answer(peer, token, &["after all"]).await;
    assert_eq!(stage.reply(&id).await, "200|after all");
}

#[tokio::test]
async fn a_classic_worker_may_be_mute_while_it_works() {
    let mut stage = Stage::new().await;
    let id = stage.submit(&["echo", "x"]).await;
    let mute = PeerKey(1000);
    let ready =
        WorkerCommand::Ready { service: name("echo"), options: ReadyOptions { concurrency: 1, heartbeat: None } };
    stage.broker.handle_message(stage.now, mute, ready.encode(Wire::Mdp01).unwrap());
    let mut token = None;
    while stage.titanic.stats().attempts == 0 || token.is_none() {
        while let Some(local) = stage.broker.poll_local() {
            stage.titanic.handle_local(&mut stage.broker, stage.now, local);
        }
        while let Some(Transmit { message, .. }) = stage.broker.poll_transmit() {
            if let Ok(WorkerOrder::Request { token: given, .. }) = WorkerOrder::decode(message, Wire::Mdp01) {
                token = Some(given);
            }
        }
        if stage.titanic.pending > 0 {
            let outcome = stage.titanic.outcome().await;
            stage.titanic.handle_outcome(&mut stage.broker, stage.now, outcome);
        }
    }
    stage.pass(secs(3000)).await;
    assert_eq!(stage.titanic.stats().attempts, 1);
    let done = WorkerCommand::Final { token: token.unwrap(), body: frames(&["at last"]) };
    stage.broker.handle_message(stage.now, mute, done.encode(Wire::Mdp01).unwrap());
    stage.settle().await;
    assert_eq!(stage.reply(&id).await, "200|at last");
}

#[tokio::test]
async fn a_result_that_can_not_be_kept_yet_waits_and_the_work_is_not_done_again() {
    let mut stage = Stage::with(TitanicConfig::default(), StoreOptions::default().max_octets(1000)).await;
    let others = [stage.submit(&["other", "1"]).await, stage.submit(&["other", "2"]).await];
    let id = stage.submit(&["echo", "x"]).await;
    stage.worker("echo", 1).await;
    let (peer, token, _) = stage.order().unwrap();
    let result = "y".repeat(700);
    stage.answer(peer, token, &[&result]).await;
    assert!(!stage.titanic.is_idle());
    stage.pass(secs(200)).await;
    assert!(stage.order().is_none() && stage.titanic.stats().attempts == 1);
    assert!(stage.reply(&id).await.starts_with("300 attempt 1"));
    for other in &others {
        stage.call(CLOSE, &[other]).await;
    }
    stage.pass(secs(2)).await;
    assert_eq!(stage.reply(&id).await, format!("200|{result}"));
    assert!(stage.titanic.is_idle() && stage.order().is_none());
    assert_eq!((stage.titanic.unkept.len(), stage.titanic.unkept_octets), (0, 0));
    // Whoever closes it wants no result
    stage.call(CLOSE, &[&id]).await;
    let id = stage.submit(&["echo", "x"]).await;
    let (peer, token, _) = stage.order().unwrap();
    stage.answer(peer, token, &[&"y".repeat(1200)]).await;
    assert_eq!(stage.titanic.unkept.len(), 1);
    stage.call(CLOSE, &[&id]).await;
    assert!(stage.titanic.unkept.is_empty() && stage.titanic.unkept_octets == 0);
}

#[tokio::test]
async fn a_request_whose_worker_dies_goes_to_another() {
    let mut stage = Stage::new().await;
    let first = stage.worker("echo", 1).await;
    let id = stage.submit(&["echo", "x"]).await;
    assert_eq!(stage.order().unwrap().0, first);
    stage.broker.handle_gone(stage.now, first);
    stage.settle().await;
    let second = stage.worker("echo", 1).await;
    stage.pass(secs(2)).await;
    let (peer, token, body) = stage.order().unwrap();
    assert_eq!((peer, body.as_str()), (second, "x"));
    stage.answer(second, token, &["done"]).await;
    assert_eq!(stage.reply(&id).await, "200|done");
}

#[tokio::test]
async fn after_a_restart_all_goes_on() {
    let mut stage = Stage::new().await;
    let (done, held, waiting) =
        (stage.submit(&["echo", "1"]).await, stage.submit(&["echo", "2"]).await, stage.submit(&["other", "3"]).await);
    stage.worker("echo", 1).await;
    let (peer, token, _) = stage.order().unwrap();
    stage.answer(peer, token, &["one"]).await;
    assert_eq!(stage.order().unwrap().2, "2");
    stage.restart().await;
    assert_eq!(stage.reply(&done).await, "200|one");
    assert!(stage.reply(&held).await.starts_with("300") && stage.reply(&waiting).await.starts_with("300"));
    for service in ["other", "echo"] {
        stage.worker(service, 1).await;
        let (peer, token, body) = stage.order().unwrap();
        stage.answer(peer, token, &[&format!("{body} after all")]).await;
    }
    assert_eq!(stage.reply(&held).await, "200|2 after all");
    assert_eq!(stage.reply(&waiting).await, "200|3 after all");
    assert_eq!(stage.reply(&done).await, "200|one");
}

#[tokio::test]
async fn what_takes_too_long_is_taken_back_and_its_late_reply_is_nobodys() {
    let config = TitanicConfig::default().time_limit(Some(secs(100))).lease(secs(30));
    let mut stage = Stage::with(config, StoreOptions::default()).await;
    stage.worker("echo", 9).await;
    let id = stage.submit(&["echo", "x"]).await;
    let (peer, token, _) = stage.order().unwrap();
    // The lease is extended meanwhile
    stage.pass(secs(95)).await;
    assert!(stage.order().is_none());
    stage.pass(secs(20)).await;
    let (again, second, _) = stage.order().unwrap();
    stage.answer(again, second, &["second"]).await;
    stage.answer(peer, token, &["first"]).await;
    assert_eq!(stage.reply(&id).await, "200|second");
}

#[tokio::test]
async fn parts_of_a_reply_are_kept_in_their_order() {
    let mut stage = Stage::new().await;
    stage.worker("echo", 1).await;
    let id = stage.submit(&["echo", "x"]).await;
    let (peer, token, _) = stage.order().unwrap();
    for part in ["a", "b"] {
        stage.say(peer, WorkerCommand::Partial { token: token.clone(), body: frames(&[part]) });
    }
    stage.answer(peer, token, &["c", "d"]).await;
    assert_eq!(stage.reply(&id).await, "200|a|b|c|d");
}

#[tokio::test]
async fn a_closed_request_is_taken_back() {
    let mut stage = Stage::new().await;
    stage.worker("echo", 1).await;
    let id = stage.submit(&["echo", "x"]).await;
    let (peer, token, _) = stage.order().unwrap();
    assert_eq!(stage.call(CLOSE, &[&id]).await, "200");
    stage.answer(peer, token, &["too late"]).await;
    assert!(stage.reply(&id).await.starts_with("400"));
    assert_eq!(stage.titanic.stats().running, 0);
    assert!(stage.titanic.store.inspect().unwrap().fsck(|_| {}).unwrap().is_clean());
}

#[tokio::test]
async fn a_full_store_says_so() {
    let mut stage = Stage::with(TitanicConfig::default(), StoreOptions::default().max_octets(1000)).await;
    let first = stage.submit(&["echo", "x"]).await;
    let mut last = String::new();
    for _ in 0..9 {
        last = stage.call(REQUEST, &["echo", "x"]).await;
    }
    assert!(last.starts_with("500 the store is full"), "{last}");
    // Whoever tries again with a key must not be told by heart that there was no room once
    let keyed = || RequestOptions { key: Some(Bytes::from("k")), ..RequestOptions::default() };
    let refused = stage.ask(REQUEST, keyed(), frames(&["echo", "y"])).await;
    assert!(matches!(refused, Local::Refused { status: Status::WORKER_FAILED, .. }), "{refused:?}");
    stage.call(CLOSE, &[&first]).await;
    let stored = stage.ask(REQUEST, keyed(), frames(&["echo", "y"])).await;
    assert!(matches!(&stored, Local::Final { body, .. } if said(body).starts_with("200|")), "{stored:?}");
}

#[tokio::test]
async fn what_is_closed_while_it_is_handed_out_is_not_executed() {
    let mut stage = Stage::new().await;
    let id = stage.submit(&["echo", "x"]).await;
    let ready = ReadyOptions { concurrency: 1, heartbeat: None };
    stage.say(PeerKey(1), WorkerCommand::Ready { service: name("echo"), options: ready });
    stage.next_peer = 2;
    let locals = |stage: &mut Stage| {
        while let Some(local) = stage.broker.poll_local() {
            stage.titanic.handle_local(&mut stage.broker, stage.now, local);
        }
    };
    locals(&mut stage);
    stage.broker.local_request(stage.now, &name(CLOSE), RequestOptions::default(), frames(&[&id]));
    locals(&mut stage);
    let mut outcomes = [stage.titanic.outcome().await, stage.titanic.outcome().await];
    outcomes.sort_by_key(|outcome| matches!(outcome.0, Happened::Leased(..)));
    assert!(matches!(&outcomes[1].0, Happened::Leased(_, Ok(leased)) if leased.entries.len() == 1), "{outcomes:?}");
    for outcome in outcomes {
        stage.titanic.handle_outcome(&mut stage.broker, stage.now, outcome);
    }
    stage.settle().await;
    assert!(stage.order().is_none());
    assert!(stage.titanic.is_idle() && stage.titanic.closed.is_empty());
}

#[tokio::test]
async fn what_is_under_way_is_not_begun_again_when_its_lease_has_ended() {
    let mut stage = Stage::new().await;
    stage.worker("echo", 3).await;
    let id = stage.submit(&["echo", "x"]).await;
    let (peer, token, _) = stage.order().unwrap();
    // The store could not be reached for so long
    stage.clock.advance(secs(1000));
    let other = stage.submit(&["echo", "y"]).await;
    let (_, second, body) = stage.order().unwrap();
    assert!(body == "y" && stage.order().is_none());
    stage.answer(peer, token, &["1"]).await;
    stage.answer(peer, second, &["2"]).await;
    assert_eq!((stage.reply(&id).await, stage.reply(&other).await), ("200|1".to_owned(), "200|2".to_owned()));
    assert!(stage.titanic.is_idle() && stage.titanic.running_by_id.is_empty());
}

#[tokio::test]
async fn names_that_were_made_up_leave_room_for_services() {
    let mut stage = Stage::with(TitanicConfig::default(), StoreOptions::default().max_queues(100)).await;
    let mut answers = Vec::new();
    for number in 0..12 {
        answers.push(stage.call(REQUEST, &[&format!("made-up-{number}"), "x"]).await);
    }
    assert_eq!(answers.iter().filter(|answer| answer.starts_with("200|")).count(), 10, "{answers:?}");
    assert!(answers[11].starts_with("500 there are 10 queues") && answers[11].contains("no worker"), "{answers:?}");
    // What there is goes on, and what has a worker finds a place
    stage.submit(&["made-up-0", "again"]).await;
    stage.worker("real", 1).await;
    stage.submit(&["real", "x"]).await;
    assert_eq!(stage.order().unwrap().2, "x");
}

#[tokio::test]
async fn a_key_that_was_made_for_one_call_is_kept_for_minutes() {
    let mut stage = Stage::new().await;
    stage.worker("echo", 1).await;
    for (key, known) in [([ONCE, b"0123"].concat(), false), (b"given".to_vec(), true)] {
        let mut ids = Vec::new();
        for _ in 0..2 {
            let options = RequestOptions { key: Some(Bytes::from(key.clone())), ..RequestOptions::default() };
            let Local::Final { body, .. } = stage.ask(REQUEST, options, frames(&["echo", "x"])).await else { panic!() };
            let id = said(&body).strip_prefix("200|").unwrap().to_owned();
            if let Some((peer, token, _)) = stage.order() {
                stage.answer(peer, token, &["done"]).await;
            }
            stage.call(CLOSE, &[&id]).await;
            stage.pass(secs(1000)).await;
            ids.push(id);
        }
        assert_eq!(ids[0] == ids[1], known, "{key:?}");
    }
}

#[tokio::test]
async fn no_more_is_stored_at_once_than_there_is_room_for() {
    let mut stage = Stage::with(TitanicConfig::default().max_storing(1000), StoreOptions::default()).await;
    let body = "x".repeat(400);
    let asked: Vec<_> = (0..5)
        .map(|_| {
            let asked = frames(&["echo", &body]);
            stage.broker.local_request(stage.now, &name(REQUEST), RequestOptions::default(), asked)
        })
        .collect();
    stage.settle().await;
    let answers: Vec<String> = asked
        .iter()
        .map(|request| match stage.replies.remove(request) {
            Some(Local::Final { body, .. }) => said(&body),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(answers.iter().filter(|answer| answer.starts_with("200|")).count(), 2, "{answers:?}");
    assert!(answers[4].starts_with("500 too much"), "{answers:?}");
    assert_eq!(stage.titanic.storing, 0);
    stage.submit(&["echo", &"x".repeat(2000)]).await;
}

#[tokio::test]
async fn what_can_not_be_meant_is_refused() {
    let mut stage = Stage::new().await;
    let long = "x".repeat(256);
    for body in [&[][..], &[""], &["mmi.service", "x"], &["titanic.request", "echo"], &[&long, "x"]] {
        let answer = stage.call(REQUEST, body).await;
        assert!(answer.starts_with("400 "), "{body:?}: {answer}");
    }
    for body in [&[][..], &["x"], &["0123456789ABCDEF0123456789ABCDEZ"]] {
        for service in [REPLY, CLOSE] {
            assert!(stage.call(service, body).await.starts_with("400 "), "{service} {body:?}");
        }
    }
    let unknown = "0123456789ABCDEF0123456789ABCDEF";
    assert!(stage.reply(unknown).await.starts_with("400 unknown"));
    assert_eq!(stage.call(CLOSE, &[unknown]).await, "200");
    assert!(stage.titanic.is_idle());
}

#[tokio::test]
async fn a_client_reaches_no_service_that_it_may_not_call() {
    let mut stage = Stage::new().await;
    let may = |_: PeerKey, _: crate::broker::Access, service: &ServiceName| service.as_bytes() != b"secret";
    stage.broker.set_permit(Box::new(may));
    let client = PeerKey(99);
    for (id, service, code) in [(1, "secret", "400"), (2, "open", "200")] {
        let command = crate::wire::ClientCommand::Request {
            id,
            service: name(REQUEST),
            options: RequestOptions::default(),
            body: frames(&[service, "x"]),
        };
        stage.broker.handle_message(stage.now, client, command.encode(Wire::Tidings).unwrap());
        // As `settle`, but for what the client is sent
        let answer = loop {
            while let Some(local) = stage.broker.poll_local() {
                stage.titanic.handle_local(&mut stage.broker, stage.now, local);
            }
            if let Some(Transmit { message, .. }) = stage.broker.poll_transmit() {
                match crate::wire::ClientReply::decode(message, Wire::Tidings).unwrap() {
                    crate::wire::ClientReply::Final { body, .. } => break said(&body),
                    other => panic!("{other:?}"),
                }
            }
            let outcome = stage.titanic.outcome().await;
            stage.titanic.handle_outcome(&mut stage.broker, stage.now, outcome);
        };
        assert!(answer.starts_with(code), "{service}: {answer}");
    }
    assert!(stage.titanic.store.inspect().unwrap().queue(b"secret").unwrap().is_none());
}

#[tokio::test]
async fn what_outlives_its_use_is_not_executed() {
    let config = TitanicConfig::default().ttl(Some(secs(10)));
    let mut stage = Stage::with(config, StoreOptions::default()).await;
    let id = stage.submit(&["echo", "x"]).await;
    stage.pass(secs(11)).await;
    stage.worker("echo", 1).await;
    assert!(stage.order().is_none());
    assert!(stage.reply(&id).await.starts_with("500 a dead letter, as its lifetime ended"));
    let inspector = stage.titanic.store.inspect().unwrap();
    let id = answer::read_id(id.as_bytes()).unwrap();
    assert_eq!(inspector.entry(EntryKey::Id(id)).unwrap().unwrap().state, State::Dead);
}

#[tokio::test]
async fn it_stops_when_all_is_answered() {
    let mut stage = Stage::new().await;
    stage.worker("echo", 1).await;
    let id = stage.submit(&["echo", "x"]).await;
    let (peer, token, _) = stage.order().unwrap();
    stage.submit(&["echo", "y"]).await;
    stage.titanic.begin_stop();
    assert!(!stage.titanic.is_idle());
    stage.answer(peer, token, &["done"]).await;
    assert!(stage.order().is_none() && stage.titanic.is_idle());
    assert_eq!(stage.reply(&id).await, "200|done");
    for service in [REQUEST, REPLY, CLOSE] {
        assert!(!stage.broker.drain(stage.now, &name(service)), "they end with the broker");
    }
    stage.settle().await;
    assert!(stage.broker.has_worker(&name(REPLY)));
}

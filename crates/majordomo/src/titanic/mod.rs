//! Durable requests (RFC 9, Titanic): stored before they are acknowledged, executed when there is a worker, answered for as
//! long as somebody may ask.
//!
//! To clients it is three services, to workers a client, and it lives in the broker's process with no socket between:
//! [`Titanic`] is a local worker of `titanic.request`, `titanic.reply` and `titanic.close`, and makes local requests
//! of the services that the stored ones are for. Each of those has a queue of its name in a [`Store`].
//!
//! Like the broker it has no clock and decides without waiting: what the store answers comes as an [`Outcome`], which the
//! driver hands back. After a crash the store knows everything that was acknowledged, and all goes on.
//!
//! * `titanic.request`: service, body… → `200`, UUID. A key in the request's options makes it the same request again.
//! * `titanic.reply`: UUID → `200`, reply… | `300` not yet | `400` unknown | `500` it will have none: why. Parts of a reply come
//!   together, in their order. The first result stays; asking deletes nothing.
//! * `titanic.close`: UUID → `200`, whether it was there or not.
//!
//! What a worker refuses with a status from 400 on is a dead letter at once, but for 429; with that and one from 500 on it
//! is tried again. What the broker could not do yet (404, 429, 499, 503, and 504 before a worker had it) costs no attempt.

mod answer;
pub mod client;
mod runner;
mod serving;
pub use serving::{DurableRequests, NoRoom};
#[cfg(test)]
mod tests;

use std::collections::{BTreeSet, HashMap, HashSet, VecDeque};
use std::time::{Duration, Instant};

use bytes::Bytes;
use tidings_store::{Enqueued, Found, Leased, NewEntry, Pending, Settled, Store, StoreError, StoreStats, Uuid};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use crate::broker::{Broker, Local, LocalReply, LocalRequestId, LocalWorkerId, PeerKey};
use crate::wire::{Body, RequestOptions, ServiceName, Status};
use runner::{Finished, Runner, Running};

/// Stores requests
pub const REQUEST: &str = "titanic.request";
/// Tells what came of them
pub const REPLY: &str = "titanic.reply";
/// Forgets them
pub const CLOSE: &str = "titanic.close";

/// How stored requests are executed; every number has a default
#[derive(Clone, Debug)]
pub struct TitanicConfig {
    concurrency: u32,
    lease: Duration,
    time_limit: Option<Duration>,
    ttl: Option<Duration>,
    max_attempts: Option<u32>,
    max_storing: usize,
}

impl Default for TitanicConfig {
    fn default() -> Self {
        Self {
            concurrency: 64,
            lease: Duration::from_secs(60),
            time_limit: Some(Duration::from_secs(3600)),
            ttl: None,
            max_attempts: None,
            max_storing: 256 << 20,
        }
    }
}

impl TitanicConfig {
    /// Stored requests of one service that are under way at most (default: 64); never more than its workers take at once
    #[must_use]
    pub fn concurrency(mut self, requests: u32) -> Self {
        self.concurrency = requests.max(1);
        self
    }

    /// How long the store lends a request at a time (default: 60 s); extended while it is under way
    #[must_use]
    pub fn lease(mut self, time: Duration) -> Self {
        self.lease = time.max(Duration::from_secs(1));
        self
    }

    /// How long one attempt may take, its wait for a worker included (default: 1 h; without one, 30 days)
    ///
    /// A classic worker that is mute while it works is taken to live for so long.
    #[must_use]
    pub fn time_limit(mut self, time: Option<Duration>) -> Self {
        self.time_limit = time;
        self
    }

    /// How long a stored request is of use: without a result by then it is a dead letter (default: for ever)
    #[must_use]
    pub fn ttl(mut self, ttl: Option<Duration>) -> Self {
        self.ttl = ttl;
        self
    }

    /// Octets of requests that may be with the store at once (default: 256 MiB); what comes beyond is told to come later
    #[must_use]
    pub fn max_storing(mut self, octets: usize) -> Self {
        self.max_storing = octets;
        self
    }

    /// How often it is tried (default: the store's)
    #[must_use]
    pub fn max_attempts(mut self, attempts: Option<u32>) -> Self {
        self.max_attempts = attempts;
        self
    }
}

/// What was done since it was made
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub struct TitanicStats {
    /// Requests acknowledged as stored
    pub stored: u64,
    /// Those that had been stored before
    pub duplicates: u64,
    /// Requests that were not stored: malformed, not permitted, no room
    pub not_stored: u64,
    /// Questions for a reply that were answered with one
    pub answered: u64,
    /// Questions for a reply that is not there yet
    pub pending: u64,
    /// Questions for a reply that is unknown
    pub unknown: u64,
    /// Questions for the reply of a dead letter
    pub dead: u64,
    /// Requests that were closed
    pub closed: u64,
    /// Attempts at workers
    pub attempts: u64,
    /// Results kept
    pub completed: u64,
    /// Attempts that failed and will be repeated
    pub retried: u64,
    /// Requests that were given up
    pub given_up: u64,
    /// Results that came when there was one already, or the request was closed
    pub late: u64,
    /// Operations that the store could not do
    pub store_errors: u64,
    /// Requests under way at workers now
    pub running: u64,
}

/// The part of a broker that keeps requests on disk
pub struct Titanic {
    store: Store,
    config: TitanicConfig,
    workers: Option<Workers>,
    /// Requests of clients that have no answer yet
    owed: usize,
    /// Octets of them
    storing: usize,
    /// Requests of this turn, for the store in one go
    gathered: Vec<(Owed, ServiceName, NewEntry)>,
    gathered_octets: usize,
    is_stopping: bool,
    runners: HashMap<ServiceName, Runner>,
    /// Services to be looked at
    dirty: VecDeque<ServiceName>,
    /// Services with something due and no worker
    blocked: HashSet<ServiceName>,
    look_at_blocked: Option<Instant>,
    timers: BTreeSet<(Instant, ServiceName)>,
    running: HashMap<LocalRequestId, Running>,
    running_by_id: HashMap<Uuid, LocalRequestId>,
    /// Results that the store could not keep yet
    unkept: HashMap<Uuid, Finished>,
    unkept_octets: usize,
    look_at_unkept: Option<Instant>,
    /// Closed while a queue was asked for more: they may be in what it answers
    closed: HashSet<Uuid>,
    leasing: usize,
    next_extension: Option<Instant>,
    /// Operations of the store under way
    pending: usize,
    outcomes: UnboundedSender<Happened>,
    inbox: UnboundedReceiver<Happened>,
    stats: TitanicStats,
}

#[derive(Clone, Copy)]
struct Workers {
    request: LocalWorkerId,
    reply: LocalWorkerId,
    close: LocalWorkerId,
}

/// A request of a client that is to be answered
#[derive(Clone, Copy, Debug)]
struct Owed {
    worker: LocalWorkerId,
    token: u64,
    /// What is to be stored for it
    octets: usize,
    /// It has an idempotency key, so that the broker would repeat the answer to those who try again
    is_keyed: bool,
}

/// What the store has answered, to be handed to [`Titanic::handle_outcome`]
#[derive(Debug)]
pub struct Outcome(Happened);

#[derive(Debug)]
enum Happened {
    Stored(Vec<(Owed, ServiceName)>, Result<Vec<Result<Enqueued, StoreError>>, StoreError>),
    Found(Owed, Result<Found, StoreError>),
    Removed(Owed, Uuid, Result<Settled, StoreError>),
    Leased(ServiceName, Result<Leased, StoreError>),
    Completed(Finished, Result<Settled, StoreError>),
    /// Given back or up; true if it was given up
    Returned(ServiceName, bool, Result<Settled, StoreError>),
    Extended(Result<Settled, StoreError>),
    /// Another process has changed the store
    Outside,
    Surveyed(Result<StoreStats, StoreError>),
}

impl Titanic {
    /// Durable requests in `store`, which is for them alone
    #[must_use]
    pub fn new(store: Store, config: TitanicConfig) -> Self {
        let (outcomes, inbox) = unbounded_channel();
        Self {
            store,
            config,
            workers: None,
            owed: 0,
            storing: 0,
            gathered: Vec::new(),
            gathered_octets: 0,
            is_stopping: false,
            runners: HashMap::new(),
            dirty: VecDeque::new(),
            blocked: HashSet::new(),
            look_at_blocked: None,
            timers: BTreeSet::new(),
            running: HashMap::new(),
            running_by_id: HashMap::new(),
            unkept: HashMap::new(),
            unkept_octets: 0,
            look_at_unkept: None,
            closed: HashSet::new(),
            leasing: 0,
            next_extension: None,
            pending: 0,
            outcomes,
            inbox,
            stats: TitanicStats::default(),
        }
    }

    /// Registers its services with the broker and goes on with what the store has; `false` if the broker has no room for it
    ///
    /// Belongs in a tokio runtime, as all that follows.
    pub fn attach(&mut self, broker: &mut Broker, now: Instant) -> bool {
        let mut add = |service: &'static str| {
            let service = ServiceName::new(Bytes::from_static(service.as_bytes())).ok()?;
            broker.add_local_worker(now, &service, CONCURRENCY)
        };
        let (Some(request), Some(reply), Some(close)) = (add(REQUEST), add(REPLY), add(CLOSE)) else { return false };
        self.workers = Some(Workers { request, reply, close });
        broker.tell_workers();
        let (mut changes, outcomes) = (self.store.outside_changes(), self.outcomes.clone());
        tokio::spawn(async move {
            loop {
                tokio::select! {
                    changed = changes.changed() => {
                        if !changed || outcomes.send(Happened::Outside).is_err() {
                            return;
                        }
                    }
                    () = outcomes.closed() => return,
                }
            }
        });
        self.survey();
        true
    }

    /// Something from [`Broker::poll_local`]; hands it back if it is not for this
    pub fn handle_local(&mut self, broker: &mut Broker, now: Instant, local: Local) -> Option<Local> {
        let not_ours = self.take_local(broker, now, local);
        self.finish_turn(broker, now);
        not_ours
    }

    /// The same with more to come in this turn, which [`finish_turn`](Self::finish_turn) ends
    fn take_local(&mut self, broker: &mut Broker, now: Instant, local: Local) -> Option<Local> {
        match local {
            Local::Request { worker, token, client, options, body, .. } if self.is_ours(worker) => {
                self.owed += 1;
                let octets = body.iter().map(Bytes::len).sum();
                self.storing += octets;
                let owed = Owed { worker, token, octets, is_keyed: options.key.is_some() };
                self.handle_request(broker, now, owed, client, options, body);
            }
            // It is answered all the same: what is stored is stored
            Local::Cancel { worker, .. } if self.is_ours(worker) => {}
            Local::Ready { service } => {
                self.blocked.remove(&service);
                self.touch(&service);
            }
            Local::Partial { request, body } if self.running.contains_key(&request) => {
                self.handle_partial(request, body);
            }
            Local::Final { request, body } if self.running.contains_key(&request) => self.handle_final(request, body),
            Local::Refused { request, by, status, text } if self.running.contains_key(&request) => {
                self.handle_refused(request, by, status, &text);
            }
            other => return Some(other),
        }
        None
    }

    /// Looks after what has changed, and gives the store what came for it
    fn finish_turn(&mut self, broker: &mut Broker, now: Instant) {
        self.pump(broker, now);
        self.store_gathered();
    }

    /// Waits for the store's next answer
    ///
    /// # Cancel safety
    /// Nothing is lost by dropping the future.
    pub async fn outcome(&mut self) -> Outcome {
        match self.inbox.recv().await {
            Some(happened) => Outcome(happened),
            // It has a sender itself, so there is always one
            None => std::future::pending().await,
        }
    }

    /// The store's next answer, if it is there already
    pub fn try_outcome(&mut self) -> Option<Outcome> {
        self.inbox.try_recv().ok().map(Outcome)
    }

    /// The store has answered
    pub fn handle_outcome(&mut self, broker: &mut Broker, now: Instant, outcome: Outcome) {
        self.take_outcome(broker, now, outcome);
        self.finish_turn(broker, now);
    }

    /// The same with more to come in this turn, which [`finish_turn`](Self::finish_turn) ends
    fn take_outcome(&mut self, broker: &mut Broker, now: Instant, outcome: Outcome) {
        if !matches!(outcome.0, Happened::Outside) {
            self.pending -= 1;
        }
        match outcome.0 {
            Happened::Stored(waiting, result) => self.on_stored_many(broker, now, waiting, result),
            Happened::Found(owed, result) => self.on_found(broker, now, owed, result),
            Happened::Removed(owed, id, result) => self.on_removed(broker, now, owed, id, result),
            Happened::Leased(service, result) => self.on_leased(broker, now, &service, result),
            Happened::Completed(finished, result) => self.on_completed(now, finished, result),
            Happened::Returned(service, given_up, result) => self.on_returned(&service, given_up, result),
            Happened::Extended(result) => self.on_extended(&result),
            Happened::Outside => self.survey(),
            Happened::Surveyed(Ok(stats)) => self.on_surveyed(&stats),
            Happened::Surveyed(Err(_unreadable)) => self.stats.store_errors += 1,
        }
    }

    /// When [`handle_timeout`](Self::handle_timeout) is to be called
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        let due = self.timers.first().map(|(due, _service)| *due);
        [due, self.next_extension, self.look_at_blocked, self.look_at_unkept].into_iter().flatten().min()
    }

    /// Time has passed
    pub fn handle_timeout(&mut self, broker: &mut Broker, now: Instant) {
        while let Some((due, service)) = self.timers.first().filter(|(due, _service)| *due <= now).cloned() {
            self.timers.remove(&(due, service.clone()));
            if let Some(runner) = self.runners.get_mut(&service) {
                runner.timer = None;
            }
            self.touch(&service);
        }
        if self.look_at_blocked.is_some_and(|moment| moment <= now) {
            self.look_at_blocked = None;
            for service in std::mem::take(&mut self.blocked) {
                self.touch(&service);
            }
        }
        if self.look_at_unkept.is_some_and(|moment| moment <= now) {
            self.keep_again();
        }
        if self.next_extension.is_some_and(|moment| moment <= now) {
            self.extend(broker, now);
        }
        self.pump(broker, now);
    }

    /// Hands out nothing more; what is under way may come to its end
    pub fn begin_stop(&mut self) {
        self.is_stopping = true;
    }

    /// Whether nothing is under way: no request at a worker, no result that is not kept, no operation of the store, no client without its answer
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.running.is_empty() && self.unkept.is_empty() && self.pending == 0 && self.owed == 0
    }

    /// What was done
    #[must_use]
    pub fn stats(&self) -> TitanicStats {
        TitanicStats { running: self.running.len() as u64, ..self.stats }
    }

    /// Where it keeps its requests
    #[must_use]
    pub fn store(&self) -> &Store {
        &self.store
    }

    fn is_ours(&self, worker: LocalWorkerId) -> bool {
        self.workers.is_some_and(|workers| [workers.request, workers.reply, workers.close].contains(&worker))
    }

    fn handle_request(
        &mut self,
        broker: &mut Broker,
        now: Instant,
        owed: Owed,
        client: Option<PeerKey>,
        options: RequestOptions,
        body: Body,
    ) {
        let Some(workers) = self.workers else { return };
        if owed.worker == workers.request {
            return self.handle_store(broker, now, owed, client, options, body);
        }
        // Further frames mean nothing, RFC 9 has none
        let Some(id) = body.first().and_then(|frame| answer::read_id(frame)) else {
            self.stats.unknown += 1;
            return self.answer(broker, now, owed, answer::status(400, "this is no UUID of 32 hexadecimal digits"));
        };
        if owed.worker == workers.reply {
            self.ask(self.store.find(id), move |found| Happened::Found(owed, found));
        } else {
            self.ask(self.store.remove(id), move |settled| Happened::Removed(owed, id, settled));
        }
    }

    /// RFC 9, `titanic.request`
    fn handle_store(
        &mut self,
        broker: &mut Broker,
        now: Instant,
        owed: Owed,
        client: Option<PeerKey>,
        options: RequestOptions,
        body: Body,
    ) {
        let refuse = |titanic: &mut Self, broker: &mut Broker, text: &str| {
            titanic.stats.not_stored += 1;
            titanic.answer(broker, now, owed, answer::status(400, text));
        };
        // The broker counts no longer what it has handed out; one alone always has room
        if self.storing > self.config.max_storing.max(owed.octets) {
            self.stats.not_stored += 1;
            return self.fail(broker, now, owed, &"too much is being stored just now: try again later");
        }
        let mut frames = body.into_iter();
        let Some(Ok(service)) = frames.next().map(ServiceName::new) else {
            return refuse(self, broker, "the first frame has to be the name of a service");
        };
        let reserved = [&b"mmi."[..], b"titanic."].iter().any(|prefix| service.as_bytes().starts_with(prefix));
        if reserved {
            return refuse(self, broker, "the broker's own services answer at once: ask them directly");
        }
        // Otherwise this would be a way around the rules
        if client.is_some_and(|client| !broker.may_call(client, &service)) {
            return refuse(self, broker, "this client may not call the service");
        }
        let mut entry = NewEntry::new(frames);
        if let Some(key) = options.key {
            entry = match key.starts_with(ONCE) {
                true => entry.brief_key(key),
                false => entry.key(key_of(client.map_or(&[], |client| broker.principal_of(client)), &key)),
            };
        }
        // Names that somebody made up must not take the places of services that there are
        if !broker.has_worker(&service) {
            entry = entry.queues_for_new((self.store.max_queues() / PLACES_FOR_ABSENT).max(1));
        }
        if let Some(ttl) = self.config.ttl {
            entry = entry.ttl(ttl);
        }
        if let Some(attempts) = self.config.max_attempts {
            entry = entry.max_attempts(attempts);
        }
        self.gathered.push((owed, service, entry));
        self.gathered_octets += owed.octets;
        if self.gathered.len() >= MOST_GATHERED || self.gathered_octets >= MOST_GATHERED_OCTETS {
            self.store_gathered();
        }
    }

    /// One operation of the store for all that came in one turn: most of what each by itself costs is paid once
    fn store_gathered(&mut self) {
        if self.gathered.is_empty() {
            return;
        }
        let gathered = std::mem::take(&mut self.gathered);
        self.gathered_octets = 0;
        let mut waiting = Vec::with_capacity(gathered.len());
        let entries = gathered.into_iter().map(|(owed, service, entry)| {
            let name = service.bytes().clone();
            waiting.push((owed, service));
            (name, entry)
        });
        let stored = self.store.enqueue_many(entries);
        self.ask(stored, move |stored| Happened::Stored(waiting, stored));
    }

    fn on_stored_many(
        &mut self,
        broker: &mut Broker,
        now: Instant,
        waiting: Vec<(Owed, ServiceName)>,
        result: Result<Vec<Result<Enqueued, StoreError>>, StoreError>,
    ) {
        match result {
            Ok(outcomes) => {
                for ((owed, service), outcome) in waiting.into_iter().zip(outcomes) {
                    self.on_stored(broker, now, owed, &service, outcome);
                }
            }
            Err(error) => {
                for (owed, service) in waiting {
                    self.on_stored(broker, now, owed, &service, Err(error.clone()));
                }
            }
        }
    }

    fn on_stored(
        &mut self,
        broker: &mut Broker,
        now: Instant,
        owed: Owed,
        service: &ServiceName,
        result: Result<Enqueued, StoreError>,
    ) {
        match result {
            Ok(stored) => {
                self.stats.stored += 1;
                self.stats.duplicates += u64::from(stored.duplicate);
                self.answer(broker, now, owed, answer::with(200, [answer::write_id(stored.id)]));
                if !stored.duplicate {
                    self.on_due(service);
                }
            }
            Err(error) => {
                self.stats.not_stored += 1;
                // What won't get better by asking again, and what may
                let code = match &error {
                    StoreError::TooLarge { .. } | StoreError::Conflict { .. } | StoreError::BadName { .. } => 400,
                    _ => 500,
                };
                match code {
                    500 if matches!(error, StoreError::TooManyQueues(_)) => {
                        let what = format!("{error}, for a service that has no worker now");
                        self.fail(broker, now, owed, &what);
                    }
                    500 => self.fail(broker, now, owed, &error),
                    // Its id is all that guards the other's reply
                    _ if matches!(error, StoreError::Conflict { .. }) => {
                        let text = "the key belongs to another request of this service";
                        self.answer(broker, now, owed, answer::status(code, text));
                    }
                    _ => self.answer(broker, now, owed, answer::status(code, &error.to_string())),
                }
            }
        }
    }

    /// RFC 9, `titanic.reply`
    fn on_found(&mut self, broker: &mut Broker, now: Instant, owed: Owed, result: Result<Found, StoreError>) {
        let body = match result {
            Ok(Found::Done { result, .. }) => {
                self.stats.answered += 1;
                answer::with(200, result)
            }
            Ok(Found::Pending { attempts: 0, .. }) => {
                self.stats.pending += 1;
                answer::status(300, "it waits")
            }
            Ok(Found::Pending { attempts, note, .. }) => {
                self.stats.pending += 1;
                let failed = note.map(|note| format!(", after: {note}")).unwrap_or_default();
                answer::status(300, &format!("attempt {attempts}{failed}"))
            }
            Ok(Found::Unknown) => {
                self.stats.unknown += 1;
                answer::status(400, "unknown")
            }
            Ok(Found::Dead { cause, note, .. }) => {
                self.stats.dead += 1;
                let said = if note.is_empty() { String::new() } else { format!(": {note}") };
                answer::status(500, &format!("a dead letter, as {cause}{said}"))
            }
            Err(error) => {
                self.stats.store_errors += 1;
                answer::status(500, &error.to_string())
            }
        };
        self.answer(broker, now, owed, body);
    }

    /// RFC 9, `titanic.close`
    fn on_removed(
        &mut self,
        broker: &mut Broker,
        now: Instant,
        owed: Owed,
        id: Uuid,
        result: Result<Settled, StoreError>,
    ) {
        match result {
            Ok(settled) => {
                self.stats.closed += u64::from(settled.is_done());
                // Nobody will ask for its result
                if let Some(request) = self.running_by_id.get(&id).copied() {
                    broker.cancel_local_request(now, request);
                    self.end(request);
                }
                self.drop_unkept(id);
                if self.leasing > 0 {
                    self.closed.insert(id);
                }
                self.answer(broker, now, owed, answer::with(200, []));
            }
            Err(error) => {
                self.stats.store_errors += 1;
                self.fail(broker, now, owed, &error);
            }
        }
    }

    /// The store could not; it may be able to later, so nobody must be told so once and for all
    fn fail(&mut self, broker: &mut Broker, now: Instant, owed: Owed, error: &dyn std::fmt::Display) {
        let text = error.to_string();
        let reply = match owed.is_keyed {
            true => LocalReply::Refused { status: Status::WORKER_FAILED, text: text.into() },
            false => LocalReply::Final(answer::status(500, &text)),
        };
        self.reply(broker, now, owed, reply);
    }

    fn answer(&mut self, broker: &mut Broker, now: Instant, owed: Owed, body: Body) {
        self.reply(broker, now, owed, LocalReply::Final(body));
    }

    fn reply(&mut self, broker: &mut Broker, now: Instant, owed: Owed, reply: LocalReply) {
        broker.local_reply(now, owed.worker, owed.token, reply);
        self.storing -= owed.octets;
        self.owed -= 1;
    }

    /// Has the store do something, and its answer come as an outcome
    fn ask<T: Send + 'static>(
        &mut self,
        operation: Pending<T>,
        happened: impl FnOnce(Result<T, StoreError>) -> Happened + Send + 'static,
    ) {
        self.pending += 1;
        let outcomes = self.outcomes.clone();
        tokio::spawn(async move {
            // Nobody waits for it once the broker is gone
            let _unheard = outcomes.send(happened(operation.await));
        });
    }

    /// Looks for queues that have something, after the start and when another process was at them
    fn survey(&mut self) {
        self.ask(self.store.stats(), Happened::Surveyed);
    }
}

impl std::fmt::Debug for Titanic {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Titanic")
            .field("store", &self.store)
            .field("runners", &self.runners.len())
            .field("running", &self.running.len())
            .finish_non_exhaustive()
    }
}

/// The store's name for a client's key: clients of one principal share theirs, and nobody gets at another one's
fn key_of(principal: &[u8], key: &[u8]) -> Bytes {
    // A user id or a certificate's digest and its word are far shorter than that; one that is not shares with its like
    let principal = principal.get(..usize::from(u8::MAX)).unwrap_or(principal);
    [&[b'k', principal.len() as u8], principal, key].concat().into()
}

/// Keys that begin so were made for one call and its repetitions
const ONCE: &[u8] = b"\0once:";

/// The part of the store's queues that services without a worker may take for themselves: a tenth
const PLACES_FOR_ABSENT: u64 = 10;

/// Requests of clients that are with the store at once; more of them wait in the broker's queues, with its bounds
const CONCURRENCY: u32 = 4096;

/// Requests that the store is given in one go, so that none waits for a great many others
const MOST_GATHERED: usize = 1024;

/// Octets of them
const MOST_GATHERED_OCTETS: usize = 1 << 20;

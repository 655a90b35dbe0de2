//! Workers: answer for a service.
//!
//! A [`Worker`] runs a [`Handler`] for each request; [`Jobs`] is what it decides by.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use smallvec::SmallVec;
use tidings_socket::{Context, Endpoint, IntoEndpoint, Options, block_on};
use tidings_zmtp::Message as Frames;
use tokio::runtime;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

mod actions;
pub use actions::Actions;
mod error;
pub use error::{Failure, PartialError, ServeError};
mod handler;
pub use handler::{Handler, Request, blocking};
mod outbox;
use outbox::Outbox;
mod starting;
use starting::{Handling, Pace};
mod jobs;
pub use jobs::{CancelCause, EndReason, JobEvent, JobId, Jobs, JobsConfig, NewJob, WorkerCounts};

#[cfg(test)]
mod tests;

use crate::client::Outgoing;
use crate::conversation::{Action, Conversation, ConversationId, Loss, Party, socket_options};
use crate::wire::{ServiceName, ServiceNameError, Wire};

/// A running worker
///
/// It registers for its service with a broker, and again after every loss of the connection. Dropped, it hands back what
/// it has not answered; [`stop`](Self::stop) finishes that first.
#[derive(Debug)]
pub struct Worker {
    link: Arc<Link>,
}

/// Chooses how a worker behaves
#[derive(Debug)]
#[must_use = "a worker runs once it serves"]
pub struct WorkerBuilder {
    context: Context,
    endpoint: Result<Endpoint, ServeError>,
    config: Result<JobsConfig, ServiceNameError>,
    options: Options,
}

/// How a worker ended
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct WorkerEnd {
    /// Who wanted it
    pub reason: EndReason,
    /// Requests that handlers still had; the broker has them back, and the handlers were told
    pub abandoned: usize,
}

impl WorkerBuilder {
    /// How many requests it takes at once; brokers other than ours give it one at a time all the same. Default: 1
    pub fn concurrency(self, requests: u32) -> Self {
        self.with(|config| config.concurrency = requests)
    }

    /// The wire for brokers that don't announce ours. Default: MDP 0.1
    pub fn wire(self, wire: Wire) -> Self {
        self.with(|config| config.wire = wire)
    }

    /// How often the broker hears from it, also while its handlers work. Default: 1 s
    pub fn heartbeat_interval(self, interval: Duration) -> Self {
        self.with(|config| config.heartbeat_interval = interval)
    }

    /// How many intervals of a silent broker end a conversation. Default: 4; with brokers other than ours 10 s at least,
    /// since they have intervals of their own
    pub fn liveness(self, intervals: u32) -> Self {
        self.with(|config| config.liveness = intervals)
    }

    /// How long a broker may be silent, whatever interval and liveness say
    pub fn silence(self, silence: Duration) -> Self {
        self.with(|config| config.silence = Some(silence))
    }

    /// The first wait before a lost connection is made anew, and what it grows to; each is drawn from its upper half.
    /// Default: 100 ms and 5 s
    pub fn reconnect(self, interval: Duration, most: Duration) -> Self {
        self.with(|config| (config.retry.interval, config.retry.most) = (interval, most))
    }

    /// The wait after a refusal for who we are. Default: 60 s
    pub fn refused_retry(self, wait: Duration) -> Self {
        self.with(|config| config.retry.refused = wait)
    }

    /// The socket's options: security, heartbeats, transport, and `send_hwm`: replies and their parts wait while as many are
    /// queued. For the rest see [`ClientOptions::socket`](crate::ClientOptions::socket)
    pub fn socket(mut self, options: Options) -> Self {
        self.options = options;
        self
    }

    fn with<R>(mut self, change: impl FnOnce(&mut JobsConfig) -> R) -> Self {
        if let Ok(config) = &mut self.config {
            change(config);
        }
        self
    }

    /// Starts it; it connects in the background
    ///
    /// Handlers run on the runtime that this is called on, and without one on the context's.
    ///
    /// # Errors
    /// [`ServeError`].
    pub fn serve(self, handler: impl Handler) -> Result<Worker, ServeError> {
        let (endpoint, config) = (self.endpoint?, self.config?);
        let (handler, runtime) = (Arc::new(handler), runtime::Handle::try_current().ok());
        let context = self.context.clone();
        let spawn = move |task: Handling| match &runtime {
            Some(runtime) => drop(runtime.spawn(task)),
            None => context.spawn(task),
        };
        let start = move |requests: Vec<Request>| starting::start(&handler, requests, &spawn);
        let link = Arc::new(Link {
            service: config.service.clone(),
            state: Mutex::new(LinkState {
                jobs: Jobs::new(config, crate::random()),
                tokens: Vec::new(),
                conversation: None,
                outbox: None,
                closing: 0,
                armed: None,
                ended: None,
                loss: None,
            }),
            driver: Notify::new(),
            changed: Notify::new(),
            start: Box::new(start),
            pace: Pace::default(),
            context: self.context,
            endpoint,
            options: socket_options(self.options),
        });
        link.context.spawn(drive(Alive(link.clone())));
        Ok(Worker { link })
    }
}

impl Worker {
    /// A worker of a service at a broker, to be told how it behaves and what it does
    ///
    /// ```
    /// # use tidings_majordomo::{Failure, Request, Worker};
    /// # fn example(context: &tidings_socket::Context) -> Result<(), tidings_majordomo::ServeError> {
    /// let echo = async |request: Request| Ok::<_, Failure>(request.into_body());
    /// let worker = Worker::builder(context, "tcp://127.0.0.1:4830", "echo").concurrency(8).serve(echo)?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn builder<S>(context: &Context, endpoint: impl IntoEndpoint, service: S) -> WorkerBuilder
    where
        S: TryInto<ServiceName>,
        S::Error: Into<ServiceNameError>,
    {
        let endpoint = endpoint.into_endpoint().and_then(|endpoint| endpoint.for_connect().map(|()| endpoint));
        WorkerBuilder {
            context: context.clone(),
            endpoint: endpoint.map_err(ServeError::from),
            config: service.try_into().map(JobsConfig::new).map_err(Into::into),
            options: Options::new(),
        }
    }

    /// Waits until the broker has registered it; false if it ended first
    ///
    /// From then on the service can be called. Brokers other than ours don't answer a worker: with them it is enough that
    /// READY was said. Events of the context tell why it takes long, and [`last_loss`](Self::last_loss).
    ///
    /// # Cancel safety
    /// Safe: it only looks.
    pub async fn ready(&self) -> bool {
        self.until(|state| state.jobs.is_registered().then_some(true).or(state.ended.map(|_| false))).await
    }

    /// As [`ready`](Self::ready), for threads without a runtime
    pub fn ready_blocking(&self) -> bool {
        block_on(self.ready(), None).unwrap_or_default()
    }

    /// Takes no more, finishes what it has, and ends; at the deadline it hands back what is left
    ///
    /// Brokers other than ours may have sent one request more before they hear of it; it is lost to them.
    ///
    /// # Cancel safety
    /// It goes on finishing, without a deadline, until it is dropped.
    pub async fn stop(&self, deadline: Duration) -> WorkerEnd {
        self.drain();
        match tokio::time::timeout(deadline, self.ended()).await {
            Ok(report) => report,
            Err(_) => self.abandon().await,
        }
    }

    /// As [`stop`](Self::stop), for threads without a runtime
    pub fn stop_blocking(&self, deadline: Duration) -> WorkerEnd {
        self.drain();
        let ended = block_on(self.ended(), Some(deadline)).or_else(|| block_on(self.abandon(), None));
        ended.unwrap_or(WorkerEnd { reason: EndReason::Stopped, abandoned: 0 })
    }

    /// Takes no more and finishes what it has; [`ended`](Self::ended) tells when that is done
    pub fn drain(&self) {
        self.link.change(|state| state.jobs.stop(now()));
    }

    async fn abandon(&self) -> WorkerEnd {
        self.link.change(|state| state.jobs.abandon(now()));
        self.ended().await
    }

    /// Waits for its end, which comes when it was stopped, or when the broker has it finish and not come back
    ///
    /// What it sent last has then been handed to the system.
    ///
    /// # Cancel safety
    /// Safe: it only looks.
    pub async fn ended(&self) -> WorkerEnd {
        self.until(|state| state.ended.filter(|_| state.closing == 0 && state.conversation.is_none())).await
    }

    /// As [`ended`](Self::ended), for threads without a runtime
    pub fn ended_blocking(&self) -> WorkerEnd {
        let ended = block_on(self.ended(), None);
        ended.unwrap_or(WorkerEnd { reason: EndReason::Stopped, abandoned: 0 })
    }

    /// What it has done and has
    #[must_use]
    pub fn stats(&self) -> WorkerCounts {
        self.link.lock().jobs.counts()
    }

    /// The wire that is spoken; `None` while there is no conversation
    #[must_use]
    pub fn wire(&self) -> Option<Wire> {
        self.link.lock().jobs.wire()
    }

    /// Why the last conversation ended or did not come about
    #[must_use]
    pub fn last_loss(&self) -> Option<Loss> {
        self.link.lock().loss.clone()
    }

    async fn until<T>(&self, mut look: impl FnMut(&LinkState) -> Option<T>) -> T {
        loop {
            let changed = self.link.changed.notified();
            if let Some(seen) = look(&self.link.lock()) {
                return seen;
            }
            changed.await;
        }
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.link.change(|state| state.jobs.abandon(now()));
    }
}

/// What a worker, its handlers, its driver and its conversation share
struct Link {
    service: ServiceName,
    state: Mutex<LinkState>,
    /// Wakes the driver
    driver: Notify,
    /// A conversation began, or the worker ended
    changed: Notify,
    /// Has handlers take requests on
    start: Box<dyn Fn(Vec<Request>) + Send + Sync>,
    /// How handlers are begun
    pace: Pace,
    context: Context,
    endpoint: Endpoint,
    options: Options,
}

#[derive(Debug)]
struct LinkState {
    jobs: Jobs,
    /// By the places of jobs, for those whose handlers have asked: how they are told that nobody waits
    tokens: Vec<Option<(JobId, CancellationToken)>>,
    conversation: Option<Conversation>,
    /// What is sent in the conversation
    outbox: Option<Arc<Outbox>>,
    /// Conversations whose sockets still send
    closing: usize,
    /// When the driver wakes by itself
    armed: Option<Instant>,
    ended: Option<WorkerEnd>,
    loss: Option<Loss>,
}

/// What is to be done after a change, once the lock is free: sockets and tokens may call back
#[derive(Default)]
struct Work {
    /// There is something in it to send
    send: Option<Arc<Outbox>>,
    starts: Vec<NewJob>,
    cancelled: SmallVec<[CancellationToken; 1]>,
    is_news: bool,
    wake_driver: bool,
}

impl Link {
    fn lock(&self) -> MutexGuard<'_, LinkState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Works on the state under its lock, then does what comes of that
    fn change<R>(self: &Arc<Self>, work: impl FnOnce(&mut LinkState) -> R) -> R {
        let mut state = self.lock();
        let result = work(&mut state);
        let work = collect(&mut state);
        drop(state);
        if let Some(stuck) = self.perform(work) {
            self.context.spawn(async move { stuck.send_patiently().await });
        }
        result
    }

    /// Does it, and hands back an outbox that has to wait for room
    fn perform(self: &Arc<Self>, work: Work) -> Option<Arc<Outbox>> {
        let stuck = work.send.filter(|outbox| !outbox.send());
        work.cancelled.iter().for_each(CancellationToken::cancel);
        if !work.starts.is_empty() {
            (self.start)(work.starts.into_iter().map(|job| Request::new(job, self.clone())).collect());
        }
        if work.is_news {
            self.changed.notify_waiters();
        }
        if work.wake_driver {
            self.driver.notify_one();
        }
        stuck
    }

    /// What handlers came to; waits for room so that fast handlers don't fill the memory of a slow connection
    async fn finish(self: &Arc<Self>, done: impl IntoIterator<Item = (JobId, Result<Frames, Failure>)>) {
        let stuck = {
            let mut state = self.lock();
            let now = now();
            let mut tokens = SmallVec::<[_; 4]>::new();
            for (job, result) in done {
                state.jobs.handle_done(now, job, result.map(Frames::into_frames));
                tokens.extend(state.tokens.get_mut(job.index()).and_then(|slot| slot.take_if(|(id, _)| *id == job)));
            }
            let work = collect(&mut state);
            drop(state);
            drop(tokens);
            self.perform(work)
        };
        if let Some(stuck) = stuck {
            stuck.send_patiently().await;
        }
    }

    /// How a handler is told that nobody waits for its request; made for those who ask only
    fn token(&self, job: JobId) -> CancellationToken {
        let mut state = self.lock();
        let state = &mut *state;
        let Some(is_cancelled) = state.jobs.is_cancelled(job) else { return CancellationToken::new() };
        let index = job.index();
        if index >= state.tokens.len() {
            state.tokens.resize_with(index + 1, || None);
        }
        let Some(slot) = state.tokens.get_mut(index) else { return CancellationToken::new() };
        match slot {
            Some((id, token)) if *id == job => token.clone(),
            _ => {
                let token = CancellationToken::new();
                if is_cancelled {
                    token.cancel();
                }
                *slot = Some((job, token.clone()));
                token
            }
        }
    }

    async fn partial(self: &Arc<Self>, job: JobId, part: Frames) -> Result<(), PartialError> {
        let (socket, message) = {
            let mut state = self.lock();
            let Outgoing { conversation, message } = state.jobs.partial(now(), job, part.into_frames())?;
            let open = state.conversation.as_ref().filter(|open| open.id == conversation);
            (open.ok_or(PartialError::Gone)?.socket.clone(), message)
        };
        socket.send(message).await.map_err(|_| PartialError::Gone)
    }
}

fn collect(state: &mut LinkState) -> Work {
    let mut work = Work::default();
    let messages = std::iter::from_fn(|| state.jobs.poll_transmit());
    let open = state.conversation.as_ref().zip(state.outbox.as_ref());
    match open {
        // Under the state's lock, so that they leave in the order in which they were decided on
        Some((open, outbox)) => {
            let of_this = messages.filter(|outgoing| outgoing.conversation == open.id);
            work.send = outbox.put(of_this.map(|outgoing| outgoing.message)).then(|| outbox.clone());
        }
        None => messages.for_each(drop),
    }
    while let Some(event) = state.jobs.poll_event() {
        match event {
            JobEvent::Start(job) => work.starts.push(job),
            JobEvent::Cancel { job, cause } => {
                tracing::debug!(?cause, "a request is wanted no longer");
                let known = state.tokens.get(job.index()).and_then(Option::as_ref).filter(|(id, _)| *id == job);
                work.cancelled.extend(known.map(|(_, token)| token.clone()));
            }
            JobEvent::Ready(wire) => {
                tracing::debug!(%wire, "registered with the broker");
                work.is_news = true;
            }
            JobEvent::Lost(loss) => {
                tracing::debug!(reason = loss.name(), "conversation with the broker lost: {loss}");
                state.loss = Some(loss);
            }
            JobEvent::Ended(reason) => {
                let abandoned = state.jobs.counts().running;
                state.ended = Some(WorkerEnd { reason, abandoned });
                work.is_news = true;
            }
        }
    }
    let timeout = state.jobs.poll_timeout();
    let is_sooner = timeout.is_some_and(|timeout| state.armed.is_none_or(|armed| timeout < armed));
    work.wake_driver = is_sooner || state.jobs.has_actions() || state.jobs.has_ended();
    work
}

impl Party for Link {
    fn on_open(self: &Arc<Self>, id: ConversationId, wire: Option<Wire>) {
        self.change(|state| state.jobs.handle_open(now(), id, wire));
    }

    fn on_messages(self: &Arc<Self>, id: ConversationId, messages: &mut Vec<Frames>) {
        let now = now();
        self.change(|state| messages.drain(..).for_each(|message| state.jobs.handle_message(now, id, message)));
    }

    fn on_lost(self: &Arc<Self>, id: ConversationId, loss: Loss) {
        self.change(|state| state.jobs.handle_lost(now(), id, loss));
    }

    fn on_closed(self: &Arc<Self>, _id: ConversationId) {
        self.lock().closing -= 1;
        self.changed.notify_waiters();
    }
}

/// Ends the worker when its driver ends, also with its runtime
struct Alive(Arc<Link>);

impl Drop for Alive {
    fn drop(&mut self) {
        self.0.change(|state| state.jobs.abandon(now()));
        end_conversation(&self.0, |_| true);
    }
}

/// Timers and sockets
async fn drive(alive: Alive) {
    let link = &alive.0;
    loop {
        let (actions, armed, has_ended) = link.change(|state| {
            state.jobs.handle_timeout(now());
            let actions: Vec<Action> = std::iter::from_fn(|| state.jobs.poll_action()).collect();
            state.armed = state.jobs.poll_timeout();
            (actions, state.armed, state.jobs.has_ended())
        });
        actions.into_iter().for_each(|action| perform(link, action));
        if has_ended {
            return;
        }
        tokio::select! {
            () = link.driver.notified() => {}
            () = sleep_until(armed) => {}
        }
    }
}

fn perform(link: &Arc<Link>, action: Action) {
    match action {
        Action::Open(id) => match Conversation::new(id, &link.context, &link.options) {
            Ok(conversation) => {
                let begun = conversation.clone();
                let mut state = link.lock();
                state.outbox = Some(Arc::new(Outbox::new(conversation.clone())));
                state.conversation = Some(conversation);
                state.closing += 1;
                drop(state);
                begun.begin(link, &link.context, &link.endpoint);
            }
            Err(loss) => link.on_lost(id, loss),
        },
        Action::Close(id) => end_conversation(link, |open| open == id),
    }
}

/// Ends the conversation, if it is the one that is meant, when all that was said in it before is with its socket
fn end_conversation(link: &Link, is_meant: impl FnOnce(ConversationId) -> bool) {
    let mut state = link.lock();
    let ended = state.conversation.take_if(|open| is_meant(open.id)).and_then(|_| state.outbox.take());
    drop(state);
    if let Some(outbox) = ended {
        outbox.end();
    }
}

async fn sleep_until(time: Option<Instant>) {
    match time {
        Some(time) => tokio::time::sleep_until(time.into()).await,
        None => std::future::pending().await,
    }
}

/// The present, on the runtime's clock
fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Link").field("service", &self.service).finish_non_exhaustive()
    }
}

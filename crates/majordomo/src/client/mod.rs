//! Clients: ask a service by its name.
//!
//! [`Client`] for tasks, [`BlockingClient`] for threads without a runtime; [`Requests`] is what both decide by.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Waker;
use std::time::{Duration, Instant};

use smallvec::SmallVec;
use tidings_socket::{Context, Endpoint, IntoEndpoint, Options, SendFailure, Socket};
use tidings_zmtp::Message as Frames;
use tokio::sync::Notify;

mod blocking;
pub use blocking::BlockingClient;
mod call;
pub use call::{Call, Calling, Part, Parts, Reply};
mod error;
pub use error::{OpenError, RequestError};
mod mmi;
mod requests;
pub use requests::{ClientCounts, NewRequest, Outcome, Outgoing, RequestId, Requests, RequestsConfig};

#[cfg(test)]
mod tests;

use crate::conversation::{Action, Conversation, ConversationId, Loss, Party, socket_options};
use crate::message::Message;
use crate::wire::{ServiceName, Wire};

/// Asks services through a broker
///
/// A handle: cheap to clone, for any number of tasks at once. Requests of all clones share one connection where the broker
/// speaks our own wire; elsewhere several connections carry one request each at a time (`max_conversations`). A connection
/// that is lost is made anew, after a wait that is drawn at random, and requests that had no answer are sent again unless
/// they are [`not_repeatable`](Call::not_repeatable). When the last clone is dropped the client closes.
#[derive(Clone, Debug)]
pub struct Client {
    handle: Arc<Handle>,
}

/// How a client behaves
#[derive(Clone, Debug)]
#[must_use]
pub struct ClientOptions {
    config: RequestsConfig,
    timeout: Option<Duration>,
    socket: Options,
}

impl Default for ClientOptions {
    fn default() -> Self {
        Self { config: RequestsConfig::default(), timeout: Some(Duration::from_secs(30)), socket: Options::new() }
    }
}

impl ClientOptions {
    /// The wire for brokers that don't announce ours. Default: MDP 0.1
    pub fn wire(mut self, wire: Wire) -> Self {
        self.config.wire = wire;
        self
    }

    /// How long a request may take that says nothing else; `None` for ever. Default: 30 s
    pub fn timeout(mut self, timeout: Option<Duration>) -> Self {
        self.timeout = timeout;
        self
    }

    /// Most requests under way; one more fails at once. Default: 10,000, the most that a broker of ours takes of a client
    pub fn max_in_flight(mut self, requests: usize) -> Self {
        self.config.max_in_flight = requests;
        self
    }

    /// Most connections on wires that number no requests; each carries one request at a time. Default: 8
    pub fn max_conversations(mut self, conversations: usize) -> Self {
        self.config.max_conversations = conversations;
        self
    }

    /// Most parts of one reply that wait to be taken, and most octets of them; beyond that the request fails.
    /// Default: 10,000 and 64 MiB
    pub fn max_parts(mut self, parts: usize, octets: usize) -> Self {
        (self.config.max_parts, self.config.max_part_octets) = (parts, octets);
        self
    }

    /// The first wait before a lost connection is made anew, and what it grows to; each is drawn from its upper half.
    /// Default: 100 ms and 5 s
    pub fn reconnect(mut self, interval: Duration, most: Duration) -> Self {
        (self.config.retry.interval, self.config.retry.most) = (interval, most);
        self
    }

    /// The wait after a refusal for who we are; until then requests fail at once. Default: 60 s
    pub fn refused_retry(mut self, wait: Duration) -> Self {
        self.config.retry.refused = wait;
        self
    }

    /// The socket's options: security, heartbeats, transport
    ///
    /// What concerns reconnecting, timeouts, `send_hwm` and `linger` is the client's. Without a heartbeat of its own a
    /// connection is looked after every 2 s, and given up after 6 s of silence.
    pub fn socket(mut self, options: Options) -> Self {
        self.socket = options;
        self
    }
}

impl Client {
    /// A client that connects in the background; requests wait for the connection, as long as their time allows
    ///
    /// # Errors
    /// [`OpenError::Endpoint`].
    pub fn new(context: &Context, endpoint: impl IntoEndpoint, options: ClientOptions) -> Result<Self, OpenError> {
        let endpoint = endpoint.into_endpoint()?;
        endpoint.for_connect()?;
        let ClientOptions { config, timeout, socket } = options;
        let shared = Arc::new(Shared {
            state: Mutex::new(State {
                requests: Requests::new(config, crate::random()),
                wakers: Vec::new(),
                conversations: SmallVec::new(),
                armed: None,
                unsent: VecDeque::new(),
                is_stuck: false,
            }),
            driver: Notify::new(),
            changed: Notify::new(),
            timeout,
            context: context.clone(),
            endpoint,
            // Requests have a bound of their own
            options: socket_options(socket).send_hwm(0),
        });
        context.spawn(drive(Alive(shared.clone())));
        Ok(Self { handle: Arc::new(Handle { shared }) })
    }

    /// A client with its first conversation under way
    ///
    /// Waits for as long as `timeout` of the options says. The broker need not have the services that are going to be asked.
    ///
    /// # Errors
    /// [`OpenError`].
    ///
    /// # Cancel safety
    /// When dropped, there is no client.
    pub async fn connect(
        context: &Context,
        endpoint: impl IntoEndpoint,
        options: ClientOptions,
    ) -> Result<Self, OpenError> {
        let timeout = options.timeout;
        let client = Self::new(context, endpoint, options)?;
        match timeout {
            None => client.opened().await?,
            Some(after) => {
                let opened = tokio::time::timeout(after, client.opened()).await;
                opened.unwrap_or_else(|_| Err(client.timed_out(after)))?;
            }
        }
        Ok(client)
    }

    fn timed_out(&self, after: Duration) -> OpenError {
        OpenError::TimedOut { endpoint: self.shared().endpoint.to_string(), after }
    }

    async fn opened(&self) -> Result<(), OpenError> {
        loop {
            let changed = self.shared().changed.notified();
            {
                let state = self.shared().lock();
                if state.requests.wire().is_some() {
                    return Ok(());
                }
                if state.requests.is_closed() {
                    return Err(OpenError::Unreachable { reason: "the context or the client is closed".to_owned() });
                }
                if let Some(reason) = state.requests.refusal() {
                    return Err(OpenError::Unreachable { reason: reason.to_owned() });
                }
            }
            changed.await;
        }
    }

    /// Asks a service: await it for the [`Reply`], or set what it needs first
    ///
    /// ```no_run
    /// # use std::time::Duration;
    /// # async fn example(client: tidings_majordomo::Client) -> Result<(), tidings_majordomo::RequestError> {
    /// let reply = client.request("echo", "hello").await?;
    /// assert_eq!(reply.body.first(), b"hello");
    /// client.request("bank", "pay 7").key("payment-7341").deadline(Duration::from_secs(2)).await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// The body is what makes a message: text, octets, several frames, or an action with its data ([`Message`]). The name
    /// is text or a [`ServiceName`], which costs a little less if it is asked often.
    pub fn request<S>(&self, service: S, body: impl Into<Frames>) -> Call
    where
        S: TryInto<ServiceName>,
        S::Error: Into<RequestError>,
    {
        let timeout = self.shared().timeout;
        Call::new(self.clone(), service.try_into().map_err(Into::into), body.into(), timeout)
    }

    /// Asks a service with an action and its data, and reads its reply as such
    ///
    /// # Errors
    /// [`RequestError`]; [`RequestError::Reply`] when the reply is of another form.
    ///
    /// # Cancel safety
    /// When dropped, the request is taken back, as with [`request`](Self::request).
    pub async fn ask<S>(&self, service: S, message: &Message) -> Result<Message, RequestError>
    where
        S: TryInto<ServiceName>,
        S::Error: Into<RequestError>,
    {
        Ok(self.request(service, message).await?.message()?)
    }

    /// The wire that is spoken; `None` while there is no conversation
    #[must_use]
    pub fn wire(&self) -> Option<Wire> {
        self.shared().lock().requests.wire()
    }

    /// What it has done and holds; what the broker has is [`stats`](Self::stats)
    #[must_use]
    pub fn counts(&self) -> ClientCounts {
        self.shared().lock().requests.counts()
    }

    /// Closes it for all clones: what is under way fails with [`RequestError::Closed`], and the broker is told
    pub fn close(&self) {
        self.shared().change(|state| state.requests.close());
    }

    fn shared(&self) -> &Arc<Shared> {
        &self.handle.shared
    }
}

/// Closes the client when it is dropped
#[derive(Debug)]
struct Handle {
    shared: Arc<Shared>,
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.shared.change(|state| state.requests.close());
    }
}

/// What the clones of a client, its driver and its conversations share
#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    /// Wakes the driver
    driver: Notify,
    /// A conversation came about, or was refused
    changed: Notify,
    timeout: Option<Duration>,
    context: Context,
    endpoint: Endpoint,
    options: Options,
}

#[derive(Debug)]
struct State {
    requests: Requests,
    /// By the places of requests
    wakers: Vec<Option<Waker>>,
    conversations: SmallVec<[Conversation; 1]>,
    /// When the driver wakes by itself
    armed: Option<Instant>,
    /// What a socket had no room for, in order
    unsent: VecDeque<(Socket, Frames)>,
    /// A task waits for room
    is_stuck: bool,
}

impl State {
    fn set_waker(&mut self, id: RequestId, waker: &Waker) {
        let index = id.index();
        if index >= self.wakers.len() {
            self.wakers.resize_with(index + 1, || None);
        }
        if let Some(slot) = self.wakers.get_mut(index)
            && slot.as_ref().is_none_or(|known| !known.will_wake(waker))
        {
            *slot = Some(waker.clone());
        }
    }
}

/// What is to be done after a change, once the lock is free: sockets and wakers may call back
#[derive(Default)]
struct Work {
    sends: SmallVec<[(Socket, Frames); 1]>,
    wakers: SmallVec<[Waker; 4]>,
    wake_driver: bool,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Works on the state under its lock, then does what comes of that
    fn change<R>(self: &Arc<Self>, work: impl FnOnce(&mut State) -> R) -> R {
        let mut state = self.lock();
        let result = work(&mut state);
        let work = collect(&mut state);
        drop(state);
        self.perform(work);
        result
    }

    fn perform(self: &Arc<Self>, work: Work) {
        for (socket, message) in work.sends {
            self.send(socket, message);
        }
        work.wakers.into_iter().for_each(Waker::wake);
        if work.wake_driver {
            self.driver.notify_one();
        }
    }

    /// Sends from whoever's task this is; a task waits for room where there is none
    fn send(self: &Arc<Self>, socket: Socket, message: Frames) {
        if let Err(error) = socket.try_send(message)
            && error.reason == SendFailure::WouldBlock
        {
            let mut state = self.lock();
            state.unsent.push_back((socket, error.message));
            if !std::mem::replace(&mut state.is_stuck, true) {
                drop(state);
                self.context.spawn(send_unsent(self.clone()));
            }
        }
        // Any other failure is the conversation's end, of which its task tells
    }
}

fn collect(state: &mut State) -> Work {
    let mut work = Work::default();
    while let Some(Outgoing { conversation, message }) = state.requests.poll_transmit() {
        let Some(socket) = state.conversations.iter().find(|open| open.id == conversation) else { continue };
        let socket = socket.socket.clone();
        // Nothing may overtake what waits for room
        match state.is_stuck {
            true => state.unsent.push_back((socket, message)),
            false => work.sends.push((socket, message)),
        }
    }
    while let Some(id) = state.requests.poll_news() {
        work.wakers.extend(state.wakers.get_mut(id.index()).and_then(Option::take));
    }
    let timeout = state.requests.poll_timeout();
    let is_sooner = timeout.is_some_and(|timeout| state.armed.is_none_or(|armed| timeout < armed));
    work.wake_driver = is_sooner || state.requests.has_actions() || state.requests.is_closed();
    work
}

impl Party for Shared {
    fn on_open(self: &Arc<Self>, id: ConversationId, wire: Option<Wire>) {
        self.change(|state| state.requests.handle_open(now(), id, wire));
        self.changed.notify_waiters();
    }

    fn on_messages(self: &Arc<Self>, id: ConversationId, messages: &mut Vec<Frames>) {
        let now = now();
        self.change(|state| messages.drain(..).for_each(|message| state.requests.handle_message(now, id, message)));
    }

    fn on_lost(self: &Arc<Self>, id: ConversationId, loss: Loss) {
        tracing::debug!(endpoint = %self.endpoint, reason = loss.name(), "conversation with the broker lost: {loss}");
        self.change(|state| state.requests.handle_lost(now(), id, &loss));
        self.changed.notify_waiters();
    }

    fn on_closed(self: &Arc<Self>, _id: ConversationId) {}
}

/// Fails what is under way when the driver ends, also with its runtime
struct Alive(Arc<Shared>);

impl Drop for Alive {
    fn drop(&mut self) {
        let conversations = self.0.change(|state| {
            state.requests.close();
            std::mem::take(&mut state.conversations)
        });
        conversations.iter().for_each(Conversation::end);
        self.0.changed.notify_waiters();
    }
}

/// Timers and sockets
async fn drive(alive: Alive) {
    let shared = &alive.0;
    loop {
        let (actions, armed, is_closed) = shared.change(|state| {
            state.requests.handle_timeout(now());
            let actions: Vec<Action> = std::iter::from_fn(|| state.requests.poll_action()).collect();
            state.armed = state.requests.poll_timeout();
            (actions, state.armed, state.requests.is_closed())
        });
        actions.into_iter().for_each(|action| perform(shared, action));
        if is_closed {
            return;
        }
        tokio::select! {
            () = shared.driver.notified() => {}
            () = sleep_until(armed) => {}
        }
    }
}

fn perform(shared: &Arc<Shared>, action: Action) {
    match action {
        Action::Open(id) => match Conversation::new(id, &shared.context, &shared.options) {
            Ok(conversation) => {
                let begun = conversation.clone();
                shared.lock().conversations.push(conversation);
                begun.begin(shared, &shared.context, &shared.endpoint);
            }
            Err(loss) => shared.on_lost(id, loss),
        },
        Action::Close(id) => {
            let mut state = shared.lock();
            let place = state.conversations.iter().position(|open| open.id == id);
            let ended = place.map(|place| state.conversations.swap_remove(place));
            drop(state);
            ended.iter().for_each(Conversation::end);
        }
    }
}

/// Sends what there was no room for, in order, until nothing is left
async fn send_unsent(shared: Arc<Shared>) {
    loop {
        let next = {
            let mut state = shared.lock();
            let next = state.unsent.pop_front();
            state.is_stuck = next.is_some();
            next
        };
        let Some((socket, message)) = next else { return };
        // A failure is the conversation's end, of which its task tells
        socket.send(message).await.ok();
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

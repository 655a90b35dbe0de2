//! The dynamic socket: any type, any call; what a type doesn't do is an error value.

use std::cell::Cell;
use std::fmt;
use std::future::{Future, IntoFuture};
use std::pin::Pin;
use std::sync::atomic::Ordering;
use std::sync::{Arc, LazyLock};
use std::task::{Context as TaskContext, Poll};
use std::time::Duration;

use bytes::Bytes;
use tidings_transport::{Endpoint, EndpointError, TlsStatus};
use tidings_zmtp::{Message, SocketType};
use tokio::sync::{oneshot, watch};
use tokio_util::sync::CancellationToken;

use crate::blocking::block_on;
use crate::context::Context;
use crate::dialer::{Dialer, Outcome, Peer, idle};
use crate::error::{
    BindError, ConnectError, NotFound, NotReady, RecvError, RequestError, SendError, SendFailure, SocketError,
};
use crate::events::{ConnectionId, EventKind, EventSink, EventStream, SocketId};
use crate::inproc;
use crate::listener;
use crate::options::Options;
use crate::origin::Received;
use crate::pipe::{Control, Load};
use crate::security::{Role, Terms};
use crate::shared::{Bound, Dialed, Shared};
use crate::state::{Phase, Reporter, State};
use crate::stats::SocketStats;
use crate::udp;

/// A socket of any type
///
/// A handle: cheap to clone, and every clone may be used from any task or thread at the same time.
/// When the last one is dropped the socket closes in the background and goes on sending what is
/// queued for as long as the option `linger` says; [`close`](Self::close) waits for that and
/// reports.
#[derive(Clone, Debug)]
pub struct Socket {
    handle: Arc<Handle>,
}

/// Closes the socket when it is dropped
#[derive(Debug)]
struct Handle {
    shared: Arc<Shared>,
}

/// Something that names an endpoint: an [`Endpoint`], or the text of one
pub trait IntoEndpoint {
    /// The endpoint
    ///
    /// # Errors
    /// What is wrong with the text, and what would be right.
    fn into_endpoint(self) -> Result<Endpoint, EndpointError>;
}

impl IntoEndpoint for Endpoint {
    fn into_endpoint(self) -> Result<Endpoint, EndpointError> {
        Ok(self)
    }
}

impl IntoEndpoint for &Endpoint {
    fn into_endpoint(self) -> Result<Endpoint, EndpointError> {
        Ok(self.clone())
    }
}

impl IntoEndpoint for &str {
    fn into_endpoint(self) -> Result<Endpoint, EndpointError> {
        self.parse()
    }
}

impl IntoEndpoint for &String {
    fn into_endpoint(self) -> Result<Endpoint, EndpointError> {
        self.parse()
    }
}

impl IntoEndpoint for String {
    fn into_endpoint(self) -> Result<Endpoint, EndpointError> {
        self.parse()
    }
}

impl Socket {
    pub(crate) fn new(
        context: Context,
        socket_type: SocketType,
        options: Options,
        sink: EventSink,
    ) -> (Self, Arc<Shared>) {
        let reporter = Reporter { sink, socket: SocketId::fresh(), socket_type };
        let seed = u32::try_from(context.random() >> 32).unwrap_or_default();
        let state = State::new(options, reporter.clone(), seed);
        let shared = Arc::new(Shared::new(state, reporter, context));
        (Self { handle: Arc::new(Handle { shared: shared.clone() }) }, shared)
    }

    fn shared(&self) -> &Arc<Shared> {
        &self.handle.shared
    }

    /// Its type
    #[must_use]
    pub fn socket_type(&self) -> SocketType {
        self.shared().reporter.socket_type
    }

    /// Its id, as events name it
    #[must_use]
    pub fn id(&self) -> SocketId {
        self.shared().reporter.socket
    }

    /// The context it belongs to
    #[must_use]
    pub fn context(&self) -> &Context {
        &self.shared().context
    }

    /// A copy of its options
    #[must_use]
    pub fn options(&self) -> Options {
        self.shared().with(|state| state.options.clone())
    }

    /// Changes options: bounds and policies at once, the rest for connections made from then on
    ///
    /// `change` runs under the socket's lock and must not call the socket itself.
    pub fn set_options(&self, change: impl FnOnce(Options) -> Options) {
        self.shared().with(|state| {
            let changed = change(state.options.clone());
            state.set_options(changed);
        });
    }

    /// Starts to listen on an endpoint, and returns at once
    ///
    /// Await the [`Binding`] for the outcome and the real port or path.
    ///
    /// # Errors
    /// The text isn't an endpoint, or not one that can be bound.
    pub fn bind(&self, endpoint: impl IntoEndpoint) -> Result<Binding, EndpointError> {
        self.bind_to(endpoint.into_endpoint()?, None)
    }

    /// As [`bind`](Self::bind), with options of this endpoint alone
    ///
    /// They hold in place of the socket's for what concerns a connection: security, handshake, heartbeats, transport.
    /// So a socket may listen in the clear on loopback, and with CURVE or TLS beyond. Queue bounds and what makes the
    /// pattern are the socket's all the same.
    ///
    /// # Errors
    /// As `bind`.
    pub fn bind_with(&self, endpoint: impl IntoEndpoint, options: Options) -> Result<Binding, EndpointError> {
        self.bind_to(endpoint.into_endpoint()?, Some(options))
    }

    fn bind_to(&self, endpoint: Endpoint, options: Option<Options>) -> Result<Binding, EndpointError> {
        endpoint.for_bind()?;
        let (outcome, receiver) = oneshot::channel();
        let shared = self.shared().clone();
        let terms = match Terms::agree(&shared, options, &endpoint, Role::Binds) {
            Ok(terms) => terms,
            Err(error) => {
                shared.say(&endpoint.to_string(), || EventKind::BindFailed { error: error.to_string() });
                outcome.send(Err(BindError::Security { endpoint, error })).ok();
                return Ok(Binding { receiver });
            }
        };
        let stop = CancellationToken::new();
        let mut endpoints = shared.endpoints();
        if shared.phase() != Phase::Open {
            // Closing goes through the list under its lock; behind that nothing may be added
            return Ok(Binding { receiver });
        }
        let number = endpoints.number();
        endpoints.bound.push(Bound {
            number,
            wanted: endpoint.clone(),
            actual: None,
            stop: stop.clone(),
            terms: terms.clone(),
        });
        drop(endpoints);
        if let Endpoint::Inproc(name) = &endpoint {
            let name = name.to_string();
            let free = shared.context.bind_inproc(&name, &shared);
            outcome
                .send(settle_bind(
                    &shared,
                    number,
                    &endpoint,
                    free.then(|| endpoint.clone()).ok_or_else(|| IN_USE.to_owned()),
                ))
                .ok();
            return Ok(Binding { receiver });
        }
        if let Endpoint::Udp(udp) = &endpoint {
            let wanted = endpoint.clone();
            let settle = move |shared: &Shared, actual| {
                outcome.send(settle_bind(shared, number, &wanted, actual)).ok();
            };
            self.shared().spawn(udp::receive(shared, udp.clone(), terms, settle, stop));
            return Ok(Binding { receiver });
        }
        let task = async move {
            let options = terms.stream_options(&shared);
            let listening = tokio::select! {
                biased;
                () = stop.cancelled() => return,
                listening = tidings_transport::listen(&endpoint, &options) => listening,
            };
            let listener = match listening {
                Ok(listener) => listener,
                Err(error) => {
                    outcome.send(settle_bind(&shared, number, &endpoint, Err(error.to_string()))).ok();
                    return;
                }
            };
            let actual = listener.local_endpoint().clone();
            outcome.send(settle_bind(&shared, number, &endpoint, Ok(actual))).ok();
            listener::run(shared, listener, stop, terms).await;
        };
        self.shared().spawn(task);
        Ok(Binding { receiver })
    }

    /// Starts to connect to an endpoint, and returns at once
    ///
    /// The connection is tried again whenever it fails or is lost: as the option `reconnect_interval` says, after a
    /// refusal for who we are as `refused_retry_interval` says, and not at all if what is there can't be a peer.
    /// Await the [`Connecting`] for the first completed handshake or refusal.
    ///
    /// # Errors
    /// The text isn't an endpoint, or not one that can be connected to.
    pub fn connect(&self, endpoint: impl IntoEndpoint) -> Result<Connecting, EndpointError> {
        self.connect_to(endpoint.into_endpoint()?, None, None)
    }

    /// As [`connect`](Self::connect), with options of this endpoint alone
    ///
    /// They hold in place of the socket's for what concerns a connection: security, handshake, heartbeats, transport,
    /// when to try again. Queue bounds and what makes the pattern are the socket's all the same.
    ///
    /// # Errors
    /// As `connect`.
    pub fn connect_with(&self, endpoint: impl IntoEndpoint, options: Options) -> Result<Connecting, EndpointError> {
        self.connect_to(endpoint.into_endpoint()?, None, Some(options))
    }

    /// As [`connect`](Self::connect), and the peer gets a name here: ROUTER and STREAM route to it by that
    ///
    /// # Errors
    /// As `connect`; and [`ConnectError::Refused`] is awaited when another peer has the name, or the
    /// socket type has none.
    pub fn connect_as(
        &self,
        endpoint: impl IntoEndpoint,
        routing_id: impl Into<Bytes>,
    ) -> Result<Connecting, EndpointError> {
        self.connect_to(endpoint.into_endpoint()?, Some(routing_id.into()), None)
    }

    fn connect_to(
        &self,
        endpoint: Endpoint,
        name: Option<Bytes>,
        options: Option<Options>,
    ) -> Result<Connecting, EndpointError> {
        endpoint.for_connect()?;
        let shared = self.shared().clone();
        let connecting = |receiver| Connecting { receiver, endpoint: endpoint.clone() };
        // libzmq: for these types a second connect to the same tcp endpoint changes nothing
        let once = matches!(endpoint, Endpoint::Tcp(_))
            && matches!(self.socket_type(), SocketType::Dealer | SocketType::Sub | SocketType::Pub | SocketType::Req);
        if once
            && name.is_none()
            && options.is_none()
            && let Some(known) = shared.endpoints().dialed.iter().find(|dialed| dialed.endpoint == endpoint)
        {
            return Ok(connecting(known.outcome.clone()));
        }
        let (outcome, receiver) = watch::channel(None);
        let refused_here = |reason: &str| ConnectError::Refused {
            endpoint: endpoint.clone(),
            code: "refused-here".to_owned(),
            reason: reason.to_owned(),
        };
        if name.is_some() && !matches!(self.socket_type(), SocketType::Router | SocketType::Stream) {
            outcome.send_replace(Some(Err(refused_here("only ROUTER and STREAM name their peers"))));
            return Ok(connecting(receiver));
        }
        let terms = match Terms::agree(&shared, options, &endpoint, Role::Connects) {
            Ok(terms) => terms,
            Err(error) => {
                let failed = || EventKind::ConnectFailed { error: error.to_string(), retry_in_ms: None };
                shared.say(&endpoint.to_string(), failed);
                outcome.send_replace(Some(Err(ConnectError::Security { endpoint: endpoint.clone(), error })));
                return Ok(connecting(receiver));
            }
        };
        let datagrams = match &endpoint {
            Endpoint::Udp(udp) => match udp::Sender::new(&shared, udp, &terms) {
                Ok(sender) => Some(sender),
                Err(reason) => {
                    outcome.send_replace(Some(Err(refused_here(reason))));
                    return Ok(connecting(receiver));
                }
            },
            _ => None,
        };
        let is_inproc = matches!(endpoint, Endpoint::Inproc(_));
        let waits_for_handshake = !is_inproc && terms.look(&shared, |options| options.immediate);
        let mut key = datagrams.as_ref().map(udp::Sender::key);
        if key.is_none() && !waits_for_handshake {
            let text: Arc<str> = endpoint.to_string().into();
            let made = shared.with(|state| {
                let key = state.add_pipe(text, idle(), is_inproc)?;
                match name.clone() {
                    Some(name) => state.name_peer(key, name).map(|()| key).inspect_err(|_| state.retire(key)),
                    None => Ok(key),
                }
            });
            match made {
                Ok(made) => key = Some(made),
                Err(reason) => {
                    let reason = Some(crate::state::explain(reason)).filter(|text| !text.is_empty()).unwrap_or(reason);
                    outcome.send_replace(Some(Err(refused_here(reason))));
                    return Ok(connecting(receiver));
                }
            }
        }
        let stop = CancellationToken::new();
        let mut endpoints = shared.endpoints();
        if shared.phase() != Phase::Open {
            drop(endpoints);
            key.into_iter().for_each(|key| shared.with(|state| state.retire(key)));
            outcome.send_replace(Some(Err(ConnectError::Closed)));
            return Ok(connecting(receiver));
        }
        let number = endpoints.number();
        endpoints.dialed.push(Dialed {
            number,
            endpoint: endpoint.clone(),
            key,
            stop: stop.clone(),
            outcome: receiver.clone(),
            terms: terms.clone(),
        });
        drop(endpoints);
        match (&endpoint, key) {
            _ if let Some(sender) = datagrams => shared.spawn(sender.run(number, stop, outcome)),
            (Endpoint::Inproc(name), Some(key)) => {
                let waiting = inproc::Waiting { shared: Arc::downgrade(&shared), key, outcome };
                shared.context.connect_inproc(&name.to_string(), &waiting);
            }
            _ => {
                let dialer = Dialer::new(shared.clone(), number, endpoint.clone(), key, stop, outcome, terms);
                shared.spawn(dialer.naming_peers(name.unwrap_or_default()).run());
            }
        }
        Ok(connecting(receiver))
    }

    /// Stops to listen on an endpoint, named as it was given or with its real port; connections stay
    ///
    /// # Errors
    /// [`NotFound`] when the socket isn't bound to it.
    pub fn unbind(&self, endpoint: &Endpoint) -> Result<(), NotFound> {
        let shared = self.shared();
        let mut endpoints = shared.endpoints();
        let found = endpoints
            .bound
            .iter()
            .position(|bound| bound.wanted == *endpoint || bound.actual.as_ref() == Some(endpoint));
        let Some(found) = found else {
            return Err(NotFound { endpoint: endpoint.clone() });
        };
        let bound = endpoints.bound.swap_remove(found);
        drop(endpoints);
        bound.stop.cancel();
        if let Endpoint::Inproc(name) = endpoint {
            shared.context.names().unbind(&name.to_string(), shared);
            shared.say(&endpoint.to_string(), || EventKind::Unbound);
        }
        Ok(())
    }

    /// Gives up an endpoint that was connected to, after what is queued for it has been written
    ///
    /// # Errors
    /// [`NotFound`] when the socket isn't connected to it.
    pub fn disconnect(&self, endpoint: &Endpoint) -> Result<(), NotFound> {
        let shared = self.shared();
        let mut endpoints = shared.endpoints();
        let found = endpoints.dialed.iter().position(|dialed| dialed.endpoint == *endpoint);
        let Some(found) = found else {
            return Err(NotFound { endpoint: endpoint.clone() });
        };
        let dialed = endpoints.dialed.swap_remove(found);
        drop(endpoints);
        if let (Endpoint::Inproc(name), Some(key)) = (endpoint, dialed.key) {
            shared.context.names().stop_waiting(&name.to_string(), key, shared);
        }
        if let Some(key) = dialed.key {
            shared.with(|state| state.leave(key));
        }
        dialed.stop.cancel();
        Ok(())
    }

    /// The endpoints it listens on, with their real ports and paths
    #[must_use]
    pub fn endpoints(&self) -> Vec<Endpoint> {
        self.shared().endpoints().bound.iter().filter_map(|bound| bound.actual.clone()).collect()
    }

    /// This side's certificates, by the endpoints with TLS that show them: when they expire, and whether their files are
    /// in order
    #[must_use]
    pub fn certificates(&self) -> Vec<(Endpoint, TlsStatus)> {
        let endpoints = self.shared().endpoints();
        let bound = endpoints.bound.iter().map(|bound| (bound.actual.as_ref().unwrap_or(&bound.wanted), &bound.terms));
        let dialed = endpoints.dialed.iter().map(|dialed| (&dialed.endpoint, &dialed.terms));
        let all: Vec<_> = bound.chain(dialed).map(|(endpoint, terms)| (endpoint.clone(), terms.clone())).collect();
        // Asking looks at files
        drop(endpoints);
        all.into_iter().filter_map(|(endpoint, terms)| Some((endpoint, terms.tls_status()?))).collect()
    }

    /// Queues a message, waiting for room if the socket type does that
    ///
    /// Waits for as long as the option `send_timeout` says. That the message is queued does not mean
    /// that it arrived; [`stats`](Self::stats) and [`close`](Self::close) tell what still waits.
    ///
    /// # Errors
    /// [`SendError`] hands the message back.
    ///
    /// # Cancel safety
    /// Safe: when dropped before it completes, nothing was queued.
    pub fn send(&self, message: Message) -> Sending<'_> {
        Sending { socket: self, message, is_done: false, waiting: None }
    }

    /// The slow way of `send`: from the moment that there was no room
    async fn send_when_writable(&self, message: Message) -> Result<(), SendError> {
        let timeout = self.shared().with(|state| state.options.send_timeout);
        let mut slot = Some(message);
        let waiting = self.wait_to_send(&mut slot);
        let sent = match timeout {
            None => Some(waiting.await),
            Some(timeout) => tokio::time::timeout(timeout, waiting).await.ok(),
        };
        sent.unwrap_or_else(|| timed_out(slot, timeout))
    }

    /// Queues a message if there is room now
    ///
    /// # Errors
    /// [`SendError`] hands the message back, with [`SendFailure::WouldBlock`] when there is no room.
    pub fn try_send(&self, mut message: Message) -> Result<(), SendError> {
        match self.offer(&mut message) {
            Ok(()) => Ok(()),
            Err(reason) => Err(SendError { message, reason }),
        }
    }

    /// Queues a message if there is room now; what is left of it then means nothing
    #[inline]
    fn offer(&self, message: &mut Message) -> Result<(), SendFailure> {
        let (sent, work) = self.shared().with(|state| (state.send(message), work_of(state.copies)));
        charge(work);
        sent
    }

    /// As [`send`](Self::send), for threads without a runtime
    ///
    /// # Errors
    /// As `send`.
    pub fn send_blocking(&self, message: Message) -> Result<(), SendError> {
        match self.try_send(message) {
            Err(SendError { message, reason: SendFailure::WouldBlock }) => {
                let timeout = self.shared().with(|state| state.options.send_timeout);
                let mut slot = Some(message);
                let sent = block_on(self.wait_to_send(&mut slot), timeout);
                sent.unwrap_or_else(|| timed_out(slot, timeout))
            }
            done => done,
        }
    }

    /// Tries whenever there may be room; the message stays in `slot` until it is queued
    async fn wait_to_send(&self, slot: &mut Option<Message>) -> Result<(), SendError> {
        let mut patience = Patience::default();
        loop {
            let writable = self.shared().writable.notified();
            let Some(message) = slot else {
                return Ok(());
            };
            match self.offer(message) {
                Err(SendFailure::WouldBlock) => {}
                Ok(()) => {
                    *slot = None;
                    return Ok(());
                }
                Err(reason) => return Err(SendError { message: std::mem::take(message), reason }),
            }
            if !patience.look_again(self.shared()).await {
                writable.await;
            }
        }
    }

    /// Queues messages from the front of `messages` under one lock, as many as there is room for
    ///
    /// Waits until there is room for one at least. What was not queued stays in `messages`.
    ///
    /// # Errors
    /// The failure of the first message that could not be queued, if it is the first of all.
    ///
    /// # Cancel safety
    /// Safe: when dropped before it completes, nothing was queued.
    pub async fn send_many(&self, messages: &mut Vec<Message>) -> Result<usize, SendFailure> {
        yield_now_and_then().await;
        let timeout = self.shared().with(|state| state.options.send_timeout);
        match self.try_send_many(messages) {
            Err(SendFailure::WouldBlock) => match timeout {
                None => self.wait_to_send_many(messages).await,
                Some(timeout) => tokio::time::timeout(timeout, self.wait_to_send_many(messages))
                    .await
                    .unwrap_or(Err(SendFailure::TimedOut(timeout))),
            },
            done => done,
        }
    }

    /// Queues messages from the front of `messages`, as many as there is room for now
    ///
    /// # Errors
    /// As [`send_many`](Self::send_many), and [`SendFailure::WouldBlock`] when there is room for none.
    pub fn try_send_many(&self, messages: &mut Vec<Message>) -> Result<usize, SendFailure> {
        if messages.is_empty() {
            return Ok(0);
        }
        let (mut sent, mut work, mut failure) = (0, 0u32, None);
        self.shared().with(|state| {
            for message in messages.iter_mut() {
                match state.send(message) {
                    Ok(()) => {
                        sent += 1;
                        work = work.saturating_add(work_of(state.copies));
                    }
                    Err(error) => {
                        failure = Some(error);
                        return;
                    }
                }
            }
        });
        messages.drain(..sent);
        charge(work);
        match failure {
            Some(failure) if sent == 0 => Err(failure),
            _ => Ok(sent),
        }
    }

    /// As [`send_many`](Self::send_many), for threads without a runtime
    ///
    /// # Errors
    /// As `send_many`.
    pub fn send_many_blocking(&self, messages: &mut Vec<Message>) -> Result<usize, SendFailure> {
        match self.try_send_many(messages) {
            Err(SendFailure::WouldBlock) => {
                let timeout = self.shared().with(|state| state.options.send_timeout);
                block_on(self.wait_to_send_many(messages), timeout)
                    .unwrap_or_else(|| Err(SendFailure::TimedOut(timeout.unwrap_or_default())))
            }
            done => done,
        }
    }

    /// As [`send_many`](Self::send_many), whatever `send_timeout` says
    pub(crate) async fn send_many_patiently(&self, messages: &mut Vec<Message>) -> Result<usize, SendFailure> {
        yield_now_and_then().await;
        match self.try_send_many(messages) {
            Err(SendFailure::WouldBlock) => self.wait_to_send_many(messages).await,
            done => done,
        }
    }

    async fn wait_to_send_many(&self, messages: &mut Vec<Message>) -> Result<usize, SendFailure> {
        let mut patience = Patience::default();
        loop {
            let writable = self.shared().writable.notified();
            match self.try_send_many(messages) {
                Err(SendFailure::WouldBlock) => {}
                done => return done,
            }
            if !patience.look_again(self.shared()).await {
                writable.await;
            }
        }
    }

    /// Receives a message, waiting for one
    ///
    /// Waits for as long as the option `recv_timeout` says.
    ///
    /// # Errors
    /// [`RecvError`].
    ///
    /// # Cancel safety
    /// Safe: a message is taken only when it is returned.
    pub fn recv(&self) -> Receiving<'_> {
        Receiving { socket: self, waiting: None }
    }

    /// The slow way of `recv`: from the moment that there was nothing
    async fn recv_when_readable(&self) -> Result<Message, RecvError> {
        match self.shared().with(|state| state.options.recv_timeout) {
            None => self.wait_to_recv(Self::try_recv).await,
            Some(timeout) => tokio::time::timeout(timeout, self.wait_to_recv(Self::try_recv))
                .await
                .unwrap_or(Err(RecvError::TimedOut(timeout))),
        }
    }

    /// Receives a message if one is there
    ///
    /// # Errors
    /// [`RecvError::WouldBlock`] if none is.
    #[inline]
    pub fn try_recv(&self) -> Result<Message, RecvError> {
        let mut message = Message::default();
        self.take(&mut message).map(|()| message)
    }

    /// Puts the next message in the place of `into`
    #[inline]
    fn take(&self, into: &mut Message) -> Result<(), RecvError> {
        self.receive_with(|state| state.recv(into))
    }

    /// Receives under the lock; once more if nothing was there and that had inproc peers hand over what they have
    #[inline]
    fn receive_with<T>(&self, mut receive: impl FnMut(&mut State) -> Result<T, RecvError>) -> Result<T, RecvError> {
        let mut attempt = || {
            self.shared().with(|state| {
                state.receivers_wait = self.shared().receivers_waiting.load(Ordering::Relaxed) > 0;
                let received = receive(state);
                // Who was woken for a batch passes the rest on
                state.signals.readable |= state.receivers_wait && state.has_messages();
                let asked = received.is_err() && !state.signals.links.is_empty();
                (received, asked)
            })
        };
        match attempt() {
            (Err(RecvError::WouldBlock), true) => attempt().0,
            (received, _) => received,
        }
    }

    /// As [`recv`](Self::recv), for threads without a runtime
    ///
    /// # Errors
    /// As `recv`.
    pub fn recv_blocking(&self) -> Result<Message, RecvError> {
        match self.try_recv() {
            Err(RecvError::WouldBlock) => {
                let timeout = self.shared().with(|state| state.options.recv_timeout);
                block_on(self.wait_to_recv(Self::try_recv), timeout)
                    .unwrap_or_else(|| Err(RecvError::TimedOut(timeout.unwrap_or_default())))
            }
            done => done,
        }
    }

    /// As [`recv`](Self::recv), and tells where the message came from
    ///
    /// # Errors
    /// As `recv`.
    ///
    /// # Cancel safety
    /// Safe: a message is taken only when it is returned.
    pub async fn recv_from(&self) -> Result<Received, RecvError> {
        yield_now_and_then().await;
        match self.try_recv_from() {
            Err(RecvError::WouldBlock) => {}
            done => return done,
        }
        match self.shared().with(|state| state.options.recv_timeout) {
            None => self.wait_to_recv(Self::try_recv_from).await,
            Some(timeout) => tokio::time::timeout(timeout, self.wait_to_recv(Self::try_recv_from))
                .await
                .unwrap_or(Err(RecvError::TimedOut(timeout))),
        }
    }

    /// Receives a message if one is there, and tells where it came from
    ///
    /// # Errors
    /// As [`try_recv`](Self::try_recv).
    pub fn try_recv_from(&self) -> Result<Received, RecvError> {
        self.receive_with(State::recv_from)
    }

    /// Ends a connection whose peer doesn't keep up: what is queued for it is lost, and a peer that connected comes again
    ///
    /// For applications that send to one peer of many and can't leave something out. Returns whether there is one of that
    /// number; its end is told as any other's, with the reason `too-slow`.
    pub fn hang_up(&self, connection: ConnectionId) -> bool {
        self.shared().with(|state| state.hang_up(connection))
    }

    /// Gives up one peer of many: what is queued for it is still written, then its connection ends; a peer that connected
    /// may come again
    ///
    /// Returns whether there is a connection of that number; nothing can be sent on it from now on.
    pub fn dismiss(&self, connection: ConnectionId) -> bool {
        self.shared().with(|state| state.dismiss(connection))
    }

    /// Receives up to `max` messages under one lock, waiting for one at least, and tells where each came from; they are
    /// added to `into`
    ///
    /// # Errors
    /// As [`recv`](Self::recv).
    ///
    /// # Cancel safety
    /// Safe: messages are taken only when it completes.
    pub async fn recv_many_from(&self, into: &mut Vec<Received>, max: usize) -> Result<usize, RecvError> {
        yield_now_and_then().await;
        match self.try_recv_many_from(into, max) {
            Err(RecvError::WouldBlock) => {}
            done => return done,
        }
        match self.shared().with(|state| state.options.recv_timeout) {
            None => self.wait_to_recv(|socket| socket.try_recv_many_from(into, max)).await,
            Some(timeout) => {
                tokio::time::timeout(timeout, self.wait_to_recv(|socket| socket.try_recv_many_from(into, max)))
                    .await
                    .unwrap_or(Err(RecvError::TimedOut(timeout)))
            }
        }
    }

    /// Receives up to `max` messages that are there, and tells where each came from
    ///
    /// # Errors
    /// [`RecvError::WouldBlock`] if none is.
    pub fn try_recv_many_from(&self, into: &mut Vec<Received>, max: usize) -> Result<usize, RecvError> {
        self.receive_with(|state| {
            let before = into.len();
            while into.len() - before < max {
                match state.recv_from() {
                    Ok(received) => into.push(received),
                    Err(error) if into.len() == before => return Err(error),
                    Err(_) => break,
                }
            }
            Ok(into.len() - before)
        })
    }

    /// As [`recv_from`](Self::recv_from), for threads without a runtime
    ///
    /// # Errors
    /// As `recv_from`.
    pub fn recv_from_blocking(&self) -> Result<Received, RecvError> {
        match self.try_recv_from() {
            Err(RecvError::WouldBlock) => {
                let timeout = self.shared().with(|state| state.options.recv_timeout);
                block_on(self.wait_to_recv(Self::try_recv_from), timeout)
                    .unwrap_or_else(|| Err(RecvError::TimedOut(timeout.unwrap_or_default())))
            }
            done => done,
        }
    }

    async fn wait_to_recv<T>(&self, mut attempt: impl FnMut(&Self) -> Result<T, RecvError>) -> Result<T, RecvError> {
        let mut patience = Patience::default();
        while patience.look_again(self.shared()).await {
            match attempt(self) {
                Err(RecvError::WouldBlock) => {}
                done => return done,
            }
        }
        let _waiting = WaitingReceiver::new(self.shared());
        loop {
            let readable = self.shared().readable.notified();
            match attempt(self) {
                Err(RecvError::WouldBlock) => readable.await,
                done => return done,
            }
        }
    }

    /// Receives up to `max` messages under one lock, waiting for one at least; they are added to `into`
    ///
    /// # Errors
    /// As [`recv`](Self::recv).
    ///
    /// # Cancel safety
    /// Safe: messages are taken only when it completes.
    pub async fn recv_many(&self, into: &mut Vec<Message>, max: usize) -> Result<usize, RecvError> {
        yield_now_and_then().await;
        match self.try_recv_many(into, max) {
            Err(RecvError::WouldBlock) => {}
            done => return done,
        }
        match self.shared().with(|state| state.options.recv_timeout) {
            None => self.wait_to_recv(|socket| socket.try_recv_many(into, max)).await,
            Some(timeout) => tokio::time::timeout(timeout, self.wait_to_recv(|socket| socket.try_recv_many(into, max)))
                .await
                .unwrap_or(Err(RecvError::TimedOut(timeout))),
        }
    }

    /// As [`recv_many`](Self::recv_many), whatever `recv_timeout` says
    pub(crate) async fn recv_many_patiently(&self, into: &mut Vec<Message>, max: usize) -> Result<usize, RecvError> {
        yield_now_and_then().await;
        self.wait_to_recv(|socket| socket.try_recv_many(into, max)).await
    }

    /// Receives up to `max` messages that are there
    ///
    /// # Errors
    /// [`RecvError::WouldBlock`] if none is.
    pub fn try_recv_many(&self, into: &mut Vec<Message>, max: usize) -> Result<usize, RecvError> {
        self.receive_with(|state| {
            let before = into.len();
            while into.len() - before < max {
                let mut message = Message::default();
                match state.recv(&mut message) {
                    Ok(()) => into.push(message),
                    Err(error) if into.len() == before => return Err(error),
                    Err(_) => break,
                }
            }
            Ok(into.len() - before)
        })
    }

    /// As [`recv_many`](Self::recv_many), for threads without a runtime
    ///
    /// # Errors
    /// As `recv_many`.
    pub fn recv_many_blocking(&self, into: &mut Vec<Message>, max: usize) -> Result<usize, RecvError> {
        match self.try_recv_many(into, max) {
            Err(RecvError::WouldBlock) => {
                let timeout = self.shared().with(|state| state.options.recv_timeout);
                block_on(self.wait_to_recv(|socket| socket.try_recv_many(into, max)), timeout)
                    .unwrap_or_else(|| Err(RecvError::TimedOut(timeout.unwrap_or_default())))
            }
            done => done,
        }
    }

    /// SUB and XSUB: subscribes to messages whose first frame begins with `topic`; XPUB with `xpub_manual`:
    /// enters a subscription for the peer whose request was received last
    ///
    /// # Errors
    /// [`SocketError::NotSupported`] for other types.
    pub fn subscribe(&self, topic: impl AsRef<[u8]>) -> Result<(), SocketError> {
        self.change_subscription(true, topic.as_ref())
    }

    /// Ends a subscription, exactly as it was made
    ///
    /// # Errors
    /// As [`subscribe`](Self::subscribe).
    pub fn unsubscribe(&self, topic: impl AsRef<[u8]>) -> Result<(), SocketError> {
        self.change_subscription(false, topic.as_ref())
    }

    fn change_subscription(&self, subscribe: bool, topic: &[u8]) -> Result<(), SocketError> {
        let control = Control { subscribe, topic: Bytes::copy_from_slice(topic) };
        match self.shared().with(|state| state.change_subscription(control)) {
            true => Ok(()),
            false => {
                Err(SocketError::NotSupported("only SUB, XSUB, and XPUB with xpub_manual, have subscriptions to set"))
            }
        }
    }

    /// DISH: joins a group, so that what a RADIO sends to exactly that group is received
    ///
    /// A group has up to 255 octets, none of them zero; it may be empty. Every RADIO is told, now and whenever a
    /// connection to it is new (RFC 48).
    ///
    /// # Errors
    /// [`SocketError::Invalid`] when the socket is in the group already, as libzmq has it, or the group can't be one;
    /// [`SocketError::NotSupported`] for other types.
    pub fn join(&self, group: impl AsRef<[u8]>) -> Result<(), SocketError> {
        self.change_group(true, group.as_ref())
    }

    /// DISH: leaves a group
    ///
    /// # Errors
    /// As [`join`](Self::join), and [`SocketError::Invalid`] when the socket is not in the group.
    pub fn leave(&self, group: impl AsRef<[u8]>) -> Result<(), SocketError> {
        self.change_group(false, group.as_ref())
    }

    fn change_group(&self, joins: bool, group: &[u8]) -> Result<(), SocketError> {
        let control = Control { subscribe: joins, topic: Bytes::copy_from_slice(group) };
        self.shared().with(|state| state.change_group(&control))
    }

    /// REQ: sends a request and waits for its reply, for as long as the deadline allows
    ///
    /// Every request carries a number and finds its own reply, so several may be under way at once,
    /// a lost reply harms none of the others, and the socket is never stuck. Whether the peer did
    /// the work is unknown when this fails after the request was sent.
    ///
    /// # Errors
    /// [`RequestError`].
    ///
    /// # Cancel safety
    /// Safe: when dropped, the request is forgotten; if it was sent, its late reply is dropped and counted.
    pub async fn request(&self, message: Message, deadline: Duration) -> Result<Message, RequestError> {
        let mut progress = RequestProgress::new(self.shared(), message);
        match tokio::time::timeout(deadline, progress.run()).await {
            Ok(done) => done,
            Err(_) => Err(RequestError::TimedOut { after: deadline, sent: progress.id.is_some() }),
        }
    }

    /// As [`request`](Self::request), for threads without a runtime
    ///
    /// # Errors
    /// As `request`.
    pub fn request_blocking(&self, message: Message, deadline: Duration) -> Result<Message, RequestError> {
        let mut progress = RequestProgress::new(self.shared(), message);
        match block_on(progress.run(), Some(deadline)) {
            Some(done) => done,
            None => Err(RequestError::TimedOut { after: deadline, sent: progress.id.is_some() }),
        }
    }

    /// Waits until `wanted` peers are there: for PUB and XPUB peers with a subscription, for RADIO peers in a
    /// group, for others completed connections; returns how many there are
    ///
    /// What a publisher sends after that reaches those subscribers: no sleep is needed.
    ///
    /// # Errors
    /// [`NotReady`] tells how many there were at the deadline.
    ///
    /// # Cancel safety
    /// Safe: it only looks.
    pub async fn ready(&self, wanted: usize, deadline: Duration) -> Result<usize, NotReady> {
        match tokio::time::timeout(deadline, self.wait_for_peers(wanted)).await {
            Ok(ready) => Ok(ready),
            Err(_) => Err(self.not_ready(wanted, deadline)),
        }
    }

    /// As [`ready`](Self::ready), for threads without a runtime
    ///
    /// # Errors
    /// As `ready`.
    pub fn ready_blocking(&self, wanted: usize, deadline: Duration) -> Result<usize, NotReady> {
        block_on(self.wait_for_peers(wanted), Some(deadline)).ok_or_else(|| self.not_ready(wanted, deadline))
    }

    /// Waits until some peer's queue has room again, from the moment of this call on
    ///
    /// For applications that send without waiting: who calls this first and then finds a queue full misses nothing. Peers
    /// that come or go end the wait as well, so it is a reason to try again, and no promise.
    ///
    /// # Cancel safety
    /// Safe: it only looks.
    pub fn writable(&self) -> impl Future<Output = ()> + Send + '_ {
        self.shared().writable.notified()
    }

    /// Waits until no peer is there, as [`ready`](Self::ready) counts them, or the socket is closed
    ///
    /// A socket that does not reconnect has then lost its last connection.
    ///
    /// # Cancel safety
    /// Safe: it only looks.
    pub async fn deserted(&self) {
        loop {
            let changed = self.shared().changed.notified();
            if self.shared().with(|state| state.ready_peers() == 0 || state.phase != Phase::Open) {
                return;
            }
            changed.await;
        }
    }

    async fn wait_for_peers(&self, wanted: usize) -> usize {
        loop {
            let changed = self.shared().changed.notified();
            let ready = self.shared().with(|state| state.ready_peers());
            if ready >= wanted {
                return ready;
            }
            changed.await;
        }
    }

    fn not_ready(&self, wanted: usize, after: Duration) -> NotReady {
        NotReady { ready: self.shared().with(|state| state.ready_peers()), wanted, after }
    }

    /// What it has done and holds: peers, queue depths, counters
    #[must_use]
    pub fn stats(&self) -> SocketStats {
        SocketStats::of(self.shared())
    }

    /// Its lifecycle events from now on
    #[must_use]
    pub fn events(&self) -> EventStream {
        let reporter = &self.shared().reporter;
        reporter.sink.stream(Some((reporter.socket, reporter.socket_type)))
    }

    /// Closes the socket for all its handles, sends what is queued until the deadline, and reports
    ///
    /// Nothing more is received. What could not be handed to the system in time is dropped and listed.
    /// `linger` does not matter here: the deadline does.
    ///
    /// # Cancel safety
    /// The socket is closed all the same and goes on sending until its last handle is dropped and
    /// `linger` has passed.
    pub async fn close(&self, deadline: Duration) -> CloseReport {
        let shared = self.shared();
        shared.begin_close();
        tokio::time::timeout(deadline, shared.drained()).await.ok();
        CloseReport::finish(std::slice::from_ref(shared))
    }

    /// As [`close`](Self::close), for threads without a runtime
    pub fn close_blocking(&self, deadline: Duration) -> CloseReport {
        let shared = self.shared();
        shared.begin_close();
        block_on(shared.drained(), Some(deadline));
        CloseReport::finish(std::slice::from_ref(shared))
    }
}

/// What a call becomes that has to wait
type Waiting<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// A message on its way into a queue: await it
///
/// Nothing is queued before it is polled, and nothing was when it is dropped before it completes. Polled again
/// afterwards it never ends, and sends nothing twice.
#[must_use = "nothing is sent before this is awaited"]
pub struct Sending<'a> {
    socket: &'a Socket,
    /// Until it is queued, or waits in `waiting`
    message: Message,
    is_done: bool,
    waiting: Option<Waiting<'a, Result<(), SendError>>>,
}

impl Future for Sending<'_> {
    type Output = Result<(), SendError>;

    #[inline]
    fn poll(mut self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        if let Some(waiting) = &mut this.waiting {
            return waiting.as_mut().poll(cx);
        }
        // Before anything is queued: who drops this future must know that nothing was
        if this.is_done || must_yield(cx) {
            return Poll::Pending;
        }
        match this.socket.offer(&mut this.message) {
            Ok(()) => {
                this.is_done = true;
                Poll::Ready(Ok(()))
            }
            Err(SendFailure::WouldBlock) => this.poll_slowly(cx),
            Err(reason) => {
                this.is_done = true;
                Poll::Ready(Err(SendError { message: std::mem::take(&mut this.message), reason }))
            }
        }
    }
}

impl Sending<'_> {
    #[cold]
    fn poll_slowly(&mut self, cx: &mut TaskContext<'_>) -> Poll<Result<(), SendError>> {
        let message = std::mem::take(&mut self.message);
        self.waiting.insert(Box::pin(self.socket.send_when_writable(message))).as_mut().poll(cx)
    }
}

impl fmt::Debug for Sending<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sending").field("message", &self.message).finish_non_exhaustive()
    }
}

/// A message to be received: await it
///
/// A message is taken only when it is returned.
#[must_use = "nothing is received before this is awaited"]
pub struct Receiving<'a> {
    socket: &'a Socket,
    waiting: Option<Waiting<'a, Result<Message, RecvError>>>,
}

impl Future for Receiving<'_> {
    type Output = Result<Message, RecvError>;

    #[inline]
    fn poll(mut self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        if let Some(waiting) = &mut this.waiting {
            return waiting.as_mut().poll(cx);
        }
        if must_yield(cx) {
            return Poll::Pending;
        }
        let mut message = Message::default();
        match this.socket.take(&mut message) {
            Ok(()) => Poll::Ready(Ok(message)),
            Err(RecvError::WouldBlock) => this.poll_slowly(cx),
            Err(error) => Poll::Ready(Err(error)),
        }
    }
}

impl Receiving<'_> {
    #[cold]
    fn poll_slowly(&mut self, cx: &mut TaskContext<'_>) -> Poll<Result<Message, RecvError>> {
        self.waiting.insert(Box::pin(self.socket.recv_when_readable())).as_mut().poll(cx)
    }
}

impl fmt::Debug for Receiving<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Receiving").finish_non_exhaustive()
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        let shared = self.shared.clone();
        if shared.phase() == Phase::Closed {
            return;
        }
        shared.begin_close();
        let linger = shared.with(|state| state.options.linger);
        if linger == Some(Duration::ZERO) || shared.is_drained() {
            shared.end_close();
            return;
        }
        let draining = shared.clone();
        shared.context.spawn(async move {
            match linger {
                None => draining.drained().await,
                Some(linger) => drop(tokio::time::timeout(linger, draining.drained()).await),
            }
            draining.end_close();
        });
    }
}

/// A bind under way: await it for the endpoint with its real port or path
///
/// Dropping it changes nothing; the socket goes on.
#[derive(Debug)]
pub struct Binding {
    receiver: oneshot::Receiver<Result<Endpoint, BindError>>,
}

impl Binding {
    /// Waits on a thread without a runtime
    ///
    /// # Errors
    /// [`BindError`].
    #[allow(clippy::result_large_err, reason = "told once for a bind")]
    pub fn blocking(self) -> Result<Endpoint, BindError> {
        block_on(self.into_future(), None).unwrap_or(Err(BindError::Closed))
    }
}

impl IntoFuture for Binding {
    type Output = Result<Endpoint, BindError>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + Send>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(async move { self.receiver.await.unwrap_or(Err(BindError::Closed)) })
    }
}

/// A connect under way: await it for the first completed handshake or a definite refusal
///
/// Dropping it changes nothing; the socket goes on.
#[derive(Debug)]
pub struct Connecting {
    receiver: watch::Receiver<Option<Outcome>>,
    endpoint: Endpoint,
}

impl Connecting {
    /// Waits on a thread without a runtime
    ///
    /// # Errors
    /// [`ConnectError`]; [`ConnectError::TimedOut`] when the time is over, while attempts go on.
    #[allow(clippy::result_large_err, reason = "told once for a connect")]
    pub fn blocking(self, timeout: Duration) -> Result<Peer, ConnectError> {
        let endpoint = self.endpoint.clone();
        block_on(self.into_future(), Some(timeout)).unwrap_or(Err(ConnectError::TimedOut { endpoint, after: timeout }))
    }
}

impl IntoFuture for Connecting {
    type Output = Outcome;
    type IntoFuture = Pin<Box<dyn Future<Output = Outcome> + Send>>;

    fn into_future(mut self) -> Self::IntoFuture {
        Box::pin(async move {
            let told = self.receiver.wait_for(Option::is_some).await;
            told.ok().and_then(|outcome| outcome.clone()).unwrap_or(Err(ConnectError::Closed))
        })
    }
}

/// What a close achieved
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
#[non_exhaustive]
pub struct CloseReport {
    /// Messages handed to the system since the sockets were made
    pub flushed: u64,
    /// What was still queued at the deadline and is dropped
    pub unflushed: Vec<Unflushed>,
}

/// Messages that a close could not send
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
#[non_exhaustive]
pub struct Unflushed {
    /// Where they were to go
    pub endpoint: String,
    /// How many
    pub messages: u64,
    /// Their octets as they were to be written, framing included
    pub octets: u64,
}

impl CloseReport {
    /// Whether everything was sent
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.unflushed.is_empty()
    }

    pub(crate) fn finish(sockets: &[Arc<Shared>]) -> Self {
        let mut report = Self::default();
        for shared in sockets {
            let (unflushed, counts) = shared.with(|state| (state.unflushed(), state.totals().0));
            let waiting: u64 = unflushed.iter().map(|(_, load)| load.messages).sum();
            report.flushed += counts.sent.messages.saturating_sub(waiting + counts.discarded);
            report.unflushed.extend(unflushed.into_iter().map(|(endpoint, Load { messages, octets })| Unflushed {
                endpoint: endpoint.to_string(),
                messages,
                octets,
            }));
            shared.end_close();
        }
        report
    }
}

/// A request under way; forgets its number when dropped
struct RequestProgress<'a> {
    shared: &'a Shared,
    message: Option<Message>,
    id: Option<u32>,
}

impl<'a> RequestProgress<'a> {
    fn new(shared: &'a Shared, message: Message) -> Self {
        Self { shared, message: Some(message), id: None }
    }

    async fn run(&mut self) -> Result<Message, RequestError> {
        let (sender, reply) = oneshot::channel();
        let mut sender = Some(sender);
        while let Some(message) = &mut self.message {
            let writable = self.shared.writable.notified();
            match self.shared.with(|state| state.request(message, &mut sender)) {
                Ok(id) => {
                    self.id = Some(id);
                    self.message = None;
                }
                Err(SendFailure::WouldBlock) => writable.await,
                Err(SendFailure::Closed) => return Err(RequestError::Closed),
                Err(reason) => return Err(SendError { message: std::mem::take(message), reason }.into()),
            }
        }
        let closing = async {
            loop {
                let changed = self.shared.changed.notified();
                if self.shared.phase() != Phase::Open {
                    return;
                }
                changed.await;
            }
        };
        tokio::select! {
            biased;
            answered = reply => match answered {
                Ok(Ok(message)) => Ok(message),
                Ok(Err(_)) if self.shared.phase() == Phase::Open => Err(RequestError::PeerGone),
                Ok(Err(_)) => Err(RequestError::Closed),
                Err(_) => Err(RequestError::Closed),
            },
            () = closing => Err(RequestError::Closed),
        }
    }
}

impl Drop for RequestProgress<'_> {
    fn drop(&mut self) {
        if let Some(id) = self.id {
            self.shared.with(|state| state.give_up(id));
        }
    }
}

/// Looks again a few times before sleeping, for peers that run on another thread of this process at this moment
///
/// To sleep and be woken costs both threads more than the messages that come meanwhile. On a runtime that both share, the
/// other task gets its turn.
#[derive(Default)]
struct Patience {
    looks: u32,
}

impl Patience {
    /// Lets others run, unless it is time to sleep
    async fn look_again(&mut self, shared: &Shared) -> bool {
        if self.looks >= *LOOKS || !shared.with(|state| state.has_links()) {
            return false;
        }
        self.looks += 1;
        if self.looks > 2 {
            // The other one is no task of this thread, and its thread may be waiting for this very core
            std::thread::yield_now();
        }
        yield_now().await;
        true
    }
}

/// Gives way once, whoever polls: tokio's own would leave it to a runtime to wake the task, and the runtime waits as well
/// where a blocking call is made on its thread
async fn yield_now() {
    let mut yielded = false;
    std::future::poll_fn(|cx| {
        if std::mem::replace(&mut yielded, true) {
            return Poll::Ready(());
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

/// Counts a task that waits in a receive, also when it is cancelled
struct WaitingReceiver<'a>(&'a Shared);

impl<'a> WaitingReceiver<'a> {
    fn new(shared: &'a Shared) -> Self {
        // Every look for messages that comes after it is under the lock, and sees this
        shared.receivers_waiting.fetch_add(1, Ordering::Relaxed);
        Self(shared)
    }
}

impl Drop for WaitingReceiver<'_> {
    fn drop(&mut self) {
        self.0.receivers_waiting.fetch_sub(1, Ordering::Relaxed);
    }
}

#[allow(clippy::result_large_err, reason = "told once for a bind")]
fn settle_bind(
    shared: &Shared,
    number: u64,
    wanted: &Endpoint,
    outcome: Result<Endpoint, String>,
) -> Result<Endpoint, BindError> {
    let mut endpoints = shared.endpoints();
    let place = endpoints.bound.iter().position(|bound| bound.number == number);
    match outcome {
        Ok(actual) => {
            if let Some(bound) = place.and_then(|place| endpoints.bound.get_mut(place)) {
                bound.actual = Some(actual.clone());
            }
            drop(endpoints);
            shared.say(&wanted.to_string(), || EventKind::Listening { endpoint: actual.to_string() });
            Ok(actual)
        }
        Err(reason) => {
            if let Some(place) = place {
                endpoints.bound.swap_remove(place);
            }
            drop(endpoints);
            shared.say(&wanted.to_string(), || EventKind::BindFailed { error: reason.clone() });
            Err(BindError::Listen { endpoint: wanted.clone(), reason })
        }
    }
}

fn timed_out(slot: Option<Message>, timeout: Option<Duration>) -> Result<(), SendError> {
    match slot {
        Some(message) => Err(SendError { message, reason: SendFailure::TimedOut(timeout.unwrap_or_default()) }),
        // The message is out of its slot only while a try is under way, and no try waits
        None => Ok(()),
    }
}

/// Lets other tasks run when this one has sent or received for long without waiting
///
/// Tokio's own budget, of 128, is spent once in 16 calls: a sender that never meets a full queue
/// (no high-water mark) would otherwise starve the connections on a current-thread runtime.
///
/// A publisher's copies count too, in part: with many subscribers their queues together would outgrow the processor's
/// cache long before each of them is full.
async fn yield_now_and_then() {
    if is_turn() {
        for _ in 0..take_turns() {
            tokio::task::coop::consume_budget().await;
        }
    }
}

/// As `yield_now_and_then`, inside a poll: if true, the task was woken and is to be polled again
#[inline(always)]
fn must_yield(cx: &mut TaskContext<'_>) -> bool {
    is_turn() && spend_turns(cx)
}

#[cold]
fn spend_turns(cx: &mut TaskContext<'_>) -> bool {
    (0..take_turns()).any(|_| std::pin::pin!(tokio::task::coop::consume_budget()).poll(cx).is_pending())
}

thread_local! {
    /// Calls made on this thread that tokio's budget has not been charged for
    static WORK: Cell<u32> = const { Cell::new(0) };
}

/// What a publisher's copies of a message count for, in calls
#[inline(always)]
fn work_of(copies: u32) -> u32 {
    if copies > 1 { (copies / COPIES_PER_CALL).min(MOST_PER_MESSAGE) } else { 0 }
}

/// Counts work beyond that of a call
#[inline(always)]
fn charge(work: u32) {
    if work > 0 {
        WORK.set(WORK.get().saturating_add(work));
    }
}

/// Counts a call; whether it is time to consume of tokio's budget
#[inline(always)]
fn is_turn() -> bool {
    let work = WORK.get().saturating_add(1);
    WORK.set(work);
    work >= CALLS_PER_TURN
}

/// How often to consume of tokio's budget for the calls since the last time
fn take_turns() -> u32 {
    let turns = WORK.take() / CALLS_PER_TURN;
    if tokio::runtime::Handle::try_current().is_ok() { turns } else { 0 }
}

/// With tokio's budget of 128 turns, 8,192 calls in a row: of a thousand peers served in turn each gets several messages
/// before any of them is written
const CALLS_PER_TURN: u32 = 64;
const COPIES_PER_CALL: u32 = 2;
/// However many subscribers: each gets 64 messages in a row, or writes would be too small
const MOST_PER_MESSAGE: u32 = 128;
/// Some microseconds' worth; none where only one thread can run at a time
static LOOKS: LazyLock<u32> =
    LazyLock::new(|| if std::thread::available_parallelism().is_ok_and(|cores| cores.get() > 1) { 10 } else { 0 });
const IN_USE: &str = "another socket of this context has this name; choose another or unbind that one first";

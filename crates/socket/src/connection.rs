//! The driver of one connection: feeds the protocol from the byte stream and the pipe, and both from it.
//!
//! It decides nothing. One poll goes round until nothing moves: hand over what was decoded and take
//! what is queued (one lock), write (one call for a whole batch), read into a large buffer, decode.

use std::cell::Cell;
use std::collections::VecDeque;
use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::mem;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context as TaskContext, Poll, Waker};
use std::time::{Duration, Instant};

use atomic_waker::AtomicWaker;
use bytes::{Buf, Bytes, BytesMut};
use tidings_transport::{PeerAddress, Stream, TlsError, TlsPeer};
use tidings_zmtp::{
    AuthVerdict, CloseReason, Connection, Credentials, CurvePublicKey, Event as ProtocolEvent, Family, Message,
    PeerInfo, Properties, SocketType, WriteQueue,
};
use tokio::io::{AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::watch;
use tokio::time::Sleep;
use tokio_util::sync::CancellationToken;

use crate::auth::{self, Answer, Asked, Candidate};
use crate::dialer::{Outcome, Peer, in_ms};
use crate::events::{ConnectionId, EventKind, readable};
use crate::half_open::Place;
use crate::origin::{Origin, zap_address};
use crate::patterns::multipart;
use crate::pipe::{Control, Driver as PipeDriver, Load, PipeKey};
use crate::security::Terms;
use crate::shared::Shared;
use crate::state::{Aftermath, CROWDED_OUT, Newcomer, Orders, explain, is_definite};
use crate::zap;

/// How a connection ended
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) why: Why,
    /// In place of the reason's own words, where more can be said
    hint: Option<&'static str>,
    pub(crate) was_handshaken: bool,
    pub(crate) aftermath: Aftermath,
}

impl Ended {
    pub(crate) fn detail(&self) -> String {
        self.hint.map_or_else(|| self.why.detail(), str::to_owned)
    }

    /// Whether and when to dial again
    pub(crate) fn again(&self) -> Again {
        match &self.why {
            Why::Protocol(reason) => match reason {
                CloseReason::ErrorReceived { reason } if reason.starts_with(INCOMPATIBLE) => Again::Never,
                CloseReason::ErrorReceived { .. } | CloseReason::MechanismMismatch { .. } | CloseReason::WeakKey => {
                    Again::Rarely
                }
                CloseReason::Denied { code: 300, .. } => Again::AsUsual,
                CloseReason::Denied { .. } => Again::Rarely,
                reason if reason.family() == Family::Untrusted && !self.was_handshaken => Again::Slower,
                reason if reason.is_definite() => Again::Never,
                _ if self.hint.is_some() => Again::Slower,
                _ => Again::AsUsual,
            },
            Why::Tls(error) if error.is_definite() => Again::Rarely,
            Why::Tls(_) if self.was_handshaken => Again::AsUsual,
            Why::Tls(_) => Again::Slower,
            Why::Socket(reason) if zap::is_defect(reason) => Again::Rarely,
            Why::Socket(reason) if is_definite(reason) => Again::Never,
            Why::Socket(_) => Again::AsUsual,
        }
    }

    /// Whether somebody said no, so that nothing but a change on one side helps
    pub(crate) fn is_refusal(&self) -> bool {
        matches!(self.again(), Again::Rarely | Again::Never)
    }
}

/// Whether and when to dial again after a connection ended
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Again {
    AsUsual,
    /// Most likely a key is wrong, but nobody said so: each time later
    Slower,
    /// Refused for who we are: somebody may change that
    Rarely,
    /// What is there will not become what we look for
    Never,
}

/// Why a connection ended: the protocol's reasons and the socket's own
#[derive(Clone, Debug)]
pub(crate) enum Why {
    Protocol(CloseReason),
    Tls(TlsError),
    Socket(&'static str),
}

impl Why {
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Protocol(reason) => reason.name(),
            Self::Tls(error) => error.name(),
            Self::Socket(name) => name,
        }
    }

    pub(crate) fn detail(&self) -> String {
        match self {
            Self::Protocol(reason) => reason.to_string(),
            Self::Tls(error) => error.to_string(),
            Self::Socket(name) => explain(name).to_owned(),
        }
    }

    /// What the peer or we say no with
    pub(crate) fn code(&self) -> String {
        match self {
            Self::Protocol(CloseReason::ErrorReceived { reason }) => reason.clone(),
            Self::Protocol(CloseReason::Denied { code, .. }) => code.to_string(),
            why => why.name().to_owned(),
        }
    }
}

/// A byte stream that just came about, and what it is for
#[derive(Debug)]
pub(crate) struct Arrival {
    pub(crate) shared: Arc<Shared>,
    pub(crate) terms: Arc<Terms>,
    pub(crate) stream: Stream,
    /// Whether this side connected: then a stop is for the connection, too, and not for the listener alone
    pub(crate) dialled: bool,
    /// The pipe that waits for it, on the side that connects
    pub(crate) key: Option<PipeKey>,
    /// What the application calls the peer (connect_as); empty if it doesn't
    pub(crate) peer_name: Bytes,
    pub(crate) endpoint: Arc<str>,
    pub(crate) connection: ConnectionId,
    pub(crate) address: Arc<str>,
    pub(crate) peer: PeerAddress,
    /// Whom to tell of the peer, on the side that connects
    pub(crate) outcome: Option<watch::Sender<Option<Outcome>>>,
}

/// One connection, from its byte stream to its end
///
/// Made before its task is, so that the task holds a pointer and not this several times over.
pub(crate) struct Driver {
    shared: Arc<Shared>,
    terms: Arc<Terms>,
    stream: Stream,
    protocol: Protocol,
    waker: Arc<AtomicWaker>,
    dialled: bool,
    key: Option<PipeKey>,
    peer_name: Bytes,
    attached: bool,
    endpoint: Arc<str>,
    connection: ConnectionId,
    address: Arc<str>,
    peer: PeerAddress,
    outcome: Option<watch::Sender<Option<Outcome>>>,
    orders: Orders,
    /// Among those of its listener that are not handshaken
    place: Option<Place>,
    /// An authenticator is at it
    asking: Option<auth::Waiting>,
    /// Whom the peer claims to be
    claim: (&'static str, String),
    /// The key that a CURVE client has proved to hold
    curve_key: Option<CurvePublicKey>,
    /// Why nobody really decided on the peer
    defect: Option<&'static str>,
    /// What was read and is not decoded
    input: BytesMut,
    read_size: usize,
    small_reads: u32,
    /// `input` may hold whole messages for which there was no room
    undecoded: bool,
    at_eof: bool,
    /// The byte stream had nothing more in this poll, and wakes the task when it has
    nothing_to_read: bool,
    /// Commands to be written, in front of the batch unless that is in the middle of a message
    commands: BytesMut,
    /// Taken from the pipe
    batch: WriteQueue,
    /// The batch as this peer needs it, where it can't have it as it is
    sealed: WriteQueue,
    /// Handed to the kernel since the pipe was last told
    written: Load,
    write_failure: Option<io::ErrorKind>,
    tls: Option<Arc<TlsPeer>>,
    tls_failure: Option<TlsError>,
    control: Vec<Control>,
    timer: Option<Pin<Box<Sleep>>>,
    armed: Option<Instant>,
}

impl Driver {
    pub(crate) fn new(arrival: Arrival) -> Box<Self> {
        let protocol = match arrival.shared.reporter.socket_type {
            SocketType::Stream => Protocol::Raw(Raw::default()),
            _ => Protocol::Zmtp(Box::new(Connection::new(arrival.terms.zmtp_config(&arrival.shared), now()))),
        };
        Box::new(Self {
            shared: arrival.shared,
            terms: arrival.terms,
            stream: arrival.stream,
            protocol,
            waker: Arc::new(AtomicWaker::new()),
            dialled: arrival.dialled,
            key: arrival.key,
            peer_name: arrival.peer_name,
            attached: false,
            endpoint: arrival.endpoint,
            connection: arrival.connection,
            address: arrival.address,
            peer: arrival.peer,
            outcome: arrival.outcome,
            orders: Orders { room: 0, close: None, drain: None },
            place: None,
            asking: None,
            claim: ("", String::new()),
            curve_key: None,
            defect: None,
            input: BytesMut::new(),
            read_size: SMALLEST_READ,
            small_reads: 0,
            undecoded: false,
            at_eof: false,
            nothing_to_read: false,
            commands: BytesMut::new(),
            batch: WriteQueue::new(),
            sealed: WriteQueue::new(),
            written: Load::default(),
            write_failure: None,
            tls: None,
            tls_failure: None,
            control: Vec::new(),
            timer: None,
            armed: None,
        })
    }

    /// Takes a place among the listener's connections that are not handshaken
    pub(crate) fn takes_place(&mut self, enter: impl FnOnce(Arc<AtomicWaker>) -> Place) {
        self.place = Some(enter(self.waker.clone()));
    }

    /// Runs the connection to its end
    ///
    /// `stop` ends it while there is no peer yet. Afterwards the pipe says when it must end, and a stop
    /// tells the pipe if this side dialled.
    pub(crate) async fn run(&mut self, stop: &CancellationToken) -> Ended {
        if let Stream::Tls(_) = &self.stream
            // Apart, for only its beginning needs it
            && let Err(why) = Box::pin(self.secure(stop)).await
        {
            return self.end_unknown(why);
        }
        let mut stopped = pin!(stop.cancelled());
        let early = poll_fn(|cx| {
            if let Poll::Ready(why) = self.poll(cx) {
                return Poll::Ready(Some(why));
            }
            // Once there is a peer a stopped listener is none of its business
            match !self.attached || self.dialled {
                true => stopped.as_mut().poll(cx).map(|()| None),
                false => Poll::Pending,
            }
        });
        let early = early.await;
        let why = match early {
            Some(why) => why,
            None if self.attached => {
                if let Some(key) = self.key.filter(|_| self.dialled) {
                    self.shared.with(|state| state.leave(key));
                }
                poll_fn(|cx| self.poll(cx)).await
            }
            None => {
                // There is no order to part in: nothing was said yet
                let reason = self.shared.with(|state| state.end_reason());
                return self.end_unknown(Why::Socket(reason));
            }
        };
        let (ended, parts) = self.finish(why);
        if parts {
            // Apart, for only its end needs it
            Box::pin(tokio::time::timeout(PARTING, self.part())).await.ok();
        }
        ended
    }

    /// The end of a connection that never came to speak
    fn end_unknown(&self, why: Why) -> Ended {
        self.shared.with(|state| state.count_close(why.name()));
        Ended { why, hint: None, was_handshaken: false, aftermath: Aftermath::default() }
    }

    /// The handshake of TLS, within the time that all handshakes together may take
    async fn secure(&mut self, stop: &CancellationToken) -> Result<(), Why> {
        let after = self.terms.look(&self.shared, |options| options.handshake_interval);
        let deadline = async {
            match after {
                Some(after) => tokio::time::sleep(after).await,
                None => std::future::pending().await,
            }
        };
        let (place, waker) = (&self.place, &self.waker);
        let crowded_out = poll_fn(|cx| {
            waker.register(cx.waker());
            match place.as_ref().is_some_and(Place::is_lost) {
                true => Poll::Ready(()),
                false => Poll::Pending,
            }
        });
        let shaken = tokio::select! {
            biased;
            () = stop.cancelled() => return Err(Why::Socket(self.shared.with(|state| state.end_reason()))),
            () = crowded_out => return Err(Why::Socket(CROWDED_OUT)),
            shaken = self.stream.handshake() => shaken,
            () = deadline => {
                let after = after.unwrap_or_default();
                return Err(Why::Protocol(CloseReason::HandshakeTimedOut { after }));
            }
        };
        self.tls = shaken.map_err(Why::Tls)?.map(Arc::new);
        Ok(())
    }

    /// What a failure of the byte stream is, once it is known
    fn transport_failure(&mut self, kind: io::ErrorKind) -> Why {
        self.tls_failure.take().map_or(Why::Protocol(CloseReason::TransportFailed(kind)), Why::Tls)
    }

    fn write_failed(&mut self, error: &io::Error) {
        self.tls_failure = TlsError::of(error).cloned();
        self.write_failure = Some(error.kind());
    }

    /// Says how the connection ended, in the words that fit; `wait` until the next, if there is to be one
    pub(crate) fn report(&self, ended: &Ended, wait: Option<Duration>) {
        let say = |kind: &dyn Fn() -> EventKind| {
            self.shared.reporter.say(Some(self.connection), Some(&self.endpoint), Some(&self.address), kind);
        };
        let (reason, detail, retry_in_ms) = (ended.why.name(), || ended.detail(), in_ms(wait));
        if ended.was_handshaken {
            let (requeued, lost) = (ended.aftermath.requeued, ended.aftermath.lost);
            say(&|| EventKind::Disconnected { reason, detail: detail(), requeued, lost, retry_in_ms });
        } else {
            say(&|| EventKind::HandshakeFailed { reason, detail: detail(), retry_in_ms });
            // Whom we denied was said when that was decided
            if ended.is_refusal() && !self.has_denied(&ended.why) {
                say(&|| EventKind::Refused { code: ended.why.code(), reason: detail() });
            }
        }
    }

    fn has_denied(&self, why: &Why) -> bool {
        self.defect.is_some() || matches!(why, Why::Protocol(CloseReason::Denied { .. }))
    }

    fn poll(&mut self, cx: &mut TaskContext<'_>) -> Poll<Why> {
        // Before looking at the pipe: whatever is queued after the look wakes this task
        self.waker.register(cx.waker());
        self.nothing_to_read = false;
        if !self.attached {
            if self.place.as_ref().is_some_and(Place::is_lost) {
                return Poll::Ready(Why::Socket(CROWDED_OUT));
            }
            if let Some(asking) = &mut self.asking
                && let Poll::Ready(answer) = asking.as_mut().poll(cx)
            {
                self.asking = None;
                self.handle_answer(answer);
            }
        }
        for _ in 0..ROUNDS {
            if let Some(why) = self.handle_events() {
                return Poll::Ready(why);
            }
            self.exchange();
            if let Some(reason) = self.orders.close {
                return Poll::Ready(Why::Socket(reason));
            }
            if !self.attached && self.poll_read(cx) {
                // A peer that has said all of the handshake is answered in one piece, and the first messages go along
                continue;
            }
            let wrote = self.poll_write(cx);
            if let Some(reason) = self.orders.drain
                && self.nothing_to_write()
            {
                return Poll::Ready(Why::Socket(reason));
            }
            let read = self.poll_read(cx);
            if !wrote && !read {
                if let (Some(kind), true) = (self.write_failure, self.may_read()) {
                    // What the peer had sent before is read; there is nothing more to be had
                    return Poll::Ready(self.transport_failure(kind));
                }
                return self.poll_timer(cx);
            }
        }
        // Other tasks get their turn, then this one goes on
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// Takes note of what the protocol has to say; a reason ends the connection
    fn handle_events(&mut self) -> Option<Why> {
        while let Some(event) = self.protocol.poll_event() {
            match event {
                ProtocolEvent::Authenticate(credentials) => self.authenticate(&credentials),
                ProtocolEvent::Handshaken(peer) => {
                    if let Err(reason) = self.attach(peer) {
                        return Some(Why::Socket(reason));
                    }
                }
                // Nobody's verdict was that: the handler's defect has a name of its own
                ProtocolEvent::Closed(CloseReason::Denied { .. }) if self.defect.is_some() => {
                    return self.defect.map(Why::Socket);
                }
                ProtocolEvent::Closed(CloseReason::TransportFailed(kind)) => return Some(self.transport_failure(kind)),
                ProtocolEvent::Closed(reason) => return Some(Why::Protocol(reason)),
                _ => {}
            }
        }
        None
    }

    /// Asks whether the peer may come in
    fn authenticate(&mut self, credentials: &Credentials) {
        let user = match credentials {
            Credentials::Plain { username, .. } => readable(username),
            Credentials::Curve { public_key } => public_key.to_string(),
            _ => String::new(),
        };
        self.claim = (credentials.mechanism(), user);
        if let Credentials::Curve { public_key } = credentials {
            self.curve_key = Some(*public_key);
        }
        let routing_id = self.terms.look(&self.shared, |options| options.routing_id.clone());
        let zap_address = zap_address(self.peer, &self.stream);
        let candidate = Candidate {
            peer: self.peer,
            zap_address: &zap_address,
            routing_id: &routing_id,
            credentials,
            tls: self.tls.as_deref(),
        };
        match auth::ask(&self.shared.context, &self.terms.security, candidate) {
            Asked::Answered(answer) => self.handle_answer(answer),
            Asked::Waits(asking) => {
                self.asking = Some(asking);
                // So that it is polled and can wake this task
                self.waker.wake();
            }
        }
    }

    fn handle_answer(&mut self, answer: Answer) {
        if let AuthVerdict::Deny { code, reason } = &answer.verdict {
            self.shared.reporter.say(Some(self.connection), Some(&self.endpoint), Some(&self.address), || {
                let (mechanism, user) = self.claim.clone();
                EventKind::Denied { code: code.number().to_string(), reason: reason.clone(), mechanism, user }
            });
        }
        self.defect = answer.defect;
        self.protocol.handle_verdict(answer.verdict);
        // What the peer said meanwhile
        self.decode();
    }

    fn attach(&mut self, peer: PeerInfo) -> Result<(), &'static str> {
        let is_curve_client = peer.mechanism == "CURVE" && self.curve_key.is_none();
        let origin = Origin {
            curve_key: match is_curve_client {
                true => self.terms.look(&self.shared, |options| options.curve_server_key),
                false => self.curve_key,
            },
            connection: self.connection,
            address: self.address.clone(),
            socket_type: peer.socket_type,
            mechanism: peer.mechanism,
            user_id: peer.user_id.clone(),
            routing_id: peer.routing_id.clone(),
            tls: self.tls.clone(),
            peer_address: zap_address(self.peer, &self.stream).into(),
            granted: peer.metadata.clone(),
            announced: peer.properties.clone(),
        };
        let newcomer = Newcomer {
            routing_id: peer.routing_id.clone(),
            connection: Some(self.connection),
            endpoint: self.endpoint.clone(),
            address: Some(self.address.clone()),
            driver: PipeDriver::Task(self.waker.clone()),
            name: self.peer_name.clone(),
            takes_multipart: multipart::is_announced(&peer.properties),
            origin: Arc::new(origin),
        };
        let key = self.shared.with(|state| state.attach(self.key, newcomer, false))?;
        self.key = Some(key);
        self.attached = true;
        self.place = None;
        let reporter = &self.shared.reporter;
        reporter.say(Some(self.connection), Some(&self.endpoint), Some(&self.address), || handshaken(&peer));
        if let Some(outcome) = &self.outcome {
            let peer = Peer::new(&peer, self.connection, &self.endpoint, &self.address);
            let id = self.shared.with(|state| state.id_of_peer(key));
            outcome.send_replace(Some(Ok(Peer { id, ..peer })));
        }
        Ok(())
    }

    /// Everything that passes between this connection and its socket, under one lock
    fn exchange(&mut self) {
        let Some(key) = self.key.filter(|_| self.attached) else {
            // Nothing passes before there is a peer
            return;
        };
        let written = mem::take(&mut self.written);
        let decoded = self.protocol.messages();
        let (batch, control) = (&mut self.batch, &mut self.control);
        self.orders = self.shared.with(|state| state.exchange(key, decoded, written, batch, control));
        for change in self.control.drain(..) {
            self.protocol.change_subscription(&change);
        }
    }

    fn nothing_to_write(&self) -> bool {
        self.batch.is_empty() && self.sealed.is_empty() && self.commands.is_empty() && !self.stream.needs_flush()
    }

    /// Writes what can be written; whether anything was
    fn poll_write(&mut self, cx: &mut TaskContext<'_>) -> bool {
        let mut progress = false;
        while self.write_failure.is_none() {
            self.protocol.poll_transmit(&mut self.commands);
            let passthrough = self.protocol.is_passthrough();
            if !passthrough {
                // Even with an empty batch: commands may be to be sealed
                self.protocol.seal(&self.batch, &mut self.sealed);
            }
            let queue = if passthrough { &mut self.batch } else { &mut self.sealed };
            let commands_first = !self.commands.is_empty() && !queue.partly_written();
            let has_queue = self.attached && !queue.is_empty();
            let outcome = match (commands_first, has_queue) {
                (false, false) => break,
                (true, false) => Pin::new(&mut self.stream).poll_write(cx, &self.commands),
                // Mostly all lies in one piece: no list of slices to be made then
                (false, true) if let Some(whole) = queue.contiguous() => {
                    Pin::new(&mut self.stream).poll_write(cx, whole)
                }
                (_, true) => {
                    let mut slices = [IoSlice::new(&[]); SLICES];
                    let (front, rest) = slices.split_at_mut(usize::from(commands_first));
                    front.iter_mut().for_each(|slot| *slot = IoSlice::new(&self.commands));
                    let used = front.len() + queue.slices(rest);
                    let filled = slices.get(..used).unwrap_or_default();
                    Pin::new(&mut self.stream).poll_write_vectored(cx, filled)
                }
            };
            match outcome {
                Poll::Pending => break,
                Poll::Ready(Ok(0)) => self.write_failure = Some(io::ErrorKind::WriteZero),
                Poll::Ready(Err(error)) => self.write_failed(&error),
                Poll::Ready(Ok(mut count)) => {
                    progress = true;
                    if commands_first {
                        let taken = count.min(self.commands.len());
                        self.commands.advance(taken);
                        if self.commands.is_empty() {
                            // Commands are rare once the handshake is done
                            self.commands = BytesMut::new();
                        }
                        count -= taken;
                    }
                    let messages = queue.advance(count);
                    // The batch keeps what is sealed until that is written whole
                    let octets = if passthrough { count } else { self.batch.advance_messages(messages) };
                    self.written.messages += messages as u64;
                    self.written.octets += octets as u64;
                }
            }
        }
        if self.stream.needs_flush() && self.write_failure.is_none() {
            // TLS has taken it and the kernel has not. Done, it may take more; else the kernel wakes this task.
            match Pin::new(&mut self.stream).poll_flush(cx) {
                Poll::Pending => {}
                Poll::Ready(Ok(())) => progress = true,
                Poll::Ready(Err(error)) => self.write_failed(&error),
            }
        }
        progress
    }

    fn may_read(&self) -> bool {
        if self.attached { self.orders.room > 0 } else { !self.protocol.awaits_verdict() }
    }

    /// Reads and decodes; whether anything came of it
    fn poll_read(&mut self, cx: &mut TaskContext<'_>) -> bool {
        let may_read = self.may_read();
        self.protocol.set_reading(may_read);
        if !may_read {
            return false;
        }
        if self.undecoded {
            self.undecoded = false;
            if self.decode() {
                return true;
            }
        }
        if self.at_eof {
            self.protocol.handle_eof();
            return true;
        }
        if self.nothing_to_read {
            return false;
        }
        self.make_room_to_read();
        let before = self.input.len();
        let outcome = pin!(self.stream.read_buf(&mut self.input)).poll(cx);
        match outcome {
            Poll::Pending => {
                self.nothing_to_read = true;
                self.lend_input();
                return false;
            }
            Poll::Ready(Ok(0)) => {
                self.at_eof = true;
                self.undecoded = true;
            }
            Poll::Ready(Err(error)) => {
                self.tls_failure = TlsError::of(&error).cloned();
                self.protocol.handle_failure(error.kind());
            }
            Poll::Ready(Ok(_)) => {
                self.adapt_read_size(self.input.len() - before);
                self.decode();
            }
        }
        true
    }

    /// Decodes what was read; whether any message came out
    fn decode(&mut self) -> bool {
        let was_attached = self.attached;
        self.protocol.handle_input(&mut self.input, if self.attached { self.orders.room } else { 0 });
        let decoded = self.protocol.messages().len();
        // Without room decoding stopped early, as it does where the handshake ends
        self.undecoded = !self.input.is_empty() && (!was_attached || decoded >= self.orders.room);
        decoded > 0
    }

    fn make_room_to_read(&mut self) {
        let spare = self.input.capacity() - self.input.len();
        let missing = self.protocol.read_hint();
        // A large frame grows the buffer with what has really come, not with what was announced
        let wanted = missing.min(self.input.len().max(LARGEST_READ)).max(self.read_size);
        let is_enough = |spare: usize| spare >= wanted.min(self.read_size) / 2 && spare >= missing.min(wanted);
        if is_enough(spare) {
            return;
        }
        if self.input.len() <= SMALL_REST
            && let Some(mut lent) = LENT.try_with(Cell::take).ok().flatten()
            && is_enough(lent.capacity() - self.input.len().min(lent.capacity()))
        {
            lent.extend_from_slice(&self.input);
            self.input = lent;
            return;
        }
        self.input.reserve(wanted);
    }

    /// A connection that waits holds no buffer but for what it could not decode: the thread's next one reads into it
    fn lend_input(&mut self) {
        if self.input.capacity() == 0 || self.input.len() > SMALL_REST {
            return;
        }
        let rest = if self.input.is_empty() { BytesMut::new() } else { BytesMut::from(&self.input[..]) };
        let mut input = mem::replace(&mut self.input, rest);
        if input.capacity() <= IDLE_BUFFER {
            input.clear();
            LENT.try_with(|lent| lent.set(Some(input))).ok();
        }
    }

    fn adapt_read_size(&mut self, count: usize) {
        if self.input.len() == self.input.capacity() || count >= self.read_size {
            self.read_size = (self.read_size * 2).min(LARGEST_READ);
            self.small_reads = 0;
        } else if count < self.read_size / 4 {
            self.small_reads += 1;
            if self.small_reads >= SMALL_READS {
                self.read_size = (self.read_size / 2).max(SMALLEST_READ);
                self.small_reads = 0;
            }
        } else {
            self.small_reads = 0;
        }
    }

    /// Waits for the protocol's next deadline, with a timer that is moved only when it must be
    fn poll_timer(&mut self, cx: &mut TaskContext<'_>) -> Poll<Why> {
        loop {
            let Some(deadline) = self.protocol.poll_timeout() else {
                self.timer = None;
                self.armed = None;
                return Poll::Pending;
            };
            // Traffic pushes the deadline back all the time: an earlier alarm is let ring
            if self.armed.is_none_or(|armed| deadline < armed) {
                let at = tokio::time::Instant::from_std(deadline);
                match &mut self.timer {
                    Some(timer) => timer.as_mut().reset(at),
                    None => self.timer = Some(Box::pin(tokio::time::sleep_until(at))),
                }
                self.armed = Some(deadline);
            }
            let Some(timer) = &mut self.timer else {
                return Poll::Pending;
            };
            if timer.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
            self.armed = None;
            if now() >= deadline {
                self.protocol.handle_timeout();
                // What it has to say or to send is seen to in the next round
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
        }
    }

    /// Tells the socket what became of the messages; and whether to part from the peer in good order
    fn finish(&mut self, why: Why) -> (Ended, bool) {
        // Who is denied hears it only if nothing that it sent lies unread when the connection closes
        let graceful = match why {
            // Its descriptor is wanted at once
            Why::Socket(reason) => reason != CROWDED_OUT,
            Why::Protocol(CloseReason::Denied { .. }) => true,
            _ => false,
        };
        // A refusal is told before the connection closes, if the kernel takes it at once
        self.poll_write(&mut TaskContext::from_waker(Waker::noop()));
        let attached = self.key.filter(|_| self.attached);
        let (decoded, written) = (self.protocol.messages(), self.written);
        let unwritten = mem::take(&mut self.batch);
        let (aftermath, must_part) = self.shared.with(|state| {
            state.count_close(why.name());
            let Some(key) = attached else {
                return (Aftermath::default(), true);
            };
            state.hand_over(key, decoded, written);
            // Before it forgets the peer and what that owes
            let must_part = state.must_part();
            (state.detach(key, unwritten), must_part)
        });
        let parts = graceful && must_part && self.write_failure.is_none();
        let was_silent = matches!(why, Why::Protocol(CloseReason::PeerClosed { .. } | CloseReason::TransportFailed(_)));
        let hint = if was_silent && !self.attached { self.terms.security.suspicion() } else { None };
        (Ended { why, hint, was_handshaken: self.attached, aftermath }, parts)
    }

    /// Closes the sending half and lets the peer close the other
    ///
    /// Closing with unread input would make the kernel reset the connection, and the peer might
    /// lose what it was just sent.
    async fn part(&mut self) -> io::Result<()> {
        self.stream.shutdown().await?;
        self.input.clear();
        self.input.reserve(SMALLEST_READ);
        while self.stream.read_buf(&mut self.input).await? > 0 {
            self.input.clear();
        }
        Ok(())
    }
}

fn handshaken(peer: &PeerInfo) -> EventKind {
    EventKind::Handshaken {
        peer_type: peer.socket_type.map(|socket_type| socket_type.name()),
        routing_id: readable(&peer.routing_id),
        version: format!("{}.{}", peer.version.0, peer.version.1),
        mechanism: peer.mechanism,
        properties: peer
            .properties
            .iter()
            .filter(|(name, _)| !["socket-type", "identity"].iter().any(|known| name.eq_ignore_ascii_case(known)))
            .map(|(name, value)| (name.to_owned(), readable(value)))
            .collect(),
    }
}

/// What is spoken on the byte stream
#[derive(Debug)]
enum Protocol {
    Zmtp(Box<Connection>),
    /// STREAM: nothing, the octets are the messages
    Raw(Raw),
}

/// A raw TCP peer of a STREAM socket
#[derive(Debug, Default)]
struct Raw {
    introduced: bool,
    messages: VecDeque<Message>,
    closed: Option<CloseReason>,
}

impl Protocol {
    fn handle_input(&mut self, octets: &mut BytesMut, room: usize) {
        match self {
            Self::Zmtp(connection) => connection.handle_input(now(), octets, room),
            Self::Raw(raw) if room > raw.messages.len() && !octets.is_empty() => {
                raw.messages.push_back(Message::from(octets.split().freeze()));
            }
            Self::Raw(_) => {}
        }
    }

    fn messages(&mut self) -> &mut VecDeque<Message> {
        match self {
            Self::Zmtp(connection) => connection.messages(),
            Self::Raw(raw) => &mut raw.messages,
        }
    }

    fn poll_event(&mut self) -> Option<ProtocolEvent> {
        match self {
            Self::Zmtp(connection) => connection.poll_event(),
            Self::Raw(raw) if !raw.introduced => {
                raw.introduced = true;
                Some(ProtocolEvent::Handshaken(PeerInfo {
                    version: (0, 0),
                    socket_type: None,
                    routing_id: Bytes::new(),
                    properties: Properties::new(),
                    mechanism: "none",
                    user_id: Bytes::new(),
                    metadata: tidings_zmtp::Properties::new(),
                }))
            }
            Self::Raw(raw) if raw.messages.is_empty() => raw.closed.take().map(ProtocolEvent::Closed),
            Self::Raw(_) => None,
        }
    }

    fn poll_transmit(&mut self, into: &mut BytesMut) {
        if let Self::Zmtp(connection) = self {
            connection.transmit_into(into);
        }
    }

    fn handle_verdict(&mut self, verdict: AuthVerdict) {
        if let Self::Zmtp(connection) = self {
            connection.handle_verdict(now(), verdict);
        }
    }

    fn is_passthrough(&self) -> bool {
        match self {
            Self::Zmtp(connection) => connection.is_passthrough(),
            Self::Raw(_) => true,
        }
    }

    fn awaits_verdict(&self) -> bool {
        match self {
            Self::Zmtp(connection) => connection.awaits_verdict(),
            Self::Raw(_) => false,
        }
    }

    fn seal(&mut self, from: &WriteQueue, into: &mut WriteQueue) {
        if let Self::Zmtp(connection) = self {
            connection.seal(from, into, SEALED_AT_ONCE);
        }
    }

    fn change_subscription(&mut self, change: &Control) {
        match self {
            Self::Zmtp(connection) if change.subscribe => connection.subscribe(&change.topic),
            Self::Zmtp(connection) => connection.cancel(&change.topic),
            Self::Raw(_) => {}
        }
    }

    fn read_hint(&self) -> usize {
        match self {
            Self::Zmtp(connection) => connection.read_hint(),
            Self::Raw(_) => 0,
        }
    }

    fn set_reading(&mut self, reading: bool) {
        if let Self::Zmtp(connection) = self {
            connection.set_reading(now(), reading);
        }
    }

    fn poll_timeout(&self) -> Option<Instant> {
        match self {
            Self::Zmtp(connection) => connection.poll_timeout(),
            Self::Raw(_) => None,
        }
    }

    fn handle_timeout(&mut self) {
        if let Self::Zmtp(connection) = self {
            connection.handle_timeout(now());
        }
    }

    fn handle_eof(&mut self) {
        match self {
            Self::Zmtp(connection) => connection.handle_eof(now()),
            Self::Raw(raw) => raw.closed = Some(CloseReason::PeerClosed { mid_frame: false, mid_handshake: false }),
        }
    }

    fn handle_failure(&mut self, kind: io::ErrorKind) {
        match self {
            Self::Zmtp(connection) => connection.handle_transport_error(kind),
            Self::Raw(raw) => raw.closed = Some(CloseReason::TransportFailed(kind)),
        }
    }
}

thread_local! {
    /// An empty buffer to read into, for whichever connection of the thread has something to read
    static LENT: Cell<Option<BytesMut>> = const { Cell::new(None) };
}

/// The time, by tokio's clock so that tests can steer it
fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

/// Rounds of one poll before other tasks get a turn
const ROUNDS: usize = 16;
/// Slices in one vectored write; the kernel takes up to 1,024, and each costs
const SLICES: usize = 64;
const SMALLEST_READ: usize = 4 * 1024;
const LARGEST_READ: usize = 256 * 1024;
/// The largest buffer that a thread keeps while its connections wait
const IDLE_BUFFER: usize = 4 * 1024;
/// Most octets of an unfinished frame for which no large buffer is held
const SMALL_REST: usize = 512;
/// Small reads in a row before the buffer shrinks
const SMALL_READS: u32 = 16;
const SEALED_AT_ONCE: usize = 64 * 1024;
/// How our own sockets say in an ERROR that they are of a type that does not fit
const INCOMPATIBLE: &str = "incompatible-socket-type";
/// How long the peer has to close its half after we closed ours
const PARTING: Duration = Duration::from_secs(1);

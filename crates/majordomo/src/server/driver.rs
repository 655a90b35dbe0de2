//! The loop around a broker: messages in, messages out, and time.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use tidings_socket::{ConnectionId, Message, Origin, Received, RecvError, SendFailure, Socket};
use tokio::sync::mpsc;

use super::log::Log;
use super::{Shared, StopReport, now};
use crate::broker::{Broker, Local, PeerKey, Transmit, TransmitKind, Unsent};

pub(super) struct Driver {
    socket: Socket,
    shared: Arc<Shared>,
    locals: mpsc::UnboundedSender<Local>,
    received: Vec<Received>,
    /// Messages to send, and what each is, in the same order
    messages: Vec<Message>,
    kinds: Vec<(PeerKey, TransmitKind)>,
    /// How connections are sent to. `Shared` has the same for others, behind a lock that no message need take
    routes: HashMap<PeerKey, Bytes, foldhash::fast::RandomState>,
    /// Octets sent since it was last looked how many wait
    sent_octets: usize,
    /// Connections that ended
    gone: Vec<PeerKey>,
    log: Log,
}

impl Driver {
    pub(super) fn new(socket: Socket, shared: Arc<Shared>, locals: mpsc::UnboundedSender<Local>) -> Self {
        let (received, messages, kinds, routes, gone) = Default::default();
        Self { socket, shared, locals, received, messages, kinds, routes, sent_octets: 0, gone, log: Log::default() }
    }

    /// Until it is stopped or the socket is closed
    pub(super) async fn run(mut self) -> StopReport {
        let sleep = tokio::time::sleep(Duration::ZERO);
        tokio::pin!(sleep);
        loop {
            let next = self.turn();
            let stop_at = self.shared.stop_at();
            if let Some(until) = stop_at
                && (now() >= until || self.shared.broker().outstanding() == 0)
            {
                return self.finish(until).await;
            }
            let wake_at = match (next, stop_at) {
                (Some(next), Some(stop)) => Some(next.min(stop)),
                (next, stop) => next.or(stop),
            };
            if let Some(wake_at) = wake_at.map(tokio::time::Instant::from_std)
                && wake_at != sleep.deadline()
            {
                sleep.as_mut().reset(wake_at);
            }
            tokio::select! {
                biased;
                received = self.socket.recv_many_from(&mut self.received, BATCH) => match received {
                    // With `recv_timeout` set on the socket: as good as a wake-up
                    Ok(_) | Err(RecvError::TimedOut(_)) => {}
                    Err(_) => return self.finish(now()).await,
                },
                () = self.shared.touched.notified() => {}
                () = &mut sleep, if wake_at.is_some() => {}
            }
        }
    }

    /// All that can be done now; then, when there is something to do again
    fn turn(&mut self) -> Option<Instant> {
        let shared = self.shared.clone();
        let mut broker = shared.broker();
        // Taken from the end from here on
        self.received.reverse();
        loop {
            let now = now();
            self.handle_received(&mut broker, &shared, now);
            if broker.poll_timeout().is_some_and(|next| next <= now) {
                broker.handle_timeout(now);
            }
            self.transmit(&mut broker, &shared, now);
            if self.bound_unsent(&mut broker, now) {
                self.transmit(&mut broker, &shared, now);
            }
            while let Some(local) = broker.poll_local() {
                // Nobody may be there to receive it; then nobody asked
                let _ = self.locals.send(local);
            }
            let mut peers = shared.peers();
            while let Some(event) = broker.poll_event() {
                self.log.tell(now, &event, &peers);
            }
            // Not before what they did is told
            for peer in self.gone.drain(..) {
                peers.remove(peer);
                self.routes.remove(&peer);
            }
            if self.received.is_empty() {
                return broker.poll_timeout();
            }
        }
    }

    /// Hands messages to the broker, but not for longer than others may wait for what comes of the first
    fn handle_received(&mut self, broker: &mut Broker, shared: &Shared, began: Instant) {
        for count in 1.. {
            let Some(Received { mut message, from, is_notice, .. }) = self.received.pop() else { return };
            let peer = PeerKey(from.connection.number());
            // A ROUTER puts the routing id in front of everything
            let Some(routing_id) = message.pop_front() else { continue };
            if is_notice {
                broker.handle_gone(began, peer);
                self.gone.push(peer);
                continue;
            }
            if let Entry::Vacant(place) = self.routes.entry(peer) {
                place.insert(routing_id);
                shared.peers().enter(peer, &from);
                let principal = principal_of(&from);
                if !principal.is_empty() {
                    broker.identify(peer, principal);
                }
            }
            broker.handle_message(began, peer, message);
            if count % LOOK_AT_CLOCK == 0 && now().saturating_duration_since(began) > SLICE {
                return;
            }
        }
    }

    /// Sends all that the broker has to say
    fn transmit(&mut self, broker: &mut Broker, shared: &Shared, now: Instant) {
        loop {
            while let Some(Transmit { to, mut message, kind }) = broker.poll_transmit() {
                match self.routes.get(&to) {
                    Some(routing_id) => {
                        self.sent_octets += message.octets();
                        message.push_front(routing_id.clone());
                        self.messages.push(message);
                        self.kinds.push((to, kind));
                    }
                    None => broker.handle_unsent(now, to, kind, Unsent::Gone),
                }
                if self.messages.len() >= BATCH {
                    break;
                }
            }
            if self.messages.is_empty() {
                return;
            }
            // What can't be sent may lead to more
            self.send(|to, kind, why, socket| {
                if (why, kind) == (Unsent::Full, TransmitKind::Reply)
                    && let Some(origin) = shared.peers().origin(to)
                {
                    socket.hang_up(origin.connection);
                }
                broker.handle_unsent(now, to, kind, why);
            });
        }
    }

    /// Hangs up on the clients for whom most waits, while too much waits for all of them together; whether it did
    fn bound_unsent(&mut self, broker: &mut Broker, now: Instant) -> bool {
        let most = broker.config().max_unsent_octets;
        if self.sent_octets < most / UNSENT_LOOKS {
            return false;
        }
        self.sent_octets = 0;
        let peers = self.socket.stats().peers.into_iter();
        let waiting = peers.filter_map(|peer| Some((peer.queued_out_octets, peer.connection?)));
        let of_client = |(_, connection): &(u64, ConnectionId)| !broker.is_worker(PeerKey(connection.number()));
        let mut waiting: Vec<_> = waiting.filter(of_client).collect();
        let mut total: u64 = waiting.iter().map(|(octets, _)| octets).sum();
        waiting.sort_unstable_by_key(|(octets, _)| *octets);
        let mut hung_up = false;
        while total > most as u64
            && let Some((octets, connection)) = waiting.pop()
        {
            total -= octets;
            hung_up = true;
            self.socket.hang_up(connection);
            broker.handle_unsent(now, PeerKey(connection.number()), TransmitKind::Reply, Unsent::Full);
        }
        hung_up
    }

    /// Hands messages to the socket, and tells which of them it would not take
    fn send(&mut self, mut unsent: impl FnMut(PeerKey, TransmitKind, Unsent, &Socket)) {
        let mut place = 0;
        while !self.messages.is_empty() {
            match self.socket.try_send_many(&mut self.messages) {
                Ok(sent) => place += sent,
                Err(failure) => {
                    let why = if failure == SendFailure::WouldBlock { Unsent::Full } else { Unsent::Gone };
                    self.messages.remove(0);
                    if let Some((to, kind)) = self.kinds.get(place) {
                        unsent(*to, *kind, why, &self.socket);
                    }
                    place += 1;
                }
            }
        }
        self.kinds.clear();
    }

    /// Ends what is left, and the socket
    async fn finish(mut self, until: Instant) -> StopReport {
        let (unanswered, workers) = {
            let mut broker = self.shared.broker();
            let (unanswered, workers) = (broker.outstanding(), broker.worker_count());
            broker.finish_stop(now());
            (unanswered, workers)
        };
        self.turn();
        let left = until.saturating_duration_since(now()).max(LAST_WORDS);
        let report = self.socket.close(left).await;
        StopReport { unanswered, workers, unsent: report.unflushed.iter().map(|left| left.messages).sum() }
    }
}

/// Who is at the other end, as far as it was authenticated: a user of CURVE, PLAIN or GSSAPI, or the key of a certificate
fn principal_of(origin: &Origin) -> Bytes {
    if !origin.user_id.is_empty() {
        return [b"user:", &origin.user_id[..]].concat().into();
    }
    match origin.tls.as_ref().and_then(|tls| tls.certificate.as_ref()) {
        Some(certificate) => [&b"certificate:"[..], &certificate.public_key_sha256].concat().into(),
        None => Bytes::new(),
    }
}

/// Messages handled under one lock: enough to make it cheap, few enough to let others in
const BATCH: usize = 256;
/// How long messages are handled before what comes of them is sent
const SLICE: Duration = Duration::from_millis(2);
/// Parts of what may wait to be sent after which it is looked how much does
const UNSENT_LOOKS: usize = 16;
/// Messages between two looks at the clock
const LOOK_AT_CLOCK: usize = 16;
/// What there is at least for the last messages to be written
const LAST_WORDS: Duration = Duration::from_millis(200);

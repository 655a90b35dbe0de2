//! The loop around a broker: messages in, messages out, and time.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tidings_socket::{Message, Received, RecvError, SendFailure, Socket};
use tokio::sync::mpsc;

use super::log::Log;
use super::{Shared, StopReport, now};
use crate::broker::{Local, PeerKey, Transmit, TransmitKind, Unsent};

pub(super) struct Driver {
    socket: Socket,
    shared: Arc<Shared>,
    locals: mpsc::UnboundedSender<Local>,
    received: Vec<Received>,
    /// Messages to send, and what each is, in the same order
    messages: Vec<Message>,
    kinds: Vec<(PeerKey, TransmitKind)>,
    log: Log,
}

impl Driver {
    pub(super) fn new(socket: Socket, shared: Arc<Shared>, locals: mpsc::UnboundedSender<Local>) -> Self {
        let (received, messages, kinds) = Default::default();
        Self { socket, shared, locals, received, messages, kinds, log: Log::default() }
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
        let now = now();
        if !self.received.is_empty() {
            for Received { mut message, from, .. } in self.received.drain(..) {
                let peer = PeerKey(from.connection.number());
                // A ROUTER puts the routing id in front of everything
                let Some(routing_id) = message.pop_front() else { continue };
                if message.frame_count() == 1 && message.octets() == 0 {
                    // An empty message is how `router_notify` tells that a connection has ended
                    broker.handle_gone(now, peer);
                    // As long as it is known who that was
                    while let Some(event) = broker.poll_event() {
                        self.log.tell(now, &event, &shared.peers());
                    }
                    shared.peers().remove(peer);
                    continue;
                }
                shared.peers().enter(peer, routing_id, &from);
                broker.handle_message(now, peer, message);
            }
        }
        if broker.poll_timeout().is_some_and(|next| next <= now) {
            broker.handle_timeout(now);
        }
        loop {
            while let Some(Transmit { to, mut message, kind }) = broker.poll_transmit() {
                let peers = shared.peers();
                match peers.routing_id(to) {
                    Some(routing_id) => {
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
                break;
            }
            // What can't be sent may lead to more
            self.send(|to, kind, why| broker.handle_unsent(now, to, kind, why));
        }
        while let Some(local) = broker.poll_local() {
            // Nobody may be there to receive it; then nobody asked
            let _ = self.locals.send(local);
        }
        while let Some(event) = broker.poll_event() {
            self.log.tell(now, &event, &shared.peers());
        }
        broker.poll_timeout()
    }

    /// Hands messages to the socket, and tells which of them it would not take
    fn send(&mut self, mut unsent: impl FnMut(PeerKey, TransmitKind, Unsent)) {
        let mut place = 0;
        while !self.messages.is_empty() {
            match self.socket.try_send_many(&mut self.messages) {
                Ok(sent) => place += sent,
                Err(failure) => {
                    let why = if failure == SendFailure::WouldBlock { Unsent::Full } else { Unsent::Gone };
                    self.messages.remove(0);
                    if let Some((to, kind)) = self.kinds.get(place) {
                        unsent(*to, *kind, why);
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

/// Messages handled under one lock: enough to make it cheap, few enough to let others in
const BATCH: usize = 256;
/// What there is at least for the last messages to be written
const LAST_WORDS: Duration = Duration::from_millis(200);

//! The loop around a node: messages in, messages out, and time.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tidings_socket::{Received, RecvError, Socket};
use tokio::sync::mpsc;

use super::house::House;
use super::options::ConnectOptions;
use super::{Shared, StopReport, now};

pub(super) struct Driver {
    router: Socket,
    shared: Arc<Shared>,
    received: Vec<Received>,
    /// Ends when no dialled connection is left
    remotes: mpsc::Receiver<()>,
}

impl Driver {
    pub(super) fn new(shared: Arc<Shared>, remotes: mpsc::Receiver<()>) -> Self {
        Self { router: shared.router.clone(), shared, received: Vec::new(), remotes }
    }

    /// Until it is stopped or the socket is closed
    pub(super) async fn run(mut self) -> StopReport {
        let (shared, router) = (self.shared.clone(), self.router.clone());
        let sleep = tokio::time::sleep(Duration::ZERO);
        tokio::pin!(sleep);
        // From before anything is tried until it has come true, so that no room is missed; at worst it is out of date, and
        // then one try is in vain
        let writable = router.writable();
        tokio::pin!(writable);
        loop {
            let (next, waits_for_room) = self.turn();
            if let Some(until) = shared.stop_at() {
                return self.finish(until).await;
            }
            // Where sockets of one process never let it wait, the other tasks of its thread get their turn
            tokio::task::coop::consume_budget().await;
            let wake_at = next.map(tokio::time::Instant::from_std);
            if let Some(wake_at) = wake_at
                && wake_at != sleep.deadline()
            {
                sleep.as_mut().reset(wake_at);
            }
            tokio::select! {
                biased;
                received = router.recv_many_from(&mut self.received, BATCH) => match received {
                    Ok(_) | Err(RecvError::TimedOut(_)) => {}
                    Err(_) => return self.finish(now()).await,
                },
                () = shared.touched.notified() => {}
                () = &mut writable, if waits_for_room => {
                    writable.set(router.writable());
                    shared.house().handle_writable(now());
                }
                () = &mut sleep, if wake_at.is_some() => {}
            }
        }
    }

    /// All that can be done now; then, when there is something to do again, and whether a client's queue is full
    fn turn(&mut self) -> (Option<Instant>, bool) {
        let shared = self.shared.clone();
        let (next, waits_for_room, dials) = {
            let mut house = shared.house();
            let now = now();
            self.take_in(&mut house, now);
            if house.node.poll_timeout().is_some_and(|next| next <= now) {
                house.node.handle_timeout(now);
            }
            let dials = house.flush(now, &self.router);
            (house.node.poll_timeout(), house.is_blocked(), dials)
        };
        for (endpoint, node) in dials {
            self.shared.dial(&endpoint, node);
        }
        (next, waits_for_room)
    }

    /// Hands the node all that waits, but not for longer than others may wait for what comes of the first
    fn take_in(&mut self, house: &mut House, began: Instant) {
        loop {
            let time = now();
            for Received { mut message, from, is_notice, .. } in self.received.drain(..) {
                // A ROUTER puts the routing id in front of everything
                let Some(routing_id) = message.pop_front() else { continue };
                match is_notice {
                    true => house.handle_notice(time, &self.router, routing_id, &from),
                    false => house.handle_received(time, &self.router, &from, message),
                }
            }
            if time.saturating_duration_since(began) > SLICE
                || self.router.try_recv_many_from(&mut self.received, BATCH).is_err()
            {
                return;
            }
        }
    }

    /// Ends what is left, and the sockets
    async fn finish(mut self, until: Instant) -> StopReport {
        let shared = self.shared.clone();
        // What the node said last is with the sockets after this
        self.turn();
        let left = until.saturating_duration_since(now()).max(LAST_WORDS);
        let links = {
            let mut house = shared.house();
            house.remotes.values().for_each(|remote| remote.stop.stop());
            house.end();
            house.node.stats().links
        };
        *shared.running.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = None;
        let remotes = async { while self.remotes.recv().await.is_some() {} };
        let (report, _) = tokio::join!(self.router.close(left), tokio::time::timeout(left, remotes));
        StopReport { links, unsent: report.unflushed.iter().map(|left| left.messages).sum() }
    }
}

impl Shared {
    /// A connection that the node itself wants
    fn dial(self: &Arc<Self>, endpoint: &str, node: Option<crate::NodeId>) {
        let server_key = node.and_then(|node| self.house().key_of(now(), node));
        let how = ConnectOptions { server_key, options: None };
        let dialled = match endpoint.parse() {
            Ok(endpoint) if self.terms.may_dial(&endpoint, server_key) => self.connect(endpoint, how, false).is_some(),
            Ok(_) | Err(_) => false,
        };
        if !dialled {
            self.with(|house, now| house.node.handle_dial_failed(now, endpoint));
        }
    }
}

/// Messages received under one lock of the socket
const BATCH: usize = 256;
/// How long messages are handled before what comes of them is sent
const SLICE: Duration = Duration::from_millis(2);
/// What there is at least for the last messages to be written
const LAST_WORDS: Duration = Duration::from_millis(200);

//! Figures of a socket, readable at any time and at the cost of its lock.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;

use serde::Serialize;

use crate::events::{ConnectionId, SocketId, readable};
use crate::shared::Shared;

/// What a socket has done and holds
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct SocketStats {
    /// The socket
    pub id: SocketId,
    /// Its type's name
    pub socket_type: &'static str,
    /// The endpoints it is bound to, with their real ports
    pub bound: Vec<String>,
    /// Its peers, and endpoints that it tries to reach
    pub peers: Vec<PeerStats>,
    /// Messages queued for peers since the socket was made; a published one counts for each subscriber
    pub sent: u64,
    /// Octets of those, framing not counted
    pub sent_octets: u64,
    /// Messages that came from peers
    pub received: u64,
    /// Octets of those
    pub received_octets: u64,
    /// Messages dropped because a peer's queue was full, conflated, or lost with the peer; datagrams for which the queue of
    /// received messages had no room, or that the host said it has no use for
    pub dropped: u64,
    /// Datagrams that were none of the pattern's, and dropped
    pub malformed: u64,
    /// Messages that went nowhere: no peer wanted them, or the one they were for is gone
    pub unrouted: u64,
    /// Connections that ended, by the stable name of the reason
    pub closes: BTreeMap<&'static str, u64>,
    /// Whether a listener waits for descriptors
    pub accept_paused: bool,
}

/// What passed between a socket and one peer, and what waits
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct PeerStats {
    /// The connection, if there is one
    pub connection: Option<ConnectionId>,
    /// The endpoint as configured
    pub endpoint: String,
    /// The peer's address
    pub address: Option<String>,
    /// The name a ROUTER knows it by, hexadecimal if it isn't text
    pub routing_id: String,
    /// Whether messages flow
    pub connected: bool,
    /// Messages that wait to be sent
    pub queued_out: u64,
    /// Octets of those
    pub queued_out_octets: u64,
    /// Messages that wait to be received
    pub queued_in: u64,
    /// Octets of those
    pub queued_in_octets: u64,
    /// Messages queued for it so far
    pub sent: u64,
    /// Octets of those
    pub sent_octets: u64,
    /// Messages that came from it
    pub received: u64,
    /// Octets of those
    pub received_octets: u64,
    /// Messages for it that were dropped; of a bound udp endpoint, datagrams from it
    pub dropped: u64,
    /// Subscriptions it holds, or that it was told
    pub subscriptions: usize,
}

impl SocketStats {
    pub(crate) fn of(shared: &Shared) -> Self {
        let endpoints = shared.endpoints();
        let bound = endpoints.bound.iter().filter_map(|bound| bound.actual.as_ref()).map(ToString::to_string).collect();
        drop(endpoints);
        shared.with(|state| {
            let (counts, unrouted) = state.totals();
            let peers = state.pipes().map(|(pipe, subscriptions)| {
                let waiting = pipe.waiting();
                PeerStats {
                    connection: pipe.connection.filter(|_| pipe.attached),
                    endpoint: pipe.endpoint.to_string(),
                    address: pipe.address.as_ref().map(ToString::to_string),
                    routing_id: readable(&pipe.routing_id),
                    connected: pipe.attached,
                    queued_out: waiting.messages,
                    queued_out_octets: waiting.octets,
                    queued_in: pipe.inbox.len() as u64,
                    queued_in_octets: pipe.inbox_octets,
                    sent: pipe.counts.sent.messages,
                    sent_octets: pipe.counts.sent.octets,
                    received: pipe.counts.received.messages,
                    received_octets: pipe.counts.received.octets,
                    dropped: pipe.counts.dropped,
                    subscriptions,
                }
            });
            Self {
                id: shared.reporter.socket,
                socket_type: shared.reporter.socket_type.name(),
                bound,
                peers: peers.collect(),
                sent: counts.sent.messages,
                sent_octets: counts.sent.octets,
                received: counts.received.messages,
                received_octets: counts.received.octets,
                dropped: counts.dropped,
                malformed: state.malformed,
                unrouted,
                closes: state.closes.clone(),
                accept_paused: shared.paused_listeners.load(Ordering::Relaxed) > 0,
            }
        })
    }
}

//! A pipe: the two bounded queues between a socket and one connection.

use std::collections::VecDeque;
use std::mem;
use std::sync::Arc;
use std::time::Instant;

use atomic_waker::AtomicWaker;
use bytes::Bytes;
use tidings_zmtp::{Message, WriteQueue};

use crate::events::ConnectionId;
use crate::inproc::Link;
use crate::origin::Origin;

/// Names a pipe of a socket; never means another pipe later, though places are used again
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct PipeKey {
    pub(crate) index: u32,
    pub(crate) serial: u32,
}

/// The queues between a socket and one peer, and what is known of that peer
#[derive(Debug)]
pub(crate) struct Pipe {
    pub(crate) serial: u32,
    pub(crate) outbox: Outbox,
    /// Taken by the connection, not yet handed to the kernel whole
    pub(crate) in_flight: Load,
    pub(crate) inbox: VecDeque<Message>,
    pub(crate) inbox_octets: u64,
    /// The connection stopped reading and wants to be woken when the inbox has drained
    pub(crate) reading_paused: bool,
    /// Subscriptions to be told to the peer
    pub(crate) control: Vec<Control>,
    /// How many there were after the last time they were reduced
    pub(crate) control_reduced: usize,
    /// Kept while there is no connection: the side that connects
    pub(crate) persistent: bool,
    /// A connection (or inproc link) is up
    pub(crate) attached: bool,
    /// The connection is to be closed, and why
    pub(crate) doomed: Option<&'static str>,
    /// The application gave the peer up: the pipe ends when its outbox is empty
    pub(crate) leaving: bool,
    /// An endpoint of datagrams, and no connection
    pub(crate) is_datagrams: bool,
    /// The peer is gone for good; the pipe stays until its inbox has been received
    pub(crate) departed: bool,
    pub(crate) driver: Driver,
    pub(crate) routing_id: Bytes,
    /// Whether the peer takes messages of several frames, as far as is known: the types that otherwise have one ask
    pub(crate) takes_multipart: Option<bool>,
    pub(crate) connection: Option<ConnectionId>,
    pub(crate) endpoint: Arc<str>,
    pub(crate) address: Option<Arc<str>>,
    /// Whom the messages come from that are received now
    origin: Option<Arc<Origin>>,
    /// Whom messages came from that still wait, up to which in the count of all received
    earlier: Vec<(u64, Arc<Origin>)>,
    /// Messages in the inbox that the socket itself put there, by their place in the count of all received
    notices: Vec<u64>,
    pub(crate) counts: Counts,
    /// A publisher's mark that this pipe has been chosen for the message at hand
    pub(crate) chosen: u64,
    /// Whether its being full has been said since it was last empty
    pub(crate) slow_said: bool,
    pub(crate) drops_said: Option<(Instant, u64)>,
}

/// Who moves what is in the outbox
#[derive(Debug)]
pub(crate) enum Driver {
    /// Nobody yet: an inproc name that is not bound
    None,
    /// A connection's task
    Task(Arc<AtomicWaker>),
    /// The link to a socket of the same context, and which end of it this is
    Link(Arc<Link>, usize),
}

/// How many messages an inproc peer may hand over
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Room {
    /// As many as the bounds allow
    pub(crate) most: usize,
    /// Little of the queue is free: a peer that stays should wait for more room, so that a full queue moves on in few large
    /// steps (as with libzmq's low-water mark)
    pub(crate) is_low: bool,
}

/// Messages and octets
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Load {
    pub(crate) messages: u64,
    pub(crate) octets: u64,
}

/// What a pipe has seen
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Counts {
    pub(crate) sent: Load,
    pub(crate) received: Load,
    pub(crate) dropped: u64,
    /// Those of `dropped` that had been queued, and so stand in `sent` too
    pub(crate) discarded: u64,
}

/// A subscription or its end, on its way to a publisher
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Control {
    pub(crate) subscribe: bool,
    pub(crate) topic: Bytes,
}

impl Control {
    /// The message form that publishers of our own process and 3.0 peers understand (RFC 23, RFC 29)
    pub(crate) fn to_message(&self) -> Message {
        let mut frame = Vec::with_capacity(self.topic.len() + 1);
        frame.push(u8::from(self.subscribe));
        frame.extend_from_slice(&self.topic);
        Message::from(frame)
    }

    /// Reads the message form; `None` for a message of the user's
    pub(crate) fn of(message: &Message) -> Option<Self> {
        match (message.frame_count(), message.first()) {
            (1, [kind @ (0 | 1), topic @ ..]) => {
                Some(Self { subscribe: *kind == 1, topic: Bytes::copy_from_slice(topic) })
            }
            _ => None,
        }
    }
}

/// Messages that wait for a connection: encoded already, or as they are for a socket of the same process
#[derive(Debug)]
pub(crate) enum Outbox {
    /// For a byte stream
    Wire(WriteQueue),
    /// For an inproc link
    Local {
        /// In order
        messages: VecDeque<Message>,
        /// Their octets
        octets: u64,
    },
    /// For a byte stream without framing (STREAM)
    Raw(WriteQueue),
}

impl Outbox {
    pub(crate) fn local() -> Self {
        Self::Local { messages: VecDeque::new(), octets: 0 }
    }

    /// Queues a message behind an address envelope, and says how many octets that added
    ///
    /// An inproc queue takes the message away, the others take a copy of it.
    #[inline]
    pub(crate) fn push(&mut self, envelope: &[Bytes], message: &mut Message) -> u64 {
        match self {
            Self::Wire(queue) => queue.push(envelope, message) as u64,
            Self::Raw(queue) => {
                message.clone().into_frames().into_iter().map(|octets| queue.push_raw(octets) as u64).sum()
            }
            Self::Local { messages, octets } => {
                let mut message = message.move_out();
                for frame in envelope.iter().rev() {
                    message.push_front(frame.clone());
                }
                let added = message.octets() as u64;
                *octets += added;
                messages.push_back(message);
                added
            }
        }
    }

    /// Drops the oldest message
    pub(crate) fn drop_front(&mut self) -> bool {
        match self {
            Self::Wire(queue) | Self::Raw(queue) => queue.pop_front().is_some(),
            Self::Local { messages, octets } => match messages.pop_front() {
                Some(message) => {
                    *octets -= message.octets() as u64;
                    true
                }
                None => false,
            },
        }
    }

    /// What waits in here
    pub(crate) fn load(&self) -> Load {
        match self {
            Self::Wire(queue) | Self::Raw(queue) => {
                Load { messages: queue.messages() as u64, octets: queue.octets() as u64 }
            }
            Self::Local { messages, octets } => Load { messages: messages.len() as u64, octets: *octets },
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        match self {
            Self::Wire(queue) | Self::Raw(queue) => queue.is_empty(),
            Self::Local { messages, .. } => messages.is_empty(),
        }
    }

    /// Takes what waits; `into` must be empty
    pub(crate) fn take_encoded(&mut self, into: &mut WriteQueue) {
        if let Self::Wire(queue) | Self::Raw(queue) = self {
            mem::swap(queue, into);
        }
    }

    /// Takes up to `room` messages
    pub(crate) fn take_local(&mut self, room: usize, into: &mut VecDeque<Message>) {
        if let Self::Local { messages, octets } = self {
            if room >= messages.len() && into.is_empty() {
                mem::swap(messages, into);
                *octets = 0;
            } else {
                for message in messages.drain(..room.min(messages.len())) {
                    *octets -= message.octets() as u64;
                    into.push_back(message);
                }
            }
        }
    }
}

impl Pipe {
    pub(crate) fn new(serial: u32, outbox: Outbox, driver: Driver, endpoint: Arc<str>, persistent: bool) -> Self {
        Self {
            serial,
            outbox,
            in_flight: Load::default(),
            inbox: VecDeque::new(),
            inbox_octets: 0,
            reading_paused: false,
            control: Vec::new(),
            control_reduced: 0,
            persistent,
            attached: false,
            doomed: None,
            leaving: false,
            is_datagrams: false,
            departed: false,
            driver,
            routing_id: Bytes::new(),
            takes_multipart: None,
            connection: None,
            endpoint,
            address: None,
            origin: None,
            notices: Vec::new(),
            earlier: Vec::new(),
            counts: Counts::default(),
            chosen: 0,
            slow_said: false,
            drops_said: None,
        }
    }

    /// Queues a message behind an address envelope; whether that needs the driver's attention
    #[inline]
    pub(crate) fn enqueue(&mut self, envelope: &[Bytes], message: &mut Message, bound: Load) -> bool {
        let was_idle = self.outbox.is_empty();
        self.counts.sent.messages += 1;
        // As the other end counts them: without framing
        self.counts.sent.octets += (message.octets() + envelope.iter().map(Bytes::len).sum::<usize>()) as u64;
        self.outbox.push(envelope, message);
        match &self.driver {
            // Both sides' high-water marks add up: a full queue is moved on as far as the peer has room
            Driver::Link(link, end) => {
                if was_idle {
                    link.set_loaded(*end, true);
                }
                link.peer_is_hungry(*end) || !self.has_room(bound)
            }
            _ => was_idle,
        }
    }

    /// What waits to be sent, what the connection holds included
    pub(crate) fn waiting(&self) -> Load {
        let queued = self.outbox.load();
        Load { messages: queued.messages + self.in_flight.messages, octets: queued.octets + self.in_flight.octets }
    }

    /// Whether messages may still be queued for this peer, now or for its next connection
    pub(crate) fn is_addressable(&self) -> bool {
        (self.attached || self.persistent) && !self.leaving
    }

    /// Drops the oldest queued message
    pub(crate) fn discard_front(&mut self) -> bool {
        let was_there = self.outbox.drop_front();
        self.counts.discarded += u64::from(was_there);
        was_there
    }

    /// Whether one more message may be queued under these bounds (0: none)
    #[inline(always)]
    pub(crate) fn has_room(&self, most: Load) -> bool {
        let waiting = self.waiting();
        (most.messages == 0 || waiting.messages < most.messages)
            && (most.octets == 0 || waiting.octets < most.octets || waiting.messages == 0)
    }

    /// Whether so much has drained that a sender which met a full queue may go on
    ///
    /// libzmq wakes writers when half of the queue has drained, so that they don't wake for every message.
    pub(crate) fn has_drained(&self, most: Load) -> bool {
        let waiting = self.waiting();
        (most.messages == 0 || waiting.messages <= most.messages / 2)
            && (most.octets == 0 || waiting.octets <= most.octets / 2)
    }

    /// How many more messages of the peer may come in under these bounds (0: none)
    pub(crate) fn reading_room(&self, most: Load) -> usize {
        if most.octets != 0 && self.inbox_octets >= most.octets {
            return 0;
        }
        let held = self.inbox.len();
        match most.messages {
            0 => BATCH,
            most => usize::try_from(most).unwrap_or(usize::MAX).saturating_sub(held).min(BATCH),
        }
    }

    /// Whether the connection may read again after it had to stop
    pub(crate) fn reading_may_resume(&self, most: Load) -> bool {
        (most.messages == 0 || self.inbox.len() as u64 <= most.messages / 2)
            && (most.octets == 0 || self.inbox_octets <= most.octets / 2)
    }

    /// Whom the messages come from that are received from now on; those that wait stay whose they are
    pub(crate) fn set_origin(&mut self, origin: Arc<Origin>) {
        if self.origin.as_ref().is_some_and(|known| Arc::ptr_eq(known, &origin)) {
            return;
        }
        let (next, end) = (self.next_to_receive(), self.counts.received.messages);
        // Each that is left has a message that waits, so that they are bounded as the inbox is
        self.earlier.retain(|(end, _)| *end > next);
        if let Some(before) = self.origin.replace(origin)
            && end > self.earlier.last().map_or(next, |(end, _)| *end)
        {
            self.earlier.push((end, before));
        }
    }

    /// The next message that comes in is not the peer's but the socket's
    pub(crate) fn mark_notice(&mut self) {
        let next = self.next_to_receive();
        self.notices.retain(|at| *at >= next);
        self.notices.push(self.counts.received.messages);
    }

    /// Whether the oldest message is the socket's own
    pub(crate) fn next_is_notice(&self) -> bool {
        !self.notices.is_empty() && self.notices.contains(&self.next_to_receive())
    }

    /// Whom the oldest message is from
    pub(crate) fn origin_of_next(&self) -> Arc<Origin> {
        let next = self.next_to_receive();
        let earlier = self.earlier.iter().find(|(end, _)| next < *end).map(|(_, origin)| origin);
        earlier.or(self.origin.as_ref()).cloned().unwrap_or_else(|| {
            let address = self.address.clone().unwrap_or_else(|| self.endpoint.clone());
            Arc::new(Origin::anonymous(self.connection.unwrap_or_else(ConnectionId::fresh), address))
        })
    }

    /// The oldest message's place in the count of all received
    fn next_to_receive(&self) -> u64 {
        self.counts.received.messages.saturating_sub(self.inbox.len() as u64)
    }

    /// Puts the oldest message of the peer in the place of `into`; whether there was one
    #[inline]
    pub(crate) fn pop_into(&mut self, into: &mut Message) -> bool {
        let Some(message) = self.inbox.pop_front() else {
            return false;
        };
        *into = message;
        self.inbox_octets -= into.octets() as u64;
        true
    }
}

/// Most messages that a connection hands over at once, whatever the high-water mark
pub(crate) const BATCH: usize = 8192;

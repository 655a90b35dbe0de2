//! A simulated network: byte streams between protocol connections, with delay, splitting and faults.
//!
//! Time jumps to the next moment at which octets arrive or a deadline passes, so a test takes as long as its events,
//! not as its seconds.

use std::{
    collections::VecDeque,
    io::IoSlice,
    mem,
    ops::RangeInclusive,
    thread,
    time::{Duration, Instant},
};

use bytes::{Bytes, BytesMut};
use tidings_zmtp::{AuthVerdict, CloseReason, Config, Connection, Credentials, Event, Message, PeerInfo, WriteQueue};

use crate::{clock::Clock, random::Random};

/// Any number of byte streams, each between two ends, under one clock and one seed
///
/// A network that is dropped by a failing test prints its seed.
#[derive(Debug)]
pub struct Network {
    seed: u64,
    random: Random,
    clock: Clock,
    delay: RangeInclusive<Duration>,
    longest_piece: u64,
    ends: Vec<Party>,
}

/// Names one end of a byte stream
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct End(usize);

impl Network {
    /// A network whose chances come from that seed: pieces of 1 to 64 octets, each under way for up to 5 ms
    pub fn seeded(seed: u64) -> Self {
        Self {
            seed,
            random: Random::seeded(seed),
            clock: Clock::new(),
            delay: Duration::ZERO..=Duration::from_millis(5),
            longest_piece: 64,
            ends: Vec::new(),
        }
    }

    /// How long each piece is under way; pieces don't overtake each other
    pub fn set_delay(&mut self, delay: RangeInclusive<Duration>) {
        self.delay = delay;
    }

    /// The most octets that arrive at once
    pub fn set_longest_piece(&mut self, octets: u64) {
        self.longest_piece = octets.max(1);
    }

    /// The present
    pub fn now(&self) -> Instant {
        self.clock.now()
    }

    /// Time since the network began
    pub fn elapsed(&self) -> Duration {
        self.clock.elapsed()
    }

    /// A byte stream between two connections
    pub fn link(&mut self, one: Config, other: Config) -> (End, End) {
        let now = self.now();
        let one = Role::Connection(Box::new(Driven::new(one, now)));
        let other = Role::Connection(Box::new(Driven::new(other, now)));
        self.join(one, other)
    }

    /// A byte stream between a connection and an end that says what the test tells it to
    pub fn link_to_script(&mut self, config: Config) -> (End, End) {
        let connection = Role::Connection(Box::new(Driven::new(config, self.now())));
        self.join(connection, Role::Script(BytesMut::new()))
    }

    /// Has the connection at that end send a message, as soon as its handshake is done
    pub fn send(&mut self, end: End, message: impl Into<Message>) {
        if let Some(driven) = self.driven(end) {
            driven.queue.push(&[], &message.into());
        }
    }

    /// What the connection at that end shall be answered when it asks who may come in; by default everybody may, and
    /// with `None` the question stays open
    pub fn set_verdict(&mut self, end: End, verdict: Option<AuthVerdict>) {
        if let Some(driven) = self.driven(end) {
            driven.verdict = verdict;
        }
    }

    /// What the peer of the connection at that end showed, if it was asked about it
    pub fn asked(&self, end: End) -> Option<&Credentials> {
        match &self.ends[end.0].role {
            Role::Connection(driven) => driven.asked.as_ref(),
            Role::Script(_) => None,
        }
    }

    /// The connection at that end, to be told things; `None` for a script
    pub fn connection(&mut self, end: End) -> Option<&mut Connection> {
        self.driven(end).map(|driven| &mut driven.connection)
    }

    /// Has a script say these octets
    pub fn say(&mut self, end: End, octets: &[u8]) {
        self.dispatch(end.0, octets);
    }

    /// What a script heard since it was last asked
    pub fn heard(&mut self, end: End) -> BytesMut {
        match &mut self.ends[end.0].role {
            Role::Script(heard) => mem::take(heard),
            Role::Connection(_) => BytesMut::new(),
        }
    }

    /// Messages that arrived at that end since it was last asked
    pub fn received(&mut self, end: End) -> Vec<Message> {
        self.driven(end).map(|driven| mem::take(&mut driven.received)).unwrap_or_default()
    }

    /// What the connection at that end knows of its peer, once the handshake was done
    pub fn peer(&self, end: End) -> Option<&PeerInfo> {
        match &self.ends[end.0].role {
            Role::Connection(driven) => driven.peer.as_ref(),
            Role::Script(_) => None,
        }
    }

    /// Why and after how much time the connection at that end closed
    pub fn closed(&self, end: End) -> Option<(Duration, CloseReason)> {
        match &self.ends[end.0].role {
            Role::Connection(driven) => driven.closed.clone(),
            Role::Script(_) => None,
        }
    }

    /// Cuts the byte stream: what is under way is lost, both ends see it end
    pub fn cut(&mut self, end: End) {
        for index in [end.0, self.ends[end.0].other] {
            let now = self.now();
            let outbound = &mut self.ends[index].outbound;
            outbound.under_way.clear();
            outbound.under_way.push_back((now, Piece::End));
            outbound.ended = true;
        }
    }

    /// Cuts the byte stream once so many more octets have left that end
    pub fn cut_after(&mut self, end: End, octets: usize) {
        self.ends[end.0].outbound.cut_after = Some(octets);
    }

    /// Holds back all that leaves that end, without anybody being told
    pub fn freeze(&mut self, end: End) {
        self.ends[end.0].outbound.frozen = true;
    }

    /// Lets go on what [`freeze`](Self::freeze) held back
    pub fn thaw(&mut self, end: End) {
        let now = self.now();
        let outbound = &mut self.ends[end.0].outbound;
        outbound.frozen = false;
        for (arrival, _) in &mut outbound.under_way {
            *arrival = (*arrival).max(now);
        }
    }

    /// Has the connection at that end stop reading, as a full queue would, or go on
    pub fn set_reading(&mut self, end: End, reading: bool) {
        let now = self.now();
        if let Some(driven) = self.driven(end) {
            driven.reading = reading;
            driven.connection.set_reading(now, reading);
        }
    }

    /// Lets that much time pass, with all that happens in it
    pub fn run_for(&mut self, time: Duration) {
        let until = self.now() + time;
        self.run(until, true);
        self.clock.advance_to(until);
    }

    /// Lets time pass until nothing is under way any more; deadlines that lie beyond that stay ahead
    pub fn run_until_quiet(&mut self) {
        let horizon = self.now() + HORIZON;
        self.run(horizon, false);
    }

    /// Lets time pass until nothing is under way and no deadline is left
    ///
    /// Heartbeats never end: an hour is the most that passes.
    pub fn run_until_idle(&mut self) {
        let horizon = self.now() + HORIZON;
        self.run(horizon, true);
    }

    fn run(&mut self, until: Instant, deadlines_too: bool) {
        for _ in 0..MOST_STEPS {
            for index in 0..self.ends.len() {
                self.collect(index);
            }
            // What nobody reads doesn't arrive.
            let read = self.ends.iter().filter(|party| self.ends[party.other].reads());
            let arrival = read.filter_map(|party| party.outbound.next_arrival()).min();
            let deadline = self.ends.iter().filter_map(Party::next_deadline).min();
            let next = if deadlines_too { arrival.into_iter().chain(deadline).min() } else { arrival };
            match next {
                Some(next) if next <= until => self.clock.advance_to(next),
                _ => return,
            }
            for index in 0..self.ends.len() {
                self.deliver(index);
            }
        }
        assert!(self.ends.is_empty(), "the network did not come to rest within {MOST_STEPS} steps");
    }

    fn join(&mut self, one: Role, other: Role) -> (End, End) {
        let index = self.ends.len();
        self.ends.push(Party::new(one, index + 1));
        self.ends.push(Party::new(other, index));
        (End(index), End(index + 1))
    }

    fn driven(&mut self, end: End) -> Option<&mut Driven> {
        match &mut self.ends[end.0].role {
            Role::Connection(driven) => Some(driven),
            Role::Script(_) => None,
        }
    }

    /// Puts on its way what the connection at that end has to say
    fn collect(&mut self, index: usize) {
        let (now, elapsed) = (self.now(), self.elapsed());
        let Role::Connection(driven) = &mut self.ends[index].role else {
            return;
        };
        let octets = driven.collect(now, elapsed);
        let ended = driven.closed.is_some();
        self.dispatch(index, &octets);
        let outbound = &mut self.ends[index].outbound;
        if ended && !mem::replace(&mut outbound.ended, true) {
            let arrival = outbound.under_way.back().map_or(self.clock.now(), |(arrival, _)| *arrival);
            outbound.under_way.push_back((arrival, Piece::End));
        }
    }

    /// Puts octets on their way, in pieces and with delays by chance
    fn dispatch(&mut self, index: usize, mut octets: &[u8]) {
        let mut cut = false;
        if let Some(left) = &mut self.ends[index].outbound.cut_after {
            cut = *left <= octets.len();
            octets = octets.get(..*left).unwrap_or(octets);
            *left -= octets.len();
        }
        while !octets.is_empty() && !self.ends[index].outbound.ended {
            let longest = self.longest_piece.min(octets.len() as u64);
            let (piece, rest) = octets.split_at(self.random.within(1..=longest) as usize);
            octets = rest;
            let (least, most) = (self.delay.start().as_micros() as u64, self.delay.end().as_micros() as u64);
            let arrival = self.now() + Duration::from_micros(self.random.within(least..=most));
            let under_way = &mut self.ends[index].outbound.under_way;
            let arrival = under_way.back().map_or(arrival, |(last, _)| arrival.max(*last));
            under_way.push_back((arrival, Piece::Octets(Bytes::copy_from_slice(piece))));
        }
        let other = self.ends[index].other;
        if cut {
            for index in [index, other] {
                let now = self.now();
                let outbound = &mut self.ends[index].outbound;
                if !mem::replace(&mut outbound.ended, true) {
                    let arrival = outbound.under_way.back().map_or(now, |(arrival, _)| *arrival);
                    outbound.under_way.push_back((arrival, Piece::End));
                }
            }
        }
    }

    /// Lets arrive at that end what is due, and has it act on its deadlines
    fn deliver(&mut self, index: usize) {
        let now = self.now();
        let elapsed = self.elapsed();
        let other = self.ends[index].other;
        let reading = self.ends[index].reads();
        while reading && let Some(piece) = self.ends[other].outbound.arrived(now) {
            match (&mut self.ends[index].role, piece) {
                (Role::Connection(driven), Piece::Octets(octets)) => driven.handle_input(now, &octets),
                (Role::Connection(driven), Piece::End) => driven.connection.handle_eof(now),
                (Role::Script(heard), Piece::Octets(octets)) => heard.extend_from_slice(&octets),
                (Role::Script(_), Piece::End) => {}
            }
        }
        if let Role::Connection(driven) = &mut self.ends[index].role {
            if driven.connection.poll_timeout().is_some_and(|due| due <= now) {
                driven.connection.handle_timeout(now);
            }
            driven.note(now, elapsed);
        }
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("the network's seed was {}, {:?} had passed on its clock", self.seed, self.elapsed());
        }
    }
}

/// One end of a byte stream, with what it sends
#[derive(Debug)]
struct Party {
    role: Role,
    other: usize,
    outbound: Outbound,
}

#[derive(Debug)]
enum Role {
    Connection(Box<Driven>),
    Script(BytesMut),
}

impl Party {
    fn new(role: Role, other: usize) -> Self {
        Self { role, other, outbound: Outbound::default() }
    }

    fn reads(&self) -> bool {
        match &self.role {
            Role::Connection(driven) => driven.reading,
            Role::Script(_) => true,
        }
    }

    fn next_deadline(&self) -> Option<Instant> {
        match &self.role {
            Role::Connection(driven) => driven.connection.poll_timeout(),
            Role::Script(_) => None,
        }
    }
}

/// One direction of a byte stream
#[derive(Debug, Default)]
struct Outbound {
    under_way: VecDeque<(Instant, Piece)>,
    frozen: bool,
    ended: bool,
    cut_after: Option<usize>,
}

#[derive(Debug)]
enum Piece {
    Octets(Bytes),
    End,
}

impl Outbound {
    fn next_arrival(&self) -> Option<Instant> {
        self.under_way.front().filter(|_| !self.frozen).map(|(arrival, _)| *arrival)
    }

    fn arrived(&mut self, now: Instant) -> Option<Piece> {
        self.next_arrival().filter(|arrival| *arrival <= now)?;
        self.under_way.pop_front().map(|(_, piece)| piece)
    }
}

/// A connection with what a driver keeps for it
#[derive(Debug)]
struct Driven {
    connection: Connection,
    input: BytesMut,
    queue: WriteQueue,
    reading: bool,
    received: Vec<Message>,
    asked: Option<Credentials>,
    verdict: Option<AuthVerdict>,
    peer: Option<PeerInfo>,
    closed: Option<(Duration, CloseReason)>,
}

impl Driven {
    fn new(config: Config, now: Instant) -> Self {
        Self {
            connection: Connection::new(config, now),
            input: BytesMut::new(),
            queue: WriteQueue::new(),
            reading: true,
            received: Vec::new(),
            asked: None,
            verdict: Some(AuthVerdict::allow()),
            peer: None,
            closed: None,
        }
    }

    fn handle_input(&mut self, now: Instant, octets: &[u8]) {
        self.input.extend_from_slice(octets);
        self.connection.handle_input(now, &mut self.input, usize::MAX);
    }

    /// Takes messages and events
    fn note(&mut self, now: Instant, elapsed: Duration) {
        self.received.extend(self.connection.messages().drain(..));
        while let Some(event) = self.connection.poll_event() {
            match event {
                Event::Authenticate(credentials) => {
                    assert!(self.asked.replace(credentials).is_none(), "asked twice");
                    if let Some(verdict) = self.verdict.clone() {
                        self.connection.handle_verdict(now, verdict);
                        self.handle_input(now, &[]);
                    }
                }
                Event::Handshaken(peer) => {
                    assert!(self.peer.replace(peer).is_none(), "handshaken twice");
                }
                Event::Closed(reason) => {
                    assert!(self.closed.replace((elapsed, reason)).is_none(), "closed twice");
                }
                other => assert!(self.peer.is_none(), "an event unknown here: {other:?}"),
            }
        }
    }

    /// All that is to be written now
    fn collect(&mut self, now: Instant, elapsed: Duration) -> BytesMut {
        self.note(now, elapsed);
        let mut octets = BytesMut::new();
        while let Some(piece) = self.connection.poll_transmit() {
            octets.extend_from_slice(&piece);
        }
        if self.connection.is_passthrough() {
            drain(&mut self.queue, &mut octets);
        }
        let mut sealed = WriteQueue::new();
        loop {
            self.connection.seal(&self.queue, &mut sealed, SEALED_AT_ONCE);
            if sealed.is_empty() {
                break;
            }
            let written = drain(&mut sealed, &mut octets);
            self.queue.advance_messages(written);
        }
        self.note(now, elapsed);
        octets
    }
}

/// Writes all that is queued, and says how many messages that were
fn drain(queue: &mut WriteQueue, octets: &mut BytesMut) -> usize {
    let mut messages = 0;
    while !queue.is_empty() {
        let mut slices = [IoSlice::new(&[]); 8];
        let filled = queue.slices(&mut slices);
        let before = octets.len();
        slices.iter().take(filled).for_each(|slice| octets.extend_from_slice(slice));
        messages += queue.advance(octets.len() - before);
    }
    messages
}

/// Sealed before anything is written, as a driver would
const SEALED_AT_ONCE: usize = 64 * 1024;
/// No test runs longer on its clock
const HORIZON: Duration = Duration::from_secs(3600);

/// No test takes more; one that does spins
const MOST_STEPS: usize = 1_000_000;

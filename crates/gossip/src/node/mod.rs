//! A node as pure state: messages and instants go in, messages and events come out.
//!
//! There is no I/O, no clock and no randomness in here but what a seed gives. A driver takes all input that waits
//! (`handle_*`, and what the application asks for), then drains [`poll_transmit`](Node::poll_transmit),
//! [`poll_action`](Node::poll_action) and [`poll_event`](Node::poll_event): what came in one turn is sent on together. It calls
//! [`handle_timeout`](Node::handle_timeout) when [`poll_timeout`](Node::poll_timeout) says.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use tidings_zmtp::Message;

use crate::config::{Identity, LinkId, LinkInfo, NodeConfig, Wire};
use crate::event::{Event, HangUp, Health, LinkChange, LinkState, Member, Refusal, Refusals};
use crate::record::{Dot, NodeId, Stamp, Tuple};
use crate::table::{self, Change, LifeIndex, Table};
use crate::wire::tidings;

mod ask;
mod clock;
use clock::{Clock, Random};
mod link;
use link::{Link, Role};
mod presence;
mod records;
mod repair;
mod reserved;
mod settle;
mod spread;
mod view;
mod write;
mod zgossip;

#[cfg(test)]
mod tests;

/// A frame for a link
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transmit {
    /// Which
    pub link: LinkId,
    /// The one frame of the message
    pub frame: Bytes,
}

/// What the driver is asked to do
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Action {
    /// Connect to there; a link that comes of it isn't explicit
    Dial {
        /// Where
        endpoint: String,
        /// Who should be there
        node: Option<NodeId>,
    },
    /// End a link, after what was transmitted on it before: for the node it is down already
    HangUp {
        /// Which
        link: LinkId,
        /// Why
        reason: HangUp,
    },
}

/// What became of a write
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Written {
    /// The write that the key has its value from
    pub dot: Dot,
    /// How it is ordered among others
    pub stamp: Stamp,
    /// Whether anything was written: the same permanent value again is not
    pub is_new: bool,
}

/// Why something was not written
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PutError {
    /// A key has up to 255 octets
    #[error("the key has {0} octets, of at most 255")]
    KeyTooLong(usize),
    /// A value has up to [`max_value`](crate::Quotas::max_value) octets
    #[error("the value has {octets} octets, of at most {limit} (max_value)")]
    ValueTooLong {
        /// Of the value
        octets: usize,
        /// That it may have
        limit: usize,
    },
    /// Keys that begin with `$tidings/` are the nodes' own
    #[error("keys that begin with $tidings/ are reserved")]
    Reserved,
    /// There are too many tuples, or octets of them; remove some, or raise the quota of that name
    #[error("the node holds all that it may ({0})")]
    Quota(&'static str),
    /// Nodes that do not take writes of this life any more, as it left
    #[error("the node has left the network")]
    Left,
}

/// Figures of a node
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct NodeStats {
    /// Tuples that are visible, without reserved ones
    pub tuples: usize,
    /// Octets of all keys and values that are held
    pub octets: usize,
    /// Session tuples whose owner is gone
    pub hidden: usize,
    /// Deletions that are remembered with their keys
    pub tombstones: usize,
    /// Owners' lives of which something is known
    pub owners: usize,
    /// Links that are up
    pub links: usize,
    /// Links to nodes of ours that changes go over
    pub active_links: usize,
    /// Records that came
    pub records_in: u64,
    /// Records that came and were new
    pub records_new: u64,
    /// Records sent
    pub records_out: u64,
    /// Frames that came
    pub frames_in: u64,
    /// Octets that came
    pub octets_in: u64,
    /// Frames sent
    pub frames_out: u64,
    /// Octets sent, without ZMTP's own
    pub octets_out: u64,
    /// Of them in digests
    pub octets_digest: u64,
    /// Exchanges that repaired something
    pub repairs: u64,
    /// Things asked for
    pub wants: u64,
    /// Things that were asked for and didn't come in time
    pub want_timeouts: u64,
    /// Stamps of peers that were more than a day ahead, and were taken
    pub clock_lifts: u64,
    /// Links that were grafted to the tree
    pub grafts: u64,
    /// Links that were pruned from it
    pub prunes: u64,
    /// Events that nobody fetched in time
    pub missed_events: u64,
    /// Keys that are contested now
    pub contested: usize,
    /// Tuples that were not sent to ZGP peers, as their strings can't hold a NUL
    pub withheld: u64,
    /// How far it trusts its own senses
    pub health: Health,
    /// What was refused, by cause
    pub refusals: Refusals,
}

/// Whom a node could connect to
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ViewState {
    /// A sample of the network: who, and where
    pub samples: Vec<(NodeId, String)>,
}

/// A gossip node as pure state
pub struct Node {
    config: NodeConfig,
    identity: Identity,
    clock: Clock,
    random: Random,
    /// When it was called last: a turn ends then
    now: Instant,
    table: Table,
    /// This life in the table, and how many writes it has made
    own: LifeIndex,
    own_seq: u64,
    /// When this life began as others had written in the name of the one before
    reborn: Option<Instant>,
    has_left: bool,
    links: BTreeMap<LinkId, Link>,
    spread: spread::Spread,
    asks: ask::Asks,
    reserved: reserved::Reserved,
    zgossip: zgossip::ZGossip,
    settle: settle::Settle,
    members: presence::Members,
    view: view::View,
    forget_at: Instant,
    /// Links that may take frames again, of which it will show in this turn
    revived: Vec<LinkId>,
    transmits: VecDeque<Transmit>,
    actions: VecDeque<Action>,
    events: VecDeque<Event>,
    missed: u64,
    told: BTreeMap<Refusal, Told>,
    stats: NodeStats,
}

/// When a refusal was told last, and how many weren't since
struct Told {
    at: Instant,
    untold: u64,
    link: LinkId,
}

/// Where a write comes from, which decides how it is ordered among others
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    /// The application, or this node: it is later than all that is known
    Local,
    /// A peer that speaks ZGP. It may have heard of it from another node of ours, and taken its time: what was written by one of
    /// ours a moment ago, and isn't known here yet, is later
    Relay,
    /// A peer that tells a node that has just begun what it had before: whatever anybody else knows is later
    Replay,
}

impl Node {
    /// A node without links and tuples; what is random in it comes from `seed` alone, and `wall` is what the clock on the wall says `now`
    #[must_use]
    pub fn new(config: NodeConfig, identity: Identity, seed: u64, now: Instant, wall: SystemTime) -> Self {
        let mut table = Table::new(config.quotas.clone(), config.tombstone_time);
        let own = table.open_life(identity.id, identity.incarnation).unwrap_or_default();
        let mut random = Random::new(seed ^ identity.id.0);
        Self {
            clock: Clock::new(now, wall),
            now,
            table,
            own,
            own_seq: 0,
            reborn: None,
            has_left: false,
            links: BTreeMap::new(),
            spread: spread::Spread::default(),
            asks: ask::Asks::default(),
            reserved: reserved::Reserved::default(),
            zgossip: zgossip::ZGossip::default(),
            settle: settle::Settle::default(),
            members: presence::Members::new(&config, identity, now),
            view: view::View::new(&config, identity.id, random.next(), now),
            forget_at: now + forget_interval(&config),
            random,
            identity,
            config,
            revived: Vec::new(),
            transmits: VecDeque::new(),
            actions: VecDeque::new(),
            events: VecDeque::new(),
            missed: 0,
            told: BTreeMap::new(),
            stats: NodeStats::default(),
        }
    }

    /// A connection was made, and its handshake is over
    pub fn handle_link_up(&mut self, now: Instant, link: LinkId, info: LinkInfo) {
        self.now = now;
        if self.links.contains_key(&link) {
            self.handle_link_down(now, link, "another link has its number");
        }
        let wire = info.wire;
        self.links.insert(link, Link::new(info, now, self.config.digest_interval));
        match wire {
            Wire::ZGossip => {
                self.tell_link(link, Ok(()));
                self.reserved.note_links(now);
                self.zgossip_link_up(now, link);
            }
            Wire::Tidings => self.greet(now, link),
        }
    }

    /// A connection ended
    pub fn handle_link_down(&mut self, now: Instant, link: LinkId, reason: &str) {
        self.now = now;
        let Some(of) = self.links.get(&link) else { return };
        let (wire, is_ready, said_goodbye) = (of.info.wire, of.peer.is_some(), of.said_goodbye);
        match wire {
            Wire::ZGossip => {
                self.zgossip_link_down(now, link);
                self.tell_link(link, Err(reason.to_owned()));
            }
            Wire::Tidings if is_ready => {
                self.members.on_link_down(now, link, said_goodbye);
                self.view.on_link_down(now, link);
                self.tell_link(link, Err(reason.to_owned()));
            }
            Wire::Tidings => {}
        }
        self.links.remove(&link);
        self.transmits.retain(|transmit| transmit.link != link);
        self.reserved.note_links(now);
        self.choose_active(now);
        self.run_parts(now);
    }

    /// A message came, of any number of frames, without the routing id
    pub fn handle_message(&mut self, now: Instant, link: LinkId, message: Message) {
        self.now = now;
        let Some(of) = self.links.get_mut(&link).filter(|link| !link.is_ending) else { return };
        let octets = message.octets() as u64;
        of.counts.frames_in += 1;
        of.heard_at = now;
        of.counts.octets_in += octets;
        let wire = of.info.wire;
        self.stats.frames_in += 1;
        self.stats.octets_in += octets;
        match wire {
            Wire::ZGossip => self.handle_zgossip(now, link, message),
            Wire::Tidings if message.frame_count() != 1 => self.on_malformed(now, link, Refusal::Frames),
            Wire::Tidings => self.handle_tidings(now, link, message.first()),
        }
        self.run_parts(now);
    }

    /// A frame of [`poll_transmit`](Self::poll_transmit) was not taken: nothing more is given out for the link until
    /// [`handle_writable`](Self::handle_writable)
    pub fn handle_unsent(&mut self, now: Instant, link: LinkId, frame: Bytes) {
        self.now = now;
        if let Some(of) = self.links.get_mut(&link) {
            (of.is_blocked, of.has_sent) = (true, false);
            of.blocked_since.get_or_insert(now);
            of.backlog.push_back(frame);
        }
    }

    /// A link takes frames again
    pub fn handle_writable(&mut self, now: Instant, link: LinkId) {
        self.now = now;
        let Some(of) = self.links.get_mut(&link).filter(|link| link.is_blocked) else { return };
        // That it is worth trying does not mean that it takes anything
        of.is_blocked = false;
        for frame in std::mem::take(&mut of.backlog).into_iter().rev() {
            self.transmits.push_front(Transmit { link, frame });
        }
        match of.info.wire {
            Wire::ZGossip => self.zgossip_writable(now, link),
            // Not before it has taken what waits: tried in vain, it costs nothing
            Wire::Tidings => self.revived.push(link),
        }
        self.run_parts(now);
    }

    /// A [`Dial`](Action::Dial) came to nothing
    pub fn handle_dial_failed(&mut self, now: Instant, endpoint: &str) {
        self.now = now;
        self.view.on_unreachable(now, endpoint);
        self.run_parts(now);
    }

    /// Time has passed
    pub fn handle_timeout(&mut self, now: Instant) {
        self.now = now;
        self.table.expire(now);
        self.process_changes(now);
        if self.forget_at <= now {
            self.forget_at = now + forget_interval(&self.config);
            self.forget(now);
        }
        self.hang_up_stuck(now);
        self.announce(now);
        self.ask_again(now);
        self.send_due_digests(now);
        self.zgossip_timeout(now);
        self.members.handle_timeout(now);
        self.view.handle_timeout(now);
        self.run_parts(now);
    }

    /// The next frame to send
    pub fn poll_transmit(&mut self) -> Option<Transmit> {
        loop {
            let Some(transmit) = self.transmits.pop_front() else {
                if !self.end_turn() {
                    if self.transmits.capacity() > FEW {
                        self.transmits = VecDeque::new();
                    }
                    return None;
                }
                continue;
            };
            let Some(link) = self.links.get_mut(&transmit.link) else { continue };
            if link.is_blocked {
                link.backlog.push_back(transmit.frame);
                continue;
            }
            if std::mem::replace(&mut link.has_sent, true) {
                // The one before was taken
                link.blocked_since = None;
            }
            link.counts.frames_out += 1;
            link.counts.octets_out += transmit.frame.len() as u64;
            self.stats.frames_out += 1;
            self.stats.octets_out += transmit.frame.len() as u64;
            return Some(transmit);
        }
    }

    /// The next thing to do
    pub fn poll_action(&mut self) -> Option<Action> {
        let action = self.actions.pop_front();
        if let Some(Action::HangUp { link, reason }) = action {
            if let Some(of) = self.links.get_mut(&link) {
                // Who is sent elsewhere isn't lost
                of.said_goodbye |= matches!(reason, HangUp::Crowded | HangUp::Duplicate);
            }
            self.handle_link_down(self.now, link, reason.name());
        }
        action
    }

    /// The next thing that happened
    pub fn poll_event(&mut self) -> Option<Event> {
        let event = self.events.pop_front();
        if event.is_none() {
            if self.events.capacity() > FEW {
                self.events = VecDeque::new();
            }
            if self.missed > 0 {
                return Some(Event::Missed { count: std::mem::take(&mut self.missed) });
            }
        }
        event
    }

    /// When [`handle_timeout`](Self::handle_timeout) is due
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        let digests = self.links.values().filter(|link| link.is_tidings() && !link.is_ending && !link.is_blocked);
        let parts = [
            self.table.next_expiry(),
            Some(self.forget_at),
            self.spread.next(),
            self.asks.next(),
            self.reserved.next(),
            digests.map(|link| link.digest_at).min(),
            self.links.values().filter(|link| !link.is_ending).filter_map(Link::stuck_since).min().map(|at| at + STUCK),
            self.zgossip_next(),
            self.members.next(),
            self.view.next(),
        ];
        parts.into_iter().flatten().min()
    }

    /// What a key has
    #[must_use]
    pub fn get(&self, now: Instant, key: &[u8]) -> Option<Tuple> {
        self.table.tuple(now, key)
    }

    /// All tuples whose keys begin so, in the order of their keys; reserved ones only if `prefix` begins with `$`
    pub fn tuples(&self, now: Instant, prefix: &[u8]) -> impl Iterator<Item = Tuple> + use<'_> {
        self.tuples_after(now, prefix, None)
    }

    /// As [`tuples`](Self::tuples), those behind a key: a list can be read on where it was left
    pub fn tuples_after(
        &self,
        now: Instant,
        prefix: &[u8],
        after: Option<&[u8]>,
    ) -> impl Iterator<Item = Tuple> + use<'_> {
        let with_reserved = prefix.first() == Some(&b'$');
        let tuples = self.table.tuples(now, prefix, after);
        tuples.filter(move |tuple| with_reserved || !table::is_reserved(&tuple.key))
    }

    /// How many tuples are visible, without reserved ones
    #[must_use]
    pub fn len(&self) -> usize {
        self.table.visible_count()
    }

    /// Whether no tuple is
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Who this is
    #[must_use]
    pub fn identity(&self) -> Identity {
        self.identity
    }

    /// Its times and bounds
    #[must_use]
    pub fn config(&self) -> &NodeConfig {
        &self.config
    }

    /// A digest of all that is known and live: equal on nodes that agree
    #[must_use]
    pub fn root(&self) -> u64 {
        self.table.root()
    }

    /// All members, itself included, by id
    #[must_use]
    pub fn members(&self, now: Instant) -> Vec<Member> {
        self.members.list(now)
    }

    /// All links, by their numbers
    #[must_use]
    pub fn links(&self) -> Vec<LinkState> {
        let state = |(id, link): (&LinkId, &Link)| LinkState {
            link: *id,
            endpoint: link.info.endpoint.clone(),
            side: link.info.side,
            wire: link.info.wire,
            node: link.peer.as_ref().map(|peer| peer.id),
            name: link.peer.as_ref().map(|peer| peer.name.clone()).unwrap_or_default(),
            is_active: link.is_active(),
            role: match (link.info.wire, link.is_ready(), link.is_active(), link.role) {
                (Wire::ZGossip, ..) => self.zgossip_role(*id),
                (_, false, ..) => "greeting",
                (_, _, false, _) => "resting",
                (.., Role::Unproven) => "unproven",
                (.., Role::Tree) => "tree",
                (.., Role::Lazy) => "lazy",
            },
            frames_out: link.counts.frames_out,
            octets_out: link.counts.octets_out,
            frames_in: link.counts.frames_in,
            octets_in: link.counts.octets_in,
            refused: link.counts.refused,
        };
        self.links.iter().map(state).collect()
    }

    /// Its figures
    #[must_use]
    pub fn stats(&self) -> NodeStats {
        NodeStats {
            tuples: self.table.visible_count(),
            octets: self.table.octets(),
            hidden: self.table.hidden_count(),
            tombstones: self.table.tombstone_count(),
            owners: self.table.life_count(),
            links: self.links.len(),
            active_links: self.links.values().filter(|link| link.is_active()).count(),
            contested: self.settle.contested(),
            withheld: self.zgossip_withheld(),
            health: self.members.health(),
            ..self.stats.clone()
        }
    }

    /// Whom it could connect to
    #[must_use]
    pub fn view(&self) -> ViewState {
        self.view.state()
    }

    /// Where others can connect to this node, which it tells them; in the order of preference
    pub fn set_endpoints(&mut self, now: Instant, endpoints: Vec<String>) {
        self.now = now;
        if self.reserved.endpoints != endpoints {
            self.reserved.endpoints = endpoints;
            self.reserved.note_description();
        }
    }

    /// What else this node tells of itself in its `$tidings/node/` record: the members of this object are put there
    pub fn set_description(&mut self, now: Instant, description: serde_json::Map<String, serde_json::Value>) {
        self.now = now;
        self.reserved.description = description;
        self.reserved.note_description();
    }

    /// Replaces [`server_timeout`](NodeConfig::server_timeout) for ZGP clients that come from now on
    pub fn set_server_timeout(&mut self, timeout: Option<Duration>) {
        self.config.server_timeout = timeout;
    }

    /// Says goodbye: its Session tuples go, members learn that it has left, and each link is hung up
    pub fn leave(&mut self, now: Instant) {
        self.now = now;
        if self.has_left {
            return;
        }
        self.remove_own_sessions(now);
        self.members.leave(now);
        self.run_parts(now);
        self.end_turn();
        self.has_left = true;
        let links = self.links.iter().map(|(id, link)| (*id, link.is_tidings())).collect::<Vec<_>>();
        for (link, is_tidings) in links {
            if is_tidings {
                self.send(link, tidings::bye(BYE_LEAVING, &[]));
            }
            self.hang_up(link, HangUp::Leaving);
        }
    }

    /// Looks at everything
    ///
    /// # Errors
    /// What is not as it has to be.
    #[doc(hidden)]
    pub fn check(&self) -> Result<(), String> {
        self.table.check()?;
        let own = self.table.seen(self.own).map(|seen| (seen.count(), seen.upto())).unwrap_or_default();
        if own != (self.own_seq, self.own_seq) {
            return Err(format!("{} writes were made, {own:?} are known", self.own_seq));
        }
        Ok(())
    }

    /// The turn is over: what it has changed is sent. Whether there is something to transmit now
    fn end_turn(&mut self) -> bool {
        let now = self.now;
        self.write_reserved(now);
        self.zgossip_turn(now);
        self.spread_turn(now);
        for link in std::mem::take(&mut self.revived) {
            if let Some(of) = self.links.get_mut(&link).filter(|of| !of.is_blocked)
                && std::mem::take(&mut of.is_stale)
            {
                of.digest_at = now;
                self.send_due_digests(now);
            }
        }
        !self.transmits.is_empty()
    }

    /// Does what the members' part and the view want
    fn run_parts(&mut self, now: Instant) {
        while let Some(output) = self.members.poll() {
            self.on_members(now, output);
        }
        while let Some(output) = self.view.poll() {
            match output {
                view::Output::Shuffle(link, samples) => self.send(link, tidings::shuffle(&samples)),
                view::Output::Dial(sample) => {
                    self.actions.push_back(Action::Dial { endpoint: sample.endpoint, node: Some(sample.id) });
                }
                view::Output::Bye(link, samples) => {
                    self.send(link, tidings::bye(BYE_CROWDED, &samples));
                    self.hang_up(link, HangUp::Crowded);
                }
            }
        }
    }

    fn on_members(&mut self, now: Instant, output: presence::Output) {
        match output {
            presence::Output::Ping(link, nonce) => self.send_ping(now, link, nonce),
            presence::Output::Ack(link, nonce) => self.send(link, tidings::ack(nonce)),
            presence::Output::Probe(link, about) => self.send(link, tidings::probe(false, about)),
            presence::Output::Vouch(link, about) => self.send(link, tidings::probe(true, about)),
            presence::Output::Status(link, updates) => self.send_status(link, &updates),
            presence::Output::Flood(updates, except) => {
                let links = self.links.iter().filter(|(id, link)| link.is_active() && Some(**id) != except);
                for link in links.map(|(id, _)| *id).collect::<Vec<_>>() {
                    self.send_status(link, &updates);
                }
            }
            presence::Output::Present(owner, incarnation, is_present) => {
                if (owner, incarnation) != (self.identity.id, self.identity.incarnation) {
                    self.table.set_present(owner, incarnation, is_present);
                    self.process_changes(now);
                }
            }
            presence::Output::Dead(owner, incarnation) => {
                if (owner, incarnation) != (self.identity.id, self.identity.incarnation) {
                    self.table.end_life(owner, incarnation);
                    self.process_changes(now);
                }
            }
            presence::Output::Reborn(after) => self.begin_again(now, after),
            presence::Output::Changed(change) => self.tell(Event::Member(change)),
        }
    }

    fn send_ping(&mut self, now: Instant, link: LinkId, nonce: u64) {
        if let Some(of) = self.links.get_mut(&link) {
            of.note_ping(now, nonce);
        }
        self.send(link, tidings::ping(nonce));
    }

    fn send_status(&mut self, link: LinkId, updates: &[tidings::StatusUpdate]) {
        for updates in updates.chunks(tidings::MOST_UPDATES) {
            self.send(link, tidings::status(updates));
        }
    }

    /// Tells what has changed in the table; of a key that has changed more than once, what has become of it
    fn process_changes(&mut self, now: Instant) {
        for Change { key, before, cause } in coalesced(self.table.take_changes()) {
            match self.table.tuple(now, &key) {
                Some(tuple) if before.as_ref() != Some(&tuple.value) => {
                    self.tell(Event::Put { tuple, previous: before.clone() })
                }
                None if before.is_some() => self.tell(Event::Removed { key: key.clone(), cause }),
                _ => {}
            }
            if table::is_reserved(&key) {
                self.on_reserved(now, &key);
                continue;
            }
            self.zgossip_changed(now, &key, before.as_ref());
        }
    }

    /// Forgets what need not be remembered any more
    fn forget(&mut self, now: Instant) {
        // What is new is told while its lives have the numbers that it is known by
        self.spread_turn(now);
        let context_time = u64::try_from(self.config.context_time.as_micros()).unwrap_or(u64::MAX);
        let oldest = self.clock.wall(now).saturating_sub(context_time);
        self.table.forget_lives(Stamp(oldest), self.own);
        self.forget_pending();
    }

    fn send(&mut self, link: LinkId, frame: Bytes) {
        if let Some(of) = self.links.get_mut(&link)
            && of.is_blocked
            && of.is_tidings()
        {
            // A digest says it all when the link takes frames again
            of.is_stale = true;
            return;
        }
        self.transmits.push_back(Transmit { link, frame });
    }

    /// Whether the socket of a link takes nothing now, so that only what can't be made later should be sent
    fn is_blocked(&self, link: LinkId) -> bool {
        self.links.get(&link).is_none_or(|link| link.is_blocked)
    }

    fn tell(&mut self, event: Event) {
        if self.events.len() < self.config.max_events {
            self.events.push_back(event);
        } else {
            self.missed += 1;
            self.stats.missed_events += 1;
        }
    }

    fn tell_link(&mut self, link: LinkId, state: Result<(), String>) {
        let Some(of) = self.links.get(&link) else { return };
        let change = LinkChange {
            link,
            endpoint: of.info.endpoint.clone(),
            node: of.peer.as_ref().map(|peer| peer.id),
            wire: of.info.wire,
            state,
        };
        self.tell(Event::Link(change));
    }

    /// Counts what was not taken, and tells it once a second
    fn refuse(&mut self, now: Instant, link: LinkId, cause: Refusal) {
        self.stats.refusals.add(cause, 1);
        if let Some(of) = self.links.get_mut(&link) {
            of.counts.refused += 1;
        }
        let told = self.told.get_mut(&cause);
        let count = match told {
            Some(told) if now.saturating_duration_since(told.at) < Duration::from_secs(1) => {
                told.untold += 1;
                told.link = link;
                return;
            }
            Some(told) => {
                told.at = now;
                std::mem::take(&mut told.untold) + 1
            }
            None => {
                self.told.insert(cause, Told { at: now, untold: 0, link });
                1
            }
        };
        self.tell(Event::Refused { link, cause, count });
    }

    /// A message on a link of our own wire that can't be read; a peer that sends many is no peer
    fn on_malformed(&mut self, now: Instant, link: LinkId, cause: Refusal) {
        self.refuse(now, link, cause);
        let Some(of) = self.links.get_mut(&link) else { return };
        of.malformed += 1;
        if of.malformed >= MOST_MALFORMED {
            self.hang_up(link, HangUp::Malformed);
        }
    }

    /// A peer that takes nothing for so long is none; if it comes again it is told all
    fn hang_up_stuck(&mut self, now: Instant) {
        let is_stuck = |link: &Link| link.stuck_since().is_some_and(|since| since + STUCK <= now) && !link.is_ending;
        let stuck = self.links.iter().filter(|(_, link)| is_stuck(link)).map(|(id, _)| *id);
        for link in stuck.collect::<Vec<_>>() {
            self.hang_up(link, HangUp::Stuck);
        }
    }

    fn hang_up(&mut self, link: LinkId, reason: HangUp) {
        if let Some(of) = self.links.get_mut(&link)
            && !of.is_ending
        {
            of.is_ending = true;
            self.actions.push_back(Action::HangUp { link, reason });
        }
    }
}

/// One change for each key: from what it had first, and for the last reason
fn coalesced(changes: Vec<Change>) -> Vec<Change> {
    if changes.len() < 2 {
        return changes;
    }
    let mut places =
        std::collections::HashMap::with_capacity_and_hasher(changes.len(), foldhash::fast::RandomState::default());
    let mut coalesced = Vec::<Change>::with_capacity(changes.len());
    for change in changes {
        let place = *places.entry(change.key.clone()).or_insert(coalesced.len());
        match coalesced.get_mut(place) {
            Some(first) => first.cause = change.cause,
            None => coalesced.push(change),
        }
    }
    coalesced
}

/// Lives are looked for that may be forgotten so often; as others have to find the same, often
fn forget_interval(config: &NodeConfig) -> Duration {
    (config.context_time / 8).clamp(Duration::from_secs(1), Duration::from_secs(60))
}

/// Why BYE is said
const BYE_LEAVING: u8 = 1;
const BYE_CROWDED: u8 = 2;
const BYE_DUPLICATE: u8 = 3;
/// Room that is kept in empty queues, as most nodes rest most of the time
const FEW: usize = 8;
/// How long a link may take nothing
const STUCK: Duration = Duration::from_secs(60);
/// Messages in a row that can't be read, until their link is hung up
const MOST_MALFORMED: u32 = 8;

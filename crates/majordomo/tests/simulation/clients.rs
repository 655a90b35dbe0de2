//! Clients: they ask, take back, leave, come again and repeat themselves.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use testkit::Random;
use tidings_majordomo::wire::{Body, ClientCommand, ClientReply, RequestOptions, Status, Wire};
use tidings_socket::{Bytes, Message};

use crate::world::{Event, Owner, REQUEST_AGE, SERVICES, World};

pub(crate) struct Client {
    pub(crate) wire: Wire,
    connection: Option<usize>,
    next_id: u64,
    /// Requests that have not ended for us
    pending: BTreeMap<u64, Pending>,
    /// Those that ended on this connection, by whichever ending
    ended: BTreeSet<u64>,
    /// Those that we took back on this connection
    cancelled: BTreeSet<u64>,
    /// Those that we said twice on one connection, so that they may end twice if the first was quick
    doubled: BTreeSet<u64>,
    left: u64,
}

#[derive(Clone)]
struct Pending {
    service: &'static str,
    options: RequestOptions,
    text: String,
    asked: Instant,
}

impl Default for Client {
    fn default() -> Self {
        Self {
            wire: Wire::Mdp01,
            connection: None,
            next_id: 1,
            pending: BTreeMap::new(),
            ended: BTreeSet::new(),
            cancelled: BTreeSet::new(),
            doubled: BTreeSet::new(),
            left: 0,
        }
    }
}

impl Client {
    pub(crate) fn new(random: &mut Random) -> Self {
        let wire = match random.within(0..=9) {
            0..=4 => Wire::Tidings,
            number => Wire::ALL[number as usize - 5],
        };
        Self { wire, left: random.within(5..=30), ..Self::default() }
    }

    pub(crate) fn act(&mut self, world: &mut World, index: usize) {
        if self.left == 0 {
            return;
        }
        world.soon(if world.is_calm { 100 } else { 800 }, Event::Client(index));
        let connection = self.connection(world, index);
        if world.chance(25) {
            world.cut(connection);
            return self.lost(world, index, connection);
        }
        if !self.wire.is_numbered() && !self.pending.is_empty() {
            // One at a time: wait, or give up with the socket (RFC 7, "Client retry")
            if world.random.within(0..=2) == 0 || world.is_calm {
                world.cut(connection);
                self.lost(world, index, connection);
            }
            return;
        }
        if world.chance(6)
            && let Some(id) = self.pending.keys().next().copied().filter(|_| self.wire.is_numbered())
        {
            self.pending.remove(&id);
            self.cancelled.insert(id);
            world.say(connection, ClientCommand::Cancel { id }.encode(self.wire).unwrap());
            return;
        }
        self.left -= 1;
        for _ in 0..world.random.within(1..=if self.wire.is_numbered() { 4 } else { 1 }) {
            self.ask(world, index, connection);
        }
    }

    fn ask(&mut self, world: &mut World, index: usize, connection: usize) {
        let id = self.next_id;
        self.next_id += 1;
        // Most ask for what most work for
        let service = SERVICES[world.random.within(0..=5).saturating_sub(3) as usize];
        let mut text = format!("{index}.{id}");
        let mut options = RequestOptions::default();
        if world.random.within(0..=2) == 0 {
            options.deadline = Some(Duration::from_millis(world.random.within(0..=3000)));
        }
        options.repeatable = world.random.within(0..=5) > 0;
        if world.random.within(0..=3) == 0 {
            let key = world.random.within(0..=3);
            options.key = Some(Bytes::from(format!("key {key}")));
            // Now and then the key of something else
            text = if world.chance(20) { "other".to_owned() } else { format!("keyed {key}") };
        }
        let pending = Pending { service, options, text, asked: world.clock.now() };
        self.send(world, connection, id, &pending);
        if world.chance(30) && self.wire.is_numbered() {
            self.doubled.insert(id);
            self.send(world, connection, id, &pending);
        }
        self.pending.insert(id, pending);
        world.totals.requests += 1;
    }

    fn send(&mut self, world: &mut World, connection: usize, id: u64, pending: &Pending) {
        let body: Body = match self.wire {
            Wire::Domogik => ["act".into(), format!("{{\"text\": \"{}\"}}", pending.text).into()].into_iter().collect(),
            _ => [Bytes::from(pending.text.clone())].into_iter().collect(),
        };
        let (service, options) = (pending.service.parse().unwrap(), pending.options.clone());
        world.say(connection, ClientCommand::Request { id, service, options, body }.encode(self.wire).unwrap());
    }

    fn connection(&mut self, world: &mut World, index: usize) -> usize {
        match self.connection.filter(|connection| world.is_open(*connection)) {
            Some(connection) => connection,
            None => {
                let connection = world.connect(Owner::Client(index));
                self.connection = Some(connection);
                self.ended.clear();
                self.cancelled.clear();
                // What may be repeated is; what may not has failed for the application
                self.pending.retain(|_, pending| pending.options.repeatable);
                for (id, pending) in self.pending.clone() {
                    world.totals.repeated += 1;
                    self.send(world, connection, id, &pending);
                }
                connection
            }
        }
    }

    pub(crate) fn lost(&mut self, world: &mut World, index: usize, connection: usize) {
        if self.connection != Some(connection) {
            return;
        }
        self.connection = None;
        if self.wire.is_numbered() {
            self.connection(world, index);
        } else {
            self.pending.clear();
        }
    }

    pub(crate) fn hear(&mut self, world: &mut World, index: usize, connection: usize, message: Message) {
        if self.connection != Some(connection) {
            return;
        }
        let reply = ClientReply::decode(message, self.wire).expect("a reply of our wire");
        world.tell(|| format!("       client {index} hears {reply:?}"));
        if let ClientReply::Refused { id, status, .. } = &reply
            && let Some(pending) = self.pending.get(id).filter(|_| !self.doubled.contains(id))
        {
            // Whoever joined another's request has the time that it gave itself
            let waited = world.clock.now() - pending.asked;
            let over = pending.options.deadline.unwrap_or(REQUEST_AGE).min(REQUEST_AGE);
            let is_out_of_time = [Status::DEADLINE_PASSED, Status::CANCELLED].contains(status);
            assert!(!is_out_of_time || waited >= over, "{status} after {waited:?} of {over:?}");
        }
        let (id, body, is_last) = match reply {
            ClientReply::Partial { id, body, .. } => (id, Some(body), false),
            ClientReply::Final { id, body, .. } => (id, Some(body), true),
            ClientReply::Refused { id, .. } => (id, None, true),
        };
        let id = if self.wire.is_numbered() { id } else { self.pending.keys().next().copied().unwrap_or(0) };
        if self.doubled.contains(&id) && self.ended.contains(&id) {
            return;
        }
        assert!(!self.ended.contains(&id), "request {id} of client {index} ended before");
        if self.cancelled.contains(&id) {
            // It was on its way
            if is_last {
                self.ended.insert(id);
            }
            return;
        }
        let pending = self.pending.get(&id).expect("a request that was made");
        if let Some(body) = &body {
            let text = String::from_utf8(body.last().unwrap().to_vec()).unwrap();
            assert!(text.contains(&pending.text), "'{text}' is no reply to '{}'", pending.text);
        }
        match (is_last, body) {
            (false, _) => {
                world.totals.partials += 1;
                return;
            }
            (true, Some(_)) => world.totals.replies += 1,
            (true, None) => world.totals.refusals += 1,
        }
        self.pending.remove(&id);
        self.ended.insert(id);
    }

    pub(crate) fn check_end(&self, index: usize) {
        if self.wire.is_numbered() {
            let pending: Vec<_> = self.pending.keys().collect();
            assert!(pending.is_empty(), "client {index} still waits for {pending:?}");
        }
    }
}

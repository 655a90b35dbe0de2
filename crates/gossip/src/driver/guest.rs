//! A peer of the ROUTER that sends text commands: its replies, in order, and its watches.
//!
//! Nothing is made before there is room to send it: a list of all tuples is read on as the peer takes it, and takes no
//! memory. Commands that wait are bounded; a peer that goes on asking without reading is hung up.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use serde_json::Value;
use tidings_socket::{Message, Origin, SendFailure};

use super::house::House;
use super::permit::Access;
use super::report;
use super::text::{self, Command, error, message, word};
use super::watch::{Bound, Queue};

/// What a peer has asked and is to be answered
#[derive(Debug, Default)]
pub(super) struct Guest {
    /// Its commands, and whether each came from a REQ
    asked: VecDeque<(Vec<Bytes>, bool)>,
    octets: usize,
    /// What is under way
    reading: Option<Reading>,
    watches: Vec<Watching>,
    /// What found no room
    unsent: Option<Message>,
}

/// A list that is being sent
#[derive(Debug)]
struct Reading {
    prefix: Bytes,
    /// Whether the peer may see the key of that name alone
    is_exact: bool,
    is_long: bool,
    after: Option<Bytes>,
    count: u64,
}

/// A watch that goes on
#[derive(Debug)]
struct Watching {
    queue: Arc<Queue>,
    /// How many were told of what is known; `None` when all were
    counted: Option<u64>,
    is_long: bool,
}

/// How far a guest was served
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Served {
    /// It has nothing to expect
    Idle,
    /// It watches, and knows all
    Listens,
    /// Its queue is full
    Waits,
}

impl Guest {
    /// Takes a command; false if too many wait already
    pub(super) fn enter(&mut self, frames: Vec<Bytes>, is_request: bool) -> bool {
        self.octets += frames.iter().map(Bytes::len).sum::<usize>();
        self.asked.push_back((frames, is_request));
        self.asked.len() <= MOST_ASKED && self.octets <= MOST_OCTETS
    }

    /// Answers what it asked, in order, until there is no more room
    pub(super) fn serve(
        &mut self,
        house: &mut House,
        now: Instant,
        origin: &Origin,
        mut send: impl FnMut(Message) -> Result<(), SendFailure>,
    ) -> Served {
        loop {
            let next = match self.unsent.take() {
                Some(message) => Some(message),
                None => self.next(house, now, origin),
            };
            let Some(next) = next else {
                return if self.watches.is_empty() { Served::Idle } else { Served::Listens };
            };
            match send(next.clone()) {
                Ok(()) => {}
                Err(SendFailure::WouldBlock) => {
                    self.unsent = Some(next);
                    return Served::Waits;
                }
                // The connection is over
                Err(_) => {
                    *self = Self::default();
                    return Served::Idle;
                }
            }
        }
    }

    /// The next message for it
    fn next(&mut self, house: &mut House, now: Instant, origin: &Origin) -> Option<Message> {
        if let Some(reading) = &mut self.reading {
            let next = reading.next(house, now);
            if next.first() == b"END" {
                self.reading = None;
            }
            return Some(next);
        }
        while let Some((frames, is_request)) = self.asked.pop_front() {
            self.octets = self.octets.saturating_sub(frames.iter().map(Bytes::len).sum());
            house.counts.commands += 1;
            let reply = match Command::parse(&frames) {
                Ok(command) => self.answer(house, now, origin, command, is_request),
                Err(why) => Some(error(why)),
            };
            if let Some(reply) = reply {
                return Some(enveloped(reply, is_request));
            }
            if self.reading.is_some() {
                return self.next(house, now, origin);
            }
        }
        self.watches.iter_mut().find_map(|watching| watching.next(house, now))
    }

    /// The reply to a command, unless it has many
    fn answer(
        &mut self,
        house: &mut House,
        now: Instant,
        origin: &Origin,
        command: Command,
        is_request: bool,
    ) -> Option<Message> {
        let (access, key) = command.access();
        let may = |access| house.permit.allows(origin, access, key);
        let is_exact = access == Access::List && !may(access) && may(Access::Read);
        if !is_exact && !may(access) {
            house.counts.not_permitted += 1;
            house.log.not_permitted(now, origin, access, key);
            return Some(error(refusal(access, key)));
        }
        match command {
            Command::List { .. } | Command::Watch { .. } if is_request => {
                Some(error("a REQ gets one reply to each request: use a DEALER for LIST and WATCH"))
            }
            Command::List { prefix, is_long } => {
                self.reading = Some(Reading { prefix, is_exact, is_long, after: None, count: 0 });
                None
            }
            Command::Watch { .. } if self.watches.len() >= MOST_WATCHES => {
                Some(error(format!("a peer may have {MOST_WATCHES} watches, and this one has them")))
            }
            Command::Watch { prefix, is_long } => {
                let bound = Bound { changes: 1024, octets: 4 << 20 };
                let queue = if is_exact { Queue::of_key(prefix, bound) } else { Queue::new(prefix, bound) };
                house.watch(now, &queue);
                self.watches.push(Watching { queue, counted: Some(0), is_long });
                None
            }
            command => Some(reply(house, now, command)),
        }
    }
}

/// What a command of one reply is answered
pub(crate) fn reply(house: &mut House, now: Instant, command: Command) -> Message {
    let json = |first: &'static str, value: Value| message([word(first), Bytes::from(value.to_string())]);
    match command {
        Command::Get { key, is_long } => match house.node.get(now, &key) {
            Some(tuple) => text::tuple("VALUE", &tuple, is_long),
            None => message([word("NONE"), key]),
        },
        Command::Publish { key, value, lifetime } => match house.node.put(now, key.clone(), value, lifetime) {
            Ok(_) => message([word("PUBLISHED"), key]),
            Err(why) => error(why.to_string()),
        },
        Command::Unpublish { key } => match house.node.remove(now, &key) {
            Ok(true) => message([word("UNPUBLISHED"), key]),
            Ok(false) => message([word("NONE"), key]),
            Err(why) => error(why.to_string()),
        },
        Command::Status => {
            let status = report::json(&report::Status::of(house));
            message([word("STATUS"), Bytes::from(house.node.len().to_string()), Bytes::from(status.to_string())])
        }
        Command::Peers => json("PEERS", report::json(&report::peers(house))),
        Command::Members => json("MEMBERS", report::json(&report::members(house, now))),
        Command::Graph => json("GRAPH", report::json(&report::Graph::of(house, now))),
        Command::List { .. } | Command::Watch { .. } => error("LIST and WATCH have more than one reply"),
    }
}

impl Reading {
    fn next(&mut self, house: &House, now: Instant) -> Message {
        // Of keys that begin so the shortest comes first
        let next = house.node.tuples_after(now, &self.prefix, self.after.as_deref()).next();
        match next.filter(|tuple| !self.is_exact || tuple.key == self.prefix) {
            Some(tuple) => {
                self.count += 1;
                let message = text::tuple("TUPLE", &tuple, self.is_long);
                self.after = Some(tuple.key);
                message
            }
            None => message([word("END"), Bytes::from(self.count.to_string())]),
        }
    }
}

impl Watching {
    fn next(&mut self, house: &mut House, now: Instant) -> Option<Message> {
        if self.queue.is_due() {
            house.refill(now, &self.queue);
        }
        let change = self.queue.pop()?;
        Some(text::change(&change, &mut self.counted, self.is_long))
    }
}

fn enveloped(mut message: Message, is_request: bool) -> Message {
    if is_request {
        message.push_front(Bytes::new());
    }
    message
}

fn refusal(access: Access, key: &[u8]) -> String {
    match access {
        Access::Write => format!("you may not write {}", text::shown(key)),
        Access::List if key.is_empty() => "you may not read all keys".to_owned(),
        Access::Read | Access::List => format!("you may not read {}", text::shown(key)),
        _ => "you may not see this".to_owned(),
    }
}

/// Commands of one peer that wait for room to be answered
const MOST_ASKED: usize = 1024;
/// Octets of those
const MOST_OCTETS: usize = 16 << 20;
/// Of one peer
const MOST_WATCHES: usize = 16;

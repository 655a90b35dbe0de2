//! A node of CZMQ's zgossip 4.2, as far as it can be seen from outside: sections 1 to 4 of the fact sheet.
//!
//! Small and faithful in what goes wrong: it keeps no versions, echoes to where a tuple came from, forgets clients after a
//! second of silence, and answers their next PUBLISH with INVALID.

use std::any::Any;
use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use bytes::{BufMut, Bytes, BytesMut};
use tidings_gossip::simulation::{MakeParticipant, Participant};
use tidings_gossip::{LinkId, LinkInfo, Side, Transmit};
use tidings_zmtp::Message;

/// One of CZMQ's nodes
#[derive(Default)]
pub(crate) struct Czmq {
    pub(crate) tuples: BTreeMap<Vec<u8>, Vec<u8>>,
    /// What its application was told, in all
    pub(crate) delivered: u64,
    /// Messages that would have stopped the real one
    pub(crate) deadly: Vec<Bytes>,
    clients: BTreeMap<LinkId, Client>,
    remotes: Vec<LinkId>,
    /// Messages that it has not come to yet: a queue without a limit
    inbox: VecDeque<(LinkId, Message)>,
    next: Option<Instant>,
    transmits: VecDeque<Transmit>,
}

struct Client {
    is_connected: bool,
    heard: Instant,
}

impl Czmq {
    pub(crate) fn make() -> MakeParticipant {
        Box::new(|| Box::new(Self::default()))
    }

    /// PUBLISH of its application
    pub(crate) fn publish(&mut self, key: &[u8], value: &[u8]) {
        self.accept(key.to_vec(), value.to_vec());
    }

    /// Section 4
    fn accept(&mut self, key: Vec<u8>, value: Vec<u8>) {
        if self.tuples.get(&key) == Some(&value) {
            return;
        }
        self.delivered += 1;
        let frame = publish(&key, &value);
        self.tuples.insert(key, value);
        let clients: Vec<LinkId> = self.clients.keys().copied().collect();
        for link in clients {
            if self.clients[&link].is_connected {
                self.say(link, frame.clone());
            } else {
                // A tuple to forward in state start
                self.refuse(link);
            }
        }
        for remote in self.remotes.clone() {
            self.say(remote, frame.clone());
        }
    }

    fn say(&mut self, link: LinkId, frame: Bytes) {
        self.transmits.push_back(Transmit { link, frame });
    }

    fn refuse(&mut self, link: LinkId) {
        self.clients.remove(&link);
        self.say(link, Bytes::from_static(INVALID));
    }

    fn say_all(&mut self, link: LinkId) {
        let frames: Vec<Bytes> = self.tuples.iter().map(|(key, value)| publish(key, value)).collect();
        frames.into_iter().for_each(|frame| self.say(link, frame));
    }

    /// Section 2
    fn serve(&mut self, now: Instant, link: LinkId, id: u8, frame: &[u8]) {
        let client = self.clients.entry(link).or_insert(Client { is_connected: false, heard: now });
        client.heard = now;
        match (client.is_connected, id) {
            (false, 1) => {
                client.is_connected = true;
                self.say_all(link);
            }
            (_, 3) => self.say(link, Bytes::from_static(PONG)),
            (true, 2) => {
                if let Some((key, value)) = tuple(frame) {
                    self.accept(key, value);
                }
            }
            _ => self.refuse(link),
        }
    }
}

impl Participant for Czmq {
    fn handle_link_up(&mut self, _now: Instant, link: LinkId, info: LinkInfo) {
        if info.side == Side::Remote {
            self.remotes.push(link);
            self.say(link, Bytes::from_static(HELLO));
            self.say_all(link);
        }
    }

    fn handle_link_down(&mut self, _now: Instant, link: LinkId) {
        self.remotes.retain(|remote| *remote != link);
        self.clients.remove(&link);
    }

    fn handle_message(&mut self, now: Instant, link: LinkId, message: Message) {
        self.inbox.push_back((link, message));
        self.next.get_or_insert(now + TAKES);
    }

    fn handle_timeout(&mut self, now: Instant) {
        if self.next.is_some_and(|next| next <= now) {
            if let Some((link, message)) = self.inbox.pop_front() {
                self.handle(now, link, message);
            }
            self.next = (!self.inbox.is_empty()).then(|| now + TAKES);
        }
        self.clients.retain(|_, client| client.heard + EXPIRY > now);
    }

    fn poll_transmit(&mut self) -> Option<Transmit> {
        self.transmits.pop_front()
    }

    fn poll_timeout(&self) -> Option<Instant> {
        self.clients.values().map(|client| client.heard + EXPIRY).chain(self.next).min()
    }

    fn as_any(&mut self) -> &mut dyn Any {
        self
    }
}

impl Czmq {
    fn handle(&mut self, now: Instant, link: LinkId, message: Message) {
        let frame = message.frames().next().map(Bytes::copy_from_slice).unwrap_or_default();
        let is_whole = message.frames().count() == 1 && frame.len() >= 4 && frame[..2] == [0xaa, 0xa0] && frame[3] == 1;
        let id = if is_whole { frame[2] } else { 0 };
        let is_remote = self.remotes.contains(&link);
        // Section 8: a malformed frame stops the node; and PONG or INVALID are never said by a client
        if !(1..=5).contains(&id) || id == 2 && tuple(&frame).is_none() || !is_remote && id > 3 {
            self.deadly.push(frame);
            return;
        }
        match (is_remote, id) {
            (false, _) => self.serve(now, link, id, &frame),
            (true, 2) => {
                if let Some((key, value)) = tuple(&frame) {
                    self.accept(key, value);
                }
            }
            // Section 3: tuples are not sent again
            (true, 5) => self.say(link, Bytes::from_static(HELLO)),
            (true, _) => {}
        }
    }
}

fn publish(key: &[u8], value: &[u8]) -> Bytes {
    let mut frame = BytesMut::from(&[0xaa, 0xa0, 2, 1, key.len() as u8][..]);
    frame.extend_from_slice(key);
    frame.put_u32(value.len() as u32);
    frame.extend_from_slice(value);
    frame.put_u32(0);
    frame.freeze()
}

/// Key and value of a PUBLISH; `None` if it ends early
fn tuple(frame: &[u8]) -> Option<(Vec<u8>, Vec<u8>)> {
    let (len, rest) = frame.get(4..)?.split_first()?;
    let (key, rest) = rest.split_at_checked((*len).into())?;
    let (len, rest) = rest.split_first_chunk()?;
    let (value, rest) = rest.split_at_checked(u32::from_be_bytes(*len) as usize)?;
    (rest.len() >= 4).then(|| (key.to_vec(), value.to_vec()))
}

const HELLO: &[u8] = &[0xaa, 0xa0, 1, 1];
const PONG: &[u8] = &[0xaa, 0xa0, 4, 1];
const INVALID: &[u8] = &[0xaa, 0xa0, 5, 1];
/// `server/timeout`, as it is at start
const EXPIRY: Duration = Duration::from_secs(1);
/// A message takes it so long, which no more than bounds how fast it can go round in circles; the real one is faster
const TAKES: Duration = Duration::from_micros(500);

//! A connection: the state of the protocol towards one peer on one byte stream.

use std::{collections::VecDeque, fmt, io, mem, sync::Arc, time::Instant};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use smallvec::SmallVec;
use zeroize::Zeroize;

use crate::{
    auth::{AuthVerdict, Credentials},
    close_reason::{CloseReason, printable},
    command::{Command, CommandError},
    config::{Config, ROUTING_ID_LIMIT},
    frame::{FrameError, FrameHeader, Framing},
    greeting::{Greeting, GreetingReader, Heard, Opening, SIGNATURE_LEN, Version, signature},
    liveness::{Liveness, Verdict},
    mechanism::{Admission, HANDSHAKE_COMMAND_CEILING, Mechanism, Outcome, SEALED_OVERHEAD, Sealing, Step},
    message::{Message, SHORT_HEADER, Short},
    properties::Properties,
    socket_type::SocketType,
    write_queue::WriteQueue,
};

/// Protocol state for one peer on one byte stream; octets and instants in, octets, messages and events out
///
/// After any `handle_*` drain, in this order: [`poll_transmit`](Self::poll_transmit),
/// [`messages`](Self::messages), [`poll_event`](Self::poll_event), then ask
/// [`poll_timeout`](Self::poll_timeout) for the next deadline. Every instant passed in must not be before the one
/// passed in last.
///
/// Messages to the peer don't pass through here: the owner writes them from a [`WriteQueue`] once
/// [`Event::Handshaken`] was seen. What `poll_transmit` gives goes out between two of them, never inside one.
pub struct Connection {
    config: Arc<Config>,
    state: State,
    transmit: BytesMut,
    /// Octets of PONG in `transmit`
    pongs: usize,
    /// A PING of ours is in `transmit`
    ping_queued: bool,
    messages: VecDeque<Message>,
    asked: Option<Credentials>,
    handshaken: Option<PeerInfo>,
    closed: Option<CloseReason>,
    /// A reason to close was given
    over: bool,
    reading: bool,
    /// Octets that the last call left unread, to tell new ones from old
    left_unread: usize,
    mid_frame: bool,
    read_hint: usize,
}

/// In few words: what waits to be written may be a password, and what was read is the application's
impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection")
            .field("config", &self.config)
            .field("state", &self.state)
            .field("messages", &self.messages.len())
            .field("closed", &self.closed)
            .finish_non_exhaustive()
    }
}

/// Something that happened once, and matters to the connection's owner
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Event {
    /// The peer wants in, and the owner decides: answer with [`Connection::handle_verdict`]
    ///
    /// Nothing is read meanwhile, and the time that the handshake may take goes on.
    Authenticate(Credentials),
    /// The handshake is done: messages may be written; subscriptions are due
    Handshaken(PeerInfo),
    /// The connection is over: write what [`Connection::poll_transmit`] still has, then close the byte stream
    ///
    /// Messages decoded before remain in [`Connection::messages`].
    Closed(CloseReason),
}

/// What is known of the peer once the handshake is done
#[derive(Clone, Debug, PartialEq)]
pub struct PeerInfo {
    /// The version spoken with it: (1, 0), (2, 0), (3, 0) or (3, 1)
    pub version: (u8, u8),
    /// Its type; `None` when it didn't say or, before 3.0, said what we don't know
    ///
    /// Only from 3.0 on is it certain to be compatible: libzmq doesn't look at what older peers say.
    pub socket_type: Option<SocketType>,
    /// What it wants to be known by, at most 255 octets; mostly empty
    ///
    /// RFC 23 keeps those that begin with a zero for the receiver's own use, but libzmq lets a peer choose one.
    pub routing_id: Bytes,
    /// All that it told in READY; none before 3.0
    pub properties: Properties,
    /// The security mechanism in use
    pub mechanism: &'static str,
    /// Whom the owner took it for when it let it in; mostly empty
    pub user_id: Bytes,
    /// What else the owner knew of it then; the peer is not told
    pub metadata: Properties,
}

#[derive(Debug)]
enum State {
    AwaitGreeting {
        reader: GreetingReader,
        due: Option<Instant>,
    },
    /// 1.0 and 2.0: a frame with the peer's routing id is due
    AwaitRoutingId {
        version: Version,
        socket_type: Option<SocketType>,
        implicit: bool,
        due: Option<Instant>,
    },
    Handshake {
        version: Version,
        mechanism: Mechanism,
        due: Option<Instant>,
    },
    Traffic(Traffic),
    Closed,
}

#[derive(Debug)]
struct Traffic {
    version: Version,
    liveness: Liveness,
    /// No bound forbids a message of one short frame, so that they are read without asking
    takes_short: bool,
    /// Frames of a message whose last one is still to come
    partial: SmallVec<[Bytes; 2]>,
    partial_octets: u64,
    /// With CURVE, how frames are sealed
    sealing: Option<Box<Sealing>>,
}

impl Traffic {
    /// Adds a frame to the message in progress, and puts that to `messages` if it is whole
    #[inline(always)]
    fn take_frame(&mut self, body: Bytes, more: bool, message_octets: u64, messages: &mut VecDeque<Message>) {
        if more {
            self.partial.push(body);
            self.partial_octets = message_octets;
        } else if self.partial.is_empty() {
            messages.push_back(body.into());
        } else {
            self.partial.push(body);
            self.partial_octets = 0;
            messages.push_back(Message::from_frames(mem::take(&mut self.partial)));
        }
    }

    /// Where commands go: to be sealed with the messages, or to be written as they are
    fn outlet<'a>(&'a mut self, transmit: &'a mut BytesMut) -> &'a mut BytesMut {
        match &mut self.sealing {
            Some(sealing) => sealing.commands(),
            None => transmit,
        }
    }
}

/// Whether input goes on being read
enum Flow {
    Continue,
    /// More octets are needed
    Starved,
    /// The owner has no room for another message
    Full,
}

impl Connection {
    /// A connection whose byte stream was just opened, by whichever side
    ///
    /// Connections that are configured alike can share one `Arc<Config>`.
    pub fn new(config: impl Into<Arc<Config>>, now: Instant) -> Self {
        let config = config.into();
        let mut transmit = BytesMut::with_capacity(SIGNATURE_LEN);
        // The padding says one more than the routing id, since a 1.0 length counts the flags octet.
        transmit.put_slice(&signature((config.routing_id.len() as u64).saturating_add(1)));
        if config.greets_at_once() {
            transmit.put_slice(&own_greeting(&config)[SIGNATURE_LEN..]);
        }
        let due = config.handshake_timeout.and_then(|timeout| now.checked_add(timeout));
        Self {
            config,
            state: State::AwaitGreeting { reader: GreetingReader::new(), due },
            transmit,
            pongs: 0,
            ping_queued: false,
            messages: VecDeque::new(),
            asked: None,
            handshaken: None,
            closed: None,
            over: false,
            reading: true,
            left_unread: 0,
            mid_frame: false,
            read_hint: 0,
        }
    }

    /// Reads whole frames from the front of `octets`, and leaves an unfinished one there
    ///
    /// At most `room` messages are decoded; the octets of further ones stay unread, and the next call goes on
    /// with them. Greeting, handshake and commands need no room, but subscriptions that a PUB or XPUB is handed as
    /// messages do. What stays unread is bounded by [`Config::max_frame`] and what the owner reads at once.
    pub fn handle_input(&mut self, now: Instant, octets: &mut BytesMut, room: usize) {
        if let (State::Traffic(traffic), true) = (&mut self.state, octets.len() > self.left_unread) {
            traffic.liveness.on_heard(now);
        }
        self.read_hint = 0;
        let limit = self.messages.len().saturating_add(room);
        let flow = loop {
            match self.handle_piece(now, octets, limit) {
                Ok(Flow::Continue) => {}
                Ok(flow) => break flow,
                Err(reason) => {
                    self.close_with(reason);
                    break Flow::Starved;
                }
            }
        };
        self.left_unread = octets.len();
        self.mid_frame = match &self.state {
            State::Traffic(traffic) => {
                !traffic.partial.is_empty() || (matches!(flow, Flow::Starved) && !octets.is_empty())
            }
            _ => !octets.is_empty(),
        };
    }

    /// Answers [`Event::Authenticate`]; then give [`handle_input`](Self::handle_input) what it had left unread
    ///
    /// Does nothing while no verdict is awaited: it may have come too late.
    pub fn handle_verdict(&mut self, now: Instant, verdict: AuthVerdict) {
        if !self.awaits_verdict() {
            return;
        }
        self.asked = None;
        let (user_id, metadata) = match verdict {
            AuthVerdict::Allow { user_id, metadata } => (user_id, metadata),
            AuthVerdict::Deny { code, reason } => {
                if let Some(told) = code.told() {
                    Command::Error(told).encode(&mut self.transmit);
                }
                return self.close_with(CloseReason::Denied { code: code.number(), reason });
            }
        };
        let State::Handshake { version, mechanism, due } = mem::replace(&mut self.state, State::Closed) else {
            return;
        };
        let step = mechanism.admit(&self.config, Admission { user_id, metadata }, &mut self.transmit);
        if let Err(reason) = step.and_then(|step| self.on_step(now, version, due, step)) {
            self.close_with(reason);
        }
    }

    /// Whether [`handle_verdict`](Self::handle_verdict) is awaited
    ///
    /// Nothing is read before it came, so read nothing from the byte stream: what a peer says that may not be let in
    /// is not worth holding.
    pub fn awaits_verdict(&self) -> bool {
        matches!(&self.state, State::Handshake { mechanism, .. } if mechanism.awaits_verdict())
    }

    /// Acts on the deadlines that have passed; call when [`poll_timeout`](Self::poll_timeout) is due
    pub fn handle_timeout(&mut self, now: Instant) {
        match &mut self.state {
            State::AwaitGreeting { due, .. } | State::AwaitRoutingId { due, .. } | State::Handshake { due, .. } => {
                if let (Some(due), Some(after)) = (*due, self.config.handshake_timeout)
                    && due <= now
                {
                    self.close_with(CloseReason::HandshakeTimedOut { after });
                }
            }
            State::Traffic(traffic) => match traffic.liveness.handle_timeout(now) {
                Verdict::Nothing => {}
                Verdict::Ping => {
                    // One is enough, however long the transport is stuck.
                    if !mem::replace(&mut self.ping_queued, true) {
                        let ttl = traffic.liveness.own_ttl();
                        Command::Ping { ttl, context: &[] }.encode(traffic.outlet(&mut self.transmit));
                    }
                }
                Verdict::Gone(reason) => self.close_with(reason),
            },
            State::Closed => {}
        }
    }

    /// When [`handle_timeout`](Self::handle_timeout) is to be called; ask again after every call of anything else
    pub fn poll_timeout(&self) -> Option<Instant> {
        match &self.state {
            State::AwaitGreeting { due, .. } | State::AwaitRoutingId { due, .. } | State::Handshake { due, .. } => *due,
            State::Traffic(traffic) => traffic.liveness.poll_timeout(),
            State::Closed => None,
        }
    }

    /// Octets to be written, between two messages and never inside one
    ///
    /// All that is due comes at once; with CURVE, only what the handshake has to say. What the peer can make us say is bounded: PONGs beyond a few hundred that were
    /// not collected are left out.
    pub fn poll_transmit(&mut self) -> Option<Bytes> {
        self.on_collected();
        (!self.transmit.is_empty()).then(|| self.transmit.split().freeze())
    }

    /// As [`poll_transmit`](Self::poll_transmit), to the end of `into`: nothing is copied when that is empty
    pub fn transmit_into(&mut self, into: &mut BytesMut) {
        self.on_collected();
        if self.transmit.is_empty() {
            return;
        }
        let transmit = mem::take(&mut self.transmit);
        match into.is_empty() {
            true => *into = transmit,
            false => into.extend_from_slice(&transmit),
        }
    }

    /// What happened since the last call
    ///
    /// At most one [`Event::Authenticate`], then at most one [`Event::Handshaken`], then at most one
    /// [`Event::Closed`].
    pub fn poll_event(&mut self) -> Option<Event> {
        if let Some(credentials) = self.asked.take() {
            return Some(Event::Authenticate(credentials));
        }
        if let Some(peer) = self.handshaken.take() {
            return Some(Event::Handshaken(peer));
        }
        self.closed.take().map(Event::Closed)
    }

    /// The messages decoded and not yet taken, in order; the caller drains or swaps them
    ///
    /// To a PUB or XPUB subscriptions come as messages of one frame: `01` and the topic for a new one, `00` and
    /// the topic for one taken back, whatever the peer's version. To a RADIO the groups that a DISH joins and leaves
    /// come in the same form.
    pub fn messages(&mut self) -> &mut VecDeque<Message> {
        &mut self.messages
    }

    /// Asks the peer for messages that begin with `topic`, or for a DISH for those of that group
    ///
    /// Does nothing before [`Event::Handshaken`]: subscriptions are the owner's state, to be sent to each new
    /// peer.
    pub fn subscribe(&mut self, topic: &[u8]) {
        self.send_subscription(true, topic);
    }

    /// Takes [`subscribe`](Self::subscribe) back
    pub fn cancel(&mut self, topic: &[u8]) {
        self.send_subscription(false, topic);
    }

    /// Whether a [`WriteQueue`] may be written to this peer as it stands; otherwise [`seal`](Self::seal) it
    ///
    /// False until the handshake is done.
    pub fn is_passthrough(&self) -> bool {
        match &self.state {
            State::Traffic(traffic) => match traffic.version.framing() {
                Framing::V2 => traffic.sealing.is_none(),
                Framing::V1 => false,
            },
            _ => false,
        }
    }

    /// Puts messages from the front of the canonical queue into the form of this peer, until that holds `limit_octets`
    ///
    /// `from` keeps them: what [`WriteQueue::advance`] counts when `into` is written is then to be taken out with
    /// [`WriteQueue::advance_messages`], so that a lost connection costs none. So nothing is done as long as `into`
    /// holds anything, nor before the handshake is done, nor where [`is_passthrough`](Self::is_passthrough) holds.
    ///
    /// With CURVE the commands that wait come first: frames are numbered when they are sealed, and must be written in
    /// that order, so [`poll_transmit`](Self::poll_transmit) has none of them. Call this also when `from` is empty.
    pub fn seal(&mut self, from: &WriteQueue, into: &mut WriteQueue, limit_octets: usize) {
        let State::Traffic(traffic) = &mut self.state else {
            return;
        };
        if !into.is_empty() {
            return;
        }
        match (&mut traffic.sealing, traffic.version.framing()) {
            (Some(sealing), _) => {
                self.pongs = 0;
                self.ping_queued = false;
                if sealing.seal(from, into, limit_octets).is_err() {
                    self.close_with(CloseReason::NonceExhausted);
                }
            }
            (None, framing @ Framing::V1) => into.push_reframed(framing, from, limit_octets),
            (None, Framing::V2) => {}
        }
    }

    /// Octets still missing for the frame in progress, for sizing the next read; 0 when unknown
    ///
    /// The peer's claim within [`Config::max_frame`]: bound what you allocate for it.
    pub fn read_hint(&self) -> usize {
        self.read_hint
    }

    /// Tells whether the owner reads from the byte stream at all
    ///
    /// While it doesn't, the peer's silence must not count against it: heartbeat deadlines are suspended, and
    /// begin anew when reading resumes. Our own PINGs go on.
    pub fn set_reading(&mut self, now: Instant, reading: bool) {
        if mem::replace(&mut self.reading, reading) == reading {
            return;
        }
        if let State::Traffic(traffic) = &mut self.state {
            traffic.liveness.set_reading(now, reading);
        }
    }

    /// Whether the handshake was done and the connection has not ended since
    pub fn is_handshaken(&self) -> bool {
        matches!(self.state, State::Traffic(_))
    }

    /// The byte stream ended: nothing more will be read
    ///
    /// Feed what was read before first. A message begun and not ended is lost.
    pub fn handle_eof(&mut self, _now: Instant) {
        let mid_handshake = !self.is_handshaken();
        self.close_with(CloseReason::PeerClosed { mid_frame: self.mid_frame, mid_handshake });
    }

    /// The byte stream failed
    pub fn handle_transport_error(&mut self, error: io::ErrorKind) {
        self.close_with(CloseReason::TransportFailed(error));
    }

    /// Ends the connection from our side
    pub fn close(&mut self) {
        self.close_with(CloseReason::ClosedLocally);
    }

    /// Commands that were to be said are gone, unless they are to be sealed
    fn on_collected(&mut self) {
        if !matches!(&self.state, State::Traffic(Traffic { sealing: Some(_), .. })) {
            self.pongs = 0;
            self.ping_queued = false;
        }
    }

    /// Handles the next piece of input: a stage of the greeting, or a frame
    #[inline]
    fn handle_piece(&mut self, now: Instant, octets: &mut BytesMut, limit: usize) -> Result<Flow, CloseReason> {
        match &mut self.state {
            State::Traffic(_) => self.handle_frame(now, octets, limit),
            State::AwaitGreeting { reader, .. } => match reader.read(octets) {
                Some(heard) => self.on_greeting(now, heard),
                None => Ok(Flow::Starved),
            },
            State::AwaitRoutingId { .. } => self.handle_routing_id(now, octets),
            State::Handshake { .. } => self.handle_handshake(now, octets),
            State::Closed => Ok(Flow::Starved),
        }
    }

    /// The hot path: messages of one short frame in a row, then one frame of any other form
    #[inline]
    fn handle_frame(&mut self, now: Instant, octets: &mut BytesMut, limit: usize) -> Result<Flow, CloseReason> {
        let State::Traffic(traffic) = &mut self.state else {
            return Ok(Flow::Continue);
        };
        // A zero begins a message of one frame of up to 255 octets
        let is_row = traffic.takes_short && octets.first() == Some(&0) && traffic.partial.is_empty();
        if is_row && take_short_row(octets, &mut self.messages, limit) {
            return Ok(Flow::Full);
        }
        if traffic.sealing.is_some() {
            return self.handle_sealed(now, octets, limit);
        }
        let framing = traffic.version.framing();
        let Some((header, taken)) = FrameHeader::decode(framing, octets, self.config.max_frame)? else {
            return Ok(Flow::Starved);
        };
        if header.command {
            return self.handle_command(now, octets, limit);
        }
        if self.messages.len() >= limit {
            return Ok(Flow::Full);
        }
        // Ceilings first: what is refused must not be waited for.
        let message_octets = message_octets(&self.config, traffic.partial_octets, header.body_len)?;
        if traffic.partial.len() >= self.config.max_frames_per_message {
            return Err(CloseReason::TooManyFrames { ceiling: self.config.max_frames_per_message });
        }
        let Some(body) = take_body(octets, header, taken, &mut self.read_hint)? else {
            return Ok(Flow::Starved);
        };
        traffic.take_frame(body, header.more, message_octets, &mut self.messages);
        Ok(Flow::Continue)
    }

    /// The hot path of CURVE: rows of sealed frames, those of short messages opened into the messages themselves
    ///
    /// Without room nothing is opened, commands neither: until it is opened nobody can tell one from a message.
    // Kept out of the path of those that are not sealed
    #[inline(never)]
    fn handle_sealed(&mut self, now: Instant, octets: &mut BytesMut, limit: usize) -> Result<Flow, CloseReason> {
        let State::Traffic(traffic) = &mut self.state else {
            return Ok(Flow::Continue);
        };
        let Some(sealing) = &mut traffic.sealing else {
            return Ok(Flow::Continue);
        };
        let ceiling = self.config.max_frame.saturating_add(SEALED_OVERHEAD as u64);
        let takes_short = self.config.takes_short() && traffic.partial.is_empty();
        let mut read = 0;
        let (flags, body_len) = loop {
            let input = octets.get_mut(read..).unwrap_or_default();
            let Some((header, taken)) = FrameHeader::decode(Framing::V2, input, ceiling)? else {
                octets.advance(read);
                return Ok(Flow::Starved);
            };
            if self.messages.len() >= limit {
                octets.advance(read);
                return Ok(Flow::Full);
            }
            // What is refused must not be waited for. It may be a command, which is no part of a message.
            let body_len = header.body_len.saturating_sub(SEALED_OVERHEAD as u64);
            if body_len > COMMAND_CEILING {
                message_octets(&self.config, traffic.partial_octets, body_len)?;
            }
            let whole = whole_frame(header, taken)?;
            let available = input.len();
            let Some(frame) = input.get_mut(taken..whole) else {
                self.read_hint = whole - available;
                octets.advance(read);
                return Ok(Flow::Starved);
            };
            let (flags, body) = sealing.open(frame)?;
            let is_whole_message = takes_short && !flags.more && !flags.command;
            if is_whole_message && let Some(short) = Short::copy_from(body) {
                self.messages.push_back(Message::short(short));
                read += whole;
                continue;
            }
            read += whole - body.len();
            break (flags, body.len());
        };
        octets.advance(read);
        let body = octets.split_to(body_len).freeze();
        if flags.command {
            self.on_command(now, &body)?;
            return Ok(Flow::Continue);
        }
        let octets = message_octets(&self.config, traffic.partial_octets, body_len as u64)?;
        if traffic.partial.len() >= self.config.max_frames_per_message {
            return Err(CloseReason::TooManyFrames { ceiling: self.config.max_frames_per_message });
        }
        traffic.take_frame(body, flags.more, octets, &mut self.messages);
        Ok(Flow::Continue)
    }

    /// Handles a command in traffic; one may stand even between the frames of a message
    #[cold]
    fn handle_command(&mut self, now: Instant, octets: &mut BytesMut, limit: usize) -> Result<Flow, CloseReason> {
        let State::Traffic(traffic) = &mut self.state else {
            return Ok(Flow::Continue);
        };
        let Some((header, taken)) = FrameHeader::decode(traffic.version.framing(), octets, self.config.max_frame)?
        else {
            return Ok(Flow::Starved);
        };
        let takes_subscriptions = self.config.socket_type.takes_subscriptions();
        let takes_groups = self.config.socket_type.takes_groups();
        if (takes_subscriptions || takes_groups) && self.messages.len() >= limit {
            // It may be a subscription, which needs room; the answer to a PING can wait as long as the owner.
            return Ok(Flow::Full);
        }
        let Some(body) = take_body(octets, header, taken, &mut self.read_hint)? else {
            return Ok(Flow::Starved);
        };
        self.on_command(now, &body)?;
        Ok(Flow::Continue)
    }

    /// Acts on the body of a command in traffic
    #[cold]
    fn on_command(&mut self, now: Instant, body: &[u8]) -> Result<(), CloseReason> {
        let State::Traffic(traffic) = &mut self.state else {
            return Ok(());
        };
        let takes_subscriptions = self.config.socket_type.takes_subscriptions();
        let takes_groups = self.config.socket_type.takes_groups();
        match Command::parse(body) {
            Ok(Command::Subscribe(topic)) if takes_subscriptions => self.messages.push_back(subscription(true, topic)),
            Ok(Command::Cancel(topic)) if takes_subscriptions => self.messages.push_back(subscription(false, topic)),
            Ok(Command::Join(group)) if takes_groups => self.messages.push_back(subscription(true, group)),
            Ok(Command::Leave(group)) if takes_groups => self.messages.push_back(subscription(false, group)),
            Ok(Command::Ping { ttl, context }) => {
                traffic.liveness.on_ping(now, ttl);
                if self.pongs < PONGS_LIMIT {
                    let outlet = traffic.outlet(&mut self.transmit);
                    let before = outlet.len();
                    Command::Pong { context }.encode(outlet);
                    self.pongs += outlet.len() - before;
                }
            }
            // RFC 37 has ERROR in the handshake only. A peer that says it later means it all the same.
            Ok(Command::Error(reason)) => {
                return Err(CloseReason::ErrorReceived { reason: printable(reason) });
            }
            Ok(Command::Pong { .. } | Command::Subscribe(_) | Command::Cancel(_)) => {}
            Ok(Command::Join(_) | Command::Leave(_)) => {}
            // What a later version may say is ignored, a name that doesn't fit its body too: so does libzmq.
            Ok(Command::Ready(_) | Command::Unknown { .. }) => {}
            Err(CommandError::Name | CommandError::Metadata(_)) => {}
            Err(error @ CommandError::Ping) => return Err(error.into()),
        }
        Ok(())
    }

    /// Answers a stage of the peer's greeting with the next of ours
    fn on_greeting(&mut self, now: Instant, heard: Heard) -> Result<Flow, CloseReason> {
        let State::AwaitGreeting { due, .. } = self.state else {
            return Ok(Flow::Continue);
        };
        let own = own_greeting(&self.config);
        let greeted = self.config.greets_at_once();
        match heard {
            Heard::Signature | Heard::Revision(Version::V3_0 | Version::V3_1) if greeted => {}
            Heard::Signature => self.transmit.put_slice(&own[SIGNATURE_LEN..=SIGNATURE_LEN]),
            Heard::Revision(version) if version < Version::V3_0 => {
                self.check_version(version)?;
                self.transmit.put_u8(self.config.socket_type.octet());
                let body_len = self.config.routing_id.len() as u64;
                FrameHeader { more: false, command: false, body_len }.encode(version.framing(), &mut self.transmit);
                self.transmit.put_slice(&self.config.routing_id);
            }
            Heard::Revision(_) => self.transmit.put_slice(&own[SIGNATURE_LEN + 1..]),
            Heard::Opening(Opening::Unversioned) => {
                self.check_version(Version::V1_0)?;
                // The signature was the header of this frame.
                self.transmit.put_slice(&self.config.routing_id);
                self.state = State::AwaitRoutingId { version: Version::V1_0, socket_type: None, implicit: true, due };
            }
            Heard::Opening(Opening::Legacy { version, socket_type }) => {
                let socket_type = SocketType::from_octet(socket_type);
                self.state = State::AwaitRoutingId { version, socket_type, implicit: false, due };
            }
            Heard::Opening(Opening::Modern { version, greeting }) => {
                self.check_version(version)?;
                // RFC 23, "The Greeting": mechanisms must be the same.
                if greeting.mechanism != self.config.mechanism.padded_name() {
                    let ours = self.config.mechanism.name();
                    return Err(CloseReason::MechanismMismatch { ours, theirs: printable(greeting.mechanism_name()) });
                }
                let step = Mechanism::start(&self.config, &mut self.transmit)?;
                self.on_step(now, version, due, step)?;
            }
        }
        Ok(Flow::Continue)
    }

    fn handle_routing_id(&mut self, now: Instant, octets: &mut BytesMut) -> Result<Flow, CloseReason> {
        let State::AwaitRoutingId { version, socket_type, implicit, .. } = self.state else {
            return Ok(Flow::Continue);
        };
        let header = match FrameHeader::decode(version.framing(), octets, ROUTING_ID_LIMIT as u64) {
            Err(FrameError::TooLong { octets, .. }) => {
                return Err(CloseReason::RoutingIdTooLong { octets });
            }
            header => header?,
        };
        let Some((header, taken)) = header else {
            return Ok(Flow::Starved);
        };
        let Some(routing_id) = take_body(octets, header, taken, &mut self.read_hint)? else {
            return Ok(Flow::Starved);
        };
        // A copy, for it outlives the read buffer it came in.
        let routing_id = Bytes::copy_from_slice(&routing_id);
        let peer = PeerInfo {
            version: version.numbers(),
            socket_type,
            routing_id,
            properties: Properties::new(),
            mechanism: self.config.mechanism.name(),
            user_id: Bytes::new(),
            metadata: Properties::new(),
        };
        self.on_handshaken(now, version, peer, None);
        if implicit && self.config.socket_type.takes_subscriptions() {
            // RFC 13 has no subscriptions on the wire: such a peer filters by itself, and wants all.
            self.messages.push_back(subscription(true, b""));
        }
        Ok(Flow::Continue)
    }

    fn handle_handshake(&mut self, now: Instant, octets: &mut BytesMut) -> Result<Flow, CloseReason> {
        let State::Handshake { mechanism, .. } = &self.state else {
            return Ok(Flow::Continue);
        };
        if mechanism.awaits_verdict() {
            return Ok(Flow::Starved);
        }
        // Whether the command flag is set doesn't matter: libzmq takes READY in a message frame too.
        let Some((header, taken)) = FrameHeader::decode(Framing::V2, octets, mechanism.ceiling())? else {
            return Ok(Flow::Starved);
        };
        let whole = whole_frame(header, taken)?;
        if octets.len() < whole {
            self.read_hint = whole - octets.len();
            return Ok(Flow::Starved);
        }
        octets.advance(taken);
        let mut body = octets.split_to(whole - taken);
        let State::Handshake { version, mechanism, due } = mem::replace(&mut self.state, State::Closed) else {
            return Ok(Flow::Continue);
        };
        let step = mechanism.handle(&self.config, &mut body, &mut self.transmit);
        // Passwords and what was in boxes: the buffer will hold other things.
        body.zeroize();
        self.on_step(now, version, due, step?)?;
        Ok(Flow::Continue)
    }

    /// Goes where a step of the handshake leads
    fn on_step(&mut self, now: Instant, version: Version, due: Option<Instant>, step: Step) -> Result<(), CloseReason> {
        match step {
            Step::Await(mechanism) => self.state = State::Handshake { version, mechanism, due },
            Step::Ask(credentials, mechanism) => {
                self.asked = Some(credentials);
                self.state = State::Handshake { version, mechanism, due };
            }
            Step::Done(outcome) => {
                let Outcome { properties, admission, last_word, sealing } = *outcome;
                let socket_type = self.compatible(&properties)?;
                // What the authenticator calls the peer counts where it has no name for itself, as with libzmq.
                let told = properties.value("Identity").filter(|id| !id.is_empty());
                // RFC 23, "The Identity Property": 0 to 255 octets.
                let routing_id = told.or(admission.metadata.value("Identity")).cloned().unwrap_or_default();
                if routing_id.len() > ROUTING_ID_LIMIT {
                    return Err(CloseReason::RoutingIdTooLong { octets: routing_id.len() as u64 });
                }
                self.transmit.put_slice(&last_word);
                let mechanism = self.config.mechanism.name();
                let Admission { user_id, metadata } = admission;
                let version_numbers = version.numbers();
                let peer = PeerInfo {
                    version: version_numbers,
                    socket_type,
                    routing_id,
                    properties,
                    mechanism,
                    user_id,
                    metadata,
                };
                self.on_handshaken(now, version, peer, sealing);
            }
        }
        Ok(())
    }

    /// The peer's socket type, when it fits ours or isn't told
    ///
    /// libzmq closes without a word when types don't fit. We say ERROR first (RFC 23, "The NULL Security
    /// Mechanism"), so that the other side needs no guessing; libzmq closes on it, which it does anyway.
    fn compatible(&mut self, properties: &Properties) -> Result<Option<SocketType>, CloseReason> {
        let Some(name) = properties.value("Socket-Type") else {
            return Ok(None);
        };
        let ours = self.config.socket_type;
        match SocketType::from_name(name) {
            Some(theirs) if ours.accepts(theirs) => Ok(Some(theirs)),
            _ => {
                let theirs = printable(name);
                // Without spaces: the reason consists of VCHAR (RFC 37, "The ERROR command").
                let reason = format!("incompatible-socket-types:{ours}/{theirs}");
                Command::Error(reason.as_bytes()).encode(&mut self.transmit);
                Err(CloseReason::IncompatibleSocketType { ours, theirs })
            }
        }
    }

    fn check_version(&self, theirs: Version) -> Result<(), CloseReason> {
        let oldest = self.config.version_floor();
        if theirs < oldest { Err(CloseReason::VersionTooOld { theirs, oldest }) } else { Ok(()) }
    }

    fn on_handshaken(&mut self, now: Instant, version: Version, peer: PeerInfo, sealing: Option<Box<Sealing>>) {
        self.handshaken = Some(peer);
        // PING came with 3.1 (RFC 37): older peers might never answer, and would be taken for gone.
        let liveness = Liveness::new(self.config.heartbeat, version >= Version::V3_1, self.reading, now);
        let takes_short = version.framing() == Framing::V2 && sealing.is_none() && self.config.takes_short();
        self.state = State::Traffic(Traffic {
            version,
            liveness,
            takes_short,
            partial: SmallVec::new(),
            partial_octets: 0,
            sealing,
        });
    }

    fn send_subscription(&mut self, wanted: bool, topic: &[u8]) {
        let State::Traffic(traffic) = &mut self.state else {
            return;
        };
        let (version, framing) = (traffic.version, traffic.version.framing());
        let outlet = traffic.outlet(&mut self.transmit);
        if self.config.socket_type == SocketType::Dish {
            // RFC 48. Older peers have no groups: 2.0 knows no commands.
            match (version, wanted) {
                (Version::V1_0 | Version::V2_0, _) => {}
                (Version::V3_0 | Version::V3_1, true) => Command::Join(topic).encode(outlet),
                (Version::V3_0 | Version::V3_1, false) => Command::Leave(topic).encode(outlet),
            }
            return;
        }
        match (version, wanted) {
            (Version::V3_1, true) => Command::Subscribe(topic).encode(outlet),
            (Version::V3_1, false) => Command::Cancel(topic).encode(outlet),
            // RFC 23, "The Publish-Subscribe Pattern": a message, its first octet the verb.
            (Version::V1_0 | Version::V2_0 | Version::V3_0, wanted) => {
                let body_len = 1 + topic.len() as u64;
                let header = FrameHeader { more: false, command: false, body_len };
                header.encode(framing, outlet);
                outlet.put_u8(wanted.into());
                outlet.put_slice(topic);
            }
        }
    }

    /// Ends the connection; only the first reason counts
    fn close_with(&mut self, reason: CloseReason) {
        if self.over {
            return;
        }
        self.over = true;
        self.state = State::Closed;
        self.asked = None;
        self.closed = Some(reason);
        self.read_hint = 0;
    }
}

/// What we say first to a peer of 3.0 or later
fn own_greeting(config: &Config) -> [u8; Greeting::LEN] {
    let mechanism = config.mechanism.padded_name();
    Greeting { major: 3, minor: 1, mechanism, as_server: config.mechanism.is_server() }.encode(0)
}

/// Takes messages of one short frame each from the front of `octets`, and says whether there was no room for one
// A function of its own, that its loop has all registers; but for the last one, messages are copied once
#[inline(never)]
fn take_short_row(octets: &mut BytesMut, messages: &mut VecDeque<Message>, limit: usize) -> bool {
    let mut rest = &octets[..];
    let mut is_full = true;
    for _ in messages.len()..limit {
        if let Some((short, after)) = Short::decode_amid(rest) {
            messages.push_back(Message::short(short));
            rest = after;
        } else if let Some(after) = take_last_short(rest, messages) {
            rest = after;
        } else {
            is_full = false;
            break;
        }
    }
    let read = octets.len() - rest.len();
    octets.advance(read);
    is_full && Short::decode(octets).is_some()
}

/// Takes a short message with which the input may end; what is left of that
#[inline(never)]
fn take_last_short<'a>(wire: &'a [u8], messages: &mut VecDeque<Message>) -> Option<&'a [u8]> {
    let short = Short::decode(wire)?;
    messages.push_back(Message::short(short));
    wire.get(SHORT_HEADER + short.len()..)
}

/// Octets of the message in progress with another frame of that length, if so many are accepted
#[inline(always)]
fn message_octets(config: &Config, partial_octets: u64, body_len: u64) -> Result<u64, CloseReason> {
    let octets = partial_octets.saturating_add(body_len);
    let ceiling = config.max_message;
    if octets > ceiling { Err(CloseReason::MessageTooLarge { octets, ceiling }) } else { Ok(octets) }
}

/// Octets of a whole frame
#[inline(always)]
fn whole_frame(header: FrameHeader, taken: usize) -> Result<usize, CloseReason> {
    // On machines whose addresses are shorter than lengths, what can't be addressed can't be accepted.
    let whole = usize::try_from(header.body_len).ok().and_then(|body_len| body_len.checked_add(taken));
    whole.ok_or(CloseReason::FrameTooLarge { octets: header.body_len, ceiling: usize::MAX as u64 })
}

/// Takes a frame's body from the front of `octets` when all of it is there
#[inline]
fn take_body(
    octets: &mut BytesMut,
    header: FrameHeader,
    taken: usize,
    read_hint: &mut usize,
) -> Result<Option<Bytes>, CloseReason> {
    let whole = whole_frame(header, taken)?;
    if octets.len() < whole {
        *read_hint = whole - octets.len();
        return Ok(None);
    }
    octets.advance(taken);
    Ok(Some(octets.split_to(whole - taken).freeze()))
}

/// A subscription as a PUB or XPUB is handed it
fn subscription(wanted: bool, topic: &[u8]) -> Message {
    let mut frame = BytesMut::with_capacity(1 + topic.len());
    frame.put_u8(wanted.into());
    frame.put_slice(topic);
    frame.freeze().into()
}

/// Octets of a sealed command that the bounds on messages don't hold for; a longer one counts as a message would
const COMMAND_CEILING: u64 = HANDSHAKE_COMMAND_CEILING;
/// Octets of PONG that may wait to be written, so that a peer can't fill our memory with PINGs
const PONGS_LIMIT: usize = 8192;

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;
    use crate::{
        CurveClient, CurveSecretKey, CurveServer, Entropy, EntropyError, Heartbeat, MechanismConfig,
        close_reason::Family, command::CommandError, properties::MetadataError,
    };

    const READY_PUB: &[u8] = b"\x04\x19\x05READY\x0bSocket-Type\0\0\0\x03PUB";
    const READY_SUB: &[u8] = b"\x04\x19\x05READY\x0bSocket-Type\0\0\0\x03SUB";
    const READY_DEALER_BOB: &[u8] = b"\x04\x2c\x05READY\x0bSocket-Type\0\0\0\x06DEALER\x08Identity\0\0\0\x03BOB";

    fn greeting(minor: u8, mechanism: &str) -> Vec<u8> {
        let mut octets = b"\xff\0\0\0\0\0\0\0\x01\x7f\x03".to_vec();
        octets.push(minor);
        octets.extend(mechanism.bytes());
        octets.resize(64, 0);
        octets
    }

    fn opening(minor: u8, ready: &[u8]) -> Vec<u8> {
        [&greeting(minor, "NULL"), ready].concat()
    }

    /// A connection with its clock and its input buffer
    struct Side {
        connection: Connection,
        now: Instant,
        input: BytesMut,
    }

    impl Side {
        fn new(config: Config) -> Self {
            let now = Instant::now();
            Self { connection: Connection::new(config, now), now, input: BytesMut::new() }
        }

        fn of(socket_type: SocketType) -> Self {
            Self::new(Config::new(socket_type))
        }

        /// Handshaken with a peer of that 3.x minor version that said `ready`
        fn met(config: Config, minor: u8, ready: &[u8]) -> Self {
            let mut side = Self::new(config);
            side.feed(&opening(minor, ready));
            side.handshaken();
            side.sent();
            side
        }

        fn feed_with_room(&mut self, octets: &[u8], room: usize) {
            self.input.extend_from_slice(octets);
            self.connection.handle_input(self.now, &mut self.input, room);
        }

        fn feed(&mut self, octets: &[u8]) {
            self.feed_with_room(octets, usize::MAX);
        }

        fn pass(&mut self, time: Duration) {
            self.now += time;
            self.connection.handle_timeout(self.now);
        }

        fn sent(&mut self) -> Vec<u8> {
            let mut octets = Vec::new();
            while let Some(piece) = self.connection.poll_transmit() {
                octets.extend_from_slice(&piece);
            }
            octets
        }

        fn received(&mut self) -> Vec<Message> {
            mem::take(self.connection.messages()).into()
        }

        #[track_caller]
        fn handshaken(&mut self) -> PeerInfo {
            match self.connection.poll_event() {
                Some(Event::Handshaken(peer)) => peer,
                other => panic!("{other:?} where Handshaken was due"),
            }
        }

        /// The one reason it closed for, after checking that the end is final
        #[track_caller]
        fn closed(&mut self) -> CloseReason {
            let reason = match self.connection.poll_event() {
                Some(Event::Closed(reason)) => reason,
                other => panic!("{other:?} where Closed was due"),
            };
            self.connection.handle_eof(self.now);
            self.connection.close();
            self.feed(b"\0\x01x");
            assert_eq!(self.connection.poll_event(), None, "closed once is closed");
            assert_eq!(self.connection.poll_timeout(), None);
            assert!(!self.connection.is_handshaken() && !self.connection.is_passthrough());
            reason
        }
    }

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    // Greeting and handshake

    #[test]
    fn the_greeting_goes_out_in_stages() {
        let mut side = Side::new(Config::new(SocketType::Dealer).routing_id("BOB"));
        let theirs = opening(1, b"\x04\x29\x05READY\x0bSocket-Type\0\0\0\x06ROUTER\x08Identity\0\0\0\0");
        let mut sent_at = Vec::new();
        for fed in 0..=theirs.len() {
            if fed > 0 {
                side.feed(&theirs[fed - 1..fed]);
            }
            let octets = side.sent();
            if !octets.is_empty() {
                sent_at.push((fed, octets));
            }
        }
        let expected = [
            (0, b"\xff\0\0\0\0\0\0\0\x04\x7f".to_vec()),
            (10, vec![3]),
            (11, greeting(1, "NULL")[11..].to_vec()),
            (64, READY_DEALER_BOB.to_vec()),
        ];
        assert_eq!(sent_at, expected);
        let peer = side.handshaken();
        assert_eq!((peer.version, peer.socket_type, peer.mechanism), ((3, 1), Some(SocketType::Router), "NULL"));
        assert!(peer.routing_id.is_empty() && side.connection.is_passthrough() && side.connection.is_handshaken());
    }

    #[test]
    fn where_older_peers_are_not_wanted_the_greeting_goes_out_at_once() {
        let mut side = Side::new(Config::new(SocketType::Pub).oldest_version(Version::V3_0));
        assert_eq!(side.sent(), greeting(1, "NULL"));
        let theirs = opening(0, READY_SUB);
        for octet in &theirs[..63] {
            side.feed(&[*octet]);
            assert_eq!(side.sent(), b"");
        }
        side.feed(&theirs[63..]);
        assert_eq!(side.sent(), READY_PUB);
        assert_eq!(side.handshaken().version, (3, 0));
    }

    #[test]
    fn a_publisher_tells_no_routing_id() {
        let mut side = Side::new(Config::new(SocketType::Pub).routing_id("BOB"));
        side.feed(&greeting(1, "NULL"));
        assert!(side.sent().ends_with(READY_PUB));
    }

    #[test]
    fn extra_properties_go_both_ways_and_cannot_forge_our_own() {
        let mut extra = Properties::new();
        extra.insert("X-Site", "north").unwrap();
        extra.insert("socket-type", "PUB").unwrap();
        let mut side = Side::new(Config::new(SocketType::Push).properties(extra));
        side.feed(&opening(1, b"\x04\x25\x05READY\x0bSOCKET-TYPE\0\0\0\x04PULL\x06x-site\0\0\0\0"));
        assert!(side.sent().ends_with(b"\x05READY\x0bSocket-Type\0\0\0\x04PUSH\x06X-Site\0\0\0\x05north"));
        let peer = side.handshaken();
        assert_eq!(peer.socket_type, Some(SocketType::Pull));
        assert_eq!(peer.properties.value("X-Site"), Some(&Bytes::new()));
    }

    #[test]
    fn leniencies_of_libzmq_are_ours() {
        let no_type = b"\x04\x06\x05READY";
        let nameless = b"\x04\x0b\x05READY\0\0\0\0\0";
        let as_message = &[&[0], &READY_PUB[1..]].concat();
        for ready in [&no_type[..], nameless, as_message] {
            let mut side = Side::of(SocketType::Sub);
            side.feed(&opening(1, ready));
            side.handshaken();
        }
    }

    #[test]
    fn a_2_0_peer_is_met() {
        let mut side = Side::new(Config::new(SocketType::Dealer).routing_id("BOB"));
        side.feed(b"\xff\0\0\0\0\0\0\0\x04\x7f\x01\x06\0\x03SRV\0\x05hello");
        assert_eq!(side.sent(), b"\xff\0\0\0\0\0\0\0\x04\x7f\x03\x05\0\x03BOB");
        let peer = side.handshaken();
        assert_eq!((peer.version, peer.socket_type), ((2, 0), Some(SocketType::Router)));
        assert_eq!(peer.routing_id, "SRV");
        assert!(side.connection.is_passthrough());
        assert_eq!(side.received(), [Message::from("hello")]);
    }

    #[test]
    fn a_versioned_1_0_peer_is_met() {
        let mut side = Side::new(Config::new(SocketType::Xpub).routing_id("BOB"));
        side.feed(b"\xff\0\0\0\0\0\0\0\x01\x7f\0\x02\x01\0\x03\0\x01A");
        assert_eq!(side.sent(), b"\xff\0\0\0\0\0\0\0\x04\x7f\x03\x09\x04\0BOB");
        assert_eq!(side.handshaken().version, (1, 0));
        assert!(!side.connection.is_passthrough());
        assert_eq!(side.received(), [Message::from("\x01A")], "such a peer sends its subscriptions");
    }

    #[test]
    fn an_unversioned_1_0_peer_is_met() {
        let mut side = Side::new(Config::new(SocketType::Dealer).routing_id("ALICE"));
        side.feed(b"\x04\0BOB\x01\x01\x06\0hello");
        assert_eq!(side.sent(), b"\xff\0\0\0\0\0\0\0\x06\x7fALICE", "one frame to a 1.0 peer");
        let peer = side.handshaken();
        assert_eq!((peer.version, peer.socket_type), ((1, 0), None));
        assert_eq!(peer.routing_id, "BOB");
        assert_eq!(side.received(), [Message::multipart(["", "hello"])]);
        let (mut canonical, mut sealed) = (WriteQueue::new(), WriteQueue::new());
        canonical.push(&[Bytes::new()], &Message::from("hello"));
        canonical.push(&[], &Message::from(vec![1; 300]));
        side.connection.seal(&canonical, &mut sealed, 1);
        assert_eq!((canonical.messages(), sealed.messages()), (2, 1), "the limit was reached, and nothing is lost");
        let mut slices = [io::IoSlice::new(&[])];
        assert_eq!(sealed.slices(&mut slices), 1);
        assert_eq!(slices[0][..], *b"\x01\x01\x06\0hello");
        side.connection.seal(&canonical, &mut sealed, usize::MAX);
        assert_eq!(sealed.messages(), 1, "what is there is written first");
        assert_eq!((sealed.advance(8), sealed.advance(1)), (0, 1));
        assert_eq!((canonical.advance_messages(1), canonical.octets()), (9, 9 + 300));
        side.connection.seal(&canonical, &mut sealed, usize::MAX);
        assert_eq!((sealed.messages(), sealed.octets()), (1, 10 + 300));
    }

    #[test]
    fn an_unversioned_subscriber_wants_everything() {
        for (kind, implicit) in [(SocketType::Pub, 1), (SocketType::Xpub, 1), (SocketType::Push, 0)] {
            let mut side = Side::of(kind);
            side.feed_with_room(b"\x01\0", 0);
            side.handshaken();
            assert_eq!(side.received(), vec![Message::from("\x01"); implicit], "{kind}");
        }
    }

    #[test]
    fn a_peer_of_today_needs_no_sealing() {
        let mut side = Side::of(SocketType::Push);
        let (mut from, mut into) = (WriteQueue::new(), WriteQueue::new());
        from.push(&[], &Message::from("one"));
        side.connection.seal(&from, &mut into, 100);
        assert!(into.is_empty() && !side.connection.is_passthrough(), "not before the handshake");
        side.feed(&opening(1, b"\x04\x06\x05READY"));
        side.connection.seal(&from, &mut into, 100);
        assert!(into.is_empty() && side.connection.is_passthrough());
    }

    // Traffic

    #[test]
    fn room_bounds_what_is_decoded() {
        let mut side = Side::of(SocketType::Pull);
        let stream = [&opening(1, b"\x04\x06\x05READY")[..], b"\0\x01a\x01\x01b\0\x01c\0\x01d"].concat();
        side.feed_with_room(&stream, 0);
        side.handshaken();
        assert_eq!((side.received(), side.input.len()), (vec![], 12));
        side.feed_with_room(b"", 2);
        assert_eq!(side.received(), [Message::from("a"), Message::multipart(["b", "c"])]);
        side.feed_with_room(b"", 2);
        assert_eq!(side.received(), [Message::from("d")]);
    }

    #[test]
    fn without_room_a_ping_is_answered_and_a_subscription_waits() {
        let mut pull = Side::met(Config::new(SocketType::Pull), 1, b"\x04\x06\x05READY");
        pull.feed_with_room(b"\x04\x09\x04PING\0\0hi\0\x01a", 0);
        assert_eq!((pull.sent(), pull.input.len()), (b"\x04\x07\x04PONGhi".to_vec(), 3));
        let mut publisher = Side::met(Config::new(SocketType::Pub), 1, READY_SUB);
        publisher.feed_with_room(b"\x04\x0b\x09SUBSCRIBEA", 0);
        assert_eq!((publisher.received(), publisher.input.len()), (vec![], 13));
        publisher.feed_with_room(b"", 1);
        assert_eq!(publisher.received(), [Message::from("\x01A")]);
    }

    #[test]
    fn the_read_hint_says_what_is_missing() {
        let mut side = Side::met(Config::new(SocketType::Pull), 1, b"\x04\x06\x05READY");
        side.feed(b"\x02\0\0\0\0\0\x01\0\0abc");
        assert_eq!(side.connection.read_hint(), 65_536 - 3);
        side.feed(&vec![0; 65_536 - 3]);
        assert_eq!((side.connection.read_hint(), side.received().len()), (0, 1));
    }

    #[test]
    fn subscriptions_come_in_order_whatever_their_form() {
        for kind in [SocketType::Pub, SocketType::Xpub] {
            let mut side = Side::met(Config::new(kind), 1, READY_SUB);
            side.feed(b"\x04\x0b\x09SUBSCRIBEA\0\x02\x01B\0\x04user\x04\x08\x06CANCELA\0\x02\0B");
            let expected: [&'static [u8]; 5] = [b"\x01A", b"\x01B", b"user", b"\0A", b"\0B"];
            assert_eq!(side.received(), expected.map(Message::from), "{kind}");
        }
        let mut other = Side::met(Config::new(SocketType::Pull), 1, b"\x04\x06\x05READY");
        other.feed(b"\x04\x0b\x09SUBSCRIBEA\x04\x08\x06CANCELA");
        assert_eq!(other.received(), []);
    }

    #[test]
    fn subscriptions_take_the_form_of_the_peers_version() {
        let mut early = Side::of(SocketType::Sub);
        early.sent();
        early.connection.subscribe(b"A");
        assert_eq!(early.sent(), b"", "not before the handshake");
        let both = |side: &mut Side| {
            side.sent();
            side.connection.subscribe(b"A");
            side.connection.cancel(b"A");
            side.sent()
        };
        let mut newest = Side::met(Config::new(SocketType::Sub), 1, READY_PUB);
        assert_eq!(both(&mut newest), b"\x04\x0b\x09SUBSCRIBEA\x04\x08\x06CANCELA");
        let mut older = Side::met(Config::new(SocketType::Sub), 0, READY_PUB);
        assert_eq!(both(&mut older), b"\0\x02\x01A\0\x02\0A");
        let mut legacy = Side::of(SocketType::Sub);
        legacy.feed(b"\xff\0\0\0\0\0\0\0\x01\x7f\x01\x01\0\0");
        assert_eq!(both(&mut legacy), b"\0\x02\x01A\0\x02\0A");
        let mut oldest = Side::of(SocketType::Sub);
        oldest.feed(b"\x01\0");
        assert_eq!(both(&mut oldest), b"\x03\0\x01A\x03\0\0A");
        older.connection.subscribe(&[b't'; 255]);
        assert_eq!(older.sent()[..10], *b"\x02\0\0\0\0\0\0\x01\0\x01", "a long body says so in its flags");
    }

    #[test]
    fn commands_between_frames_and_unknown_ones_do_no_harm() {
        let mut side = Side::met(Config::new(SocketType::Pull), 1, b"\x04\x06\x05READY");
        side.feed(
            b"\x01\x01a\x04\x07\x04PING\0\0\x05\x05\x04PONG\x04\x03\x02HI\x04\x02\x09X\x04\0\x04\x06\x05READY\0\x01b",
        );
        assert_eq!(side.received(), [Message::multipart(["a", "b"])]);
        assert_eq!(side.sent(), b"\x04\x05\x04PONG");
        assert_eq!(side.connection.poll_event(), None);
    }

    #[test]
    fn pongs_that_nobody_collects_do_not_pile_up() {
        let mut side = Side::met(Config::new(SocketType::Pull), 1, b"\x04\x06\x05READY");
        side.feed(&b"\x04\x07\x04PING\0\0".repeat(100_000));
        let waiting = side.sent().len();
        assert!(waiting > 0 && waiting <= PONGS_LIMIT + 32, "{waiting}");
        side.feed(b"\x04\x07\x04PING\0\0");
        assert_eq!(side.sent(), b"\x04\x05\x04PONG");
    }

    // Heartbeats

    fn beating(interval: u64, timeout: Option<u64>, ttl: u64) -> Config {
        let heartbeat =
            Heartbeat { interval: Some(seconds(interval)), timeout: timeout.map(seconds), ttl: seconds(ttl) };
        Config::new(SocketType::Sub).heartbeat(heartbeat)
    }

    #[test]
    fn a_ping_goes_out_each_interval_and_any_traffic_answers_it() {
        let mut side = Side::met(beating(5, None, 3), 1, READY_PUB);
        for _ in 0..3 {
            assert_eq!(side.connection.poll_timeout(), Some(side.now + seconds(5)));
            side.pass(seconds(5));
            assert_eq!(side.sent(), b"\x04\x07\x04PING\0\x1e");
            side.feed(b"\0\x01x");
        }
        assert_eq!(side.connection.poll_event(), None);
    }

    #[test]
    fn pings_that_nobody_collects_do_not_pile_up() {
        let mut side = Side::met(beating(1, Some(100), 0), 1, READY_PUB);
        for _ in 0..50 {
            side.pass(seconds(1));
        }
        assert_eq!(side.sent(), b"\x04\x07\x04PING\0\0");
    }

    #[test]
    fn old_octets_are_no_sign_of_life() {
        let mut side = Side::met(beating(5, Some(2), 0), 1, READY_PUB);
        side.feed_with_room(b"\0\x01x\0\x01y", 0);
        side.pass(seconds(5));
        side.feed_with_room(b"", 1);
        side.pass(seconds(2));
        assert_eq!(side.closed(), CloseReason::HeartbeatTimedOut { after: seconds(2) });
    }

    #[test]
    fn silence_while_we_do_not_read_does_not_count() {
        let mut side = Side::met(beating(5, Some(2), 0), 1, READY_PUB);
        side.feed(b"\x04\x07\x04PING\0\x0a");
        side.connection.set_reading(side.now, false);
        side.pass(seconds(60));
        assert_eq!(side.connection.poll_event(), None);
        assert!(side.sent().ends_with(b"\x04\x07\x04PING\0\0"), "our own go on");
        side.connection.set_reading(side.now, true);
        assert_eq!(side.connection.poll_timeout(), Some(side.now + seconds(1)), "the peer's TTL begins anew");
        side.pass(seconds(1));
        assert_eq!(side.closed(), CloseReason::TtlExpired { after: seconds(1) });
    }

    #[test]
    fn older_peers_are_not_pinged() {
        let met = [opening(0, READY_PUB), b"\xff\0\0\0\0\0\0\0\x01\x7f\x01\x01\0\0".to_vec(), b"\x01\0".to_vec()];
        for octets in met {
            let mut side = Side::new(beating(5, None, 0));
            side.feed(&octets);
            assert!(side.connection.is_handshaken());
            assert_eq!(side.connection.poll_timeout(), None);
        }
    }

    #[test]
    fn our_ttl_is_rounded_up_and_capped() {
        for (ttl, tenths) in [(Duration::ZERO, 0), (Duration::from_millis(1), 1), (seconds(7000), u16::MAX)] {
            let heartbeat = Heartbeat { interval: Some(seconds(1)), timeout: None, ttl };
            let config = Config::new(SocketType::Sub).heartbeat(heartbeat);
            let mut side = Side::met(config, 1, READY_PUB);
            side.pass(seconds(1));
            assert_eq!(side.sent()[7..], tenths.to_be_bytes(), "{ttl:?}");
        }
    }

    // Close reasons, each provoked

    #[test]
    fn frame_too_large() {
        let mut side = Side::met(Config::new(SocketType::Pull).max_frame(1000), 1, b"\x04\x06\x05READY");
        side.feed(b"\0\x01a\x02\0\0\0\0\0\0\x03\xe9");
        assert_eq!(side.received().len(), 1, "what came before is kept");
        assert_eq!(side.closed(), CloseReason::FrameTooLarge { octets: 1001, ceiling: 1000 });
        let mut side = Side::of(SocketType::Pull);
        side.feed(&opening(1, b"\x06\0\0\0\0\0\x01\0\x01"));
        assert_eq!(side.closed(), CloseReason::FrameTooLarge { octets: 65_537, ceiling: 65_536 });
    }

    #[test]
    fn message_too_large() {
        let mut side = Side::met(Config::new(SocketType::Pull).max_message(5), 1, b"\x04\x06\x05READY");
        side.feed(b"\x01\x03abc\0\x02de\x01\x03abc\0\x02de\x01\x03abc\0\x03");
        assert_eq!(side.received().len(), 2, "each message is counted for itself");
        assert_eq!(side.closed(), CloseReason::MessageTooLarge { octets: 6, ceiling: 5 });
    }

    #[test]
    fn too_many_frames() {
        let mut side = Side::met(Config::new(SocketType::Pull).max_frames_per_message(2), 1, b"\x04\x06\x05READY");
        side.feed(b"\x01\0\0\0\x01\0\x01\0\0\0");
        assert_eq!(side.received().len(), 1);
        assert_eq!(side.closed(), CloseReason::TooManyFrames { ceiling: 2 });
    }

    #[test]
    fn malformed_frame() {
        let mut side = Side::of(SocketType::Pull);
        side.feed(b"\x01\0\0");
        side.handshaken();
        assert_eq!(side.closed(), CloseReason::MalformedFrame(FrameError::ZeroLength));
    }

    #[test]
    fn malformed_command() {
        let mut side = Side::of(SocketType::Sub);
        side.feed(&opening(1, b"\x04\x02\x09X"));
        assert_eq!(side.closed(), CloseReason::MalformedCommand(CommandError::Name));
        let mut side = Side::met(Config::new(SocketType::Sub), 1, READY_PUB);
        side.feed(b"\x04\x06\x04PING\0");
        assert_eq!(side.closed(), CloseReason::MalformedCommand(CommandError::Ping));
    }

    #[test]
    fn malformed_metadata() {
        let mut side = Side::of(SocketType::Sub);
        side.feed(&opening(1, b"\x04\x07\x05READY\x01"));
        assert_eq!(side.closed(), CloseReason::MalformedMetadata(MetadataError::Truncated { offset: 0 }));
    }

    #[test]
    fn unexpected_command() {
        for (name, octets) in [
            ("HELLO", &b"\x04\x06\x05HELLO"[..]),
            ("PING", b"\x04\x07\x04PING\0\0"),
            ("PONG", b"\x04\x05\x04PONG"),
            ("SUBSCRIBE", b"\x04\x0a\x09SUBSCRIBE"),
            ("CANCEL", b"\x04\x07\x06CANCEL"),
            (r"\n", b"\x04\x02\x01\n"),
        ] {
            let mut side = Side::of(SocketType::Sub);
            side.feed(&opening(1, octets));
            assert_eq!(side.closed(), CloseReason::UnexpectedCommand { name: name.into(), due: "READY" });
        }
    }

    #[test]
    fn routing_id_too_long() {
        let mut ready = BytesMut::new();
        let mut properties = Properties::new();
        properties.insert("Identity", vec![1; 256]).unwrap();
        Command::Ready(properties).encode(&mut ready);
        let legacy = b"\xff\0\0\0\0\0\0\0\x01\x7f\x01\x05\x02\0\0\0\0\0\0\x01\0";
        for octets in [&opening(1, &ready)[..], legacy] {
            let mut side = Side::of(SocketType::Router);
            side.feed(octets);
            assert_eq!(side.closed(), CloseReason::RoutingIdTooLong { octets: 256 });
        }
    }

    #[test]
    fn mechanism_mismatch() {
        let mut side = Side::of(SocketType::Sub);
        side.feed(&greeting(1, "CURVE"));
        assert!(side.sent().ends_with(&greeting(1, "NULL")), "the peer is to see why");
        let reason = side.closed();
        assert_eq!(reason, CloseReason::MechanismMismatch { ours: "NULL", theirs: "CURVE".into() });
        assert_eq!(reason.to_string(), r#"peer uses mechanism "CURVE", we use NULL"#);
    }

    #[test]
    fn incompatible_socket_type() {
        for (name, length) in [("PULL", 4), ("CLIENT", 6)] {
            let mut side = Side::of(SocketType::Sub);
            let ready = [b"\x04", &[22 + length][..], b"\x05READY\x0bSocket-Type\0\0\0", &[length], name.as_bytes()];
            side.feed(&opening(1, &ready.concat()));
            let told = format!("\x05ERRORXincompatible-socket-types:SUB/{name}");
            let told = told.replace('X', std::str::from_utf8(&[length + 30]).unwrap());
            assert!(side.sent().ends_with(told.as_bytes()), "a definite refusal is told");
            let theirs = name.into();
            assert_eq!(side.closed(), CloseReason::IncompatibleSocketType { ours: SocketType::Sub, theirs });
        }
    }

    #[test]
    fn version_too_old() {
        let cases = [
            (Version::V2_0, Version::V1_0, b"\x01\0".to_vec()),
            (Version::V2_0, Version::V1_0, b"\xff\0\0\0\0\0\0\0\x01\x7f\0".to_vec()),
            (Version::V3_0, Version::V2_0, b"\xff\0\0\0\0\0\0\0\x01\x7f\x01".to_vec()),
            (Version::V3_1, Version::V3_0, greeting(0, "NULL")),
        ];
        for (oldest, theirs, octets) in cases {
            let mut side = Side::new(Config::new(SocketType::Sub).oldest_version(oldest));
            side.feed(&octets);
            assert_eq!(side.closed(), CloseReason::VersionTooOld { theirs, oldest });
        }
    }

    #[test]
    fn error_received() {
        let refused = CloseReason::ErrorReceived { reason: r"no\n".into() };
        let mut side = Side::of(SocketType::Sub);
        side.feed(&opening(1, b"\x04\x0a\x05ERROR\x03no\n"));
        assert_eq!(side.closed(), refused);
        let mut side = Side::met(Config::new(SocketType::Sub), 1, READY_PUB);
        side.feed(b"\x04\x0a\x05ERROR\x03no\n");
        assert_eq!(side.closed(), refused);
    }

    #[test]
    fn handshake_timed_out() {
        let timed_out = |after| CloseReason::HandshakeTimedOut { after };
        for octets in [&b""[..], b"\xff", b"\xff\0\0\0\0\0\0\0\x01\x7f\x01\x01", &greeting(1, "NULL")] {
            let mut side = Side::of(SocketType::Sub);
            side.feed(octets);
            side.pass(seconds(29));
            assert_eq!(side.connection.poll_event(), None);
            assert_eq!(side.connection.poll_timeout(), Some(side.now + seconds(1)));
            side.pass(seconds(1));
            assert_eq!(side.closed(), timed_out(seconds(30)));
        }
        let mut patient = Side::new(Config::new(SocketType::Sub).handshake_timeout(None));
        assert_eq!(patient.connection.poll_timeout(), None);
        patient.pass(seconds(1_000_000));
        assert_eq!(patient.connection.poll_event(), None);
    }

    #[test]
    fn heartbeat_timed_out() {
        for (timeout, after) in [(None, 5), (Some(2), 2), (Some(12), 12)] {
            let mut side = Side::met(beating(5, timeout, 0), 1, READY_PUB);
            side.pass(seconds(5));
            let asked = side.now;
            while let (Some(due), None) = (side.connection.poll_timeout(), &side.connection.closed) {
                side.pass(due - side.now);
            }
            assert_eq!(side.now - asked, seconds(after));
            assert_eq!(side.closed(), CloseReason::HeartbeatTimedOut { after: seconds(after) });
        }
    }

    #[test]
    fn ttl_expired() {
        let mut side = Side::met(Config::new(SocketType::Sub), 1, READY_PUB);
        side.feed(b"\x04\x07\x04PING\x02\x90");
        let promised = Duration::from_millis(65_600);
        assert_eq!(side.connection.poll_timeout(), Some(side.now + promised), "no wrap at 65.5 s");
        side.pass(seconds(60));
        side.feed(b"\0\x01x");
        assert_eq!(side.connection.poll_timeout(), Some(side.now + promised), "any traffic counts");
        side.pass(promised);
        assert_eq!(side.closed(), CloseReason::TtlExpired { after: promised });
        let mut side = Side::met(Config::new(SocketType::Sub), 1, READY_PUB);
        side.feed(b"\x04\x07\x04PING\0\x01\x04\x07\x04PING\0\0");
        assert_eq!(side.connection.poll_timeout(), None, "a promise taken back");
    }

    #[test]
    fn peer_closed() {
        let closed = |mid_frame, mid_handshake| CloseReason::PeerClosed { mid_frame, mid_handshake };
        let ready = &opening(1, b"\x04\x06\x05READY")[..];
        let cases = [
            (b"".to_vec(), closed(false, true)),
            (b"\xff\0".to_vec(), closed(true, true)),
            (ready.to_vec(), closed(false, false)),
            ([ready, b"\0\x02a"].concat(), closed(true, false)),
            ([ready, b"\x01\x01a"].concat(), closed(true, false)),
        ];
        for (octets, expected) in cases {
            let mut side = Side::of(SocketType::Pull);
            side.feed(&octets);
            side.connection.handle_eof(side.now);
            while side.connection.handshaken.is_some() {
                side.handshaken();
            }
            assert_eq!(side.closed(), expected);
        }
    }

    #[test]
    fn transport_failed_and_closed_locally() {
        let mut side = Side::of(SocketType::Pull);
        side.connection.handle_transport_error(io::ErrorKind::ConnectionReset);
        assert_eq!(side.closed(), CloseReason::TransportFailed(io::ErrorKind::ConnectionReset));
        let mut side = Side::of(SocketType::Pull);
        side.connection.close();
        assert_eq!(side.closed(), CloseReason::ClosedLocally);
    }

    #[derive(Debug)]
    struct Sevens;

    impl Entropy for Sevens {
        fn fill(&self, octets: &mut [u8]) -> Result<(), EntropyError> {
            octets.fill(7);
            Ok(())
        }
    }

    #[test]
    fn nonce_exhausted() {
        let (own, entropy) = (CurveSecretKey::from_octets([1; 32]), Arc::new(Sevens));
        let client = CurveClient::new(own.clone(), own.public(), entropy.clone());
        let config = Config::new(SocketType::Pair);
        let mut server =
            Side::new(config.clone().mechanism(MechanismConfig::CurveServer(CurveServer::new(own, entropy))));
        let mut client = Side::new(config.mechanism(MechanismConfig::CurveClient(client)));
        for _ in 0..3 {
            server.feed(&client.sent());
            client.feed(&server.sent());
        }
        client.handshaken();
        server.handshaken();
        let State::Traffic(Traffic { sealing: Some(sealing), .. }) = &mut client.connection.state else {
            panic!("no traffic");
        };
        sealing.set_next(u64::MAX - 1);
        let (mut queue, mut sealed) = (WriteQueue::new(), WriteQueue::new());
        for text in ["one", "two", "three"] {
            queue.push(&[], &Message::from(text));
        }
        client.connection.seal(&queue, &mut sealed, usize::MAX);
        assert_eq!((sealed.messages(), queue.messages()), (2, 3), "the rest waits for the next connection");
        server.feed(sealed.contiguous().unwrap());
        assert_eq!(server.received(), [Message::from("one"), Message::from("two")]);
        let reason = client.closed();
        assert_eq!((reason.name(), reason.family(), reason.is_definite()), ("nonce-exhausted", Family::Local, false));
        assert_eq!(reason, CloseReason::NonceExhausted);
    }

    #[test]
    fn families_tell_whether_dialling_again_helps() {
        let refused = CloseReason::ErrorReceived { reason: "400".into() };
        assert_eq!(
            (refused.family(), refused.is_definite(), refused.name()),
            (Family::Refused, true, "error-received")
        );
        let lost = CloseReason::PeerClosed { mid_frame: true, mid_handshake: false };
        assert_eq!((lost.family(), lost.is_definite()), (Family::TransportLost, false));
        assert_eq!(lost.to_string(), "peer closed the connection, in the middle of a frame or message");
    }

    // Any split gives the same

    fn messages() -> impl Strategy<Value = Vec<Vec<Vec<u8>>>> {
        let frame = prop_oneof![4 => prop::collection::vec(2u8.., 0..20), 1 => prop::collection::vec(2u8.., 250..300)];
        prop::collection::vec(prop::collection::vec(frame, 1..4), 0..8)
    }

    proptest! {
        #[test]
        fn any_split_yields_the_same_messages(
            sent in messages(),
            minor in 0u8..2,
            cuts in prop::collection::vec((1usize..40, 0usize..4), 1..50),
        ) {
            let mut queue = WriteQueue::new();
            let mut expected: Vec<Message> = Vec::new();
            let mut stream = opening(minor, READY_SUB);
            for message in sent {
                expected.push(message.into_iter().collect());
                queue.push(&[], &expected[expected.len() - 1]);
                let mut slices = [io::IoSlice::new(&[])];
                queue.slices(&mut slices);
                stream.extend_from_slice(&slices[0]);
                queue.clear();
                stream.extend(b"\x04\x07\x04PING\0\0\x04\x0b\x09SUBSCRIBEA");
                expected.push(Message::from("\x01A"));
            }
            let mut side = Side::of(SocketType::Xpub);
            let (mut rest, mut received) = (&stream[..], Vec::new());
            for (cut, room) in cuts.into_iter().chain([(usize::MAX, usize::MAX)]) {
                let (now, later) = rest.split_at(cut.min(rest.len()));
                side.feed_with_room(now, room);
                let batch = side.received();
                prop_assert!(batch.len() <= room);
                received.extend(batch);
                rest = later;
            }
            side.handshaken();
            prop_assert_eq!(received, expected);
            prop_assert!(side.input.is_empty());
        }
    }
}

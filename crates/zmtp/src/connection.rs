//! A connection: the state of the protocol towards one peer on one byte stream.

use std::{io, mem, time::Instant};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use smallvec::SmallVec;

use crate::{
    close_reason::{CloseReason, printable},
    command::{Command, CommandError},
    config::{Config, ROUTING_ID_LIMIT},
    frame::{FrameError, FrameHeader, Framing},
    greeting::{Greeting, GreetingReader, Heard, Opening, SIGNATURE_LEN, Version, signature},
    liveness::{Liveness, Verdict},
    mechanism::{HANDSHAKE_COMMAND_CEILING, Mechanism, Step},
    message::Message,
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
#[derive(Debug)]
pub struct Connection {
    config: Config,
    state: State,
    transmit: BytesMut,
    /// Octets of PONG in `transmit`
    pongs: usize,
    /// A PING of ours is in `transmit`
    ping_queued: bool,
    messages: Vec<Message>,
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

/// Something that happened once, and matters to the connection's owner
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Event {
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
    /// Frames of a message whose last one is still to come
    partial: SmallVec<[Bytes; 2]>,
    partial_octets: u64,
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
    pub fn new(config: Config, now: Instant) -> Self {
        let mut transmit = BytesMut::with_capacity(SIGNATURE_LEN);
        // The padding says one more than the routing id, since a 1.0 length counts the flags octet.
        transmit.put_slice(&signature(
            (config.routing_id.len() as u64).saturating_add(1),
        ));
        let due = config
            .handshake_timeout
            .and_then(|timeout| now.checked_add(timeout));
        Self {
            config,
            state: State::AwaitGreeting {
                reader: GreetingReader::new(),
                due,
            },
            transmit,
            pongs: 0,
            ping_queued: false,
            messages: Vec::new(),
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
        if let (State::Traffic(traffic), true) = (&mut self.state, octets.len() > self.left_unread)
        {
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

    /// Acts on the deadlines that have passed; call when [`poll_timeout`](Self::poll_timeout) is due
    pub fn handle_timeout(&mut self, now: Instant) {
        match &mut self.state {
            State::AwaitGreeting { due, .. }
            | State::AwaitRoutingId { due, .. }
            | State::Handshake { due, .. } => {
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
                        Command::Ping { ttl, context: &[] }.encode(&mut self.transmit);
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
            State::AwaitGreeting { due, .. }
            | State::AwaitRoutingId { due, .. }
            | State::Handshake { due, .. } => *due,
            State::Traffic(traffic) => traffic.liveness.poll_timeout(),
            State::Closed => None,
        }
    }

    /// Octets to be written, between two messages and never inside one
    ///
    /// All that is due comes at once. What the peer can make us say is bounded: PONGs beyond a few hundred that were
    /// not collected are left out.
    pub fn poll_transmit(&mut self) -> Option<Bytes> {
        self.pongs = 0;
        self.ping_queued = false;
        (!self.transmit.is_empty()).then(|| self.transmit.split().freeze())
    }

    /// What happened since the last call; at most one [`Event::Handshaken`], then at most one [`Event::Closed`]
    pub fn poll_event(&mut self) -> Option<Event> {
        if let Some(peer) = self.handshaken.take() {
            return Some(Event::Handshaken(peer));
        }
        self.closed.take().map(Event::Closed)
    }

    /// The messages decoded and not yet taken, in order; the caller drains or swaps them
    ///
    /// To a PUB or XPUB subscriptions come as messages of one frame: `01` and the topic for a new one, `00` and
    /// the topic for one taken back, whatever the peer's version.
    pub fn messages(&mut self) -> &mut Vec<Message> {
        &mut self.messages
    }

    /// Asks the peer for messages that begin with `topic`
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
                Framing::V2 => true,
                Framing::V1 => false,
            },
            _ => false,
        }
    }

    /// Moves messages from the canonical queue to one in the form of this peer, until that holds `limit_octets`
    ///
    /// Where [`is_passthrough`](Self::is_passthrough) holds nothing needs encoding, and all are moved at once.
    /// Moves nothing before the handshake is done. `from` keeps a message that was written in part.
    pub fn seal(&mut self, from: &mut WriteQueue, into: &mut WriteQueue, limit_octets: usize) {
        let State::Traffic(traffic) = &self.state else {
            return;
        };
        match traffic.version.framing() {
            Framing::V2 if !from.partly_written() => into.append(from),
            framing => {
                while into.octets() < limit_octets
                    && let Some(message) = from.pop_front()
                {
                    into.push_framed(framing, &[], &message);
                }
            }
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
        self.close_with(CloseReason::PeerClosed {
            mid_frame: self.mid_frame,
            mid_handshake,
        });
    }

    /// The byte stream failed
    pub fn handle_transport_error(&mut self, error: io::ErrorKind) {
        self.close_with(CloseReason::TransportFailed(error));
    }

    /// Ends the connection from our side
    pub fn close(&mut self) {
        self.close_with(CloseReason::ClosedLocally);
    }

    /// Handles the next piece of input: a stage of the greeting, or a frame
    #[inline]
    fn handle_piece(
        &mut self,
        now: Instant,
        octets: &mut BytesMut,
        limit: usize,
    ) -> Result<Flow, CloseReason> {
        match &mut self.state {
            State::Traffic(_) => self.handle_frame(now, octets, limit),
            State::AwaitGreeting { reader, .. } => match reader.read(octets) {
                Some(heard) => self.on_greeting(heard),
                None => Ok(Flow::Starved),
            },
            State::AwaitRoutingId { .. } => self.handle_routing_id(now, octets),
            State::Handshake { .. } => self.handle_handshake(now, octets),
            State::Closed => Ok(Flow::Starved),
        }
    }

    /// The hot path: one header, one slice, one push
    #[inline]
    fn handle_frame(
        &mut self,
        now: Instant,
        octets: &mut BytesMut,
        limit: usize,
    ) -> Result<Flow, CloseReason> {
        let State::Traffic(traffic) = &mut self.state else {
            return Ok(Flow::Continue);
        };
        let Some((header, taken)) =
            FrameHeader::decode(traffic.version.framing(), octets, self.config.max_frame)?
        else {
            return Ok(Flow::Starved);
        };
        if header.command {
            return self.handle_command(now, octets, limit);
        }
        if self.messages.len() >= limit {
            return Ok(Flow::Full);
        }
        // Ceilings first: what is refused must not be waited for.
        let message_octets = traffic.partial_octets.saturating_add(header.body_len);
        if message_octets > self.config.max_message {
            return Err(CloseReason::MessageTooLarge {
                octets: message_octets,
                ceiling: self.config.max_message,
            });
        }
        if traffic.partial.len() >= self.config.max_frames_per_message {
            return Err(CloseReason::TooManyFrames {
                ceiling: self.config.max_frames_per_message,
            });
        }
        let Some(body) = take_body(octets, header, taken, &mut self.read_hint)? else {
            return Ok(Flow::Starved);
        };
        if header.more {
            traffic.partial.push(body);
            traffic.partial_octets = message_octets;
        } else if traffic.partial.is_empty() {
            self.messages.push(body.into());
        } else {
            traffic.partial.push(body);
            traffic.partial_octets = 0;
            self.messages
                .push(Message::from_frames(mem::take(&mut traffic.partial)));
        }
        Ok(Flow::Continue)
    }

    /// Handles a command in traffic; one may stand even between the frames of a message
    #[cold]
    fn handle_command(
        &mut self,
        now: Instant,
        octets: &mut BytesMut,
        limit: usize,
    ) -> Result<Flow, CloseReason> {
        let State::Traffic(traffic) = &mut self.state else {
            return Ok(Flow::Continue);
        };
        let Some((header, taken)) =
            FrameHeader::decode(traffic.version.framing(), octets, self.config.max_frame)?
        else {
            return Ok(Flow::Starved);
        };
        let takes_subscriptions = self.config.socket_type.takes_subscriptions();
        if takes_subscriptions && self.messages.len() >= limit {
            // It may be a subscription, which needs room; the answer to a PING can wait as long as the owner.
            return Ok(Flow::Full);
        }
        let Some(body) = take_body(octets, header, taken, &mut self.read_hint)? else {
            return Ok(Flow::Starved);
        };
        match Command::parse(&body) {
            Ok(Command::Subscribe(topic)) if takes_subscriptions => {
                self.messages.push(subscription(true, topic))
            }
            Ok(Command::Cancel(topic)) if takes_subscriptions => {
                self.messages.push(subscription(false, topic))
            }
            Ok(Command::Ping { ttl, context }) => {
                traffic.liveness.on_ping(now, ttl);
                if self.pongs < PONGS_LIMIT {
                    let before = self.transmit.len();
                    Command::Pong { context }.encode(&mut self.transmit);
                    self.pongs += self.transmit.len() - before;
                }
            }
            // RFC 37 has ERROR in the handshake only. A peer that says it later means it all the same.
            Ok(Command::Error(reason)) => {
                return Err(CloseReason::ErrorReceived {
                    reason: printable(reason),
                });
            }
            Ok(Command::Pong { .. } | Command::Subscribe(_) | Command::Cancel(_)) => {}
            // What a later version may say is ignored, a name that doesn't fit its body too: so does libzmq.
            Ok(Command::Ready(_) | Command::Unknown { .. }) => {}
            Err(CommandError::Name | CommandError::Metadata(_)) => {}
            Err(error @ CommandError::Ping) => return Err(error.into()),
        }
        Ok(Flow::Continue)
    }

    /// Answers a stage of the peer's greeting with the next of ours
    fn on_greeting(&mut self, heard: Heard) -> Result<Flow, CloseReason> {
        let State::AwaitGreeting { due, .. } = self.state else {
            return Ok(Flow::Continue);
        };
        let own = Greeting {
            major: 3,
            minor: 1,
            mechanism: self.config.mechanism.padded_name(),
            as_server: false,
        }
        .encode(0);
        match heard {
            Heard::Signature => self.transmit.put_slice(&own[SIGNATURE_LEN..=SIGNATURE_LEN]),
            Heard::Revision(version) if version < Version::V3_0 => {
                self.check_version(version)?;
                self.transmit.put_u8(self.config.socket_type.octet());
                let body_len = self.config.routing_id.len() as u64;
                FrameHeader {
                    more: false,
                    command: false,
                    body_len,
                }
                .encode(version.framing(), &mut self.transmit);
                self.transmit.put_slice(&self.config.routing_id);
            }
            Heard::Revision(_) => self.transmit.put_slice(&own[SIGNATURE_LEN + 1..]),
            Heard::Opening(Opening::Unversioned) => {
                self.check_version(Version::V1_0)?;
                // The signature was the header of this frame.
                self.transmit.put_slice(&self.config.routing_id);
                self.state = State::AwaitRoutingId {
                    version: Version::V1_0,
                    socket_type: None,
                    implicit: true,
                    due,
                };
            }
            Heard::Opening(Opening::Legacy {
                version,
                socket_type,
            }) => {
                let socket_type = SocketType::from_octet(socket_type);
                self.state = State::AwaitRoutingId {
                    version,
                    socket_type,
                    implicit: false,
                    due,
                };
            }
            Heard::Opening(Opening::Modern { version, greeting }) => {
                self.check_version(version)?;
                // RFC 23, "The Greeting": mechanisms must be the same.
                if greeting.mechanism != self.config.mechanism.padded_name() {
                    let ours = self.config.mechanism.name();
                    return Err(CloseReason::MechanismMismatch {
                        ours,
                        theirs: printable(greeting.mechanism_name()),
                    });
                }
                let mechanism = Mechanism::start(&self.config, &mut self.transmit);
                self.state = State::Handshake {
                    version,
                    mechanism,
                    due,
                };
            }
        }
        Ok(Flow::Continue)
    }

    fn handle_routing_id(
        &mut self,
        now: Instant,
        octets: &mut BytesMut,
    ) -> Result<Flow, CloseReason> {
        let State::AwaitRoutingId {
            version,
            socket_type,
            implicit,
            ..
        } = self.state
        else {
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
        self.on_handshaken(now, version, socket_type, routing_id, Properties::new());
        if implicit && self.config.socket_type.takes_subscriptions() {
            // RFC 13 has no subscriptions on the wire: such a peer filters by itself, and wants all.
            self.messages.push(subscription(true, b""));
        }
        Ok(Flow::Continue)
    }

    fn handle_handshake(
        &mut self,
        now: Instant,
        octets: &mut BytesMut,
    ) -> Result<Flow, CloseReason> {
        // Whether the command flag is set doesn't matter: libzmq takes READY in a message frame too.
        let Some((header, taken)) =
            FrameHeader::decode(Framing::V2, octets, HANDSHAKE_COMMAND_CEILING)?
        else {
            return Ok(Flow::Starved);
        };
        let Some(body) = take_body(octets, header, taken, &mut self.read_hint)? else {
            return Ok(Flow::Starved);
        };
        let State::Handshake {
            version, mechanism, ..
        } = mem::replace(&mut self.state, State::Closed)
        else {
            return Ok(Flow::Continue);
        };
        match mechanism.handle(&body)? {
            Step::Done(properties) => {
                let socket_type = self.compatible(&properties)?;
                // RFC 23, "The Identity Property": 0 to 255 octets.
                let routing_id = properties.value("Identity").cloned().unwrap_or_default();
                if routing_id.len() > ROUTING_ID_LIMIT {
                    return Err(CloseReason::RoutingIdTooLong {
                        octets: routing_id.len() as u64,
                    });
                }
                self.on_handshaken(now, version, socket_type, routing_id, properties);
            }
        }
        Ok(Flow::Continue)
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
        if theirs < oldest {
            Err(CloseReason::VersionTooOld { theirs, oldest })
        } else {
            Ok(())
        }
    }

    fn on_handshaken(
        &mut self,
        now: Instant,
        version: Version,
        socket_type: Option<SocketType>,
        routing_id: Bytes,
        properties: Properties,
    ) {
        let mechanism = self.config.mechanism.name();
        let version_numbers = version.numbers();
        self.handshaken = Some(PeerInfo {
            version: version_numbers,
            socket_type,
            routing_id,
            properties,
            mechanism,
        });
        // PING came with 3.1 (RFC 37): older peers might never answer, and would be taken for gone.
        let liveness = Liveness::new(
            self.config.heartbeat,
            version >= Version::V3_1,
            self.reading,
            now,
        );
        self.state = State::Traffic(Traffic {
            version,
            liveness,
            partial: SmallVec::new(),
            partial_octets: 0,
        });
    }

    fn send_subscription(&mut self, wanted: bool, topic: &[u8]) {
        let State::Traffic(traffic) = &self.state else {
            return;
        };
        match (traffic.version, wanted) {
            (Version::V3_1, true) => Command::Subscribe(topic).encode(&mut self.transmit),
            (Version::V3_1, false) => Command::Cancel(topic).encode(&mut self.transmit),
            // RFC 23, "The Publish-Subscribe Pattern": a message, its first octet the verb.
            (Version::V1_0 | Version::V2_0 | Version::V3_0, wanted) => {
                let body_len = 1 + topic.len() as u64;
                let header = FrameHeader {
                    more: false,
                    command: false,
                    body_len,
                };
                header.encode(traffic.version.framing(), &mut self.transmit);
                self.transmit.put_u8(wanted.into());
                self.transmit.put_slice(topic);
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
        self.closed = Some(reason);
        self.read_hint = 0;
    }
}

/// Takes a frame's body from the front of `octets` when all of it is there
#[inline]
fn take_body(
    octets: &mut BytesMut,
    header: FrameHeader,
    taken: usize,
    read_hint: &mut usize,
) -> Result<Option<Bytes>, CloseReason> {
    // On machines whose addresses are shorter than lengths, what can't be addressed can't be accepted.
    let whole = usize::try_from(header.body_len)
        .ok()
        .and_then(|body_len| body_len.checked_add(taken));
    let Some(whole) = whole else {
        return Err(CloseReason::FrameTooLarge {
            octets: header.body_len,
            ceiling: usize::MAX as u64,
        });
    };
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

/// Octets of PONG that may wait to be written, so that a peer can't fill our memory with PINGs
const PONGS_LIMIT: usize = 8192;

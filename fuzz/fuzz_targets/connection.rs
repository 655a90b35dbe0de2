//! A whole connection against any stream: no panic, bounded memory, and the same outcome however the stream is split.
//!
//! Input: the socket type, a choice of limits, 16 octets of script, then what the peer says. Each octet of the script
//! stands for one piece of the stream: its length, the room for messages, and in the second run what else happens.
#![no_main]

use std::time::{Duration, Instant};

use bytes::BytesMut;
use libfuzzer_sys::fuzz_target;
use tidings_zmtp::{CloseReason, Config, Connection, Event, Heartbeat, Message, SocketType, WriteQueue};

#[derive(Debug, Default, PartialEq)]
struct Outcome {
    messages: Vec<Message>,
    handshaken: Option<(u8, u8)>,
    closed: Option<CloseReason>,
}

struct Run {
    connection: Connection,
    input: BytesMut,
    now: Instant,
    outcome: Outcome,
    fed: usize,
    max_frame: usize,
    transmitted: usize,
    own_octets: usize,
}

impl Run {
    fn new(config: Config, max_frame: usize, now: Instant) -> Self {
        let connection = Connection::new(config, now);
        let (input, outcome) = (BytesMut::new(), Outcome::default());
        Self { connection, input, now, outcome, fed: 0, max_frame, transmitted: 0, own_octets: 0 }
    }

    fn feed(&mut self, octets: &[u8], room: usize) {
        self.fed += octets.len();
        self.input.extend_from_slice(octets);
        let before = self.input.len();
        self.connection.handle_input(self.now, &mut self.input, room);
        assert!(self.input.len() <= before);
        if room == usize::MAX && self.outcome.closed.is_none() && !self.is_over() {
            let ceiling = self.max_frame.max(65_536) + 10;
            assert!(self.input.len() < ceiling, "no more than a frame waits");
            let hint = self.connection.read_hint();
            assert!(hint + self.input.len() <= ceiling, "the hint stays within the ceiling");
        }
        let taken = self.connection.messages().len();
        // A 1.0 peer's implicit subscription needs no room.
        assert!(taken <= room.saturating_add(1));
        self.collect();
    }

    fn is_over(&mut self) -> bool {
        self.collect();
        self.outcome.closed.is_some()
    }

    fn collect(&mut self) {
        while let Some(octets) = self.connection.poll_transmit() {
            assert!(!octets.is_empty());
            self.transmitted += octets.len();
        }
        self.outcome.messages.extend(self.connection.messages().drain(..));
        while let Some(event) = self.connection.poll_event() {
            match event {
                Event::Handshaken(peer) => {
                    assert!(self.outcome.closed.is_none(), "handshaken, then closed");
                    assert!(peer.routing_id.len() <= 255);
                    assert_eq!(self.outcome.handshaken.replace(peer.version), None);
                }
                Event::Closed(reason) => {
                    assert!(!reason.name().is_empty() && reason.to_string().len() < 2000);
                    assert_eq!(self.outcome.closed.replace(reason), None);
                }
                _ => {}
            }
        }
        assert!(self.outcome.messages.iter().all(|message| message.frame_count() > 0));
        let received: usize = self.outcome.messages.iter().map(Message::octets).sum();
        assert!(received <= self.fed + 1, "nothing comes from nowhere");
        // Greeting, READY and ERROR; then at most as much PONG as there was PING.
        assert!(self.transmitted <= 1024 + self.fed + self.own_octets);
    }
}

fuzz_target!(|data: &[u8]| {
    let [kind, limits, rest @ ..] = data else {
        return;
    };
    let Some((script, stream)) = rest.split_at_checked(16) else {
        return;
    };
    let kind = SocketType::ALL[usize::from(*kind) % SocketType::ALL.len()];
    let max_frame = [20, 300, 70_000][usize::from(limits & 3) % 3];
    let config = Config::new(kind)
        .routing_id(vec![b'r'; usize::from(limits >> 6)])
        .max_frame(max_frame as u64)
        .max_message(if limits & 4 == 0 { 100 } else { 1 << 20 })
        .max_frames_per_message(if limits & 8 == 0 { 3 } else { 1000 });
    let now = Instant::now();

    // All at once, and in pieces with little room: the same outcome.
    let mut whole = Run::new(config.clone(), max_frame, now);
    whole.feed(stream, usize::MAX);
    let mut pieces = Run::new(config.clone(), max_frame, now);
    let mut left = stream;
    for step in script.iter().cycle().take(4096) {
        let (piece, rest) = left.split_at(left.len().min(usize::from(step & 0x3f) + 1));
        left = rest;
        pieces.feed(piece, usize::from(step >> 6));
        if left.is_empty() {
            break;
        }
    }
    pieces.feed(left, usize::MAX);
    whole.feed(&[], usize::MAX);
    assert_eq!(whole.outcome, pieces.outcome);

    // With time, pauses, subscriptions and outgoing messages between the pieces: anything but a panic.
    let heartbeat = Heartbeat {
        interval: (limits & 16 != 0).then_some(Duration::from_secs(2)),
        timeout: (limits & 32 != 0).then_some(Duration::from_secs(1)),
        ttl: Duration::from_millis(u64::from(*limits) * 50),
    };
    let mut run = Run::new(config.heartbeat(heartbeat), max_frame, now);
    let (mut queue, mut sealed) = (WriteQueue::new(), WriteQueue::new());
    let mut left = stream;
    for step in script.iter().cycle().take(512) {
        let (piece, rest) = left.split_at(left.len().min(usize::from(step & 0x1f) + 1));
        left = rest;
        run.feed(piece, usize::from(step >> 7) * 3);
        match step >> 5 {
            0 => {
                if let Some(due) = run.connection.poll_timeout() {
                    assert!(due >= now);
                    run.now = run.now.max(due);
                    run.connection.handle_timeout(run.now);
                    let later = run.connection.poll_timeout();
                    assert!(later.is_none_or(|later| later > run.now || run.connection.is_handshaken()));
                    run.own_octets += 32;
                }
            }
            1 => run.now += Duration::from_millis(700),
            2 => run.connection.set_reading(run.now, step & 1 == 0),
            3 => {
                run.connection.subscribe(piece);
                run.connection.cancel(piece);
                run.own_octets += 64 + 2 * piece.len();
            }
            4 => {
                queue.push(&[], &Message::copy_from(piece));
                run.connection.seal(&queue, &mut sealed, 1000);
                assert!(sealed.is_empty() || run.connection.is_handshaken());
                let written = sealed.advance(usize::MAX);
                assert!(written <= queue.messages());
                queue.advance_messages(written);
            }
            _ => {}
        }
        if left.is_empty() || run.is_over() {
            break;
        }
    }
    run.connection.handle_eof(run.now);
    run.collect();
    assert!(run.outcome.closed.is_some() && run.connection.poll_timeout().is_none());
});

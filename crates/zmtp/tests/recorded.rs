//! Our side in libzmq's place: fed what a peer sent to libzmq, it says what libzmq said, octet for octet.
//!
//! The transcripts are in `tests/peers/recorded/`; `tests/peers/record.py` makes them again.

#![allow(clippy::expect_used, clippy::panic)]

use std::path::{Path, PathBuf};
use std::time::Instant;

use bytes::BytesMut;
use tidings_zmtp::{Config, Connection, Event, Message, SocketType, WriteQueue};

/// One line of a transcript
#[derive(Debug, PartialEq)]
enum Line {
    PeerSent(Vec<u8>),
    LibzmqSent(Vec<u8>),
    Application(String),
}

struct Transcript {
    socket_type: SocketType,
    routing_id: &'static str,
    lines: Vec<Line>,
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/peers/recorded")
}

fn read(name: &str) -> Transcript {
    let path = folder().join(format!("{name}.hex"));
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let head = text.lines().nth(1).expect("the second line says what libzmq was");
    let socket_type = head.split(", ").nth(1).expect("its type").parse().expect("a socket type");
    let octets = |text: &str| -> Vec<u8> {
        text.split_whitespace().map(|digits| u8::from_str_radix(digits, 16).expect("hexadecimal")).collect()
    };
    let mut lines = Vec::new();
    for line in text.lines() {
        match line.split_once(' ') {
            Some((">", rest)) => lines.push(Line::PeerSent(octets(rest))),
            Some(("<", rest)) => lines.push(Line::LibzmqSent(octets(rest))),
            Some(("=", rest)) => lines.push(Line::Application(rest.to_owned())),
            _ => {}
        }
    }
    Transcript { socket_type, routing_id: if head.contains("b'BOB'") { "BOB" } else { "" }, lines }
}

/// Octets as the transcripts write them: in quotes, or so many times the letter that the recorder takes for that length
fn payload(text: &str) -> Vec<u8> {
    match text.trim().strip_suffix(" octets") {
        Some("255") => vec![b'a'; 255],
        Some(count) => vec![b'b'; count.parse().expect("a number")],
        None => text.trim().trim_matches('\'').as_bytes().to_vec(),
    }
}

/// Plays libzmq's part of a transcript and compares what is said
fn replay(name: &str) {
    let transcript = read(name);
    let now = Instant::now();
    let config = Config::new(transcript.socket_type).routing_id(transcript.routing_id);
    let mut connection = Connection::new(config, now);
    let mut input = BytesMut::new();
    let mut queue = WriteQueue::new();
    let (mut said, mut expected, mut received) = (Vec::new(), Vec::new(), Vec::new());
    let mut is_handshaken = false;
    for line in &transcript.lines {
        match line {
            Line::LibzmqSent(octets) => expected.extend_from_slice(octets),
            Line::PeerSent(octets) => {
                input.extend_from_slice(octets);
                connection.handle_input(now, &mut input, usize::MAX);
                if let Some(event) = connection.poll_event() {
                    assert!(matches!(event, Event::Handshaken(_)), "{name}: {event:?}");
                    is_handshaken = true;
                    // After the handshake room was needed; the rest comes now
                    connection.handle_input(now, &mut input, usize::MAX);
                }
                received.extend(connection.messages().drain(..));
            }
            Line::Application(what) => match what.split_once(' ') {
                Some(("sends", frames)) => {
                    queue.push(&[], &Message::multipart(frames.split(" | ").map(payload)));
                }
                Some(("subscribes", topic)) => connection.subscribe(&payload(topic.trim_start_matches("to "))),
                Some(("unsubscribes", topic)) => connection.cancel(&payload(topic.trim_start_matches("from "))),
                Some(("receives:", frames)) => {
                    let message: Message = received.remove(0);
                    let hex = |octets: &[u8]| match octets {
                        [] => "(empty)".to_owned(),
                        some => some.iter().map(|octet| format!("{octet:02x}")).collect::<Vec<_>>().join(" "),
                    };
                    let shown: Vec<_> = message.frames().map(hex).collect();
                    assert_eq!(shown.join(" | "), frames, "{name}");
                }
                _ => panic!("{name}: an application that {what:?}"),
            },
        }
        while let Some(octets) = connection.poll_transmit() {
            said.extend_from_slice(&octets);
        }
        let mut sealed = WriteQueue::new();
        connection.seal(&queue, &mut sealed, usize::MAX);
        let written = if connection.is_passthrough() { &mut queue } else { &mut sealed };
        let mut slices = [std::io::IoSlice::new(&[]); 64];
        let filled = written.slices(&mut slices);
        slices[..filled].iter().for_each(|slice| said.extend_from_slice(slice));
        let messages = written.advance(usize::MAX);
        queue.advance_messages(messages.min(queue.messages()));
        assert!(
            expected.len() <= said.len() || matches!(line, Line::LibzmqSent(_)),
            "{name}: we said less at {line:?}"
        );
    }
    assert!(is_handshaken, "{name}: no handshake");
    assert_eq!(said, expected, "{name}");
}

#[test]
fn messages_to_peers_of_every_version() {
    for name in ["dealer-3.1", "dealer-3.0", "dealer-2.0", "dealer-1.0-versioned", "dealer-1.0"] {
        replay(name);
    }
}

#[test]
fn subscriptions_to_publishers_of_every_version() {
    for name in ["sub-3.1", "sub-3.0", "sub-2.0", "sub-1.0-versioned", "sub-1.0"] {
        replay(name);
    }
}

#[test]
fn the_ready_of_every_type() {
    for name in ["dealer", "pair", "pub", "pull", "push", "rep", "req", "router", "sub", "xpub", "xsub"] {
        replay(&format!("ready-{name}"));
    }
}

#[test]
fn pongs_and_unknown_commands() {
    for name in ["pong", "unknown-command"] {
        replay(name);
    }
}

/// Where libzmq has a defect we say what the specification says: it sends a long size without the LONG flag
#[test]
fn a_topic_of_255_octets_is_framed_right() {
    let recorded = read("sub-3.0-topic-of-255");
    let libzmq: Vec<u8> = recorded
        .lines
        .iter()
        .flat_map(|line| match line {
            Line::LibzmqSent(octets) => octets.clone(),
            _ => Vec::new(),
        })
        .collect();
    let topic = [b't'; 255];
    let mut wrong = vec![0x00, 0, 0, 0, 0, 0, 0, 1, 0, 1];
    wrong.extend_from_slice(&topic);
    assert!(libzmq.windows(wrong.len()).any(|window| window == wrong), "libzmq's defect is gone: drop this exception");

    let now = Instant::now();
    let mut connection = Connection::new(Config::new(recorded.socket_type), now);
    let mut input = BytesMut::new();
    for line in &recorded.lines {
        if let Line::PeerSent(octets) = line {
            input.extend_from_slice(octets);
            connection.handle_input(now, &mut input, usize::MAX);
        }
        while connection.poll_transmit().is_some() {}
    }
    assert!(matches!(connection.poll_event(), Some(Event::Handshaken(_))));
    connection.subscribe(&topic);
    let mut right = vec![0x02, 0, 0, 0, 0, 0, 0, 1, 0, 1];
    right.extend_from_slice(&topic);
    assert_eq!(connection.poll_transmit().as_deref(), Some(&right[..]));
}

//! Two connections that meet face to face: what each says can be looked at, and altered, before the other hears it.

use std::{io::IoSlice, mem, time::Instant};

use bytes::BytesMut;
use tidings_zmtp::{
    AuthVerdict, CloseReason, Config, Connection, Credentials, Event, FrameHeader, Framing, Greeting, Message,
    PeerInfo, WriteQueue,
};

/// One of the two, with what a driver keeps for it
#[derive(Debug)]
pub struct Attendee {
    /// The connection, to be told things
    pub connection: Connection,
    /// What it is to send
    pub queue: WriteQueue,
    /// What it answers when it is asked who may come in; with `None` the question stays open
    pub verdict: fn(&Credentials) -> Option<AuthVerdict>,
    /// What its peer showed
    pub asked: Option<Credentials>,
    /// What it knows of its peer once the handshake is done
    pub peer: Option<PeerInfo>,
    /// What it received
    pub received: Vec<Message>,
    /// Why it closed
    pub closed: Option<CloseReason>,
    now: Instant,
    input: BytesMut,
    sealed: WriteQueue,
}

impl Attendee {
    /// With a connection of that configuration; everybody may come in
    pub fn new(config: Config) -> Self {
        let now = Instant::now();
        Self {
            connection: Connection::new(config, now),
            queue: WriteQueue::new(),
            verdict: |_| Some(AuthVerdict::allow()),
            asked: None,
            peer: None,
            received: Vec::new(),
            closed: None,
            now,
            input: BytesMut::new(),
            sealed: WriteQueue::new(),
        }
    }

    /// Has it send a message, as soon as it may
    pub fn send(&mut self, message: impl Into<Message>) {
        self.queue.push(&[], &message.into());
    }

    /// All that it has to say now
    pub fn says(&mut self) -> Vec<u8> {
        let mut said = Vec::new();
        while let Some(octets) = self.connection.poll_transmit() {
            said.extend_from_slice(&octets);
        }
        if self.connection.is_passthrough() {
            write(&mut self.queue, &mut said);
            return said;
        }
        loop {
            self.connection.seal(&self.queue, &mut self.sealed, 4096);
            if self.sealed.is_empty() {
                break;
            }
            let written = write(&mut self.sealed, &mut said);
            self.queue.advance_messages(written);
        }
        self.note();
        said
    }

    /// Lets it hear octets
    pub fn hears(&mut self, octets: &[u8]) {
        self.input.extend_from_slice(octets);
        self.connection.handle_input(self.now, &mut self.input, usize::MAX);
        self.note();
    }

    /// Lets it hear that the byte stream ended
    pub fn hears_the_end(&mut self) {
        self.connection.handle_eof(self.now);
        self.note();
    }

    /// Tells it what becomes of its peer
    pub fn decide(&mut self, verdict: AuthVerdict) {
        self.connection.handle_verdict(self.now, verdict);
        self.hears(&[]);
    }

    fn note(&mut self) {
        self.received.extend(self.connection.messages().drain(..));
        while let Some(event) = self.connection.poll_event() {
            match event {
                Event::Authenticate(credentials) => {
                    let verdict = (self.verdict)(&credentials);
                    assert!(self.asked.replace(credentials).is_none(), "asked twice");
                    if let Some(verdict) = verdict {
                        self.decide(verdict);
                    }
                }
                Event::Handshaken(peer) => assert!(self.peer.replace(peer).is_none(), "handshaken twice"),
                Event::Closed(reason) => assert!(self.closed.replace(reason).is_none(), "closed twice"),
                other => assert!(self.closed.is_some(), "an event unknown here: {other:?}"),
            }
        }
    }
}

/// Writes all that is queued, and says how many messages that were
fn write(queue: &mut WriteQueue, said: &mut Vec<u8>) -> usize {
    let mut messages = 0;
    while !queue.is_empty() {
        let mut slices = [IoSlice::new(&[]); 8];
        let filled = queue.slices(&mut slices);
        let before = said.len();
        slices.iter().take(filled).for_each(|slice| said.extend_from_slice(slice));
        messages += queue.advance(said.len() - before);
    }
    messages
}

/// A client and a server, and all that they said so far
///
/// Both must greet at once: where older peers are welcome, greetings go out in stages.
#[derive(Debug)]
pub struct Meeting {
    /// The client of the mechanism
    pub client: Attendee,
    /// The server of the mechanism
    pub server: Attendee,
    /// The bodies of the client's frames
    pub client_said: Vec<Vec<u8>>,
    /// The bodies of the server's frames
    pub server_said: Vec<Vec<u8>>,
}

/// Who says something
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Speaker {
    /// The client of the mechanism
    Client,
    /// The server of the mechanism
    Server,
}

impl Meeting {
    /// Of a client and a server of that configuration
    pub fn new(client: Config, server: Config) -> Self {
        let (client, server) = (Attendee::new(client), Attendee::new(server));
        Self { client, server, client_said: Vec::new(), server_said: Vec::new() }
    }

    /// Lets them talk until neither has anything to say
    pub fn run(&mut self) {
        self.run_altered(|_, _, _| {});
    }

    /// As [`run`](Self::run), with every frame shown to `alter` before it is heard: who says it, how many were said
    /// before by that side, and the frame itself, of which several may be made, or none
    pub fn run_altered(&mut self, mut alter: impl FnMut(Speaker, usize, &mut Vec<Vec<u8>>)) {
        loop {
            let mut quiet = true;
            for speaker in [Speaker::Client, Speaker::Server] {
                let (from, to, said) = match speaker {
                    Speaker::Client => (&mut self.client, &mut self.server, &mut self.client_said),
                    Speaker::Server => (&mut self.server, &mut self.client, &mut self.server_said),
                };
                let octets = from.says();
                let mut rest = &octets[..];
                if rest.len() >= Greeting::LEN && rest.starts_with(&[0xff, 0, 0]) {
                    let (greeting, frames) = rest.split_at(Greeting::LEN);
                    to.hears(greeting);
                    rest = frames;
                    quiet = false;
                }
                while let Ok(Some((header, taken))) = FrameHeader::decode(Framing::V2, rest, u64::MAX) {
                    let (frame, after) = rest.split_at(taken + header.body_len as usize);
                    let mut frames = vec![frame.to_vec()];
                    alter(speaker, said.len(), &mut frames);
                    said.push(frame[taken..].to_vec());
                    frames.iter().for_each(|frame| to.hears(frame));
                    rest = after;
                    quiet = false;
                }
                assert!(rest.is_empty(), "a frame said in part");
                if from.closed.is_some() && to.closed.is_none() {
                    to.hears_the_end();
                }
            }
            if quiet {
                return;
            }
        }
    }

    /// What the server's and the client's side received since they were last asked
    pub fn received(&mut self) -> (Vec<Message>, Vec<Message>) {
        (mem::take(&mut self.server.received), mem::take(&mut self.client.received))
    }
}

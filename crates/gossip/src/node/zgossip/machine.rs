//! The machine of one ZGP link, server's or client's side: which message is answered how, and when something is said unasked.
//!
//! The original's, message by message, but for two things. A client that is silent is forgotten only if a time is set for
//! that. And the client's side sends PING, since a CZMQ server forgets clients that say nothing; after INVALID it doesn't
//! just say HELLO, it sends again what the server may not have taken.
//!
//! A client that was forgotten gets one INVALID for each tuple that it sent meanwhile, and a second HELLO would be one too
//! many, as a server that gets HELLO from a client that it knows forgets it. So HELLO is followed by PING, and until its
//! PONG comes every INVALID is an answer to what was sent before.

use std::time::{Duration, Instant};

use bytes::Bytes;
use smallvec::{SmallVec, smallvec};

use crate::event::Refusal;
use crate::wire::zgossip::{HELLO_FRAME, INVALID_FRAME, Malformed, PING_FRAME, PONG_FRAME, ZgossipMessage};

/// What a machine wants done, in order
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Send this frame
    Send(Bytes),
    /// The peer has nothing: send it everything
    Replay,
    /// What was sent and not confirmed may be lost: send it again
    Repeat,
    /// Take a tuple that the peer published
    Take { key: Bytes, value: Bytes },
    /// Count what was not taken
    Refuse(Refusal),
    /// The peer can't be talked to
    HangUp,
}

pub(super) type Steps = SmallVec<[Step; 3]>;

/// One link's machine
pub(super) struct Machine {
    side: SideState,
    malformed: u32,
}

enum SideState {
    /// We are the server
    Server { state: ServerState, timeout: Option<Duration>, heard_at: Instant },
    /// We are the client
    Client(ClientState),
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum ServerState {
    /// It has said nothing yet, or nothing since it was forgotten
    Unknown,
    Start,
    Connected,
}

struct ClientState {
    /// When HELLO is to be said; `None` if it has been
    hello_at: Option<Instant>,
    is_greeted: bool,
    sent_at: Instant,
    ping_interval: Duration,
    pings: u64,
    pongs: u64,
    /// Until this PONG, or this instant, INVALID is an answer to what was sent before HELLO
    fence: Option<(u64, Instant)>,
    invalid_at: Option<Instant>,
    /// How many INVALIDs came without a pause
    invalids: u32,
}

impl Machine {
    /// For a client of ours; `timeout` is when it is forgotten if it is silent
    pub(super) fn server(now: Instant, timeout: Option<Duration>) -> Self {
        let state = ServerState::Unknown;
        Self { side: SideState::Server { state, timeout, heard_at: now }, malformed: 0 }
    }

    /// For a server that we are connected to; to be given [`handle_timeout`](Self::handle_timeout) at once
    pub(super) fn client(now: Instant, ping_interval: Duration) -> Self {
        let client = ClientState {
            hello_at: Some(now),
            is_greeted: false,
            sent_at: now,
            ping_interval,
            pings: 0,
            pongs: 0,
            fence: None,
            invalid_at: None,
            invalids: 0,
        };
        Self { side: SideState::Client(client), malformed: 0 }
    }

    /// Its state, as it is listed
    pub(super) fn name(&self) -> &'static str {
        match &self.side {
            SideState::Server { state: ServerState::Connected, .. } => "connected",
            SideState::Client(client) if client.hello_at.is_none() => "connected",
            _ => "start",
        }
    }

    /// Whether the peer may be sent tuples
    pub(super) fn is_connected(&self) -> bool {
        match &self.side {
            SideState::Server { state, .. } => *state == ServerState::Connected,
            SideState::Client(client) => client.hello_at.is_none(),
        }
    }

    pub(super) fn handle(&mut self, now: Instant, message: ZgossipMessage, server_timeout: Option<Duration>) -> Steps {
        self.malformed = 0;
        match &mut self.side {
            SideState::Server { state, timeout, heard_at } => {
                if *state == ServerState::Unknown {
                    // Each client keeps the value in force when it was created (sheet, section 2)
                    (*state, *timeout) = (ServerState::Start, server_timeout);
                }
                *heard_at = now;
                match (*state, message) {
                    (ServerState::Start, ZgossipMessage::Hello) => {
                        *state = ServerState::Connected;
                        smallvec![Step::Replay]
                    }
                    (_, ZgossipMessage::Ping) => smallvec![Step::Send(PONG_FRAME)],
                    (ServerState::Connected, ZgossipMessage::Publish { key, value, .. }) => {
                        smallvec![Step::Take { key, value }]
                    }
                    _ => {
                        *state = ServerState::Unknown;
                        smallvec![Step::Send(INVALID_FRAME), Step::Refuse(Refusal::OutOfState)]
                    }
                }
            }
            SideState::Client(client) => match message {
                ZgossipMessage::Publish { key, value, .. } => smallvec![Step::Take { key, value }],
                ZgossipMessage::Pong => {
                    client.pongs += 1;
                    if client.fence.is_some_and(|(pong, _)| client.pongs >= pong) {
                        client.fence = None;
                    }
                    smallvec![]
                }
                ZgossipMessage::Invalid => client.handle_invalid(now),
                // The original ignores what only a client says
                ZgossipMessage::Hello | ZgossipMessage::Ping => smallvec![Step::Refuse(Refusal::OutOfState)],
            },
        }
    }

    /// Something came that stops the original
    pub(super) fn handle_malformed(&mut self, cause: Malformed) -> Steps {
        self.malformed += 1;
        let refuse = Step::Refuse(match cause {
            Malformed::Empty | Malformed::ManyFrames => Refusal::Frames,
            Malformed::Signature => Refusal::Signature,
            Malformed::UnknownId => Refusal::UnknownMessage,
            Malformed::Version => Refusal::Version,
            _ => Refusal::Malformed,
        });
        match &mut self.side {
            SideState::Server { state, .. } => {
                *state = ServerState::Unknown;
                let mut steps: Steps = smallvec![Step::Send(INVALID_FRAME), refuse];
                if self.malformed >= MAX_MALFORMED_OF_CLIENT {
                    steps.push(Step::HangUp);
                }
                steps
            }
            SideState::Client(_) if self.malformed >= MAX_MALFORMED_OF_SERVER => smallvec![refuse, Step::HangUp],
            SideState::Client(_) => smallvec![refuse],
        }
    }

    /// A tuple is to be forwarded: a client that has said something but not HELLO gets INVALID for it
    pub(super) fn handle_news(&mut self) -> Steps {
        match &mut self.side {
            SideState::Server { state: state @ ServerState::Start, .. } => {
                *state = ServerState::Unknown;
                smallvec![Step::Send(INVALID_FRAME)]
            }
            _ => smallvec![],
        }
    }

    pub(super) fn handle_timeout(&mut self, now: Instant) -> Steps {
        let due = self.poll_timeout().is_some_and(|deadline| deadline <= now);
        match &mut self.side {
            SideState::Server { state, .. } if due => {
                // Nothing is sent (sheet, section 2)
                *state = ServerState::Unknown;
                smallvec![]
            }
            SideState::Client(client) if due => client.handle_timeout(now),
            _ => smallvec![],
        }
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        match &self.side {
            SideState::Server { state: ServerState::Unknown, .. } => None,
            SideState::Server { timeout, heard_at, .. } => timeout.map(|timeout| *heard_at + timeout),
            SideState::Client(client) => Some(client.hello_at.unwrap_or_else(|| client.sent_at + client.ping_interval)),
        }
    }

    /// A frame was sent, of whatever kind
    pub(super) fn on_sent(&mut self, now: Instant) {
        if let SideState::Client(client) = &mut self.side {
            client.sent_at = now;
        }
    }
}

impl ClientState {
    fn handle_timeout(&mut self, now: Instant) -> Steps {
        if self.hello_at.is_some_and(|hello_at| hello_at <= now) {
            return self.say_hello(now);
        }
        self.pings += 1;
        self.sent_at = now;
        smallvec![Step::Send(PING_FRAME)]
    }

    fn handle_invalid(&mut self, now: Instant) -> Steps {
        if self.fence.is_some_and(|(_, until)| now < until) || self.hello_at.is_some() {
            return smallvec![];
        }
        self.ping_interval = (self.ping_interval / 2).max(MIN_PING_INTERVAL.min(self.ping_interval));
        if self.invalid_at.is_none_or(|last| last + CALM <= now) {
            self.invalids = 0;
        }
        let wait = match self.invalids.checked_sub(1) {
            None => Duration::ZERO,
            Some(doublings) => (MIN_PING_INTERVAL * (1 << doublings.min(8))).min(MAX_HELLO_WAIT),
        };
        self.invalid_at = Some(now);
        self.invalids += 1;
        self.hello_at = Some(now + wait);
        if wait.is_zero() { self.say_hello(now) } else { smallvec![] }
    }

    fn say_hello(&mut self, now: Instant) -> Steps {
        self.hello_at = None;
        self.sent_at = now;
        if !self.is_greeted {
            self.is_greeted = true;
            return smallvec![Step::Send(HELLO_FRAME), Step::Replay];
        }
        self.pings += 1;
        self.fence = Some((self.pings, now + FENCE_TIME));
        smallvec![Step::Send(HELLO_FRAME), Step::Send(PING_FRAME), Step::Repeat]
    }
}

/// Malformed messages in a row before a server is given up: it will not get better
const MAX_MALFORMED_OF_SERVER: u32 = 8;
/// Malformed messages in a row before a client is given up; each is answered, so that it could start anew
const MAX_MALFORMED_OF_CLIENT: u32 = 64;
/// PINGs are never sent more often
const MIN_PING_INTERVAL: Duration = Duration::from_millis(20);
/// How long HELLO is put off at most when INVALID follows on INVALID
const MAX_HELLO_WAIT: Duration = Duration::from_secs(5);
/// After this long without INVALID the next one is answered at once
const CALM: Duration = Duration::from_secs(10);
/// How long PONG may take; a server that sends none is believed its INVALIDs after that
const FENCE_TIME: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn publish() -> ZgossipMessage {
        ZgossipMessage::Publish { key: Bytes::from_static(b"k"), value: Bytes::from_static(b"v"), ttl: 7 }
    }

    fn take() -> Step {
        Step::Take { key: Bytes::from_static(b"k"), value: Bytes::from_static(b"v") }
    }

    fn sent(steps: &Steps) -> Vec<Bytes> {
        steps.iter().filter_map(|step| if let Step::Send(frame) = step { Some(frame.clone()) } else { None }).collect()
    }

    #[test]
    fn the_servers_side_is_that_of_the_sheet() {
        use ZgossipMessage::{Hello, Invalid, Ping, Pong};
        let now = Instant::now();
        let in_start = || {
            let mut machine = Machine::server(now, None);
            assert_eq!(machine.handle(now, Ping, None).as_slice(), [Step::Send(PONG_FRAME)]);
            machine
        };
        let in_connected = || {
            let mut machine = Machine::server(now, None);
            assert_eq!(machine.handle(now, Hello, None).as_slice(), [Step::Replay]);
            machine
        };
        // (state, event, what is answered, whether the client is connected then)
        assert_eq!(in_start().handle(now, Hello, None).as_slice(), [Step::Replay]);
        assert_eq!(in_start().handle(now, Ping, None).as_slice(), [Step::Send(PONG_FRAME)]);
        for message in [publish(), Pong, Invalid] {
            let mut machine = in_start();
            assert_eq!(sent(&machine.handle(now, message, None)), [INVALID_FRAME]);
            assert!(!machine.is_connected());
        }
        let mut machine = in_start();
        assert_eq!(machine.handle_news().as_slice(), [Step::Send(INVALID_FRAME)]);
        assert!(machine.handle_news().is_empty(), "it is forgotten now");

        let mut machine = in_connected();
        assert_eq!(machine.handle(now, publish(), None).as_slice(), [take()]);
        assert_eq!(machine.handle(now, Ping, None).as_slice(), [Step::Send(PONG_FRAME)]);
        assert!(machine.handle_news().is_empty() && machine.is_connected());
        for message in [Hello, Pong, Invalid] {
            let mut machine = in_connected();
            assert_eq!(sent(&machine.handle(now, message, None)), [INVALID_FRAME]);
            assert!(!machine.is_connected());
            assert_eq!(machine.handle(now, Hello, None).as_slice(), [Step::Replay], "it starts again");
        }
    }

    #[test]
    fn a_silent_client_is_forgotten_only_if_a_time_is_set() {
        let now = Instant::now();
        let mut kept = Machine::server(now, None);
        kept.handle(now, ZgossipMessage::Hello, None);
        assert_eq!(kept.poll_timeout(), None);

        let mut machine = Machine::server(now, Some(100 * MS));
        assert_eq!(machine.poll_timeout(), None, "there is no client before it says something");
        machine.handle(now, ZgossipMessage::Hello, Some(100 * MS));
        machine.handle(now + 60 * MS, ZgossipMessage::Ping, Some(5 * MS));
        assert_eq!(
            machine.poll_timeout(),
            Some(now + 160 * MS),
            "each message arms it anew, with the time it came with"
        );
        assert!(machine.handle_timeout(now + 159 * MS).is_empty() && machine.is_connected());
        assert!(machine.handle_timeout(now + 160 * MS).is_empty(), "nothing is sent");
        assert!(!machine.is_connected());
        assert_eq!(sent(&machine.handle(now + 161 * MS, publish(), Some(5 * MS))), [INVALID_FRAME]);
        machine.handle(now + 162 * MS, ZgossipMessage::Hello, None);
        assert_eq!(machine.poll_timeout(), None, "the time in force when it came back");
    }

    #[test]
    fn the_clients_side_is_that_of_the_sheet_and_sends_ping() {
        use ZgossipMessage::{Hello, Invalid, Ping, Pong};
        let now = Instant::now();
        let mut machine = Machine::client(now, 300 * MS);
        assert!(!machine.is_connected());
        assert_eq!(machine.handle_timeout(now).as_slice(), [Step::Send(HELLO_FRAME), Step::Replay]);
        assert!(machine.is_connected());
        assert_eq!(machine.handle(now, publish(), None).as_slice(), [take()]);
        assert!(machine.handle(now, Pong, None).is_empty());
        for message in [Hello, Ping] {
            assert_eq!(machine.handle(now, message, None).as_slice(), [Step::Refuse(Refusal::OutOfState)]);
        }
        machine.on_sent(now + 100 * MS);
        assert_eq!(machine.poll_timeout(), Some(now + 400 * MS));
        assert_eq!(machine.handle_timeout(now + 400 * MS).as_slice(), [Step::Send(PING_FRAME)]);
        assert_eq!(machine.poll_timeout(), Some(now + 700 * MS));
        let again = machine.handle(now + 500 * MS, Invalid, None);
        assert_eq!(again.as_slice(), [Step::Send(HELLO_FRAME), Step::Send(PING_FRAME), Step::Repeat]);
    }

    #[test]
    fn one_hello_answers_all_invalids_of_what_was_sent_before() {
        let now = Instant::now();
        let mut machine = Machine::client(now, 300 * MS);
        machine.handle_timeout(now);
        machine.handle_timeout(now + 300 * MS);
        assert_eq!(sent(&machine.handle(now + 310 * MS, ZgossipMessage::Invalid, None)), [HELLO_FRAME, PING_FRAME]);
        assert!(machine.handle(now + 311 * MS, ZgossipMessage::Invalid, None).is_empty());
        assert!(machine.handle(now + 312 * MS, ZgossipMessage::Pong, None).is_empty(), "of the first PING");
        assert!(machine.handle(now + 313 * MS, ZgossipMessage::Invalid, None).is_empty());
        machine.handle(now + 314 * MS, ZgossipMessage::Pong, None);
        assert!(machine.handle(now + 400 * MS, ZgossipMessage::Invalid, None).is_empty());
        assert!(!machine.is_connected(), "INVALID so soon again: HELLO waits a moment");
        assert_eq!(machine.poll_timeout(), Some(now + 420 * MS));
        assert_eq!(sent(&machine.handle_timeout(now + 420 * MS)), [HELLO_FRAME, PING_FRAME]);
        // A server that never sends PONG is believed after a second
        assert!(machine.handle(now + 1000 * MS, ZgossipMessage::Invalid, None).is_empty() && machine.is_connected());
        machine.handle(now + 1420 * MS, ZgossipMessage::Invalid, None);
        assert!(!machine.is_connected());
    }

    #[test]
    fn who_is_forgotten_pings_more_often() {
        let mut now = Instant::now();
        let mut machine = Machine::client(now, 300 * MS);
        machine.handle_timeout(now);
        let mut intervals = Vec::new();
        for _ in 0..6 {
            now += Duration::from_secs(20);
            machine.handle(now, ZgossipMessage::Invalid, None);
            machine.on_sent(now);
            intervals.push((machine.poll_timeout().unwrap() - now).as_micros());
        }
        assert_eq!(intervals, [150_000, 75_000, 37_500, 20_000, 20_000, 20_000]);
    }

    #[test]
    fn a_server_that_says_nothing_but_invalid_is_not_flooded() {
        let start = Instant::now();
        let mut machine = Machine::client(start, 300 * MS);
        machine.handle_timeout(start);
        let mut hellos = 0;
        for ms in 1..60_000 {
            let now = start + ms * MS;
            let mut steps = machine.handle(now, ZgossipMessage::Invalid, None);
            steps.extend(machine.handle(now, ZgossipMessage::Pong, None));
            steps.extend(machine.handle_timeout(now));
            hellos += sent(&steps).iter().filter(|frame| **frame == HELLO_FRAME).count();
        }
        assert!((10..30).contains(&hellos), "{hellos} in a minute");
    }

    #[test]
    fn malformed_messages_get_invalid_or_end_the_link() {
        let now = Instant::now();
        for cause in Malformed::ALL {
            let mut machine = Machine::server(now, None);
            machine.handle(now, ZgossipMessage::Hello, None);
            assert_eq!(sent(&machine.handle_malformed(cause)), [INVALID_FRAME], "{}", cause.name());
            assert!(!machine.is_connected());
            machine.handle(now, ZgossipMessage::Hello, None);
            assert!(machine.is_connected(), "the client may start again");
        }
        let mut server = Machine::server(now, None);
        let ended = (1..).find(|_| server.handle_malformed(Malformed::Version).contains(&Step::HangUp));
        assert_eq!(ended, Some(64));
        let mut client = Machine::client(now, 300 * MS);
        client.handle_timeout(now);
        for _ in 0..7 {
            assert_eq!(client.handle_malformed(Malformed::Version).as_slice(), [Step::Refuse(Refusal::Version)]);
        }
        assert!(client.handle_malformed(Malformed::Version).contains(&Step::HangUp));
        assert!(sent(&client.handle_malformed(Malformed::Version)).is_empty(), "a client never says INVALID");
    }
}

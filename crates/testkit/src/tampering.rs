//! Tampering: every field of every PLAIN and CURVE command altered, and what each side makes of it.
//!
//! The cases are a list, so that a test can go through all of them and a report can print them. Keys are fixed and
//! randomness comes from a seed, so that a case can also be somebody's who has all the keys.

use std::{fmt, mem, ops::Range};

use bytes::Bytes;
use tidings_zmtp::{
    AuthVerdict, CloseReason, Config, Credentials, CurveClient, CurveSecretKey, CurveServer, Entropy, FrameHeader,
    Framing, MechanismConfig, PlainClient, Properties, SocketType,
    cipher::{MAC_LEN, SharedKey, open_in_place, public_of, seal_in_place},
};

use crate::{
    meeting::{Meeting, Speaker},
    random::SeededEntropy,
};

/// One way to alter what a peer says
#[derive(Clone, Debug)]
pub struct Case {
    /// The mechanism
    pub mechanism: &'static str,
    /// The command that is altered
    pub command: &'static str,
    /// What is done to what of it
    pub field: &'static str,
    /// Who had said it
    pub speaker: Speaker,
    /// The names of the reasons of which the side that hears it has one
    pub expected: &'static [&'static str],
    alteration: Alteration,
}

#[derive(Clone, Debug)]
enum Alteration {
    /// A bit of an octet of the body
    Flip(Range<usize>),
    /// A bit of an octet in the box, by somebody who has the keys
    FlipInside(Range<usize>),
    /// What is in the box, by somebody who has the keys
    Rewrite(fn(&Keys, &mut Vec<u8>)),
    /// The whole body
    Replace(fn() -> Vec<u8>),
    /// The whole body, or with `inside` what is in its box
    Forge { octets: Vec<u8>, inside: bool },
    /// Octets at the end left out
    Cut(usize),
    /// Octets added at the end
    Grow(usize),
    /// The frame said twice
    Repeat,
    /// The frame held back, and said behind the next one
    Swap,
}

/// What became of an altered command
#[derive(Clone, Debug)]
pub struct Seen {
    /// Why the side closed that heard it
    pub hearer: Option<CloseReason>,
    /// Why the side closed that had said it
    pub speaker: Option<CloseReason>,
    /// Whether the side that heard it was led to something: to take the handshake for done, or a message for good
    pub leaked: bool,
    /// The body as it was before
    pub original: Vec<u8>,
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let speaker = match self.speaker {
            Speaker::Client => "client",
            Speaker::Server => "server",
        };
        write!(f, "{} {} of the {speaker}: {}", self.mechanism, self.command, self.field)
    }
}

impl Case {
    /// The octets of the field, each of which can be altered; for other alterations there is one place
    pub fn places(&self) -> Range<usize> {
        match &self.alteration {
            Alteration::Flip(range) | Alteration::FlipInside(range) => range.clone(),
            _ => 0..1,
        }
    }

    /// Lets two peers meet, with that bit of that octet of the field altered
    pub fn run(&self, place: usize, bit: u8) -> Seen {
        let keys = Keys::seeded(CLIENT_SEED, SERVER_SEED);
        let mut meeting = meeting(self.mechanism, CLIENT_SEED, SERVER_SEED);
        let which = match self.command {
            "HELLO" | "WELCOME" => 0,
            "INITIATE" | "READY" => 1,
            _ => 2,
        };
        let mut held = Vec::new();
        meeting.run_altered(|speaker, index, frames| {
            if speaker != self.speaker {
                return;
            }
            if index == which + 1 {
                frames.append(&mut held);
            }
            if let (true, Some(frame)) = (index == which, frames.first().cloned()) {
                match &self.alteration {
                    Alteration::Repeat => frames.push(frame),
                    Alteration::Swap => held = mem::take(frames),
                    _ => *frames = vec![self.altered(&keys, &frame, place, bit)],
                }
            }
        });
        let (hearer, speaker, said) = match self.speaker {
            Speaker::Client => (meeting.server, meeting.client, meeting.client_said),
            Speaker::Server => (meeting.client, meeting.server, meeting.server_said),
        };
        let original = said.into_iter().nth(which).unwrap_or_default();
        // Where a good frame comes first it counts
        let good = usize::from(matches!(self.alteration, Alteration::Repeat | Alteration::Swap));
        let handshaken = hearer.peer.is_some() && self.command != "MESSAGE";
        let leaked = handshaken || hearer.received.len() > good;
        Seen { leaked, hearer: hearer.closed, speaker: speaker.closed, original }
    }

    fn altered(&self, keys: &Keys, frame: &[u8], place: usize, bit: u8) -> Vec<u8> {
        let Ok(Some((header, taken))) = FrameHeader::decode(Framing::V2, frame, u64::MAX) else {
            return frame.to_vec();
        };
        let mut body = frame[taken..].to_vec();
        match &self.alteration {
            Alteration::Flip(_) => body[place] ^= 1 << bit,
            Alteration::FlipInside(_) => keys.rewrite(self, &mut body, |plain| plain[place] ^= 1 << bit),
            Alteration::Rewrite(rewrite) => keys.rewrite(self, &mut body, |plain| rewrite(keys, plain)),
            Alteration::Replace(replacement) => body = replacement(),
            Alteration::Forge { octets, inside: false } => body.clone_from(octets),
            Alteration::Forge { octets, inside: true } => {
                keys.rewrite(self, &mut body, |plain| plain.clone_from(octets))
            }
            Alteration::Cut(octets) => body.truncate(body.len() - octets),
            Alteration::Grow(octets) => body.resize(body.len() + octets, 0),
            Alteration::Repeat | Alteration::Swap => {}
        }
        let mut altered = Vec::new();
        FrameHeader { body_len: body.len() as u64, ..header }.encode(Framing::V2, &mut altered);
        altered.extend_from_slice(&body);
        altered
    }
}

/// Lets two peers meet, with `octets` for the body of a command; with `inside` for what is in its box, as only a peer
/// could say it that has all the keys
pub fn forge(mechanism: &'static str, command: &'static str, speaker: Speaker, octets: &[u8], inside: bool) -> Seen {
    let alteration = Alteration::Forge { octets: octets.to_vec(), inside: inside && mechanism == "CURVE" };
    Case { mechanism, command, field: "all of it", speaker, expected: &[], alteration }.run(0, 0)
}

/// A client "BOB" of that mechanism and a server, each with two messages for the other
fn meeting(mechanism: &str, client_seed: u64, server_seed: u64) -> Meeting {
    let (client, server) = (Config::new(SocketType::Dealer).routing_id("BOB"), Config::new(SocketType::Router));
    let (client, server) = match mechanism {
        "CURVE" => {
            let server_key = CurveSecretKey::from_octets(SERVER_KEY);
            let known = server_key.public();
            let own = CurveSecretKey::from_octets(CLIENT_KEY);
            let curve = CurveClient::new(own, known, SeededEntropy::seeded(client_seed));
            let curve_server = CurveServer::new(server_key, SeededEntropy::seeded(server_seed));
            let server = server.mechanism(MechanismConfig::CurveServer(curve_server)).authenticate(true);
            (client.mechanism(MechanismConfig::CurveClient(curve)), server)
        }
        _ => {
            let shown = PlainClient::new("admin", "secret").map(MechanismConfig::PlainClient);
            (client.mechanism(shown.unwrap_or_default()), server.mechanism(MechanismConfig::PlainServer))
        }
    };
    let mut meeting = Meeting::new(client, server);
    meeting.server.verdict = |credentials| {
        Some(match credentials {
            Credentials::Plain { username, password } if username == "admin" && **password == *b"secret" => {
                AuthVerdict::Allow { user_id: Bytes::from_static(b"admin"), metadata: Properties::new() }
            }
            Credentials::Curve { public_key } if *public_key == CurveSecretKey::from_octets(CLIENT_KEY).public() => {
                AuthVerdict::allow()
            }
            _ => AuthVerdict::deny("a stranger"),
        })
    };
    for side in [&mut meeting.client, &mut meeting.server] {
        side.send(FIRST_MESSAGE);
        side.send("and another one");
    }
    meeting
}

/// All keys of a connection, as only its two sides know them
#[derive(Debug)]
struct Keys {
    client_transient: [u8; 32],
    server_transient: [u8; 32],
}

impl Keys {
    fn seeded(client_seed: u64, server_seed: u64) -> Self {
        let first = |seed| {
            let mut octets = [0; 32];
            assert!(SeededEntropy::seeded(seed).fill(&mut octets).is_ok());
            octets
        };
        Self { client_transient: first(client_seed), server_transient: first(server_seed) }
    }

    /// Opens the box of a command, and seals it again
    fn rewrite(&self, case: &Case, body: &mut Vec<u8>, change: impl FnOnce(&mut Vec<u8>)) {
        let (at, prefix): (Range<usize>, &[u8]) = match (case.command, case.speaker) {
            ("HELLO", _) => (112..120, b"CurveZMQHELLO---"),
            ("WELCOME", _) => (8..24, b"WELCOME-"),
            ("INITIATE", _) => (105..113, b"CurveZMQINITIATE"),
            ("READY", _) => (6..14, b"CurveZMQREADY---"),
            (_, Speaker::Client) => (8..16, b"CurveZMQMESSAGEC"),
            (_, Speaker::Server) => (8..16, b"CurveZMQMESSAGES"),
        };
        let mut nonce = [0; 24];
        nonce[..prefix.len()].copy_from_slice(prefix);
        nonce[prefix.len()..].copy_from_slice(&body[at.clone()]);
        let server_secret = match case.command {
            "HELLO" | "WELCOME" => SERVER_KEY,
            _ => self.server_transient,
        };
        let key = agree(&public_of(&server_secret), &self.client_transient);
        let mut boxed = body.split_off(at.end);
        let mut plain = boxed.split_off(MAC_LEN);
        let mut mac = [0; MAC_LEN];
        mac.copy_from_slice(&boxed);
        assert!(open_in_place(&key, &nonce, &mac, &mut plain), "a box of {}", case.command);
        change(&mut plain);
        body.extend_from_slice(&seal_in_place(&key, &nonce, &mut plain));
        body.extend_from_slice(&plain);
    }

    /// Puts a vouch for something else into the plain octets of INITIATE
    fn vouch(&self, plain: &mut [u8], vouched: [[u8; 32]; 2]) {
        let mut nonce = *b"VOUCH---xxxxxxxxxxxxxxxx";
        nonce[8..].copy_from_slice(&plain[32..48]);
        let key = agree(&public_of(&self.server_transient), &CLIENT_KEY);
        let mut vouched = vouched.concat();
        let mac = seal_in_place(&key, &nonce, &mut vouched);
        plain[48..64].copy_from_slice(&mac);
        plain[64..128].copy_from_slice(&vouched);
    }
}

fn agree(public: &[u8; 32], secret: &[u8; 32]) -> SharedKey {
    SharedKey::agree(public, secret).unwrap_or_else(|| SharedKey::own(Default::default()))
}

/// What a peer says in a meeting of the same two with other transient keys
fn said_elsewhere(speaker: Speaker, index: usize) -> Vec<u8> {
    let mut meeting = meeting("CURVE", CLIENT_SEED + 10, SERVER_SEED + 10);
    meeting.run();
    let said = match speaker {
        Speaker::Client => meeting.client_said,
        Speaker::Server => meeting.server_said,
    };
    said.into_iter().nth(index).unwrap_or_default()
}

/// Mechanism, command, speaker, field, what is done, and what the hearer is to say
type Row = (&'static str, &'static str, Speaker, &'static str, Alteration, &'static [&'static str]);
/// Field of MESSAGE, what is done, and what the hearer is to say
type MessageRow = (&'static str, Alteration, &'static [&'static str]);

/// Every case there is
pub fn cases() -> Vec<Case> {
    use Alteration::{Cut, Flip, FlipInside, Grow, Repeat, Replace, Rewrite, Swap};
    use Speaker::{Client, Server};
    const NAME: &[&str] = &["unexpected-command", "malformed-command"];
    let rows: Vec<Row> = vec![
        ("PLAIN", "HELLO", Client, "name", Flip(0..6), NAME),
        ("PLAIN", "HELLO", Client, "length of the user name", Flip(6..7), &["wrong-size"]),
        ("PLAIN", "HELLO", Client, "user name", Flip(7..12), &["denied"]),
        ("PLAIN", "HELLO", Client, "length of the password", Flip(12..13), &["wrong-size"]),
        ("PLAIN", "HELLO", Client, "password", Flip(13..19), &["denied"]),
        ("PLAIN", "HELLO", Client, "an octet too few", Cut(1), &["wrong-size"]),
        ("PLAIN", "HELLO", Client, "an octet too many", Grow(1), &["wrong-size"]),
        ("PLAIN", "HELLO", Client, "longer than any", Grow(500), &["frame-too-large"]),
        ("PLAIN", "WELCOME", Server, "name", Flip(0..8), NAME),
        ("PLAIN", "WELCOME", Server, "an octet too few", Cut(1), &["malformed-command"]),
        ("PLAIN", "WELCOME", Server, "an octet too many", Grow(1), &["wrong-size"]),
        ("PLAIN", "INITIATE", Client, "name", Flip(0..9), NAME),
        ("PLAIN", "INITIATE", Client, "length of a property's name", Flip(9..10), &["malformed-metadata"]),
        ("PLAIN", "INITIATE", Client, "length of a property's value", Flip(21..25), &["malformed-metadata"]),
        ("PLAIN", "INITIATE", Client, "socket type", Flip(25..31), &["incompatible-socket-type"]),
        ("PLAIN", "INITIATE", Client, "an octet too few", Cut(1), &["malformed-metadata"]),
        ("PLAIN", "INITIATE", Client, "an octet too many", Grow(1), &["malformed-metadata"]),
        ("PLAIN", "READY", Server, "name", Flip(0..6), NAME),
        ("PLAIN", "READY", Server, "length of a property's name", Flip(6..7), &["malformed-metadata"]),
        ("PLAIN", "READY", Server, "length of a property's value", Flip(18..22), &["malformed-metadata"]),
        ("PLAIN", "READY", Server, "socket type", Flip(22..28), &["incompatible-socket-type"]),
        ("PLAIN", "READY", Server, "an octet too few", Cut(1), &["malformed-metadata"]),
        ("PLAIN", "READY", Server, "an octet too many", Grow(1), &["malformed-metadata"]),
        ("CURVE", "HELLO", Client, "name", Flip(0..6), NAME),
        ("CURVE", "HELLO", Client, "version", Flip(6..8), &["curve-version"]),
        ("CURVE", "HELLO", Client, "padding", Flip(8..80), &["hello-padding"]),
        // The highest bit of a key means nothing to the agreement; the vouch tells that it is another key all the same
        ("CURVE", "HELLO", Client, "transient key", Flip(80..112), &["hello-not-opened", "vouch-for-another"]),
        ("CURVE", "HELLO", Client, "nonce", Flip(112..120), &["hello-not-opened"]),
        ("CURVE", "HELLO", Client, "tag of the box", Flip(120..136), &["hello-not-opened"]),
        ("CURVE", "HELLO", Client, "box", Flip(136..200), &["hello-not-opened"]),
        ("CURVE", "HELLO", Client, "an octet too few", Cut(1), &["wrong-size"]),
        ("CURVE", "HELLO", Client, "hardly anything", Cut(193), &["wrong-size"]),
        ("CURVE", "HELLO", Client, "an octet too many", Grow(1), &["frame-too-large"]),
        ("CURVE", "HELLO", Client, "of another connection", Replace(|| said_elsewhere(Client, 0)), &["peer-closed"]),
        ("CURVE", "WELCOME", Server, "name", Flip(0..8), NAME),
        ("CURVE", "WELCOME", Server, "nonce", Flip(8..24), &["welcome-not-opened"]),
        ("CURVE", "WELCOME", Server, "tag of the box", Flip(24..40), &["welcome-not-opened"]),
        ("CURVE", "WELCOME", Server, "box", Flip(40..168), &["welcome-not-opened"]),
        ("CURVE", "WELCOME", Server, "an octet too few", Cut(1), &["wrong-size"]),
        ("CURVE", "WELCOME", Server, "an octet too many", Grow(1), &["wrong-size"]),
        (
            "CURVE",
            "WELCOME",
            Server,
            "of another connection",
            Replace(|| said_elsewhere(Server, 0)),
            &["welcome-not-opened"],
        ),
        ("CURVE", "INITIATE", Client, "name", Flip(0..9), NAME),
        ("CURVE", "INITIATE", Client, "nonce of the cookie", Flip(9..25), &["cookie-not-ours"]),
        ("CURVE", "INITIATE", Client, "tag of the cookie", Flip(25..41), &["cookie-not-ours"]),
        ("CURVE", "INITIATE", Client, "cookie", Flip(41..105), &["cookie-not-ours"]),
        ("CURVE", "INITIATE", Client, "nonce", Flip(105..113), &["initiate-not-opened"]),
        ("CURVE", "INITIATE", Client, "tag of the box", Flip(113..129), &["initiate-not-opened"]),
        ("CURVE", "INITIATE", Client, "box", Flip(129..295), &["initiate-not-opened"]),
        ("CURVE", "INITIATE", Client, "an octet too few", Cut(1), &["initiate-not-opened"]),
        ("CURVE", "INITIATE", Client, "shorter than any", Cut(39), &["wrong-size"]),
        ("CURVE", "INITIATE", Client, "shorter than its cookie", Cut(195), &["wrong-size"]),
        ("CURVE", "INITIATE", Client, "an octet too many", Grow(1), &["initiate-not-opened"]),
        (
            "CURVE",
            "INITIATE",
            Client,
            "of another connection",
            Replace(|| said_elsewhere(Client, 1)),
            &["cookie-not-ours"],
        ),
        // With the highest bit set it is the key of nobody who may come in
        ("CURVE", "INITIATE", Client, "key in the box", FlipInside(0..32), &["vouch-not-opened", "denied"]),
        ("CURVE", "INITIATE", Client, "nonce of the vouch", FlipInside(32..48), &["vouch-not-opened"]),
        ("CURVE", "INITIATE", Client, "tag of the vouch", FlipInside(48..64), &["vouch-not-opened"]),
        ("CURVE", "INITIATE", Client, "vouch", FlipInside(64..128), &["vouch-not-opened"]),
        (
            "CURVE",
            "INITIATE",
            Client,
            "vouch for another connection",
            Rewrite(|keys, plain| keys.vouch(plain, [[9; 32], public_of(&SERVER_KEY)])),
            &["vouch-for-another"],
        ),
        (
            "CURVE",
            "INITIATE",
            Client,
            "vouch for another server",
            Rewrite(|keys, plain| keys.vouch(plain, [public_of(&keys.client_transient), [9; 32]])),
            &["vouch-for-another"],
        ),
        ("CURVE", "INITIATE", Client, "length of a property's name", FlipInside(128..129), &["malformed-metadata"]),
        ("CURVE", "INITIATE", Client, "length of a property's value", FlipInside(140..144), &["malformed-metadata"]),
        ("CURVE", "INITIATE", Client, "socket type", FlipInside(144..150), &["incompatible-socket-type"]),
        ("CURVE", "READY", Server, "name", Flip(0..6), NAME),
        ("CURVE", "READY", Server, "nonce", Flip(6..14), &["ready-not-opened"]),
        ("CURVE", "READY", Server, "tag of the box", Flip(14..30), &["ready-not-opened"]),
        ("CURVE", "READY", Server, "box", Flip(30..65), &["ready-not-opened"]),
        ("CURVE", "READY", Server, "an octet too few", Cut(1), &["ready-not-opened"]),
        ("CURVE", "READY", Server, "shorter than any", Cut(36), &["wrong-size"]),
        ("CURVE", "READY", Server, "an octet too many", Grow(1), &["ready-not-opened"]),
        (
            "CURVE",
            "READY",
            Server,
            "of another connection",
            Replace(|| said_elsewhere(Server, 1)),
            &["ready-not-opened"],
        ),
        ("CURVE", "READY", Server, "length of a property's name", FlipInside(0..1), &["malformed-metadata"]),
        ("CURVE", "READY", Server, "length of a property's value", FlipInside(12..16), &["malformed-metadata"]),
        ("CURVE", "READY", Server, "socket type", FlipInside(16..22), &["incompatible-socket-type"]),
    ];
    let mut cases: Vec<Case> = rows
        .into_iter()
        .map(|(mechanism, command, speaker, field, alteration, expected)| Case {
            mechanism,
            command,
            field,
            speaker,
            expected,
            alteration,
        })
        .collect();
    for speaker in [Client, Server] {
        let elsewhere = match speaker {
            Client => || said_elsewhere(Client, 2),
            Server => || said_elsewhere(Server, 2),
        };
        let whole = 33 + FIRST_MESSAGE.len();
        let rows: Vec<MessageRow> = vec![
            ("name", Flip(0..8), &["not-sealed"]),
            ("nonce", Flip(8..16), &["message-not-opened", "replayed"]),
            ("tag of the box", Flip(16..32), &["message-not-opened"]),
            ("flags", Flip(32..33), &["message-not-opened"]),
            ("box", Flip(33..whole), &["message-not-opened"]),
            ("an octet too few", Cut(1), &["message-not-opened"]),
            ("shorter than any", Cut(whole - 32), &["wrong-size"]),
            ("shorter than its tag", Cut(whole - 20), &["wrong-size"]),
            ("an octet too many", Grow(1), &["message-not-opened"]),
            ("played again", Repeat, &["replayed"]),
            ("behind the next one", Swap, &["replayed"]),
            ("of another connection", Replace(elsewhere), &["message-not-opened"]),
            ("in clear", Replace(|| b"in clear".to_vec()), &["not-sealed"]),
            ("ERROR in clear", Replace(|| b"\x05ERROR\x03400".to_vec()), &["not-sealed"]),
            ("unknown flags", Rewrite(|_, plain| plain[0] = 4), &["unknown-flags"]),
            ("without flags", Rewrite(|_, plain| plain.clear()), &["wrong-size"]),
        ];
        cases.extend(rows.into_iter().map(|(field, alteration, expected)| Case {
            mechanism: "CURVE",
            command: "MESSAGE",
            field,
            speaker,
            expected,
            alteration,
        }));
    }
    cases
}

/// The permanent secret keys
const CLIENT_KEY: [u8; 32] = [0x17; 32];
const SERVER_KEY: [u8; 32] = [0x42; 32];
const CLIENT_SEED: u64 = 1;
const SERVER_SEED: u64 = 2;
const FIRST_MESSAGE: &str = "a message of some length";

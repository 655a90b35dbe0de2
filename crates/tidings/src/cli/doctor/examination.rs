//! The examination itself: dial, listen to what the peer says, and make sense of how it ends.

use std::time::{Duration, Instant};

use bytes::{Buf, BytesMut};
use tidings::{Endpoint, SocketType};
use tidings_transport::{DialError, Stream, StreamOptions, TlsError};
use tidings_zmtp::{
    CloseReason, Config, Connection, Event, FrameHeader, Framing, Greeting, MechanismConfig, PeerInfo, Version,
};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::timeout;

use super::findings::{Findings, Verdict};
use crate::cli::Failure;
use crate::cli::security::SecurityArgs;
use crate::cli::units::display_duration;

/// What is to be found out
pub(super) struct Examination<'a> {
    endpoint: &'a Endpoint,
    /// Whom to pose as; nobody's peer if not given
    socket_type: Option<SocketType>,
    limit: Duration,
    mechanism: MechanismConfig,
    stream: StreamOptions,
}

/// What the peer said until the conversation ended
#[derive(Debug, Default)]
struct Heard {
    octets: BytesMut,
    /// Names of the commands behind the greeting, in order
    commands: Vec<String>,
    /// What is still undecoded of `octets`, counted from the front
    read: usize,
}

/// How the conversation ended
#[derive(Debug)]
enum End {
    Handshaken(PeerInfo),
    Closed(CloseReason),
    /// Nothing more was said within the limit
    Silent,
}

impl<'a> Examination<'a> {
    /// # Errors
    /// Keys that can't be read, and such as don't fit.
    pub(super) fn new(
        endpoint: &'a Endpoint,
        socket_type: Option<SocketType>,
        limit: Duration,
        security: &SecurityArgs,
    ) -> Result<Self, Failure> {
        let client = security.read()?.client(endpoint)?;
        let stream = StreamOptions::default().connect_timeout(Some(limit)).tls(client.tls);
        Ok(Self { endpoint, socket_type, limit, mechanism: client.mechanism, stream })
    }

    /// Goes through the steps until one fails or all are done
    pub(super) async fn run(self) -> Findings {
        let mut findings = Findings::of(self.endpoint.to_string());
        match self.endpoint {
            Endpoint::Udp(_) => {
                let because = "datagrams have no connection: nobody answers, whether somebody listens or not";
                return findings.judge(Verdict::NoConnection, because, None);
            }
            Endpoint::Inproc(_) => {
                let because = "inproc joins the sockets of one process; no other process can reach it";
                return findings.judge(Verdict::NoConnection, because, "take ipc:// between processes".to_owned());
            }
            _ => {}
        }
        let begun = Instant::now();
        let mut stream = match tidings_transport::dial(self.endpoint, &self.stream).await {
            Ok(stream) => stream,
            Err(error) => return unreachable(findings, &error),
        };
        let took = display_duration(begun.elapsed());
        findings.good("connection", format_args!("to {} in {took}", stream.peer_address()));
        if self.endpoint.is_encrypted() {
            match self.encrypt(&mut stream, &mut findings).await {
                Ok(()) => {}
                Err((because, advice)) => return findings.judge(Verdict::Tls, because, advice),
            }
        }
        let mut heard = Heard::default();
        let end = self.converse(&mut stream, &mut heard).await;
        self.interpret(findings, &heard, end)
    }

    async fn encrypt(&self, stream: &mut Stream, findings: &mut Findings) -> Result<(), (String, Option<String>)> {
        match timeout(self.limit, stream.handshake()).await {
            Ok(Ok(Some(peer))) => {
                findings.good("tls", format_args!("{} with {}", peer.version, peer.cipher));
                if let Some(certificate) = &peer.certificate {
                    findings.good("certificate", certificate.subject.as_str());
                }
                Ok(())
            }
            Ok(Ok(None)) => Ok(()),
            Ok(Err(error)) => {
                findings.bad("tls", &error);
                Err((error.to_string(), tls_advice(&error)))
            }
            Err(_) => {
                findings.bad("tls", format_args!("no answer within {}", display_duration(self.limit)));
                Err(("the peer does not answer to TLS".to_owned(), Some("is it tcp:// there?".to_owned())))
            }
        }
    }

    /// Talks until the handshake is done, fails, or nothing is said for too long
    async fn converse(&self, stream: &mut Stream, heard: &mut Heard) -> End {
        // STREAM is nobody's peer: the other side tells its own type, and hands us no message
        let config = Config::new(self.socket_type.unwrap_or(SocketType::Stream))
            .mechanism(self.mechanism.clone())
            // 1.0 has no signature: to it anything is a peer
            .oldest_version(Version::V2_0)
            .handshake_timeout(None);
        let mut connection = Connection::new(config, Instant::now());
        let mut input = BytesMut::new();
        loop {
            while let Some(octets) = connection.poll_transmit() {
                if let Err(error) = stream.write_all(&octets).await {
                    connection.handle_transport_error(error.kind());
                }
            }
            if stream.needs_flush() && stream.flush().await.is_err() {
                connection.close();
            }
            match connection.poll_event() {
                Some(Event::Handshaken(peer)) => return End::Handshaken(peer),
                Some(Event::Closed(reason)) => return End::Closed(reason),
                _ => {}
            }
            let before = input.len();
            match timeout(self.limit, stream.read_buf(&mut input)).await {
                Err(_) => return End::Silent,
                Ok(Ok(0)) => connection.handle_eof(Instant::now()),
                Ok(Err(error)) => connection.handle_transport_error(error.kind()),
                Ok(Ok(_)) => {
                    heard.note(input.get(before..).unwrap_or_default());
                    connection.handle_input(Instant::now(), &mut input, 0);
                }
            }
        }
    }

    fn interpret(&self, mut findings: Findings, heard: &Heard, end: End) -> Findings {
        if heard.octets.is_empty() {
            return nothing_said(findings, &end, self.limit);
        }
        let Some((version, theirs)) = heard.greeting() else {
            return not_a_greeting(findings, heard, &end);
        };
        findings.good("greeting", format_args!("ZMTP {}.{}", version.0, version.1));
        let ours = self.mechanism.name();
        if theirs != ours && !theirs.is_empty() {
            findings.bad("mechanism", format_args!("the peer takes {theirs}, we came with {ours}"));
            return findings.judge(
                Verdict::OtherMechanism,
                format_args!("the peer wants {theirs}, not {ours}"),
                mechanism_advice(&theirs),
            );
        }
        findings.good("mechanism", ours);
        match end {
            End::Handshaken(peer) => {
                let kind = peer.socket_type.map_or("a socket of unknown type".to_owned(), |kind| kind.to_string());
                findings.good("handshake", format_args!("done, with {kind}"));
                let text = format!("the connection comes up, and {kind} is at its other end");
                findings.judge(Verdict::Fine, text, None)
            }
            End::Closed(reason) => self.closed(findings, heard, &reason),
            End::Silent => {
                let after = heard.commands.last().map_or("its greeting".to_owned(), |name| format!("its {name}"));
                findings
                    .bad("handshake", format_args!("nothing after {after} within {}", display_duration(self.limit)));
                findings.judge(
                    Verdict::Silent,
                    format_args!("the peer stopped talking after {after}"),
                    "it may wait for an answer of its authenticator (ZAP handler); look at its log".to_owned(),
                )
            }
        }
    }

    fn closed(&self, mut findings: Findings, heard: &Heard, reason: &CloseReason) -> Findings {
        match reason {
            CloseReason::IncompatibleSocketType { theirs, .. } => self.types(findings, theirs),
            CloseReason::ErrorReceived { reason } => {
                if let Some((theirs, _)) =
                    reason.strip_prefix("incompatible-socket-types:").and_then(|types| types.split_once('/'))
                {
                    return self.types(findings, theirs);
                }
                findings.bad("handshake", format_args!("the peer says ERROR {reason:?}"));
                findings.judge(Verdict::Refused, refusal(reason), refusal_advice(&self.mechanism))
            }
            CloseReason::VersionTooOld { theirs, .. } => {
                let (major, minor) = theirs.numbers();
                findings.bad("version", format_args!("ZMTP {major}.{minor}"));
                findings.judge(
                    Verdict::OtherVersion,
                    format_args!("the peer speaks ZMTP {major}.{minor}, which has no {}", self.mechanism.name()),
                    "it needs a newer library, or a listener without security on loopback".to_owned(),
                )
            }
            CloseReason::PeerClosed { .. } | CloseReason::TransportFailed(_) => self.hung_up(findings, heard),
            reason => {
                findings.bad("handshake", reason);
                let wrong_key = matches!(self.mechanism, MechanismConfig::CurveClient(_)) && !heard.has("READY");
                match wrong_key {
                    true => findings.judge(Verdict::WrongServerKey, reason, Some(SERVER_KEY.to_owned())),
                    false => findings.judge(Verdict::Closed, reason, None),
                }
            }
        }
    }

    /// The peer closed in the middle of the handshake, without ERROR
    fn hung_up(&self, mut findings: Findings, heard: &Heard) -> Findings {
        findings.bad("handshake", "the peer closed without a word");
        let is_curve = matches!(self.mechanism, MechanismConfig::CurveClient(_));
        match (is_curve, heard.has("WELCOME")) {
            (true, false) => findings.judge(
                Verdict::WrongServerKey,
                "the peer could not open our HELLO: its public key is another than the one we have for it",
                SERVER_KEY.to_owned(),
            ),
            (_, true) => findings.judge(
                Verdict::Refused,
                "the peer knows what we said and closed without an answer: it does not let us in now (300), or it is of \
                 a socket type that does not fit",
                "name your own type with --as; look at the peer's log and at the keys it trusts".to_owned(),
            ),
            (false, false) => findings.judge(
                Verdict::Closed,
                "the peer closed during the handshake, as libzmq does when the socket types do not fit or its authenticator \
                 says 300",
                "name your own type with --as; look at the peer's log".to_owned(),
            ),
        }
    }

    /// The peer told its type, and it is not one for us
    fn types(&self, mut findings: Findings, theirs: &str) -> Findings {
        let fitting: Vec<&str> = SocketType::from_name(theirs.as_bytes())
            .map(|theirs| {
                SocketType::ALL.into_iter().filter(|ours| ours.accepts(theirs)).map(SocketType::name).collect()
            })
            .unwrap_or_default();
        match self.socket_type {
            None => {
                findings.good("handshake", format_args!("the peer is a {theirs}"));
                let text = format!("a {theirs} is there; connect with {}", fitting.join(", "));
                findings.judge(Verdict::Fine, text, None)
            }
            Some(ours) => {
                findings.bad("socket type", format_args!("the peer is a {theirs}, we are a {ours}"));
                let advice = format!("connect with {}, or to another endpoint", fitting.join(", "));
                findings.judge(
                    Verdict::IncompatibleType,
                    format_args!("a {theirs} has no use for a {ours}"),
                    Some(advice).filter(|_| !fitting.is_empty()),
                )
            }
        }
    }
}

impl Heard {
    fn note(&mut self, octets: &[u8]) {
        let room = HEARD_LIMIT.saturating_sub(self.octets.len());
        self.octets.extend_from_slice(octets.get(..room).unwrap_or(octets));
        self.read = self.read.max(Greeting::LEN);
        while let Some(rest) = self.octets.get(self.read..)
            && let Ok(Some((header, taken))) = FrameHeader::decode(Framing::V2, rest, HEARD_LIMIT as u64)
            && let Ok(body_len) = usize::try_from(header.body_len)
            && let Some(mut body) = rest.get(taken..taken + body_len)
        {
            self.read += taken + body_len;
            let name_len = if body.is_empty() { 0 } else { usize::from(body.get_u8()) };
            self.commands.push(body.get(..name_len).unwrap_or(body).escape_ascii().to_string());
        }
    }

    fn has(&self, command: &str) -> bool {
        self.commands.iter().any(|name| name == command)
    }

    /// Version and mechanism (RFC 23, "The Greeting"); before 3.0 there is no mechanism
    fn greeting(&self) -> Option<((u8, u8), String)> {
        let octets = &self.octets[..];
        let signed = octets.first() == Some(&0xff) && octets.get(9).is_some_and(|octet| octet & 1 == 1);
        let major = *octets.get(10).filter(|_| signed)?;
        if major < 3 {
            return Some(((major + 1, 0), String::new()));
        }
        let name = octets.get(12..32)?;
        let name = name.split(|octet| *octet == 0).next().unwrap_or_default();
        Some(((major, *octets.get(11)?), name.escape_ascii().to_string()))
    }
}

fn unreachable(mut findings: Findings, error: &DialError) -> Findings {
    match error {
        DialError::Resolve { host, .. } => {
            findings.bad("name", error);
            let advice = "check the spelling, the name server and /etc/hosts".to_owned();
            findings.judge(Verdict::Unresolvable, format_args!("{host} has no address"), advice)
        }
        DialError::Connect { attempts } => {
            for (address, error) in attempts {
                findings.bad("connection", format_args!("{address}: {error}"));
            }
            let refused = attempts.iter().any(|(_, error)| error.kind() == std::io::ErrorKind::ConnectionRefused);
            let (because, advice) = match refused {
                true => ("the host answers, but nobody listens on that port", "start the peer, or check the port"),
                false => ("no way leads to the host", "check the address, the routes and the firewalls"),
            };
            findings.judge(Verdict::Unreachable, because, advice.to_owned())
        }
        error => {
            findings.bad("connection", error);
            findings.judge(Verdict::Unreachable, error, None)
        }
    }
}

fn nothing_said(mut findings: Findings, end: &End, limit: Duration) -> Findings {
    match end {
        End::Silent => {
            findings.bad("greeting", format_args!("nothing within {}", display_duration(limit)));
            findings.judge(
                Verdict::Silent,
                "somebody takes the connection and says nothing: not ZeroMQ, or a program that hangs",
                "find out which program listens there (`ss -ltnp` on that host)".to_owned(),
            )
        }
        _ => {
            findings.bad("greeting", "the peer closed before it said anything");
            findings.judge(
                Verdict::Closed,
                "somebody took the connection and closed it at once: a proxy without a backend, a limit on connections, \
                 or an address that is not let in",
                "look at the log of the peer and of what stands in between".to_owned(),
            )
        }
    }
}

fn not_a_greeting(mut findings: Findings, heard: &Heard, end: &End) -> Findings {
    let shown = heard.octets.get(..heard.octets.len().min(48)).unwrap_or_default().escape_ascii();
    findings.bad("greeting", format_args!("it says \"{shown}\""));
    let begins = |text: &[u8]| heard.octets.starts_with(text);
    let what = if begins(b"HTTP/") {
        "an HTTP server"
    } else if begins(b"SSH-") {
        "an SSH server"
    } else if begins(&[0x15, 0x03]) || begins(&[0x16, 0x03]) {
        "a TLS server (try tls://)"
    } else if begins(b"-ERR") {
        "Redis, by its error"
    } else if begins(b"220") {
        "a mail or FTP server"
    } else if begins(&[0xff]) && matches!(end, End::Silent) {
        "a peer that began a ZMTP greeting and never ended it"
    } else {
        "no ZeroMQ peer, or one of ZMTP 1.0, which can't be told from noise"
    };
    findings.judge(
        Verdict::NotZeromq,
        format_args!("what answers there is {what}"),
        "check host and port; `ss -ltnp` on that host shows who listens".to_owned(),
    )
}

fn mechanism_advice(theirs: &str) -> Option<String> {
    Some(match theirs {
        "CURVE" => {
            "bring keys: --keys DIRECTORY (`tidings key new` makes them) and --server-key if several are trusted"
                .to_owned()
        }
        "PLAIN" => "bring a user and a password: --plain-user NAME --plain-password-file FILE".to_owned(),
        "NULL" => "leave out --keys: this listener does not encrypt".to_owned(),
        "GSSAPI" => "GSSAPI is not spoken here; have the peer offer CURVE".to_owned(),
        _ => "configure both sides alike".to_owned(),
    })
}

fn refusal(reason: &str) -> String {
    match reason {
        "300" => "the peer can't decide now whether to let us in (300)".to_owned(),
        "400" => "the peer knows who we are, or that it does not know us, and does not let us in (400)".to_owned(),
        "500" => "the peer's authenticator failed (500)".to_owned(),
        reason => format!("the peer refuses: {reason:?}"),
    }
}

fn refusal_advice(mechanism: &MechanismConfig) -> Option<String> {
    Some(match mechanism {
        MechanismConfig::CurveClient(_) => {
            "have the peer trust our key: `tidings key export` here, `tidings key trust` there".to_owned()
        }
        MechanismConfig::PlainClient(_) => "check user and password".to_owned(),
        _ => "look at the peer's rules for addresses, and at its log".to_owned(),
    })
}

fn tls_advice(error: &TlsError) -> Option<String> {
    error.is_definite().then(|| "compare the certificates: `openssl s_client -connect HOST:PORT -showcerts`".to_owned())
}

const SERVER_KEY: &str = "compare the key's fingerprint with the server's: `tidings key show` on both sides; \
                          --server-key says which one to use";

/// What is kept of what the peer says: more than any handshake of a sound peer
const HEARD_LIMIT: usize = 64 * 1024;

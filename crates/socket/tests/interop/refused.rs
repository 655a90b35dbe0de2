//! PLAIN and CURVE: who is refused how by ours and by libzmq, and what each side is told.
//!
//! Each case is tried until both sides have said what they saw. The list is printed, and kept for `cargo xtask interop`.

use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use tidings_socket::{ConnectError, Context, EventKind, Options, SocketType};

use crate::guard::{self, Known, PASSWORD, USER};
use crate::peer::{Peer, encode};
use crate::waiting::{PATIENCE, event, within};

/// What our server says of a client of libzmq's, and what that is told: a monitor event and its value
struct Theirs {
    label: &'static str,
    server: Options,
    known: Option<Known>,
    client: Value,
    /// The reason's name at our side
    /// One of these, for each side may be the first to close
    ours: &'static [&'static str],
    told: (&'static str, Option<u64>),
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn libzmqs_clients_are_refused_by_ours() -> Result<()> {
    let Some(mut peer) = Peer::start().await? else { return Ok(()) };
    let (server, stranger) = (guard::server_key().public(), guard::fresh_key());
    let curve = || guard::our_curve_server(Options::new());
    let plain = || Options::new().plain_server(true);
    let good = || guard::their_curve_client(guard::client_key(), server);
    let auth = ("HANDSHAKE_FAILED_AUTH", Some(400));
    let gone = ("DISCONNECTED", None);
    let known = || Some(Known::default());
    let cases = [
        Theirs {
            label: "CURVE, wrong server key",
            server: curve(),
            known: known(),
            client: guard::their_curve_client(guard::client_key(), stranger.public()),
            ours: &["hello-not-opened"],
            told: gone,
        },
        Theirs {
            label: "CURVE, unknown client key",
            server: curve(),
            known: known(),
            client: guard::their_curve_client(&stranger, server),
            ours: &["denied"],
            told: auth,
        },
        Theirs {
            label: "CURVE, revoked client key",
            server: curve(),
            known: Some(Known { revoked: true, ..Known::default() }),
            client: good(),
            ours: &["denied"],
            told: auth,
        },
        Theirs {
            label: "CURVE, denied address",
            server: curve(),
            known: Some(Known { denied: vec!["127.0.0.1".into()], ..Known::default() }),
            client: good(),
            ours: &["denied"],
            told: auth,
        },
        Theirs {
            label: "CURVE, nobody to ask, enforced",
            server: curve().zap_domain("hall".into()).zap_enforce_domain(true),
            known: None,
            client: good(),
            ours: &["no-authenticator"],
            told: ("HANDSHAKE_FAILED_AUTH", Some(500)),
        },
        Theirs {
            label: "CURVE server, PLAIN client",
            server: curve(),
            known: known(),
            client: guard::their_plain_client(USER, PASSWORD),
            ours: &["mechanism-mismatch", "peer-closed", "transport-failed"],
            told: ("HANDSHAKE_FAILED_PROTOCOL", None),
        },
        Theirs {
            label: "CURVE server, NULL client",
            server: curve(),
            known: known(),
            client: json!({}),
            ours: &["mechanism-mismatch", "peer-closed", "transport-failed"],
            told: ("HANDSHAKE_FAILED_PROTOCOL", None),
        },
        // libzmq's PLAIN expects its own misspelt ^RROR, and takes a right ERROR for a breach of the protocol
        Theirs {
            label: "PLAIN, wrong password",
            server: plain(),
            known: known(),
            client: guard::their_plain_client(USER, "wander"),
            ours: &["denied"],
            told: gone,
        },
        Theirs {
            label: "PLAIN, wrong user",
            server: plain(),
            known: known(),
            client: guard::their_plain_client("jim", PASSWORD),
            ours: &["denied"],
            told: gone,
        },
        Theirs {
            label: "PLAIN, nobody to ask",
            server: plain(),
            known: None,
            client: guard::their_plain_client(USER, PASSWORD),
            ours: &["no-authenticator"],
            told: gone,
        },
        Theirs {
            label: "NULL with a domain, denied address",
            server: Options::new().zap_domain("hall".into()),
            known: Some(Known { denied: vec!["127.0.0.1".into()], ..Known::default() }),
            client: json!({}),
            ours: &["denied"],
            told: auth,
        },
    ];
    let mut list =
        String::from("who refuses, and why                           what the server says     what the client says\n");
    for Theirs { label, server, known, client, ours, told } in cases {
        let context = Context::new();
        context.set_authenticator(known.map(|known| Arc::new(known) as _));
        let pull = context.socket_with(SocketType::Pull, server)?;
        let mut events = pull.events();
        let endpoint = pull.bind("tcp://127.0.0.1:*")?.await?.to_string();
        let id = peer.open("PUSH", client).await?;
        peer.connect(&id, &endpoint).await?;
        let reason = event(&mut events, "handshake-failed", |event| match event.kind {
            EventKind::HandshakeFailed { reason, .. } => Some(reason),
            _ => None,
        })
        .await
        .context(label)?;
        ensure!(ours.contains(&reason), "{label}: ours says {reason}, not one of {ours:?}");
        let value = peer.monitor(&id, told.0).await.with_context(|| format!("{label}: {:?}", told.0))?;
        ensure!(told.1.is_none_or(|wanted| wanted == value), "{label}: libzmq was told {value}");
        let value = told.1.map_or_else(String::new, |value| format!(" {value}"));
        writeln!(list, "{:<46} {reason:<24} {}{value}", format!("ours; {label}"), told.0)?;
        peer.close(&id).await?;
    }
    keep("ours", &list)
}

/// What libzmq's server is set to, and what our client makes of its refusal
struct Ours {
    label: &'static str,
    server: Value,
    client: Options,
    code: &'static [&'static str],
    says: &'static str,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn our_clients_are_refused_by_libzmq() -> Result<()> {
    let Some(mut peer) = Peer::start().await? else { return Ok(()) };
    guard::post(&mut peer).await?;
    let (server, stranger) = (guard::server_key().public(), guard::fresh_key());
    let quick = || Options::new().reconnect_interval(Some(Duration::from_millis(10)));
    let curve_client = |own, server| guard::our_curve_client(quick(), own, server);
    let plain_server = || json!({"PLAIN_SERVER": 1});
    let cases = [
        Ours {
            label: "CURVE, wrong server key",
            server: guard::their_curve_server(),
            client: curve_client(guard::client_key(), stranger.public()),
            code: &["peer-closed"],
            says: "curve_server_key is not that server's key",
        },
        Ours {
            label: "CURVE, unknown client key",
            server: guard::their_curve_server(),
            client: curve_client(&stranger, server),
            code: &["400"],
            says: "refused",
        },
        Ours {
            label: "CURVE server, PLAIN client",
            server: guard::their_curve_server(),
            client: guard::our_plain_client(quick(), USER, PASSWORD),
            code: &["mechanism-mismatch", "peer-closed"],
            says: "",
        },
        Ours {
            label: "CURVE server, NULL client",
            server: guard::their_curve_server(),
            client: quick(),
            code: &["mechanism-mismatch", "peer-closed"],
            says: "",
        },
        Ours {
            label: "PLAIN, wrong password",
            server: plain_server(),
            client: guard::our_plain_client(quick(), USER, "wander"),
            code: &["400"],
            says: "refused",
        },
        Ours {
            label: "PLAIN, wrong user",
            server: plain_server(),
            client: guard::our_plain_client(quick(), "jim", PASSWORD),
            code: &["400"],
            says: "refused",
        },
    ];
    let mut list = String::new();
    for case in cases {
        refused(&mut peer, case, &mut list).await?;
    }
    // Its authenticator gives up its name only with its process
    let mut peer = peer.restart().await?;
    peer.tell(json!({"op": "authenticate", "deny": ["127.0.0.1"], "users": [format!("{USER}:{PASSWORD}")]})).await?;
    for (label, server, client) in [
        ("PLAIN, denied address", plain_server(), guard::our_plain_client(quick(), USER, PASSWORD)),
        ("CURVE, denied address", guard::their_curve_server(), curve_client(guard::client_key(), server)),
        ("NULL with a domain, denied address", json!({"ZAP_DOMAIN": encode(b"hall")}), quick()),
    ] {
        refused(&mut peer, Ours { label, server, client, code: &["400"], says: "refused" }, &mut list).await?;
    }
    keep("theirs", &list)
}

async fn refused(peer: &mut Peer, case: Ours, list: &mut String) -> Result<()> {
    let Ours { label, server, client, code, says } = case;
    let id = peer.open("PULL", server).await?;
    let endpoint = peer.bind(&id, "tcp://127.0.0.1:*").await?;
    let push = Context::new().socket_with(SocketType::Push, client)?;
    let outcome = within(PATIENCE, label, push.connect(endpoint)?).await?;
    let told = match outcome {
        Err(ConnectError::Refused { code: told, reason, .. }) => {
            ensure!(code.contains(&told.as_str()) && reason.contains(says), "{label}: ({told}) {reason}");
            told
        }
        other => anyhow::bail!("{label}: {other:?}"),
    };
    let seen = peer.events(&id).await?;
    let failed = seen.iter().find(|event| event.starts_with("HANDSHAKE_FAILED")).cloned().unwrap_or_default();
    writeln!(list, "{:<46} {failed:<24} {told}", format!("libzmq; {label}"))?;
    peer.close(&id).await
}

/// A handler of any kind in front of libzmq's server, and what our client makes of each answer
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_answer_of_a_handler_of_libzmqs_reaches_our_client() -> Result<()> {
    let Some(mut peer) = Peer::start().await? else { return Ok(()) };
    let handler = peer.open("REP", json!({})).await?;
    peer.bind(&handler, "inproc://zeromq.zap.01").await?;
    for (status, code) in [("400", "400"), ("500", "500")] {
        let id = peer.open("PULL", guard::their_curve_server()).await?;
        let endpoint = peer.bind(&id, "tcp://127.0.0.1:*").await?;
        let options = guard::our_curve_client(Options::new(), guard::client_key(), guard::server_key().public());
        let push = Context::new().socket_with(SocketType::Push, options)?;
        let connecting = push.connect(endpoint)?;
        let request = peer.recv(&handler).await?;
        ensure!(request[6] == guard::client_key().public().as_octets()[..], "the key that ours showed: {request:?}");
        peer.send(&handler, &[&b"1.0"[..], &request[1], status.as_bytes(), b"", b"", b""]).await?;
        let error = within(PATIENCE, status, connecting).await?.err().context("let in")?;
        ensure!(matches!(&error, ConnectError::Refused { code: told, .. } if told == code), "{status}: {error}");
        peer.close(&id).await?;
    }
    Ok(())
}

/// Both roles with the server on the side that connects, a user id from either authenticator
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_may_connect_and_each_side_knows_the_user() -> Result<()> {
    let Some(mut peer) = Peer::start().await? else { return Ok(()) };
    guard::post(&mut peer).await?;
    let (server, client) = (guard::server_key().public(), guard::client_key());
    for (label, ours, theirs, we_serve) in [
        ("PLAIN", Options::new().plain_server(true), guard::their_plain_client(USER, PASSWORD), true),
        ("PLAIN", guard::our_plain_client(Options::new(), USER, PASSWORD), json!({"PLAIN_SERVER": 1}), false),
        ("CURVE", guard::our_curve_server(Options::new()), guard::their_curve_client(client, server), true),
        ("CURVE", guard::our_curve_client(Options::new(), client, server), guard::their_curve_server(), false),
    ] {
        let context = Context::new();
        context.set_authenticator(Some(Arc::new(Known::default())));
        let socket = context.socket_with(SocketType::Dealer, ours)?;
        let id = peer.open("DEALER", theirs).await?;
        // The server connects
        match we_serve {
            true => {
                let endpoint = peer.bind(&id, "tcp://127.0.0.1:*").await?;
                within(PATIENCE, label, socket.connect(endpoint)?).await??;
            }
            false => {
                let endpoint = socket.bind("tcp://127.0.0.1:*")?.await?.to_string();
                peer.connect(&id, &endpoint).await?;
                peer.monitor(&id, "HANDSHAKE_SUCCEEDED").await?;
            }
        }
        peer.send(&id, &[b"hello"]).await?;
        let received = within(PATIENCE, label, socket.recv_from()).await??;
        let user = match (we_serve, label) {
            (true, "PLAIN") => USER.to_owned(),
            (true, _) => client.public().to_string(),
            (false, _) => String::new(),
        };
        ensure!(received.from.user_id == user && received.from.mechanism == label, "{label}: {:?}", received.from);
        within(PATIENCE, "ready", socket.ready(1, PATIENCE)).await??;
        socket.send("back".into()).await?;
        let answer = peer.tell(json!({"op": "recv", "id": id, "metadata": ["User-Id"]})).await?;
        let told = answer["metadata"]["User-Id"].as_str().unwrap_or_default();
        let known = match (we_serve, label) {
            (false, "PLAIN") => USER.to_owned(),
            (false, _) => client.public().to_string(),
            (true, _) => String::new(),
        };
        ensure!(told == known, "{label}: libzmq's application knows {told:?}, not {known:?}");
        peer.close(&id).await?;
    }
    Ok(())
}

/// Prints a part of the list, and leaves it where `cargo xtask interop` looks
fn keep(part: &str, list: &str) -> Result<()> {
    println!("{list}");
    if let Some(path) = std::env::var_os("TIDINGS_INTEROP_REFUSED") {
        let path = std::path::PathBuf::from(path).with_extension(part);
        std::fs::write(&path, list).with_context(|| format!("can't write {}", path.display()))?;
    }
    Ok(())
}

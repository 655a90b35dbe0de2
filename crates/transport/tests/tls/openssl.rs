//! `openssl s_server` and `s_client` as the other side.
//!
//! Without the program the tests are skipped, unless `CI` or `TIDINGS_REQUIRE_PEERS` is set: then they fail.

use std::env;
use std::fs;
use std::path::PathBuf;
use std::process::Stdio;

use tidings_transport::{Stream, TlsError, TlsPeer, TlsSettings};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::process::{Child, Command};

use crate::authority::{Authority, Dates, Folder, Identity};
use crate::{PATIENCE, endpoint, tls_error, told, with};

const VERSIONS: [(&str, &str); 2] = [("-tls1_2", "TLS 1.2"), ("-tls1_3", "TLS 1.3")];

/// Whether the program is there; the reason why not is printed, or fails the test
fn openssl_is_there() -> bool {
    let there = std::process::Command::new("openssl").arg("version").output().is_ok_and(|run| run.status.success());
    let required = env::var_os("CI").is_some() || env::var("TIDINGS_REQUIRE_PEERS").is_ok_and(|value| value == "1");
    assert!(there || !required, "openssl is required here and missing: install it");
    if !there {
        println!("skipped: openssl is not installed");
    }
    there
}

/// The certificates of all cases
struct Cast {
    folder: Folder,
    root: Authority,
    middle: Authority,
    foreign: Authority,
}

impl Cast {
    fn new() -> Self {
        let root = Authority::root("root");
        let middle = root.intermediate("middle");
        let cast = Self { folder: Folder::new(), root, middle, foreign: Authority::root("foreign") };
        cast.folder.write("root.pem", cast.root.pem());
        cast
    }

    fn root(&self) -> PathBuf {
        self.folder.path().join("root.pem")
    }

    /// What tells openssl to show `identity`
    fn shown(&self, identity: &Identity) -> Vec<String> {
        let (certificate, key) = identity.write(&self.folder, "theirs");
        let mut arguments = vec!["-cert".to_owned(), text(&certificate), "-key".to_owned(), text(&key)];
        if !identity.intermediates().is_empty() {
            let intermediates = self.folder.write("intermediates.pem", identity.intermediates());
            arguments.extend(["-cert_chain".to_owned(), text(&intermediates)]);
        }
        arguments
    }

    /// What has openssl verify its peer
    fn verifying(&self) -> Vec<String> {
        vec!["-CAfile".to_owned(), text(&self.root()), "-verify_return_error".to_owned()]
    }
}

fn text(path: &std::path::Path) -> String {
    path.display().to_string()
}

fn start(arguments: &[String]) -> Child {
    Command::new("openssl")
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap()
}

/// What openssl says went wrong: its verdict on a certificate, or the reason of its error
fn verdict(output: &str) -> String {
    let verified = output.lines().find_map(|line| line.split_once("verify error:").map(|(_, verdict)| verdict));
    let reason = output.lines().find_map(|line| line.split_once(":SSL routines:").map(|(_, rest)| rest));
    match (verified, reason) {
        (Some(verdict), _) => verdict.rsplit_once(':').map_or(verdict, |(_, words)| words).to_owned(),
        (None, Some(reason)) => reason.split(':').nth(1).unwrap_or(reason).to_owned(),
        (None, None) => "ok".to_owned(),
    }
}

struct Row {
    case: String,
    ours: &'static str,
    theirs: String,
}

fn print(title: &str, rows: &[Row]) {
    println!("\n{title:<44} we                    openssl");
    for Row { case, ours, theirs } in rows {
        println!("{case:<44} {ours:<21} {theirs}");
    }
}

/// Sends a line and has it back reversed
async fn ask_reversed(stream: &mut Stream) -> Result<TlsPeer, TlsError> {
    let peer = stream.handshake().await?.unwrap();
    let mut back = [0; 5];
    let exchange = async {
        stream.write_all(b"ping\n").await?;
        stream.flush().await?;
        stream.read_exact(&mut back).await?;
        stream.shutdown().await
    };
    exchange.await.map_err(tls_error)?;
    assert_eq!(&back, b"gnip\n");
    Ok(peer)
}

#[tokio::test]
async fn our_client_and_the_servers_of_openssl() {
    if !openssl_is_there() {
        return;
    }
    let cast = Cast::new();
    let names = ["127.0.0.1", "hub.example"];
    let good = cast.middle.issue(&names, Dates::Valid);
    let node = cast.middle.issue(&["node"], Dates::Valid);
    let foreign_node = cast.foreign.issue(&["node"], Dates::Valid);
    let expired_node = cast.root.issue(&["node"], Dates::Expired);
    let trusting = || TlsSettings::client().authorities(vec![cast.root()]);
    let showing = |identity: &Identity| identity.client(&cast.folder, "ours").authorities(vec![cast.root()]);
    let mutual = || [cast.verifying(), vec!["-Verify".to_owned(), "3".to_owned()]].concat();
    let plain = Vec::new;
    let with_pin = |pin| TlsSettings::client().pinned(vec![pin]);
    let cases = [
        ("chain of three", &good, plain(), trusting(), "ok", "ok"),
        ("name set", &good, plain(), trusting().peer_name(Some(names[1].to_owned())), "ok", "ok"),
        (
            "wrong name",
            &good,
            plain(),
            trusting().peer_name(Some("other.example".to_owned())),
            "tls-wrong-name",
            "alert bad certificate",
        ),
        (
            "expired",
            &cast.root.issue(&names, Dates::Expired),
            plain(),
            trusting(),
            "tls-expired",
            "alert certificate expired",
        ),
        (
            "not yet valid",
            &cast.root.issue(&names, Dates::NotYet),
            plain(),
            trusting(),
            "tls-not-yet-valid",
            "alert certificate expired",
        ),
        (
            "foreign authority",
            &cast.foreign.issue(&names, Dates::Valid),
            plain(),
            trusting(),
            "tls-unknown-authority",
            "alert unknown ca",
        ),
        ("pinned", &good, plain(), with_pin(good.pin), "ok", "ok"),
        ("wrong pin", &good, plain(), with_pin(node.pin), "tls-pin-mismatch", "alert certificate unknown"),
        ("mutual", &good, mutual(), showing(&node), "ok", "ok"),
        ("mutual, none shown", &good, mutual(), trusting(), "tls-refused", "peer did not return a certificate"),
        (
            "mutual, foreign",
            &good,
            mutual(),
            showing_as(&cast, &foreign_node, "foreign"),
            "tls-refused",
            "unable to get local issuer certificate",
        ),
        (
            "mutual, expired",
            &good,
            mutual(),
            showing_as(&cast, &expired_node, "expired"),
            "tls-refused",
            "certificate has expired",
        ),
    ];
    let mut rows = Vec::new();
    for (case, identity, extra, builder, ours, theirs) in cases {
        let settings = builder.build().unwrap();
        for (flag, version) in VERSIONS {
            let listen = ["s_server", "-accept", "127.0.0.1:0", "-naccept", "1", "-rev", flag].map(str::to_owned);
            let arguments = [listen.to_vec(), cast.shown(identity), extra.clone()].concat();
            let run = async {
                let mut server = start(&arguments);
                let mut output = BufReader::new(server.stdout.take().unwrap());
                let address = accepting(&mut output).await;
                let mut near = tidings_transport::dial(&endpoint(&format!("tls://{address}")), &with(&settings)).await;
                let outcome = ask_reversed(near.as_mut().unwrap()).await;
                drop(near);
                let mut rest = String::new();
                output.read_to_string(&mut rest).await.unwrap();
                let ended = server.wait_with_output().await.unwrap();
                (outcome, rest + &String::from_utf8_lossy(&ended.stderr))
            };
            let (outcome, output) = tokio::time::timeout(PATIENCE, run).await.unwrap();
            if let Ok(peer) = &outcome {
                assert_eq!(peer.version, version);
            }
            rows.push((
                case,
                version,
                ours,
                theirs,
                told(&outcome),
                verdict(&output),
                format!("{outcome:?}\n{output}"),
            ));
        }
    }
    finish("our client, openssl s_server", rows);
}

fn showing_as(cast: &Cast, identity: &Identity, name: &str) -> tidings_transport::TlsSettingsBuilder {
    identity.client(&cast.folder, name).authorities(vec![cast.root()])
}

/// The address that s_server says it accepts on
async fn accepting(output: &mut (impl AsyncBufReadExt + Unpin)) -> String {
    let mut line = String::new();
    while output.read_line(&mut line).await.unwrap() > 0 {
        if let Some((_, address)) = line.trim_end().split_once("ACCEPT ") {
            return address.to_owned();
        }
        line.clear();
    }
    panic!("s_server ended before it accepted anything");
}

type Outcome = (&'static str, &'static str, &'static str, &'static str, &'static str, String, String);

/// Prints what each side saw, and then fails if a case went otherwise than it should
fn finish(title: &str, outcomes: Vec<Outcome>) {
    let rows: Vec<_> = outcomes
        .iter()
        .map(|(case, version, _, _, ours, theirs, _)| Row {
            case: format!("{version}  {case}"),
            ours,
            theirs: theirs.clone(),
        })
        .collect();
    print(title, &rows);
    for (case, version, expected_of_us, expected_of_them, ours, theirs, whole) in outcomes {
        assert_eq!(ours, expected_of_us, "{case}, {version}: {whole}");
        assert!(theirs.contains(expected_of_them), "{case}, {version}: {theirs:?} {whole}");
    }
}

/// One question from s_client, and the answer to it
async fn answer_and_leave(stream: &mut Stream) -> Result<TlsPeer, TlsError> {
    let peer = stream.handshake().await?.unwrap();
    let exchange = async {
        let mut question = [0; 4];
        stream.read_exact(&mut question).await?;
        assert_eq!(&question, b"ping");
        stream.write_all(b"pong").await?;
        stream.shutdown().await
    };
    exchange.await.map_err(tls_error)?;
    Ok(peer)
}

#[tokio::test]
async fn our_server_and_the_clients_of_openssl() {
    if !openssl_is_there() {
        return;
    }
    let cast = Cast::new();
    let names = ["127.0.0.1", "hub.example"];
    let server = |identity: &Identity, name: &str| identity.server(&cast.folder, name);
    let good = cast.middle.issue(&names, Dates::Valid);
    let mutual = || server(&good, "good").authorities(vec![cast.root()]);
    let node = cast.middle.issue(&["node"], Dates::Valid);
    let showing = |identity: &Identity| [cast.verifying(), cast.shown(identity)].concat();
    let named = |name: &str| [cast.verifying(), vec!["-verify_hostname".to_owned(), name.to_owned()]].concat();
    let cases = [
        ("chain of three", server(&good, "good"), named(names[1]), "ok", "ok"),
        ("wrong name", server(&good, "good"), named("other.example"), "tls-refused", "hostname mismatch"),
        (
            "expired",
            server(&cast.root.issue(&names, Dates::Expired), "expired"),
            cast.verifying(),
            "tls-refused",
            "certificate has expired",
        ),
        (
            "foreign authority",
            server(&cast.foreign.issue(&names, Dates::Valid), "foreign"),
            cast.verifying(),
            "tls-refused",
            "unable to get local issuer certificate",
        ),
        ("mutual", mutual(), showing(&node), "ok", "ok"),
        ("mutual by pin", server(&good, "good").pinned(vec![node.pin]), showing(&node), "ok", "ok"),
        ("mutual, none shown", mutual(), cast.verifying(), "tls-no-certificate", "alert"),
    ];
    let mut outcomes = Vec::new();
    for (case, builder, extra, ours, theirs) in cases {
        outcomes.extend(s_client(case, builder, &extra, ours, theirs).await);
    }
    // Each writes the files that the one before it had shown
    for (case, identity, ours, theirs) in [
        ("mutual, foreign", cast.foreign.issue(&["node"], Dates::Valid), "tls-unknown-authority", "alert unknown ca"),
        ("mutual, expired", cast.root.issue(&["node"], Dates::Expired), "tls-expired", "alert certificate expired"),
        (
            "mutual, not yet",
            cast.root.issue(&["node"], Dates::NotYet),
            "tls-not-yet-valid",
            "alert certificate expired",
        ),
    ] {
        outcomes.extend(s_client(case, mutual(), &showing(&identity), ours, theirs).await);
    }
    let pinned = server(&good, "good").pinned(vec![good.pin]);
    outcomes.extend(
        s_client("mutual, wrong pin", pinned, &showing(&node), "tls-pin-mismatch", "alert certificate unknown").await,
    );
    finish("our server, openssl s_client", outcomes);
}

/// Both versions of s_client against a listener of ours
async fn s_client(
    case: &'static str,
    builder: tidings_transport::TlsSettingsBuilder,
    extra: &[String],
    ours: &'static str,
    theirs: &'static str,
) -> Vec<Outcome> {
    let settings = builder.build().unwrap();
    let listener = tidings_transport::listen(&endpoint("tls://127.0.0.1:*"), &with(&settings)).await.unwrap();
    let address = listener.local_endpoint().to_string().replace("tls://", "");
    let mut outcomes = Vec::new();
    for (flag, version) in VERSIONS {
        let connect = ["s_client", "-connect", &address, "-quiet", flag].map(str::to_owned);
        let run = async {
            let mut client = start(&[&connect, extra].concat());
            let mut question = client.stdin.take().unwrap();
            // A client that was refused may be gone already
            question.write_all(b"ping").await.ok();
            let mut far = listener.accept().await.unwrap();
            let outcome = answer_and_leave(&mut far).await;
            drop(far);
            let ended = client.wait_with_output().await.unwrap();
            drop(question);
            if outcome.is_ok() {
                assert_eq!(ended.stdout, b"pong");
            }
            (outcome, String::from_utf8_lossy(&ended.stderr).into_owned())
        };
        let (outcome, output) = tokio::time::timeout(PATIENCE, run).await.unwrap();
        if let Ok(peer) = &outcome {
            assert_eq!(peer.version, version);
        }
        let whole = format!("{outcome:?}\n{output}");
        outcomes.push((case, version, ours, theirs, told(&outcome), verdict(&output), whole));
    }
    outcomes
}

#[tokio::test]
async fn keys_in_each_of_the_three_formats_are_read() {
    if !openssl_is_there() {
        return;
    }
    let folder = Folder::new();
    let path = |name: &str| text(&folder.path().join(name));
    let run = |arguments: &[&str]| {
        let ran = std::process::Command::new("openssl").args(arguments).output().unwrap();
        assert!(ran.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&ran.stderr));
    };
    for (algorithm, option, traditional) in [
        ("RSA", "rsa_keygen_bits:2048", "-----BEGIN RSA PRIVATE KEY-----"),
        ("EC", "ec_paramgen_curve:P-256", "-----BEGIN EC PRIVATE KEY-----"),
    ] {
        run(&["genpkey", "-algorithm", algorithm, "-pkeyopt", option, "-out", &path("pkcs8.key")]);
        run(&["pkey", "-in", &path("pkcs8.key"), "-traditional", "-out", &path("traditional.key")]);
        let (key, certificate) = (path("pkcs8.key"), path("hub.pem"));
        let name = ["-subj", "/CN=hub", "-addext", "subjectAltName=DNS:hub"];
        run(&[&["req", "-x509", "-days", "2", "-key", &key, "-out", &certificate], &name[..]].concat());
        for (file, first_line) in [("pkcs8.key", "-----BEGIN PRIVATE KEY-----"), ("traditional.key", traditional)] {
            // As strict tools leave it
            let pem = fs::read_to_string(path(file)).unwrap();
            assert!(pem.starts_with(first_line), "{algorithm}");
            let key = folder.write("hub.key", &pem);
            TlsSettings::server().certificate(certificate.clone().into()).key(key).build().unwrap();
        }
    }
}

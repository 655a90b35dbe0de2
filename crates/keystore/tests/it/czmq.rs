//! CZMQ as the peer: its `zcert` files in our keystore and ours in its hands, its `zauth` and ours, in both roles.
//!
//! The peer is `tests/peers/czmq_peer.c`, built here with the system's compiler against Debian's libczmq-dev. Where that
//! is missing a person is told and the tests pass; where `CI` or `TIDINGS_REQUIRE_PEERS=1` is set they fail.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::OnceLock;
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use tempfile::TempDir;
use tidings_keystore::{Certificate, Keystore, NewKey};
use tidings_socket::SocketType::{Rep, Req};
use tidings_socket::{ConnectError, Context, EventKind, Message, Options};
use tokio::time::timeout;

#[test]
fn certificates_are_read_on_either_side() {
    let Some(peer) = peer() else { return };
    let directory = tempfile::tempdir().unwrap();
    let theirs = directory.path().join("theirs");
    let made =
        said(Command::new(peer).arg("cert-new").arg(&theirs).args(["name=hub", "email=a@b", "quote=it's # ours"]));
    let ours = Certificate::load(&theirs).unwrap();
    assert_eq!(line(&made, "public "), ours.public_key.to_string());
    assert_eq!(line(&made, "secret "), ours.secret_key.as_ref().unwrap().to_z85().as_str());
    assert_eq!(ours.word("email"), Some("a@b"));
    assert_eq!(ours.word("quote"), Some("it's # ours"));

    let keystore = Keystore::create(directory.path().join("keys")).unwrap();
    let key = keystore.make_key(&"north".parse().unwrap(), &NewKey::default()).unwrap();
    let loaded = said(Command::new(peer).arg("cert-load").arg(&key.path));
    assert_eq!(line(&loaded, "public "), key.public_key.to_string());
    assert_eq!(line(&loaded, "secret "), key.secret.to_z85().as_str());
    println!("CZMQ: certificates of either side are read by the other, metadata with quotes and # included");
}

#[tokio::test]
async fn their_client_is_let_in_by_our_keystore() {
    let Some(peer) = peer() else { return };
    let hub = Hub::new().await;
    let own = hub.path("their-client");
    said(Command::new(peer).arg("cert-new").arg(&own).arg("name=whatever it says"));
    let knock = |own: &Path| {
        let mut ask = Command::new(peer);
        ask.arg("client").arg(own).arg(&hub.public).arg(&hub.at).arg("hello").stdout(Stdio::piped());
        tokio::task::spawn_blocking(move || said(&mut ask))
    };
    // Unknown: refused, and the hub says why
    let mut events = hub.rep.events();
    let unknown = knock(&own);
    let denied = soon(async {
        loop {
            if let EventKind::Denied { reason, .. } = events.next().await.unwrap().kind {
                break reason;
            }
        }
    });
    assert!(denied.await.contains("unknown"));
    assert_eq!(soon(unknown).await.unwrap(), ["silence"]);

    hub.keys
        .trust(&Certificate::load_public(&own).unwrap(), &"czmq".parse().unwrap(), vec!["sensor".into()], None, None)
        .unwrap();
    let answer = knock(&own);
    let request = soon(hub.rep.recv_from()).await.unwrap();
    assert_eq!(request.message, Message::from("hello"));
    // The name that we gave to the key, not what its owner says
    assert_eq!(&request.from.user_id[..], b"czmq");
    soon(hub.rep.send(request.message)).await.unwrap();
    assert_eq!(soon(answer).await.unwrap(), ["reply hello"]);
    println!("CZMQ client, our server and keystore: unknown key 400 and silence there; trusted key, user id czmq");
}

#[tokio::test]
async fn our_client_is_let_in_by_their_zauth() {
    let Some(peer) = peer() else { return };
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name);
    said(Command::new(peer).arg("cert-new").arg(path("server")));
    let keystore = Keystore::create(path("keys")).unwrap();
    let own = keystore.make_key(&"north".parse().unwrap(), &NewKey::default()).unwrap();
    keystore
        .trust(&Certificate::load_public(path("server")).unwrap(), &"hub".parse().unwrap(), vec![], None, None)
        .unwrap();
    fs::create_dir(path("allowed")).unwrap();
    let mut server = Served::start(peer, &path("server"), &path("allowed"), "global");
    let at = format!("tcp://127.0.0.1:{}", server.line().strip_prefix("port ").unwrap());
    let options = Options::of(Req)
        .curve_secret_key(Some(own.secret.clone()))
        .curve_server_key(Some(keystore.peer("hub").unwrap().public_key));
    let context = Context::new();

    let stranger = context.socket_with(Req, options.clone()).unwrap();
    let error = soon(stranger.connect(&*at).unwrap()).await.unwrap_err();
    assert!(matches!(&error, ConnectError::Refused { code, .. } if code == "400"), "{error}");

    // What `tidings key` wrote is what zauth reads
    fs::copy(&own.path, path("allowed/north.key")).unwrap();
    let mut server = Served::start(peer, &path("server"), &path("allowed"), "global");
    let at = format!("tcp://127.0.0.1:{}", server.line().strip_prefix("port ").unwrap());
    let friend = context.socket_with(Req, options).unwrap();
    soon(friend.connect(&*at).unwrap()).await.unwrap();
    let reply = soon(friend.request(Message::from("hello"), PATIENCE)).await.unwrap();
    assert_eq!(reply, Message::from("hello"));
    assert_eq!(server.line(), format!("got {} hello", own.public_key));
    println!(
        "our client, CZMQ server with zauth: unknown key Refused 400 here; our certificate file in its store, let in"
    );
}

/// A REP under CURVE with a keystore, and its public certificate as a file
struct Hub {
    directory: TempDir,
    keys: Keystore,
    rep: tidings_socket::Socket,
    at: String,
    public: PathBuf,
}

impl Hub {
    async fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let keys = Keystore::create(directory.path().join("keys")).unwrap();
        let own = keys.make_key(&"hub".parse().unwrap(), &NewKey::default()).unwrap();
        let context = Context::new();
        context.set_authenticator(Some(keys.authenticator()));
        let options = Options::of(Rep).curve_server(true).curve_secret_key(Some(own.secret.clone()));
        let rep = context.socket_with(Rep, options).unwrap();
        let at = soon(rep.bind("tcp://127.0.0.1:*").unwrap()).await.unwrap().to_string();
        // Alone in its folder, for CZMQ reads a secret file beside it too
        let public = directory.path().join("hub.cert");
        fs::copy(&own.path, &public).unwrap();
        Self { directory, keys, rep, at, public }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }
}

/// A server of CZMQ's, ended with the test
struct Served {
    child: Child,
    /// Its end is the server's
    _stdin: ChildStdin,
    lines: Receiver<String>,
}

impl Served {
    fn start(peer: &Path, own: &Path, allowed: &Path, domain: &str) -> Self {
        let mut command = Command::new(peer);
        command.arg("server").arg(own).arg(allowed).arg(domain).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let (stdin, stdout) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        let (sender, lines) = channel();
        std::thread::spawn(move || {
            BufReader::new(stdout).lines().map_while(Result::ok).try_for_each(|line| sender.send(line))
        });
        Self { child, _stdin: stdin, lines }
    }

    fn line(&mut self) -> String {
        self.lines.recv_timeout(PATIENCE).expect("the peer says something")
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// The built peer; `None`, with a word, where CZMQ is not installed and that is no failure
fn peer() -> Option<&'static Path> {
    static BUILT: OnceLock<Result<(TempDir, PathBuf), String>> = OnceLock::new();
    let built = BUILT.get_or_init(|| {
        let flags = Command::new("pkg-config").args(["--cflags", "--libs", "libczmq", "libzmq"]).output();
        let flags =
            flags.ok().filter(|output| output.status.success()).ok_or("libczmq-dev or pkg-config is missing")?;
        let directory = tempfile::tempdir().map_err(|error| error.to_string())?;
        let program = directory.path().join("czmq_peer");
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/peers/czmq_peer.c");
        let flags = String::from_utf8_lossy(&flags.stdout).into_owned();
        let mut compile = Command::new("cc");
        compile.arg("-O1").arg("-o").arg(&program).arg(source).args(flags.split_whitespace());
        let output = compile.output().map_err(|error| format!("can't run cc: {error}"))?;
        match output.status.success() {
            true => Ok((directory, program)),
            false => Err(String::from_utf8_lossy(&output.stderr).into_owned()),
        }
    });
    match built {
        Ok((_, program)) => Some(program),
        Err(why) => {
            let required = std::env::var_os("CI").is_some() || std::env::var_os("TIDINGS_REQUIRE_PEERS").is_some();
            assert!(!required, "the peer with CZMQ can't be built: {why}");
            println!("left out, as the peer with CZMQ can't be built: {why}");
            None
        }
    }
}

/// Runs a command to its end and gives its lines
fn said(command: &mut Command) -> Vec<String> {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).lines().map(str::to_owned).collect()
}

fn line<'a>(lines: &'a [String], start: &str) -> &'a str {
    lines.iter().find_map(|line| line.strip_prefix(start)).unwrap()
}

async fn soon<T>(future: impl IntoFuture<Output = T>) -> T {
    timeout(PATIENCE, future.into_future()).await.expect("it takes too long")
}

const PATIENCE: Duration = Duration::from_secs(30);

//! Who is let in through CURVE and PLAIN, as what, and what each side is told when keys change under a running server.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::time::Duration;

use tidings_keystore::{Certificate, Keystore, NewKey};
use tidings_socket::SocketType::{Dealer, Pull, Push};
use tidings_socket::{ConnectError, Context, Endpoint, EventKind, EventStream, Options, Received, Socket};
use tokio::time::timeout;

/// A hub that listens with CURVE, and north, each with a keystore that trusts the other
struct Pair {
    directory: tempfile::TempDir,
    hub: Keystore,
    north: Keystore,
    context: Context,
    pull: Socket,
    at: Endpoint,
}

impl Pair {
    async fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let keystore = |name: &str| {
            let keystore = Keystore::create(directory.path().join(name)).unwrap();
            let key = keystore.make_key(&name.parse().unwrap(), &NewKey::default()).unwrap();
            (keystore, Certificate::load_public(&key.path).unwrap())
        };
        let ((hub, hub_key), (north, north_key)) = (keystore("hub"), keystore("north"));
        hub.trust(&north_key, &"north".parse().unwrap(), vec!["sensor".to_owned()], None, None).unwrap();
        north.trust(&hub_key, &"hub".parse().unwrap(), vec![], None, None).unwrap();
        let context = Context::new();
        context.set_authenticator(Some(hub.authenticator()));
        let secret = hub.own_default().unwrap().secret.clone();
        let pull = context.socket_with(Pull, Options::new().curve_server(true).curve_secret_key(Some(secret))).unwrap();
        let at = soon(pull.bind("tcp://127.0.0.1:*").unwrap()).await.unwrap();
        Self { directory, hub, north, context, pull, at }
    }

    /// A socket that connects as this keystore says, to the hub that north trusts
    fn push(&self, keys: &Keystore) -> Socket {
        let own = keys.own_default().unwrap().secret.clone();
        let server = self.north.peer("hub").unwrap().public_key;
        let options = Options::new().curve_secret_key(Some(own)).curve_server_key(Some(server));
        Context::new().socket_with(Push, options).unwrap()
    }

    async fn send(&self, push: &Socket, text: &'static str) -> Received {
        soon(push.send(text.into())).await.unwrap();
        let received = soon(self.pull.recv_from()).await.unwrap();
        assert_eq!(received.message.first(), text.as_bytes());
        received
    }

    /// That the hub refuses it, in these words in its own event
    async fn refused(&self, push: &Socket, words: &str) {
        let mut events = self.pull.events();
        let error = soon(push.connect(&self.at).unwrap()).await.unwrap_err();
        let ConnectError::Refused { code, reason, .. } = &error else { panic!("{error}") };
        assert_eq!(code, "400");
        assert!(!reason.contains(words), "the peer is told no more than the code: {reason}");
        let denied = denied(&mut events).await;
        assert!(denied.starts_with(words), "{denied}");
    }
}

async fn soon<T>(future: impl IntoFuture<Output = T>) -> T {
    timeout(Duration::from_secs(30), future.into_future()).await.expect("it takes too long")
}

/// The reason of the next refusal
async fn denied(events: &mut EventStream) -> String {
    loop {
        if let EventKind::Denied { reason, .. } = soon(events.next()).await.expect("events go on").kind {
            return reason;
        }
    }
}

#[tokio::test]
async fn a_trusted_key_comes_in_by_its_name_and_roles() {
    let pair = Pair::new().await;
    let push = pair.push(&pair.north);
    soon(push.connect(&pair.at).unwrap()).await.unwrap();
    let received = pair.send(&push, "hello").await;
    assert_eq!((received.from.user_id.as_ref(), received.from.mechanism), (&b"north"[..], "CURVE"));
    assert_eq!(received.from.property("Name").unwrap(), "north");
    assert_eq!(received.from.property("Roles").unwrap(), "sensor");
    assert_eq!(pair.hub.authenticator().admitted(), 1);
}

#[tokio::test]
async fn an_unknown_key_is_refused_and_let_in_once_it_is_trusted() {
    let pair = Pair::new().await;
    let south = Keystore::create(pair.directory.path().join("south")).unwrap();
    let key = south.make_key(&"south".parse().unwrap(), &NewKey::default()).unwrap();
    pair.refused(&pair.push(&south), &format!("unknown-key: nobody has trusted the key {}", key.public_key)).await;
    assert_eq!(pair.hub.authenticator().refused()["unknown-key"], 1);

    // Another process trusts it; the running hub reads its files again
    let other = Keystore::open(pair.hub.directory()).unwrap();
    let certificate = Certificate::load_public(&key.path).unwrap();
    other.trust(&certificate, &"south".parse().unwrap(), vec![], None, None).unwrap();
    assert_eq!(pair.hub.reload().unwrap().to_string(), "+ trusted key south");
    let push = pair.push(&south);
    soon(push.connect(&pair.at).unwrap()).await.unwrap();
    assert_eq!(pair.send(&push, "again").await.from.user_id.as_ref(), b"south");
}

#[tokio::test]
async fn a_revoked_key_is_refused_and_who_is_in_stays() {
    let pair = Pair::new().await;
    let first = pair.push(&pair.north);
    soon(first.connect(&pair.at).unwrap()).await.unwrap();
    pair.send(&first, "before").await;
    pair.hub.revoke(&"north".parse().unwrap(), "laptop lost").unwrap();
    pair.refused(&pair.push(&pair.north), "revoked: the key of 'north' was revoked on").await;
    pair.send(&first, "after").await;
}

#[tokio::test]
async fn an_expired_key_is_refused() {
    let pair = Pair::new().await;
    let north = pair.north.own("north").unwrap();
    let certificate = Certificate::load_public(&north.path).unwrap();
    let yesterday = std::time::SystemTime::now() - Duration::from_secs(86_400);
    pair.hub.trust(&certificate, &"north".parse().unwrap(), vec![], Some(yesterday), None).unwrap();
    pair.refused(&pair.push(&pair.north), "expired: the key of 'north' expired 24 hours ago").await;
}

#[tokio::test]
async fn a_user_comes_in_by_password() {
    let pair = Pair::new().await;
    let file = pair.hub.directory().join("access.toml");
    fs::write(&file, "[users.alice]\npassword = \"open sesame\"\nroles = [\"operator\"]\n").unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
    pair.hub.reload().unwrap();
    let server = pair.context.socket_with(Dealer, Options::new().plain_server(true)).unwrap();
    let at = soon(server.bind("tcp://127.0.0.1:*").unwrap()).await.unwrap();
    let client = |password: &str| {
        let options = Options::new().plain_username("alice".into()).plain_password(password.into());
        Context::new().socket_with(Dealer, options).unwrap()
    };
    let mut events = server.events();
    let error = soon(client("open barley").connect(&at).unwrap()).await.unwrap_err();
    assert!(matches!(error, ConnectError::Refused { .. }), "{error}");
    assert_eq!(denied(&mut events).await, "wrong-password: the password of the user 'alice' is wrong");
    let alice = client("open sesame");
    soon(alice.connect(&at).unwrap()).await.unwrap();
    soon(alice.send("hello".into())).await.unwrap();
    let received = soon(server.recv_from()).await.unwrap();
    assert_eq!(received.from.user_id.as_ref(), b"alice");
    assert_eq!(received.from.property("Roles").unwrap(), "operator");
}

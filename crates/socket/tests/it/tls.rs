//! tls: and unix+tls: endpoints: what passes, and who is refused how.

use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::time::Duration;

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
};
use tempfile::TempDir;
use tidings_socket::SocketType::{Pull, Push};
use tidings_socket::{BindError, ConnectError, Context, Endpoint, Message, Options};
use tokio::io::AsyncReadExt;

use crate::support::*;

#[tokio::test]
async fn messages_pass_and_tell_whose_certificate_they_came_by() {
    let files = Files::new();
    for at in ["tls://127.0.0.1:*".to_owned(), format!("unix+tls://{}", files.path("socket").display())] {
        let context = Context::new();
        let pull =
            socket_with(&context, Pull, files.server().tls_authority(files.authority()).tls_require_certificate(true));
        let push = socket_with(&context, Push, files.client());
        let at = soon("bind", pull.bind(&at).unwrap()).await.unwrap();
        connect(&push, &pull, &at).await;
        for body in ["hello", "", "again"] {
            send(&push, body).await;
            let received = soon(&at, pull.recv_from()).await.unwrap();
            assert_eq!(text(&received.message), body, "{at}");
            let tls = received.from.tls.as_ref().unwrap();
            assert_eq!((tls.version, received.from.mechanism), ("TLS 1.3", "NULL"), "{at}");
            let certificate = tls.certificate.as_ref().unwrap();
            assert_eq!(certificate.common_name.as_deref(), Some("node"), "{at}");
        }
        assert!(push.close(LONG).await.is_complete(), "{at}");
        let certificates = pull.certificates();
        assert_eq!((certificates.len(), &certificates[0].0), (1, &at));
        assert!(certificates[0].1.not_after.is_some() && certificates[0].1.last_error.is_none());
    }
}

/// What TLS took and the kernel did not goes on when the reader does
#[tokio::test]
async fn a_slow_reader_gets_all_of_it() {
    let files = Files::new();
    let context = Context::new();
    let pull = socket_with(&context, Pull, files.server().recv_hwm(1).recv_buffer(16_384));
    let push = socket_with(&context, Push, files.client().send_buffer(16_384));
    let at = soon("bind", pull.bind("tls://127.0.0.1:*").unwrap()).await.unwrap();
    connect(&push, &pull, &at).await;
    let body: Vec<u8> = (0..3_000_000).map(|i| (i % 251) as u8).collect();
    for _ in 0..8 {
        soon("send", push.send(Message::from(body.clone()))).await.unwrap();
    }
    send(&push, "last").await;
    // Until nothing more fits on the way
    eventually("one message is there", || pull.stats().peers[0].queued_in == 1).await;
    for number in 0..8 {
        let received = soon(number, pull.recv()).await.unwrap();
        assert!(received.first() == body, "message {number}");
    }
    assert_eq!(receive(&pull, "the end").await, "last");
    assert!(push.close(LONG).await.is_complete());
}

#[tokio::test]
async fn certificates_that_do_not_fit_are_refused_and_named_on_both_sides() {
    let (files, foreign) = (Files::new(), Files::new());
    let mutual = || files.server().tls_authority(files.authority());
    for (label, server, client, here, there) in [
        ("a foreign server", foreign.server(), files.client(), "tls-unknown-authority", "tls-refused"),
        (
            "another name",
            files.server(),
            files.client().tls_peer_name("elsewhere".into()),
            "tls-wrong-name",
            "tls-refused",
        ),
        ("no client certificate", mutual(), files.bare_client(), "tls-refused", "tls-no-certificate"),
        ("another key", files.server(), files.client().tls_pin("00".repeat(32)), "tls-pin-mismatch", "tls-refused"),
    ] {
        let context = Context::new();
        let (pull, push) = (socket_with(&context, Pull, server), socket_with(&context, Push, client));
        let at = soon("bind", pull.bind("tls://127.0.0.1:*").unwrap()).await.unwrap();
        let mut events = push.events();
        let error = soon(label, push.connect(&at).unwrap()).await.unwrap_err();
        assert!(matches!(&error, ConnectError::Refused { code, .. } if code == here), "{label}: {error}");
        let failed = event(&mut events, "handshake-failed").await;
        assert!(failed.to_string().contains("next try in "), "{label}: {failed}");
        event(&mut events, "refused").await;
        eventually(label, || pull.stats().closes.contains_key(there)).await;
        assert_eq!(push.stats().closes.get(here), Some(&1), "{label}: {:?}", push.stats().closes);
    }
}

#[tokio::test]
async fn what_is_no_tls_is_named() {
    let files = Files::new();
    let context = Context::new();
    // A refused peer has a second of it to read why
    let options = files.server().handshake_interval(Some(Duration::from_secs(2))).max_handshakes(2);
    let pull = socket_with(&context, Pull, options);
    let at = soon("bind", pull.bind("tls://127.0.0.1:*").unwrap()).await.unwrap();
    let address = at.to_string().replace("tls://", "tcp://").parse::<Endpoint>().unwrap();
    let mut peer = RawPeer::connect(&address).await;
    peer.write(&opening("PUSH")).await;
    peer.read_to_end().await;
    eventually("ZMTP in the clear", || !pull.stats().closes.is_empty()).await;
    assert_eq!(pull.stats().closes.get("tls-not-tls"), Some(&1), "{:?}", pull.stats().closes);
    let mut silent = RawPeer::connect(&address).await;
    silent.read_to_end().await;
    eventually("silence", || pull.stats().closes.contains_key("handshake-timed-out")).await;
    let mut crowd = Vec::new();
    for _ in 0..3 {
        crowd.push(RawPeer::connect(&address).await);
    }
    eventually("a crowd", || pull.stats().closes.contains_key("too-many-handshakes")).await;

    // The other way round
    let plain = socket(&context, Pull);
    let clear = bind(&plain, "tcp").await.to_string().replace("tcp://", "tls://");
    let push = socket_with(&context, Push, files.client());
    let error = soon("TLS to a plain listener", push.connect(&clear).unwrap()).await.unwrap_err();
    assert!(matches!(&error, ConnectError::Refused { code, .. } if code.starts_with("tls-")), "{error}");
    let mut octets = [0; 1];
    assert_eq!(soon("a close", crowd[0].stream.read(&mut octets)).await.unwrap_or_default(), 0);
}

#[tokio::test]
async fn a_listener_needs_a_certificate_and_a_client_someone_to_trust() {
    let context = Context::new();
    let pull = socket(&context, Pull);
    let error = soon("bind", pull.bind("tls://127.0.0.1:*").unwrap()).await.unwrap_err();
    assert!(matches!(error, BindError::Security { .. }) && error.to_string().contains("tls_certificate"), "{error}");
    let error = soon("connect", pull.connect("tls://127.0.0.1:9").unwrap()).await.unwrap_err();
    assert!(matches!(error, ConnectError::Security { .. }) && error.to_string().contains("tls_authority"), "{error}");
}

/// An authority, and what it issued
/// A certificate that ends within two weeks is told where it is listened with, and once for each endpoint that dials
#[tokio::test]
async fn a_certificate_that_ends_soon_is_told() {
    let now = std::time::SystemTime::now();
    for (days, said) in [(3_i32, Some("CN=hub, in 71 hours")), (-2, Some("CN=hub has ended, 48 hours ago")), (60, None)]
    {
        let day = Duration::from_secs(24 * 3600);
        let ends = if days < 0 { now - day * 2 } else { now + day * days.unsigned_abs() };
        let files = Files::ending(Some(ends));
        let context = Context::new();
        let pull = socket_with(&context, Pull, files.server());
        let mut events = pull.events();
        let at = soon("bind", pull.bind("tls://127.0.0.1:*").unwrap()).await.unwrap();
        let Some(said) = said else {
            // What comes next is the newcomer, and nothing was said before
            connect(&socket_with(&context, Push, files.client()), &pull, &at).await;
            let names = event_names(&mut events, 2).await;
            assert!(!names.contains(&"certificate-ends"), "{names:?}");
            continue;
        };
        let told = event(&mut events, "certificate-ends").await;
        assert!(told.to_string().contains(said), "{told}");
        let push = socket_with(&context, Push, files.server().tls_authority(files.authority()));
        let mut events = push.events();
        let _connecting = push.connect(&at).unwrap();
        assert!(event(&mut events, "certificate-ends").await.to_string().contains(said));
    }
}

struct Files {
    folder: TempDir,
}

impl Files {
    fn new() -> Self {
        Self::ending(None)
    }

    /// With a certificate of the hub that ends at a certain time
    fn ending(ends: Option<std::time::SystemTime>) -> Self {
        let files = Self { folder: tempfile::tempdir().unwrap() };
        let mut params = CertificateParams::default();
        // Names of their own, for a foreign one of the same name is found out only by its signature
        let name = format!("authority {}", files.folder.path().display());
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let key = KeyPair::generate().unwrap();
        files.write("authority.pem", &params.self_signed(&key).unwrap().pem());
        let issuer = Issuer::new(params, key);
        for (name, names) in
            [("hub", vec!["127.0.0.1".to_owned(), "hub".to_owned()]), ("node", vec!["node".to_owned()])]
        {
            let mut params = CertificateParams::new(names).unwrap();
            params.distinguished_name.push(DnType::CommonName, name);
            if let Some(ends) = ends.filter(|_| name == "hub") {
                params.not_before = params.not_before.min(ends.into());
                params.not_after = ends.into();
            }
            params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
            let key = KeyPair::generate().unwrap();
            files.write(&format!("{name}.pem"), &params.signed_by(&key, &issuer).unwrap().pem());
            files.write(&format!("{name}.key"), &key.serialize_pem());
        }
        files
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        std::fs::write(self.path(name), text).unwrap();
        std::fs::set_permissions(self.path(name), std::fs::Permissions::from_mode(0o600)).unwrap();
    }

    fn authority(&self) -> String {
        self.path("authority.pem").to_str().unwrap().to_owned()
    }

    fn server(&self) -> Options {
        let file = |name: &str| self.path(name).to_str().unwrap().to_owned();
        Options::new().tls_certificate(file("hub.pem")).tls_key(file("hub.key"))
    }

    fn bare_client(&self) -> Options {
        Options::new().tls_authority(self.authority()).tls_peer_name("hub".into())
    }

    fn client(&self) -> Options {
        let file = |name: &str| self.path(name).to_str().unwrap().to_owned();
        self.bare_client().tls_certificate(file("node.pem")).tls_key(file("node.key"))
    }
}

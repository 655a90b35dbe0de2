//! Who is let in and who is not, in both versions, and what each side is told.

use tidings_transport::{DialError, ListenError, StreamOptions, TlsError, TlsSettings, TlsSettingsBuilder, TlsVersion};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::authority::{Authority, Dates, Folder, Identity};
use crate::{PATIENCE, endpoint, outcomes, told, with};

const VERSIONS: [(TlsVersion, &str); 2] = [(TlsVersion::Tls12, "TLS 1.2"), (TlsVersion::Tls13, "TLS 1.3")];
const LOOPBACK: &str = "tls://127.0.0.1:*";

/// What a case is made of
struct Cast {
    folder: Folder,
    root: Authority,
    foreign: Authority,
}

impl Cast {
    fn new() -> Self {
        Self { folder: Folder::new(), root: Authority::root("root"), foreign: Authority::root("foreign") }
    }

    fn trusting(&self, builder: TlsSettingsBuilder) -> TlsSettingsBuilder {
        builder.authorities(vec![self.folder.write("root.pem", self.root.pem())])
    }

    /// A server that `root` vouches for
    fn server(&self) -> TlsSettingsBuilder {
        self.root.issue(&["127.0.0.1", "hub.example"], Dates::Valid).server(&self.folder, "server")
    }

    /// A client that trusts `root` and has no certificate
    fn client(&self) -> TlsSettingsBuilder {
        self.trusting(TlsSettings::client())
    }
}

/// Both versions: what the client is told, and the server
async fn expect(case: &str, server: TlsSettingsBuilder, client: TlsSettingsBuilder, expected: (&str, &str)) {
    for (version, version_name) in VERSIONS {
        let server = server.clone().versions([version]).build().unwrap();
        let client = client.clone().build().unwrap();
        let (near, far) = outcomes(LOOPBACK, &server, &client).await;
        assert_eq!((told(&near), told(&far)), expected, "{case}, {version_name}: {near:?} {far:?}");
        for peer in [&near, &far].into_iter().flatten() {
            assert_eq!(peer.version, version_name);
        }
    }
}

#[tokio::test]
async fn a_server_is_known_by_its_authority_and_its_name() {
    let cast = Cast::new();
    expect("its address", cast.server(), cast.client(), ("ok", "ok")).await;
    let named = cast.client().peer_name(Some("hub.example".to_owned()));
    expect("the name set", cast.server(), named, ("ok", "ok")).await;
    let misnamed = cast.client().peer_name(Some("other.example".to_owned()));
    expect("another name", cast.server(), misnamed, ("tls-wrong-name", "tls-refused")).await;
}

#[tokio::test]
async fn a_wrong_name_is_told_with_the_right_ones() {
    let cast = Cast::new();
    let client = cast.client().peer_name(Some("other.example".to_owned())).build().unwrap();
    let (near, _) = outcomes(LOOPBACK, &cast.server().build().unwrap(), &client).await;
    let message = near.unwrap_err().to_string();
    assert!(message.contains("hub.example") && message.contains("not for other.example"), "{message}");
}

#[tokio::test]
async fn both_sides_learn_who_the_other_is() {
    let cast = Cast::new();
    let server = cast.root.issue(&["127.0.0.1", "hub.example"], Dates::Valid);
    let client = cast.root.issue(&["node-7"], Dates::Valid);
    for (version, version_name) in VERSIONS {
        let for_server = cast.trusting(server.server(&cast.folder, "server")).versions([version]).build().unwrap();
        let for_client = cast.trusting(client.client(&cast.folder, "client")).build().unwrap();
        let (near, far) = outcomes(LOOPBACK, &for_server, &for_client).await;
        let (near, far) = (near.unwrap(), far.unwrap());
        assert_eq!((near.version, far.version), (version_name, version_name));
        assert_eq!(near.cipher, far.cipher);
        let (hub, node) = (near.certificate.unwrap(), far.certificate.unwrap());
        assert_eq!(hub.names, ["127.0.0.1", "hub.example"]);
        assert_eq!(hub.public_key_sha256, server.pin);
        assert_eq!(node.common_name.as_deref(), Some("node-7"));
        assert_eq!(node.subject, "CN=node-7");
        assert_eq!(node.public_key_sha256, client.pin);
        assert_eq!(for_client.status().fingerprint, Some(node.fingerprint));
        assert_eq!(for_server.status().not_after, Some(hub.not_after));
    }
}

#[tokio::test]
async fn servers_with_unfit_certificates_are_refused_and_told() {
    let cast = Cast::new();
    let folder = &cast.folder;
    let names = ["127.0.0.1"];
    for (case, identity, expected) in [
        ("expired", cast.root.issue(&names, Dates::Expired), "tls-expired"),
        ("not yet valid", cast.root.issue(&names, Dates::NotYet), "tls-not-yet-valid"),
        ("of another authority", cast.foreign.issue(&names, Dates::Valid), "tls-unknown-authority"),
        ("self-signed", Identity::self_signed(&names, Dates::Valid), "tls-unknown-authority"),
    ] {
        expect(case, identity.server(folder, "server"), cast.client(), (expected, "tls-refused")).await;
    }
}

#[tokio::test]
async fn clients_with_unfit_certificates_are_refused_and_told() {
    let cast = Cast::new();
    let folder = &cast.folder;
    let server = || cast.trusting(cast.server());
    expect("no certificate", server(), cast.client(), ("tls-refused", "tls-no-certificate")).await;
    for (case, identity, expected) in [
        ("expired", cast.root.issue(&["node"], Dates::Expired), "tls-expired"),
        ("not yet valid", cast.root.issue(&["node"], Dates::NotYet), "tls-not-yet-valid"),
        ("of another authority", cast.foreign.issue(&["node"], Dates::Valid), "tls-unknown-authority"),
        ("valid", cast.root.issue(&["node"], Dates::Valid), "ok"),
    ] {
        let client = cast.trusting(identity.client(folder, "client"));
        let near = if expected == "ok" { "ok" } else { "tls-refused" };
        expect(case, server(), client, (near, expected)).await;
    }
    let named = cast.trusting(cast.root.issue(&["node"], Dates::Valid).client(folder, "client"));
    let wants = |name: &str| server().peer_name(Some(name.to_owned()));
    expect("the name wanted", wants("node"), named.clone(), ("ok", "ok")).await;
    expect("another name", wants("other"), named, ("tls-refused", "tls-wrong-name")).await;
}

#[tokio::test]
async fn a_certificate_that_is_not_required_is_still_verified() {
    let cast = Cast::new();
    let server = || cast.trusting(cast.server()).require_peer_certificate(false);
    expect("none", server(), cast.client(), ("ok", "ok")).await;
    let foreign = cast.trusting(cast.foreign.issue(&["node"], Dates::Valid).client(&cast.folder, "client"));
    expect("foreign", server(), foreign, ("tls-refused", "tls-unknown-authority")).await;
}

#[tokio::test]
async fn a_pinned_key_is_enough_and_its_dates_still_count() {
    let cast = Cast::new();
    let server = Identity::self_signed(&["whoever"], Dates::Valid);
    let client = Identity::self_signed(&["node"], Dates::Valid);
    let folder = &cast.folder;
    let listening = || server.server(folder, "server");
    let pinned = |pin| TlsSettings::client().pinned(vec![pin]);
    expect("right", listening(), pinned(server.pin), ("ok", "ok")).await;
    expect("wrong", listening(), pinned(client.pin), ("tls-pin-mismatch", "tls-refused")).await;
    for (dates, expected) in [(Dates::Expired, "tls-expired"), (Dates::NotYet, "tls-not-yet-valid")] {
        let old = Identity::self_signed(&["whoever"], dates);
        expect("dates", old.server(folder, "old"), pinned(old.pin), (expected, "tls-refused")).await;
    }

    let calling = || client.client(folder, "client").pinned(vec![server.pin]);
    expect("both right", listening().pinned(vec![client.pin]), calling(), ("ok", "ok")).await;
    let other = listening().pinned(vec![server.pin]);
    expect("client wrong", other, calling(), ("tls-refused", "tls-pin-mismatch")).await;
    let none = listening().pinned(vec![client.pin]);
    expect("client without", none, pinned(server.pin), ("tls-refused", "tls-no-certificate")).await;
}

#[tokio::test]
async fn with_authority_and_pin_both_must_hold() {
    let cast = Cast::new();
    let folder = &cast.folder;
    let ours = cast.root.issue(&["127.0.0.1"], Dates::Valid);
    let foreign = cast.foreign.issue(&["127.0.0.1"], Dates::Valid);
    let server = |identity: &Identity| identity.server(folder, "server");
    let client = |pin| cast.client().pinned(vec![pin]);
    expect("both", server(&ours), client(ours.pin), ("ok", "ok")).await;
    expect("authority alone", server(&ours), client(foreign.pin), ("tls-pin-mismatch", "tls-refused")).await;
    expect("pin alone", server(&foreign), client(foreign.pin), ("tls-unknown-authority", "tls-refused")).await;
}

#[tokio::test]
async fn chains_lead_to_the_root_when_they_are_sent_whole() {
    let cast = Cast::new();
    let middle = cast.root.intermediate("middle");
    let whole = middle.issue(&["127.0.0.1"], Dates::Valid);
    expect("whole", whole.server(&cast.folder, "server"), cast.client(), ("ok", "ok")).await;
    let cut = whole.without_intermediates();
    let expected = ("tls-unknown-authority", "tls-refused");
    expect("cut", cut.server(&cast.folder, "cut"), cast.client(), expected).await;
}

#[tokio::test]
async fn certificates_for_another_purpose_are_refused_and_told() {
    let cast = Cast::new();
    let mail = cast.root.issue_for(&["127.0.0.1"], rcgen::ExtendedKeyUsagePurpose::EmailProtection);
    let expected = ("tls-bad-certificate", "tls-refused");
    expect("server", mail.server(&cast.folder, "mail"), cast.client(), expected).await;
    let client = cast.trusting(mail.client(&cast.folder, "mail"));
    expect("client", cast.trusting(cast.server()), client, ("tls-refused", "tls-bad-certificate")).await;
}

#[tokio::test]
async fn versions_without_a_match_are_named_on_both_sides() {
    let cast = Cast::new();
    for (of_server, of_client) in [(TlsVersion::Tls12, TlsVersion::Tls13), (TlsVersion::Tls13, TlsVersion::Tls12)] {
        let server = cast.server().versions([of_server]).build().unwrap();
        let client = cast.client().versions([of_client]).build().unwrap();
        let (near, far) = outcomes(LOOPBACK, &server, &client).await;
        assert_eq!((told(&near), told(&far)), ("tls-version", "tls-version"), "{near:?} {far:?}");
    }
}

#[tokio::test]
async fn a_resumed_session_still_names_the_peer() {
    let cast = Cast::new();
    let server = cast.trusting(cast.server()).build().unwrap();
    let client = cast.root.issue(&["node"], Dates::Valid).client(&cast.folder, "client");
    let client = cast.trusting(client).build().unwrap();
    let listener = tidings_transport::listen(&endpoint(LOOPBACK), &with(&server)).await.unwrap();
    for _ in 0..3 {
        let near = tidings_transport::dial(listener.local_endpoint(), &with(&client)).await.unwrap();
        let far = listener.accept().await.unwrap();
        let (near, far) = tokio::join!(crate::ask(near), crate::answer(far));
        assert!(near.unwrap().certificate.is_some());
        assert_eq!(far.unwrap().certificate.unwrap().common_name.as_deref(), Some("node"));
    }
}

#[tokio::test]
async fn local_sockets_carry_tls_too() {
    let cast = Cast::new();
    let server = cast.server().build().unwrap();
    let text = format!("unix+tls://{}", cast.folder.path().join("socket").display());
    let named = cast.client().peer_name(Some("hub.example".to_owned())).build().unwrap();
    let (near, far) = outcomes(&text, &server, &named).await;
    assert_eq!((told(&near), told(&far)), ("ok", "ok"), "{near:?} {far:?}");

    let pin = near.unwrap().certificate.unwrap().public_key_sha256;
    let pinned = TlsSettings::client().pinned(vec![pin]).build().unwrap();
    let (near, far) = outcomes(&text, &server, &pinned).await;
    assert_eq!((told(&near), told(&far)), ("ok", "ok"), "{near:?} {far:?}");

    let nameless = cast.client().build().unwrap();
    let error = tidings_transport::dial(&endpoint(&text), &with(&nameless)).await.unwrap_err();
    assert!(error.to_string().contains("set tls_peer_name"), "{error}");
}

#[tokio::test]
async fn addresses_are_those_of_the_tls_endpoint() {
    let cast = Cast::new();
    let (server, client) = (cast.server().build().unwrap(), cast.client().build().unwrap());
    let (near, far) = crate::connect(LOOPBACK, &server, &client).await;
    assert!(near.local_address().unwrap().to_string().starts_with("tls://127.0.0.1:"));
    assert_eq!(format!("tls://{}", far.peer_address()), near.local_address().unwrap().to_string());
}

#[tokio::test]
async fn without_settings_nothing_is_opened_and_the_option_is_named() {
    let cast = Cast::new();
    let plain = StreamOptions::default();
    let error = tidings_transport::dial(&endpoint("tls://127.0.0.1:1"), &plain).await.unwrap_err();
    assert!(matches!(error, DialError::Tls { .. }) && error.to_string().contains("tls_authority"), "{error}");
    let error = tidings_transport::listen(&endpoint(LOOPBACK), &plain).await.unwrap_err();
    assert!(matches!(error, ListenError::Tls { .. }) && error.to_string().contains("tls_certificate"), "{error}");
    let (server, client) = (cast.server().build().unwrap(), cast.client().build().unwrap());
    let error = tidings_transport::dial(&endpoint("tls://127.0.0.1:1"), &with(&server)).await.unwrap_err();
    assert!(error.to_string().contains("for listening"), "{error}");
    let error = tidings_transport::listen(&endpoint(LOOPBACK), &with(&client)).await.unwrap_err();
    assert!(error.to_string().contains("for connecting"), "{error}");
}

#[tokio::test]
async fn before_the_handshake_nothing_can_be_read_or_written() {
    let cast = Cast::new();
    let (server, client) = (cast.server().build().unwrap(), cast.client().build().unwrap());
    let (mut near, mut far) = crate::connect(LOOPBACK, &server, &client).await;
    assert_eq!(near.write(b"early").await.unwrap_err().kind(), std::io::ErrorKind::NotConnected);
    assert_eq!(far.read_u8().await.unwrap_err().kind(), std::io::ErrorKind::NotConnected);
    assert!(!near.needs_flush());
    let (near, far) = tokio::join!(crate::ask(near), crate::answer(far));
    assert_eq!((told(&near), told(&far)), ("ok", "ok"));
}

#[tokio::test]
async fn plain_streams_have_no_handshake() {
    let listener = tidings_transport::listen(&endpoint("tcp://127.0.0.1:*"), &StreamOptions::default()).await.unwrap();
    let mut near = tidings_transport::dial(listener.local_endpoint(), &StreamOptions::default()).await.unwrap();
    assert_eq!(near.handshake().await, Ok(None));
}

const ZMTP_GREETING: &[u8] = b"\xff\0\0\0\0\0\0\0\x01\x7f\x03";

#[tokio::test]
async fn a_plain_client_is_recognized_for_what_it_speaks() {
    let cast = Cast::new();
    let server = cast.server().build().unwrap();
    let listener = tidings_transport::listen(&endpoint(LOOPBACK), &with(&server)).await.unwrap();
    let address = listener.local_endpoint().to_string().replace("tls://", "");
    for (said, found) in [
        (ZMTP_GREETING, "plain ZMTP"),
        (b"GET / HTTP/1.1\r\nHost: hub\r\n\r\n", "HTTP"),
        (b"SSH-2.0-OpenSSH\r\n", "SSH"),
        (b"hello there, whoever you are\r\n", "check the port"),
    ] {
        let mut plain = TcpStream::connect(&address).await.unwrap();
        plain.write_all(said).await.unwrap();
        let mut far = listener.accept().await.unwrap();
        let hear = async {
            let mut heard = Vec::new();
            plain.read_to_end(&mut heard).await.unwrap();
            drop(plain);
            heard
        };
        let (refused, heard) =
            tokio::time::timeout(PATIENCE, async { tokio::join!(far.handshake(), hear) }).await.unwrap();
        let error = refused.unwrap_err();
        assert!(matches!(error, TlsError::NotTls { .. }) && error.to_string().contains(found), "{found}: {error}");
        assert!(error.is_definite());
        // An alert, and no more
        assert_eq!(heard.first(), Some(&21), "{heard:?}");
    }
}

#[tokio::test]
async fn a_plain_server_is_recognized_for_what_it_speaks() {
    let cast = Cast::new();
    let client = cast.client().build().unwrap();
    for (said, found) in [
        (ZMTP_GREETING, "plain ZMTP"),
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", "HTTP"),
        (b"220 mail.example ESMTP\r\n", "check the port"),
    ] {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let text = format!("tls://{}", listener.local_addr().unwrap());
        let mut near = tidings_transport::dial(&endpoint(&text), &with(&client)).await.unwrap();
        let (mut plain, _) = listener.accept().await.unwrap();
        let speak = async {
            plain.write_all(said).await.unwrap();
            let mut heard = Vec::new();
            plain.read_to_end(&mut heard).await.unwrap();
            drop(plain);
        };
        let (refused, ()) =
            tokio::time::timeout(PATIENCE, async { tokio::join!(near.handshake(), speak) }).await.unwrap();
        let error = refused.unwrap_err();
        assert!(matches!(error, TlsError::NotTls { .. }) && error.to_string().contains(found), "{found}: {error}");
    }
}

#[tokio::test]
async fn a_peer_that_closes_in_the_handshake_may_be_tried_again() {
    let cast = Cast::new();
    let client = cast.client().build().unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let text = format!("tls://{}", listener.local_addr().unwrap());
    let mut near = tidings_transport::dial(&endpoint(&text), &with(&client)).await.unwrap();
    drop(listener.accept().await.unwrap());
    let error = near.handshake().await.unwrap_err();
    assert_eq!((error.name(), error.is_definite()), ("tls-closed", false), "{error}");
    // And it stays closed
    assert_eq!(near.handshake().await.unwrap_err().name(), "tls-closed");
}

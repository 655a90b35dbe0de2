//! Files that don't fit, and files that change while connections are up.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tidings_transport::{Stream, TlsSettings, TlsSettingsBuilder, TlsSettingsError};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::authority::{Authority, Dates, Folder, Identity};
use crate::{established, outcomes, told};

const LOOPBACK: &str = "tls://127.0.0.1:*";

fn refusal(builder: TlsSettingsBuilder) -> String {
    builder.build().unwrap_err().to_string()
}

#[test]
fn contradictions_are_refused_with_what_to_set() {
    let folder = Folder::new();
    let root = Authority::root("root");
    let (certificate, key) = root.issue(&["hub"], Dates::Valid).write(&folder, "hub");
    let pin = vec![[7; 32]];
    for (builder, message) in [
        (TlsSettings::client(), "nothing says which server to trust; set tls_authority or tls_pin"),
        (TlsSettings::server(), "a listener needs a certificate; set tls_certificate and tls_key"),
        (
            TlsSettings::client().pinned(pin.clone()).key(key.clone()),
            "there is a key and no certificate; set tls_certificate to its PEM file",
        ),
        (
            TlsSettings::client().pinned(pin).certificate(certificate.clone()),
            "there is a certificate and no key; set tls_key to the PEM file of its private key",
        ),
        (
            TlsSettings::server().certificate(certificate.clone()).key(key.clone()).require_peer_certificate(true),
            "peers must have a certificate and nothing says which to trust; set tls_authority or tls_pin",
        ),
        (
            TlsSettings::server().certificate(certificate.clone()).key(key.clone()).peer_name(Some("n".to_owned())),
            "peers must have a name and nothing verifies it; set tls_authority or tls_pin",
        ),
        (
            TlsSettings::server().certificate(certificate.clone()).key(key.clone()).versions([]),
            "no version of TLS is left; allow 1.2 or 1.3",
        ),
        (
            TlsSettings::server()
                .certificate(certificate.clone())
                .key(key)
                .pinned(vec![[7; 32]])
                .peer_name(Some("two words".to_owned())),
            "tls_peer_name \"two words\" is neither a DNS name nor an address; write it as the certificate does",
        ),
    ] {
        assert_eq!(refusal(builder), message);
    }
}

#[test]
fn files_that_can_not_be_used_are_named_with_what_to_do() {
    let folder = Folder::new();
    let root = Authority::root("root");
    let (certificate, key) = root.issue(&["hub"], Dates::Valid).write(&folder, "hub");
    let (_, other_key) = root.issue(&["hub"], Dates::Valid).write(&folder, "other");
    let server = |certificate: &PathBuf, key: &PathBuf| {
        refusal(TlsSettings::server().certificate(certificate.clone()).key(key.clone()))
    };
    let missing = folder.path().join("missing.pem");
    let cut = folder.write("cut.pem", "-----BEGIN CERTIFICATE-----\nMIIB\n");
    let empty = folder.write("empty.pem", "");
    let damaged = folder.write("damaged.pem", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n");
    let sealed = "-----BEGIN ENCRYPTED PRIVATE KEY-----\nMIIB\n-----END ENCRYPTED PRIVATE KEY-----\n";
    let sealed = folder.write("sealed.key", sealed);
    let version_one = folder.write("version1.pem", VERSION_ONE);
    for (certificate, key, about, part) in [
        (&missing, &key, &missing, "No such file"),
        (&cut, &key, &cut, "cut short"),
        (&empty, &key, &empty, "no certificate"),
        (&key, &key, &key, "no certificate"),
        (&damaged, &key, &damaged, "not an X.509 certificate"),
        (&version_one, &key, &version_one, "X.509 version 1"),
        (&certificate, &certificate, &certificate, "no private key"),
        (&certificate, &sealed, &sealed, "openssl pkey"),
        (&certificate, &folder.path().to_owned(), &folder.path().to_owned(), "not a file"),
        (&certificate, &other_key, &other_key, "is not that of the certificate"),
    ] {
        let message = server(certificate, key);
        assert!(message.contains(part) && message.contains(&about.display().to_string()), "{part}: {message}");
    }
}

#[test]
fn a_key_that_others_can_use_is_refused_with_the_command() {
    let folder = Folder::new();
    let identity = Authority::root("root").issue(&["hub"], Dates::Valid);
    for (mode, fits) in [(0o600, true), (0o400, true), (0o640, true), (0o644, false), (0o660, false), (0o604, false)] {
        let (certificate, key) = identity.write(&folder, "hub");
        fs::set_permissions(&key, fs::Permissions::from_mode(mode)).unwrap();
        match TlsSettings::server().certificate(certificate).key(key.clone()).build() {
            Ok(_) => assert!(fits, "{mode:o}"),
            Err(error) => {
                assert!(!fits, "{mode:o}");
                assert!(matches!(error, TlsSettingsError::KeyPermissions { .. }));
                assert!(error.to_string().ends_with(&format!("run: chmod 600 {}", key.display())), "{error}");
            }
        }
    }
}

#[test]
fn what_is_printed_of_settings_has_no_secret() {
    let folder = Folder::new();
    let identity = Authority::root("root").issue(&["hub"], Dates::Valid);
    let settings = identity.server(&folder, "hub").build().unwrap();
    let printed = format!("{settings:?}");
    assert!(printed.contains("hub.pem"));
    let secret = identity.key.lines().nth(1).unwrap();
    assert!(!printed.contains(secret));
}

/// Lets a second pass, after which changed files are looked for
async fn a_second_passes() {
    tokio::time::pause();
    tokio::time::advance(Duration::from_secs(1)).await;
    tokio::time::resume();
}

/// The name that a new client is shown
async fn shown_to(client: &Arc<TlsSettings>, server: &Arc<TlsSettings>) -> String {
    let (near, far) = outcomes(LOOPBACK, server, client).await;
    assert_eq!(told(&far), "ok", "{far:?}");
    near.unwrap().certificate.unwrap().common_name.unwrap()
}

/// One octet each way
async fn still_works((near, far): (&mut Stream, &mut Stream)) {
    near.write_all(b"?").await.unwrap();
    near.flush().await.unwrap();
    assert_eq!(far.read_u8().await.unwrap(), b'?');
    far.write_all(b"!").await.unwrap();
    far.flush().await.unwrap();
    assert_eq!(near.read_u8().await.unwrap(), b'!');
}

#[tokio::test]
async fn a_new_certificate_is_shown_to_new_connections_and_old_ones_stay() {
    let folder = Folder::new();
    let root = Authority::root("root");
    let server = root.issue(&["old", "127.0.0.1"], Dates::Valid).server(&folder, "hub").build().unwrap();
    let client = TlsSettings::client().authorities(vec![folder.write("root.pem", root.pem())]).build().unwrap();
    let (mut near, mut far) = established(LOOPBACK, &server, &client).await;
    assert_eq!(shown_to(&client, &server).await, "old");
    let before = server.status();
    assert_eq!((before.reloads, before.subject.as_deref()), (0, Some("CN=old")));

    root.issue(&["new", "127.0.0.1"], Dates::Valid).write(&folder, "hub");
    a_second_passes().await;
    assert_eq!(shown_to(&client, &server).await, "new");
    let after = server.status();
    assert_eq!((after.reloads, after.last_error.clone()), (1, None));
    assert_ne!(after.fingerprint, before.fingerprint);
    still_works((&mut near, &mut far)).await;
}

#[tokio::test]
async fn changes_are_looked_for_once_a_second_at_most() {
    let folder = Folder::new();
    let root = Authority::root("root");
    tokio::time::pause();
    let server = root.issue(&["old"], Dates::Valid).server(&folder, "hub").build().unwrap();
    root.issue(&["new"], Dates::Valid).write(&folder, "hub");
    tokio::time::advance(Duration::from_millis(999)).await;
    assert_eq!(server.status().subject.as_deref(), Some("CN=old"));
    tokio::time::advance(Duration::from_millis(1)).await;
    assert_eq!(server.status().subject.as_deref(), Some("CN=new"));
}

#[tokio::test]
async fn a_bad_file_keeps_the_last_good_set_until_it_is_mended() {
    let folder = Folder::new();
    let root = Authority::root("root");
    let server = root.issue(&["old", "127.0.0.1"], Dates::Valid).server(&folder, "hub").build().unwrap();
    let client = TlsSettings::client().authorities(vec![folder.write("root.pem", root.pem())]).build().unwrap();
    let fresh = root.issue(&["new", "127.0.0.1"], Dates::Valid);

    for (name, text, problem) in [
        ("hub.pem", "no certificate at all", "no certificate"),
        // Half of a renewal: its key is still to come
        ("hub.pem", &fresh.chain, "is not that of the certificate"),
    ] {
        folder.write(name, text);
        a_second_passes().await;
        assert_eq!(shown_to(&client, &server).await, "old");
        let status = server.status();
        assert_eq!((status.reloads, status.subject.as_deref()), (0, Some("CN=old")));
        assert!(status.last_error.as_ref().is_some_and(|error| error.contains(problem)), "{status:?}");
    }
    folder.write("hub.key", &fresh.key);
    a_second_passes().await;
    assert_eq!(shown_to(&client, &server).await, "new");
    assert_eq!((server.status().reloads, server.status().last_error), (1, None));

    fs::remove_file(folder.path().join("hub.key")).unwrap();
    a_second_passes().await;
    assert_eq!(shown_to(&client, &server).await, "new");
    assert!(server.status().last_error.is_some_and(|error| error.contains("hub.key")));
}

#[tokio::test]
async fn an_authority_that_is_taken_away_lets_nobody_new_in() {
    let folder = Folder::new();
    let (root, other) = (Authority::root("root"), Authority::root("other"));
    let trusted = folder.write("trusted.pem", &format!("{}{}", root.pem(), other.pem()));
    let server = root.issue(&["127.0.0.1"], Dates::Valid).server(&folder, "hub");
    let server = server.authorities(vec![trusted]).build().unwrap();
    let client = other.issue(&["node"], Dates::Valid).client(&folder, "node");
    let client = client.authorities(vec![folder.write("root.pem", root.pem())]).build().unwrap();
    let (mut near, mut far) = established(LOOPBACK, &server, &client).await;

    folder.write("trusted.pem", root.pem());
    a_second_passes().await;
    // A session that was kept for resumption goes with the settings it was made by
    let (refused, refusing) = outcomes(LOOPBACK, &server, &client).await;
    assert_eq!((told(&refused), told(&refusing)), ("tls-refused", "tls-unknown-authority"));
    still_works((&mut near, &mut far)).await;
}

#[tokio::test]
async fn a_client_takes_a_new_pinned_certificate_of_its_own_as_well() {
    let folder = Folder::new();
    let server = Identity::self_signed(&["hub"], Dates::Valid);
    let client = Identity::self_signed(&["old"], Dates::Valid);
    let listening = server.server(&folder, "hub").pinned(vec![client.pin]).build().unwrap();
    let calling = client.client(&folder, "node").pinned(vec![server.pin]).build().unwrap();
    let (near, far) = outcomes(LOOPBACK, &listening, &calling).await;
    assert_eq!((told(&near), told(&far)), ("ok", "ok"));

    Identity::self_signed(&["new"], Dates::Valid).write(&folder, "node");
    a_second_passes().await;
    let (near, far) = outcomes(LOOPBACK, &listening, &calling).await;
    assert_eq!((told(&near), told(&far)), ("tls-refused", "tls-pin-mismatch"));
}

/// Made by `openssl req -new … | openssl x509 -req -signkey …`, without extensions
const VERSION_ONE: &str = "\
-----BEGIN CERTIFICATE-----
MIIBGDCBvwIUVLwYrRuEFRMRBPRElGyq/PkImS0wCgYIKoZIzj0EAwIwDjEMMAoG
A1UEAwwDb2xkMCAXDTI2MTEyMTEzMDQwOFoYDzIxMjYxMDI4MTMwNDA4WjAOMQww
CgYDVQQDDANvbGQwWTATBgcqhkjOPQIBBggqhkjOPQMBBwNCAARBDn40LRmawAgl
VncpN5rwgq8gT1PRaFa5omvDf2ENPWP1b3bOeSF2YSbY6yK1C9ebOv4rWFRXlRx/
sEpip2ZtMAoGCCqGSM49BAMCA0gAMEUCIQCVIdfdMVl/U1I26ou1CMDwTL5gOYIG
CGNYMaeQ7VdzAgIgDQ/BgkKE2Mx7ThAI1TfWYrrU0R+ElXpN1fulDFlNUIM=
-----END CERTIFICATE-----
";

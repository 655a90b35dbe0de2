//! Opening, changing, reloading and following a directory.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::sync::mpsc::channel;
use std::time::Duration;

use super::*;
use crate::date::DAY;
use crate::{Certificate, CurveSecretKey, KeyName, NewKey};

fn keystore() -> (tempfile::TempDir, Keystore) {
    let directory = tempfile::tempdir().unwrap();
    let keystore = Keystore::create(directory.path().join("keys")).unwrap();
    (directory, keystore)
}

fn name(text: &str) -> KeyName {
    text.parse().unwrap()
}

fn peer(number: u8) -> Certificate {
    Certificate::new(CurveSecretKey::from_octets([number; 32]).public())
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[test]
fn a_new_keystore_is_private_and_empty() {
    let (directory, keystore) = keystore();
    for folder in ["", "curve", "trusted", "tls"] {
        assert_eq!(mode(&keystore.directory().join(folder)), 0o700, "{folder}");
    }
    assert!(matches!(keystore.own_default(), Err(KeystoreError::NoSuchKey { .. })));
    let missing = Keystore::open(directory.path().join("nowhere")).unwrap_err();
    assert!(missing.to_string().contains("tidings key new"), "{missing}");
}

#[test]
fn keys_are_made_once_and_found_by_name() {
    let (_directory, keystore) = keystore();
    let new = NewKey { roles: vec!["sensor".to_owned()], ..NewKey::default() };
    let key = keystore.make_key(&name("north"), &new).unwrap();
    assert_eq!(mode(&crate::certificate::secret_path(&key.path)), 0o600);
    assert!(matches!(keystore.make_key(&name("north"), &new), Err(KeystoreError::Exists { .. })));
    assert_eq!(keystore.own_default().unwrap().public_key, key.public_key);
    let error = keystore.own("nort").unwrap_err().to_string();
    assert!(error.contains("did you mean 'north'?"), "{error}");

    keystore.make_key(&name("south"), &new).unwrap();
    let error = keystore.own_default().unwrap_err().to_string();
    assert!(error.contains("default-key = \"north\""), "{error}");
    fs::write(keystore.directory().join("access.toml"), "default-key = \"south\"\n").unwrap();
    keystore.reload().unwrap();
    assert_eq!(keystore.own_default().unwrap().name.as_str(), "south");
}

#[test]
fn a_reload_tells_what_changed_and_no_secret() {
    let (_directory, keystore) = keystore();
    assert!(keystore.reload().unwrap().is_empty());
    let other = Keystore::open(keystore.directory()).unwrap();
    let key = keystore.make_key(&name("north"), &NewKey::default()).unwrap();
    keystore.trust(&peer(1), &name("hub"), vec![], None, None).unwrap();
    let access = keystore.directory().join("access.toml");
    fs::write(&access, "[users.alice]\npassword = \"hush\"\n").unwrap();
    fs::set_permissions(&access, fs::Permissions::from_mode(0o600)).unwrap();
    let changes = other.reload().unwrap();
    assert_eq!(changes.to_string(), "+ own key north\n+ trusted key hub\n+ user alice");

    keystore.trust(&peer(1), &name("hub"), vec!["chief".to_owned()], None, None).unwrap();
    fs::write(&access, "[users.alice]\npassword = \"sesame\"\n[policy]\nunknown-keys = \"allow\"\n").unwrap();
    fs::remove_file(&key.path).unwrap();
    fs::remove_file(crate::certificate::secret_path(&key.path)).unwrap();
    let changes = other.reload().unwrap();
    assert_eq!(changes.to_string(), "- own key north\n~ rule policy\n~ trusted key hub\n~ user alice");
    assert_eq!(other.reload().unwrap().to_string(), "nothing changed");
}

#[test]
fn a_bad_file_leaves_the_last_good_set_in_force() {
    let (_directory, keystore) = keystore();
    let key = keystore.make_key(&name("north"), &NewKey::default()).unwrap();
    keystore.trust(&peer(1), &name("hub"), vec![], None, None).unwrap();
    let bad = keystore.directory().join("trusted/bad.key");
    fs::write(&bad, "curve\n   public-key = \"x\"\n").unwrap();
    fs::remove_file(keystore.directory().join("trusted/hub.key")).unwrap();
    let error = keystore.reload().unwrap_err();
    assert_eq!(error.path(), Some(&*bad));
    assert!(error.to_string().contains("bad.key: line 2: indented by 3 spaces"), "{error}");
    let status = keystore.status();
    assert!(status.last_error.is_some_and(|error| error.contains("line 2")));
    assert_eq!((status.trusted, status.failed_reloads), (1, 1));
    assert_eq!(keystore.own("north").unwrap().public_key, key.public_key);
    assert!(keystore.peer("hub").is_ok());

    fs::remove_file(&bad).unwrap();
    assert_eq!(keystore.reload().unwrap().to_string(), "- trusted key hub");
    assert_eq!(keystore.status().last_error, None);
}

#[test]
fn all_problems_are_told_at_once() {
    let (_directory, keystore) = keystore();
    let key = keystore.make_key(&name("north"), &NewKey::default()).unwrap();
    let at = |file: &str| keystore.directory().join(file);
    fs::set_permissions(crate::certificate::secret_path(&key.path), fs::Permissions::from_mode(0o644)).unwrap();
    fs::write(at("trusted/bad name.key"), peer(1).public_text().unwrap()).unwrap();
    fs::write(at("trusted/one.key"), peer(2).public_text().unwrap()).unwrap();
    fs::write(at("trusted/two.key"), peer(2).public_text().unwrap()).unwrap();
    fs::write(at("trusted/three.key_secret"), "").unwrap();
    fs::write(at("curve/public-only.key"), peer(3).public_text().unwrap()).unwrap();
    fs::write(at("tls/hub.crt"), "nothing").unwrap();
    fs::write(at("access.toml"), "[users.alice]\npassword = \"hush\"\n").unwrap();
    fs::set_permissions(at("access.toml"), fs::Permissions::from_mode(0o644)).unwrap();
    // Neither hidden files nor editors' copies are looked at
    fs::write(at("trusted/.x.key"), "").unwrap();
    fs::write(at("trusted/one.key~"), "").unwrap();
    let error = keystore.reload().unwrap_err();
    let KeystoreError::Several(errors) = &error else { panic!("{error}") };
    assert_eq!(errors.len(), 7, "{error}");
    for part in [
        "north.key_secret holds a secret, and is open to others (its mode is 644): run  chmod 600",
        "'bad name' is not a name for a key",
        "one.key and ",
        "two.key hold the same public key",
        "three.key_secret: holds a secret key, and those belong into curve/",
        "public-only.key: has no secret twin",
        "hub.crt: holds no PEM certificate",
        "access.toml holds a secret, and is open to others",
    ] {
        assert!(error.to_string().contains(part), "{part}: {error}");
    }
    assert!(!error.to_string().contains("hush"), "{error}");
}

#[test]
fn a_rotated_key_takes_over_by_itself() {
    let (_directory, keystore) = keystore();
    let first =
        keystore.make_key(&name("north"), &NewKey { roles: vec!["sensor".to_owned()], ..NewKey::default() }).unwrap();
    let rotation = keystore.rotate(&name("north"), 7 * DAY, None).unwrap();
    assert_eq!(rotation.old.public_key, first.public_key);
    assert_eq!(rotation.new.path, keystore.directory().join("curve/north~2.key"));
    assert!(matches!(keystore.rotate(&name("north"), DAY, None), Err(KeystoreError::Exists { .. })));
    let keys = keystore.keys();
    for (days, generation) in [(0, 1), (6, 1), (8, 2), (1000, 2)] {
        let key = keys.own("north", SystemTime::now() + days * DAY).unwrap();
        assert_eq!(key.generation, generation, "after {days} days");
    }
    let text = fs::read_to_string(&rotation.new.path).unwrap();
    assert!(text.contains("roles = \"sensor\"") && text.contains("valid-from"), "{text}");

    let at_once = keystore.make_key(&name("south"), &NewKey::default()).unwrap();
    let rotation = keystore.rotate(&name("south"), Duration::ZERO, Some(SystemTime::now() + DAY)).unwrap();
    assert_ne!(keystore.own("south").unwrap().public_key, at_once.public_key);
    let later = keystore.keys().own("south", SystemTime::now() + 2 * DAY).unwrap_err();
    assert!(later.to_string().contains("tidings key rotate south"), "{later}");
    assert!(rotation.new.expires.is_some());
}

#[test]
fn a_peer_that_rotates_is_trusted_by_both_keys_for_a_while() {
    let (_directory, keystore) = keystore();
    keystore.trust(&peer(1), &name("hub"), vec![], None, None).unwrap();
    let mut successor = peer(2);
    let start = SystemTime::now() + 7 * DAY;
    successor.set_word("valid-from", display_date(start));
    assert!(matches!(
        keystore.trust(&successor, &name("hub"), vec![], None, None),
        Err(KeystoreError::Exists { kind: "trusted key", .. })
    ));
    keystore.trust(&successor, &name("hub"), vec![], None, Some(DAY)).unwrap();
    let keys = keystore.keys();
    for (days, number) in [(0, 1), (6, 1), (8, 2)] {
        let key = keys.peer("hub", SystemTime::now() + days * DAY).unwrap();
        assert_eq!(key.public_key, peer(number).public_key, "after {days} days");
    }
    let old = keys.trusted().find(|key| key.generation == 1).unwrap();
    let end = old.expires.unwrap();
    assert!(end > start && end <= start + DAY, "{}", display_date(end));
    // Both go at once
    assert_eq!(keystore.revoke(&name("hub"), "retired").unwrap(), 2);
    assert_eq!(keystore.keys().revoked().count(), 2);
    let again = keystore.trust(&peer(2), &name("hub"), vec![], None, None).unwrap_err();
    assert!(again.to_string().contains("hub~2.key"), "{again}");
    assert!(matches!(keystore.revoke(&name("hub"), ""), Err(KeystoreError::NoSuchKey { .. })));
}

#[test]
fn the_owners_words_grant_nothing() {
    let (_directory, keystore) = keystore();
    let mut certificate = peer(1);
    certificate.set_word("roles", "admin");
    // As a hand would copy it
    fs::write(keystore.directory().join("trusted/north.key"), certificate.public_text().unwrap()).unwrap();
    keystore.reload().unwrap();
    assert!(keystore.peer("north").unwrap().roles.is_empty());
    assert_eq!(certificate.wished_roles(), ["admin"]);
}

#[test]
fn status_tells_what_ends_next() {
    let (_directory, keystore) = keystore();
    assert!(keystore.status().next_expiry.is_none());
    let new = NewKey { expires: Some(SystemTime::now() + 40 * DAY), ..NewKey::default() };
    keystore.make_key(&name("north"), &new).unwrap();
    keystore.trust(&peer(1), &name("hub"), vec![], Some(SystemTime::now() + 30 * DAY), None).unwrap();
    let expiry = keystore.status().next_expiry.unwrap();
    assert_eq!(expiry.name, "hub");
    assert!(expiry.seconds_left > 29 * 86_400, "{expiry:?}");
}

#[test]
fn files_are_followed() {
    let (_directory, keystore) = keystore();
    let (sender, told) = channel();
    let _watch = keystore.watch(Duration::from_millis(5), move |outcome| drop(sender.send(outcome))).unwrap();
    let next = || told.recv_timeout(Duration::from_secs(30)).expect("it tells what changed");
    // Written by another process, so to speak
    Certificate::save(&peer(1), keystore.directory().join("trusted/hub.key")).unwrap();
    assert_eq!(next().unwrap().to_string(), "+ trusted key hub");
    assert!(keystore.peer("hub").is_ok());
    // Edited in place, the folder looks the same
    fs::write(keystore.directory().join("trusted/hub.key"), "nonsense in = a = file").unwrap();
    assert!(next().unwrap_err().to_string().contains("line 1"));
    assert!(keystore.peer("hub").is_ok());
    fs::remove_file(keystore.directory().join("trusted/hub.key")).unwrap();
    assert_eq!(next().unwrap().to_string(), "- trusted key hub");
}

//! Each way in and each refusal, on a keystore in a temporary directory.

use std::fs;
use std::net::IpAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::time::Duration;

use super::*;
use crate::date::DAY;
use crate::{Certificate, CurveSecretKey, Keystore, KeystoreAuthenticator};

struct House {
    directory: tempfile::TempDir,
    keystore: Keystore,
    authenticator: Arc<KeystoreAuthenticator>,
}

fn key(number: u8) -> CurvePublicKey {
    CurveSecretKey::from_octets([number; 32]).public()
}

fn certificate(number: u8) -> Certificate {
    let mut certificate = Certificate::new(key(number));
    for (word, value) in
        [("email", "a@b.c"), ("User-Id", "root"), ("identity", "x"), ("roles", "admin"), ("name", "root")]
    {
        certificate.set_word(word, value);
    }
    certificate
}

/// `north` is key 1 with the role sensor; `rules` is access.toml
fn house(rules: &str) -> House {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("keys");
    let keystore = Keystore::create(&path).unwrap();
    keystore.trust(&certificate(1), &"north".parse().unwrap(), vec!["sensor".to_owned()], None, None).unwrap();
    fs::write(path.join("access.toml"), rules).unwrap();
    fs::set_permissions(path.join("access.toml"), fs::Permissions::from_mode(0o600)).unwrap();
    keystore.reload().unwrap();
    House { directory, authenticator: keystore.authenticator(), keystore }
}

impl House {
    fn ask(&self, domain: &str, ip: Option<&str>, claim: Claim<'_>) -> Judgement {
        let ip = ip.map(|ip| ip.parse::<IpAddr>().unwrap());
        self.judge(&Caller { domain, ip, claim, certificate: None })
    }

    fn judge(&self, caller: &Caller<'_>) -> Judgement {
        self.authenticator.judge(SystemTime::now(), Instant::now(), caller)
    }

    fn by_certificate(&self, common_name: &str, fingerprint: Fingerprint, left: i64) -> Judgement {
        let now = SystemTime::now();
        let span = Duration::from_secs(left.unsigned_abs());
        let not_after = if left < 0 { now - span } else { now + span };
        let certificate = Some(ClientCertificate { common_name: Some(common_name), fingerprint, not_after });
        self.judge(&Caller { domain: "", ip: "192.0.2.1".parse().ok(), claim: Claim::Null, certificate })
    }
}

fn user(judgement: Judgement) -> String {
    match judgement {
        Judgement::Admitted { user, .. } => user,
        Judgement::Refused { refusal, words } => panic!("refused: {refusal:?} {words}"),
    }
}

fn refusal(judgement: Judgement) -> (Refusal, String) {
    match judgement {
        Judgement::Refused { refusal, words } => (refusal, words),
        Judgement::Admitted { user, .. } => panic!("admitted: '{user}'"),
    }
}

#[test]
fn a_trusted_key_is_let_in_by_our_name_with_our_roles() {
    let house = house("");
    let Judgement::Admitted { user, properties } = house.ask("", Some("192.0.2.1"), Claim::Curve(&key(1))) else {
        panic!("refused");
    };
    let property = |name: &str| properties.value(name).map(|value| String::from_utf8_lossy(value).into_owned());
    assert_eq!(user, "north");
    assert_eq!(property("Name").as_deref(), Some("north"));
    assert_eq!(property("Roles").as_deref(), Some("sensor"));
    assert_eq!(property("email").as_deref(), Some("a@b.c"));
    // What the owner says can't pass for ours, nor set a routing id
    assert_eq!((property("User-Id"), property("Identity")), (None, None));
    assert_eq!(house.authenticator.admitted(), 1);
}

#[test]
fn an_unknown_key_is_refused_with_the_command_that_would_let_it_in() {
    let house = house("");
    let (why, words) = refusal(house.ask("", Some("192.0.2.1"), Claim::Curve(&key(2))));
    assert_eq!(why, Refusal::UnknownKey);
    assert!(words.contains(&format!("tidings key trust '{}'", key(2))), "{words}");
    assert_eq!(house.authenticator.refused()["unknown-key"], 1);
    assert_eq!(house.authenticator.refused().len(), Refusal::ALL.len());
    let open = self::house("[policy]\nunknown-keys = \"allow\"\n");
    assert_eq!(user(open.ask("", None, Claim::Curve(&key(2)))), "");
}

#[test]
fn expired_and_revoked_keys_are_refused_in_words() {
    let house = house("");
    let yesterday = SystemTime::now() - DAY;
    house.keystore.trust(&certificate(2), &"old".parse().unwrap(), Vec::new(), Some(yesterday), None).unwrap();
    let (why, words) = refusal(house.ask("", None, Claim::Curve(&key(2))));
    assert_eq!(why, Refusal::Expired);
    assert!(words.contains("'old' expired 24 hours ago"), "{words}");
    // The owner's own end counts too
    let mut ended = certificate(3);
    ended.set_word("expires", "2020-01-01");
    house.keystore.trust(&ended, &"ended".parse().unwrap(), Vec::new(), None, None).unwrap();
    assert_eq!(refusal(house.ask("", None, Claim::Curve(&key(3)))).0, Refusal::Expired);

    house.keystore.revoke(&"north".parse().unwrap(), "laptop lost").unwrap();
    let (why, words) = refusal(house.ask("", None, Claim::Curve(&key(1))));
    assert_eq!(why, Refusal::Revoked);
    assert!(words.contains("laptop lost"), "{words}");
    // Back in trusted/ by hand, it stays revoked, also where unknown keys are let in
    let path = house.directory.path().join("keys/trusted/again.key");
    certificate(1).save(path).unwrap();
    fs::write(house.directory.path().join("keys/access.toml"), "[policy]\nunknown-keys = \"allow\"\n").unwrap();
    house.keystore.reload().unwrap();
    assert_eq!(refusal(house.ask("", None, Claim::Curve(&key(1)))).0, Refusal::Revoked);
}

#[test]
fn addresses_come_first_and_a_denied_range_wins() {
    let house = house(
        "[addresses]\nallow = [\"192.0.2.0/24\"]\ndeny = [\"192.0.2.66\"]\n[keys.north]\naddresses = [\"192.0.2.1\"]\n",
    );
    let ask = |ip| house.ask("", Some(ip), Claim::Curve(&key(1)));
    assert_eq!(user(ask("192.0.2.1")), "north");
    assert_eq!(refusal(ask("192.0.2.66")).0, Refusal::AddressDenied);
    assert_eq!(refusal(ask("::ffff:192.0.2.66")).0, Refusal::AddressDenied);
    assert_eq!(refusal(ask("198.51.100.1")).0, Refusal::AddressNotAllowed);
    let (why, words) = refusal(ask("192.0.2.2"));
    assert_eq!(why, Refusal::AddressNotAllowed);
    assert!(words.contains("[keys.north]"), "{words}");
    // ipc has no address
    assert_eq!(user(house.ask("", None, Claim::Curve(&key(1)))), "north");
}

#[test]
fn null_is_for_this_host_unless_the_policy_says_otherwise() {
    for (rules, loopback, remote) in [
        ("", true, false),
        ("[policy]\nanonymous = \"deny\"\n", false, false),
        ("[policy]\nanonymous = \"allow\"\n", true, true),
    ] {
        let house = house(rules);
        for (ip, admitted) in [
            (None, loopback),
            (Some("127.0.0.1"), loopback),
            (Some("::ffff:127.0.0.1"), loopback),
            (Some("::1"), loopback),
            (Some("192.0.2.1"), remote),
        ] {
            match house.ask("", ip, Claim::Null) {
                Judgement::Admitted { user, .. } => assert!(admitted && user.is_empty(), "{rules} {ip:?}"),
                Judgement::Refused { refusal, .. } => {
                    assert!(!admitted && refusal == Refusal::Anonymous, "{rules} {ip:?}")
                }
            }
        }
    }
}

#[test]
fn plain_users_have_passwords_and_roles() {
    let hash = crate::hash_password("rosebud").unwrap();
    let house = house(&format!(
        "[users.alice]\npassword = \"open sesame\"\nroles = [\"operator\"]\n[users.kane]\npassword-hash = \"{hash}\"\n"
    ));
    let ask = |username: &str, password: &str| {
        house.ask("", None, Claim::Plain { username: username.as_bytes(), password: password.as_bytes() })
    };
    assert_eq!(user(ask("alice", "open sesame")), "alice");
    assert_eq!(user(ask("kane", "rosebud")), "kane");
    assert_eq!(refusal(ask("alice", "open barley")).0, Refusal::WrongPassword);
    let (why, words) = refusal(ask("bob\n", "open sesame"));
    assert_eq!(why, Refusal::UnknownUser);
    assert!(words.contains("'bob\\n'") && !words.contains("sesame"), "{words}");
    let guesses = (0..100).map(|_| refusal(ask("kane", "guess")).0);
    assert!(guesses.into_iter().any(|why| why == Refusal::Busy));
    assert_eq!(user(ask("kane", "rosebud")), "kane");
    assert!(!format!("{house:?}", house = house.keystore.keys()).contains("sesame"));
    let claim = Claim::Plain { username: b"alice", password: b"open sesame" };
    assert!(!format!("{claim:?}").contains("sesame"));
}

#[test]
fn tls_certificates_are_known_by_fingerprint_or_common_name() {
    let pinned = Fingerprint::of(b"gateway");
    let house = house(&format!(
        "[tls.gateway]\nfingerprint = \"{pinned}\"\nroles = [\"sensor\"]\n[tls.south]\ncommon-name = \"south.example.org\"\n"
    ));
    let other = Fingerprint::of(b"other");
    assert_eq!(user(house.by_certificate("whatever", pinned, 100)), "gateway");
    assert_eq!(user(house.by_certificate("south.example.org", other, 100)), "south");
    let (why, words) = refusal(house.by_certificate("east", other, 100));
    assert_eq!(why, Refusal::UnknownCertificate);
    assert!(words.contains(&other.to_string()), "{words}");
    assert_eq!(refusal(house.by_certificate("whatever", pinned, -5)).0, Refusal::CertificateExpired);
    let open = self::house("[policy]\nunknown-certificates = \"allow\"\n");
    assert_eq!(user(open.by_certificate("east", other, 100)), "");
}

#[test]
fn a_certificate_file_in_trusted_names_its_holder() {
    let house = house("");
    let request = crate::TlsRequest {
        name: "west".parse().unwrap(),
        hosts: vec!["west.example.org".to_owned()],
        valid: 30 * DAY,
        algorithm: crate::TlsAlgorithm::EcdsaP256,
    };
    let made = house.keystore.make_certificate(&request).unwrap();
    house.keystore.trust_certificate(&made.path, &"west-gate".parse().unwrap()).unwrap();
    // The same peer's CURVE key, beside it
    house.keystore.trust(&certificate(9), &"west-gate".parse().unwrap(), Vec::new(), None, None).unwrap();
    assert_eq!(user(house.by_certificate("west", made.fingerprint, 100)), "west-gate");
    house.keystore.revoke(&"west-gate".parse().unwrap(), "gone").unwrap();
    assert_eq!(refusal(house.by_certificate("west", made.fingerprint, 100)).0, Refusal::Revoked);
    // Whatever rule would let it in besides
    fs::write(house.directory.path().join("keys/access.toml"), "[tls.west]\ncommon-name = \"west\"\n").unwrap();
    house.keystore.reload().unwrap();
    assert_eq!(refusal(house.by_certificate("west", made.fingerprint, 100)).0, Refusal::Revoked);
    assert_eq!(user(house.by_certificate("west", Fingerprint::of(b"other"), 100)), "west");
    let again = house.keystore.trust_certificate(&made.path, &"west".parse().unwrap()).unwrap_err();
    assert!(again.to_string().contains("revoked"), "{again}");
}

#[test]
fn domains_have_their_own_mechanisms_members_and_addresses() {
    let house = house(concat!(
        "[domains.plant]\nmechanisms = [\"CURVE\"]\nroles = [\"sensor\"]\ndeny = [\"192.0.2.66\"]\n",
        "[domains.office]\nnames = [\"south\"]\n[domains.hall]\nmechanisms = [\"NULL\"]\n",
        "[domains.cellar]\nroles = [\"digger\"]\n[policy]\nanonymous = \"allow\"\n",
    ));
    let ask = |domain, ip| house.ask(domain, Some(ip), Claim::Curve(&key(1)));
    assert_eq!(user(ask("plant", "192.0.2.1")), "north");
    assert_eq!(refusal(ask("plant", "192.0.2.66")).0, Refusal::AddressDenied);
    assert_eq!(refusal(ask("office", "192.0.2.1")).0, Refusal::NotAMember);
    assert_eq!(refusal(ask("cellar", "192.0.2.1")).0, Refusal::NotAMember);
    let (why, words) = refusal(ask("hall", "192.0.2.1"));
    assert_eq!(why, Refusal::Mechanism);
    assert!(words.contains("asks for NULL, not CURVE"), "{words}");
    assert_eq!(refusal(house.ask("plant", None, Claim::Null)).0, Refusal::Mechanism);
    assert_eq!(refusal(house.ask("office", None, Claim::Null)).0, Refusal::NotAMember);
    assert_eq!(user(house.ask("hall", None, Claim::Null)), "");
    assert_eq!(user(ask("elsewhere", "192.0.2.1")), "north");
}

#[test]
fn a_mechanism_without_rules_is_refused() {
    let (why, words) = refusal(house("").ask("", None, Claim::Other("GSSAPI")));
    assert_eq!(why, Refusal::Unsupported);
    assert!(words.contains("GSSAPI"), "{words}");
}

#[test]
fn ten_thousand_keys_cost_microseconds() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("keys");
    Keystore::create(&path).unwrap();
    let numbered = |number: u32| {
        let mut octets = [7; 32];
        octets[..4].copy_from_slice(&number.to_be_bytes());
        CurvePublicKey::from_octets(octets)
    };
    for number in 0..10_000 {
        let text = Certificate::new(numbered(number)).public_text().unwrap();
        fs::write(path.join(format!("trusted/node-{number}.key")), text).unwrap();
    }
    let began = Instant::now();
    let keystore = Keystore::open(&path).unwrap();
    let opened = began.elapsed();
    let authenticator = keystore.authenticator();
    let (now, instant) = (SystemTime::now(), Instant::now());
    let ask = |key: &CurvePublicKey| {
        let caller = Caller { domain: "", ip: "192.0.2.1".parse().ok(), claim: Claim::Curve(key), certificate: None };
        authenticator.judge(now, instant, &caller)
    };
    let began = Instant::now();
    for number in 0..10_000 {
        assert!(matches!(ask(&numbered(number)), Judgement::Admitted { .. }));
    }
    let each = began.elapsed() / 10_000;
    println!("10,000 keys: read in {opened:?}, {each:?} for each peer");
    // A list instead of a table would take a hundred times as long; the bound is wide for slow debug builds
    assert!(each < Duration::from_micros(200), "{each:?}");
    assert!(began.elapsed() < Duration::from_secs(20));
    assert!(matches!(ask(&numbered(10_000)), Judgement::Refused { refusal: Refusal::UnknownKey, .. }));
}

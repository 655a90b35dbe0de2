//! `tidings key`: from nothing to two keystores that trust each other, and each verb's answers.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::process::{Done, run, start};

/// Runs `tidings key …` on the keystore `keys` in a directory
fn key(directory: &Path, args: &[&str]) -> Done {
    let mut all = vec!["key"];
    all.extend(args);
    let mut command = Command::new(env!("CARGO_BIN_EXE_tidings"));
    start(command.args(all).current_dir(directory).env("TIDINGS_KEYS", "keys")).finish()
}

/// Likewise, with JSON, which must succeed
fn key_json(directory: &Path, args: &[&str]) -> Value {
    let done = key(directory, &[args, &["--json"]].concat());
    assert_eq!(done.code, Some(0), "{args:?}: {}", done.err);
    serde_json::from_str(&done.out.join("\n")).unwrap()
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[test]
fn one_command_makes_a_pair_that_trusts_each_other() {
    let directory = tempfile::tempdir().unwrap();
    let into = directory.path();
    let done = key(into, &["new", "--pair", "hub", "north", "--roles", "sensor", "--tls", "hub.example.org"]);
    assert_eq!(done.code, Some(0), "{}", done.err);
    assert!(
        done.err.contains("hub-keys") && done.err.contains("north-keys") && done.err.contains("key show"),
        "{}",
        done.err
    );
    let text = done.out.join("\n");
    assert_eq!(text.matches("fingerprint").count(), 4, "{text}");
    assert_eq!(text.matches("state        in use").count(), 4, "{text}");

    for (own, other, roles) in [("hub", "north", "sensor"), ("north", "hub", "")] {
        let keys = into.join(format!("{own}-keys"));
        assert_eq!(mode(&keys), 0o700);
        assert_eq!(mode(&keys.join(format!("curve/{own}.key_secret"))), 0o600);
        let listed = key_json(into, &["ls", "--keys", keys.to_str().unwrap()]);
        let find = |kind: &str, name: &str| -> Value {
            let rows = listed["keys"].as_array().unwrap();
            rows.iter()
                .find(|row| row["kind"] == kind && row["name"] == name)
                .unwrap_or_else(|| panic!("{listed}"))
                .clone()
        };
        let theirs = key_json(into, &["show", other, "--keys", into.join(format!("{other}-keys")).to_str().unwrap()]);
        assert_eq!(find("trusted", other)["public_key"], theirs["keys"][0]["public_key"]);
        assert_eq!(find("trusted", other)["roles"].as_array().unwrap().len(), usize::from(!roles.is_empty()));
        assert_eq!(find("own", own)["state"], "in use");
        // One authority for both; its key stays with the hub
        assert_eq!(find("tls", own)["state"], "in use");
        assert_eq!(keys.join("tls/ca.key").exists(), own == "hub");
    }
    let again = key(into, &["new", "--pair", "hub", "south"]);
    assert_eq!(again.code, Some(1));
    assert!(again.err.contains("hub-keys is there already") && !into.join("south-keys").exists(), "{}", again.err);
}

#[test]
fn a_key_is_made_shown_exported_and_trusted() {
    let (here, there) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (here, there) = (here.path(), there.path());
    let made = key_json(here, &["new", "north", "--roles", "sensor,chief", "--expires", "41d"]);
    let made = &made["keys"][0];
    let shown = key(here, &["show"]).out.join("\n");
    for part in ["expires in 40 days", "asks to be   sensor, chief", "in use", "+-----[CURVE]-----+"] {
        assert!(shown.contains(part), "{part}: {shown}");
    }
    assert!(shown.contains(made["public_key"].as_str().unwrap()) && shown.contains(made["words"].as_str().unwrap()));

    // The secret comes out when it is asked for, and at no other time
    let secret = key(here, &["export", "--secret", "--format", "z85"]).out.join("");
    assert_eq!(secret.len(), 40);
    for args in [
        &["show"][..],
        &["ls"],
        &["export"],
        &["export", "--format", "tidings"],
        &["show", "--json"],
        &["ls", "--json"],
    ] {
        let done = key(here, args);
        assert!(!done.out.join("\n").contains(&secret) && !done.err.contains(&secret), "{args:?}");
    }
    assert!(key(here, &["export", "--secret"]).out.join("\n").contains(&secret));
    assert_eq!(key(here, &["export", "--format", "z85"]).out, [made["public_key"].as_str().unwrap()]);

    fs::write(there.join("north.key"), key(here, &["export"]).out.join("\n")).unwrap();
    // Nobody at a terminal: neither trusted nor silently passed over
    let unseen = key(there, &["trust", "north.key"]);
    assert_eq!(unseen.code, Some(2));
    assert!(unseen.err.contains("--fingerprint") && !there.join("keys").exists(), "{}", unseen.err);
    let wrong = key(there, &["trust", "north.key", "--fingerprint", "lusab-babad"]);
    assert_eq!(wrong.code, Some(1), "{}", wrong.err);
    let trusted =
        key(there, &["trust", "north.key", "--fingerprint", made["words"].as_str().unwrap(), "--roles", "sensor"]);
    assert_eq!(trusted.code, Some(0), "{}", trusted.err);
    assert!(
        trusted.err.contains("let in as 'north'") && trusted.err.contains("--roles chief grants them"),
        "{}",
        trusted.err
    );
    let listed = key_json(there, &["ls"]);
    assert_eq!(listed["keys"][0]["roles"], serde_json::json!(["sensor"]));
    // Its owner's end is the end here too
    assert_eq!(listed["keys"][0]["expires"], made["expires"]);
    let table = key(there, &["ls"]).out;
    assert!(table[0].starts_with("KIND") && table[1].contains("in 40 days"), "{table:?}");

    let refused = key(there, &["trust", here.join("keys/curve/north.key_secret").to_str().unwrap(), "--yes"]);
    assert_eq!(refused.code, Some(7), "{}", refused.err);
}

#[test]
fn a_key_is_trusted_as_text_and_revoked() {
    let directory = tempfile::tempdir().unwrap();
    let at = directory.path();
    let z85 = "Yne@$w-vo<fVvi]a<NY6T1ed:M$fCG*[IaLV{hID";
    assert!(key(at, &["trust", z85, "--yes"]).err.contains("--name"));
    assert_eq!(key(at, &["trust", z85, "--name", "north", "--yes"]).code, Some(0));
    let second = key(at, &["trust", &format!("south={z85}"), "--yes"]);
    assert_eq!(second.code, Some(1));
    assert!(second.err.contains("trusted key 'north'"), "{}", second.err);
    assert_eq!(key(at, &["trust", "nonsense", "--yes"]).code, Some(2));

    let unknown = key(at, &["revoke", "nort"]);
    assert_eq!(unknown.code, Some(1));
    assert!(unknown.err.contains("did you mean 'north'?"), "{}", unknown.err);
    assert_eq!(key_json(at, &["revoke", "north", "--reason", "laptop lost"])["revoked"], 1);
    let shown = key(at, &["show", "north"]).out.join("\n");
    assert!(shown.contains("revoked on") && shown.contains("laptop lost"), "{shown}");
    let again = key(at, &["trust", z85, "--name", "north", "--yes"]);
    assert_eq!(again.code, Some(1));
    assert!(again.err.contains("it was revoked"), "{}", again.err);
}

#[test]
fn a_rotated_key_leaves_time_to_trust_it() {
    let (here, there) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (here, there) = (here.path(), there.path());
    key_json(here, &["new", "hub"]);
    let old = here.join("keys/curve/hub.key");
    assert_eq!(key(there, &["trust", old.to_str().unwrap(), "--yes"]).code, Some(0));

    let done = key(here, &["rotate", "hub"]);
    assert_eq!(done.code, Some(0), "{}", done.err);
    assert!(
        done.err.contains("stays in use until") && done.err.contains("hub~2.key --name hub --replace"),
        "{}",
        done.err
    );
    let rows = key_json(here, &["ls"])["keys"].clone();
    assert_eq!((&rows[0]["label"], &rows[0]["state"]), (&"hub".into(), &"in use".into()));
    assert_eq!(rows[1]["label"], "hub~2");
    assert!(rows[1]["state"].as_str().unwrap().starts_with("takes over on "), "{rows}");
    assert_eq!(key(here, &["rotate", "hub"]).code, Some(1));

    // The newest is what others need
    fs::write(there.join("new.key"), key(here, &["export", "hub"]).out.join("\n")).unwrap();
    let taken = key(there, &["trust", "new.key", "--name", "hub", "--yes"]);
    assert_eq!(taken.code, Some(1));
    assert!(taken.err.contains("--replace"), "{}", taken.err);
    assert_eq!(key(there, &["trust", "new.key", "--name", "hub", "--replace", "--yes"]).code, Some(0));
    let rows = key_json(there, &["ls"])["keys"].clone();
    assert_eq!(rows.as_array().unwrap().len(), 2);
    assert!(rows[0]["expires"].is_string() && rows[1]["expires"].is_null(), "{rows}");
}

#[test]
fn what_is_wrong_with_a_keystore_is_said_with_its_remedy() {
    let directory = tempfile::tempdir().unwrap();
    let at = directory.path();
    let missing = key(at, &["ls"]);
    assert_eq!(missing.code, Some(2));
    assert!(missing.err.contains("tidings key new"), "{}", missing.err);
    key_json(at, &["new", "north"]);
    let secret = at.join("keys/curve/north.key_secret");
    fs::set_permissions(&secret, fs::Permissions::from_mode(0o644)).unwrap();
    let exposed = key(at, &["ls"]);
    assert_eq!(exposed.code, Some(2));
    assert!(exposed.err.contains("chmod 600 keys/curve/north.key_secret"), "{}", exposed.err);
    fs::set_permissions(&secret, fs::Permissions::from_mode(0o600)).unwrap();
    fs::write(at.join("keys/trusted/bad.key"), "curve\n  public-key = x\n").unwrap();
    let bad = key(at, &["ls", "--json"]);
    assert_eq!(bad.code, Some(7));
    let object: Value = serde_json::from_str(&bad.out[0]).unwrap();
    assert!(object["error"]["message"].as_str().unwrap().contains("bad.key: line 2"), "{object}");
    fs::remove_file(at.join("keys/trusted/bad.key")).unwrap();
    fs::write(at.join("keys/access.toml"), "[adresses]\n").unwrap();
    let rules = key(at, &["ls"]);
    assert_eq!(rules.code, Some(2));
    assert!(rules.err.contains("access.toml:1:2") && rules.err.contains("did you mean 'addresses'?"), "{}", rules.err);
}

#[test]
fn names_and_ends_are_checked_before_anything_is_made() {
    let directory = tempfile::tempdir().unwrap();
    let at = directory.path();
    for (args, part) in [
        (&["new", "../x"][..], "not a name for a key"),
        (&["new", "x", "--roles", "a b/c"], "not a role"),
        (&["new", "x", "--expires", "soon"], "2027-01-31"),
        (&["new", "--pair", "hub"], "2 values required"),
        (&["new", "--pair", "hub", "hub"], "different names"),
        (&["new", "x", "--into", "y"], "--pair"),
        (&["rotate", "x", "--grace", "5"], "5s"),
    ] {
        let done = key(at, args);
        assert_eq!(done.code, Some(2), "{args:?}: {}", done.err);
        assert!(done.err.contains(part), "{args:?}: {}", done.err);
    }
    assert_eq!(fs::read_dir(at).unwrap().count(), 0);
}

#[test]
fn a_tls_certificate_is_trusted_as_a_file() {
    let (here, there) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (here, there) = (here.path(), there.path());
    let made = key_json(here, &["new", "gate", "--tls", "gate.example.org", "--tls", "192.0.2.7", "--expires", "30d"]);
    let certificate = &made["keys"][1];
    assert_eq!(certificate["metadata"]["for"], "gate.example.org, 192.0.2.7");
    let file = certificate["file"].as_str().unwrap();
    assert_eq!(mode(&here.join("keys/tls/gate.key")), 0o600);
    fs::copy(here.join(file), there.join("gate.crt")).unwrap();
    let done = key(there, &["trust", "gate.crt", "--yes", "--roles", "sensor"]);
    assert_eq!(done.code, Some(0), "{}", done.err);
    assert!(done.err.contains("[keys.gate]"), "{}", done.err);
    let listed = key_json(there, &["ls"]);
    assert_eq!(listed["keys"][0]["fingerprint"], certificate["fingerprint"]);
    assert_eq!(listed["keys"][0]["kind"], "trusted tls");
}

#[test]
fn a_password_is_hashed_and_read_back() {
    let directory = tempfile::tempdir().unwrap();
    let at = directory.path();
    key_json(at, &["new", "hub"]);
    let mut command = Command::new(env!("CARGO_BIN_EXE_tidings"));
    let mut process = start(command.args(["key", "password", "alice b", "--roles", "operator"]).current_dir(at));
    process.tell("open sesame");
    let done = process.finish();
    assert_eq!(done.code, Some(0), "{}", done.err);
    let lines = done.out.join("\n");
    assert!(
        lines.starts_with("[users.\"alice b\"]\npassword-hash = \"pbkdf2-sha256:") && !lines.contains("sesame"),
        "{lines}"
    );
    fs::write(at.join("keys/access.toml"), lines).unwrap();
    fs::set_permissions(at.join("keys/access.toml"), fs::Permissions::from_mode(0o600)).unwrap();
    assert_eq!(key(at, &["ls"]).code, Some(0));
    assert_eq!(run(&["key", "password", ""]).code, Some(2));
}

#[test]
fn the_book_has_every_reason_and_its_rules_are_right() {
    let page = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/src/keys.md")).unwrap();
    for refusal in tidings_keystore::Refusal::ALL {
        assert!(page.contains(&format!("`{}`", refusal.name())), "keys.md does not explain {}", refusal.name());
    }
    let rules = page.split("```toml\n").nth(1).and_then(|rest| rest.split("```").next()).expect("the rules are there");
    let hash = tidings_keystore::hash_password("x").unwrap();
    let directory = tempfile::tempdir().unwrap();
    let at = directory.path();
    key_json(at, &["new", "hub"]);
    let file = at.join("keys/access.toml");
    fs::write(&file, rules.replace("pbkdf2-sha256:…", &hash)).unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
    let done = key(at, &["ls"]);
    assert_eq!(done.code, Some(0), "{}", done.err);
}

//! An installation of Domogik taken over: its configuration, and its events.

use std::fs;

use serde_json::Value;

use crate::daemon::Daemon;
use crate::process::{run, tidings};

/// As Domogik's package installs it
const SAMPLE: &str = "[mq]\n# role\nis_master = true\nlog_dir_path = /var/log/domogik/\npid_dir_path = /var/run/domogik/\n\
                      log_level = debug\nip = 127.0.0.1\nreq_rep_port = 40410\npub_port = 40411\nsub_port = 40412\n";

#[test]
fn a_configuration_is_taken_over_and_checked() {
    let directory = tempfile::tempdir().unwrap();
    let (old, new) = (directory.path().join("domogik-mq.cfg"), directory.path().join("tidings.toml"));
    let (old, new) = (old.to_str().unwrap(), new.to_str().unwrap());
    fs::write(old, SAMPLE).unwrap();
    let printed = run(&["import", "domogik", old]);
    assert_eq!(printed.code, Some(0), "{}", printed.err);
    assert!(printed.out.iter().any(|line| line == "listen = [\"tcp://127.0.0.1:40410\"]"), "{:?}", printed.out);
    let written = run(&["import", "domogik", old, "-o", new]);
    assert_eq!(written.code, Some(0), "{}", written.err);
    assert!(written.out.is_empty() && written.err.contains("tidings check"), "{}", written.err);
    assert_eq!(fs::read_to_string(new).unwrap().trim_end(), printed.out.join("\n"));
    let checked = run(&["check", new]);
    assert_eq!(checked.code, Some(0), "{}", checked.err);
    let again = run(&["import", "domogik", old, "-o", new]);
    assert_eq!(again.code, Some(2));
    assert!(again.err.contains("name another file"), "{}", again.err);

    fs::write(old, SAMPLE.replace("127.0.0.1", "*")).unwrap();
    let forced = run(&["import", "domogik", old, "-o", new, "--force"]);
    assert_eq!(forced.code, Some(0), "{}", forced.err);
    let nowhere = run(&["import", "domogik", old, "-o", &format!("{new}.d/tidings.toml")]);
    assert!(nowhere.code == Some(2) && nowhere.err.contains("mkdir -p"), "{}", nowhere.err);
    let open = run(&["import", "domogik", old, "--json"]);
    assert_eq!(open.code, Some(0), "{}", open.err);
    let object: Value = serde_json::from_str(&open.out[0]).unwrap();
    assert!(object["notes"][0].as_str().unwrap().contains("--allow-plaintext"), "{object}");
    fs::write(new, object["toml"].as_str().unwrap()).unwrap();
    let refused = run(&["check", new]);
    assert_eq!(refused.code, Some(2));
    assert!(
        refused.err.contains("service.listen") && refused.err.contains("allow-plaintext = true"),
        "{}",
        refused.err
    );
}

#[test]
fn what_can_not_be_taken_over_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let old = directory.path().join("domogik-mq.cfg");
    let path = old.to_str().unwrap();
    fs::write(&old, SAMPLE.replace("40411", "many").replace("sub_port", "sub_prt")).unwrap();
    let done = run(&["import", "domogik", path]);
    assert_eq!(done.code, Some(2));
    assert!(done.out.is_empty(), "{:?}", done.out);
    for part in ["pub_port: 'many'", &format!("{path}:9:12"), &format!("{path}:10:1"), "did you mean 'sub_port'?"] {
        assert!(done.err.contains(part), "{part}: {}", done.err);
    }
    let done = run(&["import", "domogik", path, "--json"]);
    assert_eq!((done.code, done.out.len()), (Some(2), 1), "{:?}", done.out);
    let object: Value = serde_json::from_str(&done.out[0]).unwrap();
    assert_eq!((&object["ok"], &object["problems"][0]["line"]), (&false.into(), &9.into()));
    let typo = run(&["import", "domogik", &path.replace("mq.cfg", "mp.cfg")]);
    assert_eq!(typo.code, Some(2));
    assert!(typo.err.contains(&format!("did you mean '{path}'?")), "{}", typo.err);
}

/// Frames as digits, a space between each two
fn hex(frames: &[&[u8]]) -> String {
    let digits = |frame: &&[u8]| frame.iter().map(|octet| format!("{octet:02x}")).collect::<String>();
    frames.iter().map(digits).collect::<Vec<_>>().join(" ")
}

#[test]
fn an_installation_goes_on_as_it_was() {
    let directory = tempfile::tempdir().unwrap();
    let (old, new) = (directory.path().join("domogik-mq.cfg"), directory.path().join("tidings.toml"));
    let (old, new) = (old.to_str().unwrap(), new.to_str().unwrap());
    fs::write(old, SAMPLE).unwrap();
    assert_eq!(run(&["import", "domogik", old, "-o", new]).code, Some(0));
    // Other ports than Domogik's, which the machine of the test may use
    let daemon = Daemon::start(&["-c", new]);

    // A worker as Domogik's are: READY, and a reply with the envelope of the request
    let mut worker =
        tidings(&["sock", "dealer", "-c", &daemon.service, "--stdin", "--hex", "-d", " ", "--output", "hex"]);
    worker.tell(&hex(&[b"", b"MDPW01", b"\x01", b"dbmanager"]));
    assert!(worker.line().starts_with(&hex(&[b"", b"MDPW01", b"\x04"])), "a heartbeat, so that READY has arrived");
    // The seed's exchange, by a client with a timeout of 10 seconds
    let mut client = tidings(&[
        "sock",
        "req",
        "-c",
        &daemon.service,
        "--timeout",
        "20s",
        "-d",
        "|",
        "MDPC01",
        "dbmanager",
        "10",
        "config.get",
        "{\"id\": \"diskfree\"}",
    ]);
    let request = loop {
        let line = worker.line();
        if line.starts_with(&hex(&[b"", b"MDPW01", b"\x02"])) {
            break line;
        }
    };
    let frames: Vec<&str> = request.split(' ').collect();
    let [_, _, _, envelope, "", action, data] = frames[..] else { panic!("{request}") };
    assert_eq!((action, data), (&hex(&[b"config.get"])[..], &hex(&[b"{\"id\": \"diskfree\"}"])[..]));
    let head = hex(&[b"", b"MDPW01", b"\x03"]);
    worker.tell(&format!("{head} {envelope}  {}", hex(&[b"config.result", b"{\"value\": 1}"])));
    assert_eq!(client.line(), "MDPC01|dbmanager|config.result|{\"value\": 1}");

    // A publisher and a subscriber as Domogik's, through the forwarder
    let mut subscriber =
        tidings(&["sock", "sub", "-c", &daemon.outlet, "-s", "device", "-n", "1", "-d", "|", "--timeout", "20s"]);
    let published = run(&[
        "event",
        "pub",
        "--domogik",
        "device.update",
        "{\"id\": 1}",
        "-e",
        &daemon.inlet,
        "--wait-subs",
        "1",
        "--timeout",
        "20s",
    ]);
    assert_eq!(published.code, Some(0), "{}", published.err);
    let line = subscriber.line();
    assert!(line.starts_with("device.update.") && line.ends_with(".0_1|{\"id\": 1}"), "{line}");
}

#[test]
fn events_have_categories_and_json() {
    let mut publisher = tidings(&["sock", "pub", "-b", "tcp://127.0.0.1:*", "--wait-peers", "2", "--stdin", "-d", " "]);
    let endpoint = publisher.endpoint();
    let sub = |more: &[&str]| {
        tidings(
            &[&["event", "sub", "--domogik", "-e", &endpoint, "-n", "1", "--timeout", "20s", "device"], more].concat(),
        )
    };
    let (mut plain, mut json) = (sub(&[]), sub(&["--json"]));
    for line in [
        "device",
        "device.0_1 {}",
        "device.1_2.0_1 {",
        "other.1_2.0_1 {}",
        "device.update.1416500000_12.0_1 {\"id\":1}",
    ] {
        publisher.tell(line);
    }
    assert_eq!(plain.line(), "device.update {\"id\":1}");
    let object: Value = serde_json::from_str(&json.line()).unwrap();
    assert_eq!((&object["category"], &object["content"]["id"]), (&"device.update".into(), &1.into()));
    assert_eq!((&object["timestamp"], &object["version"]), (&1_416_500_000.12.into(), &"0_1".into()));
    let done = plain.finish();
    assert_eq!(done.code, Some(0), "{}", done.err);
    for part in ["passed over: 1 message of one frame", "not category.timestamp.version", "not JSON"] {
        assert!(done.err.contains(part), "{part}: {}", done.err);
    }
}

#[test]
fn what_is_published_has_timestamp_and_version() {
    let mut subscriber =
        tidings(&["sock", "xsub", "-b", "tcp://127.0.0.1:*", "-s", "device", "--no-stdin", "--json", "-n", "1"]);
    let endpoint = subscriber.endpoint();
    let event = |content: &str| {
        run(&[
            "event",
            "pub",
            "--domogik",
            "device.update",
            content,
            "-e",
            &endpoint,
            "--wait-subs",
            "1",
            "--timeout",
            "20s",
        ])
    };
    let wrong = event("{\"id\": 1 2}");
    assert_eq!(wrong.code, Some(2));
    assert!(wrong.err.contains("line 1, column 10"), "{}", wrong.err);
    let done = event("{\"id\": 1}");
    assert_eq!(done.code, Some(0), "{}", done.err);
    let object: Value = serde_json::from_str(&subscriber.line()).unwrap();
    let id = object["frames"][0].as_str().unwrap();
    let time = id.strip_prefix("device.update.").and_then(|rest| rest.strip_suffix(".0_1")).unwrap();
    let (seconds, fraction) = time.split_once('_').unwrap();
    assert!(seconds.parse::<u64>().unwrap() > 1_700_000_000 && fraction.parse::<u32>().is_ok(), "{id}");
    assert_eq!(object["frames"][1], "{\"id\": 1}");
}

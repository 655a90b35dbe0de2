//! Command lines right and wrong, configuration, completions, manual pages.

use std::process::Command;

use serde_json::Value;

use crate::process::{run, start};

#[test]
fn wrong_command_lines_name_the_thing_and_the_right_one() {
    for (args, parts) in [
        (&["sock", "req", "--conect", "tcp://127.0.0.1:1", "x"][..], &["--conect", "--connect"][..]),
        (&["sock", "rek"], &["rek", "req"]),
        (&["serv"], &["serv", "serve"]),
        (&["sock", "req", "x"], &["--bind"]),
        (&["sock", "req", "-c", "tpc://127.0.0.1:1", "x"], &["tpc://127.0.0.1:1", "tcp://"]),
        (&["sock", "req", "-c", "tcp://127.0.0.1", "x"], &["tcp://127.0.0.1"]),
        (&["sock", "sub", "-c", "inproc://x"], &["inproc://x", "ipc://"]),
        (&["sock", "push", "-b", "tcp://127.0.0.1:*", "-o", "snd_hvm=1", "x"], &["snd_hvm", "send_hwm"]),
        (&["sock", "push", "-b", "tcp://127.0.0.1:*", "-o", "send_hwm=many", "x"], &["send_hwm", "many"]),
        (&["sock", "push", "-b", "tcp://127.0.0.1:*", "-o", "send_hwm", "x"], &["send_hwm", "NAME=VALUE"]),
        (&["sock", "push", "-b", "tcp://127.0.0.1:*"], &["nothing to send", "--stdin"]),
        (&["sock", "push", "-b", "tcp://127.0.0.1:*", "{{sek}}"], &["{{sek}}", "{{seq}}"]),
        (&["sock", "push", "-b", "tcp://127.0.0.1:*", "--interval", "5", "x"], &["'5'", "5s"]),
        (&["sock", "rep", "-b", "tcp://127.0.0.1:*"], &["--echo"]),
        (&["sock", "proxy", "xsubb@tcp://127.0.0.1:*", "xpub@tcp://127.0.0.1:*"], &["xsubb", "xsub"]),
    ] {
        let done = run(args);
        assert_eq!(done.code, Some(2), "{args:?}: {}", done.err);
        assert!(done.out.is_empty(), "{args:?}: {:?}", done.out);
        for part in parts {
            assert!(done.err.contains(part), "{args:?} does not say {part}: {}", done.err);
        }
    }
}

#[test]
fn errors_are_json_where_json_is_asked_for() {
    for args in [
        &["sock", "req", "--json", "--conect", "x"][..],
        &["sock", "req", "--json", "-c", "nonsense", "x"],
        &["sock", "options", "--json", "-o"],
        &["serve", "--json", "--set", "events.hvm=1"],
    ] {
        let done = run(args);
        assert_eq!(done.code, Some(2), "{args:?}: {}", done.err);
        let object: Value = serde_json::from_str(&done.out[0]).unwrap();
        assert_eq!(object["ok"], false, "{args:?}");
        assert!(!object["error"]["message"].as_str().unwrap().is_empty(), "{args:?}");
    }
}

#[test]
fn help_is_for_asking() {
    let version = run(&["--version"]);
    assert_eq!(version.out, [format!("tidings {}", env!("CARGO_PKG_VERSION"))]);
    let help = run(&["sock", "req", "--help"]);
    assert_eq!(help.code, Some(0));
    let place = |part: &str| help.out.iter().position(|line| line.contains(part)).unwrap();
    assert!(place("Examples:") < place("Usage:"), "{:?}", help.out);
    let nothing = run::<&str>(&[]);
    assert_eq!(nothing.code, Some(2));
    assert!(nothing.err.contains("tidings serve"), "{}", nothing.err);
}

#[test]
fn the_option_table_is_printed() {
    let table = run(&["sock", "options", "--json"]);
    let object: Value = serde_json::from_str(&table.out[0]).unwrap();
    let rows = object["options"].as_array().unwrap();
    let row = rows.iter().find(|row| row["name"] == "send_hwm").unwrap();
    assert_eq!((&row["c_name"], &row["number"]), (&Value::from("ZMQ_SNDHWM"), &Value::from(23)));
    let text = run(&["sock", "options", "ZMQ_SNDHWM"]);
    assert_eq!(text.out[0], "send_hwm");
    assert_eq!(run(&["sock", "options", "nonsense-at-all"]).code, Some(1));
}

#[test]
fn a_configuration_is_checked_with_line_and_column() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("t.toml");
    let path = file.to_str().unwrap();
    std::fs::write(&file, "[events]\nsend_hwm = 5\n\n[http]\nlisten = \"0.0.0.0:80\"\n").unwrap();
    let done = run(&["check", path]);
    assert_eq!(done.code, Some(2));
    for part in
        [&format!("{path}:2:1: "), "did you mean 'send-hwm'?", &format!("{path}:5:10: "), "allow-plaintext = true"]
    {
        assert!(done.err.contains(part), "{part}: {}", done.err);
    }
    let done = run(&["check", "--json", path]);
    assert_eq!(done.code, Some(2));
    assert_eq!(done.out.len(), 1, "{:?}", done.out);
    let object: Value = serde_json::from_str(&done.out[0]).unwrap();
    assert_eq!(object["ok"], false);
    assert_eq!((&object["problems"][0]["line"], &object["problems"][0]["column"]), (&2.into(), &1.into()));

    std::fs::write(&file, "[events]\nsend-hwm = 5\n").unwrap();
    assert_eq!(run(&["check", path]).code, Some(0));
    let printed = run(&["check", "--print", path]);
    assert!(printed.out.contains(&"send-hwm = 5".to_owned()), "{:?}", printed.out);
    assert!(printed.out.iter().any(|line| line.contains(&format!("{path}:2:12"))), "{:?}", printed.out);
}

#[test]
fn what_check_prints_is_right_and_so_is_the_packaged_sample() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("t.toml");
    std::fs::write(&file, run(&["check", "--print"]).out.join("\n")).unwrap();
    let done = run(&["check", file.to_str().unwrap()]);
    assert_eq!(done.code, Some(0), "{}", done.err);
    let sample = concat!(env!("CARGO_MANIFEST_DIR"), "/../../packaging/tidings.toml");
    let done = run(&["check", sample]);
    assert_eq!(done.code, Some(0), "{}", done.err);
    // Every key stands in the sample, at its default
    let values = |args: &[&str]| -> Vec<Value> {
        let object: Value = serde_json::from_str(&run(args).out[0]).unwrap();
        let rows = object["settings"].as_array().unwrap().clone();
        rows.into_iter().map(|row| row["value"].clone()).collect()
    };
    assert_eq!(values(&["check", "--json", sample]), values(&["check", "--json"]));
    let object: Value = serde_json::from_str(&run(&["check", "--json", sample]).out[0]).unwrap();
    for row in object["settings"].as_array().unwrap() {
        assert_ne!(row["origin"], "default", "{row}");
    }
}

#[test]
fn the_environment_wins_over_the_file_and_wrong_variables_are_errors() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("t.toml");
    std::fs::write(&file, "[events]\nsend-hwm = 5\n").unwrap();
    let check = |name: &str, value: &str| {
        let program = env!("CARGO_BIN_EXE_tidings");
        start(Command::new(program).args(["check", "--print", file.to_str().unwrap()]).env(name, value)).finish()
    };
    let done = check("TIDINGS_EVENTS__SEND_HWM", "6");
    assert!(done.out.contains(&"send-hwm = 6".to_owned()), "{:?}", done.out);
    let done = check("TIDINGS_EVENTS__SND_HWM", "6");
    assert_eq!(done.code, Some(2));
    assert!(done.err.contains("did you mean TIDINGS_EVENTS__SEND_HWM?"), "{}", done.err);
}

#[test]
fn completions_and_manual_pages() {
    for shell in ["bash", "zsh", "fish"] {
        let done = run(&["completions", shell]);
        assert_eq!(done.code, Some(0), "{}", done.err);
        assert!(done.out.join("\n").contains("wait-peers"), "{shell}");
    }
    let page = run(&["man"]);
    assert!(page.out.iter().any(|line| line.starts_with(".TH")), "{:?}", page.out);
    let directory = tempfile::tempdir().unwrap();
    assert_eq!(run(&["man", "--dir", directory.path().to_str().unwrap()]).code, Some(0));
    let page = std::fs::read_to_string(directory.path().join("tidings-sock-req.1")).unwrap();
    assert!(page.contains("Examples"), "{page}");
}

#[test]
fn colour_stays_off_where_nobody_sees_it() {
    let done = run(&["sock", "rek"]);
    assert!(!done.err.contains('\x1b'), "{}", done.err);
}

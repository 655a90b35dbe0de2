//! The option table against libzmq itself: the same names, the same numbers, the same defaults.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use tidings_socket::{OPTIONS, OptionKind};

use crate::peer::{Peer, python};

/// `zmq.h`'s numbers, as pyzmq knows them
#[tokio::test]
async fn names_and_numbers_are_those_of_zmq_h() -> Result<()> {
    let Some(_peer) = Peer::start().await? else { return Ok(()) };
    let script = "import json, zmq; print(json.dumps({option.name: int(option) for option in zmq.SocketOption}))";
    let output = std::process::Command::new(python()).args(["-c", script]).output()?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let numbers: BTreeMap<String, i32> = serde_json::from_slice(&output.stdout)?;
    for row in OPTIONS.iter().filter(|row| !row.c_name.is_empty()) {
        let name = row.c_name.trim_start_matches("ZMQ_");
        let number = numbers.get(name).with_context(|| format!("pyzmq knows no {name}"))?;
        ensure!(*number == row.number, "{name} is {number} there and {} here", row.number);
    }
    Ok(())
}

/// What a fresh socket of libzmq says, for every option that it tells
#[tokio::test]
async fn defaults_are_libzmqs() -> Result<()> {
    let Some(mut peer) = Peer::start().await? else { return Ok(()) };
    let id = peer.open("DEALER", json!({})).await?;
    let mut compared = 0;
    for row in OPTIONS.iter().filter(|row| !row.c_name.is_empty()) {
        let name = row.c_name.trim_start_matches("ZMQ_");
        let answer = peer.ask(json!({"op": "get", "id": id, "option": name})).await?;
        if answer["ok"] != true {
            // Some can only be set, others only on another type
            continue;
        }
        compared += 1;
        let ours = match row.kind {
            OptionKind::Octets | OptionKind::Text | OptionKind::Key | OptionKind::Secret => {
                json!(crate::peer::encode(row.default.as_bytes()))
            }
            _ => json!(row.default.parse::<i64>()?),
        };
        // libzmq ends its texts with a zero octet, and a key that is not set is all zeros
        let is_empty =
            answer["value"].as_str().is_some_and(|text| text.trim_end_matches('=').chars().all(|c| c == 'A'));
        let theirs = if is_empty { json!("") } else { answer["value"].clone() };
        ensure!(theirs == ours, "{name}: libzmq says {theirs}, the table {ours}");
    }
    ensure!(compared >= 20, "only {compared} options could be compared");
    ensure!(peer.ask(json!({"op": "get", "id": id, "option": "NO_SUCH"})).await?["ok"] == Value::Bool(false));
    Ok(())
}

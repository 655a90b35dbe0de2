//! `gossip peers`, `members` and `status`: what a node tells of itself and its network.

use std::time::Duration;

use clap::Args;
use serde_json::{Value, json};

use super::node::NodeArgs;
use super::tuple::short;
use crate::cli::output::escape;
use crate::cli::units::display_octets;
use crate::cli::{Failure, Talk, printed, table};

/// What these commands are given
#[derive(Args, Debug)]
pub(crate) struct LookArgs {
    #[command(flatten)]
    node: NodeArgs,
}

/// `tidings gossip peers`
///
/// # Errors
/// No node (3), not permitted (4), no answer (5).
pub(super) async fn peers(args: LookArgs, talk: Talk) -> Result<(), Failure> {
    let peers = args.node.open(talk).await?.look("PEERS").await?;
    if talk.json {
        return printed(talk.data(json!({ "ok": true, "peers": peers }))).map(drop);
    }
    match peers.as_array().filter(|peers| !peers.is_empty()) {
        Some(peers) => printed(talk.data(peers_table(peers))).map(drop),
        None => {
            talk.say("nobody is connected; gossip.connect of the configuration names nodes to connect to");
            Ok(())
        }
    }
}

/// `tidings gossip members`
///
/// # Errors
/// No node (3), not permitted (4), no answer (5).
pub(super) async fn members(args: LookArgs, talk: Talk) -> Result<(), Failure> {
    let mut node = args.node.open(talk).await?;
    let members = node.look("MEMBERS").await?;
    if talk.json {
        return printed(talk.data(json!({ "ok": true, "members": members }))).map(drop);
    }
    let status = node.look("STATUS").await?;
    let rows: Vec<Value> = members.as_array().cloned().unwrap_or_default();
    printed(talk.data(members_table(&rows, status["id"].as_str()))).map(drop)
}

/// `tidings gossip status`
///
/// # Errors
/// No node (3), not permitted (4), no answer (5).
pub(super) async fn status(args: LookArgs, talk: Talk) -> Result<(), Failure> {
    let status = args.node.open(talk).await?.look("STATUS").await?;
    let text = match talk.json {
        true => json!({ "ok": true, "node": status }).to_string(),
        false => about(&status),
    };
    printed(talk.data(text)).map(drop)
}

fn peers_table(peers: &[Value]) -> String {
    let row = |peer: &Value| {
        let name = text(peer, "name").or_else(|| text(peer, "node")).unwrap_or_else(|| "-".to_owned());
        vec![
            name,
            text(peer, "wire").unwrap_or_default(),
            if peer["side"] == "remote" { "we connected" } else { "it connected" }.to_owned(),
            text(peer, "role").unwrap_or_default(),
            text(peer, "endpoint").unwrap_or_default(),
            octets(peer, "octets-in"),
            octets(peer, "octets-out"),
            number(peer, "refused").to_string(),
        ]
    };
    let rows: Vec<Vec<String>> = peers.iter().map(row).collect();
    table::layout(&["NODE", "WIRE", "WHO", "ROLE", "ENDPOINT", " RECEIVED", " SENT", " REFUSED"], &rows)
}

fn members_table(members: &[Value], asked: Option<&str>) -> String {
    let row = |member: &Value| {
        let mark = if asked.is_some() && member["id"].as_str() == asked { " *" } else { "" };
        let name = text(member, "name").unwrap_or_else(|| "-".to_owned());
        let endpoints: Vec<String> = member["endpoints"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(|endpoint| endpoint.as_str().map(|endpoint| escape(endpoint.as_bytes())))
            .collect();
        vec![
            format!("{name}{mark}"),
            text(member, "id").unwrap_or_default(),
            text(member, "status").unwrap_or_default(),
            short(Duration::from_millis(number(member, "since-ms"))),
            if endpoints.is_empty() { "-".to_owned() } else { endpoints.join(" ") },
        ]
    };
    let rows: Vec<Vec<String>> = members.iter().map(row).collect();
    table::layout(&["NODE", "ID", "STATUS", " SINCE", "ENDPOINTS"], &rows)
}

fn about(status: &Value) -> String {
    let figures = &status["figures"];
    let of = |name: &str| number(figures, name);
    let listens = |name: &str| {
        let all = status[name].as_array().into_iter().flatten().filter_map(Value::as_str);
        all.map(|endpoint| escape(endpoint.as_bytes())).collect::<Vec<_>>().join(" ")
    };
    let name = text(status, "name").map(|name| format!("{name} ")).unwrap_or_default();
    let mut rows = vec![
        ("node".to_owned(), format!("{name}{}", text(status, "id").unwrap_or_default())),
        ("listens".to_owned(), listens("endpoints")),
        ("connects to".to_owned(), listens("connects")),
        ("tuples".to_owned(), format!("{} ({} octets)", of("tuples"), of("octets"))),
        ("links".to_owned(), format!("{}, {} active", of("links"), of("active-links"))),
        ("received".to_owned(), format!("{} messages, {}", of("frames-in"), octets(figures, "octets-in"))),
        ("sent".to_owned(), format!("{} messages, {}", of("frames-out"), octets(figures, "octets-out"))),
    ];
    rows.retain(|(_, value)| !value.is_empty());
    for (name, label) in SELDOM {
        if of(name) > 0 {
            rows.push((label.to_owned(), of(name).to_string()));
        }
    }
    let refused = counts(&status["refused"]).into_iter();
    rows.extend(refused.map(|(cause, count)| (format!("refused {cause}"), count.to_string())));
    let width = rows.iter().map(|(name, _)| name.len()).max().unwrap_or_default();
    rows.iter().map(|(name, value)| format!("{name:<width$}  {value}")).collect::<Vec<_>>().join("\n")
}

/// Figures that are shown if there is anything to show, and what they are to people
const SELDOM: [(&str, &str); 8] = [
    ("hidden", "hidden with their nodes"),
    ("tombstones", "deletions remembered"),
    ("owners", "lives remembered"),
    ("contested", "contested keys"),
    ("repairs", "repairs"),
    ("want-timeouts", "answers that stayed out"),
    ("health", "doubts of itself"),
    ("missed-events", "events nobody fetched"),
];

/// Those of an object's numbers that are not 0
fn counts(object: &Value) -> Vec<(String, u64)> {
    let all = object.as_object().into_iter().flatten();
    all.filter_map(|(name, count)| Some((escape(name.as_bytes()), count.as_u64().filter(|count| *count > 0)?)))
        .collect()
}

fn number(object: &Value, name: &str) -> u64 {
    object[name].as_u64().unwrap_or_default()
}

/// Octets in a unit that says enough
fn octets(object: &Value, name: &str) -> String {
    let octets = number(object, name);
    let mut power = 0;
    while octets >> (10 * (power + 1)) >= 10 && power < 3 {
        power += 1;
    }
    display_octets((octets >> (10 * power)) << (10 * power))
}

/// Names come from peers: what would move the cursor is shown as an escape
fn text(object: &Value, name: &str) -> Option<String> {
    object[name].as_str().filter(|text| !text.is_empty()).map(|text| escape(text.as_bytes()))
}

pub(super) const PEERS: &str = "\
Examples:
  tidings gossip peers
  tidings gossip peers --json | jq '.peers[] | select(.wire == \"zgossip\")'";

pub(super) const MEMBERS: &str = "\
Examples:
  tidings gossip members
  tidings gossip members --json | jq -r '.members[] | select(.status != \"up\") | .name'";

pub(super) const STATUS: &str = "\
Examples:
  tidings gossip status
  tidings gossip status --json | jq .node.figures.tuples";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn peers_and_members_are_rows() {
        let peers = [
            json!({ "name": "beta", "wire": "tidings", "side": "remote", "role": "tree",
            "endpoint": "tcp://192.0.2.1:4833", "octets-in": 20_480, "octets-out": 12, "refused": 1 }),
            json!({ "node": null, "name": "", "wire": "zgossip", "side": "server", "role": "connected", "endpoint": "x\u{1b}" }),
        ];
        let text = peers_table(&peers);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(
            lines[1].split_whitespace().collect::<Vec<_>>(),
            ["beta", "tidings", "we", "connected", "tree", "tcp://192.0.2.1:4833", "20KiB", "12", "1"]
        );
        assert!(lines[2].starts_with("-     zgossip  it connected  connected  x\\x1b"), "{text}");
        let members = [
            json!({ "id": "00aa", "name": "alpha", "status": "up", "since-ms": 61_000, "endpoints": ["tcp://a:1", "tcp://b:1"], "neighbour": false }),
        ];
        assert!(
            members_table(&members, Some("00aa")).ends_with("alpha *  00aa  up      1m01s  tcp://a:1 tcp://b:1"),
            "{}",
            members_table(&members, Some("00aa"))
        );
    }

    #[test]
    fn a_status_leaves_out_what_never_happened() {
        let text =
            about(&json!({ "name": "alpha", "id": "00aa", "endpoints": ["tcp://127.0.0.1:4833"], "connects": [],
            "figures": { "tuples": 3, "octets": 40, "links": 2, "active-links": 1, "contested": 0, "hidden": 1 },
            "refused": { "key-quota": 2 } }));
        for part in
            ["alpha 00aa", "3 (40 octets)", "tcp://127.0.0.1:4833", "2, 1 active", "refused key-quota", "hidden with"]
        {
            assert!(text.contains(part), "no {part} in {text}");
        }
        assert!(!text.contains("connects") && !text.contains("contested"), "{text}");
    }
}

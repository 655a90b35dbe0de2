//! The later socket types between two processes: CLIENT and SERVER, RADIO and DISH, SCATTER and GATHER, PEER, CHANNEL.

use serde_json::{Value, json};

use crate::process::{Process, run, tidings};

const ANY: &str = "tcp://127.0.0.1:*";

/// A socket that listens, and where
fn listener(args: &[&str]) -> (Process, String) {
    let mut process = tidings(&[&["sock"], args].concat());
    let endpoint = process.endpoint();
    (process, endpoint)
}

#[test]
fn a_server_numbers_its_clients_and_reaches_them() {
    let (mut server, endpoint) = listener(&["server", "-b", ANY, "--delimiter", " "]);
    let mut client = tidings(&["sock", "client", "-c", &endpoint, "--count", "1"]);
    client.tell("hello");
    let line = server.line();
    let (id, text) = line.split_once(' ').unwrap();
    assert_eq!(text, "hello", "{line}");
    assert_ne!(id.parse::<u32>().unwrap(), 0, "{line}");
    server.tell(&format!("{id} back"));
    assert_eq!(client.line(), "back");
    assert_eq!(client.finish().code, Some(0));
}

#[test]
fn an_id_that_is_none_ends_with_the_reason() {
    let (mut server, _) = listener(&["server", "-b", ANY, "--delimiter", " "]);
    server.tell("worker-1 hello");
    let done = server.finish();
    assert_eq!(done.code, Some(7), "{}", done.err);
    assert!(done.err.contains("'worker-1' is no peer's id"), "{}", done.err);
    let done = run(&["sock", "server", "-b", ANY, "1", "to nobody"]);
    assert_eq!(done.code, Some(1), "{}", done.err);
    assert!(done.err.contains("no connected peer has this routing id"), "{}", done.err);
}

#[test]
fn a_server_shows_ids_as_numbers_in_json() {
    let (server, endpoint) = listener(&["server", "-b", ANY, "--no-stdin", "--count", "1", "--json"]);
    let client = run(&["sock", "client", "-c", &endpoint, "a", "b", "--until-eof", "--idle", "10ms"]);
    assert_eq!(client.code, Some(0), "{}", client.err);
    let object: Value = serde_json::from_str(&server.finish().out[0]).unwrap();
    let frames = object["frames"].as_array().unwrap();
    assert!(frames[0].is_u64(), "{object}");
    assert_eq!(frames[1..], [json!("a"), json!("b")]);
}

#[test]
fn peers_talk_and_who_connected_needs_no_number() {
    let (mut left, endpoint) = listener(&["peer", "-b", ANY, "--delimiter", " "]);
    let mut right = tidings(&["sock", "peer", "-c", &endpoint]);
    right.tell("from the right");
    let line = left.line();
    let (id, text) = line.split_once(' ').unwrap();
    assert_eq!(text, "from the right");
    left.tell(&format!("{id} from the left"));
    let line = right.line();
    let (id, text) = line.split_once(' ').unwrap();
    assert!(id.parse::<u32>().is_ok(), "{line}");
    assert_eq!(text, "from the left");
}

#[test]
fn a_peer_of_another_type_is_a_refusal() {
    let (_pull, endpoint) = listener(&["pull", "-b", ANY]);
    let peer = run(&["sock", "peer", "-c", &endpoint, "--timeout", "20s", "hello"]);
    assert_eq!(peer.code, Some(4), "{}", peer.err);
}

#[test]
fn a_group_reaches_who_joined_it() {
    let (radio, endpoint) =
        listener(&["radio", "-b", ANY, "--group", "tv", "--wait-peers", "1", "{{seq}}", "--count", "2"]);
    let dish =
        run(&["sock", "dish", "-c", &endpoint, "--join", "tv", "--join", "x", "--count", "2", "--timeout", "20s"]);
    assert_eq!((dish.code, dish.out), (Some(0), vec!["tv 0".to_owned(), "tv 1".to_owned()]), "{}", dish.err);
    assert_eq!(radio.finish().code, Some(0));
}

#[test]
fn the_first_frame_is_the_group_where_no_flag_names_one() {
    let (mut radio, endpoint) = listener(&["radio", "-b", ANY, "--stdin", "--delimiter", "|", "--wait-peers", "1"]);
    let mut dish = tidings(&["sock", "dish", "-c", &endpoint, "--join", "", "--output", "hex"]);
    radio.tell("tv|not joined");
    radio.tell("|a");
    assert_eq!(dish.line(), " 61");
    radio.tell("only one frame");
    let done = radio.finish();
    assert_eq!(done.code, Some(2), "{}", done.err);
    assert!(done.err.contains("a group of up to 255 octets"), "{}", done.err);
}

#[test]
fn a_radio_that_nobody_hears_says_so() {
    let radio = run(&["sock", "radio", "-b", ANY, "--group", "tv", "lost"]);
    assert_eq!(radio.code, Some(0), "{}", radio.err);
    assert!(radio.err.contains("nobody had joined the group"), "{}", radio.err);
}

#[test]
fn a_dish_joins_each_group_once() {
    let done = run(&["sock", "dish", "-b", ANY, "--join", "tv", "--join", "tv"]);
    assert_eq!(done.code, Some(2), "{}", done.err);
    assert!(done.err.contains("can't join 'tv'") && done.err.contains("joined once"), "{}", done.err);
    let done = run(&["sock", "dish", "-b", ANY]);
    assert_eq!(done.code, Some(2), "{}", done.err);
    assert!(done.err.contains("--join"), "{}", done.err);
}

#[test]
fn what_is_scattered_is_gathered_in_order() {
    let (gather, endpoint) = listener(&["gather", "-b", ANY, "--count", "100", "--timeout", "20s"]);
    let scatter = run(&["sock", "scatter", "-c", &endpoint, "--count", "100", "{{seq}}"]);
    assert_eq!(scatter.code, Some(0), "{}", scatter.err);
    assert_eq!(gather.finish().out, (0..100).map(|seq| seq.to_string()).collect::<Vec<_>>());
}

#[test]
fn a_channel_talks_both_ways() {
    let (mut left, endpoint) = listener(&["channel", "-b", ANY]);
    let mut right = tidings(&["sock", "channel", "-c", &endpoint]);
    left.tell("from the left");
    assert_eq!(right.line(), "from the left");
    right.tell("from the right");
    assert_eq!(left.line(), "from the right");
}

#[test]
fn a_group_goes_out_as_datagrams() {
    for address in ["udp://127.0.0.1:*", "udp://127.0.0.1;239.7.7.21:*"] {
        let (dish, at) = listener(&["dish", "-b", address, "--join", "tv", "--count", "1", "--timeout", "20s"]);
        let radio = run(&["sock", "radio", "-c", &at, "--group", "tv", "hello"]);
        assert_eq!(radio.code, Some(0), "{}", radio.err);
        let dish = dish.finish();
        assert_eq!((dish.code, dish.out), (Some(0), vec!["tv hello".to_owned()]), "{address}: {}", dish.err);
    }
}

#[test]
fn a_job_is_a_datagram() {
    let (pull, at) = listener(&["pull", "-b", "udp://127.0.0.1:*", "--count", "3", "--timeout", "20s"]);
    let push = run(&["sock", "push", "-c", &at, "job {{seq}}", "--count", "3"]);
    assert_eq!(push.code, Some(0), "{}", push.err);
    assert_eq!(pull.finish().out, ["job 0", "job 1", "job 2"]);
    let push = run(&["sock", "push", "-c", &at, "two", "frames"]);
    assert_eq!(push.code, Some(2), "{}", push.err);
    assert!(push.err.contains("messages of one frame"), "{}", push.err);
}

#[test]
fn what_does_not_do_datagrams_says_what_does() {
    let req = run(&["sock", "req", "-c", "udp://127.0.0.1:9", "hello"]);
    assert_eq!(req.code, Some(2), "{}", req.err);
    assert!(req.err.contains("only RADIO and PUSH connect to udp"), "{}", req.err);
    let radio = run(&["sock", "radio", "-b", "udp://127.0.0.1:*", "--group", "tv", "hello"]);
    assert_eq!(radio.code, Some(3), "{}", radio.err);
    assert!(radio.err.contains("only DISH and PULL bind udp"), "{}", radio.err);
}

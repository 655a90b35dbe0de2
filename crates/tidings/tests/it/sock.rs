//! Each pattern between two processes, and the flags that socket commands share.

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::process::{Process, run, tidings};

const ANY: &str = "tcp://127.0.0.1:*";

/// A receiver that listens, and where
fn listener(args: &[&str]) -> (Process, String) {
    let mut process = tidings(&[&["sock"], args].concat());
    let endpoint = process.endpoint();
    (process, endpoint)
}

#[test]
fn a_request_is_answered() {
    let (mut rep, endpoint) = listener(&["rep", "-b", ANY, "--echo"]);
    let req = run(&["sock", "req", "-c", &endpoint, "hello", "two words"]);
    assert_eq!((req.code, req.out), (Some(0), vec!["hello two words".to_owned()]), "{}", req.err);
    assert_eq!(rep.line(), "hello two words");
}

#[test]
fn each_line_is_a_request_and_its_reply_a_line() {
    let (_rep, endpoint) = listener(&["rep", "-b", ANY, "--reply", "n{{seq}}"]);
    let mut req = tidings(&["sock", "req", "-c", &endpoint, "--stdin"]);
    req.tell("one");
    assert_eq!(req.line(), "n0");
    req.tell("two");
    assert_eq!(req.line(), "n1");
    assert_eq!(req.finish().code, Some(0));
}

#[test]
fn a_request_nobody_answers_ends_at_its_deadline() {
    // A ROUTER takes the request and stays silent
    let (_router, endpoint) = listener(&["router", "-b", ANY, "--no-stdin"]);
    let req = run(&["sock", "req", "-c", &endpoint, "--timeout", "200ms", "hello"]);
    assert_eq!(req.code, Some(5), "{}", req.err);
    assert!(req.err.contains("no reply within 200ms"), "{}", req.err);
}

#[test]
fn a_request_to_nowhere_is_a_failed_connection() {
    // A port that was just free: bound by nobody once its owner is gone
    let (owner, endpoint) = listener(&["pull", "-b", ANY]);
    drop(owner);
    let req = run(&["sock", "req", "-c", &endpoint, "--timeout", "500ms", "--json", "hello"]);
    assert_eq!(req.code, Some(3), "{}", req.err);
    let object: Value = serde_json::from_str(&req.out[0]).unwrap();
    assert_eq!(object["ok"], false);
    assert_eq!(object["error"]["code"], "connect");
    assert!(object["error"]["message"].as_str().unwrap().contains(&endpoint), "{object}");
}

#[test]
fn a_peer_of_the_wrong_type_is_a_refusal() {
    let (_pull, endpoint) = listener(&["pull", "-b", ANY]);
    let req = run(&["sock", "req", "-c", &endpoint, "--timeout", "20s", "hello"]);
    assert_eq!(req.code, Some(4), "{}", req.err);
}

#[test]
fn a_command_answers_requests() {
    let (_rep, endpoint) = listener(&["rep", "-b", ANY, "--exec", "tr a-z A-Z; echo $TIDINGS_FRAMES:$TIDINGS_FRAME_1"]);
    let req = run(&["sock", "req", "-c", &endpoint, "abc", "def"]);
    assert_eq!(req.out, ["ABC\\nDEF2:def"], "{}", req.err);
}

#[test]
fn a_failing_command_answers_with_its_failure_and_the_next_request_is_served() {
    let (mut rep, endpoint) =
        listener(&["rep", "-b", ANY, "--exec", "read x; exit $x", "--error-reply", "failed: {{error}}"]);
    let mut req = tidings(&["sock", "req", "-c", &endpoint, "--stdin"]);
    req.tell("3\\n");
    assert!(req.line().starts_with("failed: "));
    rep.said("the command failed");
    req.tell("0");
    req.end_input();
    assert_eq!(req.finish().code, Some(0));
}

#[test]
fn a_subscriber_gets_what_it_asked_for() {
    let mut publisher = tidings(&["sock", "pub", "-b", ANY, "--wait-peers", "1", "--stdin", "--delimiter", "|"]);
    let endpoint = publisher.endpoint();
    let mut subscriber =
        tidings(&["sock", "sub", "-c", &endpoint, "--subscribe", "0", "--count", "2", "--timeout", "20s"]);
    for line in ["1|dropped", "0|1 2000", "01|too"] {
        publisher.tell(line);
    }
    assert_eq!(subscriber.line(), "0 1 2000");
    assert_eq!(subscriber.line(), "01 too");
    assert_eq!(subscriber.finish().code, Some(0));
    assert_eq!(publisher.finish().code, Some(0));
}

#[test]
fn a_publisher_without_subscribers_says_so() {
    let publisher = run(&["sock", "pub", "-b", ANY, "lost"]);
    assert_eq!(publisher.code, Some(0), "{}", publisher.err);
    assert!(publisher.err.contains("nobody was subscribed"), "{}", publisher.err);
}

#[test]
fn pushed_messages_are_pulled_in_order_and_counted() {
    let (mut pull, endpoint) = listener(&["pull", "-b", ANY, "--count", "1000", "--timeout", "20s"]);
    let push = run(&["sock", "push", "-c", &endpoint, "--count", "1000", "--json", "job {{seq}}"]);
    assert_eq!(push.code, Some(0), "{}", push.err);
    assert_eq!(serde_json::from_str::<Value>(&push.out[0]).unwrap()["sent"], 1000);
    for seq in 0..1000 {
        assert_eq!(pull.line(), format!("job {seq}"));
    }
    assert_eq!(pull.finish().code, Some(0));
}

#[test]
fn ipc_carries_the_same() {
    let directory = tempfile::tempdir().unwrap();
    let endpoint = format!("ipc://{}/s", directory.path().display());
    let (pull, actual) = listener(&["pull", "-b", &endpoint, "--count", "1", "--timeout", "20s"]);
    assert_eq!(actual, endpoint);
    assert_eq!(run(&["sock", "push", "-c", &endpoint, "x"]).code, Some(0));
    assert_eq!(pull.finish().out, ["x"]);
}

#[test]
fn a_pair_talks_both_ways() {
    let (mut left, endpoint) = listener(&["pair", "-b", ANY]);
    let mut right = tidings(&["sock", "pair", "-c", &endpoint]);
    left.tell("from the left");
    assert_eq!(right.line(), "from the left");
    right.tell("from the right");
    assert_eq!(left.line(), "from the right");
}

#[test]
fn a_router_names_its_peers_and_reaches_them() {
    let (mut router, endpoint) = listener(&["router", "-b", ANY, "--delimiter", " "]);
    let mut dealer = tidings(&["sock", "dealer", "-c", &endpoint, "--routing-id", "worker-1", "--count", "1"]);
    dealer.tell("ready");
    assert_eq!(router.line(), "worker-1 ready");
    router.tell("worker-1 go");
    assert_eq!(dealer.line(), "go");
    assert_eq!(dealer.finish().code, Some(0));
}

#[test]
fn a_routing_id_that_is_not_text_reads_back_as_it_is_printed() {
    let (mut router, endpoint) = listener(&["router", "-b", ANY, "--delimiter", " "]);
    let mut dealer = tidings(&["sock", "dealer", "-c", &endpoint]);
    dealer.tell("hello");
    let line = router.line();
    let (id, text) = line.split_once(' ').unwrap();
    assert!(id.starts_with("0x00"), "{line}");
    assert_eq!(text, "hello");
    router.tell(&format!("{id} back"));
    assert_eq!(dealer.line(), "back");
}

#[test]
fn a_dealer_ends_when_its_input_is_sent_and_answered() {
    let (_rep, endpoint) = listener(&["rep", "-b", ANY, "--echo"]);
    let mut dealer = tidings(&[
        "sock",
        "dealer",
        "-c",
        &endpoint,
        "",
        "--stdin",
        "--until-eof",
        "--idle",
        "500ms",
        "--output",
        "json",
    ]);
    dealer.tell("a");
    dealer.tell("b");
    let done = dealer.finish();
    assert_eq!(done.code, Some(0), "{}", done.err);
    let frames: Vec<Value> =
        done.out.iter().map(|line| serde_json::from_str::<Value>(line).unwrap()["frames"].clone()).collect();
    assert_eq!(frames, [json!(["", "a"]), json!(["", "b"])]);
}

#[test]
fn subscriptions_reach_an_xpub_and_an_xsub_gets_what_it_subscribed_to() {
    let (mut xpub, endpoint) = listener(&["xpub", "-b", ANY]);
    let mut xsub = tidings(&["sock", "xsub", "-c", &endpoint, "--subscribe", "a", "--no-stdin"]);
    assert_eq!(xpub.line(), "\\x01a");
    xpub.tell("b dropped");
    xpub.tell("a kept");
    assert_eq!(xsub.line(), "a kept");
}

#[test]
fn a_stream_talks_to_plain_tcp() {
    use std::io::{Read as _, Write as _};
    let (mut stream, endpoint) = listener(&["stream", "-b", ANY, "--delimiter", " "]);
    let mut plain = std::net::TcpStream::connect(endpoint.strip_prefix("tcp://").unwrap()).unwrap();
    plain.set_read_timeout(Some(crate::process::DEADLINE)).unwrap();
    let greeting = stream.line();
    plain.write_all(b"hello").unwrap();
    let line = stream.line();
    let (id, text) = line.split_once(' ').unwrap();
    assert_eq!((greeting.trim(), text), (id, "hello"));
    stream.tell(&format!("{id} back"));
    let mut back = [0; 4];
    plain.read_exact(&mut back).unwrap();
    assert_eq!(&back, b"back");
}

#[test]
fn outputs() {
    for (form, expected) in [("text", "a\\n \\xff"), ("hex", "610a ff")] {
        let (pull, endpoint) = listener(&["pull", "-b", ANY, "--count", "1", "--timeout", "20s", "--output", form]);
        assert_eq!(run(&["sock", "push", "-c", &endpoint, "--hex", "610a", "0xff"]).code, Some(0));
        assert_eq!(pull.finish().out, [expected], "--output {form}");
    }
    let (pull, endpoint) = listener(&["pull", "-b", ANY, "--count", "1", "--timeout", "20s", "--json"]);
    assert_eq!(run(&["sock", "push", "-c", &endpoint, "--hex", "61", "ff"]).code, Some(0));
    let object: Value = serde_json::from_str(&pull.finish().out[0]).unwrap();
    assert_eq!(object["frames"], json!(["a", { "hex": "ff" }]));
}

#[test]
fn files_are_frames() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("body");
    std::fs::write(&path, b"from a file\n").unwrap();
    let (pull, endpoint) = listener(&["pull", "-b", ANY, "--count", "1", "--timeout", "20s", "--delimiter", "|"]);
    let at = format!("@{}", path.display());
    let push = run(&["sock", "push", "-c", &endpoint, "head", &at, "--file", path.to_str().unwrap()]);
    assert_eq!(push.code, Some(0), "{}", push.err);
    assert_eq!(pull.finish().out, ["head|from a file\\n|from a file\\n"]);
}

#[test]
fn an_option_reaches_the_socket() {
    let (mut pull, endpoint) = listener(&["pull", "-b", ANY, "--option", "max_message_size=10", "--events", "--json"]);
    let push = run(&["sock", "push", "-c", &endpoint, "--linger", "2s", "0123456789abcdef"]);
    // The message left; the other side would not have it, and says so
    assert!(matches!(push.code, Some(0 | 6)), "{push:?}");
    let event: Value = serde_json::from_str(&pull.said("disconnected")).unwrap();
    assert_eq!(event["event"], "disconnected", "{event}");
}

#[test]
fn what_can_not_be_delivered_is_said() {
    let push = run(&["sock", "push", "-b", ANY, "--timeout", "100ms", "x"]);
    assert_eq!(push.code, Some(5), "{}", push.err);
    let (owner, endpoint) = listener(&["pull", "-b", ANY]);
    drop(owner);
    let push = run(&["sock", "push", "-c", &endpoint, "--linger", "300ms", "x"]);
    assert_eq!(push.code, Some(3), "{}", push.err);
    assert!(push.err.contains("not delivered: 1 message,"), "{}", push.err);
}

#[test]
fn nothing_within_the_timeout_is_a_deadline_passed() {
    let pull = run(&["sock", "pull", "-b", ANY, "--timeout", "50ms"]);
    assert_eq!(pull.code, Some(5), "{}", pull.err);
}

#[test]
fn an_interrupted_count_is_partial_and_an_interrupted_stream_is_not() {
    let (pull, endpoint) = listener(&["pull", "-b", ANY]);
    assert_eq!(run(&["sock", "push", "-c", &endpoint, "x"]).code, Some(0));
    pull.signal(Signal::INT);
    assert_eq!(pull.finish().code, Some(0));
    let (pull, _) = listener(&["pull", "-b", ANY, "--count", "2"]);
    pull.signal(Signal::TERM);
    assert_eq!(pull.finish().code, Some(6));
    let (mut pull, endpoint) = listener(&["pull", "-b", ANY]);
    let push = tidings(&["sock", "push", "-c", &endpoint, "x", "--count", "3", "--interval", "1h"]);
    assert_eq!(pull.line(), "x");
    push.signal(Signal::TERM);
    let push = push.finish();
    assert_eq!(push.code, Some(6), "{}", push.err);
    assert!(push.err.contains("stopped after 1 of 3 messages"), "{}", push.err);
}

#[test]
fn a_killed_peer_does_not_stop_the_other() {
    let (first, endpoint) = listener(&["pull", "-b", ANY]);
    let mut push = tidings(&["sock", "push", "-c", &endpoint, "--stdin", "--events"]);
    push.said("handshaken");
    first.signal(Signal::KILL);
    push.said("disconnected");
    drop(first);
    let mut second = tidings(&["sock", "pull", "-b", &endpoint]);
    second.endpoint();
    push.tell("after all");
    assert_eq!(second.line(), "after all");
    assert_eq!(push.finish().code, Some(0));
}

#[test]
fn a_proxy_subscribes_where_nobody_else_can() {
    for front in ["sub", "xsub"] {
        let mut proxy = tidings(&["sock", "proxy", &format!("{front}@{ANY}"), &format!("push@{ANY}")]);
        let (front, back) = (proxy.endpoint(), proxy.endpoint());
        let mut pull = tidings(&["sock", "pull", "-c", &back]);
        let published = run(&["sock", "pub", "-c", &front, "one", "--wait-peers", "1"]);
        assert_eq!(published.code, Some(0), "{}", published.err);
        assert_eq!(pull.line(), "one");
    }
}

#[test]
fn a_proxy_passes_is_paused_and_counts() {
    let mut proxy = tidings(&["sock", "proxy", &format!("pull@{ANY}"), &format!("push@{ANY}"), "--steer", "--json"]);
    let (front, back) = (proxy.endpoint(), proxy.endpoint());
    let mut pull = tidings(&["sock", "pull", "-c", &back]);
    assert_eq!(run(&["sock", "push", "-c", &front, "one"]).code, Some(0));
    assert_eq!(pull.line(), "one");
    proxy.tell("pause");
    proxy.said("paused");
    assert_eq!(run(&["sock", "push", "-c", &front, "two"]).code, Some(0));
    proxy.tell("stats");
    let statistics: Value = serde_json::from_str(&proxy.line()).unwrap();
    assert_eq!(statistics["state"], "paused");
    proxy.tell("resume");
    assert_eq!(pull.line(), "two");
    proxy.tell("terminate");
    let done = proxy.finish();
    assert_eq!(done.code, Some(0), "{}", done.err);
    let last: Value = serde_json::from_str(done.out.last().unwrap()).unwrap();
    assert_eq!((&last["state"], &last["forward"]["messages"]), (&json!("terminated"), &json!(2)), "{last}");
}

#[test]
fn signals_steer_a_proxy() {
    let mut proxy = tidings(&["sock", "proxy", &format!("xsub@{ANY}"), &format!("xpub@{ANY}")]);
    proxy.said("running");
    proxy.signal(Signal::USR1);
    proxy.said("paused");
    proxy.signal(Signal::USR1);
    proxy.said("resumed");
    proxy.signal(Signal::USR2);
    assert!(proxy.line().starts_with("running:"));
    proxy.signal(Signal::TERM);
    assert_eq!(proxy.finish().code, Some(0));
}

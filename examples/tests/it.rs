//! Runs every example alone and between processes, and compares what it prints with `README.md`.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::io::{BufRead as _, BufReader, Read};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::Duration;

const ANY: &str = "tcp://127.0.0.1:*";

#[test]
fn request_reply() {
    let program = Program { path: env!("CARGO_BIN_EXE_request_reply"), name: "request_reply" };
    program.shows_all_ends(&["server", "client"]);
    let (server, endpoint) = program.listener("server");
    program.start(&["client", &endpoint]).prints("client");
    server.has_printed("server");
}

#[test]
fn async_request_reply() {
    let program = Program { path: env!("CARGO_BIN_EXE_async_request_reply"), name: "async_request_reply" };
    program.shows_all_ends(&["server", "client"]);
    let (server, endpoint) = program.listener("server");
    program.start(&["client", &endpoint]).prints("client");
    server.has_printed("server");
}

#[test]
fn publish_subscribe() {
    let program = Program { path: env!("CARGO_BIN_EXE_publish_subscribe"), name: "publish_subscribe" };
    program.shows_all_ends(&["publisher", "subscriber"]);
    let (publisher, endpoint) = program.listener("publisher");
    program.start(&["subscriber", &endpoint]).prints("subscriber");
    publisher.prints("publisher");
}

#[test]
fn push_pull() {
    let program = Program { path: env!("CARGO_BIN_EXE_push_pull"), name: "push_pull" };
    program.shows_all_ends(&["ventilator", "worker", "worker", "sink"]);
    let (ventilator, tasks) = program.listener("ventilator");
    let (sink, results) = program.listener("sink");
    let workers = [(); 2].map(|()| program.start(&["worker", &tasks, &results]));
    workers.into_iter().for_each(|worker| worker.prints("worker"));
    ventilator.prints("ventilator");
    sink.prints("sink");
}

#[test]
fn exclusive_pair() {
    let program = Program { path: env!("CARGO_BIN_EXE_exclusive_pair"), name: "exclusive_pair" };
    program.shows_all_ends(&["left", "right"]);
    let (left, endpoint) = program.listener("left");
    program.start(&["right", &endpoint]).prints("right");
    left.prints("left");
}

#[test]
fn service() {
    let program = Program { path: env!("CARGO_BIN_EXE_service"), name: "service" };
    program.shows_all_ends(&["broker", "worker", "client"]);
    let (broker, endpoint) = program.listener("broker");
    let worker = program.start(&["worker", &endpoint]);
    worker.is_ready();
    program.start(&["client", &endpoint]).prints("client");
    worker.has_printed("worker");
    broker.has_printed("broker");
}

#[test]
fn service_in_parts() {
    let program = Program { path: env!("CARGO_BIN_EXE_service_in_parts"), name: "service_in_parts" };
    program.shows_all_ends(&["worker", "client"]);
    let broker = Program { path: env!("CARGO_BIN_EXE_service"), name: "service" };
    let (_broker, endpoint) = broker.listener("broker");
    let worker = program.start(&["worker", &endpoint]);
    worker.is_ready();
    program.start(&["client", &endpoint]).prints("client");
    worker.has_printed("worker");
}

#[test]
fn gossip() {
    let program = Program { path: env!("CARGO_BIN_EXE_gossip"), name: "gossip" };
    program.shows_all_ends(&["publisher", "reader"]);
    let (publisher, endpoint) = program.listener("publisher");
    program.start(&["reader", &endpoint]).prints("reader");
    publisher.has_printed("publisher");
}

#[test]
fn a_wrong_argument_is_answered_with_the_usage() {
    for (name, path) in [
        ("request_reply", env!("CARGO_BIN_EXE_request_reply")),
        ("async_request_reply", env!("CARGO_BIN_EXE_async_request_reply")),
        ("publish_subscribe", env!("CARGO_BIN_EXE_publish_subscribe")),
        ("push_pull", env!("CARGO_BIN_EXE_push_pull")),
        ("exclusive_pair", env!("CARGO_BIN_EXE_exclusive_pair")),
        ("service", env!("CARGO_BIN_EXE_service")),
        ("service_in_parts", env!("CARGO_BIN_EXE_service_in_parts")),
        ("gossip", env!("CARGO_BIN_EXE_gossip")),
    ] {
        let output = Command::new(path).arg("nonsense").output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && said.contains(&format!("usage: {name} [")), "{said}");
    }
}

/// What an end of an example prints, from the block in `README.md` that is labelled with it
fn expected(program: &str, end: &str) -> Vec<String> {
    let readme = include_str!("../README.md");
    let section = readme.split("\n## ").find_map(|section| section.strip_prefix(program));
    let section = section.unwrap_or_else(|| panic!("README.md has no section {program}"));
    let block = section.split_once(&format!("```text {end}\n")).map(|(_, rest)| rest);
    let block = block.unwrap_or_else(|| panic!("README.md has no block for {program}'s {end}"));
    block.lines().take_while(|line| *line != "```").map(str::to_owned).collect()
}

struct Program {
    path: &'static str,
    name: &'static str,
}

/// One end, killed when the test is done with it
struct End {
    child: Child,
    out: Receiver<String>,
    err: Receiver<String>,
    program: &'static str,
}

impl Program {
    fn start(&self, arguments: &[&str]) -> End {
        let mut command = Command::new(self.path);
        let mut child = command.args(arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let (out, err) = (lines(child.stdout.take().unwrap()), lines(child.stderr.take().unwrap()));
        End { child, out, err, program: self.name }
    }

    /// Starts an end that binds; also where
    fn listener(&self, end: &str) -> (End, String) {
        let process = self.start(&[end, ANY]);
        let said = process.err.recv_timeout(DEADLINE).unwrap_or_else(|_| panic!("{} {end} says nothing", self.name));
        let endpoint = said.strip_prefix("listening on ").unwrap_or_else(|| panic!("{said}")).to_owned();
        (process, endpoint)
    }

    /// Runs alone: prints the lines of every end, those of each in their order, and no others
    fn shows_all_ends(&self, ends: &[&str]) {
        let process = self.start(&[]);
        let printed = process.rest();
        let mut total = 0;
        for end in ends {
            let expected = expected(self.name, end);
            let times = ends.iter().filter(|other| *other == end).count();
            let of_this_end: Vec<String> = printed.iter().filter(|line| expected.contains(line)).cloned().collect();
            assert_eq!(of_this_end, vec![expected.clone(); times].concat(), "{} {end}", self.name);
            total += expected.len();
        }
        assert_eq!(printed.len(), total, "{} prints more than its ends do: {printed:#?}", self.name);
    }
}

impl End {
    /// Prints what it should, and ends well
    fn prints(mut self, end: &str) {
        assert_eq!(self.rest(), expected(self.program, end), "{} {end}", self.program);
        let status = self.child.wait().unwrap();
        let said: Vec<String> = self.err.iter().collect();
        assert!(status.success(), "{} {end}: {status}, {said:?}", self.program);
    }

    /// Says that it has found its broker
    fn is_ready(&self) {
        let said = self.err.recv_timeout(DEADLINE);
        assert_eq!(said.as_deref(), Ok("ready"), "{}", self.program);
    }

    /// Has printed what it should, and goes on
    fn has_printed(&self, end: &str) {
        for line in expected(self.program, end) {
            let printed = self.out.recv_timeout(DEADLINE);
            assert_eq!(printed.as_ref(), Ok(&line), "{} {end}", self.program);
        }
    }

    /// Lines up to the end of its output
    fn rest(&self) -> Vec<String> {
        let mut lines = Vec::new();
        loop {
            match self.out.recv_timeout(DEADLINE) {
                Ok(line) => lines.push(line),
                Err(RecvTimeoutError::Disconnected) => return lines,
                Err(RecvTimeoutError::Timeout) => panic!("{} hangs after {lines:#?}", self.program),
            }
        }
    }
}

impl Drop for End {
    fn drop(&mut self) {
        // It may have ended already
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

fn lines(stream: impl Read + Send + 'static) -> Receiver<String> {
    let (sender, receiver) = channel();
    std::thread::spawn(move || {
        let mut lines = BufReader::new(stream).lines().map_while(Result::ok);
        while lines.next().is_some_and(|line| sender.send(line).is_ok()) {}
    });
    receiver
}

/// How long a line may take on a busy machine; only a failing test waits for it
const DEADLINE: Duration = Duration::from_secs(60);

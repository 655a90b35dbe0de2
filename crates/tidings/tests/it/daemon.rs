//! A `tidings serve` on ports of its own.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;

use serde_json::Value;

use crate::process::{DEADLINE, Process, tidings};

/// A running daemon
pub(crate) struct Daemon {
    pub(crate) process: Process,
    pub(crate) service: String,
    pub(crate) inlet: String,
    pub(crate) outlet: String,
    pub(crate) gossip: String,
    pub(crate) http: String,
}

/// Everything on ephemeral ports of loopback, and nothing on disk
pub(crate) const SERVE: [&str; 15] = [
    "serve",
    "--service",
    "tcp://127.0.0.1:*",
    "--events-in",
    "tcp://127.0.0.1:*",
    "--events-out",
    "tcp://127.0.0.1:*",
    "--gossip",
    "tcp://127.0.0.1:*",
    "--http",
    "127.0.0.1:0",
    "--set",
    "service.durable=false",
    "--set",
    "gossip.id=random",
];

impl Daemon {
    /// Starts one
    pub(crate) fn start(more: &[&str]) -> Self {
        Self::ready(tidings(&[&SERVE[..], &["--json"], more].concat()))
    }

    /// Starts one that keeps durable requests in a directory
    pub(crate) fn durable(store: &std::path::Path) -> Self {
        let durable = ["--json", "--set", "service.durable=true", "--store", store.to_str().unwrap()];
        Self::ready(tidings(&[&SERVE[..], &durable].concat()))
    }

    /// Waits until it listens; it was started with `--json`
    pub(crate) fn ready(mut process: Process) -> Self {
        let ready: Value = serde_json::from_str(&process.line()).unwrap();
        assert_eq!(ready["event"], "ready");
        let of = |name: &str| {
            let listeners = ready["listeners"].as_array().unwrap();
            let listener = listeners.iter().find(|listener| listener["name"] == name);
            listener.map(|listener| listener["endpoint"].as_str().unwrap().to_owned()).unwrap_or_default()
        };
        let http = of("http").trim_start_matches("http://").to_owned();
        Self {
            process,
            service: of("service"),
            inlet: of("events.in"),
            outlet: of("events.out"),
            gossip: of("gossip"),
            http,
        }
    }

    /// Status code and body
    pub(crate) fn get(&self, path: &str) -> (u16, String) {
        let mut stream = TcpStream::connect(&self.http).unwrap();
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        write!(stream, "GET {path} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n", self.http).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
    }

    /// The value of the first sample of `/metrics` that begins so
    pub(crate) fn metric(&self, sample: &str) -> Option<u64> {
        let (_, body) = self.get("/metrics");
        let line = body.lines().find(|line| line.starts_with(sample))?;
        line.rsplit_once(' ').unwrap().1.parse().ok()
    }
}

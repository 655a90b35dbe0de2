//! Nodes of CZMQ's zgossip in a process of their own, steered by lines: `tests/peers/czmq_gossip.c`.
//!
//! The program is built once a run. What it can do, and how it says it, is in the comment at its head. Dropping it kills the process.

use std::collections::BTreeMap;
use std::env;
use std::ffi::OsStr;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Once, OnceLock};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use bytes::Bytes;
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};

use crate::waiting::{PATIENCE, within};

/// A process with nodes of CZMQ's
#[derive(Debug)]
pub(crate) struct Czmq {
    child: Child,
    stdin: ChildStdin,
    said: Lines<BufReader<ChildStdout>>,
}

/// What a node told its application so far
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Delivered {
    /// Messages
    pub(crate) deliveries: usize,
    /// Keys among them
    pub(crate) tuples: usize,
}

impl Czmq {
    /// Starts the process without a node; `None`, with a word, where CZMQ is not installed and that is no failure
    pub(crate) async fn start() -> Result<Option<Self>> {
        let program = match tokio::task::spawn_blocking(program).await? {
            Ok(program) => program,
            Err(why) => return skip(why),
        };
        let mut child = Command::new(program)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            // Every malformed message is a warning there
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()?;
        let stdin = child.stdin.take().context("no stdin")?;
        let said = BufReader::new(child.stdout.take().context("no stdout")?).lines();
        Ok(Some(Self { child, stdin, said }))
    }

    // ---- Nodes ----

    /// A node that forgets silent clients after so many milliseconds; `None` leaves it as it comes, 1,000
    pub(crate) async fn node(&mut self, node: &str, timeout: Option<u64>) -> Result<()> {
        self.told(&format!("START {node}")).await?;
        match timeout {
            Some(timeout) => self.told(&format!("SET {node} server/timeout {timeout}")).await.map(drop),
            None => Ok(()),
        }
    }

    /// Binds a node; returns where it is
    ///
    /// libzmq gives a port free some time after the socket that had it is closed, so that it may take more than one attempt.
    pub(crate) async fn bind(&mut self, node: &str, endpoint: &str) -> Result<String> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let port = self.told(&format!("BIND {node} {endpoint}")).await?;
            if port != "-1" {
                return Ok(endpoint.replace('*', &port));
            }
            ensure!(Instant::now() < deadline, "{node} can't bind {endpoint}");
            self.run_for(node, Duration::from_millis(10)).await?;
        }
    }

    pub(crate) async fn connect(&mut self, node: &str, endpoint: &str) -> Result<()> {
        self.told(&format!("CONNECT {node} {endpoint}")).await.map(drop)
    }

    pub(crate) async fn publish(&mut self, node: &str, key: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Result<()> {
        self.told(&format!("PUBLISH {node} {} {}", word(key), word(value))).await.map(drop)
    }

    /// Publishes `PREFIX-0` and up, with values that begin with the number
    pub(crate) async fn publish_many(&mut self, node: &str, prefix: &str, count: usize, size: usize) -> Result<()> {
        self.told(&format!("MANY {node} {prefix} {count} {size}")).await.map(drop)
    }

    /// Ends a node
    pub(crate) async fn term(&mut self, node: &str) -> Result<()> {
        self.told(&format!("TERM {node}")).await.map(drop)
    }

    /// Whether the actor still answers; the number of tuples that it says it has
    pub(crate) async fn status(&mut self, node: &str) -> Result<usize> {
        Ok(self.told(&format!("STATUS {node}")).await?.parse()?)
    }

    /// Whether its reactor stops, as one does that got what it can't read
    pub(crate) async fn until_ended(&mut self, node: &str) -> Result<bool> {
        Ok(self.asked(&format!("ENDED {node} {}", PATIENCE.as_millis())).await? == "ok")
    }

    /// What it has told so far
    pub(crate) async fn delivered(&mut self, node: &str) -> Result<Delivered> {
        counts(&self.told(&format!("COUNT {node}")).await?)
    }

    /// The values that it delivered last
    pub(crate) async fn table(&mut self, node: &str) -> Result<BTreeMap<Bytes, Bytes>> {
        let lines = self.listed(&format!("TABLE {node}")).await?;
        lines
            .iter()
            .map(|line| {
                let (key, value) = line.split_once(' ').context("no value")?;
                Ok((octets(key)?, octets(value)?))
            })
            .collect()
    }

    /// What its actor sent, in that order: `DELIVER key value`, `STATUS 4`
    pub(crate) async fn log(&mut self, node: &str) -> Result<Vec<String>> {
        let lines = self.listed(&format!("LOG {node}")).await?;
        let text = |word: &str| match word.strip_prefix("hex:") {
            Some(_) => Ok(String::from_utf8_lossy(&octets(word)?).into_owned()),
            None => Ok(word.to_owned()),
        };
        lines.iter().map(|line| Ok(line.split(' ').map(text).collect::<Result<Vec<_>>>()?.join(" "))).collect()
    }

    // ---- Waiting ----

    pub(crate) async fn until_tuples(&mut self, node: &str, count: usize) -> Result<Delivered> {
        self.until(node, &format!("tuples {count}"), PATIENCE).await
    }

    pub(crate) async fn until_value(
        &mut self,
        node: &str,
        key: impl AsRef<[u8]>,
        value: impl AsRef<[u8]>,
    ) -> Result<()> {
        self.until(node, &format!("value {} {}", word(key), word(value)), PATIENCE).await.map(drop)
    }

    /// Waits until nothing was delivered for so long
    pub(crate) async fn until_quiet(&mut self, node: &str, quiet: Duration) -> Result<Delivered> {
        self.until(node, &format!("quiet {}", quiet.as_millis()), PATIENCE + quiet).await
    }

    /// Takes what nodes deliver for so long, and says what that was at one of them
    pub(crate) async fn run_for(&mut self, node: &str, time: Duration) -> Result<Delivered> {
        let answer = self.asked(&format!("WAIT {node} deliveries {} {}", u32::MAX, time.as_millis())).await?;
        counts(answer.strip_prefix("late ").context("that many were delivered")?)
    }

    async fn until(&mut self, node: &str, what: &str, patience: Duration) -> Result<Delivered> {
        let answer = self.asked(&format!("WAIT {node} {what} {}", patience.as_millis())).await?;
        match answer.strip_prefix("ok ") {
            Some(delivered) => counts(delivered),
            None => bail!("{node}: {} not within {patience:?}: {answer}", shortened(what)),
        }
    }

    // ---- Raw sockets of libzmq ----

    /// A DEALER that is connected there
    pub(crate) async fn dealer(&mut self, raw: &str, endpoint: &str) -> Result<()> {
        self.told(&format!("DEALER {raw} {endpoint}")).await.map(drop)
    }

    /// A ROUTER that is bound there; returns where that is
    pub(crate) async fn router(&mut self, raw: &str, endpoint: &str) -> Result<String> {
        self.told(&format!("ROUTER {raw} {endpoint}")).await
    }

    pub(crate) async fn send(&mut self, raw: &str, frames: &[&[u8]]) -> Result<()> {
        let words: Vec<String> =
            frames.iter().map(|frame| if frame.is_empty() { "-".to_owned() } else { hex(frame) }).collect();
        self.told(&format!("SEND {raw} {}", words.join(" "))).await.map(drop)
    }

    /// The next message, if one comes in time
    pub(crate) async fn recv(&mut self, raw: &str, patience: Duration) -> Result<Option<Vec<Bytes>>> {
        let answer = self.asked(&format!("RECV {raw} {}", patience.as_millis())).await?;
        match answer.strip_prefix("ok") {
            Some(words) => words
                .split_whitespace()
                .map(|word| octets(&format!("hex:{}", word.trim_start_matches('-'))))
                .collect::<Result<_>>()
                .map(Some),
            None => Ok(None),
        }
    }

    pub(crate) async fn close(&mut self, raw: &str) -> Result<()> {
        self.told(&format!("CLOSE {raw}")).await.map(drop)
    }

    // ---- The process ----

    /// Kills it with -9, with all its nodes, and waits until it is gone
    pub(crate) async fn kill(mut self) -> Result<()> {
        self.child.start_kill()?;
        within(PATIENCE, "the killed process is gone", self.child.wait()).await??;
        Ok(())
    }

    /// A command's answer behind its `ok`
    async fn told(&mut self, command: &str) -> Result<String> {
        let answer = self.asked(command).await?;
        match answer.strip_prefix("ok") {
            Some(rest) => Ok(rest.trim_start().to_owned()),
            None => bail!("CZMQ says {answer:?} to {:?}", shortened(command)),
        }
    }

    /// The lines behind a command's answer
    async fn listed(&mut self, command: &str) -> Result<Vec<String>> {
        let count: usize = self.told(command).await?.parse()?;
        let mut lines = Vec::with_capacity(count);
        while lines.len() < count {
            lines.push(self.line(command).await?);
        }
        Ok(lines)
    }

    async fn asked(&mut self, command: &str) -> Result<String> {
        let line = format!("{command}\n");
        within(PATIENCE, "CZMQ takes a command", self.stdin.write_all(line.as_bytes()))
            .await?
            .context("CZMQ is gone")?;
        self.line(command).await
    }

    async fn line(&mut self, command: &str) -> Result<String> {
        // The program has deadlines itself, some as long as ours
        let line = within(10 * PATIENCE, &shortened(command), self.said.next_line()).await??;
        line.with_context(|| format!("CZMQ has ended at {:?}", shortened(command)))
    }
}

fn counts(words: &str) -> Result<Delivered> {
    let (deliveries, tuples) = words.split_once(' ').context("two numbers were expected")?;
    Ok(Delivered { deliveries: deliveries.parse()?, tuples: tuples.parse()? })
}

/// As the program takes keys and values
fn word(octets: impl AsRef<[u8]>) -> String {
    match octets.as_ref() {
        // Large values are of one letter
        [first, rest @ ..]
            if rest.len() > 1000 && first.is_ascii_alphabetic() && rest.iter().all(|one| one == first) =>
        {
            format!("size:{}:{}", rest.len() + 1, char::from(*first))
        }
        octets => format!("hex:{}", hex(octets)),
    }
}

fn hex(octets: &[u8]) -> String {
    octets.iter().map(|octet| format!("{octet:02x}")).collect()
}

fn octets(word: &str) -> Result<Bytes> {
    let digits = word.strip_prefix("hex:").context("no hex:")?;
    let octet = |at| u8::from_str_radix(digits.get(at..at + 2).unwrap_or_default(), 16);
    Ok((0..digits.len()).step_by(2).map(octet).collect::<Result<_, _>>()?)
}

/// For messages: a value may be of a million octets
fn shortened(command: &str) -> String {
    command.chars().take(100).collect()
}

/// The program, built once a run
fn program() -> Result<&'static Path, &'static str> {
    static BUILT: OnceLock<Result<(TempDir, PathBuf), String>> = OnceLock::new();
    let built = BUILT.get_or_init(|| build().map_err(|error| format!("{error:#}")));
    built.as_ref().map(|(_, program)| &**program).map_err(String::as_str)
}

fn build() -> Result<(TempDir, PathBuf)> {
    let flags = std::process::Command::new("pkg-config").args(["--cflags", "--libs", "libczmq", "libzmq"]).output();
    let flags = flags.ok().filter(|output| output.status.success()).context("libczmq-dev or pkg-config is missing")?;
    let directory = tempfile::tempdir()?;
    let program = directory.path().join("czmq_gossip");
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/peers/czmq_gossip.c");
    let flags = String::from_utf8_lossy(&flags.stdout).into_owned();
    let command: [&OsStr; 3] = ["-O1".as_ref(), "-o".as_ref(), program.as_ref()];
    let output = std::process::Command::new("cc")
        .args(command)
        .arg(source)
        .args(flags.split_whitespace())
        .output()
        .context("can't run cc")?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Ok((directory, program))
}

fn skip<T>(why: &str) -> Result<Option<T>> {
    static SAID: Once = Once::new();
    if env::var_os("CI").is_some() || env::var("TIDINGS_REQUIRE_PEERS").is_ok_and(|value| value == "1") {
        bail!("CZMQ is required here: {why}");
    }
    // Past the test harness, which would swallow it
    SAID.call_once(|| {
        writeln!(std::io::stderr(), "skipped: no nodes of CZMQ ({why}); apt-get install libczmq-dev").ok();
    });
    Ok(None)
}

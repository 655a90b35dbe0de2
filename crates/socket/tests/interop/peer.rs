//! A libzmq in a process of its own, steered by lines of JSON: `tests/peers/pyzmq_peer.py`.
//!
//! `ask` gives the answer whatever it is, `tell` fails unless the peer did as it was told. Dropping
//! the peer kills its process with -9, as the tests of restarts want it.

use std::env;
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Arc, Once};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};

use crate::guard;
use crate::waiting::{PATIENCE, within};

/// One process with any number of libzmq sockets
#[derive(Debug)]
pub(crate) struct Peer {
    child: Child,
    stdin: ChildStdin,
    answers: Lines<BufReader<ChildStdout>>,
    opened: u32,
    /// What stands in front of libzmq for TLS
    relay: Option<Child>,
    /// Where ipc endpoints are; shared with the process that takes this one's place
    directory: Arc<TempDir>,
}

/// The Python that has pyzmq
pub(crate) fn python() -> std::ffi::OsString {
    env::var_os("TIDINGS_PYTHON").unwrap_or_else(|| "python3".into())
}

impl Peer {
    /// Starts the process; `None` where there is no pyzmq and that is no failure
    pub(crate) async fn start() -> Result<Option<Self>> {
        Self::start_in(Arc::new(tempfile::tempdir()?)).await
    }

    /// Kills the process with -9 and starts another
    pub(crate) async fn restart(self) -> Result<Self> {
        let directory = self.directory.clone();
        self.kill().await?;
        Self::start_in(directory).await?.context("pyzmq was there a moment ago")
    }

    async fn start_in(directory: Arc<TempDir>) -> Result<Option<Self>> {
        let python = python();
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/peers/pyzmq_peer.py");
        let spawned =
            Command::new(&python).arg(script).stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true).spawn();
        let mut child = match spawned {
            Err(error) if error.kind() == ErrorKind::NotFound => return skip(&format!("no {}", python.display())),
            spawned => spawned.with_context(|| format!("can't run {}", python.display()))?,
        };
        let stdin = child.stdin.take().context("no stdin")?;
        let answers = BufReader::new(child.stdout.take().context("no stdout")?).lines();
        let mut peer = Self { child, stdin, answers, opened: 0, relay: None, directory };
        let greeting = peer.answer(PATIENCE).await?;
        if greeting["code"] == "missing" {
            return skip(greeting["error"].as_str().unwrap_or_default());
        }
        ensure!(greeting["ok"] == true, "the libzmq peer did not start: {greeting}");
        Ok(Some(peer))
    }

    /// Where its ipc endpoints are
    pub(crate) fn directory(&self) -> PathBuf {
        self.directory.path().to_owned()
    }

    /// Sends one command and returns its answer, whatever that is
    pub(crate) async fn ask(&mut self, command: Value) -> Result<Value> {
        let allowed = Duration::from_millis(command["timeout"].as_u64().unwrap_or(5000)) + PATIENCE;
        let mut line = command.to_string();
        line.push('\n');
        let written = within(allowed, "the libzmq peer takes a command", self.stdin.write_all(line.as_bytes())).await?;
        written.with_context(|| format!("the libzmq peer is gone before {}", shortened(&command)))?;
        self.answer(allowed).await.with_context(|| format!("libzmq peer, {}", shortened(&command)))
    }

    /// Sends one command that must succeed
    pub(crate) async fn tell(&mut self, command: Value) -> Result<Value> {
        let shown = shortened(&command);
        let answer = self.ask(command).await?;
        ensure!(answer["ok"] == true, "libzmq peer, {shown}: {}", shortened(&answer));
        Ok(answer)
    }

    async fn answer(&mut self, allowed: Duration) -> Result<Value> {
        let line = within(allowed, "the libzmq peer answers", self.answers.next_line()).await??;
        Ok(serde_json::from_str(&line.context("the libzmq peer is gone")?)?)
    }

    /// Puts Python's TLS in front of libzmq: to `accept` TLS for a libzmq that is bound, or to `dial` it for one that
    /// connects; returns where
    pub(crate) async fn relay(&mut self, way: &str, target: &str) -> Result<String> {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/peers/tls_relay.py");
        let files = guard::files(&self.directory())?;
        let spawned = Command::new(python())
            .arg(script)
            .args([way, target])
            .args([&files.authority, &files.certificate, &files.key])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn();
        let mut child = spawned?;
        let mut lines = BufReader::new(child.stdout.take().context("no stdout")?).lines();
        let line = within(PATIENCE, "the TLS relay listens", lines.next_line()).await??;
        self.relay = Some(child);
        line.context("the TLS relay is gone")
    }

    // ---- Sockets ----

    /// Opens a socket; returns its id
    pub(crate) async fn open(&mut self, socket_type: &str, options: Value) -> Result<String> {
        self.opened += 1;
        let id = format!("{socket_type}-{}", self.opened);
        self.tell(json!({"op": "open", "id": id, "type": socket_type, "options": options})).await?;
        Ok(id)
    }

    /// Binds; returns the endpoint with its real port
    pub(crate) async fn bind(&mut self, id: &str, endpoint: &str) -> Result<String> {
        let answer = self.tell(json!({"op": "bind", "id": id, "endpoint": endpoint})).await?;
        Ok(answer["last_endpoint"].as_str().context("no last_endpoint")?.to_owned())
    }

    pub(crate) async fn connect(&mut self, id: &str, endpoint: &str) -> Result<()> {
        self.tell(json!({"op": "connect", "id": id, "endpoint": endpoint})).await.map(drop)
    }

    pub(crate) async fn subscribe(&mut self, id: &str, topic: &[u8]) -> Result<()> {
        self.tell(json!({"op": "subscribe", "id": id, "topic": encode(topic)})).await.map(drop)
    }

    pub(crate) async fn unsubscribe(&mut self, id: &str, topic: &[u8]) -> Result<()> {
        self.tell(json!({"op": "unsubscribe", "id": id, "topic": encode(topic)})).await.map(drop)
    }

    pub(crate) async fn close(&mut self, id: &str) -> Result<()> {
        self.tell(json!({"op": "close", "id": id, "linger": 0})).await.map(drop)
    }

    // ---- Messages ----

    pub(crate) async fn send<F: AsRef<[u8]>>(&mut self, id: &str, frames: &[F]) -> Result<()> {
        let frames: Vec<String> = frames.iter().map(|frame| encode(frame.as_ref())).collect();
        self.tell(json!({"op": "send", "id": id, "frames": frames})).await.map(drop)
    }

    /// Whether a message could be sent without waiting
    pub(crate) async fn try_send(&mut self, id: &str, frame: &[u8]) -> Result<bool> {
        let answer =
            self.ask(json!({"op": "send", "id": id, "frames": [encode(frame)], "flags": ["DONTWAIT"]})).await?;
        match (answer["ok"] == true, answer["code"].as_str()) {
            (true, _) => Ok(true),
            (false, Some("EAGAIN")) => Ok(false),
            _ => bail!("libzmq peer, send: {answer}"),
        }
    }

    pub(crate) async fn recv(&mut self, id: &str) -> Result<Vec<Bytes>> {
        let answer = self.tell(json!({"op": "recv", "id": id})).await?;
        let frames = answer["frames"].as_array().context("no frames")?;
        frames.iter().map(decode).collect()
    }

    /// Receives one message and compares
    pub(crate) async fn expect<const N: usize>(&mut self, id: &str, wanted: [&[u8]; N]) -> Result<()> {
        let received = self.recv(id).await?;
        ensure!(received == wanted, "libzmq's {id} received {received:?}, not {wanted:?}");
        Ok(())
    }

    // ---- Events and background operations ----

    /// Takes the oldest monitor event of that name; returns its value
    pub(crate) async fn monitor(&mut self, id: &str, event: &str) -> Result<u64> {
        let answer = self.tell(json!({"op": "monitor_wait", "id": id, "event": event, "timeout": 10_000})).await?;
        answer["value"].as_u64().context("no value")
    }

    /// The names of all monitor events so far
    pub(crate) async fn events(&mut self, id: &str) -> Result<Vec<String>> {
        let answer = self.tell(json!({"op": "events", "id": id})).await?;
        let events = answer["events"].as_array().context("no events")?;
        Ok(events.iter().map(|event| event["event"].as_str().unwrap_or_default().to_owned()).collect())
    }

    /// Starts to send the same message again and again, every `interval` milliseconds
    pub(crate) async fn repeat(&mut self, id: &str, frame: &[u8], interval: u64) -> Result<()> {
        let frames = [encode(frame)];
        let command = json!({"op": "repeat", "id": id, "frames": frames, "interval": interval,
            "timeout": 60_000, "background": id});
        self.tell(command).await.map(drop)
    }

    /// Waits for a background operation to succeed
    pub(crate) async fn joined(&mut self, name: &str) -> Result<Value> {
        self.tell(json!({"op": "join", "name": name, "timeout": 60_000})).await
    }

    /// Ends a background operation
    pub(crate) async fn stop(&mut self, name: &str) -> Result<Value> {
        self.tell(json!({"op": "stop", "name": name})).await
    }

    // ---- The process ----

    /// Kills it with -9 and waits until it is gone
    pub(crate) async fn kill(mut self) -> Result<()> {
        self.child.start_kill()?;
        within(PATIENCE, "the killed peer is gone", self.child.wait()).await??;
        Ok(())
    }

    /// Freezes it: it does nothing and its kernel goes on taking octets for it
    pub(crate) fn freeze(&self) -> Result<()> {
        self.signal(Signal::STOP)
    }

    /// Lets it go on
    pub(crate) fn thaw(&self) -> Result<()> {
        self.signal(Signal::CONT)
    }

    fn signal(&self, signal: Signal) -> Result<()> {
        let pid = self.child.id().and_then(|id| Pid::from_raw(id.cast_signed())).context("it has no pid any more")?;
        Ok(kill_process(pid, signal)?)
    }
}

/// Base64 as the driver's protocol wants it
pub(crate) fn encode(octets: &[u8]) -> String {
    BASE64_STANDARD.encode(octets)
}

fn decode(field: &Value) -> Result<Bytes> {
    Ok(BASE64_STANDARD.decode(field.as_str().context("a frame is not a string")?)?.into())
}

/// Octet i is i mod 251, as the driver fills its messages
pub(crate) fn fill(length: usize) -> Vec<u8> {
    let period: Vec<u8> = (0..=250).collect();
    let mut octets = period.repeat(length / period.len() + 1);
    octets.truncate(length);
    octets
}

fn skip<T>(why: &str) -> Result<Option<T>> {
    static SAID: Once = Once::new();
    if env::var_os("CI").is_some() || env::var("TIDINGS_REQUIRE_PEERS").is_ok_and(|value| value == "1") {
        bail!("pyzmq is required here and not installed ({why}); cargo xtask interop installs it");
    }
    // Past the test harness, which would swallow it
    SAID.call_once(|| {
        writeln!(std::io::stderr(), "skipped: pyzmq is not installed (cargo xtask interop installs it)").ok();
    });
    Ok(None)
}

fn shortened(value: &Value) -> String {
    let text = value.to_string();
    match text.char_indices().nth(300) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}

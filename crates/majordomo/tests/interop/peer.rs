//! A program of a service in a process of its own, steered by lines of JSON: `tests/peers/service_peer.py`.
//!
//! Dropping a peer kills its process with -9, as the tests of dying workers want it.

use std::env;
use std::ffi::OsString;
use std::io::{ErrorKind, Write};
use std::path::Path;
use std::process::Stdio;
use std::sync::Once;

use anyhow::{Context as _, Result, bail, ensure};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};

use crate::waiting::{PATIENCE, within};

/// Whose wire it speaks, and which libzmq carries that
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// RFC 7 with the guide's timing
    Guide,
    Domogik,
    /// RFC 18
    Rfc18,
    /// zeromq/majordomo's 0.2
    Zproto,
    /// The package majortomo itself
    Majortomo,
}

/// Which libzmq a peer has
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Library {
    /// pyzmq's own, with ZMTP 3.1
    Current,
    /// 4.1 of pyzmq 16, with ZMTP 3.0
    Old,
}

/// One process in one role
#[derive(Debug)]
pub(crate) struct Peer {
    child: Child,
    stdin: ChildStdin,
    said: Lines<BufReader<ChildStdout>>,
    /// What it is, for what goes wrong
    name: String,
}

/// What a client got
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Reply {
    pub(crate) partials: Vec<Vec<Bytes>>,
    pub(crate) last: Vec<Bytes>,
    /// The whole last message, with what the protocol puts in front; empty for majortomo, which does not show it
    pub(crate) raw: Vec<Bytes>,
}

impl Kind {
    pub(crate) const ALL: [Self; 5] = [Self::Guide, Self::Domogik, Self::Rfc18, Self::Zproto, Self::Majortomo];

    /// The role and wire as the program has them
    fn words(self, role: &str) -> Vec<String> {
        match self {
            Self::Guide => vec![role.to_owned(), "mdp01".to_owned()],
            Self::Domogik => vec![role.to_owned(), "domogik".to_owned()],
            Self::Rfc18 => vec![role.to_owned(), "mdp02".to_owned()],
            Self::Zproto => vec![role.to_owned(), "zproto".to_owned()],
            Self::Majortomo => vec![format!("majortomo-{role}")],
        }
    }

    pub(crate) fn has_partials(self) -> bool {
        matches!(self, Self::Rfc18 | Self::Zproto | Self::Majortomo)
    }
}

impl Peer {
    /// Starts a client and waits until it is there
    pub(crate) async fn client(kind: Kind, library: Library, endpoint: &str, more: &[&str]) -> Result<Option<Self>> {
        let words = [kind.words("client"), vec![format!("endpoint={endpoint}")], owned(more)].concat();
        Self::start_until(words, library, "started").await.map(|started| started.map(|(peer, _)| peer))
    }

    /// Starts a worker and waits until it has sent READY
    pub(crate) async fn worker(
        kind: Kind,
        library: Library,
        endpoint: &str,
        service: &str,
        more: &[&str],
    ) -> Result<Option<Self>> {
        let own = vec![format!("endpoint={endpoint}"), format!("service={service}")];
        let words = [kind.words("worker"), own, owned(more)].concat();
        Self::start_until(words, library, "ready").await.map(|started| started.map(|(peer, _)| peer))
    }

    /// Starts a broker; returns its endpoint too
    pub(crate) async fn broker(kind: Kind, library: Library, more: &[&str]) -> Result<Option<(Self, String)>> {
        let words = [kind.words("broker"), owned(more)].concat();
        let Some((peer, listening)) = Self::start_until(words, library, "listening").await? else { return Ok(None) };
        let endpoint = listening["endpoint"].as_str().context("no endpoint")?.to_owned();
        Ok(Some((peer, endpoint)))
    }

    /// Starts what has no wire: `publish`, `subscribe` or `forward`; returns what it said first
    pub(crate) async fn plain(words: &[&str], library: Library, first: &str) -> Result<Option<(Self, Value)>> {
        Self::start_until(owned(words), library, first).await
    }

    async fn start_until(mut words: Vec<String>, library: Library, event: &str) -> Result<Option<(Self, Value)>> {
        // majortomo is on pyzmq whatever is asked for
        if library == Library::Old {
            let Some(path) = env::var_os("TIDINGS_OLD_LIBZMQ") else {
                return skip("an old libzmq", "TIDINGS_OLD_LIBZMQ does not name one");
            };
            words.push(format!("libzmq={}", path.to_string_lossy()));
        }
        let name = words.join(" ");
        let python = env::var_os("TIDINGS_PYTHON").unwrap_or_else(|| OsString::from("python3"));
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/peers/service_peer.py");
        let spawned = Command::new(&python)
            .arg(script)
            .args(&words)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn();
        let mut child = match spawned {
            Err(error) if error.kind() == ErrorKind::NotFound => {
                return skip("Python", &format!("no {}", python.display()));
            }
            spawned => spawned.with_context(|| format!("can't run {}", python.display()))?,
        };
        let stdin = child.stdin.take().context("no stdin")?;
        let said = BufReader::new(child.stdout.take().context("no stdout")?).lines();
        let mut peer = Self { child, stdin, said, name };
        let first = peer.next().await?;
        match first["event"].as_str() {
            Some("missing") => skip("pyzmq or majortomo", first["why"].as_str().unwrap_or_default()),
            Some(named) if named == event => Ok(Some((peer, first))),
            _ => {
                let wanted = peer.expect(event).await?;
                Ok(Some((peer, wanted)))
            }
        }
    }

    // ---- What it says and is told ----

    /// The next thing that it says
    pub(crate) async fn next(&mut self) -> Result<Value> {
        let what = format!("{} says something", self.name);
        let line = within(PATIENCE, &what, self.said.next_line()).await??;
        Ok(serde_json::from_str(&line.with_context(|| format!("{} has ended", self.name))?)?)
    }

    /// The next thing that it says, which must be this
    pub(crate) async fn expect(&mut self, event: &str) -> Result<Value> {
        let said = self.next().await?;
        ensure!(said["event"] == event, "{} said {said} in place of {event:?}", self.name);
        Ok(said)
    }

    /// The next of these; others are passed over
    pub(crate) async fn until(&mut self, event: &str) -> Result<Value> {
        loop {
            let said = self.next().await?;
            if said["event"] == event {
                return Ok(said);
            }
        }
    }

    pub(crate) async fn tell(&mut self, command: Value) -> Result<()> {
        let line = format!("{command}\n");
        let what = format!("{} takes a command", self.name);
        within(PATIENCE, &what, self.stdin.write_all(line.as_bytes()))
            .await?
            .with_context(|| format!("{} is gone", self.name))
    }

    // ---- A client ----

    /// Sends a request; `seconds` is Domogik's timeout frame, `None` the word of that name
    pub(crate) async fn ask(&mut self, service: &str, body: &[&[u8]], seconds: Option<f64>) -> Result<()> {
        self.ask_with(service, body, json!(seconds), json!({})).await
    }

    /// As [`ask`](Self::ask), with the timeout as Python is to write it and further fields of the command
    pub(crate) async fn ask_with(
        &mut self,
        service: &str,
        body: &[&[u8]],
        timeout: Value,
        mut more: Value,
    ) -> Result<()> {
        let mut command = json!({"service": service, "frames": encoded(body), "timeout": timeout});
        if let (Some(command), Some(more)) = (command.as_object_mut(), more.as_object_mut()) {
            command.append(more);
        }
        self.tell(command).await
    }

    /// Waits for the whole reply
    pub(crate) async fn reply(&mut self) -> Result<Reply> {
        let mut partials = Vec::new();
        loop {
            let said = self.next().await?;
            match said["event"].as_str() {
                Some("partial") => partials.push(frames(&said["frames"])?),
                Some("final") => {
                    return Ok(Reply { partials, last: frames(&said["frames"])?, raw: frames(&said["raw"])? });
                }
                _ => bail!("{} said {said} in place of a reply", self.name),
            }
        }
    }

    /// Asks and waits for a reply of one part
    pub(crate) async fn asked(&mut self, service: &str, body: &[&[u8]]) -> Result<Vec<Bytes>> {
        self.ask(service, body, Some(10.0)).await?;
        let reply = self.reply().await?;
        ensure!(reply.partials.is_empty(), "{}: {reply:?} has several parts", self.name);
        Ok(reply.last)
    }

    // ---- A worker ----

    /// The next request, which its handler has and is held up by until [`answer`](Self::answer)
    pub(crate) async fn request(&mut self) -> Result<Vec<Bytes>> {
        frames(&self.until("request").await?["frames"])
    }

    pub(crate) async fn answer(&mut self, partials: &[&[&[u8]]], last: &[&[u8]]) -> Result<()> {
        let partials: Vec<_> = partials.iter().map(|part| encoded(part)).collect();
        self.tell(json!({"partials": partials, "reply": encoded(last)})).await?;
        self.until("replied").await.map(drop)
    }

    // ---- The process ----

    /// Kills it with -9 and waits until it is gone
    pub(crate) async fn kill(mut self) -> Result<()> {
        self.child.start_kill()?;
        within(PATIENCE, "the killed peer is gone", self.child.wait()).await??;
        Ok(())
    }

    /// Stops it where it is, or lets it go on; its kernel goes on taking octets for it
    pub(crate) fn signal(&self, signal: Signal) -> Result<()> {
        let pid = self.child.id().and_then(|id| Pid::from_raw(id.cast_signed())).context("it has no pid any more")?;
        Ok(kill_process(pid, signal)?)
    }
}

fn owned(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

fn encoded(frames: &[&[u8]]) -> Vec<String> {
    frames.iter().map(|frame| BASE64_STANDARD.encode(frame)).collect()
}

pub(crate) fn frames(field: &Value) -> Result<Vec<Bytes>> {
    let decode = |frame: &Value| Ok(BASE64_STANDARD.decode(frame.as_str().context("a frame is no text")?)?.into());
    field.as_array().context("no frames")?.iter().map(decode).collect()
}

fn skip<T>(what: &str, why: &str) -> Result<Option<T>> {
    static SAID: Once = Once::new();
    if env::var_os("CI").is_some() || env::var("TIDINGS_REQUIRE_PEERS").is_ok_and(|value| value == "1") {
        bail!("{what} is required here and missing ({why}); cargo xtask interop installs it");
    }
    // Past the test harness, which would swallow it
    SAID.call_once(|| {
        writeln!(std::io::stderr(), "skipped: {what} is missing (cargo xtask interop installs it)").ok();
    });
    Ok(None)
}

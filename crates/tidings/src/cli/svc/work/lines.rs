//! A command that runs for long and speaks JSON lines: requests on its stdin, replies on its stdout, in any order.
//!
//! ```text
//! to the command    {"id":1,"service":"dbmanager","action":"config.get","data":{…},"attempt":1,"deadline_ms":5000}
//!                   {"id":2,"service":"dbmanager","frames":["text",{"hex":"00ff"}],"attempt":1}
//!                   {"id":1,"cancel":true}                       it need not be answered any more
//! from the command  {"id":1,"action":"config.result","data":{…}}  the action of the request, if none is named
//!                   {"id":2,"partial":true,"frames":["…"]}        more follows
//!                   {"id":2,"error":"no such thing","status":404} refused; 500 if no status is named
//! ```

use std::borrow::Cow;
use std::collections::HashMap;
use std::time::Duration;

use bytes::Bytes;
use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;
use tidings::Message;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::process::ChildStdout;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::job::{Content, FAILED, Job, Refusal, frames_of};
use crate::cli::Talk;
use crate::cli::exec::{Command, Group, hear};
use crate::cli::output::{escape, json_frame};

/// The command, started when the first request comes, and again if it has ended
pub(super) struct Lines {
    asks: mpsc::Sender<Ask>,
    keeper: JoinHandle<()>,
}

/// What comes back for one request; the last of them is the end
pub(super) enum Answer {
    Partial(Message),
    Final(Result<Message, Refusal>),
}

/// The answers to one request; dropped before the last, it tells the command
pub(super) struct Answers {
    id: u64,
    answers: mpsc::Receiver<Answer>,
    asks: mpsc::Sender<Ask>,
    ended: bool,
}

enum Ask {
    Job { id: u64, job: Job, answers: mpsc::Sender<Answer> },
    Cancel(u64),
}

impl Lines {
    /// A command that is asked up to `concurrency` requests at once
    pub(super) fn new(command: Command, concurrency: usize, talk: Talk) -> Self {
        let (asks, asked) = mpsc::channel(concurrency);
        Self { asks, keeper: tokio::spawn(keep(command, asked, talk)) }
    }

    /// Asks; numbers are the caller's and never the same
    pub(super) async fn ask(&self, id: u64, job: Job) -> Answers {
        let (sender, answers) = mpsc::channel(ANSWERS_AHEAD);
        // The keeper is there for as long as `self` is
        self.asks.send(Ask::Job { id, job, answers: sender }).await.ok();
        Answers { id, answers, asks: self.asks.clone(), ended: false }
    }

    /// Ends the command: its stdin ends, and after a while it is killed
    pub(super) async fn stop(self) {
        drop(self.asks);
        self.keeper.await.ok();
    }
}

impl Answers {
    /// The next answer
    pub(super) async fn next(&mut self) -> Answer {
        let ended = || Answer::Final(Err(failed("the command has ended".to_owned())));
        let answer = self.answers.recv().await.unwrap_or_else(ended);
        self.ended = matches!(answer, Answer::Final(_));
        answer
    }
}

impl Drop for Answers {
    fn drop(&mut self) {
        if !self.ended {
            // With no room the command is behind anyway; what it answers then is dropped
            self.asks.try_send(Ask::Cancel(self.id)).ok();
        }
    }
}

/// Keeps the command running for as long as there is somebody to ask
async fn keep(command: Command, mut asked: mpsc::Receiver<Ask>, talk: Talk) {
    while let Some(ask) = asked.recv().await {
        let Ask::Job { id, job, answers } = ask else { continue };
        match Running::start(&command) {
            Ok(mut running) => {
                running.tell(id, job, answers);
                let last = running.converse(&mut asked, talk).await;
                let why = match &last {
                    Some(last) => format!("the command has ended: {last}"),
                    None => "the command has ended".to_owned(),
                };
                for (_, (_, answers)) in running.open.drain() {
                    answers.try_send(Answer::Final(Err(failed(why.clone())))).ok();
                }
                if !asked.is_closed() {
                    talk.say(format_args!("{why}; it is started again for the next request"));
                }
            }
            Err(why) => {
                answers.try_send(Answer::Final(Err(failed(why)))).ok();
            }
        }
    }
}

/// One process, and what it has not answered
struct Running {
    group: Group,
    stdout: Option<ChildStdout>,
    stderr: JoinHandle<Option<String>>,
    /// Requests under way: the action, which is that of the reply if none is named, and who waits
    open: HashMap<u64, (Option<String>, mpsc::Sender<Answer>)>,
    /// What is to be written yet
    outgoing: Vec<u8>,
    /// What was read and is no whole line yet
    incoming: Vec<u8>,
}

impl Running {
    fn start(command: &Command) -> Result<Self, String> {
        let mut group = command.start(&[]).map_err(|failure| failure.to_string())?;
        let stdout = group.child.stdout.take();
        let stderr = tokio::spawn(hear(group.child.stderr.take()));
        Ok(Self { group, stdout, stderr, open: HashMap::new(), outgoing: Vec::new(), incoming: Vec::new() })
    }

    fn tell(&mut self, id: u64, job: Job, answers: mpsc::Sender<Answer>) {
        self.outgoing.extend(line_of(id, &job).into_bytes());
        let action = match job.content {
            Content::Action { action, .. } => Some(action),
            Content::Frames(_) => None,
        };
        self.open.insert(id, (action, answers));
    }

    /// Writes and reads until either side ends; the command's last words
    async fn converse(&mut self, asked: &mut mpsc::Receiver<Ask>, talk: Talk) -> Option<String> {
        let mut stdin = self.group.child.stdin.take();
        let mut stdout = self.stdout.take()?;
        let mut buffer = vec![0; READ_AT_ONCE];
        let mut asking = true;
        loop {
            let writing = async {
                match &mut stdin {
                    Some(stdin) if !self.outgoing.is_empty() => stdin.write(&self.outgoing).await,
                    _ => std::future::pending().await,
                }
            };
            tokio::select! {
                written = writing => match written {
                    Ok(written) => drop(self.outgoing.drain(..written)),
                    // It reads no more: what it has it may still answer
                    Err(_) => {
                        stdin = None;
                        self.outgoing.clear();
                    }
                },
                // A command that does not read is not told more
                ask = asked.recv(), if asking && self.outgoing.is_empty() => match ask {
                    Some(Ask::Job { id, job, answers }) if stdin.is_some() => self.tell(id, job, answers),
                    Some(Ask::Job { answers, .. }) => {
                        let why = "the command reads no more requests".to_owned();
                        answers.try_send(Answer::Final(Err(failed(why)))).ok();
                    }
                    Some(Ask::Cancel(id)) => {
                        if self.open.remove(&id).is_some() {
                            self.outgoing.extend(format!("{{\"id\":{id},\"cancel\":true}}\n").into_bytes());
                        }
                    }
                    None => {
                        asking = false;
                        stdin = None;
                    }
                },
                read = stdout.read(&mut buffer) => match read {
                    Ok(0) | Err(_) => break,
                    Ok(read) => {
                        self.incoming.extend_from_slice(buffer.get(..read).unwrap_or_default());
                        if !self.read_lines(talk).await {
                            break;
                        }
                    }
                },
                () = tokio::time::sleep(GRACE), if !asking => break,
            }
        }
        drop(stdin);
        let status = tokio::time::timeout(GRACE, self.group.child.wait()).await;
        let Ok(Ok(status)) = status else { return Some("it was killed, as it did not end".to_owned()) };
        let last = tokio::time::timeout(GRACE, &mut self.stderr).await.ok().and_then(Result::ok).flatten();
        match last {
            Some(last) => Some(format!("{status}: {last}")),
            None => Some(status.to_string()),
        }
    }

    /// Takes all whole lines; false when one is too long
    async fn read_lines(&mut self, talk: Talk) -> bool {
        let incoming = std::mem::take(&mut self.incoming);
        let mut rest = &incoming[..];
        while let Some(end) = rest.iter().position(|octet| *octet == b'\n') {
            let (line, after) = rest.split_at(end);
            rest = after.split_first().map_or(&[], |(_, after)| after);
            if !line.trim_ascii().is_empty() {
                self.read_line(line, talk).await;
            }
        }
        self.incoming = rest.to_vec();
        if self.incoming.len() > LINE_LIMIT {
            talk.say(format_args!("the command's line is longer than {} MiB: it is ended", LINE_LIMIT >> 20));
            return false;
        }
        true
    }

    async fn read_line(&mut self, line: &[u8], talk: Talk) {
        let (id, said) = match serde_json::from_slice::<Said<'_>>(line) {
            Ok(said) => (Some(said.id), Ok(said)),
            Err(error) => {
                let id = serde_json::from_slice::<Value>(line).ok().and_then(|value| value.get("id")?.as_u64());
                (id, Err(error.to_string()))
            }
        };
        let Some((id, (action, answers))) = id.and_then(|id| Some((id, self.open.get(&id)?))) else {
            let why = said
                .err()
                .map_or("for a request that is not open".to_owned(), |error| format!("not understood: {error}"));
            talk.say(format_args!("the command's line is {why}: {}", escape(line.get(..SHOWN).unwrap_or(line))));
            return;
        };
        let partial = matches!(&said, Ok(said) if said.partial && said.error.is_none());
        let answer = said.map_err(failed_to_say).and_then(|said| said.reply(action.as_deref()));
        match (answer, partial) {
            (Ok(message), true) => {
                // Whoever waits for room here is the command, as it should be
                answers.send(Answer::Partial(message)).await.ok();
            }
            (answer, _) => {
                answers.send(Answer::Final(answer)).await.ok();
                self.open.remove(&id);
            }
        }
    }
}

/// A line of the command
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Said<'a> {
    id: u64,
    #[serde(default)]
    partial: bool,
    #[serde(borrow)]
    action: Option<Cow<'a, str>>,
    #[serde(borrow)]
    data: Option<&'a RawValue>,
    frames: Option<Value>,
    #[serde(borrow)]
    error: Option<Cow<'a, str>>,
    status: Option<u16>,
}

impl Said<'_> {
    fn reply(self, asked: Option<&str>) -> Result<Message, Refusal> {
        if let Some(error) = self.error {
            return Err(Refusal { status: self.status.unwrap_or(FAILED), text: error.into_owned() });
        }
        match (self.data, self.frames) {
            (Some(data), None) => {
                let action = self.action.as_deref().or(asked).unwrap_or_default().to_owned();
                Ok(Message::multipart([Bytes::from(action), Bytes::copy_from_slice(data.get().as_bytes())]))
            }
            (None, Some(frames)) => frames_of(&frames).map_err(failed_to_say),
            _ => Err(failed_to_say("one of data, frames and error is to stand in a line".to_owned())),
        }
    }
}

/// A request as one line
fn line_of(id: u64, job: &Job) -> String {
    let text = |text: &str| Value::from(text).to_string();
    let content = match &job.content {
        Content::Action { action, data } => {
            // JSON has line ends between its tokens only, where a space does as well
            let data = String::from_utf8_lossy(data).replace(['\n', '\r'], " ");
            format!("\"action\":{},\"data\":{data}", text(action))
        }
        Content::Frames(message) => {
            let frames: Vec<Value> = message.frames().map(json_frame).collect();
            format!("\"frames\":{}", Value::from(frames))
        }
    };
    let deadline = job.deadline.map_or(String::new(), |deadline| format!(",\"deadline_ms\":{}", deadline.as_millis()));
    format!("{{\"id\":{id},\"service\":{},{content},\"attempt\":{}{deadline}}}\n", text(&job.service), job.attempt)
}

fn failed(text: String) -> Refusal {
    Refusal { status: FAILED, text }
}

fn failed_to_say(why: String) -> Refusal {
    failed(format!("the command's line is not understood: {why}"))
}

/// Partial replies held for a client that is slower than the command
const ANSWERS_AHEAD: usize = 16;

/// Longest wait for a command to end once its stdin has
const GRACE: Duration = Duration::from_secs(5);

/// Longest line of a command
const LINE_LIMIT: usize = 64 << 20;

const READ_AT_ONCE: usize = 64 << 10;

/// Octets of a line that is not understood which are shown
const SHOWN: usize = 120;

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(script: &str) -> Lines {
        Lines::new(Command::program("sh".into(), vec!["-c".into(), script.into()], false), 4, Talk::default())
    }

    fn job(frames: &[&'static str]) -> Job {
        let content = Content::of(Message::multipart(frames.iter().copied()), false);
        Job { service: "s".into(), content, attempt: 1, deadline: None }
    }

    async fn ask(lines: &Lines, id: u64, frames: &[&'static str]) -> Result<Message, Refusal> {
        let answer = async {
            let mut answers = lines.ask(id, job(frames)).await;
            loop {
                if let Answer::Final(answer) = answers.next().await {
                    return answer;
                }
            }
        };
        tokio::time::timeout(Duration::from_secs(20), answer).await.expect("an answer in time")
    }

    #[tokio::test]
    async fn requests_and_replies_are_lines() {
        // What comes in goes out, as far as the two forms are alike
        let lines = lines(
            r#"while read -r line; do printf '%s\n' "$line" | sed -e 's/"service":"s",//' -e 's/,"attempt":1//'; done"#,
        );
        assert_eq!(ask(&lines, 7, &["a.b", "{\"x\":\n 1.0}"]).await, Ok(Message::multipart(["a.b", "{\"x\":  1.0}"])));
        assert_eq!(ask(&lines, 8, &["raw", "fr\named", "x"]).await, Ok(Message::multipart(["raw", "fr\named", "x"])));
        lines.stop().await;
    }

    #[tokio::test]
    async fn parts_refusals_and_nonsense() {
        let said = r#"{"id":9} nonsense
            {"id":3,"partial":true,"frames":["one"]}
            {"id":3,"frames":["two"]}"#;
        let script = format!(
            "read line; echo '{said}'; read line; echo '{{\"id\":4,\"error\":\"no\",\"status\":404}}'; \
                              read line; echo '{{\"id\":5,\"dta\":1}}'; read line; echo '{{\"id\":6}}'; cat"
        );
        let lines = lines(&script);
        let mut answers = lines.ask(3, job(&["x"])).await;
        assert!(matches!(answers.next().await, Answer::Partial(part) if part == Message::from("one")));
        assert!(matches!(answers.next().await, Answer::Final(Ok(last)) if last == Message::from("two")));
        assert_eq!(ask(&lines, 4, &["x"]).await, Err(Refusal { status: 404, text: "no".into() }));
        assert!(ask(&lines, 5, &["x"]).await.unwrap_err().text.contains("unknown field `dta`"));
        assert!(ask(&lines, 6, &["x"]).await.unwrap_err().text.contains("one of data, frames and error"));
    }

    #[tokio::test]
    async fn a_command_that_ends_is_started_again_for_the_next_request() {
        let lines = lines(r#"read line; echo oops >&2; exit 3"#);
        for id in 1..3 {
            let refusal = ask(&lines, id, &["x"]).await.unwrap_err();
            assert_eq!(refusal.text, "the command has ended: exit status: 3: oops");
        }
    }

    #[tokio::test]
    async fn a_request_that_is_dropped_is_cancelled() {
        let lines =
            lines(r#"read a; read line; read b; echo '{"id":2,"frames":["'$(echo "$line" | tr -d '"')'"]}'; cat"#);
        drop(lines.ask(1, job(&["x"])).await);
        let refusal = ask(&lines, 2, &["x"]).await.unwrap();
        assert_eq!(refusal, Message::from("{id:1,cancel:true}"));
    }

    #[tokio::test]
    async fn what_can_not_be_started_is_said() {
        let lines = Lines::new(Command::program("/no/such".into(), Vec::new(), false), 1, Talk::default());
        assert!(ask(&lines, 1, &["x"]).await.unwrap_err().text.contains("/no/such can't be started"));
    }
}

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
use tokio::time::{Instant, timeout_at};

use super::job::{Content, FAILED, Job, Refusal, frames_of};
use crate::cli::Talk;
use crate::cli::exec::{Command, Group, hear};
use crate::cli::output::{escape, json_frame};

/// The command, started when the first request comes, and again if it has ended; dropped, it is killed
pub(super) struct Lines {
    /// Until it is to end
    jobs: Option<mpsc::Sender<Ask>>,
    cancels: mpsc::UnboundedSender<u64>,
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
    cancels: mpsc::UnboundedSender<u64>,
    ended: bool,
}

/// A request for the command
struct Ask {
    id: u64,
    job: Job,
    answers: mpsc::Sender<Answer>,
}

/// What the command is to hear, in the order in which it comes
struct Asked {
    jobs: mpsc::Receiver<Ask>,
    /// At most one for each request that was accepted, so that it needs no bound of its own
    cancels: mpsc::UnboundedReceiver<u64>,
}

impl Lines {
    /// A command that is asked up to `concurrency` requests at once
    pub(super) fn new(command: Command, concurrency: usize, talk: Talk) -> Self {
        let (jobs, asked) = mpsc::channel(concurrency);
        let (cancels, cancelled) = mpsc::unbounded_channel();
        let asked = Asked { jobs: asked, cancels: cancelled };
        Self { jobs: Some(jobs), cancels, keeper: tokio::spawn(keep(command, asked, talk)) }
    }

    /// Asks; numbers are the caller's and never the same
    pub(super) async fn ask(&self, id: u64, job: Job) -> Answers {
        let (sender, answers) = mpsc::channel(ANSWERS_AHEAD);
        if let Some(jobs) = &self.jobs {
            // The keeper is there for as long as `self` is
            jobs.send(Ask { id, job, answers: sender }).await.ok();
        }
        Answers { id, answers, cancels: self.cancels.clone(), ended: false }
    }

    /// Ends the command: its stdin ends, and after a while it is killed
    ///
    /// # Cancel safety
    /// Dropped, it has the command killed at once.
    pub(super) async fn stop(mut self) {
        self.jobs = None;
        (&mut self.keeper).await.ok();
    }
}

impl Drop for Lines {
    fn drop(&mut self) {
        self.keeper.abort();
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
            self.cancels.send(self.id).ok();
        }
    }
}

/// Keeps the command running for as long as there is somebody to ask
async fn keep(command: Command, mut asked: Asked, talk: Talk) {
    while let Some(ask) = asked.next().await {
        match Running::start(&command) {
            Ok(mut running) => {
                running.tell(ask);
                let last = running.converse(&mut asked, talk).await;
                let why = match &last {
                    Some(last) => format!("the command has ended: {last}"),
                    None => "the command has ended".to_owned(),
                };
                for (_, (_, answers)) in running.open.drain() {
                    answers.try_send(Answer::Final(Err(failed(why.clone())))).ok();
                }
                if !asked.jobs.is_closed() {
                    talk.say(format_args!("{why}; it is started again for the next request"));
                }
            }
            Err(why) => {
                ask.answers.try_send(Answer::Final(Err(failed(why)))).ok();
            }
        }
    }
}

impl Asked {
    /// The next request that somebody waits for still
    async fn next(&mut self) -> Option<Ask> {
        loop {
            tokio::select! {
                biased;
                // The command that was told of it is there no longer
                Some(_) = self.cancels.recv() => {}
                ask = self.jobs.recv() => match ask {
                    Some(ask) if ask.answers.is_closed() => {}
                    ask => return ask,
                },
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
    /// What was read and is no whole line yet, and how much of it has been searched for its end
    incoming: Vec<u8>,
    searched: usize,
    /// Lines that no request waits for, or that say nothing
    useless: u64,
}

impl Running {
    fn start(command: &Command) -> Result<Self, String> {
        let mut group = command.start(&[]).map_err(|failure| failure.to_string())?;
        let stdout = group.child.stdout.take();
        let stderr = tokio::spawn(hear(group.child.stderr.take()));
        Ok(Self {
            group,
            stdout,
            stderr,
            open: HashMap::new(),
            outgoing: Vec::new(),
            incoming: Vec::new(),
            searched: 0,
            useless: 0,
        })
    }

    fn tell(&mut self, Ask { id, job, answers }: Ask) {
        self.outgoing.extend(line_of(id, &job).into_bytes());
        let action = match job.content {
            Content::Action { action, .. } => Some(action),
            Content::Frames(_) => None,
        };
        self.open.insert(id, (action, answers));
    }

    /// Writes and reads until either side ends; the command's last words
    ///
    /// What the command started may hold its stdout for longer than it lives: its end is what counts.
    async fn converse(&mut self, asked: &mut Asked, talk: Talk) -> Option<String> {
        let mut stdin = self.group.child.stdin.take();
        let mut stdout = self.stdout.take()?;
        let mut buffer = vec![0; READ_AT_ONCE];
        let mut status = None;
        // Once the command reads no more, or has ended, what it has said is waited for, but not for ever
        let mut until = None;
        loop {
            let writing = async {
                match &mut stdin {
                    Some(stdin) if !self.outgoing.is_empty() => stdin.write(&self.outgoing).await,
                    _ => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                () = sleep_until(until) => break,
                Some(id) = asked.cancels.recv() => {
                    if self.open.remove(&id).is_some() && stdin.is_some() {
                        self.outgoing.extend(format!("{{\"id\":{id},\"cancel\":true}}\n").into_bytes());
                    }
                }
                // A command that does not read is not told more; the next one is
                ask = asked.jobs.recv(), if until.is_none() && self.outgoing.is_empty() => match ask {
                    Some(ask) if ask.answers.is_closed() => {}
                    Some(ask) => self.tell(ask),
                    None => {
                        stdin = None;
                        until = Some(Instant::now() + GRACE);
                    }
                },
                written = writing => match written {
                    Ok(written) => drop(self.outgoing.drain(..written)),
                    // It reads no more: what it has it may still answer
                    Err(_) => {
                        stdin = None;
                        self.outgoing.clear();
                        until.get_or_insert(Instant::now() + GRACE);
                    }
                },
                ended = self.group.wait(), if status.is_none() => {
                    status = Some(ended);
                    stdin = None;
                    until = Some(Instant::now() + REST);
                }
                read = stdout.read(&mut buffer) => match read {
                    Ok(0) | Err(_) => break,
                    Ok(read) => {
                        self.incoming.extend_from_slice(buffer.get(..read).unwrap_or_default());
                        if !self.read_lines(talk).await {
                            break;
                        }
                    }
                },
            }
        }
        drop(stdin);
        let status = match (status, until) {
            (Some(status), _) => Some(status),
            (None, until) => timeout_at(until.unwrap_or_else(|| Instant::now() + GRACE), self.group.wait()).await.ok(),
        };
        let Some(Ok(status)) = status else { return Some("it was killed, as it did not end".to_owned()) };
        let last = tokio::time::timeout(REST, &mut self.stderr).await.ok().and_then(Result::ok).flatten();
        match last {
            Some(last) => Some(format!("{status}: {last}")),
            None => Some(status.to_string()),
        }
    }

    /// Takes all whole lines; false when one is too long
    async fn read_lines(&mut self, talk: Talk) -> bool {
        let mut incoming = std::mem::take(&mut self.incoming);
        let (mut begin, mut searched) = (0, std::mem::take(&mut self.searched));
        while let Some(length) = incoming.get(searched..).and_then(|rest| rest.iter().position(|octet| *octet == b'\n'))
        {
            let end = searched + length;
            let line = incoming.get(begin..end).unwrap_or_default();
            if !line.trim_ascii().is_empty() {
                self.read_line(line, talk).await;
            }
            (begin, searched) = (end + 1, end + 1);
        }
        drop(incoming.drain(..begin));
        self.searched = incoming.len();
        self.incoming = incoming;
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
            self.useless += 1;
            // A command may go on for long about what was cancelled: the first line is shown, and then ever fewer
            if self.useless.is_power_of_two() {
                let shown = escape(line.get(..SHOWN).unwrap_or(line));
                talk.say(format_args!("the command's line is {why}: {shown} ({} so far)", self.useless));
            }
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
    let deadline = job.remaining().map_or(String::new(), |left| format!(",\"deadline_ms\":{}", left.as_millis()));
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

async fn sleep_until(until: Option<Instant>) {
    match until {
        Some(until) => tokio::time::sleep_until(until).await,
        None => std::future::pending().await,
    }
}

/// Longest wait for a command to end once its stdin has
const GRACE: Duration = Duration::from_secs(5);

/// Longest wait for what is left in the pipes of a command that has ended
const REST: Duration = Duration::from_millis(200);

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
    async fn a_command_that_says_more_and_more_is_stopped_all_the_same() {
        let lines = lines(r#"read line; echo '{"id":1,"data":1}'; while :; do echo '{"x":1}'; sleep 0.05; done"#);
        ask(&lines, 1, &["x"]).await.unwrap();
        tokio::time::timeout(GRACE * 2, lines.stop()).await.expect("its time is over after one wait");
    }

    #[tokio::test]
    async fn the_end_of_a_command_is_its_own_and_not_that_of_what_it_started() {
        // What is in the background holds stdin, stdout and stderr
        let lines = lines(r#"exec 3<&0; sleep 1000 <&3 & read line; echo '{"id":'$$',"x":1}'; exit 3"#);
        for id in 1..3 {
            let refusal = ask(&lines, id, &["x"]).await.unwrap_err();
            assert!(refusal.text.starts_with("the command has ended: exit status: 3"), "{}", refusal.text);
        }
    }

    #[tokio::test]
    async fn a_command_that_closes_its_stdin_is_started_again() {
        let lines = lines(
            r#"read line; id=$(expr "$line" : '{"id":\([0-9]*\)'); exec 0<&-; echo '{"id":'$id',"data":1}'; sleep 1000"#,
        );
        ask(&lines, 1, &["x"]).await.unwrap();
        // It gets no answer, as the command does not read it; the next one does
        let refusal = ask(&lines, 2, &["x"]).await.unwrap_err();
        assert!(refusal.text.contains("it was killed"), "{}", refusal.text);
        ask(&lines, 3, &["x"]).await.unwrap();
    }

    #[tokio::test]
    async fn what_nobody_waits_for_is_not_begun_and_cancels_are_not_lost() {
        // It tells how many lines it has heard
        let script = r#"read one; echo '{"id":1,"partial":true,"data":1}'; heard=0
            while read -r line; do
                heard=$((heard + 1))
                case "$line" in *'"id":30,"service"'*) echo '{"id":30,"frames":["'$heard $first'"]}';; esac
                first=${first:-$(echo $line | tr -d '"')}
            done"#;
        let lines = lines(script);
        let mut first = lines.ask(1, job(&["x"])).await;
        assert!(matches!(first.next().await, Answer::Partial(_)));
        // More than there is room for, all given up before the command hears of them
        for id in 2..20 {
            drop(lines.ask(id, job(&["gone"])).await);
        }
        drop(first);
        assert_eq!(ask(&lines, 30, &["x"]).await, Ok(Message::from("2 {id:1,cancel:true}")));
    }

    #[tokio::test]
    async fn a_request_that_is_dropped_is_cancelled() {
        let script = r#"read a; echo '{"id":1,"partial":true,"data":1}'; read line; read b
            echo '{"id":2,"frames":["'$(echo "$line" | tr -d '"')'"]}'; cat"#;
        let lines = lines(script);
        let mut answers = lines.ask(1, job(&["x"])).await;
        assert!(matches!(answers.next().await, Answer::Partial(_)));
        drop(answers);
        assert_eq!(ask(&lines, 2, &["x"]).await, Ok(Message::from("{id:1,cancel:true}")));
    }

    #[tokio::test]
    async fn what_can_not_be_started_is_said() {
        let lines = Lines::new(Command::program("/no/such".into(), Vec::new(), false), 1, Talk::default());
        assert!(ask(&lines, 1, &["x"]).await.unwrap_err().text.contains("/no/such can't be started"));
    }
}

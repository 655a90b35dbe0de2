//! A command that answers requests: bounded in time and output, killed with all it started when it is no longer
//! wanted.

use std::ffi::OsString;
use std::fmt;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};
use tidings::Message;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _};
use tokio::process::{Child, ChildStdin, ChildStdout};

use super::output::escape;
use super::units::display_duration;

/// What to run for each request
#[derive(Clone, Debug)]
pub(crate) struct Command {
    program: OsString,
    arguments: Vec<OsString>,
    timeout: Option<Duration>,
    keep_newline: bool,
    /// Whether what it says on stderr is listened to, besides being passed on
    hear: bool,
}

/// What one run of a command is given
#[derive(Clone, Debug, Default)]
pub(crate) struct Input {
    /// Written to its stdin, each but the last followed by a line end
    pub(crate) lines: Vec<bytes::Bytes>,
    /// Variables; those that the environment can't carry are left out
    pub(crate) environment: Vec<(String, String)>,
}

/// Why a command has no answer
#[derive(Debug)]
pub(crate) enum CommandFailure {
    /// It can't be started; the whole sentence
    NotStarted(String),
    /// It ended with another status than 0, and this was its last line on stderr, if it was listened to
    Ended(ExitStatus, Option<String>),
    /// It was killed: it ran longer than it may
    TooLong(Duration),
    /// It was killed: it printed more than an answer may be long
    TooMuch,
    /// Its pipes failed
    Io(std::io::Error),
}

impl Command {
    /// A line for the shell
    pub(crate) fn shell(script: &str, timeout: Duration, keep_newline: bool) -> Self {
        let arguments = vec!["-c".into(), script.into()];
        Self { program: "sh".into(), arguments, timeout: Some(timeout), keep_newline, hear: false }
    }

    /// A program and its arguments, as they are; its last line on stderr is remembered
    pub(crate) fn program(program: OsString, arguments: Vec<OsString>, keep_newline: bool) -> Self {
        Self { program, arguments, timeout: None, keep_newline, hear: true }
    }

    /// Starts it with pipes to its stdin and stdout, in a process group of its own
    ///
    /// # Errors
    /// When it can't be started.
    pub(crate) fn start(&self, environment: &[(String, String)]) -> Result<Group, CommandFailure> {
        let mut command = tokio::process::Command::new(&self.program);
        command.args(&self.arguments).stdin(Stdio::piped()).stdout(Stdio::piped());
        if self.hear {
            command.stderr(Stdio::piped());
        }
        // A group of its own, so that the whole pipeline can be killed
        command.process_group(0).kill_on_drop(true);
        for (name, value) in environment {
            // The environment can carry neither NUL nor very long texts
            if !value.contains('\0') && value.len() <= ENVIRONMENT_LIMIT {
                command.env(name, value);
            }
        }
        let failed = |error| CommandFailure::NotStarted(format!("{} can't be started: {error}", self.name()));
        command.spawn().map(Group::new).map_err(failed)
    }

    /// Runs the command; what it prints is the result
    ///
    /// # Errors
    /// When it could not be started, failed, ran too long or printed too much.
    ///
    /// # Cancel safety
    /// Dropped, it kills the command and its children.
    pub(crate) async fn run(&self, input: &Input) -> Result<Vec<u8>, CommandFailure> {
        let mut group = self.start(&input.environment)?;
        let (stdin, stdout) = (group.child.stdin.take(), group.child.stdout.take());
        let stderr = group.child.stderr.take();
        let mut output = Vec::new();
        let work = async {
            let (status, last) = {
                let mut pipes = std::pin::pin!(async {
                    tokio::join!(feed(stdin, &input.lines), collect(stdout, &mut output), hear(stderr))
                });
                tokio::select! {
                    ((), collected, last) = &mut pipes => {
                        collected?;
                        (group.wait().await, last)
                    }
                    // What it has left in the background is killed; only what left its group holds the pipes now
                    status = group.wait() => match tokio::time::timeout(REST, &mut pipes).await {
                        Ok(((), collected, last)) => {
                            collected?;
                            (status, last)
                        }
                        Err(_) => (status, None),
                    },
                }
            };
            let status = status.map_err(CommandFailure::Io)?;
            if status.success() { Ok(()) } else { Err(CommandFailure::Ended(status, last)) }
        };
        match self.timeout {
            Some(limit) => tokio::time::timeout(limit, work).await.map_err(|_| CommandFailure::TooLong(limit))??,
            None => work.await?,
        }
        if !self.keep_newline && output.last() == Some(&b'\n') {
            output.pop();
        }
        Ok(output)
    }

    /// Its name, for people
    pub(crate) fn name(&self) -> String {
        escape(self.program.as_encoded_bytes())
    }
}

impl Input {
    /// The frames of a message: each a line of stdin, and in TIDINGS_FRAME_0, TIDINGS_FRAME_1, …
    pub(crate) fn frames(message: &Message) -> Self {
        let mut environment = vec![("TIDINGS_FRAMES".to_owned(), message.frame_count().to_string())];
        for (index, frame) in message.frames().enumerate().take(ENVIRONMENT_FRAMES) {
            // What is no text is on stdin only
            if let Ok(text) = std::str::from_utf8(frame) {
                environment.push((format!("TIDINGS_FRAME_{index}"), text.to_owned()));
            }
        }
        Self { lines: message.clone().into_frames().to_vec(), environment }
    }
}

impl fmt::Display for CommandFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotStarted(why) => f.write_str(why),
            Self::Ended(status, None) => write!(f, "{status}"),
            Self::Ended(status, Some(last)) => write!(f, "{status}: {last}"),
            Self::TooLong(limit) => write!(f, "no end after {}", display_duration(*limit)),
            Self::TooMuch => write!(f, "it printed more than {} MiB", OUTPUT_LIMIT >> 20),
            Self::Io(error) => error.fmt(f),
        }
    }
}

/// A child and everything it started
pub(crate) struct Group {
    pub(crate) child: Child,
    /// Until the child has been waited for: later the number may be another group's
    id: Option<Pid>,
}

impl Group {
    fn new(child: Child) -> Self {
        let id = child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
        Self { child, id }
    }

    /// Waits for the child's end, and kills what it has left behind
    ///
    /// # Errors
    /// Those of waiting.
    ///
    /// # Cancel safety
    /// Safe: it can be waited for again.
    pub(crate) async fn wait(&mut self) -> std::io::Result<ExitStatus> {
        let status = self.child.wait().await;
        self.kill();
        status
    }

    /// Kills the child and everything it started
    fn kill(&mut self) {
        if let Some(id) = self.id.take() {
            // They may all have ended on their own; as long as one of them is there nobody else gets the number
            kill_process_group(id, Signal::KILL).ok();
        }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Writes the frames, each ended by a line end but the last, and closes the pipe
async fn feed(stdin: Option<ChildStdin>, lines: &[bytes::Bytes]) {
    let Some(mut stdin) = stdin else { return };
    for (index, frame) in lines.iter().enumerate() {
        let before: &[u8] = if index == 0 { b"" } else { b"\n" };
        // A command that does not read its input is no failure
        if stdin.write_all(before).await.is_err() || stdin.write_all(frame).await.is_err() {
            return;
        }
    }
    stdin.shutdown().await.ok();
}

async fn collect(stdout: Option<ChildStdout>, output: &mut Vec<u8>) -> Result<(), CommandFailure> {
    let Some(stdout) = stdout else { return Ok(()) };
    let read = stdout.take(OUTPUT_LIMIT + 1).read_to_end(output).await.map_err(CommandFailure::Io)?;
    if read as u64 > OUTPUT_LIMIT { Err(CommandFailure::TooMuch) } else { Ok(()) }
}

/// Passes on what a command says on stderr, and remembers its last line that is not empty
pub(crate) async fn hear(stderr: Option<impl AsyncRead + Unpin>) -> Option<String> {
    let mut stderr = stderr?;
    let (mut last, mut line) = (Vec::new(), Vec::new());
    let mut buffer = vec![0; 4096];
    while let Ok(read @ 1..) = stderr.read(&mut buffer).await {
        let octets = buffer.get(..read).unwrap_or_default();
        // Nobody listening on our stderr is no reason to stop the command
        std::io::Write::write_all(&mut std::io::stderr(), octets).ok();
        for octet in octets {
            match octet {
                b'\n' if line.is_empty() => {}
                b'\n' => last = std::mem::take(&mut line),
                _ if line.len() < LAST_LINE_LIMIT => line.push(*octet),
                _ => {}
            }
        }
    }
    let last = if line.is_empty() { last } else { line };
    Some(escape(last.trim_ascii())).filter(|last| !last.is_empty())
}

/// Longest frame in the environment: Linux ends an exec with a text over 128 KiB (MAX_ARG_STRLEN),
/// and all of them together count against the stack limit
const ENVIRONMENT_LIMIT: usize = 16 << 10;

/// Most frames in the environment, for the same reason
const ENVIRONMENT_FRAMES: usize = 32;

/// Longest part of a line on stderr that goes into a refusal
const LAST_LINE_LIMIT: usize = 512;

/// Longest wait for what is left in the pipes of a command that has ended
const REST: Duration = Duration::from_secs(1);

/// Most output of one command
const OUTPUT_LIMIT: u64 = 64 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    async fn run(script: &str, frames: &[&'static str]) -> Result<String, String> {
        let request = frames.iter().copied().collect();
        let output = Command::shell(script, Duration::from_secs(20), false).run(&Input::frames(&request)).await;
        output.map(|output| String::from_utf8(output).unwrap()).map_err(|failure| failure.to_string())
    }

    #[tokio::test]
    async fn frames_arrive_on_stdin_and_in_the_environment() {
        assert_eq!(run("cat", &["a", "b"]).await.unwrap(), "a\nb");
        assert_eq!(run("echo $TIDINGS_FRAMES/$TIDINGS_FRAME_1/$TIDINGS_FRAME_2", &["a", "b"]).await.unwrap(), "2/b/");
    }

    #[tokio::test]
    async fn failures_are_told() {
        assert_eq!(run("exit 3", &["a"]).await.unwrap_err(), "exit status: 3");
        let missing = Command::program("/no/such/program".into(), Vec::new(), false);
        let failure = missing.run(&Input::default()).await.unwrap_err().to_string();
        assert!(failure.starts_with("/no/such/program can't be started: No such file"), "{failure}");
    }

    #[tokio::test]
    async fn a_program_is_heard_to_its_last_line() {
        let script = "echo first >&2; printf '\\nno disk: \\033[31m\\n\\n' >&2; exit 4";
        let program = Command::program("sh".into(), vec!["-c".into(), script.into()], false);
        let failure = program.run(&Input::default()).await.unwrap_err().to_string();
        assert_eq!(failure, "exit status: 4: no disk: \\x1b[31m");
    }

    #[tokio::test]
    async fn what_a_command_leaves_in_the_background_ends_with_it() {
        // It holds the pipes, which its end closes
        let output = run("sleep 1000 & echo $!", &["a"]).await.unwrap();
        let pid = Pid::from_raw(output.parse().unwrap()).unwrap();
        // Whoever is to reap it may need a moment
        let begun = std::time::Instant::now();
        while rustix::process::test_kill_process(pid).is_ok() {
            let state = std::fs::read_to_string(format!("/proc/{output}/stat")).unwrap_or_default();
            if state.contains(") Z ") {
                break;
            }
            assert!(begun.elapsed() < Duration::from_secs(20), "it lives on: {state}");
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn a_command_that_does_not_end_is_killed_with_its_children() {
        let command = Command::shell("sleep 1000 | sleep 1000", Duration::from_millis(50), false);
        let failure = command.run(&Input::frames(&Message::from("x"))).await.unwrap_err();
        assert_eq!(failure.to_string(), "no end after 50ms");
    }
}

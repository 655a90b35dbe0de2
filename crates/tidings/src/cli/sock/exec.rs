//! A command that answers requests: run by the shell, bounded in time and output, killed with all
//! it started when it is no longer wanted.

use std::process::Stdio;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};
use tidings::Message;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::process::{Child, ChildStdin, ChildStdout};

use crate::cli::units::display_duration;

/// What to run for each request
#[derive(Clone, Debug)]
pub(crate) struct Command {
    script: String,
    timeout: Duration,
    keep_newline: bool,
}

impl Command {
    pub(crate) fn new(script: &str, timeout: Duration, keep_newline: bool) -> Self {
        Self { script: script.to_owned(), timeout, keep_newline }
    }

    /// Runs the command: the frames on its stdin and in its environment; what it prints is the result
    ///
    /// # Errors
    /// In words: it could not be started, failed, ran too long or printed too much.
    ///
    /// # Cancel safety
    /// Dropped, it kills the command and its children.
    pub(crate) async fn run(&self, request: &Message) -> Result<Vec<u8>, String> {
        let mut command = tokio::process::Command::new("sh");
        command.arg("-c").arg(&self.script).stdin(Stdio::piped()).stdout(Stdio::piped());
        // A group of its own, so that the whole pipeline can be killed
        command.process_group(0).kill_on_drop(true);
        command.env("TIDINGS_FRAMES", request.frame_count().to_string());
        for (index, frame) in request.frames().enumerate().take(ENVIRONMENT_FRAMES) {
            // The environment can carry neither NUL nor very long texts: such frames are on stdin only
            if let Ok(text) = std::str::from_utf8(frame)
                && !text.contains('\0')
                && text.len() <= ENVIRONMENT_LIMIT
            {
                command.env(format!("TIDINGS_FRAME_{index}"), text);
            }
        }
        let child = command.spawn().map_err(|error| format!("sh can't be started: {error}"))?;
        let mut group = Group { child };
        let (stdin, stdout) = (group.child.stdin.take(), group.child.stdout.take());
        let work = async {
            let ((), output) = tokio::join!(feed(stdin, request), collect(stdout));
            let output = output?;
            let status = group.child.wait().await.map_err(|error| error.to_string())?;
            if status.success() { Ok(output) } else { Err(status.to_string()) }
        };
        let mut output = tokio::time::timeout(self.timeout, work)
            .await
            .map_err(|_| format!("no end after {}", display_duration(self.timeout)))??;
        if !self.keep_newline && output.last() == Some(&b'\n') {
            output.pop();
        }
        Ok(output)
    }
}

/// A child and everything it started
struct Group {
    child: Child,
}

impl Drop for Group {
    fn drop(&mut self) {
        // `id` is none once the child has been waited for, and its group id may be someone else's
        let pid = self.child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
        if let Some(pid) = pid {
            // It may have ended on its own in this moment
            kill_process_group(pid, Signal::KILL).ok();
        }
    }
}

/// Writes the frames, each ended by a line end but the last, and closes the pipe
async fn feed(stdin: Option<ChildStdin>, request: &Message) {
    let Some(mut stdin) = stdin else { return };
    for (index, frame) in request.frames().enumerate() {
        let before: &[u8] = if index == 0 { b"" } else { b"\n" };
        // A command that does not read its input is no failure
        if stdin.write_all(before).await.is_err() || stdin.write_all(frame).await.is_err() {
            return;
        }
    }
    stdin.shutdown().await.ok();
}

async fn collect(stdout: Option<ChildStdout>) -> Result<Vec<u8>, String> {
    let Some(stdout) = stdout else { return Ok(Vec::new()) };
    let mut output = Vec::new();
    let read = stdout.take(OUTPUT_LIMIT + 1).read_to_end(&mut output).await.map_err(|error| error.to_string())?;
    if read as u64 > OUTPUT_LIMIT {
        return Err(format!("it printed more than {} MiB", OUTPUT_LIMIT >> 20));
    }
    Ok(output)
}

/// Longest frame in the environment: Linux ends an exec with a text over 128 KiB (MAX_ARG_STRLEN),
/// and all of them together count against the stack limit
const ENVIRONMENT_LIMIT: usize = 16 << 10;

/// Most frames in the environment, for the same reason
const ENVIRONMENT_FRAMES: usize = 32;

/// Most output of one command
const OUTPUT_LIMIT: u64 = 64 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    async fn run(script: &str, frames: &[&'static str]) -> Result<String, String> {
        let request = frames.iter().copied().collect();
        let output = Command::new(script, Duration::from_secs(20), false).run(&request).await?;
        Ok(String::from_utf8(output).unwrap())
    }

    #[tokio::test]
    async fn frames_arrive_on_stdin_and_in_the_environment() {
        assert_eq!(run("cat", &["a", "b"]).await.unwrap(), "a\nb");
        assert_eq!(run("echo $TIDINGS_FRAMES/$TIDINGS_FRAME_1/$TIDINGS_FRAME_2", &["a", "b"]).await.unwrap(), "2/b/");
    }

    #[tokio::test]
    async fn failures_are_told() {
        assert_eq!(run("exit 3", &["a"]).await.unwrap_err(), "exit status: 3");
    }

    #[tokio::test]
    async fn a_command_that_does_not_end_is_killed_with_its_children() {
        let command = Command::new("sleep 1000 | sleep 1000", Duration::from_millis(50), false);
        assert_eq!(command.run(&Message::from("x")).await.unwrap_err(), "no end after 50ms");
    }
}

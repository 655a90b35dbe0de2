//! The processes of a run: started in order, read with a deadline, never left behind.

use std::io::{BufRead, BufReader, Read, Write as _};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::geteuid;
use serde_json::{Value, json};

use super::results::Failure;

/// A program of a side in one of its roles
pub(super) struct Process {
    child: Child,
    /// What it is and does, for error messages
    name: String,
    stdin: Option<ChildStdin>,
    stdout: Receiver<String>,
    stderr: Receiver<String>,
    deadline: Instant,
}

/// What a program runs in
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Surroundings {
    Usual,
    OneCore,
    /// With a loopback interface that nobody else uses, so that its counters are the program's
    OwnNetwork,
}

impl Surroundings {
    fn command(self, program: &Path) -> Command {
        let words: &[&str] = match self {
            Self::Usual => return Command::new(program),
            Self::OneCore => &["taskset", "-c", "0"],
            // Who is not root must be so there
            Self::OwnNetwork if geteuid().is_root() => &["unshare", "--net"],
            Self::OwnNetwork => &["unshare", "--net", "--map-root-user"],
        };
        let mut command = Command::new(words[0]);
        command.args(&words[1..]);
        if self == Self::OwnNetwork {
            command.args(["sh", "-c", "ip link set lo up && exec \"$@\"", "sh"]);
        }
        command.arg(program);
        command
    }
}

/// Whether the system lets us give programs a network of their own
pub(super) fn can_have_own_network() -> bool {
    Surroundings::OwnNetwork.command(Path::new("true")).output().is_ok_and(|output| output.status.success())
}

impl Process {
    pub(super) fn start(
        program: &Path,
        role: &str,
        arguments: &[String],
        surroundings: Surroundings,
        deadline: Instant,
    ) -> Result<Self, Failure> {
        let mut command = surroundings.command(program);
        command.arg(role).args(arguments);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let name =
            format!("{} {role} {}", program.file_name().unwrap_or_default().to_string_lossy(), arguments.join(" "));
        let mut child = command.spawn().map_err(|error| Failure::Failed(format!("{name} does not start: {error}")))?;
        let stdin = child.stdin.take();
        let stdout = child.stdout.take().map(lines_of);
        let stderr = child.stderr.take().map(lines_of);
        let none = || mpsc::channel().1;
        let (stdout, stderr) = (stdout.unwrap_or_else(none), stderr.unwrap_or_else(none));
        Ok(Self { child, name, stdin, stdout, stderr, deadline })
    }

    pub(super) fn id(&self) -> u32 {
        self.child.id()
    }

    /// The endpoints of the line `listening …`
    pub(super) fn endpoints(&mut self) -> Result<Vec<String>, Failure> {
        let line = self.line()?;
        listening(&line)
            .ok_or_else(|| Failure::Failed(format!("{} said {line:?} in place of \"listening …\"", self.name)))
    }

    /// The next line, as JSON
    pub(super) fn json(&mut self) -> Result<Value, Failure> {
        let line = self.line()?;
        self.parse(&line)
    }

    /// As `json`, but `None` if the line has not come after a while
    pub(super) fn poll_json(&mut self, patience: Duration) -> Result<Option<Value>, Failure> {
        match self.stdout.recv_timeout(patience) {
            Ok(line) => self.parse(&line).map(Some),
            Err(RecvTimeoutError::Disconnected) => Err(self.ended_early()),
            Err(RecvTimeoutError::Timeout) if Instant::now() > self.deadline => Err(self.timed_out("said nothing")),
            Err(RecvTimeoutError::Timeout) => Ok(None),
        }
    }

    /// Writes a line, and reads one of JSON
    pub(super) fn ask(&mut self, question: &str) -> Result<Value, Failure> {
        let written = self.stdin.as_mut().map(|stdin| writeln!(stdin, "{question}").and_then(|()| stdin.flush()));
        match written {
            Some(Ok(())) => self.json(),
            _ => Err(self.ended_early()),
        }
    }

    /// Tells it to end, where it waits for that
    pub(super) fn close_stdin(&mut self) {
        self.stdin = None;
    }

    /// Waits for its end, which must be a success
    pub(super) fn finish(&mut self) -> Result<(), Failure> {
        loop {
            match self.child.try_wait() {
                Ok(Some(status)) if status.success() => return Ok(()),
                Ok(Some(_)) | Err(_) => return Err(self.ended_early()),
                Ok(None) if Instant::now() > self.deadline => return Err(self.timed_out("did not end")),
                // Its output has ended already; what is left is a matter of microseconds
                Ok(None) => thread::sleep(Duration::from_micros(200)),
            }
        }
    }

    fn parse(&self, line: &str) -> Result<Value, Failure> {
        serde_json::from_str(line)
            .map_err(|error| Failure::Failed(format!("{} said {line:?}, which is no JSON: {error}", self.name)))
    }

    fn line(&mut self) -> Result<String, Failure> {
        match self.stdout.recv_timeout(self.deadline.saturating_duration_since(Instant::now())) {
            Ok(line) => Ok(line),
            Err(RecvTimeoutError::Timeout) => Err(self.timed_out("said nothing")),
            Err(RecvTimeoutError::Disconnected) => Err(self.ended_early()),
        }
    }

    fn timed_out(&self, what: &str) -> Failure {
        Failure::TimedOut(format!("{} {what} in time", self.name))
    }

    /// Why it ended without what was expected of it
    fn ended_early(&mut self) -> Failure {
        // It may have closed its output only
        let status = loop {
            match self.child.try_wait() {
                Ok(None) if Instant::now() < self.deadline => thread::sleep(Duration::from_millis(1)),
                Ok(None) => return self.timed_out("did not end"),
                Ok(Some(status)) => break status,
                Err(error) => return Failure::Failed(format!("can't wait for {}: {error}", self.name)),
            }
        };
        if status.code() == Some(UNSUPPORTED) {
            return Failure::Unsupported;
        }
        let said: Vec<String> = self.stderr.iter().take(5).collect();
        Failure::Failed(format!("{} ended with {status}: {}", self.name, said.join(" / ")))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Both fail when it has ended, which is the rule
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// Watches the resident memory of a process until it ends
pub(super) struct MemoryWatch {
    samples: thread::JoinHandle<Vec<(Duration, u64)>>,
}

impl MemoryWatch {
    pub(super) fn start(id: u32) -> Self {
        let started = Instant::now();
        let watch = move || {
            let mut samples = Vec::new();
            while let Some(kib) = resident_kib(id) {
                samples.push((started.elapsed(), kib));
                thread::sleep(Duration::from_millis(20));
            }
            samples
        };
        Self { samples: thread::spawn(watch) }
    }

    /// What was seen; the process has ended
    pub(super) fn finish(self) -> Value {
        growth(&self.samples.join().unwrap_or_default())
    }
}

/// How much the largest sample lies above that after `SETTLED`, when connections and queues are there
fn growth(samples: &[(Duration, u64)]) -> Value {
    let (before, after): (Vec<_>, Vec<_>) = samples.iter().partition(|(at, _)| *at < SETTLED);
    let peak = after.iter().map(|(_, kib)| *kib).max();
    match (before.last(), peak) {
        (Some((_, settled)), Some(peak)) => {
            json!({"settled_kib": settled, "peak_kib": peak, "growth_kib": peak.saturating_sub(*settled)})
        }
        _ => json!({}),
    }
}

fn resident_kib(id: u32) -> Option<u64> {
    resident_kib_in(&std::fs::read_to_string(format!("/proc/{id}/status")).ok()?)
}

/// `None` for a process that has ended, whose status says no memory any more
fn resident_kib_in(status: &str) -> Option<u64> {
    status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?.trim().strip_suffix("kB")?.trim().parse().ok()
}

fn listening(line: &str) -> Option<Vec<String>> {
    let endpoints: Vec<String> = line.strip_prefix("listening ")?.split_whitespace().map(str::to_owned).collect();
    (!endpoints.is_empty()).then_some(endpoints)
}

/// A thread reads, so that whoever wants a line can give up waiting
fn lines_of(stream: impl Read + Send + 'static) -> Receiver<String> {
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        for line in BufReader::new(stream).lines().map_while(Result::ok) {
            if sender.send(line).is_err() {
                return;
            }
        }
    });
    receiver
}

/// Exit code of a role that the library of a side can't do
const UNSUPPORTED: i32 = 3;

/// By then every queue of 1,000 messages has long been full: a sender at full rate fills it in milliseconds
const SETTLED: Duration = Duration::from_millis(300);

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str, patience: Duration) -> Process {
        // `sh -c SCRIPT` in the places of role and arguments
        let deadline = Instant::now() + patience;
        Process::start(Path::new("sh"), "-c", &[script.to_owned()], Surroundings::Usual, deadline).unwrap()
    }

    const LONG: Duration = Duration::from_secs(60);

    #[test]
    fn endpoints_follow_the_word_listening() {
        assert_eq!(
            listening("listening tcp://127.0.0.1:1 ipc:///x"),
            Some(vec!["tcp://127.0.0.1:1".to_owned(), "ipc:///x".to_owned()])
        );
        assert_eq!(listening("hello"), None);
        assert_eq!(listening("listening "), None);
    }

    #[test]
    fn resident_memory_is_read_from_the_status() {
        assert_eq!(resident_kib_in("Name:\tx\nVmHWM:\t    9 kB\nVmRSS:\t    5120 kB\n"), Some(5120));
        assert_eq!(resident_kib_in("Name:\tx\nState:\tZ (zombie)\n"), None);
    }

    #[test]
    fn growth_counts_from_when_the_queues_are_full() {
        let at = |ms, kib| (Duration::from_millis(ms), kib);
        let seen = growth(&[at(0, 100), at(290, 400), at(310, 420), at(900, 900), at(1000, 700)]);
        assert_eq!(seen["growth_kib"], 500);
        assert_eq!(growth(&[at(0, 100)]), json!({}));
    }

    #[test]
    fn lines_questions_and_the_end() {
        let mut process = shell(r#"echo listening a b; read question; echo "{\"said\": \"$question\"}""#, LONG);
        assert_eq!(process.endpoints().unwrap(), ["a", "b"]);
        assert_eq!(process.ask("hello").unwrap(), json!({"said": "hello"}));
        process.close_stdin();
        process.finish().unwrap();
    }

    #[test]
    fn what_a_role_can_end_with() {
        assert_eq!(shell("exit 3", LONG).json(), Err(Failure::Unsupported));
        let Err(Failure::Failed(message)) = shell("echo why >&2; exit 1", LONG).json() else { panic!("it failed") };
        assert!(message.ends_with("exit status: 1: why"), "{message}");
        assert!(matches!(shell("echo nonsense", LONG).json(), Err(Failure::Failed(_))));
    }

    #[test]
    fn one_that_hangs_is_killed() {
        let mut process = shell("exec sleep 1000", Duration::ZERO);
        assert!(matches!(process.json(), Err(Failure::TimedOut(_))));
        let id = process.id();
        drop(process);
        assert_eq!(resident_kib(id), None);
    }
}

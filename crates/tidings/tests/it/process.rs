//! A running `tidings`, its lines as they come, and its certain end.

use std::ffi::OsStr;
use std::io::{BufRead as _, BufReader, Read, Write as _};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

/// A process that is killed when the test is done with it, whatever happened
pub(crate) struct Process {
    child: Child,
    out: Receiver<String>,
    err: Receiver<String>,
    /// Lines of stderr read so far, for messages of failing tests
    heard: Vec<String>,
    name: String,
}

/// How a process ended
#[derive(Debug)]
pub(crate) struct Done {
    pub(crate) code: Option<i32>,
    /// What had not been read before
    pub(crate) out: Vec<String>,
    /// All of it
    pub(crate) err: String,
}

/// Starts `tidings` with these arguments
pub(crate) fn tidings<S: AsRef<OsStr>>(args: &[S]) -> Process {
    start(Command::new(env!("CARGO_BIN_EXE_tidings")).args(args))
}

/// Starts `tidings`, waits for its end
pub(crate) fn run<S: AsRef<OsStr>>(args: &[S]) -> Done {
    tidings(args).finish()
}

/// Starts a command; the environment of the test does not reach into it
pub(crate) fn start(command: &mut Command) -> Process {
    for (name, _) in std::env::vars() {
        if name.starts_with("TIDINGS_") && !command.get_envs().any(|(set, _)| set == name.as_str()) {
            command.env_remove(name);
        }
    }
    let name = format!("{:?}", command.get_args().collect::<Vec<_>>());
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the program starts");
    let out = lines(child.stdout.take().unwrap());
    let err = lines(child.stderr.take().unwrap());
    Process { child, out, err, heard: Vec::new(), name }
}

impl Process {
    /// The next line of stdout
    pub(crate) fn line(&mut self) -> String {
        match self.out.recv_timeout(DEADLINE) {
            Ok(line) => line,
            Err(RecvTimeoutError::Timeout) => self.fail("no line on stdout in time"),
            Err(RecvTimeoutError::Disconnected) => self.fail("stdout ended"),
        }
    }

    /// The first line of stderr, from here on, that has this in it
    pub(crate) fn said(&mut self, part: &str) -> String {
        let start = Instant::now();
        loop {
            let left = DEADLINE.saturating_sub(start.elapsed());
            match self.err.recv_timeout(left) {
                Ok(line) => {
                    self.heard.push(line.clone());
                    if line.contains(part) {
                        return line;
                    }
                }
                Err(RecvTimeoutError::Timeout) => self.fail(&format!("'{part}' was not said in time")),
                Err(RecvTimeoutError::Disconnected) => self.fail(&format!("stderr ended without '{part}'")),
            }
        }
    }

    /// Where it really listens
    pub(crate) fn endpoint(&mut self) -> String {
        let line = self.said("listening on ");
        line.split_once("listening on ").unwrap().1.to_owned()
    }

    /// Writes a line to its stdin
    pub(crate) fn tell(&mut self, line: &str) {
        let stdin = self.child.stdin.as_mut().expect("stdin is open");
        writeln!(stdin, "{line}").and_then(|()| stdin.flush()).expect("it reads its stdin");
    }

    /// Ends its stdin
    pub(crate) fn end_input(&mut self) {
        self.child.stdin = None;
    }

    /// Sends a signal
    pub(crate) fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(i32::try_from(self.child.id()).unwrap()).unwrap();
        kill_process(pid, signal).expect("it is there to be signalled");
    }

    /// Waits for its end
    pub(crate) fn finish(mut self) -> Done {
        self.end_input();
        let start = Instant::now();
        let mut out = Vec::new();
        // Both streams end with the process, or with the last of its children that holds them
        loop {
            match self.out.recv_timeout(DEADLINE.saturating_sub(start.elapsed())) {
                Ok(line) => out.push(line),
                Err(RecvTimeoutError::Disconnected) => break,
                Err(RecvTimeoutError::Timeout) => self.fail("it did not end in time"),
            }
        }
        loop {
            match self.err.recv_timeout(DEADLINE.saturating_sub(start.elapsed())) {
                Ok(line) => self.heard.push(line),
                Err(RecvTimeoutError::Disconnected) => break,
                Err(RecvTimeoutError::Timeout) => self.fail("it did not end in time"),
            }
        }
        let status = self.child.wait().expect("its end can be waited for");
        Done { code: status.code(), out, err: self.heard.join("\n") }
    }

    fn fail(&mut self, why: &str) -> ! {
        while let Ok(line) = self.err.try_recv() {
            self.heard.push(line);
        }
        panic!("{}: {why}; it said:\n{}", self.name, self.heard.join("\n"))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Both fail only when it has ended already
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

fn lines(stream: impl Read + Send + 'static) -> Receiver<String> {
    let (sender, receiver) = channel();
    std::thread::spawn(move || {
        for line in BufReader::new(stream).lines() {
            let Ok(line) = line else { break };
            if sender.send(line).is_err() {
                break;
            }
        }
    });
    receiver
}

/// Nothing here takes this long on any machine; it only turns a hang into a failure
pub(crate) const DEADLINE: Duration = Duration::from_secs(30);

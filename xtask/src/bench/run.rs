//! One run: starts the programs of a contestant, collects what they say, and reads the figures.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use serde_json::{Value, json};

use super::programs::Programs;
use super::results::{Failure, Run};
use super::script::{Amount, Contestant, Part, Side, Step};
use super::services::Service;
use super::side::{MemoryWatch, Process, Surroundings, can_have_own_network};
use super::works::{Kind, Pick, Security, Transport, Work};
use crate::checks::root;

/// Where runs happen
pub(super) struct Stage {
    programs: Programs,
    /// Holds the copies of the programs, until the end, and what they store: it lies on disk
    copies: tempfile::TempDir,
    /// Holds the sockets of ipc, whose paths must be short
    folder: tempfile::TempDir,
    /// How many endpoints were handed out: none is used twice
    endpoints: u64,
    /// Whether programs that are to have a network of their own can
    own_network: bool,
}

impl Stage {
    /// Copies the programs, so that one built anew in the meantime does not take part in half of the runs
    pub(super) fn new(built: &Programs) -> anyhow::Result<Self> {
        let copies = tempfile::tempdir_in(super::programs::folder()?)?;
        let mut programs = Programs::new();
        for (side, program) in built {
            let copy = copies.path().join(program.file_name().context("a program has a name")?);
            std::fs::copy(program, &copy).with_context(|| format!("can't copy {}", program.display()))?;
            programs.insert(*side, copy);
        }
        Ok(Self { programs, copies, folder: tempfile::tempdir()?, endpoints: 0, own_network: false })
    }

    /// Runs a work once on one side
    pub(super) fn run(
        &mut self,
        work: &Work,
        contestant: Contestant,
        amount: Amount,
        patience: Duration,
    ) -> Result<Run, Failure> {
        let steps = work.steps(contestant, amount);
        let (lines, seen) = match work.kept() {
            Some((what, many)) => self.keep(&steps, what, many, patience)?,
            None => self.play(&steps, work.surroundings(), patience)?,
        };
        self.clear_stores();
        let telling = steps.iter().position(|step| step.tells).unwrap_or_default();
        check_encryption(work.security_of(contestant), &steps, &lines)?;
        read_figures(work, amount, &steps, telling, lines, seen)
    }

    /// Takes away what a run has stored
    fn clear_stores(&self) {
        let entries = std::fs::read_dir(self.copies.path()).into_iter().flatten().flatten();
        for store in entries.filter(|entry| entry.file_name().to_string_lossy().starts_with(STORE_PREFIX)) {
            // What stays is taken away with the copies
            std::fs::remove_dir_all(store.path()).ok();
        }
    }

    /// Lets programs have a network of their own if the system does; says which
    pub(super) fn own_network(&mut self) -> &'static str {
        self.own_network = can_have_own_network();
        if self.own_network { "of its own" } else { "shared" }
    }

    /// Writes the keys and certificates that encrypted works take
    pub(super) fn make_keys(&mut self) -> anyhow::Result<()> {
        let Some(program) = self.programs.get(&Side::Floor) else { bail!("the floors were not built") };
        let keys = format!("keys={}", keys(self.folder.path()).display());
        let output = Command::new(program).args(["make-keys", &keys]).output()?;
        if !output.status.success() {
            bail!("can't make keys: {}", String::from_utf8_lossy(&output.stderr).trim());
        }
        Ok(())
    }

    /// Starts all, waits for what all of them say; returns that and what was seen of memory
    fn play(
        &mut self,
        steps: &[Step],
        surroundings: Surroundings,
        patience: Duration,
    ) -> Result<(Vec<Value>, Value), Failure> {
        let deadline = Instant::now() + patience;
        let (mut processes, mut endpoints, mut watch) = (Vec::new(), Vec::new(), None);
        for step in steps {
            let mut process = self.start(step, &endpoints, surroundings, deadline)?;
            if step.watch_memory {
                watch = Some(MemoryWatch::start(process.id()));
            }
            if matches!(step.part, Part::Binds | Part::Serves) {
                endpoints.extend(process.endpoints()?);
            }
            processes.push(process);
        }
        let mut lines: Vec<Option<Value>> = vec![None; steps.len()];
        while steps.iter().zip(&lines).any(|(step, line)| step.part != Part::Serves && line.is_none()) {
            // In turn, so that the end of any of them is noticed while the others still wait for it
            for ((step, process), line) in steps.iter().zip(&mut processes).zip(&mut lines) {
                if line.is_none() && step.part != Part::Serves {
                    *line = process.poll_json(Duration::from_millis(10))?;
                }
            }
        }
        // Whoever is connected to another goes first
        for ((step, process), line) in steps.iter().zip(&mut processes).zip(&mut lines).rev() {
            process.close_stdin();
            if step.part == Part::Serves {
                *line = Some(process.json()?);
            }
            process.finish()?;
        }
        let lines = lines.into_iter().flatten().collect();
        Ok((lines, watch.map_or_else(|| json!({}), MemoryWatch::finish)))
    }

    /// Memory of a server before and with so many connections, or whatever it keeps, that do nothing
    fn keep(
        &mut self,
        steps: &[Step],
        what: &str,
        many: usize,
        patience: Duration,
    ) -> Result<(Vec<Value>, Value), Failure> {
        let deadline = Instant::now() + patience;
        let [serving, dialling] = steps else {
            return Err(Failure::Failed("idle connections take a server and a client".to_owned()));
        };
        let mut server = self.start(serving, &[], Surroundings::Usual, deadline)?;
        let endpoints = server.endpoints()?;
        // The raw floor says nothing about its memory
        let speaks = serving.part == Part::Serves;
        let before = if speaks { server.ask("rss")? } else { json!({}) };
        let mut client = self.start(dialling, &endpoints, Surroundings::Usual, deadline)?;
        let dialled = client.json()?;
        let mut after = if speaks { server.ask("rss")? } else { json!({}) };
        // What was sent may not all have been read yet
        // A server of bare connections counts those
        let there = |said: &Value| said[what].as_u64().or_else(|| said["connections"].as_u64());
        while speaks && there(&after).is_some_and(|there| there < many as u64) {
            if Instant::now() > deadline {
                return Err(Failure::Failed(format!("of {many} {what} the server has {:?}", there(&after))));
            }
            thread::sleep(Duration::from_millis(20));
            after = server.ask("rss")?;
        }
        client.close_stdin();
        client.finish()?;
        server.close_stdin();
        server.finish()?;
        let seen = match (before["rss_kib"].as_f64(), after["rss_kib"].as_f64()) {
            (Some(before), Some(after)) => json!({"kib_each": (after - before) / many as f64}),
            _ => json!({}),
        };
        Ok((vec![json!({"before": before, "after": after}), dialled], seen))
    }

    fn start(
        &mut self,
        step: &Step,
        endpoints: &[String],
        surroundings: Surroundings,
        deadline: Instant,
    ) -> Result<Process, Failure> {
        let Some(program) = self.programs.get(&step.program) else {
            return Err(Failure::Failed(format!("the program of {:?} was not built", step.program)));
        };
        let program = program.clone();
        let store = self.copies.path().join(format!("{STORE_PREFIX}{}", self.endpoints));
        let arguments: Vec<String> = step
            .arguments
            .iter()
            .map(|argument| {
                self.endpoints += 1;
                fill(argument, endpoints, self.folder.path(), self.endpoints)
            })
            .map(|argument| argument.replace("{folder}", &store.to_string_lossy()))
            .collect();
        let surroundings = if surroundings == Surroundings::OwnNetwork && !self.own_network {
            Surroundings::Usual
        } else {
            surroundings
        };
        Process::start(&program, step.role, &arguments, surroundings, deadline)
    }
}

/// How much to do so that a run takes about `seconds`: judged by a small run
pub(super) fn amount_by_trial(work: &Work, trial: &Run, seconds: f64) -> u64 {
    let told = |line: usize, key: &str| trial.lines.get(line).and_then(|line| line[key].as_f64());
    let per_second = match work.kind {
        Kind::ReqRep { .. } | Kind::InprocLatency { .. } => told(trial.telling, "p50_ns").map(|time| 1e9 / time),
        // The sender does not wait for its subscribers, so its own rate counts
        Kind::SlowSubscriber => told(0, "per_second"),
        _ => told(trial.telling, "per_second").map(|rate| rate / work.deliveries(1) as f64),
    };
    let count = per_second.unwrap_or_default() * seconds;
    (count as u64).clamp(trial_count(work), MOST)
}

/// How much a first small run does
pub(super) fn trial_count(work: &Work) -> u64 {
    match work.kind {
        // Several times what the queues hold, or the trial measures how fast they fill
        Kind::PushPull { size: 65_536, .. } | Kind::InprocThroughput { size: 65_536 } => 3000,
        // Each sender's turn of 100 comes twice
        Kind::PushPull { peers, .. } if peers > 1 => 20_000.max(200 * peers as u64),
        Kind::PushPull { frames, .. } => 20_000 / frames as u64 + 100,
        Kind::InprocThroughput { .. } => 20_000,
        // Long enough for its publisher to come to its full rate, or the runs get too short to see memory grow
        Kind::SlowSubscriber => 500_000,
        Kind::ReqRep { .. } | Kind::InprocLatency { .. } => 500,
        Kind::Publish { subscribers, subscriptions: 1, .. } => 20_000 / subscribers as u64 + 100,
        Kind::Publish { .. } => 20_000,
        Kind::Router { connections, in_flight } => 1000.max(2 * connections * in_flight) as u64,
        Kind::Proxy { size: 65_536, .. } => 300,
        Kind::Proxy { .. } => 5000,
        Kind::Idle { .. } | Kind::Handshakes { .. } => 1,
        Kind::ConnectEcho => 200,
        Kind::Service(Service::Requests { in_flight }) => 1000.max(100 * in_flight as u64),
        Kind::Service(Service::Stored { in_flight }) => 200.max(20 * in_flight as u64),
        Kind::Service(_) | Kind::Gossip(_) => 1,
    }
}

/// The amount where a trial says nothing: setting up would take too long twice, or the work does not depend on it
pub(super) fn fixed_amount(work: &Work, rate: u64, seconds: f64) -> Option<u64> {
    match work.kind {
        _ if work.kept().is_some() => Some(1),
        Kind::Gossip(_) => Some(1),
        Kind::Publish { subscriptions, .. } if subscriptions > 1000 => Some((1_000_000.0 * seconds) as u64),
        _ if work.half_load() => Some((rate as f64 * seconds) as u64),
        _ => None,
    }
}

/// How long a run should take
pub(super) fn seconds(work: &Work, quick: bool) -> f64 {
    let full = match work.kind {
        // p99.9 needs its ten thousand round trips
        Kind::ReqRep { .. } | Kind::InprocLatency { .. } | Kind::Service(_) => 1.2,
        // Long enough to see memory grow
        Kind::SlowSubscriber => 1.5,
        _ => 0.8,
    };
    match work.kind {
        _ if !quick => full,
        Kind::SlowSubscriber => 1.0,
        _ => full / 5.0,
    }
}

/// Sees to it that what is to be encrypted is: a slip in an option would win every comparison
fn check_encryption(security: Security, steps: &[Step], lines: &[Value]) -> Result<(), Failure> {
    let (key, wanted) = match security {
        Security::None => return Ok(()),
        Security::Curve => ("mechanism", "CURVE"),
        Security::Tls => ("transport", "tls"),
    };
    // A server of idle connections says nothing of them, and floors are TLS or the cipher itself
    let says = |step: &Step| matches!(step.program, Side::Ours | Side::Libzmq) && step.part != Part::Serves;
    match steps.iter().zip(lines).find(|(step, line)| says(step) && line[key] != wanted) {
        Some((step, line)) => Err(Failure::Failed(format!("{key} of {} is {}, not {wanted}", step.role, line[key]))),
        None => Ok(()),
    }
}

fn read_figures(
    work: &Work,
    amount: Amount,
    steps: &[Step],
    telling: usize,
    mut lines: Vec<Value>,
    mut seen: Value,
) -> Result<Run, Failure> {
    let told = lines.get(telling).cloned().unwrap_or_default();
    // Some late marks may come from nobody's fault where messages may be dropped; there none are expected
    if told["missed"].as_u64().is_some_and(|missed| missed > 0) {
        return Err(Failure::Failed(format!("{} messages were lost", told["missed"])));
    }
    let messages = told["messages"].as_f64().unwrap_or_else(|| work.deliveries(amount.count) as f64);
    let cpu: Vec<f64> = steps
        .iter()
        .zip(&lines)
        .filter(|(step, _)| !step.is_load)
        .filter_map(|(_, line)| line["cpu_seconds"].as_f64())
        .collect();
    let cpu_ns_per_message = (!cpu.is_empty() && messages > 0.0).then(|| cpu.iter().sum::<f64>() * 1e9 / messages);
    let figures = work.measures.iter().map(|measure| match measure.pick {
        Pick::Told(key) => match told[key].as_f64() {
            Some(figure) => Ok(Some(figure)),
            None => Err(Failure::Failed(format!("{key} is missing in {told}"))),
        },
        Pick::MayTell(key) => Ok(told[key].as_f64()),
        // Only some sides have these, so that none is no failure
        Pick::Seen(key) => Ok(seen[key].as_f64()),
        Pick::Cpu => Ok(cpu_ns_per_message),
    });
    let figures = figures.collect::<Result<Vec<_>, Failure>>()?;
    if work.half_load() {
        seen["rate"] = json!(amount.rate);
    }
    lines.push(seen);
    Ok(Run { count: amount.count, figures, cpu_ns_per_message, telling, lines })
}

/// Puts endpoints in their places
fn fill(argument: &str, endpoints: &[String], folder: &Path, number: u64) -> String {
    let mut argument = argument
        .replace("{new}", "tcp://127.0.0.1:*")
        .replace("{new-tls}", "tls://127.0.0.1:*")
        .replace("{keys}", &keys(folder).to_string_lossy())
        .replace("{python}", &root().join("target/python").to_string_lossy())
        .replace("{new-ipc}", &format!("{}://{}/{number}", Transport::Ipc.name(), folder.display()));
    for (place, endpoint) in endpoints.iter().enumerate() {
        argument = argument.replace(&format!("{{{place}}}"), endpoint);
    }
    argument
}

/// Where the keys of a run are
fn keys(folder: &Path) -> PathBuf {
    folder.join("keys")
}

const STORE_PREFIX: &str = "store-";

/// No run does more, however fast a side is
const MOST: u64 = 100_000_000;

#[cfg(test)]
mod tests {
    use super::super::works::{LIBZMQ, works};
    use super::*;

    fn work(name: &str) -> Work {
        works().into_iter().find(|work| work.name == name).unwrap()
    }

    fn read(name: &str, lines: &[Value], seen: Value) -> Result<Run, Failure> {
        let work = work(name);
        let amount = Amount { count: 1000, rate: 0 };
        let steps = work.steps(Contestant { side: Side::Libzmq, label: LIBZMQ }, amount);
        let telling = steps.iter().position(|step| step.tells).unwrap();
        read_figures(&work, amount, &steps, telling, lines.to_vec(), seen)
    }

    #[test]
    fn figures_come_from_the_end_that_tells_and_processor_time_from_both() {
        let pull = json!({"messages": 1000, "per_second": 5e6, "cpu_seconds": 0.002});
        let run = read("PUSH/PULL tcp 64", &[pull, json!({"cpu_seconds": 0.001})], json!({})).unwrap();
        assert_eq!(run.figures, [Some(5e6), Some(3000.0)]);
        assert_eq!(run.cpu_ns_per_message, Some(3000.0));
    }

    #[test]
    fn the_client_that_loads_every_side_costs_nobody() {
        let load = json!({"per_second": 9e4, "cpu_seconds": 5.0});
        let run =
            read("ROUTER echo, 10 DEALER, 1 in flight", &[json!({"cpu_seconds": 0.001}), load], json!({})).unwrap();
        assert_eq!((run.figures[0], run.cpu_ns_per_message), (Some(9e4), Some(1000.0)));
    }

    #[test]
    fn lost_messages_and_missing_figures_fail_a_run() {
        let lost = read("PUB to 1 SUB", &[json!({}), json!({"per_second": 1, "missed": 3})], json!({}));
        assert_eq!(lost.err(), Some(Failure::Failed("3 messages were lost".to_owned())));
        assert!(matches!(read("PUB to 1 SUB", &[json!({}), json!({})], json!({})), Err(Failure::Failed(_))));
    }

    #[test]
    fn a_trial_says_how_much_to_do() {
        let trial = |name: &str, line: Value| {
            let run = Run { count: 1, figures: vec![], cpu_ns_per_message: None, telling: 0, lines: vec![line] };
            amount_by_trial(&work(name), &run, 0.5)
        };
        assert_eq!(trial("PUSH/PULL tcp 64", json!({"per_second": 4e6})), 2_000_000);
        assert_eq!(trial("PUB to 10 SUB", json!({"per_second": 4e6})), 200_000);
        assert_eq!(trial("REQ/REP tcp 64", json!({"p50_ns": 50_000})), 10_000);
        assert_eq!(trial("REQ/REP tcp 64", json!({})), 500);
    }

    #[test]
    fn a_run_that_is_not_encrypted_fails() {
        let steps = work("PUSH/PULL tcp 64")
            .steps(Contestant { side: Side::Libzmq, label: LIBZMQ }, Amount { count: 1, rate: 0 });
        let check = |security, lines: [Value; 2]| check_encryption(security, &steps, &lines);
        let both = |push: &str| [json!({"mechanism": "CURVE"}), json!({"mechanism": push})];
        assert_eq!(check(Security::Curve, both("CURVE")), Ok(()));
        assert_eq!(check(Security::None, both("NULL")), Ok(()));
        assert!(matches!(check(Security::Curve, both("NULL")), Err(Failure::Failed(_))));
        assert!(matches!(check(Security::Tls, both("CURVE")), Err(Failure::Failed(_))));
    }

    #[test]
    fn endpoints_are_filled_in() {
        let endpoints = ["tcp://a:1".to_owned(), "tcp://b:2".to_owned()];
        let fill = |argument| fill(argument, &endpoints, Path::new("/x"), 7);
        assert_eq!(fill("endpoint={1}"), "endpoint=tcp://b:2");
        assert_eq!(fill("endpoint={new}"), "endpoint=tcp://127.0.0.1:*");
        assert_eq!(fill("endpoint={new-ipc}"), "endpoint=ipc:///x/7");
        assert_eq!(fill("endpoint={new-tls}"), "endpoint=tls://127.0.0.1:*");
        assert_eq!(fill("keys={keys}"), "keys=/x/keys");
        assert_eq!(fill("size=64"), "size=64");
    }
}

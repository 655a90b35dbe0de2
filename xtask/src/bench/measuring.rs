//! `cargo xtask bench engine`, `curve` and `tls`: every work of a table, every side in turn.
//!
//! The machine is noisy, so a figure alone means little: what counts is the ratio of medians of
//! runs that took turns in one go, A B C A B C.

use std::io::{IsTerminal as _, Write as _};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};

use super::results::{Failure, Measure, Results, SideResult, WorkResult};
use super::run::{Stage, amount_by_trial, fixed_amount, seconds, trial_count};
use super::script::{Amount, Contestant, Side};
use super::side::Surroundings;
use super::steadiness::Steadiness;
use super::suite::Suite;
use super::works::{Kind, LIBZMQ, OURS, Placement, Work, works};
use super::{machine, programs, report};
use crate::checks::root;

#[derive(Args)]
pub(crate) struct Measuring {
    /// Runs of each side [default: 5, or 2 with --quick]
    #[arg(long)]
    rounds: Option<usize>,
    /// One of each kind of work, shorter runs: less than two minutes once everything is built
    #[arg(long)]
    quick: bool,
    /// Only work whose group or name contains this, such as `tcp 64` or `router`; may be repeated
    #[arg(long, value_name = "TEXT")]
    only: Vec<String>,
    /// No work whose group or name contains this; may be repeated
    #[arg(long, value_name = "TEXT")]
    skip: Vec<String>,
    /// Who takes part; default: all that have a part in this benchmark
    #[arg(long, value_delimiter = ',')]
    sides: Vec<Side>,
    /// Where the raw results go, with the table and the pictures beside them; default: bench/results/BENCHMARK-DATE.json
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Print the works and their targets, measure nothing
    #[arg(long)]
    list: bool,
}

impl Measuring {
    pub(super) fn run(&self, suite: &Suite) -> Result<()> {
        let works: Vec<Work> = (suite.works)().into_iter().filter(|work| self.wants(work)).collect();
        if works.is_empty() {
            bail!("no work is left; `cargo xtask bench {} --list` has all names", suite.name);
        }
        let sides = if self.sides.is_empty() { suite.sides } else { &self.sides };
        if self.list {
            // Whoever reads may have seen enough, as `head` does
            std::io::stdout().write_all(list(&works, sides).as_bytes()).ok();
            return Ok(());
        }
        let rounds = self.rounds.unwrap_or(if self.quick { 2 } else { 5 });
        machine::raise_open_files()?;
        let programs = programs::build(sides)?;
        let machine = machine::describe(
            programs.get(&Side::Libzmq).map(PathBuf::as_path),
            programs.get(&Side::Czmq).map(PathBuf::as_path),
        );
        let now = jiff::Zoned::now();
        let mut results = Results {
            suite: suite.name.to_owned(),
            when: now.timestamp().to_string(),
            rounds,
            quick: self.quick,
            order: "each work: every side once, and again, as many rounds; before them a short trial of each"
                .to_owned(),
            machine,
            works: Vec::new(),
        };
        let output = self.output.clone().unwrap_or_else(|| {
            root().join("bench/results").join(format!("{}-{}.json", suite.name, now.strftime("%Y-%m-%d-%H%M")))
        });
        // Before the figures are there, which a missing folder would lose
        if let Some(folder) = output.parent() {
            std::fs::create_dir_all(folder).with_context(|| format!("can't make the folder {}", folder.display()))?;
        }
        let mut stage = Stage::new(&programs)?;
        if works.iter().any(|work| work.surroundings() == Surroundings::OwnNetwork) {
            results.machine["network"] = stage.own_network().into();
        }
        if suite.encrypts {
            stage.make_keys()?;
        }
        self.measure(&works, sides, rounds, stage, &mut results)?;
        results.machine["load_after"] = machine::load().into();
        results.machine["floors"] = Steadiness::of(&results).json();
        results.write(&output)?;
        let (table, pictures) = report::write(&results, &output)?;
        print!("{}", report::text(&results));
        println!(
            "\n{}, {} and {pictures} pictures in {}",
            output.display(),
            table.display(),
            output.with_extension("").display()
        );
        let broken: Vec<&str> =
            results.works.iter().filter(|work| ours_failed(work)).map(|work| work.name.as_str()).collect();
        if !broken.is_empty() {
            bail!("our own side failed in: {}", broken.join("; "));
        }
        Ok(())
    }

    fn wants(&self, work: &Work) -> bool {
        let name = format!("{}: {}", work.group, work.name).to_lowercase();
        let has = |text: &String| name.contains(&text.to_lowercase());
        // Named work is wanted also where a quick run would leave it out
        let chosen = if self.only.is_empty() { !self.quick || work.quick } else { self.only.iter().any(has) };
        chosen && !self.skip.iter().any(has)
    }

    fn measure(
        &self,
        works: &[Work],
        sides: &[Side],
        rounds: usize,
        mut stage: Stage,
        results: &mut Results,
    ) -> Result<()> {
        let contestants = |work: &Work| -> Vec<Contestant> {
            work.contestants().into_iter().filter(|contestant| sides.contains(&contestant.side)).collect()
        };
        let runs: usize = works.iter().map(|work| contestants(work).len() * rounds).sum();
        let progress = Progress::new(runs)?;
        for work in works {
            let rate = if work.half_load() { half_load(&mut stage, results) } else { 0 };
            let mut turns: Vec<Turns> = contestants(work).into_iter().map(Turns::new).collect();
            for round in 1..=rounds {
                for number in 0..turns.len() {
                    let (before, rest) = turns.split_at_mut(number);
                    let Some(turns) = rest.first_mut() else { continue };
                    turns.do_as_much_as(before);
                    let said = format!("{}, {}, round {round}", work.name, turns.contestant.label);
                    progress.run(&said, || turns.take(&mut stage, work, self.quick, rate));
                }
            }
            results.works.push(WorkResult {
                group: work.group.to_owned(),
                name: work.name.clone(),
                measures: work
                    .measures
                    .iter()
                    .map(|ask| Measure { name: ask.name.to_owned(), unit: ask.unit, targets: ask.targets.clone() })
                    .collect(),
                sides: turns.into_iter().map(|turns| turns.result).collect(),
            });
        }
        progress.bar.finish_and_clear();
        Ok(())
    }
}

/// The runs of one contestant in one work
struct Turns {
    contestant: Contestant,
    count: Option<u64>,
    result: SideResult,
}

impl Turns {
    fn new(contestant: Contestant) -> Self {
        let result = SideResult { label: contestant.label.to_owned(), runs: Vec::new(), failures: Vec::new() };
        Self { contestant, count: None, result }
    }

    /// The other ways of a side do as much as its first, so that nothing but the way differs
    fn do_as_much_as(&mut self, before: &[Self]) {
        let same = before.iter().find(|other| other.contestant.side == self.contestant.side);
        self.count = self.count.or_else(|| same?.count);
    }

    /// One run more, unless earlier ones showed that there is no point; says what went wrong
    fn take(&mut self, stage: &mut Stage, work: &Work, quick: bool, rate: u64) -> Option<String> {
        if self.is_out() {
            return None;
        }
        match self.attempt(stage, work, quick, rate) {
            Ok(()) => None,
            Err(failure) => {
                let message = (failure != Failure::Unsupported).then(|| failure.to_string());
                self.result.failures.push(failure);
                message
            }
        }
    }

    fn is_out(&self) -> bool {
        !matches!(self.result.failures.as_slice(), [] | [Failure::Failed(_)]) || self.result.never_converged()
    }

    fn attempt(&mut self, stage: &mut Stage, work: &Work, quick: bool, rate: u64) -> Result<(), Failure> {
        let seconds = seconds(work, quick);
        let count = match self.count.or_else(|| fixed_amount(work, rate, seconds)) {
            Some(count) => count,
            None => {
                let trial = Amount { count: trial_count(work), rate };
                amount_by_trial(work, &stage.run(work, self.contestant, trial, patience(work, quick))?, seconds)
            }
        };
        self.count = Some(count);
        let run = stage.run(work, self.contestant, Amount { count, rate }, patience(work, quick))?;
        self.result.runs.push(run);
        Ok(())
    }
}

/// Half of what libzmq does one request after the other, by its median in the first round
fn half_load(stage: &mut Stage, results: &Results) -> u64 {
    let base =
        works().into_iter().find(|work| matches!(work.kind, Kind::ReqRep { placement: Placement::Anywhere, .. }));
    let Some(base) = base else { return RATE };
    let measured = results.work(&base.name).and_then(|work| work.side(LIBZMQ)?.figures(0).first().copied());
    let p50 = measured.or_else(|| {
        let amount = Amount { count: 5000, rate: 0 };
        let libzmq = Contestant { side: Side::Libzmq, label: LIBZMQ };
        stage.run(&base, libzmq, amount, patience(&base, false)).ok()?.figures.first().copied().flatten()
    });
    p50.map_or(RATE, |nanoseconds| (0.5e9 / nanoseconds) as u64).max(1)
}

fn ours_failed(work: &WorkResult) -> bool {
    let ours = work.sides.iter().filter(|side| side.label.starts_with(OURS));
    ours.into_iter().any(|side| !side.failures.is_empty() || side.never_converged())
}

/// Names, who takes part, and targets
fn list(works: &[Work], sides: &[Side]) -> String {
    let mut out = String::new();
    for work in works {
        let mark = if work.quick { " (quick)" } else { "" };
        let contestants = work.contestants();
        let labels: Vec<&str> =
            contestants.iter().filter(|one| sides.contains(&one.side)).map(|one| one.label).collect();
        out += &format!("{}: {}{mark}\n    {}\n", work.group, work.name, labels.join(", "));
        for measure in &work.measures {
            let name = if measure.name.is_empty() { String::new() } else { format!("{}: ", measure.name) };
            for target in &measure.targets {
                out += &format!("    {name}{}\n", target.describe(measure.unit));
            }
        }
    }
    out
}

/// A bar on a terminal, lines elsewhere
struct Progress {
    bar: ProgressBar,
    plain: bool,
}

impl Progress {
    fn new(runs: usize) -> Result<Self> {
        let bar = ProgressBar::new(runs as u64);
        bar.set_style(ProgressStyle::with_template("{bar:30} {pos}/{len} {msg} ({eta} left)")?);
        bar.enable_steady_tick(Duration::from_millis(500));
        Ok(Self { bar, plain: !std::io::stderr().is_terminal() })
    }

    /// Takes a turn, and tells how it went if it went wrong
    fn run(&self, said: &str, turn: impl FnOnce() -> Option<String>) {
        self.bar.set_message(said.to_owned());
        let started = Instant::now();
        let wrong = turn();
        self.bar.inc(1);
        let seconds = started.elapsed().as_secs_f64();
        match wrong {
            Some(wrong) if self.plain => eprintln!("{said}: {wrong}"),
            Some(wrong) => self.bar.println(format!("{said}: {wrong}")),
            None if self.plain => eprintln!("{said}: {seconds:.1} s"),
            None => {}
        }
    }
}

/// A run that takes longer hangs; the longest real one sets up a million subscriptions
fn patience(work: &Work, quick: bool) -> Duration {
    let seconds = match work.kind {
        // Which say by themselves when they give up
        Kind::Gossip(_) => 400,
        _ if quick => 10,
        _ => 40,
    };
    Duration::from_secs(seconds)
}

/// Half of 1 / 79 us, what libzmq took on the reference machine; for runs without libzmq
const RATE: u64 = 6300;

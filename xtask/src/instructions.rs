//! `cargo xtask bench instructions`: what a message costs, counted and not timed, against the committed figures.
//!
//! A busy machine changes how long a thing takes, not how many instructions it is. Each work of `tidings-bench
//! counted` runs twice under callgrind with different numbers of messages; the difference is what a message
//! costs, and start-up falls out. Both ends share one thread, so what the kernel does is not in it.
//!
//! Counts depend on the compiler, the C library and the processor's extensions. The last are kept out: libc is held
//! to its routines for SSE2, whatever the processor has. The cipher of CURVE takes AVX2 where the processor has it, and
//! valgrind offers nothing newer, so that those counts hold for any processor with AVX2. The committed figures say which compiler and
//! libc they are from. With the same ones a work may be 3 % worse; with others 15 %, which still finds a copy or an
//! allocation too many; on another architecture the table is shown and nothing is judged.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::{fs, thread};

use anyhow::{Context as _, Result, bail};
use clap::Args;
use serde_json::{Value, json};

use crate::checks::{root, succeed};

#[derive(Args, Default)]
pub(crate) struct Instructions {
    /// Write what was counted to bench/instructions.json, to be committed
    #[arg(long)]
    update: bool,
    /// Only works whose name contains this, such as `tcp` or `encode`
    #[arg(long, value_name = "TEXT")]
    only: Option<String>,
}

/// One thing to count
struct Work {
    name: String,
    words: String,
    /// Messages of the two runs
    counts: [u32; 2],
}

impl Work {
    fn new(name: impl Into<String>, words: impl Into<String>) -> Self {
        Self { name: name.into(), words: words.into(), counts: COUNTS }
    }
}

/// What one message costs
#[derive(Clone, Copy)]
struct Cost {
    instructions: f64,
    allocations: f64,
}

/// What the counts depend on
#[derive(PartialEq)]
struct Machine {
    rustc: String,
    libc: String,
    arch: String,
}

/// `bench/instructions.json`
struct Committed {
    machine: Machine,
    costs: BTreeMap<String, Cost>,
}

/// How a count compares
#[derive(PartialEq)]
enum Verdict {
    Same,
    Better,
    Worse,
    New,
}

/// Whether valgrind is on this machine
pub(crate) fn can_count() -> bool {
    let found = Command::new("valgrind").arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
    found.is_ok_and(|status| status.success())
}

impl Instructions {
    /// Counts, prints the table, and fails where a work got worse
    pub(crate) fn run(&self) -> Result<()> {
        if !can_count() {
            bail!("valgrind is missing, and it does the counting: apt-get install valgrind");
        }
        let works: Vec<Work> =
            works().into_iter().filter(|work| self.only.as_ref().is_none_or(|only| work.name.contains(only))).collect();
        if works.is_empty() {
            bail!("no work has a name that contains {:?}; names are like \"push-pull tcp 64\"", self.only);
        }
        let program = build()?;
        let machine = Machine::here()?;
        let committed = Committed::read()?;
        let mut costs = count_all(&program, &works)?;
        if self.update {
            return self.update(committed, machine, &works, &costs);
        }
        let Some(committed) = committed else {
            bail!("{} is missing; `cargo xtask bench instructions --update` writes it", path().display());
        };
        let limit = committed.machine.limit(&machine);
        for (work, cost) in works.iter().zip(&mut costs) {
            // The kernel's timing can make a connection wake up once more: what is really worse stays worse
            if committed.judge(work, *cost, limit) == Verdict::Worse {
                *cost = cost.least(count(&program, work)?);
            }
        }
        let verdicts: Vec<Verdict> =
            works.iter().zip(&costs).map(|(work, cost)| committed.judge(work, *cost, limit)).collect();
        print_table(&committed, &works, &costs, &verdicts);
        machine.tell_differences(&committed.machine);
        conclude(&works, &verdicts, machine.arch == committed.machine.arch, limit)
    }

    fn update(&self, committed: Option<Committed>, machine: Machine, works: &[Work], costs: &[Cost]) -> Result<()> {
        let mut new = Committed { machine, costs: BTreeMap::new() };
        if let (Some(_), Some(old)) = (&self.only, committed) {
            if old.machine != new.machine {
                bail!("the other figures are from {}; leave --only out", old.machine);
            }
            new.costs = old.costs;
        }
        for (work, cost) in works.iter().zip(costs) {
            println!("{:<28}{:>14.1}{:>14.3}", work.name, cost.instructions, cost.allocations);
            new.costs.insert(work.name.clone(), *cost);
        }
        new.write()?;
        println!("\nwritten to {}; commit it, and say in the message why a figure got worse", path().display());
        Ok(())
    }
}

/// Everything that is counted: the codec alone, then each pattern from send to recv
///
/// A message of dealer-router and req-rep goes there and back; the others go one way. With CURVE, `seal` makes the
/// sealed form of an encoded message, `seal-open` is that and all the receiver does; a handshake is both ends' part.
fn works() -> Vec<Work> {
    let mut works = Vec::new();
    for half in ["encode", "decode"] {
        for size in [64, 1024] {
            works.push(Work::new(format!("{half} {size}"), format!("work={half} size={size}")));
        }
    }
    for over in ["inproc", "tcp"] {
        for pattern in ["push-pull", "pub-sub", "pair", "dealer-router", "req-rep"] {
            let words = format!("work={pattern} over={over} size=64");
            works.push(Work::new(format!("{pattern} {over} 64"), words.clone()));
            if pattern == "push-pull" {
                works.push(Work::new(format!("{pattern} {over} 64 batch"), format!("{words} batch=yes")));
            }
        }
    }
    for size in [64, 1024] {
        for half in ["seal", "seal-open"] {
            works.push(Work::new(format!("curve {half} {size}"), format!("work={half} size={size}")));
        }
        let words = format!("work=push-pull over=tcp size={size} mechanism=curve");
        works.push(Work::new(format!("curve push-pull tcp {size}"), words));
    }
    for (name, work) in [("handshake", "handshake"), ("curve handshake", "curve-handshake")] {
        works.push(Work { counts: HANDSHAKES, ..Work::new(name, format!("work={work}")) });
    }
    works
}

/// Builds the program with the system's allocator, away from the normal build so that neither undoes the other
fn build() -> Result<PathBuf> {
    let target = root().join("target/callgrind");
    let mut command = Command::new(env!("CARGO"));
    command.args(["build", "--quiet", "--release", "--package", "tidings-bench", "--no-default-features"]);
    command.arg("--target-dir").arg(&target);
    // A person's own flags would give another program
    succeed(command.env_remove("RUSTFLAGS").env_remove("CARGO_ENCODED_RUSTFLAGS"))?;
    Ok(target.join("release/tidings-bench"))
}

/// Counts every work, as many at a time as there are processors
fn count_all(program: &Path, works: &[Work]) -> Result<Vec<Cost>> {
    let (next, costs) = (AtomicUsize::new(0), Mutex::new(BTreeMap::new()));
    thread::scope(|scope| {
        let counting: Vec<_> = (0..thread::available_parallelism().map_or(1, usize::from))
            .map(|_| {
                scope.spawn(|| {
                    while let Some((place, work)) = works.iter().enumerate().nth(next.fetch_add(1, Ordering::Relaxed)) {
                        let cost = count(program, work)?;
                        costs.lock().unwrap_or_else(std::sync::PoisonError::into_inner).insert(place, cost);
                    }
                    anyhow::Ok(())
                })
            })
            .collect();
        for counter in counting {
            counter.join().map_err(|_| anyhow::anyhow!("a counting thread panicked"))??;
        }
        anyhow::Ok(())
    })?;
    Ok(costs.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner).into_values().collect())
}

/// Counts one work: two runs, and the difference between them
fn count(program: &Path, work: &Work) -> Result<Cost> {
    let [few, many] = work.counts;
    let (less, more) = (run(program, work, few)?, run(program, work, many)?);
    let per_message = |less: u64, more: u64| (more as f64 - less as f64) / (many - few) as f64;
    Ok(Cost {
        instructions: per_message(less.instructions, more.instructions),
        allocations: per_message(less.allocations, more.allocations),
    })
}

/// Runs a work under callgrind and reads what it wrote
fn run(program: &Path, work: &Work, messages: u32) -> Result<Totals> {
    let output = program.with_file_name(format!("callgrind-{}-{messages}.out", work.name.replace(' ', "-")));
    let mut command = Command::new("valgrind");
    command.args(["--quiet", "--tool=callgrind"]).arg(format!("--callgrind-out-file={}", output.display()));
    command.arg(program).arg("counted").args(work.words.split(' ')).arg(format!("count={messages}"));
    let kept = std::env::var_os("PATH").map(|path| ("PATH", path));
    command.env_clear().envs(kept).env("GLIBC_TUNABLES", PLAIN_LIBC);
    let done = command.output().context("can't run valgrind")?;
    if !done.status.success() {
        bail!("{} ended with {}:\n{}", work.name, done.status, String::from_utf8_lossy(&done.stderr));
    }
    let text = fs::read_to_string(&output).with_context(|| format!("can't read {}", output.display()))?;
    Totals::parse(&text).with_context(|| format!("{} is not what callgrind used to write", output.display()))
}

/// What one run was in all
#[derive(Debug, Default, PartialEq)]
struct Totals {
    instructions: u64,
    allocations: u64,
}

impl Totals {
    /// Reads callgrind's own format: `totals:`, and after each `cfn=(ID) name`, the function called, `calls=N …`
    ///
    /// A name is written once, and its number alone after that.
    fn parse(text: &str) -> Result<Self> {
        let (mut totals, mut names, mut called) = (Self::default(), HashMap::new(), "");
        let mut is_complete = false;
        for line in text.lines() {
            if let Some(function) = line.strip_prefix("cfn=").or_else(|| line.strip_prefix("fn=")) {
                let (number, name) = function.split_once(')').context("a function has no number")?;
                if let Some(name) = name.strip_prefix(' ') {
                    names.insert(number, name);
                }
                if line.starts_with('c') {
                    called = names.get(number).context("a function has no name")?;
                }
            } else if let Some(calls) = line.strip_prefix("calls=") {
                if ALLOCATING.contains(&called) {
                    totals.allocations += calls.split(' ').next().unwrap_or_default().parse::<u64>()?;
                }
            } else if let Some(instructions) = line.strip_prefix("totals:") {
                totals.instructions = instructions.trim().parse()?;
                is_complete = true;
            }
        }
        if !is_complete {
            bail!("it has no line of totals");
        }
        Ok(totals)
    }
}

impl Cost {
    fn least(self, other: Self) -> Self {
        Self {
            instructions: self.instructions.min(other.instructions),
            allocations: self.allocations.min(other.allocations),
        }
    }
}

impl Machine {
    fn here() -> Result<Self> {
        let said = |program: &str, arguments: &[&str]| -> Result<String> {
            let output = Command::new(program).args(arguments).output();
            let output = output.with_context(|| format!("can't run {program}"))?;
            Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
        };
        Ok(Self {
            rustc: said("rustc", &["--version"])?,
            libc: said("getconf", &["GNU_LIBC_VERSION"])?,
            arch: std::env::consts::ARCH.to_owned(),
        })
    }

    /// How much worse a work may be here than there, as a share
    fn limit(&self, other: &Self) -> f64 {
        if self == other { TOLERANCE } else { TOLERANCE_OF_OTHERS }
    }

    fn tell_differences(&self, committed: &Self) {
        if self == committed {
            return;
        }
        println!("\nThe committed figures are from {committed}; here is {self}.");
        match self.arch == committed.arch {
            true => println!("So a work may be {:.0} % worse before it counts.", TOLERANCE_OF_OTHERS * 100.0),
            false => println!("Another architecture has other instructions, so nothing is judged."),
        }
    }
}

impl std::fmt::Display for Machine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}, {}, {}", self.rustc, self.libc, self.arch)
    }
}

impl Committed {
    /// `None` if there is no such file
    fn read() -> Result<Option<Self>> {
        let path = path();
        if !path.exists() {
            return Ok(None);
        }
        let text = fs::read_to_string(&path).with_context(|| format!("can't read {}", path.display()))?;
        let wrong = || format!("{} is not what --update writes", path.display());
        let value: Value = serde_json::from_str(&text).with_context(wrong)?;
        let text = |key: &str| value["machine"][key].as_str().map(str::to_owned).with_context(wrong);
        let machine = Machine { rustc: text("rustc")?, libc: text("libc")?, arch: text("arch")? };
        let mut costs = BTreeMap::new();
        for (name, cost) in value["works"].as_object().with_context(wrong)? {
            let number = |key: &str| cost[key].as_f64().with_context(wrong);
            let cost = Cost { instructions: number("instructions")?, allocations: number("allocations")? };
            costs.insert(name.clone(), cost);
        }
        Ok(Some(Self { machine, costs }))
    }

    fn write(&self) -> Result<()> {
        let round = |number: f64, places: f64| (number * places).round() / places;
        let works: serde_json::Map<String, Value> = self
            .costs
            .iter()
            .map(|(name, cost)| {
                let (instructions, allocations) = (round(cost.instructions, 10.0), round(cost.allocations, 1000.0));
                (name.clone(), json!({"instructions": instructions, "allocations": allocations}))
            })
            .collect();
        let Machine { rustc, libc, arch } = &self.machine;
        let value = json!({
            "about": "per message, counted by callgrind; written by `cargo xtask bench instructions --update`",
            "machine": {"rustc": rustc, "libc": libc, "arch": arch}, "works": works,
        });
        let path = path();
        fs::write(&path, format!("{value:#}\n")).with_context(|| format!("can't write {}", path.display()))
    }

    fn judge(&self, work: &Work, cost: Cost, limit: f64) -> Verdict {
        let Some(before) = self.costs.get(&work.name) else { return Verdict::New };
        let is_worse = |now: f64, before: f64, slack: f64| now > before * (1.0 + limit) + slack;
        let pairs =
            [(cost.instructions, before.instructions, 0.0), (cost.allocations, before.allocations, ALLOCATION_SLACK)];
        if pairs.iter().any(|(now, before, slack)| is_worse(*now, *before, *slack)) {
            Verdict::Worse
        } else if pairs.iter().any(|(now, before, slack)| is_worse(*before, *now, *slack)) {
            Verdict::Better
        } else {
            Verdict::Same
        }
    }
}

fn print_table(committed: &Committed, works: &[Work], costs: &[Cost], verdicts: &[Verdict]) {
    println!(
        "{:<28}{:>13}{:>13}{:>9}{:>13}{:>13}",
        "per message", "instructions", "committed", "", "allocations", "committed"
    );
    for ((work, cost), verdict) in works.iter().zip(costs).zip(verdicts) {
        let verdict = match verdict {
            Verdict::Same => "",
            Verdict::Better => "  better",
            Verdict::Worse => "  WORSE",
            Verdict::New => "  NEW",
        };
        let (name, Cost { instructions, allocations }) = (&work.name, cost);
        match committed.costs.get(name) {
            Some(before) => println!(
                "{name:<28}{instructions:>13.1}{:>13.1}{:>+8.1}%{allocations:>13.3}{:>13.3}{verdict}",
                before.instructions,
                (instructions / before.instructions - 1.0) * 100.0,
                before.allocations,
            ),
            None => {
                println!("{name:<28}{instructions:>13.1}{:>13}{:>9}{allocations:>13.3}{:>13}{verdict}", "-", "", "-");
            }
        }
    }
}

fn conclude(works: &[Work], verdicts: &[Verdict], is_judged: bool, limit: f64) -> Result<()> {
    let named = |wanted: Verdict| -> Vec<&str> {
        works.iter().zip(verdicts).filter(|(_, verdict)| **verdict == wanted).map(|(work, _)| &work.name[..]).collect()
    };
    let (worse, better, new) = (named(Verdict::Worse), named(Verdict::Better), named(Verdict::New));
    if !is_judged {
        return Ok(());
    }
    if !better.is_empty() {
        println!(
            "\nBetter: {}. `cargo xtask bench instructions --update` keeps that from being lost.",
            better.join(", ")
        );
    }
    if !worse.is_empty() {
        bail!(
            "more than {:.0} % worse: {}; CONTRIBUTING.md says how to see where it goes. If it has to be so, \
             `cargo xtask bench instructions --update` accepts it; say why in the commit",
            limit * 100.0,
            worse.join(", ")
        );
    }
    if !new.is_empty() {
        bail!(
            "{} not in {}; `cargo xtask bench instructions --update` enters that",
            new.join(", "),
            path().strip_prefix(root()).unwrap_or(Path::new("the file")).display()
        );
    }
    Ok(())
}

fn path() -> PathBuf {
    root().join("bench/instructions.json")
}

/// Messages of the two runs: enough for what is shared between many to even out, both run in a second
const COUNTS: [u32; 2] = [2_000, 12_000];

/// Handshakes of the two runs: with CURVE each is a million instructions
const HANDSHAKES: [u32; 2] = [20, 120];

/// Two runs of the same program agree within 0.01 %, so this is a change of the code
const TOLERANCE: f64 = 0.03;

/// With another compiler or libc; not measured, taken from what releases of rustc usually move
const TOLERANCE_OF_OTHERS: f64 = 0.15;

/// Allocations a message that don't count, for those that grow a buffer now and then
const ALLOCATION_SLACK: f64 = 0.005;

/// What is called for memory, as Rust's system allocator does
const ALLOCATING: [&str; 5] = ["malloc", "calloc", "realloc", "posix_memalign", "aligned_alloc"];

/// Has libc choose its routines as on a processor without these
const PLAIN_LIBC: &str = "glibc.cpu.hwcaps=-AVX_Fast_Unaligned_Load,-AVX2,-SSSE3,-ERMS,-FSRM,-BMI2";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_are_summed_by_the_name_of_the_function() {
        let text = "fn=(1) main\n1 5\ncfn=(2) malloc\ncalls=3 0\n1 30\ncfn=(3) free\ncalls=7 0\n1 9\n\
                    fn=(4) grow\ncfn=(2)\ncalls=2 0\n1 20\ncfn=(5) realloc\ncalls=1 0\n1 8\n\ntotals: 99\n";
        assert_eq!(Totals::parse(text).unwrap(), Totals { instructions: 99, allocations: 6 });
        assert!(Totals::parse("fn=(1) main\n1 5\n").is_err());
    }

    #[test]
    fn only_a_real_difference_is_judged() {
        let work = Work::new("encode 64", "");
        let cost = |instructions, allocations| Cost { instructions, allocations };
        let machine = Machine { rustc: String::new(), libc: String::new(), arch: String::new() };
        let committed = Committed { machine, costs: BTreeMap::from([(work.name.clone(), cost(100.0, 0.0))]) };
        let judge = |instructions, allocations| committed.judge(&work, cost(instructions, allocations), 0.03);
        assert!(judge(102.9, 0.004) == Verdict::Same);
        assert!(judge(103.1, 0.0) == Verdict::Worse);
        assert!(judge(90.0, 0.01) == Verdict::Worse);
        assert!(judge(90.0, 0.0) == Verdict::Better);
    }
}

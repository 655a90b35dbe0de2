//! `cargo xtask bench`: us and libzmq in turn, A B A B, each end in a process of its own.
//!
//! The machine is noisy, so a figure alone means little: what counts is the ratio of medians of
//! runs that took turns in one go. Raw results go to `bench/results/`.

use std::io::{BufRead, BufReader, IsTerminal};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};

use anyhow::{Context as _, Result, bail};
use clap::{Args, Subcommand};
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::{Value, json};

#[derive(Subcommand)]
pub(crate) enum Bench {
    /// PUSH/PULL throughput and REQ/REP latency over tcp, ipc and inproc at 64 octets, 1 KiB and 64 KiB
    Sockets(Sockets),
}

#[derive(Args)]
pub(crate) struct Sockets {
    /// Runs of each side
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// A tenth of the messages, for a quick look
    #[arg(long)]
    quick: bool,
    /// Only work whose name contains this, such as `tcp` or `latency ipc 64`
    #[arg(long)]
    only: Option<String>,
    /// Where the raw results go; default: bench/results/sockets-DATE.json
    #[arg(long)]
    output: Option<PathBuf>,
}

/// One thing to measure
struct Work {
    is_latency: bool,
    transport: &'static str,
    size: usize,
    count: usize,
}

/// Figures of one side, one a run: messages a second, or nanoseconds
#[derive(Default)]
struct Side {
    figures: Vec<f64>,
    cpu_ns_per_message: Vec<f64>,
    raw: Vec<Value>,
}

impl Bench {
    pub(crate) fn run(&self) -> Result<()> {
        match self {
            Self::Sockets(sockets) => sockets.run(),
        }
    }
}

impl Sockets {
    fn run(&self) -> Result<()> {
        let ours = build_ours()?;
        let rival = build_rival()?;
        let works: Vec<Work> =
            self.works().filter(|work| self.only.as_ref().is_none_or(|only| work.name().contains(only))).collect();
        if works.is_empty() {
            bail!("no work has a name that contains {:?}; names are like \"throughput tcp 64\"", self.only);
        }
        let bar = ProgressBar::new((works.len() * self.rounds * 2) as u64);
        bar.set_style(ProgressStyle::with_template("{bar:30} {pos}/{len} {msg} ({eta} left)")?);
        let mut rows = Vec::new();
        for work in &works {
            let mut sides = [Side::default(), Side::default()];
            for round in 0..self.rounds {
                for (side, program) in sides.iter_mut().zip([&ours, &rival]) {
                    bar.set_message(format!("{} round {}", work.name(), round + 1));
                    work.measure(program, side)
                        .with_context(|| format!("{} with {}", work.name(), program.display()))?;
                    bar.inc(1);
                    if !std::io::stderr().is_terminal() {
                        eprintln!("{} round {} {}", work.name(), round + 1, program.display());
                    }
                }
            }
            rows.push((work, sides));
        }
        bar.finish_and_clear();
        print_table(&rows);
        let path = self.save(&rows)?;
        println!("\nraw results: {}", path.display());
        Ok(())
    }

    fn works(&self) -> impl Iterator<Item = Work> {
        let share = if self.quick { 10 } else { 1 };
        let sizes = [(64, 3_000_000, 20_000), (1024, 1_000_000, 20_000), (65_536, 40_000, 5_000)];
        [false, true].into_iter().flat_map(move |is_latency| {
            ["tcp", "ipc", "inproc"].into_iter().flat_map(move |transport| {
                sizes.into_iter().map(move |(size, messages, round_trips)| Work {
                    is_latency,
                    transport,
                    size,
                    count: if is_latency { round_trips } else { messages } / share,
                })
            })
        })
    }

    fn save(&self, rows: &[(&Work, [Side; 2])]) -> Result<PathBuf> {
        let now = jiff::Zoned::now();
        let path = self.output.clone().unwrap_or_else(|| {
            root().join("bench/results").join(format!("sockets-{}.json", now.strftime("%Y-%m-%d-%H%M")))
        });
        let works: Vec<Value> = rows
            .iter()
            .map(|(work, [ours, rival])| {
                json!({
                    "work": work.name(), "unit": if work.is_latency { "ns, p50 of round trips" } else { "messages/s" },
                    "ours": ours.raw, "libzmq": rival.raw, "ratio_of_medians": work.ratio(ours, rival),
                })
            })
            .collect();
        let results = json!({
            "when": now.timestamp().to_string(), "rounds": self.rounds, "machine": machine(),
            "order": "ours, libzmq, ours, libzmq, … for each work", "works": works,
        });
        std::fs::write(&path, serde_json::to_string_pretty(&results)? + "\n")?;
        Ok(path)
    }
}

impl Work {
    fn name(&self) -> String {
        format!("{} {} {}", if self.is_latency { "latency" } else { "throughput" }, self.transport, self.size)
    }

    fn measure(&self, program: &Path, side: &mut Side) -> Result<()> {
        let (size, count) = (self.size.to_string(), self.count.to_string());
        let lines = match (self.transport, self.is_latency) {
            ("inproc", true) => vec![output_of(program, &["inproc-latency", &size, &count])?],
            ("inproc", false) => vec![output_of(program, &["inproc-throughput", &size, &count])?],
            (transport, is_latency) => {
                let folder = std::env::temp_dir().join(format!("tidings-bench-{}.sock", std::process::id()));
                let endpoint = match transport {
                    "tcp" => "tcp://127.0.0.1:*".to_owned(),
                    _ => format!("ipc://{}", folder.display()),
                };
                let binder = if is_latency { vec!["rep", &endpoint] } else { vec!["pull", &endpoint, &size, &count] };
                let mut bound = Bound::start(program, &binder)?;
                let connecting = if is_latency { "req" } else { "push" };
                let line = output_of(program, &[connecting, &bound.endpoint.clone(), &size, &count])?;
                vec![line, bound.finish()?]
            }
        };
        // Latency is told by the side that asks, throughput by the side that receives
        let telling = match (self.transport, self.is_latency) {
            ("inproc", _) | (_, true) => lines.first(),
            (_, false) => lines.last(),
        };
        let telling = telling.context("a run prints a line")?;
        let figure = if self.is_latency { &telling["p50_ns"] } else { &telling["messages_per_second"] };
        side.figures.push(figure.as_f64().with_context(|| format!("no figure in {telling}"))?);
        let cpu: f64 = lines
            .iter()
            .map(|line| line["cpu_user"].as_f64().unwrap_or_default() + line["cpu_system"].as_f64().unwrap_or_default())
            .sum();
        side.cpu_ns_per_message.push(cpu * 1e9 / self.count as f64);
        side.raw.push(json!(lines));
        Ok(())
    }

    /// How many times better we are: above 1 is faster, for throughput and latency alike
    fn ratio(&self, ours: &Side, rival: &Side) -> f64 {
        let (ours, rival) = (median(&ours.figures), median(&rival.figures));
        if self.is_latency { rival / ours } else { ours / rival }
    }
}

fn print_table(rows: &[(&Work, [Side; 2])]) {
    println!("| work | unit | tidings [min..max] | libzmq [min..max] | times better | cpu ns/message, ours / libzmq |");
    println!("|---|---|---|---|---|---|");
    for (work, [ours, rival]) in rows {
        let (unit, scale) = match (work.is_latency, work.size) {
            (true, _) => ("us p50", 1e-3),
            (false, 65_536) => ("k msg/s", 1e-3),
            (false, _) => ("M msg/s", 1e-6),
        };
        println!(
            "| {} | {unit} | {} | {} | {:.2} | {:.0} / {:.0} |",
            work.name(),
            spread(&ours.figures, scale),
            spread(&rival.figures, scale),
            work.ratio(ours, rival),
            median(&ours.cpu_ns_per_message),
            median(&rival.cpu_ns_per_message),
        );
    }
}

fn spread(figures: &[f64], scale: f64) -> String {
    let least = figures.iter().copied().fold(f64::INFINITY, f64::min);
    let most = figures.iter().copied().fold(0.0, f64::max);
    format!("{:.2} [{:.2}..{:.2}]", median(figures) * scale, least * scale, most * scale)
}

fn median(figures: &[f64]) -> f64 {
    let mut sorted = figures.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    match sorted.len() {
        0 => f64::NAN,
        even if even.is_multiple_of(2) => (sorted[middle - 1] + sorted[middle]) / 2.0,
        _ => sorted[middle],
    }
}

/// A process that binds, said where, and ends by itself
struct Bound {
    child: Child,
    output: BufReader<ChildStdout>,
    endpoint: String,
}

impl Bound {
    fn start(program: &Path, arguments: &[&str]) -> Result<Self> {
        let mut child = Command::new(program).args(arguments).stdout(Stdio::piped()).spawn()?;
        let mut output = BufReader::new(child.stdout.take().context("its output was piped")?);
        let mut line = String::new();
        output.read_line(&mut line)?;
        let endpoint =
            line.trim().strip_prefix("listening ").with_context(|| format!("{program:?} said {line:?}"))?.to_owned();
        Ok(Self { child, output, endpoint })
    }

    fn finish(&mut self) -> Result<Value> {
        let mut line = String::new();
        self.output.read_line(&mut line)?;
        let status = self.child.wait()?;
        if !status.success() {
            bail!("the binding side ended with {status}");
        }
        serde_json::from_str(&line).with_context(|| format!("not JSON: {line:?}"))
    }
}

impl Drop for Bound {
    fn drop(&mut self) {
        // Both fail when it has ended, which is the rule
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

fn output_of(program: &Path, arguments: &[&str]) -> Result<Value> {
    let output = Command::new(program).args(arguments).stderr(Stdio::inherit()).output()?;
    if !output.status.success() {
        bail!("{} {} ended with {}", program.display(), arguments.join(" "), output.status);
    }
    let text = String::from_utf8(output.stdout)?;
    serde_json::from_str(text.trim()).with_context(|| format!("not JSON: {text:?}"))
}

/// Builds our side, optimised, and returns where it is
pub(crate) fn build_ours() -> Result<PathBuf> {
    let status =
        Command::new(env!("CARGO")).args(["build", "--quiet", "--release", "--package", "tidings-bench"]).status()?;
    if !status.success() {
        bail!("our side does not build");
    }
    Ok(target().join("release/tidings-bench-sockets"))
}

fn build_rival() -> Result<PathBuf> {
    let flags = Command::new("pkg-config").args(["--cflags", "--libs", "libzmq"]).output();
    let flags = flags
        .ok()
        .filter(|output| output.status.success())
        .context("libzmq's headers are missing: apt-get install libzmq3-dev pkg-config gcc, then try again")?;
    let folder = target().join("bench");
    std::fs::create_dir_all(&folder)?;
    let program = folder.join("libzmq-sockets");
    let status = Command::new("cc")
        .args(["-O2", "-std=c11", "-Wall", "-Wextra", "-o"])
        .arg(&program)
        .arg(root().join("bench/rivals/sockets.c"))
        .args(String::from_utf8(flags.stdout)?.split_whitespace())
        .arg("-pthread")
        .status()?;
    if !status.success() {
        bail!("the rival does not build");
    }
    Ok(program)
}

fn machine() -> Value {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let cpu_info = read("/proc/cpuinfo");
    let model = cpu_info.lines().find_map(|line| line.strip_prefix("model name")).unwrap_or_default();
    let said = |program: &str, argument: &str| {
        let output = Command::new(program).arg(argument).output();
        output.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned()).unwrap_or_default()
    };
    json!({
        "cpu": model.trim_start_matches([' ', '\t', ':']), "cores": std::thread::available_parallelism().map_or(0, usize::from),
        "kernel": read("/proc/sys/kernel/osrelease").trim().split('-').next(), "rustc": said("rustc", "--version"),
        "load": read("/proc/loadavg").trim(),
    })
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().map(Path::to_owned).unwrap_or_default()
}

fn target() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from)
}

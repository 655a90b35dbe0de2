//! `tidings gossip sim`: a network of any size on a virtual clock, to see how fast changes spread and what they cost.

use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::{Duration, SystemTime};

use clap::{Args, ValueEnum};
use serde_json::json;
use tidings_gossip::simulation::{
    Case, Latency, LinkModel, Outcome, Plan, Progress, Setup, Topology, report, run as simulate, run_all, suite,
};
use tidings_gossip::{NodeConfig, Presence};

use crate::cli::units::{display_duration, duration, octets, rate};
use crate::cli::{Exit, Failure, Talk, printed};

/// How many nodes, what goes wrong, what to draw
#[derive(Args, Debug)]
pub(crate) struct SimArgs {
    /// How many nodes
    #[arg(long, short, value_name = "N", default_value_t = 1000, value_parser = clap::value_parser!(u32).range(2..=100_000))]
    nodes: u32,
    /// Who connects to whom: ring, star, mesh, full, or overlay, where all know the first and find others by themselves
    #[arg(long, value_name = "SHAPE", default_value = "mesh")]
    topology: Topology,
    /// Links of each node of a mesh [default: 6]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1000))]
    degree: Option<u32>,
    /// The share of messages that are lost, such as 5% or 0.05
    #[arg(long, value_name = "SHARE", default_value = "0", value_parser = share)]
    loss: f64,
    /// How long messages are under way: 10ms, 5ms..50ms for any between, ~20ms for a long tail above that median
    #[arg(long, value_name = "TIME", default_value = "~20ms")]
    latency: Latency,
    /// What a link carries in each direction, in octets a second, such as 1MiB [default: everything]
    #[arg(long, value_name = "OCTETS", value_parser = octets)]
    bandwidth: Option<u64>,
    /// How far clocks are apart at most
    #[arg(long, value_name = "TIME", default_value = "100ms", value_parser = duration)]
    clocks: Duration,
    /// Whom nodes know as members: all, or those at the other ends of their links [default: all up to 2000 nodes]
    #[arg(long, value_name = "WHOM")]
    presence: Option<Whom>,
    /// How many links of a node changes go over at least
    #[arg(long, value_name = "N", default_value_t = 4)]
    fan_out: usize,
    /// How often neighbours compare what they know: a round
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = duration)]
    interval: Duration,
    /// Tuples that all know before anything is measured
    #[arg(long, value_name = "N", default_value_t = 100)]
    tuples: usize,
    /// Changes, one after the other
    #[arg(long, value_name = "N", default_value_t = 20)]
    changes: usize,
    /// How many nodes make them
    #[arg(long, value_name = "N", default_value_t = 20)]
    writers: usize,
    /// Octets of each value
    #[arg(long, value_name = "OCTETS", default_value = "32", value_parser = octets)]
    value: u64,
    /// Then changes at this rate for 20 s, such as 10/s
    #[arg(long, value_name = "RATE", value_parser = rate)]
    load: Option<Duration>,
    /// Then so many nodes write one key at once
    #[arg(long, value_name = "NODES", default_value_t = 0)]
    conflict: usize,
    /// Then the network is in two halves for so long
    #[arg(long, value_name = "TIME", value_parser = duration)]
    partition: Option<Duration>,
    /// Then half of the nodes are killed and start again
    #[arg(long)]
    restart_half: bool,
    /// Then nodes are killed and start again for 60 s, at this rate, such as 60/m
    #[arg(long, value_name = "RATE", value_parser = rate)]
    churn: Option<Duration>,
    /// How long each of these may take [default: 300s]
    #[arg(long, value_name = "TIME", value_parser = duration, conflicts_with = "rounds")]
    until: Option<Duration>,
    /// How many rounds each of these may take
    #[arg(long, value_name = "N")]
    rounds: Option<u32>,
    /// Decides all that chance does [default: another each time; it is printed]
    #[arg(long, value_name = "NUMBER")]
    seed: Option<u64>,
    /// Run every scenario: sizes up to --nodes, losses, a partition, restarts, conflicts, shapes
    #[arg(long, conflicts_with_all = ["load", "conflict", "partition", "restart_half", "churn", "loss"])]
    suite: bool,
    /// Show each kind of message too
    #[arg(long)]
    kinds: bool,
    /// Draw the curves into this file
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,
    /// Write the tables into this file, as Markdown
    #[arg(long, value_name = "FILE")]
    markdown: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Whom {
    All,
    Links,
}

/// Simulates, prints the tables and a curve, and draws
///
/// # Errors
/// Usage, and files that can't be written. That a change did not reach everybody in time is told, and exit code 1.
pub(crate) fn run(args: SimArgs, talk: Talk) -> Result<(), Failure> {
    let setup = args.setup();
    let cases = match args.suite {
        true => suite(&setup),
        false => vec![Case { setup: setup.clone(), plan: args.plan() }],
    };
    let outcomes = watched(&cases, talk);
    talk.progress_done();
    let plot = report::curves(&outcomes);
    if let Some(path) = &args.svg {
        write(path, &plot.to_svg())?;
    }
    let head = head(&setup, args.suite);
    if let Some(path) = &args.markdown {
        write(path, &markdown(&head, &outcomes, args.svg.as_deref()))?;
    }
    if talk.json {
        printed(talk.data(json!({ "seed": setup.seed, "runs": outcomes })))?;
    } else {
        let mut text =
            format!("{head}\n\n{}\n{}", report::spreading(&outcomes).to_text(), report::costs(&outcomes).to_text());
        if args.kinds {
            for outcome in &outcomes {
                text.push_str(&format!("\n{}", report::kinds(outcome).to_text()));
            }
        }
        text.push_str(&format!("\n{}", plot.to_text(TERMINAL.0, TERMINAL.1)));
        printed(talk.data(text.trim_end()))?;
    }
    let unknown = |outcome: &Outcome| outcome.phases.iter().any(|phase| !phase.complete) || !outcome.settled;
    match outcomes.iter().filter(|outcome| unknown(outcome)).count() {
        0 => Ok(()),
        // Everything is printed; the exit code says the rest
        _ => Err(Failure::new(Exit::Negative, "incomplete", "")),
    }
}

fn watched(cases: &[Case], talk: Talk) -> Vec<Outcome> {
    let line = |case: &Case, progress: &Progress| {
        let simulated = display_duration(Duration::from_secs(progress.simulated.as_secs()));
        format!("{}: {}, {simulated} simulated", case.name(), progress.doing)
    };
    match cases {
        [case] => vec![simulate(&case.setup, &case.plan, &mut |progress| talk.progress(line(case, progress)))],
        _ => {
            let over = Mutex::new(0);
            run_all(cases, &|number, progress| {
                let Ok(mut over) = over.lock() else { return };
                match progress {
                    Some(progress) => {
                        talk.progress(format!("{over}/{} {}", cases.len(), line(&cases[number], progress)))
                    }
                    None => {
                        *over += 1;
                        talk.detail(format!("{}: done", cases[number].name()));
                    }
                }
            })
        }
    }
}

impl SimArgs {
    fn setup(&self) -> Setup {
        let clock = || SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().subsec_nanos();
        let topology = match (self.topology, self.degree) {
            (Topology::Mesh(_), Some(degree)) => Topology::Mesh(degree as usize),
            (topology, _) => topology,
        };
        Setup {
            link: LinkModel {
                latency: self.latency,
                loss: self.loss,
                bandwidth: self.bandwidth,
                ..LinkModel::default()
            },
            clocks_apart: self.clocks,
            node: NodeConfig {
                fan_out: self.fan_out.max(1),
                digest_interval: self.interval.max(Duration::from_millis(1)),
                ..NodeConfig::default()
            },
            presence: self.presence.map(|whom| match whom {
                Whom::All => Presence::All,
                Whom::Links => Presence::Links,
            }),
            ..Setup::new(self.nodes as usize, topology, self.seed.unwrap_or_else(|| clock().into()))
        }
    }

    fn plan(&self) -> Plan {
        let round = self.interval.max(Duration::from_millis(1));
        let limit = match (self.until, self.rounds) {
            (Some(until), _) => until,
            (None, Some(rounds)) => round * rounds,
            (None, None) => Duration::from_secs(300),
        };
        Plan {
            tuples: self.tuples,
            changes: self.changes,
            writers: self.writers,
            value: self.value as usize,
            load: self.load.map_or(0.0, |every| 1.0 / every.as_secs_f64()),
            conflict: self.conflict,
            partition: self.partition,
            restart_half: self.restart_half,
            churn: self.churn.map_or(0.0, |every| 60.0 / every.as_secs_f64()),
            limit,
            ..Plan::default()
        }
    }
}

/// What one has to know to read the tables
fn head(setup: &Setup, is_suite: bool) -> String {
    let presence = match setup.presence() {
        Presence::All => "all nodes know each other as members",
        Presence::Links => "nodes know their neighbours as members (presence: links)",
    };
    let presence =
        if is_suite { "members: all in networks of up to 2000 nodes, neighbours in larger ones" } else { presence };
    format!(
        "Seed {}. Latency {}, clocks up to {} apart; {presence}.\n\
         A round is the interval of digests, {}. 50 %, 99 % and ALL are the medians of the changes, SLOWEST and ROUNDS are of the\n\
         slowest change until all know it. Messages and octets are those that each node sends for each change, beyond what it\n\
         sends at rest; octets with ZMTP's headers, without TCP's.",
        setup.seed,
        setup.link.latency,
        display_duration(setup.clocks_apart),
        display_duration(setup.round()),
    )
}

fn markdown(head: &str, outcomes: &[Outcome], svg: Option<&Path>) -> String {
    let mut text = format!(
        "# Gossip, simulated\n\n{head}\n\n## How changes spread\n\n{}\n## What it costs\n\n{}",
        report::spreading(outcomes).to_markdown(),
        report::costs(outcomes).to_markdown()
    );
    for outcome in outcomes {
        let loss = outcome.loss * 100.0;
        text.push_str(&format!(
            "\n## Kinds of message: {} nodes, {}, {loss} % loss\n\n{}",
            outcome.nodes,
            outcome.topology,
            report::kinds(outcome).to_markdown()
        ));
    }
    if let Some(name) = svg.and_then(Path::file_name) {
        text.push_str(&format!("\n## Curves\n\n![Who knows, over time]({})\n", name.to_string_lossy()));
    }
    text
}

fn write(path: &Path, text: &str) -> Result<(), Failure> {
    let failed = |error| Failure::new(Exit::Usage, "file", format!("can't write {}: {error}", path.display()));
    std::fs::write(path, text).map_err(failed)
}

/// `5%` or `0.05`
fn share(text: &str) -> Result<f64, String> {
    let wrong = || format!("'{text}' is not a share: write 5% or 0.05, and less than 100%");
    let (number, of) = text.strip_suffix('%').map_or((text, 1.0), |percent| (percent, 100.0));
    let share = number.trim().parse::<f64>().map_err(|_| wrong())? / of;
    (0.0..1.0).contains(&share).then_some(share).ok_or_else(wrong)
}

/// Characters of the curves in a terminal
const TERMINAL: (usize, usize) = (78, 18);

/// Examples of the verb
pub(crate) const EXAMPLES: &str = "\
Examples:
  tidings gossip sim --nodes 1000 --loss 5%                how fast do 1000 nodes learn a change?
  tidings gossip sim --nodes 200 --partition 60s --svg curve.svg
  tidings gossip sim --nodes 300 --churn 60/m --conflict 10 --seed 7
  tidings gossip sim --nodes 10000 --suite                 everything, for some minutes";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_read() {
        assert_eq!((share("5%"), share("0.05"), share("0")), (Ok(0.05), Ok(0.05), Ok(0.0)));
        assert!(["", "x", "100%", "1", "-1%", "nan"].iter().all(|text| share(text).is_err()));
    }
}

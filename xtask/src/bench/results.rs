//! What a run of `cargo xtask bench engine`, `curve` or `tls` leaves behind: the raw file, from which tables and pictures are made.

use std::path::Path;

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::statistics::{Target, Unit, median};
use super::suite::{ENGINE, Suite};

#[derive(Serialize, Deserialize)]
pub(super) struct Results {
    /// The benchmark's name; files from before there were several have none
    #[serde(default = "engine")]
    pub(super) suite: String,
    pub(super) when: String,
    pub(super) rounds: usize,
    pub(super) quick: bool,
    pub(super) order: String,
    pub(super) machine: Value,
    pub(super) works: Vec<WorkResult>,
}

fn engine() -> String {
    ENGINE.name.to_owned()
}

#[derive(Serialize, Deserialize)]
pub(super) struct WorkResult {
    pub(super) group: String,
    pub(super) name: String,
    pub(super) measures: Vec<Measure>,
    pub(super) sides: Vec<SideResult>,
}

/// One row of a table: a figure that each run has
#[derive(Clone, Serialize, Deserialize)]
pub(super) struct Measure {
    /// Empty where the work has one measure that needs no name
    pub(super) name: String,
    pub(super) unit: Unit,
    pub(super) targets: Vec<Target>,
}

#[derive(Serialize, Deserialize)]
pub(super) struct SideResult {
    /// `tidings`, `libzmq`, `zeromq`, `rzmq`, or what the floor or the variant is called
    pub(super) label: String,
    pub(super) runs: Vec<Run>,
    /// Why runs have no figures, in the order of the runs that failed
    pub(super) failures: Vec<Failure>,
}

#[derive(Serialize, Deserialize)]
pub(super) struct Run {
    pub(super) count: u64,
    /// One a measure of the work, in its order; none where a side can't tell it
    pub(super) figures: Vec<Option<f64>>,
    pub(super) cpu_ns_per_message: Option<f64>,
    /// Which of `lines` tells the figures
    pub(super) telling: usize,
    /// What each program said, in the order they were started; last what the driver saw itself
    pub(super) lines: Vec<Value>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind", content = "message")]
pub(super) enum Failure {
    /// Its library has no such thing
    Unsupported,
    TimedOut(String),
    Failed(String),
}

impl Results {
    /// What they are of; one whose name is not known any more is shown as the engine's are
    pub(super) fn suite(&self) -> &'static Suite {
        Suite::named(&self.suite).unwrap_or(&ENGINE)
    }

    pub(super) fn read(path: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(path).with_context(|| format!("can't read {}", path.display()))?;
        serde_json::from_str(&text)
            .with_context(|| format!("{} holds no results of `cargo xtask bench`", path.display()))
    }

    pub(super) fn write(&self, path: &Path) -> Result<()> {
        std::fs::write(path, serde_json::to_string(self)? + "\n")
            .with_context(|| format!("can't write {}", path.display()))
    }

    pub(super) fn work(&self, name: &str) -> Option<&WorkResult> {
        self.works.iter().find(|work| work.name == name)
    }
}

impl WorkResult {
    pub(super) fn side(&self, label: &str) -> Option<&SideResult> {
        self.sides.iter().find(|side| side.label == label)
    }

    /// Median of a measure; `None` where that side has no figure
    pub(super) fn median(&self, label: &str, measure: usize) -> Option<f64> {
        let figures = self.side(label)?.figures(measure);
        (!figures.is_empty()).then(|| median(&figures))
    }
}

impl SideResult {
    pub(super) fn figures(&self, measure: usize) -> Vec<f64> {
        self.runs.iter().filter_map(|run| *run.figures.get(measure)?).collect()
    }

    /// Whether it was given up that a network would
    pub(super) fn never_converged(&self) -> bool {
        self.runs.iter().any(|run| run.lines.get(run.telling).is_some_and(|line| line["converged"] == false))
    }

    /// Median over the runs of a number that the telling program said
    pub(super) fn told(&self, key: &str) -> Option<f64> {
        let figures: Vec<f64> =
            self.runs.iter().filter_map(|run| run.lines.get(run.telling)?.get(key)?.as_f64()).collect();
        (!figures.is_empty()).then(|| median(&figures))
    }

    pub(super) fn cpu_ns_per_message(&self) -> Option<f64> {
        let figures: Vec<f64> = self.runs.iter().filter_map(|run| run.cpu_ns_per_message).collect();
        (!figures.is_empty()).then(|| median(&figures))
    }

    /// Fractions and nanoseconds of the distribution of latency, each the median over the runs
    pub(super) fn quantiles(&self) -> Vec<(f64, f64)> {
        let of_runs: Vec<Vec<(f64, f64)>> = self
            .runs
            .iter()
            .filter_map(|run| serde_json::from_value(run.lines.get(run.telling)?.get("quantiles")?.clone()).ok())
            .collect();
        let Some(first) = of_runs.first() else { return Vec::new() };
        let at = |index: usize| -> Vec<f64> {
            of_runs.iter().filter_map(|quantiles| quantiles.get(index)).map(|(_, time)| *time).collect()
        };
        first.iter().enumerate().map(|(index, (fraction, _))| (*fraction, median(&at(index)))).collect()
    }
}

impl std::fmt::Display for Failure {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Unsupported => out.write_str("–"),
            Self::TimedOut(message) => write!(out, "timed out: {message}"),
            Self::Failed(message) => write!(out, "failed: {message}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn side(runs: &[Value]) -> SideResult {
        let runs = runs.iter().map(|line| Run {
            count: 1,
            figures: vec![line["p50_ns"].as_f64()],
            cpu_ns_per_message: None,
            telling: 0,
            lines: vec![line.clone()],
        });
        SideResult { label: "tidings".to_owned(), runs: runs.collect(), failures: vec![] }
    }

    #[test]
    fn figures_and_distributions_are_medians_over_the_runs() {
        let side = side(&[
            json!({"p50_ns": 10, "p99_ns": 90, "quantiles": [[0.5, 10], [0.99, 90]]}),
            json!({"p50_ns": 30, "p99_ns": 70, "quantiles": [[0.5, 30], [0.99, 70]]}),
            json!({"p50_ns": 20, "p99_ns": 80, "quantiles": [[0.5, 20], [0.99, 80]]}),
        ]);
        assert_eq!(side.told("p99_ns"), Some(80.0));
        assert_eq!(side.told("p99_9_ns"), None);
        assert_eq!(side.quantiles(), [(0.5, 20.0), (0.99, 80.0)]);
        let work = WorkResult { group: String::new(), name: String::new(), measures: vec![], sides: vec![side] };
        assert_eq!(work.median("tidings", 0), Some(20.0));
        assert_eq!(work.median("libzmq", 0), None);
    }
}

//! How steady the machine was: what the floors, which no library can make better or worse, differed by.

use serde_json::{Value, json};

use super::results::Results;
use super::statistics::{Unit, least_and_most, median};
use super::works::FLOORS;

/// The floors' differences between rounds: 0.3 is 30 % from the least to the most
pub(super) struct Steadiness {
    /// Each floor's, with the name of its work and its own
    differences: Vec<(f64, String)>,
}

impl Steadiness {
    pub(super) fn of(results: &Results) -> Self {
        let mut differences = Vec::new();
        for work in &results.works {
            for (number, measure) in work.measures.iter().enumerate() {
                let floors = work.sides.iter().filter(|side| FLOORS.contains(&side.label.as_str()));
                for (floor, figures) in floors.map(|floor| (floor, floor.figures(number))) {
                    if figures.len() > 1 && measure.unit != Unit::ProcessorNanoseconds {
                        let (least, most) = least_and_most(&figures);
                        differences.push((most / least - 1.0, format!("{}, {}", work.name, floor.label)));
                    }
                }
            }
        }
        differences.sort_by(|one, other| one.0.total_cmp(&other.0));
        Self { differences }
    }

    pub(super) fn compared(&self) -> usize {
        self.differences.len()
    }

    /// How many of them differed by more than a steady machine lets them
    pub(super) fn unsteady(&self) -> usize {
        self.differences.iter().filter(|(difference, _)| *difference > STEADY).count()
    }

    /// The median of the differences
    pub(super) fn typical(&self) -> f64 {
        median(&self.differences.iter().map(|(difference, _)| *difference).collect::<Vec<_>>())
    }

    /// The largest difference, and which floor's; `None` if nothing was measured twice
    pub(super) fn worst(&self) -> Option<(f64, &str)> {
        self.differences.last().map(|(difference, name)| (*difference, name.as_str()))
    }

    /// For the raw file
    pub(super) fn json(&self) -> Value {
        json!({
            "compared": self.compared(), "differ_by_more_than_30_percent": self.unsteady(),
            "median_difference": self.worst().map(|_| self.typical()),
            "largest_difference": self.worst().map(|(difference, _)| difference),
            "largest_of": self.worst().map(|(_, name)| name),
        })
    }
}

/// Chosen: on an idle machine most floors stay below half of it
const STEADY: f64 = 0.3;

#[cfg(test)]
mod tests {
    use super::super::results::{Measure, Run, SideResult, WorkResult};
    use super::super::works::{OURS, TOKIO_ECHO};
    use super::*;

    #[test]
    fn floors_alone_say_how_steady_the_machine_was() {
        let side = |label: &str, figures: &[f64]| SideResult {
            label: label.to_owned(),
            runs: figures
                .iter()
                .map(|figure| Run {
                    count: 1,
                    figures: vec![Some(*figure)],
                    cpu_ns_per_message: None,
                    telling: 0,
                    lines: vec![],
                })
                .collect(),
            failures: vec![],
        };
        let work = |name: &str, sides| WorkResult {
            group: String::new(),
            name: name.to_owned(),
            measures: vec![Measure { name: String::new(), unit: Unit::Nanoseconds, targets: vec![] }],
            sides,
        };
        let mut results = Results {
            suite: "engine".to_owned(),
            when: String::new(),
            rounds: 2,
            quick: false,
            order: String::new(),
            machine: Value::Null,
            works: vec![work("a", vec![side(OURS, &[1.0, 9.0]), side(TOKIO_ECHO, &[5.0])])],
        };
        assert!(Steadiness::of(&results).worst().is_none());
        results.works.push(work("b", vec![side(TOKIO_ECHO, &[10.0, 11.0])]));
        results.works.push(work("c", vec![side(TOKIO_ECHO, &[15.0, 10.0, 12.0])]));
        let steadiness = Steadiness::of(&results);
        assert_eq!((steadiness.compared(), steadiness.unsteady()), (2, 1));
        assert_eq!(steadiness.worst(), Some((0.5, "c, tokio echo")));
    }
}

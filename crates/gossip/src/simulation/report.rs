//! What a run found, as tables for people and as curves.

use super::plot::{Axis, Line, Plot};
use super::scenario::{Cost, Outcome, Phase};

/// Rows below a head; cells of columns whose title begins with a space stand to the right
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Table {
    /// Titles of the columns
    pub head: Vec<&'static str>,
    /// Their cells
    pub rows: Vec<Vec<String>>,
}

impl Table {
    /// For a terminal: columns as wide as their widest cell
    #[must_use]
    pub fn to_text(&self) -> String {
        let all = || {
            std::iter::once(self.head.iter().map(|title| title.trim().to_owned()).collect()).chain(self.rows.clone())
        };
        let rows: Vec<Vec<String>> = all().collect();
        let width =
            |column: usize| rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max();
        let widths: Vec<usize> = (0..self.head.len()).map(|column| width(column).unwrap_or_default()).collect();
        let mut text = String::new();
        for row in &rows {
            let mut line = String::new();
            for ((cell, width), title) in row.iter().zip(&widths).zip(&self.head) {
                let gap = " ".repeat(width.saturating_sub(cell.chars().count()));
                let (before, after) = if title.starts_with(' ') { (gap.as_str(), "") } else { ("", gap.as_str()) };
                line.push_str(&format!("{before}{cell}{after}  "));
            }
            text.push_str(line.trim_end());
            text.push('\n');
        }
        text
    }

    /// For a document
    #[must_use]
    pub fn to_markdown(&self) -> String {
        let line = |cells: &mut dyn Iterator<Item = &str>| format!("| {} |\n", cells.collect::<Vec<_>>().join(" | "));
        let mut text = line(&mut self.head.iter().map(|title| title.trim()));
        text.push_str(&line(&mut self.head.iter().map(|title| if title.starts_with(' ') { "--:" } else { "---" })));
        for row in &self.rows {
            text.push_str(&line(&mut row.iter().map(String::as_str)));
        }
        text
    }
}

/// How fast changes spread, and what they cost: a row for each phase of each run
#[must_use]
pub fn spreading(outcomes: &[Outcome]) -> Table {
    let head = vec![
        "NETWORK",
        "WHAT",
        " 50 %",
        " 99 %",
        " ALL",
        " SLOWEST",
        " ROUNDS",
        " MESSAGES",
        " OCTETS",
        " OF THEM SPREADING",
    ];
    let row = |outcome: &Outcome, phase: &Phase| {
        let [half, most, all] = phase.seconds.map(seconds);
        let slowest = phase.slowest[2];
        let rounds = slowest.map_or("–".to_owned(), |time| format!("{:.1}", time / outcome.round_seconds));
        let per_change = |pick: fn(Cost) -> f64| phase.per_change.map_or("–".to_owned(), |cost| figure(pick(cost)));
        vec![
            network(outcome),
            phase.name.clone(),
            half,
            most,
            all,
            seconds(slowest),
            rounds,
            per_change(|cost| cost.messages),
            per_change(|cost| cost.octets),
            phase
                .spreading
                .map_or("–".to_owned(), |cost| format!("{}, {}", figure(cost.messages), figure(cost.octets))),
        ]
    };
    let rows =
        outcomes.iter().flat_map(|outcome| outcome.phases.iter().map(move |phase| row(outcome, phase))).collect();
    Table { head, rows }
}

/// What networks cost at rest and while things change: a row for each run
#[must_use]
pub fn costs(outcomes: &[Outcome]) -> Table {
    let head = vec![
        "NETWORK",
        " LINKS",
        " ACTIVE",
        " REST: MESSAGES/S",
        " OCTETS/S",
        " CHANGING: MESSAGES/S",
        " OCTETS/S",
        " SIMULATED",
        " TOOK",
    ];
    let row = |outcome: &Outcome| {
        let load = outcome.phases.iter().find(|phase| phase.name.ends_with("changes a second"));
        let changing = |pick: fn(Cost) -> f64| load.map_or("–".to_owned(), |phase| figure(pick(phase.per_second)));
        vec![
            network(outcome),
            outcome.links.to_string(),
            outcome.active_links.to_string(),
            figure(outcome.rest.messages),
            figure(outcome.rest.octets),
            changing(|cost| cost.messages),
            changing(|cost| cost.octets),
            format!("{:.0} s", outcome.simulated_seconds),
            format!("{:.1} s", outcome.took_seconds),
        ]
    };
    Table { head, rows: outcomes.iter().map(row).collect() }
}

/// What a node sends at rest and for each change, by the kind of message
#[must_use]
pub fn kinds(outcome: &Outcome) -> Table {
    let mut table = Table { head: vec!["WHEN", "KIND", " MESSAGES", " OCTETS"], rows: Vec::new() };
    let mut add = |when: &str, kind: &str, cost: Cost| {
        table.rows.push(vec![when.to_owned(), kind.to_owned(), figure(cost.messages), figure(cost.octets)]);
    };
    for kind in &outcome.rest_kinds {
        add("rest, a second", kind.kind, kind.cost);
    }
    for phase in &outcome.phases {
        for kind in &phase.kinds {
            add(&phase.name, kind.kind, kind.cost);
        }
    }
    table
}

/// The curves of all phases: one line each
#[must_use]
pub fn curves(outcomes: &[Outcome]) -> Plot {
    let is_one = outcomes.len() == 1;
    let line = |outcome: &Outcome, phase: &Phase| Line {
        label: if is_one { phase.name.clone() } else { format!("{}: {}", network(outcome), phase.name) },
        points: phase.curve.iter().map(|(at, share)| (*at, share * 100.0)).collect(),
    };
    let lines: Vec<Line> =
        outcomes.iter().flat_map(|outcome| outcome.phases.iter().map(move |phase| line(outcome, phase))).collect();
    let first = |axis: fn(&(f64, f64)) -> f64| lines.iter().flat_map(move |line| line.points.iter().map(axis));
    let last = first(|point| point.0).fold(0.0, f64::max);
    let Some(outcome) = outcomes.first() else { return Plot::default() };
    let subtitle =
        format!("latency {}, seed {}, a round is {} s", outcome.latency, outcome.seed, outcome.round_seconds);
    Plot {
        title: if is_one { format!("Who knows, {}", network(outcome)) } else { "Who knows".to_owned() },
        subtitle: format!("{subtitle}; the mean of the changes of each phase"),
        across: Axis {
            name: "seconds since the change, the healing or the restart".to_owned(),
            is_logarithmic: last > 5.0,
            range: (last > 5.0).then_some((0.01, last)),
        },
        up: Axis { name: "% of nodes".to_owned(), is_logarithmic: false, range: Some((0.0, 100.0)) },
        lines,
    }
}

fn network(outcome: &Outcome) -> String {
    let loss = if outcome.loss > 0.0 { format!(", {} % loss", figure(outcome.loss * 100.0)) } else { String::new() };
    format!("{} nodes, {}{loss}", outcome.nodes, outcome.topology)
}

fn seconds(time: Option<f64>) -> String {
    time.map_or("never".to_owned(), |time| format!("{time:.2} s"))
}

/// Three digits, or all before the point
fn figure(number: f64) -> String {
    let digits = match number.abs() {
        0.0 => 0,
        size if size < 1.0 => 3,
        size if size < 10.0 => 2,
        size if size < 100.0 => 1,
        _ => 0,
    };
    let text = format!("{number:.digits$}");
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_have_three_digits() {
        assert_eq!(
            [0.0, 0.0123, 5.0, 1.234, 12.34, 123.4, 123_456.7].map(figure),
            ["0", "0.012", "5", "1.23", "12.3", "123", "123457"]
        );
    }

    #[test]
    fn tables_line_up_and_become_markdown() {
        let rows = vec![vec!["écho".to_owned(), "7".to_owned()], vec!["a".to_owned(), "123".to_owned()]];
        let table = Table { head: vec!["NAME", " N"], rows };
        assert_eq!(table.to_text(), "NAME    N\nécho    7\na     123\n");
        assert_eq!(table.to_markdown(), "| NAME | N |\n| --- | --: |\n| écho | 7 |\n| a | 123 |\n");
    }
}

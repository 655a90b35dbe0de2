//! The tables: medians, spread, ratios, and what they say about the targets.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use serde_json::Value;

use super::curves::curves;
use super::picture::{Picture, draw_all};
use super::results::{Failure, Measure, Results, SideResult, WorkResult};
use super::statistics::{NOISE, Unit, short, spread, verdict};
use super::steadiness::Steadiness;
use super::suite::Suite;
use super::works::{CRATES, INPROC_ONE_THREAD, LIBZMQ, OURS, SLOW_SUBSCRIBER};

/// Writes the tables and the pictures beside the raw results; returns where the tables are, and how many pictures
pub(super) fn write(results: &Results, raw: &Path) -> Result<(PathBuf, usize)> {
    let pictures = draw_all(results, raw)?;
    let path = raw.with_extension("md");
    let text = text(results) + &embedded(&pictures, raw);
    std::fs::write(&path, text).with_context(|| format!("can't write {}", path.display()))?;
    Ok((path, pictures.len()))
}

/// The pictures, by links that hold wherever the folder lies
fn embedded(pictures: &[Picture], raw: &Path) -> String {
    if pictures.is_empty() {
        return String::new();
    }
    let folder = raw.with_extension("");
    let folder = folder.file_name().unwrap_or_default().to_string_lossy();
    let links = pictures.iter().map(|picture| format!("\n![{}]({folder}/{}.svg)\n", picture.title, picture.file));
    format!("\n## Pictures\n{}", links.collect::<String>())
}

/// All tables, as markdown
pub(super) fn text(results: &Results) -> String {
    let mut out = String::new();
    head(&mut out, results);
    let mut groups: Vec<&str> = Vec::new();
    for work in &results.works {
        if !groups.contains(&work.group.as_str()) {
            groups.push(&work.group);
        }
    }
    for group in groups {
        let works: Vec<&WorkResult> = results.works.iter().filter(|work| work.group == group).collect();
        table(&mut out, results.suite(), group, &works);
    }
    bends(&mut out, results);
    failures(&mut out, results);
    out
}

fn head(out: &mut String, results: &Results) {
    let machine = &results.machine;
    let said = |key: &str| match &machine[key] {
        Value::String(text) => text.clone(),
        Value::Null => none(),
        other => other.to_string(),
    };
    let packages: Vec<String> = (results.suite().packages.iter())
        .map(|name| format!("{name} {}", machine["crates"][name].as_str().unwrap_or("–")))
        .collect();
    let kind = if results.quick { ", short runs" } else { "" };
    let _ = write!(
        out,
        "# {title}\n\n\
         {when}, {rounds} rounds{kind}. {cpu}, {cores} cores, Linux {kernel}, {rustc}. \
         Against {against}; {packages}.\n\n{reached}\n\n{steadiness}\n",
        title = results.suite().title,
        when = results.when,
        rounds = results.rounds,
        cpu = said("cpu"),
        cores = said("cores"),
        kernel = said("kernel"),
        rustc = said("rustc"),
        against = said(results.suite().beside.1),
        packages = packages.join(", "),
        reached = reached(results),
        steadiness = steadiness(results),
    );
    notes(out, results);
}

/// What of all that must hold does
fn reached(results: &Results) -> String {
    let (mut targets, mut tails, mut crates) = ((0, 0), (0, 0), (0, 0));
    let count = |(held, all): &mut (usize, usize), holds: bool| {
        *held += usize::from(holds);
        *all += 1;
    };
    for work in &results.works {
        for (number, measure) in work.measures.iter().enumerate() {
            let row = Row { work, measure, number, beside: results.suite().beside.0 };
            for (reached, bound) in row.reached().filter_map(|(reached, bound)| Some((reached?, bound))) {
                count(&mut targets, verdict(measure.unit, reached, bound) == "ok");
            }
            row.tails().iter().for_each(|tail| count(&mut tails, tail.is_no_worse()));
            row.of_crates().iter().for_each(|(_, ratio)| count(&mut crates, row.is_ahead(*ratio)));
        }
    }
    let mut out = format!("**{} of {} targets reached.**", targets.0, targets.1);
    if tails.1 > 0 {
        let _ = write!(out, " At p99, {} of {} ratios are no worse than at p50.", tails.0, tails.1);
    }
    if crates.1 > 0 {
        let _ = write!(out, " Ahead of a crate in {} of {} comparisons.", crates.0, crates.1);
    }
    out
}

/// How much the machine itself may have to do with the figures
fn steadiness(results: &Results) -> String {
    let load = |key: &str| results.machine[key].as_str().map_or_else(none, str::to_owned);
    let mut out = format!("Load before {}, after {}.", load("load_before"), load("load_after"));
    let steadiness = Steadiness::of(results);
    let Some((worst, name)) = steadiness.worst() else { return out };
    let _ = write!(
        out,
        " The floors, which the machine alone can change, differed from round to round by {:.0} % (median), at most by \
         {:.0} % ({name}).",
        steadiness.typical() * 100.0,
        worst * 100.0
    );
    if steadiness.unsteady() > 0 {
        let _ = write!(
            out,
            " **The machine was busy: {} of {} floors differed by more than 30 %.** Small differences mean nothing here.",
            steadiness.unsteady(),
            steadiness.compared()
        );
    }
    out
}

/// How to read what follows, as far as it is there
fn notes(out: &mut String, results: &Results) {
    let mut notes = vec![
        "Figures are medians [least..most] over the rounds, in which every side had its turn. A latency is p50 \
         [least..most] / p99 / p99.9 of round trips, each the median over the rounds."
            .to_owned(),
    ];
    if results.works.iter().any(|work| work.measures.iter().any(|measure| measure.unit == Unit::Nanoseconds)) {
        notes.push(format!(
            "p99 ratio: our p99 in parts of the other's; it is to be no worse than the same ratio of p50, and passes up to \
             {:.0} % above it, for noise.",
            NOISE * 100.0
        ));
    }
    if results.work(INPROC_ONE_THREAD).is_some() {
        notes.push(
            "REQ/REP over inproc, one thread: ours holds both sockets as tasks of one thread, as a Rust program does (rzmq's \
             too), and no thread has to be woken. libzmq's calls block, so that its REQ and REP need a thread each, and it pays for \
             waking them. The target is judged on that; with a thread for each of our sockets too (two threads) ours \
             pays the same, and there is no target."
                .to_owned(),
        );
    }
    if results.work(SLOW_SUBSCRIBER).is_some() {
        notes.push(format!(
            "{SLOW_SUBSCRIBER}: the rate of the three that read. The target compares our own median with that of the runs \
             without the frozen one, each taken right after one with it."
        ));
    }
    if results.works.iter().any(has_crates) {
        notes.push("Ahead of crates: whether our median is better than those of zeromq and rzmq.".to_owned());
    }
    notes.push("Processor time is user + system, of both ends where there are two.".to_owned());
    match results.machine["network"].as_str() {
        None => {}
        Some("shared") => notes.push(
            "**The loopback interface was shared** (`unshare --net` is not permitted here): its counters are of all programs \
             of this machine."
                .to_owned(),
        ),
        Some(_) => notes.push(
            "Each run has a network namespace of its own, so that the counters of its loopback interface are of it alone."
                .to_owned(),
        ),
    }
    notes.extend(results.suite().notes.iter().map(|note| (*note).to_owned()));
    let lines: String = notes.iter().map(|note| format!("- {note}\n")).collect();
    let _ = write!(out, "\n{lines}");
}

fn has_crates(work: &WorkResult) -> bool {
    CRATES.iter().any(|label| work.side(label).is_some())
}

fn table(out: &mut String, suite: &Suite, group: &str, works: &[&WorkResult]) {
    let has_latency = works.iter().any(|work| work.measures.iter().any(|measure| measure.unit == Unit::Nanoseconds));
    let crates = works.iter().any(|work| has_crates(work));
    let beside = suite.beside.0;
    let others = crates || works.iter().any(|work| others(work, beside).next().is_some());
    let rivals = suite.rivals.iter().filter(|label| works.iter().any(|work| work.side(label).is_some()));
    let of_rivals: Vec<String> = rivals.map(|label| format!("of {label}")).collect();
    let mut columns = vec!["work", "unit", OURS, beside];
    if crates {
        columns.extend(CRATES);
    }
    if others {
        columns.push("floors and variants");
    }
    columns.extend(of_rivals.iter().map(String::as_str));
    columns.extend(["target", "verdict"]);
    if has_latency {
        columns.push("p99 ratio");
    }
    if crates {
        columns.push("ahead of crates");
    }
    let cpu = format!("cpu ns/message, {OURS} / {beside}");
    columns.push(&cpu);
    let _ = write!(out, "\n## {group}\n\n| {} |\n|{}\n", columns.join(" | "), "---|".repeat(columns.len()));
    for work in works {
        for (number, measure) in work.measures.iter().enumerate() {
            let row = Row { work, measure, number, beside };
            let mut cells = vec![row.name(), row.scale().0.to_owned(), row.cell(OURS), row.cell(beside)];
            if crates {
                cells.extend(CRATES.map(|label| row.cell(label)));
            }
            if others {
                cells.push(row.others());
            }
            let ratio = |column: &String| row.ratio(column.trim_start_matches("of ")).map_or_else(none, short);
            cells.extend(of_rivals.iter().map(ratio));
            cells.extend([row.targets(), row.verdicts()]);
            if has_latency {
                cells.push(row.tail());
            }
            if crates {
                cells.push(row.ahead());
            }
            cells.push(row.cpu());
            let _ = writeln!(out, "| {} |", cells.join(" | "));
        }
    }
}

/// A row of a table: one measure of one work
struct Row<'a> {
    work: &'a WorkResult,
    measure: &'a Measure,
    number: usize,
    /// Whose column is beside ours
    beside: &'static str,
}

impl Row<'_> {
    fn name(&self) -> String {
        match self.measure.name.as_str() {
            "" => self.work.name.clone(),
            name => format!("{}: {name}", self.work.name),
        }
    }

    fn scale(&self) -> (&'static str, f64) {
        let labels = [OURS, self.beside].into_iter().chain(self.work.sides.iter().map(|side| side.label.as_str()));
        let typical = labels.into_iter().find_map(|label| self.median(label)).unwrap_or_default();
        self.measure.unit.scale(typical)
    }

    fn median(&self, label: &str) -> Option<f64> {
        self.work.median(label, self.number)
    }

    fn cell(&self, label: &str) -> String {
        self.work.side(label).map_or_else(none, |side| self.cell_of(side))
    }

    fn cell_of(&self, side: &SideResult) -> String {
        let figures = side.figures(self.number);
        let scale = self.scale().1;
        if figures.is_empty() {
            return match side.failures.first() {
                Some(Failure::TimedOut(_)) => "timed out".to_owned(),
                Some(Failure::Failed(_)) => "failed".to_owned(),
                Some(Failure::Unsupported) => "has none".to_owned(),
                None if side.never_converged() => "never".to_owned(),
                None => none(),
            };
        }
        let mut cell = spread(&figures, scale);
        if let (Some(seal), Some(open)) = (side.told("seal_ns"), side.told("open_ns")) {
            let _ = write!(cell, " (seal {} ns, open {} ns)", short(seal), short(open));
        }
        if self.measure.unit == Unit::Nanoseconds {
            for key in ["p99_ns", "p99_9_ns"] {
                let _ = write!(cell, " / {}", side.told(key).map_or_else(none, |time| short(time * scale)));
            }
        }
        match side.failures.len() {
            0 => cell,
            1 => cell + " (one run failed)",
            failed => format!("{cell} ({failed} runs failed)"),
        }
    }

    fn others(&self) -> String {
        let cells: Vec<String> =
            others(self.work, self.beside).map(|side| format!("{} {}", side.label, self.cell_of(side))).collect();
        if cells.is_empty() { none() } else { cells.join("<br>") }
    }

    /// Ours in parts of another's
    fn ratio(&self, label: &str) -> Option<f64> {
        let ratio = self.median(OURS)? / self.median(label)?;
        ratio.is_finite().then_some(ratio)
    }

    fn targets(&self) -> String {
        let targets: Vec<String> =
            self.measure.targets.iter().map(|target| target.describe(self.measure.unit)).collect();
        if targets.is_empty() { none() } else { targets.join("<br>") }
    }

    /// What each target's figure is; `None` where it can't be told
    fn reached(&self) -> impl Iterator<Item = (Option<f64>, f64)> {
        self.measure.targets.iter().map(|target| {
            let reached = self.median(OURS).and_then(|ours| target.reached(ours, |label| self.median(label)));
            (reached, target.bound)
        })
    }

    fn verdicts(&self) -> String {
        let verdicts: Vec<String> = self
            .reached()
            .map(|(reached, bound)| match reached {
                Some(reached) => format!("{}: {}", short(reached), verdict(self.measure.unit, reached, bound)),
                None => "no figure".to_owned(),
            })
            .collect();
        if verdicts.is_empty() { none() } else { verdicts.join("<br>") }
    }

    /// "p99 no worse a ratio than p50": against whom the targets are, or who stands beside us
    fn tails(&self) -> Vec<Tail<'_>> {
        if self.measure.unit != Unit::Nanoseconds {
            return Vec::new();
        }
        let mut others: Vec<&str> =
            self.measure.targets.iter().filter_map(|target| target.against.as_deref()).collect();
        if others.is_empty() {
            others.push(self.beside);
        }
        let p99 = |label: &str| self.work.side(label)?.told("p99_ns");
        let tail = |against| Some(Tail { against, p50: self.ratio(against)?, p99: p99(OURS)? / p99(against)? });
        others.into_iter().filter_map(tail).collect()
    }

    fn tail(&self) -> String {
        let tails: Vec<String> = self.tails().iter().map(Tail::describe).collect();
        if tails.is_empty() { none() } else { tails.join("<br>") }
    }

    /// Ours in parts of each crate's that has a figure: "every figure above, memory aside"
    fn of_crates(&self) -> Vec<(&'static str, f64)> {
        match self.measure.unit {
            Unit::KibiOctets => Vec::new(),
            _ => CRATES.into_iter().filter_map(|label| Some((label, self.ratio(label)?))).collect(),
        }
    }

    fn is_ahead(&self, ratio: f64) -> bool {
        verdict(self.measure.unit, ratio, 1.0) == "ok"
    }

    fn ahead(&self) -> String {
        let ratios = self.of_crates();
        let behind: Vec<String> = ratios
            .iter()
            .filter(|(_, ratio)| !self.is_ahead(*ratio))
            .map(|(label, ratio)| format!("**behind {label}: {}**", short(*ratio)))
            .collect();
        match (ratios.is_empty(), behind.is_empty()) {
            (true, _) => none(),
            (false, true) => "yes".to_owned(),
            (false, false) => behind.join("<br>"),
        }
    }

    fn cpu(&self) -> String {
        let cpu = |label: &str| {
            self.work
                .side(label)
                .and_then(SideResult::cpu_ns_per_message)
                .map_or_else(none, |time| format!("{time:.0}"))
        };
        format!("{} / {}", cpu(OURS), cpu(self.beside))
    }
}

/// How ours stands to another's at p50 and at p99
struct Tail<'a> {
    against: &'a str,
    p50: f64,
    p99: f64,
}

impl Tail<'_> {
    fn is_no_worse(&self) -> bool {
        self.p99 <= self.p50 * (1.0 + NOISE)
    }

    fn describe(&self) -> String {
        let verdict = if self.is_no_worse() { "ok" } else { "**worse than at p50**" };
        format!("{} of {}: {verdict}", short(self.p99), self.against)
    }
}

/// Floors, and sides in another way
fn others<'a>(work: &'a WorkResult, beside: &'static str) -> impl Iterator<Item = &'a SideResult> {
    let named = move |label: &str| [OURS, beside].contains(&label) || CRATES.contains(&label);
    work.sides.iter().filter(move |side| !named(&side.label))
}

fn bends(out: &mut String, results: &Results) {
    let rows: Vec<String> = curves()
        .iter()
        .filter_map(|curve| {
            let bend = curve.bend(results)?;
            let verdict = if bend.is_no_worse() { "bends no worse than libzmq" } else { "**bends worse than libzmq**" };
            Some(format!("| {} | {} | {:.3} | {:.3} | {verdict} |", curve.title, curve.grows, bend.ours, bend.libzmq))
        })
        .collect();
    if !rows.is_empty() {
        let _ = write!(
            out,
            "\n## Curves\n\nThe last figure of a curve in parts of its first. Ours bends worse if its part is more than \
             {:.0} % below libzmq's, which leaves room for noise; it may still be ahead at every point.\n\n\
             | curve | what grows | {OURS} | {LIBZMQ} | verdict |\n|---|---|---|---|---|\n{}\n",
            NOISE * 100.0,
            rows.join("\n")
        );
    }
}

fn failures(out: &mut String, results: &Results) {
    let mut lines = String::new();
    for work in &results.works {
        for side in &work.sides {
            for failure in side.failures.iter().filter(|failure| **failure != Failure::Unsupported) {
                let _ = writeln!(lines, "- {}, {}: {failure}", work.name, side.label);
            }
        }
    }
    if !lines.is_empty() {
        let _ = write!(out, "\n## Failures\n\n{lines}");
    }
}

/// What a cell holds that has nothing to say
fn none() -> String {
    "–".to_owned()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::results::Run;
    use super::super::statistics::Target;
    use super::super::works::{BARE_TLS, LIBZMQ_CURVE};
    use super::*;

    fn side(label: &str, figures: &[f64], line: &Value, failures: Vec<Failure>) -> SideResult {
        let run = |figure: &f64| Run {
            count: 1,
            figures: vec![Some(*figure)],
            cpu_ns_per_message: Some(200.0),
            telling: 0,
            lines: vec![line.clone()],
        };
        SideResult { label: label.to_owned(), runs: figures.iter().map(run).collect(), failures }
    }

    fn results(unit: Unit, bound: f64, sides: Vec<SideResult>) -> Results {
        let targets = vec![Target { against: Some(LIBZMQ.to_owned()), bound, enough: None }];
        let measures = vec![Measure { name: String::new(), unit, targets }];
        let works = vec![WorkResult { group: "Group".to_owned(), name: "the work".to_owned(), measures, sides }];
        let machine = json!({"cpu": "a processor", "cores": 2, "crates": {"zeromq": "0.7"}});
        Results {
            suite: "engine".to_owned(),
            when: "today".to_owned(),
            rounds: 3,
            quick: false,
            order: String::new(),
            machine,
            works,
        }
    }

    fn row(results: &Results) -> String {
        text(results).lines().find(|line| line.starts_with("| the work")).unwrap().to_owned()
    }

    #[test]
    fn a_row_of_throughput() {
        let none = Value::Null;
        let results = results(
            Unit::PerSecond,
            3.0,
            vec![
                side(OURS, &[9e6, 10e6, 11e6], &none, vec![]),
                side(LIBZMQ, &[4e6, 5e6, 5e6], &none, vec![]),
                side("zeromq", &[12e6], &none, vec![]),
                side("rzmq", &[], &none, vec![Failure::TimedOut("rzmq pull".to_owned())]),
                side("bulk copy", &[30e6], &none, vec![]),
            ],
        );
        assert_eq!(
            row(&results),
            "| the work | M/s | 10.0 [9.00..11.0] | 5.00 [4.00..5.00] | 12.0 | timed out | bulk copy 30.0 | 2.00 \
             | at least 3.00 of libzmq | 2.00: **short by 33 %** | **behind zeromq: 0.83** | 200 / 200 |"
        );
        let text = text(&results);
        assert!(text.contains("0 of 1 targets reached"), "{text}");
        assert!(text.contains("- the work, rzmq: timed out: rzmq pull"), "{text}");
    }

    #[test]
    fn ratios_are_of_the_rivals_of_a_benchmark() {
        let line = Value::Null;
        let mut results = results(
            Unit::PerSecond,
            0.8,
            vec![
                side(OURS, &[40.0], &line, vec![]),
                side(LIBZMQ, &[], &line, vec![Failure::Unsupported]),
                side(LIBZMQ_CURVE, &[20.0], &line, vec![]),
                side(BARE_TLS, &[50.0], &json!({"seal_ns": 237.0, "open_ns": 271.0}), vec![]),
            ],
        );
        results.suite = "tls".to_owned();
        results.works[0].measures[0].targets[0].against = Some(BARE_TLS.to_owned());
        assert_eq!(
            row(&results),
            "| the work | /s | 40.0 | has none | libzmq, CURVE 20.0<br>tokio-rustls 50.0 (seal 237 ns, open 271 ns) \
             | 0.80 | 2.00 | at least 0.80 of tokio-rustls | 0.80: ok | 200 / – |"
        );
        let text = text(&results);
        assert!(text.contains("# TLS benchmark") && text.contains("| of tokio-rustls | of libzmq, CURVE |"), "{text}");
    }

    #[test]
    fn a_tail_may_be_a_little_worse() {
        let tail = |p99| Tail { against: LIBZMQ, p50: 0.5, p99 };
        assert_eq!(tail(0.54).describe(), "0.54 of libzmq: ok");
        assert_eq!(tail(0.56).describe(), "0.56 of libzmq: **worse than at p50**");
    }

    #[test]
    fn pictures_are_linked_from_beside_them() {
        let pictures = [Picture { file: "overview".to_owned(), title: "All of it".to_owned() }];
        let text = embedded(&pictures, Path::new("/x/engine-1.json"));
        assert_eq!(text, "\n## Pictures\n\n![All of it](engine-1/overview.svg)\n");
    }

    #[test]
    fn a_row_of_latency_has_its_tail() {
        let told = |p99: u64| json!({"p99_ns": p99, "p99_9_ns": 2 * p99});
        let results = results(
            Unit::Nanoseconds,
            0.8,
            vec![
                side(OURS, &[60e3], &told(120_000), vec![]),
                side(LIBZMQ, &[80e3], &told(100_000), vec![]),
                side("zeromq", &[70e3], &told(100_000), vec![Failure::Failed("why".to_owned())]),
            ],
        );
        assert_eq!(
            row(&results),
            "| the work | us | 60.0 / 120 / 240 | 80.0 / 100 / 200 | 70.0 / 100 / 200 (one run failed) | – | – | 0.75 \
             | at most 0.80 of libzmq | 0.75: ok | 1.20 of libzmq: **worse than at p50** | yes | 200 / 200 |"
        );
    }
}

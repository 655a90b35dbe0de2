//! All works in one picture: how many times better than the rival each came out, and how many times it was to be.
//!
//! The rival is libzmq, except where it has no such thing: see `suite.rs`.

use std::path::Path;

use anyhow::{Result, anyhow};
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use super::chart::{AXIS, Drawn, GRID, GROUND, HEAD, INK, MARGIN, Ruler, WIDTH, plain, text};
use super::results::{Measure, Results, WorkResult};
use super::statistics::short;
use super::works::{GROWTH, MEMORY_GROWTH, OURS};

/// A measure of a work
#[derive(Debug, PartialEq)]
pub(super) struct Factor {
    group: String,
    label: String,
    /// How many times better than the rival: of rates ours / theirs, of times and memory theirs / ours
    times: f64,
    /// What the targets ask for, on the same scale: also those against another side
    targets: Vec<f64>,
}

/// Everything that the rival has a figure for as well, but for the points of curves
pub(super) fn factors(results: &Results) -> Vec<Factor> {
    let rival = results.suite().rival();
    let works = results.works.iter().filter(|work| work.group != GROWTH);
    works
        .flat_map(|work| work.measures.iter().enumerate().filter_map(|(number, of)| factor(work, rival, number, of)))
        .collect()
}

fn factor(work: &WorkResult, rival: &str, number: usize, measure: &Measure) -> Option<Factor> {
    // How much memory grew is noise where it should not grow at all
    if measure.name == MEMORY_GROWTH {
        return None;
    }
    let (ours, theirs) = (work.median(OURS, number)?, work.median(rival, number)?);
    let times = |figure: f64| if measure.unit.more_is_better() { figure / theirs } else { theirs / figure };
    let asked = measure.targets.iter().filter_map(|target| match &target.against {
        Some(label) => Some(target.bound * work.median(label, number)?),
        None => Some(target.bound),
    });
    let label = match measure.name.as_str() {
        "" => work.name.clone(),
        name => format!("{}: {name}", work.name),
    };
    let is_drawable = |times: &f64| times.is_finite() && *times > 0.0;
    let factor = Factor {
        group: work.group.clone(),
        label,
        times: times(ours),
        targets: asked.map(times).filter(is_drawable).collect(),
    };
    is_drawable(&factor.times).then_some(factor)
}

/// Bars from the line at 1.0: to the right where ours is better
pub(super) fn draw(path: &Path, title: &str, rival: &str, factors: &[Factor]) -> Result<()> {
    let mut rows: Vec<Row<'_>> = Vec::new();
    for (number, factor) in factors.iter().enumerate() {
        if number == 0 || factors[number - 1].group != factor.group {
            rows.push(Row::Group(&factor.group));
        }
        rows.push(Row::Factor(factor));
    }
    let height = HEAD + LEGEND + ROW * rows.len() as u32 + AXIS_ROOM + MARGIN;
    let root = SVGBackend::new(path, (WIDTH, height)).into_drawing_area();
    let draw = || -> Drawn {
        root.fill(&GROUND)?;
        root.draw(&Text::new(title.to_owned(), (16, 14), text(20)))?;
        legend(&root, rival)?;
        let (_, area) = root.split_vertically(HEAD + LEGEND);
        let drawn = || factors.iter().flat_map(|factor| factor.targets.iter().chain([&factor.times]));
        let least = drawn().copied().fold(0.8, f64::min) / 1.1;
        // Room for the figure at the end of the longest bar
        let most = drawn().copied().fold(2.0, f64::max) * 1.4;
        let ticks: Vec<f64> = TICKS.into_iter().filter(|tick| (least..=most).contains(tick)).map(f64::log10).collect();
        let count = rows.len() as f64;
        let near = (most / least).log10() * f64::from(NEAR) / f64::from(WIDTH - LABELS - RIGHT);
        let mut chart = ChartBuilder::on(&area)
            .margin_right(RIGHT)
            .margin_bottom(MARGIN)
            .x_label_area_size(AXIS_ROOM)
            .y_label_area_size(LABELS)
            .build_cartesian_2d(Ruler { from: least.log10(), to: most.log10(), ticks: ticks.clone() }, 0.0..count)?;
        chart
            .configure_mesh()
            .disable_y_mesh()
            .disable_y_axis()
            .light_line_style(TRANSPARENT)
            .bold_line_style(GRID)
            .axis_style(AXIS)
            .label_style(text(12))
            .axis_desc_style(text(13))
            .x_labels(ticks.len())
            .x_label_formatter(&|at| plain(10f64.powf(*at)))
            .x_desc(format!("times better than {rival}"))
            .draw()?;
        let beside = |place: HPos| text(13).pos(Pos::new(place, VPos::Center));
        for (number, row) in rows.iter().enumerate() {
            // The first on top
            let middle = count - number as f64 - 0.5;
            let factor = match row {
                Row::Group(name) => {
                    let style = text(14).pos(Pos::new(HPos::Left, VPos::Center));
                    let name = Text::new((*name).to_owned(), (16 - LABELS as i32, 2), style);
                    chart.draw_series([EmptyElement::at((least.log10(), middle)) + name])?;
                    continue;
                }
                Row::Factor(factor) => factor,
            };
            let end = factor.times.log10();
            let colour = if factor.times >= 1.0 { BETTER } else { WORSE };
            chart.draw_series([Rectangle::new([(0.0, middle - 0.3), (end, middle + 0.3)], colour.filled())])?;
            for target in factor.targets.iter().map(|target| target.log10()) {
                let mark = [(target, middle - 0.42), (target, middle + 0.42)];
                chart.draw_series([PathElement::new(mark, INK.stroke_width(2))])?;
            }
            let label = Text::new(factor.label.clone(), (-8, 0), beside(HPos::Right));
            chart.draw_series([EmptyElement::at((least.log10(), middle)) + label])?;
            // Beyond the marks, so that none crosses it
            let marks = factor.targets.iter().map(|target| target.log10());
            let free = marks.filter(|mark| *mark < end + near).fold(end.max(0.0), f64::max);
            let value = Text::new(short(factor.times), (8, 0), beside(HPos::Left));
            chart.draw_series([EmptyElement::at((free, middle)) + value])?;
        }
        chart.draw_series([PathElement::new([(0.0, 0.0), (0.0, count)], INK.stroke_width(1))])?;
        Ok(root.present()?)
    };
    draw().map_err(|error| anyhow!("can't draw {}: {error}", path.display()))
}

enum Row<'a> {
    Group(&'a str),
    Factor(&'a Factor),
}

fn legend(root: &DrawingArea<SVGBackend<'_>, plotters::coord::Shift>, rival: &str) -> Drawn {
    let y = HEAD as i32 + 4;
    let style = || text(13).pos(Pos::new(HPos::Left, VPos::Center));
    for (left, colour, said) in [(16, BETTER, format!("better than {rival}")), (196, WORSE, "worse".to_owned())] {
        root.draw(&Rectangle::new([(left, y - 5), (left + 22, y + 5)], colour.filled()))?;
        root.draw(&Text::new(said, (left + 28, y), style()))?;
    }
    root.draw(&PathElement::new([(290, y - 7), (290, y + 7)], INK.stroke_width(2)))?;
    root.draw(&Text::new("target", (298, y), style()))?;
    let said = format!("rates: ours / {rival}'s; times, memory, cpu: {rival}'s / ours");
    Ok(root.draw(&Text::new(said, (370, y), style()))?)
}

const BETTER: RGBColor = RGBColor(0, 114, 178);
const WORSE: RGBColor = RGBColor(213, 94, 0);
const TICKS: [f64; 12] = [0.1, 0.2, 0.5, 1.0, 2.0, 3.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0];
const ROW: u32 = 22;
const LEGEND: u32 = 20;
const AXIS_ROOM: u32 = 40;
/// Room for the longest name of a work
const LABELS: u32 = 350;
/// How far right of a bar a mark may be to be in the way of its figure
const NEAR: u32 = 48;
const RIGHT: u32 = 24;

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::super::results::{Run, SideResult};
    use super::super::statistics::{Target, Unit};
    use super::super::works::LIBZMQ;
    use super::*;

    #[test]
    fn factors_are_of_libzmq_whatever_a_target_is_against() {
        let side = |label: &str, figure: f64| {
            let run =
                Run { count: 1, figures: vec![Some(figure)], cpu_ns_per_message: None, telling: 0, lines: vec![] };
            SideResult { label: label.to_owned(), runs: vec![run], failures: vec![] }
        };
        let work = |group: &str, unit, targets: &[(Option<&str>, f64)]| {
            let target = |(against, bound): &(Option<&str>, f64)| Target {
                against: against.map(str::to_owned),
                bound: *bound,
                enough: None,
            };
            let measure = Measure { name: String::new(), unit, targets: targets.iter().map(target).collect() };
            WorkResult {
                group: group.to_owned(),
                name: "a work".to_owned(),
                measures: vec![measure],
                sides: vec![side(OURS, 6.0), side(LIBZMQ, 2.0), side("floor", 8.0)],
            }
        };
        let results = Results {
            suite: "engine".to_owned(),
            when: String::new(),
            rounds: 1,
            quick: false,
            order: String::new(),
            machine: Value::Null,
            works: vec![
                work("rate", Unit::PerSecond, &[(Some(LIBZMQ), 2.0), (Some("floor"), 0.5), (Some("nobody"), 1.0)]),
                work("time", Unit::Nanoseconds, &[(Some(LIBZMQ), 0.5)]),
                work("memory", Unit::KibiOctets, &[(None, 4.0)]),
                work(GROWTH, Unit::PerSecond, &[]),
            ],
        };
        let factors: Vec<_> =
            factors(&results).into_iter().map(|factor| (factor.group, factor.times, factor.targets)).collect();
        let third = 1.0 / 3.0;
        assert_eq!(
            factors,
            [
                ("rate".to_owned(), 3.0, vec![2.0, 2.0]),
                ("time".to_owned(), third, vec![2.0]),
                ("memory".to_owned(), third, vec![0.5])
            ]
        );
    }
}

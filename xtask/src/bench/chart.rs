//! Charts as SVG. They bring their own white ground, so that they read the same on a dark page.

use std::path::Path;

use anyhow::{Result, anyhow};
use plotters::coord::Shift;
use plotters::coord::ranged1d::{DefaultFormatting, KeyPointHint};
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use super::statistics::{grouped, least_and_most, short};

/// A group of bars on an axis of its own
pub(super) struct Panel {
    pub(super) title: String,
    pub(super) unit: String,
    pub(super) bars: Vec<Bar>,
}

pub(super) struct Bar {
    pub(super) label: String,
    pub(super) value: f64,
    pub(super) least: f64,
    pub(super) most: f64,
    pub(super) colour: (u8, u8, u8),
}

pub(super) struct Line {
    pub(super) label: String,
    pub(super) colour: (u8, u8, u8),
    pub(super) points: Vec<(f64, f64)>,
    /// Marks the points, where each was measured for itself
    pub(super) dots: bool,
}

/// What an axis shows
#[derive(Clone, Copy)]
pub(super) enum Axis {
    /// Counts, by powers of ten
    Decades(&'static str),
    /// 1 / (1 - quantile), so that each nine takes as much room as the one before
    Quantiles,
    /// From 0, or by powers of ten where figures lie far apart
    Measured(&'static str),
    /// Times, by powers of ten or their parts
    Microseconds,
}

/// Panels of bars, one beneath the other
pub(super) fn bars(path: &Path, title: &str, panels: &[Panel]) -> Result<()> {
    let height = |panel: &Panel| PANEL + BAR * panel.bars.len() as u32;
    let all = HEAD + panels.iter().map(height).sum::<u32>() + MARGIN;
    let root = SVGBackend::new(path, (WIDTH, all)).into_drawing_area();
    let draw = || -> Drawn {
        root.fill(&GROUND)?;
        root.draw(&Text::new(title.to_owned(), (16, 14), text(20)))?;
        let (_, mut rest) = root.split_vertically(HEAD);
        for panel in panels {
            let (area, below) = rest.split_vertically(height(panel));
            draw_panel(&area, panel)?;
            rest = below;
        }
        Ok(root.present()?)
    };
    draw().map_err(|error| anyhow!("can't draw {}: {error}", path.display()))
}

/// Lines in one chart, with a legend above
pub(super) fn lines(path: &Path, title: &str, across: Axis, up: Axis, lines: &[Line]) -> Result<()> {
    let root = SVGBackend::new(path, (WIDTH, 520)).into_drawing_area();
    let draw = || -> Drawn {
        root.fill(&GROUND)?;
        root.draw(&Text::new(title.to_owned(), (16, 14), text(20)))?;
        legend(&root, lines)?;
        let (_, area) = root.split_vertically(HEAD + 30);
        let across = Scale::new(across, lines.iter().flat_map(|line| line.points.iter().map(|point| point.0)));
        let up = Scale::new(up, lines.iter().flat_map(|line| line.points.iter().map(|point| point.1)));
        let mut chart = ChartBuilder::on(&area)
            .margin(MARGIN)
            .margin_right(40)
            .x_label_area_size(46)
            .y_label_area_size(72)
            .build_cartesian_2d(across.ruler(), up.ruler())?;
        chart
            .configure_mesh()
            .light_line_style(TRANSPARENT)
            .bold_line_style(GRID)
            .axis_style(AXIS)
            .label_style(text(13))
            .axis_desc_style(text(14))
            .x_labels(across.ticks.len())
            .y_labels(up.ticks.len())
            .x_desc(across.name.as_str())
            .y_desc(up.name.as_str())
            .x_label_formatter(&|at| across.label(*at))
            .y_label_formatter(&|at| up.label(*at))
            .draw()?;
        // Ours last, to lie above the others
        for line in lines.iter().rev() {
            let colour = colour(line.colour);
            let points: Vec<(f64, f64)> = line.points.iter().map(|(x, y)| (across.place(*x), up.place(*y))).collect();
            chart.draw_series(LineSeries::new(points.iter().copied(), colour.stroke_width(2)))?;
            if line.dots {
                chart.draw_series(points.iter().map(|point| Circle::new(*point, 4, colour.filled())))?;
            }
        }
        Ok(root.present()?)
    };
    draw().map_err(|error| anyhow!("can't draw {}: {error}", path.display()))
}

fn draw_panel(area: &Area<'_>, panel: &Panel) -> Drawn {
    let most = panel.bars.iter().map(|bar| bar.most).fold(f64::MIN_POSITIVE, f64::max);
    let count = panel.bars.len() as f64;
    area.draw(&Text::new(panel.title.clone(), (16, 10), text(15)))?;
    let ticks = ticks(most);
    let mut chart = ChartBuilder::on(area)
        .margin_top(32)
        .margin_right(24)
        .margin_bottom(16)
        .x_label_area_size(40)
        .y_label_area_size(LABELS)
        .build_cartesian_2d(Ruler { from: 0.0, to: most * 1.15, ticks: ticks.clone() }, 0.0..count)?;
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
        .x_label_formatter(&|at| plain(*at))
        .x_desc(panel.unit.as_str())
        .draw()?;
    for (number, bar) in panel.bars.iter().enumerate() {
        // The first on top
        let middle = count - number as f64 - 0.5;
        let beside = |place: HPos| text(13).pos(Pos::new(place, VPos::Center));
        let body = Rectangle::new([(0.0, middle - 0.32), (bar.value, middle + 0.32)], colour(bar.colour).filled());
        chart.draw_series([body])?;
        chart.draw_series([PathElement::new([(bar.least, middle), (bar.most, middle)], INK.stroke_width(1))])?;
        let label = Text::new(bar.label.clone(), (-8, 0), beside(HPos::Right));
        chart.draw_series([EmptyElement::at((0.0, middle)) + label])?;
        let value = Text::new(short(bar.value), (8, 0), beside(HPos::Left));
        chart.draw_series([EmptyElement::at((bar.most.max(bar.value), middle)) + value])?;
    }
    Ok(())
}

fn legend(root: &Area<'_>, lines: &[Line]) -> Drawn {
    let mut left = 16;
    for line in lines {
        let y = HEAD as i32 + 8;
        root.draw(&Rectangle::new([(left, y - 5), (left + 22, y + 5)], colour(line.colour).filled()))?;
        let style = text(14).pos(Pos::new(HPos::Left, VPos::Center));
        root.draw(&Text::new(line.label.clone(), (left + 28, y), style))?;
        // As wide as the widest usual sans-serif letters are on average at this size
        left += 28 + 8 * line.label.chars().count() as i32 + 18;
    }
    Ok(())
}

/// An axis with its ticks; places are linear, or decimal logarithms
struct Scale {
    axis: Axis,
    is_logarithmic: bool,
    name: String,
    factor: f64,
    from: f64,
    to: f64,
    ticks: Vec<f64>,
}

impl Scale {
    fn new(axis: Axis, values: impl Iterator<Item = f64>) -> Self {
        let values: Vec<f64> = values.filter(|value| value.is_finite() && *value > 0.0).collect();
        let (least, most) = if values.is_empty() { (1.0, 1.0) } else { least_and_most(&values) };
        let (factor, unit) = match axis {
            Axis::Measured(_) if most >= 2e6 => (1e-6, "in millions"),
            Axis::Measured(_) if most >= 2e3 => (1e-3, "in thousands"),
            _ => (1.0, ""),
        };
        let name = match axis {
            Axis::Decades(name) => name.to_owned(),
            Axis::Quantiles => "share of round trips that took no longer".to_owned(),
            Axis::Measured(name) if unit.is_empty() => name.to_owned(),
            Axis::Measured(name) => format!("{name}, {unit}"),
            Axis::Microseconds => "microseconds".to_owned(),
        };
        let is_logarithmic = !matches!(axis, Axis::Measured(_)) || most / least > APART;
        let (from, to, ticks) = match axis {
            Axis::Quantiles => (0.0, most.log10().max(1.0), QUANTILES.map(|(place, _)| place).to_vec()),
            _ if is_logarithmic => decades(least * factor, most * factor, !matches!(axis, Axis::Decades(_))),
            _ => (0.0, most * factor * 1.05, ticks(most * factor)),
        };
        let ticks = ticks.into_iter().filter(|tick| (from..=to).contains(tick)).collect();
        Self { axis, is_logarithmic, name, factor, from, to, ticks }
    }

    fn ruler(&self) -> Ruler {
        Ruler { from: self.from, to: self.to, ticks: self.ticks.clone() }
    }

    fn place(&self, value: f64) -> f64 {
        if self.is_logarithmic { (value * self.factor).log10() } else { value * self.factor }
    }

    fn label(&self, place: f64) -> String {
        match self.axis {
            Axis::Quantiles => {
                let found = QUANTILES.iter().find(|(at, _)| (at - place).abs() < 1e-9);
                found.map(|(_, name)| (*name).to_owned()).unwrap_or_default()
            }
            _ if self.is_logarithmic => plain(10f64.powf(place)),
            _ => plain(place),
        }
    }
}

/// A linear axis whose ticks are given
pub(super) struct Ruler {
    pub(super) from: f64,
    pub(super) to: f64,
    pub(super) ticks: Vec<f64>,
}

impl Ranged for Ruler {
    type FormatOption = DefaultFormatting;
    type ValueType = f64;

    fn map(&self, value: &f64, (first, last): (i32, i32)) -> i32 {
        let part = (value - self.from) / (self.to - self.from);
        first + (part * f64::from(last - first)).round() as i32
    }

    fn key_points<Hint: KeyPointHint>(&self, _: Hint) -> Vec<f64> {
        self.ticks.clone()
    }

    fn range(&self) -> std::ops::Range<f64> {
        self.from..self.to
    }
}

/// From and to, as decimal logarithms, and where to draw lines: at powers of ten, and between them if there is room
fn decades(least: f64, most: f64, with_room: bool) -> (f64, f64, Vec<f64>) {
    let (from, to) = if with_room { (least * 0.8, most * 1.25) } else { (least, most) };
    let (from, to) = (from.log10(), to.log10().max(from.log10() + 0.1));
    let between: &[f64] = if to - from < 2.5 { &[1.0, 2.0, 5.0] } else { &[1.0] };
    let powers = from.floor() as i32..=to.ceil() as i32;
    let ticks = powers.flat_map(|power| between.iter().map(move |digit| f64::from(power) + digit.log10()));
    // A tick at an end may miss it by a rounding error
    (from - 1e-9, to + 1e-9, ticks.collect())
}

/// Four to eight round numbers from 0
fn ticks(most: f64) -> Vec<f64> {
    let power = 10f64.powf(most.log10().floor());
    let step = [0.2, 0.5, 1.0, 2.0].into_iter().map(|part| part * power).find(|step| most / step <= 7.5);
    let step = step.unwrap_or(power);
    (0..=(most / step) as u32).map(|number| f64::from(number) * step).collect()
}

/// A number on an axis, with no digit too many
pub(super) fn plain(number: f64) -> String {
    let rounded = format!("{number:.3}");
    let rounded = rounded.trim_end_matches('0').trim_end_matches('.');
    match rounded.split_once('.') {
        Some(_) => rounded.to_owned(),
        None => grouped(rounded),
    }
}

pub(super) fn text(size: i32) -> TextStyle<'static> {
    ("sans-serif", size).into_font().color(&INK)
}

fn colour((red, green, blue): (u8, u8, u8)) -> RGBColor {
    RGBColor(red, green, blue)
}

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;
pub(super) type Drawn = Result<(), Box<dyn std::error::Error>>;

pub(super) const WIDTH: u32 = 860;
/// The title
pub(super) const HEAD: u32 = 46;
/// What a panel has besides its bars
const PANEL: u32 = 32 + 40 + 16;
const BAR: u32 = 26;
pub(super) const MARGIN: u32 = 12;
/// Room for the longest label of a bar
const LABELS: u32 = 170;
/// From which ratio of the largest to the smallest an axis is logarithmic
const APART: f64 = 15.0;

pub(super) const GROUND: RGBColor = RGBColor(255, 255, 255);
pub(super) const INK: RGBColor = RGBColor(31, 35, 40);
pub(super) const GRID: RGBColor = RGBColor(226, 229, 233);
pub(super) const AXIS: RGBColor = RGBColor(140, 147, 156);

/// Places on a scale of 1 / (1 - quantile), and what they are called
const QUANTILES: [(f64, &str); 6] = [
    (0.0, "0 %"),
    (std::f64::consts::LOG10_2, "50 %"),
    (1.0, "90 %"),
    (2.0, "99 %"),
    (3.0, "99.9 %"),
    (4.0, "99.99 %"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_round_and_few() {
        assert_eq!(ticks(13.0), [0.0, 2.0, 4.0, 6.0, 8.0, 10.0, 12.0]);
        assert_eq!(ticks(4.0), [0.0, 1.0, 2.0, 3.0, 4.0]);
        for most in [0.013, 0.7, 1.0, 9.99, 350.0, 8.2e6] {
            assert!((4..=8).contains(&ticks(most).len()), "{most}: {:?}", ticks(most));
        }
    }

    #[test]
    fn numbers_on_axes_read_well() {
        assert_eq!(["0", "1,000,000", "2.5", "0.05"], [0.0, 1e6, 2.5, 0.05].map(plain));
    }

    #[test]
    fn an_axis_is_logarithmic_where_figures_lie_far_apart() {
        let near = Scale::new(Axis::Measured("x"), [4e6, 10e6].into_iter());
        assert_eq!((near.is_logarithmic, near.from, near.place(5e6)), (false, 0.0, 5.0));
        assert_eq!(near.name, "x, in millions");
        let far = Scale::new(Axis::Measured("x"), [1.0, 1000.0].into_iter());
        assert!(far.is_logarithmic);
        let counts = Scale::new(Axis::Decades("peers"), [1.0, 10.0, 1000.0].into_iter());
        assert_eq!(
            counts.ticks.iter().map(|tick| counts.label(*tick)).collect::<Vec<_>>(),
            ["1", "10", "100", "1,000"]
        );
    }

    #[test]
    fn quantiles_are_labelled_as_far_as_they_go() {
        let scale = Scale::new(Axis::Quantiles, [1.0, 2.0, 1000.0].into_iter());
        let labels: Vec<String> = scale.ticks.iter().map(|tick| scale.label(*tick)).collect();
        assert_eq!(labels, ["0 %", "50 %", "90 %", "99 %", "99.9 %"]);
    }
}

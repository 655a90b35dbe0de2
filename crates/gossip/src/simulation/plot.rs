//! Curves as a picture (SVG, readable on light and dark pages) and as text for a terminal.
//!
//! Small on purpose: lines in one frame, two axes, a legend.

use std::fmt::Write as _;

/// Lines over a common pair of axes
#[derive(Clone, Debug, Default)]
pub struct Plot {
    /// Above the picture
    pub title: String,
    /// Beneath the title: how the figures came about
    pub subtitle: String,
    /// What goes to the right
    pub across: Axis,
    /// What goes up
    pub up: Axis,
    /// The first is drawn above the others
    pub lines: Vec<Line>,
}

/// One curve
#[derive(Clone, Debug, Default)]
pub struct Line {
    /// As the legend names it
    pub label: String,
    /// From left to right; between two points the line is straight
    pub points: Vec<(f64, f64)>,
}

/// What an axis shows
#[derive(Clone, Debug, Default)]
pub struct Axis {
    /// With its unit
    pub name: String,
    /// By powers of ten; values that aren't above 0 stand at the lower end
    pub is_logarithmic: bool,
    /// The least and the greatest value; where `None` is said, the lines decide
    pub range: Option<(f64, f64)>,
}

impl Plot {
    /// The picture, with its own style sheet: light, and dark where the reader's page is
    pub fn to_svg(&self) -> String {
        let legend_lines = self.lines.len().div_ceil(2) as f64;
        let height = TOP + FRAME.1 + BOTTOM + legend_lines * LEGEND;
        let (across, up) = self.scales();
        let x = |value| LEFT + across.place(value) * FRAME.0;
        let y = |value| TOP + (1.0 - up.place(value)) * FRAME.1;
        let mut svg = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" font-family=\"sans-serif\" \
             font-size=\"13\" role=\"img\" aria-labelledby=\"title\">\n<title id=\"title\">{}</title>\n{}",
            escaped(&self.title),
            style(),
        );
        let mut add = |line: std::fmt::Arguments<'_>| {
            // Writing to a string does not fail
            writeln!(svg, "{line}").ok();
        };
        add(format_args!("<rect class=\"ground\" width=\"{WIDTH}\" height=\"{height}\"/>"));
        add(format_args!("<text x=\"16\" y=\"26\" font-size=\"17\">{}</text>", escaped(&self.title)));
        add(format_args!("<text class=\"faint\" x=\"16\" y=\"46\">{}</text>", escaped(&self.subtitle)));
        let (right, bottom) = (LEFT + FRAME.0, TOP + FRAME.1);
        for tick in &across.ticks {
            let (at, label) = (x(*tick), shown(*tick));
            add(format_args!("<path class=\"grid\" d=\"M{at:.1} {TOP}V{bottom}\"/>"));
            let below = bottom + 20.0;
            add(format_args!("<text x=\"{at:.1}\" y=\"{below}\" text-anchor=\"middle\">{label}</text>"));
        }
        for tick in &up.ticks {
            let (at, label) = (y(*tick), shown(*tick));
            add(format_args!("<path class=\"grid\" d=\"M{LEFT} {at:.1}H{right}\"/>"));
            let (beside, middle) = (LEFT - 8.0, at + 4.5);
            add(format_args!("<text x=\"{beside}\" y=\"{middle:.1}\" text-anchor=\"end\">{label}</text>"));
        }
        add(format_args!("<path class=\"axis\" d=\"M{LEFT} {TOP}V{bottom}H{right}\"/>"));
        let (middle, below) = (LEFT + FRAME.0 / 2.0, bottom + 42.0);
        let name = escaped(&self.across.name);
        add(format_args!("<text x=\"{middle}\" y=\"{below}\" text-anchor=\"middle\">{name}</text>"));
        let (middle, name) = (TOP + FRAME.1 / 2.0, escaped(&self.up.name));
        add(format_args!(
            "<text transform=\"translate(18 {middle}) rotate(-90)\" text-anchor=\"middle\">{name}</text>"
        ));
        for (number, line) in self.lines.iter().enumerate().rev() {
            let points: Vec<String> =
                line.points.iter().map(|(at, value)| format!("{:.1} {:.1}", x(*at), y(*value))).collect();
            if !points.is_empty() {
                add(format_args!("<path class=\"line c{}\" d=\"M{}\"/>", number % COLOURS.len(), points.join("L")));
            }
        }
        for (number, line) in self.lines.iter().enumerate() {
            let left = LEFT + (number % 2) as f64 * (FRAME.0 / 2.0);
            let top = bottom + BOTTOM + (number / 2) as f64 * LEGEND;
            let (to, class) = (left + 24.0, number % COLOURS.len());
            add(format_args!("<path class=\"line c{class}\" d=\"M{left} {top}H{to}\"/>"));
            let (beside, middle) = (left + 32.0, top + 4.5);
            add(format_args!("<text x=\"{beside}\" y=\"{middle}\">{}</text>", escaped(&line.label)));
        }
        svg.push_str("</svg>\n");
        svg
    }

    /// The same for a terminal, so many characters wide and high, legend aside
    pub fn to_text(&self, width: usize, height: usize) -> String {
        let (across, up) = self.scales();
        let labels: Vec<(usize, String)> =
            up.ticks.iter().map(|tick| (row(up.place(*tick), height), shown(*tick))).collect();
        let margin = labels.iter().map(|(_, label)| label.chars().count()).max().unwrap_or_default();
        let (width, height) = (width.saturating_sub(margin + 2).max(10), height.max(3));
        let mut cells = vec![vec![' '; width]; height];
        for (number, line) in self.lines.iter().enumerate().rev() {
            let mark = MARKS[number % MARKS.len()];
            for (column, place) in columns(line, &across, &up, width) {
                cells[row(place, height)][column] = mark;
            }
        }
        let mut text = format!("{}\n", self.title);
        for (number, row) in cells.iter().enumerate() {
            let label = labels.iter().find(|(at, _)| *at == number).map_or("", |(_, label)| label.as_str());
            let line: String = row.iter().collect();
            text.push_str(&format!("{}{label} |{}\n", pad(margin, label), line.trim_end()));
        }
        text.push_str(&format!("{} +{}\n", " ".repeat(margin), "-".repeat(width)));
        let mut ruler = vec![' '; width + margin + 12];
        let mut free_from = 0;
        for tick in &across.ticks {
            let label = shown(*tick);
            let middle = margin + 2 + (across.place(*tick) * (width - 1) as f64).round() as usize;
            let start = middle.saturating_sub(label.chars().count() / 2);
            if start < free_from || start + label.chars().count() > ruler.len() {
                continue;
            }
            label.chars().enumerate().for_each(|(index, character)| ruler[start + index] = character);
            free_from = start + label.chars().count() + 1;
        }
        text.push_str(ruler.iter().collect::<String>().trim_end());
        text.push_str(&format!("\n{}{} / {}\n", " ".repeat(margin + 2), self.up.name, self.across.name));
        for (number, line) in self.lines.iter().enumerate() {
            text.push_str(&format!("{}{} {}\n", " ".repeat(margin + 2), MARKS[number % MARKS.len()], line.label));
        }
        text
    }

    fn scales(&self) -> (Scale, Scale) {
        let values = |pick: fn(&(f64, f64)) -> f64| -> Vec<f64> {
            self.lines.iter().flat_map(|line| line.points.iter().map(pick)).collect()
        };
        (Scale::new(&self.across, &values(|point| point.0)), Scale::new(&self.up, &values(|point| point.1)))
    }
}

/// Where a line runs in each column of a terminal, from 0 below to 1 above
fn columns(line: &Line, across: &Scale, up: &Scale, width: usize) -> Vec<(usize, f64)> {
    let points: Vec<(f64, f64)> =
        line.points.iter().map(|(at, value)| (across.place(*at) * (width - 1) as f64, up.place(*value))).collect();
    let mut places = Vec::new();
    for pair in points.windows(2) {
        let ((from, low), (to, high)) = (pair[0], pair[1]);
        for column in from.ceil() as usize..=to.floor() as usize {
            let share = if to > from { (column as f64 - from) / (to - from) } else { 1.0 };
            places.push((column.min(width - 1), low + (high - low) * share));
        }
    }
    places.extend(points.iter().map(|(at, place)| ((at.round() as usize).min(width - 1), *place)));
    places
}

fn row(place: f64, height: usize) -> usize {
    ((1.0 - place) * height.saturating_sub(1) as f64).round() as usize
}

fn pad(margin: usize, label: &str) -> String {
    " ".repeat(margin.saturating_sub(label.chars().count()))
}

/// An axis with its ends and ticks
struct Scale {
    is_logarithmic: bool,
    from: f64,
    to: f64,
    ticks: Vec<f64>,
}

impl Scale {
    fn new(axis: &Axis, values: &[f64]) -> Self {
        let usable = |value: &f64| value.is_finite() && (!axis.is_logarithmic || *value > 0.0);
        let least = values.iter().copied().filter(usable).fold(f64::INFINITY, f64::min);
        let most = values.iter().copied().filter(usable).fold(f64::NEG_INFINITY, f64::max);
        let (least, most) = if least <= most { (least, most) } else { (0.1, 1.0) };
        if axis.is_logarithmic {
            let (least, most) = axis.range.unwrap_or((least, most));
            return Self::logarithmic(least.max(f64::MIN_POSITIVE), most);
        }
        let (from, to) = axis.range.unwrap_or((least.min(0.0), most));
        let to = if to > from { to } else { from + 1.0 };
        let step = step((to - from) / TICKS);
        let first = (from / step).ceil() as i64;
        let last = (to / step + 1e-9).floor() as i64;
        Self { is_logarithmic: false, from, to, ticks: (first..=last).map(|tick| tick as f64 * step).collect() }
    }

    fn logarithmic(least: f64, most: f64) -> Self {
        let steps = |decade: i32| [1.0, 2.0, 5.0].map(|part| part * 10f64.powi(decade));
        let (low, high) = (least.log10().floor() as i32, most.log10().ceil() as i32);
        let all: Vec<f64> = (low..=high).flat_map(steps).collect();
        let from = all.iter().copied().rfind(|tick| *tick <= least * 1.0001).unwrap_or(least);
        let to = all.iter().copied().find(|tick| *tick >= most * 0.9999 && *tick > from).unwrap_or(from * 10.0);
        let ticks = all.into_iter().filter(|tick| (from..=to).contains(tick)).collect();
        Self { is_logarithmic: true, from, to, ticks }
    }

    /// From 0 to 1
    fn place(&self, value: f64) -> f64 {
        let place = match self.is_logarithmic {
            true if value <= 0.0 => 0.0,
            true => (value / self.from).ln() / (self.to / self.from).ln(),
            false => (value - self.from) / (self.to - self.from),
        };
        if place.is_finite() { place.clamp(0.0, 1.0) } else { 0.0 }
    }
}

/// The next of 1, 2, 5 and their decades
fn step(least: f64) -> f64 {
    let decade = 10f64.powf(least.max(f64::MIN_POSITIVE).log10().floor());
    let parts = [1.0, 2.0, 5.0, 10.0];
    parts.into_iter().map(|part| part * decade).find(|step| *step >= least * 0.999).unwrap_or(decade * 10.0)
}

/// A tick in as few digits as say it
fn shown(tick: f64) -> String {
    let rounded = (tick * 1e6).round() / 1e6;
    match rounded.abs() {
        size if size >= 1e6 => format!("{}M", rounded / 1e6),
        size if size >= 1e4 => format!("{}k", rounded / 1e3),
        _ => format!("{rounded}"),
    }
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

fn style() -> String {
    let colours = |pick: fn(&(&'static str, &'static str)) -> &'static str| -> String {
        COLOURS.iter().enumerate().map(|(number, pair)| format!(" .c{number} {{ stroke: {} }}", pick(pair))).collect()
    };
    format!(
        "<style>\n.ground {{ fill: #ffffff }} text {{ fill: #1f2328 }} .faint {{ fill: #59636e }}\n\
         .axis {{ stroke: #59636e; fill: none }} .grid {{ stroke: #e4e8ec }}\n\
         .line {{ fill: none; stroke-width: 2; stroke-linejoin: round }}{}\n\
         @media (prefers-color-scheme: dark) {{\n.ground {{ fill: #0d1117 }} text {{ fill: #e6edf3 }} \
         .faint {{ fill: #9198a1 }}\n.axis {{ stroke: #9198a1 }} .grid {{ stroke: #262c33 }}\n{}\n}}\n</style>\n",
        colours(|pair| pair.0),
        colours(|pair| pair.1),
    )
}

/// Each for a light and for a dark ground
const COLOURS: [(&str, &str); 8] = [
    ("#0969da", "#58a6ff"),
    ("#bc4c00", "#f0883e"),
    ("#1a7f37", "#56d364"),
    ("#8250df", "#bc8cff"),
    ("#cf222e", "#ff7b72"),
    ("#9a6700", "#e3b341"),
    ("#0a7d91", "#39c5cf"),
    ("#bf3989", "#f778ba"),
];
const MARKS: [char; 8] = ['*', 'o', '+', 'x', '#', '@', '%', '='];
const TICKS: f64 = 6.0;
const WIDTH: f64 = 880.0;
const FRAME: (f64, f64) = (780.0, 360.0);
const LEFT: f64 = 72.0;
const TOP: f64 = 64.0;
const BOTTOM: f64 = 68.0;
const LEGEND: f64 = 22.0;

#[cfg(test)]
mod tests {
    use super::*;

    fn plot() -> Plot {
        Plot {
            title: "Who knows <it>".to_owned(),
            subtitle: "seed 1".to_owned(),
            across: Axis { name: "seconds".to_owned(), is_logarithmic: false, range: None },
            up: Axis { name: "% of nodes".to_owned(), is_logarithmic: false, range: Some((0.0, 100.0)) },
            lines: vec![
                Line { label: "no loss".to_owned(), points: vec![(0.0, 0.0), (1.0, 50.0), (2.0, 100.0)] },
                Line { label: "5 % & more".to_owned(), points: vec![(0.0, 0.0), (4.0, 100.0)] },
            ],
        }
    }

    #[test]
    fn a_picture_has_its_axes_legend_and_both_grounds() {
        let svg = plot().to_svg();
        assert_eq!(svg.matches("class=\"line ").count(), 4, "two lines, and each in the legend: {svg}");
        for part in
            ["Who knows &lt;it&gt;", "5 % &amp; more", "prefers-color-scheme: dark", ">seconds<", ">100<", ">4<"]
        {
            assert!(svg.contains(part), "{part} is not in {svg}");
        }
        // Time 0 and share 0 are the lower left corner, time 4 and share 100 the upper right one
        assert!(svg.contains("d=\"M72.0 424.0L852.0 64.0\""), "{svg}");
    }

    #[test]
    fn a_terminal_has_it_too() {
        let text = plot().to_text(42, 11);
        let lines: Vec<&str> = text.lines().collect();
        assert!(lines[1].starts_with("100 |") && lines[1].ends_with('o'), "{text}");
        assert_eq!(lines[6].find('*').map(|at| at - 5), Some(9), "half know at a second, a quarter across:\n{text}");
        assert!(lines[11].starts_with("  0 |"), "{text}");
        assert!(text.contains("o 5 % & more"), "{text}");
        assert!(lines.iter().all(|line| line.chars().count() <= 54), "{text}");
    }

    #[test]
    fn ticks_are_round_and_within() {
        let ticks =
            |is_logarithmic, values: &[f64]| Scale::new(&Axis { is_logarithmic, ..Axis::default() }, values).ticks;
        assert_eq!(ticks(false, &[0.0, 10.0]), [0.0, 2.0, 4.0, 6.0, 8.0, 10.0]);
        assert_eq!(ticks(true, &[0.03, 4.0]), [0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0]);
        assert!(ticks(true, &[]).len() >= 2 && ticks(false, &[f64::NAN]).len() >= 2);
        assert_eq!([0.1 + 0.2, 25_000.0, 2e6].map(shown), ["0.3", "25k", "2M"]);
    }
}

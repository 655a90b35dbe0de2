//! Medians, ratios, and what a ratio says about a target.

use serde::{Deserialize, Serialize};

/// What a figure counts, and so which way is better
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Unit {
    PerSecond,
    Nanoseconds,
    KibiOctets,
    ProcessorNanoseconds,
    /// Wall time of a whole run
    Seconds,
    Octets,
}

impl Unit {
    pub(super) fn more_is_better(self) -> bool {
        self == Self::PerSecond
    }

    /// The name and the factor in which a figure about as large as `typical` reads well
    pub(super) fn scale(self, typical: f64) -> (&'static str, f64) {
        match self {
            Self::PerSecond if typical >= 1e6 => ("M/s", 1e-6),
            Self::PerSecond if typical >= 10e3 => ("k/s", 1e-3),
            Self::PerSecond => ("/s", 1.0),
            Self::Nanoseconds => ("us", 1e-3),
            Self::KibiOctets => ("KiB", 1.0),
            Self::ProcessorNanoseconds => ("cpu ns", 1.0),
            Self::Seconds if typical >= 1.0 => ("s", 1.0),
            Self::Seconds => ("ms", 1e3),
            Self::Octets if typical >= 1e6 => ("MB", 1e-6),
            Self::Octets if typical >= 10e3 => ("kB", 1e-3),
            Self::Octets => ("octets", 1.0),
        }
    }
}

/// What a measure must reach
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Target {
    /// Label of the side that the bound is a multiple of; `None`: the bound is the figure itself
    pub(super) against: Option<String>,
    /// At least this where more is better, at most this where less is
    pub(super) bound: f64,
    /// A rate that is enough even where the bound is missed
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) enough: Option<f64>,
}

impl Target {
    /// The figure to judge, a ratio unless the bound is absolute; `None` where the other side has no figure
    pub(super) fn reached(&self, ours: f64, other: impl FnOnce(&str) -> Option<f64>) -> Option<f64> {
        let reached = match &self.against {
            Some(label) => ours / other(label)?,
            None => ours,
        };
        // As large a part of the bound as it is of what is enough, if that is more
        let reached = self.enough.map_or(reached, |enough| reached.max(ours / enough * self.bound));
        reached.is_finite().then_some(reached)
    }

    pub(super) fn describe(&self, unit: Unit) -> String {
        let relation = if unit.more_is_better() { "at least" } else { "at most" };
        match &self.against {
            Some(label) => {
                let enough = self.enough.map_or_else(String::new, |enough| format!(", or {}/s", short(enough)));
                format!("{relation} {:.2} of {label}{enough}", self.bound)
            }
            None => {
                let (name, factor) = unit.scale(self.bound);
                format!("{relation} {} {name}", self.bound * factor)
            }
        }
    }
}

/// `ok`, or by how much a bound is missed
pub(super) fn verdict(unit: Unit, reached: f64, bound: f64) -> String {
    let missed = if unit.more_is_better() { 1.0 - reached / bound } else { reached / bound - 1.0 };
    let word = if unit.more_is_better() { "short" } else { "over" };
    match missed {
        missed if missed <= 0.0 => "ok".to_owned(),
        missed if missed < 0.095 => format!("**{word} by {:.1} %**", missed * 100.0),
        missed => format!("**{word} by {:.0} %**", missed * 100.0),
    }
}

/// How much worse than another's a ratio may come out that is to be no worse
///
/// Chosen, not measured: what ratios of medians of five runs differ by from one benchmark to the next.
pub(super) const NOISE: f64 = 0.1;

/// Not a number for no figures
pub(super) fn median(figures: &[f64]) -> f64 {
    let mut sorted = figures.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    match sorted.len() {
        0 => f64::NAN,
        even if even.is_multiple_of(2) => f64::midpoint(sorted[middle - 1], sorted[middle]),
        _ => sorted[middle],
    }
}

pub(super) fn least_and_most(figures: &[f64]) -> (f64, f64) {
    figures.iter().fold((f64::INFINITY, 0.0), |(least, most), figure| (figure.min(least), figure.max(most)))
}

/// `4.02 [3.90..4.10]`, or the figure alone if there was one run
pub(super) fn spread(figures: &[f64], scale: f64) -> String {
    let (least, most) = least_and_most(figures);
    match figures.len() {
        0 => "–".to_owned(),
        1 => short(least * scale),
        _ => format!("{} [{}..{}]", short(median(figures) * scale), short(least * scale), short(most * scale)),
    }
}

/// Three digits or so
pub(super) fn short(figure: f64) -> String {
    match figure.abs() {
        magnitude if magnitude >= 1000.0 => grouped(&format!("{figure:.0}")),
        magnitude if magnitude >= 100.0 => format!("{figure:.0}"),
        magnitude if magnitude >= 10.0 => format!("{figure:.1}"),
        _ => format!("{figure:.2}"),
    }
}

/// `1000000` as `1,000,000`
pub(super) fn grouped(digits: &str) -> String {
    let mut out = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_the_middle_or_the_mean_of_the_two_in_the_middle() {
        assert_eq!(median(&[3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(&[4.0, 1.0, 2.0, 3.0]), 2.5);
        assert!(median(&[]).is_nan());
    }

    #[test]
    fn more_is_better_for_rates_alone() {
        assert_eq!(verdict(Unit::PerSecond, 3.1, 3.0), "ok");
        assert_eq!(verdict(Unit::PerSecond, 2.64, 3.0), "**short by 12 %**");
        assert_eq!(verdict(Unit::Nanoseconds, 0.8, 0.8), "ok");
        assert_eq!(verdict(Unit::Nanoseconds, 0.82, 0.8), "**over by 2.5 %**");
        assert_eq!(verdict(Unit::KibiOctets, 9.6, 8.0), "**over by 20 %**");
        assert_eq!(verdict(Unit::ProcessorNanoseconds, 0.4, 0.5), "ok");
    }

    #[test]
    fn a_target_is_a_ratio_unless_absolute() {
        let ratio = Target { against: Some("libzmq".to_owned()), bound: 2.0, enough: None };
        assert_eq!(ratio.reached(6.0, |label| (label == "libzmq").then_some(4.0)), Some(1.5));
        assert_eq!(ratio.reached(6.0, |_| None), None);
        assert_eq!(ratio.reached(f64::NAN, |_| Some(4.0)), None);
        assert_eq!(Target { against: None, bound: 8.0, enough: None }.reached(6.0, |_| None), Some(6.0));
        assert_eq!(ratio.describe(Unit::PerSecond), "at least 2.00 of libzmq");
        assert_eq!(Target { against: None, bound: 8.0, enough: None }.describe(Unit::KibiOctets), "at most 8 KiB");
        let rate = Target { against: None, bound: 150e3, enough: None };
        assert_eq!(rate.describe(Unit::PerSecond), "at least 150 k/s");
    }

    #[test]
    fn what_is_enough_counts_where_the_bound_is_missed() {
        let target = Target { against: Some("disk".to_owned()), bound: 1.0, enough: Some(5000.0) };
        assert_eq!(target.reached(5000.0, |_| Some(20_000.0)), Some(1.0));
        assert_eq!(target.reached(4000.0, |_| Some(20_000.0)), Some(0.8));
        assert_eq!(target.reached(2000.0, |_| Some(1000.0)), Some(2.0));
        assert_eq!(target.describe(Unit::PerSecond), "at least 1.00 of disk, or 5,000/s");
    }

    #[test]
    fn spreads_read_well() {
        assert_eq!(spread(&[4e6, 5e6, 6e6], 1e-6), "5.00 [4.00..6.00]");
        assert_eq!(spread(&[58_123.0], 1e-3), "58.1");
        assert_eq!(spread(&[21_040.2], 1.0), "21,040");
        assert_eq!(spread(&[], 1.0), "–");
        assert_eq!(least_and_most(&[2.0, 1.0, 3.0]), (1.0, 3.0));
    }
}

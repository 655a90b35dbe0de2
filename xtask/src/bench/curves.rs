//! Cost as work grows: which works make a curve, and whether it bends worse than libzmq's.

use super::results::Results;
use super::statistics::NOISE;
use super::works::{LIBZMQ, OURS};

pub(super) struct Curve {
    pub(super) title: &'static str,
    pub(super) file: &'static str,
    /// What grows
    pub(super) grows: &'static str,
    /// What the figures count
    pub(super) unit: &'static str,
    /// How much of it, and the work that measured this
    points: Vec<(u64, String)>,
}

/// How far a curve came down from its beginning to its end: 0.5 is to half
#[derive(Debug, PartialEq)]
pub(super) struct Bend {
    pub(super) ours: f64,
    pub(super) libzmq: f64,
}

impl Bend {
    pub(super) fn is_no_worse(&self) -> bool {
        self.ours >= self.libzmq * (1.0 - NOISE)
    }
}

pub(super) fn curves() -> Vec<Curve> {
    let points = |from: &[u64], name: &dyn Fn(u64) -> String| from.iter().map(|at| (*at, name(*at))).collect();
    let usual = "PUSH/PULL tcp 64".to_owned();
    let peers = [1, 10, 100, 1000];
    vec![
        Curve {
            title: "Many PUSH to one PULL, tcp, 64 octets",
            file: "peers-push-pull",
            grows: "PUSH sockets",
            unit: "messages received a second",
            points: points(&peers, &|peers| match peers {
                1 => usual.clone(),
                peers => format!("{peers} PUSH to one PULL"),
            }),
        },
        Curve {
            title: "One PUB to many SUB, tcp, 64 octets",
            file: "peers-pub-sub",
            grows: "SUB sockets",
            unit: "deliveries a second",
            points: points(&peers, &|peers| format!("PUB to {peers} SUB")),
        },
        Curve {
            title: "ROUTER echo, tcp, 64 octets, one in flight for each DEALER",
            file: "peers-router-1",
            grows: "DEALER connections",
            unit: "echoes a second",
            points: points(&peers, &|peers| format!("ROUTER echo, {peers} DEALER, 1 in flight")),
        },
        Curve {
            title: "ROUTER echo, tcp, 64 octets, ten in flight for each DEALER",
            file: "peers-router-10",
            grows: "DEALER connections",
            unit: "echoes a second",
            points: points(&peers, &|peers| format!("ROUTER echo, {peers} DEALER, 10 in flight")),
        },
        Curve {
            title: "One PUB to one SUB with many subscriptions, tcp, 64 octets",
            file: "subscriptions",
            grows: "subscriptions, each of which matches in turn",
            unit: "deliveries a second",
            points: points(&[1, 10, 100, 1000, 10_000, 100_000, 1_000_000], &|subscriptions| {
                format!("PUB to {subscriptions} subscriptions")
            }),
        },
        Curve {
            title: "PUSH to PULL, tcp, messages of many frames of 64 octets",
            file: "frames",
            grows: "frames of a message",
            unit: "messages received a second",
            points: points(&[1, 2, 5, 10, 30, 100], &|frames| match frames {
                1 => usual.clone(),
                frames => format!("PUSH/PULL of {frames} frames"),
            }),
        },
    ]
}

impl Curve {
    /// The points that a side has
    pub(super) fn line(&self, results: &Results, label: &str) -> Vec<(f64, f64)> {
        let point = |(at, name): &(u64, String)| Some((*at as f64, results.work(name)?.median(label, 0)?));
        self.points.iter().filter_map(point).collect()
    }

    /// From the first to the last point that both have; `None` if that is one point or none
    pub(super) fn bend(&self, results: &Results) -> Option<Bend> {
        let (ours, libzmq) = (self.line(results, OURS), self.line(results, LIBZMQ));
        let figure = |line: &[(f64, f64)], at: f64| line.iter().find(|point| point.0 == at).map(|point| point.1);
        let both: Vec<(f64, f64)> = ours.iter().filter_map(|(at, ours)| Some((*ours, figure(&libzmq, *at)?))).collect();
        match both[..] {
            [first, .., last] => Some(Bend { ours: last.0 / first.0, libzmq: last.1 / first.1 }),
            _ => None,
        }
    }

    #[cfg(test)]
    fn names(&self) -> impl Iterator<Item = &str> {
        self.points.iter().map(|(_, name)| name.as_str())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use serde_json::Value;

    use super::super::results::{Run, SideResult, WorkResult};
    use super::super::works::works;
    use super::*;

    #[test]
    fn every_point_is_a_work_and_every_work_for_curves_is_a_point() {
        let curves = curves();
        let points: HashSet<&str> = curves.iter().flat_map(Curve::names).collect();
        let works = works();
        let names: HashSet<&str> = works.iter().map(|work| work.name.as_str()).collect();
        assert!(points.is_subset(&names), "{:?}", points.difference(&names));
        assert!(works.iter().filter(|work| work.is_point).all(|work| points.contains(work.name.as_str())));
    }

    #[test]
    fn a_bend_is_the_end_in_parts_of_the_beginning() {
        let side = |label: &str, figure: f64| SideResult {
            label: label.to_owned(),
            runs: vec![Run {
                count: 1,
                figures: vec![Some(figure)],
                cpu_ns_per_message: None,
                telling: 0,
                lines: vec![],
            }],
            failures: vec![],
        };
        let work = |name: &str, sides: Vec<SideResult>| WorkResult {
            group: String::new(),
            name: name.to_owned(),
            measures: vec![],
            sides,
        };
        let mut results = Results {
            suite: "engine".to_owned(),
            when: String::new(),
            rounds: 1,
            quick: false,
            order: String::new(),
            machine: Value::Null,
            works: vec![work("PUB to 1 SUB", vec![side(OURS, 8.0), side(LIBZMQ, 4.0)])],
        };
        let curves = curves();
        let curve = curves.iter().find(|curve| curve.file == "peers-pub-sub").unwrap();
        assert_eq!(curve.bend(&results), None);
        results.works.push(work("PUB to 100 SUB", vec![side(OURS, 4.0), side(LIBZMQ, 1.0)]));
        // libzmq has no figure here, so that the curves end before
        results.works.push(work("PUB to 1000 SUB", vec![side(OURS, 1.0)]));
        let bend = curve.bend(&results).unwrap();
        assert_eq!(bend, Bend { ours: 0.5, libzmq: 0.25 });
        assert!(bend.is_no_worse());
        assert!(Bend { ours: 0.46, libzmq: 0.5 }.is_no_worse());
        assert!(!Bend { ours: 0.44, libzmq: 0.5 }.is_no_worse());
        assert_eq!(curve.line(&results, OURS), [(1.0, 8.0), (100.0, 4.0), (1000.0, 1.0)]);
    }
}

//! The pictures: an overview, bars by size and by percentile, the distribution of latency, and the curves.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

use super::chart::{Axis, Bar, Line, Panel, bars, lines};
use super::curves::{Curve, curves};
use super::encrypted::CURVE_ROUND_TRIP;
use super::gossip::{CZMQ, CZMQ_DEFAULTS};
use super::overview;
use super::results::{Results, WorkResult};
use super::services::{MAJORTOMO, NATS, NATS_BARE, SEQUENTIAL, STORE};
use super::statistics::{Unit, least_and_most, median, short};
use super::works::{
    BLOCKING_ECHO, CRATES, INPROC_ONE_THREAD, INPROC_TWO_THREADS, LIBZMQ, LIBZMQ_CURVE, LIBZMQ_NONE_FROZEN,
    NONE_FROZEN, OURS, OURS_CURVE, SLOW_SUBSCRIBER, TOKIO_ECHO,
};

/// A picture that was drawn
pub(super) struct Picture {
    /// Its name without `.svg`, in the folder beside the raw results
    pub(super) file: String,
    pub(super) title: String,
}

/// Draws all that the results have figures for into a folder beside them
pub(super) fn draw_all(results: &Results, raw: &Path) -> Result<Vec<Picture>> {
    let folder = raw.with_extension("");
    std::fs::create_dir_all(&folder).with_context(|| format!("can't make the folder {}", folder.display()))?;
    let mut album = Album { folder, pictures: Vec::new() };
    let factors = overview::factors(results);
    let rival = results.suite().rival();
    let title = format!("How many times better than {rival}, and what was asked for");
    album.add("overview", &title, &factors, |path, factors| overview::draw(path, &title, rival, factors))?;
    for (file, title, works) in BARS {
        let panels: Vec<Panel> = works
            .iter()
            .filter_map(|(name, title)| results.work(name).map(|work| (work, *title)))
            .flat_map(|(work, title)| rates(work, title))
            .collect();
        album.add(file, title, &panels, |path, panels| bars(path, title, panels))?;
    }
    for (file, title, name) in LATENCIES {
        let panels = results.work(name).map(latencies).unwrap_or_default();
        album.add(file, title, &panels, |path, panels| bars(path, title, panels))?;
    }
    let half = results.work(HALF_LOAD);
    let spread = half.map(distribution).unwrap_or_default();
    let title = format!("REQ/REP round trips at half load, tcp, 64 octets{}", half.map(rate).unwrap_or_default());
    album.add("latency-distribution", &title, &spread, |path, spread| {
        lines(path, &title, Axis::Quantiles, Axis::Microseconds, spread)
    })?;
    for curve in curves() {
        album.add(curve.file, curve.title, &curve_lines(&curve, results), |path, sides| {
            lines(path, curve.title, Axis::Decades(curve.grows), Axis::Measured(curve.unit), sides)
        })?;
    }
    Ok(album.pictures)
}

/// The folder of pictures, and what is in it so far
struct Album {
    folder: PathBuf,
    pictures: Vec<Picture>,
}

impl Album {
    /// Draws if there is something to draw
    fn add<T>(
        &mut self,
        file: &str,
        title: &str,
        what: &[T],
        draw: impl FnOnce(&Path, &[T]) -> Result<()>,
    ) -> Result<()> {
        if !what.is_empty() {
            draw(&self.folder.join(format!("{file}.svg")), what)?;
            self.pictures.push(Picture { file: file.to_owned(), title: title.to_owned() });
        }
        Ok(())
    }
}

/// A panel for each measure of a work that is not processor time
fn rates(work: &WorkResult, title: &str) -> Vec<Panel> {
    let measures = work.measures.iter().enumerate();
    let shown = measures.filter(|(_, measure)| measure.unit != Unit::ProcessorNanoseconds);
    let panels = shown.map(|(number, measure)| {
        let typical = work.median(OURS, number).or_else(|| work.median(LIBZMQ, number)).unwrap_or_default();
        let (unit, scale) = match measure.unit {
            Unit::PerSecond if typical >= 1e6 => ("millions a second", 1e-6),
            Unit::PerSecond if typical >= 10e3 => ("thousands a second", 1e-3),
            Unit::PerSecond => ("a second", 1.0),
            Unit::KibiOctets => ("KiB, less is better", 1.0),
            Unit::Nanoseconds | Unit::ProcessorNanoseconds => ("microseconds, less is better", 1e-3),
            Unit::Seconds => ("seconds, less is better", 1.0),
            Unit::Octets if typical >= 1e6 => ("MB, less is better", 1e-6),
            Unit::Octets => ("octets, less is better", 1.0),
        };
        let bars = work.sides.iter().filter_map(|side| {
            let figures: Vec<f64> = side.figures(number).iter().map(|figure| figure * scale).collect();
            (!figures.is_empty()).then(|| bar(&side.label, &figures))
        });
        let title = match measure.name.as_str() {
            "" => title.to_owned(),
            name => format!("{title}: {name}"),
        };
        Panel { title, unit: unit.to_owned(), bars: bars.collect() }
    });
    panels.filter(|panel| !panel.bars.is_empty()).collect()
}

/// Panels of p50, p99 and p99.9
fn latencies(work: &WorkResult) -> Vec<Panel> {
    let percentiles = [("p50", "p50_ns"), ("p99", "p99_ns"), ("p99.9", "p99_9_ns")];
    let panels = percentiles.map(|(title, key)| {
        let bars = work.sides.iter().filter_map(|side| {
            let told = side.runs.iter().filter_map(|run| run.lines.get(run.telling)?[key].as_f64());
            let figures: Vec<f64> = told.map(|time| time * 1e-3).collect();
            (!figures.is_empty()).then(|| bar(&side.label, &figures))
        });
        Panel {
            title: title.to_owned(),
            unit: "microseconds for a round trip, less is better".to_owned(),
            bars: bars.collect(),
        }
    });
    panels.into_iter().filter(|panel| !panel.bars.is_empty()).collect()
}

fn bar(label: &str, figures: &[f64]) -> Bar {
    let (least, most) = least_and_most(figures);
    Bar { label: label.to_owned(), value: median(figures), least, most, colour: colour(label) }
}

fn distribution(work: &WorkResult) -> Vec<Line> {
    let lines = work.sides.iter().map(|side| {
        let quantiles = side.quantiles().into_iter().filter(|(fraction, _)| *fraction < 1.0);
        let points = quantiles.map(|(fraction, time)| (1.0 / (1.0 - fraction), time * 1e-3)).collect();
        Line { label: side.label.clone(), colour: colour(&side.label), points, dots: false }
    });
    lines.filter(|line| !line.points.is_empty()).collect()
}

fn rate(work: &WorkResult) -> String {
    let rate = work.sides.iter().flat_map(|side| &side.runs).find_map(|run| run.lines.last()?["rate"].as_u64());
    rate.map(|rate| format!(", {} a second", short(rate as f64))).unwrap_or_default()
}

fn curve_lines(curve: &Curve, results: &Results) -> Vec<Line> {
    let mut labels = vec![OURS, LIBZMQ];
    labels.extend(CRATES);
    labels.push(super::works::EPOLL_ECHO);
    let lines = labels.into_iter().map(|label| Line {
        label: label.to_owned(),
        colour: colour(label),
        points: curve.line(results, label),
        dots: true,
    });
    // One point is no curve
    lines.filter(|line| line.points.len() > 1).collect()
}

/// Chosen to be told apart on white, also by those who don't see red or green
fn colour(label: &str) -> (u8, u8, u8) {
    match label {
        OURS => (0, 114, 178),
        NONE_FROZEN | OURS_CURVE => (110, 180, 220),
        LIBZMQ => (213, 94, 0),
        LIBZMQ_NONE_FROZEN | LIBZMQ_CURVE => (240, 165, 110),
        NATS => (213, 94, 0),
        NATS_BARE => (240, 165, 110),
        MAJORTOMO => (0, 158, 115),
        CZMQ => (213, 94, 0),
        CZMQ_DEFAULTS => (240, 165, 110),
        STORE => (110, 180, 220),
        "zeromq" => (0, 158, 115),
        "rzmq" => (184, 96, 150),
        BLOCKING_ECHO => (175, 180, 188),
        TOKIO_ECHO => (105, 112, 122),
        _ => (135, 141, 150),
    }
}

const HALF_LOAD: &str = "REQ/REP tcp 64 at half load";

/// File, title, and the works that are its panels with their titles
type Bars = (&'static str, &'static str, &'static [(&'static str, &'static str)]);

const BARS: &[Bars] = &[
    (
        "throughput-tcp",
        "PUSH/PULL throughput over tcp, one message per call",
        &[
            ("PUSH/PULL tcp 64", "64 octets"),
            ("PUSH/PULL tcp 1 KiB", "1 KiB"),
            ("PUSH/PULL tcp 64 KiB", "64 KiB"),
            ("PUSH/PULL tcp 64 send_many/recv_many", "64 octets, ours with send_many and recv_many"),
            ("PUSH/PULL tcp 64 blocking API", "64 octets, ours by the blocking API"),
        ],
    ),
    (
        "throughput-ipc",
        "PUSH/PULL throughput over ipc, one message per call",
        &[("PUSH/PULL ipc 64", "64 octets"), ("PUSH/PULL ipc 1 KiB", "1 KiB"), ("PUSH/PULL ipc 64 KiB", "64 KiB")],
    ),
    (
        "throughput-inproc",
        "PUSH/PULL throughput over inproc, one message per call",
        &[("PUSH/PULL inproc 64", "64 octets"), ("PUSH/PULL inproc 64 KiB", "64 KiB")],
    ),
    (
        "pub-sub",
        "PUB/SUB over tcp, 64 octets, deliveries",
        &[
            ("PUB to 1 SUB", "1 SUB"),
            ("PUB to 10 SUB", "10 SUB"),
            ("PUB to 100 SUB", "100 SUB"),
            ("PUB to 100 SUB, one matches, 10,000 subscriptions", "100 SUB of which one matches, 10,000 subscriptions"),
        ],
    ),
    (
        "slow-subscriber",
        "Deliveries to three SUB that read, beside one that never does",
        &[(SLOW_SUBSCRIBER, "PUB at full rate, drops allowed")],
    ),
    (
        "proxy",
        "Proxies over tcp",
        &[
            ("proxy XSUB/XPUB 64", "XSUB/XPUB, 64 octets"),
            ("proxy XSUB/XPUB 64 KiB", "XSUB/XPUB, 64 KiB"),
            ("proxy ROUTER/DEALER 64", "ROUTER/DEALER, 64 octets, 100 in flight"),
            ("proxy ROUTER/DEALER 64 KiB", "ROUTER/DEALER, 64 KiB, 100 in flight"),
        ],
    ),
    (
        "connections",
        "Connections over tcp",
        &[
            ("5,000 idle connections", "5,000 idle connections"),
            ("connect, one echo, close", "connect, one echo, close"),
        ],
    ),
    (
        "throughput-curve",
        "PUSH/PULL throughput over tcp with CURVE, one message per call",
        &[
            ("CURVE PUSH/PULL tcp 64", "64 octets"),
            ("CURVE PUSH/PULL tcp 1 KiB", "1 KiB"),
            ("CURVE PUSH/PULL tcp 64 KiB", "64 KiB"),
        ],
    ),
    ("pub-sub-curve", "PUB/SUB over tcp with CURVE, 64 octets, deliveries", &[("CURVE PUB to 10 SUB", "10 SUB")]),
    (
        "connections-curve",
        "Connections over tcp with CURVE",
        &[
            ("CURVE connect, one echo, close", "connect, one echo, close"),
            ("CURVE 1,000 connections", "1,000 connections, 64 at a time"),
        ],
    ),
    (
        "throughput-tls",
        "PUSH/PULL throughput over TLS, one message per call",
        &[("TLS PUSH/PULL 64", "64 octets"), ("TLS PUSH/PULL 1 KiB", "1 KiB"), ("TLS PUSH/PULL 64 KiB", "64 KiB")],
    ),
    (
        "connections-tls",
        "Connections with TLS, both ends with a certificate, and with CURVE",
        &[
            ("TLS connect, one echo, close", "connect, one echo, close"),
            ("TLS 1,000 connections", "1,000 connections, 64 at a time"),
        ],
    ),
    (
        "requests",
        "Requests through a broker over tcp, 64 octets",
        &[("requests, 64 in flight", "64 in flight"), ("requests, 256 in flight", "256 in flight")],
    ),
    (
        "stored",
        "Requests stored before they are answered, 256 octets, fsync",
        &[
            ("stored, lock-step", "one after the other"),
            ("stored, 256 in flight", "256 in flight"),
            ("stored, 1,024 in flight", "1,024 in flight"),
        ],
    ),
    (
        "memory-services",
        "Memory of a broker",
        &[("100,000 waiting requests", "100,000 waiting requests"), ("10,000 idle workers", "10,000 idle workers")],
    ),
    (
        "gossip-in-all",
        "Networks of gossip nodes with 1,000 tuples in all",
        &[("ring of 50", "ring of 50"), ("star of 50", "star of 50"), ("mesh of 50", "random mesh of 50")],
    ),
    (
        "gossip-each",
        "Networks of gossip nodes with 1,000 tuples of each",
        &[
            ("ring of 50, 1,000 tuples a node", "ring of 50"),
            ("star of 50, 1,000 tuples a node", "star of 50"),
            ("mesh of 50, 1,000 tuples a node", "random mesh of 50"),
        ],
    ),
];

/// File, title, work
const LATENCIES: &[(&str, &str, &str)] = &[
    ("latency-tcp", "REQ/REP round trip over tcp, 64 octets", "REQ/REP tcp 64"),
    ("latency-ipc", "REQ/REP round trip over ipc, 64 octets", "REQ/REP ipc 64"),
    (
        "latency-tcp-one-core",
        "REQ/REP round trip over tcp, 64 octets, both ends on one core",
        "REQ/REP tcp 64 on one core",
    ),
    (
        "latency-ipc-one-core",
        "REQ/REP round trip over ipc, 64 octets, both ends on one core",
        "REQ/REP ipc 64 on one core",
    ),
    ("latency-inproc", "REQ/REP round trip over inproc, 64 octets, ours on one thread", INPROC_ONE_THREAD),
    (
        "latency-inproc-threads",
        "REQ/REP round trip over inproc, 64 octets, a thread for each socket",
        INPROC_TWO_THREADS,
    ),
    (
        "latency-blocking",
        "REQ/REP round trip over tcp, 64 octets, ours by the blocking API",
        "REQ/REP tcp 64 blocking API",
    ),
    ("latency-requests", "Round trip through a broker over tcp, 64 octets", SEQUENTIAL),
    ("latency-curve", "REQ/REP round trip over tcp with CURVE, 64 octets", CURVE_ROUND_TRIP),
];

#[cfg(test)]
mod tests {
    use super::super::encrypted::{curve_works, tls_works};
    use super::super::gossip::gossip_works;
    use super::super::services::service_works;
    use super::super::works::works;
    use super::*;

    #[test]
    fn every_picture_is_of_works_that_exist() {
        let works: Vec<_> = works()
            .into_iter()
            .chain(curve_works())
            .chain(tls_works())
            .chain(service_works())
            .chain(gossip_works())
            .collect();
        let named = BARS.iter().flat_map(|(_, _, panels)| panels.iter().map(|(name, _)| *name));
        let named = named.chain(LATENCIES.iter().map(|(_, _, name)| *name)).chain([HALF_LOAD]);
        for name in named {
            assert!(works.iter().any(|work| work.name == name), "{name}");
        }
    }
}

//! The works of `cargo xtask bench curve` and `cargo xtask bench tls`.

use super::statistics::Unit;
use super::works::{Api, BARE_TLS, Kind, LIBZMQ, Pick, Placement, Security, Transport, Work, of, size_name};

/// CURVE against libzmq's, and in the same run what must not get worse: the same without encryption
pub(super) fn curve_works() -> Vec<Work> {
    let mut works = Vec::new();
    for (size, bound) in SIZES.into_iter().zip([2.0, 3.0, 1.5]) {
        let work = push_pull("CURVE PUSH/PULL", format!("CURVE PUSH/PULL tcp {}", size_name(size)), size);
        let work = work.secured(Security::Curve).rate([of(LIBZMQ, bound)]);
        works.push(if size == 64 { work.ask("cpu", Unit::ProcessorNanoseconds, Pick::Cpu, []) } else { work });
    }
    works.extend(unencrypted());
    let curve = |group, name, kind| Work::new(group, name, kind).secured(Security::Curve).quick();
    let round_trips =
        Kind::ReqRep { transport: Transport::Tcp, size: 64, api: Api::Async, placement: Placement::Anywhere };
    let publishing = Kind::Publish { subscribers: 10, subscriptions: 1, topics: 1 };
    works.extend([
        curve("CURVE REQ/REP", CURVE_ROUND_TRIP, round_trips).latency([]),
        curve("CURVE PUB/SUB", "CURVE PUB to 10 SUB", publishing).rate([]),
        curve("CURVE connections", "CURVE connect, one echo, close", Kind::ConnectEcho).rate([of(LIBZMQ, 1.2)]),
        curve("CURVE connections", "CURVE 1,000 connections", Kind::Handshakes { connections: 1000 }).handshakes(),
    ]);
    works
}

/// TLS against bare tokio-rustls; libzmq has none, so that its CURVE stands beside the handshakes
pub(super) fn tls_works() -> Vec<Work> {
    let mut works = Vec::new();
    for size in SIZES {
        let work = push_pull("TLS PUSH/PULL", format!("TLS PUSH/PULL {}", size_name(size)), size);
        // The floor writes blocks of 64 KiB whatever the size of a message, so that only there it is the same work
        works.push(work.secured(Security::Tls).rate((size == 65_536).then(|| of(BARE_TLS, 0.8))));
    }
    works.extend(unencrypted());
    let tls = |name, kind| Work::new("TLS connections", name, kind).secured(Security::Tls).quick();
    works.extend([
        tls("TLS connect, one echo, close", Kind::ConnectEcho).rate([]),
        tls("TLS 1,000 connections", Kind::Handshakes { connections: 1000 }).handshakes(),
    ]);
    works
}

/// As in the engine's table, where they have the same names and targets
fn unencrypted() -> impl Iterator<Item = Work> {
    SIZES.into_iter().zip([3.0, 2.0, 1.3]).map(|(size, bound)| {
        let name = format!("PUSH/PULL tcp {}", size_name(size));
        push_pull("PUSH/PULL without encryption", name, size).rate([of(LIBZMQ, bound)])
    })
}

fn push_pull(group: &'static str, name: String, size: usize) -> Work {
    let kind = Kind::PushPull { transport: Transport::Tcp, size, batch: 1, frames: 1, peers: 1, api: Api::Async };
    Work::new(group, name, kind).quick()
}

impl Work {
    fn handshakes(self) -> Self {
        self.ask("handshakes", Unit::PerSecond, Pick::Told("per_second"), []).ask(
            "memory each",
            Unit::KibiOctets,
            Pick::Seen("kib_each"),
            [],
        )
    }
}

pub(super) const CURVE_ROUND_TRIP: &str = "CURVE REQ/REP tcp 64";

const SIZES: [usize; 3] = [64, 1024, 65_536];

#[cfg(test)]
mod tests {
    use super::super::works::works;
    use super::*;

    #[test]
    fn what_is_measured_without_encryption_is_what_the_engine_must_reach() {
        let engine = works();
        for work in unencrypted() {
            let same = engine.iter().find(|other| other.name == work.name).unwrap();
            assert!(same.kind == work.kind, "{}", work.name);
            assert_eq!(same.measures[0].targets, work.measures[0].targets, "{}", work.name);
        }
    }

    #[test]
    fn names_are_unique() {
        for works in [curve_works(), tls_works()] {
            let names: std::collections::HashSet<&str> = works.iter().map(|work| work.name.as_str()).collect();
            assert_eq!(names.len(), works.len());
        }
    }
}

//! The engine's table of works: what is measured, on which sides, and what must come out.
//!
//! `encrypted.rs` has those with CURVE and TLS, `services.rs` those of services, `gossip.rs` those of networks.

use super::gossip::Gossip;
use super::services::{DISK, Service};
use super::statistics::{Target, Unit};

/// One thing to measure
pub(super) struct Work {
    pub(super) group: &'static str,
    pub(super) name: String,
    pub(super) kind: Kind,
    pub(super) measures: Vec<Ask>,
    /// Part of `--quick`
    pub(super) quick: bool,
    /// Only us and libzmq: a point of a curve
    pub(super) is_point: bool,
    pub(super) security: Security,
}

/// One figure of a work, and its targets
pub(super) struct Ask {
    pub(super) name: &'static str,
    pub(super) unit: Unit,
    pub(super) pick: Pick,
    pub(super) targets: Vec<Target>,
}

/// Where a figure stands
#[derive(Clone, Copy)]
pub(super) enum Pick {
    /// A number that the telling role prints
    Told(&'static str),
    /// One that it prints if it came to that
    MayTell(&'static str),
    /// A number that the driver finds out itself
    Seen(&'static str),
    /// Processor time of both ends
    Cpu,
}

/// What happens in a run; `script.rs` says by which roles
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    PushPull {
        transport: Transport,
        size: usize,
        batch: usize,
        frames: usize,
        peers: usize,
        api: Api,
    },
    InprocThroughput {
        size: usize,
    },
    ReqRep {
        transport: Transport,
        size: usize,
        api: Api,
        placement: Placement,
    },
    /// Threads are ours and rzmq's: libzmq's calls block, so that it always has two
    InprocLatency {
        size: usize,
        threads: usize,
    },
    /// `subscriptions` are each subscriber's; `topics` are those that are published
    Publish {
        subscribers: usize,
        subscriptions: usize,
        topics: usize,
    },
    SlowSubscriber,
    Router {
        connections: usize,
        in_flight: usize,
    },
    Proxy {
        kind: &'static str,
        size: usize,
    },
    Idle {
        connections: usize,
    },
    ConnectEcho,
    /// Many clients at once to one server, each side's own
    Handshakes {
        connections: usize,
    },
    /// Through a broker; `services.rs` has them
    Service(Service),
    /// Nodes that tell each other; `gossip.rs` has them
    Gossip(Gossip),
}

/// How connections are protected
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Security {
    None,
    Curve,
    /// Both ends show a certificate
    Tls,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Transport {
    Tcp,
    Ipc,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Api {
    Async,
    Blocking,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Placement {
    Anywhere,
    /// Both ends on one core
    OneCore,
    /// Requests by the clock, half as many as libzmq does one after the other
    HalfLoad,
}

pub(super) const OURS: &str = "tidings";
pub(super) const LIBZMQ: &str = "libzmq";
pub(super) const CRATES: [&str; 2] = ["zeromq", "rzmq"];
pub(super) const TOKIO_ECHO: &str = "tokio echo";
pub(super) const BLOCKING_ECHO: &str = "blocking echo";
pub(super) const BULK_COPY: &str = "bulk copy";
pub(super) const CHANNEL: &str = "channel";
pub(super) const EPOLL_ECHO: &str = "epoll echo";
pub(super) const RAW_ACCEPT: &str = "raw accept";
pub(super) const CIPHER: &str = "cipher alone";
pub(super) const BARE_TLS: &str = "tokio-rustls";
pub(super) const NONE_FROZEN: &str = "tidings, none frozen";
pub(super) const LIBZMQ_NONE_FROZEN: &str = "libzmq, none frozen";
pub(super) const OURS_CURVE: &str = "tidings, CURVE";
pub(super) const LIBZMQ_CURVE: &str = "libzmq, CURVE";

pub(super) const FLOORS: [&str; 9] =
    [TOKIO_ECHO, BLOCKING_ECHO, BULK_COPY, CHANNEL, EPOLL_ECHO, RAW_ACCEPT, CIPHER, BARE_TLS, DISK];
pub(super) const INPROC_ONE_THREAD: &str = "REQ/REP inproc 64, one thread";
pub(super) const INPROC_TWO_THREADS: &str = "REQ/REP inproc 64, two threads";
pub(super) const SLOW_SUBSCRIBER: &str = "PUB to 3 SUB and a frozen one";
pub(super) const MEMORY_GROWTH: &str = "memory growth";
/// The group of those works that are there for the curves
pub(super) const GROWTH: &str = "Cost as work grows";

/// Every work, in the order of the table; targets are those of "What it must show"
pub(super) fn works() -> Vec<Work> {
    let mut works = Vec::new();
    push_pull(&mut works);
    req_rep(&mut works);
    publish(&mut works);
    router(&mut works);
    proxy(&mut works);
    connections(&mut works);
    curves(&mut works);
    works
}

fn push_pull(works: &mut Vec<Work>) {
    let usual = |transport, size| Kind::PushPull { transport, size, batch: 1, frames: 1, peers: 1, api: Api::Async };
    let group = "PUSH/PULL";
    for (transport, size, bound) in [
        (Transport::Tcp, 64, Some(3.0)),
        (Transport::Tcp, 1024, Some(2.0)),
        (Transport::Tcp, 65_536, Some(1.3)),
        (Transport::Ipc, 64, Some(3.0)),
        (Transport::Ipc, 1024, None),
        (Transport::Ipc, 65_536, Some(1.3)),
    ] {
        let name = format!("PUSH/PULL {} {}", transport.name(), size_name(size));
        let mut work = Work::new(group, name, usual(transport, size)).rate(bound.map(|bound| of(LIBZMQ, bound)));
        if transport == Transport::Tcp {
            work = work.quick();
        }
        if transport == Transport::Tcp && size == 64 {
            // "Processor time per message (user + system, both ends), 64 octets tcp"
            work = work.ask("cpu", Unit::ProcessorNanoseconds, Pick::Cpu, [of(LIBZMQ, 0.5)]);
        }
        works.push(work);
    }
    let batch =
        Kind::PushPull { transport: Transport::Tcp, size: 64, batch: 100, frames: 1, peers: 1, api: Api::Async };
    let blocking =
        Kind::PushPull { transport: Transport::Tcp, size: 64, batch: 1, frames: 1, peers: 1, api: Api::Blocking };
    works.extend([
        Work::new(group, "PUSH/PULL tcp 64 send_many/recv_many", batch).rate([of(LIBZMQ, 4.0)]).quick(),
        Work::new(group, "PUSH/PULL inproc 64", Kind::InprocThroughput { size: 64 }).rate([of(LIBZMQ, 2.0)]).quick(),
        Work::new(group, "PUSH/PULL inproc 64 KiB", Kind::InprocThroughput { size: 65_536 }).rate([]),
        Work::new(group, "PUSH/PULL tcp 64 blocking API", blocking).rate([of(LIBZMQ, 2.0)]),
    ]);
}

fn req_rep(works: &mut Vec<Work>) {
    let kind = |transport, api, placement| Kind::ReqRep { transport, size: 64, api, placement };
    let group = "REQ/REP";
    let (tcp, ipc) = (Transport::Tcp, Transport::Ipc);
    works.extend([
        Work::new(group, "REQ/REP tcp 64", kind(tcp, Api::Async, Placement::Anywhere))
            .latency([of(LIBZMQ, 0.8), of(TOKIO_ECHO, 1.1)])
            .quick(),
        Work::new(group, "REQ/REP ipc 64", kind(ipc, Api::Async, Placement::Anywhere))
            .latency([of(LIBZMQ, 0.7), of(TOKIO_ECHO, 1.1)]),
        Work::new(group, "REQ/REP tcp 64 on one core", kind(tcp, Api::Async, Placement::OneCore))
            .latency([of(LIBZMQ, 0.5), of(TOKIO_ECHO, 1.25)])
            .quick(),
        Work::new(group, "REQ/REP ipc 64 on one core", kind(ipc, Api::Async, Placement::OneCore))
            .latency([of(LIBZMQ, 0.5), of(TOKIO_ECHO, 1.25)]),
        // Both sockets as tasks of one runtime, which is how a Rust program holds them
        Work::new(group, INPROC_ONE_THREAD, Kind::InprocLatency { size: 64, threads: 1 })
            .latency([of(LIBZMQ, 0.25)])
            .quick(),
        // What waking a thread costs is the most of it, as with libzmq
        Work::new(group, INPROC_TWO_THREADS, Kind::InprocLatency { size: 64, threads: 2 }).latency([]).quick(),
        Work::new(group, "REQ/REP tcp 64 blocking API", kind(tcp, Api::Blocking, Placement::Anywhere))
            .latency([of(LIBZMQ, 1.0)]),
        Work::new(group, "REQ/REP tcp 64 at half load", kind(tcp, Api::Async, Placement::HalfLoad)).latency([]).quick(),
    ]);
}

fn publish(works: &mut Vec<Work>) {
    let group = "PUB/SUB";
    for subscribers in [1, 10, 100] {
        let kind = Kind::Publish { subscribers, subscriptions: 1, topics: 1 };
        let work = Work::new(group, format!("PUB to {subscribers} SUB"), kind).rate([of(LIBZMQ, 2.0)]);
        works.push(if subscribers == 10 { work.quick() } else { work });
    }
    // 10,000 subscriptions in all; the topics are those of the first subscriber
    let one_matches = Kind::Publish { subscribers: 100, subscriptions: 100, topics: 100 };
    works.extend([
        Work::new(group, "PUB to 100 SUB, one matches, 10,000 subscriptions", one_matches).rate([of(LIBZMQ, 2.0)]),
        Work::new(group, SLOW_SUBSCRIBER, Kind::SlowSubscriber)
            .rate([of(NONE_FROZEN, 0.9)])
            // "Memory flat": less than what one queue of 1,000 messages takes
            .ask(MEMORY_GROWTH, Unit::KibiOctets, Pick::Seen("growth_kib"), [absolute(1024.0)])
            .quick(),
    ]);
}

fn router(works: &mut Vec<Work>) {
    for in_flight in [1, 10] {
        for connections in [1, 10, 100, 1000] {
            let name = format!("ROUTER echo, {connections} DEALER, {in_flight} in flight");
            let target = if in_flight == 1 { of(EPOLL_ECHO, 0.85) } else { of(LIBZMQ, 1.5) };
            let work = Work::new("ROUTER echo", name, Kind::Router { connections, in_flight }).rate([target]);
            works.push(if connections == 100 { work.quick() } else { work });
        }
    }
}

fn proxy(works: &mut Vec<Work>) {
    for (kind, name) in [("xsub-xpub", "XSUB/XPUB"), ("router-dealer", "ROUTER/DEALER")] {
        for size in [64, 65_536] {
            let work = Work::new("Proxy", format!("proxy {name} {}", size_name(size)), Kind::Proxy { kind, size });
            let work = work.rate([of(LIBZMQ, 2.0)]);
            works.push(if size == 64 { work.quick() } else { work });
        }
    }
}

fn connections(works: &mut Vec<Work>) {
    let group = "Connections";
    works.extend([
        Work::new(group, "5,000 idle connections", Kind::Idle { connections: 5000 })
            .ask("memory each", Unit::KibiOctets, Pick::Seen("kib_each"), [absolute(8.0)])
            .ask("accepted", Unit::PerSecond, Pick::Told("per_second"), [of(RAW_ACCEPT, 0.9)])
            .quick(),
        Work::new(group, "connect, one echo, close", Kind::ConnectEcho).rate([of(LIBZMQ, 2.0)]).quick(),
    ]);
}

/// What the curves need beyond the works above; `picture.rs` puts them together
fn curves(works: &mut Vec<Work>) {
    let group = GROWTH;
    for peers in [10, 100, 1000] {
        let kind = Kind::PushPull { transport: Transport::Tcp, size: 64, batch: 1, frames: 1, peers, api: Api::Async };
        works.push(Work::new(group, format!("{peers} PUSH to one PULL"), kind).rate([]).point());
    }
    let kind = Kind::Publish { subscribers: 1000, subscriptions: 1, topics: 1 };
    works.push(Work::new(group, "PUB to 1000 SUB", kind).rate([]).point());
    for subscriptions in [1, 10, 100, 1000, 10_000, 100_000, 1_000_000] {
        let kind = Kind::Publish { subscribers: 1, subscriptions, topics: subscriptions };
        works.push(Work::new(group, format!("PUB to {subscriptions} subscriptions"), kind).rate([]).point());
    }
    for frames in [2, 5, 10, 30, 100] {
        let kind = Kind::PushPull { transport: Transport::Tcp, size: 64, batch: 1, frames, peers: 1, api: Api::Async };
        works.push(Work::new(group, format!("PUSH/PULL of {frames} frames"), kind).rate([]).point());
    }
}

impl Work {
    pub(super) fn new(group: &'static str, name: impl Into<String>, kind: Kind) -> Self {
        Self {
            group,
            name: name.into(),
            kind,
            measures: Vec::new(),
            quick: false,
            is_point: false,
            security: Security::None,
        }
    }

    pub(super) fn ask(
        mut self,
        name: &'static str,
        unit: Unit,
        pick: Pick,
        targets: impl IntoIterator<Item = Target>,
    ) -> Self {
        self.measures.push(Ask { name, unit, pick, targets: targets.into_iter().collect() });
        self
    }

    pub(super) fn rate(self, targets: impl IntoIterator<Item = Target>) -> Self {
        self.ask("", Unit::PerSecond, Pick::Told("per_second"), targets)
    }

    pub(super) fn latency(self, targets: impl IntoIterator<Item = Target>) -> Self {
        self.ask("", Unit::Nanoseconds, Pick::Told("p50_ns"), targets)
    }

    pub(super) fn quick(mut self) -> Self {
        self.quick = true;
        self
    }

    fn point(mut self) -> Self {
        self.is_point = true;
        self
    }

    /// What a server is to keep while its memory is looked at, and how much of it
    pub(super) fn kept(&self) -> Option<(&'static str, usize)> {
        match self.kind {
            Kind::Idle { connections } | Kind::Handshakes { connections } => Some(("connections", connections)),
            Kind::Service(service) => service.kept(),
            _ => None,
        }
    }

    pub(super) fn secured(mut self, security: Security) -> Self {
        self.security = security;
        self
    }
}

impl Transport {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Ipc => "ipc",
        }
    }
}

pub(super) fn of(label: &str, bound: f64) -> Target {
    Target { against: Some(label.to_owned()), bound, enough: None }
}

pub(super) fn absolute(bound: f64) -> Target {
    Target { against: None, bound, enough: None }
}

pub(super) fn size_name(octets: usize) -> String {
    if octets < 1024 { octets.to_string() } else { format!("{} KiB", octets / 1024) }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn names_are_unique_and_every_work_has_a_measure() {
        let works = works();
        let names: HashSet<&str> = works.iter().map(|work| work.name.as_str()).collect();
        assert_eq!(names.len(), works.len());
        assert!(works.iter().all(|work| !work.measures.is_empty()));
    }

    #[test]
    fn a_quick_run_has_one_of_each_group_of_targets() {
        let groups = |quick: bool| -> HashSet<&str> {
            works().iter().filter(|work| !work.is_point && (work.quick || !quick)).map(|work| work.group).collect()
        };
        assert_eq!(groups(true), groups(false));
    }
}

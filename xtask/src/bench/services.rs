//! The works of `cargo xtask bench service`: requests through a broker, stored ones, and what a broker needs for those
//! that wait.

use super::script::{Amount, Contestant, Part, Side, Step};
use super::statistics::{Target, Unit};
use super::works::{EPOLL_ECHO, Kind, OURS, Pick, TOKIO_ECHO, Work, absolute, of};

/// What of services is measured
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Service {
    /// Request and reply through a broker, so many under way
    Requests { in_flight: usize },
    /// Requests that are on disk before they are answered, so many under way
    Stored { in_flight: usize },
    /// What a broker's memory grows by for requests that nobody takes
    Waiting { requests: usize },
    /// What it grows by for workers that have nothing to do
    IdleWorkers { workers: usize },
}

/// In the order of the table
pub(super) fn service_works() -> Vec<Work> {
    let mut works = Vec::new();
    let requests = |name: &str, in_flight| Work::service("Requests", name, Service::Requests { in_flight });
    works.extend([
        requests(SEQUENTIAL, 1).latency([of(TWO_HOPS, 1.6), of(NATS, 1.0)]).quick(),
        requests("requests, 64 in flight", 64)
            // "At least 150,000 requests a second or 60 % of the bare two-hop limit, whichever is higher": both
            .rate([absolute(150_000.0), of(TWO_HOPS, 0.6), of(NATS, 1.0)])
            .quick(),
        requests("requests, 256 in flight", 256).rate([]),
    ]);
    let stored = |name: &str, in_flight| Work::service("Stored requests", name, Service::Stored { in_flight });
    works.extend([
        stored("stored, lock-step", 1).rate([Target { enough: Some(5000.0), ..of(DISK, 1.0) }]).quick(),
        stored("stored, 256 in flight", 256).rate([]),
        stored("stored, 1,024 in flight", 1024).rate([absolute(100_000.0)]).quick(),
    ]);
    let memory = |name: &str, kind| {
        let work = Work::service("Memory", name, kind);
        work.ask("memory each", Unit::KibiOctets, Pick::Seen("kib_each"), [])
    };
    works.extend([
        memory("100,000 waiting requests", Service::Waiting { requests: 100_000 }).quick(),
        memory("10,000 idle workers", Service::IdleWorkers { workers: 10_000 }),
    ]);
    works
}

impl Work {
    fn service(group: &'static str, name: &str, service: Service) -> Self {
        Self::new(group, name, Kind::Service(service))
    }
}

impl Service {
    /// Who takes part, in the order of their turns: what is compared runs one right after the other
    pub(super) fn contestants(self) -> Vec<Contestant> {
        let of_ours = |label| Contestant { side: Side::Ours, label };
        let floor = |label| Contestant { side: Side::Floor, label };
        let ours = of_ours(OURS);
        let majortomo = Contestant { side: Side::Majortomo, label: MAJORTOMO };
        match self {
            Self::Requests { in_flight } => vec![
                ours,
                of_ours(TWO_HOPS),
                of_ours(ONE_HOP),
                Contestant { side: Side::Nats, label: NATS },
                Contestant { side: Side::Nats, label: NATS_BARE },
                majortomo,
                floor(if in_flight == 1 { TOKIO_ECHO } else { EPOLL_ECHO }),
            ],
            Self::Stored { .. } => vec![ours, of_ours(STORE), floor(DISK)],
            Self::Waiting { .. } => vec![ours, majortomo],
            Self::IdleWorkers { .. } => vec![ours, of_ours(ROUTER)],
        }
    }

    /// What a contestant starts
    pub(super) fn steps(self, contestant: Contestant, amount: Amount) -> Vec<Step> {
        let Contestant { side, label } = contestant;
        let count = amount.count;
        let step = |part, role, arguments: String| Step::new(side, part, role, &arguments);
        let ours = |part, role, arguments: String| Step::new(Side::Ours, part, role, &arguments);
        match self {
            Self::Requests { in_flight } => {
                let load = format!("endpoint={{0}} size=64 count={count} inflight={in_flight}");
                match label {
                    TWO_HOPS => vec![
                        step(Part::Serves, "proxy", "frontend={new} backend={new} kind=router-dealer".to_owned()),
                        step(Part::Connects, "proxy-worker", "endpoint={1}".to_owned()),
                        step(Part::Connects, "proxy-client", format!("{load} times=yes")).tells(),
                    ],
                    ONE_HOP => vec![
                        step(Part::Binds, "router", NEW.to_owned()),
                        step(Part::Connects, "proxy-client", format!("{load} times=yes")).tells(),
                    ],
                    TOKIO_ECHO => vec![
                        step(Part::Binds, "echo-server", format!("{NEW} kind=tokio size=64")),
                        step(Part::Connects, "echo-client", format!("endpoint={{0}} size=64 count={count} kind=tokio"))
                            .tells(),
                    ],
                    EPOLL_ECHO => vec![
                        step(Part::Binds, "echo-server", format!("{NEW} kind=epoll size=64")),
                        step(Part::Connects, "dealers", format!("{load} connections=1 wire=raw")).tells(),
                    ],
                    // Its broker, with the worker and the client of ours on its wire
                    MAJORTOMO => vec![
                        step(Part::Serves, "service-broker", format!("{NEW} packages={{python}}")),
                        ours(Part::Serves, "service-worker", format!("{WORKS} wire=majortomo")),
                        ours(Part::Connects, "service-client", format!("{load} {SERVICE} wire=majortomo")).tells(),
                    ],
                    _ => {
                        let client = match label {
                            NATS => " client=async-nats",
                            NATS_BARE => " client=bare",
                            _ => "",
                        };
                        vec![
                            step(Part::Serves, "service-broker", format!("{NEW}{client}")),
                            step(Part::Serves, "service-worker", format!("{WORKS}{client}")),
                            step(Part::Connects, "service-client", format!("{load} {SERVICE}{client}")).tells(),
                        ]
                    }
                }
            }
            Self::Stored { in_flight } => {
                let load = format!("size=256 count={count} inflight={in_flight}");
                match label {
                    DISK => vec![step(Part::Connects, "append-sync", format!("folder={{folder}} {load}")).tells()],
                    STORE => vec![step(Part::Connects, "store-enqueue", format!("folder={{folder}} {load}")).tells()],
                    _ => vec![
                        step(Part::Serves, "service-broker", format!("{NEW} store={{folder}}")),
                        step(Part::Connects, "service-store", format!("endpoint={{0}} {SERVICE} {load}")).tells(),
                    ],
                }
            }
            Self::Waiting { requests } => {
                let broker = match label {
                    MAJORTOMO => format!("{NEW} packages={{python}}"),
                    _ => format!("{NEW} keep=yes"),
                };
                let wire = if label == MAJORTOMO { " wire=majortomo" } else { " wire=mdp-0.1" };
                vec![
                    step(Part::Serves, "service-broker", broker),
                    ours(
                        Part::Holds,
                        "service-fill",
                        format!("endpoint={{0}} {SERVICE} size=64 count={requests}{wire}"),
                    )
                    .tells()
                    .load(),
                ]
            }
            Self::IdleWorkers { workers } => {
                let (server, keep, ready) = match label {
                    ROUTER => ("idle-server", "", "no"),
                    _ => ("service-broker", " keep=yes", "yes"),
                };
                let idle = format!("endpoint={{0}} {SERVICE} connections={workers} ready={ready}");
                vec![
                    step(Part::Serves, server, format!("{NEW}{keep}")),
                    ours(Part::Holds, "service-idle", idle).tells().load(),
                ]
            }
        }
    }

    /// What a broker with memory is asked for, and how much of it must be there
    pub(super) fn kept(self) -> Option<(&'static str, usize)> {
        match self {
            Self::Requests { .. } | Self::Stored { .. } => None,
            Self::Waiting { requests } => Some(("waiting", requests)),
            Self::IdleWorkers { workers } => Some(("workers", workers)),
        }
    }
}

pub(super) const NATS: &str = "nats-server";
pub(super) const NATS_BARE: &str = "nats-server, bare client";
pub(super) const MAJORTOMO: &str = "majortomo";
/// DEALER, ROUTER/DEALER proxy, DEALER, of our engine: a request's way through a broker without the broker
pub(super) const TWO_HOPS: &str = "bare, two hops";
/// DEALER and ROUTER
pub(super) const ONE_HOP: &str = "bare, one hop";
pub(super) const STORE: &str = "store alone";
/// Append and fdatasync, as many records to a sync as are in flight
pub(super) const DISK: &str = "disk alone";
pub(super) const ROUTER: &str = "bare ROUTER";
pub(super) const SEQUENTIAL: &str = "requests, one after the other";

const NEW: &str = "endpoint={new}";
const SERVICE: &str = "service=echo";
const WORKS: &str = "endpoint={0} service=echo";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_rival_is_asked_the_same() {
        let amount = Amount { count: 77, rate: 0 };
        let service = Service::Requests { in_flight: 64 };
        for contestant in service.contestants() {
            let steps = service.steps(contestant, amount);
            let telling = steps.iter().find(|step| step.tells).unwrap();
            for wanted in ["size=64", "count=77", "inflight=64"] {
                assert!(telling.arguments.iter().any(|argument| argument == wanted), "{}: {wanted}", contestant.label);
            }
        }
    }

    #[test]
    fn names_are_unique_and_memory_says_of_what() {
        let works = service_works();
        let names: std::collections::HashSet<&str> = works.iter().map(|work| work.name.as_str()).collect();
        assert_eq!(names.len(), works.len());
        for work in works.iter().filter(|work| work.group == "Memory") {
            let Kind::Service(service) = work.kind else { panic!("{}", work.name) };
            assert!(service.kept().is_some_and(|(_, many)| many >= 10_000), "{}", work.name);
        }
    }
}

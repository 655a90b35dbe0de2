//! Which programs a work starts, in which order, for each side.

use clap::ValueEnum;

use super::side::Surroundings;
use super::works::{
    Api, BARE_TLS, BLOCKING_ECHO, BULK_COPY, CHANNEL, CIPHER, CRATES, EPOLL_ECHO, Kind, LIBZMQ, LIBZMQ_CURVE,
    LIBZMQ_NONE_FROZEN, NONE_FROZEN, OURS, OURS_CURVE, Placement, RAW_ACCEPT, Security, TOKIO_ECHO, Transport, Work,
};

/// Whose program plays the roles
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, ValueEnum)]
pub(super) enum Side {
    Ours,
    Libzmq,
    Zeromq,
    Rzmq,
    /// nats-server, with programs in `bench/rivals/rust`
    Nats,
    /// majortomo's broker
    Majortomo,
    /// CZMQ's zgossip
    Czmq,
    Floor,
}

/// A row of runs in a work: a side, or one of several ways in which a side does it
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Contestant {
    pub(super) side: Side,
    pub(super) label: &'static str,
}

/// One program of a run
///
/// In its arguments, `{0}` is the first endpoint that an earlier program printed, `{1}` the second; `{new}`
/// is one to bind, `{keys}` the folder of keys and certificates, `{folder}` a new one on disk, `{python}` where the
/// Python packages are.
pub(super) struct Step {
    pub(super) program: Side,
    pub(super) role: &'static str,
    pub(super) arguments: Vec<String>,
    pub(super) part: Part,
    /// Its line has the figures
    pub(super) tells: bool,
    /// The same program loads every side, so its processor time is nobody's
    pub(super) is_load: bool,
    pub(super) watch_memory: bool,
}

/// How a program begins and ends
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Part {
    /// Prints `listening …`, ends by itself
    Binds,
    /// Prints `listening …`, ends when its stdin closes
    Serves,
    /// Ends by itself
    Connects,
    /// Prints its line, then stays until its stdin closes
    Holds,
}

/// How much a run does
#[derive(Clone, Copy)]
pub(super) struct Amount {
    pub(super) count: u64,
    /// Requests a second, for `Placement::HalfLoad`
    pub(super) rate: u64,
}

impl Work {
    /// Who takes part, in the order of their turns
    pub(super) fn contestants(&self) -> Vec<Contestant> {
        if let Kind::Service(service) = self.kind {
            return service.contestants();
        }
        if let Kind::Gossip(network) = self.kind {
            return network.contestants();
        }
        let mut all = vec![contestant(Side::Ours, OURS), contestant(Side::Libzmq, LIBZMQ)];
        if self.kind == Kind::SlowSubscriber {
            // What is compared runs one right after the other
            all.insert(1, contestant(Side::Ours, NONE_FROZEN));
            all.push(contestant(Side::Libzmq, LIBZMQ_NONE_FROZEN));
        } else if self.security == Security::Tls && self.is_about_handshakes() {
            // libzmq has no TLS, so that what it has for encryption stands for it
            all.extend([contestant(Side::Ours, OURS_CURVE), contestant(Side::Libzmq, LIBZMQ_CURVE)]);
        } else if !self.is_point && self.security == Security::None {
            all.extend([contestant(Side::Zeromq, CRATES[0]), contestant(Side::Rzmq, CRATES[1])]);
        }
        let floors: &[&'static str] = match self.kind {
            _ if self.is_point => &[],
            Kind::PushPull { .. } if self.security == Security::Curve => &[CIPHER],
            _ if self.security == Security::Curve => &[],
            _ if self.security == Security::Tls => &[BARE_TLS],
            Kind::PushPull { .. } => &[BULK_COPY],
            Kind::InprocThroughput { .. } | Kind::InprocLatency { .. } => &[CHANNEL],
            Kind::ReqRep { .. } => &[TOKIO_ECHO, BLOCKING_ECHO],
            Kind::Router { .. } => &[EPOLL_ECHO],
            Kind::Idle { .. } => &[RAW_ACCEPT],
            Kind::Publish { .. }
            | Kind::SlowSubscriber
            | Kind::Proxy { .. }
            | Kind::ConnectEcho
            | Kind::Handshakes { .. }
            | Kind::Service(_)
            | Kind::Gossip(_) => &[],
        };
        all.extend(floors.iter().map(|label| contestant(Side::Floor, label)));
        all
    }

    /// What a contestant starts
    pub(super) fn steps(&self, contestant: Contestant, amount: Amount) -> Vec<Step> {
        let security = self.security_of(contestant);
        self.plain_steps(contestant, amount).into_iter().map(|step| step.secured(security)).collect()
    }

    /// How the connections of a contestant are protected
    pub(super) fn security_of(&self, contestant: Contestant) -> Security {
        if matches!(contestant.label, OURS_CURVE | LIBZMQ_CURVE) { Security::Curve } else { self.security }
    }

    /// What a contestant starts, but for how its connections are protected; a floor knows that itself
    fn plain_steps(&self, contestant: Contestant, amount: Amount) -> Vec<Step> {
        let Contestant { side, label } = contestant;
        let count = amount.count;
        let step = |part, role, arguments: String| Step::new(side, part, role, &arguments);
        match self.kind {
            Kind::PushPull { size, .. } if label == CIPHER => {
                vec![step(Part::Connects, "cipher", format!("size={size} count={count}")).tells()]
            }
            Kind::PushPull { size, .. } if label == BARE_TLS => vec![
                step(Part::Binds, "tls-sink", format!("{NEW_TCP} size={size} count={count} {KEYS}")).tells(),
                step(Part::Connects, "tls-source", format!("endpoint={{0}} size={size} count={count} {KEYS}")),
            ],
            Kind::ConnectEcho if label == BARE_TLS => bare_handshakes(count, 1),
            Kind::Handshakes { connections } if label == BARE_TLS => bare_handshakes(connections as u64, AT_A_TIME),
            Kind::PushPull { transport, size, .. } if side == Side::Floor => vec![
                step(Part::Binds, "bulk-sink", format!("{} size={size} count={count}", transport.binding())).tells(),
                step(Part::Connects, "bulk-source", format!("endpoint={{0}} size={size} count={count}")),
            ],
            Kind::PushPull { transport, size, batch, frames, peers, api } => {
                let mut usual = format!("size={size} count={count}");
                // Nobody else has calls for batches, or two kinds of calls
                if side == Side::Ours && batch > 1 {
                    usual += &format!(" batch={batch}");
                }
                usual += api.argument(side);
                if frames > 1 {
                    usual += &format!(" frames={frames}");
                }
                let (peers, connections) = match peers {
                    1 => (String::new(), String::new()),
                    _ => (format!(" peers={peers}"), format!(" connections={peers}")),
                };
                vec![
                    step(Part::Binds, "pull", format!("{} {usual}{peers}", transport.binding())).tells(),
                    step(Part::Connects, "push", format!("endpoint={{0}} {usual}{connections}")),
                ]
            }
            Kind::InprocThroughput { size } => {
                vec![step(Part::Connects, "inproc-throughput", format!("size={size} count={count}")).tells()]
            }
            Kind::InprocLatency { size, threads } => {
                // libzmq has one way only, and zeromq none
                let way = match side {
                    Side::Ours | Side::Rzmq => format!(" threads={threads}"),
                    Side::Floor => format!(" kind=tokio threads={threads}"),
                    Side::Libzmq | Side::Zeromq | Side::Nats | Side::Majortomo | Side::Czmq => String::new(),
                };
                vec![step(Part::Connects, "inproc-latency", format!("size={size} count={count}{way}")).tells()]
            }
            Kind::ReqRep { transport, size, api, placement } => {
                let mut asking = format!("endpoint={{0}} size={size} count={count}");
                if placement == Placement::HalfLoad {
                    asking += &format!(" rate={}", amount.rate);
                }
                if side == Side::Floor {
                    let kind = if label == TOKIO_ECHO { "tokio" } else { "blocking" };
                    let echo = format!("{} kind={kind} size={size}", transport.binding());
                    return vec![
                        step(Part::Binds, "echo-server", echo),
                        step(Part::Connects, "echo-client", format!("{asking} kind={kind}")).tells(),
                    ];
                }
                let api = api.argument(side);
                vec![
                    step(Part::Binds, "rep", format!("{}{api}", transport.binding())),
                    step(Part::Connects, "req", format!("{asking}{api}")).tells(),
                ]
            }
            Kind::Publish { subscribers, subscriptions, topics } => {
                let deliveries = self.deliveries(count);
                let usual = format!("size=64 count={count} subscriptions={subscriptions} topics={topics}");
                vec![
                    step(Part::Binds, "publish", format!("{NEW_TCP} {usual} subscribers={subscribers} drop=no")),
                    step(
                        Part::Connects,
                        "subscribe",
                        format!("endpoint={{0}} {usual} connections={subscribers} expect={deliveries}"),
                    )
                    .tells(),
                ]
            }
            Kind::SlowSubscriber => {
                let frozen = usize::from(!matches!(label, NONE_FROZEN | LIBZMQ_NONE_FROZEN));
                let usual = format!("size=64 count={count} subscriptions=1 topics=1");
                let subscribers = 3 + frozen;
                let reading = format!("endpoint={{0}} {usual} connections=3 expect=0 frozen={frozen}");
                vec![
                    step(Part::Binds, "publish", format!("{NEW_TCP} {usual} subscribers={subscribers} drop=yes"))
                        .watch_memory(),
                    step(Part::Connects, "subscribe", reading).tells(),
                ]
            }
            Kind::Router { connections, in_flight } => {
                let wire = if side == Side::Floor { "raw" } else { "zmtp" };
                let load = format!(
                    "endpoint={{0}} connections={connections} inflight={in_flight} size=64 count={count} wire={wire}"
                );
                let server = match side {
                    Side::Floor => step(Part::Binds, "echo-server", format!("{NEW_TCP} kind=epoll size=64")),
                    _ => step(Part::Binds, "router", NEW_TCP.to_owned()),
                };
                vec![server, Step::new(Side::Floor, Part::Connects, "dealers", &load).tells().load()]
            }
            Kind::Proxy { kind, size } => {
                let usual = format!("size={size} count={count}");
                let proxy = format!("frontend={{new}} backend={{new}} kind={kind}");
                let (back, front, more) = match kind {
                    "xsub-xpub" => ("proxy-sink", "proxy-source", ""),
                    _ => ("proxy-worker", "proxy-client", " inflight=100"),
                };
                let back = step(Part::Connects, back, format!("endpoint={{1}} {usual}{more}"));
                let front = step(Part::Connects, front, format!("endpoint={{0}} {usual}{more}"));
                let (back, front) = if more.is_empty() { (back.tells(), front) } else { (back, front.tells()) };
                vec![step(Part::Serves, "proxy", proxy), back, front]
            }
            Kind::Idle { connections } => {
                let (server, wire) = match side {
                    Side::Floor => (step(Part::Binds, "accept-server", NEW_TCP.to_owned()), "raw"),
                    _ => (step(Part::Serves, "idle-server", NEW_TCP.to_owned()), "zmtp"),
                };
                let dial = format!("endpoint={{0}} connections={connections} wire={wire} hold=yes");
                vec![server, Step::new(Side::Floor, Part::Holds, "dial", &dial).tells().load()]
            }
            Kind::ConnectEcho => vec![
                step(Part::Binds, "rep", NEW_TCP.to_owned()),
                step(Part::Connects, "connect-echo", format!("endpoint={{0}} count={count}")).tells(),
            ],
            Kind::Handshakes { connections } => vec![
                step(Part::Serves, "idle-server", format!("{NEW_TCP} type=pull")),
                step(Part::Holds, "dial", format!("endpoint={{0}} connections={connections} hold=yes")).tells(),
            ],
            Kind::Service(service) => service.steps(contestant, amount),
            Kind::Gossip(network) => network.steps(contestant),
        }
    }

    fn is_about_handshakes(&self) -> bool {
        matches!(self.kind, Kind::ConnectEcho | Kind::Handshakes { .. })
    }

    /// How many messages arrive for so many sent
    pub(super) fn deliveries(&self, count: u64) -> u64 {
        match self.kind {
            Kind::Publish { subscribers, subscriptions: 1, .. } => count * subscribers as u64,
            _ => count,
        }
    }

    /// What its programs run in
    pub(super) fn surroundings(&self) -> Surroundings {
        match self.kind {
            Kind::ReqRep { placement: Placement::OneCore, .. } => Surroundings::OneCore,
            Kind::Gossip(_) => Surroundings::OwnNetwork,
            _ => Surroundings::Usual,
        }
    }

    pub(super) fn half_load(&self) -> bool {
        matches!(self.kind, Kind::ReqRep { placement: Placement::HalfLoad, .. })
    }
}

impl Step {
    pub(super) fn new(program: Side, part: Part, role: &'static str, arguments: &str) -> Self {
        let arguments = arguments.split_whitespace().map(str::to_owned).collect();
        Self { program, role, arguments, part, tells: false, is_load: false, watch_memory: false }
    }

    /// Tells ours and libzmq how to protect the connections
    ///
    /// libzmq has no TLS, and its program says so.
    fn secured(mut self, security: Security) -> Self {
        let more = match (self.program, security) {
            (Side::Ours | Side::Libzmq, Security::Curve) => "mechanism=curve",
            (Side::Libzmq, Security::Tls) => "transport=tls",
            (Side::Ours, Security::Tls) => {
                for argument in &mut self.arguments {
                    *argument = argument.replace("{new}", "{new-tls}");
                }
                ""
            }
            _ => return self,
        };
        self.arguments.extend([more, KEYS].iter().filter(|word| !word.is_empty()).map(|word| (*word).to_owned()));
        self
    }

    pub(super) fn tells(mut self) -> Self {
        self.tells = true;
        self
    }

    pub(super) fn load(mut self) -> Self {
        self.is_load = true;
        self
    }

    fn watch_memory(mut self) -> Self {
        self.watch_memory = true;
        self
    }
}

impl Transport {
    fn binding(self) -> &'static str {
        match self {
            Self::Tcp => NEW_TCP,
            Self::Ipc => "endpoint={new-ipc}",
        }
    }
}

impl Api {
    fn argument(self, side: Side) -> &'static str {
        if side == Side::Ours && self == Self::Blocking { " api=blocking" } else { "" }
    }
}

fn contestant(side: Side, label: &'static str) -> Contestant {
    Contestant { side, label }
}

/// A client that shakes hands and a server that does so too, with no library around TLS
fn bare_handshakes(connections: u64, at_a_time: u64) -> Vec<Step> {
    let serving = format!("{NEW_TCP} connections={connections} {KEYS}");
    // Many connections of one client may resume a session, as those of one socket of ours
    let (hold, resume) = if at_a_time > 1 { (" hold=yes", " resume=yes") } else { ("", "") };
    let serving = format!("{serving}{resume}");
    let dialling = format!("endpoint={{0}} connections={connections} inflight={at_a_time} {KEYS}{hold}{resume}");
    vec![
        Step::new(Side::Floor, Part::Binds, "tls-echo", &serving),
        Step::new(Side::Floor, Part::Connects, "tls-connect", &dialling).tells(),
    ]
}

const NEW_TCP: &str = "endpoint={new}";

const KEYS: &str = "keys={keys}";

/// As many connections as the `dial` of ours and of libzmq have on their way at a time
const AT_A_TIME: u64 = 64;

#[cfg(test)]
mod tests {
    use super::super::encrypted::{curve_works, tls_works};
    use super::super::gossip::gossip_works;
    use super::super::services::service_works;
    use super::super::works::works;
    use super::*;

    fn all_works() -> impl Iterator<Item = Work> {
        works().into_iter().chain(curve_works()).chain(tls_works()).chain(service_works()).chain(gossip_works())
    }

    const AMOUNT: Amount = Amount { count: 1000, rate: 5000 };

    #[test]
    fn one_program_tells_and_those_that_connect_come_after_one_that_binds() {
        for work in all_works() {
            for contestant in work.contestants() {
                let steps = work.steps(contestant, AMOUNT);
                assert_eq!(steps.iter().filter(|step| step.tells).count(), 1, "{}", work.name);
                let mut bound = 0;
                for step in steps {
                    for argument in &step.arguments {
                        assert!(!argument.contains("{0}") || bound > 0, "{}: {argument}", work.name);
                    }
                    bound += usize::from(matches!(step.part, Part::Binds | Part::Serves));
                }
            }
        }
    }

    #[test]
    fn every_target_stands_against_somebody_who_takes_part() {
        for work in all_works() {
            let labels: Vec<&str> = work.contestants().iter().map(|contestant| contestant.label).collect();
            for target in work.measures.iter().flat_map(|measure| &measure.targets) {
                assert!(target.against.as_deref().is_none_or(|label| labels.contains(&label)), "{}", work.name);
            }
        }
    }

    #[test]
    fn both_ends_are_told_how_to_encrypt() {
        let words = |works: Vec<Work>, name: &str, label: &str| -> Vec<String> {
            let work = works.into_iter().find(|work| work.name == name).unwrap();
            let contestant = work.contestants().into_iter().find(|one| one.label == label).unwrap();
            work.steps(contestant, AMOUNT).into_iter().map(|step| step.arguments.join(" ")).collect()
        };
        for label in [OURS, LIBZMQ] {
            for step in words(curve_works(), "CURVE PUSH/PULL tcp 64", label) {
                assert!(step.ends_with("mechanism=curve keys={keys}"), "{step}");
            }
            for step in words(curve_works(), "PUSH/PULL tcp 64", label) {
                assert!(!step.contains("keys"), "{step}");
            }
        }
        let [pull, push] = &words(tls_works(), "TLS PUSH/PULL 64 KiB", OURS)[..] else { panic!("two ends") };
        assert!(pull.starts_with("endpoint={new-tls}") && pull.ends_with("keys={keys}"), "{pull}");
        assert!(push.ends_with("keys={keys}"), "{push}");
        assert!(words(tls_works(), "TLS PUSH/PULL 64 KiB", LIBZMQ)[0].contains("transport=tls"));
        assert!(words(tls_works(), "TLS connect, one echo, close", LIBZMQ_CURVE)[0].contains("mechanism=curve"));
    }

    #[test]
    fn all_subscribers_get_everything_unless_topics_differ() {
        let find = |name: &str| works().into_iter().find(|work| work.name == name).unwrap();
        assert_eq!(find("PUB to 10 SUB").deliveries(7), 70);
        assert_eq!(find("PUB to 100 SUB, one matches, 10,000 subscriptions").deliveries(7), 7);
        let work = find("PUB to 10 SUB");
        let steps = work.steps(work.contestants()[0], AMOUNT);
        assert!(steps[1].arguments.contains(&"expect=10000".to_owned()));
    }
}

//! A story told: what is done, every write and who knows it, and the promises at the end.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

use tidings_gossip::simulation::{Ending, Happening, LocalClock, Network, PartyId, Topology};
use tidings_gossip::{Dot, Event, Lifetime, MemberStatus, NodeId, Refusal, RemovalCause, Stamp};

use crate::story::{Deed, Story};

macro_rules! totals {
    ($($name:ident)+) => {
        /// What happened in all seeds
        #[derive(Debug, Default)]
        pub(crate) struct Totals { $(pub(crate) $name: u64,)+ }

        impl Totals {
            pub(crate) fn add(&mut self, other: &Self) {
                $(self.$name += other.$name;)+
            }

            pub(crate) fn counts(&self) -> Vec<(&'static str, u64)> {
                vec![$((stringify!($name), self.$name),)+]
            }
        }
    };
}

totals! {
    puts removals sessions expiring refreshed conflicts kills goodbyes restarts partitions cuts stalls pauses
    lost_messages overwritten repaired gone live_at_the_end
}

/// Tells the story, and panics where a promise is broken
pub(crate) fn tell(story: &Story, is_told: bool) -> Totals {
    let mut network = story.setup.network();
    network.keep_happenings();
    let mut account = Account::new(story, is_told);
    for (at, deed) in &story.deeds {
        account.run_until(&mut network, *at);
        account.note(&network, || format!("{deed:?}"));
        account.act(&mut network, *deed);
    }
    account.calm(&mut network);
    account.check_agreement(&mut network);
    account.check_winners(&network);
    account.check_members(&network);
    account.check_rest(&mut network);
    account.check_memory(&mut network);
    account.totals.lost_messages += network.lost().messages;
    account.totals
}

/// A write, and what it says of its key in the end
struct Write {
    key: u8,
    /// What its writer knew of the key: that is dead wherever this is known
    kills: Vec<usize>,
    /// Its stamp, or between which it is
    stamp: (Stamp, Stamp),
    owner: NodeId,
    what: What,
}

#[derive(Clone, Debug, PartialEq)]
enum What {
    Put(String),
    /// Over by the end
    Expiring(String),
    /// As long as that life
    Session(String, PartyId, u32),
    Removal,
}

impl What {
    fn value(&self) -> Option<&str> {
        match self {
            Self::Put(value) | Self::Expiring(value) | Self::Session(value, ..) => Some(value),
            Self::Removal => None,
        }
    }
}

struct Account<'a> {
    story: &'a Story,
    is_told: bool,
    totals: Totals,
    writes: Vec<Write>,
    /// Which lives know which writes for certain
    knows: BTreeSet<(PartyId, u32, usize)>,
    /// By life and key: the write that was seen there last, and whether it is still there
    seen: HashMap<(PartyId, u32, Vec<u8>), Seen>,
    /// By life: what was put there, and what was deleted
    put: BTreeSet<(PartyId, u32, Dot)>,
    deleted: BTreeSet<(PartyId, u32, String)>,
    /// All that were put by applications
    dots: BTreeSet<Dot>,
    by_value: HashMap<String, usize>,
    /// What each node last put for a time
    last_expiring: HashMap<usize, (u8, String, Duration)>,
}

#[derive(Clone, Debug)]
struct Seen {
    write: (Stamp, NodeId),
    lifetime: Lifetime,
    value: String,
    cause: Option<RemovalCause>,
}

impl<'a> Account<'a> {
    fn new(story: &'a Story, is_told: bool) -> Self {
        Self {
            story,
            is_told,
            totals: Totals::default(),
            writes: Vec::new(),
            knows: BTreeSet::new(),
            seen: HashMap::new(),
            put: BTreeSet::new(),
            deleted: BTreeSet::new(),
            dots: BTreeSet::new(),
            by_value: HashMap::new(),
            last_expiring: HashMap::new(),
        }
    }

    fn note(&self, network: &Network, what: impl FnOnce() -> String) {
        if self.is_told {
            println!("{:>9.3} {}", network.now().as_secs_f64(), what());
        }
    }

    fn run_until(&mut self, network: &mut Network, at: Duration) {
        network.run_until(at);
        self.look(network);
        for happening in network.take_happenings() {
            self.happened(network, &happening);
        }
    }

    /// Nodes' own books
    fn look(&self, network: &Network) {
        for (party, node) in network.nodes() {
            node.check().unwrap_or_else(|wrong| panic!("the books of node {} are wrong: {wrong}", party.0));
        }
    }

    fn happened(&mut self, network: &Network, happening: &Happening) {
        let Happening { at, party, life, event } = happening;
        if self.is_told {
            println!("{:>9.3}     node {} {event:?}", at.as_secs_f64(), party.0);
        }
        match event {
            Event::Put { tuple, .. } => {
                let value = String::from_utf8_lossy(&tuple.value).into_owned();
                if let Some(number) = self.by_value.get(&value) {
                    self.knows.insert((*party, *life, *number));
                }
                let is_session = tuple.lifetime == Lifetime::Session;
                let is_new = self.put.insert((*party, *life, tuple.dot));
                assert!(is_new || is_session, "a write comes back to node {}: {tuple:?}", party.0);
                // Unless it was put anew, as a refreshed one may be that others have deleted meanwhile
                let is_put_anew = self.dots.contains(&tuple.dot);
                // An owner that was away for longer than deletions are remembered makes what lives with it again
                let is_made_again = tuple.lifetime == Lifetime::Session
                    && self.story.setup.node.tombstone_time < Duration::from_secs(60);
                let was_deleted = self.deleted.contains(&(*party, *life, value.clone())) && !is_made_again;
                assert!(!was_deleted || is_put_anew, "a deleted value comes back to node {}: {tuple:?}", party.0);
                let write = (tuple.stamp, tuple.dot.owner);
                let place = (*party, *life, tuple.key.to_vec());
                let before = self.seen.insert(place, Seen { write, lifetime: tuple.lifetime, value, cause: None });
                // What has ended by itself in the same turn may have given way
                if let Some(Seen { write: before, lifetime: Lifetime::Permanent, cause: None, .. }) = before {
                    assert!(write > before, "node {} goes back: {tuple:?} after {before:?}", party.0);
                }
            }
            Event::Removed { key, cause } => {
                let Some(seen) = self.seen.get_mut(&(*party, *life, key.to_vec())) else {
                    panic!("node {} removes what it never had: {key:?}", party.0);
                };
                seen.cause = Some(*cause);
                if *cause == RemovalCause::Deleted {
                    self.deleted.insert((*party, *life, seen.value.clone()));
                }
            }
            Event::Member(change) if change.status == MemberStatus::Gone => self.totals.gone += 1,
            Event::Missed { .. } => panic!("events are fetched every turn: {event:?}"),
            _ => {}
        }
        let _ = network;
    }

    fn act(&mut self, network: &mut Network, deed: Deed) {
        match deed {
            Deed::Put { node, key } => self.put(network, node, key, Lifetime::Permanent),
            Deed::PutFor { node, key, time } => self.put(network, node, key, Lifetime::Ttl(time)),
            Deed::PutSession { node, key } => self.put(network, node, key, Lifetime::Session),
            Deed::Refresh { node } => self.refresh(network, node),
            Deed::Remove { node, key } => self.remove(network, node, key),
            Deed::Conflict { one, other, key } => {
                self.totals.conflicts += u64::from(one != other);
                self.put(network, one, key, Lifetime::Permanent);
                self.put(network, other, key, Lifetime::Permanent);
            }
            Deed::Burst { node, count } => (0..count).for_each(|number| {
                self.put(network, node, 100 + number, Lifetime::Permanent);
            }),
            Deed::Stop { node, ending } => {
                let running = network.runs(PartyId(node));
                self.totals.kills += u64::from(running && ending != Ending::Leave);
                self.totals.goodbyes += u64::from(running && ending == Ending::Leave);
                network.stop(PartyId(node), ending);
                self.last_expiring.remove(&node);
            }
            Deed::Start { node } => self.start(network, node),
            Deed::StartBehind { node, millis } => {
                if !network.runs(PartyId(node)) {
                    let ahead_micros = -(millis as i64) * 1000;
                    network.set_clock(PartyId(node), LocalClock { ahead_micros, drift_ppm: 0 });
                    self.start(network, node);
                }
            }
            Deed::Cut { one, other } => self.totals.cuts += u64::from(network.cut(PartyId(one), PartyId(other))),
            Deed::Stall { one, other, time } => {
                network.stall(PartyId(one), PartyId(other), time);
                self.totals.stalls += 1;
            }
            Deed::Pause { node, time } => {
                network.pause(PartyId(node), time);
                self.totals.pauses += 1;
            }
            Deed::Partition { mask } => {
                network.partition(|party| (mask >> party.0) & 1);
                self.totals.partitions += 1;
            }
            Deed::Heal => network.heal(),
            Deed::Loss { percent } => network.set_loss(f64::from(percent) / 100.0),
        }
        for happening in network.take_happenings() {
            self.happened(network, &happening);
        }
    }

    fn start(&mut self, network: &mut Network, node: usize) {
        if !network.runs(PartyId(node)) {
            network.start(PartyId(node));
            self.totals.restarts += 1;
        }
    }

    fn put(&mut self, network: &mut Network, node: usize, key: u8, lifetime: Lifetime) {
        let party = PartyId(node);
        if !network.runs(party) {
            return;
        }
        let value = format!("v{}", self.writes.len());
        let written = network.put(party, vec![b'k', key], value.clone(), lifetime).unwrap();
        assert!(written.is_new, "a value never put before");
        let what = match lifetime {
            Lifetime::Permanent => What::Put(value.clone()),
            Lifetime::Ttl(time) => {
                self.totals.expiring += 1;
                self.last_expiring.insert(node, (key, value.clone(), time));
                What::Expiring(value.clone())
            }
            Lifetime::Session => {
                self.totals.sessions += 1;
                What::Session(value.clone(), party, network.life(party))
            }
        };
        self.totals.puts += 1;
        self.by_value.insert(value, self.writes.len());
        self.dots.insert(written.dot);
        self.wrote(network, party, key, (written.stamp, written.stamp), written.dot.owner, what);
    }

    fn refresh(&mut self, network: &mut Network, node: usize) {
        let party = PartyId(node);
        let Some((key, value, time)) = self.last_expiring.get(&node).cloned() else { return };
        let held = network.node(party).and_then(|node| node.get(network.local_now(party), &[b'k', key]));
        let Some(held) = held.filter(|held| held.value == value) else { return };
        let written = network.put(party, vec![b'k', key], value.clone(), Lifetime::Ttl(time)).unwrap();
        assert!(written.stamp > held.stamp, "a refreshed tuple is written anew");
        self.totals.refreshed += 1;
        self.by_value.insert(value.clone(), self.writes.len());
        self.dots.insert(written.dot);
        self.wrote(network, party, key, (written.stamp, written.stamp), written.dot.owner, What::Expiring(value));
    }

    fn remove(&mut self, network: &mut Network, node: usize, key: u8) {
        let party = PartyId(node);
        let held = network.node(party).and_then(|node| node.get(network.local_now(party), &[b'k', key]));
        if !network.runs(party) {
            return;
        }
        let owner = network.node(party).unwrap().identity().id;
        assert_eq!(network.remove(party, &[b'k', key]).unwrap(), held.is_some());
        if let Some(held) = held {
            self.totals.removals += 1;
            let now = network.node(party).unwrap().get(network.local_now(party), &[b'k', key]);
            assert_eq!(now, None, "it is away at once");
            // Stamps are not told of removals; no clock is ahead of the others' by more than that
            let lead = self.story.setup.clocks_apart + Duration::from_millis(50);
            let latest = Stamp(EPOCH_MICROS + (network.now() + lead).as_micros() as u64);
            self.wrote(network, party, key, (Stamp(held.stamp.0 + 1), latest), owner, What::Removal);
        }
    }

    fn wrote(&mut self, network: &Network, party: PartyId, key: u8, stamp: (Stamp, Stamp), owner: NodeId, what: What) {
        let number = self.writes.len();
        let life = network.life(party);
        let of_key = |(_, write): &(usize, &Write)| write.key == key;
        let known = self.writes.iter().enumerate().filter(of_key).map(|(number, _)| number);
        let kills = known.filter(|number| self.knows.contains(&(party, life, *number))).collect();
        self.note(network, || format!("    write {number} of {key}: {what:?} at {stamp:?}"));
        self.writes.push(Write { key, kills, stamp, owner, what });
        self.knows.insert((party, life, number));
    }

    /// Nothing goes wrong any more; all run, and have time to agree
    fn calm(&mut self, network: &mut Network) {
        self.note(network, || "calm".to_owned());
        network.heal();
        network.set_loss(0.0);
        for node in 0..network.len() {
            self.start(network, node);
        }
        let began = network.now();
        // Expiring tuples end, connections that were silent are given up, deletions are forgotten
        // Nodes that make their own links try those anew that could not be reached a while ago, and tell of it
        let is_overlay = self.story.setup.topology == Topology::Overlay;
        let limit = began + CALM + if is_overlay { OVERLAY_CALM } else { Duration::ZERO };
        while network.now() < limit {
            self.run_until(network, network.now() + Duration::from_millis(500));
        }
    }

    /// Everybody has the same, by digest and by tuple
    fn check_agreement(&mut self, network: &mut Network) {
        let all: Vec<_> = network.nodes().map(|(party, node)| (party, node.root(), contents(network, party))).collect();
        let (_, root, held) = &all[0];
        for (party, other_root, other) in &all[1..] {
            assert_eq!(held, other, "node {} has something else than node 0 after {CALM:?} of calm", party.0);
            assert_eq!(root, other_root, "node {} has another digest than node 0 of the same tuples", party.0);
        }
        self.totals.live_at_the_end += held.len() as u64;
        self.totals.repaired += network.nodes().map(|(_, node)| node.stats().repairs).sum::<u64>();
    }

    /// What is left of each key is the greatest write that anybody who runs knows
    fn check_winners(&mut self, network: &Network) {
        let held = contents(network, PartyId(0));
        let keys: BTreeSet<u8> = self.writes.iter().map(|write| write.key).collect();
        for key in keys {
            let lives = |number: usize| {
                (0..network.len()).map(PartyId).any(|party| self.knows.contains(&(party, network.life(party), number)))
            };
            let of_key = || self.writes.iter().enumerate().filter(|(_, write)| write.key == key);
            let known = || of_key().filter(|(number, _)| lives(*number));
            // The greatest known write: it can't be less than that
            let floor = known()
                .map(|(_, write)| (write.stamp.0, write.owner, &write.what))
                .max_by_key(|known| (known.0, known.1));
            let killed: BTreeSet<usize> = known().flat_map(|(_, write)| write.kills.iter().copied()).collect();
            // What ends by itself, and a deletion that was forgotten, doesn't stand against what was written apart from it
            let forgets = self.story.setup.node.tombstone_time < CALM * 2;
            let is_forgotten = match floor {
                // When exactly a deletion was made is not known here: one may have been the later
                Some((stamp, _, What::Put(_))) => {
                    forgets && known().any(|(_, write)| write.what == What::Removal && write.stamp.1 >= stamp)
                }
                Some((.., What::Removal)) => forgets,
                _ => true,
            };
            let may_win = of_key().filter(|(number, write)| {
                floor.is_none_or(|(stamp, owner, _)| {
                    write.stamp.1 > stamp
                        || write.stamp.1 == stamp && write.owner >= owner
                        // What lives with its owner is made again by one who was away for longer than anybody remembers why it ended
                        || is_forgotten && (!killed.contains(number) || matches!(write.what, What::Session(..)))
                })
            });
            let mut allowed: BTreeSet<Option<String>> = may_win
                .map(|(_, write)| match &write.what {
                    What::Session(value, party, life) if network.life(*party) == *life => Some(value.clone()),
                    What::Put(value) => Some(value.clone()),
                    What::Session(..) | What::Expiring(_) | What::Removal => None,
                })
                .collect();
            if floor.is_none() {
                // Nobody who runs is known to know any: all may be lost
                allowed.insert(None);
            }
            // A later write may have put an end to it at a node that told of that, and be lost with all that had it
            let is_beaten = |write: &Write| floor.is_some_and(|(stamp, ..)| write.stamp.1 > stamp);
            if of_key().any(|(number, write)| is_beaten(write) && !lives(number)) {
                allowed.insert(None);
            }
            let left = held.get([b'k', key].as_slice()).cloned();
            assert!(allowed.contains(&left), "key {key} is left with {left:?}; allowed is {allowed:?}");
            self.totals.overwritten += (of_key().filter(|(_, write)| write.what.value().is_some()).count() as u64)
                .saturating_sub(u64::from(left.is_some()));
        }
        let known: BTreeSet<Vec<u8>> = self.writes.iter().map(|write| vec![b'k', write.key]).collect();
        assert!(held.keys().all(|key| known.contains(key)), "a key that nobody put");
    }

    /// All who run are up, as all see it
    fn check_members(&self, network: &Network) {
        let running: BTreeSet<NodeId> = network.nodes().map(|(_, node)| node.identity().id).collect();
        for (party, node) in network.nodes() {
            let members = node.members(network.local_now(party));
            let up: BTreeSet<NodeId> =
                members.iter().filter(|member| member.status == MemberStatus::Up).map(|member| member.id).collect();
            assert_eq!(up, running, "node {} sees others as up than those that run: {members:#?}", party.0);
        }
    }

    /// At rest there are digests and probes, and nothing else
    fn check_rest(&mut self, network: &mut Network) {
        let (before, connected) = (network.traffic(), network.open_connections());
        let time = Duration::from_secs(40);
        self.run_until(network, network.now() + time);
        let sent = network.traffic() - before;
        let links = network.open_connections() as f64;
        // A node of an overlay with few links may find another one at any time
        let is_grown = self.story.setup.topology == Topology::Overlay && network.open_connections() != connected;
        for (kind, count) in sent.kinds() {
            let a_second = count.octets as f64 / time.as_secs_f64() / links.max(1.0);
            assert!(AT_REST.contains(&kind) || is_grown, "at rest {count:?} of {kind} are sent");
            assert!(a_second < MOST_AT_REST, "at rest {a_second:.0} octets of {kind} a second and link");
        }
    }

    /// Nothing is kept but what is live, and what it takes to know what is dead
    fn check_memory(&mut self, network: &mut Network) {
        let held = contents(network, PartyId(0)).len();
        let forgotten = self.story.setup.node.tombstone_time < CALM;
        let lives: u64 = (0..network.len()).map(|party| u64::from(network.life(PartyId(party))) + 1).sum();
        // Who says goodbye deletes what lived with it
        let ended = if self.totals.goodbyes > 0 { self.totals.sessions } else { 0 };
        let removals = (self.totals.removals + ended) as usize;
        for (party, node) in network.nodes() {
            let stats = node.stats();
            assert_eq!((stats.tuples, stats.hidden), (held, 0), "node {}: {stats:#?}", party.0);
            let most = if forgotten { 0 } else { removals };
            assert!(stats.tombstones <= most, "node {} remembers more than {most} deletions: {stats:#?}", party.0);
            assert!(stats.owners as u64 <= lives, "node {} remembers more than {lives} lives: {stats:#?}", party.0);
            assert_eq!(stats.missed_events, 0);
            // A lost HELLO, and two connections that are made at once, are nobody's fault
            let faults = stats
                .refusals
                .iter()
                .filter(|(cause, count)| *count > 0 && !matches!(cause, Refusal::OutOfState | Refusal::Duplicate));
            assert_eq!(faults.collect::<Vec<_>>(), [], "node {} is among honest ones", party.0);
        }
    }
}

fn contents(network: &Network, party: PartyId) -> BTreeMap<Vec<u8>, String> {
    let node = network.node(party).expect("it runs");
    let tuples = node.tuples(network.local_now(party), b"");
    tuples.map(|tuple| (tuple.key.to_vec(), String::from_utf8_lossy(&tuple.value).into_owned())).collect()
}

/// What the simulated wall clocks say at the beginning
const EPOCH_MICROS: u64 = 1_767_225_600_000_000;
/// How long all have to agree when nothing goes wrong any more: longer than a tuple of limited time lives, than a silent
/// connection takes to be given up and dialled again, and than a deletion is remembered
const CALM: Duration = Duration::from_secs(70);
/// How long a network that makes its own links may still do that
const OVERLAY_CALM: Duration = Duration::from_secs(200);
/// What may be sent by a network that nothing happens in
const AT_REST: [&str; 5] = ["digest", "ping", "ack", "probe", "shuffle"];
/// Octets of a kind, a second and link
const MOST_AT_REST: f64 = 100.0;

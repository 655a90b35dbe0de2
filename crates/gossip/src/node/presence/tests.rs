//! A network of detectors on a virtual clock: links with a delay, nodes that stop, stall, leave and come back.

use std::collections::BTreeMap;

use super::*;

const MS: Duration = Duration::from_millis(1);
const S: Duration = Duration::from_secs(1);

#[derive(Clone, Debug)]
enum Wire {
    Ping(u64),
    Ack(u64),
    Probe(NodeId),
    Vouch(NodeId),
    Status(Vec<StatusUpdate>),
}

struct Host {
    members: Members,
    /// It does nothing until then, and its timers come before what waits for it
    stalled_until: Option<Instant>,
    waiting: Vec<(LinkId, Wire)>,
    changes: Vec<MemberChange>,
    present: Vec<(NodeId, bool)>,
    dead: Vec<NodeId>,
    pings: usize,
}

struct Net {
    now: Instant,
    start: Instant,
    hosts: Vec<Host>,
    links: BTreeMap<LinkId, (usize, usize)>,
    under_way: BTreeMap<(Instant, u64), (usize, LinkId, Wire)>,
    sent: u64,
    next_link: u64,
    delay: Duration,
}

fn identity(host: usize, incarnation: u64) -> Identity {
    Identity { id: NodeId(100 + host as u64), incarnation: Incarnation(incarnation) }
}

fn id(host: usize) -> NodeId {
    identity(host, 0).id
}

impl Net {
    fn new(hosts: usize, links: &[(usize, usize)]) -> Self {
        Self::with(NodeConfig::default(), hosts, links)
    }

    fn with(config: NodeConfig, hosts: usize, links: &[(usize, usize)]) -> Self {
        let now = Instant::now();
        let host = |number| Host {
            members: Members::new(&config, identity(number, 1), now),
            stalled_until: None,
            waiting: Vec::new(),
            changes: Vec::new(),
            present: Vec::new(),
            dead: Vec::new(),
            pings: 0,
        };
        let hosts = (0..hosts).map(host).collect();
        let (links_, under_way) = (BTreeMap::new(), BTreeMap::new());
        let mut net = Self { now, start: now, hosts, links: links_, under_way, sent: 0, next_link: 1, delay: 5 * MS };
        for host in 0..net.hosts.len() {
            net.introduce(host, 1);
        }
        for (a, b) in links {
            net.link(*a, *b);
        }
        for host in &mut net.hosts {
            host.changes.clear();
            host.present.clear();
        }
        net
    }

    fn mesh(hosts: usize) -> Self {
        let pairs: Vec<_> = (0..hosts).flat_map(|a| (a + 1..hosts).map(move |b| (a, b))).collect();
        Self::new(hosts, &pairs)
    }

    fn star(hosts: usize) -> Self {
        Self::new(hosts, &(1..hosts).map(|leaf| (0, leaf)).collect::<Vec<_>>())
    }

    /// Its record reaches everybody
    fn introduce(&mut self, host: usize, incarnation: u64) {
        for (number, other) in self.hosts.iter_mut().enumerate() {
            if number != host {
                other.members.on_member(self.now, id(host), Incarnation(incarnation), &host.to_string(), &[]);
            }
        }
        self.collect();
    }

    /// Their records of links reach everybody
    fn tell_neighbours(&mut self) {
        for host in 0..self.hosts.len() {
            let ends = self.links.values().filter(|(a, b)| *a == host || *b == host);
            let neighbours: Vec<NodeId> = ends.map(|(a, b)| id(a + b - host)).collect();
            for (number, other) in self.hosts.iter_mut().enumerate() {
                if number != host {
                    other.members.on_neighbours(self.now, id(host), Incarnation(1), neighbours.clone());
                }
            }
        }
        self.collect();
    }

    fn link(&mut self, a: usize, b: usize) -> LinkId {
        let link = LinkId(self.next_link);
        self.next_link += 1;
        self.links.insert(link, (a, b));
        for (from, to) in [(a, b), (b, a)] {
            let Identity { id, incarnation } = self.hosts[to].members.identity;
            self.hosts[from].members.on_link_up(self.now, link, id, incarnation);
        }
        self.collect();
        link
    }

    fn cut(&mut self, link: LinkId, said_goodbye: bool) {
        let (a, b) = self.links.remove(&link).unwrap();
        for host in [a, b] {
            self.hosts[host].members.on_link_down(self.now, link, said_goodbye);
        }
        self.collect();
    }

    fn links_of(&self, host: usize) -> Vec<LinkId> {
        self.links.iter().filter(|(_, (a, b))| *a == host || *b == host).map(|(link, _)| *link).collect()
    }

    fn crash(&mut self, host: usize) {
        for link in self.links_of(host) {
            self.cut(link, false);
        }
    }

    fn stall(&mut self, host: usize, time: Duration) {
        self.hosts[host].stalled_until = Some(self.now + time);
    }

    fn collect(&mut self) {
        for number in 0..self.hosts.len() {
            while let Some(output) = self.hosts[number].members.poll() {
                match output {
                    Output::Ping(link, nonce) => {
                        self.hosts[number].pings += 1;
                        self.send(number, link, Wire::Ping(nonce));
                    }
                    Output::Ack(link, nonce) => self.send(number, link, Wire::Ack(nonce)),
                    Output::Probe(link, about) => self.send(number, link, Wire::Probe(about)),
                    Output::Vouch(link, about) => self.send(number, link, Wire::Vouch(about)),
                    Output::Status(link, updates) => self.send(number, link, Wire::Status(updates)),
                    Output::Flood(updates, but) => {
                        for link in self.links_of(number).into_iter().filter(|link| Some(*link) != but) {
                            self.send(number, link, Wire::Status(updates.clone()));
                        }
                    }
                    Output::Present(id, _, is_present) => self.hosts[number].present.push((id, is_present)),
                    Output::Dead(id, _) => self.hosts[number].dead.push(id),
                    Output::Reborn(_) => {}
                    Output::Changed(change) => self.hosts[number].changes.push(change),
                }
            }
        }
    }

    fn send(&mut self, from: usize, link: LinkId, wire: Wire) {
        let Some((a, b)) = self.links.get(&link) else { return };
        let to = if *a == from { *b } else { *a };
        self.sent += 1;
        self.under_way.insert((self.now + self.delay, self.sent), (to, link, wire));
    }

    fn deliver(&mut self, to: usize, link: LinkId, wire: Wire) {
        if !self.links.contains_key(&link) {
            return;
        }
        let (now, members) = (self.now, &mut self.hosts[to].members);
        match wire {
            Wire::Ping(nonce) => members.on_ping(now, link, nonce),
            Wire::Ack(nonce) => members.on_ack(now, link, nonce),
            Wire::Probe(about) => members.on_probe(now, link, about),
            Wire::Vouch(about) => members.on_vouch(now, link, about),
            Wire::Status(updates) => {
                members.on_heard(now, link);
                assert_eq!(members.on_status(now, link, updates), 0);
            }
        }
        self.collect();
    }

    fn run(&mut self, time: Duration) {
        let end = self.now + time;
        loop {
            let message = self.under_way.first_key_value().map(|((at, _), _)| *at);
            let timer = |host: &Host| match (host.stalled_until, host.members.next()) {
                (Some(until), _) => Some(until),
                (None, next) => next,
            };
            let timers = self.hosts.iter().enumerate().filter_map(|(number, host)| Some((timer(host)?, number)));
            let timer = timers.min();
            let Some(next) = message.into_iter().chain(timer.map(|(at, _)| at)).min().filter(|at| *at <= end) else {
                self.now = end;
                return;
            };
            self.now = self.now.max(next);
            if message == Some(next) {
                let (_, (to, link, wire)) = self.under_way.pop_first().unwrap();
                match self.hosts[to].stalled_until {
                    Some(_) => self.hosts[to].waiting.push((link, wire)),
                    None => self.deliver(to, link, wire),
                }
                continue;
            }
            let (_, number) = timer.unwrap();
            let host = &mut self.hosts[number];
            host.members.handle_timeout(self.now);
            let waiting =
                if host.stalled_until.take().is_some() { std::mem::take(&mut host.waiting) } else { Vec::new() };
            self.collect();
            for (link, wire) in waiting {
                self.deliver(number, link, wire);
            }
        }
    }

    fn status(&self, at: usize, of: usize) -> MemberStatus {
        self.hosts[at].members.list(self.now).into_iter().find(|member| member.id == id(of)).unwrap().status
    }

    /// All that was told of a member, at a node
    fn told(&self, at: usize, of: usize) -> Vec<MemberStatus> {
        self.hosts[at].changes.iter().filter(|change| change.id == id(of)).map(|change| change.status).collect()
    }

    fn has_told_nothing(&self) -> bool {
        self.hosts.iter().all(|host| host.changes.is_empty())
    }

    fn assert_agreed(&self, among: &[usize]) {
        let roots: Vec<_> = among.iter().map(|host| self.hosts[*host].members.root()).collect();
        assert!(roots.windows(2).all(|pair| pair[0] == pair[1]), "{roots:?} after {:?}", self.now - self.start);
    }
}

use MemberStatus::{Forgotten, Gone, Left, Suspect, Up};

#[test]
fn a_quiet_network_stays_quiet() {
    let mut net = Net::mesh(6);
    net.run(600 * S);
    assert!(net.has_told_nothing());
    net.assert_agreed(&[0, 1, 2, 3, 4, 5]);
    let pings: usize = net.hosts.iter().map(|host| host.pings).sum();
    // 15 links, each with a PING a second from one end or the other, or now and then from both
    assert!((15 * 500..=15 * 1300).contains(&pings), "{pings}");
}

#[test]
fn whoever_crashes_is_suspected_and_then_gone_for_all() {
    let mut net = Net::mesh(5);
    net.run(10 * S);
    net.crash(4);
    net.run(4 * S);
    for host in 0..4 {
        assert_eq!(net.told(host, 4), [Suspect], "host {host}");
        assert_eq!(net.hosts[host].present, [], "a suspect is present");
    }
    net.run(10 * S);
    for host in 0..4 {
        assert_eq!(net.told(host, 4), [Suspect, Gone]);
        assert_eq!(net.hosts[host].present, [(id(4), false)]);
        assert_eq!(net.hosts[host].changes.len(), 2, "nobody else is doubted");
    }
    net.assert_agreed(&[0, 1, 2, 3]);
    net.run(3600 * S);
    assert_eq!(net.told(0, 4), [Suspect, Gone, Forgotten]);
    assert_eq!(net.hosts[0].dead, [id(4)]);
    assert!(net.hosts[0].members.list(net.now).iter().all(|member| member.id != id(4)));
    net.assert_agreed(&[0, 1, 2, 3]);
}

#[test]
fn whoever_hangs_with_open_links_is_found_too() {
    let mut net = Net::mesh(4);
    net.run(10 * S);
    net.stall(3, 1000 * S);
    net.run(20 * S);
    for host in 0..3 {
        assert_eq!(net.told(host, 3), [Suspect, Gone], "host {host}");
    }
    net.run(1000 * S);
    for host in 0..3 {
        assert_eq!(net.told(host, 3), [Suspect, Gone, Up], "it contradicts when it is back");
        assert_eq!(net.hosts[host].present, [(id(3), false), (id(3), true)]);
        assert_eq!(net.status(3, host), Up);
    }
    net.assert_agreed(&[0, 1, 2, 3]);
}

#[test]
fn a_suspect_contradicts_in_time() {
    let mut net = Net::mesh(5);
    net.run(10 * S);
    net.stall(2, 5 * S);
    net.run(30 * S);
    for host in [0, 1, 3, 4] {
        assert_eq!(net.told(host, 2), [Suspect, Up], "host {host}");
        assert_eq!(net.hosts[host].present, []);
    }
    net.assert_agreed(&[0, 1, 2, 3, 4]);
}

#[test]
fn who_stalls_himself_accuses_nobody() {
    let mut net = Net::mesh(8);
    net.run(10 * S);
    for _ in 0..50 {
        // Too short for the others to notice, and long enough for each of its own deadlines to pass
        net.stall(0, 1_400 * MS);
        net.run(4 * S);
    }
    assert!(net.has_told_nothing(), "{:?}", net.hosts.iter().map(|host| &host.changes).collect::<Vec<_>>());
    net.stall(0, 60 * S);
    net.run(90 * S);
    for host in 1..8 {
        assert_eq!(net.told(0, host), [], "after a minute's sleep neither");
    }
}

#[test]
fn it_knows_when_it_is_not_well_and_recovers() {
    let mut net = Net::mesh(4);
    net.run(5 * S);
    for _ in 0..4 {
        net.stall(0, 2 * S);
        net.run(3 * S);
    }
    assert!(net.hosts[0].members.health() > Health(1), "{:?}", net.hosts[0].members.health());
    net.run(60 * S);
    assert_eq!(net.hosts[0].members.health(), Health(0));
}

#[test]
fn a_lost_link_is_no_lost_node() {
    let mut net = Net::mesh(4);
    net.run(10 * S);
    let link = net.links_of(0)[0];
    net.cut(link, false);
    net.run(60 * S);
    assert!(net.has_told_nothing(), "the others hear it, and say so");
}

#[test]
fn a_neighbour_that_comes_back_at_once_is_not_doubted() {
    let mut net = Net::new(3, &[(0, 1), (0, 2)]);
    net.run(10 * S);
    let link = net.links_of(1)[0];
    net.cut(link, false);
    net.run(700 * MS);
    net.link(0, 1);
    net.run(60 * S);
    assert!(net.has_told_nothing());
}

#[test]
fn a_goodbye_is_believed_at_once() {
    let mut net = Net::mesh(4);
    net.run(10 * S);
    net.hosts[3].members.leave(net.now);
    net.collect();
    net.run(10 * MS);
    for link in net.links_of(3) {
        net.cut(link, true);
    }
    net.run(30 * S);
    for host in 0..3 {
        assert_eq!(net.told(host, 3), [Left], "host {host}");
        assert_eq!(net.hosts[host].present, [(id(3), false)]);
    }
    net.assert_agreed(&[0, 1, 2]);
}

#[test]
fn a_new_life_begins_with_a_clean_slate() {
    let mut net = Net::mesh(4);
    net.run(10 * S);
    net.crash(3);
    net.run(20 * S);
    net.hosts[3].members = Members::new(&NodeConfig::default(), identity(3, 2), net.now);
    for host in 0..3 {
        net.link(host, 3);
    }
    net.introduce(3, 2);
    net.run(20 * S);
    for host in 0..3 {
        assert_eq!(net.told(host, 3), [Suspect, Gone, Up], "host {host}");
        assert_eq!(net.hosts[host].members.list(net.now)[3].incarnation, Incarnation(2));
        assert_eq!(net.hosts[host].present, [(id(3), false), (id(3), true)]);
    }
    let old = StatusUpdate { id: id(3), incarnation: Incarnation(1), refutation: 9, status: Gone, accuser: id(1) };
    let link = net.links_of(0)[0];
    net.hosts[0].members.on_status(net.now, link, vec![old]);
    assert_eq!(net.status(0, 3), Up, "what is said of the old life is of no interest");
}

#[test]
fn when_the_hub_is_lost_its_leaves_accuse_nobody() {
    let mut net = Net::star(6);
    net.run(10 * S);
    net.crash(0);
    net.run(25 * S);
    assert!(net.has_told_nothing());
    // Much later each takes the hub for gone, and keeps that to itself: it may as well be the one that is cut off
    net.run(60 * S);
    for leaf in 1..6 {
        assert_eq!(net.told(leaf, 0), [Gone]);
        assert_eq!(net.hosts[leaf].changes.len(), 1, "of the other leaves nothing is known");
        assert_eq!(net.hosts[leaf].members.snapshot(), []);
    }
    for leaf in 1..6 {
        net.link(0, leaf);
    }
    net.run(10 * S);
    for leaf in 1..6 {
        assert_eq!(net.told(leaf, 0), [Gone, Up]);
        assert_eq!(net.told(0, leaf), [Gone, Up], "the hub was as lonely");
    }
    net.assert_agreed(&[0, 1, 2, 3, 4, 5]);
}

#[test]
fn a_leaf_that_is_cut_off_is_gone_for_the_others_and_they_are_not_for_it() {
    let mut net = Net::star(5);
    net.run(10 * S);
    net.crash(4);
    net.run(20 * S);
    for host in 0..4 {
        assert_eq!(net.told(host, 4), [Suspect, Gone]);
    }
    assert!(net.hosts[4].changes.is_empty());
    net.link(0, 4);
    net.run(10 * S);
    for host in 0..4 {
        assert_eq!(net.told(host, 4), [Suspect, Gone, Up]);
    }
    assert!(net.hosts[4].changes.iter().all(|change| change.status == Up));
    net.assert_agreed(&[0, 1, 2, 3, 4]);
}

#[test]
fn half_of_the_neighbours_may_die_at_once_and_are_found() {
    let mut net = Net::mesh(8);
    net.run(10 * S);
    for host in 3..8 {
        net.stall(host, 1000 * S);
    }
    net.run(60 * S);
    for (at, of) in [(0, 3), (1, 7), (2, 5)] {
        assert_eq!(net.told(at, of), [Suspect, Gone]);
    }
    assert_eq!((net.told(0, 1), net.told(1, 2)), (vec![], vec![]));
}

#[test]
fn accusers_shorten_the_suspects_time_and_many_nodes_lengthen_it() {
    let config = NodeConfig::default();
    let gone_after = |nodes: u64, accusers: u64| {
        let now = Instant::now();
        let mut members = Members::new(&config, identity(0, 1), now);
        for node in 1..nodes {
            members.on_member(now, NodeId(1000 + node), Incarnation(1), "", &[]);
        }
        for accuser in 0..accusers {
            let (id, accuser) = (NodeId(1001), NodeId(1 + accuser));
            let update = StatusUpdate { id, incarnation: Incarnation(1), refutation: 0, status: Suspect, accuser };
            members.on_status(now, LinkId(1), vec![update, update]);
        }
        members.next().unwrap() - now
    };
    assert_eq!(gone_after(10, 1), 5 * S);
    assert_eq!(gone_after(1000, 1), 15 * S);
    assert_eq!(gone_after(10, 2), 3750 * MS);
    assert_eq!(gone_after(10, 4), 2500 * MS);
    assert_eq!(gone_after(10, 9), 2500 * MS);
}

#[test]
fn lies_about_a_node_can_always_be_contradicted() {
    let mut net = Net::mesh(3);
    let link = net.links_of(0)[0];
    let lie = |refutation, incarnation, status| StatusUpdate {
        id: id(1),
        incarnation: Incarnation(incarnation),
        refutation,
        status,
        accuser: id(2),
    };
    let lies = net.hosts[0].members.on_status(net.now, link, vec![lie(u64::MAX, 1, Gone), lie(0, 1, Forgotten)]);
    assert_eq!(lies, 2);
    net.hosts[0].members.on_status(net.now, link, vec![lie(0, 7, Gone)]);
    assert!(net.has_told_nothing(), "hearsay of another life is no news");
    net.hosts[0].members.on_status(net.now, link, vec![lie(MAX_REFUTATION, 1, Gone)]);
    net.collect();
    net.run(3 * S);
    assert_eq!(net.told(0, 1), [Gone, Up]);
    net.assert_agreed(&[0, 1, 2]);
    // And nobody can make a node say that it is in another life; but it begins one that is beyond what was said
    let own = lie(MAX_REFUTATION, 2, Gone);
    net.hosts[1].members.on_status(net.now, link, vec![own]);
    assert_eq!(net.hosts[1].members.poll(), Some(Output::Reborn(Incarnation(2))));
    assert!(net.hosts[1].members.poll().is_none());
}

#[test]
fn each_piece_of_news_crosses_a_link_a_few_times_and_no_more() {
    let mut net = Net::mesh(8);
    net.run(10 * S);
    net.crash(7);
    let before = net.sent;
    net.run(30 * S);
    let acks_and_pings: usize = net.hosts.iter().map(|host| host.pings * 2).sum();
    let status = (net.sent - before).saturating_sub(acks_and_pings as u64);
    // 21 links: up to 4 accusations and Gone, each at most once in each direction, and the probes
    assert!(status < 21 * 2 * 5 + 7 * 6, "{status}");
}

#[test]
fn with_links_only_neighbours_are_members_and_nothing_is_passed_on() {
    let config = NodeConfig { presence: Presence::Links, ..NodeConfig::default() };
    let now = Instant::now();
    let mut members = Members::new(&config, identity(0, 1), now);
    members.on_link_up(now, LinkId(1), NodeId(1), Incarnation(1));
    members.on_link_up(now, LinkId(2), NodeId(2), Incarnation(1));
    while members.poll().is_some() {}
    let update =
        StatusUpdate { id: NodeId(2), incarnation: Incarnation(1), refutation: 1, status: Up, accuser: NodeId(2) };
    members.on_status(now, LinkId(1), vec![update, StatusUpdate { id: NodeId(3), ..update }]);
    assert_eq!((members.poll(), members.root(), members.snapshot()), (None, 0, vec![]));
    assert_eq!(members.list(now).len(), 3);
}

#[test]
fn a_hub_of_many_leaves_is_not_kept_busy() {
    let mut net = Net::star(201);
    net.run(20 * S);
    let before = (net.hosts[0].pings, net.hosts[1].pings);
    net.run(20 * S);
    let (hub, leaf) = (net.hosts[0].pings - before.0, net.hosts[1].pings - before.1);
    assert!(leaf >= 15 && hub < 400, "the leaves ask the hub: {leaf} each, {hub}");
    assert!(net.has_told_nothing());
    net.stall(9, 1000 * S);
    net.run(60 * S);
    assert_eq!(net.told(0, 9), [Suspect, Gone], "and a leaf that hangs is found all the same");
    assert_eq!(net.told(7, 9), [Suspect, Gone]);
}

#[test]
fn whoever_is_beyond_a_lost_node_is_out_of_reach_until_there_is_another_way() {
    // 0 - 1 - 2 - 3 - 4, and 2 is lost: 3 and 4 are well, but not for 0 and 1
    let mut net = Net::new(5, &[(0, 1), (1, 2), (2, 3), (3, 4)]);
    net.tell_neighbours();
    net.run(10 * S);
    net.crash(2);
    net.run(60 * S);
    for (at, others) in [(0, [3, 4]), (1, [3, 4]), (3, [0, 1]), (4, [0, 1])] {
        assert_eq!(net.told(at, 2), [Suspect, Gone]);
        for other in others {
            assert_eq!(net.told(at, other), [Gone], "{other} at {at}");
            assert!(net.hosts[at].present.contains(&(id(other), false)));
        }
    }
    assert!(net.hosts[0].members.snapshot().iter().all(|update| update.id == id(2)), "it isn't said to others");
    net.link(1, 3);
    net.tell_neighbours();
    net.run(60 * S);
    for (at, others) in [(0, [3, 4]), (1, [3, 4]), (3, [0, 1]), (4, [0, 1])] {
        for other in others {
            assert_eq!(net.told(at, other), [Gone, Up], "{other} at {at}");
            assert!(net.hosts[at].present.contains(&(id(other), true)));
        }
    }
}

#[test]
fn whoever_dies_with_its_only_neighbour_is_found_too() {
    let mut net = Net::new(5, &[(0, 1), (1, 2), (2, 0), (2, 3), (3, 4)]);
    net.tell_neighbours();
    net.run(10 * S);
    net.crash(4);
    net.crash(3);
    net.run(60 * S);
    for host in 0..3 {
        assert_eq!(net.told(host, 3), [Suspect, Gone]);
        assert_eq!(net.told(host, 4), [Gone], "nobody is left who could accuse it");
    }
}

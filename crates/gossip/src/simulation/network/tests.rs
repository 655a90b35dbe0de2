//! The network by itself, with participants that do nothing but tell what they saw.

use std::any::Any;
use std::collections::VecDeque;

use bytes::Bytes;

use super::*;
use crate::config::Side;
use crate::simulation::Latency;

/// Says a number every 10 ms on each of its links, and remembers what it hears
#[derive(Default)]
struct Counter {
    links: Vec<LinkId>,
    heard: Vec<(u64, u64)>,
    ups: usize,
    downs: usize,
    next: Option<Instant>,
    said: u64,
    transmits: VecDeque<Transmit>,
}

impl Participant for Counter {
    fn handle_link_up(&mut self, now: Instant, link: LinkId, info: LinkInfo) {
        assert_eq!(info.explicit, info.side == Side::Remote);
        self.links.push(link);
        self.ups += 1;
        self.next.get_or_insert(now + EVERY);
    }

    fn handle_link_down(&mut self, _now: Instant, link: LinkId) {
        self.links.retain(|known| *known != link);
        self.downs += 1;
    }

    fn handle_message(&mut self, _now: Instant, link: LinkId, message: Message) {
        let frame = message.frames().next().unwrap();
        self.heard.push((link.0, u64::from_be_bytes(frame.try_into().unwrap())));
    }

    fn handle_timeout(&mut self, now: Instant) {
        self.said += 1;
        for link in &self.links {
            let frame = Bytes::copy_from_slice(&self.said.to_be_bytes());
            self.transmits.push_back(Transmit { link: *link, frame });
        }
        self.next = Some(now + EVERY);
    }

    fn poll_transmit(&mut self) -> Option<Transmit> {
        self.transmits.pop_front()
    }

    fn poll_timeout(&self) -> Option<Instant> {
        self.next
    }

    fn as_any(&mut self) -> &mut dyn Any {
        self
    }
}

fn two(model: LinkModel) -> (Network, PartyId, PartyId) {
    let mut network = Network::new(1, model);
    let make: fn() -> MakeParticipant = || Box::new(|| Box::new(Counter::default()));
    let (one, other) = (network.add_other(make()), network.add_other(make()));
    network.connect(one, other);
    (network, one, other)
}

fn look<R>(network: &mut Network, party: PartyId, look: impl FnOnce(&mut Counter) -> R) -> R {
    network.with_other(party, |counter: &mut Counter, _| look(counter)).unwrap()
}

fn heard(network: &mut Network, party: PartyId) -> Vec<(u64, u64)> {
    look(network, party, |counter| std::mem::take(&mut counter.heard))
}

fn model(latency: &str, loss: f64) -> LinkModel {
    LinkModel { latency: latency.parse().unwrap(), loss, ..LinkModel::default() }
}

#[test]
fn messages_keep_their_order_and_arrive_late() {
    let (mut network, one, other) = two(model("1ms..90ms", 0.0));
    network.run_for(Duration::from_secs(5));
    let numbers: Vec<u64> = heard(&mut network, other).into_iter().map(|(_, number)| number).collect();
    assert!(numbers.len() > 400 && numbers.is_sorted(), "{numbers:?}");
    assert_eq!(numbers.len() as u64, numbers.last().unwrap() - numbers.first().unwrap() + 1, "none is lost");
    assert_eq!(look(&mut network, one, |counter| (counter.ups, counter.downs)), (1, 0));
    assert_eq!((network.lost(), network.open_connections()), (Count::default(), 1));
}

#[test]
fn as_many_are_lost_as_should_be() {
    let (mut network, ..) = two(model("1ms", 0.2));
    network.run_for(Duration::from_secs(100));
    let share = network.lost().messages as f64 / network.traffic().total().messages as f64;
    assert!((0.18..0.22).contains(&share), "{share}");
}

#[test]
fn a_partition_is_silent_and_ends_connections_after_a_while() {
    let (mut network, one, other) = two(model("1ms", 0.0));
    network.run_for(Duration::from_secs(1));
    network.partition(|party| party.0 as u32);
    assert!(!network.reaches(one, other));
    heard(&mut network, one);
    network.run_for(Duration::from_secs(10));
    assert_eq!(look(&mut network, one, |counter| (counter.heard.len(), counter.downs)), (0, 0));
    network.run_for(Duration::from_secs(20));
    assert_eq!(look(&mut network, one, |counter| (counter.heard.len(), counter.downs, counter.ups)), (0, 1, 1));
    network.heal();
    network.run_for(Duration::from_secs(10));
    assert_eq!(look(&mut network, one, |counter| (counter.downs, counter.ups)), (1, 2), "it dials again");
    assert!(!heard(&mut network, other).is_empty());
}

#[test]
fn a_short_partition_costs_messages_and_no_connection() {
    let (mut network, one, other) = two(model("1ms", 0.0));
    network.run_for(Duration::from_secs(1));
    network.partition(|party| party.0 as u32);
    network.run_for(Duration::from_secs(5));
    network.heal();
    heard(&mut network, other);
    network.run_for(Duration::from_secs(40));
    assert_eq!(look(&mut network, one, |counter| (counter.downs, counter.ups)), (0, 1));
    assert!(heard(&mut network, other).len() > 3900);
}

#[test]
fn those_who_stop_are_missed_and_dialled_again() {
    for ending in [Ending::Leave, Ending::Kill, Ending::Vanish] {
        let (mut network, one, other) = two(model("1ms", 0.0));
        network.run_for(Duration::from_secs(1));
        network.stop(other, ending);
        assert_eq!((network.running(), network.life(other)), (1, 0));
        network.run_for(Duration::from_secs(5));
        let downs = look(&mut network, one, |counter| counter.downs);
        assert_eq!(downs, usize::from(ending != Ending::Vanish), "{ending:?}");
        network.start_after(other, Duration::from_secs(1));
        network.run_for(Duration::from_secs(40));
        assert_eq!(look(&mut network, one, |counter| (counter.downs, counter.ups)), (1, 2), "{ending:?}");
        assert_eq!((network.running(), network.life(other)), (2, 1));
        assert_eq!(look(&mut network, other, |counter| (counter.downs, counter.ups)), (0, 1), "it began anew");
    }
}

#[test]
fn one_that_pauses_gets_its_messages_later_and_in_order() {
    let (mut network, _, other) = two(model("1ms", 0.0));
    network.run_for(Duration::from_secs(1));
    heard(&mut network, other);
    network.pause(other, Duration::from_secs(2));
    network.run_for(Duration::from_millis(1900));
    assert_eq!(heard(&mut network, other).len(), 0);
    network.run_for(Duration::from_secs(1));
    let numbers: Vec<u64> = heard(&mut network, other).into_iter().map(|(_, number)| number).collect();
    assert!(numbers.len() > 250 && numbers.is_sorted(), "{numbers:?}");
}

#[test]
fn bandwidth_delays_and_a_cut_ends() {
    let slow = LinkModel { bandwidth: Some(500), ..model("1ms", 0.0) };
    let (mut network, one, other) = two(slow);
    network.run_for(Duration::from_secs(10));
    // 100 a second of 10 octets each are twice what goes through
    let count = heard(&mut network, other).len();
    assert!((450..500).contains(&count), "{count}");
    assert!(network.cut(one, other) && !network.cut(one, other));
    network.run_for(Duration::from_secs(20));
    assert_eq!(look(&mut network, one, |counter| (counter.downs, counter.ups)), (1, 2));
    network.disconnect(one, other);
    network.run_for(Duration::from_secs(60));
    assert_eq!((network.open_connections(), look(&mut network, one, |counter| counter.ups)), (0, 2));
}

#[test]
fn time_that_is_no_whole_microsecond_passes_too() {
    let mut network = Network::new(1, LinkModel::default());
    let until = Duration::from_secs(20) / 3;
    network.run_until(until);
    assert!(network.now() >= until && network.now() < until + Duration::from_micros(1));
}

#[test]
fn clocks_run_apart() {
    let mut network = Network::new(1, LinkModel::default());
    let config = NodeConfig::default;
    let fast = network.add(config(), LocalClock { ahead_micros: 0, drift_ppm: 1000 });
    let right = network.add(config(), LocalClock::default());
    network.run_for(Duration::from_secs(1000));
    assert_eq!(network.local_now(fast) - network.local_now(right), Duration::from_secs(1));
    assert_eq!(Latency::default(), LinkModel::default().latency);
}

const EVERY: Duration = Duration::from_millis(10);

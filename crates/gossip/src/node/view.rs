//! Whom a node could connect to: a sample of the network, exchanged with neighbours, and links made from it.
//!
//! Pure state: the node calls it and then collects [`Output`]s with `poll()`. It is called with
//! - `on_link_up(now, link, id, endpoints, explicit)` when HELLO of a link with a node of ours came, `on_link_down(now, link)`;
//! - `on_shuffle(now, link, samples)`, and with what a BYE brought: `on_samples(now, samples)`;
//! - `on_unreachable(now, endpoint)`: a dial failed;
//! - `handle_timeout(now)` when `next()` says. Randomness is given by `seed` alone.
//!
//! Which links are *active* is not its matter (`spread.rs` chooses); it makes and ends them.
//!
//! In the manner of HyParView: few links that are kept, and more addresses, of no particular nodes, to replace them from. Each
//! node tells one neighbour at a time of a few others, so that in a while everybody has heard of a random few. What comes
//! from peers is never more than a proposal: nothing is dialled unless the node may make links itself and lacks some.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::{Duration, Instant};

use super::ViewState;
use crate::config::{LinkId, NodeConfig};
use crate::record::NodeId;
use crate::wire::tidings::Sample;

/// What the view wants done
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Output {
    /// SHUFFLE on a link
    Shuffle(LinkId, Vec<Sample>),
    /// Connect there
    Dial(Sample),
    /// Say BYE with these and hang up: there are too many links
    Bye(LinkId, Vec<Sample>),
}

/// A sample of the network
pub(super) struct View {
    id: NodeId,
    overlay: bool,
    degree: usize,
    max_links: usize,
    random: u64,
    links: BTreeMap<LinkId, Neighbour>,
    samples: BTreeMap<NodeId, String>,
    /// Whom it connects to, and until when that may take
    dials: BTreeMap<NodeId, (String, Instant)>,
    /// Where nobody answered, and until when it isn't tried again
    shunned: BTreeMap<String, Instant>,
    shuffle_at: Instant,
    dial_at: Instant,
    outputs: VecDeque<Output>,
}

struct Neighbour {
    id: NodeId,
    endpoint: Option<String>,
    explicit: bool,
    shuffled_at: Option<Instant>,
}

impl View {
    pub(super) fn new(config: &NodeConfig, id: NodeId, seed: u64, now: Instant) -> Self {
        let mut view = Self {
            id,
            overlay: config.overlay,
            degree: config.degree,
            max_links: config.max_links,
            random: seed,
            links: BTreeMap::new(),
            samples: BTreeMap::new(),
            dials: BTreeMap::new(),
            shunned: BTreeMap::new(),
            shuffle_at: now,
            dial_at: now,
            outputs: VecDeque::new(),
        };
        // Not all at the same moment
        view.shuffle_at = now + SHUFFLE_INTERVAL.mul_f64(view.share());
        view
    }

    pub(super) fn on_link_up(&mut self, now: Instant, link: LinkId, id: NodeId, endpoints: &[String], explicit: bool) {
        let endpoint = endpoints.iter().find(|endpoint| is_address(endpoint)).cloned();
        self.dials.remove(&id);
        self.samples.remove(&id);
        self.links.insert(link, Neighbour { id, endpoint, explicit, shuffled_at: None });
        self.end_surplus(now);
    }

    pub(super) fn on_link_down(&mut self, now: Instant, link: LinkId) {
        let Some(neighbour) = self.links.remove(&link) else { return };
        // It may be there again
        if let Some(endpoint) = neighbour.endpoint {
            self.keep(now, Sample { id: neighbour.id, endpoint });
        }
        self.dial_at = self.dial_at.min(now + self.pause());
    }

    pub(super) fn on_shuffle(&mut self, now: Instant, link: LinkId, samples: Vec<Sample>) {
        let Some(neighbour) = self.links.get_mut(&link) else { return };
        // Honest ones come every ten seconds
        let is_flood =
            neighbour.shuffled_at.is_some_and(|at| now.saturating_duration_since(at) < SHUFFLE_INTERVAL / 10);
        if !is_flood {
            neighbour.shuffled_at = Some(now);
            self.on_samples(now, samples);
        }
    }

    pub(super) fn on_samples(&mut self, now: Instant, samples: Vec<Sample>) {
        for sample in samples.into_iter().take(SHUFFLED * 2) {
            self.keep(now, sample);
        }
        self.dial_at = self.dial_at.min(now + self.pause());
    }

    pub(super) fn on_unreachable(&mut self, now: Instant, endpoint: &str) {
        self.dials.retain(|_, (dialled, _)| dialled != endpoint);
        self.samples.retain(|_, known| known != endpoint);
        self.shunned.retain(|_, until| *until > now);
        if self.shunned.len() < MAX_SHUNNED {
            self.shunned.insert(endpoint.to_owned(), now + SHUN_TIME);
        }
        self.dial_at = self.dial_at.min(now + self.pause());
    }

    pub(super) fn handle_timeout(&mut self, now: Instant) {
        if self.shuffle_at <= now && !self.links.is_empty() {
            self.shuffle_at = now + SHUFFLE_INTERVAL.mul_f64(0.75 + self.share() / 2.0);
            self.shuffle();
        }
        if self.overlay && self.dial_at <= now {
            self.dial_at = now + DIAL_INTERVAL.mul_f64(0.5 + self.share());
            self.dial(now);
        }
    }

    pub(super) fn next(&self) -> Option<Instant> {
        let shuffle = (!self.links.is_empty()).then_some(self.shuffle_at);
        let lacks = self.overlay && self.neighbours().len() < self.degree && !self.samples.is_empty();
        [shuffle, lacks.then_some(self.dial_at)].into_iter().flatten().min()
    }

    pub(super) fn poll(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    pub(super) fn state(&self) -> ViewState {
        ViewState { samples: self.samples.iter().map(|(id, endpoint)| (*id, endpoint.clone())).collect() }
    }

    /// Tells one neighbour of some others
    fn shuffle(&mut self) {
        let turn = self.pick(self.links.len());
        let Some(link) = self.links.keys().copied().nth(turn) else { return };
        let samples = self.some(SHUFFLED, link);
        if !samples.is_empty() {
            self.outputs.push_back(Output::Shuffle(link, samples));
        }
    }

    /// A few nodes that the one at the other end of a link could connect to, neighbours and others
    fn some(&mut self, most: usize, link: LinkId) -> Vec<Sample> {
        let to = self.links.get(&link).map(|neighbour| neighbour.id);
        let neighbours = self.links.values().filter_map(|neighbour| Some((neighbour.id, neighbour.endpoint.clone()?)));
        let all: BTreeMap<NodeId, String> =
            self.samples.iter().map(|(id, endpoint)| (*id, endpoint.clone())).chain(neighbours).collect();
        let mut all: Vec<Sample> = all.into_iter().map(|(id, endpoint)| Sample { id, endpoint }).collect();
        all.retain(|sample| Some(sample.id) != to);
        while all.len() > most {
            let surplus = self.pick(all.len());
            all.swap_remove(surplus);
        }
        all
    }

    /// Remembers a sample, in the place of another if there are enough
    fn keep(&mut self, now: Instant, sample: Sample) {
        let is_shunned = self.shunned.get(&sample.endpoint).is_some_and(|until| *until > now);
        let is_neighbour = self.links.values().any(|neighbour| neighbour.id == sample.id);
        if sample.id == self.id || is_neighbour || is_shunned || !is_address(&sample.endpoint) {
            return;
        }
        if self.samples.len() >= SAMPLES && !self.samples.contains_key(&sample.id) {
            let turn = self.pick(self.samples.len());
            let Some(given_up) = self.samples.keys().copied().nth(turn) else { return };
            self.samples.remove(&given_up);
        }
        self.samples.insert(sample.id, sample.endpoint);
    }

    /// Connects to somebody else if there are too few links
    fn dial(&mut self, now: Instant) {
        self.dials.retain(|_, (_, until)| *until > now);
        let lacking = self.degree.saturating_sub(self.neighbours().len() + self.dials.len());
        for _ in 0..lacking.min(DIALS) {
            let free = |id: &&NodeId| !self.dials.contains_key(id);
            let candidates: Vec<NodeId> = self.samples.keys().filter(free).copied().collect();
            let Some(id) = candidates.get(self.pick(candidates.len())).copied() else { return };
            let Some(endpoint) = self.samples.get(&id).cloned() else { return };
            self.dials.insert(id, (endpoint.clone(), now + DIAL_TIME));
            self.outputs.push_back(Output::Dial(Sample { id, endpoint }));
        }
    }

    /// Sends the newest elsewhere while there are too many links that nobody asked for here
    ///
    /// Only a node that makes links itself expects others to do so; of one that doesn't nobody could be sent away.
    fn end_surplus(&mut self, _now: Instant) {
        if !self.overlay {
            return;
        }
        let others: Vec<LinkId> =
            self.links.iter().filter(|(_, neighbour)| !neighbour.explicit).map(|(link, _)| *link).collect();
        for link in others.into_iter().skip(self.max_links).rev() {
            let samples = self.some(SHUFFLED, link);
            self.outputs.push_back(Output::Bye(link, samples));
            self.links.remove(&link);
        }
    }

    fn neighbours(&self) -> BTreeSet<NodeId> {
        self.links.values().map(|neighbour| neighbour.id).collect()
    }

    /// Not all who have lost the same neighbour turn to the same other at once
    fn pause(&mut self) -> Duration {
        DIAL_INTERVAL.mul_f64(self.share() / 2.0)
    }

    fn pick(&mut self, among: usize) -> usize {
        usize::try_from(self.next_random() % u64::try_from(among.max(1)).unwrap_or(1)).unwrap_or_default()
    }

    fn share(&mut self) -> f64 {
        (self.next_random() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// SplitMix64
    fn next_random(&mut self) -> u64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.random ^ (self.random >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}

/// Whether somebody on another host, or at least in another process, could connect to it
fn is_address(endpoint: &str) -> bool {
    let is_known = ["tcp://", "tls://", "ipc://", "inproc://"].iter().any(|scheme| endpoint.starts_with(scheme));
    is_known && endpoint.len() <= MAX_ENDPOINT && !endpoint.ends_with(":0") && !endpoint.contains('*')
}

/// Nodes that it isn't connected to and could be
const SAMPLES: usize = 30;
/// Samples in one SHUFFLE
const SHUFFLED: usize = 8;
const SHUFFLE_INTERVAL: Duration = Duration::from_secs(10);
/// How often somebody else is dialled while there are too few links
const DIAL_INTERVAL: Duration = Duration::from_secs(1);
/// At once
const DIALS: usize = 2;
/// After this long without a HELLO another is tried
const DIAL_TIME: Duration = Duration::from_secs(10);
/// How long an endpoint where nobody was is not tried
const SHUN_TIME: Duration = Duration::from_secs(60);
const MAX_SHUNNED: usize = 256;
const MAX_ENDPOINT: usize = 255;

#[cfg(test)]
mod tests {
    use super::*;

    const S: Duration = Duration::from_secs(1);

    fn sample(number: u64) -> Sample {
        Sample { id: NodeId(number), endpoint: format!("tcp://10.0.0.{number}:4833") }
    }

    fn overlay() -> NodeConfig {
        NodeConfig { overlay: true, ..NodeConfig::default() }
    }

    fn up(view: &mut View, now: Instant, number: u64, explicit: bool) {
        let Sample { id, endpoint } = sample(number);
        view.on_link_up(now, LinkId(number), id, &["tcp://0.0.0.0:*".to_owned(), endpoint], explicit);
    }

    fn run(view: &mut View, from: Instant, time: Duration) -> Vec<Output> {
        let mut outputs = Vec::new();
        while let Some(at) = view.next().filter(|at| *at <= from + time) {
            view.handle_timeout(at.max(from));
            outputs.extend(std::iter::from_fn(|| view.poll()));
        }
        outputs
    }

    fn dialled(outputs: &[Output]) -> Vec<Sample> {
        let dialled =
            outputs.iter().filter_map(|output| if let Output::Dial(sample) = output { Some(sample) } else { None });
        dialled.cloned().collect()
    }

    #[test]
    fn a_node_of_few_links_makes_more_and_no_more_than_it_lacks() {
        let now = Instant::now();
        let mut view = View::new(&overlay(), NodeId(1), 7, now);
        up(&mut view, now, 2, true);
        view.on_shuffle(now, LinkId(2), (1..10).map(sample).collect());
        let outputs = run(&mut view, now, 9 * S);
        let dials = dialled(&outputs);
        assert_eq!(dials.len(), 3, "{outputs:?}");
        assert!(dials.iter().all(|sample| sample.id.0 > 2), "neither itself nor a neighbour");
        for sample in &dials {
            up(&mut view, now + 9 * S, sample.id.0, false);
        }
        assert_eq!(dialled(&run(&mut view, now + 9 * S, 100 * S)), []);
        view.on_link_down(now + 110 * S, LinkId(dials[0].id.0));
        assert_eq!(dialled(&run(&mut view, now + 110 * S, 5 * S)).len(), 1);
    }

    #[test]
    fn a_node_that_may_not_make_links_makes_none() {
        let now = Instant::now();
        let mut view = View::new(&NodeConfig::default(), NodeId(1), 7, now);
        up(&mut view, now, 2, true);
        view.on_shuffle(now, LinkId(2), (3..10).map(sample).collect());
        for number in 10..200 {
            up(&mut view, now, number, false);
        }
        let outputs = run(&mut view, now, 100 * S);
        assert!(outputs.iter().all(|output| matches!(output, Output::Shuffle(..))));
    }

    #[test]
    fn where_nobody_is_another_is_tried() {
        let now = Instant::now();
        let mut view = View::new(&overlay(), NodeId(1), 7, now);
        view.on_samples(now, (2..30).map(sample).collect());
        let mut tried = BTreeSet::new();
        let mut at = now;
        for _ in 0..100 {
            let Some(next) = view.next() else { break };
            at = at.max(next);
            view.handle_timeout(at);
            while let Some(output) = view.poll() {
                let Output::Dial(sample) = output else { continue };
                assert!(tried.insert(sample.id), "not again so soon");
                view.on_unreachable(at, &sample.endpoint);
            }
        }
        assert_eq!(tried.len(), SHUFFLED * 2, "all that one message may bring");
        view.on_samples(at, (2..10).map(sample).collect());
        assert_eq!(view.next(), None, "they are shunned");
        view.on_samples(at + SHUN_TIME, (2..10).map(sample).collect());
        assert!(view.next().is_some());
    }

    #[test]
    fn an_unanswered_dial_is_given_up() {
        let now = Instant::now();
        let mut view = View::new(&overlay(), NodeId(1), 7, now);
        view.on_samples(now, (2..12).map(sample).collect());
        assert_eq!(dialled(&run(&mut view, now, 9 * S)).len(), 4);
        assert!(dialled(&run(&mut view, now + 9 * S, 12 * S)).len() >= 4);
    }

    #[test]
    fn of_too_many_links_the_newest_go_elsewhere() {
        let now = Instant::now();
        let config = NodeConfig { max_links: 5, ..overlay() };
        let mut view = View::new(&config, NodeId(1), 7, now);
        for number in 2..9 {
            up(&mut view, now, number, number % 2 == 0);
        }
        assert_eq!(view.poll(), None, "four were asked for, three were not");
        for number in [11, 13] {
            up(&mut view, now, number, false);
        }
        assert_eq!(view.poll(), None);
        up(&mut view, now, 15, false);
        let Some(Output::Bye(LinkId(15), samples)) = view.poll() else { panic!("the newest is told") };
        assert_eq!(samples.len(), SHUFFLED);
        assert!(samples.iter().all(|sample| sample.id != NodeId(15)));
    }

    #[test]
    fn neighbours_hear_of_others_at_intervals() {
        let now = Instant::now();
        let mut view = View::new(&NodeConfig::default(), NodeId(1), 7, now);
        for number in 2..5 {
            up(&mut view, now, number, true);
        }
        let outputs = run(&mut view, now, 100 * S);
        assert!((7..=14).contains(&outputs.len()), "{}", outputs.len());
        let told: BTreeSet<_> = outputs
            .iter()
            .map(|output| if let Output::Shuffle(link, _) = output { *link } else { LinkId(0) })
            .collect();
        assert_eq!(told.len(), 3);
        let of_link = |output: &Output| {
            if let Output::Shuffle(link, samples) = output { (*link, samples.clone()) } else { panic!() }
        };
        for (link, samples) in outputs.iter().map(of_link) {
            assert_eq!(samples.len(), 2);
            assert!(samples.iter().all(|sample| sample.id.0 != link.0));
        }
    }

    #[test]
    fn what_peers_propose_is_bounded_and_sane() {
        let now = Instant::now();
        let mut view = View::new(&overlay(), NodeId(1), 7, now);
        up(&mut view, now, 2, true);
        let bad = ["http://a", "tcp://0.0.0.0:*", "tcp://a:0", "", &format!("tcp://{}", "a".repeat(300))];
        view.on_samples(now, bad.iter().map(|bad| Sample { id: NodeId(9), endpoint: (*bad).to_owned() }).collect());
        assert_eq!(view.state().samples, []);
        for turn in 0..100 {
            view.on_shuffle(now, LinkId(2), (10 * turn + 3..10 * turn + 13).map(sample).collect());
        }
        assert_eq!(view.state().samples.len(), 10, "one SHUFFLE a second at most");
        for turn in 0..100 {
            view.on_samples(now, (10 * turn + 3..10 * turn + 13).map(sample).collect());
        }
        assert_eq!(view.state().samples.len(), SAMPLES);
    }
}

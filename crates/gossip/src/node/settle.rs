//! Contested keys: values that nodes without an order of writes keep chasing over each other are held at one of them.
//!
//! Pure state, without I/O. `zgossip.rs` asks [`Settle::on_value`] about each value of a ZGP peer that would be a write, and the
//! node gives it time: `handle_timeout(now)`, `next()`; `poll()` gives what is to be told, `Contested` and `Settled`, and
//! `poll_repeat()` a key of which peers may need the winner once more.
//!
//! Two CZMQ nodes that are given different values of one key at about the same time overwrite and forward them for ever
//! (measured: 49,000 to 92,000 times a second and node). A key is contested when values come back that it had a moment ago,
//! [`MAX_RETURNS`] times within [`WINDOW`]. It is then held at the greatest of them in octet order, so that all who look at
//! one storm choose alike; what comes back after that is counted and neither written nor forwarded. A value that was never
//! seen is taken: only what circulates is stopped. The key is settled when nothing came back for [`QUIET`].

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::time::{Duration, Instant};

use bytes::Bytes;
use smallvec::SmallVec;

use crate::event::Event;

/// What is to be done with a value that would be a write
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It is one
    Take,
    /// The key is contested from now on: this one is written instead, if the key has another
    Contested(Bytes),
    /// The key is contested: nothing is written
    Hold,
}

/// Which keys change, and which are contested
#[derive(Default)]
pub(super) struct Settle {
    tracks: HashMap<Bytes, Track>,
    /// When each track is to be looked at, and whose it is
    timers: BTreeSet<(Instant, Bytes)>,
    /// Octets of the greatest values
    octets: usize,
    contested: usize,
    events: VecDeque<Event>,
    repeats: VecDeque<Bytes>,
}

/// One key that was overwritten of late
struct Track {
    key: Bytes,
    seen: SmallVec<[Seen; 4]>,
    /// The first of them, or their first octets, for people
    shown: SmallVec<[Bytes; 2]>,
    /// When values came back, the last few
    returns: VecDeque<Instant>,
    /// The greatest value of all
    greatest: Bytes,
    /// When it may be forgotten, or is settled
    ends: Instant,
    timer: Instant,
    held: Option<Held>,
}

struct Seen {
    value: u64,
    at: Instant,
}

struct Held {
    /// New values that were taken since it was quiet
    taken: usize,
    /// When peers that said something else since may be sent the winner again
    repeat_at: Option<Instant>,
    wait: Duration,
}

impl Settle {
    /// A peer sent a value that is not what the key has; `hash` and `current_hash` are of `value` and `current`
    pub(super) fn on_value(
        &mut self,
        now: Instant,
        key: &Bytes,
        (value, hash): (&Bytes, u64),
        (current, current_hash): (&Bytes, u64),
    ) -> Verdict {
        self.make_room(self.tracks.contains_key(key), current.len().max(value.len()));
        if !self.tracks.contains_key(key) {
            // What came is a slice of all that came with it, which it would keep
            let key = Bytes::copy_from_slice(key);
            self.octets += current.len();
            let track = Track {
                key: key.clone(),
                seen: SmallVec::new(),
                shown: SmallVec::new(),
                returns: VecDeque::new(),
                greatest: current.clone(),
                ends: now + WINDOW,
                timer: now + WINDOW,
                held: None,
            };
            self.timers.insert((track.timer, key.clone()));
            self.tracks.insert(key, track);
        }
        let Some(track) = self.tracks.get_mut(key) else { return Verdict::Take };
        if track.held.is_none() {
            track.seen.retain(|seen| now.saturating_duration_since(seen.at) < WINDOW);
        }
        track.note(now, current, current_hash);
        let is_return = track.seen.iter().any(|seen| seen.value == hash);
        track.note(now, value, hash);
        if value > &track.greatest {
            self.octets = self.octets + value.len() - track.greatest.len();
            track.greatest = Bytes::copy_from_slice(value);
        }
        if let Some(held) = &mut track.held {
            if !is_return && held.taken < MAX_TAKEN {
                held.taken += 1;
                return Verdict::Take;
            }
            track.ends = now + QUIET;
            if held.repeat_at.is_none() {
                held.repeat_at = Some(now + held.wait);
                Self::set_timer(&mut self.timers, track);
            }
            return Verdict::Hold;
        }
        track.ends = now + WINDOW;
        if !is_return {
            return Verdict::Take;
        }
        track.returns.push_back(now);
        while track.returns.front().is_some_and(|at| now.saturating_duration_since(*at) >= WINDOW) {
            track.returns.pop_front();
        }
        if track.returns.len() < MAX_RETURNS {
            return Verdict::Take;
        }
        track.returns = VecDeque::new();
        track.held = Some(Held { taken: 0, repeat_at: None, wait: MIN_REPEAT });
        track.ends = now + QUIET;
        let winner = track.greatest.clone();
        let mut values = track.shown.to_vec();
        values.sort();
        values.dedup();
        self.contested += 1;
        self.events.push_back(Event::Contested { key: track.key.clone(), values, winner: winner.clone() });
        Verdict::Contested(winner)
    }

    /// Whether a value is one of those that a key is contested with
    pub(super) fn is_held(&self, key: &[u8], hash: u64) -> bool {
        let track = self.tracks.get(key).filter(|track| track.held.is_some());
        track.is_some_and(|track| track.seen.iter().any(|seen| seen.value == hash))
    }

    /// How many keys are contested now
    pub(super) fn contested(&self) -> usize {
        self.contested
    }

    pub(super) fn handle_timeout(&mut self, now: Instant) {
        while self.timers.first().is_some_and(|(at, _)| *at <= now) {
            let Some((_, key)) = self.timers.pop_first() else { return };
            let Some(track) = self.tracks.get_mut(&key) else { continue };
            if track.ends <= now {
                self.end(&key);
                continue;
            }
            if let Some(held) = &mut track.held
                && held.repeat_at.is_some_and(|at| at <= now)
            {
                held.repeat_at = None;
                held.wait = (held.wait * 2).min(MAX_REPEAT);
                self.repeats.push_back(key.clone());
            }
            track.timer = now;
            Self::set_timer(&mut self.timers, track);
        }
    }

    pub(super) fn next(&self) -> Option<Instant> {
        self.timers.first().map(|(at, _)| *at)
    }

    /// What there is to tell
    pub(super) fn poll(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// A key of which peers that have another value are to be sent the winner
    pub(super) fn poll_repeat(&mut self) -> Option<Bytes> {
        self.repeats.pop_front()
    }

    /// Puts the timer where it has to be; it is left alone if it comes too early, and looks again then
    fn set_timer(timers: &mut BTreeSet<(Instant, Bytes)>, track: &mut Track) {
        let at = track.held.as_ref().and_then(|held| held.repeat_at).map_or(track.ends, |at| at.min(track.ends));
        timers.remove(&(track.timer, track.key.clone()));
        track.timer = at;
        timers.insert((at, track.key.clone()));
    }

    fn end(&mut self, key: &Bytes) {
        let Some(track) = self.tracks.remove(key) else { return };
        self.timers.remove(&(track.timer, key.clone()));
        self.octets -= track.greatest.len();
        if track.held.is_some() {
            self.contested -= 1;
            self.events.push_back(Event::Settled { key: key.clone() });
            self.repeats.push_back(key.clone());
        }
    }

    /// Gives up those that would end first until there is room
    fn make_room(&mut self, is_known: bool, octets: usize) {
        let max_tracks = MAX_TRACKS - usize::from(!is_known);
        while self.tracks.len() > max_tracks || (self.octets + octets > MAX_OCTETS && !self.tracks.is_empty()) {
            let Some((_, key)) = self.timers.first().cloned() else { return };
            self.end(&key);
        }
    }
}

impl Track {
    fn note(&mut self, now: Instant, value: &Bytes, hash: u64) {
        if let Some(seen) = self.seen.iter_mut().find(|seen| seen.value == hash) {
            seen.at = now;
            return;
        }
        if self.seen.len() == MAX_SEEN
            && let Some(oldest) = self.seen.iter().enumerate().min_by_key(|(_, seen)| seen.at).map(|(index, _)| index)
        {
            self.seen.swap_remove(oldest);
        }
        self.seen.push(Seen { value: hash, at: now });
        if self.shown.len() < MAX_REPORTED {
            self.shown.push(Bytes::copy_from_slice(value.get(..MAX_SHOWN).unwrap_or(value)));
        }
    }
}

/// Values that keys had before, by hashes: what a peer says that was away, or was started anew, may be one of those
///
/// They are forgotten after a time, or when there are too many. A key that was never overwritten costs nothing.
#[derive(Default)]
pub(super) struct Past {
    keys: HashMap<u64, Former, foldhash::fast::FixedState>,
    order: VecDeque<(Instant, u64)>,
}

struct Former {
    values: SmallVec<[u64; 2]>,
    changed: Instant,
}

impl Past {
    /// A key has this value no longer
    pub(super) fn on_value(&mut self, now: Instant, key: u64, value: u64, remember: Duration) {
        while let Some((at, oldest)) = self.order.front().copied()
            && (now.saturating_duration_since(at) >= remember || self.order.len() >= MAX_PAST)
        {
            self.order.pop_front();
            if self.keys.get(&oldest).is_some_and(|former| former.changed == at) {
                self.keys.remove(&oldest);
            }
        }
        let former = self.keys.entry(key).or_insert_with(|| Former { values: SmallVec::new(), changed: now });
        former.values.retain(|other| *other != value);
        if former.values.len() == MAX_FORMER {
            former.values.remove(0);
        }
        former.values.push(value);
        former.changed = now;
        self.order.push_back((now, key));
    }

    /// When the key changed last
    pub(super) fn changed(&self, key: u64) -> Option<Instant> {
        self.keys.get(&key).map(|former| former.changed)
    }

    /// Whether the key had this value before
    pub(super) fn had(&self, key: u64, value: u64) -> bool {
        self.keys.get(&key).is_some_and(|former| former.values.contains(&value))
    }
}

/// Within this time values come back, if they circulate
const WINDOW: Duration = Duration::from_secs(5);
/// So many returns within the window make a key contested. A peer that changes its mind once a second is left alone; a storm
/// is there in milliseconds
const MAX_RETURNS: usize = 8;
/// Nothing came back for this long: it is settled
const QUIET: Duration = Duration::from_secs(10);
/// Peers that hold on to another value are sent the winner again after this long, and then after twice as long
const MIN_REPEAT: Duration = Duration::from_millis(250);
const MAX_REPEAT: Duration = Duration::from_secs(8);
/// Values of one key that are recognised: a storm may be of as many as were written while it began
const MAX_SEEN: usize = 256;
/// Values that a report shows
const MAX_REPORTED: usize = 8;
/// New values that are taken while a key is contested, so that a storm of very many isn't carried on either
const MAX_TAKEN: usize = 16;
/// Octets of a value that a report shows
const MAX_SHOWN: usize = 256;
/// Keys that are watched at once
const MAX_TRACKS: usize = 8192;
/// Octets of their greatest values
const MAX_OCTETS: usize = 64 << 20;
/// Former values of a key
const MAX_FORMER: usize = 4;
/// Changes that are remembered
const MAX_PAST: usize = 200_000;

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn bytes(text: &str) -> Bytes {
        Bytes::copy_from_slice(text.as_bytes())
    }

    fn hash(text: &str) -> u64 {
        text.bytes().fold(7, |hash, octet| hash * 31 + u64::from(octet))
    }

    struct Key {
        settle: Settle,
        value: String,
        writes: usize,
        now: Instant,
    }

    impl Key {
        fn new(value: &str) -> Self {
            Self { settle: Settle::default(), value: value.into(), writes: 0, now: Instant::now() }
        }

        fn hear(&mut self, value: &str) -> Option<Verdict> {
            if value == self.value {
                return None;
            }
            let (new, old) = (bytes(value), bytes(&self.value));
            let verdict = self.settle.on_value(self.now, &bytes("key"), (&new, hash(value)), (&old, hash(&self.value)));
            let written = match &verdict {
                Verdict::Take => value.to_owned(),
                Verdict::Contested(winner) => String::from_utf8(winner.to_vec()).unwrap(),
                Verdict::Hold => return Some(verdict),
            };
            self.writes += usize::from(written != self.value);
            self.value = written;
            Some(verdict)
        }

        fn events(&mut self) -> Vec<Event> {
            std::iter::from_fn(|| self.settle.poll()).collect()
        }
    }

    #[test]
    fn a_storm_is_held_at_its_greatest_value_whoever_looks() {
        for first in ["ahead", "zulu", "mike"] {
            let mut key = Key::new(first);
            for _ in 0..10_000 {
                for value in ["zulu", "ahead", "mike"] {
                    key.now += MS / 30;
                    key.hear(value);
                }
            }
            assert_eq!(key.value, "zulu");
            assert!(key.writes <= MAX_RETURNS + 4, "{}", key.writes);
            assert_eq!(key.settle.contested(), 1);
            let values = vec![bytes("ahead"), bytes("mike"), bytes("zulu")];
            assert_eq!(key.events(), [Event::Contested { key: bytes("key"), values, winner: bytes("zulu") }]);
        }
    }

    #[test]
    fn it_is_settled_when_it_has_been_quiet() {
        let mut key = Key::new("a");
        while key.settle.contested() == 0 {
            key.hear("b");
            key.hear("a");
        }
        key.events();
        key.now += 9_000 * MS;
        assert_eq!(key.hear("a"), Some(Verdict::Hold));
        let quiet_at = key.now + QUIET;
        while let Some(at) = key.settle.next().filter(|at| *at < quiet_at) {
            key.settle.handle_timeout(at);
        }
        assert_eq!(key.settle.contested(), 1);
        key.settle.handle_timeout(quiet_at);
        assert_eq!(key.events(), [Event::Settled { key: bytes("key") }]);
        assert_eq!((key.settle.contested(), key.settle.next(), key.settle.octets), (0, None, 0));
        key.now = quiet_at;
        assert_eq!(key.hear("a"), Some(Verdict::Take), "whoever means it is heard again");
    }

    #[test]
    fn who_changes_his_mind_once_a_second_is_left_alone() {
        let mut key = Key::new("up");
        for round in 0..1_000 {
            key.now += 1_000 * MS;
            key.settle.handle_timeout(key.now);
            assert_eq!(key.hear(if round % 2 == 0 { "down" } else { "up" }), Some(Verdict::Take));
        }
    }

    #[test]
    fn what_was_never_seen_is_taken_even_then() {
        let mut key = Key::new("a");
        while key.settle.contested() == 0 {
            key.hear("b");
            key.hear("a");
        }
        assert_eq!(key.hear("c"), Some(Verdict::Take));
        assert_eq!(key.hear("a"), Some(Verdict::Hold));
        assert_eq!(key.value, "c");
    }

    #[test]
    fn a_storm_of_very_many_values_is_held_too() {
        let mut key = Key::new("start");
        let mut storm = |values: i32| {
            let before = key.writes;
            for turn in 0..50_000 {
                key.now += MS / 30;
                key.settle.handle_timeout(key.now);
                key.hear(&(turn % values).to_string());
            }
            (key.settle.contested(), key.writes - before)
        };
        let (contested, writes) = storm(200);
        assert!(contested == 1 && writes < 220, "{writes}");
        let (contested, writes) = storm(1000);
        assert!(contested == 1 && writes <= MAX_TAKEN, "{writes}");
    }

    #[test]
    fn a_storm_of_many_values_comes_to_rest_too() {
        for values in [20, MAX_SEEN - 1, 10 * MAX_SEEN] {
            let mut key = Key::new("first");
            let mut writes = 0;
            for round in 0..20 {
                for number in 0..values {
                    key.now += MS / 50;
                    key.hear(&format!("{:05}", number * 7919 % values));
                    // It came by two ways, as it does in a ring
                    key.hear(&format!("{:05}", (number + values - 2) % values * 7919 % values));
                }
                if round == 10 {
                    writes = key.writes;
                }
            }
            assert_eq!(key.settle.contested(), 1, "{values}");
            assert_eq!(key.writes, writes, "{values} values go on circulating");
        }
    }

    #[test]
    fn a_counter_is_no_contest() {
        let mut key = Key::new("0");
        for count in 1..10_000 {
            key.now += MS;
            assert_eq!(key.hear(&count.to_string()), Some(Verdict::Take));
        }
        assert_eq!(key.settle.timers.len(), 1);
    }

    #[test]
    fn peers_that_hold_on_to_another_value_are_told_again_but_less_and_less_often() {
        let mut key = Key::new("a");
        while key.settle.contested() == 0 {
            key.hear("b");
            key.hear("a");
        }
        let mut repeats = 0;
        for _ in 0..60_000 {
            key.now += MS;
            key.hear("a");
            key.settle.handle_timeout(key.now);
            repeats += std::iter::from_fn(|| key.settle.poll_repeat()).count();
        }
        assert!((8..16).contains(&repeats), "{repeats} in a minute");
    }

    #[test]
    fn memory_is_bounded() {
        let (mut settle, now) = (Settle::default(), Instant::now());
        let old = bytes("old");
        for number in 0..MAX_TRACKS + 10 {
            let key = bytes(&number.to_string());
            assert_eq!(settle.on_value(now, &key, (&bytes("new"), 1), (&old, 2)), Verdict::Take);
        }
        assert_eq!((settle.tracks.len(), settle.timers.len()), (MAX_TRACKS, MAX_TRACKS));
        let large = Bytes::from(vec![b'v'; 4 << 20]);
        for number in 0..100 {
            settle.on_value(now, &bytes(&format!("large {number}")), (&large, 1), (&old, 2));
        }
        for number in 0..100 {
            settle.on_value(now, &bytes(&number.to_string()), (&large, 1), (&old, 2));
        }
        assert!(settle.octets <= MAX_OCTETS);
        settle.handle_timeout(now + WINDOW);
        assert_eq!((settle.tracks.len(), settle.timers.len(), settle.octets), (0, 0, 0));
    }

    #[test]
    fn former_values_are_known_for_a_time() {
        let (mut past, now) = (Past::default(), Instant::now());
        let hour = Duration::from_secs(3600);
        for value in 0..6 {
            past.on_value(now + MS * value as u32, 1, value, hour);
        }
        assert_eq!((0..6).filter(|value| past.had(1, *value)).collect::<Vec<_>>(), [2, 3, 4, 5]);
        past.on_value(now + hour - MS, 2, 9, hour);
        assert!(past.had(1, 5));
        past.on_value(now + hour + 10 * MS, 3, 9, hour);
        assert!(!past.had(1, 5) && past.had(2, 9));
        for key in 0..MAX_PAST as u64 + 1_000 {
            past.on_value(now + hour + 11 * MS, key, 1, hour);
        }
        assert!(past.keys.len() <= MAX_PAST && past.order.len() <= MAX_PAST);
    }
}

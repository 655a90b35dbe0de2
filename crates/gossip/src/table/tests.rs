use std::time::SystemTime;

use proptest::prelude::*;

use super::*;

/// What is written in a history, by whom: (life, key, what)
#[derive(Clone, Debug)]
struct Step {
    writer: usize,
    key: u8,
    what: What,
    /// Who hears of it at once, as bits
    heard_by: u8,
}

#[derive(Clone, Debug)]
enum What {
    Put(u8),
    Session(u8),
    Delete,
    /// The writer's next life begins
    Restart,
}

/// A write as its owner made it
#[derive(Clone, Debug)]
struct Made {
    life: (NodeId, Incarnation),
    record: Record<'static>,
}

/// A table of one node, and how it is told of others' writes
struct Place {
    table: Table,
    own: LifeIndex,
    life: (NodeId, Incarnation),
    seq: u64,
}

const PLACES: usize = 4;

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let what = prop_oneof![
        6 => any::<u8>().prop_map(What::Put),
        2 => any::<u8>().prop_map(What::Session),
        3 => Just(What::Delete),
        1 => Just(What::Restart),
    ];
    let step = (0..PLACES, 0..6_u8, what, any::<u8>());
    let step = step.prop_map(|(writer, key, what, heard_by)| Step { writer, key, what, heard_by });
    proptest::collection::vec(step, 0..60)
}

impl Place {
    fn new(number: usize) -> Self {
        let mut table = Table::new(Quotas::default(), Duration::from_secs(10));
        let life = (NodeId(number as u64 + 1), Incarnation(1));
        let own = table.open_life(life.0, life.1).unwrap();
        Self { table, own, life, seq: 0 }
    }

    fn restart(&mut self) {
        self.life.1.0 += 1;
        self.own = self.table.open_life(self.life.0, self.life.1).unwrap();
        self.seq = 0;
    }

    fn write(&mut self, now: Instant, stamp: u64, key: u8, put: Option<(Lifetime, u8)>) -> Made {
        self.seq += 1;
        let beats = self.table.beaten_by_next(self.own, &[key]);
        let value = put.map(|(lifetime, value)| (lifetime, Bytes::from(vec![value; 3])));
        let write = Write { seq: self.seq, stamp: Stamp(stamp), put: value };
        self.table.write(now, self.own, Bytes::from(vec![key]), write).unwrap();
        let body = put.map_or(Body::Delete, |(lifetime, value)| Body::Put(lifetime, VALUES[usize::from(value)]));
        let record = Record { seq: self.seq, stamp: Stamp(stamp), key: KEYS[usize::from(key)], body, beats };
        Made { life: self.life, record }
    }

    fn hear(&mut self, now: Instant, made: &Made) -> Applied {
        let life = self.table.open_life(made.life.0, made.life.1).unwrap();
        self.table.apply(now, life, &made.record)
    }

    /// What a repair brings from another: what it has seen, and of that what lives
    fn repair(&mut self, now: Instant, other: &Self) {
        for entry in other.table.life_entries(&Mask::ALL, Stamp(0)) {
            let life = self.table.open_life(entry.owner, entry.incarnation).unwrap();
            let missing = entry.seen.without(self.table.seen(life).unwrap());
            let theirs = other.table.find_life(entry.owner, entry.incarnation).unwrap();
            for record in other.table.records(now, theirs, &missing) {
                self.table.apply(now, life, &record);
            }
            self.table.see_all_dead(life, &missing, Stamp(1));
            // And LIVE, where the same was seen
            if *self.table.seen(life).unwrap() == entry.seen {
                for (seen, live) in other.table.live(theirs, 4) {
                    let dead = self.table.live_among(life, &seen).without(&live);
                    for seq in dead.iter().flat_map(|(first, last)| first..=last) {
                        self.table.bury(life, seq, RemovalCause::Superseded);
                    }
                }
            }
        }
    }

    fn shown(&self) -> Vec<(Bytes, Bytes)> {
        self.table.tuples(Instant::now(), &[], None).map(|tuple| (tuple.key, tuple.value)).collect()
    }
}

fn run(steps: &[Step], now: Instant) -> (Vec<Place>, Vec<Made>) {
    let mut places = (0..PLACES).map(Place::new).collect::<Vec<_>>();
    let mut all = Vec::new();
    for (step, stamp) in steps.iter().zip(1..) {
        let place = &mut places[step.writer];
        let put = match step.what {
            What::Put(value) => Some((Lifetime::Permanent, value)),
            What::Session(value) => Some((Lifetime::Session, value)),
            What::Delete => None,
            What::Restart => {
                place.restart();
                continue;
            }
        };
        let made = place.write(now, stamp, step.key, put);
        for (number, place) in places.iter_mut().enumerate() {
            if number != step.writer && step.heard_by & (1 << number) != 0 {
                place.hear(now, &made);
            }
            place.table.check().unwrap();
        }
        all.push(made);
    }
    (places, all)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    /// Whatever was lost, in whatever order repairs are made
    #[test]
    fn all_agree_when_each_was_repaired_from_each(steps in steps(), order in proptest::collection::vec((0..PLACES, 0..PLACES), 0..8)) {
        let now = Instant::now();
        let (mut places, _) = run(&steps, now);
        let all = (0..PLACES).flat_map(|one| (0..PLACES).map(move |other| (one, other)));
        let all = all.collect::<Vec<_>>();
        for (one, other) in order.into_iter().chain(all.iter().copied()).chain(all.iter().copied()) {
            if one != other {
                let mut place = std::mem::replace(&mut places[one], Place::new(9));
                place.repair(now, &places[other]);
                place.table.check().unwrap();
                places[one] = place;
            }
        }
        for place in &places[1..] {
            prop_assert_eq!(place.table.root(), places[0].table.root());
            prop_assert_eq!(place.shown(), places[0].shown());
        }
    }

    /// Two tables that hear the same agree, in whatever order and however often they hear it
    ///
    /// But for what a Session tuple had overwritten before its life ended: whether that is dead depends on which was heard first, and LIVE makes
    /// it dead everywhere, as the test above has it.
    #[test]
    fn order_and_repetition_change_nothing(
        steps in steps(),
        (first, second) in (0..usize::MAX, 0..usize::MAX),
        again in proptest::collection::vec(any::<proptest::sample::Index>(), 0..20),
    ) {
        let now = Instant::now();
        let steps = steps.into_iter().filter(|step| !matches!(step.what, What::Restart)).collect::<Vec<_>>();
        let (_, mut made) = run(&steps, now);
        let mut hear = |seed: usize| {
            let mut place = Place::new(8);
            let mut random = seed as u64 | 1;
            for at in (1..made.len()).rev() {
                random = random.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
                made.swap(at, (random >> 33) as usize % (at + 1));
            }
            for one in &made {
                place.hear(now, one);
            }
            for index in again.iter().filter(|_| !made.is_empty()) {
                prop_assert_eq!(place.hear(now, index.get(&made)), Applied::Old);
            }
            place.table.check().unwrap();
            Ok(place)
        };
        let (one, other) = (hear(first)?, hear(second)?);
        prop_assert_eq!(one.table.root(), other.table.root());
        prop_assert_eq!(one.shown(), other.shown());
    }

    /// What was seen and is gone never lives again, though its deletion was forgotten
    #[test]
    fn the_dead_stay_dead(steps in steps()) {
        let now = Instant::now();
        let (mut places, made) = run(&steps, now);
        for place in &mut places {
            let before = place.shown();
            // All deletions are forgotten
            place.table.expire(now + Duration::from_secs(11));
            place.table.check().unwrap();
            prop_assert_eq!(place.table.tombstone_count(), 0);
            for one in &made {
                let life = place.table.find_life(one.life.0, one.life.1);
                if life.and_then(|life| place.table.seen(life)).is_some_and(|seen| seen.contains(one.record.seq)) {
                    let root = place.table.root();
                    prop_assert_eq!(place.hear(now, one), Applied::Old);
                    prop_assert_eq!(place.table.root(), root);
                }
            }
            prop_assert_eq!(place.shown(), before);
        }
    }

    /// What a table takes is bounded by what lives, and deletions within their time
    #[test]
    fn memory_is_what_lives(steps in steps()) {
        let now = Instant::now();
        let (places, made) = run(&steps, now);
        for place in &places {
            let keys = made.iter().map(|one| one.record.key).collect::<std::collections::BTreeSet<_>>().len();
            let kept = place.table.entries.len();
            prop_assert!(kept <= keys, "{} entries for {} keys", kept, keys);
            let indexed = place.table.lives.iter().map(|(_, life)| life.entries()).sum::<usize>();
            prop_assert_eq!(indexed, kept);
        }
    }
}

fn dot(owner: u64, seq: u64) -> Dot {
    Dot { owner: NodeId(owner), incarnation: Incarnation(1), seq }
}

#[test]
fn what_a_write_has_beaten_stays_away() {
    let now = Instant::now();
    let (mut one, mut other) = (Place::new(0), Place::new(1));
    let old = one.write(now, 1, 1, Some((Lifetime::Permanent, 1)));
    other.hear(now, &old);
    let delete = other.write(now, 2, 1, None);
    assert_eq!(delete.record.beats[..], [dot(1, 1)]);
    // A third hears of the deletion alone, forgets it, and meets the first
    let mut third = Place::new(2);
    assert_eq!(third.hear(now, &delete), Applied::Lives);
    third.table.expire(now + Duration::from_secs(11));
    assert_eq!(third.hear(now, &old), Applied::Old);
    assert!(third.shown().is_empty());
}

#[test]
fn the_greater_stamp_wins_and_else_the_greater_owner() {
    let now = Instant::now();
    let mut places = (0..3).map(Place::new).collect::<Vec<_>>();
    let first = places[0].write(now, 5, 1, Some((Lifetime::Permanent, 1)));
    let second = places[1].write(now, 5, 1, Some((Lifetime::Permanent, 2)));
    let third = places[2].write(now, 4, 1, Some((Lifetime::Permanent, 3)));
    let mut place = Place::new(5);
    assert_eq!(place.hear(now, &first), Applied::Lives);
    assert_eq!(place.hear(now, &third), Applied::Dead);
    assert_eq!(place.hear(now, &second), Applied::Lives);
    assert_eq!(place.table.value(&[1]), Some(&Bytes::from_static(&[2; 3])));
    let beats = place.table.beaten_by_next(place.own, &[1]);
    assert_eq!(beats[..], [dot(2, 1), dot(3, 1), dot(1, 1)], "and what it won against");
}

#[test]
fn session_tuples_follow_their_owner() {
    let now = Instant::now();
    let (mut one, mut other) = (Place::new(0), Place::new(1));
    let made = one.write(now, 1, 1, Some((Lifetime::Session, 1)));
    let later = one.write(now, 2, 2, Some((Lifetime::Session, 1)));
    other.hear(now, &made);
    assert_eq!(other.table.take_changes().len(), 1);
    other.table.set_present(NodeId(1), Incarnation(1), false);
    other.table.set_present(NodeId(1), Incarnation(1), false);
    let hidden =
        Change { key: made.record.key.into(), before: Some(vec![1; 3].into()), cause: RemovalCause::OwnerGone };
    assert_eq!(other.table.take_changes(), [hidden]);
    assert_eq!((other.table.visible_count(), other.table.hidden_count()), (0, 1));
    // One that comes meanwhile is hidden as well
    other.hear(now, &later);
    assert!(other.table.take_changes().is_empty());
    other.table.check().unwrap();
    other.table.set_present(NodeId(1), Incarnation(1), true);
    assert_eq!(other.table.take_changes().len(), 2);
    // The next life ends the one before
    one.restart();
    let next = one.write(now, 3, 3, Some((Lifetime::Permanent, 1)));
    other.hear(now, &next);
    let causes = other.table.take_changes().into_iter().map(|change| change.cause).collect::<Vec<_>>();
    assert_eq!(causes[..2], [RemovalCause::Superseded; 2]);
    assert_eq!(other.shown().len(), 1);
    let old = Made { record: Record { seq: 9, ..later.record.clone() }, ..later };
    assert_eq!(other.hear(now, &old), Applied::Dead);
    other.table.check().unwrap();
}

#[test]
fn a_ttl_ends_by_itself_and_counts_down_on_the_way() {
    let now = Instant::now();
    let (mut one, mut other) = (Place::new(0), Place::new(1));
    one.write(now, 1, 1, Some((Lifetime::Ttl(Duration::from_secs(10)), 1)));
    let root = one.table.root();
    let later = now + Duration::from_secs(4);
    let life = other.table.open_life(one.life.0, one.life.1).unwrap();
    let all = Ranges::of(1, 1);
    let record = one.table.records(later, one.own, &all).next().unwrap();
    assert_eq!(record.body, Body::Put(Lifetime::Ttl(Duration::from_secs(6)), &[1; 3]));
    other.table.apply(later, life, &record);
    assert_eq!(other.table.tuple(later, &[1]).unwrap().remaining, Some(Duration::from_secs(6)));
    assert_eq!(other.table.next_expiry(), Some(now + Duration::from_secs(10)));
    one.table.expire(now + Duration::from_secs(10));
    assert_eq!(one.table.take_changes().last().map(|change| change.cause), Some(RemovalCause::Expired));
    assert!(one.shown().is_empty() && !other.shown().is_empty());
    assert_eq!((one.table.root(), other.table.root()), (root, root), "which is no difference");
}

#[test]
fn tombstones_are_bounded() {
    let now = Instant::now();
    let quotas = Quotas { max_tuples: 100, ..Quotas::default() };
    let mut table = Table::new(quotas, Duration::from_secs(1000));
    let own = table.open_life(NodeId(1), Incarnation(1)).unwrap();
    for number in 0..200_u64 {
        let key = Bytes::from(number.to_string());
        let put = Some((Lifetime::Permanent, Bytes::from("value")));
        let later = now + Duration::from_secs(number);
        table.write(later, own, key.clone(), Write { seq: number * 2 + 1, stamp: Stamp(number * 2 + 1), put }).unwrap();
        table.write(later, own, key, Write { seq: number * 2 + 2, stamp: Stamp(number * 2 + 2), put: None }).unwrap();
        table.check().unwrap();
    }
    assert_eq!(table.tombstone_count(), 25);
    assert!(table.dead_value(b"199").is_some() && table.dead_value(b"174").is_none(), "the oldest go first");
    assert_eq!(table.dead_value(b"199"), Some(value_hash(b"value")));
}

#[test]
fn quotas_refuse_and_what_is_refused_was_not_seen() {
    let now = Instant::now();
    let quotas = Quotas { max_tuples: 4, max_octets: 100, max_octets_per_owner: 60, ..Quotas::default() };
    let mut table = Table::new(quotas, Duration::from_secs(10));
    let (one, other) =
        (table.open_life(NodeId(1), Incarnation(1)).unwrap(), table.open_life(NodeId(2), Incarnation(1)).unwrap());
    let mut put = |life, seq, key: &'static [u8], octets: usize| {
        let value = vec![0; octets];
        let body = Body::Put(Lifetime::Permanent, &value);
        let record = Record { seq, stamp: Stamp(seq), key, body, beats: SmallVec::new() };
        let applied = table.apply(now, life, &record);
        table.check().unwrap();
        applied
    };
    assert_eq!(put(one, 1, b"a", 59), Applied::Lives);
    assert_eq!(put(one, 2, b"b", 1), Applied::Refused(Refusal::OctetQuota), "of its owner");
    assert_eq!(put(other, 1, b"b", 40), Applied::Refused(Refusal::OctetQuota), "of all");
    // In the place of what was larger there is room
    assert_eq!(put(other, 2, b"a", 50), Applied::Lives);
    assert_eq!(put(one, 2, b"b", 1), Applied::Lives);
    assert_eq!(put(one, 3, b"c", 1), Applied::Lives);
    assert_eq!(put(one, 4, b"d", 1), Applied::Lives);
    assert_eq!(put(one, 5, b"e", 1), Applied::Refused(Refusal::KeyQuota));
    assert_eq!(table.seen(one), Some(&Ranges::of(1, 4)));
}

#[test]
fn lives_are_forgotten_when_nothing_of_them_is_left() {
    let now = Instant::now();
    let mut place = Place::new(0);
    let mut others = (1..4).map(Place::new).collect::<Vec<_>>();
    let empty = place.table.root();
    for (other, stamp) in others.iter_mut().zip([10, 20, 30]) {
        let made = other.write(now, stamp, 1, Some((Lifetime::Permanent, 1)));
        place.hear(now, &made);
    }
    place.table.forget_lives(Stamp(20), place.own);
    assert_eq!(place.table.life_count(), 3, "the first wrote before, and was overwritten");
    place.table.forget_lives(Stamp(100), place.own);
    assert_eq!(place.table.life_count(), 2, "what lives is not forgotten");
    place.table.bury(place.table.find_life(NodeId(4), Incarnation(1)).unwrap(), 1, RemovalCause::Deleted);
    place.table.forget_lives(Stamp(100), place.own);
    assert_eq!(place.table.life_count(), 1, "but its own");
    assert_eq!(place.table.root(), empty);
    place.table.check().unwrap();
}

#[test]
fn stamps_are_of_this_century() {
    // Seconds of age are counted from them
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_micros() as u64;
    let mut place = Place::new(0);
    place.write(Instant::now(), now - 5_500_000, 1, None);
    assert_eq!(place.table.life_entry(place.own, Stamp(now)).unwrap().age, 5);
}

static KEYS: [&[u8]; 6] = [&[0], &[1], &[2], &[3], &[4], &[5]];
static VALUES: [&[u8]; 256] = {
    const ALL: [[u8; 3]; 256] = {
        let mut all = [[0; 3]; 256];
        let mut at = 0;
        while at < 256 {
            all[at] = [at as u8; 3];
            at += 1;
        }
        all
    };
    static STORED: [[u8; 3]; 256] = ALL;
    let mut values: [&[u8]; 256] = [&[]; 256];
    let mut at = 0;
    while at < 256 {
        values[at] = &STORED[at];
        at += 1;
    }
    values
};

#[test]
fn no_octets_are_kept_but_those_that_are_counted() {
    let now = Instant::now();
    let mut table = Table::new(Quotas::default(), Duration::from_secs(10));
    let (own, life) =
        (table.open_life(NodeId(1), Incarnation(1)).unwrap(), table.open_life(NodeId(2), Incarnation(1)).unwrap());
    let large = vec![7; 100_000];
    let body = Body::Put(Lifetime::Permanent, &large);
    table.apply(now, life, &Record { seq: 1, stamp: Stamp(1), key: b"key", body, beats: SmallVec::new() });
    let tuple = table.tuple(now, b"key").unwrap();
    assert_ne!(tuple.key.as_ptr_range().end, tuple.value.as_ptr(), "the value would stay as long as the key");
    // What the application gives may be a slice of all that it has read
    let read = Bytes::from(vec![8; 100_000]);
    let put = Some((Lifetime::Permanent, read.slice(10..20)));
    table.write(now, own, read.slice(0..5), Write { seq: 1, stamp: Stamp(2), put }).unwrap();
    let tuple = table.tuple(now, &[8; 5]).unwrap();
    assert_eq!((&tuple.key[..], &tuple.value[..]), (&[8; 5][..], &[8; 10][..]));
    drop(tuple);
    assert!(read.is_unique(), "it is kept by nobody");
}

#[test]
fn a_life_that_was_taken_for_over_goes_on() {
    let now = Instant::now();
    let (mut one, mut other) = (Place::new(0), Place::new(1));
    let made = one.write(now, 1, 1, Some((Lifetime::Session, 1)));
    other.hear(now, &made);
    other.table.set_present(NodeId(1), Incarnation(1), false);
    other.table.end_life(NodeId(1), Incarnation(1));
    let again = one.write(now, 2, 1, Some((Lifetime::Session, 1)));
    let third = one.write(now, 3, 1, Some((Lifetime::Session, 1)));
    assert_eq!(other.hear(now, &again), Applied::Dead, "it is over");
    other.table.set_present(NodeId(1), Incarnation(1), true);
    assert_eq!(other.hear(now, &third), Applied::Lives, "it isn't");
    assert_eq!(other.shown().len(), 1);
    // But when it has begun another life
    other.table.set_present(NodeId(1), Incarnation(1), false);
    other.table.open_life(NodeId(1), Incarnation(2)).unwrap();
    other.table.set_present(NodeId(1), Incarnation(1), true);
    let fourth = one.write(now, 4, 1, Some((Lifetime::Session, 1)));
    assert_eq!(other.hear(now, &fourth), Applied::Dead);
    other.table.check().unwrap();
}

#[test]
fn no_order_of_writes_costs_more_than_another() {
    const WRITES: u64 = 60_000;
    let now = Instant::now();
    let quotas = Quotas { max_tuples: 4 * WRITES as usize, ..Quotas::default() };
    let mut table = Table::new(quotas, Duration::from_secs(1000));
    let life = table.open_life(NodeId(1), Incarnation(1)).unwrap();
    let start = Instant::now();
    // Those that end first, so that what has to go first is behind them
    for seq in 1..=WRITES {
        let body = Body::Put(Lifetime::Ttl(Duration::from_secs(500)), b"");
        let key = seq.to_be_bytes();
        table.apply(now, life, &Record { seq, stamp: Stamp(seq), key: &key, body, beats: SmallVec::new() });
    }
    // Deletions in the opposite order of their numbers, of which half are more than there may be
    for seq in (WRITES + 1..=WRITES * 3).rev() {
        let key = seq.to_be_bytes();
        let record = Record { seq, stamp: Stamp(seq), key: &key, body: Body::Delete, beats: SmallVec::new() };
        assert_eq!(table.apply(now, life, &record), Applied::Lives);
    }
    assert_eq!(table.tombstone_count() as u64, WRITES);
    assert!(start.elapsed() < Duration::from_secs(60), "{:?}", start.elapsed());
    table.check().unwrap();
}

//! The queue against a model of it: what a few maps say of the same operations.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use proptest::prelude::*;
use tidings_store::{Backoff, Found, NewEntry, Retry, Settled, StoreOptions, Ticket, Uuid};

use crate::Stage;

#[derive(Clone, Debug)]
enum Operation {
    Enqueue { key: Option<u8>, body: u8, ttl: Option<u16>, delay: u16 },
    Lease { max: u8, time: u16 },
    Ack { which: u8 },
    Complete { which: u8, result: u8 },
    Nak { which: u8, how: u8 },
    Extend { which: u8, time: u16 },
    Remove { which: u8 },
    Pass { time: u16 },
    Reopen,
    Purge,
    Requeue,
}

fn operation() -> impl Strategy<Value = Operation> {
    prop_oneof![
        6 => (proptest::option::of(0..4_u8), 0..2_u8, proptest::option::of(1..60_u16), prop_oneof![3 => Just(0), 1 => 1..30_u16])
            .prop_map(|(key, body, ttl, delay)| Operation::Enqueue { key, body, ttl, delay }),
        6 => (1..4_u8, 1..20_u16).prop_map(|(max, time)| Operation::Lease { max, time }),
        3 => any::<u8>().prop_map(|which| Operation::Ack { which }),
        3 => any::<(u8, u8)>().prop_map(|(which, result)| Operation::Complete { which, result }),
        4 => (any::<u8>(), 0..5_u8).prop_map(|(which, how)| Operation::Nak { which, how }),
        1 => (any::<u8>(), 1..20_u16).prop_map(|(which, time)| Operation::Extend { which, time }),
        1 => any::<u8>().prop_map(|which| Operation::Remove { which }),
        5 => (1..30_u16).prop_map(|time| Operation::Pass { time }),
        1 => Just(Operation::Reopen),
        1 => Just(Operation::Purge),
        1 => Just(Operation::Requeue),
    ]
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Place {
    Waiting { due: u64 },
    Leased { until: u64 },
    Done { result: u8, until: u64 },
    Dead { until: u64 },
}

#[derive(Clone, Debug)]
struct Modelled {
    id: Uuid,
    key: Option<u8>,
    body: u8,
    place: Place,
    attempt: u32,
    born: u64,
    expires: Option<u64>,
    ttl: Option<u64>,
}

#[derive(Default)]
struct Model {
    now: u64,
    entries: BTreeMap<u64, Modelled>,
    /// Keys of what is gone: number, body, until
    seen: BTreeMap<u8, (u64, u8, u64)>,
    tickets: Vec<Ticket>,
    ids: Vec<Uuid>,
}

const ATTEMPTS: u32 = 3;
const WINDOW: u64 = 40;
const KEEP: u64 = 50;

impl Model {
    fn forget(&mut self, seq: u64) {
        let entry = self.entries.remove(&seq).unwrap();
        if let Some(key) = entry.key.filter(|_| entry.born + WINDOW > self.now) {
            self.seen.insert(key, (seq, entry.body, entry.born + WINDOW));
        }
    }

    /// As the store's sweep, once per operation
    fn sweep(&mut self) {
        let now = self.now;
        for seq in self.entries.keys().copied().collect::<Vec<_>>() {
            let entry = self.entries.get_mut(&seq).unwrap();
            let ended = entry.expires.is_some_and(|moment| moment <= now);
            match entry.place {
                Place::Done { until, .. } | Place::Dead { until } if until <= now => self.forget(seq),
                Place::Waiting { .. } if ended => entry.place = Place::Dead { until: now + KEEP },
                Place::Leased { until } if ended && until <= now => entry.place = Place::Dead { until: now + KEEP },
                _ => {}
            }
        }
        self.seen.retain(|_key, seen| seen.2 > now);
    }

    fn lease(&mut self, max: usize, time: u64) -> Vec<Ticket> {
        let now = self.now;
        let mut order: Vec<(bool, u64, u64)> = Vec::new();
        for (seq, entry) in &self.entries {
            match entry.place {
                Place::Waiting { due } | Place::Leased { until: due } if due <= now => {
                    order.push((due == 0, due, *seq))
                }
                _ => {}
            }
        }
        order.sort_unstable();
        let mut out = Vec::new();
        for (_, _, seq) in order {
            if out.len() == max {
                break;
            }
            let entry = self.entries.get_mut(&seq).unwrap();
            if entry.attempt >= ATTEMPTS {
                entry.place = Place::Dead { until: now + KEEP };
                continue;
            }
            entry.attempt += 1;
            entry.place = Place::Leased { until: now + time };
            out.push(Ticket { seq, attempt: entry.attempt });
        }
        self.tickets.extend(&out);
        out
    }
}

fn units(time: u64) -> Duration {
    Duration::from_secs(time)
}

fn run(operations: &[Operation]) -> Result<(), TestCaseError> {
    let backoff = Backoff { first: units(2), longest: units(3) };
    let options = StoreOptions::default().max_attempts(ATTEMPTS).backoff(backoff).dedup_window(units(WINDOW));
    let stage = Stage::with(options.keep_results(units(KEEP)).keep_dead(units(KEEP)));
    let mut store = stage.open();
    let mut model = Model { now: 1_700_000_000, ..Model::default() };
    let pick = |tickets: &[Ticket], which: u8| tickets.get(usize::from(which) % tickets.len().max(1)).copied();
    for operation in operations {
        let queue = store.queue("work").unwrap();
        store.sweep().wait().unwrap();
        model.sweep();
        let now = model.now;
        match operation.clone() {
            Operation::Enqueue { key, body, ttl, delay } => {
                let mut new = NewEntry::new([vec![body; 3]]);
                if let Some(key) = key {
                    new = new.key(vec![key]);
                }
                if let Some(ttl) = ttl {
                    new = new.ttl(units(ttl.into()));
                }
                if delay > 0 {
                    new = new.not_before(store.now().after(units(delay.into())));
                }
                let earlier = key.and_then(|key| {
                    let held = model.entries.iter().find(|(_, entry)| entry.key == Some(key));
                    held.map(|(seq, entry)| (*seq, entry.body)).or(model.seen.get(&key).map(|seen| (seen.0, seen.1)))
                });
                let stored = queue.enqueue(new).wait();
                match earlier {
                    Some((seq, earlier)) if earlier == body => {
                        let stored = stored.unwrap();
                        prop_assert_eq!((stored.seq, stored.duplicate), (seq, true));
                    }
                    Some(_) => prop_assert!(stored.is_err()),
                    None => {
                        let stored = stored.unwrap();
                        prop_assert!(!stored.duplicate && !model.entries.contains_key(&stored.seq));
                        let due = if delay == 0 { 0 } else { now + u64::from(delay) };
                        let (ttl, place) = (ttl.map(u64::from), Place::Waiting { due });
                        let expires = ttl.map(|ttl| now + ttl);
                        let entry = Modelled { id: stored.id, key, body, place, attempt: 0, born: now, expires, ttl };
                        model.entries.insert(stored.seq, entry);
                        model.ids.push(stored.id);
                    }
                }
            }
            Operation::Lease { max, time } => {
                let leased = queue.lease(max.into(), units(time.into())).wait().unwrap();
                let tickets: Vec<_> = leased.entries.iter().map(|entry| entry.ticket).collect();
                prop_assert_eq!(tickets, model.lease(max.into(), time.into()));
                for entry in &leased.entries {
                    prop_assert_eq!(&entry.body[..], &[Bytes::from(vec![model.entries[&entry.seq()].body; 3])]);
                }
                let next = model.entries.values().filter_map(|entry| match entry.place {
                    Place::Waiting { due } | Place::Leased { until: due } => Some(due * 1000),
                    _ => None,
                });
                prop_assert_eq!(leased.next_due.map(|moment| moment.as_millis()), next.min());
            }
            Operation::Ack { which } => {
                let Some(ticket) = pick(&model.tickets, which) else { continue };
                let open = |entry: &Modelled| matches!(entry.place, Place::Waiting { .. } | Place::Leased { .. });
                let expected = model.entries.get(&ticket.seq).is_some_and(open);
                prop_assert_eq!(queue.ack(ticket).wait().unwrap().is_done(), expected);
                if expected {
                    model.forget(ticket.seq);
                }
            }
            Operation::Complete { which, result } => {
                let Some(ticket) = pick(&model.tickets, which) else { continue };
                let settled = queue.complete(ticket, &[Bytes::from(vec![result])]).wait().unwrap();
                match model.entries.get_mut(&ticket.seq) {
                    Some(entry) if matches!(entry.place, Place::Waiting { .. } | Place::Leased { .. }) => {
                        entry.place = Place::Done { result, until: now + KEEP };
                        prop_assert_eq!(settled, Settled::Done);
                    }
                    _ => prop_assert_eq!(settled, Settled::Late),
                }
            }
            Operation::Nak { which, how } => {
                let Some(ticket) = pick(&model.tickets, which) else { continue };
                let retry = match how {
                    0 => Retry::Backoff,
                    1 => Retry::After(units(7)),
                    2 => Retry::Release(units(0)),
                    3 => Retry::Release(units(4)),
                    _ => Retry::Never,
                };
                let settled = queue.nak(ticket, retry.clone(), "said so").wait().unwrap();
                let held = |entry: &&mut Modelled| {
                    matches!(entry.place, Place::Leased { .. }) && entry.attempt == ticket.attempt
                };
                match model.entries.get_mut(&ticket.seq).filter(held) {
                    Some(entry) => {
                        prop_assert_eq!(settled, Settled::Done);
                        let spent = entry.attempt >= ATTEMPTS;
                        entry.place = match retry {
                            Retry::Release(wait) => {
                                entry.attempt -= 1;
                                Place::Waiting { due: if wait.is_zero() { 0 } else { now + wait.as_secs() } }
                            }
                            Retry::Never => Place::Dead { until: now + KEEP },
                            _ if spent => Place::Dead { until: now + KEEP },
                            Retry::After(_) => Place::Waiting { due: now + 7 },
                            Retry::Backoff => Place::Waiting { due: now + if entry.attempt == 1 { 2 } else { 3 } },
                        };
                    }
                    None => prop_assert_eq!(settled, Settled::Late),
                }
            }
            Operation::Extend { which, time } => {
                let Some(ticket) = pick(&model.tickets, which) else { continue };
                let settled = queue.extend(ticket, units(time.into())).wait().unwrap();
                let held = |entry: &&mut Modelled| {
                    matches!(entry.place, Place::Leased { .. }) && entry.attempt == ticket.attempt
                };
                match model.entries.get_mut(&ticket.seq).filter(held) {
                    Some(entry) => {
                        entry.place = Place::Leased { until: now + u64::from(time) };
                        prop_assert_eq!(settled, Settled::Done);
                    }
                    None => prop_assert_eq!(settled, Settled::Late),
                }
            }
            Operation::Remove { which } => {
                if model.ids.is_empty() {
                    continue;
                }
                let id = model.ids[usize::from(which) % model.ids.len()];
                let seq = model.entries.iter().find(|(_, entry)| entry.id == id).map(|(seq, _)| *seq);
                prop_assert_eq!(store.remove(id).wait().unwrap().is_done(), seq.is_some());
                if let Some(seq) = seq {
                    model.forget(seq);
                }
            }
            Operation::Pass { time } => {
                stage.pass(units(time.into()));
                model.now += u64::from(time);
            }
            Operation::Reopen => {
                drop(queue);
                drop(store);
                store = stage.open();
                for entry in model.entries.values_mut() {
                    if matches!(entry.place, Place::Leased { .. }) {
                        entry.place = Place::Waiting { due: 0 };
                        entry.attempt -= 1;
                    }
                }
            }
            Operation::Purge => {
                let gone = store.inspect().unwrap().purge(b"work", tidings_store::State::Waiting, |_| {}).unwrap();
                let waiting: Vec<u64> = model
                    .entries
                    .iter()
                    .filter(|(_, entry)| matches!(entry.place, Place::Waiting { .. }))
                    .map(|(seq, _)| *seq)
                    .collect();
                prop_assert_eq!(gone, waiting.len() as u64);
                waiting.into_iter().for_each(|seq| model.forget(seq));
            }
            Operation::Requeue => {
                let back = store.inspect().unwrap().requeue(b"work", |_| {}).unwrap();
                let mut dead = 0;
                for entry in model.entries.values_mut().filter(|entry| matches!(entry.place, Place::Dead { .. })) {
                    dead += 1;
                    entry.place = Place::Waiting { due: 0 };
                    entry.attempt = 0;
                    entry.expires = entry.ttl.map(|ttl| now + ttl);
                }
                prop_assert_eq!(back, dead);
            }
        }
    }
    store.sweep().wait().unwrap();
    model.sweep();
    finish(&store, &model)
}

/// What the store has is what the model has, and nothing is wrong with it
fn finish(store: &tidings_store::Store, model: &Model) -> Result<(), TestCaseError> {
    let report = store.inspect().unwrap().fsck(|_| {}).unwrap();
    prop_assert!(report.is_clean(), "{:?}", report.problems);
    prop_assert_eq!(report.entries, model.entries.len() as u64);
    let stats = store.queue("work").unwrap().stats().wait().unwrap();
    let mut counts = [0; 4];
    for entry in model.entries.values() {
        let (at, found) = match entry.place {
            Place::Waiting { .. } => (0, None),
            Place::Leased { .. } => (1, None),
            Place::Done { result, .. } => (2, Some(result)),
            Place::Dead { .. } => (3, None),
        };
        counts[at] += 1;
        match (store.find(entry.id).wait().unwrap(), found) {
            (Found::Done { result, .. }, Some(expected)) => prop_assert_eq!(result, [Bytes::from(vec![expected])]),
            (Found::Pending { attempts, .. }, None) => {
                prop_assert!(at < 2 && attempts == entry.attempt);
            }
            (Found::Dead { .. }, None) => prop_assert_eq!(at, 3),
            (found, expected) => prop_assert!(false, "{found:?} for {expected:?}"),
        }
    }
    prop_assert_eq!([stats.waiting, stats.leased, stats.done, stats.dead], counts);
    for id in &model.ids {
        let known = model.entries.values().any(|entry| entry.id == *id);
        prop_assert_eq!(store.find(*id).wait().unwrap() != Found::Unknown, known);
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn the_queue_does_as_its_model(operations in proptest::collection::vec(operation(), 1..60)) {
        run(&operations)?;
    }
}

//! What becomes of entries.

use bytes::Bytes;
use tidings_store::{
    Backoff, Cause, EntryKey, Found, NewEntry, Retry, Settled, State, StoreError, StoreOptions, Ticket, Uuid,
};

use crate::{Stage, entry, secs, text};

#[test]
fn entries_come_out_in_the_order_in_which_they_went_in() {
    let stage = Stage::new();
    let store = stage.open();
    let queue = store.queue("work").unwrap();
    for body in ["one", "two", "three"] {
        let stored = queue.enqueue(entry(body)).wait().unwrap();
        assert!(!stored.duplicate);
        assert_eq!(stored.durability, store.durability());
    }
    let leased = queue.lease(2, secs(30)).wait().unwrap().entries;
    assert_eq!(leased.iter().map(|entry| text(&entry.body)).collect::<Vec<_>>(), ["one", "two"]);
    let rest = queue.lease(9, secs(30)).wait().unwrap();
    assert_eq!(text(&rest.entries[0].body), "three");
    // The leases of all end in half a minute
    assert_eq!(rest.next_due, Some(store.now().after(secs(30))));
    for entry in leased {
        assert_eq!(queue.ack(entry.ticket).wait().unwrap(), Settled::Done);
        assert_eq!(queue.ack(entry.ticket).wait().unwrap(), Settled::Late);
    }
    let stats = queue.stats().wait().unwrap();
    assert_eq!((stats.waiting, stats.leased, stats.done, stats.dead), (0, 1, 0, 0));
}

#[test]
fn frames_of_all_sizes_come_back_whole() {
    let stage = Stage::new();
    let store = stage.open();
    let queue = store.queue("work").unwrap();
    let bodies = [vec![], vec![0], vec![1000], vec![1020], vec![1021], vec![5_000_000], vec![0, 3, 70_000, 0]];
    for sizes in &bodies {
        let frames = sizes.iter().map(|size| vec![7; *size]);
        queue.enqueue(NewEntry::new(frames)).wait().unwrap();
    }
    let leased = queue.lease(100, secs(30)).wait().unwrap().entries;
    let sizes: Vec<Vec<usize>> = leased.iter().map(|entry| entry.body.iter().map(Bytes::len).collect()).collect();
    assert_eq!(sizes, bodies);
}

#[test]
fn an_entry_whose_lease_ends_goes_to_another_holder() {
    let stage = Stage::new();
    let store = stage.open();
    let queue = store.queue("work").unwrap();
    queue.enqueue(entry("one").max_attempts(2)).wait().unwrap();
    let first = queue.lease(1, secs(30)).wait().unwrap().entries.remove(0);
    assert_eq!(first.attempt(), 1);
    stage.pass(secs(29));
    assert!(queue.lease(1, secs(30)).wait().unwrap().entries.is_empty());
    stage.pass(secs(1));
    let second = queue.lease(1, secs(30)).wait().unwrap().entries.remove(0);
    assert_eq!((second.seq(), second.attempt()), (first.seq(), 2));
    // The first can't take it from the second
    assert_eq!(queue.nak(first.ticket, Retry::Never, "late").wait().unwrap(), Settled::Late);
    assert_eq!(queue.extend(first.ticket, secs(99)).wait().unwrap(), Settled::Late);
    assert_eq!(queue.extend(second.ticket, secs(60)).wait().unwrap(), Settled::Done);
    stage.pass(secs(59));
    assert!(queue.lease(1, secs(30)).wait().unwrap().entries.is_empty());
    stage.pass(secs(1));
    // Two were what it may have
    assert!(queue.lease(1, secs(30)).wait().unwrap().entries.is_empty());
    let found = store.find(first.id).wait().unwrap();
    assert!(
        matches!(found, Found::Dead { cause: Cause::Attempts, ref note, .. } if note.contains("lease")),
        "{found:?}"
    );
}

#[test]
fn what_fails_waits_longer_each_time_and_is_a_dead_letter_in_the_end() {
    let backoff = Backoff { first: secs(1), longest: secs(4) };
    let stage = Stage::with(StoreOptions::default().backoff(backoff).max_attempts(5));
    let store = stage.open();
    let queue = store.queue("work").unwrap();
    let stored = queue.enqueue(entry("one")).wait().unwrap();
    for wait in [1, 2, 4, 4] {
        let held = queue.lease(1, secs(30)).wait().unwrap().entries.remove(0);
        queue.nak(held.ticket, Retry::Backoff, "no luck").wait().unwrap();
        let leased = queue.lease(1, secs(30)).wait().unwrap();
        assert!(leased.entries.is_empty());
        assert_eq!(leased.next_due, Some(store.now().after(secs(wait))));
        stage.pass(secs(wait));
    }
    let held = queue.lease(1, secs(30)).wait().unwrap().entries.remove(0);
    assert_eq!(held.attempt(), 5);
    queue.nak(held.ticket, Retry::Backoff, "no luck at all").wait().unwrap();
    let dead = Found::Dead { seq: stored.seq, cause: Cause::Attempts, note: "no luck at all".to_owned() };
    assert_eq!(store.find(stored.id).wait().unwrap(), dead);
    assert_eq!(queue.stats().wait().unwrap().dead, 1);
}

#[test]
fn a_holder_may_give_back_refuse_or_choose_the_wait() {
    let stage = Stage::new();
    let store = stage.open();
    let queue = store.queue("work").unwrap();
    let stored = queue.enqueue(entry("one")).wait().unwrap();
    let take = || queue.lease(1, secs(30)).wait().unwrap().entries.pop();
    let held = take().unwrap();
    queue.nak(held.ticket, Retry::Release(secs(0)), "").wait().unwrap();
    let held = take().unwrap();
    assert_eq!(held.attempt(), 1);
    queue.nak(held.ticket, Retry::After(secs(100)), "busy").wait().unwrap();
    stage.pass(secs(99));
    assert!(take().is_none());
    stage.pass(secs(1));
    let held = take().unwrap();
    assert_eq!(held.attempt(), 2);
    queue.nak(held.ticket, Retry::Never, "nonsense").wait().unwrap();
    let found = store.find(stored.id).wait().unwrap();
    assert_eq!(found, Found::Dead { seq: stored.seq, cause: Cause::Refused, note: "nonsense".to_owned() });
}

#[test]
fn the_first_result_stays() {
    let stage = Stage::with(StoreOptions::default().keep_results(secs(1000)));
    let store = stage.open();
    let queue = store.queue("work").unwrap();
    let stored = queue.enqueue(entry("one")).wait().unwrap();
    let first = queue.lease(1, secs(30)).wait().unwrap().entries.remove(0);
    stage.pass(secs(30));
    let second = queue.lease(1, secs(30)).wait().unwrap().entries.remove(0);
    // Also that of a holder whose lease has ended: the work is done
    assert_eq!(queue.complete(first.ticket, &[Bytes::from("first")]).wait().unwrap(), Settled::Done);
    assert_eq!(queue.complete(second.ticket, &[Bytes::from("second")]).wait().unwrap(), Settled::Late);
    assert_eq!(queue.nak(second.ticket, Retry::Backoff, "").wait().unwrap(), Settled::Late);
    let done = Found::Done { seq: stored.seq, result: vec![Bytes::from("first")] };
    assert_eq!(store.find(stored.id).wait().unwrap(), done);
    stage.pass(secs(999));
    store.sweep().wait().unwrap();
    assert_eq!(store.find(stored.id).wait().unwrap(), done);
    stage.pass(secs(1));
    store.sweep().wait().unwrap();
    assert_eq!(store.find(stored.id).wait().unwrap(), Found::Unknown);
    assert_eq!(store.stats().wait().unwrap().octets, 0);
}

#[test]
fn a_key_or_a_given_id_is_stored_once_within_its_window() {
    let stage = Stage::with(StoreOptions::default().dedup_window(secs(600)));
    let store = stage.open();
    let queue = store.queue("work").unwrap();
    let id = Uuid::from_u128(7);
    for new in [entry("one").key("k"), entry("one").id(id)] {
        let first = queue.enqueue(new.clone()).wait().unwrap();
        let again = queue.enqueue(new.clone()).wait().unwrap();
        assert_eq!((again.seq, again.id, again.duplicate), (first.seq, first.id, true));
        let mut other = entry("two");
        if first.id == id {
            other = other.id(id);
        } else {
            other = other.key("k");
        }
        let error = queue.enqueue(other).wait().unwrap_err();
        assert!(matches!(error, StoreError::Conflict { id } if id == first.id), "{error}");
        // Another queue has keys of its own
        let elsewhere = store.queue("other").unwrap().enqueue(new.clone()).wait().unwrap();
        assert_eq!(elsewhere.duplicate, first.id == id);
        // Also when it is done and gone, and the store was opened anew
        let held = queue.lease(1, secs(30)).wait().unwrap().entries.remove(0);
        queue.ack(held.ticket).wait().unwrap();
        assert!(queue.enqueue(new.clone()).wait().unwrap().duplicate);
    }
    drop(queue);
    drop(store);
    let store = stage.open();
    let queue = store.queue("work").unwrap();
    stage.pass(secs(599));
    assert!(queue.enqueue(entry("one").key("k")).wait().unwrap().duplicate);
    assert!(queue.enqueue(entry("one").id(id)).wait().unwrap().duplicate);
    stage.pass(secs(1));
    assert!(!queue.enqueue(entry("one").key("k")).wait().unwrap().duplicate);
    assert!(!queue.enqueue(entry("one").id(id)).wait().unwrap().duplicate);
}

#[test]
fn what_outlives_its_use_is_a_dead_letter_and_not_handed_out() {
    let stage = Stage::new();
    let store = stage.open();
    let queue = store.queue("work").unwrap();
    let swept = queue.enqueue(entry("one").ttl(secs(10))).wait().unwrap();
    let held = queue.lease(1, secs(30)).wait().unwrap().entries.remove(0);
    stage.pass(secs(10));
    // Its holder may still be in time
    store.sweep().wait().unwrap();
    assert!(matches!(store.find(swept.id).wait().unwrap(), Found::Pending { .. }));
    queue.nak(held.ticket, Retry::After(secs(0)), "").wait().unwrap();
    assert!(queue.lease(1, secs(30)).wait().unwrap().entries.is_empty());
    assert!(matches!(store.find(swept.id).wait().unwrap(), Found::Dead { cause: Cause::Expired, .. }));
}

#[test]
fn nothing_is_handed_out_before_its_time() {
    let stage = Stage::new();
    let store = stage.open();
    let queue = store.queue("work").unwrap();
    queue.enqueue(entry("later").not_before(store.now().after(secs(60)))).wait().unwrap();
    queue.enqueue(entry("now")).wait().unwrap();
    let leased = queue.lease(9, secs(500)).wait().unwrap();
    assert_eq!(leased.entries.len(), 1);
    assert_eq!(leased.next_due, Some(store.now().after(secs(60))));
    stage.pass(secs(60));
    assert_eq!(text(&queue.lease(9, secs(30)).wait().unwrap().entries[0].body), "later");
}

#[test]
fn what_came_back_is_not_kept_waiting_by_what_is_new() {
    let stage = Stage::new();
    let store = stage.open();
    let queue = store.queue("work").unwrap();
    queue.enqueue(entry("old")).wait().unwrap();
    let held = queue.lease(1, secs(30)).wait().unwrap().entries.remove(0);
    queue.nak(held.ticket, Retry::After(secs(5)), "").wait().unwrap();
    for _ in 0..10 {
        queue.enqueue(entry("new")).wait().unwrap();
    }
    stage.pass(secs(5));
    assert_eq!(text(&queue.lease(1, secs(30)).wait().unwrap().entries[0].body), "old");
}

#[test]
fn a_full_store_says_so_and_keeps_what_it_has() {
    let stage = Stage::with(StoreOptions::default().max_octets(10 * (256 + 104)));
    let store = stage.open();
    let queue = store.queue("work").unwrap();
    let body = || NewEntry::new([vec![b'x'; 100]]);
    let ids: Vec<_> = (0..10).map(|_| queue.enqueue(body()).wait().unwrap().id).collect();
    let error = queue.enqueue(body()).wait().unwrap_err();
    assert!(matches!(error, StoreError::Full { octets: 3600, max_octets: 3600 }), "{error}");
    assert!(error.to_string().contains("3600"), "{error}");
    // A result of what was done has room nevertheless, but not without end
    let held = queue.lease(2, secs(30)).wait().unwrap().entries;
    let result = Bytes::from(vec![b'r'; 600]);
    assert_eq!(queue.complete(held[0].ticket, std::slice::from_ref(&result)).wait().unwrap(), Settled::Done);
    let error = queue.complete(held[1].ticket, &[result]).wait().unwrap_err();
    assert!(matches!(error, StoreError::Full { .. }), "{error}");
    for id in &ids {
        assert_ne!(store.find(*id).wait().unwrap(), Found::Unknown);
    }
    store.remove(ids[0]).wait().unwrap();
    store.remove(ids[5]).wait().unwrap();
    queue.enqueue(body()).wait().unwrap();
}

#[test]
fn names_keys_and_bodies_have_bounds() {
    let stage = Stage::with(StoreOptions::default().max_body(1000).max_queues(2));
    let store = stage.open();
    assert!(matches!(store.queue(""), Err(StoreError::BadName { octets: 0, .. })));
    assert!(matches!(store.queue(vec![0; 256]), Err(StoreError::BadName { octets: 256, .. })));
    let queue = store.queue(vec![0xff; 255]).unwrap();
    queue.enqueue(NewEntry::new([vec![0; 996]])).wait().unwrap();
    let error = queue.enqueue(NewEntry::new([vec![0; 997]])).wait().unwrap_err();
    assert!(matches!(error, StoreError::TooLarge { octets: 1001, max: 1000 }), "{error}");
    for key in [vec![], vec![0; 1025]] {
        assert!(matches!(queue.enqueue(entry("").key(key)).wait(), Err(StoreError::BadName { max: 1024, .. })));
    }
    queue.enqueue(entry("").key(vec![0; 1024])).wait().unwrap();
    store.queue("two").unwrap().enqueue(entry("")).wait().unwrap();
    let error = store.queue("three").unwrap().enqueue(entry("")).wait().unwrap_err();
    assert!(matches!(error, StoreError::TooManyQueues(2)), "{error}");
    // One that is empty gives its place to another
    let held = store.queue("two").unwrap().lease(1, secs(30)).wait().unwrap().entries.remove(0);
    store.queue("two").unwrap().ack(held.ticket).wait().unwrap();
    stage.pass(secs(61));
    let third = store.queue("three").unwrap();
    store.sweep().wait().unwrap();
    store.sweep().wait().unwrap();
    third.enqueue(entry("")).wait().unwrap();
}

#[test]
fn several_in_one_go_have_outcomes_of_their_own() {
    let stage = Stage::with(StoreOptions::default().max_body(10));
    let store = stage.open();
    let queue = store.queue("work").unwrap();
    let stored = queue.enqueue_many(vec![entry("one"), entry("much too large"), entry("two")]).wait().unwrap();
    assert!(stored[0].is_ok() && matches!(stored[1], Err(StoreError::TooLarge { .. })) && stored[2].is_ok());
    let tickets = queue.lease(9, secs(30)).wait().unwrap().entries.iter().map(|entry| entry.ticket).collect();
    assert_eq!(queue.ack_many(tickets).wait().unwrap(), [Settled::Done, Settled::Done]);
    assert_eq!(queue.ack(Ticket { seq: 99, attempt: 1 }).wait().unwrap(), Settled::Late);
}

#[test]
fn what_an_owner_had_when_it_ended_waits_again() {
    let stage = Stage::new();
    let store = stage.open();
    let queue = store.queue("work").unwrap();
    let stored = queue.enqueue(entry("one").max_attempts(1)).wait().unwrap();
    let before = queue.lease(1, secs(3600)).wait().unwrap().entries.remove(0);
    drop((queue, store));
    let store = stage.open();
    assert_eq!(store.released(), 1);
    let queue = store.queue("work").unwrap();
    let held = queue.lease(1, secs(30)).wait().unwrap().entries.remove(0);
    // Its owner's end was no attempt
    assert_eq!((held.id, held.ticket), (stored.id, before.ticket));
    assert!(store.inspect().unwrap().fsck(|_| {}).unwrap().is_clean());
}

#[test]
fn what_may_have_ended_its_owner_is_not_tried_for_ever() {
    let stage = Stage::with(StoreOptions::default().max_attempts(2));
    let store = stage.open();
    let queue = store.queue("work").unwrap();
    let id = queue.enqueue(entry("one")).wait().unwrap().id;
    drop((queue, store));
    for attempt in 1..=2 {
        let store = stage.open();
        let queue = store.queue("work").unwrap();
        assert_eq!(queue.lease(1, secs(30)).wait().unwrap().entries[0].attempt(), attempt);
        drop((queue, store));
        // As a process leaves it that is killed
        let connection = rusqlite::Connection::open(stage.directory.path().join("queue.db")).unwrap();
        connection.execute_batch("UPDATE store SET clean = 0; UPDATE entry SET state = 1, due_at = 1").unwrap();
    }
    let store = stage.open();
    assert!(store.queue("work").unwrap().lease(1, secs(30)).wait().unwrap().entries.is_empty());
    assert!(matches!(store.find(id).wait().unwrap(), Found::Dead { cause: Cause::Attempts, .. }));
}

#[test]
fn what_is_remembered_counts_and_gives_way() {
    let stage = Stage::with(StoreOptions::default().max_octets(10_000));
    let store = stage.open();
    let queue = store.queue("work").unwrap();
    let keyed = |number: u32| entry("one").key(format!("key-{number:04}"));
    for number in 0..200 {
        queue.enqueue(keyed(number)).wait().unwrap();
        let held = queue.lease(1, secs(30)).wait().unwrap().entries.remove(0);
        queue.ack(held.ticket).wait().unwrap();
        stage.pass(secs(1));
    }
    let connection = rusqlite::Connection::open(stage.directory.path().join("queue.db")).unwrap();
    let count = || connection.query_row("SELECT count(*) FROM seen", [], |row| row.get::<_, i64>(0)).unwrap();
    assert!((10..75).contains(&count()), "{}", count());
    // The latest are known, the oldest are not
    assert!(queue.enqueue(keyed(199)).wait().unwrap().duplicate);
    assert!(!queue.enqueue(keyed(0)).wait().unwrap().duplicate);
    let error = loop {
        if let Err(error) = queue.enqueue(entry("one")).wait() {
            break error;
        }
    };
    assert!(matches!(error, StoreError::Full { .. }) && count() < 3, "{error}, {}", count());
    assert!(store.inspect().unwrap().fsck(|_| {}).unwrap().is_clean());
}

#[test]
fn a_key_for_one_call_is_soon_forgotten() {
    let stage = Stage::new();
    let store = stage.open();
    let queue = store.queue("work").unwrap();
    for new in [entry("one").brief_key("brief"), entry("two").key("long")] {
        queue.enqueue(new).wait().unwrap();
        let held = queue.lease(1, secs(30)).wait().unwrap().entries.remove(0);
        queue.ack(held.ticket).wait().unwrap();
    }
    stage.pass(secs(500));
    assert!(queue.enqueue(entry("one").brief_key("brief")).wait().unwrap().duplicate);
    stage.pass(secs(200));
    assert!(!queue.enqueue(entry("one").brief_key("brief")).wait().unwrap().duplicate);
    assert!(queue.enqueue(entry("two").key("long")).wait().unwrap().duplicate);
}

#[test]
fn a_queue_comes_to_be_with_an_entry_only() {
    let stage = Stage::with(StoreOptions::default().max_octets(100));
    let store = stage.open();
    assert!(matches!(store.queue("work").unwrap().enqueue(entry("one")).wait(), Err(StoreError::Full { .. })));
    assert!(store.stats().wait().unwrap().queues.is_empty());
}

#[test]
fn time_never_runs_backwards() {
    let stage = Stage::new();
    let store = stage.open();
    let queue = store.queue("work").unwrap();
    queue.enqueue(entry("one")).wait().unwrap();
    let held = queue.lease(1, secs(30)).wait().unwrap().entries.remove(0);
    queue.nak(held.ticket, Retry::After(secs(100)), "").wait().unwrap();
    let then = store.now();
    drop((queue, store));
    // The machine has forgotten the date
    stage.clock.set(tidings_store::Timestamp::from_millis(1000));
    let store = stage.open();
    assert_eq!(store.now(), then);
    stage.pass(secs(100));
    let queue = store.queue("work").unwrap();
    assert_eq!(queue.lease(1, secs(30)).wait().unwrap().entries.len(), 1);
}

#[test]
fn every_state_is_explained() {
    let stage = Stage::new();
    let store = stage.open();
    let queue = store.queue("work").unwrap();
    let explain = |seq| {
        let (_entry, why) = store.inspect().unwrap().explain(EntryKey::Seq(seq)).unwrap().unwrap();
        why.to_string()
    };
    let seq = queue.enqueue(entry("one").max_attempts(2).ttl(secs(1000))).wait().unwrap().seq;
    assert_eq!(
        explain(seq),
        "It is due, as attempt 1 of 2, and waits for somebody to take it. Its lifetime ends in 16 min 40 s."
    );
    let held = queue.lease(1, secs(30)).wait().unwrap().entries.remove(0);
    stage.pass(secs(10));
    let why = explain(seq);
    assert!(why.starts_with("It is handed out, attempt 1 of 2, since 10 s; the lease ends in 20 s."), "{why}");
    queue.nak(held.ticket, Retry::After(secs(90)), "worker died").wait().unwrap();
    let why = explain(seq);
    assert!(
        why.starts_with("It waits for 1 min 30 s more, since attempt 1 of 2 failed. The last failure: worker died."),
        "{why}"
    );
    stage.pass(secs(90));
    let held = queue.lease(1, secs(30)).wait().unwrap().entries.remove(0);
    stage.pass(secs(31));
    assert!(explain(seq).starts_with("The lease of attempt 2 of 2 has ended: it is about to become a dead letter."));
    queue.nak(held.ticket, Retry::Backoff, "worker died again").wait().unwrap();
    let why = explain(seq);
    assert!(why.contains("because its last attempt failed (attempt 2 of 2)"), "{why}");
    let seq = queue.enqueue(entry("two").not_before(store.now().after(secs(5)))).wait().unwrap().seq;
    assert!(explain(seq).starts_with("It is not to be handed out before 5 s from now."));
    stage.pass(secs(5));
    let held = queue.lease(1, secs(30)).wait().unwrap().entries.remove(0);
    queue.complete(held.ticket, &[]).wait().unwrap();
    assert!(explain(seq).starts_with("It was done 0 ms ago, by attempt 1 of 10, and its result is kept."));
    assert!(store.inspect().unwrap().explain(EntryKey::Seq(999)).unwrap().is_none());
    assert_eq!(store.inspect().unwrap().entries(b"work", Some(State::Dead), 0, 9).unwrap().len(), 1);
}

#[test]
fn small_tables_keep_their_values() {
    let stage = Stage::new();
    let store = stage.open();
    let table = store.table("settings").unwrap();
    for (key, value) in [("b", "2"), ("a", "1"), ("c", "3")] {
        table.put(key, value).wait().unwrap();
    }
    table.put("a", "one").wait().unwrap();
    assert!(store.table("other").unwrap().value("a").wait().unwrap().is_none());
    drop((table, store));
    let store = stage.open();
    let table = store.table("settings").unwrap();
    assert_eq!(table.value("a").wait().unwrap(), Some(Bytes::from("one")));
    assert!(table.delete("b").wait().unwrap());
    assert!(!table.delete("b").wait().unwrap());
    let all: Vec<(Bytes, Bytes)> = vec![("a".into(), "one".into()), ("c".into(), "3".into())];
    assert_eq!(table.scan("", 10).wait().unwrap(), all);
    assert_eq!(table.scan("a", 10).wait().unwrap(), all[1..]);
}

#[tokio::test]
async fn who_waits_for_work_is_told() {
    let stage = Stage::new();
    let store = stage.open();
    let queue = store.queue("work").unwrap();
    let mut changes = store.changes();
    let waiting = tokio::spawn(async move { changes.changed().await });
    queue.enqueue(entry("one")).await.unwrap();
    assert!(waiting.await.unwrap());
    let mut changes = store.changes();
    store.close();
    assert!(matches!(queue.enqueue(entry("two")).await, Err(StoreError::Closed)));
    while changes.changed().await {}
}

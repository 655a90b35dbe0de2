//! What the disk does to a store, and who may be at it.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use tidings_store::{
    Cause, Durability, Found, Inspector, NewEntry, ProblemKind, State, Store, StoreError, StoreOptions, repair,
};

use crate::{Stage, entry, secs};

#[test]
fn a_store_has_one_owner() {
    let stage = Stage::new();
    let store = stage.open();
    let error = Store::open(stage.directory.path(), StoreOptions::default()).unwrap_err();
    let said = error.to_string();
    assert!(said.contains(&format!("in use by process {}", std::process::id())), "{said}");
    assert!(matches!(repair(stage.directory.path(), |_| {}), Err(StoreError::InUse { .. })));
    drop(store);
    stage.open();
}

#[test]
fn a_guest_sees_purges_and_requeues_while_the_owner_goes_on() {
    let stage = Stage::with(StoreOptions::default().max_attempts(1));
    let store = stage.open();
    let (work, other) = (store.queue("work").unwrap(), store.queue("other").unwrap());
    for number in 0..2500_u32 {
        let queue = if number % 5 == 0 { &other } else { &work };
        queue.enqueue(NewEntry::new([number.to_be_bytes().to_vec()])).wait().unwrap();
    }
    let held = work.lease(100, secs(30)).wait().unwrap().entries;
    for held in &held {
        work.nak(held.ticket, tidings_store::Retry::Backoff, "no").wait().unwrap();
    }
    let guest = Inspector::open_with(stage.directory.path(), Arc::new(stage.clock.clone())).unwrap();
    let counts = |queue: &[u8]| {
        let stats = guest.queue(queue).unwrap().unwrap();
        State::ALL.map(|state| stats.count(state))
    };
    assert_eq!((counts(b"work"), counts(b"other")), ([1900, 0, 0, 100], [500, 0, 0, 0]));
    assert_eq!(guest.queues().unwrap().len(), 2);
    let page = guest.entries(b"work", Some(State::Dead), 0, 7).unwrap();
    assert_eq!(page.len(), 7);
    assert!(page.iter().all(|entry| entry.cause == Some(Cause::Attempts) && entry.note.as_deref() == Some("no")));
    let next = guest.entries(b"work", Some(State::Dead), page[6].seq, 7).unwrap();
    assert!(next[0].seq > page[6].seq);

    let mut heard = Vec::new();
    assert_eq!(guest.purge(b"work", State::Waiting, |gone| heard.push(gone)).unwrap(), 1900);
    assert_eq!(heard, [1000]);
    assert!(guest.purge_one(b"other", 1).unwrap() && !guest.purge_one(b"other", 1).unwrap());
    assert!(guest.requeue_one(b"work", page[0].seq).unwrap() && !guest.requeue_one(b"work", page[0].seq).unwrap());
    assert_eq!(guest.requeue(b"work", |_| {}).unwrap(), 99);
    assert_eq!(guest.purge(b"nothing", State::Dead, |_| {}).unwrap(), 0);
    // The owner finds what is true, and both have counted alike
    assert_eq!(work.lease(1000, secs(30)).wait().unwrap().entries.len(), 100);
    assert_eq!((counts(b"work"), counts(b"other")), ([0, 100, 0, 0], [499, 0, 0, 0]));
    assert_eq!(store.stats().wait().unwrap().entries, 599);
    assert!(guest.fsck(|_| {}).unwrap().is_clean());
}

#[tokio::test]
async fn the_owner_hears_of_what_a_guest_put_back() {
    let stage = Stage::new();
    let store = stage.open();
    let queue = store.queue("work").unwrap();
    queue.enqueue(entry("one")).await.unwrap();
    let held = queue.lease(1, secs(30)).await.unwrap().entries.remove(0);
    queue.nak(held.ticket, tidings_store::Retry::Never, "no").await.unwrap();
    let mut changes = store.changes();
    assert_eq!(store.inspect().unwrap().requeue(b"work", |_| {}).unwrap(), 1);
    assert!(changes.changed().await);
    assert_eq!(queue.lease(1, secs(30)).await.unwrap().entries.len(), 1);
}

#[test]
fn what_is_no_store_is_said_to_be_none() {
    let directory = tempfile::tempdir().unwrap();
    let missing = directory.path().join("nowhere");
    assert!(matches!(Inspector::open(&missing), Err(StoreError::Missing(_))));
    assert!(!missing.exists());
    let file = directory.path().join("queue.db");
    let connection = rusqlite::Connection::open(&file).unwrap();
    connection.execute_batch("CREATE TABLE theirs (a)").unwrap();
    drop(connection);
    let open = || Store::open(directory.path(), StoreOptions::default()).map(drop).unwrap_err();
    assert!(matches!(open(), StoreError::Foreign(_)));
    assert!(matches!(Inspector::open(directory.path()), Err(StoreError::Foreign(_))));
    fs::remove_file(&file).unwrap();
    Store::open(directory.path(), StoreOptions::default()).unwrap();
    let connection = rusqlite::Connection::open(&file).unwrap();
    connection.execute_batch("PRAGMA user_version = 9").unwrap();
    drop(connection);
    assert!(matches!(open(), StoreError::TooNew { found: 9, known: 1, .. }));
    fs::write(
        &file,
        "this is a text, and longer than the header of a database, or so one may hope at least; it is a text",
    )
    .unwrap();
    let error = open();
    assert!(matches!(error, StoreError::Damaged { .. }), "{error:?}");
    let said = error.to_string();
    assert!(said.contains("queue.db is damaged") && said.contains("tidings queue fsck --store"), "{said}");
}

#[test]
fn nobody_else_may_read_it() {
    use std::os::unix::fs::PermissionsExt as _;
    let parent = tempfile::tempdir().unwrap();
    let directory = parent.path().join("a/b");
    let store = Store::open(&directory, StoreOptions::default()).unwrap();
    store.queue("work").unwrap().enqueue(entry("secret")).wait().unwrap();
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&directory), 0o700);
    for file in fs::read_dir(&directory).unwrap() {
        assert_eq!(mode(&file.unwrap().path()), 0o600);
    }
}

/// A store with entries in every state, closed; the number of entries
fn furnish(stage: &Stage) -> u64 {
    let store = stage.open();
    let queue = store.queue("work").unwrap();
    for number in 0..300_usize {
        queue.enqueue(NewEntry::new([vec![b'a' + (number % 26) as u8; 10 + number * 20]])).wait().unwrap();
    }
    for (number, held) in queue.lease(100, secs(3000)).wait().unwrap().entries.iter().enumerate() {
        match number % 3 {
            0 => drop(queue.complete(held.ticket, &[Bytes::from(vec![b'R'; 2000])]).wait().unwrap()),
            1 => drop(queue.nak(held.ticket, tidings_store::Retry::Never, "no").wait().unwrap()),
            _ => {}
        }
    }
    store.table("settings").unwrap().put("key", "the value of a table").wait().unwrap();
    300
}

#[test]
fn a_body_that_was_altered_is_not_handed_out() {
    let stage = Stage::new();
    furnish(&stage);
    let file = stage.directory.path().join("queue.db");
    let connection = rusqlite::Connection::open(&file).unwrap();
    // As a disk would: the octets differ and nothing else
    let alter = "UPDATE entry SET body = CAST(substr(body, 1, 8) || x'5a' || substr(body, 10) AS BLOB) WHERE seq = 3";
    connection.execute_batch(alter).unwrap();
    connection
        .execute_batch("UPDATE result SET body = substr(body, 2) WHERE seq = 4; UPDATE item SET value = x'00';")
        .unwrap();
    drop(connection);
    let guest = Inspector::open(stage.directory.path()).unwrap();
    let report = guest.fsck(|_| {}).unwrap();
    assert_eq!(report.problems.iter().map(|problem| problem.kind).collect::<Vec<_>>(), [ProblemKind::Checksum; 3]);
    assert!(report.problems[0].to_string().contains("entry "), "{:?}", report.problems);
    drop(guest);

    let store = stage.open();
    let queue = store.queue("work").unwrap();
    let before = queue.stats().wait().unwrap();
    let handed = queue.lease(1000, secs(30)).wait().unwrap().entries.len() as u64;
    assert_eq!(handed, before.waiting - 1);
    let damaged = store.inspect().unwrap().entries(b"work", Some(State::Dead), 0, 1000).unwrap();
    assert_eq!(damaged.iter().filter(|entry| entry.cause == Some(Cause::Damaged)).count(), 1);
    let done = store.inspect().unwrap().entry(tidings_store::EntryKey::Seq(4)).unwrap().unwrap();
    assert!(matches!(store.find(done.id).wait(), Err(StoreError::DamagedEntry { seq: 4 })));
    assert!(matches!(store.table("settings").unwrap().value("key").wait(), Err(StoreError::Damaged { .. })));
    drop((queue, store));

    let repair = repair(stage.directory.path(), |_| {}).unwrap();
    assert!(repair.after.is_clean() && repair.aside.is_none(), "{repair:?}");
    let store = stage.open();
    assert!(matches!(store.find(done.id).wait().unwrap(), Found::Dead { cause: Cause::Damaged, .. }));
}

#[test]
fn rows_that_contradict_each_other_are_found_and_put_right() {
    for (damage, kind) in [
        ("UPDATE queue SET waiting = waiting + 5", ProblemKind::Count),
        ("UPDATE store SET octets = 1", ProblemKind::Count),
        ("UPDATE store SET next_seq = 5", ProblemKind::Count),
        ("DELETE FROM result WHERE seq = 1", ProblemKind::Orphan),
        ("INSERT INTO result VALUES (2, 0, x'')", ProblemKind::Orphan),
        ("DELETE FROM large WHERE seq = 250", ProblemKind::Orphan),
        ("DELETE FROM queue", ProblemKind::Orphan),
        ("UPDATE entry SET attempt = 99 WHERE seq = 7", ProblemKind::Row),
        ("UPDATE entry SET state = 7 WHERE seq = 200", ProblemKind::Row),
        ("UPDATE entry SET cause = NULL", ProblemKind::Row),
        ("UPDATE entry SET id = x'0102' WHERE seq = 200", ProblemKind::Row),
        ("UPDATE store SET seen_octets = 5", ProblemKind::Count),
    ] {
        let stage = Stage::new();
        let entries = furnish(&stage);
        let connection = rusqlite::Connection::open(stage.directory.path().join("queue.db")).unwrap();
        connection.execute_batch(damage).unwrap();
        drop(connection);
        let found = Inspector::open(stage.directory.path()).unwrap().fsck(|_| {}).unwrap();
        assert!(found.problems.iter().any(|problem| problem.kind == kind), "{damage}: {:?}", found.problems);
        let repair = repair(stage.directory.path(), |_| {}).unwrap();
        assert!(repair.after.is_clean(), "{damage}: {:?}", repair.after.problems);
        assert_eq!(repair.after.entries, entries, "{damage}");
        stage.open().queue("work").unwrap().lease(1000, secs(30)).wait().unwrap();
    }
}

#[test]
fn counts_that_contradict_each_other_are_noticed_when_it_is_opened() {
    let stage = Stage::new();
    furnish(&stage);
    let connection = rusqlite::Connection::open(stage.directory.path().join("queue.db")).unwrap();
    connection.execute_batch("UPDATE queue SET dead = dead + 1").unwrap();
    drop(connection);
    let error = Store::open(stage.directory.path(), StoreOptions::default()).unwrap_err();
    assert!(error.to_string().contains("contradict"), "{error}");
}

#[test]
fn what_can_be_read_of_a_damaged_file_is_saved() {
    for damage in 0..6_u64 {
        let stage = Stage::new();
        let entries = furnish(&stage);
        let file = stage.directory.path().join("queue.db");
        let mut octets = fs::read(&file).unwrap();
        // A page is lost: the header's, that of a root, or one further on
        let pages = octets.len() / 4096;
        let page = [0, 3, 4, pages / 4, pages / 2, pages - 2][damage as usize];
        octets[page * 4096..][..4096].fill(0xa5);
        fs::write(&file, &octets).unwrap();
        let inspected = Inspector::open(stage.directory.path()).and_then(|guest| guest.fsck(|_| {}));
        match inspected {
            Ok(report) => assert!(!report.is_clean(), "page {page}"),
            Err(error) => assert!(matches!(error, StoreError::Damaged { .. }), "page {page}: {error}"),
        }
        // It may open or not, but nothing panics
        if let Ok(store) = Store::open(stage.directory.path(), stage.options.clone()) {
            let _either_way = store.queue("work").unwrap().lease(1000, secs(30)).wait();
        }
        let repaired = repair(stage.directory.path(), |_| {}).unwrap();
        assert!(repaired.after.is_clean(), "page {page}: {:?}", repaired.after.problems);
        let aside = repaired.aside.unwrap();
        assert!(aside.exists());
        if page > pages / 8 {
            assert!(repaired.after.entries > entries / 2, "page {page}: {} of {entries}", repaired.after.entries);
        }
        let store = stage.open();
        store.queue("work").unwrap().enqueue(entry("after")).wait().unwrap();
        assert!(repair(stage.directory.path(), |_| {}).is_err());
    }
}

#[test]
fn between_damaged_pages_nothing_is_lost() {
    for damaged in [2, 5_usize] {
        let stage = Stage::new();
        let store = stage.open();
        let queue = store.queue("work").unwrap();
        for round in 0..20_u32 {
            let body = |number: u32| NewEntry::new([[number.to_be_bytes(); 20].concat()]);
            let entries = (0..1000).map(|number| body(round * 1000 + number)).collect();
            queue.enqueue_many(entries).wait().unwrap().into_iter().for_each(|stored| assert!(stored.is_ok()));
        }
        drop((queue, store));
        let file = stage.directory.path().join("queue.db");
        let mut octets = fs::read(&file).unwrap();
        // Leaves of the table, told by the type of the page and the bodies on them
        let is_leaf = |page: &[u8]| {
            page[0] == 13 && page.windows(8).any(|window| window[..4] == window[4..] && window[0] == 0 && window[2] > 2)
        };
        let leaves: Vec<usize> =
            octets.chunks(4096).enumerate().filter(|(_, page)| is_leaf(page)).map(|(number, _)| number).collect();
        assert!(leaves.len() > 500, "{}", leaves.len());
        for number in 1..=damaged {
            octets[leaves[leaves.len() * number / (damaged + 1)] * 4096..][..4096].fill(0xa5);
        }
        fs::write(&file, &octets).unwrap();
        let repaired = repair(stage.directory.path(), |_| {}).unwrap();
        assert!(repaired.after.is_clean(), "{:?}", repaired.after.problems);
        let (saved, most) = (repaired.after.entries, damaged as u64 * 40);
        assert!(saved >= 20_000 - most && saved < 20_000, "{damaged} pages: {saved} of 20000");
        assert_eq!(repaired.lost, 20_000 - saved, "{damaged} pages");
        assert_eq!(stage.open().stats().wait().unwrap().entries, saved);
    }
}

#[test]
fn a_queue_may_have_any_octets_as_its_name() {
    let stage = Stage::new();
    let store = stage.open();
    let name = Bytes::from_static(b"\xff\xfe\x00 work");
    store.queue(name.clone()).unwrap().enqueue(entry("one")).wait().unwrap();
    assert!(store.inspect().unwrap().fsck(|_| {}).unwrap().is_clean());
    drop(store);
    let file = stage.directory.path().join("queue.db");
    let damage = |statement: &str| rusqlite::Connection::open(&file).unwrap().execute_batch(statement).unwrap();
    damage("UPDATE queue SET waiting = 9");
    let repaired = repair(stage.directory.path(), |_| {}).unwrap();
    let said = repaired.before.problems[0].to_string();
    assert!(said.contains(r"\xff\xfe\x00 work"), "{said}");
    assert!(repaired.after.is_clean(), "{:?}", repaired.after.problems);
    // A text that is none is damage, and is told as such
    damage("UPDATE entry SET note = CAST(x'ff' AS TEXT), state = 3, cause = 1; UPDATE queue SET waiting = 0, dead = 1");
    let guest = Inspector::open(stage.directory.path()).unwrap();
    let error = guest.entries(&name, None, 0, 9).unwrap_err();
    assert!(matches!(error, StoreError::Damaged { .. }), "{error}");
}

#[test]
fn a_guest_with_another_time_does_not_stop_the_owners() {
    let stage = Stage::new();
    let store = stage.open();
    let queue = store.queue("work").unwrap();
    for text in ["one", "two"] {
        queue.enqueue(entry(text).ttl(secs(1000))).wait().unwrap();
    }
    for _ in 0..2 {
        let held = queue.lease(1, secs(30)).wait().unwrap().entries.remove(0);
        queue.nak(held.ticket, tidings_store::Retry::Never, "no").wait().unwrap();
    }
    // A program that was started after the clock was set
    let clock = tidings_store::ManualClock::new(store.now().after(secs(3600)));
    let guest = Inspector::open_with(stage.directory.path(), Arc::new(clock)).unwrap();
    assert_eq!(guest.requeue(b"work", |_| {}).unwrap(), 2);
    let held = queue.lease(1, secs(30)).wait().unwrap().entries.remove(0);
    queue.nak(held.ticket, tidings_store::Retry::After(secs(1)), "not yet").wait().unwrap();
    assert_eq!(queue.lease(1, secs(30)).wait().unwrap().entries.len(), 1);
    assert_eq!(queue.lease(1, secs(30)).wait().unwrap().entries.len(), 0);
    stage.pass(secs(1));
    assert_eq!(queue.lease(1, secs(30)).wait().unwrap().entries.len(), 1);
    assert_eq!(store.stats().wait().unwrap().queues[0].dead, 0);
}

#[test]
fn time_goes_on_from_what_the_file_has_seen() {
    let stage = Stage::new();
    let store = stage.open();
    let queue = store.queue("work").unwrap();
    queue.enqueue(entry("one")).wait().unwrap();
    let connection = rusqlite::Connection::open(stage.directory.path().join("queue.db")).unwrap();
    connection.execute_batch("UPDATE store SET latest = latest + 3600000").unwrap();
    let held = queue.lease(1, secs(30)).wait().unwrap().entries.remove(0);
    queue.nak(held.ticket, tidings_store::Retry::After(secs(1)), "").wait().unwrap();
    stage.pass(secs(1));
    assert_eq!(queue.lease(1, secs(30)).wait().unwrap().entries.len(), 1);
}

#[test]
fn a_clock_that_jumps_ahead_buries_nothing_at_once() {
    let stage = Stage::new();
    let store = stage.open();
    let queue = store.queue("work").unwrap();
    queue.enqueue(entry("one").ttl(secs(3600)).key("k")).wait().unwrap();
    let right = store.now();
    drop((queue, store));
    // The machine starts with a date of years ahead
    stage.pass(secs(10 * 365 * 86_400));
    let store = stage.open();
    store.sweep().wait().unwrap();
    let queue = store.queue("work").unwrap();
    assert!(queue.lease(9, secs(30)).wait().unwrap().entries.is_empty());
    assert_eq!(queue.stats().wait().unwrap().waiting, 1);
    assert!(queue.enqueue(entry("one").key("k")).wait().unwrap().duplicate);
    drop((queue, store));
    // Somebody sets it
    stage.clock.set(right.after(secs(60)));
    let store = stage.open();
    assert_eq!(store.now(), right.after(secs(60)));
    stage.pass(secs(10));
    let queue = store.queue("work").unwrap();
    assert_eq!(queue.lease(9, secs(30)).wait().unwrap().entries.len(), 1);
    drop((queue, store));
    // Years have passed indeed: it is believed after a while
    stage.pass(secs(10 * 365 * 86_400));
    let store = stage.open();
    stage.pass(secs(601));
    let queue = store.queue("work").unwrap();
    // Each operation is followed by a look at the time
    queue.stats().wait().unwrap();
    store.sweep().wait().unwrap();
    assert_eq!(queue.stats().wait().unwrap().dead, 1);
}

#[test]
fn a_row_that_makes_no_sense_fails_nobody_else() {
    for damage in ["id = x'0102'", "checksum = -1", "checksum = 1 << 40", "key = NULL, note = CAST(x'ff' AS TEXT)"] {
        let stage = Stage::new();
        let store = stage.open();
        let (work, other) = (store.queue("work").unwrap(), store.queue("other").unwrap());
        for queue in [&work, &work, &other] {
            queue.enqueue(entry("one").ttl(secs(100))).wait().unwrap();
        }
        let connection = rusqlite::Connection::open(stage.directory.path().join("queue.db")).unwrap();
        connection.execute_batch(&format!("UPDATE entry SET {damage} WHERE seq = 1")).unwrap();
        assert_eq!(work.lease(9, secs(30)).wait().unwrap().entries.len(), 1, "{damage}");
        assert_eq!(other.lease(9, secs(30)).wait().unwrap().entries.len(), 1, "{damage}");
        let stats = work.stats().wait().unwrap();
        assert_eq!((stats.waiting, stats.leased, stats.dead), (0, 1, 1), "{damage}");
        let dead = store.inspect().unwrap().entries(b"work", Some(State::Dead), 0, 9).unwrap();
        assert_eq!(dead[0].cause, Some(Cause::Damaged), "{damage}");
        // Nor does it keep lifetimes from ending
        other.enqueue(entry("two").ttl(secs(100))).wait().unwrap();
        connection.execute_batch(&format!("UPDATE entry SET {damage} WHERE seq = 2")).unwrap();
        stage.pass(secs(200));
        store.sweep().wait().unwrap();
        assert_eq!(other.stats().wait().unwrap().dead, 2, "{damage}");
        assert_eq!(work.stats().wait().unwrap().dead, 2, "{damage}");
        let report = store.inspect().unwrap().fsck(|_| {}).unwrap();
        assert!(report.is_clean(), "{damage}: {:?}", report.problems);
    }
}

#[test]
fn large_bodies_are_purged_in_small_steps() {
    let stage = Stage::new();
    let store = stage.open();
    let queue = store.queue("work").unwrap();
    for _ in 0..20 {
        queue.enqueue(NewEntry::new([vec![b'x'; 2 << 20]])).wait().unwrap();
    }
    let mut heard = Vec::new();
    assert_eq!(store.inspect().unwrap().purge(b"work", State::Waiting, |gone| heard.push(gone)).unwrap(), 20);
    assert_eq!(heard, [4, 8, 12, 16]);
    assert!(store.inspect().unwrap().fsck(|_| {}).unwrap().is_clean());
}

#[test]
fn a_repair_that_was_cut_short_leaves_no_empty_store_behind() {
    let stage = Stage::new();
    furnish(&stage);
    let (file, fresh) = (stage.directory.path().join("queue.db"), stage.directory.path().join("queue.db.new"));
    fs::write(&fresh, "").unwrap();
    let refused = |said: &str| {
        let error = Store::open(stage.directory.path(), stage.options.clone()).unwrap_err();
        assert!(matches!(error, StoreError::Damaged { .. }) && error.to_string().contains(said), "{error}");
    };
    refused("not finished");
    let report = Inspector::open(stage.directory.path()).unwrap().fsck(|_| {}).unwrap();
    assert!(report.problems[0].to_string().contains("queue.db.new"), "{:?}", report.problems);
    let repaired = repair(stage.directory.path(), |_| {}).unwrap();
    assert!(repaired.after.is_clean() && repaired.lost == 0 && !fresh.exists(), "{repaired:?}");
    fs::remove_file(repaired.aside.unwrap()).unwrap();
    fs::rename(&file, stage.directory.path().join("queue.db.damaged-0")).unwrap();
    refused("queue.db.damaged-0");
    assert!(!file.exists());
    fs::rename(stage.directory.path().join("queue.db.damaged-0"), &file).unwrap();
    // What a repair makes is nobody else's business either
    let mut octets = fs::read(&file).unwrap();
    octets[3 * 4096..][..4096].fill(0xa5);
    fs::write(&file, &octets).unwrap();
    let aside = repair(stage.directory.path(), |_| {}).unwrap().aside.unwrap();
    assert_eq!(fs::read(&aside).unwrap(), octets);
    use std::os::unix::fs::PermissionsExt as _;
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    assert!(!fresh.exists());
    stage.open();
}

#[test]
fn a_log_that_is_cut_keeps_what_was_synced() {
    let directory = tempfile::tempdir().unwrap();
    let copy = tempfile::tempdir().unwrap();
    let store = Store::open(directory.path(), StoreOptions::default()).unwrap();
    let queue = store.queue("work").unwrap();
    // After each acknowledgement: how long the log was
    let log = directory.path().join("queue.db-wal");
    let stored: Vec<_> = (0..60_usize)
        .map(|number| {
            let id = queue.enqueue(NewEntry::new([vec![b'x'; number * 100]])).wait().unwrap().id;
            (id, fs::metadata(&log).unwrap().len())
        })
        .collect();
    let (database, octets) = (fs::read(directory.path().join("queue.db")).unwrap(), fs::read(&log).unwrap());
    store.close();
    for cut in (0..octets.len()).step_by(octets.len() / 97) {
        for garbage in [0, 700] {
            // What was not synced is gone, or is anything
            let mut left = octets[..cut].to_vec();
            left.extend(std::iter::repeat_n(0x5a, garbage));
            let _fresh = fs::remove_dir_all(copy.path().join("s"));
            fs::create_dir(copy.path().join("s")).unwrap();
            fs::write(copy.path().join("s/queue.db"), &database).unwrap();
            fs::write(copy.path().join("s/queue.db-wal"), left).unwrap();
            let store = match Store::open(copy.path().join("s"), StoreOptions::default()) {
                Ok(store) => store,
                Err(error) => panic!("cut at {cut}: {error}"),
            };
            assert!(store.inspect().unwrap().fsck(|_| {}).unwrap().is_clean(), "cut at {cut}");
            for (id, synced) in &stored {
                if *synced <= cut as u64 {
                    let found = store.find(*id).wait().unwrap();
                    assert!(
                        matches!(found, Found::Pending { .. }),
                        "cut at {cut}: an entry synced at {synced} is lost"
                    );
                }
            }
        }
    }
}

#[test]
fn nothing_is_acknowledged_that_was_not_synced() {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(directory.path(), StoreOptions::default()).unwrap();
    // SQLite goes on writing, and there is nothing to be synced by this name
    fs::remove_file(directory.path().join("queue.db-wal")).unwrap();
    let queue = store.queue("work").unwrap();
    let error = queue.enqueue(entry("one")).wait().unwrap_err();
    assert!(matches!(error, StoreError::Io { .. }) && error.to_string().contains("sync the log"), "{error}");
    // What is on the disk now only opening it again tells
    assert!(!store.is_open());
    assert!(queue.enqueue(entry("two")).wait().is_err() && store.stats().wait().is_err());
}

#[test]
fn a_full_disk_is_said_to_be_full_and_loses_nothing() {
    let stage = Stage::with(StoreOptions::default().max_file_octets(400_000));
    let store = stage.open();
    let queue = store.queue("work").unwrap();
    let mut stored = Vec::new();
    let error = loop {
        match queue.enqueue(NewEntry::new([vec![b'x'; 3000]])).wait() {
            Ok(enqueued) => stored.push(enqueued.id),
            Err(error) => break error,
        }
        assert!(stored.len() < 1000);
    };
    assert!(matches!(error, StoreError::DiskFull { .. }), "{error}");
    assert!(stored.len() > 50);
    // Of several at once those that fit are stored
    let outcomes: Vec<_> = std::thread::scope(|scope| {
        let spawn = |size: usize| {
            let queue = queue.clone();
            scope.spawn(move || queue.enqueue(NewEntry::new([vec![b'y'; size]])).wait())
        };
        let threads: Vec<_> = (0..20).map(|number| spawn(if number % 2 == 0 { 50_000 } else { 1 })).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    for outcome in outcomes {
        match outcome {
            Ok(enqueued) => stored.push(enqueued.id),
            Err(error) => assert!(matches!(error, StoreError::DiskFull { .. }), "{error}"),
        }
    }
    for id in &stored {
        assert!(matches!(store.find(*id).wait().unwrap(), Found::Pending { .. }));
    }
    assert!(store.inspect().unwrap().fsck(|_| {}).unwrap().is_clean());
    // What is taken away makes room
    for held in queue.lease(20, secs(30)).wait().unwrap().entries {
        queue.ack(held.ticket).wait().unwrap();
    }
    queue.enqueue(NewEntry::new([vec![b'x'; 3000]])).wait().unwrap();
}

#[test]
fn of_several_queues_in_one_go_those_that_fit_are_stored() {
    let stage = Stage::with(StoreOptions::default().max_file_octets(400_000));
    let store = stage.open();
    let queue = store.queue("work").unwrap();
    while queue.enqueue(NewEntry::new([vec![b'x'; 3000]])).wait().is_ok() {}
    for held in queue.lease(10, secs(30)).wait().unwrap().entries {
        queue.ack(held.ticket).wait().unwrap();
    }
    let entries = [("work", 1), ("other", 100_000), ("", 1), ("other", 1)];
    let entries = entries.map(|(name, size)| (name.into(), NewEntry::new([vec![b'y'; size]])));
    let outcomes = store.enqueue_many(entries).wait().unwrap();
    let [Ok(first), Err(StoreError::DiskFull { .. }), Err(StoreError::BadName { .. }), Ok(last)] = &outcomes[..] else {
        panic!("{outcomes:?}");
    };
    for id in [first.id, last.id] {
        assert!(matches!(store.find(id).wait().unwrap(), Found::Pending { .. }));
    }
    assert_eq!(store.queue("other").unwrap().stats().wait().unwrap().waiting, 1);
    assert!(store.inspect().unwrap().fsck(|_| {}).unwrap().is_clean());
}

#[test]
fn a_checkpoint_keeps_the_log_short_and_a_close_leaves_none() {
    let stage = Stage::new();
    let store = stage.open();
    let queue = store.queue("work").unwrap();
    let log = stage.directory.path().join("queue.db-wal");
    let mut longest = 0;
    for _ in 0..600 {
        let bodies = (0..10).map(|_| NewEntry::new([vec![b'x'; 50_000]])).collect();
        for stored in queue.enqueue_many(bodies).wait().unwrap() {
            stored.unwrap();
        }
        longest = longest.max(fs::metadata(&log).unwrap().len());
    }
    // 300 MB went through it
    assert!(longest < 160 << 20, "{longest}");
    drop((queue, store));
    assert!(!log.exists());
}

#[test]
fn every_durability_keeps_what_it_has_when_it_is_closed() {
    for durability in ["fsync", "interval:5ms", "memory"] {
        let directory = tempfile::tempdir().unwrap();
        let options = StoreOptions::default().durability(durability.parse().unwrap());
        let store = Store::open(directory.path(), options.clone()).unwrap();
        let queue = store.queue("work").unwrap();
        let stored = queue.enqueue(entry("one")).wait().unwrap();
        assert_eq!(stored.durability.to_string(), durability);
        assert_eq!(stored.durability == Durability::Fsync, durability == "fsync");
        drop((queue, store));
        let store = Store::open(directory.path(), options).unwrap();
        assert!(matches!(store.find(stored.id).wait().unwrap(), Found::Pending { .. }));
    }
}

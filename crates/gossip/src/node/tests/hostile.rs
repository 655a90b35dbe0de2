//! Peers that lie, forge and flood.

use smallvec::SmallVec;

use super::*;
use crate::context::Ranges;
use crate::record::Stamp;
use crate::wire::tidings::{Body, Incoming, LifeEntry, LifeRanges, Live, Mask, Record, RecordsWriter};

fn record<'a>(seq: u64, stamp: u64, key: &'a str, value: &'a str) -> Record<'a> {
    let body = Body::Put(Lifetime::Permanent, value.as_bytes());
    Record { seq, stamp: Stamp(stamp), key: key.as_bytes(), body, beats: SmallVec::new() }
}

fn records(life: Identity, list: &[Record<'_>], seen: Ranges) -> Bytes {
    let mut writer = RecordsWriter::new(100);
    let first = list.first().map_or((1, Stamp(1)), |record| (record.seq, record.stamp));
    writer.begin(life.id, life.incarnation, first.0, first.1);
    list.iter().for_each(|record| writer.record(record));
    writer.end(&seen);
    writer.finish(true, false)
}

/// A Session record, alone
pub(super) fn session_of(life: Identity, seq: u64, key: &str, value: &str) -> Bytes {
    let body = Body::Put(Lifetime::Session, value.as_bytes());
    records(life, &[Record { body, ..record(seq, 5 + seq, key, "") }], Ranges::of(seq, seq))
}

/// Nothing of it lives up to there
pub(super) fn dead_of(life: Identity, last: u64) -> Bytes {
    let seen = Ranges::of(1, last);
    let live = Ranges::new();
    tidings::live(&Live { is_answer: false, owner: life.id, incarnation: life.incarnation, seen, live })
}

const PEER: Identity = Identity { id: NodeId(2), incarnation: Incarnation(900_000) };

#[test]
fn what_cant_be_read_ends_a_link_at_last() {
    let mut stage = Stage::new(NodeConfig::default());
    let link = stage.peer(2);
    for _ in 0..2 {
        for _ in 0..7 {
            stage.hear(link, Bytes::from_static(&[0xaa, 0xa7, 0x7f, 1]));
        }
        assert!(stage.hang_ups().is_empty());
        stage.hear(link, tidings::ping(1));
    }
    for _ in 0..7 {
        stage.hear(link, Bytes::from_static(&[0xaa, 0xa7, 7, 1, 0, 1]));
    }
    assert!(stage.hang_ups().is_empty());
    stage.node.handle_message(stage.now, link, Message::multipart(["one", "two"]));
    assert_eq!(stage.hang_ups(), [HangUp::Malformed]);
    assert_eq!((stage.refused(Refusal::UnknownMessage), stage.refused(Refusal::Malformed)), (14, 7));
    assert_eq!(stage.refused(Refusal::Frames), 1);
}

#[test]
fn nobody_has_our_id_or_another_than_his_key_gives() {
    let mut stage = Stage::new(NodeConfig::default());
    let link = stage.link(2);
    stage.hear(link, hello_of(OWN.id));
    assert_eq!(stage.hang_ups(), [HangUp::SameId]);
    let key = [9; 32];
    for (number, id, expected) in [(3, NodeId::of_key(&key), None), (4, NodeId(77), Some(HangUp::ForgedId))] {
        let info = LinkInfo {
            side: Side::Server,
            wire: Wire::Tidings,
            endpoint: String::new(),
            key: Some(key),
            explicit: false,
            is_leaf: false,
        };
        stage.node.handle_link_up(stage.now, LinkId(number), info);
        stage.hear(LinkId(number), hello_of(id));
        assert_eq!(stage.hang_ups().first().copied(), expected);
    }
    assert_eq!(stage.refused(Refusal::ForgedId), 2);
}

#[test]
fn what_comes_before_hello_is_not_heard() {
    let mut stage = Stage::new(NodeConfig::default());
    let link = stage.link(2);
    stage.hear(link, records(PEER, &[record(1, 5, "key", "value")], Ranges::of(1, 1)));
    assert_eq!((stage.node.len(), stage.refused(Refusal::OutOfState)), (0, 1));
}

#[test]
fn who_writes_in_our_name_makes_us_begin_again() {
    let mut stage = Stage::new(NodeConfig::default());
    let link = stage.peer(2);
    stage.put("key", "ours");
    stage.put("other", "ours");
    let forged = record(9, OWN.incarnation.0 * 1000 + 50_000_000, "key", "forged");
    stage.hear(link, records(OWN, &[forged], Ranges::of(9, 9)));
    assert_eq!(stage.refused(Refusal::ForgedOwner), 2, "the record, and that it was seen");
    let tuple = stage.node.get(stage.now, b"key").unwrap();
    assert_eq!(tuple.value, Bytes::from("ours"));
    assert!(tuple.dot.incarnation > OWN.incarnation, "another life");
    assert!(tuple.stamp > Stamp(OWN.incarnation.0 * 1000 + 50_000_000), "that wins where the forged one came first");
    assert_eq!(stage.node.identity().incarnation, tuple.dot.incarnation);
    let hellos = stage.take(link);
    assert_eq!(of_kind(&hellos, 0x01).len(), 2, "at first, and for the new life");
    // Not as often as somebody likes
    let life = stage.node.identity();
    stage.hear(link, records(life, &[], Ranges::of(1000, 1000)));
    assert_eq!(stage.node.identity(), life);
    stage.wait(secs(61));
    stage.hear(link, records(life, &[], Ranges::of(1000, 1000)));
    assert!(stage.node.identity().incarnation > life.incarnation);
    // A later life of ours that isn't
    stage.wait(secs(61));
    let later = Incarnation(stage.node.identity().incarnation.0 + 5000);
    let lives = vec![LifeRanges { owner: OWN.id, incarnation: later, ranges: Ranges::of(1, 1) }];
    stage.hear(link, tidings::have(false, &lives));
    assert!(stage.node.identity().incarnation > later);
    assert_eq!(stage.node.len(), 2);
}

#[test]
fn a_session_tuple_is_dead_when_its_owner_says_so() {
    let mut stage = Stage::new(NodeConfig::default());
    let link = stage.peer(2);
    let first = stage.node.put(stage.now, "session", "value", Lifetime::Session).unwrap();
    stage.put("permanent", "value");
    let live = Live {
        is_answer: false,
        owner: OWN.id,
        incarnation: OWN.incarnation,
        seen: Ranges::of(1, 5),
        live: Ranges::new(),
    };
    stage.hear(link, tidings::live(&live));
    let tuple = stage.node.get(stage.now, b"session").unwrap();
    // No later than it was: if somebody has written there, that has the last word
    assert!(tuple.stamp == first.stamp && tuple.dot.seq > first.dot.seq);
    assert_eq!(stage.node.get(stage.now, b"permanent"), None, "somebody has deleted it");
}

#[test]
fn reserved_keys_are_their_owners() {
    let mut stage = Stage::new(NodeConfig::default());
    let link = stage.peer(2);
    let session = |seq, key| Record { body: Body::Put(Lifetime::Session, b"{}"), ..record(seq, 5, key, "") };
    let list = [
        session(1, "$tidings/node/0000000000000002"),
        session(2, "$tidings/node/0000000000000003"),
        session(3, "$tidings/links/2"),
        session(4, "$tidings/else"),
        record(5, 5, "$tidings/links/0000000000000002", "[]"),
    ];
    stage.hear(link, records(PEER, &list, Ranges::of(1, 5)));
    assert_eq!(stage.refused(Refusal::ForgedOwner), 4);
    let known = stage.node.tuples(stage.now, b"$tidings/").map(|tuple| tuple.key).collect::<Vec<_>>();
    assert!(known.contains(&Bytes::from("$tidings/node/0000000000000002")), "{known:?}");
    assert!(known.iter().all(|key| !key.ends_with(b"3") && !key.ends_with(b"else")), "{known:?}");
}

#[test]
fn quotas_bound_what_a_peer_makes_us_hold() {
    let mut config = NodeConfig::default();
    config.quotas.max_tuples_per_owner = 10;
    config.quotas.max_value = 100;
    let mut stage = Stage::new(config);
    let link = stage.peer(2);
    let keys = (0..50).map(|number| format!("key-{number}")).collect::<Vec<_>>();
    let list = keys.iter().zip(1..).map(|(key, seq)| record(seq, seq, key, "v")).collect::<Vec<_>>();
    stage.hear(link, records(PEER, &list, Ranges::of(1, 50)));
    assert_eq!((stage.node.len(), stage.refused(Refusal::KeyQuota)), (10, 40));
    let large = "x".repeat(101);
    stage.hear(link, records(PEER, &[record(51, 51, "large", &large)], Ranges::of(51, 51)));
    assert_eq!(stage.refused(Refusal::Oversized), 1);
    // What was refused isn't asked for again so soon
    stage.take(link);
    let lives = vec![LifeRanges { owner: PEER.id, incarnation: PEER.incarnation, ranges: Ranges::of(1, 51) }];
    stage.hear(link, tidings::have(false, &lives));
    assert!(of_kind(&stage.take(link), 0x06).is_empty());
    stage.wait(secs(61));
    stage.take(link);
    stage.hear(link, tidings::have(false, &lives));
    assert_eq!(of_kind(&stage.take(link), 0x06).len(), 1, "but when a minute is over");
    let told = std::iter::from_fn(|| stage.node.poll_event());
    let told = told.filter(|event| matches!(event, Event::Refused { cause: Refusal::KeyQuota, .. })).count();
    assert_eq!(told, 1, "one a second is told, however many there are");
}

#[test]
fn lives_that_nobody_lives_are_bounded() {
    let mut config = NodeConfig::default();
    config.quotas.max_owners = 20;
    let mut stage = Stage::new(config);
    let link = stage.peer(2);
    for number in 0..100 {
        let life = Identity { id: NodeId(1000 + number), incarnation: Incarnation(5) };
        let key = format!("key-{number}");
        stage.hear(link, records(life, &[record(1, 5, &key, "v")], Ranges::of(1, 1)));
    }
    assert_eq!(stage.node.stats().owners, 20);
    assert!(stage.refused(Refusal::OwnerQuota) >= 80);
}

#[test]
fn nobody_lifts_the_clock_as_he_likes() {
    let mut stage = Stage::new(NodeConfig::default());
    let link = stage.peer(2);
    let day = 24 * 3600 * 1_000_000_u64;
    let mut stamp = OWN.incarnation.0 * 1000;
    for seq in 1..=10 {
        stamp += 2 * day;
        let key = format!("key-{seq}");
        stage.hear(link, records(PEER, &[record(seq, stamp, &key, "v")], Ranges::of(seq, seq)));
    }
    assert_eq!((stage.node.len(), stage.refused(Refusal::ClockLift)), (8, 2));
    assert_eq!(stage.node.stats().clock_lifts, 8);
    stage.hear(link, records(PEER, &[record(11, 1 << 63, "absurd", "v")], Ranges::of(11, 11)));
    stage.hear(link, records(PEER, &[record(12, (1 << 63) - 1, "absurd", "v")], Ranges::of(12, 12)));
    assert_eq!((stage.node.len(), stage.refused(Refusal::ClockLift)), (8, 4));
    let far = Identity { id: NodeId(3), incarnation: Incarnation(u64::MAX) };
    stage.hear(link, records(far, &[record(1, 5, "far", "v")], Ranges::of(1, 1)));
    assert_eq!((stage.node.len(), stage.refused(Refusal::ClockLift)), (8, 5));
}

#[test]
fn who_announces_what_he_has_not_is_asked_no_more() {
    let mut stage = Stage::new(NodeConfig::default());
    let link = stage.peer(2);
    let mut asked = 0;
    for number in 0..60 {
        let lives = vec![LifeRanges {
            owner: NodeId(50),
            incarnation: PEER.incarnation,
            ranges: Ranges::of(number + 1, number + 1),
        }];
        stage.hear(link, tidings::have(false, &lives));
        stage.wait(secs(3));
        asked += of_kind(&stage.take(link), 0x06).len();
        if stage.refused(Refusal::LyingDigest) > 0 {
            break;
        }
    }
    assert_eq!(stage.refused(Refusal::LyingDigest), 1);
    assert!(asked <= 20, "{asked}");
    let lives = vec![LifeRanges { owner: NodeId(51), incarnation: PEER.incarnation, ranges: Ranges::of(1, 1) }];
    stage.hear(link, tidings::have(false, &lives));
    assert!(of_kind(&stage.take(link), 0x06).is_empty());
}

#[test]
fn digests_that_are_lies_cost_less_and_less() {
    let mut stage = Stage::new(NodeConfig::default());
    let link = stage.peer(2);
    stage.put("key", "value");
    stage.wait(secs(1));
    // The peer has it all, and says so when asked; its digests say otherwise
    let (mut answered, mut root) = (0, 0);
    for _ in 0..600 {
        root += 1;
        stage.take(link);
        stage.hear(link, tidings::digest(&tidings::Digest { wants_active: true, root, ..Default::default() }));
        for frame in stage.take(link) {
            if let Ok(Incoming::Owners { mask, entries }) = tidings::decode(&frame) {
                answered += 1;
                stage.hear(link, tidings::owners(&mask, &entries));
            }
        }
        stage.wait(secs(1));
    }
    assert!((5..30).contains(&answered), "{answered} in ten minutes");
    assert!(stage.refused(Refusal::LyingDigest) > 0);
}

#[test]
fn coverage_that_nobody_has_is_the_owners_to_contradict() {
    let mut stage = Stage::new(NodeConfig::default());
    let link = stage.peer(2);
    stage.put("key", "value");
    let entries = [LifeEntry {
        owner: OWN.id,
        incarnation: OWN.incarnation,
        seen: Ranges::of(1, 1 << 40),
        live_hash: 0,
        live_count: 0,
        age: 0,
    }];
    stage.hear(link, tidings::owners(&Mask::ALL, &entries));
    assert!(stage.node.identity().incarnation > OWN.incarnation);
    assert_eq!(stage.node.get(stage.now, b"key").unwrap().value, Bytes::from("value"));
}

#[test]
fn a_flood_of_gaps_is_bounded() {
    let mut stage = Stage::new(NodeConfig::default());
    let link = stage.peer(2);
    for number in 0..500 {
        let (seq, key) = (number * 2 + 1, format!("key-{number}"));
        stage.hear(link, records(PEER, &[record(seq, seq, &key, "v")], Ranges::of(seq, seq)));
    }
    assert_eq!(stage.node.len(), 65, "ranges of a context");
    // What fills the gaps makes room again
    let list = (1..=1000).map(|seq| (seq, format!("key-{seq}"))).collect::<Vec<_>>();
    let list = list.iter().map(|(seq, key)| record(*seq, *seq, key, "v")).collect::<Vec<_>>();
    stage.hear(link, records(PEER, &list, Ranges::of(1, 1000)));
    assert_eq!(
        stage.node.table.seen(stage.node.table.find_life(PEER.id, PEER.incarnation).unwrap()),
        Some(&Ranges::of(1, 1000))
    );
}

#[test]
fn a_leaf_is_believed_what_it_says_of_itself_alone() {
    let mut stage = Stage::new(NodeConfig::default());
    let (leaf, other) = (stage.peer(100), stage.peer(2));
    let own = Identity { id: NodeId(100), incarnation: PEER.incarnation };
    stage.hear(other, records(PEER, &[record(1, 5, "theirs", "v")], Ranges::of(1, 1)));
    stage.hear(leaf, records(own, &[record(1, 5, "own", "v")], Ranges::of(1, 1)));
    assert_eq!(stage.node.len(), 2);
    // Records, announcements and deaths of another's
    stage.hear(leaf, records(PEER, &[record(2, 6, "theirs", "forged")], Ranges::of(2, 2)));
    let lives = vec![LifeRanges { owner: PEER.id, incarnation: PEER.incarnation, ranges: Ranges::of(3, 3) }];
    stage.hear(leaf, tidings::have(false, &lives));
    let live = Live {
        is_answer: false,
        owner: PEER.id,
        incarnation: PEER.incarnation,
        seen: Ranges::of(1, 1),
        live: Ranges::new(),
    };
    stage.hear(leaf, tidings::live(&live));
    assert_eq!(stage.refused(Refusal::ForgedOwner), 3);
    stage.take(leaf);
    let entry =
        |owner, seen| LifeEntry { owner, incarnation: PEER.incarnation, seen, live_hash: 0, live_count: 1, age: 0 };
    stage.hear(leaf, tidings::owners(&Mask::ALL, &[entry(PEER.id, Ranges::of(5, 9)), entry(own.id, Ranges::of(1, 2))]));
    let said = stage.take(leaf);
    let wants = of_kind(&said, 0x06);
    let Ok(Incoming::Want { lives, .. }) = tidings::decode(wants[0]) else { panic!("{said:?}") };
    assert_eq!(lives.len(), 1, "what is its own is asked for: {lives:?}");
    assert_eq!(lives[0].owner, own.id);
    assert_eq!(of_kind(&said, 0x07).len(), 1, "and it is given what it lacks");
    assert_eq!(stage.node.get(stage.now, b"theirs").unwrap().value, Bytes::from("v"));
}

#[test]
fn what_a_record_has_beaten_is_not_ours_to_come() {
    let mut stage = Stage::new(NodeConfig::default());
    let link = stage.peer(2);
    stage.put("key", "ours");
    let beats = SmallVec::from([Dot { owner: OWN.id, incarnation: OWN.incarnation, seq: 50 }]);
    let forged = Record { beats, ..record(1, 5, "other", "v") };
    stage.hear(link, records(PEER, &[forged], Ranges::of(1, 1)));
    assert_eq!(stage.node.get(stage.now, b"other"), None);
    assert!(stage.refused(Refusal::ForgedOwner) > 0);
    assert!(stage.node.identity().incarnation > OWN.incarnation);
}

#[test]
fn work_for_one_peer_is_bounded() {
    let mut stage = Stage::new(NodeConfig::default());
    let link = stage.peer(2);
    for _ in 0..100 {
        stage.hear(link, tidings::buckets(&[7; 256]));
    }
    assert_eq!(of_kind(&stage.take(link), 0x04).len(), 39, "and HELLO");
    assert_eq!(stage.refused(Refusal::Flood), 61);
    stage.wait(secs(1));
    stage.take(link);
    stage.hear(link, tidings::buckets(&[7; 256]));
    assert_eq!(of_kind(&stage.take(link), 0x04).len(), 1);
}

#[test]
fn a_clock_that_was_never_set_joins_all_the_same() {
    let mut stage = Stage::new(NodeConfig::default());
    let link = stage.link(2);
    let year = 366 * 24 * 3600 * 1000;
    let begun = OWN.incarnation.0 + 50 * year;
    let clock = Stamp((begun + 1000) * 1000);
    stage.hear(
        link,
        tidings::hello(&tidings::Hello {
            id: NodeId(2),
            incarnation: Incarnation(begun),
            has_yours: true,
            name: String::new(),
            endpoints: Vec::new(),
            digest: tidings::Digest { clock, ..Default::default() },
        }),
    );
    assert_eq!(stage.hang_ups(), []);
    assert_eq!(stage.node.stats().clock_lifts, 1);
    let life = Identity { id: NodeId(2), incarnation: Incarnation(begun) };
    stage.hear(link, records(life, &[record(1, clock.0 + 5, "key", "v")], Ranges::of(1, 1)));
    assert_eq!(stage.node.len(), 1);
    assert!(stage.put("key", "later").stamp > clock);
}

#[test]
fn nobody_withholds_what_it_has_announced() {
    let mut stage = Stage::new(NodeConfig::default());
    let (liar, other) = (stage.peer(2), stage.peer(3));
    let owner = Identity { id: NodeId(50), incarnation: PEER.incarnation };
    let lives = [LifeRanges { owner: owner.id, incarnation: owner.incarnation, ranges: Ranges::of(1, 1) }];
    stage.hear(liar, tidings::have(false, &lives));
    assert_eq!(of_kind(&stage.take(liar), 0x06).len(), 1);
    stage.hear(other, tidings::have(false, &lives));
    assert!(of_kind(&stage.take(other), 0x06).is_empty(), "it was asked for elsewhere");
    // It gives other things all the time, and never what it was asked for
    let mut asked = None;
    for turn in 0..1300_u64 {
        let (seq, key) = (turn + 1, "key");
        let mut writer = RecordsWriter::new(100);
        writer.begin(PEER.id, PEER.incarnation, seq, Stamp(seq));
        writer.record(&record(seq, seq, key, "v"));
        writer.end(&Ranges::of(seq, seq));
        stage.hear(liar, writer.finish(false, false));
        stage.wait(millis(100));
        // As digests make it do
        stage.hear(other, tidings::have(true, &lives));
        if !of_kind(&stage.take(other), 0x06).is_empty() {
            asked = Some(turn / 10);
            break;
        }
    }
    assert!(asked.is_some_and(|seconds| seconds <= 125), "{asked:?}");
    assert_eq!(stage.refused(Refusal::LyingDigest), 1);
}

#[test]
fn nothing_given_is_no_progress() {
    let mut stage = Stage::new(NodeConfig::default());
    let (liar, other) = (stage.peer(2), stage.peer(3));
    let lives = [LifeRanges { owner: NodeId(50), incarnation: PEER.incarnation, ranges: Ranges::of(1, 1) }];
    stage.hear(liar, tidings::have(false, &lives));
    stage.hear(other, tidings::have(false, &lives));
    for _ in 0..20 {
        stage.hear(liar, RecordsWriter::new(10).finish(false, false));
        stage.wait(millis(50));
    }
    assert_eq!(of_kind(&stage.take(other), 0x06).len(), 1, "it is asked for elsewhere half a second later");
}

#[test]
fn what_is_malformed_counts_in_a_row() {
    let mut stage = Stage::new(NodeConfig::default());
    let link = stage.peer(2);
    for _ in 0..20 {
        for _ in 0..7 {
            stage.hear(link, Bytes::from_static(&[0xaa, 0xa7, 0x7f, 1]));
        }
        stage.hear(link, tidings::ping(1));
    }
    // Nor does what was refused for other reasons
    let list = (1..20).map(|seq| record(seq, 1 << 63, "key", "v")).collect::<Vec<_>>();
    stage.hear(link, records(PEER, &list, Ranges::of(1, 20)));
    assert_eq!(stage.hang_ups(), []);
    for _ in 0..8 {
        stage.hear(link, Bytes::from_static(&[0xaa, 0xa7, 0x7f, 1]));
    }
    assert_eq!(stage.hang_ups(), [HangUp::Malformed]);
}

#[test]
fn what_is_asked_for_can_be_read_however_scattered_it_is() {
    let mut config = NodeConfig::default();
    config.quotas.max_value = 10;
    let mut stage = Stage::new(config);
    let link = stage.peer(2);
    let lives = [LifeRanges { owner: PEER.id, incarnation: PEER.incarnation, ranges: Ranges::of(1, 2000) }];
    stage.hear(link, tidings::have(false, &lives));
    stage.take(link);
    // Every other one is refused
    let large = "x".repeat(11);
    let list =
        (1..=1000).map(|seq| record(seq, seq, "key", if seq % 2 == 0 { "v" } else { &large })).collect::<Vec<_>>();
    let mut writer = RecordsWriter::new(100);
    writer.begin(PEER.id, PEER.incarnation, 1, Stamp(1));
    list.iter().for_each(|record| writer.record(record));
    writer.end(&Ranges::of(1, 1000));
    stage.hear(link, writer.finish(false, true));
    let frames = stage.take(link);
    let wants = of_kind(&frames, 0x06);
    assert!(!wants.is_empty());
    for want in wants {
        assert!(matches!(tidings::decode(want), Ok(Incoming::Want { .. })), "the peer reads it");
    }
}

#[test]
fn what_a_quota_refuses_is_offered_less_and_less_often() {
    let mut config = NodeConfig::default();
    config.quotas.max_tuples_per_owner = 1;
    let mut stage = Stage::new(config);
    let link = stage.peer(2);
    stage.hear(link, records(PEER, &[record(1, 1, "first", "v"), record(2, 2, "more", "v")], Ranges::of(1, 2)));
    assert_eq!(stage.refused(Refusal::KeyQuota), 1);
    let (mut asked, mut answered) = (0, 0);
    for root in 0..300 {
        stage.take(link);
        stage.hear(link, tidings::digest(&tidings::Digest { wants_active: true, root, ..Default::default() }));
        let mut frames = VecDeque::from(stage.take(link));
        while let Some(frame) = frames.pop_front() {
            match tidings::decode(&frame) {
                // The peer has both, and knows nothing else
                Ok(Incoming::Owners { mask, mut entries }) => {
                    answered += 1;
                    for entry in entries.iter_mut().filter(|entry| entry.owner == PEER.id) {
                        entry.seen = Ranges::of(1, 2);
                    }
                    stage.hear(link, tidings::owners(&mask, &entries));
                }
                Ok(Incoming::Want { .. }) => {
                    asked += 1;
                    let mut writer = RecordsWriter::new(100);
                    writer.begin(PEER.id, PEER.incarnation, 2, Stamp(2));
                    writer.record(&record(2, 2, "more", "v"));
                    writer.end(&Ranges::of(2, 2));
                    stage.hear(link, writer.finish(false, false));
                }
                _ => {}
            }
            frames.extend(stage.take(link));
        }
        stage.wait(secs(1));
    }
    assert!((3..60).contains(&answered), "{answered} exchanges in five minutes");
    assert!(asked <= 6, "{asked}");
    assert_eq!(stage.refused(Refusal::LyingDigest), 0, "it doesn't lie");
}

#[test]
fn a_leaf_ends_nobody_elses_writes() {
    let mut stage = Stage::new(NodeConfig::default());
    let link = LinkId(2);
    let info = LinkInfo {
        side: Side::Server,
        wire: Wire::Tidings,
        endpoint: String::new(),
        key: None,
        explicit: true,
        is_leaf: true,
    };
    stage.node.handle_link_up(stage.now, link, info);
    stage.hear(link, hello_of(PEER.id));
    let other = Identity { id: NodeId(3), incarnation: Incarnation(5) };
    let beats = smallvec::smallvec![crate::record::Dot { owner: other.id, incarnation: other.incarnation, seq: 1 }];
    stage.hear(link, records(PEER, &[Record { beats, ..record(1, 1, "key", "v") }], Ranges::of(1, 1)));
    assert_eq!(stage.node.len(), 1);
    let link = stage.peer(4);
    stage.hear(link, records(other, &[record(1, 1, "other", "v")], Ranges::of(1, 1)));
    assert_eq!(stage.node.len(), 2);
}

#[test]
fn one_owner_has_so_many_lives() {
    let mut config = NodeConfig::default();
    config.quotas.max_owners = 800;
    let mut stage = Stage::new(config);
    let link = stage.peer(2);
    for number in 0..200 {
        let life = Identity { id: NodeId(9), incarnation: Incarnation(number + 1) };
        stage.hear(link, records(life, &[record(1, 5, "key", "v")], Ranges::of(1, 1)));
    }
    assert_eq!(stage.refused(Refusal::OwnerQuota), 150);
    let other = Identity { id: NodeId(10), incarnation: Incarnation(1) };
    stage.hear(link, records(other, &[record(1, 5, "other", "v")], Ranges::of(1, 1)));
    assert!(stage.node.get(stage.now, b"other").is_some(), "the others have theirs");
}

#[test]
fn who_forges_renews_nothing() {
    let mut stage = Stage::new(NodeConfig::default());
    let link = stage.peer(2);
    stage.node.put(stage.now, "key", "value", Lifetime::Ttl(secs(100))).unwrap();
    for _ in 0..2 {
        stage.wait(secs(45));
        let life = stage.node.identity();
        stage.hear(link, records(life, &[], Ranges::of(1000, 1000)));
    }
    stage.wait(secs(11));
    assert_eq!(stage.node.get(stage.now, b"key"), None);
}

#[test]
fn a_few_octets_dont_bring_all_there_is_again_and_again() {
    let mut stage = Stage::new(NodeConfig::default());
    let link = stage.peer(2);
    for number in 0..1000 {
        stage.node.put(stage.now, format!("key-{number}"), "value", Lifetime::Permanent).unwrap();
    }
    stage.wait(secs(20));
    stage.take(link);
    let (own, all) = (stage.node.identity(), Ranges::of(1, 1001));
    let live =
        Live { is_answer: false, owner: own.id, incarnation: own.incarnation, seen: all.clone(), live: all.clone() };
    let want = [LifeRanges { owner: own.id, incarnation: own.incarnation, ranges: all }];
    stage.node.remove(stage.now, b"key-7").unwrap();
    stage.take(link);
    for _ in 0..300 {
        stage.hear(link, tidings::want(false, &want));
        stage.hear(link, tidings::live(&live));
    }
    let sent = stage.take(link).iter().map(Bytes::len).sum::<usize>();
    assert!(sent < 4 << 20, "{sent} octets in one moment");
    assert!(stage.refused(Refusal::Flood) > 300);
}

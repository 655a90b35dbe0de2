use proptest::prelude::*;
use smallvec::smallvec;

use super::*;
use crate::record::{Dot, Lifetime};

fn ranges() -> impl Strategy<Value = Ranges> {
    proptest::collection::vec((1..5000_u64, 0..50_u64), 0..20).prop_map(|list| {
        let mut ranges = Ranges::new();
        list.into_iter().for_each(|(first, more)| ranges.insert_range(first, first + more));
        ranges
    })
}

fn lives() -> impl Strategy<Value = Vec<LifeRanges>> {
    let life = (any::<u64>(), any::<u64>(), ranges());
    let life = life.prop_map(|(owner, incarnation, ranges)| LifeRanges {
        owner: NodeId(owner),
        incarnation: Incarnation(incarnation),
        ranges,
    });
    proptest::collection::vec(life, 0..10)
}

fn entry() -> impl Strategy<Value = LifeEntry> {
    (any::<u64>(), any::<u64>(), ranges(), any::<u64>(), any::<u64>(), any::<u64>()).prop_map(
        |(owner, incarnation, seen, live_hash, live_count, age)| LifeEntry {
            owner: NodeId(owner),
            incarnation: Incarnation(incarnation),
            seen,
            live_hash,
            live_count,
            age,
        },
    )
}

/// What a record says, owned
type Said = (u64, u64, Vec<u8>, Option<(Lifetime, Vec<u8>)>, Vec<Dot>);

fn said() -> impl Strategy<Value = Said> {
    let lifetime = prop_oneof![
        Just(Lifetime::Permanent),
        Just(Lifetime::Session),
        (0..u64::from(u32::MAX)).prop_map(|millis| Lifetime::Ttl(std::time::Duration::from_millis(millis)))
    ];
    let octets = |most| proptest::collection::vec(prop_oneof![Just(b'a'), any::<u8>()], 0..most);
    let dot =
        (0..3_u64, 1..100_u64).prop_map(|(owner, seq)| Dot { owner: NodeId(owner), incarnation: Incarnation(1), seq });
    let put = proptest::option::of((lifetime, octets(300)));
    (1..200_u64, 1..u64::MAX / 4, octets(256), put, proptest::collection::vec(dot, 0..4))
}

fn as_record(said: &Said) -> Record<'_> {
    let (seq, stamp, key, put, beats) = said;
    let body = put.as_ref().map_or(Body::Delete, |(lifetime, value)| Body::Put(*lifetime, value));
    Record { seq: *seq, stamp: Stamp(*stamp), key, body, beats: beats.iter().copied().collect() }
}

proptest! {
    #[test]
    fn hello_comes_back(
        id: u64, incarnation: u64, flags: [bool; 2], name in ".{0,40}",
        endpoints in proptest::collection::vec("[a-z:/*.0-9]{0,30}", 0..5), numbers: [u64; 4],
    ) {
        let digest = Digest {
            wants_active: flags[0], root: numbers[0], lives: numbers[1], clock: Stamp(numbers[2]), members: numbers[3],
        };
        let said = Hello {
            id: NodeId(id), incarnation: Incarnation(incarnation), has_yours: flags[1], name, endpoints, digest,
        };
        let frame = hello(&said);
        let Ok(Incoming::Hello(heard)) = decode(&frame) else { panic!("{frame:?}") };
        prop_assert_eq!(&heard, &said);
        let frame = super::digest(&said.digest);
        let Ok(Incoming::Digest(heard)) = decode(&frame) else { panic!("{frame:?}") };
        prop_assert_eq!(heard, said.digest);
    }

    #[test]
    fn lists_come_back(flag: bool, said in lives(), entries in proptest::collection::vec(entry(), 0..10)) {
        let frame = have(flag, &said);
        let Ok(Incoming::Have { is_late, lives }) = decode(&frame) else { panic!("{frame:?}") };
        prop_assert_eq!((is_late, &lives), (flag, &said));
        let frame = want(flag, &said);
        let Ok(Incoming::Want { graft, lives }) = decode(&frame) else { panic!("{frame:?}") };
        prop_assert_eq!((graft, &lives), (flag, &said));
        let mut some = Mask::NONE;
        entries.iter().for_each(|entry| some.add(entry.live_hash as u8));
        let frame = owners(&some, &entries);
        let Ok(Incoming::Owners { mask, entries: heard }) = decode(&frame) else { panic!("{frame:?}") };
        prop_assert_eq!((mask, heard), (some, entries));
        for life in said {
            let said = Live {
                is_answer: flag, owner: life.owner, incarnation: life.incarnation,
                seen: life.ranges.clone(), live: life.ranges,
            };
            let frame = live(&said);
            let Ok(Incoming::Live(heard)) = decode(&frame) else { panic!("{frame:?}") };
            prop_assert_eq!(heard, said);
        }
    }

    #[test]
    fn records_come_back(
        groups in proptest::collection::vec((any::<u64>(), any::<u64>(), proptest::collection::vec(said(), 0..8), ranges()), 0..4),
        flags: [bool; 2],
    ) {
        let mut writer = RecordsWriter::new(0);
        let mut expected = Vec::new();
        for (owner, incarnation, list, seen) in &groups {
            // Numbers of a life grow
            let mut list = list.clone();
            list.sort_by_key(|said| said.0);
            list.dedup_by_key(|said| said.0);
            let (owner, incarnation) = (NodeId(*owner), Incarnation(*incarnation));
            let first = list.first().map_or((1, Stamp(1)), |said| (said.0, Stamp(said.1)));
            writer.begin(owner, incarnation, first.0, first.1);
            expected.push(format!("{:?}", Item::Life(owner, incarnation)));
            for said in &list {
                writer.record(&as_record(said));
                expected.push(format!("{:?}", Item::Record(as_record(said))));
            }
            writer.end(seen);
            expected.push(format!("{:?}", Item::Seen(seen.clone())));
        }
        let frame = writer.finish(flags[0], flags[1]);
        let Ok(Incoming::Records { is_pushed, has_more, mut records }) = decode(&frame) else { panic!("{frame:?}") };
        prop_assert_eq!([is_pushed, has_more], flags);
        let mut heard = Vec::new();
        while let Some(item) = records.next().unwrap() {
            heard.push(format!("{item:?}"));
        }
        prop_assert_eq!(heard, expected);
    }

    #[test]
    fn whatever_comes_is_read_or_refused(mut octets in proptest::collection::vec(any::<u8>(), 0..200), number in 0..17_u8) {
        let head = [0xaa, 0xa7, number, 1];
        octets.splice(0..0, head);
        if let Ok(Incoming::Records { mut records, .. }) = decode(&octets) {
            while let Ok(Some(_)) = records.next() {}
        }
    }

    #[test]
    fn what_is_cut_short_is_refused(said in lives(), entries in proptest::collection::vec(entry(), 1..5), cut in 0..1000_usize) {
        for frame in [have(false, &said), owners(&Mask::ALL, &entries)] {
            let shorter = frame.slice(..cut % frame.len());
            prop_assert!(decode(&shorter).is_err());
            let longer = [&frame[..], &[0]].concat();
            prop_assert_eq!(decode(&longer).err(), Some(Malformed::Trailing));
        }
    }
}

#[test]
fn small_messages_are_as_documented() {
    assert_eq!(&prune()[..], [0xaa, 0xa7, 9, 1]);
    assert_eq!(&ping(0x0102)[..], [0xaa, 0xa7, 0x0a, 1, 0, 0, 0, 0, 0, 0, 1, 2]);
    assert_eq!(&ack(1)[..], [0xaa, 0xa7, 0x0b, 1, 0, 0, 0, 0, 0, 0, 0, 1]);
    assert_eq!(&probe(true, NodeId(3))[..], [0xaa, 0xa7, 0x0e, 1, 1, 0, 0, 0, 0, 0, 0, 0, 3]);
    let samples = [Sample { id: NodeId(1), endpoint: "tcp://a:1".to_owned() }];
    let expected = [&[0xaa, 0xa7, 0x0d, 1, 1, 0, 0, 0, 0, 0, 0, 0, 1, 9][..], b"tcp://a:1"].concat();
    assert_eq!(&shuffle(&samples)[..], expected);
    let Ok(Incoming::Shuffle(heard)) = decode(&expected) else { panic!() };
    assert_eq!(heard, samples);
    let bye = bye(2, &samples);
    let Ok(Incoming::Bye { reason: 2, samples: heard }) = decode(&bye) else { panic!() };
    assert_eq!(heard, samples);
    let update = StatusUpdate {
        id: NodeId(1),
        incarnation: Incarnation(200),
        refutation: 3,
        status: MemberStatus::Suspect,
        accuser: NodeId(4),
    };
    let frame = status(&[update]);
    assert_eq!(frame.len(), 4 + 1 + 8 + 2 + 1 + 1 + 8);
    let Ok(Incoming::Status(heard)) = decode(&frame) else { panic!() };
    assert_eq!(heard, [update]);
    let frame = buckets(&[7; 256]);
    let Ok(Incoming::Buckets(sums)) = decode(&frame) else { panic!() };
    assert_eq!(*sums, [7; 256]);
}

#[test]
fn a_small_record_takes_few_octets() {
    let mut writer = RecordsWriter::new(100);
    writer.begin(NodeId(1), Incarnation(1_767_225_600_000), 1, Stamp(1_767_225_600_000_000));
    let head = writer.len();
    for seq in 1..=10 {
        let key = format!("tuple-12-{seq:04}");
        let body = Body::Put(Lifetime::Permanent, b"0123456789");
        let stamp = Stamp(1_767_225_600_000_000 + seq - 1);
        writer.record(&Record { seq, stamp, key: key.as_bytes(), body, beats: smallvec![] });
    }
    // The first has its whole key; the others have flags, two lengths, an octet of the key, a length and the value
    assert_eq!(writer.len() - head, 27 + 9 * 15 + 1);
    writer.end(&Ranges::of(1, 10));
    let frame = writer.finish(true, false);
    assert_eq!(frame.len(), head + 27 + 9 * 15 + 1 + 1, "and one that says that these were seen");
    assert_eq!(head, 5 + 8 + 6 + 1 + 8);
}

#[test]
fn what_is_no_message_has_a_name() {
    assert_eq!(decode(&[]).err(), Some(Malformed::Short));
    assert_eq!(decode(&[0xaa, 0xa0, 1, 1]).err(), Some(Malformed::Signature));
    assert_eq!(decode(&[0xaa, 0xa7, 1, 2]).err(), Some(Malformed::Version(2)));
    assert_eq!(decode(&[0xaa, 0xa7, 0, 1]).err(), Some(Malformed::Unknown(0)));
    assert_eq!(decode(&[0xaa, 0xa7, 9, 1, 0]).err(), Some(Malformed::Trailing));
    // A list of 4097, and one of more entries than octets
    assert_eq!(decode(&[0xaa, 0xa7, 5, 1, 0, 0x81, 0x20]).err(), Some(Malformed::TooMany));
    assert_eq!(decode(&[0xaa, 0xa7, 5, 1, 0, 0xff, 0x1f, 0, 0]).err(), Some(Malformed::Short));
    // Number 0, which no write has; a range that ends beyond all numbers; a status that is none; text that isn't
    let have = |ranges: &[u8]| [&[0xaa, 0xa7, 5, 1, 0, 1, 0, 0, 0, 0, 0, 0, 0, 1, 1][..], ranges].concat();
    assert_eq!(decode(&have(&[1, 0, 0])).err(), Some(Malformed::Number));
    assert_eq!(
        decode(&have(&[1, 1, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1])).err(),
        Some(Malformed::Number)
    );
    assert!(decode(&have(&[1, 1, 0])).is_ok());
    let status = [&[0xaa, 0xa7, 0x0c, 1, 1, 0, 0, 0, 0, 0, 0, 0, 1, 1, 0, 9][..], &[0; 8]].concat();
    assert_eq!(decode(&status).err(), Some(Malformed::Number));
    let shuffle = [0xaa, 0xa7, 0x0d, 1, 1, 0, 0, 0, 0, 0, 0, 0, 1, 1, 0xff];
    assert_eq!(decode(&shuffle).err(), Some(Malformed::Text));
}

#[test]
fn a_record_with_a_long_key_is_refused() {
    let life = [0, 0, 0, 0, 0, 0, 0, 1, 2, 0, 0];
    let records = |record: &[u8]| {
        let frame = [&[0xaa, 0xa7, 7, 1, 0][..], &life, record].concat();
        let Ok(Incoming::Records { mut records, .. }) = decode(&frame) else { panic!() };
        assert_eq!(records.next(), Ok(Some(Item::Life(NodeId(1), Incarnation(1)))));
        records.next().err()
    };
    // The key before has nothing to share
    assert_eq!(records(&[1, 1, 0, 0]), Some(Malformed::Key));
    assert_eq!(records(&[7, 0, 0, 0]), Some(Malformed::Unknown(7)));
    assert_eq!(records(&[1, 0, 1]), Some(Malformed::Short));
    assert_eq!(records(&[1, 0, 1, b'k', 0xff, 0x7f]), Some(Malformed::Short));
    // More beaten than are listed
    assert_eq!(records(&[12, 0, 1, b'k', 5, 0, 1, 0, 1, 0, 1, 0, 1, 0, 1]), Some(Malformed::TooMany));
}

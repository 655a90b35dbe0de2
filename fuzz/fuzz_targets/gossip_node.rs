//! A gossip node under any sequence of messages, losses, writes and time: its books are right after every step, its memory is bounded,
//! and it says nothing that can't be heard.
#![no_main]

use std::time::{Duration, Instant, SystemTime};

use arbitrary::Arbitrary;
use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use tidings_gossip::wire::tidings::{
    self, Body, Digest, Hello, Incoming, LifeEntry, LifeRanges, Live, Mask, Record, RecordsWriter, Sample, StatusUpdate,
};
use tidings_gossip::wire::zgossip;
use tidings_gossip::{
    Identity, Incarnation, Lifetime, LinkId, LinkInfo, MemberStatus, Node, NodeConfig, NodeId, Ranges, Side, Stamp,
    Wire,
};
use tidings_zmtp::Message;

#[derive(Arbitrary, Debug)]
enum Step {
    Up { link: u8, is_server: bool, is_ours: bool, explicit: bool },
    Down(u8),
    Raw { link: u8, frames: Vec<Vec<u8>> },
    Ours { link: u8, number: u8, fields: Vec<u8> },
    Hello { link: u8, id: u8, life: u8, has_yours: bool, wants: bool },
    Digest { link: u8, root: u64, members: u64, clock: u64 },
    Owners { link: u8, entries: Vec<(u8, u8, Vec<(u8, u8)>, u64, u8)> },
    Have { link: u8, is_want: bool, flag: bool, lives: Vec<(u8, u8, Vec<(u8, u8)>)> },
    Records { link: u8, flags: u8, owner: u8, life: u8, records: Vec<(u8, u8, u8, u8, u16)>, seen: Vec<(u8, u8)> },
    Live { link: u8, is_answer: bool, owner: u8, life: u8, seen: Vec<(u8, u8)>, live: Vec<(u8, u8)> },
    Small { link: u8, which: u8, number: u64, about: u8 },
    Status { link: u8, updates: Vec<(u8, u8, u8, u8, u8)> },
    Shuffle { link: u8, samples: Vec<(u8, u8)>, is_bye: bool },
    Publish { link: u8, key: u8, value: u8, ttl: u16 },
    Zgossip { link: u8, id: u8, fields: Vec<u8> },
    Put { key: u8, value: u8, lifetime: u8 },
    Remove(u8),
    Unsent(u8),
    Writable(u8),
    Wait(u16),
    Timeouts(u8),
    Leave,
}

const OWN: Identity = Identity { id: NodeId(1), incarnation: Incarnation(1_000_000) };

fn link(number: u8) -> LinkId {
    LinkId(u64::from(number % 5))
}

/// Few owners, so that they meet; the first is the node itself
fn owner(number: u8) -> NodeId {
    NodeId(u64::from(number % 5) + 1)
}

fn life(number: u8) -> Incarnation {
    match number % 8 {
        7 => Incarnation(u64::MAX),
        other => Incarnation(OWN.incarnation.0 - 2 + u64::from(other)),
    }
}

fn ranges(list: &[(u8, u8)]) -> Ranges {
    let mut ranges = Ranges::new();
    for (first, more) in list.iter().take(20) {
        let first = u64::from(*first) + 1;
        ranges.insert_range(first, first + u64::from(*more));
    }
    ranges
}

fn key(number: u8) -> String {
    match number % 16 {
        15 => format!("$tidings/node/{:016x}", number / 16),
        14 => format!("$tidings/links/{:016x}", number / 16),
        other => format!("key-{other}"),
    }
}

fn lifetime(number: u8) -> Lifetime {
    match number % 4 {
        0 => Lifetime::Session,
        1 => Lifetime::Ttl(Duration::from_secs(u64::from(number))),
        _ => Lifetime::Permanent,
    }
}

fn stamp(number: u16) -> Stamp {
    let base = OWN.incarnation.0 * 1000;
    match number {
        u16::MAX => Stamp(u64::MAX),
        65_534 => Stamp(1 << 62),
        number => Stamp(base + u64::from(number) * 1_000_000),
    }
}

fn frame_of(step: &Step) -> Option<(u8, Bytes)> {
    Some(match step {
        Step::Ours { link, number, fields } => {
            (*link, Bytes::from([&[0xaa, 0xa7, number % 17, 1], &fields[..]].concat()))
        }
        Step::Zgossip { link, id, fields } => (*link, Bytes::from([&[0xaa, 0xa0, id % 7, 1], &fields[..]].concat())),
        Step::Hello { link, id, life: which, has_yours, wants } => {
            let hello = Hello {
                id: owner(*id),
                incarnation: life(*which),
                has_yours: *has_yours,
                name: format!("node-{id}"),
                endpoints: vec![format!("inproc://{id}")],
                digest: Digest { wants_active: *wants, ..Digest::default() },
            };
            (*link, tidings::hello(&hello))
        }
        Step::Digest { link, root, members, clock } => {
            let digest = Digest {
                wants_active: root % 2 == 0,
                root: *root,
                lives: root % 300,
                clock: Stamp(*clock),
                members: *members,
            };
            (*link, tidings::digest(&digest))
        }
        Step::Owners { link, entries } => {
            let entries = entries.iter().take(20).map(|(of, which, seen, hash, count)| LifeEntry {
                owner: owner(*of),
                incarnation: life(*which),
                seen: ranges(seen),
                live_hash: *hash,
                live_count: u64::from(*count),
                age: u64::from(*count) * 10_000,
            });
            (*link, tidings::owners(&Mask::ALL, &entries.collect::<Vec<_>>()))
        }
        Step::Have { link, is_want, flag, lives } => {
            let lives = lives.iter().take(20).map(|(of, which, list)| LifeRanges {
                owner: owner(*of),
                incarnation: life(*which),
                ranges: ranges(list),
            });
            let lives = lives.collect::<Vec<_>>();
            (*link, if *is_want { tidings::want(*flag, &lives) } else { tidings::have(*flag, &lives) })
        }
        Step::Records { link, flags, owner: of, life: which, records, seen } => {
            let mut writer = RecordsWriter::new(100);
            let mut list = records.iter().take(20).collect::<Vec<_>>();
            list.sort_by_key(|record| record.0);
            list.dedup_by_key(|record| record.0);
            let first = list.first().map_or((1, Stamp(1)), |record| (u64::from(record.0) + 1, stamp(record.4)));
            writer.begin(owner(*of), life(*which), first.0, first.1);
            for (seq, of_key, value, how, at) in list {
                let (key, value) = (key(*of_key), vec![*value; usize::from(value % 9)]);
                let body = if how % 5 == 0 { Body::Delete } else { Body::Put(lifetime(*how), &value) };
                let beaten = tidings_gossip::Dot { owner: owner(*how), incarnation: life(*value.first().unwrap_or(&0)), seq: 1 };
                let beats = (how % 3 == 0).then_some(beaten).into_iter().collect();
                writer.record(&Record { seq: u64::from(*seq) + 1, stamp: stamp(*at), key: key.as_bytes(), body, beats });
            }
            writer.end(&ranges(seen));
            (*link, writer.finish(flags % 2 == 1, flags & 2 == 2))
        }
        Step::Live { link, is_answer, owner: of, life: which, seen, live } => {
            let live = Live {
                is_answer: *is_answer,
                owner: owner(*of),
                incarnation: life(*which),
                seen: ranges(seen),
                live: ranges(live),
            };
            (*link, tidings::live(&live))
        }
        Step::Small { link, which, number, about } => {
            let frame = match which % 6 {
                0 => tidings::prune(),
                1 => tidings::ping(*number),
                2 => tidings::ack(*number),
                3 => tidings::probe(false, owner(*about)),
                4 => tidings::probe(true, owner(*about)),
                _ => tidings::buckets(&[*number; 256]),
            };
            (*link, frame)
        }
        Step::Status { link, updates } => {
            let updates = updates.iter().take(20).map(|(id, which, refutation, status, accuser)| StatusUpdate {
                id: owner(*id),
                incarnation: life(*which),
                refutation: if *refutation == 255 { u64::MAX } else { u64::from(*refutation) },
                status: [MemberStatus::Up, MemberStatus::Suspect, MemberStatus::Gone, MemberStatus::Left]
                    [usize::from(status % 4)],
                accuser: owner(*accuser),
            });
            (*link, tidings::status(&updates.collect::<Vec<_>>()))
        }
        Step::Shuffle { link, samples, is_bye } => {
            let samples = samples.iter().take(40).map(|(id, endpoint)| Sample {
                id: owner(*id),
                endpoint: format!("inproc://{endpoint}"),
            });
            let samples = samples.collect::<Vec<_>>();
            (*link, if *is_bye { tidings::bye(1, &samples) } else { tidings::shuffle(&samples) })
        }
        Step::Publish { link, key: of, value, ttl } => {
            let publish = zgossip::ZgossipMessage::Publish {
                key: key(*of).into(),
                value: vec![*value % 4 + 1].into(),
                ttl: u32::from(*ttl),
            };
            (*link, zgossip::encode(&publish).ok()?)
        }
        _ => return None,
    })
}

fuzz_target!(|steps: Vec<Step>| {
    let start = Instant::now();
    let mut now = start;
    let mut config = NodeConfig {
        tombstone_time: Duration::from_secs(20),
        context_time: Duration::from_secs(200),
        forget_after: Duration::from_secs(60),
        max_events: 50,
        overlay: steps.len() % 2 == 0,
        max_links: 3,
        ..NodeConfig::default()
    };
    config.quotas.max_tuples = 40;
    config.quotas.max_octets = 2000;
    config.quotas.max_tuples_per_owner = 15;
    config.quotas.max_octets_per_owner = 400;
    config.quotas.max_value = 8;
    config.quotas.max_owners = 12;
    let wall = SystemTime::UNIX_EPOCH + Duration::from_millis(OWN.incarnation.0);
    let mut node = Node::new(config, OWN, 7, now, wall);
    let mut up = [None; 5];
    let mut last: Option<(LinkId, Bytes)> = None;
    for step in steps.into_iter().take(200) {
        if let Some((from, frame)) = frame_of(&step) {
            node.handle_message(now, link(from), Message::from(frame));
        }
        // What another link of that number didn't take is not this one's
        if let Step::Up { link: number, .. } | Step::Down(number) = step {
            last = last.filter(|(of, _)| *of != link(number));
        }
        match step {
            Step::Up { link: number, is_server, is_ours, explicit } => {
                let wire = if is_ours { Wire::Tidings } else { Wire::ZGossip };
                let side = if is_server { Side::Server } else { Side::Remote };
                let endpoint = format!("inproc://{number}");
                node.handle_link_up(now, link(number), LinkInfo { side, wire, endpoint, key: None, explicit, is_leaf: number >= 200 });
                up[usize::from(number % 5)] = Some(wire);
            }
            Step::Down(number) => {
                node.handle_link_down(now, link(number), "it ended");
                up[usize::from(number % 5)] = None;
            }
            Step::Raw { link: number, frames } => {
                node.handle_message(now, link(number), Message::multipart(frames.into_iter().take(3)));
            }
            Step::Put { key: of, value, lifetime: how } => {
                let _ = node.put(now, key(of), vec![value; usize::from(value % 9)], lifetime(how));
            }
            Step::Remove(of) => {
                let _ = node.remove(now, key(of).as_bytes());
            }
            Step::Unsent(_) => {
                if let Some((link, frame)) = last.take() {
                    node.handle_unsent(now, link, frame);
                }
            }
            Step::Writable(number) => node.handle_writable(now, link(number)),
            Step::Wait(millis) => {
                now += Duration::from_millis(millis.into());
                node.handle_timeout(now);
            }
            Step::Timeouts(count) => {
                for _ in 0..count % 32 {
                    let Some(next) = node.poll_timeout() else { break };
                    now = now.max(next);
                    node.handle_timeout(now);
                }
            }
            Step::Leave => node.leave(now),
            _ => {}
        }
        let mut sent = 0;
        while let Some(transmit) = node.poll_transmit() {
            sent += 1;
            assert!(sent < 1000, "a turn comes to no end");
            let wire = up[transmit.link.0 as usize].expect("to a link that is up");
            match wire {
                Wire::Tidings => match tidings::decode(&transmit.frame).expect("what is said is heard") {
                    Incoming::Records { mut records, .. } => while records.next().expect("records, too").is_some() {},
                    _ => {}
                },
                Wire::ZGossip => {
                    zgossip::decode(&Message::from(transmit.frame.clone())).expect("as a CZMQ node would");
                }
            }
            last = Some((transmit.link, transmit.frame));
        }
        while node.poll_action().is_some() {}
        while node.poll_event().is_some() {}
        if let Err(wrong) = node.check() {
            panic!("{wrong}");
        }
        let stats = node.stats();
        assert!(stats.tuples <= 40 && stats.owners <= 12 && stats.tombstones <= 17, "{stats:?}");
        assert!(now.duration_since(start) < Duration::from_secs(100 * 366 * 24 * 3600));
    }
});

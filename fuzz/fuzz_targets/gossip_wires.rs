//! Messages of both gossip wires: what is understood leads back to itself, and no length is believed.
#![no_main]

use arbitrary::Arbitrary;
use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use tidings_gossip::wire::tidings::{self, Body, Hello, Incoming, Item, LifeRanges, RecordsWriter};
use tidings_gossip::wire::zgossip::{self, ZgossipMessage};
use tidings_gossip::{Ranges, Stamp};
use tidings_zmtp::Message;

#[derive(Arbitrary, Debug)]
enum Input {
    /// Frames of anything
    Any(Vec<Vec<u8>>),
    /// A message of ours by its number, with fields of anything
    Ours { number: u8, fields: Vec<u8> },
    /// The same for ZGP
    Zgossip { id: u8, fields: Vec<u8> },
}

fuzz_target!(|input: Input| {
    let frames = match input {
        Input::Any(frames) => frames.into_iter().take(4).collect::<Vec<_>>(),
        Input::Ours { number, fields } => vec![[&[0xaa, 0xa7, number % 17, 1], &fields[..]].concat()],
        Input::Zgossip { id, fields } => vec![[&[0xaa, 0xa0, id % 7, 1], &fields[..]].concat()],
    };
    let message = Message::multipart(frames.iter().cloned().map(Bytes::from));
    if let Ok(heard) = zgossip::decode(&message) {
        let again = zgossip::encode(&heard);
        if let Ok(again) = again {
            assert_eq!(zgossip::decode(&Message::from(again)), Ok(heard));
        } else {
            assert!(matches!(heard, ZgossipMessage::Publish { .. }), "all else can be said");
        }
    }
    let Some(frame) = frames.first() else { return };
    let Ok(incoming) = tidings::decode(frame) else { return };
    let again = match &incoming {
        Incoming::Hello(hello) => tidings::hello(hello),
        Incoming::Digest(digest) => tidings::digest(digest),
        Incoming::Buckets(sums) => tidings::buckets(sums),
        Incoming::Owners { mask, entries } => tidings::owners(mask, entries),
        Incoming::Have { is_late, lives } => tidings::have(*is_late, lives),
        Incoming::Want { graft, lives } => tidings::want(*graft, lives),
        Incoming::Records { is_pushed, has_more, records } => {
            let mut reader = records.clone();
            let mut writer = RecordsWriter::new(frame.len());
            let (mut life, mut has_begun, mut octets) = (None, false, 0);
            loop {
                match reader.next() {
                    Ok(Some(Item::Life(owner, incarnation))) => (life, has_begun) = (Some((owner, incarnation)), false),
                    Ok(Some(Item::Record(record))) => {
                        let Some((owner, incarnation)) = life else { panic!("a record of nobody") };
                        if !has_begun {
                            writer.begin(owner, incarnation, record.seq, record.stamp);
                            has_begun = true;
                        }
                        assert!(record.key.len() <= 255 && record.beats.len() <= 4);
                        octets += record.beats.len();
                        if let Body::Put(_, value) = record.body {
                            octets += value.len();
                        }
                        writer.record(&record);
                    }
                    Ok(Some(Item::Seen(seen))) => {
                        let Some((owner, incarnation)) = life else { panic!("nobody's life ends") };
                        if !has_begun {
                            writer.begin(owner, incarnation, 1, Stamp(1));
                        }
                        writer.end(&seen);
                        life = None;
                    }
                    Ok(None) => break,
                    Err(_) => return,
                }
            }
            assert!(octets <= frame.len(), "more than came");
            writer.finish(*is_pushed, *has_more)
        }
        Incoming::Live(live) => tidings::live(live),
        Incoming::Prune => tidings::prune(),
        Incoming::Ping(nonce) => tidings::ping(*nonce),
        Incoming::Ack(nonce) => tidings::ack(*nonce),
        Incoming::Status(updates) => tidings::status(updates),
        Incoming::Shuffle(samples) => tidings::shuffle(samples),
        Incoming::Probe { is_vouched, about } => tidings::probe(*is_vouched, *about),
        Incoming::Bye { reason, samples } => tidings::bye(*reason, samples),
    };
    let heard = tidings::decode(&again).expect("what is said is heard");
    assert_eq!(shown(&heard), shown(&incoming));
});

/// What a message says, to compare it
fn shown(incoming: &Incoming<'_>) -> String {
    match incoming {
        Incoming::Records { is_pushed, has_more, records } => {
            let (mut reader, mut said) = (records.clone(), format!("{is_pushed} {has_more}"));
            while let Ok(Some(item)) = reader.next() {
                said += &format!("{item:?}");
            }
            said
        }
        // A name of more octets than may be said is cut
        Incoming::Hello(Hello { id, incarnation, has_yours, name, endpoints, digest }) => {
            format!("{id} {incarnation:?} {has_yours} {name} {endpoints:?} {digest:?}")
        }
        Incoming::Have { lives, .. } | Incoming::Want { lives, .. } => {
            assert!(lives.iter().all(|LifeRanges { ranges, .. }| ranges.without(&Ranges::of(1, 1 << 52)).is_empty()));
            format!("{incoming:?}")
        }
        other => format!("{other:?}"),
    }
}

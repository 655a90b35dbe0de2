//! Our own wire, which nodes speak that know each other by the property `X-Gossip: tidings/1`.
//!
//! Each message is one frame: `AA A7`, its number, the version (1), its fields. Numbers are varints (LEB128) unless a width is
//! given; octets of a width come with the most significant first. `str1` is a length of one octet and UTF-8.
//!
//! | | Message | Fields |
//! |---|---|---|
//! | 01 | HELLO | id(8) incarnation flags(1: 1 wants the link active, 2 has the peer's HELLO) name(str1), count, endpoints(str1), DIGEST's fields |
//! | 02 | DIGEST | flags(1: 1 wants the link active) root(8) lives clock members-root(8) |
//! | 03 | BUCKETS | 256 sums(8) |
//! | 04 | OWNERS | mask(32), count, entries: owner(8) incarnation ranges hash(8) count age |
//! | 05 | HAVE | flags(1: 1 told late, over a link that gets no pushes), count, lives: owner(8) incarnation ranges |
//! | 06 | WANT | flags(1: 1 graft), count, lives |
//! | 07 | RECORDS | flags(1: 1 pushed, 2 there is more), groups until the end (see [`records`]) |
//! | 08 | LIVE | flags(1: 1 answer) owner(8) incarnation, ranges that were seen, ranges of these that live |
//! | 09 | PRUNE | |
//! | 0a, 0b | PING, ACK | nonce(8) |
//! | 0c | STATUS | count, of each: id(8) incarnation refutation status(1) accuser(8) |
//! | 0d | SHUFFLE | count, of each: id(8) endpoint(str1) |
//! | 0e | PROBE | flags(1: 1 vouched for) id(8) |
//! | 0f | BYE | reason(1), count, samples as in SHUFFLE |
//!
//! Ranges: their count, then of each how far it begins behind the end of the one before, less 2 (of the first: where it begins), and its
//! length less 1.

use bytes::{BufMut, Bytes, BytesMut};

use super::Malformed;
use super::octets::{Reader, put_string, put_varint};
use crate::context::Ranges;
use crate::event::MemberStatus;
use crate::record::{Incarnation, NodeId, Stamp};

pub mod records;
pub use records::{Body, Item, Record, RecordsReader, RecordsWriter};

/// What is believed of a member, as nodes tell each other
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StatusUpdate {
    /// Of whom
    pub id: NodeId,
    /// In which of its lives
    pub incarnation: Incarnation,
    /// How often it has contradicted in that life
    pub refutation: u64,
    /// What; never `Forgotten`
    pub status: MemberStatus,
    /// Who was the first to say so
    pub accuser: NodeId,
}

/// A node that somebody could connect to
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sample {
    /// Who
    pub id: NodeId,
    /// Where
    pub endpoint: String,
}

/// What a node says of all that it knows
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Digest {
    /// Whether it wants the link to be active
    pub wants_active: bool,
    /// Equal where the same is known
    pub root: u64,
    /// Of how many lives it knows something
    pub lives: u64,
    /// The greatest stamp that it has seen
    pub clock: Stamp,
    /// Equal where the same is believed of members
    pub members: u64,
}

/// The first message of each end
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hello {
    /// Who
    pub id: NodeId,
    /// In which life
    pub incarnation: Incarnation,
    /// Whether the sender has the other end's HELLO
    pub has_yours: bool,
    /// What people call it
    pub name: String,
    /// Where it may be connected to
    pub endpoints: Vec<String>,
    /// What it knows
    pub digest: Digest,
}

/// What a node knows of one life
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LifeEntry {
    /// Whose
    pub owner: NodeId,
    /// Which
    pub incarnation: Incarnation,
    /// Which of its writes have been seen
    pub seen: Ranges,
    /// Sum over those that live, without those with a TTL and deletions
    pub live_hash: u64,
    /// How many these are
    pub live_count: u64,
    /// How long ago its last write was made, in seconds
    pub age: u64,
}

/// Some writes of one life
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LifeRanges {
    /// Whose
    pub owner: NodeId,
    /// Which life
    pub incarnation: Incarnation,
    /// Which writes
    pub ranges: Ranges,
}

/// Which of a life's writes still live
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Live {
    /// Whether it answers another LIVE
    pub is_answer: bool,
    /// Whose
    pub owner: NodeId,
    /// Which life
    pub incarnation: Incarnation,
    /// The writes that are spoken of: the sender has seen them
    pub seen: Ranges,
    /// Those of them that live; deletions and writes with a TTL are not spoken of
    pub live: Ranges,
}

/// A message, as it is read
#[derive(Clone, Debug)]
#[expect(missing_docs, reason = "the fields are in the table above")]
pub enum Incoming<'a> {
    Hello(Hello),
    Digest(Digest),
    Buckets(Box<[u64; 256]>),
    Owners { mask: Mask, entries: Vec<LifeEntry> },
    Have { is_late: bool, lives: Vec<LifeRanges> },
    Want { graft: bool, lives: Vec<LifeRanges> },
    Records { is_pushed: bool, has_more: bool, records: RecordsReader<'a> },
    Live(Live),
    Prune,
    Ping(u64),
    Ack(u64),
    Status(Vec<StatusUpdate>),
    Shuffle(Vec<Sample>),
    Probe { is_vouched: bool, about: NodeId },
    Bye { reason: u8, samples: Vec<Sample> },
}

/// Which of the 256 buckets are spoken of
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mask(pub [u8; 32]);

impl Mask {
    /// All of them
    pub const ALL: Self = Self([0xff; 32]);

    /// None of them
    pub const NONE: Self = Self([0; 32]);

    /// Whether this one is
    #[must_use]
    pub fn has(&self, bucket: u8) -> bool {
        self.0.get(usize::from(bucket / 8)).is_some_and(|octet| octet & (1 << (bucket % 8)) != 0)
    }

    /// Adds this one
    pub fn add(&mut self, bucket: u8) {
        if let Some(octet) = self.0.get_mut(usize::from(bucket / 8)) {
            *octet |= 1 << (bucket % 8);
        }
    }
}

/// Reads a message
///
/// # Errors
/// It is none, or holds what can't be. What a RECORDS holds is looked at when it is read.
pub fn decode(frame: &[u8]) -> Result<Incoming<'_>, Malformed> {
    let mut reader = Reader::new(frame);
    if reader.take(2)? != SIGNATURE {
        return Err(Malformed::Signature);
    }
    let (number, version) = (reader.octet()?, reader.octet()?);
    if version != VERSION {
        return Err(Malformed::Version(version));
    }
    let message = match number {
        HELLO => Incoming::Hello(read_hello(&mut reader)?),
        DIGEST => Incoming::Digest(read_digest(&mut reader)?),
        BUCKETS => {
            let mut sums = Box::new([0; 256]);
            for sum in sums.iter_mut() {
                *sum = reader.number8()?;
            }
            Incoming::Buckets(sums)
        }
        OWNERS => {
            let mask = reader.take(32)?.first_chunk().copied().unwrap_or_default();
            Incoming::Owners { mask: Mask(mask), entries: read_list(&mut reader, 20, MOST_LIVES, read_entry)? }
        }
        HAVE => {
            let is_late = reader.octet()? & 1 != 0;
            Incoming::Have { is_late, lives: read_list(&mut reader, 10, MOST_LIVES, read_life_ranges)? }
        }
        WANT => {
            let graft = reader.octet()? & 1 != 0;
            Incoming::Want { graft, lives: read_list(&mut reader, 10, MOST_LIVES, read_life_ranges)? }
        }
        RECORDS => {
            let flags = reader.octet()?;
            let records = RecordsReader::new(reader);
            return Ok(Incoming::Records { is_pushed: flags & PUSHED != 0, has_more: flags & MORE != 0, records });
        }
        LIVE => {
            let is_answer = reader.octet()? & 1 != 0;
            let (owner, incarnation) = read_life(&mut reader)?;
            let (seen, live) = (read_ranges(&mut reader, MOST_RANGES)?, read_ranges(&mut reader, MOST_LIVE_RANGES)?);
            Incoming::Live(Live { is_answer, owner, incarnation, seen, live })
        }
        PRUNE => Incoming::Prune,
        PING => Incoming::Ping(reader.number8()?),
        ACK => Incoming::Ack(reader.number8()?),
        STATUS => Incoming::Status(read_list(&mut reader, 19, MOST_UPDATES, read_update)?),
        SHUFFLE => Incoming::Shuffle(read_list(&mut reader, 9, MOST_SAMPLES, read_sample)?),
        PROBE => {
            let is_vouched = reader.octet()? & 1 != 0;
            Incoming::Probe { is_vouched, about: NodeId(reader.number8()?) }
        }
        BYE => {
            let reason = reader.octet()?;
            Incoming::Bye { reason, samples: read_list(&mut reader, 9, MOST_SAMPLES, read_sample)? }
        }
        other => return Err(Malformed::Unknown(other)),
    };
    if reader.is_empty() { Ok(message) } else { Err(Malformed::Trailing) }
}

/// HELLO's octets
#[must_use]
pub fn hello(hello: &Hello) -> Bytes {
    let mut out = begin(HELLO, 64 + hello.name.len() + hello.endpoints.iter().map(String::len).sum::<usize>());
    out.put_u64(hello.id.0);
    put_varint(&mut out, hello.incarnation.0);
    out.put_u8(u8::from(hello.digest.wants_active) | u8::from(hello.has_yours) << 1);
    put_string(&mut out, &hello.name);
    let endpoints = hello.endpoints.iter().take(MOST_ENDPOINTS);
    put_varint(&mut out, endpoints.len() as u64);
    for endpoint in endpoints {
        put_string(&mut out, endpoint);
    }
    put_digest(&mut out, &hello.digest);
    out.freeze()
}

/// DIGEST's octets
#[must_use]
pub fn digest(digest: &Digest) -> Bytes {
    let mut out = begin(DIGEST, 40);
    put_digest(&mut out, digest);
    out.freeze()
}

/// BUCKETS' octets
#[must_use]
pub fn buckets(sums: &[u64; 256]) -> Bytes {
    let mut out = begin(BUCKETS, 256 * 8);
    for sum in sums {
        out.put_u64(*sum);
    }
    out.freeze()
}

/// OWNERS' octets
#[must_use]
pub fn owners(mask: &Mask, entries: &[LifeEntry]) -> Bytes {
    let entries = entries.get(..MOST_LIVES).unwrap_or(entries);
    let mut out = begin(OWNERS, 40 + entries.len() * 32);
    out.put_slice(&mask.0);
    put_varint(&mut out, entries.len() as u64);
    for entry in entries {
        out.put_u64(entry.owner.0);
        put_varint(&mut out, entry.incarnation.0);
        put_ranges(&mut out, &entry.seen, MOST_RANGES);
        out.put_u64(entry.live_hash);
        put_varint(&mut out, entry.live_count);
        put_varint(&mut out, entry.age);
    }
    out.freeze()
}

/// HAVE's octets
#[must_use]
pub fn have(is_late: bool, lives: &[LifeRanges]) -> Bytes {
    life_ranges(HAVE, is_late, lives)
}

/// WANT's octets
#[must_use]
pub fn want(graft: bool, lives: &[LifeRanges]) -> Bytes {
    life_ranges(WANT, graft, lives)
}

/// LIVE's octets
#[must_use]
pub fn live(live: &Live) -> Bytes {
    let mut out = begin(LIVE, 40 + live.live.range_count() * 4);
    out.put_u8(live.is_answer.into());
    out.put_u64(live.owner.0);
    put_varint(&mut out, live.incarnation.0);
    put_ranges(&mut out, &live.seen, MOST_RANGES);
    put_ranges(&mut out, &live.live, MOST_LIVE_RANGES);
    out.freeze()
}

/// PRUNE's octets
#[must_use]
pub fn prune() -> Bytes {
    begin(PRUNE, 0).freeze()
}

/// PING's octets
#[must_use]
pub fn ping(nonce: u64) -> Bytes {
    let mut out = begin(PING, 8);
    out.put_u64(nonce);
    out.freeze()
}

/// ACK's octets
#[must_use]
pub fn ack(nonce: u64) -> Bytes {
    let mut out = begin(ACK, 8);
    out.put_u64(nonce);
    out.freeze()
}

/// STATUS' octets; of more updates than [`MOST_UPDATES`] the first
#[must_use]
pub fn status(updates: &[StatusUpdate]) -> Bytes {
    let updates = updates.get(..MOST_UPDATES).unwrap_or(updates);
    let mut out = begin(STATUS, 4 + updates.len() * 26);
    put_varint(&mut out, updates.len() as u64);
    for update in updates {
        out.put_u64(update.id.0);
        put_varint(&mut out, update.incarnation.0);
        put_varint(&mut out, update.refutation);
        out.put_u8(match update.status {
            MemberStatus::Up => 0,
            MemberStatus::Suspect => 1,
            MemberStatus::Gone | MemberStatus::Forgotten => 2,
            MemberStatus::Left => 3,
        });
        out.put_u64(update.accuser.0);
    }
    out.freeze()
}

/// SHUFFLE's octets
#[must_use]
pub fn shuffle(samples: &[Sample]) -> Bytes {
    let mut out = begin(SHUFFLE, samples.len() * 40);
    put_samples(&mut out, samples);
    out.freeze()
}

/// PROBE's octets
#[must_use]
pub fn probe(is_vouched: bool, about: NodeId) -> Bytes {
    let mut out = begin(PROBE, 9);
    out.put_u8(is_vouched.into());
    out.put_u64(about.0);
    out.freeze()
}

/// BYE's octets
#[must_use]
pub fn bye(reason: u8, samples: &[Sample]) -> Bytes {
    let mut out = begin(BYE, 4 + samples.len() * 40);
    out.put_u8(reason);
    put_samples(&mut out, samples);
    out.freeze()
}

fn begin(number: u8, room: usize) -> BytesMut {
    let mut out = BytesMut::with_capacity(4 + room);
    out.put_slice(&SIGNATURE);
    out.put_u8(number);
    out.put_u8(VERSION);
    out
}

fn put_digest(out: &mut BytesMut, digest: &Digest) {
    out.put_u8(digest.wants_active.into());
    out.put_u64(digest.root);
    put_varint(out, digest.lives);
    put_varint(out, digest.clock.0);
    out.put_u64(digest.members);
}

/// The first ranges, up to as many as may be read; what isn't said of the others is found later
fn put_ranges(out: &mut BytesMut, ranges: &Ranges, most: usize) {
    put_varint(out, ranges.range_count().min(most) as u64);
    let mut below: Option<u64> = None;
    for (first, last) in ranges.iter().take(most) {
        put_varint(out, below.map_or(first, |end| first.saturating_sub(end.saturating_add(2))));
        put_varint(out, last - first);
        below = Some(last);
    }
}

fn life_ranges(number: u8, flag: bool, lives: &[LifeRanges]) -> Bytes {
    let lives = lives.get(..MOST_LIVES).unwrap_or(lives);
    let mut out = begin(number, 4 + lives.len() * 20);
    out.put_u8(flag.into());
    put_varint(&mut out, lives.len() as u64);
    for life in lives {
        out.put_u64(life.owner.0);
        put_varint(&mut out, life.incarnation.0);
        put_ranges(&mut out, &life.ranges, MOST_RANGES);
    }
    out.freeze()
}

fn put_samples(out: &mut BytesMut, samples: &[Sample]) {
    let samples = samples.get(..MOST_SAMPLES).unwrap_or(samples);
    put_varint(out, samples.len() as u64);
    for sample in samples {
        out.put_u64(sample.id.0);
        put_string(out, &sample.endpoint);
    }
}

fn read_list<'a, T>(
    reader: &mut Reader<'a>,
    least: usize,
    most: usize,
    read: impl Fn(&mut Reader<'a>) -> Result<T, Malformed>,
) -> Result<Vec<T>, Malformed> {
    let count = reader.count(least, most)?;
    (0..count).map(|_| read(reader)).collect()
}

fn read_life(reader: &mut Reader<'_>) -> Result<(NodeId, Incarnation), Malformed> {
    Ok((NodeId(reader.number8()?), Incarnation(reader.varint()?)))
}

/// Ranges of numbers from 1 on
fn read_ranges(reader: &mut Reader<'_>, most: usize) -> Result<Ranges, Malformed> {
    let count = reader.count(2, most)?;
    let mut ranges = Ranges::new();
    for at in 0..count {
        let gap = reader.varint()?;
        let first =
            if at == 0 { Some(gap) } else { ranges.greatest().checked_add(2).and_then(|next| next.checked_add(gap)) };
        let first = first.filter(|first| *first > 0).ok_or(Malformed::Number)?;
        let last = first.checked_add(reader.varint()?).ok_or(Malformed::Number)?;
        if last > GREATEST_SEQ || !ranges.push(first, last) {
            return Err(Malformed::Number);
        }
    }
    Ok(ranges)
}

fn read_hello(reader: &mut Reader<'_>) -> Result<Hello, Malformed> {
    let (id, incarnation) = read_life(reader)?;
    let flags = reader.octet()?;
    let name = reader.string()?;
    let endpoints = read_list(reader, 1, MOST_ENDPOINTS, Reader::string)?;
    let mut digest = read_digest(reader)?;
    digest.wants_active = flags & 1 != 0;
    Ok(Hello { id, incarnation, has_yours: flags & 2 != 0, name, endpoints, digest })
}

fn read_digest(reader: &mut Reader<'_>) -> Result<Digest, Malformed> {
    let wants_active = reader.octet()? & 1 != 0;
    let (root, lives, clock) = (reader.number8()?, reader.varint()?, Stamp(reader.varint()?));
    Ok(Digest { wants_active, root, lives, clock, members: reader.number8()? })
}

fn read_entry(reader: &mut Reader<'_>) -> Result<LifeEntry, Malformed> {
    let (owner, incarnation) = read_life(reader)?;
    let seen = read_ranges(reader, MOST_RANGES)?;
    let (live_hash, live_count, age) = (reader.number8()?, reader.varint()?, reader.varint()?);
    Ok(LifeEntry { owner, incarnation, seen, live_hash, live_count, age })
}

fn read_life_ranges(reader: &mut Reader<'_>) -> Result<LifeRanges, Malformed> {
    let (owner, incarnation) = read_life(reader)?;
    Ok(LifeRanges { owner, incarnation, ranges: read_ranges(reader, MOST_RANGES)? })
}

fn read_update(reader: &mut Reader<'_>) -> Result<StatusUpdate, Malformed> {
    let (id, incarnation) = read_life(reader)?;
    let refutation = reader.varint()?;
    let status = match reader.octet()? {
        0 => MemberStatus::Up,
        1 => MemberStatus::Suspect,
        2 => MemberStatus::Gone,
        3 => MemberStatus::Left,
        _ => return Err(Malformed::Number),
    };
    Ok(StatusUpdate { id, incarnation, refutation, status, accuser: NodeId(reader.number8()?) })
}

fn read_sample(reader: &mut Reader<'_>) -> Result<Sample, Malformed> {
    Ok(Sample { id: NodeId(reader.number8()?), endpoint: reader.string()? })
}

const SIGNATURE: [u8; 2] = [0xaa, 0xa7];
const VERSION: u8 = 1;
const PUSHED: u8 = 1;
const MORE: u8 = 2;

const HELLO: u8 = 0x01;
const DIGEST: u8 = 0x02;
const BUCKETS: u8 = 0x03;
const OWNERS: u8 = 0x04;
const HAVE: u8 = 0x05;
const WANT: u8 = 0x06;
const RECORDS: u8 = 0x07;
const LIVE: u8 = 0x08;
const PRUNE: u8 = 0x09;
const PING: u8 = 0x0a;
const ACK: u8 = 0x0b;
const STATUS: u8 = 0x0c;
const SHUFFLE: u8 = 0x0d;
const PROBE: u8 = 0x0e;
const BYE: u8 = 0x0f;

/// No life has more writes: one a microsecond for 100 years
const GREATEST_SEQ: u64 = 1 << 52;
/// Ranges of one life in a message, which are as many as a context has
const MOST_RANGES: usize = 128;
/// Ranges of a LIVE
pub(crate) const MOST_LIVE_RANGES: usize = 4096;
/// Lives in one message
pub(crate) const MOST_LIVES: usize = 4096;
/// Addresses that a node tells of itself
pub(crate) const MOST_ENDPOINTS: usize = 16;
/// Updates in one STATUS
pub const MOST_UPDATES: usize = 4096;
/// Samples in one SHUFFLE or BYE
pub const MOST_SAMPLES: usize = 64;

#[cfg(test)]
mod tests;

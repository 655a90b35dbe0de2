//! RECORDS: writes with their contents, and which others the sender knows to be dead.
//!
//! After the flags come groups until the frame ends, one for each life: owner(8) incarnation first-seq stamp, records, 00, ranges. The ranges are
//! writes of that life that the sender has seen; those of them that are not among the records are dead. Where they are just
//! the records, 40 stands for 00 and ranges. Incarnation and stamp are differences in zigzag to the incarnation of the group before and to the last
//! stamp; in the first group to 0.
//!
//! A record: flags(1) \[seq\] \[stamp\] shared(1) rest(1), rest of the key, \[ttl\] \[value\] \[beats\]. Of the flags, bits 0 to 2 say what
//! it is (1 permanent, 2 with a TTL, 3 session, 4 deletion); 8: it lists what it has beaten; 16: a seq is given, as the difference to
//! the one before less 1, which else is 0; 32: a stamp is given, as the difference to the one before less 1 in zigzag, which
//! else is 0. `shared` octets of the key are those of the key before. A TTL is what remains, in milliseconds. The first record has no
//! seq and stamp of its own but by difference to the group's, which are less by 1 each.

use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use smallvec::SmallVec;

use super::{GREATEST_SEQ, MORE, MOST_RANGES, Malformed, PUSHED, RECORDS, begin, put_ranges, read_life, read_ranges};
use crate::context::Ranges;
use crate::record::{Dot, Incarnation, Lifetime, NodeId, Stamp};
use crate::wire::octets::{Reader, put_sized, put_varint, unzigzag, zigzag};

/// What a write does
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Body<'a> {
    /// Gives a value; of a `Ttl` what remains
    Put(Lifetime, &'a [u8]),
    /// Takes the value away
    Delete,
}

/// A write
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record<'a> {
    /// Its number
    pub seq: u64,
    /// Its order
    pub stamp: Stamp,
    /// Up to 255 octets
    pub key: &'a [u8],
    /// What it does
    pub body: Body<'a>,
    /// Writes to that key that it has put an end to, as far as its owner knew
    pub beats: SmallVec<[Dot; 1]>,
}

/// What a RECORDS holds next
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Item<'a> {
    /// Records of this life follow
    Life(NodeId, Incarnation),
    /// One of them
    Record(Record<'a>),
    /// These of that life's writes were seen; those that weren't among the records are dead
    Seen(Ranges),
}

/// Reads what a RECORDS holds, one by one
#[derive(Clone, Debug)]
pub struct RecordsReader<'a> {
    reader: Reader<'a>,
    group: Option<Group>,
    before: Before,
}

#[derive(Clone, Debug)]
struct Group {
    life: (NodeId, Incarnation),
    seq: u64,
    records: Ranges,
}

/// What the next thing is told by its difference to
#[derive(Clone, Debug, Default)]
struct Before {
    incarnation: u64,
    stamp: u64,
    key: Vec<u8>,
}

impl<'a> RecordsReader<'a> {
    pub(super) fn new(reader: Reader<'a>) -> Self {
        Self { reader, group: None, before: Before::default() }
    }

    /// The next thing; `None` at the end
    ///
    /// # Errors
    /// What follows can't be read. What was given before was right.
    #[expect(clippy::should_implement_trait, reason = "a record lends its key from here")]
    pub fn next(&mut self) -> Result<Option<Item<'_>>, Malformed> {
        let Some(group) = &mut self.group else {
            if self.reader.is_empty() {
                return Ok(None);
            }
            let (reader, before) = (&mut self.reader, &mut self.before);
            let owner = NodeId(reader.number8()?);
            before.incarnation = before.incarnation.wrapping_add_signed(unzigzag(reader.varint()?));
            let life = (owner, Incarnation(before.incarnation));
            let seq = reader.varint()?;
            before.stamp = before.stamp.wrapping_add_signed(unzigzag(reader.varint()?));
            self.group = Some(Group { life, seq, records: Ranges::new() });
            return Ok(Some(Item::Life(life.0, life.1)));
        };
        let flags = self.reader.octet()?;
        if flags == END || flags == END_PLAIN {
            let records = std::mem::take(&mut group.records);
            self.group = None;
            let seen = if flags == END { read_ranges(&mut self.reader, MOST_RANGES)? } else { records };
            return Ok(Some(Item::Seen(seen)));
        }
        let skipped = if flags & HAS_SEQ != 0 { self.reader.varint()? } else { 0 };
        let seq = group.seq.checked_add(1).and_then(|next| next.checked_add(skipped));
        let seq = seq.filter(|seq| *seq <= GREATEST_SEQ).ok_or(Malformed::Number)?;
        let later = if flags & HAS_STAMP != 0 { unzigzag(self.reader.varint()?) } else { 0 };
        let stamp = self.before.stamp.wrapping_add(1).wrapping_add_signed(later);
        (group.seq, self.before.stamp) = (seq, stamp);
        group.records.insert(seq);
        let life = group.life;
        let (shared, rest) = (usize::from(self.reader.octet()?), usize::from(self.reader.octet()?));
        let key = &mut self.before.key;
        if shared > key.len() || shared + rest > MOST_KEY {
            return Err(Malformed::Key);
        }
        let rest = self.reader.take(rest)?;
        key.truncate(shared);
        key.extend_from_slice(rest);
        let body = match flags & KIND {
            PERMANENT => Body::Put(Lifetime::Permanent, self.reader.sized()?),
            WITH_TTL => {
                let remains = Duration::from_millis(self.reader.varint()?.min(MOST_TTL));
                Body::Put(Lifetime::Ttl(remains), self.reader.sized()?)
            }
            SESSION => Body::Put(Lifetime::Session, self.reader.sized()?),
            DELETION => Body::Delete,
            other => return Err(Malformed::Unknown(other)),
        };
        let mut beats = SmallVec::new();
        if flags & HAS_BEATS != 0 {
            for _ in 0..self.reader.count(2, MOST_BEATS)? {
                let (owner, incarnation) = match self.reader.octet()? {
                    0 => life,
                    _ => read_life(&mut self.reader)?,
                };
                let seq = self.reader.varint()?;
                if seq == 0 || seq > GREATEST_SEQ {
                    return Err(Malformed::Number);
                }
                beats.push(Dot { owner, incarnation, seq });
            }
        }
        Ok(Some(Item::Record(Record { seq, stamp: Stamp(stamp), key: &self.before.key, body, beats })))
    }
}

/// Writes a RECORDS
#[derive(Debug)]
pub struct RecordsWriter {
    out: BytesMut,
    group: Option<Group>,
    before: Before,
}

impl RecordsWriter {
    /// With room for about `room` octets
    #[must_use]
    pub fn new(room: usize) -> Self {
        let mut out = begin(RECORDS, room);
        out.put_u8(0);
        Self { out, group: None, before: Before::default() }
    }

    /// How many octets it has now
    #[must_use]
    pub fn len(&self) -> usize {
        self.out.len()
    }

    /// Whether nothing was written
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.out.len() <= HEADER
    }

    /// A life begins; `first` and `stamp` are of the first record that will follow
    pub fn begin(&mut self, owner: NodeId, incarnation: Incarnation, first: u64, stamp: Stamp) {
        let (seq, stamp) = (first.saturating_sub(1), stamp.0.saturating_sub(1));
        let before = &mut self.before;
        let difference = |number: u64, before: u64| zigzag(number.wrapping_sub(before) as i64);
        self.out.put_u64(owner.0);
        put_varint(&mut self.out, difference(incarnation.0, before.incarnation));
        put_varint(&mut self.out, seq);
        put_varint(&mut self.out, difference(stamp, before.stamp));
        (before.incarnation, before.stamp) = (incarnation.0, stamp);
        self.group = Some(Group { life: (owner, incarnation), seq, records: Ranges::new() });
    }

    /// One record of it, of a greater number than the one before
    pub fn record(&mut self, record: &Record<'_>) {
        let Some(group) = &mut self.group else { return };
        let skipped = record.seq.saturating_sub(group.seq + 1);
        let later = record.stamp.0.wrapping_sub(self.before.stamp.wrapping_add(1)) as i64;
        (group.seq, self.before.stamp) = (record.seq, record.stamp.0);
        group.records.insert(record.seq);
        let kind = match record.body {
            Body::Put(Lifetime::Permanent, _) => PERMANENT,
            Body::Put(Lifetime::Ttl(_), _) => WITH_TTL,
            Body::Put(Lifetime::Session, _) => SESSION,
            Body::Delete => DELETION,
        };
        let flag = |condition: bool, flag| if condition { flag } else { 0 };
        self.out.put_u8(
            kind | flag(skipped != 0, HAS_SEQ)
                | flag(later != 0, HAS_STAMP)
                | flag(!record.beats.is_empty(), HAS_BEATS),
        );
        if skipped != 0 {
            put_varint(&mut self.out, skipped);
        }
        if later != 0 {
            put_varint(&mut self.out, zigzag(later));
        }
        let key = record.key.get(..MOST_KEY).unwrap_or(record.key);
        let shared = key.iter().zip(&self.before.key).take_while(|(a, b)| a == b).count();
        let rest = key.get(shared..).unwrap_or_default();
        self.out.put_u8(shared as u8);
        self.out.put_u8(rest.len() as u8);
        self.out.put_slice(rest);
        self.before.key.truncate(shared);
        self.before.key.extend_from_slice(rest);
        if let Body::Put(lifetime, value) = record.body {
            if let Lifetime::Ttl(remains) = lifetime {
                put_varint(&mut self.out, u64::try_from(remains.as_millis()).unwrap_or(MOST_TTL).min(MOST_TTL));
            }
            put_sized(&mut self.out, value);
        }
        if !record.beats.is_empty() {
            let beats = record.beats.get(..MOST_BEATS).unwrap_or(&record.beats);
            put_varint(&mut self.out, beats.len() as u64);
            for dot in beats {
                let is_other = (dot.owner, dot.incarnation) != group.life;
                self.out.put_u8(is_other.into());
                if is_other {
                    self.out.put_u64(dot.owner.0);
                    put_varint(&mut self.out, dot.incarnation.0);
                }
                put_varint(&mut self.out, dot.seq);
            }
        }
    }

    /// The life ends: these were seen
    pub fn end(&mut self, seen: &Ranges) {
        let group = self.group.take();
        if group.is_some_and(|group| group.records == *seen) {
            self.out.put_u8(END_PLAIN);
        } else {
            self.out.put_u8(END);
            put_ranges(&mut self.out, seen, MOST_RANGES);
        }
    }

    /// The octets
    #[must_use]
    pub fn finish(mut self, is_pushed: bool, has_more: bool) -> Bytes {
        if let Some(flags) = self.out.get_mut(HEADER - 1) {
            *flags = if is_pushed { PUSHED } else { 0 } | if has_more { MORE } else { 0 };
        }
        self.out.freeze()
    }
}

/// Signature, number, version, flags
const HEADER: usize = 5;
const MOST_KEY: usize = 255;
/// Of what a record has beaten, so many are listed
pub(crate) const MOST_BEATS: usize = 4;
/// A hundred years
const MOST_TTL: u64 = 100 * 366 * 24 * 3600 * 1000;

const END: u8 = 0;
const END_PLAIN: u8 = 64;
const KIND: u8 = 7;
const PERMANENT: u8 = 1;
const WITH_TTL: u8 = 2;
const SESSION: u8 = 3;
const DELETION: u8 = 4;
const HAS_BEATS: u8 = 8;
const HAS_SEQ: u8 = 16;
const HAS_STAMP: u8 = 32;

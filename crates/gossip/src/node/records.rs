//! Records that come, and those that are sent for a WANT.

use std::time::{Duration, Instant};

use bytes::Bytes;

use super::Node;
use super::clock::Lift;
use crate::config::LinkId;
use crate::context::Ranges;
use crate::event::Refusal;
use crate::record::{Incarnation, Lifetime, NodeId, Stamp};
use crate::table::{self, Applied, LifeIndex};
use crate::wire::Malformed;
use crate::wire::tidings::{self, Body, Item, LifeRanges, Record, RecordsReader, RecordsWriter};

/// What a RECORDS has brought
#[derive(Default)]
struct Brought {
    new: u64,
    old: u64,
}

/// The life whose records are being read
struct Reading {
    name: (NodeId, Incarnation),
    life: LifeIndex,
    is_own: bool,
    is_of_leaf: bool,
    fresh: Ranges,
    /// What was not taken, and doesn't count as seen
    refused: Ranges,
}

impl Node {
    /// RECORDS came: pushed, or because they were asked for
    pub(super) fn handle_records(
        &mut self,
        now: Instant,
        link: LinkId,
        is_pushed: bool,
        has_more: bool,
        mut reader: RecordsReader<'_>,
    ) {
        let mut brought = Brought::default();
        let mut reading: Option<Reading> = None;
        let malformed = loop {
            match reader.next() {
                Ok(None) => break None,
                Err(malformed) => break Some(malformed),
                Ok(Some(Item::Life(owner, incarnation))) => {
                    reading = self.begin_reading(now, link, (owner, incarnation));
                }
                Ok(Some(Item::Record(record))) => {
                    if let Some(reading) = &mut reading {
                        self.read_record(now, link, reading, &record, &mut brought);
                    }
                }
                Ok(Some(Item::Seen(seen))) => {
                    if let Some(reading) = reading.take() {
                        self.finish_reading(now, link, reading, &seen, &mut brought);
                    }
                }
            }
        };
        if let Some(reading) = reading.take() {
            // The frame ended in the middle: what was read before that was right
            self.finish_reading(now, link, reading, &Ranges::new(), &mut brought);
        }
        self.process_changes(now);
        self.stats.records_in += brought.new + brought.old;
        self.stats.records_new += brought.new;
        if let Some(malformed) = malformed {
            self.on_malformed(now, link, Malformed::refusal(malformed));
        } else if let Some(of) = self.links.get_mut(&link) {
            of.malformed = 0;
        }
        if is_pushed {
            self.on_pushed(now, link, brought.new, brought.old);
        } else if let Some(of) = self.links.get_mut(&link) {
            if brought.new > 0 {
                of.progress = Some(now);
                of.unanswered = 0;
            }
            if has_more && brought.new > 0 {
                self.ask_for_more(now, link);
            }
        }
    }

    fn begin_reading(&mut self, now: Instant, link: LinkId, name: (NodeId, Incarnation)) -> Option<Reading> {
        let is_own = self.is_own(name);
        let is_believed = is_own || self.may_speak_of(now, link, name.0) && self.may_live(now, link, name);
        if !is_believed {
            return None;
        }
        let is_of_leaf = self.links.get(&link).is_some_and(|link| link.info.is_leaf);
        match self.table.open_life(name.0, name.1) {
            Ok(life) => Some(Reading { name, life, is_own, is_of_leaf, fresh: Ranges::new(), refused: Ranges::new() }),
            Err(cause) => {
                self.refuse(now, link, cause);
                None
            }
        }
    }

    /// Whether the peer is believed what it says of an owner: of itself, and of others unless it is a leaf
    pub(super) fn may_speak_of(&mut self, now: Instant, link: LinkId, owner: NodeId) -> bool {
        let Some(of) = self.links.get(&link) else { return false };
        let may = !of.info.is_leaf || of.peer.as_ref().is_some_and(|peer| peer.id == owner);
        if !may {
            self.refuse(now, link, Refusal::ForgedOwner);
        }
        may
    }

    /// Whether there may be such a life: not far in the future, and not a later one of this node's own
    pub(super) fn may_live(&mut self, now: Instant, link: LinkId, (owner, incarnation): (NodeId, Incarnation)) -> bool {
        if !self.clock.is_plausible(now, incarnation) {
            self.refuse(now, link, Refusal::ClockLift);
            return false;
        }
        if owner == self.identity.id && incarnation > self.identity.incarnation {
            self.refuse(now, link, Refusal::ForgedOwner);
            self.begin_again(now, incarnation);
            return false;
        }
        true
    }

    fn read_record(
        &mut self,
        now: Instant,
        link: LinkId,
        reading: &mut Reading,
        record: &Record<'_>,
        brought: &mut Brought,
    ) {
        if reading.is_own {
            if record.seq > self.own_seq {
                self.on_forged(now, link, record.stamp);
            }
            brought.old += 1;
            return;
        }
        // What a leaf has overwritten is for others to say
        let without_beats = (reading.is_of_leaf && !record.beats.is_empty())
            .then(|| Record { beats: Default::default(), ..record.clone() });
        let record = without_beats.as_ref().unwrap_or(record);
        let is_seen = self.table.seen(reading.life).is_some_and(|seen| seen.contains(record.seq));
        let judged = if is_seen { Ok(()) } else { self.judge_record(now, link, reading.name, record) };
        let applied = match judged {
            Ok(()) => self.table.apply(now, reading.life, record),
            Err(cause) => Applied::Refused(cause),
        };
        match applied {
            Applied::Lives | Applied::Dead => {
                brought.new += 1;
                reading.fresh.insert(record.seq);
            }
            Applied::Old => brought.old += 1,
            Applied::TooEarly => {
                reading.refused.insert(record.seq);
            }
            Applied::Refused(cause) => {
                self.refuse(now, link, cause);
                reading.refused.insert(record.seq);
                self.asks.decline(now, reading.name, &Ranges::of(record.seq, record.seq));
            }
        }
    }

    /// Whether a record may be what it says
    fn judge_record(
        &mut self,
        now: Instant,
        link: LinkId,
        (owner, _): (NodeId, Incarnation),
        record: &Record<'_>,
    ) -> Result<(), Refusal> {
        if let Body::Put(_, value) = record.body
            && value.len() > self.config.quotas.max_value
        {
            return Err(Refusal::Oversized);
        }
        if table::is_reserved(record.key) {
            let is_session = matches!(record.body, Body::Put(Lifetime::Session, _) | Body::Delete);
            if !is_session || super::reserved::owner_of(record.key) != Some(owner) {
                return Err(Refusal::ForgedOwner);
            }
        }
        for dot in &record.beats {
            let life = (dot.owner, dot.incarnation);
            if self.is_own(life) && dot.seq > self.own_seq {
                self.on_forged(now, link, record.stamp);
                return Err(Refusal::ForgedOwner);
            }
            if !self.is_own(life) && !self.may_live(now, link, life) {
                return Err(Refusal::ForgedOwner);
            }
        }
        self.take_stamp(now, link, record.stamp)
    }

    /// Lifts the clock to a peer's stamp, if that may be
    pub(super) fn take_stamp(&mut self, now: Instant, link: LinkId, stamp: Stamp) -> Result<(), Refusal> {
        match self.clock.judge(now, stamp) {
            Lift::None | Lift::Small => {}
            Lift::Absurd => return Err(Refusal::ClockLift),
            Lift::Large => {
                let Some(of) = self.links.get_mut(&link) else { return Err(Refusal::ClockLift) };
                let (since, count) = of.lifts.get_or_insert((now, 0));
                if now.saturating_duration_since(*since) >= LIFT_WINDOW {
                    (*since, *count) = (now, 0);
                }
                *count += 1;
                if *count > MOST_LIFTS {
                    return Err(Refusal::ClockLift);
                }
                self.stats.clock_lifts += 1;
            }
        }
        self.clock.lift(stamp);
        Ok(())
    }

    /// Somebody wrote in the name of this life
    pub(super) fn on_forged(&mut self, now: Instant, link: LinkId, stamp: Stamp) {
        self.refuse(now, link, Refusal::ForgedOwner);
        // What is written again has to be later than what was forged
        if self.take_stamp(now, link, stamp).is_ok() {
            self.begin_again(now, self.identity.incarnation);
        }
    }

    fn finish_reading(
        &mut self,
        now: Instant,
        link: LinkId,
        mut reading: Reading,
        seen: &Ranges,
        brought: &mut Brought,
    ) {
        let mut claimed = seen.without(&reading.refused);
        if reading.is_own {
            if claimed.greatest() > self.own_seq {
                self.on_forged(now, link, Stamp(0));
            }
            return;
        }
        claimed.subtract(&reading.fresh);
        let dead = self.table.see_all_dead(reading.life, &claimed, self.clock.read(now));
        brought.new += dead.range_count() as u64;
        reading.fresh.extend(&dead);
        claimed.extend(&reading.fresh);
        self.asks.on_seen(reading.name, &claimed);
        if let Some(of) = self.links.get_mut(&link) {
            of.known.add(now, reading.name, &claimed);
        }
        for (first, last) in reading.fresh.iter() {
            self.spread.note_new(reading.life, first, last, Some(link));
        }
    }

    /// A push: one that brought something proves the link, one that brought nothing takes it from the tree
    fn on_pushed(&mut self, now: Instant, link: LinkId, new: u64, old: u64) {
        let others = self.links.iter().filter(|(id, of)| **id != link && of.is_active() && !of.is_pruned);
        let is_last = others.count() == 0;
        let pause = self.announce_pause();
        let is_paused = self.spread.pruned_at.is_some_and(|at| now.saturating_duration_since(at) < pause);
        let Some(of) = self.links.get_mut(&link).filter(|link| link.is_active()) else { return };
        let is_vain = of.weigh(new, old);
        // One at a time: of two links of one circle only one may go. A peer that goes on didn't hear it
        let is_told = of.is_pruned && of.pruned_at.is_some_and(|at| now.saturating_duration_since(at) < PRUNE_AGAIN);
        if is_vain && !is_told && !is_last && !is_paused {
            of.is_pruned = true;
            of.pruned_at = Some(now);
            self.spread.pruned_at = Some(now);
            self.stats.prunes += 1;
            self.send(link, tidings::prune());
        }
    }

    /// WANT came: what is here of it is sent, up to a bound
    pub(super) fn handle_want(&mut self, now: Instant, link: LinkId, graft: bool, lives: Vec<LifeRanges>) {
        if self.is_blocked(link) {
            if let Some(of) = self.links.get_mut(&link) {
                of.is_stale = true;
            }
        } else {
            self.answer_want(now, link, lives);
        }
        if graft {
            self.graft(link);
        }
    }

    fn answer_want(&mut self, now: Instant, link: LinkId, lives: Vec<LifeRanges>) {
        let Some(of) = self.links.get_mut(&link) else { return };
        let (mut wanted, mut is_again) = (Vec::with_capacity(lives.len()), false);
        for LifeRanges { owner, incarnation, ranges } in lives {
            let Some(life) = self.table.find_life(owner, incarnation) else { continue };
            let Some(seen) = self.table.seen(life) else { continue };
            let have = seen.common(&ranges);
            if !have.is_empty() {
                is_again |= of.known.has_some_of((owner, incarnation), &have);
                wanted.push((life, have));
            }
        }
        // What was lost on the way is sent again, but not as often as somebody likes
        if is_again && !of.afford(now, AGAIN) {
            return self.refuse(now, link, Refusal::Flood);
        }
        let (frame, sent) = self.encode_records(now, &wanted, ANSWER_LIMIT, false);
        if let Some(frame) = frame {
            if let Some(of) = self.links.get_mut(&link) {
                of.note_wanted(sent.iter().map(|(_, ranges)| ranges.count()).sum());
            }
            self.note_sent(now, link, &sent);
            self.send(link, frame);
        }
    }

    /// One RECORDS with as much of this as `limit` octets hold, one record at least, and what that is
    pub(super) fn encode_records(
        &mut self,
        now: Instant,
        lives: &[(LifeIndex, Ranges)],
        limit: usize,
        is_pushed: bool,
    ) -> (Option<Bytes>, Vec<(LifeIndex, Ranges)>) {
        let mut writer = RecordsWriter::new(512);
        let mut sent = Vec::with_capacity(lives.len());
        let (mut has_more, mut count) = (false, 0);
        for (life, ranges) in lives {
            if writer.len() >= limit {
                has_more = true;
                break;
            }
            let (owner, incarnation) = self.table.life_name(*life);
            let (mut has_begun, mut last, mut is_cut) = (false, 0, false);
            for record in self.table.records(now, *life, ranges) {
                if !writer.is_empty() && writer.len() + record_size(&record) > limit && (has_begun || !sent.is_empty())
                {
                    is_cut = true;
                    break;
                }
                if !has_begun {
                    writer.begin(owner, incarnation, record.seq, record.stamp);
                    has_begun = true;
                }
                writer.record(&record);
                last = record.seq;
                count += 1;
            }
            if is_cut && !has_begun {
                has_more = true;
                break;
            }
            if !has_begun {
                writer.begin(owner, incarnation, 1, Stamp(1));
            }
            // What follows the last one is not spoken of, as some of it may live
            let seen = if is_cut { ranges.common(&Ranges::of(0, last)) } else { ranges.clone() };
            writer.end(&seen);
            sent.push((*life, seen));
            if is_cut {
                has_more = true;
                break;
            }
        }
        self.stats.records_out += count;
        let frame = (!writer.is_empty()).then(|| writer.finish(is_pushed, has_more));
        (frame, sent)
    }

    /// The peer has this now, or a digest will show that it hasn't
    pub(super) fn note_sent(&mut self, now: Instant, link: LinkId, sent: &[(LifeIndex, Ranges)]) {
        let Some(of) = self.links.get_mut(&link) else { return };
        for (life, ranges) in sent {
            of.known.add(now, self.table.life_name(*life), ranges);
        }
    }
}

/// About how many octets a record takes
pub(super) fn record_size(record: &Record<'_>) -> usize {
    let value = match record.body {
        Body::Put(_, value) => value.len(),
        Body::Delete => 0,
    };
    record.key.len() + value + 8 + record.beats.len() * 12
}

/// What it costs of the budget of a second to be sent again what was sent a moment ago
const AGAIN: u32 = 20;
/// How long a peer may take to hear PRUNE
const PRUNE_AGAIN: Duration = Duration::from_secs(1);
/// Octets of the answer to one WANT
const ANSWER_LIMIT: usize = 256 << 10;
/// Large lifts of the clock that one link may cause, and in which time
const MOST_LIFTS: u32 = 8;
const LIFT_WINDOW: Duration = Duration::from_secs(3600);

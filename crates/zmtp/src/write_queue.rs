//! The write queue: messages encoded and waiting for the transport.

use std::{collections::VecDeque, io::IoSlice, mem};

use bytes::Bytes;
use smallvec::SmallVec;

use crate::{
    frame::{FrameHeader, Framing},
    message::Message,
    rope::{COPY_LIMIT, Rope},
};

/// Encoded messages waiting to be written, in order
///
/// Messages are encoded as they are pushed, in the framing of 2.0 and 3.x: the canonical form that most peers
/// can be sent as it stands ([`Connection::is_passthrough`](crate::Connection::is_passthrough)). Headers and
/// payloads up to [`COPY_LIMIT`] lie back to back in one buffer; larger payloads are written from where they
/// are. The octets of a message stay until all of it was written, so that a lost connection costs none:
/// [`rewind`](Self::rewind), and write to the next one.
///
/// Bounds are the owner's: [`messages`](Self::messages) and [`octets`](Self::octets) say what there is.
#[derive(Debug, Default)]
pub struct WriteQueue {
    rope: Rope,
    /// Messages by length, equal neighbours in one entry
    runs: VecDeque<Run>,
    messages: usize,
    /// Octets in the rope, the written ones of the first message included
    total: usize,
    /// Octets of the first message that were written; always less than its length
    written: usize,
}

/// A stretch of messages that look alike
#[derive(Clone, Copy, Debug)]
struct Run {
    length: u64,
    count: u32,
    layout: Layout,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Layout {
    Framed(Framing),
    Raw,
}

impl WriteQueue {
    /// An empty queue, without memory of its own until something is pushed
    pub fn new() -> Self {
        Self::default()
    }

    /// Encodes one message, the frames of `envelope` before those of `body`, and says how many octets that added
    #[inline]
    pub fn push(&mut self, envelope: &[Bytes], body: &Message) -> usize {
        self.push_framed(Framing::V2, envelope, body)
    }

    /// Encodes one message in the framing of the peer
    #[inline]
    pub(crate) fn push_framed(
        &mut self,
        framing: Framing,
        envelope: &[Bytes],
        body: &Message,
    ) -> usize {
        let frames = envelope.len() + body.frame_count();
        let (mut small, mut large) = (frames * LONGEST_HEADER, 0);
        for frame in envelope.iter().chain(body) {
            if frame.len() <= COPY_LIMIT {
                small += frame.len();
            } else {
                large += frame.len();
            }
        }
        self.rope.reserve(small);
        let before = self.rope.small().len();
        for (index, frame) in envelope.iter().chain(body).enumerate() {
            let more = index + 1 < frames;
            let header = FrameHeader {
                more,
                command: false,
                body_len: frame.len() as u64,
            };
            header.encode(framing, self.rope.small());
            self.rope.push(frame);
        }
        let added = self.rope.small().len() - before + large;
        self.count(added, Layout::Framed(framing));
        added
    }

    /// Queues octets as they are, as one message: for peers that don't speak ZMTP
    ///
    /// Nothing is queued when there are no octets. Returns how many octets were added.
    pub fn push_raw(&mut self, octets: Bytes) -> usize {
        if !octets.is_empty() {
            self.rope.reserve(octets.len().min(COPY_LIMIT));
            self.rope.push(&octets);
            self.count(octets.len(), Layout::Raw);
        }
        octets.len()
    }

    /// Messages not yet written to their last octet
    pub fn messages(&self) -> usize {
        self.messages
    }

    /// Octets not yet written
    pub fn octets(&self) -> usize {
        self.total - self.written
    }

    /// Whether everything was written
    pub fn is_empty(&self) -> bool {
        self.messages == 0
    }

    /// Whether the first message is on the wire in part: nothing else may be written before its rest
    pub fn partly_written(&self) -> bool {
        self.written > 0
    }

    /// Fills `into` with what is to be written next, and says how many slices that took
    ///
    /// Follow a write with [`advance`](Self::advance).
    pub fn slices<'a>(&'a self, into: &mut [IoSlice<'a>]) -> usize {
        self.rope.slices(self.written, into)
    }

    /// Notes that so many octets were written, and says how many messages that completed
    ///
    /// More than there are count as all there are.
    pub fn advance(&mut self, octets: usize) -> usize {
        self.written += octets.min(self.octets());
        let (mut completed, mut dropped) = (0, 0);
        while let Some(run) = self.runs.front_mut() {
            let length = run.length as usize;
            let whole = (self.written / length).min(run.count as usize);
            completed += whole;
            dropped += whole * length;
            self.written -= whole * length;
            if whole < run.count as usize {
                run.count -= whole as u32;
                break;
            }
            self.runs.pop_front();
        }
        self.messages -= completed;
        self.total -= dropped;
        if dropped > 0 {
            self.rope.drop_front(dropped);
        }
        self.release();
        completed
    }

    /// The connection was lost: the message partly written is to be written again from its first octet
    pub fn rewind(&mut self) {
        self.written = 0;
    }

    /// Takes out the first message of which nothing was written
    ///
    /// For a policy that drops the oldest, and for encoding anew. A message partly written stays in front.
    /// Payloads up to [`COPY_LIMIT`] are copied, larger ones are shared.
    pub fn pop_front(&mut self) -> Option<Message> {
        let first = *self.runs.front()?;
        let (from, index) = match (self.written, first.count) {
            (0, _) => (0, 0),
            (_, 1) => (first.length as usize, 1),
            (_, _) => (first.length as usize, 0),
        };
        let run = self.runs.get_mut(index)?;
        let (length, layout) = (run.length as usize, run.layout);
        run.count -= 1;
        if run.count == 0 {
            self.runs.remove(index);
        }
        let (small, splices) = self.rope.take(from, length);
        self.messages -= 1;
        self.total -= length;
        self.release();
        Some(decode(layout, small, splices))
    }

    /// Moves the messages of `other` behind ours
    ///
    /// Costs nothing when we have none: the buffers change places, so that both keep their memory. Else small
    /// payloads are copied once more. What `other` had written in part counts as not written.
    pub fn append(&mut self, other: &mut Self) {
        other.rewind();
        if self.is_empty() {
            mem::swap(self, other);
            return;
        }
        self.rope.append(&mut other.rope);
        self.messages += other.messages;
        self.total += other.total;
        for run in other.runs.drain(..) {
            self.count_run(run);
        }
        other.clear();
    }

    /// Forgets everything, the message partly written too
    pub fn clear(&mut self) {
        self.rope.clear();
        self.runs.clear();
        (self.messages, self.total, self.written) = (0, 0, 0);
        self.release();
    }

    #[inline]
    fn count(&mut self, length: usize, layout: Layout) {
        self.messages += 1;
        self.total += length;
        self.count_run(Run {
            length: length as u64,
            count: 1,
            layout,
        });
    }

    #[inline]
    fn count_run(&mut self, run: Run) {
        match self.runs.back_mut() {
            Some(last) if last.length == run.length && last.layout == run.layout => {
                match last.count.checked_add(run.count) {
                    Some(count) => last.count = count,
                    None => self.runs.push_back(run),
                }
            }
            _ => self.runs.push_back(run),
        }
    }

    /// Gives memory back when a drained queue holds a lot of it
    fn release(&mut self) {
        if self.runs.is_empty() && self.runs.capacity() > KEEP_RUNS {
            self.runs = VecDeque::new();
        }
    }
}

/// Takes a message apart that [`WriteQueue`] had put together
fn decode(layout: Layout, small: Vec<u8>, mut splices: VecDeque<Bytes>) -> Message {
    let small = Bytes::from(small);
    let Layout::Framed(framing) = layout else {
        return splices.pop_front().unwrap_or(small).into();
    };
    let mut frames = SmallVec::new();
    let mut rest = small;
    while let Ok(Some((header, taken))) = FrameHeader::decode(framing, &rest, u64::MAX) {
        let body_len = header.body_len as usize;
        let _ = rest.split_to(taken);
        frames.push(match splices.front() {
            Some(_) if body_len > COPY_LIMIT => splices.pop_front().unwrap_or_default(),
            _ => rest.split_to(body_len.min(rest.len())),
        });
        if !header.more {
            break;
        }
    }
    Message::from_frames(frames)
}

/// Octets of the longest header of either framing
const LONGEST_HEADER: usize = 10;

/// Entries above which a drained queue gives their memory back
const KEEP_RUNS: usize = 1 << 16;

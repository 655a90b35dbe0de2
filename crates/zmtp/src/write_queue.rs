//! The write queue: messages encoded and waiting for the transport.

use std::{collections::VecDeque, io::IoSlice, mem};

use bytes::Bytes;
use smallvec::SmallVec;

use crate::{
    frame::{FrameHeader, Framing},
    message::{Body, Message, SHORT, SHORT_HEADER, Short},
    rope::{COPY_LIMIT, Piece, Rope, RopeReader},
};

/// Encoded messages waiting to be written, in order
///
/// Messages are encoded as they are pushed, in the framing of 2.0 and 3.x: the canonical form that most peers
/// can be sent as it stands ([`Connection::is_passthrough`](crate::Connection::is_passthrough)). Headers and
/// payloads up to [`COPY_LIMIT`] lie back to back in one buffer; larger payloads are written from where they
/// are. The octets of a message stay until all of it was written, so that a lost connection costs none:
/// [`rewind`](Self::rewind), and write to the next one.
///
/// For a peer that can't be sent that form, [`Connection::seal`](crate::Connection::seal) makes a second queue in the
/// form that it can. What that one has [written](Self::advance) is then [taken](Self::advance_messages) from the first.
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
    /// In boxes, for one peer and nobody else
    Sealed,
    /// As that, but a command, which counts for no message
    SealedCommand,
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
    pub(crate) fn push_framed(&mut self, framing: Framing, envelope: &[Bytes], body: &Message) -> usize {
        let added = match (body.body(), framing, envelope) {
            (Body::Short(short), Framing::V2, []) => self.push_short(short),
            (Body::Short(short), framing, envelope) => {
                let shared = Bytes::copy_from_slice(short.octets());
                self.push_frames(framing, envelope, &[shared])
            }
            (Body::Frames(frames), framing, envelope) => self.push_frames(framing, envelope, frames),
        };
        self.count(added, Layout::Framed(framing));
        added
    }

    /// The hot path
    #[inline]
    fn push_short(&mut self, short: &Short) -> usize {
        self.rope.reserve(SHORT_HEADER + SHORT);
        let small = self.rope.small();
        small.extend_from_slice(&short.header());
        let end = small.len() + short.len();
        // All that a short frame can hold, then cut off: copying by a fixed size needs no loop
        small.extend_from_slice(short.padded());
        small.truncate(end);
        SHORT_HEADER + short.len()
    }

    fn push_frames(&mut self, framing: Framing, envelope: &[Bytes], body: &[Bytes]) -> usize {
        let frames = envelope.len() + body.len();
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
            let header = FrameHeader { more, command: false, body_len: frame.len() as u64 };
            header.encode(framing, self.rope.small());
            self.rope.push(frame);
        }
        self.rope.small().len() - before + large
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
        self.total == 0
    }

    /// Whether the first message is on the wire in part: nothing else may be written before its rest
    pub fn partly_written(&self) -> bool {
        self.written > 0
    }

    /// All that is to be written, where it lies in one piece
    pub fn contiguous(&self) -> Option<&[u8]> {
        self.rope.contiguous(self.written)
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
            if run.layout != Layout::SealedCommand {
                completed += whole;
            }
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

    /// Drops that many messages from the front, as written in another form, and says how many octets they had
    ///
    /// More than there are count as all there are.
    pub fn advance_messages(&mut self, messages: usize) -> usize {
        let (mut octets, mut left) = (0, messages as u64);
        for run in &self.runs {
            let count = left.min(run.count.into());
            octets += (run.length * count) as usize;
            left -= count;
            if left == 0 {
                break;
            }
        }
        let before = self.octets();
        self.advance(octets.saturating_sub(self.written));
        before - self.octets()
    }

    /// The frames from the first message on, in the canonical form; only what [`push`](Self::push) made has it
    pub(crate) fn frames(&self) -> QueuedFrames<'_> {
        QueuedFrames(self.rope.reader())
    }

    /// Appends one message, or one command, as `write` has it, unless that fails
    #[inline]
    pub(crate) fn push_sealed<E>(
        &mut self,
        is_message: bool,
        write: impl FnOnce(&mut Vec<u8>) -> Result<(), E>,
    ) -> Result<(), E> {
        let small = self.rope.small();
        let before = small.len();
        if let Err(error) = write(small) {
            small.truncate(before);
            return Err(error);
        }
        let length = small.len() - before;
        match is_message {
            true => self.count(length, Layout::Sealed),
            false => {
                self.total += length;
                self.count_run(Run { length: length as u64, count: 1, layout: Layout::SealedCommand });
            }
        }
        Ok(())
    }

    /// Appends the messages of `from` in another framing, until there are `limit_octets`
    #[cold]
    pub(crate) fn push_reframed(&mut self, framing: Framing, from: &Self, limit_octets: usize) {
        let mut frames = from.frames();
        while self.octets() < limit_octets
            && let Some((mut header, mut payload)) = frames.next()
        {
            let mut length = 0;
            loop {
                self.rope.reserve(LONGEST_HEADER + payload.octets().len().min(COPY_LIMIT));
                let before = self.rope.small().len();
                header.encode(framing, self.rope.small());
                length += self.rope.small().len() - before + payload.octets().len();
                match payload {
                    Piece::Copied(octets) => self.rope.small().extend_from_slice(octets),
                    Piece::Shared(octets) => self.rope.push(octets),
                }
                match frames.next_if(header.more) {
                    Some(next) => (header, payload) = next,
                    None => break,
                }
            }
            self.count(length, Layout::Framed(framing));
        }
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
        self.count_run(Run { length: length as u64, count: 1, layout });
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

/// Reads the frames of a queue, and leaves them there
#[derive(Debug)]
pub(crate) struct QueuedFrames<'a>(RopeReader<'a>);

impl<'a> QueuedFrames<'a> {
    /// The next frame, where one is due
    #[inline]
    pub(crate) fn next_if(&mut self, due: bool) -> Option<(FrameHeader, Piece<'a>)> {
        if due { self.next() } else { None }
    }
}

impl<'a> Iterator for QueuedFrames<'a> {
    type Item = (FrameHeader, Piece<'a>);

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        let (header, taken) = FrameHeader::decode(Framing::V2, self.0.small(), u64::MAX).ok()??;
        self.0.take_small(taken)?;
        let payload = self.0.take(header.body_len as usize)?;
        Some((header, payload))
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

#[cfg(test)]
mod tests {
    use std::ops::Range;

    use proptest::prelude::*;

    use super::*;

    /// Encodes as the RFC's grammar reads, with nothing in common with the code above
    fn reference(framing: Framing, message: &Message) -> Vec<u8> {
        let mut octets = Vec::new();
        for (index, frame) in message.frames().enumerate() {
            let more = u8::from(index + 1 < message.frame_count());
            match (framing, frame.len()) {
                (Framing::V2, len @ 0..=255) => octets.extend([more, len as u8]),
                (Framing::V2, len) => octets.extend([&[more | 2][..], &(len as u64).to_be_bytes()].concat()),
                (Framing::V1, len @ 0..=253) => octets.extend([len as u8 + 1, more]),
                (Framing::V1, len) => octets.extend([&[255][..], &(len as u64 + 1).to_be_bytes(), &[more]].concat()),
            }
            octets.extend_from_slice(frame);
        }
        octets
    }

    /// Up to `limit` octets from the front, through `width` slices
    fn peek(queue: &WriteQueue, width: usize, limit: usize) -> Vec<u8> {
        let mut slices = vec![IoSlice::new(&[]); width];
        let filled = queue.slices(&mut slices);
        let mut octets: Vec<u8> = slices[..filled].iter().flat_map(|slice| slice.iter().copied()).collect();
        octets.truncate(limit);
        octets
    }

    fn drain(queue: &mut WriteQueue) -> Vec<u8> {
        let mut octets = Vec::new();
        while !queue.is_empty() {
            let piece = peek(queue, 3, usize::MAX);
            queue.advance(piece.len());
            octets.extend(piece);
        }
        octets
    }

    #[test]
    fn golden_octets() {
        let mut queue = WriteQueue::new();
        assert_eq!(queue.push(&[Bytes::new()], &Message::from("hello")), 9);
        assert_eq!(peek(&queue, 1, 100), b"\x01\0\0\x05hello");
        assert_eq!(queue.push(&[], &Message::from("hello")), 7);
        assert_eq!((queue.messages(), queue.octets()), (2, 16));
        assert_eq!(queue.advance(10), 1);
        assert_eq!((queue.messages(), queue.octets(), queue.partly_written()), (1, 6, true));
        queue.rewind();
        assert_eq!(drain(&mut queue), b"\0\x05hello");
    }

    #[test]
    fn large_payloads_are_not_copied() {
        let payload = Bytes::from(vec![7; COPY_LIMIT + 1]);
        let mut queue = WriteQueue::new();
        queue.push(&[], &payload.clone().into());
        let mut slices = [IoSlice::new(&[]); 4];
        assert_eq!(queue.slices(&mut slices), 2);
        assert_eq!(slices[1].as_ptr(), payload.as_ptr());
        assert_eq!(queue.pop_front().map(|message| message.first().as_ptr()), Some(payload.as_ptr()));
    }

    #[test]
    fn equal_messages_cost_one_entry() {
        let mut queue = WriteQueue::new();
        for _ in 0..1000 {
            queue.push(&[], &Message::from("0123456789"));
        }
        assert_eq!(queue.runs.len(), 1);
        assert_eq!(queue.advance(12 * 500 + 5), 500);
        assert!(queue.pop_front().is_some());
        assert_eq!((queue.messages(), queue.octets(), queue.runs.len()), (499, 12 * 499 - 5, 1));
    }

    #[test]
    fn memory_is_kept_when_drained_unless_it_is_huge() {
        let mut queue = WriteQueue::new();
        let message = Message::from(vec![1; 1000]);
        for _ in 0..100 {
            queue.push(&[], &message);
        }
        let capacity = queue.rope.capacity();
        assert_eq!(queue.advance(usize::MAX), 100);
        assert_eq!(queue.rope.capacity(), capacity);
        for _ in 0..2000 {
            queue.push(&[], &message);
        }
        assert!(queue.rope.capacity() > 1 << 20);
        assert_eq!(queue.advance(usize::MAX), 2000);
        assert_eq!(queue.rope.capacity(), 0);
    }

    #[test]
    fn a_queue_never_quite_drained_does_not_grow() {
        let mut queue = WriteQueue::new();
        let message = Message::from(vec![1; 100]);
        queue.push(&[], &message);
        for _ in 0..100_000 {
            queue.push(&[], &message);
            assert_eq!(queue.advance(102), 1);
        }
        assert!(queue.rope.capacity() < 4096, "{}", queue.rope.capacity());
    }

    #[test]
    fn appending_to_an_empty_queue_changes_buffers() {
        let (mut ours, mut theirs) = (WriteQueue::new(), WriteQueue::new());
        theirs.push(&[], &Message::from("one"));
        let capacity = theirs.rope.capacity();
        ours.append(&mut theirs);
        assert_eq!((ours.messages(), theirs.messages(), ours.rope.capacity()), (1, 0, capacity));
        theirs.push(&[], &Message::from("two"));
        ours.append(&mut theirs);
        assert_eq!(drain(&mut ours), b"\0\x03one\0\x03two");
        assert!(theirs.is_empty() && drain(&mut theirs).is_empty());
    }

    #[test]
    fn what_is_appended_begins_anew() {
        for ours in [&[][..], &["one"]] {
            let (mut queue, mut theirs) = (WriteQueue::new(), WriteQueue::new());
            for text in ours {
                queue.push(&[], &Message::from(*text));
            }
            theirs.push(&[], &Message::from("two"));
            theirs.advance(3);
            queue.append(&mut theirs);
            assert!(!queue.partly_written() && !theirs.partly_written());
            assert_eq!(queue.octets(), 5 * (ours.len() + 1));
            assert!(drain(&mut queue).ends_with(b"\0\x03two"));
        }
    }

    #[test]
    fn another_framing_is_made_of_the_same_messages_which_stay() {
        let messages = [
            Message::from("short"),
            Message::multipart([vec![1; 253], vec![2; 254], vec![], vec![3; COPY_LIMIT + 1]]),
            Message::from(vec![4; 9000]),
        ];
        let (mut queue, mut reframed) = (WriteQueue::new(), WriteQueue::new());
        for message in &messages {
            queue.push(&[], message);
        }
        let before = queue.octets();
        reframed.push_reframed(Framing::V1, &queue, usize::MAX);
        assert_eq!((reframed.messages(), queue.messages(), queue.octets()), (3, 3, before));
        let expected: Vec<u8> = messages.iter().flat_map(|message| reference(Framing::V1, message)).collect();
        assert_eq!(drain(&mut reframed), expected);
    }

    #[test]
    fn sealed_commands_are_octets_but_no_messages() {
        let mut queue = WriteQueue::new();
        let write = |octets: &'static [u8]| {
            move |buffer: &mut Vec<u8>| {
                buffer.extend_from_slice(octets);
                if octets.is_empty() { Err("no") } else { Ok(()) }
            }
        };
        queue.push_sealed(false, write(b"ping")).unwrap();
        queue.push_sealed(true, write(b"text")).unwrap();
        queue.push_sealed(true, write(b"more")).unwrap();
        assert_eq!(queue.push_sealed(true, write(b"")), Err("no"));
        assert_eq!((queue.messages(), queue.octets(), queue.is_empty()), (2, 12, false));
        assert_eq!((queue.advance(4), queue.advance(4), queue.advance(3)), (0, 1, 0));
        assert_eq!((queue.messages(), queue.octets(), queue.partly_written()), (1, 1, true));
        assert_eq!(queue.advance(1), 1);
        queue.push_sealed(false, write(b"ping")).unwrap();
        assert!(!queue.is_empty(), "a command alone is something to be written");
        assert_eq!((queue.advance(4), queue.is_empty()), (0, true));
    }

    #[test]
    fn raw_octets_stay_raw() {
        let mut queue = WriteQueue::new();
        assert_eq!(queue.push_raw(Bytes::new()), 0);
        assert!(queue.is_empty());
        assert_eq!(queue.push_raw(Bytes::from("GET /")), 5);
        assert_eq!(queue.push_raw(Bytes::from(vec![9; 5000])), 5000);
        assert_eq!(queue.push(&[], &Message::from("abc")), 5);
        assert_eq!(queue.push_raw(Bytes::from("as is")), 5);
        assert_eq!(queue.pop_front(), Some(Message::from("GET /")));
        assert_eq!(queue.pop_front(), Some(Message::from(vec![9; 5000])));
        assert_eq!(queue.pop_front(), Some(Message::from("abc")), "equal in length, not in kind");
        assert_eq!(queue.pop_front(), Some(Message::from("as is")));
        assert_eq!(queue.pop_front(), None);
    }

    #[derive(Clone, Debug)]
    enum Step {
        Push { envelope: usize, frames: Vec<usize> },
        PushV1 { frames: Vec<usize> },
        PushRaw(usize),
        Write { width: usize, octets: usize },
        Rewind,
        WriteElsewhere(usize),
        PopFront,
        Append(Vec<usize>),
        Clear,
    }

    fn lengths(count: Range<usize>) -> impl Strategy<Value = Vec<usize>> {
        let length = prop_oneof![0..4usize, 253..258usize, COPY_LIMIT - 1..COPY_LIMIT + 2, Just(9000)];
        prop::collection::vec(length, count)
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            6 => (0..3usize, lengths(1..4)).prop_map(|(envelope, frames)| Step::Push { envelope, frames }),
            1 => lengths(1..3).prop_map(|frames| Step::PushV1 { frames }),
            1 => (0..9000usize).prop_map(Step::PushRaw),
            6 => (1..5usize, 0..12_000usize).prop_map(|(width, octets)| Step::Write { width, octets }),
            1 => Just(Step::Rewind),
            2 => (0..5usize).prop_map(Step::WriteElsewhere),
            3 => Just(Step::PopFront),
            2 => lengths(0..4).prop_map(Step::Append),
            1 => Just(Step::Clear),
        ]
    }

    /// What a queue should hold: messages with their encoding, and how much of the first was written
    #[derive(Default)]
    struct Model {
        waiting: VecDeque<(Message, Vec<u8>)>,
        written: usize,
        filled: u8,
    }

    impl Model {
        /// A frame whose octets differ from those of its neighbours
        fn frame(&mut self, length: usize) -> Bytes {
            self.filled = self.filled.wrapping_add(1);
            let first = self.filled;
            (0..length).map(|index| first ^ (index % 251) as u8).collect::<Vec<u8>>().into()
        }

        fn message(&mut self, lengths: &[usize]) -> Message {
            let frames: Message = lengths.iter().map(|&length| self.frame(length)).collect();
            // Both forms of a message of one frame
            match lengths.len() == 1 && self.waiting.len().is_multiple_of(2) {
                true => Message::copy_from(frames.first()),
                false => frames,
            }
        }

        fn expect(&mut self, framing: Framing, message: Message) -> usize {
            let octets = reference(framing, &message);
            let added = octets.len();
            self.waiting.push_back((message, octets));
            added
        }

        fn unwritten(&self) -> Vec<u8> {
            let all: Vec<u8> = self.waiting.iter().flat_map(|(_, octets)| octets.clone()).collect();
            all[self.written..].to_vec()
        }

        fn advance(&mut self, octets: usize) -> usize {
            self.written += octets;
            let before = self.waiting.len();
            while let Some((_, front)) = self.waiting.front()
                && front.len() <= self.written
            {
                self.written -= front.len();
                self.waiting.pop_front();
            }
            before - self.waiting.len()
        }
    }

    proptest! {
        #[test]
        fn behaves_as_its_model(steps in prop::collection::vec(step(), 1..60)) {
            let (mut queue, mut model) = (WriteQueue::new(), Model::default());
            for step in steps {
                match step {
                    Step::Push { envelope, frames } => {
                        let message = model.message(&frames);
                        let envelope: Vec<Bytes> = (0..envelope).map(|length| model.frame(length)).collect();
                        let added = queue.push(&envelope, &message);
                        let whole = envelope.into_iter().chain(message).collect();
                        prop_assert_eq!(added, model.expect(Framing::V2, whole));
                    }
                    Step::PushV1 { frames } => {
                        let message = model.message(&frames);
                        let added = queue.push_framed(Framing::V1, &[], &message);
                        prop_assert_eq!(added, model.expect(Framing::V1, message));
                    }
                    Step::PushRaw(length) => {
                        let octets = model.frame(length);
                        prop_assert_eq!(queue.push_raw(octets.clone()), length);
                        if length > 0 {
                            model.waiting.push_back((octets.clone().into(), octets.to_vec()));
                        }
                    }
                    Step::Write { width, octets } => {
                        let piece = peek(&queue, width, octets);
                        prop_assert!(model.unwritten().starts_with(&piece));
                        prop_assert!(!piece.is_empty() || octets == 0 || queue.is_empty());
                        prop_assert_eq!(queue.advance(piece.len()), model.advance(piece.len()));
                    }
                    Step::Rewind => {
                        queue.rewind();
                        model.written = 0;
                    }
                    Step::WriteElsewhere(messages) => {
                        let before = model.unwritten().len();
                        for _ in 0..messages.min(model.waiting.len()) {
                            model.waiting.pop_front();
                            model.written = 0;
                        }
                        prop_assert_eq!(queue.advance_messages(messages), before - model.unwritten().len());
                    }
                    Step::PopFront => {
                        let expected = model.waiting.remove(usize::from(model.written > 0));
                        prop_assert_eq!(queue.pop_front(), expected.map(|(message, _)| message));
                    }
                    Step::Append(lengths) => {
                        let mut other = WriteQueue::new();
                        for length in lengths {
                            let message = model.message(&[length]);
                            other.push(&[], &message);
                            model.expect(Framing::V2, message);
                        }
                        queue.append(&mut other);
                        prop_assert!(other.is_empty() && other.octets() == 0);
                    }
                    Step::Clear => {
                        queue.clear();
                        model.waiting.clear();
                        model.written = 0;
                    }
                }
                prop_assert_eq!(queue.messages(), model.waiting.len());
                prop_assert_eq!(queue.octets(), model.unwritten().len());
                prop_assert_eq!(queue.partly_written(), model.written > 0);
                prop_assert_eq!(queue.is_empty(), model.waiting.is_empty());
            }
            prop_assert_eq!(model.unwritten(), drain(&mut queue));
        }
    }
}

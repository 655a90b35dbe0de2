//! The write queue against a model: what is written is what was pushed, whatever happens in between.
#![no_main]

use std::{collections::VecDeque, io::IoSlice};

use arbitrary::Arbitrary;
use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use tidings_zmtp::{COPY_LIMIT, Message, WriteQueue};

#[derive(Arbitrary, Debug)]
enum Step {
    Push { envelope: u8, frames: Vec<Length> },
    PushRaw(Length),
    Write { width: u8, octets: u16 },
    Rewind,
    PopFront,
    Append(Vec<Length>),
    AppendTo(Vec<Length>),
    Clear,
}

#[derive(Arbitrary, Clone, Copy, Debug)]
enum Length {
    Small(u8),
    Medium(u16),
    /// Around the length from which payloads aren't copied
    Edge(i8),
}

impl Length {
    fn octets(self) -> usize {
        match self {
            Self::Small(octets) => octets.into(),
            Self::Medium(octets) => usize::from(octets) % 10_000,
            Self::Edge(offset) => COPY_LIMIT.saturating_add_signed(offset.into()),
        }
    }
}

#[derive(Default)]
struct Model {
    waiting: VecDeque<(Message, Vec<u8>)>,
    written: usize,
    filled: u8,
}

impl Model {
    fn frame(&mut self, length: usize) -> Bytes {
        self.filled = self.filled.wrapping_add(1);
        let first = self.filled;
        (0..length).map(|index| first ^ (index % 251) as u8).collect::<Vec<u8>>().into()
    }

    fn frames(&mut self, lengths: &[Length]) -> Message {
        let frames: Message = lengths.iter().take(6).map(|length| self.frame(length.octets())).collect();
        // Both forms of a message of one frame
        match frames.frame_count() == 1 && self.filled.is_multiple_of(2) {
            true => Message::copy_from(frames.first()),
            false => frames,
        }
    }

    fn expect(&mut self, message: Message) -> usize {
        let mut octets = Vec::new();
        for (index, frame) in message.frames().enumerate() {
            let more = u8::from(index + 1 < message.frame_count());
            match u8::try_from(frame.len()) {
                Ok(size) => octets.extend([more, size]),
                Err(_) => {
                    octets.push(more | 2);
                    octets.extend((frame.len() as u64).to_be_bytes());
                }
            }
            octets.extend_from_slice(frame);
        }
        let added = octets.len();
        self.waiting.push_back((message, octets));
        added
    }

    fn unwritten(&self) -> Vec<u8> {
        let all: Vec<u8> = self.waiting.iter().flat_map(|(_, octets)| octets.iter().copied()).collect();
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

fn peek(queue: &WriteQueue, width: usize, limit: usize) -> Vec<u8> {
    let mut slices = vec![IoSlice::new(&[]); width];
    let filled = queue.slices(&mut slices);
    slices[..filled].iter().flat_map(|slice| slice.iter().copied()).take(limit).collect()
}

fuzz_target!(|steps: Vec<Step>| {
    let (mut queue, mut model) = (WriteQueue::new(), Model::default());
    for step in steps.into_iter().take(64) {
        match step {
            Step::Push { envelope, frames } => {
                let envelope: Vec<Bytes> = (0..envelope % 4).map(|length| model.frame(length.into())).collect();
                let body = model.frames(&frames);
                let added = queue.push(&envelope, &body);
                assert_eq!(added, model.expect(envelope.into_iter().chain(body).collect()));
            }
            Step::PushRaw(length) => {
                let octets = model.frame(length.octets());
                assert_eq!(queue.push_raw(octets.clone()), octets.len());
                if !octets.is_empty() {
                    model.waiting.push_back((octets.clone().into(), octets.to_vec()));
                }
            }
            Step::Write { width, octets } => {
                let piece = peek(&queue, usize::from(width % 8), octets.into());
                assert!(model.unwritten().starts_with(&piece));
                assert_eq!(queue.advance(piece.len()), model.advance(piece.len()));
            }
            Step::Rewind => {
                queue.rewind();
                model.written = 0;
            }
            Step::PopFront => {
                let expected = model.waiting.remove(usize::from(model.written > 0));
                assert_eq!(queue.pop_front(), expected.map(|(message, _)| message));
            }
            Step::Append(lengths) => {
                let mut other = WriteQueue::new();
                for length in lengths.into_iter().take(4) {
                    let message = model.frames(&[length]);
                    other.push(&[], &message);
                    model.expect(message);
                }
                queue.append(&mut other);
                assert!(other.is_empty() && other.octets() == 0 && peek(&other, 8, 1).is_empty());
            }
            Step::AppendTo(lengths) => {
                // The other way round: what we hold goes behind others, begun anew.
                let (mut front, mut waiting) = (WriteQueue::new(), std::mem::take(&mut model.waiting));
                for length in lengths.into_iter().take(4) {
                    let message = model.frames(&[length]);
                    front.push(&[], &message);
                    model.expect(message);
                }
                front.append(&mut queue);
                model.waiting.append(&mut waiting);
                model.written = 0;
                queue = front;
            }
            Step::Clear => {
                queue.clear();
                model.waiting.clear();
                model.written = 0;
            }
        }
        assert_eq!((queue.messages(), queue.octets()), (model.waiting.len(), model.unwritten().len()));
        assert_eq!((queue.partly_written(), queue.is_empty()), (model.written > 0, model.waiting.is_empty()));
    }
    let left = model.unwritten();
    let mut drained = Vec::new();
    while !queue.is_empty() {
        let piece = peek(&queue, 4, usize::MAX);
        queue.advance(piece.len());
        drained.extend(piece);
    }
    assert_eq!(drained, left);
});

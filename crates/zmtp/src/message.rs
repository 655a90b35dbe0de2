//! Messages: one or more frames that travel and arrive together.

use std::hash::{Hash, Hasher};
use std::num::NonZeroUsize;
use std::{fmt, mem, slice};

use bytes::Bytes;
use smallvec::{SmallVec, smallvec};

/// One or more frames, delivered whole or not at all
///
/// A message of one short frame lies in the value itself, so that making, moving and dropping it touches no
/// allocator; other frames are reference-counted slices, of which a clone copies no payload. Up to two of those need
/// no allocation of their own. A message never has zero frames, whichever way it was made.
#[derive(Clone)]
pub struct Message {
    body: Body,
}

/// How a message is kept; the two forms may hold the same frames
#[derive(Clone)]
pub(crate) enum Body {
    /// One frame of up to [`SHORT`] octets
    Short(Short),
    /// At least one frame
    Frames(SmallVec<[Bytes; 2]>),
}

/// One short frame, all of it in the value
///
/// The octets come first, in whole blocks, and the length in a register of its own, so that they are written and moved in
/// the same pieces: a load that spans two earlier stores would wait for both. What follows the frame's last octet means
/// nothing.
#[derive(Clone, Copy)]
pub(crate) struct Short {
    octets: [u8; SHORT],
    /// One more than there are, so that zero is left to tell the other form by
    len_and_one: NonZeroUsize,
}

impl Short {
    #[inline]
    pub(crate) fn copy_from(from: &[u8]) -> Option<Self> {
        let mut octets = [0; SHORT];
        let len_and_one = len_and_one(from.len())?;
        let (blocks, rest) = from.as_chunks::<BLOCK>();
        for (to, from) in octets.as_chunks_mut::<BLOCK>().0.iter_mut().zip(blocks) {
            *to = *from;
        }
        if !rest.is_empty() {
            octets.get_mut(from.len() - rest.len()..from.len())?.copy_from_slice(rest);
        }
        Some(Self { octets, len_and_one })
    }

    /// Reads a message of one short frame from the front of `wire`, in the framing of 2.0 and 3.x; `None` if
    /// anything else is there, or too little
    #[inline(always)]
    pub(crate) fn decode(wire: &[u8]) -> Option<Self> {
        let [0, len, rest @ ..] = wire else { return None };
        let len_and_one = len_and_one(usize::from(*len))?;
        // All that fits, with what comes behind it: copying by a fixed size needs no loop
        if let Some(octets) = rest.first_chunk() {
            return Some(Self { octets: *octets, len_and_one });
        }
        Self::copy_from(rest.get(..usize::from(*len))?)
    }

    /// As [`decode`](Self::decode), where more follows than a short frame can hold: there is but one way to copy it; with what is behind
    #[inline(always)]
    pub(crate) fn decode_amid(wire: &[u8]) -> Option<(Self, &[u8])> {
        let [0, len, rest @ ..] = wire else { return None };
        let len = usize::from(*len);
        let short = Self { len_and_one: len_and_one(len)?, octets: *rest.first_chunk()? };
        Some((short, rest.get(len..)?))
    }

    /// Octets of the frame
    #[inline(always)]
    pub(crate) fn len(&self) -> usize {
        self.len_and_one.get() - 1
    }

    /// The frame's header in the framing of 2.0 and 3.x
    #[inline(always)]
    pub(crate) fn header(&self) -> [u8; SHORT_HEADER] {
        [0, self.len() as u8]
    }

    /// The octets, with what means nothing behind them
    #[inline(always)]
    pub(crate) fn padded(&self) -> &[u8; SHORT] {
        &self.octets
    }

    #[inline(always)]
    pub(crate) fn octets(&self) -> &[u8] {
        self.octets.get(..self.len()).unwrap_or_default()
    }
}

#[inline(always)]
fn len_and_one(len: usize) -> Option<NonZeroUsize> {
    if len > SHORT { None } else { NonZeroUsize::new(len + 1) }
}

impl Message {
    /// A message of one frame with a copy of `octets`
    #[inline]
    pub fn copy_from(octets: &[u8]) -> Self {
        match Short::copy_from(octets) {
            Some(short) => Self { body: Body::Short(short) },
            None => Bytes::copy_from_slice(octets).into(),
        }
    }

    /// A message of these frames; of one empty frame when there are none
    pub fn multipart<F: Into<Bytes>>(frames: impl IntoIterator<Item = F>) -> Self {
        Self::from_frames(frames.into_iter().map(Into::into).collect())
    }

    /// A message of these frames; of one empty frame when there are none
    pub fn from_frames(mut frames: SmallVec<[Bytes; 2]>) -> Self {
        if frames.is_empty() {
            frames.push(Bytes::new());
        }
        Self { body: Body::Frames(frames) }
    }

    pub(crate) fn short(short: Short) -> Self {
        Self { body: Body::Short(short) }
    }

    #[inline(always)]
    pub(crate) fn body(&self) -> &Body {
        &self.body
    }

    /// The frames in order, at least one
    pub fn frames(&self) -> Frames<'_> {
        Frames(match &self.body {
            Body::Short(short) => Rest::Short(Some(short.octets())),
            Body::Frames(frames) => Rest::Frames(frames.iter()),
        })
    }

    /// The frame at a place, counted from 0
    pub fn frame(&self, index: usize) -> Option<&[u8]> {
        match &self.body {
            Body::Short(short) => (index == 0).then(|| short.octets()),
            Body::Frames(frames) => frames.get(index).map(|frame| &frame[..]),
        }
    }

    /// The first frame: the topic of a publication, the address of a routed message
    #[inline]
    pub fn first(&self) -> &[u8] {
        match &self.body {
            Body::Short(short) => short.octets(),
            // A message is never without frames, so the fallback is never seen
            Body::Frames(frames) => frames.first().map_or(&[], |frame| &frame[..]),
        }
    }

    /// The frames, at least one; a short one that the message kept in itself is copied
    pub fn into_frames(self) -> SmallVec<[Bytes; 2]> {
        match self.body {
            Body::Short(short) => smallvec![Bytes::copy_from_slice(short.octets())],
            Body::Frames(frames) => frames,
        }
    }

    /// How many frames, at least one
    pub fn frame_count(&self) -> usize {
        match &self.body {
            Body::Short(_) => 1,
            Body::Frames(frames) => frames.len(),
        }
    }

    /// Octets of all frames together, without their headers on the wire
    #[inline]
    pub fn octets(&self) -> usize {
        match &self.body {
            Body::Short(short) => short.len(),
            Body::Frames(frames) => frames.iter().map(Bytes::len).sum(),
        }
    }

    /// Adds a last frame
    pub fn push_back(&mut self, frame: impl Into<Bytes>) {
        let mut frames = mem::take(self).into_frames();
        frames.push(frame.into());
        self.body = Body::Frames(frames);
    }

    /// Adds a first frame: an address in front of a body
    pub fn push_front(&mut self, frame: impl Into<Bytes>) {
        let mut frames = mem::take(self).into_frames();
        frames.insert(0, frame.into());
        self.body = Body::Frames(frames);
    }

    /// The message, out of a place where what is left means nothing any more: less work than a `mem::take`
    #[doc(hidden)]
    #[inline(always)]
    pub fn move_out(&mut self) -> Self {
        match &self.body {
            Body::Short(short) => Self::short(*short),
            Body::Frames(_) => mem::take(self),
        }
    }

    /// Takes the first frame, unless it is the only one
    pub fn pop_front(&mut self) -> Option<Bytes> {
        match &mut self.body {
            Body::Frames(frames) if frames.len() > 1 => Some(frames.remove(0)),
            _ => None,
        }
    }
}

/// The frames of a message, in order
#[derive(Clone, Debug)]
pub struct Frames<'a>(Rest<'a>);

#[derive(Clone, Debug)]
enum Rest<'a> {
    Short(Option<&'a [u8]>),
    Frames(slice::Iter<'a, Bytes>),
}

impl<'a> Iterator for Frames<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        match &mut self.0 {
            Rest::Short(frame) => frame.take(),
            Rest::Frames(frames) => frames.next().map(|frame| &frame[..]),
        }
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let left = match &self.0 {
            Rest::Short(frame) => frame.iter().len(),
            Rest::Frames(frames) => frames.len(),
        };
        (left, Some(left))
    }
}

impl DoubleEndedIterator for Frames<'_> {
    fn next_back(&mut self) -> Option<Self::Item> {
        match &mut self.0 {
            Rest::Short(frame) => frame.take(),
            Rest::Frames(frames) => frames.next_back().map(|frame| &frame[..]),
        }
    }
}

impl ExactSizeIterator for Frames<'_> {}

impl PartialEq for Message {
    fn eq(&self, other: &Self) -> bool {
        self.frames().eq(other.frames())
    }
}

impl Eq for Message {}

impl Hash for Message {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_usize(self.frame_count());
        self.frames().for_each(|frame| frame.hash(state));
    }
}

/// One empty frame
impl Default for Message {
    fn default() -> Self {
        Self::copy_from(&[])
    }
}

impl From<Bytes> for Message {
    fn from(frame: Bytes) -> Self {
        Self { body: Body::Frames(smallvec![frame]) }
    }
}

impl From<Vec<u8>> for Message {
    fn from(frame: Vec<u8>) -> Self {
        Short::copy_from(&frame).map_or_else(|| Bytes::from(frame).into(), Self::short)
    }
}

impl From<String> for Message {
    fn from(frame: String) -> Self {
        frame.into_bytes().into()
    }
}

impl From<&'static [u8]> for Message {
    fn from(frame: &'static [u8]) -> Self {
        Short::copy_from(frame).map_or_else(|| Bytes::from_static(frame).into(), Self::short)
    }
}

impl From<&'static str> for Message {
    fn from(frame: &'static str) -> Self {
        frame.as_bytes().into()
    }
}

impl<F: Into<Bytes>> FromIterator<F> for Message {
    fn from_iter<I: IntoIterator<Item = F>>(frames: I) -> Self {
        Self::multipart(frames)
    }
}

impl IntoIterator for Message {
    type Item = Bytes;
    type IntoIter = smallvec::IntoIter<[Bytes; 2]>;

    fn into_iter(self) -> Self::IntoIter {
        self.into_frames().into_iter()
    }
}

impl<'a> IntoIterator for &'a Message {
    type Item = &'a [u8];
    type IntoIter = Frames<'a>;

    fn into_iter(self) -> Self::IntoIter {
        self.frames()
    }
}

/// Short enough for a log line: the first frames' lengths and escaped beginnings
impl fmt::Debug for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Message[")?;
        for (index, frame) in self.frames().take(DEBUG_FRAMES).enumerate() {
            let separator = if index == 0 { "" } else { ", " };
            let beginning = frame.get(..DEBUG_OCTETS).unwrap_or(frame);
            let ellipsis = if frame.len() > DEBUG_OCTETS { "…" } else { "" };
            write!(f, "{separator}{}:\"{}{ellipsis}\"", frame.len(), beginning.escape_ascii())?;
        }
        if let Some(more @ 1..) = self.frame_count().checked_sub(DEBUG_FRAMES) {
            write!(f, ", {more} more")?;
        }
        f.write_str("]")
    }
}

/// Octets of the longest frame that a message keeps in itself: whole blocks, and room for the other form
pub(crate) const SHORT: usize = 5 * BLOCK;
/// Octets of a short frame's header in the framing of 2.0 and 3.x
pub(crate) const SHORT_HEADER: usize = 2;
/// Octets moved at once
const BLOCK: usize = 16;

const DEBUG_FRAMES: usize = 4;
const DEBUG_OCTETS: usize = 16;

#[cfg(test)]
mod tests {
    use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};

    use super::*;

    #[test]
    fn is_never_without_a_frame() {
        let none: [Bytes; 0] = [];
        let mut message = Message::multipart(none);
        assert!(message.frames().eq([b""]));
        assert_eq!(Message::from_frames(SmallVec::new()), message);
        assert_eq!(message.pop_front(), None);
        message.push_front("address");
        assert_eq!(message.first(), b"address");
        assert_eq!(message.pop_front(), Some(Bytes::from("address")));
        assert_eq!(message.pop_front(), None);
        assert_eq!((message.frame_count(), message.octets()), (1, 0));
    }

    #[test]
    fn frames_go_in_and_out_in_order() {
        let mut message: Message = ["a", "bc"].into_iter().collect();
        message.push_back("def");
        assert_eq!((message.frame_count(), message.octets()), (3, 6));
        assert_eq!((&message).into_iter().map(<[u8]>::len).collect::<Vec<_>>(), [1, 2, 3]);
        assert_eq!(message.clone().into_iter().collect::<Message>(), message);
        assert_eq!(message.into_frames().concat(), b"abcdef");
    }

    #[test]
    fn its_form_does_not_show() {
        assert_eq!(mem::size_of::<Message>(), SHORT + mem::size_of::<usize>());
        for len in [0, 1, 15, 16, 17, 64, SHORT - 1, SHORT, SHORT + 1, 300] {
            let octets = vec![b'x'; len];
            let (copied, shared) = (Message::copy_from(&octets), Message::from(Bytes::from(octets.clone())));
            assert_eq!(copied, shared);
            assert_eq!(copied.first(), octets);
            assert_eq!((copied.frame(0), copied.frame(1)), (Some(&octets[..]), None));
            assert_eq!((copied.octets(), copied.frame_count(), copied.frames().len()), (len, 1, 1));
            assert_eq!(copied.clone().into_frames(), shared.clone().into_frames());
            assert_eq!(matches!(copied.body(), Body::Short(_)), len <= SHORT);
            let hasher = BuildHasherDefault::<DefaultHasher>::new();
            assert_eq!(hasher.hash_one(&copied), hasher.hash_one(&shared));
        }
        assert_ne!(Message::copy_from(b"a"), Message::copy_from(b"b"));
        assert_ne!(Message::copy_from(b"ab"), Message::multipart(["a", "b"]));
    }

    #[test]
    fn debug_is_short_and_printable() {
        let message = Message::multipart(vec![Bytes::from("topic\0"), Bytes::from(vec![b'x'; 1000])]);
        assert_eq!(format!("{message:?}"), r#"Message[6:"topic\x00", 1000:"xxxxxxxxxxxxxxxx…"]"#);
        assert_eq!(
            format!("{:?}", Message::multipart(["", "", "", "", "", ""])),
            r#"Message[0:"", 0:"", 0:"", 0:"", 2 more]"#
        );
    }
}

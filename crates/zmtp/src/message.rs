//! Messages: one or more frames that travel and arrive together.

use std::fmt;

use bytes::Bytes;
use smallvec::{SmallVec, smallvec};

/// One or more frames, delivered whole or not at all
///
/// Frames are reference-counted slices: a clone copies no payload. A message never has zero frames, whichever
/// way it was made. Up to two frames need no allocation of their own.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Message {
    frames: SmallVec<[Bytes; 2]>,
}

impl Message {
    /// A message of one frame with a copy of `octets`
    pub fn copy_from(octets: &[u8]) -> Self {
        Bytes::copy_from_slice(octets).into()
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
        Self { frames }
    }

    /// The frames, at least one
    pub fn frames(&self) -> &[Bytes] {
        &self.frames
    }

    /// The first frame: the topic of a publication, the address of a routed message
    pub fn first(&self) -> &Bytes {
        // A message is never without frames, so the fallback is never seen.
        static NOTHING: Bytes = Bytes::new();
        self.frames.first().unwrap_or(&NOTHING)
    }

    /// The frames, at least one
    pub fn into_frames(self) -> SmallVec<[Bytes; 2]> {
        self.frames
    }

    /// How many frames, at least one
    pub fn frame_count(&self) -> usize {
        self.frames.len()
    }

    /// Octets of all frames together, without their headers on the wire
    pub fn octets(&self) -> usize {
        self.frames.iter().map(Bytes::len).sum()
    }

    /// Adds a last frame
    pub fn push_back(&mut self, frame: impl Into<Bytes>) {
        self.frames.push(frame.into());
    }

    /// Adds a first frame: an address in front of a body
    pub fn push_front(&mut self, frame: impl Into<Bytes>) {
        self.frames.insert(0, frame.into());
    }

    /// Takes the first frame, unless it is the only one
    pub fn pop_front(&mut self) -> Option<Bytes> {
        (self.frames.len() > 1).then(|| self.frames.remove(0))
    }
}

impl From<Bytes> for Message {
    fn from(frame: Bytes) -> Self {
        Self { frames: smallvec![frame] }
    }
}

impl From<Vec<u8>> for Message {
    fn from(frame: Vec<u8>) -> Self {
        Bytes::from(frame).into()
    }
}

impl From<String> for Message {
    fn from(frame: String) -> Self {
        Bytes::from(frame).into()
    }
}

impl From<&'static [u8]> for Message {
    fn from(frame: &'static [u8]) -> Self {
        Bytes::from_static(frame).into()
    }
}

impl From<&'static str> for Message {
    fn from(frame: &'static str) -> Self {
        Bytes::from_static(frame.as_bytes()).into()
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
        self.frames.into_iter()
    }
}

impl<'a> IntoIterator for &'a Message {
    type Item = &'a Bytes;
    type IntoIter = std::slice::Iter<'a, Bytes>;

    fn into_iter(self) -> Self::IntoIter {
        self.frames.iter()
    }
}

/// Short enough for a log line: the first frames' lengths and escaped beginnings
impl fmt::Debug for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Message[")?;
        for (index, frame) in self.frames.iter().take(DEBUG_FRAMES).enumerate() {
            let separator = if index == 0 { "" } else { ", " };
            let beginning = frame.get(..DEBUG_OCTETS).unwrap_or(frame);
            let ellipsis = if frame.len() > DEBUG_OCTETS { "…" } else { "" };
            write!(f, "{separator}{}:\"{}{ellipsis}\"", frame.len(), beginning.escape_ascii())?;
        }
        if let Some(more @ 1..) = self.frames.len().checked_sub(DEBUG_FRAMES) {
            write!(f, ", {more} more")?;
        }
        f.write_str("]")
    }
}

const DEBUG_FRAMES: usize = 4;
const DEBUG_OCTETS: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_never_without_a_frame() {
        let none: [Bytes; 0] = [];
        let mut message = Message::multipart(none);
        assert_eq!(message.frames(), [Bytes::new()]);
        assert_eq!(Message::from_frames(SmallVec::new()), message);
        assert_eq!(message.pop_front(), None);
        message.push_front("address");
        assert_eq!(message.first(), "address");
        assert_eq!(message.pop_front(), Some(Bytes::from("address")));
        assert_eq!(message.pop_front(), None);
        assert_eq!((message.frame_count(), message.octets()), (1, 0));
    }

    #[test]
    fn frames_go_in_and_out_in_order() {
        let mut message: Message = ["a", "bc"].into_iter().collect();
        message.push_back("def");
        assert_eq!((message.frame_count(), message.octets()), (3, 6));
        assert_eq!((&message).into_iter().map(Bytes::len).collect::<Vec<_>>(), [1, 2, 3]);
        assert_eq!(message.clone().into_iter().collect::<Message>(), message);
        assert_eq!(message.into_frames().concat(), b"abcdef");
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

//! Bodies on disk: each frame with its length in front, and a checksum over all of it.
//!
//! `(length u32 big-endian, octets)*`; no other file reads or writes these octets.

use bytes::{BufMut as _, Bytes, BytesMut};

/// A body as it is stored
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Stored {
    pub(crate) octets: Vec<u8>,
    pub(crate) checksum: u32,
}

impl Stored {
    /// Packs `frames`, each of which is shorter than 4 GiB
    pub(crate) fn pack(frames: &[Bytes]) -> Self {
        let mut octets = Vec::with_capacity(packed_len(frames));
        for frame in frames {
            let len = u32::try_from(frame.len()).unwrap_or(u32::MAX);
            octets.put_u32(len);
            octets.extend_from_slice(frame);
        }
        let checksum = crc32fast::hash(&octets);
        Self { octets, checksum }
    }
}

/// Octets that `frames` take when packed
pub(crate) fn packed_len(frames: &[Bytes]) -> usize {
    frames.iter().fold(0, |sum, frame| sum.saturating_add(frame.len()).saturating_add(4))
}

/// The frames of what was packed; `None` if they are not what `checksum` was made of
pub(crate) fn unpack(octets: &[u8], checksum: u32) -> Option<Vec<Bytes>> {
    if crc32fast::hash(octets) != checksum {
        return None;
    }
    let mut rest = BytesMut::from(octets).freeze();
    let mut frames = Vec::new();
    while !rest.is_empty() {
        let len = u32::from_be_bytes(*rest.first_chunk()?) as usize;
        if rest.len() - 4 < len {
            return None;
        }
        let _length = rest.split_to(4);
        frames.push(rest.split_to(len));
    }
    Some(frames)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_come_back_as_they_were() {
        for frames in [vec![], vec![""], vec!["a"], vec!["", "bc", ""]] {
            let frames: Vec<Bytes> = frames.into_iter().map(Bytes::from).collect();
            let stored = Stored::pack(&frames);
            assert_eq!(stored.octets.len(), packed_len(&frames));
            assert_eq!(unpack(&stored.octets, stored.checksum), Some(frames));
        }
    }

    #[test]
    fn what_was_altered_does_not_come_back() {
        let stored = Stored::pack(&[Bytes::from("hello"), Bytes::from("world")]);
        for at in 0..stored.octets.len() {
            let mut altered = stored.octets.clone();
            altered[at] ^= 1;
            assert_eq!(unpack(&altered, stored.checksum), None);
            // With a checksum that suits, the lengths are still judged
            unpack(&altered, crc32fast::hash(&altered));
            unpack(&altered[..at], crc32fast::hash(&altered[..at]));
        }
    }
}

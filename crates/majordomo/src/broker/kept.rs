//! Bodies that are kept for a while: what waits, and what may have to be sent a second time.
//!
//! A frame as it is received is a slice of a buffer that may be a thousand times as long, and holds on to all of it. So
//! what is kept is copied, frames behind each other in one piece, unless it is large.

use bytes::{BufMut, Bytes, BytesMut};

use crate::wire::Body;

/// A body that holds on to little more than its own octets
#[derive(Clone, Debug)]
pub(super) enum Kept {
    /// Each frame as its length, in 4 octets, and its octets
    Packed(Bytes),
    /// As they came
    Frames(Body),
}

impl Kept {
    pub(super) fn pack(body: &Body) -> Self {
        let octets: usize = body.iter().map(Bytes::len).sum();
        if octets > PACKED_LIMIT.max(body.len() * LARGE_FRAME) {
            return Self::Frames(body.clone());
        }
        let mut packed = BytesMut::with_capacity(octets + body.len() * LENGTH);
        for frame in body {
            // A frame of a packed body is shorter than the limit
            packed.put_u32(frame.len() as u32);
            packed.put_slice(frame);
        }
        Self::Packed(packed.freeze())
    }

    pub(super) fn unpack(&self) -> Body {
        let mut rest = match self {
            Self::Frames(body) => return body.clone(),
            Self::Packed(packed) => packed.clone(),
        };
        let mut body = Body::new();
        while let Some(length) = rest.first_chunk::<LENGTH>().map(|length| u32::from_be_bytes(*length) as usize) {
            let mut frame = rest.split_off(LENGTH);
            rest = frame.split_off(length.min(frame.len()));
            body.push(frame);
        }
        body
    }

    /// Octets of the frames
    pub(super) fn octets(&self) -> usize {
        match self {
            Self::Packed(packed) => packed.len(),
            Self::Frames(body) => octets(body),
        }
    }
}

/// What a body counts for in bounds: its octets, and a little for each frame
pub(super) fn octets(body: &Body) -> usize {
    body.iter().map(|frame| frame.len() + LENGTH).sum()
}

const LENGTH: usize = 4;
/// A longer body keeps the buffers it lies in, which are at most four times as long (256 KiB are read at once)
const PACKED_LIMIT: usize = 64 * 1024;
/// Many small frames would keep more than their octets: a slice takes 32
const LARGE_FRAME: usize = 4096;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_packed_comes_out_again() {
        for lengths in [&[][..], &[0], &[1], &[0, 0, 3], &[10, 0, 70_000], &[100; 20], &[10; 20_000]] {
            let body: Body = lengths.iter().map(|length| Bytes::from(vec![b'x'; *length])).collect();
            let kept = Kept::pack(&body);
            assert_eq!(kept.unpack(), body);
            assert_eq!(matches!(kept, Kept::Frames(_)), lengths.contains(&70_000));
            assert_eq!(kept.octets(), octets(&body));
        }
    }

    #[test]
    fn a_small_body_lets_its_buffer_go() {
        let mut buffer = BytesMut::zeroed(100_000);
        let body: Body = [buffer.split_to(10).freeze()].into_iter().collect();
        let kept = Kept::pack(&body);
        drop(body);
        buffer.reserve(10);
        assert!(buffer.try_into_mut_alone(), "nobody else has the buffer");
        assert_eq!(kept.unpack().len(), 1);
    }

    trait Alone {
        fn try_into_mut_alone(self) -> bool;
    }

    impl Alone for BytesMut {
        fn try_into_mut_alone(self) -> bool {
            self.freeze().try_into_mut().is_ok()
        }
    }
}

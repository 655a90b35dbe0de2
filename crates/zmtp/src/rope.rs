//! A rope of octets waiting to be written: small pieces copied together, large ones kept where they are.
//!
//! Invariant: `small[head..]` with each splice inserted in front of the small octet it names is the octet
//! sequence pushed and not yet dropped, in order. Splices are never empty and sorted by position.

use std::{
    collections::{VecDeque, vec_deque},
    io::IoSlice,
    mem,
};

use bytes::Bytes;

/// Payloads above this many octets are never copied, but written from where they are
///
/// Below it a copy costs less than another slice in the vectored write. Chosen, not measured; tunable by
/// measurement.
pub const COPY_LIMIT: usize = 4096;

#[derive(Debug, Default)]
pub(crate) struct Rope {
    small: Vec<u8>,
    /// Octets at the front of `small` that are no longer part of the rope
    head: usize,
    splices: VecDeque<Splice>,
}

#[derive(Debug)]
struct Splice {
    /// Index in `small` of the octet that comes right after this piece
    at: usize,
    octets: Bytes,
}

impl Rope {
    /// The small octets, to be appended to; make room first
    #[inline]
    pub(crate) fn small(&mut self) -> &mut Vec<u8> {
        &mut self.small
    }

    /// Makes room for that many small octets, by moving to the front before growing
    #[inline]
    pub(crate) fn reserve(&mut self, octets: usize) {
        if self.small.capacity() - self.small.len() < octets {
            self.make_room(octets);
        }
    }

    /// Appends a payload: by copy up to [`COPY_LIMIT`], else as a slice of its own
    #[inline(always)]
    pub(crate) fn push(&mut self, octets: &Bytes) {
        if octets.len() <= COPY_LIMIT {
            self.small.extend_from_slice(octets);
        } else {
            self.splices.push_back(Splice { at: self.small.len(), octets: octets.clone() });
        }
    }

    /// Appends what the other one holds, and leaves it empty
    pub(crate) fn append(&mut self, other: &mut Self) {
        self.reserve(other.small.len() - other.head);
        let (from, to) = (other.head, self.small.len());
        self.splices.extend(other.splices.drain(..).map(|splice| Splice { at: splice.at - from + to, ..splice }));
        self.small.extend_from_slice(other.small.get(from..).unwrap_or_default());
        other.clear();
    }

    /// The octets from `skip` on, if none of them are in splices
    pub(crate) fn contiguous(&self, skip: usize) -> Option<&[u8]> {
        if self.splices.is_empty() { self.small.get(self.head + skip..) } else { None }
    }

    /// Reads the rope from its front, by whoever knows which pieces were pushed how
    pub(crate) fn reader(&self) -> RopeReader<'_> {
        RopeReader { small: self.small.get(self.head..).unwrap_or_default(), splices: self.splices.iter() }
    }

    /// Fills `into` from the octet `skip` on, and says how many slices that took
    pub(crate) fn slices<'a>(&'a self, skip: usize, into: &mut [IoSlice<'a>]) -> usize {
        let mut pieces = self.pieces(skip);
        let mut filled = 0;
        for slot in into.iter_mut() {
            let Some(piece) = pieces.next() else { break };
            *slot = IoSlice::new(piece);
            filled += 1;
        }
        filled
    }

    /// Drops that many octets from the front; never cuts a splice in two
    pub(crate) fn drop_front(&mut self, mut octets: usize) {
        while octets > 0 {
            let run = self.splices.front().map_or(self.small.len(), |splice| splice.at) - self.head;
            if run >= octets {
                self.head += octets;
                break;
            }
            self.head += run;
            octets -= run;
            let Some(splice) = self.splices.pop_front() else {
                break;
            };
            debug_assert!(splice.octets.len() <= octets, "the front of a rope is dropped by whole messages");
            octets = octets.saturating_sub(splice.octets.len());
        }
        if self.head == self.small.len() && self.splices.is_empty() {
            self.clear();
        }
    }

    /// Takes `len` octets out of the rope that begin at `from`: the small ones, and the splices between them
    ///
    /// Costs a move of the `from` octets before them, so `from` should be small.
    pub(crate) fn take(&mut self, from: usize, len: usize) -> (Vec<u8>, VecDeque<Bytes>) {
        let (small_before, splices_before) = self.extent(0, 0, from);
        let (small_taken, splices_taken) = self.extent(small_before, splices_before, len);
        let start = self.head + small_before;
        let taken = self.small.get(start..start + small_taken).unwrap_or_default().to_vec();
        let pieces = self.splices.drain(splices_before..splices_before + splices_taken);
        let pieces = pieces.map(|splice| splice.octets).collect();
        // What stays in front moves up to close the gap.
        self.small.copy_within(self.head..start, self.head + small_taken);
        for splice in self.splices.iter_mut().take(splices_before) {
            splice.at += small_taken;
        }
        self.head += small_taken;
        if self.head == self.small.len() && self.splices.is_empty() {
            self.clear();
        }
        (taken, pieces)
    }

    /// Forgets everything; keeps the memory unless it had grown huge
    pub(crate) fn clear(&mut self) {
        self.head = 0;
        self.splices.clear();
        if self.small.capacity() > KEEP_LIMIT {
            self.small = Vec::new();
        } else {
            self.small.clear();
        }
        if self.splices.capacity() > KEEP_LIMIT / mem::size_of::<Splice>() {
            self.splices = VecDeque::new();
        }
    }

    /// Octets of memory held for small pieces
    #[cfg(test)]
    pub(crate) fn capacity(&self) -> usize {
        self.small.capacity()
    }

    #[cold]
    fn make_room(&mut self, octets: usize) {
        let len = self.small.len() - self.head;
        // Moving pays when it frees at least as much as it copies: every octet is then moved once on average.
        if self.head >= len {
            let head = mem::take(&mut self.head);
            self.small.copy_within(head.., 0);
            self.small.truncate(len);
            for splice in &mut self.splices {
                splice.at -= head;
            }
        }
        self.small.reserve(octets);
    }

    /// How many small octets and splices make up the `len` octets behind the first `small` octets and `splices`
    fn extent(&self, small: usize, splices: usize, len: usize) -> (usize, usize) {
        let start = self.head + small;
        let (mut position, mut pieces, mut left) = (start, 0, len);
        for splice in self.splices.iter().skip(splices) {
            let run = splice.at - position;
            if run >= left {
                break;
            }
            position = splice.at;
            left = (left - run).saturating_sub(splice.octets.len());
            pieces += 1;
        }
        (position + left - start, pieces)
    }

    /// The contiguous pieces from the octet `skip` on, none of them empty
    fn pieces(&self, mut skip: usize) -> impl Iterator<Item = &[u8]> {
        let ends = self.splices.iter().map(|splice| (splice.at, &splice.octets[..]));
        let ends = ends.chain([(self.small.len(), &[][..])]);
        let mut position = self.head;
        ends.flat_map(move |(at, splice)| {
            let run = self.small.get(position..at).unwrap_or_default();
            position = at;
            [run, splice]
        })
        .filter_map(move |piece| {
            let skipped = skip.min(piece.len());
            skip -= skipped;
            piece.get(skipped..).filter(|piece| !piece.is_empty())
        })
    }
}

/// Reads pieces in the order and the lengths that they were pushed in
#[derive(Debug)]
pub(crate) struct RopeReader<'a> {
    small: &'a [u8],
    splices: vec_deque::Iter<'a, Splice>,
}

/// A payload in a rope
#[derive(Clone, Copy, Debug)]
pub(crate) enum Piece<'a> {
    Copied(&'a [u8]),
    Shared(&'a Bytes),
}

impl<'a> RopeReader<'a> {
    /// The small octets that come next
    #[inline]
    pub(crate) fn small(&self) -> &'a [u8] {
        self.small
    }

    /// Takes that many small octets
    #[inline]
    pub(crate) fn take_small(&mut self, octets: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.small.split_at_checked(octets)?;
        self.small = rest;
        Some(taken)
    }

    /// Takes a payload of that length
    #[inline]
    pub(crate) fn take(&mut self, octets: usize) -> Option<Piece<'a>> {
        match octets {
            ..=COPY_LIMIT => self.take_small(octets).map(Piece::Copied),
            _ => self.splices.next().map(|splice| Piece::Shared(&splice.octets)),
        }
    }
}

impl<'a> Piece<'a> {
    #[inline]
    pub(crate) fn octets(self) -> &'a [u8] {
        match self {
            Self::Copied(octets) => octets,
            Self::Shared(octets) => octets,
        }
    }
}

/// Memory above this is given back when the rope runs empty; a burst must not be paid for for ever
const KEEP_LIMIT: usize = 1 << 20;

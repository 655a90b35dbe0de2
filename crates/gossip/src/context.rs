//! Sets of the numbers of writes: what of an owner's life has been seen, is known to a peer, is asked for.
//!
//! Numbers come nearly in order and nearly all of them come, so that a set is a few ranges, and mostly one.

use std::fmt;

use smallvec::SmallVec;

/// Numbers as ranges that are sorted, disjoint and not adjacent; both ends belong to a range
#[derive(Clone, Default, PartialEq, Eq, Hash)]
pub struct Ranges(SmallVec<[(u64, u64); 1]>);

impl Ranges {
    /// No number
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// All numbers from `first` to `last`
    #[must_use]
    pub fn of(first: u64, last: u64) -> Self {
        let mut ranges = Self::new();
        ranges.insert_range(first, last);
        ranges
    }

    /// Whether it has none
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// How many ranges it is
    #[must_use]
    pub fn range_count(&self) -> usize {
        self.0.len()
    }

    /// How many numbers it has
    #[must_use]
    pub fn count(&self) -> u64 {
        self.0.iter().fold(0, |sum: u64, (first, last)| sum.saturating_add(last - first).saturating_add(1))
    }

    /// Up to where it has all from 1 on; 0 if it hasn't 1
    #[must_use]
    pub fn upto(&self) -> u64 {
        self.0.first().filter(|(first, _)| *first <= 1).map_or(0, |(_, last)| *last)
    }

    /// The greatest number; 0 if it has none
    #[must_use]
    pub fn greatest(&self) -> u64 {
        self.0.last().map_or(0, |(_, last)| *last)
    }

    /// The ranges, least first
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = (u64, u64)> + ExactSizeIterator + '_ {
        self.0.iter().copied()
    }

    /// Whether it has this number
    #[must_use]
    pub fn contains(&self, number: u64) -> bool {
        let at = self.0.partition_point(|(_, last)| *last < number);
        self.0.get(at).is_some_and(|(first, _)| *first <= number)
    }

    /// Whether it has all of these
    #[must_use]
    pub fn contains_range(&self, first: u64, last: u64) -> bool {
        let at = self.0.partition_point(|(_, end)| *end < first);
        self.0.get(at).is_some_and(|(begin, end)| *begin <= first && last <= *end)
    }

    /// Adds a number; `false` if it was there
    pub fn insert(&mut self, number: u64) -> bool {
        if let Some((_, last)) = self.0.last_mut()
            && last.checked_add(1) == Some(number)
        {
            // The usual case: the next of a row
            *last = number;
            return true;
        }
        let is_new = !self.contains(number);
        if is_new {
            self.insert_range(number, number);
        }
        is_new
    }

    /// Whether a number can be added without more than `most` ranges
    #[must_use]
    pub fn has_room(&self, number: u64, most: usize) -> bool {
        self.0.len() < most
            || self.contains(number)
            || number.checked_sub(1).is_some_and(|below| self.contains(below))
            || number.checked_add(1).is_some_and(|above| self.contains(above))
    }

    /// Adds all numbers from `first` to `last`
    pub fn insert_range(&mut self, first: u64, last: u64) {
        if first > last {
            return;
        }
        // All ranges that overlap with it or are adjacent become one
        let begin = self.0.partition_point(|(_, end)| end.saturating_add(1) < first);
        let end = self.0.partition_point(|(start, _)| *start <= last.saturating_add(1));
        let Some(touched) = self.0.get(begin..end).filter(|touched| !touched.is_empty()) else {
            self.0.insert(begin, (first, last));
            return;
        };
        let merged = (
            touched.first().map_or(first, |(start, _)| first.min(*start)),
            touched.last().map_or(last, |(_, stop)| last.max(*stop)),
        );
        if let Some(place) = self.0.get_mut(begin) {
            *place = merged;
        }
        self.0.drain(begin + 1..end);
    }

    /// Takes all numbers from `first` to `last` away
    pub fn remove_range(&mut self, first: u64, last: u64) {
        if first > last {
            return;
        }
        let begin = self.0.partition_point(|(_, end)| *end < first);
        let end = self.0.partition_point(|(start, _)| *start <= last);
        let (Some((start, _)), Some((_, stop))) = (self.0.get(begin), end.checked_sub(1).and_then(|at| self.0.get(at)))
        else {
            return;
        };
        if begin >= end {
            return;
        }
        let below = (*start < first).then(|| (*start, first - 1));
        let above = (*stop > last).then(|| (last + 1, *stop));
        self.0.drain(begin..end);
        for range in [above, below].into_iter().flatten() {
            self.0.insert(begin, range);
        }
    }

    /// Adds all of another set
    pub fn extend(&mut self, other: &Self) {
        // One at a time is less work only where there are few: each may move all that is behind it
        if other.0.len() <= FEW || self.0.len() <= FEW && other.0.len() <= self.0.len() {
            return other.iter().for_each(|(first, last)| self.insert_range(first, last));
        }
        let mut merged = SmallVec::<[(u64, u64); 1]>::with_capacity(self.0.len() + other.0.len());
        let (mut mine, mut theirs) = (self.0.iter().copied().peekable(), other.0.iter().copied().peekable());
        loop {
            let next = match (mine.peek(), theirs.peek()) {
                (Some(a), Some(b)) if b < a => theirs.next(),
                (Some(_), _) => mine.next(),
                (None, _) => theirs.next(),
            };
            let Some((first, last)) = next else { break };
            match merged.last_mut() {
                Some((_, end)) if first <= end.saturating_add(1) => *end = last.max(*end),
                _ => merged.push((first, last)),
            }
        }
        self.0 = merged;
    }

    /// Takes all of another set away
    pub fn subtract(&mut self, other: &Self) {
        let (Some((least, _)), greatest) = (self.0.first().copied(), self.greatest()) else { return };
        let from = other.0.partition_point(|(_, last)| *last < least);
        let to = other.0.partition_point(|(first, _)| *first <= greatest);
        let Some(touching) = other.0.get(from..to) else { return };
        if touching.len() <= FEW {
            return touching.iter().for_each(|(first, last)| self.remove_range(*first, *last));
        }
        let mut left = SmallVec::<[(u64, u64); 1]>::new();
        let mut others = touching.iter().copied().peekable();
        for (mut first, last) in self.0.iter().copied() {
            let mut is_left = true;
            while let Some((from, to)) = others.peek().copied().filter(|(from, _)| *from <= last) {
                if to < first {
                    others.next();
                    continue;
                }
                if from > first {
                    left.push((first, from - 1));
                }
                if to >= last {
                    // It may take some of the next one, too
                    is_left = false;
                    break;
                }
                first = to + 1;
                others.next();
            }
            if is_left {
                left.push((first, last));
            }
        }
        self.0 = left;
    }

    /// What this has and the other hasn't
    #[must_use]
    pub fn without(&self, other: &Self) -> Self {
        let mut left = self.clone();
        left.subtract(other);
        left
    }

    /// What both have
    #[must_use]
    pub fn common(&self, other: &Self) -> Self {
        let mut both = Self::new();
        let (mut mine, mut theirs) = (self.0.iter().peekable(), other.0.iter().peekable());
        while let (Some((a, b)), Some((c, d))) = (mine.peek(), theirs.peek()) {
            let (first, last) = (*a.max(c), *b.min(d));
            if first <= last {
                both.0.push((first, last));
            }
            if b < d {
                mine.next();
            } else {
                theirs.next();
            }
        }
        both
    }

    /// Whether both have some number
    #[must_use]
    pub fn meets(&self, other: &Self) -> bool {
        let (mut mine, mut theirs) = (self.0.iter().peekable(), other.0.iter().peekable());
        while let (Some((a, b)), Some((c, d))) = (mine.peek(), theirs.peek()) {
            if a.max(c) <= b.min(d) {
                return true;
            }
            if b < d {
                mine.next()
            } else {
                theirs.next()
            };
        }
        false
    }

    /// Only the first `most` ranges
    pub fn truncate(&mut self, most: usize) {
        self.0.truncate(most);
    }

    /// Only its first `most` numbers
    pub fn truncate_count(&mut self, most: u64) {
        let mut left = most;
        for at in 0..self.0.len() {
            let Some((first, last)) = self.0.get_mut(at) else { break };
            let here = (*last - *first).saturating_add(1);
            if here > left {
                if left > 0 {
                    *last = *first + (left - 1);
                }
                self.0.truncate(at + usize::from(left > 0));
                return;
            }
            left -= here;
        }
    }

    /// Adds a range above all others, as a decoder finds them; `false` if it isn't above
    pub(crate) fn push(&mut self, first: u64, last: u64) -> bool {
        let is_above = first <= last && self.0.last().is_none_or(|(_, end)| end.checked_add(1) < Some(first));
        if is_above {
            self.0.push((first, last));
        }
        is_above
    }
}

impl fmt::Debug for Ranges {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.0.iter().map(|(first, last)| first..=last)).finish()
    }
}

/// So few are put in their places one by one
const FEW: usize = 4;
/// How many ranges a context may have: one from the first on, and 64 beyond. What would need more waits until gaps are filled
pub(crate) const MOST_RANGES: usize = 65;

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    #[derive(Clone, Debug)]
    enum Step {
        Insert(u64),
        InsertRange(u64, u64),
        RemoveRange(u64, u64),
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let number = 0..40_u64;
        let step = prop_oneof![
            number.clone().prop_map(Step::Insert),
            (number.clone(), 0..8_u64).prop_map(|(first, more)| Step::InsertRange(first, first + more)),
            (number, 0..8_u64).prop_map(|(first, more)| Step::RemoveRange(first, first + more)),
        ];
        proptest::collection::vec(step, 0..30)
    }

    fn build(steps: &[Step]) -> (Ranges, BTreeSet<u64>) {
        let (mut ranges, mut model) = (Ranges::new(), BTreeSet::new());
        for step in steps {
            match *step {
                Step::Insert(number) => assert_eq!(ranges.insert(number), model.insert(number)),
                Step::InsertRange(first, last) => {
                    ranges.insert_range(first, last);
                    model.extend(first..=last);
                }
                Step::RemoveRange(first, last) => {
                    ranges.remove_range(first, last);
                    model.retain(|number| !(first..=last).contains(number));
                }
            }
        }
        (ranges, model)
    }

    fn numbers(ranges: &Ranges) -> BTreeSet<u64> {
        let all = ranges.iter().collect::<Vec<_>>();
        assert!(all.windows(2).all(|pair| pair[0].1 + 1 < pair[1].0), "{ranges:?}");
        all.into_iter().flat_map(|(first, last)| first..=last).collect()
    }

    proptest! {
        #[test]
        fn is_a_set(mine in steps(), theirs in steps()) {
            let ((a, in_a), (b, in_b)) = (build(&mine), build(&theirs));
            prop_assert_eq!(&numbers(&a), &in_a);
            prop_assert_eq!(a.count(), in_a.len() as u64);
            prop_assert_eq!(numbers(&a.without(&b)), &in_a - &in_b);
            prop_assert_eq!(numbers(&a.common(&b)), &in_a & &in_b);
            prop_assert_eq!(a.meets(&b), !in_a.is_disjoint(&in_b));
            let mut both = a.clone();
            both.extend(&b);
            prop_assert_eq!(numbers(&both), &in_a | &in_b);
            for number in 0..50 {
                prop_assert_eq!(a.contains(number), in_a.contains(&number));
                let mut fuller = a.clone();
                fuller.insert(number);
                let most = a.range_count().max(1);
                prop_assert_eq!(a.has_room(number, most), fuller.range_count() <= most);
                let mut cut = a.clone();
                cut.truncate_count(number);
                prop_assert_eq!(numbers(&cut), in_a.iter().copied().take(number as usize).collect());
            }
        }
    }

    #[test]
    fn large_sets_are_walked_once() {
        let even = (1..=100_000).fold(Ranges::new(), |mut even, number| {
            even.insert(number * 4);
            even
        });
        let odd = (1..=100_000).fold(Ranges::new(), |mut odd, number| {
            odd.insert(number * 4 + 2);
            odd
        });
        let start = std::time::Instant::now();
        for _ in 0..10 {
            let mut both = even.clone();
            both.extend(&odd);
            assert_eq!(both.range_count(), 200_000);
            both.subtract(&odd);
            assert_eq!(both, even);
        }
        // Moving all behind each place takes minutes
        assert!(start.elapsed() < std::time::Duration::from_secs(20), "{:?}", start.elapsed());
    }

    #[test]
    fn has_no_trouble_with_the_greatest_numbers() {
        let mut ranges = Ranges::of(u64::MAX - 1, u64::MAX);
        assert!(!ranges.insert(u64::MAX));
        ranges.insert_range(0, u64::MAX);
        assert_eq!((ranges.range_count(), ranges.count()), (1, u64::MAX));
        ranges.remove_range(5, u64::MAX);
        assert_eq!(ranges, Ranges::of(0, 4));
        assert!(!ranges.push(5, 9) && ranges.push(6, 9) && !ranges.push(8, 12));
    }
}

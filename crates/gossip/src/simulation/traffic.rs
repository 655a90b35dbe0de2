//! What goes over the links: messages and octets, by kind.

use std::ops::{Add, Sub};

/// Messages, and their octets as they stand on the wire: with ZMTP's header of each, without TCP's and IP's
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Count {
    /// How many
    pub messages: u64,
    /// Of how many octets
    pub octets: u64,
}

/// What was sent, by the kind of message; what was lost on the way is in it
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    kinds: [Count; KINDS.len()],
}

impl Traffic {
    /// Notes a frame, and says how many octets it takes on the wire
    pub(super) fn note(&mut self, frame: &[u8]) -> u64 {
        // ZMTP 3: flags and a length of one octet or of eight (RFC 23)
        let octets = frame.len() as u64 + if frame.len() > 255 { 9 } else { 2 };
        let count = &mut self.kinds[kind(frame)];
        count.messages += 1;
        count.octets += octets;
        octets
    }

    /// Of one kind, as [`kinds`](Self::kinds) names it
    #[must_use]
    pub fn of(&self, name: &str) -> Count {
        self.kinds().find(|(kind, _)| *kind == name).map_or(Count::default(), |(_, count)| count)
    }

    /// Each kind that was sent
    pub fn kinds(&self) -> impl Iterator<Item = (&'static str, Count)> + '_ {
        KINDS.into_iter().zip(self.kinds).filter(|(_, count)| count.messages > 0)
    }

    /// All together
    #[must_use]
    pub fn total(&self) -> Count {
        self.kinds.iter().fold(Count::default(), |sum, count| sum + *count)
    }
}

impl Add for Count {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self { messages: self.messages + other.messages, octets: self.octets + other.octets }
    }
}

impl Sub for Count {
    type Output = Self;

    /// What came since
    fn sub(self, before: Self) -> Self {
        Self {
            messages: self.messages.saturating_sub(before.messages),
            octets: self.octets.saturating_sub(before.octets),
        }
    }
}

impl Sub for Traffic {
    type Output = Self;

    /// What came since
    fn sub(self, before: Self) -> Self {
        Self { kinds: std::array::from_fn(|kind| self.kinds[kind] - before.kinds[kind]) }
    }
}

/// The index in [`KINDS`] of what a frame is
fn kind(frame: &[u8]) -> usize {
    match frame {
        [0xaa, 0xa7, id, ..] if (1..KINDS.len() - 2).contains(&usize::from(*id)) => usize::from(*id),
        [0xaa, 0xa0, ..] => KINDS.len() - 2,
        _ => KINDS.len() - 1,
    }
}

/// Our own messages at the place of their ids (`crate::wire::tidings`), ZGP as one, and what is neither
const KINDS: [&str; 18] = [
    "", "hello", "digest", "buckets", "owners", "have", "want", "records", "live", "prune", "ping", "ack", "status",
    "shuffle", "probe", "bye", "zgp", "other",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_told_apart_and_counted_as_on_the_wire() {
        let mut traffic = Traffic::default();
        assert_eq!(traffic.note(&[0xaa, 0xa7, 7, 1]), 6);
        assert_eq!(traffic.note(&[0xaa, 0xa0, 1, 1]), 6);
        let before = traffic;
        let mut long = vec![0; 256];
        long[..3].copy_from_slice(&[0xaa, 0xa7, 15]);
        assert_eq!(traffic.note(&long), 265);
        traffic.note(&[0xaa, 0xa7, 16]);
        traffic.note(b"");
        let since: Vec<_> = (traffic - before).kinds().map(|(name, count)| (name, count.messages)).collect();
        assert_eq!(since, [("bye", 1), ("other", 2)]);
        assert_eq!(traffic.of("records"), Count { messages: 1, octets: 6 });
        assert_eq!(traffic.total(), Count { messages: 5, octets: 6 + 6 + 265 + 5 + 2 });
    }
}

//! What has to be true of a table at any time, for tests, the simulation and the fuzzer.

use super::digest::bucket_of;
use super::{Content, Table, is_reserved};

macro_rules! ensure {
    ($holds:expr, $($said:tt)+) => {
        if !$holds {
            return Err(format!($($said)+));
        }
    };
}

impl Table {
    /// Looks at everything
    ///
    /// # Errors
    /// What is not as it has to be.
    pub(crate) fn check(&self) -> Result<(), String> {
        let (mut octets, mut tombstones, mut visible, mut hidden, mut reserved, mut timers) = (0, 0, 0, 0, 0, 0);
        ensure!(self.by_key.len() == self.entries.len(), "{} keys, {} entries", self.by_key.len(), self.entries.len());
        for (slot, entry) in &self.entries {
            let key = &entry.key;
            ensure!(self.by_key.get(key) == Some(&(slot as u32)), "{key:?} isn't found");
            octets += entry.octets();
            match &entry.content {
                Content::Deleted { .. } => tombstones += 1,
                Content::Put { .. } if is_reserved(key) => reserved += 1,
                Content::Put { kept, .. } if self.is_shown(entry.life, *kept) => visible += 1,
                Content::Put { .. } => hidden += 1,
            }
            if let Some(until) = entry.until() {
                timers += 1;
                let of_kind = if entry.is_put() { &self.timers } else { &self.graves };
                ensure!(of_kind.contains(&(until, slot as u32)), "{key:?} has no timer");
            }
            let Some(life) = self.lives.get(entry.life as usize) else { return Err(format!("{key:?} has no life")) };
            ensure!(life.seen.contains(entry.seq), "{key:?} was never seen");
            ensure!(life.find(entry.seq) == Some(slot as u32), "{key:?} isn't in the index of its life");
        }
        let counted = (
            self.octets,
            self.tombstones,
            self.visible,
            self.hidden,
            self.reserved,
            self.timers.len() + self.graves.len(),
        );
        let found = (octets, tombstones, visible, hidden, reserved, timers);
        ensure!(counted == found, "counted {counted:?}, there are {found:?}");
        let (mut root, mut buckets, mut indexed) = (0_u64, [0_u64; 256], 0);
        ensure!(self.by_life.len() == self.lives.len(), "{} names, {} lives", self.by_life.len(), self.lives.len());
        for (index, life) in &self.lives {
            let name = (life.owner, life.incarnation);
            ensure!(self.by_life.get(&name) == Some(&(index as u32)), "{name:?} isn't found");
            let numbers = life.numbers().collect::<Vec<_>>();
            ensure!(numbers.windows(2).all(|pair| pair[0].0 < pair[1].0), "the index of {name:?} is out of order");
            ensure!(numbers.len() == life.entries(), "the index of {name:?} is counted wrongly");
            indexed += numbers.len();
            let hashed = numbers.iter().filter_map(|(seq, slot)| {
                self.entries.get(*slot as usize).filter(|entry| entry.is_hashed()).map(|_| *seq)
            });
            ensure!(life.live() == life.hash_of(hashed), "the hash of {name:?} is wrong");
            ensure!(life.sum == life.digest(), "the digest of {name:?} is old");
            root = root.wrapping_add(life.sum);
            if let Some(sum) = buckets.get_mut(usize::from(bucket_of(life.owner))) {
                *sum = sum.wrapping_add(life.sum);
            }
        }
        ensure!(indexed == self.entries.len(), "{indexed} in indexes, {} entries", self.entries.len());
        ensure!(root == self.root && buckets == *self.buckets, "the digests are wrong");
        let of_owners = self
            .totals
            .iter()
            .fold((0, 0, 0), |sum, (_, totals)| (sum.0 + totals.tuples, sum.1 + totals.octets, sum.2 + totals.lives));
        let of_all = (visible + hidden + reserved, octets, self.lives.len());
        ensure!(of_owners == of_all, "owners have {of_owners:?}, there are {of_all:?}");
        Ok(())
    }
}

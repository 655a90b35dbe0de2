//! Integration tests of the store.
//!
//! * `queue`: what becomes of entries, under a virtual clock
//! * `model`: the queue against a model of it, with random operations
//! * `disk`: full, damaged and truncated files, owners and guests
//! * `crash`: a process killed under load, again and again

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that can't go on has failed")]

mod crash;
mod disk;
mod model;
mod queue;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tempfile::TempDir;
use tidings_store::{Durability, ManualClock, NewEntry, Store, StoreOptions, Timestamp};

/// A store in a directory of its own, under a clock that stands
struct Stage {
    clock: ManualClock,
    options: StoreOptions,
    directory: TempDir,
}

impl Stage {
    fn new() -> Self {
        Self::with(StoreOptions::default())
    }

    fn with(options: StoreOptions) -> Self {
        let clock = ManualClock::new(Timestamp::from_millis(1_700_000_000_000));
        let options = options.durability(Durability::Memory);
        Self { clock, options, directory: tempfile::tempdir().unwrap() }
    }

    fn open(&self) -> Store {
        Store::open_with(self.directory.path(), self.options.clone(), Arc::new(self.clock.clone())).unwrap()
    }

    fn pass(&self, time: Duration) {
        self.clock.advance(time);
    }
}

fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn entry(text: &'static str) -> NewEntry {
    NewEntry::new([text])
}

fn text(frames: &[Bytes]) -> String {
    frames.iter().map(|frame| String::from_utf8_lossy(frame).into_owned()).collect::<Vec<_>>().join("|")
}

//! Durable queues and small tables on disk.
//!
//! A [`Store`] is a directory that one process owns. Entries are put into its queues and acknowledged when they are as
//! durable as its [`Durability`] says, handed out with a lease, and settled: acknowledged, completed with a result that is
//! kept, or sent back to be tried again, until they are dead letters with a cause. An [`Inspector`] is what other
//! processes have of it.
//!
//! # Why SQLite
//!
//! The best-proven durability there is, one file that any administrator can open, transactions over queues and
//! tables, readers in other processes, a check of its own; and it was the fastest of those that were tried when it was chosen.
//! That trial had tables simpler than ours, 256-octet messages, 256 producers and an idle machine with two cores; it was
//! not repeated with this crate:
//!
//! | engine | messages a second, in the trial | why not |
//! |---|---|---|
//! | bare append and fdatasync (the limit) | 540,000 | |
//! | **SQLite**, WAL | 390,000 to 480,000 | |
//! | fjall 3.1 | 360,000 | young; a damaged batch in mid-journal drops acknowledged ones behind it (#311) |
//! | redb 4.4 | 250,000 | half the rate; large values take twice their space |
//! | LMDB | 400,000 | fixed map, unsafe to open |
//!
//! What this crate adds to each entry (its state, three indices, a checksum) makes it slower than that. As `cargo xtask bench
//! service` measured it, medians of five: 158,000 stored a second with 1,024 under way, 3,500 with one, where the disk alone
//! took 6,100 (`bench/results/service-2026-11-21-1804.md`; the disk in a run of its own right after). The example
//! `queue_speed` has all durabilities beside the bare append.
//!
//! # How it is durable
//!
//! One thread owns the connection and commits all that has gathered as one transaction, in WAL mode; then it syncs the log by
//! fdatasync, and only then answers. SQLite's own `synchronous = FULL` does the same by fsync, as its bundled build
//! knows no other: that commits the file system's journal each time, and 256 producers stored a fifth less. A
//! disk that fails to sync ends the store until it is opened anew. Checkpoints have a thread of their own.

mod batch;
mod checkpoint;
mod entry;
pub use entry::{Cause, Enqueued, Entry, Found, Leased, NewEntry, Retry, Settled, State, Ticket};
mod error;
pub use error::StoreError;
mod frames;
mod fsck;
pub use fsck::{FsckReport, Problem, ProblemKind, Progress, Repair, repair};
mod inspector;
pub use inspector::Inspector;
mod options;
pub use options::{Backoff, Durability, DurabilityError, StoreOptions};
mod pending;
pub use pending::Pending;
mod queue;
pub use queue::Queue;
mod schema;
mod store;
pub use store::{Changes, Store, StoreStats};
mod table;
pub use table::Table;
mod time;
pub use time::{Clock, ManualClock, SystemClock, Timestamp};
mod view;
pub use view::{EntryKey, EntryView, Explanation, QueueStats};
mod writer;

pub use uuid::Uuid;

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
//! tables, readers in other processes, a check of its own; and it is fast enough. With a simpler table than ours, 256-octet
//! messages and 256 producers, each commit on disk before its acknowledgements, on an otherwise idle machine with two cores:
//!
//! | engine | messages a second | why not |
//! |---|---|---|
//! | bare append and fdatasync (the limit) | 540,000 | |
//! | **SQLite**, WAL | 390,000 to 480,000 | |
//! | fjall 3.1 | 360,000 | young; a damaged batch in mid-journal drops acknowledged ones behind it (#311) |
//! | redb 4.4 | 250,000 | half the rate; large values take twice their space |
//! | LMDB | 400,000 | fixed map, unsafe to open |
//!
//! What this crate adds to each entry (its state, three indices, a checksum) takes about 6 µs of one core. The example
//! `queue_speed` measures it beside the bare append, in one run:
//!
//! | stored a second | 1 producer | 16 | 256 |
//! |---|---|---|---|
//! | `fsync`, where syncing costs nothing (tmpfs): what the code takes | 13,400 | 109,000 | 147,000 |
//! | `memory`, there | 15,600 | 137,000 | 174,000 |
//! | `fsync` on a busy disk and busy cores, median of three | 700 | 10,500 | 97,000 |
//! | bare append and fdatasync, in the same runs | 4,800 | 18,000 | 160,000 |
//!
//! The busy machine had a load of eleven on its two cores, from compilers that also wrote to the disk: compare rows,
//! do not quote them.
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

//! Durable queues and small tables on disk.
//!
//! A [`Store`] is a directory that one process owns. Entries are put into its queues and acknowledged when they are as
//! durable as its [`Durability`] says, handed out with a lease, and settled: acknowledged, completed with a result that is
//! kept, or sent back to be tried again, until they are dead letters with a cause. An [`Inspector`] is what other
//! processes have of it.

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

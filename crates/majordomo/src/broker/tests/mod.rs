//! The broker's promises as short stories.

mod bounds;
mod exchange;
mod keys;
mod liveness;
mod local;
mod mmi;
mod operations;
mod stage;
mod strangers;

//! Where the store is, and how its errors end a command.

use std::path::PathBuf;

use clap::Args;
use tidings_store::{EntryKey, EntryView, Inspector, QueueStats, State, StoreError, Timestamp, Uuid};

use crate::cli::output::escape;
use crate::cli::{Exit, Failure, nearest};
use crate::config::{Sources, store_directory};

/// Which store a command is about
#[derive(Args, Clone, Debug)]
pub(crate) struct Place {
    /// The store [default: what the configuration says, else the state directory's, as `tidings serve` has it]
    #[arg(long, value_name = "DIRECTORY")]
    store: Option<PathBuf>,
    /// The daemon's configuration, for its store.directory
    #[arg(long, short, value_name = "FILE", env = "TIDINGS_CONFIG")]
    config: Option<PathBuf>,
}

impl Place {
    /// The directory
    ///
    /// # Errors
    /// The configuration is wrong, or nothing says where state is kept.
    pub(super) fn directory(&self) -> Result<PathBuf, Failure> {
        if let Some(store) = &self.store {
            return Ok(store.clone());
        }
        store_directory(Sources::new(self.config.clone()).load()?.store_directory.value.0)
    }

    /// Opens it beside the daemon, which may run or not
    ///
    /// # Errors
    /// There is none, or it is damaged.
    pub(super) fn open(&self) -> Result<Inspector, Failure> {
        Inspector::open(self.directory()?).map_err(failure)
    }
}

/// The exit code and the name that programs see
pub(super) fn failure(error: StoreError) -> Failure {
    let (exit, code) = match &error {
        StoreError::Missing(_) => (Exit::Usage, "no-store"),
        StoreError::Damaged { .. } | StoreError::DamagedEntry { .. } => (Exit::Data, "damaged"),
        StoreError::InUse { .. } => (Exit::Refused, "in-use"),
        StoreError::Busy(_) => (Exit::Refused, "busy"),
        StoreError::Foreign(_) | StoreError::TooNew { .. } => (Exit::Usage, "no-store"),
        _ => (Exit::Usage, "store"),
    };
    Failure::new(exit, code, error)
}

/// The queue of this name
///
/// # Errors
/// There is none (1).
pub(super) fn find_queue(store: &Inspector, name: &str) -> Result<QueueStats, Failure> {
    if let Some(queue) = store.queue(name.as_bytes()).map_err(failure)? {
        return Ok(queue);
    }
    let missing = Failure::new(Exit::Negative, "no-such-queue", format!("there is no queue '{name}'"));
    let queues = store.queues().map_err(failure)?;
    // Names may be any octets: then as `ls` writes them
    if let Some(queue) = queues.iter().find(|queue| escape(&queue.name) == name) {
        return Ok(queue.clone());
    }
    let known: Vec<String> = queues.iter().map(|queue| escape(&queue.name)).collect();
    Err(match nearest(name, known.iter().map(String::as_str)) {
        Some(near) => missing.hint(format!("did you mean '{near}'?")),
        None => missing.hint("`tidings queue ls` lists those there are; a queue comes with its first entry"),
    })
}

/// Reads a number, or a UUID in any of its forms
///
/// # Errors
/// Says what is legal.
pub(super) fn entry_key(text: &str) -> Result<EntryKey, String> {
    if text.len() < 32
        && let Ok(seq) = text.parse()
    {
        return Ok(EntryKey::Seq(seq));
    }
    let id = Uuid::try_parse(text).map(EntryKey::Id);
    id.map_err(|_unreadable| {
        format!("'{text}' is no entry: write its number or its UUID, as `tidings queue peek` shows them")
    })
}

/// An entry of this queue
///
/// # Errors
/// There is none (1).
pub(super) fn missing_entry(queue: &str, key: EntryKey, found: Option<EntryView>) -> Result<EntryView, Failure> {
    let name = match key {
        EntryKey::Seq(seq) => seq.to_string(),
        EntryKey::Id(id) => id.to_string(),
    };
    match found {
        Some(entry) if entry.queue == queue.as_bytes() || escape(&entry.queue) == queue => Ok(entry),
        Some(entry) => {
            let missing = Failure::new(Exit::Negative, "no-such-entry", format!("entry {name} is not in '{queue}'"));
            Err(missing.hint(format!("it is in '{}'", escape(&entry.queue))))
        }
        None => {
            let missing = Failure::new(Exit::Negative, "no-such-entry", format!("'{queue}' has no entry {name}"));
            Err(missing.hint("it was acknowledged, closed, purged, or its time is over"))
        }
    }
}

/// Reads a state
pub(super) fn state(text: &str) -> Result<State, String> {
    State::ALL.into_iter().find(|state| state.name() == text).ok_or_else(|| {
        let names = State::ALL.map(State::name);
        let near = nearest(text, names).map(|near| format!("; did you mean '{near}'?")).unwrap_or_default();
        format!("'{text}' is no state: write {}{near}", names.join(", "))
    })
}

/// A moment as RFC 3339 in UTC
pub(super) fn moment(at: Timestamp) -> String {
    let millis = i64::try_from(at.as_millis()).unwrap_or(i64::MAX);
    match jiff::Timestamp::from_millisecond(millis) {
        Ok(at) => format!("{at:.3}"),
        // Beyond the year 9999
        Err(_) => "never".to_owned(),
    }
}

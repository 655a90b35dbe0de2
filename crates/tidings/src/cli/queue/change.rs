//! What operators do to entries: `queue dead` and `queue purge`.

use std::io::IsTerminal as _;

use clap::Args;
use serde_json::{Value, json};
use tidings_store::{EntryKey, EntryView, Inspector, State, Timestamp};

use super::entry::{entry_json, frames_text};
use super::list::short;
use super::place::{Place, entry_key, failure, find_queue, missing_entry, state};
use crate::cli::output::escape;
use crate::cli::units::count;
use crate::cli::{Exit, Failure, Talk, printed, table};

/// What `queue dead` is given
#[derive(Args, Debug)]
pub(crate) struct DeadArgs {
    #[command(flatten)]
    place: Place,
    /// The queue; without it the dead letters of all
    queue: Option<String>,
    /// Have them begin anew, with all their attempts: all of the queue, or the one of this number or UUID
    #[arg(long, value_name = "ENTRY", value_parser = entry_key, num_args = 0..=1, requires = "queue")]
    requeue: Option<Option<EntryKey>>,
    /// At most so many lines for each queue
    #[arg(long, short = 'n', value_name = "N", default_value_t = 100)]
    count: usize,
}

/// What `queue purge` is given
#[derive(Args, Debug)]
pub(crate) struct PurgeArgs {
    #[command(flatten)]
    place: Place,
    /// The queue
    queue: String,
    /// Which entries: waiting, leased, done, dead; repeatable
    #[arg(long, value_name = "STATE", value_parser = state, required_unless_present = "entry", conflicts_with = "entry")]
    state: Vec<State>,
    /// Only the one of this number or UUID
    #[arg(long, value_name = "ENTRY", value_parser = entry_key)]
    entry: Option<EntryKey>,
    /// Ask nobody
    #[arg(long)]
    yes: bool,
}

/// `tidings queue dead`
///
/// # Errors
/// No such queue or dead letter (1), no store (2), a damaged one (7).
pub(super) fn dead(args: &DeadArgs, talk: Talk) -> Result<(), Failure> {
    let store = args.place.open()?;
    let queues = match &args.queue {
        Some(name) => vec![find_queue(&store, name)?],
        None => store.queues().map_err(failure)?,
    };
    if let (Some(which), Some(queue), [found]) = (&args.requeue, &args.queue, &queues[..]) {
        return requeue(&store, queue, &found.name, *which, talk);
    }
    let now = store.now().map_err(failure)?;
    let (mut rows, mut left_out, mut entries) = (Vec::new(), 0, Vec::new());
    for queue in &queues {
        let found = store.entries(&queue.name, Some(State::Dead), 0, args.count).map_err(failure)?;
        left_out += queue.dead.saturating_sub(found.len() as u64);
        match talk.json {
            true => entries.extend(found.iter().map(|entry| entry_json(entry, now))),
            false => rows.extend(found.iter().map(|entry| row(entry, now))),
        }
    }
    if talk.json {
        return printed(talk.data(json!({ "ok": true, "dead": entries, "left_out": left_out }))).map(drop);
    }
    if rows.is_empty() {
        talk.say("no dead letters");
        return Ok(());
    }
    let head = ["QUEUE", " ENTRY", " ATTEMPTS", " DEAD FOR", "CAUSE", "LAST FAILURE", "BODY"];
    if !printed(talk.data(table::layout(&head, &rows)))? {
        return Ok(());
    }
    if left_out > 0 {
        talk.say(format_args!("{left_out} more; --count N shows more of them"));
    }
    Ok(())
}

fn row(entry: &EntryView, now: Timestamp) -> Vec<String> {
    vec![
        escape(&entry.queue),
        entry.seq.to_string(),
        format!("{}/{}", entry.attempts, entry.max_attempts),
        short(now.since(entry.changed_at)),
        entry.cause.map_or("unknown", |cause| cause.name()).to_owned(),
        entry.note.as_deref().map(|note| escape(note.as_bytes())).filter(|note| !note.is_empty()).unwrap_or("-".into()),
        frames_text(entry.body.as_deref(), false),
    ]
}

fn requeue(store: &Inspector, queue: &str, name: &[u8], which: Option<EntryKey>, talk: Talk) -> Result<(), Failure> {
    let back = match which {
        Some(key) => {
            let entry = missing_entry(queue, key, store.entry(key).map_err(failure)?)?;
            if !store.requeue_one(name, entry.seq).map_err(failure)? {
                let message = format!("entry {} is no dead letter: it is {}", entry.seq, entry.state);
                return Err(Failure::new(Exit::Negative, "not-dead", message));
            }
            1
        }
        None => {
            let back = store.requeue(name, |back| talk.progress(format_args!("{back} put back")));
            talk.progress_done();
            back.map_err(failure)?
        }
    };
    told(talk, json!({ "ok": true, "queue": queue, "requeued": back }), || {
        format!("{} of '{queue}' will be tried again", count(back, "dead letter"))
    })
}

/// `tidings queue purge`
///
/// # Errors
/// No such queue or entry, or not wanted after all (1), no store (2), a damaged one (7).
pub(super) fn purge(args: &PurgeArgs, talk: Talk) -> Result<(), Failure> {
    let store = args.place.open()?;
    let queue = find_queue(&store, &args.queue)?;
    let name = &queue.name[..];
    if let Some(key) = args.entry {
        let entry = missing_entry(&args.queue, key, store.entry(key).map_err(failure)?)?;
        confirm(args, &format!("entry {}, which is {}", entry.seq, entry.state), talk)?;
        let gone = u64::from(store.purge_one(name, entry.seq).map_err(failure)?);
        return told(talk, json!({ "ok": true, "queue": args.queue, "purged": gone }), || {
            format!("{} of '{}' deleted", entries(gone), args.queue)
        });
    }
    let mut states = args.state.clone();
    states.sort_unstable();
    states.dedup();
    let all: u64 = states.iter().map(|state| queue.count(*state)).sum();
    let names: Vec<&str> = states.iter().map(|state| state.name()).collect();
    if all > 0 {
        confirm(args, &format!("{} ({})", entries(all), names.join(", ")), talk)?;
    }
    let (mut gone, mut by_state) = (0, serde_json::Map::new());
    for state in states {
        let before = gone;
        let some = store.purge(name, state, |some| talk.progress(format_args!("{} of {all} deleted", before + some)));
        talk.progress_done();
        let some = some.map_err(failure)?;
        by_state.insert(state.name().to_owned(), some.into());
        gone += some;
    }
    told(talk, json!({ "ok": true, "queue": args.queue, "purged": gone, "by_state": by_state }), || {
        format!("{} of '{}' deleted", entries(gone), args.queue)
    })
}

/// What was done, for programs as data and for people as talk
fn told(talk: Talk, object: Value, words: impl FnOnce() -> String) -> Result<(), Failure> {
    match talk.json {
        true => printed(talk.data(object)).map(drop),
        false => {
            talk.say(words());
            Ok(())
        }
    }
}

fn entries(number: u64) -> String {
    match number {
        1 => "1 entry".to_owned(),
        _ => format!("{number} entries"),
    }
}

/// Asks whoever sits there
fn confirm(args: &PurgeArgs, what: &str, talk: Talk) -> Result<(), Failure> {
    if args.yes {
        return Ok(());
    }
    if !(std::io::stdin().is_terminal() && std::io::stderr().is_terminal()) {
        let failure = Failure::usage(format!("nobody is there to confirm that {what} of '{}' be deleted", args.queue));
        return Err(failure.hint("say --yes"));
    }
    talk.always(format_args!("delete {what} of '{}'? Nothing brings them back. [y/N]", args.queue));
    let mut answer = String::new();
    let read = std::io::stdin().read_line(&mut answer);
    match read.is_ok() && matches!(answer.trim(), "y" | "Y" | "yes") {
        true => Ok(()),
        false => Err(Failure::new(Exit::Negative, "not-confirmed", "nothing was deleted")),
    }
}

pub(super) const DEAD: &str = "\
Examples:
  tidings queue dead                               of all queues, with their causes
  tidings queue dead dbmanager --requeue           all of one queue are tried again
  tidings queue dead dbmanager --requeue 17        one of them is
  tidings queue dead --json | jq -r '.dead[] | [.entry, .cause, .note] | @tsv'";

pub(super) const PURGE: &str = "\
Examples:
  tidings queue purge dbmanager --state dead       asks first, on a terminal
  tidings queue purge dbmanager --state waiting --state dead --yes
  tidings queue purge dbmanager --entry 17 --yes";

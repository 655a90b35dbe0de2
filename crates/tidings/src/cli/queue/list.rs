//! `queue ls` and `queue show`.

use clap::Args;
use serde_json::{Value, json};
use tidings_store::{EntryKey, QueueStats, State, Timestamp};

use super::entry::{about, entry_json};
use super::place::{Place, entry_key, failure, find_queue, missing_entry, moment};
use crate::cli::output::{escape, json_frame};
use crate::cli::units::{display_duration, display_octets};
use crate::cli::{Failure, Talk, printed, table};

/// What `queue ls` is given
#[derive(Args, Debug)]
pub(crate) struct ListArgs {
    #[command(flatten)]
    place: Place,
}

/// What `queue show` is given
#[derive(Args, Debug)]
pub(crate) struct ShowArgs {
    #[command(flatten)]
    place: Place,
    /// The queue
    queue: String,
    /// One of its entries: its number or UUID
    #[arg(value_parser = entry_key)]
    entry: Option<EntryKey>,
}

/// `tidings queue ls`
///
/// # Errors
/// No store (2), a damaged one (7).
pub(super) fn ls(args: &ListArgs, talk: Talk) -> Result<(), Failure> {
    let store = args.place.open()?;
    let (queues, now) = (store.queues().map_err(failure)?, store.now().map_err(failure)?);
    if talk.json {
        let queues: Vec<Value> = queues.iter().map(|queue| queue_json(queue, now)).collect();
        return printed(talk.data(json!({ "ok": true, "queues": queues }))).map(drop);
    }
    if queues.is_empty() {
        talk.say("no queues; `tidings svc call SERVICE --durable` stores a request");
        return Ok(());
    }
    let row = |queue: &QueueStats| {
        let counts = State::ALL.map(|state| queue.count(state).to_string());
        let ages = [age(queue.oldest, now), next(queue, now)];
        let octets = [octets(queue.octets)];
        [escape(&queue.name)].into_iter().chain(counts).chain(octets).chain(ages).collect()
    };
    let rows: Vec<Vec<String>> = queues.iter().map(row).collect();
    let head = ["QUEUE", " WAITING", " LEASED", " DONE", " DEAD", " SIZE", " OLDEST", " NEXT DUE"];
    printed(talk.data(table::layout(&head, &rows))).map(drop)
}

/// `tidings queue show`
///
/// # Errors
/// No such queue or entry (1), no store (2), a damaged one (7).
pub(super) fn show(args: &ShowArgs, talk: Talk) -> Result<(), Failure> {
    let store = args.place.open()?;
    let now = store.now().map_err(failure)?;
    let text = match args.entry {
        Some(key) => {
            let entry = missing_entry(&args.queue, key, store.entry(key).map_err(failure)?)?;
            match talk.json {
                true => json!({ "ok": true, "entry": entry_json(&entry, now) }).to_string(),
                false => about(&entry, now),
            }
        }
        None => {
            let queue = find_queue(&store, &args.queue)?;
            match talk.json {
                true => json!({ "ok": true, "queue": queue_json(&queue, now) }).to_string(),
                false => about_queue(&queue, now),
            }
        }
    };
    printed(talk.data(text)).map(drop)
}

fn about_queue(queue: &QueueStats, now: Timestamp) -> String {
    let rows = [
        ("queue", escape(&queue.name)),
        ("waiting", format!("{}{}", queue.waiting, with_age(queue, now))),
        ("leased", queue.leased.to_string()),
        ("done", queue.done.to_string()),
        ("dead", queue.dead.to_string()),
        ("size", octets(queue.octets)),
        ("next due", next(queue, now)),
    ];
    rows.map(|(name, value)| format!("{name:<10}{value}")).join("\n")
}

fn with_age(queue: &QueueStats, now: Timestamp) -> String {
    queue.oldest.map(|_| format!(", the oldest for {}", age(queue.oldest, now))).unwrap_or_default()
}

fn age(of: Option<Timestamp>, now: Timestamp) -> String {
    of.map_or_else(|| "-".to_owned(), |of| short(now.since(of)))
}

fn next(queue: &QueueStats, now: Timestamp) -> String {
    match queue.next_due {
        None => "-".to_owned(),
        Some(due) if due <= now => "now".to_owned(),
        Some(due) => format!("in {}", short(due.since(now))),
    }
}

/// A duration without what nobody reads in a table: milliseconds above a second, seconds above an hour
pub(super) fn short(time: std::time::Duration) -> String {
    let seconds = time.as_secs();
    display_duration(match seconds {
        0 => time,
        1..3600 => std::time::Duration::from_secs(seconds),
        _ => std::time::Duration::from_secs(seconds - seconds % 60),
    })
}

fn octets(octets: u64) -> String {
    // Whole units only: beyond ten of one, the next smaller says nothing
    let mut power = 0;
    while octets >> (10 * (power + 1)) >= 10 && power < 3 {
        power += 1;
    }
    display_octets((octets >> (10 * power)) << (10 * power))
}

fn queue_json(queue: &QueueStats, now: Timestamp) -> Value {
    json!({
        "queue": json_frame(&queue.name),
        "waiting": queue.waiting,
        "leased": queue.leased,
        "done": queue.done,
        "dead": queue.dead,
        "octets": queue.octets,
        "oldest": queue.oldest.map(moment),
        "oldest_seconds": queue.oldest.map(|oldest| now.since(oldest).as_secs_f64()),
        "due": queue.next_due.is_some_and(|due| due <= now),
        "next_due": queue.next_due.filter(|due| *due > now).map(moment),
    })
}

pub(super) const LS: &str = "\
Examples:
  tidings queue ls
  tidings queue ls --store /var/lib/tidings/store
  tidings queue ls --json | jq '.queues[] | select(.dead > 0)'";

pub(super) const SHOW: &str = "\
Examples:
  tidings queue show dbmanager
  tidings queue show dbmanager 17
  tidings queue show dbmanager 019352a7f2b07cc3a1d90d3c5a4ef001 --json | jq .entry.body";

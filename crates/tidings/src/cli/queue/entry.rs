//! Single entries: `queue peek` and `queue explain`, and how an entry looks.

use bytes::Bytes;
use clap::Args;
use serde_json::{Value, json};
use tidings_store::{EntryKey, EntryView, State, Timestamp};

use super::list::short;
use super::place::{Place, entry_key, failure, find_queue, missing_entry, moment, state};
use crate::cli::output::{escape, json_frame};
use crate::cli::{Failure, Talk, printed, table};

/// What `queue peek` is given
#[derive(Args, Debug)]
pub(crate) struct PeekArgs {
    #[command(flatten)]
    place: Place,
    /// The queue
    queue: String,
    /// At most so many entries
    #[arg(long, short = 'n', value_name = "N", default_value_t = 10)]
    count: usize,
    /// Only entries in this state: waiting, leased, done, dead
    #[arg(long, value_name = "STATE", value_parser = state)]
    state: Option<State>,
    /// Only entries after this number, for the next page
    #[arg(long, value_name = "N", default_value_t = 0)]
    after: u64,
    /// Print whole bodies, however long
    #[arg(long)]
    whole: bool,
}

/// What `queue explain` is given
#[derive(Args, Debug)]
pub(crate) struct ExplainArgs {
    #[command(flatten)]
    place: Place,
    /// The queue
    queue: String,
    /// The entry: its number or UUID
    #[arg(value_parser = entry_key)]
    entry: EntryKey,
}

/// `tidings queue peek`
///
/// # Errors
/// No such queue (1), no store (2), a damaged one (7).
pub(super) fn peek(args: &PeekArgs, talk: Talk) -> Result<(), Failure> {
    let store = args.place.open()?;
    let stats = find_queue(&store, &args.queue)?;
    let now = store.now().map_err(failure)?;
    let (mut after, mut left) = (args.after, args.count);
    let mut rows = Vec::new();
    // In small pages: bodies may be large, and many
    while left > 0 {
        let page = store.entries(&stats.name, args.state, after, left.min(PAGE)).map_err(failure)?;
        let Some(last) = page.last() else { break };
        after = last.seq;
        left -= page.len();
        for entry in &page {
            if talk.json {
                if !printed(talk.data(entry_json(entry, now)))? {
                    return Ok(());
                }
            } else {
                rows.push(row(entry, now, args.whole));
            }
        }
    }
    if talk.json {
        return Ok(());
    }
    if rows.is_empty() {
        let which = args.state.map_or_else(String::new, |state| format!(" that is {state}"));
        talk.say(format_args!("'{}' has no entry{which}{}", args.queue, if args.after > 0 { " there" } else { "" }));
        return Ok(());
    }
    let shown = rows.len() as u64;
    let head = [" ENTRY", "STATE", " ATTEMPT", " AGE", "BODY"];
    if !printed(talk.data(table::layout(&head, &rows)))? {
        return Ok(());
    }
    let all = match args.state {
        Some(state) => stats.count(state),
        None => State::ALL.map(|state| stats.count(state)).iter().sum(),
    };
    if args.after == 0 && all > shown {
        talk.say(format_args!("{shown} of {all}; more with --count N, the next with --after {after}"));
    }
    Ok(())
}

/// `tidings queue explain`
///
/// # Errors
/// No such entry (1), no store (2), a damaged one (7).
pub(super) fn explain(args: &ExplainArgs, talk: Talk) -> Result<(), Failure> {
    let store = args.place.open()?;
    let now = store.now().map_err(failure)?;
    let entry = missing_entry(&args.queue, args.entry, store.entry(args.entry).map_err(failure)?)?;
    let why = entry.explain(now);
    let text = match talk.json {
        true => {
            let entry = entry_json(&entry, now);
            json!({ "ok": true, "due": why.due, "why": why.sentences, "entry": entry }).to_string()
        }
        false => {
            let mut lines = vec![format!("entry {} of '{}' is {}", entry.seq, escape(&entry.queue), entry.state)];
            lines.extend(why.sentences.iter().map(|sentence| escape(sentence.as_bytes())));
            if why.due {
                lines.push(format!(
                    "Durable requests are handed to workers of the service: `tidings svc ping {}` tells whether there is one.",
                    escape(&entry.queue)
                ));
            }
            lines.join("\n")
        }
    };
    printed(talk.data(text)).map(drop)
}

/// An entry on lines of its own
pub(super) fn about(entry: &EntryView, now: Timestamp) -> String {
    let mut rows = vec![
        ("entry", entry.seq.to_string()),
        ("id", entry.id.to_string()),
        ("queue", escape(&entry.queue)),
        ("state", entry.state.to_string()),
        ("attempts", format!("{} of {}", entry.attempts, entry.max_attempts)),
        ("stored", format!("{}, {} ago", moment(entry.enqueued_at), short(now.since(entry.enqueued_at)))),
        ("changed", format!("{}, {} ago", moment(entry.changed_at), short(now.since(entry.changed_at)))),
    ];
    if let Some(due) = entry.due_at {
        rows.push((if entry.state == State::Leased { "leased until" } else { "due" }, moment(due)));
    }
    if let Some(expires) = entry.expires_at {
        let name = if entry.state < State::Done { "expires" } else { "deleted" };
        rows.push((name, moment(expires)));
    }
    if let Some(key) = &entry.key {
        rows.push(("key", escape(key)));
    }
    if let Some(cause) = entry.cause {
        rows.push(("cause", format!("{}: {cause}", cause.name())));
    }
    if let Some(note) = entry.note.as_deref().filter(|note| !note.is_empty()) {
        rows.push(("last failure", escape(note.as_bytes())));
    }
    match &entry.body {
        Some(frames) => rows.extend(frames.iter().map(|frame| ("body", escape(frame)))),
        None => rows.push(("body", DAMAGED.to_owned())),
    }
    match &entry.result {
        Some(frames) => rows.extend(frames.iter().map(|frame| ("result", escape(frame)))),
        None if entry.state == State::Done => rows.push(("result", DAMAGED.to_owned())),
        None => {}
    }
    rows.iter().map(|(name, value)| format!("{name:<14}{value}")).collect::<Vec<_>>().join("\n")
}

fn row(entry: &EntryView, now: Timestamp, whole: bool) -> Vec<String> {
    vec![
        entry.seq.to_string(),
        entry.state.to_string(),
        format!("{}/{}", entry.attempts, entry.max_attempts),
        short(now.since(entry.enqueued_at)),
        frames_text(entry.body.as_deref(), whole),
    ]
}

/// Frames on one line, cut unless all is wanted
pub(super) fn frames_text(frames: Option<&[Bytes]>, whole: bool) -> String {
    let Some(frames) = frames else { return DAMAGED.to_owned() };
    let text = frames.iter().map(|frame| escape(frame)).collect::<Vec<_>>().join(" | ");
    match text.char_indices().nth(SHOWN) {
        Some((at, _)) if !whole => {
            let cut = text.get(..at).unwrap_or_default();
            format!("{cut}… ({} octets)", frames.iter().map(Bytes::len).sum::<usize>())
        }
        _ => text,
    }
}

/// An entry for programs
pub(super) fn entry_json(entry: &EntryView, now: Timestamp) -> Value {
    let frames = |frames: &Vec<Bytes>| frames.iter().map(|frame| json_frame(frame)).collect::<Vec<_>>();
    json!({
        "entry": entry.seq,
        "id": entry.id.to_string(),
        "queue": json_frame(&entry.queue),
        "state": entry.state.name(),
        "attempts": entry.attempts,
        "max_attempts": entry.max_attempts,
        "stored": moment(entry.enqueued_at),
        "age_seconds": now.since(entry.enqueued_at).as_secs_f64(),
        "changed": moment(entry.changed_at),
        "due": entry.due_at.map(moment),
        "expires": entry.expires_at.map(moment),
        "key": entry.key.as_ref().map(|key| json_frame(key)),
        "cause": entry.cause.map(|cause| cause.name()),
        "note": entry.note,
        "octets": entry.octets,
        "body": entry.body.as_ref().map(frames),
        "result": entry.result.as_ref().map(frames),
    })
}

const DAMAGED: &str = "damaged: its checksum does not match";

/// Entries read at once
const PAGE: usize = 16;

/// Characters of a body in a table
const SHOWN: usize = 60;

pub(super) const PEEK: &str = "\
Examples:
  tidings queue peek dbmanager
  tidings queue peek dbmanager --state waiting --count 100
  tidings queue peek dbmanager --json | jq -r .body[0]";

pub(super) const EXPLAIN: &str = "\
Examples:
  tidings queue explain dbmanager 17
  tidings queue explain dbmanager 019352a7f2b07cc3a1d90d3c5a4ef001 --json | jq .due";

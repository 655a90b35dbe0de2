//! `tidings key ls`: one line for each key and certificate.

use std::time::SystemTime;

use clap::Args;
use serde_json::{Value, json};
use tidings_keystore::display_expiry;

use super::place::Place;
use super::show::{Entry, Paint, entries};
use crate::cli::{Failure, Talk, printed};

/// What `key ls` is given
#[derive(Args, Debug)]
pub(crate) struct ListArgs {
    #[command(flatten)]
    place: Place,
}

/// `tidings key ls`
///
/// # Errors
/// The keystore can't be read.
pub(crate) fn run(args: &ListArgs, talk: Talk) -> Result<(), Failure> {
    let keystore = args.place.open()?;
    let now = SystemTime::now();
    let entries = entries(&keystore.keys(), now);
    let outcome = if talk.json {
        let rows: Value = entries.iter().map(|entry| entry.to_json(now)).collect();
        talk.data(json!({ "ok": true, "directory": keystore.directory(), "keys": rows }))
    } else if entries.is_empty() {
        talk.say(format_args!("{} is empty: make a key with  tidings key new", keystore.directory().display()));
        Ok(())
    } else {
        talk.data(table(&entries, now, Paint::stdout()))
    };
    printed(outcome).map(|_| ())
}

fn table(entries: &[Entry], now: SystemTime, paint: Paint) -> String {
    let head = ["KIND", "NAME", "ROLES", "FINGERPRINT", "EXPIRES", "STATE"].map(str::to_owned);
    let rows = entries.iter().map(|entry| {
        let expires = entry.expires.map_or_else(|| "never".to_owned(), |end| short(&display_expiry(end, now)));
        let roles = if entry.roles.is_empty() { "-".to_owned() } else { entry.roles.join(",") };
        let fingerprint = entry.fingerprint.short();
        [entry.kind.to_owned(), entry.label.clone(), roles, fingerprint, expires, entry.state.clone()]
    });
    let rows: Vec<[String; 6]> = std::iter::once(head).chain(rows).collect();
    let widths: Vec<usize> =
        (0..6).map(|column| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0)).collect();
    let lines = rows.iter().enumerate().map(|(index, row)| {
        let cells = row.iter().zip(&widths).enumerate().map(|(column, (cell, width))| {
            let padded = if column == 5 { cell.clone() } else { format!("{cell:<width$}") };
            match index.checked_sub(1).and_then(|index| entries.get(index)?.expires) {
                // Padded before it is painted: escapes have no width
                Some(end) if column == 4 => paint.soon(end, now, &padded),
                _ => padded,
            }
        });
        cells.collect::<Vec<_>>().join("  ")
    });
    lines.collect::<Vec<_>>().join("\n")
}

/// Beneath the heading, `in 41 days` says it
fn short(expiry: &str) -> String {
    expiry.strip_prefix("expires ").unwrap_or(expiry).to_owned()
}

pub(super) const EXAMPLES: &str = "\
Examples:
  tidings key ls
  tidings key ls --keys hub-keys
  tidings key ls --json | jq '.keys[] | select(.seconds_left != null and .seconds_left < 1209600)'";

//! `queue fsck`: is the store sound, and what can be put right?

use std::time::{Duration, Instant};

use clap::Args;
use serde_json::{Value, json};
use tidings_store::{FsckReport, Inspector, Problem, Progress, StoreError};

use super::place::{Place, failure};
use crate::cli::units::{count, display_duration};
use crate::cli::{Exit, Failure, Talk, printed};

/// What `queue fsck` is given
#[derive(Args, Debug)]
pub(crate) struct FsckArgs {
    #[command(flatten)]
    place: Place,
    /// Put right what can be; the daemon must not run. A file that can't be read to its end is put aside and kept
    #[arg(long)]
    repair: bool,
}

/// `tidings queue fsck`
///
/// # Errors
/// Something is wrong with it (7), there is none (2), the daemon runs while it is to be repaired (4).
pub(super) fn run(args: &FsckArgs, talk: Talk) -> Result<(), Failure> {
    let directory = args.place.directory()?;
    let begun = Instant::now();
    let mut shown = None::<Instant>;
    let progress = |progress: Progress| {
        // A line a tenth of a second is as much as anybody reads
        if shown.is_none_or(|shown| shown.elapsed() >= Duration::from_millis(100)) {
            shown = Some(Instant::now());
            match progress.of {
                Some(of) => talk.progress(format_args!("{}: {} of {of}", progress.stage, progress.done)),
                None => talk.progress(format_args!("{}: {}", progress.stage, progress.done)),
            }
        }
    };
    if args.repair {
        let repaired = tidings_store::repair(&directory, progress);
        talk.progress_done();
        let repaired = repaired.map_err(|error| match error {
            StoreError::InUse { .. } => {
                failure(error).hint("stop the daemon first; `tidings queue fsck` without --repair needs no stop")
            }
            error => failure(error),
        })?;
        let took = begun.elapsed();
        if talk.json {
            let object = json!({
                "ok": repaired.after.is_clean(),
                "found": problems_json(&repaired.before),
                "left": problems_json(&repaired.after),
                "entries": if repaired.before.is_clean() { repaired.before.entries } else { repaired.after.entries },
                "buried": repaired.buried,
                "saved_rows": repaired.saved,
                "lost": repaired.lost,
                "aside": repaired.aside.as_ref().map(|path| path.display().to_string()),
                "seconds": took.as_secs_f64(),
            });
            printed(talk.data(object))?;
        } else {
            print_problems(&repaired.before, talk)?;
            if repaired.before.is_clean() {
                talk.say(sound(&repaired.before, took));
            } else {
                if let Some(aside) = &repaired.aside {
                    let rows = count(repaired.saved, "row");
                    talk.say(format_args!(
                        "{rows} were saved into a new file; the damaged one is kept: {}",
                        aside.display()
                    ));
                }
                if repaired.lost > 0 {
                    talk.say(format_args!("entries that could not be read any more: {}", repaired.lost));
                }
                if repaired.buried > 0 {
                    let entries = repaired.buried;
                    talk.say(format_args!("entries whose body or result is lost, now dead letters: {entries}"));
                }
                talk.say(format_args!("put right in {}; {}", words(took), entries(&repaired.after)));
            }
        }
        return verdict(&repaired.after, true, talk);
    }
    let inspected = Inspector::open(&directory).and_then(|store| store.fsck(progress));
    talk.progress_done();
    let report = inspected.map_err(failure)?;
    match talk.json {
        true => {
            let object = json!({
                "ok": report.is_clean(),
                "entries": report.entries,
                "octets": report.octets,
                "found": problems_json(&report),
                "seconds": begun.elapsed().as_secs_f64(),
            });
            printed(talk.data(object))?;
        }
        false => {
            print_problems(&report, talk)?;
            if report.is_clean() {
                talk.say(sound(&report, begun.elapsed()));
            }
        }
    }
    verdict(&report, false, talk)
}

fn verdict(report: &FsckReport, repaired: bool, talk: Talk) -> Result<(), Failure> {
    if report.is_clean() {
        return Ok(());
    }
    let number = report.problems.len() as u64;
    let more = if report.problems.len() >= FsckReport::MAX_PROBLEMS { " or more" } else { "" };
    // In JSON it has been said, and only the exit code is left
    let message = match talk.json {
        true => String::new(),
        false => format!("{}{more}", count(number, "problem")),
    };
    let failure = Failure::new(Exit::Data, "damaged", message);
    Err(match repaired {
        true => failure.hint("what is left can't be put right here; the file is SQLite's, and its tools may do more"),
        false => failure.hint("stop the daemon, copy the directory, and run  tidings queue fsck --repair"),
    })
}

fn print_problems(report: &FsckReport, talk: Talk) -> Result<(), Failure> {
    for problem in &report.problems {
        if !printed(talk.data(problem))? {
            break;
        }
    }
    Ok(())
}

fn problems_json(report: &FsckReport) -> Vec<Value> {
    let row = |problem: &Problem| json!({ "kind": problem.kind.name(), "what": problem.what });
    report.problems.iter().map(row).collect()
}

fn sound(report: &FsckReport, took: Duration) -> String {
    format!("sound: {}, {} octets, in {}", entries(report), report.octets, words(took))
}

fn entries(report: &FsckReport) -> String {
    match report.entries {
        1 => "1 entry".to_owned(),
        number => format!("{number} entries"),
    }
}

/// Microseconds interest nobody here
fn words(took: Duration) -> String {
    display_duration(Duration::from_millis(took.as_millis().max(1) as u64))
}

pub(super) const EXAMPLES: &str = "\
Examples:
  tidings queue fsck                               the daemon may run
  tidings queue fsck --repair                      the daemon must not
  tidings queue fsck --json | jq .found";

//! `tidings check`: is this configuration right, and what comes of it?

use std::path::PathBuf;

use clap::Args;
use serde_json::json;

use super::{Exit, Failure, Talk, printed};
use crate::config::{Settings, Sources};

/// Check a configuration file, with the line and column of whatever is wrong
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct CheckArgs {
    /// The file; without it the environment and the defaults are checked
    #[arg(value_name = "FILE", env = "TIDINGS_CONFIG")]
    file: Option<PathBuf>,
    /// Print every setting with its effective value and where it comes from
    #[arg(long)]
    print: bool,
}

/// `tidings check [FILE]`
///
/// # Errors
/// All problems of the configuration, exit code 2.
pub(crate) fn run(args: &CheckArgs, talk: Talk) -> Result<(), Failure> {
    let name = args.file.as_ref().map_or("the defaults and the environment".into(), |file| file.display().to_string());
    let settings = match Sources::new(args.file.clone()).load() {
        Ok(settings) => settings,
        Err(problems) if talk.json => {
            printed(talk.data(problems.to_json()))?;
            // Said already, with every problem as an object
            return Err(Failure::new(Exit::Usage, "configuration", ""));
        }
        Err(problems) => return Err(problems.into()),
    };
    let surprises = settings.surprises();
    if !talk.json {
        surprises.iter().for_each(|surprise| talk.say(format_args!("warning: {surprise}")));
    }
    let outcome = if talk.json {
        talk.data(json!({
            "ok": true, "file": args.file, "warnings": surprises, "settings": rows_json(&settings)
        }))
    } else if args.print {
        talk.data(effective(&settings).trim_end())
    } else {
        talk.say(format_args!("{name}: the configuration is right"));
        Ok(())
    };
    printed(outcome).map(|_| ())
}

fn rows_json(settings: &Settings) -> serde_json::Value {
    let rows = settings.rows().into_iter();
    rows.map(|row| {
        json!({ "key": row.key, "value": row.value, "origin": row.origin.to_string(), "live": row.live, "doc": row.doc })
    })
    .collect()
}

/// The settings as a file that would give the same, with where each comes from
fn effective(settings: &Settings) -> String {
    let mut text = String::new();
    let mut current = "";
    for row in settings.rows() {
        let (section, key) = row.key.split_once('.').unwrap_or(("", row.key));
        if section != current {
            let gap = if current.is_empty() { "" } else { "\n" };
            text.push_str(&format!("{gap}[{section}]\n"));
            current = section;
        }
        text.push_str(&format!("# {} ({})\n{key} = {}\n", row.doc, row.origin, row.value));
    }
    text
}

const EXAMPLES: &str = "\
Examples:
  tidings check tidings.toml
  tidings check --print > tidings.toml    all settings, their documents and defaults
  TIDINGS_EVENTS__SEND_HWM=5000 tidings check --print";

//! `sock options`: the option table, for people and for programs.

use clap::Args;
use serde_json::json;
use tidings::{OPTIONS, OptionRow};

use crate::cli::{Exit, Failure, Talk, nearest, printed};

/// What `sock options` is given
#[derive(Args, Debug)]
pub(crate) struct OptionsArgs {
    /// Show only options whose name contains NAME
    #[arg(value_name = "NAME")]
    names: Vec<String>,
}

/// Prints the table
///
/// # Errors
/// A name that no option contains.
pub(crate) fn run(args: &OptionsArgs, talk: Talk) -> Result<(), Failure> {
    let rows: Vec<&OptionRow> = OPTIONS.iter().filter(|row| wanted(row, &args.names)).collect();
    if rows.is_empty() {
        let name = args.names.join(" ");
        let failure = Failure::new(Exit::Negative, "option", format!("no socket option is called '{name}'"));
        let near = nearest(&name, OPTIONS.iter().flat_map(|row| [row.name, row.c_name]));
        return Err(match near {
            Some(near) => failure.hint(format!("did you mean '{near}'?")),
            None => failure.hint("`tidings sock options` lists them all"),
        });
    }
    let text = if talk.json {
        let rows: Vec<_> = rows.iter().map(|row| to_json(row)).collect();
        json!({ "ok": true, "options": rows }).to_string()
    } else {
        rows.iter().map(|row| to_text(row)).collect::<Vec<_>>().join("\n")
    };
    printed(talk.data(text)).map(|_| ())
}

fn wanted(row: &OptionRow, names: &[String]) -> bool {
    let has = |name: &String| {
        let name = name.to_ascii_lowercase().replace('-', "_");
        row.name.contains(&name) || row.c_name.to_ascii_lowercase().contains(&name)
    };
    names.is_empty() || names.iter().any(has)
}

fn to_text(row: &OptionRow) -> String {
    let number = row.number;
    let c_name = if row.c_name.is_empty() { "ours" } else { row.c_name };
    let default = match (row.default, row.unit) {
        ("", _) => "empty".to_owned(),
        (default, "") => default.to_owned(),
        (default, unit) => format!("{default} {unit}"),
    };
    format!("{}\n    {c_name}, {number}; default {default}\n    {}", row.name, row.doc.trim())
}

fn to_json(row: &OptionRow) -> serde_json::Value {
    json!({
        "name": row.name, "c_name": row.c_name, "number": row.number, "kind": format!("{:?}", row.kind).to_lowercase(),
        "unit": row.unit, "default": row.default, "doc": row.doc.trim(),
    })
}

/// Examples of the command
pub(crate) const EXAMPLES: &str = "\
Examples:
  tidings sock options
  tidings sock options hwm linger
  tidings sock options --json | jq '.options[].name'
  tidings sock push -c tcp://127.0.0.1:5557 --option send_hwm=10 --option ZMQ_IMMEDIATE=1 job";

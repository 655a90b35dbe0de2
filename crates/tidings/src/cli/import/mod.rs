//! `tidings import`: the configuration of an older system, as one of ours.

mod domogik;
mod ini;
mod zpl;

use std::fs::File;
use std::io::{ErrorKind, Write as _};
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::{Exit, Failure, Talk, nearest, printed};
use crate::config::Problems;

/// The systems whose configuration is read
#[derive(Debug, Subcommand)]
pub(crate) enum Import {
    /// Take over Domogik MQ: broker, forwarder and ports of its domogik-mq.cfg
    #[command(after_help = domogik::EXAMPLES)]
    Domogik(DomogikArgs),
    /// Take over a node of CZMQ's zgossip: the file that it is told to LOAD
    #[command(after_help = zpl::EXAMPLES)]
    Zpl(ZplArgs),
}

/// What `import domogik` is given
#[derive(Args, Debug)]
pub(crate) struct DomogikArgs {
    #[command(flatten)]
    files: FileArgs,
    /// Let other hosts connect without encryption, as they did: Domogik's programs have no keys. For a network that
    /// is trusted
    #[arg(long)]
    allow_plaintext: bool,
}

/// What `import zpl` is given
#[derive(Args, Debug)]
pub(crate) struct ZplArgs {
    #[command(flatten)]
    files: FileArgs,
    /// Let other hosts connect without encryption, as they did. For a network that is trusted
    #[arg(long)]
    allow_plaintext: bool,
}

/// From where to where
#[derive(Args, Debug)]
struct FileArgs {
    /// The configuration to read
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Write a new FILE rather than to standard output; one that is there stays as it is
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,
    /// With --output: replace a file that is there
    #[arg(long, requires = "output")]
    force: bool,
}

/// What came of a file
struct Imported {
    /// The configuration, with comments
    toml: String,
    /// What a person has to know or decide, each a sentence
    notes: Vec<String>,
}

/// Does what an `import` command says
///
/// # Errors
/// A file that can't be read or is not what it should be (2), a file in the way (2).
pub(crate) fn run(import: Import, talk: Talk) -> Result<(), Failure> {
    match import {
        Import::Domogik(args) => {
            let text = read(&args.files.file)?;
            let file = args.files.file.display().to_string();
            deliver(domogik::import(&file, &text, args.allow_plaintext), &args.files, talk)
        }
        Import::Zpl(args) => {
            let text = read(&args.files.file)?;
            let file = args.files.file.display().to_string();
            deliver(zpl::import(&file, &text, args.allow_plaintext), &args.files, talk)
        }
    }
}

/// Prints or writes the configuration, and says the notes
fn deliver(imported: Result<Imported, Problems>, files: &FileArgs, talk: Talk) -> Result<(), Failure> {
    let imported = match imported {
        Ok(imported) => imported,
        Err(problems) if talk.json => {
            printed(talk.data(problems.to_json()))?;
            // Said already, with every problem as an object
            return Err(Failure::new(Exit::Usage, "configuration", ""));
        }
        Err(problems) => {
            return Err(Failure { message: problems_in(&files.file, &problems), ..problems.into() });
        }
    };
    if let Some(path) = &files.output {
        write(path, &imported.toml, files.force)?;
    }
    if talk.json {
        let object: Value = json!({
            "ok": true, "file": files.file, "output": files.output, "toml": imported.toml, "notes": imported.notes,
        });
        return printed(talk.data(object)).map(|_| ());
    }
    for note in &imported.notes {
        talk.say(format_args!("note: {note}"));
    }
    match &files.output {
        None => printed(talk.data(imported.toml.trim_end())).map(|_| ()),
        Some(path) => {
            let path = path.display();
            talk.say(format_args!("written: {path}; `tidings check {path}`, then `tidings serve -c {path}`"));
            Ok(())
        }
    }
}

/// What of a text can stand in a comment: its first line
fn in_a_comment(text: &str) -> String {
    text.lines().next().unwrap_or_default().chars().filter(|character| !character.is_control()).collect()
}

fn problems_in(file: &Path, problems: &Problems) -> String {
    format!("{} can't be taken over as it is\n{problems}", file.display())
}

/// The text of a file; what is no UTF-8 in it, comments of old mostly, is replaced
fn read(path: &Path) -> Result<String, Failure> {
    let octets = std::fs::read(path).map_err(|error| {
        let failure = Failure::usage(format!("can't read '{}': {error}", path.display()));
        match neighbour(path) {
            Some(near) => failure.hint(format!("did you mean '{}'?", near.display())),
            None => {
                failure.hint("name the old system's configuration, such as /etc/domogik/domogik-mq.cfg or zgossip.cfg")
            }
        }
    })?;
    let text = String::from_utf8_lossy(&octets);
    Ok(text.strip_prefix('\u{feff}').unwrap_or(&text).to_owned())
}

/// The file in the same directory that was most likely meant
fn neighbour(path: &Path) -> Option<PathBuf> {
    let name = path.file_name()?.to_str()?;
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let files: Vec<String> = std::fs::read_dir(directory)
        .ok()?
        .filter_map(|entry| entry.ok().filter(|entry| entry.path().is_file())?.file_name().into_string().ok())
        .collect();
    Some(path.with_file_name(nearest(name, files.iter().map(String::as_str))?))
}

fn write(path: &Path, text: &str, force: bool) -> Result<(), Failure> {
    let opened = if force { File::create(path) } else { File::create_new(path) };
    opened.and_then(|mut file| file.write_all(text.as_bytes())).map_err(|error| {
        let failure = Failure::usage(format!("can't write '{}': {error}", path.display()));
        match (error.kind(), path.parent()) {
            (ErrorKind::AlreadyExists, _) => {
                failure.hint("name another file, move this one away, or replace it: --force")
            }
            (ErrorKind::NotFound, Some(directory)) => {
                failure.hint(format!("make the directory first: mkdir -p '{}'", directory.display()))
            }
            (ErrorKind::PermissionDenied, _) => failure.hint("name a file that you may write, or do it as root"),
            _ => failure,
        }
    })
}

/// Examples of the noun
pub(crate) const EXAMPLES: &str = "\
Examples:
  tidings import domogik /etc/domogik/domogik-mq.cfg
  tidings import domogik /etc/domogik/domogik-mq.cfg -o tidings.toml && tidings serve -c tidings.toml
  tidings import zpl zgossip.cfg";

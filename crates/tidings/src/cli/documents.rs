//! Shell completions and manual pages, made from the commands themselves.

use std::io::{self, Write};
use std::path::PathBuf;

use clap::{Args, Command};
use clap_complete::Shell;

use super::{Exit, Failure, command, printed};

/// Print completions for a shell
#[derive(Args, Debug)]
#[command(after_help = COMPLETIONS_EXAMPLES)]
pub(crate) struct CompletionsArgs {
    /// The shell
    shell: Shell,
}

/// Print the manual page, or write all of them into a directory
#[derive(Args, Debug)]
#[command(after_help = MAN_EXAMPLES)]
pub(crate) struct ManArgs {
    /// Write tidings.1, tidings-sock.1, … into this directory
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
}

/// `tidings completions SHELL`
///
/// # Errors
/// When stdout can't be written to.
pub(crate) fn completions(args: &CompletionsArgs) -> Result<(), Failure> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut command(), "tidings", &mut script);
    printed(io::stdout().write_all(&script)).map(|_| ())
}

/// `tidings man [--dir DIR]`
///
/// # Errors
/// When the pages can't be written.
pub(crate) fn man(args: &ManArgs) -> Result<(), Failure> {
    let Some(dir) = &args.dir else {
        let page = page(&command()).map_err(|error| unwritable("the page", &error))?;
        return printed(io::stdout().write_all(&page)).map(|_| ());
    };
    let written = std::fs::create_dir_all(dir).and_then(|()| clap_mangen::generate_to(command(), dir));
    written.map_err(|error| unwritable(&dir.display().to_string(), &error))
}

fn page(command: &Command) -> io::Result<Vec<u8>> {
    let mut page = Vec::new();
    clap_mangen::Man::new(command.clone()).render(&mut page)?;
    Ok(page)
}

fn unwritable(what: &str, error: &io::Error) -> Failure {
    Failure::new(Exit::Usage, "output", format!("can't write {what}: {error}"))
}

const COMPLETIONS_EXAMPLES: &str = "\
Examples:
  tidings completions bash > ~/.local/share/bash-completion/completions/tidings
  tidings completions zsh > ~/.zfunc/_tidings
  tidings completions fish > ~/.config/fish/completions/tidings.fish";

const MAN_EXAMPLES: &str = "\
Examples:
  tidings man | man -l -
  tidings man --dir ~/.local/share/man/man1";

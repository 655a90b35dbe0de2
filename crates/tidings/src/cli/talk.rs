//! What a command says on stderr: to people in words, to programs nothing unless they ask.

use std::io::{IsTerminal as _, Write as _};

use super::Global;

/// Talk on stderr, as much as the flags ask for
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Talk {
    /// Whether stdout carries JSON
    pub(crate) json: bool,
    quiet: bool,
    verbose: bool,
    /// Whether stderr is a terminal, so that lines may be rewritten
    pub(crate) terminal: bool,
    /// Whether colour is welcome: a terminal, no NO_COLOR (no-color.org), and not a dumb one
    pub(crate) colour: bool,
}

impl Talk {
    pub(crate) fn new(global: Global) -> Self {
        let terminal = std::io::stderr().is_terminal();
        let unwelcome = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty())
            || std::env::var_os("TERM").is_some_and(|value| value == "dumb");
        Self {
            json: global.json,
            quiet: global.quiet,
            verbose: global.verbose,
            terminal,
            colour: terminal && !unwelcome,
        }
    }

    /// Says a line, unless --quiet
    pub(crate) fn say(&self, line: impl std::fmt::Display) {
        if !self.quiet {
            // Nobody listening on stderr must not stop the data on stdout
            writeln!(std::io::stderr(), "{line}").ok();
        }
    }

    /// Says what a person has to see before answering a question, --quiet or not
    pub(crate) fn always(&self, line: impl std::fmt::Display) {
        writeln!(std::io::stderr(), "{line}").ok();
    }

    /// Says a line if --verbose
    pub(crate) fn detail(&self, line: impl std::fmt::Display) {
        if self.verbose {
            self.say(line);
        }
    }

    /// Rewrites the last line of a terminal with progress; elsewhere says nothing
    pub(crate) fn progress(&self, line: impl std::fmt::Display) {
        if self.terminal && !self.quiet {
            write!(std::io::stderr(), "\r\x1b[K{line}").ok();
        }
    }

    /// Clears the progress line
    pub(crate) fn progress_done(&self) {
        self.progress("");
    }

    /// Prints one line of data on stdout
    ///
    /// # Errors
    /// Those of writing.
    pub(crate) fn data(&self, line: impl std::fmt::Display) -> std::io::Result<()> {
        let mut stdout = std::io::stdout().lock();
        writeln!(stdout, "{line}")?;
        stdout.flush()
    }
}

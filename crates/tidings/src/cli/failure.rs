//! How a command ends badly: an exit code, a stable name, a sentence, and what to do next.

use std::fmt;

/// The exit codes of every command; a script may rely on them
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Exit {
    /// A negative answer: the question was understood and the answer is no
    Negative = 1,
    /// Wrong usage or configuration: asking again will not help
    Usage = 2,
    /// Nothing answers at an endpoint, or it can't be listened on
    Connect = 3,
    /// A peer was reached and said no
    Refused = 4,
    /// A deadline passed
    Deadline = 5,
    /// Part of the work was done
    Partial = 6,
    /// Data is damaged, or is not what it says it is
    Data = 7,
}

/// Why a command ends with something other than 0
#[derive(Clone, Debug)]
pub(crate) struct Failure {
    /// The process's exit code
    pub(crate) exit: Exit,
    /// A stable word for programs, the `code` of the JSON form
    pub(crate) code: &'static str,
    /// One sentence: what, and where
    pub(crate) message: String,
    /// What to do next
    pub(crate) hint: Option<String>,
}

impl Failure {
    /// A failure without a hint
    pub(crate) fn new(exit: Exit, code: &'static str, message: impl fmt::Display) -> Self {
        Self { exit, code, message: message.to_string(), hint: None }
    }

    /// Wrong usage: exit code 2
    pub(crate) fn usage(message: impl fmt::Display) -> Self {
        Self::new(Exit::Usage, "usage", message)
    }

    /// Says what to do next
    pub(crate) fn hint(mut self, hint: impl fmt::Display) -> Self {
        self.hint = Some(hint.to_string());
        self
    }

    /// The form `--json` promises for every error
    pub(crate) fn to_json(&self) -> serde_json::Value {
        serde_json::json!({
            "ok": false,
            "error": { "code": self.code, "message": self.message, "hint": self.hint },
        })
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "error: {}", self.message)?;
        if let Some(hint) = &self.hint {
            write!(f, "\n  hint: {hint}")?;
        }
        Ok(())
    }
}

/// The name among `known` that `wrong` was most likely meant to be
pub(crate) fn nearest<'a>(wrong: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let wrong = wrong.to_ascii_lowercase();
    known
        .into_iter()
        .map(|name| (strsim::jaro_winkler(&wrong, &name.to_ascii_lowercase()), name))
        .filter(|(likeness, _)| *likeness >= LIKELY)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, name)| name)
}

/// Whether printing may go on; a reader that has gone away is the end, and no failure
///
/// # Errors
/// All other errors of writing.
pub(crate) fn printed(result: std::io::Result<()>) -> Result<bool, Failure> {
    match result {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(false),
        Err(error) => Err(Failure::new(Exit::Data, "output", format!("can't write to standard output: {error}"))),
    }
}

/// Likeness (0 to 1) from which a suggestion helps more than it misleads; clap's own threshold
const LIKELY: f64 = 0.7;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn suggests_the_nearest_name_or_none() {
        assert_eq!(nearest("lisen", ["listen", "level"]), Some("listen"));
        assert_eq!(nearest("zzz", ["listen", "level"]), None);
    }

    #[test]
    fn prints_the_hint_beneath_the_error() {
        let failure = Failure::usage("no such thing").hint("try the other");
        assert_eq!(failure.to_string(), "error: no such thing\n  hint: try the other");
        assert_eq!(failure.to_json()["error"]["hint"], "try the other");
    }
}

//! What is wrong with a configuration: where it stands, what it is, and what to write instead.

use std::fmt;
use std::ops::Range;

use serde_json::{Value, json};

use crate::cli::output::escape;
use crate::cli::{Exit, Failure};

/// A position in a configuration file, counted from 1; columns count characters
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Place {
    pub(crate) file: String,
    pub(crate) line: usize,
    pub(crate) column: usize,
    /// The line, and how many of its characters are meant
    quote: String,
    width: usize,
}

impl Place {
    /// The place of an octet range of `text`
    pub(crate) fn of(file: &str, text: &str, span: &Range<usize>) -> Self {
        let before = text.get(..span.start).unwrap_or(text);
        let line_start = before.rfind('\n').map_or(0, |at| at + 1);
        let rest = text.get(line_start..).unwrap_or_default();
        let quote = rest.lines().next().unwrap_or_default();
        let column = before.get(line_start..).unwrap_or_default().chars().count() + 1;
        let meant = text.get(span.clone()).unwrap_or_default();
        let width = meant.lines().next().unwrap_or_default().chars().count();
        Self {
            file: file.to_owned(),
            line: before.matches('\n').count() + 1,
            column,
            quote: quote
                .chars()
                .map(|c| if c.is_control() && c != '\t' { char::REPLACEMENT_CHARACTER } else { c })
                .collect(),
            width: width.max(1),
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.file, self.line, self.column)
    }
}

/// One thing wrong with a configuration
#[derive(Clone, Debug)]
pub(crate) struct Problem {
    /// Where in the file, or which variable or flag
    pub(crate) origin: super::Origin,
    pub(crate) message: String,
    pub(crate) hint: Option<String>,
}

impl Problem {
    fn to_json(&self) -> Value {
        let (line, column) = match &self.origin {
            super::Origin::File(place) => (Some(place.line), Some(place.column)),
            _ => (None, None),
        };
        json!({
            "origin": self.origin.to_string(), "line": line, "column": column,
            "message": self.message, "hint": self.hint,
        })
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // It may quote what stands in the file
        write!(f, "{}: {}", self.origin, escape(self.message.as_bytes()))?;
        if let super::Origin::File(place) = &self.origin {
            let number = place.line.to_string();
            let margin = " ".repeat(number.len());
            let indent = " ".repeat(place.column - 1);
            write!(f, "\n  {number} | {}\n  {margin} | {indent}{}", place.quote, "^".repeat(place.width))?;
        }
        if let Some(hint) = &self.hint {
            write!(f, "\n  hint: {hint}")?;
        }
        Ok(())
    }
}

/// Everything wrong with a configuration, so that it can be mended in one go; never empty
#[derive(Clone, Debug)]
pub(crate) struct Problems(pub(crate) Vec<Problem>);

impl Problems {
    /// The form of `check --json`
    pub(crate) fn to_json(&self) -> Value {
        let mut object = Failure::from(self.clone()).to_json();
        object["problems"] = self.0.iter().map(Problem::to_json).collect();
        object
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.0.iter().enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            problem.fmt(f)?;
        }
        Ok(())
    }
}

impl From<Problems> for Failure {
    fn from(problems: Problems) -> Self {
        let count = problems.0.len();
        let plural = if count == 1 { "problem" } else { "problems" };
        Failure::new(Exit::Usage, "configuration", format!("{count} {plural} in the configuration\n{problems}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_counts_lines_and_characters() {
        let text = "a = 1\nä = \"ö\"\n";
        let start = text.find("\"ö\"").unwrap();
        let place = Place::of("x.toml", text, &(start..start + 4));
        assert_eq!((place.line, place.column, place.width), (2, 5, 3));
        assert_eq!(place.to_string(), "x.toml:2:5");
    }

    #[test]
    fn what_a_file_says_does_not_reach_the_terminal_as_it_is() {
        let text = "ip = \u{1b}[31mx\u{7}\n";
        let place = Place::of("x.cfg", text, &(5..10));
        let origin = super::super::Origin::File(std::sync::Arc::new(place));
        let problem = Problem { origin, message: "'\u{1b}[2J\nhint: rm' is no address".to_owned(), hint: None };
        let shown = problem.to_string();
        assert!(shown.chars().all(|c| c == '\n' || !c.is_control()), "{shown:?}");
        assert!(shown.contains("\\x1b[2J\\nhint: rm") && shown.contains("\u{fffd}[31mx\u{fffd}"), "{shown}");
    }

    #[test]
    fn a_place_past_the_end_is_the_last_line() {
        let place = Place::of("x.toml", "a = ", &(4..4));
        assert_eq!((place.line, place.column), (1, 5));
    }
}

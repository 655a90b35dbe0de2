//! JSON that people type: what is wrong with it, and where.

use super::Failure;

/// Checks that a text is one JSON value
///
/// # Errors
/// Wrong usage, with line and column, and the place underlined.
pub(crate) fn check(what: &str, text: &str) -> Result<(), Failure> {
    parse(what, text).map(|_| ())
}

/// Reads a text that is one JSON value
///
/// # Errors
/// Wrong usage, with line and column, and the place underlined.
pub(crate) fn parse(what: &str, text: &str) -> Result<serde_json::Value, Failure> {
    serde_json::from_str(text).map_err(|error| {
        let (line, column) = (error.line().max(1), error.column().max(1));
        let why = error.to_string();
        let why = why.split_once(" at line ").map_or(why.as_str(), |(why, _)| why);
        let quote = text.lines().nth(line - 1).unwrap_or_default();
        // Columns count octets; what is underlined is a character
        let before = quote.get(..column - 1).unwrap_or(quote).chars().count();
        let start = before.saturating_sub(QUOTED);
        let shown: String = quote.chars().skip(start).take(2 * QUOTED).collect();
        let failure = Failure::usage(format!(
            "{what} is not JSON: line {line}, column {column}: {why}\n  | {shown}\n  | {}^",
            " ".repeat(before - start)
        ));
        match text.contains('\'') || !text.contains('"') && text.starts_with(['{', '[']) {
            true => {
                failure.hint("JSON has double quotes around names and texts; in a shell, single ones around all of it")
            }
            false => failure,
        }
    })
}

/// Characters shown before and behind the place
const QUOTED: usize = 40;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_place_is_shown() {
        for (text, place, line, caret) in [
            ("{\"id\": 1 \"x\": 2}", "line 1, column 10", "  | {\"id\": 1 \"x\": 2}", "  |          ^"),
            ("{\n \"é\": trx\n}", "line 2, column 10", "  |  \"é\": trx", "  |         ^"),
            ("", "line 1, column 1", "  | ", "  | ^"),
        ] {
            let message = parse("the data", text).unwrap_err().message;
            let lines: Vec<&str> = message.lines().collect();
            assert!(lines[0].starts_with(&format!("the data is not JSON: {place}: ")), "{message}");
            assert_eq!(lines[1..], [line, caret], "{message}");
        }
        let long = format!("[{}x]", "1, ".repeat(100));
        let message = parse("the data", &long).unwrap_err().message;
        assert!(message.lines().all(|line| line.len() < 100), "{message}");
    }

    #[test]
    fn forgotten_quotes_are_guessed() {
        for text in ["{id: 1}", "{'id': 1}"] {
            assert!(parse("the data", text).unwrap_err().hint.is_some(), "{text}");
        }
        assert!(check("the data", "{\"id\": [1, null]}").is_ok());
    }
}

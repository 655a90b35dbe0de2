//! INI files as Python's ConfigParser reads them: what the older systems are configured with.
//!
//! A key ends at `=` or `:` and counts in lower case; a line that begins with a space goes on with the value above;
//! `#` and `;` begin a comment, `;` also behind a value and a space, as in Python 2. Crates for INI read
//! continuation lines otherwise. `%(name)s` is left as it stands: whoever wants it knows what it may refer to.

use std::ops::Range;

/// What is wrong with the text, and which octets of it
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct IniError {
    pub(super) span: Range<usize>,
    pub(super) message: &'static str,
}

/// A key and its value, each with its place in the text
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Entry {
    pub(super) section: String,
    /// In lower case
    pub(super) key: String,
    pub(super) key_span: Range<usize>,
    /// Lines that go on are joined by a line end
    pub(super) value: String,
    pub(super) value_span: Range<usize>,
}

/// Reads all entries, in their order
///
/// # Errors
/// The first line that is none.
pub(super) fn parse(text: &str) -> Result<Vec<Entry>, IniError> {
    let mut entries: Vec<Entry> = Vec::new();
    let mut section: Option<String> = None;
    // Whether a line that begins with a space has a value to go on with
    let mut open = false;
    let mut start = 0;
    for line in text.split_inclusive('\n') {
        let span = start..start + line.trim_end().len();
        start += line.len();
        let line = line.trim_end();
        // Python 2 would go on with a value at an indented comment, which nobody means
        if line.trim().is_empty() || line.trim_start().starts_with(['#', ';']) {
            continue;
        }
        if line.starts_with(char::is_whitespace) {
            match entries.last_mut().filter(|_| open) {
                Some(entry) => {
                    entry.value = format!("{}\n{}", entry.value, line.trim());
                    entry.value_span.end = span.end;
                    continue;
                }
                None => return Err(IniError { span, message: "there is no value above that this line goes on with" }),
            }
        }
        if let Some(name) = line.strip_prefix('[') {
            let Some((name, _)) = name.split_once(']') else {
                return Err(IniError { span, message: "a section's name ends with ']'" });
            };
            section = Some(name.to_owned());
            open = false;
            continue;
        }
        let Some(section) = &section else {
            return Err(IniError { span, message: "this line stands before the first section, such as [mq]" });
        };
        let Some(end) = line.find(['=', ':']).filter(|end| *end > 0) else {
            return Err(IniError { span, message: "this line is neither 'key = value' nor a section nor a comment" });
        };
        let (key, value) = (line[..end].trim_end(), without_comment(&line[end + 1..]));
        let value_start = span.start + end + 1 + (value.len() - value.trim_start().len());
        let value = value.trim();
        entries.push(Entry {
            section: section.clone(),
            key: key.to_lowercase(),
            key_span: span.start..span.start + key.len(),
            value: value.to_owned(),
            value_span: value_start..value_start + value.len(),
        });
        open = true;
    }
    Ok(entries)
}

/// The value before ` ;`
fn without_comment(value: &str) -> &str {
    let mut places = value.match_indices(';').map(|(at, _)| at);
    match places.find(|at| value[..*at].ends_with(char::is_whitespace)) {
        Some(at) => &value[..at],
        None => value,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pairs(text: &str) -> Vec<(String, String)> {
        parse(text)
            .unwrap()
            .into_iter()
            .map(|entry| (format!("{}.{}", entry.section, entry.key), entry.value))
            .collect()
    }

    #[test]
    fn reads_what_python_reads() {
        let text = "# comment\n; another\n[mq]\nIP = 127.0.0.1\nport: 1\nurl = tcp://x:5 ; not this\nempty =\n\n\
                    list = a;b\n  and c\n  # between\n  and d\r\n[ other]\nx=[y]\n";
        let expected = [
            ("mq.ip", "127.0.0.1"),
            ("mq.port", "1"),
            ("mq.url", "tcp://x:5"),
            ("mq.empty", ""),
            ("mq.list", "a;b\nand c\nand d"),
            (" other.x", "[y]"),
        ];
        assert_eq!(pairs(text), expected.map(|(key, value)| (key.to_owned(), value.to_owned())));
    }

    #[test]
    fn spans_are_those_of_key_and_value() {
        let text = "[mq]\n\nséance =  un deux ; trois\n";
        let entry = &parse(text).unwrap()[0];
        assert_eq!(&text[entry.key_span.clone()], "séance");
        assert_eq!(&text[entry.value_span.clone()], "un deux");
        let text = "[mq]\nx =\n";
        assert_eq!(parse(text).unwrap()[0].value_span, 8..8);
    }

    #[test]
    fn what_is_none_is_named_with_its_line() {
        for (text, place, part) in [
            ("ip = 1\n", "ip = 1", "before the first section"),
            ("[mq]\nip\n", "ip", "neither"),
            ("[mq]\n= 1\n", "= 1", "neither"),
            ("[mq\n", "[mq", "']'"),
            ("[mq]\n  ip = 1\n", "  ip = 1", "no value above"),
        ] {
            let error = parse(text).unwrap_err();
            assert_eq!(&text[error.span.clone()], place);
            assert!(error.message.contains(part), "{error:?}");
        }
    }
}

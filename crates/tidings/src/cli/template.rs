//! Templates in frames: `{{seq}}`, `{{time}}`, `{{unix}}`, `{{uuid}}`.

use bytes::Bytes;

use super::failure::nearest;

/// One frame to send, read once and filled in for every message
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct FrameTemplate {
    pieces: Vec<Piece>,
}

#[derive(Clone, Debug, Eq, PartialEq)]
enum Piece {
    Literal(Bytes),
    Placeholder(Placeholder),
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Placeholder {
    Seq,
    Time,
    Unix,
    Uuid,
}

impl FrameTemplate {
    /// A frame that is sent as it is
    pub(crate) fn literal(octets: impl Into<Bytes>) -> Self {
        Self { pieces: vec![Piece::Literal(octets.into())] }
    }

    /// Reads the placeholders in `text`; braces that open nothing closed are ordinary text
    ///
    /// # Errors
    /// Names a placeholder that does not exist, and the nearest one that does.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let mut pieces = Vec::new();
        let mut rest = text;
        while let Some((before, name, after)) = split_placeholder(rest) {
            if !before.is_empty() {
                pieces.push(Piece::Literal(Bytes::copy_from_slice(before.as_bytes())));
            }
            pieces.push(Piece::Placeholder(Placeholder::named(name)?));
            rest = after;
        }
        if !rest.is_empty() || pieces.is_empty() {
            pieces.push(Piece::Literal(Bytes::copy_from_slice(rest.as_bytes())));
        }
        Ok(Self { pieces })
    }

    /// The frame of the message with number `seq`, counted from 0
    pub(crate) fn fill(&self, seq: u64) -> Bytes {
        if let [Piece::Literal(octets)] = self.pieces.as_slice() {
            return octets.clone();
        }
        let mut frame = Vec::new();
        for piece in &self.pieces {
            match piece {
                Piece::Literal(octets) => frame.extend_from_slice(octets),
                Piece::Placeholder(placeholder) => {
                    frame.extend_from_slice(placeholder.fill(seq).as_bytes());
                }
            }
        }
        frame.into()
    }
}

impl Placeholder {
    fn named(name: &str) -> Result<Self, String> {
        match name.trim() {
            "seq" => Ok(Self::Seq),
            "time" => Ok(Self::Time),
            "unix" => Ok(Self::Unix),
            "uuid" => Ok(Self::Uuid),
            unknown => {
                let meant = nearest(unknown, NAMES)
                    .map(|name| format!("did you mean {{{{{name}}}}}?"))
                    .unwrap_or_else(|| format!("there are {}", NAMES.join(", ")));
                Err(format!("unknown placeholder {{{{{unknown}}}}}: {meant} (--no-template sends braces as they are)"))
            }
        }
    }

    fn fill(self, seq: u64) -> String {
        match self {
            Self::Seq => seq.to_string(),
            Self::Time => now_rfc3339(),
            Self::Unix => jiff::Timestamp::now().as_second().to_string(),
            Self::Uuid => uuid::Uuid::now_v7().to_string(),
        }
    }
}

/// The present instant in UTC as RFC 3339 text, with milliseconds
pub(crate) fn now_rfc3339() -> String {
    format!("{:.3}", jiff::Timestamp::now())
}

/// Splits at the first complete `{{name}}`
fn split_placeholder(text: &str) -> Option<(&str, &str, &str)> {
    let (before, opened) = text.split_once("{{")?;
    let (name, after) = opened.split_once("}}")?;
    Some((before, name, after))
}

const NAMES: [&str; 4] = ["seq", "time", "unix", "uuid"];

#[cfg(test)]
mod tests {
    use super::*;

    fn filled(text: &str, seq: u64) -> String {
        let frame = FrameTemplate::parse(text).unwrap().fill(seq);
        String::from_utf8(frame.to_vec()).unwrap()
    }

    #[test]
    fn text_without_placeholders_is_itself() {
        for text in ["", "hello", "{", "{{", "}}{{", "{\"a\":{\"b\":1}}", "{{open"] {
            assert_eq!(filled(text, 7), text);
        }
    }

    #[test]
    fn counts() {
        assert_eq!(filled("n={{seq}}/{{ seq }}.", 41), "n=41/41.");
    }

    #[test]
    fn stamps_and_identifies() {
        let time = filled("{{time}}", 0);
        assert!(time.parse::<jiff::Timestamp>().is_ok(), "{time}");
        assert!(time.ends_with('Z') && time.len() == "2026-01-01T00:00:00.000Z".len(), "{time}");
        let uuid: uuid::Uuid = filled("{{uuid}}", 0).parse().unwrap();
        assert_eq!(uuid.get_version_num(), 7);
        assert!(filled("{{unix}}", 0).parse::<i64>().unwrap() > 1_700_000_000);
    }

    #[test]
    fn names_the_nearest_placeholder() {
        let error = FrameTemplate::parse("{{sequ}}").unwrap_err();
        assert!(error.contains("{{sequ}}") && error.contains("did you mean {{seq}}?"), "{error}");
    }
}

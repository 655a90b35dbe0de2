//! ZPL, the ZeroMQ Property Language (RFC 4): nested `name = value` lines, as CZMQ's `zconfig` reads and writes them.
//!
//! ```text
//! #   a comment
//! metadata
//!     name = "north"
//! curve
//!     public-key = "Yne@$w-vo<fVvi]a<NY6T1ed:M$fCG*[IaLV{hID"
//! ```
//!
//! Where RFC 4 and CZMQ differ, what either writes is read: a quoted value ends at the next such quote if only a
//! comment follows, else at the last one of the line (`zconfig_save` writes quotes inside of values as they are).

use std::fmt;

use zeroize::Zeroize as _;

/// A ZPL text: properties in the order in which they stand
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Zpl {
    /// The properties at the left edge
    pub properties: Vec<Property>,
}

/// One line of a ZPL text, and what is indented beneath it
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Property {
    /// Letters, digits and `$-_@.&+/`
    pub name: String,
    /// What follows `=`; empty where nothing does
    pub value: String,
    /// The properties beneath it
    pub children: Vec<Property>,
    /// Where it stood, counted from 1; 0 for one that was never read from a text
    pub line: usize,
}

impl Zpl {
    /// Reads a text: all of it is right, or none is taken
    ///
    /// # Errors
    /// The first line that is no ZPL, and why.
    pub fn parse(text: &str) -> Result<Self, ZplError> {
        let mut open: Vec<Property> = Vec::new();
        let mut zpl = Self::default();
        for (index, line) in lines(text).enumerate() {
            let number = index + 1;
            let wrong = |kind| ZplError { line: number, kind };
            let line = line.trim_end();
            let indented = line.trim_start_matches(' ');
            if indented.is_empty() || indented.starts_with('#') {
                continue;
            }
            let spaces = line.len() - indented.len();
            if indented.starts_with(char::is_whitespace) {
                return Err(wrong(ZplErrorKind::TabIndent));
            }
            let level = spaces / INDENT;
            if level * INDENT != spaces {
                return Err(wrong(ZplErrorKind::Indent(spaces)));
            }
            if level > open.len() {
                return Err(wrong(ZplErrorKind::NoParent { level, deepest: open.len() }));
            }
            if level >= MAX_DEPTH {
                return Err(wrong(ZplErrorKind::TooDeep));
            }
            let mut property = property(indented).map_err(wrong)?;
            property.line = number;
            zpl.close(&mut open, level);
            open.push(property);
        }
        zpl.close(&mut open, 0);
        Ok(zpl)
    }

    /// The first property at this path, as `curve/public-key`
    pub fn find(&self, path: &str) -> Option<&Property> {
        let mut properties = &self.properties;
        let mut found = None;
        for name in path.split('/') {
            let property = properties.iter().find(|property| property.name == name)?;
            properties = &property.children;
            found = Some(property);
        }
        found
    }

    /// Writes the text that reads back as this
    ///
    /// # Errors
    /// A name or a value that ZPL can't hold: it has no escapes.
    pub fn render(&self) -> Result<String, UnwritableValue> {
        let mut text = String::new();
        for property in &self.properties {
            property.render(&mut text, 0)?;
        }
        Ok(text)
    }

    /// Moves what is deeper than `level` beneath its parent
    fn close(&mut self, open: &mut Vec<Property>, level: usize) {
        while open.len() > level {
            let Some(done) = open.pop() else { return };
            match open.last_mut() {
                Some(parent) => parent.children.push(done),
                None => self.properties.push(done),
            }
        }
    }
}

impl Drop for Property {
    /// A value may be a secret key: it does not outlive the property
    fn drop(&mut self) {
        self.value.zeroize();
    }
}

impl Property {
    /// A property without children
    pub fn new(name: impl Into<String>, value: impl Into<String>) -> Self {
        Self { name: name.into(), value: value.into(), children: Vec::new(), line: 0 }
    }

    /// A property with children and no value
    pub fn section(name: impl Into<String>, children: Vec<Property>) -> Self {
        Self { name: name.into(), value: String::new(), children, line: 0 }
    }

    fn render(&self, text: &mut String, level: usize) -> Result<(), UnwritableValue> {
        let unwritable = || UnwritableValue { name: self.name.clone() };
        if !is_name(&self.name) || level >= MAX_DEPTH {
            return Err(unwritable());
        }
        text.extend(std::iter::repeat_n(' ', level * INDENT));
        text.push_str(&self.name);
        // A section as CZMQ writes one: no sign where there is no value
        if !self.value.is_empty() || self.children.is_empty() {
            text.push_str(" = ");
            text.push_str(&quoted(&self.value).ok_or_else(unwritable)?);
        }
        text.push('\n');
        self.children.iter().try_for_each(|child| child.render(text, level + 1))
    }
}

/// A line that is no ZPL
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("line {line}: {kind}")]
pub struct ZplError {
    /// Counted from 1
    pub line: usize,
    /// What is wrong with it
    pub kind: ZplErrorKind,
}

/// What can be wrong with a line; the line itself is never quoted, for it may hold a secret
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum ZplErrorKind {
    /// Indented by something else than a multiple of four
    #[error("indented by {0} spaces: indent by 4 more than the line above that it belongs to")]
    Indent(usize),
    /// Indented with something else than spaces
    #[error("indented with a tab or another blank: use 4 spaces")]
    TabIndent,
    /// Indented more than its parent allows
    #[error("indented {level} times, but the line above allows {deepest} at most")]
    NoParent {
        /// How often it is indented
        level: usize,
        /// How often it may be
        deepest: usize,
    },
    /// Deeper than anything needs
    #[error("nested more than {MAX_DEPTH} deep")]
    TooDeep,
    /// No name, or one with characters that names don't have
    #[error("a line begins with a name of letters, digits and $-_@.&+/ (no / at its ends)")]
    Name,
    /// A name, and then something else than `= value` or a comment
    #[error("after a name comes '=' and a value, or nothing")]
    NoEquals,
    /// Something stands behind the closing quote
    #[error("text after the closing quote: only a comment may follow it")]
    AfterQuote,
}

/// A property that ZPL can't hold: its name has other characters than `ALPHA DIGIT $-_@.&+/`, its value a line end or
/// other control character, or both kinds of quotes in a way that would not read back
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error(
    "the property '{name}' can't be written as ZPL, which has no escapes: use a plain name, and one kind of quotes"
)]
pub struct UnwritableValue {
    /// Its name
    pub name: String,
}

impl fmt::Display for Zpl {
    /// As [`Zpl::render`]; fails where that does
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.render().map_err(|_| fmt::Error)?)
    }
}

/// Lines however they end: LF, CR or CR LF (RFC 4, "Specification")
fn lines(text: &str) -> impl Iterator<Item = &str> {
    text.split_inclusive('\n').flat_map(|line| {
        let line = line.strip_suffix('\n').unwrap_or(line);
        line.strip_suffix('\r').unwrap_or(line).split('\r')
    })
}

fn property(line: &str) -> Result<Property, ZplErrorKind> {
    let end = line.find(|c| !is_name_char(c)).unwrap_or(line.len());
    let (name, rest) = line.split_at(end);
    if !is_name(name) {
        return Err(ZplErrorKind::Name);
    }
    let rest = rest.trim_start();
    match rest.strip_prefix('=') {
        Some(value) => Ok(Property::new(name, value_of(value.trim_start())?)),
        None if rest.is_empty() || rest.starts_with('#') => Ok(Property::new(name, "")),
        None => Err(ZplErrorKind::NoEquals),
    }
}

fn value_of(text: &str) -> Result<&str, ZplErrorKind> {
    let quote = match text.chars().next() {
        Some(quote @ ('"' | '\'')) => quote,
        _ => return Ok(uncommented(text)),
    };
    let inside = text.get(1..).unwrap_or_default();
    // RFC 4: "starts with a quote and does not end in a matching quote is treated as unquoted"
    let Some((value, rest)) = inside.split_once(quote) else { return Ok(uncommented(text)) };
    let rest = rest.trim_start();
    if rest.is_empty() || rest.starts_with('#') {
        return Ok(value);
    }
    inside.strip_suffix(quote).ok_or(ZplErrorKind::AfterQuote)
}

fn uncommented(text: &str) -> &str {
    text.split('#').next().unwrap_or_default().trim_end()
}

/// The value with the quotes that make it read back, by us and by CZMQ; `None` if none do
fn quoted(value: &str) -> Option<String> {
    if value.contains(char::is_control) {
        return None;
    }
    for quote in ['"', '\''] {
        if !value.contains(quote) {
            return Some(format!("{quote}{value}{quote}"));
        }
    }
    let plain = !value.starts_with(['"', '\'']) && !value.contains('#') && value.trim() == value;
    plain.then(|| value.to_owned())
}

fn is_name(name: &str) -> bool {
    !name.is_empty() && name.chars().all(is_name_char) && !name.starts_with('/') && !name.ends_with('/')
}

fn is_name_char(c: char) -> bool {
    c.is_ascii_alphanumeric() || "$-_@.&+/".contains(c)
}

/// RFC 4: "a child is indented 4 spaces more than its parent"
const INDENT: usize = 4;

/// Certificates are two deep; CZMQ's configuration files some five. Bounds the recursion of rendering and dropping.
const MAX_DEPTH: usize = 32;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn value(text: &str) -> String {
        Zpl::parse(text).unwrap().find("a").unwrap().value.clone()
    }

    fn kind(text: &str) -> (usize, ZplErrorKind) {
        let error = Zpl::parse(text).unwrap_err();
        (error.line, error.kind)
    }

    #[test]
    fn reads_the_nesting_of_the_rfc() {
        let zpl = Zpl::parse(concat!(
            "#   comment\n#\ncontext\n    iothreads = 1\n    verbose = 1      #   Ask for a trace\n\n",
            "main\n    type = zmq_queue\n    frontend\n        option\n            hwm = 1000\n",
            "            subscribe = \"#2\"\n        bind = tcp://eth0:5555\n    backend\n        bind = tcp://eth0:5556\n",
        ))
        .unwrap();
        let value = |path| zpl.find(path).map(|property| (property.value.as_str(), property.line));
        assert_eq!(value("context/verbose"), Some(("1", 5)));
        assert_eq!(value("main/frontend/option/subscribe"), Some(("#2", 12)));
        assert_eq!(value("main/frontend/bind"), Some(("tcp://eth0:5555", 13)));
        assert_eq!(value("main/backend/bind"), Some(("tcp://eth0:5556", 15)));
        assert_eq!(value("main/bind"), None);
        assert_eq!(zpl.properties.len(), 2);
    }

    #[test]
    fn reads_values_as_the_rfc_and_czmq_do() {
        for (text, expected) in [
            ("a = b", "b"),
            ("a=b", "b"),
            ("a", ""),
            ("a =", ""),
            ("a   # nothing", ""),
            ("a = b c  # comment", "b c"),
            ("a = \"b # c\"   # comment", "b # c"),
            ("a = 'b \" c'", "b \" c"),
            ("a = \"\"", ""),
            ("a = \"open", "\"open"),
            // As zconfig_save writes a value with quotes in it
            ("a = \"alpha \"q\" # x\"", "alpha \"q\" # x"),
            ("a = 1\r", "1"),
        ] {
            assert_eq!(value(text), expected, "{text}");
        }
        let zpl = Zpl::parse("a = 1\rb = 2\r\nc = 3\n").unwrap();
        assert_eq!(zpl.find("c").map(|c| c.line), Some(3));
    }

    #[test]
    fn names_the_line_and_what_is_wrong_with_it() {
        for (text, expected) in [
            ("a\n   b = 1", (2, ZplErrorKind::Indent(3))),
            ("a\n\tb = 1", (2, ZplErrorKind::TabIndent)),
            ("a\n\n        b = 1", (3, ZplErrorKind::NoParent { level: 2, deepest: 1 })),
            ("    a = 1", (1, ZplErrorKind::NoParent { level: 1, deepest: 0 })),
            ("= 1", (1, ZplErrorKind::Name)),
            ("/a = 1", (1, ZplErrorKind::Name)),
            ("ä = 1", (1, ZplErrorKind::Name)),
            ("a b", (1, ZplErrorKind::NoEquals)),
            ("a = \"b\" c", (1, ZplErrorKind::AfterQuote)),
        ] {
            assert_eq!(kind(text), expected, "{text:?}");
        }
        let deep: String = (0..=MAX_DEPTH).map(|level| format!("{}a\n", " ".repeat(level * INDENT))).collect();
        assert_eq!(kind(&deep), (MAX_DEPTH + 1, ZplErrorKind::TooDeep));
    }

    #[test]
    fn errors_do_not_quote_what_may_be_secret() {
        let error = Zpl::parse("curve\n  secret-key = \"hush-hush\"").unwrap_err();
        assert!(!error.to_string().contains("hush"), "{error}");
    }

    #[test]
    fn what_can_not_be_written_is_refused() {
        for value in ["a\nb", "\"'", "'\"#", "x\u{0}", "#\"'"] {
            let zpl = Zpl { properties: vec![Property::new("a", value)] };
            assert!(zpl.render().is_err(), "{value:?}");
        }
        assert!(Zpl { properties: vec![Property::new("a b", "")] }.render().is_err());
    }

    proptest! {
        #[test]
        fn what_is_written_reads_back(values in proptest::collection::vec(("[a-z@.$]{1,5}", "\\PC{0,12}"), 0..6)) {
            let children: Vec<Property> = values.into_iter().map(|(name, value)| Property::new(name, value)).collect();
            let zpl = Zpl { properties: vec![Property::section("section", children), Property::new("last", "#")] };
            if let Ok(text) = zpl.render() {
                let mut read = Zpl::parse(&text).unwrap();
                read.properties.iter_mut().for_each(forget_lines);
                prop_assert_eq!(read, zpl);
            }
        }
    }

    fn forget_lines(property: &mut Property) {
        property.line = 0;
        property.children.iter_mut().for_each(forget_lines);
    }
}

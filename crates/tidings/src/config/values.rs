//! The types that settings have: each from a value of the file, from the text of a variable or a flag, and back.

use std::num::NonZeroU32;
use std::ops::Range;
use std::path::PathBuf;
use std::time::Duration;

use clap::ValueEnum;
use tidings::Overflow;
use tidings_store::Durability;
use toml::Spanned;
use toml::de::DeValue;

use super::settings::{Directory, PresenceScope};
use super::source::a_type;
use super::{AccessRule, Connection, HttpListener, Listener, LogFormat, LogLevel, Protection, Trust};
use crate::cli::units;

/// What is wrong with a value, and which octets of the file are meant
#[derive(Clone, Debug)]
pub(crate) struct Wrong {
    pub(crate) span: Range<usize>,
    pub(crate) message: String,
    pub(crate) hint: Option<String>,
}

/// The same of a variable or a flag: what is wrong, and what to write instead
pub(crate) type TextError = (String, Option<String>);

/// A type that settings may have
pub(super) trait SettingValue: Sized {
    /// From a value of the file
    fn from_toml(value: &Spanned<DeValue<'_>>) -> Result<Self, Vec<Wrong>>;
    /// From a variable or a flag
    fn from_text(text: &str) -> Result<Self, TextError>;
    /// As it would stand in the file
    fn to_toml(&self) -> String;
}

/// A size in octets
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Octets(pub(crate) u64);

/// Names of roles
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) struct Roles(pub(crate) Vec<String>);

impl SettingValue for Roles {
    fn from_toml(value: &Spanned<DeValue<'_>>) -> Result<Self, Vec<Wrong>> {
        let Some(items) = value.get_ref().as_array() else {
            return Err(wrong_type(value, "a list of roles, such as [\"node\"]"));
        };
        let role = |item: &Spanned<DeValue<'_>>| match item.get_ref().as_str() {
            Some(text) => role(text).map_err(|error| vec![wrong(item, error)]),
            None => Err(wrong_type(item, "the name of a role")),
        };
        items.iter().map(role).collect::<Result<_, _>>().map(Self)
    }

    fn from_text(text: &str) -> Result<Self, TextError> {
        text.split(',').map(str::trim).filter(|name| !name.is_empty()).map(role).collect::<Result<_, _>>().map(Self)
    }

    fn to_toml(&self) -> String {
        let roles: Vec<String> = self.0.iter().map(|role| format!("{role:?}")).collect();
        format!("[{}]", roles.join(", "))
    }
}

fn role(text: &str) -> Result<String, TextError> {
    match !text.is_empty() && !text.contains(|c: char| c.is_whitespace() || c.is_control() || c == ',' || c == '*') {
        true => Ok(text.to_owned()),
        false => Err((
            format!("'{text}' is no role"),
            Some("write one word for each, such as [\"node\", \"hub\"]".to_owned()),
        )),
    }
}

impl SettingValue for bool {
    fn from_toml(value: &Spanned<DeValue<'_>>) -> Result<Self, Vec<Wrong>> {
        value.get_ref().as_bool().ok_or_else(|| wrong_type(value, "true or false"))
    }

    fn from_text(text: &str) -> Result<Self, TextError> {
        text.parse().map_err(|_| (format!("'{text}' is neither true nor false"), None))
    }

    fn to_toml(&self) -> String {
        self.to_string()
    }
}

impl SettingValue for NonZeroU32 {
    fn from_toml(value: &Spanned<DeValue<'_>>) -> Result<Self, Vec<Wrong>> {
        Self::new(u32::from_toml(value)?).ok_or_else(|| vec![wrong(value, none_at_all())])
    }

    fn from_text(text: &str) -> Result<Self, TextError> {
        Self::new(u32::from_text(text)?).ok_or_else(none_at_all)
    }

    fn to_toml(&self) -> String {
        self.to_string()
    }
}

impl SettingValue for Octets {
    fn from_toml(value: &Spanned<DeValue<'_>>) -> Result<Self, Vec<Wrong>> {
        let text = match value.get_ref() {
            DeValue::String(text) => text.to_string(),
            DeValue::Integer(integer) if integer.radix() == 10 => integer.as_str().to_owned(),
            _ => return Err(wrong_type(value, "a size such as \"64MiB\"")),
        };
        Self::from_text(&text).map_err(|error| vec![wrong(value, error)])
    }

    fn from_text(text: &str) -> Result<Self, TextError> {
        units::octets(text).map(Self).map_err(|message| (message, None))
    }

    fn to_toml(&self) -> String {
        format!("{:?}", units::display_octets(self.0))
    }
}

impl SettingValue for Vec<AccessRule> {
    fn from_toml(value: &Spanned<DeValue<'_>>) -> Result<Self, Vec<Wrong>> {
        let Some(items) = value.get_ref().as_array() else {
            return Err(wrong_type(value, "a list of rules, such as [\"operator *\", \"* echo\"]"));
        };
        let (mut rules, mut wrongs) = (Self::new(), Vec::new());
        for item in items {
            match item.get_ref().as_str().map(str::parse) {
                Some(Ok(rule)) => rules.push(rule),
                Some(Err(error)) => wrongs.push(wrong(item, error)),
                None => wrongs.extend(wrong_type(item, "a rule such as \"operator dbmanager\"")),
            }
        }
        if wrongs.is_empty() { Ok(rules) } else { Err(wrongs) }
    }

    fn from_text(text: &str) -> Result<Self, TextError> {
        text.split(',').filter(|rule| !rule.trim().is_empty()).map(str::parse).collect()
    }

    fn to_toml(&self) -> String {
        let rules: Vec<String> = self.iter().map(|rule| format!("{:?}", rule.to_string())).collect();
        format!("[{}]", rules.join(", "))
    }
}

impl SettingValue for u32 {
    fn from_toml(value: &Spanned<DeValue<'_>>) -> Result<Self, Vec<Wrong>> {
        let integer = value.get_ref().as_integer().ok_or_else(|| wrong_type(value, "a whole number"))?;
        Self::from_str_radix(integer.as_str(), integer.radix())
            .map_err(|_| vec![wrong(value, (format!("{} is not {COUNT}", integer.as_str()), None))])
    }

    fn from_text(text: &str) -> Result<Self, TextError> {
        text.parse().map_err(|_| (format!("'{text}' is not {COUNT}"), None))
    }

    fn to_toml(&self) -> String {
        self.to_string()
    }
}

/// Types that are written as one string
macro_rules! string_setting {
    ($type:ty, $what:literal, $parse:expr, $show:expr) => {
        impl SettingValue for $type {
            fn from_toml(value: &Spanned<DeValue<'_>>) -> Result<Self, Vec<Wrong>> {
                let text = value.get_ref().as_str().ok_or_else(|| wrong_type(value, $what))?;
                Self::from_text(text).map_err(|error| vec![wrong(value, error)])
            }

            fn from_text(text: &str) -> Result<Self, TextError> {
                $parse(text)
            }

            fn to_toml(&self) -> String {
                format!("{:?}", $show(self))
            }
        }
    };
}

string_setting!(
    Duration,
    "a string such as \"5s\" or \"500ms\"",
    |text| units::duration(text).map_err(|message| (message, None)),
    |value: &Duration| units::display_duration(*value)
);
string_setting!(
    Directory,
    "a string",
    |text: &str| Ok::<_, TextError>(Directory(Some(text).filter(|text| !text.is_empty()).map(PathBuf::from))),
    |value: &Directory| value.0.as_ref().map(|path| path.display().to_string()).unwrap_or_default()
);
string_setting!(
    Durability,
    "a string: \"fsync\", \"interval:200ms\" or \"memory\"",
    |text: &str| text.parse().map_err(|error: tidings_store::DurabilityError| (error.to_string(), None)),
    Durability::to_string
);
string_setting!(String, "a string", |text: &str| Ok::<_, TextError>(text.to_owned()), String::clone);
string_setting!(LogLevel, "a string", |text| word(text, "level"), |value: &LogLevel| value.word());
string_setting!(PresenceScope, "a string: \"all\" or \"links\"", |text| word(text, "scope"), PresenceScope::to_string);
string_setting!(LogFormat, "a string", |text| word(text, "format"), LogFormat::to_string);
string_setting!(
    Overflow,
    "a string",
    |text: &str| text.parse().map_err(|error: tidings::OptionError| (error.to_string(), None)),
    Overflow::to_string
);

impl SettingValue for HttpListener {
    fn from_toml(value: &Spanned<DeValue<'_>>) -> Result<Self, Vec<Wrong>> {
        let entry = text_or_table(value, "address", &[])?;
        Self::new(entry.address, entry.allow).map_err(|error| vec![wrong(entry.at, error)])
    }

    fn from_text(text: &str) -> Result<Self, TextError> {
        Self::new(text, false)
    }

    fn to_toml(&self) -> String {
        self.to_string()
    }
}

impl SettingValue for Vec<Listener> {
    fn from_toml(value: &Spanned<DeValue<'_>>) -> Result<Self, Vec<Wrong>> {
        let Some(items) = value.get_ref().as_array() else {
            return Err(wrong_type(value, "a list of endpoints, such as [\"tcp://127.0.0.1:4831\"]"));
        };
        let mut listeners = Self::new();
        let mut wrongs = Vec::new();
        for item in items {
            let listener = text_or_table(item, "endpoint", &["curve", "tls"]).and_then(|entry| {
                let listener = Listener::new(entry.address, protection(&entry)?);
                let listener = listener.map_err(|error| vec![wrong(entry.at, error)])?;
                Ok(Listener { span: Some(entry.at.span()), ..listener })
            });
            match listener {
                Ok(listener) => listeners.push(listener),
                Err(wrong) => wrongs.extend(wrong),
            }
        }
        if listeners.is_empty() && wrongs.is_empty() {
            wrongs.push(wrong(value, ("the list is empty".to_owned(), Some(EMPTY.to_owned()))));
        }
        if wrongs.is_empty() { Ok(listeners) } else { Err(wrongs) }
    }

    fn from_text(text: &str) -> Result<Self, TextError> {
        text.split(',').map(Listener::from_text).collect()
    }

    fn to_toml(&self) -> String {
        let items: Vec<String> = self.iter().map(Listener::to_string).collect();
        format!("[{}]", items.join(", "))
    }
}

impl SettingValue for Vec<Connection> {
    fn from_toml(value: &Spanned<DeValue<'_>>) -> Result<Self, Vec<Wrong>> {
        let Some(items) = value.get_ref().as_array() else {
            return Err(wrong_type(
                value,
                "a list of endpoints, such as [\"tcp://127.0.0.1:4833\", \"gossip:gossip\"]",
            ));
        };
        let (mut connections, mut wrongs) = (Self::new(), Vec::new());
        for item in items {
            let connection = text_or_table(item, "endpoint", &["server-key"]).and_then(|entry| {
                let connection = Connection::new(entry.address, trust(&entry)?);
                let connection = connection.map_err(|error| vec![wrong(entry.at, error)])?;
                Ok(Connection { span: Some(entry.at.span()), ..connection })
            });
            match connection {
                Ok(connection) => connections.push(connection),
                Err(wrong) => wrongs.extend(wrong),
            }
        }
        if wrongs.is_empty() { Ok(connections) } else { Err(wrongs) }
    }

    fn from_text(text: &str) -> Result<Self, TextError> {
        text.split(',').filter(|entry| !entry.trim().is_empty()).map(Connection::from_text).collect()
    }

    fn to_toml(&self) -> String {
        let items: Vec<String> = self.iter().map(Connection::to_string).collect();
        format!("[{}]", items.join(", "))
    }
}

/// What a connection's table says of whom to believe: one thing at most
fn trust(entry: &Entry<'_, '_>) -> Result<Trust, Vec<Wrong>> {
    match (&entry.others[..], entry.allow) {
        ([], false) => Ok(Trust::Usual),
        ([], true) => Ok(Trust::Plaintext),
        ([(_, field), ..], false) => match field.get_ref().as_str() {
            Some(name) if !name.is_empty() => Ok(Trust::Key(name.to_owned())),
            _ => Err(wrong_type(field, "the name of a trusted key, or its 40 characters")),
        },
        (_, true) => {
            let message = "only one of server-key and allow-plaintext can stand on a connection".to_owned();
            Err(vec![wrong(entry.at, (message, Some("leave out one".to_owned())))])
        }
    }
}

/// A listener or a connection as it stands in the file
struct Entry<'a, 'i> {
    address: &'a str,
    /// Where the address stands
    at: &'a Spanned<DeValue<'i>>,
    /// `allow-plaintext`
    allow: bool,
    /// Its other keys
    others: Vec<(&'a str, &'a Spanned<DeValue<'i>>)>,
}

/// Reads a listener or a connection from a string or a table
fn text_or_table<'a, 'i>(
    value: &'a Spanned<DeValue<'i>>,
    name: &str,
    others: &[&str],
) -> Result<Entry<'a, 'i>, Vec<Wrong>> {
    let more: String = others.iter().map(|other| format!(", or with {other}")).collect();
    let shape = format!("a string, or {{ {name} = \"…\", allow-plaintext = true }}{more}");
    if let Some(address) = value.get_ref().as_str() {
        return Ok(Entry { address, at: value, allow: false, others: Vec::new() });
    }
    let Some(table) = value.get_ref().as_table() else { return Err(wrong_type(value, &shape)) };
    let mut address = None;
    let mut allow = false;
    let mut found = Vec::new();
    let mut wrongs = Vec::new();
    for (key, field) in table {
        let known: &str = key.get_ref();
        if known == name {
            match field.get_ref().as_str() {
                Some(text) => address = Some((text, field)),
                None => wrongs.extend(wrong_type(field, "a string")),
            }
        } else if known == "allow-plaintext" {
            match field.get_ref().as_bool() {
                Some(value) => allow = value,
                None => wrongs.extend(wrong_type(field, "true or false")),
            }
        } else if others.contains(&known) {
            found.push((known, field));
        } else {
            wrongs.push(Wrong {
                span: key.span(),
                message: format!("unknown key '{known}'"),
                hint: Some(format!("an entry is {shape}")),
            });
        }
    }
    match address {
        Some((address, at)) if wrongs.is_empty() => Ok(Entry { address, at, allow, others: found }),
        None if wrongs.is_empty() => Err(vec![wrong(value, (format!("'{name}' is missing"), None))]),
        _ => Err(wrongs),
    }
}

/// What a listener's table says of its protection: one thing at most
fn protection(entry: &Entry<'_, '_>) -> Result<Protection, Vec<Wrong>> {
    let mut said = if entry.allow { vec![Protection::Plaintext] } else { Vec::new() };
    for (key, field) in &entry.others {
        said.push(match (*key, field.get_ref()) {
            ("curve", DeValue::Boolean(true)) => Protection::Curve(None),
            ("curve", DeValue::Boolean(false)) => continue,
            ("curve", DeValue::String(name)) => Protection::Curve(Some(name.to_string())),
            ("curve", _) => return Err(wrong_type(field, "true or the name of an own key")),
            (_, DeValue::String(name)) => Protection::Tls(name.to_string()),
            _ => return Err(wrong_type(field, "the name of a certificate")),
        });
    }
    match (said.pop(), said.is_empty()) {
        (None, _) => Ok(Protection::Usual),
        (Some(protection), true) => Ok(protection),
        (Some(_), false) => {
            let message = "only one of curve, tls and allow-plaintext can stand on a listener".to_owned();
            Err(vec![wrong(entry.at, (message, Some("leave out all but one".to_owned())))])
        }
    }
}

fn word<T: ValueEnum>(text: &str, what: &str) -> Result<T, TextError> {
    T::from_str(text, false).map_err(|_| {
        let words: Vec<String> = T::value_variants()
            .iter()
            .filter_map(ValueEnum::to_possible_value)
            .map(|value| value.get_name().to_owned())
            .collect();
        (format!("'{text}' is not a {what}"), Some(format!("there are {}", words.join(", "))))
    })
}

fn wrong(value: &Spanned<DeValue<'_>>, (message, hint): TextError) -> Wrong {
    Wrong { span: value.span(), message, hint }
}

fn wrong_type(value: &Spanned<DeValue<'_>>, wanted: &str) -> Vec<Wrong> {
    vec![wrong(value, (format!("it takes {wanted}, not {}", a_type(value.get_ref())), None))]
}

const COUNT: &str = "a whole number from 0 to 4294967295";
const EMPTY: &str = "name at least one endpoint, or write enabled = false below the same section";

fn none_at_all() -> TextError {
    ("0 is none at all".to_owned(), Some("write 1 or more".to_owned()))
}

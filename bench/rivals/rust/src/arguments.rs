//! The command line: a role, then `key=value` in any order.

use std::fmt;
use std::str::FromStr;

use anyhow::Result;

/// The command line does not say what to do
#[derive(Debug)]
pub struct Usage(pub String);

/// The library does not do what was asked for
#[derive(Debug)]
pub struct Unsupported(pub String);

impl fmt::Display for Usage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}; usage: PROGRAM ROLE key=value …", self.0)
    }
}

impl fmt::Display for Unsupported {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "unsupported {}", self.0)
    }
}

impl std::error::Error for Usage {}
impl std::error::Error for Unsupported {}

/// A role and its keys
#[derive(Debug)]
pub struct Arguments {
    role: String,
    pairs: Vec<(String, String)>,
}

impl Arguments {
    /// Those this process was started with
    pub fn of_process() -> Result<Self> {
        let mut words = std::env::args().skip(1);
        let role = words.next().ok_or_else(|| Usage("no role is given".to_owned()))?;
        let pairs = words
            .map(|word| match word.split_once('=') {
                Some((key, value)) => Ok((key.to_owned(), value.to_owned())),
                None => Err(Usage(format!("{word:?} is not key=value"))),
            })
            .collect::<Result<_, _>>()?;
        Ok(Self { role, pairs })
    }

    /// What the process is to do
    pub fn role(&self) -> &str {
        &self.role
    }

    /// Fails on a key that the role does not have
    pub fn only(&self, keys: &[&str]) -> Result<()> {
        match self.pairs.iter().find(|(key, _)| !keys.contains(&key.as_str()) && key != "runtime") {
            Some((key, _)) => Err(Usage(format!("{} has no key {key}", self.role)).into()),
            None => Ok(()),
        }
    }

    /// Fails on a value that would need something the library does not have
    pub fn lacks(&self, key: &str, only: &str) -> Result<()> {
        let value = self.text_or(key, only)?;
        if value == only { Ok(()) } else { Err(Unsupported(format!("{} with {key}={value}", self.role)).into()) }
    }

    /// The value of a key that must be there
    pub fn text(&self, key: &str) -> Result<&str> {
        let mut values = self.pairs.iter().filter(|(name, _)| name == key);
        match (values.next(), values.next()) {
            (Some((_, value)), None) => Ok(value),
            (Some(_), Some(_)) => Err(Usage(format!("{key} is given twice")).into()),
            (None, _) => Err(Usage(format!("{} needs {key}=", self.role)).into()),
        }
    }

    /// The value of a key, or `default`
    pub fn text_or<'a>(&'a self, key: &str, default: &'a str) -> Result<&'a str> {
        if self.pairs.iter().any(|(name, _)| name == key) { self.text(key) } else { Ok(default) }
    }

    /// The number of a key that must be there
    pub fn number<T: FromStr>(&self, key: &str) -> Result<T> {
        let text = self.text(key)?;
        text.parse().map_err(|_| Usage(format!("{key}={text} is not a number that {key} can have")).into())
    }

    /// The number of a key, or `default`
    pub fn number_or<T: FromStr>(&self, key: &str, default: T) -> Result<T> {
        if self.pairs.iter().any(|(name, _)| name == key) { self.number(key) } else { Ok(default) }
    }

    /// Where to bind, with a port of its own for `*`: the crates know 0 for that
    pub fn bind_endpoint(&self, key: &str) -> Result<String> {
        let endpoint = self.text(key)?;
        if let Some(path) = endpoint.strip_prefix("ipc://") {
            // Neither crate clears away the file of a process that is gone
            std::fs::remove_file(path).ok();
        }
        Ok(match endpoint.strip_suffix(":*") {
            Some(host) => format!("{host}:0"),
            None => endpoint.to_owned(),
        })
    }
}

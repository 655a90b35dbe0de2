//! What a role is told: `key=value` words, each key at most once, none left over.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use anyhow::{Result, bail};

/// The words after the role
pub(crate) struct Arguments(BTreeMap<String, String>);

/// The words were wrong, and the caller can put that right
#[derive(Debug)]
pub(crate) struct Usage(pub(crate) String);

/// Whether the async or the blocking calls are measured
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Api {
    Async,
    Blocking,
}

impl Arguments {
    pub(crate) fn new(words: &[String]) -> Result<Self> {
        let mut values = BTreeMap::new();
        for word in words {
            let Some((key, value)) = word.split_once('=') else {
                bail!(Usage(format!("{word:?} is no key=value")));
            };
            if values.insert(key.to_owned(), value.to_owned()).is_some() {
                bail!(Usage(format!("{key} is given twice")));
            }
        }
        Ok(Self(values))
    }

    /// A value that must be given
    pub(crate) fn needed<T: FromStr>(&mut self, key: &str) -> Result<T> {
        match self.optional(key)? {
            Some(value) => Ok(value),
            None => bail!(Usage(format!("{key}=… is missing"))),
        }
    }

    /// A value, or what holds without it
    pub(crate) fn or<T: FromStr>(&mut self, key: &str, default: T) -> Result<T> {
        Ok(self.optional(key)?.unwrap_or(default))
    }

    /// A value, if it is given
    pub(crate) fn optional<T: FromStr>(&mut self, key: &str) -> Result<Option<T>> {
        let Some(text) = self.0.remove(key) else { return Ok(None) };
        match text.parse() {
            Ok(value) => Ok(Some(value)),
            Err(_) => bail!(Usage(format!("{key}={text} is not a value that {key} can have"))),
        }
    }

    /// `api=async|blocking`
    pub(crate) fn api(&mut self) -> Result<Api> {
        self.or("api", Api::Async)
    }

    /// Sees to it that every word had a meaning
    pub(crate) fn finish(self) -> Result<()> {
        match self.0.keys().next() {
            None => Ok(()),
            Some(key) => bail!(Usage(format!("this role has no {key}"))),
        }
    }
}

impl fmt::Display for Usage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Usage {}

impl FromStr for Api {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        match text {
            "async" => Ok(Self::Async),
            "blocking" => Ok(Self::Blocking),
            _ => Err(()),
        }
    }
}

//! The `key=value` arguments of a role: each taken once, and none left over.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use anyhow::{Context as _, Result};

use crate::endpoint::Endpoint;

/// The arguments were wrong: exit code 2, not 1
#[derive(Debug)]
pub(crate) struct Usage(pub(crate) String);

impl fmt::Display for Usage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Usage {}

pub(crate) struct Keys {
    left: BTreeMap<String, String>,
}

impl Keys {
    pub(crate) fn parse(pairs: &[String]) -> Result<Self> {
        let mut left = BTreeMap::new();
        for pair in pairs {
            // A flag may stand alone, as in `hold`
            let (key, value) = pair.split_once('=').unwrap_or((pair, "yes"));
            if left.insert(key.to_owned(), value.to_owned()).is_some() {
                return Err(Usage(format!("{key} is given twice; give it once")).into());
            }
        }
        Ok(Self { left })
    }

    pub(crate) fn endpoint(&mut self) -> Result<Endpoint> {
        let text = self.required("endpoint")?;
        Endpoint::parse(&text).with_context(|| Usage(format!("endpoint={text}")))
    }

    /// A folder, which is there or is made
    pub(crate) fn folder(&mut self, key: &str) -> Result<PathBuf> {
        let text = self.required(key)?;
        if text.is_empty() {
            return Err(Usage(format!("{key}=FOLDER is empty")).into());
        }
        Ok(text.into())
    }

    /// A whole number of at least 1
    pub(crate) fn number(&mut self, key: &str) -> Result<usize> {
        let text = self.required(key)?;
        number(key, &text)
    }

    /// As `number`, or `None` where the key is not given
    pub(crate) fn number_if_given(&mut self, key: &str) -> Result<Option<usize>> {
        self.left.remove(key).map(|text| number(key, &text)).transpose()
    }

    /// One of `choices`, the first of which is the default
    pub(crate) fn choice(&mut self, key: &str, choices: &[&'static str]) -> Result<&'static str> {
        let Some(text) = self.left.remove(key) else { return Ok(choices[0]) };
        let found = choices.iter().find(|choice| **choice == text).copied();
        found.ok_or_else(|| Usage(format!("{key}={text} is not one of {}", choices.join(", "))).into())
    }

    pub(crate) fn flag(&mut self, key: &str) -> Result<bool> {
        Ok(matches!(self.choice(key, &["no", "0", "false", "yes", "1", "true"])?, "yes" | "1" | "true"))
    }

    /// Refuses what no role asked for, so that a misspelt key is never taken for a default
    pub(crate) fn finish(self) -> Result<()> {
        match self.left.first_key_value() {
            None => Ok(()),
            Some((key, value)) => Err(Usage(format!("this role has no key {key} ({key}={value})")).into()),
        }
    }

    fn required(&mut self, key: &str) -> Result<String> {
        self.left.remove(key).ok_or_else(|| Usage(format!("{key}=… is missing")).into())
    }
}

fn number(key: &str, text: &str) -> Result<usize> {
    usize::from_str(text)
        .ok()
        .filter(|number| *number > 0)
        .ok_or_else(|| Usage(format!("{key}={text} is not a whole number above 0")).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(pairs: &[&str]) -> Result<Keys> {
        Keys::parse(&pairs.iter().map(|pair| (*pair).to_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn every_key_is_taken_once() {
        let mut keys = keys(&["size=64", "kind=tokio", "hold"]).unwrap();
        assert_eq!(keys.number("size").unwrap(), 64);
        assert_eq!(keys.number_if_given("rate").unwrap(), None);
        assert_eq!(keys.choice("kind", &["std", "tokio"]).unwrap(), "tokio");
        assert_eq!(keys.choice("wire", &["zmtp", "raw"]).unwrap(), "zmtp");
        assert!(keys.flag("hold").unwrap());
        keys.finish().unwrap();
    }

    #[test]
    fn wrong_arguments_are_told_from_failures() {
        assert!(keys(&["size=1", "size=2"]).err().unwrap().is::<Usage>());
        assert!(keys(&["size=none"]).unwrap().number("size").err().unwrap().is::<Usage>());
        assert!(keys(&["size=0"]).unwrap().number("size").err().unwrap().is::<Usage>());
        assert!(keys(&[]).unwrap().number("size").err().unwrap().is::<Usage>());
        assert!(keys(&["sise=64"]).unwrap().finish().err().unwrap().is::<Usage>());
        assert!(keys(&["endpoint=udp://x"]).unwrap().endpoint().err().unwrap().is::<Usage>());
    }
}

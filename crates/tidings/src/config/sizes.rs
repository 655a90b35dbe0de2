//! Values with words or units of their own: sizes, and when a request counts as stored.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use crate::cli::units;

/// A size in octets
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Octets(pub(crate) u64);

/// When a request counts as stored
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) enum Durability {
    /// It is on disk
    #[default]
    Fsync,
    /// It is on disk within this time: a crash of the machine takes what came in meanwhile
    Interval(Duration),
    /// It is never on disk: the end of the process takes everything
    Memory,
}

impl FromStr for Durability {
    type Err = (String, Option<String>);

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let wrong = || {
            let hint = "there are \"fsync\", \"interval:200ms\" with any duration, and \"memory\"";
            (format!("'{text}' is not a durability"), Some(hint.to_owned()))
        };
        match text.split_once(':') {
            None if text == "fsync" => Ok(Self::Fsync),
            None if text == "memory" => Ok(Self::Memory),
            Some(("interval", interval)) => match units::duration(interval) {
                Ok(interval) if !interval.is_zero() => Ok(Self::Interval(interval)),
                _ => Err(wrong()),
            },
            _ => Err(wrong()),
        }
    }
}

impl fmt::Display for Durability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fsync => f.write_str("fsync"),
            Self::Interval(interval) => write!(f, "interval:{}", units::display_duration(*interval)),
            Self::Memory => f.write_str("memory"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durability_is_printed_as_it_is_read() {
        for text in ["fsync", "interval:200ms", "interval:1m30s", "memory"] {
            assert_eq!(text.parse::<Durability>().unwrap().to_string(), text);
        }
        for text in ["", "sync", "interval", "interval:", "interval:0", "interval:5", "memory:1s"] {
            assert!(text.parse::<Durability>().is_err(), "{text:?} was accepted");
        }
    }
}

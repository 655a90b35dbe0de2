//! Names of keys, which are names of files and, once a peer is let in, its user id.

use std::borrow::Borrow;
use std::fmt;
use std::str::FromStr;

/// The name of a key: 1 to 64 letters, digits and `. _ -`, beginning with a letter or digit
///
/// It is chosen by whoever trusts the key, never by the key's owner. As the name of a file it can't lead out of its
/// folder; as a user id it fits any log line.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct KeyName(String);

impl KeyName {
    /// The text
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The name of the file that holds generation `generation` (from 1): `node`, then `node~2`, …
    pub(crate) fn stem(&self, generation: u32) -> String {
        if generation <= 1 { self.0.clone() } else { format!("{}~{generation}", self.0) }
    }

    /// The name and generation of a file's stem
    pub(crate) fn from_stem(stem: &str) -> Result<(Self, u32), NameError> {
        match stem.split_once('~') {
            None => Ok((stem.parse()?, 1)),
            Some((name, generation)) => {
                let number =
                    generation.parse().ok().filter(|number: &u32| *number >= 2 && number.to_string() == generation);
                Ok((name.parse()?, number.ok_or_else(|| NameError(stem.to_owned()))?))
            }
        }
    }
}

/// So that maps of names can be asked with text
impl Borrow<str> for KeyName {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl FromStr for KeyName {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let inner = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
        let good = text.len() <= MAX_LEN
            && text.chars().all(inner)
            && text.chars().next().is_some_and(|first| first.is_ascii_alphanumeric());
        if good { Ok(Self(text.to_owned())) } else { Err(NameError(text.to_owned())) }
    }
}

impl fmt::Display for KeyName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A text that is no name of a key
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("'{}' is not a name for a key: use 1 to 64 letters, digits and . _ -, beginning with a letter or digit", .0.escape_debug())]
pub struct NameError(pub(crate) String);

/// Long enough for a host name; short enough for a column, and no user id grows past a frame of 255 octets
const MAX_LEN: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_stay_in_their_folder() {
        for good in ["node", "hub-1", "a.example.org", "4711"] {
            assert_eq!(good.parse::<KeyName>().map(|name| name.to_string()), Ok(good.to_owned()));
        }
        for wrong in ["", ".", "..", "../x", "a/b", "-x", ".x", "a b", "a\nb", "ä", "a~2", &"a".repeat(65)] {
            assert!(wrong.parse::<KeyName>().is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn generations_lead_back() {
        for (stem, name, generation) in [("hub", "hub", 1), ("hub~2", "hub", 2), ("hub~17", "hub", 17)] {
            let read = KeyName::from_stem(stem).unwrap();
            assert_eq!((read.0.as_str(), read.1), (name, generation));
            assert_eq!(read.0.stem(generation), stem);
        }
        for wrong in ["hub~", "hub~1", "hub~02", "hub~x", "~2", "hub~2~3", "hub~+2"] {
            assert!(KeyName::from_stem(wrong).is_err(), "{wrong}");
        }
    }
}

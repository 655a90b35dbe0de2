//! What can be wrong with a keystore: which file, which line, and what to do about it.

use std::fmt;
use std::io;
use std::path::PathBuf;

use crate::{NameError, UnwritableValue, ZplError};

/// Why a keystore can't be opened, read again or changed
///
/// No variant holds or shows a secret.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KeystoreError {
    /// The directory is not there: `tidings key new` makes one
    #[error("there is no keystore at {}: make one with `tidings key new`, or name another directory", .0.display())]
    Missing(PathBuf),
    /// The system refused
    #[error("can't {doing} {}: {source}", path.display())]
    Io {
        /// What was tried: `read`, `write`
        doing: &'static str,
        /// On what
        path: PathBuf,
        /// What it said
        source: io::Error,
    },
    /// Others may read a secret, or write what must be ours: run the command
    #[error("{} {what} (its mode is {mode:03o}): run  chmod {remedy} {}", path.display(), quoted(path))]
    Exposed {
        /// The file or directory
        path: PathBuf,
        /// Its permission bits
        mode: u32,
        /// What others may do: `can be read by others`
        what: &'static str,
        /// The argument of chmod that mends it
        remedy: &'static str,
    },
    /// A file is larger than any certificate
    #[error("{} is larger than {limit} octets: that is no file of a keystore", path.display())]
    TooLarge {
        /// The file
        path: PathBuf,
        /// The most that is read
        limit: u64,
    },
    /// A file has an invalid name, or something that is no regular file stands where a key is expected
    #[error("{}: {why}", path.display())]
    Misplaced {
        /// The file
        path: PathBuf,
        /// What is expected there
        why: String,
    },
    /// A certificate file is no ZPL
    #[error("{}: {source}", path.display())]
    Zpl {
        /// The file
        path: PathBuf,
        /// The line, and what is wrong with it
        source: ZplError,
    },
    /// A certificate file is ZPL, but no certificate
    #[error("{}{}: {why}", path.display(), line_of(*line))]
    Certificate {
        /// The file
        path: PathBuf,
        /// The line, counted from 1; 0 where the whole file is meant
        line: usize,
        /// What is wrong, and what is expected
        why: String,
    },
    /// `access.toml` is wrong
    #[error("{0}")]
    Access(AccessProblem),
    /// A PEM file of TLS or CMS is wrong
    #[error("{}: {why}", path.display())]
    Pem {
        /// The file
        path: PathBuf,
        /// What is wrong
        why: String,
    },
    /// The same public key stands in two files: which of the names should its owner have?
    #[error("{} and {} hold the same public key: remove one of them", first.display(), second.display())]
    SameKey {
        /// One file
        first: PathBuf,
        /// The other
        second: PathBuf,
    },
    /// Several files are wrong; all are named, so that they can be mended in one go
    #[error("{} problems in the keystore\n{}", .0.len(), listed(.0))]
    Several(Vec<KeystoreError>),
    /// There is no key of that name
    #[error("there is no {kind} '{name}'{}", hint(suggestion.as_deref()))]
    NoSuchKey {
        /// `key of our own`, `trusted key`
        kind: &'static str,
        /// The name asked for
        name: String,
        /// A name like it that is there, or what to do
        suggestion: Option<String>,
    },
    /// The key is there, but past its expiry
    #[error("the key '{name}' expired on {on}: {remedy}")]
    Expired {
        /// Its name
        name: String,
        /// When
        on: String,
        /// What to do
        remedy: String,
    },
    /// The key is there, and revoked
    #[error("the key '{name}' was revoked on {on}")]
    Revoked {
        /// Its name
        name: String,
        /// When
        on: String,
    },
    /// Something of that name is there already, and is not overwritten
    #[error("there is already a {kind} '{name}': {remedy}")]
    Exists {
        /// `key of our own`, `trusted key`
        kind: &'static str,
        /// Its name
        name: String,
        /// What to do instead
        remedy: String,
    },
    /// Not a name for a key
    #[error(transparent)]
    Name(#[from] NameError),
    /// A property that a certificate file can't hold
    #[error(transparent)]
    Unwritable(#[from] UnwritableValue),
    /// The system gave no random octets
    #[error("the system gives no random octets: {0}")]
    Entropy(String),
    /// A TLS key or certificate could not be made
    #[error("can't make the certificate: {0}")]
    Making(String),
}

impl KeystoreError {
    /// The file that is wrong, if it is one
    pub fn path(&self) -> Option<&std::path::Path> {
        match self {
            Self::Missing(path)
            | Self::Io { path, .. }
            | Self::Exposed { path, .. }
            | Self::TooLarge { path, .. }
            | Self::Misplaced { path, .. }
            | Self::Zpl { path, .. }
            | Self::Certificate { path, .. }
            | Self::Pem { path, .. } => Some(path),
            Self::Access(problem) => Some(&problem.path),
            Self::SameKey { second, .. } => Some(second),
            Self::Several(errors) => errors.first().and_then(Self::path),
            _ => None,
        }
    }

    /// One error for one or many; `Ok` for none
    pub(crate) fn all(mut errors: Vec<KeystoreError>) -> Result<(), KeystoreError> {
        match errors.len() {
            0 => Ok(()),
            1 => Err(errors.remove(0)),
            _ => Err(Self::Several(errors)),
        }
    }

    pub(crate) fn io(doing: &'static str, path: &std::path::Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { doing, path: path.to_owned(), source }
    }
}

/// Something wrong with `access.toml`
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct AccessProblem {
    /// The file
    pub path: PathBuf,
    /// Counted from 1
    pub line: usize,
    /// Counted from 1, in characters
    pub column: usize,
    /// What is wrong
    pub message: String,
    /// What to write instead
    pub hint: Option<String>,
}

impl fmt::Display for AccessProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}: {}", self.path.display(), self.line, self.column, self.message)?;
        match &self.hint {
            Some(hint) => write!(f, " ({hint})"),
            None => Ok(()),
        }
    }
}

/// The name among `known` that `wrong` was most likely meant to be
pub(crate) fn nearest<'a>(wrong: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let likeness = |name: &'a str| (strsim::jaro_winkler(&wrong.to_lowercase(), &name.to_lowercase()), name);
    let likely = known.into_iter().map(likeness).filter(|(likeness, _)| *likeness >= 0.7);
    likely.max_by(|a, b| a.0.total_cmp(&b.0)).map(|(_, name)| name)
}

fn listed(errors: &[KeystoreError]) -> String {
    let lines: Vec<String> = errors.iter().map(|error| format!("  {error}")).collect();
    lines.join("\n")
}

fn hint(suggestion: Option<&str>) -> String {
    suggestion.map_or_else(String::new, |suggestion| format!(": {suggestion}"))
}

fn line_of(line: usize) -> String {
    if line == 0 { String::new() } else { format!(": line {line}") }
}

/// A path as a shell takes it
fn quoted(path: &std::path::Path) -> String {
    let text = path.display().to_string();
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-~+@%".contains(c);
    if text.chars().all(plain) { text } else { format!("'{}'", text.replace('\'', r"'\''")) }
}

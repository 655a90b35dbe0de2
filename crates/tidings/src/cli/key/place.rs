//! Where the keystore is, and how its errors end a command.

use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use clap::Args;
use tidings_keystore::{KeyName, Keystore, KeystoreError, parse_date};

use crate::cli::{Exit, Failure, units};

/// Which keystore a command is about
#[derive(Args, Clone, Debug)]
pub(crate) struct Place {
    /// The keystore [default: $XDG_CONFIG_HOME/tidings/keys or ~/.config/tidings/keys; /etc/tidings/keys for root]
    #[arg(long, value_name = "DIR", env = "TIDINGS_KEYS")]
    pub(super) keys: Option<PathBuf>,
}

impl Place {
    /// The directory
    ///
    /// # Errors
    /// None is named, and there is no home directory to look in.
    pub(crate) fn directory(&self) -> Result<PathBuf, Failure> {
        if let Some(keys) = &self.keys {
            return Ok(keys.clone());
        }
        if rustix::process::geteuid().is_root() {
            return Ok(PathBuf::from("/etc/tidings/keys"));
        }
        let absolute = |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
        let config = absolute("XDG_CONFIG_HOME").or_else(|| absolute("HOME").map(|home| home.join(".config")));
        let config = config.ok_or_else(|| {
            let failure = Failure::usage("no keystore is named, and neither HOME nor XDG_CONFIG_HOME is set");
            failure.hint("name one with --keys DIR or TIDINGS_KEYS")
        })?;
        Ok(config.join("tidings/keys"))
    }

    /// Opens it
    ///
    /// # Errors
    /// It is not there, or something in it is wrong.
    pub(super) fn open(&self) -> Result<Keystore, Failure> {
        Keystore::open(self.directory()?).map_err(failure)
    }

    /// Opens it, and makes it first if it is not there
    ///
    /// # Errors
    /// Something in it is wrong, or it can't be made.
    pub(super) fn create(&self) -> Result<Keystore, Failure> {
        Keystore::create(self.directory()?).map_err(failure)
    }
}

/// The exit code and the name that programs see
pub(super) fn failure(error: KeystoreError) -> Failure {
    let (exit, code) = match &error {
        KeystoreError::NoSuchKey { .. } => (Exit::Negative, "no-such-key"),
        KeystoreError::Exists { .. } => (Exit::Negative, "exists"),
        KeystoreError::Expired { .. } => (Exit::Negative, "expired"),
        KeystoreError::Revoked { .. } => (Exit::Negative, "revoked"),
        KeystoreError::Missing(_) => (Exit::Usage, "no-keystore"),
        KeystoreError::Exposed { .. } => (Exit::Usage, "permissions"),
        KeystoreError::Name(_) | KeystoreError::Unwritable(_) => (Exit::Usage, "usage"),
        KeystoreError::Access(_) => (Exit::Usage, "configuration"),
        KeystoreError::Io { .. } | KeystoreError::Entropy(_) | KeystoreError::Making(_) => (Exit::Usage, "system"),
        _ => (Exit::Data, "keystore"),
    };
    Failure::new(exit, code, error)
}

/// Reads a key's name
///
/// # Errors
/// Says what is legal.
pub(super) fn name(text: &str) -> Result<KeyName, String> {
    text.parse().map_err(|error: tidings_keystore::NameError| error.to_string())
}

/// Reads an end: a date, an instant, or a time from now
///
/// # Errors
/// Says what is legal.
pub(super) fn end(text: &str) -> Result<SystemTime, String> {
    if let Ok(span) = units::duration(text) {
        return SystemTime::now().checked_add(span).ok_or_else(|| format!("'{text}' is too far away"));
    }
    parse_date(text).map_err(|_| {
        format!("'{text}' is no end: write 2027-01-31, 2027-01-31T12:00:00Z or a time from now, such as 90d")
    })
}

/// Reads a grace period
///
/// # Errors
/// Says what is legal; more than ten years is no grace.
pub(super) fn grace(text: &str) -> Result<Duration, String> {
    let grace = units::duration(text)?;
    if grace > MAX_GRACE { Err(format!("'{text}' is longer than ten years")) } else { Ok(grace) }
}

const MAX_GRACE: Duration = Duration::from_secs(3653 * 86_400);

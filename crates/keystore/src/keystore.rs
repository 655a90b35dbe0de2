//! The keystore as a program holds it: one good set of keys at any time, replaced as a whole.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use arc_swap::ArcSwap;
use serde::Serialize;

use crate::authenticator::{Counts, KeystoreAuthenticator};
use crate::date::display_date;
use crate::files;
use crate::keyset::{CMS, OWN, REVOKED, TLS, TRUSTED};
use crate::password::Passwords;
use crate::{Changes, KeySet, KeystoreError, OwnKey, TrustedKey};

/// The keys of a node: its own, those it trusts, and who may do what
///
/// A handle is cheap to clone; all clones see the same set of keys.
#[derive(Clone)]
pub struct Keystore {
    pub(crate) shared: Arc<Shared>,
}

pub(crate) struct Shared {
    pub(crate) directory: PathBuf,
    pub(crate) keys: ArcSwap<KeySet>,
    pub(crate) passwords: Passwords,
    pub(crate) counts: Counts,
    state: Mutex<State>,
    /// Held from reading to replacing: a set that was read earlier never follows one that was read later
    reloading: Mutex<()>,
}

struct State {
    loaded_at: SystemTime,
    /// What the last reload failed with, until one succeeds
    last_error: Option<String>,
    reloads: u64,
    failed_reloads: u64,
}

/// How a keystore stands, for status pages and logs; without secrets
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct KeystoreStatus {
    /// The directory
    pub directory: PathBuf,
    /// When the set of keys in force was read
    pub loaded_at: String,
    /// Why the last reload failed: the set in force is older than the files
    pub last_error: Option<String>,
    /// Reloads that succeeded
    pub reloads: u64,
    /// Reloads that did not
    pub failed_reloads: u64,
    /// Keys of our own
    pub own: usize,
    /// Keys that we trust
    pub trusted: usize,
    /// Keys that are never let in again
    pub revoked: usize,
    /// Certificates of TLS and CMS
    pub certificates: usize,
    /// The key or certificate that ends next
    pub next_expiry: Option<Expiry>,
}

/// What ends when
#[derive(Clone, Debug, Serialize)]
pub struct Expiry {
    /// The name of the key, or `tls/NAME`
    pub name: String,
    /// When
    pub on: String,
    /// Whole seconds until then
    pub seconds_left: u64,
}

impl Keystore {
    /// Reads a directory
    ///
    /// # Errors
    /// All that is wrong with it; [`KeystoreError::Missing`] if it is not there.
    pub fn open(directory: impl Into<PathBuf>) -> Result<Self, KeystoreError> {
        let directory = directory.into();
        let keys = KeySet::read(&directory)?;
        let passwords = Passwords::new().map_err(|error| KeystoreError::Entropy(error.to_string()))?;
        let state = State { loaded_at: SystemTime::now(), last_error: None, reloads: 0, failed_reloads: 0 };
        let shared = Shared {
            directory,
            keys: ArcSwap::from_pointee(keys),
            passwords,
            counts: Counts::default(),
            state: Mutex::new(state),
            reloading: Mutex::new(()),
        };
        Ok(Self { shared: Arc::new(shared) })
    }

    /// Reads a directory, and makes it and its folders first (mode 0700) where they are missing
    ///
    /// # Errors
    /// Those of [`Keystore::open`] and of making directories.
    pub fn create(directory: impl Into<PathBuf>) -> Result<Self, KeystoreError> {
        let directory = directory.into();
        for folder in ["", OWN, TRUSTED, REVOKED, TLS, CMS] {
            files::make_directory(&directory.join(folder))?;
        }
        Self::open(directory)
    }

    /// Where it is
    pub fn directory(&self) -> &Path {
        &self.shared.directory
    }

    /// The set of keys in force; it stays as it is, whatever is reloaded meanwhile
    pub fn keys(&self) -> Arc<KeySet> {
        self.shared.keys.load_full()
    }

    /// Reads the directory again: all of it takes force, or nothing, and then the last good set stays
    ///
    /// Blocks while it reads some hundred octets for each key.
    ///
    /// # Errors
    /// All that is wrong, with files and lines.
    pub fn reload(&self) -> Result<Changes, KeystoreError> {
        let _reloading = self.shared.reloading.lock().unwrap_or_else(PoisonError::into_inner);
        let read = KeySet::read(&self.shared.directory);
        let mut state = self.shared.state.lock().unwrap_or_else(PoisonError::into_inner);
        match read {
            Ok(keys) => {
                let old = self.shared.keys.swap(Arc::new(keys));
                state.loaded_at = SystemTime::now();
                state.last_error = None;
                state.reloads += 1;
                Ok(Changes::between(&old, &self.shared.keys.load()))
            }
            Err(error) => {
                state.failed_reloads += 1;
                state.last_error = Some(error.to_string());
                Err(error)
            }
        }
    }

    /// How it stands
    pub fn status(&self) -> KeystoreStatus {
        let (keys, now) = (self.keys(), SystemTime::now());
        let state = self.shared.state.lock().unwrap_or_else(PoisonError::into_inner);
        KeystoreStatus {
            directory: self.shared.directory.clone(),
            loaded_at: display_date(state.loaded_at),
            last_error: state.last_error.clone(),
            reloads: state.reloads,
            failed_reloads: state.failed_reloads,
            own: keys.own_keys().count(),
            trusted: keys.trusted().count(),
            revoked: keys.revoked().count(),
            certificates: keys.certificates().count(),
            next_expiry: keys.next_expiry(now).map(|(name, on)| Expiry {
                name,
                on: display_date(on),
                seconds_left: on.duration_since(now).unwrap_or_default().as_secs(),
            }),
        }
    }

    /// The key of our own with this name that is to be used now
    ///
    /// # Errors
    /// As [`KeySet::own`].
    pub fn own(&self, name: &str) -> Result<Arc<OwnKey>, KeystoreError> {
        self.keys().own(name, SystemTime::now()).cloned()
    }

    /// The key of our own that is to be used now, where none is named
    ///
    /// # Errors
    /// As [`KeySet::own_default`].
    pub fn own_default(&self) -> Result<Arc<OwnKey>, KeystoreError> {
        self.keys().own_default(SystemTime::now()).cloned()
    }

    /// The key that the peer of this name uses now: what a client expects of its server
    ///
    /// # Errors
    /// As [`KeySet::peer`].
    pub fn peer(&self, name: &str) -> Result<Arc<TrustedKey>, KeystoreError> {
        self.keys().peer(name, SystemTime::now()).cloned()
    }

    /// All keys that we trust, by name
    pub fn trusted(&self) -> impl Iterator<Item = Arc<TrustedKey>> {
        self.keys().trusted().cloned().collect::<Vec<_>>().into_iter()
    }

    /// What lets peers in by these keys and rules; it follows reloads
    pub fn authenticator(&self) -> Arc<KeystoreAuthenticator> {
        Arc::new(KeystoreAuthenticator::new(Arc::clone(&self.shared)))
    }
}

impl fmt::Debug for Keystore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keystore").field("directory", &self.shared.directory).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;

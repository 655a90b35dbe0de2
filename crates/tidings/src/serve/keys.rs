//! The node's keystore while the daemon runs: followed, reloaded, and watched for what is about to end.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use tidings::{Context, Endpoint, Options};
use tidings_keystore::{Changes, Keystore, KeystoreError, KeystoreStatus, OwnKey, Watch, display_expiry};

use crate::cli::{Failure, security};
use crate::config::Settings;

/// The keys that the daemon proves itself with, and those it lets in; clones see the same
#[derive(Clone)]
pub(super) struct NodeKeys {
    keystore: Keystore,
    /// Which own key is the node's; the only one if not named
    key: Option<String>,
}

impl NodeKeys {
    /// Reads the keystore that the settings name, has it decide who comes in, and follows its files
    ///
    /// # Errors
    /// What is wrong with it.
    pub(super) fn start(context: &Context, settings: &Settings) -> Result<Option<(Self, Watch)>, Failure> {
        let Some(directory) = &settings.security_keys.value.0 else { return Ok(None) };
        let keystore = security::open(directory)?;
        context.set_authenticator(Some(keystore.authenticator()));
        let key = Some(settings.security_key.value.clone()).filter(|name| !name.is_empty());
        let watch = keystore.watch(LOOK, |outcome| {
            note(&outcome);
        });
        let watch = watch.map_err(|error| Failure::new(crate::cli::Exit::Usage, "system", error))?;
        let keys = Self { keystore, key };
        keys.warn_of_ends();
        Ok(Some((keys, watch)))
    }

    /// A listener that takes CURVE
    ///
    /// # Errors
    /// No such key.
    pub(super) fn curve(&self, options: Options, name: Option<&str>) -> Result<Options, Failure> {
        security::curve_listener(options, &self.keystore, name.or(self.key.as_deref()))
    }

    /// A listener that takes TLS
    ///
    /// # Errors
    /// No such certificate.
    pub(super) fn tls(&self, options: Options, name: Option<&str>) -> Result<Options, Failure> {
        security::tls_listener(options, &self.keystore, name.or(self.key.as_deref()))
    }

    /// A connection to somebody, with the key that the other end must have if it is named
    ///
    /// # Errors
    /// No own key or certificate, or none that could be the other end's.
    pub(super) fn connect(
        &self,
        endpoint: &Endpoint,
        options: Options,
        server_key: Option<&str>,
    ) -> Result<Options, Failure> {
        let (keystore, key) = (self.keystore.clone(), self.key.clone());
        security::Security::Keys { keystore, key, server_key: server_key.map(str::to_owned) }
            .for_connect(endpoint, options)
    }

    /// The node's own key
    ///
    /// # Errors
    /// There is none, or several and none is named.
    pub(super) fn own(&self) -> Result<std::sync::Arc<OwnKey>, Failure> {
        security::own_key(&self.keystore, self.key.as_deref())
    }

    /// Reads all files again; whether they were good
    pub(super) fn reload(&self) -> bool {
        note(&self.keystore.reload())
    }

    /// How the keystore stands
    pub(super) fn status(&self) -> KeystoreStatus {
        self.keystore.status()
    }

    /// Peers let in so far
    pub(super) fn admitted(&self) -> u64 {
        self.keystore.authenticator().admitted()
    }

    /// Peers refused so far, by reason
    pub(super) fn refused(&self) -> BTreeMap<&'static str, u64> {
        self.keystore.authenticator().refused()
    }

    /// Own keys and certificates, and the seconds until they end: below zero when they have
    pub(super) fn ends(&self) -> Vec<(String, i64)> {
        let (keys, now) = (self.keystore.keys(), SystemTime::now());
        let own = keys.own_keys().map(|key| (format!("curve/{}", key.name), key.expires));
        let certificates = keys.certificates().map(|(kind, one)| (format!("{kind}/{}", one.name), Some(one.not_after)));
        let seconds = |ends: SystemTime| match ends.duration_since(now) {
            Ok(left) => i64::try_from(left.as_secs()).unwrap_or(i64::MAX),
            Err(past) => i64::try_from(past.duration().as_secs()).map_or(i64::MIN, |past| -past),
        };
        own.chain(certificates).filter_map(|(name, ends)| Some((name, seconds(ends?)))).collect()
    }

    /// Says in the log which keys and certificates end soon, or have ended
    pub(super) fn warn_of_ends(&self) {
        let (keys, now) = (self.keystore.keys(), SystemTime::now());
        let own = keys.own_keys().map(|key| (format!("own key {}", key.name), key.expires));
        let trusted = keys.trusted().map(|key| (format!("trusted key {}", key.name), key.expires));
        let certificates =
            keys.certificates().map(|(kind, one)| (format!("{kind} certificate {}", one.name), Some(one.not_after)));
        for (what, ends) in own.chain(trusted).chain(certificates) {
            let Some(ends) = ends.filter(|ends| *ends < now + SOON) else { continue };
            tracing::warn!(what, "{}", display_expiry(ends, now));
        }
    }
}

/// Logs what came of a reload; whether the files were good
fn note(outcome: &Result<Changes, KeystoreError>) -> bool {
    match outcome {
        Ok(changes) if changes.is_empty() => true,
        Ok(changes) => {
            tracing::info!("keys reloaded: {changes}");
            true
        }
        Err(error) => {
            tracing::error!("keys not reloaded, the last good ones stay in force: {error}");
            false
        }
    }
}

/// How often the files are looked at
const LOOK: Duration = Duration::from_secs(2);
/// From when on an end is warned of: time enough for a person to make and hand out new keys
pub(super) const SOON: Duration = Duration::from_secs(14 * 24 * 3600);
/// How often it is
pub(super) const WARN_AGAIN: Duration = Duration::from_secs(24 * 3600);

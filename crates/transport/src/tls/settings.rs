//! Certificate, key, authorities and pins: read from files when made, and again when those changed.

use std::fmt;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use rustls::client::Resumption;
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::server::ServerSessionMemoryCache;
use rustls::sign::CertifiedKey;
use rustls::{ClientConfig, InconsistentKeys, ServerConfig, SupportedProtocolVersion};
use rustls_pki_types::ServerName;
use tokio::time::Instant;

use super::certificate::{PeerCertificate, hex};
use super::files::{self, Stamp};
use super::verifier::PeerVerifier;

/// How one side of TLS connections shows itself and judges its peers
///
/// Made by [`client`](Self::client) or [`server`](Self::server), and shared by any number of endpoints of that side. The
/// files are looked at again at a handshake, at most once a second; when one has changed they are all read anew. Only
/// when all of them fit together does the new set count, for handshakes from then on: connections that are up stay as
/// they are, and until a faulty file is mended the last good set serves. [`status`](Self::status) tells.
pub struct TlsSettings {
    plan: Plan,
    state: Mutex<State>,
}

/// What was asked for
struct Plan {
    role: Role,
    certificate: Option<(PathBuf, PathBuf)>,
    authorities: Vec<PathBuf>,
    require_peer_certificate: bool,
    peer_name: Option<ServerName<'static>>,
    pinned: Vec<[u8; 32]>,
    versions: Vec<&'static SupportedProtocolVersion>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Role {
    Client,
    Server,
}

struct State {
    loaded: Loaded,
    /// The files as they were just before they were last read, with or without success
    stamps: Vec<Option<Stamp>>,
    looked_at: Instant,
    last_error: Option<String>,
    reloads: u64,
}

/// One good set of files
struct Loaded {
    config: TlsConfig,
    own: Option<PeerCertificate>,
}

/// What rustls takes
#[derive(Clone)]
pub(super) enum TlsConfig {
    Client(Arc<ClientConfig>),
    Server(Arc<ServerConfig>),
}

impl TlsSettings {
    /// Settings for connecting
    ///
    /// The server is judged by [`authorities`](TlsSettingsBuilder::authorities), by
    /// [`pinned`](TlsSettingsBuilder::pinned) keys, or by both; one of them is needed.
    pub fn client() -> TlsSettingsBuilder {
        TlsSettingsBuilder::new(Role::Client)
    }

    /// Settings for listening
    ///
    /// A certificate and its key are needed.
    pub fn server() -> TlsSettingsBuilder {
        TlsSettingsBuilder::new(Role::Server)
    }

    /// What is in use now, and what went wrong when the files last changed
    ///
    /// Looks at the files first, as a handshake would.
    pub fn status(&self) -> TlsStatus {
        let state = self.looked_at();
        let own = state.loaded.own.as_ref();
        TlsStatus {
            subject: own.map(|own| own.subject.clone()),
            fingerprint: own.map(|own| own.fingerprint),
            not_after: own.map(|own| own.not_after),
            last_error: state.last_error.clone(),
            reloads: state.reloads,
        }
    }

    /// What the next handshake goes by
    pub(super) fn config(&self) -> TlsConfig {
        self.looked_at().loaded.config.clone()
    }

    /// The name to expect of a server reached as `host`, or why there is none
    pub(crate) fn server_name(&self, host: Option<&str>) -> Result<ServerName<'static>, String> {
        if let Some(name) = &self.plan.peer_name {
            return Ok(name.clone());
        }
        match host {
            Some(host) => match ServerName::try_from(host.to_owned()) {
                Ok(name) => Ok(name),
                Err(_) if self.plan.authorities.is_empty() => Ok(no_name()),
                Err(_) => Err(format!("{host} can't stand in a certificate; set tls_peer_name to a name that does")),
            },
            None if self.plan.authorities.is_empty() => Ok(no_name()),
            None => {
                Err("there is no host to look for in the peer's certificate; set tls_peer_name, or pin its key by \
                         tls_pin instead of naming authorities"
                    .to_owned())
            }
        }
    }

    /// Whether they are for connecting, rather than for listening
    pub(crate) fn is_client(&self) -> bool {
        self.plan.role == Role::Client
    }

    fn looked_at(&self) -> MutexGuard<'_, State> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        if now.saturating_duration_since(state.looked_at) >= LOOK_INTERVAL {
            state.looked_at = now;
            let stamps = self.plan.stamps();
            if stamps != state.stamps {
                state.stamps = stamps;
                match self.plan.load() {
                    Ok(loaded) => {
                        state.loaded = loaded;
                        state.last_error = None;
                        state.reloads += 1;
                    }
                    Err(error) => state.last_error = Some(error.to_string()),
                }
            }
        }
        state
    }
}

/// The same settings, not equal ones: two that were made alike may have read different files
impl PartialEq for TlsSettings {
    fn eq(&self, other: &Self) -> bool {
        std::ptr::eq(self, other)
    }
}

impl Eq for TlsSettings {}

impl fmt::Debug for TlsSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsSettings")
            .field("role", &self.plan.role)
            .field("certificate", &self.plan.certificate.as_ref().map(|(certificate, _)| certificate))
            .field("authorities", &self.plan.authorities)
            .field("require_peer_certificate", &self.plan.require_peer_certificate)
            .field("peer_name", &self.plan.peer_name)
            .field("pinned", &self.plan.pinned.iter().map(|pin| hex(pin)).collect::<Vec<_>>())
            .finish_non_exhaustive()
    }
}

/// What [`TlsSettings`] use now
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct TlsStatus {
    /// The subject of this side's own certificate, if it has one
    pub subject: Option<String>,
    /// The SHA-256 of this side's own certificate (DER)
    pub fingerprint: Option<[u8; 32]>,
    /// When this side's own certificate expires
    pub not_after: Option<SystemTime>,
    /// Why the files as they are now don't count; `None` when they do
    pub last_error: Option<String>,
    /// How often a changed set of files has been taken since the settings were made
    pub reloads: u64,
}

/// A version of TLS
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum TlsVersion {
    /// RFC 5246, with the extended master secret where the peer has it
    Tls12,
    /// RFC 8446
    Tls13,
}

/// [`TlsSettings`] in the making; each setter takes and returns it, so that they chain
#[derive(Clone)]
#[must_use = "build makes the settings"]
pub struct TlsSettingsBuilder {
    role: Role,
    certificate: Option<PathBuf>,
    key: Option<PathBuf>,
    authorities: Vec<PathBuf>,
    require_peer_certificate: Option<bool>,
    peer_name: Option<String>,
    pinned: Vec<[u8; 32]>,
    versions: Vec<TlsVersion>,
}

impl TlsSettingsBuilder {
    fn new(role: Role) -> Self {
        Self {
            role,
            certificate: None,
            key: None,
            authorities: Vec::new(),
            require_peer_certificate: None,
            peer_name: None,
            pinned: Vec::new(),
            versions: vec![TlsVersion::Tls13, TlsVersion::Tls12],
        }
    }

    /// The PEM file of this side's certificate, followed by the intermediate ones that lead to its authority
    ///
    /// Default: none, which only a client may leave it at.
    pub fn certificate(mut self, file: PathBuf) -> Self {
        self.certificate = Some(file);
        self
    }

    /// The PEM file of the certificate's private key: PKCS#8, PKCS#1 or SEC1, not encrypted, closed to other users
    pub fn key(mut self, file: PathBuf) -> Self {
        self.key = Some(file);
        self
    }

    /// PEM files with the certificates of those who may issue a peer's
    ///
    /// Default: none. The system's own authorities are never used.
    pub fn authorities(mut self, files: Vec<PathBuf>) -> Self {
        self.authorities = files;
        self
    }

    /// Whether a listener turns away peers that show no certificate
    ///
    /// Default: true when there are authorities or pins, and otherwise false. When false with authorities or pins, a
    /// certificate is asked for, and verified if one comes. A connecting side always requires one.
    pub fn require_peer_certificate(mut self, require: bool) -> Self {
        self.require_peer_certificate = Some(require);
        self
    }

    /// The DNS name or address to find in the peer's certificate
    ///
    /// Default: `None`: the host of the endpoint when a server is verified by authority, and none when a client is, or
    /// when keys are pinned alone.
    pub fn peer_name(mut self, name: Option<String>) -> Self {
        self.peer_name = name;
        self
    }

    /// The SHA-256 of the SubjectPublicKeyInfo (DER) of each key that a peer may have
    ///
    /// Default: none, which leaves any key. Without authorities nothing but the key and the dates of the peer's
    /// certificate counts, so that it may be self-signed.
    pub fn pinned(mut self, public_keys: Vec<[u8; 32]>) -> Self {
        self.pinned = public_keys;
        self
    }

    /// The versions of TLS to speak
    ///
    /// Default: 1.2 and 1.3. The newest that both sides have is used.
    pub fn versions(mut self, versions: impl IntoIterator<Item = TlsVersion>) -> Self {
        self.versions = versions.into_iter().collect();
        self
    }

    /// Reads the files, and checks that everything fits together
    ///
    /// # Errors
    /// See [`TlsSettingsError`].
    pub fn build(self) -> Result<Arc<TlsSettings>, TlsSettingsError> {
        let plan = self.plan()?;
        let stamps = plan.stamps();
        let loaded = plan.load()?;
        let state = State { loaded, stamps, looked_at: Instant::now(), last_error: None, reloads: 0 };
        Ok(Arc::new(TlsSettings { plan, state: Mutex::new(state) }))
    }

    /// Refuses what contradicts itself
    fn plan(self) -> Result<Plan, TlsSettingsError> {
        let contradiction = |advice| Err(TlsSettingsError::Contradiction { advice });
        let certificate = match (self.certificate, self.key) {
            (Some(certificate), Some(key)) => Some((certificate, key)),
            (None, None) => None,
            (None, Some(_)) => {
                return contradiction("there is a key and no certificate; set tls_certificate to its PEM file");
            }
            (Some(_), None) => {
                return contradiction(
                    "there is a certificate and no key; set tls_key to the PEM file of its private key",
                );
            }
        };
        let judges = !self.authorities.is_empty() || !self.pinned.is_empty();
        match self.role {
            Role::Server if certificate.is_none() => {
                return contradiction("a listener needs a certificate; set tls_certificate and tls_key");
            }
            Role::Server if self.require_peer_certificate == Some(true) && !judges => {
                return contradiction(
                    "peers must have a certificate and nothing says which to trust; set tls_authority or tls_pin",
                );
            }
            Role::Server if self.peer_name.is_some() && !judges => {
                return contradiction("peers must have a name and nothing verifies it; set tls_authority or tls_pin");
            }
            Role::Client if !judges => {
                return contradiction("nothing says which server to trust; set tls_authority or tls_pin");
            }
            Role::Client | Role::Server => {}
        }
        if self.versions.is_empty() {
            return contradiction("no version of TLS is left; allow 1.2 or 1.3");
        }
        let peer_name = match self.peer_name {
            None => None,
            Some(name) => Some(ServerName::try_from(name.clone()).map_err(|_| TlsSettingsError::PeerName { name })?),
        };
        let versions = self.versions.iter().map(|version| match version {
            TlsVersion::Tls12 => &rustls::version::TLS12,
            TlsVersion::Tls13 => &rustls::version::TLS13,
        });
        Ok(Plan {
            role: self.role,
            certificate,
            require_peer_certificate: self.require_peer_certificate.unwrap_or(judges),
            authorities: self.authorities,
            peer_name,
            pinned: self.pinned,
            versions: versions.collect(),
        })
    }
}

impl fmt::Debug for TlsSettingsBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsSettingsBuilder").field("role", &self.role).finish_non_exhaustive()
    }
}

impl Plan {
    fn files(&self) -> impl Iterator<Item = &Path> {
        let own = self.certificate.iter().flat_map(|(certificate, key)| [certificate.as_path(), key.as_path()]);
        own.chain(self.authorities.iter().map(PathBuf::as_path))
    }

    fn stamps(&self) -> Vec<Option<Stamp>> {
        self.files().map(Stamp::of).collect()
    }

    fn load(&self) -> Result<Loaded, TlsSettingsError> {
        let roots = match self.authorities.as_slice() {
            [] => None,
            files => Some(Arc::new(files::authorities(files.iter().map(PathBuf::as_path))?)),
        };
        let own = match &self.certificate {
            None => None,
            Some((certificate, key)) => Some(own(certificate, key)?),
        };
        let about = match &own {
            None => None,
            Some(own) => own.cert.first().and_then(|leaf| PeerCertificate::read(leaf).ok()),
        };
        let (pins, name) = (self.pinned.clone(), self.peer_name.clone());
        let library = |error: rustls::Error| TlsSettingsError::Library { reason: error.to_string() };
        let verifier = |reason| TlsSettingsError::Library { reason };
        let config = match self.role {
            Role::Client => {
                let judge = PeerVerifier::of_servers(PROVIDER.clone(), roots, pins, name).map_err(verifier)?;
                let config = ClientConfig::builder_with_provider(PROVIDER.clone())
                    .with_protocol_versions(&self.versions)
                    .map_err(library)?
                    .dangerous()
                    .with_custom_certificate_verifier(Arc::new(judge));
                let mut config = match own {
                    None => config.with_no_client_auth(),
                    Some(own) => config.with_client_cert_resolver(Arc::new(OneCertificate(Arc::new(own)))),
                };
                config.resumption = Resumption::in_memory_sessions(RESUMABLE_SESSIONS);
                TlsConfig::Client(Arc::new(config))
            }
            Role::Server => {
                let config = ServerConfig::builder_with_provider(PROVIDER.clone())
                    .with_protocol_versions(&self.versions)
                    .map_err(library)?;
                let config = match roots.is_some() || !pins.is_empty() {
                    false => config.with_no_client_auth(),
                    true => {
                        let mandatory = self.require_peer_certificate;
                        let judge = PeerVerifier::of_clients(PROVIDER.clone(), roots, pins, name, mandatory);
                        config.with_client_cert_verifier(Arc::new(judge.map_err(verifier)?))
                    }
                };
                let Some(own) = own else {
                    return Err(TlsSettingsError::Contradiction { advice: "a listener needs a certificate" });
                };
                let mut config = config.with_cert_resolver(Arc::new(OneCertificate(Arc::new(own))));
                config.session_storage = ServerSessionMemoryCache::new(RESUMABLE_SESSIONS);
                TlsConfig::Server(Arc::new(config))
            }
        };
        Ok(Loaded { config, own: about })
    }
}

/// This side's certificate chain and key, found to belong together
fn own(certificate: &Path, key: &Path) -> Result<CertifiedKey, TlsSettingsError> {
    let chain = files::certificates(certificate)?;
    let private = files::private_key(key)?;
    let private = PROVIDER.key_provider.load_private_key(private).map_err(|_| TlsSettingsError::File {
        path: key.to_owned(),
        reason:
            "its kind of key is not supported; use ECDSA (P-256, P-384, P-521), Ed25519, or RSA of at least 2048 bits"
                .to_owned(),
    })?;
    let own = CertifiedKey::new(chain, private);
    match own.keys_match() {
        Ok(()) | Err(rustls::Error::InconsistentKeys(InconsistentKeys::Unknown)) => Ok(own),
        Err(_) => Err(TlsSettingsError::KeyMismatch { certificate: certificate.to_owned(), key: key.to_owned() }),
    }
}

/// The same certificate for every peer
#[derive(Debug)]
struct OneCertificate(Arc<CertifiedKey>);

impl rustls::server::ResolvesServerCert for OneCertificate {
    fn resolve(&self, _: rustls::server::ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.clone())
    }
}

impl rustls::client::ResolvesClientCert for OneCertificate {
    /// Whatever authorities the server hints at: what it accepts is for the server to judge, and to say
    fn resolve(&self, _: &[&[u8]], _: &[rustls::SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        Some(self.0.clone())
    }

    fn has_certs(&self) -> bool {
        true
    }
}

/// Stands where rustls wants a name and pins alone decide: an address, which is not sent (RFC 6066, section 3)
fn no_name() -> ServerName<'static> {
    Ipv4Addr::UNSPECIFIED.into()
}

/// Why there are no settings
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TlsSettingsError {
    /// What was set doesn't go together; set what the message says
    #[error("{advice}")]
    Contradiction {
        /// What is wrong, and which option to set
        advice: &'static str,
    },

    /// A file can't be used
    #[error("{}: {reason}", path.display())]
    File {
        /// The file
        path: PathBuf,
        /// What is wrong with it, and what to do
        reason: String,
    },

    /// Others may read the private key, or a group may replace it; it is to be taken for known to them
    #[error("{} can be used by others (mode {mode:04o}); run: chmod 600 {}", path.display(), path.display())]
    KeyPermissions {
        /// The file of the key
        path: PathBuf,
        /// Its permissions
        mode: u32,
    },

    /// The key is not the certificate's
    #[error(
        "the key in {} is not that of the certificate in {}; name the key that the certificate was made for",
        key.display(),
        certificate.display()
    )]
    KeyMismatch {
        /// The file of the certificate
        certificate: PathBuf,
        /// The file of the key
        key: PathBuf,
    },

    /// The name can't stand in a certificate
    #[error("tls_peer_name {name:?} is neither a DNS name nor an address; write it as the certificate does")]
    PeerName {
        /// What was set
        name: String,
    },

    /// The TLS library refused for another reason
    #[error("TLS can't be set up: {reason}")]
    Library {
        /// Its explanation
        reason: String,
    },
}

/// aws-lc's algorithms, and no others
static PROVIDER: LazyLock<Arc<CryptoProvider>> = LazyLock::new(|| Arc::new(aws_lc_rs::default_provider()));

/// How often changed files are looked for
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// How many sessions either side keeps for resumption; rustls's own default
const RESUMABLE_SESSIONS: usize = 256;

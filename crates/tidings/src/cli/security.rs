//! The flags of security that socket commands share, and the socket options that come of them.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::Args;
use tidings::{Authenticator, Endpoint, Options, SystemEntropy};
use tidings_keystore::{CurvePublicKey, Keystore, KeystoreError, OwnKey, PemCertificate, TrustedKey};
use tidings_transport::TlsSettings;
use tidings_zmtp::{CurveClient, MechanismConfig, PlainClient};
use zeroize::Zeroizing;

use super::{Exit, Failure, nearest};

/// How to prove who we are, and whom to believe
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "Security")]
pub(crate) struct SecurityArgs {
    /// Encrypt and authenticate with the keys in DIRECTORY, which `tidings key` makes: by CURVE, or by TLS where the
    /// endpoint is tls:// or unix+tls://
    #[arg(long, value_name = "DIRECTORY")]
    pub(crate) keys: Option<PathBuf>,
    /// Which of the own keys to use, where there are several
    #[arg(long, value_name = "NAME", requires = "keys")]
    pub(crate) key: Option<String>,
    /// The key of the server that is connected to: the name of a trusted one, or its 40 characters; needed where
    /// several are trusted
    #[arg(long, value_name = "NAME|KEY", requires = "keys")]
    pub(crate) server_key: Option<String>,
    /// The user for a server that asks for a password (PLAIN); the network can read it
    #[arg(long, value_name = "USER", requires = "plain_password_file", conflicts_with = "keys")]
    pub(crate) plain_user: Option<String>,
    /// The file with that user's password, in its first line
    #[arg(long, value_name = "FILE", requires = "plain_user")]
    pub(crate) plain_password_file: Option<PathBuf>,
}

/// What the flags come to: keys that were read, a password that was read, or nothing
#[derive(Clone)]
pub(crate) enum Security {
    None,
    Plain { user: String, password: Zeroizing<String> },
    Keys { keystore: Keystore, key: Option<String>, server_key: Option<String> },
}

impl SecurityArgs {
    /// Reads the files that the flags name
    ///
    /// # Errors
    /// What can't be read, and what to do.
    pub(crate) fn read(&self) -> Result<Security, Failure> {
        if let Some(directory) = &self.keys {
            let keystore = open(directory)?;
            return Ok(Security::Keys { keystore, key: self.key.clone(), server_key: self.server_key.clone() });
        }
        match (&self.plain_user, &self.plain_password_file) {
            (Some(user), Some(file)) => {
                let text = Zeroizing::new(std::fs::read_to_string(file).map_err(|error| {
                    Failure::new(Exit::Usage, "password", format!("can't read {}: {error}", file.display()))
                })?);
                let password = Zeroizing::new(text.lines().next().unwrap_or_default().to_owned());
                Ok(Security::Plain { user: user.clone(), password })
            }
            _ => Ok(Security::None),
        }
    }
}

/// Reads a keystore
///
/// # Errors
/// What is wrong with it.
pub(crate) fn open(directory: &Path) -> Result<Keystore, Failure> {
    Keystore::open(directory).map_err(|error| {
        let missing = matches!(error, KeystoreError::Missing { .. });
        let failure = keys_failure(&error);
        match missing {
            true => failure.hint("`tidings key new --pair HUB NODE` makes two that trust each other"),
            false => failure,
        }
    })
}

impl Security {
    /// Who decides on those that come to us
    pub(crate) fn authenticator(&self) -> Option<Arc<dyn Authenticator>> {
        match self {
            Self::Keys { keystore, .. } => Some(keystore.authenticator()),
            _ => None,
        }
    }

    /// The options of an endpoint that is bound
    ///
    /// # Errors
    /// No own key or certificate, or several and none named.
    pub(crate) fn for_bind(&self, endpoint: &Endpoint, options: Options) -> Result<Options, Failure> {
        match self {
            Self::Keys { keystore, key, .. } => match endpoint.is_encrypted() {
                true => with_certificate(options, keystore, key.as_deref(), true),
                false if takes_plain(&options) || is_within(endpoint) => Ok(options),
                false => with_own_key(options, &*own_key(keystore, key.as_deref())?, true),
            },
            _ => Ok(options),
        }
    }

    /// The options of an endpoint that is connected to
    ///
    /// # Errors
    /// No own key or certificate, or several and none named; no key for the server, or several.
    pub(crate) fn for_connect(&self, endpoint: &Endpoint, options: Options) -> Result<Options, Failure> {
        match self {
            Self::None => Ok(options),
            Self::Plain { user, password } => {
                let mut options = options;
                set(&mut options, "plain_username", user)?;
                set(&mut options, "plain_password", password)?;
                Ok(options)
            }
            Self::Keys { keystore, key, server_key } => match endpoint.is_encrypted() {
                true => with_certificate(options, keystore, key.as_deref(), false),
                false if is_within(endpoint) => Ok(options),
                false => {
                    let own = own_key(keystore, key.as_deref())?;
                    let mut options = with_own_key(options, &own, false)?;
                    let server = server_key_of(keystore, server_key.as_deref())?;
                    set(&mut options, "curve_server_key", &server.to_string())?;
                    Ok(options)
                }
            },
        }
    }
}

/// What a connection of our own, made without a socket, is told: the doctor's
pub(crate) struct Client {
    pub(crate) mechanism: MechanismConfig,
    pub(crate) tls: Option<Arc<TlsSettings>>,
}

impl Security {
    /// As [`for_connect`](Self::for_connect), for a connection without a socket
    ///
    /// # Errors
    /// As [`for_connect`](Self::for_connect), and certificates that don't go together.
    pub(crate) fn client(&self, endpoint: &Endpoint) -> Result<Client, Failure> {
        let mut client = Client { mechanism: MechanismConfig::Null, tls: None };
        match self {
            Self::None => {}
            Self::Plain { user, password } => {
                let plain = PlainClient::new(user.clone(), password.to_string()).map_err(Failure::usage)?;
                client.mechanism = MechanismConfig::PlainClient(plain);
            }
            Self::Keys { keystore, key, server_key } if !endpoint.is_encrypted() => {
                let own = own_key(keystore, key.as_deref())?;
                let server = server_key_of(keystore, server_key.as_deref())?;
                let curve = CurveClient::new(own.secret.clone(), server, Arc::new(SystemEntropy));
                client.mechanism = MechanismConfig::CurveClient(curve);
            }
            Self::Keys { .. } => {}
        }
        if endpoint.is_encrypted() {
            let files = match self {
                Self::Keys { keystore, key, .. } => CertificateFiles::choose(keystore, key.as_deref(), false)?,
                _ => CertificateFiles::default(),
            };
            let (mut settings, authorities) = (TlsSettings::client(), files.authorities);
            if let Some((certificate, key)) = files.own {
                settings = settings.certificate(certificate).key(key);
            }
            if authorities.is_empty() {
                return Err(Failure::usage("without an authority no certificate can be judged")
                    .hint("--keys DIRECTORY names a keystore that has tls/ca.crt"));
            }
            let settings = settings.authorities(authorities).build();
            client.tls = Some(settings.map_err(|error| Failure::new(Exit::Usage, "keys", error))?);
        }
        Ok(client)
    }
}

/// inproc and udp have no handshake to prove anything in
fn is_within(endpoint: &Endpoint) -> bool {
    matches!(endpoint, Endpoint::Inproc(_) | Endpoint::Udp(_))
}

fn takes_plain(options: &Options) -> bool {
    options.value("plain_server").is_ok_and(|value| value.to_string() == "1")
}

/// The options of a listener with an own key, by its name or the only one
///
/// # Errors
/// No such key, or several and none named.
pub(crate) fn curve_listener(options: Options, keystore: &Keystore, name: Option<&str>) -> Result<Options, Failure> {
    with_own_key(options, &*own_key(keystore, name)?, true)
}

/// The options of a TLS listener with a certificate of the keystore, by its name or the only one
///
/// # Errors
/// No such certificate, or several and none named.
pub(crate) fn tls_listener(options: Options, keystore: &Keystore, name: Option<&str>) -> Result<Options, Failure> {
    with_certificate(options, keystore, name, true)
}

/// An own key, by its name or the only one
///
/// # Errors
/// No such key, or several and none named.
pub(crate) fn own_key(keystore: &Keystore, name: Option<&str>) -> Result<Arc<OwnKey>, Failure> {
    let found = match name {
        Some(name) => keystore.own(name),
        None => keystore.own_default(),
    };
    found.map_err(|error| keys_failure(&error))
}

fn with_own_key(mut options: Options, own: &OwnKey, serves: bool) -> Result<Options, Failure> {
    set(&mut options, "curve_public_key", &own.public_key.to_string())?;
    set(&mut options, "curve_secret_key", &own.secret.to_z85())?;
    if serves {
        set(&mut options, "curve_server", "1")?;
    }
    Ok(options)
}

/// The key that the server must have
///
/// # Errors
/// None is trusted, or several and none is named.
pub(crate) fn server_key_of(keystore: &Keystore, wanted: Option<&str>) -> Result<CurvePublicKey, Failure> {
    if let Some(wanted) = wanted {
        return match keystore.peer(wanted) {
            Ok(peer) => Ok(peer.public_key),
            Err(error) => wanted.parse().map_err(|_| keys_failure(&error)),
        };
    }
    let trusted: Vec<Arc<TrustedKey>> = keystore.trusted().collect();
    let serves = |key: &&Arc<TrustedKey>| key.roles.iter().any(|role| SERVER_ROLES.contains(&role.as_str()));
    let serving: Vec<&Arc<TrustedKey>> = trusted.iter().filter(serves).collect();
    match (&trusted[..], &serving[..]) {
        ([only], _) => Ok(only.public_key),
        (_, [only]) => Ok(only.public_key),
        ([], _) => Err(Failure::new(Exit::Usage, "keys", "no server key is trusted")
            .hint("`tidings key trust FILE --name hub` takes the server's public key; --server-key names it for once")),
        (all, _) => {
            let names: Vec<String> = all.iter().map(|key| key.name.to_string()).collect();
            Err(Failure::new(Exit::Usage, "keys", "several keys are trusted, and none is named as the server's")
                .hint(format!("add --server-key with one of {}", names.join(", "))))
        }
    }
}

/// The files of the keystore that TLS is given
#[derive(Default)]
struct CertificateFiles {
    /// The own certificate and its key
    own: Option<(PathBuf, PathBuf)>,
    authorities: Vec<PathBuf>,
}

impl CertificateFiles {
    /// Those of a keystore, with the own certificate of that name or the only one
    ///
    /// # Errors
    /// A listener has none, or there are several and none is named.
    fn choose(keystore: &Keystore, name: Option<&str>, serves: bool) -> Result<Self, Failure> {
        let keys = keystore.keys();
        let all: Vec<&PemCertificate> =
            keys.certificates().filter(|(kind, _)| *kind == "tls").map(|(_, certificate)| certificate).collect();
        let own: Vec<&&PemCertificate> =
            all.iter().filter(|certificate| certificate.has_key && !certificate.is_authority).collect();
        let chosen = match (name, &own[..]) {
            (Some(name), own) => match own.iter().find(|certificate| certificate.name == name) {
                Some(found) => Some(**found),
                None if serves => return Err(no_certificate(name, own)),
                None => None,
            },
            (None, [only]) => Some(**only),
            (None, []) if serves => {
                return Err(Failure::new(Exit::Usage, "keys", "the keystore has no TLS certificate with its key")
                    .hint("`tidings key new NAME --tls HOST` makes one, and the authority that signs it"));
            }
            (None, []) => None,
            (None, own) => {
                let names: Vec<&str> = own.iter().map(|certificate| certificate.name.as_str()).collect();
                return Err(Failure::new(Exit::Usage, "keys", "the keystore has several TLS certificates")
                    .hint(format!("name one of {}", names.join(", "))));
            }
        };
        let authorities = all.iter().filter(|certificate| certificate.is_authority);
        Ok(Self {
            own: chosen.map(|certificate| (certificate.path.clone(), certificate.path.with_extension("key"))),
            authorities: authorities.map(|certificate| certificate.path.clone()).collect(),
        })
    }
}

fn with_certificate(
    mut options: Options,
    keystore: &Keystore,
    name: Option<&str>,
    serves: bool,
) -> Result<Options, Failure> {
    let files = CertificateFiles::choose(keystore, name, serves)?;
    if let Some((certificate, key)) = files.own {
        set(&mut options, "tls_certificate", &certificate.display().to_string())?;
        set(&mut options, "tls_key", &key.display().to_string())?;
    }
    if serves && options.value("zap_domain").is_ok_and(|domain| domain.to_string().is_empty()) {
        // A certificate says who it is, not that we want it in: the keystore is asked where there is a domain
        set(&mut options, "zap_domain", DOMAIN)?;
    }
    if !files.authorities.is_empty() {
        let authorities: Vec<String> = files.authorities.iter().map(|path| path.display().to_string()).collect();
        set(&mut options, "tls_authority", &authorities.join("\n"))?;
        if serves {
            // Whoever has an authority of its own asks everybody for a certificate
            set(&mut options, "tls_require_certificate", "1")?;
        }
    }
    Ok(options)
}

fn no_certificate(name: &str, own: &[&&PemCertificate]) -> Failure {
    let names: Vec<&str> = own.iter().map(|certificate| certificate.name.as_str()).collect();
    let failure =
        Failure::new(Exit::Usage, "keys", format!("the keystore has no TLS certificate with its key called '{name}'"));
    match nearest(name, names.iter().copied()) {
        Some(near) => failure.hint(format!("did you mean '{near}'?")),
        None if names.is_empty() => failure.hint("`tidings key new NAME --tls HOST` makes one"),
        None => failure.hint(format!("there are {}", names.join(", "))),
    }
}

fn set(options: &mut Options, name: &str, value: &str) -> Result<(), Failure> {
    options.set(name, value).map_err(|error| Failure::new(Exit::Usage, "option", error))
}

fn keys_failure(error: &KeystoreError) -> Failure {
    Failure::new(Exit::Usage, "keys", error)
}

/// The ZAP domain of TLS listeners that have no other
const DOMAIN: &str = "tidings";

/// What a trusted key is called by that is a server's
const SERVER_ROLES: [&str; 2] = ["hub", "server"];

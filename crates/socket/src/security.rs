//! The terms of an endpoint: what its connections are made by, and who may talk, checked when it is bound or connected.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tidings_transport::{Endpoint, StreamOptions, TlsSettings, TlsStatus};
use tidings_zmtp::{Config, CurveClient, CurveServer, Entropy, EntropyError, MechanismConfig, PlainClient, SocketType};

use crate::events::EventKind;
use crate::options::{Options, read_pin};
use crate::shared::Shared;

/// What the connections of one endpoint go by
#[derive(Debug)]
pub(crate) struct Terms {
    /// Options of this endpoint alone; without them the socket's hold, as they are when a connection is made
    own: Option<Options>,
    pub(crate) security: Security,
}

/// Who may talk over an endpoint, and whether others can listen in
///
/// Taken from the options once, when the endpoint is bound or connected, as libzmq does.
#[derive(Debug)]
pub(crate) struct Security {
    mechanism: MechanismConfig,
    pub(crate) zap_domain: String,
    pub(crate) enforce_domain: bool,
    tls: Option<Arc<TlsSettings>>,
}

/// Options of security that contradict each other, or that lack something
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SecurityError {
    /// An option is needed that isn't set
    #[error("{because}: set {option}")]
    Missing {
        /// The option to set
        option: &'static str,
        /// What asks for it
        because: &'static str,
    },
    /// Two options can't be set together
    #[error("{first} and {second} are both set, and {because}: clear one of them")]
    Conflict {
        /// One
        first: &'static str,
        /// The other
        second: &'static str,
        /// Why they exclude each other
        because: &'static str,
    },
    /// The two keys are not of one pair
    #[error("curve_public_key is not the public half of curve_secret_key: leave it out, or set the right one")]
    ForeignPublicKey,
    /// The options of TLS, or the files that they name
    #[error("{0}")]
    Tls(String),
    /// A name or a password is longer than PLAIN can say
    #[error("{option} has more than 255 octets, the most that PLAIN can say: set a shorter one")]
    TooLong {
        /// The option
        option: &'static str,
    },
}

impl Terms {
    /// The terms of an endpoint that is about to be bound or connected
    ///
    /// # Errors
    /// The options contradict each other.
    pub(crate) fn agree(
        shared: &Shared,
        own: Option<Options>,
        endpoint: &Endpoint,
        role: Role,
    ) -> Result<Arc<Self>, SecurityError> {
        let options = own.clone().unwrap_or_else(|| shared.with(|state| state.options.clone()));
        let mut security = Security::of(&options, shared.reporter.socket_type)?;
        if endpoint.is_encrypted() {
            security.tls = Some(tls_settings(&options, role)?);
        }
        Ok(Arc::new(Self { own, security }))
    }

    /// Whether anybody may talk and listen in, with no questions asked: all that udp can do
    pub(crate) fn is_open(&self) -> bool {
        matches!(self.security.mechanism, MechanismConfig::Null) && self.security.zap_domain.is_empty()
    }

    /// Looks something up in the options that hold
    pub(crate) fn look<R>(&self, shared: &Shared, look: impl FnOnce(&Options) -> R) -> R {
        match &self.own {
            Some(options) => look(options),
            None => shared.with(|state| look(&state.options)),
        }
    }

    /// What a new ZMTP connection is told
    pub(crate) fn zmtp_config(&self, shared: &Shared) -> Config {
        let socket_type = shared.reporter.socket_type;
        let config = self.look(shared, |options| options.zmtp_config(socket_type));
        config.mechanism(self.security.mechanism.clone()).authenticate(self.security.asks())
    }

    /// What the transport is told
    pub(crate) fn stream_options(&self, shared: &Shared) -> StreamOptions {
        self.look(shared, Options::stream_options).tls(self.security.tls.clone())
    }

    /// This side's certificate, if there is TLS
    pub(crate) fn tls_status(&self) -> Option<TlsStatus> {
        self.security.tls.as_ref().map(|settings| settings.status())
    }

    /// Says that this side's certificate ends, if it does so soon
    pub(crate) fn tell_of_end(&self, shared: &Shared, endpoint: &str) {
        let Some(TlsStatus { subject, not_after: Some(ends), .. }) = self.tls_status() else { return };
        let ends_in_s = match ends.duration_since(SystemTime::now()) {
            Ok(left) if left > SOON => return,
            Ok(left) => i64::try_from(left.as_secs()).unwrap_or(i64::MAX),
            Err(past) => i64::try_from(past.duration().as_secs()).map_or(i64::MIN, |past| -past),
        };
        shared.say(endpoint, || EventKind::CertificateEnds { subject: subject.unwrap_or_default(), ends_in_s });
    }
}

/// From when on the end of a certificate is told: time enough for a person to have another made
const SOON: Duration = Duration::from_secs(14 * 24 * 3600);
/// How often it is
pub(crate) const TOLD_EVERY: Duration = Duration::from_secs(24 * 3600);

impl Security {
    /// What the options say of security
    fn of(options: &Options, socket_type: SocketType) -> Result<Self, SecurityError> {
        let mechanism = mechanism(options)?;
        if socket_type == SocketType::Stream && mechanism.name() != "NULL" {
            return Err(SecurityError::Conflict {
                first: selecting(options).unwrap_or_default(),
                second: "the socket type STREAM",
                because: "a plain byte stream has no handshake",
            });
        }
        let lets_in = mechanism.is_server() || matches!(mechanism, MechanismConfig::Null);
        if options.zap_enforce_domain && options.zap_domain.is_empty() && lets_in {
            return Err(SecurityError::Missing {
                option: "zap_domain",
                because: "zap_enforce_domain is set and there is no domain",
            });
        }
        Ok(Self {
            mechanism,
            zap_domain: options.zap_domain.clone(),
            enforce_domain: options.zap_enforce_domain,
            tls: None,
        })
    }

    /// Whether somebody is asked before a peer is let in (the ZAP sheet, section 5): with NULL only for a domain
    fn asks(&self) -> bool {
        self.mechanism.is_server() || (matches!(self.mechanism, MechanismConfig::Null) && !self.zap_domain.is_empty())
    }

    /// Whether a peer must be asked for when nobody is there to answer
    pub(crate) fn fails_closed(&self) -> bool {
        self.enforce_domain || matches!(self.mechanism, MechanismConfig::PlainServer)
    }

    /// What a close without a word in the middle of the handshake most likely means, for the side that shows itself
    pub(crate) fn suspicion(&self) -> Option<&'static str> {
        match self.mechanism {
            MechanismConfig::CurveClient(_) => Some(CURVE_SILENCE),
            MechanismConfig::PlainClient(_) => Some(PLAIN_SILENCE),
            _ => None,
        }
    }
}

/// Which end of a connection an endpoint makes
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    Binds,
    Connects,
}

/// The certificates, reading their files
fn tls_settings(options: &Options, role: Role) -> Result<Arc<TlsSettings>, SecurityError> {
    let set = |text: &String| Some(text.clone()).filter(|text| !text.is_empty());
    let lines = |text: &str| -> Vec<String> {
        text.lines().map(str::trim).filter(|line| !line.is_empty()).map(str::to_owned).collect()
    };
    let mut settings = match role {
        Role::Binds => TlsSettings::server(),
        Role::Connects => TlsSettings::client(),
    };
    if let Some(file) = set(&options.tls_certificate) {
        settings = settings.certificate(file.into());
    }
    if let Some(file) = set(&options.tls_key) {
        settings = settings.key(file.into());
    }
    if options.tls_require_certificate && role == Role::Binds {
        settings = settings.require_peer_certificate(true);
    }
    let pins = lines(&options.tls_pin).iter().filter_map(|line| read_pin(line)).collect();
    let authorities = lines(&options.tls_authority).into_iter().map(PathBuf::from).collect();
    let settings = settings.authorities(authorities).pinned(pins).peer_name(set(&options.tls_peer_name));
    settings.build().map_err(|error| SecurityError::Tls(error.to_string()))
}

/// The mechanism that the options select: as with libzmq, setting an option of one selects it
fn mechanism(options: &Options) -> Result<MechanismConfig, SecurityError> {
    let plain_client = plain_client(options);
    let curve = curve(options);
    let conflict = |first, second, because| Err(SecurityError::Conflict { first, second, because });
    match (options.plain_server.then_some("plain_server").or(plain_client), curve) {
        (None, None) => Ok(MechanismConfig::Null),
        (Some(plain), Some(curve)) => conflict(plain, curve, "a connection has one mechanism"),
        (Some(_), None) => match (options.plain_server, plain_client) {
            (true, Some(client)) => conflict("plain_server", client, "one end is the server, the other shows itself"),
            (true, None) => Ok(MechanismConfig::PlainServer),
            (false, _) => {
                let (username, password) = (options.plain_username.clone(), options.plain_password.as_octets());
                let option = if username.len() > 255 { "plain_username" } else { "plain_password" };
                let client = PlainClient::new(username, password);
                client.map(MechanismConfig::PlainClient).map_err(|_| SecurityError::TooLong { option })
            }
        },
        (None, Some(because)) => curve_mechanism(options, because),
    }
}

fn curve_mechanism(options: &Options, selected_by: &'static str) -> Result<MechanismConfig, SecurityError> {
    if options.curve_server && options.curve_server_key.is_some() {
        let because = "one end is the server, the other knows its key";
        return Err(SecurityError::Conflict { first: "curve_server", second: "curve_server_key", because });
    }
    let Some(own) = &options.curve_secret_key else {
        let because = match selected_by {
            "curve_server" => "a CURVE server needs a key of its own",
            _ => "a CURVE client needs a key of its own",
        };
        return Err(SecurityError::Missing { option: "curve_secret_key", because });
    };
    if options.curve_public_key.is_some_and(|public| public != own.public()) {
        return Err(SecurityError::ForeignPublicKey);
    }
    let entropy = Arc::new(SystemEntropy);
    match options.curve_server_key {
        _ if options.curve_server => Ok(MechanismConfig::CurveServer(CurveServer::new(own.clone(), entropy))),
        Some(server) => Ok(MechanismConfig::CurveClient(CurveClient::new(own.clone(), server, entropy))),
        None => Err(SecurityError::Missing {
            option: "curve_server_key, or curve_server=1 to be the server",
            because: "a CURVE client must know the server's key",
        }),
    }
}

fn plain_client(options: &Options) -> Option<&'static str> {
    let password = || (!options.plain_password.is_empty()).then_some("plain_password");
    (!options.plain_username.is_empty()).then_some("plain_username").or_else(password)
}

fn curve(options: &Options) -> Option<&'static str> {
    let set = [
        ("curve_server", options.curve_server),
        ("curve_server_key", options.curve_server_key.is_some()),
        ("curve_secret_key", options.curve_secret_key.is_some()),
        ("curve_public_key", options.curve_public_key.is_some()),
    ];
    set.into_iter().find(|(_, is_set)| *is_set).map(|(name, _)| name)
}

fn selecting(options: &Options) -> Option<&'static str> {
    options.plain_server.then_some("plain_server").or_else(|| plain_client(options)).or_else(|| curve(options))
}

/// The operating system's generator of randomness
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemEntropy;

impl Entropy for SystemEntropy {
    fn fill(&self, octets: &mut [u8]) -> Result<(), EntropyError> {
        getrandom::fill(octets).map_err(EntropyError::new)
    }
}

/// A server that can't open the client's HELLO has nothing to answer with (RFC 26), and libzmq and ours close then
const CURVE_SILENCE: &str = "the server closed the connection during the CURVE handshake without a word: \
    curve_server_key is not that server's key, or it refuses this client's key or address, or does not use CURVE";
const PLAIN_SILENCE: &str = "the server closed the connection during the PLAIN handshake without a word: \
    it refuses for now, or has nobody to ask about passwords, or does not use PLAIN";

#[cfg(test)]
mod tests {
    use tidings_zmtp::CurveSecretKey;

    use super::*;

    fn told(options: &Options) -> String {
        match Security::of(options, SocketType::Dealer) {
            Ok(security) => {
                format!(
                    "{} {}",
                    security.mechanism.name(),
                    if security.mechanism.is_server() { "server" } else { "client" }
                )
            }
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn setting_an_option_selects_the_mechanism_and_contradictions_say_what_to_set() {
        let key = || CurveSecretKey::generate(&SystemEntropy).unwrap();
        let (own, other) = (key(), key());
        let plain = Options::new();
        let curve = plain.clone().curve_secret_key(Some(own.clone()));
        for (options, expected) in [
            (plain.clone(), "NULL client"),
            (plain.clone().plain_server(true), "PLAIN server"),
            (plain.clone().plain_username("joe".into()), "PLAIN client"),
            (plain.clone().plain_password("x".into()), "PLAIN client"),
            (curve.clone().curve_server(true), "CURVE server"),
            (curve.clone().curve_server(true).curve_public_key(Some(own.public())), "CURVE server"),
            (curve.clone().curve_server_key(Some(other.public())), "CURVE client"),
            (
                plain.clone().plain_server(true).plain_username("joe".into()),
                "plain_server and plain_username are both set, and one end is the server, the other shows itself: clear one of them",
            ),
            (
                curve.clone().plain_password("x".into()),
                "plain_password and curve_secret_key are both set, and a connection has one mechanism: clear one of them",
            ),
            (
                curve.clone().curve_server(true).curve_server_key(Some(other.public())),
                "curve_server and curve_server_key are both set, and one end is the server, the other knows its key: clear one of them",
            ),
            (
                curve.clone(),
                "a CURVE client must know the server's key: set curve_server_key, or curve_server=1 to be the server",
            ),
            (plain.clone().curve_server(true), "a CURVE server needs a key of its own: set curve_secret_key"),
            (
                plain.clone().curve_server_key(Some(other.public())),
                "a CURVE client needs a key of its own: set curve_secret_key",
            ),
            (
                curve.clone().curve_server(true).curve_public_key(Some(other.public())),
                "curve_public_key is not the public half of curve_secret_key: leave it out, or set the right one",
            ),
            (
                plain.clone().plain_username(vec![b'x'; 256].into()),
                "plain_username has more than 255 octets, the most that PLAIN can say: set a shorter one",
            ),
            (
                plain.clone().plain_server(true).zap_enforce_domain(true),
                "zap_enforce_domain is set and there is no domain: set zap_domain",
            ),
            (plain.clone().plain_username("joe".into()).zap_enforce_domain(true), "PLAIN client"),
        ] {
            assert_eq!(told(&options), expected);
        }
        let stream = Security::of(&plain.clone().plain_server(true), SocketType::Stream).unwrap_err();
        assert!(stream.to_string().starts_with("plain_server and the socket type STREAM"), "{stream}");
    }

    #[test]
    fn null_asks_for_a_domain_only_and_servers_always() {
        let asks = |options: Options| Security::of(&options, SocketType::Pull).unwrap().asks();
        assert!(!asks(Options::new()));
        assert!(asks(Options::new().zap_domain("test".into())));
        assert!(asks(Options::new().plain_server(true)));
        assert!(!asks(Options::new().plain_username("joe".into()).zap_domain("test".into())));
    }
}

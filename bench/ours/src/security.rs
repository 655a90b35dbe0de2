//! How the connections of a role are protected, and whether they were.

use std::path::PathBuf;

use anyhow::{Context as _, Result, bail};
use serde_json::{Value, json};
use tidings_socket::{Context, EventKind, EventStream, Options, SocketType};

use crate::arguments::{Arguments, Usage};

/// What the roles that go over the wire are told: `mechanism=curve`, or an endpoint of TLS, and `keys=FOLDER`
///
/// The folder is one that `bench-floors make-keys` wrote.
#[derive(Clone)]
pub(crate) enum Security {
    None,
    Curve(PathBuf),
    /// Both ends show a certificate
    Tls(PathBuf),
}

/// Which side of a connection a socket is on: who binds is the server
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    Binds,
    Connects,
}

/// Sees what the connections of a context agreed on, where there is something to see
pub(crate) struct Witness(Option<EventStream>);

impl Security {
    pub(crate) fn new(arguments: &mut Arguments, endpoint: &str) -> Result<Self> {
        let mechanism: String = arguments.or("mechanism", "null".to_owned())?;
        let keys: Option<PathBuf> = arguments.optional("keys")?;
        let is_tls = endpoint.starts_with("tls://");
        match (mechanism.as_str(), is_tls, keys) {
            ("null", false, _) => Ok(Self::None),
            ("curve", false, Some(keys)) => Ok(Self::Curve(keys)),
            ("null", true, Some(keys)) => Ok(Self::Tls(keys)),
            ("curve", true, _) => bail!(Usage("CURVE within TLS is not measured".to_owned())),
            ("null" | "curve", _, None) => bail!(Usage("keys=FOLDER is missing".to_owned())),
            _ => bail!(Usage(format!("mechanism={mechanism} is neither null nor curve"))),
        }
    }

    /// The options of a socket at that end
    pub(crate) fn options(&self, socket_type: SocketType, end: End) -> Result<Options> {
        self.add_to(Options::of(socket_type), end)
    }

    /// Adds to options what that end needs
    pub(crate) fn add_to(&self, mut options: Options, end: End) -> Result<Options> {
        let own = if end == End::Binds { "server" } else { "client" };
        match self {
            Self::None => {}
            Self::Curve(keys) => {
                let key = |name: &str| {
                    let path = keys.join(name);
                    std::fs::read_to_string(&path).with_context(|| format!("can't read the key {}", path.display()))
                };
                options.set("curve_secret_key", &key(&format!("{own}.secret"))?)?;
                match end {
                    End::Binds => options.set("curve_server", "1")?,
                    End::Connects => {
                        options.set("curve_public_key", &key("client.public")?)?;
                        options.set("curve_server_key", &key("server.public")?)?;
                    }
                }
            }
            Self::Tls(keys) => {
                let path = |name: String| keys.join(name).to_string_lossy().into_owned();
                options.set("tls_certificate", &path(format!("{own}.crt")))?;
                options.set("tls_key", &path(format!("{own}.key")))?;
                options.set("tls_authority", &path("authority.crt".to_owned()))?;
                match end {
                    End::Binds => options.set("tls_require_certificate", "1")?,
                    End::Connects => options.set("tls_peer_name", "localhost")?,
                }
            }
        }
        Ok(options)
    }

    /// A context, and who sees what its connections agree on; made where the role runs, whose runtime it takes
    pub(crate) fn context(&self) -> (Context, Witness) {
        let context = Context::new();
        let events = (!matches!(self, Self::None)).then(|| context.events());
        (context, Witness(events))
    }
}

impl Witness {
    /// Adds to a report what the connections agreed on
    pub(crate) fn tell(&mut self, mut report: Value) -> Value {
        let Some(events) = &mut self.0 else { return report };
        while let Some(event) = events.try_next() {
            if let EventKind::Handshaken { mechanism, .. } = event.kind {
                report["mechanism"] = json!(mechanism);
                report["transport"] = json!(event.endpoint.and_then(|at| Some(at.split_once("://")?.0.to_owned())));
            }
        }
        report
    }
}

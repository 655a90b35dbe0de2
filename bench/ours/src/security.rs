//! How the connections of a role are protected, and whether they were.

use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

use anyhow::{Context as _, Result, bail};
use serde_json::{Value, json};
use tidings_socket::{Context, Event, EventKind, EventStream, Options, SocketType};
use tokio::runtime::Handle;

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
#[derive(Default)]
pub(crate) struct Witness {
    /// Mechanism and scheme
    seen: Arc<OnceLock<(&'static str, Option<String>)>>,
    /// Where no runtime looks at them as they come
    later: Option<EventStream>,
}

fn note(event: Event, seen: &OnceLock<(&'static str, Option<String>)>) {
    if let EventKind::Handshaken { mechanism, .. } = event.kind {
        let scheme = event.endpoint.and_then(|at| Some(at.split_once("://")?.0.to_owned()));
        // The first one is kept, all are alike
        seen.set((mechanism, scheme)).ok();
    }
}

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
        let mut witness = Witness::default();
        if !matches!(self, Self::None) {
            let mut events = context.events();
            match Handle::try_current() {
                Ok(runtime) => {
                    let seen = witness.seen.clone();
                    // Until it has seen one, and no longer: a queue that fills up again and again would push that event
                    // out of the ring, and once nobody reads none is made
                    runtime.spawn(async move {
                        while seen.get().is_none()
                            && let Some(event) = events.next().await
                        {
                            note(event, &seen);
                        }
                    });
                }
                Err(_) => witness.later = Some(events),
            }
        }
        (context, witness)
    }
}

impl Witness {
    /// Adds to a report what the connections agreed on
    pub(crate) fn tell(&mut self, mut report: Value) -> Value {
        while let Some(event) = self.later.as_mut().and_then(EventStream::try_next) {
            note(event, &self.seen);
        }
        if let Some((mechanism, scheme)) = self.seen.get() {
            report["mechanism"] = json!(mechanism);
            report["transport"] = json!(scheme);
        }
        report
    }
}

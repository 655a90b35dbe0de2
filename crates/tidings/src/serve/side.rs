//! A socket that the daemon listens with: its listeners, what protects each, and their change at a reload.

use tidings::{BindError, Endpoint, NotFound, Options, Socket, SocketType};
use tidings_gossip::driver::Gossip;

use super::keys::NodeKeys;
use crate::cli::{Exit, Failure};
use crate::config::{Listener, Protected};

/// What can listen
pub(super) trait Listens {
    /// The options of its listeners, before they are protected
    fn options(&self) -> Options;
    /// Listens; where it really does
    fn bind(&self, endpoint: &str, options: Options) -> impl Future<Output = Result<Endpoint, BindError>> + Send;
    /// Lets no newcomers in there any more
    fn unbind(&self, endpoint: &Endpoint) -> Result<(), NotFound>;
}

impl Listens for Socket {
    fn options(&self) -> Options {
        Socket::options(self)
    }

    async fn bind(&self, endpoint: &str, options: Options) -> Result<Endpoint, BindError> {
        self.bind_with(endpoint, options)?.await
    }

    fn unbind(&self, endpoint: &Endpoint) -> Result<(), NotFound> {
        Socket::unbind(self, endpoint)
    }
}

impl Listens for Gossip {
    fn options(&self) -> Options {
        Options::of(SocketType::Router)
    }

    async fn bind(&self, endpoint: &str, options: Options) -> Result<Endpoint, BindError> {
        self.bind_with(endpoint, options).await
    }

    fn unbind(&self, endpoint: &Endpoint) -> Result<(), NotFound> {
        Gossip::unbind(self, endpoint)
    }
}

/// One socket and what it listens on
pub(super) struct Side<S = Socket> {
    /// The key of its listeners
    pub(super) name: &'static str,
    flag: &'static str,
    pub(super) socket: S,
    keys: Option<NodeKeys>,
    bound: Bound,
}

/// Listeners, and where each really listens
pub(super) type Bound = Vec<(Listener, Endpoint)>;

impl<S: Listens> Side<S> {
    /// A socket that does not listen yet; the key of its listeners, and the flag that sets it
    pub(super) fn new(name: &'static str, flag: &'static str, socket: S, keys: Option<&NodeKeys>) -> Self {
        Self { name, flag, socket, keys: keys.cloned(), bound: Vec::new() }
    }

    /// Listens
    ///
    /// # Errors
    /// What can't be listened on, and what to do about it.
    pub(super) async fn listen(&mut self, listeners: &[Listener]) -> Result<(), Failure> {
        let added = self.bind_new(listeners).await?;
        self.settle(added, listeners);
        Ok(())
    }

    /// Binds what is not bound yet: all or nothing; [`settle`](Self::settle) comes next, or [`give_up`](Self::give_up)
    ///
    /// # Errors
    /// What can't be listened on.
    pub(super) async fn bind_new(&self, listeners: &[Listener]) -> Result<Bound, Failure> {
        let mut added = Bound::new();
        for listener in listeners {
            if self.bound.iter().any(|(bound, _)| bound == listener) {
                continue;
            }
            if self.bound.iter().any(|(bound, _)| bound.endpoint == listener.endpoint) {
                self.give_up(&added);
                return Err(Failure::usage(format!(
                    "{}: how {} is protected can't change while it listens",
                    self.name, listener.endpoint
                ))
                .hint("restart, or give it up with one reload and take it up with the next"));
            }
            match self.bind(listener).await {
                Ok(endpoint) => added.push((listener.clone(), endpoint)),
                Err(failure) => {
                    self.give_up(&added);
                    return Err(failure);
                }
            }
        }
        Ok(added)
    }

    async fn bind(&self, listener: &Listener) -> Result<Endpoint, Failure> {
        let Self { name, flag, .. } = self;
        let wrong = |exit, error: String| {
            let failure = Failure::new(exit, "bind", format!("{name}: {error}"));
            let port = listener
                .endpoint
                .rsplit_once(':')
                .map(|(_, port)| port)
                .filter(|_| listener.endpoint.starts_with("tcp:"));
            match port {
                Some(port) => failure.hint(format!(
                    "`ss -ltnp 'sport = :{port}'` shows who has port {port}; choose another with {flag} ENDPOINT or the key {name}"
                )),
                None => failure.hint(format!("choose another with {flag} ENDPOINT or the key {name}")),
            }
        };
        let options = self
            .options(listener)
            .map_err(|failure| Failure { message: format!("{name}: {}", failure.message), ..failure })?;
        let binding = self.socket.bind(&listener.endpoint, options);
        binding.await.map_err(|error| match error {
            BindError::Endpoint(error) => wrong(Exit::Usage, error.to_string()),
            error => wrong(Exit::Connect, error.to_string()),
        })
    }

    /// The options of a listener: the socket's, and what protects it
    fn options(&self, listener: &Listener) -> Result<Options, Failure> {
        let options = self.socket.options();
        let protected = listener
            .protected(self.keys.is_some())
            .map_err(|(message, hint)| Failure { hint, ..Failure::usage(message) })?;
        match (protected, &self.keys) {
            (Protected::Plaintext, _) | (_, None) => Ok(options),
            (Protected::Curve(name), Some(keys)) => keys.curve(options, name),
            (Protected::Tls(name), Some(keys)) => keys.tls(options, name),
        }
    }

    /// Takes over what was added, and gives up what is no longer wanted
    pub(super) fn settle(&mut self, added: Bound, wanted: &[Listener]) {
        let is_wanted = |bound: &Listener| wanted.contains(bound);
        let (kept, given_up): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.bound).into_iter().partition(|(bound, _)| is_wanted(bound));
        self.give_up(&given_up);
        self.bound = kept;
        self.bound.extend(added);
    }

    /// Where it really listens
    pub(super) fn endpoints(&self) -> impl Iterator<Item = &Endpoint> {
        self.bound.iter().map(|(_, endpoint)| endpoint)
    }

    /// Lets no newcomers in any more
    pub(super) fn give_up_all(&self) {
        self.give_up(&self.bound);
    }

    /// Listens no longer on these
    pub(super) fn give_up(&self, bound: &[(Listener, Endpoint)]) {
        for (_, endpoint) in bound {
            if let Err(error) = self.socket.unbind(endpoint) {
                tracing::debug!(%error, "already given up");
            }
        }
    }
}

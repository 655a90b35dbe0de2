//! The event forwarder: XSUB in, XPUB out, a proxy in between.

use tidings::{BindError, Context, Endpoint, Options, Proxy, ProxyHandle, Socket, SocketType};

use super::keys::NodeKeys;
use super::status::Health;
use crate::cli::{Exit, Failure};
use crate::config::{Listener, Protected, Settings};

/// A running forwarder
pub(super) struct Forwarder {
    inlet: Side,
    outlet: Side,
    handle: ProxyHandle,
}

/// One socket and what it listens on
struct Side {
    /// The key of its listeners
    name: &'static str,
    flag: &'static str,
    socket: Socket,
    keys: Option<NodeKeys>,
    bound: Vec<(Listener, Endpoint)>,
}

impl Forwarder {
    /// Opens both sides and begins to forward
    ///
    /// # Errors
    /// What can't be listened on, and what to do about it.
    pub(super) async fn start(
        context: &Context,
        settings: &Settings,
        keys: Option<&NodeKeys>,
        health: &Health,
    ) -> Result<Self, Failure> {
        let mut inlet = Side::open(context, "events.in", "--events-in", SocketType::Xsub, settings, keys)?;
        let mut outlet = Side::open(context, "events.out", "--events-out", SocketType::Xpub, settings, keys)?;
        // Subscribers first: a publisher that is let in finds the way through open
        outlet.listen(&settings.events_out.value).await?;
        inlet.listen(&settings.events_in.value).await?;
        health.watches("events.in", inlet.socket.clone());
        health.watches("events.out", outlet.socket.clone());
        let handle = Proxy::new(inlet.socket.clone(), outlet.socket.clone())
            .spawn()
            .map_err(|error| Failure::new(Exit::Usage, "forwarder", error))?;
        Ok(Self { inlet, outlet, handle })
    }

    /// Where each side really listens
    pub(super) fn listeners(&self) -> impl Iterator<Item = (&'static str, &Endpoint)> {
        [&self.inlet, &self.outlet]
            .into_iter()
            .flat_map(|side| side.bound.iter().map(|(_, endpoint)| (side.name, endpoint)))
    }

    /// Applies what a reload may change: all of it or, on an error, nothing
    ///
    /// # Errors
    /// What can't be listened on; everything is as it was.
    pub(super) async fn apply(&mut self, settings: &Settings) -> Result<(), Failure> {
        let outlet_added = self.outlet.bind_new(&settings.events_out.value).await?;
        let inlet_added = match self.inlet.bind_new(&settings.events_in.value).await {
            Ok(added) => added,
            Err(failure) => {
                self.outlet.unbind_all(&outlet_added);
                return Err(failure);
            }
        };
        self.outlet.settle(outlet_added, &settings.events_out.value);
        self.inlet.settle(inlet_added, &settings.events_in.value);
        for side in [&self.inlet, &self.outlet] {
            side.socket.set_options(|options| with_settings(options, settings));
        }
        Ok(())
    }

    /// Waits for the end of the forwarder, which only comes on its own if something is wrong
    pub(super) async fn ended(&self) {
        self.handle.join().await;
    }

    /// Lets no newcomers in, and ends forwarding; what is queued for subscribers stays to be delivered
    pub(super) async fn stop(self) {
        self.inlet.unbind_all(&self.inlet.bound);
        self.handle.terminate();
        let statistics = self.handle.join().await;
        tracing::info!(
            messages = statistics.forward.messages,
            octets = statistics.forward.octets,
            subscription_changes = statistics.back.messages,
            "forwarding ended"
        );
    }
}

impl Side {
    fn open(
        context: &Context,
        name: &'static str,
        flag: &'static str,
        socket_type: SocketType,
        settings: &Settings,
        keys: Option<&NodeKeys>,
    ) -> Result<Self, Failure> {
        let options = with_settings(Options::of(socket_type), settings);
        let socket = context
            .socket_with(socket_type, options)
            .map_err(|error| Failure::new(Exit::Usage, "socket", format!("{name}: {error}")))?;
        Ok(Self { name, flag, socket, keys: keys.cloned(), bound: Vec::new() })
    }

    async fn listen(&mut self, listeners: &[Listener]) -> Result<(), Failure> {
        let added = self.bind_new(listeners).await?;
        self.settle(added, listeners);
        Ok(())
    }

    /// Binds what is not bound yet: all or nothing
    async fn bind_new(&self, listeners: &[Listener]) -> Result<Vec<(Listener, Endpoint)>, Failure> {
        let mut added: Vec<(Listener, Endpoint)> = Vec::new();
        for listener in listeners {
            if self.bound.iter().any(|(bound, _)| bound == listener) {
                continue;
            }
            if self.bound.iter().any(|(bound, _)| bound.endpoint == listener.endpoint) {
                self.unbind_all(&added);
                return Err(Failure::usage(format!(
                    "{}: how {} is protected can't change while it listens",
                    self.name, listener.endpoint
                ))
                .hint("restart, or give it up with one reload and take it up with the next"));
            }
            match self.bind(listener).await {
                Ok(endpoint) => added.push((listener.clone(), endpoint)),
                Err(failure) => {
                    self.unbind_all(&added);
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
        let binding = self
            .socket
            .bind_with(listener.endpoint.as_str(), options)
            .map_err(|error| wrong(Exit::Usage, error.to_string()))?;
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
    fn settle(&mut self, added: Vec<(Listener, Endpoint)>, wanted: &[Listener]) {
        let is_wanted = |bound: &Listener| wanted.contains(bound);
        let (kept, given_up): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.bound).into_iter().partition(|(bound, _)| is_wanted(bound));
        self.unbind_all(&given_up);
        self.bound = kept;
        self.bound.extend(added);
    }

    fn unbind_all(&self, bound: &[(Listener, Endpoint)]) {
        for (_, endpoint) in bound {
            if let Err(error) = self.socket.unbind(endpoint) {
                tracing::debug!(%error, "already given up");
            }
        }
    }
}

fn with_settings(options: Options, settings: &Settings) -> Options {
    options
        .recv_hwm(settings.events_recv_hwm.value)
        .send_hwm(settings.events_send_hwm.value)
        .overflow(Some(settings.events_overflow.value))
        .linger(Some(settings.shutdown_deadline.value))
}

//! The event forwarder: XSUB in, XPUB out, a proxy in between.

use tidings::{Context, Endpoint, Options, Proxy, ProxyHandle, Socket, SocketType};
use tidings_gossip::driver::Gossip;

use super::connections::{Connections, Connects};
use super::keys::NodeKeys;
use super::side::{Bound, Side};
use super::status::Health;
use crate::cli::{Exit, Failure};
use crate::config::Settings;

/// A running forwarder
pub(super) struct Forwarder {
    inlet: Side,
    /// To publishers that listen themselves
    connections: Connections,
    outlet: Side,
    handle: ProxyHandle,
}

impl Connects for Socket {
    fn options(&self) -> Options {
        Socket::options(self)
    }

    fn connect(&self, endpoint: &Endpoint, options: Options) -> Result<(), String> {
        self.connect_with(endpoint, options).map(drop).map_err(|error| error.to_string())
    }

    fn disconnect(&self, endpoint: &Endpoint) {
        if let Err(error) = Socket::disconnect(self, endpoint) {
            tracing::debug!(%error, "already given up");
        }
    }
}

/// What is listened on for the sake of a reload
pub(super) struct Added {
    inlet: Bound,
    outlet: Bound,
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
        gossip: Option<&Gossip>,
    ) -> Result<Self, Failure> {
        let open = |name, flag, socket_type| {
            let socket = context.socket_with(socket_type, with_settings(Options::of(socket_type), settings));
            let socket = socket.map_err(|error| Failure::new(Exit::Usage, "socket", format!("{name}: {error}")))?;
            Ok::<_, Failure>(Side::new(name, flag, socket, keys))
        };
        let mut inlet = open("events.in", "--events-in", SocketType::Xsub)?;
        let mut outlet = open("events.out", "--events-out", SocketType::Xpub)?;
        // Subscribers first: a publisher that is let in finds the way through open
        outlet.listen(&settings.events_out.value).await?;
        inlet.listen(&settings.events_in.value).await?;
        health.watches("events.in", inlet.socket.clone());
        health.watches("events.out", outlet.socket.clone());
        let handle = Proxy::new(inlet.socket.clone(), outlet.socket.clone())
            .spawn()
            .map_err(|error| Failure::new(Exit::Usage, "forwarder", error))?;
        let mut connections = Connections::new("events.connect", inlet.socket.clone(), keys, gossip);
        connections.settle(&settings.events_connect.value);
        Ok(Self { inlet, connections, outlet, handle })
    }

    /// Where each side really listens
    pub(super) fn listeners(&self) -> impl Iterator<Item = (&'static str, &Endpoint)> {
        [&self.inlet, &self.outlet].into_iter().flat_map(|side| side.endpoints().map(|endpoint| (side.name, endpoint)))
    }

    /// Listens where a reload wants it to besides: all of it or, on an error, nothing
    ///
    /// # Errors
    /// What can't be listened on; everything is as it was.
    pub(super) async fn bind_new(&self, settings: &Settings) -> Result<Added, Failure> {
        let outlet = self.outlet.bind_new(&settings.events_out.value).await?;
        match self.inlet.bind_new(&settings.events_in.value).await {
            Ok(inlet) => Ok(Added { inlet, outlet }),
            Err(failure) => {
                self.outlet.give_up(&outlet);
                Err(failure)
            }
        }
    }

    /// Applies the rest of what a reload may change
    pub(super) fn settle(&mut self, added: Added, settings: &Settings) {
        self.outlet.settle(added.outlet, &settings.events_out.value);
        self.inlet.settle(added.inlet, &settings.events_in.value);
        self.connections.settle(&settings.events_connect.value);
        for side in [&self.inlet, &self.outlet] {
            side.socket.set_options(|options| with_settings(options, settings));
        }
    }

    /// Listens no longer on what was added
    pub(super) fn give_up(&self, added: &Added) {
        self.outlet.give_up(&added.outlet);
        self.inlet.give_up(&added.inlet);
    }

    /// Waits for the end of the forwarder, which only comes on its own if something is wrong
    pub(super) async fn ended(&self) {
        self.handle.join().await;
    }

    /// Lets no newcomers in, and ends forwarding; what is queued for subscribers stays to be delivered
    pub(super) async fn stop(mut self) {
        self.connections.settle(&[]);
        self.inlet.give_up_all();
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

fn with_settings(options: Options, settings: &Settings) -> Options {
    options
        .recv_hwm(settings.events_recv_hwm.value)
        .send_hwm(settings.events_send_hwm.value)
        .overflow(Some(settings.events_overflow.value))
        .linger(Some(settings.shutdown_deadline.value))
}

//! The event forwarder: XSUB in, XPUB out, a proxy in between.

use tidings::{Context, Endpoint, Options, Proxy, ProxyHandle, SocketType};

use super::keys::NodeKeys;
use super::side::Side;
use super::status::Health;
use crate::cli::{Exit, Failure};
use crate::config::Settings;

/// A running forwarder
pub(super) struct Forwarder {
    inlet: Side,
    outlet: Side,
    handle: ProxyHandle,
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
        let open = |name, flag, socket_type| {
            let options = with_settings(Options::of(socket_type), settings);
            Side::open(context, name, flag, socket_type, options, keys)
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
        Ok(Self { inlet, outlet, handle })
    }

    /// Where each side really listens
    pub(super) fn listeners(&self) -> impl Iterator<Item = (&'static str, &Endpoint)> {
        [&self.inlet, &self.outlet].into_iter().flat_map(|side| side.endpoints().map(|endpoint| (side.name, endpoint)))
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
                self.outlet.give_up(&outlet_added);
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

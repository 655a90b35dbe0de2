//! The service broker: a ROUTER, what it listens on, and who may do what.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tidings::{Context, Endpoint, RouterSocket, Socket};
use tidings_majordomo::Server;
use tidings_majordomo::broker::{BrokerConfig, BrokerStats};

use super::access::Rules;
use super::durable::{Durable, Stored};
use super::keys::NodeKeys;
use super::metrics::Labels;
use super::side::{Bound, Side};
use super::status::Health;
use crate::cli::{Exit, Failure};
use crate::config::{Octets, Settings};

/// A running broker
pub(super) struct Services {
    side: Side,
    server: Server,
    rules: Arc<Rules>,
    durable: Option<Durable>,
}

/// What the page knows the broker by
#[derive(Clone)]
pub(super) struct BrokerView {
    server: Server,
    labels: Arc<Labels>,
    durable: Option<Durable>,
}

impl Services {
    /// Opens the socket and begins to serve
    ///
    /// # Errors
    /// What can't be listened on, and what to do about it.
    pub(super) async fn start(
        context: &Context,
        settings: &Settings,
        keys: Option<&NodeKeys>,
        health: &Health,
    ) -> Result<Self, Failure> {
        let socket = RouterSocket::new(context).map_err(|error| Failure::new(Exit::Usage, "socket", error))?;
        let rules = Arc::new(Rules::new(settings));
        let permit = {
            let rules = Arc::clone(&rules);
            move |origin: &_, access, service: &_| rules.may(origin, access, service)
        };
        let mut side = Side::new("service.listen", "--service", Socket::from(socket.clone()), keys);
        // It sets options of its own, which listeners take over: so it is there before they are
        let (server, locals) = Server::builder(socket, config(settings)).permit(permit).start();
        // Whether requests are kept or not: a stranger must not be given what is meant to be
        server.with(|broker, _| broker.reserve(TITANIC));
        let durable = match settings.service_durable.value {
            true => Some(Durable::start(settings, &server, locals).await?),
            false => None,
        };
        side.listen(&settings.service_listen.value).await?;
        health.watches("service", side.socket.clone());
        let view = durable.clone();
        health.serves(BrokerView { server: server.clone(), labels: Arc::default(), durable: view });
        Ok(Self { side, server, rules, durable })
    }

    /// Where it really listens
    pub(super) fn endpoints(&self) -> impl Iterator<Item = &Endpoint> {
        self.side.endpoints()
    }

    /// Listens where a reload wants it to besides: all of it or, on an error, nothing
    ///
    /// # Errors
    /// What can't be listened on; everything is as it was.
    pub(super) async fn bind_new(&self, settings: &Settings) -> Result<Bound, Failure> {
        self.side.bind_new(&settings.service_listen.value).await
    }

    /// Listens no longer on what was added
    pub(super) fn give_up(&self, added: &Bound) {
        self.side.give_up(added);
    }

    /// Applies the rest of what a reload may change
    pub(super) fn settle(&mut self, added: Bound, settings: &Settings) {
        self.side.settle(added, &settings.service_listen.value);
        self.rules.change(settings);
        self.server.forget_permits();
    }

    /// Waits for the end of the broker, which only comes on its own if something is wrong
    pub(super) async fn ended(&self) {
        self.server.ended().await;
    }

    /// Takes no newcomers, waits for requests under way and ends; how many requests got no answer
    pub(super) async fn stop(self, deadline: Duration) -> usize {
        self.side.give_up_all();
        if let Some(durable) = &self.durable {
            durable.begin_stop();
        }
        let report = self.server.stop(deadline).await;
        if let Some(durable) = self.durable {
            durable.ended().await;
        }
        match report.is_complete() {
            true => tracing::info!(workers = report.workers, "all requests were answered, workers were sent home"),
            false => tracing::warn!(
                unanswered = report.unanswered,
                unsent = report.unsent,
                "requests without an answer at the deadline were refused with 503"
            ),
        }
        report.unanswered
    }
}

impl BrokerView {
    /// All figures
    pub(super) fn stats(&self) -> BrokerStats {
        self.server.stats()
    }

    /// Which services have a label of their own
    pub(super) fn labels(&self) -> &Labels {
        &self.labels
    }

    /// Whether durable requests can be kept, or need not
    pub(super) fn keeps_requests(&self) -> bool {
        self.durable.as_ref().is_none_or(Durable::is_open)
    }

    /// Durable requests, if any are kept
    pub(super) async fn stored(&self) -> Option<Stored> {
        match &self.durable {
            Some(durable) => Some(durable.stored().await),
            None => None,
        }
    }

    /// For `/status.json`: the services with the most to do, in bounded number
    pub(super) fn to_json(&self) -> Value {
        let mut stats = self.stats();
        let left_out = stats.services.len().saturating_sub(SERVICES_SHOWN);
        if left_out > 0 {
            stats
                .services
                .sort_by_key(|service| std::cmp::Reverse((service.waiting, service.workers, service.requests)));
            stats.services.truncate(SERVICES_SHOWN);
            stats.services.sort_by(|a, b| a.service.cmp(&b.service));
        }
        let mut object = json!(stats);
        object["left_out"] = Value::from(left_out);
        object
    }
}

/// What the settings say of times and bounds
fn config(settings: &Settings) -> BrokerConfig {
    let Octets(max_waiting_octets) = settings.service_max_waiting_octets.value;
    let max_waiting_octets = usize::try_from(max_waiting_octets).unwrap_or(usize::MAX);
    let usual = BrokerConfig::default();
    BrokerConfig {
        heartbeat_interval: settings.service_heartbeat_interval.value,
        liveness: settings.service_liveness.value.get(),
        request_age: settings.service_request_age.value,
        absence: settings.service_absence.value,
        max_waiting: settings.service_max_waiting.value as usize,
        max_waiting_octets,
        // What one service may hold, all together may, too
        max_total_octets: usual.max_total_octets.max(max_waiting_octets),
        max_attempts: settings.service_max_attempts.value.get(),
        ..usual
    }
}

/// How the services of durable requests begin (RFC 9)
const TITANIC: &str = "titanic.";

/// Most services on the page
const SERVICES_SHOWN: usize = 100;

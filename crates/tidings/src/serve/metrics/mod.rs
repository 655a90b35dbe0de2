//! `/metrics`: one page in the text format of Prometheus, or in OpenMetrics for who asks for it.
//!
//! The figures live in the sockets; the page is written from one snapshot. It is aggregated per
//! socket, never per peer, and labels take values from fixed sets, so that its size is bounded.

mod gossip;
mod services;
mod text;

pub(super) use services::Labels;

use self::text::Text;
use super::descriptors;
use super::status::{Health, State, Watched};

/// The two formats, which differ in the names of counters and in the last line
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Format {
    /// Prometheus text format 0.0.4
    Prometheus,
    /// OpenMetrics 1.0
    OpenMetrics,
}

impl Format {
    /// The format that an `Accept` header asks for
    pub(super) fn accepted(accept: Option<&str>) -> Self {
        match accept {
            Some(accept) if accept.contains("application/openmetrics-text") => Self::OpenMetrics,
            _ => Self::Prometheus,
        }
    }

    pub(super) fn content_type(self) -> &'static str {
        match self {
            Self::Prometheus => "text/plain; version=0.0.4; charset=utf-8",
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }
}

/// The whole page
pub(super) async fn page(health: &Health, format: Format) -> String {
    let mut page = Text::new(format);
    let sockets = health.sockets();
    let counts = health.counts();
    let reloads = health.reloads();

    page.gauge("tidings_build_info", "Always 1; the version is in the label");
    page.value(&[("version", env!("CARGO_PKG_VERSION"))], 1);
    page.gauge("tidings_ready", "1 while messages are forwarded, 0 before and while draining");
    page.value(&[], u64::from(health.state() == State::Ready));
    page.gauge("tidings_start_time_seconds", "When the process started, in seconds since 1970");
    page.value(&[], u64::try_from(health.started().as_second()).unwrap_or_default());

    per_socket(&mut page, &sockets);

    if let Some(broker) = health.broker() {
        services::write(&mut page, &broker.stats(), broker.labels());
        if let Some(stored) = broker.stored().await {
            services::write_stored(&mut page, &stored);
        }
    }

    if let Some(view) = health.gossip() {
        gossip::write(&mut page, &view);
    }

    page.counter("tidings_connection_events", "Lifecycle events of connections, by name");
    page.by_name("event", &counts.events);
    page.counter("tidings_handshake_failures", "Connections that ended before the handshake did, by reason");
    page.by_name("reason", &counts.handshake_failures);
    page.counter("tidings_disconnects", "Connections that ended after the handshake, by reason");
    page.by_name("reason", &counts.disconnects);
    page.counter("tidings_accept_pauses", "Times that accepting was paused because descriptors or memory ran out");
    page.total(&[], counts.events.get("accept-paused").copied().unwrap_or_default());
    page.counter("tidings_reloads", "Reloads of the configuration, by result");
    page.total(&[("result", "applied")], reloads.applied);
    page.total(&[("result", "refused")], reloads.refused);

    if let Some(keys) = health.keys() {
        page.counter("tidings_peers_admitted", "Peers that the keystore let in");
        page.total(&[], keys.admitted());
        page.counter("tidings_peers_refused", "Peers that the keystore did not let in, by reason");
        page.by_name("reason", &keys.refused());
        let status = keys.status();
        page.counter("tidings_key_reloads", "Times that changed key files were read, by result");
        page.total(&[("result", "applied")], status.reloads);
        page.total(&[("result", "refused")], status.failed_reloads);
        page.gauge(
            "tidings_key_expiry_seconds",
            "Seconds until a key or certificate of this node ends; below 0 when it has",
        );
        for (name, seconds) in keys.ends() {
            page.signed(&[("key", &name)], seconds);
        }
    }

    if let Some(open) = descriptors::open() {
        page.gauge("tidings_descriptors_open", "File descriptors in use");
        page.value(&[], open);
    }
    page.gauge("tidings_descriptors_limit", "The most file descriptors the process may have");
    page.value(&[], descriptors::limit());
    if let Some(octets) = descriptors::resident_octets() {
        page.gauge("process_resident_memory_bytes", "Resident memory");
        page.value(&[], octets);
    }
    page.end()
}

fn per_socket(page: &mut Text, sockets: &[Watched]) {
    type Read = fn(&Watched) -> u64;
    let counters: [(&str, &str, Read); 6] = [
        ("tidings_messages_received", "Messages received", |w| w.stats.received),
        ("tidings_messages_sent", "Messages sent, one for each peer that got it", |w| w.stats.sent),
        ("tidings_octets_received", "Octets of messages received", |w| w.stats.received_octets),
        ("tidings_octets_sent", "Octets of messages sent", |w| w.stats.sent_octets),
        ("tidings_messages_dropped", "Messages dropped because a peer's queue was full", |w| w.stats.dropped),
        ("tidings_messages_unrouted", "Messages that nobody wanted: no subscription matched", |w| w.stats.unrouted),
    ];
    for (name, help, read) in counters {
        page.counter(name, help);
        for watched in sockets {
            page.total(&[("socket", watched.name)], read(watched));
        }
    }
    page.counter("tidings_connections_closed", "Connections that ended, by reason");
    for watched in sockets {
        for (reason, count) in &watched.stats.closes {
            page.total(&[("socket", watched.name), ("reason", reason)], *count);
        }
    }
    let gauges: [(&str, &str, Read); 4] = [
        ("tidings_peers", "Peers connected", |w| w.stats.peers.iter().filter(|peer| peer.connected).count() as u64),
        ("tidings_subscriptions", "Subscriptions that peers have made", |w| {
            w.stats.peers.iter().map(|peer| peer.subscriptions as u64).sum()
        }),
        ("tidings_accept_paused", "1 while accepting is paused", |w| u64::from(w.stats.accept_paused)),
        ("tidings_longest_queue_messages", "Messages waiting for the peer that lags most", |w| {
            w.stats.peers.iter().map(|peer| peer.queued_out).max().unwrap_or_default()
        }),
    ];
    for (name, help, read) in gauges {
        page.gauge(name, help);
        for watched in sockets {
            page.value(&[("socket", watched.name)], read(watched));
        }
    }
    let queues: [(&str, &str, Read, Read); 2] = [
        (
            "tidings_queued_messages",
            "Messages waiting: out to peers, in for us",
            |w| w.stats.peers.iter().map(|peer| peer.queued_out).sum(),
            |w| w.stats.peers.iter().map(|peer| peer.queued_in).sum(),
        ),
        (
            "tidings_queued_octets",
            "Octets waiting: out to peers, in for us",
            |w| w.stats.peers.iter().map(|peer| peer.queued_out_octets).sum(),
            |w| w.stats.peers.iter().map(|peer| peer.queued_in_octets).sum(),
        ),
    ];
    for (name, help, out, inward) in queues {
        page.gauge(name, help);
        for watched in sockets {
            page.value(&[("socket", watched.name), ("direction", "out")], out(watched));
            page.value(&[("socket", watched.name), ("direction", "in")], inward(watched));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reader_chooses_the_format() {
        assert_eq!(Format::accepted(None), Format::Prometheus);
        assert_eq!(Format::accepted(Some("application/openmetrics-text;version=1.0.0")), Format::OpenMetrics);
    }
}

//! What the gossip node counts. Labels take values from fixed sets, so that the size of the page is bounded.

use super::super::gossip::GossipView;
use super::text::Text;

/// Writes all of it
pub(super) fn write(page: &mut Text, view: &GossipView) {
    let status = view.status();
    let figure = |name: &str| status.figures.get(name).copied().unwrap_or_default();
    for (name, help, figure_name) in GAUGES {
        page.gauge(name, help);
        page.value(&[], figure(figure_name));
    }
    page.gauge("tidings_gossip_members", "Nodes of the network, by what is believed of them");
    for (status, count) in view.members_by_status() {
        page.value(&[("status", status)], count);
    }
    page.gauge("tidings_gossip_links", "Links that are up, by what is spoken on them");
    for (wire, count) in view.links_by_wire() {
        page.value(&[("wire", wire)], count);
    }
    for (name, help, inward, outward) in FLOWS {
        page.counter(name, help);
        page.total(&[("direction", "in")], figure(inward));
        page.total(&[("direction", "out")], figure(outward));
    }
    page.counter("tidings_gossip_events", "What the node did, by name");
    for name in EVENTS {
        page.total(&[("name", name)], figure(name));
    }
    page.counter("tidings_gossip_driver", "What was done with its connections and with those who ask, by name");
    let driver = serde_json::to_value(status.driver).unwrap_or_default();
    for (name, count) in driver.as_object().into_iter().flatten() {
        page.total(&[("name", name)], count.as_u64().unwrap_or_default());
    }
    page.counter("tidings_gossip_refused", "What was refused of what peers sent, by cause");
    for (cause, count) in &status.refused {
        page.total(&[("cause", cause)], *count);
    }
}

const GAUGES: [(&str, &str, &str); 8] = [
    ("tidings_gossip_tuples", "Tuples that are visible", "tuples"),
    ("tidings_gossip_octets", "Octets of all keys and values", "octets"),
    ("tidings_gossip_hidden", "Tuples whose node is gone, and which live as long as it", "hidden"),
    ("tidings_gossip_tombstones", "Deletions that are remembered", "tombstones"),
    ("tidings_gossip_owners", "Lives of nodes of which something is known", "owners"),
    ("tidings_gossip_active_links", "Links that changes go over", "active-links"),
    ("tidings_gossip_contested", "Keys that nodes without an order of writes keep overwriting", "contested"),
    ("tidings_gossip_health", "How little the node trusts its own senses: 0 is well, 8 the worst", "health"),
];

const FLOWS: [(&str, &str, &str, &str); 2] = [
    ("tidings_gossip_messages", "Messages between nodes", "frames-in", "frames-out"),
    ("tidings_gossip_message_octets", "Octets of them", "octets-in", "octets-out"),
];

const EVENTS: [&str; 9] = [
    "records-in",
    "records-new",
    "records-out",
    "repairs",
    "wants",
    "want-timeouts",
    "grafts",
    "prunes",
    "missed-events",
];

//! What the broker counts, for each service: so many services by name, and the rest as `other`.

use std::collections::HashSet;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tidings_majordomo::broker::{BrokerStats, ServiceStats};
use tidings_majordomo::wire::{ServiceName, Status};

use super::super::durable::Stored;
use super::text::Text;

/// Which services have a label of their own: the first ones that were seen with a worker, for as long as the process runs
///
/// Whoever is in `other` stays there: a name that changed places would look like counters that fell.
#[derive(Debug, Default)]
pub(in crate::serve) struct Labels {
    named: Mutex<HashSet<ServiceName>>,
}

impl Labels {
    /// The label of a service
    fn of(&self, service: &ServiceStats) -> String {
        let mut named = self.named.lock().unwrap_or_else(PoisonError::into_inner);
        let is_named = named.contains(&service.service)
            || (service.workers > 0 && named.len() < NAMED && named.insert(service.service.clone()));
        if is_named { service.service.to_string() } else { OTHER.to_owned() }
    }
}

/// The services of one label
struct Group<'a> {
    label: String,
    services: Vec<&'a ServiceStats>,
}

impl Group<'_> {
    fn sum(&self, read: impl Fn(&ServiceStats) -> u64) -> u64 {
        self.services.iter().map(|service| read(service)).sum()
    }
}

/// Writes all of it
pub(super) fn write(page: &mut Text, stats: &BrokerStats, labels: &Labels) {
    page.counter("tidings_broker", "What the service broker counts, by name; `tidings svc stats` has the same");
    page.by_name("name", &stats.counters);
    page.counter("tidings_broker_malformed", "Messages that are no command of any wire, by what is wrong with them");
    page.by_name("cause", &stats.malformed);
    let gauges: [(&str, &str, usize); 5] = [
        ("tidings_broker_peers", "Connections that have said something", stats.peers),
        ("tidings_broker_workers", "Workers", stats.workers),
        ("tidings_broker_outstanding", "Requests that somebody waits for", stats.outstanding),
        ("tidings_broker_request_octets", "Octets of all requests in memory", stats.octets),
        ("tidings_broker_keys", "Idempotency keys that are remembered", stats.keys),
    ];
    for (name, help, value) in gauges {
        page.gauge(name, help);
        page.value(&[], value as u64);
    }
    let groups = groups(stats, labels);
    totals(page, &groups);
    states(page, &groups);
    page.histogram("tidings_service_latency_seconds", "From a request's arrival to its reply");
    for group in &groups {
        let up_to = |micros: u64| {
            let bound = Duration::from_micros(micros);
            (bound.as_secs_f64(), group.sum(|service| service.latency.count_up_to(bound)))
        };
        let sum: f64 = group.services.iter().map(|service| service.latency.sum().as_secs_f64()).sum();
        let count = group.sum(|service| service.latency.count());
        page.buckets(("service", &group.label), &BOUNDS.map(up_to), count, sum);
    }
}

/// Writes what there is of durable requests
pub(super) fn write_stored(page: &mut Text, stored: &Stored) {
    page.counter("tidings_durable", "What was done with durable requests, by name");
    let done = serde_json::to_value(stored.done).unwrap_or_default();
    for (name, count) in done.as_object().into_iter().flatten() {
        // How many are under way now goes up and down: that is `leased` below
        if name != "running" {
            page.total(&[("name", name)], count.as_u64().unwrap_or_default());
        }
    }
    if let Some(store) = &stored.store {
        page.gauge("tidings_store_entries", "Entries in the store, by state");
        for (state, count) in stored.entries() {
            page.value(&[("state", state)], count);
        }
        page.gauge("tidings_store_octets", "Octets that the entries count for");
        page.value(&[], store.octets);
        page.gauge("tidings_store_max_octets", "Octets that they may");
        page.value(&[], store.max_octets);
        page.counter("tidings_store_commits", "Transactions that were written");
        page.total(&[], store.commits);
        page.counter("tidings_store_operations", "Operations in them");
        page.total(&[], store.operations);
        page.counter("tidings_store_failures", "Transactions that failed");
        page.total(&[], store.failed);
    }
}

fn groups<'a>(stats: &'a BrokerStats, labels: &Labels) -> Vec<Group<'a>> {
    let mut groups: Vec<Group<'_>> = Vec::new();
    let mut other = Group { label: OTHER.to_owned(), services: Vec::new() };
    for service in &stats.services {
        match labels.of(service) {
            label if label == OTHER => other.services.push(service),
            label => groups.push(Group { label, services: vec![service] }),
        }
    }
    if !other.services.is_empty() {
        groups.push(other);
    }
    groups
}

fn totals(page: &mut Text, groups: &[Group<'_>]) {
    type Read = fn(&ServiceStats) -> u64;
    let counters: [(&str, &str, Read); 7] = [
        ("tidings_service_requests", "Requests that came", |service| service.requests),
        ("tidings_service_replies", "Requests that ended in a reply", |service| service.replies),
        ("tidings_service_expired", "Requests whose time was over first", |service| service.expired),
        ("tidings_service_cancelled", "Requests that were taken back", |service| service.cancelled),
        ("tidings_service_client_gone", "Requests whose client went away", |service| service.client_gone),
        ("tidings_service_retried", "Times that a request was given to another worker", |service| service.retried),
        ("tidings_service_late_replies", "Replies that nobody waited for any more", |service| service.late),
    ];
    for (name, help, read) in counters {
        page.counter(name, help);
        for group in groups {
            page.total(&[("service", &group.label)], group.sum(read));
        }
    }
    page.counter(
        "tidings_service_refused",
        "Requests that were refused, by status; those of workers' making are `worker`",
    );
    for group in groups {
        for status in Status::ALL {
            let count = group.sum(|service| service.refused.of(status));
            if count > 0 {
                page.total(&[("service", &group.label), ("status", &status.code().to_string())], count);
            }
        }
        let others = group.sum(|service| service.refused.other());
        if others > 0 {
            page.total(&[("service", &group.label), ("status", "worker")], others);
        }
    }
}

fn states(page: &mut Text, groups: &[Group<'_>]) {
    type Read = fn(&ServiceStats) -> u64;
    let gauges: [(&str, &str, Read); 5] = [
        ("tidings_service_workers", "Workers", |service| service.workers as u64),
        ("tidings_service_workers_idle", "Workers that could take a request now", |service| service.idle as u64),
        ("tidings_service_running", "Requests at workers", |service| service.running as u64),
        ("tidings_service_waiting", "Requests that wait", |service| service.waiting as u64),
        ("tidings_service_waiting_octets", "Octets of the requests that wait", |service| service.waiting_octets as u64),
    ];
    for (name, help, read) in gauges {
        page.gauge(name, help);
        for group in groups {
            page.value(&[("service", &group.label)], group.sum(read));
        }
    }
    page.gauge("tidings_service_oldest_waiting_seconds", "How long the request that is next has waited");
    for group in groups {
        let oldest = group.services.iter().map(|service| service.oldest_waiting).max().unwrap_or_default();
        page.seconds(&[("service", &group.label)], oldest.as_secs_f64());
    }
}

/// Most services with a label of their own
const NAMED: usize = 100;

/// The label of all others
const OTHER: &str = "other";

/// Upper bounds in microseconds; powers of two, at which the broker's own buckets are exact
const BOUNDS: [u64; 14] = [
    1 << 6,
    1 << 7,
    1 << 8,
    1 << 9,
    1 << 10,
    1 << 11,
    1 << 13,
    1 << 15,
    1 << 17,
    1 << 19,
    1 << 21,
    1 << 23,
    1 << 25,
    1 << 27,
];

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use tidings::Message;
    use tidings_majordomo::broker::{Broker, BrokerConfig, PeerKey};

    use super::super::Format;
    use super::*;

    fn ready(broker: &mut Broker, now: Instant, workers: std::ops::Range<u64>) {
        for worker in workers {
            let frames = ["".into(), "MDPW01".into(), "\u{1}".into(), format!("service-{worker:04}")];
            broker.handle_message(now, PeerKey(worker), Message::multipart(frames));
        }
    }

    fn page(broker: &Broker, now: Instant, labels: &Labels) -> String {
        let mut page = Text::new(Format::Prometheus);
        write(&mut page, &broker.stats(now), labels);
        page.end()
    }

    #[test]
    fn services_beyond_the_first_hundred_share_a_label_for_good() {
        let now = Instant::now();
        let (mut broker, labels) = (Broker::new(BrokerConfig::default(), 1, now), Labels::default());
        ready(&mut broker, now, 100..250);
        let first = page(&broker, now, &labels);
        assert_eq!(first.matches("tidings_service_workers{service=").count(), NAMED + 1);
        assert!(first.contains("tidings_service_workers{service=\"other\"} 50\n"), "{first}");
        // One that comes first by name does not take anybody's place
        ready(&mut broker, now, 0..1);
        let second = page(&broker, now, &labels);
        assert!(second.contains("tidings_service_workers{service=\"other\"} 51\n"), "{second}");
        assert!(second.contains("{service=\"service-0100\"}") && !second.contains("service-0000"), "{second}");
        assert!(
            second.contains("tidings_service_latency_seconds_bucket{service=\"other\",le=\"+Inf\"} 0\n"),
            "{second}"
        );
    }

    #[test]
    fn a_histogram_counts_upwards() {
        let now = Instant::now();
        let (mut broker, labels) = (Broker::new(BrokerConfig::default(), 1, now), Labels::default());
        ready(&mut broker, now, 0..1);
        let request = ["", "MDPC01", "service-0000", "x"].map(bytes::Bytes::from);
        broker.handle_message(now, PeerKey(7), Message::multipart(request));
        let order = loop {
            let transmit = broker.poll_transmit().expect("the worker is given the request");
            if transmit.message.frame_count() > 4 {
                break transmit.message.into_frames();
            }
        };
        let reply = ["".into(), "MDPW01".into(), "\u{3}".into(), order[3].clone(), "".into(), "y".into()];
        broker.handle_message(now + Duration::from_micros(300), PeerKey(0), Message::multipart(reply));
        let text = page(&broker, now, &labels);
        for (bound, count) in [("0.000128", 0), ("0.000256", 0), ("0.000512", 1), ("134.217728", 1), ("+Inf", 1)] {
            let sample =
                format!("tidings_service_latency_seconds_bucket{{service=\"service-0000\",le=\"{bound}\"}} {count}\n");
            assert!(text.contains(&sample), "no {sample} in {text}");
        }
        assert!(text.contains("tidings_service_latency_seconds_sum{service=\"service-0000\"} 0.0003\n"), "{text}");
    }
}

//! What a broker is told: its times and its bounds.

use std::time::Duration;

/// Which of the workers that have room is given the next request
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Balance {
    /// The one with the fewest requests under way, and of those the one that waits longest
    ///
    /// For workers that take one request at a time this is least recently used.
    #[default]
    LeastOutstanding,
    /// The one that was given none for longest, however many it has
    LeastRecentlyUsed,
}

/// The times and bounds of a [`Broker`](super::Broker)
///
/// Each bound that is reached refuses what would go beyond it, under a name of its own in the counters.
#[derive(Clone, Debug, PartialEq)]
pub struct BrokerConfig {
    /// How often a worker is sent something and something is expected of it, unless its READY says otherwise: 1 s, as
    /// Domogik and zeromq/majordomo have it
    pub heartbeat_interval: Duration,
    /// Intervals of silence after which a worker is dead: 4; RFC 7 asks for 3 to 5
    pub liveness: u32,
    /// How long a request without a deadline waits, and how long a classic worker may be silent over one: 60 s. Over a
    /// request with a deadline it may be silent until that
    pub request_age: Duration,
    /// The longest deadline: 24 h; what asks for more gets this
    pub max_deadline: Duration,
    /// How long a service that lost its last worker, and any service after the broker's start, still counts as one, so that
    /// workers may come back before clients are told `404`: 6 s, as our own workers wait up to 5 s between attempts to
    /// connect. A request whose deadline comes sooner is told shortly before that
    pub absence: Duration,
    /// Requests that wait for one service: 10,000, of which one connection may have half
    pub max_waiting: usize,
    /// Octets of requests that wait for one service: 64 MiB. Each counts for its frames, for what stands in front of them on
    /// the way back to its client, and for 256 octets besides
    pub max_waiting_octets: usize,
    /// Octets of all requests, waiting or under way: 512 MiB
    pub max_total_octets: usize,
    /// All requests, waiting or under way: 1,000,000
    pub max_requests: usize,
    /// Services with a worker, with something waiting, or remembered for their counters: 10,000
    pub max_services: usize,
    /// Of those, services that requests wait for and that never had a worker: 1,000. A worker takes the place of one if there is
    /// no other
    pub max_unserved: usize,
    /// Of those, services that only one connection's requests made: 100
    pub max_unserved_of_client: usize,
    /// Workers: 10,000
    pub max_workers: usize,
    /// Requests at once for one worker, whatever it declares: 65,536
    pub max_concurrency: u32,
    /// Requests of one connection under way: 10,000
    pub max_per_client: usize,
    /// Workers that a request is given to before it is refused with `502`: 3
    pub max_attempts: u32,
    /// How long a reply answers repeated requests with the same idempotency key: 5 min
    pub key_ttl: Duration,
    /// Idempotency keys at once: 100,000
    pub max_keys: usize,
    /// Octets of keys and of the replies kept for them: 64 MiB
    pub max_key_octets: usize,
    /// Octets of a request's body: 64 MiB
    pub max_body: usize,
    /// Octets that wait to be sent to clients who don't read, all together: 512 MiB, or a sixteenth more before it is noticed.
    /// Then whoever has most waiting is hung up on. One alone may have 64 MiB
    pub max_unsent_octets: usize,
    /// Events that wait to be fetched: 1024; later ones are counted and dropped
    pub max_events: usize,
    /// Which worker is next
    pub balance: Balance,
}

impl Default for BrokerConfig {
    fn default() -> Self {
        Self {
            heartbeat_interval: Duration::from_secs(1),
            liveness: 4,
            request_age: Duration::from_secs(60),
            max_deadline: Duration::from_secs(24 * 60 * 60),
            absence: Duration::from_secs(6),
            max_waiting: 10_000,
            max_waiting_octets: 64 << 20,
            max_total_octets: 512 << 20,
            max_requests: 1_000_000,
            max_services: 10_000,
            max_unserved: 1_000,
            max_unserved_of_client: 100,
            max_workers: 10_000,
            max_concurrency: 65_536,
            max_per_client: 10_000,
            max_attempts: 3,
            key_ttl: Duration::from_secs(5 * 60),
            max_keys: 100_000,
            max_key_octets: 64 << 20,
            max_body: 64 << 20,
            max_unsent_octets: 512 << 20,
            max_events: 1024,
            balance: Balance::default(),
        }
    }
}

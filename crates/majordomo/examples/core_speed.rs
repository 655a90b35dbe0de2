//! How fast the broker is by itself, without sockets: requests that pass it in a second, and what one that waits weighs.
//!
//! `cargo run --release -p tidings-majordomo --example core_speed [SECONDS]`
//!
//! Each request is four messages through the broker: from a client, to a worker, from the worker, to the client. Messages
//! are made as a socket makes them, as slices of one larger buffer.

use std::time::{Duration, Instant};

use bytes::Bytes;
use tidings_majordomo::broker::{Broker, BrokerConfig, PeerKey};
use tidings_majordomo::wire::{
    Body, ClientCommand, ReadyOptions, RequestOptions, ServiceName, Wire, WorkerCommand, WorkerOrder,
};
use tidings_zmtp::Message;

const CLIENTS: u64 = 4;
const WORKERS: u64 = 2;

fn main() {
    let seconds = std::env::args().nth(1).and_then(|text| text.parse().ok()).unwrap_or(2.0);
    for wire in [Wire::Mdp01, Wire::Mdp02, Wire::Tidings] {
        for in_flight in [1, 64] {
            let rate = requests_in_a_second(wire, in_flight, Duration::from_secs_f64(seconds));
            println!("{:<10} {in_flight:>3} in flight: {rate:>10.0} requests/s", wire.name());
        }
    }
    println!("a waiting request of 64 octets: {} octets of memory", weight_of_a_waiting_request());
}

fn service() -> ServiceName {
    ServiceName::new("echo").unwrap_or_else(|_| unreachable!("it is short"))
}

fn body(buffer: &Bytes) -> Body {
    [buffer.slice(..64)].into_iter().collect()
}

fn request(wire: Wire, id: u64, buffer: &Bytes) -> Message {
    let options = RequestOptions::default();
    let command = ClientCommand::Request { id, service: service(), options, body: body(buffer) };
    command.encode(wire).unwrap_or_default()
}

fn requests_in_a_second(wire: Wire, in_flight: usize, time: Duration) -> f64 {
    let buffer = Bytes::from(vec![b'x'; 64 * 1024]);
    let start = Instant::now();
    let mut broker = Broker::new(BrokerConfig::default(), 1, start);
    let concurrency = if wire == Wire::Tidings { 64 } else { 1 };
    for worker in 0..WORKERS {
        let options = ReadyOptions { concurrency, heartbeat: None };
        let ready = WorkerCommand::Ready { service: service(), options };
        broker.handle_message(start, PeerKey(1000 + worker), ready.encode(wire).unwrap_or_default());
    }
    let (mut done, mut id) = (0u64, 0u64);
    let mut now = start;
    while now < start + time {
        for _ in 0..100 {
            for _ in 0..in_flight {
                id += 1;
                broker.handle_message(now, PeerKey(id % CLIENTS), request(wire, id, &buffer));
            }
            while let Some(transmit) = broker.poll_transmit() {
                if transmit.to.0 < 1000 {
                    done += 1;
                    continue;
                }
                let Ok(WorkerOrder::Request { token, body, .. }) = WorkerOrder::decode(transmit.message, wire) else {
                    continue;
                };
                let reply = WorkerCommand::Final { token, body }.encode(wire).unwrap_or_default();
                broker.handle_message(now, transmit.to, reply);
            }
        }
        now = Instant::now();
    }
    done as f64 / (now - start).as_secs_f64()
}

fn weight_of_a_waiting_request() -> usize {
    let count = 100_000;
    let config = BrokerConfig { max_waiting: 2 * count, max_per_client: count, ..BrokerConfig::default() };
    let now = Instant::now();
    let mut broker = Broker::new(config, 1, now);
    let buffer = Bytes::from(vec![b'x'; 64 * 1024]);
    let before = resident();
    (0..count as u64).for_each(|id| broker.handle_message(now, PeerKey(1), request(Wire::Mdp01, id, &buffer)));
    assert_eq!(broker.outstanding(), count);
    resident().saturating_sub(before) / count
}

/// Octets of memory that the process has, as Linux tells it; 0 elsewhere
fn resident() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    statm.split(' ').nth(1).and_then(|pages| pages.parse::<usize>().ok()).unwrap_or_default() * 4096
}

//! Interoperability with real peers: every test here talks to clients, workers and brokers in processes of their own.
//!
//! They are `tests/peers/service_peer.py` in one of its roles: on libzmq through pyzmq, the package majortomo, and libzmq
//! 4.1, which old Python installations have. Without these the tests are skipped with a word, but fail where `CI` or
//! `TIDINGS_REQUIRE_PEERS=1` is set. `cargo xtask interop` installs everything, runs them and prints the table.
//!
//! | file | what it shows |
//! |---|---|
//! | `matrix.rs` | every peer as client, worker, both, and as broker of ours; prints the table |
//! | `together.rs` | all wires on one broker at once, everybody with everybody; a client behind a proxy |
//! | `workers.rs` | killed, frozen and blocked workers; the heartbeat lock |
//! | `restarts.rs` | a broker that is gone and comes back, with and without a word |
//! | `domogik.rs` | the seed's exchange, timeouts, numeric bodies, MMI |
//! | `unknown.rs` | services that nobody has, on each wire |
//! | `events.rs` | Domogik's events through forwarders |
//!
//! Helpers: `house.rs` has a broker of ours with clients and workers, `peer.rs` steers the processes, `waiting.rs` puts
//! deadlines on what is awaited.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a helper of tests fails the test")]

mod domogik;
mod events;
mod house;
mod matrix;
mod peer;
mod restarts;
mod table;
mod together;
mod unknown;
mod waiting;
mod workers;

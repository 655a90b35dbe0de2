//! Interoperability with libzmq: every test here talks to a real libzmq in a process of its own.
//!
//! The process is `tests/peers/pyzmq_peer.py`; the tests tell it what to do by lines of JSON and
//! check what both ends saw. Without pyzmq they are skipped with a word, but fail where `CI` or
//! `TIDINGS_REQUIRE_PEERS=1` is set. `cargo xtask interop` installs pyzmq under `target/python`, runs
//! everything and prints the table of the matrix.
//!
//! | file | what it shows |
//! |---|---|
//! | `matrix.rs` | every legal pair of socket types, over tcp, ipc, PLAIN, CURVE and TLS, bound on either side; prints the table |
//! | `sequences.rs` | 100,000 messages in order, none lost or doubled |
//! | `subscriptions.rs` | subscriptions that come and go while messages flow; XPUB's view; verbose; long topics |
//! | `routing_ids.rs` | given, automatic and duplicate ids, handover, probes, `connect_as` |
//! | `heartbeats.rs` | PING and PONG in both roles, frozen peers, time to live |
//! | `requests.rs` | correlate and relaxed in both roles, `request`, a REP that dies |
//! | `restarts.rs` | peers killed with -9 and started again at the same endpoint |
//! | `refusals.rs` | incompatible socket types: what each side makes of it |
//! | `refused.rs` | PLAIN and CURVE: who is refused how, and what each side is told; prints the list |
//! | `options.rs` | the option table: names, numbers and defaults |
//! | `queues.rs` | conflate, immediate, welcome message, invert matching |
//!
//! Helpers: `guard.rs` has the keys, passwords and certificates, `peer.rs` steers libzmq, `way.rs` joins a socket of ours to one of its, `tap.rs` sits on a
//! TCP connection and counts heartbeats, `waiting.rs` puts deadlines on what is awaited.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a helper of tests fails the test")]

mod guard;
mod heartbeats;
mod matrix;
mod options;
mod peer;
mod queues;
mod refusals;
mod refused;
mod requests;
mod restarts;
mod routing_ids;
mod sequences;
mod subscriptions;
mod table;
mod tap;
mod waiting;
mod way;

//! Gossip with real nodes of CZMQ's zgossip.
//!
//! They are in a process of their own, `tests/peers/czmq_gossip.c`, built here against Debian's libczmq-dev. Where that is
//! missing the tests are skipped with a word, but fail where `CI` or `TIDINGS_REQUIRE_PEERS=1` is set. `cargo xtask interop` runs
//! them at full length (`TIDINGS_INTEROP_ALL`) and prints the table. Each ends by asking CZMQ's nodes for their STATUS: whatever stops one
//! of them was sent by ours.
//!
//! | file | what it shows |
//! |---|---|
//! | `matrix.rs` | rings, stars and meshes over tcp, ipc and inproc, as client and as server; prints the table |
//! | `manual.rs` | the exchange in zgossip's manual, with one of its nodes ours |
//! | `idle.rs` | an hour without news; who is forgotten and who is not |
//! | `restarts.rs` | nodes of either side that end, with and without a word, and come back |
//! | `amounts.rs` | 10,000 tuples, keys of 255 octets, values of 1 MiB, every octet |
//! | `contested.rs` | several writers of one key |
//! | `malformed.rs` | what stops one of CZMQ's nodes, sent to ours |
//! | `original.rs` | that all of this does happen among CZMQ's own nodes |
//!
//! Helpers: `czmq.rs` steers the process, `ours.rs` has a node of ours and what it told, `network.rs` puts them together,
//! `waiting.rs` puts deadlines on what is awaited.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a helper of tests fails the test")]

mod amounts;
mod contested;
mod czmq;
mod idle;
mod malformed;
mod manual;
mod matrix;
mod network;
mod original;
mod ours;
mod restarts;
mod table;
mod waiting;

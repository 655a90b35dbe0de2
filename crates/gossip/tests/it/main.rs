//! Running nodes, over real sockets.
//!
//! | file | what goes there |
//! |---|---|
//! | `selftest.rs` | the self test of CZMQ's zgossip, line by line |
//! | `actor.rs` | the actor's other commands, its configuration, its pipe over a socket |
//! | `networks.rs` | nodes over every transport and all of them mixed, restarts, many connections, large values |
//! | `curve.rs` | networks with CURVE: who is let in, who is not |
//! | `commands.rs` | text commands from a DEALER or REQ, and what the permit says |
//! | `watching.rs` | watches, slow ones too, and events |
//! | `hostile.rs` | frames that stop a CZMQ node, and worse |
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "it is a test")]

mod actor;
mod commands;
mod curve;
mod hostile;
mod networks;
mod selftest;
mod support;
mod watching;

//! The keystore behind real sockets: each test is two contexts on loopback, each with a keystore of its own.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that can't go on has failed")]

mod czmq;
mod sockets;

//! Client and worker against sockets: what they do on a connection, and what its end does to them.
//!
//! | file | what |
//! |---|---|
//! | `scripted.rs` | a broker that says what a test has it say, over a ROUTER |
//! | `client.rs` | requests, cancellation, reconnection, blocking |
//! | `worker.rs` | handlers, panics, parts, stopping |
//! | `house.rs` | both, with the real broker between them |
//! | `simulation.rs` | the states of all three on a virtual clock, from seeds |

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod client;
mod house;
mod scripted;
mod simulation;
mod worker;

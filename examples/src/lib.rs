//! The five ZeroMQ patterns, services and gossip, each as a program in `src/bin`.
//!
//! This library is empty: it has the Rust of README and of the book compiled and run as tests.

#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
mod readme {}

#[cfg(doctest)]
#[doc = include_str!("../../docs/src/getting-started.md")]
mod getting_started {}

#[cfg(doctest)]
#[doc = include_str!("../../docs/src/socket-types.md")]
mod socket_types {}

#[cfg(doctest)]
#[doc = include_str!("../../docs/src/services.md")]
mod services {}

#[cfg(doctest)]
#[doc = include_str!("../../docs/src/gossip.md")]
mod gossip {}

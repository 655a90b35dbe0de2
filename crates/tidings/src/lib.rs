//! tidings: messaging for fleets of nodes, natively on ZeroMQ's wire.
//!
//! One dependency for an application: it re-exports the socket engine, so that
//! `tidings::Context`, `tidings::ReqSocket` and their friends are all a user names. The program
//! of the same name is built from this package too, behind the default feature `cli`; a library
//! user who wants the sockets alone writes `default-features = false`, and adds the feature `services` for
//! [`majordomo`]: clients and workers that find each other by the name of a service; or `gossip` for [`gossip`]: names and
//! values that a whole network knows.

pub use tidings_socket::*;

#[cfg(feature = "gossip")]
#[doc(inline)]
pub use tidings_gossip as gossip;
#[cfg(feature = "services")]
#[doc(inline)]
pub use tidings_majordomo as majordomo;

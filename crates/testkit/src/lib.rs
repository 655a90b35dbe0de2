//! What the tests of tidings share: a virtual clock, a simulated network, and pairs of peers on it.
//!
//! Nothing here waits: time passes when the simulation jumps to the next moment at which something happens. What
//! chance decides comes from a seed, which is printed when a test fails.

mod clock;
pub use clock::Clock;
mod meeting;
pub use meeting::{Attendee, Meeting, Speaker};
mod network;
pub use network::{End, Network};
mod random;
pub use random::{Random, SeededEntropy};
pub mod tampering;

//! Sizes, which have units.

/// A size in octets
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Octets(pub(crate) u64);

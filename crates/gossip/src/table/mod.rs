//! The tuples, and what is dead: last-writer order, expiry, digests.

//! How what was lost is found: digests, and the exchange that follows when they differ.

//! What is known of the writes of each owner: contexts, sets of numbers that were seen.

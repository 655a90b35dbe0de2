//! One directory for the keys of a node.

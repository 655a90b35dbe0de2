//! How what is new reaches the others: pushed along a tree, announced elsewhere, asked for.

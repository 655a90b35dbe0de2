//! The handle of a node that runs, and the loop that joins a core to sockets and the clock.

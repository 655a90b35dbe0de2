//! The text commands of the original actor, and ours, over a socket.

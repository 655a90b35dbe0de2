//! ZGP 1, octet for octet: HELLO, PUBLISH, PING, PONG, INVALID.

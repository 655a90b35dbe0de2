//! Drives the built program the way people do: processes, pipes, signals and loopback ports.
//!
//! Every port is ephemeral and read from the program's own output; nothing sleeps, everything that
//! is waited for has a deadline, and no process outlives its test.
//!
//! | what | where |
//! |---|---|
//! | each socket pattern between two processes, its flags and its exit codes | `sock`, `sock_later` |
//! | the daemon: events, page, signals, reload | `serve` |
//! | the broker, and `svc` in all its verbs | `services` |
//! | durable requests, and the store they are in | `durable` |
//! | the store beside the daemon: `queue` in all its verbs | `queue` |
//! | the daemon killed under durable load, again and again | `killed` |
//! | the gossip node, and `gossip` in all its verbs; its neighbours of zgossip | `gossip` |
//! | the three nodes of the book, by its own files | `book` |
//! | names in place of addresses, in files and on command lines | `discovery` |
//! | Domogik's configuration and events | `domogik` |
//! | encrypted pairs, strangers, the doctor | `security` |
//! | keys: made, shown, trusted, revoked, rotated | `keys` |
//! | command lines, configuration, completions, manual pages | `usage` |

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that can't go on has failed")]

mod book;
mod daemon;
mod discovery;
mod domogik;
mod durable;
mod gossip;
mod keys;
mod killed;
mod process;
mod queue;
mod security;
mod serve;
mod services;
mod sock;
mod sock_later;
mod usage;

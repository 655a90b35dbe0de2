//! How sockets behave, seen from outside: one expectation, over tcp, ipc and inproc.
//!
//! | module | what is asked there |
//! |---|---|
//! | [`patterns`] | what each socket type does with a message (RFC 28 to 31) |
//! | [`later`] | the same for CLIENT, SERVER, PEER, SCATTER, GATHER and CHANNEL (RFC 41, 49, 51, 52) |
//! | [`radio`] | RADIO and DISH: groups (RFC 48) |
//! | [`udp`] | datagrams: RADIO and DISH, PUSH and PULL |
//! | [`stream`] | STREAM against plain TCP programs |
//! | [`publishing`] | the options of PUB, XPUB and XSUB |
//! | [`subscriptions`] | prefixes, counts, many of them, again after a reconnection |
//! | [`queues`] | high-water marks, overflow policies, back-pressure, depth |
//! | [`options`] | the options that are no queue's: timeouts, immediate, routing ids, probes |
//! | [`origins`] | where a message came from, also over reconnections |
//! | [`lifecycle`] | events and outcomes of binding, connecting, refusing, parting, returning |
//! | [`close`] | what a close sends, drops, reports and wakes |
//! | [`requests`] | `request`: many at once, late replies, deadlines, lost peers |
//! | [`security`] | who is let in, by whom it is decided, and what either side is told |
//! | [`curve`] | CURVE between our own: what passes, and who is refused how |
//! | [`tls`] | tls: and unix+tls: endpoints: what passes, and who is refused how |
//! | [`sharing`] | one socket in many tasks, and futures dropped half-way |
//! | [`inproc`] | what only sockets of one context can do to each other |
//! | [`proxy`] | pass, capture, pause, count, end |
//! | [`blocking`] | the same from threads without a runtime |
//! | [`bad_input`] | peers that break the protocol, or say nothing |
//!
//! What concerns the whole process stands in binaries of its own: `tests/descriptors.rs`, `tests/memory.rs`,
//! `tests/half_open.rs`.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that can't go on fails")]

mod bad_input;
mod blocking;
mod close;
mod curve;
mod inproc;
mod later;
mod lifecycle;
mod options;
mod origins;
mod patterns;
mod proxy;
mod publishing;
mod queues;
mod radio;
mod requests;
mod security;
mod sharing;
mod stream;
mod subscriptions;
mod support;
mod tls;
mod udp;

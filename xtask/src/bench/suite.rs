//! The benchmarks that there are: what each measures, who takes part, and against whom its ratios are.

use super::encrypted::{curve_works, tls_works};
use super::gossip::{CZMQ, gossip_works};
use super::script::Side;
use super::services::{NATS, NATS_BARE, TWO_HOPS, service_works};
use super::works::{BARE_TLS, LIBZMQ, LIBZMQ_CURVE, Work, works};

/// One `cargo xtask bench …` that runs works in turn
pub(super) struct Suite {
    /// As in the command and in the names of its results
    pub(super) name: &'static str,
    pub(super) title: &'static str,
    pub(super) works: fn() -> Vec<Work>,
    /// Who takes part unless `--sides` says otherwise
    pub(super) sides: &'static [Side],
    /// Label of the column beside ours, and the key of its version in what is known of the machine
    pub(super) beside: (&'static str, &'static str),
    /// Labels that the ratios are of; the first is also what the overview compares with
    pub(super) rivals: &'static [&'static str],
    /// Packages whose versions the report's head has
    pub(super) packages: &'static [&'static str],
    /// Needs keys and certificates
    pub(super) encrypts: bool,
    /// What to know when reading its tables
    pub(super) notes: &'static [&'static str],
}

pub(super) const ENGINE: Suite = Suite {
    name: "engine",
    title: "Engine benchmark",
    works,
    sides: &[Side::Ours, Side::Libzmq, Side::Zeromq, Side::Rzmq, Side::Floor],
    beside: (LIBZMQ, "libzmq"),
    rivals: &[LIBZMQ],
    packages: &["zeromq", "rzmq", "tokio"],
    encrypts: false,
    notes: &[],
};

pub(super) const CURVE: Suite = Suite {
    name: "curve",
    title: "CURVE benchmark",
    works: curve_works,
    sides: &[Side::Ours, Side::Libzmq, Side::Floor],
    beside: (LIBZMQ, "libzmq"),
    rivals: &[LIBZMQ],
    packages: &["dryoc", "tokio"],
    encrypts: true,
    notes: &[
        "The server lets in every client whose handshake holds; neither side asks an authenticator.",
        "Cipher alone: dryoc seals and opens each body in place on one thread; between two processes, each with a core, \
         the slower half is what limits.",
        "Handshakes: one process with 64 connections on their way at a time, all kept until the last is there; memory is \
         the server's.",
        "The rows without encryption have the engine's targets: encryption must not make them worse.",
    ],
};

pub(super) const TLS: Suite = Suite {
    name: "tls",
    title: "TLS benchmark",
    works: tls_works,
    sides: &[Side::Ours, Side::Libzmq, Side::Floor],
    beside: (LIBZMQ, "libzmq"),
    rivals: &[BARE_TLS, LIBZMQ_CURVE],
    packages: &["tokio-rustls", "rustls", "aws-lc-rs", "tokio"],
    encrypts: true,
    notes: &[
        "libzmq has no TLS. Beside our handshakes over TLS stand what it has, CURVE, and our own CURVE.",
        "tokio-rustls: one bare TLS stream with the same certificates, written in blocks of 64 KiB whatever the size of a \
         message; the ratio at 64 octets and 1 KiB therefore says what messages cost, not what TLS does.",
        "Both ends have certificates (ECDSA with P-256, one authority). Connect, one echo, close: each is a new client and a \
         full handshake. 1,000 connections are one client's, whose later ones may resume a session, ours and the bare ones \
         alike. The bare handshakes end with an echo of 64 octets, ours are TLS and then ZMTP's own.",
    ],
};

pub(super) const SERVICE: Suite = Suite {
    name: "service",
    title: "Service benchmark",
    works: service_works,
    sides: &[Side::Ours, Side::Nats, Side::Majortomo, Side::Floor],
    beside: (NATS, "nats"),
    rivals: &[NATS, NATS_BARE, TWO_HOPS],
    packages: &["async-nats", "rusqlite", "tokio"],
    encrypts: false,
    notes: &[
        "Requests: 64 octets there and back over tcp on loopback without encryption. Client, broker and worker are a process \
         each, and the worker answers with what it was sent.",
        "bare, two hops: the same way with nobody who decides anything: our DEALER, our ROUTER/DEALER proxy, our DEALER. bare, \
         one hop: DEALER and ROUTER.",
        "nats-server: with async-nats at both ends. Its bare client is ours and does no more than the protocol asks for, to \
         tell the server's limit from the crate's.",
        "majortomo: its broker, with the client and the worker of ours on its wire.",
        "Stored requests: `titanic.request` with 256 octets, answered when they are on disk (fsync). store alone: the queue \
         beneath, without a broker. disk alone: a file that grows, with one fdatasync for as many records as are in flight. \
         Nothing takes the requests out while they are counted.",
        "Memory: how much the broker's resident memory grows by, for requests of 64 octets that nobody takes, and for idle \
         workers with a connection each; bare ROUTER is what such a connection takes by itself.",
    ],
};

pub(super) const GOSSIP: Suite = Suite {
    name: "gossip",
    title: "Gossip benchmark",
    works: gossip_works,
    sides: &[Side::Ours, Side::Czmq],
    beside: (CZMQ, "czmq"),
    rivals: &[CZMQ],
    packages: &["tokio"],
    encrypts: false,
    notes: &[
        "All nodes of a network are in one process, linked over tcp on loopback; every node's application takes what it is told. \
         The links are the same for both sides. A random mesh has two links a node, so that a node has four neighbours on average.",
        "Each node publishes its part, all at the same time, keys of about 10 octets and values of 20. The clock runs from the \
         first of it until every node has told its application of everything.",
        "The network has stood for two seconds before. CZMQ's nodes forget a client that was quiet for one, and it does \
         not learn that: with its defaults the news are lost and the network never converges, which is said after ten seconds. What \
         ours is compared with is CZMQ with `server/timeout` 0, which forgets nobody.",
        "Octets are what the loopback interface counted, headers of TCP and IP included, each direction once, until a second \
         after the end brought less than a twentieth more.",
        "At rest: what goes over the wire when everything is everywhere and nobody publishes, for a node and second, over ten \
         seconds. CZMQ's nodes send nothing then, and neither learn of each other's end nor of what was lost.",
    ],
};

impl Suite {
    /// By its name, as results have it
    pub(super) fn named(name: &str) -> Option<&'static Self> {
        [&ENGINE, &CURVE, &TLS, &SERVICE, &GOSSIP].into_iter().find(|suite| suite.name == name)
    }

    pub(super) fn rival(&self) -> &'static str {
        self.rivals.first().copied().unwrap_or(LIBZMQ)
    }
}

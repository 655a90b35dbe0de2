//! The benchmarks that there are: what each measures, who takes part, and against whom its ratios are.

use super::encrypted::{curve_works, tls_works};
use super::script::Side;
use super::works::{BARE_TLS, LIBZMQ, LIBZMQ_CURVE, Work, works};

/// One `cargo xtask bench …` that runs works in turn
pub(super) struct Suite {
    /// As in the command and in the names of its results
    pub(super) name: &'static str,
    pub(super) title: &'static str,
    pub(super) works: fn() -> Vec<Work>,
    /// Who takes part unless `--sides` says otherwise
    pub(super) sides: &'static [Side],
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

impl Suite {
    /// By its name, as results have it
    pub(super) fn named(name: &str) -> Option<&'static Self> {
        [&ENGINE, &CURVE, &TLS].into_iter().find(|suite| suite.name == name)
    }

    pub(super) fn rival(&self) -> &'static str {
        self.rivals.first().copied().unwrap_or(LIBZMQ)
    }
}

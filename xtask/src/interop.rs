//! `cargo xtask interop`: sockets against a real libzmq, services and gossip against real peers, and the tables of what works
//! how.

use std::fs;
use std::process::Command;

use anyhow::{Context as _, Result};
use clap::Args;

use crate::checks::{install_old_libzmq, install_peers, root, succeed};

#[derive(Args)]
pub(crate) struct Interop {
    /// Run these tests only, by a part of their names such as `matrix` or `restarts`
    names: Vec<String>,
    /// Take the Python packages under target/python as they are, also if requirements.txt asks for others
    #[arg(long)]
    keep: bool,
}

impl Interop {
    /// Installs the peers if need be, runs the tests, and prints the tables at the end even if some failed
    pub(crate) fn run(&self) -> Result<()> {
        let packages = if self.keep { root().join("target/python") } else { install_peers()? };
        let mut tests = Command::new(env!("CARGO"));
        tests.args([
            "test",
            "--no-fail-fast",
            "-p",
            "tidings-socket",
            "-p",
            "tidings-majordomo",
            "-p",
            "tidings-gossip",
            "--test",
            "interop",
            "--",
        ]);
        tests.args(&self.names).env("PYTHONPATH", packages).env("TIDINGS_REQUIRE_PEERS", "1");
        // What takes longer than a check of every change may
        tests.env("TIDINGS_INTEROP_ALL", "1");
        tests.env("TIDINGS_OLD_LIBZMQ", install_old_libzmq()?);
        run_with_table(&mut tests)
    }
}

/// Runs tests, and prints the table of socket pairs, the list of who is refused how and the tables of services and of
/// gossip, if those were among them
pub(crate) fn run_with_table(tests: &mut Command) -> Result<()> {
    let [table, refused, services, gossip] =
        ["interop-table.txt", "interop-refused", "interop-services.txt", "interop-gossip.txt"]
            .map(|name| root().join("target").join(name));
    let (by_ours, by_theirs) = (refused.with_extension("ours"), refused.with_extension("theirs"));
    let parts = [table.clone(), by_ours, by_theirs, services.clone(), gossip.clone()];
    // Without what an earlier run left: a run without the matrix prints none
    parts.iter().for_each(|part| drop(fs::remove_file(part)));
    tests.env("TIDINGS_INTEROP_TABLE", &table).env("TIDINGS_INTEROP_REFUSED", &refused);
    let outcome = succeed(tests.env("TIDINGS_SERVICES_TABLE", &services).env("TIDINGS_GOSSIP_TABLE", &gossip));
    for part in parts.iter().filter(|part| part.exists()) {
        print!("\n{}", fs::read_to_string(part).with_context(|| format!("can't read {}", part.display()))?);
    }
    outcome
}

//! `cargo xtask interop`: the socket crate against a real libzmq, and the table of which socket pairs work how.

use std::fs;
use std::process::Command;

use anyhow::{Context as _, Result};
use clap::Args;

use crate::checks::{install_peers, root, succeed};

#[derive(Args)]
pub(crate) struct Interop {
    /// Run these tests only, by a part of their names such as `matrix` or `restarts`
    names: Vec<String>,
    /// Take the Python packages under target/python as they are, also if requirements.txt asks for others
    #[arg(long)]
    keep: bool,
}

impl Interop {
    /// Installs pyzmq if need be, runs the tests, and prints the table at the end even if some failed
    pub(crate) fn run(&self) -> Result<()> {
        let packages = if self.keep { root().join("target/python") } else { install_peers()? };
        let mut tests = Command::new(env!("CARGO"));
        tests.args(["test", "-p", "tidings-socket", "--test", "interop", "--"]).args(&self.names);
        tests.env("PYTHONPATH", packages).env("TIDINGS_REQUIRE_PEERS", "1");
        run_with_table(&mut tests)
    }
}

/// Runs tests, and prints the table of socket pairs and the list of who is refused how, if those were among them
pub(crate) fn run_with_table(tests: &mut Command) -> Result<()> {
    let table = root().join("target/interop-table.txt");
    // Without a table of an earlier run: a run without the matrix prints none
    fs::remove_file(&table).ok();
    let refused = ["ours", "theirs"].map(|part| root().join("target/interop-refused").with_extension(part));
    refused.iter().for_each(|part| drop(fs::remove_file(part)));
    tests.env("TIDINGS_INTEROP_REFUSED", root().join("target/interop-refused"));
    let outcome = succeed(tests.env("TIDINGS_INTEROP_TABLE", &table));
    if table.exists() {
        print!("\n{}", fs::read_to_string(&table).with_context(|| format!("can't read {}", table.display()))?);
    }
    // Who is refused how, where those tests were among them
    for part in refused.iter().filter(|part| part.exists()) {
        print!("\n{}", fs::read_to_string(part).with_context(|| format!("can't read {}", part.display()))?);
    }
    outcome
}

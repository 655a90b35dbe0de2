//! Builds the programs of the sides.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context as _, Result, bail};

use super::script::Side;
use crate::checks::{install_peers, root};

/// Where the program of each side is
pub(super) type Programs = BTreeMap<Side, PathBuf>;

/// Builds what the sides need; the floors also hold clients that load every side
pub(super) fn build(sides: &[Side]) -> Result<Programs> {
    let mut programs = Programs::new();
    // Workers and clients at majortomo's broker are ours
    let ours = sides.contains(&Side::Majortomo).then_some(Side::Ours);
    for side in sides.iter().copied().chain(ours).chain([Side::Floor]) {
        if programs.contains_key(&side) {
            continue;
        }
        let program = match side {
            Side::Ours => build_ours()?,
            Side::Libzmq => build_libzmq()?,
            Side::Zeromq => build_package("tidings-bench-rivals", "bench-zeromq")?,
            Side::Rzmq => build_package("tidings-bench-rivals", "bench-rzmq")?,
            Side::Nats => build_package("tidings-bench-rivals", "bench-nats")?,
            Side::Majortomo => {
                install_peers()?;
                root().join("bench/rivals/majortomo_broker.py")
            }
            Side::Czmq => build_czmq()?,
            Side::Floor => build_package("tidings-bench-floors", "bench-floors")?,
        };
        programs.insert(side, program);
    }
    Ok(programs)
}

/// Builds our side, optimised, and returns where it is
pub(crate) fn build_ours() -> Result<PathBuf> {
    build_package("tidings-bench", "tidings-bench")
}

fn build_package(package: &str, binary: &str) -> Result<PathBuf> {
    let arguments = ["build", "--quiet", "--release", "--package", package, "--bin", binary];
    let status = Command::new(env!("CARGO")).args(arguments).current_dir(root()).status()?;
    if !status.success() {
        bail!("{binary} does not build; leave its side out with --sides, or mend it");
    }
    Ok(target().join("release").join(binary))
}

fn build_libzmq() -> Result<PathBuf> {
    build_c("libzmq", "libzmq", &["libzmq"])
}

fn build_czmq() -> Result<PathBuf> {
    build_c("czmq_gossip", "libczmq", &["libczmq", "libzmq"])
}

/// Builds `bench/rivals/NAME.c`
fn build_c(name: &str, package: &str, libraries: &[&str]) -> Result<PathBuf> {
    let flags = Command::new("pkg-config").args(["--cflags", "--libs"]).args(libraries).output();
    let flags = flags.ok().filter(|output| output.status.success()).with_context(|| {
        let debian = if package == "libzmq" { "libzmq3-dev" } else { "libczmq-dev" };
        format!(
            "{package}'s headers are missing: apt-get install {debian} pkg-config gcc, or leave it out with --sides"
        )
    })?;
    let program = folder()?.join(name);
    let status = Command::new("cc")
        .args(["-O2", "-std=gnu11", "-Wall", "-Wextra", "-o"])
        .arg(&program)
        .arg(root().join(format!("bench/rivals/{name}.c")))
        .args(String::from_utf8(flags.stdout)?.split_whitespace())
        .arg("-pthread")
        .status()
        .context("can't start cc; apt-get install gcc")?;
    if !status.success() {
        bail!("bench/rivals/{name}.c does not build");
    }
    Ok(program)
}

/// Where things of the benchmarks are built
pub(super) fn folder() -> Result<PathBuf> {
    let folder = target().join("bench");
    std::fs::create_dir_all(&folder).with_context(|| format!("can't make the folder {}", folder.display()))?;
    Ok(folder)
}

fn target() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from)
}

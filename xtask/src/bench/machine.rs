//! On what the figures were taken.

use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result};
use serde_json::{Value, json};

use crate::checks::root;

/// Processor, kernel, compiler, versions of the rivals, and how busy the machine is right now
pub(super) fn describe(libzmq: Option<&Path>, czmq: Option<&Path>) -> Value {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let cpu_info = read("/proc/cpuinfo");
    let model = cpu_info.lines().find_map(|line| line.strip_prefix("model name")).unwrap_or_default();
    let lock = std::fs::read_to_string(root().join("Cargo.lock")).unwrap_or_default();
    json!({
        "cpu": model.trim_start_matches([' ', '\t', ':']),
        "cores": std::thread::available_parallelism().map_or(0, usize::from),
        "kernel": read("/proc/sys/kernel/osrelease").trim().split('-').next(),
        "rustc": said(Path::new("rustc"), "--version"),
        "libzmq": libzmq.map(|program| said(program, "--version")),
        "libzmq_libraries": libzmq.map(libraries),
        "czmq": czmq.map(|program| said(program, "--version")),
        "nats": said(Path::new("nats-server"), "--version"),
        "crates": versions(&lock, &PACKAGES),
        "commit": said_by(Command::new("git").args(["describe", "--always", "--dirty"]).current_dir(root())),
        "load_before": load(),
    })
}

/// The shared libraries that a program is linked with and that matter here, as `ldd` finds them
fn libraries(program: &Path) -> Vec<String> {
    let all = said(Path::new("ldd"), &program.to_string_lossy());
    let lines = all.lines().filter(|line| line.contains("libzmq") || line.contains("libsodium"));
    // Without the address at which it happened to be loaded
    lines.map(|line| line.split(" (0x").next().unwrap_or_default().trim().to_owned()).collect()
}

/// How much the machine had to do in the last 1, 5 and 15 minutes
pub(super) fn load() -> String {
    let text = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split_whitespace().take(3).collect::<Vec<_>>().join(" ")
}

/// Lets the programs that we start open as many files as this process may
pub(super) fn raise_open_files() -> Result<()> {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    setrlimit(Resource::Nofile, limit).context("can't raise the limit of open files; try `ulimit -n 20000` before")
}

fn said(program: &Path, argument: &str) -> String {
    said_by(Command::new(program).arg(argument))
}

fn said_by(command: &mut Command) -> String {
    command.output().map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned()).unwrap_or_default()
}

/// Versions of packages according to a Cargo.lock
fn versions(lock: &str, names: &[&str]) -> Value {
    let version_of = |name: &str| {
        let start = lock.find(&format!("name = \"{name}\"\n"))?;
        lock[start..].lines().nth(1)?.strip_prefix("version = \"")?.strip_suffix('"').map(str::to_owned)
    };
    names.iter().map(|name| ((*name).to_owned(), Value::from(version_of(name)))).collect()
}

const PACKAGES: [&str; 10] = [
    "tidings-socket",
    "tokio",
    "zeromq",
    "rzmq",
    "dryoc",
    "tokio-rustls",
    "rustls",
    "aws-lc-rs",
    "async-nats",
    "rusqlite",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_come_from_the_lock_file() {
        let lock = "[[package]]\nname = \"tokio-util\"\nversion = \"0.7.1\"\n\n[[package]]\nname = \"tokio\"\nversion = \"1.54.0\"\n";
        assert_eq!(versions(lock, &["tokio", "rzmq"]), json!({"tokio": "1.54.0", "rzmq": null}));
    }
}

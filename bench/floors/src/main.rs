//! The floors under the benchmarks: the same work on raw sockets, bare channels, the cipher alone and bare TLS.
//!
//! `bench-floors ROLE key=value …`. A role that binds prints `listening ENDPOINT` first; every role
//! prints one line of JSON at its end. The load for ROUTER servers (`dealers`, `dial`) lives here too,
//! so that every library is measured by the same client and only the server differs. `make-keys` writes the keys
//! and certificates that all sides take when messages are encrypted.
//!
//! Exit codes: 0 done, 1 failed, 2 wrong usage, 3 a role this program does not have. A role that is not
//! done after 120 seconds ends by SIGALRM.

mod bulk;
mod channels;
mod cipher;
mod dealers;
mod dial;
mod echo_client;
mod echo_server;
mod endpoint;
mod keys;
mod measure;
mod opening;
mod poll;
mod secrets;
mod storing;
mod tls;
mod zmtp;

use std::io::Write as _;
use std::process::ExitCode;

use anyhow::Result;
use serde_json::Value;

use crate::keys::{Keys, Usage};

// The allocator of our own side, so that the channels are a floor for it and not for malloc
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let Some((role, pairs)) = arguments.split_first() else {
        eprintln!("usage: bench-floors ROLE key=value …\nroles: {}", ROLES.map(|(name, _)| name).join(" "));
        return ExitCode::from(2);
    };
    let Some((_, run)) = ROLES.iter().find(|(name, _)| name == role) else {
        eprintln!("unsupported {role}");
        return ExitCode::from(3);
    };
    end_after(LONGEST);
    match Keys::parse(pairs).and_then(run).and_then(|report| print(&report.to_string())) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench-floors {role}: {error:#}");
            ExitCode::from(if error.is::<Usage>() { 2 } else { 1 })
        }
    }
}

type Role = fn(Keys) -> Result<Value>;

const ROLES: [(&str, Role); 16] = [
    ("accept-server", echo_server::accept_server),
    ("append-sync", storing::append_sync),
    ("bulk-sink", bulk::sink),
    ("bulk-source", bulk::source),
    ("cipher", cipher::cipher),
    ("dealers", dealers::dealers),
    ("dial", dial::dial),
    ("echo-client", echo_client::echo_client),
    ("echo-server", echo_server::echo_server),
    ("inproc-latency", channels::latency),
    ("inproc-throughput", channels::throughput),
    ("make-keys", secrets::make_keys),
    ("tls-connect", tls::connect),
    ("tls-echo", tls::echo),
    ("tls-sink", tls::sink),
    ("tls-source", tls::source),
];

/// No role may outlive this, so that a peer that died never leaves a program behind
///
/// An alarm, which ends the program by its signal, and not a thread that sleeps: with a second thread every
/// system call on a descriptor counts its users, which made the ipc echo some 4 % dearer.
fn end_after(seconds: u32) {
    nix::unistd::alarm::set(seconds);
}

const LONGEST: u32 = 120;

/// Prints one line and flushes it, as whoever started us may be waiting for it on a pipe
pub(crate) fn print(line: &str) -> Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{line}")?;
    Ok(out.flush()?)
}

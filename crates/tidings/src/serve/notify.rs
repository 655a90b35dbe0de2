//! Telling the service manager how far we are: systemd's protocol, and a pipe for all others.

use std::io::Write as _;

use sd_notify::NotifyState;

use crate::cli::Failure;

/// Everything listens
///
/// # Errors
/// When `--ready-fd` is no pipe that can be written to.
pub(super) fn ready(fd: Option<u32>) -> Result<(), Failure> {
    tell(&[NotifyState::Ready, NotifyState::Status("serving")]);
    let Some(fd) = fd else { return Ok(()) };
    // Opened by name: adopting a bare number needs unsafe code, and a pipe does not mind
    let written = std::fs::OpenOptions::new()
        .write(true)
        .open(format!("/proc/self/fd/{fd}"))
        .and_then(|mut pipe| pipe.write_all(b"\n"));
    written.map_err(|error| {
        Failure::usage(format!("--ready-fd {fd}: {error}")).hint("name a descriptor that is a pipe open for writing")
    })
}

/// The configuration is being read again
pub(super) fn reloading() {
    match NotifyState::monotonic_usec_now() {
        Ok(now) => tell(&[NotifyState::Reloading, now]),
        Err(error) => tracing::debug!(%error, "no monotonic clock for the service manager"),
    }
}

/// The configuration has been read, to good effect or not
pub(super) fn reloaded() {
    tell(&[NotifyState::Ready]);
}

/// The end has begun
pub(super) fn stopping() {
    tell(&[NotifyState::Stopping, NotifyState::Status("draining")]);
}

fn tell(states: &[NotifyState<'_>]) {
    // Without a service manager this does nothing and succeeds
    if let Err(error) = sd_notify::notify(states) {
        tracing::warn!(%error, "the service manager can't be told");
    }
}

//! The program `tidings`: ZeroMQ sockets from the shell, and the daemon that hosts services.
//!
//! `cli` reads the command line and talks to people; `config` turns text into settings; `serve` is
//! the daemon. Sockets, wires and options live in the library crates: nothing here decides them.

mod cli;
mod config;
mod discovery;
mod serve;

use std::process::ExitCode;

/// Messages are allocated by one thread and freed by another, which this allocator is good at
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    cli::main()
}

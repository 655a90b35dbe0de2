//! Chores of the project: `cargo xtask …`.

mod bench;
mod checks;
mod instructions;
mod interop;
mod soak;

use anyhow::Result;
use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(name = "cargo xtask", about = "Chores of the project", arg_required_else_help = true)]
struct Arguments {
    #[command(subcommand)]
    chore: Chore,
}

#[derive(Subcommand)]
enum Chore {
    /// Takes every check that a change must pass: format, lint, tests, fuzzing, documentation
    Test(checks::Checks),
    /// Tests sockets against a real libzmq, services against real clients, workers and brokers, gossip against CZMQ's
    /// nodes; prints the tables
    Interop(interop::Interop),
    /// Measures us and a rival in turn, prints medians, spread and ratios, keeps the raw results
    #[command(subcommand)]
    Bench(bench::Bench),
    /// Publishes for a long time with a frozen subscriber and passing visitors; fails if memory grows
    Soak(soak::Soak),
}

fn main() -> Result<()> {
    match Arguments::parse().chore {
        Chore::Test(checks) => checks.run(),
        Chore::Interop(interop) => interop.run(),
        Chore::Bench(bench) => bench.run(),
        Chore::Soak(soak) => soak.run(),
    }
}

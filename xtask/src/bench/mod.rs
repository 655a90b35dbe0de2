//! `cargo xtask bench`: us, libzmq, the other crates and the raw floors in turn, each end in a process of its own.
//!
//! `suite.rs` names the benchmarks, `works.rs`, `encrypted.rs`, `services.rs` and `gossip.rs` are the tables of what is measured
//! and what must come out, `script.rs` says which programs that takes, `measuring.rs`, `side.rs` and `run.rs` run them, `results.rs` is
//! the raw file, `report.rs` and `picture.rs` show it.

mod chart;
mod curves;
mod encrypted;
mod gossip;
mod machine;
mod measuring;
mod overview;
mod picture;
mod programs;
mod report;
mod results;
mod run;
mod script;
mod services;
mod side;
mod statistics;
mod steadiness;
mod suite;
mod works;

use std::path::PathBuf;

use anyhow::Result;
use clap::{Args, Subcommand};

pub(crate) use programs::build_ours;

#[derive(Subcommand)]
pub(crate) enum Bench {
    /// The engine against libzmq, the crates zeromq and rzmq, and the raw floors
    Engine(measuring::Measuring),
    /// CURVE against libzmq's, with libsodium: throughput, round trips, handshakes; and the same without encryption
    Curve(measuring::Measuring),
    /// TLS against bare tokio-rustls, and its handshakes against libzmq's CURVE
    Tls(measuring::Measuring),
    /// Services against nats-server, majortomo's broker and the bare engine; stored requests against the disk; memory
    Service(measuring::Measuring),
    /// Networks of gossip nodes against CZMQ's zgossip: until all know all, octets on the wire, octets at rest
    Gossip(measuring::Measuring),
    /// Instructions and allocations per message under callgrind, against bench/instructions.json
    Instructions(crate::instructions::Instructions),
    /// Draws the tables and pictures of raw results anew
    Picture(Picture),
}

#[derive(Args)]
pub(crate) struct Picture {
    /// Raw results of `cargo xtask bench engine`, `curve`, `tls`, `service` or `gossip`; the table and the pictures go beside them
    #[arg(required = true, value_name = "RAW.json")]
    raw: Vec<PathBuf>,
}

impl Bench {
    pub(crate) fn run(&self) -> Result<()> {
        match self {
            Self::Engine(measuring) => measuring.run(&suite::ENGINE),
            Self::Curve(measuring) => measuring.run(&suite::CURVE),
            Self::Tls(measuring) => measuring.run(&suite::TLS),
            Self::Service(measuring) => measuring.run(&suite::SERVICE),
            Self::Gossip(measuring) => measuring.run(&suite::GOSSIP),
            Self::Instructions(instructions) => instructions.run(),
            Self::Picture(picture) => picture.run(),
        }
    }
}

impl Picture {
    fn run(&self) -> Result<()> {
        for path in &self.raw {
            let results = results::Results::read(path)?;
            let (table, pictures) = report::write(&results, path)?;
            println!("{} and {pictures} pictures in {}", table.display(), path.with_extension("").display());
        }
        Ok(())
    }
}

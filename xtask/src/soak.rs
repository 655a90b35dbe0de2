//! `cargo xtask soak`: builds the bench program and has it publish for a long time.

use anyhow::{Result, bail};
use clap::Args;

use crate::bench::build_ours;

#[derive(Args)]
pub(crate) struct Soak {
    /// How long
    #[arg(long, default_value_t = 30.0)]
    minutes: f64,
    /// Messages of 200 octets a second
    #[arg(long, default_value_t = 50_000)]
    rate: u64,
}

impl Soak {
    pub(crate) fn run(&self) -> Result<()> {
        let program = build_ours()?;
        eprintln!("publishing for {} minutes; a line every ten seconds", self.minutes);
        let status = std::process::Command::new(program)
            .args(["soak", &self.minutes.to_string(), &self.rate.to_string()])
            .status()?;
        if !status.success() {
            bail!("the soak failed: {status}");
        }
        Ok(())
    }
}

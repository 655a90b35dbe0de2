//! `dial`: how fast a server takes connections in.

use std::io;

use anyhow::{Context as _, Result};
use serde_json::{Value, json};

use crate::endpoint::allow_connections;
use crate::keys::Keys;
use crate::measure::{Measured, with};
use crate::opening::{self, Handshake};

/// Opens `connections` as fast as it can; with `hold` keeps them until stdin closes
pub(crate) fn dial(mut keys: Keys) -> Result<Value> {
    let endpoint = keys.endpoint()?;
    let count = keys.number("connections")?;
    let handshake = match keys.choice("wire", &["zmtp", "raw"])? {
        "raw" => Handshake::Octet,
        _ => Handshake::Zmtp,
    };
    let hold = keys.flag("hold")?;
    keys.finish()?;
    allow_connections(count)?;

    let measured = Measured::begin();
    let connections = opening::open(&endpoint, count, handshake)?;
    let report = with(measured.end().report(count, count as f64), json!({ "connections": count }));
    if hold {
        // The line must come before the wait, so this is the one role that has nothing left to print
        crate::print(&report.to_string())?;
        io::copy(&mut io::stdin().lock(), &mut io::sink()).context("waiting for stdin to close")?;
        drop(connections);
        std::process::exit(0);
    }
    Ok(report)
}

//! The table of mixed networks.

use std::fmt;
use std::time::Duration;

/// What became of each network, in the order in which they were tried
#[derive(Debug, Default)]
pub(crate) struct Table {
    rows: Vec<(String, Result<Row, String>)>,
}

/// What is known of a network that converged
#[derive(Clone, Copy, Debug)]
pub(crate) struct Row {
    pub(crate) ours: usize,
    pub(crate) theirs: usize,
    pub(crate) tuples: usize,
    pub(crate) took: Duration,
    /// What all of CZMQ's nodes told their applications, in parts of the least that they could
    pub(crate) deliveries: f64,
    /// How many of them answer STATUS in the end
    pub(crate) alive: usize,
}

impl Table {
    pub(crate) fn enter(&mut self, network: &str, outcome: Result<Row, String>) {
        self.rows.push((network.to_owned(), outcome));
    }

    pub(crate) fn len(&self) -> usize {
        self.rows.len()
    }

    /// Which failed, and why
    pub(crate) fn failures(&self) -> Vec<String> {
        self.rows
            .iter()
            .filter_map(|(network, outcome)| Some(format!("{network}: {}", outcome.as_ref().err()?)))
            .collect()
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{:<NETWORK$}  ours  CZMQ  tuples  converged in  deliveries  CZMQ alive",
            "gossip with CZMQ 4.2.1"
        )?;
        for (network, outcome) in &self.rows {
            match outcome {
                Ok(Row { ours, theirs, tuples, took, deliveries, alive }) => writeln!(
                    f,
                    "{network:<NETWORK$}  {ours:>4}  {theirs:>4}  {tuples:>6}  {:>9} ms  {deliveries:>10.2}  {:>10}",
                    took.as_millis(),
                    format!("{alive} of {theirs}"),
                )?,
                Err(_) => writeln!(f, "{network:<NETWORK$}  FAILED")?,
            }
        }
        Ok(())
    }
}

const NETWORK: usize = 52;

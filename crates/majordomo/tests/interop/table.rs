//! The table of the matrix: peers down, what they are to ours across.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

/// What became of each cell
#[derive(Debug, Default)]
pub(crate) struct Table {
    rows: Vec<String>,
    cells: BTreeMap<(usize, Place), Result<Duration, String>>,
}

/// What a peer is to ours
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Place {
    /// Its client at our broker, with our worker
    Client,
    /// Its worker at our broker, with our client
    Worker,
    /// Both of it at our broker
    Both,
    /// Our client and our worker at its broker
    Broker,
}

impl Place {
    pub(crate) const ALL: [Self; 4] = [Self::Client, Self::Worker, Self::Both, Self::Broker];

    fn name(self) -> &'static str {
        match self {
            Self::Client => "client of ours",
            Self::Worker => "worker of ours",
            Self::Both => "both, our broker",
            Self::Broker => "broker of ours",
        }
    }
}

impl Table {
    /// Enters a cell; a peer that has no such part has no cell there
    pub(crate) fn enter(&mut self, peer: &str, place: Place, outcome: Result<Duration, String>) {
        let row = self.rows.iter().position(|row| row == peer).unwrap_or_else(|| {
            self.rows.push(peer.to_owned());
            self.rows.len() - 1
        });
        self.cells.insert((row, place), outcome);
    }

    /// The cells that failed, by name, with the reason
    pub(crate) fn failures(&self) -> Vec<String> {
        let failed = |(&(row, place), outcome): (&(usize, Place), &Result<Duration, String>)| {
            Some(format!("{}, {}: {}", self.rows[row], place.name(), outcome.as_ref().err()?))
        };
        self.cells.iter().filter_map(failed).collect()
    }

    pub(crate) fn len(&self) -> usize {
        self.cells.len()
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = Place::ALL.map(Place::name);
        let header = names.iter().fold(format!("{:<PEER$}", "peer"), |line, name| line + &format!("  {name:<CELL$}"));
        writeln!(f, "{}", header.trim_end())?;
        for (row, peer) in self.rows.iter().enumerate() {
            let mut line = format!("{peer:<PEER$}");
            for place in Place::ALL {
                let text = match self.cells.get(&(row, place)) {
                    None => "-".to_owned(),
                    Some(Ok(took)) => format!("ok {:>4} ms", took.as_millis()),
                    Some(Err(_)) => "FAILED".to_owned(),
                };
                line += &format!("  {text:<CELL$}");
            }
            writeln!(f, "{}", line.trim_end())?;
        }
        Ok(())
    }
}

const PEER: usize = 40;
const CELL: usize = 16;

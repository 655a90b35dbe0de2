//! The table of the matrix: socket pairs down, ways across.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use crate::way::Way;

/// What became of each cell
#[derive(Debug, Default)]
pub(crate) struct Table {
    rows: Vec<String>,
    cells: BTreeMap<(usize, usize), Result<Duration, String>>,
}

impl Table {
    /// Enters a cell; a pair that does not go over a transport has no cell there
    pub(crate) fn enter(&mut self, pair: &str, way: Way, outcome: Result<Duration, String>) {
        let row = self.rows.iter().position(|row| row == pair).unwrap_or_else(|| {
            self.rows.push(pair.to_owned());
            self.rows.len() - 1
        });
        let column = columns().position(|known| known == way).expect("a known way");
        self.cells.insert((row, column), outcome);
    }

    /// The cells that failed, by name, with the reason
    pub(crate) fn failures(&self) -> Vec<String> {
        let failed = |(&(row, column), outcome): (&(usize, usize), &Result<Duration, String>)| {
            let reason = outcome.as_ref().err()?;
            Some(format!("{} over {}: {reason}", self.rows[row], columns().nth(column)?))
        };
        self.cells.iter().filter_map(failed).collect()
    }

    pub(crate) fn len(&self) -> usize {
        self.cells.len()
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let header =
            columns().fold(format!("{:<PAIR$}", "ours - libzmq's"), |line, way| line + &format!("  {way:<CELL$}"));
        writeln!(f, "{}", header.trim_end())?;
        for (row, pair) in self.rows.iter().enumerate() {
            let mut line = format!("{pair:<PAIR$}");
            for column in 0..columns().count() {
                let text = match self.cells.get(&(row, column)) {
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

fn columns() -> impl Iterator<Item = Way> {
    Way::ALL.into_iter().chain(Way::SECURED)
}

const PAIR: usize = 22;
const CELL: usize = 19;

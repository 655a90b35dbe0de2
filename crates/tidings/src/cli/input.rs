//! Lines of standard input, read by a thread of their own so that no read holds up the sockets.

use std::io::{self, BufRead, Read};

use tokio::sync::mpsc;

/// The lines of standard input, without their ends
///
/// # Cancel safety
/// `next` may be dropped and called again without losing a line.
pub(crate) struct Lines {
    receiver: mpsc::Receiver<io::Result<Vec<u8>>>,
}

impl Lines {
    /// Starts to read; the thread stays a bounded number of lines ahead and ends with the process
    ///
    /// # Errors
    /// When the system has no thread to give.
    pub(crate) fn of_stdin() -> io::Result<Self> {
        let (sender, receiver) = mpsc::channel(LINES_AHEAD);
        std::thread::Builder::new().name("stdin".to_owned()).spawn(move || {
            let mut stdin = io::stdin().lock();
            while let Some(line) = read_line(&mut stdin, LINE_LIMIT).transpose() {
                let last = line.is_err();
                if sender.blocking_send(line).is_err() || last {
                    break;
                }
            }
        })?;
        Ok(Self { receiver })
    }

    /// The next line, or `None` at the end of the input
    pub(crate) async fn next(&mut self) -> Option<io::Result<Vec<u8>>> {
        self.receiver.recv().await
    }
}

/// One line without its end (`\n` or `\r\n`), or `None` at the end
fn read_line(input: &mut impl BufRead, limit: u64) -> io::Result<Option<Vec<u8>>> {
    let mut line = Vec::new();
    if input.take(limit + 2).read_until(b'\n', &mut line)? == 0 {
        return Ok(None);
    }
    if line.last() == Some(&b'\n') {
        line.pop();
        if line.last() == Some(&b'\r') {
            line.pop();
        }
    }
    if line.len() as u64 > limit {
        let text = format!("a line of standard input is longer than {} MiB", limit >> 20);
        return Err(io::Error::new(io::ErrorKind::InvalidData, text));
    }
    Ok(Some(line))
}

/// Lines read ahead of the socket; enough to keep it busy, few enough to stop at its pace
const LINES_AHEAD: usize = 256;

/// Longest line: input without line ends must not fill the memory
const LINE_LIMIT: u64 = 64 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_lose_their_ends_and_nothing_else() {
        let mut input = io::Cursor::new(b"one\r\n\n two \nlast".to_vec());
        let mut lines = Vec::new();
        while let Some(line) = read_line(&mut input, 100).unwrap() {
            lines.push(String::from_utf8(line).unwrap());
        }
        assert_eq!(lines, ["one", "", " two ", "last"]);
    }

    #[test]
    fn a_line_without_end_is_refused() {
        let mut input = io::Cursor::new(vec![b'x'; 100]);
        assert!(read_line(&mut input, 10).is_err());
        let mut input = io::Cursor::new(b"0123456789\r\n".to_vec());
        assert_eq!(read_line(&mut input, 10).unwrap().unwrap(), b"0123456789");
    }
}

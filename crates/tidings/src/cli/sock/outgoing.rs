//! The messages a command sends: from arguments, files, templates and lines, at their pace.

use std::time::Duration;

use bytes::Bytes;
use tidings::Message;
use tokio::time::{Instant, sleep_until};

use super::args::SendingArgs;
use crate::cli::frames::{FrameSyntax, read_file};
use crate::cli::input::Lines;
use crate::cli::template::FrameTemplate;
use crate::cli::{Exit, Failure};

/// How many messages, and how much time between two
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Pace {
    /// `None` is without end
    pub(crate) count: Option<u64>,
    pub(crate) interval: Option<Duration>,
}

/// Messages in the order they are to be sent
pub(crate) struct Outgoing {
    frames: Vec<FrameTemplate>,
    lines: Option<Lines>,
    syntax: FrameSyntax,
    pace: Pace,
    /// Messages given out so far, the value of `{{seq}}`
    seq: u64,
    next_at: Option<Instant>,
    shape: Option<Shape>,
}

/// Makes a message of its frames
type Shape = Box<dyn Fn(&[Bytes]) -> Result<Message, Failure>>;

impl Outgoing {
    /// Reads arguments and files at once, so that what is wrong with them is said before anything is sent
    ///
    /// # Errors
    /// Nothing to send; unreadable files; frames that are not what they should be.
    pub(crate) fn new(args: &SendingArgs, syntax: FrameSyntax, pace: Pace) -> Result<Self, Failure> {
        let mut frames = Vec::new();
        for (index, text) in args.frames.iter().enumerate() {
            frames.push(syntax.argument(index, text)?);
        }
        for path in &args.file {
            frames.push(FrameTemplate::literal(read_file(path)?));
        }
        if frames.is_empty() && !args.stdin {
            return Err(Failure::usage("there is nothing to send").hint(
                "give the frames of a message as arguments, or --file PATH, or --stdin for one message per line",
            ));
        }
        let lines =
            match args.stdin {
                true => Some(Lines::of_stdin().map_err(|error| {
                    Failure::new(Exit::Usage, "system", format!("can't read standard input: {error}"))
                })?),
                false => None,
            };
        Ok(Self { frames, lines, syntax, pace, seq: 0, next_at: None, shape: None })
    }

    /// Puts a frame before all others, as it is
    pub(crate) fn below(mut self, frame: Bytes) -> Self {
        self.frames.insert(0, FrameTemplate::literal(frame));
        self
    }

    /// Has every message made by `shape`; what the arguments make is tried at once, so that what is wrong with them is
    /// said before anything is sent
    ///
    /// # Errors
    /// Those of `shape`.
    pub(crate) fn shaped(
        mut self,
        shape: impl Fn(&[Bytes]) -> Result<Message, Failure> + 'static,
    ) -> Result<Self, Failure> {
        if self.lines.is_none() {
            let frames: Vec<Bytes> = self.frames.iter().map(|frame| frame.fill(0)).collect();
            shape(&frames)?;
        }
        self.shape = Some(Box::new(shape));
        Ok(self)
    }

    /// Whether the messages are lines of input, whose number nobody knows beforehand
    pub(crate) fn reads_lines(&self) -> bool {
        self.lines.is_some()
    }

    /// How many messages there are to send in all; `None` where only the end of the input tells
    pub(crate) fn count(&self) -> Option<u64> {
        self.pace.count
    }

    /// The next message when its time has come; `None` after the last
    ///
    /// # Errors
    /// Input that can't be read, or is not what `--hex` promises.
    ///
    /// # Cancel safety
    /// A message is taken only when it is returned.
    pub(crate) async fn next(&mut self) -> Result<Option<Message>, Failure> {
        if self.pace.count.is_some_and(|count| self.seq >= count) {
            return Ok(None);
        }
        if let Some(at) = self.next_at {
            sleep_until(at).await;
        }
        let mut frames: Vec<Bytes> = Vec::with_capacity(self.frames.len() + 1);
        if let Some(lines) = &mut self.lines {
            let Some(line) = lines.next().await else { return Ok(None) };
            let line = line.map_err(|error| Failure::new(Exit::Data, "input", error))?;
            frames = self.syntax.line(self.frames.len(), &line).map_err(|error| {
                Failure::new(Exit::Data, "input", format!("line {} of standard input: {error}", self.seq + 1))
            })?;
        }
        frames.splice(0..0, self.frames.iter().map(|frame| frame.fill(self.seq)));
        self.seq += 1;
        self.next_at = self.pace.interval.and_then(|interval| {
            // From the time that was due rather than now, so that the rate is kept on average;
            // a pause of the peer is not made up for in a burst
            let now = Instant::now();
            let due = self.next_at.unwrap_or(now).checked_add(interval)?;
            Some(due.max(now))
        });
        match &self.shape {
            None => Ok(Some(Message::multipart(frames))),
            Some(shape) => shape(&frames).map(Some).map_err(|failure| match self.lines {
                None => failure,
                Some(_) => Failure {
                    message: format!("line {} of standard input: {}", self.seq, failure.message),
                    ..Failure { exit: Exit::Data, code: "input", ..failure }
                },
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outgoing(frames: &[&str], pace: Pace) -> Outgoing {
        let args =
            SendingArgs { frames: frames.iter().map(|frame| (*frame).to_owned()).collect(), ..SendingArgs::default() };
        Outgoing::new(&args, FrameSyntax::default(), pace).unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn counts_and_keeps_the_pace() {
        let interval = Some(Duration::from_millis(10));
        let mut messages = outgoing(&["{{seq}}"], Pace { count: Some(3), interval });
        let start = Instant::now();
        for seq in ["0", "1", "2"] {
            let message = messages.next().await.unwrap().unwrap();
            assert_eq!(message, Message::from(seq));
        }
        assert_eq!(start.elapsed(), Duration::from_millis(20));
        assert!(messages.next().await.unwrap().is_none());
    }

    #[test]
    fn nothing_to_send_is_a_usage_error() {
        let failure = Outgoing::new(&SendingArgs::default(), FrameSyntax::default(), Pace::default()).err().unwrap();
        assert_eq!(failure.exit, Exit::Usage);
    }
}

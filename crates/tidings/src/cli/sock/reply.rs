//! `sock rep`: answer requests with themselves, with a command's output, or with fixed frames.

use std::time::Duration;

use bytes::Bytes;
use clap::Args;
use tidings::{Message, SocketType};

use super::args::{ReceivingArgs, SendingArgs, SocketArgs};
use super::session::{Opening, Session, Tally, unreceivable};
use crate::cli::exec::{Command, Input};
use crate::cli::frames::FirstFrame;
use crate::cli::output::Printer;
use crate::cli::template::FrameTemplate;
use crate::cli::units;
use crate::cli::{Failure, Talk, printed};

/// What `sock rep` is given
#[derive(Args, Debug)]
pub(crate) struct ReplyArgs {
    #[command(flatten)]
    socket: SocketArgs,
    #[command(flatten)]
    receiving: ReceivingArgs,
    #[command(flatten)]
    answer: AnswerArgs,
}

/// Where the answer comes from
#[derive(Args, Debug)]
#[command(next_help_heading = "What to answer")]
struct AnswerArgs {
    /// The request itself
    #[arg(long, required_unless_present_any = ["exec", "reply"], conflicts_with_all = ["exec", "reply"])]
    echo: bool,
    /// What CMD prints, run by `sh -c` for each request: the request is on its stdin, its frames in
    /// TIDINGS_FRAME_0, TIDINGS_FRAME_1, …, their number in TIDINGS_FRAMES
    #[arg(long, value_name = "CMD", conflicts_with = "reply")]
    exec: Option<String>,
    /// FRAME, which may be a template or @FILE; repeat it for a reply of several frames
    #[arg(long, value_name = "FRAME")]
    reply: Vec<String>,
    /// With --exec: kill a command that runs longer
    #[arg(long, value_name = "DURATION", value_parser = units::duration, default_value = "30s")]
    exec_timeout: Duration,
    /// With --exec: the reply when the command fails; {{error}} says how
    #[arg(long, value_name = "TEXT", default_value = "error: {{error}}")]
    error_reply: String,
    /// With --exec: keep the line end at the end of what the command prints
    #[arg(long)]
    keep_newline: bool,
}

enum Answer {
    Echo,
    Fixed(Vec<FrameTemplate>),
    Run { command: Command, error_reply: String },
}

/// Answers until count, timeout or a signal
///
/// # Errors
/// With the exit code that fits.
pub(crate) async fn run(args: ReplyArgs, talk: Talk) -> Result<(), Failure> {
    let mut printer = args.receiving.printer(args.socket.delimiter.as_deref(), FirstFrame::Plain, talk);
    let answer = Answer::new(&args.answer, &args.socket)?;
    let session = Session::open(Opening::new(SocketType::Rep, &args.socket), talk).await?;
    let done = answer_all(&session, &answer, &mut printer, args.socket.count).await;
    session.finish(done).await
}

async fn answer_all(
    session: &Session,
    answer: &Answer,
    printer: &mut Printer,
    count: Option<u64>,
) -> Result<Tally, Failure> {
    let mut tally = Tally { wanted: count, ..Tally::default() };
    while count.is_none_or(|count| tally.received < count) {
        let request = match session.attend("request", session.timeout, session.socket.recv()).await? {
            Some(request) => request.map_err(|error| unreceivable(&error))?,
            None => {
                tally.stopped = Some(session.stop.stopped().await);
                break;
            }
        };
        let seq = tally.received;
        tally.received += 1;
        if !printed(printer.print(&request))? {
            break;
        }
        // A command is killed when this future is dropped, as it is at a signal
        let reply = match session.attend("answer", None, answer.to(&request, seq, session.talk)).await? {
            Some(reply) => reply,
            None => {
                tally.stopped = Some(session.stop.stopped().await);
                break;
            }
        };
        if session.send(reply).await?.is_none() {
            tally.stopped = Some(session.stop.stopped().await);
            break;
        }
        tally.sent += 1;
    }
    Ok(tally)
}

impl Answer {
    fn new(args: &AnswerArgs, socket: &SocketArgs) -> Result<Self, Failure> {
        if let Some(command) = &args.exec {
            let command = Command::shell(command, args.exec_timeout, args.keep_newline);
            return Ok(Self::Run { command, error_reply: args.error_reply.clone() });
        }
        if args.echo {
            return Ok(Self::Echo);
        }
        let syntax = socket.syntax(&SendingArgs::default(), FirstFrame::Plain);
        let frames = args.reply.iter().enumerate().map(|(index, text)| syntax.argument(index, text));
        Ok(Self::Fixed(frames.collect::<Result<_, _>>()?))
    }

    async fn to(&self, request: &Message, seq: u64, talk: Talk) -> Message {
        match self {
            Self::Echo => request.clone(),
            Self::Fixed(frames) => Message::multipart(frames.iter().map(|frame| frame.fill(seq))),
            Self::Run { command, error_reply } => match command.run(&Input::frames(request)).await {
                Ok(output) => Message::from(Bytes::from(output)),
                Err(error) => {
                    talk.say(format_args!("the command failed: {error}"));
                    Message::from(error_reply.replace("{{error}}", &error.to_string()))
                }
            },
        }
    }
}

//! `sock req`: ask, and print the answer.

use std::time::Duration;

use clap::Args;
use tidings::{Message, RequestError, SocketType};

use super::Outgoing;
use super::args::{ReceivingArgs, SendingArgs, SocketArgs};
use super::session::{Opening, Session, Tally, unsendable};
use crate::cli::frames::FirstFrame;
use crate::cli::output::Printer;
use crate::cli::{Exit, Failure, Talk, printed};

/// What `sock req` is given
#[derive(Args, Debug)]
pub(crate) struct RequestArgs {
    #[command(flatten)]
    socket: SocketArgs,
    #[command(flatten)]
    sending: SendingArgs,
    #[command(flatten)]
    receiving: ReceivingArgs,
    /// Ask N times; the same as --count
    #[arg(long, value_name = "N", conflicts_with = "count")]
    repeat: Option<u64>,
}

/// Asks each question in turn
///
/// # Errors
/// No reply in time (5), nobody there (3), refused (4).
pub(crate) async fn run(args: RequestArgs, talk: Talk) -> Result<(), Failure> {
    let count = args.repeat.or(args.socket.count);
    let mut printer = args.receiving.printer(args.socket.delimiter.as_deref(), FirstFrame::Plain, talk);
    let syntax = args.socket.syntax(&args.sending, FirstFrame::Plain);
    let mut questions = Outgoing::new(&args.sending, syntax, args.sending.pace(count))?;
    let session = Session::open(Opening::new(SocketType::Req, &args.socket), talk).await?;
    let done = ask_all(&session, &mut questions, &mut printer, count).await;
    session.finish(done).await
}

async fn ask_all(
    session: &Session,
    questions: &mut Outgoing,
    printer: &mut Printer,
    count: Option<u64>,
) -> Result<Tally, Failure> {
    let mut tally = Tally { wanted: count, ..Tally::default() };
    let deadline = session.timeout.unwrap_or(REPLY_DEADLINE);
    loop {
        let question = tokio::select! {
            biased;
            why = session.stop.stopped() => {
                tally.stopped = Some(why);
                break;
            }
            question = questions.next() => question?,
        };
        let Some(question) = question else { break };
        tally.sent += 1;
        let Some(reply) = ask(session, question, deadline).await? else {
            tally.stopped = Some(session.stop.stopped().await);
            break;
        };
        tally.received += 1;
        if !printed(printer.print(&reply))? {
            break;
        }
    }
    Ok(tally)
}

async fn ask(session: &Session, question: Message, deadline: Duration) -> Result<Option<Message>, Failure> {
    // The deadline is the request's own: it withdraws the question too
    let reply = session.attend("reply", None, session.socket.request(question, deadline)).await?;
    match reply {
        None => Ok(None),
        Some(Ok(reply)) => Ok(Some(reply)),
        Some(Err(RequestError::TimedOut { after, .. })) => Err(session.watch.explain("reply", after)),
        Some(Err(RequestError::Send(error))) => Err(unsendable(&error)),
        Some(Err(RequestError::PeerGone)) if !session.watch.met_anyone() => {
            // It never was there: the event that says why is on its way
            let why = tokio::time::timeout(EVENTS_FOLLOW, session.watch.hopeless()).await;
            Err(why.unwrap_or_else(|_| session.watch.explain("reply", deadline)))
        }
        Some(Err(error)) => Err(Failure::new(Exit::Partial, "request", format!("no reply: {error}"))),
    }
}

/// Events are a moment behind what they tell of
const EVENTS_FOLLOW: Duration = Duration::from_secs(1);

/// How long a reply is waited for unless --timeout says otherwise
const REPLY_DEADLINE: Duration = Duration::from_secs(5);

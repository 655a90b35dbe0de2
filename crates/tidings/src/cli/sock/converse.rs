//! Sockets that send and receive at once: DEALER, ROUTER, PAIR, STREAM, XPUB, XSUB, CLIENT, SERVER, PEER, CHANNEL.

use std::time::Duration;

use clap::Args;
use tidings::SocketType;

use super::session::{Opening, Session, Tally};
use super::{ConverseArgs, Outgoing};
use crate::cli::frames::FirstFrame;
use crate::cli::output::Printer;
use crate::cli::units;
use crate::cli::{Failure, Talk};

/// When a conversation ends
#[derive(Args, Clone, Copy, Debug)]
#[command(next_help_heading = "When it ends")]
pub(crate) struct EndingArgs {
    /// Send the message of the arguments N times
    #[arg(long, value_name = "N")]
    repeat: Option<u64>,
    /// Only print what arrives; without it, and without frames, lines of stdin are sent
    #[arg(long, conflicts_with_all = ["stdin", "frames", "file"])]
    no_stdin: bool,
    /// End once everything is sent and nothing has arrived for the time of --idle
    #[arg(long)]
    until_eof: bool,
    /// How long nothing must arrive for --until-eof to end
    #[arg(long, value_name = "DURATION", value_parser = units::duration, default_value = "1s")]
    idle: Duration,
}

/// Sends and prints until count, timeout, end of input or a signal
///
/// # Errors
/// With the exit code that fits.
pub(crate) async fn run(
    socket_type: SocketType,
    args: ConverseArgs,
    topics: &[String],
    talk: Talk,
) -> Result<(), Failure> {
    let ConverseArgs { socket, mut sending, receiving, ending } = args;
    let first = FirstFrame::of(socket_type);
    let mut printer = receiving.printer(socket.delimiter.as_deref(), first, talk);
    // Who has connected to one peer only means that one, and can't know its number beforehand
    let to_the_one = first == FirstFrame::PeerId && socket.bind.is_empty() && socket.connect.len() == 1;
    sending.stdin |= !ending.no_stdin && sending.frames.is_empty() && sending.file.is_empty();
    let mut outgoing = match ending.no_stdin {
        true => None,
        false => {
            let pace = sending.pace(ending.repeat);
            let first = if to_the_one { FirstFrame::Plain } else { first };
            Some(Outgoing::new(&sending, socket.syntax(&sending, first), pace)?)
        }
    };
    let mut session = Session::open(Opening::new(socket_type, &socket).topics(topics), talk).await?;
    if to_the_one && let Some(messages) = outgoing.take() {
        match session.id_of_the_one().await {
            Ok(Some(id)) => outgoing = Some(messages.below(id)),
            Ok(None) => return session.finish(Ok(Tally { wanted: socket.count, ..Tally::default() })).await,
            Err(failure) => return session.finish(Err(failure)).await,
        }
    }
    let done = converse(&session, outgoing.as_mut(), &mut printer, socket.count, ending).await;
    session.finish(done).await
}

async fn converse(
    session: &Session,
    outgoing: Option<&mut Outgoing>,
    printer: &mut Printer,
    count: Option<u64>,
    ending: EndingArgs,
) -> Result<Tally, Failure> {
    let sender = async {
        match outgoing {
            Some(outgoing) => session.send_all(outgoing).await,
            None => Ok(Tally::default()),
        }
    };
    let receiver = session.receive_all(printer, count);
    tokio::pin!(sender, receiver);
    let sent = tokio::select! {
        received = &mut receiver => return received,
        sent = &mut sender => sent?,
    };
    if sent.stopped.is_some() {
        return Ok(Tally { received: session.received(), wanted: count, ..sent });
    }
    // Everything is sent. Answers may be on their way.
    loop {
        let before = session.received();
        let idle = async {
            match ending.until_eof {
                true => tokio::time::sleep(ending.idle).await,
                false => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            received = &mut receiver => return received,
            () = idle => {
                if session.received() == before {
                    return Ok(Tally { received: before, wanted: count, ..sent });
                }
            }
        }
    }
}

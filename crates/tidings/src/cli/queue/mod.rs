//! `tidings queue`: the queues on disk, while the daemon runs or while it does not.

mod change;
mod entry;
mod fsck;
mod list;
mod place;

use clap::Subcommand;

use super::{Failure, Talk};

/// The verbs
#[derive(Debug, Subcommand)]
pub(crate) enum Queue {
    /// List the queues
    #[command(after_help = list::LS)]
    Ls(list::ListArgs),
    /// Show all about a queue, or about one of its entries
    #[command(after_help = list::SHOW)]
    Show(list::ShowArgs),
    /// Print entries and what is in them; nothing is taken out
    #[command(after_help = entry::PEEK)]
    Peek(entry::PeekArgs),
    /// Say why an entry is not handed out; exit code 1 if there is none
    #[command(after_help = entry::EXPLAIN)]
    Explain(entry::ExplainArgs),
    /// List dead letters and why they are dead, or have them begin anew
    #[command(after_help = change::DEAD)]
    Dead(change::DeadArgs),
    /// Delete entries of a queue
    #[command(after_help = change::PURGE)]
    Purge(change::PurgeArgs),
    /// Examine the store, and put right what can be; exit code 7 if something is wrong
    #[command(after_help = fsck::EXAMPLES)]
    Fsck(fsck::FsckArgs),
}

/// Does what a `queue` command says
///
/// # Errors
/// With the exit code that fits.
pub(crate) fn run(queue: Queue, talk: Talk) -> Result<(), Failure> {
    match queue {
        Queue::Ls(args) => list::ls(&args, talk),
        Queue::Show(args) => list::show(&args, talk),
        Queue::Peek(args) => entry::peek(&args, talk),
        Queue::Explain(args) => entry::explain(&args, talk),
        Queue::Dead(args) => change::dead(&args, talk),
        Queue::Purge(args) => change::purge(&args, talk),
        Queue::Fsck(args) => fsck::run(&args, talk),
    }
}

/// Examples of the noun
pub(crate) const EXAMPLES: &str = "\
Examples:
  tidings queue ls                                 what is waiting, and for how long
  tidings queue peek dbmanager                     the next entries of a queue
  tidings queue explain dbmanager 17               why is it not delivered?
  tidings queue dead dbmanager --requeue           have its dead letters tried again
  tidings queue fsck                               is the store sound?";

//! `tidings svc`: call services, offer them, and see how they are.

mod broker;
mod call;
mod durable;
mod latency;
mod look;
mod work;

use clap::Subcommand;

use super::sock::block_on;
use super::{Failure, Talk};

/// The verbs
#[derive(Debug, Subcommand)]
pub(crate) enum Svc {
    /// Ask a service, and print its answer
    #[command(after_help = call::EXAMPLES)]
    Call(Box<call::CallArgs>),
    /// Fetch the reply to a durable request
    #[command(after_help = durable::EXAMPLES)]
    Reply(Box<durable::ReplyArgs>),
    /// Answer for a service with a command
    #[command(after_help = work::EXAMPLES)]
    Work(Box<work::WorkArgs>),
    /// List the services
    #[command(after_help = look::LS)]
    Ls(Box<look::ListArgs>),
    /// Show all about a service and its workers
    #[command(after_help = look::SHOW)]
    Show(Box<look::ServiceArgs>),
    /// Show what the broker has counted
    #[command(after_help = look::STATS)]
    Stats(Box<look::StatsArgs>),
    /// Ask the broker whether a service has a worker; exit code 1 if not
    #[command(after_help = look::PING)]
    Ping(Box<look::ServiceArgs>),
    /// Have the workers of a service finish what they have and not come back
    #[command(after_help = look::DRAIN)]
    Drain(Box<look::ServiceArgs>),
}

/// Does what a `svc` command says
///
/// # Errors
/// With the exit code that fits.
pub(crate) fn run(svc: Svc, talk: Talk) -> Result<(), Failure> {
    block_on(async {
        match svc {
            Svc::Call(args) => call::run(*args, talk).await,
            Svc::Reply(args) => durable::run(*args, talk).await,
            Svc::Work(args) => work::run(*args, talk).await,
            Svc::Ls(args) => look::ls(*args, talk).await,
            Svc::Show(args) => look::show(*args, talk).await,
            Svc::Stats(args) => look::stats(*args, talk).await,
            Svc::Ping(args) => look::ping(*args, talk).await,
            Svc::Drain(args) => look::drain(*args, talk).await,
        }
    })
}

/// Examples of the noun
pub(crate) const EXAMPLES: &str = "\
Examples:
  tidings svc work upper -- tr a-z A-Z             answer for a service with a command
  tidings svc call upper --raw hello               ask it
  tidings svc call dbmanager config.get '{\"id\": \"diskfree\"}'
  tidings svc ls                                   which are there, and how they are";

//! `tidings gossip`: names and values that all nodes of a network know; who the nodes are, and how they stand.

mod graph;
mod leaf;
mod look;
mod node;
mod read;
mod sim;
mod tuple;
mod watch;
mod write;

use clap::Subcommand;

use super::sock::block_on;
use super::{Failure, Talk};

/// The verbs
#[derive(Debug, Subcommand)]
pub(crate) enum Gossip {
    /// Give a key a value, on all nodes
    #[command(after_help = write::PUT)]
    Put(Box<write::PutArgs>),
    /// Print what a key has; exit code 1 if it has nothing
    #[command(after_help = read::GET)]
    Get(Box<read::GetArgs>),
    /// List keys and values
    #[command(after_help = read::LS)]
    Ls(Box<read::ListArgs>),
    /// Print keys and values as they change
    #[command(after_help = watch::EXAMPLES)]
    Watch(Box<watch::WatchArgs>),
    /// Remove a key, on all nodes; exit code 1 if it has nothing
    #[command(after_help = write::RM)]
    Rm(Box<write::RemoveArgs>),
    /// Show whom the node is connected with
    #[command(after_help = look::PEERS)]
    Peers(Box<look::LookArgs>),
    /// Show which nodes are in the network, and whether they are up
    #[command(after_help = look::MEMBERS)]
    Members(Box<look::LookArgs>),
    /// Show how the node is
    #[command(after_help = look::STATUS)]
    Status(Box<look::LookArgs>),
    /// Draw the network
    #[command(after_help = graph::EXAMPLES)]
    Graph(Box<graph::GraphArgs>),
    /// Simulate a network of any size: how fast changes spread, what they cost, what happens when things go wrong
    #[command(after_help = sim::EXAMPLES)]
    Sim(Box<sim::SimArgs>),
}

/// Does what a `gossip` command says
///
/// # Errors
/// With the exit code that fits.
pub(crate) fn run(gossip: Gossip, talk: Talk) -> Result<(), Failure> {
    block_on(async {
        match gossip {
            Gossip::Put(args) => write::put(*args, talk).await,
            Gossip::Get(args) => read::get(*args, talk).await,
            Gossip::Ls(args) => read::ls(*args, talk).await,
            Gossip::Watch(args) => watch::run(*args, talk).await,
            Gossip::Rm(args) => write::rm(*args, talk).await,
            Gossip::Peers(args) => look::peers(*args, talk).await,
            Gossip::Members(args) => look::members(*args, talk).await,
            Gossip::Status(args) => look::status(*args, talk).await,
            Gossip::Graph(args) => graph::run(*args, talk).await,
            // Nothing in it waits
            Gossip::Sim(args) => sim::run(*args, talk),
        }
    })
}

/// Examples of the noun
pub(crate) const EXAMPLES: &str = "\
Examples:
  tidings gossip put config/rate 10               all nodes know it from now on
  tidings gossip get config/rate
  tidings gossip watch config/                    what changes below it
  tidings gossip members                          which nodes are there, and are they up?
  tidings gossip graph -o network.svg             a picture of the network
  tidings gossip sim --nodes 1000 --loss 5%       how fast would a thousand nodes learn of a change?";

//! The command line: nouns then verbs, stdout for data, stderr for talk.

mod check;
mod doctor;
mod documents;
mod event;
mod exec;
mod failure;
mod frames;
mod gossip;
mod import;
mod input;
mod json;
mod key;
pub(crate) mod output;
mod queue;
pub(crate) mod security;
mod sock;
mod svc;
mod table;
mod talk;
mod template;
pub(crate) mod units;

pub(crate) use failure::{Exit, Failure, nearest, printed};
pub(crate) use talk::Talk;

use std::ffi::OsString;
use std::io::Write as _;
use std::process::ExitCode;

use clap::error::ErrorKind;
use clap::{Args, Command, CommandFactory as _, FromArgMatches as _, Parser, Subcommand};

/// Messaging for fleets of nodes, natively on ZeroMQ's wire
#[derive(Debug, Parser)]
#[command(name = "tidings", version, arg_required_else_help = true, disable_help_subcommand = true, after_help = EXAMPLES)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    noun: Noun,
}

/// Flags that every command has
#[derive(Args, Clone, Copy, Debug, Default)]
pub(crate) struct Global {
    /// Print JSON on stdout, errors included
    #[arg(long, global = true, help_heading = "Everywhere")]
    pub(crate) json: bool,
    /// Say nothing on stderr but errors
    #[arg(long, short, global = true, help_heading = "Everywhere", conflicts_with = "verbose")]
    pub(crate) quiet: bool,
    /// Say more on stderr
    #[arg(long, short, global = true, help_heading = "Everywhere")]
    pub(crate) verbose: bool,
}

#[derive(Debug, Subcommand)]
enum Noun {
    Serve(crate::serve::ServeArgs),
    Check(check::CheckArgs),
    /// Take over the configuration of an older system: print it as one of ours
    #[command(subcommand, after_help = import::EXAMPLES)]
    Import(import::Import),
    Doctor(doctor::DoctorArgs),
    /// Any ZeroMQ socket, from the shell
    #[command(subcommand, after_help = sock::EXAMPLES)]
    Sock(Box<sock::Sock>),
    /// Events through the forwarder that `tidings serve` hosts
    #[command(subcommand, after_help = event::EXAMPLES)]
    Event(event::Event),
    /// Services by name, through the broker that `tidings serve` hosts
    #[command(subcommand, after_help = svc::EXAMPLES)]
    Svc(svc::Svc),
    /// Names and values that all nodes of a network know, and the nodes themselves
    #[command(subcommand, after_help = gossip::EXAMPLES)]
    Gossip(gossip::Gossip),
    /// Durable requests on disk: look at them, put them back, delete them, examine the store
    #[command(subcommand, after_help = queue::EXAMPLES)]
    Queue(Box<queue::Queue>),
    /// The keys of this node, and those that it trusts
    #[command(subcommand, after_help = key::EXAMPLES)]
    Key(Box<key::Key>),
    Completions(documents::CompletionsArgs),
    Man(documents::ManArgs),
}

/// Reads the command line, does what it says, and gives the exit code
pub(crate) fn main() -> ExitCode {
    let arguments: Vec<OsString> = std::env::args_os().collect();
    // Needed before parsing has succeeded: a wrong command line is answered in JSON too
    let json = arguments.iter().take_while(|argument| *argument != "--").any(|argument| argument == "--json");
    let parsed = command().try_get_matches_from(arguments).and_then(|matches| Cli::from_arg_matches(&matches));
    let done = match parsed {
        Ok(cli) => run(cli),
        Err(error) if is_help(&error) => {
            // Help that nobody reads to its end is no failure
            error.print().ok();
            let asked = error.kind() != ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand;
            return if asked { ExitCode::SUCCESS } else { ExitCode::from(Exit::Usage as u8) };
        }
        Err(error) if json => Err(usage_failure(&error)),
        Err(error) => {
            error.print().ok();
            return ExitCode::from(Exit::Usage as u8);
        }
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            report(&failure, json);
            ExitCode::from(failure.exit as u8)
        }
    }
}

fn run(cli: Cli) -> Result<(), Failure> {
    let talk = Talk::new(cli.global);
    match cli.noun {
        Noun::Serve(args) => crate::serve::run(args, talk),
        Noun::Check(args) => check::run(&args, talk),
        Noun::Import(import) => import::run(import, talk),
        Noun::Doctor(args) => doctor::run(&args, talk),
        Noun::Sock(sock) => sock::run(*sock, talk),
        Noun::Event(event) => event::run(event, talk),
        Noun::Svc(svc) => svc::run(svc, talk),
        Noun::Gossip(gossip) => gossip::run(gossip, talk),
        Noun::Queue(queue) => queue::run(*queue, talk),
        Noun::Key(key) => key::run(*key, talk),
        Noun::Completions(args) => documents::completions(&args),
        Noun::Man(args) => documents::man(&args),
    }
}

/// The whole tree of commands, each with its examples before its options
pub(crate) fn command() -> Command {
    example_first(Cli::command())
}

fn example_first(command: Command) -> Command {
    command.help_template(TEMPLATE).disable_help_subcommand(true).mut_subcommands(example_first)
}

fn is_help(error: &clap::Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand
    )
}

/// A wrong command line in our own form: clap's first line is the error, its tips are the hint
fn usage_failure(error: &clap::Error) -> Failure {
    let text = error.render().to_string();
    let mut lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    let first = lines.next().unwrap_or_default();
    let failure = Failure::usage(first.strip_prefix("error: ").unwrap_or(first));
    let hints: Vec<&str> = lines.take_while(|line| !line.starts_with("For more information")).collect();
    if hints.is_empty() { failure } else { failure.hint(hints.join("; ")) }
}

fn report(failure: &Failure, json: bool) {
    if failure.message.is_empty() {
        return;
    }
    // Where neither stream can be written to, the exit code is all that is left to say
    if json {
        writeln!(std::io::stdout(), "{}", failure.to_json()).ok();
    } else {
        writeln!(std::io::stderr(), "{failure}").ok();
    }
}

/// Clap's own order, with the examples moved to the front: they are what most readers look for
const TEMPLATE: &str = "\
{before-help}{about}{after-help}

{usage-heading} {usage}

{all-args}";

const EXAMPLES: &str = "\
Examples:
  tidings serve                                   host services and events on loopback
  tidings svc work upper -- tr a-z A-Z            answer for a service with a command
  tidings svc call upper --raw hello              ask it
  tidings event sub weather                       print events about the weather
  tidings event pub weather 'rain, 12 degrees'    publish one
  tidings gossip put config/rate 10               tell it to all nodes of the network
  tidings sock rep -b tcp://127.0.0.1:5555 --echo
  tidings sock req -c tcp://127.0.0.1:5555 hello  talk to any ZeroMQ program
  tidings doctor tcp://192.0.2.1:5555             why does it not connect?";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_commands_are_consistent() {
        command().debug_assert();
    }

    #[test]
    fn every_command_shows_examples() {
        fn visit(command: &Command, path: &str) {
            let examples = command.get_after_help().map(ToString::to_string).unwrap_or_default();
            assert!(examples.starts_with("Examples:\n  tidings"), "`{path}` has no examples");
            assert!(command.get_about().is_some(), "`{path}` does not say what it is");
            for sub in command.get_subcommands() {
                visit(sub, &format!("{path} {}", sub.get_name()));
            }
        }
        visit(&command(), "tidings");
    }

    #[test]
    fn a_wrong_flag_becomes_an_error_with_its_hint() {
        let error = command().try_get_matches_from(["tidings", "sock", "req", "--conect", "x"]).unwrap_err();
        let failure = usage_failure(&error);
        assert!(failure.message.contains("--conect"), "{failure}");
        assert!(failure.hint.as_deref().is_some_and(|hint| hint.contains("--connect")), "{failure}");
    }
}

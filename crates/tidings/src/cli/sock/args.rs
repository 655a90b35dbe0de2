//! The flags that socket commands share.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use super::Pace;
use crate::cli::Talk;
use crate::cli::frames::{FirstFrame, FrameSyntax};
use crate::cli::output::{Output, Printer};
use crate::cli::security::SecurityArgs;
use crate::cli::units;
use crate::discovery::DiscoveryArgs;

/// The socket itself: where, how, how long
#[derive(Args, Clone, Debug, Default)]
pub(crate) struct SocketArgs {
    /// Listen on ENDPOINT, such as tcp://127.0.0.1:5555, tcp://*:*, ipc:///run/x; repeatable
    #[arg(long, short, value_name = "ENDPOINT", required_unless_present = "connect")]
    pub(crate) bind: Vec<String>,
    /// Connect to ENDPOINT, or to gossip:NAME, wherever that is announced to be; repeatable
    #[arg(long, short, value_name = "ENDPOINT")]
    pub(crate) connect: Vec<String>,
    /// Set a socket option; `tidings sock options` lists them; repeatable
    #[arg(long = "option", short, value_name = "NAME=VALUE")]
    pub(crate) options: Vec<String>,
    /// The routing id (identity) by which a ROUTER knows this socket; 0x… for octets
    #[arg(long, alias = "identity", value_name = "ID")]
    pub(crate) routing_id: Option<String>,
    /// Begin when N peers are there (PUB and XPUB: N subscribers, RADIO: N peers in a group)
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub(crate) wait_peers: usize,
    /// End after N messages: sent, where the socket only sends; else received
    #[arg(long, short = 'n', value_name = "N")]
    pub(crate) count: Option<u64>,
    /// Longest wait for the next message, peer, or room to send; then the exit code is 5
    #[arg(long, value_name = "DURATION", value_parser = units::duration)]
    pub(crate) timeout: Option<Duration>,
    /// End after DURATION, whatever happened until then
    #[arg(long = "for", value_name = "DURATION", value_parser = units::duration)]
    pub(crate) run_for: Option<Duration>,
    /// At the end, longest wait for what was sent to leave; then the exit code is 6
    #[arg(long, value_name = "DURATION", value_parser = units::duration, default_value = "5s")]
    pub(crate) linger: Duration,
    /// What separates frames: of one line of stdin (default: a line is one frame), and in the
    /// output (default: a space); \t is a tab
    #[arg(long, short, value_name = "TEXT")]
    pub(crate) delimiter: Option<String>,
    /// Say on stderr what happens to connections; JSON lines with --json
    #[arg(long)]
    pub(crate) events: bool,
    #[command(flatten)]
    pub(crate) discovery: DiscoveryArgs,
    #[command(flatten)]
    pub(crate) security: SecurityArgs,
}

/// What to send
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "What to send")]
pub(crate) struct SendingArgs {
    /// The frames of one message: text with {{seq}}, {{time}}, {{unix}}, {{uuid}}; @FILE is a
    /// file's content, @@ begins a frame with @
    #[arg(value_name = "FRAME")]
    pub(crate) frames: Vec<String>,
    /// Every line of stdin is a message; frames given as arguments come first in each
    #[arg(long)]
    pub(crate) stdin: bool,
    /// The content of PATH is a frame, after those given as arguments; repeatable
    #[arg(long, value_name = "PATH")]
    pub(crate) file: Vec<PathBuf>,
    /// Frames and lines are hexadecimal digits
    #[arg(long)]
    pub(crate) hex: bool,
    /// Send {{…}} as it is
    #[arg(long)]
    pub(crate) no_template: bool,
    /// Send at most this often: 100/s, 30/m; again and again if no count is given
    #[arg(long, value_name = "RATE", value_parser = units::rate, conflicts_with = "interval")]
    pub(crate) rate: Option<Duration>,
    /// Send with this much time in between; again and again if no count is given
    #[arg(long, value_name = "DURATION", value_parser = units::duration)]
    pub(crate) interval: Option<Duration>,
}

/// How to print what arrives
#[derive(Args, Clone, Copy, Debug, Default)]
#[command(next_help_heading = "What arrives")]
pub(crate) struct ReceivingArgs {
    /// How messages are printed; --json is --output json
    #[arg(long, value_enum, value_name = "FORM")]
    pub(crate) output: Option<Output>,
}

impl SocketArgs {
    /// How arguments and lines become frames
    pub(crate) fn syntax(&self, sending: &SendingArgs, first: FirstFrame) -> FrameSyntax {
        FrameSyntax {
            hex: sending.hex,
            no_template: sending.no_template,
            delimiter: self.delimiter.as_deref().map(unescape),
            first,
        }
    }
}

impl SendingArgs {
    /// How many and how fast: once, unless a count, lines or a pace say otherwise
    pub(crate) fn pace(&self, count: Option<u64>) -> Pace {
        let interval = self.rate.or(self.interval);
        let endless = self.stdin || interval.is_some();
        Pace { count: count.or(if endless { None } else { Some(1) }), interval }
    }
}

impl ReceivingArgs {
    /// Prints as the flags say
    pub(crate) fn printer(&self, delimiter: Option<&str>, first: FirstFrame, talk: Talk) -> Printer {
        let usual = if talk.json { Output::Json } else { Output::Text };
        Printer::new(self.output.unwrap_or(usual), delimiter.map(unescape).as_deref(), first)
    }
}

fn unescape(delimiter: &str) -> String {
    delimiter.replace("\\t", "\t")
}

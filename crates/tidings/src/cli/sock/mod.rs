//! `tidings sock`: any ZeroMQ socket from the shell.

mod args;
mod converse;
mod options;
mod outgoing;
mod proxy;
mod reply;
mod request;
mod session;
mod stop;
mod watch;

pub(crate) use args::{SendingArgs, SocketArgs};
pub(crate) use outgoing::{Outgoing, Pace};
pub(crate) use session::{Opening, Session, Tally, set_options, unreceivable};
pub(crate) use stop::Stop;
pub(crate) use watch::Watch;

use clap::{Args, Subcommand};
use tidings::SocketType;

use self::args::ReceivingArgs;
use super::frames::FirstFrame;
use super::output::Output;
use super::{Exit, Failure, Talk};

/// One command per socket type
#[derive(Debug, Subcommand)]
pub(crate) enum Sock {
    /// Ask, and print the answer (REQ)
    #[command(after_help = REQ)]
    Req(request::RequestArgs),
    /// Answer requests: echo them, run a command, or give a fixed reply (REP)
    #[command(after_help = REP)]
    Rep(reply::ReplyArgs),
    /// Send to peers in turn, and print what they send (DEALER)
    #[command(after_help = DEALER)]
    Dealer(ConverseArgs),
    /// Send to the peer that the first frame names, print messages with their sender first (ROUTER)
    #[command(after_help = ROUTER)]
    Router(ConverseArgs),
    /// Publish messages to all subscribers (PUB)
    #[command(after_help = PUB)]
    Pub(SendArgs),
    /// Print the messages of a publisher (SUB)
    #[command(after_help = SUB)]
    Sub(SubscribeArgs),
    /// Publish, and print the subscriptions that arrive (XPUB)
    #[command(after_help = XPUB)]
    Xpub(ConverseArgs),
    /// Subscribe with messages of one's own, and print what is published (XSUB)
    #[command(after_help = XSUB)]
    Xsub(XsubArgs),
    /// Hand out messages to workers in turn (PUSH)
    #[command(after_help = PUSH)]
    Push(SendArgs),
    /// Print the messages that pushers send (PULL)
    #[command(after_help = PULL)]
    Pull(ReceiveArgs),
    /// Talk with exactly one peer (PAIR)
    #[command(after_help = PAIR)]
    Pair(ConverseArgs),
    /// Talk with plain TCP peers; the first frame names the connection (STREAM)
    #[command(after_help = STREAM)]
    Stream(ConverseArgs),
    /// Send to servers in turn, and print what they send (CLIENT)
    #[command(after_help = CLIENT)]
    Client(ConverseArgs),
    /// Send to the client that a number names, print messages with their sender's number first (SERVER)
    #[command(after_help = SERVER)]
    Server(ConverseArgs),
    /// Send to all who joined the group (RADIO)
    #[command(after_help = RADIO)]
    Radio(RadioArgs),
    /// Print what is sent to groups (DISH)
    #[command(after_help = DISH)]
    Dish(DishArgs),
    /// Hand out messages in turn (SCATTER)
    #[command(after_help = SCATTER)]
    Scatter(SendArgs),
    /// Print the messages that are scattered (GATHER)
    #[command(after_help = GATHER)]
    Gather(ReceiveArgs),
    /// Talk with peers of the same kind; a number names each (PEER)
    #[command(after_help = PEER)]
    Peer(ConverseArgs),
    /// Talk with exactly one peer (CHANNEL)
    #[command(after_help = CHANNEL)]
    Channel(ConverseArgs),
    /// Pass messages between a frontend and a backend, steered while it runs
    #[command(after_help = proxy::EXAMPLES)]
    Proxy(proxy::ProxyArgs),
    /// Print the table of socket options
    #[command(after_help = options::EXAMPLES)]
    Options(options::OptionsArgs),
}

/// A socket that only sends
#[derive(Args, Debug)]
pub(crate) struct SendArgs {
    #[command(flatten)]
    socket: SocketArgs,
    #[command(flatten)]
    sending: SendingArgs,
}

/// A socket that only receives
#[derive(Args, Debug)]
pub(crate) struct ReceiveArgs {
    #[command(flatten)]
    socket: SocketArgs,
    #[command(flatten)]
    receiving: ReceivingArgs,
}

/// A socket that subscribes
#[derive(Args, Debug)]
pub(crate) struct SubscribeArgs {
    #[command(flatten)]
    receive: ReceiveArgs,
    /// Messages that begin with TOPIC; repeatable, everything if not given
    #[arg(long, short, value_name = "TOPIC")]
    subscribe: Vec<String>,
}

/// A socket that sends to groups
#[derive(Args, Debug)]
pub(crate) struct RadioArgs {
    #[command(flatten)]
    send: SendArgs,
    /// Send to GROUP, and each message is a body of one frame; without it a message is a group and a body
    #[arg(long, short, value_name = "GROUP")]
    group: Option<String>,
}

/// A socket that joins groups
#[derive(Args, Debug)]
pub(crate) struct DishArgs {
    #[command(flatten)]
    receive: ReceiveArgs,
    /// Messages to GROUP, exactly; repeatable, and '' is a group too
    #[arg(long, short, value_name = "GROUP", required = true)]
    join: Vec<String>,
}

/// A socket that does both at once
#[derive(Args, Debug)]
pub(crate) struct ConverseArgs {
    #[command(flatten)]
    socket: SocketArgs,
    #[command(flatten)]
    sending: SendingArgs,
    #[command(flatten)]
    receiving: ReceivingArgs,
    #[command(flatten)]
    ending: converse::EndingArgs,
}

/// XSUB: both at once, and subscriptions
#[derive(Args, Debug)]
pub(crate) struct XsubArgs {
    #[command(flatten)]
    converse: ConverseArgs,
    /// Subscribe to messages that begin with TOPIC; repeatable, nothing if not given
    #[arg(long, short, value_name = "TOPIC")]
    subscribe: Vec<String>,
}

/// Does what a `sock` command says
///
/// # Errors
/// With the exit code that fits.
pub(crate) fn run(sock: Sock, talk: Talk) -> Result<(), Failure> {
    if let Sock::Options(args) = &sock {
        return options::run(args, talk);
    }
    block_on(async {
        match sock {
            Sock::Req(args) => request::run(args, talk).await,
            Sock::Rep(args) => reply::run(args, talk).await,
            Sock::Dealer(args) => converse::run(SocketType::Dealer, args, &[], talk).await,
            Sock::Router(args) => converse::run(SocketType::Router, args, &[], talk).await,
            Sock::Pub(args) => send(SocketType::Pub, args, None, talk).await,
            Sock::Sub(args) => {
                let everything = vec![String::new()];
                let topics = if args.subscribe.is_empty() { everything } else { args.subscribe };
                let ReceiveArgs { socket, receiving } = args.receive;
                receive_with(SocketType::Sub, &socket, receiving.output, &topics, talk).await
            }
            Sock::Client(args) => converse::run(SocketType::Client, args, &[], talk).await,
            Sock::Server(args) => converse::run(SocketType::Server, args, &[], talk).await,
            Sock::Radio(args) => send(SocketType::Radio, args.send, args.group, talk).await,
            Sock::Dish(args) => {
                let ReceiveArgs { socket, receiving } = args.receive;
                receive(Opening::new(SocketType::Dish, &socket).groups(&args.join), receiving.output, talk).await
            }
            Sock::Scatter(args) => send(SocketType::Scatter, args, None, talk).await,
            Sock::Gather(args) => {
                let ReceiveArgs { socket, receiving } = args;
                receive(Opening::new(SocketType::Gather, &socket), receiving.output, talk).await
            }
            Sock::Peer(args) => converse::run(SocketType::Peer, args, &[], talk).await,
            Sock::Channel(args) => converse::run(SocketType::Channel, args, &[], talk).await,
            Sock::Xpub(args) => converse::run(SocketType::Xpub, args, &[], talk).await,
            Sock::Xsub(args) => converse::run(SocketType::Xsub, args.converse, &args.subscribe, talk).await,
            Sock::Push(args) => send(SocketType::Push, args, None, talk).await,
            Sock::Pull(args) => receive_with(SocketType::Pull, &args.socket, args.receiving.output, &[], talk).await,
            Sock::Pair(args) => converse::run(SocketType::Pair, args, &[], talk).await,
            Sock::Stream(args) => converse::run(SocketType::Stream, args, &[], talk).await,
            Sock::Proxy(args) => proxy::run(args, talk).await,
            Sock::Options(args) => options::run(&args, talk),
        }
    })
}

/// Runs a command to its end on this thread; what it left behind does not hold up the process
///
/// # Errors
/// Those of the command.
pub(crate) fn block_on(command: impl Future<Output = Result<(), Failure>>) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::new(Exit::Usage, "system", format!("can't start: {error}")))?;
    let done = runtime.block_on(command);
    runtime.shutdown_background();
    done
}

async fn send(socket_type: SocketType, args: SendArgs, group: Option<String>, talk: Talk) -> Result<(), Failure> {
    let pace = args.sending.pace(args.socket.count);
    let syntax = args.socket.syntax(&args.sending, FirstFrame::Plain);
    let mut outgoing = Outgoing::new(&args.sending, syntax, pace)?;
    if let Some(group) = group {
        outgoing = outgoing.below(group.into());
    }
    let session = Session::open(Opening::new(socket_type, &args.socket), talk).await?;
    let done = session.send_all(&mut outgoing).await;
    session.finish_sending(done).await
}

/// Receives and prints as the flags say
///
/// # Errors
/// With the exit code that fits.
pub(crate) async fn receive_with(
    socket_type: SocketType,
    args: &SocketArgs,
    output: Option<Output>,
    topics: &[String],
    talk: Talk,
) -> Result<(), Failure> {
    receive(Opening::new(socket_type, args).topics(topics), output, talk).await
}

async fn receive(opening: Opening<'_>, output: Option<Output>, talk: Talk) -> Result<(), Failure> {
    let args = opening.args();
    let mut printer = ReceivingArgs { output }.printer(args.delimiter.as_deref(), FirstFrame::Plain, talk);
    let session = Session::open(opening, talk).await?;
    let done = session.receive_all(&mut printer, args.count).await;
    session.finish(done).await
}

/// Examples of the noun
pub(crate) const EXAMPLES: &str = "\
Examples:
  tidings sock rep -b tcp://127.0.0.1:5555 --echo         answer every request with itself
  tidings sock req -c tcp://127.0.0.1:5555 hello          ask
  tidings sock pub -b 'tcp://127.0.0.1:*' --wait-peers 1 0 '1 2000'
  tidings sock sub -c tcp://127.0.0.1:5556 --json         one object per message
  tidings sock options                                    what --option can set";

const REQ: &str = "\
Examples:
  tidings sock req -c tcp://127.0.0.1:5555 hello            prints the reply, within 5 s or not at all
  tidings sock req -c ipc:///run/app.sock status --json --timeout 500ms
  printf 'one\\ntwo\\n' | tidings sock req -c tcp://127.0.0.1:5555 --stdin
  tidings sock req -c tcp://127.0.0.1:5555 'ping {{seq}}' --count 10 --interval 1s";

const REP: &str = "\
Examples:
  tidings sock rep -b tcp://127.0.0.1:5555 --echo
  tidings sock rep -b tcp://127.0.0.1:5555 --exec 'tr a-z A-Z'    the request on its stdin
  tidings sock rep -b tcp://127.0.0.1:5555 --exec 'date -d \"$TIDINGS_FRAME_0\"'
  tidings sock rep -b 'tcp://127.0.0.1:*' --reply world --count 1";

const DEALER: &str = "\
Examples:
  tidings sock dealer -c tcp://127.0.0.1:5555 '' hello --count 1    ask a REP; print one answer
  tidings sock dealer -c tcp://127.0.0.1:5555 --routing-id worker-1
  seq 10 | tidings sock dealer -c tcp://127.0.0.1:5555 --stdin --until-eof";

const ROUTER: &str = "\
Examples:
  tidings sock router -b tcp://127.0.0.1:5555 --no-stdin              print who says what
  tidings sock router -b tcp://127.0.0.1:5555 --delimiter ' '         type: worker-1 hello
  tidings sock router -b tcp://127.0.0.1:5555 --wait-peers 1 0x0102 hello";

const PUB: &str = "\
Examples:
  tidings sock pub -b tcp://127.0.0.1:5556 --wait-peers 1 0 '1 2000'    wait for a subscriber, send one
  tidings sock pub -b tcp://127.0.0.1:5556 clock '{{time}}' --interval 1s
  tail -f app.log | tidings sock pub -c tcp://127.0.0.1:4831 log --stdin";

const SUB: &str = "\
Examples:
  tidings sock sub -c tcp://127.0.0.1:5556
  tidings sock sub -c tcp://127.0.0.1:5556 --subscribe clock --count 3 --timeout 5s
  tidings sock sub -c tcp://127.0.0.1:5556 --json | jq .frames";

const XPUB: &str = "\
Examples:
  tidings sock xpub -b tcp://127.0.0.1:5556 --no-stdin       print subscriptions: \\x01topic, \\x00topic
  tidings sock xpub -b tcp://127.0.0.1:5556 --option xpub_verbose=1";

const XSUB: &str = "\
Examples:
  tidings sock xsub -c tcp://127.0.0.1:5556 --subscribe clock --no-stdin
  tidings sock xsub -c tcp://127.0.0.1:5556 --hex 01636c6f636b      the subscription as it is on the wire";

const PUSH: &str = "\
Examples:
  tidings sock push -c tcp://127.0.0.1:5557 job
  seq 1000 | tidings sock push -b tcp://127.0.0.1:5557 --stdin --wait-peers 2
  tidings sock push -c tcp://127.0.0.1:5557 --file header.bin --file body.bin";

const PULL: &str = "\
Examples:
  tidings sock pull -b tcp://127.0.0.1:5557
  tidings sock pull -b tcp://127.0.0.1:5557 --count 100 --timeout 10s
  tidings sock pull -b tcp://127.0.0.1:5557 --output raw > all.bin";

const PAIR: &str = "\
Examples:
  tidings sock pair -b tcp://127.0.0.1:5558       type a line here,
  tidings sock pair -c tcp://127.0.0.1:5558       read it there, and the other way round";

const CLIENT: &str = "\
Examples:
  tidings sock client -c tcp://127.0.0.1:5555 hello --count 1        ask a SERVER; print one answer
  seq 10 | tidings sock client -c tcp://127.0.0.1:5555 --stdin --until-eof";

const SERVER: &str = "\
Examples:
  tidings sock server -b tcp://127.0.0.1:5555 --no-stdin              print who says what
  tidings sock server -b tcp://127.0.0.1:5555 --delimiter ' '         type: 2406543 hello

The number names a client for as long as it stays connected.";

const RADIO: &str = "\
Examples:
  tidings sock radio -b tcp://127.0.0.1:5559 --group tv --wait-peers 1 hello
  tidings sock radio -b tcp://127.0.0.1:5559 --stdin --delimiter ' '     type: tv hello
  tidings sock radio -c udp://239.0.0.1:5559 --group clock '{{time}}' --interval 1s";

const DISH: &str = "\
Examples:
  tidings sock dish -c tcp://127.0.0.1:5559 --join tv
  tidings sock dish -b udp://239.0.0.1:5559 --join clock --join alarm --json";

const SCATTER: &str = "\
Examples:
  tidings sock scatter -c tcp://127.0.0.1:5557 job
  seq 1000 | tidings sock scatter -b tcp://127.0.0.1:5557 --stdin --wait-peers 2";

const GATHER: &str = "\
Examples:
  tidings sock gather -b tcp://127.0.0.1:5557
  tidings sock gather -b tcp://127.0.0.1:5557 --count 100 --timeout 10s";

const PEER: &str = "\
Examples:
  tidings sock peer -b tcp://127.0.0.1:5560 --delimiter ' '           type: 2406543 hello
  tidings sock peer -c tcp://127.0.0.1:5560 hello --count 1

The number names a peer. Where one endpoint is connected to and none bound, all that is sent goes to
that peer and needs no number.";

const CHANNEL: &str = "\
Examples:
  tidings sock channel -b tcp://127.0.0.1:5558       type a line here,
  tidings sock channel -c tcp://127.0.0.1:5558       read it there, and the other way round";

const STREAM: &str = "\
Examples:
  tidings sock stream -b tcp://127.0.0.1:8080 --no-stdin     print what plain TCP clients send
  tidings sock stream -c tcp://127.0.0.1:25 --output json --no-stdin";

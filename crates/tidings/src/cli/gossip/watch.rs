//! `gossip watch`: first what there is, then what changes.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::time::Duration;

use bytes::Bytes;
use clap::Args;
use serde_json::{Value, json};
use tidings_gossip::driver::Change;

use super::leaf::{JoinArgs, Leaf, told};
use super::node::{Node, NodeArgs};
use super::tuple::{LONG_FORM, Names, line, tuple_json};
use crate::cli::output::{escape, json_frame};
use crate::cli::template::now_rfc3339;
use crate::cli::{Exit, Failure, Talk, printed, units};
use crate::discovery::{Answer, AskError};

/// What `gossip watch` is given
#[derive(Args, Debug)]
pub(crate) struct WatchArgs {
    #[command(flatten)]
    join: JoinArgs,
    /// Keys that begin with PREFIX; all if none is given, but for the nodes' own ($tidings/)
    #[arg(value_name = "PREFIX", default_value = "")]
    prefix: String,
    /// Leave out what there is already
    #[arg(long, conflicts_with = "join")]
    new: bool,
    /// End after N changes, those that were there before included unless --new
    #[arg(long, short = 'n', value_name = "N")]
    count: Option<u64>,
    /// End after DURATION, whatever came until then
    #[arg(long = "for", value_name = "DURATION", value_parser = units::duration)]
    run_for: Option<Duration>,
    #[command(flatten)]
    node: NodeArgs,
}

/// What is printed, and how far it is
struct Printer {
    talk: Talk,
    /// What the reader knows: a hash of each value by its key, so that nothing is told twice after a reconnection
    shown: BTreeMap<Bytes, u64>,
    /// Keys that a snapshot under way has told of
    fresh: Option<BTreeMap<Bytes, ()>>,
    silent: bool,
    left: Option<u64>,
}

/// `tidings gossip watch`
///
/// # Errors
/// No node (3), not permitted (4).
pub(super) async fn run(args: WatchArgs, talk: Talk) -> Result<(), Failure> {
    let mut printer = Printer { talk, shown: BTreeMap::new(), fresh: None, silent: args.new, left: args.count };
    let deadline = async {
        match args.run_for {
            Some(limit) => tokio::time::sleep(limit).await,
            None => std::future::pending().await,
        }
    };
    tokio::pin!(deadline);
    if let Some(mut leaf) = args.join.open(&args.node, &args.prefix, talk).await? {
        let done = listen(&mut leaf, &mut printer, deadline.as_mut()).await;
        leaf.leave().await;
        done?;
        return finished(&args, printer.left);
    }
    let mut node = args.node.open(talk).await?;
    watch(&node, &args.prefix).await?;
    printer.begin();
    while printer.left != Some(0) {
        let answer = tokio::select! {
            biased;
            answer = node.next() => answer,
            _ = node.place.stop.stopped() => break,
            () = &mut deadline => break,
        };
        match answer {
            Ok(answer) => {
                if !printer.take(answer)? {
                    return Ok(());
                }
            }
            Err(AskError::Lost) => {
                talk.say(format_args!("the connection to {} is lost; trying again (Ctrl-C ends)", node.place.endpoint));
                if !again(&mut node, &args.prefix).await? {
                    break;
                }
                printer.begin();
            }
            Err(error) => return Err(node.place.failure(&error)),
        }
    }
    finished(&args, printer.left)
}

/// Whether as many changes came as were asked for
fn finished(args: &WatchArgs, left: Option<u64>) -> Result<(), Failure> {
    match left {
        Some(left @ 1..) if args.run_for.is_none() => {
            let wanted = args.count.unwrap_or_default();
            Err(Failure::new(Exit::Partial, "stopped", format!("stopped after {} of {wanted} changes", wanted - left)))
        }
        _ => Ok(()),
    }
}

/// Prints what a network tells that was joined
async fn listen(
    leaf: &mut Leaf,
    printer: &mut Printer,
    mut deadline: Pin<&mut impl Future<Output = ()>>,
) -> Result<(), Failure> {
    printer.talk.say(format_args!("listening at {} (Ctrl-C ends)", leaf.endpoint));
    // There is no end of what was there before: nobody tells
    printer.silent = false;
    let stop = leaf.stop.clone();
    while printer.left != Some(0) {
        let change = tokio::select! {
            biased;
            change = leaf.next() => change,
            _ = stop.stopped() => return Ok(()),
            () = &mut deadline => return Ok(()),
        };
        let answer = match change {
            Some(Change::Put { tuple, .. }) => Answer::Put(told(tuple)),
            Some(Change::Removed { key, cause }) => Answer::Removed { key, cause: cause.name().to_owned() },
            Some(Change::Missed { .. }) => Answer::Missed,
            Some(_) => continue,
            None => return Ok(()),
        };
        if !printer.take(answer)? {
            return Ok(());
        }
    }
    Ok(())
}

async fn watch(node: &Node, prefix: &str) -> Result<(), Failure> {
    node.send([Bytes::from_static(b"WATCH"), Bytes::copy_from_slice(prefix.as_bytes()), LONG_FORM]).await
}

/// Connects anew until it is there; `false` if it was time to stop
async fn again(node: &mut Node, prefix: &str) -> Result<bool, Failure> {
    loop {
        match node.reopen().await {
            Ok(()) => match watch(node, prefix).await {
                Ok(()) => return Ok(true),
                Err(failure) if failure.exit == Exit::Connect => {}
                Err(failure) => return Err(failure),
            },
            Err(failure) if failure.code == "stopped" => return Ok(false),
            Err(failure) if failure.exit == Exit::Connect => {}
            Err(failure) => return Err(failure),
        }
        tokio::select! {
            () = tokio::time::sleep(PAUSE) => {}
            _ = node.place.stop.stopped() => return Ok(false),
        }
    }
}

impl Printer {
    /// A snapshot follows
    fn begin(&mut self) {
        self.fresh = Some(BTreeMap::new());
    }

    /// Prints what is news; whether anybody reads it
    fn take(&mut self, answer: Answer) -> Result<bool, Failure> {
        match answer {
            Answer::Tuple(tuple) | Answer::Put(tuple) => {
                if let Some(fresh) = &mut self.fresh {
                    fresh.insert(tuple.key.clone(), ());
                }
                let hash = hash(&tuple.value);
                if self.shown.insert(tuple.key.clone(), hash) == Some(hash) {
                    return Ok(true);
                }
                let mut object = tuple_json(&tuple, &Names::default());
                object["event"] = "put".into();
                self.print(&format!("put {}", line(&tuple)), object)
            }
            Answer::Removed { key, cause } => {
                if self.shown.remove(&key).is_none() {
                    return Ok(true);
                }
                self.removed(&key, &cause)
            }
            Answer::Missed => {
                self.begin();
                Ok(true)
            }
            Answer::End => {
                let fresh = self.fresh.take().unwrap_or_default();
                let gone: Vec<Bytes> = self.shown.keys().filter(|key| !fresh.contains_key(*key)).cloned().collect();
                for key in gone {
                    self.shown.remove(&key);
                    if !self.removed(&key, "meanwhile")? {
                        return Ok(false);
                    }
                }
                if std::mem::take(&mut self.silent) || !self.shown.is_empty() {
                    self.talk
                        .detail(format_args!("that is all there is: {}", units::count(self.shown.len() as u64, "key")));
                } else if self.shown.is_empty() {
                    self.talk.detail("nothing is there yet");
                }
                Ok(true)
            }
            other => {
                let other = format!("{other:?}").chars().take(100).collect::<String>();
                Err(Failure::new(Exit::Data, "answer", format!("this is no answer to WATCH: {other}")))
            }
        }
    }

    fn removed(&mut self, key: &Bytes, cause: &str) -> Result<bool, Failure> {
        let object = json!({ "event": "removed", "key": json_frame(key), "cause": cause });
        self.print(&format!("removed {} ({})", escape(key), escape(cause.as_bytes())), object)
    }

    fn print(&mut self, line: &str, mut object: Value) -> Result<bool, Failure> {
        if self.silent || self.left == Some(0) {
            return Ok(true);
        }
        self.left = self.left.map(|left| left - 1);
        if !self.talk.json {
            return printed(self.talk.data(line));
        }
        object["time"] = now_rfc3339().into();
        printed(self.talk.data(object))
    }
}

/// Not for anybody else than this process
fn hash(value: &Bytes) -> u64 {
    use std::hash::{DefaultHasher, Hash as _, Hasher as _};
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    hasher.finish()
}

/// Between two attempts to come back
const PAUSE: Duration = Duration::from_millis(300);

pub(super) const EXAMPLES: &str = "\
Examples:
  tidings gossip watch
  tidings gossip watch config/ --new
  tidings gossip watch endpoint/ --json | jq -r 'select(.event == \"removed\") | .key'
  tidings gossip watch job/42 -n 1                  until it is there
  tidings gossip watch --join tcp://192.0.2.1:5670  in a network of CZMQ's zgossip";

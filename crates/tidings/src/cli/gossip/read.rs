//! `gossip get` and `gossip ls`.

use std::time::{Duration, SystemTime};

use bytes::Bytes;
use clap::Args;
use serde_json::{Value, json};

use super::leaf::JoinArgs;
use super::node::{Node, NodeArgs};
use super::tuple::{LONG, LONG_FORM, Names, long, shortened, tuple_json};
use super::write::{key, no_such_key};
use crate::cli::output::escape;
use crate::cli::units::{self, display_about};
use crate::cli::{Exit, Failure, Talk, printed, table};
use crate::discovery::{Answer, Told};

/// What `gossip get` is given
#[derive(Args, Debug)]
pub(crate) struct GetArgs {
    #[command(flatten)]
    join: JoinArgs,
    /// The key
    #[arg(id = "tuple-key", value_name = "KEY")]
    key: String,
    /// Print the octets as they are, and no line end
    #[arg(long)]
    raw: bool,
    /// Wait until it has a value, for DURATION at most; then the exit code is 5
    #[arg(long, value_name = "DURATION", value_parser = units::duration)]
    wait: Option<Duration>,
    #[command(flatten)]
    node: NodeArgs,
}

/// What `gossip ls` is given
#[derive(Args, Debug)]
pub(crate) struct ListArgs {
    #[command(flatten)]
    join: JoinArgs,
    /// Keys that begin with PREFIX; all if none is given, but for the nodes' own ($tidings/)
    #[arg(value_name = "PREFIX", default_value = "")]
    prefix: String,
    /// Say whose they are, how old, and how long they live
    #[arg(long, short)]
    long: bool,
    #[command(flatten)]
    node: NodeArgs,
}

/// `tidings gossip get`
///
/// # Errors
/// No such key (1), no node (3), no answer, or no value in time (5).
pub(super) async fn get(args: GetArgs, talk: Talk) -> Result<(), Failure> {
    let key = key(&args.key)?;
    let (found, names) = match args.join.open(&args.node, &args.key, talk).await? {
        Some(mut leaf) => {
            let found = leaf.one(&key, args.wait).await;
            leaf.leave().await;
            (found?.ok_or_else(|| no_such_key(&key))?, Names::default())
        }
        None => ask(&args, &key, talk).await?,
    };
    if talk.json {
        let mut object = tuple_json(&found, &names);
        object["ok"] = true.into();
        return printed(talk.data(object)).map(drop);
    }
    if args.raw {
        use std::io::Write as _;
        let mut stdout = std::io::stdout().lock();
        return printed(stdout.write_all(&found.value).and_then(|()| stdout.flush())).map(drop);
    }
    printed(talk.data(escape(&found.value))).map(drop)
}

/// The tuple from a node, and the names of nodes if they are shown
async fn ask(args: &GetArgs, key: &Bytes, talk: Talk) -> Result<(Told, Names), Failure> {
    let mut node = args.node.open(talk).await?;
    let found = match args.wait {
        Some(limit) => wait(&node, key, limit).await?,
        None => match node.ask([Bytes::from_static(b"GET"), key.clone(), LONG_FORM]).await? {
            Answer::Tuple(tuple) => tuple,
            Answer::None(_) => return Err(no_such_key(key)),
            other => return Err(node.unexpected(&other)),
        },
    };
    let names = names(&mut node, talk.json && args.wait.is_none()).await;
    Ok((found, names))
}

/// The names of nodes; whoever may not ask who is there sees their numbers
async fn names(node: &mut Node, wanted: bool) -> Names {
    match wanted {
        true => Names::read(&node.look("MEMBERS").await.unwrap_or_default()),
        false => Names::default(),
    }
}

/// The tuple, as soon as there is one
async fn wait(node: &Node, key: &Bytes, limit: Duration) -> Result<Told, Failure> {
    node.send([Bytes::from_static(b"WATCH"), key.clone(), LONG_FORM]).await?;
    let found = async {
        loop {
            match node.next().await.map_err(|error| node.place.failure(&error))? {
                Answer::Tuple(tuple) | Answer::Put(tuple) if tuple.key == key => return Ok(tuple),
                _ => {}
            }
        }
    };
    tokio::select! {
        biased;
        found = tokio::time::timeout(limit, found) => found.unwrap_or_else(|_| {
            let message = format!("'{}' has no value after {}", escape(key), display_about(limit));
            Err(Failure::new(Exit::Deadline, "deadline", message).hint("--wait DURATION waits longer"))
        }),
        _ = node.place.stop.stopped() => Err(super::node::stopped()),
    }
}

/// `tidings gossip ls`
///
/// # Errors
/// No node (3), not permitted (4), no answer (5).
pub(super) async fn ls(args: ListArgs, talk: Talk) -> Result<(), Failure> {
    let (tuples, names) = match args.join.open(&args.node, &args.prefix, talk).await? {
        Some(mut leaf) => {
            let tuples = leaf.all(&args.prefix).await;
            leaf.leave().await;
            (tuples?, Names::default())
        }
        None => {
            let mut node = args.node.open(talk).await?;
            let tuples = list(&node, &args.prefix).await?;
            (tuples, names(&mut node, args.long || talk.json).await)
        }
    };
    if talk.json {
        let tuples: Vec<Value> = tuples.iter().map(|tuple| tuple_json(tuple, &names)).collect();
        return printed(talk.data(json!({ "ok": true, "tuples": tuples }))).map(drop);
    }
    if tuples.is_empty() {
        talk.say(match args.prefix.is_empty() {
            true => "no keys; `tidings gossip put KEY VALUE` makes one".to_owned(),
            false => format!("no keys begin with '{}'", escape(args.prefix.as_bytes())),
        });
        return Ok(());
    }
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let now = u64::try_from(now.as_micros()).unwrap_or(u64::MAX);
    let text = match args.long {
        true => table::layout(&LONG, &tuples.iter().map(|tuple| long(tuple, &names, now)).collect::<Vec<_>>()),
        false => {
            let rows: Vec<Vec<String>> =
                tuples.iter().map(|tuple| vec![escape(&tuple.key), shortened(&escape(&tuple.value))]).collect();
            table::layout(&["KEY", "VALUE"], &rows)
        }
    };
    printed(talk.data(text)).map(drop)
}

/// All tuples below a prefix
async fn list(node: &Node, prefix: &str) -> Result<Vec<Told>, Failure> {
    node.send([Bytes::from_static(b"LIST"), Bytes::copy_from_slice(prefix.as_bytes()), LONG_FORM]).await?;
    let mut tuples = Vec::new();
    loop {
        match node.answer().await? {
            Answer::Tuple(tuple) => tuples.push(tuple),
            Answer::End => return Ok(tuples),
            other => return Err(node.unexpected(&other)),
        }
    }
}

pub(super) const GET: &str = "\
Examples:
  tidings gossip get config/rate
  tidings gossip get config/motd --raw > motd
  tidings gossip get endpoint/db/hub --wait 30s     when it is there
  tidings gossip get config/rate --json | jq -r '.\"owner-name\"'";

pub(super) const LS: &str = "\
Examples:
  tidings gossip ls
  tidings gossip ls endpoint/ --long                what is announced, by whom
  tidings gossip ls '$tidings/'                     what the nodes tell of themselves
  tidings gossip ls --join tcp://192.0.2.1:5670     of a network of CZMQ's zgossip
  tidings gossip ls --json | jq -r '.tuples[].key'";

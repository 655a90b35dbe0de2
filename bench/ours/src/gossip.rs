//! A network of gossip nodes in one process, over tcp: what it takes until every node has told of everything.

use std::fs;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use serde_json::json;
use tidings_gossip::driver::{Change, Gossip};
use tidings_socket::Context;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use crate::arguments::{Arguments, Usage};
use crate::measure::{Span, print};

/// What the words say
struct Load {
    nodes: usize,
    /// Who connects to whom
    links: Vec<(usize, usize)>,
    /// How many tuples each node publishes
    each: usize,
    /// Of a value
    size: usize,
    /// How long the network stands before there is news
    quiet: Duration,
    /// How long it is looked at when everything is everywhere
    rest: Duration,
    /// When a network that has not converged is said to never do so
    deadline: Duration,
}

/// Builds the network, publishes, and says when all knew all, and what went over the wire
///
/// The runtime has two threads: an application with so many nodes would use both cores, as CZMQ's threads do.
pub(crate) fn network(arguments: Arguments) -> Result<()> {
    let load = Load::new(arguments)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let done = runtime.block_on(async { tokio::spawn(play(load)).await? });
    // Not node by node, as the other side
    runtime.shutdown_background();
    done
}

async fn play(load: Load) -> Result<()> {
    let context = Context::new();
    let (nodes, mut told) = open(&context, &load).await?;
    for (number, node) in nodes.iter().enumerate() {
        node.put(format!("ready-{number}-0"), "").await?;
    }
    if !told.all_have(Mark::Ready, Duration::from_secs(10)).await {
        bail!("the network did not stand after 10 s");
    }
    sleep(load.quiet).await;

    let value = "v".repeat(load.size);
    let before = octets_on_loopback()?;
    let (span, began) = (Span::start(), Instant::now());
    for number in 0..load.each {
        for (place, node) in nodes.iter().enumerate() {
            node.put(format!("key-{place}-{number}"), value.clone()).await?;
        }
    }
    let converged = told.all_have(Mark::Everything, load.deadline).await;
    let (seconds, cpu_seconds) = (began.elapsed().as_secs_f64(), span.cpu_seconds());
    // What is still on its way, to nodes that have it already, was sent for these tuples too
    let settled_by = Instant::now() + load.deadline;
    let mut octets = octets_on_loopback()?;
    loop {
        let earlier = octets;
        sleep(Duration::from_secs(1)).await;
        octets = octets_on_loopback()?;
        if !converged || octets - earlier <= (octets - before) / 20 || Instant::now() > settled_by {
            break;
        }
    }
    let rest_began = octets;
    let mut digests = nodes.iter().map(|node| node.stats().octets_digest).sum::<u64>();
    sleep(load.rest).await;
    let rest = octets_on_loopback()? - rest_began;
    digests = nodes.iter().map(|node| node.stats().octets_digest).sum::<u64>() - digests;

    let wanted = load.nodes * (1 + load.each);
    let least = nodes.iter().map(Gossip::len).min().unwrap_or_default();
    let mut line = json!({
        "role": "gossip", "nodes": load.nodes, "messages": nodes.iter().map(Gossip::len).sum::<usize>(), "converged": converged,
        "least": least, "wanted": wanted, "octets": octets - before, "cpu_seconds": cpu_seconds,
        "records": nodes.iter().map(|node| node.stats().records_out).sum::<u64>(),
        "frames": nodes.iter().map(|node| node.stats().frames_out).sum::<u64>(),
        "wants": nodes.iter().map(|node| node.stats().wants).sum::<u64>(),
        "want_timeouts": nodes.iter().map(|node| node.stats().want_timeouts).sum::<u64>(),
        "grafts": nodes.iter().map(|node| node.stats().grafts).sum::<u64>(),
        "prunes": nodes.iter().map(|node| node.stats().prunes).sum::<u64>(),
        "floods": nodes.iter().map(|node| node.stats().refusals.count(tidings_gossip::Refusal::Flood)).sum::<u64>(),
        "frame_octets": nodes.iter().map(|node| node.stats().octets_out).sum::<u64>(),
    });
    if converged {
        line["seconds"] = json!(seconds);
    }
    if !load.rest.is_zero() {
        line["rest_octets"] = json!(rest);
        line["rest_octets_a_node_and_second"] = json!(rest as f64 / load.nodes as f64 / load.rest.as_secs_f64());
        line["rest_digest_octets"] = json!(digests);
    }
    print(&line)
}

/// Starts and links the nodes, each with an application that takes what it is told
async fn open(context: &Context, load: &Load) -> Result<(Vec<Gossip>, Told)> {
    let mut nodes = Vec::new();
    let mut bound = Vec::new();
    let (marks, reached) = mpsc::unbounded_channel();
    let mut applications = JoinSet::new();
    let (ready, everything) = (load.nodes, load.nodes * (1 + load.each));
    for number in 0..load.nodes {
        let node = Gossip::builder(context).name(format!("node-{number}")).start()?;
        bound.push(node.bind("tcp://127.0.0.1:*").await?);
        // Nothing may be told twice, which would count twice
        let mut watch = node.watch_bounded("", everything + 1);
        let marks = marks.clone();
        applications.spawn(async move {
            let mut told = 0;
            while let Some(change) = watch.next().await {
                match change {
                    Change::Put { .. } => told += 1,
                    Change::Current => continue,
                    // It would not be the same work any more
                    other => {
                        eprintln!("tidings-bench gossip: a node tells {other:?}");
                        return;
                    }
                }
                if told == ready {
                    marks.send(Mark::Ready).ok();
                }
                if told == everything {
                    marks.send(Mark::Everything).ok();
                }
            }
        });
        nodes.push(node);
    }
    for (from, to) in &load.links {
        let (Some(node), Some(endpoint)) = (nodes.get(*from), bound.get(*to)) else {
            bail!(Usage(format!("there is no node {from} or {to}")));
        };
        node.connect(endpoint.clone())?;
    }
    Ok((nodes, Told { nodes: load.nodes, reached, _applications: applications }))
}

/// What the nodes have told their applications
struct Told {
    nodes: usize,
    reached: mpsc::UnboundedReceiver<Mark>,
    _applications: JoinSet<()>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Mark {
    /// A node knows of all others
    Ready,
    /// And of all that was published
    Everything,
}

impl Told {
    /// Whether every node gets there in time
    async fn all_have(&mut self, mark: Mark, patience: Duration) -> bool {
        let counting = async {
            let mut missing = self.nodes;
            while missing > 0 {
                match self.reached.recv().await {
                    Some(reached) if reached == mark => missing -= 1,
                    Some(_) => {}
                    None => return false,
                }
            }
            true
        };
        timeout(patience, counting).await.unwrap_or(false)
    }
}

impl Load {
    fn new(mut arguments: Arguments) -> Result<Self> {
        let links: String = arguments.needed("links")?;
        let load = Self {
            nodes: arguments.needed("nodes")?,
            links: links.split(',').map(link).collect::<Result<_>>()?,
            each: arguments.needed("each")?,
            size: arguments.or("size", 20)?,
            quiet: Duration::from_millis(arguments.or("quiet", 300)?),
            rest: Duration::from_secs(arguments.or("rest", 0)?),
            deadline: Duration::from_secs(arguments.or("deadline", 60)?),
        };
        arguments.finish()?;
        Ok(load)
    }
}

/// `0-1`: node 0 connects to node 1
fn link(word: &str) -> Result<(usize, usize)> {
    let places = word.split_once('-').and_then(|(from, to)| Some((from.parse().ok()?, to.parse().ok()?)));
    places.with_context(|| Usage(format!("{word:?} is no link")))
}

/// What went over loopback so far, headers included
fn octets_on_loopback() -> Result<u64> {
    let text = fs::read_to_string("/proc/net/dev").context("can't read /proc/net/dev")?;
    let line = text.lines().find_map(|line| line.trim_start().strip_prefix("lo:")).context("there is no loopback")?;
    let octets = line.split_whitespace().next().context("loopback has no counters")?;
    Ok(octets.parse()?)
}

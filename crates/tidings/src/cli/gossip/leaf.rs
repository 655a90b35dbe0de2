//! A node of the command's own, for networks where nobody can be asked: it joins, hears all there is, and leaves.

use std::time::Duration;

use clap::Args;
use tidings::{Context, Endpoint, EndpointError, Options, SocketType};
use tidings_gossip::driver::{Change, ConnectOptions, Gossip, Watch as Changes};
use tidings_gossip::{Lifetime, NodeConfig, Presence, Tuple};
use tokio::time::{Instant, sleep_until, timeout};

use super::node::{NodeArgs, stopped};
use crate::cli::sock::{Stop, Watch, set_options};
use crate::cli::units::{self, display_about};
use crate::cli::{Exit, Failure, Talk};
use crate::discovery::{About, Life, Name, Told};

/// How to join
#[derive(Args, Clone, Debug)]
pub(super) struct JoinArgs {
    /// Join the network of the node at ENDPOINT and listen, rather than ask: so CZMQ's zgossip nodes can be looked at
    #[arg(long, value_name = "ENDPOINT")]
    pub(super) join: Option<String>,
    /// With --join: the network has told all when nothing new has come for so long
    #[arg(long, value_name = "DURATION", value_parser = units::duration, default_value = "1s")]
    settle: Duration,
}

/// A node that has joined
pub(super) struct Leaf {
    gossip: Gossip,
    changes: Changes,
    pub(super) endpoint: Endpoint,
    pub(super) stop: Stop,
    settle: Duration,
    /// Kept for as long as the node lives
    _watch: Watch,
}

impl JoinArgs {
    /// Joins, and hears what begins so; `None` if that is not what was asked for
    ///
    /// # Errors
    /// Nobody there (3), or nobody who lets us in (4).
    pub(super) async fn open(&self, node: &NodeArgs, prefix: &str, talk: Talk) -> Result<Option<Leaf>, Failure> {
        let Some(text) = &self.join else { return Ok(None) };
        if Name::read(text).is_some() {
            return Err(Failure::usage(format!("'{text}' is found by asking a node; --join takes an address")));
        }
        let endpoint: Endpoint = text.parse().map_err(|error: EndpointError| Failure::usage(error))?;
        let security = node.security.read()?;
        let mut options = Options::of(SocketType::Dealer);
        set_options(&mut options, &node.options)?;
        let options = security.for_connect(&endpoint, options)?;
        let stop = Stop::listen(None)?;
        let context = Context::new();
        let watch = Watch::start(&context, node.events, true, talk);
        let config =
            NodeConfig { name: "tidings gossip".to_owned(), presence: Presence::Links, ..NodeConfig::default() };
        let gossip = Gossip::builder(&context).config(config).start();
        let gossip = gossip.map_err(|error| Failure::new(Exit::Usage, "gossip", error))?;
        let changes = gossip.watch(prefix);
        let linking = gossip.connect_with(&endpoint, ConnectOptions::default().options(options));
        let linking = linking.map_err(Failure::usage)?;
        tokio::select! {
            biased;
            linked = timeout(node.connect_timeout, linking) => match linked {
                Ok(Ok(())) => {}
                Ok(Err(error)) => {
                    let known = watch.explain("gossip node", Duration::ZERO);
                    return Err(match known.exit {
                        Exit::Refused => known,
                        _ => Failure::new(Exit::Connect, "connect", error),
                    });
                }
                Err(_) => {
                    let failure = watch.explain("gossip node", node.connect_timeout);
                    return Err(match failure.exit {
                        Exit::Refused => failure,
                        _ => Failure { exit: Exit::Connect, code: "connect", ..failure },
                    });
                }
            },
            _ = stop.stopped() => return Err(stopped()),
        }
        talk.detail(format_args!("joined at {endpoint}"));
        Ok(Some(Leaf { gossip, changes, endpoint, stop, settle: self.settle, _watch: watch }))
    }
}

impl Leaf {
    /// All that the network tells, when it has told all: when nothing has come for a while
    ///
    /// # Errors
    /// It was time to stop (6).
    pub(super) async fn all(&mut self, prefix: &str) -> Result<Vec<Told>, Failure> {
        let mut quiet = Instant::now() + self.settle;
        loop {
            tokio::select! {
                biased;
                _ = self.stop.stopped() => return Err(stopped()),
                change = self.changes.next() => match change {
                    Some(Change::Current) => {}
                    Some(_) => quiet = Instant::now() + self.settle,
                    None => break,
                },
                () = sleep_until(quiet) => break,
            }
        }
        Ok(self.gossip.list(prefix).into_iter().map(told).collect())
    }

    /// One tuple, as soon as it is there
    ///
    /// # Errors
    /// It is not there within `limit`; or, without one, when the network has told all: `None`.
    pub(super) async fn one(&mut self, key: &[u8], limit: Option<Duration>) -> Result<Option<Told>, Failure> {
        let until = limit.map(|limit| Instant::now() + limit);
        let mut quiet = Instant::now() + self.settle;
        loop {
            if let Some(tuple) = self.gossip.get(key) {
                return Ok(Some(told(tuple)));
            }
            tokio::select! {
                biased;
                _ = self.stop.stopped() => return Err(stopped()),
                change = self.changes.next() => match change {
                    Some(Change::Current) => {}
                    Some(_) => quiet = Instant::now() + self.settle,
                    None => return Ok(None),
                },
                () = sleep_until(until.unwrap_or(quiet)) => match limit {
                    None => return Ok(None),
                    Some(limit) => {
                        let message = format!("'{}' has no value after {}", key.escape_ascii(), display_about(limit));
                        return Err(Failure::new(Exit::Deadline, "deadline", message).hint("--wait DURATION waits longer"));
                    }
                },
            }
        }
    }

    /// The next change
    ///
    /// # Cancel safety
    /// Safe: nothing is lost.
    pub(super) async fn next(&mut self) -> Option<Change> {
        self.changes.next().await
    }

    /// Says goodbye
    pub(super) async fn leave(self) {
        self.gossip.stop(FAREWELL).await;
    }
}

/// A tuple as a node would tell it
pub(super) fn told(tuple: Tuple) -> Told {
    let life = match tuple.lifetime {
        Lifetime::Permanent => Life::Permanent,
        Lifetime::Session => Life::Session,
        Lifetime::Ttl(ttl) => Life::Left(u64::try_from(tuple.remaining.unwrap_or(ttl).as_millis()).unwrap_or(u64::MAX)),
    };
    let about = About { owner: Some(tuple.dot.owner.to_string()), life, stamp_us: Some(tuple.stamp.0) };
    Told { key: tuple.key, value: tuple.value, about }
}

const FAREWELL: Duration = Duration::from_secs(1);

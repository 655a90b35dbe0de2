//! The node that `gossip` commands talk to: which, how, and what to say when it is not there.

use std::time::Duration;

use bytes::Bytes;
use clap::Args;
use serde_json::Value;
use tidings::{ConnectError, Context, Endpoint, EndpointError, Options, SocketType};
use tokio::time::timeout;

use crate::cli::output::escape;
use crate::cli::security::SecurityArgs;
use crate::cli::sock::{Stop, Watch, set_options};
use crate::cli::units::{self, display_about};
use crate::cli::{Exit, Failure, Talk};
use crate::discovery::{Answer, AskError, Asker, Foreign, Name};

/// Which node
#[derive(Args, Clone, Debug)]
pub(super) struct NodeArgs {
    /// The node that is asked
    #[arg(long, short = 'e', visible_alias = "endpoint", value_name = "ENDPOINT", env = "TIDINGS_GOSSIP", default_value = USUAL)]
    pub(super) gossip: String,
    /// Longest wait for the connection
    #[arg(long, value_name = "DURATION", value_parser = units::duration, default_value = "3s")]
    pub(super) connect_timeout: Duration,
    /// Longest wait for an answer; then the exit code is 5
    #[arg(long, value_name = "DURATION", value_parser = units::duration, default_value = "10s")]
    pub(super) timeout: Duration,
    /// Set a socket option; repeatable
    #[arg(long = "option", value_name = "NAME=VALUE")]
    pub(super) options: Vec<String>,
    /// Say on stderr what happens to connections; JSON lines with --json
    #[arg(long)]
    pub(super) events: bool,
    #[command(flatten)]
    pub(super) security: SecurityArgs,
}

/// A node that can be asked, and all that a command has besides
pub(super) struct Node {
    asker: Asker,
    pub(super) place: Place,
}

/// Where the node is, and how it is come by
pub(super) struct Place {
    context: Context,
    pub(super) endpoint: Endpoint,
    options: Options,
    watch: Watch,
    pub(super) stop: Stop,
    pub(super) talk: Talk,
    connect_timeout: Duration,
    timeout: Duration,
}

impl NodeArgs {
    /// Connects
    ///
    /// # Errors
    /// Nobody there (3), somebody who can't be asked, or who refuses (4).
    pub(super) async fn open(&self, talk: Talk) -> Result<Node, Failure> {
        let place = self.place(talk)?;
        let asker = place.ask().await?;
        Ok(Node { asker, place })
    }

    /// Reads keys and options, and begins to watch; nothing is connected yet
    fn place(&self, talk: Talk) -> Result<Place, Failure> {
        if Name::read(&self.gossip).is_some() {
            return Err(Failure::usage(format!(
                "'{}' is found by asking a node, so it can't be that node",
                self.gossip
            ))
            .hint("name its address, such as tcp://127.0.0.1:4833"));
        }
        let endpoint: Endpoint = self.gossip.parse().map_err(|error: EndpointError| Failure::usage(error))?;
        if matches!(endpoint, Endpoint::Inproc(_)) {
            return Err(Failure::usage(format!(
                "{endpoint} joins sockets within one process; no other program can reach it"
            )));
        }
        let security = self.security.read()?;
        let mut options = Options::of(SocketType::Dealer);
        set_options(&mut options, &self.options)?;
        let options = security.for_connect(&endpoint, options)?;
        let stop = Stop::listen(None)?;
        let context = Context::new();
        let watch = Watch::start(&context, self.events, true, talk);
        let (connect_timeout, timeout) = (self.connect_timeout, self.timeout);
        Ok(Place { context, endpoint, options, watch, stop, talk, connect_timeout, timeout })
    }
}

impl Place {
    async fn ask(&self) -> Result<Asker, Failure> {
        let opening = Asker::open(&self.context, &self.endpoint, self.options.clone());
        tokio::select! {
            biased;
            opened = timeout(self.connect_timeout, opening) => match opened {
                Ok(opened) => opened.map_err(|error| self.failure(&error)),
                Err(_) => Err(self.absent()),
            },
            failure = self.watch.hopeless() => Err(failure),
            _ = self.stop.stopped() => Err(stopped()),
        }
    }

    /// Why nobody answered, and how to come by a node
    fn absent(&self) -> Failure {
        let failure = self.watch.explain("gossip node", self.connect_timeout);
        match failure.exit {
            Exit::Refused => failure,
            _ if self.watch.met_anything() => {
                let within = display_about(self.connect_timeout);
                Failure::new(
                    Exit::Connect,
                    "connect",
                    format!("no gossip node answers at {} within {within}", self.endpoint),
                )
                .hint("something listens there; `tidings doctor` with the same endpoint says what")
            }
            _ => Failure { hint: Some(START.to_owned()), exit: Exit::Connect, code: "connect", ..failure },
        }
    }

    /// The exit code, the words and the advice for what was not answered
    pub(super) fn failure(&self, error: &AskError) -> Failure {
        let endpoint = &self.endpoint;
        match error {
            AskError::Connect(ConnectError::Refused { .. }) => {
                match self.watch.explain("gossip node", Duration::ZERO) {
                    known if known.exit == Exit::Refused => known,
                    _ => Failure::new(Exit::Refused, "refused", escape(error.to_string().as_bytes())),
                }
            }
            AskError::Connect(error) => Failure::new(Exit::Connect, "connect", error).hint(START),
            AskError::Foreign(Foreign::Zgossip) => Failure::new(
                Exit::Refused,
                "not-ours",
                format!(
                    "{endpoint} is no node of tidings, so it can't be asked: a zgossip node of CZMQ answers to nobody"
                ),
            )
            .hint(format!(
                "`tidings gossip watch --join {endpoint}` joins its network and listens; so do `get` and `ls`"
            )),
            AskError::Foreign(Foreign::Broker) => Failure::new(
                Exit::Refused,
                "not-ours",
                format!("{endpoint} is a broker of services, and no gossip node"),
            )
            .hint("`tidings serve` has its gossip node on port 4833, and its broker on 4830"),
            AskError::Lost => Failure::new(Exit::Connect, "lost", format!("the connection to {endpoint} was lost"))
                .hint("the node may have ended; `tidings doctor` with the same endpoint says what is there"),
            AskError::Refused(why) => refused(&escape(why.as_bytes())),
            AskError::Unexpected(what) => {
                Failure::new(Exit::Data, "answer", format!("{endpoint} said something that is no answer: {what}"))
            }
        }
    }
}

impl Node {
    /// Asks, and waits for one answer
    ///
    /// # Errors
    /// No answer (5), or a refusal (4).
    pub(super) async fn ask<F: Into<Bytes>>(&self, frames: impl IntoIterator<Item = F>) -> Result<Answer, Failure> {
        self.send(frames).await?;
        self.answer().await
    }

    /// Sends a command whose answers are taken one by one
    ///
    /// # Errors
    /// The connection is lost (3).
    pub(super) async fn send<F: Into<Bytes>>(&self, frames: impl IntoIterator<Item = F>) -> Result<(), Failure> {
        self.asker.send(frames).await.map_err(|error| self.place.failure(&error))
    }

    /// The next answer, which has to come soon
    ///
    /// # Errors
    /// None does (5), or it is a refusal (4).
    pub(super) async fn answer(&self) -> Result<Answer, Failure> {
        tokio::select! {
            biased;
            answer = timeout(self.place.timeout, self.asker.next()) => match answer {
                Ok(answer) => answer.map_err(|error| self.place.failure(&error)),
                Err(_) => Err(Failure::new(
                    Exit::Deadline,
                    "deadline",
                    format!("no answer from {} within {}", self.place.endpoint, display_about(self.place.timeout)),
                )
                .hint("--timeout DURATION waits longer")),
            },
            _ = self.place.stop.stopped() => Err(stopped()),
        }
    }

    /// The next answer, whenever it comes
    ///
    /// # Errors
    /// The connection is lost.
    ///
    /// # Cancel safety
    /// Safe: no answer is lost.
    pub(super) async fn next(&self) -> Result<Answer, AskError> {
        self.asker.next().await
    }

    /// Connects anew, after the connection was lost
    ///
    /// # Errors
    /// As [`NodeArgs::open`].
    pub(super) async fn reopen(&mut self) -> Result<(), Failure> {
        self.asker = self.place.ask().await?;
        Ok(())
    }

    /// What the node tells of itself: STATUS, PEERS, MEMBERS, GRAPH
    ///
    /// # Errors
    /// No answer (5), or a refusal (4).
    pub(super) async fn look(&mut self, word: &'static str) -> Result<Value, Failure> {
        match self.ask([word]).await? {
            Answer::Look(value) => Ok(value),
            other => Err(self.unexpected(&other)),
        }
    }

    /// An answer to something else
    pub(super) fn unexpected(&self, answer: &Answer) -> Failure {
        self.place.failure(&AskError::Unexpected(format!("{answer:?}").chars().take(120).collect()))
    }
}

pub(super) fn stopped() -> Failure {
    Failure::new(Exit::Partial, "stopped", "stopped while waiting for the node")
}

/// What a node refuses, by what it says
fn refused(why: &str) -> Failure {
    let hints = [
        (
            "you may not",
            "not-permitted",
            "the node's `gossip.publish` and `gossip.read` rules and the roles in its keystore say who may",
        ),
        ("no command", "unknown-command", "the node is of another version than this program"),
        ("reserved", "reserved-key", "choose another key"),
        ("max_value", "too-large", "`gossip.max-value` of the node allows no more"),
        ("all that it may", "full", "remove some with `tidings gossip rm`, or raise the node's gossip.max-…"),
        ("has left", "left", "it is on its way out; ask another"),
    ];
    match hints.into_iter().find(|(part, ..)| why.contains(part)) {
        Some((_, code, hint)) => Failure::new(Exit::Refused, code, why).hint(hint),
        None => Failure::new(Exit::Refused, "refused", why),
    }
}

/// Where `tidings serve` has its node
pub(super) const USUAL: &str = "tcp://127.0.0.1:4833";

const START: &str = "`tidings serve` starts a node on this host; --gossip names another";

//! The broker that `svc` commands talk to: which, how, and what to say when it is not there.

use std::time::Duration;

use clap::Args;
use tidings::{Context, Endpoint, EndpointError, Options, SocketType};
use tidings_majordomo::wire::{Status, Wire};
use tidings_majordomo::{Client, ClientOptions, OpenError, RequestError};

use crate::cli::output::escape;
use crate::cli::security::{Security, SecurityArgs};
use crate::cli::sock::{Stop, Watch, set_options};
use crate::cli::units::{self, display_about};
use crate::cli::{Exit, Failure, Talk};
use crate::discovery::{DiscoveryArgs, Followed, Found, Place};

/// Which broker
#[derive(Args, Clone, Debug)]
pub(super) struct BrokerArgs {
    /// The broker; gossip:NAME is wherever that is announced to be
    #[arg(long, short, value_name = "ENDPOINT", env = "TIDINGS_BROKER", default_value = USUAL)]
    pub(super) endpoint: String,
    /// What to speak with brokers of other makes: mdp-0.1, domogik, mdp-0.2, majortomo, zproto; ours is recognised
    #[arg(long, value_name = "WIRE", value_parser = wire, default_value = "mdp-0.1")]
    pub(super) wire: Wire,
    /// Longest wait for the connection
    #[arg(long, value_name = "DURATION", value_parser = units::duration, default_value = "3s")]
    pub(super) connect_timeout: Duration,
    /// Set a socket option; repeatable
    #[arg(long = "option", short, value_name = "NAME=VALUE")]
    options: Vec<String>,
    /// Say on stderr what happens to connections; JSON lines with --json
    #[arg(long)]
    events: bool,
    #[command(flatten)]
    discovery: DiscoveryArgs,
    #[command(flatten)]
    security: SecurityArgs,
}

/// What a command has at hand besides the broker itself
pub(super) struct Link {
    pub(super) context: Context,
    pub(super) endpoint: Endpoint,
    /// The name that the broker was found by
    pub(super) by: Option<(Followed, Place)>,
    /// Of its sockets, security included
    pub(super) options: Options,
    security: Security,
    texts: Vec<String>,
    pub(super) watch: Watch,
    pub(super) stop: Stop,
    pub(super) talk: Talk,
}

impl BrokerArgs {
    /// Reads keys and options, finds the broker if it has a name only, and begins to watch; nothing is connected yet
    ///
    /// # Errors
    /// What is wrong with them; a name that is not announced (5), or no node to ask (3).
    pub(super) async fn link(&self, talk: Talk) -> Result<Link, Failure> {
        let security = self.security.read()?;
        let stop = Stop::listen(None)?;
        let found = tokio::select! {
            biased;
            found = self.discovery.find(&self.endpoint, &security, self.connect_timeout, talk) => found?,
            _ = stop.stopped() => return Err(Failure::new(Exit::Partial, "stopped", "stopped while looking for the broker")),
        };
        let Found { endpoint, by } = found;
        if matches!(endpoint, Endpoint::Inproc(_)) {
            return Err(Failure::usage(format!(
                "{endpoint} joins sockets within one process; no other program can reach it"
            )));
        }
        let texts = self.options.clone();
        let options = socket_options(&endpoint, &security, &texts)?;
        let context = Context::new();
        let watch = Watch::start(&context, self.events, true, talk);
        Ok(Link { context, endpoint, by, options, security, texts, watch, stop, talk })
    }

    /// A client with a conversation under way
    ///
    /// # Errors
    /// Nobody there (3), refused (4).
    pub(super) async fn client(&self, link: &Link) -> Result<Client, Failure> {
        self.client_within(link, self.connect_timeout).await
    }

    /// As [`client`](Self::client), for who has so much time in all
    pub(super) async fn client_within(&self, link: &Link, most: Duration) -> Result<Client, Failure> {
        let limit = self.connect_timeout.min(most);
        let options = ClientOptions::default().wire(self.wire).timeout(Some(limit)).socket(link.options.clone());
        let connecting = Client::connect(&link.context, link.endpoint.clone(), options);
        tokio::select! {
            biased;
            connected = connecting => connected.map_err(|error| match error {
                OpenError::Endpoint(error) => wrong_endpoint(&error),
                OpenError::Unreachable { reason } => link.refused(&reason),
                _ => link.absent(limit),
            }),
            _ = link.stop.stopped() => Err(Failure::new(Exit::Partial, "stopped", "stopped while connecting")),
        }
    }
}

impl Link {
    /// Waits until the name that the broker was found by leads elsewhere
    ///
    /// # Cancel safety
    /// Safe: it only looks.
    pub(super) async fn moved(&self) -> Place {
        match &self.by {
            Some((followed, place)) => followed.moved(place).await,
            None => std::future::pending().await,
        }
    }

    /// Goes to where the broker is now
    ///
    /// # Errors
    /// What is wrong with the keys for it.
    pub(super) fn follow(&mut self, place: Place) -> Result<(), Failure> {
        self.options = socket_options(&place.endpoint, &self.security, &self.texts)?;
        let Some((followed, present)) = &mut self.by else { return Ok(()) };
        self.talk.say(format_args!("{} is at {} now, no longer at {}", followed.name(), place.endpoint, self.endpoint));
        self.endpoint = place.endpoint.clone();
        *present = place;
        Ok(())
    }

    /// Why nobody answered, and how to come by a broker
    pub(super) fn absent(&self, waited: Duration) -> Failure {
        let failure = self.watch.explain("broker", waited);
        match failure.exit {
            Exit::Refused => failure,
            _ if self.watch.met_anything() => Failure::new(
                Exit::Connect,
                "connect",
                format!("no broker answers at {} within {}", self.endpoint, display_about(waited)),
            )
            .hint("something listens there; `tidings doctor` with the same endpoint says what"),
            _ => Failure { hint: Some(START.to_owned()), exit: Exit::Connect, code: "connect", ..failure },
        }
    }

    fn refused(&self, reason: &str) -> Failure {
        let known = self.watch.explain("broker", Duration::ZERO);
        match known.exit {
            Exit::Refused => known,
            _ => Failure::new(
                Exit::Refused,
                "refused",
                format!("the broker at {} can't be used: {}", self.endpoint, escape(reason.as_bytes())),
            )
            .hint(format!("`tidings doctor {}`, with the same --keys, looks at it step by step", self.endpoint)),
        }
    }

    /// The exit code, the words and the advice for a request that has no reply
    pub(super) fn unanswered(&self, service: &str, error: RequestError) -> Failure {
        let exit = match &error {
            RequestError::Refused { status: Status::DEADLINE_PASSED, .. } | RequestError::DeadlinePassed { .. } => {
                Exit::Deadline
            }
            RequestError::Refused { .. } => Exit::Refused,
            RequestError::Service(_) | RequestError::Key { .. } | RequestError::TooManyInFlight { .. } => Exit::Usage,
            RequestError::Reply(_) | RequestError::Answer(_) => Exit::Data,
            RequestError::Unreachable { reason } => return self.refused(reason),
            _ => Exit::Partial,
        };
        match error {
            RequestError::Refused { status, text } => {
                let words = match text.is_empty() || text == status.words() {
                    true => String::new(),
                    // It is a peer's, and may be meant for the terminal
                    false => format!(": {}", escape(text.as_bytes())),
                };
                let failure = Failure::new(exit, code_of(status), format!("{service}: {status}{words}"));
                match advice(status) {
                    Some(advice) => failure.hint(advice),
                    None => failure,
                }
            }
            RequestError::DeadlinePassed { after, sent } => {
                let after = display_about(after);
                let failure = Failure::new(exit, "deadline", format!("{service}: no reply within {after}"));
                failure.hint(match sent {
                    true => "--timeout DURATION waits longer; it may have been executed",
                    false => "the broker took nothing; `tidings svc ping SERVICE` asks whether it works",
                })
            }
            error => Failure::new(exit, "request", format!("{service}: {}", escape(error.to_string().as_bytes()))),
        }
    }
}

fn socket_options(endpoint: &Endpoint, security: &Security, texts: &[String]) -> Result<Options, Failure> {
    let mut options = Options::of(SocketType::Dealer);
    set_options(&mut options, texts)?;
    security.for_connect(endpoint, options)
}

/// The stable word of a status
fn code_of(status: Status) -> &'static str {
    match status {
        Status::MALFORMED => "malformed",
        Status::NOT_PERMITTED => "not-permitted",
        Status::NO_SUCH_SERVICE => "no-such-service",
        Status::KEY_IN_USE => "key-in-use",
        Status::TOO_LARGE => "too-large",
        Status::TOO_MANY => "too-many",
        Status::CANCELLED => "cancelled",
        Status::WORKER_FAILED => "worker-failed",
        Status::NOT_IMPLEMENTED => "not-implemented",
        Status::WORKER_GONE => "worker-gone",
        Status::UNAVAILABLE => "unavailable",
        Status::DEADLINE_PASSED => "deadline",
        _ => "refused",
    }
}

fn advice(status: Status) -> Option<&'static str> {
    Some(match status {
        Status::NO_SUCH_SERVICE => {
            "`tidings svc ls` lists those there are; `tidings svc work SERVICE -- COMMAND` offers one"
        }
        Status::NOT_PERMITTED => "the broker's `service.call` rules and the roles in its keystore say who may",
        Status::NOT_IMPLEMENTED => "the broker or the worker does not know this",
        Status::WORKER_GONE => "the worker died over it; it may have been executed in part",
        Status::UNAVAILABLE => "it is full or drains: try again later",
        Status::DEADLINE_PASSED => "--timeout DURATION waits longer",
        _ => return None,
    })
}

pub(super) fn wrong_endpoint(error: &EndpointError) -> Failure {
    Failure::usage(error)
}

fn wire(text: &str) -> Result<Wire, String> {
    Wire::from_name(text).ok_or_else(|| {
        let names: Vec<&str> = Wire::ALL.iter().map(|wire| wire.name()).collect();
        format!("there are {}", names.join(", "))
    })
}

/// Where `tidings serve` has its broker
pub(super) const USUAL: &str = "tcp://127.0.0.1:4830";

const START: &str = "`tidings serve` starts a broker on this host; --endpoint names another";

//! Names for commands: a running node is asked, over its socket.

use std::time::Duration;

use bytes::Bytes;
use clap::Args;
use tidings::{ConnectError, Context, Endpoint, EndpointError, Options, SocketType};
use tokio::sync::watch;
use tokio::time::timeout;

use super::{Answer, AskError, Asker, Followed, Foreign, Known, Name, Obstacle, Place, Sighting};
use crate::cli::output::escape;
use crate::cli::security::Security;
use crate::cli::units::display_about;
use crate::cli::{Exit, Failure, Talk};

/// The node that knows where names are
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Discovery")]
pub(crate) struct DiscoveryArgs {
    /// The gossip node that is asked where it is, if an endpoint is gossip:NAME
    #[arg(long, value_name = "ENDPOINT", env = "TIDINGS_GOSSIP", default_value = USUAL)]
    gossip: String,
}

/// Where a text of the command line leads
pub(crate) struct Found {
    pub(crate) endpoint: Endpoint,
    /// The name that it was found by, which may move
    pub(crate) by: Option<(Followed, Place)>,
}

impl Default for DiscoveryArgs {
    fn default() -> Self {
        Self { gossip: USUAL.to_owned() }
    }
}

impl DiscoveryArgs {
    /// The endpoint that a text is, or that is announced as its name; this is waited for, and said to be
    ///
    /// # Errors
    /// The text is neither (2), there is no node to ask (3), the name is not announced in time (5).
    pub(crate) async fn find(
        &self,
        text: &str,
        security: &Security,
        limit: Duration,
        talk: Talk,
    ) -> Result<Found, Failure> {
        let Some(name) = Name::read(text) else {
            let endpoint = text.parse().map_err(|error: EndpointError| Failure::usage(error))?;
            return Ok(Found { endpoint, by: None });
        };
        let name = name.map_err(|(message, hint)| Failure { hint, ..Failure::usage(message) })?;
        let followed = self.follow(name, security)?;
        let patience = PATIENCE.min(limit);
        let place = match followed.first(patience).await {
            Err(seen) if patience < limit => {
                talk.say(format_args!("waiting for {}: {} (Ctrl-C ends)", followed.name(), self.why(&seen)));
                followed.first(limit.saturating_sub(patience)).await
            }
            first => first,
        };
        let place = place.map_err(|seen| self.not_found(followed.name(), &seen, limit))?;
        talk.detail(format_args!("{} is {} (`tidings gossip get {}`)", followed.name(), place.endpoint, place.key));
        Ok(Found { endpoint: place.endpoint.clone(), by: Some((followed, place)) })
    }

    fn follow(&self, name: Name, security: &Security) -> Result<Followed, Failure> {
        if Name::read(&self.gossip).is_some() {
            return Err(Failure::usage(format!(
                "--gossip {} is found by asking a node, so it can't be that node",
                self.gossip
            ))
            .hint("name its address, such as tcp://127.0.0.1:4833"));
        }
        let endpoint: Endpoint =
            self.gossip.parse().map_err(|error: EndpointError| Failure::usage(format!("--gossip: {error}")))?;
        // One attempt at a time, so that what comes of each is heard
        let plain = Options::of(SocketType::Dealer).reconnect_interval(None);
        let keyed = security.for_connect(&endpoint, plain.clone())?;
        // The keys are for what is looked for; a node on this host has none of its own mostly
        let ways = match endpoint.is_loopback_or_local() && !endpoint.is_encrypted() {
            true => vec![plain, keyed],
            false => vec![keyed],
        };
        Ok(Followed::start(name.clone(), |sender| follow(name, endpoint, ways, sender)))
    }

    /// What is missing, in words
    fn why(&self, seen: &Sighting) -> String {
        match (&seen.obstacle, &seen.unusable[..]) {
            (Some(obstacle), _) => format!("the gossip node at {}: {}", self.gossip, obstacle.words),
            (None, [key, ..]) => format!("'{key}' has no address that can be connected to"),
            (None, []) => format!("nobody has announced it to the node at {}", self.gossip),
        }
    }

    fn not_found(&self, name: &Name, seen: &Sighting, limit: Duration) -> Failure {
        let why = self.why(seen);
        let within = display_about(limit);
        match &seen.obstacle {
            Some(obstacle) if obstacle.is_refusal => {
                return Failure::new(Exit::Refused, "refused", format!("{name} can't be looked up: {why}"))
                    .hint("`tidings gossip status` with the same --gossip and keys says more; --gossip ENDPOINT names another node");
            }
            Some(_) if !seen.is_complete => {
                return Failure::new(Exit::Connect, "connect", format!("{name} can't be looked up: {why}"))
                    .hint("`tidings serve` starts a node on this host; --gossip ENDPOINT names another");
            }
            _ => {}
        }
        Failure::new(Exit::Deadline, "not-announced", format!("{name} was not found within {within}: {why}")).hint(
            "`tidings gossip ls endpoint/` lists what is announced; `gossip.announce = true` has a node announce what it serves",
        )
    }
}

/// Asks, hears what changes, and begins anew when the node is lost
async fn follow(name: Name, endpoint: Endpoint, ways: Vec<Options>, seen: watch::Sender<Sighting>) {
    // Of its own: what happens to this connection is no news of the command's
    let context = Context::new();
    for options in ways.iter().cycle() {
        let opened = timeout(TRY, Asker::open(&context, &endpoint, options.clone())).await;
        let error = match opened {
            Ok(Ok(asker)) => Some(listen(&name, &asker, &seen).await),
            Ok(Err(error)) => Some(error),
            Err(_) => None,
        };
        let obstacle = match &error {
            None => Obstacle { words: NOBODY.to_owned(), is_refusal: false },
            Some(AskError::Foreign(Foreign::Zgossip)) => {
                Obstacle { words: "it is a zgossip node of CZMQ, which can't be asked".to_owned(), is_refusal: true }
            }
            Some(error) => Obstacle {
                words: escape(error.to_string().as_bytes()),
                is_refusal: matches!(
                    error,
                    AskError::Foreign(_) | AskError::Refused(_) | AskError::Connect(ConnectError::Refused { .. })
                ),
            },
        };
        seen.send_modify(|sighting| sighting.obstacle = Some(obstacle));
        tokio::time::sleep(PAUSE).await;
    }
}

/// Hears what a node knows of the name, until something ends that
async fn listen(name: &Name, asker: &Asker, seen: &watch::Sender<Sighting>) -> AskError {
    let prefixes = name.prefixes();
    let (mut missing, mut refused) = (PREFIXES, 0);
    for prefix in prefixes {
        if let Err(error) = asker.send([Bytes::from_static(b"WATCH"), prefix.into()]).await {
            return error;
        }
    }
    let mut known = Known::new(name.clone());
    loop {
        let is_news = match asker.next().await {
            Ok(Answer::Tuple(tuple) | Answer::Put(tuple)) => known.put(&tuple.key, &tuple.value),
            Ok(Answer::Removed { key, .. }) => known.remove(&key),
            Ok(Answer::End) => {
                missing = missing.saturating_sub(1);
                missing == 0
            }
            // One of the two may be read, the other not: what can be known is told
            Err(AskError::Refused(why)) if missing > 0 => {
                refused += 1;
                if refused == PREFIXES {
                    return AskError::Refused(why);
                }
                missing -= 1;
                missing == 0
            }
            // What is still true is told again from the start
            Ok(Answer::Missed) => return AskError::Lost,
            Ok(other) => return AskError::Unexpected(format!("{other:?}").chars().take(60).collect()),
            Err(error) => return error,
        };
        if is_news && missing == 0 {
            seen.send_replace(known.sighting(true));
        }
    }
}

/// How many watches there are for a name
const PREFIXES: usize = 2;

/// Where `tidings serve` has its node
const USUAL: &str = "tcp://127.0.0.1:4833";

const NOBODY: &str = "nobody answers";

/// Longest wait for the node before that is told; the attempt goes on
const TRY: Duration = Duration::from_secs(2);

/// Between two attempts
const PAUSE: Duration = Duration::from_millis(200);

/// How long a command is silent before it says what it waits for
const PATIENCE: Duration = Duration::from_secs(1);

//! One conversation with a broker: a DEALER of its own, from the handshake to the end.
//!
//! RFC 7 has a worker that hears DISCONNECT or nothing begin a new conversation with a new socket, and clients that give
//! a request up do so too. So a socket here never reconnects: when its connection is lost the conversation is over, and
//! when the next one begins is decided by the states of client and worker, [`Requests`](crate::client::Requests) and
//! [`Jobs`](crate::worker::Jobs).

use std::sync::Arc;
use std::time::{Duration, Instant};

use tidings_socket::{Backoff, ConnectError, Context, Endpoint, Options, Socket, SocketError};
use tidings_zmtp::{Message, SocketType};
use tokio_util::sync::CancellationToken;

use crate::inline;
use crate::wire::{TIDINGS_PROPERTY, TIDINGS_PROPERTY_VALUE, Wire};

/// Names a conversation of a client or worker; a later one never bears the same
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ConversationId(pub u64);

/// Why a conversation ended or did not come about
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Loss {
    /// The connection was lost, or none came about; trying again may help
    #[error("{0}")]
    Connection(String),
    /// The broker or this side said no for who the other one is: somebody has to change something first
    #[error("{0}")]
    Refused(String),
    /// The broker said DISCONNECT; a new conversation may be begun (RFC 7)
    #[error("the broker ended the conversation")]
    Disconnected,
    /// Nothing was heard from the broker for as long as that; its connection may look alive all the same
    #[error("nothing heard from the broker for {0:?}")]
    Silent(Duration),
}

impl Loss {
    /// Its name in counters and events; it doesn't change from release to release
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Connection(_) => "connection-lost",
            Self::Refused(_) => "refused",
            Self::Disconnected => "disconnected",
            Self::Silent(_) => "silent",
        }
    }
}

/// The sentence without its second "can't connect", which the cause begins with as well
fn said_once(text: &str) -> String {
    match text.split_once(": can't connect") {
        Some((first, cause)) => format!("{first}: {}", cause.split_once(": ").map_or(cause, |(_, why)| why)),
        None => text.to_owned(),
    }
}

impl From<ConnectError> for Loss {
    fn from(error: ConnectError) -> Self {
        match &error {
            ConnectError::Refused { .. } | ConnectError::Security { .. } => Self::Refused(error.to_string()),
            _ => Self::Connection(said_once(&error.to_string())),
        }
    }
}

/// What a state asks its driver for
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Make a socket, connect it, and say how that ended
    Open(ConversationId),
    /// Send what is queued and close the socket; nothing that it says counts any more
    Close(ConversationId),
}

/// When a conversation is tried again: first soon, then later and later, never all clients at once
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retry {
    /// The first wait; each is drawn from its upper half. Default: 100 ms
    pub interval: Duration,
    /// What it grows to. Default: 5 s
    pub most: Duration,
    /// The wait after a refusal for who we are. Default: 60 s
    pub refused: Duration,
}

impl Default for Retry {
    fn default() -> Self {
        Self { interval: Duration::from_millis(100), most: Duration::from_secs(5), refused: Duration::from_secs(60) }
    }
}

/// Waits between conversations, drawn at random
#[derive(Clone, Debug)]
pub(crate) struct Waits {
    soon: Backoff,
    refused: Backoff,
    retry: Retry,
    began: Option<Instant>,
}

impl Waits {
    pub(crate) fn new(retry: Retry, seed: u64) -> Self {
        Self {
            soon: Backoff::new(Some(retry.interval), retry.most, seed),
            refused: Backoff::new(Some(retry.refused), Duration::ZERO, seed.rotate_left(32)),
            retry,
            began: None,
        }
    }

    /// A conversation begins
    pub(crate) fn on_open(&mut self, now: Instant) {
        self.began = Some(now);
    }

    /// The broker said something sensible, which a wrong one would not
    pub(crate) fn on_heard(&mut self) {
        if self.began.take().is_some() {
            self.soon.reset();
        }
    }

    /// When the next conversation is to be tried after this one
    pub(crate) fn next(&mut self, now: Instant, loss: &Loss) -> Instant {
        if self.began.take().is_some_and(|began| now.saturating_duration_since(began) >= self.retry.most) {
            self.soon.reset();
        }
        let wait = match loss {
            Loss::Refused(_) => self.refused.next_wait(),
            _ => self.soon.next_wait(),
        };
        now + wait.unwrap_or(self.retry.interval)
    }
}

/// Whoever has conversations; none of its own locks may be held when a socket is called, since a socket calls back at once
pub(crate) trait Party: Send + Sync + 'static {
    /// The handshake is done; `wire` is what the broker announced, if it did
    fn on_open(self: &Arc<Self>, id: ConversationId, wire: Option<Wire>);
    /// Messages came; called in whichever task or thread delivers them
    fn on_messages(self: &Arc<Self>, id: ConversationId, messages: &mut Vec<Message>);
    /// It is over by itself, or did not come about
    fn on_lost(self: &Arc<Self>, id: ConversationId, loss: Loss);
    /// Its socket is closed and has sent what it could
    fn on_closed(self: &Arc<Self>, id: ConversationId);
}

/// A conversation under way
#[derive(Clone, Debug)]
pub(crate) struct Conversation {
    pub(crate) id: ConversationId,
    pub(crate) socket: Socket,
    stop: CancellationToken,
}

impl Conversation {
    /// A socket for one, not connected yet
    ///
    /// # Errors
    /// No socket could be made, and nothing more is heard of it.
    pub(crate) fn new(id: ConversationId, context: &Context, options: &Options) -> Result<Self, Loss> {
        match context.socket_with(SocketType::Dealer, options.clone()) {
            Ok(socket) => Ok(Self { id, socket, stop: CancellationToken::new() }),
            Err(SocketError::Closed) => Err(Loss::Refused("the context is closed".to_owned())),
            Err(error) => Err(Loss::Connection(error.to_string())),
        }
    }

    /// Connects it; the party, who knows the socket by now, hears of it from here on
    pub(crate) fn begin<P: Party>(&self, party: &Arc<P>, context: &Context, endpoint: &Endpoint) {
        let (id, party, socket, stop) = (self.id, party.clone(), self.socket.clone(), self.stop.clone());
        let endpoint = endpoint.clone();
        context.spawn(async move {
            tokio::select! {
                biased;
                () = stop.cancelled() => {}
                loss = converse(id, &party, &socket, &endpoint) => {
                    party.on_lost(id, loss);
                    stop.cancelled().await;
                }
            }
            // What was queued last tells the broker that this is the end
            socket.close(FAREWELL).await;
            party.on_closed(id);
        });
    }

    #[cfg(test)]
    pub(crate) fn is_ended(&self) -> bool {
        self.stop.is_cancelled()
    }

    /// Has its socket send what is queued, and close
    pub(crate) fn end(&self) {
        self.stop.cancel();
    }
}

/// Up to the end of its connection
async fn converse<P: Party>(id: ConversationId, party: &Arc<P>, socket: &Socket, endpoint: &Endpoint) -> Loss {
    let connecting = match socket.connect(endpoint) {
        Ok(connecting) => connecting,
        Err(error) => return Loss::Connection(error.to_string()),
    };
    let peer = match connecting.await {
        Ok(peer) => peer,
        Err(error) => return error.into(),
    };
    let is_ours = peer.properties.value(TIDINGS_PROPERTY).is_some_and(|value| value == TIDINGS_PROPERTY_VALUE);
    party.on_open(id, is_ours.then_some(Wire::Tidings));
    let receiving = {
        let (party, socket) = (party.clone(), socket.clone());
        async move {
            let mut batch = Vec::new();
            while socket.recv_many(&mut batch, BATCH).await.is_ok() {
                party.on_messages(id, &mut batch);
                batch.clear();
            }
        }
    };
    inline::run(receiving);
    socket.deserted().await;
    // What came before the end counts, also if its turn has not come yet
    let mut batch = Vec::new();
    while socket.try_recv_many(&mut batch, BATCH).is_ok() {
        party.on_messages(id, &mut batch);
        batch.clear();
    }
    Loss::Connection("the connection to the broker was lost".to_owned())
}

/// The options of a conversation's socket, from those that were given
pub(crate) fn socket_options(given: Options) -> Options {
    let text = given.value("heartbeat_interval").map(|value| value.to_string()).unwrap_or_default();
    let given = match text.as_str() {
        // Where the broker's machine is gone without a word only this tells
        "0" => given.heartbeat_interval(Some(PING_INTERVAL)).heartbeat_timeout(Some(PING_TIMEOUT)),
        _ => given,
    };
    given.reconnect_interval(None).send_timeout(None).recv_timeout(None).linger(Some(FAREWELL))
}

/// Messages received under one lock
const BATCH: usize = 256;
/// How long a socket whose conversation is over goes on sending
const FAREWELL: Duration = Duration::from_secs(1);
const PING_INTERVAL: Duration = Duration::from_secs(2);
const PING_TIMEOUT: Duration = Duration::from_secs(6);

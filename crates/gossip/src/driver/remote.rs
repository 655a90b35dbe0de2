//! A connection that a node makes: dialled, used while it lasts, and dialled again.
//!
//! Each connection is a DEALER of its own, so that the node knows exactly which frames went to which conversation: what was queued
//! for a lost connection is not sent to the next one, where it might come before HELLO. The socket tells all that concerns its
//! security and transport; when to try again is decided here.

use std::sync::Arc;
use std::time::Duration;

use tidings_socket::{Backoff, ConnectError, CurvePublicKey, Endpoint, Options, Socket, SocketError, SocketType};
use tokio::sync::{Notify, mpsc, watch};

use super::house::Signals;
use super::options::{ConnectOptions, FAREWELL, PROPERTY, PROPERTY_VALUE};
use super::{Shared, now};
use crate::config::{LinkInfo, Side, Wire};
use crate::event::HangUp;

/// What a first attempt came to, as whoever asked for the connection is told
pub(super) type Outcome = Result<(), ConnectError>;

/// An endpoint that a node is connected to, as its list has it
pub(super) struct Remote {
    pub(super) stop: Arc<Stop>,
    /// Told apart from an earlier one of the same endpoint
    pub(super) number: u64,
    pub(super) explicit: bool,
}

/// Ends a remote's task, once
#[derive(Debug, Default)]
pub(super) struct Stop(Notify);

impl Stop {
    pub(super) fn stop(&self) {
        self.0.notify_one();
    }
}

/// The task of one endpoint
pub(super) struct Dialling {
    pub(super) shared: Arc<Shared>,
    pub(super) endpoint: Endpoint,
    pub(super) how: ConnectOptions,
    pub(super) explicit: bool,
    pub(super) number: u64,
    pub(super) stop: Arc<Stop>,
    pub(super) outcome: watch::Sender<Option<Outcome>>,
    /// Held as long as the task runs
    pub(super) running: mpsc::Sender<()>,
}

/// How one connection ended
enum Ended {
    /// Nobody wants it any more
    Stopped,
    /// It was lost, or none came about
    Lost(String),
    /// The peer broke off during the handshake: once it may just be stopping, but if that goes on a key is wrong
    BrokenOff(ConnectError),
    /// Somebody has to change something first
    Refused(String),
    /// The node itself ended it
    HungUp(HangUp),
}

impl Ended {
    /// Why there is no connection, unless that was wanted here
    fn why(&self) -> Option<String> {
        match self {
            Self::Lost(why) | Self::Refused(why) => Some(why.clone()),
            Self::BrokenOff(error) => Some(error.to_string()),
            Self::Stopped | Self::HungUp(_) => None,
        }
    }
}

impl Dialling {
    /// Until it is stopped, or a connection that the node made itself is lost
    pub(super) async fn run(self) {
        let options = self.shared.terms.of_connect(&self.how);
        let mut waits = Waits::new(&self.how.options.clone().unwrap_or_else(|| self.shared.terms.options.clone()));
        let mut broken_off = 0_u32;
        loop {
            let began = now();
            let ended = self.converse(&options).await;
            broken_off = if matches!(ended, Ended::BrokenOff(_)) { broken_off + 1 } else { 0 };
            if now().saturating_duration_since(began) >= waits.most {
                waits.soon.reset();
            }
            let wait = match &ended {
                Ended::Stopped => break,
                // Each time later: it may be for ever
                Ended::BrokenOff(_) => waits.soon.next_wait_up_to(waits.rarely.interval().unwrap_or(MOST)),
                Ended::Lost(_) | Ended::HungUp(HangUp::Left | HangUp::Leaving | HangUp::Crowded | HangUp::Stuck) => {
                    waits.soon.next_wait()
                }
                Ended::Refused(_) | Ended::HungUp(_) => waits.rarely.next_wait(),
            };
            if let Some(why) = ended.why() {
                self.shared.with_house(|house, now| house.log.dial(now, &self.endpoint.to_string(), &why));
            }
            if let Ended::BrokenOff(error) = ended
                && broken_off >= SUSPICIOUS
            {
                self.settle(Err(error));
            }
            let Some(wait) = wait.filter(|_| self.explicit) else { break };
            tokio::select! {
                biased;
                () = self.stop.0.notified() => break,
                () = tokio::time::sleep(wait) => {}
            }
        }
        self.shared.with_house(|house, _| {
            let name = self.endpoint.to_string();
            if house.remotes.get(&name).is_some_and(|remote| remote.number == self.number) {
                house.remotes.remove(&name);
            }
        });
        self.settle(Err(ConnectError::Closed));
        drop(self.running);
    }

    /// One connection from beginning to end
    async fn converse(&self, options: &Options) -> Ended {
        let socket = match self.shared.context.socket_with(SocketType::Dealer, options.clone()) {
            Ok(socket) => socket,
            Err(SocketError::Closed) => return Ended::Stopped,
            Err(error) => return self.failed(Ended::Lost(error.to_string())),
        };
        let connecting = match socket.connect(&self.endpoint) {
            Ok(connecting) => connecting,
            Err(error) => return self.failed(Ended::Refused(error.to_string())),
        };
        let connected = tokio::select! {
            biased;
            () = self.stop.0.notified() => return Ended::Stopped,
            connected = connecting.into_future() => connected,
        };
        let peer = match connected {
            Ok(peer) => peer,
            Err(ConnectError::Closed) => return Ended::Stopped,
            Err(error @ ConnectError::GaveUp { breaks_off: true, .. }) => return self.failed(Ended::BrokenOff(error)),
            Err(error) => {
                let why = error.to_string();
                let refused = matches!(error, ConnectError::Refused { .. } | ConnectError::Security { .. });
                if refused {
                    self.settle(Err(error));
                }
                return self.failed(if refused { Ended::Refused(why) } else { Ended::Lost(why) });
            }
        };
        let ours = peer.properties.value(PROPERTY).is_some_and(|value| value == PROPERTY_VALUE);
        let info = LinkInfo {
            side: Side::Remote,
            wire: if ours { Wire::Tidings } else { Wire::ZGossip },
            endpoint: self.endpoint.to_string(),
            key: server_key(options).map(|key| *key.as_octets()),
            explicit: self.explicit,
            // Whoever is connected to is trusted to tell of the others
            is_leaf: false,
        };
        let signals = Arc::new(Signals::default());
        let link = self.shared.with(|house, now| house.open_server(now, &socket, &signals, info));
        self.settle(Ok(()));
        let ended = self.use_it(&socket, &signals, link).await;
        let why = match &ended {
            Ended::HungUp(reason) => reason.name().to_owned(),
            ended => ended.why().unwrap_or_else(|| "disconnected here".to_owned()),
        };
        self.shared.with(|house, now| house.close_server(now, link, &why));
        if !matches!(ended, Ended::Lost(_)) {
            // What was queued last is still sent
            socket.close(FAREWELL).await;
        }
        ended
    }

    /// A connection that the node made itself is not tried again: it is told, and chooses another
    fn failed(&self, ended: Ended) -> Ended {
        if !self.explicit {
            self.shared.with(|house, now| house.node.handle_dial_failed(now, &self.endpoint.to_string()));
        }
        ended
    }

    /// While the connection lasts
    async fn use_it(&self, socket: &Socket, signals: &Signals, link: crate::LinkId) -> Ended {
        let deserted = socket.deserted();
        tokio::pin!(deserted);
        let mut batch = Vec::new();
        let mut room = std::pin::pin!(None);
        loop {
            let waits_for_room = room.is_some();
            tokio::select! {
                biased;
                () = self.stop.0.notified() => return Ended::Stopped,
                () = signals.hung_up.notified() => {
                    let reason = *signals.hang_up.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
                    return reason.map_or(Ended::Stopped, Ended::HungUp);
                }
                // Before what is received, which may never end. The wait begins before the next try, so that no room is missed
                () = signals.stuck.notified(), if !waits_for_room => {
                    room.set(Some(socket.writable()));
                    self.shared.with(|house, now| house.node.handle_writable(now, link));
                }
                () = wait_for(room.as_mut()), if waits_for_room => {
                    room.set(None);
                    self.shared.with(|house, now| house.node.handle_writable(now, link));
                }
                received = socket.recv_many(&mut batch, BATCH) => match received {
                    Ok(_) => self.deliver(link, &mut batch),
                    Err(_) => return Ended::Stopped,
                },
                () = &mut deserted => {
                    // What came before the end counts
                    while socket.try_recv_many(&mut batch, BATCH).is_ok() {
                        self.deliver(link, &mut batch);
                    }
                    return Ended::Lost("the connection was lost".to_owned());
                }
            }
        }
    }

    fn deliver(&self, link: crate::LinkId, batch: &mut Vec<tidings_socket::Message>) {
        self.shared.with(|house, now| {
            batch.drain(..).for_each(|message| house.node.handle_message(now, link, message));
        });
    }

    /// Tells whoever awaits the connection, unless it was told before
    fn settle(&self, outcome: Outcome) {
        self.outcome.send_if_modified(|told| {
            let first = told.is_none();
            if first {
                *told = Some(outcome);
            }
            first
        });
    }
}

/// The key that the server has proved to hold, if CURVE was spoken
fn server_key(options: &Options) -> Option<CurvePublicKey> {
    options.value("curve_server_key").ok()?.to_string().parse().ok()
}

async fn wait_for<F: Future<Output = ()>>(room: std::pin::Pin<&mut Option<F>>) {
    match room.as_pin_mut() {
        Some(room) => room.await,
        None => std::future::pending().await,
    }
}

/// When a connection is tried again
struct Waits {
    soon: Backoff,
    rarely: Backoff,
    most: Duration,
}

impl Waits {
    fn new(options: &Options) -> Self {
        let duration = |name: &str| match options.value(name) {
            Ok(tidings_socket::OptionValue::Number(ms)) => u64::try_from(ms).ok().map(Duration::from_millis),
            _ => None,
        };
        let most = duration("reconnect_interval_max").filter(|most| !most.is_zero()).unwrap_or(MOST);
        let seed = super::random();
        Self {
            soon: Backoff::new(duration("reconnect_interval"), most, seed),
            rarely: Backoff::new(duration("refused_retry_interval"), Duration::ZERO, seed.rotate_left(32)),
            most,
        }
    }
}

/// Broken off so often in a row, whoever awaits the connection is told; as the sockets themselves have it
const SUSPICIOUS: u32 = 3;
/// Messages handled under one lock
const BATCH: usize = 256;
/// What the wait between two tries grows to, where the options set nothing
const MOST: Duration = Duration::from_secs(2);

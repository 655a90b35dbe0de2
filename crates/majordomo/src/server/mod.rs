//! A running broker: one ROUTER socket around a [`Broker`].
//!
//! [`Server::start`] spawns the loop that carries messages between the two; no decision is made there. The socket is bound
//! by whoever starts the server, to as many endpoints as wanted, before or after. To be heard of by a broker is enough for
//! any wire: it is told by its first frames.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tidings_socket::{Options, Origin, RouterSocket};
use tokio::sync::{Notify, mpsc, watch};

use crate::broker::{Access, Broker, BrokerConfig, BrokerStats, Local, WorkerStats};
use crate::wire::{ServiceName, TIDINGS_PROPERTY, TIDINGS_PROPERTY_VALUE};

mod driver;
use driver::Driver;
mod log;
mod peers;
use peers::Peers;

/// A broker that runs
///
/// Cheap to clone; the loop ends when it is stopped or its socket is closed, not when handles are dropped.
#[derive(Clone, Debug)]
pub struct Server {
    shared: Arc<Shared>,
    ended: watch::Receiver<Option<StopReport>>,
}

/// What a server is made of, before it runs
pub struct ServerBuilder {
    socket: RouterSocket,
    config: BrokerConfig,
    permit: Option<Arc<PermitPeer>>,
}

/// Whether the peer at the other end of a connection may do that with a service
pub type PermitPeer = dyn Fn(&Origin, Access, &ServiceName) -> bool + Send + Sync;

/// What was left when a server stopped
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub struct StopReport {
    /// Requests without an answer at the deadline; refused with `503` where the wire has a word for it
    pub unanswered: usize,
    /// Workers that were sent DISCONNECT
    pub workers: usize,
    /// Messages that could not be written any more
    pub unsent: u64,
}

impl StopReport {
    /// Whether everybody was answered
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.unanswered == 0 && self.unsent == 0
    }
}

/// What loop and handles share
pub(crate) struct Shared {
    /// Locked for a batch of messages, never while waiting
    broker: Mutex<Broker>,
    peers: Arc<Mutex<Peers>>,
    /// Somebody did something with the broker
    touched: Notify,
    stop: Mutex<Option<Instant>>,
}

/// What workers and clients in the server's own process are sent, in order
#[derive(Debug)]
pub struct Locals {
    received: mpsc::UnboundedReceiver<Local>,
}

impl Locals {
    /// The next one; `None` when the server has ended
    ///
    /// # Cancel safety
    /// Safe: nothing is lost.
    pub async fn next(&mut self) -> Option<Local> {
        self.received.recv().await
    }

    /// The next one, if it is there
    pub fn try_next(&mut self) -> Option<Local> {
        self.received.try_recv().ok()
    }
}

impl Server {
    /// A broker on this socket, with these times and bounds; see [`ServerBuilder`]
    #[must_use]
    pub fn builder(socket: RouterSocket, config: BrokerConfig) -> ServerBuilder {
        ServerBuilder { socket, config, permit: None }
    }

    /// Starts a broker on this socket, with these times and bounds
    ///
    /// The socket's options are set as [`socket_options`](Self::socket_options) has them; connections that were made before
    /// don't hear of our own wire. Has to be called within a tokio runtime.
    #[must_use]
    pub fn start(socket: RouterSocket, config: BrokerConfig) -> Self {
        Self::builder(socket, config).start().0
    }

    /// What a broker needs of its socket, on top of other options
    ///
    /// A connection's end is told in band, what can't be sent is told, peers hear that our own wire is spoken, and queues
    /// are long enough for all that one client may have under way.
    #[must_use]
    pub fn socket_options(options: Options) -> Options {
        options
            .router_mandatory(true)
            .router_notify(NOTIFY_DISCONNECT)
            .send_hwm(SEND_HWM)
            .send_hwm_octets(SEND_HWM_OCTETS)
            .metadata(format!("{TIDINGS_PROPERTY}:{TIDINGS_PROPERTY_VALUE}"))
    }

    /// Its state and what it counted
    #[must_use]
    pub fn stats(&self) -> BrokerStats {
        self.shared.broker().stats(now())
    }

    /// Its workers, of one service if that is given, and their addresses as events name them; no address in the same process
    #[must_use]
    pub fn workers(&self, of: Option<&ServiceName>) -> Vec<(WorkerStats, Option<Arc<str>>)> {
        let workers = self.shared.broker().worker_stats(now(), of);
        let peers = self.shared.peers();
        let address =
            |worker: &WorkerStats| worker.peer.and_then(|peer| peers.origin(peer)).map(|of| of.address.clone());
        workers
            .into_iter()
            .map(|worker| (address(&worker), worker))
            .map(|(address, worker)| (worker, address))
            .collect()
    }

    /// Lets a service run dry; see [`Broker::drain`]
    pub fn drain(&self, service: &ServiceName) -> bool {
        self.with(|broker, now| broker.drain(now, service))
    }

    /// Asks anew who may what, as access rules have changed; see [`Broker::forget_permits`]
    pub fn forget_permits(&self) {
        self.shared.broker().forget_permits();
    }

    /// Does something with the broker, as a worker or client in the same process; what comes of it is sent afterwards
    ///
    /// `act` runs under the broker's lock: it must be short, and must not call this server.
    pub fn with<T>(&self, act: impl FnOnce(&mut Broker, Instant) -> T) -> T {
        let done = act(&mut self.shared.broker(), now());
        self.shared.touched.notify_one();
        done
    }

    /// Stops in good order: takes no new requests, waits for those under way until the deadline, disconnects the workers
    /// and closes the socket
    ///
    /// # Cancel safety
    /// The server stops all the same; [`ended`](Self::ended) tells when.
    pub async fn stop(&self, deadline: Duration) -> StopReport {
        self.with(|broker, now| broker.begin_stop(now));
        let until = now() + deadline;
        *self.shared.stop.lock().unwrap_or_else(PoisonError::into_inner) = Some(until);
        self.shared.touched.notify_one();
        self.ended().await
    }

    /// Waits until it has stopped, or its socket was closed
    ///
    /// # Cancel safety
    /// Safe: it only waits.
    pub async fn ended(&self) -> StopReport {
        let mut ended = self.ended.clone();
        match ended.wait_for(Option::is_some).await {
            Ok(report) => (*report).unwrap_or_default(),
            // The runtime was shut down with the loop in it
            Err(_) => StopReport::default(),
        }
    }
}

impl ServerBuilder {
    /// Asks this whether a peer may call a service, work for one or drain one, once for a peer and a service
    ///
    /// Without it everybody may call and work, and nobody drain.
    #[must_use]
    pub fn permit(mut self, permit: impl Fn(&Origin, Access, &ServiceName) -> bool + Send + Sync + 'static) -> Self {
        self.permit = Some(Arc::new(permit));
        self
    }

    /// Starts it; has to be called within a tokio runtime
    ///
    /// What workers and clients in the same process are sent comes from [`Locals`]; those who have none drop it.
    #[must_use]
    pub fn start(self) -> (Server, Locals) {
        let Self { socket, config, permit } = self;
        socket.as_socket().set_options(Server::socket_options);
        let mut broker = Broker::new(config, random(), now());
        let peers = Arc::new(Mutex::new(Peers::default()));
        if let Some(permit) = permit {
            let peers = peers.clone();
            broker.set_permit(Box::new(move |peer, access, service: &ServiceName| {
                let origin = peers.lock().unwrap_or_else(PoisonError::into_inner).origin(peer).cloned();
                origin.is_some_and(|origin| permit(&origin, access, service))
            }));
        }
        let shared =
            Arc::new(Shared { broker: Mutex::new(broker), peers, touched: Notify::new(), stop: Mutex::new(None) });
        let (locals, received) = mpsc::unbounded_channel();
        let (end, ended) = watch::channel(None);
        let driver = Driver::new(socket.into(), shared.clone(), locals);
        tokio::spawn(async move {
            let report = driver.run().await;
            end.send_replace(Some(report));
        });
        (Server { shared, ended }, Locals { received })
    }
}

impl Shared {
    fn broker(&self) -> MutexGuard<'_, Broker> {
        self.broker.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn peers(&self) -> MutexGuard<'_, Peers> {
        self.peers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn stop_at(&self) -> Option<Instant> {
        *self.stop.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared").finish_non_exhaustive()
    }
}

impl std::fmt::Debug for ServerBuilder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ServerBuilder").field("config", &self.config).finish_non_exhaustive()
    }
}

/// The runtime's time, which tests may hold still
fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

/// A number that nobody outside can foresee
fn random() -> u64 {
    std::hash::BuildHasher::hash_one(&std::hash::RandomState::new(), 0)
}

/// `router_notify`: tell when a peer disconnects
const NOTIFY_DISCONNECT: u8 = 2;
/// As many as one client may have under way by default, and as many again
const SEND_HWM: u32 = 20_000;
/// As long as the largest body by default: a client that reads none of its replies makes the broker hold no more
const SEND_HWM_OCTETS: u64 = 64 << 20;

//! A proxy between two sockets that can be steered: pause, resume, terminate, statistics.
//!
//! For XSUB/XPUB, ROUTER/DEALER, PULL/PUSH and whatever else receives on one side and sends on the
//! other. Messages pass as they are: frames are shared, never copied.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use serde::Serialize;
use tidings_zmtp::{Message, SocketType};
use tokio::sync::watch;

use crate::error::{RecvError, SendFailure};
use crate::socket::Socket;

/// A proxy that is not running yet
#[derive(Debug)]
#[must_use]
pub struct Proxy {
    frontend: Socket,
    backend: Socket,
    capture: Option<Socket>,
}

/// A running proxy: steers it and reads its figures
///
/// Cheap to clone. Dropping the last handle does not end the proxy; [`terminate`](Self::terminate) does,
/// and so does closing either socket.
#[derive(Clone, Debug)]
pub struct ProxyHandle {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    state: watch::Sender<ProxyState>,
    /// Directions that still run
    running: watch::Sender<usize>,
    forward: Counter,
    back: Counter,
    uncaptured: AtomicU64,
}

/// Whether messages pass
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum ProxyState {
    /// Messages pass
    Running,
    /// Nothing is taken from either side; queues fill up to their bounds
    Paused,
    /// Over for good
    Terminated,
}

/// What passed in one direction
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Flow {
    /// Messages
    pub messages: u64,
    /// Octets of their frames
    pub octets: u64,
    /// Messages that the sending side would not take, such as replies to a peer that is gone
    pub refused: u64,
}

/// What passed through a proxy
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct ProxyStatistics {
    /// Whether messages pass
    pub state: ProxyState,
    /// From the frontend to the backend
    pub forward: Flow,
    /// From the backend to the frontend
    pub back: Flow,
    /// Copies that the capture socket had no room for
    pub uncaptured: u64,
}

/// Why two sockets can't be proxied
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ProxyError {
    /// Neither side can receive what the other can send
    #[error(
        "nothing can pass between a {frontend} and a {backend}; proxies join XSUB with XPUB, ROUTER with DEALER, PULL with PUSH"
    )]
    NothingToPass {
        /// The frontend's type
        frontend: SocketType,
        /// The backend's type
        backend: SocketType,
    },
    /// The capture socket can't send
    #[error("a {0} can't capture; use PUB, PUSH, DEALER or PAIR")]
    Capture(SocketType),
}

#[derive(Debug, Default)]
struct Counter {
    messages: AtomicU64,
    octets: AtomicU64,
    refused: AtomicU64,
}

impl Proxy {
    /// A proxy between two sockets, which the caller binds and connects
    pub fn new(frontend: impl Into<Socket>, backend: impl Into<Socket>) -> Self {
        Self { frontend: frontend.into(), backend: backend.into(), capture: None }
    }

    /// Has a copy of every message sent to a PUB, PUSH, DEALER or PAIR; one that has no room misses it
    pub fn capture(mut self, socket: impl Into<Socket>) -> Self {
        self.capture = Some(socket.into());
        self
    }

    /// Starts it on the runtime of the frontend's context
    ///
    /// # Errors
    /// The types do not fit; see [`ProxyError`].
    pub fn spawn(self) -> Result<ProxyHandle, ProxyError> {
        let (frontend, backend) = (self.frontend.socket_type(), self.backend.socket_type());
        let forward = receives(frontend) && sends(backend);
        let back = receives(backend) && sends(frontend);
        if !forward && !back {
            return Err(ProxyError::NothingToPass { frontend, backend });
        }
        if let Some(capture) = self.capture.as_ref().map(Socket::socket_type).filter(|capture| !sends(*capture)) {
            return Err(ProxyError::Capture(capture));
        }
        let inner = Arc::new(Inner {
            state: watch::Sender::new(ProxyState::Running),
            running: watch::Sender::new(usize::from(forward) + usize::from(back)),
            forward: Counter::default(),
            back: Counter::default(),
            uncaptured: AtomicU64::new(0),
        });
        let context = self.frontend.context().clone();
        for (wanted, is_forward) in [(forward, true), (back, false)] {
            if !wanted {
                continue;
            }
            let (from, to) = match is_forward {
                true => (self.frontend.clone(), self.backend.clone()),
                false => (self.backend.clone(), self.frontend.clone()),
            };
            let direction = Direction { from, to, capture: self.capture.clone(), inner: inner.clone(), is_forward };
            context.spawn(direction.run());
        }
        Ok(ProxyHandle { inner })
    }
}

impl ProxyHandle {
    /// Stops taking messages; what one side had taken is still delivered. Nothing happens if it isn't running.
    pub fn pause(&self) {
        self.steer(ProxyState::Running, ProxyState::Paused);
    }

    /// Goes on after a pause
    pub fn resume(&self) {
        self.steer(ProxyState::Paused, ProxyState::Running);
    }

    /// Ends the proxy; its sockets stay open
    ///
    /// What it had taken and the other side has no room for is dropped and counted as refused.
    pub fn terminate(&self) {
        self.inner.state.send_replace(ProxyState::Terminated);
    }

    fn steer(&self, from: ProxyState, to: ProxyState) {
        self.inner.state.send_if_modified(|state| {
            let steers = *state == from;
            if steers {
                *state = to;
            }
            steers
        });
    }

    /// Waits until the proxy has ended, and returns its last figures
    ///
    /// # Cancel safety
    /// Safe: it only waits.
    pub async fn join(&self) -> ProxyStatistics {
        // An error would say that the sender is gone, and this handle holds it
        self.inner.running.subscribe().wait_for(|running| *running == 0).await.ok();
        self.statistics()
    }

    /// What has passed so far
    #[must_use]
    pub fn statistics(&self) -> ProxyStatistics {
        ProxyStatistics {
            state: *self.inner.state.borrow(),
            forward: self.inner.forward.read(),
            back: self.inner.back.read(),
            uncaptured: self.inner.uncaptured.load(Ordering::Relaxed),
        }
    }
}

/// One way through a proxy
struct Direction {
    from: Socket,
    to: Socket,
    capture: Option<Socket>,
    inner: Arc<Inner>,
    is_forward: bool,
}

impl Direction {
    async fn run(self) {
        let mut steering = self.inner.state.subscribe();
        let mut ending = self.inner.state.subscribe();
        let mut batch = Vec::new();
        loop {
            let state = *steering.borrow_and_update();
            match state {
                ProxyState::Terminated => break,
                ProxyState::Paused => {
                    if steering.changed().await.is_err() {
                        break;
                    }
                    continue;
                }
                ProxyState::Running => {}
            }
            let received = tokio::select! {
                biased;
                changed = steering.changed() => match changed {
                    Ok(()) => continue,
                    Err(_) => break,
                },
                received = self.from.recv_many_patiently(&mut batch, BATCH) => received,
            };
            match received {
                Ok(_) => {}
                Err(RecvError::TimedOut(_) | RecvError::WouldBlock | RecvError::PeerGone) => {
                    continue;
                }
                // A lockstep socket waits for its other half
                Err(RecvError::WrongState(_) | RecvError::NotSupported(_) | RecvError::Closed) => {
                    break;
                }
            }
            if !self.pass_on(&mut batch, &mut ending).await {
                break;
            }
        }
        // One side that ends takes the other along: half a proxy helps nobody
        self.inner.state.send_replace(ProxyState::Terminated);
        self.inner.running.send_modify(|running| *running = running.saturating_sub(1));
    }

    /// Sends a batch on; false when the other side is closed
    async fn pass_on(&self, batch: &mut Vec<Message>, steering: &mut watch::Receiver<ProxyState>) -> bool {
        if let Some(capture) = &self.capture {
            for message in batch.iter() {
                let missed = capture.try_send(message.clone()).is_err();
                self.inner.uncaptured.fetch_add(u64::from(missed), Ordering::Relaxed);
            }
        }
        let counter = if self.is_forward { &self.inner.forward } else { &self.inner.back };
        while !batch.is_empty() {
            let (messages, octets) = (batch.len(), octets_of(batch));
            // Sending comes first: at the end, too, what there is room for goes through
            let sent = tokio::select! {
                biased;
                sent = self.to.send_many_patiently(batch) => sent,
                _ = steering.wait_for(|state| *state == ProxyState::Terminated) => Err(SendFailure::WouldBlock),
            };
            match sent {
                Ok(_) => {
                    counter.messages.fetch_add((messages - batch.len()) as u64, Ordering::Relaxed);
                    counter.octets.fetch_add(octets - octets_of(batch), Ordering::Relaxed);
                }
                Err(SendFailure::Closed) => return false,
                Err(SendFailure::WouldBlock) => {
                    // The end: what there is room for now goes through
                    for message in batch.drain(..) {
                        let octets = message.octets() as u64;
                        match self.to.try_send(message) {
                            Ok(()) => {
                                counter.messages.fetch_add(1, Ordering::Relaxed);
                                counter.octets.fetch_add(octets, Ordering::Relaxed);
                            }
                            Err(_) => drop(counter.refused.fetch_add(1, Ordering::Relaxed)),
                        }
                    }
                }
                // The first one can't be sent at all
                Err(_) => drop((batch.remove(0), counter.refused.fetch_add(1, Ordering::Relaxed))),
            }
        }
        true
    }
}

impl Counter {
    fn read(&self) -> Flow {
        Flow {
            messages: self.messages.load(Ordering::Relaxed),
            octets: self.octets.load(Ordering::Relaxed),
            refused: self.refused.load(Ordering::Relaxed),
        }
    }
}

fn receives(socket_type: SocketType) -> bool {
    !matches!(socket_type, SocketType::Pub | SocketType::Push | SocketType::Radio | SocketType::Scatter)
}

fn sends(socket_type: SocketType) -> bool {
    !matches!(socket_type, SocketType::Sub | SocketType::Pull | SocketType::Dish | SocketType::Gather)
}

fn octets_of(messages: &[Message]) -> u64 {
    messages.iter().map(|message| message.octets() as u64).sum()
}

/// Messages taken at once: enough to share the cost of a lock, few enough to stop soon when paused
const BATCH: usize = 256;

//! A context: the runtime that its sockets' connections run on, its inproc names and its events.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;
use std::{io, thread};

use tidings_zmtp::SocketType;
use tokio::runtime::{Builder, Handle, Runtime};
use tokio::sync::{Semaphore, oneshot};

use crate::auth::Authenticator;
use crate::blocking::block_on;
use crate::error::SocketError;
use crate::events::{EventSink, EventStream};
use crate::inproc::{Link, Names, Waiting};
use crate::options::Options;
use crate::shared::{Shared, lock};
use crate::socket::{CloseReport, Socket};
use crate::stats::SocketStats;
use crate::zap;

/// What a group of sockets shares
///
/// Cheap to clone. Made inside a tokio runtime, it runs on that one and no thread is added; made
/// elsewhere, or with [`Context::builder`], it has I/O threads of its own for callers that block.
#[derive(Clone, Debug)]
pub struct Context {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    /// `None` when not even a thread could be had: then every bind and connect fails, and says so
    handle: Option<Handle>,
    owned: Mutex<Option<Owned>>,
    events: EventSink,
    names: Mutex<Names>,
    sockets: Mutex<Vec<Weak<Shared>>>,
    max_sockets: usize,
    blocky: bool,
    closed: Mutex<bool>,
    authenticator: Mutex<Option<Arc<dyn Authenticator>>>,
    zap_requests: Arc<Semaphore>,
    zap_request: AtomicU64,
    random: RandomState,
    drawn: AtomicU64,
}

/// Threads of our own
#[derive(Debug)]
enum Owned {
    /// One thread that runs a current-thread runtime until the sender is dropped
    Thread(#[allow(dead_code, reason = "held so that the thread goes on")] oneshot::Sender<()>),
    Threads(Runtime),
}

/// Chooses what a context has that can't be changed later
#[derive(Clone, Debug)]
#[must_use]
pub struct ContextBuilder {
    io_threads: usize,
    max_sockets: usize,
    blocky: bool,
}

impl Default for Context {
    fn default() -> Self {
        Self::new()
    }
}

impl Context {
    /// A context on the caller's tokio runtime, or with one I/O thread of its own outside of any
    #[must_use]
    pub fn new() -> Self {
        match Handle::try_current() {
            Ok(handle) => ContextBuilder::default().with(Some(handle), None),
            Err(_) => ContextBuilder::default().build().unwrap_or_else(|_| ContextBuilder::default().with(None, None)),
        }
    }

    /// A context with I/O threads of its own, for callers that block
    pub fn builder() -> ContextBuilder {
        ContextBuilder::default()
    }

    /// A socket with libzmq's defaults
    ///
    /// # Errors
    /// [`SocketError::TooManySockets`], [`SocketError::Closed`].
    pub fn socket(&self, socket_type: SocketType) -> Result<Socket, SocketError> {
        self.socket_with(socket_type, Options::of(socket_type))
    }

    /// A socket with these options
    ///
    /// # Errors
    /// As [`Context::socket`].
    pub fn socket_with(&self, socket_type: SocketType, options: Options) -> Result<Socket, SocketError> {
        if *lock(&self.inner.closed) {
            return Err(SocketError::Closed);
        }
        let options = match self.inner.blocky {
            true => options,
            // libzmq's BLOCKY: without it sockets do not linger unless told to
            false => Options { linger: options.linger.or(Some(Duration::ZERO)), ..options },
        };
        let mut sockets = lock(&self.inner.sockets);
        sockets.retain(|socket| socket.strong_count() > 0);
        if sockets.len() >= self.inner.max_sockets {
            return Err(SocketError::TooManySockets { most: self.inner.max_sockets });
        }
        let (socket, shared) = Socket::new(self.clone(), socket_type, options, self.inner.events.clone());
        sockets.push(Arc::downgrade(&shared));
        Ok(socket)
    }

    /// The lifecycle events of all sockets of this context, from now on
    #[must_use]
    pub fn events(&self) -> EventStream {
        self.inner.events.stream(None)
    }

    /// A row of figures for each socket that is open or still closing
    #[must_use]
    pub fn sockets(&self) -> Vec<SocketStats> {
        self.live().iter().map(|shared| SocketStats::of(shared)).collect()
    }

    /// Has `authenticator` decide who may come in, on all sockets of this context; `None` has nobody
    ///
    /// Holds for handshakes from now on. An external handler, a REP, ROUTER or SERVER socket of this context bound to
    /// `inproc://zeromq.zap.01` (ZAP, RFC 27), is asked instead for as long as there is one.
    pub fn set_authenticator(&self, authenticator: Option<Arc<dyn Authenticator>>) {
        *lock(&self.inner.authenticator) = authenticator;
    }

    /// Closes all sockets together; see [`Socket::close`]
    ///
    /// # Cancel safety
    /// The sockets go on closing in the background.
    pub async fn close(&self, deadline: Duration) -> CloseReport {
        *lock(&self.inner.closed) = true;
        let sockets = self.live();
        sockets.iter().for_each(|shared| shared.begin_close());
        let all_drained = async {
            for shared in &sockets {
                shared.drained().await;
            }
        };
        tokio::time::timeout(deadline, all_drained).await.ok();
        CloseReport::finish(&sockets)
    }

    /// As [`close`](Self::close), for threads without a runtime
    pub fn close_blocking(&self, deadline: Duration) -> CloseReport {
        *lock(&self.inner.closed) = true;
        let sockets = self.live();
        sockets.iter().for_each(|shared| shared.begin_close());
        let all_drained = async {
            for shared in &sockets {
                shared.drained().await;
            }
        };
        block_on(all_drained, Some(deadline));
        CloseReport::finish(&sockets)
    }

    fn live(&self) -> Vec<Arc<Shared>> {
        lock(&self.inner.sockets).iter().filter_map(Weak::upgrade).collect()
    }

    /// Runs a task where the connections of this context's sockets run
    ///
    /// For what works hand in hand with them. Nobody waits for the task: it ends by itself or with the runtime.
    pub fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        if let Some(handle) = &self.inner.handle {
            handle.spawn(task);
        }
    }

    /// Binds an inproc name and joins whoever waits for it; false if it is taken
    pub(crate) fn bind_inproc(&self, name: &str, shared: &Arc<Shared>) -> bool {
        let Some(waiting) = lock(&self.inner.names).bind(name, shared) else {
            return false;
        };
        waiting.iter().for_each(|waiting| Link::join(name, waiting, shared));
        true
    }

    /// Joins a pipe to the socket bound to a name, now or when there is one
    pub(crate) fn connect_inproc(&self, name: &str, waiting: &Waiting) {
        let found = lock(&self.inner.names).find_or_wait(name, waiting);
        if let Some(bound) = found {
            Link::join(name, waiting, &bound);
        }
    }

    pub(crate) fn names(&self) -> std::sync::MutexGuard<'_, Names> {
        lock(&self.inner.names)
    }

    pub(crate) fn authenticator(&self) -> Option<Arc<dyn Authenticator>> {
        lock(&self.inner.authenticator).clone()
    }

    /// The type of the socket that is bound as ZAP handler, if one is
    pub(crate) fn zap_handler(&self) -> Option<SocketType> {
        self.names().holder(zap::NAME)
    }

    /// Bounds the requests that a ZAP handler has at a time
    pub(crate) fn zap_requests(&self) -> Arc<Semaphore> {
        self.inner.zap_requests.clone()
    }

    pub(crate) fn next_zap_request(&self) -> u64 {
        self.inner.zap_request.fetch_add(1, Ordering::Relaxed)
    }

    /// A socket of our own, which is in no list, bound by no limit, and says nothing
    pub(crate) fn private_socket(&self, socket_type: SocketType) -> Socket {
        let options = Options::new().linger(Some(Duration::ZERO));
        Socket::new(self.clone(), socket_type, options, EventSink::silent()).0
    }

    /// A number nobody outside can foresee: seeds ids and waits
    pub(crate) fn random(&self) -> u64 {
        let mut hasher = self.inner.random.build_hasher();
        hasher.write_u64(self.inner.drawn.fetch_add(1, Ordering::Relaxed));
        hasher.finish()
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        // Dropping a runtime waits for its threads, which is not allowed inside another one
        if let Some(Owned::Threads(runtime)) = lock(&self.owned).take() {
            runtime.shutdown_background();
        }
    }
}

impl Default for ContextBuilder {
    fn default() -> Self {
        Self { io_threads: 1, max_sockets: 1023, blocky: true }
    }
}

impl ContextBuilder {
    /// Threads that move octets. Default: 1, which serves several gigabits (libzmq's IO_THREADS).
    pub fn io_threads(mut self, io_threads: usize) -> Self {
        self.io_threads = io_threads.max(1);
        self
    }

    /// Most sockets at a time. Default: 1023 (libzmq's MAX_SOCKETS).
    pub fn max_sockets(mut self, max_sockets: usize) -> Self {
        self.max_sockets = max_sockets;
        self
    }

    /// Whether sockets linger for ever unless told otherwise. Default: true (libzmq's BLOCKY).
    pub fn blocky(mut self, blocky: bool) -> Self {
        self.blocky = blocky;
        self
    }

    /// Starts the threads
    ///
    /// # Errors
    /// Whatever the system says when it has no thread or descriptor left.
    pub fn build(self) -> io::Result<Context> {
        if self.io_threads > 1 {
            let mut builder = Builder::new_multi_thread();
            let runtime = builder.worker_threads(self.io_threads).thread_name("tidings-io").enable_all().build()?;
            let handle = runtime.handle().clone();
            return Ok(self.with(Some(handle), Some(Owned::Threads(runtime))));
        }
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let handle = runtime.handle().clone();
        let (held, ended) = oneshot::channel::<()>();
        // An error of `ended` says that the context is gone, which is what it waits for
        thread::Builder::new().name("tidings-io".to_owned()).spawn(move || runtime.block_on(ended).ok())?;
        Ok(self.with(Some(handle), Some(Owned::Thread(held))))
    }

    fn with(self, handle: Option<Handle>, owned: Option<Owned>) -> Context {
        let inner = Inner {
            handle,
            owned: Mutex::new(owned),
            events: EventSink::new(),
            names: Mutex::default(),
            sockets: Mutex::default(),
            max_sockets: self.max_sockets,
            blocky: self.blocky,
            closed: Mutex::new(false),
            authenticator: Mutex::default(),
            zap_requests: Arc::new(Semaphore::new(zap::MOST_REQUESTS)),
            zap_request: AtomicU64::new(1),
            random: RandomState::new(),
            drawn: AtomicU64::new(0),
        };
        Context { inner: Arc::new(inner) }
    }
}

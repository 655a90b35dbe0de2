//! One socket from its opening to its end: what every `sock` command does around its own loop.

use std::cell::Cell;
use std::future::IntoFuture;
use std::task::{Context as TaskContext, Poll, Waker};
use std::time::{Duration, Instant};

use bytes::Bytes;
use serde_json::json;
use tidings::{
    CloseReport, Connecting, Context, Endpoint, Message, Options, RecvError, SendError, SendFailure, Socket, SocketType,
};

use tokio::task::JoinSet;

use super::args::SocketArgs;
use super::outgoing::Outgoing;
use super::stop::{Stop, Why};
use super::watch::Watch;
use crate::cli::frames::decode_hex;
use crate::cli::output::Printer;
use crate::cli::security::Security;
use crate::cli::units::{count, display_duration};
use crate::cli::{Exit, Failure, Talk, printed};
use crate::discovery::{DiscoveryArgs, Followed, Found, Name, Place};

/// What a socket is opened with
#[derive(Clone, Debug)]
pub(crate) struct Opening<'a> {
    socket_type: SocketType,
    args: &'a SocketArgs,
    topics: &'a [String],
    groups: &'a [String],
    waiting_flag: &'static str,
}

/// How a command's loop ended, if nothing went wrong
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Tally {
    pub(crate) sent: u64,
    pub(crate) received: u64,
    /// Stopped before the work was done
    pub(crate) stopped: Option<Why>,
    /// How many messages the user asked for: to receive, or where the socket only sends, to send
    pub(crate) wanted: Option<u64>,
}

/// An open socket, watched
pub(crate) struct Session {
    context: Context,
    pub(crate) socket: Socket,
    pub(crate) talk: Talk,
    pub(crate) watch: Watch,
    pub(crate) stop: Stop,
    pub(crate) timeout: Option<Duration>,
    linger: Duration,
    /// The flag that waits for peers, for hints
    waiting_flag: &'static str,
    /// Messages received so far, for whoever waits beside the loop that receives
    received: Cell<u64>,
    /// Connects whose outcome was not asked for
    connecting: Vec<ConnectingNow>,
    /// Whatever moves connections whose names lead elsewhere
    _movers: JoinSet<()>,
}

impl<'a> Opening<'a> {
    pub(crate) fn new(socket_type: SocketType, args: &'a SocketArgs) -> Self {
        Self { socket_type, args, topics: &[], groups: &[], waiting_flag: "--wait-peers" }
    }

    /// Names the flag that waits for peers, for hints, where it is another than `--wait-peers`
    pub(crate) fn waiting_flag(mut self, flag: &'static str) -> Self {
        self.waiting_flag = flag;
        self
    }

    /// Subscribes to these before connecting
    pub(crate) fn topics(mut self, topics: &'a [String]) -> Self {
        self.topics = topics;
        self
    }

    pub(crate) fn args(&self) -> &'a SocketArgs {
        self.args
    }

    /// Joins these before connecting
    pub(crate) fn groups(mut self, groups: &'a [String]) -> Self {
        self.groups = groups;
        self
    }
}

impl Session {
    /// Opens the socket, binds, connects, and waits for `--wait-peers`
    ///
    /// # Errors
    /// Wrong options or endpoints (2), endpoints that can't be listened on (3), peers that don't come (3, 4, 5).
    pub(crate) async fn open(opening: Opening<'_>, talk: Talk) -> Result<Self, Failure> {
        let args = opening.args;
        let options = options(opening.socket_type, args)?;
        let security = args.security.read()?;
        let stop = Stop::listen(args.run_for)?;
        let context = Context::new();
        context.set_authenticator(security.authenticator());
        let only_one = args.bind.is_empty() && args.connect.len() == 1;
        let watch = Watch::start(&context, args.events, only_one, talk);
        let socket = context
            .socket_with(opening.socket_type, options)
            .map_err(|error| Failure::new(Exit::Usage, "socket", error))?;
        for topic in opening.topics {
            socket.subscribe(topic.as_bytes()).map_err(Failure::usage)?;
        }
        for group in opening.groups {
            socket.join(group).map_err(|error| Failure::usage(format!("can't join '{group}': {error}")))?;
        }
        let attached =
            Attaching { bind: &args.bind, connect: &args.connect, security: &security, discovery: &args.discovery };
        let limit = args.timeout.unwrap_or(NAME_LIMIT);
        let (connecting, movers) = tokio::select! {
            biased;
            attached = attached.attach(&socket, limit, talk) => attached?,
            _ = stop.stopped() => return Err(Failure::new(Exit::Partial, "stopped", "stopped while looking for a peer")),
        };
        let session = Self {
            context,
            socket,
            talk,
            watch,
            stop,
            timeout: args.timeout,
            linger: args.linger,
            waiting_flag: opening.waiting_flag,
            received: Cell::new(0),
            connecting,
            _movers: movers,
        };
        if args.wait_peers > 0 {
            session.wait_peers(args.wait_peers).await?;
        }
        Ok(session)
    }

    /// Messages received so far
    pub(crate) fn received(&self) -> u64 {
        self.received.get()
    }

    /// SERVER and PEER: the frame that addresses the first peer that was connected to; `None` if it was time to stop
    ///
    /// # Errors
    /// When it refused, or is not there within `--timeout`.
    pub(crate) async fn id_of_the_one(&mut self) -> Result<Option<Bytes>, Failure> {
        let Some(connecting) = self.connecting.pop() else { return Ok(None) };
        let id = match self.attend("peer", self.timeout, connecting).await? {
            Some(Ok(peer)) => peer.id.unwrap_or_default(),
            Some(Err(error)) => return Err(Failure::new(Exit::Refused, "refused", error)),
            None => return Ok(None),
        };
        Ok(Some(Bytes::copy_from_slice(&id.to_be_bytes())))
    }

    async fn wait_peers(&self, peers: usize) -> Result<(), Failure> {
        let ready = self.socket.ready(peers, self.timeout.unwrap_or(FOREVER));
        // The deadline is `ready`'s own; `attend` adds the signals and the talk
        match self.attend("peer", None, ready).await? {
            Some(Ok(_)) => Ok(()),
            Some(Err(error)) => {
                let failure = self.watch.explain("peers", self.timeout.unwrap_or(FOREVER));
                Err(if self.watch.met_anyone() { Failure { message: error.to_string(), ..failure } } else { failure })
            }
            None => Err(Failure::new(Exit::Partial, "stopped", "stopped while waiting for peers")),
        }
    }

    /// Waits for `future`, and for all that may come instead: a stop (`None`), the deadline, a refusal
    ///
    /// # Errors
    /// The deadline and the refusal.
    pub(crate) async fn attend<T>(
        &self,
        what: &str,
        limit: Option<Duration>,
        future: impl Future<Output = T>,
    ) -> Result<Option<T>, Failure> {
        tokio::pin!(future);
        let notice = tokio::time::sleep(PATIENCE);
        tokio::pin!(notice);
        let deadline = async {
            match limit {
                Some(limit) => tokio::time::sleep(limit).await,
                None => std::future::pending().await,
            }
        };
        tokio::pin!(deadline);
        let mut said = self.watch.met_anyone();
        loop {
            tokio::select! {
                biased;
                done = &mut future => return Ok(Some(done)),
                _ = self.stop.stopped() => return Ok(None),
                failure = self.watch.hopeless() => return Err(failure),
                () = &mut deadline => return Err(self.watch.explain(what, limit.unwrap_or_default())),
                () = &mut notice, if !said => {
                    said = true;
                    if !self.watch.met_anyone() {
                        self.talk.say(format_args!("still waiting: {} (Ctrl-C ends)", self.watch.obstacle()));
                    }
                }
            }
        }
    }

    /// Sends one message; `None` if it was time to stop instead
    ///
    /// # Errors
    /// When it can't be sent within `--timeout`, or at all.
    pub(crate) async fn send(&self, message: Message) -> Result<Option<()>, Failure> {
        let message = match self.socket.try_send(message) {
            Ok(()) => return Ok(Some(())),
            Err(SendError { message, reason: SendFailure::WouldBlock, .. }) => message,
            Err(error) => return Err(unsendable(&error)),
        };
        match self.attend("room to send", self.timeout, self.socket.send(message)).await? {
            Some(Ok(())) => Ok(Some(())),
            Some(Err(error)) => Err(unsendable(&error)),
            None => Ok(None),
        }
    }

    /// Sends everything
    ///
    /// # Errors
    /// As [`Session::send`], and those of the input.
    pub(crate) async fn send_all(&self, outgoing: &mut Outgoing) -> Result<Tally, Failure> {
        let mut tally = Tally { wanted: outgoing.count(), ..Tally::default() };
        let mut progress = Progress::new(self.talk, outgoing.reads_lines());
        loop {
            let message = tokio::select! {
                biased;
                why = self.stop.stopped() => {
                    tally.stopped = Some(why);
                    break;
                }
                message = outgoing.next() => message?,
            };
            let Some(message) = message else { break };
            if self.send(message).await?.is_none() {
                tally.stopped = Some(self.stop.stopped().await);
                break;
            }
            tally.sent += 1;
            progress.sent(tally.sent);
            if tally.sent.is_multiple_of(SEND_BATCH) {
                // Connections run on this thread: without a breath their queues would only fill
                tokio::task::yield_now().await;
            }
        }
        progress.done();
        Ok(tally)
    }

    /// Receives and prints until `count`, a stop, or the end of whoever reads our output
    ///
    /// # Errors
    /// When nothing comes within `--timeout`.
    pub(crate) async fn receive_all(&self, printer: &mut Printer, count: Option<u64>) -> Result<Tally, Failure> {
        let mut tally = Tally { wanted: count, ..Tally::default() };
        let mut batch: Vec<Message> = Vec::new();
        while count.is_none_or(|count| tally.received < count) {
            let left = count.map_or(RECEIVE_BATCH as u64, |count| count - tally.received);
            let most = usize::try_from(left).unwrap_or(RECEIVE_BATCH).min(RECEIVE_BATCH);
            match self.attend("message", self.timeout, self.socket.recv_many(&mut batch, most)).await? {
                Some(Ok(_)) => {}
                Some(Err(error)) => return Err(unreceivable(&error)),
                None => {
                    tally.stopped = Some(self.stop.stopped().await);
                    break;
                }
            }
            tally.received += batch.len() as u64;
            self.received.set(tally.received);
            if !printed(printer.print_all(&batch))? {
                break;
            }
            batch.clear();
        }
        Ok(tally)
    }

    /// Closes the socket and says what became of a command that only sends
    ///
    /// # Errors
    /// That of the loop; messages that could not be delivered (6, or 3 if nobody was ever there); fewer
    /// messages than were to be sent (6).
    pub(crate) async fn finish_sending(self, done: Result<Tally, Failure>) -> Result<(), Failure> {
        let (talk, socket_type) = (self.talk, self.socket.socket_type());
        let stats = self.socket.stats();
        let tally = self.close(done).await?;
        let missed = match socket_type {
            SocketType::Pub | SocketType::Xpub => Some(("nobody was subscribed", "a subscriber")),
            SocketType::Radio => Some(("nobody had joined the group", "a peer that joined one")),
            _ => None,
        };
        if let Some((why, whom)) = missed
            && tally.sent > 0
            && stats.sent == 0
            && stats.dropped == 0
        {
            talk.say(format_args!("{why}: the messages went to no one ({} 1 waits for {whom})", self.waiting_flag));
        }
        if stats.dropped > 0 {
            talk.say(format_args!(
                "dropped {} for peers whose queues were full (--option overflow=block waits instead)",
                count(stats.dropped, "message")
            ));
        }
        if let (Some(_), Some(wanted)) = (tally.stopped, tally.wanted)
            && tally.sent < wanted
        {
            return Err(stopped_early(tally.sent, wanted));
        }
        if talk.json {
            let summary = json!({ "ok": true, "sent": tally.sent, "dropped": stats.dropped });
            printed(talk.data(summary))?;
        } else {
            talk.detail(format_args!("sent {}", count(tally.sent, "message")));
        }
        Ok(())
    }

    /// Closes the socket after a command that also receives
    ///
    /// # Errors
    /// That of the loop; messages that could not be delivered; fewer messages than `--count` asked for.
    pub(crate) async fn finish(self, done: Result<Tally, Failure>) -> Result<(), Failure> {
        let tally = self.close(done).await?;
        match (tally.stopped, tally.wanted) {
            (Some(_), Some(wanted)) if tally.received < wanted => Err(stopped_early(tally.received, wanted)),
            _ => Ok(()),
        }
    }

    async fn close(&self, done: Result<Tally, Failure>) -> Result<Tally, Failure> {
        let begun = Instant::now();
        let report = tokio::select! {
            biased;
            report = self.context.close(self.linger) => Some(report),
            _ = self.stop.abandoned() => None,
        };
        let tally = done?;
        match report {
            Some(report) if !report.is_complete() => Err(self.undelivered(&report, begun.elapsed())),
            Some(_) => Ok(tally),
            None => Err(Failure::new(
                Exit::Partial,
                "stopped",
                "stopped by a second signal before everything was delivered",
            )),
        }
    }

    fn undelivered(&self, report: &CloseReport, waited: Duration) -> Failure {
        let (mut messages, mut octets) = (0, 0);
        for unflushed in &report.unflushed {
            messages += unflushed.messages;
            octets += unflushed.octets;
            self.talk.say(format_args!(
                "not delivered: {}, {}, to {}",
                count(unflushed.messages, "message"),
                count(unflushed.octets, "octet"),
                unflushed.endpoint
            ));
        }
        if !self.watch.met_anyone() {
            let failure = self.watch.explain("delivery", self.linger);
            if matches!(failure.exit, Exit::Connect | Exit::Refused) {
                return failure;
            }
        }
        Failure::new(
            Exit::Partial,
            "undelivered",
            format!(
                "{} ({}) not delivered within {}",
                count(messages, "message"),
                count(octets, "octet"),
                display_duration(Duration::from_millis(u64::try_from(waited.as_millis()).unwrap_or(u64::MAX),))
            ),
        )
        .hint(format!("--linger DURATION waits longer; {} N sends only when somebody is there", self.waiting_flag))
    }
}

/// What a socket is bound and connected to
pub(crate) struct Attaching<'a> {
    pub(crate) bind: &'a [String],
    pub(crate) connect: &'a [String],
    pub(crate) security: &'a Security,
    pub(crate) discovery: &'a DiscoveryArgs,
}

impl Attaching<'_> {
    /// Binds and connects a socket, and says where it really listens; connections by name move with what is announced, as
    /// long as the set that is returned is there
    ///
    /// # Errors
    /// Endpoints that are none (2), such as can't be listened on (3), names that are not announced within `limit` (5).
    pub(crate) async fn attach(
        &self,
        socket: &Socket,
        limit: Duration,
        talk: Talk,
    ) -> Result<(Vec<ConnectingNow>, JoinSet<()>), Failure> {
        let Self { bind, connect, security, discovery } = *self;
        if let Some(endpoint) = bind.iter().chain(connect).find(|endpoint| endpoint.starts_with("inproc://")) {
            return Err(Failure::usage(format!(
                "{endpoint} joins sockets within one process; no other program can reach it"
            ))
            .hint("for two programs of one machine take ipc://PATH"));
        }
        for text in bind {
            if Name::read(text).is_some() {
                return Err(Failure::usage(format!("'{text}' is a name to connect to; nothing can listen on it"))
                    .hint("write tcp://ADDRESS:PORT, and `tidings gossip put endpoint/NAME/NODE ADDRESS --hold` to announce it"));
            }
            let endpoint = read_endpoint(text, talk)?;
            let options = security.for_bind(&endpoint, socket.options())?;
            let binding = socket.bind_with(&endpoint, options).map_err(|error| wrong_endpoint(text, &error))?;
            // The error says itself what to do
            let actual = binding.await.map_err(|error| Failure::new(Exit::Connect, "bind", error))?;
            talk.say(format_args!("listening on {actual}"));
        }
        let mut under_way: Vec<ConnectingNow> = Vec::new();
        let mut movers = JoinSet::new();
        for text in connect {
            let (endpoint, by) = match Name::read(text) {
                None => (read_endpoint(text, talk)?, None),
                Some(_) => {
                    let Found { endpoint, by } = discovery.find(text, security, limit, talk).await?;
                    (endpoint, by)
                }
            };
            let options = security.for_connect(&endpoint, socket.options())?;
            let connecting = socket.connect_with(&endpoint, options).map_err(|error| wrong_endpoint(text, &error))?;
            let mut connecting = connecting.into_future();
            // Later outcomes arrive as events, too, which the watch reads
            match connecting.as_mut().poll(&mut TaskContext::from_waker(Waker::noop())) {
                Poll::Pending => under_way.push(connecting),
                Poll::Ready(Ok(peer)) => under_way.push(Box::pin(std::future::ready(Ok(peer)))),
                // This side can't do it
                Poll::Ready(Err(error)) => return Err(Failure::new(Exit::Usage, "connect", error)),
            }
            if let Some((followed, place)) = by {
                movers.spawn(keep_moving(socket.clone(), security.clone(), followed, place, talk));
            }
        }
        Ok((under_way, movers))
    }
}

/// Moves a connection whenever its name leads elsewhere
async fn keep_moving(socket: Socket, security: Security, followed: Followed, mut present: Place, talk: Talk) {
    loop {
        let next = followed.moved(&present).await;
        let options = match security.for_connect(&next.endpoint, socket.options()) {
            Ok(options) => options,
            Err(failure) => {
                talk.say(format_args!("{} is at {} now: {}", followed.name(), next.endpoint, failure.message));
                return;
            }
        };
        if let Err(error) = socket.connect_with(&next.endpoint, options) {
            talk.say(format_args!("{} is at {} now: {error}", followed.name(), next.endpoint));
            return;
        }
        talk.say(format_args!("{} is at {} now, no longer at {}", followed.name(), next.endpoint, present.endpoint));
        // It may have been given up already, by a refusal
        socket.disconnect(&present.endpoint).ok();
        present = next;
    }
}

fn read_endpoint(text: &str, talk: Talk) -> Result<Endpoint, Failure> {
    if let Some(notice) = Endpoint::notice(text) {
        talk.say(notice);
    }
    text.parse().map_err(|error| wrong_endpoint(text, &error))
}

/// A connect whose outcome is not known yet
type ConnectingNow = <Connecting as IntoFuture>::IntoFuture;

/// Socket options from `--option`, `--routing-id` and `--linger`
///
/// # Errors
/// Names the option or the value, and what would be right.
pub(crate) fn options(socket_type: SocketType, args: &SocketArgs) -> Result<Options, Failure> {
    let mut options = Options::of(socket_type).linger(Some(args.linger));
    set_options(&mut options, &args.options)?;
    if let Some(id) = &args.routing_id {
        let octets = match id.strip_prefix("0x") {
            Some(digits) => decode_hex(digits).map_err(Failure::usage)?,
            None => Bytes::copy_from_slice(id.as_bytes()),
        };
        if octets.is_empty() || octets.len() > ROUTING_ID_LIMIT {
            return Err(Failure::usage(format!(
                "a routing id has 1 to {ROUTING_ID_LIMIT} octets, not {}",
                octets.len()
            )));
        }
        options = options.routing_id(octets);
    }
    Ok(options)
}

/// Sets options from `name=value` texts
///
/// # Errors
/// Names the option or the value, and what would be right.
pub(crate) fn set_options(options: &mut Options, texts: &[String]) -> Result<(), Failure> {
    for text in texts {
        let (name, value) = text.split_once('=').ok_or_else(|| {
            Failure::usage(format!("'{text}' sets no option"))
                .hint("write --option NAME=VALUE, such as --option send_hwm=100")
        })?;
        options
            .set(name.trim(), value.trim())
            .map_err(|error| Failure::usage(error).hint("`tidings sock options` lists every option with its values"))?;
    }
    Ok(())
}

/// The end came before as many messages as were asked for
fn stopped_early(done: u64, wanted: u64) -> Failure {
    Failure::new(Exit::Partial, "stopped", format!("stopped after {done} of {wanted} messages"))
}

pub(crate) fn unsendable(error: &SendError) -> Failure {
    let exit = match &error.reason {
        SendFailure::TimedOut(_) | SendFailure::WouldBlock => Exit::Deadline,
        SendFailure::Unroutable => Exit::Negative,
        SendFailure::Closed => Exit::Partial,
        _ => Exit::Usage,
    };
    Failure::new(exit, "send", format!("can't send: {}", error.reason))
}

pub(crate) fn unreceivable(error: &RecvError) -> Failure {
    let exit = match error {
        RecvError::TimedOut(_) | RecvError::WouldBlock => Exit::Deadline,
        RecvError::PeerGone | RecvError::Closed => Exit::Partial,
        _ => Exit::Usage,
    };
    Failure::new(exit, "receive", format!("can't receive: {error}"))
}

fn wrong_endpoint(endpoint: &str, error: &tidings::EndpointError) -> Failure {
    let text = error.to_string();
    let named = if text.contains(endpoint) { text } else { format!("'{endpoint}': {text}") };
    Failure::new(Exit::Usage, "endpoint", named)
}

/// Counts on a terminal, where otherwise nothing would show that lines are being sent
struct Progress {
    talk: Talk,
    shown: Option<Instant>,
    wanted: bool,
}

impl Progress {
    fn new(talk: Talk, wanted: bool) -> Self {
        Self { talk, shown: None, wanted: wanted && talk.terminal }
    }

    fn sent(&mut self, count: u64) {
        if self.wanted && self.shown.is_none_or(|shown| shown.elapsed() >= PROGRESS_EVERY) {
            self.shown = Some(Instant::now());
            self.talk.progress(format_args!("{count} sent"));
        }
    }

    fn done(&self) {
        if self.shown.is_some() {
            self.talk.progress_done();
        }
    }
}

/// Longest routing id (RFC 23, "Metadata": Identity, up to 255 octets)
const ROUTING_ID_LIMIT: usize = 255;

/// A wait without end, as a deadline that can still be added to an instant
pub(crate) const FOREVER: Duration = Duration::from_secs(10 * 365 * 86_400);

/// How long a name that nobody announces is waited for, unless `--timeout` says otherwise
pub(crate) const NAME_LIMIT: Duration = Duration::from_secs(10);

/// How long a command is silent before it says what it waits for
const PATIENCE: Duration = Duration::from_secs(3);

/// Messages printed between two flushes of stdout
const RECEIVE_BATCH: usize = 256;

/// Messages sent before the connections get their turn
const SEND_BATCH: u64 = 16;

const PROGRESS_EVERY: Duration = Duration::from_millis(100);

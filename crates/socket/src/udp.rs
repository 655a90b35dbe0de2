//! udp: datagrams in place of connections (RFC 48, "UDP"; wire sheet of libzmq's udp_engine).
//!
//! RADIO connects and DISH binds: a datagram is the length of the group in one octet, the group, the body. PUSH connects
//! and PULL binds: a datagram is a message of one frame, nothing added. There is no handshake and no acknowledgement,
//! groups are not told to anybody, and what is lost on the way is lost. What is dropped here is counted.

use std::collections::{HashMap, VecDeque};
use std::future::poll_fn;
use std::mem;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};

use atomic_waker::AtomicWaker;
use bytes::{BufMut, Bytes, BytesMut};
use tidings_transport::{DatagramError, Datagrams, Endpoint, Host, UdpEndpoint};
use tidings_zmtp::{Message, Properties, SocketType};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::backoff::Backoff;
use crate::dialer::{Outcome, Peer, in_ms};
use crate::error::ConnectError;
use crate::events::{ConnectionId, EventKind};
use crate::options::Options;
use crate::origin::Origin;
use crate::patterns::is_group;
use crate::pipe::{Driver, Load, PipeKey};
use crate::security::Terms;
use crate::shared::Shared;
use crate::state::{Newcomer, explain};

/// What a datagram holds, by the types at both ends
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    /// PUSH and PULL: a message of one frame
    Frame,
    /// RADIO and DISH: a group and a body
    Group,
}

impl Form {
    /// What a socket of this type sends to an endpoint that it connects to
    ///
    /// # Errors
    /// Why such a socket doesn't.
    pub(crate) fn sent_by(socket_type: SocketType) -> Result<Self, &'static str> {
        match socket_type {
            SocketType::Radio => Ok(Self::Group),
            SocketType::Push => Ok(Self::Frame),
            _ => Err(WHO_CONNECTS),
        }
    }

    /// What a socket of this type receives at an endpoint that it is bound to
    ///
    /// # Errors
    /// Why such a socket doesn't.
    pub(crate) fn received_by(socket_type: SocketType) -> Result<Self, &'static str> {
        match socket_type {
            SocketType::Dish => Ok(Self::Group),
            SocketType::Pull => Ok(Self::Frame),
            _ => Err(WHO_BINDS),
        }
    }

    /// The datagram of a message
    fn encode(self, message: &Message, into: &mut BytesMut) {
        into.clear();
        if self == Self::Group {
            // The socket takes no groups of more than 255 octets
            into.put_u8(u8::try_from(message.first().len()).unwrap_or(u8::MAX));
        }
        message.frames().for_each(|frame| into.put_slice(frame));
    }

    /// The message in a datagram; `None` if it is none
    fn decode(self, datagram: &[u8]) -> Option<Message> {
        match self {
            Self::Frame => Some(Message::copy_from(datagram)),
            Self::Group => {
                let (len, rest) = datagram.split_first()?;
                let (group, body) = rest.split_at_checked(usize::from(*len))?;
                is_group(group).then(|| Message::multipart([group, body].map(Bytes::copy_from_slice)))
            }
        }
    }
}

/// What a datagram to an endpoint may hold at most; the system may turn out to allow less
pub(crate) fn most_octets(endpoint: &UdpEndpoint) -> usize {
    match &endpoint.host {
        // Of an IP packet's 65,535 octets; an IPv6 packet's own header does not count
        Host::Scoped { .. } => 65_535 - 8,
        Host::Ip(address) if address.to_canonical().is_ipv6() => 65_535 - 8,
        _ => 65_535 - 20 - 8,
    }
}

/// An endpoint that datagrams are sent to
#[derive(Debug)]
pub(crate) struct Sender {
    shared: Arc<Shared>,
    terms: Arc<Terms>,
    endpoint: UdpEndpoint,
    name: Arc<str>,
    connection: ConnectionId,
    form: Form,
    key: PipeKey,
    waker: Arc<AtomicWaker>,
    batch: VecDeque<Message>,
    /// Sent since the pipe was last told
    done: Load,
    /// Known to be lost since the pipe was last told: the host said that nobody receives there
    lost: u64,
}

impl Sender {
    /// Makes the pipe: messages may be queued from now on
    ///
    /// # Errors
    /// Why the socket can't connect to such an endpoint.
    pub(crate) fn new(shared: &Arc<Shared>, endpoint: &UdpEndpoint, terms: &Arc<Terms>) -> Result<Self, &'static str> {
        let form = Form::sent_by(shared.reporter.socket_type)?;
        if !terms.is_open() {
            return Err(NO_SECURITY);
        }
        let name: Arc<str> = Endpoint::Udp(endpoint.clone()).to_string().into();
        let (waker, connection) = (Arc::new(AtomicWaker::new()), ConnectionId::fresh());
        let newcomer = newcomer(&name, &waker, connection);
        let key = shared.with(|state| state.add_datagrams(newcomer, Some(most_octets(endpoint)))).map_err(explain)?;
        Ok(Self {
            shared: shared.clone(),
            terms: terms.clone(),
            endpoint: endpoint.clone(),
            name,
            connection,
            form,
            key,
            waker,
            batch: VecDeque::new(),
            done: Load::default(),
            lost: 0,
        })
    }

    /// Its pipe
    pub(crate) fn key(&self) -> PipeKey {
        self.key
    }

    /// Sends what is queued until it is stopped or the socket closes; `number` is its place in the socket's list
    pub(crate) async fn run(mut self, number: u64, stop: CancellationToken, outcome: watch::Sender<Option<Outcome>>) {
        let waits = |options: &Options| (options.reconnect_interval, options.reconnect_interval_max);
        let (reconnect, most) = self.terms.look(&self.shared, waits);
        let mut backoff = Backoff::new(reconnect, most, self.shared.context.random());
        let reason = loop {
            let options = self.terms.look(&self.shared, Options::datagram_options);
            let opened = tokio::select! {
                biased;
                () = stop.cancelled() => break self.end_reason(),
                opened = Datagrams::connect(&self.endpoint, &options) => opened,
            };
            let failure = match opened {
                Ok(datagrams) => {
                    self.settle_connected(&outcome);
                    match self.send_all(&datagrams, &stop, &mut backoff).await {
                        Ok(reason) => break reason,
                        Err(failure) => failure,
                    }
                }
                Err(failure) => failure,
            };
            // What could not be sent waits
            let wait = backoff.next_wait();
            self.say(|| EventKind::ConnectFailed { error: failure.to_string(), retry_in_ms: in_ms(wait) });
            let Some(wait) = wait else {
                let reason = failure.to_string();
                settle(
                    &outcome,
                    Err(ConnectError::GaveUp {
                        endpoint: Endpoint::Udp(self.endpoint.clone()),
                        reason,
                        breaks_off: false,
                    }),
                );
                break self.end_reason();
            };
            tokio::select! {
                biased;
                () = stop.cancelled() => break self.end_reason(),
                () = tokio::time::sleep(wait) => {}
            }
        };
        self.shared.endpoints().dialed.retain(|dialed| dialed.number != number);
        self.end(reason);
        settle(&outcome, Err(ConnectError::Closed));
    }

    /// Sends until an end is due, for the reason returned, or something goes wrong
    async fn send_all(
        &mut self,
        datagrams: &Datagrams,
        stop: &CancellationToken,
        backoff: &mut Backoff,
    ) -> Result<&'static str, DatagramError> {
        let mut octets = BytesMut::new();
        let mut refusals = 0;
        loop {
            if let Some(reason) = self.fetch(stop).await {
                return Ok(reason);
            }
            while let Some(message) = self.batch.front() {
                let load = Load { messages: 1, octets: message.octets() as u64 };
                self.form.encode(message, &mut octets);
                match datagrams.send(&octets).await {
                    Ok(()) => backoff.reset(),
                    // The system allows less than the protocol does
                    Err(DatagramError::TooLarge { .. }) => {
                        self.shared.with(|state| state.discard_datagrams(self.key, 1));
                    }
                    Err(error) => return Err(error),
                }
                self.batch.pop_front();
                self.done.messages += load.messages;
                self.done.octets += load.octets;
            }
            self.lost += datagrams.refusals() - refusals;
            refusals = datagrams.refusals();
        }
    }

    /// Waits for messages to send; a reason is the end
    async fn fetch(&mut self, stop: &CancellationToken) -> Option<&'static str> {
        let mut stopped = pin!(stop.cancelled());
        poll_fn(|cx| {
            // Before looking at the pipe: whatever is queued after the look wakes this task
            self.waker.register(cx.waker());
            if stopped.as_mut().poll(cx).is_ready() {
                self.shared.with(|state| state.leave(self.key));
            }
            let (done, lost) = (mem::take(&mut self.done), mem::take(&mut self.lost));
            let (key, batch) = (self.key, &mut self.batch);
            let orders = self.shared.with(|state| state.exchange_datagrams(key, done, lost, batch));
            match orders.close.or(orders.drain) {
                Some(reason) => Poll::Ready(Some(reason)),
                None if self.batch.is_empty() => Poll::Pending,
                None => Poll::Ready(None),
            }
        })
        .await
    }

    fn end_reason(&self) -> &'static str {
        self.shared.with(|state| state.end_reason())
    }

    fn say(&self, kind: impl FnOnce() -> EventKind) {
        self.shared.reporter.say(Some(self.connection), Some(&self.name), Some(&self.name), kind);
    }

    fn settle_connected(&self, outcome: &watch::Sender<Option<Outcome>>) {
        self.say(|| EventKind::Connected);
        let first = settle(
            outcome,
            Ok(Peer {
                connection: self.connection,
                endpoint: self.name.to_string(),
                address: self.name.to_string(),
                socket_type: None,
                routing_id: Bytes::new(),
                version: (0, 0),
                properties: Properties::new(),
                id: None,
            }),
        );
        if first {
            self.say(|| EventKind::Handshaken {
                peer_type: None,
                routing_id: String::new(),
                version: "udp".to_owned(),
                mechanism: "none",
                properties: Vec::new(),
            });
        }
    }

    fn end(&mut self, reason: &'static str) {
        let (key, done, lost) = (self.key, self.done, self.lost);
        let batch = &mut self.batch;
        let lost = self.shared.with(|state| {
            state.exchange_datagrams(key, done, lost, batch);
            let lost = state.waiting_in(key);
            state.count_close(reason);
            state.retire(key);
            lost
        });
        let detail = explain(reason).to_owned();
        self.say(|| EventKind::Disconnected { reason, detail, requeued: 0, lost, retry_in_ms: None });
    }
}

/// Tells whoever awaits the connect, unless it was told before; whether it was the first to
fn settle(outcome: &watch::Sender<Option<Outcome>>, told: Outcome) -> bool {
    outcome.send_if_modified(|known| {
        let first = known.is_none();
        if first {
            *known = Some(told);
        }
        first
    })
}

/// Binds an endpoint, says how that went, and receives at it until stopped
pub(crate) async fn receive(
    shared: Arc<Shared>,
    endpoint: UdpEndpoint,
    terms: Arc<Terms>,
    settle: impl FnOnce(&Shared, Result<Endpoint, String>),
    stop: CancellationToken,
) {
    let options = terms.look(&shared, Options::datagram_options);
    let bound = match Form::received_by(shared.reporter.socket_type) {
        Ok(_) if !terms.is_open() => Err(NO_SECURITY.to_owned()),
        Ok(form) => tokio::select! {
            biased;
            () = stop.cancelled() => return,
            bound = Datagrams::bind(&endpoint, &options) => {
                bound.map(|datagrams| (form, datagrams)).map_err(|error| error.to_string())
            }
        },
        Err(reason) => Err(reason.to_owned()),
    };
    let (form, datagrams) = match bound {
        Ok(bound) => bound,
        Err(reason) => return settle(&shared, Err(reason)),
    };
    let actual = Endpoint::Udp(datagrams.endpoint().clone());
    let (name, connection): (Arc<str>, _) = (actual.to_string().into(), ConnectionId::fresh());
    let newcomer = newcomer(&name, &Arc::new(AtomicWaker::new()), connection);
    let key = match shared.with(|state| state.add_datagrams(newcomer, None)) {
        Ok(key) => key,
        Err(reason) => return settle(&shared, Err(explain(reason).to_owned())),
    };
    settle(&shared, Ok(actual));
    let mut octets = vec![0; Datagrams::LARGEST];
    let mut origins = Origins { connection, known: HashMap::new() };
    let mut malformed = Malformed::default();
    loop {
        let received = tokio::select! {
            biased;
            () = stop.cancelled() => break,
            received = datagrams.recv_from(&mut octets) => received,
        };
        match received {
            Ok((len, from)) => match octets.get(..len).and_then(|datagram| form.decode(datagram)) {
                Some(message) => {
                    let origin = origins.of(from);
                    shared.with(|state| state.receive_datagram(key, message, origin));
                }
                None => malformed.note(&shared, connection, &name, from),
            },
            Err(error) => {
                shared.say(&name, || EventKind::AcceptFailed { error: error.to_string() });
                if tokio::time::timeout(PAUSE, stop.cancelled()).await.is_ok() {
                    break;
                }
            }
        }
    }
    drop(datagrams);
    shared.with(|state| state.retire(key));
    shared.say(&name, || EventKind::Unbound);
}

fn newcomer(name: &Arc<str>, waker: &Arc<AtomicWaker>, connection: ConnectionId) -> Newcomer {
    Newcomer {
        routing_id: Bytes::new(),
        connection: Some(connection),
        endpoint: name.clone(),
        address: Some(name.clone()),
        driver: Driver::Task(waker.clone()),
        name: Bytes::new(),
        takes_multipart: false,
        origin: Arc::new(Origin::anonymous(connection, name.clone())),
    }
}

/// Whom datagrams came from lately, so that not each has to be described anew
struct Origins {
    connection: ConnectionId,
    known: HashMap<SocketAddr, Arc<Origin>>,
}

impl Origins {
    fn of(&mut self, from: SocketAddr) -> &Arc<Origin> {
        if self.known.len() >= MOST_ORIGINS {
            // Anybody can send from many addresses: nothing is lost by forgetting
            self.known.clear();
        }
        let connection = self.connection;
        self.known.entry(from).or_insert_with(|| {
            let mut origin = Origin::anonymous(connection, from.to_string().into());
            origin.peer_address = from.ip().to_string().into();
            Arc::new(origin)
        })
    }
}

/// Datagrams that were none of the pattern's: counted each, said once a second at the most
#[derive(Default)]
struct Malformed {
    unsaid: u64,
    said: Option<Instant>,
}

impl Malformed {
    fn note(&mut self, shared: &Shared, connection: ConnectionId, name: &str, from: SocketAddr) {
        let total = shared.with(|state| state.count_malformed(1));
        self.unsaid += 1;
        let now = tokio::time::Instant::now().into_std();
        if self.said.is_none_or(|said| now.duration_since(said) >= EVENTS_APART) {
            self.said = Some(now);
            let count = mem::take(&mut self.unsaid);
            let from = from.to_string();
            shared.reporter.say(Some(connection), Some(name), Some(&from), || EventKind::Malformed { count, total });
        }
    }
}

const NO_SECURITY: &str = "udp has no handshake, so that it can neither encrypt nor ask who is there: use tcp, or give this endpoint options of its own (bind_with, connect_with) without PLAIN, CURVE and zap_domain";
const WHO_CONNECTS: &str = "only RADIO and PUSH connect to udp; the others need a connection, as tcp makes one";
const WHO_BINDS: &str = "only DISH and PULL bind udp; the others need connections, as tcp makes them";
/// Before receiving is tried again after the system failed
const PAUSE: Duration = Duration::from_millis(200);
const EVENTS_APART: Duration = Duration::from_secs(1);
/// Senders that are remembered
const MOST_ORIGINS: usize = 256;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use tidings_transport::DatagramOptions;

    use super::*;

    #[test]
    fn a_group_goes_in_front_with_its_length() {
        let golden: [(&[u8], &[u8], &[u8]); 3] =
            [(b"tv", b"HELLO", b"\x02tvHELLO"), (b"", b"HELLO", b"\0HELLO"), (b"tv", b"", b"\x02tv")];
        for (group, body, octets) in golden {
            let message = Message::multipart([group, body].map(Bytes::copy_from_slice));
            let mut encoded = BytesMut::new();
            Form::Group.encode(&message, &mut encoded);
            assert_eq!(&encoded[..], octets);
            assert_eq!(Form::Group.decode(octets), Some(message));
        }
    }

    #[test]
    fn what_ends_too_early_is_none() {
        for octets in [&b""[..], b"\x01", b"\x03tv", b"\xff", b"\x02t\0body"] {
            assert_eq!(Form::Group.decode(octets), None, "{octets:?}");
        }
    }

    #[test]
    fn a_frame_is_the_datagram() {
        let mut encoded = BytesMut::from("what was there before");
        Form::Frame.encode(&Message::from("job"), &mut encoded);
        assert_eq!(&encoded[..], b"job");
        assert_eq!(Form::Frame.decode(b""), Some(Message::default()));
    }

    #[test]
    fn options_reach_the_datagrams() {
        // What they do there is tested with the transport: loopback hands groups back whatever `multicast_loop` says
        let options = Options::new().multicast_hops(7).multicast_loop(false).tos(8).send_buffer(9000).recv_buffer(8000);
        let expected = DatagramOptions::default().multicast_hops(7).multicast_loop(false).tos(8);
        let expected = expected.send_buffer(Some(9000)).receive_buffer(Some(8000)).ipv6(true);
        assert_eq!(options.ipv6(true).datagram_options(), expected);
        assert_eq!(Options::new().datagram_options(), DatagramOptions::default());
    }

    proptest! {
        #[test]
        fn any_datagram_is_a_message_that_leads_back_or_none(octets in prop::collection::vec(any::<u8>(), 0..300)) {
            if let Some(message) = Form::Group.decode(&octets) {
                let mut encoded = BytesMut::new();
                Form::Group.encode(&message, &mut encoded);
                prop_assert_eq!(&encoded[..], &octets[..]);
            }
        }
    }
}

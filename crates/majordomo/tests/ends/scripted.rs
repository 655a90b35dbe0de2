//! A broker that says what a test has it say.

use std::time::Duration;

use bytes::Bytes;
use smallvec::smallvec;
use tidings_majordomo::wire::{
    Body, ClientCommand, ClientReply, Command, Incoming, RequestOptions, Status, TIDINGS_PROPERTY,
    TIDINGS_PROPERTY_VALUE, Wire, WorkerCommand, WorkerOrder, decode,
};
use tidings_socket::{Context, Message, Options, RouterSocket};

/// How long anything may take on a busy machine; only a failing test waits for it
pub(crate) const DEADLINE: Duration = Duration::from_secs(30);

pub(crate) struct Scripted {
    pub(crate) socket: RouterSocket,
    pub(crate) endpoint: String,
}

/// Something that a peer said
#[derive(Debug)]
pub(crate) struct Heard {
    pub(crate) peer: Bytes,
    pub(crate) incoming: Incoming,
}

impl Scripted {
    /// A broker that announces our wire
    pub(crate) async fn ours(context: &Context) -> Self {
        Self::bind(context, "tcp://127.0.0.1:*", true).await
    }

    /// A broker that announces nothing, as those of other makes
    pub(crate) async fn foreign(context: &Context) -> Self {
        Self::bind(context, "tcp://127.0.0.1:*", false).await
    }

    pub(crate) async fn bind(context: &Context, endpoint: &str, is_ours: bool) -> Self {
        let mut options = Options::new();
        if is_ours {
            options = options.metadata(format!("{TIDINGS_PROPERTY}:{TIDINGS_PROPERTY_VALUE}"));
        }
        Self::bind_with(context, endpoint, options).await
    }

    pub(crate) async fn bind_with(context: &Context, endpoint: &str, options: Options) -> Self {
        let options = options.router_mandatory(true);
        let socket = RouterSocket::with_options(context, options).unwrap();
        let endpoint = socket.bind(endpoint).unwrap().await.unwrap().to_string();
        Self { socket, endpoint }
    }

    /// The next thing that a peer says
    pub(crate) async fn hear(&self) -> Heard {
        let message = tokio::time::timeout(DEADLINE, self.socket.recv()).await.expect("nothing said").unwrap();
        let mut frames = message.into_frames();
        let peer = frames.remove(0);
        Heard { peer, incoming: decode(Message::from_frames(frames)).unwrap() }
    }

    /// The next thing that a peer says and is no heartbeat
    pub(crate) async fn hear_more(&self) -> Heard {
        loop {
            let heard = self.hear().await;
            if heard.incoming.command != Command::Worker(WorkerCommand::Heartbeat) {
                return heard;
            }
        }
    }

    /// Goes away, connections and all
    pub(crate) async fn die(self) {
        self.socket.close(Duration::ZERO).await;
    }

    async fn send(&self, peer: &Bytes, mut message: Message) {
        message.push_front(peer.clone());
        self.socket.send(message).await.unwrap();
    }

    pub(crate) async fn reply(&self, to: &Heard, reply: ClientReply) {
        self.send(&to.peer, reply.encode(to.incoming.wire, &to.incoming.path).unwrap()).await;
    }

    pub(crate) async fn answer(&self, to: &Heard, body: impl Into<Bytes>) {
        self.reply(to, ClientReply::Final { id: to.id(), service: to.service(), body: smallvec![body.into()] }).await;
    }

    pub(crate) async fn part(&self, to: &Heard, body: impl Into<Bytes>) {
        self.reply(to, ClientReply::Partial { id: to.id(), service: to.service(), body: smallvec![body.into()] }).await;
    }

    pub(crate) async fn refuse(&self, to: &Heard, status: Status, text: &'static str) {
        self.reply(to, ClientReply::Refused { id: to.id(), status, text: text.into() }).await;
    }

    pub(crate) async fn order(&self, to: &Heard, order: WorkerOrder) {
        self.send(&to.peer, order.encode(to.incoming.wire).unwrap()).await;
    }

    pub(crate) async fn ask(&self, worker: &Heard, token: &'static str, body: impl Into<Bytes>) {
        self.ask_with(worker, token, body, RequestOptions::default()).await;
    }

    pub(crate) async fn ask_with(
        &self,
        worker: &Heard,
        token: &'static str,
        body: impl Into<Bytes>,
        options: RequestOptions,
    ) {
        let order = WorkerOrder::Request { token: token.into(), options, body: smallvec![body.into()] };
        self.order(worker, order).await;
    }
}

impl Heard {
    /// The parts of a request
    pub(crate) fn request(&self) -> (u64, String, &RequestOptions, &Body) {
        match &self.incoming.command {
            Command::Client(ClientCommand::Request { id, service, options, body }) => {
                (*id, service.to_string(), options, body)
            }
            other => panic!("{other:?} is no request"),
        }
    }

    /// What a worker said
    pub(crate) fn worker(&self) -> &WorkerCommand {
        match &self.incoming.command {
            Command::Worker(command) => command,
            other => panic!("{other:?} is not of a worker"),
        }
    }

    pub(crate) fn is_ready(&self) -> bool {
        matches!(self.incoming.command, Command::Worker(WorkerCommand::Ready { .. }))
    }

    pub(crate) fn body(&self) -> &[u8] {
        &self.request().3[0]
    }

    pub(crate) fn id(&self) -> u64 {
        self.request().0
    }

    fn service(&self) -> Bytes {
        self.request().1.into()
    }

    pub(crate) fn wire(&self) -> Wire {
        self.incoming.wire
    }
}

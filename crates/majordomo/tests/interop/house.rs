//! A broker of ours, or a place at somebody else's, with clients and workers of ours.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use bytes::Bytes;
use tidings_majordomo::broker::{BrokerConfig, BrokerStats, ServiceStats};
use tidings_majordomo::wire::Wire;
use tidings_majordomo::{Client, ClientOptions, Failure, Part, Request, Server, Worker};
use tidings_socket::{Context, RouterSocket};
use tidings_zmtp::Message;

use crate::waiting::{PATIENCE, within};

/// Where services are
pub(crate) struct House {
    context: Context,
    endpoint: String,
    /// What our clients and workers speak there
    wire: Wire,
    /// Ours, with its configuration, unless it is somebody else's
    ours: Option<Ours>,
}

/// A broker of ours that runs
struct Ours {
    server: Server,
    socket: RouterSocket,
    config: BrokerConfig,
}

impl Ours {
    /// Starts a broker; returns where it is, too
    async fn start(endpoint: &str, config: BrokerConfig) -> Result<(Self, String)> {
        let socket = RouterSocket::new(&Context::new())?;
        let server = Server::start(socket.clone(), config.clone());
        let endpoint = within(PATIENCE, "our broker is bound", socket.bind(endpoint)?).await??;
        Ok((Self { server, socket, config }, endpoint.to_string()))
    }
}

impl House {
    /// How many heartbeats a worker may miss at a broker of ours
    pub(crate) const LIVENESS: u32 = 4;

    /// With a broker that beats often enough for peers to be found gone within a test
    pub(crate) async fn open() -> Result<Self> {
        Self::with("tcp://127.0.0.1:*", Duration::from_millis(250)).await
    }

    /// With one that gives a silent worker up after a moment
    pub(crate) async fn quick() -> Result<Self> {
        Self::with("tcp://127.0.0.1:*", Duration::from_millis(50)).await
    }

    /// With one as it comes
    pub(crate) async fn usual() -> Result<Self> {
        Self::with("tcp://127.0.0.1:*", BrokerConfig::default().heartbeat_interval).await
    }

    async fn with(endpoint: &str, heartbeat_interval: Duration) -> Result<Self> {
        let config = BrokerConfig { heartbeat_interval, liveness: Self::LIVENESS, ..BrokerConfig::default() };
        let (ours, endpoint) = Ours::start(endpoint, config).await?;
        Ok(Self { context: Context::new(), endpoint, wire: Wire::Mdp01, ours: Some(ours) })
    }

    /// At a broker of others
    pub(crate) fn elsewhere(endpoint: &str, wire: Wire) -> Self {
        Self { context: Context::new(), endpoint: endpoint.to_owned(), wire, ours: None }
    }

    pub(crate) fn endpoint(&self) -> &str {
        &self.endpoint
    }

    pub(crate) async fn client(&self) -> Result<Client> {
        client_of(self).await
    }

    /// Waits until the broker has a worker of that service
    pub(crate) async fn has(&self, service: &str) -> Result<()> {
        self.until(service, "has a worker", |stats| stats.workers > 0).await
    }

    pub(crate) async fn has_no_more(&self, service: &str) -> Result<()> {
        self.until(service, "has no worker", |stats| stats.workers == 0).await
    }

    /// Waits until a request waits there
    pub(crate) async fn waits(&self, service: &str) -> Result<()> {
        self.until(service, "has a request that waits", |stats| stats.waiting > 0).await
    }

    /// Waits until a request of any service was given up: one that never had a worker is not remembered
    pub(crate) async fn expired(&self) -> Result<()> {
        self.until_so("a request is given up", |stats| stats.counters.get("expired").is_some_and(|count| *count > 0))
            .await
    }

    async fn until(&self, service: &str, what: &str, is_so: impl Fn(&ServiceStats) -> bool) -> Result<()> {
        let is_it = |one: &ServiceStats| one.service.as_bytes() == service.as_bytes() && is_so(one);
        self.until_so(&format!("{service} {what}"), |stats| stats.services.iter().any(is_it)).await
    }

    async fn until_so(&self, what: &str, is_so: impl Fn(&BrokerStats) -> bool) -> Result<()> {
        let server = self.server()?;
        // What a broker knows is asked for, as nothing tells of it
        let mut often = tokio::time::interval(Duration::from_millis(5));
        let looking = async {
            loop {
                often.tick().await;
                if is_so(&server.stats()) {
                    return;
                }
            }
        };
        within(PATIENCE, what, looking).await
    }

    /// What the broker has counted
    pub(crate) fn counters(&self) -> Result<BTreeMap<&'static str, u64>> {
        Ok(self.server()?.stats().counters)
    }

    fn server(&self) -> Result<&Server> {
        Ok(&self.ours.as_ref().context("it is not our broker")?.server)
    }

    /// Stops the broker, which tells its workers, and starts another in its place
    pub(crate) async fn restart(self) -> Result<Self> {
        let server = self.server()?.clone();
        within(PATIENCE, "our broker stops", server.stop(PATIENCE)).await?;
        self.start_anew().await
    }

    /// Ends the broker without a word, and starts another in its place
    pub(crate) async fn crash_and_restart(self) -> Result<Self> {
        let ours = self.ours.as_ref().context("it is not our broker")?;
        ours.socket.close(Duration::ZERO).await;
        within(PATIENCE, "our broker ends", ours.server.ended()).await?;
        self.start_anew().await
    }

    async fn start_anew(mut self) -> Result<Self> {
        let ours = self.ours.take().context("it is not our broker")?;
        let (started, _) = Ours::start(&self.endpoint, ours.config).await?;
        self.ours = Some(started);
        Ok(self)
    }

    /// Ends the test: nothing that came may have been malformed
    pub(crate) async fn close(self) -> Result<()> {
        let server = self.server()?;
        let malformed = server.stats().malformed;
        ensure!(malformed.values().all(|count| *count == 0), "malformed: {malformed:?}");
        // Peers may still have requests here
        within(PATIENCE, "our broker stops", server.stop(Duration::ZERO)).await?;
        Ok(())
    }
}

// ---- Ours, at whichever broker ----

pub(crate) async fn client_of(house: &House) -> Result<Client> {
    let options = ClientOptions::default().wire(house.wire).timeout(Some(2 * PATIENCE));
    Ok(Client::connect(&house.context, &*house.endpoint, options).await?)
}

/// A worker that answers with what it was asked
pub(crate) async fn echo_of(house: &House, service: &str) -> Result<Worker> {
    serve(house, service, |request: Request| async move { Ok::<_, Failure>(request.into_body()) }).await
}

/// A worker that answers a number with as many parts before its last
pub(crate) async fn parts_of(house: &House, service: &str) -> Result<Worker> {
    serve(house, service, |request: Request| async move {
        let parts: usize = std::str::from_utf8(request.body().first())?.parse()?;
        for part in 0..parts {
            request.partial(part.to_string()).await?;
        }
        Ok::<_, Failure>("done")
    })
    .await
}

async fn serve(house: &House, service: &str, handler: impl tidings_majordomo::Handler) -> Result<Worker> {
    let worker = Worker::builder(&house.context, &*house.endpoint, service)
        .wire(house.wire)
        .heartbeat_interval(Duration::from_millis(200))
        .reconnect(Duration::from_millis(50), Duration::from_millis(100))
        .serve(handler)?;
    ensure!(within(PATIENCE, "our worker is ready", worker.ready()).await?, "our worker ended");
    Ok(worker)
}

/// Asks and takes a reply of one part
pub(crate) async fn ask(client: Client, service: impl Into<String>, body: Vec<Bytes>) -> Result<Vec<Bytes>> {
    let service = service.into();
    let reply = client.request(service.as_str(), Message::multipart(body)).await?;
    ensure!(reply.parts.is_empty(), "{service}: {reply:?} has several parts");
    Ok(reply.body.into_frames().to_vec())
}

/// Asks and takes the reply part by part
pub(crate) async fn ask_in_parts(
    client: Client,
    service: &'static str,
    body: Vec<Bytes>,
) -> Result<(Vec<Vec<Bytes>>, Vec<Bytes>)> {
    let mut parts = client.request(service, Message::multipart(body)).parts();
    let mut partials = Vec::new();
    while let Some(part) = parts.next().await {
        match part? {
            Part::Partial(part) => partials.push(part.into_frames().to_vec()),
            Part::Final(last) => return Ok((partials, last.into_frames().to_vec())),
        }
    }
    anyhow::bail!("the reply has no last part")
}

//! A broker of ours, or a place at somebody else's, with clients and workers of ours.

use std::time::Duration;

use anyhow::{Result, ensure};
use bytes::Bytes;
use tidings_majordomo::wire::Wire;
use tidings_majordomo::{Client, ClientOptions, Failure, Part, Request, Worker};
use tidings_socket::Context;
use tidings_zmtp::Message;

use crate::waiting::{PATIENCE, within};

/// Where services are
pub(crate) struct House {
    context: Context,
    endpoint: String,
    /// What our clients and workers speak there
    wire: Wire,
}

impl House {
    /// How many heartbeats a worker may miss at a broker of ours
    pub(crate) const LIVENESS: u32 = 3;

    pub(crate) async fn open() -> Result<Self> {
        anyhow::bail!("no broker yet")
    }

    pub(crate) async fn quick() -> Result<Self> {
        anyhow::bail!("no broker yet")
    }

    /// At a broker of others
    pub(crate) fn elsewhere(endpoint: &str, wire: Wire) -> Self {
        Self { context: Context::new(), endpoint: endpoint.to_owned(), wire }
    }

    pub(crate) fn endpoint(&self) -> &str {
        &self.endpoint
    }

    pub(crate) async fn client(&self) -> Result<Client> {
        client_of(self).await
    }
    pub(crate) async fn has(&self, _service: &str) -> Result<()> {
        Ok(())
    }
    pub(crate) async fn has_no_more(&self, _service: &str) -> Result<()> {
        Ok(())
    }
    pub(crate) async fn waits(&self, _service: &str) -> Result<()> {
        Ok(())
    }
    pub(crate) async fn expired(&self, _service: &str) -> Result<()> {
        Ok(())
    }
    pub(crate) async fn restart(self) -> Result<Self> {
        Ok(self)
    }
    pub(crate) async fn crash_and_restart(self) -> Result<Self> {
        Ok(self)
    }
    pub(crate) async fn close(self) -> Result<()> {
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

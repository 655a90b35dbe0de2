//! What a broker tells of itself (RFC 8), as calls.

use std::time::Duration;

use serde_json::Value;
use tidings_zmtp::Message as Frames;

use super::error::RequestError;
use super::{Client, now};
use crate::wire::{ServiceName, Status};

impl Client {
    /// The services that have a worker, in order and each once (`mmi.services`)
    ///
    /// Domogik's broker and ours know it; others refuse, as 501.
    ///
    /// # Errors
    /// [`RequestError`].
    ///
    /// # Cancel safety
    /// When dropped, the question is taken back; so with the others here.
    pub async fn services(&self) -> Result<Vec<String>, RequestError> {
        let answer = self.question("mmi.services", Frames::default()).await?;
        let text = text(&answer)?;
        if text == Status::NOT_IMPLEMENTED.code().to_string() {
            return Err(not_implemented("mmi.services"));
        }
        let mut names: Vec<String> = text.split(", ").filter(|name| !name.is_empty()).map(str::to_owned).collect();
        names.sort();
        names.dedup();
        Ok(names)
    }

    /// The workers that the broker has, with what it knows of them (`mmi.workers`); brokers of ours only
    ///
    /// # Errors
    /// [`RequestError`].
    pub async fn workers(&self) -> Result<Value, RequestError> {
        self.json("mmi.workers").await
    }

    /// The broker's figures (`mmi.stats`); brokers of ours only. The client's own are [`counts`](Self::counts).
    ///
    /// # Errors
    /// [`RequestError`].
    pub async fn stats(&self) -> Result<Value, RequestError> {
        self.json("mmi.stats").await
    }

    /// Whether a service has a worker, and how long the broker took to say so (`mmi.service`)
    ///
    /// # Errors
    /// [`RequestError`].
    pub async fn ping<S>(&self, service: S) -> Result<Option<Duration>, RequestError>
    where
        S: TryInto<ServiceName>,
        S::Error: Into<RequestError>,
    {
        let service: ServiceName = service.try_into().map_err(Into::into)?;
        let asked = now();
        let answer = self.question("mmi.service", service.into_bytes().into()).await?;
        match answer.first() {
            b"200" => Ok(Some(now().saturating_duration_since(asked))),
            b"404" => Ok(None),
            b"501" => Err(not_implemented("mmi.service")),
            _ => Err(RequestError::Answer(format!("{} is neither 200 nor 404", answer.first().escape_ascii()))),
        }
    }

    /// Has the workers of a service finish what they have and not come back (`mmi.drain`); brokers of ours only
    ///
    /// # Errors
    /// [`RequestError`]; refused with 403 where the access rules don't allow it.
    pub async fn drain<S>(&self, service: S) -> Result<(), RequestError>
    where
        S: TryInto<ServiceName>,
        S::Error: Into<RequestError>,
    {
        let service: ServiceName = service.try_into().map_err(Into::into)?;
        let answer = self.question("mmi.drain", service.into_bytes().into()).await?;
        let status = answer.first().get(..3).and_then(Status::from_digits);
        match status {
            Some(status) if status.code() < 300 => Ok(()),
            Some(status) => Err(RequestError::Refused { status, text: String::new() }),
            None => Err(RequestError::Answer(format!("{} is no status", answer.first().escape_ascii()))),
        }
    }

    async fn question(&self, name: &'static str, body: Frames) -> Result<Frames, RequestError> {
        Ok(self.request(name, body).await?.body)
    }

    async fn json(&self, name: &'static str) -> Result<Value, RequestError> {
        let answer = self.question(name, Frames::default()).await?;
        if answer.first() == b"501" {
            return Err(not_implemented(name));
        }
        serde_json::from_slice(answer.first()).map_err(|error| RequestError::Answer(error.to_string()))
    }
}

fn text(answer: &Frames) -> Result<&str, RequestError> {
    std::str::from_utf8(answer.first()).map_err(|error| RequestError::Answer(error.to_string()))
}

fn not_implemented(name: &str) -> RequestError {
    RequestError::Refused { status: Status::NOT_IMPLEMENTED, text: format!("the broker does not know {name}") }
}

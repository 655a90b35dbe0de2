//! The client for threads without a runtime.

use std::time::Duration;

use serde_json::Value;
use tidings_socket::{Context, IntoEndpoint, block_on};
use tidings_zmtp::Message as Frames;

use super::{Call, Client, ClientOptions, OpenError, Reply, RequestError};
use crate::message::Message;
use crate::wire::ServiceName;

/// Asks services through a broker, from threads that may wait
///
/// As [`Client`], with which it shares everything: cheap to clone, for any number of threads at once. The context must
/// have threads of its own (made outside of a runtime, or by [`Context::builder`]): one that runs on the very thread that
/// waits here would never get on.
#[derive(Clone, Debug)]
pub struct BlockingClient {
    client: Client,
}

impl BlockingClient {
    /// A client with its first conversation under way; see [`Client::connect`]
    ///
    /// # Errors
    /// [`OpenError`].
    pub fn connect(context: &Context, endpoint: impl IntoEndpoint, options: ClientOptions) -> Result<Self, OpenError> {
        let timeout = options.timeout;
        let client = Client::new(context, endpoint, options)?;
        match block_on(client.opened(), timeout) {
            Some(opened) => opened.map(|()| Self { client }),
            None => Err(client.timed_out(timeout.unwrap_or_default())),
        }
    }

    /// Asks a service and waits for its reply
    ///
    /// # Errors
    /// [`RequestError`].
    pub fn request<S>(&self, service: S, body: impl Into<Frames>) -> Result<Reply, RequestError>
    where
        S: TryInto<ServiceName>,
        S::Error: Into<RequestError>,
    {
        self.call(service, body).blocking()
    }

    /// A request to set deadline, key and the like of, before [`Call::blocking`] sends it
    pub fn call<S>(&self, service: S, body: impl Into<Frames>) -> Call
    where
        S: TryInto<ServiceName>,
        S::Error: Into<RequestError>,
    {
        self.client.request(service, body)
    }

    /// Asks a service with an action and its data, and reads its reply as such
    ///
    /// # Errors
    /// [`RequestError`]; [`RequestError::Reply`] when the reply is of another form.
    pub fn ask<S>(&self, service: S, message: &Message) -> Result<Message, RequestError>
    where
        S: TryInto<ServiceName>,
        S::Error: Into<RequestError>,
    {
        Ok(self.request(service, message)?.message()?)
    }

    /// The services that have a worker; see [`Client::services`]
    ///
    /// # Errors
    /// [`RequestError`].
    pub fn services(&self) -> Result<Vec<String>, RequestError> {
        wait(self.client.services())
    }

    /// The workers that the broker has; see [`Client::workers`]
    ///
    /// # Errors
    /// [`RequestError`].
    pub fn workers(&self) -> Result<Value, RequestError> {
        wait(self.client.workers())
    }

    /// The broker's figures; see [`Client::stats`]
    ///
    /// # Errors
    /// [`RequestError`].
    pub fn stats(&self) -> Result<Value, RequestError> {
        wait(self.client.stats())
    }

    /// Whether a service has a worker; see [`Client::ping`]
    ///
    /// # Errors
    /// [`RequestError`].
    pub fn ping<S>(&self, service: S) -> Result<Option<Duration>, RequestError>
    where
        S: TryInto<ServiceName>,
        S::Error: Into<RequestError>,
    {
        wait(self.client.ping(service))
    }

    /// Has the workers of a service finish and not come back; see [`Client::drain`]
    ///
    /// # Errors
    /// [`RequestError`].
    pub fn drain<S>(&self, service: S) -> Result<(), RequestError>
    where
        S: TryInto<ServiceName>,
        S::Error: Into<RequestError>,
    {
        wait(self.client.drain(service))
    }

    /// The same client for tasks
    #[must_use]
    pub fn as_client(&self) -> &Client {
        &self.client
    }
}

fn wait<T>(question: impl Future<Output = Result<T, RequestError>>) -> Result<T, RequestError> {
    block_on(question, None).unwrap_or(Err(RequestError::Closed))
}

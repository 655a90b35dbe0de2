//! Durable requests as calls: submit, ask what came of it, close (RFC 9 from the client's side).

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use tidings_store::Uuid;
use tidings_zmtp::Message as Frames;
use tokio::time::Instant;

use super::{CLOSE, ONCE, REPLY, REQUEST, answer};
use crate::client::{Client, RequestError};
use crate::wire::{ServiceName, Status};

/// The durable requests of a broker, by a [`Client`] of it
///
/// ```no_run
/// # use std::time::Duration;
/// # async fn example(client: tidings_majordomo::Client) -> Result<(), Box<dyn std::error::Error>> {
/// let durable = client.durable();
/// let id = durable.submit("invoices", "print 7341", Some("invoice-7341".into())).await?;
/// // The broker, the worker and this program may restart here, if the id is kept
/// let reply = durable.wait(id, Duration::from_secs(60)).await?;
/// durable.close(id).await?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Durable {
    client: Client,
}

/// What came of a durable request so far
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Progress {
    /// It has no result yet; in the broker's words
    Pending(String),
    /// Its result, parts of it in front
    Done(Frames),
}

/// Why a durable request was not stored, or has no result
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DurableError {
    /// The question itself had no answer; the request may be stored: submit it again with the same key
    #[error(transparent)]
    Request(#[from] RequestError),
    /// Titanic says no for good: the id is unknown or closed, the request malformed or not permitted
    #[error("{}", if .0.is_empty() { "refused" } else { .0 })]
    Refused(String),
    /// The broker could not, or the request is a dead letter; an operator may put it back with `tidings queue dead --requeue`
    #[error("{}", if .0.is_empty() { "the broker failed" } else { .0 })]
    Failed(String),
    /// It has no result yet; ask again later
    #[error("no result within {} s; it is still stored", .0.as_secs_f32())]
    DeadlinePassed(Duration),
    /// The answer is not one of RFC 9
    #[error("the broker's answer is none of Titanic")]
    Answer,
}

impl Client {
    /// Durable requests: stored on the broker's disk before they are acknowledged
    #[must_use]
    pub fn durable(&self) -> Durable {
        Durable { client: self.clone() }
    }
}

impl Durable {
    /// Has a request stored, and tells its id: it will be executed when there is a worker, whatever happens to this program
    ///
    /// The same key (1 to 255 octets) for the same service is the same request, and gets the same id. Without one, one is
    /// made up for this call, so that a lost connection stores nothing twice. Only our own wire carries keys.
    ///
    /// # Errors
    /// It was not stored, or nobody knows: [`DurableError::Request`].
    ///
    /// # Cancel safety
    /// When dropped, the request may be stored or not.
    pub async fn submit<S>(&self, service: S, body: impl Into<Frames>, key: Option<Bytes>) -> Result<Uuid, DurableError>
    where
        S: TryInto<ServiceName>,
        S::Error: Into<RequestError>,
    {
        let service: ServiceName = service.try_into().map_err(Into::into)?;
        let key = key.unwrap_or_else(key_of_one_call);
        let frames = std::iter::once(service.into_bytes()).chain(body.into().into_frames());
        let frames = Frames::from_iter(frames);
        let (code, text, rest) = read(self.client.request(REQUEST, frames).key(key).await?.body)?;
        match code {
            200 => rest.first().and_then(|frame| answer::read_id(frame)).ok_or(DurableError::Answer),
            400..500 => Err(DurableError::Refused(text)),
            _ => Err(DurableError::Failed(text)),
        }
    }

    /// Asks for the result, which stays until [`close`](Self::close)
    ///
    /// # Errors
    /// There will be none: unknown, closed, a dead letter; or the question had no answer.
    pub async fn progress(&self, id: Uuid) -> Result<Progress, DurableError> {
        let (code, text, rest) = read(self.client.request(REPLY, answer::write_id(id)).await?.body)?;
        match code {
            200 => Ok(Progress::Done(Frames::from_iter(rest))),
            300..400 => Ok(Progress::Pending(text)),
            400..500 => Err(DurableError::Refused(text)),
            _ => Err(DurableError::Failed(text)),
        }
    }

    /// Asks until there is a result, for so long: at once, then at growing intervals up to a second
    ///
    /// A broker that can't be asked, as it restarts, is asked again. One that has no durable requests is not, but for some
    /// seconds in which it may be about to begin with them.
    ///
    /// # Errors
    /// As [`progress`](Self::progress), or [`DurableError::DeadlinePassed`].
    pub async fn wait(&self, id: Uuid, time: Duration) -> Result<Frames, DurableError> {
        let begun = Instant::now();
        let until = begun + time;
        let mut pause = FIRST_PAUSE;
        loop {
            match tokio::time::timeout_at(until, self.progress(id)).await {
                Ok(Ok(Progress::Done(result))) => return Ok(result),
                Ok(Err(error)) if !is_passing(&error, begun.elapsed()) => return Err(error),
                Ok(Ok(Progress::Pending(_)) | Err(_)) => {}
                Err(_elapsed) => return Err(DurableError::DeadlinePassed(time)),
            }
            if Instant::now() + pause >= until {
                return Err(DurableError::DeadlinePassed(time));
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    /// Deletes request and result; also if it has no result yet, is closed or unknown
    ///
    /// # Errors
    /// The question had no answer, or the broker could not: ask again.
    pub async fn close(&self, id: Uuid) -> Result<(), DurableError> {
        let (code, text, _rest) = read(self.client.request(CLOSE, answer::write_id(id)).await?.body)?;
        match code {
            200 => Ok(()),
            400..500 => Err(DurableError::Refused(text)),
            _ => Err(DurableError::Failed(text)),
        }
    }
}

/// A key that nobody can guess. The time stands in front of it so that the store's index grows at its end: random keys had every
/// request write a page of its own
fn key_of_one_call() -> Bytes {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis() as u64;
    let random = [crate::random(), crate::random()];
    let time = now.to_be_bytes().into_iter().skip(2);
    ONCE.iter().copied().chain(time).chain(random.into_iter().flat_map(u64::to_be_bytes)).collect()
}

/// What may be over when it is asked again, after so long a time of asking
fn is_passing(error: &DurableError, asked: Duration) -> bool {
    match error {
        DurableError::Request(RequestError::Refused { status, .. }) => match *status {
            Status::TOO_MANY | Status::WORKER_GONE | Status::UNAVAILABLE | Status::DEADLINE_PASSED => true,
            Status::NO_SUCH_SERVICE => asked < ABSENCE,
            _ => false,
        },
        DurableError::Request(
            RequestError::DeadlinePassed { .. } | RequestError::ConnectionLost | RequestError::TooManyInFlight { .. },
        ) => true,
        _ => false,
    }
}

fn read(body: Frames) -> Result<(u16, String, Vec<Bytes>), DurableError> {
    let mut frames = body.into_frames().into_iter();
    let status = frames.next().ok_or(DurableError::Answer)?;
    let (code, text) = answer::read_status(&status).ok_or(DurableError::Answer)?;
    Ok((code, text, frames.collect()))
}

/// How long a broker that has begun may be without its durable requests
const ABSENCE: Duration = Duration::from_secs(2);
const FIRST_PAUSE: Duration = Duration::from_millis(20);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_may_pass_is_asked_again() {
        let refused = |code| {
            let status = Status::new(code).unwrap();
            DurableError::Request(RequestError::Refused { status, text: String::new() })
        };
        let passing = |code, asked| is_passing(&refused(code), Duration::from_secs(asked));
        for code in [429, 502, 503, 504] {
            assert!(passing(code, 0) && passing(code, 1000), "{code}");
        }
        for code in [400, 403, 409, 500, 501] {
            assert!(!passing(code, 0), "{code}");
        }
        assert!(passing(404, 0) && !passing(404, 3));
        assert!(!is_passing(&DurableError::Refused(String::new()), Duration::ZERO));
        assert!(is_passing(&DurableError::Request(RequestError::ConnectionLost), Duration::from_secs(9)));
    }

    #[test]
    fn keys_of_calls_are_never_the_same_and_come_in_order_of_time() {
        let keys: Vec<Bytes> = (0..100).map(|_| key_of_one_call()).collect();
        let times = || keys.iter().map(|key| &key[..ONCE.len() + 6]);
        assert!(times().is_sorted() && times().all(|key| key.starts_with(ONCE)));
        let different: std::collections::HashSet<&Bytes> = keys.iter().collect();
        assert_eq!(different.len(), keys.len());
    }

    #[test]
    fn a_time_is_told_in_seconds() {
        let said = DurableError::DeadlinePassed(Duration::from_millis(7500)).to_string();
        assert_eq!(said, "no result within 7.5 s; it is still stored");
    }
}

//! Several addresses, one connection: attempts are staggered and the first to succeed wins.
//!
//! RFC 8305 ("Happy Eyeballs"), sections 4 and 5, for the part that comes after resolving: families take turns, the
//! next attempt starts when the last one fails or has been quiet for 250 ms, and the losers are dropped.

use std::future::{Future, poll_fn};
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::task::Poll;
use std::time::Duration;

use tokio::time::{Instant, sleep};

/// Runs `connect` for the addresses in turn until one succeeds; else each address with its failure, in their order
///
/// Dropping the future drops the attempts under way.
pub(crate) async fn first_to_connect<T, E, F>(
    addresses: Vec<SocketAddr>,
    mut connect: impl FnMut(SocketAddr) -> F,
) -> Result<T, Vec<(SocketAddr, E)>>
where
    F: Future<Output = Result<T, E>>,
{
    let mut waiting = addresses.into_iter();
    let mut running: Vec<(SocketAddr, Pin<Box<F>>)> = Vec::new();
    let mut failed = Vec::new();
    let mut pause = pin!(sleep(ATTEMPT_DELAY));
    let mut due = true;

    poll_fn(|cx| {
        loop {
            if std::mem::take(&mut due)
                && let Some(address) = waiting.next()
            {
                running.push((address, Box::pin(connect(address))));
                pause.as_mut().reset(Instant::now() + ATTEMPT_DELAY);
            }
            let mut connected = None;
            let failed_before = failed.len();
            running.retain_mut(|(address, attempt)| match attempt.as_mut().poll(cx) {
                Poll::Pending => true,
                Poll::Ready(Ok(stream)) => {
                    connected.get_or_insert(stream);
                    false
                }
                Poll::Ready(Err(error)) => {
                    failed.push((*address, error));
                    false
                }
            });
            if let Some(stream) = connected {
                return Poll::Ready(Ok(stream));
            }
            if waiting.len() == 0 {
                return match running.is_empty() {
                    true => Poll::Ready(Err(std::mem::take(&mut failed))),
                    false => Poll::Pending,
                };
            }
            if failed.len() == failed_before && pause.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
            due = true;
        }
    })
    .await
}

/// The families taking turns, beginning with the one the resolver put first (RFC 8305, section 4)
pub(crate) fn interleaved(addresses: Vec<SocketAddr>) -> Vec<SocketAddr> {
    let first_is_v6 = addresses.first().is_some_and(SocketAddr::is_ipv6);
    let (first, second): (Vec<_>, Vec<_>) = addresses
        .into_iter()
        .partition(|address| address.is_ipv6() == first_is_v6);
    let mut first = first.into_iter();
    let mut second = second.into_iter();
    let mut all = Vec::new();
    while first.len() + second.len() > 0 {
        all.extend(first.next());
        all.extend(second.next());
    }
    all
}

/// RFC 8305, section 5: the recommended "Connection Attempt Delay"
const ATTEMPT_DELAY: Duration = Duration::from_millis(250);

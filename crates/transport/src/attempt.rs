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
    let (first, second): (Vec<_>, Vec<_>) = addresses.into_iter().partition(|address| address.is_ipv6() == first_is_v6);
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

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;

    fn address(n: u8) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, n], 1))
    }

    fn addresses(n: u8) -> Vec<SocketAddr> {
        (1..=n).map(address).collect()
    }

    /// When each attempt began, in milliseconds
    struct Log {
        origin: Instant,
        begun: RefCell<Vec<(SocketAddr, u128)>>,
    }

    impl Log {
        fn new() -> Self {
            Self { origin: Instant::now(), begun: RefCell::default() }
        }

        fn begin(&self, address: SocketAddr) {
            self.begun.borrow_mut().push((address, self.origin.elapsed().as_millis()));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_quiet_address_is_overtaken_after_250_ms() {
        let log = Log::new();
        let won = first_to_connect(addresses(3), |address_| {
            log.begin(address_);
            async move {
                if address_ == address(1) {
                    std::future::pending::<()>().await;
                }
                sleep(Duration::from_millis(100)).await;
                Ok::<_, ()>(address_)
            }
        })
        .await;
        assert_eq!(won, Ok(address(2)));
        assert_eq!(log.begun.take(), [(address(1), 0), (address(2), 250)]);
        assert_eq!(log.origin.elapsed().as_millis(), 350);
    }

    #[tokio::test(start_paused = true)]
    async fn the_first_attempt_may_still_win_late() {
        let log = Log::new();
        let won = first_to_connect(addresses(3), |address_| {
            log.begin(address_);
            let takes = if address_ == address(1) { 600 } else { 5000 };
            async move {
                sleep(Duration::from_millis(takes)).await;
                Ok::<_, ()>(address_)
            }
        })
        .await;
        assert_eq!(won, Ok(address(1)));
        assert_eq!(log.begun.take(), [(address(1), 0), (address(2), 250), (address(3), 500)]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_failure_starts_the_next_at_once_and_all_failures_are_told() {
        let log = Log::new();
        let failed = first_to_connect(addresses(3), |address_| {
            log.begin(address_);
            async move { Err::<(), _>(address_.ip().to_string()) }
        })
        .await;
        let told = ["127.0.0.1", "127.0.0.2", "127.0.0.3"].map(str::to_owned);
        assert_eq!(failed, Err(addresses(3).into_iter().zip(told).collect()));
        assert_eq!(log.begun.take(), [(address(1), 0), (address(2), 0), (address(3), 0)]);
    }

    #[tokio::test(start_paused = true)]
    async fn the_last_attempt_is_waited_for() {
        let failed = first_to_connect(addresses(1), |_| async {
            sleep(Duration::from_secs(60)).await;
            Err::<(), _>("silence")
        })
        .await;
        assert_eq!(failed, Err(vec![(address(1), "silence")]));
    }

    #[tokio::test(start_paused = true)]
    async fn no_address_is_no_connection() {
        let failed = first_to_connect(Vec::new(), |_| async { Ok::<_, ()>(()) }).await;
        assert_eq!(failed, Err(Vec::new()));
    }

    #[test]
    fn families_take_turns_from_the_one_the_resolver_prefers() {
        let v6 = |n: u16| SocketAddr::from(([0, 0, 0, 0, 0, 0, 0, n], 1));
        assert_eq!(
            interleaved(vec![v6(1), v6(2), v6(3), address(1), address(2)]),
            [v6(1), address(1), v6(2), address(2), v6(3)]
        );
        assert_eq!(interleaved(vec![address(1), address(2), v6(1)]), [address(1), v6(1), address(2)]);
        assert_eq!(interleaved(Vec::new()), []);
    }
}

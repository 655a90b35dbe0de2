//! When a command is to stop before its work is done: a signal, or `--for`.

use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

use crate::cli::{Exit, Failure};

/// Why a command stops
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Why {
    /// SIGINT or SIGTERM
    Interrupted,
    /// The time of `--for` is over
    TimeIsUp,
    /// A second signal, while the first was being honoured: now, without lingering
    Abandoned,
}

/// Tells everyone who waits that it is time to stop
#[derive(Clone, Debug)]
pub(crate) struct Stop {
    why: watch::Receiver<Option<Why>>,
}

impl Stop {
    /// Takes over SIGINT and SIGTERM
    ///
    /// # Errors
    /// When the system does not let signals be received.
    pub(crate) fn listen(run_for: Option<Duration>) -> Result<Self, Failure> {
        let deaf = |error| Failure::new(Exit::Usage, "system", format!("can't receive signals: {error}"));
        let mut interrupt = signal(SignalKind::interrupt()).map_err(deaf)?;
        let mut terminate = signal(SignalKind::terminate()).map_err(deaf)?;
        let (sender, why) = watch::channel(None);
        tokio::spawn(async move {
            let time_is_up = async {
                match run_for {
                    Some(duration) => tokio::time::sleep(duration).await,
                    None => std::future::pending().await,
                }
            };
            let first = tokio::select! {
                _ = interrupt.recv() => Why::Interrupted,
                _ = terminate.recv() => Why::Interrupted,
                () = time_is_up => Why::TimeIsUp,
            };
            sender.send_replace(Some(first));
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
            sender.send_replace(Some(Why::Abandoned));
        });
        Ok(Self { why })
    }

    /// Waits until it is time to stop
    ///
    /// # Cancel safety
    /// Safe.
    pub(crate) async fn stopped(&self) -> Why {
        self.wait(|_| true).await
    }

    /// Waits until even lingering is to stop
    pub(crate) async fn abandoned(&self) -> Why {
        self.wait(|why| why == Why::Abandoned).await
    }

    async fn wait(&self, is_it: impl Fn(Why) -> bool) -> Why {
        let mut why = self.why.clone();
        let seen = why.wait_for(|why| why.is_some_and(&is_it)).await.ok().and_then(|why| *why);
        match seen {
            Some(why) => why,
            // The task that listens is gone: nothing will be heard any more
            None => std::future::pending().await,
        }
    }
}

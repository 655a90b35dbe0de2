//! Deadlines on everything that is awaited.

use std::future::IntoFuture;
use std::time::Duration;

use anyhow::{Result, anyhow};

/// Longer than anything takes on a loaded machine; a test that needs it fails
pub(crate) const PATIENCE: Duration = Duration::from_secs(15);

/// What a future yields, if it does in time
pub(crate) async fn within<T>(time: Duration, what: &str, future: impl IntoFuture<Output = T>) -> Result<T> {
    tokio::time::timeout(time, future.into_future()).await.map_err(|_| anyhow!("{what}: not within {time:?}"))
}

//! The page: for people at `/`, for probes at `/healthz` and `/readyz`, for Prometheus at `/metrics`.
//!
//! It reads snapshots and is never in the way of a message. It changes nothing, and it listens on
//! loopback unless the configuration says otherwise.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::State as Shared;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{Html, IntoResponse};
use axum::routing::get;
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::metrics::{self, Format};
use super::status::{Health, State, sample_forever};
use crate::cli::{Exit, Failure};
use crate::config::HttpListener;

/// The running page
pub(super) struct Page {
    address: SocketAddr,
    stop: oneshot::Sender<()>,
    server: JoinHandle<()>,
    sampler: JoinHandle<()>,
}

impl Page {
    /// Listens, and serves from then on
    ///
    /// # Errors
    /// When the address can't be listened on.
    pub(super) async fn start(listener: HttpListener, health: Arc<Health>) -> Result<Self, Failure> {
        let wanted = listener.address;
        let failed = |error: std::io::Error| {
            let port = wanted.port();
            let why = match error.kind() {
                std::io::ErrorKind::AddrInUse => format!("port {port} is in use"),
                _ => error.to_string(),
            };
            Failure::new(Exit::Connect, "bind", format!("http.listen: can't listen on {wanted}: {why}")).hint(format!(
                "`ss -ltnp 'sport = :{port}'` shows who has it; choose another with --http 127.0.0.1:PORT or the key http.listen"
            ))
        };
        let listener = TcpListener::bind(wanted).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        let sampler = tokio::spawn(sample_forever(Arc::clone(&health)));
        let (stop, stopped) = oneshot::channel::<()>();
        let serving = axum::serve(listener, router(health)).with_graceful_shutdown(async {
            // A dropped sender means the same
            stopped.await.ok();
        });
        let server = tokio::spawn(async move {
            if let Err(error) = serving.await {
                tracing::error!(%error, "the page ended");
            }
        });
        Ok(Self { address, stop, server, sampler })
    }

    /// Where it really listens
    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Answers what has been asked, for a moment, and ends
    pub(super) async fn stop(mut self) {
        self.sampler.abort();
        // The server may have ended before
        self.stop.send(()).ok();
        if tokio::time::timeout(LAST_ANSWERS, &mut self.server).await.is_err() {
            self.server.abort();
        }
    }
}

fn router(health: Arc<Health>) -> Router {
    Router::new()
        .route("/", get(page))
        .route("/healthz", get(|| async { "alive\n" }))
        .route("/readyz", get(ready))
        .route("/metrics", get(metrics))
        .route("/status.json", get(status))
        .fallback(|| async { (StatusCode::NOT_FOUND, "there are /, /healthz, /readyz, /metrics and /status.json\n") })
        .with_state(health)
}

async fn page() -> impl IntoResponse {
    let headers = [
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::CACHE_CONTROL, "no-cache"),
    ];
    (headers, Html(include_str!("page.html")))
}

async fn ready(Shared(health): Shared<Arc<Health>>) -> impl IntoResponse {
    match health.state() {
        State::Ready if health.broker().is_some_and(|broker| !broker.keeps_requests()) => {
            (StatusCode::SERVICE_UNAVAILABLE, "the store of durable requests has failed: the log says why; restart\n")
        }
        State::Ready => (StatusCode::OK, "ready\n"),
        State::Starting => (StatusCode::SERVICE_UNAVAILABLE, "starting\n"),
        State::Draining => (StatusCode::SERVICE_UNAVAILABLE, "draining\n"),
    }
}

async fn metrics(Shared(health): Shared<Arc<Health>>, headers: HeaderMap) -> impl IntoResponse {
    let accept = headers.get(header::ACCEPT).and_then(|accept| accept.to_str().ok());
    let format = Format::accepted(accept);
    ([(header::CONTENT_TYPE, format.content_type())], metrics::page(&health, format).await)
}

async fn status(Shared(health): Shared<Arc<Health>>) -> impl IntoResponse {
    let headers = [(header::CACHE_CONTROL, "no-store"), (header::X_CONTENT_TYPE_OPTIONS, "nosniff")];
    (headers, axum::Json(health.status().await))
}

/// The page loads nothing from elsewhere and can be framed by nobody
const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; \
                      connect-src 'self'; img-src data:; frame-ancestors 'none'; base-uri 'none'";

/// Longest wait for answers under way; a connection kept open by a browser must not hold up the end
const LAST_ANSWERS: Duration = Duration::from_secs(1);

//! TLS between endpoints of this machine, and with OpenSSL's programs.
//!
//! - `handshakes`: who is let in and who is not, in both versions, and what each side is told
//! - `altered`: octets that are changed on the way, in each direction and at each stage
//! - `settings`: files that don't fit, and files that change while connections are up
//! - `traffic`: large and small writes, slow readers, farewells
//! - `openssl`: `openssl s_server` and `s_client` as the other side
//!
//! Certificates are made anew by each test (`authority`), with the dates it wants.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a helper of tests fails the test")]

mod altered;
mod authority;
mod handshakes;
mod openssl;
mod settings;
mod traffic;

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tidings_transport::{Endpoint, Stream, StreamOptions, TlsError, TlsPeer, TlsSettings};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// Far more than anything here takes, so that a hang is a failure
const PATIENCE: Duration = Duration::from_secs(30);

fn endpoint(text: &str) -> Endpoint {
    text.parse().unwrap()
}

fn with(settings: &Arc<TlsSettings>) -> StreamOptions {
    StreamOptions::default().tls(Some(settings.clone()))
}

/// Both ends of a connection that is not through its handshake yet
async fn connect(text: &str, server: &Arc<TlsSettings>, client: &Arc<TlsSettings>) -> (Stream, Stream) {
    let listener = tidings_transport::listen(&endpoint(text), &with(server)).await.unwrap();
    let near = tidings_transport::dial(listener.local_endpoint(), &with(client)).await.unwrap();
    (near, listener.accept().await.unwrap())
}

/// Both ends of a connection that is through its handshake
async fn established(text: &str, server: &Arc<TlsSettings>, client: &Arc<TlsSettings>) -> (Stream, Stream) {
    let (mut near, mut far) = connect(text, server, client).await;
    let (to_server, to_client) = tokio::join!(near.handshake(), far.handshake());
    to_server.unwrap().unwrap();
    to_client.unwrap().unwrap();
    (near, far)
}

/// What each side of a new connection to `text` has to say: the client first
async fn outcomes(
    text: &str,
    server: &Arc<TlsSettings>,
    client: &Arc<TlsSettings>,
) -> (Result<TlsPeer, TlsError>, Result<TlsPeer, TlsError>) {
    let (near, far) = connect(text, server, client).await;
    tokio::time::timeout(PATIENCE, async { tokio::join!(ask(near), answer(far)) }).await.unwrap()
}

/// Handshake, a question and its answer
async fn ask(mut stream: Stream) -> Result<TlsPeer, TlsError> {
    let peer = stream.handshake().await?.unwrap();
    let exchange = async {
        stream.write_all(b"ping").await?;
        stream.flush().await?;
        let mut answer = [0; 4];
        stream.read_exact(&mut answer).await?;
        assert_eq!(&answer, b"pong");
        io::Result::Ok(())
    };
    exchange.await.map_err(tls_error)?;
    stream.shutdown().await.map_err(tls_error)?;
    Ok(peer)
}

async fn answer(mut stream: Stream) -> Result<TlsPeer, TlsError> {
    let peer = stream.handshake().await?.unwrap();
    let exchange = async {
        let mut question = [0; 4];
        stream.read_exact(&mut question).await?;
        assert_eq!(&question, b"ping");
        stream.write_all(b"pong").await?;
        stream.flush().await?;
        // To the client's farewell
        assert_eq!(stream.read(&mut question).await?, 0);
        io::Result::Ok(())
    };
    exchange.await.map_err(tls_error)?;
    Ok(peer)
}

fn tls_error(error: io::Error) -> TlsError {
    TlsError::of(&error).cloned().unwrap_or_else(|| panic!("not a failure of TLS: {error:?}"))
}

/// "ok", or the error's name
fn told(outcome: &Result<TlsPeer, TlsError>) -> &'static str {
    outcome.as_ref().map_or_else(TlsError::name, |_| "ok")
}

//! Streams between endpoints of this machine.
//!
//! - `tcp`: addresses, names, interfaces, wildcards, sources, timeouts
//! - `ipc`: paths and what may stand at them, abstract names, wildcards
//! - `options`: what is set on the sockets, read back
//!
//! Running out of descriptors is a binary of its own (`descriptors.rs`): it lowers a limit of the whole process.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a helper of tests fails the test")]

mod ipc;
mod options;
mod tcp;

use tidings_transport::{DialError, Endpoint, ListenError, Listener, Stream, StreamOptions};
use tokio::io::{AsyncReadExt, AsyncWrite, AsyncWriteExt};

fn endpoint(text: &str) -> Endpoint {
    text.parse().unwrap()
}

async fn listen(text: &str) -> Result<Listener, ListenError> {
    tidings_transport::listen(&endpoint(text), &StreamOptions::default()).await
}

async fn dial(text: &str) -> Result<Stream, DialError> {
    tidings_transport::dial(&endpoint(text), &StreamOptions::default()).await
}

/// Both ends of a connection to `listener`
async fn connect(listener: &Listener) -> (Stream, Stream) {
    let text = listener.local_endpoint().to_string();
    // One after the other, so that a failed dial isn't waited for: the backlog holds what is dialled
    let dialled = dial(&text).await.unwrap();
    (dialled, listener.accept().await.unwrap())
}

/// Octets go both ways, and the end of one direction leaves the other open
async fn assert_connected((mut near, mut far): (Stream, Stream)) {
    let parts = [std::io::IoSlice::new(b"there "), std::io::IoSlice::new(b"and ")];
    assert!(near.is_write_vectored());
    let written = near.write_vectored(&parts).await.unwrap();
    assert_eq!(written, 10);
    near.shutdown().await.unwrap();
    let mut there = String::new();
    far.read_to_string(&mut there).await.unwrap();
    assert_eq!(there, "there and ");

    far.write_all(b"back").await.unwrap();
    drop(far);
    let mut back = String::new();
    near.read_to_string(&mut back).await.unwrap();
    assert_eq!(back, "back");
}

fn has_ipv6() -> bool {
    match std::net::TcpListener::bind("[::1]:0") {
        Ok(_) => true,
        Err(error) => {
            println!("skipped: this machine has no ::1 ({error})");
            false
        }
    }
}

//! Large and small writes, slow readers, farewells.

use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;

use tidings_transport::{Stream, TlsError, TlsSettings, TlsVersion};
use tokio::io::{AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::authority::{Authority, Dates, Folder, Identity};
use crate::{PATIENCE, endpoint, established, with};

const VERSIONS: [TlsVersion; 2] = [TlsVersion::Tls12, TlsVersion::Tls13];
const LOOPBACK: &str = "tls://127.0.0.1:*";

/// Settings of both sides, and the folder they are in
fn settings(version: TlsVersion) -> (Folder, Arc<TlsSettings>, Arc<TlsSettings>) {
    let folder = Folder::new();
    let server = Identity::self_signed(&["hub"], Dates::Valid);
    let client = TlsSettings::client().pinned(vec![server.pin]).build().unwrap();
    let server = server.server(&folder, "hub").versions([version]).build().unwrap();
    (folder, server, client)
}

/// Octets that are all different from their neighbours, and from one place to another
fn pattern(length: usize) -> Vec<u8> {
    (0..length).map(|n| (n ^ (n >> 8) ^ (n >> 16)) as u8).collect()
}

/// Writes as a driver does: vectored, and flushing only when it is asked to
async fn write_all_vectored(stream: &mut Stream, octets: &[u8], slice: usize) -> io::Result<()> {
    let mut written = 0;
    while written < octets.len() {
        let slices: Vec<_> = octets[written..].chunks(slice).take(64).map(IoSlice::new).collect();
        written += poll_fn(|cx| Pin::new(&mut *stream).poll_write_vectored(cx, &slices)).await?;
    }
    while stream.needs_flush() {
        stream.flush().await?;
    }
    Ok(())
}

#[tokio::test]
async fn vectored_writes_of_every_size_arrive_whole() {
    for version in VERSIONS {
        let (_folder, server, client) = settings(version);
        let (mut near, mut far) = established(LOOPBACK, &server, &client).await;
        assert!(near.is_write_vectored());
        let octets = pattern(3 << 20);
        for slice in [9, 1000, 16 * 1024, 1 << 20] {
            let sent = &octets[..octets.len().min(slice * 20_000)];
            let read = async {
                let mut read = vec![0; sent.len()];
                far.read_exact(&mut read).await.unwrap();
                read
            };
            let exchange = async { tokio::join!(write_all_vectored(&mut near, sent, slice), read) };
            let (written, read) = tokio::time::timeout(PATIENCE, exchange).await.unwrap();
            written.unwrap();
            assert!(read == sent, "{version:?}, slices of {slice}");
        }
    }
}

#[tokio::test]
async fn what_the_kernel_does_not_take_waits_for_a_flush_and_is_bounded() {
    let (_folder, server, client) = settings(TlsVersion::Tls13);
    let (mut near, mut far) = established(LOOPBACK, &server, &client).await;
    let octets = pattern(64 << 20);
    let mut taken = 0;
    // Until nothing is taken any more: the peer doesn't read
    let pending = poll_fn(|cx| {
        loop {
            let slices: Vec<_> = octets[taken..].chunks(1 << 20).take(64).map(IoSlice::new).collect();
            match Pin::new(&mut near).poll_write_vectored(cx, &slices) {
                Poll::Ready(count) => taken += count.unwrap(),
                Poll::Pending => return Poll::Ready(near.needs_flush()),
            }
        }
    })
    .await;
    assert!(pending, "a full kernel leaves octets behind");
    assert!(taken < octets.len(), "the reader was slow, and all was taken");
    let read = async {
        let mut read = vec![0; taken];
        far.read_exact(&mut read).await.unwrap();
        read
    };
    let exchange = async { tokio::join!(near.flush(), read) };
    let (flushed, read) = tokio::time::timeout(PATIENCE, exchange).await.unwrap();
    flushed.unwrap();
    assert!(!near.needs_flush());
    assert!(read == octets[..taken]);
}

#[tokio::test]
async fn many_small_slices_become_one_record() {
    let (_folder, server, client) = settings(TlsVersion::Tls13);
    let listener = tidings_transport::listen(&endpoint(LOOPBACK), &with(&server)).await.unwrap();
    let relay = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let text = format!("tls://{}", relay.local_addr().unwrap());
    let mut near = tidings_transport::dial(&endpoint(&text), &with(&client)).await.unwrap();
    let (near_end, _) = relay.accept().await.unwrap();
    let far_end = TcpStream::connect(listener.local_endpoint().to_string().replace("tls://", "")).await.unwrap();
    let mut far = listener.accept().await.unwrap();
    let (mut from_client, mut to_client) = near_end.into_split();
    let (mut from_server, mut to_server) = far_end.into_split();
    let upwards = async move {
        let (mut seen, mut octets) = (Vec::new(), [0; 4096]);
        while let Ok(count @ 1..) = from_client.read(&mut octets).await {
            seen.extend_from_slice(&octets[..count]);
            to_server.write_all(&octets[..count]).await.unwrap();
        }
        seen
    };
    let downwards = async move { tokio::io::copy(&mut from_server, &mut to_client).await.ok() };
    let parts = pattern(50 * 60);
    let ends = async {
        let (to_server, to_client) = tokio::join!(near.handshake(), far.handshake());
        to_server.unwrap();
        to_client.unwrap();
        write_all_vectored(&mut near, &parts, 60).await.unwrap();
        let mut read = vec![0; parts.len()];
        far.read_exact(&mut read).await.unwrap();
        drop((near, far));
    };
    let all = async { tokio::join!(ends, upwards, downwards).1 };
    let seen = tokio::time::timeout(PATIENCE, all).await.unwrap();
    // Records of traffic after the client's own Finished (RFC 8446, section 5.2): type 23, and its length
    let records = records(&seen).into_iter().filter(|(kind, _)| *kind == 23).collect::<Vec<_>>();
    assert_eq!(records.len(), 2, "{records:?}");
    assert_eq!(records[1].1, parts.len() + 17);
}

fn records(mut octets: &[u8]) -> Vec<(u8, usize)> {
    let mut records = Vec::new();
    while let [kind, _, _, high, low, rest @ ..] = octets {
        let length = usize::from(u16::from_be_bytes([*high, *low]));
        records.push((*kind, length));
        octets = &rest[length..];
    }
    records
}

#[tokio::test]
async fn the_farewell_ends_one_direction_and_leaves_the_other_open() {
    for version in VERSIONS {
        let (_folder, server, client) = settings(version);
        let (mut near, mut far) = established(LOOPBACK, &server, &client).await;
        near.write_all(b"there").await.unwrap();
        near.shutdown().await.unwrap();
        let mut there = String::new();
        far.read_to_string(&mut there).await.unwrap();
        assert_eq!(there, "there");
        far.write_all(b"back").await.unwrap();
        far.shutdown().await.unwrap();
        let mut back = String::new();
        near.read_to_string(&mut back).await.unwrap();
        assert_eq!(back, "back");
    }
}

#[tokio::test]
async fn an_end_without_farewell_is_not_taken_for_one() {
    let (_folder, server, client) = settings(TlsVersion::Tls13);
    let (mut near, far) = established(LOOPBACK, &server, &client).await;
    drop(far);
    let error = near.read_u8().await.unwrap_err();
    assert!(matches!(error.kind(), io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset), "{error:?}");
}

#[tokio::test]
async fn a_client_that_only_writes_hears_of_its_refusal_too() {
    let folder = Folder::new();
    let (root, foreign) = (Authority::root("root"), Authority::root("foreign"));
    let trusted = vec![folder.write("root.pem", root.pem())];
    let server = root.issue(&["127.0.0.1"], Dates::Valid).server(&folder, "hub").authorities(trusted.clone());
    let server = server.build().unwrap();
    let client = foreign.issue(&["node"], Dates::Valid).client(&folder, "node").authorities(trusted).build().unwrap();
    let (mut near, mut far) = crate::connect(LOOPBACK, &server, &client).await;
    let write = async {
        near.handshake().await.unwrap();
        let octets = pattern(1 << 20);
        loop {
            if let Err(error) = write_all_vectored(&mut near, &octets, 1 << 16).await {
                return error;
            }
        }
    };
    let refuse = async {
        let refused = far.handshake().await;
        drop(far);
        refused
    };
    let (error, refused) = tokio::time::timeout(PATIENCE, async { tokio::join!(write, refuse) }).await.unwrap();
    assert_eq!(refused.unwrap_err().name(), "tls-unknown-authority");
    let Some(TlsError::Refused { alert }) = TlsError::of(&error) else { panic!("{error:?}") };
    assert_eq!(alert, "unknown_ca");
}

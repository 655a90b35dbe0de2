//! Octets that are changed on the way, in each direction and at each stage.

use std::io;
use std::sync::Arc;

use tidings_transport::{Stream, TlsError, TlsSettings, TlsVersion};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};

use crate::authority::{Dates, Folder, Identity};
use crate::{PATIENCE, endpoint, with};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Direction {
    ToServer,
    ToClient,
}

/// Settings of both sides, each of which pins the other
fn settings(version: TlsVersion) -> (Folder, Arc<TlsSettings>, Arc<TlsSettings>) {
    let folder = Folder::new();
    let server = Identity::self_signed(&["hub"], Dates::Valid);
    let client = Identity::self_signed(&["node"], Dates::Valid);
    let listening = server.server(&folder, "hub").pinned(vec![client.pin]).versions([version]).build().unwrap();
    let calling = client.client(&folder, "node").pinned(vec![server.pin]).build().unwrap();
    (folder, listening, calling)
}

/// A length that was made longer has its reader wait for octets that never come; whoever awaits has a deadline
const STALLED: &str = "stalled";

// The clock stands still while anything moves, and jumps to the deadline when nothing does
#[tokio::test(start_paused = true)]
async fn no_connection_survives_a_flipped_bit() {
    for version in [TlsVersion::Tls12, TlsVersion::Tls13] {
        let whole = through_a_relay(version, None).await;
        assert_eq!(whole.ends, (Ok(()), Ok(())), "{version:?}: nothing was altered");
        for (direction, length) in [(Direction::ToServer, whole.up.len()), (Direction::ToClient, whole.down.len())] {
            // Every octet at the beginning, a sample of the middle, and the traffic at the end
            let mut noticed = 0;
            let places = (0..60).chain((60..length).step_by(29)).chain(length - 40..length);
            for place in places {
                let run = through_a_relay(version, Some((direction, place))).await;
                let octets = if direction == Direction::ToServer { &run.up } else { &run.down };
                let errors: Vec<_> = [run.ends.0.err(), run.ends.1.err()].into_iter().flatten().collect();
                assert!(errors.iter().all(|name| name.starts_with("tls-") || *name == STALLED), "{errors:?}");
                // Signatures differ in length, so that a run may end before the place
                let unread = place >= octets.len() || is_legacy_version(octets, place);
                assert!(unread || !errors.is_empty(), "{version:?}, {direction:?}: octet {place} of {length}");
                noticed += usize::from(!errors.is_empty());
            }
            assert!(noticed > 90, "{version:?}, {direction:?}: {noticed}");
        }
    }
}

/// Whether the octet at `place` is the minor version in a record's header, which RFC 8446, section 5.1, has all ignore
fn is_legacy_version(octets: &[u8], place: usize) -> bool {
    let mut start = 0;
    while let Some([_, _, _, high, low]) = octets.get(start..start + 5) {
        if place == start + 2 {
            return true;
        }
        start += 5 + usize::from(u16::from_be_bytes([*high, *low]));
    }
    false
}

struct Run {
    /// What the client says of the exchange, and the server: the name of its error
    ends: (Result<(), &'static str>, Result<(), &'static str>),
    /// What was sent to the server, and to the client, before it was altered
    up: Vec<u8>,
    down: Vec<u8>,
}

/// An exchange with one bit flipped on the way
async fn through_a_relay(version: TlsVersion, altered: Option<(Direction, usize)>) -> Run {
    // New ones each time: no session is resumed
    let (_folder, server, client) = settings(version);
    let listener = tidings_transport::listen(&endpoint("tls://127.0.0.1:*"), &with(&server)).await.unwrap();
    let relay = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let text = format!("tls://{}", relay.local_addr().unwrap());
    let near = tidings_transport::dial(&endpoint(&text), &with(&client)).await.unwrap();
    let (client_reads, client_writes) = relay.accept().await.unwrap().0.into_split();
    let to_server = TcpStream::connect(listener.local_endpoint().to_string().replace("tls://", "")).await.unwrap();
    let (server_reads, server_writes) = to_server.into_split();
    let far = listener.accept().await.unwrap();
    let place = |direction| altered.filter(|(altered, _)| *altered == direction).map(|(_, place)| place);
    let all = async {
        tokio::join!(
            ask(near),
            answer(far),
            pass_on(client_reads, server_writes, place(Direction::ToServer)),
            pass_on(server_reads, client_writes, place(Direction::ToClient)),
        )
    };
    match tokio::time::timeout(PATIENCE, all).await {
        Ok((near, far, up, down)) => Run { ends: (near, far), up, down },
        Err(_) => Run { ends: (Err(STALLED), Err(STALLED)), up: Vec::new(), down: Vec::new() },
    }
}

/// Passes octets on with one bit of the one at `altered` flipped; what they were
async fn pass_on(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, altered: Option<usize>) -> Vec<u8> {
    let (mut all, mut octets) = (Vec::new(), [0; 4096]);
    while let Ok(count @ 1..) = from.read(&mut octets).await {
        let seen = all.len();
        all.extend_from_slice(&octets[..count]);
        if let Some(place) = altered.filter(|place| (seen..seen + count).contains(place)) {
            octets[place - seen] ^= 4;
        }
        if to.write_all(&octets[..count]).await.is_err() {
            break;
        }
    }
    all
}

async fn ask(mut stream: Stream) -> Result<(), &'static str> {
    stream.handshake().await.map_err(|error| error.name())?;
    let exchange = async {
        stream.write_all(b"ping").await?;
        stream.shutdown().await?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await?;
        assert_eq!(answer, b"pong");
        io::Result::Ok(())
    };
    exchange.await.map_err(name)
}

async fn answer(mut stream: Stream) -> Result<(), &'static str> {
    stream.handshake().await.map_err(|error| error.name())?;
    let exchange = async {
        let mut question = Vec::new();
        stream.read_to_end(&mut question).await?;
        assert_eq!(question, b"ping");
        stream.write_all(b"pong").await?;
        stream.shutdown().await
    };
    exchange.await.map_err(name)
}

/// The name of a failure of TLS; an end without farewell has none of its own
fn name(error: io::Error) -> &'static str {
    match TlsError::of(&error) {
        Some(error) => error.name(),
        None => match error.kind() {
            io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe => "tls-closed",
            _ => panic!("not an end that was expected: {error:?}"),
        },
    }
}

//! Running out of descriptors: accepting waits and says so, nobody else notices, and it goes on by itself.
//!
//! The limit is the whole process's, so this is one test in a binary of its own.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that can't go on fails")]

use std::fs::File;
use std::time::Duration;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tidings_socket::{Context, EventStream, PullSocket, PushSocket};
use tokio::net::{TcpSocket, UnixStream};

#[tokio::test]
async fn accepting_pauses_and_goes_on() {
    let maximum = getrlimit(Resource::Nofile).maximum;
    setrlimit(Resource::Nofile, Rlimit { current: Some(128), maximum }).unwrap();
    for endpoint in ["tcp://127.0.0.1:*".to_owned(), format!("ipc://@tidings-descriptors-{}", std::process::id())] {
        let context = Context::new();
        let (pull, push) = (PullSocket::new(&context).unwrap(), PushSocket::new(&context).unwrap());
        let at = pull.bind(endpoint).unwrap().await.unwrap();
        push.connect(&at).unwrap().await.unwrap();
        let mut events = pull.events();

        // One descriptor is left, and the newcomer's own end takes it
        let mut hoard = hoard();
        drop(hoard.pop());
        let newcomer: Box<dyn Send> = match at.to_string().strip_prefix("tcp://") {
            Some(address) => Box::new(TcpSocket::new_v4().unwrap().connect(address.parse().unwrap()).await.unwrap()),
            None => Box::new(connect_abstract(&at.to_string()).await),
        };
        until(&mut events, "accept-paused").await;
        assert!(pull.stats().accept_paused, "{at}");
        for number in 0..100 {
            push.send(format!("{number}").into()).await.unwrap();
            let received = tokio::time::timeout(LONG, pull.recv()).await.unwrap().unwrap();
            assert_eq!(received.first(), format!("{number}").as_bytes(), "{at}: who is here notices nothing");
        }

        drop(hoard);
        let between = until(&mut events, "accept-resumed").await;
        assert_eq!(between, 0, "{at}: a pause is told once, however often accepting was tried");
        until(&mut events, "accepted").await;
        assert!(!pull.stats().accept_paused, "{at}");
        drop(newcomer);
        let another = PushSocket::new(&context).unwrap();
        another.connect(&at).unwrap().await.unwrap();
    }
}

async fn connect_abstract(endpoint: &str) -> UnixStream {
    use std::os::linux::net::SocketAddrExt;
    let name = endpoint.trim_start_matches("ipc://@");
    let address = std::os::unix::net::SocketAddr::from_abstract_name(name).unwrap();
    let stream = std::os::unix::net::UnixStream::connect_addr(&address).unwrap();
    stream.set_nonblocking(true).unwrap();
    UnixStream::from_std(stream).unwrap()
}

/// Reads events up to one of this name; how many others there were
async fn until(events: &mut EventStream, name: &str) -> usize {
    let mut others = 0;
    loop {
        let event = tokio::time::timeout(LONG, events.next()).await.unwrap_or_else(|_| panic!("no event '{name}'"));
        if event.unwrap().kind.name() == name {
            return others;
        }
        others += 1;
    }
}

/// Every descriptor that is left
fn hoard() -> Vec<File> {
    std::iter::from_fn(|| File::open("/dev/null").ok()).collect()
}

const LONG: Duration = Duration::from_secs(20);

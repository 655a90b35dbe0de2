//! ipc: paths and what may stand at them, abstract names, wildcards.

use std::fs;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::Path;
use std::sync::{Arc, Barrier};

use tidings_transport::{DialError, Endpoint, IpcEndpoint, ListenError, PeerAddress};

use crate::{assert_connected, connect, dial, listen};

fn at(path: &Path) -> String {
    format!("ipc://{}", path.display())
}

/// A socket file that nobody listens on: the standard library doesn't remove it
fn leave_stale(path: &Path) {
    drop(std::os::unix::net::UnixListener::bind(path).unwrap());
    assert!(fs::symlink_metadata(path).unwrap().file_type().is_socket());
}

#[tokio::test]
async fn a_path_is_made_reached_and_removed() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("a socket");
    let listener = listen(&at(&path)).await.unwrap();
    assert_eq!(listener.local_endpoint().to_string(), at(&path));
    let (near, far) = connect(&listener).await;
    assert_eq!(far.local_address().as_ref(), Some(listener.local_endpoint()));
    assert_eq!(near.local_address(), None);
    assert_connected((near, far)).await;
    drop(listener);
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0, "neither socket nor lock is left");
}

#[tokio::test]
async fn both_ends_know_the_others_process() {
    let directory = tempfile::tempdir().unwrap();
    let listener = listen(&at(&directory.path().join("s"))).await.unwrap();
    let (near, far) = connect(&listener).await;
    let own = i32::try_from(std::process::id()).unwrap();
    for stream in [near, far] {
        let peer = stream.peer_address();
        let PeerAddress::Ipc { pid: Some(pid), uid: Some(uid) } = peer else { panic!("{peer:?}") };
        assert_eq!(pid, own);
        assert_eq!(peer.to_string(), format!("ipc pid {pid} uid {uid}"));
    }
}

#[tokio::test]
async fn a_stale_socket_is_replaced() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("s");
    leave_stale(&path);
    let error = dial(&at(&path)).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        format!(
            "can't connect to {}: Connection refused (os error 111); no process listens there any more; start the \
             program that binds it",
            at(&path)
        )
    );
    let listener = listen(&at(&path)).await.unwrap();
    assert_connected(connect(&listener).await).await;
}

#[tokio::test]
async fn a_live_socket_is_refused_and_lives_on() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("s");
    let live = listen(&at(&path)).await.unwrap();
    let error = listen(&at(&path)).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        format!("another process is listening on {}, or this one is; stop it or choose another endpoint", at(&path))
    );
    // The question whether it lives was a connection that ended at once
    drop(live.accept().await.unwrap());
    assert_connected(connect(&live).await).await;
}

#[tokio::test]
async fn a_live_socket_with_a_full_backlog_is_live() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("s");
    let options = tidings_transport::StreamOptions::default().backlog(0);
    let _live = tidings_transport::listen(&at(&path).parse().unwrap(), &options).await.unwrap();
    let mut waiting = Vec::new();
    let error = loop {
        assert!(waiting.len() < 64, "the backlog never fills");
        match dial(&at(&path)).await {
            Ok(stream) => waiting.push(stream),
            Err(error) => break error,
        }
    };
    assert!(error.to_string().contains("its backlog is full"), "{error}");
    assert!(matches!(listen(&at(&path)).await, Err(ListenError::InUse { .. })));
}

#[tokio::test]
async fn what_is_no_socket_is_never_touched() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("file");
    fs::write(&file, "precious").unwrap();
    let folder = directory.path().join("folder");
    fs::create_dir(&folder).unwrap();
    let link = directory.path().join("link");
    leave_stale(&directory.path().join("stale"));
    std::os::unix::fs::symlink(directory.path().join("stale"), &link).unwrap();
    for path in [&file, &folder, &link] {
        let error = listen(&at(path)).await.unwrap_err();
        assert_eq!(
            error.to_string(),
            format!("{} exists and is not a socket; remove it yourself or choose another path", path.display())
        );
    }
    assert_eq!(fs::read_to_string(&file).unwrap(), "precious");
    assert!(folder.is_dir());
    assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
}

#[tokio::test]
async fn a_datagram_socket_of_somebody_else_is_left_alone() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("s");
    let _theirs = std::os::unix::net::UnixDatagram::bind(&path).unwrap();
    assert!(matches!(listen(&at(&path)).await, Err(ListenError::InUse { .. })));
    assert!(path.exists());
}

#[tokio::test]
async fn a_missing_directory_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let missing = directory.path().join("missing");
    let error = listen(&at(&missing.join("s"))).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        format!("the directory {} does not exist; create it or choose another path", missing.display())
    );
    fs::write(&missing, "a file now").unwrap();
    assert!(matches!(listen(&at(&missing.join("s"))).await, Err(ListenError::NoDirectory { .. })));

    let error = dial(&at(&directory.path().join("s"))).await.unwrap_err().to_string();
    assert!(error.ends_with("nothing is bound there; start the program that binds it, or check the path"), "{error}");
}

#[tokio::test]
async fn a_file_that_took_our_place_stays() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("s");
    let first = listen(&at(&path)).await.unwrap();
    fs::remove_file(&path).unwrap();
    let second = listen(&at(&path)).await.unwrap();
    drop(first);
    assert_connected(connect(&second).await).await;
}

#[tokio::test]
async fn of_many_binders_at_once_one_wins() {
    const BINDERS: usize = 6;
    let directory = tempfile::tempdir().unwrap();
    for round in 0..100 {
        let path = directory.path().join(format!("s{round}"));
        leave_stale(&path);
        let text = at(&path);
        let gate = Arc::new(Barrier::new(BINDERS));
        let done = Arc::new(Barrier::new(BINDERS));
        let threads: Vec<_> = (0..BINDERS)
            .map(|_| {
                let (text, gate, done) = (text.clone(), gate.clone(), done.clone());
                std::thread::spawn(move || {
                    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
                    runtime.block_on(async {
                        gate.wait();
                        let outcome = listen(&text).await;
                        // Nobody leaves before all have tried, or a late one could rightly win too
                        done.wait();
                        match outcome {
                            Ok(listener) => {
                                assert!(Path::new(text.trim_start_matches("ipc://")).exists());
                                drop(listener);
                                true
                            }
                            Err(ListenError::InUse { .. }) => false,
                            Err(error) => panic!("{error}"),
                        }
                    })
                })
            })
            .collect();
        let winners = threads.into_iter().map(|thread| thread.join().unwrap()).filter(|won| *won).count();
        assert_eq!(winners, 1, "round {round}");
        assert!(!path.exists());
    }
}

/// The clock is virtual: the wait for the lock is over at once
#[tokio::test(start_paused = true)]
async fn a_directory_that_stays_locked_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let lock = fs::File::open(directory.path()).unwrap();
    lock.lock().unwrap();
    let text = at(&directory.path().join("s"));
    let error = listen(&text).await.unwrap_err();
    assert!(matches!(&error, ListenError::Locked { directory: named, .. } if named == directory.path()), "{error:?}");
    lock.unlock().unwrap();
    listen(&text).await.unwrap();
}

#[tokio::test]
async fn a_directory_that_is_a_fifo_is_no_directory() {
    let directory = tempfile::tempdir().unwrap();
    let fifo = directory.path().join("fifo");
    let made = std::process::Command::new("mkfifo").arg(&fifo).status().unwrap();
    assert!(made.success());
    assert!(matches!(listen(&at(&fifo.join("s"))).await, Err(ListenError::NoDirectory { .. })));
}

#[tokio::test]
async fn an_abstract_name_leaves_no_file_and_is_exclusive() {
    let text = format!("ipc://@tidings test {}", std::process::id());
    let listener = listen(&text).await.unwrap();
    assert_eq!(listener.local_endpoint().to_string(), text);
    let (near, far) = connect(&listener).await;
    assert_eq!(far.local_address().as_ref(), Some(listener.local_endpoint()));
    assert_connected((near, far)).await;
    assert!(matches!(listen(&text).await, Err(ListenError::InUse { .. })));
    drop(listener);
    assert!(matches!(dial(&text).await, Err(DialError::Ipc { .. })));
    listen(&text).await.unwrap();
}

#[tokio::test]
async fn a_wildcard_is_a_fresh_private_path_gone_with_the_listener() {
    let first = listen("ipc://*").await.unwrap();
    let second = listen("ipc://*").await.unwrap();
    assert_ne!(first.local_endpoint(), second.local_endpoint());
    let Endpoint::Ipc(IpcEndpoint::Path(path)) = first.local_endpoint().clone() else { panic!() };
    let directory = path.parent().unwrap();
    assert_eq!(fs::metadata(directory).unwrap().permissions().mode() & 0o777, 0o700);
    assert_connected(connect(&first).await).await;
    drop(first);
    assert!(!directory.exists());
    assert_connected(connect(&second).await).await;
}

#[tokio::test]
async fn the_longest_path_and_name_fit() {
    let directory = tempfile::tempdir().unwrap();
    let room = 107 - directory.path().as_os_str().len() - 1;
    let listener = listen(&at(&directory.path().join("p".repeat(room)))).await.unwrap();
    assert_connected(connect(&listener).await).await;
    let name = format!("ipc://@{:n<106}", std::process::id());
    let listener = listen(&name).await.unwrap();
    assert_connected(connect(&listener).await).await;
}

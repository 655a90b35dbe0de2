//! Running out of descriptors: a named error at each step, and everything works again once some are free.
//!
//! The limit is the whole process's, so this is one test in a binary of its own.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a helper of tests fails the test")]

use std::fs::File;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tidings_transport::{AcceptError, StreamOptions, dial, listen};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

#[tokio::test]
async fn accepting_goes_on_when_descriptors_are_free_again() {
    let maximum = getrlimit(Resource::Nofile).maximum;
    setrlimit(Resource::Nofile, Rlimit { current: Some(64), maximum }).unwrap();
    let options = StreamOptions::default();

    for text in ["tcp://127.0.0.1:*", "ipc://*"] {
        let listener = listen(&text.parse().unwrap(), &options).await.unwrap();
        // In the backlog before the last descriptor is gone
        let mut near = dial(listener.local_endpoint(), &options).await.unwrap();
        let hoard = hoard();

        for _ in 0..3 {
            let error = listener.accept().await.unwrap_err();
            assert!(matches!(error, AcceptError::OutOfDescriptors(_)), "{text}: {error:?}");
        }
        let error = dial(listener.local_endpoint(), &options).await.unwrap_err();
        assert!(error.is_out_of_descriptors(), "{text}: {error:?}");
        let error = listen(&text.parse().unwrap(), &options).await.unwrap_err();
        assert!(error.is_out_of_descriptors(), "{text}: {error:?}");

        drop(hoard);
        let mut far = listener.accept().await.unwrap();
        near.write_all(b"still here").await.unwrap();
        drop(near);
        let mut heard = String::new();
        far.read_to_string(&mut heard).await.unwrap();
        assert_eq!(heard, "still here", "{text}");
    }
}

/// Every descriptor that is left
fn hoard() -> Vec<File> {
    std::iter::from_fn(|| File::open("/dev/null").ok()).collect()
}

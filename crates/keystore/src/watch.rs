//! Follows the files: what an operator or a configuration tool changes takes force without a signal.
//!
//! By looking, not by inotify: looking works on every file system and through the directory swaps of container
//! orchestrators, needs no descriptor or limit, and loses no event. Every round costs a stat for each folder and for
//! the few files that people edit in place; all files are looked at every [`FULL_ROUND`]th time. What has
//! changed is read once it has stayed the same for a round, so that nothing is read while it is being written.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::keyset::{ACCESS, CMS, OWN, REVOKED, TLS, TRUSTED};
use crate::{Changes, Keystore, KeystoreError};

/// Follows a keystore's files until it is dropped
#[derive(Debug)]
pub struct Watch {
    /// Closing it ends the thread
    stop: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Keystore {
    /// Reloads when files change, looking every `interval` (2 s is a good one), and tells what came of it
    ///
    /// `told` runs in the watch's own thread. A reload that changes nothing is not told, a failed one is told once for
    /// each state of the files.
    ///
    /// # Errors
    /// The system gives no thread.
    pub fn watch(
        &self,
        interval: Duration,
        mut told: impl FnMut(Result<Changes, KeystoreError>) + Send + 'static,
    ) -> std::io::Result<Watch> {
        let mut watcher = Watcher::new(self.clone());
        let (stop, stopped) = channel::<()>();
        let thread = std::thread::Builder::new().name("keystore-watch".to_owned()).spawn(move || {
            while stopped.recv_timeout(interval) == Err(RecvTimeoutError::Timeout) {
                match watcher.poll() {
                    Some(Ok(changes)) if changes.is_empty() => {}
                    Some(outcome) => told(outcome),
                    None => {}
                }
            }
        })?;
        Ok(Watch { stop: Some(stop), thread: Some(thread) })
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.stop = None;
        // Dropped by its own callback, it ends by itself
        let own = |thread: &JoinHandle<()>| thread.thread().id() == std::thread::current().id();
        if let Some(thread) = self.thread.take().filter(|thread| !own(thread)) {
            // It ends at once, or after the reload that it is in; a panic of the callback has been reported by then
            thread.join().ok();
        }
    }
}

/// One round after the other, without a clock
struct Watcher {
    keystore: Keystore,
    /// What the files looked like when they were read last
    read: Look,
    /// What they looked like a round ago
    before: Look,
    rounds: u32,
}

impl Watcher {
    fn new(keystore: Keystore) -> Self {
        let look = Look::take(keystore.directory(), None);
        // Read before it was looked at: one more reload at the first round does no harm, and misses nothing
        Self { keystore, read: Look::default(), before: look, rounds: 0 }
    }

    /// Looks; reloads if the files differ from what was read, and are as they were a round ago
    fn poll(&mut self) -> Option<Result<Changes, KeystoreError>> {
        self.rounds += 1;
        let known = if self.rounds.is_multiple_of(FULL_ROUND) { None } else { Some(&self.before) };
        let look = Look::take(self.keystore.directory(), known);
        let settled = look == self.before;
        let changed = look != self.read;
        self.before = look;
        if !(settled && changed) {
            return None;
        }
        self.read = self.before.clone();
        Some(self.keystore.reload())
    }
}

/// What tells a file from its former self
type Stamp = (u64, i64, i64, i64, i64, u64, u32);

/// The stamps of folders and files
#[derive(Clone, Debug, Default, Eq, PartialEq)]
struct Look {
    /// Folders, and the files that people edit in place
    near: Vec<(PathBuf, Option<Stamp>)>,
    /// All files of the folders
    all: Vec<(PathBuf, Option<Stamp>)>,
}

impl Look {
    /// Looks at what is near; at all the rest if there is no earlier look, or something near is not as it was then
    fn take(directory: &Path, earlier: Option<&Self>) -> Self {
        let folders = [OWN, TRUSTED, REVOKED, TLS, CMS].map(|folder| directory.join(folder));
        let mut near: Vec<PathBuf> = vec![directory.to_owned(), directory.join(ACCESS)];
        near.extend(folders.iter().cloned());
        let near: Vec<_> = near.into_iter().map(|path| (path.clone(), stamp(&path))).collect();
        if let Some(earlier) = earlier
            && earlier.near == near
        {
            return earlier.clone();
        }
        let mut all = Vec::new();
        for folder in &folders {
            let entries = fs::read_dir(folder).into_iter().flatten().flatten();
            all.extend(entries.map(|entry| entry.path()).map(|path| (path.clone(), stamp(&path))));
        }
        all.sort();
        Self { near, all }
    }
}

fn stamp(path: &Path) -> Option<Stamp> {
    let metadata = fs::metadata(path).ok()?;
    Some((
        metadata.ino(),
        metadata.mtime(),
        metadata.mtime_nsec(),
        metadata.ctime(),
        metadata.ctime_nsec(),
        metadata.len(),
        metadata.mode(),
    ))
}

/// Every how many rounds all files are looked at: what is edited in place, and not replaced, is seen that late
const FULL_ROUND: u32 = 8;

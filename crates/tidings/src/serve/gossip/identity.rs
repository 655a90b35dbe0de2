//! Who the node is: by its key, as configured, or drawn once and kept in the state directory.
//!
//! A node is the same in each of its lives, and each life has a greater number (incarnation), also when the clock was set
//! back meanwhile. So both are written down.

use std::fs::{DirBuilder, File, TryLockError};
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use tidings_gossip::{Incarnation, NodeId};

use crate::config::{RANDOM_ID, Settings, gossip_directory};

/// A node's identity in this life
#[derive(Debug)]
pub(super) struct NodeIdentity {
    pub(super) id: NodeId,
    pub(super) incarnation: Incarnation,
    /// Held for as long as the node lives, so that no second one takes itself for the same
    _lock: Option<File>,
}

impl NodeIdentity {
    /// The identity that the settings and the key make
    ///
    /// Whatever is wrong with the directory is said in the log: the node then has an id for this life alone.
    pub(super) fn find(settings: &Settings, of_key: Option<NodeId>) -> Self {
        let given = settings.gossip_id.value.as_str();
        let fixed = match given {
            "" => of_key,
            RANDOM_ID => return Self { id: drawn(), incarnation: now(), _lock: None },
            given => given.parse().ok(),
        };
        let directory = gossip_directory(settings.gossip_directory.value.0.clone());
        let Some(directory) = directory else {
            tracing::warn!(
                "there is no state directory: the node is another one at each start (gossip.directory names one)"
            );
            return Self { id: fixed.unwrap_or_else(drawn), incarnation: now(), _lock: None };
        };
        match Self::keep(&directory, fixed) {
            Ok(Some(identity)) => identity,
            Ok(None) => {
                let directory = directory.display();
                tracing::warn!(%directory, "another node has its identity there: this one has one for this life alone \
                    (gossip.directory names another place)");
                Self { id: drawn(), incarnation: now(), _lock: None }
            }
            Err(error) => {
                let directory = directory.display();
                tracing::warn!(%directory, %error, "the node can't keep who it is: it is another one at each start \
                    (gossip.directory names another place)");
                Self { id: fixed.unwrap_or_else(drawn), incarnation: now(), _lock: None }
            }
        }
    }

    /// Reads what is kept, and writes down this life; `None` if another process has it
    fn keep(directory: &Path, fixed: Option<NodeId>) -> io::Result<Option<Self>> {
        DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
        let lock = File::options().create(true).truncate(false).write(true).open(directory.join("lock"))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Ok(None),
            Err(TryLockError::Error(error)) => return Err(error),
        }
        let path = directory.join("identity");
        let (kept, last) = read(&path)?;
        let id = fixed.or(kept).unwrap_or_else(drawn);
        let incarnation = Incarnation(now().0.max(last.0.saturating_add(1)));
        write(directory, &path, &format!("id = {id}\nincarnation = {}\n", incarnation.0))?;
        Ok(Some(Self { id, incarnation, _lock: Some(lock) }))
    }
}

/// The id and the last life, as far as they are there
fn read(path: &Path) -> io::Result<(Option<NodeId>, Incarnation)> {
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok((None, Incarnation(0))),
        Err(error) => return Err(error),
    };
    let value = |name: &str| {
        text.lines().find_map(|line| {
            let (own, value) = line.split_once('=')?;
            (own.trim() == name).then(|| value.trim().to_owned())
        })
    };
    let damaged = || io::Error::new(io::ErrorKind::InvalidData, format!("{} is damaged: delete it", path.display()));
    let id = value("id").and_then(|text| text.parse().ok()).filter(|id: &NodeId| id.0 != 0).ok_or_else(damaged)?;
    let incarnation = value("incarnation").and_then(|text| text.parse().ok()).ok_or_else(damaged)?;
    Ok((Some(id), Incarnation(incarnation)))
}

/// All of it or nothing, whatever happens meanwhile
fn write(directory: &Path, path: &Path, text: &str) -> io::Result<()> {
    let new: PathBuf = path.with_extension("new");
    std::fs::write(&new, text)?;
    File::open(&new)?.sync_all()?;
    std::fs::rename(&new, path)?;
    File::open(directory)?.sync_all()
}

fn now() -> Incarnation {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Incarnation(u64::try_from(since.as_millis()).unwrap_or(u64::MAX).max(1))
}

/// A number that no other node has
fn drawn() -> NodeId {
    // The random half of a UUID (RFC 9562, version 7), whose first half is the time
    let (_, low) = uuid::Uuid::now_v7().as_u64_pair();
    let (high, _) = uuid::Uuid::now_v7().as_u64_pair();
    NodeId((low ^ high.rotate_left(16)).max(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_is_the_same_in_each_life_and_each_life_is_greater() {
        let folder = tempfile::tempdir().unwrap();
        let directory = folder.path().join("gossip");
        let first = NodeIdentity::keep(&directory, None).unwrap().unwrap();
        assert!(NodeIdentity::keep(&directory, None).unwrap().is_none(), "two have the same identity at once");
        let (id, incarnation) = (first.id, first.incarnation);
        drop(first);
        // The clock was set back by a century
        let ahead = incarnation.0 + 3_000_000_000_000;
        std::fs::write(directory.join("identity"), format!("id = {id}\nincarnation = {ahead}\n")).unwrap();
        let second = NodeIdentity::keep(&directory, None).unwrap().unwrap();
        assert_eq!((second.id, second.incarnation), (id, Incarnation(ahead + 1)));
        drop(second);
        let key = NodeId(7);
        assert_eq!(NodeIdentity::keep(&directory, Some(key)).unwrap().unwrap().id, key);
    }

    #[test]
    fn what_is_damaged_is_not_written_over() {
        let folder = tempfile::tempdir().unwrap();
        for text in ["", "id = 0\nincarnation = 1\n", "id = xyz\nincarnation = 1\n", "id = 00ab\n"] {
            std::fs::write(folder.path().join("identity"), text).unwrap();
            let error = NodeIdentity::keep(folder.path(), None).unwrap_err();
            assert!(error.to_string().contains("identity is damaged"), "{text:?}: {error}");
            assert_eq!(std::fs::read_to_string(folder.path().join("identity")).unwrap(), text);
        }
    }

    #[test]
    fn drawn_ids_differ() {
        let ids: std::collections::HashSet<u64> = (0..1000).map(|_| drawn().0).collect();
        assert_eq!(ids.len(), 1000);
    }
}

//! Who is at the other end of which connection.

use std::collections::HashMap;
use std::sync::Arc;

use tidings_socket::Origin;

use crate::broker::PeerKey;

/// Connections that have said something
#[derive(Debug, Default)]
pub(super) struct Peers {
    // The keys are the socket's own numbers, so nobody can choose ones that collide
    by_key: HashMap<PeerKey, Arc<Origin>, foldhash::fast::RandomState>,
}

impl Peers {
    /// Notes a connection
    pub(super) fn enter(&mut self, key: PeerKey, origin: &Arc<Origin>) {
        self.by_key.insert(key, origin.clone());
    }

    pub(super) fn remove(&mut self, key: PeerKey) {
        self.by_key.remove(&key);
    }

    pub(super) fn origin(&self, key: PeerKey) -> Option<&Arc<Origin>> {
        self.by_key.get(&key)
    }
}

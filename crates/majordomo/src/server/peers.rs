//! Who is at the other end of which connection.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;

use bytes::Bytes;
use tidings_socket::Origin;

use crate::broker::PeerKey;

/// Connections that have said something
#[derive(Debug, Default)]
pub(super) struct Peers {
    // The keys are the socket's own numbers, so nobody can choose ones that collide
    by_key: HashMap<PeerKey, (Bytes, Arc<Origin>), foldhash::fast::RandomState>,
}

impl Peers {
    /// Notes a connection and the routing id by which it is sent to; whether it is new
    #[inline]
    pub(super) fn enter(&mut self, key: PeerKey, routing_id: Bytes, origin: &Arc<Origin>) -> bool {
        match self.by_key.entry(key) {
            Entry::Occupied(_) => false,
            Entry::Vacant(place) => {
                place.insert((routing_id, origin.clone()));
                true
            }
        }
    }

    pub(super) fn remove(&mut self, key: PeerKey) {
        self.by_key.remove(&key);
    }

    #[inline]
    pub(super) fn routing_id(&self, key: PeerKey) -> Option<&Bytes> {
        self.by_key.get(&key).map(|(routing_id, _)| routing_id)
    }

    pub(super) fn origin(&self, key: PeerKey) -> Option<&Arc<Origin>> {
        self.by_key.get(&key).map(|(_, origin)| origin)
    }
}

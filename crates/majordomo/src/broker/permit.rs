//! Who may what: asked of the driver, once for a peer and a service.

use smallvec::SmallVec;

use super::{Broker, PeerKey};
use crate::wire::ServiceName;

/// What somebody wants of a service
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Access {
    /// To send it requests; the broker's own services (`mmi.…`) too
    Call,
    /// To be its worker
    Work,
    /// To drain it
    Administer,
}

/// Decides who may what
///
/// Asked once for a peer, an access and a service that exists; for one that doesn't, each time.
pub trait Permit: Send {
    /// Whether the peer may
    fn may(&self, peer: PeerKey, access: Access, service: &ServiceName) -> bool;
}

impl<F: Fn(PeerKey, Access, &ServiceName) -> bool + Send> Permit for F {
    fn may(&self, peer: PeerKey, access: Access, service: &ServiceName) -> bool {
        self(peer, access, service)
    }
}

/// What a peer was told before, for a few services
#[derive(Debug, Default)]
pub(super) struct Cache {
    told: SmallVec<[(u64, Access, bool); 1]>,
    next: usize,
}

impl Broker {
    /// Asks anew from now on: the rules have changed
    ///
    /// Requests that were let in and workers that are registered stay.
    pub fn forget_permits(&mut self) {
        self.peers.iter_mut().for_each(|(_, peer)| peer.permits = Cache::default());
    }

    /// Whether a peer may; `serial` is the service's number if it exists
    pub(super) fn may(&mut self, peer: u32, access: Access, name: &ServiceName, serial: Option<u64>) -> bool {
        let Some(permit) = &self.permit else { return access != Access::Administer };
        let Some(peer) = self.peers.get_mut(peer as usize) else { return false };
        let Some(serial) = serial else { return permit.may(peer.key, access, name) };
        let known = peer.permits.told.iter().find(|(known, of, _)| *known == serial && *of == access);
        if let Some((_, _, may)) = known {
            return *may;
        }
        let may = permit.may(peer.key, access, name);
        let Cache { told, next } = &mut peer.permits;
        match told.get_mut(*next) {
            Some(place) => *place = (serial, access, may),
            None => told.push((serial, access, may)),
        }
        *next = (*next + 1) % CACHED;
        may
    }
}

/// More services than most clients call
const CACHED: usize = 8;

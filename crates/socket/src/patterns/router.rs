//! ROUTER: knows its peers by routing ids and sends to the one that is named (RFC 28, "The ROUTER Socket Type").

use std::collections::HashMap;

use bytes::Bytes;

use crate::pipe::PipeKey;

/// The routing table
#[derive(Debug)]
pub(crate) struct Router {
    // Peers choose these keys, so the hash must not be foreseeable: std's SipHash
    by_id: HashMap<Bytes, PipeKey>,
    next_id: u32,
}

impl Router {
    /// `seed` is the first automatic id; libzmq starts at random too
    pub(crate) fn new(seed: u32) -> Self {
        Self { by_id: HashMap::new(), next_id: seed }
    }

    /// The pipe of a routing id
    pub(crate) fn find(&self, id: &[u8]) -> Option<PipeKey> {
        self.by_id.get(id).copied()
    }

    /// An id of our own for a peer that did not give one: a zero octet and a number (RFC 28)
    pub(crate) fn fresh_id(&mut self) -> Bytes {
        loop {
            let mut id = [0; 5];
            id[1..].copy_from_slice(&self.next_id.to_be_bytes());
            self.next_id = self.next_id.wrapping_add(1);
            if !self.by_id.contains_key(&id[..]) {
                return Bytes::copy_from_slice(&id);
            }
        }
    }

    /// Enters a peer under its id, in place of whoever had it
    pub(crate) fn insert(&mut self, id: Bytes, pipe: PipeKey) {
        self.by_id.insert(id, pipe);
    }

    /// Takes a peer out, unless its id is another pipe's by now
    pub(crate) fn remove(&mut self, id: &Bytes, pipe: PipeKey) {
        if self.by_id.get(id) == Some(&pipe) {
            self.by_id.remove(id);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_of_our_own_start_with_zero_and_do_not_repeat() {
        let mut router = Router::new(u32::MAX);
        let first = router.fresh_id();
        assert_eq!(&first[..], [0, 255, 255, 255, 255]);
        router.insert(Bytes::from_static(&[0, 0, 0, 0, 0]), PipeKey { index: 0, serial: 0 });
        assert_eq!(&router.fresh_id()[..], [0, 0, 0, 0, 1], "the one that is taken is passed over");
    }

    #[test]
    fn leaving_does_not_take_the_successor_along() {
        let (old, new) = (PipeKey { index: 0, serial: 1 }, PipeKey { index: 1, serial: 2 });
        let mut router = Router::new(0);
        let id = Bytes::from("gate");
        router.insert(id.clone(), old);
        router.insert(id.clone(), new);
        router.remove(&id, old);
        assert_eq!(router.find(b"gate"), Some(new));
    }
}

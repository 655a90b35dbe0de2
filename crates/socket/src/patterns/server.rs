//! SERVER and PEER: number their peers and send to the one that is named (RFC 41, "The SERVER Socket Type"; RFC 51).

use std::collections::HashMap;

use crate::pipe::PipeKey;

/// The peers by number
#[derive(Debug)]
pub(crate) struct Server {
    // These keys are our own choice, so a fast hash will do
    by_id: HashMap<u32, PipeKey, foldhash::fast::RandomState>,
    next_id: u32,
}

impl Server {
    /// `seed` is the first id, at random so that an id of an earlier socket means nobody here (RFC 41)
    pub(crate) fn new(seed: u32) -> Self {
        Self { by_id: HashMap::default(), next_id: seed }
    }

    /// The pipe of an id
    pub(crate) fn find(&self, id: u32) -> Option<PipeKey> {
        self.by_id.get(&id).copied()
    }

    /// Enters a peer under the next id: never zero, and never one in use
    pub(crate) fn enter(&mut self, pipe: PipeKey) -> u32 {
        loop {
            let id = self.next_id;
            self.next_id = self.next_id.wrapping_add(1);
            if id != 0 && !self.by_id.contains_key(&id) {
                self.by_id.insert(id, pipe);
                return id;
            }
        }
    }

    /// Takes a peer out
    pub(crate) fn remove(&mut self, id: u32) {
        self.by_id.remove(&id);
    }
}

/// An id as the first frame of a message and as a pipe keeps it; never on the wire
pub(crate) fn id_of(frame: &[u8]) -> Option<u32> {
    frame.try_into().ok().map(u32::from_be_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PIPE: PipeKey = PipeKey { index: 0, serial: 1 };

    #[test]
    fn ids_go_up_and_pass_over_zero_and_those_in_use() {
        let mut server = Server::new(u32::MAX - 1);
        assert_eq!([server.enter(PIPE), server.enter(PIPE), server.enter(PIPE)], [u32::MAX - 1, u32::MAX, 1]);
        server.remove(u32::MAX);
        assert_eq!(server.find(u32::MAX), None);
        server.next_id = u32::MAX - 1;
        assert_eq!([server.enter(PIPE), server.enter(PIPE)], [u32::MAX, 2], "freed ids come again, others don't");
    }

    #[test]
    fn an_id_is_four_octets_the_highest_first() {
        assert_eq!(id_of(&[1, 2, 3, 4]), Some(0x0102_0304));
        assert_eq!(id_of(b"one"), None);
        assert_eq!(id_of(b"seven77"), None);
    }
}

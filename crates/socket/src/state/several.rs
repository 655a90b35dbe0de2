//! Messages of several frames for peers that may not take them; see `patterns/multipart.rs`.

use super::*;

impl State {
    /// CLIENT and SCATTER: to the next peer with room that takes several frames
    #[cold]
    pub(super) fn send_multipart(&mut self, message: &mut Message) -> Result<(), SendFailure> {
        let bound = self.send_bound();
        for _ in 0..self.sending.ready() {
            let Some(number) = self.sending.current() else { break };
            match self.pipes.get(number as usize) {
                Some(pipe) if pipe.takes_multipart == Some(true) && pipe.has_room(bound) => {
                    return self.send_in_turn(message);
                }
                _ => self.sending.advance(),
            }
        }
        let peers = || self.pipes.iter().filter(|(_, pipe)| pipe.is_addressable());
        let able = peers().find(|(_, pipe)| pipe.takes_multipart == Some(true)).map(|(index, _)| index);
        match able {
            Some(index) => self.offer(index, &[], message, self.overflow),
            None if peers().any(|(_, pipe)| pipe.takes_multipart.is_none()) => Err(SendFailure::WouldBlock),
            None if peers().next().is_some() => Err(SendFailure::Invalid(NO_MULTIPART)),
            None => self.refuse_or_drop(),
        }
    }

    /// Whether a peer takes several frames; until its first handshake nobody knows, and the sender waits
    pub(super) fn check_multipart(&self, key: PipeKey) -> Result<(), SendFailure> {
        match self.pipe(key).and_then(|pipe| pipe.takes_multipart) {
            Some(true) => Ok(()),
            Some(false) => Err(SendFailure::Invalid(NO_MULTIPART)),
            None => Err(SendFailure::WouldBlock),
        }
    }

    /// Notes what a new connection's peer takes; what waits for it and would be dropped there is dropped here, and counted
    pub(super) fn learn_multipart(&mut self, key: PipeKey, takes_multipart: bool) {
        if !multipart::concerns(self.socket_type) {
            return;
        }
        let Some(pipe) = self.pipe_mut(key) else {
            return;
        };
        let took = pipe.takes_multipart.replace(takes_multipart);
        let Outbox::Wire(queue) = &mut pipe.outbox else {
            return;
        };
        if takes_multipart || took != Some(true) {
            return;
        }
        let (mut kept, mut dropped) = (WriteQueue::new(), 0);
        while let Some(message) = queue.pop_front() {
            match message.frame_count() {
                1 => drop(kept.push(&[], &message)),
                _ => dropped += 1,
            }
        }
        *queue = kept;
        pipe.counts.discarded += dropped;
        self.count_drops(key.index as usize, dropped);
    }
}

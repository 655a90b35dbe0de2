//! SERVER and PEER: to the peer whose id stands in front (RFC 41, RFC 51).

use super::*;

impl State {
    /// Gives a new peer its id; one that comes again at the same endpoint keeps it
    pub(super) fn enter_by_id(&mut self, key: PipeKey, kept_id: Bytes) {
        let Pattern::Server(server) = &mut self.pattern else {
            return;
        };
        let known = id_of(&kept_id).filter(|id| server.find(*id) == Some(key));
        let id = known.unwrap_or_else(|| server.enter(key));
        if let Some(pipe) = self.pipe_mut(key) {
            pipe.routing_id = Bytes::copy_from_slice(&id.to_be_bytes());
        }
    }

    /// The id by which a SERVER or PEER knows a peer
    pub(crate) fn id_of_peer(&self, key: PipeKey) -> Option<u32> {
        match &self.pattern {
            Pattern::Server(_) => self.pipe(key).and_then(|pipe| id_of(&pipe.routing_id)),
            _ => None,
        }
    }

    /// The first frame is the id of the peer
    pub(super) fn send_by_id(&mut self, message: &mut Message) -> Result<(), SendFailure> {
        let Pattern::Server(server) = &self.pattern else {
            return self.refuse_or_drop();
        };
        let (id, frames) = (id_of(message.first()), message.frame_count());
        let (Some(id), 2..) = (id, frames) else {
            return Err(SendFailure::Invalid(NO_ID));
        };
        let found = server.find(id).filter(|key| self.pipe(*key).is_some_and(Pipe::is_addressable));
        let key = found.ok_or(SendFailure::Unroutable)?;
        if frames > 2 {
            self.check_multipart(key)?;
        }
        let id = message.pop_front().unwrap_or_default();
        self.offer(key.index as usize, &[], message, self.overflow).inspect_err(|_| message.push_front(id))
    }
}

const NO_ID: &str = "a message of a SERVER or PEER begins with the peer's id, four octets, and has a body behind it";

//! REQ: asks one peer at a time and knows which reply belongs to which request (RFC 28, "The REQ Socket Type").
//!
//! Two ways of asking share a socket. The strict one is libzmq's: send, receive, send. The other is
//! `request`: every request carries a number, several can be under way, and each ends by itself.

use std::collections::HashMap;

use bytes::Bytes;
use tidings_zmtp::Message;
use tokio::sync::oneshot;

use crate::pipe::PipeKey;

/// What a request that was sent with `request` ends in
pub(crate) type Reply = Result<Message, Lost>;

/// The peer that had the request is gone; whether it did the work is unknown
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Lost;

/// Requests under way
#[derive(Debug)]
pub(crate) struct Req {
    next_id: u32,
    strict: Option<Asked>,
    /// The strict reply is here and the application has not fetched it
    is_answered: bool,
    numbered: HashMap<u32, (Asked, oneshot::Sender<Reply>)>,
    /// Replies that nobody waits for any more
    pub(crate) late: u64,
}

/// Where a request went
#[derive(Clone, Copy, Debug)]
struct Asked {
    pipe: PipeKey,
    /// Its place in the pipe's count of messages sent
    place: u64,
    /// The number it carries, if it carries one
    id: Option<u32>,
}

/// What to do with a message that a REQ received
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It answers the strict request: the application receives it
    Deliver(Message),
    /// It answered a numbered request, or nothing that anybody waits for
    Done,
    /// It has no delimiter: the peer doesn't speak this pattern
    Malformed,
}

impl Req {
    /// `seed` is the first request's number; libzmq starts at random too
    pub(crate) fn new(seed: u32) -> Self {
        Self { next_id: seed, strict: None, is_answered: false, numbered: HashMap::new(), late: 0 }
    }

    /// Whether a strict request was sent whose reply the application has not received
    pub(crate) fn is_waiting(&self) -> bool {
        self.strict.is_some() || self.is_answered
    }

    /// Whether a reply may still come, to whichever request
    pub(crate) fn expects_replies(&self) -> bool {
        self.strict.is_some() || !self.numbered.is_empty()
    }

    /// The number and address envelope for a new request
    ///
    /// The number goes in front of the empty delimiter, in the byte order of this machine as libzmq
    /// has it: nobody else reads it.
    pub(crate) fn envelope(&mut self, numbered: bool) -> (Option<u32>, [Bytes; 2]) {
        if !numbered {
            return (None, [Bytes::new(), Bytes::new()]);
        }
        let id = self.next_id;
        self.next_id = self.next_id.wrapping_add(1);
        (Some(id), [Bytes::copy_from_slice(&id.to_ne_bytes()), Bytes::new()])
    }

    /// A strict request went out as message number `place` of a pipe
    pub(crate) fn asked(&mut self, pipe: PipeKey, place: u64, id: Option<u32>) {
        self.strict = Some(Asked { pipe, place, id });
        self.is_answered = false;
    }

    /// A numbered request went out
    pub(crate) fn asked_numbered(&mut self, pipe: PipeKey, place: u64, id: u32, reply: oneshot::Sender<Reply>) {
        self.numbered.insert(id, (Asked { pipe, place, id: Some(id) }, reply));
    }

    /// Nobody waits for this numbered request any more
    pub(crate) fn give_up(&mut self, id: u32) {
        self.numbered.remove(&id);
    }

    /// Sorts a message that came from a pipe
    pub(crate) fn handle(&mut self, pipe: PipeKey, mut message: Message) -> Verdict {
        let id = match (message.frame(0), message.frame(1), message.frame_count()) {
            (Some([]), _, 2..) => None,
            (Some(id), Some([]), 3..) => match <[u8; 4]>::try_from(id) {
                Ok(id) => Some(u32::from_ne_bytes(id)),
                Err(_) => return Verdict::Malformed,
            },
            _ => return Verdict::Malformed,
        };
        message.pop_front();
        if id.is_some() {
            message.pop_front();
        }
        if let Some((_, reply)) = id.and_then(|id| self.numbered.remove(&id)) {
            // Its asker may have gone at this moment
            self.late += u64::from(reply.send(Ok(message)).is_err());
            return Verdict::Done;
        }
        // RFC 28: a REQ "SHALL silently discard" what does not come from the peer it asked
        if self.strict.is_some_and(|asked| asked.pipe == pipe && asked.id == id) {
            self.strict = None;
            self.is_answered = true;
            return Verdict::Deliver(message);
        }
        self.late += 1;
        Verdict::Done
    }

    /// The application received the strict reply
    pub(crate) fn answered(&mut self) {
        self.is_answered = false;
    }

    /// A connection is gone; requests before place `unsent` of the pipe had left and will not be answered
    ///
    /// Returns whether the strict request was among them.
    pub(crate) fn lost(&mut self, pipe: PipeKey, unsent: u64) -> bool {
        let is_lost = |asked: &Asked| asked.pipe == pipe && asked.place < unsent;
        let gone: Vec<u32> = self.numbered.iter().filter(|(_, (asked, _))| is_lost(asked)).map(|(id, _)| *id).collect();
        for (_, reply) in gone.into_iter().filter_map(|id| self.numbered.remove(&id)) {
            reply.send(Err(Lost)).ok();
        }
        if self.strict.as_ref().is_some_and(is_lost) {
            self.strict = None;
            return true;
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PIPE: PipeKey = PipeKey { index: 0, serial: 1 };
    const OTHER: PipeKey = PipeKey { index: 1, serial: 2 };

    fn reply(id: Option<u32>, body: &'static str) -> Message {
        let mut message = Message::from(body);
        message.push_front(Bytes::new());
        if let Some(id) = id {
            message.push_front(Bytes::copy_from_slice(&id.to_ne_bytes()));
        }
        message
    }

    #[test]
    fn only_the_peer_that_was_asked_may_answer() {
        let mut req = Req::new(0);
        req.asked(PIPE, 0, None);
        assert_eq!(req.handle(OTHER, reply(None, "forged")), Verdict::Done);
        assert_eq!(req.handle(PIPE, reply(None, "real")), Verdict::Deliver(Message::from("real")));
        req.answered();
        assert_eq!(req.handle(PIPE, reply(None, "again")), Verdict::Done);
        assert_eq!(req.late, 2);
    }

    #[test]
    fn a_correlated_reply_must_carry_its_number() {
        let mut req = Req::new(41);
        let (id, envelope) = req.envelope(true);
        assert_eq!((id, &envelope[0][..]), (Some(41), &41u32.to_ne_bytes()[..]));
        req.asked(PIPE, 0, id);
        assert_eq!(req.handle(PIPE, reply(Some(40), "old")), Verdict::Done);
        assert_eq!(req.handle(PIPE, reply(None, "bare")), Verdict::Done);
        assert_eq!(req.handle(PIPE, reply(Some(41), "new")), Verdict::Deliver(Message::from("new")));
    }

    #[test]
    fn numbered_requests_end_each_by_itself() {
        let mut req = Req::new(7);
        let (first, mut first_reply) = oneshot::channel();
        let (second, mut second_reply) = oneshot::channel();
        req.asked_numbered(PIPE, 0, 7, first);
        req.asked_numbered(PIPE, 1, 8, second);
        assert_eq!(req.handle(PIPE, reply(Some(8), "eight")), Verdict::Done);
        assert_eq!(second_reply.try_recv(), Ok(Ok(Message::from("eight"))));
        assert!(!req.lost(PIPE, 1));
        assert_eq!(first_reply.try_recv(), Ok(Err(Lost)));
    }

    #[test]
    fn what_had_not_left_is_not_lost() {
        let mut req = Req::new(7);
        req.asked(PIPE, 3, None);
        assert!(!req.lost(PIPE, 3), "the request waits in the queue for the next connection");
        assert!(req.lost(PIPE, 4));
        assert!(!req.is_waiting());
    }

    #[test]
    fn a_reply_that_is_here_survives_its_sender() {
        let mut req = Req::new(7);
        req.asked(PIPE, 0, None);
        assert!(matches!(req.handle(PIPE, reply(None, "last words")), Verdict::Deliver(_)));
        assert!(!req.lost(PIPE, u64::MAX), "nothing is lost");
        assert!(req.is_waiting(), "for the application to receive it");
        req.answered();
        assert!(!req.is_waiting());
    }

    #[test]
    fn a_reply_without_a_delimiter_is_malformed() {
        let mut req = Req::new(7);
        req.asked(PIPE, 0, None);
        assert_eq!(req.handle(PIPE, Message::from("bare")), Verdict::Malformed);
        assert_eq!(req.handle(PIPE, Message::multipart(["four", "not empty"])), Verdict::Malformed);
    }
}

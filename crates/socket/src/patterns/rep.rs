//! REP: answers one request at a time, to where it came from (RFC 28, "The REP Socket Type").

use bytes::Bytes;
use smallvec::SmallVec;
use tidings_zmtp::Message;

use crate::pipe::PipeKey;

/// The request that is being worked on
#[derive(Debug, Default)]
pub(crate) struct Rep {
    pub(crate) current: Option<(PipeKey, AddressEnvelope)>,
}

/// Routing ids and the empty delimiter in front of a body
pub(crate) type AddressEnvelope = SmallVec<[Bytes; 2]>;

impl Rep {
    /// Takes a request apart: the envelope is kept for the reply, the body is the application's
    ///
    /// `None` for one without a delimiter or without a body, which libzmq drops as well.
    pub(crate) fn accept(&mut self, pipe: PipeKey, mut message: Message) -> Option<Message> {
        let delimiter = message.frames().position(<[u8]>::is_empty)?;
        let mut envelope = AddressEnvelope::new();
        for _ in 0..=delimiter {
            envelope.push(message.pop_front()?);
        }
        self.current = Some((pipe, envelope));
        Some(message)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PIPE: PipeKey = PipeKey { index: 0, serial: 1 };

    #[test]
    fn the_envelope_goes_up_to_the_first_empty_frame() {
        let mut rep = Rep::default();
        let message = Message::multipart(["id", "", "body", "", "tail"]);
        let body = rep.accept(PIPE, message).unwrap();
        assert_eq!(body, Message::multipart(["body", "", "tail"]));
        let (pipe, envelope) = rep.current.unwrap();
        assert_eq!((pipe, &envelope[..]), (PIPE, &[Bytes::from("id"), Bytes::new()][..]));
    }

    #[test]
    fn what_has_no_delimiter_or_no_body_is_no_request() {
        let mut rep = Rep::default();
        assert_eq!(rep.accept(PIPE, Message::from("bare")), None);
        assert_eq!(rep.accept(PIPE, Message::multipart(["id", ""])), None);
        assert!(rep.current.is_none());
    }
}

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
    /// Takes a request apart: the envelope is kept for the reply, the body is left for the application
    ///
    /// False for one without a delimiter or without a body, which libzmq drops as well.
    pub(crate) fn accept(&mut self, pipe: PipeKey, message: &mut Message) -> bool {
        let delimiter = message.frames().position(<[u8]>::is_empty);
        let Some(delimiter) = delimiter.filter(|delimiter| delimiter + 1 < message.frame_count()) else {
            return false;
        };
        let mut envelope = AddressEnvelope::new();
        envelope.extend((0..=delimiter).map_while(|_| message.pop_front()));
        self.current = Some((pipe, envelope));
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PIPE: PipeKey = PipeKey { index: 0, serial: 1 };

    #[test]
    fn the_envelope_goes_up_to_the_first_empty_frame() {
        let mut rep = Rep::default();
        let mut message = Message::multipart(["id", "", "body", "", "tail"]);
        assert!(rep.accept(PIPE, &mut message));
        assert_eq!(message, Message::multipart(["body", "", "tail"]));
        let (pipe, envelope) = rep.current.unwrap();
        assert_eq!((pipe, &envelope[..]), (PIPE, &[Bytes::from("id"), Bytes::new()][..]));
    }

    #[test]
    fn what_has_no_delimiter_or_no_body_is_no_request() {
        let mut rep = Rep::default();
        assert!(!rep.accept(PIPE, &mut Message::from("bare")));
        assert!(!rep.accept(PIPE, &mut Message::multipart(["id", ""])));
        assert!(rep.current.is_none());
    }
}

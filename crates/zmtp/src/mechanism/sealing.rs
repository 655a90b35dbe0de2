//! Sealing: the messages of CURVE, each frame in a box of its own (RFC 26, "The MESSAGE Command").
//!
//! `07 MESSAGE`, a counter, and a box of one octet of flags and the frame's body. Outside stands a frame without any
//! flags: whether more follows, or that the body is a command, is said inside (libzmq's form).

use std::mem;

use bytes::BytesMut;

use crate::{
    cipher::{MAC_LEN, SharedKey, open_in_place, seal_in_place},
    close_reason::{CloseReason, SealedCommand},
    frame::{FrameHeader, Framing},
    write_queue::WriteQueue,
};

/// One connection's key and counters, and the commands that wait to be sealed
///
/// Peers take counters in rising order only, so nothing may overtake anything once it is sealed: commands are sealed
/// with the messages, into one queue, when it is empty.
#[derive(Debug)]
pub(crate) struct Sealing {
    key: SharedKey,
    side: Side,
    /// The next to be used; none when all were
    next: Option<u64>,
    /// The last one heard
    heard: u64,
    commands: BytesMut,
}

/// All counters were used
#[derive(Debug)]
pub(crate) struct Exhausted;

/// Who we are, which the nonces tell
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    Client,
    Server,
}

impl Sealing {
    pub(super) fn new(key: SharedKey, side: Side, next: u64, heard: u64) -> Self {
        Self { key, side, next: Some(next), heard, commands: BytesMut::new() }
    }

    /// As after so many frames
    #[cfg(test)]
    pub(crate) fn set_next(&mut self, next: u64) {
        self.next = Some(next);
    }

    /// Where to put commands, and what to a 3.0 peer stands for them, framed as if they weren't to be sealed
    pub(crate) fn commands(&mut self) -> &mut BytesMut {
        &mut self.commands
    }

    /// Seals all commands, then messages from the front of `from`, until `into` has `limit_octets`
    ///
    /// One pass: every frame is copied to where it is written from, and encrypted there.
    ///
    /// # Errors
    /// When the counters have come to their end. What was sealed before can still be written.
    pub(crate) fn seal(
        &mut self,
        from: &WriteQueue,
        into: &mut WriteQueue,
        limit_octets: usize,
    ) -> Result<(), Exhausted> {
        if !self.commands.is_empty() {
            let commands = mem::take(&mut self.commands);
            let mut rest = &commands[..];
            while let Ok(Some((header, taken))) = FrameHeader::decode(Framing::V2, rest, u64::MAX) {
                let whole = (taken as u64 + header.body_len) as usize;
                let (Some(body), Some(after)) = (rest.get(taken..whole), rest.get(whole..)) else { break };
                let flags = if header.command { COMMAND } else { 0 };
                into.push_sealed(false, |buffer| self.seal_frame(buffer, flags, body))?;
                rest = after;
            }
        }
        let mut frames = from.frames();
        while into.octets() < limit_octets
            && let Some((header, payload)) = frames.next()
        {
            into.push_sealed(true, |buffer| {
                self.seal_frame(buffer, u8::from(header.more), payload.octets())?;
                let mut more = header.more;
                while let Some((header, payload)) = frames.next_if(more) {
                    self.seal_frame(buffer, u8::from(header.more), payload.octets())?;
                    more = header.more;
                }
                Ok(())
            })?;
        }
        Ok(())
    }

    #[inline]
    fn seal_frame(&mut self, buffer: &mut Vec<u8>, flags: u8, body: &[u8]) -> Result<(), Exhausted> {
        let counter = self.next.ok_or(Exhausted)?;
        self.next = counter.checked_add(1);
        let body_len = SEALED_OVERHEAD + body.len();
        buffer.reserve(LONGEST_HEADER + body_len);
        FrameHeader { more: false, command: false, body_len: body_len as u64 }.encode(Framing::V2, buffer);
        let mut head = [0; SEALED_OVERHEAD];
        head[..8].copy_from_slice(PREFIX);
        head[8..16].copy_from_slice(&counter.to_be_bytes());
        head[SEALED_OVERHEAD - 1] = flags;
        buffer.extend_from_slice(&head);
        buffer.extend_from_slice(body);
        let boxed = buffer.len() - (MAC_LEN + 1 + body.len());
        if let Some((mac, data)) = buffer.get_mut(boxed..).and_then(|boxed| boxed.split_first_chunk_mut()) {
            *mac = seal_in_place(&self.key, &short_nonce(self.side.prefix(), counter), data);
        }
        Ok(())
    }

    /// Opens the body of a frame where it lies: its flags, and what lies behind the first [`SEALED_OVERHEAD`] octets
    ///
    /// # Errors
    /// When it is not sealed, was sealed by somebody else, altered, or comes a second time.
    #[inline]
    pub(crate) fn open<'a>(&mut self, frame: &'a mut [u8]) -> Result<(SealedFlags, &'a mut [u8]), CloseReason> {
        let octets = frame.len();
        let Some((PREFIX, rest)) = frame.split_first_chunk_mut().map(|(prefix, rest)| (&*prefix, rest)) else {
            return Err(CloseReason::NotSealed);
        };
        let wrong_size = || CloseReason::WrongSize { command: "MESSAGE", octets };
        let (counter, boxed) = rest.split_first_chunk_mut().ok_or_else(wrong_size)?;
        let (mac, data) = boxed.split_first_chunk_mut().ok_or_else(wrong_size)?;
        let counter = u64::from_be_bytes(*counter);
        if counter <= self.heard {
            return Err(CloseReason::Replayed { nonce: counter, last: self.heard });
        }
        if data.is_empty() {
            return Err(wrong_size());
        }
        if !open_in_place(&self.key, &short_nonce(self.side.other().prefix(), counter), mac, data) {
            return Err(CloseReason::NotOpened(SealedCommand::Message));
        }
        // After opening: what somebody else puts in must not make us deaf to the peer.
        self.heard = counter;
        let (&mut flags, body) = data.split_first_mut().ok_or_else(wrong_size)?;
        match flags {
            0..=3 => Ok((SealedFlags { more: flags & MORE != 0, command: flags & COMMAND != 0 }, body)),
            _ => Err(CloseReason::UnknownFlags { flags }),
        }
    }
}

/// What stands with a frame in its box
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SealedFlags {
    pub(crate) more: bool,
    pub(crate) command: bool,
}

impl Side {
    fn prefix(self) -> &'static [u8; 16] {
        match self {
            Self::Client => b"CurveZMQMESSAGEC",
            Self::Server => b"CurveZMQMESSAGES",
        }
    }

    fn other(self) -> Self {
        match self {
            Self::Client => Self::Server,
            Self::Server => Self::Client,
        }
    }
}

/// A nonce that counts
#[inline]
pub(super) fn short_nonce(prefix: &[u8; 16], counter: u64) -> [u8; 24] {
    let mut nonce = [0; 24];
    nonce[..16].copy_from_slice(prefix);
    nonce[16..].copy_from_slice(&counter.to_be_bytes());
    nonce
}

/// Octets that a frame's body grows by
pub(crate) const SEALED_OVERHEAD: usize = PREFIX.len() + 8 + MAC_LEN + 1;
const PREFIX: &[u8; 8] = b"\x07MESSAGE";
/// As libzmq has them; the RFC knows the first one only
const MORE: u8 = 1;
const COMMAND: u8 = 2;
const LONGEST_HEADER: usize = 9;

#[cfg(test)]
mod tests {
    use zeroize::Zeroizing;

    use super::*;
    use crate::Message;

    fn sealing(side: Side, next: u64, heard: u64) -> Sealing {
        Sealing::new(SharedKey::own(Zeroizing::new([7; 32])), side, next, heard)
    }

    fn bodies(sealed: &WriteQueue) -> Vec<Vec<u8>> {
        let mut rest = sealed.contiguous().unwrap();
        let mut bodies = Vec::new();
        while let Ok(Some((header, taken))) = FrameHeader::decode(Framing::V2, rest, u64::MAX) {
            assert!(!header.more && !header.command, "outside nothing shows");
            let (frame, after) = rest.split_at(taken + header.body_len as usize);
            bodies.push(frame[taken..].to_vec());
            rest = after;
        }
        assert!(rest.is_empty());
        bodies
    }

    #[test]
    fn the_last_counters_are_used_and_no_message_is_left_half_sealed() {
        let mut queue = WriteQueue::new();
        queue.push(&[], &Message::from("last but one"));
        queue.push(&[], &Message::multipart(["two", "frames"]));
        let (mut client, mut server) = (sealing(Side::Client, u64::MAX - 1, 0), sealing(Side::Server, 0, u64::MAX - 2));
        let mut sealed = WriteQueue::new();
        assert!(client.seal(&queue, &mut sealed, 1000).is_err(), "one counter for two frames");
        let mut bodies = bodies(&sealed);
        assert_eq!((bodies.len(), sealed.messages(), queue.messages()), (1, 1, 2));
        let (flags, body) = server.open(&mut bodies[0]).unwrap();
        assert_eq!((flags, &body[..]), (SealedFlags { more: false, command: false }, &b"last but one"[..]));
        assert!(client.seal(&queue, &mut WriteQueue::new(), 1000).is_err(), "it stays so");
    }

    #[test]
    fn after_the_last_counter_everything_was_played_before() {
        let mut queue = WriteQueue::new();
        queue.push(&[], &Message::from("last"));
        let (mut client, mut server) = (sealing(Side::Client, u64::MAX, 0), sealing(Side::Server, 0, u64::MAX - 1));
        let mut sealed = WriteQueue::new();
        client.seal(&queue, &mut sealed, 1000).unwrap();
        let last = bodies(&sealed).remove(0);
        assert!(server.open(&mut last.clone()).is_ok());
        let played = CloseReason::Replayed { nonce: u64::MAX, last: u64::MAX };
        assert_eq!(server.open(&mut last.clone()), Err(played));
    }

    #[test]
    fn one_does_not_take_ones_own_words_for_the_peers() {
        let mut queue = WriteQueue::new();
        queue.push(&[], &Message::from("hello"));
        let mut client = sealing(Side::Client, 3, 0);
        let mut sealed = WriteQueue::new();
        client.seal(&queue, &mut sealed, 1000).unwrap();
        let not_opened = CloseReason::NotOpened(SealedCommand::Message);
        assert_eq!(client.open(&mut bodies(&sealed)[0]), Err(not_opened));
    }

    #[test]
    fn the_buffer_is_used_again() {
        let mut queue = WriteQueue::new();
        for _ in 0..100 {
            queue.push(&[], &Message::from(vec![1; 100]));
        }
        let mut client = sealing(Side::Client, 3, 0);
        let mut sealed = WriteQueue::new();
        client.seal(&queue, &mut sealed, 10_000).unwrap();
        let first = sealed.contiguous().unwrap().as_ptr();
        while !queue.is_empty() {
            let written = sealed.advance(usize::MAX);
            queue.advance_messages(written);
            client.seal(&queue, &mut sealed, 10_000).unwrap();
            assert_eq!(sealed.contiguous().unwrap().as_ptr(), first);
        }
    }
}

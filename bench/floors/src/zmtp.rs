//! The octets of ZMTP 3.1 that the load needs: greeting, READY of a DEALER, and frames.
//!
//! Grammar: RFC 37, "Formal Grammar"; RFC 23, "Framing".

use std::io::Read;

use anyhow::{Context as _, Result, bail};

pub(crate) const GREETING_LEN: usize = 64;

/// Signature, version 3.1, mechanism NULL, as-server 0, filler (RFC 37, "greeting")
pub(crate) const GREETING: [u8; GREETING_LEN] = {
    let mut greeting = [0; GREETING_LEN];
    let start = *b"\xff\0\0\0\0\0\0\0\x01\x7f\x03\x01NULL";
    let mut at = 0;
    while at < start.len() {
        greeting[at] = start[at];
        at += 1;
    }
    greeting
};

/// READY with `Socket-Type` DEALER and an empty `Identity`, so that a ROUTER chooses one
pub(crate) const READY: &[u8] = b"\x04\x29\x05READY\x0bSocket-Type\0\0\0\x06DEALER\x08Identity\0\0\0\0";

/// Refuses a peer that does not speak 3.x with NULL
pub(crate) fn check_greeting(greeting: &[u8; GREETING_LEN]) -> Result<()> {
    if greeting[0] != 0xff || greeting[9] & 1 == 0 || greeting[10] < 3 {
        bail!("the server does not greet as ZMTP 3.x");
    }
    if greeting[12..32] != GREETING[12..32] {
        bail!("the server wants another mechanism than NULL");
    }
    Ok(())
}

/// Greeting and READY in one piece: who speaks 3.x only need not wait in between, and a load that writes once costs
/// itself less, so that the server is what is measured
pub(crate) const OPENING: [u8; GREETING_LEN + READY.len()] = {
    let mut opening = [0; GREETING_LEN + READY.len()];
    let (greeting, ready) = opening.split_at_mut(GREETING_LEN);
    greeting.copy_from_slice(&GREETING);
    ready.copy_from_slice(READY);
    opening
};

/// How long the READY at the front of `octets` is, or `None` where more input is needed
pub(crate) fn check_ready(octets: &[u8]) -> Result<Option<usize>> {
    let (flags, body, end) = match *octets {
        [flags @ (0x00 | 0x04), size, ..] => (flags, 2, 2 + usize::from(size)),
        [] | [0x00 | 0x04] => return Ok(None),
        [flags, ..] => bail!("the server answered the greeting with a frame of flags {flags:#04x}, not with READY"),
    };
    let Some(body) = octets.get(body..end) else { return Ok(None) };
    if flags != 0x04 || !body.starts_with(b"\x05READY") {
        bail!("the server answered the greeting with {:?}, not with READY", body.escape_ascii().to_string());
    }
    Ok(Some(end))
}

/// A message of one frame around `body`
pub(crate) fn message(body: &[u8]) -> Vec<u8> {
    let mut octets = match u8::try_from(body.len()) {
        Ok(size) => vec![0x00, size],
        Err(_) => [&[LONG][..], &(body.len() as u64).to_be_bytes()].concat(),
    };
    octets.extend_from_slice(body);
    octets
}

/// Reads one message of one frame, blocking
pub(crate) fn read_message(stream: &mut impl Read) -> Result<Vec<u8>> {
    let mut header = [0; 2];
    stream.read_exact(&mut header).context("reading a frame header")?;
    if header[0] != 0 {
        bail!("a frame of flags {:#04x} came where a short message was due", header[0]);
    }
    let mut body = vec![0; header[1].into()];
    stream.read_exact(&mut body).context("reading a frame")?;
    Ok(body)
}

const MORE: u8 = 0x01;
const LONG: u8 = 0x02;
const COMMAND: u8 = 0x04;

/// Counts the messages in a stream without keeping any octet of them
#[derive(Default)]
pub(crate) struct Counter {
    /// Octets of the current body that are still to come
    body_left: u64,
    /// The current frame is one of several, and not the last
    more: bool,
    header: [u8; 9],
    header_len: usize,
}

impl Counter {
    /// How many messages end within `octets`; each one's last frame must have `size` octets
    ///
    /// Empty frames may precede it, as some libraries put an envelope's delimiter in front.
    pub(crate) fn count(&mut self, mut octets: &[u8], size: u64) -> Result<usize> {
        let mut messages = 0;
        loop {
            if self.body_left > 0 {
                let taken = self.body_left.min(octets.len() as u64);
                octets = &octets[taken as usize..];
                self.body_left -= taken;
                if self.body_left > 0 {
                    return Ok(messages);
                }
                messages += usize::from(!self.more);
            }
            // The whole header is there but for where a read happened to end
            while self.header_len < 2 || (self.header[0] & LONG != 0 && self.header_len < 9) {
                let Some((first, rest)) = octets.split_first() else { return Ok(messages) };
                self.header[self.header_len] = *first;
                self.header_len += 1;
                octets = rest;
            }
            let flags = self.header[0];
            let body_len = if flags & LONG == 0 {
                u64::from(self.header[1])
            } else {
                self.header[1..].iter().fold(0, |len, octet| len << 8 | u64::from(*octet))
            };
            self.header_len = 0;
            self.more = flags & MORE != 0;
            if flags & COMMAND != 0 {
                bail!("the server sent a command (a heartbeat?), which this load does not answer; turn it off there");
            }
            if body_len != if self.more { 0 } else { size } {
                bail!("a frame of {body_len} octets came back where {size} were sent");
            }
            self.body_left = body_len;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn constants_have_the_sizes_they_state() {
        assert_eq!(GREETING[..16], *b"\xff\0\0\0\0\0\0\0\x01\x7f\x03\x01NULL");
        assert_eq!(GREETING[16..], [0; 48]);
        assert_eq!(usize::from(READY[1]), READY.len() - 2);
        assert_eq!(check_ready(READY).unwrap(), Some(READY.len()));
        check_greeting(&GREETING).unwrap();
    }

    #[test]
    fn a_ready_is_waited_for_and_an_error_is_refused() {
        for end in 0..READY.len() {
            assert_eq!(check_ready(&READY[..end]).unwrap(), None);
        }
        assert!(check_ready(b"\x04\x0a\x05ERROR\x03400").is_err());
        assert!(check_ready(b"\x01\x00").is_err());
    }

    #[test]
    fn messages_are_counted_however_they_are_split() {
        for size in [1_usize, 64, 255, 256, 1000] {
            let mut octets = message(&vec![7; size]);
            octets.extend_from_slice(&[0x01, 0x00]);
            octets.extend(message(&vec![8; size]));
            for step in [1, 2, 3, 10, 66, octets.len()] {
                let mut counter = Counter::default();
                let counted: usize = octets.chunks(step).map(|part| counter.count(part, size as u64).unwrap()).sum();
                assert_eq!(counted, 2, "{size} octets in steps of {step}");
            }
        }
    }

    #[test]
    fn wrong_sizes_and_commands_are_refused() {
        assert!(Counter::default().count(&message(b"12"), 3).is_err());
        assert!(Counter::default().count(b"\x01\x03123", 3).is_err());
        assert!(Counter::default().count(b"\x04\x07\x04PING\0\0", 3).is_err());
    }
}

//! Command bodies: what was read leads back to itself.
#![no_main]

use bytes::BytesMut;
use libfuzzer_sys::fuzz_target;
use tidings_zmtp::{Command, FrameHeader, Framing};

fuzz_target!(|body: &[u8]| {
    let Ok(command) = Command::parse(body) else {
        return;
    };
    let mut frame = BytesMut::new();
    command.encode(&mut frame);
    let (header, taken) = FrameHeader::decode(Framing::V2, &frame, u64::MAX).expect("ours").expect("whole");
    assert!(header.command && !header.more);
    assert_eq!(header.body_len as usize, frame.len() - taken);
    // Contexts are cut, what follows an unknown name is left out: never more comes out than went in, but for the
    // length of an ERROR's reason.
    assert!(frame.len() - taken <= body.len() + 1);
    assert_eq!(Command::parse(&frame[taken..]), Ok(command));
});

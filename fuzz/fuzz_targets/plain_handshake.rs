//! Each command of PLAIN as anybody might say it: no panic, and nobody comes in but with the right password.
//!
//! Input: one octet that picks the command, then its body.
#![no_main]

use libfuzzer_sys::fuzz_target;
use testkit::{Speaker, tampering::forge};

fuzz_target!(|data: &[u8]| {
    let Some((which, octets)) = data.split_first() else {
        return;
    };
    let commands = [
        ("HELLO", Speaker::Client),
        ("WELCOME", Speaker::Server),
        ("INITIATE", Speaker::Client),
        ("READY", Speaker::Server),
    ];
    let (command, speaker) = commands[usize::from(which & 3)];
    let seen = forge("PLAIN", command, speaker, octets, false);
    let passes = octets == seen.original;
    assert!(!matches!(command, "HELLO" | "WELCOME") || passes || !seen.leaked, "{seen:?}");
    assert!(seen.hearer.is_none_or(|reason| !reason.name().is_empty() && reason.to_string().len() < 2000));
});

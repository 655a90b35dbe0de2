//! READY of CURVE as anybody might say it to the client: nothing but the real one leads anywhere.
//!
//! Input: one octet, then the body of the command; or if that octet is odd what is in its box, as a peer could say it
//! that has the keys.
#![no_main]

use libfuzzer_sys::fuzz_target;
use testkit::{Speaker, tampering::forge};

fuzz_target!(|data: &[u8]| {
    let Some((mode, octets)) = data.split_first() else {
        return;
    };
    let inside = mode & 1 == 1;
    let seen = forge("CURVE", "READY", Speaker::Server, octets, inside);
    assert!(inside || octets == seen.original || (!seen.leaked && seen.hearer.is_some()), "{seen:?}");
    assert!(seen.hearer.is_none_or(|reason| !reason.name().is_empty() && reason.to_string().len() < 2000));
});

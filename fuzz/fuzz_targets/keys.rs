//! Z85 and the text of keys: whatever can be read leads back to the same text.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tidings_zmtp::{CurvePublicKey, CurveSecretKey, z85};

fuzz_target!(|data: &[u8]| {
    if let Some(text) = z85::encode(data) {
        assert_eq!(z85::decode(&text).expect("ours")[..], *data);
    }
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    let octets = z85::decode(text);
    if let Ok(octets) = &octets {
        assert_eq!(z85::encode(octets).as_deref(), Some(text));
    }
    let public = text.parse::<CurvePublicKey>();
    assert_eq!(public.is_ok(), octets.is_ok() && text.len() == 40);
    assert!(public.is_err() || public.is_ok_and(|key| key.to_string() == text));
    let secret = text.parse::<CurveSecretKey>();
    assert_eq!(secret.is_ok(), public.is_ok());
    assert!(secret.is_err() || secret.is_ok_and(|key| key.to_z85().as_str() == text));
});

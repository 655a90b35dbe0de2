//! Metadata: what is accepted leads back octet for octet, and can be found by name.
#![no_main]

use bytes::BytesMut;
use libfuzzer_sys::fuzz_target;
use tidings_zmtp::Properties;

fuzz_target!(|octets: &[u8]| {
    let Ok(properties) = Properties::decode(octets) else {
        return;
    };
    let mut encoded = BytesMut::new();
    properties.encode(&mut encoded);
    assert_eq!(encoded, octets);
    assert_eq!(properties.encoded_len(), octets.len());
    let mut rebuilt = Properties::new();
    for (name, _) in properties.iter() {
        let value = properties.value(&name.to_ascii_uppercase()).expect("found in any case");
        let _ = rebuilt.insert(name, value.clone());
    }
    for (name, value) in rebuilt.iter() {
        assert_eq!(properties.value(name), Some(value));
    }
});

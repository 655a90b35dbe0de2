//! ZPL and certificates: any text is refused with a line, or prints to text that reads back as the same.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tidings_keystore::{Certificate, CertificateError, Property, Zpl};

fuzz_target!(|text: &str| {
    let lines = text.split(['\n', '\r']).count();
    let mut zpl = match Zpl::parse(text) {
        Ok(zpl) => zpl,
        Err(error) => {
            assert!((1..=lines).contains(&error.line), "{error} of {lines}");
            assert!(error.to_string().len() < 200, "a line is never quoted");
            return;
        }
    };
    match Certificate::parse(text) {
        Ok(certificate) => {
            // Words that ZPL can't hold came from no ZPL, but for the quotes that CZMQ writes as they are
            if let Ok(text) = certificate.public_text() {
                let again = Certificate::parse(&text).expect("what is written reads back");
                assert_eq!(again.public_key, certificate.public_key);
                assert_eq!((&again.metadata, &again.trust.roles), (&certificate.metadata, &certificate.trust.roles));
                assert!(again.secret_key.is_none());
            }
        }
        Err(CertificateError::Content { line, .. }) => assert!(line <= lines),
        Err(error) => panic!("ZPL a moment ago: {error}"),
    }
    if let Ok(written) = zpl.render() {
        let mut again = Zpl::parse(&written).expect("what is written parses");
        again.properties.iter_mut().chain(&mut zpl.properties).for_each(forget_lines);
        assert_eq!(again, zpl);
    }
});

fn forget_lines(property: &mut Property) {
    property.line = 0;
    property.children.iter_mut().for_each(forget_lines);
}

//! Endpoints: any text is refused with an error that prints, or prints to text that parses to an equal endpoint.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tidings_transport::Endpoint;

fuzz_target!(|text: &str| {
    // Only the words of older programs have something to say
    assert_eq!(Endpoint::notice(text).is_some(), text.starts_with("ssl://") || text.starts_with("unix+ssl://"));
    let endpoint = match text.parse::<Endpoint>() {
        Ok(endpoint) => endpoint,
        Err(error) => {
            // Endless texts are shown shortened, each character as at most ten ("\\u{10ffff}")
            assert!((1..10_000).contains(&error.to_string().len()));
            return;
        }
    };
    let printed = endpoint.to_string();
    let again = printed.parse::<Endpoint>().expect("what is printed parses");
    assert_eq!(again, endpoint);
    assert_eq!(again.to_string(), printed, "the canonical form is its own");
    assert!(printed.starts_with(endpoint.scheme()));
    assert_eq!(endpoint.is_encrypted(), matches!(endpoint.scheme(), "tls" | "unix+tls"));
    assert!(!endpoint.is_multicast() || endpoint.scheme() == "udp");
    // What was parsed can be used, for one purpose at least
    assert!(endpoint.for_bind().is_ok() || endpoint.for_connect().is_ok() || printed.contains('*'));
});

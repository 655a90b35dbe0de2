//! Whatever is altered on the way, the side that hears it closes with the reason that fits, and nothing comes through.

use testkit::tampering::cases;

#[test]
fn whatever_is_altered_is_noticed() {
    for case in cases() {
        for place in case.places() {
            for bit in [0, 7] {
                let seen = case.run(place, bit);
                let reason = seen.hearer.as_ref().map(|reason| reason.name());
                assert!(!seen.leaked, "{case}, octet {place}, bit {bit}: {seen:?}");
                let named = reason.is_some_and(|reason| case.expected.contains(&reason));
                assert!(named, "{case}, octet {place}, bit {bit}: {seen:?}, where {:?} was due", case.expected);
                assert!(seen.speaker.is_some(), "{case}, octet {place}, bit {bit}: {seen:?}");
                println!("{case}: {reason:?} / {:?}", seen.speaker.map(|reason| reason.name()));
            }
        }
    }
}

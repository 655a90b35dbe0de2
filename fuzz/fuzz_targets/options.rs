//! Socket options by name and text, as a command line gives them: no panic, and what was taken is shown again.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tidings_socket::{OPTIONS, OptionError, OptionKind, Options};

fuzz_target!(|input: (u8, &str, &str)| {
    let (which, name, value) = input;
    let mut options = Options::new();
    if let Err(error) = options.set(name, value) {
        assert!(error.to_string().len() < 400 + name.len() + value.len());
    }
    let Some(row) = OPTIONS.get(usize::from(which) % OPTIONS.len()) else { return };
    match options.set(row.name, value) {
        // A secret is never shown, and what is shown in its place is no secret
        Ok(()) if row.kind == OptionKind::Secret => {
            let shown = options.value(row.name).expect("the row exists").to_string();
            assert!(["", "(set)"].contains(&shown.as_str()), "{shown}");
            let (plain, mut alone) = (format!("{:?}", Options::new()), Options::new());
            alone.set(row.name, value).expect("it was legal before");
            // Short ones stand in any text
            assert!(value.len() < 8 || plain.contains(value) || !format!("{alone:?}").contains(value));
        }
        Ok(()) => {
            let shown = options.value(row.name).expect("the row exists").to_string();
            let mut again = Options::new();
            again.set(row.name, &shown).expect("what is shown is legal");
            assert_eq!(again.value(row.name), options.value(row.name));
        }
        Err(OptionError::Value { name, .. }) => assert_eq!(name, row.name),
        Err(error) => panic!("{error}"),
    }
});

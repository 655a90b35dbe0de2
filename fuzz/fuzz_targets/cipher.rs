//! The two ciphers against each other: the same octets of everything, and both refuse the same.
//!
//! Input: 32 octets of key, 24 of nonce, 16 of tag, then what is sealed, and opened as it is.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tidings_zmtp::cipher::{SharedKey, dryoc, rustcrypto};
use zeroize::Zeroizing;

fuzz_target!(|data: &[u8]| {
    let Some((secret, rest)) = data.split_first_chunk::<32>() else {
        return;
    };
    let Some((nonce, rest)) = rest.split_first_chunk::<24>() else {
        return;
    };
    let Some((mac, plain)) = rest.split_first_chunk::<16>() else {
        return;
    };
    let key = SharedKey::own(Zeroizing::new(*secret));
    let (mut one, mut other) = (plain.to_vec(), plain.to_vec());
    let tag = dryoc::seal_in_place(&key, nonce, &mut one);
    assert_eq!((tag, &one), (rustcrypto::seal_in_place(&key, nonce, &mut other), &other));
    assert!(dryoc::open_in_place(&key, nonce, &tag, &mut other) && other == plain);
    assert!(rustcrypto::open_in_place(&key, nonce, &tag, &mut one) && one == plain);
    let opened = dryoc::open_in_place(&key, nonce, mac, &mut one);
    assert_eq!((opened, &one), (rustcrypto::open_in_place(&key, nonce, mac, &mut other), &other));
    assert!(opened || one == plain);

    let mut public = [0; 32];
    public.iter_mut().zip(nonce.iter().chain(mac)).for_each(|(to, from)| *to = *from);
    assert_eq!(dryoc::agree(&public, secret), rustcrypto::agree(&public, secret));
    assert_eq!(dryoc::public_of(secret), rustcrypto::public_of(secret));
});

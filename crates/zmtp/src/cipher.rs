//! The cipher of CURVE: X25519 agreement, XSalsa20-Poly1305 boxes (RFC 26; NaCl's crypto_box and crypto_secretbox).
//!
//! All that the rest needs are four functions, so that what stands behind them can be changed: dryoc, or with the
//! feature `rustcrypto` and without `dryoc` a composition of RustCrypto's and dalek's crates. Tests and a fuzz target
//! hold the two against each other. Whoever makes the second one his default should build with
//! `--cfg poly1305_backend="soft"`: the vector code of poly1305 takes a microsecond to set up for each message.

use std::fmt;

use zeroize::Zeroizing;

#[cfg(feature = "dryoc")]
pub use self::dryoc::{open_in_place, public_of, seal_in_place};
#[cfg(not(feature = "dryoc"))]
pub use self::rustcrypto::{open_in_place, public_of, seal_in_place};

#[cfg(not(any(feature = "dryoc", feature = "rustcrypto")))]
compile_error!("CURVE needs a cipher: enable the feature \"dryoc\" or \"rustcrypto\"");

/// A key that both sides of a box have
#[derive(Clone)]
pub struct SharedKey(Zeroizing<[u8; 32]>);

impl SharedKey {
    /// What a public key and one's own secret key make; `None` where the public key is one that makes the same with any
    pub fn agree(public: &[u8; 32], secret: &[u8; 32]) -> Option<Self> {
        #[cfg(feature = "dryoc")]
        let agreed = dryoc::agree(public, secret);
        #[cfg(not(feature = "dryoc"))]
        let agreed = rustcrypto::agree(public, secret);
        agreed.map(Self)
    }

    /// A key that nobody else has
    pub fn own(octets: Zeroizing<[u8; 32]>) -> Self {
        Self(octets)
    }
}

impl fmt::Debug for SharedKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SharedKey(…)")
    }
}

/// Octets of the tag that a box begins with
pub const MAC_LEN: usize = 16;

/// dryoc: vector code chosen when it runs, fast at every size
#[cfg(feature = "dryoc")]
pub mod dryoc {
    use ::dryoc::classic::{
        crypto_box::{
            crypto_box_beforenm, crypto_box_detached_afternm_inplace, crypto_box_open_detached_afternm_inplace,
        },
        crypto_core::crypto_scalarmult_base,
    };
    use zeroize::Zeroizing;

    use super::{MAC_LEN, SharedKey};

    /// Encrypts `data` where it lies, and makes the tag for it
    #[inline]
    pub fn seal_in_place(key: &SharedKey, nonce: &[u8; 24], data: &mut [u8]) -> [u8; MAC_LEN] {
        let mut mac = [0; MAC_LEN];
        crypto_box_detached_afternm_inplace(data, &mut mac, nonce, &key.0);
        mac
    }

    /// Decrypts `data` where it lies, if the tag is right; else leaves it as it is
    #[inline]
    #[must_use]
    pub fn open_in_place(key: &SharedKey, nonce: &[u8; 24], mac: &[u8; MAC_LEN], data: &mut [u8]) -> bool {
        crypto_box_open_detached_afternm_inplace(data, mac, nonce, &key.0).is_ok()
    }

    /// The agreement of X25519, and what HSalsa20 makes of it
    pub fn agree(public: &[u8; 32], secret: &[u8; 32]) -> Option<Zeroizing<[u8; 32]>> {
        crypto_box_beforenm(public, secret).ok().map(Zeroizing::new)
    }

    /// The public half of a secret key
    pub fn public_of(secret: &[u8; 32]) -> [u8; 32] {
        let mut public = [0; 32];
        crypto_scalarmult_base(&mut public, secret);
        public
    }
}

/// RustCrypto's stream cipher and tag, dalek's curve
#[cfg(any(test, feature = "rustcrypto"))]
pub mod rustcrypto {
    use poly1305::{Poly1305, universal_hash::KeyInit};
    use salsa20::{
        XSalsa20,
        cipher::{KeyIvInit, StreamCipher, consts::U10},
        hsalsa,
    };
    use subtle::ConstantTimeEq;
    use x25519_dalek::{X25519_BASEPOINT_BYTES, x25519};
    use zeroize::Zeroizing;

    use super::{MAC_LEN, SharedKey};

    /// Encrypts `data` where it lies, and makes the tag for it
    pub fn seal_in_place(key: &SharedKey, nonce: &[u8; 24], data: &mut [u8]) -> [u8; MAC_LEN] {
        let (mut stream, authenticator) = start(key, nonce);
        stream.apply_keystream(data);
        authenticator.compute_unpadded(data).into()
    }

    /// Decrypts `data` where it lies, if the tag is right; else leaves it as it is
    #[must_use]
    pub fn open_in_place(key: &SharedKey, nonce: &[u8; 24], mac: &[u8; MAC_LEN], data: &mut [u8]) -> bool {
        let (mut stream, authenticator) = start(key, nonce);
        let expected: [u8; MAC_LEN] = authenticator.compute_unpadded(data).into();
        let is_right = expected.ct_eq(mac).into();
        if is_right {
            stream.apply_keystream(data);
        }
        is_right
    }

    /// The first 32 octets of the stream are the key of the tag
    fn start(key: &SharedKey, nonce: &[u8; 24]) -> (XSalsa20, Poly1305) {
        let mut stream = XSalsa20::new((&*key.0).into(), nonce.into());
        let mut mac_key = Zeroizing::new([0; 32]);
        stream.apply_keystream(&mut mac_key[..]);
        (stream, Poly1305::new((&*mac_key).into()))
    }

    /// The agreement of X25519, and what HSalsa20 makes of it
    pub fn agree(public: &[u8; 32], secret: &[u8; 32]) -> Option<Zeroizing<[u8; 32]>> {
        let point = Zeroizing::new(x25519(*secret, *public));
        if point.ct_eq(&[0; 32]).into() {
            return None;
        }
        Some(Zeroizing::new(hsalsa::<U10>((&*point).into(), (&[0; 16]).into()).into()))
    }

    /// The public half of a secret key
    pub fn public_of(secret: &[u8; 32]) -> [u8; 32] {
        x25519(*secret, X25519_BASEPOINT_BYTES)
    }
}

#[cfg(all(test, feature = "dryoc"))]
mod tests {
    use super::*;

    /// Octets that look like nothing in particular
    fn octets(count: usize, seed: u8) -> Vec<u8> {
        let mut state = u32::from(seed) + 1;
        let mut next = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 24) as u8
        };
        (0..count).map(|_| next()).collect()
    }

    fn key(seed: u8) -> SharedKey {
        let octets = octets(32, seed);
        SharedKey::own(Zeroizing::new(std::array::from_fn(|index| octets[index])))
    }

    #[test]
    fn both_ciphers_make_the_same_of_every_length() {
        for length in 0..=600 {
            let (key, nonce) = (key(length as u8), octets(24, 9).try_into().unwrap());
            let plain = octets(length, 77);
            let (mut one, mut other) = (plain.clone(), plain.clone());
            let mac = dryoc::seal_in_place(&key, &nonce, &mut one);
            assert_eq!(mac, rustcrypto::seal_in_place(&key, &nonce, &mut other), "{length}");
            assert_eq!(one, other, "{length}");
            assert!(dryoc::open_in_place(&key, &nonce, &mac, &mut other) && other == plain, "{length}");
            assert!(rustcrypto::open_in_place(&key, &nonce, &mac, &mut one) && one == plain, "{length}");
        }
    }

    #[test]
    fn both_refuse_every_flipped_bit_and_leave_the_data_alone() {
        let (key, nonce) = (key(1), octets(24, 2).try_into().unwrap());
        for length in [0, 1, 31, 33, 64, 100, 257] {
            let mut sealed = octets(length, 3);
            let mac = dryoc::seal_in_place(&key, &nonce, &mut sealed);
            for bit in 0..(length + MAC_LEN) * 8 {
                let (mut mac, mut data) = (mac, sealed.clone());
                match bit / 8 {
                    at if at < MAC_LEN => mac[at] ^= 1 << (bit % 8),
                    at => data[at - MAC_LEN] ^= 1 << (bit % 8),
                }
                let altered = data.clone();
                assert!(!dryoc::open_in_place(&key, &nonce, &mac, &mut data) && data == altered, "{length} {bit}");
                assert!(!rustcrypto::open_in_place(&key, &nonce, &mac, &mut data) && data == altered, "{length} {bit}");
            }
        }
    }

    #[test]
    fn both_agree_and_refuse_keys_that_make_the_same_with_any() {
        for seed in 0..20 {
            let (mine, theirs) = (octets(32, seed).try_into().unwrap(), octets(32, seed + 100).try_into().unwrap());
            let public = dryoc::public_of(&theirs);
            assert_eq!(public, rustcrypto::public_of(&theirs));
            assert_eq!(dryoc::agree(&public, &mine), rustcrypto::agree(&public, &mine));
            assert_eq!(dryoc::agree(&public, &mine), dryoc::agree(&dryoc::public_of(&mine), &theirs));
        }
        let mut one = [0; 32];
        one[0] = 1;
        for low in [[0; 32], one] {
            assert_eq!(dryoc::agree(&low, &[7; 32]), None);
            assert_eq!(rustcrypto::agree(&low, &[7; 32]), None);
        }
    }
}

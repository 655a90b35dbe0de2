//! Passwords of PLAIN users: as text or as a salted hash, compared in constant time, and guessed at slowly.
//!
//! A hash is PBKDF2-HMAC-SHA256 (RFC 8018) from aws-lc, which TLS brings anyway:
//! `pbkdf2-sha256:ITERATIONS:SALT:HASH`, the last two in hexadecimal digits. A deliberately slow hash would let anyone
//! who can reach the port keep us busy, for PLAIN is asked before anything is known of the peer. So
//! what has matched once is remembered (as a keyed digest, in memory only) and costs a microsecond from then on; and
//! of all other attempts, right or wrong, user known or not, [`CHECKS_PER_SECOND`] are calculated in a second.
//! Those beyond are told to come back later.

use std::collections::HashMap;
use std::fmt;
use std::hash::{BuildHasher as _, RandomState};
use std::num::NonZeroU32;
use std::sync::{LazyLock, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use aws_lc_rs::{hmac, pbkdf2};
use subtle::ConstantTimeEq as _;
use zeroize::Zeroizing;

/// A password in `access.toml`
#[derive(Clone)]
pub(crate) enum Password {
    /// Its text: the file is as secret as the password
    Text(Zeroizing<String>),
    Hash {
        iterations: NonZeroU32,
        salt: Vec<u8>,
        hash: Vec<u8>,
    },
}

impl Password {
    /// Reads `pbkdf2-sha256:ITERATIONS:SALT:HASH`
    pub(crate) fn from_hash_text(text: &str) -> Result<Self, String> {
        let parts: Vec<&str> = text.split(':').collect();
        let [SCHEME, iterations, salt, hash] = parts[..] else {
            return Err(format!("write {SCHEME}:ITERATIONS:SALT:HASH; `tidings key password` makes such a line"));
        };
        let iterations = iterations.parse().ok().filter(|count: &NonZeroU32| count.get() <= MAX_ITERATIONS);
        let iterations = iterations.ok_or_else(|| format!("ITERATIONS is a number from 1 to {MAX_ITERATIONS}"))?;
        let (salt, hash) = (octets(salt)?, octets(hash)?);
        if salt.is_empty() || salt.len() > 64 || hash.len() != HASH_LEN {
            return Err(format!("SALT is 1 to 64 octets, HASH {HASH_LEN}, both in hexadecimal digits"));
        }
        Ok(Self::Hash { iterations, salt, hash })
    }
}

impl Password {
    /// What tells two passwords apart and does not tell either: a digest under a key that only this process has
    pub(crate) fn trace(&self) -> String {
        static KEY: LazyLock<RandomState> = LazyLock::new(RandomState::new);
        let trace = match self {
            Self::Text(text) => KEY.hash_one(text.as_bytes()),
            Self::Hash { iterations, salt, hash } => KEY.hash_one((iterations, salt, hash)),
        };
        format!("{trace:016x}")
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Password(…)")
    }
}

impl PartialEq for Password {
    /// Whether both were written alike, to see what a reload changed
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Text(a), Self::Text(b)) => a == b,
            (Self::Hash { iterations, salt, hash }, Self::Hash { iterations: i, salt: s, hash: h }) => {
                (iterations, salt, hash) == (i, s, h)
            }
            _ => false,
        }
    }
}

/// The line to put into `access.toml` for a password
///
/// # Errors
/// The system gives no random octets for the salt.
pub fn hash_password(password: &str) -> Result<String, getrandom::Error> {
    let mut salt = [0; 16];
    getrandom::fill(&mut salt)?;
    let hash = derive(ITERATIONS, &salt, password.as_bytes());
    Ok(format!("{SCHEME}:{ITERATIONS}:{}:{}", hex(&salt), hex(hash.as_ref())))
}

/// What an attempt comes to
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Attempt {
    Right,
    Wrong,
    /// Too many are being tried: later
    Busy,
}

/// Checks passwords; lives as long as the keystore, across reloads
pub(crate) struct Passwords {
    /// Known to nobody, new in every process
    key: hmac::Key,
    state: Mutex<State>,
}

struct State {
    /// For each user, the digest of what matched last: password and stored form
    matched: HashMap<String, hmac::Tag>,
    /// Calculations that may be made at once
    credit: f64,
    /// When the credit was counted last
    counted: Option<Instant>,
}

impl Passwords {
    pub(crate) fn new() -> Result<Self, getrandom::Error> {
        let mut octets = Zeroizing::new([0; 32]);
        getrandom::fill(&mut *octets)?;
        let state = State { matched: HashMap::new(), credit: CHECKS_PER_SECOND, counted: None };
        Ok(Self { key: hmac::Key::new(hmac::HMAC_SHA256, &*octets), state: Mutex::new(state) })
    }

    /// Whether `given` is the password of `user`
    ///
    /// An unknown user (`stored` is `None`) takes as long as one with a hash, if there are such (`hashed`).
    pub(crate) fn check(
        &self,
        now: Instant,
        user: &str,
        stored: Option<&Password>,
        hashed: bool,
        given: &[u8],
    ) -> Attempt {
        let (iterations, salt, hash) = match stored {
            Some(Password::Hash { iterations, salt, hash }) => (*iterations, salt.as_slice(), hash.as_slice()),
            None if hashed => (ITERATIONS, &[0; 16][..], &[0; HASH_LEN][..]),
            text => {
                // Tags of equal length are compared, so that neither length nor place of a difference shows
                let expected = if let Some(Password::Text(text)) = text { text.as_bytes() } else { &[] };
                let right = hmac::verify(&self.key, given, hmac::sign(&self.key, expected).as_ref()).is_ok();
                return if right && stored.is_some() { Attempt::Right } else { Attempt::Wrong };
            }
        };
        let mut digest = hmac::Context::with_key(&self.key);
        digest.update(hash);
        digest.update(given);
        let digest = digest.sign();
        {
            let mut state = self.lock();
            let matched = state.matched.get(user);
            if matched.is_some_and(|known| bool::from(known.as_ref().ct_eq(digest.as_ref()))) {
                return Attempt::Right;
            }
            if !state.spend(now) {
                return Attempt::Busy;
            }
        }
        // Without the lock: others are not to wait for this
        let right = pbkdf2::verify(pbkdf2::PBKDF2_HMAC_SHA256, iterations, salt, given, hash).is_ok();
        if right && stored.is_some() {
            self.lock().matched.insert(user.to_owned(), digest);
            return Attempt::Right;
        }
        Attempt::Wrong
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Passwords {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Passwords(…)")
    }
}

impl State {
    fn spend(&mut self, now: Instant) -> bool {
        let since = self.counted.map_or(0.0, |counted| now.saturating_duration_since(counted).as_secs_f64());
        self.credit = (self.credit + since * CHECKS_PER_SECOND).min(CHECKS_PER_SECOND);
        self.counted = Some(now);
        let affordable = self.credit >= 1.0;
        if affordable {
            self.credit -= 1.0;
        }
        affordable
    }
}

fn derive(iterations: NonZeroU32, salt: &[u8], password: &[u8]) -> Zeroizing<[u8; HASH_LEN]> {
    let mut hash = Zeroizing::new([0; HASH_LEN]);
    pbkdf2::derive(pbkdf2::PBKDF2_HMAC_SHA256, iterations, salt, password, &mut *hash);
    hash
}

fn octets(hex: &str) -> Result<Vec<u8>, String> {
    let digit = |digit: char| digit.to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let digits: Option<Vec<u8>> = hex.chars().map(digit).collect();
    match digits {
        Some(digits) if digits.len() % 2 == 0 => Ok(digits.chunks(2).map(|two| two[0] << 4 | two[1]).collect()),
        _ => Err("SALT and HASH are hexadecimal digits, two for each octet".to_owned()),
    }
}

fn hex(octets: &[u8]) -> String {
    octets.iter().map(|octet| format!("{octet:02x}")).collect()
}

const SCHEME: &str = "pbkdf2-sha256";
const HASH_LEN: usize = 32;

/// Some 5 ms; with the limit of checks a flood of attempts takes a tenth of one core at most. For PLAIN's password, which
/// crosses the wire as it is, the hash protects copies of the file, and a long random password needs no more.
const ITERATIONS: NonZeroU32 = NonZeroU32::new(20_000).unwrap();

/// A file that asks for more would stop the program while each password is checked
const MAX_ITERATIONS: u32 = 200_000;

/// Calculations in a second, and at once
const CHECKS_PER_SECOND: f64 = 20.0;

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn text(text: &str) -> Password {
        Password::Text(Zeroizing::new(text.to_owned()))
    }

    #[test]
    fn hashes_match_their_password_alone() {
        let stored = Password::from_hash_text(&hash_password("open sesame").unwrap()).unwrap();
        let (passwords, now) = (Passwords::new().unwrap(), Instant::now());
        let check = |user: &str, stored, given: &str| passwords.check(now, user, stored, true, given.as_bytes());
        assert_eq!(check("ali", Some(&stored), "open barley"), Attempt::Wrong);
        assert_eq!(check("ali", Some(&stored), "open sesame"), Attempt::Right);
        assert_eq!(check("ali", Some(&stored), "open sesam"), Attempt::Wrong);
        assert_eq!(check("cassim", None, "open sesame"), Attempt::Wrong);
        // What the other user's password was does not help
        let other = Password::from_hash_text(&hash_password("x").unwrap()).unwrap();
        assert_eq!(check("ali", Some(&other), "open sesame"), Attempt::Wrong);
    }

    #[test]
    fn texts_match_whole() {
        let (passwords, now) = (Passwords::new().unwrap(), Instant::now());
        for (given, expected) in [("secret", Attempt::Right), ("secre", Attempt::Wrong), ("", Attempt::Wrong)] {
            assert_eq!(passwords.check(now, "a", Some(&text("secret")), false, given.as_bytes()), expected);
        }
    }

    #[test]
    fn guessing_is_slow_and_disturbs_nobody_who_was_in_before() {
        let stored = Password::from_hash_text(&format!("{SCHEME}:1:00:{}", "0".repeat(64))).unwrap();
        let known = Password::from_hash_text(&hash_password("x").unwrap()).unwrap();
        let (passwords, now) = (Passwords::new().unwrap(), Instant::now());
        assert_eq!(passwords.check(now, "known", Some(&known), true, b"x"), Attempt::Right);
        let tried = (0..100).map(|_| passwords.check(now, "ali", Some(&stored), true, b"guess"));
        assert_eq!(tried.filter(|attempt| *attempt == Attempt::Wrong).count(), 19);
        assert_eq!(passwords.check(now, "nobody", None, true, b"guess"), Attempt::Busy);
        assert_eq!(passwords.check(now, "known", Some(&known), true, b"x"), Attempt::Right);
        let later = now + Duration::from_millis(60);
        assert_eq!(passwords.check(later, "ali", Some(&stored), true, b"guess"), Attempt::Wrong);
        assert_eq!(passwords.check(later, "ali", Some(&stored), true, b"guess"), Attempt::Busy);
    }

    #[test]
    fn malformed_hashes_are_refused() {
        for wrong in [
            "secret",
            "pbkdf2-sha256:0:00:00",
            "pbkdf2-sha256:1000000:00:00",
            "pbkdf2-sha256:1:0:00",
            "pbkdf2-sha256:1:00:00",
            "bcrypt:1:00:00",
        ] {
            assert!(Password::from_hash_text(wrong).is_err(), "{wrong}");
        }
        assert_eq!(format!("{:?}", text("secret")), "Password(…)");
    }
}

//! `cipher`: what CURVE's box costs with no library, socket or copy around it.

use std::hint::black_box;

use anyhow::{Context as _, Result, ensure};
use dryoc::classic::crypto_box::{
    Mac, Nonce, crypto_box_beforenm, crypto_box_detached_afternm_inplace, crypto_box_keypair,
    crypto_box_open_detached_afternm_inplace,
};
use serde_json::{Value, json};

use crate::keys::Keys;
use crate::measure::{Measured, with};

/// Seals and opens `count` bodies of `size` octets in place on one thread, a burst at a time
///
/// `count` is rounded up to whole bursts.
pub(crate) fn cipher(mut keys: Keys) -> Result<Value> {
    let size = keys.number("size")?;
    let count = keys.number("count")?;
    keys.finish()?;
    let (client, server) = (crypto_box_keypair(), crypto_box_keypair());
    let key = crypto_box_beforenm(&server.0, &client.1).context("agreeing on a key")?;

    // As much as stays in the cache, or enough for the clock to cost nothing
    let burst = (CACHED / size).clamp(1, 1024).min(count);
    let mut bodies = vec![vec![b'x'; size]; burst];
    let mut macs = vec![Mac::default(); burst];
    let (mut sealing, mut opening) = (0.0, 0.0);
    let whole = Measured::begin();
    let mut done = 0u64;
    while done < count as u64 {
        let nonce = |number: usize| -> Nonce {
            let mut nonce = *b"CurveZMQMESSAGEC\0\0\0\0\0\0\0\0";
            nonce[16..].copy_from_slice(&(done + number as u64).to_be_bytes());
            nonce
        };
        let span = Measured::begin();
        for (number, (body, mac)) in bodies.iter_mut().zip(&mut macs).enumerate() {
            crypto_box_detached_afternm_inplace(black_box(body), mac, &nonce(number), &key);
        }
        sealing += span.end().seconds;
        let span = Measured::begin();
        for (number, (body, mac)) in bodies.iter_mut().zip(&macs).enumerate() {
            crypto_box_open_detached_afternm_inplace(black_box(body), mac, &nonce(number), &key)
                .context("a box does not open")?;
        }
        opening += span.end().seconds;
        done += burst as u64;
    }
    ensure!(bodies.iter().flatten().all(|octet| *octet == b'x'), "what was opened is not what was sealed");
    let report = whole.end().report(done as usize, done as f64);
    let each = |seconds: f64| seconds * 1e9 / done as f64;
    Ok(with(report, json!({ "seal_ns": each(sealing), "open_ns": each(opening) })))
}

/// Less than a core's second-level cache
const CACHED: usize = 256 * 1024;

//! Z85: octets as text that survives configuration files, source code and the telephone (RFC 32).
//!
//! Four octets make five characters. Secret keys pass through here, so no table is looked up and no branch taken by
//! what the octets or characters are; only where text is wrong is its place told.

use subtle::{ConditionallySelectable, ConstantTimeEq};
use zeroize::Zeroizing;

/// The text for these octets; `None` unless there are four of them, or eight, or any other multiple of four
pub fn encode(octets: &[u8]) -> Option<String> {
    let (groups, []) = octets.as_chunks::<4>() else {
        return None;
    };
    let mut text = String::with_capacity(groups.len() * 5);
    for group in groups {
        let value = u32::from_be_bytes(*group);
        // Division by a constant is a multiplication: it takes as long for any value.
        text.extend([52_200_625, 614_125, 7_225, 85, 1].map(|unit| character((value / unit % 85) as u8)));
    }
    Some(text)
}

/// The octets that the text stands for
///
/// # Errors
/// When its length is no multiple of five, a character is not of the alphabet, or five of them stand for more than
/// four octets can hold.
pub fn decode(text: &str) -> Result<Zeroizing<Vec<u8>>, Z85Error> {
    let (groups, []) = text.as_bytes().as_chunks::<5>() else {
        return Err(Z85Error::Length { octets: text.len() });
    };
    let mut octets = Zeroizing::new(Vec::with_capacity(groups.len() * 4));
    for (index, group) in groups.iter().enumerate() {
        let mut value: u64 = 0;
        for (place, &character) in group.iter().enumerate() {
            let digit = digit(character);
            if digit == NO_DIGIT {
                return Err(Z85Error::Character { at: index * 5 + place });
            }
            value = value * 85 + u64::from(digit);
        }
        let value = u32::try_from(value).map_err(|_| Z85Error::Overflow { at: index * 5 })?;
        octets.extend_from_slice(&value.to_be_bytes());
    }
    Ok(octets)
}

/// Why text is not Z85
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Z85Error {
    /// A length that no octets have
    #[error("{octets} characters, where a multiple of 5 is due")]
    Length {
        /// Octets of the text
        octets: usize,
    },
    /// A character that is not of the alphabet
    #[error("the character at {at} is none of Z85's")]
    Character {
        /// Its place, counted from 0
        at: usize,
    },
    /// Five characters that stand for more than four octets hold
    #[error("the five characters at {at} stand for no four octets")]
    Overflow {
        /// The place of the first of them, counted from 0
        at: usize,
    },
}

/// The character for a digit below 85; all are looked at, so that none is given away
fn character(digit: u8) -> char {
    let mut found = 0;
    for (value, character) in (0..).zip(ALPHABET) {
        found.conditional_assign(character, digit.ct_eq(&value));
    }
    found.into()
}

fn digit(character: u8) -> u8 {
    let mut found = NO_DIGIT;
    for (value, known) in (0u8..).zip(ALPHABET) {
        found.conditional_assign(&value, character.ct_eq(known));
    }
    found
}

const NO_DIGIT: u8 = 0xff;

/// By value (RFC 32, "Formal Specification")
const ALPHABET: &[u8; 85] = b"0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ.-:+=^!/*?&<>()[]{}@%$#";

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_rfcs_own_example() {
        let octets = [0x86, 0x4f, 0xd2, 0x6f, 0xb5, 0x59, 0xf7, 0x5b];
        assert_eq!(encode(&octets).as_deref(), Some("HelloWorld"));
        assert_eq!(decode("HelloWorld").as_deref(), Ok(&octets.to_vec()));
        assert_eq!((encode(&[]), decode("").map(|octets| octets.len())), (Some(String::new()), Ok(0)));
    }

    #[test]
    fn what_is_no_z85_is_refused_with_its_place() {
        assert_eq!(encode(&[1, 2, 3]), None);
        assert_eq!(decode("Hell"), Err(Z85Error::Length { octets: 4 }));
        assert_eq!(decode("HelloWor d"), Err(Z85Error::Character { at: 8 }));
        assert_eq!(decode("Hello\u{e9}abc"), Err(Z85Error::Character { at: 5 }));
        assert_eq!(decode("Hello#####"), Err(Z85Error::Overflow { at: 5 }));
        assert_eq!(decode("%nSc0").as_deref(), Ok(&vec![0xff; 4]), "the largest there is");
        assert_eq!(decode("%nSc1"), Err(Z85Error::Overflow { at: 0 }));
    }

    proptest! {
        #[test]
        fn leads_back(groups in prop::collection::vec(any::<[u8; 4]>(), 0..20)) {
            let octets = groups.concat();
            let text = encode(&octets).unwrap();
            prop_assert_eq!(text.len(), octets.len() / 4 * 5);
            prop_assert_eq!(decode(&text).unwrap().to_vec(), octets);
        }
    }
}

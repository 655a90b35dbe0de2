//! Fingerprints of public keys and certificates, in forms that people can compare.

use std::fmt;

use aws_lc_rs::digest::{SHA256, digest};

/// The SHA-256 of a public key or of a certificate
///
/// Three ways to compare two of them: [`words`](Self::words) to read out on the telephone, the grouped hexadecimal
/// digits of its `Display` form, and the [`picture`](Self::picture) to see at a glance that they differ.
#[derive(Clone, Copy, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Fingerprint([u8; 32]);

impl Fingerprint {
    /// The fingerprint of these octets: the 32 of a CURVE public key, or the DER form of a certificate
    pub fn of(octets: &[u8]) -> Self {
        let mut fingerprint = [0; 32];
        fingerprint.copy_from_slice(digest(&SHA256, octets).as_ref());
        Self(fingerprint)
    }

    /// From the digest itself
    pub fn from_octets(octets: [u8; 32]) -> Self {
        Self(octets)
    }

    /// The digest
    pub fn as_octets(&self) -> &[u8; 32] {
        &self.0
    }

    /// Reads 64 hexadecimal digits; colons, spaces and dashes between them do not matter
    pub fn from_hex(text: &str) -> Option<Self> {
        let digits: Vec<u32> =
            text.chars().filter(|c| !": -".contains(*c)).map(|c| c.to_digit(16)).collect::<Option<_>>()?;
        let octets: Vec<u8> = digits.chunks(2).filter_map(|two| u8::try_from(two[0] * 16 + two.get(1)?).ok()).collect();
        (digits.len() == 64).then_some(())?;
        octets.try_into().ok().map(Self)
    }

    /// The first 128 bits as eight words of five letters, 16 bits each (the "proquints" of Wilkerson's proposal of
    /// 2009, arXiv 0901.4016): `lusab-babad …` is easier to read out than digits
    ///
    /// 128 bits are too many for anyone to find a second key that has the same words.
    pub fn words(&self) -> String {
        let words: Vec<String> = self.0[..16].chunks(2).map(|two| word(u16::from_be_bytes([two[0], two[1]]))).collect();
        words.join("-")
    }

    /// A picture of 11 lines, as `ssh-keygen -v` draws it: a bishop stumbles over a board, two bits a step
    pub fn picture(&self, title: &str) -> String {
        let mut visits = [[0_usize; WIDTH]; HEIGHT];
        let (mut x, mut y) = (WIDTH / 2, HEIGHT / 2);
        for octet in self.0 {
            for shift in [0, 2, 4, 6] {
                let step = octet >> shift;
                x = if step & 1 == 0 { x.saturating_sub(1) } else { (x + 1).min(WIDTH - 1) };
                y = if step & 2 == 0 { y.saturating_sub(1) } else { (y + 1).min(HEIGHT - 1) };
                visits[y][x] += 1;
            }
        }
        let mut picture = format!("+{:-^WIDTH$}+\n", frame_title(title));
        for (row, visits) in visits.iter().enumerate() {
            let line = visits.iter().enumerate().map(|(column, visits)| match (column, row) {
                (column, row) if (column, row) == (x, y) => 'E',
                (column, row) if (column, row) == (WIDTH / 2, HEIGHT / 2) => 'S',
                _ => char::from(SHADES[(*visits).min(SHADES.len() - 1)]),
            });
            picture.push_str(&format!("|{}|\n", line.collect::<String>()));
        }
        picture.push_str(&format!("+{:-^WIDTH$}+", "[SHA256]"));
        picture
    }

    /// The first 64 bits in groups: enough to tell the keys in a list apart, not enough to trust one
    pub fn short(&self) -> String {
        groups(&self.0[..8])
    }
}

impl fmt::Display for Fingerprint {
    /// 64 hexadecimal digits in 16 groups of four
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&groups(&self.0))
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Fingerprint({self})")
    }
}

fn groups(octets: &[u8]) -> String {
    let groups: Vec<String> =
        octets.chunks(2).map(|two| two.iter().map(|octet| format!("{octet:02x}")).collect()).collect();
    groups.join(" ")
}

fn word(bits: u16) -> String {
    let consonant = |shift: u16| char::from(CONSONANTS[usize::from(bits >> shift & 0xf)]);
    let vowel = |shift: u16| char::from(VOWELS[usize::from(bits >> shift & 0x3)]);
    [consonant(12), vowel(10), consonant(6), vowel(4), consonant(0)].iter().collect()
}

fn frame_title(title: &str) -> String {
    let plain: String = title.chars().filter(|c| c.is_ascii_graphic()).take(WIDTH - 4).collect();
    format!("[{plain}]")
}

const CONSONANTS: &[u8; 16] = b"bdfghjklmnprstvz";
const VOWELS: &[u8; 4] = b"aiou";

/// The board of ssh-keygen
const WIDTH: usize = 17;
const HEIGHT: usize = 9;
const SHADES: &[u8] = b" .o+=*BOX@%&#/^";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_those_of_the_proposal() {
        // Its own examples: 127.0.0.1, 63.84.220.193, 63.118.7.35
        for (address, words) in
            [([127, 0, 0, 1], "lusab-babad"), ([63, 84, 220, 193], "gutih-tugad"), ([63, 118, 7, 35], "gutuk-bisog")]
        {
            let octets: [u8; 4] = address;
            let high = word(u16::from_be_bytes([octets[0], octets[1]]));
            let low = word(u16::from_be_bytes([octets[2], octets[3]]));
            assert_eq!(format!("{high}-{low}"), words);
        }
    }

    #[test]
    fn digits_lead_back() {
        let fingerprint = Fingerprint::of(b"abc");
        assert!(fingerprint.to_string().starts_with("ba78 16bf 8f01 cfea"), "{fingerprint}");
        assert_eq!(fingerprint.to_string().len(), 16 * 5 - 1);
        assert_eq!(Fingerprint::from_hex(&fingerprint.to_string()), Some(fingerprint));
        let colons: Vec<String> = fingerprint.as_octets().iter().map(|octet| format!("{octet:02X}")).collect();
        assert_eq!(Fingerprint::from_hex(&colons.join(":")), Some(fingerprint));
        for wrong in ["", "ba78", &"0".repeat(63), &"0".repeat(65), &"x".repeat(64)] {
            assert_eq!(Fingerprint::from_hex(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn the_picture_is_a_framed_board() {
        let picture = Fingerprint::of(b"abc").picture("CURVE a-very-long-title");
        let lines: Vec<&str> = picture.lines().collect();
        assert_eq!(lines.len(), HEIGHT + 2);
        assert!(lines.iter().all(|line| line.chars().count() == WIDTH + 2), "{picture}");
        assert!(picture.contains('E') && picture != Fingerprint::of(b"abd").picture("CURVE a-very-long-title"));
    }
}

//! Reading and writing what messages consist of: octets, numbers of a width, varints, strings.

use bytes::{BufMut, BytesMut};

use super::Malformed;

/// What is left of a frame; each length is looked at before anything is taken or allocated
#[derive(Clone, Copy, Debug)]
pub(super) struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    pub(super) fn new(octets: &'a [u8]) -> Self {
        Self(octets)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn left(&self) -> usize {
        self.0.len()
    }

    pub(super) fn take(&mut self, count: usize) -> Result<&'a [u8], Malformed> {
        let (taken, rest) = self.0.split_at_checked(count).ok_or(Malformed::Short)?;
        self.0 = rest;
        Ok(taken)
    }

    pub(super) fn octet(&mut self) -> Result<u8, Malformed> {
        let (first, rest) = self.0.split_first().ok_or(Malformed::Short)?;
        self.0 = rest;
        Ok(*first)
    }

    /// A number of 8 octets, the most significant first
    pub(super) fn number8(&mut self) -> Result<u64, Malformed> {
        let (first, rest) = self.0.split_first_chunk().ok_or(Malformed::Short)?;
        self.0 = rest;
        Ok(u64::from_be_bytes(*first))
    }

    /// A number as LEB128, in up to 10 octets
    pub(super) fn varint(&mut self) -> Result<u64, Malformed> {
        let mut number = 0;
        for at in 0..10 {
            let octet = self.octet()?;
            let bits = u64::from(octet & 0x7f);
            // The tenth has one bit of 64 left
            if at == 9 && bits > 1 {
                return Err(Malformed::Number);
            }
            number |= bits << (7 * at);
            if octet & 0x80 == 0 {
                return Ok(number);
            }
        }
        Err(Malformed::Number)
    }

    /// A length as a varint, and so many octets
    pub(super) fn sized(&mut self) -> Result<&'a [u8], Malformed> {
        let length = self.varint()?;
        self.take(usize::try_from(length).map_err(|_| Malformed::Short)?)
    }

    /// A count of things that have at least `least` octets each, of which there may be `most`
    pub(super) fn count(&mut self, least: usize, most: usize) -> Result<usize, Malformed> {
        let count = usize::try_from(self.varint()?).map_err(|_| Malformed::Short)?;
        if count > most {
            Err(Malformed::TooMany)
        } else if count.saturating_mul(least) > self.left() {
            Err(Malformed::Short)
        } else {
            Ok(count)
        }
    }

    /// A length of one octet, and so many octets of UTF-8
    pub(super) fn string(&mut self) -> Result<String, Malformed> {
        let length = self.octet()?;
        let octets = self.take(length.into())?;
        std::str::from_utf8(octets).map(str::to_owned).map_err(|_| Malformed::Text)
    }
}

pub(super) fn put_varint(out: &mut BytesMut, mut number: u64) {
    while number >= 0x80 {
        out.put_u8(number as u8 | 0x80);
        number >>= 7;
    }
    out.put_u8(number as u8);
}

pub(super) fn put_sized(out: &mut BytesMut, octets: &[u8]) {
    put_varint(out, octets.len() as u64);
    out.put_slice(octets);
}

/// A string of up to 255 octets; what is longer is cut where a character ends
pub(super) fn put_string(out: &mut BytesMut, text: &str) {
    let end = (0..=text.len().min(255)).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
    let text = text.get(..end).unwrap_or_default();
    out.put_u8(text.len() as u8);
    out.put_slice(text.as_bytes());
}

/// Small numbers of either sign as small numbers
pub(super) const fn zigzag(number: i64) -> u64 {
    ((number << 1) ^ (number >> 63)) as u64
}

pub(super) const fn unzigzag(number: u64) -> i64 {
    (number >> 1) as i64 ^ -((number & 1) as i64)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn numbers_come_back(number: u64, signed: i64) {
            let mut out = BytesMut::new();
            put_varint(&mut out, number);
            let mut reader = Reader::new(&out);
            prop_assert_eq!(reader.varint(), Ok(number));
            prop_assert!(reader.is_empty());
            prop_assert_eq!(unzigzag(zigzag(signed)), signed);
        }
    }

    #[test]
    fn a_number_of_more_than_64_bits_is_none() {
        assert_eq!(Reader::new(&[0xff; 10]).varint(), Err(Malformed::Number));
        assert_eq!(Reader::new(&[0x80, 0x80]).varint(), Err(Malformed::Short));
        assert_eq!(Reader::new(&[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1]).varint(), Ok(u64::MAX));
    }

    #[test]
    fn a_count_is_not_believed() {
        assert_eq!(Reader::new(&[200, 1, 0, 0]).count(1, 1000), Err(Malformed::Short));
        assert_eq!(Reader::new(&[200, 1, 0, 0]).count(1, 100), Err(Malformed::TooMany));
        assert_eq!(Reader::new(&[2, 0, 0]).count(1, 100), Ok(2));
    }
}

//! Properties: what a peer tells of itself in READY.
//!
//! Grammar: RFC 23, "Metadata".

use std::fmt;

use bytes::{Buf, BufMut, Bytes, BytesMut};

use crate::mechanism::HANDSHAKE_COMMAND_CEILING;

/// Names and values in the order they were sent
///
/// Names compare without case (RFC 23, "Metadata"), and are written in the case they were given, since libzmq
/// compares them exactly. A handshake command holds at most
/// [`HANDSHAKE_COMMAND_CEILING`](crate::HANDSHAKE_COMMAND_CEILING) octets, properties and all.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Properties {
    entries: Vec<(String, Bytes)>,
}

impl Properties {
    /// No properties
    pub fn new() -> Self {
        Self::default()
    }

    /// Reads properties up to the end of `octets`
    ///
    /// A name of no length is accepted since libzmq does. Of a name sent twice the first counts.
    ///
    /// # Errors
    /// When there are more octets than a handshake command may have, a property ends beyond them, or a name is not
    /// UTF-8.
    pub fn decode(octets: &[u8]) -> Result<Self, MetadataError> {
        if octets.len() as u64 > HANDSHAKE_COMMAND_CEILING {
            return Err(MetadataError::TooLong { octets: octets.len() });
        }
        let mut entries = Vec::new();
        let mut rest = octets;
        while let Some((&name_len, after)) = rest.split_first() {
            let offset = octets.len() - rest.len();
            let truncated = MetadataError::Truncated { offset };
            let (name, after) = after.split_at_checked(name_len.into()).ok_or(truncated)?;
            let (mut value_len, after) = after.split_at_checked(4).ok_or(truncated)?;
            let value_len = usize::try_from(value_len.get_u32()).map_err(|_| truncated)?;
            let (value, after) = after.split_at_checked(value_len).ok_or(truncated)?;
            let name = std::str::from_utf8(name).map_err(|_| MetadataError::Name { offset })?;
            entries.push((name.to_owned(), Bytes::copy_from_slice(value)));
            rest = after;
        }
        Ok(Self { entries })
    }

    /// Writes all properties at the end of `into`
    pub fn encode(&self, into: &mut BytesMut) {
        into.reserve(self.encoded_len());
        for (name, value) in &self.entries {
            // Neither fits its length field any longer than `insert` and `decode` let in.
            into.put_u8(name.len() as u8);
            into.put_slice(name.as_bytes());
            into.put_u32(value.len() as u32);
            into.put_slice(value);
        }
    }

    /// Octets that [`encode`](Self::encode) writes
    pub fn encoded_len(&self) -> usize {
        self.entries.iter().map(|(name, value)| 1 + name.len() + 4 + value.len()).sum()
    }

    /// The value of the first property of that name, whatever the case
    pub fn value(&self, name: &str) -> Option<&Bytes> {
        self.entries.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }

    /// Sets a property; one of that name, whatever the case, is replaced where it stands
    ///
    /// # Errors
    /// When the name has no or more than 255 octets or others than `A-Z a-z 0-9 - _ . +`, or the value more
    /// than 2^31-1 octets.
    pub fn insert(&mut self, name: impl Into<String>, value: impl Into<Bytes>) -> Result<(), MetadataError> {
        let (name, value) = (name.into(), value.into());
        if name.is_empty() || name.len() > NAME_LIMIT || !name.bytes().all(is_name_octet) {
            return Err(MetadataError::Name { offset: 0 });
        }
        if value.len() > VALUE_LIMIT {
            return Err(MetadataError::Value { octets: value.len() });
        }
        match self.entries.iter_mut().find(|(known, _)| known.eq_ignore_ascii_case(&name)) {
            Some(entry) => *entry = (name, value),
            None => self.entries.push((name, value)),
        }
        Ok(())
    }

    /// All names and values, in order
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&str, &Bytes)> {
        self.entries.iter().map(|(name, value)| (name.as_str(), value))
    }

    /// How many properties
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there are none
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }
}

impl fmt::Debug for Properties {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}

/// Why properties can't be read or set
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MetadataError {
    /// A property ends beyond the metadata; the peer's encoder is broken
    #[error("the property at octet {offset} ends beyond the metadata")]
    Truncated {
        /// Where the property begins
        offset: usize,
    },
    /// A property's name breaks the grammar: 1 to 255 of `A-Z a-z 0-9 - _ . +`
    #[error("the name of the property at octet {offset} is not 1 to 255 of A-Z a-z 0-9 - _ . +")]
    Name {
        /// Where the property begins
        offset: usize,
    },
    /// More metadata than a handshake command may have
    #[error("metadata of {octets} octets exceeds {HANDSHAKE_COMMAND_CEILING}")]
    TooLong {
        /// Octets of all properties
        octets: usize,
    },
    /// A value of more than 2^31-1 octets
    #[error("a property value of {octets} octets exceeds 2147483647")]
    Value {
        /// Octets of the value
        octets: usize,
    },
}

/// RFC 23, "Metadata": `name-char`
fn is_name_octet(octet: u8) -> bool {
    octet.is_ascii_alphanumeric() || b"-_.+".contains(&octet)
}

const NAME_LIMIT: usize = 255;
const VALUE_LIMIT: usize = i32::MAX as usize;

#[cfg(test)]
mod tests {
    use super::*;

    fn encoded(properties: &Properties) -> BytesMut {
        let mut octets = BytesMut::new();
        properties.encode(&mut octets);
        octets
    }

    #[test]
    fn lead_back_in_order() {
        let mut properties = Properties::new();
        properties.insert("Socket-Type", "DEALER").unwrap();
        properties.insert("Identity", Bytes::new()).unwrap();
        properties.insert("X-Site", "north").unwrap();
        let octets = encoded(&properties);
        assert_eq!(octets.len(), properties.encoded_len());
        assert_eq!(Properties::decode(&octets), Ok(properties.clone()));
        let names: Vec<_> = properties.iter().map(|(name, _)| name).collect();
        assert_eq!(names, ["Socket-Type", "Identity", "X-Site"]);
        assert_eq!(properties.value("socket-TYPE"), Some(&Bytes::from("DEALER")));
    }

    #[test]
    fn inserting_replaces_whatever_the_case() {
        let mut properties = Properties::new();
        properties.insert("X-Site", "north").unwrap();
        properties.insert("x-site", "south").unwrap();
        assert_eq!(properties.len(), 1);
        assert_eq!(encoded(&properties)[..], *b"\x06x-site\0\0\0\x05south");
    }

    #[test]
    fn every_cut_is_refused_but_between_properties() {
        let octets = b"\x01a\0\0\0\x02xy\0\0\0\0\0";
        assert_eq!(Properties::decode(octets).unwrap().value(""), Some(&Bytes::new()), "a name of no length");
        for cut in (1..octets.len()).filter(|&cut| cut != 8) {
            let offset = if cut < 8 { 0 } else { 8 };
            assert_eq!(Properties::decode(&octets[..cut]), Err(MetadataError::Truncated { offset }), "cut at {cut}");
        }
    }

    #[test]
    fn too_much_is_refused_before_it_is_read() {
        let octets = vec![0; HANDSHAKE_COMMAND_CEILING as usize + 5];
        assert_eq!(Properties::decode(&octets), Err(MetadataError::TooLong { octets: octets.len() }));
    }

    #[test]
    fn bad_names_are_refused() {
        let mut properties = Properties::new();
        for name in ["", "X Key", "X:Key", &"x".repeat(256)] {
            assert_eq!(properties.insert(name, "").unwrap_err(), MetadataError::Name { offset: 0 }, "{name}");
        }
        assert_eq!(Properties::decode(b"\x01\xff\0\0\0\0"), Err(MetadataError::Name { offset: 0 }));
    }
}

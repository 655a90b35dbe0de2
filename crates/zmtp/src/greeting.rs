//! Greetings: how two peers find out which version they speak.
//!
//! Grammar: RFC 23, "The Greeting"; for older peers RFC 15, "Backwards Interoperability". Both sides send in
//! stages, each when it has seen enough of the other's: a peer of 1.0 or 2.0 would take the rest for frames.

use bytes::{Buf, BytesMut};

use crate::frame::Framing;

/// A version of the protocol that we can speak
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Version {
    /// ZMTP 1.0 (RFC 13)
    V1_0,
    /// ZMTP 2.0 (RFC 15)
    V2_0,
    /// ZMTP 3.0 (RFC 23): security mechanisms and metadata
    V3_0,
    /// ZMTP 3.1 (RFC 37): subscription commands and heartbeats
    V3_1,
}

impl Version {
    /// How this version lays out its frames
    pub const fn framing(self) -> Framing {
        match self {
            Self::V1_0 => Framing::V1,
            Self::V2_0 | Self::V3_0 | Self::V3_1 => Framing::V2,
        }
    }

    /// Major and minor number
    pub const fn numbers(self) -> (u8, u8) {
        match self {
            Self::V1_0 => (1, 0),
            Self::V2_0 => (2, 0),
            Self::V3_0 => (3, 0),
            Self::V3_1 => (3, 1),
        }
    }
}

/// The 64 octets that open a 3.x connection, the signature's padding left out
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Greeting {
    /// Major version, in a greeting of ours 3
    pub major: u8,
    /// Minor version, in a greeting of ours 1
    pub minor: u8,
    /// Name of the security mechanism, padded with zeros
    pub mechanism: [u8; 20],
    /// Whether this is the server of its mechanism; libzmq never says so, so nothing may depend on it
    pub as_server: bool,
}

impl Greeting {
    /// Octets of the whole greeting
    pub const LEN: usize = 64;

    /// The greeting on the wire
    ///
    /// `routing_id_len` fills the padding, so that a 1.0 peer takes the signature for the header of our routing
    /// id (RFC 15, "Backwards Interoperability").
    pub fn encode(&self, routing_id_len: usize) -> [u8; Self::LEN] {
        let mut octets = [0; Self::LEN];
        let length = (routing_id_len as u64).saturating_add(1);
        octets[..SIGNATURE_LEN].copy_from_slice(&signature(length));
        octets[10] = self.major;
        octets[11] = self.minor;
        octets[12..32].copy_from_slice(&self.mechanism);
        octets[32] = self.as_server.into();
        octets
    }

    /// The mechanism's name without its padding
    pub fn mechanism_name(&self) -> &[u8] {
        let end = self.mechanism.iter().position(|&octet| octet == 0).unwrap_or(self.mechanism.len());
        self.mechanism.get(..end).unwrap_or_default()
    }

    fn decode(octets: &[u8; Self::LEN]) -> Self {
        let mut mechanism = [0; 20];
        mechanism.copy_from_slice(&octets[12..32]);
        Self { major: octets[10], minor: octets[11], mechanism, as_server: octets[32] & 1 == 1 }
    }

    /// The version to speak with the sender of this greeting: never above our own (RFC 23, "Version Negotiation")
    fn version(&self) -> Version {
        // A major of 2 is what RFC 37 gives ZMTP 2.0, but libzmq and so everybody takes it for 3.x.
        if self.major == 3 && self.minor == 0 { Version::V3_0 } else { Version::V3_1 }
    }
}

/// What the octets read so far call for
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Heard {
    /// A signature: the peer knows versions, and is to be told our major version
    Signature,
    /// The peer's version as far as it decides what follows: the rest of our greeting in that version is due
    Revision(Version),
    /// All that the peer says before frames begin
    Opening(Opening),
}

/// How a peer opened the connection
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Opening {
    /// 1.0, told by the lack of a signature; the octets are frames from the first one on
    Unversioned,
    /// 1.0 or 2.0 with a signature; a frame with the routing id follows
    Legacy {
        /// The version to speak
        version: Version,
        /// The peer's [`SocketType`](crate::SocketType) as a number; libzmq doesn't check it
        socket_type: u8,
    },
    /// 3.0 or later; a handshake command follows
    Modern {
        /// The version to speak
        version: Version,
        /// What was said
        greeting: Greeting,
    },
}

/// Reads a greeting of any version, stage by stage
///
/// The greeting is taken from the input when complete; until then at most 63 octets wait there.
#[derive(Debug, Default)]
pub struct GreetingReader {
    stage: Stage,
}

#[derive(Debug, Default)]
enum Stage {
    #[default]
    AwaitSignature,
    AwaitRevision,
    AwaitRest(Revision),
    Done,
}

#[derive(Clone, Copy, Debug)]
enum Revision {
    Legacy(Version),
    Modern,
}

impl GreetingReader {
    /// A reader at the start of the stream
    pub fn new() -> Self {
        Self::default()
    }

    /// Reads on; call until it says `None`, which asks for more input
    ///
    /// Comes to an end with [`Heard::Opening`], then says `None` for ever.
    pub fn read(&mut self, octets: &mut BytesMut) -> Option<Heard> {
        match self.stage {
            Stage::AwaitSignature => {
                if *octets.first()? != SIGNATURE_FIRST || *octets.get(SIGNATURE_LEN - 1)? & 1 == 0 {
                    self.stage = Stage::Done;
                    return Some(Heard::Opening(Opening::Unversioned));
                }
                self.stage = Stage::AwaitRevision;
                Some(Heard::Signature)
            }
            Stage::AwaitRevision => {
                // The numbers are RFC 15's revisions: 0 for 1.0, 1 for 2.0, and from 3 on the major version.
                let (revision, version) = match *octets.get(SIGNATURE_LEN)? {
                    0 => (Revision::Legacy(Version::V1_0), Version::V1_0),
                    1 => (Revision::Legacy(Version::V2_0), Version::V2_0),
                    _ => (Revision::Modern, Version::V3_1),
                };
                self.stage = Stage::AwaitRest(revision);
                Some(Heard::Revision(version))
            }
            Stage::AwaitRest(Revision::Legacy(version)) => {
                let socket_type = *octets.get(LEGACY_LEN - 1)?;
                octets.advance(LEGACY_LEN);
                self.stage = Stage::Done;
                Some(Heard::Opening(Opening::Legacy { version, socket_type }))
            }
            Stage::AwaitRest(Revision::Modern) => {
                let greeting = Greeting::decode(octets.first_chunk()?);
                octets.advance(Greeting::LEN);
                self.stage = Stage::Done;
                Some(Heard::Opening(Opening::Modern { version: greeting.version(), greeting }))
            }
            Stage::Done => None,
        }
    }
}

/// The ten octets that a 1.0 peer takes for a frame header of `length`, and later ones for a signature
pub(crate) fn signature(length: u64) -> [u8; SIGNATURE_LEN] {
    let [a, b, c, d, e, f, g, h] = length.to_be_bytes();
    [SIGNATURE_FIRST, a, b, c, d, e, f, g, h, SIGNATURE_LAST]
}

pub(crate) const SIGNATURE_LEN: usize = 10;
const SIGNATURE_FIRST: u8 = 0xff;
const SIGNATURE_LAST: u8 = 0x7f;

/// Signature, revision and socket type
const LEGACY_LEN: usize = 12;

#[cfg(test)]
mod tests {
    use super::*;

    fn padded(name: &[u8]) -> [u8; 20] {
        let mut mechanism = [0; 20];
        mechanism[..name.len()].copy_from_slice(name);
        mechanism
    }

    /// Feeds octet by octet; what was heard, with how many octets had been fed
    fn heard(octets: &[u8]) -> Vec<(usize, Heard)> {
        let (mut reader, mut input, mut all) = (GreetingReader::new(), BytesMut::new(), Vec::new());
        for (index, &octet) in octets.iter().enumerate() {
            input.extend_from_slice(&[octet]);
            while let Some(heard) = reader.read(&mut input) {
                all.push((index + 1, heard));
            }
        }
        all
    }

    #[test]
    fn golden_null_greeting() {
        let greeting = Greeting { major: 3, minor: 1, mechanism: padded(b"NULL"), as_server: false };
        let mut golden = b"\xff\0\0\0\0\0\0\0\x01\x7f\x03\x01NULL".to_vec();
        golden.resize(64, 0);
        assert_eq!(greeting.encode(0)[..], golden);
        assert_eq!(greeting.encode(3)[..10], *b"\xff\0\0\0\0\0\0\0\x04\x7f");
        assert_eq!(greeting.mechanism_name(), b"NULL");
    }

    #[test]
    fn each_stage_is_heard_as_soon_as_it_is_there() {
        let greeting = Greeting { major: 3, minor: 0, mechanism: padded(b"CURVE"), as_server: true };
        let opening = Opening::Modern { version: Version::V3_0, greeting };
        let expected =
            vec![(10, Heard::Signature), (11, Heard::Revision(Version::V3_1)), (64, Heard::Opening(opening))];
        assert_eq!(heard(&greeting.encode(0)), expected);
        let legacy = |version| Heard::Opening(Opening::Legacy { version, socket_type: 6 });
        for (revision, version) in [(0, Version::V1_0), (1, Version::V2_0)] {
            let octets = [0xff, 0, 0, 0, 0, 0, 0, 0, 1, 0x7f, revision, 6];
            let expected = vec![(10, Heard::Signature), (11, Heard::Revision(version)), (12, legacy(version))];
            assert_eq!(heard(&octets), expected);
        }
    }

    #[test]
    fn no_signature_means_1_0() {
        let unversioned = Heard::Opening(Opening::Unversioned);
        assert_eq!(heard(b"\x04\0BOB"), [(1, unversioned.clone())]);
        assert_eq!(heard(b"\xff\0\0\0\0\0\0\x01\x01\0and the rest"), [(10, unversioned)]);
    }

    #[test]
    fn higher_versions_are_spoken_to_in_ours() {
        for (major, minor, version) in [
            (2, 0, Version::V3_1),
            (3, 0, Version::V3_0),
            (3, 1, Version::V3_1),
            (3, 9, Version::V3_1),
            (4, 0, Version::V3_1),
        ] {
            let greeting = Greeting { major, minor, mechanism: padded(b"NULL"), as_server: false };
            let opening = Heard::Opening(Opening::Modern { version, greeting });
            assert_eq!(heard(&greeting.encode(0)).pop(), Some((64, opening)), "{major}.{minor}");
        }
    }
}

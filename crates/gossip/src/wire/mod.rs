//! What goes over the links: ZGP 1 with nodes that are not ours, and our own wire among ourselves.
//!
//! Each message is one frame. The first two octets tell the wires apart: `AA A0` is ZGP, `AA A7` is ours; a capital letter of
//! ASCII begins a text command. A wire has one reader and one writer, here; nobody else touches these octets.

use crate::event::Refusal;

mod octets;
pub mod tidings;
pub mod zgossip;

/// What is wrong with a frame
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
#[non_exhaustive]
pub enum Malformed {
    /// It ends before what it says it holds
    #[error("the frame ends early")]
    Short,
    /// It begins otherwise than messages of this wire do
    #[error("the signature is of another protocol")]
    Signature,
    /// Its version is not spoken here
    #[error("version {0} is not known")]
    Version(u8),
    /// There is no message of that number
    #[error("message {0} is not known")]
    Unknown(u8),
    /// A number has more than 64 bits, or can't be at its place
    #[error("a number is out of its range")]
    Number,
    /// A list has more entries than there may be
    #[error("a list is longer than it may be")]
    TooMany,
    /// Text is not UTF-8
    #[error("text is not UTF-8")]
    Text,
    /// A key has more than 255 octets
    #[error("a key has more than 255 octets")]
    Key,
    /// Something follows where the message ends
    #[error("octets follow where the message ends")]
    Trailing,
}

impl Malformed {
    /// As what it is counted
    #[must_use]
    pub const fn refusal(self) -> Refusal {
        match self {
            Self::Signature => Refusal::Signature,
            Self::Version(_) => Refusal::Version,
            Self::Unknown(_) => Refusal::UnknownMessage,
            Self::Key => Refusal::Oversized,
            _ => Refusal::Malformed,
        }
    }
}

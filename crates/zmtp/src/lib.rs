//! The ZeroMQ message transport protocol as pure state: octets and instants in, octets and events out.
//!
//! Nothing here does I/O, reads a clock or spawns anything. A driver owns the byte stream and feeds a
//! [`Connection`]; the connection answers with octets to write, whole messages, events and the next deadline:
//!
//! ```
//! use bytes::BytesMut;
//! use std::time::Instant;
//! use tidings_zmtp::{Config, Connection, Event, SocketType};
//!
//! let now = Instant::now();
//! let mut push = Connection::new(Config::new(SocketType::Push), now);
//! let mut pull = Connection::new(Config::new(SocketType::Pull), now);
//! let (mut to_push, mut to_pull) = (BytesMut::new(), BytesMut::new());
//! while !(push.is_handshaken() && pull.is_handshaken()) {
//!     while let Some(octets) = push.poll_transmit() {
//!         to_pull.extend_from_slice(&octets);
//!     }
//!     while let Some(octets) = pull.poll_transmit() {
//!         to_push.extend_from_slice(&octets);
//!     }
//!     push.handle_input(now, &mut to_push, 1);
//!     pull.handle_input(now, &mut to_pull, 1);
//! }
//! assert!(matches!(pull.poll_event(), Some(Event::Handshaken(peer)) if peer.version == (3, 1)));
//! ```
//!
//! Spoken: ZMTP 3.1 (RFC 37), and with peers that know no better 3.0 (RFC 23), 2.0 (RFC 15) and 1.0 (RFC 13). Security is
//! NULL, PLAIN (RFC 24) or CURVE (RFC 26).

mod auth;
pub use auth::{AuthVerdict, Credentials, DenyCode};
#[doc(hidden)]
pub mod cipher;
mod close_reason;
pub use close_reason::{CloseReason, Family, SealedCommand};
mod command;
pub use command::{CONTEXT_LIMIT, Command, CommandError};
mod config;
pub use config::{Config, Heartbeat, ROUTING_ID_LIMIT};
mod connection;
pub use connection::{Connection, Event, PeerInfo};
mod entropy;
pub use entropy::{Entropy, EntropyError};
mod frame;
pub use frame::{FrameError, FrameHeader, Framing};
mod greeting;
pub use greeting::{Greeting, GreetingReader, Heard, Opening, Version};
mod keys;
pub use keys::{CurvePublicKey, CurveSecretKey, KEY_LEN, KeyError};
mod liveness;
mod mechanism;
pub use mechanism::{
    CredentialTooLong, CurveClient, CurveServer, HANDSHAKE_COMMAND_CEILING, MechanismConfig, PlainClient,
};
mod message;
pub use message::{Frames, Message};
mod properties;
pub use properties::{MetadataError, Properties};
mod rope;
pub use rope::COPY_LIMIT;
mod socket_type;
pub use socket_type::{SocketType, UnknownSocketType};
mod write_queue;
pub use write_queue::WriteQueue;
pub mod z85;

//! TLS 1.2 and 1.3 beneath a stream, over tcp and over local sockets.
//!
//! - `settings`: certificate, key, authorities and pins, read from files and again when those change
//! - `files`: reading them: permissions, PEM, sizes
//! - `verifier`: whether a peer's certificate will do: by authority and name, by pinned key, or by both
//! - `certificate`: what a certificate says, for people and for whoever authenticates
//! - `stream`: the handshake, and octets after it
//! - `error`: why a handshake or a connection ended, named
//!
//! The cryptography is aws-lc's, given to each configuration in so many words: no process-wide default is set or used.

mod certificate;
pub use certificate::PeerCertificate;

mod error;
pub use error::TlsError;

mod settings;
pub use settings::{TlsSettings, TlsSettingsBuilder, TlsSettingsError, TlsStatus, TlsVersion};

mod stream;
pub(crate) use stream::Wire;
pub use stream::{TlsPeer, TlsStream};

mod files;
mod verifier;

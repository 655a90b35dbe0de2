//! Who may do what with a node: asked about the connection that a command came by.

use std::sync::Arc;

use tidings_socket::Origin;

/// What a peer wants to do
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Access {
    /// Be a node of ours, with all rights: what it sends is mostly others'. Asked once for a connection, with an empty key
    Join,
    /// Carry what others wrote. A node that joined without it may write as itself alone: whatever it says of others is not believed.
    /// Asked once for a connection, with an empty key
    Relay,
    /// Give a key a value or take it away: by the text commands PUBLISH and UNPUBLISH, or by PUBLISH of ZGP
    Write,
    /// Read one key: GET
    Read,
    /// Read all keys that begin so: LIST, WATCH; a ZGP client's HELLO, with an empty prefix. Who may not, but may read the key of
    /// that very name, is shown this one alone
    List,
    /// See the node itself: STATUS, PEERS, MEMBERS, GRAPH; the key is empty
    Inspect,
}

impl Access {
    /// Its name in logs
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Join => "join",
            Self::Relay => "relay",
            Self::Write => "write",
            Self::Read => "read",
            Self::List => "list",
            Self::Inspect => "inspect",
        }
    }
}

/// Whether the peer at the other end of a connection may do that with a key or prefix
pub type PermitPeer = dyn Fn(&Origin, Access, &[u8]) -> bool + Send + Sync;

/// The permit of a node; without one everybody may do everything
#[derive(Clone, Default)]
pub(super) struct Permit(Option<Arc<PermitPeer>>);

impl Permit {
    pub(super) fn new(permit: impl Fn(&Origin, Access, &[u8]) -> bool + Send + Sync + 'static) -> Self {
        Self(Some(Arc::new(permit)))
    }

    pub(super) fn allows(&self, origin: &Origin, access: Access, key: &[u8]) -> bool {
        self.0.as_ref().is_none_or(|permit| permit(origin, access, key))
    }

    /// Whether it has to be asked at all
    pub(super) fn is_open(&self) -> bool {
        self.0.is_none()
    }
}

//! The way back to a client: what stood in front of its request.

use bytes::Bytes;

/// What stands in front of a reply to a client, behind the routing id of its connection
///
/// A REQ client, or a DEALER that acts like one, has an empty frame there; one that comes through proxies has the routing
/// ids that those put in front, up to [`PATH_LIMIT`] (RFC 28, "The Request-Reply Envelope").
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct ReturnPath {
    pub(super) ids: Box<[Bytes]>,
    pub(super) is_delimited: bool,
}

impl ReturnPath {
    /// Nothing stands in front
    #[must_use]
    pub fn direct() -> Self {
        Self::default()
    }

    /// An empty frame stands in front, and these routing ids before it
    #[must_use]
    pub fn delimited(ids: impl IntoIterator<Item = Bytes>) -> Self {
        Self { ids: ids.into_iter().collect(), is_delimited: true }
    }

    /// Routing ids of proxies on the way, the outermost first
    #[must_use]
    pub fn ids(&self) -> &[Bytes] {
        &self.ids
    }

    /// Whether an empty frame stands in front of the header
    #[must_use]
    pub fn is_delimited(&self) -> bool {
        self.is_delimited
    }

    /// Octets it keeps in memory
    #[must_use]
    pub fn octets(&self) -> usize {
        self.ids.iter().map(|id| id.len() + size_of::<Bytes>()).sum()
    }
}

/// Routing ids that a request may have in front of it
pub const PATH_LIMIT: usize = 8;

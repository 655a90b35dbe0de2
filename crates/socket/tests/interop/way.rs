//! The ways in which a socket of ours and one of libzmq's find each other.

use std::fmt;
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::Result;
use tidings_socket::{Endpoint, Socket};

use crate::peer::Peer;
use crate::waiting::{PATIENCE, within};

/// A transport and the side that binds
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Way {
    pub(crate) transport: Transport,
    pub(crate) binds: Side,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Transport {
    Tcp,
    Ipc,
    /// tcp, with a mechanism
    Plain,
    Curve,
    /// Over tcp: libzmq has no TLS, so Python's stands in front of it
    Tls,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    Ours,
    Theirs,
}

impl Way {
    pub(crate) const ALL: [Self; 4] = [
        Self { transport: Transport::Tcp, binds: Side::Ours },
        Self { transport: Transport::Tcp, binds: Side::Theirs },
        Self { transport: Transport::Ipc, binds: Side::Ours },
        Self { transport: Transport::Ipc, binds: Side::Theirs },
    ];

    /// The matrix has these besides; who binds is the server
    pub(crate) const SECURED: [Self; 6] = [
        Self { transport: Transport::Plain, binds: Side::Ours },
        Self { transport: Transport::Plain, binds: Side::Theirs },
        Self { transport: Transport::Curve, binds: Side::Ours },
        Self { transport: Transport::Curve, binds: Side::Theirs },
        Self { transport: Transport::Tls, binds: Side::Ours },
        Self { transport: Transport::Tls, binds: Side::Theirs },
    ];

    /// Binds one socket, connects the other, and waits for the handshake of the one that connects
    pub(crate) async fn join(self, ours: &Socket, peer: &mut Peer, id: &str) -> Result<Endpoint> {
        let endpoint = self.transport.fresh_endpoint(peer);
        match self.binds {
            Side::Ours => {
                let endpoint = within(PATIENCE, "our bind", ours.bind(endpoint)?).await??;
                let reached = match self.transport {
                    Transport::Tls => peer.relay("dial", endpoint.to_string().trim_start_matches("tls://")).await?,
                    _ => endpoint.to_string(),
                };
                peer.connect(id, &reached).await?;
                peer.monitor(id, "HANDSHAKE_SUCCEEDED").await?;
                Ok(endpoint)
            }
            Side::Theirs => {
                let bound = peer.bind(id, &endpoint.replace("tls://", "tcp://")).await?;
                let endpoint: Endpoint = match self.transport {
                    Transport::Tls => peer.relay("accept", bound.trim_start_matches("tcp://")).await?.parse()?,
                    _ => bound.parse()?,
                };
                within(PATIENCE, "our connect", ours.connect(&endpoint)?).await??;
                Ok(endpoint)
            }
        }
    }
}

impl fmt::Display for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let transport = match self.transport {
            Transport::Tcp => "tcp",
            Transport::Ipc => "ipc",
            Transport::Plain => "PLAIN",
            Transport::Curve => "CURVE",
            Transport::Tls => "TLS",
        };
        let side = match self.binds {
            Side::Ours => "ours",
            Side::Theirs => "theirs",
        };
        f.pad(&format!("{transport}, {side} binds"))
    }
}

impl Transport {
    pub(crate) const ALL: [Self; 2] = [Self::Tcp, Self::Ipc];

    /// An endpoint that nobody else uses; ipc paths go away with the peer
    pub(crate) fn fresh_endpoint(self, peer: &Peer) -> String {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        match self {
            Self::Tcp | Self::Plain | Self::Curve => "tcp://127.0.0.1:*".to_owned(),
            Self::Tls => "tls://127.0.0.1:*".to_owned(),
            Self::Ipc => {
                let path = peer.directory().join(NEXT.fetch_add(1, Ordering::Relaxed).to_string());
                format!("ipc://{}", path.display())
            }
        }
    }
}

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

    /// Binds one socket, connects the other, and waits for the handshake of the one that connects
    pub(crate) async fn join(self, ours: &Socket, peer: &mut Peer, id: &str) -> Result<Endpoint> {
        let endpoint = self.transport.fresh_endpoint(peer);
        match self.binds {
            Side::Ours => {
                let endpoint = within(PATIENCE, "our bind", ours.bind(endpoint)?).await??;
                peer.connect(id, &endpoint.to_string()).await?;
                peer.monitor(id, "HANDSHAKE_SUCCEEDED").await?;
                Ok(endpoint)
            }
            Side::Theirs => {
                let endpoint: Endpoint = peer.bind(id, &endpoint).await?.parse()?;
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
            Self::Tcp => "tcp://127.0.0.1:*".to_owned(),
            Self::Ipc => {
                let path = peer.directory().join(NEXT.fetch_add(1, Ordering::Relaxed).to_string());
                format!("ipc://{}", path.display())
            }
        }
    }
}

//! Endpoints, and byte streams and datagrams to and from them.
//!
//! An [`Endpoint`] is parsed and printed here and nowhere else. [`dial`] makes one connection to it, [`listen`]
//! accepts them; both hand over a [`Stream`] of octets and know nothing of what flows through it. An `inproc`
//! endpoint never becomes octets: it is parsed here, and connected by the sockets themselves.

mod endpoint;
pub use endpoint::{Endpoint, Host, HostPort, InprocName, IpcEndpoint, Port, TcpEndpoint, UdpEndpoint};

mod endpoint_error;
pub use endpoint_error::EndpointError;

mod options;
pub use options::StreamOptions;

mod stream;
pub use stream::{PeerAddress, Stream};

mod tls;
pub use tls::{
    PeerCertificate, TlsError, TlsPeer, TlsSettings, TlsSettingsBuilder, TlsSettingsError, TlsStatus, TlsStream,
    TlsVersion,
};

mod dial;
pub use dial::{DialError, dial};

mod listen;
pub use listen::{AcceptError, ListenError, Listener, listen};

mod datagram;
pub use datagram::Datagrams;

mod datagram_options;
pub use datagram_options::DatagramOptions;

mod datagram_error;
pub use datagram_error::DatagramError;

mod attempt;
mod interface;
#[cfg(unix)]
mod ipc;
mod multicast;
mod resolve;
mod socket;
mod system_error;

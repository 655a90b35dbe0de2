//! What a node's sockets are set to, and how an endpoint is secured.

use std::time::Duration;

use tidings_socket::{CurvePublicKey, CurveSecretKey, Endpoint, Options};

/// The property of READY by which nodes of ours know each other
pub const PROPERTY: &str = "X-Gossip";
/// What it says
pub const PROPERTY_VALUE: &str = "tidings/1";

/// How one endpoint is connected to
#[derive(Clone, Debug, Default)]
#[must_use]
pub struct ConnectOptions {
    pub(super) server_key: Option<CurvePublicKey>,
    pub(super) options: Option<Options>,
}

impl ConnectOptions {
    /// The CURVE public key of the node there; the connection is sealed, and needs a key of our own
    /// ([`curve`](super::GossipBuilder::curve))
    pub fn server_key(mut self, key: CurvePublicKey) -> Self {
        self.server_key = Some(key);
        self
    }

    /// Socket options of this endpoint alone, in place of the node's: TLS files, PLAIN names, times
    pub fn options(mut self, options: Options) -> Self {
        self.options = Some(options);
        self
    }
}

/// How a node shows itself and what it asks of others, where an endpoint has nothing of its own
#[derive(Clone, Debug, Default)]
pub(super) struct Terms {
    pub(super) options: Options,
    pub(super) curve: Option<CurveSecretKey>,
    pub(super) zap_domain: Option<String>,
    /// Of a frame; from the quotas
    pub(super) max_message_size: u64,
}

impl Terms {
    /// The ROUTER's: what holds for all of its endpoints
    pub(super) fn of_router(&self) -> Options {
        self.common(self.options.clone()).router_mandatory(true).router_notify(NOTIFY_BOTH)
    }

    /// One endpoint's of the ROUTER
    pub(super) fn of_bind(&self, own: Option<Options>) -> Options {
        let is_own = own.is_some();
        let options = self.common(own.unwrap_or_else(|| self.options.clone()));
        let options = match &self.zap_domain {
            Some(domain) if !is_own => options.zap_domain(domain.clone()),
            _ => options,
        };
        match &self.curve {
            Some(secret) if !is_own => options.curve_server(true).curve_secret_key(Some(secret.clone())),
            _ => options,
        }
    }

    /// A DEALER's, of which each has one connection and then ends: when the next one is made is not the socket's affair
    pub(super) fn of_connect(&self, how: &ConnectOptions) -> Options {
        let options = self.common(how.options.clone().unwrap_or_else(|| self.options.clone()));
        let options = match (how.server_key, &self.curve) {
            (Some(key), Some(secret)) => {
                options.curve_server(false).curve_server_key(Some(key)).curve_secret_key(Some(secret.clone()))
            }
            // Without a key of our own the socket says what is missing
            (Some(key), None) => options.curve_server_key(Some(key)),
            (None, _) => options,
        };
        options.reconnect_interval(None).linger(Some(FAREWELL))
    }

    /// Whether the node may connect there because of what other nodes say of it
    ///
    /// One that has a key tells nothing in the clear beyond this host: nobody's word decides over that.
    pub(super) fn may_dial(&self, endpoint: &Endpoint, server_key: Option<CurvePublicKey>) -> bool {
        let is_sealed = server_key.is_some() || endpoint.is_encrypted();
        self.curve.is_none() || is_sealed || endpoint.is_loopback_or_local()
    }

    fn common(&self, options: Options) -> Options {
        let metadata = options.value("metadata").map(|value| value.to_string()).unwrap_or_default();
        let own = format!("{PROPERTY}:{PROPERTY_VALUE}");
        let metadata = match metadata.is_empty() {
            true => own,
            false if metadata.lines().any(|line| line == own) => metadata,
            false => format!("{metadata}\n{own}"),
        };
        let beats = options.value("heartbeat_interval").is_ok_and(|value| value.to_string() != "0");
        let options = match beats {
            true => options,
            // Where the other machine is gone without a word only this tells, if a peer speaks ZGP
            false => options.heartbeat_interval(Some(HEARTBEAT)).heartbeat_timeout(Some(HEARTBEAT_TIMEOUT)),
        };
        options
            .metadata(metadata)
            .send_hwm(SEND_HWM)
            .send_hwm_octets(SEND_HWM_OCTETS)
            .recv_hwm_octets(RECV_HWM_OCTETS)
            .max_message_size(Some(self.max_message_size))
            .max_message_frames(MOST_FRAMES)
            .send_timeout(None)
            .recv_timeout(None)
    }
}

/// `router_notify`: tell when a peer connects and when it disconnects
const NOTIFY_BOTH: u8 = 3;
/// What waits beyond that waits in the node, where a newer value takes the place of an older one
const SEND_HWM: u32 = 256;
const SEND_HWM_OCTETS: u64 = 4 << 20;
const RECV_HWM_OCTETS: u64 = 16 << 20;
/// Text commands have a few, all else has one
const MOST_FRAMES: u32 = 16;
const HEARTBEAT: Duration = Duration::from_secs(10);
const HEARTBEAT_TIMEOUT: Duration = Duration::from_secs(30);
/// How long what was queued last may take to be written
pub(super) const FAREWELL: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use tidings_socket::SystemEntropy;

    use super::*;

    #[test]
    fn a_node_with_a_key_is_not_talked_into_telling_all_in_the_clear() {
        let secret = CurveSecretKey::generate(&SystemEntropy).unwrap();
        let (open, keyed) = (Terms::default(), Terms { curve: Some(secret.clone()), ..Terms::default() });
        for (endpoint, without_key) in [
            ("tcp://192.0.2.1:4833", false),
            ("tls://192.0.2.1:4833", true),
            ("tcp://127.0.0.1:4833", true),
            ("ipc:///run/gossip", true),
        ] {
            let endpoint = endpoint.parse().unwrap();
            assert_eq!(keyed.may_dial(&endpoint, None), without_key, "{endpoint}");
            assert!(keyed.may_dial(&endpoint, Some(secret.public())) && open.may_dial(&endpoint, None));
        }
    }
}

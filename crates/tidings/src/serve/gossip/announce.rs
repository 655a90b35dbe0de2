//! What this node tells others of where its services are: the addresses that they can use.

use std::collections::{BTreeMap, BTreeSet};
use std::net::UdpSocket;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tidings::Endpoint;
use tidings_gossip::Lifetime;
use tidings_gossip::driver::{Change, Gossip};
use tokio::task::JoinHandle;

use crate::discovery::{ANNOUNCED, key_of};

/// The announcements of a node
#[derive(Debug)]
pub(super) struct Announcements {
    published: Published,
    guard: JoinHandle<()>,
}

/// By key, the value that was published
type Published = Arc<Mutex<BTreeMap<String, String>>>;

/// What is to be announced: a name, and where it is
pub(in crate::serve) type Served = (&'static str, Vec<Endpoint>);

impl Announcements {
    /// None yet; whatever is published stays so, also if somebody else removes it
    pub(super) fn new(gossip: &Gossip) -> Self {
        let published = Published::default();
        let guard = tokio::spawn(guard(gossip.clone(), Arc::clone(&published)));
        Self { published, guard }
    }

    /// Publishes what is served, and takes back what is so no longer
    pub(super) async fn publish(&mut self, gossip: &Gossip, node: &str, served: &[Served], way: &Way) {
        let mut wanted = BTreeMap::new();
        for (name, endpoints) in served {
            let addresses: Vec<String> = endpoints.iter().filter_map(|endpoint| way.to(endpoint)).collect();
            match addresses.is_empty() {
                false => drop(wanted.insert(key_of(name, node), addresses.join(" "))),
                true if endpoints.is_empty() => {}
                true => tracing::warn!(
                    name,
                    "listens on this host only, and other hosts are in the network: it is not announced to them"
                ),
            }
        }
        let before = self.published();
        for key in before.keys().filter(|key| !wanted.contains_key(*key)) {
            lock(&self.published).remove(key);
            if let Err(error) = gossip.remove(key) {
                tracing::warn!(key, %error, "an announcement can't be taken back");
            }
        }
        for (key, value) in wanted {
            if before.get(&key) == Some(&value) {
                continue;
            }
            match gossip.put_with(key.clone(), value.clone(), Lifetime::Session).await {
                Ok(_) => {
                    tracing::info!(key, value, "announced");
                    lock(&self.published).insert(key, value);
                }
                Err(error) => tracing::error!(key, %error, "not announced"),
            }
        }
    }

    /// What is announced now
    pub(super) fn published(&self) -> BTreeMap<String, String> {
        lock(&self.published).clone()
    }
}

impl Drop for Announcements {
    fn drop(&mut self) {
        self.guard.abort();
    }
}

/// Puts announcements again that somebody else has removed, and says when somebody else has made the same
async fn guard(gossip: Gossip, published: Published) {
    let own = gossip.id();
    let mut watch = gossip.watch(ANNOUNCED);
    let mut said = BTreeSet::new();
    while let Some(change) = watch.next().await {
        match change {
            Change::Put { tuple, .. } if tuple.dot.owner != own => {
                let key = String::from_utf8_lossy(&tuple.key).into_owned();
                if lock(&published).contains_key(&key) && said.insert(key.clone()) {
                    let (node, value) = (tuple.dot.owner, tuple.value.escape_ascii());
                    tracing::warn!(key, %node, %value, "another node announces the same, and is found in place of this one: \
                        give one of them another gossip.name");
                }
            }
            Change::Removed { key, .. } => {
                let key = String::from_utf8_lossy(&key).into_owned();
                said.remove(&key);
                let Some(value) = lock(&published).get(&key).cloned() else { continue };
                match gossip.put_with(key.clone(), value, Lifetime::Session).await {
                    Ok(_) => tracing::info!(key, "announced again"),
                    Err(error) => tracing::error!(key, %error, "not announced again"),
                }
            }
            _ => {}
        }
    }
}

fn lock(published: &Published) -> MutexGuard<'_, BTreeMap<String, String>> {
    published.lock().unwrap_or_else(PoisonError::into_inner)
}

/// How others come to this host
#[derive(Debug)]
pub(super) struct Way {
    /// `gossip.advertise`
    advertised: Option<String>,
    /// Whether all of the network is on this host, as far as this node is concerned
    is_local: bool,
}

impl Way {
    /// From what the node itself listens on and connects to
    pub(super) fn new(advertised: &str, gossip: &[Endpoint], connects_locally: bool) -> Self {
        let is_local = connects_locally && gossip.iter().all(Endpoint::is_loopback_or_local);
        Self { advertised: Some(advertised.to_owned()).filter(|host| !host.is_empty()), is_local }
    }

    /// The address by which others reach a listener; `None` if they can't
    pub(super) fn to(&self, endpoint: &Endpoint) -> Option<String> {
        match endpoint {
            Endpoint::Tcp(tcp) | Endpoint::Tls(tcp) => {
                let scheme = endpoint.scheme();
                let port = tcp.port.to_string();
                let host = tcp.host.to_string();
                if endpoint.is_loopback_or_local() {
                    return self.is_local.then(|| format!("{scheme}://{host}:{port}"));
                }
                let reached = match (&self.advertised, host.as_str()) {
                    (Some(advertised), _) => advertised.clone(),
                    (None, "*" | "0.0.0.0" | "[::]") => outward()?,
                    (None, host) => host.to_owned(),
                };
                Some(format!("{scheme}://{reached}:{port}"))
            }
            Endpoint::Ipc(_) | Endpoint::IpcTls(_) => self.is_local.then(|| endpoint.to_string()),
            _ => None,
        }
    }
}

/// This host's address on the way to others: that of the interface which leads outside
fn outward() -> Option<String> {
    // Nothing is sent: connecting a datagram socket only chooses the way (RFC 5737 and RFC 3849 have these addresses for
    // documents)
    let towards = |from: &str, to: &str| {
        let socket = UdpSocket::bind(from).ok()?;
        socket.connect(to).ok()?;
        socket.local_addr().ok().map(|address| address.ip()).filter(|ip| !ip.is_unspecified())
    };
    match towards("0.0.0.0:0", "192.0.2.1:9").or_else(|| towards("[::]:0", "[2001:db8::1]:9")) {
        Some(std::net::IpAddr::V6(ip)) => Some(format!("[{ip}]")),
        Some(ip) => Some(ip.to_string()),
        None => {
            tracing::warn!(
                "no interface leads outside: gossip.advertise can name the address that others reach this host by"
            );
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn endpoints(texts: &[&str]) -> Vec<Endpoint> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    #[test]
    fn what_others_can_not_reach_is_not_announced_to_them() {
        let local = Way::new("", &endpoints(&["tcp://127.0.0.1:1", "ipc:///x"]), true);
        let open = Way::new("", &endpoints(&["tcp://127.0.0.1:1", "tcp://192.0.2.7:1"]), true);
        let outgoing = Way::new("", &endpoints(&["tcp://127.0.0.1:1"]), false);
        for (text, on_this_host, elsewhere) in [
            ("tcp://127.0.0.1:4830", Some("tcp://127.0.0.1:4830"), None),
            ("ipc:///run/x", Some("ipc:///run/x"), None),
            ("tcp://192.0.2.7:4830", Some("tcp://192.0.2.7:4830"), Some("tcp://192.0.2.7:4830")),
            ("tls://[2001:db8::7]:4830", Some("tls://[2001:db8::7]:4830"), Some("tls://[2001:db8::7]:4830")),
        ] {
            let endpoint: Endpoint = text.parse().unwrap();
            assert_eq!(local.to(&endpoint).as_deref(), on_this_host, "{text}");
            assert_eq!(open.to(&endpoint).as_deref(), elsewhere, "{text}");
            assert_eq!(outgoing.to(&endpoint).as_deref(), elsewhere, "{text}");
        }
    }

    #[test]
    fn what_is_advertised_stands_for_every_listener_that_others_reach() {
        let way = Way::new("hub.example.org", &endpoints(&["tcp://*:1"]), true);
        for (text, expected) in [
            ("tcp://*:4830", Some("tcp://hub.example.org:4830")),
            ("tls://192.0.2.7:4830", Some("tls://hub.example.org:4830")),
            ("tcp://127.0.0.1:4830", None),
        ] {
            assert_eq!(way.to(&text.parse().unwrap()).as_deref(), expected, "{text}");
        }
    }
}

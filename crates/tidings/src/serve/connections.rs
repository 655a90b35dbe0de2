//! What a part of the daemon connects to: addresses, and names that are followed; changed by reloads and by what is announced.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tidings::{Endpoint, Options};
use tidings_gossip::driver::Gossip;
use tokio::task::JoinHandle;

use super::keys::NodeKeys;
use crate::config::{Connection, Secured, Target};
use crate::discovery::{Name, Sighting, here};

/// Something that can be connected
pub(super) trait Connects: Send + Sync + 'static {
    /// The options of its connections
    fn options(&self) -> Options;
    /// Connects, now and whenever the connection is lost
    ///
    /// # Errors
    /// In words.
    fn connect(&self, endpoint: &Endpoint, options: Options) -> Result<(), String>;
    /// Gives a connection up
    fn disconnect(&self, endpoint: &Endpoint);
}

/// The connections of one key of the configuration
pub(super) struct Connections {
    part: Arc<Part>,
    /// Who knows names, if anybody does
    gossip: Option<Gossip>,
    held: Vec<(Connection, Held)>,
}

struct Part {
    /// The key of the configuration
    key: &'static str,
    socket: Box<dyn Connects>,
    keys: Option<NodeKeys>,
    /// Endpoints that are connected to, and how many addresses and names want them: several may lead to one place
    wanted: Mutex<BTreeMap<String, usize>>,
}

enum Held {
    Address(Endpoint),
    /// The task that keeps connections where a name leads; it gives them up when it is told to
    Named(Option<tokio::sync::oneshot::Sender<()>>, JoinHandle<()>),
}

impl Connections {
    /// None yet; the key that they stand under
    pub(super) fn new(
        key: &'static str,
        socket: impl Connects,
        keys: Option<&NodeKeys>,
        gossip: Option<&Gossip>,
    ) -> Self {
        let part = Part { key, socket: Box::new(socket), keys: keys.cloned(), wanted: Mutex::default() };
        Self { part: Arc::new(part), gossip: gossip.cloned(), held: Vec::new() }
    }

    /// Connects to what is new, and gives up what is wanted no longer
    pub(super) fn settle(&mut self, wanted: &[Connection]) {
        let (kept, given_up): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.held).into_iter().partition(|(held, _)| wanted.contains(held));
        self.held = kept;
        for (_, held) in given_up {
            held.give_up(&self.part);
        }
        for connection in wanted {
            if !self.held.iter().any(|(held, _)| held == connection) {
                let held = self.hold(connection.clone());
                self.held.extend(held.map(|held| (connection.clone(), held)));
            }
        }
    }

    fn hold(&self, connection: Connection) -> Option<Held> {
        match (&connection.target, &self.gossip) {
            (Target::Address(text), _) => {
                let endpoint: Endpoint = text.parse().ok()?;
                self.part.connect(&connection, &endpoint).then_some(Held::Address(endpoint))
            }
            (Target::Named(name), Some(gossip)) => {
                let (stop, stopped) = tokio::sync::oneshot::channel();
                let (gossip, name) = (gossip.clone(), name.clone());
                let part = Arc::clone(&self.part);
                let task = tokio::spawn(async move { keep(&part, &connection, &gossip, name, stopped).await });
                Some(Held::Named(Some(stop), task))
            }
            // Said at the start: without a node no name is ever found
            (Target::Named(_), None) => None,
        }
    }
}

impl Drop for Connections {
    fn drop(&mut self) {
        for (_, held) in &mut self.held {
            if let Held::Named(_, task) = held {
                task.abort();
            }
        }
    }
}

impl Held {
    fn give_up(self, part: &Part) {
        match self {
            Self::Address(endpoint) => part.give_up(&endpoint),
            // The task does the rest
            Self::Named(stop, _) => drop(stop.map(|stop| stop.send(()))),
        }
    }
}

impl Part {
    /// Connects as the settings say; whether that could begin
    fn connect(&self, connection: &Connection, endpoint: &Endpoint) -> bool {
        let key = self.key;
        let mut wanted = self.wanted.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = wanted.get_mut(&endpoint.to_string()) {
            *count += 1;
            return true;
        }
        let options = match (connection.secured(endpoint, self.keys.is_some()), &self.keys) {
            (Ok(Secured::Keys(server_key)), Some(keys)) => {
                keys.connect(endpoint, self.socket.options(), server_key).map_err(|failure| failure.message)
            }
            (Ok(_), _) => Ok(self.socket.options()),
            (Err((message, hint)), _) => Err(hint.map(|hint| format!("{message} ({hint})")).unwrap_or(message)),
        };
        match options.and_then(|options| self.socket.connect(endpoint, options)) {
            Ok(()) => wanted.insert(endpoint.to_string(), 1).is_none(),
            Err(error) => {
                tracing::error!(key, %endpoint, error, "not connected");
                false
            }
        }
    }

    /// Somebody wants that connection no longer; when nobody does it ends
    fn give_up(&self, endpoint: &Endpoint) {
        let mut wanted = self.wanted.lock().unwrap_or_else(PoisonError::into_inner);
        match wanted.get_mut(&endpoint.to_string()) {
            Some(count) if *count > 1 => *count -= 1,
            Some(_) => {
                wanted.remove(&endpoint.to_string());
                self.socket.disconnect(endpoint);
            }
            None => {}
        }
    }
}

/// Keeps connections to all places that a name leads to, until it is told to stop
async fn keep(
    part: &Part,
    connection: &Connection,
    gossip: &Gossip,
    name: Name,
    mut stopped: tokio::sync::oneshot::Receiver<()>,
) {
    let key = part.key;
    let followed = here(gossip, name);
    let mut connected: BTreeSet<String> = BTreeSet::new();
    // What was seen, and what of it is used
    let (mut seen, mut known) = (Sighting::default(), Sighting::default());
    let patience = tokio::time::sleep(PATIENCE);
    tokio::pin!(patience);
    let mut said = false;
    loop {
        tokio::select! {
            biased;
            _ = &mut stopped => break,
            sighting = followed.changed(&seen) => {
                known = sighting.clone();
                seen = sighting;
            }
            () = &mut patience, if !said => {
                said = true;
                if known.places.is_empty() {
                    tracing::warn!(key, name = %followed.name(), "nobody has announced it yet: it is waited for");
                }
                continue;
            }
        }
        for unusable in &known.unusable {
            tracing::warn!(key, name = %followed.name(), tuple = unusable, "has no address that can be connected to");
        }
        if known.places.len() > MOST_CONNECTED {
            let (name, places) = (followed.name(), known.places.len());
            tracing::warn!(key, %name, places, most = MOST_CONNECTED, "announced in too many places: only the first are connected to");
            known.places.truncate(MOST_CONNECTED);
        }
        let wanted: BTreeSet<String> = known.places.iter().map(|place| place.endpoint.to_string()).collect();
        for text in connected.difference(&wanted) {
            if let Ok(endpoint) = text.parse() {
                tracing::info!(key, name = %followed.name(), %endpoint, "is there no longer");
                part.give_up(&endpoint);
            }
        }
        let mut now = BTreeSet::new();
        for place in &known.places {
            let text = place.endpoint.to_string();
            if connected.contains(&text) {
                now.insert(text);
            } else if !now.contains(&text) && part.connect(connection, &place.endpoint) {
                tracing::info!(key, name = %followed.name(), endpoint = %place.endpoint, "found");
                now.insert(text);
            }
        }
        connected = now;
    }
    for text in connected {
        if let Ok(endpoint) = text.parse() {
            part.give_up(&endpoint);
        }
    }
}

/// Most places that one name leads to: whoever may announce must not make us connect to the whole world
const MOST_CONNECTED: usize = 256;

/// How long a name may be unknown before that is said
const PATIENCE: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Trust;

    /// What a socket was told to do
    #[derive(Clone, Default)]
    struct Told(Arc<Mutex<Vec<String>>>);

    impl Connects for Told {
        fn options(&self) -> Options {
            Options::default()
        }

        fn connect(&self, endpoint: &Endpoint, _options: Options) -> Result<(), String> {
            self.0.lock().unwrap().push(format!("connect {endpoint}"));
            Ok(())
        }

        fn disconnect(&self, endpoint: &Endpoint) {
            self.0.lock().unwrap().push(format!("disconnect {endpoint}"));
        }
    }

    #[test]
    fn a_connection_stays_while_an_address_or_a_name_wants_it() {
        let told = Told::default();
        let news = || std::mem::take(&mut *told.0.lock().unwrap());
        let mut connections = Connections::new("gossip.connect", told.clone(), None, None);
        let address = Connection::new("tcp://127.0.0.1:4833", Trust::Usual).unwrap();
        connections.settle(std::slice::from_ref(&address));
        assert_eq!(news(), ["connect tcp://127.0.0.1:4833"]);
        // A name leads to the same place, and no longer does
        let endpoint = "tcp://127.0.0.1:4833".parse().unwrap();
        assert!(connections.part.connect(&address, &endpoint));
        connections.part.give_up(&endpoint);
        assert_eq!(news(), [""; 0]);
        connections.settle(&[]);
        assert_eq!(news(), ["disconnect tcp://127.0.0.1:4833"]);
        connections.part.give_up(&endpoint);
        assert_eq!(news(), [""; 0]);
    }
}

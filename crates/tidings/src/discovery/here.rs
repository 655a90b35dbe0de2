//! Names for the daemon: the node of this process knows.

use tidings_gossip::RemovalCause;
use tidings_gossip::driver::{Change, Gossip};
use tokio::sync::watch;

use super::{Followed, Known, Name, Sighting};

/// Follows a name by what the node of this process knows
///
/// Of what nodes announce, this node's own does not count; and whoever is gone stays where it was, as it may come back there.
pub(crate) fn here(gossip: &Gossip, name: Name) -> Followed {
    let gossip = gossip.clone();
    Followed::start(name.clone(), |sender| follow(gossip, name, sender))
}

async fn follow(gossip: Gossip, name: Name, seen: watch::Sender<Sighting>) {
    let own = gossip.id();
    let prefixes = name.prefixes();
    let begin = || prefixes.each_ref().map(|prefix| gossip.watch(prefix));
    let [mut announced, mut plain] = begin();
    let mut known = Known::new(name);
    // Those that are telling all that there is
    let mut telling = [true, true];
    loop {
        let (which, change) = tokio::select! {
            change = announced.next() => (0, change),
            change = plain.next() => (1, change),
        };
        let is_news = match change {
            Some(Change::Put { tuple, .. }) if tuple.dot.owner == own => known.remove(&tuple.key),
            Some(Change::Put { tuple, .. }) => known.put(&tuple.key, &tuple.value),
            Some(Change::Removed { cause: RemovalCause::OwnerGone, .. }) => false,
            Some(Change::Removed { key, .. }) => known.remove(&key),
            Some(Change::Current) => {
                if let Some(telling) = telling.get_mut(which) {
                    *telling = false;
                }
                true
            }
            Some(Change::Missed { .. }) => {
                // What is still true is told again from the start
                [announced, plain] = begin();
                known.clear();
                telling = [true, true];
                false
            }
            Some(_) => false,
            None => return,
        };
        if is_news && telling == [false, false] {
            seen.send_replace(known.sighting(true));
        }
    }
}

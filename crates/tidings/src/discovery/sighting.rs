//! Following a name: where it is now, told again whenever that changes.

use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::{Name, Place};

/// What is known of a name at one moment
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Sighting {
    /// Whether all that the node knows has been heard
    pub(crate) is_complete: bool,
    pub(crate) places: Vec<Place>,
    /// Keys about the name that tell no address
    pub(crate) unusable: Vec<String>,
    /// What stands in the way of knowing more
    pub(crate) obstacle: Option<Obstacle>,
}

/// Why no more is known
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Obstacle {
    pub(crate) words: String,
    /// Somebody is there, and can't or won't be asked
    pub(crate) is_refusal: bool,
}

/// A name that is followed, for as long as this is there
#[derive(Debug)]
pub(crate) struct Followed {
    name: Name,
    seen: watch::Receiver<Sighting>,
    task: JoinHandle<()>,
}

impl Followed {
    /// Follows by a task that tells what it sees
    pub(crate) fn start<F: Future<Output = ()> + Send + 'static>(
        name: Name,
        follow: impl FnOnce(watch::Sender<Sighting>) -> F,
    ) -> Self {
        let (sender, seen) = watch::channel(Sighting::default());
        Self { name, seen, task: tokio::spawn(follow(sender)) }
    }

    pub(crate) fn name(&self) -> &Name {
        &self.name
    }

    /// What is known now
    pub(crate) fn now(&self) -> Sighting {
        self.seen.borrow().clone()
    }

    /// Waits for the first place
    ///
    /// # Errors
    /// What was seen until the deadline, which was no place.
    ///
    /// # Cancel safety
    /// Safe: it only looks.
    pub(crate) async fn first(&self, limit: Duration) -> Result<Place, Sighting> {
        let mut seen = self.seen.clone();
        let found = tokio::time::timeout(limit, seen.wait_for(|sighting| !sighting.places.is_empty())).await;
        let place = match found {
            Ok(Ok(sighting)) => sighting.places.first().cloned(),
            _ => None,
        };
        place.ok_or_else(|| self.now())
    }

    /// Waits until `present` is announced no longer and something else is; what that is
    ///
    /// While nothing is announced, nothing moves: whoever is gone may come back to where it was.
    ///
    /// # Cancel safety
    /// Safe: it only looks.
    pub(crate) async fn moved(&self, present: &Place) -> Place {
        let mut seen = self.seen.clone();
        loop {
            let moved = |sighting: &Sighting| {
                let stays = sighting.places.iter().any(|place| place.endpoint == present.endpoint);
                sighting.is_complete && !stays && !sighting.places.is_empty()
            };
            match seen.wait_for(moved).await.map(|sighting| sighting.places.first().cloned()) {
                Ok(Some(place)) => return place,
                Ok(None) => {}
                // Nobody follows any more: nothing moves
                Err(_) => std::future::pending().await,
            }
        }
    }

    /// Waits until what is seen differs from `known`
    ///
    /// # Cancel safety
    /// Safe: it only looks.
    pub(crate) async fn changed(&self, known: &Sighting) -> Sighting {
        let mut seen = self.seen.clone();
        match seen.wait_for(|sighting| sighting != known).await.map(|sighting| sighting.clone()) {
            Ok(sighting) => sighting,
            Err(_) => std::future::pending().await,
        }
    }
}

impl Drop for Followed {
    fn drop(&mut self) {
        self.task.abort();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(port: u16) -> Place {
        Place { key: format!("endpoint/x/{port}"), endpoint: format!("tcp://127.0.0.1:{port}").parse().unwrap() }
    }

    fn sighting(ports: &[u16]) -> Sighting {
        Sighting { is_complete: true, places: ports.iter().copied().map(place).collect(), ..Sighting::default() }
    }

    fn followed() -> (watch::Sender<Sighting>, Followed) {
        let (sender, seen) = watch::channel(Sighting::default());
        let name = Name::read("gossip:x").unwrap().unwrap();
        (sender, Followed { name, seen, task: tokio::spawn(std::future::pending()) })
    }

    #[tokio::test(start_paused = true)]
    async fn the_first_place_is_waited_for_and_no_longer_than_that() {
        let (sender, followed) = followed();
        assert_eq!(followed.first(Duration::from_secs(3)).await, Err(Sighting::default()));
        sender.send_replace(sighting(&[2, 3]));
        assert_eq!(followed.first(Duration::from_secs(3)).await, Ok(place(2)));
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_stays_while_its_place_is_announced_or_nothing_is() {
        let (sender, followed) = followed();
        let present = place(2);
        let moved = followed.moved(&present);
        tokio::pin!(moved);
        for (ports, stays) in [(&[2, 3][..], true), (&[1, 2], true), (&[], true), (&[1, 3], false)] {
            sender.send_replace(sighting(ports));
            let outcome = tokio::time::timeout(Duration::from_secs(1), &mut moved).await;
            assert_eq!(outcome.is_err(), stays, "{ports:?}");
            if let Ok(place_now) = outcome {
                assert_eq!(place_now, place(1));
            }
        }
    }
}

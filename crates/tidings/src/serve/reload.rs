//! SIGHUP: read everything again, say what changes, and apply all of it or nothing.

use super::Parts;
use super::log::LogControl;
use crate::cli::Failure;
use crate::config::{Settings, Sources};

/// Reads the sources again; whether the running configuration is now what they say
pub(super) async fn reload(settings: &mut Settings, sources: &Sources, parts: &mut Parts, log: &LogControl) -> bool {
    let mut new = match sources.load() {
        Ok(new) => new,
        Err(problems) => {
            tracing::error!("reload refused, nothing has changed: {problems}");
            return false;
        }
    };
    let changes = changes(settings, &new);
    if changes.is_empty() {
        tracing::info!("reload: nothing has changed");
        return true;
    }
    if let Err(failure) = apply(parts, &new).await {
        tracing::error!("reload refused, nothing has changed: {failure}");
        return false;
    }
    log.change(new.log_level.value);
    for change in &changes {
        match change.live {
            true => tracing::info!(key = change.key, from = %change.from, to = %change.to, "reload: changed"),
            false => tracing::warn!(key = change.key, from = %change.from, to = %change.to, "reload: takes a restart"),
        }
    }
    new.surprises().iter().for_each(|surprise| tracing::warn!("{surprise}"));
    new.keep_until_restart(settings);
    *settings = new;
    true
}

/// All of it or, on an error, nothing
async fn apply(parts: &mut Parts, new: &Settings) -> Result<(), Failure> {
    let events = match &parts.forwarder {
        Some(forwarder) => Some(forwarder.bind_new(new).await?),
        None => None,
    };
    let back_events = |parts: &Parts| {
        if let (Some(forwarder), Some(added)) = (&parts.forwarder, &events) {
            forwarder.give_up(added);
        }
    };
    let service = match &parts.services {
        Some(services) => match services.bind_new(new).await {
            Ok(added) => Some(added),
            Err(failure) => {
                back_events(parts);
                return Err(failure);
            }
        },
        None => None,
    };
    let gossip = match &parts.gossip {
        Some(gossip) => match gossip.bind_new(new).await {
            Ok(added) => Some(added),
            Err(failure) => {
                back_events(parts);
                if let (Some(services), Some(added)) = (&parts.services, &service) {
                    services.give_up(added);
                }
                return Err(failure);
            }
        },
        None => None,
    };
    if let (Some(forwarder), Some(added)) = (&mut parts.forwarder, events) {
        forwarder.settle(added, new);
    }
    if let (Some(services), Some(added)) = (&mut parts.services, service) {
        services.settle(added, new);
    }
    if let (Some(node), Some(added)) = (&mut parts.gossip, gossip) {
        node.settle(added, new);
    }
    Ok(())
}

struct Change {
    key: &'static str,
    from: String,
    to: String,
    live: bool,
}

fn changes(old: &Settings, new: &Settings) -> Vec<Change> {
    old.rows()
        .into_iter()
        .zip(new.rows())
        .filter(|(old, new)| old.value != new.value)
        .map(|(old, new)| Change { key: new.key, from: old.value, to: new.value, live: new.live })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(key: &str, text: &str) -> Settings {
        let mut sources = Sources::default();
        sources.flag("--set", key, text);
        sources.load().unwrap()
    }

    #[test]
    fn only_values_that_differ_are_changes() {
        let old = Settings::default();
        assert!(changes(&old, &with("events.send-hwm", "1000")).is_empty());
        let found = changes(&old, &with("events.send-hwm", "5"));
        assert_eq!(found.len(), 1);
        assert_eq!((found[0].key, found[0].to.as_str(), found[0].live), ("events.send-hwm", "5", true));
    }

    #[test]
    fn what_takes_a_restart_keeps_its_value_until_then() {
        let old = Settings::default();
        let mut new = with("http.listen", "127.0.0.1:1");
        assert!(!changes(&old, &new)[0].live);
        new.keep_until_restart(&old);
        assert!(changes(&old, &new).is_empty());
    }
}

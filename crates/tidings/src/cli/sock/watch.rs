//! Watches the lifecycle events of a command's sockets: prints them for `--events`, and remembers
//! what explains why nothing comes.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tidings::{Context, Event, EventKind};
use tokio::sync::Notify;

use crate::cli::output::escape;
use crate::cli::units::display_duration;
use crate::cli::{Exit, Failure, Talk};

/// What is known about the peers so far
#[derive(Clone, Debug, Default)]
struct Seen {
    /// Connections that came about, whatever their other end is
    connected: u64,
    handshaken: u64,
    /// Endpoint and reason of the last attempt that failed
    unreachable: Option<(String, String)>,
    /// Endpoint or address, code and reason of the last refusal
    refused: Option<(String, String, String)>,
}

/// Watches in a task of its own
#[derive(Debug)]
pub(crate) struct Watch {
    seen: Arc<Mutex<Seen>>,
    changed: Arc<Notify>,
    /// Whether all hope rests on one connection, so that its refusal is the end
    only_one: bool,
}

impl Watch {
    /// Starts to watch; must come before the sockets of the context do anything
    pub(crate) fn start(context: &Context, print: bool, only_one: bool, talk: Talk) -> Self {
        let seen = Arc::new(Mutex::new(Seen::default()));
        let changed = Arc::new(Notify::new());
        let mut events = context.events();
        let (task_seen, task_changed) = (Arc::clone(&seen), Arc::clone(&changed));
        tokio::spawn(async move {
            while let Some(event) = events.next().await {
                if print {
                    say(&event, talk);
                }
                task_seen.lock().unwrap_or_else(PoisonError::into_inner).note(&event);
                task_changed.notify_waiters();
            }
        });
        Self { seen, changed, only_one }
    }

    /// Whether a peer was ever there
    pub(crate) fn met_anyone(&self) -> bool {
        self.seen().handshaken > 0
    }

    /// Whether anything was there, be it no peer
    pub(crate) fn met_anything(&self) -> bool {
        self.seen().connected > 0
    }

    /// Waits until a peer is there
    pub(crate) async fn first_handshake(&self) {
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            if self.met_anyone() {
                return;
            }
            changed.await;
        }
    }

    /// Waits until there is nothing left to hope for: the only peer said no
    pub(crate) async fn hopeless(&self) -> Failure {
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            let seen = self.seen();
            if self.only_one
                && seen.handshaken == 0
                && let Some(failure) = seen.refusal()
            {
                return failure;
            }
            changed.await;
        }
    }

    /// Why a deadline passed without `what`: refused, unreachable, or plainly too late
    pub(crate) fn explain(&self, what: &str, limit: Duration) -> Failure {
        let seen = self.seen();
        let within = display_duration(limit);
        if seen.handshaken == 0 {
            if let Some(refusal) = seen.refusal() {
                return refusal;
            }
            if let Some((endpoint, error)) = seen.unreachable {
                return Failure::new(Exit::Connect, "connect", format!("can't connect to {endpoint}: {error}"))
                    .hint(format!("gave up after {within}; is anyone listening there?"));
            }
            return Failure::new(Exit::Deadline, "deadline", format!("no peer came within {within}"))
                .hint("--events shows what happens to connections");
        }
        Failure::new(Exit::Deadline, "deadline", format!("no {what} within {within}"))
    }

    /// What stands in the way at present, in words
    pub(crate) fn obstacle(&self) -> String {
        match self.seen().unreachable {
            Some((endpoint, error)) => format!("can't connect to {endpoint}: {error}"),
            None => "no peer is connected".to_owned(),
        }
    }

    fn seen(&self) -> Seen {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Seen {
    fn note(&mut self, event: &Event) {
        let place = || event.endpoint.clone().or_else(|| event.address.clone()).unwrap_or_default();
        match &event.kind {
            EventKind::Connected => self.connected += 1,
            EventKind::Handshaken { .. } => self.handshaken += 1,
            EventKind::ConnectFailed { error, .. } => {
                // The sentence that this ends up in has said so already
                let place = place();
                let why = error.strip_prefix("can't connect").unwrap_or(error);
                let why = why.strip_prefix(&format!(" to {place}")).unwrap_or(why);
                self.unreachable = Some((place, why.trim_start_matches(": ").to_owned()));
            }
            EventKind::HandshakeFailed { detail, .. } => self.unreachable = Some((place(), detail.clone())),
            EventKind::Refused { code, reason } => {
                // What a peer says may be meant for the terminal
                let [code, reason] = [code, reason].map(|text| escape(text.as_bytes()));
                self.refused = Some((place(), code, reason));
            }
            _ => {}
        }
    }

    fn refusal(&self) -> Option<Failure> {
        let (place, code, reason) = self.refused.as_ref()?;
        let failure = Failure::new(Exit::Refused, "refused", format!("the peer at {place} refused ({code}): {reason}"));
        Some(
            failure.hint(match code.as_str() {
                "incompatible-socket-type" => TYPES.to_owned(),
                code if code.starts_with("incompatible-socket-types:") => TYPES.to_owned(),
                "mechanism-mismatch" => {
                    "where one side has keys or a password the other needs them too: --keys, or --plain-user".to_owned()
                }
                "400" => {
                    "the peer does not let us in: have it trust our key (`tidings key trust` there), or check user and \
                      password"
                        .to_owned()
                }
                _ => format!("`tidings doctor {place}`, with the same --keys, looks at it step by step"),
            }),
        )
    }
}

const TYPES: &str = "both sides must be socket types that fit together, such as REQ and REP, or PUB and SUB";

fn say(event: &Event, talk: Talk) {
    match talk.json {
        true => match serde_json::to_string(event) {
            Ok(line) => talk.say(line),
            Err(error) => talk.say(format_args!("an event can't be shown: {error}")),
        },
        false => talk.say(event),
    }
}

//! Events in Domogik's form: the id `<category>.<timestamp>.<version>`, then JSON.

use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use serde_json::{Value, json};
use tidings::Message;

use crate::cli::output::escape;
use crate::cli::sock::{Session, Tally, unreceivable};
use crate::cli::template::now_rfc3339;
use crate::cli::units::count;
use crate::cli::{Exit, Failure, Talk, json, printed};

/// What follows the category on the wire: subscribers choose by what is before it
pub(super) fn topic(category: &str) -> Result<String, Failure> {
    match category.is_empty() || category.chars().any(char::is_control) {
        true => Err(Failure::usage("an event of Domogik's has a category, such as device.update")),
        false => Ok(format!("{category}.")),
    }
}

/// The event of this moment, from the one frame of its content
///
/// # Errors
/// Content that is not JSON, or more than one frame of it.
pub(super) fn event(category: &str, content: &[Bytes]) -> Result<Message, Failure> {
    let [content] = content else {
        return Err(Failure::usage(format!("an event of Domogik's has one content, not {}", content.len()))
            .hint("put the JSON in quotes, so that the shell does not split it"));
    };
    let text = std::str::from_utf8(content).map_err(|error| Failure::new(Exit::Usage, "input", error))?;
    json::check("the content", text)?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let id = format!("{category}.{}_{:06}.{VERSION}", now.as_secs(), now.subsec_micros());
    Ok(Message::multipart([Bytes::from(id), content.clone()]))
}

/// An event as it arrived
struct Event<'a> {
    category: &'a str,
    timestamp: &'a str,
    version: &'a str,
    content: Value,
}

impl<'a> Event<'a> {
    /// Reads a message; the error is a word for its counter
    ///
    /// Domogik's subscribers pass over the same messages; frames behind the second are ignored there too.
    fn read(message: &'a Message) -> Result<Self, &'static str> {
        let mut frames = message.frames();
        let (id, Some(content)) = (frames.next().unwrap_or_default(), frames.next()) else {
            return Err("of one frame");
        };
        let id = std::str::from_utf8(id).map_err(|_| "with an id that is no text")?;
        let mut parts = id.rsplitn(3, '.');
        let (Some(version), Some(timestamp), Some(category)) = (parts.next(), parts.next(), parts.next()) else {
            return Err("with an id of fewer than three parts");
        };
        let content = serde_json::from_slice(content).map_err(|_| "with content that is not JSON")?;
        Ok(Self { category, timestamp, version, content })
    }

    fn render(&self, seq: u64, talk: Talk) -> String {
        let Self { category, timestamp, version, content } = self;
        if !talk.json {
            return format!("{} {content}", escape(category.as_bytes()));
        }
        let seconds: Value = match timestamp.replace('_', ".").parse::<f64>() {
            Ok(seconds) if seconds.is_finite() => seconds.into(),
            _ => Value::from(*timestamp),
        };
        let object = json!({
            "time": now_rfc3339(), "seq": seq, "category": category, "timestamp": seconds, "version": version,
            "content": content,
        });
        object.to_string()
    }
}

/// Prints events until `wanted` are, a stop, or the end of whoever reads; passes over what is none, and counts it
///
/// # Errors
/// When nothing comes within `--timeout`.
pub(super) async fn print(session: &Session, wanted: Option<u64>) -> Result<Tally, Failure> {
    let mut tally = Tally { wanted, ..Tally::default() };
    let mut strangers = std::collections::BTreeMap::<&str, u64>::new();
    while wanted.is_none_or(|wanted| tally.received < wanted) {
        let message = match session.attend("event", session.timeout, session.socket.recv()).await? {
            Some(message) => message.map_err(|error| unreceivable(&error))?,
            None => {
                tally.stopped = Some(session.stop.stopped().await);
                break;
            }
        };
        match Event::read(&message) {
            Ok(event) => {
                if !printed(session.talk.data(event.render(tally.received, session.talk)))? {
                    break;
                }
                tally.received += 1;
            }
            Err(why) => {
                if strangers.is_empty() {
                    session.talk.say(format_args!("passed over a message {why}: '{}'", escape(message.first())));
                }
                *strangers.entry(why).or_default() += 1;
            }
        }
    }
    for (why, number) in strangers {
        session.talk.say(format_args!("passed over: {} {why}", count(number, "message")));
    }
    Ok(tally)
}

/// The last part of every id, whatever the version of Domogik
const VERSION: &str = "0_1";

#[cfg(test)]
mod tests {
    use super::*;

    fn read(frames: &[&'static str]) -> Result<(String, String, String, Value), &'static str> {
        let message = Message::multipart(frames.iter().copied());
        Event::read(&message)
            .map(|event| (event.category.into(), event.timestamp.into(), event.version.into(), event.content))
    }

    #[test]
    fn the_last_two_parts_are_not_the_category() {
        let (category, timestamp, version, content) = read(&["device.update.1416500000_12.0_1", "{}"]).unwrap();
        assert_eq!(
            (category.as_str(), timestamp.as_str(), version.as_str()),
            ("device.update", "1416500000_12", "0_1")
        );
        assert_eq!(content, json!({}));
        assert_eq!(read(&["a.b.c", "1", "more"]).unwrap().0, "a");
        for (frames, why) in [
            (&["device.1_2.0_1"][..], "one frame"),
            (&["device.0_1", "{}"], "three parts"),
            (&["device.1_2.0_1", "{"], "not JSON"),
        ] {
            assert!(read(frames).unwrap_err().contains(why), "{frames:?}");
        }
    }

    #[test]
    fn what_is_published_reads_back() {
        let message = event("device.update", &[Bytes::from("{\"id\": 1}")]).unwrap();
        let event = Event::read(&message).unwrap();
        assert_eq!((event.category, event.version, event.content), ("device.update", "0_1", json!({"id": 1})));
        let (seconds, rest) = event.timestamp.split_once('_').unwrap();
        assert!(seconds.len() >= 10 && rest.len() == 6, "{}", event.timestamp);
    }

    #[test]
    fn wrong_content_is_refused() {
        for content in [&["{"][..], &["\u{1}"], &["{}", "{}"], &[]] {
            let frames: Vec<Bytes> = content.iter().copied().map(Bytes::from).collect();
            assert_eq!(event("c", &frames).unwrap_err().exit, Exit::Usage, "{content:?}");
        }
        assert!(topic("").is_err());
    }
}

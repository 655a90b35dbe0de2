//! Events in Domogik's form: the id `<category>.<timestamp>.<version>`, then JSON.

use bytes::Bytes;
use serde_json::{Value, json};
use tidings::Message;
use tidings_majordomo::{Event, EventError};

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
    // The content as it was given, down to the order of its keys
    Ok(Message::multipart([Bytes::from(Event::new(category, Value::Null).id()), content.clone()]))
}

/// A line for an event
fn render(event: &Event, seq: u64, talk: Talk) -> String {
    let Event { category, timestamp, version, content } = event;
    if !talk.json {
        return format!("{} {content}", escape(category.as_bytes()));
    }
    let seconds: Value = match timestamp.replace('_', ".").parse::<f64>() {
        Ok(seconds) if seconds.is_finite() => seconds.into(),
        _ => Value::from(timestamp.as_str()),
    };
    let object = json!({
        "time": now_rfc3339(), "seq": seq, "category": category, "timestamp": seconds, "version": version,
        "content": content,
    });
    object.to_string()
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
        match Event::decode(&message) {
            Ok(event) => {
                if !printed(session.talk.data(render(&event, tally.received, session.talk)))? {
                    break;
                }
                tally.received += 1;
            }
            Err(error) => {
                let why = match error {
                    EventError::NoContent => "of one frame",
                    EventError::Id => "with an id that is not category.timestamp.version",
                    _ => "with content that is not JSON",
                };
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_published_reads_back() {
        let message = event("device.update", &[Bytes::from("{\"id\": 1}")]).unwrap();
        let event = Event::decode(&message).unwrap();
        assert_eq!((event.category.as_str(), event.content), ("device.update", json!({"id": 1})));
        assert_eq!(message.frame(1), Some(&b"{\"id\": 1}"[..]), "as it was given");
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

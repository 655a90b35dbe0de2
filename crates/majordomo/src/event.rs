//! Domogik's events: a category, when it was, and JSON.
//!
//! Two frames over PUB and SUB. The first is the id, `<category>.<timestamp>.<version>`, by whose beginning subscribers
//! choose; the category may have dots of its own. The timestamp is Unix time with `_` for the decimal point. domogik-mq
//! reads it the same way and passes over what it can't read.

use std::time::{Duration, SystemTime};

use serde_json::Value;
use tidings_zmtp::Message as Frames;

/// Something that happened, as Domogik publishes it
///
/// ```
/// use std::time::{Duration, SystemTime};
/// use tidings_majordomo::Event;
/// let at = SystemTime::UNIX_EPOCH + Duration::from_millis(1_416_500_000_120);
/// let event = Event::new("device.update", serde_json::json!({"value": 21.5})).at(at);
/// assert_eq!(event.id(), "device.update.1416500000_12.0_1");
/// assert_eq!(Event::decode(&event.encode()).unwrap(), event);
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Event {
    /// What kind of event; subscribers name it or its beginning
    pub category: String,
    /// Unix time as it stands in the id, as `1416500000_12`
    pub timestamp: String,
    /// The version of the content's form as it stands in the id
    pub version: String,
    /// What happened
    pub content: Value,
}

/// Why frames are no event
///
/// A subscriber passes over them, as domogik-mq does; a publisher that sends them is not Domogik's.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EventError {
    /// There is no second frame
    #[error("an event is two frames, id and content, and there is only one")]
    NoContent,
    /// The id is not text, or has fewer than three parts
    #[error("the id is not <category>.<timestamp>.<version>")]
    Id,
    /// The content can't be read as JSON
    #[error("the content of {category} is not JSON: {error}")]
    Content {
        /// The event's category
        category: String,
        /// What is wrong with it, and where
        #[source]
        error: serde_json::Error,
    },
}

impl Event {
    /// An event of now
    pub fn new(category: impl Into<String>, content: impl Into<Value>) -> Self {
        let event = Self {
            category: category.into(),
            timestamp: String::new(),
            version: EVENT_VERSION.to_owned(),
            content: content.into(),
        };
        event.at(SystemTime::now())
    }

    /// The same, of another time; what is before 1970 counts as 1970
    #[must_use]
    pub fn at(mut self, time: SystemTime) -> Self {
        let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let micros = format!("{:06}", since.subsec_micros());
        // As Python shows a float: no zeros at the end, but one digit at least
        let decimals = match micros.trim_end_matches('0') {
            "" => "0",
            decimals => decimals,
        };
        self.timestamp = format!("{}_{decimals}", since.as_secs());
        self
    }

    /// When it was, if the timestamp is one
    #[must_use]
    pub fn time(&self) -> Option<SystemTime> {
        let (seconds, decimals) = self.timestamp.split_once('_').unwrap_or((&self.timestamp, "0"));
        let is_digits = |text: &str| !text.is_empty() && text.bytes().all(|octet| octet.is_ascii_digit());
        if !is_digits(seconds) || !is_digits(decimals) {
            return None;
        }
        let nanos = decimals.get(..9).unwrap_or(decimals);
        let nanos = nanos.parse::<u32>().ok()? * 10u32.pow(9 - u32::try_from(nanos.len()).ok()?);
        SystemTime::UNIX_EPOCH.checked_add(Duration::new(seconds.parse().ok()?, nanos))
    }

    /// Its id, the first frame
    #[must_use]
    pub fn id(&self) -> String {
        format!("{}.{}.{}", self.category, self.timestamp, self.version)
    }

    /// Reads an event from the front of `frames`
    ///
    /// The last two parts of the id are timestamp and version whatever they look like, and further frames are ignored.
    ///
    /// # Errors
    /// What is missing or wrong.
    pub fn decode(frames: &Frames) -> Result<Self, EventError> {
        let content = frames.frame(1).ok_or(EventError::NoContent)?;
        let id = std::str::from_utf8(frames.first()).map_err(|_| EventError::Id)?;
        let mut parts = id.rsplitn(3, '.');
        let (Some(version), Some(timestamp), Some(category)) = (parts.next(), parts.next(), parts.next()) else {
            return Err(EventError::Id);
        };
        let category = category.to_owned();
        match serde_json::from_slice(content) {
            Ok(content) => Ok(Self { category, timestamp: timestamp.to_owned(), version: version.to_owned(), content }),
            Err(error) => Err(EventError::Content { category, error }),
        }
    }

    /// The two frames
    #[must_use]
    pub fn encode(&self) -> Frames {
        Frames::multipart([self.id(), self.content.to_string()])
    }
}

impl From<Event> for Frames {
    fn from(event: Event) -> Self {
        event.encode()
    }
}

impl From<&Event> for Frames {
    fn from(event: &Event) -> Self {
        event.encode()
    }
}

impl TryFrom<&Frames> for Event {
    type Error = EventError;

    fn try_from(frames: &Frames) -> Result<Self, EventError> {
        Self::decode(frames)
    }
}

/// The version that Domogik's publishers write
pub const EVENT_VERSION: &str = "0_1";

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn at(millis: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_millis(millis)
    }

    #[test]
    fn the_sheet_s_example_is_an_event() {
        let frames = Frames::multipart(["device.update.1416500000_12.0_1", "{}"]);
        let event = Event::decode(&frames).unwrap();
        assert_eq!((event.category.as_str(), event.version.as_str()), ("device.update", EVENT_VERSION));
        assert_eq!((event.time(), &event.content), (Some(at(1_416_500_000_120)), &json!({})));
        assert_eq!(event.encode(), frames);
        assert_eq!(Event::new("device.update", json!({})).at(at(1_416_500_000_120)).encode(), frames);
    }

    #[test]
    fn timestamps_look_like_python_s() {
        let shown = |micros| Event::new("a", 0).at(SystemTime::UNIX_EPOCH + Duration::from_micros(micros)).timestamp;
        assert_eq!(shown(1_000_000), "1_0");
        assert_eq!(shown(1_500_000), "1_5");
        assert_eq!(shown(1_000_007), "1_000007");
        assert_eq!(Event::new("a", 0).at(SystemTime::UNIX_EPOCH - Duration::from_secs(9)).timestamp, "0_0");
        let now = Event::new("a", 0).time().unwrap();
        assert!(SystemTime::now().duration_since(now).is_ok());
    }

    #[test]
    fn the_last_two_parts_are_dropped_whatever_they_are() {
        let read = |id: &'static str| Event::decode(&Frames::multipart([id, "1", "more"]));
        let event = read("a.b.c.d").unwrap();
        assert_eq!((event.category.as_str(), event.time(), event.version.as_str()), ("a.b", None, "d"));
        assert_eq!(read("..").unwrap().category, "");
        assert!(matches!(read("a.b"), Err(EventError::Id)));
        assert!(matches!(read(""), Err(EventError::Id)));
    }

    #[test]
    fn what_is_no_event_is_said() {
        assert!(matches!(Event::decode(&"a.1.0_1".into()), Err(EventError::NoContent)));
        assert!(matches!(Event::decode(&Frames::multipart([&b"\xff.1.2"[..], b"1"])), Err(EventError::Id)));
        let said = Event::decode(&Frames::multipart(["a.1_0.0_1", "{'a': 1}"])).unwrap_err().to_string();
        assert!(said.starts_with("the content of a is not JSON"), "{said}");
    }

    #[test]
    fn no_timestamp_is_too_strange_to_look_at() {
        let time = |timestamp: &str| Event { timestamp: timestamp.into(), ..Event::new("a", 0) }.time();
        assert_eq!(time("1416500000"), Some(at(1_416_500_000_000)));
        assert_eq!(time("1_123456789999"), Some(SystemTime::UNIX_EPOCH + Duration::new(1, 123_456_789)));
        for strange in
            ["", "_", "1_", "_1", "+1_0", "1_-1", "1e3", "ü_ü", "99999999999999999999_0", "18446744073709551615_9"]
        {
            assert_eq!(time(strange), None, "{strange}");
        }
    }
}

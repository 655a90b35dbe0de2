//! An action and its data as JSON: what Domogik's clients and workers say to each other.
//!
//! Two frames: the action as UTF-8 text, and one JSON value, by custom an object. Frames behind them are ignored, as
//! domogik-mq does. Everything else in this crate treats them as a body like any other.

use std::fmt;

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};
use tidings_zmtp::Message as Frames;

/// An action and its data, Domogik's `MQMessage`
///
/// ```
/// use tidings_majordomo::Message;
/// let mut message = Message::new("plugin.start.do", serde_json::json!({}));
/// message.insert("id", "diskfree");
/// assert_eq!(message.to_string(), r#"plugin.start.do {"id":"diskfree"}"#);
/// assert_eq!(message.value("id").and_then(|id| id.as_str()), Some("diskfree"));
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Message {
    /// What is to be done, or was: `config.get`, `config.result`
    pub action: String,
    /// With what; an object, unless a peer has other customs
    pub data: Value,
}

/// Why frames are not an action with its data
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MessageError {
    /// There is no second frame; the peer speaks another language than action and JSON: look at the frames themselves
    #[error("an action and its data are two frames, and there is only one")]
    NoData,
    /// The action is not UTF-8, or has no octets; look at the frames themselves
    #[error("the first frame is no action: it is {0}")]
    Action(&'static str),
    /// The data can't be read as JSON; the peer's encoder is broken, or it speaks another language
    #[error("the data of {action} is not JSON: {error}")]
    Data {
        /// The action it came with
        action: String,
        /// What is wrong with it, and where
        #[source]
        error: serde_json::Error,
    },
    /// The data is JSON but not of the type that was asked for; compare the two sides' ideas of this action
    #[error("the data of {action} is not what was expected: {error}")]
    Type {
        /// The action it came with
        action: String,
        /// What does not fit
        #[source]
        error: serde_json::Error,
    },
}

impl Message {
    /// A message of this action and data
    pub fn new(action: impl Into<String>, data: impl Into<Value>) -> Self {
        Self { action: action.into(), data: data.into() }
    }

    /// A message of this action, with data of any type that can be JSON
    ///
    /// # Errors
    /// [`MessageError::Type`] when it can't, as a map whose keys are no text.
    pub fn of(action: impl Into<String>, data: &impl Serialize) -> Result<Self, MessageError> {
        let action = action.into();
        match serde_json::to_value(data) {
            Ok(data) => Ok(Self { action, data }),
            Err(error) => Err(MessageError::Type { action, error }),
        }
    }

    /// Sets a key of the data (Domogik's `add_data`)
    ///
    /// Data that is no object becomes one; what it was is returned, as is a value that had the key before.
    pub fn insert(&mut self, key: impl Into<String>, value: impl Into<Value>) -> Option<Value> {
        if let Value::Object(data) = &mut self.data {
            return data.insert(key.into(), value.into());
        }
        let data = Map::from_iter([(key.into(), value.into())]);
        Some(std::mem::replace(&mut self.data, data.into())).filter(|before| !before.is_null())
    }

    /// As [`insert`](Self::insert), for building a message in one expression
    #[must_use]
    pub fn with(mut self, key: impl Into<String>, value: impl Into<Value>) -> Self {
        self.insert(key, value);
        self
    }

    /// The value of a key of the data (Domogik's `get_data`)
    #[must_use]
    pub fn value(&self, key: &str) -> Option<&Value> {
        self.data.get(key)
    }

    /// The data as a type of its own
    ///
    /// # Errors
    /// [`MessageError::Type`] says which field does not fit.
    pub fn parse<T: DeserializeOwned>(&self) -> Result<T, MessageError> {
        T::deserialize(&self.data).map_err(|error| MessageError::Type { action: self.action.clone(), error })
    }

    /// Reads action and data from the front of `frames`
    ///
    /// # Errors
    /// What is missing or wrong. Further frames are none of that.
    pub fn decode(frames: &Frames) -> Result<Self, MessageError> {
        let data = frames.frame(1).ok_or(MessageError::NoData)?;
        let action = match std::str::from_utf8(frames.first()) {
            Ok("") => Err(MessageError::Action("empty")),
            Ok(action) => Ok(action.to_owned()),
            Err(_) => Err(MessageError::Action("not UTF-8")),
        }?;
        match serde_json::from_slice(data) {
            Ok(data) => Ok(Self { action, data }),
            Err(error) => Err(MessageError::Data { action, error }),
        }
    }

    /// The two frames
    #[must_use]
    pub fn encode(&self) -> Frames {
        Frames::multipart([self.action.clone(), self.data.to_string()])
    }
}

/// Action and JSON on one line
impl fmt::Display for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.action, self.data)
    }
}

impl From<Message> for Frames {
    fn from(message: Message) -> Self {
        message.encode()
    }
}

impl From<&Message> for Frames {
    fn from(message: &Message) -> Self {
        message.encode()
    }
}

/// An action and its data
impl<A: Into<String>> From<(A, Value)> for Message {
    fn from((action, data): (A, Value)) -> Self {
        Self::new(action, data)
    }
}

impl TryFrom<&Frames> for Message {
    type Error = MessageError;

    fn try_from(frames: &Frames) -> Result<Self, MessageError> {
        Self::decode(frames)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_seed_s_request_is_two_frames() {
        let message = Message::new("config.get", json!({"id": "diskfree"}));
        let frames = message.encode();
        assert_eq!(frames, Frames::multipart(["config.get", r#"{"id":"diskfree"}"#]));
        assert_eq!(Message::decode(&frames).unwrap(), message);
    }

    #[test]
    fn frames_behind_action_and_data_are_ignored() {
        // Domogik's own encoder puts a space behind colons
        let frames = Frames::multipart(["config.get", r#"{"id": "diskfree"}"#, "more", ""]);
        assert_eq!(Message::decode(&frames).unwrap(), Message::new("config.get", json!({"id": "diskfree"})));
    }

    #[test]
    fn what_is_not_action_and_json_is_said() {
        let said = |frames: Frames| Message::decode(&frames).unwrap_err().to_string();
        assert_eq!(said("config.get".into()), "an action and its data are two frames, and there is only one");
        assert_eq!(said(Frames::multipart(["", "{}"])), "the first frame is no action: it is empty");
        assert_eq!(said(Frames::multipart([&b"\xff"[..], b"{}"])), "the first frame is no action: it is not UTF-8");
        assert!(said(Frames::multipart(["a", "{"])).starts_with("the data of a is not JSON: EOF"));
        assert!(said(Frames::multipart(["a", "{} {}"])).starts_with("the data of a is not JSON: trailing"));
    }

    #[test]
    fn deeply_nested_data_is_an_error_and_no_overflow() {
        let frames = Frames::multipart(["a".to_owned(), "[".repeat(1_000_000)]);
        assert!(matches!(Message::decode(&frames), Err(MessageError::Data { .. })));
    }

    #[test]
    fn keys_are_set_and_read() {
        let mut message = Message::new("a", Value::Null).with("n", 1);
        assert_eq!(message.insert("n", 2), Some(json!(1)));
        assert_eq!((message.value("n"), message.value("m")), (Some(&json!(2)), None));
        let mut list = Message::new("a", json!([1]));
        assert_eq!(list.insert("n", 1), Some(json!([1])), "what the data was is handed back");
        assert_eq!(list.data, json!({"n": 1}));
    }

    #[test]
    fn data_has_a_type_if_that_is_wanted() {
        #[derive(serde::Serialize, serde::Deserialize, PartialEq, Debug)]
        struct Key {
            id: String,
        }
        let message = Message::of("config.get", &Key { id: "diskfree".into() }).unwrap();
        assert_eq!(message.data, json!({"id": "diskfree"}));
        assert_eq!(message.parse::<Key>().unwrap().id, "diskfree");
        let said = Message::new("config.get", json!({"id": 7})).parse::<Key>().unwrap_err().to_string();
        assert!(said.starts_with("the data of config.get is not what was expected: invalid type"), "{said}");
    }
}

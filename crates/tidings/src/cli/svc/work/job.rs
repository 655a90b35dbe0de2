//! A request as a command sees it, and a command's output as a reply.

use std::time::Duration;

use bytes::Bytes;
use serde_json::Value;
use tidings::Message;
use tokio::time::Instant;

use crate::cli::exec::Input;

/// A request to answer
#[derive(Clone, Debug)]
pub(super) struct Job {
    pub(super) service: String,
    pub(super) content: Content,
    /// 1, or more if others died over it
    pub(super) attempt: u32,
    pub(super) deadline: Option<Instant>,
}

/// What is asked
#[derive(Clone, Debug)]
pub(super) enum Content {
    /// An action and its data, as JSON text
    Action { action: String, data: Bytes },
    /// Frames of whatever kind
    Frames(Message),
}

/// Why a request is refused
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Refusal {
    pub(super) status: u16,
    pub(super) text: String,
}

impl Content {
    /// What a body is: two frames, the second of them JSON, are an action with its data, unless all is raw
    pub(super) fn of(body: Message, raw: bool) -> Self {
        let mut frames = body.frames();
        if let (false, Some(action), Some(data), None) = (raw, frames.next(), frames.next(), frames.next())
            && let Ok(action) = std::str::from_utf8(action)
            && !action.is_empty()
            && serde_json::from_slice::<serde::de::IgnoredAny>(data).is_ok()
        {
            return Self::Action { action: action.to_owned(), data: Bytes::copy_from_slice(data) };
        }
        Self::Frames(body)
    }
}

impl Job {
    /// How much time is left now
    pub(super) fn remaining(&self) -> Option<Duration> {
        self.deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()))
    }

    /// What a command that runs for this request alone is given
    pub(super) fn input(&self) -> Input {
        let mut input = match &self.content {
            Content::Frames(message) => Input::frames(message),
            Content::Action { action, data } => {
                Input { lines: vec![data.clone()], environment: vec![("TIDINGS_ACTION".to_owned(), action.clone())] }
            }
        };
        input.environment.push(("TIDINGS_SERVICE".to_owned(), self.service.clone()));
        input.environment.push(("TIDINGS_ATTEMPT".to_owned(), self.attempt.to_string()));
        if let Some(left) = self.remaining() {
            input.environment.push(("TIDINGS_DEADLINE_MS".to_owned(), left.as_millis().to_string()));
        }
        input
    }

    /// The reply that a command's output makes: for an action, its own name or another and JSON; else one frame
    ///
    /// # Errors
    /// What was to be JSON is none.
    pub(super) fn reply(&self, output: Vec<u8>, action: Option<&str>) -> Result<Message, Refusal> {
        let Content::Action { action: asked, .. } = &self.content else {
            return Ok(Message::from(Bytes::from(output)));
        };
        if let Err(error) = serde_json::from_slice::<serde::de::IgnoredAny>(&output) {
            let text = format!("the command's output is not JSON: {error}");
            return Err(Refusal { status: FAILED, text });
        }
        let action = action.unwrap_or(asked).to_owned();
        Ok(Message::multipart([Bytes::from(action), Bytes::from(output)]))
    }
}

/// Frames in JSON: text where it is text, else `{"hex": "…"}`
pub(super) fn frames_of(value: &Value) -> Result<Message, String> {
    let frames = value.as_array().filter(|frames| !frames.is_empty()).ok_or("frames is a list of one or more")?;
    let frame = |frame: &Value| match (frame.as_str(), frame.get("hex").and_then(Value::as_str)) {
        (Some(text), _) => Ok(Bytes::copy_from_slice(text.as_bytes())),
        (None, Some(digits)) => crate::cli::frames::decode_hex(digits),
        (None, None) => Err("a frame is a text, or {\"hex\": \"…\"}".to_owned()),
    };
    Ok(Message::multipart(frames.iter().map(frame).collect::<Result<Vec<Bytes>, String>>()?))
}

/// The status of a worker that failed
pub(super) const FAILED: u16 = 500;

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn job(frames: &[&'static str], raw: bool) -> Job {
        let content = Content::of(Message::multipart(frames.iter().copied()), raw);
        Job { service: "s".into(), content, attempt: 2, deadline: Some(Instant::now() + Duration::from_millis(1500)) }
    }

    #[test]
    fn an_action_with_json_is_told_from_frames() {
        for (frames, raw, is_action) in [
            (&["config.get", "{}"][..], false, true),
            (&["config.get", "{}"], true, false),
            (&["config.get", "{"], false, false),
            (&["", "{}"], false, false),
            (&["config.get"], false, false),
            (&["config.get", "{}", "more"], false, false),
        ] {
            assert_eq!(matches!(job(frames, raw).content, Content::Action { .. }), is_action, "{frames:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_command_is_told_everything() {
        let input = job(&["config.get", "{\"id\": 1}"], false).input();
        assert_eq!(input.lines, ["{\"id\": 1}"]);
        let expected = [
            ("TIDINGS_ACTION", "config.get"),
            ("TIDINGS_SERVICE", "s"),
            ("TIDINGS_ATTEMPT", "2"),
            ("TIDINGS_DEADLINE_MS", "1500"),
        ];
        assert_eq!(input.environment, expected.map(|(name, value)| (name.to_owned(), value.to_owned())));
        let input = job(&["a", "b"], true).input();
        assert_eq!(input.lines, ["a", "b"]);
        assert!(input.environment.contains(&("TIDINGS_FRAME_1".to_owned(), "b".to_owned())));
    }

    #[test]
    fn output_becomes_a_reply() {
        let action = job(&["config.get", "{}"], false);
        let reply = action.reply(b"{\"a\": 1}".to_vec(), Some("config.result")).unwrap();
        assert_eq!(reply, Message::multipart(["config.result", "{\"a\": 1}"]));
        assert_eq!(action.reply(b"1".to_vec(), None).unwrap().first(), b"config.get");
        assert!(action.reply(b"oops".to_vec(), None).unwrap_err().text.contains("not JSON"));
        assert_eq!(job(&["x"], false).reply(b"oops".to_vec(), None).unwrap(), Message::from("oops"));
    }

    #[test]
    fn frames_are_read_from_json() {
        let frames = frames_of(&json!(["a", { "hex": "00ff" }])).unwrap();
        assert_eq!(frames, Message::multipart([Bytes::from("a"), Bytes::from_static(&[0, 255])]));
        for wrong in [json!([]), json!("a"), json!([1]), json!([{ "hex": "0" }])] {
            assert!(frames_of(&wrong).is_err(), "{wrong}");
        }
    }
}

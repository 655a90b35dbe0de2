//! A handler for each action, as Domogik's workers have them.

use std::collections::BTreeMap;
use std::fmt;
use std::pin::Pin;

use serde_json::json;
use tidings_zmtp::Message as Frames;

use super::error::Failure;
use super::handler::{Handler, Request};
use crate::message::Message;
use crate::wire::Status;

/// Answers actions with actions
///
/// ```
/// use serde_json::json;
/// use tidings_majordomo::{Actions, Failure, Message};
/// let actions = Actions::new().on("foo.this.do", async |message: Message| {
///     println!("{message}");
///     Ok::<_, Failure>(("foo.this.result", json!({"another_key": "another_value"})))
/// });
/// ```
///
/// An action that has no handler is refused with 501, and a request that is no action with 400; on wires that can't refuse,
/// with an action `error` that has status and text as its data.
#[derive(Default)]
pub struct Actions {
    handlers: BTreeMap<String, Box<ActionHandler>>,
}

type Answer = Pin<Box<dyn Future<Output = Result<Message, Failure>> + Send>>;
type ActionHandler = dyn Fn(Message) -> Answer + Send + Sync;

impl Actions {
    /// None yet
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Answers an action; a handler that the action had before is replaced
    #[must_use]
    pub fn on<F, Pending, Reply>(mut self, action: impl Into<String>, handler: F) -> Self
    where
        F: Fn(Message) -> Pending + Send + Sync + 'static,
        Pending: Future<Output = Result<Reply, Failure>> + Send + 'static,
        Reply: Into<Message>,
    {
        let handler = move |message| -> Answer {
            let answering = handler(message);
            Box::pin(async move { answering.await.map(Into::into) })
        };
        self.handlers.insert(action.into(), Box::new(handler));
        self
    }
}

impl Handler for Actions {
    async fn handle(&self, request: Request) -> Result<Frames, Failure> {
        let answered = match request.message() {
            Err(error) => Err(Failure::new(Status::MALFORMED, error.to_string())),
            Ok(message) => match self.handlers.get(&message.action) {
                Some(handler) => handler(message).await,
                None => Err(Failure::new(Status::NOT_IMPLEMENTED, format!("no action {}", message.action))),
            },
        };
        answered.map(Frames::from).map_err(|failure| {
            let data = json!({"status": failure.status().code(), "text": failure.text()});
            failure.with_reply(Message::new("error", data))
        })
    }
}

impl fmt::Debug for Actions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.handlers.keys()).finish()
    }
}

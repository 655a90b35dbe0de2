//! What a worker has to say in one conversation, in order.
//!
//! Handlers end in several tasks at once. What they came to is put here under the worker's lock, and one of them sends for
//! all: so a DISCONNECT never overtakes a reply, and replies leave many at a time.

use std::sync::{Mutex, MutexGuard, PoisonError};

use tidings_socket::SendFailure;
use tidings_zmtp::Message;

use crate::conversation::Conversation;

#[derive(Debug)]
pub(super) struct Outbox {
    conversation: Conversation,
    queued: Mutex<Queued>,
}

#[derive(Debug, Default)]
struct Queued {
    messages: Vec<Message>,
    sender: Sender,
    /// The conversation ends with the last of them
    is_last: bool,
}

/// Who sends
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Sender {
    #[default]
    Nobody,
    /// Somebody is at it
    Busy,
    /// Somebody waits for room
    Stuck,
}

impl Outbox {
    pub(super) fn new(conversation: Conversation) -> Self {
        Self { conversation, queued: Mutex::default() }
    }

    /// Queues messages; true if the caller is the one to [`send`](Self::send) them
    pub(super) fn put(&self, messages: impl Iterator<Item = Message>) -> bool {
        let mut queued = None;
        for message in messages {
            queued.get_or_insert_with(|| self.lock()).messages.push(message);
        }
        match queued {
            Some(mut queued) if queued.sender == Sender::Nobody => {
                queued.sender = Sender::Busy;
                true
            }
            _ => false,
        }
    }

    /// Sends all there is; false if the rest has to be [sent patiently](Self::send_patiently)
    pub(super) fn send(&self) -> bool {
        let mut messages = Vec::new();
        while self.next(&mut messages) {
            match self.conversation.socket.try_send_many(&mut messages) {
                Ok(_) => {}
                Err(SendFailure::WouldBlock) => {
                    let mut queued = self.lock();
                    messages.append(&mut queued.messages);
                    (queued.messages, queued.sender) = (messages, Sender::Stuck);
                    // Who doesn't read now won't read its farewell either
                    if queued.is_last {
                        self.conversation.end();
                    }
                    return false;
                }
                // It is the conversation's end, of which its task tells
                Err(_) => messages.clear(),
            }
        }
        true
    }

    /// Sends all there is, waiting for room
    pub(super) async fn send_patiently(&self) {
        let mut messages = Vec::new();
        while self.next(&mut messages) {
            if self.conversation.socket.send_many(&mut messages).await.is_err() {
                messages.clear();
            }
        }
    }

    /// Ends the conversation when what was put here is sent, or at once while that has to wait for room
    pub(super) fn end(&self) {
        let mut queued = self.lock();
        queued.is_last = true;
        if queued.sender != Sender::Busy {
            self.conversation.end();
        }
    }

    /// Fills `messages` if it is empty; false if there is nothing more
    fn next(&self, messages: &mut Vec<Message>) -> bool {
        if !messages.is_empty() {
            return true;
        }
        let mut queued = self.lock();
        std::mem::swap(messages, &mut queued.messages);
        if messages.is_empty() {
            queued.sender = Sender::Nobody;
            if queued.is_last {
                self.conversation.end();
            }
        }
        !messages.is_empty()
    }

    fn lock(&self) -> MutexGuard<'_, Queued> {
        self.queued.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use tidings_socket::{Context, DealerSocket, Options};

    use super::*;
    use crate::conversation::ConversationId;

    fn outbox(context: &Context) -> Outbox {
        let options = Options::new().send_hwm(2).recv_hwm(2);
        Outbox::new(Conversation::new(ConversationId(1), context, &options).unwrap())
    }

    fn put(outbox: &Outbox, text: &'static str) -> bool {
        outbox.put(std::iter::once(Message::from(text)))
    }

    #[tokio::test]
    async fn one_sends_for_all_in_order_and_the_end_comes_behind() {
        let context = Context::new();
        let broker = DealerSocket::new(&context).unwrap();
        broker.bind("inproc://outbox").unwrap().await.unwrap();
        let outbox = outbox(&context);
        outbox.conversation.socket.connect("inproc://outbox").unwrap().await.unwrap();
        assert!(!outbox.put(std::iter::empty()), "there is nothing to send");
        assert!(put(&outbox, "reply"));
        assert!(!put(&outbox, "farewell"), "somebody is at it");
        outbox.end();
        assert!(!outbox.conversation.is_ended());
        assert!(outbox.send() && outbox.conversation.is_ended());
        for expected in ["reply", "farewell"] {
            assert_eq!(broker.recv().await.unwrap(), expected.into());
        }
    }

    #[tokio::test]
    async fn what_finds_no_room_waits_and_keeps_its_place() {
        let context = Context::new();
        let outbox = outbox(&context);
        assert!(put(&outbox, "1"));
        assert!(!outbox.send(), "nobody is there to take it");
        assert!(!put(&outbox, "2"), "it waits behind the first");
        let broker = DealerSocket::new(&context).unwrap();
        broker.bind("inproc://outbox").unwrap().await.unwrap();
        outbox.conversation.socket.connect("inproc://outbox").unwrap().await.unwrap();
        outbox.send_patiently().await;
        for expected in ["1", "2"] {
            assert_eq!(broker.recv().await.unwrap(), expected.into());
        }
        assert!(put(&outbox, "3"), "nobody sends any more");
        assert!(!outbox.conversation.is_ended());
    }

    #[tokio::test]
    async fn a_conversation_that_is_stuck_ends_at_once() {
        let context = Context::new();
        let outbox = outbox(&context);
        assert!(put(&outbox, "1") && !outbox.send());
        outbox.end();
        assert!(outbox.conversation.is_ended());
    }
}

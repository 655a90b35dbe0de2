//! Who publishes what to whom: the arithmetic behind `publish` and `subscribe`.

use std::sync::OnceLock;
use std::time::Instant;

use anyhow::Result;
use serde_json::{Value, json};

use crate::{Arguments, Cpu, Usage};

/// The topic that ends a publication, to which every subscriber is subscribed besides
pub const END_TOPIC: &str = "99999999";

/// What `publish` is to send
#[derive(Debug)]
pub struct Publication {
    /// How many messages
    pub count: usize,
    /// How many connections there will be
    pub subscribers: usize,
    /// How many subscriptions each of them makes, the end mark not counted
    pub subscriptions: usize,
    topics: usize,
    body: Vec<u8>,
}

impl Publication {
    /// From the keys of `publish`
    pub fn new(arguments: &Arguments) -> Result<Self> {
        let size: usize = arguments.number("size")?;
        if size < END_TOPIC.len() {
            return Err(Usage(format!("size={size} has no room for a topic of {} octets", END_TOPIC.len())).into());
        }
        Ok(Self {
            count: arguments.number("count")?,
            subscribers: arguments.number("subscribers")?,
            subscriptions: arguments.number("subscriptions")?,
            topics: at_least_one(arguments, "topics")?,
            body: vec![b'x'; size],
        })
    }

    /// The message with a sequence number: its topic in eight digits, then filled up
    pub fn body(&mut self, sequence: usize) -> &[u8] {
        let mut topic = sequence % self.topics;
        // By hand, as this is done for every message
        for digit in self.body[..END_TOPIC.len()].iter_mut().rev() {
            *digit = b'0' + (topic % 10) as u8;
            topic /= 10;
        }
        &self.body
    }

    /// The message after the last
    pub fn end_mark(&mut self) -> &[u8] {
        self.body[..END_TOPIC.len()].copy_from_slice(END_TOPIC.as_bytes());
        &self.body
    }
}

/// What `subscribe` is to receive
#[derive(Debug)]
pub struct Subscriptions {
    /// The size of every message
    pub size: usize,
    /// How many sockets read
    pub connections: usize,
    /// How many sockets never read
    pub frozen: usize,
    /// Whether each socket reads until the end mark, as nobody knows how much will come
    pub until_mark: bool,
    subscriptions: usize,
    count: usize,
    topics: usize,
    expect: usize,
    first: OnceLock<(Instant, Cpu)>,
}

impl Subscriptions {
    /// From the keys of `subscribe`
    pub fn new(arguments: &Arguments) -> Result<Self> {
        let expect = arguments.number("expect")?;
        Ok(Self {
            size: arguments.number("size")?,
            connections: at_least_one(arguments, "connections")?,
            frozen: arguments.number_or("frozen", 0)?,
            until_mark: expect == 0,
            subscriptions: at_least_one(arguments, "subscriptions")?,
            count: arguments.number("count")?,
            topics: at_least_one(arguments, "topics")?,
            expect,
            first: OnceLock::new(),
        })
    }

    /// What a connection subscribes to
    pub fn topics_of(&self, connection: usize) -> Vec<String> {
        let mut topics: Vec<String> = match self.subscriptions {
            1 => vec![String::new()],
            each => (connection * each..(connection + 1) * each).map(|topic| format!("{topic:08}")).collect(),
        };
        topics.push(END_TOPIC.to_owned());
        topics
    }

    /// How many messages a connection gets if nothing is lost
    pub fn share_of(&self, connection: usize) -> usize {
        if self.subscriptions == 1 {
            return self.count;
        }
        let first = connection * self.subscriptions;
        let below = |limit: usize| limit.min(first + self.subscriptions).saturating_sub(first);
        self.count / self.topics * below(self.topics) + below(self.count % self.topics)
    }

    /// What the role prints
    pub fn line(&self, taken: &[Taken]) -> Value {
        let messages: usize = taken.iter().map(|taken| taken.messages).sum();
        let expected = match self.expect {
            0 => (0..self.connections).map(|connection| self.share_of(connection)).sum(),
            told => told,
        };
        let (seconds, cpu_seconds) = match (self.first.get(), taken.iter().filter_map(|taken| taken.last).max()) {
            (Some((first, cpu)), Some(last)) => ((last - *first).as_secs_f64(), cpu.elapsed()),
            _ => (0.0, 0.0),
        };
        let per_second = if seconds > 0.0 { messages.saturating_sub(1) as f64 / seconds } else { 0.0 };
        json!({
            "role": "subscribe", "messages": messages, "seconds": seconds, "per_second": per_second,
            "missed": expected.saturating_sub(messages), "cpu_seconds": cpu_seconds,
        })
    }
}

/// What one connection got
#[derive(Debug, Default)]
pub struct Taken {
    /// How many messages so far
    pub messages: usize,
    last: Option<Instant>,
}

impl Taken {
    /// Counts one more
    pub fn count(&mut self, plan: &Subscriptions) {
        if self.messages == 0 {
            plan.first.get_or_init(|| (Instant::now(), Cpu::now()));
        }
        self.messages += 1;
    }

    /// Notes when the last came
    pub fn end(&mut self) {
        self.last = (self.messages > 0).then(Instant::now);
    }
}

fn at_least_one(arguments: &Arguments, key: &str) -> Result<usize> {
    match arguments.number_or(key, 1)? {
        0 => Err(Usage(format!("{key}=0 leaves nothing to do")).into()),
        number => Ok(number),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(connections: usize, subscriptions: usize, count: usize, topics: usize) -> Subscriptions {
        let (size, frozen, until_mark, expect, first) = (8, 0, false, 0, OnceLock::new());
        Subscriptions { size, connections, frozen, until_mark, subscriptions, count, topics, expect, first }
    }

    #[test]
    fn a_share_is_what_the_topics_give() {
        assert_eq!(plan(3, 1, 10, 1).share_of(2), 10);
        let shared = plan(3, 4, 23, 10);
        assert_eq!([shared.share_of(0), shared.share_of(1), shared.share_of(2)], [11, 8, 4]);
        assert_eq!(plan(2, 100, 50, 10).share_of(1), 0);
    }

    #[test]
    fn topics_are_eight_digits() {
        let mut publication =
            Publication { count: 1, subscribers: 1, subscriptions: 1, topics: 100, body: vec![b'x'; 9] };
        assert_eq!(publication.body(142), b"00000042x");
        assert_eq!(publication.end_mark(), b"99999999x");
        assert_eq!(plan(1, 2, 1, 1).topics_of(3), ["00000006", "00000007", END_TOPIC]);
    }
}

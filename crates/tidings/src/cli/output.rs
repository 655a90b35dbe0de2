//! Received messages on standard output: text, hexadecimal, JSON or the octets themselves.

use std::io::{self, Write};

use clap::ValueEnum;
use serde_json::{Value, json};
use tidings::Message;

use super::frames::{FirstFrame, encode_hex};
use super::template::now_rfc3339;

/// What a received message looks like on standard output
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, ValueEnum)]
pub(crate) enum Output {
    /// One line per message, frames separated by the delimiter; what would break the line or the
    /// terminal is shown as \xNN
    #[default]
    Text,
    /// One line per message, every frame as hexadecimal digits
    Hex,
    /// One JSON object per line: time, seq, frames; a frame that isn't UTF-8 is {"hex": "…"}
    Json,
    /// The octets of every frame as they are, nothing between and nothing after
    Raw,
}

/// Prints messages, flushed at once so that a pipe sees them
pub(crate) struct Printer {
    output: Output,
    delimiter: String,
    first: FirstFrame,
    seq: u64,
}

impl Printer {
    pub(crate) fn new(output: Output, delimiter: Option<&str>, first: FirstFrame) -> Self {
        Self { output, delimiter: delimiter.unwrap_or(" ").to_owned(), first, seq: 0 }
    }

    /// Writes messages to standard output, and flushes once
    ///
    /// # Errors
    /// Those of writing; a closed pipe is one of them.
    pub(crate) fn print_all<'a>(&mut self, messages: impl IntoIterator<Item = &'a Message>) -> io::Result<()> {
        let mut stdout = io::stdout().lock();
        for message in messages {
            stdout.write_all(&self.render(message))?;
        }
        stdout.flush()
    }

    /// Writes one message to standard output
    ///
    /// # Errors
    /// As [`Printer::print_all`].
    pub(crate) fn print(&mut self, message: &Message) -> io::Result<()> {
        self.print_all([message])
    }

    fn render(&mut self, message: &Message) -> Vec<u8> {
        let (seq, frames) = (self.seq, message.frames());
        self.seq += 1;
        let texts: Vec<String> = match self.output {
            Output::Raw => return frames.collect::<Vec<_>>().concat(),
            Output::Json => {
                let shown = |(index, frame): (usize, &[u8])| match self.peer_id(index, frame) {
                    Some(id) => Value::from(id),
                    None => json_frame(frame),
                };
                let frames: Vec<Value> = frames.enumerate().map(shown).collect();
                let object = json!({ "time": now_rfc3339(), "seq": seq, "frames": frames });
                return format!("{object}\n").into_bytes();
            }
            Output::Hex => frames.map(encode_hex).collect(),
            Output::Text => frames
                .enumerate()
                .map(|(index, frame)| match (index, self.peer_id(index, frame)) {
                    (_, Some(id)) => id.to_string(),
                    (0, None) if self.first == FirstFrame::RoutingId => display_routing_id(frame),
                    _ => escape(frame),
                })
                .collect(),
        };
        let mut line = texts.join(&self.delimiter);
        line.push('\n');
        line.into_bytes()
    }

    /// The number, if this frame is one
    fn peer_id(&self, index: usize, frame: &[u8]) -> Option<u32> {
        let is_id = self.first == FirstFrame::PeerId && index == 0;
        is_id.then(|| frame.try_into().ok().map(u32::from_be_bytes)).flatten()
    }
}

/// A frame in JSON: text where it is text, else `{"hex": "…"}`
pub(crate) fn json_frame(frame: &[u8]) -> Value {
    match std::str::from_utf8(frame) {
        Ok(text) => Value::from(text),
        Err(_) => json!({ "hex": encode_hex(frame) }),
    }
}

/// A routing id as text where that is unmistakable, else `0x…`, which is read back by the senders
pub(crate) fn display_routing_id(octets: &[u8]) -> String {
    match std::str::from_utf8(octets) {
        Ok(text)
            if !text.is_empty() && !text.starts_with("0x") && !text.chars().any(|c| c.is_control() || c == ' ') =>
        {
            text.to_owned()
        }
        _ => format!("0x{}", encode_hex(octets)),
    }
}

/// Text fit for one line of a terminal: control characters and invalid UTF-8 become escapes
pub(crate) fn escape(octets: &[u8]) -> String {
    let mut text = String::with_capacity(octets.len());
    for chunk in octets.utf8_chunks() {
        for character in chunk.valid().chars() {
            match character {
                '\t' => text.push('\t'),
                '\n' => text.push_str("\\n"),
                '\r' => text.push_str("\\r"),
                c if c.is_control() => {
                    let mut buffer = [0; 4];
                    push_escapes(&mut text, c.encode_utf8(&mut buffer).as_bytes());
                }
                c => text.push(c),
            }
        }
        push_escapes(&mut text, chunk.invalid());
    }
    text
}

fn push_escapes(text: &mut String, octets: &[u8]) {
    for octet in octets {
        text.push_str(&format!("\\x{octet:02x}"));
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn rendered(output: Output, frames: &[&'static [u8]]) -> String {
        let message = frames.iter().copied().map(Bytes::from_static).collect();
        String::from_utf8(Printer::new(output, None, FirstFrame::Plain).render(&message)).unwrap()
    }

    #[test]
    fn a_peers_id_is_shown_as_the_number_it_is() {
        let message = Message::multipart([&b"\0\0\x01\x02"[..], b"abcd"].map(Bytes::from_static));
        let rendered =
            |output| String::from_utf8(Printer::new(output, None, FirstFrame::PeerId).render(&message)).unwrap();
        assert_eq!(rendered(Output::Text), "258 abcd\n");
        assert_eq!(rendered(Output::Hex), "00000102 61626364\n");
        let object: Value = serde_json::from_str(&rendered(Output::Json)).unwrap();
        assert_eq!(object["frames"], json!([258, "abcd"]));
    }

    #[test]
    fn text_keeps_one_message_on_one_line() {
        assert_eq!(rendered(Output::Text, &[b"0", b"1 2000"]), "0 1 2000\n");
        assert_eq!(
            rendered(Output::Text, &[b"a\nb\x1b[31m", b"\xff\x00", "é".as_bytes()]),
            "a\\nb\\x1b[31m \\xff\\x00 é\n"
        );
        assert_eq!(rendered(Output::Text, &[b""]), "\n");
    }

    #[test]
    fn hexadecimal_and_raw() {
        assert_eq!(rendered(Output::Hex, &[b"\x00\x01", b"", b"a"]), "0001  61\n");
        assert_eq!(rendered(Output::Raw, &[b"ab", b"c\n"]), "abc\n");
    }

    #[test]
    fn json_tells_text_from_octets() {
        let line = rendered(Output::Json, &[b"hi", b"\xff\x01"]);
        let object: Value = serde_json::from_str(&line).unwrap();
        assert_eq!(object["frames"], json!(["hi", { "hex": "ff01" }]));
        assert_eq!(object["seq"], 0);
        assert!(object["time"].as_str().unwrap().ends_with('Z'));
    }

    #[test]
    fn routing_ids_read_back_as_written() {
        assert_eq!(display_routing_id(b"worker-1"), "worker-1");
        assert_eq!(display_routing_id(&[0, 0xab]), "0x00ab");
        assert_eq!(display_routing_id(b"0xab"), "0x30786162");
        assert_eq!(display_routing_id(b"two words"), "0x74776f20776f726473");
    }
}

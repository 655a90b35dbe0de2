//! Frames as people give them: arguments, `@FILE`, hexadecimal, and lines of standard input.

use std::fs::File;
use std::io::Read as _;
use std::path::Path;

use bytes::Bytes;
use tidings::SocketType;

use super::failure::{Exit, Failure};
use super::template::FrameTemplate;

/// How arguments and lines become frames
#[derive(Clone, Debug, Default)]
pub(crate) struct FrameSyntax {
    /// Frames are hexadecimal digits
    pub(crate) hex: bool,
    /// `{{…}}` in arguments stands for itself
    pub(crate) no_template: bool,
    /// What separates the frames of one line; `None` makes a line one frame
    pub(crate) delimiter: Option<String>,
    pub(crate) first: FirstFrame,
}

/// What the first frame of a message is to people
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) enum FirstFrame {
    /// As any other
    #[default]
    Plain,
    /// A routing id, `0x…` where it isn't text (ROUTER, STREAM)
    RoutingId,
    /// The number of a peer (SERVER, PEER)
    PeerId,
}

impl FirstFrame {
    /// For what a socket of this type sends and receives
    pub(crate) fn of(socket_type: SocketType) -> Self {
        match socket_type {
            SocketType::Router | SocketType::Stream => Self::RoutingId,
            SocketType::Server | SocketType::Peer => Self::PeerId,
            _ => Self::Plain,
        }
    }
}

impl FrameSyntax {
    /// One frame from one argument: text with placeholders, `@FILE`, `@@text`, or hexadecimal
    ///
    /// # Errors
    /// A file that can't be read, digits that are not hexadecimal, an unknown placeholder.
    pub(crate) fn argument(&self, index: usize, text: &str) -> Result<FrameTemplate, Failure> {
        if let Some(id) = self.peer_id(index, text) {
            return id.map(FrameTemplate::literal).map_err(Failure::usage);
        }
        if let Some(path) = text.strip_prefix('@') {
            return match path.strip_prefix('@') {
                Some(_) => Ok(FrameTemplate::literal(Bytes::copy_from_slice(path.as_bytes()))),
                None => read_file(Path::new(path)).map(FrameTemplate::literal),
            };
        }
        if let Some(digits) = self.hex_digits(index, text) {
            return decode_hex(digits).map(FrameTemplate::literal).map_err(Failure::usage);
        }
        if self.no_template {
            return Ok(FrameTemplate::literal(Bytes::copy_from_slice(text.as_bytes())));
        }
        FrameTemplate::parse(text).map_err(Failure::usage)
    }

    /// The frames of one line of input, with `before` frames already standing in front of them
    ///
    /// # Errors
    /// Digits that are not hexadecimal.
    pub(crate) fn line(&self, before: usize, line: &[u8]) -> Result<Vec<Bytes>, String> {
        let mut frames = Vec::new();
        for (index, frame) in split(line, self.delimiter.as_deref()).into_iter().enumerate() {
            let text = std::str::from_utf8(frame).ok();
            if let Some(id) = self.peer_id(before + index, text.unwrap_or_default()) {
                frames.push(id?);
                continue;
            }
            match text.and_then(|text| self.hex_digits(before + index, text)) {
                Some(digits) => frames.push(decode_hex(digits)?),
                None if self.hex => return Err("the line is not hexadecimal".to_owned()),
                None => frames.push(Bytes::copy_from_slice(frame)),
            }
        }
        Ok(frames)
    }

    /// The digits, if this frame is to be read as hexadecimal
    fn hex_digits<'a>(&self, index: usize, text: &'a str) -> Option<&'a str> {
        let prefixed = text.strip_prefix("0x");
        if self.hex {
            return Some(prefixed.unwrap_or(text));
        }
        prefixed.filter(|digits| self.first == FirstFrame::RoutingId && index == 0 && decode_hex(digits).is_ok())
    }

    /// The frame, if this one is to be read as the number of a peer
    fn peer_id(&self, index: usize, text: &str) -> Option<Result<Bytes, String>> {
        if self.first != FirstFrame::PeerId || index > 0 || self.hex {
            return None;
        }
        let id = text.parse::<u32>().map(|id| Bytes::copy_from_slice(&id.to_be_bytes()));
        Some(id.map_err(|_| {
            format!("'{text}' is no peer's id: the first frame is a number, as received messages show it")
        }))
    }
}

/// The whole of a file as one frame
///
/// # Errors
/// Names the file, and why it can't be read or that it is too large for one frame.
pub(crate) fn read_file(path: &Path) -> Result<Bytes, Failure> {
    let wrong = |why: String| {
        Failure::new(Exit::Usage, "file", format!("can't read '{}': {why}", path.display()))
            .hint("a frame that begins with '@' names a file; '@@' begins a frame with a single '@'")
    };
    let file = File::open(path).map_err(|error| wrong(error.to_string()))?;
    let mut octets = Vec::new();
    let read = file.take(FILE_LIMIT + 1).read_to_end(&mut octets).map_err(|error| wrong(error.to_string()))?;
    if read as u64 > FILE_LIMIT {
        return Err(wrong(format!("it is larger than {} MiB", FILE_LIMIT >> 20)));
    }
    Ok(octets.into())
}

/// Octets from hexadecimal digits; spaces, colons and hyphens between them are ignored
///
/// # Errors
/// Names the first character that is not a digit, or an odd count.
pub(crate) fn decode_hex(text: &str) -> Result<Bytes, String> {
    let mut octets = Vec::with_capacity(text.len() / 2);
    let mut high: Option<u32> = None;
    for character in text.chars().filter(|c| !matches!(c, ' ' | ':' | '-')) {
        let digit =
            character.to_digit(16).ok_or_else(|| format!("'{character}' in '{text}' is not a hexadecimal digit"))?;
        high = match high {
            None => Some(digit),
            Some(high) => {
                octets.push((high << 4 | digit) as u8);
                None
            }
        };
    }
    match high {
        None => Ok(octets.into()),
        Some(_) => Err(format!("'{text}' has an odd number of hexadecimal digits")),
    }
}

/// Octets as lower-case hexadecimal digits
pub(crate) fn encode_hex(octets: &[u8]) -> String {
    use std::fmt::Write as _;
    octets.iter().fold(String::with_capacity(octets.len() * 2), |mut text, octet| {
        // Writing into a String can't fail.
        let _ = write!(text, "{octet:02x}");
        text
    })
}

fn split<'a>(line: &'a [u8], delimiter: Option<&str>) -> Vec<&'a [u8]> {
    let Some(delimiter) = delimiter.map(str::as_bytes).filter(|delimiter| !delimiter.is_empty()) else {
        return vec![line];
    };
    let mut frames = Vec::new();
    let mut rest = line;
    while let Some(at) = rest.windows(delimiter.len()).position(|window| window == delimiter) {
        let (frame, after) = rest.split_at(at);
        frames.push(frame);
        rest = after.split_at(delimiter.len()).1;
    }
    frames.push(rest);
    frames
}

/// Largest file that becomes a frame: what a shell command may sensibly hold in memory
const FILE_LIMIT: u64 = 1 << 30;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_split_at_the_delimiter() {
        let syntax = FrameSyntax { delimiter: Some("::".to_owned()), ..FrameSyntax::default() };
        assert_eq!(syntax.line(0, b"a::b:::").unwrap(), ["a", "b", ":"].map(Bytes::from));
        assert_eq!(syntax.line(0, b"").unwrap(), [Bytes::new()]);
        assert_eq!(FrameSyntax::default().line(0, b"a::b").unwrap(), ["a::b"].map(Bytes::from));
    }

    #[test]
    fn hexadecimal_both_ways() {
        assert_eq!(decode_hex("00 ff:1a-2B").unwrap(), Bytes::from_static(&[0, 255, 0x1a, 0x2b]));
        assert_eq!(encode_hex(&[0, 255, 0x1a]), "00ff1a");
        assert!(decode_hex("0g").unwrap_err().contains("'g'"));
        assert!(decode_hex("abc").unwrap_err().contains("odd"));
    }

    #[test]
    fn a_routing_id_may_be_hexadecimal_and_other_frames_stay_text() {
        let syntax =
            FrameSyntax { first: FirstFrame::RoutingId, delimiter: Some(" ".to_owned()), ..FrameSyntax::default() };
        let frames = syntax.line(0, b"0x00ab 0x00ab").unwrap();
        assert_eq!(frames, [Bytes::from_static(&[0, 0xab]), Bytes::from("0x00ab")]);
        assert_eq!(syntax.line(0, b"0xyz").unwrap(), [Bytes::from("0xyz")]);
    }

    #[test]
    fn a_peers_id_is_a_number_and_other_frames_stay_text() {
        let syntax =
            FrameSyntax { first: FirstFrame::PeerId, delimiter: Some(" ".to_owned()), ..FrameSyntax::default() };
        assert_eq!(syntax.line(0, b"258 258").unwrap(), [Bytes::from_static(&[0, 0, 1, 2]), Bytes::from("258")]);
        assert_eq!(syntax.argument(0, "4294967295").unwrap().fill(0), [255; 4][..]);
        assert!(syntax.line(0, b"worker hello").unwrap_err().contains("'worker' is no peer's id"));
        assert!(syntax.line(0, b"4294967296 x").is_err());
        assert_eq!(syntax.line(1, b"worker").unwrap(), [Bytes::from("worker")], "behind the id");
        let octets = FrameSyntax { hex: true, ..syntax };
        assert_eq!(octets.line(0, b"00000102").unwrap(), [Bytes::from_static(&[0, 0, 1, 2])]);
    }

    #[test]
    fn at_signs() {
        let syntax = FrameSyntax::default();
        assert_eq!(syntax.argument(0, "@@me").unwrap().fill(0), "@me");
        let failure = syntax.argument(0, "@/no/such/file").unwrap_err();
        assert_eq!(failure.exit, Exit::Usage);
        assert!(failure.message.contains("/no/such/file"), "{failure}");
    }
}

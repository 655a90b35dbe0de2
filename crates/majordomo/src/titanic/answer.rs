//! Titanic's answers (RFC 9, "Status frame" and "UUIDs"): three digits, perhaps a space and text, then frames.

use bytes::Bytes;
use tidings_store::Uuid;

use crate::wire::Body;

/// A status and what it means
pub(super) fn status(code: u16, text: &str) -> Body {
    Body::from_iter([Bytes::from(format!("{code} {text}"))])
}

/// A bare status and the frames behind it
pub(super) fn with(code: u16, frames: impl IntoIterator<Item = Bytes>) -> Body {
    std::iter::once(Bytes::from(code.to_string())).chain(frames).collect()
}

/// The status of an answer and its text
pub(super) fn read_status(frame: &[u8]) -> Option<(u16, String)> {
    let digits = frame.first_chunk::<3>().filter(|digits| digits.iter().all(u8::is_ascii_digit))?;
    let code = digits.iter().fold(0, |code, digit| code * 10 + u16::from(digit - b'0'));
    match frame.get(3..)? {
        [] => Some((code, String::new())),
        [b' ', text @ ..] => Some((code, String::from_utf8_lossy(text).into_owned())),
        _ => None,
    }
}

/// 32 hexadecimal digits in either case; the form with hyphens is taken too
pub(super) fn read_id(frame: &[u8]) -> Option<Uuid> {
    match frame.len() {
        32 | 36 => Uuid::try_parse_ascii(frame).ok(),
        _ => None,
    }
}

/// As RFC 9 shows them: upper case, without hyphens
pub(super) fn write_id(id: Uuid) -> Bytes {
    Bytes::from(format!("{:X}", id.simple()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_read_in_every_form() {
        let id = Uuid::from_u128(0x0123_4567_89ab_cdef_0123_4567_89ab_cdef);
        let written = write_id(id);
        assert_eq!(&written[..], b"0123456789ABCDEF0123456789ABCDEF");
        for form in [written.to_ascii_lowercase(), written.to_vec(), id.hyphenated().to_string().into_bytes()] {
            assert_eq!(read_id(&form), Some(id));
        }
        for wrong in ["", "0123", "0123456789ABCDEF0123456789ABCDEG", "{0123456789abcdef0123456789abcd}"] {
            assert_eq!(read_id(wrong.as_bytes()), None, "{wrong}");
        }
    }

    #[test]
    fn a_status_may_have_a_text() {
        assert_eq!(read_status(b"200"), Some((200, String::new())));
        assert_eq!(read_status(b"300 not yet"), Some((300, "not yet".to_owned())));
        assert_eq!(read_status(&status(500, "a b")[0]), Some((500, "a b".to_owned())));
        for wrong in ["", "20", "2000", "abc", "200x"] {
            assert_eq!(read_status(wrong.as_bytes()), None, "{wrong}");
        }
    }
}

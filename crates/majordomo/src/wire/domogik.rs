//! What Domogik's synchronous client puts in front of action and JSON: the time that it will wait.
//!
//! The frame is the text of a Python number of seconds, or the word `None`. Domogik's broker takes the first body frame of
//! every request for it if Python can read it as a number, which eats the first frame of a plain client that sends a
//! number, and puts `None` back, which shifts action and data by one. Here a request is Domogik's only as a whole: three
//! frames, of which the first is a timeout, the second a text and the third begins and ends as a JSON object does. Then the
//! timeout is consumed, `None` too. In any other shape all frames are body.

use std::time::Duration;

use bytes::Bytes;

use super::Body;

/// Takes the timeout away from a body that Domogik's client made; `None` if it is nobody's but the worker's
///
/// `Some(None)` is a client that waits for as long as it takes: `None`, `inf`, `nan`, and what isn't more than zero.
pub(super) fn take_timeout(body: &mut Body) -> Option<Option<Duration>> {
    let [timeout, action, data] = &body[..] else { return None };
    let seconds = read_timeout(timeout)?;
    if action.is_empty() || std::str::from_utf8(action).is_err() || !looks_like_an_object(data) {
        return None;
    }
    body.remove(0);
    Some(seconds.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok()).filter(|timeout| !timeout.is_zero()))
}

/// Whether a frame could be a timeout: a number as Python reads it, or `None`
#[must_use]
pub fn is_timeout(frame: &[u8]) -> bool {
    read_timeout(frame).is_some()
}

fn read_timeout(frame: &[u8]) -> Option<Option<f64>> {
    match frame {
        b"None" => Some(None),
        text => python_float(text).map(Some),
    }
}

/// The frame that says how long a client waits: seconds, with a fraction if there is one, or `None`
#[must_use]
pub fn timeout_frame(timeout: Option<Duration>) -> Bytes {
    match timeout {
        None => Bytes::from_static(b"None"),
        Some(timeout) => timeout.as_secs_f64().to_string().into(),
    }
}

/// The number that Python's `float` reads from a text
///
/// It strips spaces and takes underscores between digits, which Rust doesn't; all else is the same in both.
fn python_float(text: &[u8]) -> Option<f64> {
    if text.len() > FLOAT_LIMIT {
        return None;
    }
    let text = std::str::from_utf8(text).ok()?.trim();
    if !text.contains('_') {
        return text.parse().ok();
    }
    let octets = text.as_bytes();
    let lonely = |at: usize| {
        let digit = |at: Option<usize>| at.and_then(|at| octets.get(at)).is_some_and(u8::is_ascii_digit);
        octets.get(at) == Some(&b'_') && !(digit(at.checked_sub(1)) && digit(Some(at + 1)))
    };
    if (0..octets.len()).any(lonely) {
        return None;
    }
    text.replace('_', "").parse().ok()
}

/// Judged by its ends: Python's `json.dumps` writes `NaN` and `Infinity`, which no other reader of JSON takes
fn looks_like_an_object(data: &[u8]) -> bool {
    let data = data.trim_ascii();
    data.len() >= 2 && data.starts_with(b"{") && data.ends_with(b"}")
}

/// Longer than any number that Python prints
const FLOAT_LIMIT: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(frames: [&'static str; 3]) -> Option<Option<f64>> {
        let mut body: Body = frames.into_iter().map(Bytes::from).collect();
        let timeout = take_timeout(&mut body).map(|timeout| timeout.map(|timeout| timeout.as_secs_f64()));
        let kept = &frames[frames.len() - body.len()..];
        assert_eq!(body.len(), if timeout.is_some() { 2 } else { 3 });
        assert!(body.iter().eq(kept.iter()));
        timeout
    }

    #[test]
    fn a_timeout_is_a_python_number_or_none() {
        for (text, seconds) in
            [("10", 10.0), ("2.5", 2.5), (" 1e3 ", 1000.0), ("1_000", 1000.0), (".5", 0.5), ("+5.", 5.0)]
        {
            assert_eq!(taken([text, "config.get", "{}"]), Some(Some(seconds)), "{text}");
        }
        for endless in ["None", "inf", "-Infinity", "nan", "0", "-1", "1e300"] {
            assert_eq!(taken([endless, "config.get", "{}"]), Some(None), "{endless}");
        }
        for other in ["", "none", "0x10", "1_", "_1", "1__0", "10s", "ten", "."] {
            assert_eq!(taken([other, "config.get", "{}"]), None, "{other:?}");
        }
    }

    #[test]
    fn a_number_of_a_plain_client_is_body() {
        assert_eq!(taken(["10", "20", "30"]), None);
        assert_eq!(taken(["10", "config.get", "[1]"]), None);
        assert_eq!(taken(["10", "config.get", "{\"a\": 1"]), None);
        assert_eq!(taken(["10", "config.get", "{"]), None);
        assert_eq!(taken(["10", "", "{}"]), None);
        assert_eq!(taken(["10", "a", " {\"id\": \"diskfree\"}\n"]), Some(Some(10.0)));
        for frames in [&["10"][..], &["10", "{}"], &["10", "a", "{}", "more"]] {
            let mut body: Body = frames.iter().copied().map(Bytes::from).collect();
            assert_eq!((take_timeout(&mut body), body.len()), (None, frames.len()));
        }
    }

    #[test]
    fn data_is_what_python_writes() {
        for data in ["{\"value\": NaN}", "{\"value\": -Infinity, \"of\": [Infinity]}", "\t{ }\r\n"] {
            assert_eq!(taken(["10", "sensor.set", data]), Some(Some(10.0)), "{data}");
        }
    }

    #[test]
    fn says_whole_seconds_without_a_fraction() {
        assert_eq!(timeout_frame(Some(Duration::from_secs(10))), "10");
        assert_eq!(timeout_frame(Some(Duration::from_millis(2500))), "2.5");
        assert_eq!(timeout_frame(None), "None");
    }
}

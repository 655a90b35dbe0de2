//! Durations and rates as people write them: `500ms`, `5s`, `1m30s`, `100/s`.

use std::time::Duration;

/// Reads a duration: numbers each followed by `us`, `ms`, `s`, `m`, `h` or `d`, or a plain `0`
///
/// # Errors
/// Says what is legal. A number without a unit is refused, because half of its readers would
/// take it for seconds and half for milliseconds.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    let wrong = || format!("'{text}' is not a duration: write a number and a unit, such as 500ms, 5s, 1m30s or 2h");
    let mut rest = text.trim();
    if rest == "0" {
        return Ok(Duration::ZERO);
    }
    if rest.is_empty() {
        return Err(wrong());
    }
    let mut total = Duration::ZERO;
    while !rest.is_empty() {
        let number_len = rest.find(|c: char| !c.is_ascii_digit() && c != '.').ok_or_else(wrong)?;
        let (number, after) = rest.split_at(number_len);
        let unit_len = after.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(after.len());
        let (unit, after) = after.split_at(unit_len);
        let seconds = match unit {
            "us" => 1e-6,
            "ms" => 1e-3,
            "s" => 1.0,
            "m" => 60.0,
            "h" => 3600.0,
            "d" => 86_400.0,
            _ => return Err(wrong()),
        };
        let number: f64 = number.parse().map_err(|_| wrong())?;
        let part = Duration::try_from_secs_f64(number * seconds).map_err(|_| wrong())?;
        total = total.checked_add(part).ok_or_else(wrong)?;
        rest = after;
    }
    Ok(total)
}

/// Reads a rate, `100/s`, `600/m`, `5/h` or `100` (a second), as the time between two messages
///
/// # Errors
/// Says what is legal; a rate of zero is not a rate.
pub(crate) fn rate(text: &str) -> Result<Duration, String> {
    let wrong = || format!("'{text}' is not a rate: write messages per second, such as 100/s, or 30/m");
    let (number, per) = text.trim().split_once('/').unwrap_or((text.trim(), "s"));
    let per = match per {
        "s" => 1.0,
        "m" => 60.0,
        "h" => 3600.0,
        _ => return Err(wrong()),
    };
    let number: f64 = number.parse().map_err(|_| wrong())?;
    if !number.is_finite() || number <= 0.0 {
        return Err(wrong());
    }
    Duration::try_from_secs_f64(per / number).map_err(|_| wrong())
}

/// Reads a size: octets, alone or with `KiB`, `MiB`, `GiB` or `TiB`
///
/// # Errors
/// Says what is legal.
pub(crate) fn octets(text: &str) -> Result<u64, String> {
    let wrong = || format!("'{text}' is not a size: write octets, or a number and a unit, such as 64MiB or 2GiB");
    let text = text.trim();
    let (number, unit) = text.split_at(text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len()));
    let factor = match unit.trim() {
        "" | "B" => 1,
        unit => {
            let power = OCTET_UNITS.iter().position(|known| *known == unit).ok_or_else(wrong)?;
            1 << (10 * (power as u64 + 1))
        }
    };
    number.parse::<u64>().ok().and_then(|number| number.checked_mul(factor)).ok_or_else(wrong)
}

/// A size as [`octets`] reads it, in the largest unit that is exact
pub(crate) fn display_octets(octets: u64) -> String {
    let whole = |power: &usize| octets != 0 && octets.is_multiple_of(1 << (10 * (power + 1)));
    match (0..OCTET_UNITS.len()).rev().find(whole) {
        Some(power) => format!("{}{}", octets >> (10 * (power + 1)), OCTET_UNITS[power]),
        None => octets.to_string(),
    }
}

const OCTET_UNITS: [&str; 4] = ["KiB", "MiB", "GiB", "TiB"];

/// A number and its noun: `1 message`, `2 messages`
pub(crate) fn count(number: u64, noun: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{number} {noun}{plural}")
}

/// A duration as a person would write it: `250ms`, `5s`, `1m30s`
pub(crate) fn display_duration(duration: Duration) -> String {
    let seconds = duration.as_secs();
    let micros = duration.subsec_micros();
    if seconds == 0 && micros == 0 {
        return "0".to_owned();
    }
    let mut text = String::new();
    for (size, unit) in [(86_400, "d"), (3600, "h"), (60, "m"), (1, "s")] {
        let above = if size == 86_400 { u64::MAX } else { size * if size == 3600 { 24 } else { 60 } };
        let count = seconds % above / size;
        if count > 0 {
            text.push_str(&format!("{count}{unit}"));
        }
    }
    match (micros / 1000, micros % 1000) {
        (0, 0) => {}
        (millis, 0) => text.push_str(&format!("{millis}ms")),
        _ => text.push_str(&format!("{micros}us")),
    }
    text
}

/// A duration that was measured, in no more digits than anybody reads: `376ms`, `10s`
pub(crate) fn display_about(duration: Duration) -> String {
    let step = match duration {
        duration if duration < Duration::from_millis(1) => Duration::from_micros(1),
        duration if duration < Duration::from_secs(1) => Duration::from_millis(1),
        duration if duration < Duration::from_secs(60) => Duration::from_millis(100),
        _ => Duration::from_secs(1),
    };
    let steps = (duration + step / 2).as_nanos() / step.as_nanos();
    display_duration(u32::try_from(steps).map_or(duration, |steps| step * steps))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_durations() {
        assert_eq!(duration("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(duration("1.5s"), Ok(Duration::from_millis(1500)));
        assert_eq!(duration("1m30s"), Ok(Duration::from_secs(90)));
        assert_eq!(duration("0"), Ok(Duration::ZERO));
    }

    #[test]
    fn refuses_what_is_not_a_duration() {
        for text in ["", "5", "s", "5x", "-1s", "1e400s", "99999999999999999999d", "1.2.3s"] {
            assert!(duration(text).is_err(), "{text:?} was accepted");
        }
    }

    #[test]
    fn prints_what_it_reads() {
        for text in ["500ms", "5s", "1m30s", "2h", "1d1h", "1s250ms", "0", "10us"] {
            assert_eq!(duration(text).map(display_duration), Ok(text.to_owned()));
        }
    }

    #[test]
    fn what_was_measured_is_rounded() {
        for (micros, expected) in [
            (376_077, "376ms"),
            (9_998_177, "10s"),
            (12, "12us"),
            (1_260_000, "1s300ms"),
            (61_400_000, "1m1s"),
            (0, "0"),
        ] {
            assert_eq!(display_about(Duration::from_micros(micros)), expected);
        }
    }

    #[test]
    fn sizes_are_printed_as_they_are_read() {
        for (text, expected) in [("0", 0), ("1023", 1023), ("64MiB", 64 << 20), ("1GiB", 1 << 30), ("3TiB", 3 << 40)] {
            assert_eq!(octets(text), Ok(expected));
            assert_eq!(display_octets(expected), text);
        }
        assert_eq!(octets(" 2 KiB "), Ok(2048));
        for text in ["", "MiB", "-1", "1.5GiB", "64MB", "99999999999TiB", "1 apple"] {
            assert!(octets(text).is_err(), "{text:?} was accepted");
        }
    }

    #[test]
    fn reads_rates() {
        assert_eq!(rate("100/s"), Ok(Duration::from_millis(10)));
        assert_eq!(rate("100"), Ok(Duration::from_millis(10)));
        assert_eq!(rate("30/m"), Ok(Duration::from_secs(2)));
        for text in ["0", "-1", "x", "5/d", "inf", "nan"] {
            assert!(rate(text).is_err(), "{text:?} was accepted");
        }
    }
}

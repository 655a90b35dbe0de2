//! Days and instants as certificates and people write them.

use std::time::{Duration, SystemTime};

use jiff::civil::Date;
use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan as _};

/// Reads a date or an instant: `2027-01-31` (the end of that day in UTC) or `2027-01-31T12:00:00Z`
///
/// # Errors
/// Says what is legal.
pub fn parse_date(text: &str) -> Result<SystemTime, String> {
    let text = text.trim();
    let wrong = || format!("'{text}' is not a date: write 2027-01-31 or 2027-01-31T12:00:00Z");
    if let Ok(instant) = text.parse::<Timestamp>() {
        return Ok(instant.into());
    }
    let day: Date = text.parse().map_err(|_| wrong())?;
    // "Expires on" a day means that the whole day is still good
    let next = day.checked_add(1.day()).map_err(|_| wrong())?;
    let start = next.to_zoned(TimeZone::UTC).map_err(|_| wrong())?;
    Ok(start.timestamp().into())
}

/// An instant as `2027-01-31T12:00:00Z`, whole seconds
pub fn display_date(instant: SystemTime) -> String {
    match Timestamp::try_from(instant) {
        Ok(instant) => format!("{:.0}", instant),
        Err(_) => "beyond the year 9999".to_owned(),
    }
}

/// How far away an end is, in words: `expires in 41 days`, `expired 2 days ago`
pub fn display_expiry(expires: SystemTime, now: SystemTime) -> String {
    match expires.duration_since(now) {
        Ok(left) if !left.is_zero() => format!("expires in {}", display_span(left)),
        Ok(_) => "expires now".to_owned(),
        Err(error) => format!("expired {} ago", display_span(error.duration())),
    }
}

/// A span in its largest fitting unit: `41 days`, `3 hours`, `1 minute`
fn display_span(span: Duration) -> String {
    let seconds = span.as_secs();
    let (count, unit) = match seconds {
        0..60 => (seconds, "second"),
        60..3600 => (seconds / 60, "minute"),
        3600..172_800 => (seconds / 3600, "hour"),
        _ => (seconds / 86_400, "day"),
    };
    format!("{count} {unit}{}", if count == 1 { "" } else { "s" })
}

/// One day
pub(crate) const DAY: Duration = Duration::from_secs(86_400);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_day_is_good_to_its_end() {
        let end = parse_date("2027-01-31").unwrap();
        assert_eq!(display_date(end), "2027-02-01T00:00:00Z");
        assert_eq!(parse_date("2027-01-31T12:00:00Z").map(display_date), Ok("2027-01-31T12:00:00Z".to_owned()));
        for wrong in ["", "soon", "2027-02-30", "31.1.2027", "9999-12-31"] {
            assert!(parse_date(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn expiry_in_words() {
        let now = parse_date("2027-01-31T12:00:00Z").unwrap();
        for (seconds, words) in [
            (41 * 86_400 + 5, "expires in 41 days"),
            (86_400, "expires in 24 hours"),
            (61, "expires in 1 minute"),
            (0, "expires now"),
        ] {
            assert_eq!(display_expiry(now + Duration::from_secs(seconds), now), words);
        }
        assert_eq!(display_expiry(now - 3 * DAY, now), "expired 3 days ago");
    }
}

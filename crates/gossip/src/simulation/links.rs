//! What the links of a simulated network do to messages: delay, loss, and as much as they can carry.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use super::random::Random;

/// What every link of the network is like, in each direction for itself
///
/// A link keeps its messages in order, as a connection does; what is lost is a whole message, which no connection
/// does. So loss stands for all that a queue at its limit, a reset or a crash takes away.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LinkModel {
    /// How long a message is under way
    pub latency: Latency,
    /// The share of messages that are lost, 0 to 1
    pub loss: f64,
    /// Octets a second in each direction; `None`: as many as there are
    pub bandwidth: Option<u64>,
    /// Octets that may wait for a link with a bandwidth; more is handed back to the sender
    pub queue: usize,
}

impl Default for LinkModel {
    fn default() -> Self {
        Self { latency: Latency::default(), loss: 0.0, bandwidth: None, queue: 4 << 20 }
    }
}

/// How long messages are under way
///
/// As text: `10ms`, `5ms..50ms` for any time between, `~20ms` for a log-normal distribution with that median,
/// whose slowest hundredth takes more than three times as long.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Latency {
    /// Always the same
    Fixed(Duration),
    /// Any between the two, evenly
    Uniform(Duration, Duration),
    /// Log-normal, deviation 0.5 of the logarithm, with that median: most near it, a few far above
    LogNormal(Duration),
}

impl Latency {
    /// The time of one message
    pub fn draw(self, random: &mut Random) -> Duration {
        match self {
            Self::Fixed(time) => time,
            Self::Uniform(least, most) => {
                least + Duration::from_secs_f64(most.saturating_sub(least).as_secs_f64() * random.fraction())
            }
            Self::LogNormal(median) => median.mul_f64((random.normal() * DEVIATION).exp()),
        }
    }

    /// The time of a message of the middle
    pub fn median(self) -> Duration {
        match self {
            Self::Fixed(time) | Self::LogNormal(time) => time,
            Self::Uniform(least, most) => (least + most) / 2,
        }
    }
}

impl Default for Latency {
    fn default() -> Self {
        Self::LogNormal(Duration::from_millis(20))
    }
}

impl fmt::Display for Latency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fixed(time) => write!(f, "{time:?}"),
            Self::Uniform(least, most) => write!(f, "{least:?}..{most:?}"),
            Self::LogNormal(median) => write!(f, "~{median:?}"),
        }
    }
}

impl FromStr for Latency {
    type Err = LatencyError;

    fn from_str(text: &str) -> Result<Self, LatencyError> {
        let wrong = || LatencyError { text: text.to_owned() };
        let time = |text: &str| time(text).ok_or_else(wrong);
        if let Some(median) = text.strip_prefix('~') {
            return time(median).map(Self::LogNormal);
        }
        match text.split_once("..") {
            Some((least, most)) => match (time(least)?, time(most)?) {
                (least, most) if least <= most => Ok(Self::Uniform(least, most)),
                _ => Err(wrong()),
            },
            None => time(text).map(Self::Fixed),
        }
    }
}

/// A text that is no latency
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("'{text}' is not a latency: write 10ms, 5ms..50ms for any between, or ~20ms for a long tail above the median")]
pub struct LatencyError {
    text: String,
}

/// `0`, or a number with `us`, `ms` or `s`, of at most an hour
fn time(text: &str) -> Option<Duration> {
    let text = text.trim();
    if text == "0" {
        return Some(Duration::ZERO);
    }
    let (number, unit) = text.split_at(text.find(|c: char| !c.is_ascii_digit() && c != '.')?);
    let seconds = match unit {
        "us" | "µs" => 1e-6,
        "ms" => 1e-3,
        "s" => 1.0,
        _ => return None,
    };
    let time = Duration::try_from_secs_f64(number.parse::<f64>().ok()? * seconds).ok()?;
    (time <= LONGEST).then_some(time)
}

/// Of the logarithm of a latency: the slowest hundredth takes e^(2.33 * 0.5) = 3.2 times as long as the median
const DEVIATION: f64 = 0.5;
const LONGEST: Duration = Duration::from_secs(3600);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn latencies_read_back_as_printed() {
        for text in ["10ms", "5ms..50ms", "~20ms", "500µs", "1.5s", "0ns..1ms"] {
            let printed = text.replace("0ns", "0");
            let latency: Latency = printed.parse().unwrap();
            assert_eq!(latency.to_string(), text);
        }
        for text in ["", "5", "ms", "50ms..5ms", "~", "2h", "1ms..", "-1ms", "99999s"] {
            assert!(text.parse::<Latency>().is_err(), "{text:?} was accepted");
        }
    }

    #[test]
    fn latencies_are_drawn_as_told() {
        let mut random = Random::seeded(7);
        let mut draw = |text: &str| {
            let latency: Latency = text.parse().unwrap();
            let mut drawn: Vec<Duration> = (0..10_001).map(|_| latency.draw(&mut random)).collect();
            drawn.sort();
            assert!(drawn[5000].abs_diff(latency.median()) < latency.median() / 20, "{text}: {:?}", drawn[5000]);
            (drawn[0], drawn[9900], drawn[10_000])
        };
        assert_eq!(draw("10ms"), (Duration::from_millis(10), Duration::from_millis(10), Duration::from_millis(10)));
        let (least, _, most) = draw("5ms..50ms");
        assert!(least >= Duration::from_millis(5) && most <= Duration::from_millis(50));
        let (_, slow, most) = draw("~20ms");
        assert!(slow > Duration::from_millis(50) && most < Duration::from_millis(420), "{slow:?} {most:?}");
    }
}

//! Why a request is refused: three digits, as HTTP and RFC 8 have them.

use std::fmt;

/// A status of three digits
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Status(u16);

impl Status {
    /// The request can't be read; sending it again won't help
    pub const MALFORMED: Self = Self(400);
    /// The access rules don't let this client call the service
    pub const NOT_PERMITTED: Self = Self(403);
    /// No worker is there for the service; try again when one may be
    pub const NO_SUCH_SERVICE: Self = Self(404);
    /// The idempotency key stands for another request
    pub const KEY_IN_USE: Self = Self(409);
    /// The body is larger than the broker takes
    pub const TOO_LARGE: Self = Self(413);
    /// Too many requests of this client are under way; wait for some to end
    pub const TOO_MANY: Self = Self(429);
    /// The client took the request back
    pub const CANCELLED: Self = Self(499);
    /// The worker failed at it
    pub const WORKER_FAILED: Self = Self(500);
    /// The broker has no such command (RFC 8)
    pub const NOT_IMPLEMENTED: Self = Self(501);
    /// The worker that had the request is gone, and the request may not or not again be given to another
    pub const WORKER_GONE: Self = Self(502);
    /// No room, or the broker or the service takes no more; try again later
    pub const UNAVAILABLE: Self = Self(503);
    /// The request's time is over
    pub const DEADLINE_PASSED: Self = Self(504);

    /// The statuses that a broker gives itself
    pub const ALL: [Self; 12] = [
        Self::MALFORMED,
        Self::NOT_PERMITTED,
        Self::NO_SUCH_SERVICE,
        Self::KEY_IN_USE,
        Self::TOO_LARGE,
        Self::TOO_MANY,
        Self::CANCELLED,
        Self::WORKER_FAILED,
        Self::NOT_IMPLEMENTED,
        Self::WORKER_GONE,
        Self::UNAVAILABLE,
        Self::DEADLINE_PASSED,
    ];

    /// A status from 100 to 999
    #[must_use]
    pub const fn new(code: u16) -> Option<Self> {
        match code {
            100..=999 => Some(Self(code)),
            _ => None,
        }
    }

    /// The status that three ASCII digits say
    #[must_use]
    pub fn from_digits(digits: &[u8]) -> Option<Self> {
        let [b'1'..=b'9', b'0'..=b'9', b'0'..=b'9'] = digits else { return None };
        Self::new(digits.iter().fold(0, |code, digit| code * 10 + u16::from(digit - b'0')))
    }

    /// The number
    #[must_use]
    pub const fn code(self) -> u16 {
        self.0
    }

    /// The three digits
    #[must_use]
    pub const fn digits(self) -> [u8; 3] {
        // A status is below 1000, so each is a digit
        [b'0' + (self.0 / 100) as u8, b'0' + (self.0 / 10 % 10) as u8, b'0' + (self.0 % 10) as u8]
    }

    /// What it means, in words; of a status that a worker made up, its kind
    #[must_use]
    pub const fn words(self) -> &'static str {
        match self.0 {
            400 => "malformed request",
            403 => "not permitted",
            404 => "no such service",
            409 => "idempotency key in use for another request",
            413 => "request too large",
            429 => "too many requests of this client",
            499 => "cancelled",
            500 => "worker failed",
            501 => "not implemented",
            502 => "worker gone",
            503 => "no room or draining",
            504 => "deadline passed",
            code if code < 400 => "no reply",
            code if code < 500 => "refused",
            _ => "failed",
        }
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.0, self.words())
    }
}

impl fmt::Debug for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Status({})", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_three_digits() {
        for code in 100..=999 {
            let status = Status::new(code).unwrap();
            assert_eq!(Status::from_digits(&status.digits()), Some(status));
        }
        for wrong in ["", "40", "4000", "099", "4x4", " 44"] {
            assert_eq!(Status::from_digits(wrong.as_bytes()), None, "{wrong}");
        }
        assert_eq!((Status::new(99), Status::new(1000)), (None, None));
        assert_eq!(Status::NO_SUCH_SERVICE.to_string(), "404 no such service");
    }

    #[test]
    fn every_status_of_a_broker_has_words_of_its_own() {
        let words: std::collections::HashSet<_> = Status::ALL.iter().map(|status| status.words()).collect();
        assert_eq!(words.len(), Status::ALL.len());
    }
}

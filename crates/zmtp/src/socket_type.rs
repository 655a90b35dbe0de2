//! Socket types: their names and numbers on the wire, and which of them may talk to which.

use std::{fmt, str::FromStr};

/// The messaging pattern an application's socket plays, as announced to every peer
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum SocketType {
    /// One exclusive peer, both ways
    Pair,
    /// Sends to every subscribed peer
    Pub,
    /// Receives what it subscribed to
    Sub,
    /// Asks, then awaits the answer
    Req,
    /// Answers what it was asked
    Rep,
    /// Sends round-robin, receives fairly queued
    Dealer,
    /// Addresses peers by routing id
    Router,
    /// Receives from pushing peers
    Pull,
    /// Sends round-robin to pulling peers
    Push,
    /// A publisher that sees its peers' subscriptions
    Xpub,
    /// A subscriber that sends its subscriptions as messages
    Xsub,
    /// Raw octets to and from peers that don't speak ZMTP; never announced on the wire
    Stream,
    /// Addresses CLIENTs by a number (RFC 41)
    Server,
    /// Sends round-robin to SERVERs (RFC 41)
    Client,
    /// Sends to every peer that joined the group (RFC 48)
    Radio,
    /// Receives the groups it joined (RFC 48)
    Dish,
    /// Receives from scattering peers (RFC 49)
    Gather,
    /// Sends round-robin to gathering peers (RFC 49)
    Scatter,
    /// Addresses its like by a number (RFC 51)
    Peer,
    /// One exclusive peer, both ways (RFC 52)
    Channel,
}

impl SocketType {
    /// Every socket type, in the order of their numbers
    pub const ALL: [Self; 20] = [
        Self::Pair,
        Self::Pub,
        Self::Sub,
        Self::Req,
        Self::Rep,
        Self::Dealer,
        Self::Router,
        Self::Pull,
        Self::Push,
        Self::Xpub,
        Self::Xsub,
        Self::Stream,
        Self::Server,
        Self::Client,
        Self::Radio,
        Self::Dish,
        Self::Gather,
        Self::Scatter,
        Self::Peer,
        Self::Channel,
    ];

    /// The name on the wire, in capitals (RFC 23, "The Socket-Type Property")
    pub const fn name(self) -> &'static str {
        match self {
            Self::Pair => "PAIR",
            Self::Pub => "PUB",
            Self::Sub => "SUB",
            Self::Req => "REQ",
            Self::Rep => "REP",
            Self::Dealer => "DEALER",
            Self::Router => "ROUTER",
            Self::Pull => "PULL",
            Self::Push => "PUSH",
            Self::Xpub => "XPUB",
            Self::Xsub => "XSUB",
            Self::Stream => "STREAM",
            Self::Server => "SERVER",
            Self::Client => "CLIENT",
            Self::Radio => "RADIO",
            Self::Dish => "DISH",
            Self::Gather => "GATHER",
            Self::Scatter => "SCATTER",
            Self::Peer => "PEER",
            Self::Channel => "CHANNEL",
        }
    }

    /// The number in a 2.0 greeting (RFC 15, "Greeting") and in `zmq.h`
    ///
    /// XPUB and XSUB announce themselves as 9 and 10 like libzmq; RFC 15 would have them say PUB and SUB.
    pub const fn octet(self) -> u8 {
        match self {
            Self::Pair => 0,
            Self::Pub => 1,
            Self::Sub => 2,
            Self::Req => 3,
            Self::Rep => 4,
            Self::Dealer => 5,
            Self::Router => 6,
            Self::Pull => 7,
            Self::Push => 8,
            Self::Xpub => 9,
            Self::Xsub => 10,
            Self::Stream => 11,
            Self::Server => 12,
            Self::Client => 13,
            Self::Radio => 14,
            Self::Dish => 15,
            Self::Gather => 16,
            Self::Scatter => 17,
            // 18 is libzmq's DGRAM, which never meets a peer of ZMTP
            Self::Peer => 19,
            Self::Channel => 20,
        }
    }

    /// The type of that name, whatever its case
    pub fn from_name(name: &[u8]) -> Option<Self> {
        let named = |kind: &Self| kind.name().as_bytes().eq_ignore_ascii_case(name);
        Self::ALL.into_iter().find(named)
    }

    /// The type of that number
    pub fn from_octet(octet: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.octet() == octet)
    }

    /// Whether a peer of type `peer` makes sense to a socket of this type
    ///
    /// RFC 23, "The Socket-Type Property", has the table. The relation is symmetric, and STREAM accepts nobody:
    /// its peers don't speak ZMTP.
    pub const fn accepts(self, peer: Self) -> bool {
        use SocketType::*;
        match self {
            Pair => matches!(peer, Pair),
            Pub | Xpub => matches!(peer, Sub | Xsub),
            Sub | Xsub => matches!(peer, Pub | Xpub),
            Req => matches!(peer, Rep | Router),
            Rep => matches!(peer, Req | Dealer),
            Dealer => matches!(peer, Rep | Dealer | Router),
            Router => matches!(peer, Req | Dealer | Router),
            Pull => matches!(peer, Push),
            Push => matches!(peer, Pull),
            Stream => false,
            Server => matches!(peer, Client),
            Client => matches!(peer, Server),
            Radio => matches!(peer, Dish),
            Dish => matches!(peer, Radio),
            Gather => matches!(peer, Scatter),
            Scatter => matches!(peer, Gather),
            Peer => matches!(peer, Self::Peer),
            Channel => matches!(peer, Channel),
        }
    }

    /// Whether peers send subscriptions to a socket of this type
    pub(crate) const fn takes_subscriptions(self) -> bool {
        matches!(self, Self::Pub | Self::Xpub)
    }

    /// Whether peers tell a socket of this type which groups they join
    pub(crate) const fn takes_groups(self) -> bool {
        matches!(self, Self::Radio)
    }

    /// Whether this type tells its peers a routing id, even an empty one
    ///
    /// RFC 23, "The Identity Property": "REQ, DEALER and ROUTER"; what libzmq sends.
    pub(crate) const fn announces_routing_id(self) -> bool {
        matches!(self, Self::Req | Self::Dealer | Self::Router)
    }
}

impl fmt::Display for SocketType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for SocketType {
    type Err = UnknownSocketType;

    fn from_str(text: &str) -> Result<Self, UnknownSocketType> {
        Self::from_name(text.as_bytes()).ok_or_else(|| UnknownSocketType::new(text))
    }
}

/// No socket type has that name; the message suggests the nearest, or lists all
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no socket type is called {name:?}; {hint}")]
pub struct UnknownSocketType {
    /// What was asked for, cut to 64 characters
    pub name: String,
    /// The type that was probably meant
    pub nearest: Option<SocketType>,
    hint: String,
}

impl UnknownSocketType {
    fn new(text: &str) -> Self {
        let name: String = text.chars().take(64).collect();
        let capitals = name.to_ascii_uppercase();
        let distance = |kind: &SocketType| strsim::damerau_levenshtein(kind.name(), &capitals);
        let nearest = SocketType::ALL.into_iter().min_by_key(distance).filter(|kind| distance(kind) <= 2);
        let hint = match nearest {
            Some(kind) => format!("did you mean {kind}?"),
            None => format!("choose one of {}", SocketType::ALL.map(SocketType::name).join(", ")),
        };
        Self { name, nearest, hint }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_octets_lead_back() {
        for kind in SocketType::ALL {
            assert_eq!(SocketType::from_name(kind.name().as_bytes()), Some(kind));
            assert_eq!(SocketType::from_octet(kind.octet()), Some(kind));
            assert_eq!(kind.name().to_lowercase().parse(), Ok(kind));
        }
        assert_eq!(SocketType::from_octet(18), None);
        assert_eq!(SocketType::from_name(b"DGRAM"), None);
    }

    #[test]
    fn compatibility_is_symmetric_and_complete() {
        let mut pairs = Vec::new();
        for one in SocketType::ALL {
            for other in SocketType::ALL {
                assert_eq!(one.accepts(other), other.accepts(one), "{one} and {other}");
                if one <= other && one.accepts(other) {
                    pairs.push(format!("{one}-{other}"));
                }
            }
        }
        let expected = "PAIR-PAIR PUB-SUB PUB-XSUB SUB-XPUB REQ-REP REQ-ROUTER REP-DEALER DEALER-DEALER \
                        DEALER-ROUTER ROUTER-ROUTER PULL-PUSH XPUB-XSUB SERVER-CLIENT RADIO-DISH GATHER-SCATTER \
                        PEER-PEER CHANNEL-CHANNEL";
        assert_eq!(pairs.join(" "), expected);
    }

    #[test]
    fn an_unknown_name_is_answered_with_the_nearest() {
        let error = "delaer".parse::<SocketType>().unwrap_err();
        assert_eq!(error.to_string(), "no socket type is called \"delaer\"; did you mean DEALER?");
        let error = "telephone".parse::<SocketType>().unwrap_err();
        assert_eq!(error.nearest, None);
        assert!(error.to_string().contains("choose one of PAIR, PUB, SUB"), "{error}");
    }
}

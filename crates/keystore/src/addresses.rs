//! Which addresses may come in: ranges, of which the denied ones win.

use std::net::IpAddr;

use ipnet::IpNet;

/// Allowed and denied ranges
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct AddressRules {
    /// If there are any, nobody else may come
    pub allow: Vec<IpNet>,
    /// May never come, allowed or not
    pub deny: Vec<IpNet>,
}

/// What the rules say of an address
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum AddressVerdict {
    Allowed,
    /// It is in a denied range
    Denied(IpNet),
    /// There are allowed ranges, and it is in none
    NotAllowed,
}

impl AddressRules {
    /// Judges an address; an IPv4 one that came through an IPv6 socket is an IPv4 one
    pub(crate) fn judge(&self, address: IpAddr) -> AddressVerdict {
        let address = address.to_canonical();
        match self.deny.iter().find(|range| range.contains(&address)) {
            Some(range) => AddressVerdict::Denied(*range),
            None if self.allow.is_empty() || self.allow.iter().any(|range| range.contains(&address)) => {
                AddressVerdict::Allowed
            }
            None => AddressVerdict::NotAllowed,
        }
    }
}

/// Reads `192.0.2.0/24`, `2001:db8::/32` or a single address
///
/// # Errors
/// Says what is legal.
pub(crate) fn parse_range(text: &str) -> Result<IpNet, String> {
    let range = text.parse::<IpNet>().or_else(|_| text.parse::<IpAddr>().map(IpNet::from));
    let range =
        range.map_err(|_| format!("'{text}' is no address range: write 192.0.2.0/24, 2001:db8::/32 or 192.0.2.7"))?;
    if range.trunc() != range {
        return Err(format!("'{text}' has bits beyond its length: write {}", range.trunc()));
    }
    Ok(range)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(allow: &[&str], deny: &[&str]) -> AddressRules {
        let ranges = |texts: &[&str]| texts.iter().map(|text| parse_range(text).unwrap()).collect();
        AddressRules { allow: ranges(allow), deny: ranges(deny) }
    }

    #[test]
    fn denied_ranges_win_and_an_allow_list_is_exclusive() {
        let both = rules(&["10.0.0.0/8", "2001:db8::/32"], &["10.7.0.0/16"]);
        for (address, expected) in [
            ("10.1.2.3", AddressVerdict::Allowed),
            ("::ffff:10.1.2.3", AddressVerdict::Allowed),
            ("10.7.2.3", AddressVerdict::Denied(parse_range("10.7.0.0/16").unwrap())),
            ("::ffff:10.7.2.3", AddressVerdict::Denied(parse_range("10.7.0.0/16").unwrap())),
            ("192.0.2.1", AddressVerdict::NotAllowed),
            ("2001:db8::1", AddressVerdict::Allowed),
        ] {
            assert_eq!(both.judge(address.parse().unwrap()), expected, "{address}");
        }
        assert_eq!(rules(&[], &["10.7.0.0/16"]).judge("192.0.2.1".parse().unwrap()), AddressVerdict::Allowed);
        assert_eq!(rules(&[], &[]).judge("::1".parse().unwrap()), AddressVerdict::Allowed);
    }

    #[test]
    fn ranges_are_written_without_spare_bits() {
        assert_eq!(parse_range("192.0.2.7").unwrap().to_string(), "192.0.2.7/32");
        assert!(parse_range("192.0.2.7/24").unwrap_err().contains("192.0.2.0/24"));
        for wrong in ["", "192.0.2", "10.0.0.0/33", "host"] {
            assert!(parse_range(wrong).is_err(), "{wrong}");
        }
    }
}

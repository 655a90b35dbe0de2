//! Who may call and who may offer a service: `ROLE SERVICE`; who may publish which tuples: `ROLE KEY`.
//!
//! The keystore says who somebody is; these rules say what follows from it.

use std::fmt;
use std::str::FromStr;

/// One role, and the services that are open to it
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct AccessRule {
    who: Who,
    /// The name, or its beginning
    service: String,
    /// Whether any ending may follow
    open: bool,
}

#[derive(Clone, Debug, Eq, PartialEq)]
enum Who {
    /// `*`
    Anyone,
    /// Whoever was let in without a key, a certificate or a password
    Anonymous,
    Role(String),
}

impl AccessRule {
    /// Whether somebody with these roles, or nobody in particular, may
    pub(crate) fn allows<'a>(&self, roles: Option<impl IntoIterator<Item = &'a str>>, service: &[u8]) -> bool {
        let name = self.service.as_bytes();
        (if self.open { service.starts_with(name) } else { service == name }) && self.is_for(roles)
    }

    /// Whether the same may have all names that begin so: which a rule of one name doesn't give, even of that very one
    pub(crate) fn allows_all<'a>(&self, roles: Option<impl IntoIterator<Item = &'a str>>, beginning: &[u8]) -> bool {
        self.open && beginning.starts_with(self.service.as_bytes()) && self.is_for(roles)
    }

    fn is_for<'a>(&self, roles: Option<impl IntoIterator<Item = &'a str>>) -> bool {
        match (&self.who, roles) {
            (Who::Anyone, _) => true,
            (Who::Anonymous, roles) => roles.is_none(),
            (Who::Role(role), Some(roles)) => roles.into_iter().any(|own| own == role),
            (Who::Role(_), None) => false,
        }
    }
}

impl FromStr for AccessRule {
    type Err = (String, Option<String>);

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let wrong = || {
            let hint = "write a role and a name, such as \"operator dbmanager\", \"sensor weather.*\" or \"* echo\"";
            (format!("'{text}' is not a rule"), Some(hint.to_owned()))
        };
        let (who, service) = text.trim().split_once(char::is_whitespace).ok_or_else(wrong)?;
        let service = service.trim();
        let who = match who {
            "*" => Who::Anyone,
            ANONYMOUS => Who::Anonymous,
            role => Who::Role(role.to_owned()),
        };
        let (service, open) = service.strip_suffix('*').map_or((service, false), |begin| (begin, true));
        Ok(Self { who, service: service.to_owned(), open })
    }
}

impl fmt::Display for AccessRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let who = match &self.who {
            Who::Anyone => "*",
            Who::Anonymous => ANONYMOUS,
            Who::Role(role) => role,
        };
        write!(f, "{who} {}{}", self.service, if self.open { "*" } else { "" })
    }
}

/// The keystore's word for peers without a key
const ANONYMOUS: &str = "anonymous";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rule_opens_services_to_a_role() {
        let allows = |rule: &str, roles: Option<&[&str]>, service: &str| {
            let rule: AccessRule = rule.parse().unwrap();
            rule.allows(roles.map(|roles| roles.iter().copied()), service.as_bytes())
        };
        for (rule, roles, service, expected) in [
            ("operator dbmanager", Some(&["sensor", "operator"][..]), "dbmanager", true),
            ("operator dbmanager", Some(&["operator"]), "dbmanager2", false),
            ("operator dbmanager", Some(&["sensor"]), "dbmanager", false),
            ("operator dbmanager", None, "dbmanager", false),
            ("operator host.*", Some(&["operator"]), "host.rest", true),
            ("operator *", Some(&["operator"]), "", true),
            ("anonymous echo", None, "echo", true),
            ("anonymous echo", Some(&["operator"]), "echo", false),
            ("* echo", None, "echo", true),
            ("* echo", Some(&[]), "echo", true),
        ] {
            assert_eq!(allows(rule, roles, service), expected, "{rule}, {roles:?}, {service}");
        }
    }

    #[test]
    fn rules_are_printed_as_they_are_read() {
        for text in ["operator dbmanager", "* host.*", "anonymous *"] {
            assert_eq!(text.parse::<AccessRule>().unwrap().to_string(), text);
        }
        for text in ["", "operator", "*"] {
            assert!(text.parse::<AccessRule>().is_err(), "{text:?} was accepted");
        }
    }
}

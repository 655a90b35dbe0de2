//! Who may call, offer and drain services: the rules of the configuration, asked about a connection.

use std::net::SocketAddr;
use std::sync::{Mutex, PoisonError, RwLock};
use std::time::Instant;

use tidings::Origin;
use tidings_majordomo::broker::Access;
use tidings_majordomo::wire::ServiceName;

use super::lifecycle::LineBudget;
use crate::config::{AccessRule, Settings};

/// The rules in force; a reload exchanges them
#[derive(Debug)]
pub(super) struct Rules {
    rules: RwLock<Lists>,
    /// Lines about those who may not
    budget: Mutex<LineBudget>,
}

#[derive(Debug, Default)]
struct Lists {
    call: Vec<AccessRule>,
    work: Vec<AccessRule>,
}

/// What is known of who asks
#[derive(Clone, Copy, Debug)]
struct Caller<'a> {
    /// The roles of somebody whom the keystore knows
    roles: Option<&'a str>,
    /// Whether the connection comes from this host
    is_local: bool,
}

impl Rules {
    pub(super) fn new(settings: &Settings) -> Self {
        let rules = Self { rules: RwLock::default(), budget: Mutex::new(LineBudget::new(Instant::now())) };
        rules.change(settings);
        rules
    }

    /// Decides by other rules from now on
    pub(super) fn change(&self, settings: &Settings) {
        let lists = Lists { call: settings.service_call.value.clone(), work: settings.service_work.value.clone() };
        *self.rules.write().unwrap_or_else(PoisonError::into_inner) = lists;
    }

    /// Whether the peer at the other end of a connection may
    pub(super) fn may(&self, origin: &Origin, access: Access, service: &ServiceName) -> bool {
        let roles = roles_of(origin);
        let may = self.judge(Caller { roles, is_local: is_local(&origin.address) }, access, service.as_bytes());
        // The broker itself tells of workers that it turned away
        if !may && access != Access::Work {
            self.note(origin, access, service);
        }
        may
    }

    /// Says who may not do what; the counters have the rest
    fn note(&self, origin: &Origin, access: Access, service: &ServiceName) {
        let (allowed, withheld) = self.budget.lock().unwrap_or_else(PoisonError::into_inner).take(Instant::now());
        if withheld > 0 {
            tracing::warn!(lines = withheld, "more were not permitted; the metrics count them all");
        }
        if allowed {
            let what = if access == Access::Call { "call" } else { "drain" };
            let user = origin.user_id.escape_ascii();
            tracing::warn!(event = "not-permitted", peer = %origin.address, %user, what, %service, "a peer may not do that");
        }
    }

    fn judge(&self, caller: Caller<'_>, access: Access, service: &[u8]) -> bool {
        let lists = self.rules.read().unwrap_or_else(PoisonError::into_inner);
        let allowed = |rules: &[AccessRule], service: &[u8]| allows(rules, caller.roles, service);
        let has_rules = !(lists.call.is_empty() && lists.work.is_empty());
        match access {
            // Without rules nobody from elsewhere may end what others rely on
            Access::Administer if !has_rules => caller.is_local,
            Access::Call | Access::Work if !has_rules => true,
            Access::Call => allowed(&lists.call, service),
            Access::Work => allowed(&lists.work, service),
            Access::Administer => allowed(&lists.call, DRAIN),
        }
    }
}

/// The roles of the peer at the other end of a connection, if the keystore knows it
pub(super) fn roles_of(origin: &Origin) -> Option<&str> {
    // Only whom the authenticator has named has roles: a name of its own makes nobody somebody
    let known = !origin.user_id.is_empty();
    let roles = origin.property("Roles").filter(|_| known).and_then(|roles| std::str::from_utf8(roles).ok());
    if known { Some(roles.unwrap_or_default()) } else { None }
}

/// Whether one of the rules allows that to somebody with these roles
pub(super) fn allows(rules: &[AccessRule], roles: Option<&str>, what: &[u8]) -> bool {
    rules.iter().any(|rule| rule.allows(each(roles), what))
}

/// Whether one of the rules allows all that begins so
pub(super) fn allows_all(rules: &[AccessRule], roles: Option<&str>, beginning: &[u8]) -> bool {
    rules.iter().any(|rule| rule.allows_all(each(roles), beginning))
}

fn each(roles: Option<&str>) -> Option<impl Iterator<Item = &str>> {
    roles.map(|roles| roles.split(',').filter(|role| !role.is_empty()))
}

/// Whether an address, as events show it, is on this host
fn is_local(address: &str) -> bool {
    match address.parse::<SocketAddr>() {
        Ok(address) => address.ip().to_canonical().is_loopback(),
        Err(_) => address.starts_with("ipc"),
    }
}

/// What is called to drain a service
const DRAIN: &[u8] = b"mmi.drain";

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(call: &str, work: &str) -> Rules {
        let mut sources = crate::config::Sources::default();
        sources.flag("--set", "service.call", call);
        sources.flag("--set", "service.work", work);
        Rules::new(&sources.load().unwrap())
    }

    const LOCAL: Caller<'_> = Caller { roles: None, is_local: true };
    const REMOTE: Caller<'_> = Caller { roles: None, is_local: false };
    const OPERATOR: Caller<'_> = Caller { roles: Some("sensor,operator"), is_local: false };

    #[test]
    fn without_rules_all_that_were_let_in_may_but_only_this_host_drains() {
        let rules = rules("", "");
        for caller in [LOCAL, REMOTE, OPERATOR] {
            assert!(rules.judge(caller, Access::Call, b"x") && rules.judge(caller, Access::Work, b"x"));
        }
        assert!(rules.judge(LOCAL, Access::Administer, b"x"));
        assert!(!rules.judge(REMOTE, Access::Administer, b"x") && !rules.judge(OPERATOR, Access::Administer, b"x"));
    }

    #[test]
    fn with_rules_only_what_they_allow() {
        let rules = rules("operator db*,* echo,operator mmi.drain", "operator *");
        assert!(rules.judge(OPERATOR, Access::Call, b"dbmanager") && rules.judge(REMOTE, Access::Call, b"echo"));
        assert!(!rules.judge(LOCAL, Access::Call, b"dbmanager") && !rules.judge(LOCAL, Access::Work, b"echo"));
        assert!(rules.judge(OPERATOR, Access::Work, b"dbmanager"));
        assert!(rules.judge(OPERATOR, Access::Administer, b"x") && !rules.judge(LOCAL, Access::Administer, b"x"));
        assert!(!rules.judge(Caller { roles: Some(""), is_local: true }, Access::Call, b"dbmanager"));
    }

    #[test]
    fn rules_of_one_kind_leave_nothing_else_open() {
        let callers = [LOCAL, REMOTE, OPERATOR];
        let (called, worked) = (rules("operator *", ""), rules("", "operator *"));
        for caller in callers {
            assert!(!called.judge(caller, Access::Work, b"x"), "{caller:?}");
            assert!(!worked.judge(caller, Access::Call, b"x"), "{caller:?}");
            assert!(!worked.judge(caller, Access::Administer, b"x"), "{caller:?}");
        }
        assert!(called.judge(OPERATOR, Access::Call, b"x") && worked.judge(OPERATOR, Access::Work, b"x"));
    }

    #[test]
    fn this_host_is_told_by_the_address() {
        for (address, expected) in [
            ("127.0.0.1:4", true),
            ("[::1]:4", true),
            ("[::ffff:127.0.0.1]:4", true),
            ("ipc pid 4 uid 0", true),
            ("192.0.2.1:4", false),
            ("unknown (already disconnected)", false),
        ] {
            assert_eq!(is_local(address), expected, "{address}");
        }
    }
}

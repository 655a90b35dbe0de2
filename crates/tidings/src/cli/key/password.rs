//! `tidings key password`: the line of a PLAIN user, so that the file need not hold what the user types.

use std::io::{BufRead as _, IsTerminal as _, Read as _, Write as _};

use clap::Args;
use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr};
use serde_json::json;
use tidings_keystore::hash_password;
use zeroize::Zeroizing;

use super::make::{Roles, parse_roles_arg};
use crate::cli::{Failure, Talk, printed};

/// What `key password` is given
#[derive(Args, Debug)]
pub(crate) struct PasswordArgs {
    /// The user's name
    user: String,
    /// The user's roles
    #[arg(long, value_name = "ROLE,…", value_parser = parse_roles_arg)]
    roles: Option<Roles>,
}

/// `tidings key password USER`: the password is the first line of stdin, so that no process list shows it
///
/// # Errors
/// There is none, or one that PLAIN can't carry.
pub(crate) fn run(args: &PasswordArgs, talk: Talk) -> Result<(), Failure> {
    if args.user.is_empty() || args.user.len() > LIMIT {
        return Err(Failure::usage("a user's name has 1 to 255 octets (RFC 24)"));
    }
    let password = read()?;
    if password.is_empty() || password.len() > LIMIT {
        return Err(Failure::usage("a password has 1 to 255 octets (RFC 24)").hint("type it, or give it on stdin"));
    }
    let hash =
        hash_password(&password).map_err(|error| Failure::usage(format!("no random octets for the salt: {error}")))?;
    let roles = args.roles.clone().unwrap_or_default().0;
    printed(if talk.json {
        talk.data(json!({ "ok": true, "user": args.user, "password_hash": hash, "roles": roles }))
    } else {
        let list: Vec<String> = roles.iter().map(|role| format!("{role:?}")).collect();
        let roles = if list.is_empty() { String::new() } else { format!("\nroles = [{}]", list.join(", ")) };
        let user = toml::Value::from(args.user.clone());
        talk.data(format_args!("[users.{user}]\npassword-hash = \"{hash}\"{roles}"))
    })
    .map(|_| ())
}

fn read() -> Result<Zeroizing<String>, Failure> {
    let stdin = std::io::stdin();
    let _quiet = if stdin.is_terminal() {
        write!(std::io::stderr(), "Password: ").and_then(|()| std::io::stderr().flush()).ok();
        Echo::off()
    } else {
        None
    };
    let mut line = Zeroizing::new(String::with_capacity(LIMIT + 2));
    let read = stdin.lock().take(LIMIT as u64 + 2).read_line(&mut line);
    read.map_err(|error| Failure::usage(format!("can't read the password: {error}")))?;
    Ok(Zeroizing::new(line.trim_end_matches(['\n', '\r']).to_owned()))
}

/// A terminal that shows nothing of what is typed until this is dropped
struct Echo(Termios);

impl Echo {
    fn off() -> Option<Self> {
        let before = tcgetattr(std::io::stdin()).ok()?;
        let mut quiet = before.clone();
        quiet.local_modes.remove(LocalModes::ECHO);
        tcsetattr(std::io::stdin(), OptionalActions::Flush, &quiet).ok()?;
        Some(Self(before))
    }
}

impl Drop for Echo {
    fn drop(&mut self) {
        tcsetattr(std::io::stdin(), OptionalActions::Now, &self.0).ok();
        writeln!(std::io::stderr()).ok();
    }
}

/// RFC 24: both have a length of one octet
const LIMIT: usize = 255;

pub(super) const EXAMPLES: &str = "\
Examples:
  tidings key password alice --roles operator >> access.toml
  printf %s \"$PASSWORD\" | tidings key password alice";

//! `tidings key`: the keys of this node, and the keys that it trusts.
//!
//! What a keystore is, and what each change does to it, is the keystore crate's affair; here it is asked for and shown.

mod export;
mod list;
mod make;
mod password;
mod place;
mod show;
mod trust;

use clap::Subcommand;

use super::{Failure, Talk};

/// The verbs
#[derive(Debug, Subcommand)]
pub(crate) enum Key {
    /// Make a key pair, or two keystores that trust each other
    #[command(after_help = make::NEW)]
    New(make::NewArgs),
    /// Show a key: fingerprint, picture, roles, expiry; never the secret
    #[command(after_help = show::EXAMPLES)]
    Show(show::ShowArgs),
    /// List all keys and certificates
    #[command(after_help = list::EXAMPLES)]
    Ls(list::ListArgs),
    /// Trust a peer's public key, or its TLS certificate
    #[command(after_help = trust::TRUST)]
    Trust(trust::TrustArgs),
    /// Never let a peer in again by the keys that it has
    #[command(after_help = trust::REVOKE)]
    Revoke(trust::RevokeArgs),
    /// Make the successor of a key; the old one stays in use for a while
    #[command(after_help = make::ROTATE)]
    Rotate(make::RotateArgs),
    /// Print a key for others, or, if asked twice, its secret
    #[command(after_help = export::EXAMPLES)]
    Export(export::ExportArgs),
    /// Print the line of a PLAIN user for access.toml, with the password hashed
    #[command(after_help = password::EXAMPLES)]
    Password(password::PasswordArgs),
}

/// Does what a `key` command says
///
/// # Errors
/// With the exit code that fits.
pub(crate) fn run(key: Key, talk: Talk) -> Result<(), Failure> {
    match key {
        Key::New(args) => make::new(args, talk),
        Key::Show(args) => show::run(&args, talk),
        Key::Ls(args) => list::run(&args, talk),
        Key::Trust(args) => trust::trust(&args, talk),
        Key::Revoke(args) => trust::revoke(&args, talk),
        Key::Rotate(args) => make::rotate(&args, talk),
        Key::Export(args) => export::run(&args, talk),
        Key::Password(args) => password::run(&args, talk),
    }
}

pub(crate) const EXAMPLES: &str = "\
Examples:
  tidings key new --pair hub north     two keystores that trust each other: hub-keys and north-keys
  tidings key new                      a key for this host
  tidings key show                     its fingerprint, to compare by eye or on the telephone
  tidings key trust north.key          let its owner in
  tidings key ls                       all keys, and when they end
  tidings key rotate hub               a successor, with time for everyone to trust it";

//! `tidings key trust` and `tidings key revoke`: who is let in, and who never again.

use std::io::{BufRead as _, IsTerminal as _, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use clap::Args;
use serde_json::json;
use tidings_keystore::{Certificate, CurvePublicKey, Fingerprint, KeyName, KeystoreError, PemCertificate};

use super::make::{Roles, parse_roles_arg};
use super::place::{self, Place, failure};
use super::show::Entry;
use crate::cli::{Exit, Failure, Talk, printed};

/// What `key trust` is given
#[derive(Args, Debug)]
pub(crate) struct TrustArgs {
    /// A public certificate (NAME.key), a TLS certificate (NAME.crt), the 40 characters of a key, NAME=KEY, or - for a
    /// certificate on stdin
    #[arg(value_name = "FILE|KEY")]
    what: String,
    /// What its owner is called here [default: the file's name]
    #[arg(long, value_parser = place::name)]
    name: Option<KeyName>,
    /// The roles to grant; what the owner asks for is shown, and granted only if named here
    #[arg(long, value_name = "ROLE,…", value_parser = parse_roles_arg)]
    roles: Option<Roles>,
    /// Until when to trust it: a date, or a time from now such as 365d [default: as its owner says]
    #[arg(long, value_name = "END", value_parser = place::end)]
    expires: Option<SystemTime>,
    /// Trust it besides the key that this name has; the old one for the grace period yet
    #[arg(long)]
    replace: bool,
    /// With --replace: how long the old key is trusted after the new one comes into use
    #[arg(long, value_name = "DURATION", value_parser = place::grace, default_value = "1d", requires = "replace")]
    grace: Duration,
    /// Trust it only if it has this fingerprint: the words or the hexadecimal digits
    #[arg(long, value_name = "WORDS|HEX")]
    fingerprint: Option<String>,
    /// Trust it without being asked whether the fingerprint is right
    #[arg(long, short)]
    yes: bool,
    #[command(flatten)]
    place: Place,
}

/// What `key revoke` is given
#[derive(Args, Debug)]
pub(crate) struct RevokeArgs {
    /// Whose keys
    #[arg(value_parser = place::name)]
    name: KeyName,
    /// Why, for our own log
    #[arg(long, value_name = "TEXT", default_value = "")]
    reason: String,
    #[command(flatten)]
    place: Place,
}

/// What is to be trusted
enum Offer {
    Curve(Box<Certificate>),
    Tls(PathBuf, Box<PemCertificate>),
}

/// `tidings key trust FILE|KEY`
///
/// # Errors
/// It is no key, has another fingerprint, or is not confirmed; the name or the key is taken.
pub(crate) fn trust(args: &TrustArgs, talk: Talk) -> Result<(), Failure> {
    let (offer, called) = offer(&args.what)?;
    let name = match (&args.name, called) {
        (Some(name), _) => name.clone(),
        (None, Some(name)) => name,
        (None, None) => return Err(Failure::usage("what is its owner to be called?").hint("say it with --name NAME")),
    };
    let fingerprint = match &offer {
        Offer::Curve(certificate) => certificate.fingerprint(),
        Offer::Tls(_, certificate) => certificate.fingerprint,
    };
    confirm(args, &offer, &name, fingerprint, talk)?;
    let keystore = args.place.create()?;
    let now = SystemTime::now();
    let entry = match offer {
        Offer::Curve(certificate) => {
            let roles = args.roles.clone().unwrap_or_default().0;
            let grace = args.replace.then_some(args.grace);
            let key = keystore.trust(&certificate, &name, roles, args.expires, grace).map_err(failure)?;
            let asked = certificate.wished_roles().into_iter().filter(|role| !key.roles.contains(role));
            let asked: Vec<String> = asked.collect();
            if !asked.is_empty() {
                let roles = asked.join(",");
                talk.say(format_args!("it asks for roles that it was not given: {roles}; --roles {roles} grants them"));
            }
            Entry::trusted(&key, now)
        }
        Offer::Tls(path, _) => {
            if args.expires.is_some() || args.replace {
                return Err(Failure::usage(
                    "a TLS certificate has its own end: --expires and --replace are for CURVE keys",
                ));
            }
            let certificate = keystore.trust_certificate(&path, &name).map_err(failure)?;
            if let Some(Roles(roles)) = &args.roles {
                let list: Vec<String> = roles.iter().map(|role| format!("{role:?}")).collect();
                let list = list.join(", ");
                talk.say(format_args!("for its roles, put into access.toml\n  [keys.{name}]\n  roles = [{list}]"));
            }
            Entry::certificate("trusted", &certificate, now)
        }
    };
    printed(if talk.json {
        talk.data(json!({ "ok": true, "keys": [entry.to_json(now)] }))
    } else {
        talk.say(format_args!("trusted: its owner is let in as '{name}'"));
        Ok(())
    })
    .map(|_| ())
}

/// `tidings key revoke NAME`
///
/// # Errors
/// Nobody is trusted by that name.
pub(crate) fn revoke(args: &RevokeArgs, talk: Talk) -> Result<(), Failure> {
    let keystore = args.place.open()?;
    let count = keystore.revoke(&args.name, &args.reason).map_err(failure)?;
    printed(if talk.json {
        talk.data(json!({ "ok": true, "name": args.name.as_str(), "revoked": count }))
    } else {
        let keys = if count == 1 { "1 key".to_owned() } else { format!("{count} keys") };
        talk.say(format_args!(
            "revoked {keys} of '{}': refused from now on; who is connected stays until it ends",
            args.name
        ));
        Ok(())
    })
    .map(|_| ())
}

/// Reads what is to be trusted, and what it is called if that shows
fn offer(what: &str) -> Result<(Offer, Option<KeyName>), Failure> {
    if what == "-" {
        let mut text = String::new();
        let read = std::io::stdin().lock().take(MAX_STDIN).read_to_string(&mut text);
        read.map_err(|error| Failure::usage(format!("can't read a certificate from stdin: {error}")))?;
        let certificate = Certificate::parse(&text)
            .map_err(|error| Failure::new(Exit::Data, "keystore", format!("stdin holds no certificate: {error}")))?;
        return Ok((Offer::Curve(Box::new(public_part(certificate))), None));
    }
    if let Ok(key) = what.parse::<CurvePublicKey>() {
        return Ok((Offer::Curve(Box::new(Certificate::new(key))), None));
    }
    let path = Path::new(what);
    if !path.exists() {
        // NAME=KEY, unless there is such a file; a key may have = in it, a name may not
        if let Some((name, key)) = what.split_once('=')
            && let (Ok(name), Ok(key)) = (name.parse(), key.parse())
        {
            return Ok((Offer::Curve(Box::new(Certificate::new(key))), Some(name)));
        }
        let failure = Failure::usage(format!("'{what}' is neither a file nor the 40 characters of a key"));
        return Err(failure.hint("quote a key for the shell: 'Yne@$w-vo<f…'"));
    }
    // north~2.key is north's
    let stem = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    let name = stem.split('~').next().unwrap_or_default().parse().ok();
    if path.extension().is_some_and(|extension| extension == "crt" || extension == "pem") {
        let certificate = PemCertificate::load(path).map_err(failure)?;
        return Ok((Offer::Tls(path.to_owned(), Box::new(certificate)), name));
    }
    match Certificate::load_public(path) {
        Ok(certificate) => Ok((Offer::Curve(Box::new(certificate)), name)),
        Err(error @ KeystoreError::Certificate { .. }) if what.ends_with("_secret") => {
            Err(failure(error).hint("a secret certificate stays where it was made: take its public twin"))
        }
        Err(error) => Err(failure(error)),
    }
}

/// A secret that came by mistake goes no further
fn public_part(certificate: Certificate) -> Certificate {
    Certificate { secret_key: None, ..certificate }
}

/// Compares the fingerprint, or lets a person do it
fn confirm(
    args: &TrustArgs,
    offer: &Offer,
    name: &KeyName,
    fingerprint: Fingerprint,
    talk: Talk,
) -> Result<(), Failure> {
    if let Some(expected) = &args.fingerprint {
        let right = *expected == fingerprint.words() || Fingerprint::from_hex(expected) == Some(fingerprint);
        if right {
            return Ok(());
        }
        let message = format!("its fingerprint is another: {} ({fingerprint})", fingerprint.words());
        let failure = Failure::new(Exit::Negative, "fingerprint", message);
        return Err(failure.hint("somebody may have changed it on the way: ask its owner for  tidings key show"));
    }
    if args.yes {
        return Ok(());
    }
    if !(std::io::stdin().is_terminal() && std::io::stderr().is_terminal()) || args.what == "-" {
        let failure = Failure::usage("nobody is there to compare the fingerprint");
        return Err(failure.hint("name it with --fingerprint, or trust it unseen with --yes"));
    }
    let title = if matches!(offer, Offer::Curve(_)) { "CURVE" } else { "X.509" };
    let mut lines = vec![
        fingerprint.picture(title),
        format!("fingerprint  {}", fingerprint.words()),
        format!("             {fingerprint}"),
    ];
    match offer {
        Offer::Curve(certificate) => {
            lines.push(format!("public key   {}", certificate.public_key));
            let wished = certificate.wished_roles();
            if !wished.is_empty() {
                lines.push(format!("asks to be   {}", wished.join(", ")));
            }
        }
        Offer::Tls(_, certificate) => lines.push(format!("subject      {}", certificate.subject)),
    }
    let roles = args.roles.clone().unwrap_or_default().0;
    lines.push(format!("is given     {}", if roles.is_empty() { "no roles".to_owned() } else { roles.join(", ") }));
    talk.always(lines.join("\n"));
    let mut stderr = std::io::stderr();
    write!(stderr, "Does its owner see the same, and is it to be let in as '{name}'? [y/N] ").ok();
    stderr.flush().ok();
    let mut answer = String::new();
    std::io::stdin().lock().take(64).read_line(&mut answer).ok();
    if matches!(answer.trim().to_lowercase().as_str(), "y" | "yes") {
        return Ok(());
    }
    Err(Failure::new(Exit::Negative, "not-confirmed", "nothing was changed"))
}

/// Far more than a certificate
const MAX_STDIN: u64 = 1 << 20;

pub(super) const TRUST: &str = "\
Examples:
  tidings key trust north.key                        asks whether the fingerprint is right
  tidings key trust north.key --roles sensor --expires 365d
  tidings key trust 'Yne@$w-vo<fVvi]a<NY6T1ed:M$fCG*[IaLV{hID' --name north --yes
  tidings key trust north~2.key --replace            north's next key, besides the one it has";

pub(super) const REVOKE: &str = "\
Examples:
  tidings key revoke north --reason 'laptop lost'";

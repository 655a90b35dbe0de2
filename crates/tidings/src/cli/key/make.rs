//! `tidings key new` and `tidings key rotate`: key pairs of our own.

use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use clap::{Args, ValueEnum};
use serde_json::json;
use tidings_keystore::{
    Certificate, KeyName, Keystore, NewKey, OwnKey, PemCertificate, TlsAlgorithm, TlsRequest, display_date, parse_roles,
};

use super::place::{self, Place, failure};
use super::show::{Entry, Paint};
use crate::cli::{Exit, Failure, Talk, printed};

/// What `key new` is given
#[derive(Args, Debug)]
pub(crate) struct NewArgs {
    /// The key's name [default: this host's]
    #[arg(value_parser = place::name)]
    name: Option<KeyName>,
    /// Make two keystores that trust each other: HUB-keys for the one who listens, NODE-keys for the one who
    /// connects; --keys plays no part in it
    #[arg(long, num_args = 2, value_names = ["HUB", "NODE"], value_parser = place::name, conflicts_with = "name")]
    pair: Vec<KeyName>,
    /// With --pair: where the two keystores are made [default: here]
    #[arg(long, value_name = "DIR")]
    into: Option<PathBuf>,
    /// Roles that the key asks for; with --pair, that HUB grants to NODE
    #[arg(long, value_name = "ROLE,…", value_parser = parse_roles_arg)]
    roles: Option<Roles>,
    /// When it ends: a date, or a time from now such as 365d [default: never; TLS 825d]
    #[arg(long, value_name = "END", value_parser = place::end)]
    expires: Option<SystemTime>,
    /// Make a TLS certificate too, for this DNS name or address; repeatable. With --pair it is HUB's, and NODE gets one
    /// as a client
    #[arg(long, value_name = "HOST")]
    tls: Vec<String>,
    /// The kind of key of the TLS certificate; rsa is for CMS with old peers
    #[arg(long, value_name = "KIND", value_enum, default_value_t, requires = "tls")]
    tls_key: TlsKey,
    #[command(flatten)]
    place: Place,
}

/// What `key rotate` is given
#[derive(Args, Debug)]
pub(crate) struct RotateArgs {
    /// The key's name
    #[arg(value_parser = place::name)]
    name: KeyName,
    /// How long the old key stays in use; with 0 the new one takes over at once
    #[arg(long, value_name = "DURATION", value_parser = place::grace, default_value = "7d")]
    grace: Duration,
    /// When the new key ends: a date, or a time from now [default: never]
    #[arg(long, value_name = "END", value_parser = place::end)]
    expires: Option<SystemTime>,
    #[command(flatten)]
    place: Place,
}

/// Roles as one argument
#[derive(Clone, Debug, Default)]
pub(super) struct Roles(pub(super) Vec<String>);

/// Reads roles separated by commas
///
/// # Errors
/// Says which is none.
pub(super) fn parse_roles_arg(text: &str) -> Result<Roles, String> {
    parse_roles(text).map(Roles)
}

#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, ValueEnum)]
enum TlsKey {
    /// ECDSA on the curve P-256
    #[default]
    P256,
    /// RSA with 3072 bits
    Rsa,
}

/// `tidings key new`
///
/// # Errors
/// There is a key of that name; those of the system.
pub(crate) fn new(args: NewArgs, talk: Talk) -> Result<(), Failure> {
    match args.pair.as_slice() {
        [hub, node] => pair(&args, hub, node, talk),
        // Clap drops the demand for --pair where a name rules it out
        _ if args.into.is_some() => {
            Err(Failure::usage("--into goes with --pair").hint("for one key, name its keystore with --keys DIR"))
        }
        _ => single(&args, talk),
    }
}

fn single(args: &NewArgs, talk: Talk) -> Result<(), Failure> {
    let name = match &args.name {
        Some(name) => name.clone(),
        None => host_name()?,
    };
    let keystore = args.place.create()?;
    let key = keystore.make_key(&name, &wished(args, args.expires)).map_err(failure)?;
    let tls = match args.tls.is_empty() {
        true => None,
        false => Some(keystore.make_certificate(&tls_request(args, &name, args.tls.clone())).map_err(failure)?),
    };
    if !show(&[(&keystore, &key)], tls.as_slice(), talk)? {
        return Ok(());
    }
    talk.say(format_args!(
        "next: give {} to whoever is to trust it, who runs\n  tidings key trust {name}.key",
        key.path.display()
    ));
    Ok(())
}

fn pair(args: &NewArgs, hub_name: &KeyName, node_name: &KeyName, talk: Talk) -> Result<(), Failure> {
    if hub_name == node_name {
        return Err(Failure::usage("the two of a pair have different names"));
    }
    let into = args.into.clone().unwrap_or_default();
    let directory = |name: &KeyName| into.join(format!("{name}-keys"));
    for name in [hub_name, node_name] {
        let directory = directory(name);
        if directory.exists() {
            let failure = Failure::new(Exit::Negative, "exists", format!("{} is there already", directory.display()));
            return Err(failure.hint("take other names, or another directory with --into DIR"));
        }
    }
    let create = |name: &KeyName| Keystore::create(directory(name)).map_err(failure);
    let (hub, node) = (create(hub_name)?, create(node_name)?);
    let hub_key = hub.make_key(hub_name, &NewKey { expires: args.expires, ..NewKey::default() }).map_err(failure)?;
    let node_key = node.make_key(node_name, &wished(args, args.expires)).map_err(failure)?;
    let roles = args.roles.clone().unwrap_or_default().0;
    let public = |key: &OwnKey| Certificate::load_public(&key.path).map_err(failure);
    hub.trust(&public(&node_key)?, node_name, roles, args.expires, None).map_err(failure)?;
    node.trust(&public(&hub_key)?, hub_name, Vec::new(), args.expires, None).map_err(failure)?;
    let mut certificates = Vec::new();
    if !args.tls.is_empty() {
        let of_hub = hub.make_certificate(&tls_request(args, hub_name, args.tls.clone())).map_err(failure)?;
        let of_node = hub.make_certificate_for(&node, &tls_request(args, node_name, Vec::new())).map_err(failure)?;
        hub.trust_certificate(&of_node.path, node_name).map_err(failure)?;
        certificates.extend([of_hub, of_node]);
    }
    if !show(&[(&hub, &hub_key), (&node, &node_key)], &certificates, talk)? {
        return Ok(());
    }
    let (hub_keys, node_keys) = (directory(hub_name), directory(node_name));
    talk.say(format_args!(
        "next: take {0} to the host that listens and {1} to the one that connects, over a way that\nnobody else reads, and \
         compare the fingerprints there:\n  tidings key show --keys {0}\n  tidings key show --keys {1}",
        hub_keys.display(),
        node_keys.display()
    ));
    Ok(())
}

/// `tidings key rotate NAME`
///
/// # Errors
/// There is no such key, or its successor is there already.
pub(crate) fn rotate(args: &RotateArgs, talk: Talk) -> Result<(), Failure> {
    let keystore = args.place.open()?;
    let rotation = keystore.rotate(&args.name, args.grace, args.expires).map_err(failure)?;
    if !show(&[(&keystore, &rotation.old), (&keystore, &rotation.new)], &[], talk)? {
        return Ok(());
    }
    let (name, on) = (&args.name, display_date(rotation.changes_on));
    let path = rotation.new.path.display();
    if args.grace.is_zero() {
        talk.say(format_args!("the new key is in use: whoever trusts only the old one refuses us from now on"));
    } else {
        talk.say(format_args!("the old key stays in use until {on}; then the new one takes over, without a restart"));
    }
    talk.say(format_args!(
        "next: until then, give {path} to all who trust '{name}', who run\n  tidings key trust {file} --name {name} --replace",
        file = rotation.new.path.file_name().unwrap_or_default().to_string_lossy()
    ));
    Ok(())
}

/// Shows what was made; whether anybody still reads
fn show(keys: &[(&Keystore, &OwnKey)], certificates: &[PemCertificate], talk: Talk) -> Result<bool, Failure> {
    let now = SystemTime::now();
    let own = keys.iter().map(|(keystore, key)| Entry::own(&keystore.keys(), key, now));
    let entries: Vec<Entry> = own.chain(certificates.iter().map(|one| Entry::certificate("tls", one, now))).collect();
    printed(if talk.json {
        let keys: Vec<_> = entries.iter().map(|entry| entry.to_json(now)).collect();
        talk.data(json!({ "ok": true, "keys": keys }))
    } else {
        let texts: Vec<String> = entries.iter().map(|entry| entry.describe(now, Paint::stdout())).collect();
        talk.data(texts.join("\n\n"))
    })
}

fn wished(args: &NewArgs, expires: Option<SystemTime>) -> NewKey {
    NewKey { roles: args.roles.clone().unwrap_or_default().0, expires, words: Vec::new() }
}

fn tls_request(args: &NewArgs, name: &KeyName, hosts: Vec<String>) -> TlsRequest {
    let valid = args.expires.and_then(|end| end.duration_since(SystemTime::now()).ok()).unwrap_or(TLS_VALID);
    let algorithm = match args.tls_key {
        TlsKey::P256 => TlsAlgorithm::EcdsaP256,
        TlsKey::Rsa => TlsAlgorithm::Rsa3072,
    };
    TlsRequest { name: name.clone(), hosts, valid, algorithm }
}

/// The first part of this host's name
fn host_name() -> Result<KeyName, Failure> {
    let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
    let first = host.split('.').next().unwrap_or_default();
    first.parse().map_err(|_| {
        Failure::usage(format!("this host's name, '{host}', is no name for a key"))
            .hint("name it: tidings key new NAME")
    })
}

/// The longest that browsers took when certificates still lived long; CURVE keys have no end unless they are given one
const TLS_VALID: Duration = Duration::from_secs(825 * 86_400);

pub(super) const NEW: &str = "\
Examples:
  tidings key new --pair hub north                   hub-keys and north-keys, each trusting the other
  tidings key new --pair hub north --roles sensor --expires 365d
  tidings key new north --roles sensor --keys keys
  tidings key new hub --tls hub.example.org --tls 192.0.2.7";

pub(super) const ROTATE: &str = "\
Examples:
  tidings key rotate hub                  the new key takes over in a week
  tidings key rotate hub --grace 30d --expires 2028-01-31
  tidings key rotate hub --grace 0        at once: the old one was stolen";

//! `tidings key export`: a key on stdout, for others or for other programs.

use std::path::PathBuf;
use std::time::SystemTime;

use clap::{Args, ValueEnum};
use serde_json::json;
use tidings_keystore::{Certificate, KeySet, KeystoreError};

use super::place::{Place, failure};
use crate::cli::{Failure, Talk, nearest, printed};

/// What `key export` is given
#[derive(Args, Debug)]
pub(crate) struct ExportArgs {
    /// The key's name, of our own or a trusted one; without it, the key of our own. Of a rotated key it is the newest;
    /// NAME~2 names one of them
    name: Option<String>,
    /// Print the secret key
    #[arg(long)]
    secret: bool,
    /// How it is printed
    #[arg(long, value_enum, value_name = "FORM", default_value_t)]
    format: Form,
    #[command(flatten)]
    place: Place,
}

#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, ValueEnum)]
enum Form {
    /// A certificate file, as CZMQ and `tidings key trust` read it
    #[default]
    Zpl,
    /// The 40 characters of the key alone, as socket options take it
    Z85,
    /// NAME=KEY on one line, as `tidings key trust` takes it
    Tidings,
}

/// `tidings key export [NAME]`
///
/// # Errors
/// There is no such key, or no secret of it.
pub(crate) fn run(args: &ExportArgs, talk: Talk) -> Result<(), Failure> {
    let keystore = args.place.open()?;
    let keys = keystore.keys();
    let name = match &args.name {
        Some(name) => name.clone(),
        None => keys.own_default(SystemTime::now()).map_err(failure)?.name.to_string(),
    };
    let path = find(&keys, &name, args.secret)?;
    let mut certificate = Certificate::load(&path).map_err(failure)?;
    // What we grant is ours
    certificate.trust = tidings_keystore::Trust::default();
    if !args.secret {
        certificate.secret_key = None;
    }
    let text = match (args.format, &certificate.secret_key) {
        (Form::Tidings, Some(_)) => {
            let failure = Failure::usage("NAME=KEY is a public form");
            return Err(failure.hint("take --format zpl or z85 for the secret"));
        }
        (Form::Z85, Some(secret)) => secret.to_z85(),
        (Form::Z85, None) => certificate.public_key.to_string().into(),
        (Form::Tidings, None) => {
            let plain = name.split('~').next().unwrap_or_default();
            format!("{plain}={}", certificate.public_key).into()
        }
        (Form::Zpl, _) => match certificate.secret_text().map_err(|error| failure(error.into()))? {
            Some(secret) => secret,
            None => certificate.public_text().map_err(|error| failure(error.into()))?.into(),
        },
    };
    printed(if talk.json {
        talk.data(json!({ "ok": true, "name": name, "secret": args.secret, "text": text.as_str() }))
    } else {
        talk.data(text.trim_end())
    })
    .map(|_| ())
}

/// The file of the newest key of that name, our own before those we trust
fn find(keys: &KeySet, name: &str, secret: bool) -> Result<PathBuf, Failure> {
    let own: Vec<_> = keys.own_keys().map(|key| (key.name.as_str(), &key.path)).collect();
    let trusted: Vec<_> = keys.trusted().filter(|_| !secret).map(|key| (key.name.as_str(), &key.path)).collect();
    let named = |(plain, path): &&(&str, &PathBuf)| *plain == name || path.file_stem().is_some_and(|stem| stem == name);
    // Generations come in order: the last is the newest
    if let Some((_, path)) = own.iter().rfind(named).or_else(|| trusted.iter().rfind(named)) {
        return Ok((*path).clone());
    }
    let suggestion = nearest(name, own.iter().chain(&trusted).map(|(plain, _)| *plain));
    let suggestion = suggestion.map(|near| format!("did you mean '{near}'?"));
    let kind = if secret { "key of our own" } else { "key" };
    Err(failure(KeystoreError::NoSuchKey { kind, name: name.to_owned(), suggestion }))
}

pub(super) const EXAMPLES: &str = "\
Examples:
  tidings key export > north.key            our public certificate, for others to trust
  tidings key export hub --format z85       as libzmq's CURVE_SERVERKEY takes it
  tidings key export --secret --format z85 | systemd-creds encrypt - north.cred";

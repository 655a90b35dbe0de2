//! Keys, passwords and certificates for both sides, and who asks for them.

use std::fs;
use std::path::Path;
use std::sync::{Arc, OnceLock};

use anyhow::Result;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
};
use serde_json::{Value, json};
use tidings_socket::{
    AuthRequest, AuthVerdict, Authenticator, Context, Credentials, CurvePublicKey, CurveSecretKey, Options, Properties,
    SocketType, SystemEntropy,
};

use crate::peer::{Peer, encode};
use crate::way::{Side, Transport, Way};

pub(crate) const USER: &str = "joe";
pub(crate) const PASSWORD: &str = "wonder";

/// The key of all servers, and that of the clients who are known
pub(crate) fn server_key() -> &'static CurveSecretKey {
    static KEY: OnceLock<CurveSecretKey> = OnceLock::new();
    KEY.get_or_init(fresh_key)
}

pub(crate) fn client_key() -> &'static CurveSecretKey {
    static KEY: OnceLock<CurveSecretKey> = OnceLock::new();
    KEY.get_or_init(fresh_key)
}

pub(crate) fn fresh_key() -> CurveSecretKey {
    CurveSecretKey::generate(&SystemEntropy).expect("the system's randomness")
}

/// Who lets the other in: who binds, but for a REQ of libzmq's
///
/// With a user id from its authenticator libzmq's engine hands its session a frame that a REQ takes for a malformed reply,
/// so that a REQ that is a server with such an authenticator receives nothing: 4.3.5 does not from its own REP either.
fn server(way: Way, theirs: SocketType) -> Side {
    if theirs == SocketType::Req { Side::Ours } else { way.binds }
}

/// Our socket's options for a way, and the authenticator of its context
pub(crate) fn ours(
    context: &Context,
    options: Options,
    way: Way,
    theirs: SocketType,
    directory: &Path,
) -> Result<Options> {
    context.set_authenticator(Some(Arc::new(Known::default())));
    Ok(match (way.transport, server(way, theirs)) {
        (Transport::Tcp | Transport::Ipc, _) => options,
        (Transport::Plain, Side::Ours) => options.plain_server(true),
        (Transport::Plain, Side::Theirs) => our_plain_client(options, USER, PASSWORD),
        (Transport::Curve, Side::Ours) => our_curve_server(options),
        (Transport::Curve, Side::Theirs) => our_curve_client(options, client_key(), server_key().public()),
        (Transport::Tls, _) => {
            let files = files(directory)?;
            let options = options.tls_authority(files.authority).tls_certificate(files.certificate).tls_key(files.key);
            options.tls_require_certificate(way.binds == Side::Ours)
        }
    })
}

/// libzmq's options for a way, besides those that it has
pub(crate) fn theirs(mut options: Value, way: Way, theirs: SocketType) -> Value {
    let added = match (way.transport, server(way, theirs)) {
        (Transport::Tcp | Transport::Ipc | Transport::Tls, _) => json!({}),
        (Transport::Plain, Side::Theirs) => json!({"PLAIN_SERVER": 1}),
        (Transport::Plain, Side::Ours) => their_plain_client(USER, PASSWORD),
        (Transport::Curve, Side::Theirs) => their_curve_server(),
        (Transport::Curve, Side::Ours) => their_curve_client(client_key(), server_key().public()),
    };
    if let (Some(options), Value::Object(added)) = (options.as_object_mut(), added) {
        options.extend(added);
    }
    options
}

/// Has pyzmq's own authenticator know the same
pub(crate) async fn post(peer: &mut Peer) -> Result<()> {
    let keys = [client_key().public().to_string()];
    peer.tell(json!({"op": "authenticate", "users": [format!("{USER}:{PASSWORD}")], "keys": keys})).await.map(drop)
}

pub(crate) fn our_plain_client(options: Options, user: &str, password: &str) -> Options {
    options.plain_username(user.to_owned().into()).plain_password(password.into())
}

pub(crate) fn our_curve_server(options: Options) -> Options {
    options.curve_server(true).curve_secret_key(Some(server_key().clone()))
}

pub(crate) fn our_curve_client(options: Options, own: &CurveSecretKey, server: CurvePublicKey) -> Options {
    options.curve_secret_key(Some(own.clone())).curve_server_key(Some(server))
}

pub(crate) fn their_plain_client(user: &str, password: &str) -> Value {
    json!({"PLAIN_USERNAME": encode(user.as_bytes()), "PLAIN_PASSWORD": encode(password.as_bytes())})
}

pub(crate) fn their_curve_server() -> Value {
    json!({"CURVE_SERVER": 1, "CURVE_SECRETKEY": encode(server_key().to_z85().as_bytes())})
}

pub(crate) fn their_curve_client(own: &CurveSecretKey, server: CurvePublicKey) -> Value {
    json!({
        "CURVE_SERVERKEY": encode(server.to_string().as_bytes()),
        "CURVE_PUBLICKEY": encode(own.public().to_string().as_bytes()),
        "CURVE_SECRETKEY": encode(own.to_z85().as_bytes()),
    })
}

/// Lets the user and the key in that are known, and whoever shows nothing
#[derive(Debug, Default)]
pub(crate) struct Known {
    /// But from these addresses nobody
    pub(crate) denied: Vec<String>,
    /// And not the client's key either
    pub(crate) revoked: bool,
}

impl Authenticator for Known {
    fn authenticate(&self, request: &AuthRequest<'_>) -> AuthVerdict {
        let allow = |user_id: String| AuthVerdict::Allow { user_id: user_id.into(), metadata: Properties::new() };
        if self.denied.iter().any(|denied| denied == request.address) {
            return AuthVerdict::deny("this address is denied");
        }
        match request.credentials {
            Credentials::Null => allow(String::new()),
            Credentials::Plain { username, password }
                if username == USER && password.as_slice() == PASSWORD.as_bytes() =>
            {
                allow(USER.to_owned())
            }
            Credentials::Curve { public_key } if *public_key == client_key().public() && !self.revoked => {
                allow(public_key.to_string())
            }
            _ => AuthVerdict::deny("not known here"),
        }
    }
}

pub(crate) struct Files {
    pub(crate) authority: String,
    pub(crate) certificate: String,
    pub(crate) key: String,
}

/// An authority and one certificate for both sides, in a directory that has them already or not
pub(crate) fn files(directory: &Path) -> Result<Files> {
    let path = |name: &str| directory.join(name).display().to_string();
    let files = Files { authority: path("authority.pem"), certificate: path("node.pem"), key: path("node.key") };
    if Path::new(&files.key).exists() {
        return Ok(files);
    }
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, "authority");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    let key = KeyPair::generate()?;
    fs::write(&files.authority, params.self_signed(&key)?.pem())?;
    let issuer = Issuer::new(params, key);
    let mut params = CertificateParams::new(vec!["127.0.0.1".to_owned()])?;
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    // Python's ssl is strict about it
    params.use_authority_key_identifier_extension = true;
    let key = KeyPair::generate()?;
    fs::write(&files.certificate, params.signed_by(&key, &issuer)?.pem())?;
    fs::write(&files.key, "")?;
    fs::set_permissions(&files.key, std::os::unix::fs::PermissionsExt::from_mode(0o600))?;
    fs::write(&files.key, key.serialize_pem())?;
    Ok(files)
}

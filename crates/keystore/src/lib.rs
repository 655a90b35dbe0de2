//! One directory for the keys of a node: CURVE, TLS and CMS, who its peers are, and what they may do.
//!
//! | file | what it is |
//! |---|---|
//! | `curve/NAME.key`, `curve/NAME.key_secret` | a key pair of our own, as CZMQ's `zcert` keeps it; the secret twin has mode 0600 |
//! | `curve/NAME~2.key`, … | its successors: `tidings key rotate` makes one, its day brings it into use |
//! | `trusted/NAME.key` | the public certificate of a peer: whoever holds its secret is let in as `NAME` |
//! | `trusted/NAME~2.key`, … | further keys of that peer, while it changes from one to the other |
//! | `trusted/NAME.crt` | a TLS client certificate: whoever holds its key is let in as `NAME` |
//! | `revoked/NAME.key`, `revoked/NAME.crt` | a key or certificate that is never let in again, whatever other files say |
//! | `tls/ca.crt`, `tls/ca.key` | a private authority; its key need not be here |
//! | `tls/NAME.crt`, `tls/NAME.key` | a TLS certificate and its key (PEM; the key has mode 0600) |
//! | `cms/NAME.crt`, `cms/NAME.key` | likewise for CMS, where that is not to be the certificate of TLS |
//! | `access.toml` | address ranges, PLAIN users, roles, domains, policy: see [`AccessRules`] |
//!
//! A key's name is its file's name, which we choose; what a peer's certificate says about itself grants nothing. Secrets
//! that others may read are refused, with the `chmod` that mends it. Reading is all or nothing: a [`Keystore`]
//! always holds one good set of keys, and a bad file leaves the last good set in force.
//!
//! ```
//! # fn main() -> Result<(), tidings_keystore::KeystoreError> {
//! # let directory = tempfile::tempdir().unwrap();
//! # let (hub_keys, node_keys) = (directory.path().join("hub"), directory.path().join("node"));
//! use tidings_keystore::{Certificate, Keystore, NewKey};
//!
//! let hub = Keystore::create(hub_keys)?;
//! let node = Keystore::create(node_keys)?;
//! hub.make_key(&"hub".parse()?, &NewKey::default())?;
//! let key = node.make_key(&"north".parse()?, &NewKey::default())?;
//! // North's public certificate comes to the hub, which lets its holder in as "north"
//! hub.trust(&Certificate::load_public(&key.path)?, &"north".parse()?, vec!["sensor".into()], None, None)?;
//! assert_eq!(hub.peer("north")?.public_key, key.public_key);
//! # Ok(())
//! # }
//! ```

mod access;
pub use access::{AccessRules, Anonymous, Policy};

mod addresses;
pub use addresses::AddressRules;

mod authenticator;
pub use authenticator::KeystoreAuthenticator;

mod certificate;
pub use certificate::{Certificate, CertificateError, Revocation, Trust, parse_roles};

mod changes;
pub use changes::{Changed, Changes};

mod date;
pub use date::{display_date, display_expiry, parse_date};

mod edit;
pub use edit::{NewKey, Rotation};

mod error;
pub use error::{AccessProblem, KeystoreError};

mod fingerprint;
pub use fingerprint::Fingerprint;

mod judge;
pub use judge::{ClientCertificate, Refusal};

mod keyset;
pub use keyset::{KeySet, OwnKey, RevokedKey, TrustedKey};

mod keystore;
pub use keystore::{Expiry, Keystore, KeystoreStatus};

mod name;
pub use name::{KeyName, NameError};

mod password;
pub use password::hash_password;

mod tls;
pub use tls::{PemCertificate, TlsAlgorithm, TlsRequest};

mod watch;
pub use watch::Watch;

pub mod zpl;
pub use zpl::{Property, UnwritableValue, Zpl, ZplError, ZplErrorKind};

mod files;

pub use tidings_socket::{CurvePublicKey, CurveSecretKey};

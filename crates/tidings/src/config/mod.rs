//! The daemon's configuration: one table of settings, filled from flags, environment, file and
//! defaults, in that order of precedence.

mod access;
pub(crate) use access::AccessRule;

mod connection;
pub(crate) use connection::{Connection, Secured, Target, Trust};

mod listener;
pub(crate) use listener::{HttpListener, Listener, Protected, Protection};

mod problem;
pub(crate) use problem::{Place, Problem, Problems};

mod settings;
pub(crate) use settings::{LogFormat, LogLevel, PresenceScope, RANDOM_ID, Settings};

mod source;
pub(crate) use source::{Origin, Sources};

mod state;
pub(crate) use state::{gossip_directory, store_directory};

mod values;
pub(crate) use values::{Octets, Roles};

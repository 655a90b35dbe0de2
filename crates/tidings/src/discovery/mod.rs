//! Finding by name what would otherwise be a fixed address: `gossip:NAME`, wherever an endpoint to connect to can stand.
//!
//! A node that has `gossip.announce = true` publishes what it serves as tuples (`endpoint/NAME/NODE`). [`Known`] is what such
//! tuples say of one name. They come from the node of this process, or, for commands, from a running one that is asked over its socket.

mod afar;
pub(crate) use afar::{DiscoveryArgs, Found};

mod asking;
pub(crate) use asking::{About, Answer, AskError, Asker, Foreign, Life, Told};

mod here;
pub(crate) use here::here;

mod known;
pub(crate) use known::{Known, Place};

mod name;
pub(crate) use name::{ANNOUNCED, Name, key_of};

mod sighting;
pub(crate) use sighting::{Followed, Obstacle, Sighting};

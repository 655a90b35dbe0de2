//! What goes over the links: ZGP 1 with nodes that are not ours, and our own wire among ourselves.
//!
//! Each message is one frame. The first two octets tell the wires apart: `AA A0` is ZGP, `AA A7` is ours; a capital letter of
//! ASCII begins a text command. A wire has one reader and one writer, here; nobody else touches these octets.

pub mod tidings;
pub mod zgossip;

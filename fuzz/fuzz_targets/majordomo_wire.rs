//! Messages of all Majordomo wires, both directions: what is understood leads back to itself.
#![no_main]

use arbitrary::Arbitrary;
use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use tidings_majordomo::wire::{ClientCommand, ClientReply, Command, ReturnPath, Role, Wire, WorkerOrder, decode};
use tidings_zmtp::Message;

/// A frame: one that protocols know, or any octets
#[derive(Arbitrary, Debug)]
enum Frame {
    Empty,
    ClientHeader(u8),
    WorkerHeader(u8),
    Code(u8),
    Id(u64),
    Zproto { id: u8, code: u8, service: Option<Vec<u8>> },
    Any(Vec<u8>),
    Long(u16),
}

impl Frame {
    fn octets(self) -> Bytes {
        let version = |which: u8| ["01", "02", "T1"][usize::from(which % 3)];
        match self {
            Self::Empty => Bytes::new(),
            Self::ClientHeader(which) => match which % 3 {
                2 => "MDPCT1".into(),
                _ => format!("MDPC{}", version(which)).into(),
            },
            Self::WorkerHeader(which) => match which % 3 {
                2 => "MDPWT1".into(),
                _ => format!("MDPW{}", version(which)).into(),
            },
            Self::Code(code) => vec![code].into(),
            Self::Id(id) => id.to_be_bytes().to_vec().into(),
            Self::Zproto { id, code, service } => {
                let version = if (1..4).contains(&id) { b"MDPC02" } else { b"MDPW02" };
                let mut frame = vec![0xaa, 0xa4, id, 6];
                frame.extend(version);
                frame.push(code);
                if let Some(service) = service {
                    frame.push(service.len() as u8);
                    frame.extend(service);
                }
                frame.into()
            }
            Self::Any(octets) => octets.into(),
            Self::Long(octets) => vec![b'x'; usize::from(octets) % 600].into(),
        }
    }
}

fuzz_target!(|frames: Vec<Frame>| {
    let message = Message::multipart(frames.into_iter().take(16).map(Frame::octets));
    match decode(message.clone()) {
        Ok(incoming) => {
            let again = match incoming.command.clone() {
                Command::Client(command) => command.encode(incoming.wire),
                Command::Worker(command) => command.encode(incoming.wire),
            };
            let mut again = decode(again.expect("what was heard can be said")).expect("what was said is heard");
            assert_eq!(again.wire, incoming.wire);
            let mut command = incoming.command;
            if incoming.wire == Wire::Domogik {
                // Seconds as a text are not exact to the nanosecond
                for command in [&mut command, &mut again.command] {
                    if let Command::Client(ClientCommand::Request { options, .. }) = command {
                        options.deadline = None;
                    }
                }
            }
            assert_eq!(again.command, command);
            assert!(incoming.path.ids().len() <= 8);
            assert!(!matches!(command, Command::Worker(_)) || incoming.path == ReturnPath::direct());
        }
        Err(rejected) => {
            assert!(rejected.id.is_none() || rejected.from == Some((Wire::Tidings, Role::Client)));
            assert!(!rejected.to_string().is_empty());
        }
    }
    for wire in Wire::ALL {
        if let Ok(reply) = ClientReply::decode(message.clone(), wire) {
            let path = match wire {
                Wire::Mdp01 | Wire::Domogik | Wire::Majortomo => ReturnPath::delimited([]),
                _ => ReturnPath::direct(),
            };
            let again = reply.clone().encode(wire, &path).expect("what was heard can be said");
            assert_eq!(ClientReply::decode(again, wire), Ok(reply));
        }
        if let Ok(order) = WorkerOrder::decode(message.clone(), wire) {
            let again = order.clone().encode(wire).expect("what was heard can be said");
            assert_eq!(WorkerOrder::decode(again, wire), Ok(order));
        }
    }
});

//! MDP 0.2 as zeromq/majordomo speaks it: what RFC 18 has in several frames, zproto puts into one in front.
//!
//! `AA A4`, id (1 octet), version (length octet and text: RFC 18's header), code (1 octet: RFC 18's), and where there is a
//! service its name (length octet and text). Behind it address and empty frame where RFC 18 has them, and the body.

use bytes::{BufMut, Bytes, BytesMut};
use tidings_zmtp::Message;

use super::{
    Body, ClientCommand, ClientReply, Command, Incoming, Malformed, NotOnThisWire, ReadyOptions, Rejected,
    RequestOptions, ReturnPath, Role, ServiceName, Wire, WorkerCommand, WorkerOrder, behind, in_front, take,
};

/// What zproto's frame says, one row for each id
struct Header {
    id: u8,
    role: Role,
    code: u8,
    has_service: bool,
}

pub(super) fn decode_command(frames: Body) -> Result<Incoming, Rejected> {
    let (header, service) = decode_header(&frames)?;
    let rejected = |cause| Rejected::of(cause, Wire::Zproto, header.role);
    let incoming = |command| Incoming { wire: Wire::Zproto, path: ReturnPath::direct(), command };
    let service = || ServiceName::new(service.clone()).map_err(|error| rejected(error.into()));
    let command = match header.id {
        CLIENT_REQUEST => {
            let (service, body) = (service()?, behind(frames, 1));
            Command::Client(ClientCommand::Request { id: 0, service, options: RequestOptions::default(), body })
        }
        READY => {
            check_end(&frames).map_err(rejected)?;
            Command::Worker(WorkerCommand::Ready { service: service()?, options: ReadyOptions::default() })
        }
        WORKER_PARTIAL | WORKER_FINAL => {
            let (token, body) = take_address(frames).map_err(rejected)?;
            Command::Worker(match header.id {
                WORKER_FINAL => WorkerCommand::Final { token, body },
                _ => WorkerCommand::Partial { token, body },
            })
        }
        HEARTBEAT => check_end(&frames).map(|()| Command::Worker(WorkerCommand::Heartbeat)).map_err(rejected)?,
        DISCONNECT => check_end(&frames).map(|()| Command::Worker(WorkerCommand::Disconnect)).map_err(rejected)?,
        _ => return Err(rejected(Malformed::UnexpectedCommand)),
    };
    Ok(incoming(command))
}

pub(super) fn encode_client_reply(reply: ClientReply) -> Result<Message, NotOnThisWire> {
    match reply {
        ClientReply::Partial { service, body, .. } => Ok(in_front([header(CLIENT_PARTIAL, &service)], body)),
        ClientReply::Final { service, body, .. } => Ok(in_front([header(CLIENT_FINAL, &service)], body)),
        ClientReply::Refused { .. } => Err(NotOnThisWire { what: "refused", wire: Wire::Zproto }),
    }
}

pub(super) fn decode_client_reply(frames: Body) -> Result<ClientReply, Malformed> {
    let (header, service) = decode_header(&frames)?;
    let body = |frames| behind(frames, 1);
    match header.id {
        CLIENT_PARTIAL => Ok(ClientReply::Partial { id: 0, service, body: body(frames) }),
        CLIENT_FINAL => Ok(ClientReply::Final { id: 0, service, body: body(frames) }),
        _ => Err(Malformed::UnexpectedCommand),
    }
}

pub(super) fn encode_worker_order(order: WorkerOrder) -> Result<Message, NotOnThisWire> {
    match order {
        WorkerOrder::Request { token, body, .. } => {
            Ok(in_front([header(WORKER_REQUEST, &[]), token, Bytes::new()], body))
        }
        WorkerOrder::Heartbeat => Ok(header(HEARTBEAT, &[]).into()),
        WorkerOrder::Disconnect => Ok(header(DISCONNECT, &[]).into()),
        WorkerOrder::Cancel { .. } => Err(NotOnThisWire { what: "cancel", wire: Wire::Zproto }),
        WorkerOrder::Drain => Err(NotOnThisWire { what: "drain", wire: Wire::Zproto }),
    }
}

pub(super) fn decode_worker_order(frames: Body) -> Result<WorkerOrder, Malformed> {
    let (header, _) = decode_header(&frames)?;
    match header.id {
        WORKER_REQUEST => {
            let (token, body) = take_address(frames)?;
            Ok(WorkerOrder::Request { token, options: RequestOptions::default(), body })
        }
        HEARTBEAT => check_end(&frames).map(|()| WorkerOrder::Heartbeat),
        DISCONNECT => check_end(&frames).map(|()| WorkerOrder::Disconnect),
        _ => Err(Malformed::UnexpectedCommand),
    }
}

pub(super) fn encode_client_command(command: ClientCommand) -> Result<Message, NotOnThisWire> {
    match command {
        ClientCommand::Request { service, body, .. } => {
            Ok(in_front([header(CLIENT_REQUEST, service.as_bytes())], body))
        }
        ClientCommand::Cancel { .. } => Err(NotOnThisWire { what: "cancel", wire: Wire::Zproto }),
    }
}

pub(super) fn encode_worker_command(command: WorkerCommand) -> Result<Message, NotOnThisWire> {
    let reply = |id, token, body| Ok(in_front([header(id, &[]), token, Bytes::new()], body));
    match command {
        WorkerCommand::Ready { service, .. } => Ok(header(READY, service.as_bytes()).into()),
        WorkerCommand::Partial { token, body } => reply(WORKER_PARTIAL, token, body),
        WorkerCommand::Final { token, body } => reply(WORKER_FINAL, token, body),
        WorkerCommand::Heartbeat => Ok(header(HEARTBEAT, &[]).into()),
        WorkerCommand::Disconnect => Ok(header(DISCONNECT, &[]).into()),
        WorkerCommand::Refused { .. } => Err(NotOnThisWire { what: "refused", wire: Wire::Zproto }),
        WorkerCommand::Draining => Err(NotOnThisWire { what: "draining", wire: Wire::Zproto }),
    }
}

fn header(id: u8, service: &[u8]) -> Bytes {
    let Some(row) = HEADERS.iter().find(|row| row.id == id) else { return Bytes::new() };
    let version = version(row.role);
    let mut into = BytesMut::with_capacity(6 + version.len() + service.len());
    into.put_slice(&[SIGNATURE_0, SIGNATURE_1, row.id, version.len() as u8]);
    into.put_slice(version);
    into.put_u8(row.code);
    if row.has_service {
        // A service's name fits its length octet
        into.put_u8(service.len() as u8);
        into.put_slice(service);
    }
    into.freeze()
}

/// The row of the first frame, and the service it names
fn decode_header(frames: &Body) -> Result<(&'static Header, Bytes), Malformed> {
    let frame = frames.first().ok_or(Malformed::BadZproto)?;
    let Some((&[SIGNATURE_0, SIGNATURE_1, id, version_len], rest)) = frame.split_first_chunk() else {
        return Err(Malformed::BadZproto);
    };
    let row = HEADERS.iter().find(|row| row.id == id).ok_or(Malformed::UnknownCommand)?;
    let (said, rest) = rest.split_at_checked(version_len.into()).ok_or(Malformed::BadZproto)?;
    let (&code, rest) = rest.split_first().ok_or(Malformed::BadZproto)?;
    if said != version(row.role) || code != row.code {
        return Err(Malformed::BadZproto);
    }
    match (row.has_service, rest.split_first()) {
        (false, None) => Ok((row, Bytes::new())),
        (true, Some((_, []))) => Err(Malformed::NoService),
        (true, Some((len, service))) if service.len() == usize::from(*len) => Ok((row, frame.slice_ref(service))),
        (true, None) => Err(Malformed::NoService),
        _ => Err(Malformed::BadZproto),
    }
}

fn take_address(mut frames: Body) -> Result<(Bytes, Body), Malformed> {
    let address = take(&mut frames, 1);
    if address.is_empty() {
        return Err(Malformed::NoAddress);
    }
    match frames.get(2) {
        Some(delimiter) if delimiter.is_empty() => Ok((address, behind(frames, 3))),
        _ => Err(Malformed::NoAddressDelimiter),
    }
}

fn check_end(frames: &Body) -> Result<(), Malformed> {
    if frames.len() > 1 { Err(Malformed::TrailingFrames) } else { Ok(()) }
}

fn version(role: Role) -> &'static [u8] {
    match role {
        Role::Client => b"MDPC02",
        Role::Worker => b"MDPW02",
    }
}

pub(super) const SIGNATURE_0: u8 = 0xaa;
/// The low four bits are the number that zproto gave this protocol
pub(super) const SIGNATURE_1: u8 = 0xa4;

const CLIENT_REQUEST: u8 = 1;
const CLIENT_PARTIAL: u8 = 2;
const CLIENT_FINAL: u8 = 3;
const READY: u8 = 4;
const WORKER_REQUEST: u8 = 5;
const WORKER_PARTIAL: u8 = 6;
const WORKER_FINAL: u8 = 7;
const HEARTBEAT: u8 = 8;
const DISCONNECT: u8 = 9;

const HEADERS: [Header; 9] = [
    Header { id: CLIENT_REQUEST, role: Role::Client, code: 1, has_service: true },
    Header { id: CLIENT_PARTIAL, role: Role::Client, code: 2, has_service: true },
    Header { id: CLIENT_FINAL, role: Role::Client, code: 3, has_service: true },
    Header { id: READY, role: Role::Worker, code: 1, has_service: true },
    Header { id: WORKER_REQUEST, role: Role::Worker, code: 2, has_service: false },
    Header { id: WORKER_PARTIAL, role: Role::Worker, code: 3, has_service: false },
    Header { id: WORKER_FINAL, role: Role::Worker, code: 4, has_service: false },
    Header { id: HEARTBEAT, role: Role::Worker, code: 5, has_service: false },
    Header { id: DISCONNECT, role: Role::Worker, code: 6, has_service: false },
];

//! The wires of one frame per field: MDP 0.1 (RFC 7) with Domogik's clients, and MDP 0.2 as RFC 18 and as majortomo have it.
//!
//! They differ in the empty frame in front, in their codes, and in whether a reply repeats the service.

use bytes::Bytes;
use smallvec::smallvec;
use tidings_zmtp::Message;

use super::{
    Body, ClientCommand, ClientReply, Command, Incoming, Malformed, NotOnThisWire, PATH_LIMIT, ReadyOptions, Rejected,
    RequestOptions, ReturnPath, Role, ServiceName, Wire, WorkerCommand, WorkerOrder, behind, domogik, in_front, take,
};

/// What a worker and a broker say to each other, as single octets
struct WorkerCodes {
    partial: Option<u8>,
    last: u8,
    heartbeat: u8,
    disconnect: u8,
}

/// What a client and a broker say to each other, as single octets
struct ClientCodes {
    request: u8,
    partial: u8,
    last: u8,
}

pub(super) fn decode_command(mut frames: Body) -> Result<Incoming, Rejected> {
    let (at, path) = find_header(&mut frames)?;
    let (is_second, role) = frames.get(at).and_then(|frame| parse_header(frame)).ok_or(Malformed::UnknownHeader)?;
    let wire = match (is_second, role, path.is_delimited) {
        (false, _, _) => Wire::Mdp01,
        (true, _, false) => Wire::Mdp02,
        // RFC 18's own code behind an empty frame: a careful DEALER, answered in the shape it speaks
        (true, Role::Client, true) if frames.get(at + 1).is_some_and(|code| **code == [MDP02.request]) => Wire::Mdp02,
        (true, _, true) => Wire::Majortomo,
    };
    let rejected = |cause| Rejected::of(cause, wire, role);
    if !is_second && !path.is_delimited {
        return Err(rejected(Malformed::NoDelimiter));
    }
    match role {
        Role::Client => {
            let (wire, command) = decode_client_command(wire, frames, at + 1).map_err(rejected)?;
            Ok(Incoming { wire, path, command: Command::Client(command) })
        }
        Role::Worker if !path.ids.is_empty() => Err(rejected(Malformed::WorkerBehindProxy)),
        Role::Worker => {
            let command = decode_worker_command(wire, frames, at + 1).map_err(rejected)?;
            Ok(Incoming { wire, path: ReturnPath::direct(), command: Command::Worker(command) })
        }
    }
}

/// Where the header is, and what stands in front of it
fn find_header(frames: &mut Body) -> Result<(usize, ReturnPath), Malformed> {
    if frames.first().is_some_and(|frame| parse_header(frame).is_some()) {
        return Ok((0, ReturnPath::direct()));
    }
    let empty = frames.iter().position(|frame| frame.is_empty()).ok_or(Malformed::UnknownHeader)?;
    if empty > PATH_LIMIT || frames.iter().take(empty).any(|id| id.len() > ROUTING_ID_LIMIT) {
        return Err(Malformed::PathTooLong);
    }
    // A slice of the receive buffer would keep all of that for as long as the request waits
    let ids = frames.iter().take(empty).map(|id| Bytes::copy_from_slice(id));
    Ok((empty + 1, ReturnPath::delimited(ids)))
}

/// Whether it is 0.2's, and whose
fn parse_header(frame: &[u8]) -> Option<(bool, Role)> {
    match frame {
        CLIENT_01 => Some((false, Role::Client)),
        WORKER_01 => Some((false, Role::Worker)),
        CLIENT_02 => Some((true, Role::Client)),
        WORKER_02 => Some((true, Role::Worker)),
        _ => None,
    }
}

fn decode_client_command(wire: Wire, mut frames: Body, at: usize) -> Result<(Wire, ClientCommand), Malformed> {
    let service_at = match client_codes(wire) {
        None => at,
        Some(codes) => match **frames.get(at).ok_or(Malformed::NoCommand)? {
            [code] if code == codes.request => at + 1,
            [code] if code == codes.partial || code == codes.last => return Err(Malformed::UnexpectedCommand),
            _ => return Err(Malformed::UnknownCommand),
        },
    };
    let service = ServiceName::new(take(&mut frames, service_at))?;
    let mut body = behind(frames, service_at + 1);
    let mut options = RequestOptions::default();
    let wire = match wire {
        Wire::Mdp01 => match domogik::take_timeout(&mut body) {
            Some(timeout) => {
                options.deadline = timeout;
                Wire::Domogik
            }
            None => wire,
        },
        _ => wire,
    };
    Ok((wire, ClientCommand::Request { id: 0, service, options, body }))
}

fn decode_worker_command(wire: Wire, mut frames: Body, at: usize) -> Result<WorkerCommand, Malformed> {
    let codes = worker_codes(wire);
    let [code] = **frames.get(at).ok_or(Malformed::NoCommand)? else { return Err(Malformed::UnknownCommand) };
    if code == READY {
        check_end(&frames, at + 2)?;
        let service = ServiceName::new(take(&mut frames, at + 1))?;
        Ok(WorkerCommand::Ready { service, options: ReadyOptions::default() })
    } else if code == codes.last {
        let (token, body) = take_address(frames, at + 1)?;
        Ok(WorkerCommand::Final { token, body })
    } else if Some(code) == codes.partial {
        let (token, body) = take_address(frames, at + 1)?;
        Ok(WorkerCommand::Partial { token, body })
    } else if code == codes.heartbeat {
        check_end(&frames, at + 1).map(|()| WorkerCommand::Heartbeat)
    } else if code == codes.disconnect {
        check_end(&frames, at + 1).map(|()| WorkerCommand::Disconnect)
    } else if code == REQUEST {
        Err(Malformed::UnexpectedCommand)
    } else {
        Err(Malformed::UnknownCommand)
    }
}

/// Address, empty frame, body: what REQUEST and replies have behind their code (RFC 7, "REQUEST and REPLY")
fn take_address(mut frames: Body, at: usize) -> Result<(Bytes, Body), Malformed> {
    let address = take(&mut frames, at);
    if address.is_empty() {
        return Err(Malformed::NoAddress);
    }
    match frames.get(at + 1) {
        Some(delimiter) if delimiter.is_empty() => Ok((address, behind(frames, at + 2))),
        _ => Err(Malformed::NoAddressDelimiter),
    }
}

fn check_end(frames: &Body, end: usize) -> Result<(), Malformed> {
    if frames.len() > end { Err(Malformed::TrailingFrames) } else { Ok(()) }
}

pub(super) fn encode_client_reply(reply: ClientReply, wire: Wire, path: &ReturnPath) -> Result<Message, NotOnThisWire> {
    let (is_last, service, body) = match reply {
        ClientReply::Final { service, body, .. } => (true, service, body),
        ClientReply::Partial { service, body, .. } => (false, service, body),
        ClientReply::Refused { .. } => return Err(NotOnThisWire { what: "refused", wire }),
    };
    let mut message = match client_codes(wire) {
        None if !is_last => return Err(NotOnThisWire { what: "partial reply", wire }),
        None if path.ids.is_empty() => return Ok(in_front([EMPTY, Bytes::from_static(CLIENT_01), service], body)),
        None => in_front([Bytes::from_static(CLIENT_01), service], body),
        Some(codes) => {
            let code = octet(if is_last { codes.last } else { codes.partial });
            match wire {
                Wire::Majortomo => in_front([Bytes::from_static(CLIENT_02), code], body),
                _ => in_front([Bytes::from_static(CLIENT_02), code, service], body),
            }
        }
    };
    if path.is_delimited {
        message.push_front(EMPTY);
        path.ids.iter().rev().for_each(|id| message.push_front(id.clone()));
    }
    Ok(message)
}

pub(super) fn decode_client_reply(mut frames: Body, wire: Wire) -> Result<ClientReply, Malformed> {
    let at = skip_delimiter(&frames, wire)?;
    let (service_at, is_last) = match client_codes(wire) {
        None => (expect_header(&frames, at, CLIENT_01)?, true),
        Some(codes) => {
            let at = expect_header(&frames, at, CLIENT_02)?;
            match **frames.get(at).ok_or(Malformed::NoCommand)? {
                [code] if code == codes.last => (at + 1, true),
                [code] if code == codes.partial => (at + 1, false),
                [code] if code == codes.request => return Err(Malformed::UnexpectedCommand),
                _ => return Err(Malformed::UnknownCommand),
            }
        }
    };
    let (service, body) = match wire {
        Wire::Majortomo => (EMPTY, behind(frames, service_at)),
        _ => {
            let service = ServiceName::new(take(&mut frames, service_at))?.into_bytes();
            (service, behind(frames, service_at + 1))
        }
    };
    Ok(match is_last {
        true => ClientReply::Final { id: 0, service, body },
        false => ClientReply::Partial { id: 0, service, body },
    })
}

pub(super) fn encode_worker_order(order: WorkerOrder, wire: Wire) -> Result<Message, NotOnThisWire> {
    let codes = worker_codes(wire);
    match order {
        WorkerOrder::Request { token, body, .. } => Ok(to_worker(wire, REQUEST, token, body)),
        WorkerOrder::Heartbeat => Ok(bare(wire, codes.heartbeat)),
        WorkerOrder::Disconnect => Ok(bare(wire, codes.disconnect)),
        WorkerOrder::Cancel { .. } => Err(NotOnThisWire { what: "cancel", wire }),
        WorkerOrder::Drain => Err(NotOnThisWire { what: "drain", wire }),
    }
}

pub(super) fn decode_worker_order(frames: Body, wire: Wire) -> Result<WorkerOrder, Malformed> {
    // Domogik's broker forgets the empty frame in front of DISCONNECT, so it may be missing
    let at = usize::from(frames.first().is_some_and(|frame| frame.is_empty()));
    let at = expect_header(&frames, at, worker_header(wire))?;
    let codes = worker_codes(wire);
    let [code] = **frames.get(at).ok_or(Malformed::NoCommand)? else { return Err(Malformed::UnknownCommand) };
    if code == REQUEST {
        let (token, body) = take_address(frames, at + 1)?;
        Ok(WorkerOrder::Request { token, options: RequestOptions::default(), body })
    } else if code == codes.heartbeat {
        check_end(&frames, at + 1).map(|()| WorkerOrder::Heartbeat)
    } else if code == codes.disconnect {
        check_end(&frames, at + 1).map(|()| WorkerOrder::Disconnect)
    } else if code == READY || code == codes.last || Some(code) == codes.partial {
        Err(Malformed::UnexpectedCommand)
    } else {
        Err(Malformed::UnknownCommand)
    }
}

pub(super) fn encode_client_command(command: ClientCommand, wire: Wire) -> Result<Message, NotOnThisWire> {
    let ClientCommand::Request { service, options, mut body, .. } = command else {
        return Err(NotOnThisWire { what: "cancel", wire });
    };
    let service = service.into_bytes();
    if wire == Wire::Domogik {
        body.insert(0, domogik::timeout_frame(options.deadline));
    }
    Ok(match client_codes(wire) {
        None => in_front([EMPTY, Bytes::from_static(CLIENT_01), service], body),
        Some(codes) if wire == Wire::Majortomo => {
            in_front([EMPTY, Bytes::from_static(CLIENT_02), octet(codes.request), service], body)
        }
        Some(codes) => in_front([Bytes::from_static(CLIENT_02), octet(codes.request), service], body),
    })
}

pub(super) fn encode_worker_command(command: WorkerCommand, wire: Wire) -> Result<Message, NotOnThisWire> {
    let codes = worker_codes(wire);
    match command {
        WorkerCommand::Ready { service, .. } => {
            let mut message = bare(wire, READY);
            message.push_back(service.into_bytes());
            Ok(message)
        }
        WorkerCommand::Partial { token, body } => match codes.partial {
            Some(code) => Ok(to_worker(wire, code, token, body)),
            None => Err(NotOnThisWire { what: "partial reply", wire }),
        },
        WorkerCommand::Final { token, body } => Ok(to_worker(wire, codes.last, token, body)),
        WorkerCommand::Heartbeat => Ok(bare(wire, codes.heartbeat)),
        WorkerCommand::Disconnect => Ok(bare(wire, codes.disconnect)),
        WorkerCommand::Refused { .. } => Err(NotOnThisWire { what: "refused", wire }),
        WorkerCommand::Draining => Err(NotOnThisWire { what: "draining", wire }),
    }
}

/// REQUEST and replies, which have the same form both ways
fn to_worker(wire: Wire, code: u8, token: Bytes, body: Body) -> Message {
    let header = Bytes::from_static(worker_header(wire));
    match wire {
        Wire::Mdp02 => in_front([header, octet(code), token, EMPTY], body),
        _ => in_front([EMPTY, header, octet(code), token, EMPTY], body),
    }
}

/// A worker's or broker's command of nothing but a code
fn bare(wire: Wire, code: u8) -> Message {
    let header = Bytes::from_static(worker_header(wire));
    match wire {
        Wire::Mdp02 => Message::from_frames(smallvec![header, octet(code)]),
        _ => Message::from_frames(smallvec![EMPTY, header, octet(code)]),
    }
}

/// A peer knows what its broker speaks: the empty frame has to be there, or not
fn skip_delimiter(frames: &Body, wire: Wire) -> Result<usize, Malformed> {
    match (frames.first().is_some_and(|frame| frame.is_empty()), wire) {
        (true, _) => Ok(1),
        (false, Wire::Mdp02) => Ok(0),
        (false, _) if frames.first().is_some_and(|frame| parse_header(frame).is_some()) => Err(Malformed::NoDelimiter),
        (false, _) => Err(Malformed::UnknownHeader),
    }
}

fn expect_header(frames: &Body, at: usize, header: &[u8]) -> Result<usize, Malformed> {
    match frames.get(at) {
        Some(frame) if **frame == *header => Ok(at + 1),
        _ => Err(Malformed::UnknownHeader),
    }
}

/// 0.1 has no codes between client and broker
fn client_codes(wire: Wire) -> Option<&'static ClientCodes> {
    match wire {
        Wire::Mdp01 | Wire::Domogik => None,
        Wire::Majortomo => Some(&MAJORTOMO),
        _ => Some(&MDP02),
    }
}

fn worker_codes(wire: Wire) -> &'static WorkerCodes {
    match wire {
        Wire::Mdp01 | Wire::Domogik => &WorkerCodes { partial: None, last: 3, heartbeat: 4, disconnect: 5 },
        _ => &WorkerCodes { partial: Some(3), last: 4, heartbeat: 5, disconnect: 6 },
    }
}

fn worker_header(wire: Wire) -> &'static [u8] {
    match wire {
        Wire::Mdp01 | Wire::Domogik => WORKER_01,
        _ => WORKER_02,
    }
}

/// A frame of one octet, of the few that codes are
pub(super) fn octet(code: u8) -> Bytes {
    const CODES: &[u8; 10] = &[0, 1, 2, 3, 4, 5, 6, 7, 8, 9];
    match CODES.get(usize::from(code)..=usize::from(code)) {
        Some(frame) => Bytes::from_static(frame),
        None => Bytes::copy_from_slice(&[code]),
    }
}

const CLIENT_01: &[u8] = b"MDPC01";
const WORKER_01: &[u8] = b"MDPW01";
const CLIENT_02: &[u8] = b"MDPC02";
const WORKER_02: &[u8] = b"MDPW02";
const EMPTY: Bytes = Bytes::new();
/// The same in 0.1 and 0.2
const READY: u8 = 1;
/// The same in 0.1 and 0.2
const REQUEST: u8 = 2;
const MDP02: ClientCodes = ClientCodes { request: 1, partial: 2, last: 3 };
const MAJORTOMO: ClientCodes = ClientCodes { request: 2, partial: 3, last: 4 };
/// ZMTP's own bound (RFC 23, "The Identity Property")
const ROUTING_ID_LIMIT: usize = 255;

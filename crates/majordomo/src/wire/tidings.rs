//! Our own wire: requests are numbered, carry options, can be taken back, and are refused with a status.
//!
//! Both sides agree on it in ZMTP's handshake: a broker's socket announces the property [`TIDINGS_PROPERTY`], and a client
//! or worker of ours that sees it speaks this wire from its first message on. Numbers are big-endian.
//!
//! ```text
//! client → broker   MDPCT1 | 01 REQUEST | id(8) | service | options | body..
//!                   MDPCT1 | 05 CANCEL  | id(8)
//! broker → client   MDPCT1 | 02 PARTIAL | id(8) | body..
//!                   MDPCT1 | 03 FINAL   | id(8) | body..
//!                   MDPCT1 | 04 REFUSED | id(8) | status | text | JSON detail, may be missing
//! worker → broker   MDPWT1 | 01 READY   | service | options
//!                   MDPWT1 | 03 PARTIAL | token(8) | body..
//!                   MDPWT1 | 04 FINAL   | token(8) | body..
//!                   MDPWT1 | 05 HEARTBEAT
//!                   MDPWT1 | 06 DISCONNECT
//!                   MDPWT1 | 08 REFUSED | token(8) | status | text
//!                   MDPWT1 | 09 DRAINING
//! broker → worker   MDPWT1 | 02 REQUEST | token(8) | options | body..
//!                   MDPWT1 | 05 HEARTBEAT
//!                   MDPWT1 | 06 DISCONNECT
//!                   MDPWT1 | 07 CANCEL  | token(8)
//!                   MDPWT1 | 09 DRAIN
//! ```

use bytes::Bytes;
use smallvec::smallvec;
use tidings_zmtp::Message;

use super::classic::octet;
use super::{
    Body, ClientCommand, ClientReply, Command, Incoming, Malformed, ReadyOptions, Rejected, RequestOptions, ReturnPath,
    Role, ServiceName, Status, Wire, WorkerCommand, WorkerOrder, behind, in_front, take,
};

pub(super) fn decode_client_command(mut frames: Body) -> Result<Incoming, Rejected> {
    let rejected = |cause| Rejected::of(cause, Wire::Tidings, Role::Client);
    let command = match code(&frames).map_err(rejected)? {
        CLIENT_REQUEST => {
            let id = id(&frames).map_err(rejected)?;
            // From here on the client can be told
            let rejected = |cause| Rejected { id: Some(id), ..rejected(cause) };
            let service = ServiceName::new(take(&mut frames, 3)).map_err(|error| rejected(error.into()))?;
            let options = frames.get(4).ok_or(Malformed::BadOptions).and_then(RequestOptions::decode);
            let options = options.map_err(rejected)?;
            ClientCommand::Request { id, service, options, body: behind(frames, 5) }
        }
        CLIENT_CANCEL => {
            check_end(&frames, 3).map_err(rejected)?;
            ClientCommand::Cancel { id: id(&frames).map_err(rejected)? }
        }
        CLIENT_PARTIAL | CLIENT_FINAL | CLIENT_REFUSED => return Err(rejected(Malformed::UnexpectedCommand)),
        _ => return Err(rejected(Malformed::UnknownCommand)),
    };
    Ok(Incoming { wire: Wire::Tidings, path: ReturnPath::direct(), command: Command::Client(command) })
}

pub(super) fn decode_worker_command(frames: Body) -> Result<Incoming, Rejected> {
    let command = read_worker_command(frames).map_err(|cause| Rejected::of(cause, Wire::Tidings, Role::Worker))?;
    Ok(Incoming { wire: Wire::Tidings, path: ReturnPath::direct(), command: Command::Worker(command) })
}

fn read_worker_command(mut frames: Body) -> Result<WorkerCommand, Malformed> {
    Ok(match code(&frames)? {
        WORKER_READY => {
            check_end(&frames, 4)?;
            let service = ServiceName::new(take(&mut frames, 2))?;
            let options = ReadyOptions::decode(frames.get(3).ok_or(Malformed::BadOptions)?)?;
            WorkerCommand::Ready { service, options }
        }
        WORKER_PARTIAL => WorkerCommand::Partial { token: token(&mut frames)?, body: behind(frames, 3) },
        WORKER_FINAL => WorkerCommand::Final { token: token(&mut frames)?, body: behind(frames, 3) },
        WORKER_REFUSED => {
            check_end(&frames, 5)?;
            let status = frames.get(3).and_then(|digits| Status::from_digits(digits)).ok_or(Malformed::BadStatus)?;
            WorkerCommand::Refused { token: token(&mut frames)?, status, text: take(&mut frames, 4) }
        }
        HEARTBEAT => check_end(&frames, 2).map(|()| WorkerCommand::Heartbeat)?,
        DISCONNECT => check_end(&frames, 2).map(|()| WorkerCommand::Disconnect)?,
        DRAIN => check_end(&frames, 2).map(|()| WorkerCommand::Draining)?,
        WORKER_REQUEST | WORKER_CANCEL => return Err(Malformed::UnexpectedCommand),
        _ => return Err(Malformed::UnknownCommand),
    })
}

pub(super) fn encode_client_reply(reply: ClientReply) -> Message {
    let header = Bytes::from_static(CLIENT_HEADER);
    match reply {
        ClientReply::Partial { id, body, .. } => in_front([header, octet(CLIENT_PARTIAL), id_frame(id)], body),
        ClientReply::Final { id, body, .. } => in_front([header, octet(CLIENT_FINAL), id_frame(id)], body),
        ClientReply::Refused { id, status, text } => Message::from_frames(smallvec![
            header,
            octet(CLIENT_REFUSED),
            id_frame(id),
            Bytes::copy_from_slice(&status.digits()),
            text
        ]),
    }
}

pub(super) fn decode_client_reply(mut frames: Body) -> Result<ClientReply, Malformed> {
    expect_header(&frames, CLIENT_HEADER)?;
    let service = Bytes::new();
    match code(&frames)? {
        CLIENT_PARTIAL => Ok(ClientReply::Partial { id: id(&frames)?, service, body: behind(frames, 3) }),
        CLIENT_FINAL => Ok(ClientReply::Final { id: id(&frames)?, service, body: behind(frames, 3) }),
        CLIENT_REFUSED => {
            check_end(&frames, 6)?;
            let status = frames.get(3).and_then(|digits| Status::from_digits(digits)).ok_or(Malformed::BadStatus)?;
            Ok(ClientReply::Refused { id: id(&frames)?, status, text: take(&mut frames, 4) })
        }
        CLIENT_REQUEST | CLIENT_CANCEL => Err(Malformed::UnexpectedCommand),
        _ => Err(Malformed::UnknownCommand),
    }
}

pub(super) fn encode_worker_order(order: WorkerOrder) -> Message {
    let header = Bytes::from_static(WORKER_HEADER);
    match order {
        WorkerOrder::Request { token, options, body } => {
            in_front([header, octet(WORKER_REQUEST), token, options.encode()], body)
        }
        WorkerOrder::Heartbeat => bare(HEARTBEAT),
        WorkerOrder::Disconnect => bare(DISCONNECT),
        WorkerOrder::Cancel { token } => Message::from_frames(smallvec![header, octet(WORKER_CANCEL), token]),
        WorkerOrder::Drain => bare(DRAIN),
    }
}

pub(super) fn decode_worker_order(mut frames: Body) -> Result<WorkerOrder, Malformed> {
    expect_header(&frames, WORKER_HEADER)?;
    Ok(match code(&frames)? {
        WORKER_REQUEST => {
            let options = RequestOptions::decode(frames.get(3).ok_or(Malformed::BadOptions)?)?;
            WorkerOrder::Request { token: token(&mut frames)?, options, body: behind(frames, 4) }
        }
        HEARTBEAT => check_end(&frames, 2).map(|()| WorkerOrder::Heartbeat)?,
        DISCONNECT => check_end(&frames, 2).map(|()| WorkerOrder::Disconnect)?,
        WORKER_CANCEL => {
            check_end(&frames, 3)?;
            WorkerOrder::Cancel { token: token(&mut frames)? }
        }
        DRAIN => check_end(&frames, 2).map(|()| WorkerOrder::Drain)?,
        WORKER_READY | WORKER_PARTIAL | WORKER_FINAL | WORKER_REFUSED => return Err(Malformed::UnexpectedCommand),
        _ => return Err(Malformed::UnknownCommand),
    })
}

pub(super) fn encode_client_command(command: ClientCommand) -> Message {
    let header = Bytes::from_static(CLIENT_HEADER);
    match command {
        ClientCommand::Request { id, service, options, body } => {
            in_front([header, octet(CLIENT_REQUEST), id_frame(id), service.into_bytes(), options.encode()], body)
        }
        ClientCommand::Cancel { id } => Message::from_frames(smallvec![header, octet(CLIENT_CANCEL), id_frame(id)]),
    }
}

pub(super) fn encode_worker_command(command: WorkerCommand) -> Message {
    let header = Bytes::from_static(WORKER_HEADER);
    match command {
        WorkerCommand::Ready { service, options } => {
            Message::from_frames(smallvec![header, octet(WORKER_READY), service.into_bytes(), options.encode()])
        }
        WorkerCommand::Partial { token, body } => in_front([header, octet(WORKER_PARTIAL), token], body),
        WorkerCommand::Final { token, body } => in_front([header, octet(WORKER_FINAL), token], body),
        WorkerCommand::Refused { token, status, text } => Message::from_frames(smallvec![
            header,
            octet(WORKER_REFUSED),
            token,
            Bytes::copy_from_slice(&status.digits()),
            text
        ]),
        WorkerCommand::Heartbeat => bare(HEARTBEAT),
        WorkerCommand::Disconnect => bare(DISCONNECT),
        WorkerCommand::Draining => bare(DRAIN),
    }
}

fn bare(code: u8) -> Message {
    Message::from_frames(smallvec![Bytes::from_static(WORKER_HEADER), octet(code)])
}

fn id_frame(id: u64) -> Bytes {
    Bytes::copy_from_slice(&id.to_be_bytes())
}

fn expect_header(frames: &Body, header: &[u8]) -> Result<(), Malformed> {
    match frames.first() {
        Some(frame) if **frame == *header => Ok(()),
        _ => Err(Malformed::UnknownHeader),
    }
}

fn code(frames: &Body) -> Result<u8, Malformed> {
    match **frames.get(1).ok_or(Malformed::NoCommand)? {
        [code] => Ok(code),
        _ => Err(Malformed::UnknownCommand),
    }
}

fn id(frames: &Body) -> Result<u64, Malformed> {
    let id = frames.get(2).and_then(|id| <[u8; 8]>::try_from(&id[..]).ok());
    id.map(u64::from_be_bytes).ok_or(Malformed::BadId)
}

fn token(frames: &mut Body) -> Result<Bytes, Malformed> {
    match frames.get(2).map(Bytes::len) {
        Some(TOKEN_LEN) => Ok(take(frames, 2)),
        Some(1..) => Err(Malformed::BadId),
        _ => Err(Malformed::NoAddress),
    }
}

fn check_end(frames: &Body, end: usize) -> Result<(), Malformed> {
    if frames.len() > end { Err(Malformed::TrailingFrames) } else { Ok(()) }
}

/// The property of ZMTP's handshake by which a broker offers this wire
pub const TIDINGS_PROPERTY: &str = "X-Majordomo";
/// The value of [`TIDINGS_PROPERTY`]: who speaks, and which version of the wire
pub const TIDINGS_PROPERTY_VALUE: &str = "tidings/1";
/// Octets of the token by which a worker knows a request
pub const TOKEN_LEN: usize = 8;

pub(super) const CLIENT_HEADER: &[u8] = b"MDPCT1";
pub(super) const WORKER_HEADER: &[u8] = b"MDPWT1";

const CLIENT_REQUEST: u8 = 1;
const CLIENT_PARTIAL: u8 = 2;
const CLIENT_FINAL: u8 = 3;
const CLIENT_REFUSED: u8 = 4;
const CLIENT_CANCEL: u8 = 5;
const WORKER_READY: u8 = 1;
const WORKER_REQUEST: u8 = 2;
const WORKER_PARTIAL: u8 = 3;
const WORKER_FINAL: u8 = 4;
const HEARTBEAT: u8 = 5;
const DISCONNECT: u8 = 6;
const WORKER_CANCEL: u8 = 7;
const WORKER_REFUSED: u8 = 8;
/// DRAIN from a broker, DRAINING from a worker
const DRAIN: u8 = 9;

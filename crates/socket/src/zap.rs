//! ZAP: an authenticator that is a socket, bound to `inproc://zeromq.zap.01` in the same context (RFC 27).
//!
//! Every request has a private socket of its own, as libzmq has a pipe for each: a handler that answers late, twice or
//! wrongly harms nobody else. What a handler may get wrong has a name each.

use bytes::Bytes;
use tidings_zmtp::{AuthVerdict, Credentials, DenyCode, Message, Properties, SocketType};

use crate::auth::Answer;
use crate::context::Context;
use crate::events::readable;

/// What a handler is asked (RFC 27, "The ZAP Request")
#[derive(Debug)]
pub(crate) struct Request {
    pub(crate) domain: String,
    pub(crate) address: String,
    /// Of the socket that asks: RFC 27 means the peer's, which nobody knows at this point, and libzmq sends its own
    pub(crate) routing_id: Vec<u8>,
    pub(crate) credentials: Credentials,
}

impl Request {
    /// The frames, the delimiter of REQ first
    fn into_message(self, id: &Bytes) -> Message {
        let mechanism = self.credentials.mechanism();
        let mut frames = vec![
            Bytes::new(),
            Bytes::from_static(VERSION),
            id.clone(),
            self.domain.into(),
            self.address.into(),
            self.routing_id.into(),
            Bytes::from_static(mechanism.as_bytes()),
        ];
        match &self.credentials {
            Credentials::Plain { username, password } => {
                frames.extend([username.clone(), Bytes::copy_from_slice(password)]);
            }
            Credentials::Curve { public_key } => frames.push(Bytes::copy_from_slice(public_key.as_octets())),
            _ => {}
        }
        Message::multipart(frames)
    }
}

/// Asks the handler, and waits for as long as it takes: the handshake's deadline ends the wait
///
/// The id is a number of its own for each request, where libzmq always says `1`: a handler that keeps several apart by
/// it can.
pub(crate) async fn ask(context: Context, handler: SocketType, request: Request) -> Answer {
    // Many more than any handler answers at once; the others' own deadlines go on meanwhile
    let Ok(_one_of_few) = context.zap_requests().acquire_owned().await else {
        return Answer::defect(ZAP_HANDLER);
    };
    let asking = match handler {
        SocketType::Rep | SocketType::Router => SocketType::Dealer,
        SocketType::Server => SocketType::Client,
        _ => return Answer::defect(ZAP_HANDLER),
    };
    let socket = context.private_socket(asking);
    let id = Bytes::from(context.next_zap_request().to_string());
    if socket.connect(ENDPOINT).is_err() || socket.send(request.into_message(&id)).await.is_err() {
        return Answer::defect(ZAP_HANDLER);
    }
    let Ok(reply) = socket.recv().await else {
        return Answer::defect(ZAP_HANDLER);
    };
    match read_reply(reply, &id) {
        Ok(verdict) => Answer { verdict, defect: None },
        Err(defect) => Answer::defect(defect),
    }
}

/// What a reply says (RFC 27, "The ZAP Reply")
///
/// # Errors
/// The name of what is wrong with it.
fn read_reply(reply: Message, id: &[u8]) -> Result<AuthVerdict, &'static str> {
    let frames: Vec<Bytes> = reply.into_frames().into_iter().collect();
    let [delimiter, version, request_id, status, text, user_id, metadata] = frames.as_slice() else {
        return Err(ZAP_FRAMES);
    };
    if !delimiter.is_empty() {
        return Err(ZAP_DELIMITER);
    }
    if version != VERSION {
        return Err(ZAP_VERSION);
    }
    if request_id != id {
        return Err(ZAP_REQUEST_ID);
    }
    let denied = match &status[..] {
        b"200" => None,
        b"300" => Some(DenyCode::Temporary),
        b"400" => Some(DenyCode::Denied),
        b"500" => Some(DenyCode::Internal),
        _ => return Err(ZAP_STATUS),
    };
    let metadata = Properties::decode(metadata).map_err(|_| ZAP_METADATA)?;
    Ok(match denied {
        None => AuthVerdict::Allow { user_id: user_id.clone(), metadata },
        Some(code) => AuthVerdict::Deny { code, reason: readable(text) },
    })
}

/// What is wrong with the handler, for people
pub(crate) fn explain(reason: &str) -> &'static str {
    match reason {
        ZAP_FRAMES => "the ZAP handler's reply does not have seven frames, the empty one included",
        ZAP_DELIMITER => "the ZAP handler's reply does not begin with an empty frame",
        ZAP_VERSION => "the ZAP handler's reply is not of version 1.0",
        ZAP_REQUEST_ID => "the ZAP handler's reply does not repeat the number of the request",
        ZAP_STATUS => "the ZAP handler's reply has a status that is none of 200, 300, 400 and 500",
        ZAP_METADATA => "the ZAP handler's reply has metadata that can't be read",
        ZAP_HANDLER => "the socket bound to inproc://zeromq.zap.01 is no REP, ROUTER or SERVER, or was closed",
        NO_AUTHENTICATOR => {
            "nobody is there to ask whether the peer may come in: give the context an authenticator, or bind a ZAP handler"
        }
        _ => "",
    }
}

/// Whether a reason is one of these
pub(crate) fn is_defect(reason: &str) -> bool {
    !explain(reason).is_empty()
}

/// The handler's name, in every context
pub(crate) const NAME: &str = "zeromq.zap.01";
/// Requests that a handler has at a time; ours to choose, and never measured
pub(crate) const MOST_REQUESTS: usize = 1024;
const ENDPOINT: &str = "inproc://zeromq.zap.01";
const VERSION: &[u8] = b"1.0";

// Reasons for refusing a peer because of whoever should have decided; names in events and metrics
pub(crate) const ZAP_FRAMES: &str = "zap-reply-frames";
pub(crate) const ZAP_DELIMITER: &str = "zap-reply-delimiter";
pub(crate) const ZAP_VERSION: &str = "zap-reply-version";
pub(crate) const ZAP_REQUEST_ID: &str = "zap-reply-request-id";
pub(crate) const ZAP_STATUS: &str = "zap-reply-status";
pub(crate) const ZAP_METADATA: &str = "zap-reply-metadata";
pub(crate) const ZAP_HANDLER: &str = "zap-handler";
pub(crate) const NO_AUTHENTICATOR: &str = "no-authenticator";

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use tidings_zmtp::CurvePublicKey;

    use super::*;

    fn request(credentials: Credentials) -> Vec<Vec<u8>> {
        let request =
            Request { domain: "test".into(), address: "127.0.0.1".into(), routing_id: b"SRVID".to_vec(), credentials };
        let message = request.into_message(&Bytes::from_static(b"1"));
        message.frames().map(<[u8]>::to_vec).collect()
    }

    /// The requests that were seen from libzmq (the ZAP sheet, section 2)
    #[test]
    fn requests_are_libzmqs() {
        let seen: [&[u8]; 7] = [b"", b"1.0", b"1", b"test", b"127.0.0.1", b"SRVID", b"NULL"];
        assert_eq!(request(Credentials::Null), seen);
        let plain = Credentials::Plain { username: "admin".into(), password: b"secret".to_vec().into() };
        assert_eq!(request(plain)[6..], [&b"PLAIN"[..], b"admin", b"secret"]);
        let public_key = CurvePublicKey::from_octets([7; 32]);
        assert_eq!(request(Credentials::Curve { public_key })[6..], [&b"CURVE"[..], &[7; 32]]);
    }

    const GOOD: [&[u8]; 7] = [b"", b"1.0", b"1", b"200", b"OK", b"joe", b"\x03X-m\0\0\0\x02yo"];

    fn read(frames: &[&[u8]]) -> Result<AuthVerdict, &'static str> {
        read_reply(Message::multipart(frames.iter().map(|frame| frame.to_vec())), b"1")
    }

    #[test]
    fn a_reply_says_who_it_is_and_what_else_is_known() {
        let Ok(AuthVerdict::Allow { user_id, metadata }) = read(&GOOD) else { panic!("it lets in") };
        assert_eq!((&user_id[..], metadata.value("X-m").map(|value| &value[..])), (&b"joe"[..], Some(&b"yo"[..])));
        for (status, code) in [("300", DenyCode::Temporary), ("400", DenyCode::Denied), ("500", DenyCode::Internal)] {
            let mut frames = GOOD;
            (frames[3], frames[4]) = (status.as_bytes(), b"No\x07");
            assert_eq!(read(&frames), Ok(AuthVerdict::Deny { code, reason: "0x4e6f07".into() }));
        }
    }

    /// The defects of the ZAP sheet, section 5
    #[test]
    fn every_defect_has_its_name() {
        let altered = |index: usize, frame: &'static [u8]| {
            let mut frames = GOOD;
            frames[index] = frame;
            read(&frames)
        };
        for (outcome, name) in [
            (read(&GOOD[..6]), ZAP_FRAMES),
            (read(&[&GOOD[..], &[b""]].concat()), ZAP_FRAMES),
            (read(&[b""]), ZAP_FRAMES),
            (altered(0, b"x"), ZAP_DELIMITER),
            (altered(1, b"1.1"), ZAP_VERSION),
            (altered(1, b""), ZAP_VERSION),
            (altered(2, b"2"), ZAP_REQUEST_ID),
            (altered(2, b""), ZAP_REQUEST_ID),
            (altered(3, b"201"), ZAP_STATUS),
            (altered(3, b"2000"), ZAP_STATUS),
            (altered(3, b""), ZAP_STATUS),
            (altered(6, b"\x03X-m\0\0\0\x03yo"), ZAP_METADATA),
            (altered(6, b"\xff"), ZAP_METADATA),
        ] {
            assert_eq!(outcome, Err(name));
            assert!(is_defect(name) && explain(name).len() > 20);
        }
    }

    proptest! {
        #[test]
        fn no_reply_is_too_odd(frames in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..40), 0..9)) {
            let frames: Vec<&[u8]> = frames.iter().map(Vec::as_slice).collect();
            let _ = read(&frames);
        }
    }
}

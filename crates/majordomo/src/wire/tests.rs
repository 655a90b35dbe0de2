//! The wires against the octets of their specifications, and everything that may be wrong with a message.

use proptest::prelude::*;
use smallvec::smallvec;
use tidings_zmtp::WriteQueue;

use super::*;

/// Octets as ZMTP 3.x writes the message: what the sheets of the protocols show
fn octets(message: &Message) -> String {
    let mut queue = WriteQueue::new();
    queue.push(&[], message);
    let mut slices = [std::io::IoSlice::new(&[]); 32];
    let filled = queue.slices(&mut slices);
    let octets = slices[..filled].iter().flat_map(|slice| slice.iter());
    octets.map(|octet| format!("{octet:02x}")).collect()
}

/// What a sheet shows, without its spaces
fn sheet(text: &str) -> String {
    text.chars().filter(|character| !character.is_whitespace()).collect()
}

fn frames<const N: usize>(frames: [&'static [u8]; N]) -> Message {
    Message::multipart(frames.map(Bytes::from_static))
}

fn body<const N: usize>(frames: [&'static str; N]) -> Body {
    frames.into_iter().map(Bytes::from).collect()
}

fn name(service: &str) -> ServiceName {
    service.parse().unwrap()
}

fn request(id: u64, service: &str, options: RequestOptions, body: Body) -> ClientCommand {
    ClientCommand::Request { id, service: name(service), options, body }
}

fn plain_request(service: &str, body: Body) -> ClientCommand {
    request(0, service, RequestOptions::default(), body)
}

fn ready(service: &str) -> WorkerCommand {
    WorkerCommand::Ready { service: name(service), options: ReadyOptions::default() }
}

fn to_worker(token: &'static str, body: Body) -> WorkerOrder {
    WorkerOrder::Request { token: token.into(), options: RequestOptions::default(), body }
}

/// What a broker hears is what was said, on that wire
fn heard(message: Message, wire: Wire, path: ReturnPath, command: Command) {
    assert_eq!(decode(message.clone()), Ok(Incoming { wire, path, command }), "{message:?}");
}

fn direct() -> ReturnPath {
    ReturnPath::direct()
}

fn delimited() -> ReturnPath {
    ReturnPath::delimited([])
}

#[test]
fn mdp_0_1_octet_for_octet() {
    let wire = Wire::Mdp01;
    let cases = [
        (ready("echo"), "01 00 01 06 4d4450573031 01 01 01 00 04 6563686f"),
        (WorkerCommand::Heartbeat, "01 00 01 06 4d4450573031 00 01 04"),
        (WorkerCommand::Disconnect, "01 00 01 06 4d4450573031 00 01 05"),
        (
            WorkerCommand::Final { token: Bytes::from_static(b"\x00\xaa\xbb\xcc\xdd"), body: body(["hi"]) },
            "01 00 01 06 4d4450573031 01 01 03 01 05 00aabbccdd 01 00 00 02 6869",
        ),
    ];
    for (command, expected) in cases {
        let message = command.clone().encode(wire).unwrap();
        assert_eq!(octets(&message), sheet(expected));
        heard(message, wire, direct(), Command::Worker(command));
    }
    let command = plain_request("echo", body(["hi"]));
    let message = command.clone().encode(wire).unwrap();
    assert_eq!(octets(&message), sheet("01 00 01 06 4d4450433031 01 04 6563686f 00 02 6869"));
    heard(message, wire, delimited(), Command::Client(command));

    let order = to_worker("\0\u{1}", body(["hi", "there"]));
    let message = order.clone().encode(wire).unwrap();
    assert_eq!(message, frames([b"", b"MDPW01", b"\x02", b"\0\x01", b"", b"hi", b"there"]));
    assert_eq!(WorkerOrder::decode(message, wire), Ok(order));
    assert_eq!(WorkerOrder::Heartbeat.encode(wire).unwrap(), frames([b"", b"MDPW01", b"\x04"]));
    assert_eq!(WorkerOrder::Disconnect.encode(wire).unwrap(), frames([b"", b"MDPW01", b"\x05"]));

    let reply = ClientReply::Final { id: 0, service: "echo".into(), body: body(["hi"]) };
    let message = reply.clone().encode(wire, &delimited()).unwrap();
    assert_eq!(message, frames([b"", b"MDPC01", b"echo", b"hi"]));
    assert_eq!(ClientReply::decode(message, wire), Ok(reply));
}

#[test]
fn mdp_0_2_octet_for_octet() {
    let wire = Wire::Mdp02;
    let command = plain_request("echo", body(["hi"]));
    let message = command.clone().encode(wire).unwrap();
    assert_eq!(octets(&message), sheet("01 06 4d4450433032 01 01 01 01 04 6563686f 00 02 6869"));
    heard(message, wire, direct(), Command::Client(command));
    let token = Bytes::from("w1");
    let cases = [
        (ready("echo"), sheet("01 06 4d4450573032 01 01 01 00 04 6563686f")),
        (WorkerCommand::Heartbeat, sheet("01 06 4d4450573032 00 01 05")),
        (WorkerCommand::Disconnect, sheet("01 06 4d4450573032 00 01 06")),
        (
            WorkerCommand::Partial { token: token.clone(), body: body(["hi"]) },
            sheet("01 06 4d4450573032 01 01 03 01 02 7731 01 00 00 02 6869"),
        ),
        (
            WorkerCommand::Final { token, body: body(["hi"]) },
            sheet("01 06 4d4450573032 01 01 04 01 02 7731 01 00 00 02 6869"),
        ),
    ];
    for (command, expected) in cases {
        let message = command.clone().encode(wire).unwrap();
        assert_eq!(octets(&message), expected);
        heard(message, wire, direct(), Command::Worker(command));
    }
    let message = to_worker("w1", body(["hi"])).encode(wire).unwrap();
    assert_eq!(message, frames([b"MDPW02", b"\x02", b"w1", b"", b"hi"]));
    let reply = |is_last| match is_last {
        true => ClientReply::Final { id: 0, service: "echo".into(), body: body(["hi"]) },
        false => ClientReply::Partial { id: 0, service: "echo".into(), body: body(["hi"]) },
    };
    for (is_last, code) in [(false, b"\x02"), (true, b"\x03")] {
        let message = reply(is_last).encode(wire, &direct()).unwrap();
        assert_eq!(message, frames([b"MDPC02", code, b"echo", b"hi"]));
        assert_eq!(ClientReply::decode(message, wire), Ok(reply(is_last)));
    }
}

#[test]
fn majortomo_as_observed() {
    let wire = Wire::Majortomo;
    let command = plain_request("echo", body(["hi"]));
    let message = command.clone().encode(wire).unwrap();
    assert_eq!(message, frames([b"", b"MDPC02", b"\x02", b"echo", b"hi"]));
    heard(message, wire, delimited(), Command::Client(command));
    for (command, message) in [
        (ready("echo"), frames([b"", b"MDPW02", b"\x01", b"echo"])),
        (WorkerCommand::Heartbeat, frames([b"", b"MDPW02", b"\x05"])),
        (WorkerCommand::Disconnect, frames([b"", b"MDPW02", b"\x06"])),
        (
            WorkerCommand::Partial { token: "w1".into(), body: body(["hi"]) },
            frames([b"", b"MDPW02", b"\x03", b"w1", b"", b"hi"]),
        ),
        (
            WorkerCommand::Final { token: "w1".into(), body: body(["hi"]) },
            frames([b"", b"MDPW02", b"\x04", b"w1", b"", b"hi"]),
        ),
    ] {
        assert_eq!(command.clone().encode(wire).unwrap(), message);
        heard(message, wire, direct(), Command::Worker(command));
    }
    assert_eq!(
        to_worker("w1", body(["hi"])).encode(wire).unwrap(),
        frames([b"", b"MDPW02", b"\x02", b"w1", b"", b"hi"])
    );
    // No service is in its replies
    let reply = ClientReply::Partial { id: 0, service: "echo".into(), body: body(["hi"]) };
    assert_eq!(reply.encode(wire, &delimited()).unwrap(), frames([b"", b"MDPC02", b"\x03", b"hi"]));
    let reply = ClientReply::Final { id: 0, service: "echo".into(), body: body(["hi"]) };
    let message = reply.encode(wire, &delimited()).unwrap();
    assert_eq!(message, frames([b"", b"MDPC02", b"\x04", b"hi"]));
    let heard = ClientReply::Final { id: 0, service: Bytes::new(), body: body(["hi"]) };
    assert_eq!(ClientReply::decode(message, wire), Ok(heard));
}

#[test]
fn rfc_18_behind_an_empty_frame_is_answered_so() {
    let message = frames([b"", b"MDPC02", b"\x01", b"echo", b"hi"]);
    heard(message, Wire::Mdp02, delimited(), Command::Client(plain_request("echo", body(["hi"]))));
    let reply = ClientReply::Final { id: 0, service: "echo".into(), body: body(["hi"]) };
    let message = reply.encode(Wire::Mdp02, &delimited()).unwrap();
    assert_eq!(message, frames([b"", b"MDPC02", b"\x03", b"echo", b"hi"]));
}

#[test]
fn zproto_octet_for_octet() {
    let wire = Wire::Zproto;
    let command = plain_request("echo", body(["hi"]));
    let message = command.clone().encode(wire).unwrap();
    assert_eq!(message, frames([b"\xaa\xa4\x01\x06MDPC02\x01\x04echo", b"hi"]));
    heard(message, wire, direct(), Command::Client(command));
    for (command, message) in [
        (ready("echo"), frames([b"\xaa\xa4\x04\x06MDPW02\x01\x04echo"])),
        (WorkerCommand::Heartbeat, frames([b"\xaa\xa4\x08\x06MDPW02\x05"])),
        (WorkerCommand::Disconnect, frames([b"\xaa\xa4\x09\x06MDPW02\x06"])),
        (
            WorkerCommand::Partial { token: "w1".into(), body: body(["hi"]) },
            frames([b"\xaa\xa4\x06\x06MDPW02\x03", b"w1", b"", b"hi"]),
        ),
        (
            WorkerCommand::Final { token: "w1".into(), body: body(["hi"]) },
            frames([b"\xaa\xa4\x07\x06MDPW02\x04", b"w1", b"", b"hi"]),
        ),
    ] {
        assert_eq!(command.clone().encode(wire).unwrap(), message);
        heard(message, wire, direct(), Command::Worker(command));
    }
    let order = to_worker("w1", body(["hi"]));
    let message = order.clone().encode(wire).unwrap();
    assert_eq!(message, frames([b"\xaa\xa4\x05\x06MDPW02\x02", b"w1", b"", b"hi"]));
    assert_eq!(WorkerOrder::decode(message, wire), Ok(order));
    let reply = ClientReply::Final { id: 0, service: "echo".into(), body: body(["hi"]) };
    let message = reply.clone().encode(wire, &direct()).unwrap();
    assert_eq!(message, frames([b"\xaa\xa4\x03\x06MDPC02\x03\x04echo", b"hi"]));
    assert_eq!(ClientReply::decode(message, wire), Ok(reply));
}

#[test]
fn domogik_octet_for_octet() {
    let deadline = Some(Duration::from_secs(10));
    let options = RequestOptions { deadline, ..Default::default() };
    let command = request(0, "dbmanager", options, body(["config.get", r#"{"id": "diskfree"}"#]));
    let message = command.clone().encode(Wire::Domogik).unwrap();
    let expected = "01 00 01 06 4d4450433031 01 09 64626d616e61676572 01 02 3130 01 0a 636f6e6669672e676574
        00 12 7b226964223a20226469736b66726565227d";
    assert_eq!(octets(&message), sheet(expected));
    heard(message, Wire::Domogik, delimited(), Command::Client(command));
    // Without a timeout nothing is shifted: `None` is consumed as well
    let command = plain_request("dbmanager", body(["config.get", "{}"]));
    let message = command.clone().encode(Wire::Domogik).unwrap();
    assert_eq!(message, frames([b"", b"MDPC01", b"dbmanager", b"None", b"config.get", b"{}"]));
    heard(message, Wire::Domogik, delimited(), Command::Client(command));
    // A plain client's number is body
    let message = frames([b"", b"MDPC01", b"add", b"10", b"20", b"30"]);
    heard(message, Wire::Mdp01, delimited(), Command::Client(plain_request("add", body(["10", "20", "30"]))));
    // Its broker forgets the empty frame in front of DISCONNECT
    let order = WorkerOrder::decode(frames([b"MDPW01", b"\x05"]), Wire::Domogik);
    assert_eq!(order, Ok(WorkerOrder::Disconnect));
}

/// Seed 001, "Frame format" and the example behind it, frame for frame
#[test]
fn the_exchange_of_the_seed() {
    let action_and_data = || body(["config.get", r#"{"host": "igor", "plugin": "velbus", "key": "protocol"}"#]);
    let (action, data): (&'static [u8], &'static [u8]) =
        (b"config.get", br#"{"host": "igor", "plugin": "velbus", "key": "protocol"}"#);
    // "client sends the following message"
    let sent = plain_request("dbmanager", action_and_data()).encode(Wire::Mdp01).unwrap();
    assert_eq!(sent, frames([b"", b"MDPC01", b"dbmanager", action, data]));
    let heard = decode(sent).unwrap();
    let Command::Client(ClientCommand::Request { service, body: asked, options, .. }) = heard.command else {
        panic!("{:?}", heard.command);
    };
    assert_eq!((service.as_bytes(), &asked), (&b"dbmanager"[..], &action_and_data()));
    // "the dbmanager will then receive the following packet"
    let order = WorkerOrder::Request { token: "envelope".into(), options, body: asked }.encode(Wire::Domogik).unwrap();
    assert_eq!(order, frames([b"", b"MDPW01", b"\x02", b"envelope", b"", action, data]));
    let Ok(WorkerOrder::Request { token, .. }) = WorkerOrder::decode(order, Wire::Domogik) else { panic!() };
    // "the dbmanager then does its action and will sent the following packet"
    let result = WorkerCommand::Final { token, body: body(["config.result", r#"{"value": "tcp"}"#]) };
    let result = result.encode(Wire::Domogik).unwrap();
    assert_eq!(result, frames([b"", b"MDPW01", b"\x03", b"envelope", b"", b"config.result", br#"{"value": "tcp"}"#]));
    let Command::Worker(WorkerCommand::Final { body: answer, .. }) = decode(result).unwrap().command else { panic!() };
    // "the plugin will on its turn receive the following reply"
    let reply = ClientReply::Final { id: 0, service: service.into_bytes(), body: answer };
    assert_eq!(
        reply.encode(heard.wire, &heard.path).unwrap(),
        frames([b"", b"MDPC01", b"dbmanager", b"config.result", br#"{"value": "tcp"}"#])
    );
}

#[test]
fn our_own_octet_for_octet() {
    let wire = Wire::Tidings;
    let options = RequestOptions { deadline: Some(Duration::from_secs(1)), ..Default::default() };
    let command = request(258, "echo", options, body(["hi"]));
    let message = command.clone().encode(wire).unwrap();
    let expected = frames([b"MDPCT1", b"\x01", b"\0\0\0\0\0\0\x01\x02", b"echo", b"\x01\x04\0\0\x03\xe8", b"hi"]);
    assert_eq!(message, expected);
    heard(message, wire, direct(), Command::Client(command));
    let message = ClientCommand::Cancel { id: 1 }.encode(wire).unwrap();
    assert_eq!(message, frames([b"MDPCT1", b"\x05", b"\0\0\0\0\0\0\0\x01"]));
    heard(message, wire, direct(), Command::Client(ClientCommand::Cancel { id: 1 }));

    let token = || Bytes::from_static(b"12345678");
    let options = ReadyOptions { concurrency: 2, heartbeat: None };
    for (command, message) in [
        (
            WorkerCommand::Ready { service: name("echo"), options },
            frames([b"MDPWT1", b"\x01", b"echo", b"\x04\x04\0\0\0\x02"]),
        ),
        (
            WorkerCommand::Partial { token: token(), body: body(["hi"]) },
            frames([b"MDPWT1", b"\x03", b"12345678", b"hi"]),
        ),
        (WorkerCommand::Final { token: token(), body: body(["hi"]) }, frames([b"MDPWT1", b"\x04", b"12345678", b"hi"])),
        (WorkerCommand::Heartbeat, frames([b"MDPWT1", b"\x05"])),
        (WorkerCommand::Disconnect, frames([b"MDPWT1", b"\x06"])),
        (
            WorkerCommand::Refused { token: token(), status: Status::WORKER_FAILED, text: "no".into() },
            frames([b"MDPWT1", b"\x08", b"12345678", b"500", b"no"]),
        ),
        (WorkerCommand::Draining, frames([b"MDPWT1", b"\x09"])),
    ] {
        assert_eq!(command.clone().encode(wire).unwrap(), message);
        heard(message, wire, direct(), Command::Worker(command));
    }

    let options = RequestOptions { attempt: 2, ..Default::default() };
    for (order, message) in [
        (
            WorkerOrder::Request { token: token(), options, body: body(["hi"]) },
            frames([b"MDPWT1", b"\x02", b"12345678", b"\x05\x04\0\0\0\x02", b"hi"]),
        ),
        (WorkerOrder::Heartbeat, frames([b"MDPWT1", b"\x05"])),
        (WorkerOrder::Disconnect, frames([b"MDPWT1", b"\x06"])),
        (WorkerOrder::Cancel { token: token() }, frames([b"MDPWT1", b"\x07", b"12345678"])),
        (WorkerOrder::Drain, frames([b"MDPWT1", b"\x09"])),
    ] {
        assert_eq!(order.clone().encode(wire).unwrap(), message);
        assert_eq!(WorkerOrder::decode(message, wire), Ok(order));
    }

    let refused = ClientReply::Refused { id: 1, status: Status::NO_SUCH_SERVICE, text: "none".into() };
    let message = refused.clone().encode(wire, &direct()).unwrap();
    assert_eq!(message, frames([b"MDPCT1", b"\x04", b"\0\0\0\0\0\0\0\x01", b"404", b"none"]));
    assert_eq!(ClientReply::decode(message.clone(), wire), Ok(refused.clone()));
    // A later broker may say more
    let mut message = message;
    message.push_back("{}");
    assert_eq!(ClientReply::decode(message, wire), Ok(refused));
}

#[test]
fn a_path_through_proxies_leads_back() {
    let message = frames([b"p1", b"p2", b"", b"MDPC01", b"echo", b"hi"]);
    let path = ReturnPath::delimited([Bytes::from("p1"), Bytes::from("p2")]);
    heard(message, Wire::Mdp01, path.clone(), Command::Client(plain_request("echo", body(["hi"]))));
    let reply = ClientReply::Final { id: 0, service: "echo".into(), body: body(["hi"]) };
    let message = reply.encode(Wire::Mdp01, &path).unwrap();
    assert_eq!(message, frames([b"p1", b"p2", b"", b"MDPC01", b"echo", b"hi"]));
    let eight = |n: usize| {
        let ids = (0..n).map(|_| Bytes::from("p"));
        Message::multipart(ids.chain(["", "MDPC01", "echo", "hi"].map(Bytes::from)))
    };
    assert!(decode(eight(8)).is_ok());
    assert_eq!(decode(eight(9)).unwrap_err().cause, Malformed::PathTooLong);
}

#[test]
fn service_names_are_octets_up_to_255() {
    for wire in Wire::ALL {
        for octets in [vec![0xff; 255], b"\0".to_vec(), "kueche".into()] {
            let service = ServiceName::new(octets).unwrap();
            let command = WorkerCommand::Ready { service: service.clone(), options: ReadyOptions::default() };
            let heard = decode(command.clone().encode(wire).unwrap()).unwrap();
            assert_eq!(heard.command, Command::Worker(command), "{wire}");
            let options = RequestOptions::default();
            let command = ClientCommand::Request { id: 0, service, options, body: body(["act", "{}"]) };
            let heard = decode(command.clone().encode(wire).unwrap()).unwrap();
            assert_eq!(heard.command, Command::Client(command), "{wire}");
        }
    }
    let long = Bytes::from(vec![b'a'; 256]);
    for front in [&["", "MDPC01"][..], &["", "MDPC02", "\x01"], &["", "MDPC02", "\x02"], &["MDPW02", "\x01"]] {
        let message = Message::multipart(front.iter().map(|frame| Bytes::from(*frame)).chain([long.clone()]));
        assert_eq!(decode(message).unwrap_err().cause, Malformed::ServiceTooLong, "{front:?}");
    }
}

#[test]
fn every_cause_has_a_message_that_shows_it() {
    use Malformed::*;
    let long = vec![b'a'; 256].leak();
    let cases: Vec<(Malformed, Message)> = vec![
        (UnknownHeader, frames([b"hello"])),
        (UnknownHeader, frames([b""])),
        (UnknownHeader, frames([b"", b"MDPX01", b"echo"])),
        (UnknownHeader, frames([b"", b"MDPCT1", b"\x01"])),
        (PathTooLong, frames([long, b"", b"MDPC01", b"echo"])),
        (NoDelimiter, frames([b"MDPC01", b"echo", b"hi"])),
        (NoDelimiter, frames([b"MDPW01", b"\x01", b"echo"])),
        (WorkerBehindProxy, frames([b"p1", b"", b"MDPW01", b"\x01", b"echo"])),
        (NoCommand, frames([b"", b"MDPW01"])),
        (NoCommand, frames([b"MDPC02"])),
        (NoCommand, frames([b"MDPWT1"])),
        (UnknownCommand, frames([b"", b"MDPW01", b"\x09"])),
        (UnknownCommand, frames([b"", b"MDPW01", b"1 "])),
        (UnknownCommand, frames([b"", b"MDPW01", b""])),
        (UnknownCommand, frames([b"MDPC02", b"1", b"echo"])),
        (UnknownCommand, frames([b"", b"MDPC02", b"\x05", b"echo"])),
        (UnknownCommand, frames([b"MDPCT1", b"\x07"])),
        (UnknownCommand, frames([b"MDPWT1", b"\x0a"])),
        (UnknownCommand, frames([b"\xaa\xa4\x0a\x06MDPW02\x01"])),
        (UnexpectedCommand, frames([b"", b"MDPW01", b"\x02", b"a", b"", b"hi"])),
        (UnexpectedCommand, frames([b"MDPC02", b"\x03", b"echo", b"hi"])),
        (UnexpectedCommand, frames([b"MDPW02", b"\x02", b"a", b"", b"hi"])),
        (UnexpectedCommand, frames([b"MDPCT1", b"\x03", b"12345678", b"hi"])),
        (UnexpectedCommand, frames([b"MDPWT1", b"\x07", b"12345678"])),
        (UnexpectedCommand, frames([b"\xaa\xa4\x03\x06MDPC02\x03\x04echo", b"hi"])),
        (NoService, frames([b"", b"MDPC01"])),
        (NoService, frames([b"", b"MDPC01", b"", b"hi"])),
        (NoService, frames([b"", b"MDPW01", b"\x01"])),
        (NoService, frames([b"MDPCT1", b"\x01", b"12345678"])),
        (NoService, frames([b"\xaa\xa4\x01\x06MDPC02\x01"])),
        (NoService, frames([b"\xaa\xa4\x01\x06MDPC02\x01\x00"])),
        (ServiceTooLong, frames([b"", b"MDPC01", long])),
        (NoAddress, frames([b"", b"MDPW01", b"\x03"])),
        (NoAddress, frames([b"MDPW02", b"\x04", b"", b"hi"])),
        (NoAddress, frames([b"MDPWT1", b"\x04"])),
        (NoAddress, frames([b"\xaa\xa4\x07\x06MDPW02\x04"])),
        (NoAddressDelimiter, frames([b"", b"MDPW01", b"\x03", b"a", b"hi"])),
        (NoAddressDelimiter, frames([b"MDPW02", b"\x03", b"a"])),
        (NoAddressDelimiter, frames([b"\xaa\xa4\x07\x06MDPW02\x04", b"a", b"hi"])),
        (TrailingFrames, frames([b"", b"MDPW01", b"\x01", b"echo", b"more"])),
        (TrailingFrames, frames([b"", b"MDPW01", b"\x04", b""])),
        (TrailingFrames, frames([b"MDPWT1", b"\x05", b""])),
        (TrailingFrames, frames([b"MDPCT1", b"\x05", b"12345678", b""])),
        (TrailingFrames, frames([b"\xaa\xa4\x08\x06MDPW02\x05", b""])),
        (BadId, frames([b"MDPCT1", b"\x01", b"1234", b"echo", b"", b"hi"])),
        (BadId, frames([b"MDPWT1", b"\x04", b"1234", b"hi"])),
        (BadStatus, frames([b"MDPWT1", b"\x08", b"12345678", b"5oo", b"no"])),
        (BadStatus, frames([b"MDPWT1", b"\x08", b"12345678"])),
        (BadOptions, frames([b"MDPCT1", b"\x01", b"12345678", b"echo"])),
        (BadOptions, frames([b"MDPCT1", b"\x01", b"12345678", b"echo", b"\x01", b"hi"])),
        (BadOptions, frames([b"MDPWT1", b"\x01", b"echo"])),
        (BadZproto, frames([b"\xaa\xa4"])),
        (BadZproto, frames([b"\xaa\xa4\x01\xffMDPC02\x01\x04echo"])),
        (BadZproto, frames([b"\xaa\xa4\x01\x06MDPW02\x01\x04echo"])),
        (BadZproto, frames([b"\xaa\xa4\x01\x06MDPC02\x01\x05echo"])),
        (BadZproto, frames([b"\xaa\xa4\x08\x06MDPW02\x05\x00"])),
    ];
    for (cause, message) in &cases {
        let rejected = decode(message.clone()).unwrap_err();
        assert_eq!(rejected.cause, *cause, "{message:?}");
    }
    for cause in Malformed::ALL {
        assert!(cases.iter().any(|(shown, _)| *shown == cause), "{}", cause.name());
    }
    let names: std::collections::HashSet<_> = Malformed::ALL.iter().map(|cause| cause.name()).collect();
    assert_eq!(names.len(), Malformed::ALL.len());
}

#[test]
fn whose_a_malformed_message_is() {
    let rejected = decode(frames([b"MDPCT1", b"\x01", b"\0\0\0\0\0\0\0\x07", b"echo", b"\x01", b"hi"])).unwrap_err();
    assert_eq!(rejected.from, Some((Wire::Tidings, Role::Client)));
    assert_eq!(rejected.id, Some(7), "it can be told");
    assert_eq!(decode(frames([b"", b"MDPW02", b"\x09"])).unwrap_err().from, Some((Wire::Majortomo, Role::Worker)));
    assert_eq!(decode(frames([b"MDPW01", b"\x01", b"echo"])).unwrap_err().from, Some((Wire::Mdp01, Role::Worker)));
    assert_eq!(decode(frames([b"junk"])).unwrap_err().from, None);
}

#[test]
fn what_a_wire_has_no_word_for_is_said() {
    let refused = ClientReply::Refused { id: 0, status: Status::UNAVAILABLE, text: Bytes::new() };
    let partial = ClientReply::Partial { id: 0, service: "echo".into(), body: body(["hi"]) };
    for wire in Wire::ALL {
        let is_ours = wire == Wire::Tidings;
        assert_eq!(refused.clone().encode(wire, &direct()).is_ok(), is_ours, "{wire}");
        assert_eq!(partial.clone().encode(wire, &direct()).is_ok(), wire.has_partial_replies(), "{wire}");
        assert_eq!(WorkerOrder::Drain.encode(wire).is_ok(), is_ours, "{wire}");
        assert_eq!(WorkerOrder::Cancel { token: "12345678".into() }.encode(wire).is_ok(), is_ours, "{wire}");
        assert_eq!(ClientCommand::Cancel { id: 1 }.encode(wire).is_ok(), is_ours, "{wire}");
        assert_eq!(WorkerCommand::Draining.encode(wire).is_ok(), is_ours, "{wire}");
        let partial = WorkerCommand::Partial { token: "12345678".into(), body: body(["hi"]) };
        assert_eq!(partial.encode(wire).is_ok(), wire.has_partial_replies(), "{wire}");
        assert_eq!(Wire::from_name(wire.name()), Some(wire));
    }
}

fn any_octets(longest: usize) -> impl Strategy<Value = Bytes> {
    prop::collection::vec(any::<u8>(), 0..=longest).prop_map(Bytes::from)
}

fn any_body() -> impl Strategy<Value = Body> {
    prop::collection::vec(any_octets(20), 1..4).prop_map(Body::from_vec)
}

fn any_service() -> impl Strategy<Value = ServiceName> {
    prop::collection::vec(any::<u8>(), 1..=SERVICE_NAME_LIMIT).prop_map(|octets| ServiceName::new(octets).unwrap())
}

fn any_wire() -> impl Strategy<Value = Wire> {
    prop::sample::select(&Wire::ALL[..])
}

fn any_token() -> impl Strategy<Value = Bytes> {
    any::<u64>().prop_map(|token| Bytes::copy_from_slice(&token.to_be_bytes()))
}

fn any_options() -> impl Strategy<Value = RequestOptions> {
    let key = prop::option::of(prop::collection::vec(any::<u8>(), 1..=255).prop_map(Bytes::from));
    let deadline = prop::option::of(any::<u32>().prop_map(|deadline| Duration::from_millis(deadline.into())));
    (deadline, key, any::<bool>(), 1..=u32::MAX).prop_map(|(deadline, key, repeatable, attempt)| RequestOptions {
        deadline,
        key,
        repeatable,
        attempt,
    })
}

/// What is left of options on a wire
fn carried(options: RequestOptions, wire: Wire) -> RequestOptions {
    if wire == Wire::Tidings { options } else { RequestOptions::default() }
}

/// What is understood, in either direction, is what would be said
fn leads_back(message: Message, wire: Wire) {
    if let Ok(incoming) = decode(message.clone()) {
        let again = match incoming.command.clone() {
            Command::Client(command) => command.encode(incoming.wire).unwrap(),
            Command::Worker(command) => command.encode(incoming.wire).unwrap(),
        };
        assert_eq!(decode(again).unwrap().command, incoming.command);
    }
    if let Ok(reply) = ClientReply::decode(message.clone(), wire) {
        let path = if matches!(wire, Wire::Mdp01 | Wire::Domogik | Wire::Majortomo) { delimited() } else { direct() };
        assert_eq!(ClientReply::decode(reply.clone().encode(wire, &path).unwrap(), wire), Ok(reply));
    }
    if let Ok(order) = WorkerOrder::decode(message, wire) {
        assert_eq!(WorkerOrder::decode(order.clone().encode(wire).unwrap(), wire), Ok(order));
    }
}

proptest! {
    #[test]
    fn a_request_leads_back(wire in any_wire(), id: u64, service in any_service(), options in any_options(), body in any_body()) {
        let command = ClientCommand::Request { id, service: service.clone(), options: options.clone(), body: body.clone() };
        let heard = decode(command.encode(wire).unwrap()).unwrap();
        let id = if wire == Wire::Tidings { id } else { 0 };
        let (wire, body, options) = match wire {
            // Random octets are no action with JSON, so that the timeout is body like the rest
            Wire::Domogik => {
                let timeout = domogik::timeout_frame(options.deadline);
                (Wire::Mdp01, [timeout].into_iter().chain(body).collect(), options)
            }
            wire => (wire, body, options),
        };
        let options = carried(options, wire);
        prop_assert_eq!(heard.command, Command::Client(ClientCommand::Request { id, service, options, body }));
        prop_assert_eq!(heard.wire, wire);
    }

    #[test]
    fn a_domogik_request_leads_back(seconds in prop::option::of(1u32..1_000_000), action in "[a-z.]{1,20}", number: i64) {
        let body: Body = smallvec![Bytes::from(action), Bytes::from(format!("{{\"a\": {number}}}"))];
        let deadline = seconds.map(|millis| Duration::from_millis(millis.into()));
        let options = RequestOptions { deadline, ..Default::default() };
        let command = ClientCommand::Request { id: 0, service: name("manager"), options, body };
        let heard = decode(command.clone().encode(Wire::Domogik).unwrap()).unwrap();
        prop_assert_eq!(heard.wire, Wire::Domogik);
        prop_assert_eq!(heard.command, Command::Client(command));
    }

    #[test]
    fn a_reply_leads_back(wire in any_wire(), token in any_token(), body in any_body(), is_last: bool, id: u64, service in any_service()) {
        let command = match is_last {
            true => WorkerCommand::Final { token, body: body.clone() },
            false => WorkerCommand::Partial { token, body: body.clone() },
        };
        match command.clone().encode(wire) {
            Ok(message) => prop_assert_eq!(decode(message).unwrap().command, Command::Worker(command)),
            Err(_) => prop_assert!(!is_last && !wire.has_partial_replies()),
        }
        let service = service.into_bytes();
        let reply = match is_last {
            true => ClientReply::Final { id, service: service.clone(), body: body.clone() },
            false => ClientReply::Partial { id, service: service.clone(), body: body.clone() },
        };
        let path = if matches!(wire, Wire::Mdp01 | Wire::Domogik | Wire::Majortomo) { delimited() } else { direct() };
        if let Ok(message) = reply.encode(wire, &path) {
            let id = if wire == Wire::Tidings { id } else { 0 };
            let service = if matches!(wire, Wire::Tidings | Wire::Majortomo) { Bytes::new() } else { service };
            let expected = match is_last {
                true => ClientReply::Final { id, service, body },
                false => ClientReply::Partial { id, service, body },
            };
            prop_assert_eq!(ClientReply::decode(message, wire), Ok(expected));
        }
    }

    #[test]
    fn an_order_leads_back(wire in any_wire(), token in any_token(), options in any_options(), body in any_body()) {
        let order = WorkerOrder::Request { token: token.clone(), options: options.clone(), body: body.clone() };
        let heard = WorkerOrder::decode(order.encode(wire).unwrap(), wire);
        prop_assert_eq!(heard, Ok(WorkerOrder::Request { token, options: carried(options, wire), body }));
    }

    #[test]
    fn junk_is_refused_or_understood_and_nothing_else(
        wire in any_wire(),
        front in prop::sample::select(vec!["", "MDPC01", "MDPW01", "MDPC02", "MDPW02", "MDPCT1", "MDPWT1", "x"]),
        second in prop::sample::select(vec!["", "MDPC01", "MDPW01", "MDPC02", "MDPW02", "\x01", "\x02", "\x03", "\x08"]),
        rest in prop::collection::vec(any_octets(12), 0..6),
    ) {
        let message = Message::multipart([Bytes::from(front), Bytes::from(second)].into_iter().chain(rest));
        leads_back(message, wire);
    }

    #[test]
    fn any_zproto_frame_is_refused_or_understood(front in any_octets(40)) {
        let frame: Vec<u8> = [0xaa, 0xa4].into_iter().chain(front).collect();
        leads_back(Message::from(frame), Wire::Zproto);
    }
}

//! The broker under any sequence of messages, losses and time: its books are right after every step, and its memory bounded.
#![no_main]

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use arbitrary::Arbitrary;
use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use tidings_majordomo::broker::{
    Broker, BrokerConfig, Local, LocalReply, LocalWorkerId, PeerKey, TransmitKind, Unsent,
};
use tidings_majordomo::wire::{
    Body, ClientCommand, ReadyOptions, RequestOptions, ServiceName, Status, Wire, WorkerCommand, WorkerOrder,
};
use tidings_zmtp::Message;

#[derive(Arbitrary, Debug)]
enum Step {
    Raw { peer: u8, frames: Vec<Vec<u8>> },
    Ready { peer: u8, wire: u8, service: u8, concurrency: u8, heartbeat: u16 },
    Request { peer: u8, wire: u8, id: u8, service: u8, deadline: Option<u16>, key: Option<u8>, once: bool, size: u8 },
    Cancel { peer: u8, id: u8 },
    Answer { peer: u8, wire: u8, which: u8, how: u8 },
    Beat { peer: u8, wire: u8 },
    Leave { peer: u8, wire: u8, how: u8 },
    Unsent { peer: u8, how: u8 },
    Wait(u16),
    LocalWorker(u8),
    LocalRequest { service: u8, deadline: Option<u16> },
    LocalAnswer(u8),
    RemoveLocal,
    Mmi { peer: u8, wire: u8, which: u8, service: u8 },
    Drain(u8),
    Stop(bool),
}

fn wire(number: u8) -> Wire {
    Wire::ALL[usize::from(number) % Wire::ALL.len()]
}

fn peer(number: u8) -> PeerKey {
    PeerKey(u64::from(number % 6))
}

fn service(number: u8) -> ServiceName {
    ServiceName::new(vec![b's', number % 5]).expect("two octets")
}

fn body(size: u8) -> Body {
    (0..size % 3).map(|_| Bytes::from(vec![b'x'; size.into()])).collect()
}

fuzz_target!(|steps: Vec<Step>| {
    let start = Instant::now();
    let mut now = start;
    let config = BrokerConfig {
        max_waiting: 8,
        max_waiting_octets: 2000,
        max_total_octets: 6000,
        max_requests: 32,
        max_services: 4,
        max_workers: 5,
        max_concurrency: 4,
        max_per_client: 6,
        max_attempts: 2,
        max_keys: 4,
        max_key_octets: 4000,
        max_body: 400,
        max_events: 8,
        request_age: Duration::from_secs(5),
        ..BrokerConfig::default()
    };
    let mut broker = Broker::new(config, 1, now);
    broker.set_permit(Box::new(|peer: PeerKey, _, service: &ServiceName| peer.0 != 5 || service.as_bytes()[1] != 4));
    let mut tokens: BTreeMap<PeerKey, Vec<Bytes>> = BTreeMap::new();
    let (mut local_tokens, mut locals): (Vec<(LocalWorkerId, u64)>, Vec<LocalWorkerId>) = Default::default();
    let mut last: Option<(PeerKey, TransmitKind)> = None;
    for step in steps.into_iter().take(128) {
        let mut say = |from: u8, message| broker.handle_message(now, peer(from), message);
        match step {
            Step::Raw { peer: from, frames } => say(from, Message::multipart(frames.into_iter().take(10))),
            Step::Ready { peer: from, wire: on, service: of, concurrency, heartbeat } => {
                let heartbeat = (heartbeat > 0).then(|| Duration::from_millis(heartbeat.into()));
                let options = ReadyOptions { concurrency: u32::from(concurrency).max(1), heartbeat };
                let ready = WorkerCommand::Ready { service: service(of), options };
                say(from, ready.encode(wire(on)).expect("all wires have it"));
            }
            Step::Request { peer: from, wire: on, id, service: of, deadline, key, once, size } => {
                let options = RequestOptions {
                    deadline: deadline.map(|millis| Duration::from_millis(millis.into())),
                    key: key.map(|key| vec![b'k', key % 4].into()),
                    repeatable: !once,
                    attempt: 1,
                };
                let request =
                    ClientCommand::Request { id: (id % 8).into(), service: service(of), options, body: body(size) };
                say(from, request.encode(wire(on)).expect("all wires have it"));
            }
            Step::Cancel { peer: from, id } => {
                let cancel = ClientCommand::Cancel { id: (id % 8).into() };
                say(from, cancel.encode(Wire::Tidings).expect("ours has it"));
            }
            Step::Answer { peer: from, wire: on, which, how } => {
                // Its own, or another worker's
                let owner = if how >= 250 { peer(which) } else { peer(from) };
                let owned = tokens.get(&owner).map_or(&[][..], |tokens| tokens);
                let Some(token) = owned.get(usize::from(which) % owned.len().max(1)).cloned() else { continue };
                let answer = match how % 4 {
                    0 => WorkerCommand::Partial { token, body: body(how) },
                    1 => WorkerCommand::Refused { token, status: Status::WORKER_FAILED, text: Bytes::new() },
                    _ => WorkerCommand::Final { token, body: body(how) },
                };
                if let Ok(message) = answer.encode(wire(on)) {
                    say(from, message);
                }
            }
            Step::Beat { peer: from, wire: on } => {
                say(from, WorkerCommand::Heartbeat.encode(wire(on)).expect("all wires have it"));
            }
            Step::Leave { peer: from, wire: on, how } => match how % 3 {
                0 => broker.handle_gone(now, peer(from)),
                1 => say(from, WorkerCommand::Disconnect.encode(wire(on)).expect("all wires have it")),
                _ => say(from, WorkerCommand::Draining.encode(Wire::Tidings).expect("ours has it")),
            },
            Step::Unsent { peer: from, how } => {
                let why = if how % 2 == 0 { Unsent::Full } else { Unsent::Gone };
                let (to, kind) = last.take().unwrap_or((peer(from), TransmitKind::Reply));
                broker.handle_unsent(now, to, kind, why);
            }
            Step::Wait(millis) => {
                now += Duration::from_millis(millis.into());
                broker.handle_timeout(now);
                assert!(broker.poll_timeout().is_none_or(|next| next > now), "time would stand still");
            }
            Step::LocalWorker(of) => locals.extend(broker.add_local_worker(now, &service(of), 2)),
            Step::LocalRequest { service: of, deadline } => {
                let deadline = deadline.map(|millis| Duration::from_millis(millis.into()));
                broker.local_request(now, &service(of), RequestOptions { deadline, ..Default::default() }, body(3));
            }
            Step::LocalAnswer(which) => {
                if !local_tokens.is_empty() {
                    let (worker, token) = local_tokens.swap_remove(usize::from(which) % local_tokens.len());
                    broker.local_reply(now, worker, token, LocalReply::Final(body(which)));
                }
            }
            Step::RemoveLocal => {
                if let Some(worker) = locals.pop() {
                    broker.remove_local_worker(now, worker);
                }
            }
            Step::Mmi { peer: from, wire: on, which, service: about } => {
                let names = ["mmi.service", "mmi.services", "mmi.workers", "mmi.stats", "mmi.drain", "mmi.x"];
                let name = names[usize::from(which) % names.len()].parse().expect("a name");
                let body = [service(about).into_bytes()].into_iter().collect();
                let request = ClientCommand::Request { id: 99, service: name, options: Default::default(), body };
                say(from, request.encode(wire(on)).expect("all wires have it"));
            }
            Step::Drain(of) => {
                broker.drain(now, &service(of));
            }
            Step::Stop(finally) => {
                if finally {
                    broker.finish_stop(now);
                    assert_eq!(broker.outstanding(), 0);
                } else {
                    broker.begin_stop(now);
                }
            }
        }
        while let Some(transmit) = broker.poll_transmit() {
            last = Some((transmit.to, transmit.kind));
            if let TransmitKind::Request(token) = transmit.kind {
                let known = tokens.entry(transmit.to).or_default();
                known.push(token.to_be_bytes().to_vec().into());
                let is_request = |wire| {
                    matches!(WorkerOrder::decode(transmit.message.clone(), wire), Ok(WorkerOrder::Request { .. }))
                };
                assert!(Wire::ALL.into_iter().any(is_request));
            }
        }
        while let Some(local) = broker.poll_local() {
            if let Local::Request { worker, token, .. } = local {
                local_tokens.push((worker, token));
            }
        }
        while broker.poll_event().is_some() {}
        if let Err(wrong) = broker.check() {
            panic!("{wrong}");
        }
    }
    // Whatever happened, time ends it all, but for what workers in this process owe
    locals.into_iter().for_each(|worker| broker.remove_local_worker(now, worker));
    for _ in 0..40 {
        now += Duration::from_secs(100);
        broker.handle_timeout(now);
        broker.check().expect("as before");
    }
    assert_eq!((broker.outstanding(), broker.stats(now).requests), (0, 0));
});

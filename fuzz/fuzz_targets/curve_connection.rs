//! A whole CURVE connection, altered, cut and split on its way: what arrives is what was sent, as far as it arrives.
//!
//! Input: steps of three octets: what happens, and two numbers for it.
#![no_main]

use std::time::{Duration, Instant};

use libfuzzer_sys::fuzz_target;
use testkit::{Attendee, SeededEntropy};
use tidings_zmtp::{Config, CurveClient, CurveSecretKey, CurveServer, Heartbeat, MechanismConfig, Message, SocketType};

/// What one side has said and the other not heard, and what it has sent
#[derive(Default)]
struct Way {
    octets: Vec<u8>,
    sent: Vec<Message>,
    altered: bool,
}

fuzz_target!(|data: &[u8]| {
    let (own, other) = (CurveSecretKey::from_octets([1; 32]), CurveSecretKey::from_octets([2; 32]));
    let curve_client = CurveClient::new(own, other.public(), SeededEntropy::seeded(1));
    let curve_server = CurveServer::new(other, SeededEntropy::seeded(2));
    let heartbeat = Heartbeat { interval: Some(Duration::from_secs(1)), timeout: None, ttl: Duration::ZERO };
    let config = Config::new(SocketType::Pair).heartbeat(heartbeat);
    let client = config.clone().mechanism(MechanismConfig::CurveClient(curve_client));
    let server = config.mechanism(MechanismConfig::CurveServer(curve_server)).authenticate(true);
    let mut sides = [Attendee::new(client), Attendee::new(server)];
    let mut ways = [Way::default(), Way::default()];
    let now = Instant::now();
    for step in data.chunks_exact(3).take(1000) {
        let [what, a, b] = *step else { return };
        let which = usize::from(what & 1);
        let (side, way) = (&mut sides[which], &mut ways[which]);
        let place = (usize::from(a) << 8 | usize::from(b)).checked_rem(way.octets.len()).unwrap_or_default();
        match what >> 1 & 7 {
            0 | 1 => way.octets.append(&mut side.says()),
            2 => {
                let count = (usize::from(a) << 4).min(way.octets.len());
                let heard: Vec<u8> = way.octets.drain(..count).collect();
                sides[1 - which].hears(&heard);
            }
            3 => {
                let heard = std::mem::take(&mut way.octets);
                sides[1 - which].hears(&heard);
            }
            4 => {
                let payload = vec![a; usize::from(b) * usize::from(a & 15)];
                let message = if a & 16 == 0 { payload.into() } else { Message::multipart([payload, vec![b]]) };
                way.sent.push(message.clone());
                side.send(message);
            }
            5 if !way.octets.is_empty() && b != 0 => {
                way.octets[place] ^= b;
                way.altered = true;
            }
            6 if !way.octets.is_empty() => {
                let upto = (place + usize::from(b)).min(way.octets.len());
                let taken: Vec<u8> = way.octets.drain(place..upto).collect();
                // Left out, or played again
                if a & 1 == 1 {
                    let twice = [&taken[..], &taken[..]].concat();
                    way.octets.splice(place..place, twice);
                }
                way.altered = true;
            }
            7 => side.connection.handle_timeout(now + Duration::from_millis(u64::from(a) * 10)),
            _ => {}
        }
        for which in [0, 1] {
            let (received, sent) = (&sides[1 - which].received, &ways[which].sent);
            assert!(sent.starts_with(received), "{received:?} of {sent:?}");
        }
        if ways.iter().all(|way| !way.altered) {
            let timed_out =
                |side: &Attendee| side.closed.as_ref().is_none_or(|reason| reason.name().ends_with("timed-out"));
            assert!(sides.iter().all(timed_out), "{:?} {:?}", sides[0].closed, sides[1].closed);
        }
    }
});

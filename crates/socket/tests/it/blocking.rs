//! The same from threads without a runtime.

use std::thread;
use std::time::Duration;

use tidings_socket::{
    ConnectError, Context, DealerSocket, Message, Options, PubSocket, PullSocket, PushSocket, RecvError, RepSocket,
    ReqSocket, RequestError, SendFailure, SubSocket,
};

use crate::support::{LONG, TRANSPORTS, endpoint, text};

#[test]
fn threads_ask_and_answer() {
    for threads in [1, 3] {
        for transport in TRANSPORTS {
            let context = Context::builder().io_threads(threads).build().unwrap();
            let rep = RepSocket::new(&context).unwrap();
            let at = rep.bind(endpoint(transport)).unwrap().blocking().unwrap();
            let answering = thread::spawn(move || {
                while let Ok(question) = rep.recv_blocking() {
                    rep.send_blocking(question).unwrap();
                }
            });
            let req = ReqSocket::new(&context).unwrap();
            req.connect(&at).unwrap().blocking(LONG).unwrap();
            for number in 0..100 {
                req.send_blocking(number.to_string().into()).unwrap();
                assert_eq!(text(&req.recv_blocking().unwrap()), number.to_string(), "{transport}");
                let reply = req.request_blocking("numbered".into(), LONG).unwrap();
                assert_eq!(text(&reply), "numbered", "{transport}");
            }
            assert!(context.close_blocking(LONG).is_complete(), "{transport}");
            answering.join().unwrap();
        }
    }
}

#[test]
fn waits_end_on_time_or_with_the_socket() {
    let context = Context::builder().build().unwrap();
    let brief = Duration::from_millis(5);
    let options = Options::new().recv_timeout(Some(brief)).send_timeout(Some(brief));
    let dealer = DealerSocket::with_options(&context, options).unwrap();
    assert_eq!(dealer.recv_blocking(), Err(RecvError::TimedOut(brief)));
    let error = dealer.send_blocking("back".into()).unwrap_err();
    assert_eq!((error.reason, text(&error.message)), (SendFailure::TimedOut(brief), "back".to_owned()));
    assert_eq!(dealer.ready_blocking(1, brief).unwrap_err().ready, 0);
    let error = dealer.connect("inproc://nobody").unwrap().blocking(brief).unwrap_err();
    assert!(matches!(error, ConnectError::TimedOut { .. }), "{error}");
    let req = ReqSocket::new(&context).unwrap();
    let error = req.request_blocking("anyone?".into(), brief).unwrap_err();
    assert!(matches!(error, RequestError::TimedOut { sent: false, .. }), "{error}");

    let waiting = PullSocket::new(&context).unwrap();
    let thread = thread::spawn({
        let waiting = waiting.clone();
        move || waiting.recv_blocking()
    });
    waiting.close_blocking(Duration::ZERO);
    assert_eq!(thread.join().unwrap(), Err(RecvError::Closed));
}

#[test]
fn many_threads_share_a_socket() {
    for transport in TRANSPORTS {
        let context = Context::builder().build().unwrap();
        let small = Options::new().send_hwm(20).recv_hwm(20);
        let pull = PullSocket::with_options(&context, small.clone()).unwrap();
        let push = PushSocket::with_options(&context, small).unwrap();
        let at = pull.bind(endpoint(transport)).unwrap().blocking().unwrap();
        push.connect(&at).unwrap().blocking(LONG).unwrap();
        let senders: Vec<_> = (0..4)
            .map(|_| {
                let push = push.clone();
                thread::spawn(move || {
                    let mut messages: Vec<Message> = (0..1000).map(|_| "batch".into()).collect();
                    (0..1000).for_each(|_| push.send_blocking("single".into()).unwrap());
                    while !messages.is_empty() {
                        push.send_many_blocking(&mut messages).unwrap();
                    }
                })
            })
            .collect();
        let receivers: Vec<_> = (0..4)
            .map(|_| {
                let pull = pull.clone();
                thread::spawn(move || (0..2000).for_each(|_| drop(pull.recv_blocking().unwrap())))
            })
            .collect();
        senders.into_iter().chain(receivers).for_each(|thread| thread.join().unwrap());
        assert_eq!(pull.stats().received, 8000, "{transport}");
    }
}

#[test]
fn a_publisher_knows_when_it_is_heard() {
    for transport in TRANSPORTS {
        let context = Context::builder().build().unwrap();
        let (publisher, subscriber) = (PubSocket::new(&context).unwrap(), SubSocket::new(&context).unwrap());
        let at = publisher.bind(endpoint(transport)).unwrap().blocking().unwrap();
        subscriber.subscribe("");
        drop(subscriber.connect(&at).unwrap());
        assert_eq!(publisher.ready_blocking(1, LONG), Ok(1), "{transport}");
        publisher.send_blocking("heard".into()).unwrap();
        let mut received = Vec::new();
        assert_eq!(subscriber.recv_many_blocking(&mut received, 10), Ok(1), "{transport}");
    }
}

//! `request`: many at once, late replies, deadlines, lost peers.

use std::time::Duration;

use tidings_socket::SocketType::{Rep, Req, Router};
use tidings_socket::{Context, Message, RecvError, RequestError, Socket};
use tokio::task::JoinHandle;

use crate::support::*;

#[tokio::test]
async fn fifty_at_once_each_get_their_own_reply() {
    for transport in TRANSPORTS {
        let context = Context::new();
        let (router, req) = (socket(&context, Router), socket(&context, Req));
        link(transport, &router, &req).await;
        let asking: Vec<_> = (0..50).map(|number| ask(&req, &number.to_string(), LONG)).collect();
        let mut requests = Vec::new();
        for _ in 0..50 {
            requests.push(soon(transport, router.recv()).await.unwrap());
        }
        // Out of order
        for request in requests.into_iter().rev() {
            answer(&router, &request);
        }
        for (number, asking) in asking.into_iter().enumerate() {
            let reply = soon(transport, asking).await.unwrap().unwrap();
            assert_eq!(text(&reply), format!("re {number}"), "{transport}");
        }
    }
}

#[tokio::test]
async fn a_rep_answers_them_one_by_one() {
    for transport in TRANSPORTS {
        let context = Context::new();
        let (rep, req) = (socket(&context, Rep), socket(&context, Req));
        link(transport, &rep, &req).await;
        let asking: Vec<_> = (0..50).map(|number| ask(&req, &number.to_string(), LONG)).collect();
        for _ in 0..50 {
            let question = receive(&rep, transport).await;
            send(&rep, &format!("re {question}")).await;
        }
        for (number, asking) in asking.into_iter().enumerate() {
            assert_eq!(text(&soon(transport, asking).await.unwrap().unwrap()), format!("re {number}"), "{transport}");
        }
    }
}

#[tokio::test]
async fn a_late_reply_is_dropped_and_counted() {
    for transport in TRANSPORTS {
        let context = Context::new();
        let (router, req) = (socket(&context, Router), socket(&context, Req));
        link(transport, &router, &req).await;
        let error = req.request("too slow".into(), Duration::from_millis(20)).await.unwrap_err();
        assert!(matches!(error, RequestError::TimedOut { sent: true, .. }), "{transport}: {error}");
        let late = soon(transport, router.recv()).await.unwrap();
        answer(&router, &late);
        let asking = ask(&req, "next", LONG);
        let next = soon(transport, router.recv()).await.unwrap();
        answer(&router, &next);
        assert_eq!(text(&soon(transport, asking).await.unwrap().unwrap()), "re next", "{transport}");
        assert_eq!(req.stats().unrouted, 1, "{transport}");
        // The strict way of asking is not disturbed either
        send(&req, "strict").await;
        let strict = soon(transport, router.recv()).await.unwrap();
        answer(&router, &strict);
        assert_eq!(receive(&req, transport).await, "re strict");
    }
}

#[tokio::test(start_paused = true)]
async fn without_a_peer_the_deadline_ends_it() {
    let context = Context::new();
    let req = socket(&context, Req);
    let start = tokio::time::Instant::now();
    let error = req.request("anyone?".into(), Duration::from_secs(60)).await.unwrap_err();
    assert!(matches!(error, RequestError::TimedOut { sent: false, .. }), "{error}");
    assert!((60..62).contains(&start.elapsed().as_secs()));
}

#[tokio::test]
async fn a_peer_that_goes_ends_its_requests() {
    for transport in TRANSPORTS {
        let context = Context::new();
        let (router, req) = (socket(&context, Router), socket(&context, Req));
        let at = link(transport, &router, &req).await;
        let asking: Vec<_> = (0..3).map(|number| ask(&req, &number.to_string(), LONG)).collect();
        for _ in 0..3 {
            soon(transport, router.recv()).await.unwrap();
        }
        router.close(LONG).await;
        for asking in asking {
            let error = soon(transport, asking).await.unwrap().unwrap_err();
            assert!(matches!(error, RequestError::PeerGone), "{transport}: {error}");
        }
        // What is asked now waits for the peer's return
        let asking = ask(&req, "again", LONG);
        let router = socket(&context, Router);
        soon(transport, router.bind(&at).unwrap()).await.unwrap();
        let request = soon(transport, router.recv()).await.unwrap();
        answer(&router, &request);
        assert_eq!(text(&soon(transport, asking).await.unwrap().unwrap()), "re again", "{transport}");
    }
}

#[tokio::test]
async fn a_strict_req_is_told_that_its_peer_went() {
    for transport in TRANSPORTS {
        let context = Context::new();
        let (rep, req) = (socket(&context, Rep), socket(&context, Req));
        let at = link(transport, &rep, &req).await;
        send(&req, "question").await;
        assert_eq!(receive(&rep, transport).await, "question");
        let waiting = tokio::spawn({
            let req = req.clone();
            async move { req.recv().await }
        });
        rep.close(LONG).await;
        assert_eq!(soon(transport, waiting).await.unwrap(), Err(RecvError::PeerGone), "{transport}");
        let rep = socket(&context, Rep);
        soon(transport, rep.bind(&at).unwrap()).await.unwrap();
        send(&req, "once more").await;
        assert_eq!(receive(&rep, transport).await, "once more");
    }
}

#[tokio::test]
async fn closing_ends_requests() {
    for transport in TRANSPORTS {
        let context = Context::new();
        let (router, req) = (socket(&context, Router), socket(&context, Req));
        link(transport, &router, &req).await;
        let asking = ask(&req, "question", LONG);
        soon(transport, router.recv()).await.unwrap();
        req.close(LONG).await;
        let error = soon(transport, asking).await.unwrap().unwrap_err();
        assert!(matches!(error, RequestError::Closed), "{transport}: {error}");
        let error = req.request("more".into(), LONG).await.unwrap_err();
        assert!(matches!(error, RequestError::Closed), "{transport}: {error}");
    }
}

#[tokio::test]
async fn a_reply_without_a_delimiter_ends_the_connection() {
    let context = Context::new();
    let req = socket(&context, Req);
    let at = bind(&req, "tcp").await;
    let mut peer = RawPeer::handshaken(&at, "REP").await;
    eventually("the peer is known", || connected(&req) == 1).await;
    let asking = ask(&req, "question", LONG);
    peer.write(&frame(0, b"no delimiter")).await;
    let error = soon("the end", asking).await.unwrap().unwrap_err();
    assert!(matches!(error, RequestError::PeerGone), "{error}");
    assert_eq!(req.stats().closes.get("no-delimiter"), Some(&1));
}

fn ask(req: &Socket, body: &str, deadline: Duration) -> JoinHandle<Result<Message, RequestError>> {
    let (req, body) = (req.clone(), body.to_owned());
    tokio::spawn(async move { req.request(body.into(), deadline).await })
}

/// Sends a request's envelope back with `re` in front of the body
fn answer(router: &Socket, request: &Message) {
    let mut frames = request.clone().into_frames().to_vec();
    let body = frames.pop().unwrap();
    frames.push([b"re ", &body[..]].concat().into());
    router.try_send(Message::multipart(frames)).unwrap();
}

//! Links whose sockets take nothing for a time.

use super::*;

#[test]
fn nothing_is_lost_and_little_is_kept() {
    let mut stage = Stage::new(NodeConfig::default());
    let link = stage.peer(2);
    stage.wait(millis(10));
    stage.take(link);
    stage.put("first", "value");
    let Some(Transmit { frame, .. }) = stage.node.poll_transmit() else { panic!("it is pushed") };
    stage.node.handle_unsent(stage.now, link, frame.clone());
    for number in 0..1000 {
        stage.node.put(stage.now, format!("key-{number}"), "value", Lifetime::Permanent).unwrap();
        stage.wait(millis(10));
    }
    assert!(stage.take(link).is_empty(), "nothing is given out");
    let kept = stage.node.links.get(&link).unwrap().backlog.len();
    assert!(kept <= 20, "{kept} frames are kept");
    stage.node.handle_writable(stage.now, link);
    let sent = stage.take(link);
    assert_eq!(sent.first(), Some(&frame), "what wasn't taken comes first");
    assert_eq!(of_kind(&sent, 0x02).len(), 1, "and a digest tells what was left out");
}

/// The room of a ROUTER is that of all its peers: others' may come and go, and this one takes nothing all the same
#[test]
fn trying_in_vain_is_no_progress_and_one_frame_is() {
    for takes in [0, 1, 2] {
        let mut stage = Stage::new(NodeConfig::default());
        let link = stage.peer(2);
        stage.take(link);
        let mut hang_ups = Vec::new();
        for number in 0..90 {
            stage.node.handle_writable(stage.now, link);
            stage.node.put(stage.now, format!("key-{number}"), "value", Lifetime::Permanent).unwrap();
            let mut left = takes;
            while let Some(Transmit { frame, .. }) = stage.node.poll_transmit() {
                match left {
                    0 => stage.node.handle_unsent(stage.now, link, frame),
                    _ => left -= 1,
                }
            }
            stage.wait(secs(1));
            hang_ups.extend(stage.hang_ups());
        }
        let expected: &[HangUp] = if takes == 0 { &[HangUp::Stuck] } else { &[] };
        assert_eq!(hang_ups, expected, "{takes} frames a second are taken");
    }
}

#[test]
fn a_peer_that_takes_nothing_for_long_is_none() {
    let mut stage = Stage::new(NodeConfig::default());
    let link = stage.peer(2);
    stage.take(link);
    stage.node.handle_unsent(stage.now, link, Bytes::from_static(b"frame"));
    stage.wait(secs(59));
    assert!(stage.hang_ups().is_empty());
    stage.wait(secs(2));
    assert_eq!(stage.hang_ups(), [HangUp::Stuck]);
}

/// Others' room wakes all links of a ROUTER: what is tried in vain adds nothing to what waits
#[test]
fn trying_in_vain_costs_no_memory() {
    let mut stage = Stage::new(NodeConfig::default());
    let link = stage.peer(2);
    stage.take(link);
    let frame = Bytes::from(vec![7; 100]);
    stage.node.handle_unsent(stage.now, link, frame.clone());
    for number in 0..1000 {
        stage.node.put(stage.now, format!("key-{number}"), "value", Lifetime::Permanent).unwrap();
        stage.node.handle_writable(stage.now, link);
        assert_eq!(stage.node.poll_transmit().unwrap().frame, frame);
        stage.node.handle_unsent(stage.now, link, frame.clone());
        assert!(stage.take(link).is_empty());
    }
    let kept = stage.node.links.get(&link).unwrap().backlog.len();
    assert!(kept <= 2, "{kept} frames are kept");
}

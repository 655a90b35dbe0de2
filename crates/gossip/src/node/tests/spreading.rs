//! How writes reach all nodes, and what that costs.

use super::*;

#[test]
fn what_one_puts_the_other_has() {
    let mut network = settled(2, Topology::Ring, NodeConfig::default());
    network.put(PartyId(0), "inproc://alpha-1", "service1", Lifetime::Permanent).unwrap();
    network.run_for(Duration::from_millis(2));
    let now = network.local_now(PartyId(1));
    let tuple = network.node(PartyId(1)).unwrap().get(now, b"inproc://alpha-1").unwrap();
    assert_eq!(tuple.value, Bytes::from("service1"));
    assert_eq!(tuple.dot.owner, network.node(PartyId(0)).unwrap().identity().id);
}

#[test]
fn costs() {
    for (nodes, topology, each) in [
        (5, Topology::Ring, 200),
        (5, Topology::Star, 200),
        (20, Topology::Ring, 50),
        (20, Topology::Star, 50),
        (20, Topology::Mesh(4), 50),
        (50, Topology::Ring, 20),
        (50, Topology::Star, 20),
        (50, Topology::Mesh(4), 20),
        (20, Topology::Mesh(4), 1000),
    ] {
        let mut network = settled(nodes, topology, NodeConfig::default());
        let before = network.traffic();
        for node in 0..nodes {
            for number in 0..each {
                network.with_node(PartyId(node), |node, now| {
                    let key = format!("node-{}-key-{number:04}", node.identity().id.0 % 100);
                    node.put(now, key, format!("value-{number}"), Lifetime::Permanent).unwrap();
                });
            }
        }
        let took = agree(&mut network, secs(30));
        let sent = network.traffic();
        let octets = (sent.total() - before.total()).octets;
        println!(
            "{nodes} {topology:?} {each}: {took:?}, {} octets a tuple and node",
            octets as f64 / (nodes * nodes * each) as f64
        );
        for (kind, count) in sent.kinds() {
            let since = count - before.of(kind);
            println!("    {kind}: {} of {}", since.messages, since.octets);
        }
    }
}

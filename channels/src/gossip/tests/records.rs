//! The graph from what is stored.

use std::time::Instant;

use super::*;

#[test]
fn a_graph_of_the_public_size_loads_in_under_a_second() {
    let network = SyntheticNetwork::generate(Size::PUBLIC);
    let store: BTreeMap<Vec<u8>, Vec<u8>> = network.records().unwrap().into_iter().collect();
    let bytes: usize = store.iter().map(|(key, value)| key.len() + value.len()).sum();
    let start = Instant::now();
    let graph = Graph::load(store.iter().map(|(key, value)| (key.as_slice(), value.as_slice()))).unwrap();
    let elapsed = start.elapsed();
    println!(
        "loaded {} channels and {} nodes from {bytes} bytes in {elapsed:?}",
        graph.channel_count(),
        graph.node_count()
    );
    assert_eq!((graph.channel_count(), graph.node_count()), (50_000, 15_000));
    // Built without optimisation on a busy machine it still has to be near.
    assert!(elapsed.as_secs() < 5);
}

#[test]
fn damaged_records_are_named() {
    let key = GossipKey::Channel(ID).encode();
    let load = |key: &[u8], value: &[u8]| Graph::load([(key, value)]).map(|_| ());
    assert!(load(&[9], &[]).is_err());
    assert!(load(&key, &[]).is_err());
    assert!(load(&key, &[9; 13]).is_err());
    let node = Message::from(node_announcement(1, TIME)).encode().unwrap();
    assert!(load(&key, &channel_record(Amount::ZERO, None, &node)).is_err());
    for key in [GossipKey::Update(ID, Direction::FromNode2), GossipKey::Node(self::node(1)), GossipKey::Channel(ID)] {
        assert_eq!(GossipKey::decode(&key.encode()), Ok(key));
    }
}

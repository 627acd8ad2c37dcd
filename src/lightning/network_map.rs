//! The part of the network that can be drawn: its best connected nodes, and the channels between them.

use std::{cmp::Reverse, collections::HashMap};

use bitcoin::Amount;
use leyden_channels::{gossip::graph::NodeIndex, types::NodeId, wire::alias_text};

use super::graph::Outline;
use crate::{
    api::{MapNode, NetworkMap},
    driver::gossip::Gossip,
};

/// So many nodes at most, `local` the first of them if it is known.
pub(super) fn network_map(gossip: &Gossip, local: &NodeId, most: usize) -> NetworkMap {
    let outline = Outline::of(gossip);
    let intake = gossip.intake();
    let network = intake.graph();
    let own = network.find_node(local).map(|index| index.0 as usize);
    let chosen = best_connected(&outline, own, most);
    let node = |index: &usize| {
        let known = u32::try_from(*index).ok().and_then(|index| network.node(NodeIndex(index)))?;
        let alias = known.info.as_deref().map(|info| alias_text(&info.alias)).unwrap_or_default();
        Some(MapNode { id: known.id, alias, channels: outline.degree(*index) })
    };
    // Between the two looks a node may have been forgotten: it is left out with its channels.
    let drawn: Vec<(usize, MapNode)> = chosen.iter().filter_map(|index| Some((*index, node(index)?))).collect();
    let places: HashMap<usize, usize> = drawn.iter().enumerate().map(|(at, (index, _))| (*index, at)).collect();
    let ends = outline.channels.iter().map(|edge| edge.ends);
    NetworkMap {
        edges: ends.filter_map(|[a, b]| Some((*places.get(&a)?, *places.get(&b)?))).collect(),
        nodes: drawn.into_iter().map(|(_, node)| node).collect(),
        total_nodes: outline.nodes,
        total_channels: outline.channels.len(),
        total_capacity: outline.channels.iter().fold(Amount::ZERO, |sum, edge| sum + edge.capacity),
    }
}

/// The nodes with the most channels, the own one before all others.
fn best_connected(outline: &Outline, own: Option<usize>, most: usize) -> Vec<usize> {
    let mut nodes: Vec<usize> = (0..outline.neighbours.len()).filter(|node| outline.degree(*node) > 0).collect();
    nodes.sort_by_key(|node| (own != Some(*node), Reverse(outline.degree(*node)), *node));
    nodes.truncate(most);
    nodes
}

#[cfg(test)]
mod tests {
    use super::{super::graph::Edge, *};

    #[test]
    fn the_own_node_comes_first_then_the_best_connected() {
        let edge = |a, b| Edge { ends: [a, b], capacity: Amount::from_sat(1), is_usable: true };
        // Node 2 has three channels, node 1 two, the others one; node 4 none.
        let outline = Outline::new(vec![edge(2, 0), edge(2, 1), edge(2, 3), edge(1, 5)], 6);
        assert_eq!(best_connected(&outline, Some(3), 3), [3, 2, 1]);
        assert_eq!(best_connected(&outline, None, 9), [2, 1, 0, 3, 5]);
        assert_eq!(best_connected(&outline, Some(4), 2), [2, 1], "a node without channels is no part of a drawing");
    }
}

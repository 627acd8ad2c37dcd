//! Who has forged, and is not heard for a while.
//!
//! A wrong signature costs its sender nothing and us a check of a curve, so a few of them end the connection, and the
//! forger's key and address are refused for a while. The list is bounded: whoever was noted first is forgotten first, so
//! that filling it takes as many connections as it has places.

use std::collections::{HashMap, VecDeque};
use std::hash::Hash;
use std::net::IpAddr;

use super::limits::{FORGERIES, REFUSED_SECONDS, REMEMBERED_FORGERS};
use crate::types::{NodeId, Uptime};

/// A value for each of the latest names, forgotten after a while, and never more than [`REMEMBERED_FORGERS`].
#[derive(Debug)]
pub(super) struct Remembered<K, V> {
    values: HashMap<K, (V, Uptime)>,
    order: VecDeque<(K, Uptime)>,
}

impl<K, V> Default for Remembered<K, V> {
    fn default() -> Self {
        Self { values: HashMap::new(), order: VecDeque::new() }
    }
}

impl<K: Copy + Eq + Hash, V: Copy> Remembered<K, V> {
    pub(super) fn get(&self, name: &K, now: Uptime) -> Option<V> {
        let (value, at) = self.values.get(name)?;
        (!now.is_after(*at, REFUSED_SECONDS)).then_some(*value)
    }

    pub(super) fn set(&mut self, name: K, value: V, now: Uptime) {
        self.values.insert(name, (value, now));
        self.order.push_back((name, now));
        while let Some((oldest, at)) = self.order.front().copied() {
            // One that was noted again later has another place in the order.
            let is_stale = self.values.get(&oldest).is_none_or(|(_, latest)| *latest != at);
            let too_many = self.values.len() > REMEMBERED_FORGERS || self.order.len() > 2 * REMEMBERED_FORGERS;
            if !is_stale && !too_many && !now.is_after(at, REFUSED_SECONDS) {
                break;
            }
            self.order.pop_front();
            if !is_stale {
                self.values.remove(&oldest);
            }
        }
    }

    pub(super) fn len(&self) -> usize {
        self.values.len()
    }
}

/// How many wrong signatures each peer has sent lately.
#[derive(Debug, Default)]
pub(super) struct ForgeryCounts {
    forgeries: Remembered<NodeId, u32>,
}

impl ForgeryCounts {
    /// One more; `true` if that is enough.
    pub(super) fn forged(&mut self, peer: NodeId, now: Uptime) -> bool {
        let count = self.forgeries.get(&peer, now).unwrap_or_default().saturating_add(1);
        self.forgeries.set(peer, count, now);
        count >= FORGERIES
    }
}

/// Keys and addresses that are refused.
#[derive(Debug, Default)]
pub struct BanList {
    keys: Remembered<NodeId, ()>,
    addresses: Remembered<IpAddr, ()>,
}

impl BanList {
    /// A forger. An address that many share, of this machine, is not taken for its own.
    pub fn add(&mut self, peer: NodeId, address: Option<IpAddr>, now: Uptime) {
        self.keys.set(peer, (), now);
        if let Some(address) = address.filter(|address| !address.is_loopback()) {
            self.addresses.set(address, (), now);
        }
    }

    /// Whether this key or this address is refused now.
    pub fn contains(&self, peer: &NodeId, address: IpAddr, now: Uptime) -> bool {
        self.keys.get(peer, now).is_some() || self.addresses.get(&address, now).is_some()
    }

    /// How many are remembered.
    pub fn len(&self) -> usize {
        self.keys.len() + self.addresses.len()
    }

    /// Whether nobody was ever refused, or all have been forgotten.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(number: u32) -> NodeId {
        let mut bytes = [2; 33];
        bytes[..4].copy_from_slice(&number.to_be_bytes());
        NodeId(bytes)
    }

    #[test]
    fn a_few_forgeries_are_enough_and_old_ones_do_not_count() {
        let mut forgeries = ForgeryCounts::default();
        assert!(!forgeries.forged(node(1), Uptime(0)));
        assert!(!forgeries.forged(node(1), Uptime(1)));
        assert!(!forgeries.forged(node(2), Uptime(1)), "another's");
        assert!(forgeries.forged(node(1), Uptime(2)));
        assert!(!forgeries.forged(node(1), Uptime(3 + REFUSED_SECONDS * 1_000)));
    }

    #[test]
    fn a_forger_is_refused_for_a_while_and_the_list_is_bounded() {
        let mut refused = BanList::default();
        let (here, there) = (IpAddr::from([127, 0, 0, 1]), IpAddr::from([203, 0, 113, 7]));
        refused.add(node(1), Some(here), Uptime(0));
        refused.add(node(2), Some(there), Uptime(0));
        assert!(refused.contains(&node(1), there, Uptime(5)) && refused.contains(&node(3), there, Uptime(5)));
        assert!(!refused.contains(&node(3), here, Uptime(5)));
        assert!(!refused.contains(&node(2), there, Uptime(REFUSED_SECONDS * 1_000)));
        for number in 0..3 * REMEMBERED_FORGERS as u32 {
            refused.add(node(number), Some(IpAddr::from(number.to_be_bytes())), Uptime(u64::from(number)));
            refused.add(node(7), None, Uptime(u64::from(number)));
        }
        assert!(refused.len() <= 2 * REMEMBERED_FORGERS);
        assert!(refused.contains(&node(7), here, Uptime(0)));
        assert!(refused.keys.order.len() <= 2 * REMEMBERED_FORGERS);
    }
}

//! Which inbound peer gives way when another one wants to connect and all places are taken.
//!
//! ```text
//!   inbound peers ──► some have not greeted for a while, or more than half have not greeted:
//!         │              the first of the largest crowd among them goes
//!         └─► otherwise: take out those who are hard to be for an attacker
//!                (few of a secret order of networks · nearest · latest with transactions · latest with blocks · half: here longest)
//!             ──► of the rest, the youngest of the network with most of them goes
//! ```
//!
//! The idea is Bitcoin Core's: an attacker who wants all places would have to be the best by every measure at once, and one
//! who opens many connections from few networks puts out his own.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use bitcoin::hashes::{Hash, HashEngine, sha256};

use crate::event::{Direction, PeerId};
use crate::peer_set::PeerSet;

/// Peers that are kept by each measure, of many; of few it is one in [`FEW`].
const BY_NETWORK: usize = 4;
const BY_PING: usize = 8;
const BY_TRANSACTIONS: usize = 4;
const BY_BLOCKS: usize = 4;
const FEW: usize = 8;
/// A peer that has not finished its handshake by then may give way. It takes two round trips.
const GREETING: Duration = Duration::from_secs(3);

/// An inbound peer, as far as it matters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// The connection.
    pub peer: PeerId,
    /// Where it comes from.
    pub address: IpAddr,
    /// Where its network stands in an order that only this node knows.
    pub order: u64,
    /// In terms of [`Ctx::now`](crate::Ctx).
    pub connected_at: Duration,
    /// Whether its handshake is finished.
    pub has_greeted: bool,
    /// The shortest round trip that was measured.
    pub ping: Option<Duration>,
    /// When it last sent a transaction that was new and valid, in terms of [`Ctx::now`](crate::Ctx).
    pub transaction: Option<Duration>,
    /// When it last sent a block that was new and valid, in terms of [`Ctx::now`](crate::Ctx).
    pub block: Option<Duration>,
}

/// The part of an address that somebody who wants many different ones pays for.
fn network(address: IpAddr) -> [u8; 4] {
    match address {
        IpAddr::V4(ip) => {
            let [first, second, ..] = ip.octets();
            [0, 0, first, second]
        }
        IpAddr::V6(ip) => match ip.to_ipv4_mapped() {
            Some(ip) => network(IpAddr::V4(ip)),
            None => {
                let [first, second, third, fourth, ..] = ip.octets();
                [first, second, third, fourth]
            }
        },
    }
}

/// Who goes, if one may.
pub fn choose(mut candidates: Vec<Candidate>, now: Duration) -> Option<PeerId> {
    let is_late = |one: &Candidate| now.saturating_sub(one.connected_at) >= GREETING;
    let mut silent: Vec<&Candidate> = candidates.iter().filter(|one| !one.has_greeted).collect();
    // So many at once are no crowd of newcomers, and must not put out those who speak.
    if silent.len() <= candidates.len() / 2 {
        silent.retain(|one| is_late(one));
    }
    if !silent.is_empty() {
        let crowds = crowds(silent.iter().copied());
        let rank = |one: &&Candidate| (Reverse(crowds.get(&network(one.address)).copied()), one.connected_at, one.peer);
        return silent.into_iter().min_by_key(rank).map(|one| one.peer);
    }
    let few = candidates.len() / FEW;
    keep(&mut candidates, BY_NETWORK.min(few), |one| one.order);
    keep(&mut candidates, BY_PING.min(few), |one| one.ping.unwrap_or(Duration::MAX));
    keep(&mut candidates, BY_TRANSACTIONS.min(few), |one| Reverse(one.transaction));
    keep(&mut candidates, BY_BLOCKS.min(few), |one| Reverse(one.block));
    let half = candidates.len() / 2;
    keep(&mut candidates, half, |one| one.connected_at);
    let crowds = crowds(&candidates);
    let youngest = |network: &[u8; 4]| {
        let of_it = candidates.iter().filter(|one| self::network(one.address) == *network);
        of_it.map(|one| (one.connected_at, one.peer)).max()
    };
    let largest = crowds.iter().max_by_key(|(network, count)| (**count, youngest(network)))?;
    youngest(largest.0).map(|(_, peer)| peer)
}

/// Takes out those with the smallest keys; the longer connected of two that are alike.
fn keep<K: Ord>(candidates: &mut Vec<Candidate>, count: usize, key: impl Fn(&Candidate) -> K) {
    candidates.sort_by_key(|one| (key(one), one.connected_at, one.peer));
    candidates.drain(..count.min(candidates.len()));
}

fn crowds<'a>(candidates: impl IntoIterator<Item = &'a Candidate>) -> BTreeMap<[u8; 4], usize> {
    let mut crowds = BTreeMap::new();
    for one in candidates {
        *crowds.entry(network(one.address)).or_default() += 1;
    }
    crowds
}

impl PeerSet {
    /// The inbound peer that gives way to another one, if one may.
    pub fn choose_to_evict(&self, now: Duration) -> Option<PeerId> {
        let inbound = self.peers.iter().filter(|(_, peer)| peer.direction == Direction::Inbound);
        let candidates = inbound.map(|(id, peer)| Candidate {
            peer: *id,
            address: peer.address.ip(),
            order: self.order_of(peer.address.ip()),
            connected_at: peer.connected_at,
            has_greeted: peer.is_ready(),
            ping: peer.ping.shortest,
            transaction: peer.last_useful.transaction,
            block: peer.last_useful.block,
        });
        choose(candidates.collect(), now)
    }

    fn order_of(&self, address: IpAddr) -> u64 {
        let mut engine = sha256::Hash::engine();
        engine.input(self.entropy.seed());
        engine.input(b"order of networks");
        engine.input(&network(address));
        let digest = sha256::Hash::from_engine(engine).to_byte_array();
        digest.iter().take(8).fold(0, |number, byte| number << 8 | u64::from(*byte))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Duration = Duration::from_secs(100_000);

    /// One each second, from these addresses.
    fn candidates(addresses: impl IntoIterator<Item = [u8; 4]>) -> Vec<Candidate> {
        (1_u64..)
            .zip(addresses)
            .map(|(number, address)| Candidate {
                peer: PeerId(number),
                address: address.into(),
                order: u64::from(u16::from_be_bytes([address[0], address[1]])),
                connected_at: Duration::from_secs(number),
                has_greeted: true,
                ping: Some(Duration::from_millis(100)),
                transaction: None,
                block: None,
            })
            .collect()
    }

    /// As many peers as there are places, from a hundred networks.
    fn crowd() -> Vec<Candidate> {
        candidates((0..117).map(|number| [200, number % 100, 0, 1]))
    }

    /// The order in which all that may go would go.
    fn leaving(mut candidates: Vec<Candidate>) -> Vec<PeerId> {
        let mut gone = Vec::new();
        while let Some(peer) = choose(candidates.clone(), NOW) {
            candidates.retain(|one| one.peer != peer);
            gone.push(peer);
        }
        gone
    }

    #[test]
    fn the_youngest_of_the_largest_network_goes() {
        // All attackers come from one network, and late.
        let mut all = crowd();
        all.truncate(80);
        all.extend(candidates((0..37).map(|number| [66, 66, number, 1])).into_iter().map(|one| Candidate {
            peer: PeerId(one.peer.0 + 1_000),
            connected_at: one.connected_at + Duration::from_secs(1_000),
            ..one
        }));
        for gone in 0..20 {
            assert_eq!(choose(all.clone(), NOW), Some(PeerId(1_037 - gone)));
            // The newcomer is another one of them: it becomes the youngest.
            all.retain(|one| one.peer != PeerId(1_037 - gone));
        }
    }

    #[test]
    fn the_best_by_each_measure_stay() {
        let mut all = crowd();
        let count = all.len();
        for (place, one) in all.iter_mut().enumerate() {
            // The youngest are best, so nothing else protects them.
            let rank = u64::try_from(count - place).unwrap();
            match rank {
                1..=8 => one.ping = Some(Duration::from_millis(rank)),
                9..=12 => one.transaction = Some(NOW - Duration::from_millis(rank)),
                13..=16 => one.block = Some(NOW - Duration::from_millis(rank)),
                17..=20 => one.order = rank,
                _ => one.order += 1_000,
            }
        }
        // Of the first sixty that go none is among them.
        let mut left = all.clone();
        for _ in 0..60 {
            let gone = choose(left.clone(), NOW).unwrap();
            assert!(gone.0 <= 97, "{gone:?}");
            left.retain(|one| one.peer != gone);
            // Their places are taken by peers who are young and no good.
            left.extend(candidates([[77, 77, 0, 1]]).into_iter().map(|one| Candidate {
                peer: PeerId(gone.0),
                connected_at: NOW - Duration::from_secs(1),
                ping: None,
                order: u64::MAX,
                ..one
            }));
        }
        // And half of the others stay because they were here first.
        assert!(
            (1..=40).all(|number| left
                .iter()
                .any(|one| one.peer == PeerId(number) && one.address.to_string() != "77.77.0.1"))
        );
    }

    #[test]
    fn who_does_not_greet_goes_before_all_others() {
        let mut all = crowd();
        for number in [5, 6, 7] {
            all[number].has_greeted = false;
            all[number].address = [66, 66, 0, 1].into();
        }
        all[3].has_greeted = false;
        let mut latest = candidates([[66, 66, 0, 2]]);
        latest[0] = Candidate { peer: PeerId(500), connected_at: NOW, has_greeted: false, ..latest[0].clone() };
        all.extend(latest);
        let gone = leaving(all);
        assert_eq!(gone[..4], [PeerId(6), PeerId(7), PeerId(4), PeerId(8)], "{:?}", &gone[..6]);
    }

    #[test]
    fn a_burst_of_those_who_do_not_greet_puts_out_nobody_else() {
        let mut all = candidates([[1, 1, 0, 1]; 4]);
        for one in &mut all[..3] {
            one.has_greeted = false;
        }
        for one in &mut all {
            one.connected_at = NOW - GREETING / 2;
        }
        assert_eq!(choose(all.clone(), NOW), Some(PeerId(1)));
        // As many as have greeted may be newcomers: the youngest goes, whoever it is.
        all[0].has_greeted = true;
        assert_eq!(choose(all, NOW), Some(PeerId(4)));
    }

    #[test]
    fn few_peers_are_protected_by_little_and_nobody_goes_where_nobody_is() {
        assert_eq!(choose(Vec::new(), NOW), None);
        assert_eq!(choose(candidates([[1, 2, 3, 4]]), NOW), Some(PeerId(1)));
        assert_eq!(leaving(candidates([[1, 2, 3, 4]; 6])).len(), 6);
    }

    #[test]
    fn one_network_is_what_is_cheap_to_have_much_of() {
        let of = |text: &str| network(text.parse().unwrap());
        assert_eq!(of("203.0.113.1"), of("203.0.200.7"));
        assert_ne!(of("203.0.113.1"), of("203.1.113.1"));
        assert_eq!(of("::ffff:203.0.113.1"), of("203.0.113.1"));
        assert_eq!(of("2001:db8:1::1"), of("2001:db8:2::1"));
        assert_ne!(of("2001:db8::1"), of("2001:db9::1"));
    }
}

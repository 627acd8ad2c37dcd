//! What strangers get: which of them gives way when another node needs the place, and whose work is done out of the time
//! that all of them share.
//!
//! Bitcoin Core's idea: whoever is hard to be for an attacker stays, and of the rest the youngest of the largest crowd goes.
//! So who fills all places from few addresses puts out himself, and who was here before an attack stays.

use std::{
    cmp::Reverse,
    collections::HashMap,
    net::IpAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Instant,
};

use leyden_node::{TimeBudget, time_budget::Metered};
use secp256k1::PublicKey;

/// Of this many strangers, one for having proposed a channel, and one for having been here longest, is not considered.
const PROTECTED_PART: usize = 8;

/// Whether a peer is a stranger, for the tasks that work for it. Clones are the same peer's.
#[derive(Clone)]
pub(crate) struct PeerStanding {
    time: Arc<TimeBudget>,
    is_stranger: Arc<AtomicBool>,
}

impl PeerStanding {
    /// Of somebody who is no stranger as far as is known.
    pub(crate) fn new(time: &Arc<TimeBudget>) -> Self {
        Self { time: Arc::clone(time), is_stranger: Arc::default() }
    }

    pub(crate) fn set_stranger(&self, is_stranger: bool) {
        self.is_stranger.store(is_stranger, Ordering::Relaxed);
    }

    pub(crate) fn is_stranger(&self) -> bool {
        self.is_stranger.load(Ordering::Relaxed)
    }

    /// While it is a stranger, what is done for it waits for its turn, and for time that all strangers share.
    pub(crate) fn meter<F: Future>(&self, work: F) -> Metered<F, impl Fn() -> bool + use<F>> {
        let standing = self.clone();
        self.time.meter(move || !standing.is_stranger(), work)
    }
}

/// A connected node without a funded channel.
#[derive(Clone, Debug)]
pub(super) struct Stranger {
    pub node_id: PublicKey,
    /// What one customer of a provider has.
    pub group: IpAddr,
    pub since: Instant,
    /// It has proposed a channel.
    pub opens: bool,
}

/// Who goes; nobody only if there is nobody.
pub(super) fn least_useful(mut strangers: Vec<Stranger>) -> Option<PublicKey> {
    let protected = strangers.len() / PROTECTED_PART;
    strangers.sort_by_key(|stranger| stranger.since);
    let mut openers = 0;
    strangers.retain(|stranger| {
        let stays = stranger.opens && openers < protected;
        openers += usize::from(stays);
        !stays
    });
    strangers.drain(..protected.min(strangers.len().saturating_sub(1)));
    let mut crowds: HashMap<IpAddr, usize> = HashMap::new();
    for stranger in &strangers {
        *crowds.entry(stranger.group).or_default() += 1;
    }
    let rank = |stranger: &Stranger| {
        (Reverse(crowds.get(&stranger.group).copied().unwrap_or_default()), Reverse(stranger.since))
    };
    strangers.iter().min_by_key(|stranger| rank(stranger)).map(|stranger| stranger.node_id)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn node(number: u8) -> PublicKey {
        secp256k1::SecretKey::from_slice(&[number; 32]).unwrap().public_key(secp256k1::SECP256K1)
    }

    /// One a second, from these addresses.
    fn strangers(groups: &[[u8; 4]]) -> Vec<Stranger> {
        let begun = Instant::now();
        let all = groups.iter().zip(1..);
        all.map(|(group, number)| Stranger {
            node_id: node(number),
            group: IpAddr::from(*group),
            since: begun + Duration::from_secs(number.into()),
            opens: false,
        })
        .collect()
    }

    const CROWD: [u8; 4] = [192, 0, 2, 1];

    #[test]
    fn the_youngest_of_the_largest_crowd_goes() {
        let mut groups = vec![[10, 0, 0, 1], [10, 0, 0, 2]];
        groups.extend([CROWD; 20]);
        groups.extend([[10, 0, 0, 3], [10, 0, 0, 3]]);
        assert_eq!(least_useful(strangers(&groups)), Some(node(22)));
        assert_eq!(least_useful(Vec::new()), None);
        assert_eq!(least_useful(strangers(&[CROWD])), Some(node(1)));
    }

    #[test]
    fn who_opens_a_channel_and_who_was_first_stay() {
        let mut all = strangers(&[CROWD; 24]);
        for number in [20, 21, 22, 23] {
            all[number].opens = true;
        }
        // Three that open are protected, the oldest; the fourth is the youngest of the rest.
        assert_eq!(least_useful(all.clone()), Some(node(24)));
        all[23].opens = false;
        all.truncate(23);
        assert_eq!(least_useful(all), Some(node(23)), "of 23, two");
        // However often, the first ones stay.
        let mut all = strangers(&[CROWD; 24]);
        for _ in 0..16 {
            let goes = least_useful(all.clone()).unwrap();
            all.retain(|stranger| stranger.node_id != goes);
        }
        assert_eq!(all[0].node_id, node(1));
    }
}

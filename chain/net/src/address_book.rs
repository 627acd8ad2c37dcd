//! A small list of where other nodes may be found, as peers tell it. It is kept small on purpose: a private chain has
//! few nodes, and a list that anybody can write to is worth little.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use bitcoin::p2p::ServiceFlags;

use crate::entropy::Entropy;

/// Addresses that are kept.
const CAPACITY: usize = 1_000;
/// Addresses that one network (an IPv4 /16, an IPv6 /32) may have in the list.
const PER_NETWORK: usize = 64;
/// Addresses that nobody has mentioned for this long are not told to others.
const STALE: Duration = Duration::from_secs(30 * 24 * 60 * 60);

/// Known addresses.
#[derive(Clone, Debug, Default)]
pub struct AddressBook {
    entries: BTreeMap<SocketAddr, Entry>,
}

/// An address with all that is known of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KnownAddress {
    /// Where a node may be.
    pub address: SocketAddr,
    /// When somebody last said so, since 1970.
    pub last_seen: Duration,
    /// Attempts to connect that led to nothing since the last that did not.
    pub failures: u32,
    /// When the last attempt was made, since 1970; zero if there was none.
    pub last_try: Duration,
    /// What the node serves, as others say, or as it said itself.
    pub services: ServiceFlags,
}

impl KnownAddress {
    /// Whether this node has connected to it, and no attempt has failed since.
    pub fn was_reached(&self) -> bool {
        self.failures == 0 && !self.last_try.is_zero()
    }
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    last_seen: Duration,
    failures: u32,
    last_try: Duration,
    services: ServiceFlags,
}

impl AddressBook {
    /// Adds or refreshes an address; false if it is of no use or already as fresh.
    pub(crate) fn add(
        &mut self,
        address: SocketAddr,
        services: ServiceFlags,
        last_seen: Duration,
        now: Duration,
    ) -> bool {
        let last_seen = last_seen.min(now);
        if !is_usable(address) {
            return false;
        }
        if let Some(entry) = self.entries.get_mut(&address) {
            let fresher = last_seen > entry.last_seen;
            if fresher {
                entry.services = services;
            }
            entry.last_seen = entry.last_seen.max(last_seen);
            return fresher;
        }
        let network = network(address.ip());
        if self.entries.keys().filter(|known| self::network(known.ip()) == network).count() >= PER_NETWORK {
            return false;
        }
        if self.entries.len() >= CAPACITY {
            let worst =
                self.entries.iter().max_by_key(|(_, entry)| (entry.failures, now.saturating_sub(entry.last_seen)));
            let Some(worst) = worst.map(|(address, _)| *address) else { return false };
            self.entries.remove(&worst);
        }
        self.entries.insert(address, Entry { last_seen, failures: 0, last_try: Duration::ZERO, services });
        true
    }

    /// Everything that is known, to be kept over a restart.
    pub fn entries(&self) -> impl Iterator<Item = KnownAddress> + '_ {
        self.entries.iter().map(|(address, entry)| {
            let Entry { last_seen, failures, last_try, services } = *entry;
            KnownAddress { address: *address, last_seen, failures, last_try, services }
        })
    }

    /// Takes an address back, within the same bounds as a new one.
    pub(crate) fn restore(&mut self, known: KnownAddress, now: Duration) {
        if self.add(known.address, known.services, known.last_seen, now)
            && let Some(entry) = self.entries.get_mut(&known.address)
        {
            // A try that the clock has not come to would keep the address from being tried.
            (entry.failures, entry.last_try) = (known.failures, known.last_try.min(now));
        }
    }

    /// Some addresses, each as likely as any other; all of them if there are no more.
    pub(crate) fn draw(&self, limit: usize, entropy: &mut Entropy) -> Vec<KnownAddress> {
        let mut all: Vec<KnownAddress> = self.entries().collect();
        let mut drawn = Vec::new();
        while drawn.len() < limit && !all.is_empty() {
            drawn.push(all.swap_remove(entropy.below(all.len())));
        }
        drawn
    }

    /// What the node at an address serves, as far as that was told.
    pub fn services(&self, address: &SocketAddr) -> ServiceFlags {
        self.entries.get(address).map_or(ServiceFlags::NONE, |entry| entry.services)
    }

    /// A handshake with this address was completed, in which it said what it serves.
    pub(crate) fn succeeded(&mut self, address: SocketAddr, services: ServiceFlags, now: Duration) {
        if let Some(entry) = self.entries.get_mut(&address) {
            entry.services = services;
            entry.failures = 0;
            entry.last_seen = now;
        }
    }

    /// An address to try, other than those for which `skip` is true. It counts as failed until a handshake with it is
    /// done, and is not named again before some minutes have passed (more with each failure).
    pub(crate) fn pick(
        &mut self,
        now: Duration,
        entropy: &mut Entropy,
        skip: impl Fn(&SocketAddr) -> bool,
    ) -> Option<SocketAddr> {
        let due = |entry: &Entry| {
            let wait = Duration::from_secs(60 << entry.failures.min(10));
            entry.last_try.is_zero() || now.saturating_sub(entry.last_try) >= wait
        };
        let candidates: Vec<SocketAddr> = self
            .entries
            .iter()
            .filter(|(address, entry)| due(entry) && !skip(address))
            .map(|(address, _)| *address)
            .collect();
        let picked = *candidates.get(entropy.below(candidates.len()))?;
        let entry = self.entries.get_mut(&picked)?;
        entry.failures = entry.failures.saturating_add(1);
        entry.last_try = now;
        Some(picked)
    }

    /// What to tell a peer that asks: some of the addresses, with the times at which they were last heard of.
    pub(crate) fn sample(&self, now: Duration, limit: usize, entropy: &mut Entropy) -> Vec<(SocketAddr, Duration)> {
        let mut fresh: Vec<(SocketAddr, Duration)> = self
            .entries
            .iter()
            .filter(|(_, entry)| now.saturating_sub(entry.last_seen) < STALE && entry.failures < 3)
            .map(|(address, entry)| (*address, entry.last_seen))
            .collect();
        // Not all at once, so that nobody learns the whole list by asking (Bitcoin Core tells 23 of 100).
        let count = limit.min(fresh.len().div_ceil(4));
        let mut sample = Vec::with_capacity(count);
        while sample.len() < count {
            sample.push(fresh.swap_remove(entropy.below(fresh.len())));
        }
        sample
    }

    /// How many addresses are known.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether no address is known.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }
}

/// Whether anybody could reach it.
pub(crate) fn is_usable(address: SocketAddr) -> bool {
    let ip = address.ip();
    let private = match ip {
        IpAddr::V4(ip) => ip.is_private() || ip.is_link_local() || ip.is_broadcast() || ip.is_documentation(),
        IpAddr::V6(ip) => ip.is_unique_local() || ip.is_unicast_link_local(),
    };
    address.port() != 0 && !ip.is_loopback() && !ip.is_unspecified() && !ip.is_multicast() && !private
}

/// The part of an address that somebody who wants many different ones pays for.
pub(crate) fn network(ip: IpAddr) -> (bool, [u8; 4]) {
    match ip {
        IpAddr::V4(ip) => {
            let [a, b, _, _] = ip.octets();
            (false, [a, b, 0, 0])
        }
        IpAddr::V6(ip) => {
            let [a, b, c, d, ..] = ip.octets();
            (true, [a, b, c, d])
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Duration = Duration::from_secs(1_000_000);
    const SERVICES: ServiceFlags = ServiceFlags::NETWORK;

    fn address(a: u8, b: u8, c: u8) -> SocketAddr {
        SocketAddr::from(([a, b, c, 1], 8333))
    }

    #[test]
    fn private_and_broken_addresses_are_not_kept() {
        let mut book = AddressBook::default();
        for text in ["127.0.0.1:8333", "10.1.2.3:8333", "[::1]:8333", "0.0.0.0:1", "8.8.8.8:0", "[fe80::1]:5"] {
            assert!(!book.add(text.parse().unwrap(), SERVICES, NOW, NOW), "{text}");
        }
        assert!(book.is_empty());
    }

    #[test]
    fn one_network_cannot_fill_the_book_and_the_book_cannot_grow_without_end() {
        let mut book = AddressBook::default();
        for c in 0..=255 {
            book.add(address(8, 8, c), SERVICES, NOW, NOW);
        }
        assert_eq!(book.len(), PER_NETWORK);
        for a in 20..40 {
            for b in 0..100 {
                book.add(address(a, b, 1), SERVICES, NOW, NOW);
            }
        }
        assert_eq!(book.len(), CAPACITY);
    }

    #[test]
    fn what_is_restored_is_what_was_known() {
        let (mut book, mut entropy) = (AddressBook::default(), Entropy::new([1; 32]));
        for a in 1..9 {
            book.add(address(a, 8, 8), SERVICES, NOW, NOW);
        }
        book.pick(NOW, &mut entropy, |_| false);
        book.succeeded(address(3, 8, 8), ServiceFlags::P2P_V2, NOW);
        let mut restored = AddressBook::default();
        book.entries().for_each(|known| restored.restore(known, NOW));
        assert!(restored.entries().eq(book.entries()));
        assert_eq!(restored.services(&address(3, 8, 8)), ServiceFlags::P2P_V2);
        assert_eq!(restored.services(&address(9, 8, 8)), ServiceFlags::NONE);
    }

    #[test]
    fn addresses_are_drawn_once_each() {
        let (mut book, mut entropy) = (AddressBook::default(), Entropy::new([1; 32]));
        for a in 1..9 {
            book.add(address(a, 8, 8), SERVICES, NOW, NOW);
        }
        assert_eq!(book.draw(3, &mut entropy).len(), 3);
        let mut all: Vec<SocketAddr> = book.draw(100, &mut entropy).iter().map(|known| known.address).collect();
        all.sort();
        assert!(all.into_iter().eq(book.entries().map(|known| known.address)));
    }

    #[test]
    fn a_node_was_reached_if_the_last_attempt_led_to_a_handshake() {
        let (mut book, mut entropy) = (AddressBook::default(), Entropy::new([1; 32]));
        book.add(address(8, 8, 8), SERVICES, NOW, NOW);
        let was_reached = |book: &AddressBook| book.entries().all(|known| known.was_reached());
        assert!(!was_reached(&book), "nobody has tried");
        book.pick(NOW, &mut entropy, |_| false);
        assert!(!was_reached(&book));
        book.succeeded(address(8, 8, 8), SERVICES, NOW);
        assert!(was_reached(&book));
    }

    #[test]
    fn an_address_that_failed_is_not_tried_again_at_once() {
        let (mut book, mut entropy) = (AddressBook::default(), Entropy::new([1; 32]));
        book.add(address(8, 8, 8), SERVICES, NOW, NOW);
        assert!(book.pick(NOW, &mut entropy, |_| true).is_none());
        assert!(book.pick(NOW, &mut entropy, |_| false).is_some());
        assert!(book.pick(NOW + Duration::from_secs(100), &mut entropy, |_| false).is_none());
        assert!(book.pick(NOW + Duration::from_secs(121), &mut entropy, |_| false).is_some());
    }
}

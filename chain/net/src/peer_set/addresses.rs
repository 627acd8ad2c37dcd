//! Addresses between peers.
//!
//! ```text
//!   addr, addrv2 ─▶ within the allowance? ─▶ address book ─▶ fresh, and one of few? ─▶ queues of two other peers ─▶ addrv2
//! ```
//!
//! A fresh address travels from peer to peer, so that a node that nobody knows is found; which two peers it is passed on to
//! depends on the address, the day and a secret, so that telling it often spreads it no further. What a peer may tell is
//! limited as in Bitcoin Core: one address in ten seconds on average, and a thousand as an answer to `getaddr`.

use std::cmp::Reverse;
use std::net::SocketAddr;
use std::time::Duration;

use bitcoin::hashes::{Hash, HashEngine, sha256};
use bitcoin::p2p::ServiceFlags;
use bitcoin::p2p::address::{AddrV2, AddrV2Message, Address};
use bitcoin::p2p::message::NetworkMessage;

use super::PeerSet;
use crate::address_book::{KnownAddress, is_usable};
use crate::config::MAX_ADDRESSES;
use crate::event::{Ctx, Direction, PeerId};
use crate::misbehavior::Misbehavior;

/// Addresses a peer may tell us a second, on average.
const ADDRESSES_PER_SECOND: f64 = 0.1;
/// The allowance grows to this much, and by this much when the peer is asked for addresses.
const MAX_ALLOWANCE: f64 = 1_000.0;
/// An address that was seen longer ago is kept, but not passed on.
const FRESH: Duration = Duration::from_secs(10 * 60);
/// Addresses of a longer list are somebody's collection and not passed on.
const MAX_LIST_PASSED_ON: usize = 10;
/// Peers that an address is passed on to.
const PASSED_ON_TO: usize = 2;
/// After this time an address is passed on to others.
const DAY: u64 = 24 * 60 * 60;

impl PeerSet {
    /// Addresses that were known before, from [`AddressBook::entries`](crate::AddressBook::entries).
    pub fn restore_addresses(&mut self, known: impl IntoIterator<Item = KnownAddress>, unix_time: u64) {
        for one in known {
            self.addresses.restore(one, Duration::from_secs(unix_time));
        }
    }

    /// So many of the known addresses at most, drawn by lot.
    pub fn draw_addresses(&mut self, limit: usize) -> Vec<KnownAddress> {
        self.addresses.draw(limit, &mut self.entropy)
    }

    /// After the handshake: our own address, and a request for others' if we opened the connection.
    pub(crate) fn greet_with_addresses(&mut self, id: PeerId, ctx: &Ctx) {
        let Some(peer) = self.peers.get_mut(&id) else { return };
        peer.addresses.own_due = ctx.now;
        if peer.direction == Direction::Inbound {
            return;
        }
        // The answer may be long.
        peer.addresses.allowance += MAX_ALLOWANCE;
        peer.addresses.awaits_answer = true;
        let address = peer.address;
        let services = peer.negotiated().map_or(ServiceFlags::NONE, |negotiated| negotiated.services);
        self.addresses.succeeded(address, services, ctx.unix_now());
        self.send(id, NetworkMessage::GetAddr);
    }

    pub(crate) fn get_addresses(&mut self, id: PeerId, ctx: &Ctx) {
        let Some(peer) = self.peers.get_mut(&id) else { return };
        // Answered once, and only to those who connected to us, as Bitcoin Core does: it tells less about our peers.
        if peer.direction == Direction::Outbound || std::mem::replace(&mut peer.addresses.answered_getaddr, true) {
            return;
        }
        let mut addresses = self.addresses.sample(ctx.unix_now(), MAX_ADDRESSES - 1, &mut self.entropy);
        addresses.extend(self.config.public_address.map(|own| (own, ctx.unix_now())));
        self.send_addresses(id, &addresses);
    }

    fn send_addresses(&mut self, id: PeerId, addresses: &[(SocketAddr, Duration)]) {
        let own = self.config.public_address;
        let services = |address: &SocketAddr| {
            if own == Some(*address) { self.config.services } else { self.addresses.services(address) }
        };
        let Some(negotiated) = self.peers.get(&id).and_then(|peer| peer.negotiated()) else { return };
        if addresses.is_empty() {
            return;
        }
        let seconds = |time: &Duration| u32::try_from(time.as_secs()).unwrap_or(u32::MAX);
        let message = if negotiated.addrv2 {
            let entry = |(address, time): &(SocketAddr, Duration)| AddrV2Message {
                time: seconds(time),
                services: services(address),
                addr: match address {
                    SocketAddr::V4(address) => AddrV2::Ipv4(*address.ip()),
                    SocketAddr::V6(address) => AddrV2::Ipv6(*address.ip()),
                },
                port: address.port(),
            };
            NetworkMessage::AddrV2(addresses.iter().map(entry).collect())
        } else {
            let entry =
                |(address, time): &(SocketAddr, Duration)| (seconds(time), Address::new(address, services(address)));
            NetworkMessage::Addr(addresses.iter().map(entry).collect())
        };
        self.send(id, message);
    }

    pub(crate) fn addresses_told(&mut self, id: PeerId, addresses: &[(SocketAddr, ServiceFlags, u32)], ctx: &Ctx) {
        if addresses.len() > MAX_ADDRESSES {
            self.misbehaves(id, Misbehavior::Oversized, ctx);
            return;
        }
        let Some(peer) = self.peers.get_mut(&id) else { return };
        let elapsed = ctx.now.saturating_sub(peer.addresses.refilled_at).as_secs_f64();
        peer.addresses.refilled_at = ctx.now;
        if peer.addresses.allowance < MAX_ALLOWANCE {
            let grown = peer.addresses.allowance + elapsed * ADDRESSES_PER_SECOND;
            peer.addresses.allowance = grown.min(MAX_ALLOWANCE);
        }
        let is_answer = peer.addresses.awaits_answer;
        // An answer that is not full is the last.
        peer.addresses.awaits_answer = is_answer && addresses.len() >= MAX_ADDRESSES;
        let may_pass_on = !is_answer && addresses.len() <= MAX_LIST_PASSED_ON;
        for (address, services, time) in addresses {
            let Some(peer) = self.peers.get_mut(&id) else { return };
            if peer.addresses.allowance < 1.0 {
                return;
            }
            peer.addresses.allowance -= 1.0;
            peer.addresses.known.insert(*address);
            let time = Duration::from_secs(u64::from(*time));
            self.addresses.add(*address, *services, time, ctx.unix_now());
            let is_fresh = time > ctx.unix_now().saturating_sub(FRESH) && time <= ctx.unix_now().saturating_add(FRESH);
            if may_pass_on && is_fresh && is_usable(*address) {
                self.pass_on(id, *address, time.min(ctx.unix_now()), ctx);
            }
        }
    }

    fn pass_on(&mut self, from: PeerId, address: SocketAddr, time: Duration, ctx: &Ctx) {
        let mut engine = sha256::Hash::engine();
        engine.input(self.entropy.seed());
        engine.input(address.to_string().as_bytes());
        engine.input(&(ctx.unix_time / DAY).to_le_bytes());
        let mut others: Vec<(Reverse<sha256::Hash>, PeerId)> = self
            .peers
            .iter()
            .filter(|(id, peer)| **id != from && peer.is_ready())
            .map(|(id, _)| {
                let mut engine = engine.clone();
                engine.input(&id.0.to_le_bytes());
                (Reverse(sha256::Hash::from_engine(engine)), *id)
            })
            .collect();
        others.sort_unstable();
        for (_, id) in others.into_iter().take(PASSED_ON_TO) {
            let Some(peer) = self.peers.get_mut(&id) else { continue };
            if peer.addresses.queue.len() < MAX_ADDRESSES && peer.addresses.known.insert(address) {
                peer.addresses.queue.push((address, time));
            }
        }
    }

    /// Tells a peer what is in its queue when its time has come, and our own address once a day.
    pub(crate) fn trickle_addresses(&mut self, id: PeerId, ctx: &Ctx) {
        let timing = self.config.timing;
        let Some(peer) = self.peers.get_mut(&id) else { return };
        if ctx.now < peer.addresses.next_told {
            return;
        }
        peer.addresses.next_told = ctx.now.saturating_add(self.entropy.poisson(timing.trickle_addresses));
        let mut addresses = std::mem::take(&mut peer.addresses.queue);
        if ctx.now >= peer.addresses.own_due
            && let Some(own) = self.config.public_address
        {
            peer.addresses.own_due = ctx.now.saturating_add(self.entropy.poisson(timing.own_address));
            addresses.truncate(MAX_ADDRESSES - 1);
            addresses.push((own, ctx.unix_now()));
        }
        self.send_addresses(id, &addresses);
    }
}

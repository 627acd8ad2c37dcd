//! A node that is cut from the chain: it hears of no block, and nobody hears what it broadcasts. Its peers go on.
//!
//! ```text
//!   without its chain peers:   ──── peers connected, no blocks ─────────────────────► the blocks come
//!   off:                       ──── nothing ────► peers connect, and are heard ────► the blocks come
//! ```
//!
//! Nobody can take care of what it cannot see: whoever is away while an HTLC that it has forwarded, or told the preimage
//! of, ends on the chain may lose it. So its operator has it back before one comes near its expiry; what has not been
//! forwarded or told expires meanwhile as it likes.

use super::network::*;
use super::random::Random;
use super::schedule::Schedule;
use crate::channel::*;
use crate::payment::incoming::InvoiceState;
use crate::types::*;

/// For how many blocks at most.
const LONGEST: u64 = 150;
/// Blocks that a node needs for an HTLC once it is back: the twelve at which it closes the channel for one whose preimage it
/// knows, and some in which a spike of the market ends.
const NEEDED: u32 = 20;

/// Drawn for a schedule.
#[derive(Clone, Copy, Debug)]
pub(super) struct Dark {
    pub node: usize,
    pub blocks: u32,
    /// It does not run at all.
    pub is_off: bool,
}

impl Dark {
    pub fn draw(random: &mut Random) -> Self {
        Self { node: random.below(NODES), blocks: random.between(5, LONGEST) as u32, is_off: random.chance(50) }
    }
}

impl Schedule {
    /// One node does not hear of the chain.
    pub fn be_cut_off(&mut self) {
        let Some(dark) = self.climate.dark.take() else { return };
        let Dark { node, blocks, is_off } = dark;
        self.net.dark = Some(dark);
        self.net.nodes[node].trust = self.net.trust(node);
        for _ in 0..blocks {
            if self.is_endangered(node, is_off) {
                break;
            }
            self.net.truth.dark_blocks += 1;
            if self.climate.random.chance(20) {
                self.pay();
            }
            if self.climate.random.chance(10) {
                self.tell_something();
            }
            self.block();
            for _ in 0..20 {
                if !self.settle_once() {
                    break;
                }
            }
        }
        if is_off {
            self.net.restart(node);
            self.net.dark = Some(Dark { is_off: false, ..dark });
            self.net.nodes[node].trust = self.net.trust(node);
            // Peers are faster than blocks.
            for _ in 0..self.climate.random.between(0, 12) {
                self.settle_once();
            }
        }
        self.net.dark = None;
        self.net.nodes[node].trust = TipTrust::Current;
        for (parents, tx) in std::mem::take(&mut self.net.unheard) {
            let _ = self.net.chain.submit_package(&parents, &tx);
        }
        self.catch_up(node);
    }

    /// Whether the node could lose by being away for longer.
    fn is_endangered(&self, node: usize, is_off: bool) -> bool {
        let one = &self.net.nodes[node];
        let is_near = |expiry: CltvExpiry| expiry.0 <= self.net.chain.tip.0 + NEEDED;
        let victim = self.net.truth.breach.as_ref().is_some_and(|breach| breach.victim == node);
        if victim && self.weather.closes.is_some() {
            return true;
        }
        let closing = one.enforced.values().map(|one| one.resolution.channel());
        let of_closing = closing.flat_map(|channel| {
            let local = channel.local_state.iter().flat_map(|state| &state.htlcs);
            let remote = channel.remote_state.iter().chain(&channel.remote_next).flat_map(|state| &state.htlcs);
            local.chain(remote).map(|htlc| htlc.cltv_expiry).chain(channel.upstream_expiries.values().copied())
        });
        if of_closing.into_iter().any(is_near) {
            return true;
        }
        let is_held = |hash: &PaymentHash| {
            let invoice = one.invoices.open(hash);
            invoice.is_some_and(|invoice| !matches!(invoice.state, InvoiceState::Settled(_)))
        };
        let forwarded = one.channels.iter().flat_map(|(id, channel)| {
            // Its far end may have what it was offered from the chain.
            let far = self.net.nodes[self.net.other(node, id)].channels.get(id);
            let is_open = far.is_some_and(|far| !far.needs_enforcement());
            channel.offered().filter(move |_| is_off || !is_open)
        });
        let mut upstream = forwarded.filter_map(|(_, origin)| match origin {
            Origin::Forward { channel, htlc } => one.channels.get(&channel)?.expiry_of_incoming(htlc),
            Origin::Payment(_) => None,
        });
        let incoming = one.channels.values().filter_map(Channel::summary).filter_map(|summary| summary.established);
        let incoming = incoming.flat_map(|established| established.htlcs);
        let mut told = incoming.filter(|htlc| htlc.offered_by == Side::Remote && !is_held(&htlc.payment_hash));
        upstream.any(is_near) || is_off && told.any(|htlc| is_near(htlc.cltv_expiry))
    }
}

impl Network {
    pub fn is_dark(&self, node: usize) -> bool {
        self.dark.is_some_and(|dark| dark.node == node)
    }

    pub fn is_off(&self, node: usize) -> bool {
        self.dark.is_some_and(|dark| dark.node == node && dark.is_off)
    }

    /// Whether a node may rely on what it has seen of the chain.
    pub fn trust(&self, node: usize) -> TipTrust {
        if self.is_dark(node) { TipTrust::InDoubt } else { TipTrust::Current }
    }

    /// A node hands a transaction over, with those that it needs.
    pub fn broadcast(
        &mut self,
        node: usize,
        parents: &[bitcoin::Transaction],
        tx: &bitcoin::Transaction,
    ) -> Result<(), crate::onchain::Rejection> {
        if self.is_dark(node) {
            self.unheard.push((parents.to_vec(), tx.clone()));
            return Ok(());
        }
        self.chain.submit_package(parents, tx)
    }
}

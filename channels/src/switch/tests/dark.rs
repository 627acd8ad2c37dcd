//! Nodes that are cut from the chain: they hear of no block, and nobody hears what they broadcast. Their peers go on.
//!
//! ```text
//!   without their chain peers:   ──── peers connected, no blocks ─────────────────────► the blocks come
//!   off:                         ──── nothing ────► peers connect, and are heard ────► the blocks come
//! ```
//!
//! One node, or two neighbours at once: then one may hand on what the other believes in.
//!
//! Nobody can take care of what it cannot see: whoever is away while an HTLC that it has forwarded, or told the preimage
//! of, ends on the chain may lose it. So its operator has it back before one comes near its expiry, of those that it had
//! taken on when it lost sight. What it had not forwarded or told by then expires as it likes, and so does what it takes on
//! in the dark: a node that relies on what it has seen last pays for that.

use std::collections::BTreeSet;

use super::deals::Deal;
use super::items::Bug;
use super::network::*;
use super::random::Random;
use super::schedule::Schedule;
use crate::channel::*;
use crate::onchain::Resolution;
use crate::payment::incoming::InvoiceState;
use crate::switch::HtlcRef;
use crate::types::*;

/// For how many blocks at most.
const LONGEST: u64 = 150;
/// Blocks that a node needs for an HTLC once it is back: the twelve at which it closes the channel for one whose preimage it
/// knows, and some in which a spike of the market ends.
const NEEDED: u32 = 20;
/// Payments that begin just before, and steps that they have until it is dark.
const LAST_PAYMENTS: u64 = 6;
const LAST_STEPS: u64 = 80;
/// Rounds in which all that moves ends.
const SETTLING: u32 = 20;
/// Payments that others begin meanwhile, at most.
const PAYMENTS: u64 = 10;

/// Drawn for a schedule.
#[derive(Clone, Copy, Debug)]
pub(super) struct Dark {
    nodes: [bool; NODES],
    blocks: u32,
    /// They do not run at all.
    is_off: bool,
}

impl Dark {
    pub fn draw(random: &mut Random) -> Self {
        let mut nodes = [false; NODES];
        let (one, other) = EDGES[random.below(EDGES.len())];
        (nodes[one], nodes[other]) = match random.below(4) {
            0 => (true, false),
            1 => (false, true),
            _ => (true, true),
        };
        Self { nodes, blocks: random.between(5, LONGEST) as u32, is_off: random.chance(50) }
    }

    fn nodes(&self) -> Vec<usize> {
        (0..NODES).filter(|node| self.nodes[*node]).collect()
    }
}

impl Schedule {
    /// Some do not hear of the chain.
    pub fn be_cut_off(&mut self) {
        let Some(dark) = self.climate.dark.take() else { return };
        let nodes = dark.nodes();
        for _ in 0..self.climate.random.between(0, LAST_PAYMENTS) {
            // To one of them, and often over the other one.
            let random = &mut self.climate.random;
            let receiver = nodes[random.below(nodes.len())];
            let sender = (receiver + 1 + random.below(NODES - 1)) % NODES;
            self.pay_from(sender, receiver, None);
        }
        for _ in 0..self.climate.random.between(0, LAST_STEPS) {
            self.step();
        }
        if self.climate.random.chance(50) {
            // What is under way ends, so that little brings them back: only what is held waits, and expires.
            for _ in 0..SETTLING {
                self.settle_once();
            }
        }
        let promised: Vec<BTreeSet<HtlcRef>> = nodes.iter().map(|node| self.promised(*node)).collect();
        self.begin_dark(dark);
        let mut payments = 0;
        for _ in 0..dark.blocks {
            if nodes.iter().zip(&promised).any(|(node, promised)| self.is_endangered(*node, promised)) {
                break;
            }
            self.net.truth.dark_blocks += 1;
            if payments < PAYMENTS && self.climate.random.chance(20) {
                payments += 1;
                self.pay_anyhow();
            }
            if self.climate.random.chance(10) {
                self.tell_something();
            }
            if self.climate.random.chance(20) {
                self.close_under_held();
            }
            self.block();
            for node in nodes.iter().filter(|_| !dark.is_off) {
                self.tick(*node);
            }
            for _ in 0..20 {
                if !self.settle_once() {
                    break;
                }
            }
        }
        if dark.is_off {
            for node in &nodes {
                self.net.restart(*node);
            }
            self.begin_dark(Dark { is_off: false, ..dark });
            // Peers, and owners, are faster than blocks.
            for _ in 0..self.climate.random.between(0, 12) {
                self.settle_once();
                if self.climate.random.chance(30) {
                    self.tell_something();
                }
            }
        }
        self.net.dark = None;
        for (parents, tx) in std::mem::take(&mut self.net.unheard) {
            let _ = self.net.chain.submit_package(&parents, &tx);
        }
        for node in nodes {
            self.net.nodes[node].trust = TipTrust::Current;
            self.catch_up(node);
        }
    }

    fn begin_dark(&mut self, dark: Dark) {
        self.net.dark = Some(dark);
        for node in dark.nodes() {
            self.net.nodes[node].trust = self.net.trust(node);
        }
    }

    /// Incoming HTLCs that a node has forwarded, or told the preimage of.
    fn promised(&self, node: usize) -> BTreeSet<HtlcRef> {
        let one = &self.net.nodes[node];
        let offered = one.channels.values().flat_map(Channel::offered).map(|(_, origin)| origin);
        let paid = self.net.truth.paid.iter().filter(|((payer, _), _)| *payer == node).map(|(_, paid)| paid.origin);
        let forwarded = offered.chain(paid).filter_map(HtlcRef::of_origin);
        let of_deal = |deal: &Deal| match one.stored_invoice(&deal.hash)?.state {
            InvoiceState::Settled(settled) if deal.receiver == node => Some(settled.htlcs),
            _ => None,
        };
        let told = self.deals.iter().filter_map(of_deal).flatten();
        forwarded.chain(told.map(|part| HtlcRef { channel: part.channel, id: part.htlc })).collect()
    }

    /// Whether the node could lose by being away for longer, although it has done nothing since.
    fn is_endangered(&self, node: usize, promised: &BTreeSet<HtlcRef>) -> bool {
        let one = &self.net.nodes[node];
        let is_near = |expiry: CltvExpiry| expiry.0 <= self.net.chain.tip.0 + NEEDED;
        let victim = self.net.truth.breach.as_ref().is_some_and(|breach| breach.victim == node);
        if victim && self.weather.closes.is_some() {
            return true;
        }
        let closing = one.channels.values().filter_map(Channel::resolution).map(Resolution::channel);
        let of_closing = closing.flat_map(|channel| {
            let local = channel.local_state.iter().flat_map(|state| &state.htlcs);
            let remote = channel.remote_state.iter().chain(&channel.remote_next).flat_map(|state| &state.htlcs);
            local.chain(remote).map(|htlc| htlc.cltv_expiry).chain(channel.upstream_expiries.values().copied())
        });
        let incoming = |htlc: &HtlcRef| one.channels.get(&htlc.channel)?.expiry_of_incoming(htlc.id);
        of_closing.into_iter().chain(promised.iter().filter_map(incoming)).any(is_near)
    }
}

impl Network {
    pub fn is_dark(&self, node: usize) -> bool {
        self.dark.is_some_and(|dark| dark.nodes[node])
    }

    pub fn is_off(&self, node: usize) -> bool {
        self.dark.is_some_and(|dark| dark.nodes[node] && dark.is_off)
    }

    /// Whether a node may rely on what it has seen of the chain.
    pub fn trust(&self, node: usize) -> TipTrust {
        if self.is_dark(node) && self.bug != Bug::TrustedTips { TipTrust::InDoubt } else { TipTrust::Current }
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

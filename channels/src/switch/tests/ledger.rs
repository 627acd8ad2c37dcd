//! What every node must have in the end, to the millisatoshi.
//!
//! ```text
//!   what it has   in its open channels, and in its wallet less the coins that came out of nowhere
//!   what it had   in its channels at the beginning
//!     ± every HTLC whose preimage the node that offered it has got: from that node to the other one
//!     - of a close:  the opener: the commitment's fee and both anchors
//!                    each end:   a balance below the dust limit; what an output leaves out below one satoshi
//!                    whose it is by then (its preimage told: who got it; else who offered it): an HTLC that is trimmed,
//!                    or whose output is not worth its claim; what its output leaves out below one satoshi
//!     - the fees of the node's own claims
//! ```
//!
//! Nothing else is allowed, but where a revoked commitment got into the chain: the cheater may have anything, the victim
//! must have that at least. HTLCs below [`SMALL`] are not fought for by closing a channel, so a forward may end differently
//! on its two sides for those, and for those alone.

use std::collections::{BTreeMap, BTreeSet};

use bitcoin::{OutPoint, Transaction};

use super::network::*;
use super::schedule::Schedule;
use crate::payment::incoming::InvoiceState;
use crate::switch::*;
use crate::tx::{OutputKind, fee};
use crate::types::*;

/// Dust, and the fee of a second stage at [`Feerates::closing`]: what closing a channel for an HTLC would cost.
pub(super) const SMALL: Msat = Msat(1_060_000);
/// The dearest output that a node leaves unclaimed.
const UNECONOMIC: u64 = 1_000;

/// What became of an HTLC in the chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum OnChain {
    /// The commitment has no output for it.
    Trimmed,
    /// Nobody thinks it worth a claim.
    Left,
    TakenBy(usize),
}

/// What the chain cost each node, and what became of HTLCs there, by who offered them.
pub(super) struct Ledger<'a> {
    net: &'a Network,
    cost: [i64; NODES],
    htlcs: BTreeMap<(usize, HtlcRef), (Msat, OnChain)>,
    /// HTLCs that were too small to be fought for.
    pub small: usize,
    /// A revoked commitment that got into the chain.
    pub breach: Option<&'a Breach>,
}

impl<'a> Ledger<'a> {
    pub fn new(net: &'a Network) -> Self {
        let in_chain = |breach: &&Breach| {
            net.chain.spender(&breach.funding).is_some_and(|(_, _, tx)| tx.compute_txid() == breach.txid)
        };
        let breach = net.truth.breach.as_ref().filter(in_chain);
        let mut ledger = Self { net, cost: [0; NODES], htlcs: BTreeMap::new(), small: 0, breach };
        for (channel, close) in &net.truth.closed {
            ledger.close(*channel, close);
        }
        ledger.claims();
        ledger.check_nothing_is_left_behind();
        ledger
    }

    /// Whose an HTLC is by what the node that offered it knows.
    fn owner(&self, offerer: usize, htlc: HtlcRef) -> usize {
        let paid = self.net.truth.paid.contains_key(&(offerer, htlc));
        if paid { self.net.other(offerer, &htlc.channel) } else { offerer }
    }

    fn close(&mut self, channel: ChannelId, close: &Close) {
        let Close { owner, state, commitment, opener, dust_limit } = close;
        let other = self.net.other(*owner, &channel);
        let mut untrimmed = 0;
        for htlc in &state.htlcs {
            let offerer = if htlc.direction == HtlcDirection::Offered { *owner } else { other };
            let name = HtlcRef { channel, id: htlc.id };
            let rightful = self.owner(offerer, name);
            let vout = commitment.outputs().find_map(|(vout, _, info)| {
                let is_this = matches!(&info.kind, OutputKind::Htlc(one) if one == htlc);
                is_this.then_some(vout)
            });
            let fate = match vout {
                None => OnChain::Trimmed,
                Some(vout) => {
                    untrimmed += 1;
                    let outpoint = OutPoint { txid: commitment.txid, vout };
                    let spender = self.net.chain.spender(&outpoint);
                    spender.map_or(OnChain::Left, |(_, _, tx)| OnChain::TakenBy(self.maker(tx).unwrap()))
                }
            };
            let amount = htlc.amount.0 as i64;
            self.cost[rightful] += match fate {
                OnChain::Trimmed | OnChain::Left => amount,
                OnChain::TakenBy(_) => amount % 1000,
            };
            if let OnChain::TakenBy(taker) = fate
                && taker != rightful
            {
                assert!(htlc.amount < SMALL, "{taker} has taken {name:?}, which is {rightful}'s");
                self.small += 1;
                self.cost[rightful] += amount;
                self.cost[taker] -= amount;
            }
            self.htlcs.insert((offerer, name), (htlc.amount, fate));
        }
        let shared =
            fee::commitment_fee(commitment.kind, state.feerate, untrimmed) + fee::anchors_cost(commitment.kind);
        for (side, node, balance) in [(Side::Local, *owner, state.to_local), (Side::Remote, other, state.to_remote)] {
            let balance = balance.0 as i64;
            let fees = if side == *opener { balance.min(shared.to_sat() as i64 * 1000) } else { 0 };
            let rest = balance - fees;
            let has_output = rest / 1000 >= dust_limit.to_sat() as i64;
            self.cost[node] += fees + if has_output { rest % 1000 } else { rest };
        }
    }

    /// The fees of all transactions but the commitments.
    fn claims(&mut self) {
        for tx in self.net.chain.blocks.values().flatten() {
            if let Some(maker) = self.maker(tx) {
                self.cost[maker] += self.net.chain.fee(tx).to_sat() as i64 * 1000;
                // Paid for by the opener already.
                self.cost[maker] -=
                    tx.input.iter().filter(|input| self.is_anchor(&input.previous_output)).count() as i64 * 330_000;
            }
        }
    }

    fn commitment_of(&self, outpoint: &OutPoint) -> Option<&'a Close> {
        self.net.truth.closed.values().find(|close| close.commitment.txid == outpoint.txid)
    }

    fn is_anchor(&self, outpoint: &OutPoint) -> bool {
        self.commitment_of(outpoint).is_some_and(|close| {
            let (_, _, info) = close.commitment.outputs().find(|(vout, _, _)| *vout == outpoint.vout).unwrap();
            matches!(info.kind, OutputKind::ToLocalAnchor | OutputKind::ToRemoteAnchor)
        })
    }

    /// Who made a transaction that is no commitment.
    fn maker(&self, tx: &Transaction) -> Option<usize> {
        let pays = |node: &usize| {
            let script = &self.net.nodes[*node].wallet.script;
            tx.output.iter().any(|output| output.script_pubkey == *script)
        };
        let is_commitment = self.net.truth.closed.values().any(|close| close.commitment.txid == tx.compute_txid());
        if is_commitment || self.breach.is_some_and(|breach| breach.txid == tx.compute_txid()) {
            return None;
        }
        // Only the owner of a commitment has second stages.
        let second_stage = || tx.input.iter().find_map(|input| self.commitment_of(&input.previous_output));
        (0..NODES).find(pays).or_else(|| second_stage().map(|close| close.owner))
    }

    /// Every output is in a wallet or in an open channel, is an anchor, or is not worth its claim.
    fn check_nothing_is_left_behind(&mut self) {
        let open: BTreeSet<OutPoint> = self
            .net
            .nodes
            .iter()
            .flat_map(|node| node.channels.values())
            .map(|one| one.terms().unwrap().funding)
            .collect();
        let wallets: Vec<_> = self.net.nodes.iter().map(|node| &node.wallet.script).collect();
        for (outpoint, output) in self.net.chain.unspent() {
            if wallets.contains(&&output.script_pubkey) || open.contains(outpoint) || self.is_anchor(outpoint) {
                continue;
            }
            // A cheater does not claim what is still its own.
            if self.breach.is_some_and(|breach| breach.txid == outpoint.txid) {
                continue;
            }
            let value = output.value.to_sat();
            assert!(value <= UNECONOMIC, "{outpoint} of {value} sat is left behind");
            let Some(close) = self.commitment_of(outpoint) else {
                // A second stage, which its owner does not think worth a claim.
                let tx = self.net.chain.blocks.values().flatten().find(|tx| tx.compute_txid() == outpoint.txid);
                self.cost[tx.and_then(|tx| self.maker(tx)).unwrap()] += value as i64 * 1000;
                continue;
            };
            // An HTLC's is counted already.
            let (_, _, info) = close.commitment.outputs().find(|(vout, _, _)| *vout == outpoint.vout).unwrap();
            let channel =
                *self.net.truth.closed.iter().find(|(_, one)| one.commitment.txid == outpoint.txid).unwrap().0;
            match info.kind {
                OutputKind::ToLocal => self.cost[close.owner] += value as i64 * 1000,
                OutputKind::ToRemote => self.cost[self.net.other(close.owner, &channel)] += value as i64 * 1000,
                OutputKind::Htlc(_) | OutputKind::ToLocalAnchor | OutputKind::ToRemoteAnchor => {}
            }
        }
    }

    /// What a node has.
    fn wealth(&self, node: usize) -> i64 {
        let node = &self.net.nodes[node];
        let wallet = self.net.chain.balance(&node.wallet.script).to_sat() as i64 - node.wallet.minted.to_sat() as i64;
        node.balance().0 as i64 + wallet * 1000
    }

    pub fn check_wealth(&self, initial: &[Msat]) {
        let mut expected: Vec<i64> = initial.iter().map(|balance| balance.0 as i64).collect();
        for ((offerer, htlc), (amount, _)) in &self.net.truth.paid {
            if self.never_was(*offerer, *htlc) {
                continue;
            }
            expected[*offerer] -= amount.0 as i64;
            expected[self.net.other(*offerer, &htlc.channel)] += amount.0 as i64;
        }
        expected.iter_mut().zip(&self.cost).for_each(|(expected, cost)| *expected -= cost);
        let mut got: Vec<i64> = (0..NODES).map(|node| self.wealth(node)).collect();
        if let Some(Breach { cheater, victim, funding, .. }) = self.breach {
            // If it was not revoked yet, the victim is an opener like any other.
            let (_, _, tx) = self.net.chain.spender(funding).unwrap();
            let shared = self.net.chain.fee(tx).to_sat() as i64 + 661;
            assert!(
                got[*victim] + shared * 1000 >= expected[*victim],
                "{victim} has lost by a breach: {got:?}, not {expected:?}"
            );
            for node in [*cheater, *victim] {
                got[node] = expected[node];
            }
        }
        assert_eq!(got, expected, "what nodes have does not follow from the payments, costs {:?}", self.cost);
    }

    /// Whether the chain told a preimage for an HTLC that the close does not have: for another one with that hash.
    fn never_was(&self, offerer: usize, htlc: HtlcRef) -> bool {
        let is_known = self.htlcs.contains_key(&(offerer, htlc)) || !self.net.truth.closed.contains_key(&htlc.channel);
        !is_known && self.net.truth.told_by_chain.contains(&(offerer, htlc))
    }

    /// Whether an HTLC came to nothing because it was too small.
    fn is_dust(&self, offerer: usize, htlc: HtlcRef) -> bool {
        self.htlcs.get(&(offerer, htlc)).is_some_and(|(amount, fate)| match fate {
            OnChain::Trimmed | OnChain::Left => true,
            OnChain::TakenBy(_) => *amount < SMALL,
        })
    }

    /// An HTLC of a cheater, or of its victim, who has got all of the channel instead.
    fn is_of_breach(&self, node: usize, htlc: HtlcRef) -> bool {
        self.breach.is_some_and(|breach| breach.cheater == node || breach.channel == htlc.channel)
    }

    /// Whoever has paid for an HTLC has been paid for it.
    pub fn check_forwards(&mut self) {
        for ((node, outgoing), (amount, origin)) in &self.net.truth.paid {
            let Some(incoming) = HtlcRef::of_origin(*origin) else { continue };
            if self.never_was(*node, *outgoing) {
                continue;
            }
            let from = self.net.other(*node, &incoming.channel);
            if !self.net.truth.paid.contains_key(&(from, incoming)) && !self.is_of_breach(*node, incoming) {
                let excused = self.is_dust(from, incoming) || *amount < SMALL;
                assert!(excused, "{node} has paid {outgoing:?} and was not paid {incoming:?}");
                self.small += 1;
            }
        }
    }

    /// A settled invoice was paid.
    pub fn check_invoices(&self, schedule: &Schedule) {
        for deal in &schedule.deals {
            let invoice = self.net.nodes[deal.receiver].stored_invoice(&deal.hash).unwrap();
            let InvoiceState::Settled(settled) = invoice.state else { continue };
            for part in &settled.htlcs {
                let htlc = HtlcRef { channel: part.channel, id: part.htlc };
                let from = self.net.other(deal.receiver, &part.channel);
                let paid = self.net.truth.paid.contains_key(&(from, htlc));
                assert!(
                    paid || self.is_of_breach(deal.receiver, htlc) || self.is_dust(from, htlc) || part.amount < SMALL,
                    "{htlc:?} was not paid"
                );
            }
        }
    }
}

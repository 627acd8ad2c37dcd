//! What every node must have in the end, to the millisatoshi.
//!
//! ```text
//!   what it has   in its open channels, in its wallet and in its owner's vault, less the coins that came from outside
//!   what it had   in its channels at the beginning
//!     ± every HTLC whose preimage the node that offered it has got: from that node to the other one
//!     - of a close:  the opener: the commitment's fee and both anchors
//!                    each end:   a balance below the dust limit; what an output leaves out below one satoshi
//!                    whose it is by then (its preimage told: who got it; else who offered it): an HTLC that is trimmed,
//!                    or whose output is not worth its claim; what its output leaves out below one satoshi
//!     - the fees of the node's own claims and of its owner's transfers
//! ```
//!
//! Nothing else is allowed, but where a revoked commitment got into the chain: the cheater may have anything, the victim
//! must have that at least.
//!
//! HTLCs that would not pay for their claims are not fought for, so a forward may end differently on its two sides for those,
//! and for those alone. Each is put down to the node and the channel that went without it, and all that a channel costs a
//! node in that way is within the node's own limit, `max_dust_exposure`: that is what the limit promises, since whatever a
//! node does not fight for counts towards it, whichever way it goes, at a feerate that is raised for what may come. Beyond it
//! are only HTLCs that were in flight when feerates jumped by more than that ([`crate::channel::exposure`]).
//!
//! And without anchors nobody can lift a commitment or its second stages: while the peer is away they pay what they did
//! when it left. If no block from the one at which the channel must be closed to the HTLC's expiry takes as little as that,
//! the HTLC goes back to the peer, whatever it is worth. Excused is what no node could do, block by block ([`Tried`]); what
//! was taken on when the commitment was too cheap already counts towards the limit like all else.

use std::collections::{BTreeMap, BTreeSet};

use bitcoin::{Amount, OutPoint, Transaction};

use super::network::*;
use super::schedule::Schedule;
use super::truth::Paid;
use super::wallet::{self, Wallet};
use crate::channel::ChannelPolicy;
use crate::channel::exposure::raised;
use crate::margins::RECEIVED_MARGIN;
use crate::payment::incoming::InvoiceState;
use crate::switch::*;
use crate::tx::{CommitmentHtlc, OutputKind, fee};
use crate::types::*;

/// The weight of the dearest claim of one HTLC, with a coin for its fee: a second stage of 1,155 with anchors. Half of an
/// HTLC may go to its claim.
const DEAREST_CLAIM: u64 = 1_200;
/// The weight of the dearest claim of an output that is nobody else's: 540 after a delay.
const DEAREST_OWN_CLAIM: u64 = 600;
/// What a P2WPKH output must be worth: the dust limit of the relay rules.
const LEAST_OUTPUT: Msat = Msat(294_000);
/// What an anchor is worth (BOLT 3).
const ANCHOR: Msat = Msat(330_000);

/// What became of an HTLC in the chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum OnChain {
    /// The commitment has no output for it.
    Trimmed,
    /// Nobody thinks it worth a claim.
    Left,
    TakenBy(usize),
}

/// An HTLC that was not fought for, and the raised rate at which it was counted when it was taken on.
type Forgone = (HtlcId, Msat, Option<FeeratePerKw>);

/// What the chain cost each node, and what became of HTLCs there, by who offered them.
pub(super) struct Ledger<'a> {
    net: &'a Network,
    /// What nodes are ready to lose.
    limit: &'static ChannelPolicy,
    cost: [i64; NODES],
    htlcs: BTreeMap<(usize, HtlcRef), OnChain>,
    /// What each channel cost each node in HTLCs that it did not fight for, and their hashes.
    forgone: BTreeMap<(usize, ChannelId), Vec<Forgone>>,
    forgone_hashes: BTreeSet<PaymentHash>,
    /// How many those were.
    pub small: usize,
    /// How many among them were worth a fight that nobody could win.
    pub stuck: usize,
    /// A revoked commitment that got into the chain.
    pub breach: Option<&'a Breach>,
}

impl<'a> Ledger<'a> {
    pub fn new(net: &'a Network, limit: &'static ChannelPolicy) -> Self {
        let in_chain = |breach: &&Breach| {
            net.chain.spender(&breach.funding).is_some_and(|(_, _, tx)| tx.compute_txid() == breach.txid)
        };
        let breach = net.truth.breach.as_ref().filter(in_chain);
        let (cost, htlcs, forgone, forgone_hashes) = Default::default();
        let mut ledger = Self { net, limit, cost, htlcs, forgone, forgone_hashes, small: 0, stuck: 0, breach };
        for (channel, close) in &net.truth.closed {
            ledger.close(*channel, close);
        }
        for channel in &net.truth.double_spent {
            ledger.double_spent(channel);
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

    /// A node has gone without an HTLC that was its own.
    fn forgo(&mut self, node: usize, offerer: usize, htlc: HtlcRef, amount: Msat, hash: PaymentHash) {
        let highest = self.net.nodes[node].outlook.highest;
        let is_large = amount >= not_fought_for(highest);
        assert!(!is_large || self.is_out_of_reach(node, htlc), "{node} has lost {htlc:?} of {amount} at {highest:?}");
        self.forgone_hashes.insert(hash);
        self.small += 1;
        self.stuck += usize::from(is_large);
        // One that was worth a fight even at a raised rate when it was taken on counts towards no limit: nothing can be done
        // about it once feerates have risen further, and it costs at most what it would have cost to get it.
        let taken_on = self.net.truth.taken_on.get(&(node, offerer, htlc)).map(|rate| raised(*rate));
        let is_counted = match is_large {
            true => self.net.truth.taken_late.contains(&(node, offerer, htlc)),
            false => taken_on.is_none_or(|rate| rate >= highest || amount < not_fought_for(rate)),
        };
        if is_counted {
            self.forgone.entry((node, htlc.channel)).or_default().push((htlc.id, amount, taken_on));
        }
    }

    /// Whether nothing could bring a node an HTLC that was offered to it: its commitment has no anchors, and blocks asked
    /// for more than that and its second stages pay.
    fn is_out_of_reach(&self, node: usize, htlc: HtlcRef) -> bool {
        let Some(close) = self.net.truth.closed.get(&htlc.channel).filter(|close| close.owner == node) else {
            return false;
        };
        let Close { state, commitment, .. } = close;
        let is_this = |one: &&CommitmentHtlc| one.id == htlc.id && one.direction == HtlcDirection::Received;
        let Some(received) = state.htlcs.iter().find(is_this) else { return false };
        let funding = commitment.tx.input[0].previous_output;
        let Some((closed, _, tx)) = self.net.chain.spender(&funding) else { return false };
        let tried = Tried {
            commitment: self.net.chain.rate([tx]) as u32,
            closed: closed.0,
            second_stage: state.feerate.0,
            expiry: received.cltv_expiry.0,
        };
        commitment.kind == CommitmentType::StaticRemoteKey && tried.is_in_vain(&self.net.chain.asked)
    }

    /// No channel costs a node more than the node is ready to lose in it.
    pub fn check_exposure(&self) {
        for ((node, channel), forgone) in &self.forgone {
            let capacity = self.net.base.edge(channel).capacity;
            let limit = self.limit.exposure_limit(capacity);
            let lost = Msat(forgone.iter().map(|(_, amount, _)| amount.0).sum());
            assert!(lost <= limit, "{node} has lost {lost} in {channel}, not {limit}: {forgone:?}");
        }
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
            let forgone = match fate {
                OnChain::Trimmed | OnChain::Left => true,
                OnChain::TakenBy(taker) => taker != rightful,
            };
            self.cost[rightful] += amount % 1000;
            if forgone {
                self.cost[rightful] += amount - amount % 1000;
                self.forgo(rightful, offerer, name, htlc.amount, htlc.payment_hash);
            }
            if let OnChain::TakenBy(taker) = fate
                && taker != rightful
            {
                self.cost[taker] -= amount - amount % 1000;
            }
            self.htlcs.insert((offerer, name), fate);
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

    /// The opener has spent the coins of a channel otherwise: all that was in it is its own. A trust in confirmations that
    /// was misplaced, and the only loss that no limit bounds.
    fn double_spent(&mut self, channel: &ChannelId) {
        let edge = self.net.base.edge(channel);
        let (opener, other) = edge.ends;
        let paid = |by: usize| -> i64 {
            let paid = self.net.truth.paid.iter().filter(|((node, htlc), _)| *node == by && htlc.channel == *channel);
            paid.map(|(_, paid)| paid.amount.0 as i64).sum()
        };
        // Half was given away at opening.
        let balance = edge.capacity.to_sat() as i64 * 500 + paid(opener) - paid(other);
        self.cost[other] += balance;
        self.cost[opener] -= balance;
    }

    /// The fees of all transactions but the commitments.
    fn claims(&mut self) {
        for tx in self.net.chain.blocks.values().flatten() {
            if let Some(maker) = self.maker(tx) {
                self.cost[maker] += self.net.chain.fee(tx).to_sat() as i64 * 1000;
                // Paid for by the opener already.
                self.cost[maker] -= tx.input.iter().filter(|input| self.is_anchor(&input.previous_output)).count()
                    as i64
                    * ANCHOR.0 as i64;
            }
        }
    }

    fn commitment_of(&self, outpoint: &OutPoint) -> Option<(ChannelId, &'a Close)> {
        let found = self.net.truth.closed.iter().find(|(_, close)| close.commitment.txid == outpoint.txid);
        found.map(|(channel, close)| (*channel, close))
    }

    fn is_anchor(&self, outpoint: &OutPoint) -> bool {
        self.commitment_of(outpoint).is_some_and(|(_, close)| {
            let (_, _, info) = close.commitment.outputs().find(|(vout, _, _)| *vout == outpoint.vout).unwrap();
            matches!(info.kind, OutputKind::ToLocalAnchor | OutputKind::ToRemoteAnchor)
        })
    }

    /// Who made a transaction that is no commitment.
    fn maker(&self, tx: &Transaction) -> Option<usize> {
        let pays = |node: &usize| {
            let Wallet { script, vault, .. } = &self.net.nodes[*node].wallet;
            tx.output.iter().any(|output| [script, vault].contains(&&output.script_pubkey))
        };
        let is_commitment = self.net.truth.closed.values().any(|close| close.commitment.txid == tx.compute_txid());
        if is_commitment || self.breach.is_some_and(|breach| breach.txid == tx.compute_txid()) {
            return None;
        }
        // Only the owner of a commitment has second stages.
        let second_stage = || tx.input.iter().find_map(|input| self.commitment_of(&input.previous_output));
        (0..NODES).find(pays).or_else(|| second_stage().map(|(_, close)| close.owner))
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
        let wallets = self.net.nodes.iter().flat_map(|node| [&node.wallet.script, &node.wallet.vault]);
        let wallets: Vec<_> = wallets.collect();
        for (outpoint, output) in self.net.chain.unspent() {
            let never_came = output.script_pubkey == wallet::outside();
            if never_came
                || wallets.contains(&&output.script_pubkey)
                || open.contains(outpoint)
                || self.is_anchor(outpoint)
            {
                continue;
            }
            // A cheater does not claim what is still its own.
            if self.breach.is_some_and(|breach| breach.txid == outpoint.txid) {
                continue;
            }
            let value = Msat::from_sat(output.value).unwrap();
            let Some((channel, close)) = self.commitment_of(outpoint) else {
                // A second stage, which its owner does not think worth a claim.
                let tx = self.net.chain.blocks.values().flatten().find(|tx| tx.compute_txid() == outpoint.txid);
                let input = tx.unwrap().input.iter().find_map(|input| self.commitment_of(&input.previous_output));
                let (channel, close) = input.unwrap_or_else(|| panic!("nobody has {outpoint} of {value}: {tx:?}"));
                self.leave(close.owner, *outpoint, value);
                self.forgone.entry((close.owner, channel)).or_default().push((HtlcId(u64::MAX), value, None));
                continue;
            };
            let (_, _, info) = close.commitment.outputs().find(|(vout, _, _)| *vout == outpoint.vout).unwrap();
            match info.kind {
                OutputKind::ToLocal => self.leave(close.owner, *outpoint, value),
                OutputKind::ToRemote => self.leave(self.net.other(close.owner, &channel), *outpoint, value),
                // An HTLC's is counted already.
                OutputKind::Htlc(_) | OutputKind::ToLocalAnchor | OutputKind::ToRemoteAnchor => {}
            }
        }
    }

    /// A node leaves an output.
    fn leave(&mut self, node: usize, outpoint: OutPoint, value: Msat) {
        let highest = uneconomic(self.net.nodes[node].outlook.highest_later);
        assert!(value <= highest, "{node} leaves {outpoint} of {value} behind");
        self.cost[node] += value.0 as i64;
    }

    /// What a node has.
    fn wealth(&self, node: usize) -> i64 {
        let Network { nodes, chain, truth, .. } = self.net;
        let Wallet { script, vault, minted, .. } = &nodes[node].wallet;
        let deposits = truth.deposits.iter().filter(|(owner, txid, _)| *owner == node && chain.has(*txid));
        let from_outside = deposits.map(|(_, _, value)| *value).sum::<Amount>() + *minted;
        let own = chain.balance(script) + chain.balance(vault);
        nodes[node].balance().0 as i64 + (own.to_sat() as i64 - from_outside.to_sat() as i64) * 1000
    }

    pub fn check_wealth(&self, initial: &[Msat]) {
        let mut expected: Vec<i64> = initial.iter().map(|balance| balance.0 as i64).collect();
        for ((offerer, htlc), Paid { amount, .. }) in &self.net.truth.paid {
            if self.never_was(*offerer, *htlc) {
                continue;
            }
            expected[*offerer] -= amount.0 as i64;
            expected[self.net.other(*offerer, &htlc.channel)] += amount.0 as i64;
        }
        expected.iter_mut().zip(&self.cost).for_each(|(expected, cost)| *expected -= cost);
        let mut got: Vec<i64> = (0..NODES).map(|node| self.wealth(node)).collect();
        if let Some(Breach { cheater, victim, funding, .. }) = self.breach {
            // If it was not revoked yet, the victim is an opener like any other: it pays the fee and both anchors, and what is
            // below one satoshi.
            let (_, _, tx) = self.net.chain.spender(funding).unwrap();
            let shared = (self.net.chain.fee(tx).to_sat() as i64 + 1) * 1000 + 2 * ANCHOR.0 as i64;
            assert!(
                got[*victim] + shared >= expected[*victim],
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

    /// Payments that came to nothing somewhere because they were too small.
    pub fn forgone_hashes(&self) -> BTreeSet<PaymentHash> {
        self.forgone_hashes.clone()
    }

    /// An HTLC of a cheater, or of its victim, who has got all of the channel instead.
    fn is_of_breach(&self, node: usize, htlc: HtlcRef) -> bool {
        self.breach.is_some_and(|breach| breach.cheater == node || breach.channel == htlc.channel)
    }

    /// Whoever has paid for an HTLC has been paid for it.
    pub fn check_forwards(&mut self) {
        for ((node, outgoing), Paid { amount, origin, payment_hash }) in &self.net.truth.paid {
            let Some(incoming) = HtlcRef::of_origin(*origin) else { continue };
            if self.never_was(*node, *outgoing) {
                continue;
            }
            let from = self.net.other(*node, &incoming.channel);
            if self.net.truth.double_spent.contains(&incoming.channel) {
                self.forgone_hashes.insert(*payment_hash);
                continue;
            }
            if !self.net.truth.paid.contains_key(&(from, incoming)) && !self.is_of_breach(*node, incoming) {
                self.forgo(*node, from, incoming, *amount, *payment_hash);
            }
        }
    }

    /// A settled invoice was paid.
    pub fn check_invoices(&mut self, schedule: &Schedule) {
        for deal in &schedule.deals {
            let invoice = self.net.nodes[deal.receiver].stored_invoice(&deal.hash).unwrap();
            let InvoiceState::Settled(settled) = invoice.state else { continue };
            for part in &settled.htlcs {
                let htlc = HtlcRef { channel: part.channel, id: part.htlc };
                let from = self.net.other(deal.receiver, &part.channel);
                let paid = self.net.truth.paid.contains_key(&(from, htlc));
                if !paid && self.net.truth.double_spent.contains(&part.channel) {
                    self.forgone_hashes.insert(deal.hash);
                } else if !paid && !self.is_of_breach(deal.receiver, htlc) {
                    self.forgo(deal.receiver, from, htlc, part.amount, deal.hash);
                }
            }
        }
    }
}

/// A commitment without anchors, and the second stage of an HTLC that was offered to its owner: their rates, and blocks.
struct Tried {
    commitment: u32,
    second_stage: u32,
    /// Where the commitment got into the chain.
    closed: u32,
    expiry: u32,
}

impl Tried {
    /// Whether no block would have taken them, of those in which they had to be: from the one after which the channel must
    /// be closed to the HTLC's expiry, the second stage after the commitment: in the block of the expiry itself a commitment
    /// would come too late for its second stage. `asked` is what each block asked for.
    fn is_in_vain(&self, asked: &BTreeMap<u32, u32>) -> bool {
        let due = self.expiry - RECEIVED_MARGIN;
        let takes = |from: u32, to: u32, rate: u32| (from..=to).any(|block| asked[&block] <= rate);
        let missed_commitment = takes(due + 1, (self.expiry - 1).min(self.closed - 1), self.commitment);
        let missed_second_stage = takes(due.max(self.closed) + 1, self.expiry, self.second_stage);
        !missed_commitment && !missed_second_stage
    }
}

/// From which amount on a node that thinks this rate right fights for an HTLC, whatever the channel: a claim may cost half
/// of it.
fn not_fought_for(feerate: FeeratePerKw) -> Msat {
    Msat(2 * DEAREST_CLAIM * u64::from(feerate.0))
}

/// The dearest output that a node leaves unclaimed for good if the patient ever had to pay this rate: a claim may cost half
/// of it, and what the claim pays out must be above the dust limit.
pub(super) fn uneconomic(patient: FeeratePerKw) -> Msat {
    let fee = DEAREST_OWN_CLAIM * u64::from(patient.0);
    Msat((2 * fee).max(LEAST_OUTPUT.0 + fee))
}

/// An expiry at 100: the channel must be closed at 88.
#[test]
fn what_a_block_would_have_taken_in_time_is_not_excused() {
    let dear = || -> BTreeMap<u32, u32> { (80..=110).map(|block| (block, 1_000)).collect() };
    let but = |cheap: &[u32]| {
        let mut asked = dear();
        asked.extend(cheap.iter().map(|block| (*block, 600)));
        asked
    };
    let tried = |closed| Tried { commitment: 620, second_stage: 615, closed, expiry: 100 };
    assert!(tried(105).is_in_vain(&dear()));
    assert!(tried(105).is_in_vain(&but(&[80, 88, 101, 105])), "too early and too late");
    assert!(!tried(105).is_in_vain(&but(&[89])), "it was not handed over in time");
    assert!(!tried(105).is_in_vain(&but(&[99])));
    assert!(tried(105).is_in_vain(&but(&[100])), "no block is left for the second stage");
    // In the chain in time, and then nothing for the second stage.
    assert!(tried(90).is_in_vain(&but(&[90])));
    assert!(!tried(90).is_in_vain(&but(&[90, 91])));
    assert!(tried(82).is_in_vain(&but(&[82, 84])), "before anything is due");
    assert!(!tried(82).is_in_vain(&but(&[82, 89])));
    let cheap_stage = Tried { second_stage: 599, ..tried(90) };
    assert!(cheap_stage.is_in_vain(&but(&[90, 91])));
}

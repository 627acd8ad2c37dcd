//! What the test knows and no node does.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet, btree_map::Entry};

use bitcoin::{Amount, OutPoint, Txid};

use super::items::NodeEffect;
use super::network::Network;
use crate::channel::feerate::confirms_late;
use crate::channel::*;
use crate::onchain::{Closer, LocalState, Resolution};
use crate::payment::route::Route;
use crate::switch::*;
use crate::tx::CommitmentTx;
use crate::types::*;

/// What the test knows and no node does.
#[derive(Default)]
pub(super) struct Truth {
    /// Every HTLC that a node offered for a payment of its own.
    pub attempts: BTreeMap<(usize, AttemptId), Route>,
    pub fulfilled: BTreeSet<(usize, AttemptId)>,
    /// Which HTLC each forwarded packet came from.
    pub packets: HashMap<(usize, [u8; 32]), HtlcRef>,
    /// Attempts that repeat the onion of another one.
    pub repeated: HashSet<(usize, AttemptId)>,
    pub restarts: usize,
    /// Settlements that a restart found: of HTLCs that were to be fulfilled, and to be failed.
    pub owed: [usize; 2],
    /// HTLCs on their way that a restart found.
    pub resumed: usize,
    pub commits: usize,
    pub forwards: usize,
    pub news: usize,
    /// Packets offered lately, to be repeated.
    pub lately: Vec<(usize, Route, AddHtlc)>,
    /// HTLCs, by who offered them, whose preimage that node has got for them.
    pub paid: BTreeMap<(usize, HtlcRef), Paid>,
    /// Those among them for which only the chain has told it.
    pub told_by_chain: BTreeSet<(usize, HtlcRef)>,
    /// Channels that ended with a commitment transaction.
    pub closed: BTreeMap<ChannelId, Close>,
    /// Which nodes have been told that a channel of theirs closes.
    pub closing: BTreeSet<(usize, ChannelId)>,
    /// Enforcements begun, a node each.
    pub closes: usize,
    /// Channels that were closed for an HTLC's expiry.
    pub deadlines: usize,
    /// And those for a feerate, or for what it left without protection.
    pub fee_closes: usize,
    /// Connections that ended because an HTLC had expired before it was signed.
    pub hang_ups: usize,
    /// Outgoing HTLCs whose fate the chain told: their preimage, and their loss.
    pub from_chain: [usize; 2],
    /// Attempts that were told to have failed while their outputs stood unspent, not worth a claim for weeks, and what each was
    /// worth: the peer may still take them once a claim is cheap.
    pub given_up: BTreeMap<(usize, AttemptId), Msat>,
    /// HTLCs that came to nothing because they were too small for the chain.
    pub small: usize,
    /// Those among them that were worth a fight, on a commitment that nobody could lift.
    pub stuck: usize,
    /// An old commitment that a node has published.
    pub breach: Option<Breach>,
    pub breaches: usize,
    /// What nodes thought right to pay when they took HTLCs on, by who took it on and who offered it.
    pub taken_on: BTreeMap<(usize, usize, HtlcRef), FeeratePerKw>,
    /// Those among them that were taken on although the commitment could not be relied on to confirm in time.
    pub taken_late: BTreeSet<(usize, usize, HtlcRef)>,
    /// How often all funding transactions were taken back, and the channels whose coins the opener then spent otherwise.
    pub storms: usize,
    pub double_spent: BTreeSet<ChannelId>,
    /// Coins that owners have paid in from outside.
    pub deposits: Vec<(usize, Txid, Amount)>,
    /// Coins that a wallet with the same words has spent.
    pub vanished: usize,
    /// Blocks that a node did not hear of in time.
    pub dark_blocks: usize,
    /// Claims that lacked coins.
    pub lacking: usize,
}

/// An HTLC whose preimage the node that offered it has got.
#[derive(Clone, Copy)]
pub(super) struct Paid {
    pub amount: Msat,
    pub payment_hash: PaymentHash,
    pub origin: Origin,
}

/// A node publishes a commitment that it has revoked; apart from that it does what honest nodes do.
pub(super) struct Breach {
    pub channel: ChannelId,
    pub funding: OutPoint,
    pub txid: Txid,
    pub cheater: usize,
    pub victim: usize,
}

/// How a channel ended: with this commitment of `owner`.
pub(super) struct Close {
    pub owner: usize,
    pub state: LocalState,
    pub commitment: CommitmentTx,
    pub opener: Side,
    pub dust_limit: Amount,
}

impl Truth {
    pub fn is_breached(&self, channel: &ChannelId) -> bool {
        self.breach.as_ref().is_some_and(|breach| breach.channel == *channel)
    }

    /// Takes note of a close that its owner has done with.
    pub fn note_close(&mut self, node: usize, resolution: &Resolution) {
        let channel = resolution.channel();
        if let (Some(Closer::Local(commitment)), Some(state)) = (resolution.closer(), &channel.local_state) {
            let close = Close {
                owner: node,
                state: state.clone(),
                commitment: commitment.as_ref().clone(),
                opener: channel.opener,
                dust_limit: channel.local_dust_limit,
            };
            self.closed.insert(channel.channel_id, close);
        }
    }
}

impl Network {
    /// What a node knows for good now, whatever becomes of the effect.
    pub fn witness(&mut self, index: usize, effect: &NodeEffect) {
        let NodeEffect::Channel(channel, effect) = effect else { return };
        let (id, by_chain) = match effect {
            Effect::Fulfilled { htlc, .. } => (*htlc, self.is_enforced(index, channel)),
            _ => return,
        };
        let offered = self.nodes[index].channels.get(channel).into_iter().flat_map(Channel::offered);
        let found = offered.into_iter().find(|(htlc, _)| htlc.id == id && htlc.offered_by == Side::Local);
        if let Some((htlc, origin)) = found {
            let name = (index, HtlcRef { channel: *channel, id });
            let paid = Paid { amount: htlc.amount, payment_hash: htlc.payment_hash, origin };
            let is_new = self.truth.paid.insert(name, paid).is_none();
            if by_chain && is_new {
                self.truth.told_by_chain.insert(name);
            }
        }
    }

    /// An HTLC of a node's own payment is told to have failed.
    pub fn note_given_up(&mut self, node: usize, channel: &ChannelId, htlc: HtlcId, origin: Origin) {
        let resolution = self.nodes[node].channels.get(channel).and_then(Channel::resolution);
        let mut outputs = resolution.into_iter().flat_map(Resolution::outputs);
        let held = outputs.find(|output| output.role.outgoing() == Some(htlc) && output.is_unspent());
        if let (Some(output), Origin::Payment(attempt)) = (held, origin) {
            let amount = Msat(output.output.value.to_sat() * 1000);
            self.truth.given_up.insert((node, attempt), amount);
        }
    }

    /// A node takes an HTLC on.
    pub fn take_on(&mut self, node: usize, offerer: usize, htlc: HtlcRef) {
        let one = &self.nodes[node];
        let established = one.channels.get(&htlc.channel).and_then(Channel::summary).and_then(|all| all.established);
        let feerates = &one.outlook.feerates;
        let rate = established.as_ref().map_or(feerates.closing, |all| all.feerate.max(feerates.closing));
        let is_late = established.is_some_and(|all| confirms_late(all.commitment_type, all.feerate, feerates));
        let name = (node, offerer, htlc);
        if let Entry::Vacant(entry) = self.truth.taken_on.entry(name) {
            entry.insert(rate);
            self.truth.taken_late.extend(is_late.then_some(name));
        }
    }
}

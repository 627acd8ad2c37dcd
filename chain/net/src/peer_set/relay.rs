//! Transactions between peers.
//!
//! ```text
//!   inv ─▶ known? ─▶ request queue ─▶ getdata ─▶ tx ─▶ mempool ─┬─ accepted ─────▶ queue of every other peer ─▶ inv
//!                                                               ├─ no parents ───▶ orphanage, ask for the parents
//!                                                               ├─ fee too low ──▶ wait for a child that pays
//!                                                               └─ rejected ─────▶ forgotten
//! ```
//!
//! Announcements leave at random times (a Poisson process for each peer), so that the first to announce is not
//! recognisable as the source.

use std::sync::Arc;
use std::time::Duration;

use bitcoin::p2p::message::NetworkMessage;
use bitcoin::p2p::message_blockdata::Inventory;
use bitcoin::{Transaction, Txid, Wtxid};

use super::PeerSet;
use crate::compact::ExtraTransactions;
use crate::config::{MAX_INVENTORY, MAX_TX_INV};
use crate::event::{Action, Ctx, Direction, PeerId, TransactionOutcome};
use crate::misbehavior::Misbehavior;
use crate::orphanage::Orphanage;
use crate::tx_requests::TxRequests;
use crate::tx_validation::TxValidation;
use crate::view::{RelayedTx, TxName};

/// Transactions that wait to be announced to one peer; the oldest are dropped.
const MAX_QUEUE: usize = 20_000;

/// Transactions on their way to us.
#[derive(Clone, Debug, Default)]
pub(crate) struct Relay {
    requests: TxRequests,
    pub(crate) orphanage: Orphanage,
    /// What blocks may hold although the mempool does not.
    pub(crate) extra: ExtraTransactions,
    in_validation: TxValidation,
}

impl Relay {
    pub(crate) fn disconnected(&mut self, peer: PeerId, now: Duration) {
        self.requests.disconnected(peer, now);
        self.orphanage.disconnected(peer);
    }

    /// Is there no point in asking for it?
    fn has(&self, name: &TxName, ctx: &Ctx) -> bool {
        let here = match name {
            TxName::Wtxid(wtxid) => self.in_validation.contains(wtxid) || self.orphanage.contains(wtxid),
            TxName::Txid(txid) => self.orphanage.parent(txid).is_some(),
        };
        here || ctx.mempool.knows(name)
    }
}

fn name_of(item: &Inventory) -> Option<TxName> {
    match item {
        Inventory::WTx(wtxid) => Some(TxName::Wtxid(*wtxid)),
        Inventory::Transaction(txid) | Inventory::WitnessTransaction(txid) => Some(TxName::Txid(*txid)),
        Inventory::Error
        | Inventory::Block(_)
        | Inventory::CompactBlock(_)
        | Inventory::WitnessBlock(_)
        | Inventory::Unknown { .. } => None,
    }
}

impl PeerSet {
    pub(crate) fn inventory(&mut self, id: PeerId, inventory: &[Inventory], ctx: &Ctx) {
        if inventory.len() > MAX_INVENTORY {
            self.misbehaves(id, Misbehavior::Oversized, ctx);
            return;
        }
        let timing = self.config.timing;
        let is_catching_up = self.is_catching_up(ctx);
        let mut last_block = None;
        for item in inventory {
            if let Inventory::Block(hash) = item {
                last_block = Some(*hash);
            }
            let Some(name) = name_of(item).filter(|_| !self.config.light) else { continue };
            let Some(peer) = self.peers.get_mut(&id) else { return };
            peer.relay.known.insert(name);
            let preferred = peer.direction == Direction::Outbound;
            if !self.relay.has(&name, ctx) && !is_catching_up {
                self.relay.requests.announced(id, name, preferred, ctx.now, &timing);
            }
        }
        // A node that announces several announces the best one last.
        if let Some(hash) = last_block {
            self.block_announced(id, hash, ctx);
            self.schedule_blocks(ctx);
        }
        self.request_transactions(ctx);
    }

    fn request_transactions(&mut self, ctx: &Ctx) {
        let Relay { requests, orphanage, in_validation, extra: _ } = &mut self.relay;
        let due = requests.due(ctx.now, &self.config.timing, |name| {
            ctx.mempool.knows(name)
                || matches!(name, TxName::Wtxid(wtxid) if in_validation.contains(wtxid) || orphanage.contains(wtxid))
        });
        let mut by_peer: std::collections::BTreeMap<PeerId, Vec<Inventory>> = std::collections::BTreeMap::new();
        for (peer, name) in due {
            by_peer.entry(peer).or_default().push(match name {
                TxName::Wtxid(wtxid) => Inventory::WTx(wtxid),
                TxName::Txid(txid) => Inventory::WitnessTransaction(txid),
            });
        }
        for (peer, inventory) in by_peer {
            self.send(peer, NetworkMessage::GetData(inventory));
        }
    }

    pub(crate) fn not_found(&mut self, id: PeerId, inventory: &[Inventory], ctx: &Ctx) {
        if inventory.len() > MAX_INVENTORY {
            self.misbehaves(id, Misbehavior::Oversized, ctx);
            return;
        }
        for item in inventory {
            if let Some(name) = name_of(item) {
                if self.relay.requests.is_asked(id, &name) {
                    self.relay.requests.not_found(id, &name, ctx.now);
                }
            } else if let Inventory::Block(hash) | Inventory::WitnessBlock(hash) | Inventory::CompactBlock(hash) = item
            {
                self.block_not_found(id, hash, ctx);
            }
        }
        self.request_transactions(ctx);
    }

    pub(crate) fn transaction(&mut self, id: PeerId, transaction: Transaction, ctx: &Ctx) {
        let (txid, wtxid) = (transaction.compute_txid(), transaction.compute_wtxid());
        self.relay.requests.forget(&TxName::Wtxid(wtxid));
        self.relay.requests.forget(&TxName::Txid(txid));
        if let Some(peer) = self.peers.get_mut(&id) {
            peer.relay.known.insert(TxName::Wtxid(wtxid));
            peer.relay.known.insert(TxName::Txid(txid));
        }
        if !self.relay.has(&TxName::Wtxid(wtxid), ctx) {
            if self.relay.in_validation.has_room(id, &transaction) {
                self.submit(id, Arc::new(transaction));
            } else {
                // Not now; whoever announced it is asked again.
                let timing = self.config.timing;
                self.relay.requests.announced(id, TxName::Wtxid(wtxid), false, ctx.now, &timing);
            }
        }
        self.request_transactions(ctx);
    }

    fn submit(&mut self, id: PeerId, transaction: Arc<Transaction>) {
        if self.relay.in_validation.insert(id, &transaction) {
            self.out.push(Action::SubmitTransaction { peer: id, transaction });
        }
    }

    /// The parent's scripts are run for the first time: who brought it answers for them.
    fn submit_package(&mut self, parent: (PeerId, Arc<Transaction>), child: (PeerId, Arc<Transaction>)) {
        let ((brought_by, parent), (peer, child)) = (parent, child);
        self.relay.orphanage.remove_parent(&parent.compute_txid());
        self.relay.in_validation.insert(brought_by, &parent);
        self.relay.in_validation.insert(peer, &child);
        self.out.push(Action::SubmitPackage { peer, parent, child });
    }

    pub(crate) fn transaction_processed(
        &mut self,
        id: PeerId,
        transaction: &Arc<Transaction>,
        outcome: TransactionOutcome,
        ctx: &Ctx,
    ) {
        let txid = transaction.compute_txid();
        let brought_by = self.relay.in_validation.remove(&transaction.compute_wtxid()).unwrap_or(id);
        if let TransactionOutcome::MissingInputs { .. } | TransactionOutcome::FeeTooLow | TransactionOutcome::Rejected =
            outcome
        {
            self.relay.extra.add(transaction);
        }
        match outcome {
            TransactionOutcome::Accepted => {
                if let Some(peer) = self.peers.get_mut(&id) {
                    peer.last_useful.transaction = Some(ctx.now);
                }
                self.relay.orphanage.remove_parent(&txid);
                for (peer, child) in self.relay.orphanage.take_children(&txid) {
                    self.submit(peer, child);
                }
            }
            TransactionOutcome::MissingInputs { parents } => self.parents_missing(id, transaction, &parents, ctx),
            TransactionOutcome::FeeTooLow => {
                // Each child may be the one that pays enough; a poor one must not keep the others from being tried.
                let children = self.relay.orphanage.take_children(&txid);
                if children.is_empty() {
                    self.relay.orphanage.add_parent(Arc::clone(transaction), brought_by);
                }
                for child in children {
                    self.submit_package((brought_by, Arc::clone(transaction)), child);
                }
            }
            TransactionOutcome::Invalid => {
                self.misbehaves(brought_by, Misbehavior::InvalidTransaction, ctx);
            }
            TransactionOutcome::Rejected => {}
        }
        self.request_transactions(ctx);
    }

    fn parents_missing(&mut self, id: PeerId, child: &Arc<Transaction>, parents: &[Txid], ctx: &Ctx) {
        if let Some(parent) = parents.iter().find_map(|txid| self.relay.orphanage.parent(txid)) {
            let parent = (parent.peer, Arc::clone(&parent.transaction));
            self.submit_package(parent, (id, Arc::clone(child)));
            return;
        }
        if !self.peers.contains_key(&id) {
            return;
        }
        let expires = ctx.now.saturating_add(self.config.timing.orphan);
        self.relay.orphanage.add(Arc::clone(child), id, expires);
        for txid in parents {
            let name = TxName::Txid(*txid);
            if !self.relay.has(&name, ctx) {
                self.relay.requests.wanted(id, name, ctx.now);
            }
        }
    }

    /// A new transaction of the mempool is put into every peer's queue.
    pub(crate) fn transaction_accepted(&mut self, transaction: RelayedTx) {
        for peer in self.peers.values_mut() {
            if peer.wants_transactions() {
                peer.relay.queue.push_back(transaction);
                if peer.relay.queue.len() > MAX_QUEUE {
                    peer.relay.queue.pop_front();
                }
            }
        }
    }

    /// A transaction has left the mempool. What drove it out (a reorganisation that its relative lock does not survive, a full
    /// mempool) drives it out of others' too, so a peer that had it is told of it when it comes back.
    pub(crate) fn transaction_removed(&mut self, transaction: &Arc<Transaction>, txid: Txid, wtxid: Wtxid) {
        self.relay.extra.add(transaction);
        for peer in self.peers.values_mut() {
            peer.relay.known.remove(&TxName::Txid(txid));
            peer.relay.known.remove(&TxName::Wtxid(wtxid));
        }
    }

    /// What a new peer is told: it may have missed any of it.
    pub(crate) fn queue_mempool(&mut self, id: PeerId, ctx: &Ctx) {
        if let Some(peer) = self.peers.get_mut(&id)
            && peer.wants_transactions()
        {
            peer.relay.queue.extend(ctx.mempool.relayable(MAX_TX_INV));
        }
    }

    /// Announces what is in a peer's queue, when its time has come.
    pub(crate) fn trickle(&mut self, id: PeerId, ctx: &Ctx) {
        let timing = self.config.timing;
        let Some(peer) = self.peers.get_mut(&id) else { return };
        if peer.relay.queue.is_empty() || ctx.now < peer.relay.next_announcement {
            return;
        }
        let mean = match peer.direction {
            Direction::Inbound => timing.trickle_inbound,
            Direction::Outbound => timing.trickle_outbound,
        };
        peer.relay.next_announcement = ctx.now.saturating_add(self.entropy.poisson(mean));
        let mut inventory = Vec::new();
        while inventory.len() < MAX_TX_INV
            && let Some(transaction) = peer.relay.queue.pop_front()
        {
            let name = peer.name_of(&transaction);
            let rate = transaction.fee_rate.to_sat_per_kwu().saturating_mul(4);
            if rate < peer.relay.fee_filter
                || ctx.mempool.transaction(&name).is_none()
                || !peer.relay.known.insert(name)
            {
                continue;
            }
            inventory.push(match name {
                TxName::Wtxid(wtxid) => Inventory::WTx(wtxid),
                TxName::Txid(txid) => Inventory::Transaction(txid),
            });
        }
        if !inventory.is_empty() {
            self.send(id, NetworkMessage::Inv(inventory));
        }
    }

    pub(crate) fn tick_relay(&mut self, ctx: &Ctx) {
        self.relay.orphanage.expire(ctx.now);
        self.request_transactions(ctx);
        let ids: Vec<PeerId> = self.peers.keys().copied().collect();
        for id in ids {
            self.send_fee_filter(id, ctx);
        }
    }

    /// Says what is too cheap for our mempool, now and then and only if it changed.
    pub(crate) fn send_fee_filter(&mut self, id: PeerId, ctx: &Ctx) {
        let interval = self.config.timing.fee_filter;
        let rate = ctx.mempool.minimum_fee_rate().to_sat_per_kwu().saturating_mul(4);
        let Some(peer) = self.peers.get_mut(&id) else { return };
        if !peer.is_ready() {
            return;
        }
        let due = match peer.relay.fee_filter_sent {
            Some((sent, at)) => sent != rate && ctx.now.saturating_sub(at) >= interval,
            None => true,
        };
        // Beyond all money a rate says the same as all money.
        let limit = bitcoin::Amount::MAX_MONEY.to_sat();
        if due && let Ok(value) = i64::try_from(rate.min(limit)) {
            peer.relay.fee_filter_sent = Some((rate, ctx.now));
            self.send(id, NetworkMessage::FeeFilter(value));
        }
    }
}

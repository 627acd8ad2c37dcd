//! What a swap learns from blocks and mempools.

use bitcoin::Transaction;

use super::{
    event::{BlockSeen, Refusal},
    state::{Lock, Swap, Taken, Tip},
    terms::Leg,
};
use crate::types::Height;

impl Swap {
    pub(super) fn connect(&mut self, leg: Leg, block: &BlockSeen<'_>) -> Result<(), Refusal> {
        let state = self.leg_mut(leg);
        let expected = state.tip.height.0.saturating_add(1);
        if block.height.0 != expected {
            return Err(Refusal::Gap { expected, got: block.height.0 });
        }
        state.tip = Tip { height: block.height, hash: block.hash, median_time: block.median_time };
        for transaction in block.transactions {
            self.find_lock(leg, transaction, block.height)?;
            self.find_replacement(leg, transaction, block.height);
            self.find_spend(leg, transaction, Some(block.height));
        }
        Ok(())
    }

    /// What was in blocks above is in none now. A secret that was seen stays known.
    pub(super) fn disconnect(&mut self, leg: Leg, to: Tip) {
        let state = self.leg_mut(leg);
        state.tip = to;
        if let Some(lock) = &mut state.lock {
            lock.at = lock.at.filter(|at| *at <= to.height);
        }
        state.replaced = state.replaced.filter(|at| *at <= to.height);
        state.taken = state.taken.filter(|taken| taken.at <= to.height);
    }

    pub(super) fn seen_in_mempool(&mut self, leg: Leg, transaction: &Transaction) {
        self.find_spend(leg, transaction, None);
    }

    /// This person's own lock is known by its txid, the other's by the contract alone: what they say of it is not needed.
    fn find_lock(&mut self, leg: Leg, transaction: &Transaction, at: Height) -> Result<(), Refusal> {
        let Some(contract) = self.contract(leg) else { return Ok(()) };
        let amount = self.offer.leg(leg).amount;
        let is_own = leg == self.role.gives();
        let state = self.leg_mut(leg);
        let txid = transaction.compute_txid();
        let is_known = state.lock.is_some_and(|lock| lock.outpoint.txid == txid);
        // A second output to the same script counts only while no block has the first.
        if !is_known && (is_own || state.lock.is_some_and(|lock| lock.at.is_some())) {
            return Ok(());
        }
        if let Some(vout) = contract.find_in(transaction, amount)? {
            let value = transaction.output.get(vout as usize).map_or(amount, |output| output.value);
            let outpoint = bitcoin::OutPoint { txid, vout };
            state.lock = Some(Lock { outpoint, amount: value, at: Some(at) });
        }
        Ok(())
    }

    /// A coin that the lock needs is gone: somebody with the same wallet has spent it.
    fn find_replacement(&mut self, leg: Leg, transaction: &Transaction, at: Height) {
        let state = self.leg_mut(leg);
        let Some(funding) = &state.funding else { return };
        let is_needed = |coin| funding.input.iter().any(|input| input.previous_output == coin);
        let spends = transaction.input.iter().any(|input| is_needed(input.previous_output));
        if spends && transaction.compute_txid() != funding.compute_txid() {
            state.replaced = Some(at);
        }
    }

    fn find_spend(&mut self, leg: Leg, transaction: &Transaction, at: Option<Height>) {
        let Some(contract) = self.contract(leg) else { return };
        let Some(lock) = self.leg(leg).lock else { return };
        let Some(input) = transaction.input.iter().find(|input| input.previous_output == lock.outpoint) else { return };
        let secret = contract.secret_in(&input.witness);
        // Look for a redeem before refunding: the secret may be in a mempool long before it is in a block.
        self.secret = self.secret.or(secret);
        if let Some(at) = at {
            self.leg_mut(leg).taken =
                Some(Taken { txid: transaction.compute_txid(), at, with_secret: secret.is_some() });
        }
    }
}

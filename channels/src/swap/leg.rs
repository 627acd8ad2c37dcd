//! What is known of a contract on a chain: its lock, who took it, this person's own claim. Told by blocks and mempools.

use bitcoin::{Amount, OutPoint, ScriptBuf, Transaction, Txid};

use super::{
    contract::Contract,
    event::{BlockSeen, Refusal},
};
use crate::types::{FeeratePerKw, Height, PaymentPreimage, UnixTime};

/// What is known of one chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LegState {
    /// The last block that was looked at.
    pub tip: Tip,
    /// Where this person's claim on this leg pays: a script of their own wallet there.
    pub destination: ScriptBuf,
    /// This person's lock, if it is on this leg.
    pub funding: Option<Transaction>,
    /// Signed before the lock was broadcast.
    pub refund: Option<Transaction>,
    /// The contract's output.
    pub lock: Option<Lock>,
    /// The block that spends a coin of this person's lock in another transaction: then the lock never comes.
    pub replaced: Option<Height>,
    /// Who took it, in a block of the chain.
    pub taken: Option<Taken>,
    /// This person's own attempt to take it.
    pub claim: Option<Claim>,
    /// What this person's lock pays in fees, if this machine made it.
    pub lock_fee: Option<Amount>,
    /// This person's attempt to call the lock back.
    pub recall: Option<Recall>,
}

/// A block of the chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tip {
    /// Its height.
    pub height: Height,
    /// Its hash.
    pub hash: [u8; 32],
    /// The median time past (BIP 113).
    pub median_time: UnixTime,
}

/// The output of a contract.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lock {
    /// Its name.
    pub outpoint: OutPoint,
    /// What it holds.
    pub amount: Amount,
    /// The height of its block; `None` if no block of the chain has it.
    pub at: Option<Height>,
}

/// A confirmed spend of a contract.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Taken {
    /// The transaction.
    pub txid: Txid,
    /// Its block.
    pub at: Height,
    /// With the secret; if not, by the refund.
    pub with_secret: bool,
}

/// A spend of a contract that this person has made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    /// The newest version of it.
    pub transaction: Transaction,
    /// With the secret; if not, by the refund.
    pub with_secret: bool,
    /// What it pays.
    pub fee: Amount,
    /// How its fee climbs; `None` while it follows the estimate alone, since nobody hurries or the chain is not followed.
    pub ramp: Option<Ramp>,
}

/// How the fee of a claim climbs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ramp {
    /// The tip when the first block could have it.
    pub since: Height,
    /// The rate that it begins with.
    pub start: FeeratePerKw,
    /// The height at which the whole budget is paid.
    pub deadline: Height,
}

/// The calling back of a lock that no block has taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Recall {
    /// The tip when it was first asked for.
    pub since: Height,
    /// What it pays.
    pub fee: Amount,
}

/// Where a leg begins.
#[derive(Clone, Debug)]
pub struct Start {
    /// A script of this person's wallet.
    pub destination: ScriptBuf,
    /// The chain's tip.
    pub tip: Tip,
    /// Seconds between its last blocks, as measured; 0 if not known.
    pub spacing: u32,
}

/// What to look for in the blocks of a leg.
pub(super) struct Watched {
    pub contract: Contract,
    /// The least that the contract's output has to hold.
    pub amount: Amount,
    /// This person locks here.
    pub is_own: bool,
}

impl LegState {
    pub(super) fn new(start: Start) -> Self {
        Self {
            tip: start.tip,
            destination: start.destination,
            funding: None,
            refund: None,
            lock: None,
            replaced: None,
            taken: None,
            claim: None,
            lock_fee: None,
            recall: None,
        }
    }

    /// Of what is in the block at this height: 1 in the tip itself.
    pub fn confirmations(&self, at: Height) -> u32 {
        match self.tip.height.0.checked_sub(at.0) {
            Some(above) => above.saturating_add(1),
            None => 0,
        }
    }

    /// The contract's output is in a block, not spent in one, and so many blocks deep.
    pub(super) fn is_deep(&self, depth: u32) -> bool {
        let confirmed = self.lock.and_then(|lock| lock.at).map_or(0, |at| self.confirmations(at));
        self.taken.is_none() && confirmed >= depth
    }

    /// In a block, and not spent in one.
    pub(super) fn is_unspent(&self) -> bool {
        self.lock.is_some_and(|lock| lock.at.is_some()) && self.taken.is_none()
    }

    /// The lowest height at which something of this swap was found: a reorganisation may have taken it along.
    pub fn earliest(&self) -> Option<Height> {
        let lock = self.lock.and_then(|lock| lock.at);
        [lock, self.replaced, self.taken.map(|taken| taken.at)].into_iter().flatten().min()
    }

    /// Whether no refund is signed for the lock as it is: it was found in a block, and not made by this machine.
    pub(super) fn lacks_refund(&self) -> bool {
        let spent = self.refund.as_ref().and_then(|refund| refund.input.first()).map(|input| input.previous_output);
        self.taken.is_none() && self.lock.is_some_and(|lock| spent != Some(lock.outpoint))
    }

    /// Whether it was taken in this way, and the block is so many blocks deep.
    pub(super) fn is_taken(&self, with_secret: bool, depth: u32) -> bool {
        let taken = self.taken.filter(|taken| taken.with_secret == with_secret);
        taken.is_some_and(|taken| self.confirmations(taken.at) >= depth)
    }

    /// Whether another transaction has a coin of this person's lock, in a block so many blocks deep.
    pub(super) fn is_replaced(&self, depth: u32) -> bool {
        self.replaced.is_some_and(|at| self.confirmations(at) >= depth)
    }

    /// Takes the next block. Gives the secret, if it shows that of the contract.
    pub(super) fn connect(
        &mut self,
        block: &BlockSeen<'_>,
        watched: Option<&Watched>,
    ) -> Result<Option<PaymentPreimage>, Refusal> {
        let expected = self.tip.height.0.saturating_add(1);
        if block.height.0 != expected {
            return Err(Refusal::Gap { expected, got: block.height.0 });
        }
        if block.previous != self.tip.hash {
            return Err(Refusal::NoChild(block.height.0));
        }
        self.tip = Tip { height: block.height, hash: block.hash, median_time: block.median_time };
        let Some(watched) = watched else { return Ok(None) };
        let mut secret = None;
        for transaction in block.transactions {
            self.find_lock(watched, transaction, block.height)?;
            secret = self.find_spend(&watched.contract, transaction, Some(block.height)).or(secret);
        }
        Ok(secret)
    }

    /// What was in blocks above is in none now.
    pub(super) fn disconnect(&mut self, to: Tip) {
        self.tip = to;
        if let Some(lock) = &mut self.lock {
            lock.at = lock.at.filter(|at| *at <= to.height);
        }
        self.replaced = self.replaced.filter(|at| *at <= to.height);
        self.taken = self.taken.filter(|taken| taken.at <= to.height);
    }

    /// A lock is known by the contract alone: what the other says of theirs is not needed. One's own may be unknown here, too,
    /// if the data directory is older than it.
    ///
    /// Whoever spends the own lock's coins otherwise either pays to the contract, too, with another fee: then that is the lock.
    /// Or a coin that the lock needs is gone: somebody with the same wallet has spent it, and the lock never comes.
    fn find_lock(&mut self, watched: &Watched, transaction: &Transaction, at: Height) -> Result<(), Refusal> {
        let Watched { contract, amount, is_own } = watched;
        let txid = transaction.compute_txid();
        let is_known = self.lock.is_some_and(|lock| lock.outpoint.txid == txid);
        let is_rival = !is_known && self.spends_the_same(transaction);
        let counts = match &self.funding {
            Some(_) => is_rival,
            // A second output to the same script counts only while no block has the first.
            None => self.lock.is_none_or(|lock| lock.at.is_none()),
        };
        if !is_known && !counts {
            return Ok(());
        }
        if let Some(vout) = contract.find_in(transaction, *amount)? {
            let value = transaction.output.get(vout as usize).map_or(*amount, |output| output.value);
            self.lock = Some(Lock { outpoint: OutPoint { txid, vout }, amount: value, at: Some(at) });
            if *is_own && !is_known {
                // The refund that was signed for another one is of no use, and what this one pays is not known.
                (self.funding, self.refund, self.lock_fee) = (Some(transaction.clone()), None, None);
            }
        } else if is_rival {
            self.replaced = Some(at);
        }
        Ok(())
    }

    /// Takes a transaction of this person's wallet that no block has: it may be a lock that was not known here.
    pub(super) fn find_waiting(&mut self, watched: &Watched, transaction: &Transaction) -> Result<(), Refusal> {
        if !watched.is_own || self.funding.is_some() {
            return Ok(());
        }
        let Some(vout) = watched.contract.find_in(transaction, watched.amount)? else { return Ok(()) };
        let amount = transaction.output.get(vout as usize).map_or(watched.amount, |output| output.value);
        let outpoint = OutPoint { txid: transaction.compute_txid(), vout };
        self.lock = Some(Lock { outpoint, amount, at: None });
        self.funding = Some(transaction.clone());
        Ok(())
    }

    /// Whether a lock of this person's is known that may come or has come.
    pub(super) fn has_lock(&self) -> bool {
        self.lock.is_some() && self.replaced.is_none()
    }

    /// Whether a transaction spends a coin of this person's lock.
    fn spends_the_same(&self, transaction: &Transaction) -> bool {
        let needs = |coin| self.funding.iter().flat_map(|lock| &lock.input).any(|input| input.previous_output == coin);
        transaction.input.iter().any(|input| needs(input.previous_output))
    }

    /// Looks at a transaction of a block, or of the mempool (`None`). Gives the secret, if it shows that of the contract.
    ///
    /// Look for a redeem before refunding: the secret may be in a mempool long before it is in a block.
    pub(super) fn find_spend(
        &mut self,
        contract: &Contract,
        transaction: &Transaction,
        at: Option<Height>,
    ) -> Option<PaymentPreimage> {
        let lock = self.lock?;
        let input = transaction.input.iter().find(|input| input.previous_output == lock.outpoint)?;
        let secret = contract.secret_in(&input.witness);
        if let Some(at) = at {
            self.taken = Some(Taken { txid: transaction.compute_txid(), at, with_secret: secret.is_some() });
        }
        secret
    }

    /// Notes this person's own lock: signed, and in no block yet. Refused if it does not pay
    /// exactly this amount to the contract.
    pub(super) fn note_lock(
        &mut self,
        contract: &Contract,
        amount: Amount,
        transaction: &Transaction,
        fee: Amount,
    ) -> Result<(), Refusal> {
        let vout = contract.find_in(transaction, amount)?.ok_or(Refusal::WrongLock)?;
        if transaction.output.get(vout as usize).is_none_or(|output| output.value != amount) {
            return Err(Refusal::WrongLock);
        }
        let outpoint = OutPoint { txid: transaction.compute_txid(), vout };
        self.lock = Some(Lock { outpoint, amount, at: None });
        (self.funding, self.lock_fee) = (Some(transaction.clone()), Some(fee));
        Ok(())
    }
}

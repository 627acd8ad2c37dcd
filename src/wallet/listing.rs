//! What the wallet shows: what it is worth, its coins, its transactions.
//!
//! Whoever lists takes a copy: of the coins in one go, of the transactions some at a time, so that blocks and claims never
//! wait behind a long list. A list can take long all the same: it belongs on a thread that may.

use std::sync::Arc;

use bitcoin::{Amount, BlockHash, OutPoint, ScriptBuf, SignedAmount, Transaction, Txid};

use super::{
    accounts::AddressKind,
    ledger::{Place, confirmations},
    onchain::{OnchainWallet, State},
};

/// How many transactions are looked at before others may have the wallet.
const AT_ONCE: usize = 256;

/// What the wallet owns, by how sure it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Balance {
    pub confirmed: Amount,
    /// Not in a block yet; change of our own and coins from others alike.
    pub unconfirmed: Amount,
    /// Mined by us, not spendable before 100 more blocks.
    pub immature: Amount,
    /// Part of `confirmed` that is not as deep as was asked for.
    pub shallow: Amount,
    /// How many outputs that is.
    pub coins: usize,
}

/// An output that the wallet can spend.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Unspent {
    pub outpoint: OutPoint,
    pub amount: Amount,
    pub script_pubkey: ScriptBuf,
    pub kind: AddressKind,
    pub confirmations: u32,
    /// Mined by us and not spendable yet.
    pub immature: bool,
}

/// A transaction that moved the wallet's coins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct WalletTransaction {
    pub txid: Txid,
    pub transaction: Arc<Transaction>,
    /// What the wallet gained or lost, fee included.
    pub amount: SignedAmount,
    /// Known only when all inputs are.
    pub fee: Option<Amount>,
    pub block: Option<(u32, BlockHash)>,
    /// Seconds since 1970: of the block, or when it was first seen.
    pub time: u64,
    pub confirmations: u32,
    /// The indices of the outputs that pay the wallet, in rising order.
    pub local_outputs: Vec<u32>,
    /// The indices of the inputs that spend from the wallet, in rising order.
    pub local_inputs: Vec<u32>,
}

impl OnchainWallet {
    #[cfg(test)]
    pub(crate) fn balance(&self) -> Balance {
        self.balance_at_depth(1)
    }

    /// Also tells apart what has fewer confirmations than this.
    pub(crate) fn balance_at_depth(&self, least: u32) -> Balance {
        let state = self.lock();
        let tip = state.height();
        let mut balance = Balance::default();
        for (_, coin) in state.ledger.coins() {
            let value = coin.output.value;
            balance.coins += 1;
            match coin.height {
                None => balance.unconfirmed += value,
                Some(_) if coin.is_immature(tip) => balance.immature += value,
                Some(_) => {
                    balance.confirmed += value;
                    if coin.confirmations(tip) < least {
                        balance.shallow += value;
                    }
                }
            }
        }
        balance
    }

    /// The largest first.
    pub(crate) fn unspent(&self) -> Vec<Unspent> {
        let mut list: Vec<Unspent> = {
            let state = self.lock();
            let tip = state.height();
            let coins = state.ledger.coins().map(|(outpoint, coin)| Unspent {
                outpoint: *outpoint,
                amount: coin.output.value,
                script_pubkey: coin.output.script_pubkey.clone(),
                kind: coin.place.kind,
                confirmations: coin.confirmations(tip),
                immature: coin.is_immature(tip),
            });
            coins.collect()
        };
        list.sort_unstable_by_key(|unspent| (std::cmp::Reverse(unspent.amount), unspent.outpoint));
        list
    }

    /// Newest first, unconfirmed ones before all others: those whose block's height is taken, without the first `skip` of them,
    /// and no more than `limit`. The others are not looked at.
    pub(crate) fn transactions(
        &self,
        takes: impl Fn(Option<u32>) -> bool,
        skip: usize,
        limit: usize,
    ) -> Vec<WalletTransaction> {
        let mut places: Vec<(u32, u64, Txid)> = {
            let state = self.lock();
            let places = state.ledger.places().filter(|(_, place)| takes(place.height()));
            places.map(|(txid, place)| (place.height().unwrap_or(u32::MAX), place.time(), *txid)).collect()
        };
        places.sort_unstable_by(|a, b| b.cmp(a));
        let page: Vec<Txid> = places.into_iter().skip(skip).take(limit).map(|(_, _, txid)| txid).collect();
        let mut list = Vec::with_capacity(page.len());
        for some in page.chunks(AT_ONCE) {
            let state = self.lock();
            // What has gone meanwhile is not missed.
            list.extend(some.iter().filter_map(|txid| state.transaction(txid)));
        }
        list
    }

    /// One transaction, if it is the wallet's.
    pub(crate) fn transaction(&self, txid: &Txid) -> Option<WalletTransaction> {
        self.lock().transaction(txid)
    }

    /// What a transaction pays; known only when all inputs are.
    pub(crate) fn fee_of(&self, transaction: &Transaction) -> Option<Amount> {
        let state = self.lock();
        let input = |input: &bitcoin::TxIn| state.wallet.txout(input.previous_output).map(|(_, output)| output.value);
        let inputs: Amount = transaction.input.iter().map(input).sum::<Option<Amount>>()?;
        inputs.checked_sub(transaction.output.iter().map(|output| output.value).sum())
    }

    /// Transactions of the wallet that are in no block yet.
    pub(crate) fn pending(&self) -> Vec<Transaction> {
        let state = self.lock();
        let waiting = state.ledger.places().filter(|(_, place)| place.height().is_none());
        let known = waiting.filter_map(|(txid, _)| state.wallet.tx_graph().get_tx(*txid));
        known.map(|transaction| transaction.as_ref().clone()).collect()
    }

    /// What is set aside for transactions that are not broadcast yet.
    pub(crate) fn reserved(&self) -> Amount {
        let state = self.lock();
        let reserved = state.reserved_coins();
        reserved.iter().filter_map(|outpoint| state.ledger.coin(outpoint)).map(|coin| coin.output.value).sum()
    }

    /// What an output of the wallet is, or was, worth.
    pub(crate) fn amount_of(&self, outpoint: &OutPoint) -> Option<Amount> {
        self.lock().wallet.txout(*outpoint).map(|(_, output)| output.value)
    }

    /// What a transaction has brought the wallet, or cost it.
    pub(crate) fn gain(&self, transaction: &Transaction) -> SignedAmount {
        let (sent, received) = self.lock().wallet.sent_and_received(transaction);
        signed_difference(received, sent)
    }
}

impl State {
    fn transaction(&self, txid: &Txid) -> Option<WalletTransaction> {
        let wallet = &self.wallet;
        let place = self.ledger.place(txid)?;
        let transaction = wallet.tx_graph().get_tx(*txid)?;
        let (block, time) = match place {
            Place::Block { height, hash, time } => (Some((*height, *hash)), *time),
            Place::Waiting { since } => (None, *since),
        };
        // Each output's script need not be looked up: a transaction may have thousands that are other people's.
        let mut received = Amount::ZERO;
        let mut local_outputs = Vec::new();
        for (outpoint, output) in wallet.outputs_of(*txid) {
            received += output.value;
            local_outputs.push(outpoint.vout);
        }
        local_outputs.sort_unstable();
        let mut sent = Amount::ZERO;
        let mut local_inputs = Vec::new();
        for (index, input) in (0..).zip(&transaction.input) {
            if let Some((_, output)) = wallet.txout(input.previous_output) {
                sent += output.value;
                local_inputs.push(index);
            }
        }
        Some(WalletTransaction {
            txid: *txid,
            amount: signed_difference(received, sent),
            fee: wallet.calculate_fee(&transaction).ok(),
            confirmations: confirmations(place.height(), self.height()),
            local_outputs,
            local_inputs,
            block,
            time,
            transaction,
        })
    }
}

fn signed_difference(received: Amount, sent: Amount) -> SignedAmount {
    let signed = |amount: Amount| amount.to_signed().unwrap_or(SignedAmount::MAX);
    signed(received).checked_sub(signed(sent)).unwrap_or(SignedAmount::ZERO)
}

//! The on-chain wallet's calls.

use std::sync::Arc;

use async_trait::async_trait;
use bitcoin::{Address, Amount, FeeRate, OutPoint, Script, Transaction, Txid};
use leyden_channels::types::{Height, UnixTime};

use super::{LightningNode, internal};
use crate::{
    api::{
        AddressKind, ApiError, CoinChoice, Confirmation, FeeChoice, SendAmount, SendCoins, TransactionPage, Wallet,
        WalletBalance, WalletCoin, WalletTx,
    },
    driver::{chain::broadcast, services::Services},
    wallet::{
        listing::WalletTransaction,
        onchain::{Coins, WalletError},
    },
};

/// Blocks within which a transaction should confirm if nobody says otherwise.
const DEFAULT_TARGET: u32 = 6;

#[async_trait]
impl Wallet for LightningNode {
    async fn new_address(&self, kind: AddressKind, reuse_unpaid: bool) -> Result<Address, ApiError> {
        let wallet = &self.services().wallet;
        let address = if reuse_unpaid { wallet.unused_address(kind) } else { wallet.new_address(kind) };
        address.map_err(internal)
    }

    async fn wallet_balance(&self, min_confirmations: u32) -> Result<WalletBalance, ApiError> {
        self.read(move |services| Ok(balance(services, min_confirmations))).await
    }

    async fn send_coins(&self, request: SendCoins) -> Result<Txid, ApiError> {
        let services = self.services();
        let (rate, coins) = (fee_rate(services, request.fee), coins(&request.coins));
        let script = request.to.script_pubkey();
        self.check_network_of([&*script])?;
        let to = script.clone();
        let choose = move |services: &Services| match request.amount {
            SendAmount::Exactly(amount) => services.wallet.pay(&[(script, amount)], rate, &coins),
            SendAmount::All => services.wallet.pay_all(&script, rate, &coins),
        };
        let check = move |services: &Services, transaction: &Transaction| match request.refuses_high_fee {
            true => refuse_high_fee(transaction, &to, |coin| services.wallet.amount_of(coin)),
            false => Ok(()),
        };
        send(services, choose, check, request.label).await
    }

    async fn wallet_transactions(&self, page: TransactionPage) -> Result<Vec<WalletTx>, ApiError> {
        self.read(move |services| Ok(transactions(services, &page))).await
    }

    async fn unspent(&self) -> Result<Vec<WalletCoin>, ApiError> {
        self.read(|services| Ok(unspent(services))).await
    }
}

impl LightningNode {
    /// Addresses of private chains look alike. What the wallet on the daemon's other network gives out is no address of this one:
    /// coins that are sent there on this chain are out of reach of any wallet's calls.
    pub(super) fn check_network_of<'a>(&self, scripts: impl IntoIterator<Item = &'a Script>) -> Result<(), ApiError> {
        let Some(beside) = &self.beside else { return Ok(()) };
        let of_other = scripts.into_iter().find_map(|script| {
            let is_own = self.services().wallet.is_mine(script);
            beside.network_of(script).filter(|_| !is_own)
        });
        let Some(other) = of_other else { return Ok(()) };
        let own = &self.services().node.params().name;
        Err(ApiError::precondition(format!(
            "this address is of your wallet on {other}, and the coins are on {own}, where that wallet would not see them: make one with \
             `leyden --network {own} newaddress`, or send coins of {other}. To bring coins of {own} to {other}, swap them (`leyden \
             swap`)"
        )))
    }
}

/// Makes a transaction, has it looked at, and broadcasts it.
pub(super) async fn send(
    services: &Arc<Services>,
    choose: impl FnOnce(&Services) -> Result<Transaction, WalletError> + Send + 'static,
    check: impl FnOnce(&Services, &Transaction) -> Result<(), ApiError> + Send + 'static,
    label: String,
) -> Result<Txid, ApiError> {
    let services = Arc::clone(services);
    // In a task of its own: a caller that hangs up must not leave coins behind that are set aside for nothing.
    let sent = tokio::spawn(async move {
        let chooser = Arc::clone(&services);
        let transaction =
            tokio::task::spawn_blocking(move || choose(&chooser)).await.map_err(internal)?.map_err(wallet_error)?;
        let txid = transaction.compute_txid();
        if let Err(refused) = check(&services, &transaction) {
            services.wallet.release(&txid);
            return Err(refused);
        }
        if let Err(error) = services.store.put_plain(&txid) {
            services.wallet.release(&txid);
            return Err(error.into());
        }
        if let Err(reason) = broadcast(&services.node, &services.wallet, &[], &transaction).await {
            services.wallet.release(&txid);
            return Err(ApiError::precondition(format!("the transaction was not accepted: {reason}")));
        }
        if !label.is_empty() {
            services.store.put_label(&txid, &label)?;
        }
        Ok(txid)
    });
    sent.await.map_err(internal)?
}

/// A fee that is more than half of what `to` gets.
fn refuse_high_fee(
    transaction: &Transaction,
    to: &Script,
    amount_of: impl Fn(&OutPoint) -> Option<Amount>,
) -> Result<(), ApiError> {
    let inputs: Option<Amount> = transaction.input.iter().map(|input| amount_of(&input.previous_output)).sum();
    let outputs: Amount = transaction.output.iter().map(|output| output.value).sum();
    let to_it = transaction.output.iter().filter(|output| *output.script_pubkey == *to);
    let sent: Amount = to_it.map(|output| output.value).sum();
    let fee = inputs.and_then(|inputs| inputs.checked_sub(outputs)).unwrap_or(Amount::ZERO);
    if fee <= sent / 2 {
        return Ok(());
    }
    let (fee, sent) = (fee.to_sat(), sent.to_sat());
    Err(ApiError::invalid(format!(
        "the fee would be {fee} sat, more than half of the {sent} sat that are sent: choose a lower rate, or add --yes to send \
         it all the same (over gRPC or REST: without the header leyden-refuse-high-fee)"
    )))
}

fn balance(services: &Services, min_confirmations: u32) -> WalletBalance {
    let wallet = &services.wallet;
    let balance = wallet.balance_at_depth(min_confirmations);
    // Coins that are not deep enough count as unconfirmed.
    let deep = balance.confirmed.checked_sub(balance.shallow).unwrap_or(Amount::ZERO);
    WalletBalance {
        confirmed: deep,
        unconfirmed: balance.unconfirmed + balance.shallow,
        immature: balance.immature,
        locked: wallet.reserved(),
        anchor_reserve: wallet.reserve(),
        coins: balance.coins,
    }
}

fn transactions(services: &Services, page: &TransactionPage) -> Vec<WalletTx> {
    let takes = |height: Option<u32>| page.takes(height.map(Height));
    let list = services.wallet.transactions(takes, page.skip, page.limit.unwrap_or(usize::MAX));
    list.into_iter().map(|entry| to_api(services, entry)).collect()
}

pub(super) fn to_api(services: &Services, entry: WalletTransaction) -> WalletTx {
    WalletTx {
        txid: entry.txid,
        net: entry.amount,
        fee: entry.fee,
        confirmation: entry.block.map(|(height, block)| Confirmation {
            block,
            height: Height(height),
            confirmations: entry.confirmations,
        }),
        time: UnixTime(entry.time),
        label: services.store.label(&entry.txid).ok().flatten().unwrap_or_default(),
        local_outputs: entry.local_outputs,
        local_inputs: entry.local_inputs,
        transaction: entry.transaction,
    }
}

fn unspent(services: &Services) -> Vec<WalletCoin> {
    let coins = services.wallet.unspent().into_iter().filter(|coin| !coin.immature);
    coins
        .map(|coin| WalletCoin {
            outpoint: coin.outpoint,
            output: bitcoin::TxOut { value: coin.amount, script_pubkey: coin.script_pubkey },
            kind: coin.kind,
            confirmations: coin.confirmations,
        })
        .collect()
}

/// An estimate never goes below 1 sat/vB: other people's nodes may not relay what ours would.
pub(super) fn fee_rate(services: &Services, choice: FeeChoice) -> FeeRate {
    let estimate = |blocks| services.node.estimate_fee(blocks).max(FeeRate::BROADCAST_MIN);
    match choice {
        FeeChoice::Default => estimate(DEFAULT_TARGET),
        FeeChoice::ConfirmWithin(blocks) => estimate(u32::from(blocks)),
        FeeChoice::Rate(rate) => rate,
    }
}

pub(super) fn coins(choice: &CoinChoice) -> Coins {
    Coins { min_confirmations: choice.min_confirmations, only: choice.only.clone(), reserve: choice.reserve }
}

pub(super) fn wallet_error(error: WalletError) -> ApiError {
    match error {
        WalletError::InsufficientFunds { .. }
        | WalletError::Reserve { .. }
        | WalletError::UnknownCoin { .. }
        | WalletError::Bump(_) => ApiError::precondition(error.to_string()),
        WalletError::Dust => ApiError::invalid(error.to_string()),
        WalletError::Sign(_)
        | WalletError::Mismatch(_)
        | WalletError::Damaged(_)
        | WalletError::Disconnected { .. }
        | WalletError::Store(_) => internal(error),
    }
}

#[cfg(test)]
mod tests {
    use bitcoin::{ScriptBuf, TxIn, TxOut, absolute, hashes::Hash as _, transaction::Version};

    use super::*;

    #[test]
    fn a_fee_that_is_more_than_half_of_what_is_sent_is_refused() {
        let script = |byte| ScriptBuf::new_p2wpkh(&bitcoin::WPubkeyHash::from_byte_array([byte; 20]));
        let output = |byte, sat| TxOut { value: Amount::from_sat(sat), script_pubkey: script(byte) };
        let verdict = |inputs: u64| {
            let transaction = Transaction {
                version: Version::TWO,
                lock_time: absolute::LockTime::ZERO,
                input: vec![TxIn::default()],
                output: vec![output(1, 10_000), output(2, 500_000)],
            };
            refuse_high_fee(&transaction, &script(1), |_| Some(Amount::from_sat(inputs)))
        };
        assert!(verdict(515_000).is_ok());
        let refused = verdict(515_001).unwrap_err().to_string();
        assert!(
            refused.contains("5001 sat") && refused.contains("10000 sat") && refused.contains("--yes"),
            "{refused}"
        );
    }
}

//! The on-chain wallet's calls.

use std::sync::Arc;

use bitcoin::{Address, Amount, FeeRate, Txid};
use leyden_channels::types::{Height, UnixTime};

use super::{LightningNode, internal};
use crate::{
    api::{
        AddressKind, ApiError, CoinChoice, Confirmation, FeeChoice, SendAmount, SendCoins, WalletBalance, WalletCoin,
        WalletTx,
    },
    driver::{chain::broadcast, services::Services},
    wallet::onchain::{Coins, WalletError},
};

/// Blocks within which a transaction should confirm if nobody says otherwise.
const DEFAULT_TARGET: u32 = 6;

impl LightningNode {
    pub(super) fn fresh_address(&self, kind: AddressKind, reuse_unpaid: bool) -> Result<Address, ApiError> {
        match kind {
            AddressKind::SegwitV0 if reuse_unpaid => self.services().wallet.unused_address().map_err(internal),
            AddressKind::SegwitV0 => self.services().wallet.new_address().map_err(internal),
            AddressKind::Taproot => Err(ApiError::invalid(
                "this wallet gives P2WPKH addresses only: ask for WITNESS_PUBKEY_HASH (`leyden newaddress p2wkh`)",
            )),
        }
    }

    pub(super) async fn send(&self, request: SendCoins) -> Result<Txid, ApiError> {
        let services = self.services();
        let rate = fee_rate(services, request.fee);
        let coins = coins(&request.coins);
        let script = request.to.script_pubkey();
        let services = Arc::clone(services);
        // In a task of its own: a caller that hangs up must not leave coins behind that are set aside for nothing.
        let sent = tokio::spawn(async move {
            let chooser = Arc::clone(&services);
            let choose = move || match request.amount {
                SendAmount::Exactly(amount) => chooser.wallet.pay(&[(script, amount)], rate, &coins),
                SendAmount::All => chooser.wallet.pay_all(&script, rate, &coins),
            };
            let transaction = tokio::task::spawn_blocking(choose).await.map_err(internal)?.map_err(wallet_error)?;
            let txid = transaction.compute_txid();
            if let Err(error) = services.store.put_plain(&txid) {
                services.wallet.release(&txid);
                return Err(error.into());
            }
            if let Err(reason) = broadcast(&services.node, &services.wallet, &[], &transaction).await {
                services.wallet.release(&txid);
                return Err(ApiError::precondition(format!("the transaction was not accepted: {reason}")));
            }
            if !request.label.is_empty() {
                services.store.put_label(&txid, &request.label)?;
            }
            Ok(txid)
        });
        sent.await.map_err(internal)?
    }
}

pub(super) fn balance(services: &Services, min_confirmations: u32) -> WalletBalance {
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
    }
}

/// Newest first.
pub(super) fn transactions(services: &Services) -> Vec<WalletTx> {
    let mut list: Vec<WalletTx> = services
        .wallet
        .transactions()
        .into_iter()
        .map(|entry| WalletTx {
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
        })
        .collect();
    list.reverse();
    list
}

pub(super) fn unspent(services: &Services) -> Vec<WalletCoin> {
    let coins = services.wallet.unspent().into_iter().filter(|coin| !coin.immature);
    coins
        .map(|coin| WalletCoin {
            outpoint: coin.outpoint,
            output: bitcoin::TxOut { value: coin.amount, script_pubkey: coin.script_pubkey },
            kind: AddressKind::SegwitV0,
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

//! The wallet's calls for other programs.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use bitcoin::{Address, Amount, FeeRate, OutPoint, ScriptBuf, Transaction, Txid};
use leyden_channels::types::{ChannelId, UnixTime};

use super::{
    LightningNode, internal,
    invoices::futures_unfold,
    wallet::{coins, fee_rate, send, to_api, wallet_error},
};
use crate::{
    api::{
        Account, AddressKind, ApiError, ChainFeerates, Lease, PackageResult, SendEstimate, SendMany, SendOutputs,
        Updates, WalletAddress, WalletKit, WalletTx,
    },
    driver::{chain::broadcast, services::Services},
    wallet::{
        account::OwnAddress,
        leases::{self, LeaseError},
    },
};

#[async_trait]
impl WalletKit for LightningNode {
    async fn chain_feerates(&self, blocks: u16) -> Result<ChainFeerates, ApiError> {
        let node = &self.services().node;
        let relay = node.mempool_info().minimum_fee_rate;
        let estimate = node.estimate_fee(u32::from(blocks)).max(FeeRate::BROADCAST_MIN);
        Ok(ChainFeerates { estimate, relay })
    }

    async fn change_address(&self, kind: AddressKind) -> Result<Address, ApiError> {
        self.services().wallet.change_address(kind).map_err(internal)
    }

    async fn send_many(&self, request: SendMany) -> Result<Txid, ApiError> {
        let services = self.services();
        let (rate, coins) = (fee_rate(services, request.fee), coins(&request.coins));
        let outputs = scripts(&request);
        self.check_network_of(outputs.iter().map(|(script, _)| script.as_script()))?;
        let choose = move |services: &Services| services.wallet.pay(&outputs, rate, &coins);
        send(services, choose, |_, _| Ok(()), request.label).await
    }

    async fn send_outputs(&self, request: SendOutputs) -> Result<Transaction, ApiError> {
        let services = self.services();
        let (rate, coins) = (fee_rate(services, request.fee), coins(&request.coins));
        let outputs: Vec<_> = request.outputs.into_iter().map(|output| (output.script_pubkey, output.value)).collect();
        self.check_network_of(outputs.iter().map(|(script, _)| script.as_script()))?;
        let choose = move |services: &Services| services.wallet.pay(&outputs, rate, &coins);
        let txid = send(services, choose, |_, _| Ok(()), request.label).await?;
        let sent = services.wallet.transaction(&txid).map(|entry| Arc::unwrap_or_clone(entry.transaction));
        sent.ok_or_else(|| internal("a transaction that was sent is not in the wallet"))
    }

    async fn submit_package(&self, transactions: Vec<Transaction>) -> Result<PackageResult, ApiError> {
        let services = Arc::clone(self.services());
        // In a task of its own: what the mempool took the wallet has to know, whoever hangs up.
        let submitted = tokio::spawn(async move {
            let (child, parents) = transactions.split_last().ok_or_else(|| internal("an empty package"))?;
            let (replaced, refused) = match broadcast(&services.node, &services.wallet, parents, child).await {
                Ok(replaced) => (replaced, None),
                Err(refused) => (Vec::new(), Some(refused)),
            };
            let mut results = Vec::with_capacity(transactions.len());
            for transaction in &transactions {
                let txid = transaction.compute_txid();
                let error = match &refused {
                    Some(_) if services.node.mempool_entry(&txid).is_some() => None,
                    Some(refused) => Some(refused.to_string()),
                    None => None,
                };
                if error.is_none() {
                    services.wallet.transaction_seen(transaction.clone(), services.now().0).map_err(internal)?;
                }
                results.push((txid, transaction.compute_wtxid(), error));
            }
            let message = refused.map_or("success".to_owned(), |refused| refused.to_string());
            Ok(PackageResult { message, transactions: results, replaced })
        });
        submitted.await.map_err(internal)?
    }

    async fn forget_transaction(&self, txid: Txid) -> Result<(), ApiError> {
        let services = self.services();
        let Some(known) = services.wallet.transaction(&txid) else {
            let text = format!("transaction with txid={txid} not found in the internal wallet store");
            return Err(ApiError::not_found(text));
        };
        if known.confirmations > 0 {
            return Err(ApiError::precondition(format!(
                "transaction with txid={txid} is already confirmed (numConfs={}) cannot be removed",
                known.confirmations
            )));
        }
        if services.node.mempool_entry(&txid).is_some() {
            return Err(ApiError::precondition(format!(
                "transaction with txid={txid} is in the mempool and may be in the next block: replace it with BumpFee"
            )));
        }
        let outputs = (0..known.transaction.output.len()).filter_map(|index| u32::try_from(index).ok());
        let mut fundings = outputs.map(|vout| ChannelId::from_funding(OutPoint { txid, vout }));
        if fundings.any(|channel| services.peers.knows_channel(&channel)) {
            return Err(ApiError::precondition(format!(
                "transaction with txid={txid} funds a channel: it has to stay"
            )));
        }
        let now = services.now().0;
        self.read(move |services| services.wallet.forget(txid, now).map_err(wallet_error)).await
    }

    async fn estimate_send(&self, request: SendMany) -> Result<SendEstimate, ApiError> {
        self.read(move |services| {
            let rate = fee_rate(services, request.fee);
            let draft = services.wallet.draft(&scripts(&request), rate, &coins(&request.coins));
            let draft = draft.map_err(wallet_error)?;
            let fee = services.wallet.fee_of(&draft).ok_or_else(|| internal("an input is not the wallet's"))?;
            Ok(SendEstimate { fee, rate, inputs: draft.input.iter().map(|input| input.previous_output).collect() })
        })
        .await
    }

    async fn wallet_transaction(&self, txid: Txid) -> Result<WalletTx, ApiError> {
        transaction(self.services(), &txid).ok_or_else(|| unknown_transaction(&txid))
    }

    async fn transaction_updates(&self) -> Result<Updates<WalletTx>, ApiError> {
        let services = Arc::clone(self.services());
        let news = services.wallet.news();
        let updates = futures_unfold(news, move |txid| transaction(&services, &txid));
        // What has gone meanwhile is told no more.
        Ok(Box::pin(tokio_stream::StreamExt::filter_map(updates, Result::transpose)))
    }

    async fn publish(&self, transaction: Transaction, label: String) -> Result<(), ApiError> {
        let services = self.services();
        let txid = transaction.compute_txid();
        broadcast(&services.node, &services.wallet, &[], &transaction)
            .await
            .map_err(|reason| ApiError::invalid(format!("the transaction was not accepted: {reason}")))?;
        if !label.is_empty() {
            services.store.put_label(&txid, &label)?;
        }
        Ok(())
    }

    async fn label_transaction(&self, txid: Txid, label: String, overwrite: bool) -> Result<(), ApiError> {
        let services = self.services();
        if services.wallet.transaction(&txid).is_none() {
            let text = format!("cannot label transaction not known to wallet: {txid}; see `leyden listchaintxns`");
            return Err(ApiError::not_found(text));
        }
        if !overwrite && services.store.label(&txid)?.is_some() {
            return Err(ApiError::exists("transaction already labelled: say overwrite to give it another label"));
        }
        Ok(services.store.put_label(&txid, &label)?)
    }

    async fn account(&self, kind: AddressKind) -> Result<Account, ApiError> {
        let keys = self.services().wallet.account(kind).map_err(wallet_error)?;
        Ok(Account {
            kind: keys.kind,
            public_key: keys.public.to_string(),
            master_fingerprint: keys.master_fingerprint,
            path: format!("m/{}", keys.path),
            external: keys.external,
            internal: keys.internal,
        })
    }

    async fn addresses(&self, kind: AddressKind) -> Result<Vec<WalletAddress>, ApiError> {
        let list = self.read(move |services| services.wallet.addresses(kind).map_err(wallet_error)).await?;
        let told = |one: OwnAddress| WalletAddress {
            address: one.address,
            is_internal: one.place.branch_number() == 1,
            balance: one.balance,
            path: format!("m/{}", one.path),
            public_key: one.public_key,
        };
        Ok(list.into_iter().map(told).collect())
    }

    async fn required_reserve(&self, more_channels: u32) -> Result<Amount, ApiError> {
        Ok(self.services().wallet.reserve_with(usize::try_from(more_channels).unwrap_or(usize::MAX)))
    }

    async fn lease_coin(&self, id: [u8; 32], coin: OutPoint, time: Duration) -> Result<UnixTime, ApiError> {
        let services = self.services();
        let until = services.now().0.saturating_add(time.as_secs());
        services.wallet.lease(coin, leases::Lease { id, until }, time).map_err(lease_error)?;
        services.store.put_lease(&coin, &id, until)?;
        Ok(UnixTime(until))
    }

    async fn release_coin(&self, id: [u8; 32], coin: OutPoint) -> Result<(), ApiError> {
        let services = self.services();
        if services.wallet.end_lease(&coin, &id).map_err(lease_error)? {
            services.store.remove_lease(&coin)?;
        }
        Ok(())
    }

    async fn leases(&self) -> Result<Vec<Lease>, ApiError> {
        let held = self.services().wallet.leases().into_iter();
        Ok(held
            .map(|(outpoint, output, lease)| Lease { id: lease.id, outpoint, output, until: UnixTime(lease.until) })
            .collect())
    }
}

fn scripts(request: &SendMany) -> Vec<(ScriptBuf, Amount)> {
    request.outputs.iter().map(|(address, amount)| (address.script_pubkey(), *amount)).collect()
}

fn transaction(services: &Services, txid: &Txid) -> Option<WalletTx> {
    services.wallet.transaction(txid).map(|entry| to_api(services, entry))
}

fn unknown_transaction(txid: &Txid) -> ApiError {
    ApiError::not_found(format!("transaction {txid} is none of the wallet's; see `leyden listchaintxns`"))
}

fn lease_error(error: LeaseError) -> ApiError {
    match error {
        LeaseError::Unknown => ApiError::not_found(error.to_string()),
        LeaseError::Locked | LeaseError::OtherId => ApiError::precondition(error.to_string()),
    }
}

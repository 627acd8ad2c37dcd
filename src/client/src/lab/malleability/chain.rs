//! What an exchange asks its node.

use bitcoin::{Amount, Block, OutPoint, Script, Transaction, TxOut, consensus::encode};
use leyden_proto::leyden::{GetBlockRequest, GetTransactionRequest, SubmitTransactionRequest, get_block_request};
use tonic::Code;

use super::LabError;
use crate::cluster::DaemonProcess;

/// A node, as those see it who have coins on its chain.
pub struct Chain<'a> {
    node: &'a DaemonProcess,
}

impl<'a> Chain<'a> {
    /// The chain of this node.
    pub fn of(node: &'a DaemonProcess) -> Self {
        Self { node }
    }

    fn called(&self, status: tonic::Status) -> LabError {
        LabError::Cluster(self.node.call_error(status))
    }

    /// Sends a transaction; the node's word if it takes none of it.
    pub async fn send(&self, transaction: &Transaction) -> Result<Result<(), String>, LabError> {
        let request = SubmitTransactionRequest { raw_tx: encode::serialize(transaction) };
        match self.node.client()?.chain().submit_transaction(request).await {
            Ok(_) => Ok(Ok(())),
            Err(status) if matches!(status.code(), Code::Unavailable | Code::Internal) => Err(self.called(status)),
            Err(status) => Ok(Err(status.message().to_owned())),
        }
    }

    /// Whether a transaction of this id is in a block.
    pub async fn is_confirmed(&self, txid: &str) -> Result<bool, LabError> {
        match self.node.client()?.chain().get_transaction(GetTransactionRequest { txid: txid.to_owned() }).await {
            Ok(answer) => Ok(answer.into_inner().confirmations > 0),
            Err(status) if status.code() == Code::NotFound => Ok(false),
            Err(status) => Err(self.called(status)),
        }
    }

    /// The block at this height.
    pub async fn block(&self, height: u32) -> Result<Block, LabError> {
        let request = GetBlockRequest { block: Some(get_block_request::Block::Height(height)), include_raw: true };
        let answer = self.node.client()?.chain().get_block(request).await.map_err(|status| self.called(status))?;
        encode::deserialize(&answer.into_inner().raw_block).map_err(|error| LabError::of("a block", error))
    }

    /// Every transaction of the chain.
    async fn transactions(&self) -> Result<Vec<Transaction>, LabError> {
        let mut all = Vec::new();
        for height in 0..=self.node.height().await? {
            all.extend(self.block(height).await?.txdata);
        }
        Ok(all)
    }

    /// The transaction in a block that spends an output.
    pub async fn spender(&self, outpoint: OutPoint) -> Result<Option<Transaction>, LabError> {
        let spends =
            |transaction: &Transaction| transaction.input.iter().any(|input| input.previous_output == outpoint);
        Ok(self.transactions().await?.into_iter().find(spends))
    }

    /// All that was ever paid to a script, in blocks.
    pub async fn received(&self, script: &Script) -> Result<Amount, LabError> {
        let all = self.transactions().await?;
        let outputs = all.iter().flat_map(|transaction| &transaction.output);
        Ok(outputs.filter(|output| *output.script_pubkey == *script).map(|output| output.value).sum())
    }

    /// The reward of the block at this height.
    pub async fn reward(&self, height: u32) -> Result<(OutPoint, TxOut), LabError> {
        let block = self.block(height).await?;
        let reward = block.txdata.first().and_then(|coinbase| {
            let output = coinbase.output.first()?.clone();
            Some((OutPoint::new(coinbase.compute_txid(), 0), output))
        });
        reward.ok_or_else(|| LabError::Failed(format!("block {height} has no reward")))
    }
}

//! What the chain did with the coins of a channel, read from its blocks: every transaction since a height with its fee.

use std::collections::{BTreeMap, BTreeSet};

use leyden_proto::leyden::{
    GetBlockRequest, GetTransactionRequest, GetTransactionResponse, get_block_request::Block as Which,
};

use crate::cluster::{ClusterError, DaemonProcess};

/// The value of an anchor output (BOLT 3).
pub(super) const ANCHOR: i64 = 330;

/// The transactions of some blocks, without their coinbases.
pub struct Ledger {
    transactions: BTreeMap<String, Entry>,
}

struct Entry {
    found: GetTransactionResponse,
    fee: i64,
}

impl Ledger {
    /// Reads all blocks above `height`.
    pub async fn since(node: &DaemonProcess, height: u32) -> Result<Self, ClusterError> {
        let mut transactions = BTreeMap::new();
        for height in height + 1..=node.height().await? {
            let request = GetBlockRequest { block: Some(Which::Height(height)), include_raw: false };
            let block = node.client()?.chain().get_block(request).await;
            let block = block.map_err(|status| node.call_error(status))?.into_inner();
            for txid in block.txids.iter().skip(1) {
                let found = transaction(node, txid).await?;
                let fee = fee(node, &found).await?;
                transactions.insert(txid.clone(), Entry { found, fee });
            }
        }
        Ok(Self { transactions })
    }

    /// The transaction that spent an output.
    pub fn spender(&self, outpoint: &str) -> Option<&str> {
        self.spending_input(outpoint).map(|(txid, _)| txid)
    }

    /// The transaction that spent an output, and with which of its inputs.
    pub fn spending_input(&self, outpoint: &str) -> Option<(&str, usize)> {
        self.transactions.values().find_map(|entry| {
            let index = entry.found.inputs.iter().position(|input| input.outpoint == outpoint)?;
            Some((entry.found.txid.as_str(), index))
        })
    }

    /// The block that a transaction is in.
    pub fn height(&self, txid: &str) -> u32 {
        self.transactions.get(txid).map_or(0, |entry| entry.found.block_height)
    }

    /// The outputs of a transaction in satoshi, by their index; empty for one that is not in these blocks.
    pub fn outputs(&self, txid: &str) -> Vec<i64> {
        let outputs = self.transactions.get(txid).map(|entry| entry.found.outputs.as_slice()).unwrap_or_default();
        outputs.iter().map(|output| i64::try_from(output.amount_sat).unwrap_or(i64::MAX)).collect()
    }

    /// What a commitment of a channel of this capacity kept from both sides: its fee, and the anchors that nobody found
    /// worth sweeping.
    pub fn commitment_cost(&self, txid: &str, capacity: i64) -> i64 {
        let left = |index: usize, amount: i64| amount == ANCHOR && self.spender(&format!("{txid}:{index}")).is_none();
        let outputs = self.outputs(txid).into_iter().enumerate();
        capacity - outputs.filter(|(index, amount)| !left(*index, *amount)).map(|(_, amount)| amount).sum::<i64>()
    }

    /// What lay in anchors of a commitment that `txids` swept. The opener has paid for both, whoever sweeps them.
    pub fn anchors_swept(&self, commitment: &str, txids: &BTreeSet<String>) -> i64 {
        let outputs = self.outputs(commitment).into_iter().enumerate();
        let anchors = outputs.filter(|(_, amount)| *amount == ANCHOR);
        let spenders = anchors.filter_map(|(index, _)| self.spender(&format!("{commitment}:{index}")));
        spenders.filter(|spender| txids.contains(*spender)).map(|_| ANCHOR).sum()
    }

    /// What those of `txids` that are in these blocks paid to miners, and how many they are.
    pub fn fees(&self, txids: &BTreeSet<String>) -> (i64, usize) {
        let own = txids.iter().filter_map(|txid| self.transactions.get(txid));
        own.fold((0, 0), |(fees, count), entry| (fees + entry.fee, count + 1))
    }

    /// The ids of all transactions of these blocks.
    pub fn txids(&self) -> impl Iterator<Item = String> {
        self.transactions.keys().cloned()
    }

    /// What all transactions of these blocks paid to miners.
    pub fn all_fees(&self) -> i64 {
        self.transactions.values().map(|entry| entry.fee).sum()
    }

    /// What lies in anchors that nobody found worth sweeping.
    pub fn anchors_left(&self) -> i64 {
        let outputs = self.transactions.iter().flat_map(|(txid, entry)| {
            let outputs = entry.found.outputs.iter().enumerate();
            outputs.map(move |(index, output)| (format!("{txid}:{index}"), output.amount_sat))
        });
        let anchors = outputs.filter(|(_, amount)| i64::try_from(*amount) == Ok(ANCHOR));
        ANCHOR * anchors.filter(|(outpoint, _)| self.spender(outpoint).is_none()).map(|_| 1).sum::<i64>()
    }

    /// The transactions that spent outputs of `txid`, each once, in no order.
    pub fn spenders(&self, txid: &str) -> BTreeSet<String> {
        let spends = |entry: &&Entry| {
            let mut inputs = entry.found.inputs.iter();
            inputs.any(|input| input.outpoint.split(':').next() == Some(txid))
        };
        self.transactions.values().filter(spends).map(|entry| entry.found.txid.clone()).collect()
    }

    /// How many outputs of `txid` were spent.
    pub fn spent_outputs(&self, txid: &str) -> usize {
        let inputs = self.transactions.values().flat_map(|entry| &entry.found.inputs);
        inputs.filter(|input| input.outpoint.split(':').next() == Some(txid)).count()
    }
}

async fn transaction(node: &DaemonProcess, txid: &str) -> Result<GetTransactionResponse, ClusterError> {
    let request = GetTransactionRequest { txid: txid.to_owned() };
    let found = node.client()?.chain().get_transaction(request).await;
    Ok(found.map_err(|status| node.call_error(status))?.into_inner())
}

async fn fee(node: &DaemonProcess, found: &GetTransactionResponse) -> Result<i64, ClusterError> {
    let mut fee = 0;
    for input in &found.inputs {
        let (txid, index) = input.outpoint.split_once(':').unwrap_or((&input.outpoint, "0"));
        let parent = transaction(node, txid).await?;
        let output = parent.outputs.get(index.parse::<usize>().unwrap_or_default());
        fee += output.map_or(0, |output| i64::try_from(output.amount_sat).unwrap_or(i64::MAX));
    }
    Ok(fee - found.outputs.iter().map(|output| i64::try_from(output.amount_sat).unwrap_or(i64::MAX)).sum::<i64>())
}

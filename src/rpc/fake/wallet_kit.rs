//! The wallet for other programs, and messages.

use super::*;

pub(crate) fn wallet_tx() -> WalletTx {
    let transaction = crate::rpc::fake::swaps::transaction();
    WalletTx {
        txid: transaction.compute_txid(),
        transaction: transaction.into(),
        net: bitcoin::SignedAmount::from_sat(5),
        fee: None,
        confirmation: None,
        time: UnixTime(1_700_000_000),
        label: "tea".to_owned(),
        local_outputs: Vec::new(),
        local_inputs: Vec::new(),
    }
}

#[async_trait]
impl WalletKit for Fake {
    async fn chain_feerates(&self, blocks: u16) -> Result<ChainFeerates, ApiError> {
        let rate = bitcoin::FeeRate::from_sat_per_kwu;
        self.asked(blocks, ChainFeerates { estimate: rate(500), relay: rate(250) })
    }

    async fn change_address(&self, kind: AddressKind) -> Result<Address, ApiError> {
        self.asked(("change", kind), Address::from_str(ADDRESS).unwrap().assume_checked())
    }

    async fn send_many(&self, request: SendMany) -> Result<Txid, ApiError> {
        self.asked(request, funding().txid)
    }

    async fn send_outputs(&self, request: SendOutputs) -> Result<Transaction, ApiError> {
        self.asked(request, crate::rpc::fake::swaps::transaction())
    }

    async fn submit_package(&self, transactions: Vec<Transaction>) -> Result<PackageResult, ApiError> {
        let told = |tx: &Transaction| (tx.compute_txid(), tx.compute_wtxid(), None);
        let result = PackageResult {
            message: "success".to_owned(),
            transactions: transactions.iter().map(told).collect(),
            replaced: vec![funding().txid],
        };
        self.asked(transactions, result)
    }

    async fn forget_transaction(&self, txid: Txid) -> Result<(), ApiError> {
        self.asked(txid, ())
    }

    async fn estimate_send(&self, request: SendMany) -> Result<SendEstimate, ApiError> {
        let rate = bitcoin::FeeRate::from_sat_per_vb_u32(3);
        self.asked(request, SendEstimate { fee: Amount::from_sat(423), rate, inputs: vec![funding()] })
    }

    async fn wallet_transaction(&self, txid: Txid) -> Result<WalletTx, ApiError> {
        self.asked(txid, wallet_tx())
    }

    async fn transaction_updates(&self) -> Result<Updates<WalletTx>, ApiError> {
        self.answer(self.updates(vec![wallet_tx()]))
    }

    async fn publish(&self, transaction: Transaction, label: String) -> Result<(), ApiError> {
        self.asked((transaction, label), ())
    }

    async fn label_transaction(&self, txid: Txid, label: String, overwrite: bool) -> Result<(), ApiError> {
        self.asked((txid, label, overwrite), ())
    }

    async fn account(&self, kind: AddressKind) -> Result<Account, ApiError> {
        self.answer(Account {
            kind,
            public_key: "tpub".to_owned(),
            master_fingerprint: [1, 2, 3, 4],
            path: format!("m/{}'/1'/0'", kind.purpose()),
            external: 3,
            internal: 500,
        })
    }

    async fn addresses(&self, kind: AddressKind) -> Result<Vec<WalletAddress>, ApiError> {
        let address = Address::from_str(ADDRESS).unwrap().assume_checked();
        let (balance, path) = (Amount::from_sat(1_000), format!("m/{}'/1'/0'/0/2", kind.purpose()));
        self.answer(vec![WalletAddress { address, is_internal: false, balance, path, public_key: node_id() }])
    }

    async fn required_reserve(&self, more_channels: u32) -> Result<Amount, ApiError> {
        self.asked(more_channels, Amount::from_sat(10_000))
    }

    async fn lease_coin(&self, id: [u8; 32], coin: OutPoint, time: Duration) -> Result<UnixTime, ApiError> {
        self.asked((id, coin, time), UnixTime(1_700_000_600))
    }

    async fn release_coin(&self, id: [u8; 32], coin: OutPoint) -> Result<(), ApiError> {
        self.asked((id, coin), ())
    }

    async fn leases(&self) -> Result<Vec<Lease>, ApiError> {
        let script_pubkey = Address::from_str(ADDRESS).unwrap().assume_checked().script_pubkey();
        let output = bitcoin::TxOut { value: Amount::from_sat(1_000), script_pubkey };
        self.answer(vec![Lease { id: [8; 32], outpoint: funding(), output, until: UnixTime(1_700_000_600) }])
    }
}

#[async_trait]
impl Messages for Fake {
    async fn sign_message(&self, message: Vec<u8>, single_hash: bool) -> Result<String, ApiError> {
        self.asked((message, single_hash), "d9h".to_owned())
    }

    async fn verify_message(&self, message: Vec<u8>, signature: &str) -> Result<Option<Signatory>, ApiError> {
        let signatory = (signature == "d9h").then(|| Signatory { node_id: node_id(), is_known: true });
        self.asked((message, signature.to_owned()), signatory)
    }
}

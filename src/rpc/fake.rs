//! A stand-in for the daemon: it remembers what it was asked and answers what the test told it to.

use std::{
    net::IpAddr,
    num::NonZeroU32,
    str::FromStr,
    sync::{Arc, Mutex, MutexGuard},
    time::{Duration, UNIX_EPOCH},
};

use async_trait::async_trait;
use bitcoin::{
    Address, Amount, BlockHash, Network, OutPoint, Transaction, Txid, constants::genesis_block, hashes::Hash as _,
    secp256k1::PublicKey,
};
use leyden_channels::{
    types::{ChannelId, Height, Msat, PaymentHash, PaymentPreimage, PaymentSecret, UnixTime},
    wire::features::Features,
};
use leyden_node::{BlockRef, InclusionProof, PeerInfo as ChainPeer, Tip, Totals, TransactionInfo};
use tokio::sync::watch;
use tokio_stream::{StreamExt, wrappers::WatchStream};

use crate::{api::*, limits::LimitUse};

mod announcing;
mod bumping;
mod chain_watch;
mod closings;
mod crossings;
mod custom;
pub(crate) mod deciding;
mod diagnosis;
mod experience;
mod figures;
mod forgetting;
mod funding;
pub(crate) mod holding;
pub(crate) mod network;
mod psbts;
mod recovery;
pub(crate) mod routes;
mod signing;
pub(crate) mod swaps;
mod tokens;
pub(crate) mod towers;
pub(crate) mod wallet_kit;
pub(crate) mod watchtower;

pub(crate) const NODE: &str = "0279be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798";
pub(crate) const ADDRESS: &str = "bcrt1qw508d6qejxtdg4y5r3zarvary0c5xw7kygt080";
pub(crate) const PASSWORD: &[u8] = b"correct horse";

pub(crate) fn node_id() -> PublicKey {
    PublicKey::from_str(NODE).unwrap()
}

/// A funding output whose transaction id reads 0102…20 in internal byte order.
pub(crate) fn funding() -> OutPoint {
    let mut bytes = [0; 32];
    bytes.iter_mut().zip(1..).for_each(|(byte, at)| *byte = at);
    OutPoint { txid: Txid::from_byte_array(bytes), vout: 1 }
}

pub(crate) fn payment(state: PaymentState) -> Payment {
    Payment {
        index: 7,
        payment_hash: PaymentPreimage([9; 32]).hash(),
        amount: Msat(1_500),
        fee: Msat(0),
        request: Some("lnbcrt1…".to_owned()),
        created: UNIX_EPOCH + Duration::from_nanos(1_700_000_000_123_456_789),
        state,
        attempts: Vec::new(),
    }
}

pub(crate) fn invoice(add_index: u64, state: InvoiceState) -> Invoice {
    let preimage = PaymentPreimage([9; 32]);
    Invoice {
        add_index,
        payment_hash: preimage.hash(),
        preimage: Some(preimage),
        secret: PaymentSecret([5; 32]),
        request: format!("lnbcrt{add_index}"),
        amount: Some(Msat(1_500)),
        description: Description::Text("coffee".to_owned()),
        created: UnixTime(1_700_000_000),
        expiry: Duration::from_secs(3600),
        min_final_cltv: 18,
        fallback: None,
        route_hints: Vec::new(),
        hint_private_channels: false,
        features: Features::invoice(),
        keysend: false,
        state,
        htlcs: Vec::new(),
    }
}

/// Cheap to clone; the clones are one daemon.
#[derive(Clone)]
pub(crate) struct Fake(Arc<Inner>);

struct Inner {
    state: watch::Sender<WalletState>,
    stopped: watch::Sender<bool>,
    script: Mutex<Script>,
}

/// What the daemon was asked, and what it shall answer.
#[derive(Default)]
pub(crate) struct Script {
    /// The answer to every call, if there is one.
    pub error: Option<ApiError>,
    /// The latest request that carried one, as its `Debug` prints it.
    pub asked: String,
    pub payments: Vec<Payment>,
    pub invoices: Vec<Invoice>,
    pub channels: Vec<ChannelInfo>,
    /// Streams stay open after their last update.
    pub hold_streams: bool,
    pub runs_tower: bool,
    pub is_tower_only: bool,
    /// In place of regtest.
    pub network: Option<&'static str>,
}

impl Fake {
    pub(crate) fn new(state: WalletState) -> Self {
        let (state, stopped) = (watch::Sender::new(state), watch::Sender::new(false));
        Self(Arc::new(Inner { state, stopped, script: Mutex::default() }))
    }

    pub(crate) fn script(&self) -> MutexGuard<'_, Script> {
        self.0.script.lock().unwrap()
    }

    pub(crate) fn fail_with(&self, error: ApiError) {
        self.script().error = Some(error);
    }

    pub(crate) fn is_stopped(&self) -> bool {
        *self.0.stopped.borrow()
    }

    fn answer<T>(&self, value: T) -> Result<T, ApiError> {
        match &self.script().error {
            Some(error) => Err(error.clone()),
            None => Ok(value),
        }
    }

    fn asked<T>(&self, request: impl std::fmt::Debug, value: T) -> Result<T, ApiError> {
        self.script().asked = format!("{request:?}");
        self.answer(value)
    }

    fn updates<T: Send + 'static>(&self, updates: Vec<T>) -> Updates<T> {
        let updates = tokio_stream::iter(updates.into_iter().map(Ok));
        if self.script().hold_streams {
            return Box::pin(updates.chain(tokio_stream::pending()));
        }
        Box::pin(updates)
    }
}

#[async_trait]
impl Daemon for Fake {
    fn state(&self) -> WalletState {
        *self.0.state.borrow()
    }

    fn subscribe_state(&self) -> Updates<WalletState> {
        Box::pin(WatchStream::new(self.0.state.subscribe()).map(Ok))
    }

    fn network(&self) -> NetworkInfo {
        let genesis = genesis_block(Network::Regtest).block_hash();
        let name = self.script().network.unwrap_or("regtest").to_owned();
        NetworkInfo { name, addresses: Network::Regtest, genesis }
    }

    async fn gen_seed(&self, entropy: Option<[u8; 32]>) -> Result<Vec<String>, ApiError> {
        self.asked(entropy, vec!["abandon".to_owned(); 24])
    }

    async fn init_wallet(&self, request: InitWallet) -> Result<Vec<u8>, ApiError> {
        self.0.state.send_replace(WalletState::Unlocked);
        self.asked(request, b"macaroon".to_vec())
    }

    async fn unlock_wallet(&self, request: UnlockWallet, _from: Option<IpAddr>) -> Result<(), ApiError> {
        if request.password.as_slice() != PASSWORD {
            return Err(ApiError::invalid("the password is wrong: try again, nothing is lost"));
        }
        self.0.state.send_replace(WalletState::ServerActive);
        self.asked(request, ())
    }

    async fn change_password(&self, request: ChangePassword, _from: Option<IpAddr>) -> Result<Vec<u8>, ApiError> {
        if request.current.as_slice() != PASSWORD {
            return Err(ApiError::invalid(
                "invalid passphrase for master public key: wrong password; nothing was changed",
            ));
        }
        self.0.state.send_replace(WalletState::ServerActive);
        self.asked(request, b"macaroon".to_vec())
    }

    fn lightning(&self) -> Option<Arc<dyn Lightning>> {
        (self.state() >= WalletState::RpcActive && !self.is_tower_only())
            .then(|| Arc::new(self.clone()) as Arc<dyn Lightning>)
    }

    fn chain(&self) -> Option<Arc<dyn Chain>> {
        Some(Arc::new(self.clone()))
    }

    fn watchtower(&self) -> Option<Arc<dyn Watchtower>> {
        self.script().runs_tower.then(|| Arc::new(self.clone()) as Arc<dyn Watchtower>)
    }

    fn is_tower_only(&self) -> bool {
        self.script().is_tower_only
    }

    fn limits(&self) -> Vec<LimitUse> {
        vec![LimitUse { name: "lightning.strangers", used: 1, limit: 128, refused: 7, what: "strangers" }]
    }

    fn stop(&self) {
        self.0.stopped.send_replace(true);
    }
}

#[async_trait]
impl Lightning for Fake {
    async fn info(&self) -> Result<NodeInfo, ApiError> {
        self.answer(NodeInfo {
            node_id: node_id(),
            alias: "alice".to_owned(),
            color: [0x33, 0x99, 0xff],
            pending_channels: 0,
            active_channels: 1,
            inactive_channels: 0,
            peers: 1,
            height: Height(101),
            tip: BlockHash::all_zeros(),
            tip_time: UnixTime(1_700_000_000),
            synced_to_chain: true,
            wallet_synced: true,
            synced_to_graph: false,
            keeps_final_htlcs: true,
            addresses: vec!["127.0.0.1:9735".to_owned()],
            features: Features::init(),
        })
    }
}

#[async_trait]
impl Wallet for Fake {
    async fn new_address(&self, kind: AddressKind, reuse_unpaid: bool) -> Result<Address, ApiError> {
        self.asked((kind, reuse_unpaid), Address::from_str(ADDRESS).unwrap().assume_checked())
    }

    async fn wallet_balance(&self, min_confirmations: u32) -> Result<WalletBalance, ApiError> {
        let balance = WalletBalance {
            confirmed: Amount::from_sat(100),
            unconfirmed: Amount::from_sat(20),
            immature: Amount::from_sat(3),
            ..Default::default()
        };
        self.asked(min_confirmations, balance)
    }

    async fn send_coins(&self, request: SendCoins) -> Result<Txid, ApiError> {
        self.asked(request, funding().txid)
    }

    async fn wallet_transactions(&self, _page: TransactionPage) -> Result<Vec<WalletTx>, ApiError> {
        self.answer(Vec::new())
    }

    async fn unspent(&self) -> Result<Vec<WalletCoin>, ApiError> {
        let script_pubkey = Address::from_str(ADDRESS).unwrap().assume_checked().script_pubkey();
        let coin = |confirmations| WalletCoin {
            outpoint: funding(),
            output: bitcoin::TxOut { value: Amount::from_sat(1000), script_pubkey: script_pubkey.clone() },
            kind: AddressKind::SegwitV0,
            confirmations,
        };
        self.answer(vec![coin(0), coin(1), coin(6)])
    }
}

#[async_trait]
impl Peers for Fake {
    async fn connect_peer(&self, peer: PeerAddress, keep_trying: bool) -> Result<(), ApiError> {
        self.asked((peer, keep_trying), ())
    }

    async fn disconnect_peer(&self, node_id: PublicKey) -> Result<(), ApiError> {
        self.asked(node_id, ())
    }

    async fn peers(&self) -> Result<Vec<PeerInfo>, ApiError> {
        self.answer(Vec::new())
    }

    async fn peer_events(&self) -> Result<Updates<PeerEvent>, ApiError> {
        self.answer(self.updates(vec![PeerEvent { node_id: node_id(), is_online: true }]))
    }
}

#[async_trait]
impl Channels for Fake {
    async fn open_channel(&self, request: OpenChannel) -> Result<Updates<OpenUpdate>, ApiError> {
        let update = |stage| OpenUpdate { temporary_id: ChannelId([4; 32]), stage };
        let stages = [
            update(OpenStage::Pending { funding: funding(), fee_rate: None }),
            update(OpenStage::Open { funding: funding() }),
        ];
        let updates = self.updates(stages.to_vec());
        self.asked(request, updates)
    }

    async fn close_channel(&self, request: CloseChannel) -> Result<Updates<CloseUpdate>, ApiError> {
        let txid = funding().txid;
        let updates = self.updates(vec![
            CloseUpdate::Pending { txid, fee_rate: None, by: leyden_channels::types::Side::Local },
            CloseUpdate::Closed { txid, local: None, remote: None },
        ]);
        self.asked(request, updates)
    }

    async fn abandon_channel(&self, funding: OutPoint) -> Result<String, ApiError> {
        self.asked(("abandon", funding), "gone".to_owned())
    }

    async fn channel_balance(&self) -> Result<ChannelBalance, ApiError> {
        self.answer(ChannelBalance { local: Msat(1_999), ..Default::default() })
    }

    async fn channels(&self) -> Result<Vec<ChannelInfo>, ApiError> {
        let channels = self.script().channels.clone();
        self.answer(channels)
    }

    async fn pending_channels(&self) -> Result<PendingChannels, ApiError> {
        self.answer(PendingChannels::default())
    }

    async fn closed_channels(&self) -> Result<Vec<ClosedChannel>, ApiError> {
        self.answer(Vec::new())
    }

    async fn channel_events(&self) -> Result<Updates<ChannelEvent>, ApiError> {
        let events = self.updates(vec![ChannelEvent::PendingOpen(funding()), ChannelEvent::Active(funding())]);
        self.answer(events)
    }
}

#[async_trait]
impl Backups for Fake {
    async fn channel_backup(&self, funding: OutPoint) -> Result<ChannelBackup, ApiError> {
        self.asked(funding, ChannelBackup { funding, sealed: vec![1, 2] })
    }

    async fn channel_backups(&self) -> Result<BackupSnapshot, ApiError> {
        let single = ChannelBackup { funding: funding(), sealed: vec![1, 2] };
        self.answer(BackupSnapshot { singles: vec![single], all: vec![3] })
    }

    async fn backup_updates(&self) -> Result<Updates<BackupSnapshot>, ApiError> {
        let updates = self.updates(vec![BackupSnapshot { singles: Vec::new(), all: vec![3] }]);
        self.answer(updates)
    }

    async fn verify_backups(&self, sealed: Vec<Vec<u8>>) -> Result<BackupContents, ApiError> {
        self.asked(sealed, BackupContents { channels: vec![funding()], swaps: 2 })
    }

    async fn restore_backups(&self, sealed: Vec<Vec<u8>>) -> Result<u32, ApiError> {
        let count = sealed.len() as u32;
        self.asked(sealed, count)
    }
}

#[async_trait]
impl Invoices for Fake {
    async fn add_invoice(&self, request: AddInvoice) -> Result<Invoice, ApiError> {
        self.asked(request, invoice(1, InvoiceState::Open))
    }

    async fn invoice(&self, hash: PaymentHash) -> Result<Invoice, ApiError> {
        self.asked(hash, invoice(1, InvoiceState::Open))
    }

    async fn invoices(&self, page: PageRequest) -> Result<Page<Invoice>, ApiError> {
        let items = self.script().invoices.clone();
        let total = items.len() as u64;
        self.asked(page, Page { items, total })
    }

    async fn subscribe_invoices(
        &self,
        add_index: Option<u64>,
        settle_index: Option<u64>,
    ) -> Result<Updates<Invoice>, ApiError> {
        let invoices = self.script().invoices.clone();
        let updates = self.updates(invoices);
        self.asked((add_index, settle_index), updates)
    }

    async fn decode_invoice(&self, request: &str) -> Result<DecodedInvoice, ApiError> {
        let Invoice { payment_hash, secret, amount, description, created, expiry, min_final_cltv, features, .. } =
            invoice(1, InvoiceState::Open);
        let (fallback, route_hints) = (None, Vec::new());
        let decoded = DecodedInvoice {
            payee: node_id(),
            payment_hash,
            secret,
            amount,
            description,
            created,
            expiry,
            min_final_cltv,
            fallback,
            route_hints,
            features,
        };
        self.asked(request, decoded)
    }
}

#[async_trait]
impl Payments for Fake {
    async fn send_payment(&self, request: SendPayment) -> Result<Updates<Payment>, ApiError> {
        let payments = self.script().payments.clone();
        let updates = self.updates(payments);
        self.asked(request, updates)
    }

    async fn track_payments(&self) -> Result<Updates<Payment>, ApiError> {
        let payments = self.script().payments.clone();
        self.answer(self.updates(payments))
    }

    async fn forget_payments(&self, which: ForgetPayments) -> Result<u64, ApiError> {
        self.asked(which, 1)
    }

    async fn track_payment(&self, hash: PaymentHash) -> Result<Updates<Payment>, ApiError> {
        let payments = self.script().payments.clone();
        let updates = self.updates(payments);
        self.asked(hash, updates)
    }

    async fn payments(&self, page: PageRequest, include_incomplete: bool) -> Result<Page<Payment>, ApiError> {
        let items = self.script().payments.clone();
        let total = items.len() as u64;
        self.asked((page, include_incomplete), Page { items, total })
    }
}

#[async_trait]
impl Chain for Fake {
    async fn status(&self) -> Result<ChainStatus, ApiError> {
        let header = genesis_block(Network::Regtest).header;
        let tip = Tip {
            hash: header.block_hash(),
            height: 0,
            time: header.time,
            median_time_past: header.time,
            work: header.work(),
        };
        self.answer(ChainStatus { tip, difficulty: 1.0, header_height: Height(0), syncing: false, doubt: None })
    }

    async fn disk_use(&self) -> Result<DiskUse, ApiError> {
        self.answer(DiskUse { bytes: 0, light: false })
    }

    async fn block(&self, which: BlockSelector) -> Result<LocatedBlock, ApiError> {
        let block = Arc::new(genesis_block(Network::Regtest));
        let hash = block.block_hash();
        self.asked(which, LocatedBlock { block, hash, height: Height(0), confirmations: 1, difficulty: 1.0 })
    }

    async fn transaction(&self, txid: Txid) -> Result<TransactionInfo, ApiError> {
        let transaction = Arc::new(genesis_block(Network::Regtest).txdata[0].clone());
        self.asked(txid, TransactionInfo { transaction, confirmed: None })
    }

    async fn header(&self, hash: BlockHash) -> Result<bitcoin::block::Header, ApiError> {
        self.asked(hash, genesis_block(Network::Regtest).header)
    }

    async fn height_of(&self, hash: BlockHash) -> Result<Height, ApiError> {
        self.asked(hash, Height(0))
    }

    async fn block_hash(&self, height: Height) -> Result<BlockHash, ApiError> {
        self.asked(height, genesis_block(Network::Regtest).block_hash())
    }

    async fn block_epochs(&self, from: Option<BlockHash>) -> Result<Updates<BlockRef>, ApiError> {
        let block = |height| BlockRef { hash: genesis_block(Network::Regtest).block_hash(), height };
        let updates = self.updates(vec![block(7), block(8)]);
        self.asked(from, updates)
    }

    async fn prove_inclusion(&self, txid: Txid) -> Result<(BlockRef, InclusionProof), ApiError> {
        let block = genesis_block(Network::Regtest);
        let at = BlockRef { hash: block.block_hash(), height: 0 };
        self.asked(txid, (at, InclusionProof::new(&block, 0).unwrap()))
    }

    async fn verify_inclusion(&self, proof: InclusionProof) -> Result<TransactionInfo, ApiError> {
        let transaction = Arc::new(proof.transaction.transaction.clone());
        self.asked(proof, TransactionInfo { transaction, confirmed: None })
    }

    async fn mempool(&self, _with_entries: bool) -> Result<MempoolView, ApiError> {
        Err(ApiError::unavailable("no mempool here"))
    }

    async fn submit_transaction(&self, transaction: Transaction) -> Result<Txid, ApiError> {
        self.answer(transaction.compute_txid())
    }

    async fn generate(&self, blocks: NonZeroU32, to: Option<Address>) -> Result<Updates<FoundBlock>, ApiError> {
        let found =
            (1..=blocks.get()).map(|height| FoundBlock { hash: BlockHash::all_zeros(), height: Height(height) });
        let updates = self.updates(found.collect());
        self.asked((blocks, to), updates)
    }

    async fn start_mining(&self, to: Option<Address>, threads: Option<NonZeroU32>) -> Result<(), ApiError> {
        self.asked((to, threads), ())
    }

    async fn stop_mining(&self) -> Result<(), ApiError> {
        Err(ApiError::precondition("nothing is being mined: start with `leyden chain mine start`"))
    }

    async fn mining_info(&self) -> Result<MiningInfo, ApiError> {
        self.answer(MiningInfo {
            reward_to: None,
            threads: 0,
            hashes_per_second: 0.0,
            blocks_found: 0,
            kernel: "scalar".to_owned(),
            difficulty: 1.0,
            network_hashes_per_second: 0.0,
            height: Height(0),
        })
    }

    fn totals(&self) -> Totals {
        Totals::default()
    }

    async fn utxo_set_hash(&self) -> Result<UtxoSetHash, ApiError> {
        let (block, total) = (BlockHash::all_zeros(), Amount::ZERO);
        self.answer(UtxoSetHash { hash: [7; 32], block, height: Height(0), outputs: 0, total })
    }

    async fn connect_peer(&self, address: &str) -> Result<(), ApiError> {
        self.asked(address, ())
    }

    async fn peers(&self) -> Result<Vec<ChainPeer>, ApiError> {
        self.answer(Vec::new())
    }
}

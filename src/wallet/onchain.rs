//! The on-chain wallet: addresses (BIP 84, BIP 86) and what the chain says of them, kept by `bdk_wallet`, fed block by block from
//! the chain in the same process.
//!
//! ```text
//!   notices of the chain ──► bdk wallet ──► change sets ──► store (made durable before anybody sees an address)
//!                                └────────► ledger ──► balances, lists, coins for payments and claims
//! ```
//!
//! Reorganisations need no special care: a block of the new branch replaces the checkpoints above its parent, and
//! transactions that lost their block are pending again. What is kept back for claims stays out of every payment
//! (`reserve`). Coins that a channel opening has chosen are reserved in memory
//! until its funding transaction is broadcast or given up; a restart frees them, since nothing was sent.
//!
//! Among transactions that exclude one another the one counts that was seen last, and one that was dropped counts again
//! once it is seen later. So that a clock that jumps does not turn this round, each sight is stamped later than
//! everything that it has to come after.

use std::{
    collections::{HashMap, HashSet},
    sync::{Mutex, MutexGuard},
};

use bdk_wallet::{
    ChangeSet, CreateParams, KeychainKind, LoadParams, Update,
    chain::{BlockId, Merge as _, TxUpdate},
    template::Bip84,
};
use bitcoin::{Address, Amount, Block, BlockHash, Network, OutPoint, ScriptBuf, Transaction, Txid, bip32::Xpriv};
use leyden_channels::tx::FeeCoin;
use tokio::sync::{broadcast, watch};

use super::{
    accounts::{Accounts, AddressKind},
    claims::Purpose,
    keys::NodeKeys,
    leases::Leases,
    ledger::{Ledger, Place},
    reserve::{Reserve, Reserved},
    scripts,
};

#[derive(Debug, thiserror::Error)]
pub(crate) enum WalletError {
    #[error(
        "insufficient funds available to construct transaction: not enough coins, {} sat needed, {} sat available at this fee rate. Those reserved, locked or not yet confirmed \
         do not count: receive more, wait for a block, or pay a lower fee rate",
        .needed.to_sat(), .available.to_sat()
    )]
    InsufficientFunds { needed: Amount, available: Amount },
    #[error(
        "this would leave {} of the {} sat that the wallet reserves for {channels} channels with anchors: if one has to be \
         closed on the chain, too little would be there to pay for claiming what is yours. Send less, or insist with \
         --spend-reserve (over gRPC or REST: the header leyden-spend-reserve)",
        .left.to_sat(), .kept.to_sat()
    )]
    Reserve { kept: Amount, left: Amount, channels: usize },
    #[error("an amount is too small to be sent: outputs below the dust limit do not relay")]
    Dust,
    #[error("the wallet has no coin {outpoint}, or it is reserved; see `leyden listunspent`")]
    UnknownCoin { outpoint: OutPoint },
    #[error("this transaction cannot be replaced: {0}")]
    Bump(String),
    #[error("the wallet cannot sign this transaction: {0}")]
    Sign(String),
    #[error("the stored wallet does not fit this seed or network: {0}")]
    Mismatch(String),
    #[error("the wallet's stored state is damaged: {0}; restore it with `leyden create` and your 24 words")]
    Damaged(String),
    #[error("block {hash} at height {height} does not connect to the wallet's chain")]
    Disconnected { height: u32, hash: BlockHash },
    #[error("the wallet could not be saved: {0}")]
    Store(String),
}

/// Where change sets go: appended one after the other, read back in the same order.
pub(crate) trait ChangeLog: Send + Sync {
    fn load(&self) -> Result<Vec<Vec<u8>>, WalletError>;
    /// Durable when this returns.
    fn append(&self, change: &[u8]) -> Result<(), WalletError>;
    /// Replaces everything that was appended by one entry, in one durable step.
    fn replace(&self, whole: &[u8]) -> Result<(), WalletError>;
}

/// Which coins may be spent.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Coins {
    /// 0: unconfirmed coins too.
    pub min_confirmations: u32,
    /// Exactly these; empty: any.
    pub only: Vec<OutPoint>,
    /// Whether what is kept back for claims may be spent too.
    pub reserve: Reserve,
}

/// A block by its height and hash.
pub(crate) type Tip = (u32, BlockHash);

/// The wallet; shared by the RPC, the channels and the chain's notices.
pub(crate) struct OnchainWallet {
    state: Mutex<State>,
    log: Box<dyn ChangeLog>,
    /// The last block that the wallet has processed: nobody who asks for it waits for the wallet.
    tip: watch::Sender<Tip>,
    /// Transactions that were seen for the first time, or found in a block.
    news: broadcast::Sender<Txid>,
}

/// News that a listener may be behind.
const BACKLOG: usize = 4_096;

pub(super) struct State {
    pub(super) root: Xpriv,
    pub(super) wallet: Accounts,
    pub(super) ledger: Ledger,
    /// By the transaction that will spend them.
    pub(super) reserved: HashMap<Txid, Vec<OutPoint>>,
    /// For claims of closed channels.
    pub(super) for_claims: HashMap<Purpose, Vec<FeeCoin>>,
    pub(super) reserved_for: Reserved,
    pub(super) leases: Leases,
}

impl State {
    /// All coins that are promised to something.
    pub(super) fn reserved_coins(&self) -> HashSet<OutPoint> {
        let for_claims = self.for_claims.values().flatten().map(|coin| coin.outpoint);
        self.reserved.values().flatten().copied().chain(for_claims).chain(self.leases.coins().copied()).collect()
    }

    pub(super) fn height(&self) -> u32 {
        self.wallet.latest_checkpoint().height()
    }

    fn tip(&self) -> Tip {
        let tip = self.wallet.latest_checkpoint().block_id();
        (tip.height, tip.hash)
    }

    /// When a transaction is said to be seen: after its own end, if it had one, and after its rivals.
    fn seen_at(&self, transaction: &Transaction, now: u64) -> u64 {
        let graph = self.wallet.tx_graph();
        let txid = transaction.compute_txid();
        let rivals = transaction.input.iter().flat_map(|input| graph.outspends(input.previous_output));
        let rivals = rivals.filter(|rival| **rival != txid).filter_map(|rival| graph.get_tx_node(*rival)?.last_seen);
        let before = rivals.chain(graph.get_last_evicted(txid)).max();
        before.map_or(now, |before| now.max(before.saturating_add(1)))
    }
}

impl OnchainWallet {
    /// Opens the wallet of `keys`, or makes it if the log is empty. It finds its coins on the chain up to `look_ahead`
    /// addresses beyond the last one that it knows of.
    pub(crate) fn open(
        keys: &NodeKeys,
        network: Network,
        genesis: BlockHash,
        look_ahead: u32,
        log: Box<dyn ChangeLog>,
    ) -> Result<Self, WalletError> {
        let external = Bip84(keys.root(), KeychainKind::External);
        let internal = Bip84(keys.root(), KeychainKind::Internal);
        let entries = log.load()?;
        let (mut wallet, saved) = if entries.is_empty() {
            let mut wallet = CreateParams::new(external, internal)
                .network(network)
                .genesis_hash(genesis)
                .lookahead(look_ahead)
                .use_spk_cache(true)
                .create_wallet_no_persist()
                .map_err(|error| WalletError::Mismatch(error.to_string()))?;
            if let Some(change) = wallet.take_staged() {
                log.append(&encode(&change)?)?;
            }
            (wallet, ChangeSet::default())
        } else {
            let whole = merged(&entries)?;
            if entries.len() > 1000 {
                log.replace(&encode(&whole)?)?;
            }
            let saved = ChangeSet { indexer: whole.indexer.clone(), ..ChangeSet::default() };
            let wallet = LoadParams::new()
                .descriptor(KeychainKind::External, Some(external))
                .descriptor(KeychainKind::Internal, Some(internal))
                .check_network(network)
                .check_genesis_hash(genesis)
                .lookahead(look_ahead)
                .use_spk_cache(true)
                .load_wallet_no_persist(whole)
                .map_err(|error| WalletError::Mismatch(error.to_string()))?
                .ok_or_else(|| WalletError::Damaged("it is empty".into()))?;
            (wallet, saved)
        };
        scripts::set_apart(&mut wallet);
        let wallet = Accounts::of(wallet, keys.root(), look_ahead, &saved.indexer)?;
        let state = State {
            root: keys.root(),
            ledger: Ledger::of(&wallet),
            wallet,
            reserved: HashMap::new(),
            for_claims: HashMap::new(),
            reserved_for: Reserved::new(),
            leases: Leases::default(),
        };
        let tip = watch::Sender::new(state.tip());
        let opened = Self { state: Mutex::new(state), log, tip, news: broadcast::channel(BACKLOG).0 };
        opened.save(&mut opened.lock())?;
        Ok(opened)
    }

    /// The last block that the wallet has processed.
    pub(crate) fn tip(&self) -> Tip {
        *self.tip.borrow()
    }

    pub(super) fn tell_tip(&self, state: &State) {
        self.tip.send_replace(state.tip());
    }

    /// Takes all blocks up to this one as seen: a wallet that is new has nothing in them.
    pub(crate) fn begin_after(&self, block: Tip) -> Result<(), WalletError> {
        let mut state = self.lock();
        let (height, hash) = block;
        let chain = state.wallet.latest_checkpoint().insert(BlockId { height, hash });
        state
            .wallet
            .apply_update(Update { chain: Some(chain), ..Update::default() })
            .map_err(|_| WalletError::Disconnected { height, hash })?;
        let saved = self.save(&mut state);
        self.tell_tip(&state);
        saved
    }

    pub(crate) fn block_connected(&self, block: &Block, height: u32) -> Result<(), WalletError> {
        let mut state = self.lock();
        state
            .wallet
            .apply_block(block, height)
            .map_err(|_| WalletError::Disconnected { height, hash: block.block_hash() })?;
        let State { wallet, ledger, .. } = &mut *state;
        ledger.block_connected(wallet, block, height);
        let saved = self.save(&mut state);
        if self.news.receiver_count() > 0 {
            let ours = block.txdata.iter().filter(|tx| state.wallet.is_tx_relevant(tx));
            ours.for_each(|tx| self.tell(tx.compute_txid()));
        }
        self.tell_tip(&state);
        saved
    }

    /// A transaction entered the mempool or was made by us; ignored if it does not touch the wallet.
    pub(crate) fn transaction_seen(&self, transaction: Transaction, now: u64) -> Result<(), WalletError> {
        let mut state = self.lock();
        state.reserved.remove(&transaction.compute_txid());
        let seen_at = state.seen_at(&transaction, now);
        let txid = transaction.compute_txid();
        let State { wallet, ledger, .. } = &mut *state;
        let was_known = ledger.place(&txid).is_some();
        wallet.apply_unconfirmed(&transaction, seen_at).map_err(|error| WalletError::Store(error.to_string()))?;
        ledger.transaction_seen(wallet, &transaction, seen_at);
        let is_new = !was_known && ledger.place(&txid).is_some();
        let saved = self.save(&mut state);
        if is_new {
            self.tell(txid);
        }
        saved
    }

    fn tell(&self, txid: Txid) {
        // An error says that nobody listens.
        let _ = self.news.send(txid);
    }

    /// Each transaction of the wallet when it is seen for the first time, and when it is found in a block.
    pub(crate) fn news(&self) -> broadcast::Receiver<Txid> {
        self.news.subscribe()
    }

    /// A transaction left the mempool without being mined.
    pub(crate) fn transaction_dropped(&self, txid: Txid, now: u64) -> Result<(), WalletError> {
        let mut state = self.lock();
        let Some(Place::Waiting { .. }) = state.ledger.place(&txid) else { return Ok(()) };
        let last_seen = state.wallet.tx_graph().get_tx_node(txid).and_then(|node| node.last_seen);
        let dropped_at = last_seen.map_or(now, |last_seen| now.max(last_seen));
        let mut tx_update = TxUpdate::default();
        tx_update.evicted_ats.insert((txid, dropped_at));
        let State { wallet, ledger, .. } = &mut *state;
        wallet
            .apply_update(Update { tx_update, ..Update::default() })
            .map_err(|error| WalletError::Store(error.to_string()))?;
        ledger.transaction_dropped(wallet);
        self.save(&mut state)
    }

    /// Forgets a transaction in no block, and what spends it: as if they had left the mempool.
    pub(crate) fn forget(&self, txid: Txid, now: u64) -> Result<(), WalletError> {
        let mut gone = vec![txid];
        let mut at = 0;
        while let Some(txid) = gone.get(at).copied() {
            let state = self.lock();
            let graph = state.wallet.tx_graph();
            let outputs = graph.get_tx(txid).map_or(0, |transaction| transaction.output.len());
            let outpoints = (0..).map(|vout| OutPoint { txid, vout }).take(outputs);
            let children: Vec<Txid> = outpoints
                .flat_map(|outpoint| graph.outspends(outpoint))
                .copied()
                .filter(|child| !gone.contains(child))
                .collect();
            gone.extend(children);
            at += 1;
        }
        // Children first: one that waits would hold its parent.
        gone.iter().rev().try_for_each(|txid| self.transaction_dropped(*txid, now))
    }

    /// An address that was never given out before.
    pub(crate) fn new_address(&self, kind: AddressKind) -> Result<Address, WalletError> {
        self.take_address(|wallet| wallet.reveal_next(kind, KeychainKind::External))
    }

    /// An address for change that was never given out before.
    pub(crate) fn change_address(&self, kind: AddressKind) -> Result<Address, WalletError> {
        self.take_address(|wallet| wallet.reveal_next(kind, KeychainKind::Internal))
    }

    /// The lowest address that nobody has paid.
    pub(crate) fn unused_address(&self, kind: AddressKind) -> Result<Address, WalletError> {
        self.take_address(|wallet| wallet.next_unused(kind, KeychainKind::External))
    }

    fn take_address(
        &self,
        take: impl FnOnce(&mut Accounts) -> Result<ScriptBuf, WalletError>,
    ) -> Result<Address, WalletError> {
        let mut state = self.lock();
        let script = take(&mut state.wallet)?;
        // Durable before anybody sees it.
        self.save(&mut state)?;
        state.wallet.address(&script)
    }

    /// A script of our own that was never given out before. It moves the wallet: what comes back from channels goes to
    /// [`Self::channel_script`].
    pub(crate) fn new_script(&self) -> Result<ScriptBuf, WalletError> {
        Ok(self.new_address(AddressKind::SegwitV0)?.script_pubkey())
    }

    pub(crate) fn is_mine(&self, script: &bitcoin::Script) -> bool {
        self.lock().wallet.is_mine(script)
    }

    /// Frees the coins of a transaction that will not be broadcast.
    pub(crate) fn release(&self, txid: &Txid) {
        self.lock().reserved.remove(txid);
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    pub(super) fn log(&self) -> &dyn ChangeLog {
        self.log.as_ref()
    }

    pub(super) fn save(&self, state: &mut State) -> Result<(), WalletError> {
        let Some(change) = state.wallet.staged() else { return Ok(()) };
        self.log.append(&encode(&change)?)?;
        state.wallet.forget_staged();
        Ok(())
    }
}

pub(super) fn merged(entries: &[Vec<u8>]) -> Result<ChangeSet, WalletError> {
    let mut whole = ChangeSet::default();
    for entry in entries {
        whole.merge(serde_json::from_slice(entry).map_err(|error| WalletError::Damaged(error.to_string()))?);
    }
    Ok(whole)
}

pub(super) fn encode(change: &ChangeSet) -> Result<Vec<u8>, WalletError> {
    serde_json::to_vec(change).map_err(|error| WalletError::Store(error.to_string()))
}

#[cfg(test)]
pub(super) mod tests;

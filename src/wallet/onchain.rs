//! The on-chain wallet: BIP 84 addresses, balances, coin selection and signing by `bdk_wallet`, fed block by block from
//! the chain in the same process.
//!
//! ```text
//!   notices of the chain ──► bdk wallet ──► change sets ──► store (made durable before anybody sees an address)
//! ```
//!
//! Reorganisations need no special care: a block of the new branch replaces the checkpoints above its parent, and
//! transactions that lost their block are pending again. What is kept back for claims stays out of every payment
//! (`reserve`). Coins that a channel opening has chosen are reserved in memory
//! until its funding transaction is broadcast or given up; a restart frees them, since nothing was sent.

use std::{
    collections::{HashMap, HashSet},
    sync::{Mutex, MutexGuard},
};

use bdk_wallet::{
    ChangeSet, CreateParams, KeychainKind, LoadParams, SignOptions, TxOrdering, Wallet,
    chain::{ChainPosition, Merge as _},
    error::CreateTxError,
    template::Bip84,
};
use bitcoin::{
    Address, Amount, Block, BlockHash, FeeRate, Network, NetworkKind, OutPoint, Psbt, Script, ScriptBuf, SignedAmount,
    Transaction, Txid, WScriptHash, bip32::Xpriv, hashes::Hash as _, secp256k1::SECP256K1,
};
use leyden_channels::tx::FeeCoin;

use super::{
    claims::Purpose,
    keys::NodeKeys,
    reserve::{Reserve, Reserved},
    scripts,
};

#[derive(Debug, thiserror::Error)]
pub enum WalletError {
    #[error("not enough confirmed coins: {needed} needed, {available} available; receive or mine more, then try again")]
    InsufficientFunds { needed: Amount, available: Amount },
    #[error(
        "this would leave {left} of the {kept} that the wallet keeps back for {channels} channels with anchors: if one has \
         to be closed on the chain, there would be nothing to pay for claiming what is yours. Send less, or insist with \
         --spend-reserve (over gRPC or REST: the header leyden-spend-reserve)"
    )]
    Reserve { kept: Amount, left: Amount, channels: usize },
    #[error("an amount is too small to be sent: outputs below the dust limit do not relay")]
    Dust,
    #[error("the wallet has no coin {outpoint}, or it is reserved; see `leyden listunspent`")]
    UnknownCoin { outpoint: OutPoint },
    #[error("the wallet cannot build this transaction: {0}")]
    Build(CreateTxError),
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
pub trait ChangeLog: Send + Sync {
    fn load(&self) -> Result<Vec<Vec<u8>>, WalletError>;
    /// Durable when this returns.
    fn append(&self, change: &[u8]) -> Result<(), WalletError>;
    /// Replaces everything that was appended by one entry, in one durable step.
    fn replace(&self, whole: &[u8]) -> Result<(), WalletError>;
}

/// What the wallet owns, by how sure it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Balance {
    pub confirmed: Amount,
    /// Not in a block yet; change of our own and coins from others alike.
    pub unconfirmed: Amount,
    /// Mined by us, not spendable before 100 more blocks.
    pub immature: Amount,
}

/// An output that the wallet can spend.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unspent {
    pub outpoint: OutPoint,
    pub amount: Amount,
    pub script_pubkey: ScriptBuf,
    pub confirmations: u32,
    /// Mined by us and not spendable yet.
    pub immature: bool,
}

/// Which coins may be spent.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Coins {
    /// 0: unconfirmed coins too.
    pub min_confirmations: u32,
    /// Exactly these; empty: any.
    pub only: Vec<OutPoint>,
    /// Whether what is kept back for claims may be spent too.
    pub reserve: Reserve,
}

/// What a transaction is made for.
#[derive(Clone, Copy)]
enum Target<'a> {
    /// These outputs; the rest comes back.
    Outputs(&'a [(ScriptBuf, Amount)]),
    /// Everything to this script, but for what is kept back.
    All { to: &'a Script, keep: Amount },
}

/// Blocks after which a mined coin can be spent (Bitcoin's coinbase maturity).
pub(super) const MATURITY: u32 = 100;

/// The smallest output that comes back to the wallet: what spends it at a few satoshi per virtual byte is worth it.
const LEAST_OUTPUT: Amount = Amount::from_sat(1_000);

/// A transaction that moved the wallet's coins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WalletTransaction {
    pub txid: Txid,
    pub transaction: Transaction,
    /// What the wallet gained or lost, fee included.
    pub amount: SignedAmount,
    /// Known only when all inputs are.
    pub fee: Option<Amount>,
    pub block: Option<(u32, BlockHash)>,
    /// Seconds since 1970: of the block, or when it was first seen.
    pub time: u64,
    pub confirmations: u32,
    /// The indices of the outputs that pay the wallet.
    pub local_outputs: Vec<u32>,
    /// The indices of the inputs that spend from the wallet.
    pub local_inputs: Vec<u32>,
}

/// The wallet; shared by the RPC, the channels and the chain's notices.
pub struct OnchainWallet {
    state: Mutex<State>,
    log: Box<dyn ChangeLog>,
}

pub(super) struct State {
    pub(super) root: Xpriv,
    pub(super) wallet: Wallet,
    /// By the transaction that will spend them.
    pub(super) reserved: HashMap<Txid, Vec<OutPoint>>,
    /// For claims of closed channels.
    pub(super) for_claims: HashMap<Purpose, Vec<FeeCoin>>,
    pub(super) reserved_for: Reserved,
}

impl State {
    /// All coins that are promised to something.
    pub(super) fn reserved_coins(&self) -> HashSet<OutPoint> {
        let for_claims = self.for_claims.values().flatten().map(|coin| coin.outpoint);
        self.reserved.values().flatten().copied().chain(for_claims).collect()
    }
}

impl OnchainWallet {
    /// Opens the wallet of `keys`, or makes it if the log is empty. It finds its coins on the chain up to `look_ahead`
    /// addresses beyond the last one that it knows of.
    pub fn open(
        keys: &NodeKeys,
        network: Network,
        genesis: BlockHash,
        look_ahead: u32,
        log: Box<dyn ChangeLog>,
    ) -> Result<Self, WalletError> {
        let external = Bip84(keys.root(), KeychainKind::External);
        let internal = Bip84(keys.root(), KeychainKind::Internal);
        let entries = log.load()?;
        let wallet = if entries.is_empty() {
            let mut wallet = CreateParams::new(external, internal)
                .network(network)
                .genesis_hash(genesis)
                .lookahead(look_ahead)
                .create_wallet_no_persist()
                .map_err(|error| WalletError::Mismatch(error.to_string()))?;
            if let Some(change) = wallet.take_staged() {
                log.append(&encode(&change)?)?;
            }
            wallet
        } else {
            let whole = merged(&entries)?;
            if entries.len() > 1000 {
                log.replace(&encode(&whole)?)?;
            }
            LoadParams::new()
                .descriptor(KeychainKind::External, Some(external))
                .descriptor(KeychainKind::Internal, Some(internal))
                .check_network(network)
                .check_genesis_hash(genesis)
                .lookahead(look_ahead)
                .load_wallet_no_persist(whole)
                .map_err(|error| WalletError::Mismatch(error.to_string()))?
                .ok_or_else(|| WalletError::Damaged("it is empty".into()))?
        };
        let mut state = State {
            root: keys.root(),
            wallet,
            reserved: HashMap::new(),
            for_claims: HashMap::new(),
            reserved_for: Reserved::new(),
        };
        scripts::set_apart(&mut state.wallet);
        let opened = Self { state: Mutex::new(state), log };
        opened.save(&mut opened.lock())?;
        Ok(opened)
    }

    /// The last block that the wallet has processed.
    pub fn tip(&self) -> (u32, BlockHash) {
        let tip = self.lock().wallet.latest_checkpoint().block_id();
        (tip.height, tip.hash)
    }

    pub fn block_connected(&self, block: &Block, height: u32) -> Result<(), WalletError> {
        let mut state = self.lock();
        state
            .wallet
            .apply_block(block, height)
            .map_err(|_| WalletError::Disconnected { height, hash: block.block_hash() })?;
        self.save(&mut state)
    }

    /// A transaction entered the mempool or was made by us; ignored if it does not touch the wallet.
    pub fn transaction_seen(&self, transaction: Transaction, now: u64) -> Result<(), WalletError> {
        let mut state = self.lock();
        state.reserved.remove(&transaction.compute_txid());
        state.wallet.apply_unconfirmed_txs([(transaction, now)]);
        self.save(&mut state)
    }

    /// A transaction left the mempool without being mined.
    pub fn transaction_dropped(&self, txid: Txid, now: u64) -> Result<(), WalletError> {
        let mut state = self.lock();
        if state.wallet.get_tx(txid).is_none() {
            return Ok(());
        }
        state.wallet.apply_evicted_txs([(txid, now)]);
        self.save(&mut state)
    }

    /// An address that was never given out before.
    pub fn new_address(&self) -> Result<Address, WalletError> {
        let mut state = self.lock();
        let address = state.wallet.reveal_next_address(KeychainKind::External).address;
        self.save(&mut state)?;
        Ok(address)
    }

    /// The lowest address that nobody has paid.
    pub fn unused_address(&self) -> Result<Address, WalletError> {
        let mut state = self.lock();
        let address = state.wallet.next_unused_address(KeychainKind::External).address;
        self.save(&mut state)?;
        Ok(address)
    }

    /// A script of our own that was never given out before. It moves the wallet: what comes back from channels goes to
    /// [`Self::channel_script`].
    pub fn new_script(&self) -> Result<ScriptBuf, WalletError> {
        Ok(self.new_address()?.script_pubkey())
    }

    pub fn is_mine(&self, script: &bitcoin::Script) -> bool {
        self.lock().wallet.is_mine(script.to_owned())
    }

    pub fn balance(&self) -> Balance {
        let balance = self.lock().wallet.balance();
        Balance {
            confirmed: balance.confirmed,
            unconfirmed: balance.trusted_pending + balance.untrusted_pending,
            immature: balance.immature,
        }
    }

    pub fn unspent(&self) -> Vec<Unspent> {
        let state = self.lock();
        let tip = state.wallet.latest_checkpoint().height();
        let mut list: Vec<Unspent> = state
            .wallet
            .list_unspent()
            .map(|output| {
                let height = match &output.chain_position {
                    ChainPosition::Confirmed { anchor, .. } => Some(anchor.block_id.height),
                    ChainPosition::Unconfirmed { .. } => None,
                };
                let confirmations = confirmations(height, tip);
                let mined = state.wallet.get_tx(output.outpoint.txid).is_some_and(|tx| tx.tx_node.tx.is_coinbase());
                Unspent {
                    outpoint: output.outpoint,
                    amount: output.txout.value,
                    script_pubkey: output.txout.script_pubkey,
                    confirmations,
                    immature: mined && confirmations < MATURITY,
                }
            })
            .collect();
        list.sort_unstable_by_key(|unspent| (std::cmp::Reverse(unspent.amount), unspent.outpoint));
        list
    }

    /// Newest last.
    pub fn transactions(&self) -> Vec<WalletTransaction> {
        let state = self.lock();
        let wallet = &state.wallet;
        let tip = wallet.latest_checkpoint().height();
        let mut list: Vec<WalletTransaction> = wallet
            .transactions()
            .map(|entry| {
                let transaction = entry.tx_node.tx.as_ref().clone();
                let (sent, received) = wallet.sent_and_received(&transaction);
                let (block, time) = match &entry.chain_position {
                    ChainPosition::Confirmed { anchor, .. } => {
                        (Some((anchor.block_id.height, anchor.block_id.hash)), anchor.confirmation_time)
                    }
                    ChainPosition::Unconfirmed { first_seen, .. } => (None, first_seen.unwrap_or_default()),
                };
                WalletTransaction {
                    txid: entry.tx_node.txid,
                    amount: signed_difference(received, sent),
                    fee: wallet.calculate_fee(&transaction).ok(),
                    confirmations: confirmations(block.map(|(height, _)| height), tip),
                    local_outputs: (0..)
                        .zip(&transaction.output)
                        .filter(|(_, output)| wallet.is_mine(output.script_pubkey.clone()))
                        .map(|(index, _)| index)
                        .collect(),
                    local_inputs: (0..)
                        .zip(&transaction.input)
                        .filter(|(_, input)| wallet.spk_index().txout(input.previous_output).is_some())
                        .map(|(index, _)| index)
                        .collect(),
                    transaction,
                    block,
                    time,
                }
            })
            .collect();
        list.sort_by_key(|entry| (entry.block.map_or(u32::MAX, |(height, _)| height), entry.time, entry.txid));
        list
    }

    /// What a transaction pays; known only when all inputs are.
    pub fn fee_of(&self, transaction: &Transaction) -> Option<Amount> {
        let state = self.lock();
        let input = |input: &bitcoin::TxIn| {
            state.wallet.spk_index().txout(input.previous_output).map(|(_, output)| output.value)
        };
        let inputs: Amount = transaction.input.iter().map(input).sum::<Option<Amount>>()?;
        inputs.checked_sub(transaction.output.iter().map(|output| output.value).sum())
    }

    /// Transactions of the wallet that are in no block yet.
    pub fn pending(&self) -> Vec<Transaction> {
        let state = self.lock();
        let pending = state.wallet.transactions().filter(|entry| !entry.chain_position.is_confirmed());
        pending.map(|entry| entry.tx_node.tx.as_ref().clone()).collect()
    }

    /// A signed transaction with these outputs. Its coins are reserved: pass it to [`Self::transaction_seen`] once it is
    /// broadcast, or to [`Self::release`].
    pub fn pay(
        &self,
        outputs: &[(ScriptBuf, Amount)],
        fee_rate: FeeRate,
        coins: &Coins,
    ) -> Result<Transaction, WalletError> {
        let mut state = self.lock();
        let psbt = state.compose(Target::Outputs(outputs), fee_rate, coins, false)?;
        let psbt = match state.check_reserve(&psbt.unsigned_tx, coins.reserve) {
            Ok(()) => psbt,
            Err(short) if coins.only.is_empty() => {
                // The choice may have been wasteful: with all coins as inputs the change is as large as it can be.
                let psbt = state.compose(Target::Outputs(outputs), fee_rate, coins, true)?;
                state.check_reserve(&psbt.unsigned_tx, coins.reserve).map_err(|_| short)?;
                psbt
            }
            Err(short) => return Err(short),
        };
        self.reserve_coins(&mut state, psbt)
    }

    /// A signed transaction that sends everything to `script`, but for what is kept back for claims.
    pub fn pay_all(&self, script: &Script, fee_rate: FeeRate, coins: &Coins) -> Result<Transaction, WalletError> {
        let mut state = self.lock();
        let psbt = state.compose_all(script, fee_rate, coins, 0)?;
        self.reserve_coins(&mut state, psbt)
    }

    /// What a transaction with one P2WSH output could pay, after its fee and what is kept back for claims, with so many
    /// channels more.
    pub fn spendable(&self, fee_rate: FeeRate, coins: &Coins, more: usize) -> Result<Amount, WalletError> {
        let script = ScriptBuf::new_p2wsh(&WScriptHash::all_zeros());
        let transaction = self.lock().compose_all(&script, fee_rate, coins, more)?.unsigned_tx;
        Ok(transaction.output.iter().filter(|output| output.script_pubkey == script).map(|output| output.value).sum())
    }

    fn reserve_coins(&self, state: &mut State, psbt: Psbt) -> Result<Transaction, WalletError> {
        let transaction = sign(state, psbt)?;
        // The change address is used from here on, whatever happens to the transaction.
        self.save(state)?;
        let coins = transaction.input.iter().map(|input| input.previous_output).collect();
        state.reserved.insert(transaction.compute_txid(), coins);
        Ok(transaction)
    }

    /// Frees the coins of a transaction that will not be broadcast.
    pub fn release(&self, txid: &Txid) {
        self.lock().reserved.remove(txid);
    }

    /// What is set aside for transactions that are not broadcast yet.
    pub fn reserved(&self) -> Amount {
        let state = self.lock();
        let reserved = state.reserved_coins();
        let coins = reserved.iter().filter_map(|outpoint| state.wallet.get_utxo(*outpoint));
        coins.map(|coin| coin.txout.value).sum()
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    pub(super) fn log(&self) -> &dyn ChangeLog {
        self.log.as_ref()
    }

    pub(super) fn save(&self, state: &mut State) -> Result<(), WalletError> {
        let Some(change) = state.wallet.staged() else { return Ok(()) };
        self.log.append(&encode(change)?)?;
        state.wallet.take_staged();
        Ok(())
    }
}

impl State {
    /// Everything to `script`, but for what is kept back with so many more channels.
    fn compose_all(&mut self, to: &Script, fee_rate: FeeRate, coins: &Coins, more: usize) -> Result<Psbt, WalletError> {
        let psbt = self.compose(Target::All { to, keep: Amount::ZERO }, fee_rate, coins, true)?;
        let (kept, left) = (self.reserve(more), self.left_after(Some(&psbt.unsigned_tx)));
        let missing = kept.checked_sub(left).filter(|missing| *missing > Amount::ZERO);
        match (missing, coins.reserve) {
            (None, _) | (Some(_), Reserve::Spend) => Ok(psbt),
            (Some(missing), Reserve::Keep) => {
                let keep = missing.max(LEAST_OUTPUT);
                let channels = self.reserved_for.len().saturating_add(more);
                self.compose(Target::All { to, keep }, fee_rate, coins, true).map_err(|error| match error {
                    WalletError::InsufficientFunds { .. } | WalletError::Dust => {
                        WalletError::Reserve { kept, left, channels }
                    }
                    other => other,
                })
            }
        }
    }

    /// A transaction without signatures.
    fn compose(
        &mut self,
        target: Target<'_>,
        fee_rate: FeeRate,
        coins: &Coins,
        all_coins: bool,
    ) -> Result<Psbt, WalletError> {
        let reserved: Vec<OutPoint> = self.reserved_coins().into_iter().collect();
        if let Some(outpoint) = coins.only.iter().find(|outpoint| reserved.contains(outpoint)) {
            return Err(WalletError::UnknownCoin { outpoint: *outpoint });
        }
        let change = match target {
            Target::All { keep, .. } if keep > Amount::ZERO => {
                Some(self.wallet.next_unused_address(KeychainKind::Internal).address.script_pubkey())
            }
            Target::All { .. } | Target::Outputs(_) => None,
        };
        let mut builder = self.wallet.build_tx();
        builder.fee_rate(fee_rate).unspendable(reserved).ordering(TxOrdering::Shuffle);
        builder.exclude_below_confirmations(coins.min_confirmations);
        if !coins.only.is_empty() {
            builder.add_utxos(&coins.only).map_err(|_| WalletError::UnknownCoin { outpoint: coins.only[0] })?;
            builder.manually_selected_only();
        } else if all_coins {
            builder.drain_wallet();
        }
        match target {
            Target::Outputs(outputs) => {
                for (script, amount) in outputs {
                    builder.add_recipient(script.clone(), *amount);
                }
            }
            Target::All { to, keep } => {
                builder.drain_to(to.to_owned());
                if let Some(change) = change {
                    builder.add_recipient(change, keep);
                }
            }
        }
        builder.finish().map_err(create_error)
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

pub(super) fn sign(state: &State, mut psbt: Psbt) -> Result<Transaction, WalletError> {
    psbt.sign(&state.root, SECP256K1).map_err(|(_, errors)| WalletError::Sign(format!("{errors:?}")))?;
    let finished = state
        .wallet
        .finalize_psbt(&mut psbt, SignOptions::default())
        .map_err(|error| WalletError::Sign(error.to_string()))?;
    if !finished {
        return Err(WalletError::Sign("a key is missing".into()));
    }
    psbt.extract_tx().map_err(|error| WalletError::Sign(error.to_string()))
}

pub(super) fn create_error(error: CreateTxError) -> WalletError {
    match error {
        CreateTxError::CoinSelection(short) => {
            WalletError::InsufficientFunds { needed: short.needed, available: short.available }
        }
        CreateTxError::OutputBelowDustLimit(_) => WalletError::Dust,
        other => WalletError::Build(other),
    }
}

pub(super) fn confirmations(height: Option<u32>, tip: u32) -> u32 {
    height.map_or(0, |height| tip.saturating_sub(height).saturating_add(1))
}

pub(super) fn signed_difference(received: Amount, sent: Amount) -> SignedAmount {
    let signed = |amount: Amount| amount.to_signed().unwrap_or(SignedAmount::MAX);
    signed(received).checked_sub(signed(sent)).unwrap_or(SignedAmount::ZERO)
}

/// The address encoding of a network: `leyden` and private chains use the test networks' `tb` and `tpub` prefixes, so
/// that none of their addresses can be mistaken for one that holds bitcoin.
pub fn address_network(is_regtest: bool) -> (Network, NetworkKind) {
    if is_regtest { (Network::Regtest, NetworkKind::Test) } else { (Network::Signet, NetworkKind::Test) }
}

#[cfg(test)]
pub(super) mod tests {
    use std::sync::Arc;

    use bitcoin::{
        TxMerkleNode, TxOut, absolute::LockTime, block, constants::genesis_block, hashes::Hash as _, transaction,
    };

    use leyden_channels::{onchain::ClaimId, types::ChannelId};

    use super::*;
    use crate::wallet::seed::Seed;

    #[derive(Clone, Default)]
    pub(in crate::wallet) struct MemoryLog(Arc<Mutex<Vec<Vec<u8>>>>);

    impl ChangeLog for MemoryLog {
        fn load(&self) -> Result<Vec<Vec<u8>>, WalletError> {
            Ok(self.0.lock().unwrap().clone())
        }
        fn append(&self, change: &[u8]) -> Result<(), WalletError> {
            self.0.lock().unwrap().push(change.to_vec());
            Ok(())
        }
        fn replace(&self, whole: &[u8]) -> Result<(), WalletError> {
            *self.0.lock().unwrap() = vec![whole.to_vec()];
            Ok(())
        }
    }

    fn open(log: &MemoryLog) -> OnchainWallet {
        open_with(log, 100)
    }

    pub(in crate::wallet) fn open_with(log: &MemoryLog, look_ahead: u32) -> OnchainWallet {
        let keys = NodeKeys::new(&Seed::from_entropy([5; 32], ""), NetworkKind::Test);
        let genesis = genesis_block(Network::Regtest).block_hash();
        OnchainWallet::open(&keys, Network::Regtest, genesis, look_ahead, Box::new(log.clone())).unwrap()
    }

    pub(in crate::wallet) fn payment(script: ScriptBuf, amount: u64, salt: u32) -> Transaction {
        Transaction {
            version: transaction::Version::TWO,
            lock_time: LockTime::from_consensus(salt),
            input: vec![bitcoin::TxIn {
                previous_output: OutPoint { txid: Txid::from_byte_array([salt as u8 + 1; 32]), vout: 0 },
                ..Default::default()
            }],
            output: vec![TxOut { value: Amount::from_sat(amount), script_pubkey: script }],
        }
    }

    pub(in crate::wallet) fn next_block(previous: BlockHash, nonce: u32, transactions: Vec<Transaction>) -> Block {
        let header = block::Header {
            version: block::Version::TWO,
            prev_blockhash: previous,
            merkle_root: TxMerkleNode::all_zeros(),
            time: nonce,
            bits: bitcoin::CompactTarget::from_consensus(0x207f_ffff),
            nonce,
        };
        Block { header, txdata: transactions }
    }

    #[test]
    fn restored_wallet_knows_its_coins_and_gives_no_address_twice() {
        let log = MemoryLog::default();
        let wallet = open(&log);
        let first = wallet.new_address().unwrap();
        let block = next_block(wallet.tip().1, 1, vec![payment(first.script_pubkey(), 100_000, 0)]);
        wallet.block_connected(&block, 1).unwrap();
        drop(wallet);

        let wallet = open(&log);
        assert_eq!(wallet.tip(), (1, block.block_hash()));
        assert_eq!(wallet.balance().confirmed, Amount::from_sat(100_000));
        assert_ne!(wallet.new_address().unwrap(), first);
    }

    #[test]
    fn a_wallet_made_again_from_its_seed_finds_coins_behind_unpaid_addresses() {
        let wallet = open(&MemoryLog::default());
        let last = (0..90).map(|_| wallet.new_script().unwrap()).last().unwrap();
        let block = next_block(wallet.tip().1, 1, vec![payment(last, 100_000, 0)]);
        let again = open(&MemoryLog::default());
        again.block_connected(&block, 1).unwrap();
        assert_eq!(again.balance().confirmed, Amount::from_sat(100_000));
    }

    #[test]
    fn a_reorganised_payment_is_pending_again_and_confirms_in_the_new_branch() {
        let log = MemoryLog::default();
        let wallet = open(&log);
        let coin = payment(wallet.new_script().unwrap(), 50_000, 0);
        let genesis = wallet.tip().1;
        wallet.block_connected(&next_block(genesis, 1, vec![coin.clone()]), 1).unwrap();
        let other = next_block(genesis, 2, vec![]);
        wallet.block_connected(&other, 1).unwrap();
        wallet.transaction_seen(coin.clone(), 10).unwrap();
        let balance = wallet.balance();
        assert_eq!((balance.confirmed, balance.unconfirmed), (Amount::ZERO, Amount::from_sat(50_000)));
        wallet.block_connected(&next_block(other.block_hash(), 3, vec![coin]), 2).unwrap();
        assert_eq!(wallet.balance().confirmed, Amount::from_sat(50_000));
    }

    #[test]
    fn coins_of_a_pending_channel_are_not_spent_twice_and_come_back() {
        let log = MemoryLog::default();
        let wallet = open(&log);
        let coin = payment(wallet.new_script().unwrap(), 100_000, 0);
        wallet.block_connected(&next_block(wallet.tip().1, 1, vec![coin]), 1).unwrap();
        let target = [(ScriptBuf::new_p2wsh(&bitcoin::WScriptHash::all_zeros()), Amount::from_sat(60_000))];
        let rate = FeeRate::from_sat_per_vb(2).unwrap();
        let funding = wallet.pay(&target, rate, &Coins::default()).unwrap();
        assert!(matches!(wallet.pay(&target, rate, &Coins::default()), Err(WalletError::InsufficientFunds { .. })));
        wallet.release(&funding.compute_txid());
        let again = wallet.pay(&target, rate, &Coins::default()).unwrap();
        wallet.transaction_seen(again, 5).unwrap();
        assert!(wallet.balance().unconfirmed < Amount::from_sat(40_000));
        assert_eq!(wallet.balance().confirmed, Amount::ZERO);
    }

    #[test]
    fn what_this_wallet_pays_is_told_from_what_others_send() {
        let wallet = open(&MemoryLog::default());
        let coin = |wallet: &OnchainWallet, salt| payment(wallet.new_script().unwrap(), 100_000, salt);
        let block = next_block(wallet.tip().1, 1, vec![coin(&wallet, 0), coin(&wallet, 1)]);
        wallet.block_connected(&block, 1).unwrap();
        let rate = FeeRate::from_sat_per_vb(2).unwrap();
        let channel = ScriptBuf::new_p2wsh(&bitcoin::WScriptHash::all_zeros());
        let funding = wallet.pay(&[(channel, Amount::from_sat(60_000))], rate, &Coins::default()).unwrap();
        wallet.transaction_seen(funding.clone(), 5).unwrap();
        let coins = Coins { min_confirmations: 1, ..Coins::default() };
        let back = wallet.pay_all(&wallet.new_script().unwrap(), rate, &coins).unwrap();
        wallet.transaction_seen(back.clone(), 6).unwrap();
        let incoming = coin(&wallet, 2);
        wallet.transaction_seen(incoming.clone(), 7).unwrap();
        for ours in [funding, back] {
            assert!(wallet.has_paid(&ours.compute_txid()));
        }
        for other in [incoming, payment(ScriptBuf::new(), 1_000, 3)] {
            assert!(!wallet.has_paid(&other.compute_txid()));
        }
    }

    #[test]
    fn everything_can_be_sent() {
        let log = MemoryLog::default();
        let wallet = open(&log);
        let coin = payment(wallet.new_script().unwrap(), 100_000, 0);
        wallet.block_connected(&next_block(wallet.tip().1, 1, vec![coin]), 1).unwrap();
        let script = ScriptBuf::new_p2wsh(&bitcoin::WScriptHash::all_zeros());
        let sweep = wallet.pay_all(&script, FeeRate::from_sat_per_vb(1).unwrap(), &Coins::default()).unwrap();
        assert_eq!(sweep.output.len(), 1);
        assert_eq!(sweep.output[0].script_pubkey, script);
    }
    /// A wallet with these confirmed coins, and channels with anchors.
    fn with(coins: &[u64], channels: u8) -> OnchainWallet {
        let wallet = open(&MemoryLog::default());
        let pay = |(salt, sat): (u32, &u64)| payment(wallet.new_script().unwrap(), *sat, salt);
        let coins: Vec<Transaction> = (0..).zip(coins).map(pay).collect();
        wallet.block_connected(&next_block(wallet.tip().1, 1, coins), 1).unwrap();
        (0..channels).for_each(|channel| wallet.keep_reserve_for(ChannelId([channel; 32])));
        wallet
    }

    fn elsewhere() -> ScriptBuf {
        ScriptBuf::new_p2wsh(&bitcoin::WScriptHash::all_zeros())
    }

    fn to_others(transaction: &Transaction) -> u64 {
        let others = transaction.output.iter().filter(|output| output.script_pubkey == elsewhere());
        others.map(|output| output.value.to_sat()).sum()
    }

    const ONE: FeeRate = FeeRate::from_sat_per_kwu(250);

    #[test]
    fn a_sweep_leaves_the_reserve_of_channels_with_anchors() {
        let wallet = with(&[100_000, 50_000], 2);
        assert_eq!(wallet.reserve(), Amount::from_sat(20_000));
        let sweep = wallet.pay_all(&elsewhere(), ONE, &Coins::default()).unwrap();
        assert!((129_000..130_000).contains(&to_others(&sweep)), "{sweep:?}");
        assert_eq!(sweep.output.iter().map(|output| output.value.to_sat()).filter(|sat| *sat == 20_000).count(), 1);
        // A second one finds nothing that it may take.
        wallet.transaction_seen(sweep, 5).unwrap();
        let again = wallet.pay_all(&elsewhere(), ONE, &Coins::default());
        assert!(matches!(again, Err(WalletError::Reserve { channels: 2, .. })), "{again:?}");
    }

    #[test]
    fn who_insists_may_spend_the_reserve() {
        let wallet = with(&[100_000], 1);
        let insists = Coins { reserve: Reserve::Spend, ..Coins::default() };
        let sweep = wallet.pay_all(&elsewhere(), ONE, &insists).unwrap();
        assert!(to_others(&sweep) > 99_000);
        wallet.transaction_seen(sweep, 5).unwrap();
        assert_eq!(wallet.reserve_missing(), Some(Amount::from_sat(10_000)));
    }

    #[test]
    fn a_payment_leaves_the_reserve() {
        let wallet = with(&[100_000, 60_000], 3);
        let pay = |sat| wallet.pay(&[(elsewhere(), Amount::from_sat(sat))], ONE, &Coins::default());
        assert!(matches!(pay(135_000), Err(WalletError::Reserve { .. })));
        let paid = pay(129_000).unwrap();
        wallet.transaction_seen(paid, 5).unwrap();
        assert_eq!(wallet.reserve_missing(), None);
    }

    #[test]
    fn opening_with_everything_leaves_the_reserve_of_the_new_channel_too() {
        let wallet = with(&[100_000, 60_000], 1);
        let most = wallet.spendable(ONE, &Coins::default(), 1).unwrap();
        assert!((139_000..140_000).contains(&most.to_sat()), "{most}");
        wallet.keep_reserve_for(ChannelId([99; 32]));
        let funding = wallet.pay(&[(elsewhere(), most)], ONE, &Coins::default()).unwrap();
        assert_eq!(to_others(&funding), most.to_sat());
    }

    #[test]
    fn the_reserve_grows_no_further_than_its_limit_and_falls_when_channels_end() {
        let wallet = with(&[200_000], 30);
        assert_eq!(wallet.reserve(), Amount::from_sat(100_000));
        (0..29).for_each(|channel| wallet.keep_no_reserve_for(&ChannelId([channel; 32])));
        assert_eq!(wallet.reserve(), Amount::from_sat(10_000));
    }

    #[test]
    fn a_claim_gets_what_there_is_the_reserve_and_our_own_change_too() {
        let wallet = with(&[30_000], 2);
        let purpose = |claim| (ChannelId([0; 32]), ClaimId(claim));
        let worth = |coins: Vec<FeeCoin>| coins.iter().map(|coin| coin.output.value.to_sat()).sum::<u64>();
        let paid = wallet.pay(&[(elsewhere(), Amount::from_sat(5_000))], ONE, &Coins::default()).unwrap();
        wallet.transaction_seen(paid, 5).unwrap();
        // Unconfirmed, but nobody else can take it back.
        let coins = wallet.set_aside(purpose(1), Amount::from_sat(90_000));
        assert!(worth(coins) > 24_000);
        assert_eq!(worth(wallet.set_aside(purpose(2), Amount::from_sat(1_000))), 0);
    }
}

//! Putting a block on the coins of its chain, and taking it off again.
//!
//! [`connect_block`] checks everything that needs the spent coins and returns what would change. The scripts are left
//! to the caller, as independent jobs for as many threads as it has: the block counts as valid only once every
//! [`ScriptCheck`] has passed. The jobs borrow the block, so none can outlive it (what CVE-2024-52911 was).

use bitcoin::{Amount, Block, BlockHash, OutPoint, Transaction, TxOut, Txid, Wtxid};

use crate::block::BlockContext;
use crate::block_ids::{BlockIds, transaction_ids};
use crate::coins::{BlockCoins, BlockUndo, Coin, CoinChanges, CoinSource, is_unspendable};
use crate::error::{BlockError, ConnectError, DisconnectError, ScriptFailure, TransactionError};
use crate::keyed_hash::IdSet;
use crate::locktime::{MedianTimes, SequenceLocks, UnknownMedianTime, sequence_locks};
use crate::params::{ExceptedRule, Params};
use crate::script::sigops::{SigopRules, sigop_cost};
use crate::script::{ScriptError, ScriptFlags, SpendingTx};
use crate::subsidy::{block_subsidy, checked_sum};
use crate::transaction::{check_transaction_inputs, output_sum};
use crate::weight::MAX_BLOCK_SIGOP_COST;

/// A block that may be put on its chain, once its scripts have passed.
#[derive(Debug, Default)]
pub struct Connected<'b> {
    /// What to write.
    pub changes: CoinChanges,
    /// What to keep, to take the block off again.
    pub undo: BlockUndo,
    /// What the transactions pay together.
    pub fees: Amount,
    /// The signature operation cost of the block.
    pub sigop_cost: u64,
    /// The scripts still to run, one job a transaction. None if each was handed out as it was known.
    pub checks: Vec<ScriptCheck<'b>>,
}

/// The scripts of one transaction, ready to run on any thread.
#[derive(Clone, Debug)]
pub struct ScriptCheck<'b> {
    tx: &'b Transaction,
    txid: Txid,
    wtxid: Wtxid,
    spent: Vec<TxOut>,
    flags: ScriptFlags,
}

/// Takes the scripts of a block's transactions as they become known.
pub trait ScriptJobs<'b> {
    /// Whether the scripts of this transaction have to be run under these rules. The job is not made if not.
    fn is_needed(&self, wtxid: &Wtxid, flags: ScriptFlags) -> bool;

    /// Takes a job.
    fn take(&mut self, check: ScriptCheck<'b>);
}

/// All of them, for later.
impl<'b> ScriptJobs<'b> for Vec<ScriptCheck<'b>> {
    fn is_needed(&self, _: &Wtxid, _: ScriptFlags) -> bool {
        true
    }

    fn take(&mut self, check: ScriptCheck<'b>) {
        self.push(check);
    }
}

impl<'b> ScriptCheck<'b> {
    /// The check of a transaction outside of a block; `spent` in input order.
    pub fn new(tx: &'b Transaction, spent: Vec<TxOut>, flags: ScriptFlags) -> Self {
        Self::identified(tx, transaction_ids(tx), spent, flags)
    }

    /// The same of a transaction that was hashed before.
    pub fn identified(
        tx: &'b Transaction,
        (txid, wtxid): (Txid, Wtxid),
        spent: Vec<TxOut>,
        flags: ScriptFlags,
    ) -> Self {
        Self { tx, txid, wtxid, spent, flags }
    }

    /// The transaction whose inputs are checked.
    pub fn transaction(&self) -> &'b Transaction {
        self.tx
    }

    /// Its id, computed once.
    pub fn txid(&self) -> Txid {
        self.txid
    }

    /// Its id with witnesses, computed once.
    pub fn wtxid(&self) -> Wtxid {
        self.wtxid
    }

    /// The script rules that hold for it.
    pub fn flags(&self) -> ScriptFlags {
        self.flags
    }

    /// The outputs that it spends, in input order.
    pub fn spent_outputs(&self) -> &[TxOut] {
        &self.spent
    }

    /// Runs the scripts of all inputs.
    pub fn run(&self) -> Result<(), ScriptFailure> {
        let spending = self.prepare()?;
        (0..self.tx.input.len()).try_for_each(|input| self.run_input(&spending, input))
    }

    /// Hashes what all inputs share, so that the inputs of a large transaction can be run apart by
    /// [`run_input`](Self::run_input).
    pub fn prepare(&self) -> Result<SpendingTx<'_>, ScriptFailure> {
        let inputs = self.tx.input.len();
        SpendingTx::new(self.tx, self.spent.as_slice())
            .map_err(|_| self.failure(self.spent.len(), ScriptError::NoSuchInput { index: self.spent.len(), inputs }))
    }

    /// Runs the scripts of one input.
    pub fn run_input(&self, spending: &SpendingTx, input: usize) -> Result<(), ScriptFailure> {
        spending.verify_input(input, self.flags).map_err(|cause| self.failure(input, cause))
    }

    fn failure(&self, input: usize, cause: ScriptError) -> ScriptFailure {
        ScriptFailure { txid: self.txid, input, cause }
    }
}

/// The script rules that hold in a block.
///
/// P2SH, witness and taproot hold in every block but the named exceptions, long before they were activated: no other
/// block has ever broken them.
pub fn script_flags(height: u32, block: BlockHash, params: &Params) -> ScriptFlags {
    let mut flags = if params.is_excepted(block, ExceptedRule::P2sh) {
        ScriptFlags::NONE
    } else if params.is_excepted(block, ExceptedRule::Taproot) {
        ScriptFlags::P2SH | ScriptFlags::WITNESS
    } else {
        ScriptFlags::P2SH | ScriptFlags::WITNESS | ScriptFlags::TAPROOT
    };
    let active = params.activation;
    for (since, flag) in [
        (active.bip66, ScriptFlags::DERSIG),
        (active.bip65, ScriptFlags::CHECKLOCKTIMEVERIFY),
        (active.csv, ScriptFlags::CHECKSEQUENCEVERIFY),
        (active.segwit, ScriptFlags::NULLDUMMY),
    ] {
        if height >= since {
            flags |= flag;
        }
    }
    flags
}

/// The rules that need the coins which a block spends. The block must have passed
/// [`check_block`](crate::check_block) and [`check_block_in_context`](crate::check_block_in_context).
///
/// `source` is the set of coins after the block before, `times` the median times of the chain before. The genesis
/// block changes nothing: its output was never spendable.
pub fn connect_block<'b, S: CoinSource, M: MedianTimes + ?Sized>(
    block: &'b Block,
    context: &BlockContext,
    source: &S,
    times: &M,
    params: &Params,
) -> Result<Connected<'b>, ConnectError<S::Error>> {
    let mut checks = Vec::new();
    let ids = BlockIds::of(block);
    let connected = connect_identified(block, &ids, context, source, times, params, &mut checks)?;
    Ok(Connected { checks, ..connected })
}

/// [`connect_block`] of a block whose transactions were hashed before. Each job is handed out to `jobs` once all that it needs
/// is known, so that it can run while the transactions after it are looked at; one that fails later leaves it without meaning.
pub fn connect_identified<'b, S: CoinSource, M: MedianTimes + ?Sized>(
    block: &'b Block,
    ids: &BlockIds,
    context: &BlockContext,
    source: &S,
    times: &M,
    params: &Params,
    jobs: &mut dyn ScriptJobs<'b>,
) -> Result<Connected<'b>, ConnectError<S::Error>> {
    if context.height == 0 {
        return Ok(Connected::default());
    }
    let hash = block.block_hash();
    let flags = script_flags(context.height, hash, params);
    let sigop_rules = sigop_rules(flags);
    let txids = ids.txids();

    let outside = outside_inputs(block, txids);
    let created: usize = block.txdata.iter().map(|tx| tx.output.len()).sum();
    let mut coins = BlockCoins::with_capacity(outside.len().saturating_add(created));
    coins.load(&outside, source).map_err(ConnectError::Source)?;
    let may_overwrite = params.is_excepted(hash, ExceptedRule::DuplicateCoinbase);
    if overwriting_is_possible(params) {
        refuse_overwriting(block, txids, &mut coins, source, may_overwrite)?;
    }

    let mut connected = Connected::default();
    for (index, (tx, (txid, wtxid))) in block.txdata.iter().zip(txids.iter().zip(ids.wtxids())).enumerate() {
        let is_coinbase = index == 0;
        let refuse = |cause| BlockError::Transaction { txid: *txid, cause };
        if !is_coinbase {
            let spent: Vec<Option<&Coin>> = tx.input.iter().map(|input| coins.get(&input.previous_output)).collect();
            let fee = check_transaction_inputs(tx, &spent, context.height).map_err(refuse)?;
            connected.fees = checked_sum(connected.fees, fee).ok_or(BlockError::FeeSum)?;
            if context.height >= params.activation.csv {
                let heights: Vec<u32> = spent.iter().flatten().map(|coin| coin.height).collect();
                let locks: SequenceLocks = sequence_locks(tx, &heights, times)
                    .map_err(|UnknownMedianTime(height)| ConnectError::UnknownMedianTime { height })?;
                if !locks.are_open(context.height, context.parent_median_time) {
                    return Err(refuse(TransactionError::SequenceLocked).into());
                }
            }
        }
        let spent = if is_coinbase { Vec::new() } else { take_inputs(tx, &mut coins).map_err(refuse)? };
        connected.sigop_cost += sigop_cost(tx, spent.iter().map(|coin| &coin.output), sigop_rules);
        if connected.sigop_cost > MAX_BLOCK_SIGOP_COST {
            let cost = connected.sigop_cost;
            return Err(BlockError::SigopCost { cost, limit: MAX_BLOCK_SIGOP_COST }.into());
        }
        if !is_coinbase {
            if jobs.is_needed(wtxid, flags) {
                let outputs = spent.iter().map(|coin| coin.output.clone()).collect();
                jobs.take(ScriptCheck { tx, txid: *txid, wtxid: *wtxid, spent: outputs, flags });
            }
            connected.undo.spent.push(spent);
        }
        for (outpoint, coin) in created_coins(tx, *txid, context.height, is_coinbase) {
            if let Some(overwritten) = coins.put(outpoint, coin) {
                connected.undo.overwritten.push((outpoint, overwritten));
            }
        }
    }
    check_coinbase_value(block, context.height, connected.fees, params)?;
    connected.changes = coins.into_changes();
    Ok(connected)
}

/// What taking a block off its chain changes: exactly the reverse of what putting it on has changed.
///
/// `source` is the set of coins after the block. If that is not what the block has left, nothing is to be trusted and
/// the error says which output shows it.
pub fn disconnect_block<S: CoinSource>(
    block: &Block,
    height: u32,
    undo: BlockUndo,
    source: &S,
) -> Result<CoinChanges, DisconnectError<S::Error>> {
    if height == 0 {
        return Ok(CoinChanges::default());
    }
    let others = block.txdata.len().saturating_sub(1);
    if undo.spent.len() != others {
        return Err(DisconnectError::TransactionCount { undo: undo.spent.len(), block: others });
    }
    let txids: Vec<Txid> = block.txdata.iter().map(Transaction::compute_txid).collect();
    let mut outpoints = outside_inputs(block, &txids);
    for (index, (tx, txid)) in block.txdata.iter().zip(&txids).enumerate() {
        outpoints.extend(created_coins(tx, *txid, height, index == 0).map(|(outpoint, _)| outpoint));
    }
    let mut coins = BlockCoins::with_capacity(outpoints.len());
    coins.load(&outpoints, source).map_err(DisconnectError::Source)?;

    // The coinbase spent nothing; every other transaction has its list.
    let spent = std::iter::once(Vec::new()).chain(undo.spent);
    let in_order: Vec<_> = block.txdata.iter().zip(&txids).zip(spent).enumerate().collect();
    for (index, ((tx, txid), spent)) in in_order.into_iter().rev() {
        let is_coinbase = index == 0;
        for (outpoint, created) in created_coins(tx, *txid, height, is_coinbase) {
            if coins.take(&outpoint).as_ref() != Some(&created) {
                return Err(DisconnectError::CreatedCoinDiffers(outpoint));
            }
        }
        if is_coinbase {
            continue;
        }
        if spent.len() != tx.input.len() {
            let (undo, inputs) = (spent.len(), tx.input.len());
            return Err(DisconnectError::InputCount { txid: *txid, undo, inputs });
        }
        for (input, coin) in tx.input.iter().zip(spent) {
            if coins.put(input.previous_output, coin).is_some() {
                return Err(DisconnectError::SpentCoinExists(input.previous_output));
            }
        }
    }
    for (outpoint, coin) in undo.overwritten {
        if coins.put(outpoint, coin).is_some() {
            return Err(DisconnectError::SpentCoinExists(outpoint));
        }
    }
    Ok(coins.into_changes())
}

/// What a block that was connected before has made of each coin that it touched, in order: of two changes of a coin the later
/// one holds. Carried out on the coins after any of the blocks before it, or on some that are ahead, and followed by all
/// blocks up to the tip in the same way, it leads to the coins of the tip. Nothing is checked.
pub fn coins_left_by(block: &Block, height: u32) -> impl Iterator<Item = (OutPoint, Option<Coin>)> + '_ {
    let transactions = block.txdata.iter().enumerate().filter(move |_| height > 0);
    transactions.flat_map(move |(index, tx)| {
        let is_coinbase = index == 0;
        let spent = tx.input.iter().filter(move |_| !is_coinbase).map(|input| (input.previous_output, None));
        let created = created_coins(tx, tx.compute_txid(), height, is_coinbase);
        spent.chain(created.map(|(outpoint, coin)| (outpoint, Some(coin))))
    })
}

fn sigop_rules(flags: ScriptFlags) -> SigopRules {
    if flags.contains(ScriptFlags::P2SH | ScriptFlags::WITNESS) {
        SigopRules::P2shAndWitness
    } else if flags.contains(ScriptFlags::P2SH) {
        SigopRules::P2sh
    } else {
        SigopRules::Legacy
    }
}

/// What the block's inputs refer to, outputs of the block itself apart.
fn outside_inputs(block: &Block, txids: &[Txid]) -> Vec<OutPoint> {
    let inside: IdSet<&Txid> = txids.iter().collect();
    let spending = block.txdata.iter().skip(1).flat_map(|tx| &tx.input);
    spending.map(|input| input.previous_output).filter(|outpoint| !inside.contains(&outpoint.txid)).collect()
}

/// The coins that a transaction creates.
fn created_coins(
    tx: &Transaction,
    txid: Txid,
    height: u32,
    is_coinbase: bool,
) -> impl Iterator<Item = (OutPoint, Coin)> + '_ {
    // A block holds far fewer outputs than 32 bits count.
    (0u32..)
        .zip(&tx.output)
        .filter(|(_, output)| !is_unspendable(&output.script_pubkey))
        .map(move |(vout, output)| (OutPoint { txid, vout }, Coin { output: output.clone(), height, is_coinbase }))
}

fn take_inputs(tx: &Transaction, coins: &mut BlockCoins) -> Result<Vec<Coin>, TransactionError> {
    let take = |outpoint: OutPoint| coins.take(&outpoint).ok_or(TransactionError::MissingInput(outpoint));
    tx.input.iter().map(|input| input.previous_output).map(take).collect()
}

/// Where every coinbase carries its height (BIP 34), no two transactions can ever have the same id, and looking for
/// duplicates (BIP 30) would only cost time.
fn overwriting_is_possible(params: &Params) -> bool {
    params.activation.bip34 > 1
}

/// BIP 30: no output of the block may exist already and be unspent.
fn refuse_overwriting<S: CoinSource>(
    block: &Block,
    txids: &[Txid],
    coins: &mut BlockCoins,
    source: &S,
    excepted: bool,
) -> Result<(), ConnectError<S::Error>> {
    let outpoints: Vec<OutPoint> = block
        .txdata
        .iter()
        .zip(txids)
        .flat_map(|(tx, txid)| (0u32..).zip(&tx.output).map(|(vout, _)| OutPoint { txid: *txid, vout }))
        .collect();
    coins.load(&outpoints, source).map_err(ConnectError::Source)?;
    match outpoints.into_iter().find(|outpoint| coins.get(outpoint).is_some()) {
        Some(outpoint) if !excepted => Err(BlockError::OverwritesCoin(outpoint).into()),
        Some(_) | None => Ok(()),
    }
}

fn check_coinbase_value(block: &Block, height: u32, fees: Amount, params: &Params) -> Result<(), BlockError> {
    let allowed = checked_sum(block_subsidy(height, params), fees).ok_or(BlockError::FeeSum)?;
    let Some(coinbase) = block.txdata.first() else { return Err(BlockError::NoCoinbase) };
    let paid =
        output_sum(coinbase).map_err(|cause| BlockError::Transaction { txid: coinbase.compute_txid(), cause })?;
    if paid > allowed { Err(BlockError::CoinbaseOverpays { paid, allowed }) } else { Ok(()) }
}

//! Who waits until something stands in the chain: one task each, that searches the chain from where its caller says and goes on
//! with every new block.
//!
//! Promises: what is in the chain is found however late the caller comes, and told again after a reorganisation; nothing waits for
//! a caller that does not read; those who wait are few ([`MAX_CHAIN_WATCHES`]), for each reads every block.

mod progress;

use std::sync::{Arc, LazyLock};

use async_trait::async_trait;
use bitcoin::{
    Block, BlockHash, PublicKey, Script, ScriptBuf, TxIn, WPubkeyHash, hashes::Hash as _, script::Instruction,
};
use leyden_channels::types::Height;
use leyden_node::{Node, NodeError, Notice};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio_stream::wrappers::ReceiverStream;

use self::progress::Progress;
use super::chain::{ChainFacade, node_error};
use crate::{
    api::{ApiError, ChainSight, ChainWatch, FoundSpend, FoundTx, Updates, WantedSpend, WantedTx},
    limits::MAX_CHAIN_WATCHES,
};

/// Of the process, whatever networks it is on.
static PLACES: LazyLock<Arc<Semaphore>> = LazyLock::new(|| Arc::new(Semaphore::new(MAX_CHAIN_WATCHES)));

/// What may stand in a block.
trait Wanted: Send + Sync + 'static {
    type Found: Clone + Send + Sync + 'static;

    fn find(&self, block: &Arc<Block>, hash: BlockHash, height: u32) -> Option<Self::Found>;
}

impl Wanted for WantedTx {
    type Found = FoundTx;

    fn find(&self, block: &Arc<Block>, hash: BlockHash, height: u32) -> Option<FoundTx> {
        let pays = |script: &Script| script == self.script.as_script();
        let mut transactions = (0..).zip(&block.txdata);
        let (index, transaction) = transactions.find(|(_, transaction)| {
            transaction.output.iter().any(|output| pays(&output.script_pubkey))
                && self.txid.is_none_or(|txid| transaction.compute_txid() == txid)
        })?;
        Some(FoundTx {
            transaction: transaction.clone(),
            index,
            block: Arc::clone(block),
            hash,
            height: Height(height),
        })
    }
}

impl Wanted for WantedSpend {
    type Found = FoundSpend;

    fn find(&self, block: &Arc<Block>, _: BlockHash, height: u32) -> Option<FoundSpend> {
        let spends = |input: &TxIn| match self.outpoint {
            Some(outpoint) => input.previous_output == outpoint,
            None => spent_scripts(input).contains(&self.script),
        };
        block.txdata.iter().find_map(|spender| {
            let (input, _) = (0..).zip(&spender.input).find(|(_, input)| spends(input))?;
            Some(FoundSpend { spender: spender.clone(), input, height: Height(height) })
        })
    }
}

/// The scripts that an input may have satisfied, as it shows them itself: those of a hash, by what it was the hash of.
fn spent_scripts(input: &TxIn) -> Vec<ScriptBuf> {
    let mut scripts = Vec::new();
    let pushed = input.script_sig.instructions().filter_map(Result::ok);
    if let Some(Instruction::PushBytes(last)) = pushed.last() {
        let bytes = last.as_bytes();
        scripts.push(Script::from_bytes(bytes).to_p2sh());
        scripts.extend(PublicKey::from_slice(bytes).ok().map(|key| ScriptBuf::new_p2pkh(&key.pubkey_hash())));
    }
    if let Some(last) = input.witness.last() {
        scripts.push(Script::from_bytes(last).to_p2wsh());
        if input.witness.len() == 2 {
            scripts.push(ScriptBuf::new_p2wpkh(&WPubkeyHash::hash(last)));
        }
    }
    scripts
}

#[async_trait]
impl ChainWatch for ChainFacade {
    async fn confirmations(&self, wanted: WantedTx) -> Result<Updates<ChainSight<FoundTx>>, ApiError> {
        let progress = Progress::new(wanted.from.0, wanted.confirmations);
        watch(self.node().clone(), wanted, progress)
    }

    async fn spends(&self, wanted: WantedSpend) -> Result<Updates<ChainSight<FoundSpend>>, ApiError> {
        let progress = Progress::new(wanted.from.0, 1);
        watch(self.node().clone(), wanted, progress)
    }
}

fn watch<W: Wanted>(
    node: Node,
    wanted: W,
    progress: Progress<W::Found>,
) -> Result<Updates<ChainSight<W::Found>>, ApiError> {
    let place = Arc::clone(&PLACES).try_acquire_owned().map_err(|_| {
        ApiError::unavailable(format!(
            "{MAX_CHAIN_WATCHES} callers wait for something in the chain already: end some of them"
        ))
    })?;
    let (sender, receiver) = mpsc::channel(1);
    tokio::spawn(follow(node, wanted, progress, sender, place));
    Ok(Box::pin(ReceiverStream::new(receiver)))
}

/// Until nothing more will come, or the caller has gone.
async fn follow<W: Wanted>(
    node: Node,
    wanted: W,
    mut progress: Progress<W::Found>,
    sender: mpsc::Sender<Result<ChainSight<W::Found>, ApiError>>,
    _place: OwnedSemaphorePermit,
) {
    let search = async {
        let mut notices = node.subscribe(Some(node.tip().hash))?;
        loop {
            if !advance(&node, &wanted, &mut progress, &sender).await? || progress.is_over(node.tip().height) {
                return Ok(());
            }
            while !matches!(notices.next().await?, Notice::BlockConnected { .. } | Notice::BlockDisconnected { .. }) {}
        }
    };
    let ended: Result<(), NodeError> = tokio::select! {
        ended = search => ended,
        () = sender.closed() => return,
    };
    if let Err(error) = ended {
        // Who has gone does not hear it.
        let _ = sender.send(Err(node_error(error))).await;
    }
}

/// As far as the chain goes now. Whether the caller is still there.
async fn advance<W: Wanted>(
    node: &Node,
    wanted: &W,
    progress: &mut Progress<W::Found>,
    sender: &mpsc::Sender<Result<ChainSight<W::Found>, ApiError>>,
) -> Result<bool, NodeError> {
    if progress.go_back(|height| node.block_hash(height)) && sender.send(Ok(ChainSight::Gone)).await.is_err() {
        return Ok(false);
    }
    while let Some(height) = progress.next(node.tip().height) {
        // The chain may have become another one since: the next look finds that out.
        let Some(hash) = node.block_hash(height) else { break };
        let Some(block) = node.block(hash).await? else { break };
        progress.searched(height, hash, wanted.find(&block, hash, height));
    }
    match progress.next_to_tell(node.tip().height) {
        Some(found) => Ok(sender.send(Ok(ChainSight::Found(found))).await.is_ok()),
        None => Ok(true),
    }
}

#[cfg(test)]
mod tests {
    use bitcoin::{
        Amount, OutPoint, Sequence, Transaction, TxOut, Witness, absolute::LockTime, constants::genesis_block,
        script::PushBytesBuf, transaction::Version,
    };

    use super::*;

    fn spending(outpoint: OutPoint, script_sig: ScriptBuf, witness: Vec<Vec<u8>>, pays: &ScriptBuf) -> Transaction {
        Transaction {
            version: Version::TWO,
            lock_time: LockTime::ZERO,
            input: vec![TxIn {
                previous_output: outpoint,
                script_sig,
                sequence: Sequence::MAX,
                witness: Witness::from_slice(&witness),
            }],
            output: vec![TxOut { value: Amount::from_sat(1_000), script_pubkey: pays.clone() }],
        }
    }

    fn block(transactions: Vec<Transaction>) -> Arc<Block> {
        let mut block = genesis_block(bitcoin::Network::Regtest);
        block.txdata.extend(transactions);
        Arc::new(block)
    }

    #[test]
    fn a_transaction_is_found_by_its_script_and_its_id() {
        let paid = ScriptBuf::new_op_return([1]);
        let transaction = spending(OutPoint::null(), ScriptBuf::new(), Vec::new(), &paid);
        let txid = transaction.compute_txid();
        let block = block(vec![transaction]);
        let found = |txid, script: &ScriptBuf| {
            let wanted = WantedTx { txid, script: script.clone(), confirmations: 1, from: Height(1) };
            wanted.find(&block, block.block_hash(), 7).map(|found| (found.index, found.height))
        };
        assert_eq!(found(Some(txid), &paid), Some((1, Height(7))));
        assert_eq!(found(None, &paid), Some((1, Height(7))));
        assert_eq!(found(Some(txid), &ScriptBuf::new()), None, "its output pays to something else");
        assert_eq!(found(Some(block.txdata[0].compute_txid()), &paid), None);
    }

    #[test]
    fn a_spend_is_found_by_its_outpoint_or_by_what_it_shows_of_the_script() {
        let secret = secp256k1::SecretKey::from_slice(&[7; 32]).unwrap();
        let key = PublicKey::new(secret.public_key(secp256k1::SECP256K1));
        let pushed =
            |bytes: Vec<u8>| ScriptBuf::builder().push_slice(PushBytesBuf::try_from(bytes).unwrap()).into_script();
        let script = ScriptBuf::from_bytes(vec![0x51]);
        let nobody = ScriptBuf::new_op_return([1]);
        let outpoint = OutPoint { txid: genesis_block(bitcoin::Network::Regtest).txdata[0].compute_txid(), vout: 3 };
        let none = ScriptBuf::new;
        let cases = [
            (script.to_p2wsh(), none(), vec![vec![1], vec![0x51]]),
            (ScriptBuf::new_p2wpkh(&key.wpubkey_hash().unwrap()), none(), vec![vec![1], key.to_bytes()]),
            (script.to_p2sh(), pushed(vec![0x51]), Vec::new()),
            (ScriptBuf::new_p2pkh(&key.pubkey_hash()), pushed(key.to_bytes()), Vec::new()),
        ];
        for (script, script_sig, witness) in cases {
            let block = block(vec![spending(outpoint, script_sig, witness, &nobody)]);
            let found = |outpoint, script: &ScriptBuf| {
                let wanted = WantedSpend { outpoint, script: script.clone(), from: Height(1) };
                wanted.find(&block, block.block_hash(), 9).map(|found| (found.input, found.height))
            };
            assert_eq!(found(None, &script), Some((0, Height(9))), "{script}");
            assert_eq!(found(Some(outpoint), &nobody), Some((0, Height(9))));
            assert_eq!(found(None, &nobody), None);
            assert_eq!(found(Some(OutPoint { vout: 4, ..outpoint }), &script), None);
        }
    }
}

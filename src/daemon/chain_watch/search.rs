//! Blocks are searched for all who wait: one pass over a block for everybody who wants something of it at that moment.
//!
//! ```text
//!   what is wanted of which block ──► those of the same block together ──► one pass, off the runtime's workers ──► each its answer
//!                                          the highest block and the lowest one in turn
//! ```
//!
//! Promises: what a block costs does not grow with those who wait for it; whoever looks through old blocks keeps nobody from the
//! newest one, nor the newest from him.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use bitcoin::{
    Block, BlockHash, OutPoint, PublicKey, Script, ScriptBuf, Transaction, TxIn, Txid, WPubkeyHash,
    hashes::Hash as _,
    script::{Instruction, PushBytes},
};
use leyden_node::Node;
use tokio::sync::{mpsc, oneshot};

use super::super::chain::node_error;
use crate::{api::ApiError, limits::MAX_CHAIN_WATCHES};

/// What may stand in a block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Wanted {
    /// A transaction that pays to a script, this one or any.
    Payment { script: ScriptBuf, txid: Option<Txid> },
    /// The spending of an output.
    Spend(OutPoint),
    /// The spending of any output with this script, as far as its spender shows that.
    SpendOf(ScriptBuf),
}

/// Where it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Hit {
    pub transaction: Arc<Transaction>,
    /// Of the transaction in the block.
    pub index: u32,
    /// Of the input that spends.
    pub input: u32,
}

/// What a search of one block comes to; `None`: there is no such block any more.
type Answer = Result<Option<Option<Hit>>, ApiError>;

struct Question {
    wanted: Arc<Wanted>,
    height: u32,
    hash: BlockHash,
    answer: oneshot::Sender<Answer>,
}

/// Who searches the blocks of one chain. Clones are the same.
#[derive(Clone)]
pub(in crate::daemon) struct Search(mpsc::Sender<Question>);

impl Search {
    /// Ends with the last clone.
    pub(in crate::daemon) fn start(node: Node) -> Self {
        // Each who waits has one question at a time.
        let (sender, questions) = mpsc::channel(MAX_CHAIN_WATCHES);
        tokio::spawn(answer_all(node, questions));
        Self(sender)
    }

    /// Whether it stands in a block. The outer `None`: the block is gone.
    pub(super) async fn of(&self, wanted: Arc<Wanted>, height: u32, hash: BlockHash) -> Answer {
        let (answer, answered) = oneshot::channel();
        let ended = || ApiError::unavailable("the daemon is stopping; try again when it runs");
        self.0.send(Question { wanted, height, hash, answer }).await.map_err(|_| ended())?;
        answered.await.map_err(|_| ended())?
    }
}

async fn answer_all(node: Node, mut questions: mpsc::Receiver<Question>) {
    let mut waiting: BTreeMap<(u32, BlockHash), Vec<Question>> = BTreeMap::new();
    // Those who ask for the same block a moment later do not have it read again.
    let mut last: Option<(BlockHash, Arc<Block>)> = None;
    let mut is_highest_next = true;
    loop {
        if waiting.is_empty() {
            let Some(question) = questions.recv().await else { return };
            waiting.entry((question.height, question.hash)).or_default().push(question);
            // Many wake up for the same block.
            tokio::task::yield_now().await;
        }
        while let Ok(question) = questions.try_recv() {
            waiting.entry((question.height, question.hash)).or_default().push(question);
        }
        let next = if is_highest_next { waiting.pop_last() } else { waiting.pop_first() };
        let Some(((_, hash), mut asked)) = next else { continue };
        asked.retain(|question| !question.answer.is_closed());
        if asked.is_empty() {
            continue;
        }
        is_highest_next = !is_highest_next;
        let known = last.take().filter(|(known, _)| *known == hash).map(|(_, block)| block);
        let block = match known {
            Some(block) => Ok(Some(block)),
            None => node.block(hash).await.map_err(node_error),
        };
        match block {
            Ok(Some(block)) => {
                last = Some((hash, Arc::clone(&block)));
                let wanted: Vec<Arc<Wanted>> = asked.iter().map(|question| Arc::clone(&question.wanted)).collect();
                let hits = tokio::task::spawn_blocking(move || look(&block, &wanted)).await;
                let Ok(hits) = hits else { continue };
                for (question, hit) in asked.into_iter().zip(hits) {
                    // Who has gone does not hear it.
                    let _ = question.answer.send(Ok(Some(hit)));
                }
            }
            absent => {
                let answer: Answer = absent.map(|_| None);
                for question in asked {
                    let _ = question.answer.send(answer.clone());
                }
            }
        }
    }
}

/// What of all that is wanted stands in the block, and where first, in one pass.
fn look(block: &Block, wanted: &[Arc<Wanted>]) -> Vec<Option<Hit>> {
    let mut payments: HashMap<&Script, Vec<usize>> = HashMap::new();
    let mut spends: HashMap<OutPoint, Vec<usize>> = HashMap::new();
    let mut spends_of: HashMap<&Script, Vec<usize>> = HashMap::new();
    for (number, wanted) in wanted.iter().enumerate() {
        match wanted.as_ref() {
            Wanted::Payment { script, .. } => payments.entry(script).or_default().push(number),
            Wanted::Spend(outpoint) => spends.entry(*outpoint).or_default().push(number),
            Wanted::SpendOf(script) => spends_of.entry(script).or_default().push(number),
        }
    }
    let mut hits: Vec<Option<Hit>> = vec![None; wanted.len()];
    for (index, transaction) in (0..).zip(&block.txdata) {
        let mut held: Option<Arc<Transaction>> = None;
        let mut found = |number: &usize, input: u32| {
            if let Some(hit) = hits.get_mut(*number).filter(|hit| hit.is_none()) {
                let transaction = Arc::clone(held.get_or_insert_with(|| Arc::new(transaction.clone())));
                *hit = Some(Hit { transaction, index, input });
            }
        };
        let mut own_id: Option<Txid> = None;
        for number in
            transaction.output.iter().filter_map(|output| payments.get(output.script_pubkey.as_script())).flatten()
        {
            let is_it = match wanted.get(*number).map(Arc::as_ref) {
                Some(Wanted::Payment { txid: Some(txid), .. }) => {
                    *own_id.get_or_insert_with(|| transaction.compute_txid()) == *txid
                }
                Some(Wanted::Payment { txid: None, .. } | Wanted::Spend(_) | Wanted::SpendOf(_)) | None => true,
            };
            if is_it {
                found(number, 0);
            }
        }
        for (place, input) in (0..).zip(&transaction.input) {
            spends.get(&input.previous_output).into_iter().flatten().for_each(|number| found(number, place));
            if !spends_of.is_empty() {
                let shown = shown_scripts(input);
                let by_script = shown.iter().filter_map(|script| spends_of.get(script.as_script())).flatten();
                by_script.for_each(|number| found(number, place));
            }
        }
    }
    hits
}

/// The scripts that an input may have satisfied, as it shows them itself: those of a hash, by what it was the hash of.
fn shown_scripts(input: &TxIn) -> Vec<ScriptBuf> {
    let mut scripts = Vec::new();
    if let Some(pushed) = last_push(&input.script_sig) {
        let bytes = pushed.as_bytes();
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

fn last_push(script: &Script) -> Option<&PushBytes> {
    match script.instructions().filter_map(Result::ok).last() {
        Some(Instruction::PushBytes(bytes)) => Some(bytes),
        Some(Instruction::Op(_)) | None => None,
    }
}

#[cfg(test)]
mod tests {
    use bitcoin::{
        Amount, Sequence, TxOut, Witness, absolute::LockTime, constants::genesis_block, script::PushBytesBuf,
        transaction::Version,
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

    fn block(transactions: Vec<Transaction>) -> Block {
        let mut block = genesis_block(bitcoin::Network::Regtest);
        block.txdata.extend(transactions);
        block
    }

    /// Where each stands: transaction and input.
    fn places(block: &Block, wanted: Vec<Wanted>) -> Vec<Option<(u32, u32)>> {
        let wanted: Vec<_> = wanted.into_iter().map(Arc::new).collect();
        let place = |hit: Hit| {
            assert_eq!(*hit.transaction, block.txdata[hit.index as usize]);
            (hit.index, hit.input)
        };
        look(block, &wanted).into_iter().map(|hit| hit.map(place)).collect()
    }

    #[test]
    fn a_transaction_is_found_by_its_script_and_its_id() {
        let paid = ScriptBuf::new_op_return([1]);
        let transaction = spending(OutPoint::null(), ScriptBuf::new(), Vec::new(), &paid);
        let (txid, coinbase) = (transaction.compute_txid(), genesis_block(bitcoin::Network::Regtest).txdata[0].clone());
        let block = block(vec![transaction]);
        let payment = |txid, script: &ScriptBuf| Wanted::Payment { script: script.clone(), txid };
        let found = places(
            &block,
            vec![
                payment(Some(txid), &paid),
                payment(None, &paid),
                payment(Some(txid), &ScriptBuf::new()),
                payment(Some(coinbase.compute_txid()), &paid),
            ],
        );
        assert_eq!(found, [Some((1, 0)), Some((1, 0)), None, None]);
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
            let wanted = vec![
                Wanted::SpendOf(script.clone()),
                Wanted::Spend(outpoint),
                Wanted::SpendOf(nobody.clone()),
                Wanted::Spend(OutPoint { vout: 4, ..outpoint }),
            ];
            assert_eq!(places(&block, wanted), [Some((1, 0)), Some((1, 0)), None, None], "{script}");
        }
    }

    #[test]
    fn a_transaction_that_many_wait_for_is_held_once() {
        let paid = ScriptBuf::new_op_return([1]);
        let outpoint = OutPoint { txid: Txid::from_byte_array([9; 32]), vout: 0 };
        let block = block(vec![spending(outpoint, ScriptBuf::new(), vec![vec![1], vec![0x51; 33]], &paid)]);
        let wanted = || Arc::new(Wanted::Payment { script: paid.clone(), txid: None });
        let hits: Vec<_> =
            look(&block, &[wanted(), wanted(), wanted()]).into_iter().map(|hit| hit.unwrap().transaction).collect();
        assert!(Arc::ptr_eq(&hits[0], &hits[1]) && Arc::ptr_eq(&hits[0], &hits[2]));
    }
}

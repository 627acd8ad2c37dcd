//! Strangers whose transactions fill the blocks at whatever rate is asked for.

use std::{collections::VecDeque, sync::Mutex};

use bitcoin::{
    Address, Amount, Block, CompressedPublicKey, EcdsaSighashType, Network, OutPoint, PrivateKey, ScriptBuf, Sequence,
    Transaction, TxIn, TxOut, Witness,
    absolute::LockTime,
    consensus::{deserialize, serialize},
    script::PushBytesBuf,
    secp256k1::{Message, Secp256k1},
    sighash::SighashCache,
    transaction::Version,
};
use leyden_client::cluster::DaemonProcess;
use leyden_proto::leyden::{
    GetBlockRequest, GetMempoolRequest, SubmitTransactionRequest, get_block_request::Block as Which,
};

use super::chain;

/// Transactions that wait for each block; twenty fill it.
const WAITING: u64 = 24;
/// What each of them carries.
const DATA: usize = 48_500;
/// More than wait, so that those that were mined can be spent, also when others wait long or are thrown out.
const PURSES: u32 = 72;

/// Coins of the crowd: a transaction spends one and gives it back smaller.
pub struct Crowd {
    key: PrivateKey,
    public: CompressedPublicKey,
    purses: Mutex<VecDeque<(OutPoint, Amount)>>,
}

impl Crowd {
    /// Mines what the crowd will spend, once it is mature.
    pub async fn start(miner: &DaemonProcess) -> Self {
        let key = PrivateKey::from_slice(&[7; 32], Network::Regtest).unwrap();
        let public = CompressedPublicKey::from_private_key(&Secp256k1::new(), &key).unwrap();
        let address = Address::p2wpkh(&public, Network::Regtest).to_string();
        miner.mine(PURSES, Some(&address)).await.unwrap();
        let height = chain::height(miner).await;
        let mut purses = VecDeque::new();
        for height in height + 1 - PURSES..=height {
            let request = GetBlockRequest { block: Some(Which::Height(height)), include_raw: true };
            let block = miner.client().unwrap().chain().get_block(request).await.unwrap().into_inner();
            let block: Block = deserialize(&block.raw_block).unwrap();
            let coinbase = &block.txdata[0];
            purses.push_back((OutPoint::new(coinbase.compute_txid(), 0), coinbase.output[0].value));
        }
        Self { key, public, purses: Mutex::new(purses) }
    }

    /// Lets as many transactions wait as fill the next block, new ones at `rate` satoshi a virtual byte.
    pub async fn crowd(&self, miner: &DaemonProcess, rate: u64) {
        let request = GetMempoolRequest::default();
        let waiting = miner.client().unwrap().chain().get_mempool(request).await.unwrap().into_inner();
        for _ in waiting.transaction_count..WAITING {
            let mut refused = None;
            for _ in 0..PURSES {
                let purse = self.purses.lock().unwrap().pop_front().expect("there are purses");
                let transaction = self.spend(purse, rate);
                let request = SubmitTransactionRequest { raw_tx: serialize(&transaction) };
                let answer = miner.client().unwrap().chain().submit_transaction(request).await;
                let is_taken = answer.is_ok();
                refused = answer.err();
                let left = (OutPoint::new(transaction.compute_txid(), 0), transaction.output[0].value);
                // What it would spend waits for a block itself, or was thrown out: another one's turn.
                self.purses.lock().unwrap().push_back(if is_taken { left } else { purse });
                if is_taken {
                    break;
                }
            }
            assert!(refused.is_none(), "no purse can be spent: {refused:?}");
        }
    }

    fn spend(&self, (outpoint, amount): (OutPoint, Amount), rate: u64) -> Transaction {
        let script = ScriptBuf::new_p2wpkh(&self.public.wpubkey_hash());
        let data = PushBytesBuf::try_from(vec![0; DATA]).unwrap();
        let mut transaction = Transaction {
            version: Version::TWO,
            lock_time: LockTime::ZERO,
            input: vec![TxIn {
                previous_output: outpoint,
                script_sig: ScriptBuf::new(),
                sequence: Sequence::MAX,
                witness: Witness::from_slice(&[vec![0; 72], vec![0; 33]]),
            }],
            output: vec![
                TxOut { value: amount, script_pubkey: script.clone() },
                TxOut { value: Amount::ZERO, script_pubkey: ScriptBuf::new_op_return(data) },
            ],
        };
        let left = amount - Amount::from_sat(rate * transaction.vsize() as u64);
        transaction.output[0].value = left;
        let hash =
            SighashCache::new(&transaction).p2wpkh_signature_hash(0, &script, amount, EcdsaSighashType::All).unwrap();
        let signature = Secp256k1::new().sign_ecdsa(&Message::from(hash), &self.key.inner);
        let signature = bitcoin::ecdsa::Signature::sighash_all(signature);
        transaction.input[0].witness = Witness::p2wpkh(&signature, &self.public.0);
        transaction
    }
}

//! A miner outside of the daemon, as cpuminer is one: it asks for work, is told when there is other work, and hands its
//! blocks in.

#![allow(clippy::unwrap_used, clippy::expect_used, unreachable_pub, reason = "tests may panic and share helpers")]

mod harness;

use bitcoin::{
    Amount, Block, CompactTarget, OutPoint, ScriptBuf, Sequence, Transaction, TxIn, TxMerkleNode, TxOut, Witness,
    absolute::LockTime,
    block::{Header, Version},
    consensus::encode::{deserialize_hex, serialize_hex},
    hashes::Hash as _,
    script::Builder,
    transaction,
};
use harness::{Folder, MATURE, assert_calm, bitcoind::BitcoinRpc, chain, mempool, send, tip, wait_for_transaction};
use leyden_client::{
    cluster::{DaemonProcess, wait_until},
    demo::NOBODY,
};
use serde_json::{Value, json};

/// What the miner knows of the protocol.
struct Miner {
    rpc: BitcoinRpc,
    script: ScriptBuf,
}

impl Miner {
    async fn work(&self) -> Value {
        self.rpc.call("getblocktemplate", json!([{ "capabilities": ["longpoll"], "rules": ["segwit"] }])).await
    }

    /// Work that is other than this.
    async fn other_work(&self, than: &Value) -> Value {
        let request = json!([{ "longpollid": than["longpollid"], "rules": ["segwit"] }]);
        self.rpc.call("getblocktemplate", request).await
    }

    /// The coinbase has no witness: the daemon knows what belongs there.
    fn search(&self, work: &Value) -> Block {
        let number = |name: &str| work[name].as_u64().unwrap();
        let text = |name: &str| work[name].as_str().unwrap();
        let commitment = ScriptBuf::from_hex(text("default_witness_commitment")).unwrap();
        let value = Amount::from_sat(number("coinbasevalue"));
        let coinbase = Transaction {
            version: transaction::Version::ONE,
            lock_time: LockTime::ZERO,
            input: vec![TxIn {
                previous_output: OutPoint::null(),
                script_sig: Builder::new().push_int(number("height") as i64).push_slice(b"a miner").into_script(),
                sequence: Sequence::MAX,
                witness: Witness::new(),
            }],
            output: vec![
                TxOut { value, script_pubkey: self.script.clone() },
                TxOut { value: Amount::ZERO, script_pubkey: commitment },
            ],
        };
        let others = work["transactions"].as_array().unwrap().iter();
        let others = others.map(|one| deserialize_hex(one["data"].as_str().unwrap()).unwrap());
        let header = Header {
            version: Version::from_consensus(number("version") as i32),
            prev_blockhash: text("previousblockhash").parse().unwrap(),
            merkle_root: TxMerkleNode::all_zeros(),
            time: number("curtime") as u32,
            bits: CompactTarget::from_unprefixed_hex(text("bits")).unwrap(),
            nonce: 0,
        };
        let mut block = Block { header, txdata: std::iter::once(coinbase).chain(others).collect() };
        block.header.merkle_root = block.compute_merkle_root().unwrap();
        while !block.header.target().is_met_by(block.header.block_hash()) {
            block.header.nonce += 1;
        }
        block
    }

    async fn hand_in(&self, block: &Block) -> Value {
        self.rpc.call("submitblock", json!([serialize_hex(block)])).await
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_miner_outside_gets_work_hears_of_blocks_and_earns_fees() {
    let folder = Folder::new();
    let mut alice = DaemonProcess::new(folder.path(), "alice", &[]).unwrap().with_bitcoin_rpc();
    alice.start().await.unwrap();
    let mut bob = DaemonProcess::new(folder.path(), "bob", &["--chain-connect", &chain(&alice)]).unwrap();
    bob.start().await.unwrap();
    alice.mine(1, None).await.unwrap();
    alice.mine(MATURE, Some(NOBODY)).await.unwrap();
    let script = NOBODY.parse::<bitcoin::Address<_>>().unwrap().assume_checked().script_pubkey();
    let miner = Miner { rpc: BitcoinRpc::of(&alice), script };

    // Its block reaches others.
    let work = miner.work().await;
    let block = miner.search(&work);
    assert_eq!(miner.hand_in(&block).await, Value::Null);
    let found = (block.block_hash().to_string(), MATURE + 2);
    wait_until("bob to have the miner's block", || async { Ok(tip(&bob).await == found) }).await.unwrap();

    // While it works on a block, another node finds one: it is told, and its own comes too late.
    let work = miner.work().await;
    let late = miner.search(&work);
    let (next, ()) = tokio::join!(miner.other_work(&work), async { bob.mine(1, Some(NOBODY)).await.unwrap() });
    assert_eq!(next["previousblockhash"], json!(tip(&bob).await.0));
    assert_eq!(next["height"], json!(MATURE + 4));
    assert_eq!(miner.hand_in(&late).await, json!("inconclusive"), "of two the first stays");
    assert_eq!(tip(&alice).await, tip(&bob).await);

    // Whoever pays is in its next block, and the fee is the miner's.
    let txid = send(&alice, NOBODY, 100_000).await;
    wait_for_transaction(&alice, &txid).await;
    wait_until("the transaction to be work", || async {
        Ok(miner.work().await["transactions"][0]["txid"] == json!(txid))
    })
    .await
    .unwrap();
    let work = miner.work().await;
    let fee = work["transactions"][0]["fee"].as_u64().unwrap();
    assert!(fee > 0);
    assert_eq!(work["coinbasevalue"], json!(50 * 100_000_000 + fee));
    assert_eq!(miner.hand_in(&miner.search(&work)).await, Value::Null);
    assert!(mempool(&alice).await.is_empty());

    // A block that takes more than it may is named, and changes nothing.
    let mut work = miner.work().await;
    work["coinbasevalue"] = json!(work["coinbasevalue"].as_u64().unwrap() + 1);
    assert_eq!(miner.hand_in(&miner.search(&work)).await, json!("bad-cb-amount"));
    assert_eq!(tip(&alice).await.1, MATURE + 4);
    assert_eq!(miner.rpc.call("stop", json!([])).await, json!("Leyden stopping"));
    let log = folder.path().join("alice").join("leydend.log");
    wait_until("alice to stop", || async {
        Ok(std::fs::read_to_string(&log).unwrap_or_default().contains("stopping"))
    })
    .await
    .unwrap();
    assert_calm("alice", &alice.log());
    assert_calm("bob", &bob.log());
}

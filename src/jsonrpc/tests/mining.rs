//! Work for miners outside of the node.

use std::time::Duration;

use bitcoin::{Block, Transaction, consensus::encode::deserialize_hex};

use super::*;
use crate::jsonrpc::block_template::Patience;

fn request() -> Value {
    json!([{ "rules": ["segwit"] }])
}

/// The block of a template, with a coinbase to anybody; without its proof of work.
fn assemble(template: &Value) -> Block {
    let number = |name: &str| template[name].as_u64().unwrap();
    let script = bitcoin::script::Builder::new().push_int(number("height") as i64).push_int(7).into_script();
    let commitment = bitcoin::ScriptBuf::from_hex(template["default_witness_commitment"].as_str().unwrap()).unwrap();
    let coinbase = Transaction {
        version: bitcoin::transaction::Version::TWO,
        lock_time: bitcoin::absolute::LockTime::ZERO,
        input: vec![bitcoin::TxIn {
            script_sig: script,
            witness: bitcoin::Witness::from_slice(&[[0_u8; 32]]),
            ..Default::default()
        }],
        output: vec![
            bitcoin::TxOut {
                value: bitcoin::Amount::from_sat(number("coinbasevalue")),
                script_pubkey: open_script().to_p2wsh(),
            },
            bitcoin::TxOut { value: bitcoin::Amount::ZERO, script_pubkey: commitment },
        ],
    };
    let others = template["transactions"].as_array().unwrap().iter();
    let others = others.map(|one| deserialize_hex(one["data"].as_str().unwrap()).unwrap());
    let mut block = Block {
        header: bitcoin::block::Header {
            version: bitcoin::block::Version::from_consensus(template["version"].as_i64().unwrap() as i32),
            prev_blockhash: template["previousblockhash"].as_str().unwrap().parse().unwrap(),
            merkle_root: bitcoin::TxMerkleNode::from_raw_hash(bitcoin::hashes::Hash::all_zeros()),
            time: number("curtime") as u32,
            bits: bitcoin::CompactTarget::from_unprefixed_hex(template["bits"].as_str().unwrap()).unwrap(),
            nonce: 0,
        },
        txdata: std::iter::once(coinbase).chain(others).collect(),
    };
    block.header.merkle_root = block.compute_merkle_root().unwrap();
    block
}

fn solve(mut block: Block) -> Block {
    while !block.header.target().is_met_by(block.header.block_hash()) {
        block.header.nonce += 1;
    }
    block
}

fn bytes(block: &Block) -> Value {
    json!(bitcoin::consensus::encode::serialize_hex(block))
}

#[tokio::test]
async fn a_template_has_what_pays_and_what_miners_need_and_its_block_is_taken() {
    let (server, _folder, reward) = funded().await;
    let (parent, child) = (spend(&reward, 1_000), spend(&spend(&reward, 1_000), 20_000));
    for transaction in [&parent, &child] {
        server.ask("sendrawtransaction", json!([hex(transaction)])).await;
    }
    let template = server.ask("getblocktemplate", request()).await;
    let tip = server.node.tip();
    assert_eq!(template["previousblockhash"], json!(tip.hash));
    assert_eq!(template["height"], json!(102));
    assert_eq!(template["coinbasevalue"], json!(50_0000_0000_u64 + 21_000));
    assert_eq!(template["rules"], json!(["csv", "!segwit", "taproot"]));
    assert_eq!((&template["sigoplimit"], &template["weightlimit"]), (&json!(80_000), &json!(4_000_000)));
    assert_eq!(template["target"], json!("7fffff0000000000000000000000000000000000000000000000000000000000"));
    assert_eq!((&template["bits"], &template["noncerange"]), (&json!("207fffff"), &json!("00000000ffffffff")));
    assert!(template["mintime"].as_u64().unwrap() > u64::from(tip.median_time_past));
    assert!(template["curtime"].as_u64() >= template["mintime"].as_u64());
    let (first, second) = (&template["transactions"][0], &template["transactions"][1]);
    assert_eq!(
        (&first["txid"], &first["fee"], &first["depends"]),
        (&json!(parent.compute_txid()), &json!(1_000), &json!([]))
    );
    assert_eq!(
        (&second["hash"], &second["fee"], &second["depends"]),
        (&json!(child.compute_wtxid()), &json!(20_000), &json!([1]))
    );
    assert_eq!((&second["weight"], &second["sigops"]), (&json!(child.weight().to_wu()), &json!(0)));

    let block = assemble(&template);
    let mut bare = solve(block.clone());
    // As miners send it that know nothing of witnesses in coinbases.
    bare.txdata[0].input[0].witness.clear();
    assert_eq!(server.ask("getrawmempool", json!([false, true])).await["mempool_sequence"], json!(3));
    assert_eq!(server.refused("getrawmempool", json!([true, true])).await, -8);
    assert_eq!(server.ask("submitblock", json!([bytes(&bare)])).await, Value::Null);
    assert_eq!(server.ask("getbestblockhash", json!([])).await, json!(bare.block_hash()));
    assert_eq!(server.ask("submitblock", json!([bytes(&bare)])).await, json!("duplicate"));
    assert_eq!(server.ask("getmempoolinfo", json!([])).await["size"], json!(0));
    let next = server.ask("getblocktemplate", request()).await;
    assert_eq!(
        (&next["height"], &next["transactions"]),
        (&json!(103), &json!([])),
        "the last template is of no use now"
    );
}

#[tokio::test]
async fn proposals_are_judged_without_their_proof_of_work() {
    let (server, _folder, _) = funded().await;
    let good = assemble(&server.ask("getblocktemplate", request()).await);
    let propose = async |block: &Block| {
        server.ask("getblocktemplate", json!([{ "mode": "proposal", "data": bytes(block), "rules": ["segwit"] }])).await
    };
    assert_eq!(propose(&good).await, Value::Null);
    let altered = |alter: fn(&mut Block)| {
        let mut block = good.clone();
        alter(&mut block);
        block
    };
    let roots = |alter: fn(&mut Block)| {
        let mut block = altered(alter);
        block.header.merkle_root = block.compute_merkle_root().unwrap();
        block
    };
    for (block, reason) in [
        (altered(|block| block.header.merkle_root = bitcoin::hashes::Hash::all_zeros()), "bad-txnmrklroot"),
        (altered(|block| block.header.bits = bitcoin::CompactTarget::from_consensus(0x207f_fffe)), "bad-diffbits"),
        (altered(|block| block.header.time = 1), "time-too-old"),
        (altered(|block| block.header.version = bitcoin::block::Version::ONE), "bad-version(0x00000001)"),
        (
            altered(|block| block.header.prev_blockhash = bitcoin::hashes::Hash::all_zeros()),
            "inconclusive-not-best-prevblk",
        ),
        (roots(|block| block.txdata[0].output[0].value += bitcoin::Amount::ONE_SAT), "bad-cb-amount"),
        (roots(|block| block.txdata[0].input[0].script_sig = vec![0x51, 0x51].into()), "bad-cb-height"),
    ] {
        assert_eq!(propose(&block).await, json!(reason));
    }
    let solved = solve(good.clone());
    server.ask("submitblock", json!([bytes(&solved)])).await;
    assert_eq!(propose(&solved).await, json!("duplicate"));
    for (params, code) in [
        (json!([{ "mode": "proposal" }]), -3),
        (json!([{ "mode": "proposal", "data": "00" }]), -22),
        (json!([{ "mode": "steal" }]), -8),
        (json!([{ "rules": [] }]), -8),
        (json!([]), -8),
        (json!([7]), -3),
        (json!([{ "rules": ["segwit"], "longpollid": "soon" }]), -8),
    ] {
        assert_eq!(server.refused("getblocktemplate", params.clone()).await, code, "{params}");
    }
}

/// Long enough for any machine, and not waited for.
const LONG: Duration = Duration::from_secs(600);

#[tokio::test]
async fn a_long_poll_ends_with_a_new_tip_or_in_time_with_another_mempool() {
    let (mut server, _folder, reward) = funded().await;
    server.templates.patience = Patience { first: LONG, then: LONG };
    let poll = async |server: &Server, id: &Value| {
        server.ask("getblocktemplate", json!([{ "rules": ["segwit"], "longpollid": id }])).await
    };
    let first = server.ask("getblocktemplate", request()).await;
    let id = first["longpollid"].clone();
    // Another tip.
    let mut waiting = Box::pin(poll(&server, &id));
    assert!(tokio::time::timeout(Duration::from_millis(100), &mut waiting).await.is_err(), "nothing has changed");
    server.node.generate(1, open_script()).await.unwrap();
    let second = (&mut waiting).await;
    drop(waiting);
    assert_eq!(second["previousblockhash"], json!(server.node.tip().hash));
    // An id of yesterday is answered at once.
    assert_eq!(poll(&server, &id).await["height"], second["height"]);
    // Another mempool, when it is looked at.
    server.templates.patience = Patience { first: Duration::from_millis(50), then: Duration::from_millis(50) };
    let id = second["longpollid"].clone();
    let mut waiting = Box::pin(poll(&server, &id));
    assert!(tokio::time::timeout(Duration::from_millis(300), &mut waiting).await.is_err(), "nothing has changed");
    server.node.submit_transaction(spend(&reward, 1_000)).await.unwrap();
    let third = (&mut waiting).await;
    drop(waiting);
    assert_eq!(third["previousblockhash"], second["previousblockhash"]);
    // Whoever waits is let go at the end.
    server.templates.patience = Patience { first: LONG, then: LONG };
    let id = server.ask("getblocktemplate", request()).await["longpollid"].clone();
    let waiting = server.refused("getblocktemplate", json!([{ "rules": ["segwit"], "longpollid": id }]));
    tokio::pin!(waiting);
    assert!(tokio::time::timeout(Duration::from_millis(100), &mut waiting).await.is_err());
    server.stopping.cancel();
    assert_eq!(waiting.await, -9);
}

#[tokio::test]
async fn a_fee_counts_as_what_the_user_says() {
    let (server, _folder, reward) = funded().await;
    let transaction = spend(&reward, 1_000);
    let txid = json!(transaction.compute_txid());
    assert_eq!(server.ask("getprioritisedtransactions", json!([])).await, json!({}));
    assert_eq!(server.ask("prioritisetransaction", json!([txid, 0.0, 500])).await, json!(true));
    let listed = server.ask("getprioritisedtransactions", json!([])).await;
    assert_eq!(listed, json!({ txid.as_str().unwrap(): { "fee_delta": 500, "in_mempool": false } }));
    server.ask("sendrawtransaction", json!([hex(&transaction)])).await;
    let named = json!({ "txid": txid, "fee_delta": -200 });
    assert_eq!(server.ask("prioritisetransaction", named).await, json!(true));
    let listed = server.ask("getprioritisedtransactions", json!([])).await;
    let expected = json!({ "fee_delta": 300, "in_mempool": true, "modified_fee": 1_300 });
    assert_eq!(listed, json!({ txid.as_str().unwrap(): expected }));
    let entry = server.ask("getmempoolentry", json!([txid])).await;
    assert_eq!(entry["fees"]["base"].to_string(), "0.00001000");
    assert_eq!(entry["fees"]["modified"].to_string(), "0.00001300");
    assert_eq!(server.refused("prioritisetransaction", json!([txid, 1, 500])).await, -8);
    assert_eq!(server.refused("prioritisetransaction", json!([txid])).await, -1);
}

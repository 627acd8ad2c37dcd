//! Calls as clients of Bitcoin Core make them, against a real chain.

use leyden_consensus::Params;
use leyden_node::NodeConfig;
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use super::*;

mod mining;
mod rest;
mod tools;

/// P2WPKH of twenty ones.
const ADDRESS: &str = "bcrt1qqyqszqgpqyqszqgpqyqszqgpqyqszqgpvxat9t";

fn service(node: Node, access: Access) -> Service {
    Service { node, access, rest: Some(HostNames::default()), notifiers: Vec::new() }
}

async fn server() -> (Server, TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let mut config = NodeConfig::new(Params::regtest(), folder.path().join("chain"));
    config.sync_writes = false;
    let node = Node::start(config).await.unwrap();
    let access = Access::open(&folder.path().join("cookie"), Some("lightning:secret")).unwrap();
    (Server::new(service(node, access), CancellationToken::new()), folder)
}

/// A number with these digits and no others.
fn exact(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}

impl Server {
    /// What a caller who stays is answered.
    async fn one(&self, call: Value) -> (StatusCode, Option<Value>) {
        self.answer(call, &self.stopping.child_token()).await
    }

    async fn ask(&self, method: &str, params: Value) -> Value {
        let (status, answer) = self.one(json!({ "method": method, "params": params, "id": 7 })).await;
        let mut answer = answer.unwrap();
        assert_eq!(status, StatusCode::OK, "{answer}");
        assert_eq!((&answer["error"], &answer["id"]), (&Value::Null, &json!(7)));
        answer["result"].take()
    }

    async fn refused(&self, method: &str, params: Value) -> i64 {
        let (status, answer) = self.one(json!({ "method": method, "params": params, "id": 7 })).await;
        assert_ne!(status, StatusCode::OK);
        answer.unwrap()["error"]["code"].as_i64().unwrap()
    }
}

#[tokio::test]
async fn blocks_are_told_as_a_bitcoind_tells_them() {
    let (server, _folder) = server().await;
    let genesis = "0f9188f13cb7b2c71f2a335e3a4fc328bf5beb436012afca590b1a11466e2206";
    assert_eq!(server.ask("getblockhash", json!([0])).await, json!(genesis));
    let header = server.ask("getblockheader", json!([genesis])).await;
    let work = "0000000000000000000000000000000000000000000000000000000000000002";
    assert_eq!((&header["chainwork"], &header["height"], &header["nTx"]), (&json!(work), &json!(0), &json!(1)));
    assert!(header.get("previousblockhash").is_none() && header.get("nextblockhash").is_none());

    let mined = server.ask("generatetoaddress", json!([2, ADDRESS])).await;
    let info = server.ask("getblockchaininfo", json!([])).await;
    assert_eq!((&info["chain"], &info["blocks"]), (&json!("regtest"), &json!(2)));
    assert_eq!(info["bestblockhash"], mined[1]);
    let block = server.ask("getblock", json!({ "blockhash": mined[0], "verbosity": 2 })).await;
    assert_eq!((&block["confirmations"], &block["nextblockhash"]), (&json!(2), &mined[1]));
    let reward = &block["tx"][0];
    assert_eq!(
        (&reward["vout"][0]["value"], &reward["vout"][0]["scriptPubKey"]["address"]),
        (&exact("50.00000000"), &json!(ADDRESS))
    );
    // Raw, it is the same block.
    let raw = server.ask("getblock", json!([mined[0], 0])).await;
    let decoded: bitcoin::Block = bitcoin::consensus::encode::deserialize_hex(raw.as_str().unwrap()).unwrap();
    assert_eq!((json!(decoded.block_hash()), json!(decoded.total_size())), (mined[0].clone(), block["size"].clone()));
    assert_eq!(server.ask("submitblock", json!([raw])).await, json!("duplicate"));

    let output = server.ask("gettxout", json!([reward["txid"], 0])).await;
    assert_eq!((&output["confirmations"], &output["coinbase"]), (&json!(2), &json!(true)));
    assert_eq!(server.ask("gettxout", json!([reward["txid"], 5])).await, Value::Null);
    let found = server.ask("getrawtransaction", json!([reward["txid"], true])).await;
    assert_eq!((&found["blockhash"], &found["hex"]), (&mined[0], &reward["hex"]));
}

/// Anybody can spend it.
fn open_script() -> bitcoin::ScriptBuf {
    bitcoin::script::Builder::new().push_opcode(bitcoin::opcodes::OP_TRUE).into_script()
}

/// Spends the first output of a transaction that pays to `open_script`'s hash, to the same.
fn spend(parent: &bitcoin::Transaction, fee: u64) -> bitcoin::Transaction {
    let mut transaction = parent.clone();
    transaction.version = bitcoin::transaction::Version::TWO;
    transaction.lock_time = bitcoin::absolute::LockTime::ZERO;
    transaction.input = vec![bitcoin::TxIn {
        previous_output: bitcoin::OutPoint { txid: parent.compute_txid(), vout: 0 },
        witness: bitcoin::Witness::from_slice(&[open_script().as_bytes()]),
        ..Default::default()
    }];
    transaction.output.truncate(1);
    transaction.output[0].value -= bitcoin::Amount::from_sat(fee);
    transaction
}

fn hex(transaction: &bitcoin::Transaction) -> Value {
    json!(bitcoin::consensus::encode::serialize_hex(transaction))
}

/// A chain whose first reward can be spent, and that reward.
async fn funded() -> (Server, TempDir, bitcoin::Transaction) {
    let (server, folder) = server().await;
    server.node.generate(101, open_script().to_p2wsh()).await.unwrap();
    let hash = server.node.block_hash(1).unwrap();
    let reward = server.node.block(hash).await.unwrap().unwrap().txdata[0].clone();
    (server, folder, reward)
}

#[tokio::test]
async fn amounts_have_eight_decimals_in_every_answer() {
    /// Every number that is not whole, with the name of its field.
    fn decimals(name: &str, value: &Value, found: &mut Vec<(String, String)>) {
        match value {
            Value::Number(number) if !number.is_i64() && !number.is_u64() => {
                found.push((name.to_owned(), number.to_string()));
            }
            Value::Array(items) => items.iter().for_each(|item| decimals(name, item, found)),
            Value::Object(fields) => fields.iter().for_each(|(name, value)| decimals(name, value, found)),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
        }
    }
    let (server, _folder, reward) = funded().await;
    let (parent, child) = (spend(&reward, 0), spend(&spend(&reward, 0), 100_000));
    let tested = server.ask("testmempoolaccept", json!([[hex(&spend(&reward, 1_000))]])).await;
    let package = server.ask("submitpackage", json!([[hex(&parent), hex(&child)]])).await;
    assert_eq!(package["package_msg"], json!("success"), "{package}");
    let (txid, hash) = (json!(parent.compute_txid()), json!(server.node.block_hash(1).unwrap()));
    let mut answers = vec![tested, package];
    for (method, params) in [
        ("getblockchaininfo", json!([])),
        ("getblockheader", json!([hash])),
        ("getblock", json!([hash, 2])),
        ("gettxout", json!([child.compute_txid(), 0])),
        ("getrawtransaction", json!([txid, 1])),
        ("decoderawtransaction", json!([hex(&parent)])),
        ("decodescript", json!(["51"])),
        ("getrawmempool", json!([true])),
        ("getmempoolentry", json!([txid])),
        ("getmempoolinfo", json!([])),
        ("estimatesmartfee", json!([6])),
        ("getnetworkinfo", json!([])),
        ("getpeerinfo", json!([])),
    ] {
        answers.push(server.ask(method, params).await);
    }
    let mut found = Vec::new();
    answers.iter().for_each(|answer| decimals("", answer, &mut found));
    // These two are no amounts.
    found.retain(|(name, _)| !["difficulty", "verificationprogress"].contains(&name.as_str()));
    for (name, digits) in &found {
        let decimals = digits.split_once('.').map(|(_, decimals)| decimals);
        assert!(decimals.is_some_and(|decimals| decimals.len() == 8), "{name}: {digits}");
        assert!(digits.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.'), "{name}: {digits}");
    }
    for name in ["value", "base", "ancestor", "total_fee", "mempoolminfee", "minrelaytxfee", "relayfee", "feerate"] {
        assert!(found.iter().any(|(found, _)| found == name), "{name} was not looked at");
    }
    // So it is on the line.
    let (_, answer) = server.one(json!({ "method": "getmempoolinfo", "id": 1 })).await;
    let line = answer.unwrap().to_string();
    assert!(line.contains(r#""mempoolminfee":0.00000100,"#) && line.contains(r#""total_fee":0.00100000,"#), "{line}");
}

#[tokio::test]
async fn amounts_are_taken_exactly_or_refused() {
    let (server, _folder, reward) = funded().await;
    let good = hex(&spend(&reward, 100_000));
    for (limit, code) in [
        (exact("-1"), -3),
        (exact("0.000000001"), -3),
        (exact("21000001"), -3),
        (exact("1e999"), -3),
        (json!("0.1x"), -3),
        (json!(true), -3),
        (json!([]), -3),
        // No sane fee rate: Bitcoin Core refuses it as well.
        (exact("1"), -8),
        // 0.001 for some 100 bytes is more than 0.00000001 for 1,000.
        (exact("1e-8"), -25),
        (json!("0.00000001"), -25),
    ] {
        assert_eq!(server.refused("sendrawtransaction", json!([good, limit])).await, code, "{limit}");
    }
    // Coins that nobody can spend again are not sent unless the caller says so.
    let mut burning = spend(&reward, 200_000);
    burning.output.push(bitcoin::TxOut {
        value: bitcoin::Amount::from_sat(100_000),
        script_pubkey: bitcoin::ScriptBuf::new_op_return([7; 4]),
    });
    let burning = hex(&burning);
    assert_eq!(server.refused("sendrawtransaction", json!([burning])).await, -25);
    assert_eq!(server.refused("sendrawtransaction", json!([burning, 0, exact("0.00099999")])).await, -25);
    assert_eq!(server.refused("submitpackage", json!([[burning]])).await, -25);
    // Numbers that together are more than 64 bits are no fee at all.
    let mut absurd = spend(&reward, 0);
    absurd.output = vec![bitcoin::TxOut { value: bitcoin::Amount::MAX, ..absurd.output[0].clone() }; 3];
    assert_eq!(server.refused("sendrawtransaction", json!([hex(&absurd)])).await, -26);
    server.ask("sendrawtransaction", json!([burning, "0.05", exact("1e-3")])).await;
}

#[tokio::test]
async fn transactions_are_tested_sent_and_listed() {
    let (server, _folder, reward) = funded().await;
    let spend = |fee: u64| spend(&reward, fee);
    let (free, good, dear) = (spend(0), spend(1_000), spend(10_000_000));

    let tested = server.ask("testmempoolaccept", json!([[hex(&free)]])).await;
    assert_eq!((&tested[0]["allowed"], &tested[0]["reject-reason"]), (&json!(false), &json!("min relay fee not met")));
    let tested = server.ask("testmempoolaccept", json!([[hex(&good)]])).await;
    assert_eq!((&tested[0]["allowed"], &tested[0]["fees"]["base"]), (&json!(true), &exact("0.00001000")));
    assert_eq!(server.refused("sendrawtransaction", json!([hex(&free)])).await, -26);
    assert_eq!(server.refused("sendrawtransaction", json!([hex(&dear)])).await, -25, "more than the caller allows");
    assert_eq!(server.refused("sendrawtransaction", json!(["00"])).await, -22);

    let txid = json!(good.compute_txid());
    assert_eq!(server.ask("sendrawtransaction", json!([hex(&good)])).await, txid);
    assert_eq!(server.ask("sendrawtransaction", json!([hex(&good)])).await, txid, "again is no error");
    assert_eq!(server.ask("getrawmempool", json!([])).await, json!([txid]));
    let entry = server.ask("getmempoolentry", json!([txid])).await;
    assert_eq!((&entry["fees"]["descendant"], &entry["descendantcount"]), (&exact("0.00001000"), &json!(1)));
    assert_eq!(server.ask("gettxout", json!([reward.compute_txid(), 0])).await, Value::Null, "spent in the mempool");
    assert_eq!(server.ask("getmempoolinfo", json!([])).await["size"], json!(1));

    server.ask("generatetoaddress", json!([1, ADDRESS])).await;
    assert_eq!(server.refused("sendrawtransaction", json!([hex(&good)])).await, -27);
    assert_eq!(server.refused("getmempoolentry", json!([txid])).await, -5);
    let rate = server.ask("estimatesmartfee", json!([6])).await;
    assert!(rate["feerate"].as_f64().unwrap() > 0.0);
}

#[tokio::test]
async fn wrong_calls_get_the_numbers_of_bitcoin_core() {
    let (server, _folder) = server().await;
    let unknown = "11".repeat(32);
    for (method, params, code) in [
        ("getblockhash", json!([1]), -8),
        ("getblockhash", json!([]), -1),
        ("getblockhash", json!(["1"]), -3),
        ("getblock", json!(["xy"]), -8),
        ("getblock", json!([unknown]), -5),
        ("getrawtransaction", json!([unknown]), -5),
        ("getblock", json!({ "hash": unknown }), -8),
        ("generatetoaddress", json!([1, "nobody"]), -5),
        ("dumpprivkey", json!([]), -32601),
        ("dumpprivkey", json!({ "address": "x" }), -32601),
        ("getblockcount", json!([1]), -1),
        ("getblock", json!({ "args": [unknown], "blockhash": unknown }), -8),
        ("invalidateblock", json!([unknown]), -5),
        ("waitfornewblock", json!([-1]), -1),
        ("submitheader", json!(["00"]), -22),
        ("gettxoutsetinfo", json!(["sha1"]), -8),
        ("gettxspendingprevout", json!([[]]), -8),
        ("gettxspendingprevout", json!([[{ "txid": unknown, "vout": 0, "x": 1 }]]), -3),
        ("getnetworkhashps", json!([0]), -8),
        ("getnetworkhashps", json!([1, 7]), -8),
        ("testmempoolaccept", json!([[]]), -8),
        ("getblockstats", json!([1]), -8),
        ("getblockstats", json!([unknown]), -5),
        ("getblockstats", json!([0, ["nothing"]]), -8),
        ("getchaintxstats", json!([1]), -8),
        ("getchaintxstats", json!([0, unknown]), -5),
        ("gettxoutproof", json!([[]]), -8),
        ("gettxoutproof", json!([["xy"]]), -8),
        ("gettxoutproof", json!([[unknown, unknown]]), -8),
        ("gettxoutproof", json!([[unknown]]), -5),
        ("verifytxoutproof", json!(["00"]), -22),
        ("scantxoutset", json!(["begin"]), -8),
        ("scantxoutset", json!(["start"]), -1),
        ("scantxoutset", json!(["start", ["nobody(1)"]]), -5),
        ("scantxoutset", json!(["start", [{ "desc": "raw(51)", "range": [2, 1] }]]), -8),
        ("createrawtransaction", json!([[]]), -8),
        ("createrawtransaction", json!([[{ "txid": unknown }], {}]), -8),
        ("createrawtransaction", json!([[{ "txid": unknown, "vout": -1 }], {}]), -8),
        ("createrawtransaction", json!([[{ "txid": unknown, "vout": 0, "sequence": -1 }], {}]), -8),
        ("createrawtransaction", json!([[], [{ "nobody": 1 }]]), -5),
        ("createrawtransaction", json!([[], [{ ADDRESS: -1 }]]), -3),
        ("createrawtransaction", json!([[], [{ ADDRESS: 1 }, { ADDRESS: 2 }]]), -8),
        ("createrawtransaction", json!([[], [{ "data": "00" }, { "data": "01" }]]), -8),
        ("createrawtransaction", json!([[], [{ "data": "00", ADDRESS: 1 }]]), -8),
        ("createrawtransaction", json!([[], { "data": "00", ADDRESS: 1 }]), -8),
        ("createrawtransaction", json!([[], {}, 4_294_967_296u64]), -8),
        ("createrawtransaction", json!([[], {}, 0, true, 4]), -8),
        ("createrawtransaction", json!([[{ "txid": unknown, "vout": 0, "sequence": u32::MAX }], {}, 0, true]), -8),
        ("getdescriptorinfo", json!(["nobody(1)"]), -5),
        ("getdescriptorinfo", json!([format!("addr({ADDRESS})#00000000")]), -5),
        ("deriveaddresses", json!([format!("addr({ADDRESS})")]), -5),
        ("getblockfrompeer", json!([unknown, 0]), -1),
        ("getnodeaddresses", json!([-1]), -8),
        ("getnodeaddresses", json!([1, "moon"]), -8),
        ("setnetworkactive", json!([]), -1),
        ("pruneblockchain", json!([0]), -1),
        ("getmemoryinfo", json!(["mallocinfo"]), -8),
        ("logging", json!([["net"]]), -8),
        ("setmocktime", json!([1]), -1),
        ("setmocktime", json!([-1]), -8),
        ("addnode", json!(["127.0.0.1:1", "forget"]), -1),
        ("addnode", json!(["127.0.0.1:1", "remove"]), -24),
        ("addnode", json!([":1", "add"]), -8),
        ("getaddednodeinfo", json!(["127.0.0.1:1"]), -24),
        ("disconnectnode", json!([]), -32602),
        ("setban", json!(["10.0.0.0/33", "add"]), -30),
        ("setban", json!(["10.0.0.1", "remove"]), -30),
        ("setban", json!(["10.0.0.1", "add", 1, true]), -8),
        ("setban", json!(["10.0.0.1", "forget"]), -1),
        ("disconnectnode", json!(["127.0.0.1:1"]), -29),
        ("submitpackage", json!([[]]), -8),
        ("getblockhash", json!([0.5]), -1),
        ("generatetoaddress", json!([1, ADDRESS, -1]), -1),
    ] {
        assert_eq!(server.refused(method, params.clone()).await, code, "{method} {params}");
    }
    // The newer protocol has its errors in the body alone.
    let call = json!({ "jsonrpc": "2.0", "method": "getblockhash", "params": [1], "id": 1 });
    let (status, answer) = server.one(call).await;
    let answer = answer.unwrap();
    assert_eq!((status, &answer["error"]["code"]), (StatusCode::OK, &json!(-8)));
    assert!(answer.get("result").is_none());
}

#[tokio::test]
async fn every_method_that_help_lists_is_served() {
    let (server, _folder) = server().await;
    let listed = server.ask("help", json!([])).await;
    for method in leyden_jsonrpc::methods::METHODS {
        assert!(listed.as_str().unwrap().lines().any(|line| line.split(' ').next() == Some(method.name)));
        let text = server.ask("help", json!([method.name])).await;
        assert!(text.as_str().unwrap().contains(method.text), "{text}");
        if ["stop", "waitfornewblock"].contains(&method.name) {
            continue;
        }
        let (_, answer) = server.one(json!({ "method": method.name, "id": 1 })).await;
        let answer = answer.unwrap();
        assert_ne!(answer["error"]["code"], json!(-32601), "{}", method.name);
    }
    assert_eq!(server.ask("help", json!(["nothing"])).await, json!("help: unknown command: nothing"));
    let running = server.ask("getrpcinfo", json!([])).await;
    assert_eq!(running["active_commands"][0]["method"], json!("getrpcinfo"));
    assert_eq!(running["active_commands"].as_array().unwrap().len(), 1, "what is answered is not listed any more");
    assert_eq!(server.ask("uptime", json!([])).await, json!(0));
    assert_eq!(server.ask("stop", json!([])).await, json!("Leyden stopping"));
    assert!(server.stopping.is_cancelled());
}

#[tokio::test]
async fn scripts_are_decoded_with_the_addresses_of_their_hashes() {
    let (server, _folder) = server().await;
    let key = format!("21{}ac", "02".repeat(33));
    let uncompressed = format!("41{}ac", "04".repeat(65));
    for (script, p2sh, segwit) in [
        // Core tells the address of a script that is too long to be spent by it.
        ("51".repeat(600), true, Some("witness_v0_scripthash")),
        ("51".repeat(10_001), false, None),
        (key, true, Some("witness_v0_keyhash")),
        (uncompressed, true, None),
        (format!("76a914{}88ac", "11".repeat(20)), true, Some("witness_v0_keyhash")),
        (format!("0014{}", "11".repeat(20)), true, None),
        (format!("5120{}", "11".repeat(32)), false, None),
        (format!("a914{}87", "11".repeat(20)), false, None),
        ("6a0101".to_owned(), false, None),
        ("ba".to_owned(), false, None),
        ("0201".to_owned(), false, None),
    ] {
        let decoded = server.ask("decodescript", json!([script])).await;
        assert_eq!(decoded.get("p2sh").is_some(), p2sh, "{script}");
        assert_eq!(decoded["segwit"]["type"].as_str(), segwit, "{script}");
        assert_eq!(decoded["segwit"].get("p2sh-segwit").is_some(), segwit.is_some(), "{script}");
    }
}

#[tokio::test]
async fn nothing_is_answered_to_no_calls_and_nothing_mined_in_no_tries() {
    let (server, _folder) = server().await;
    let (status, answer) = server.all(&Bytes::from_static(b"[]"), &CancellationToken::new()).await;
    assert_eq!((status, answer.as_deref()), (StatusCode::OK, Some("[]")));
    assert_eq!(server.ask("generatetoaddress", json!([1, ADDRESS, 0])).await, json!([]));
    assert_eq!(server.ask("getblockcount", json!([])).await, json!(0));
    assert_eq!(server.ask("getindexinfo", json!([])).await["txindex"]["synced"], json!(true));
}

#[tokio::test]
async fn older_names_of_parameters_are_understood() {
    let (server, _folder) = server().await;
    let genesis = server.ask("getbestblockhash", json!([])).await;
    for params in [
        json!({ "blockhash": genesis, "verbose": false }),
        json!({ "verbosity": 0, "blockhash": genesis }),
        json!({ "args": [genesis], "verbose": 0 }),
        json!([genesis, 0]),
    ] {
        assert!(server.ask("getblock", params).await.is_string());
    }
    assert_eq!(server.refused("getblock", json!({ "blockhash": genesis, "verbose": 1, "verbosity": 1 })).await, -8);
}

#[tokio::test]
async fn several_transactions_are_tested_together() {
    let (server, _folder, reward) = funded().await;
    let parent = spend(&reward, 1_000);
    let child = spend(&parent, 2_000);
    let tested = server.ask("testmempoolaccept", json!([[hex(&parent), hex(&child)]])).await;
    assert_eq!((&tested[0]["allowed"], &tested[1]["allowed"]), (&json!(true), &json!(true)), "{tested}");
    assert_eq!(tested[1]["fees"]["base"], exact("0.00002000"));
    assert_eq!(tested[1]["fees"]["effective-includes"], json!([child.compute_wtxid()]));
    assert_eq!(server.ask("getmempoolinfo", json!([])).await["size"], json!(0), "nothing has happened");
    let tested = server.ask("testmempoolaccept", json!([[hex(&child)]])).await;
    assert_eq!(tested[0]["reject-reason"], json!("missing-inputs"));
    // After a refusal the rest is named and no more.
    let tested = server.ask("testmempoolaccept", json!([[hex(&spend(&reward, 0)), hex(&child)]])).await;
    assert_eq!(tested[0]["reject-reason"], json!("min relay fee not met"));
    assert!(tested[0]["reject-details"].as_str().unwrap().starts_with("min relay fee not met, "));
    assert_eq!(tested[1], json!({ "txid": child.compute_txid(), "wtxid": child.compute_wtxid() }));
    // What is no list of transactions that follow each other is wrong as a whole.
    let tested = server.ask("testmempoolaccept", json!([[hex(&child), hex(&parent)]])).await;
    assert_eq!(tested[1]["package-error"], json!("package-not-sorted"));
    let tested = server.ask("testmempoolaccept", json!([[hex(&parent), hex(&spend(&reward, 5_000))]])).await;
    assert_eq!(tested[0]["package-error"], json!("conflict-in-package"));
    let sent = server.refused("submitpackage", json!([[hex(&parent), hex(&spend(&child, 1))]])).await;
    assert_eq!(sent, -25, "that is no child with its parents");

    // The same transaction with another witness.
    server.ask("sendrawtransaction", json!([hex(&parent)])).await;
    let mut other = parent.clone();
    other.input[0].witness = bitcoin::Witness::from_slice(&[&[][..], open_script().as_bytes()]);
    let tested = server.ask("testmempoolaccept", json!([[hex(&other)]])).await;
    assert_eq!(tested[0]["reject-reason"], json!("txn-same-nonwitness-data-in-mempool"));
    let sent = server.ask("submitpackage", json!([[hex(&other), hex(&child)]])).await;
    assert_eq!(sent["package_msg"], json!("success"), "{sent}");
    assert_eq!(
        sent["tx-results"][other.compute_wtxid().to_string()],
        json!({ "txid": parent.compute_txid(), "other-wtxid": parent.compute_wtxid() })
    );

    // Relatives, and who spends what.
    let (parent_id, child_id) = (json!(parent.compute_txid()), json!(child.compute_txid()));
    assert_eq!(server.ask("getmempoolancestors", json!([child_id])).await, json!([parent_id]));
    let descendants = server.ask("getmempooldescendants", json!([parent_id, true])).await;
    assert_eq!(descendants[child_id.as_str().unwrap()]["depends"], json!([parent_id]));
    assert_eq!(server.ask("getmempooldescendants", json!([child_id])).await, json!([]));
    let asked = json!([[{ "txid": parent_id, "vout": 0 }, { "txid": child_id, "vout": 0 }]]);
    let spent = server.ask("gettxspendingprevout", asked).await;
    assert_eq!(spent[0], json!({ "txid": parent_id, "vout": 0, "spendingtxid": child_id }));
    assert_eq!(spent[1], json!({ "txid": child_id, "vout": 0 }));
    let saved = server.ask("savemempool", json!([])).await;
    assert!(std::path::Path::new(saved["filename"].as_str().unwrap()).exists());
}

#[tokio::test]
async fn an_electrum_server_finds_who_spent_an_output_long_ago() {
    let (server, _folder, reward) = funded().await;
    // What e-x 2.0 looks at before it begins.
    assert!(server.ask("getnetworkinfo", json!([])).await["version"].as_u64() >= Some(310_000));
    let indexes = server.ask("getindexinfo", json!([])).await;
    assert_eq!((&indexes["txindex"]["synced"], &indexes["txospenderindex"]["synced"]), (&json!(true), &json!(true)));

    let spending = spend(&reward, 1_000);
    server.ask("sendrawtransaction", json!([hex(&spending)])).await;
    let output = json!({ "txid": reward.compute_txid(), "vout": 0 });
    let block = server.ask("generatetoaddress", json!([1, ADDRESS])).await[0].clone();
    server.ask("generatetoaddress", json!([3, ADDRESS])).await;
    let spent = server.ask("gettxspendingprevout", json!([[output], { "mempool_only": false }])).await;
    assert_eq!(spent[0]["spendingtxid"], json!(spending.compute_txid()));
    assert_eq!(spent[0]["blockhash"], block);
}

#[tokio::test]
async fn the_chain_is_what_its_user_says() {
    let (server, _folder) = server().await;
    let mined = server.ask("generatetoaddress", json!([3, ADDRESS])).await;
    assert_eq!(server.ask("invalidateblock", json!([mined[1]])).await, Value::Null);
    assert_eq!(server.ask("getbestblockhash", json!([])).await, mined[0]);
    let tips = server.ask("getchaintips", json!([])).await;
    assert_eq!(tips[0], json!({ "height": 3, "hash": mined[2], "branchlen": 2, "status": "invalid" }));
    assert_eq!(tips[1], json!({ "height": 1, "hash": mined[0], "branchlen": 0, "status": "active" }));
    let fork = server.ask("generatetoaddress", json!([2, ADDRESS])).await;
    server.ask("reconsiderblock", json!({ "blockhash": mined[1] })).await;
    let tips = server.ask("getchaintips", json!([])).await;
    assert_eq!(tips.as_array().unwrap().len(), 2);
    for (preferred, other) in [(&mined[2], &fork[1]), (&fork[1], &mined[2])] {
        server.ask("preciousblock", json!([preferred])).await;
        assert_eq!(&server.ask("getbestblockhash", json!([])).await, preferred);
        let tips = server.ask("getchaintips", json!([])).await;
        let tip = |hash: &Value| tips.as_array().unwrap().iter().find(|tip| &tip["hash"] == hash).unwrap().clone();
        assert_eq!((&tip(preferred)["status"], &tip(other)["status"]), (&json!("active"), &json!("valid-fork")));
    }
    let genesis = server.ask("getblockhash", json!([0])).await;
    assert_eq!(server.refused("invalidateblock", json!([genesis])).await, -8);
}

#[tokio::test]
async fn headers_can_be_offered_alone() {
    let (server, folder) = server().await;
    let (donor, _other) = self::server().await;
    let mined = donor.ask("generatetoaddress", json!([2, ADDRESS])).await;
    let first = donor.ask("getblockheader", json!([mined[0], false])).await;
    let second = donor.ask("getblockheader", json!([mined[1], false])).await;
    assert_eq!(server.refused("submitheader", json!([second])).await, -25, "its parent is not known");
    assert_eq!(server.ask("submitheader", json!([first])).await, Value::Null);
    assert_eq!(server.ask("submitheader", json!([second])).await, Value::Null);
    let info = server.ask("getblockchaininfo", json!([])).await;
    assert_eq!((&info["headers"], &info["blocks"]), (&json!(2), &json!(0)));
    let tips = server.ask("getchaintips", json!([])).await;
    assert_eq!((&tips[0]["status"], &tips[0]["branchlen"]), (&json!("headers-only"), &json!(2)));
    drop(folder);
}

#[tokio::test]
async fn a_call_waits_for_a_block() {
    let (server, _folder) = server().await;
    let server = Arc::new(server);
    let now = server.ask("getbestblockhash", json!([])).await;
    let answer = server.ask("waitforblockheight", json!([1, 1])).await;
    assert_eq!(answer, json!({ "hash": now, "height": 0 }), "time is over");
    assert_eq!(server.ask("waitforblock", json!([now])).await["height"], json!(0), "it is there");
    let waiting = {
        let server = Arc::clone(&server);
        let now = now.clone();
        tokio::spawn(async move {
            tokio::join!(
                server.ask("waitfornewblock", json!([0, now])),
                server.ask("waitforblockheight", json!([2, 0])),
            )
        })
    };
    let mined = server.ask("generatetoaddress", json!([2, ADDRESS])).await;
    let (new, second) = waiting.await.unwrap();
    assert_ne!(new["hash"], now);
    assert_eq!(second, json!({ "hash": mined[1], "height": 2 }));
    // The end of the daemon ends it too.
    let waiting = {
        let server = Arc::clone(&server);
        tokio::spawn(async move { server.ask("waitforblockheight", json!([3])).await })
    };
    server.stopping.cancel();
    assert_eq!(waiting.await.unwrap()["height"], json!(2));
}

#[tokio::test]
async fn a_block_is_told_in_numbers_with_what_it_spends() {
    let (server, _folder, reward) = funded().await;
    let parent = spend(&reward, 1_000);
    let child = spend(&parent, 3_000);
    server.ask("sendrawtransaction", json!([hex(&parent)])).await;
    server.ask("sendrawtransaction", json!([hex(&child)])).await;
    let found = server.ask("getrawtransaction", json!([child.compute_txid(), 2])).await;
    assert!(found.get("fee").is_none(), "what waits for a block is told without it, as by Bitcoin Core");
    let mined = server.ask("generatetoaddress", json!([1, ADDRESS])).await[0].clone();

    let stats = server.ask("getblockstats", json!([102])).await;
    assert_eq!(stats, server.ask("getblockstats", json!([mined])).await);
    for (name, number) in [
        ("txs", 3),
        ("ins", 2),
        ("outs", 4),
        ("totalfee", 4_000),
        ("minfee", 1_000),
        ("maxfee", 3_000),
        ("medianfee", 2_000),
        ("avgfee", 2_000),
        ("height", 102),
        ("subsidy", 5_000_000_000),
        ("swtxs", 2),
        ("total_out", 2 * 5_000_000_000 - 1_000 - 4_000),
        ("utxo_increase", 2),
        ("utxo_increase_actual", 1),
        ("total_weight", (parent.weight() + child.weight()).to_wu() as i64),
        ("maxfeerate", 4 * 3_000 / child.weight().to_wu() as i64),
    ] {
        assert_eq!(stats[name], json!(number), "{name} of {stats}");
    }
    let chosen = server.ask("getblockstats", json!([102, ["txs", "minfeerate"]])).await;
    assert_eq!((chosen.as_object().unwrap().len(), &chosen["txs"]), (2, &json!(3)));
    let genesis = server.ask("getblockstats", json!([0])).await;
    assert_eq!((&genesis["utxo_increase"], &genesis["utxo_increase_actual"]), (&json!(1), &json!(0)));

    let found = server.ask("getrawtransaction", json!([child.compute_txid(), 2])).await;
    assert_eq!(found["fee"], exact("0.00003000"));
    let prevout = &found["vin"][0]["prevout"];
    assert_eq!((&prevout["generated"], &prevout["height"]), (&json!(false), &json!(102)));
    assert_eq!(prevout["scriptPubKey"]["type"], json!("witness_v0_scripthash"));
    let block = server.ask("getblock", json!([mined, 2])).await;
    assert_eq!((&block["tx"][1]["fee"], &block["tx"][1]["vin"][0]["prevout"]), (&exact("0.00001000"), &Value::Null));
    let block = server.ask("getblock", json!([mined, 3])).await;
    assert_eq!(block["tx"][1]["vin"][0]["prevout"]["generated"], json!(true));
    assert!(block["tx"][0].get("fee").is_none());

    let stats = server.ask("getchaintxstats", json!([10])).await;
    assert_eq!((&stats["txcount"], &stats["window_tx_count"]), (&json!(105), &json!(12)), "{stats}");
    let first = server.ask("getblockhash", json!([50])).await;
    let stats = server.ask("getchaintxstats", json!({ "blockhash": first })).await;
    assert_eq!((&stats["txcount"], &stats["window_block_count"]), (&json!(51), &json!(49)));

    // Proofs.
    let ids = json!([parent.compute_txid(), child.compute_txid()]);
    let proof = server.ask("gettxoutproof", json!([ids])).await;
    assert_eq!(proof, server.ask("gettxoutproof", json!([ids, mined])).await);
    let mut proved = server.ask("verifytxoutproof", json!([proof])).await;
    proved.as_array_mut().unwrap().sort_by_key(|id| *id != ids[0]);
    assert_eq!(proved, ids);
    assert_eq!(server.refused("gettxoutproof", json!([ids, first])).await, -5);
    let mut altered = proof.as_str().unwrap().to_owned();
    // A hash of the tree.
    let at = 2 * 90;
    altered.replace_range(at..at + 2, if &altered[at..at + 2] == "00" { "01" } else { "00" });
    assert_eq!(server.ask("verifytxoutproof", json!([altered])).await, json!([]));
    server.ask("invalidateblock", json!([mined])).await;
    assert_eq!(server.refused("verifytxoutproof", json!([proof])).await, -5, "its block is not part of the chain");
}

#[tokio::test]
async fn unspent_outputs_are_found_by_descriptors() {
    let (server, _folder, reward) = funded().await;
    server.ask("generatetoaddress", json!([2, ADDRESS])).await;
    let found = server.ask("scantxoutset", json!(["start", [format!("addr({ADDRESS})")]])).await;
    assert_eq!((&found["success"], &found["txouts"], &found["height"]), (&json!(true), &json!(103), &json!(103)));
    assert_eq!((found["unspents"].as_array().unwrap().len(), &found["total_amount"]), (2, &exact("100.00000000")));
    let first = &found["unspents"][0];
    assert!(first["desc"].as_str().unwrap().starts_with(&format!("addr({ADDRESS})#")));
    assert_eq!(first["coinbase"], json!(true));
    let depth = 104 - first["height"].as_i64().unwrap();
    assert_eq!(first["confirmations"], json!(depth));

    // A key at some index of an extended one.
    let key = "tpubD6NzVbkrYhZ4WaWSyoBvQwbpLkojyoTZPRsgXELWz3Popb3qkjcJyJUGLnL4qHHoQvao8ESaAstxYSnhyswJ76uZPStJRJCTKvosUCJZL5B";
    let descriptor = format!("wpkh({key}/0/*)");
    let derived = {
        use bdk_wallet::miniscript::{Descriptor, DescriptorPublicKey};
        let parsed: Descriptor<DescriptorPublicKey> = descriptor.parse().unwrap();
        parsed.at_derivation_index(7).unwrap().address(bitcoin::Network::Regtest).unwrap()
    };
    server.ask("generatetoaddress", json!([1, derived.to_string()])).await;
    let found = async |object: Value| {
        server.ask("scantxoutset", json!(["start", [object]])).await["unspents"].as_array().unwrap().clone()
    };
    let of_all = found(json!(descriptor)).await;
    assert_eq!((of_all.len(), &of_all[0]["height"]), (1, &json!(104)));
    let desc = of_all[0]["desc"].as_str().unwrap();
    assert!(desc.starts_with("wpkh(0") && desc.len() == "wpkh()#".len() + 66 + 8, "{desc}");
    assert_eq!(found(json!({ "desc": descriptor, "range": 6 })).await.len(), 0);
    assert_eq!(found(json!({ "desc": descriptor, "range": [7, 7] })).await.len(), 1);
    assert_eq!(found(json!(format!("combo({key}/0/7)"))).await.len(), 1);
    let script = ::hex::encode(reward.output[0].script_pubkey.as_bytes());
    assert_eq!(found(json!(format!("raw({script})"))).await.len(), 101);
    assert_eq!(server.refused("scantxoutset", json!(["start", [{ "desc": descriptor, "range": 100_000 }]])).await, -8);
    assert_eq!(server.refused("scantxoutset", json!(["start", [format!("{descriptor}#00000000")]])).await, -5);
    assert_eq!(server.ask("scantxoutset", json!(["status"])).await, Value::Null);
    assert_eq!(server.ask("scantxoutset", json!(["abort"])).await, json!(false));
}

#[tokio::test]
async fn peers_are_added_and_let_go() {
    async fn networked(folder: &TempDir) -> Server {
        let mut config = NodeConfig::new(Params::regtest(), folder.path().join("chain"));
        config.sync_writes = false;
        config.network = true;
        config.listen = Some(([127, 0, 0, 1], 0).into());
        config.clock = leyden_node::Clock::mockable();
        let node = Node::start(config).await.unwrap();
        let access = Access::open(&folder.path().join("cookie"), None).unwrap();
        Server::new(service(node, access), CancellationToken::new())
    }
    async fn until(server: &Server, wanted: impl Fn(&Value) -> bool) -> Value {
        for _ in 0..6_000 {
            let peers = server.ask("getpeerinfo", json!([])).await;
            if wanted(&peers) {
                return peers;
            }
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
        panic!("the peers are not as they should be");
    }
    let (one, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (one, other) = (networked(&one).await, networked(&other).await);
    let address = other.node.local_address().unwrap().to_string();
    one.ask("addnode", json!([address, "add"])).await;
    assert_eq!(one.refused("addnode", json!([address, "add"])).await, -23);
    assert_eq!(one.refused("addnode", json!([address, "onetry", false])).await, -8);
    let peers = until(&one, |peers| peers[0]["addr"] == json!(address)).await;
    assert_eq!(peers[0]["transport_protocol_type"], json!("v2"));
    assert_eq!((&peers[0]["bip152_hb_to"], &peers[0]["bip152_hb_from"]), (&json!(false), &json!(false)));
    let told = other.ask("getnetworkinfo", json!([])).await;
    assert_eq!(peers[0]["services"], told["localservices"]);
    assert_eq!(peers[0]["servicesnames"], told["localservicesnames"]);
    assert_eq!(told["localservicesnames"], json!(["NETWORK", "WITNESS", "COMPACT_FILTERS", "P2P_V2"]));
    let there = until(&other, |peers| peers[0]["inbound"] == json!(true)).await;
    assert_eq!(there[0]["session_id"], peers[0]["session_id"]);
    assert_eq!(peers[0]["session_id"].as_str().unwrap().len(), 64);
    let added = one.ask("getaddednodeinfo", json!([address])).await;
    assert_eq!((&added[0]["connected"], &added[0]["addresses"][0]["connected"]), (&json!(true), &json!("outbound")));
    assert_eq!(one.refused("disconnectnode", json!([address, 0])).await, -32602);
    one.ask("addnode", json!([address, "remove"])).await;
    until(&one, |peers| peers == &json!([])).await;
    assert_eq!(one.ask("getaddednodeinfo", json!([])).await, json!([]));
    one.ask("addnode", json!({ "node": address, "command": "onetry" })).await;
    let again = until(&one, |peers| peers[0]["addr"] == json!(address)).await;
    assert_ne!(again[0]["id"], peers[0]["id"], "another connection");
    one.ask("disconnectnode", json!({ "nodeid": again[0]["id"] })).await;
    until(&one, |peers| peers == &json!([])).await;

    // Whoever is banned loses his connection and gets no other.
    let mine = one.node.local_address().unwrap().to_string();
    other.ask("addnode", json!([mine, "add"])).await;
    until(&one, |peers| peers[0]["inbound"] == json!(true)).await;
    one.ask("setban", json!(["127.0.0.0/8", "add", 1_000])).await;
    assert_eq!(one.refused("setban", json!(["127.0.0.1/8", "add"])).await, -23);
    until(&one, |peers| peers == &json!([])).await;
    let bans = one.ask("listbanned", json!([])).await;
    assert_eq!((&bans[0]["address"], &bans[0]["ban_duration"]), (&json!("127.0.0.0/8"), &json!(1_000)));
    tokio::time::sleep(std::time::Duration::from_secs(3)).await;
    assert_eq!(one.ask("getpeerinfo", json!([])).await, json!([]), "it has tried again since");
    one.ask("setban", json!(["127.0.0.0/8", "remove"])).await;
    until(&one, |peers| peers[0]["inbound"] == json!(true)).await;
    one.ask("setban", json!(["10.0.0.1", "add"])).await;
    one.ask("clearbanned", json!([])).await;
    assert_eq!(one.ask("listbanned", json!([])).await, json!([]));

    // Only a clock for tests can be set.
    one.ask("setmocktime", json!([1_900_000_000])).await;
    let mined = one.ask("generatetoaddress", json!([1, ADDRESS])).await;
    assert_eq!(one.ask("getblockheader", json!([mined[0]])).await["time"], json!(1_900_000_000));
    one.ask("setmocktime", json!([0])).await;
    assert_ne!(one.node.clock().now(), 1_900_000_000);
    one.node.shutdown().await;
    other.node.shutdown().await;
}

#[tokio::test]
async fn the_state_of_chain_and_mining_is_told() {
    let (server, _folder, _) = funded().await;
    let tip = server.ask("getbestblockhash", json!([])).await;
    let set = server.ask("gettxoutsetinfo", json!([])).await;
    assert_eq!((&set["height"], &set["bestblock"], &set["txouts"]), (&json!(101), &tip, &json!(101)));
    assert_eq!((&set["transactions"], &set["total_amount"]), (&json!(101), &exact("5050.00000000")));
    // 101 outputs to P2WSH: 50 bytes and a script of 34 each.
    assert_eq!(set["bogosize"], json!(101 * 84));
    assert_eq!(set["hash_serialized_3"], json!(server.node.utxo_set_hash().await.unwrap().hash));
    let set = server.ask("gettxoutsetinfo", json!({ "hash_type": "muhash" })).await;
    assert!(set["muhash"].as_str().is_some_and(|hash| hash.len() == 64) && set.get("hash_serialized_3").is_none());
    assert!(server.ask("gettxoutsetinfo", json!(["none"])).await.get("muhash").is_none());
    let mining = server.ask("getmininginfo", json!([])).await;
    assert_eq!(
        (&mining["blocks"], &mining["chain"], &mining["bits"]),
        (&json!(101), &json!("regtest"), &json!("207fffff"))
    );
    assert_eq!(server.ask("getdifficulty", json!([])).await, mining["difficulty"]);
    assert_eq!(server.ask("getorphantxs", json!([2])).await, json!([]));
    assert_eq!(mining["next"]["height"], json!(102));
    assert_eq!(mining["networkhashps"], server.ask("getnetworkhashps", json!([])).await);
    assert_eq!(server.ask("getnetworkhashps", json!([5, 0])).await, json!(0.0));
    let deployments = server.ask("getdeploymentinfo", json!([])).await;
    assert_eq!(deployments["deployments"]["segwit"], json!({ "type": "buried", "active": true, "height": 0 }));
    assert!(deployments["script_flags"].as_array().unwrap().contains(&json!("TAPROOT")));
    assert_eq!(server.ask("getindexinfo", json!([])).await["txindex"]["best_block_height"], json!(101));
    assert_eq!(server.ask("getindexinfo", json!(["nothing"])).await, json!({}));
    assert_eq!(server.ask("getnettotals", json!([])).await["totalbytesrecv"], json!(0));
    let valid = server.ask("validateaddress", json!([ADDRESS])).await;
    assert_eq!((&valid["isvalid"], &valid["witness_version"]), (&json!(true), &json!(0)));
    assert_eq!(valid["witness_program"], json!("0101010101010101010101010101010101010101"));
    for wrong in ["nobody", "bc1qw508d6qejxtdg4y5r3zarvary0c5xw7kv8f3t4"] {
        assert_eq!(server.ask("validateaddress", json!([wrong])).await["isvalid"], json!(false));
    }
}

async fn post(address: std::net::SocketAddr, authorization: &str, body: &str) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let request = format!(
        "POST / HTTP/1.1\r\nHost: localhost\r\n{authorization}Content-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

#[tokio::test]
async fn only_who_knows_the_cookie_or_the_password_is_answered() {
    use base64::{Engine as _, prelude::BASE64_STANDARD};

    let (Server { node, access, .. }, folder) = server().await;
    let cookie = std::fs::read_to_string(folder.path().join("cookie")).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let slots = ConnectionSlots::new(crate::limits::SlotLimits { strangers: 2, known: 2 });
    tokio::spawn(serve(service(node, access), listener, slots, CancellationToken::new()));
    let basic = |text: &str| format!("Authorization: Basic {}\r\n", BASE64_STANDARD.encode(text));
    let batch = r#"[{"method":"getblockcount","id":1},{"method":"nothing","id":2}]"#;
    for known in [cookie.as_str(), "lightning:secret"] {
        let answer = post(address, &basic(known), batch).await;
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        assert!(answer.contains(r#""result":0"#) && answer.contains("-32601"), "{answer}");
    }
    for unknown in
        [String::new(), basic("lightning:secreu"), basic("__cookie__:"), "Authorization: Bearer x\r\n".into()]
    {
        assert!(post(address, &unknown, batch).await.starts_with("HTTP/1.1 401"));
    }
    assert!(post(address, &basic(&cookie), "{").await.contains("-32700"));
}

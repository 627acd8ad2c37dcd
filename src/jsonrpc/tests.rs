//! Calls as clients of Bitcoin Core make them, against a real chain.

use leyden_consensus::Params;
use leyden_node::NodeConfig;
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use super::*;

/// P2WPKH of twenty ones.
const ADDRESS: &str = "bcrt1qqyqszqgpqyqszqgpqyqszqgpqyqszqgpvxat9t";

async fn server() -> (Server, TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let mut config = NodeConfig::new(Params::regtest(), folder.path().join("chain"));
    config.sync_writes = false;
    let node = Node::start(config).await.unwrap();
    let access = Access::open(&folder.path().join("cookie"), Some("lightning:secret")).unwrap();
    (Server { node, access }, folder)
}

/// A number with these digits and no others.
fn exact(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}

impl Server {
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

    let (Server { node, access }, folder) = server().await;
    let cookie = std::fs::read_to_string(folder.path().join("cookie")).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let slots = ConnectionSlots::new(crate::limits::SlotLimits { strangers: 2, known: 2 });
    tokio::spawn(serve(node, access, listener, slots, std::future::pending()));
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

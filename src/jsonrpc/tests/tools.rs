//! Calls of people and their tools: transactions and descriptors by hand, the state of storage and of the network.

use std::time::Duration;

use super::*;

/// The key of Bitcoin Core's own tests of `deriveaddresses`, and what it finds there.
const KEY: &str =
    "tprv8ZgxMBicQKsPd7Uf69XL1XwhmjHopUGep8GuEiJDZmbQz6o58LninorQAfcKZWARbtRtfnLcJ5MQ2AtHcQJCCRUcMRvmDUjyEmNUWwx8UbK";
const FIRST: &str = "bcrt1qjqmxmkpmxt80xz4y3746zgt0q3u3ferr34acd5";
const SECOND: &str = "bcrt1qhku5rq7jz8ulufe2y6fkcpnlvpsta7rq4442dy";
const THIRD: &str = "bcrt1qpgptk2gvshyl0s9lqshsmx932l9ccsv265tvaq";

#[tokio::test]
async fn addresses_are_those_that_bitcoin_core_derives() {
    let (server, _folder) = server().await;
    let derived = async |text: &str, range: Value| {
        let params = if range.is_null() { json!([text]) } else { json!([text, range]) };
        server.ask("deriveaddresses", params).await
    };
    assert_eq!(derived(&format!("wpkh({KEY}/1/1/0)#t6wfjs64"), Value::Null).await, json!([FIRST]));
    let ranged = format!("wpkh({KEY}/1/1/*)#kft60nuy");
    assert_eq!(derived(&ranged, json!([1, 2])).await, json!([SECOND, THIRD]));
    assert_eq!(derived(&ranged, json!(2)).await, json!([FIRST, SECOND, THIRD]));
    for (params, code) in [
        (json!([format!("wpkh({KEY}/1/1/*)")]), -5),
        (json!([ranged]), -8),
        (json!([ranged, [2, 1]]), -8),
        (json!([ranged, -1]), -8),
        (json!([ranged, [0, 100_000]]), -8),
        (json!([ranged, 1u64 << 31]), -8),
        (json!([format!("wpkh({KEY}/1/1/0)#t6wfjs64"), [0, 2]]), -8),
    ] {
        assert_eq!(server.refused("deriveaddresses", params.clone()).await, code, "{params}");
    }
    let info = async |text: &str| server.ask("getdescriptorinfo", json!([text])).await;
    let combo = info(&format!("combo({KEY}/1/1/0)")).await;
    assert_eq!((&combo["hasprivatekeys"], &combo["issolvable"]), (&json!(true), &json!(true)));
    let public = combo["descriptor"].as_str().unwrap();
    assert!(public.starts_with("combo(tpub") && public.len() > 100, "{public}");
    let forms = json!(["mtfUoUax9L4tzXARpw1oTGxWyoogp52KhJ", FIRST, "2NDvEwGfpEqJWfybzpKPHF2XH3jwoQV3D7x"]);
    assert_eq!(derived(public, Value::Null).await, forms);
    assert_eq!(info(public).await["hasprivatekeys"], json!(false));
    let secret = format!("combo({KEY}/1/1/0)#{}", combo["checksum"].as_str().unwrap());
    assert_eq!(derived(&secret, Value::Null).await, forms, "the checksum is of what was given");
}

#[tokio::test]
async fn descriptors_tell_what_they_are() {
    let (server, _folder) = server().await;
    let key = "0279be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798";
    let plain = format!("pk({key})");
    let told = server.ask("getdescriptorinfo", json!([plain])).await;
    assert_eq!(
        told,
        json!({
            "descriptor": format!("{plain}#gn28ywm7"),
            "checksum": "gn28ywm7",
            "isrange": false,
            "issolvable": true,
            "hasprivatekeys": false,
        })
    );
    let public = format!("wpkh({KEY}/<0;1>/*)");
    assert_eq!(server.refused("getdescriptorinfo", json!([public])).await, -5, "its public form is not one text");
    let single = server.ask("getdescriptorinfo", json!([format!("wpkh({KEY}/*)")])).await;
    assert_eq!((&single["isrange"], &single["hasprivatekeys"]), (&json!(true), &json!(true)));
    let single = single["descriptor"].as_str().unwrap().split_once("/*").unwrap().0.to_owned();
    let paths = server.ask("getdescriptorinfo", json!([format!("{single}/<0;1>/*)")])).await;
    let expansion: Vec<&str> =
        paths["multipath_expansion"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
    assert!(
        expansion[0].starts_with(&format!("{single}/0/*)#")) && expansion[1].starts_with(&format!("{single}/1/*)#"))
    );
    let both = server.ask("deriveaddresses", json!([paths["descriptor"], 1])).await;
    assert_eq!(both[1], server.ask("deriveaddresses", json!([expansion[1], 1])).await);
    let address = server.ask("getdescriptorinfo", json!([format!("addr({ADDRESS})")])).await;
    assert_eq!(address["issolvable"], json!(false));
}

#[tokio::test]
async fn a_transaction_is_put_together_as_it_is_asked_for() {
    let (server, _folder, reward) = funded().await;
    let txid = reward.compute_txid();
    let made = async |params: Value| {
        let raw = server.ask("createrawtransaction", params).await;
        server.ask("decoderawtransaction", json!([raw])).await
    };
    let outputs = json!([{ "data": "c0ffeec0ffee" }, { ADDRESS: "0.5" }, { FIRST: 1e-8 }]);
    let told = made(json!([[{ "txid": txid, "vout": 3 }], outputs])).await;
    assert_eq!((&told["version"], &told["locktime"]), (&json!(2), &json!(0)));
    assert_eq!((&told["vin"][0]["txid"], &told["vin"][0]["vout"]), (&json!(txid), &json!(3)));
    assert_eq!(told["vin"][0]["sequence"], json!(0xffff_fffd_u32));
    let values: Vec<&Value> = told["vout"].as_array().unwrap().iter().map(|output| &output["value"]).collect();
    assert_eq!(values, [&exact("0.00000000"), &exact("0.50000000"), &exact("0.00000001")]);
    assert_eq!(told["vout"][0]["scriptPubKey"]["asm"], json!("OP_RETURN c0ffeec0ffee"));
    assert_eq!(told["vout"][2]["scriptPubKey"]["address"], json!(FIRST));
    let sequence = async |lock_time: u32, replaceable: bool| {
        let told = made(json!([[{ "txid": txid, "vout": 0 }], {}, lock_time, replaceable, 3])).await;
        assert_eq!(told["version"], json!(3));
        told["vin"][0]["sequence"].as_u64().unwrap()
    };
    assert_eq!(sequence(0, false).await, 0xffff_ffff);
    assert_eq!(sequence(7, false).await, 0xffff_fffe);
    assert_eq!(sequence(7, true).await, 0xffff_fffd);
}

#[tokio::test]
async fn the_stored_chain_is_looked_at_on_every_level() {
    let (server, _folder, _) = funded().await;
    for level in 0..=4 {
        for blocks in [0, 6, 1_000] {
            assert_eq!(server.ask("verifychain", json!([level, blocks])).await, json!(true), "{level} {blocks}");
        }
    }
    assert_eq!(server.ask("getblockcount", json!([])).await, json!(101), "nothing has changed");
    let states = server.ask("getchainstates", json!([])).await;
    assert_eq!((&states["headers"], &states["chainstates"][0]["blocks"]), (&json!(101), &json!(101)));
    assert_eq!(states["chainstates"][0]["validated"], json!(true));
    assert_eq!(server.ask("logging", json!([])).await, json!({}));
    assert_eq!(server.ask("getmemoryinfo", json!([])).await["locked"]["used"], json!(0));
}

#[tokio::test]
async fn old_blocks_are_given_up_when_they_are_told() {
    let folder = tempfile::tempdir().unwrap();
    let mut config = NodeConfig::new(Params::regtest(), folder.path().join("chain"));
    config.sync_writes = false;
    config.network = false;
    config.prune = Some(leyden_node::PruneConfig { target_bytes: 1 << 40, ..Default::default() });
    let node = Node::start(config).await.unwrap();
    let access = Access::open(&folder.path().join("cookie"), None).unwrap();
    let server = Server::new(service(node, access), CancellationToken::new());
    server.node.generate(300, open_script().to_p2wsh()).await.unwrap();
    assert_eq!(server.refused("ping", json!([])).await, -31, "there is no network");
    assert_eq!(server.refused("setnetworkactive", json!([false])).await, -31);
    assert_eq!(server.refused("pruneblockchain", json!([-1])).await, -8);
    assert_eq!(server.refused("pruneblockchain", json!([301])).await, -8);
    assert_eq!(server.refused("pruneblockchain", json!([4_000_000_000u32])).await, -8);
    assert_eq!(server.ask("pruneblockchain", json!([5])).await, json!(5));
    assert_eq!(server.refused("getblock", json!([server.ask("getblockhash", json!([5])).await])).await, -1);
    server.ask("getblock", json!([server.ask("getblockhash", json!([6])).await])).await;
    assert_eq!(server.ask("pruneblockchain", json!([300])).await, json!(11), "the last 288 stay, and the one before");
    assert_eq!(server.ask("getblockchaininfo", json!([])).await["pruneheight"], json!(12));
    assert_eq!(server.refused("verifychain", json!([0, 0])).await, -1, "all of it is not here any more");
    assert_eq!(server.ask("verifychain", json!([4, 288])).await, json!(true));
}

#[tokio::test]
async fn the_network_is_switched_off_and_on() {
    async fn networked(folder: &TempDir) -> Server {
        let mut config = NodeConfig::new(Params::regtest(), folder.path().join("chain"));
        config.sync_writes = false;
        config.network = true;
        config.listen = Some(([127, 0, 0, 1], 0).into());
        let node = Node::start(config).await.unwrap();
        let access = Access::open(&folder.path().join("cookie"), None).unwrap();
        Server::new(service(node, access), CancellationToken::new())
    }
    async fn until(server: &Server, wanted: impl Fn(&Value) -> bool) {
        for _ in 0..6_000 {
            if wanted(&server.ask("getpeerinfo", json!([])).await) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        panic!("the peers are not as they should be");
    }
    let (one, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (one, other) = (networked(&one).await, networked(&other).await);
    let address = other.node.local_address().unwrap().to_string();
    one.ask("addnode", json!([address, "add"])).await;
    until(&one, |peers| peers[0]["addr"] == json!(address)).await;
    one.ask("ping", json!([])).await;
    until(&one, |peers| peers[0]["pingtime"].is_number() && peers[0]["minping"].is_number()).await;

    // A header without its block, which the peer has.
    let mined = other.ask("generatetoaddress", json!([1, ADDRESS])).await[0].clone();
    let hash = json!([mined, 0]);
    until(&one, |_| one.node.tip().height == 1).await;
    assert_eq!(one.refused("getblockfrompeer", hash).await, -1, "it is here already");

    assert_eq!(one.ask("setnetworkactive", json!([false])).await, json!(false));
    until(&one, |peers| peers == &json!([])).await;
    until(&other, |peers| peers == &json!([])).await;
    assert_eq!(one.ask("getnetworkinfo", json!([])).await["networkactive"], json!(false));
    let mine = one.node.local_address().unwrap();
    assert!(other.node.connect_peer(mine).await.is_err(), "nobody is let in");
    assert!(one.node.connect_peer(other.node.local_address().unwrap()).await.is_err());
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(one.ask("getpeerinfo", json!([])).await, json!([]), "nobody is dialled");
    assert_eq!(one.ask("setnetworkactive", json!([true])).await, json!(true));
    until(&one, |peers| peers[0]["addr"] == json!(address)).await;
    assert_eq!(one.ask("getnetworkinfo", json!([])).await["networkactive"], json!(true));

    let counts = one.ask("getaddrmaninfo", json!([])).await;
    assert_eq!(counts["all_networks"]["total"], json!(0), "addresses of this machine are not kept: {counts}");
    assert_eq!(one.ask("getnodeaddresses", json!([0, "ipv4"])).await, json!([]));
    one.node.shutdown().await;
    other.node.shutdown().await;
}

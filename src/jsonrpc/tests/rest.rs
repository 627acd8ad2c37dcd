//! The REST interface, over HTTP as explorers use it.

use bitcoin::{Block, Transaction, consensus::deserialize};

use super::*;

struct Rest {
    address: std::net::SocketAddr,
    node: Node,
    _folder: TempDir,
}

impl Rest {
    async fn new() -> (Self, Transaction) {
        let (Server { node, access, .. }, folder, reward) = funded().await;
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let slots = ConnectionSlots::new(crate::limits::SlotLimits { strangers: 4, known: 4 });
        tokio::spawn(serve(service(node.clone(), access), listener, slots, CancellationToken::new()));
        (Self { address, node, _folder: folder }, reward)
    }

    /// Status, type and body.
    async fn get(&self, path: &str) -> (u16, String, Vec<u8>) {
        self.get_from("localhost", path).await
    }

    async fn get_from(&self, host: &str, path: &str) -> (u16, String, Vec<u8>) {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        let request = format!("GET /rest/{path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await.unwrap();
        let end = answer.windows(4).position(|window| window == b"\r\n\r\n").unwrap();
        let head = String::from_utf8(answer[..end].to_vec()).unwrap();
        let kind = head.lines().find_map(|line| line.strip_prefix("content-type: ")).unwrap_or_default().to_owned();
        (head[9..12].parse().unwrap(), kind, answer[end + 4..].to_vec())
    }

    async fn json(&self, path: &str) -> Value {
        let (status, kind, body) = self.get(path).await;
        assert_eq!((status, kind.as_str()), (200, "application/json"), "{path}: {}", String::from_utf8_lossy(&body));
        serde_json::from_slice(&body).unwrap()
    }

    async fn bin(&self, path: &str) -> Vec<u8> {
        let (status, kind, body) = self.get(path).await;
        assert_eq!((status, kind.as_str()), (200, "application/octet-stream"), "{path}");
        body
    }

    /// Without the line's end.
    async fn hex(&self, path: &str) -> String {
        let (status, kind, body) = self.get(path).await;
        assert_eq!((status, kind.as_str()), (200, "text/plain"), "{path}");
        String::from_utf8(body).unwrap().trim_end().to_owned()
    }

    async fn refused(&self, path: &str) -> (u16, String) {
        let (status, _, body) = self.get(path).await;
        assert_ne!(status, 200, "{path}");
        (status, String::from_utf8(body).unwrap().trim_end().to_owned())
    }
}

#[tokio::test]
async fn blocks_headers_and_transactions_have_three_forms() {
    let (rest, reward) = Rest::new().await;
    let hash = rest.node.block_hash(1).unwrap();
    let stored = rest.node.block(hash).await.unwrap().unwrap();
    let bytes = rest.bin(&format!("block/{hash}.bin")).await;
    assert_eq!(deserialize::<Block>(&bytes).unwrap(), *stored);
    assert_eq!(rest.hex(&format!("block/{hash}.hex")).await, hex::encode(&bytes));
    let txid = reward.compute_txid();
    assert_eq!(rest.json(&format!("block/{hash}.json")).await["tx"][0]["txid"], json!(txid));
    assert_eq!(rest.json(&format!("block/notxdetails/{hash}.json")).await["tx"], json!([txid]));
    let transaction = rest.bin(&format!("tx/{txid}.bin")).await;
    assert_eq!(deserialize::<Transaction>(&transaction).unwrap(), reward);
    assert_eq!(rest.json(&format!("tx/{txid}.json")).await["blockhash"], json!(hash));
    // Headers: five, as many as asked for, or as many as there are.
    assert_eq!(rest.bin(&format!("headers/{hash}.bin")).await.len(), 5 * 80);
    assert_eq!(rest.json(&format!("headers/{hash}.json?count=2")).await[1]["height"], json!(2));
    assert_eq!(rest.bin(&format!("headers/2000/{hash}.bin")).await.len(), 101 * 80);
    assert_eq!(rest.json("blockhashbyheight/1.json").await, json!({ "blockhash": hash }));
    assert_eq!(rest.hex("blockhashbyheight/1.hex").await, hash.to_string());
    let mut reversed = rest.bin("blockhashbyheight/1.bin").await;
    reversed.reverse();
    assert_eq!(hex::encode(reversed), hash.to_string());
    assert_eq!(rest.json("chaininfo.json").await["blocks"], json!(101));
    // Filters.
    let (filter, link) = rest.node.filter(hash).await.unwrap().unwrap();
    assert_eq!(
        rest.json(&format!("blockfilter/basic/{hash}.json")).await["filter"],
        json!(hex::encode(&filter.content))
    );
    let headers = rest.json(&format!("blockfilterheaders/basic/{hash}.json?count=3")).await;
    assert_eq!((headers.as_array().unwrap().len(), &headers[0]), (3, &json!(link.header)));
}

#[tokio::test]
async fn coins_and_the_mempool_are_shown() {
    let (rest, reward) = Rest::new().await;
    let parent = spend(&reward, 1_000);
    let (spent, created) = (reward.compute_txid(), parent.compute_txid());
    let before = rest.json(&format!("getutxos/{spent}-0/{created}-0.json")).await;
    assert_eq!((&before["bitmap"], &before["chainHeight"]), (&json!("10"), &json!(101)));
    assert_eq!((&before["utxos"][0]["height"], &before["utxos"][0]["value"]), (&json!(1), &exact("50.00000000")));
    rest.node.submit_transaction(parent.clone()).await.unwrap();
    let path = format!("{spent}-0/{created}-0");
    assert_eq!(rest.json(&format!("getutxos/{path}.json")).await["bitmap"], json!("10"));
    let with_mempool = rest.json(&format!("getutxos/checkmempool/{path}.json")).await;
    assert_eq!((&with_mempool["bitmap"], &with_mempool["utxos"][0]["height"]), (&json!("01"), &json!(0x7fff_ffff)));
    let bytes = rest.bin(&format!("getutxos/checkmempool/{path}.bin")).await;
    let output = bitcoin::consensus::serialize(&parent.output[0]);
    let wanted = [
        101_u32.to_le_bytes().to_vec(),
        bitcoin::consensus::serialize(&rest.node.tip().hash),
        vec![1, 0b10, 1],
        vec![0; 4],
        0x7fff_ffff_u32.to_le_bytes().to_vec(),
        output,
    ];
    assert_eq!(hex::encode(bytes), hex::encode(wanted.concat()));
    assert_eq!(rest.json("mempool/info.json").await["size"], json!(1));
    let contents = rest.json("mempool/contents.json").await;
    assert_eq!(contents[created.to_string()]["fees"]["base"], exact("0.00001000"));
    assert_eq!(rest.json("mempool/contents.json?verbose=false").await, json!([created]));
    let sequence = rest.json("mempool/contents.json?verbose=false&mempool_sequence=true").await;
    assert_eq!(sequence, json!({ "txids": [created], "mempool_sequence": 2 }));
}

#[tokio::test]
async fn wrong_questions_are_refused_in_the_words_of_bitcoin_core() {
    let (rest, reward) = Rest::new().await;
    let (unknown, known) = ("11".repeat(32), rest.node.tip().hash);
    let many = vec![format!("{}-0", reward.compute_txid()); 16].join("/");
    for (path, status, words) in [
        (format!("block/{unknown}.bin"), 404, "not found"),
        (format!("tx/{unknown}.json"), 404, "not found"),
        ("block/abc.bin".to_owned(), 400, "Invalid hash: abc"),
        (format!("block/{known}.xml"), 404, "output format not found (available: .bin, .hex, .json)"),
        (format!("block/{known}"), 404, "output format not found (available: .bin, .hex, .json)"),
        ("chaininfo.bin".to_owned(), 404, "output format not found (available: json)"),
        (
            format!("headers/{known}.bin?count=2001"),
            400,
            "Header count is invalid or out of acceptable range (1-2000): 2001",
        ),
        (format!("headers/0/{known}.bin"), 400, "Header count is invalid or out of acceptable range (1-2000): 0"),
        ("blockhashbyheight/102.json".to_owned(), 404, "Block height out of range"),
        ("blockhashbyheight/-1.json".to_owned(), 400, "Invalid height: -1"),
        ("blockhashbyheight/+2.json".to_owned(), 400, "Invalid height: +2"),
        (format!("headers/{known}.bin?count=+5"), 400, "out of acceptable range (1-2000): +5"),
        ("getutxos.json".to_owned(), 400, "Error: empty request"),
        (format!("getutxos/{many}.json"), 400, "Error: max outpoints exceeded (max: 15, tried: 16)"),
        (format!("getutxos/{unknown}.json"), 400, "Parse error"),
        (format!("blockfilter/extended/{known}.json"), 400, "Unknown filtertype extended"),
        ("mempool/contents.json?verbose=maybe".to_owned(), 400, "must be either"),
        ("weather.json".to_owned(), 404, "no such page"),
    ] {
        let (found, text) = rest.refused(&path).await;
        assert!(found == status && text.contains(words), "{path}: {found} {text}");
    }
    // A header of another branch, or of none, is no error: the list is empty.
    assert_eq!(rest.json(&format!("headers/{unknown}.json")).await, json!([]));
}

#[tokio::test]
async fn a_page_of_the_web_cannot_read_it_under_a_name_of_its_own() {
    let (rest, _) = Rest::new().await;
    let (status, _, text) = rest.get_from("evil.example:80", "chaininfo.json").await;
    assert!(status == 421 && String::from_utf8(text).unwrap().contains("--tls-extra"));
    assert_eq!(rest.get_from(&rest.address.to_string(), "chaininfo.json").await.0, 200);
}

#[tokio::test]
async fn a_large_answer_comes_whole() {
    let (rest, _) = Rest::new().await;
    let (status, _, body) = rest.get(&format!("headers/2000/{}.json", rest.node.params().genesis_hash)).await;
    let headers: Value = serde_json::from_slice(&body).unwrap();
    assert_eq!((status, headers.as_array().unwrap().len()), (200, 102));
    // As text and as a value a block is the same.
    let hash = rest.node.block_hash(1).unwrap();
    let of_rpc = {
        let access = Access::open(&rest._folder.path().join("another"), None).unwrap();
        let server = Server::new(service(rest.node.clone(), access), CancellationToken::new());
        server.ask("getblock", json!([hash, 2])).await
    };
    assert_eq!(rest.json(&format!("block/{hash}.json")).await, of_rpc);
}

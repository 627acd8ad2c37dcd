//! How a request is read from path, query and body, and what is refused of it.

use super::*;

#[tokio::test]
async fn a_field_that_does_not_exist() {
    let rest = Rest::open().await;
    rest.post("/v1/invoices", r#"{"valeu": 5}"#).await.is(400, 3, "unknown field \"valeu\"");
    rest.post("/v2/router/send", r#"{"first_hop_custom_records": []}"#).await.is(
        400,
        3,
        "first_hop_custom_records: it is not served",
    );
    let funding = "00".repeat(32);
    // What closes a channel must not do less than it is asked; what reads may be asked for more, as of LND.
    let close = rest.ask("DELETE", &format!("/v1/channels/{funding}/0?sat_per_vbyt=5"), "", "").await;
    close.is(400, 3, "unknown field \"sat_per_vbyt\"");
    assert_eq!(rest.get("/v1/getinfo?_=1700000000").await.status, 200);
    let route = rest.get(&format!("/v1/graph/routes/{NODE}/5?blinded_payment_paths=9")).await;
    route.is(400, 3, "blinded_payment_paths: it is not served");
}

#[tokio::test]
async fn an_enum_that_does_not_exist() {
    let rest = Rest::open().await;
    rest.post("/v1/channels", r#"{"commitment_type": "TAPROOTS"}"#).await.is(400, 3, "commitment_type: \"TAPROOTS\"");
    rest.get("/v1/newaddress?type=LEGACY").await.is(400, 3, "type: \"LEGACY\"");
    assert_eq!(rest.get("/v1/newaddress?type=WITNESS_PUBKEY_HASH").await.status, 200);
    assert_eq!(rest.get("/v1/newaddress?type=0").await.status, 200);
}

#[tokio::test]
async fn numbers_as_strings_and_as_numbers_and_names_in_both_spellings() {
    let rest = Rest::open().await;
    rest.post("/v1/invoices", r#"{"value_msat": "7000", "expiry": 60}"#).await;
    let first = rest.asked();
    assert!(first.contains("7000"), "{first}");
    rest.post("/v1/invoices", r#"{"valueMsat": 7e3, "expiry": "60"}"#).await;
    assert_eq!(rest.asked(), first);
    rest.post("/v1/invoices", r#"{"value": "7k"}"#).await.is(400, 3, "field value: \"7k\"");
    rest.post("/v1/invoices", r#"{"value": 1e30}"#).await.is(400, 3, "field value");
}

#[tokio::test]
async fn base64_of_both_alphabets() {
    let rest = Rest::open().await;
    // 32 bytes that hold both letters that differ.
    let (standard, url) = ("+/v7".repeat(10) + "+/s=", "-_v7".repeat(10) + "-_s");
    for hash in [standard.as_str(), url.as_str()] {
        let settled = rest.post("/v2/invoices/cancel", &json!({ "payment_hash": hash }).to_string()).await;
        assert_eq!(settled.status, 200, "{settled:?}");
    }
    let track = rest.get(&format!("/v2/router/track/{url}=")).await;
    assert_eq!(track.status, 200, "{track:?}");
    let escaped = standard.replace('/', "%2F").replace('+', "%2B").replace('=', "%3D");
    let track = rest.get(&format!("/v2/router/track/{escaped}")).await;
    assert_eq!(track.status, 200, "{track:?}");
    rest.get("/v2/router/track/a*b").await.is(400, 3, "payment_hash");
}

#[tokio::test]
async fn a_body_of_5_mb() {
    let rest = Rest::open().await;
    let body = format!("{{\"memo\":\"{}\"}}", "a".repeat(5_000_000));
    let head = format!("POST /v1/invoices HTTP/1.0\r\nContent-Length: {}\r\n\r\n", body.len());
    let mut stream = TcpStream::connect(rest.address).await.unwrap();
    let (mut from, mut to) = stream.split();
    // The answer comes before all of it is written, and the rest finds nobody.
    let write = async {
        let _ = to.write_all((head + &body).as_bytes()).await;
        std::future::pending::<()>().await;
    };
    let mut answer = vec![0; 4096];
    let read = async {
        let length = from.read(&mut answer).await.unwrap();
        String::from_utf8_lossy(&answer[..length]).into_owned()
    };
    let text = tokio::select! {
        text = timeout(PATIENCE, read) => text.unwrap(),
        () = write => unreachable!(),
    };
    assert!(text.starts_with("HTTP/1.0 413") || text.starts_with("HTTP/1.1 413"), "{text}");
    assert!(text.contains("\"code\":8"), "{text}");
    drop(stream);
    rest.is_free().await;
}

#[tokio::test]
async fn a_body_cut_off() {
    let rest = Rest::open().await;
    rest.post("/v1/invoices", r#"{"value": 5, "memo": "te"#).await.is(400, 3, "EOF");
    rest.post("/v1/invoices", "").await;
    assert!(rest.asked().contains("AddInvoice"), "nothing is an empty request: {}", rest.asked());
    let mut stream = rest.send("POST /v1/invoices HTTP/1.1\r\nHost: a\r\nContent-Length: 50\r\n\r\n{\"value\"").await;
    stream.shutdown().await.unwrap();
    drop(stream);
    rest.is_free().await;
    assert!(!rest.asked().contains("value: 5"));
}

#[tokio::test]
async fn fields_come_from_the_query_also_nested_and_repeated_ones() {
    let rest = Rest::open().await;
    let funding = "11".repeat(32);
    let close =
        format!("/v1/channels/{funding}/7?force=true&delivery_address=&channel_point.output_index=7&method=DELETE");
    rest.ask("DELETE", &close, "", "").await;
    assert!(
        rest.asked().contains(&format!("{funding}, vout: 7")) && rest.asked().contains("Force"),
        "{}",
        rest.asked()
    );
    let hops = format!("/v1/graph/routes/{NODE}/5?ignoredNodes={0}&ignored_nodes={0}&fee_limit.fixed=3", "AgIC");
    rest.get(&hops).await.is(400, 3, "ignored_nodes");
    let route = rest.get(&format!("/v1/graph/routes/{NODE}/5?fee_limit.fixed=3&outgoing_chan_id=1")).await;
    assert_eq!(route.status, 200, "{route:?}");
    assert!(rest.asked().contains("3000"), "the nested limit, in msat: {}", rest.asked());
    rest.get("/v1/payments?max_payments=1&max_payments=2").await.is(400, 3, "too many values");
    rest.get("/v1/payments?reversed=perhaps").await.is(400, 3, "reversed: \"perhaps\"");
    rest.get("/v1/payments?reversed.much=1").await.is(400, 3, "reversed has no field");
    rest.get("/v1/payments?index_offset=5&max_payments=7&reversed=1").await;
    assert!(rest.asked().contains('5') && rest.asked().contains('7'), "{}", rest.asked());
}

#[tokio::test]
async fn one_value_is_not_given_twice_in_whatever_spelling() {
    let rest = Rest::open().await;
    let (funding, other) = ("11".repeat(32), "ee".repeat(32));
    let close = async |query: &str| rest.ask("DELETE", &format!("/v1/channels/{funding}/7?{query}"), "", "").await;
    for (query, words) in [
        (format!("channelPoint.fundingTxidStr={other}"), "in the path"),
        ("channel_point.funding_txid_bytes=7u7u7u7u".to_owned(), "exclude each other"),
        ("channel_point.outputIndex=3".to_owned(), "in the path"),
        ("channel_point.output_index=3".to_owned(), "in the path"),
        ("sat_per_vbyte=1&satPerVbyte=200000".to_owned(), "too many values"),
    ] {
        close(&query).await.is(400, 3, words);
    }
    let route = format!("/v1/graph/routes/{NODE}/5");
    rest.get(&format!("{route}?fee_limit.fixed=0&fee_limit.percent=100")).await.is(400, 3, "exclude each other");
    rest.get(&format!("{route}?amt=6")).await.is(400, 3, "in the path");
    assert_eq!(rest.get(&format!("{route}?amt=5&pub_key={NODE}")).await.status, 200);
    let twice = r#"{"AddrToAmount": {"A": "10000", "A": "23456"}}"#;
    rest.post("/v1/transactions/many", twice).await.is(400, 3, "duplicate key");
}

#[tokio::test]
async fn what_stands_where_it_is_not_looked_for_is_refused() {
    let rest = Rest::open().await;
    let body = r#"{"value": 5}"#;
    rest.post("/v1/invoices?memo=x", body).await.is(400, 3, "memo stands in the address");
    assert_eq!(rest.post("/v1/invoices?method=POST", body).await.status, 200);
    assert_eq!(rest.post("/v1/invoices?", body).await.status, 200);
    let close = format!("/v1/channels/{}/0", "11".repeat(32));
    rest.ask("DELETE", &close, "", r#"{"force": true}"#).await.is(400, 3, "this DELETE takes its request from the");
    rest.ask("GET", "/v1/payments", "", r#"{"max_payments": 1}"#).await.is(400, 3, "this GET takes its request");
    // What many programs send with every request says nothing.
    for empty in ["{}", "null", " \n", "\"\""] {
        assert_eq!(rest.ask("GET", "/v1/getinfo", "", empty).await.status, 200, "{empty}");
    }
}

#[tokio::test]
async fn a_browser_asks_by_a_name_of_this_node_only() {
    let rest = Rest::start(false, &["https://wallet.example"]).await;
    let ask = async |headers: &str| rest.ask("GET", "/v1/state", headers, "").await.status;
    let (browser, evil) = ("Sec-Fetch-Site: same-origin\r\n", "Host: evil.example:8080\r\n");
    assert_eq!(ask(&format!("{evil}{browser}")).await, 421);
    assert_eq!(ask(&format!("{evil}Origin: https://evil.example:8080\r\n")).await, 421);
    for host in ["127.0.0.1:8080", "localhost:8080", "node.example"] {
        assert_eq!(ask(&format!("Host: {host}\r\n{browser}")).await, 200, "{host}");
    }
    // A program may know this machine by a name that it does not know itself.
    assert_eq!(ask(evil).await, 200);
    let wallet = "Origin: https://wallet.example\r\n";
    assert_eq!(ask(&format!("{evil}{wallet}")).await, 200, "the user has allowed it");
    let two = format!("{wallet}Origin: https://evil.example\r\n");
    let refused = rest.ask("GET", "/v1/state", &format!("Host: node.example\r\n{two}"), "").await;
    assert!(refused.status == 403 && !refused.head.contains("allow-origin"), "{refused:?}");
}

#[tokio::test]
async fn bodies_without_a_token_are_small_and_those_with_one_fit_their_call() {
    let rest = Rest::start(true, &[]).await;
    let long = |bytes: usize| json!({ "wallet_password": "A".repeat(bytes) }).to_string();
    let login = rest.post("/leyden.Session/Login", &long(2 * MAX_OPEN_REQUEST)).await;
    login.is(413, 8, "more than 131072 bytes");
    // A reader of JSON holds more than its bytes: many small values are refused.
    let many = format!(r#"{{"multi_chan_backup": {{"chan_points": [{}{{}}]}}}}"#, "{},".repeat(100_000));
    let admin = format!("Grpc-Metadata-macaroon: {}\r\n", rest.macaroon(ADMIN));
    let verify = rest.ask("POST", "/v1/channels/backup/verify", &admin, &many).await;
    verify.is(400, 3, "more than 20000 values");
}

#[tokio::test]
async fn a_stream_ends_with_the_key_of_its_token() {
    let rest = Rest::start(true, &[]).await;
    rest.fake.script().hold_streams = true;
    let all = ADMIN.iter().map(|one| (one.entity.to_owned(), one.action.to_owned()));
    let token = hex::encode(rest.key.bake_with(7, all, [7; 16]).unwrap().to_bytes());
    let request = format!("GET /v1/channels/subscribe HTTP/1.0\r\nGrpc-Metadata-macaroon: {token}\r\n\r\n");
    let mut lines = tokio::io::BufReader::new(rest.send(&request).await).lines();
    let mut next = async || timeout(PATIENCE, lines.next_line()).await.expect("a line in time").unwrap();
    while next().await.is_some_and(|line| !line.is_empty()) {}
    rest.key.delete(7).unwrap();
    let mut last = Value::Null;
    while let Some(line) = next().await {
        last = serde_json::from_str(&line).unwrap();
    }
    assert_eq!(last["error"]["code"], 16, "{last}");
}

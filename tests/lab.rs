//! `leyden lab`: what the papers tell of happens on real nodes.

#![allow(clippy::unwrap_used, clippy::expect_used, unreachable_pub, reason = "tests may panic and share helpers")]

mod harness;

use harness::{Folder, leyden, run_leyden};
use leyden_client::{
    cluster::DaemonProcess,
    demo::NOBODY,
    lab::malleability::{
        self, Outcome, WITHDRAWAL,
        exchange::{Bookkeeping, Form, Verdict},
    },
};
use leyden_consensus::script::{ScriptError, ScriptFlags};
use leyden_proto::{
    leyden::{GetBlockRequest, get_block_request::Block},
    lnrpc::SendCoinsRequest,
};
use serde_json::Value;

fn verdicts(outcome: &Outcome) -> Vec<&Verdict> {
    outcome.exchange.books.iter().map(|entry| &entry.verdict).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn changed_txid_makes_only_the_exchange_pay_twice_that_looks_for_it() {
    let report = malleability::play(|_| {}).await.expect("it goes as described");
    let [legacy, segwit] = report.attacks.as_slice() else { panic!("two forms") };
    assert_eq!((legacy.form, segwit.form), (Form::P2pkh, Form::P2wpkh));
    for attack in &report.attacks {
        let withdrawal = &attack.withdrawal;
        assert_ne!(withdrawal.original.compute_wtxid(), withdrawal.changed.compute_wtxid());
        let ends = |transaction, flags| withdrawal.trace(transaction, flags).unwrap().failure;
        assert_eq!(ends(&withdrawal.original, ScriptFlags::STANDARD), None);
        assert_eq!(ends(&withdrawal.changed, ScriptFlags::CONSENSUS), None);
        assert_eq!(ends(&withdrawal.changed, ScriptFlags::STANDARD), Some(ScriptError::SigHighS));
        assert!(attack.refused.to_lowercase().contains("s value"), "{}", attack.refused);
    }
    let same_txid = |changed: &malleability::Changed| changed.original.compute_txid() == changed.changed.compute_txid();
    assert!(!same_txid(&legacy.withdrawal) && same_txid(&segwit.withdrawal));

    let [by_txid, by_outpoint] = legacy.outcomes.as_slice() else { panic!("two exchanges") };
    assert_eq!(by_txid.exchange.bookkeeping, Bookkeeping::ByTxid);
    assert!(
        matches!(verdicts(by_txid).as_slice(), [Verdict::Failed, Verdict::Paid(_)]),
        "{:?}",
        by_txid.exchange.books
    );
    assert_eq!((by_txid.exchange.believes_paid(), by_txid.received), (WITHDRAWAL, WITHDRAWAL * 2));
    let [entry] = by_outpoint.exchange.books.as_slice() else { panic!("one payment") };
    assert!(
        matches!(&entry.verdict, Verdict::Paid(by) if *by != entry.sent),
        "it found the changed transaction: {entry:?}"
    );
    assert_eq!((by_outpoint.exchange.believes_paid(), by_outpoint.received), (WITHDRAWAL, WITHDRAWAL));

    for outcome in &segwit.outcomes {
        let [entry] = outcome.exchange.books.as_slice() else { panic!("one payment") };
        assert_eq!(entry.verdict, Verdict::Paid(entry.sent.clone()), "the id has not changed");
        assert_eq!((outcome.exchange.believes_paid(), outcome.received), (WITHDRAWAL, WITHDRAWAL));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_input_of_the_nodes_own_chain_is_stepped_through() {
    let folder = Folder::new();
    let mut node = DaemonProcess::new(folder.path(), "node", &[]).unwrap();
    node.start().await.unwrap();
    node.mine(1, None).await.unwrap();
    node.mine(100, Some(NOBODY)).await.unwrap();
    let send = SendCoinsRequest { addr: NOBODY.to_owned(), amount: 1_000_000, sat_per_vbyte: 2, ..Default::default() };
    let sent = node.client().unwrap().lightning().send_coins(send).await.unwrap().into_inner();
    let traced = |rules: &str| -> Value {
        let input = format!("{}:0", sent.txid);
        let printed = leyden(node.data_dir(), &["--json", "lab", "script", &input, "--rules", rules]);
        serde_json::from_str(&printed).unwrap()
    };
    for rules in ["consensus", "standard"] {
        let value = traced(rules);
        assert_eq!((value["txid"].as_str(), &value["trace"]["failure"]), (Some(sent.txid.as_str()), &Value::Null));
        assert!(value["trace"]["stages"].as_array().unwrap().len() >= 3, "{value:#}");
    }

    let block = GetBlockRequest { block: Some(Block::Height(1)), include_raw: false };
    let block = node.client().unwrap().chain().get_block(block).await.unwrap().into_inner();
    let coinbase = run_leyden(node.data_dir(), &["lab", "script", &format!("{}:0", block.txids[0])]);
    assert_eq!(coinbase.status.code(), Some(2), "{coinbase:?}");
    assert!(String::from_utf8_lossy(&coinbase.stderr).contains("new coins"), "{coinbase:?}");
}

#[test]
fn double_spends_succeed_as_often_as_the_exact_formula_says() {
    let folder = Folder::new();
    let command = ["--json", "lab", "double-spend", "--attacker", "0.3", "--confirmations", "2", "--races", "400"];
    let value: Value = serde_json::from_str(&leyden(folder.path(), &command)).unwrap();
    let number = |name: &str| value[name].as_f64().unwrap();
    // The command itself fails if they are far apart.
    assert!((number("success") - number("exact")).abs() < 0.12, "{value:#}");
    assert!((number("exact") - 0.432).abs() < 1e-9, "2·(q² + 2·q²·p)");
    assert!(number("blocks") > number("height"), "blocks of the attacker were given up: {value:#}");
}

//! `leyden lab`: what the papers tell of happens on real nodes.

#![allow(clippy::unwrap_used, clippy::expect_used, unreachable_pub, reason = "tests may panic and share helpers")]

use leyden_client::lab::malleability::{
    self, Outcome, WITHDRAWAL,
    exchange::{Bookkeeping, Form, Verdict},
};
use leyden_consensus::script::{ScriptError, ScriptFlags};

/// The daemon's program is built beside this test.
const _DAEMON: &str = env!("CARGO_BIN_EXE_leydend");

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

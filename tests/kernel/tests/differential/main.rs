//! The same questions to Leyden's consensus and to Bitcoin Core's own engine: the answers must be the same.
//!
//! README.md in this crate's folder says how a failing seed is run again.

#![allow(clippy::unwrap_used, clippy::expect_used, unreachable_pub, reason = "tests may panic and share helpers")]

mod draw;
mod scripts;
mod trees;

use std::sync::atomic::Ordering;

use draw::Run;
use scripts::Verdicts;
use scripts::keys::Keys;

#[test]
fn random_and_mutated_scripts_get_the_same_verdict() {
    let run = Run::from_env("LEYDEN_KERNEL_SCRIPTS", 20_000);
    let (keys, verdicts) = (Keys::new(), Verdicts::default());
    run.each(|seed| scripts::compare(seed, &keys, &verdicts));
    let (valid, invalid) = (verdicts.valid.load(Ordering::Relaxed), verdicts.invalid.load(Ordering::Relaxed));
    println!("{} transactions, {valid} valid inputs and {invalid} invalid ones: the same verdicts", run.cases());
    let causes = verdicts.causes.into_inner().expect("no panic");
    println!("causes of the invalid ones: {causes:?}");
    // A generator whose scripts all fail at their first opcode would compare nothing.
    if run.cases() >= 20_000 {
        assert!(valid * 4 > invalid, "{valid} valid, {invalid} invalid");
        assert!(causes.len() >= CAUSES, "only {} causes", causes.len());
    }
}

#[test]
fn random_block_trees_lead_to_the_same_tip() {
    bitcoinkernel::disable_logging();
    let run = Run::from_env("LEYDEN_KERNEL_TREES", 300);
    let (keys, met) = (Keys::new(), trees::Met::default());
    run.each(|seed| trees::compare(seed, &keys, &met));
    let met = met.0.into_inner().expect("no panic");
    println!("{} trees: the same tips, coins and undo data; {met:?}", run.cases());
    if run.cases() >= 300 {
        let count = |what: &str| met.get(what).copied().unwrap_or(0);
        assert!(count("reorganisation") >= run.cases() / 2, "{} reorganisations", count("reorganisation"));
        assert!(count(trees::TIE) * 50 <= run.cases(), "{} ties", count(trees::TIE));
        assert!(count("none taken") > count("none refused"), "most blocks without a fault stand on wrong ones");
    }
}

/// How many of the 39 causes that consensus knows a run has to meet; the rarest comes some five times in a run.
const CAUSES: usize = 35;

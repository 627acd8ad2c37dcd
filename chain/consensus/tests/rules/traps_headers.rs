//! Traps around headers: median time, the first retarget's gap, work against height, verdicts that spread.

use std::num::NonZeroU32;
use std::sync::Arc;

use bitcoin::BlockHash;
use bitcoin::block::Header;
use leyden_consensus::script::ScriptFlags;
use leyden_consensus::{HeaderError, HeaderTree, Params, Retarget, script_flags};

use crate::support::{LATE, TestChain, search};

/// A header on `parent`, so many seconds after it.
pub fn child(tree: &HeaderTree, parent: &BlockHash, seconds: i64) -> Header {
    let above = tree.get(parent).unwrap().header;
    let time = u32::try_from(i64::from(above.time) + seconds).unwrap();
    let mut header = Header {
        version: bitcoin::block::Version::from_consensus(4),
        prev_blockhash: *parent,
        merkle_root: above.merkle_root,
        time,
        bits: tree.next_bits(parent, time).unwrap(),
        nonce: 0,
    };
    search(&mut header);
    header
}

fn extend(tree: &mut HeaderTree, parent: &BlockHash, seconds: i64, count: u32) -> BlockHash {
    let mut tip = *parent;
    for _ in 0..count {
        tip = tree.accept(child(tree, &tip, seconds), LATE).unwrap().hash;
    }
    tip
}

fn with_moving_average() -> Params {
    let window = NonZeroU32::new(4).unwrap();
    Params { retarget: Retarget::MovingAverage { window }, max_step_back: Some(600), ..Params::regtest() }
}

#[test]
fn trap_20_a_block_must_be_strictly_later_than_the_median_of_eleven() {
    let mut tree = HeaderTree::new(Arc::new(Params::regtest()));
    let genesis = tree.best().hash;
    let tip = extend(&mut tree, &genesis, 600, 20);
    let median = tree.median_time_past(&tip).unwrap();
    let above = tree.get(&tip).unwrap();
    assert_eq!(median, above.header.time - 5 * 600, "five of eleven are later");
    let at = i64::from(median) - i64::from(above.header.time);
    let too_old = child(&tree, &tip, at);
    assert_eq!(tree.accept(too_old, LATE), Err(HeaderError::TimeNotAfterMedian { median, time: median }));
    assert_eq!(tree.earliest_time(&tip), Some(median + 1));
    assert!(tree.accept(child(&tree, &tip, at + 1), LATE).is_ok());
}

#[test]
fn trap_20_the_median_of_a_short_chain_takes_the_later_middle() {
    let mut tree = HeaderTree::new(Arc::new(Params::regtest()));
    let genesis = tree.best();
    let one = extend(&mut tree, &genesis.hash, 600, 1);
    assert_eq!(tree.median_time_past(&one), Some(genesis.header.time + 600));
}

#[test]
fn trap_20_a_block_may_be_two_hours_ahead_and_no_second_more() {
    let mut tree = HeaderTree::new(Arc::new(Params::regtest()));
    let genesis = tree.best();
    let header = child(&tree, &genesis.hash, 10_000);
    let now = u64::from(header.time) - 7200;
    let refused = tree.accept(header, now - 1).unwrap_err();
    assert_eq!(refused.reject_reason(), "time-too-new");
    assert!(refused.may_pass_later());
    assert!(tree.accept(header, now).is_ok());
}

#[test]
fn trap_20_work_decides_and_not_height() {
    let mut tree = HeaderTree::new(Arc::new(with_moving_average()));
    let genesis = tree.best().hash;
    let long = extend(&mut tree, &genesis, 2400, 12);
    assert_eq!(tree.best().hash, long);
    let short = extend(&mut tree, &genesis, 1, 8);
    assert!(tree.get(&short).unwrap().height < tree.get(&long).unwrap().height);
    assert!(tree.get(&short).unwrap().chain_work > tree.get(&long).unwrap().chain_work);
    assert_eq!(tree.best().hash, short);
}

#[test]
fn trap_20_of_equal_work_the_first_seen_stays_and_the_first_complete_wins_among_stored() {
    let mut tree = HeaderTree::new(Arc::new(Params::regtest()));
    let genesis = tree.best().hash;
    let first = extend(&mut tree, &genesis, 600, 3);
    let second = extend(&mut tree, &genesis, 700, 3);
    assert_eq!(tree.best().hash, first);
    assert_eq!(tree.best_stored().hash, genesis);
    // Bodies arrive in any order; the second chain is whole first.
    let bodies = |tree: &HeaderTree, tip: &BlockHash| tree.path(&genesis, tip).unwrap().connect;
    for hash in bodies(&tree, &second).iter().rev() {
        tree.mark_stored(hash);
    }
    assert_eq!(tree.best_stored().hash, second);
    for hash in bodies(&tree, &first).iter().rev() {
        tree.mark_stored(hash);
    }
    assert_eq!(tree.best_stored().hash, second);
    // When it turns out invalid, the other is there; and back.
    tree.invalidate(&second);
    assert_eq!(tree.best_stored().hash, first);
    tree.reconsider(&second);
    assert_eq!(tree.best_stored().hash, second);
    tree.mark_missing(&bodies(&tree, &second)[0]);
    assert_eq!(tree.best_stored().hash, first);
}

#[test]
fn trap_20_of_equal_tips_that_one_body_completes_the_first_stored_wins() {
    for first_is_older in [true, false] {
        let mut tree = HeaderTree::new(Arc::new(Params::regtest()));
        let genesis = tree.best().hash;
        let parent = extend(&mut tree, &genesis, 600, 1);
        let tips = [extend(&mut tree, &parent, 600, 1), extend(&mut tree, &parent, 700, 1)];
        let order = if first_is_older { [tips[0], tips[1]] } else { [tips[1], tips[0]] };
        for body in [order[0], order[1], parent] {
            tree.mark_stored(&body);
        }
        assert_eq!(tree.best_stored().hash, order[0]);
    }
}

#[test]
fn trap_20_wrong_bits_are_refused_even_when_they_are_harder() {
    let mut tree = HeaderTree::new(Arc::new(Params::regtest()));
    let genesis = tree.best().hash;
    let mut header = child(&tree, &genesis, 600);
    header.bits = bitcoin::CompactTarget::from_consensus(0x2000_ffff);
    search(&mut header);
    assert_eq!(tree.accept(header, LATE).unwrap_err().reject_reason(), "bad-diffbits");
}

#[test]
fn an_invalid_block_takes_its_descendants_along_and_refuses_new_ones() {
    let mut tree = HeaderTree::new(Arc::new(Params::regtest()));
    let genesis = tree.best().hash;
    let shared = extend(&mut tree, &genesis, 600, 2);
    let bad = extend(&mut tree, &shared, 600, 1);
    let on_bad = extend(&mut tree, &bad, 600, 3);
    let other = extend(&mut tree, &shared, 500, 2);
    assert_eq!(tree.best().hash, on_bad);
    assert_eq!(tree.invalidate(&bad).len(), 4);
    assert_eq!(tree.invalidate(&bad).len(), 0);
    assert_eq!(tree.best().hash, other);
    let more = child(&tree, &on_bad, 600);
    assert_eq!(tree.accept(more, LATE).unwrap_err().reject_reason(), "bad-prevblk");
    let again = tree.get(&bad).unwrap().header;
    assert_eq!(tree.accept(again, LATE), Err(HeaderError::KnownInvalid(bad)));
    tree.reconsider(&on_bad);
    assert_eq!(tree.best().hash, on_bad);
    assert!(tree.accept(more, LATE).unwrap().is_best);
    assert!(tree.invalidate(&genesis).is_empty(), "the genesis block cannot be invalid");
}

#[test]
fn an_orphan_header_is_refused_until_its_parent_comes() {
    let mut tree = HeaderTree::new(Arc::new(Params::regtest()));
    let mut other = tree.clone();
    let genesis = tree.best().hash;
    let parent = other.accept(child(&other, &genesis, 600), LATE).unwrap().hash;
    let orphan = child(&other, &parent, 600);
    let refused = tree.accept(orphan, LATE).unwrap_err();
    assert_eq!(refused, HeaderError::UnknownParent(parent));
    assert!(refused.may_pass_later());
    tree.accept(other.get(&parent).unwrap().header, LATE).unwrap();
    assert!(tree.accept(orphan, LATE).unwrap().is_best);
}

#[test]
fn a_locator_leads_a_peer_on_another_branch_to_the_fork() {
    let mut ours = HeaderTree::new(Arc::new(Params::regtest()));
    let genesis = ours.best().hash;
    let fork = extend(&mut ours, &genesis, 600, 40);
    let mut theirs = ours.clone();
    extend(&mut ours, &fork, 600, 15);
    let their_tip = extend(&mut theirs, &fork, 500, 3);
    let locator = theirs.locator(&their_tip).unwrap();
    assert_eq!((locator[0], *locator.last().unwrap()), (their_tip, genesis));
    assert!(locator.len() < 20);
    let none = BlockHash::from_raw_hash(bitcoin::hashes::Hash::all_zeros());
    let headers = ours.headers_after(&locator, &none, 2000);
    assert_eq!(headers.last().unwrap().block_hash(), ours.best().hash);
    for header in &headers {
        theirs.accept(*header, LATE).unwrap();
    }
    assert_eq!(theirs.best().hash, ours.best().hash);
    assert_eq!(ours.headers_after(&[], &none, 7).len(), 7);
    assert_eq!(ours.headers_after(&[], &none, 7)[0].prev_blockhash, genesis);
    let stop = ours.at_height(3).unwrap().hash;
    assert_eq!(ours.headers_after(&[], &stop, 2000).last().unwrap().block_hash(), stop);
    assert!(ours.headers_after(&[ours.best().hash], &none, 7).is_empty());
    assert!(ours.headers_after(&[], &none, 0).is_empty());
}

#[test]
fn trap_23_script_rules_hold_from_genesis_but_for_the_named_blocks() {
    let params = Params::mainnet();
    let always = ScriptFlags::P2SH | ScriptFlags::WITNESS | ScriptFlags::TAPROOT;
    let any: BlockHash = params.genesis_hash;
    assert_eq!(script_flags(1, any, &params), always);
    let bip16: BlockHash = "00000000000002dc756eebf4f49723ed8d30cc28a5f108eb94b1ba88ac4f9c22".parse().unwrap();
    assert_eq!(script_flags(170_060, bip16, &params), ScriptFlags::NONE);
    let taproot: BlockHash = "0000000000000000000f14c35b2d841e986ab5441de8c585d5ffe55ea1e395ad".parse().unwrap();
    assert_eq!(
        script_flags(692_261, taproot, &params),
        ScriptFlags::CONSENSUS.without(ScriptFlags::TAPROOT),
        "the other rules of its height stay"
    );
    for (height, flag) in [
        (363_725, ScriptFlags::DERSIG),
        (388_381, ScriptFlags::CHECKLOCKTIMEVERIFY),
        (419_328, ScriptFlags::CHECKSEQUENCEVERIFY),
        (481_824, ScriptFlags::NULLDUMMY),
    ] {
        assert!(!script_flags(height - 1, any, &params).contains(flag));
        assert!(script_flags(height, any, &params).contains(flag));
    }
    for params in [Params::regtest(), Params::leyden(), Params::signet()] {
        assert_eq!(script_flags(1, any, &params), ScriptFlags::CONSENSUS, "{}", params.name);
    }
}

#[test]
fn outdated_block_versions_are_refused_from_the_height_of_their_rule_on() {
    let mut chain = TestChain::new(Params::regtest());
    let mut block = chain.next_block(Vec::new(), 0);
    block.header.version = bitcoin::block::Version::from_consensus(3);
    crate::support::seal(&mut block);
    let error = crate::support::fault(chain.connect(&block).unwrap_err());
    assert_eq!(error.reject_reason(), "bad-version(0x00000003)");
}

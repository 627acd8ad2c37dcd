//! What a payment costs on the curve, held as counts: they do not depend on the machine, and cannot grow unseen.
//!
//! A payment of one hop makes four commitments, each with `commitment_signed` and `revoke_and_ack`; two of them hold the
//! HTLC (BOLT 2, Normal Operation). The onion and the invoice are not the channel's.

use super::harness::{TestChannel, Who};
use crate::keys::curve::CurveOperation::*;
use crate::keys::curve::tests::Work;
use crate::types::*;

/// What both nodes have done since the last call.
fn take_work(test: &mut TestChannel) -> Work {
    let mut both = Work::new();
    for who in Who::BOTH {
        for (operation, times) in std::mem::take(&mut test[who].work) {
            *both.entry(operation).or_default() += times;
        }
    }
    both
}

#[test]
fn a_payment_alone_costs_what_the_protocol_needs() {
    let mut test = TestChannel::funded(10_000_000).push(5_000_000).ready();
    test.pay(Who::Alice, Msat(10_000_000));
    take_work(&mut test);
    test.pay(Who::Alice, Msat(10_000_000));
    // Two nodes work out the keys of each of four commitments: two multiples for its revocation key and a delayed key, and
    // the two HTLC keys of the two commitments with the HTLC. Each commitment's point is made by its owner and checked by
    // the peer.
    assert_eq!(
        take_work(&mut test),
        Work::from([
            (Sign, 6),
            (Verify, 6),
            (PublicKey, 4 * 2),
            (AddGenerator, 4 * 2 + 2 * 2 * 2),
            (Multiply, 4 * 2 * 2)
        ])
    );
}

#[test]
fn what_is_prepared_while_the_peer_is_waited_for_is_not_done_twice() {
    let mut test = TestChannel::funded(10_000_000).push(5_000_000).ready();
    for who in Who::BOTH {
        test[who].prepares = true;
    }
    test.pay(Who::Alice, Msat(10_000_000));
    take_work(&mut test);
    for who in Who::BOTH {
        test[who].prepared.clear();
    }
    test.pay(Who::Alice, Msat(10_000_000));
    let mut prepared = Work::new();
    for who in Who::BOTH {
        for (operation, times) in std::mem::take(&mut test[who].prepared) {
            *prepared.entry(operation).or_default() += times;
        }
    }
    // All points, and all keys but those of HTLCs.
    assert_eq!(prepared, Work::from([(PublicKey, 4), (AddGenerator, 4 * 2), (Multiply, 4 * 2 * 2)]));
    let mut all = take_work(&mut test);
    for (operation, times) in prepared {
        *all.entry(operation).or_default() += times;
    }
    let needed = [(Sign, 6), (Verify, 6), (PublicKey, 4 * 2), (AddGenerator, 4 * 2 + 2 * 2 * 2), (Multiply, 4 * 2 * 2)];
    assert_eq!(all, Work::from(needed));
}

#[test]
fn a_hundred_payments_at_once_share_their_commitments() {
    const MANY: u64 = 100;
    let mut test = TestChannel::funded(100_000_000).push(5_000_000).ready();
    test.pay(Who::Alice, Msat(10_000_000));
    take_work(&mut test);
    let adds: Vec<_> = (0..MANY).map(|_| test.add(Who::Alice, Msat(100_000))).collect();
    test.run();
    for id in 0..MANY {
        test.fulfill(Who::Bob, HtlcId(id + 1));
    }
    test.run();
    assert!(adds.iter().all(|attempt| test[Who::Alice].outcomes.contains_key(attempt)));
    // HTLCs of 100 sat are dust: no signature and no key of their own.
    assert_eq!(
        take_work(&mut test),
        Work::from([(Sign, 4), (Verify, 4), (PublicKey, 4 * 2), (AddGenerator, 4 * 2), (Multiply, 4 * 2 * 2)])
    );
}

//! Closing alone, and seeing the peer do it.

use bitcoin::{Amount, Sequence, Transaction};

use super::checks::execute;
use super::harness::spent;
use super::harness::{Crash, Outcome, Setup, TestChannel, Who, wallet_script};
use crate::channel::*;
use crate::keys::{BasepointSecrets, KeysSigner};
use crate::margins::MAX_HTLC_CLTV;
use crate::onchain::{self, Closer};
use crate::tx::{ClaimInput, ClaimRequest, RevokedState, build_claim};
use crate::types::*;

const KINDS: [CommitmentType; 2] = [CommitmentType::StaticRemoteKey, CommitmentType::Anchors];

/// Builds, signs and executes a claim of all of `claims`.
pub(super) fn execute_claims(test: &TestChannel, who: Who, claims: &[ClaimInput]) -> Transaction {
    let seed = super::harness::channel_seed(test.seed, who as u8);
    let signer = KeysSigner::new(BasepointSecrets::from_channel_seed(&seed).unwrap());
    let claim = build_claim(ClaimRequest {
        inputs: claims.to_vec(),
        fee_coins: &[],
        destination: &wallet_script(who),
        fee: Amount::from_sat(500),
        tip: Height(5_000),
    })
    .unwrap();
    let transaction = claim.sign(&signer).unwrap();
    execute(&transaction, claim.inputs.iter().map(|input| input.output.clone()).collect());
    transaction
}

#[test]
fn a_force_close_broadcasts_the_latest_commitment_and_claims_to_local_after_the_delay() {
    for kind in KINDS {
        let mut test = Setup::new(1_000_000, kind).push(300_000).ready();
        test.pay(Who::Alice, Msat(10_000_000));
        test.event(Who::Alice, Event::ForceClose);
        let alice = &mut test[Who::Alice];
        assert_eq!(alice.channel.state_name(), StateName::Closing);
        let close = alice.local_close.take().unwrap();
        assert_eq!(alice.broadcasts.last(), Some(&close.transaction));
        let claim = execute_claims(&test, Who::Alice, &close.claims);
        assert_eq!(claim.input[0].sequence, Sequence(1000), "the papers' delay");

        test.restart(Who::Alice);
        assert_eq!(test[Who::Alice].broadcasts.last(), Some(&close.transaction), "broadcast again");
        let transaction = close.transaction.clone();
        test.event(Who::Alice, spent(transaction, Some(Height(120))));
        assert_eq!(test[Who::Alice].local_close.take().unwrap().height, Some(Height(120)));
        let taken_back = onchain::Event::Reorganized { to: Height(119) };
        test.event(Who::Alice, Event::Chain { event: taken_back, tip: Height(120) });
        test.event(Who::Alice, spent(close.transaction, Some(Height(121))));
        test.event(Who::Alice, Event::CloseConfirmed);
        assert!(test[Who::Alice].forgotten);
    }
}

/// The connection may stay for long: nobody must wait for its end.
#[test]
fn an_htlc_that_was_not_signed_is_given_back_when_the_channel_closes() {
    for by_peer in [false, true] {
        let mut test = Setup::new(1_000_000, CommitmentType::Anchors).push(300_000).ready();
        test.pay(Who::Alice, Msat(10_000_000));
        let theirs = test[Who::Bob].channel.local_close().unwrap().unwrap().transaction;
        let (attempt, add) = test.htlc(Msat(5_000_000));
        let close = if by_peer { spent(theirs, None) } else { Event::ForceClose };
        test.events(Who::Alice, vec![Event::Add(Box::new(add)), close], Crash::Never);
        assert_eq!(test[Who::Alice].outcomes.get(&attempt), Some(&Outcome::Refused(CannotAdd::Disconnected)));
    }
}

/// The peer holds a commitment with our HTLC, or soon may, and says nothing: upstream is failed in time all the same. What
/// was signed closes the channel; what was not is forgotten by both with the connection.
#[test]
fn an_htlc_that_the_peer_answers_with_silence_closes_the_channel_at_its_deadline() {
    for kind in KINDS {
        for is_signed in [true, false] {
            let mut test = Setup::new(1_000_000, kind).push(300_000).ready();
            if !is_signed {
                // A signature for something else is not answered, so that the HTLC waits for the next one.
                test.event(Who::Alice, Event::UpdateFee(FeeratePerKw(1_200)));
                test.event(Who::Alice, Event::Flush);
            }
            let attempt = test.add(Who::Alice, Msat(100_000_000));
            test.event(Who::Alice, Event::Flush);
            let commitments = test[Who::Alice].commitments();
            assert!(commitments.remote.current.spec.htlcs().is_empty() && commitments.local.spec.htlcs().is_empty());
            assert_eq!(commitments.remote.next().unwrap().spec.htlcs().len(), usize::from(is_signed));
            test[Who::Alice].tolerant = true;
            test.event(Who::Alice, Event::NewTip(Height(602)));
            assert_eq!(test[Who::Alice].channel.state_name(), StateName::Normal);
            test.event(Who::Alice, Event::NewTip(Height(603)));
            let state = test[Who::Alice].channel.state_name();
            if is_signed {
                assert_eq!(state, StateName::Closing, "{kind:?}");
            } else {
                assert_eq!(state, StateName::Normal, "{kind:?}");
                assert_eq!(test[Who::Alice].outcomes.get(&attempt), Some(&Outcome::Refused(CannotAdd::Disconnected)));
                assert!(test[Who::Alice].commitments().local_changes.proposed.is_empty());
            }
        }
    }
}

#[test]
fn the_peers_commitment_is_recognised_whichever_of_both_it_is() {
    for kind in KINDS {
        for latest in [false, true] {
            let mut test = Setup::new(1_000_000, kind).push(300_000).ready();
            test.add(Who::Alice, Msat(50_000_000));
            test.event(Who::Alice, Event::Flush);
            if latest {
                test.deliver(Who::Bob);
                test.deliver(Who::Bob);
                test.cut(); // Bob has the new commitment, Alice does not have his revocation
            }
            test.event(Who::Bob, Event::ForceClose);
            let transaction = test[Who::Bob].broadcasts.last().unwrap().clone();
            test.event(Who::Alice, spent(transaction, Some(Height(120))));
            let close = test[Who::Alice].remote_close.take().unwrap();
            assert_eq!(close.kind, SpendKind::Remote(CommitmentNumber(u64::from(latest))));
            let Closer::Remote { commitment, .. } = &close.closer else { panic!() };
            assert_eq!(commitment.htlc_count(), usize::from(latest));
            execute_claims(&test, Who::Alice, &close.claims);
        }
    }
}

#[test]
fn a_revoked_commitment_gives_every_output_to_the_other_side() {
    for kind in KINDS {
        let mut test = Setup::new(1_000_000, kind).push(300_000).ready();
        test.add(Who::Alice, Msat(50_000_000));
        test.add(Who::Bob, Msat(40_000_000));
        test.run();
        let old = test[Who::Bob].channel.local_close().unwrap().unwrap();
        assert_eq!(old.commitment.htlc_count(), 2);
        test.fulfill(Who::Bob, HtlcId(0));
        test.fail(Who::Alice, HtlcId(0));
        test.run();

        let transaction = old.transaction.clone();
        test.event(Who::Alice, spent(transaction, Some(Height(120))));
        let close = test[Who::Alice].remote_close.take().unwrap();
        assert!(matches!(close.kind, SpendKind::Revoked(_)));
        let Closer::Revoked { secret, .. } = close.closer else { panic!() };

        // All that is left of the HTLCs is in the store.
        let alice = &test[Who::Alice];
        let number = old.commitment.number;
        let retired = alice.store.rows.iter().filter_map(|(key, bytes)| match *key {
            Key::RetiredHtlc { offered_by, id, .. } => Some(decode_retired(HtlcKey { offered_by, id }, bytes).unwrap()),
            _ => None,
        });
        let htlcs = revoked_htlcs(number, retired);
        assert_eq!(htlcs.len(), 2);
        let terms = alice.channel.terms().unwrap();
        let params = terms.commitment_params(Side::Remote);
        let (local, remote) = (&terms.sides.local.basepoints, &terms.sides.remote.basepoints);
        let state = RevokedState::new(&params, local, remote, secret).unwrap();
        let claims: Vec<ClaimInput> =
            state.claims(&old.transaction, local, &htlcs).into_iter().filter_map(|(_, claim)| claim).collect();
        assert_eq!(claims.len(), 4);
        execute_claims(&test, Who::Alice, &claims);
    }
}

#[test]
fn a_connection_after_a_force_close_tells_the_peer() {
    let mut test = TestChannel::funded(1_000_000).push(300_000).ready();
    test[Who::Bob].tolerant = true;
    test.event(Who::Alice, Event::ForceClose);
    test.cut();
    test.connect();
    test.run();
    assert_eq!(test[Who::Bob].channel.state_name(), StateName::Closing);
    assert!(test[Who::Bob].notices.iter().any(|notice| matches!(notice, Notice::PeerSays { error: true, .. })));
}

#[test]
fn a_connected_peer_hears_of_a_force_close_once_a_block_has_it() {
    let mut test = TestChannel::funded(1_000_000).push(300_000).ready();
    test[Who::Bob].tolerant = true;
    test.event(Who::Alice, Event::ForceClose);
    test.run();
    assert_eq!(test[Who::Bob].channel.state_name(), StateName::Normal, "two commitments would contend");
    let transaction = test[Who::Alice].broadcasts.last().unwrap().clone();
    test.event(Who::Alice, spent(transaction, Some(Height(120))));
    test.run();
    assert_eq!(test[Who::Bob].channel.state_name(), StateName::Closing);
    assert!(test[Who::Bob].notices.iter().any(|notice| matches!(notice, Notice::PeerSays { error: true, .. })));
}

#[test]
fn an_htlc_that_expires_closes_the_channel() {
    let mut test = TestChannel::funded(1_000_000).push(300_000).ready();
    for who in Who::BOTH {
        test[who].tolerant = true;
    }
    test.add(Who::Alice, Msat(50_000_000)); // expires at 600
    test.run();
    test.event(Who::Bob, Event::NewTip(Height(700)));
    assert_eq!(test[Who::Bob].channel.state_name(), StateName::Normal, "not his loss");
    test.event(Who::Alice, Event::NewTip(Height(602)));
    assert_eq!(test[Who::Alice].channel.state_name(), StateName::Normal);
    test.event(Who::Alice, Event::NewTip(Height(603)));
    assert_eq!(test[Who::Alice].channel.state_name(), StateName::Closing);
}

#[test]
fn an_htlc_that_is_not_worth_its_fee_closes_no_channel() {
    let mut test = TestChannel::funded(1_000_000).push(300_000).ready();
    test[Who::Alice].tolerant = true;
    test.add(Who::Alice, Msat(600_000)); // expires at 600
    test.run();
    test.event(Who::Alice, Event::NewTip(Height(700)));
    assert_eq!(test[Who::Alice].channel.state_name(), StateName::Normal);
}

/// What waits for the HTLC's end would wait for ever at a peer that is gone.
#[test]
fn a_small_htlc_that_a_peer_leaves_for_days_after_its_expiry_closes_the_channel_of_who_offered_it() {
    let mut test = TestChannel::funded(1_000_000).push(300_000).ready();
    test[Who::Alice].tolerant = true;
    test.add(Who::Alice, Msat(600_000)); // expires at 600
    test.run();
    test.event(Who::Bob, Event::NewTip(Height(10_000)));
    assert_eq!(test[Who::Bob].channel.state_name(), StateName::Normal, "not his payment");
    test.event(Who::Alice, Event::NewTip(Height(887)));
    assert_eq!(test[Who::Alice].channel.state_name(), StateName::Normal, "a peer may be away for two days");
    test.event(Who::Alice, Event::NewTip(Height(888)));
    assert_eq!(test[Who::Alice].channel.state_name(), StateName::Closing);
}

#[test]
fn a_preimage_that_the_peer_does_not_take_back_in_time_closes_the_channel() {
    let mut test = TestChannel::funded(1_000_000).push(300_000).ready();
    test[Who::Bob].tolerant = true;
    test.add(Who::Alice, Msat(50_000_000)); // expires at 600
    test.run();
    test.cut();
    test.fulfill(Who::Bob, HtlcId(0));
    test.event(Who::Bob, Event::NewTip(Height(587)));
    assert_eq!(test[Who::Bob].channel.state_name(), StateName::Normal);
    test.event(Who::Bob, Event::NewTip(Height(588)));
    assert_eq!(test[Who::Bob].channel.state_name(), StateName::Closing);
}

/// While the node was away a reorganisation may have taken the close back, and no mempool need have it.
#[test]
fn what_closed_the_channel_is_broadcast_again_after_a_restart_even_if_it_was_confirmed() {
    for kind in [CommitmentType::StaticRemoteKey, CommitmentType::Anchors] {
        let mut test = Setup::new(1_000_000, kind).push(300_000).ready();
        test.event(Who::Bob, Event::ForceClose);
        let transaction = test[Who::Bob].local_close.take().unwrap().transaction;
        let spent = spent(transaction.clone(), Some(Height(120)));
        test.event(Who::Alice, spent);
        test.restart(Who::Alice);
        assert_eq!(test[Who::Alice].broadcasts.last(), Some(&transaction));
    }
}

#[test]
fn a_closing_channel_takes_no_wishes() {
    let mut test = TestChannel::funded(1_000_000).push(300_000).ready();
    test.event(Who::Alice, Event::ForceClose);
    let attempt = test.add(Who::Alice, Msat(1_000_000));
    assert_eq!(test[Who::Alice].outcomes[&attempt], Outcome::Refused(CannotAdd::State(StateName::Closing)));
    let request = CloseRequest {
        script: wallet_script(Who::Alice),
        feerate: FeeratePerKw(1000),
        feerate_min: FeeratePerKw(253),
        feerate_max: FeeratePerKw(2000),
    };
    test.event(Who::Alice, Event::Close(request));
    assert_eq!(test[Who::Alice].refusals, [CloseRefused::State(StateName::Closing)]);
    let count = test[Who::Alice].broadcasts.len();
    test.event(Who::Alice, Event::ForceClose);
    assert_eq!(test[Who::Alice].broadcasts.len(), count);
}

#[test]
fn damaged_and_newer_records_are_named() {
    let test = TestChannel::funded(1_000_000).ready();
    let restore = |change: &dyn Fn(Key, &mut Vec<u8>)| {
        let rows: Vec<_> = test[Who::Alice]
            .live_rows()
            .map(|(key, mut value)| {
                change(key, &mut value);
                (key, value)
            })
            .collect();
        Channel::restore(rows, |_| Some(test[Who::Alice].signer.clone())).err()
    };
    assert_eq!(restore(&|_, _| {}), None);
    let newer = restore(&|key, value| {
        if matches!(key, Key::State(_)) {
            value[0] = 9;
        }
    });
    assert_eq!(newer, Some(RestoreError::Newer { found: 9, known: 4 }));
    // No damage makes a panic, and no shortened row is taken for a whole one.
    for (key, value) in test[Who::Alice].live_rows() {
        for cut in 0..value.len() {
            let error = restore(&|one, value| {
                if one == key {
                    value.truncate(cut);
                }
            });
            assert!(error.is_some() || matches!(key, Key::Secrets(_)), "{key:?} cut to {cut}");
        }
        for at in 0..value.len() {
            restore(&|one, value| {
                if one == key {
                    value[at] ^= 0x55;
                }
            });
        }
    }
    let foreign = Channel::restore(test[Who::Alice].live_rows(), |_| Some(test[Who::Bob].signer.clone())).err();
    assert_eq!(foreign, Some(RestoreError::ForeignKeys));
}

/// The state as the second format had it: what becomes of the outputs was kept in two rows beside it.
fn earlier_rows(test: &TestChannel, who: Who) -> Vec<(Key, Vec<u8>)> {
    let resolution = test[who].channel.resolution().unwrap();
    let kept = resolution.encode();
    // The format, the script, which has 22 bytes, and no incoming HTLC behind one of ours.
    let facts = [&kept[..1], &kept[1 + 2 + 22 + 4..]].concat();
    assert_eq!(kept[1..3], [0, 22]);
    let id = test.channel_id();
    let separate = [(Key::Closing(id), resolution.channel().encode()), (Key::Resolution(id), facts)];
    let rows = test[who].live_rows().map(|(key, mut value)| {
        if matches!(key, Key::State(_)) {
            let at = value.windows(kept.len()).position(|bytes| bytes == kept).unwrap();
            let mut length = Vec::new();
            crate::wire::bigsize::write(kept.len() as u64, &mut length);
            value.drain(at - length.len()..at + kept.len());
            value[..2].copy_from_slice(&[2, 10]);
            value[2] |= u8::from(resolution.is_forced());
            assert_eq!(value.pop(), Some(0), "nothing is queued for towers");
        }
        (key, value)
    });
    rows.chain(separate).collect()
}

#[test]
fn a_closing_channel_of_an_earlier_version_goes_on_where_it_was() {
    for kind in KINDS {
        for by_us in [false, true] {
            let mut test = Setup::new(1_000_000, kind).push(300_000).ready();
            test.add(Who::Alice, Msat(50_000_000));
            test.run();
            let closer = if by_us { Who::Alice } else { Who::Bob };
            test.event(closer, Event::ForceClose);
            let transaction = test[closer].broadcasts.last().unwrap().clone();
            test.event(Who::Alice, spent(transaction, Some(Height(120))));
            let before = test[Who::Alice].channel.resolution().unwrap().clone();
            let rows = earlier_rows(&test, Who::Alice);
            test[Who::Alice].store.rows = rows.into_iter().collect();
            test.restart(Who::Alice);
            let alice = &test[Who::Alice];
            let after = alice.channel.resolution().unwrap();
            assert_eq!(after.encode(), before.encode(), "{kind:?}, {by_us}");
            assert_eq!(after.outputs().collect::<Vec<_>>(), before.outputs().collect::<Vec<_>>());
            assert!(!alice.store.rows.keys().any(|key| matches!(key, Key::Closing(_) | Key::Resolution(_))));
        }
    }
}

/// A later version's channel must not be taken for one of another shape, whose scripts would be others.
#[test]
fn a_commitment_type_that_this_version_does_not_know_is_refused() {
    let test = TestChannel::funded(1_000_000).ready();
    // Behind the format, the channel's id, its peer and its keys.
    const FLAGS: usize = 1 + 32 + 33 + 32;
    let restore = |bit: u8| {
        let change = |(key, mut value): (Key, Vec<u8>)| {
            if matches!(key, Key::Terms(_)) {
                value[FLAGS] ^= bit;
            }
            (key, value)
        };
        Channel::restore(test[Who::Alice].live_rows().map(change), |_| Some(test[Who::Alice].signer.clone())).err()
    };
    assert_eq!(restore(0), None);
    for bit in [32, 64, 128] {
        assert!(matches!(restore(bit), Some(RestoreError::Damaged { what: "terms", .. })), "{bit}");
    }
}

#[test]
fn an_htlc_that_would_bind_money_for_more_than_two_weeks_is_not_offered() {
    let mut test = TestChannel::funded(1_000_000).push(300_000).ready();
    let latest = test.tip.0 + MAX_HTLC_CLTV;
    let offer = |test: &mut TestChannel, expiry| {
        let (attempt, mut add) = test.htlc(Msat(50_000_000));
        add.cltv_expiry = CltvExpiry(expiry);
        test.event(Who::Alice, Event::Add(Box::new(add)));
        test.run();
        test[Who::Alice].outcomes.get(&attempt).cloned()
    };
    assert_eq!(offer(&mut test, latest), None, "it is under way");
    let refused = Outcome::Refused(CannotAdd::Expiry(CltvExpiry(latest + 1)));
    assert_eq!(offer(&mut test, latest + 1), Some(refused));
}

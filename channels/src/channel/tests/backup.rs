//! A channel of which nothing but a backup is left.

use bitcoin::Transaction;

use super::chain_close::execute_claims;
use super::harness::spent;
use super::harness::{Crash, Setup, Store, TestChannel, Who, ctx, wallet_script};
use super::onchain::enforce;
use super::reconnection::set_back;
use crate::channel::*;
use crate::keys::KeysSigner;
use crate::onchain::Closer;
use crate::types::*;
use crate::wire::Message;

const KINDS: [CommitmentType; 2] = [CommitmentType::StaticRemoteKey, CommitmentType::Anchors];

/// Alice's disk is gone, and her channel is made again from the bytes of its backup.
fn lose_the_disk(test: &mut TestChannel, backup: &[u8]) {
    test.cut();
    let backup = ChannelBackup::decode(backup).unwrap();
    let alice = &mut test[Who::Alice];
    alice.store = Store::default();
    alice.tolerant = true;
    let (channel, outbox) =
        Channel::recover(backup, alice.signer.clone(), &ctx(&alice.policy, alice.feerates, Height(150))).unwrap();
    alice.channel = channel;
    Outbox::commit_all(vec![outbox], &mut alice.store).unwrap();
    test[Who::Bob].tolerant = true;
    test.restart(Who::Alice);
}

fn backup_of(test: &TestChannel) -> Vec<u8> {
    test[Who::Alice].channel.backup(vec!["127.0.0.1:9735".into()]).unwrap().encode()
}

/// Bob's closing transaction, and that Alice never sent one of her own.
fn bobs_close(test: &TestChannel) -> Transaction {
    let funding = test.funding.as_ref().unwrap();
    assert!(test[Who::Alice].broadcasts.iter().all(|transaction| transaction == funding));
    assert_eq!(test[Who::Bob].channel.state_name(), StateName::Closing);
    test[Who::Bob].broadcasts.last().unwrap().clone()
}

#[test]
fn a_backup_brings_to_remote_home_from_a_peer_that_is_still_there() {
    for kind in KINDS {
        for payments in [0, 1, 5] {
            let mut test = Setup::new(1_000_000, kind).push(300_000).ready();
            let backup = backup_of(&test);
            for _ in 0..payments {
                test.pay(Who::Alice, Msat(10_000_000));
            }
            assert_eq!(backup_of(&test), backup, "a backup does not age");
            lose_the_disk(&mut test, &backup);
            let alice = &test[Who::Alice].channel;
            assert_eq!(alice.state_name(), StateName::Restored);
            let summary = alice.summary().unwrap().established.unwrap();
            assert!(!summary.knows_balances() && summary.local_balance == Msat::ZERO, "nobody knows");

            test.connect();
            assert!(test.deliver(Who::Bob), "channel_reestablish arrives");
            let transaction = bobs_close(&test);
            test.run();
            test.event(Who::Alice, Event::ForceClose);
            test.restart(Who::Alice);
            test.event(Who::Alice, Event::ForceClose);
            assert!(test[Who::Alice].channel.local_close().unwrap().is_none());
            bobs_close(&test);

            for height in [None, Some(Height(200))] {
                test.event(Who::Alice, spent(transaction.clone(), height));
                let close = test[Who::Alice].remote_close.take().unwrap();
                assert_eq!(close.claims.len(), 1);
                execute_claims(&test, Who::Alice, &close.claims);
                test.restart(Who::Alice);
            }
            let (resolution, broadcast) = enforce(&test, Who::Alice, &transaction);
            assert!(matches!(resolution.closer(), Some(Closer::RemoteFuture { .. })));
            assert!(resolution.channel().local_state.is_none() && resolution.channel().remote_state.is_none());
            let swept: Vec<u64> = resolution.outputs().map(|output| output.output.value.to_sat()).collect();
            let anchors = if kind == CommitmentType::Anchors { 660 } else { 0 };
            let spec = &test[Who::Bob].commitments().local.spec;
            let fee = crate::tx::fee::commitment_fee(kind, spec.feerate, 0).to_sat();
            assert_eq!(swept, [700_000 - payments * 10_000 - fee - anchors]);
            assert_eq!(broadcast.len(), 1, "the sweep and nothing else");
        }
    }
}

#[test]
fn a_peer_that_knows_no_commitment_zero_is_asked_in_words() {
    let mut test = Setup::new(1_000_000, CommitmentType::Anchors).push(300_000).ready();
    let backup = backup_of(&test);
    lose_the_disk(&mut test, &backup);
    test.connect();
    // Bob never sees Alice's channel_reestablish; she gets his.
    let Some(Event::Message(Message::ChannelReestablish(_))) = test.next_message(Who::Bob) else { panic!() };
    assert!(test.deliver(Who::Alice));
    assert!(test.deliver(Who::Bob), "her error");
    bobs_close(&test);
}

#[test]
fn a_backup_of_other_keys_or_of_damaged_bytes_is_refused() {
    let test = Setup::new(1_000_000, CommitmentType::Anchors).ready();
    let bytes = backup_of(&test);
    let backup = ChannelBackup::decode(&bytes).unwrap();
    assert_eq!(backup.addresses, ["127.0.0.1:9735"]);
    let alice = &test[Who::Alice];
    let stranger = std::sync::Arc::new(KeysSigner::from_channel_seed(&[77; 32]).unwrap());
    let refused = Channel::recover(backup, stranger, &ctx(&alice.policy, alice.feerates, Height(150)));
    assert_eq!(refused.err(), Some(RestoreError::ForeignKeys));
    for end in 0..bytes.len() {
        assert!(ChannelBackup::decode(&bytes[..end]).is_err(), "{end} bytes");
    }
    let newer = [&[9][..], &bytes[1..]].concat();
    assert_eq!(ChannelBackup::decode(&newer), Err(BackupError::Newer { found: 9 }));
}

#[test]
fn an_old_state_is_not_enforced_while_the_peers_close_waits_in_the_mempool() {
    for kind in KINDS {
        let mut test = Setup::new(1_000_000, kind).push(300_000).ready();
        test.pay(Who::Alice, Msat(10_000_000));
        let mut test = set_back(test);
        test.connect();
        test.run();
        let transaction = bobs_close(&test);
        test.events(Who::Alice, vec![spent(transaction, None)], Crash::Never);
        for restarted in [false, true] {
            let closing = test[Who::Alice].channel.closing_channel(wallet_script(Who::Alice)).unwrap().unwrap();
            let signed = closing.signed_local_commitment(test[Who::Alice].signer.as_ref()).unwrap();
            assert!(signed.is_none(), "our commitment is a revoked one (restarted: {restarted})");
            assert!(test[Who::Alice].channel.local_close().unwrap().is_none());
            test.restart(Who::Alice);
        }
    }
}

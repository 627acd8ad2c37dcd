//! A live channel handed over to its enforcement: every commitment that may be on the chain is known to it.

use std::collections::BTreeMap;

use bitcoin::{ScriptBuf, Transaction};

use super::harness::{Setup, TestChannel, Who, wallet_script};
use crate::channel::*;
use crate::onchain::{self, Closer, FeeEstimates, Resolution, StoredResolution};
use crate::types::*;

const KINDS: [CommitmentType; 2] = [CommitmentType::StaticRemoteKey, CommitmentType::Anchors];

/// The enforcement of `who`'s channel after `tx` has spent the funding output, and what it broadcasts.
pub(super) fn enforce(test: &TestChannel, who: Who, tx: &Transaction) -> (Resolution, Vec<Transaction>) {
    let node = &test[who];
    let destination: ScriptBuf = wallet_script(who);
    let channel = node.channel.closing_channel(destination).unwrap().unwrap();
    let mut resolution = Resolution::begin(channel.clone());
    let (estimates, policy) = (FeeEstimates::flat(FeeratePerKw(500)), onchain::EnforcementPolicy::default());
    let height = Height(200);
    let mut events = vec![onchain::Event::Tip, onchain::Event::Spent { tx: tx.clone(), height: Some(height) }];
    let mut broadcast: BTreeMap<_, Transaction> = BTreeMap::new();
    while let Some(event) = events.pop() {
        let ctx =
            onchain::Ctx { tip: height, newest: height, estimates: &estimates, policy: &policy, signer: &*node.signer };
        for effect in resolution.handle(event, &ctx).unwrap().effects {
            match effect {
                onchain::Effect::Broadcast { tx, .. } => drop(broadcast.insert(tx.compute_txid(), tx)),
                onchain::Effect::LoadRevokedHtlcs { number } => {
                    let retired = node.store.rows.iter().filter_map(|(key, bytes)| match *key {
                        Key::RetiredHtlc { offered_by, id, .. } => {
                            Some(decode_retired(HtlcKey { offered_by, id }, bytes).unwrap())
                        }
                        _ => None,
                    });
                    let htlcs = revoked_htlcs(number, retired);
                    events.push(onchain::Event::RevokedHtlcs { number, htlcs });
                }
                _ => {}
            }
        }
    }
    let mut restored = StoredResolution::decode(&resolution.encode()).unwrap().restore(channel).unwrap();
    // What is decided at each tip is not stored.
    let ctx =
        onchain::Ctx { tip: height, newest: height, estimates: &estimates, policy: &policy, signer: &*node.signer };
    for one in [&mut restored, &mut resolution] {
        let _ = one.handle(onchain::Event::Tip, &ctx).unwrap();
    }
    assert_eq!(restored, resolution);
    (resolution, broadcast.into_values().collect())
}

#[test]
fn every_commitment_of_a_live_channel_is_known_to_its_enforcement() {
    for kind in KINDS {
        let mut test = Setup::new(1_000_000, kind).push(300_000).ready();
        test.add(Who::Alice, Msat(50_000_000));
        test.add(Who::Bob, Msat(40_000_000));
        test.run();
        let old = test[Who::Bob].channel.local_close().unwrap().unwrap().transaction;
        // One of the two stays: it is live, the other one is retired.
        test.fulfill(Who::Bob, HtlcId(0));
        test.run();
        test.add(Who::Alice, Msat(30_000_000));
        test.event(Who::Alice, Event::Flush);
        let current = test[Who::Bob].channel.local_close().unwrap().unwrap().transaction;
        test.deliver(Who::Bob);
        test.deliver(Who::Bob);
        test.cut();
        let next = test[Who::Bob].channel.local_close().unwrap().unwrap().transaction;
        assert_ne!(current, next);
        let ours = test[Who::Alice].channel.local_close().unwrap().unwrap().transaction;

        let (resolution, _) = enforce(&test, Who::Alice, &ours);
        assert!(matches!(resolution.closer(), Some(Closer::Local(_))));
        let signed = resolution.channel().signed_local_commitment(&*test[Who::Alice].signer).unwrap();
        assert_eq!(signed, Some(ours.clone()));
        for tx in [&current, &next] {
            let (resolution, _) = enforce(&test, Who::Alice, tx);
            assert!(matches!(resolution.closer(), Some(Closer::Remote { .. })));
        }
        let (resolution, penalties) = enforce(&test, Who::Alice, &old);
        assert!(matches!(resolution.closer(), Some(Closer::Revoked { .. })));
        let inputs: usize = penalties.iter().map(|tx| tx.input.len()).sum();
        // to_local, to_remote and both HTLCs, of which one has long been resolved.
        assert_eq!(inputs, 4, "{kind:?}");
        let (resolution, _) = enforce(&test, Who::Bob, &ours);
        assert!(matches!(resolution.closer(), Some(Closer::Remote { .. })));
    }
}

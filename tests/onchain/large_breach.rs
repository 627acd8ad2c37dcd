//! The largest breach that the protocol allows.

use std::time::Instant;

use leyden_channels::{
    channel::{Event, Settlement},
    onchain::Role,
    types::{CommitmentType, Height, HtlcId},
};

use crate::world::*;

/// 483 HTLCs each way, the most that BOLT 2 allows.
const EACH_WAY: u64 = 483;

#[test]
fn scenario_02_breach_with_966_htlcs_is_penalised_completely_at_its_block() {
    let setup = Setup { capacity: 14_000_000, push: 6_500_000, feerate: 253, ..Setup::new(CommitmentType::Anchors) };
    let mut world = World::new(setup);
    let expiry = Height(world.chain.tip().0 + 400);
    for who in [Alice, Bob] {
        for index in 0..EACH_WAY {
            world.add(who, 12_000 + index, expiry);
        }
    }
    world.talk();
    let copy = world.copy(Bob);
    for offerer in [Alice, Bob] {
        for id in 0..EACH_WAY {
            let settlement = Settlement::Fulfill(world.preimage_of(offerer, id));
            world.tell(offerer.other(), Event::Settle { id: HtlcId(id), settlement });
        }
    }
    world.talk();
    world.cut();
    world.put_back(Bob, copy);
    world.force_close(Bob);
    world.chain.mine();
    let begun = Instant::now();
    let before = world[Alice].sent.len();
    world.look_one(Alice);
    let took = begun.elapsed();
    let sent = world[Alice].sent[before..].to_vec();
    let waiting = world.chain.waiting();
    let penalties: Vec<_> = waiting.iter().filter(|tx| sent.contains(&tx.compute_txid())).collect();
    let inputs: usize = penalties.iter().map(|tx| tx.input.len()).sum();
    let size: usize = penalties.iter().map(|tx| tx.vsize()).sum();
    println!(
        "{inputs} outputs of a revoked state: {} penalties of {size} vbytes in the mempool {} ms after the block",
        penalties.len(),
        took.as_millis()
    );
    let htlcs = world[Alice].outputs().filter(|output| matches!(output.role, Role::RevokedHtlc(_))).count();
    assert_eq!(htlcs as u64, 2 * EACH_WAY);
    // All HTLCs, to_local and to_remote.
    assert_eq!(inputs as u64, 2 * EACH_WAY + 2);
    world.mine(2);
    assert!(world[Alice].outputs().all(|output| !output.is_unspent()));
    world.assert_cheater_lost(Bob);
}

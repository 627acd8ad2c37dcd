//! What a long life costs: a channel's record does not grow with its states, and is read at once.
//!
//! `LEYDEN_UPDATES` asks for more than the thousand updates of an ordinary run.

use std::time::Instant;

use leyden_channels::{
    channel::{Channel, Event, Key, Outbox, Persist as _, Write},
    types::{CommitmentType, Height},
};

use crate::world::*;

/// What a revoked state may cost beyond its HTLCs' own records.
const BYTES_A_STATE: u64 = 64;

#[test]
fn a_revoked_state_costs_at_most_64_bytes_beyond_its_htlcs_and_a_restart_less_than_a_second() {
    let updates: u64 = std::env::var("LEYDEN_UPDATES").ok().and_then(|text| text.parse().ok()).unwrap_or(1_000);
    let mut world = World::new(Setup { feerate: 253, ..Setup::new(CommitmentType::Anchors) });
    // Each payment is two updates: its HTLC comes, its HTLC goes.
    let begun = Instant::now();
    for index in 0..updates / 2 {
        let payer = if index % 2 == 0 { Alice } else { Bob };
        let expiry = Height(world.chain.tip().0 + 500);
        let id = world.offer(payer, 12_000, expiry);
        world.fulfil(payer, id);
    }
    // And some that stay.
    for _ in 0..20 {
        let expiry = Height(world.chain.tip().0 + 500);
        world.offer(Alice, 12_000, expiry);
    }
    let took = begun.elapsed();
    world.cut();

    let folder = tempfile::tempdir().expect("a folder");
    let mut store = leyden::inside::Store::open(folder.path()).expect("the store opens");
    let rows = world[Alice].store.0.clone();
    let (mut retired, mut retired_bytes, mut other_bytes) = (0u64, 0u64, 0u64);
    for (key, value) in &rows {
        let bytes = (key.encode().len() + value.len()) as u64;
        match key {
            Key::RetiredHtlc { .. } => (retired, retired_bytes) = (retired + 1, retired_bytes + bytes),
            // The keeper of the payments deletes them.
            Key::Outcome(_) => {}
            _ => other_bytes += bytes,
        }
    }
    let writes = rows.into_iter().map(|(key, value)| Write::Put { key: key.into(), value }).collect();
    store.commit(writes).expect("written");
    drop(store);

    let begun = Instant::now();
    let store = leyden::inside::Store::open(folder.path()).expect("the store opens");
    let live = store.core_records(&Key::all_live_prefix()).expect("readable");
    let read = live.into_iter().map(|(key, value)| (Key::decode(&key).expect("a key"), value));
    let signer = world[Alice].signer.clone();
    let mut channel = Channel::restore(read, |_| Some(signer)).expect("a whole record");
    let ctx = context(&world[Alice], world.chain.tip());
    let _: Outbox = channel.handle(Event::Restarted, &ctx).expect("whole");
    let restart = begun.elapsed();

    let states = channel.summary().and_then(|summary| summary.established).expect("established").remote_commitment.0;
    println!(
        "{updates} updates in {:.1} s: {states} states, {:.2} bytes a state beyond the HTLCs; {retired} retired HTLCs of \
         {} bytes; restart in {} ms",
        took.as_secs_f64(),
        other_bytes as f64 / states as f64,
        retired_bytes / retired.max(1),
        restart.as_millis()
    );
    assert!(states >= updates, "{states}");
    assert!(other_bytes / states <= BYTES_A_STATE, "{other_bytes} bytes");
    assert!(restart.as_secs() < 1, "{restart:?}");
}

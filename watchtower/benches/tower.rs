//! What a tower costs: look-ups against ten million hints, a start with them, and a block in which a thousand channels are
//! breached. The bytes of a state are printed by the tests `justice_kit` and `breaches`.

#![allow(clippy::unwrap_used, clippy::expect_used, unreachable_pub, reason = "a measurement may panic")]

#[path = "../tests/common/mod.rs"]
mod common;

use std::{hint::black_box, time::Instant};

use bitcoin::{Txid, hashes::Hash as _};
use common::{
    Duo, State,
    world::{Client, World, config},
};
use criterion::{Criterion, criterion_group, criterion_main};
use leyden_channels::types::CommitmentType;
use leyden_watchtower::{
    hint::Hint,
    lookout::Lookout,
    message::Mode,
    tower::{BlockSeen, Ctx, Effect, Event, Outbox},
};

const HINTS: u64 = 10_000_000;
const BLOCK: u64 = 3_000;
const CHANNELS: u32 = 1_000;

/// SplitMix64: as evenly spread as hashes.
fn random(number: u64) -> u64 {
    let value = number.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

fn txid(number: u64) -> Txid {
    let mut bytes = [0x55; 32];
    bytes[..8].copy_from_slice(&random(number).to_be_bytes());
    Txid::from_byte_array(bytes)
}

fn lookout(criterion: &mut Criterion) {
    let mut hints: Vec<Hint> = (0..HINTS).map(|number| Hint(random(number).to_be_bytes())).collect();
    let started = Instant::now();
    let lookout = Lookout::load(hints.iter().copied());
    println!("load {HINTS} hints as they come: {} ms", started.elapsed().as_millis());
    hints.sort_unstable();
    let started = Instant::now();
    let mut lookout =
        black_box(Lookout::load(hints).len()).eq(&lookout.len()).then_some(lookout).expect("all are there");
    println!("load them sorted: {} ms", started.elapsed().as_millis());
    // Blocks of which each transaction is new, so that no line of memory is warm.
    let mut block = HINTS;
    let mut slowest = 0;
    criterion.bench_function("a block of 3,000 transactions against ten million hints", |bencher| {
        bencher.iter(|| {
            block += BLOCK;
            let started = Instant::now();
            let known = lookout.known((block..block + BLOCK).map(txid));
            slowest = slowest.max(started.elapsed().as_micros());
            black_box(known)
        });
    });
    println!("slowest block: {slowest} µs");
    let mut next = HINTS * 2;
    criterion.bench_function("add a hint to ten million, merges included", |bencher| {
        bencher.iter(|| {
            next += 1;
            lookout.add(Hint(random(next).to_be_bytes()));
        });
    });
}

/// From the block to every penalty handed over.
fn breaches(_: &mut Criterion) {
    for mode in [Mode::Blind, Mode::Own] {
        let state = State {
            alice: 300_000,
            offered: (1..=15).map(|id| (id, 10_000)).collect(),
            received: (1_001..=1_015).map(|id| (id, 10_000)).collect(),
        };
        let clients = (0..CHANNELS).map(|number| {
            let kind = if number % 2 == 0 { CommitmentType::Anchors } else { CommitmentType::StaticRemoteKey };
            let mut client = Client::new(number, mode, Duo::new(number, kind, vec![state.clone(); 2]));
            client.home = common::home(1);
            client
        });
        let mut config = config();
        config.limits.registrations_per_minute = u64::from(CHANNELS);
        let mut world = World::new(config, clients.collect());
        let started = Instant::now();
        (0..CHANNELS as usize).for_each(|at| world.back_up(at, 1));
        println!("{mode:?}: {CHANNELS} clients have backed up in {} ms", started.elapsed().as_millis());
        let transactions: Vec<_> = world.clients.iter().map(|client| client.duo.breach(0)).collect();
        let height = leyden_channels::types::Height(world.chain.tip.0 + 1);
        let ctx = Ctx {
            newest: height,
            now: world.now,
            estimates: &world.estimates,
            policy: &world.policy,
            archive: &world.store,
        };
        let started = Instant::now();
        let block = BlockSeen { height, hash: [1; 32], transactions: &transactions };
        let outbox = world.tower.handle(Event::Block(block), &ctx).expect("the store can be read");
        let handled = started.elapsed();
        let effects = Outbox::commit_all(vec![outbox], &mut world.store).expect("there is room").remove(0);
        let broadcasts = effects.iter().filter_map(|effect| match effect {
            Effect::Broadcast(tx) => Some(tx.input.len()),
            _ => None,
        });
        let (count, inputs) = broadcasts.fold((0, 0), |(count, sum), inputs| (count + 1, sum + inputs));
        println!(
            "{mode:?}: {CHANNELS} breached channels of 30 HTLCs: {count} penalties of {inputs} outputs in {} ms",
            handled.as_millis()
        );
    }
}

criterion_group!(benches, lookout, breaches);
criterion_main!(benches);

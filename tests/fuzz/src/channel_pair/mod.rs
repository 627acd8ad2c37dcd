//! Two channel cores and a wire that lies: messages are altered, lost, repeated, held back, replayed and made up, either
//! node dies before or after any commit, and both may close at any moment.
//!
//! ```text
//!   Alice ──► wire ──► Bob        each node: event ──► outbox ──► commit ──► effects
//!     ▲         │ lies              after each commit: restored as it is, money conserved, nothing revoked that may
//!     └─────────┘                   be broadcast, what is broadcast is valid
//! ```

mod checks;
mod node;
mod world;

use leyden_channels::channel::{CloseRequest, Event, Settlement};
use leyden_channels::types::{FeeratePerKw, HtlcId, Msat};

use crate::input::Input;
use crate::mutation::{Random, mutate};
pub use node::{KeptRows, ready_rows};
use world::{Crash, Who, World, wallet_script};

/// Longer stories teach nothing new and make a fuzzer slow.
const MOST_STEPS: usize = 60;

pub fn channel_pair(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let setup = input.byte();
    let mut world = if setup & 1 == 0 { World::ready(setup >> 1) } else { World::opening(setup >> 1) };
    for _ in 0..MOST_STEPS {
        if input.is_empty() {
            break;
        }
        step(&mut world, &mut input);
    }
    world.run();
    world.end();
}

fn step(world: &mut World, input: &mut Input<'_>) {
    let choice = input.byte();
    let who = if choice & 1 == 0 { Who::Alice } else { Who::Bob };
    match choice >> 1 {
        0..=19 => world.deliver(who),
        20..=31 => world.run(),
        32..=39 => {
            let amount = Msat(u64::from(input.u16()) << (input.byte() % 16));
            world.add(who, amount);
        }
        40..=47 => settle(world, who, input),
        48..=53 => world.event(who, Event::Flush),
        54..=56 => world.restart(who),
        57 => world.crash_next(who, Crash::BeforeCommit),
        58 => world.crash_next(who, Crash::AfterCommit),
        59..=60 => world.cut(),
        61..=65 => world.connect(),
        66..=67 => {
            world.may_differ();
            world.event(who, Event::UpdateFee(FeeratePerKw(200 + u32::from(input.u16()))));
        }
        68..=69 => {
            let feerate = FeeratePerKw(253 + u32::from(input.u16()));
            let (feerate_min, feerate_max) = (FeeratePerKw(253), FeeratePerKw(feerate.0.saturating_mul(2)));
            let script = wallet_script(who);
            // In the middle of an opening this is an end that the peer has to be told.
            world.may_differ();
            world.event(who, Event::Close(CloseRequest { script, feerate, feerate_min, feerate_max }));
        }
        70..=71 => {
            world.may_differ();
            world.event(who, if choice >> 1 == 70 { Event::ForceClose } else { Event::Abandon });
        }
        72..=73 => world.blocks(u32::from(input.byte())),
        74..=75 => world.confirm_funding(u32::from(input.byte() % 8)),
        76 => world.mempool_spend(usize::from(input.byte())),
        77 => world.confirm_spend(usize::from(input.byte())),
        78 => world.reorganise(u32::from(input.byte())),
        79 => world.bury(),
        // From here on the wire lies.
        80..=89 => {
            let seed = u64::from(input.u16());
            world.lie(who, |bytes, older| mutate(bytes, older, &mut Random::new(seed)));
        }
        90..=99 => {
            let (at, mask) = (usize::from(input.u16()), input.byte().max(1));
            world.lie(who, |bytes, _| {
                let mut bytes = bytes.to_vec();
                // Type and channel stay, or nobody would listen.
                let place = 34 + at % bytes.len().saturating_sub(34).max(1);
                if let Some(byte) = bytes.get_mut(place) {
                    *byte ^= mask;
                }
                bytes
            });
        }
        100..=103 => world.lose(who),
        104..=107 => world.repeat(who),
        108..=111 => world.hold_back(who),
        112..=117 => world.replay(who, usize::from(input.byte())),
        _ => world.make_up(who, input),
    }
}

fn settle(world: &mut World, who: Who, input: &mut Input<'_>) {
    let choice = input.byte();
    let Some(htlc) = world.pick_incoming(who, usize::from(choice >> 2)) else { return };
    let settlement = match (choice % 4, world.preimage(&htlc.payment_hash)) {
        (0..=1, Some(preimage)) => Settlement::Fulfill(preimage),
        (3, _) => Settlement::FailMalformed { sha256_of_onion: htlc.onion.sha256(), failure_code: 0xc005 },
        _ => Settlement::Fail { reason: vec![choice; 292] },
    };
    world.event(who, Event::Settle { id: HtlcId(htlc.id.0), settlement });
}

//! One side closes alone, with HTLCs in flight: each ends with its rightful owner, and upstream learns it in time.

use leyden_channels::{
    channel::{Event, StateName},
    margins::{RECEIVED_MARGIN, UPSTREAM_MARGIN},
    onchain::{Closer, FeeEstimates},
    types::{CltvExpiry, CommitmentType, FeeratePerKw, Height, HtlcId},
};

use crate::{node::Crash, world::*};

/// Four HTLCs: of each side's one is paid and one times out.
pub struct InFlight {
    pub world: World,
    /// Offered by Alice, by Bob: the one that is paid, the one that is not.
    pub alices: [u64; 2],
    pub bobs: [u64; 2],
    pub expiry: Height,
}

pub const ALICES: [u64; 2] = [40_000, 30_000];
pub const BOBS: [u64; 2] = [20_000, 25_000];

impl InFlight {
    pub fn new(kind: CommitmentType) -> Self {
        let mut world = World::new(Setup::new(kind));
        let expiry = Height(world.chain.tip().0 + 20);
        let alices = ALICES.map(|sat| world.offer(Alice, sat, expiry));
        let bobs = BOBS.map(|sat| world.offer(Bob, sat, expiry));
        world.cut();
        Self { world, alices, bobs, expiry }
    }

    pub fn close(&mut self, closer: Who) {
        self.world.force_close(closer);
        self.world.look();
    }

    /// Each learns the preimage of the first HTLC that it was offered.
    pub fn pay_the_first(&mut self) {
        self.world.learns(Alice, self.alices[0]);
        self.world.learns(Bob, self.bobs[0]);
    }

    /// What is due to both once all is resolved.
    pub fn assert_ended(&self) {
        let cost = self.world.opener_pays(4);
        let alice = 600_000 - ALICES[0] + BOBS[0] - cost;
        let bob = 400_000 - BOBS[0] + ALICES[0];
        self.world.assert_ended(alice, bob);
    }
}

pub fn force_close(kind: CommitmentType, closer: Who, crash: Crash) {
    let mut day = InFlight::new(kind);
    day.world.crash(crash);
    day.close(closer);
    day.pay_the_first();
    day.world.mine(1);
    day.pay_the_first();
    for (who, name) in [(Alice, closer == Alice), (Bob, closer == Bob)] {
        assert_eq!(matches!(day.world[who].closer(), Some(Closer::Local(_))), name);
    }
    day.world.mine(4);
    let (alice, bob) = (&day.world[Alice], &day.world[Bob]);
    assert!(alice.fulfilled(day.alices[0]).is_some() && bob.fulfilled(day.bobs[0]).is_some());
    day.world.mine_until_resolved(260);
    let (alice, bob) = (&day.world[Alice], &day.world[Bob]);
    for failed in [alice.failed(day.alices[1]), bob.failed(day.bobs[1])] {
        assert!(failed.is_some_and(|height| height.0 >= day.expiry.0 + alice.policy.fail_depth));
    }
    assert!(alice.failed(day.alices[0]).is_none() && bob.failed(day.bobs[0]).is_none());
    let chain = &day.world.chain;
    assert!(!alice.wallet.is_reserved(chain) && !bob.wallet.is_reserved(chain), "no coin stays set aside");
    day.assert_ended();
}

#[test]
fn scenario_09_force_close_with_htlcs_both_ways_on_alices_commitment() {
    for kind in KINDS {
        force_close(kind, Alice, Crash::Never);
        force_close(kind, Alice, Crash::AfterEveryEvent);
    }
}

#[test]
fn scenario_09_force_close_with_htlcs_both_ways_on_bobs_commitment() {
    for kind in KINDS {
        force_close(kind, Bob, Crash::Never);
        force_close(kind, Bob, Crash::AfterEveryEvent);
    }
}

#[test]
fn scenario_10_a_preimage_in_the_mempool_settles_upstream_before_it_is_confirmed() {
    for kind in KINDS {
        for closer in [Alice, Bob] {
            let mut day = InFlight::new(kind);
            day.close(closer);
            day.world.mine(2);
            assert_eq!(day.world[Alice].fulfilled(day.alices[0]), None);
            day.world.learns(Alice, day.alices[0]);
            let seen_at = day.world.chain.tip();
            day.world.look();
            assert_eq!(day.world[Alice].fulfilled(day.alices[0]), Some(seen_at), "{kind:?}, {closer:?} closed");
            day.world.learns(Bob, day.bobs[0]);
            day.world.mine_until_resolved(260);
            day.assert_ended();
        }
    }
}

#[test]
fn scenario_10_a_preimage_in_a_block_settles_upstream() {
    for kind in KINDS {
        for closer in [Alice, Bob] {
            let mut day = InFlight::new(kind);
            day.close(closer);
            day.world.mine(2);
            day.world.learns(Bob, day.bobs[0]);
            day.world.away.push(Alice);
            day.world.learns(Alice, day.alices[0]);
            day.world.mine(3);
            assert_eq!(day.world[Alice].fulfilled(day.alices[0]), None);
            day.world.away.clear();
            day.world.look();
            assert_eq!(day.world[Alice].fulfilled(day.alices[0]), Some(day.world.chain.tip()));
            day.world.mine_until_resolved(260);
            day.assert_ended();
        }
    }
}

/// No miner takes Alice's timeout: before upstream could close on her she fails it there, and not earlier.
#[test]
fn scenario_11_upstream_is_failed_in_time_if_downstream_is_not_resolved() {
    for kind in KINDS {
        for closer in [Alice, Bob] {
            let mut day = InFlight::new(kind);
            let upstream = day.expiry.0 + 25;
            let id = day.alices[1];
            day.world[Alice].upstream.insert(HtlcId(id), CltvExpiry(upstream));
            day.close(closer);
            day.world.mine(1);
            day.pay_the_first();
            day.world.mine(3);
            let outgoing = |output: &&leyden_channels::onchain::TrackedOutput| {
                output.role.htlc().is_some() && output.role.outgoing() == Some(HtlcId(id))
            };
            let held = day.world[Alice].outputs().find(outgoing).expect("its output").outpoint;
            day.world.chain.hidden_conflicts.insert(held);
            let margin = UPSTREAM_MARGIN;
            day.world.mine_to(Height(upstream - margin - 1));
            assert_eq!(day.world[Alice].failed(id), None);
            day.world.mine(1);
            assert_eq!(day.world[Alice].failed(id), Some(Height(upstream - margin)), "{kind:?}, {closer:?} closed");
            // The output itself is still hers.
            day.world.chain.hidden_conflicts.clear();
            day.world.mine_until_resolved(260);
            day.assert_ended();
        }
    }
}

#[test]
fn scenario_11_no_channel_is_closed_for_an_htlc_that_is_not_worth_its_fee() {
    for kind in KINDS {
        for (sat, closes) in [(2_000, false), (60_000, true)] {
            let mut world = World::new(Setup::new(kind));
            // At 20 sat/vB the second stage of 2,000 satoshi costs more than that.
            world[Alice].feerates.closing = FeeratePerKw(5_000);
            world[Bob].feerates.closing = FeeratePerKw(5_000);
            let expiry = Height(world.chain.tip().0 + 10);
            let id = world.offer(Alice, sat, expiry);
            world.cut();
            world.mine_to(Height(expiry.0 + 2));
            assert_eq!(world[Alice].core().state_name(), StateName::Normal);
            world.mine(1);
            let state = world[Alice].core().state_name();
            assert_eq!(state == StateName::Closing, closes, "{sat} sat, {kind:?}: {state:?}");
            if closes {
                world.mine_until_resolved(260);
                assert!(world[Alice].failed(id).is_some());
                world.assert_ended(600_000 - world.opener_pays(1), 400_000);
            } else {
                world.mine(30);
                assert_eq!(world[Alice].core().state_name(), StateName::Normal);
            }
        }
    }
}

/// The one who knows a preimage closes while there is time, so that the other cannot take the HTLC back.
#[test]
fn scenario_11_an_incoming_htlc_whose_preimage_is_known_is_claimed_before_its_expiry() {
    for kind in KINDS {
        let mut world = World::new(Setup::new(kind));
        let expiry = Height(world.chain.tip().0 + 30);
        let id = world.offer(Alice, 50_000, expiry);
        world.cut();
        let settlement = leyden_channels::channel::Settlement::Fulfill(world.preimage_of(Alice, id));
        world.tell(Bob, Event::Settle { id: HtlcId(id), settlement });
        let margin = RECEIVED_MARGIN;
        world.mine_to(Height(expiry.0 - margin - 1));
        assert_eq!(world[Bob].core().state_name(), StateName::Normal);
        world.mine(1);
        assert_eq!(world[Bob].core().state_name(), StateName::Closing);
        world.mine_to(expiry);
        assert!(world[Alice].fulfilled(id).is_some(), "{kind:?}: it is in the chain before Alice could take it back");
        world.mine_until_resolved(260);
        world.assert_ended(550_000 - world.opener_pays(1), 450_000);
    }
}

#[test]
fn scenario_12_two_htlcs_with_the_same_hash_and_amount_are_both_resolved() {
    for kind in KINDS {
        for closer in [Alice, Bob] {
            for paid in [true, false] {
                let mut world = World::new(Setup::new(kind));
                let expiry = Height(world.chain.tip().0 + 20);
                let first = world.offer(Alice, 35_000, expiry);
                let preimage = world.preimage_of(Alice, first);
                let second = world.add_with(Alice, 35_000, expiry, preimage);
                world.talk();
                world.cut();
                world.force_close(closer);
                world.mine(2);
                if paid {
                    world.learns(Alice, first);
                }
                world.mine_until_resolved(260);
                let told = |id| (world[Alice].fulfilled(id).is_some(), world[Alice].failed(id).is_some());
                assert_eq!([told(first), told(second)], [(paid, !paid); 2], "{kind:?}, {closer:?} closed");
                let to_bob = if paid { 70_000 } else { 0 };
                world.assert_ended(600_000 - to_bob - world.opener_pays(2), 400_000 + to_bob);
            }
        }
    }
}

/// Bob's commitment pays too little for these days: Alice, for whom an HTLC is at stake, pays for it with her anchor.
#[test]
fn scenario_11_a_slow_commitment_of_the_peers_is_hurried_for_an_htlcs_sake() {
    for urgent in [false, true] {
        let mut day = InFlight::new(CommitmentType::Anchors);
        if urgent {
            day.world[Alice].upstream.insert(HtlcId(day.alices[1]), CltvExpiry(day.expiry.0 + 40));
        }
        day.world[Alice].estimates = FeeEstimates::flat(FeeratePerKw(5_000));
        day.world.chain.minimum = 5_000;
        day.close(Bob);
        day.world.mine(2);
        assert_eq!(day.world[Alice].closer().is_some(), urgent);
        day.world.chain.minimum = 0;
        day.world.mine(1);
        day.pay_the_first();
        day.world.mine_until_resolved(260);
        day.assert_ended();
    }
}

/// What is too small for an output goes to the miners; upstream is failed when the close is deep enough.
#[test]
fn scenario_13_dust_and_trimmed_htlcs_go_to_the_fee_and_are_failed_upstream() {
    for kind in KINDS {
        for closer in [Alice, Bob] {
            let mut world = World::new(Setup::new(kind));
            let expiry = Height(world.chain.tip().0 + 40);
            // Below the dust limit; and, without anchors, above it but not by the fee of its second stage.
            let dust = world.offer(Alice, 300, expiry);
            let bobs_dust = world.offer(Bob, 200, expiry);
            let trimmed = world.offer(Alice, 900, expiry);
            let whole = world.offer(Alice, 30_000, expiry);
            world.cut();
            world.force_close(closer);
            world.mine(1);
            let closed = world.chain.tip().0;
            let (untrimmed, extra) = if kind == CommitmentType::Anchors { (2, 0) } else { (1, 900) };
            let commitment = world.commitment();
            let paid: u64 = 1_000_000 - commitment.output.iter().map(|output| output.value.to_sat()).sum::<u64>();
            let anchors = if kind == CommitmentType::Anchors { 660 } else { 0 };
            assert_eq!(paid + anchors, world.opener_pays(untrimmed) + 300 + 200 + extra);
            let depth = world[Alice].policy.fail_depth;
            world.mine(depth - 2);
            assert_eq!(world[Alice].failed(dust), None);
            world.mine(1);
            assert_eq!(world[Alice].failed(dust), Some(Height(closed + depth - 1)));
            assert_eq!(world[Bob].failed(bobs_dust), Some(Height(closed + depth - 1)));
            assert_eq!(world[Alice].failed(whole), None);
            // What is too little for its claim today waits for lower fees.
            world.mine_to(Height(expiry.0 + 10));
            let waits = world[Alice].outputs().any(|output| output.is_unspent() && output.output.value.to_sat() == 900);
            assert_eq!(waits, kind == CommitmentType::Anchors);
            world[Alice].estimates = FeeEstimates::flat(FeeratePerKw(253));
            world.mine_until_resolved(260);
            assert!(world[Alice].failed(trimmed).is_some() && world[Alice].failed(whole).is_some());
            world.assert_ended(600_000 - 300 - extra - world.opener_pays(untrimmed), 400_000 - 200);
        }
    }
}

//! Blocks are taken back: what was resolved is open again, and is claimed again.

use leyden_channels::{onchain::Closer, types::Height};

use crate::{breach::Revoked, force_close::InFlight, node::Crash, world::*};

#[test]
fn scenario_08_a_reorganisation_that_removes_the_breach_is_followed() {
    for kind in KINDS {
        for crash in [Crash::Never, Crash::AfterEveryEvent] {
            let mut day = Revoked::new(kind, 2);
            day.world[Alice].crash = crash;
            day.cheat();
            let fork = day.world.chain.tip();
            day.world.mine(3);
            assert!(matches!(day.world[Alice].closer(), Some(Closer::Revoked { .. })));
            day.world.reorganise(fork, Vec::new());
            assert_eq!(day.world[Alice].closer(), None, "the channel is open again");
            // The breach is back in the mempool, and comes again.
            day.world.mine_until_resolved(200);
            day.world.assert_cheater_lost(Bob);
        }
    }
}

#[test]
fn scenario_08_a_reorganisation_that_removes_part_of_a_claim_is_followed() {
    for kind in KINDS {
        let mut day = Revoked::new(kind, 3);
        day.cheat();
        day.world.mine(1);
        let fork = day.world.chain.tip();
        day.world.mine(2);
        assert!(day.world[Alice].outputs().all(|output| !output.is_unspent()));
        // Of her penalties only the first is in the new branch; in place of another one his second stages are.
        let kept = day.world.chain.block_at(Height(fork.0 + 1)).txdata[1].clone();
        day.world.reorganise(fork, vec![vec![kept]]);
        day.use_preimages();
        day.world.mine_until_resolved(200);
        day.world.assert_cheater_lost(Bob);
    }
}

#[test]
fn scenario_08_a_reorganisation_that_replaces_the_breach_by_the_latest_state_is_followed() {
    for kind in KINDS {
        for crash in [Crash::Never, Crash::AfterEveryEvent] {
            let mut day = Revoked::new(kind, 2);
            // What an honest Bob would have broadcast.
            let latest = day.world[Bob].core().local_close().expect("whole").expect("not lost").transaction;
            let honest = day.world.copy(Bob);
            day.world[Alice].crash = crash;
            day.cheat();
            let fork = day.world.chain.tip();
            day.world.mine(3);
            day.world.reorganise(fork, vec![vec![latest]]);
            assert!(matches!(day.world[Alice].closer(), Some(Closer::Remote { .. })), "{kind:?}");
            // Bob has his senses back, and his data.
            day.world.put_back(Bob, honest);
            day.world.mine_until_resolved(260);
            let moved: u64 = (0..2).map(|index| 8_000 + index).sum();
            let alice = 600_000 - 100_000 - moved + 300_000;
            let cost = day.world.opener_pays(0);
            day.world.assert_ended(alice - cost, 1_000_000 - alice);
        }
    }
}

#[test]
fn scenario_08_a_reorganisation_that_replaces_one_sides_commitment_by_the_others_is_followed() {
    for kind in KINDS {
        let mut day = InFlight::new(kind);
        let bobs = day.world[Bob].core().local_close().expect("whole").expect("not lost").transaction;
        let fork = day.world.chain.tip();
        day.close(Alice);
        day.world.mine(2);
        day.pay_the_first();
        day.world.mine(4);
        assert!(matches!(day.world[Alice].closer(), Some(Closer::Local(_))));
        day.world.reorganise(fork, vec![vec![bobs]]);
        assert!(matches!(day.world[Alice].closer(), Some(Closer::Remote { .. })));
        assert!(matches!(day.world[Bob].closer(), Some(Closer::Local(_))));
        day.world.mine_until_resolved(260);
        day.assert_ended();
    }
}

/// The node was switched off while the blocks were taken back.
#[test]
fn scenario_08_a_reorganisation_during_a_downtime_is_followed() {
    for kind in KINDS {
        let mut day = InFlight::new(kind);
        let bobs = day.world[Bob].core().local_close().expect("whole").expect("not lost").transaction;
        let fork = day.world.chain.tip();
        day.close(Alice);
        day.world.mine(4);
        day.world.away.push(Alice);
        day.world.reorganise(fork, vec![vec![bobs]]);
        day.world.away.clear();
        day.world.restart(Alice);
        day.world.look();
        assert!(matches!(day.world[Alice].closer(), Some(Closer::Remote { .. })));
        day.pay_the_first();
        day.world.mine_until_resolved(260);
        day.assert_ended();
    }
}

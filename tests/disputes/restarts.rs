//! A process that dies all the time loses nothing.

use crate::{breach::Revoked, force_close::force_close, node::Crash, world::*};

fn breach_with_crashes(crash: Crash) {
    for kind in KINDS {
        let mut day = Revoked::new(kind, 2);
        day.world[Alice].crash = crash;
        day.cheat();
        day.world.mine(1);
        // Some HTLCs he moves on, some she takes first.
        day.use_preimages();
        day.world.mine_until_resolved(260);
        assert!(day.world[Alice].restarts > 100);
        day.world.assert_cheater_lost(Bob);
    }
}

#[test]
fn scenario_07_restart_at_every_step_of_a_breach() {
    breach_with_crashes(Crash::AfterEveryEvent);
}

#[test]
fn scenario_15_crash_between_every_write_and_its_effect_in_a_breach() {
    breach_with_crashes(Crash::BeforeEveryEffect);
}

#[test]
fn scenario_15_crash_between_every_write_and_its_effect_in_a_force_close() {
    for kind in KINDS {
        for closer in [Alice, Bob] {
            force_close(kind, closer, Crash::BeforeEveryEffect);
        }
    }
}

//! A process that dies all the time loses nothing.

use leyden_channels::onchain::Closer;

use crate::{
    breach::Revoked,
    force_close::force_close,
    node::{Crash, CrashPoint},
    world::*,
};

/// Restarts on the way, at least: one for each event, or the process did not die of every one.
const RESTARTS: usize = 50;

fn breach_with_crashes(crash: Crash) {
    for kind in KINDS {
        let mut day = Revoked::new(kind, 2);
        day.world[Alice].crash = crash;
        day.cheat();
        day.world.mine(1);
        // Some HTLCs he moves on, some she takes first.
        day.use_preimages();
        day.world.mine_until_resolved(260);
        assert!(day.world[Alice].restarts > RESTARTS, "{}", day.world[Alice].restarts);
        day.world.assert_cheater_lost(Bob);
    }
}

/// Commits from the block that holds a breach to its penalties: the close, with all that a restart needs to punish it; the
/// claims that need no more than the block; and those on the HTLCs, once they are read. Once there was one more, for the
/// enforcement's own record, and a crash before it found the close without it.
const COMMITS_OF_A_BREACH: usize = 3;

/// Up to the block of the breach, and the look at it; which of Alice's commits come of that.
fn breached(kind: leyden_channels::types::CommitmentType, point: impl Fn(usize) -> Option<CrashPoint>) -> Revoked {
    let mut day = Revoked::new(kind, 2);
    day.cheat();
    day.world.away = vec![Alice];
    day.world.mine(1);
    day.world.away.clear();
    let before = day.world[Alice].commits;
    day.world[Alice].crash_point = point(before);
    day.world.look_one(Alice);
    if point(before).is_none() {
        assert_eq!(day.world[Alice].commits - before, COMMITS_OF_A_BREACH, "{kind:?}");
    }
    day
}

#[test]
fn scenario_15_a_breach_is_punished_whichever_of_its_commits_the_node_dies_at() {
    for kind in KINDS {
        let seen = breached(kind, |_| None);
        let penalties = |day: &Revoked| {
            let spent = day.world[Alice].outputs().filter(|output| output.role.is_penalty() && !output.is_unspent());
            spent.count()
        };
        let mut whole = seen;
        whole.world.mine(1);
        let all = penalties(&whole);
        assert_eq!(all, 5, "to_local and four HTLCs, {kind:?}");
        for at in 1..=COMMITS_OF_A_BREACH {
            for durable in [false, true] {
                let mut day = breached(kind, |before| Some(CrashPoint { commit: before + at, durable }));
                let found = day.world[Alice].found.clone().expect("it has died there");
                // There is no moment at which the store knows of the close and not how to punish it.
                let knows = at > 1 || durable;
                assert_eq!(matches!(found, Some(Closer::Revoked { .. })), knows, "{kind:?}, {at}, {durable}");
                day.world.mine(1);
                assert_eq!(penalties(&day), all, "in the next block, {kind:?}, {at}, {durable}");
                day.world.mine_until_resolved(200);
                day.world.assert_cheater_lost(Bob);
            }
        }
    }
}

/// A bug of ours stops a channel; its peer may know that.
#[test]
fn a_channel_that_a_bug_has_stopped_still_punishes() {
    for kind in KINDS {
        for crash in [Crash::Never, Crash::AfterEveryEvent] {
            let mut day = Revoked::new(kind, 2);
            day.world.cut();
            day.world.meet_a_bug(Alice);
            day.cheat();
            day.world.mine(1);
            assert!(matches!(day.world[Alice].closer(), Some(Closer::Revoked { .. })), "{kind:?}");
            // Once the funding output is spent it is as good as any other after a restart.
            day.world[Alice].crash = crash;
            day.world.mine_until_resolved(260);
            day.world.assert_cheater_lost(Bob);
        }
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

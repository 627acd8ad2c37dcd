//! A node whose disk was set back, and which is honest about it.

use leyden_channels::{
    channel::{Event, StateName},
    onchain::Closer,
    types::{CommitmentNumber, Height},
};

use crate::{node::Crash, world::*};

#[test]
fn scenario_14_a_node_that_lost_its_state_publishes_nothing_and_gets_its_balance() {
    for kind in KINDS {
        for crash in [Crash::Never, Crash::AfterEveryEvent] {
            let mut world = World::new(Setup::new(kind));
            let copy = world.copy(Alice);
            world.pay(Alice, 50_000);
            world.pay(Bob, 80_000);
            world.cut();
            world.put_back(Alice, copy);
            world.connect();
            assert_eq!(world[Alice].core().state_name(), StateName::Lost);
            world[Alice].crash = crash;
            // Not even a person can make her publish the old state.
            world.force_close(Alice);
            let sent = world[Alice].sent.clone();
            let funding = world.funding.txid;
            assert!(sent.iter().all(|txid| *txid == funding), "nothing but the funding transaction: {sent:?}");
            // Bob was asked to close, and has.
            assert_eq!(world[Bob].core().state_name(), StateName::Closing);
            world.mine(1);
            assert!(matches!(world[Alice].closer(), Some(Closer::RemoteFuture { .. })), "{kind:?}");
            world.mine_until_resolved(200);
            world.assert_ended(630_000 - world.opener_pays(0), 370_000);
        }
    }
}

/// A tower may err, or lie: what has been published is published.
#[test]
fn a_false_word_about_lost_data_takes_nothing_that_is_on_the_chain() {
    for kind in KINDS {
        for is_mined in [false, true] {
            let mut world = World::new(Setup::new(kind));
            world.cut();
            world.force_close(Alice);
            world.look();
            world.mine(u32::from(is_mined));
            world.tell(Alice, Event::TowerKnowsRevoked { number: CommitmentNumber(1_000_000) });
            world.restart(Alice);
            world.mine_until_resolved(400);
            assert!(matches!(world[Alice].closer(), Some(Closer::Local(_))), "{kind:?} {is_mined}");
            world.assert_ended(600_000 - world.opener_pays(0), 400_000);
        }
    }
}

#[test]
fn a_preimage_learnt_with_lost_data_is_used_when_the_peer_closes() {
    for kind in KINDS {
        let mut world = World::new(Setup::new(kind));
        let expiry = Height(world.chain.tip().0 + 100);
        let id = world.offer(Bob, 50_000, expiry);
        world.cut();
        world.tell(Alice, Event::TowerKnowsRevoked { number: CommitmentNumber(1_000_000) });
        assert_eq!(world[Alice].core().state_name(), StateName::Lost);
        world.fulfil(Bob, id);
        world.force_close(Bob);
        world.mine_until_resolved(400);
        world.assert_ended(650_000 - world.opener_pays(1), 350_000);
    }
}

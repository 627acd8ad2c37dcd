//! A node whose disk was set back, and which is honest about it.

use leyden_channels::{channel::StateName, onchain::Closer};

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

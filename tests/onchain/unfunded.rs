//! The funding transaction itself is not final: it is reorganised out, comes back elsewhere, or is double-spent.

use bitcoin::{Amount, Transaction, TxOut};
use leyden_channels::{
    channel::{FundingState, StateName},
    types::{CommitmentType, Height, HtlcId, ShortChannelId},
};

use crate::{node::Crash, world::*};

/// A channel with an HTLC each way, and the height of its funding transaction.
struct Funded {
    world: World,
    funded_at: Height,
    alices: u64,
    bobs: u64,
}

impl Funded {
    fn new(kind: CommitmentType) -> Self {
        let mut world = World::new(Setup::new(kind));
        let (funded_at, _) = world.chain.position(world.funding.txid).expect("confirmed");
        let expiry = Height(world.chain.tip().0 + 400);
        let (alices, bobs) = (world.offer(Alice, 50_000, expiry), world.offer(Bob, 30_000, expiry));
        Self { world, funded_at, alices, bobs }
    }

    /// The blocks from the funding transaction's on are replaced.
    fn reorganise(&mut self, blocks: Vec<Vec<Transaction>>) {
        self.world.reorganise(Height(self.funded_at.0 - 1), blocks);
    }

    fn state(&self, who: Who) -> FundingState {
        self.world[who].core().summary().expect("there").established.expect("established").funding_state
    }

    /// Alice spends the coin of her funding transaction on herself.
    fn double_spend(&self) -> Transaction {
        let funding = self.world.chain.transaction(self.world.funding.txid).expect("there");
        let value = funding.output.iter().map(|output| output.value).sum::<Amount>();
        let wallet = &self.world[Alice].wallet;
        let output = vec![TxOut { value, script_pubkey: wallet.script() }];
        wallet.pay_with(funding.input[0].previous_output, output)
    }
}

#[test]
fn scenario_22_a_funding_that_moves_to_another_block_pauses_the_channel_until_it_is_deep() {
    for kind in KINDS {
        for crash in [Crash::Never, Crash::AfterEveryEvent] {
            let mut day = Funded::new(kind);
            day.world.crash(crash);
            // In none of the new blocks, but in the mempool again.
            day.reorganise(Vec::new());
            for who in [Alice, Bob] {
                assert_eq!(day.state(who), FundingState::ReorgedOut);
                assert!(!day.world[who].core().is_usable());
            }
            let back_at = Height(day.world.chain.tip().0 + 1);
            day.world.mine(1);
            let (height, index) = day.world.chain.position(day.world.funding.txid).expect("confirmed again");
            assert_eq!(height, back_at);
            for who in [Alice, Bob] {
                assert_eq!(day.state(who), FundingState::Shallow);
                assert!(!day.world[who].core().is_usable());
                let name = ShortChannelId::new(height, index, 0);
                assert_eq!(day.world[who].core().short_channel_ids().0, Some(name));
            }
            day.world.crash(Crash::Never);
            day.world.mine(2);
            day.world.cut();
            day.world.connect();
            day.world.fulfil(Alice, day.alices);
            day.world.fail(Bob, day.bobs);
            day.world.pay(Alice, 20_000);
            day.world.cut();
            day.world.force_close(Alice);
            day.world.mine_until_resolved(260);
            day.world.assert_ended(600_000 - 70_000 - day.world.opener_pays(0), 470_000);
        }
    }
}

#[test]
fn scenario_22_a_double_spent_funding_ends_the_channel_and_its_htlcs() {
    for kind in KINDS {
        for crash in Crash::ALL {
            for closing in [false, true] {
                let mut day = Funded::new(kind);
                if closing {
                    day.world.cut();
                    day.world.force_close(Bob);
                }
                let thief = day.double_spend();
                day.world.crash(crash);
                day.reorganise(vec![vec![thief.clone()]]);
                let taken = day.funded_at;
                for who in [Alice, Bob] {
                    let by = thief.compute_txid();
                    assert_eq!(day.state(who), FundingState::DoubleSpent { by, height: taken }, "{kind:?}, {crash:?}");
                    assert_eq!(day.world[who].core().state_name(), StateName::DoubleSpent);
                }
                day.world.mine_to(Height(taken.0 + 98));
                for (who, id) in [(Alice, day.alices), (Bob, day.bobs)] {
                    let node = &day.world[who];
                    assert!(!node.forgotten);
                    // The new branch was six blocks long at once. A crash may lose the telling, not the outcome in the store.
                    if crash == Crash::Never {
                        assert!(node.failed_unfunded.contains_key(&HtlcId(id)) || node.failed(id).is_some());
                    }
                }
                day.world.mine(1);
                for who in [Alice, Bob] {
                    assert!(day.world[who].forgotten, "{who:?}, {kind:?}, {crash:?}");
                    assert_eq!(day.world[who].core().state_name(), StateName::Closed);
                }
            }
        }
    }
}

#[test]
fn scenario_22_a_double_spend_that_is_reorganised_out_gives_the_channel_back() {
    for kind in KINDS {
        let mut day = Funded::new(kind);
        let funding = day.world.chain.transaction(day.world.funding.txid).expect("there");
        let thief = day.double_spend();
        day.reorganise(vec![vec![thief]]);
        assert_eq!(day.world[Bob].core().state_name(), StateName::DoubleSpent);
        day.reorganise(vec![Vec::new(), vec![funding]]);
        for who in [Alice, Bob] {
            assert_eq!(day.state(who), FundingState::Confirmed, "deep enough at once");
        }
        // What has failed for us stays failed, whatever the peer does now; the channel itself is whole.
        day.world.fail(Alice, day.alices);
        day.world.fail(Bob, day.bobs);
        day.world.pay(Bob, 10_000);
        day.world.cut();
        day.world.force_close(Bob);
        day.world.mine_until_resolved(260);
        day.world.assert_ended(610_000 - day.world.opener_pays(0), 390_000);
    }
}

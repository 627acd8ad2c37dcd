//! What the world outside does to two nodes: feerates jump, up to a hundred times, and each believes something else of them;
//! a node does not know how far the chain is; a reorganisation takes the funding transaction back for a while.
//!
//! A channel may be closed for a feerate that would leave too much without protection. Then what its closer can lose is within
//! its limit: HTLCs that are its own and that its commitment has no output for.

use super::harness::{TestChannel, Who};
use super::schedule::Random;
use crate::channel::*;
use crate::onchain::Closer;
use crate::types::*;

/// Sets the climate's generator apart from the schedule's: a schedule whose climate is mild is what its seed always was.
const SKY: u64 = 0x636c_696d_6174_6500;

/// Drawn anew for each schedule.
pub(super) struct Climate {
    random: Random,
    pub feerates_move: bool,
    loses_the_chain: bool,
    loses_its_funding: bool,
    /// Who believes that the funding transaction is in no block.
    unfunded: [bool; 2],
}

impl Climate {
    pub fn draw(seed: u64) -> Self {
        let mut random = Random(seed ^ SKY);
        let harsh = random.chance(60);
        let [feerates_move, loses_the_chain, loses_its_funding] = [(); 3].map(|()| harsh && random.chance(50));
        Self { random, feerates_move, loses_the_chain, loses_its_funding, unfunded: [false; 2] }
    }

    /// Before each step.
    pub fn change(&mut self, test: &mut TestChannel) {
        if self.feerates_move && self.random.chance(6) {
            let times = [1, 2, 5, 10, 30, 100][self.random.below(6) as usize];
            let level = FeeratePerKw::FLOOR.0 * times;
            for who in Who::BOTH {
                let guess = self.random.between(70, 180) as u32;
                let closing = FeeratePerKw((level * guess / 100).max(FeeratePerKw::FLOOR.0));
                let slow = FeeratePerKw((closing.0 / 2).max(FeeratePerKw::FLOOR.0));
                test[who].feerates = Feerates { closing, slow, ..Feerates::default() };
                test.event(who, Event::Feerates);
            }
        }
        if self.loses_the_chain && self.random.chance(4) {
            let who = self.random.who();
            test[who].trust = match test[who].trust {
                TipTrust::Current => TipTrust::InDoubt,
                TipTrust::InDoubt => TipTrust::Current,
            };
        }
        if self.loses_its_funding && self.random.chance(4) {
            let who = self.random.who();
            self.see_funding(who, self.unfunded[who as usize], test);
        }
    }

    fn see_funding(&mut self, who: Who, is_there: bool, test: &mut TestChannel) {
        self.unfunded[who as usize] = !is_there;
        let (_, output) = test.funding_output();
        let depth = FundingDepth { height: Height(test.tip.0 - 5), index: 1, confirmations: 6, output };
        test.event(who, if is_there { Event::FundingDepth(depth) } else { Event::FundingUnconfirmed });
    }

    /// All is well again.
    pub fn calm(&mut self, test: &mut TestChannel) {
        (self.feerates_move, self.loses_the_chain, self.loses_its_funding) = (false, false, false);
        for who in Who::BOTH {
            test[who].feerates = Feerates::default();
            test[who].trust = TipTrust::Current;
            if self.unfunded[who as usize] {
                self.see_funding(who, true, test);
            }
        }
    }
}

/// Both have closed, or one and the other hears of it: for a feerate, and nobody loses more than it is ready to.
pub(super) fn check_closed_for_fees(test: &mut TestChannel) {
    if !test.connected {
        test.connect();
    }
    test.run();
    for who in Who::BOTH {
        let violations = test[who].notices.iter().filter_map(|notice| match notice {
            Notice::ProtocolViolation(wrong) => Some(wrong),
            _ => None,
        });
        for wrong in violations {
            let is_allowed =
                matches!(wrong, ProtocolViolation::FeeOverexposes { .. } | ProtocolViolation::PeerFailed(_));
            assert!(is_allowed, "{who:?} holds the other for wrong: {wrong}");
        }
        let Some(close) = &test[who].local_close else { continue };
        let Closer::Local(commitment) = &close.closer else { panic!("it is ours") };
        let has_output = |htlc: &Htlc| {
            let mut outputs = commitment.outputs();
            outputs.any(|(_, _, info)| {
                matches!(&info.kind, crate::tx::OutputKind::Htlc(one)
                if one.id == htlc.id && (one.direction == HtlcDirection::Offered) == (htlc.offered_by == Side::Local))
            })
        };
        let is_own = |htlc: &&Htlc| match htlc.offered_by {
            Side::Local => true,
            Side::Remote => test[who].incoming.get(&htlc.id).is_some_and(|incoming| incoming.must_fail.is_none()),
        };
        let htlcs = test[who].commitments().local.spec.htlcs();
        let lost: u64 = htlcs.iter().filter(is_own).filter(|htlc| !has_output(htlc)).map(|htlc| htlc.amount.0).sum();
        let limit = test[who].policy.exposure_limit(test[who].established().terms.capacity);
        assert!(Msat(lost) <= limit, "{who:?} loses {lost} of {limit}");
    }
}

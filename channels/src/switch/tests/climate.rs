//! What the world outside does to a schedule, beside its blocks: feerates that move and jump, wallets that run empty, coins
//! that vanish, nodes that do not hear of the chain, funding transactions that are taken back, crowds of small payments, and
//! how much a node is ready to lose in HTLCs too small to be fought for.
//!
//! Drawn from a generator of its own, so that a schedule whose climate is mild is what its seed always was.

use std::sync::OnceLock;

use super::crowd::Crowd;
use super::dark::Dark;
use super::fundings::FundingStorm;
use super::items::Bug;
use super::market::Market;
use super::purses::Purses;
use super::random::Random;
use super::schedule::Schedule;
use crate::channel::ChannelPolicy;
use crate::types::*;

/// Sets the climate's generator apart from the schedule's.
const SKY: u64 = 0x636c_696d_6174_6500;

/// Drawn anew for each schedule.
pub(super) struct Climate {
    pub random: Random,
    /// Feerates move.
    pub market: Option<Market>,
    /// Wallets have coins of the chain and no others.
    pub purses: Option<Purses>,
    /// Nodes are cut from the chain.
    pub dark: Option<Dark>,
    /// Funding transactions are taken back.
    pub storm: Option<FundingStorm>,
    /// Many small payments wait at once.
    pub crowd: Option<Crowd>,
    /// Of payments that are smaller than what an HTLC costs on the chain.
    pub change_percent: u64,
    /// What each node opens and lives by.
    pub policy: &'static ChannelPolicy,
}

impl Climate {
    pub fn draw(seed: u64, can_close: bool, bug: Bug) -> Self {
        // A planted bug is looked for in the climate in which it does harm.
        let hides = |planted: Bug| can_close && bug == planted;
        let mut random = Random(seed ^ SKY);
        // A third is as mild as ever.
        let harsh = can_close && random.chance(67);
        let market = (harsh && random.chance(60) || hides(Bug::UncountedExposure)).then(|| Market::draw(&mut random));
        let purses = (harsh && random.chance(60) || hides(Bug::KeptDeadCoins)).then(|| Purses::draw(&mut random));
        let small = harsh && random.chance(50) || hides(Bug::UncountedExposure);
        let change_percent = if small { random.between(30, 90) } else { 0 };
        let policy = if small { policy(random.below(POLICIES - 1) + 1) } else { policy(0) };
        let dark = (harsh && random.chance(40) || hides(Bug::TrustedTips)).then(|| Dark::draw(&mut random));
        let storm =
            (harsh && random.chance(20) || hides(Bug::AssumedFundings)).then(|| FundingStorm::draw(&mut random));
        let crowd = (small && random.chance(50) || hides(Bug::UncountedExposure)).then(|| Crowd::draw(&mut random));
        Self { random, market, purses, dark, storm, crowd, change_percent, policy }
    }

    /// For whoever looks for the reason of a failure.
    pub fn describe(&self) -> String {
        let Self { market, purses, dark, storm, crowd, change_percent, .. } = self;
        let (market, purses, storm) = (market.is_some(), purses.is_some(), storm.is_some());
        format!("market {market}, purses {purses}, storm {storm}, change {change_percent}%, {dark:?}, {crowd:?}")
    }

    /// Fees fall, owners leave their coins alone.
    pub fn calm(&mut self) {
        if let Some(market) = &mut self.market {
            market.calm();
        }
        if let Some(purses) = &mut self.purses {
            purses.calm();
        }
    }
}

const POLICIES: usize = 3;

/// The default, and two that are ready to lose less. The last one is a planted bug.
pub(super) fn policy(index: usize) -> &'static ChannelPolicy {
    static SOME: OnceLock<[ChannelPolicy; POLICIES + 1]> = OnceLock::new();
    let of = |max_dust_exposure| ChannelPolicy { max_dust_exposure, ..ChannelPolicy::default() };
    let limits = || [ChannelPolicy::default().max_dust_exposure, Msat(10_000_000), Msat(4_000_000), Msat(u64::MAX)];
    &SOME.get_or_init(|| limits().map(of))[index]
}

impl Schedule {
    /// Before the first block.
    pub fn begin_climate(&mut self) {
        for node in &mut self.net.nodes {
            node.outlook.policy = match self.net.bug {
                Bug::UncountedExposure => policy(POLICIES),
                _ => self.climate.policy,
            };
        }
        self.fill_purses();
    }

    /// Before each block.
    pub fn change_climate(&mut self) {
        let Climate { random, market, .. } = &mut self.climate;
        if let Some(market) = market {
            market.step(random);
            market.rule(&mut self.net);
        }
        self.touch_purses();
        self.bring_fundings_back();
    }
}

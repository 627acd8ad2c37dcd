//! How far a tower sees: what it holds is of use while its chain is as far as ours.

use leyden_channels::types::Height;

use super::{Client, Ctx, record::TowerId};
use crate::message::ChainSeen;

/// Blocks that a tower may be behind without a word: a block takes seconds to reach everybody, and several may come at once.
/// The shortest delay that a channel gives for a penalty is many times this.
const MAY_LAG: u32 = 6;

/// What a tower said of its chain, and where ours was when the answer came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TowerChain {
    /// What it said.
    pub seen: ChainSeen,
    /// The newest block that this node knew.
    pub ours: Height,
}

/// Why a tower may not see a breach.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Blindness {
    /// It lacks so many of our blocks.
    Behind(u32),
    /// It does not know itself how far the chain is.
    Unsure,
}

impl TowerChain {
    /// Why the tower may not see a breach in the newest blocks; `None` if it would.
    pub fn blindness(&self) -> Option<Blindness> {
        match self.ours.0.saturating_sub(self.seen.height.0) {
            behind if behind > MAY_LAG => Some(Blindness::Behind(behind)),
            _ if !self.seen.is_sure => Some(Blindness::Unsure),
            _ => None,
        }
    }
}

impl Client {
    /// How far a tower's chain was when it was asked last; `None` while it has not said.
    pub fn chain_of(&self, tower: TowerId) -> Option<TowerChain> {
        self.towers.get(&tower)?.chain
    }

    pub(super) fn chain_seen(&mut self, id: TowerId, seen: ChainSeen, ctx: &Ctx<'_>) {
        if let Some(tower) = self.towers.get_mut(&id) {
            tower.chain = Some(TowerChain { seen, ours: ctx.tip });
        }
    }
}

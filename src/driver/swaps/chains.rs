//! The two chains that swaps are between: this daemon's own and the other one, as they were last time.

use std::sync::Arc;

use bitcoin::constants::ChainHash;

use super::{LegError, LegStatus, OwnLeg, SwapLeg, SwapRefused, leg::Doubt};
use crate::driver::services::Services;

/// Both chains, and what is known of them.
pub(super) struct Chains {
    own_hash: ChainHash,
    own_name: String,
    own: Arc<dyn SwapLeg>,
    other: Option<Arc<dyn SwapLeg>>,
    own_status: Option<LegStatus>,
    other_status: Option<LegStatus>,
    /// Why the other one did not answer, if it did not.
    other_away: Option<String>,
    /// Since when a tip has been in doubt.
    doubt: Doubt,
}

impl Chains {
    pub(super) fn new(services: &Arc<Services>, other: Option<Arc<dyn SwapLeg>>) -> Self {
        Self {
            own_hash: services.chain_hash(),
            own_name: services.node.params().name.clone(),
            own: Arc::new(OwnLeg(Arc::clone(services))),
            other,
            own_status: None,
            other_status: None,
            other_away: None,
            doubt: Doubt::default(),
        }
    }

    /// Asks how far they are, of those that a swap has coins on. What stands in the way, in words for a person.
    pub(super) async fn look(&mut self, needs_own: bool, needs_other: bool) -> Option<String> {
        let mut trouble = None;
        if needs_own {
            self.own_status = self.own.status().await.map_err(|error| trouble = Some(error.0)).ok();
        }
        // Nobody relies on what is known of the other one while no swap needs it, but its name.
        if needs_other {
            self.other_away = None;
            self.other_status = match &self.other {
                Some(other) => other.status().await.map_err(|error| self.other_away = Some(error.0)).ok(),
                None => {
                    trouble = Some(SwapRefused::NoOther.to_string());
                    None
                }
            };
            trouble = self.other_away.clone().or(trouble);
        }
        let own = self.own_status.as_ref().filter(|_| needs_own);
        let other = self.other_status.as_ref().filter(|_| needs_other);
        let doubted = self.doubt.of([own, other].into_iter().flatten());
        trouble.or(doubted)
    }

    /// Why a swap cannot be followed on a chain of which nothing is known: the other node is away, or none of the two has it.
    pub(super) fn not_followed(&self, hash: ChainHash) -> LegError {
        match &self.other_away {
            Some(away) if hash != self.own_hash => LegError(away.clone()),
            Some(_) | None => nobody_follows(hash),
        }
    }

    /// This daemon's chain as it is at this moment.
    pub(super) async fn ask_own(&mut self) -> Result<LegStatus, SwapRefused> {
        let status = self.own.status().await.map_err(SwapRefused::Away)?;
        self.own_status = Some(status.clone());
        Ok(status)
    }

    /// The other one, likewise.
    pub(super) async fn ask_other(&mut self) -> Result<LegStatus, SwapRefused> {
        let other = self.other.clone().ok_or(SwapRefused::NoOther)?;
        let status = other.status().await.map_err(SwapRefused::Away)?;
        self.other_status = Some(status.clone());
        Ok(status)
    }

    /// Both chains as they are at this moment.
    pub(super) async fn ask_both(&mut self) -> Result<(LegStatus, LegStatus), SwapRefused> {
        if self.other.is_none() {
            return Err(SwapRefused::NoOther);
        }
        Ok((self.ask_own().await?, self.ask_other().await?))
    }

    /// The chain with this genesis block.
    pub(super) fn at(&self, hash: ChainHash) -> Option<Arc<dyn SwapLeg>> {
        if hash == self.own_hash {
            return Some(Arc::clone(&self.own));
        }
        // Whatever answers there now may be on another chain.
        let is_it = self.other_status.as_ref().is_some_and(|status| status.chain.hash == hash);
        self.other.clone().filter(|_| is_it)
    }

    /// The same, as it was last time.
    pub(super) fn status(&self, hash: ChainHash) -> Option<&LegStatus> {
        let status = if hash == self.own_hash { self.own_status.as_ref() } else { self.other_status.as_ref() };
        status.filter(|status| status.chain.hash == hash)
    }

    /// What people call its network; its genesis block while that is not known.
    pub(super) fn name(&self, hash: ChainHash) -> String {
        if hash == self.own_hash {
            return self.own_name.clone();
        }
        self.status(hash).map_or_else(|| hash.to_string(), |status| status.network.clone())
    }

    /// A second daemon does not know which blocks the swaps of this one need.
    pub(super) fn check_pruning<'a>(&self, chains: impl IntoIterator<Item = &'a LegStatus>) -> Result<(), SwapRefused> {
        let is_left_alone = |status: &&LegStatus| {
            status.is_pruned && self.at(status.chain.hash).is_none_or(|chain| !chain.keeps_blocks())
        };
        match chains.into_iter().find(is_left_alone) {
            Some(pruned) => Err(SwapRefused::Pruned(pruned.network.clone())),
            None => Ok(()),
        }
    }
}

/// Why a swap cannot be followed on a chain that none of the two daemons has.
fn nobody_follows(hash: ChainHash) -> LegError {
    LegError(format!(
        "none of your two daemons follows the chain with the genesis block {hash}: start the one that did, with its --network and \
         --data-dir"
    ))
}

//! What a driver tells a channel of its funding transaction: the difference between two looks at the chain.
//!
//! ```text
//!   a look at the chain ──► FundingView ──► FundingWatch::news ──► events for the channel
//!                                              └ what it was told last
//! ```
//!
//! Looks see the state of the chain, not its changes, so a notice that was missed, a restart or a reorganisation needs no
//! care of its own: the first look tells everything that is not as at the beginning.

use bitcoin::{Transaction, Txid};

use super::event::{Event, FundingDepth};
use super::funding::FundingInput;
use crate::types::Height;

/// What the chain says of a channel's funding at one moment.
#[derive(Clone, Debug)]
pub struct FundingView {
    pub tip: Height,
    /// Where the funding transaction is, if it is in a block.
    pub depth: Option<FundingDepth>,
    /// What the funding transaction needs, as far as this look has found that out.
    pub inputs: Vec<FundingInput>,
    /// A transaction in a block that spends one of its inputs in its stead.
    pub conflict: Option<(Txid, Height)>,
    /// What spends the funding output, in a block or in the mempool.
    pub spend: Option<(Transaction, Option<Height>)>,
}

/// What the channel was told last.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Told {
    depth: Option<FundingDepth>,
    conflict: Option<(Txid, Height, u32)>,
    spend: Option<(Txid, Option<Height>)>,
    /// The closing is final.
    buried: bool,
}

/// One channel's funding output under watch.
#[derive(Clone, Debug)]
pub struct FundingWatch {
    /// Confirmations after which a closing transaction is final.
    finality: u32,
    inputs: Vec<FundingInput>,
    /// `None` until the chain has been looked at.
    told: Option<Told>,
}

impl FundingWatch {
    /// `inputs` are those that the channel knows of.
    pub fn new(inputs: Vec<FundingInput>, finality: u32) -> Self {
        Self { finality, inputs, told: None }
    }

    /// What the funding transaction needs, as far as that is known.
    pub fn inputs(&self) -> &[FundingInput] {
        &self.inputs
    }

    /// Whether the chain has been looked at and nothing spends the funding output.
    pub fn is_told_open(&self) -> bool {
        self.told.as_ref().is_some_and(|told| told.spend.is_none())
    }

    /// What is new since the last look.
    pub fn news(&mut self, view: FundingView) -> Vec<Event> {
        let FundingView { tip, depth, inputs, conflict, spend } = view;
        let mut events = Vec::new();
        let old = self.told.take();
        let old_depth = old.as_ref().and_then(|old| old.depth.as_ref());
        let old_spend = old.as_ref().and_then(|old| old.spend);
        let lost_funding = old_depth.filter(|old| depth.as_ref().is_none_or(|new| new.height != old.height));
        let spend_height = spend.as_ref().and_then(|(_, height)| *height);
        let lost_spend = old_spend.and_then(|(_, height)| height).filter(|height| Some(*height) != spend_height);
        // Both are above the fork.
        let lost = [lost_funding.map(|lost| lost.height), lost_spend];
        if let Some(lowest) = lost.into_iter().flatten().min() {
            events.push(Event::Reorganized { to: Height(lowest.0.saturating_sub(1)) });
        }
        let new: Vec<FundingInput> = inputs.into_iter().filter(|input| !self.inputs.contains(input)).collect();
        if !new.is_empty() {
            self.inputs.extend(&new);
            events.push(Event::FundingSeen { inputs: new });
        }
        let conflict = conflict.filter(|_| depth.is_none());
        let conflict = conflict.map(|(by, height)| (by, height, confirmations(height, tip)));
        let old_conflict = old.as_ref().and_then(|old| old.conflict);
        match (&depth, conflict) {
            (Some(depth), _) if old_depth != Some(depth) => events.push(Event::FundingDepth(depth.clone())),
            (Some(_), _) => {}
            (None, Some((by, height, confirmations))) if old_conflict != conflict => {
                events.push(Event::FundingConflict { by, height, confirmations });
            }
            (None, Some(_)) => {}
            (None, None) if old.is_none() || old_depth.is_some() || old_conflict.is_some() => {
                events.push(Event::FundingUnconfirmed);
            }
            (None, None) => {}
        }
        let told_spend = spend.as_ref().map(|(transaction, height)| (transaction.compute_txid(), *height));
        if let Some((transaction, height)) = spend
            && old_spend != told_spend
        {
            events.push(Event::FundingSpent { transaction, height });
        }
        let buried = spend_height.is_some_and(|height| confirmations(height, tip) >= self.finality);
        if buried && !old.is_some_and(|old| old.buried) {
            events.push(Event::CloseConfirmed);
        }
        self.told = Some(Told { depth, conflict, spend: told_spend, buried });
        events
    }
}

/// 1 for the tip.
fn confirmations(height: Height, tip: Height) -> u32 {
    tip.0.saturating_add(1).saturating_sub(height.0)
}

//! What a driver tells a channel of its funding transaction: the difference between two looks at the chain.
//!
//! ```text
//!   a look at the chain ──► FundingView ──► FundingWatch::news ──► events for the channel
//!                                              └ what it was told last
//! ```
//!
//! Looks see the state of the chain, not its changes, so a notice that was missed, a restart or a reorganisation needs no
//! care of its own: the first look tells everything that is not as at the beginning.

use bitcoin::Txid;

use super::event::{Event, FundingDepth};
use super::funding::FundingInput;
use crate::types::Height;

/// What the chain says of a channel's funding at one moment.
#[derive(Clone, Debug)]
pub struct FundingView {
    /// The height up to which the chain was looked at.
    pub tip: Height,
    /// Where the funding transaction is, if it is in a block.
    pub depth: Option<FundingDepth>,
    /// What the funding transaction needs, as far as this look has found that out.
    pub inputs: Vec<FundingInput>,
    /// A transaction in a block that spends one of its inputs in its stead.
    pub conflict: Option<(Txid, Height)>,
}

/// What the channel was told last.
#[derive(Clone, Debug, PartialEq, Eq)]
struct FundingReport {
    depth: Option<FundingDepth>,
    conflict: Option<(Txid, Height, u32)>,
}

/// One channel's funding transaction under watch; its output is one of [`crate::onchain::WatchedOutputs`].
#[derive(Clone, Debug)]
pub struct FundingWatch {
    inputs: Vec<FundingInput>,
    /// `None` until the chain has been looked at.
    last_report: Option<FundingReport>,
}

impl FundingWatch {
    /// `inputs` are those that the channel knows of.
    pub fn new(inputs: Vec<FundingInput>) -> Self {
        Self { inputs, last_report: None }
    }

    /// What the funding transaction needs, as far as that is known.
    pub fn inputs(&self) -> &[FundingInput] {
        &self.inputs
    }

    /// What is new since the last look.
    pub fn news(&mut self, view: FundingView) -> Vec<Event> {
        let FundingView { tip, depth, inputs, conflict } = view;
        let mut events = Vec::new();
        let old = self.last_report.take();
        let old_depth = old.as_ref().and_then(|old| old.depth.as_ref());
        let lost_funding = old_depth.filter(|old| depth.as_ref().is_none_or(|new| new.height != old.height));
        if let Some(lost) = lost_funding {
            events.push(Event::Reorganized { to: Height(lost.height.0.saturating_sub(1)) });
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
        self.last_report = Some(FundingReport { depth, conflict });
        events
    }
}

/// 1 for the tip.
fn confirmations(height: Height, tip: Height) -> u32 {
    tip.0.saturating_add(1).saturating_sub(height.0)
}

//! What a closing channel asks of the node around it.

use std::collections::BTreeMap;

use bitcoin::ScriptBuf;

use super::{Origin, Terms};
use crate::{
    onchain::{EnforcementPolicy, FeeEstimates},
    types::{CltvExpiry, Height},
    workers::{OneThread, Workers},
};

/// The node around its channels. But for [`Self::workers`], a channel asks only once it closes.
pub trait Environment {
    /// What enforcement may cost, and how careful it is.
    fn policy(&self) -> &EnforcementPolicy;

    /// What the chain asks for now.
    fn estimates(&self) -> FeeEstimates;

    /// The highest block that is known, if only by its header.
    fn newest(&self) -> Height;

    /// The script to which all goes that is ours of this channel.
    fn destination(&self, terms: &Terms) -> ScriptBuf;

    /// When the incoming HTLC expires that waits for an outgoing one; `None` for a payment of this node.
    fn upstream_expiry(&self, origin: Origin) -> Option<CltvExpiry>;

    /// Who signs and checks a commitment's HTLCs.
    fn workers(&self) -> &dyn Workers {
        &OneThread
    }
}

/// A node whose answers are known in advance: for tests and tools.
#[derive(Clone, Debug, Default)]
pub struct FixedEnvironment {
    /// What [`Environment::policy`] gives.
    pub policy: EnforcementPolicy,
    /// What [`Environment::estimates`] gives.
    pub estimates: FeeEstimates,
    /// The newest height at which keys were made.
    pub newest: Height,
    /// `None`: where a cooperative close would pay.
    pub destination: Option<ScriptBuf>,
    /// The expiries of the incoming HTLCs.
    pub upstream: BTreeMap<Origin, CltvExpiry>,
}

impl Environment for FixedEnvironment {
    fn policy(&self) -> &EnforcementPolicy {
        &self.policy
    }

    fn estimates(&self) -> FeeEstimates {
        self.estimates.clone()
    }

    fn newest(&self) -> Height {
        self.newest
    }

    fn destination(&self, terms: &Terms) -> ScriptBuf {
        self.destination.clone().unwrap_or_else(|| terms.shutdown_script.clone())
    }

    fn upstream_expiry(&self, origin: Origin) -> Option<CltvExpiry> {
        self.upstream.get(&origin).copied()
    }
}

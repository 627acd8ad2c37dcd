//! What was agreed when the channel was opened and does not change: written once.

use bitcoin::{Amount, OutPoint, ScriptBuf};

use crate::keys::Basepoints;
use crate::tx::{CommitmentParams, CommitmentSetup, Funding};
use crate::types::{ChannelId, CommitmentType, Msat, NodeId, Side};

use super::Sides;
use super::params::ChannelType;

/// What one node said about itself. Some of it binds the other one, see the methods of [`Terms`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SideTerms {
    /// Of its own commitment transaction.
    pub dust_limit: Amount,
    /// What the other node may have in flight.
    pub max_htlc_value_in_flight: Msat,
    /// What the other node must keep.
    pub channel_reserve: Amount,
    /// The smallest HTLC that the other node may offer.
    pub htlc_minimum: Msat,
    /// How long the other node waits for its own money.
    pub to_self_delay: u16,
    /// How many HTLCs the other node may offer at once.
    pub max_accepted_htlcs: u16,
    /// The public keys that those of each commitment are derived from.
    pub basepoints: Basepoints,
    /// The only script that its balance may go to at a cooperative close, if it named one.
    pub upfront_shutdown_script: Option<ScriptBuf>,
}

/// The terms of a channel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Terms {
    /// From the funding output (BOLT 2, Definition of `channel_id`).
    pub channel_id: ChannelId,
    /// The peer.
    pub remote_node: NodeId,
    /// Names our keys: the driver makes the signer from it and its seed.
    pub keys_id: [u8; 32],
    /// Who opened it and pays the fees of commitments.
    pub opener: Side,
    /// As both have agreed on.
    pub channel_type: ChannelType,
    /// Whether it is made known to the network.
    pub announce: bool,
    /// The funding output.
    pub funding: OutPoint,
    /// What the funding output is worth.
    pub capacity: Amount,
    /// What the opener gave to the other side at the opening; not kept of channels that earlier versions opened.
    pub push: Option<Msat>,
    /// Confirmations before the channel is used; 0 if it is used at once.
    pub minimum_depth: u32,
    /// What each side has chosen.
    pub sides: Sides<SideTerms>,
    /// Where our balance goes on a cooperative close, unless the close names another script.
    pub shutdown_script: ScriptBuf,
}

impl Terms {
    /// The shape of its commitment transactions.
    pub const fn commitment_type(&self) -> CommitmentType {
        self.channel_type.commitment
    }

    /// What `side` must keep.
    pub fn reserve_of(&self, side: Side) -> Amount {
        self.sides.of(side.other()).channel_reserve
    }

    /// The smallest HTLC that `side` may offer.
    pub fn htlc_minimum_of(&self, side: Side) -> Msat {
        self.sides.of(side.other()).htlc_minimum
    }

    /// How many HTLCs `side` may offer at once.
    pub fn max_htlcs_of(&self, side: Side) -> u16 {
        self.sides.of(side.other()).max_accepted_htlcs
    }

    /// How much `side` may have in flight.
    pub fn max_in_flight_of(&self, side: Side) -> Msat {
        self.sides.of(side.other()).max_htlc_value_in_flight
    }

    /// How long `owner` waits for its own money after broadcasting its commitment.
    pub fn delay_of(&self, owner: Side) -> u16 {
        self.sides.of(owner.other()).to_self_delay
    }

    /// The capacity in the unit of HTLCs.
    pub fn capacity_msat(&self) -> Msat {
        Msat(self.capacity.to_sat().saturating_mul(1000))
    }

    /// The funding output.
    pub fn funding(&self) -> Funding {
        let (local, remote) = (&self.sides.local.basepoints.funding, &self.sides.remote.basepoints.funding);
        Funding::new(self.funding, self.capacity, *local, *remote)
    }

    /// What all commitment transactions of `owner` have in common.
    pub fn commitment_params(&self, owner: Side) -> CommitmentParams {
        CommitmentParams::new(CommitmentSetup {
            kind: self.commitment_type(),
            funding: self.funding(),
            owner,
            opener: self.opener,
            local: &self.sides.local.basepoints,
            remote: &self.sides.remote.basepoints,
            owner_dust_limit: self.sides.of(owner).dust_limit,
            owner_to_self_delay: self.delay_of(owner),
        })
    }
}

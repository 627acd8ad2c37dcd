//! What a person sees of the breaches that a tower answers.

use bitcoin::Txid;
use leyden_channels::{
    onchain::{Closer, EnforcementPolicy},
    types::{CommitmentNumber, Height},
};

use super::Tower;
use crate::{
    appointment::{ChannelName, ClientId},
    message::Mode,
    responder::ClaimReport,
};

/// A breach whose penalties are not final.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PenaltyReport {
    /// Whose channel was cheated.
    pub client: ClientId,
    /// The channel.
    pub channel: ChannelName,
    /// What the tower was given.
    pub mode: Mode,
    /// Which revoked state was published.
    pub number: CommitmentNumber,
    /// The revoked commitment.
    pub txid: Txid,
    /// The block that holds it; `None` while a reorganisation has taken it back.
    pub height: Option<Height>,
    /// One for each output that is taken.
    pub claims: Vec<ClaimReport>,
}

impl Tower {
    /// Every breach whose penalties are not final: blind ones first, each mode in the order of its channels.
    pub fn penalties(&self, policy: &EnforcementPolicy) -> Vec<PenaltyReport> {
        let tip = self.tip.map_or(Height(0), |tip| tip.height);
        let blind = self.breaches.iter().filter_map(|((slot, number), breach)| {
            let channel = self.channels.get(slot)?;
            Some(PenaltyReport {
                client: channel.client,
                channel: channel.name,
                mode: Mode::Blind,
                number: *number,
                txid: breach.txid(),
                height: breach.response().height,
                claims: breach.report(),
            })
        });
        let own = self.guards.iter().filter_map(|(slot, guard)| {
            let (channel, resolution) = (self.channels.get(slot)?, guard.resolution()?);
            let Some(Closer::Revoked { number, .. }) = resolution.closer() else { return None };
            let (txid, height) = resolution.close()?;
            let outputs = resolution.report(tip, policy);
            Some(PenaltyReport {
                client: channel.client,
                channel: channel.name,
                mode: Mode::Own,
                number: *number,
                txid,
                height: Some(height),
                claims: outputs.iter().map(|output| ClaimReport::of_output(output, tip)).collect(),
            })
        });
        blind.chain(own).collect()
    }
}
